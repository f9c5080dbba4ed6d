/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What is at one name (rules 3 to 5): a directory keeps it, else the link
 * that took it last; concurrent versions of one inode by their stamps; equal
 * contents are one. The first of the group has the name, the others wait for
 * generated ones. */
#include "meta/view_priv.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

void evfs_entry_fini(struct evfs_entry *entry)
{
	for (size_t i = 0; i < entry->n_members; i++)
		evfs_free(entry->members[i].dots);
	evfs_free(entry->members);
	evfs_dir_fini(&entry->dir);
	entry->members = NULL;
	entry->n_members = 0;
}

int evfs_entry_copy(const struct evfs_entry *entry, struct evfs_entry *ret)
{
	struct evfs_entry copy = *entry;

	copy.n_members = 0;
	copy.members = evfs_calloc(entry->n_members, sizeof(*copy.members));
	copy.dir.members = evfs_memdup(entry->dir.members,
				       entry->dir.n *
					       sizeof(*entry->dir.members));
	if (copy.members == NULL || copy.dir.members == NULL)
		goto fail;
	for (size_t i = 0; i < entry->n_members; i++) {
		const struct evfs_member_link *from = &entry->members[i];

		copy.members[i] = *from;
		copy.members[i].dots = evfs_memdup(
			from->dots, from->n_dots * sizeof(*from->dots));
		copy.n_members++;
		if (copy.members[i].dots == NULL)
			goto fail;
	}
	*ret = copy;
	return 0;
fail:
	evfs_entry_fini(&copy);
	return EVFS_ENOMEM;
}

void evfs_view_rows_fini(struct evfs_view_rows *rows)
{
	evfs_free(rows->items);
	*rows = (struct evfs_view_rows){ 0 };
}

int evfs_view_rows_add(struct evfs_view_rows *rows,
		       const struct evfs_name_row *row)
{
	if (evfs_grow((void **)&rows->items, rows->n, &rows->cap,
		      sizeof(*rows->items)) != 0)
		return EVFS_ENOMEM;
	rows->items[rows->n++] = (struct evfs_view_row){
		row->ino, row->link, row->kind, row->multi
	};
	return 0;
}

void evfs_view_items_fini(struct evfs_view_items *items)
{
	for (size_t i = 0; i < items->n; i++)
		evfs_entry_fini(&items->items[i].entry);
	evfs_free(items->items);
	*items = (struct evfs_view_items){ 0 };
}

void evfs_view_items_take(struct evfs_view_items *items, size_t i,
			  struct evfs_entry *ret)
{
	assert(i < items->n);
	*ret = items->items[i].entry;
	items->items[i].entry.members = NULL;
	items->items[i].entry.n_members = 0;
	items->items[i].entry.dir = (struct evfs_dir){ 0 };
}

/* ---- rows at a name ---- */

struct row_taker {
	struct evfs_meta *meta;
	struct evfs_view_rows *rows;
	int ret;
	struct evfs_err *err;
};

static int take_row(void *arg, const struct evfs_name_row *row)
{
	struct row_taker *taker = arg;
	bool shown = true;

	if (row->kind == EVFS_KIND_DIR) {
		if (evfs_view_is_undone(taker->meta, row->ino))
			return 0;
		taker->ret = evfs_view_has_something(taker->meta, row->ino,
						     &shown, taker->err);
	}
	if (taker->ret == 0 && shown &&
	    evfs_view_rows_add(taker->rows, row) != 0)
		taker->ret = evfs_view_no_memory(taker->err);
	return taker->ret != 0;
}

static int take_dir(struct row_taker *taker, evfs_ino dir)
{
	struct evfs_name_row row = { .ino = dir, .kind = EVFS_KIND_DIR };
	bool shown;
	int ret = evfs_view_has_something(taker->meta, dir, &shown,
					  taker->err);

	if (ret == 0 && shown && evfs_view_rows_add(taker->rows, &row) != 0)
		ret = evfs_view_no_memory(taker->err);
	return ret;
}

