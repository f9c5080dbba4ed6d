/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Working copies: memory while small, an overlay file when large. */
#include "fs/work.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "base/mem.h"
#include "fs/work_priv.h"

#define SEND_STEP ((uint64_t)8 << 20) /* new bytes left to the disk at a time */
#define SEND_MIN ((uint64_t)64 << 10) /* of one write */

/* ---- shared readers ---- */

struct evfs_reader *evfs_reader_new(struct evfs_content_reader *reader,
				    const evfs_hash *content, uint64_t size)
{
	struct evfs_reader *shared = evfs_calloc(1, sizeof(*shared));

	if (!shared) {
		evfs_content_close(reader);
		return NULL;
	}
	shared->reader = reader;
	shared->content = *content;
	shared->size = size;
	atomic_init(&shared->refs, 1);
	return shared;
}

struct evfs_reader *evfs_reader_get(struct evfs_reader *reader)
{
	if (reader)
		atomic_fetch_add(&reader->refs, 1);
	return reader;
}

void evfs_reader_put(struct evfs_reader *reader)
{
	if (!reader || atomic_fetch_sub(&reader->refs, 1) != 1)
		return;
	evfs_content_close(reader->reader);
	evfs_free(reader);
}

/* ---- life ---- */

/* The overlay's file, empty. */
static int overlay_create(struct evfs_work *work, struct evfs_err *err)
{
	evfs_cleanup_free char *path = NULL;

	work->number = atomic_fetch_add(&work->place->next, 1);
	path = evfs_work_path(work->place, work->number, "");
	if (!path)
		return evfs_err_set(err, EVFS_ENOMEM, "work: no memory");
	work->fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	return work->fd < 0 ? evfs_err_sys(err, errno, "%s", path) : 0;
}

static void overlay_remove(struct evfs_work *work)
{
	evfs_cleanup_free char *path = NULL;
	evfs_cleanup_free char *log = NULL;

	if (work->fd < 0)
		return;
	(void)close(work->fd);
	if (work->log_fd >= 0)
		(void)close(work->log_fd);
	path = evfs_work_path(work->place, work->number, "");
	log = evfs_work_path(work->place, work->number, ".log");
	/* Without memory they stay until the next start clears them. */
	if (path && (!work->adopted || work->shared))
		(void)unlink(path);
	if (log)
		(void)unlink(log);
	work->fd = -1;
	work->log_fd = -1;
}

/* The overlay's two files, empty. */
static int overlay_open(struct evfs_work *work, struct evfs_err *err)
{
	int rc = overlay_create(work, err);

	if (rc == 0)
		rc = evfs_work_log_open(work, err);
	if (rc != 0)
		overlay_remove(work);
	return rc;
}

/* All of a small base into memory. */
static int load(struct evfs_work *work, struct evfs_reader *base,
		struct evfs_err *err)
{
	size_t len = 0;
	int rc;

	if (!base || base->size == 0)
		return 0;
	work->memory = evfs_realloc_array(NULL, (size_t)base->size, 1);
	if (!work->memory)
		return evfs_err_set(err, EVFS_ENOMEM, "work: no memory");
	work->memory_cap = (size_t)base->size;
	rc = evfs_content_read(base->reader, work->memory, work->memory_cap, 0,
			       &len, err);
	if (rc == 0 && len != work->memory_cap)
		rc = evfs_err_set(err, EVFS_ECORRUPT,
				  "content ends at %zu of %zu bytes", len,
				  work->memory_cap);
	return rc;
}

static void lay_over(struct evfs_work *work, struct evfs_reader *base)
{
	evfs_reader_put(work->base);
	work->base = evfs_reader_get(base);
	work->under = NULL;
	work->base_limit = base->size;
	work->base_holes = base->holes;
}

static int start(struct evfs_work *work, struct evfs_reader *base,
		 struct evfs_err *err)
{
	if (!base || base->size <= work->place->memory_max) {
		if (base)
			work->size = base->size;
		return load(work, base, err);
	}
	work->size = base->size;
	lay_over(work, base);
	return overlay_open(work, err);
}

int evfs_work_new(struct evfs_workplace *place,
		  const struct evfs_work_ident *ident,
		  struct evfs_reader *base, struct evfs_work **ret,
		  struct evfs_err *err)
{
	struct evfs_work *work = evfs_calloc(1, sizeof(*work));
	int rc;

