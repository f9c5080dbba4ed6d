/* SPDX-License-Identifier: GPL-3.0-or-later */
/* "The writer is done": how the mount learns it, and what follows. Today a
 * real OPEN and RELEASE of each handle tell; whoever learns it otherwise (a
 * mark on the mount) calls the same functions. */
#ifndef EVFS_FS_WRITER_H
#define EVFS_FS_WRITER_H

#include <stdbool.h>

#include "base/err.h"

struct evfs_fs;
struct evfs_node;

/* Somebody opened the file, and may write. */
void evfs_writer_opened(struct evfs_fs *fs, struct evfs_node *node,
			bool may_write);

/* close(2) of a handle, which others may share, is about to return. What is
 * sealed soon, when the last of them is gone, bears this time: who edits
 * elsewhere after it has the later version. */
void evfs_writer_closes(struct evfs_fs *fs, struct evfs_node *node);

/* That handle is gone for good (dup'ed and inherited ones too): a version is
 * sealed if it was the writer's. A failure is kept for evfs_seal_error(). */
void evfs_writer_done(struct evfs_fs *fs, struct evfs_node *node,
		      bool may_write);

#endif
