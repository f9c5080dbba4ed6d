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

static int count_dead(void *arg, const struct evfs_object *object)
{
	bool alive = object->n_links == 0;
	size_t i;

	for (i = 0; i < object->n_links; i++)
		alive |= object->links[i].alive.n > 0;
	/* dead directories may stand, for what is in them */
	*(size_t *)arg += object->n_ties +
			  (!alive && object->kind != EVFS_KIND_DIR);
	return 0;
}

void sim_check_collected(struct sim *sim)
{
	struct evfs_collect_stats stats;
	struct evfs_err err = { 0 };
	unsigned i;
	int rc;

	for (i = 0; i < sim->n; i++) {
		struct sim_replica *r = &sim->replicas[i];
		size_t dead = 0;

		if (r->removed)
			continue;
		sim_collect(r);
		evfs_collect_get_stats(r->meta, &stats);
		evfs_meta_lock(r->meta);
		rc = evfs_facts_each(evfs_meta_facts(r->meta), count_dead,
				     &dead, &err);
		evfs_meta_unlock(r->meta);
		sim_must(sim, rc, &err, "facts");
		if (dead > 0 || stats.waiting > 0)
			sim_fail(sim, "P16 %zu dead facts on %s, %llu objects "
				      "wait, though all have heard",
				 dead, r->name,
				 (unsigned long long)stats.waiting);
		sim_commit(r);
	}
	sim_run_until(sim, evfs_loop_now(sim->loop) + SIM_SECOND);
}
