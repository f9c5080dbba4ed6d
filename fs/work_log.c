/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The log beside an overlay file, and recovery from it after a crash.
 *
 * NUMBER.log, integers big-endian:
 *   head:    "evfswrk1", then ino (20 bytes), link (time 8, dot 20),
 *            has_content (1), content (32), size (8), n_base (4),
 *            n_base dots of 20 bytes
 *   records: 'W' start end    these bytes are the overlay's own
 *            'T' size 0       the file was cut or extended to this size
 *            'B' hash size    it lies over this content instead
 *            'M' s ns         the time of its last change, until another
 *                             record follows; else it is the overlay's
 * A record is written after the bytes that it tells of, so after kill -9 the
 * two agree; a record that is cut off ends the log. After power loss bytes may
 * be missing that nobody had synced: they read as zeros, as on any file
 * system. */
#include "fs/work_priv.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/io.h"
#include "base/mem.h"

#define MAGIC "evfswrk1"
#define MAGIC_LEN 8
#define RECORD_LEN 17
#define RECORD_BASE_LEN 41
#define BASES_MAX 65536
#define LOG_BYTES_MAX ((size_t)1 << 30)

static int put_dot(struct evfs_buf *buf, evfs_dot dot)
{
	uint8_t bytes[EVFS_DOT_BYTES];

	evfs_dot_write(dot, bytes);
	return evfs_buf_put(buf, bytes, sizeof(bytes));
}

static int put_head(struct evfs_buf *buf, const struct evfs_work_ident *ident)
{
	int rc = evfs_buf_put(buf, MAGIC, MAGIC_LEN);

	rc = rc ? rc : put_dot(buf, ident->ino);
	rc = rc ? rc : evfs_buf_put_be64(buf, ident->link.time_ns);
	rc = rc ? rc : put_dot(buf, ident->link.dot);
	rc = rc ? rc : evfs_buf_put_u8(buf, ident->has_content);
	rc = rc ? rc : evfs_buf_put(buf, ident->content.b, EVFS_HASH_SIZE);
	rc = rc ? rc : evfs_buf_put_be64(buf, ident->size);
	rc = rc ? rc : evfs_buf_put_be32(buf, (uint32_t)ident->n_base);
	for (size_t i = 0; rc == 0 && i < ident->n_base; i++)
		rc = put_dot(buf, ident->base[i]);
	return rc;
}

/* A new log of these bytes, unless there was no memory (rc) for them; frees
 * them. */
static int log_start(struct evfs_work *work, struct evfs_buf *bytes, int rc,
		     struct evfs_err *err)
{
	evfs_cleanup_free char *path =
		evfs_work_path(work->place, work->number, ".log");

	if (!path || rc != 0) {
		evfs_buf_fini(bytes);
		return evfs_err_set(err, EVFS_ENOMEM, "work: no memory");
	}
	work->log_fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC |
			    O_APPEND, 0600);
	if (work->log_fd < 0)
		rc = evfs_err_sys(err, errno, "%s", path);
	else
		rc = evfs_io_write(work->log_fd, bytes->data, bytes->len, err);
	evfs_buf_fini(bytes);
	if (rc != 0 && work->log_fd >= 0) {
		(void)close(work->log_fd);
		(void)unlink(path);
		work->log_fd = -1;
	}
	return rc;
}

int evfs_work_log_open(struct evfs_work *work, struct evfs_err *err)
{
	struct evfs_buf bytes = { 0 };
	int rc = put_head(&bytes, &work->ident);

	return log_start(work, &bytes, rc, err);
}

static void fill_record(uint8_t bytes[RECORD_LEN], char type, uint64_t a,
			uint64_t b)
{
	bytes[0] = (uint8_t)type;
	evfs_be64_write(bytes + 1, a);
	evfs_be64_write(bytes + 9, b);
}

static int record(struct evfs_work *work, char type, uint64_t a, uint64_t b,
		  struct evfs_err *err)
{
	uint8_t bytes[RECORD_LEN];

	if (work->log_fd < 0)
		return 0;
	fill_record(bytes, type, a, b);
	return evfs_io_write(work->log_fd, bytes, sizeof(bytes), err);
}

