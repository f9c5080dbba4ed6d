/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Extended attributes: user.* and the two POSIX ACLs. */
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "base/buf.h"
#include "base/mem.h"
#include "fs/acl.h"
#include "fs/attr.h"
#include "fs/ops.h"
#include "fs/reply.h"
#include "meta/facts.h"

#define USER_PREFIX "user."
#define GROUPS_MAX 256

static bool is_acl(const char *name)
{
	return strcmp(name, EVFS_ACL_ACCESS) == 0 ||
	       strcmp(name, EVFS_ACL_DEFAULT) == 0;
}

/* Do we keep attributes of this name? */
static int check_name(const char *name, struct evfs_err *err)
{
	size_t len = strlen(name);

	if (len > EVFS_XATTR_NAME_MAX)
		return evfs_err_set(err, EVFS_ERANGE, "name too long");
	if (strcmp(name, USER_PREFIX) == 0)
		return evfs_err_set(err, EVFS_EINVAL, "no name");
	if (is_acl(name) ||
	    strncmp(name, USER_PREFIX, sizeof(USER_PREFIX) - 1) == 0)
		return 0;
	return evfs_err_set(err, EVFS_EUNSUPPORTED,
			    "only user.* attributes and POSIX ACLs are kept");
}

/* ---- reading ---- */

/* The answer to a question for a value or a list: its size, or all of it. */
static void reply_value(fuse_req_t req, const void *data, size_t len,
			size_t size)
{
	if (size == 0)
		(void)fuse_reply_xattr(req, len);
	else if (len > size)
		evfs_reply(req, EVFS_ERANGE, NULL);
	else
		(void)fuse_reply_buf(req, data, len);
}

void evfs_op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name,
		      size_t size)
{
	struct evfs_fs *fs = evfs_fs_of(req);
	struct evfs_node *node;
	struct evfs_err err = { 0 };
	evfs_cleanup_free void *copy = NULL;
	const void *value;
	size_t len = 0;
	int rc;

	/* Asked before many a write: no lock, no table. */
	if (strcmp(name, "security.capability") == 0) {
		evfs_reply(req, EVFS_ENODATA, NULL);
		return;
	}
	rc = check_name(name, &err);
	if (rc != 0) {
		evfs_reply(req, rc, &err);
		return;
	}
	node = evfs_node_pin(fs, ino);
	if (!node) {
		evfs_reply_stale(req);
		return;
	}
	rc = EVFS_ENODATA;
	if (node->type != EVFS_NODE_VIRTUAL) {
		evfs_meta_lock(fs->meta);
		rc = evfs_attr_get_xattr(fs, evfs_attr_object(fs, node), name,
					 &value, &len, &err);
		if (rc == 0) {
			copy = evfs_memdup(value, len);
			if (!copy)
				rc = EVFS_ENOMEM;
		}
		evfs_meta_unlock(fs->meta);
	}
	evfs_node_unpin(fs, node);
	if (rc == 0)
		reply_value(req, copy, len, size);
	else
		evfs_reply(req, rc, &err);
}

/* Meta locked. */
static int list_names(struct evfs_fs *fs, struct evfs_node *node,
		      struct evfs_buf *out, struct evfs_err *err)
{
	const struct evfs_object *object;
	int rc;

	rc = evfs_facts_get(fs->facts, evfs_attr_object(fs, node), &object,
			    err);
	for (size_t i = 0; rc == 0 && object && i < object->n_attrs; i++) {
		const struct evfs_attr *attr = &object->attrs[i];

		if (attr->kind != EVFS_ATTR_XATTR || attr->value.xattr.removed)
			continue;
		rc = evfs_buf_put(out, attr->key, attr->key_len);
		if (rc == 0)
			rc = evfs_buf_put_u8(out, 0);
	}
	return rc;
}

void evfs_op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
	struct evfs_fs *fs = evfs_fs_of(req);
	struct evfs_node *node = evfs_node_pin(fs, ino);
	struct evfs_err err = { 0 };
	struct evfs_buf names = { 0 };
	int rc = 0;

	if (!node) {
		evfs_reply_stale(req);
		return;
	}
	if (node->type != EVFS_NODE_VIRTUAL) {
		evfs_meta_lock(fs->meta);
		rc = list_names(fs, node, &names, &err);
		evfs_meta_unlock(fs->meta);
	}
	evfs_node_unpin(fs, node);
	if (rc == 0)
		reply_value(req, names.data, names.len, size);
	else
		evfs_reply(req, rc, &err);
	evfs_buf_fini(&names);
}

/* ---- writing ---- */

bool evfs_op_is_in_group(fuse_req_t req, gid_t gid)
{
	const struct fuse_ctx *ctx = fuse_req_ctx(req);
	gid_t groups[GROUPS_MAX];
	int n;

	if (ctx->uid == 0 || ctx->gid == gid)
		return true;
	n = fuse_req_getgroups(req, GROUPS_MAX, groups);
	for (int i = 0; i < n && i < GROUPS_MAX; i++)
		if (groups[i] == gid)
			return true;
	return false;
}

