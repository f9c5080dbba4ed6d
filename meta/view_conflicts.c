/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Open conflicts, found from the clash rows: names with more than one row, or
 * a file of several versions. Files that clash only because their directories
 * are merged have no clash row; but the merged directories have one (two rows
 * of one name), or a row of undone moves, or are lost+found. So these are
 * searched through, and merged directories in them in turn. */
#include "meta/view_priv.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

struct hint {
	evfs_ino dir; /* face of the directory it is in */
	char *name;   /* owned */
};

struct found {
	char *path; /* owned */
	evfs_ino dir;
	size_t name_at; /* where the name starts in path */
};

struct hunt {
	struct evfs_meta *meta;
	struct hint *hints; /* owned; to be looked at */
	size_t n_hints, cap_hints;
	struct evfs_inomap searched; /* faces of merged directories */
	struct found *found; /* owned */
	size_t n_found, cap_found;
	evfs_ino dir; /* being searched through */
	struct evfs_err *err;
};

static int add_hint(struct hunt *hunt, evfs_ino dir, const void *name,
		    size_t name_len)
{
	char *copy = evfs_calloc(1, name_len + 1);

	if (copy == NULL ||
	    evfs_grow((void **)&hunt->hints, hunt->n_hints, &hunt->cap_hints,
		      sizeof(*hunt->hints)) != 0) {
		evfs_free(copy);
		return evfs_view_no_memory(hunt->err);
	}
	memcpy(copy, name, name_len);
	hunt->hints[hunt->n_hints++] = (struct hint){ dir, copy };
	return 0;
}

struct gatherer {
	struct hunt *hunt;
	int ret;
};

static int gather_clash(void *arg, evfs_ino parent, const uint8_t *name,
			size_t name_len)
{
	struct gatherer *gatherer = arg;

	gatherer->ret = add_hint(gatherer->hunt, parent, name, name_len);
	return gatherer->ret != 0;
}

static int gather(struct hunt *hunt)
{
	struct evfs_meta *meta = hunt->meta;
	struct gatherer gatherer = { hunt, 0 };
	int ret = evfs_facts_clashes(meta->facts, gather_clash, &gatherer,
				     hunt->err);

	if (ret == 0)
		ret = gatherer.ret;
	if (ret == 0)
		ret = evfs_view_cycles(meta, hunt->err);
	for (size_t i = 0; ret == 0 && i < meta->view->n_cycles; i++) {
		const struct evfs_cycle_row *row = &meta->view->cycles[i];
		const struct evfs_object *object;

		ret = evfs_facts_get(meta->facts, row->dir, &object,
				     hunt->err);
		if (ret == 0 && object != NULL) {
			const struct evfs_place *place =
				&evfs_object_only_link(object)->place;

			ret = add_hint(hunt, row->shown_in, place->name,
				       place->name_len);
		}
	}
	if (ret == 0 && evfs_view_lost_used(meta))
		ret = add_hint(hunt, EVFS_INO_ROOT, "lost+found", 10);
	return ret;
}

/* "/a/b" of a shown directory, "" for the root; EVFS_ENOTFOUND. */
static int dir_path(struct hunt *hunt, evfs_ino dir, struct evfs_buf *ret)
{
	while (!evfs_ino_is_root(dir)) {
		char name[EVFS_NAME_MAX + 1];
		struct evfs_dir above = { 0 };
		size_t len;
		int result = evfs_view_parent(hunt->meta, dir, &above, name,
					      hunt->err);

		if (result != 0)
			return result;
		dir = above.members[0];
		evfs_dir_fini(&above);
		len = strlen(name);
		if (evfs_buf_reserve(ret, len + 1) == NULL)
			return evfs_view_no_memory(hunt->err);
		memmove(ret->data + len + 1, ret->data, ret->len);
		ret->data[0] = '/';
		memcpy(ret->data + 1, name, len);
		ret->len += len + 1;
	}
	return 0;
}

