/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Directories as they are shown: which objects are one directory, and where it
 * is (rules 1 to 3).
 *
 * In a simple tree (evfs_view_is_simple) a needed directory is shown, alone,
 * under its place's parent. In general the members of a directory are all
 * shown directories that bear its name in any member of the directory above;
 * so they are found from the root downwards. Shown means: something that lives
 * is below it in the tree as it is after undone moves. That differs from
 * needed only beside cycles, and for lost+found, which exists while something
 * is in it. What was found is kept until the shape of the tree changes. */
#include "meta/view_priv.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

static const char lost_name[] = "lost+found";

static int not_shown(struct evfs_err *err)
{
	return evfs_err_set(err, EVFS_ENOTFOUND,
			    "this directory is not there (any more)");
}

void evfs_dir_fini(struct evfs_dir *dir)
{
	evfs_free(dir->members);
	*dir = (struct evfs_dir){ 0 };
}

static int copy_members(const evfs_ino *members, size_t n,
			struct evfs_dir *ret, struct evfs_err *err)
{
	evfs_ino *copy = evfs_memdup(members, n * sizeof(*members));

	if (copy == NULL)
		return evfs_view_no_memory(err);
	*ret = (struct evfs_dir){ copy, n };
	return 0;
}

/* ---- where it is shown ---- */

