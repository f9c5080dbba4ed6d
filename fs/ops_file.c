/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Open files. A handle that was opened with a message pins its node, and has
 * fi->fh set; one that was opened without (fs/closes.h) has not, and is known
 * by its node alone, which the kernel refers to for as long as it is open. So
 * requests go by node id. */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/mem.h"
#include "fs/evfs_dir.h"
#include "fs/file.h"
#include "fs/notify.h"
#include "fs/ops.h"
#include "fs/privs.h"
#include "fs/reply.h"
#include "fs/seal.h"
#include "fs/writer.h"

#define SPLICE_MIN ((size_t)64 << 10) /* below, copying is cheaper */
#define EXTENTS_MAX 33 /* of a read of 1 MiB in the shortest chunks */

static bool may_write(const struct fuse_file_info *fi)
{
	return (fi->flags & O_ACCMODE) != O_RDONLY;
}

/* The file of a node id, pinned; NULL: the request has been answered. What is
 * generated (fs/evfs_dir.h) can be read only. */
static struct evfs_node *file_of(fuse_req_t req, fuse_ino_t ino)
{
	struct evfs_fs *fs = evfs_fs_of(req);
	struct evfs_node *node = evfs_node_pin(fs, ino);

	if (node && node->file)
		return node;
	if (!node)
		evfs_reply_stale(req);
	else if (node->type == EVFS_NODE_VIRTUAL)
		evfs_reply(req, EVFS_EREADONLY, NULL);
	else
		evfs_reply(req, EVFS_EINVAL, NULL);
	evfs_node_unpin(fs, node);
	return NULL;
}

/* ---- open, release ---- */

static int open_node(struct evfs_fs *fs, fuse_req_t req,
		     struct evfs_node *node, struct fuse_file_info *fi,
		     struct evfs_err *err)
{
	int rc = 0;

	if (!node->file)
		return node->type == EVFS_NODE_DIR ? EVFS_EISDIR : EVFS_EINVAL;
	if (fi->flags & O_TRUNC)
		rc = evfs_file_truncate(fs, req, node, 0, err);
	if (rc == 0 && (fi->flags & O_TRUNC))
		rc = evfs_privs_written(fs, req, node, err);
	if (rc != 0)
		return rc;
	/* A node's bytes change by its own writes only. */
	fi->keep_cache = 1;
	fi->fh = EVFS_FH_REAL;
	evfs_writer_opened(fs, node, may_write(fi));
	return 0;
}

void evfs_op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct evfs_fs *fs = evfs_fs_of(req);
	struct evfs_node *node = evfs_node_pin(fs, ino);
	struct evfs_err err = { 0 };
	bool stale = false;
	int rc;

	if (!node) {
		evfs_reply_stale(req);
		return;
	}
	if (atomic_load(&fs->quiet_opens)) {
		evfs_reply_errno(req, ENOSYS); /* and never again */
		evfs_node_unpin(fs, node);
		return;
	}
	if (node->type == EVFS_NODE_VIRTUAL) {
		evfs_virtual_open(req, node, fi);
		evfs_node_unpin(fs, node);
		return;
	}
	rc = evfs_quorum_open(fs, req, node, &stale, &err);
	if (rc == 0 && stale) {
		/* the kernel looks the name up again, and comes back */
		evfs_reply_stale(req);
		evfs_node_unpin(fs, node);
		return;
	}
	if (rc == 0)
		rc = open_node(fs, req, node, fi, &err);
	if (rc != 0) {
		evfs_reply(req, rc, &err);
	} else if (fuse_reply_open(req, fi) == 0) {
		return; /* the pin is the handle's */
	} else {
		evfs_writer_done(fs, node, may_write(fi));
	}
	evfs_node_unpin(fs, node);
}

void evfs_op_release(fuse_req_t req, fuse_ino_t ino,
		     struct fuse_file_info *fi)
{
	struct evfs_fs *fs = evfs_fs_of(req);
	struct evfs_node *node = fi->fh == EVFS_FH_REAL ?
		evfs_node_pin(fs, ino) : NULL;

	/* Nobody waits for the answer: close(2) has returned. */
	evfs_reply(req, 0, NULL);
	if (!node)
		return;
	evfs_writer_done(fs, node, may_write(fi));
	evfs_node_unpin(fs, node); /* the handle's */
	evfs_node_unpin(fs, node);
}

void evfs_op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct evfs_fs *fs = evfs_fs_of(req);
	struct evfs_node *node;

	if (atomic_load(&fs->quiet_opens)) {
		evfs_reply_errno(req, ENOSYS); /* and never again */
		return;
	}
	if (fi->fh != EVFS_FH_REAL) {
		evfs_reply(req, 0, NULL);
		return;
	}
	node = file_of(req, ino);
	if (!node)
		return;
	evfs_writer_closes(fs, node);
	evfs_reply(req, evfs_seal_error(fs, node), NULL);
	evfs_node_unpin(fs, node);
}

