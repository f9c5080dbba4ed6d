/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Finding one entry: by name, by path, by version. A generated name is found
 * by the plain names that it can stand beside; also where its version has
 * become the plain one, so that `rm -rf` on an old listing works (a stem cut
 * in the midst of four or more UTF-8 continuation bytes, which is no UTF-8, is
 * not found by that). */
#include "meta/view_priv.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "meta/members.h"

static const char conflict_mark[] = ".conflict-";
#define MARK_LEN (sizeof(conflict_mark) - 1)
#define CUT_LEN_MIN (EVFS_NAME_MAX - 3) /* of a name with a cut stem */

struct search {
	struct evfs_meta *meta;
	const struct evfs_dir *dir;
	const char *name; /* looked for */
	size_t name_len;
	size_t prefix;    /* bytes that a cut plain name begins with */
	struct evfs_entry *ret;
	bool found;
	struct evfs_err *err;
};

static int not_there(struct evfs_err *err)
{
	return evfs_err_set(err, EVFS_ENOTFOUND, "no such entry");
}

static int take_named(struct search *search, struct evfs_view_items *items,
		      size_t i)
{
	int ret = evfs_view_name_items(search->meta, search->dir, items,
				       search->err);

	if (ret != 0)
		return ret;
	evfs_view_items_take(items, i, search->ret);
	search->found = true;
	return 0;
}

/* The sibling of this group that is called so. */
static int try_current(struct search *search, const char *plain, size_t len)
{
	struct evfs_view_items items = { 0 };
	int ret = evfs_view_items_at(search->meta, search->dir, plain, len,
				     &items, search->err);

	if (ret == 0)
		ret = evfs_view_name_items(search->meta, search->dir, &items,
					   search->err);
	for (size_t i = 1; i < items.n && ret == 0 && !search->found; i++) {
		const struct evfs_entry *entry = &items.items[i].entry;

		if (entry->name_len != search->name_len ||
		    memcmp(entry->name, search->name, search->name_len) != 0)
			continue;
		evfs_view_items_take(&items, i, search->ret);
		search->found = true;
	}
	evfs_view_items_fini(&items);
	return ret;
}

static bool could_be(struct search *search, const char *plain, size_t len,
		     evfs_dot dot)
{
	const char *node =
		evfs_members_node_name(search->meta, dot.actor.node);

	for (int digits = 8; digits <= 32; digits *= 2) {
		char made[EVFS_NAME_MAX + 1];
		size_t made_len = evfs_sibling_name(plain, len, dot, node,
						    digits, false, made);

		if (made_len == search->name_len &&
		    memcmp(made, search->name, made_len) == 0)
			return true;
	}
	return false;
}

static bool was_called(struct search *search, const struct evfs_entry *entry,
		       const char *plain, size_t len)
{
	for (size_t m = 0; m < entry->n_members; m++) {
		const struct evfs_member_link *member = &entry->members[m];

		if (member->n_dots == 0 &&
		    could_be(search, plain, len, member->ino))
			return true;
		for (size_t d = 0; d < member->n_dots; d++)
			if (could_be(search, plain, len, member->dots[d]))
				return true;
	}
	return false;
}

/* What of this group had that name, or would have had it. */
static int try_former(struct search *search, const char *plain, size_t len,
		      struct evfs_view_items *items)
{
	for (size_t i = 0; i < items->n; i++)
		if (items->items[i].entry.kind != EVFS_KIND_DIR &&
		    was_called(search, &items->items[i].entry, plain, len))
			return take_named(search, items, i);
	return 0;
}

static int try_former_at(struct search *search, const char *plain, size_t len)
{
	struct evfs_view_items items = { 0 };
	int ret = evfs_view_items_at(search->meta, search->dir, plain, len,
				     &items, search->err);

	if (ret == 0)
		ret = try_former(search, plain, len, &items);
	evfs_view_items_fini(&items);
	return ret;
}

static int try_long(void *arg, const char *plain, size_t len,
		    const struct evfs_view_rows *rows)
{
	struct search *search = arg;
	struct evfs_view_items items = { 0 };
	int ret;

	if (len < search->prefix ||
	    memcmp(plain, search->name, search->prefix) != 0)
		return 1;
	if (len <= EVFS_VIEW_UNCUT_MAX)
		return 0;
	ret = evfs_view_items_of(search->meta, plain, len, rows, &items,
				 search->err);
	if (ret == 0)
		ret = try_former(search, plain, len, &items);
	evfs_view_items_fini(&items);
	return ret != 0 ? ret : search->found;
}

