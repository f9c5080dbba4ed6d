/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Whole transfers and durable replacement; see io.h. */

#include "base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"

#define IO_READ_STEP ((size_t)64 << 10)

static int io_short(struct evfs_err *err, size_t done, size_t len)
{
	return evfs_err_set(err, EVFS_EIO, "file ends early: %zu of %zu bytes",
			    done, len);
}

int evfs_io_read(int fd, void *data, size_t len, struct evfs_err *err)
{
	uint8_t *at = data;
	size_t done = 0;

	while (done < len) {
		ssize_t n = read(fd, at + done, len - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return evfs_err_sys(err, errno, "read");
		if (n == 0)
			return io_short(err, done, len);
		done += (size_t)n;
	}
	return 0;
}

static int io_check_range(uint64_t offset, size_t len, struct evfs_err *err)
{
	if (offset > INT64_MAX || len > INT64_MAX - offset)
		return evfs_err_set(err, EVFS_EFBIG,
				    "offset %llu: beyond what files can hold",
				    (unsigned long long)offset);
	return 0;
}

int evfs_io_pread(int fd, void *data, size_t len, uint64_t offset,
		  struct evfs_err *err)
{
	int rc = io_check_range(offset, len, err);
	uint8_t *at = data;
	size_t done = 0;

	if (rc != 0)
		return rc;
	while (done < len) {
		ssize_t n = pread(fd, at + done, len - done,
				  (off_t)(offset + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return evfs_err_sys(err, errno, "read");
		if (n == 0)
			return io_short(err, done, len);
		done += (size_t)n;
	}
	return 0;
}

/* offset -1: where the descriptor stands. */
static int io_write_at(int fd, const uint8_t *data, size_t len, int64_t offset,
		       struct evfs_err *err)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = offset < 0 ?
				    write(fd, data + done, len - done) :
				    pwrite(fd, data + done, len - done,
					   (off_t)(offset + (int64_t)done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return evfs_err_sys(err, errno, "write");
		done += (size_t)n;
	}
	return 0;
}

int evfs_io_write(int fd, const void *data, size_t len, struct evfs_err *err)
{
	return io_write_at(fd, data, len, -1, err);
}

int evfs_io_pwrite(int fd, const void *data, size_t len, uint64_t offset,
		   struct evfs_err *err)
{
	int rc = io_check_range(offset, len, err);

	return rc != 0 ? rc :
			 io_write_at(fd, data, len, (int64_t)offset, err);
}

int evfs_io_read_file(const char *path, size_t size_max, struct evfs_buf *ret,
		      struct evfs_err *err)
{
	evfs_cleanup_fd int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t start = ret->len;
	int rc = 0;

	if (fd < 0)
		return evfs_err_sys(err, errno, "%s", path);
	for (;;) {
		uint8_t *at = evfs_buf_reserve(ret, IO_READ_STEP);
		ssize_t n;

		if (at == NULL) {
			rc = evfs_err_set(err, EVFS_ENOMEM, "%s: %s", path,
					  evfs_err_text(EVFS_ENOMEM));
			break;
		}
		n = read(fd, at, IO_READ_STEP);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			rc = evfs_err_sys(err, errno, "%s", path);
		if (n <= 0)
			break;
		ret->len += (size_t)n;
		if (ret->len - start > size_max) {
			rc = evfs_err_set(err, EVFS_ELIMIT,
					  "%s: more than %zu bytes", path,
					  size_max);
			break;
		}
	}
	if (rc != 0)
		ret->len = start;
	return rc;
}

int evfs_io_sync_dir(const char *path, struct evfs_err *err)
{
	evfs_cleanup_fd int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0 || fsync(fd) != 0)
		return evfs_err_sys(err, errno, "%s: fsync", path);
	return 0;
}

static int io_sync_parent(const char *path, struct evfs_err *err)
{
	const char *slash = strrchr(path, '/');
	evfs_cleanup_free char *dir = NULL;

	if (slash == NULL)
		return evfs_io_sync_dir(".", err);
	if (slash == path)
		return evfs_io_sync_dir("/", err);
	dir = evfs_memdup(path, (size_t)(slash - path) + 1);
	if (dir == NULL)
		return evfs_err_set(err, EVFS_ENOMEM, "%s: out of memory",
				    path);
	dir[slash - path] = '\0';
	return evfs_io_sync_dir(dir, err);
}

/* Everything up to the rename. close(2) is checked: some file systems report
 * a failed write only there. */
static int io_write_temp(int fd, const char *temp, const void *data, size_t len,
			 mode_t mode, struct evfs_err *err)
{
	int rc = evfs_io_write(fd, data, len, err);

	if (rc != 0)
		evfs_err_wrap(err, rc, "%s", temp);
	else if (fchmod(fd, mode) != 0)
		rc = evfs_err_sys(err, errno, "%s: chmod", temp);
	else if (fdatasync(fd) != 0)
		rc = evfs_err_sys(err, errno, "%s: fdatasync", temp);
	if (close(fd) != 0 && rc == 0)
		rc = evfs_err_sys(err, errno, "%s: close", temp);
	return rc;
}

int evfs_io_replace(const char *path, const void *data, size_t len, mode_t mode,
		    struct evfs_err *err)
{
	evfs_cleanup_free char *temp = evfs_asprintf("%s.XXXXXX", path);
	int fd, rc;

	if (temp == NULL)
		return evfs_err_set(err, EVFS_ENOMEM, "%s: out of memory",
				    path);
	fd = mkostemp(temp, O_CLOEXEC);
	if (fd < 0)
		return evfs_err_sys(err, errno, "%s: create", temp);
	rc = io_write_temp(fd, temp, data, len, mode, err);
	if (rc == 0 && rename(temp, path) != 0)
		rc = evfs_err_sys(err, errno, "%s: rename", path);
	if (rc != 0) {
		unlink(temp);
		return rc;
	}
	return io_sync_parent(path, err);
}
