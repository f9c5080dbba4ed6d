/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Cycles of directories, and which moves are undone to open them (rule 2).
 *
 * Two replicas may each move a directory into the other's. All place registers
 * together then form a cycle that no way from the root leads to. In each cycle
 * the youngest move whose origin (the directory it was moved from) is
 * reachable is undone: the directory is shown there. All cycles that have one
 * are opened in one pass. Where none has, the cycle whose youngest move is the
 * oldest sends that directory to lost+found; then all is looked at again, for
 * what was opened may have made other origins reachable.
 *
 * An opened cycle never closes another, since it hangs on something reachable;
 * so the set of cycles is found once, by walking up by place register from
 * where one can be: the known cycles, directories with a new place, and those
 * that are needed now. Reachable means: needed, and the effective parents
 * lead to the root or to lost+found. */
#include "meta/index_priv.h"

#include <stdlib.h>

#include "base/mem.h"

struct node {
	evfs_ino dir;
	evfs_ino origin;
	evfs_stamp age;    /* of the move */
	size_t cycle;      /* number of its cycle */
	evfs_ino shown_in; /* NONE: not undone */
};

struct cycles {
	struct evfs_index *ix;
	struct evfs_inolist starts;
	struct evfs_cycle_row *old; /* rows as stored */
	size_t n_old, cap_old;
	struct node *nodes; /* all directories on cycles */
	size_t n_nodes, cap_nodes;
	size_t n_cycles;
	struct evfs_inomap on_cycle; /* dir -> index into nodes, plus 1 */
	bool *open;                  /* for each cycle: undone somewhere */
	int failed;                  /* in a callback */
};

static int no_memory(struct evfs_err *err)
{
	return evfs_err_set(err, EVFS_ENOMEM, "settle cycles: out of memory");
}

/* The directory object if it is needed, else NULL. */
static int needed_dir(struct evfs_index *ix, evfs_ino ino,
		      const struct evfs_object **ret, struct evfs_err *err)
{
	bool needed;
	int result;

	*ret = NULL;
	if (evfs_ino_is_root(ino) || evfs_ino_is_lost(ino))
		return 0;
	result = evfs_facts_is_needed(ix->facts, ino, &needed, err);
	if (result != 0 || !needed)
		return result;
	return evfs_facts_get(ix->facts, ino, ret, err);
}

static int add_node(struct cycles *c, const struct evfs_object *dir,
		    struct evfs_err *err)
{
	const struct evfs_place *place = &evfs_object_only_link(dir)->place;

	if (evfs_grow((void **)&c->nodes, c->n_nodes, &c->cap_nodes,
		      sizeof(*c->nodes)) != 0)
		return no_memory(err);
	c->nodes[c->n_nodes++] = (struct node){
		.dir = dir->ino,
		.origin = place->origin,
		.age = place->stamp,
		.cycle = c->n_cycles,
		.shown_in = EVFS_INO_NONE,
	};
	if (evfs_inomap_put(&c->on_cycle, dir->ino,
			    (void *)(uintptr_t)c->n_nodes) != 0)
		return no_memory(err);
	return 0;
}

/* Once around the cycle that `first` is on. */
static int add_cycle(struct cycles *c, evfs_ino first, struct evfs_err *err)
{
	evfs_ino at = first;

	do {
		const struct evfs_object *dir;
		int ret = needed_dir(c->ix, at, &dir, err);

		if (ret == 0)
			ret = add_node(c, dir, err);
		if (ret != 0)
			return ret;
		at = evfs_object_only_link(dir)->place.parent;
	} while (!evfs_dot_equal(at, first));
	c->n_cycles++;
	return 0;
}

/* Walks up from each start; seen: directory -> the walk that met it. */
static int find_cycles(struct cycles *c, struct evfs_err *err)
{
	struct evfs_inomap seen = { 0 };
	int ret = 0;

	for (size_t walk = 1; walk <= c->starts.n && ret == 0; walk++) {
		evfs_ino at = c->starts.items[walk - 1];

		for (;;) {
			const struct evfs_object *dir;
			uintptr_t met;

			ret = needed_dir(c->ix, at, &dir, err);
			if (ret != 0 || dir == NULL)
				break;
			met = (uintptr_t)evfs_inomap_get(&seen, at);
			if (met != 0) {
				if (met == walk)
					ret = add_cycle(c, at, err);
				break;
			}
			if (evfs_inomap_put(&seen, at, (void *)walk) != 0) {
				ret = no_memory(err);
				break;
			}
			at = evfs_object_only_link(dir)->place.parent;
		}
	}
	evfs_inomap_fini(&seen);
	return ret;
}

static int is_reachable(struct cycles *c, evfs_ino at, bool *ret,
			struct evfs_err *err)
{
	*ret = false;
	for (;;) {
		const struct evfs_object *dir;
		uintptr_t node;
		int result;

		if (evfs_ino_is_root(at) || evfs_ino_is_lost(at)) {
			*ret = true;
			return 0;
		}
		node = (uintptr_t)evfs_inomap_get(&c->on_cycle, at);
		if (node != 0) {
			*ret = c->open[c->nodes[node - 1].cycle];
			return 0;
		}
		result = needed_dir(c->ix, at, &dir, err);
		if (result != 0 || dir == NULL)
			return result;
		at = evfs_object_only_link(dir)->place.parent;
	}
}

