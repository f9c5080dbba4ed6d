/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Containers: the list of them, pins, appending and adopting. */
#include "meta/segment.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/io.h"
#include "base/mem.h"
#include "meta/segment_priv.h"

#define SEGMENT_VERSION 1u

int evfs_containers_new(const char *dir, const struct evfs_env *env,
			struct evfs_containers **ret, struct evfs_err *err)
{
	struct evfs_containers *set = evfs_calloc(1, sizeof(*set));

	if (!set)
		return evfs_err_set(err, EVFS_ENOMEM, "containers: no memory");
	if (dir) {
		set->dir = evfs_strdup(dir);
		if (!set->dir) {
			evfs_free(set);
			return evfs_err_set(err, EVFS_ENOMEM,
					    "containers: no memory");
		}
	}
	pthread_mutex_init(&set->mutex, NULL);
	pthread_cond_init(&set->pass_over, NULL);
	set->env = env;
	set->next_id = 1;
	*ret = set;
	return 0;
}

/* By anybody but the queue for the next sync? */
static bool is_needed_locked(const struct evfs_container *container)
{
	return container->pins > (container->dirty ? 1u : 0u);
}

void evfs_containers_free(struct evfs_containers *set)
{
	if (!set)
		return;
	while (set->n > 0) {
		struct evfs_container *last = set->all[set->n - 1];

		/* Whoever reads or writes content is done before. */
		assert(!is_needed_locked(last));
		evfs_containers_forget_locked(set, set->n - 1);
	}
	pthread_cond_destroy(&set->pass_over);
	pthread_mutex_destroy(&set->mutex);
	evfs_free(set->all);
	evfs_free(set->dir);
	evfs_free(set);
}

