/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A file node's data. */
#include "fs/file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <string.h>

#include "base/mem.h"
#include "fs/attr.h"
#include "fs/file_work.h"

/* What is sent is checked before it is taken in: damaged a third time means a
 * disk that does not keep what is written. */
#define READS_MAX 3
#define TOLD_NS UINT64_C(1000000000) /* between a time and what it is of */
#define COPY_STEP ((size_t)1 << 20)
#define COPY_BYTES_MAX ((uint64_t)64 << 20) /* for one request */

/* ---- what is not sealed ---- */

void evfs_file_mark_dirty(struct evfs_fs *fs, struct evfs_node *node,
			  uint64_t size)
{
	struct evfs_file *file = node->file;
	uint64_t now = evfs_fs_wall_ns(fs);
	bool was;

	evfs_node_pin_more(fs, node); /* the list's */
	(void)pthread_mutex_lock(&fs->dirty_lock);
	was = file->dirty;
	if (!was) {
		file->dirty = true;
		file->dirty_ns = evfs_fs_mono_ns(fs);
		file->size = file->room = size;
		file->closed_ns = 0;
		file->mtime_s = (int64_t)(now / 1000000000);
		file->mtime_ns = (uint32_t)(now % 1000000000);
		file->dirty_prev = NULL;
		file->dirty_next = fs->dirty_head;
		if (fs->dirty_head)
			fs->dirty_head->file->dirty_prev = node;
		fs->dirty_head = node;
		fs->dirty_count++;
	}
	(void)pthread_mutex_unlock(&fs->dirty_lock);
	if (was)
		evfs_node_unpin(fs, node);
}

void evfs_file_mark_clean(struct evfs_fs *fs, struct evfs_node *node)
{
	struct evfs_file *file = node->file;
	bool was;

	(void)pthread_mutex_lock(&fs->dirty_lock);
	was = file->dirty;
	if (was) {
		file->dirty = file->timed = file->due = false;
		if (file->dirty_prev)
			file->dirty_prev->file->dirty_next = file->dirty_next;
		else
			fs->dirty_head = file->dirty_next;
		if (file->dirty_next)
			file->dirty_next->file->dirty_prev = file->dirty_prev;
		fs->dirty_count--;
	}
	(void)pthread_mutex_unlock(&fs->dirty_lock);
	if (was)
		evfs_node_unpin(fs, node);
}

bool evfs_file_is_dirty(struct evfs_fs *fs, struct evfs_node *node)
{
	bool dirty;

	(void)pthread_mutex_lock(&fs->dirty_lock);
	dirty = node->file->dirty;
	(void)pthread_mutex_unlock(&fs->dirty_lock);
	return dirty;
}

/* The bytes changed now. The kernel keeps a time of its own for that, and tells
 * it by a SETATTR: later, or, where it writes everything back just then, before
 * the request that changes them. So a time of a moment ago stays. */
static void touch(struct evfs_fs *fs, struct evfs_file *file)
{
	uint64_t now = evfs_fs_wall_ns(fs), shown;

	(void)pthread_mutex_lock(&fs->dirty_lock);
	shown = (uint64_t)file->mtime_s * 1000000000 + file->mtime_ns;
	if (file->mtime_s < 0 || shown > now || now - shown > TOLD_NS) {
		file->mtime_s = (int64_t)(now / 1000000000);
		file->mtime_ns = (uint32_t)(now % 1000000000);
	}
	(void)pthread_mutex_unlock(&fs->dirty_lock);
}

bool evfs_file_set_mtime(struct evfs_fs *fs, struct evfs_node *node,
			 int64_t mtime_s, uint32_t mtime_ns)
{
	struct evfs_file *file = node->file;
	bool dirty;

	(void)pthread_mutex_lock(&fs->dirty_lock);
	dirty = file->dirty && !file->timed;
	if (dirty) {
		file->mtime_s = mtime_s;
		file->mtime_ns = mtime_ns;
	}
	(void)pthread_mutex_unlock(&fs->dirty_lock);
	return dirty;
}

void evfs_file_forget_time(struct evfs_fs *fs, struct evfs_node *node)
{
	(void)pthread_mutex_lock(&fs->dirty_lock);
	node->file->timed = false;
	(void)pthread_mutex_unlock(&fs->dirty_lock);
}

/* ---- what is sealed ---- */

/* Keeps a reader for the next read, unless the file was sealed anew or another
 * thread was faster. */
static void keep_reader(struct evfs_node *node, struct evfs_reader *reader,
			size_t n_base, const evfs_dot *base,
			struct evfs_fs *fs)
{
	struct evfs_file *file = node->file;
	bool same;