/* In each closed cycle the youngest move with a way back; *ret_any: some. */
static int undo_homes(struct cycles *c, size_t *best, bool *ret_any,
		      struct evfs_err *err)
{
	for (size_t i = 0; i < c->n_cycles; i++)
		best[i] = SIZE_MAX;
	*ret_any = false;
	for (size_t i = 0; i < c->n_nodes; i++) {
		struct node *node = &c->nodes[i];
		size_t *young = &best[node->cycle];
		bool home;
		int ret;

		if (c->open[node->cycle])
			continue;
		ret = is_reachable(c, node->origin, &home, err);
		if (ret != 0)
			return ret;
		if (home && (*young == SIZE_MAX ||
			     evfs_stamp_cmp(&node->age,
					    &c->nodes[*young].age) > 0))
			*young = i;
	}
	/* Only now: one pass looks at one state. */
	for (size_t i = 0; i < c->n_cycles; i++) {
		if (best[i] == SIZE_MAX)
			continue;
		c->nodes[best[i]].shown_in = c->nodes[best[i]].origin;
		c->open[i] = true;
		*ret_any = true;
	}
	return 0;
}

/* The cycle whose youngest move is oldest sends it to lost+found. */
static bool undo_lost(struct cycles *c, size_t *best)
{
	size_t oldest = SIZE_MAX;

	for (size_t i = 0; i < c->n_cycles; i++)
		best[i] = SIZE_MAX;
	for (size_t i = 0; i < c->n_nodes; i++) {
		size_t *young = &best[c->nodes[i].cycle];

		if (!c->open[c->nodes[i].cycle] &&
		    (*young == SIZE_MAX ||
		     evfs_stamp_cmp(&c->nodes[i].age,
				    &c->nodes[*young].age) > 0))
			*young = i;
	}
	for (size_t i = 0; i < c->n_cycles; i++)
		if (best[i] != SIZE_MAX &&
		    (oldest == SIZE_MAX ||
		     evfs_stamp_cmp(&c->nodes[best[i]].age,
				    &c->nodes[oldest].age) < 0))
			oldest = best[i];
	if (oldest == SIZE_MAX)
		return false;
	c->nodes[oldest].shown_in = EVFS_INO_LOST;
	c->open[c->nodes[oldest].cycle] = true;
	return true;
}

static int undo(struct cycles *c, struct evfs_err *err)
{
	evfs_cleanup_free size_t *best = NULL;
	bool more = c->n_cycles > 0;

	best = evfs_calloc(c->n_cycles, sizeof(*best));
	c->open = evfs_calloc(c->n_cycles, sizeof(*c->open));
	if (best == NULL || c->open == NULL)
		return no_memory(err);
	while (more) {
		int ret = undo_homes(c, best, &more, err);

		if (ret != 0)
			return ret;
		if (!more)
			more = undo_lost(c, best);
	}
	return 0;
}

static int store_row(struct cycles *c, const struct evfs_cycle_row *row,
		     bool on, int64_t delta, struct evfs_err *err)
{
	evfs_facts_counter_add(c->ix->facts, EVFS_COUNTER_CYCLES, delta);
	c->ix->shape = true;
	evfs_index_note_names(c->ix);
	return evfs_facts_set_cycle(c->ix->facts, row, on, err);
}

static int store(struct cycles *c, struct evfs_err *err)
{
	int ret = 0;

	for (size_t i = 0; i < c->n_old && ret == 0; i++)
		if (evfs_inomap_get(&c->on_cycle, c->old[i].dir) == NULL)
			ret = store_row(c, &c->old[i], false, -1, err);
	for (size_t i = 0; i < c->n_nodes && ret == 0; i++) {
		struct evfs_cycle_row row = { c->nodes[i].dir,
					      c->nodes[i].shown_in };
		const struct evfs_cycle_row *was = NULL;

		for (size_t k = 0; k < c->n_old && was == NULL; k++)
			if (evfs_dot_equal(c->old[k].dir, row.dir))
				was = &c->old[k];
		if (was == NULL || !evfs_dot_equal(was->shown_in, row.shown_in))
			ret = store_row(c, &row, true, was == NULL, err);
	}
	return ret;
}

static int take_old(void *arg, const struct evfs_cycle_row *row)
{
	struct cycles *c = arg;

	if (evfs_grow((void **)&c->old, c->n_old, &c->cap_old,
		      sizeof(*c->old)) != 0 ||
	    evfs_inolist_add(&c->starts, row->dir) != 0) {
		c->failed = EVFS_ENOMEM;
		return 1;
	}
	c->old[c->n_old++] = *row;
	return 0;
}

int evfs_index_settle_cycles(struct evfs_index *ix, struct evfs_err *err)
{
	bool had = evfs_facts_counter(ix->facts, EVFS_COUNTER_CYCLES) > 0;
	struct cycles c = { .ix = ix };
	int ret = 0;

	/* Only the shape decides: files neither make cycles nor open them. */
	if (!ix->shape || (!had && ix->moved.n == 0))
		return 0;
	if (had)
		ret = evfs_facts_cycles(ix->facts, take_old, &c, err);
	if (c.failed != 0)
		ret = no_memory(err);
	for (size_t i = 0; i < ix->moved.n && ret == 0; i++)
		if (evfs_inolist_add(&c.starts, ix->moved.items[i]) != 0)
			ret = no_memory(err);
	if (ret == 0)
		ret = find_cycles(&c, err);
	if (ret == 0)
		ret = undo(&c, err);
	if (ret == 0)
		ret = store(&c, err);
	evfs_inolist_fini(&c.starts);
	evfs_inomap_fini(&c.on_cycle);
	evfs_free(c.old);
	evfs_free(c.nodes);
	evfs_free(c.open);
	return ret;
}
