/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Names: link, unlink, rmdir, rename. */
#include <string.h>

#include "fs/attr.h"
#include "fs/file.h"
#include "fs/ops.h"
#include "fs/reply.h"
#include "fs/ripple.h"
#include "fs/seal.h"
#include "meta/facts.h"

/* ---- link ---- */

/* Meta locked. What has no content has the time of its first link; that one may
 * go before the others, so from the second on the time is written down. */
static int keep_time(struct evfs_fs *fs, struct evfs_node *node,
		     struct evfs_err *err)
{
	struct evfs_attr attr = { .kind = EVFS_ATTR_TIMES };
	const struct evfs_object *object = NULL;
	struct stat now;
	int rc = evfs_facts_get(fs->facts, node->key, &object, err);

	if (rc != 0 || !object ||
	    evfs_object_find_attr(object, EVFS_ATTR_TIMES, NULL, 0))
		return rc;
	rc = evfs_attr_node(fs, node, &now, err);
	if (rc != 0)
		return rc;
	attr.value.times.mtime_s = now.st_mtim.tv_sec;
	attr.value.times.mtime_ns = (uint32_t)now.st_mtim.tv_nsec;
	attr.value.times.atime_s = now.st_atim.tv_sec;
	attr.value.times.atime_ns = (uint32_t)now.st_atim.tv_nsec;
	return evfs_attr_set(fs, node, &attr, err);
}

/* Meta locked. */
static int link_locked(struct evfs_fs *fs, struct evfs_node *node,
		       struct evfs_node *parent, const char *name,
		       struct stat *ret, struct evfs_err *err)
{
	struct evfs_entry entry = { 0 };
	struct evfs_ripple ripple = { 0 };
	size_t len = strlen(name);
	evfs_ino from_dir;
	int rc;

	evfs_ripple_before(fs, parent->key, NULL, 0, &ripple);
	if (node->file) {
		bool was_sibling = node->file->handle.sibling;

		rc = evfs_tree_link_handle(fs->meta, &node->file->handle, NULL,
					   parent->key, name, len, err);
		if (rc == 0 && was_sibling) {
			evfs_nodes_rekey(fs);
			evfs_ripple_sealed(fs, &node->file->handle, true);
		}
	} else {
		rc = evfs_attr_find(fs, node, &from_dir, &entry, err);
		if (rc == 0)
			rc = evfs_tree_link(fs->meta, from_dir, &entry,
					    parent->key, name, len, err);
		if (rc == 0)
			rc = keep_time(fs, node, err);
		evfs_entry_fini(&entry);
	}
	if (rc != 0)
		return rc;
	evfs_ripple_after(fs, parent->key, name, len, &ripple);
	return evfs_attr_node(fs, node, ret, err);
}

void evfs_op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t new_parent,
		  const char *new_name)
{
	struct evfs_fs *fs = evfs_fs_of(req);
	struct evfs_node *parent, *node;
	struct fuse_entry_param param;
	struct evfs_err err = { 0 };
	int rc = EVFS_EPERM;

	if (evfs_op_dir(req, new_parent, new_name, &parent) != 0)
		return;
	node = evfs_node_pin(fs, ino);
	if (!node) {
		evfs_node_unpin(fs, parent);
		evfs_reply_stale(req);
		return;
	}
	memset(&param, 0, sizeof(param));
	if (node->type == EVFS_NODE_FILE || node->type == EVFS_NODE_OTHER) {
		evfs_meta_lock(fs->meta);
		rc = link_locked(fs, node, parent, new_name, &param.attr,
				 &err);
		evfs_meta_unlock(fs->meta);
	}
	if (rc == 0) {
		evfs_node_look(fs, node);
		param.ino = node->id;
		param.attr_timeout = EVFS_FS_FOREVER;
		param.entry_timeout =
			evfs_op_timeout(new_name, strlen(new_name), false);
		evfs_op_reply_entry(req, &param);
	} else {
		evfs_reply(req, rc, &err);
	}
	evfs_node_unpin(fs, node);
	evfs_node_unpin(fs, parent);
}

/* ---- unlink, rmdir ---- */