	(void)pthread_rwlock_wrlock(&file->data);
	evfs_meta_lock(fs->meta);
	same = file->handle.n_base == n_base &&
	       (n_base == 0 || evfs_dot_equal(file->handle.base[0], *base));
	evfs_meta_unlock(fs->meta);
	if (same && !file->reader && !evfs_file_unsealed(file))
		file->reader = evfs_reader_get(reader);
	(void)pthread_rwlock_unlock(&file->data);
}

int evfs_file_reader(struct evfs_fs *fs, fuse_req_t req,
		     struct evfs_node *node, struct evfs_reader **ret,
		     struct evfs_err *err)
{
	struct evfs_content_reader *reader;
	struct evfs_file *file = node->file;
	struct evfs_shown shown = { 0 };
	evfs_dot base = { 0 };
	uint64_t holes = 0;
	size_t n_base;
	int rc;

	evfs_meta_lock(fs->meta);
	rc = evfs_tree_shown(fs->meta, &file->handle, &shown, err);
	if (rc == 0)
		rc = evfs_content_holes(fs->content, &shown.content,
					shown.size, &holes, err);
	n_base = file->handle.n_base;
	if (n_base > 0)
		base = file->handle.base[0];
	evfs_meta_unlock(fs->meta);
	*ret = NULL;
	if (rc != 0 || !shown.has_version || shown.size == 0)
		return rc;
	rc = evfs_wait_open(fs, req, &shown.content, shown.size, &reader, err);
	if (rc != 0)
		return rc;
	*ret = evfs_reader_new(reader, &shown.content, shown.size);
	if (!*ret)
		return evfs_err_set(err, EVFS_ENOMEM, "reader: no memory");
	(*ret)->holes = holes;
	keep_reader(node, *ret, n_base, &base, fs);
	return 0;
}

int evfs_file_source(struct evfs_fs *fs, fuse_req_t req,
		     struct evfs_node *node, bool *ret_work,
		     struct evfs_reader **ret_reader, struct evfs_err *err)
{
	struct evfs_file *file = node->file;

	(void)pthread_rwlock_rdlock(&file->data);
	*ret_work = evfs_file_unsealed(file) != NULL;
	*ret_reader = *ret_work ? NULL : evfs_reader_get(file->reader);
	(void)pthread_rwlock_unlock(&file->data);
	if (*ret_work || *ret_reader)
		return 0;
	return evfs_file_reader(fs, req, node, ret_reader, err);
}

int evfs_file_heal(struct evfs_fs *fs, fuse_req_t req,
		   const struct evfs_reader *damaged, struct evfs_err *err)
{
	struct evfs_content_reader *reader;
	int rc = evfs_wait_open(fs, req, &damaged->content, damaged->size,
				&reader, err);

	if (rc == 0)
		evfs_content_close(reader);
	return rc;
}

int evfs_file_read_sealed(struct evfs_fs *fs, fuse_req_t req,
			  struct evfs_reader *reader, void *data, size_t len,
			  uint64_t offset, size_t *ret_len,
			  struct evfs_err *err)
{
	int rc = 0;

	for (int i = 0; i < READS_MAX; i++) {
		rc = evfs_content_read(reader->reader, data, len, offset,
				       ret_len, err);
		if (rc != EVFS_ECORRUPT)
			break;
		rc = evfs_file_heal(fs, req, reader, err);
		if (rc != 0)
			break;
		rc = EVFS_ECORRUPT;
	}
	return rc;
}

static int read_once(struct evfs_fs *fs, fuse_req_t req,
		     struct evfs_node *node, void *data, size_t len,
		     uint64_t offset, size_t *ret_len,
		     struct evfs_reader **ret_damaged, struct evfs_err *err)
{
	struct evfs_file *file = node->file;
	struct evfs_reader *reader;
	struct evfs_work *work;
	bool has_work;
	int rc;

	for (;;) {
		rc = evfs_file_source(fs, req, node, &has_work, &reader, err);
		if (rc != 0 || !has_work)
			break;
		(void)pthread_rwlock_rdlock(&file->data);
		work = evfs_file_unsealed(file);
		if (work) {
			rc = evfs_work_read(work, data, len, offset, ret_len,
					    err);
			if (rc == EVFS_ECORRUPT)
				*ret_damaged = evfs_work_base(work);
			(void)pthread_rwlock_unlock(&file->data);
			return rc;
		}
		(void)pthread_rwlock_unlock(&file->data); /* just sealed */
	}
	if (rc != 0)
		return rc;
	if (!reader) {
		*ret_len = 0;
		return 0;
	}
	rc = evfs_content_read(reader->reader, data, len, offset, ret_len,
			       err);
	if (rc == EVFS_ECORRUPT)
		*ret_damaged = evfs_steal(reader);
	evfs_reader_put(reader);
	return rc;
}

