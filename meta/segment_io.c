/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Containers: descriptors, reading, scanning, syncing.
 *
 * Syncing. A container goes into the queue of dirty ones after each write to
 * it, before the writer returns; a sync takes as many from the head as there
 * were when it began. So whatever was written before is covered, and a
 * container that is written to meanwhile is in the queue again. A failed
 * fdatasync leaves pages that the kernel calls clean and that never reached the
 * disk; so before the next try everything since the last good sync is read and
 * written again. */
#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "base/mem.h"
#include "meta/content.h"
#include "meta/segment_priv.h"

#define AHEAD (2 << 20) /* bytes fetched before they are read */

static const char *kind_dir(enum evfs_container_kind kind)
{
	return kind == EVFS_CONTAINER_SEGMENT ? "segments" : "blobs";
}

char *evfs_container_path(const struct evfs_containers *set,
			  enum evfs_container_kind kind, uint64_t id)
{
	return evfs_asprintf("%s/%s/%012llu", set->dir, kind_dir(kind),
			     (unsigned long long)id);
}

/* ---- descriptors ---- */

void evfs_container_close_fd_locked(struct evfs_containers *set,
				    struct evfs_container *container)
{
	if (container->fd < 0)
		return;
	assert(container->fd_uses == 0);
	close(container->fd);
	container->fd = -1;
	set->n_open--;
}

/* Closes the one that was not used for the longest time, if any is free. */
static void close_oldest_locked(struct evfs_containers *set)
{
	struct evfs_container *oldest = NULL;

	for (size_t i = 0; i < set->n; i++) {
		struct evfs_container *container = set->all[i];

		if (container->fd >= 0 && container->fd_uses == 0 &&
		    (!oldest || container->fd_time < oldest->fd_time))
			oldest = container;
	}
	if (oldest)
		evfs_container_close_fd_locked(set, oldest);
}

int evfs_container_open_fd_locked(struct evfs_containers *set,
				  struct evfs_container *container,
				  struct evfs_err *err)
{
	evfs_cleanup_free char *path = NULL;

	container->fd_time = ++set->fd_clock;
	if (container->fd >= 0) {
		container->fd_uses++;
		return 0;
	}
	path = evfs_container_path(set, container->kind, container->id);
	if (!path)
		return evfs_err_set(err, EVFS_ENOMEM, "containers: no memory");
	if (set->n_open >= EVFS_CONTAINER_FDS_MAX)
		close_oldest_locked(set);
	container->fd = open(path, O_RDWR | O_CLOEXEC);
	if (container->fd < 0 && (errno == EACCES || errno == EROFS))
		container->fd = open(path, O_RDONLY | O_CLOEXEC);
	if (container->fd < 0 && errno == ENOENT)
		return evfs_err_set(err, EVFS_ECORRUPT,
				    "content: container %llu is gone",
				    (unsigned long long)container->id);
	if (container->fd < 0)
		return evfs_err_sys(err, errno, "content: open container %llu",
				    (unsigned long long)container->id);
	set->n_open++;
	container->fd_uses++;
	return 0;
}

int evfs_container_hold_fd(struct evfs_containers *set,
			   struct evfs_container *container, int *ret,
			   struct evfs_err *err)
{
	int r;

	if (!set->dir) {
		*ret = -1;
		return 0;
	}
	pthread_mutex_lock(&set->mutex);
	r = evfs_container_open_fd_locked(set, container, err);
	if (r == 0)
		*ret = container->fd;
	pthread_mutex_unlock(&set->mutex);
	return r;
}

void evfs_container_release_fd(struct evfs_containers *set,
			       struct evfs_container *container)
{
	pthread_mutex_lock(&set->mutex);
	assert(container->fd_uses > 0);
	container->fd_uses--;
	if (container->fd_uses == 0 && set->n_open > EVFS_CONTAINER_FDS_MAX)
		evfs_container_close_fd_locked(set, container);
	pthread_mutex_unlock(&set->mutex);
}

/* ---- reading ---- */

