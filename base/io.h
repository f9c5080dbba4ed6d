/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Files: whole reads and writes, and the one recipe for durable replacement.
 *
 * The recipe: write a temporary file beside the target, fdatasync it, check
 * close, rename it over the target, fsync the directory. After a crash the
 * target holds either the old or the new bytes, whole. Thread-safe. */
#ifndef EVFS_BASE_IO_H
#define EVFS_BASE_IO_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/buf.h"
#include "base/err.h"

/* All len bytes, through short transfers and EINTR. A premature end of file
 * is EVFS_EIO for the readers ("12 of 64 bytes"). */
int evfs_io_read(int fd, void *data, size_t len, struct evfs_err *err)
	EVFS_MUST_USE;
int evfs_io_pread(int fd, void *data, size_t len, uint64_t offset,
		  struct evfs_err *err) EVFS_MUST_USE;
int evfs_io_write(int fd, const void *data, size_t len,
		  struct evfs_err *err) EVFS_MUST_USE;
int evfs_io_pwrite(int fd, const void *data, size_t len, uint64_t offset,
		   struct evfs_err *err) EVFS_MUST_USE;

/* The whole file, at most size_max bytes (EVFS_ELIMIT beyond), appended to
 * ret. */
int evfs_io_read_file(const char *path, size_t size_max,
		      struct evfs_buf *ret, struct evfs_err *err)
	EVFS_MUST_USE;

/* The recipe above; mode is that of the new file. */
int evfs_io_replace(const char *path, const void *data, size_t len,
		    mode_t mode, struct evfs_err *err) EVFS_MUST_USE;

/* fsync of a directory, by path. */
int evfs_io_sync_dir(const char *path, struct evfs_err *err) EVFS_MUST_USE;

#endif