	if (!work)
		return evfs_err_set(err, EVFS_ENOMEM, "work: no memory");
	work->place = place;
	work->fd = -1;
	work->log_fd = -1;
	work->ident = *ident;
	work->ident.has_content = base != NULL;
	work->ident.base = evfs_memdup(ident->base, ident->n_base *
						    sizeof(*ident->base));
	if (!work->ident.base)
		rc = evfs_err_set(err, EVFS_ENOMEM, "work: no memory");
	else
		rc = start(work, base, err);
	if (rc != 0) {
		evfs_work_free(work);
		return rc;
	}
	*ret = work;
	return 0;
}

void evfs_work_free(struct evfs_work *work)
{
	if (!work)
		return;
	evfs_ahead_free(work->ahead);
	if (work->kept)
		evfs_work_close_files(work);
	overlay_remove(work);
	evfs_reader_put(work->base);
	evfs_ranges_fini(&work->own);
	evfs_free(work->memory);
	evfs_free(work->ident.base);
	evfs_free(work);
}

uint64_t evfs_work_size(const struct evfs_work *work)
{
	return work->size;
}

uint64_t evfs_work_number(const struct evfs_work *work)
{
	return work->log_fd < 0 ? 0 : work->number;
}

uint64_t evfs_work_room(const struct evfs_work *work)
{
	struct stat st;
	uint64_t room;

	if (work->fd < 0 || fstat(work->fd, &st) != 0)
		return work->size;
	room = (uint64_t)st.st_blocks * 512;
	if (work->base_limit > work->base_holes)
		room += work->base_limit - work->base_holes;
	return room < work->size ? room : work->size;
}

uint64_t evfs_work_own_bytes(const struct evfs_work *work)
{
	struct evfs_range range = { 0, 0 };
	uint64_t sum = 0;

	if (work->fd < 0)
		return work->size;
	while (evfs_ranges_next(&work->own, range.end, &range))
		sum += range.end - range.start;
	return sum;
}

/* ---- reading ---- */

/* Of what it lies over, all of len bytes. */
static int read_below(struct evfs_work *work, uint8_t *data, size_t len,
		      uint64_t offset, struct evfs_err *err)
{
	size_t got = 0;
	int rc;

	if (work->under)
		rc = evfs_work_read(work->under, data, len, offset, &got, err);
	else
		rc = evfs_content_read(work->base->reader, data, len, offset,
				       &got, err);
	if (rc == 0 && got != len)
		rc = evfs_err_set(err, EVFS_ECORRUPT,
				  "content ends too early");
	return rc;
}

/* One stretch of the overlay that comes from one place. */
static int read_piece(struct evfs_work *work, uint8_t *data, size_t want,
		      uint64_t offset, size_t *ret_len, struct evfs_err *err)
{
	uint64_t end = offset + want;
	struct evfs_range range;
	bool found = evfs_ranges_next(&work->own, offset, &range);

	if (found && range.start <= offset) {
		if (end > range.end)
			end = range.end;
		*ret_len = (size_t)(end - offset);
		return evfs_io_pread(work->fd, data, *ret_len, offset, err);
	}
	if (found && end > range.start)
		end = range.start;
	if (offset < work->base_limit) {
		if (end > work->base_limit)
			end = work->base_limit;
		*ret_len = (size_t)(end - offset);
		return read_below(work, data, *ret_len, offset, err);
	}
	*ret_len = (size_t)(end - offset);
	memset(data, 0, *ret_len);
	return 0;
}

int evfs_work_read(struct evfs_work *work, void *data, size_t len,
		   uint64_t offset, size_t *ret_len, struct evfs_err *err)
{
	size_t done = 0, piece;
	int rc;

	if (offset >= work->size)
		len = 0;
	else if (len > work->size - offset)
		len = (size_t)(work->size - offset);
	if (work->fd < 0) {
		if (len > 0)
			memcpy(data, work->memory + offset, len);
		*ret_len = len;
		return 0;
	}
	while (done < len) {
		rc = read_piece(work, (uint8_t *)data + done, len - done,
				offset + done, &piece, err);
		if (rc != 0)
			return rc;
		done += piece;
	}
	*ret_len = len;
	return 0;
}

/* ---- writing ---- */