int evfs_file_read(struct evfs_fs *fs, fuse_req_t req, struct evfs_node *node,
		   void *data, size_t len, uint64_t offset, size_t *ret_len,
		   struct evfs_err *err)
{
	int rc = 0;

	for (int i = 0; i < READS_MAX; i++) {
		struct evfs_reader *damaged = NULL;

		rc = read_once(fs, req, node, data, len, offset, ret_len,
			       &damaged, err);
		if (rc != EVFS_ECORRUPT || !damaged)
			break;
		rc = evfs_file_heal(fs, req, damaged, err);
		evfs_reader_put(damaged);
		if (rc != 0)
			break;
		rc = EVFS_ECORRUPT;
	}
	return rc;
}

/* ---- writing ----
 * After a first operation failed, the copy that was made for it says nothing
 * new: it stays, and its sealing finds nothing to do. */

int evfs_file_write(struct evfs_fs *fs, fuse_req_t req,
		    struct evfs_node *node, const void *data, size_t len,
		    uint64_t offset, bool cached, struct evfs_err *err)
{
	struct evfs_file *file = node->file;
	int rc;

	(void)pthread_mutex_lock(&file->writer);
	rc = evfs_file_work_ready(fs, req, node, false, err);
	if (rc == 0) {
		(void)pthread_rwlock_wrlock(&file->data);
		rc = evfs_work_write(file->work, data, len, offset, err);
		(void)pthread_rwlock_unlock(&file->data);
		evfs_file_publish(fs, file);
		if (!cached)
			touch(fs, file);
	}
	(void)pthread_mutex_unlock(&file->writer);
	return rc;
}

int evfs_file_truncate(struct evfs_fs *fs, fuse_req_t req,
		       struct evfs_node *node, uint64_t size,
		       struct evfs_err *err)
{
	struct evfs_file *file = node->file;
	bool same = false;
	int rc;

	(void)pthread_mutex_lock(&file->writer);
	rc = evfs_file_work_ready(fs, req, node, size == 0, err);
	if (rc == 0) {
		(void)pthread_rwlock_wrlock(&file->data);
		same = size > 0 && evfs_work_size(file->work) == size;
		rc = evfs_work_truncate(file->work, size, err);
		(void)pthread_rwlock_unlock(&file->data);
		evfs_file_publish(fs, file);
		/* The kernel goes on showing its own time where the size
		 * stays; if it means another it tells. */
		if (!same)
			touch(fs, file);
	}
	(void)pthread_mutex_unlock(&file->writer);
	return rc;
}

/* ---- fallocate, seek ---- */

static int allocate(struct evfs_fs *fs, struct evfs_work *work, int mode,
		    uint64_t offset, uint64_t len, struct evfs_err *err)
{
	uint64_t end = offset + len;
	int rc;

	if (mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE))
		rc = evfs_work_zero(work, offset, len, err);
	else /* a promise of space: what is free now must do */
		rc = evfs_workplace_reserve(&fs->place, len, err);
	if (rc == 0 && !(mode & FALLOC_FL_KEEP_SIZE) &&
	    end > evfs_work_size(work))
		rc = evfs_work_truncate(work, end, err);
	return rc;
}

int evfs_file_allocate(struct evfs_fs *fs, fuse_req_t req,
		       struct evfs_node *node, int mode, uint64_t offset,
		       uint64_t len, struct evfs_err *err)
{
	struct evfs_file *file = node->file;
	const int known = FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE |
			  FALLOC_FL_ZERO_RANGE;
	int rc;

	if ((mode & ~known) != 0 || (mode & known) == known ||
	    ((mode & FALLOC_FL_PUNCH_HOLE) && !(mode & FALLOC_FL_KEEP_SIZE)))
		return evfs_err_set(err, EVFS_EUNSUPPORTED,
				    "fallocate mode %#x is not supported",
				    (unsigned)mode);
	if (offset + len > EVFS_FILE_SIZE_MAX)
		return evfs_err_set(err, EVFS_EFBIG, "file too large");
	(void)pthread_mutex_lock(&file->writer);
	rc = evfs_file_work_ready(fs, req, node, false, err);
	if (rc == 0) {
		(void)pthread_rwlock_wrlock(&file->data);
		rc = allocate(fs, file->work, mode, offset, len, err);
		(void)pthread_rwlock_unlock(&file->data);
		evfs_file_publish(fs, file);
		touch(fs, file);
	}
	(void)pthread_mutex_unlock(&file->writer);
	return rc;
}