/* Directories that have no row where they are shown. */
static int take_rest(struct row_taker *taker, evfs_ino parent,
		     const void *name, size_t name_len)
{
	const struct evfs_view_state *state = taker->meta->view;
	int ret = 0;

	for (size_t i = 0; i < state->n_cycles && ret == 0; i++) {
		const struct evfs_object *object;
		const struct evfs_place *place;

		if (!evfs_dot_equal(state->cycles[i].shown_in, parent))
			continue;
		ret = evfs_facts_get(taker->meta->facts, state->cycles[i].dir,
				     &object, taker->err);
		if (ret != 0 || object == NULL)
			continue;
		place = &evfs_object_only_link(object)->place;
		if (place->name_len == name_len &&
		    memcmp(place->name, name, name_len) == 0)
			ret = take_dir(taker, object->ino);
	}
	if (ret == 0 && evfs_ino_is_root(parent) &&
	    evfs_view_lost_used(taker->meta) && name_len == 10 &&
	    memcmp(name, "lost+found", 10) == 0)
		ret = take_dir(taker, EVFS_INO_LOST);
	return ret;
}

int evfs_view_rows_at(struct evfs_meta *meta, const struct evfs_dir *dir,
		      const void *name, size_t name_len,
		      struct evfs_view_rows *ret, struct evfs_err *err)
{
	struct row_taker taker = { meta, ret, 0, err };
	bool simple;
	int result = evfs_view_is_simple(meta, &simple, err);

	if (result == 0)
		result = evfs_view_cycles(meta, err);
	ret->n = 0;
	for (size_t i = 0; i < dir->n && result == 0; i++) {
		result = evfs_facts_names_at(meta->facts, dir->members[i],
					     name, name_len, take_row, &taker,
					     err);
		if (result == 0)
			result = taker.ret;
		if (result == 0 && !simple)
			result = take_rest(&taker, dir->members[i], name,
					   name_len);
	}
	return result;
}

/* ---- contents ---- */

struct candidate {
	const struct evfs_object *object;
	const struct evfs_link *link;
};

/* What took the name last comes first. */
static int compare_candidates(const void *x, const void *y)
{
	const struct candidate *a = x, *b = y;
	int order = evfs_stamp_cmp(&b->link->place.stamp,
				   &a->link->place.stamp);

	return order != 0 ? order : evfs_stamp_cmp(&b->link->id, &a->link->id);
}

static bool is_same_content(const struct evfs_view_item *item,
			    const struct evfs_object *object,
			    const struct evfs_version *version,
			    struct evfs_facts *facts, int *ret_error,
			    struct evfs_err *err)
{
	const struct evfs_entry *entry = &item->entry;
	const struct evfs_object *other;

	if (entry->kind != object->kind)
		return false;
	if (object->kind == EVFS_KIND_FILE) {
		if (version == NULL) /* not sealed: equal to nothing else */
			return !entry->has_version &&
			       evfs_dot_equal(entry->members[0].ino,
					      object->ino);
		return entry->has_version &&
		       evfs_hash_equal(&entry->content, &version->content);
	}
	*ret_error = evfs_facts_get(facts, entry->members[0].ino, &other, err);
	if (*ret_error != 0)
		return false;
	if (object->kind == EVFS_KIND_SYMLINK)
		return other->target_len == object->target_len &&
		       memcmp(other->target, object->target,
			      object->target_len) == 0;
	return other->rdev == object->rdev;
}

static struct evfs_view_item *new_item(struct evfs_view_items *items,
				       enum evfs_kind kind, evfs_dot dot)
{
	struct evfs_view_item *item;

	if (evfs_grow((void **)&items->items, items->n, &items->cap,
		      sizeof(*items->items)) != 0)
		return NULL;
	item = &items->items[items->n++];
	memset(item, 0, sizeof(*item));
	item->entry.kind = kind;
	item->dot = dot;
	return item;
}

