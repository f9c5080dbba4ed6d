/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The ghost ledger: what users were told, kept outside of all replicas. Each
 * operation is recorded as the facts that it asserted and those that it saw
 * and ended, found by comparing the live facts before and after it. What a
 * crash took away before its commit counts for nothing, and must be nowhere.
 */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "meta/facts.h"
#include "meta/object.h"
#include "tests/sim/sim.h"

struct sim_snapshot {
	struct evfs_object **objects; /* owned copies; sorted by ino */
	size_t n, cap;
};

/* ---- snapshots ---- */

static int copy_each(void *arg, const struct evfs_object *object)
{
	struct sim_snapshot *snapshot = arg;
	struct evfs_object *copy = evfs_object_copy(object);

	if (copy == NULL ||
	    evfs_grow((void **)&snapshot->objects, snapshot->n, &snapshot->cap,
		      sizeof(*snapshot->objects)) < 0)
		abort();
	snapshot->objects[snapshot->n++] = copy;
	return 0;
}

struct sim_snapshot *sim_snapshot(struct sim_replica *r)
{
	struct sim_snapshot *snapshot = evfs_calloc(1, sizeof(*snapshot));
	struct evfs_err err = { 0 };
	int rc;

	if (snapshot == NULL)
		abort();
	evfs_meta_lock(r->meta);
	rc = evfs_facts_each(evfs_meta_facts(r->meta), copy_each, snapshot,
			     &err);
	evfs_meta_unlock(r->meta);
	sim_must(r->sim, rc, &err, "facts");
	return snapshot;
}

void sim_snapshot_free(struct sim_snapshot *snapshot)
{
	size_t i;

	for (i = 0; i < snapshot->n; i++)
		evfs_object_free(snapshot->objects[i]);
	evfs_free(snapshot->objects);
	evfs_free(snapshot);
}

const struct evfs_object *sim_snapshot_at(const struct sim_snapshot *snapshot,
					  size_t i)
{
	return i < snapshot->n ? snapshot->objects[i] : NULL;
}

