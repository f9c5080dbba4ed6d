/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What is asked of the kernel that libfuse 3.14 does not know: that this file
 * system takes set-ID bits away by itself (FUSE_HANDLE_KILLPRIV_V2, Linux
 * 5.11). Without it the kernel asks for security.capability before each single
 * write(2), which is a round trip for each; with it, once for an inode.
 *
 * The answer to INIT is libfuse's; it passes through here on its way. */
#ifndef EVFS_FS_SESSION_IO_H
#define EVFS_FS_SESSION_IO_H

#include "base/err.h"

struct evfs_fs;

/* After the mount, before the first request. */
int evfs_session_io(struct evfs_fs *fs, struct evfs_err *err) EVFS_MUST_USE;

#endif
