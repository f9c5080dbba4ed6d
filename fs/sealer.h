/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The sealer: a thread that has the kernel hand over what it holds of files
 * that stay open, and seals what has been dirty for seal_interval, or what
 * fsync(2) has left to it. */
#ifndef EVFS_FS_SEALER_H
#define EVFS_FS_SEALER_H

#include "base/err.h"

struct evfs_fs;

/* The thread that seals what stays open and dirty. */
int evfs_sealer_start(struct evfs_fs *fs, struct evfs_err *err) EVFS_MUST_USE;
void evfs_sealer_stop(struct evfs_fs *fs);
/* There is a file that is due (fs/node.h): not at its next turn, but now. */
void evfs_sealer_hurry(struct evfs_fs *fs);

/* Makes the kernel hand over what it holds of files that are open for writing.
 * While workers serve; no lock held. */
void evfs_sealer_flush_kernel(struct evfs_fs *fs);

#endif
