/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Which directories are needed: alive themselves, or above something that is,
 * by place register. Kept as a flag for each directory.
 *
 * Gains. Where something became live in P, the flag is set on P and upwards
 * until one that has it already, or an object that is not here. What has it
 * already has its parent flagged too, or the parent is in the list of gains
 * itself (a moved directory); so after all gains every flagged directory has
 * a flagged parent.
 *
 * Losses. Where support went away from D, and D is dead, its support may be
 * only apparent: dead directories hold each other up, in a chain or on a
 * cycle. So look down from D through flagged dead directories for something
 * that lives. Found: D stays, and so do all of them that stand above it; those
 * that do not are in the list of losses on their own account. Not found: all
 * that was visited is unsupported (whatever is below a visited directory was
 * visited), loses the flag, and the parent of D has lost a support in turn. */
#include "meta/index_priv.h"

#include <assert.h>

#include "base/mem.h"

/* The directory object behind ino, or NULL: root and lost+found, something
 * that is not here, or (from a broken peer) not a directory. */
static int get_dir(struct evfs_index *ix, evfs_ino ino,
		   const struct evfs_object **ret, struct evfs_err *err)
{
	int result;

	*ret = NULL;
	if (evfs_ino_is_root(ino) || evfs_ino_is_lost(ino))
		return 0;
	result = evfs_facts_get(ix->facts, ino, ret, err);
	if (result == 0 && *ret != NULL && (*ret)->kind != EVFS_KIND_DIR)
		*ret = NULL;
	return result;
}

static bool is_alive(const struct evfs_object *dir)
{
	return evfs_object_only_link(dir)->alive.n > 0;
}

static int flag(struct evfs_index *ix, const struct evfs_object *dir, bool on,
		struct evfs_err *err)
{
	const struct evfs_link *link = evfs_object_only_link(dir);
	int ret = evfs_facts_set_needed(ix->facts, dir->ino, on, err);

	if (ret == 0)
		ret = evfs_index_count(ix, dir, on ? 1 : -1, err);
	if (ret == 0)
		ret = on ? evfs_index_row_add(ix, &link->place, dir, &link->id,
					      err) :
			   evfs_index_row_remove(ix, &link->place, dir,
						 &link->id, dir->change_ns,
						 err);
	if (ret == 0 && on && evfs_inolist_add(&ix->moved, dir->ino) != 0)
		ret = evfs_err_set(err, EVFS_ENOMEM, "settle directories: "
				   "out of memory");
	return ret;
}

static int gain(struct evfs_index *ix, evfs_ino at, struct evfs_err *err)
{
	for (;;) {
		const struct evfs_object *dir;
		bool needed;
		int ret = get_dir(ix, at, &dir, err);

		if (ret != 0 || dir == NULL)
			return ret;
		ret = evfs_facts_is_needed(ix->facts, at, &needed, err);
		if (ret != 0 || needed)
			return ret;
		at = evfs_object_only_link(dir)->place.parent;
		ret = flag(ix, dir, true, err);
		if (ret != 0)
			return ret;
	}
}

/* One directory of the look down: what is in it. */
struct below {
	struct evfs_index *ix;
	struct evfs_inolist *todo; /* dead directories to look into */
	struct evfs_inomap *seen;
	bool found;                /* something that lives */
	int ret;
	struct evfs_err *err;
};

static int is_live_row(struct evfs_index *ix, const struct evfs_name_row *row,
		       bool *ret, struct evfs_err *err)
{
	const struct evfs_object *object;
	int result = evfs_facts_get(ix->facts, row->ino, &object, err);

	if (result != 0)
		return result;
	if (object == NULL)
		return evfs_err_set(err, EVFS_ECORRUPT, "index: a name of an "
				    "object that is not there (evfsctl verify "
				    "--repair makes the index anew)");
	*ret = object->kind == EVFS_KIND_DIR ? is_alive(object) :
					       evfs_object_is_live(object);
	return 0;
}