/* Where nobody says who has it open, cutting to nothing may well be the first
 * part of open(2) with O_TRUNC, whose close will be told; so that truncate(2)
 * to nothing waits for the sealer. */
int evfs_op_truncated(struct evfs_fs *fs, struct evfs_node *node,
		      uint64_t size, struct evfs_err *err)
{
	bool open;

	if (size == 0 && atomic_load(&fs->quiet_opens))
		return 0;

	(void)pthread_mutex_lock(&fs->dirty_lock);
	open = node->file->n_writers > 0;
	(void)pthread_mutex_unlock(&fs->dirty_lock);
	return open ? 0 : evfs_seal(fs, node, err);
}

void evfs_op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync,
		   struct fuse_file_info *fi)
{
	struct evfs_fs *fs = evfs_fs_of(req);
	struct evfs_node *node = evfs_node_pin(fs, ino);
	struct evfs_err err = { 0 };
	int rc = 0;

	(void)datasync;
	(void)fi;
	if (node && node->file) {
		rc = evfs_seal_or_keep(fs, node, &err);
		if (rc != 0) /* told now */
			(void)evfs_seal_error(fs, node);
		else
			rc = evfs_seal_error(fs, node);
	}
	if (rc == 0)
		rc = evfs_meta_sync(fs->meta, &err);
	if (rc == 0 && node && node->file)
		rc = evfs_quorum_sync(fs, req, node, &err);
	evfs_reply(req, rc, &err);
	evfs_node_unpin(fs, node);
}

/* ---- read ---- */

/* Extents of a sealed file go from its container to the kernel without passing
 * through here. False: not worth it, or not possible. */
static bool reply_extents(fuse_req_t req, struct evfs_reader *reader,
			  size_t size, uint64_t offset)
{
	struct {
		struct fuse_bufvec vec;
		struct fuse_buf more[EXTENTS_MAX - 1];
	} bufs = { .vec = { .count = 0 } };
	struct fuse_buf *buf = bufs.vec.buf;
	uint64_t fd_offset, len;
	int fd;

	if (offset >= reader->size)
		return false;
	if (size > reader->size - offset)
		size = (size_t)(reader->size - offset);
	if (size < SPLICE_MIN)
		return false;
	while (size > 0) {
		if (bufs.vec.count == EXTENTS_MAX ||
		    evfs_content_extent(reader->reader, offset, size, &fd,
					&fd_offset, &len, NULL) != 0 ||
		    len == 0)
			return false;
		if (len > size)
			len = size;
		buf[bufs.vec.count++] = (struct fuse_buf){
			.size = (size_t)len,
			.flags = FUSE_BUF_IS_FD | FUSE_BUF_FD_SEEK,
			.fd = fd,
			.pos = (off_t)fd_offset,
		};
		offset += len;
		size -= (size_t)len;
	}
	(void)fuse_reply_data(req, &bufs.vec, FUSE_BUF_SPLICE_MOVE);
	return true;
}

static void read_file(fuse_req_t req, struct evfs_node *node, size_t size,
		      off_t offset)
{
	struct evfs_fs *fs = evfs_fs_of(req);
	struct evfs_reader *reader;
	struct evfs_err err = { 0 };
	evfs_cleanup_free char *data = NULL;
	bool has_work, done = false;
	size_t len = 0;
	int rc;

	if (offset == 0 && atomic_load(&fs->quiet_opens))
		evfs_quorum_look(fs, node);
	if (size >= SPLICE_MIN) {
		rc = evfs_file_source(fs, req, node, &has_work, &reader, &err);
		if (rc == 0 && reader)
			done = reply_extents(req, reader, size,
					     (uint64_t)offset);
		if (rc == 0)
			evfs_reader_put(reader);
		if (done)
			return;
	}
	data = evfs_realloc_array(NULL, size, 1);
	rc = data ? evfs_file_read(fs, req, node, data, size,
				   (uint64_t)offset, &len, &err) :
		    EVFS_ENOMEM;
	if (rc == 0)
		(void)fuse_reply_buf(req, data, len);
	else
		evfs_reply(req, rc, &err);
}

void evfs_op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
		  struct fuse_file_info *fi)
{
	struct evfs_fs *fs = evfs_fs_of(req);
	struct evfs_node *node = evfs_node_pin(fs, ino);

	(void)fi;
	if (!node)
		evfs_reply_stale(req);
	else if (node->type == EVFS_NODE_VIRTUAL)
		evfs_virtual_read(req, node, size, offset);
	else if (!node->file)
		evfs_reply(req, EVFS_EINVAL, NULL);
	else
		read_file(req, node, size, offset);
	evfs_node_unpin(fs, node);
}

/* ---- write ---- */

