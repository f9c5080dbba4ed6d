/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The mount point: what is there already, and the options for libfuse. */
#ifndef EVFS_FS_MOUNT_H
#define EVFS_FS_MOUNT_H

#include "base/err.h"
#include "fs/fs_priv.h"

/* The mount point as an absolute path (the caller frees). A dead mount of this
 * store there is cleared away. Errors say what is in the way and what to do. */
int evfs_mount_point(const char *path, const char *store, char **ret,
		     struct evfs_err *err) EVFS_MUST_USE;

/* Has the kernel read far ahead in files of this mount, so that a long one
 * costs few requests. Only root may ask for it; for others, and where it fails,
 * nothing changes. While workers serve. */
void evfs_mount_read_ahead(const char *mountpoint, const char *store);

/* Arguments for fuse_session_new(); the caller frees with fuse_opt_free_args.
 * Options that only mean something to mount(8) and fstab are left out. */
int evfs_mount_args(const char *store, const char *options, bool debug,
		    struct fuse_args *ret, struct evfs_err *err) EVFS_MUST_USE;

/* libfuse reports on stderr; from here on into the log, and the last line is
 * kept for error messages. */
void evfs_mount_take_log(void);
void evfs_mount_last_log(char *text, size_t size);

#endif