static int look_at(void *arg, const struct evfs_name_row *row)
{
	struct below *below = arg;

	below->ret = is_live_row(below->ix, row, &below->found, below->err);
	if (below->ret != 0 || below->found)
		return 1;
	/* What is dead and no directory is a file not sealed yet: nobody else
	 * can see it, so it must not change what is live. */
	if (row->kind != EVFS_KIND_DIR ||
	    evfs_inomap_get(below->seen, row->ino) != NULL)
		return 0;
	if (evfs_inomap_put(below->seen, row->ino, below) != 0 ||
	    evfs_inolist_add(below->todo, row->ino) != 0) {
		below->ret = evfs_err_set(below->err, EVFS_ENOMEM,
					  "settle directories: out of memory");
		return 1;
	}
	return 0;
}

/* Fills visited with dir and all dead directories below it, as far as it was
 * necessary to look. */
static int look_down(struct evfs_index *ix, evfs_ino dir,
		     struct evfs_inolist *visited, struct evfs_inomap *seen,
		     bool *ret_found, struct evfs_err *err)
{
	struct below below = { ix, visited, seen, false, 0, err };

	if (evfs_inomap_put(seen, dir, ix) != 0 ||
	    evfs_inolist_add(visited, dir) != 0)
		return evfs_err_set(err, EVFS_ENOMEM,
				    "settle directories: out of memory");
	for (size_t i = 0; i < visited->n && !below.found; i++) {
		int ret = evfs_facts_names_after(ix->facts, visited->items[i],
						 NULL, 0, 0, look_at, &below,
						 err);

		if (ret != 0 || below.ret != 0)
			return ret != 0 ? ret : below.ret;
	}
	*ret_found = below.found;
	return 0;
}

static int drop_all(struct evfs_index *ix, const struct evfs_inolist *gone,
		    struct evfs_err *err)
{
	for (size_t i = 0; i < gone->n; i++) {
		const struct evfs_object *dir;
		int ret = get_dir(ix, gone->items[i], &dir, err);

		if (ret != 0)
			return ret;
		assert(dir != NULL);
		ret = flag(ix, dir, false, err);
		if (ret != 0)
			return ret;
	}
	return 0;
}

static int lose(struct evfs_index *ix, evfs_ino at, struct evfs_err *err)
{
	for (;;) {
		struct evfs_inolist visited = { 0 };
		struct evfs_inomap seen = { 0 };
		const struct evfs_object *dir;
		evfs_ino above;
		bool needed, found = false;
		int ret = get_dir(ix, at, &dir, err);

		if (ret != 0 || dir == NULL || is_alive(dir))
			return ret;
		ret = evfs_facts_is_needed(ix->facts, at, &needed, err);
		if (ret != 0 || !needed)
			return ret;
		above = evfs_object_only_link(dir)->place.parent;
		ret = look_down(ix, at, &visited, &seen, &found, err);
		if (ret == 0 && !found)
			ret = drop_all(ix, &visited, err);
		evfs_inolist_fini(&visited);
		evfs_inomap_fini(&seen);
		if (ret != 0 || found)
			return ret;
		at = above;
	}
}

int evfs_index_settle_needed(struct evfs_index *ix, struct evfs_err *err)
{
	int ret = 0;

	for (size_t i = 0; i < ix->gains.n && ret == 0; i++)
		ret = gain(ix, ix->gains.items[i], err);
	for (size_t i = 0; i < ix->losses.n && ret == 0; i++)
		ret = lose(ix, ix->losses.items[i], err);
	return ret;
}

static int see_support(void *arg, const struct evfs_name_row *row)
{
	struct below *below = arg;

	if (row->kind == EVFS_KIND_DIR)
		below->found = true;
	else
		below->ret = is_live_row(below->ix, row, &below->found,
					 below->err);
	return below->ret != 0 || below->found;
}

int evfs_index_has_support(struct evfs_index *ix, evfs_ino dir, bool *ret,
			   struct evfs_err *err)
{
	struct below below = { ix, NULL, NULL, false, 0, err };
	int result = evfs_facts_names_after(ix->facts, dir, NULL, 0, 0,
					    see_support, &below, err);

	*ret = below.found;
	return result != 0 ? result : below.ret;
}