/* Room for size bytes, zeros where they are new. */
static int memory_grow(struct evfs_work *work, size_t size,
		       struct evfs_err *err)
{
	size_t cap = work->memory_cap;
	uint8_t *memory;

	if (size > cap) {
		/* A first write is mostly the only one: no more than it. */
		cap = cap == 0 ? size : cap * 2;
		if (cap < size)
			cap = size;
		memory = evfs_realloc_array(work->memory, cap, 1);
		if (!memory)
			return evfs_err_set(err, EVFS_ENOMEM,
					    "work: no memory");
		work->memory = memory;
		work->memory_cap = cap;
	}
	if (size > work->size)
		memset(work->memory + work->size, 0, size - work->size);
	return 0;
}

/* From memory to an overlay file. */
static int spill(struct evfs_work *work, struct evfs_err *err)
{
	int rc;

	assert(work->fd < 0 && !evfs_work_has_base(work));
	if (evfs_ranges_reserve(&work->own) != 0)
		return evfs_err_set(err, EVFS_ENOMEM, "work: no memory");
	work->ident.has_content = false;
	rc = overlay_open(work, err);
	if (rc != 0)
		return rc;
	if (work->size > 0) {
		rc = evfs_io_pwrite(work->fd, work->memory,
				    (size_t)work->size, 0, err);
		if (rc == 0)
			rc = evfs_work_log_write(work, 0, work->size, err);
	}
	if (rc != 0) {
		overlay_remove(work);
		return rc;
	}
	evfs_ranges_add(&work->own, 0, work->size);
	evfs_free(evfs_steal(work->memory));
	work->memory_cap = 0;
	return 0;
}

/* The overlay file went into the store, but the sealing failed after that:
 * what is there is not ours to change, so a new one is made from it. */
static int thaw(struct evfs_work *work, struct evfs_err *err)
{
	struct evfs_work old;
	uint64_t done = 0;
	ssize_t n;
	int rc;

	evfs_ahead_free(evfs_steal(work->ahead));
	old = *work;
	work->adopted = work->shared = work->timed = false;
	rc = overlay_open(work, err);
	if (rc != 0) {
		*work = old;
		return rc;
	}
	while (done < work->size) {
		off_t from = (off_t)done, to = (off_t)done;

		n = copy_file_range(old.fd, &from, work->fd, &to,
				    (size_t)(work->size - done), 0);
		if (n <= 0)
			break;
		done += (uint64_t)n;
	}
	if (done < work->size)
		rc = evfs_err_sys(err, errno ? errno : EIO,
				  "copy of a working copy");
	else
		rc = evfs_work_log_write(work, 0, work->size, err);
	if (rc == 0 && work->kept)
		rc = evfs_work_sync_files(work, err);
	if (rc != 0) {
		overlay_remove(&(struct evfs_work){
			.place = work->place, .fd = work->fd,
			.log_fd = work->log_fd, .number = work->number });
		*work = old;
		return rc;
	}
	overlay_remove(&old);
	return 0;
}

/* Before an overlay changes: it is ours, and one more range fits. */
static int overlay_ready(struct evfs_work *work, struct evfs_err *err)
{
	int rc;

	if (work->adopted) {
		rc = thaw(work, err);
		if (rc != 0)
			return rc;
	}
	if (evfs_ranges_reserve(&work->own) != 0)
		return evfs_err_set(err, EVFS_ENOMEM, "work: no memory");
	return 0;
}

/* The bytes from the beginning on that are its own without a gap. */
static uint64_t front_of(const struct evfs_work *work)
{
	struct evfs_range first;

	return evfs_ranges_next(&work->own, 0, &first) && first.start == 0 ?
		       first.end : 0;
}

/* New bytes of a file that the store will take over as it is: the disk starts
 * with them now, so that the sync that follows the sealing finds little left to
 * wait for. Never twice with the same byte: what is overwritten again and again
 * is left to the kernel. So are short pieces, for each of which the disk would
 * have to find room by itself, and what is written here and there over a base:
 * of that a copy goes into the store, and this never has to reach the disk. */
static void send_on(struct evfs_work *work, uint64_t end, uint64_t len)
{
	if (len < SEND_MIN ||
	    (evfs_work_has_base(work) && end > front_of(work)))
		return;
	work->unsent += len;
	if (work->unsent < SEND_STEP)
		return;
	work->unsent = 0;
	/* It only saves time; the sync will tell of errors. */
	(void)sync_file_range(work->fd, 0, 0, SYNC_FILE_RANGE_WRITE);
}