static void remove_name(fuse_req_t req, fuse_ino_t parent, const char *name,
			bool is_dir)
{
	struct evfs_fs *fs = evfs_fs_of(req);
	struct evfs_ripple ripple = { 0 };
	struct evfs_err err = { 0 };
	struct evfs_node *node;
	size_t len = strlen(name);
	int rc;

	if (evfs_op_dir(req, parent, name, &node) != 0)
		return;
	evfs_meta_lock(fs->meta);
	evfs_ripple_before(fs, node->key, name, len, &ripple);
	if (is_dir)
		rc = evfs_tree_rmdir(fs->meta, node->key, name, len, &err);
	else
		rc = evfs_tree_unlink(fs->meta, node->key, name, len, &err);
	if (rc == 0) {
		evfs_ripple_after(fs, node->key, name, len, &ripple);
		evfs_op_name_gone(fs, node->id, name, len);
	}
	evfs_meta_unlock(fs->meta);
	evfs_node_unpin(fs, node);
	evfs_reply(req, rc, &err);
}

void evfs_op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	remove_name(req, parent, name, false);
}

void evfs_op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	remove_name(req, parent, name, true);
}

/* ---- rename ---- */

struct renaming {
	struct evfs_fs *fs;
	struct evfs_node *from, *to; /* directories, pinned */
	const char *name, *new_name;
	size_t len, new_len;
	unsigned flags;              /* EVFS_RENAME_... */
};

/* Meta locked. */
static int rename_step(void *arg, struct evfs_err *err)
{
	struct renaming *r = arg;
	struct evfs_ripple ripple = { 0 };
	int rc;

	evfs_ripple_before(r->fs, r->from->key, r->name, r->len, &ripple);
	evfs_ripple_before(r->fs, r->to->key, r->new_name, r->new_len,
			   &ripple);
	rc = evfs_tree_rename(r->fs->meta, r->from->key, r->name, r->len,
			      r->to->key, r->new_name, r->new_len, r->flags,
			      err);
	if (rc != 0)
		return rc;
	evfs_ripple_after(r->fs, r->from->key, r->name, r->len, &ripple);
	evfs_ripple_after(r->fs, r->to->key, r->new_name, r->new_len,
			  &ripple);
	evfs_op_name_gone(r->fs, r->from->id, r->name, r->len);
	return 0;
}

/* The file that is to replace another while it has unsealed bytes: its writer
 * is done, and others must see both steps as one. NULL: no such thing. */
static struct evfs_node *dirty_source(struct renaming *r)
{
	struct evfs_fs *fs = r->fs;
	struct evfs_entry source = { 0 }, target = { 0 };
	struct evfs_node *node = NULL;
	uint64_t dirty;

	(void)pthread_mutex_lock(&fs->dirty_lock);
	dirty = fs->dirty_count;
	(void)pthread_mutex_unlock(&fs->dirty_lock);
	if (dirty == 0 || r->flags != 0)
		return NULL;
	evfs_meta_lock(fs->meta);
	if (evfs_view_lookup(fs->meta, r->to->key, r->new_name, r->new_len,
			     &target, NULL) == 0 &&
	    evfs_view_lookup(fs->meta, r->from->key, r->name, r->len, &source,
			     NULL) == 0 &&
	    source.kind == EVFS_KIND_FILE)
		node = evfs_node_find(fs, &source);
	evfs_meta_unlock(fs->meta);
	evfs_entry_fini(&source);
	evfs_entry_fini(&target);
	if (node && !evfs_file_is_dirty(fs, node)) {
		evfs_node_unpin(fs, node);
		node = NULL;
	}
	return node;
}

void evfs_op_rename(fuse_req_t req, fuse_ino_t parent, const char *name,
		    fuse_ino_t new_parent, const char *new_name,
		    unsigned int flags)
{
	struct renaming r = { .fs = evfs_fs_of(req), .name = name,
			      .len = strlen(name), .new_name = new_name,
			      .new_len = strlen(new_name), .flags = flags };
	struct evfs_err err = { 0 };
	struct evfs_node *source;
	int rc;

	if (evfs_op_dir(req, parent, name, &r.from) != 0)
		return;
	if (evfs_op_dir(req, new_parent, new_name, &r.to) != 0) {
		evfs_node_unpin(r.fs, r.from);
		return;
	}
	if ((flags & ~(unsigned)(EVFS_RENAME_NOREPLACE |
				 EVFS_RENAME_EXCHANGE)) != 0) {
		rc = EVFS_EINVAL;
	} else {
		source = dirty_source(&r);
		rc = evfs_seal_then(r.fs, source, rename_step, &r, &err);
		evfs_node_unpin(r.fs, source);
	}
	evfs_node_unpin(r.fs, r.from);
	evfs_node_unpin(r.fs, r.to);
	evfs_reply(req, rc, &err);
}