static int read_memory(struct evfs_containers *set,
		       struct evfs_container *container, void *data,
		       size_t len, uint64_t offset, struct evfs_err *err)
{
	bool there;

	pthread_mutex_lock(&set->mutex);
	there = offset <= container->end && len <= container->end - offset;
	if (there)
		memcpy(data, container->memory + offset, len);
	pthread_mutex_unlock(&set->mutex);
	if (!there)
		return evfs_err_set(err, EVFS_ECORRUPT,
				    "content: container %llu is too short",
				    (unsigned long long)container->id);
	return 0;
}

static int read_fd(int fd, uint64_t id, uint8_t *data, size_t len,
		   uint64_t offset, struct evfs_err *err)
{
	while (len > 0) {
		ssize_t got = pread(fd, data, len, (off_t)offset);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return evfs_err_set(
				err, EVFS_ECORRUPT,
				"content: container %llu at %llu: %s",
				(unsigned long long)id,
				(unsigned long long)offset,
				got < 0 ? strerror(errno) : "too short");
		data += got;
		len -= (size_t)got;
		offset += (uint64_t)got;
	}
	return 0;
}

int evfs_container_read(struct evfs_containers *set,
			struct evfs_container *container, void *data,
			size_t len, uint64_t offset, struct evfs_err *err)
{
	int fd = -1, r;

	if (!set->dir)
		return read_memory(set, container, data, len, offset, err);
	r = evfs_container_hold_fd(set, container, &fd, err);
	if (r < 0)
		return r;
	r = read_fd(fd, container->id, data, len, offset, err);
	evfs_container_release_fd(set, container);
	return r;
}

void evfs_container_stream(struct evfs_containers *set,
			   struct evfs_container *container, uint64_t offset,
			   uint64_t len)
{
	off_t before = (off_t)(offset / AHEAD * AHEAD);
	off_t now = (off_t)((offset + len) / AHEAD * AHEAD);
	int fd = -1;

	if (container->kind != EVFS_CONTAINER_BLOB || !set->dir ||
	    container->end < EVFS_BEHIND_MIN || before == now ||
	    evfs_container_hold_fd(set, container, &fd, NULL) < 0)
		return;
	(void)posix_fadvise(fd, now + AHEAD, AHEAD, POSIX_FADV_WILLNEED);
	(void)posix_fadvise(fd, before, now - before, POSIX_FADV_DONTNEED);
	evfs_container_release_fd(set, container);
}

/* A record header of a chunk that lies before `end`? */
static bool parse_record(const uint8_t *at, uint64_t offset, uint64_t end,
			 struct evfs_record *ret)
{
	if (memcmp(at, "EvCh", 4) != 0)
		return false;
	ret->len = evfs_be32_read(at + 4);
	if (ret->len == 0 || ret->len > EVFS_CHUNK_MAX ||
	    ret->len > end - offset - EVFS_SEGMENT_RECORD)
		return false;
	memcpy(ret->hash.b, at + 8, EVFS_HASH_SIZE);
	ret->offset = offset + EVFS_SEGMENT_RECORD;
	return true;
}

int evfs_container_scan(struct evfs_containers *set,
			struct evfs_container *container, uint64_t *offset,
			struct evfs_record *ret, struct evfs_err *err)
{
	uint64_t at = *offset ? *offset : EVFS_SEGMENT_HEADER;
	uint8_t window[4096];
	uint64_t end;
	int r = evfs_container_size(set, container, &end, err);

	while (r == 0 && at + EVFS_SEGMENT_RECORD <= end) {
		size_t len = end - at < sizeof(window) ? (size_t)(end - at)
						       : sizeof(window);
		size_t i;

		/* The usual case needs one header; only behind a gap is it
		 * searched for. */
		r = evfs_container_read(set, container, window,
					EVFS_SEGMENT_RECORD, at, err);
		if (r < 0)
			return r;
		if (parse_record(window, at, end, ret)) {
			*offset = ret->offset + ret->len;
			return 1;
		}
		r = evfs_container_read(set, container, window, len, at, err);
		if (r < 0)
			return r;
		for (i = 1; i + EVFS_SEGMENT_RECORD <= len; i++)
			if (parse_record(window + i, at + i, end, ret))
				break;
		at += i;
	}
	if (r == 0)
		*offset = end;
	return r;
}