static int seek_result(uint64_t found, uint64_t offset, uint64_t size,
		       bool hole, uint64_t *ret, struct evfs_err *err)
{
	if (offset >= size || (!hole && found >= size))
		return evfs_err_set(err, EVFS_ERANGE, "beyond the end");
	*ret = found;
	return 0;
}

int evfs_file_seek(struct evfs_fs *fs, fuse_req_t req, struct evfs_node *node,
		   uint64_t offset, bool hole, uint64_t *ret,
		   struct evfs_err *err)
{
	struct evfs_file *file = node->file;
	struct evfs_reader *reader;
	struct evfs_work *work;
	uint64_t size = 0, found = 0;
	int rc;

	(void)pthread_rwlock_rdlock(&file->data);
	work = evfs_file_unsealed(file);
	if (work) {
		size = evfs_work_size(work);
		found = evfs_work_seek(work, offset, hole);
	}
	(void)pthread_rwlock_unlock(&file->data);
	if (work)
		return seek_result(found, offset, size, hole, ret, err);
	rc = evfs_file_reader(fs, req, node, &reader, err);
	if (rc != 0)
		return rc;
	if (reader) {
		size = reader->size;
		if (offset < size)
			found = evfs_content_seek(reader->reader, offset,
						  hole);
	}
	evfs_reader_put(reader);
	return seek_result(found, offset, size, hole, ret, err);
}

/* ---- copy_file_range ---- */

/* The whole of a sealed file into an empty one: nothing is copied. *ret_done
 * false: that is not what is asked. */
static int copy_whole(struct evfs_fs *fs, fuse_req_t req,
		      struct evfs_node *to, struct evfs_reader *reader,
		      uint64_t len, bool *ret_done, struct evfs_err *err)
{
	struct evfs_file *file = to->file;
	int rc = 0;

	*ret_done = false;
	if (!reader || len < reader->size)
		return 0;
	(void)pthread_mutex_lock(&file->writer);
	/* Only an empty new file, or one truncated to nothing. */
	if (evfs_file_is_dirty(fs, to) && file->size == 0)
		rc = evfs_file_work_ready(fs, req, to, true, err);
	if (rc == 0 && file->work && evfs_work_size(file->work) == 0 &&
	    evfs_work_own_bytes(file->work) == 0) {
		(void)pthread_rwlock_wrlock(&file->data);
		rc = evfs_work_adopt(file->work, reader, err);
		(void)pthread_rwlock_unlock(&file->data);
		*ret_done = rc == 0;
		evfs_file_publish(fs, file);
	}
	(void)pthread_mutex_unlock(&file->writer);
	return rc;
}

static int copy_bytes(struct evfs_fs *fs, fuse_req_t req,
		      struct evfs_node *from, uint64_t from_offset,
		      struct evfs_node *to, uint64_t to_offset, uint64_t len,
		      uint64_t *ret_len, struct evfs_err *err)
{
	evfs_cleanup_free uint8_t *buf = evfs_realloc_array(NULL, COPY_STEP, 1);
	uint64_t done = 0;
	size_t got;
	int rc = 0;

	if (!buf)
		return evfs_err_set(err, EVFS_ENOMEM, "copy: no memory");
	while (done < len) {
		size_t want = len - done < COPY_STEP ? (size_t)(len - done) :
						       COPY_STEP;

		rc = evfs_file_read(fs, req, from, buf, want,
				    from_offset + done, &got, err);
		if (rc != 0 || got == 0)
			break;
		rc = evfs_file_write(fs, req, to, buf, got, to_offset + done,
				     false, err);
		if (rc != 0)
			break;
		done += got;
	}
	*ret_len = done;
	return done > 0 ? 0 : rc;
}

int evfs_file_copy(struct evfs_fs *fs, fuse_req_t req, struct evfs_node *from,
		   uint64_t from_offset, struct evfs_node *to,
		   uint64_t to_offset, uint64_t len, uint64_t *ret_len,
		   struct evfs_err *err)
{
	struct evfs_reader *reader = NULL;
	bool has_work, done = false;
	int rc;

	if (from != to && from_offset == 0 && to_offset == 0) {
		rc = evfs_file_source(fs, req, from, &has_work, &reader, err);
		if (rc == 0 && !has_work)
			rc = copy_whole(fs, req, to, reader, len, &done, err);
		if (done)
			*ret_len = reader->size;
		evfs_reader_put(reader);
		if (rc != 0 || done)
			return rc;
	}
	if (len > COPY_BYTES_MAX)
		len = COPY_BYTES_MAX;
	return copy_bytes(fs, req, from, from_offset, to, to_offset, len,
			  ret_len, err);
}
