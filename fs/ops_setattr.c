/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Setting attributes. */
#include <sys/stat.h>

#include "base/mem.h"
#include "fs/acl.h"
#include "fs/attr.h"
#include "fs/file.h"
#include "fs/ops.h"
#include "fs/privs.h"
#include "fs/reply.h"

int evfs_op_set_mode(struct evfs_fs *fs, struct evfs_node *node, uint32_t mode,
		     struct evfs_err *err)
{
	struct evfs_attr attr = { .kind = EVFS_ATTR_MODE };
	evfs_cleanup_free uint8_t *copy = NULL;
	const void *acl;
	size_t len;
	int rc;

	attr.value.mode = mode & 07777;
	rc = evfs_attr_set(fs, node, &attr, err);
	if (rc != 0)
		return rc;
	rc = evfs_attr_get_xattr(fs, evfs_attr_object(fs, node),
				 EVFS_ACL_ACCESS, &acl, &len, err);
	if (rc == EVFS_ENODATA)
		return 0;
	if (rc != 0)
		return rc;
	if (!evfs_acl_is_valid(acl, len))
		return 0;
	copy = evfs_memdup(acl, len);
	if (!copy)
		return evfs_err_set(err, EVFS_ENOMEM, "no memory");
	evfs_acl_chmod(copy, len, mode);
	attr = (struct evfs_attr){
		.kind = EVFS_ATTR_XATTR,
		.key = (const uint8_t *)EVFS_ACL_ACCESS,
		.key_len = sizeof(EVFS_ACL_ACCESS) - 1,
	};
	attr.value.xattr.data = copy;
	attr.value.xattr.len = len;
	return evfs_attr_set(fs, node, &attr, err);
}

static int set_owner(struct evfs_fs *fs, struct evfs_node *node,
		     const struct stat *wanted, int to_set,
		     struct evfs_err *err)
{
	struct evfs_attr attr = { .kind = EVFS_ATTR_OWNER };
	struct stat now;
	int rc = evfs_attr_node(fs, node, &now, err);

	if (rc != 0)
		return rc;
	attr.value.owner.uid = to_set & FUSE_SET_ATTR_UID ? wanted->st_uid :
							    now.st_uid;
	attr.value.owner.gid = to_set & FUSE_SET_ATTR_GID ? wanted->st_gid :
							    now.st_gid;
	return evfs_attr_set(fs, node, &attr, err);
}

/* The times as they will be: what is not set stays. */
static void new_times(struct evfs_fs *fs, const struct stat *wanted,
		      int to_set, struct stat *times)
{
	uint64_t wall = evfs_fs_wall_ns(fs);
	const struct timespec now = { (time_t)(wall / 1000000000),
				      (long)(wall % 1000000000) };

	if (to_set & FUSE_SET_ATTR_ATIME_NOW)
		times->st_atim = now;
	else if (to_set & FUSE_SET_ATTR_ATIME)
		times->st_atim = wanted->st_atim;
	if (to_set & FUSE_SET_ATTR_MTIME_NOW)
		times->st_mtim = now;
	else if (to_set & FUSE_SET_ATTR_MTIME)
		times->st_mtim = wanted->st_mtim;
}

static bool is_same_time(struct timespec a, struct timespec b)
{
	return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

static int set_times(struct evfs_fs *fs, struct evfs_node *node,
		     const struct stat *wanted, int to_set,
		     struct evfs_err *err)
{
	struct evfs_attr attr = { .kind = EVFS_ATTR_TIMES };
	struct stat old, now;
	bool dirty = false;
	int rc;

	rc = evfs_attr_node(fs, node, &old, err);
	if (rc != 0)
		return rc;
	now = old;
	new_times(fs, wanted, to_set, &now);
	/* With writeback caching this is also how the kernel tells when it
	 * took the bytes that it hands over: the version will have that. */
	if (node->file && !is_same_time(now.st_mtim, old.st_mtim))
		dirty = evfs_file_set_mtime(fs, node, now.st_mtim.tv_sec,
					    (uint32_t)now.st_mtim.tv_nsec);
	if (is_same_time(now.st_atim, old.st_atim) &&
	    (dirty || is_same_time(now.st_mtim, old.st_mtim)))
		return 0;
	attr.value.times.mtime_s = now.st_mtim.tv_sec;
	attr.value.times.mtime_ns = (uint32_t)now.st_mtim.tv_nsec;
	attr.value.times.atime_s = now.st_atim.tv_sec;
	attr.value.times.atime_ns = (uint32_t)now.st_atim.tv_nsec;
	return evfs_attr_set(fs, node, &attr, err);
}

#define SET_OWNER (FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID)
#define SET_TIMES (FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_MTIME | \
		   FUSE_SET_ATTR_ATIME_NOW | FUSE_SET_ATTR_MTIME_NOW)

/* All registers in one stretch. */
static int set_all(struct evfs_fs *fs, fuse_req_t req, struct evfs_node *node,
		   const struct stat *wanted, int to_set, struct stat *ret,
		   struct evfs_err *err)
{
	int rc;

	evfs_meta_lock(fs->meta);
	rc = evfs_privs_set_attr(fs, req, node, to_set, err);
	if (rc == 0 && (to_set & SET_OWNER))
		rc = set_owner(fs, node, wanted, to_set, err);
	if (rc == 0 && (to_set & FUSE_SET_ATTR_MODE))
		rc = evfs_op_set_mode(fs, node, wanted->st_mode, err);
	if (rc == 0 && (to_set & SET_TIMES))
		rc = set_times(fs, node, wanted, to_set, err);
	if (rc == 0)
		rc = evfs_attr_node(fs, node, ret, err);
	evfs_meta_unlock(fs->meta);
	return rc;
}

void evfs_op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr,
		     int to_set, struct fuse_file_info *fi)
{
	struct evfs_fs *fs = evfs_fs_of(req);
	struct evfs_node *node = evfs_node_pin(fs, ino);
	struct evfs_err err = { 0 };
	struct stat now;
	int rc = 0;

	if (!node) {
		evfs_reply_stale(req);
		return;
	}
	if (node->type == EVFS_NODE_VIRTUAL)
		rc = EVFS_EREADONLY;
	if (rc == 0 && (to_set & FUSE_SET_ATTR_SIZE)) {
		if (!node->file)
			rc = EVFS_EINVAL;
		else
			rc = evfs_file_truncate(fs, req, node,
						(uint64_t)attr->st_size, &err);
	}
	if (rc == 0)
		rc = set_all(fs, req, node, attr, to_set, &now, &err);
	/* truncate(2) of a path has no handle whose end would seal it. */
	if (rc == 0 && (to_set & FUSE_SET_ATTR_SIZE) && !fi)
		rc = evfs_op_truncated(fs, node, (uint64_t)attr->st_size,
				       &err);
	if (rc == 0)
		(void)fuse_reply_attr(req, &now, EVFS_FS_FOREVER);
	else
		evfs_reply(req, rc, &err);
	evfs_node_unpin(fs, node);
}