const struct evfs_object *
sim_snapshot_find(const struct sim_snapshot *snapshot, evfs_ino ino)
{
	size_t low = 0, high = snapshot->n;

	while (low < high) {
		size_t middle = (low + high) / 2;
		int order = evfs_dot_cmp(snapshot->objects[middle]->ino, ino);

		if (order == 0)
			return snapshot->objects[middle];
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return NULL;
}

static bool holds(const struct evfs_object *object, const struct sim_fact *fact)
{
	const struct evfs_link *link;

	if (object == NULL)
		return false;
	if (fact->is_version)
		return evfs_object_find_version(object, fact->dot) != NULL;
	link = evfs_object_find_link(object, &fact->link);
	return link != NULL && evfs_dots_has(&link->alive, fact->dot);
}

/* ---- recording ---- */

static void note(struct sim_replica *r, enum sim_note_kind kind,
		 const struct sim_fact *fact, evfs_dot by)
{
	struct sim_ledger *ledger = &r->sim->ledger;

	if (evfs_grow((void **)&ledger->notes, ledger->n, &ledger->cap,
		      sizeof(*ledger->notes)) < 0)
		abort();
	ledger->notes[ledger->n++] = (struct sim_note){
		.kind = kind, .fact = *fact, .by = by, .replica = r->index,
		.pending = r->unnoticed
	};
}

/* The facts of one object that the other has not. */
static void note_missing(struct sim_replica *r, enum sim_note_kind kind,
			 const struct evfs_object *has,
			 const struct evfs_object *lacks, evfs_dot by)
{
	struct sim_fact fact = { 0 };
	size_t i, k;

	fact.ino = has->ino;
	fact.is_version = true;
	for (i = 0; i < has->n_versions; i++) {
		fact.dot = has->versions[i].dot;
		if (!holds(lacks, &fact))
			note(r, kind, &fact, by);
	}
	fact.is_version = false;
	for (i = 0; i < has->n_links; i++)
		for (k = 0; k < has->links[i].alive.n; k++) {
			fact.link = has->links[i].id;
			fact.dot = has->links[i].alive.items[k];
			if (!holds(lacks, &fact))
				note(r, kind, &fact, by);
		}
}

/* P8: no operation has used this dot before, whatever became of it. */
static void check_fresh(struct sim_replica *r, evfs_dot by)
{
	const struct sim_ledger *ledger = &r->sim->ledger;
	size_t i;

	for (i = 0; i < ledger->n && !r->unnoticed; i++)
		if (!ledger->notes[i].pending &&
		    evfs_dot_equal(ledger->notes[i].by, by))
			sim_fail(r->sim, "P8 %s used dot %llu twice", r->name,
				 (unsigned long long)by.counter);
}

/* An object that the operation touched. */
static void record_object(struct sim_replica *r,
			  const struct evfs_object *before,
			  const struct evfs_object *after, evfs_dot by)
{
	struct sim_fact fact = { .is_version = true, .ino = after->ino };
	size_t i;

	check_fresh(r, by);
	note_missing(r, SIM_ASSERTED, after, before, by);
	if (before != NULL)
		note_missing(r, SIM_ENDED, before, after, by);
	if (evfs_object_is_live(after))
		return;
	for (i = 0; i < after->n_versions; i++) {
		fact.dot = after->versions[i].dot;
		note(r, SIM_DESTROYED, &fact, by);
	}
}

static void add_tx(struct sim_replica *r, struct sim_tx *tx)
{
	struct sim_ledger *ledger = &r->sim->ledger;

	tx->replica = r->index;
	tx->pending = r->unnoticed;
	if (tx->n < 2) {
		evfs_free(tx->inos);
		evfs_free(tx->dots);
		return;
	}
	if (evfs_grow((void **)&ledger->txs, ledger->n_txs, &ledger->cap_txs,
		      sizeof(*ledger->txs)) < 0)
		abort();
	ledger->txs[ledger->n_txs++] = *tx;
}

void sim_ledger_record(struct sim_replica *r, struct sim_snapshot *before)
{
	evfs_actor actor = evfs_meta_actor(r->meta);
	struct sim_snapshot *after = sim_snapshot(r);
	uint64_t greatest = r->counter;
	struct sim_tx tx = { 0 };
	size_t i;

	tx.inos = evfs_calloc(after->n, sizeof(*tx.inos));
	tx.dots = evfs_calloc(after->n, sizeof(*tx.dots));
	if (tx.inos == NULL || tx.dots == NULL)
		abort();
	for (i = 0; i < after->n; i++) {
		const struct evfs_object *now = after->objects[i];
		const struct evfs_object *was = sim_snapshot_find(before, now->ino);
		evfs_dot by = { actor, evfs_object_log_get(now, actor) };

		if (was != NULL && evfs_object_equal(was, now))
			continue;
		if (by.counter <= r->counter)
			sim_fail(r->sim,
				 "P8 an operation on %s used dot %llu "
				 "after %llu",
				 r->name, (unsigned long long)by.counter,
				 (unsigned long long)r->counter);
		if (by.counter > greatest)
			greatest = by.counter;
		record_object(r, was, now, by);
		tx.inos[tx.n] = now->ino;
		tx.dots[tx.n++] = by;
	}
	if (greatest > r->counter)
		r->op_counter = greatest;
	r->counter = greatest;
	add_tx(r, &tx);
	sim_snapshot_free(before);
	sim_snapshot_free(after);
}

void sim_ledger_committed(struct sim_replica *r)
{
	struct sim_ledger *ledger = &r->sim->ledger;
	size_t i;

	for (i = 0; i < ledger->n; i++)
		if (ledger->notes[i].replica == r->index &&
		    !ledger->notes[i].lost)
			ledger->notes[i].durable = true;
	for (i = 0; i < ledger->n_txs; i++)
		if (ledger->txs[i].replica == r->index && !ledger->txs[i].lost)
			ledger->txs[i].durable = true;
}

void sim_ledger_crashed(struct sim_replica *r)
{
	struct sim_ledger *ledger = &r->sim->ledger;
	size_t i;

	for (i = 0; i < ledger->n; i++)
		if (ledger->notes[i].replica == r->index &&
		    !ledger->notes[i].durable)
			ledger->notes[i].lost = true;
	for (i = 0; i < ledger->n_txs; i++)
		if (ledger->txs[i].replica == r->index &&
		    !ledger->txs[i].durable)
			ledger->txs[i].lost = true;
}

/* ---- restored backups ---- */

static bool any_covers(struct sim_replica *r, struct sim_snapshot **facts,
		       struct evfs_context *contexts, evfs_ino ino,
		       evfs_dot dot)
{
	unsigned i;

	for (i = 0; i < r->sim->n; i++) {
		/* who stays out does not come back */
		if (r->sim->quiet && r->sim->replicas[i].removed)
			continue;
		if (evfs_object_covers(sim_snapshot_find(facts[i], ino), &contexts[i], dot))
			return true;
	}
	return false;
}

void sim_ledger_restored(struct sim_replica *r)
{
	struct sim_ledger *ledger = &r->sim->ledger;
	struct sim_snapshot *facts[SIM_REPLICAS_MAX];
	struct evfs_context contexts[SIM_REPLICAS_MAX] = { 0 };
	size_t i;

	for (i = 0; i < r->sim->n; i++) {
		struct evfs_meta *meta = r->sim->replicas[i].meta;

		facts[i] = sim_snapshot(&r->sim->replicas[i]);
		evfs_meta_lock(meta);
		if (evfs_context_copy(&contexts[i], evfs_meta_context(meta)))
			abort();
		evfs_meta_unlock(meta);
	}
	for (i = 0; i < ledger->n; i++) {
		struct sim_note *n = &ledger->notes[i];

		if (!any_covers(r, facts, contexts, n->fact.ino, n->by))
			n->lost = true;
	}
	for (i = 0; i < ledger->n_txs; i++) {
		struct sim_tx *tx = &ledger->txs[i];

		if (!any_covers(r, facts, contexts, tx->inos[0], tx->dots[0]))
			tx->lost = true;
	}
	for (i = 0; i < r->sim->n; i++) {
		sim_snapshot_free(facts[i]);
		evfs_context_fini(&contexts[i]);
	}
}

void sim_ledger_renewed(struct sim_replica *r, evfs_actor from, uint64_t known)
{
	struct sim_ledger *ledger = &r->sim->ledger;
	evfs_actor to = evfs_meta_actor(r->meta);
	size_t i, k;

#define RENEW(dot)                                                        \
	do {                                                              \
		if (evfs_actor_cmp((dot).actor, from) == 0 &&             \
		    (dot).counter > known)                                \
			(dot) = (evfs_dot){ to, (dot).counter - known };  \
	} while (0)
	for (i = 0; i < ledger->n; i++) {
		struct sim_note *n = &ledger->notes[i];

		if (n->replica != r->index || !n->pending)
			continue;
		n->pending = false;
		RENEW(n->fact.ino);
		RENEW(n->fact.link.dot);
		RENEW(n->fact.dot);
		RENEW(n->by);
	}
	for (i = 0; i < ledger->n_txs; i++) {
		struct sim_tx *tx = &ledger->txs[i];

		if (tx->replica != r->index || !tx->pending)
			continue;
		tx->pending = false;
		for (k = 0; k < tx->n; k++) {
			RENEW(tx->inos[k]);
			RENEW(tx->dots[k]);
		}
	}
#undef RENEW
}

/* ---- checking ---- */

struct look {
	struct sim_replica *r;
	struct sim_snapshot *facts;
	struct evfs_context context;
};

static void look_open(struct sim_replica *r, struct look *look)
{
	int rc;

	look->r = r;
	look->facts = sim_snapshot(r);
	look->context = (struct evfs_context){ 0 };
	if (r->sim->forged)
		return;
	evfs_meta_lock(r->meta);
	rc = evfs_context_copy(&look->context, evfs_meta_context(r->meta));
	evfs_meta_unlock(r->meta);
	if (rc < 0)
		abort();
}

static void look_close(struct look *look)
{
	sim_snapshot_free(look->facts);
	evfs_context_fini(&look->context);
}

static bool covers(const struct look *look, evfs_ino ino, evfs_dot dot)
{
	return evfs_object_covers(sim_snapshot_find(look->facts, ino), &look->context, dot);
}

/* P4: what is here was not ended by anything that is known here. P9: and was
 * not lost elsewhere before anybody could see it. */
static void check_note(const struct look *look, const struct sim_note *note)
{
	const struct sim_replica *r = look->r;
	const struct evfs_object *object = sim_snapshot_find(look->facts, note->fact.ino);
	char text[EVFS_DOT_TEXT_SIZE];

	if (note->pending || !holds(object, &note->fact))
		return;
	evfs_dot_format(note->fact.dot, text);
	if (note->kind == SIM_ASSERTED && note->lost)
		sim_fail(r->sim, "P9 %s has %s, which a crash of %c took",
			 r->name, text, 'A' + note->replica);
	if (note->kind == SIM_ASSERTED && !note->durable &&
	    note->replica != r->index)
		sim_fail(r->sim, "P9 %s has %s, which is not durable on %c",
			 r->name, text, 'A' + note->replica);
	/* Who has lost its memory hears of all that is there, but of nothing
	 * that was collected, before it has compared itself with everybody. */
	if (note->kind == SIM_ENDED && !note->lost && !r->amnesia &&
	    covers(look, note->fact.ino, note->by))
		sim_fail(r->sim, "P4 %s on %s was ended, and is back", text,
			 r->name);
}

/* P11: a transaction is known whole or not at all. */
static void check_tx(const struct look *look, const struct sim_tx *tx)
{
	size_t i, known = 0;

	if (tx->lost || tx->pending)
		return;
	for (i = 0; i < tx->n; i++)
		known += covers(look, tx->inos[i], tx->dots[i]);
	if (known != 0 && known != tx->n)
		sim_fail(look->r->sim,
			 "P11 %s knows %zu of the %zu objects of "
			 "a transaction of %c",
			 look->r->name, known, tx->n, 'A' + tx->replica);
}

void sim_ledger_check(struct sim_replica *r)
{
	const struct sim_ledger *ledger = &r->sim->ledger;
	struct look look;
	size_t i;

	/* its context claims dots that it has lost, until a member tells */
	if (r->unnoticed)
		return;
	look_open(r, &look);
	for (i = 0; i < ledger->n; i++)
		check_note(&look, &ledger->notes[i]);
	for (i = 0; i < ledger->n_txs && !r->sim->forged; i++)
		check_tx(&look, &ledger->txs[i]);
	look_close(&look);
}

/* Was the fact ended, or (a version) destroyed with its file, by anything
 * that counts? */
static bool is_ended(const struct sim_ledger *ledger,
		     const struct sim_fact *fact, bool destroyed_too)
{
	size_t i;

	for (i = 0; i < ledger->n; i++) {
		const struct sim_note *n = &ledger->notes[i];

		if (n->kind == SIM_ASSERTED || n->lost || n->pending ||
		    (n->kind == SIM_DESTROYED && !destroyed_too) ||
		    n->fact.is_version != fact->is_version ||
		    !evfs_dot_equal(n->fact.dot, fact->dot) ||
		    !evfs_dot_equal(n->fact.ino, fact->ino) ||
		    (!fact->is_version &&
		     evfs_stamp_cmp(&n->fact.link, &fact->link) != 0))
			continue;
		return true;
	}
	return false;
}

bool sim_ledger_knows_end(const struct sim *sim, evfs_ino ino, evfs_dot version,
			  const struct evfs_object *object,
			  const struct evfs_context *context)
{
	const struct sim_ledger *ledger = &sim->ledger;
	size_t i;

	for (i = 0; i < ledger->n; i++) {
		const struct sim_note *n = &ledger->notes[i];

		if (n->kind != SIM_ASSERTED && !n->lost && !n->pending &&
		    n->fact.is_version &&
		    evfs_dot_equal(n->fact.dot, version) &&
		    evfs_dot_equal(n->fact.ino, ino) &&
		    evfs_object_covers(object, context, n->by))
			return true;
	}
	return false;
}

/* Were all contents of a file ended? Then it is nowhere, whatever names it has
 * (docs/CONSISTENCY.md, section 7). */
static bool is_hollow(const struct sim_ledger *ledger, evfs_ino ino)
{
	bool any = false;
	size_t i;

	for (i = 0; i < ledger->n; i++) {
		const struct sim_note *n = &ledger->notes[i];

		if (n->kind != SIM_ASSERTED || n->lost || n->pending ||
		    !n->fact.is_version ||
		    !evfs_dot_equal(n->fact.ino, ino))
			continue;
		if (!is_ended(ledger, &n->fact, true))
			return false;
		any = true;
	}
	return any;
}

/* P3: everything acknowledged is there, unless an operation that saw it ended
 * it. */
void sim_ledger_check_final(struct sim_replica *r)
{
	const struct sim_ledger *ledger = &r->sim->ledger;
	char text[EVFS_DOT_TEXT_SIZE];
	struct look look;
	size_t i;

	look_open(r, &look);
	for (i = 0; i < ledger->n; i++) {
		const struct sim_note *n = &ledger->notes[i];
		const struct evfs_object *object =
			sim_snapshot_find(look.facts, n->fact.ino);
		bool live = object != NULL && evfs_object_is_live(object);

		if (n->kind != SIM_ASSERTED || n->lost)
			continue;
		evfs_dot_format(n->fact.dot, text);
		if (!r->sim->forged &&
		    !covers(&look, n->fact.ino, n->fact.dot))
			sim_fail(r->sim, "P3 %s does not know %s", r->name,
				 text);
		/* audits cannot see what shows nowhere: of its names, one may
		 * know more than another where contexts lie */
		if (r->sim->forged && !n->fact.is_version && !live &&
		    is_hollow(ledger, n->fact.ino))
			continue;
		/* with its file a version is collected, too; and where a
		 * member has collected already, it comes back empty, or,
		 * brought back by a replica that was restored or had been
		 * removed (nobody waits for it), with its new content */
		if (!holds(object, &n->fact) &&
		    !is_ended(ledger, &n->fact,
			      r->sim->forged || !live ||
				      r->sim->restores > 0 ||
				      r->sim->removals > 0))
			sim_fail(r->sim, "P3 %s lost: %s %s", r->name,
				 n->fact.is_version ? "content" : "name", text);
		if (holds(object, &n->fact) && n->fact.is_version && !live &&
		    !is_ended(ledger, &n->fact, true))
			sim_fail(r->sim, "P3 %s: content %s has no name",
				 r->name, text);
	}
	look_close(&look);
}

void sim_ledger_fini(struct sim *sim)
{
	struct sim_ledger *ledger = &sim->ledger;
	size_t i;

	for (i = 0; i < ledger->n_txs; i++) {
		evfs_free(ledger->txs[i].inos);
		evfs_free(ledger->txs[i].dots);
	}
	evfs_free(ledger->txs);
	evfs_free(ledger->notes);
}
