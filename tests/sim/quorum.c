/* SPDX-License-Identifier: GPL-3.0-or-later */
/* File operations that ask other replicas, among all the trouble; and the
 * promise of a write quorum: who said that it holds something does, whatever
 * has crashed since. */
#include <string.h>

#include "base/mem.h"
#include "meta/content.h"
#include "meta/facts.h"
#include "meta/object.h"
#include "tests/sim/sim.h"

#define NAMES 64

struct choice {
	evfs_ino inos[NAMES];
	size_t n;
};

static int each_entry(void *arg, struct evfs_entry *entry)
{
	struct choice *choice = arg;

	if (entry->n_members > 0)
		choice->inos[choice->n++] = entry->members[0].ino;
	return choice->n == NAMES;
}

/* Meta locked: what a replica has to hold now, to hold this object. */
static void note_rows(struct sim_question *question,
		      const struct evfs_object *object)
{
	for (size_t i = 0; i < object->n_log && i < SIM_ROWS; i++)
		question->rows[question->n_rows++] =
			(evfs_dot){ object->log[i].actor,
				    object->log[i].counter };
}

void sim_ask(struct sim_replica *replica)
{
	struct sim *sim = replica->sim;
	struct sim_question *slot = &sim->questions[sim->n_questions++ %
						    SIM_QUESTIONS];
	struct evfs_question question = {
		.kind = (enum evfs_question_kind)sim_below(sim, 3),
		.need = 1 + (unsigned)sim_below(sim, sim->n),
		.timeout_ms = 1 + sim_below(sim, 5000),
	};
	const struct evfs_object *object = NULL;
	struct choice choice = { .n = 0 };

	sim_commit(replica); /* as fsync does */
	evfs_meta_lock(replica->meta);
	if (evfs_view_list(replica->meta, EVFS_INO_ROOT, NULL, 0, each_entry,
			   &choice, NULL) == 0 &&
	    choice.n > 0) {
		question.ino = choice.inos[sim_below(sim, choice.n)];
		if (evfs_facts_get(evfs_meta_facts(replica->meta),
				   question.ino, &object, NULL) < 0)
			object = NULL;
	}
	*slot = (struct sim_question){ .replica = replica->index };
	if (object != NULL)
		note_rows(slot, object);
	evfs_meta_unlock(replica->meta);
	if (object == NULL)
		return;
	slot->id = question.id = evfs_quorum_new_id(replica->meta);
	slot->ino = question.ino;
	slot->need = question.need;
	slot->held = question.kind == EVFS_QUESTION_HELD;
	evfs_engine_ask(replica->engine, &question);
	evfs_loop_poke(sim->loop, replica->index);
}

/* A version that came later, and whose content is still on its way, may have
 * taken the place of what was asked about. */
static bool was_there(const struct sim_question *question, evfs_dot version)
{
	for (size_t i = 0; i < question->n_rows; i++)
		if (evfs_actor_cmp(question->rows[i].actor, version.actor) ==
			    0 &&
		    version.counter <= question->rows[i].counter)
			return true;
	return false;
}

/* Meta locked. Where the file had been removed, by somebody who knew this
 * version, that was as good, and no reason to fetch it; then a rename elsewhere
 * brought it back. */
static bool has_content(struct sim_replica *replica,
			const struct evfs_object *object,
			const struct evfs_version *version)
{
	bool has = false;

	return (evfs_content_has(evfs_meta_content(replica->meta),
				 &version->content, &has, NULL) == 0 &&
		has) ||
	       sim_ledger_knows_end(replica->sim, object->ino, version->dot,
				    object, evfs_meta_context(replica->meta));
}

static bool holds(struct sim_replica *replica,
		  const struct sim_question *question)
{
	const struct evfs_object *object = NULL;
	bool has;

	evfs_meta_lock(replica->meta);
	has = evfs_facts_get(evfs_meta_facts(replica->meta), question->ino,
			     &object, NULL) == 0;
	for (size_t i = 0; i < question->n_rows && has; i++)
		has = evfs_object_covers(object,
					 evfs_meta_context(replica->meta),
					 question->rows[i]);
	for (size_t i = 0; has && object != NULL &&
			   evfs_object_is_live(object) &&
			   i < object->n_versions;
	     i++)
		if (was_there(question, object->versions[i].dot))
			has = has_content(replica, object,
					  &object->versions[i]);
	evfs_meta_unlock(replica->meta);
	return has;
}

void sim_forget_questions(struct sim *sim)
{
	memset(sim->questions, 0, sizeof(sim->questions));
}

void sim_answered(void *ctx, const struct evfs_answer *answer)
{
	struct sim_replica *replica = ctx;
	struct sim *sim = replica->sim;
	unsigned n = 0;

	for (unsigned k = 0; k < SIM_QUESTIONS; k++) {
		const struct sim_question *question = &sim->questions[k];

		if (question->id != answer->id ||
		    question->replica != replica->index || !question->held ||
		    answer->code != 0)
			continue;
		sim->held++;
		for (unsigned i = 0; i < sim->n; i++)
			n += i != replica->index &&
			     holds(&sim->replicas[i], question);
		if (n < question->need)
			sim_fail(sim, "P3 %s: held by %u others, not %u",
				 replica->name, n, question->need);
	}
}