/* Bytes from `start` on may have changed. */
static void tell_ahead(struct evfs_work *work, uint64_t start)
{
	uint64_t front = front_of(work);

	if (!work->ahead && front >= EVFS_AHEAD_MIN)
		work->ahead = evfs_ahead_new(&work->place->aheads, work->fd);
	if (work->ahead)
		evfs_ahead_changed(work->ahead, start, front);
}

static int write_own(struct evfs_work *work, const void *data, size_t len,
		     uint64_t offset, struct evfs_err *err)
{
	bool is_new = !evfs_ranges_has(&work->own, offset, offset + len);
	int rc = evfs_io_pwrite(work->fd, data, len, offset, err);

	if (rc == 0 && (is_new || work->timed))
		rc = evfs_work_log_write(work, offset, offset + len, err);
	if (rc != 0)
		return rc;
	evfs_ranges_add(&work->own, offset, offset + len);
	if (is_new)
		send_on(work, offset + len, len);
	return 0;
}

static int overlay_write(struct evfs_work *work, const void *data, size_t len,
			 uint64_t offset, struct evfs_err *err)
{
	int rc = overlay_ready(work, err);

	if (rc == 0) {
		rc = write_own(work, data, len, offset, err);
		tell_ahead(work, offset);
	}
	return rc;
}

int evfs_work_write(struct evfs_work *work, const void *data, size_t len,
		    uint64_t offset, struct evfs_err *err)
{
	uint64_t end = offset + len;
	int rc;

	if (len == 0)
		return 0;
	if (end < offset || end > EVFS_FILE_SIZE_MAX)
		return evfs_err_set(err, EVFS_EFBIG, "file too large");
	rc = evfs_workplace_reserve(work->place, len, err);
	if (rc == 0 && work->fd < 0 && end > work->place->memory_max)
		rc = spill(work, err);
	if (rc != 0)
		return rc;
	if (work->fd >= 0) {
		rc = overlay_write(work, data, len, offset, err);
	} else {
		rc = end > work->size ? memory_grow(work, (size_t)end, err) :
					0;
		if (rc == 0)
			memcpy(work->memory + offset, data, len);
	}
	if (rc == 0 && end > work->size)
		work->size = end;
	return rc;
}

int evfs_work_truncate(struct evfs_work *work, uint64_t size,
		       struct evfs_err *err)
{
	int rc = 0;

	if (size > EVFS_FILE_SIZE_MAX)
		return evfs_err_set(err, EVFS_EFBIG, "file too large");
	if (work->fd < 0 && size > work->place->memory_max) {
		rc = spill(work, err);
		if (rc != 0)
			return rc;
	}
	if (work->fd < 0) {
		if (size > work->size)
			rc = memory_grow(work, (size_t)size, err);
	} else {
		rc = overlay_ready(work, err);
		if (rc == 0 && size < work->size &&
		    ftruncate(work->fd, (off_t)size) != 0)
			rc = evfs_err_sys(err, errno, "truncate");
		if (rc == 0)
			rc = evfs_work_log_truncate(work, size, err);
		if (rc == 0 && size < work->size) {
			evfs_ranges_cut(&work->own, size);
			if (work->base_limit > size)
				work->base_limit = size;
		}
		tell_ahead(work, size);
	}
	if (rc == 0)
		work->size = size;
	return rc;
}

int evfs_work_zero(struct evfs_work *work, uint64_t offset, uint64_t len,
		   struct evfs_err *err)
{
	struct stat st;
	uint64_t end = offset + len;
	int rc;

	if (offset >= work->size || len == 0)
		return 0;
	if (end < offset || end > work->size)
		end = work->size;
	if (work->fd < 0) {
		memset(work->memory + offset, 0, (size_t)(end - offset));
		return 0;
	}
	rc = overlay_ready(work, err);
	if (rc != 0)
		return rc;
	/* What lies behind the end of the file reads as zeros only once the
	 * file is that long. */
	if (fstat(work->fd, &st) != 0 ||
	    ((uint64_t)st.st_size < end &&
	     ftruncate(work->fd, (off_t)end) != 0) ||
	    fallocate(work->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		      (off_t)offset, (off_t)(end - offset)) != 0)
		rc = evfs_err_sys(err, errno, "punch a hole");
	else
		rc = evfs_work_log_write(work, offset, end, err);
	if (rc == 0)
		evfs_ranges_add(&work->own, offset, end);
	tell_ahead(work, offset);
	return rc;
}

