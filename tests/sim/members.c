/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Members come and go: one is removed by another while either may be cut off
 * from the rest, works on for its user, and comes back later with all that it
 * holds, under another key (evfsctl join TOKEN STORE); or it never comes back,
 * and what only it has is lost to the volume. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "meta/life.h"
#include "meta/members.h"
#include "tests/sim/sim.h"

static unsigned n_members(const struct sim *sim)
{
	unsigned n = 0, i;

	for (i = 0; i < sim->n; i++)
		n += !sim->replicas[i].removed;
	return n;
}

/* As a member that is not removed. */
static bool knows(struct sim_replica *r, uint64_t node)
{
	struct evfs_member member;
	struct evfs_err err = { 0 };
	int rc;

	evfs_meta_lock(r->meta);
	rc = evfs_members_by_node(r->meta, node, &member, &err);
	evfs_meta_unlock(r->meta);
	return rc == 0 && !member.removed;
}

/* ---- going ---- */

static void remove_from(struct sim_replica *by, uint64_t node)
{
	struct evfs_err err = { 0 };
	int rc;

	evfs_meta_lock(by->meta);
	rc = evfs_members_remove(by->meta, node, &err);
	evfs_meta_unlock(by->meta);
	sim_must(by->sim, rc, &err, "remove");
	sim_commit(by);
	if (by->engine != NULL) {
		evfs_engine_members_changed(by->engine);
		evfs_loop_poke(by->sim->loop, by->index);
	}
}

void sim_remove_member(struct sim_replica *r, struct sim_replica *by)
{
	/* An unnoticed restore is found out by members only. */
	if (r == by || r->removed || by->removed || by->engine == NULL ||
	    sim_any_unnoticed(r->sim) || n_members(r->sim) < 2 ||
	    !knows(by, r->node))
		return;
	sim_trace(r->sim, "%s removes %s", by->name, r->name);
	r->sim->removals++;
	remove_from(by, r->node);
	r->removed = true;
}

/* Where those that knew of it were restored, it is removed once more, as its
 * user would when it is seen again. */
static void keep_out(struct sim *sim, uint64_t node)
{
	unsigned i;

	for (i = 0; i < sim->n; i++) {
		struct sim_replica *by = &sim->replicas[i];

		if (!by->removed && by->node != node && knows(by, node)) {
			remove_from(by, node);
			return;
		}
	}
}

void sim_keep_out(struct sim *sim)
{
	size_t i;

	for (i = 0; i < sim->n_gone; i++)
		keep_out(sim, sim->gone[i]);
}

static void note_gone(struct sim *sim, uint64_t node)
{
	if (evfs_grow((void **)&sim->gone, sim->n_gone, &sim->cap_gone,
		      sizeof(*sim->gone)) < 0)
		abort();
	sim->gone[sim->n_gone++] = node;
}

/* ---- coming back ---- */

static void take_key(struct sim_replica *r)
{
	r->keys++;
	snprintf(r->key, sizeof(r->key), "ssh-ed25519 AAAASIM%llu%c%u",
		 (unsigned long long)(r->sim->seed % 100), 'A' + r->index,
		 r->keys);
	snprintf(r->node_name, sizeof(r->node_name), "%s%u", r->name, r->keys);
	r->node = evfs_node_of_key(r->key);
	evfs_loop_set_id(r->sim->loop, r->index, r->node);
}

static void rejoin(struct sim_replica *r)
{
	struct evfs_meta_new what = { .node_name = r->node_name,
				      .node = r->node,
				      .public_key = r->key };
	struct evfs_err err = { 0 };
	int rc;

	what.volume = *evfs_meta_volume(r->meta);
	evfs_meta_lock(r->meta);
	rc = evfs_life_rejoin(r->meta, &what, &err);
	evfs_meta_unlock(r->meta);
	if (rc == 0)
		rc = evfs_meta_commit(r->meta, &err);
	if (rc == 0) /* it is closed, and opened again */
		rc = evfs_meta_crash(r->meta, &err);
	sim_must(r->sim, rc, &err, "rejoin");
}

/* The inviter's part: the new member is durable there before the reply. */
static void welcome(struct sim_replica *r, struct sim_replica *by)
{
	struct evfs_member member = { .node = r->node };
	struct evfs_err err = { 0 };
	bool changed;
	int rc;

	strcpy(member.name, r->node_name);
	strcpy(member.key, r->key);
	snprintf(member.address, sizeof(member.address), "loop:%u", r->index);
	evfs_meta_lock(by->meta);
	member.stamp_ns = evfs_meta_stamp(by->meta, 0);
	rc = evfs_members_join(by->meta, &member, &changed, &err);
	evfs_meta_unlock(by->meta);
	sim_must(r->sim, rc, &err, "member");
	sim_commit(by);
	if (by->engine != NULL) {
		evfs_engine_members_changed(by->engine);
		evfs_loop_poke(r->sim->loop, by->index);
	}
}