int evfs_work_log_time(struct evfs_work *work, int64_t mtime_s,
		       uint32_t mtime_ns, struct evfs_err *err)
{
	int rc = record(work, 'M', (uint64_t)mtime_s, mtime_ns, err);

	work->timed = rc == 0;
	return rc;
}

int evfs_work_log_write(struct evfs_work *work, uint64_t start, uint64_t end,
			struct evfs_err *err)
{
	work->timed = false;
	return record(work, 'W', start, end, err);
}

int evfs_work_log_truncate(struct evfs_work *work, uint64_t size,
			   struct evfs_err *err)
{
	work->timed = false;
	return record(work, 'T', size, 0, err);
}

int evfs_work_log_base(struct evfs_work *work, struct evfs_err *err)
{
	uint8_t bytes[RECORD_BASE_LEN];

	work->timed = false;
	if (work->log_fd < 0)
		return 0;
	bytes[0] = 'B';
	memcpy(bytes + 1, work->ident.content.b, EVFS_HASH_SIZE);
	evfs_be64_write(bytes + 1 + EVFS_HASH_SIZE, work->ident.size);
	return evfs_io_write(work->log_fd, bytes, sizeof(bytes), err);
}

static int put_record(struct evfs_buf *buf, char type, uint64_t a, uint64_t b)
{
	uint8_t bytes[RECORD_LEN];

	fill_record(bytes, type, a, b);
	return evfs_buf_put(buf, bytes, sizeof(bytes));
}

int evfs_work_log_state(struct evfs_work *work, struct evfs_err *err)
{
	struct evfs_range range = { 0, 0 };
	struct evfs_buf bytes = { 0 };
	int rc = put_head(&bytes, &work->ident);

	rc = rc ? rc : put_record(&bytes, 'T', work->base_limit, 0);
	while (rc == 0 && evfs_ranges_next(&work->own, range.end, &range))
		rc = put_record(&bytes, 'W', range.start, range.end);
	rc = rc ? rc : put_record(&bytes, 'T', work->size, 0);
	return log_start(work, &bytes, rc, err);
}

/* ---- recovery ---- */

/* A log being read. */
struct log_reader {
	const uint8_t *at; /* next byte */
	size_t left;       /* bytes */
};

static const uint8_t *take(struct log_reader *log, size_t n)
{
	const uint8_t *at = log->at;

	if (log->left < n)
		return NULL;
	log->at += n;
	log->left -= n;
	return at;
}

static int take_head(struct log_reader *log, struct evfs_work_ident *ret)
{
	const uint8_t *at = take(log, MAGIC_LEN + 20 + 28 + 1 + 32 + 8 + 4);
	size_t n;

	if (!at || memcmp(at, MAGIC, MAGIC_LEN) != 0)
		return EVFS_ECORRUPT;
	at += MAGIC_LEN;
	ret->ino = evfs_dot_read(at);
	ret->link.time_ns = evfs_be64_read(at + 20);
	ret->link.dot = evfs_dot_read(at + 28);
	ret->has_content = at[48] != 0;
	memcpy(ret->content.b, at + 49, EVFS_HASH_SIZE);
	ret->size = evfs_be64_read(at + 81);
	n = evfs_be32_read(at + 89);
	if (n > BASES_MAX)
		return EVFS_ECORRUPT;
	at = take(log, n * EVFS_DOT_BYTES);
	if (!at)
		return EVFS_ECORRUPT;
	ret->base = evfs_calloc(n, sizeof(*ret->base));
	if (!ret->base)
		return EVFS_ENOMEM;
	for (size_t i = 0; i < n; i++)
		ret->base[i] = evfs_dot_read(at + i * EVFS_DOT_BYTES);
	ret->n_base = n;
	return 0;
}

