/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Random file operations on one replica, by what it shows at that moment:
 * plain names and siblings alike. An operation that fails as it would on any
 * file system is fine; one that fails otherwise is not. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "meta/content.h"
#include "meta/facts.h"
#include "tests/sim/sim.h"

#define ENTRIES_MAX 512

struct item {
	evfs_ino dir; /* it stands in */
	struct evfs_entry entry;
};

/* What is shown: all entries, in the order of a walk. */
struct tree {
	struct item *items; /* owned */
	size_t n, cap;
	evfs_ino dirs[ENTRIES_MAX]; /* the root first */
	size_t n_dirs;
	evfs_ino at; /* being listed */
};

/* ---- contents ---- */

uint8_t *sim_content(uint64_t tag, size_t *ret_len)
{
	/* mostly small; some of one chunk that travels apart, some of many:
	 * as many of these as are needed, for they cost most of the time */
	size_t len = tag % 37 == 0   ? 300000 + (size_t)(tag % 5) * 100000
		     : tag % 11 == 0 ? 66000 + (size_t)(tag % 13) * 3000
				     : (size_t)(tag * 37 % 3000);
	uint64_t z = tag * 0x9e3779b97f4a7c15ULL + 1;
	uint8_t *data = evfs_calloc(len + 8, 1);
	size_t i;

	if (data == NULL)
		abort();
	for (i = 0; i < len; i += 8) {
		z ^= z << 13;
		z ^= z >> 7;
		z ^= z << 17;
		memcpy(data + i, &z, 8);
	}
	*ret_len = len;
	return data;
}

/* A new content, sometimes one that others write too. */
static struct evfs_content_put *put_content(struct sim_replica *r)
{
	struct sim *sim = r->sim;
	uint64_t tag =
		sim_chance(sim, 15) ? 1 + sim_below(sim, 3) : 10 + ++sim->tags;
	struct evfs_content_put *put;
	struct evfs_err err = { 0 };
	size_t len;
	uint8_t *data = sim_content(tag, &len);

	sim_must(sim,
		 evfs_content_write(evfs_meta_content(r->meta), data, len, &put,
				    &err),
		 &err, "content");
	evfs_free(data);
	if (evfs_grow((void **)&sim->contents, sim->n_contents,
		      &sim->cap_contents, sizeof(*sim->contents)) < 0)
		abort();
	sim->contents[sim->n_contents++] = (struct sim_written){
		.name = *evfs_content_put_name(put), .tag = tag
	};
	return put;
}

static void commit_content(struct sim_replica *r, struct evfs_content_put *put,
			   struct evfs_content_ref *ret)
{
	uint64_t wall_ns =
		evfs_meta_env(r->meta)->wall_ns(evfs_meta_env(r->meta)->ctx);
	struct evfs_err err = { 0 };

	*ret = (struct evfs_content_ref){
		.content = *evfs_content_put_name(put),
		.size = evfs_content_put_size(put),
		.mtime_s = (int64_t)(wall_ns / SIM_SECOND),
		.mtime_ns = (uint32_t)(wall_ns % SIM_SECOND),
	};
	sim_must(r->sim,
		 evfs_content_commit(evfs_meta_content(r->meta), put, &err),
		 &err, "content commit");
}

/* ---- looking ---- */

static int each_entry(void *arg, struct evfs_entry *entry)
{
	struct tree *tree = arg;

	if (tree->n >= ENTRIES_MAX)
		return 1;
	if (evfs_grow((void **)&tree->items, tree->n, &tree->cap,
		      sizeof(*tree->items)) < 0)
		abort();
	tree->items[tree->n].dir = tree->at;
	tree->items[tree->n].entry = *entry;
	tree->n++;
	if (entry->kind == EVFS_KIND_DIR && tree->n_dirs < ENTRIES_MAX)
		tree->dirs[tree->n_dirs++] = entry->dir.members[0];
	entry->dir = (struct evfs_dir){ 0 };
	entry->members = NULL;
	entry->n_members = 0;
	return 0;
}

