/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What must hold whatever the network does: the laws of the join, on the states
 * that replicas have of one object at one moment, and the shape of the tree. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "meta/facts.h"
#include "meta/merge.h"
#include "tests/sim/sim.h"

/* ---- P2 ---- */

struct side {
	const struct evfs_object *object; /* NULL = absent */
	struct evfs_context context;
};

/* The join of two sides, with the join of their contexts. */
static void join(struct sim *sim, const struct side *a, const struct side *b,
		 struct side *ret)
{
	struct evfs_object *object = NULL;
	struct evfs_err err = { 0 };

	if (a->object != NULL || b->object != NULL)
		sim_must(sim,
			 evfs_merge(a->object, &a->context, b->object,
				    &b->context, &object, &err),
			 &err, "P2 merge");
	ret->object = object;
	ret->context = (struct evfs_context){ 0 };
	if (evfs_context_copy(&ret->context, &a->context) < 0 ||
	    evfs_context_join(&ret->context, &b->context) < 0)
		abort();
}

static void drop(struct side *side)
{
	union {
		const struct evfs_object *borrowed;
		struct evfs_object *owned;
	} object = { .borrowed = side->object };

	evfs_object_free(object.owned);
	evfs_context_fini(&side->context);
}

static void same(struct sim *sim, const struct side *a, const struct side *b,
		 const char *law)
{
	bool equal = a->object == NULL || b->object == NULL ?
			     a->object == b->object :
			     evfs_object_equal(a->object, b->object);

	if (!equal)
		sim_fail(sim, "P2 the join is not %s", law);
}

static void check_object(struct sim *sim, const struct side *a,
			 const struct side *b, const struct side *c)
{
	struct side ab, ba, bc, left, right, twice;

	join(sim, a, b, &ab);
	join(sim, b, a, &ba);
	join(sim, b, c, &bc);
	join(sim, &ab, c, &left);
	join(sim, a, &bc, &right);
	join(sim, &ab, &ab, &twice);
	same(sim, &ab, &ba, "commutative");
	same(sim, &left, &right, "associative");
	same(sim, &ab, &twice, "idempotent");
	drop(&ab);
	drop(&ba);
	drop(&bc);
	drop(&left);
	drop(&right);
	drop(&twice);
}

void sim_check_laws(struct sim *sim)
{
	struct sim_snapshot *facts[3];
	struct side sides[3] = { 0 };
	const struct evfs_object *object;
	unsigned i, k, from = sim->checks % sim->n;
	size_t at;

	/* contexts that lie are joined by rows alone */
	if (sim->forged || sim_any_unnoticed(sim))
		return;
	for (i = 0; i < 3; i++) {
		struct sim_replica *r = &sim->replicas[(from + i) % sim->n];

		facts[i] = sim_snapshot(r);
		evfs_meta_lock(r->meta);
		if (evfs_context_copy(&sides[i].context,
				      evfs_meta_context(r->meta)) < 0)
			abort();
		evfs_meta_unlock(r->meta);
	}
	for (i = 0; i < 3; i++)
		for (at = 0; (object = sim_snapshot_at(facts[i], at)) != NULL;
		     at++) {
			for (k = 0; k < 3; k++)
				sides[k].object =
					sim_snapshot_find(facts[k],
							  object->ino);
			check_object(sim, &sides[0], &sides[1], &sides[2]);
		}
	for (i = 0; i < 3; i++) {
		sim_snapshot_free(facts[i]);
		evfs_context_fini(&sides[i].context);
	}
}

/* ---- P5 ---- */

#define DIRS_MAX 1024

struct walk {
	struct sim_replica *r;
	evfs_ino dirs[DIRS_MAX]; /* the root first: all members of all */
	size_t n;
	char last[EVFS_NAME_MAX + 1]; /* in the directory being listed */
	bool first;
};

static void enter(struct walk *walk, evfs_ino dir)
{
	size_t i;

	for (i = 0; i < walk->n; i++)
		if (evfs_dot_equal(walk->dirs[i], dir))
			sim_fail(walk->r->sim,
				 "P5 %s shows a directory twice",
				 walk->r->name);
	if (walk->n < DIRS_MAX)
		walk->dirs[walk->n++] = dir;
}

static int each_entry(void *arg, struct evfs_entry *entry)
{
	struct walk *walk = arg;
	struct sim *sim = walk->r->sim;
	size_t i;

	if (entry->name_len == 0 || entry->name_len > 255 ||
	    strlen(entry->name) != entry->name_len ||
	    strchr(entry->name, '/') != NULL)
		sim_fail(sim, "P5 %s shows the name '%s'", walk->r->name,
			 entry->name);
	if (!walk->first && strcmp(walk->last, entry->name) >= 0)
		sim_fail(sim, "P5 %s shows '%s' after '%s'", walk->r->name,
			 entry->name, walk->last);
	walk->first = false;
	memcpy(walk->last, entry->name, entry->name_len + 1);
	for (i = 0; entry->kind == EVFS_KIND_DIR && i < entry->dir.n; i++)
		enter(walk, entry->dir.members[i]);
	return 0;
}

/* What is listed below the root and nowhere twice is a tree: no cycle hangs on
 * it, and every entry stands in a directory that is shown. */
void sim_check_shape(struct sim_replica *r)
{
	struct walk walk = { .r = r };
	struct evfs_dir dir = { 0 };
	struct evfs_err err = { 0 };
	size_t i;
	int rc = 0;

	enter(&walk, EVFS_INO_ROOT);
	evfs_meta_lock(r->meta);
	for (i = 0; rc == 0 && i < walk.n; i++) {
		rc = evfs_view_dir(r->meta, walk.dirs[i], &dir, &err);
		/* once for all members */
		if (rc == 0 && evfs_dot_equal(dir.members[0], walk.dirs[i])) {
			walk.first = true;
			rc = evfs_view_list(r->meta, walk.dirs[i], NULL, 0,
					    each_entry, &walk, &err);
		}
		evfs_dir_fini(&dir);
	}
	evfs_meta_unlock(r->meta);
	sim_must(r->sim, rc, &err, "P5 a directory that is shown");
}