static int replay_one(struct evfs_work *work, struct log_reader *log,
		      uint8_t type)
{
	const uint8_t *at = take(log, type == 'B' ? RECORD_BASE_LEN - 1 :
						    RECORD_LEN - 1);
	uint64_t a, b;

	if (!at)
		return 1;
	work->timed = type == 'M';
	if (type == 'B') {
		memcpy(work->ident.content.b, at, EVFS_HASH_SIZE);
		work->ident.size = evfs_be64_read(at + EVFS_HASH_SIZE);
		work->ident.has_content = true;
		work->size = work->base_limit = work->ident.size;
		return 0;
	}
	a = evfs_be64_read(at);
	b = evfs_be64_read(at + 8);
	if (type == 'M') {
		if (b >= 1000000000)
			return 1;
		work->mtime_s = (int64_t)a;
		work->mtime_ns = (uint32_t)b;
		return 0;
	}
	if (type == 'T') {
		if (a < work->size) {
			evfs_ranges_cut(&work->own, a);
			if (work->base_limit > a)
				work->base_limit = a;
		}
		work->size = a;
		return 0;
	}
	if (type != 'W' || a >= b || b > EVFS_FILE_SIZE_MAX)
		return 1;
	if (evfs_ranges_reserve(&work->own) != 0)
		return EVFS_ENOMEM;
	evfs_ranges_add(&work->own, a, b);
	if (b > work->size)
		work->size = b;
	return 0;
}

/* Head and records into a work without base reader or overlay. */
static int replay(struct evfs_work *work, struct log_reader *log)
{
	int rc = take_head(log, &work->ident);

	if (rc != 0)
		return rc;
	if (work->ident.has_content)
		work->size = work->base_limit = work->ident.size;
	while (log->left > 0) {
		const uint8_t *type = take(log, 1);

		rc = replay_one(work, log, *type);
		if (rc != 0)
			return rc > 0 ? 0 : rc;
	}
	return 0;
}

static int attach_base(struct evfs_work *work, struct evfs_err *err)
{
	struct evfs_content_reader *reader;
	int rc;

	if (!work->ident.has_content || work->base_limit == 0 ||
	    evfs_ranges_has(&work->own, 0, work->base_limit))
		return 0; /* nothing of it shows through */
	rc = evfs_content_open(work->place->content, &work->ident.content,
			       work->ident.size, &reader, err);
	if (rc != 0)
		return rc;
	work->base = evfs_reader_new(reader, &work->ident.content,
				     work->ident.size);
	if (!work->base)
		return evfs_err_set(err, EVFS_ENOMEM, "work: no memory");
	return 0;
}

/* The overlay file of a log that was read: long enough for its ranges, so
 * that bytes which never reached the disk are zeros. */
static int attach_overlay(struct evfs_work *work, struct timespec *ret_time,
			  struct evfs_err *err)
{
	evfs_cleanup_free char *path =
		evfs_work_path(work->place, work->number, "");
	evfs_cleanup_free char *log =
		evfs_work_path(work->place, work->number, ".log");
	struct stat st;

	if (!path || !log)
		return evfs_err_set(err, EVFS_ENOMEM, "work: no memory");
	work->fd = open(path, O_RDWR | O_CLOEXEC);
	if (work->fd < 0)
		return evfs_err_sys(err, errno, "%s", path);
	work->log_fd = open(log, O_WRONLY | O_APPEND | O_CLOEXEC);
	if (work->log_fd < 0 || fstat(work->fd, &st) != 0 ||
	    ((uint64_t)st.st_size < work->size &&
	     ftruncate(work->fd, (off_t)work->size) != 0))
		return evfs_err_sys(err, errno, "%s", path);
	*ret_time = st.st_mtim;
	if (work->timed)
		*ret_time = (struct timespec){ work->mtime_s, work->mtime_ns };
	return 0;
}

/* Leaves the files for another start. */
static void leave(struct evfs_work *work)
{
	evfs_work_close_files(work);
	evfs_work_free(work);
}

void evfs_work_discard(struct evfs_workplace *place, uint64_t number)
{
	evfs_cleanup_free char *path = evfs_work_path(place, number, "");
	evfs_cleanup_free char *log = evfs_work_path(place, number, ".log");

	if (path)
		(void)unlink(path);
	if (log)
		(void)unlink(log);
}

typedef int recover_each(void *arg, const struct evfs_work_ident *ident,
			 struct evfs_work *work, int64_t mtime_s,
			 uint32_t mtime_ns);