static void look(struct sim_replica *r, struct tree *tree)
{
	struct evfs_err err = { 0 };
	size_t i;

	tree->dirs[tree->n_dirs++] = EVFS_INO_ROOT;
	for (i = 0; i < tree->n_dirs; i++) {
		tree->at = tree->dirs[i];
		sim_must(r->sim,
			 evfs_view_list(r->meta, tree->at, NULL, 0, each_entry,
					tree, &err),
			 &err, "list");
	}
}

static void tree_fini(struct tree *tree)
{
	size_t i;

	for (i = 0; i < tree->n; i++)
		evfs_entry_fini(&tree->items[i].entry);
	evfs_free(tree->items);
}

static struct item *pick(struct sim *sim, struct tree *tree, bool file)
{
	size_t i, start;

	if (tree->n == 0)
		return NULL;
	start = (size_t)sim_below(sim, tree->n);
	for (i = 0; i < tree->n; i++) {
		struct item *item = &tree->items[(start + i) % tree->n];

		if (!file || item->entry.kind == EVFS_KIND_FILE)
			return item;
	}
	return NULL;
}

static struct item *pick_sibling(struct sim *sim, struct tree *tree)
{
	size_t i, start;

	if (tree->n == 0)
		return NULL;
	start = (size_t)sim_below(sim, tree->n);
	for (i = 0; i < tree->n; i++) {
		struct item *item = &tree->items[(start + i) % tree->n];

		if (item->entry.is_sibling)
			return item;
	}
	return NULL;
}

static const char *new_name(struct sim *sim)
{
	static const char *const names[] = { "a",     "b",   "c",
					     "f.txt", ".rc", "g.tar.gz" };

	return names[sim_below(sim, sim->dense ? 2 : 6)];
}

static evfs_ino pick_dir(struct sim *sim, struct tree *tree)
{
	return tree->dirs[sim_below(sim, tree->n_dirs)];
}

/* ---- operations: all with meta locked (content) ---- */

static int op_create(struct sim_replica *r, struct tree *tree,
		     struct evfs_content_put *put, struct evfs_err *err)
{
	const char *name = new_name(r->sim);
	struct evfs_content_ref content;
	struct evfs_new what = { .kind = EVFS_KIND_FILE,
				 .mode = 0644,
				 .content = &content };
	evfs_ino ino;
	evfs_stamp link;

	commit_content(r, put, &content);
	sim_trace(r->sim, "%s create %s", r->name, name);
	return evfs_tree_create(r->meta, pick_dir(r->sim, tree), name,
				strlen(name), &what, &ino, &link, err);
}

static int op_make(struct sim_replica *r, struct tree *tree,
		   struct evfs_err *err)
{
	const char *name = new_name(r->sim);
	struct evfs_new what = { .kind = EVFS_KIND_DIR, .mode = 0755 };
	evfs_ino ino;
	evfs_stamp link;

	if (sim_chance(r->sim, 20)) {
		what.kind = EVFS_KIND_SYMLINK;
		what.target = sim_chance(r->sim, 50) ? "x" : "y/z";
		what.target_len = strlen(what.target);
	}
	sim_trace(r->sim, "%s make kind %d %s", r->name, (int)what.kind, name);
	return evfs_tree_create(r->meta, pick_dir(r->sim, tree), name,
				strlen(name), &what, &ino, &link, err);
}

#define OTHERS 16

/* The versions of a file beside those that a handle has open. */
struct others {
	evfs_ino ino;
	struct {
		evfs_dot dot;
		evfs_hash content;
	} items[OTHERS];
	size_t n;
};

static const struct evfs_object *object_of(struct sim_replica *r, evfs_ino ino)
{
	const struct evfs_object *object = NULL;

	if (evfs_facts_get(evfs_meta_facts(r->meta), ino, &object, NULL) < 0)
		abort();
	return object;
}

static void note_others(struct sim_replica *r, const struct evfs_handle *handle,
			struct others *ret)
{
	const struct evfs_object *object = object_of(r, handle->ino);
	const struct evfs_dots base = { handle->base, handle->n_base };
	size_t i;

