/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A file node's working copies. There is one while something is written that is
 * not sealed. When it is to be sealed it is frozen, so that writers need not
 * wait for that: what they write meanwhile goes into a second one, which lies
 * over it and takes its place in the end.
 *
 * All of these with `writer` held, but for the first, with `data`. */
#ifndef EVFS_FS_FILE_WORK_H
#define EVFS_FS_FILE_WORK_H

#include "fs/fs_priv.h"

/* What there is to be read: NULL where all is sealed. Borrowed. */
struct evfs_work *evfs_file_unsealed(const struct evfs_file *file);

/* Makes sure that there is a working copy to be changed. empty: the old bytes
 * are of no use (truncated to nothing): they are not fetched. On failure the
 * file is as dirty as it was. No other lock held. */
int evfs_file_work_ready(struct evfs_fs *fs, fuse_req_t req,
			 struct evfs_node *node, bool empty,
			 struct evfs_err *err) EVFS_MUST_USE;
/* After a change: what others see of it. No other lock held. */
void evfs_file_publish(struct evfs_fs *fs, struct evfs_file *file);

/* What is there now is to be sealed, if it is not so already. */
void evfs_file_freeze(struct evfs_node *node);
/* That has failed: it can be changed again, unless another lies over it. */
void evfs_file_thaw(struct evfs_node *node);
/* Of what is frozen: the times that belong to its version. dirty_lock held. */
void evfs_file_frozen_times(const struct evfs_file *file,
			    struct evfs_content_ref *ret);
/* It is sealed, as file->frozen_as says, which is on the disk: what was written
 * meanwhile lies over that now. The caller has a pin. No other lock held. */
int evfs_file_rebase(struct evfs_fs *fs, struct evfs_node *node,
		     struct evfs_err *err) EVFS_MUST_USE;
/* Drops all working copies and the reader. */
void evfs_file_drop(struct evfs_node *node);

#endif
