/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The collector in the simulation: it runs at any moment, shows nowhere, and
 * in the end leaves nothing. */
#include <stdlib.h>
#include <string.h>

#include "meta/collect.h"
#include "meta/facts.h"
#include "tests/sim/sim.h"

static void read_tree(struct sim_replica *r, struct evfs_buf *ret,
		      evfs_hash *ret_root)
{
	struct evfs_err err = { 0 };
	int rc;

	evfs_meta_lock(r->meta);
	rc = evfs_view_dump(r->meta, ret, &err);
	*ret_root = *evfs_facts_root(evfs_meta_facts(r->meta));
	evfs_meta_unlock(r->meta);
	sim_must(r->sim, rc, &err, "view dump");
}

void sim_collect(struct sim_replica *r)
{
	struct evfs_buf before = { 0 }, after = { 0 };
	struct evfs_collect_stats stats;
	struct evfs_err err = { 0 };
	evfs_hash root, root_after;
	bool more = true;
	int rc = 0;

	read_tree(r, &before, &root);
	while (rc == 0 && more)
		rc = evfs_collect_step(r->meta, 1000, &more, &err);
	sim_must(r->sim, rc, &err, "collect");
	read_tree(r, &after, &root_after);
	evfs_collect_get_stats(r->meta, &stats);
	sim_trace(r->sim, "%s collect: %llu objects %llu links %llu ties, "
			  "%llu wait", r->name,
		  (unsigned long long)stats.objects,
		  (unsigned long long)stats.links,
		  (unsigned long long)stats.ties,
		  (unsigned long long)stats.waiting);
	if (before.len != after.len || !evfs_hash_equal(&root, &root_after) ||
	    (before.len > 0 &&
	     memcmp(before.data, after.data, before.len) != 0))
		sim_fail(r->sim,
			 "P16 collecting on %s shows\n--- before\n%.*s"
			 "--- after\n%.*s",
			 r->name, (int)before.len, before.data, (int)after.len,
			 after.data);
	evfs_buf_fini(&before);
	evfs_buf_fini(&after);
}

void sim_collect_step(struct sim_replica *r)
{
	struct evfs_err err = { 0 };
	bool more;

	sim_must(r->sim, evfs_collect_step(r->meta, 1000, &more, &err), &err,
		 "collect");
}

struct dead {
	const struct sim *sim;
	const struct evfs_context *context;
	size_t facts;
	size_t stay; /* objects */
	size_t dirs; /* that are dead */
	size_t hollow; /* files without content whose names are alive: its last
			* version was removed by one, its name asserted by
			* another. They stay, and so do dead directories that
			* they are in (docs/CONSISTENCY.md, section 7) */
};

/* Has it changes of a member that is gone which no context covers? More of that
 * member would have to come before one can, and if it comes back with the
 * rest, this object must be known to be dead. So it stays. */
static bool is_unfinished(const struct dead *dead,
			  const struct evfs_object *object)
{
	size_t i, k;

	for (i = 0; i < object->n_log; i++) {
		const struct evfs_log_row *row = &object->log[i];

		if (row->counter <= evfs_context_get(dead->context, row->actor))
			continue;
		for (k = 0; k < dead->sim->n_gone; k++)
			if (dead->sim->gone[k] == row->actor.node)
				return true;
	}
	return false;
}

static int count_dead(void *arg, const struct evfs_object *object)
{
	struct dead *dead = arg;
	bool alive = object->n_links == 0;
	size_t i;

	if (is_unfinished(dead, object)) {
		dead->stay++;
		return 0;
	}
	for (i = 0; i < object->n_links; i++)
		alive |= object->links[i].alive.n > 0;
	dead->dirs += !alive && object->kind == EVFS_KIND_DIR;
	dead->hollow += alive && object->kind == EVFS_KIND_FILE &&
			object->n_versions == 0;
	/* dead directories may stand, for what is in them */
	dead->facts += object->n_ties +
		       (!alive && object->kind != EVFS_KIND_DIR);
	return 0;
}

static void check_collected(struct sim_replica *r)
{
	struct evfs_collect_stats stats;
	struct dead dead = { .sim = r->sim };
	struct evfs_err err = { 0 };
	int rc;

	sim_collect(r);
	evfs_collect_get_stats(r->meta, &stats);
	evfs_meta_lock(r->meta);
	dead.context = evfs_meta_context(r->meta);
	rc = evfs_facts_each(evfs_meta_facts(r->meta), count_dead, &dead,
			     &err);
	evfs_meta_unlock(r->meta);
	sim_must(r->sim, rc, &err, "facts");
	if (dead.hollow > 0)
		dead.stay += dead.dirs;
	if (dead.facts > 0 || stats.waiting > dead.stay)
		sim_fail(r->sim, "P16 %zu dead facts on %s, %llu objects "
				 "wait, though all have heard",
			 dead.facts, r->name,
			 (unsigned long long)stats.waiting);
	sim_commit(r);
}

void sim_check_collected(struct sim *sim)
{
	unsigned i;

	for (i = 0; i < sim->n; i++)
		if (!sim->replicas[i].removed)
			check_collected(&sim->replicas[i]);
	sim_run_until(sim, evfs_loop_now(sim->loop) + SIM_SECOND);
}