	*ret = (struct others){ .ino = handle->ino };
	for (i = 0; i < object->n_versions && ret->n < OTHERS; i++)
		if (!evfs_dots_has(&base, object->versions[i].dot)) {
			ret->items[ret->n].dot = object->versions[i].dot;
			ret->items[ret->n++].content =
				object->versions[i].content;
		}
}

struct sought {
	const evfs_hash *content;
	bool found;
};

static int seek_content(void *arg, const struct evfs_object *object)
{
	struct sought *sought = arg;
	size_t i;

	for (i = 0; i < object->n_versions; i++)
		sought->found |= evfs_object_is_live(object) &&
				 evfs_hash_equal(&object->versions[i].content,
						 sought->content);
	return sought->found;
}

static bool is_content_somewhere(struct sim_replica *r,
				 const evfs_hash *content)
{
	struct sought sought = { .content = content };
	struct evfs_err err = { 0 };

	if (evfs_facts_each(evfs_meta_facts(r->meta), seek_content,
			    &sought, &err) < 0)
		sim_fail(r->sim, "%s: facts: %s", r->name, err.msg);
	return sought.found;
}

/* P3: a write replaces what its writer had open, and nothing beside it. The
 * ledger would believe that the operation meant to end it. Where one of several
 * links goes on by itself, what it showed beside becomes a file of its own. */
static void check_others(struct sim_replica *r, const struct others *others)
{
	const struct evfs_object *object = object_of(r, others->ino);
	size_t i;

	for (i = 0; i < others->n; i++)
		if ((object == NULL ||
		     evfs_object_find_version(object, others->items[i].dot) ==
			     NULL) &&
		    !is_content_somewhere(r, &others->items[i].content))
			sim_fail(r->sim, "P3 a write on %s took another "
					 "content with it", r->name);
}

static int op_write(struct sim_replica *r, struct item *item,
		    struct evfs_content_put *put, struct evfs_err *err)
{
	struct evfs_content_ref content;
	struct evfs_handle handle = { 0 };
	struct others others;
	int rc;

	commit_content(r, put, &content);
	if (item == NULL)
		return EVFS_ENOTFOUND;
	sim_trace(r->sim, "%s write %s", r->name, item->entry.name);
	rc = evfs_tree_open(r->meta, item->dir, &item->entry, &handle, err);
	if (rc < 0)
		return rc;
	note_others(r, &handle, &others);
	rc = evfs_tree_seal(r->meta, &handle, &content, err);
	if (rc == 0)
		check_others(r, &others);
	evfs_tree_close(r->meta, &handle);
	return rc;
}

static int op_rename(struct sim_replica *r, struct tree *tree,
		     struct item *from, struct evfs_err *err)
{
	struct item *over = pick(r->sim, tree, false);
	const char *name = new_name(r->sim);
	evfs_ino dir = pick_dir(r->sim, tree);
	size_t len = strlen(name);
	unsigned flags = 0;

	if (from == NULL)
		return EVFS_ENOTFOUND;
	if (from->entry.is_sibling && sim_chance(r->sim, 50)) {
		dir = from->dir; /* chooses this version */
		name = from->entry.plain;
		len = from->entry.plain_len;
	} else if (sim_chance(r->sim, 30)) {
		dir = over->dir;
		name = over->entry.name;
		len = over->entry.name_len;
	}
	if (sim_chance(r->sim, 10))
		flags = sim_chance(r->sim, 50) ? EVFS_RENAME_NOREPLACE
					       : EVFS_RENAME_EXCHANGE;
	sim_trace(r->sim, "%s rename %s to %.*s flags %u", r->name,
		  from->entry.name, (int)len, name, flags);
	return evfs_tree_rename(r->meta, from->dir, from->entry.name,
				from->entry.name_len, dir, name, len, flags,
				err);
}

