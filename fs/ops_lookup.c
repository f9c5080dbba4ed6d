/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Looking up names, attributes, symlink targets; forgetting. */
#include <errno.h>
#include <string.h>
#include <sys/statvfs.h>

#include "fs/attr.h"
#include "fs/evfs_dir.h"
#include "fs/ops.h"
#include "fs/reply.h"
#include "meta/facts.h"

#define SIBLING_MARK ".conflict-"

double evfs_op_timeout(const char *name, size_t len, bool is_sibling)
{
	/* A generated name may come to mean something else, or nothing, with
	 * any change of what it stands beside. */
	if (is_sibling ||
	    memmem(name, len, SIBLING_MARK, sizeof(SIBLING_MARK) - 1))
		return 0;
	return EVFS_FS_FOREVER;
}

int evfs_op_entry(struct evfs_fs *fs, evfs_ino dir,
		  const struct evfs_entry *entry, struct fuse_entry_param *ret,
		  struct evfs_node **ret_node, uint64_t *ret_forget,
		  struct evfs_err *err)
{
	struct evfs_node *node;
	uint64_t id;
	int rc;

	*ret_forget = 0;
	if (ret_node)
		rc = evfs_node_of_entry(fs, dir, entry, &node, err);
	else
		rc = evfs_node_known(fs, dir, entry, &id, &node, err);
	if (rc != 0)
		return rc;
	if (ret_node)
		id = node->id;
	memset(ret, 0, sizeof(*ret));
	ret->ino = id;
	ret->attr_timeout = EVFS_FS_FOREVER;
	ret->entry_timeout = evfs_op_timeout(entry->name, entry->name_len,
					     entry->is_sibling);
	rc = evfs_attr_entry(fs, node, entry, &ret->attr, err);
	if (rc != 0) {
		*ret_forget = id;
		return rc;
	}
	if (ret_node)
		*ret_node = node;
	return 0;
}

void evfs_op_reply_entry(fuse_req_t req, const struct fuse_entry_param *param)
{
	struct evfs_fs *fs = evfs_fs_of(req);

	if (fuse_reply_entry(req, param) != 0 && param->ino != 0)
		evfs_node_forget(fs, param->ino, 1);
}

int evfs_op_dir(fuse_req_t req, fuse_ino_t ino, const char *name,
		struct evfs_node **ret)
{
	struct evfs_fs *fs = evfs_fs_of(req);
	struct evfs_node *node = evfs_node_pin(fs, ino);
	int rc = 0;

	if (!node) {
		evfs_reply_stale(req);
		return EVFS_ENOTFOUND;
	}
	if (node->type == EVFS_NODE_VIRTUAL)
		rc = EVFS_EREADONLY;
	else if (node->type != EVFS_NODE_DIR)
		rc = EVFS_ENOTDIR;
	else if (name && strlen(name) > EVFS_NAME_MAX)
		rc = EVFS_ENAMETOOLONG;
	else if (name && evfs_virtual_is_entry(node, name))
		rc = EVFS_EPERM;
	if (rc != 0) {
		evfs_node_unpin(fs, node);
		evfs_reply(req, rc, NULL);
		return rc;
	}
	*ret = node;
	return 0;
}

/* Nothing of this name, and the kernel may remember that. */
static void reply_absent(fuse_req_t req, const char *name, size_t len)
{
	struct fuse_entry_param param;

	memset(&param, 0, sizeof(param));
	param.entry_timeout = evfs_op_timeout(name, len, false);
	if (param.entry_timeout > 0)
		evfs_op_reply_entry(req, &param);
	else
		evfs_reply(req, EVFS_ENOTFOUND, NULL);
}

static void lookup(fuse_req_t req, struct evfs_node *parent, const char *name)
{
	struct evfs_fs *fs = evfs_fs_of(req);
	struct fuse_entry_param param;
	struct evfs_entry entry = { 0 };
	struct evfs_err err = { 0 };
	size_t len = strlen(name);
	uint64_t forget = 0;
	int rc;

	if (len > EVFS_NAME_MAX) {
		evfs_reply(req, EVFS_ENAMETOOLONG, NULL);
		return;
	}
	evfs_meta_lock(fs->meta);
	rc = evfs_view_lookup(fs->meta, parent->key, name, len, &entry, &err);
	if (rc == 0)
		rc = evfs_op_entry(fs, parent->key, &entry, &param, NULL,
				   &forget, &err);
	evfs_meta_unlock(fs->meta);
	evfs_entry_fini(&entry);
	if (forget != 0)
		evfs_node_forget(fs, forget, 1);
	if (rc == 0) {
		/* It may be another name than the one that was asked for. */
		if (evfs_op_timeout(name, len, false) == 0)
			param.entry_timeout = 0;
		evfs_op_reply_entry(req, &param);
	} else if (rc == EVFS_ENOTFOUND) {
		reply_absent(req, name, len);
	} else {
		evfs_reply(req, rc, &err);
	}
}

