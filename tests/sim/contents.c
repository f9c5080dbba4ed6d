/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Contents that may be missing in the end: those that one store alone had when
 * an older state of it came back, or when it went for good. They alone, and
 * only while nobody has them. */
#include <stdlib.h>

#include "base/mem.h"
#include "meta/content.h"
#include "tests/sim/sim.h"

#define WANTED_MAX 10000

static bool has(struct sim_replica *r, const evfs_hash *name)
{
	struct evfs_err err = { 0 };
	bool here = false;
	int rc;

	evfs_meta_lock(r->meta);
	rc = evfs_content_has(evfs_meta_content(r->meta), name, &here, &err);
	evfs_meta_unlock(r->meta);
	sim_must(r->sim, rc, &err, "content");
	return here;
}

static bool stays_out(const struct sim_replica *r)
{
	size_t i;

	for (i = 0; r->removed && i < r->sim->n_gone; i++)
		if (r->sim->gone[i] == r->node)
			return true;
	return false;
}

static bool any_other_has(struct sim_replica *r, const evfs_hash *name)
{
	unsigned i;

	for (i = 0; i < r->sim->n; i++) {
		struct sim_replica *other = &r->sim->replicas[i];

		if (other != r && !stays_out(other) && has(other, name))
			return true;
	}
	return false;
}

bool *sim_contents_only_here(struct sim_replica *r)
{
	struct sim *sim = r->sim;
	bool *only = evfs_calloc(sim->n_contents + 1, sizeof(*only));
	unsigned k;
	size_t i;

	if (only == NULL)
		abort();
	/* what a crash may take away counts for nothing */
	for (k = 0; k < sim->n; k++)
		if (&sim->replicas[k] != r)
			sim_commit(&sim->replicas[k]);
	for (i = 0; i < sim->n_contents; i++)
		only[i] = has(r, &sim->contents[i].name) &&
			  !any_other_has(r, &sim->contents[i].name);
	return only;
}

void sim_contents_note_lost(struct sim_replica *r, bool *only)
{
	struct sim *sim = r->sim;
	size_t i;

	for (i = 0; i < sim->n_contents; i++)
		if (only[i] &&
		    (stays_out(r) || !has(r, &sim->contents[i].name)))
			sim->contents[i].lost = true;
	evfs_free(only);
}

void sim_contents_committed(struct sim_replica *r)
{
	struct sim *sim = r->sim;
	size_t i;

	for (i = 0; i < sim->n_contents; i++)
		if (sim->contents[i].lost && !stays_out(r) &&
		    has(r, &sim->contents[i].name))
			sim->contents[i].lost = false;
}

bool sim_content_may_lack(struct sim *sim, const evfs_hash *name)
{
	bool lost = false;
	unsigned k;
	size_t i;

	for (i = 0; i < sim->n_contents && !lost; i++)
		lost = sim->contents[i].lost &&
		       evfs_hash_equal(&sim->contents[i].name, name);
	for (k = 0; k < sim->n && lost; k++)
		lost = stays_out(&sim->replicas[k]) ||
		       !has(&sim->replicas[k], name);
	return lost;
}

struct wanting {
	struct sim *sim;
	evfs_hash *names; /* owned */
	size_t n, cap;
};

static int each_wanted(void *arg, uint64_t number, const evfs_hash *name,
		       uint64_t size)
{
	struct wanting *wanting = arg;

	(void)number;
	(void)size;
	if (evfs_grow((void **)&wanting->names, wanting->n, &wanting->cap,
		      sizeof(*wanting->names)) < 0)
		abort();
	wanting->names[wanting->n++] = *name;
	return 0;
}

bool sim_contents_wanted(struct sim_replica *r, bool *ret_only_lost)
{
	struct wanting wanting = { 0 };
	struct evfs_err err = { 0 };
	bool any;
	size_t i;
	int rc;

	evfs_meta_lock(r->meta);
	rc = evfs_content_wanted(evfs_meta_content(r->meta), 0, WANTED_MAX,
				 each_wanted, &wanting, &err);
	evfs_meta_unlock(r->meta);
	sim_must(r->sim, rc, &err, "wanted");
	any = wanting.n > 0;
	*ret_only_lost = true;
	for (i = 0; i < wanting.n && *ret_only_lost; i++)
		*ret_only_lost = sim_content_may_lack(r->sim,
						      &wanting.names[i]);
	evfs_free(wanting.names);
	return any;
}