static int op_remove(struct sim_replica *r, struct item *item,
		     struct evfs_err *err)
{
	if (item == NULL)
		return EVFS_ENOTFOUND;
	sim_trace(r->sim, "%s remove %s", r->name, item->entry.name);
	if (item->entry.kind == EVFS_KIND_DIR)
		return evfs_tree_rmdir(r->meta, item->dir, item->entry.name,
				       item->entry.name_len, err);
	return evfs_tree_unlink(r->meta, item->dir, item->entry.name,
				item->entry.name_len, err);
}

static int op_link(struct sim_replica *r, struct tree *tree, struct item *item,
		   struct evfs_err *err)
{
	const char *name = new_name(r->sim);

	if (item == NULL)
		return EVFS_ENOTFOUND;
	sim_trace(r->sim, "%s link %s %s", r->name, item->entry.name, name);
	return evfs_tree_link(r->meta, item->dir, &item->entry,
			      pick_dir(r->sim, tree), name, strlen(name), err);
}

static int op_attr(struct sim_replica *r, struct item *item,
		   struct evfs_err *err)
{
	static const uint8_t key[] = "user.k";
	struct evfs_attr attr = { .kind = EVFS_ATTR_MODE };
	uint8_t value = (uint8_t)sim_below(r->sim, 4);

	if (item == NULL)
		return EVFS_ENOTFOUND;
	attr.value.mode = 0600 | (uint32_t)sim_below(r->sim, 0100);
	if (sim_chance(r->sim, 50)) {
		attr.kind = EVFS_ATTR_XATTR;
		attr.key = key;
		attr.key_len = sizeof(key) - 1;
		attr.value.xattr.data = &value;
		attr.value.xattr.len = value > 0;
		attr.value.xattr.removed = value == 0;
	}
	sim_trace(r->sim, "%s attr %d of %s", r->name, (int)attr.kind,
		  item->entry.name);
	return evfs_tree_set_attr(r->meta, item->dir, &item->entry, &attr, err);
}

static int op_open(struct sim_replica *r, struct item *item,
		   struct evfs_err *err)
{
	struct sim_handle *h = &r->handles[sim_below(r->sim, SIM_HANDLES)];
	int rc;

	if (item == NULL || h->open)
		return EVFS_ENOTFOUND;
	memset(h, 0, sizeof(*h));
	rc = evfs_tree_open(r->meta, item->dir, &item->entry, &h->handle, err);
	if (rc < 0)
		return rc;
	h->open = true;
	sim_trace(r->sim, "%s open %s", r->name, item->entry.name);
	return 0;
}

/* A write through a handle that was opened a while ago. */
static int op_seal(struct sim_replica *r, struct evfs_content_put *put,
		   struct evfs_err *err)
{
	struct sim_handle *h = &r->handles[sim_below(r->sim, SIM_HANDLES)];
	struct evfs_content_ref content;
	int rc;

	commit_content(r, put, &content);
	if (!h->open)
		return EVFS_ENOTFOUND;
	sim_trace(r->sim, "%s seal handle of %s%s", r->name, h->handle.name,
		  h->handle.orphan ? " (orphan)" : "");
	rc = evfs_tree_seal(r->meta, &h->handle, &content, err);
	if (rc == 0 && sim_chance(r->sim, 50)) {
		evfs_tree_close(r->meta, &h->handle);
		h->open = false;
	}
	return rc;
}

void sim_close_handles(struct sim_replica *r)
{
	unsigned i;

	evfs_meta_lock(r->meta);
	for (i = 0; i < SIM_HANDLES; i++)
		if (r->handles[i].open) {
			evfs_tree_close(r->meta, &r->handles[i].handle);
			r->handles[i].open = false;
		}
	evfs_meta_unlock(r->meta);
}