int evfs_container_punch(struct evfs_containers *set,
			 struct evfs_container *container, uint64_t offset,
			 uint64_t len, struct evfs_err *err)
{
	int fd = -1, r;

	r = evfs_container_hold_fd(set, container, &fd, err);
	if (r < 0)
		return r;
	if (fd < 0)
		return evfs_err_set(err, EVFS_EUNSUPPORTED,
				    "content: no holes in memory");
	r = fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		      (off_t)offset, (off_t)len);
	if (r < 0)
		r = errno == EOPNOTSUPP || errno == ENOSYS || errno == EBADF
			? evfs_err_set(err, EVFS_EUNSUPPORTED,
				       "content: punch: not supported")
			: evfs_err_sys(err, errno, "content: punch");
	evfs_container_release_fd(set, container);
	return r;
}

/* ---- write-behind ---- */

/* The length so far; 0: there is nothing to do, or another thread is at it. */
static uint64_t pass_begin(struct evfs_containers *set,
			   struct evfs_container *container, uint64_t offset)
{
	uint64_t end = 0;

	pthread_mutex_lock(&set->mutex);
	if (set->dir && !container->passing && !container->failed &&
	    !container->lost &&
	    evfs_container_open_fd_locked(set, container, NULL) == 0) {
		if (!container->passed) { /* others' bytes are before it */
			container->pass_from = offset;
			container->behind = (struct evfs_behind){ offset,
								  offset };
		}
		container->passing = container->passed = true;
		end = container->end;
	}
	pthread_mutex_unlock(&set->mutex);
	return end;
}

void evfs_container_pass(struct evfs_containers *set,
			 struct evfs_container *container, uint64_t offset)
{
	uint64_t end = pass_begin(set, container, offset);
	bool good;

	if (end == 0)
		return;
	good = evfs_behind(container->fd, &container->behind, end);
	pthread_mutex_lock(&set->mutex);
	container->passing = false;
	container->passes++;
	if (!good)
		container->lost = true;
	container->fd_uses--;
	pthread_cond_broadcast(&set->pass_over);
	pthread_mutex_unlock(&set->mutex);
}

/* ---- syncing ---- */

void evfs_container_mark_dirty_locked(struct evfs_containers *set,
				      struct evfs_container *container)
{
	if (container->dirty || !set->dir)
		return;
	container->dirty = true;
	container->dirty_next = NULL;
	container->pins++;
	if (set->dirty_tail)
		set->dirty_tail->dirty_next = container;
	else
		set->dirty_head = container;
	set->dirty_tail = container;
	set->n_dirty++;
}

/* It is to be removed: out of the queue. */
void evfs_container_unmark_dirty_locked(struct evfs_containers *set,
					struct evfs_container *container)
{
	struct evfs_container *before = NULL;

	if (!container->dirty)
		return;
	for (struct evfs_container *at = set->dirty_head; at != container;
	     at = at->dirty_next)
		before = at;
	if (before)
		before->dirty_next = container->dirty_next;
	else
		set->dirty_head = container->dirty_next;
	if (set->dirty_tail == container)
		set->dirty_tail = before;
	container->dirty = false;
	container->pins--;
	set->n_dirty--;
}

/* The head of the queue; its pin and a hold of its descriptor go to the
 * caller. */
static int take_dirty(struct evfs_containers *set,
		      struct evfs_container **ret, uint64_t *ret_end,
		      uint64_t *ret_passed, struct evfs_err *err)
{
	struct evfs_container *container;
	int r;

	pthread_mutex_lock(&set->mutex);
	container = set->dirty_head;
	if (!container) { /* removed meanwhile */
		pthread_mutex_unlock(&set->mutex);
		return 0;
	}
	r = evfs_container_open_fd_locked(set, container, err);
	if (r == 0) {
		set->dirty_head = container->dirty_next;
		if (!set->dirty_head)
			set->dirty_tail = NULL;
		set->n_dirty--;
		container->dirty = false;
		*ret_passed = container->passed ? container->pass_from
						: container->end;
		container->passed = false;
		*ret_end = container->end;
		*ret = container;
	}
	pthread_mutex_unlock(&set->mutex);
	return r;
}