void evfs_op_write(fuse_req_t req, fuse_ino_t ino, const char *buf,
		   size_t size, off_t offset, struct fuse_file_info *fi)
{
	struct evfs_fs *fs = evfs_fs_of(req);
	struct evfs_node *node = file_of(req, ino);
	struct evfs_err err = { 0 };
	int rc;

	if (!node)
		return;
	rc = evfs_file_write(fs, req, node, buf, size, (uint64_t)offset,
			     fi->writepage != 0, &err);
	/* What comes out of the cache is nobody's: the kernel does not cache
	 * what is written to a file with set-ID bits. */
	if (rc == 0 && !fi->writepage)
		rc = evfs_privs_written(fs, req, node, &err);
	if (rc == 0)
		(void)fuse_reply_write(req, size);
	else
		evfs_reply(req, rc, &err);
	evfs_node_unpin(fs, node);
}

void evfs_op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset,
		       off_t length, struct fuse_file_info *fi)
{
	struct evfs_fs *fs = evfs_fs_of(req);
	struct evfs_node *node = file_of(req, ino);
	struct evfs_err err = { 0 };
	int rc;

	(void)fi;
	if (!node)
		return;
	rc = evfs_file_allocate(fs, req, node, mode, (uint64_t)offset,
				(uint64_t)length, &err);
	if (rc == 0)
		rc = evfs_privs_written(fs, req, node, &err);
	evfs_reply(req, rc, &err);
	evfs_node_unpin(fs, node);
}

void evfs_op_copy_file_range(fuse_req_t req, fuse_ino_t ino_in,
			     off_t offset_in, struct fuse_file_info *fi_in,
			     fuse_ino_t ino_out, off_t offset_out,
			     struct fuse_file_info *fi_out, size_t len,
			     int flags)
{
	struct evfs_fs *fs = evfs_fs_of(req);
	struct evfs_node *from = evfs_node_pin(fs, ino_in);
	struct evfs_node *to = evfs_node_pin(fs, ino_out);
	struct evfs_err err = { 0 };
	uint64_t done = 0;
	int rc = EVFS_EUNSUPPORTED; /* by read and write */

	(void)fi_in;
	(void)fi_out;
	(void)flags;
	if (from && to && from->file && to->file)
		rc = evfs_file_copy(fs, req, from, (uint64_t)offset_in, to,
				    (uint64_t)offset_out, len, &done, &err);
	if (rc == 0)
		rc = evfs_privs_written(fs, req, to, &err);
	if (rc == 0)
		(void)fuse_reply_write(req, (size_t)done);
	else
		evfs_reply(req, rc, &err);
	evfs_node_unpin(fs, from);
	evfs_node_unpin(fs, to);
}

/* ---- lseek ---- */

struct lseek_job {
	fuse_req_t req;
	struct evfs_node *node; /* pinned */
	uint64_t offset;
	bool hole;
};

static void lseek_answer(struct evfs_fs *fs, struct lseek_job *job)
{
	struct evfs_err err = { 0 };
	uint64_t found;
	int rc;

	rc = evfs_file_seek(fs, job->req, job->node, job->offset, job->hole,
			    &found, &err);
	if (rc == 0)
		(void)fuse_reply_lseek(job->req, (off_t)found);
	else if (rc == EVFS_ERANGE)
		evfs_reply_errno(job->req, ENXIO);
	else
		evfs_reply(job->req, rc, &err);
	evfs_node_unpin(fs, job->node);
}

static void lseek_flushed_cb(struct evfs_fs *fs, void *arg)
{
	struct lseek_job *job = arg;

	evfs_notify_flush_now(fs, job->node->id);
	lseek_answer(fs, job);
	evfs_free(job);
}

/* With writeback caching the kernel does not hand over its dirty pages before
 * it asks for holes. Where there can be any they are fetched first; by the
 * notify thread, for that must not happen inside a request. */
void evfs_op_lseek(fuse_req_t req, fuse_ino_t ino, off_t offset, int whence,
		   struct fuse_file_info *fi)
{
	struct evfs_fs *fs = evfs_fs_of(req);
	struct lseek_job job = { .req = req, .offset = (uint64_t)offset,
				 .hole = whence == SEEK_HOLE };
	struct lseek_job *later;
	bool writers;

	(void)fi;
	if (whence != SEEK_HOLE && whence != SEEK_DATA) {
		evfs_reply(req, EVFS_EINVAL, NULL);
		return;
	}
	job.node = file_of(req, ino);
	if (!job.node)
		return;
	(void)pthread_mutex_lock(&fs->dirty_lock);
	writers = job.node->file->n_writers > 0 ||
		  atomic_load(&fs->quiet_opens);
	(void)pthread_mutex_unlock(&fs->dirty_lock);
	later = writers ? evfs_memdup(&job, sizeof(job)) : NULL;
	if (!later)
		lseek_answer(fs, &job);
	else if (evfs_notify_call(fs, lseek_flushed_cb, later) != 0) {
		lseek_answer(fs, &job);
		evfs_free(later);
	}
}