static int add_found(struct hunt *hunt, evfs_ino dir, const char *name)
{
	struct evfs_buf path = { 0 };
	int ret = dir_path(hunt, dir, &path);
	size_t at = path.len + 1;

	if (ret == 0 &&
	    (evfs_buf_put_u8(&path, '/') != 0 ||
	     evfs_buf_put(&path, name, strlen(name) + 1) != 0 ||
	     evfs_grow((void **)&hunt->found, hunt->n_found, &hunt->cap_found,
		       sizeof(*hunt->found)) != 0))
		ret = evfs_view_no_memory(hunt->err);
	if (ret != 0) {
		evfs_buf_fini(&path);
		return ret;
	}
	hunt->found[hunt->n_found++] =
		(struct found){ (char *)path.data, dir, at };
	return 0;
}

/* Each name that could be a conflict in a merged directory. */
static int look_at_name(void *arg, const char *name, size_t name_len,
			const struct evfs_view_rows *rows)
{
	struct hunt *hunt = arg;

	if (rows->n == 1 && !rows->items[0].multi)
		return 0;
	return add_hint(hunt, hunt->dir, name, name_len);
}

static int search_dir(struct hunt *hunt, const struct evfs_dir *dir)
{
	if (evfs_inomap_get(&hunt->searched, dir->members[0]) != NULL)
		return 0;
	if (evfs_inomap_put(&hunt->searched, dir->members[0], hunt) != 0)
		return evfs_view_no_memory(hunt->err);
	hunt->dir = dir->members[0];
	return evfs_view_each_name(hunt->meta, dir, NULL, 0, look_at_name,
				   hunt, hunt->err);
}

static int look_at_hint(struct hunt *hunt, evfs_ino in, const char *name)
{
	struct evfs_view_items items = { 0 };
	struct evfs_dir dir = { 0 };
	int ret = evfs_view_dir(hunt->meta, in, &dir, hunt->err);

	if (ret == EVFS_ENOTFOUND || ret == EVFS_ENOTDIR)
		return 0; /* not shown: no conflict for anybody */
	if (ret == 0)
		ret = evfs_view_items_at(hunt->meta, &dir, name, strlen(name),
					 &items, hunt->err);
	if (ret == 0 && items.n > 1)
		ret = add_found(hunt, dir.members[0], name);
	if (ret == 0 && items.n > 0 && items.items[0].entry.dir.n > 1)
		ret = search_dir(hunt, &items.items[0].entry.dir);
	evfs_view_items_fini(&items);
	evfs_dir_fini(&dir);
	return ret;
}

static int compare_found(const void *a, const void *b)
{
	return strcmp(((const struct found *)a)->path,
		      ((const struct found *)b)->path);
}

static int tell(struct hunt *hunt,
		int (*each)(void *arg, const char *plain_path,
			    const struct evfs_entry *group, size_t n),
		void *arg)
{
	if (hunt->n_found > 1)
		qsort(hunt->found, hunt->n_found, sizeof(*hunt->found),
		      compare_found);
	for (size_t i = 0; i < hunt->n_found; i++) {
		const struct found *found = &hunt->found[i];
		const char *name = found->path + found->name_at;
		struct evfs_entry *group;
		size_t n;
		int ret;

		if (i > 0 && compare_found(found - 1, found) == 0)
			continue;
		ret = evfs_view_group(hunt->meta, found->dir, name,
				      strlen(name), &group, &n, hunt->err);
		if (ret != 0)
			return ret;
		ret = each(arg, found->path, group, n);
		evfs_view_group_free(group, n);
		if (ret != 0)
			return 0;
	}
	return 0;
}

int evfs_view_conflicts(struct evfs_meta *meta,
			int (*each)(void *arg, const char *plain_path,
				    const struct evfs_entry *group, size_t n),
			void *arg, struct evfs_err *err)
{
	struct hunt hunt = { .meta = meta, .err = err };
	bool simple;
	int ret = evfs_view_is_simple(meta, &simple, err);

	if (ret == 0)
		ret = gather(&hunt);
	for (size_t i = 0; i < hunt.n_hints && ret == 0; i++)
		ret = look_at_hint(&hunt, hunt.hints[i].dir,
				   hunt.hints[i].name);
	if (ret == 0)
		ret = tell(&hunt, each, arg);
	for (size_t i = 0; i < hunt.n_hints; i++)
		evfs_free(hunt.hints[i].name);
	for (size_t i = 0; i < hunt.n_found; i++)
		evfs_free(hunt.found[i].path);
	evfs_free(hunt.hints);
	evfs_free(hunt.found);
	evfs_inomap_fini(&hunt.searched);
	return ret;
}