/* Long plain names whose stem, cut, is what stands before the mark. */
static int search_cut(struct search *search)
{
	int ret = 0;

	if (search->name_len < CUT_LEN_MIN)
		return 0;
	for (size_t i = 1; i + MARK_LEN < search->name_len; i++) {
		if (memcmp(search->name + i, conflict_mark, MARK_LEN) != 0)
			continue;
		search->prefix = i;
		ret = evfs_view_each_name(search->meta, search->dir,
					  search->name, i, try_long, search,
					  search->err);
		if (ret < 0 || search->found)
			return ret < 0 ? ret : 0;
	}
	return 0;
}

static int compare_plains(const void *a, const void *b)
{
	return strcmp(a, b); /* the text comes first; names hold no NUL */
}

static int search_generated(struct search *search)
{
	struct evfs_view_plains plains;
	struct evfs_waiting *waiting = NULL;
	const struct evfs_view_item *item = NULL;
	size_t claims;
	int ret = evfs_view_claimants(search->meta, search->dir, search->name,
				      search->name_len, &plains, &claims,
				      search->err);

	if (ret == 0 && claims == SIZE_MAX) {
		ret = evfs_view_waiting(search->meta, search->dir, &waiting,
					search->err);
		if (ret == 0)
			item = evfs_waiting_find(waiting, search->name,
						 search->name_len);
		if (item != NULL &&
		    evfs_entry_copy(&item->entry, search->ret) != 0)
			ret = evfs_view_no_memory(search->err);
		search->found = ret == 0 && item != NULL;
		evfs_waiting_unref(waiting);
	} else if (ret == 0 && claims > 0) {
		for (size_t i = 0; i < plains.n && ret == 0 && !search->found;
		     i++)
			ret = try_current(search, plains.items[i].text,
					  plains.items[i].len);
	}
	if (ret != 0 || search->found)
		return ret;
	evfs_view_plains(search->name, search->name_len, &plains);
	if (plains.n > 1)
		qsort(plains.items, plains.n, sizeof(plains.items[0]),
		      compare_plains);
	for (size_t i = 0; i < plains.n && ret == 0 && !search->found; i++)
		ret = try_former_at(search, plains.items[i].text,
				    plains.items[i].len);
	return ret != 0 || search->found ? ret : search_cut(search);
}

static int lookup_in(struct evfs_meta *meta, const struct evfs_dir *dir,
		     const char *name, size_t name_len, struct evfs_entry *ret,
		     struct evfs_err *err)
{
	struct search search = { .meta = meta, .dir = dir, .name = name,
				 .name_len = name_len, .ret = ret,
				 .err = err };
	struct evfs_view_items items = { 0 };
	int result = evfs_view_items_at(meta, dir, name, name_len, &items, err);

	if (result == 0 && items.n > 0) {
		evfs_view_items_take(&items, 0, ret);
		search.found = true;
	}
	evfs_view_items_fini(&items);
	if (result == 0 && !search.found &&
	    evfs_view_looks_generated(name, name_len))
		result = search_generated(&search);
	if (result == 0 && !search.found)
		result = not_there(err);
	return result;
}

int evfs_view_lookup(struct evfs_meta *meta, evfs_ino dir, const char *name,
		     size_t name_len, struct evfs_entry *ret,
		     struct evfs_err *err)
{
	struct evfs_dir members = { 0 };
	int result = evfs_view_dir(meta, dir, &members, err);

	if (result == 0 && (name_len == 0 || name_len > EVFS_NAME_MAX))
		result = not_there(err);
	if (result == 0)
		result = lookup_in(meta, &members, name, name_len, ret, err);
	evfs_dir_fini(&members);
	return result;
}

int evfs_view_group(struct evfs_meta *meta, evfs_ino dir, const char *plain,
		    size_t plain_len, struct evfs_entry **ret, size_t *ret_n,
		    struct evfs_err *err)
{
	struct evfs_view_items items = { 0 };
	struct evfs_dir members = { 0 };
	struct evfs_entry *group = NULL;
	int result = evfs_view_dir(meta, dir, &members, err);

