/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Set-ID bits. When they go, and how the kernel (6.18) tells:
 *
 *   write(2)     the caller lacks CAP_FSETID: a WRITE that is not out of the
 *                cache, and before it a SETATTR that sets nothing
 *   fallocate(2), copy_file_range(2): likewise
 *   truncate(2)  likewise: a SETATTR of the size
 *   open(2) with O_TRUNC: likewise, OPEN
 *   chown(2)     always: a SETATTR of the owner, or, where that stays the same,
 *                one that sets nothing, which nobody has checked
 *
 * Messages carry a flag for it, which libfuse does not hand on; who is not root
 * is taken to lack the capability. There are no capabilities of files here. */
#include "fs/privs.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <stddef.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/log.h"
#include "fs/attr.h"
#include "fs/notify.h"
#include "fs/ops.h"

/* ---- what is agreed ---- */

#ifdef FUSE_CAP_HANDLE_KILLPRIV_V2

void evfs_privs_agree(struct evfs_fs *fs, struct fuse_conn_info *conn)
{
	(void)fs;
	conn->want |= conn->capable & FUSE_CAP_HANDLE_KILLPRIV_V2;
}

#else /* libfuse before 3.17 knows no such flag: it is put into its answer */

/* The next thing that this thread sends is the answer to INIT. */
static _Thread_local bool is_init;

static ssize_t io_writev(int fd, struct iovec *iov, int count, void *arg)
{
	(void)arg;
	if (is_init) {
		is_init = false;
		if (count > 1 && iov[1].iov_len >=
		    offsetof(struct fuse_init_out, max_background)) {
			struct fuse_init_out *out = iov[1].iov_base;

			out->flags |= FUSE_HANDLE_KILLPRIV_V2;
		}
	}
	return writev(fd, iov, count);
}

static ssize_t io_read(int fd, void *data, size_t len, void *arg)
{
	(void)arg;
	return read(fd, data, len);
}

static ssize_t io_splice(int from, off_t *from_offset, int to,
			 off_t *to_offset, size_t len, unsigned flags,
			 void *arg)
{
	(void)arg;
	return splice(from, from_offset, to, to_offset, len, flags);
}

void evfs_privs_agree(struct evfs_fs *fs, struct fuse_conn_info *conn)
{
	static const struct fuse_custom_io io = {
		.writev = io_writev,
		.read = io_read,
		.splice_receive = io_splice,
		.splice_send = io_splice,
	};

	if (conn->proto_minor < 33) /* the kernel knows it from then on */
		return;
	if (fuse_session_custom_io(fs->se, &io, fuse_session_fd(fs->se)) != 0) {
		evfs_log(EVFS_LOG_WARN, "the kernel will ask before each "
					"write: no memory");
		return;
	}
	is_init = true;
}

#endif

/* ---- taking them away ---- */

static bool is_root(fuse_req_t req)
{
	return fuse_req_ctx(req)->uid == 0;
}

static bool is_lost(fuse_req_t req, const struct stat *now, int to_set)
{
	if (to_set & FUSE_SET_ATTR_MODE) /* which says what is left */
		return false;
	if (to_set & (FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID))
		return true;
	if (to_set & FUSE_SET_ATTR_SIZE)
		return !is_root(req);
	/* Another than the owner may only do it by writing: see there. */
	return (to_set & ~(FUSE_SET_ATTR_CTIME | FUSE_SET_ATTR_FORCE)) == 0 &&
	       (is_root(req) || fuse_req_ctx(req)->uid == now->st_uid);
}

/* Meta locked. *ret_changed: some were there. */
static int drop(struct evfs_fs *fs, fuse_req_t req, struct evfs_node *node,
		const struct stat *now, bool *ret_changed,
		struct evfs_err *err)
{
	mode_t mode = now->st_mode & 07777;
	int rc;

	if ((mode & S_ISGID) &&
	    ((mode & S_IXGRP) ||
	     (!is_root(req) && !evfs_op_is_in_group(req, now->st_gid))))
		mode &= ~(mode_t)S_ISGID;
	mode &= ~(mode_t)S_ISUID;
	*ret_changed = false;
	if (mode == (now->st_mode & 07777))
		return 0;
	rc = evfs_op_set_mode(fs, node, mode, err);
	*ret_changed = rc == 0;
	return rc;
}

int evfs_privs_set_attr(struct evfs_fs *fs, fuse_req_t req,
			struct evfs_node *node, int to_set,
			struct evfs_err *err)
{
	struct stat now;
	bool changed; /* the answer tells */
	int rc;

	if (node->type == EVFS_NODE_DIR)
		return 0;
	rc = evfs_attr_node(fs, node, &now, err);
	if (rc != 0 || !is_lost(req, &now, to_set))
		return rc;
	return drop(fs, req, node, &now, &changed, err);
}

int evfs_privs_written(struct evfs_fs *fs, fuse_req_t req,
		       struct evfs_node *node, struct evfs_err *err)
{
	evfs_ino ino = EVFS_INO_NONE;
	bool changed = false;
	struct stat now;
	int rc;

	if (is_root(req))
		return 0;
	evfs_meta_lock(fs->meta);
	rc = evfs_attr_node(fs, node, &now, err);
	if (rc == 0)
		rc = drop(fs, req, node, &now, &changed, err);
	if (changed)
		ino = node->file->handle.ino;
	evfs_meta_unlock(fs->meta);
	if (changed) {
		evfs_notify_attr_now(fs, node->id); /* before the answer */
		evfs_notify_attr(fs, ino);
	}
	return rc;
}