struct evfs_reader *evfs_work_base(const struct evfs_work *work)
{
	if (work->under)
		work = work->under;
	return evfs_reader_get(work->base);
}

int evfs_work_adopt(struct evfs_work *work, struct evfs_reader *base,
		    struct evfs_err *err)
{
	int rc = 0;

	assert(work->size == 0 && work->own.n == 0);
	if (work->fd < 0 && base->size <= work->place->memory_max) {
		/* Small: the bytes themselves are as cheap. */
		evfs_free(evfs_steal(work->memory));
		work->memory_cap = 0;
		rc = load(work, base, err);
		if (rc == 0)
			work->size = base->size;
		return rc;
	}
	if (work->fd < 0)
		rc = overlay_open(work, err);
	if (rc != 0)
		return rc;
	work->ident.has_content = true;
	work->ident.content = base->content;
	work->ident.size = base->size;
	rc = evfs_work_log_base(work, err);
	if (rc != 0)
		return rc;
	evfs_ahead_free(evfs_steal(work->ahead));
	lay_over(work, base);
	work->size = base->size;
	evfs_free(evfs_steal(work->memory));
	work->memory_cap = 0;
	return 0;
}

/* ---- writing on while it is put ---- */

bool evfs_work_is_overlay(const struct evfs_work *work)
{
	return work->fd >= 0;
}

bool evfs_work_has_base(const struct evfs_work *work)
{
	return work->base || work->under;
}

int evfs_work_over(struct evfs_work *under, struct evfs_work **ret,
		   struct evfs_err *err)
{
	struct evfs_work *work = evfs_calloc(1, sizeof(*work));
	int rc;

	assert(under->fd >= 0 && !under->under);
	if (!work)
		return evfs_err_set(err, EVFS_ENOMEM, "work: no memory");
	work->place = under->place;
	work->log_fd = -1;
	work->under = under;
	work->size = work->base_limit = under->size;
	work->base_holes = under->size - evfs_work_room(under);
	rc = overlay_create(work, err);
	if (rc != 0) {
		evfs_work_free(work);
		return rc;
	}
	*ret = work;
	return 0;
}

/* A log for what has none yet. It must not be found before it is whole: so it
 * gets a number of its own, and the overlay follows. */
static int log_late(struct evfs_work *work, struct evfs_err *err)
{
	uint64_t before = work->number;
	evfs_cleanup_free char *from = NULL;
	evfs_cleanup_free char *to = NULL;
	int rc;

	from = evfs_work_path(work->place, before, "");
	work->number = atomic_fetch_add(&work->place->next, 1);
	to = evfs_work_path(work->place, work->number, "");
	if (!from || !to)
		rc = evfs_err_set(err, EVFS_ENOMEM, "work: no memory");
	else
		rc = evfs_work_log_state(work, err);
	if (rc == 0 && rename(from, to) != 0) {
		rc = evfs_err_sys(err, errno, "%s", from);
		(void)close(work->log_fd);
		work->log_fd = -1;
		evfs_work_discard(work->place, work->number);
	}
	if (rc != 0)
		work->number = before;
	return rc;
}

int evfs_work_rebase(struct evfs_work *work,
		     const struct evfs_work_ident *ident,
		     struct evfs_reader *base, struct evfs_err *err)
{
	evfs_dot *dots = evfs_memdup(ident->base,
				     ident->n_base * sizeof(*ident->base));

	assert(work->log_fd < 0);
	if (!dots)
		return evfs_err_set(err, EVFS_ENOMEM, "work: no memory");
	evfs_free(work->ident.base);
	work->ident.base = dots;
	work->ident.n_base = ident->n_base;
	work->ident.ino = ident->ino; /* a sibling gets one of its own */
	work->ident.link = ident->link;
	if (work->under) { /* else it has got another base meanwhile */
		work->ident.has_content = base != NULL;
		work->ident.content = ident->content;
		work->ident.size = ident->size;
		work->base = evfs_reader_get(base);
		work->under = NULL;
		if (!base)
			work->base_limit = 0;
	}
	/* It is as good without, but for a crash. */
	(void)!log_late(work, NULL);
	return 0;
}