static int recover_one(struct evfs_workplace *place, uint64_t number,
		       recover_each *each, void *arg, struct evfs_err *err)
{
	evfs_cleanup_free char *path = evfs_work_path(place, number, ".log");
	struct evfs_work *work = evfs_calloc(1, sizeof(*work));
	struct evfs_buf bytes = { 0 };
	struct log_reader log;
	struct timespec time = { 0 };
	int rc;

	if (!path || !work) {
		evfs_free(work);
		return evfs_err_set(err, EVFS_ENOMEM, "work: no memory");
	}
	*work = (struct evfs_work){ .place = place, .number = number,
				    .fd = -1, .log_fd = -1 };
	rc = evfs_io_read_file(path, LOG_BYTES_MAX, &bytes, err);
	log = (struct log_reader){ bytes.data, bytes.len };
	if (rc == 0)
		rc = replay(work, &log);
	evfs_buf_fini(&bytes);
	if (rc == 0)
		rc = attach_overlay(work, &time, err);
	if (rc == EVFS_ECORRUPT || rc == EVFS_ENOTFOUND) {
		/* Nothing was written yet, or the store has the file. */
		evfs_work_discard(place, number);
		leave(work);
		return 0;
	}
	if (rc == 0 && attach_base(work, err) != 0) {
		rc = each(arg, &work->ident, NULL, 0, 0);
		leave(work);
		return rc;
	}
	if (rc != 0) {
		leave(work);
		return rc;
	}
	/* It may have been promised, and this start may be cut short, too. */
	work->kept = true;
	return each(arg, &work->ident, work, time.tv_sec,
		    (uint32_t)time.tv_nsec);
}

/* Numbers of the logs in the place, and the greatest number of all files. */
static int list_logs(struct evfs_workplace *place, uint64_t **ret,
		     size_t *ret_n, uint64_t *ret_max, struct evfs_err *err)
{
	DIR *dir = opendir(place->dir);
	struct dirent *entry;
	size_t cap = 0;

	if (!dir)
		return evfs_err_sys(err, errno, "%s", place->dir);
	while ((entry = readdir(dir))) {
		char *end;
		uint64_t number = strtoull(entry->d_name, &end, 10);
		void *items = *ret;

		if (end == entry->d_name)
			continue;
		if (number > *ret_max)
			*ret_max = number;
		if (strcmp(end, ".log") != 0)
			continue;
		if (evfs_grow(&items, *ret_n, &cap, sizeof(**ret)) != 0) {
			(void)closedir(dir);
			return evfs_err_set(err, EVFS_ENOMEM, "no memory");
		}
		*ret = items;
		(*ret)[(*ret_n)++] = number;
	}
	(void)closedir(dir);
	return 0;
}

/* An overlay without its log was sealed or given up before the crash. */
static int sweep_overlays(struct evfs_workplace *place, struct evfs_err *err)
{
	DIR *dir = opendir(place->dir);
	struct dirent *entry;

	if (!dir)
		return evfs_err_sys(err, errno, "%s", place->dir);
	while ((entry = readdir(dir))) {
		evfs_cleanup_free char *log = NULL;
		char *end;
		uint64_t number = strtoull(entry->d_name, &end, 10);

		if (end == entry->d_name || *end != '\0')
			continue;
		log = evfs_work_path(place, number, ".log");
		if (log && access(log, F_OK) != 0 && errno == ENOENT)
			evfs_work_discard(place, number);
	}
	(void)closedir(dir);
	return 0;
}

int evfs_work_recover(struct evfs_workplace *place, recover_each *each,
		      void *arg, struct evfs_err *err)
{
	evfs_cleanup_free uint64_t *numbers = NULL;
	uint64_t max = 0;
	size_t n = 0;
	int rc;

	rc = list_logs(place, &numbers, &n, &max, err);
	if (rc != 0)
		return rc;
	atomic_store(&place->next, max + 1);
	for (size_t i = 0; rc == 0 && i < n; i++)
		rc = recover_one(place, numbers[i], each, arg, err);
	return rc == 0 ? sweep_overlays(place, err) : rc;
}
