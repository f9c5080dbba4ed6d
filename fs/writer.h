/* SPDX-License-Identifier: GPL-3.0-or-later */
/* "The writer is done": how the mount learns it, and what follows. Either the
 * OPEN, FLUSH and RELEASE of each handle tell, or, where files are opened
 * without a message, the kernel tells of each close (fs/closes.h). It is never
 * guessed from silence: half a download is nobody's version. */
#ifndef EVFS_FS_WRITER_H
#define EVFS_FS_WRITER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct evfs_fs;
struct evfs_node;

/* fi->fh of a handle that was opened with a message, and has a pin. */
#define EVFS_FH_REAL 1

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

/* Where files are opened without a message: a handle that may have written is
 * gone. heard_ns: monotonic, when that was heard. Node pinned, of a file. */
void evfs_writer_closed(struct evfs_fs *fs, struct evfs_node *node,
			uint64_t heard_ns);

/* Bytes of the file, if it is not sealed; else 0. */
uint64_t evfs_writer_unsealed(struct evfs_fs *fs, struct evfs_node *node);

#endif