/* Meta locked. The mode follows an access ACL. *ret_minimal: the mode says all
 * of it, so that the attribute is not needed. */
static int mode_follows(fuse_req_t req, struct evfs_node *node,
			const char *value, size_t size, bool *ret_minimal,
			struct evfs_err *err)
{
	struct evfs_fs *fs = evfs_fs_of(req);
	struct evfs_attr attr = { .kind = EVFS_ATTR_MODE };
	struct stat now;
	uint32_t mode;
	int rc;

	rc = evfs_attr_node(fs, node, &now, err);
	if (rc != 0)
		return rc;
	mode = ((uint32_t)now.st_mode & 07000) |
	       evfs_acl_mode(value, size, ret_minimal);
	if ((mode & S_ISGID) && !S_ISDIR(now.st_mode) &&
	    !evfs_op_is_in_group(req, now.st_gid))
		mode &= ~(uint32_t)S_ISGID;
	if (mode == ((uint32_t)now.st_mode & 07777))
		return 0;
	attr.value.mode = mode;
	return evfs_attr_set(fs, node, &attr, err);
}

/* Meta locked. */
static int set_locked(fuse_req_t req, struct evfs_node *node, const char *name,
		      const char *value, size_t size, int flags,
		      struct evfs_err *err)
{
	struct evfs_fs *fs = evfs_fs_of(req);
	struct evfs_attr attr = { .kind = EVFS_ATTR_XATTR,
				  .key = (const uint8_t *)name,
				  .key_len = strlen(name) };
	bool minimal = false, exists;
	const void *old;
	size_t old_len;
	int rc;

	rc = evfs_attr_get_xattr(fs, evfs_attr_object(fs, node), name, &old,
				 &old_len, NULL);
	if (rc != 0 && rc != EVFS_ENODATA)
		return rc;
	exists = rc == 0;
	if (exists && (flags & XATTR_CREATE))
		return evfs_err_set(err, EVFS_EEXISTS, "attribute exists");
	if (!exists && (flags & XATTR_REPLACE))
		return evfs_err_set(err, EVFS_ENODATA, "no such attribute");
	if (is_acl(name) && !evfs_acl_is_valid(value, size))
		return evfs_err_set(err, EVFS_EINVAL, "not an ACL");
	if (strcmp(name, EVFS_ACL_ACCESS) == 0) {
		rc = mode_follows(req, node, value, size, &minimal, err);
		if (rc != 0)
			return rc;
	}
	if (minimal && !exists)
		return 0;
	attr.value.xattr.removed = minimal;
	attr.value.xattr.data = minimal ? NULL : (const uint8_t *)value;
	attr.value.xattr.len = minimal ? 0 : size;
	return evfs_attr_set(fs, node, &attr, err);
}

void evfs_op_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name,
		      const char *value, size_t size, int flags)
{
	struct evfs_fs *fs = evfs_fs_of(req);
	struct evfs_node *node = evfs_node_pin(fs, ino);
	struct evfs_err err = { 0 };
	int rc;

	if (!node) {
		evfs_reply_stale(req);
		return;
	}
	rc = check_name(name, &err);
	if (rc == 0 && size > EVFS_XATTR_VALUE_MAX)
		rc = evfs_err_set(&err, EVFS_ENOSPACE, "value too large");
	if (rc == 0 && node->type == EVFS_NODE_VIRTUAL)
		rc = EVFS_EREADONLY;
	if (rc == 0) {
		evfs_meta_lock(fs->meta);
		rc = set_locked(req, node, name, value, size, flags, &err);
		evfs_meta_unlock(fs->meta);
	}
	evfs_node_unpin(fs, node);
	evfs_reply(req, rc, &err);
}

void evfs_op_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name)
{
	struct evfs_fs *fs = evfs_fs_of(req);
	struct evfs_node *node = evfs_node_pin(fs, ino);
	struct evfs_attr attr = { .kind = EVFS_ATTR_XATTR,
				  .key = (const uint8_t *)name,
				  .key_len = strlen(name) };
	struct evfs_err err = { 0 };
	const void *old;
	size_t old_len;
	int rc;

	if (!node) {
		evfs_reply_stale(req);
		return;
	}
	rc = check_name(name, &err);
	if (rc == 0 && node->type == EVFS_NODE_VIRTUAL)
		rc = EVFS_EREADONLY;
	if (rc == 0) {
		evfs_meta_lock(fs->meta);
		rc = evfs_attr_get_xattr(fs, evfs_attr_object(fs, node), name,
					 &old, &old_len, &err);
		attr.value.xattr.removed = true;
		if (rc == 0)
			rc = evfs_attr_set(fs, node, &attr, &err);
		evfs_meta_unlock(fs->meta);
	}
	evfs_node_unpin(fs, node);
	evfs_reply(req, rc, &err);
}
