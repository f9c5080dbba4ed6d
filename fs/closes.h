/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Opens without a message. Where it may, the mount asks the kernel (fanotify(7))
 * to tell of each handle that may have written and is gone, on whatever mount
 * of this file system it was. Then OPEN, FLUSH, RELEASE and CREATE are of no
 * use any more: they are answered with ENOSYS, once, and never sent again; a
 * file is made by MKNOD. Who only reads is not heard of at all.
 *
 * It takes CAP_SYS_ADMIN and a kernel that opens without a message
 * (FUSE_NO_OPEN_SUPPORT), and no read quorum, which is asked at each open. Else
 * there are real opens (fs/writer.h).
 *
 * An event holds the file open, and so the mount, until it is taken. So one
 * thread does nothing else than take them, before anything else that runs on
 * this machine (SCHED_FIFO); another has the versions sealed, the big ones by
 * workers. */
#ifndef EVFS_FS_CLOSES_H
#define EVFS_FS_CLOSES_H

#include <stdbool.h>

#include "base/err.h"

struct evfs_fs;

/* Before the session is made: may it be had? No is no error. */
void evfs_closes_new(struct evfs_fs *fs);
/* Once requests are served: marks the file system. From then on opens may do
 * without a message (fs->quiet_opens). Failing that there are real ones. */
int evfs_closes_start(struct evfs_fs *fs, struct evfs_err *err) EVFS_MUST_USE;
/* While requests are still served. What was told until now is taken. */
void evfs_closes_stop(struct evfs_fs *fs);
void evfs_closes_free(struct evfs_fs *fs);

/* Waits until the kernel has handed over what it had of all files that are
 * open: which these are, nobody here knows. Not in a request. */
void evfs_closes_flush(struct evfs_fs *fs);

#endif
