/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What a crash left unsealed, sealed before the mount answers. */
#ifndef EVFS_FS_RECOVER_H
#define EVFS_FS_RECOVER_H

#include "base/err.h"

struct evfs_fs;

/* Working copies that were on disk become versions of what reached the disk;
 * files that were created and never sealed, and had nothing on disk, become
 * empty ones. */
int evfs_recover(struct evfs_fs *fs, struct evfs_err *err) EVFS_MUST_USE;

#endif