static int add_member(struct evfs_view_item *item,
		      const struct candidate *candidate, evfs_dot **dots,
		      size_t n_dots)
{
	struct evfs_entry *entry = &item->entry;
	struct evfs_member_link *members = evfs_realloc_array(
		entry->members, entry->n_members + 1, sizeof(*members));

	if (members == NULL)
		return EVFS_ENOMEM;
	entry->members = members;
	members[entry->n_members++] = (struct evfs_member_link){
		candidate->object->ino, candidate->link->id,
		evfs_steal(*dots), n_dots
	};
	return 0;
}

/* Adds one content (version NULL: of something that has none) of a link. Takes
 * the dots. */
static int add_content(struct evfs_meta *meta, struct evfs_view_items *items,
		       const struct candidate *candidate,
		       const struct evfs_version *version, evfs_dot *dots,
		       size_t n_dots, struct evfs_err *err)
{
	evfs_cleanup_free evfs_dot *owned = dots;
	const struct evfs_object *object = candidate->object;
	struct evfs_view_item *item = NULL;
	int ret = 0;

	for (size_t i = 0; i < items->n && item == NULL && ret == 0; i++)
		if (is_same_content(&items->items[i], object, version,
				    meta->facts, &ret, err))
			item = &items->items[i];
	if (ret != 0)
		return ret;
	if (item == NULL) {
		item = new_item(items, object->kind,
				version == NULL ? object->ino : version->dot);
		if (item == NULL)
			return evfs_view_no_memory(err);
		if (version != NULL) {
			item->entry.has_version = true;
			item->entry.content = version->content;
			item->entry.size = version->size;
			item->entry.mtime_s = version->mtime_s;
			item->entry.mtime_ns = version->mtime_ns;
			item->entry.version_time_ns = version->time_ns;
		} else if (object->kind == EVFS_KIND_SYMLINK) {
			item->entry.size = object->target_len;
		}
	}
	if (owned == NULL && n_dots == 0)
		owned = evfs_calloc(0, sizeof(*owned));
	if (owned == NULL || add_member(item, candidate, &owned, n_dots) != 0)
		return evfs_view_no_memory(err);
	return 0;
}

static int compare_versions(const void *a, const void *b)
{
	return evfs_version_cmp(*(const struct evfs_version *const *)b,
				*(const struct evfs_version *const *)a);
}

/* All contents of a file's link, versions being sorted, newest first. Beside
 * the oldest live link stand all contents of its inode, beside others the
 * newest only. */
static int add_versions(struct evfs_meta *meta, struct evfs_view_items *items,
			const struct candidate *candidate,
			const struct evfs_version **versions, size_t n,
			struct evfs_err *err)
{
	bool all = candidate->link ==
		   evfs_object_sibling_link(candidate->object);
	size_t contents = all ? n : 1;

	for (size_t i = 0; i < contents; i++) {
		evfs_dot *dots;
		size_t n_dots = 0;
		int ret;

		if (versions[i] == NULL) /* equal to an earlier one */
			continue;
		dots = evfs_calloc(n - i, sizeof(*dots));
		if (dots == NULL)
			return evfs_view_no_memory(err);
		for (size_t k = i; k < n; k++) {
			if (versions[k] == NULL ||
			    !evfs_hash_equal(&versions[k]->content,
					     &versions[i]->content))
				continue;
			dots[n_dots++] = versions[k]->dot;
			if (k > i)
				versions[k] = NULL;
		}
		ret = add_content(meta, items, candidate, versions[i], dots,
				  n_dots, err);
		if (ret != 0)
			return ret;
	}
	return 0;
}

static int add_candidate(struct evfs_meta *meta, struct evfs_view_items *items,
			 const struct candidate *candidate,
			 struct evfs_err *err)
{
	const struct evfs_object *object = candidate->object;
	evfs_cleanup_free const struct evfs_version **versions = NULL;
	const struct evfs_version *few[8];
	const struct evfs_version **list = few;

	if (object->kind != EVFS_KIND_FILE || object->n_versions == 0)
		return add_content(meta, items, candidate, NULL, NULL, 0, err);
	if (object->n_versions > sizeof(few) / sizeof(few[0])) {
		versions = evfs_calloc(object->n_versions, sizeof(*versions));
		if (versions == NULL)
			return evfs_view_no_memory(err);
		list = versions;
	}
	for (size_t i = 0; i < object->n_versions; i++)
		list[i] = &object->versions[i];
	if (object->n_versions > 1)
		qsort(list, object->n_versions, sizeof(*list),
		      compare_versions);
	return add_versions(meta, items, candidate, list, object->n_versions,
			    err);
}