static const struct evfs_cycle_row *undone(struct evfs_meta *meta,
					   evfs_ino dir)
{
	const struct evfs_view_state *state = meta->view;
	size_t low = 0, high = state->n_cycles;

	assert(state->cycles_known);
	while (low < high) {
		size_t mid = low + (high - low) / 2;
		int order = evfs_dot_cmp(state->cycles[mid].dir, dir);

		if (order == 0)
			return &state->cycles[mid];
		if (order < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return NULL;
}

bool evfs_view_is_undone(struct evfs_meta *meta, evfs_ino dir)
{
	return undone(meta, dir) != NULL;
}

int evfs_view_above(struct evfs_meta *meta, evfs_ino dir, evfs_ino *ret,
		    const struct evfs_object **ret_object,
		    struct evfs_err *err)
{
	const struct evfs_cycle_row *back;
	const struct evfs_object *object;
	bool needed;
	int result;

	*ret = EVFS_INO_NONE;
	*ret_object = NULL;
	if (evfs_ino_is_lost(dir)) {
		*ret = EVFS_INO_ROOT;
		return 0;
	}
	result = evfs_facts_is_needed(meta->facts, dir, &needed, err);
	if (result != 0 || !needed)
		return result;
	result = evfs_facts_get(meta->facts, dir, &object, err);
	if (result == 0)
		result = evfs_view_cycles(meta, err);
	if (result != 0 || object == NULL)
		return result;
	back = undone(meta, dir);
	*ret = back != NULL ? back->shown_in :
			      evfs_object_only_link(object)->place.parent;
	*ret_object = object;
	return 0;
}

/* ---- is anything below it? ---- */

struct below {
	struct evfs_meta *meta;
	struct evfs_inolist todo; /* dead directories to look into */
	bool found;
	int ret;
	struct evfs_err *err;
};

/* Looks at one directory that is shown in the one looked into. */
static int look_at_dir(struct below *below, evfs_ino dir)
{
	const struct evfs_object *object;
	int ret = evfs_facts_get(below->meta->facts, dir, &object, below->err);

	if (ret != 0 || object == NULL)
		return ret;
	if (evfs_object_only_link(object)->alive.n > 0)
		below->found = true;
	else if (evfs_inolist_add(&below->todo, dir) != 0)
		return evfs_view_no_memory(below->err);
	return 0;
}

static int look_at_row(void *arg, const struct evfs_name_row *row)
{
	struct below *below = arg;

	if (row->kind != EVFS_KIND_DIR)
		below->found = true;
	else if (undone(below->meta, row->ino) == NULL)
		below->ret = look_at_dir(below, row->ino);
	return below->ret != 0 || below->found;
}

static int look_into(struct below *below, evfs_ino dir)
{
	const struct evfs_view_state *state = below->meta->view;
	int ret = evfs_facts_names_after(below->meta->facts, dir, NULL, 0, 0,
					 look_at_row, below, below->err);

	if (ret == 0)
		ret = below->ret;
	for (size_t i = 0; i < state->n_cycles && ret == 0; i++)
		if (evfs_dot_equal(state->cycles[i].shown_in, dir))
			ret = look_at_dir(below, state->cycles[i].dir);
	return ret;
}

int evfs_view_has_something(struct evfs_meta *meta, evfs_ino dir, bool *ret,
			    struct evfs_err *err)
{
	struct below below = { .meta = meta, .err = err };
	int result = evfs_view_cycles(meta, err);

	*ret = true;
	if (result != 0)
		return result;
	if (evfs_ino_is_lost(dir)) {
		if (evfs_inolist_add(&below.todo, dir) != 0)
			result = evfs_view_no_memory(err);
	} else if (meta->view->n_cycles == 0) {
		return 0;
	} else {
		result = look_at_dir(&below, dir);
	}
	/* After undone moves there are no cycles, so this ends. */
	for (size_t i = 0; i < below.todo.n && result == 0 && !below.found; i++)
		result = look_into(&below, below.todo.items[i]);
	evfs_inolist_fini(&below.todo);
	*ret = below.found;
	return result;
}

/* ---- members ---- */

struct finder {
	struct evfs_meta *meta;
	struct evfs_inolist found;
	int ret;
	struct evfs_err *err;
};

static int consider(struct finder *finder, evfs_ino dir)
{
	bool shown;
	int ret = evfs_view_has_something(finder->meta, dir, &shown,
					  finder->err);

	if (ret == 0 && shown && evfs_inolist_add(&finder->found, dir) != 0)
		ret = evfs_view_no_memory(finder->err);
	return ret;
}

static int consider_row(void *arg, const struct evfs_name_row *row)
{
	struct finder *finder = arg;

	if (row->kind == EVFS_KIND_DIR &&
	    undone(finder->meta, row->ino) == NULL)
		finder->ret = consider(finder, row->ino);
	return finder->ret != 0;
}

/* Directories that undone moves show in `above`, and lost+found. */
static int consider_rest(struct finder *finder, evfs_ino above,
			 const uint8_t *name, size_t name_len)
{
	const struct evfs_view_state *state = finder->meta->view;
	int ret = 0;

	for (size_t i = 0; i < state->n_cycles && ret == 0; i++) {
		const struct evfs_object *object;
		const struct evfs_place *place;

		if (!evfs_dot_equal(state->cycles[i].shown_in, above))
			continue;
		ret = evfs_facts_get(finder->meta->facts, state->cycles[i].dir,
				     &object, finder->err);
		if (ret != 0 || object == NULL)
			continue;
		place = &evfs_object_only_link(object)->place;
		if (place->name_len == name_len &&
		    memcmp(place->name, name, name_len) == 0)
			ret = consider(finder, state->cycles[i].dir);
	}
	if (ret == 0 && evfs_ino_is_root(above) &&
	    name_len == sizeof(lost_name) - 1 &&
	    memcmp(name, lost_name, name_len) == 0)
		ret = consider(finder, EVFS_INO_LOST);
	return ret;
}

/* All shown directories called `name` in a directory with these members. */
static int find_members(struct finder *finder, const evfs_ino *above, size_t n,
			const uint8_t *name, size_t name_len)
{
	for (size_t i = 0; i < n; i++) {
		int ret = evfs_facts_names_at(finder->meta->facts, above[i],
					      name, name_len, consider_row,
					      finder, finder->err);

		if (ret == 0)
			ret = finder->ret;
		if (ret == 0)
			ret = consider_rest(finder, above[i], name, name_len);
		if (ret != 0)
			return ret;
	}
	evfs_inolist_sort(&finder->found);
	return 0;
}

static int keep_info(struct evfs_view_state *state,
		     const struct evfs_inolist *members,
		     struct evfs_view_dir_info **ret, struct evfs_err *err)
{
	size_t bytes = members->n * sizeof(evfs_ino);
	struct evfs_view_dir_info *info = evfs_calloc(1, sizeof(*info) + bytes);

	if (info == NULL)
		return evfs_view_no_memory(err);
	info->n = members->n;
	memcpy(info->members, members->items, bytes);
	info->next = state->infos;
	state->infos = info;
	for (size_t i = 0; i < info->n; i++)
		if (evfs_inomap_put(&state->shown, info->members[i], info) != 0)
			return evfs_view_no_memory(err);
	*ret = info;
	return 0;
}

/* The ways up from ino: way[0] = ino, and so on up to what is known, or the
 * root (not in it). ENOENT where it ends nowhere. */
static int way_up(struct evfs_meta *meta, evfs_ino ino,
		  struct evfs_inolist *way, struct evfs_err *err)
{
	while (!evfs_ino_is_root(ino) &&
	       evfs_inomap_get(&meta->view->shown, ino) == NULL) {
		const struct evfs_object *object;
		evfs_ino above;
		int ret;

		if (evfs_inolist_add(way, ino) != 0)
			return evfs_view_no_memory(err);
		ret = evfs_view_above(meta, ino, &above, &object, err);
		if (ret != 0)
			return ret;
		if (evfs_dot_equal(above, EVFS_INO_NONE))
			return not_shown(err);
		ino = above;
	}
	return 0;
}

/* General: the members of `dir`, those of the directory above being given. */
static int descend(struct evfs_meta *meta, evfs_ino dir, const evfs_ino *above,
		   size_t n, struct evfs_view_dir_info **ret,
		   struct evfs_err *err)
{
	struct finder finder = { .meta = meta, .err = err };
	const uint8_t *name = (const uint8_t *)lost_name;
	size_t name_len = sizeof(lost_name) - 1;
	const struct evfs_object *object;
	bool here = false;
	int result = 0;

	if (!evfs_ino_is_lost(dir)) {
		result = evfs_facts_get(meta->facts, dir, &object, err);
		if (result != 0)
			return result;
		name = evfs_object_only_link(object)->place.name;
		name_len = evfs_object_only_link(object)->place.name_len;
	}
	result = find_members(&finder, above, n, name, name_len);
	for (size_t i = 0; i < finder.found.n && result == 0; i++)
		here |= evfs_dot_equal(finder.found.items[i], dir);
	if (result == 0 && !here)
		result = not_shown(err);
	if (result == 0)
		result = keep_info(meta->view, &finder.found, ret, err);
	evfs_inolist_fini(&finder.found);
	return result;
}

static int find_general(struct evfs_meta *meta, const struct evfs_inolist *way,
			evfs_ino ino, struct evfs_dir *ret,
			struct evfs_err *err)
{
	evfs_ino root = EVFS_INO_ROOT;
	struct evfs_view_dir_info *info = NULL;
	evfs_ino top = ino;

	if (way->n > 0) {
		const struct evfs_object *object;
		int result = evfs_view_above(meta, way->items[way->n - 1],
					     &top, &object, err);

		if (result != 0)
			return result;
	}
	if (!evfs_ino_is_root(top))
		info = evfs_inomap_get(&meta->view->shown, top);
	for (size_t i = way->n; i > 0; i--) {
		int result = descend(meta, way->items[i - 1],
				     info == NULL ? &root : info->members,
				     info == NULL ? 1 : info->n, &info, err);

		if (result != 0)
			return result;
	}
	return copy_members(info == NULL ? &root : info->members,
			    info == NULL ? 1 : info->n, ret, err);
}

static int check_kind(struct evfs_meta *meta, evfs_ino ino,
		      struct evfs_err *err)
{
	const struct evfs_object *object;
	int ret;

	if (evfs_ino_is_root(ino) || evfs_ino_is_lost(ino))
		return 0;
	ret = evfs_facts_get(meta->facts, ino, &object, err);
	if (ret != 0)
		return ret;
	if (object == NULL)
		return not_shown(err);
	if (object->kind != EVFS_KIND_DIR)
		return evfs_err_set(err, EVFS_ENOTDIR, "not a directory");
	return 0;
}

int evfs_view_dir(struct evfs_meta *meta, evfs_ino ino, struct evfs_dir *ret,
		  struct evfs_err *err)
{
	struct evfs_view_state *state = meta->view;
	struct evfs_inolist way = { 0 };
	bool simple;
	int result = evfs_view_is_simple(meta, &simple, err);

	if (result == 0)
		result = check_kind(meta, ino, err);
	if (result != 0)
		return result;
	if (simple && evfs_ino_is_lost(ino))
		return not_shown(err);
	result = way_up(meta, ino, &way, err);
	if (result != 0)
		goto out;
	if (!simple) {
		result = find_general(meta, &way, ino, ret, err);
		goto out;
	}
	for (size_t i = 0; i < way.n && result == 0; i++)
		if (evfs_inomap_put(&state->shown, way.items[i],
				    &state->shown) != 0)
			result = evfs_view_no_memory(err);
	if (result == 0)
		result = copy_members(&ino, 1, ret, err);
out:
	evfs_inolist_fini(&way);
	return result;
}

int evfs_view_parent(struct evfs_meta *meta, evfs_ino dir,
		     struct evfs_dir *ret_parent, char name[EVFS_NAME_MAX + 1],
		     struct evfs_err *err)
{
	struct evfs_dir self = { 0 };
	const struct evfs_object *object = NULL;
	evfs_ino above = EVFS_INO_ROOT;
	int ret = evfs_view_dir(meta, dir, &self, err);

	evfs_dir_fini(&self);
	if (ret == 0 && !evfs_ino_is_root(dir))
		ret = evfs_view_above(meta, dir, &above, &object, err);
	if (ret == 0)
		ret = evfs_view_dir(meta, above, ret_parent, err);
	if (ret != 0)
		return ret;
	name[0] = '\0';
	if (evfs_ino_is_lost(dir)) {
		memcpy(name, lost_name, sizeof(lost_name));
	} else if (object != NULL) {
		const struct evfs_place *place =
			&evfs_object_only_link(object)->place;

		memcpy(name, place->name, place->name_len);
		name[place->name_len] = '\0';
	}
	return 0;
}