/* Makes the kernel take everything from `from` as new again. */
static int write_again(int fd, uint64_t id, uint64_t from, uint64_t end,
		       struct evfs_err *err)
{
	evfs_cleanup_free uint8_t *data = evfs_calloc(1, 1u << 20);
	int r = 0;

	if (!data)
		return evfs_err_set(err, EVFS_ENOMEM, "content: no memory");
	while (r == 0 && from < end) {
		size_t len = end - from < (1u << 20) ? (size_t)(end - from)
						     : 1u << 20;

		r = read_fd(fd, id, data, len, from, err);
		if (r == 0)
			r = evfs_io_pwrite(fd, data, len, from, err);
		from += len;
	}
	return r;
}

/* Has the write-behind met an error that fdatasync does not tell any more? One
 * that is under way may be at it now. */
static bool was_lost(struct evfs_containers *set,
		     struct evfs_container *container)
{
	unsigned before;
	bool lost;

	pthread_mutex_lock(&set->mutex);
	before = container->passes;
	while (container->passing && container->passes == before)
		pthread_cond_wait(&set->pass_over, &set->mutex);
	lost = container->lost;
	container->lost = false;
	pthread_mutex_unlock(&set->mutex);
	return lost;
}

static int sync_one(struct evfs_containers *set, struct evfs_err *err)
{
	struct evfs_container *container = NULL;
	uint64_t end = 0, passed = 0;
	int r;

	r = take_dirty(set, &container, &end, &passed, err);
	if (r < 0 || !container)
		return r;
	if (container->failed)
		r = write_again(container->fd, container->id,
				container->synced, end, err);
	if (r == 0 && fdatasync(container->fd) < 0)
		r = evfs_err_sys(err, errno, "content: sync container %llu",
				 (unsigned long long)container->id);
	if (was_lost(set, container) && r == 0)
		r = evfs_err_set(err, EVFS_EIO,
				 "content: write to container %llu",
				 (unsigned long long)container->id);
	if (r == 0 && passed < end)
		(void)posix_fadvise(container->fd, (off_t)passed,
				    (off_t)(end - passed),
				    POSIX_FADV_DONTNEED);
	pthread_mutex_lock(&set->mutex);
	container->fd_uses--;
	container->failed = r < 0;
	if (r < 0)
		evfs_container_mark_dirty_locked(set, container);
	else if (end > container->synced)
		container->synced = end;
	assert(container->pins > 0);
	container->pins--;
	pthread_mutex_unlock(&set->mutex);
	return r;
}

static int sync_dir(struct evfs_containers *set, enum evfs_container_kind kind,
		    struct evfs_err *err)
{
	evfs_cleanup_free char *path = NULL;
	bool dirty;
	int r;

	pthread_mutex_lock(&set->mutex);
	dirty = set->dir_dirty[kind];
	set->dir_dirty[kind] = false;
	pthread_mutex_unlock(&set->mutex);
	if (!dirty)
		return 0;
	path = evfs_asprintf("%s/%s", set->dir, kind_dir(kind));
	r = path ? evfs_io_sync_dir(path, err)
		 : evfs_err_set(err, EVFS_ENOMEM, "content: no memory");
	if (r < 0) {
		pthread_mutex_lock(&set->mutex);
		set->dir_dirty[kind] = true;
		pthread_mutex_unlock(&set->mutex);
	}
	return r;
}