void sim_check_handles(struct sim_replica *r)
{
	struct evfs_shown now = { 0 };
	struct evfs_err err = { 0 };
	unsigned i;
	int rc = 0;

	evfs_meta_lock(r->meta);
	for (i = 0; rc == 0 && i < SIM_HANDLES; i++) {
		const struct sim_handle *h = &r->handles[i];

		if (!h->open)
			continue;
		rc = evfs_tree_shown(r->meta, &h->handle, &now, &err);
		if (rc == 0 &&
		    (now.has_version != h->shown.has_version ||
		     now.size != h->shown.size ||
		     !evfs_hash_equal(&now.content, &h->shown.content)))
			sim_fail(r->sim,
				 "P11 %s: a handle shows something "
				 "else than what was opened",
				 r->name);
	}
	evfs_meta_unlock(r->meta);
	sim_must(r->sim, rc, &err, "handle");
}

/* A local operation may carry handles along: two handles of one file see each
 * other's writes. Merges may not. */
static void note_handles(struct sim_replica *r)
{
	struct evfs_err err = { 0 };
	unsigned i;
	int rc = 0;

	for (i = 0; rc == 0 && i < SIM_HANDLES; i++)
		if (r->handles[i].open)
			rc = evfs_tree_shown(r->meta, &r->handles[i].handle,
					     &r->handles[i].shown, &err);
	sim_must(r->sim, rc, &err, "handle");
}

static int choose(struct sim_replica *r, struct tree *tree,
		  struct evfs_content_put *put, struct evfs_err *err)
{
	struct sim *sim = r->sim;
	struct item *any = pick(sim, tree, false);
	struct item *file = pick(sim, tree, true);
	struct item *sibling = pick_sibling(sim, tree);
	uint64_t draw = sim_below(sim, 100);

	if (sibling != NULL && sim_chance(sim, 30)) {
		any = sibling;
		file = sibling->entry.kind == EVFS_KIND_FILE ? sibling : file;
	}
	if (put != NULL) {
		if (draw < 50 || file == NULL)
			return op_create(r, tree, put, err);
		if (draw < 85)
			return op_write(r, file, put, err);
		return op_seal(r, put, err);
	}
	if (sim->dense && tree->n > 0)
		draw = 20 + draw * 45 / 100; /* rename and remove */
	if (tree->n < 3 || draw < 20)
		return op_make(r, tree, err);
	if (draw < 45)
		return op_rename(r, tree, any, err);
	if (draw < 65)
		return op_remove(r, any, err);
	if (draw < 75)
		return op_link(r, tree, any, err);
	if (draw < 90)
		return op_attr(r, any, err);
	return op_open(r, file, err);
}

/* What a file operation may fail with on a plain tree. */
static bool is_ordinary(int rc)
{
	switch (rc) {
	case EVFS_ENOTFOUND:
	case EVFS_EEXISTS:
	case EVFS_ENOTDIR:
	case EVFS_EISDIR:
	case EVFS_ENOTEMPTY:
	case EVFS_EINVAL:
	case EVFS_EPERM:
	case EVFS_EBUSY:
	case EVFS_ELOOP:
	case EVFS_EMLINK:
	case EVFS_ENAMETOOLONG:
		return true;
	default:
		return false;
	}
}

void sim_operation(struct sim_replica *r)
{
	struct sim_snapshot *before = sim_snapshot(r);
	struct evfs_content_put *put = NULL;
	struct tree tree = { 0 };
	struct evfs_err err = { 0 };
	int rc;

	if (sim_chance(r->sim, r->sim->dense ? 30 : 50))
		put = put_content(r);
	evfs_meta_lock_content(r->meta);
	look(r, &tree);
	rc = choose(r, &tree, put, &err);
	note_handles(r);
	evfs_meta_unlock(r->meta);
	r->sim->ops++;
	if (rc < 0) {
		r->sim->failed_ops++;
		sim_trace(r->sim, "%s   failed: %s", r->name,
			  err.msg[0] != '\0' ? err.msg : evfs_err_text(rc));
		if (!is_ordinary(rc))
			sim_fail(r->sim, "P10 an operation on %s failed: %s",
				 r->name, err.msg);
	}
	tree_fini(&tree);
	sim_ledger_record(r, before);
	/* rarely at once, like fsync */
	if (sim_chance(r->sim, 10))
		sim_commit(r);
}