/* ---- the group ---- */

static int add_directory(struct evfs_view_items *items,
			 const struct evfs_view_rows *rows,
			 struct evfs_err *err)
{
	struct evfs_inolist members = { 0 };
	struct evfs_view_item *item;

	for (size_t i = 0; i < rows->n; i++)
		if (rows->items[i].kind == EVFS_KIND_DIR &&
		    evfs_inolist_add(&members, rows->items[i].ino) != 0)
			goto fail;
	if (members.n == 0)
		return 0;
	evfs_inolist_sort(&members);
	item = new_item(items, EVFS_KIND_DIR, members.items[0]);
	if (item == NULL)
		goto fail;
	item->entry.dir = (struct evfs_dir){ members.items, members.n };
	return 0;
fail:
	evfs_inolist_fini(&members);
	return evfs_view_no_memory(err);
}

static int get_candidates(struct evfs_meta *meta,
			  const struct evfs_view_rows *rows,
			  struct candidate *ret, size_t *ret_n,
			  struct evfs_err *err)
{
	*ret_n = 0;
	for (size_t i = 0; i < rows->n; i++) {
		const struct evfs_view_row *row = &rows->items[i];
		struct candidate found;
		int result;

		if (row->kind == EVFS_KIND_DIR)
			continue;
		result = evfs_facts_get(meta->facts, row->ino, &found.object,
					err);
		if (result != 0)
			return result;
		found.link = found.object == NULL ? NULL :
			evfs_object_find_link(found.object, &row->link);
		if (found.link == NULL)
			return evfs_err_set(err, EVFS_ECORRUPT, "view: a name "
					    "without its object (evfsctl "
					    "verify --repair)");
		ret[(*ret_n)++] = found;
	}
	return 0;
}

static void give_name(struct evfs_view_items *items, const void *name,
		      size_t name_len)
{
	for (size_t i = 0; i < items->n; i++) {
		struct evfs_entry *entry = &items->items[i].entry;

		entry->is_sibling = i > 0;
		memcpy(i == 0 ? entry->name : entry->plain, name, name_len);
		if (i == 0)
			entry->name_len = name_len;
		else
			entry->plain_len = name_len;
	}
}

int evfs_view_items_of(struct evfs_meta *meta, const void *name,
		       size_t name_len, const struct evfs_view_rows *rows,
		       struct evfs_view_items *ret, struct evfs_err *err)
{
	evfs_cleanup_free struct candidate *many = NULL;
	struct candidate few[8];
	struct candidate *list = few;
	size_t n;
	int result;

	ret->n = 0;
	if (rows->n > sizeof(few) / sizeof(few[0])) {
		many = evfs_calloc(rows->n, sizeof(*many));
		if (many == NULL)
			return evfs_view_no_memory(err);
		list = many;
	}
	result = add_directory(ret, rows, err);
	if (result == 0)
		result = get_candidates(meta, rows, list, &n, err);
	if (result == 0 && n > 1)
		qsort(list, n, sizeof(*list), compare_candidates);
	for (size_t i = 0; result == 0 && i < n; i++)
		result = add_candidate(meta, ret, &list[i], err);
	if (result == 0)
		give_name(ret, name, name_len);
	return result;
}

int evfs_view_items_at(struct evfs_meta *meta, const struct evfs_dir *dir,
		       const void *name, size_t name_len,
		       struct evfs_view_items *ret, struct evfs_err *err)
{
	struct evfs_view_rows rows = { 0 };
	int result = evfs_view_rows_at(meta, dir, name, name_len, &rows, err);

	if (result == 0)
		result = evfs_view_items_of(meta, name, name_len, &rows, ret,
					    err);
	evfs_view_rows_fini(&rows);
	return result;
}