int evfs_containers_sync(struct evfs_containers *set, struct evfs_err *err)
{
	size_t n;
	int r;

	pthread_mutex_lock(&set->mutex);
	n = set->n_dirty;
	pthread_mutex_unlock(&set->mutex);
	while (n-- > 0) {
		r = sync_one(set, err);
		if (r < 0)
			return r;
	}
	if (!set->dir)
		return 0;
	r = sync_dir(set, EVFS_CONTAINER_SEGMENT, err);
	if (r < 0)
		return r;
	return sync_dir(set, EVFS_CONTAINER_BLOB, err);
}

bool evfs_containers_are_synced(struct evfs_containers *set)
{
	bool synced;

	pthread_mutex_lock(&set->mutex);
	synced = set->n_dirty == 0 && !set->dir_dirty[EVFS_CONTAINER_SEGMENT] &&
		 !set->dir_dirty[EVFS_CONTAINER_BLOB];
	pthread_mutex_unlock(&set->mutex);
	return synced;
}

/* ---- the first write ---- */

/* Removes what a crash left: a file without a row holds nothing durable. */
static int sweep_locked(struct evfs_containers *set,
			enum evfs_container_kind kind, struct evfs_err *err)
{
	evfs_cleanup_free char *path =
		evfs_asprintf("%s/%s", set->dir, kind_dir(kind));
	struct dirent *entry;
	DIR *dir;

	if (!path)
		return evfs_err_set(err, EVFS_ENOMEM, "containers: no memory");
	if (mkdir(path, 0700) < 0 && errno != EEXIST)
		return evfs_err_sys(err, errno, "content: mkdir %s",
				    kind_dir(kind));
	dir = opendir(path);
	if (!dir)
		return evfs_err_sys(err, errno, "content: open %s",
				    kind_dir(kind));
	while ((entry = readdir(dir))) {
		char *end;
		unsigned long long id = strtoull(entry->d_name, &end, 10);
		size_t at;

		if (*end || end == entry->d_name || id == 0)
			continue;
		if (id >= set->next_id)
			set->next_id = id + 1;
		at = evfs_containers_search_locked(set, id);
		if (at == set->n || set->all[at]->id != id)
			unlinkat(dirfd(dir), entry->d_name, 0);
	}
	closedir(dir);
	return 0;
}

/* The newest segment, if it is not full: it goes on where the database says it
 * ends. What a crash left behind that is cut off. */
static int continue_last_locked(struct evfs_containers *set,
				struct evfs_err *err)
{
	struct evfs_container *last = NULL;
	struct stat st;
	int r;

	for (size_t i = set->n; i-- > 0 && !last;)
		if (set->all[i]->kind == EVFS_CONTAINER_SEGMENT)
			last = set->all[i];
	if (!last || last->end >= EVFS_SEGMENT_FULL ||
	    last->end < EVFS_SEGMENT_HEADER)
		return 0;
	r = evfs_container_open_fd_locked(set, last, err);
	if (r == EVFS_ECORRUPT)
		return 0; /* its loss is for verify to tell */
	if (r < 0)
		return r;
	last->fd_uses--;
	if (fstat(last->fd, &st) < 0)
		return evfs_err_sys(err, errno, "content: stat segment");
	if ((uint64_t)st.st_size < last->end)
		return 0;
	if ((uint64_t)st.st_size > last->end &&
	    ftruncate(last->fd, (off_t)last->end) < 0)
		return 0; /* read-only or worse: a new one then */
	set->current = last;
	return 0;
}

int evfs_containers_prepare_locked(struct evfs_containers *set,
				   struct evfs_err *err)
{
	int r;

	if (set->dir) {
		if (mkdir(set->dir, 0700) < 0 && errno != EEXIST)
			return evfs_err_sys(err, errno, "content: mkdir");
		r = sweep_locked(set, EVFS_CONTAINER_SEGMENT, err);
		if (r == 0)
			r = sweep_locked(set, EVFS_CONTAINER_BLOB, err);
		if (r == 0)
			r = evfs_io_sync_dir(set->dir, err);
		if (r == 0)
			r = continue_last_locked(set, err);
		if (r < 0)
			return r;
	}
	set->ready = true;
	return 0;
}
