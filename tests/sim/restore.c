/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Restored backups: an older state of a replica comes back, found out at the
 * start or only by the members. */
#include "base/mem.h"
#include "meta/members.h"
#include "tests/sim/sim.h"

void sim_back_up(struct sim_replica *r)
{
	struct evfs_engine_status status;
	struct evfs_err err = { 0 };
	bool met = false;
	size_t i;

	if (r->engine == NULL || r->unnoticed ||
	    evfs_meta_has_amnesia(r->meta))
		return;
	sim_must(r->sim, evfs_engine_status(r->engine, &status, &err), &err,
		 "status");
	for (i = 0; i < status.n_peers; i++)
		met = met || status.peers[i].connected;
	evfs_free(status.peers);
	if (!met)
		return;
	sim_trace(r->sim, "back up %s", r->name);
	sim_commit(r);
	evfs_backup_free(r->backup);
	r->backup = NULL;
	sim_must(r->sim, evfs_meta_backup(r->meta, &r->backup, &err), &err,
		 "backup");
	r->backup_counter = r->counter;
}

/* Can every other member prove that the backup is too old? Only then it may
 * come back unnoticed: the first member that is met tells. One that was removed
 * may be met, too: neither it nor the backup need have heard of that. */
static bool all_can_tell(struct sim_replica *r)
{
	struct evfs_err err = { 0 };
	struct evfs_met met;
	unsigned n = 0, i;

	for (i = 0; i < r->sim->n; i++) {
		struct sim_replica *other = &r->sim->replicas[i];

		if (other == r)
			continue;
		sim_commit(other);
		evfs_meta_lock(other->meta);
		sim_must(r->sim,
			 evfs_members_met(other->meta, r->node, &met, &err),
			 &err, "met");
		evfs_meta_unlock(other->meta);
		if (met.epoch != r->actor.epoch ||
		    met.counter <= r->backup_counter)
			return false;
		n += !other->removed;
	}
	return n > 0;
}

bool sim_any_unnoticed(struct sim *sim)
{
	unsigned i;

	for (i = 0; i < sim->n; i++)
		if (sim->replicas[i].unnoticed)
			return true;
	return false;
}

void sim_look(struct sim_replica *r)
{
	evfs_meta_lock(r->meta);
	r->actor = evfs_meta_actor(r->meta);
	r->amnesia = evfs_meta_has_amnesia(r->meta);
	r->counter = evfs_context_get(evfs_meta_context(r->meta), r->actor);
	evfs_meta_unlock(r->meta);
	r->op_counter = 0;
}

void sim_restore(struct sim_replica *r)
{
	struct sim *sim = r->sim;
	struct evfs_err err = { 0 };
	bool noticed = sim_chance(sim, 50);
	bool *only_here;

	if (r->backup == NULL || sim_any_unnoticed(sim))
		return;
	if (!noticed && (r->removed || !all_can_tell(r)))
		noticed = true;
	sim->restores++;
	sim_trace(sim, "restore %s%s", r->name, noticed ? "" : " unnoticed");
	sim_close_handles(r);
	if (r->engine != NULL) {
		evfs_loop_attach(sim->loop, r->index, NULL);
		evfs_engine_free(r->engine);
		r->engine = NULL;
	}
	r->unnoticed = !noticed;
	sim_forget_questions(sim);
	only_here = sim_contents_only_here(r);
	sim_must(sim, evfs_meta_restore(r->meta, r->backup, noticed, &err),
		 &err, "restore");
	sim_contents_note_lost(r, only_here);
	sim_ledger_restored(r);
	evfs_backup_free(r->backup);
	r->backup = NULL;
	sim_look(r);
	if (sim_chance(sim, 50))
		sim_power_on(r);
}

/* A member has told: what was made since has got new dots by now. */
static void follow_life(struct sim_replica *r)
{
	evfs_actor from = r->actor;
	uint64_t known;

	evfs_meta_lock(r->meta);
	known = evfs_context_get(evfs_meta_context(r->meta), from);
	evfs_meta_unlock(r->meta);
	if (!r->unnoticed)
		sim_fail(r->sim, "P8 %s took another life for nothing",
			 r->name);
	sim_trace(r->sim, "%s has another life, known %llu", r->name,
		  (unsigned long long)known);
	r->unnoticed = false;
	evfs_backup_free(r->backup);
	r->backup = NULL;
	sim_look(r);
	sim_ledger_renewed(r, from, known);
	sim_close_handles(r);
}

void sim_follow_lives(struct sim *sim)
{
	unsigned i;

	for (i = 0; i < sim->n; i++) {
		struct sim_replica *r = &sim->replicas[i];

		if (evfs_actor_cmp(evfs_meta_actor(r->meta), r->actor) != 0)
			follow_life(r);
		if (r->amnesia && !evfs_meta_has_amnesia(r->meta)) {
			/* it has asserted directories */
			uint64_t counter = r->op_counter;

			sim_look(r);
			r->op_counter = counter;
		}
		r->amnesia = evfs_meta_has_amnesia(r->meta);
	}
}
