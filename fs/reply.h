/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Answers to the kernel: the one place where codes become errno values, and
 * where a failed operation is logged. */
#ifndef EVFS_FS_REPLY_H
#define EVFS_FS_REPLY_H

#include "fs/fs_priv.h"

/* Answers with an error (or success, rc 0). err: what it says is logged where
 * the failure is not the caller's doing (EIO, no space, no memory). */
void evfs_reply(fuse_req_t req, int rc, const struct evfs_err *err);

/* "No such node": the kernel looks again. */
void evfs_reply_stale(fuse_req_t req);

/* An errno as it is, for what only the kernel's interface knows (ENXIO). */
void evfs_reply_errno(fuse_req_t req, int sys);

#endif