	if (result == 0)
		result = evfs_view_items_at(meta, &members, plain, plain_len,
					    &items, err);
	if (result == 0)
		result = evfs_view_name_items(meta, &members, &items, err);
	if (result == 0) {
		group = evfs_calloc(items.n, sizeof(*group));
		if (group == NULL)
			result = evfs_view_no_memory(err);
	}
	if (result == 0) {
		for (size_t i = 0; i < items.n; i++)
			evfs_view_items_take(&items, i, &group[i]);
		*ret = group;
		*ret_n = items.n;
	}
	evfs_view_items_fini(&items);
	evfs_dir_fini(&members);
	return result;
}

void evfs_view_group_free(struct evfs_entry *group, size_t n)
{
	for (size_t i = 0; i < n; i++)
		evfs_entry_fini(&group[i]);
	evfs_free(group);
}

/* ---- by version ---- */

static bool shows(const struct evfs_entry *entry, evfs_ino ino,
		  const evfs_stamp *link, const evfs_dot *dots, size_t n)
{
	for (size_t m = 0; m < entry->n_members; m++) {
		const struct evfs_member_link *member = &entry->members[m];

		if (!evfs_dot_equal(member->ino, ino) ||
		    evfs_stamp_cmp(&member->link, link) != 0)
			continue;
		if (member->n_dots == 0)
			return entry->kind != EVFS_KIND_FILE || n == 0;
		for (size_t i = 0; i < n; i++)
			for (size_t d = 0; d < member->n_dots; d++)
				if (evfs_dot_equal(member->dots[d], dots[i]))
					return true;
	}
	return false;
}

int evfs_view_find(struct evfs_meta *meta, evfs_ino ino,
		   const evfs_stamp *link, const evfs_dot *dots, size_t n,
		   evfs_ino *ret_dir, struct evfs_entry *ret,
		   struct evfs_err *err)
{
	struct evfs_view_items items = { 0 };
	struct evfs_dir members = { 0 };
	const struct evfs_object *object;
	const struct evfs_link *found = NULL;
	size_t at = 0;
	int result = evfs_facts_get(meta->facts, ino, &object, err);

	if (result == 0 && object != NULL)
		found = evfs_object_find_link(object, link);
	if (result == 0 && (found == NULL || object->kind == EVFS_KIND_DIR))
		result = not_there(err);
	if (result == 0)
		result = evfs_view_dir(meta, found->place.parent, &members,
				       err);
	if (result == EVFS_ENOTDIR) /* its parent is none: nothing shows it */
		result = not_there(err);
	if (result == 0)
		result = evfs_view_items_at(meta, &members, found->place.name,
					    found->place.name_len, &items,
					    err);
	while (result == 0 && at < items.n &&
	       !shows(&items.items[at].entry, ino, link, dots, n))
		at++;
	if (result == 0 && at == items.n)
		result = not_there(err);
	if (result == 0)
		result = evfs_view_name_items(meta, &members, &items, err);
	if (result == 0) {
		*ret_dir = members.members[0];
		evfs_view_items_take(&items, at, ret);
	}
	evfs_view_items_fini(&items);
	evfs_dir_fini(&members);
	return result;
}

/* ---- by path ---- */

static int root_entry(struct evfs_meta *meta, struct evfs_entry *ret,
		      struct evfs_err *err)
{
	struct evfs_dir root;
	int result = evfs_view_dir(meta, EVFS_INO_ROOT, &root, err);

	if (result != 0)
		return result;
	memset(ret, 0, sizeof(*ret));
	ret->kind = EVFS_KIND_DIR;
	ret->dir = root;
	return 0;
}

int evfs_view_path(struct evfs_meta *meta, const char *path,
		   struct evfs_entry *ret, struct evfs_err *err)
{
	struct evfs_entry at = { 0 };
	int result;

	if (path[0] != '/')
		return evfs_err_set(err, EVFS_EINVAL, "%s: not an absolute "
				    "path within the volume", path);
	result = root_entry(meta, &at, err);
	while (result == 0) {
		struct evfs_entry next = { 0 };
		size_t len;

		path += strspn(path, "/");
		len = strcspn(path, "/");
		if (len == 0) {
			*ret = at;
			return 0;
		}
		if (at.kind != EVFS_KIND_DIR)
			result = evfs_err_set(err, EVFS_ENOTDIR,
					      "%s: not a directory", at.name);
		else
			result = evfs_view_lookup(meta, at.dir.members[0],
						  path, len, &next, err);
		path += len;
		evfs_entry_fini(&at);
		if (result == 0)
			at = next;
	}
	return result;
}