/* As its daemon does when it starts: its address, newer than all before. */
static void announce(struct sim_replica *r)
{
	struct evfs_member self;
	struct evfs_err err = { 0 };
	bool changed;
	int rc;

	evfs_meta_lock(r->meta);
	rc = evfs_members_by_node(r->meta, r->node, &self, &err);
	if (rc == 0) {
		snprintf(self.address, sizeof(self.address), "loop:%u",
			 r->index);
		self.stamp_ns = evfs_meta_stamp(r->meta, self.stamp_ns);
		rc = evfs_members_join(r->meta, &self, &changed, &err);
	}
	evfs_meta_unlock(r->meta);
	sim_must(r->sim, rc, &err, "address");
	sim_commit(r);
}

static void take_members(struct sim_replica *r, struct sim_replica *from)
{
	struct evfs_member *members = NULL;
	struct evfs_err err = { 0 };
	bool changed;
	size_t n = 0, i;
	int rc;

	evfs_meta_lock(from->meta);
	rc = evfs_members_all(from->meta, &members, &n, &err);
	evfs_meta_unlock(from->meta);
	evfs_meta_lock(r->meta);
	for (i = 0; rc == 0 && i < n; i++)
		rc = evfs_members_join(r->meta, &members[i], &changed, &err);
	evfs_meta_unlock(r->meta);
	evfs_free(members);
	sim_must(r->sim, rc, &err, "members");
	sim_commit(r);
}

void sim_readmit(struct sim_replica *r, struct sim_replica *by)
{
	uint64_t old = r->node;

	if (!r->removed || r == by || by->removed || by->engine == NULL ||
	    by->unnoticed)
		return;
	sim_trace(r->sim, "%s joins again by %s", r->name, by->name);
	r->sim->returns++;
	if (r->engine != NULL)
		sim_crash(r);
	evfs_backup_free(r->backup); /* of another replica, from now on */
	r->backup = NULL;
	note_gone(r->sim, old);
	keep_out(r->sim, old);
	take_key(r);
	welcome(r, by);
	rejoin(r);
	take_members(r, by);
	announce(r);
	r->removed = false;
	sim_look(r);
	sim_power_on(r);
}

/* ---- in the end ---- */

struct sim_replica *sim_first_member(struct sim *sim)
{
	unsigned i = 0;

	while (sim->replicas[i].removed)
		i++;
	return &sim->replicas[i];
}

/* Whom it can hear of by members that know each other. */
static void reach(struct sim *sim, unsigned from, bool *reached)
{
	unsigned i;

	reached[from] = true;
	for (i = 0; i < sim->n; i++)
		if (!reached[i] && !sim->replicas[i].removed &&
		    knows(&sim->replicas[from], sim->replicas[i].node) &&
		    knows(&sim->replicas[i], sim->replicas[from].node))
			reach(sim, i, reached);
}

/* A member all of whose acquaintances were removed, or one that only a replica
 * knew which was restored since, has to be invited again. */
static void introduce_strangers(struct sim *sim, struct sim_replica *by)
{
	bool reached[SIM_REPLICAS_MAX] = { false };
	unsigned i;

	reach(sim, by->index, reached);
	for (i = 0; i < sim->n; i++) {
		struct sim_replica *r = &sim->replicas[i];

		if (r->removed || reached[i])
			continue;
		sim_trace(sim, "%s and %s are introduced", r->name, by->name);
		if (!knows(by, r->node))
			welcome(r, by);
		if (!knows(r, by->node))
			welcome(by, r);
		reach(sim, by->index, reached);
	}
}

/* It invites: not one that has lost its memory and does not know. */
static struct sim_replica *first_knowing(struct sim *sim)
{
	unsigned i = 0;

	while (sim->replicas[i].removed || sim->replicas[i].unnoticed)
		i++;
	return &sim->replicas[i];
}

void sim_settle_members(struct sim *sim)
{
	struct sim_replica *by = first_knowing(sim);
	bool left = false, *only_here;
	unsigned i;

	introduce_strangers(sim, by);
	for (i = 0; i < sim->n; i++) {
		struct sim_replica *r = &sim->replicas[i];

		if (!r->removed)
			continue;
		if (sim_chance(sim, 60)) {
			sim_readmit(r, by);
			continue;
		}
		sim_trace(sim, "%s stays out", r->name);
		if (r->engine != NULL)
			sim_crash(r);
		only_here = sim_contents_only_here(r);
		note_gone(sim, r->node);
		keep_out(sim, r->node);
		sim_contents_note_lost(r, only_here);
		left = true;
	}
	introduce_strangers(sim, by);
	if (left)
		sim_ledger_restored(sim_first_member(sim));
}