void evfs_op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct evfs_fs *fs = evfs_fs_of(req);
	struct evfs_node *node = evfs_node_pin(fs, parent);

	if (!node)
		evfs_reply_stale(req);
	else if (node->type == EVFS_NODE_VIRTUAL ||
		 evfs_virtual_is_entry(node, name))
		evfs_virtual_lookup(req, node, name);
	else if (node->type != EVFS_NODE_DIR)
		evfs_reply(req, EVFS_ENOTDIR, NULL);
	else
		lookup(req, node, name);
	evfs_node_unpin(fs, node);
}

void evfs_op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t nlookup)
{
	evfs_node_forget(evfs_fs_of(req), ino, nlookup);
	fuse_reply_none(req);
}

void evfs_op_forget_multi(fuse_req_t req, size_t count,
			  struct fuse_forget_data *forgets)
{
	struct evfs_fs *fs = evfs_fs_of(req);

	for (size_t i = 0; i < count; i++)
		evfs_node_forget(fs, forgets[i].ino, forgets[i].nlookup);
	fuse_reply_none(req);
}

void evfs_op_getattr(fuse_req_t req, fuse_ino_t ino,
		     struct fuse_file_info *fi)
{
	struct evfs_fs *fs = evfs_fs_of(req);
	struct evfs_node *node = evfs_node_pin(fs, ino);
	struct evfs_err err = { 0 };
	struct stat attr;
	int rc;

	(void)fi;
	if (!node) {
		evfs_reply_stale(req);
		return;
	}
	if (node->type == EVFS_NODE_VIRTUAL) {
		evfs_virtual_getattr(req, node);
		evfs_node_unpin(fs, node);
		return;
	}
	evfs_meta_lock(fs->meta);
	rc = evfs_attr_node(fs, node, &attr, &err);
	evfs_meta_unlock(fs->meta);
	if (rc == 0)
		(void)fuse_reply_attr(req, &attr, EVFS_FS_FOREVER);
	else
		evfs_reply(req, rc, &err);
	evfs_node_unpin(fs, node);
}

void evfs_op_readlink(fuse_req_t req, fuse_ino_t ino)
{
	struct evfs_fs *fs = evfs_fs_of(req);
	struct evfs_node *node = evfs_node_pin(fs, ino);
	const struct evfs_object *object = NULL;
	struct evfs_err err = { 0 };
	char target[EVFS_TARGET_MAX + 1];
	int rc = 0;

	if (!node) {
		evfs_reply_stale(req);
		return;
	}
	evfs_meta_lock(fs->meta);
	if (node->kind != EVFS_KIND_SYMLINK)
		rc = EVFS_EINVAL;
	else
		rc = evfs_facts_get(fs->facts, node->key, &object, &err);
	if (rc == 0 && !object)
		rc = EVFS_ENOTFOUND;
	if (rc == 0) {
		memcpy(target, object->target, object->target_len);
		target[object->target_len] = '\0';
	}
	evfs_meta_unlock(fs->meta);
	if (rc == 0)
		(void)fuse_reply_readlink(req, target);
	else
		evfs_reply(req, rc, &err);
	evfs_node_unpin(fs, node);
}

void evfs_op_statfs(fuse_req_t req, fuse_ino_t ino)
{
	struct evfs_fs *fs = evfs_fs_of(req);
	struct statvfs disk;
	struct evfs_err err = { 0 };

	(void)ino;
	if (statvfs(fs->store, &disk) != 0) {
		evfs_reply(req, evfs_err_sys(&err, errno, "%s", fs->store),
			   &err);
		return;
	}
	disk.f_namemax = EVFS_NAME_MAX;
	(void)fuse_reply_statfs(req, &disk);
}