size_t evfs_containers_search_locked(const struct evfs_containers *set,
				     uint64_t id)
{
	size_t low = 0, high = set->n;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (set->all[middle]->id < id)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static struct evfs_container *find_locked(const struct evfs_containers *set,
					  uint64_t id)
{
	size_t at = evfs_containers_search_locked(set, id);

	return at < set->n && set->all[at]->id == id ? set->all[at] : NULL;
}

int evfs_containers_insert_locked(struct evfs_containers *set, uint64_t id,
				  enum evfs_container_kind kind, uint64_t end,
				  struct evfs_container **ret,
				  struct evfs_err *err)
{
	struct evfs_container *container = evfs_calloc(1, sizeof(*container));
	size_t at = evfs_containers_search_locked(set, id);
	void *items = set->all;

	if (!container ||
	    evfs_grow(&items, set->n, &set->cap, sizeof(*set->all)) < 0) {
		evfs_free(container);
		return evfs_err_set(err, EVFS_ENOMEM, "containers: no memory");
	}
	set->all = items;
	container->id = id;
	container->kind = kind;
	container->end = end;
	container->fd = -1;
	memmove(&set->all[at + 1], &set->all[at],
		(set->n - at) * sizeof(*set->all));
	set->all[at] = container;
	set->n++;
	if (id >= set->next_id)
		set->next_id = id + 1;
	*ret = container;
	return 0;
}

void evfs_containers_forget_locked(struct evfs_containers *set, size_t at)
{
	struct evfs_container *container = set->all[at];

	if (set->current == container)
		set->current = NULL;
	evfs_container_unmark_dirty_locked(set, container);
	evfs_container_close_fd_locked(set, container);
	evfs_free(container->memory);
	evfs_free(container);
	set->n--;
	memmove(&set->all[at], &set->all[at + 1],
		(set->n - at) * sizeof(*set->all));
}

int evfs_containers_add(struct evfs_containers *set, uint64_t id,
			enum evfs_container_kind kind, uint64_t bytes,
			struct evfs_err *err)
{
	struct evfs_container *container;
	int r = 0;

	pthread_mutex_lock(&set->mutex);
	if (!find_locked(set, id)) {
		r = evfs_containers_insert_locked(set, id, kind, bytes,
						  &container, err);
		if (r == 0)
			container->synced = bytes;
	}
	pthread_mutex_unlock(&set->mutex);
	return r;
}

void evfs_containers_cut(struct evfs_containers *set, uint64_t id,
			 uint64_t bytes)
{
	struct evfs_container *container;

	pthread_mutex_lock(&set->mutex);
	container = find_locked(set, id);
	if (container && !set->dir && !is_needed_locked(container) &&
	    bytes < container->end)
		container->end = bytes;
	pthread_mutex_unlock(&set->mutex);
}

uint64_t evfs_container_id(const struct evfs_container *container)
{
	return container->id;
}

enum evfs_container_kind
evfs_container_kind(const struct evfs_container *container)
{
	return container->kind;
}

int evfs_container_size(struct evfs_containers *set,
			const struct evfs_container *container, uint64_t *ret,
			struct evfs_err *err)
{
	evfs_cleanup_free char *path = NULL;
	struct stat st;

	if (container->kind == EVFS_CONTAINER_SEGMENT) {
		pthread_mutex_lock(&set->mutex);
		*ret = container->end;
		pthread_mutex_unlock(&set->mutex);
		return 0;
	}
	path = evfs_container_path(set, container->kind, container->id);
	if (!path)
		return evfs_err_set(err, EVFS_ENOMEM, "containers: no memory");
	if (stat(path, &st) < 0)
		return evfs_err_sys(err, errno, "content: container %llu",
				    (unsigned long long)container->id);
	*ret = (uint64_t)st.st_size;
	return 0;
}

struct evfs_container *evfs_containers_pin(struct evfs_containers *set,
					   uint64_t id)
{
	struct evfs_container *container;

	pthread_mutex_lock(&set->mutex);
	container = find_locked(set, id);
	if (container)
		container->pins++;
	pthread_mutex_unlock(&set->mutex);
	return container;
}

void evfs_container_pin(struct evfs_containers *set,
			struct evfs_container *container)
{
	pthread_mutex_lock(&set->mutex);
	container->pins++;
	pthread_mutex_unlock(&set->mutex);
}

void evfs_container_unpin(struct evfs_containers *set,
			  struct evfs_container *container)
{
	pthread_mutex_lock(&set->mutex);
	assert(container->pins > 0);
	container->pins--;
	pthread_mutex_unlock(&set->mutex);
}

/* ---- freshness ---- */

static uint64_t now_ns(const struct evfs_containers *set)
{
	return set->env->mono_ns(set->env->ctx);
}

/* Bytes at `from` are written now. A stretch of time counts from its start, so
 * that nothing is called fresh for longer than it may. */
static void freshen_locked(struct evfs_containers *set,
			   struct evfs_container *container, uint64_t from)
{
	uint64_t now = now_ns(set);

	if (container->fresh_ns != 0 &&
	    now - container->fresh_ns < EVFS_CONTAINER_FRESH_NS)
		return;
	container->fresh_from = from;
	container->fresh_ns = now;
}

bool evfs_container_is_fresh(struct evfs_containers *set,
			     const struct evfs_container *container,
			     uint64_t offset)
{
	bool fresh;

	pthread_mutex_lock(&set->mutex);
	fresh = container->fresh_ns != 0 && offset >= container->fresh_from &&
		now_ns(set) - container->fresh_ns < EVFS_CONTAINER_FRESH_NS;
	pthread_mutex_unlock(&set->mutex);
	return fresh;
}

/* ---- writing ---- */

static int write_memory_locked(struct evfs_container *container,
			       const struct iovec *parts, int n,
			       uint64_t offset, struct evfs_err *err)
{
	size_t need = (size_t)offset;

	for (int i = 0; i < n; i++)
		need += parts[i].iov_len;
	if (need > container->memory_cap) {
		size_t cap = need + need / 2 + 4096;
		uint8_t *memory = evfs_realloc_array(container->memory, cap,
						     1);

		if (!memory)
			return evfs_err_set(err, EVFS_ENOMEM,
					    "content: no memory");
		container->memory = memory;
		container->memory_cap = cap;
	}
	for (int i = 0; i < n; i++) {
		memcpy(container->memory + offset, parts[i].iov_base,
		       parts[i].iov_len);
		offset += parts[i].iov_len;
	}
	return 0;
}

static int write_parts(int fd, struct iovec *parts, int n, uint64_t offset,
		       struct evfs_err *err)
{
	while (n > 0) {
		ssize_t done = pwritev(fd, parts, n, (off_t)offset);
		size_t left;

		if (done < 0 && errno == EINTR)
			continue;
		if (done < 0)
			return evfs_err_sys(err, errno == EDQUOT ? ENOSPC
								 : errno,
					    "content: write segment");
		offset += (uint64_t)done;
		for (left = (size_t)done; n > 0 && left >= parts->iov_len;
		     n--, parts++)
			left -= parts->iov_len;
		if (n > 0) {
			parts->iov_base = (uint8_t *)parts->iov_base + left;
			parts->iov_len -= left;
		}
	}
	return 0;
}

static int create_file_locked(struct evfs_containers *set,
			      struct evfs_container *container,
			      struct evfs_err *err)
{
	uint8_t header[EVFS_SEGMENT_HEADER] = "evfs-seg";
	struct iovec part = { header, sizeof(header) };
	evfs_cleanup_free char *path = NULL;
	int r;

	evfs_be32_write(header + 8, SEGMENT_VERSION);
	if (!set->dir)
		return write_memory_locked(container, &part, 1, 0, err);
	path = evfs_container_path(set, EVFS_CONTAINER_SEGMENT, container->id);
	if (!path)
		return evfs_err_set(err, EVFS_ENOMEM, "containers: no memory");
	container->fd = open(path, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC,
			     0600);
	if (container->fd < 0)
		return evfs_err_sys(err, errno, "content: create segment %llu",
				    (unsigned long long)container->id);
	set->n_open++;
	r = write_parts(container->fd, &part, 1, 0, err);
	if (r < 0) {
		unlink(path);
		return r;
	}
	set->dir_dirty[EVFS_CONTAINER_SEGMENT] = true;
	return 0;
}

/* Sees to it that set->current takes appends. */
static int roll_locked(struct evfs_containers *set, struct evfs_err *err)
{
	struct evfs_container *container;
	int r;

	if (!set->ready) {
		r = evfs_containers_prepare_locked(set, err);
		if (r < 0)
			return r;
	}
	if (set->current && set->current->end < EVFS_SEGMENT_FULL)
		return 0;
	set->current = NULL;
	r = evfs_containers_insert_locked(set, set->next_id,
					  EVFS_CONTAINER_SEGMENT,
					  EVFS_SEGMENT_HEADER, &container,
					  err);
	if (r < 0)
		return r;
	r = create_file_locked(set, container, err);
	if (r < 0) {
		evfs_containers_forget_locked(
			set,
			evfs_containers_search_locked(set, container->id));
		return r;
	}
	set->current = container;
	return 0;
}

/* A write failed: gives the room back if nobody has taken any behind it. */
static void undo_append_locked(struct evfs_containers *set,
			       struct evfs_container *container,
			       uint64_t start, uint64_t len)
{
	if (container->end == start + len) {
		container->end = start;
		if (set->dir && ftruncate(container->fd, (off_t)start) < 0)
			container->end = start + len; /* leave a gap */
	}
}

int evfs_containers_append(struct evfs_containers *set, const evfs_hash *hash,
			   const void *data, size_t len,
			   struct evfs_container **ret, uint64_t *ret_offset,
			   struct evfs_err *err)
{
	uint8_t header[EVFS_SEGMENT_RECORD] = "EvCh";
	struct iovec parts[2] = { { header, sizeof(header) },
				  { (void *)(uintptr_t)data, len } };
	struct evfs_container *container;
	uint64_t start;
	int r;

	assert(len > 0 && len <= UINT32_MAX);
	evfs_be32_write(header + 4, (uint32_t)len);
	memcpy(header + 8, hash->b, EVFS_HASH_SIZE);
	pthread_mutex_lock(&set->mutex);
	r = roll_locked(set, err);
	container = set->current;
	if (r == 0 && set->dir)
		r = evfs_container_open_fd_locked(set, container, err);
	if (r < 0) {
		pthread_mutex_unlock(&set->mutex);
		return r;
	}
	start = container->end;
	freshen_locked(set, container, start);
	container->end += sizeof(header) + len;
	container->pins++;
	if (set->dir) {
		pthread_mutex_unlock(&set->mutex);
		r = write_parts(container->fd, parts, 2, start, err);
		pthread_mutex_lock(&set->mutex);
		container->fd_uses--;
	} else {
		r = write_memory_locked(container, parts, 2, start, err);
	}
	if (r < 0) {
		undo_append_locked(set, container, start,
				   sizeof(header) + len);
		container->pins--;
	} else {
		evfs_container_mark_dirty_locked(set, container);
	}
	pthread_mutex_unlock(&set->mutex);
	if (r < 0)
		return r;
	*ret = container;
	*ret_offset = start + sizeof(header);
	return 0;
}

static int adopt_locked(struct evfs_containers *set, const char *path,
			bool keep, uint64_t size, struct evfs_container **ret,
			struct evfs_err *err)
{
	evfs_cleanup_free char *to = NULL;
	struct evfs_container *container;
	int r;

	if (!set->ready) {
		r = evfs_containers_prepare_locked(set, err);
		if (r < 0)
			return r;
	}
	to = evfs_container_path(set, EVFS_CONTAINER_BLOB, set->next_id);
	if (!to)
		return evfs_err_set(err, EVFS_ENOMEM, "containers: no memory");
	r = evfs_containers_insert_locked(set, set->next_id,
					  EVFS_CONTAINER_BLOB, size,
					  &container, err);
	if (r < 0)
		return r;
	if ((keep ? link(path, to) : rename(path, to)) < 0) {
		int sys = errno;

		evfs_containers_forget_locked(
			set,
			evfs_containers_search_locked(set, container->id));
		if (sys == EXDEV)
			return evfs_err_set(err, EVFS_EUNSUPPORTED,
					    "content: adopt: another disk");
		if (keep) /* not every file system has second names */
			return evfs_err_set(err, EVFS_EUNSUPPORTED,
					    "content: adopt: %s",
					    strerror(sys));
		return evfs_err_sys(err, sys, "content: adopt");
	}
	container->pins++;
	freshen_locked(set, container, 0);
	set->dir_dirty[EVFS_CONTAINER_BLOB] = true;
	evfs_container_mark_dirty_locked(set, container);
	*ret = container;
	return 0;
}

int evfs_containers_adopt(struct evfs_containers *set, const char *path,
			  bool keep, uint64_t size,
			  struct evfs_container **ret, struct evfs_err *err)
{
	int r;

	if (!set->dir)
		return evfs_err_set(err, EVFS_EUNSUPPORTED,
				    "content: adopt: store is in memory");
	pthread_mutex_lock(&set->mutex);
	r = adopt_locked(set, path, keep, size, ret, err);
	pthread_mutex_unlock(&set->mutex);
	return r;
}

void evfs_containers_close_segment(struct evfs_containers *set, uint64_t id)
{
	pthread_mutex_lock(&set->mutex);
	if (set->current && set->current->id == id)
		set->current = NULL;
	pthread_mutex_unlock(&set->mutex);
}

bool evfs_containers_remove(struct evfs_containers *set, uint64_t id)
{
	evfs_cleanup_free char *path = NULL;
	struct evfs_container *container;
	bool done = false;

	pthread_mutex_lock(&set->mutex);
	container = find_locked(set, id);
	if (container && set->dir)
		path = evfs_container_path(set, container->kind, id);
	if (container && !is_needed_locked(container) &&
	    container != set->current && (path || !set->dir)) {
		evfs_containers_forget_locked(
			set, evfs_containers_search_locked(set, id));
		done = true;
	}
	pthread_mutex_unlock(&set->mutex);
	/* Unlocked: freeing gigabytes takes a file system its time. What cannot
	 * be unlinked now is swept at the next start. */
	if (done && path)
		unlink(path);
	return done;
}

size_t evfs_containers_idle(struct evfs_containers *set, uint64_t from,
			    uint64_t *ret, size_t max)
{
	size_t n = 0;

	pthread_mutex_lock(&set->mutex);
	for (size_t i = evfs_containers_search_locked(set, from);
	     i < set->n && n < max; i++) {
		struct evfs_container *container = set->all[i];

		if (!is_needed_locked(container) && container != set->current)
			ret[n++] = container->id;
	}
	pthread_mutex_unlock(&set->mutex);
	return n;
}
