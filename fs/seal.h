/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Sealing: a working copy becomes a version. Bytes go to the content store
 * without any lock that a writer needs (fs/file_work.h); then, in one stretch
 * under the meta lock, they are made known, the version is written, and what
 * else belongs to the same step is done. Only then the working copy is dropped;
 * when anything fails it stays, and is tried again. What is written meanwhile
 * is left to the next seal. */
#ifndef EVFS_FS_SEAL_H
#define EVFS_FS_SEAL_H

#include "base/err.h"

struct evfs_fs;
struct evfs_node;

/* Seals the node if it is dirty (0 otherwise). No lock held. */
int evfs_seal(struct evfs_fs *fs, struct evfs_node *node, struct evfs_err *err)
	EVFS_MUST_USE;

/* The same, and then step(arg) in the same stretch, with meta locked; also
 * where there was nothing to seal. node NULL: only the step. */
int evfs_seal_then(struct evfs_fs *fs, struct evfs_node *node,
		   int (*step)(void *arg, struct evfs_err *err), void *arg,
		   struct evfs_err *err) EVFS_MUST_USE;

/* For fsync(2): after this and evfs_meta_sync() what was written to the node so
 * far survives a crash. It is sealed; or, where that would take long and no
 * other replica has to have it, its working copy is kept (fs/work.h), and the
 * sealer is told. No lock held. */
int evfs_seal_or_keep(struct evfs_fs *fs, struct evfs_node *node,
		      struct evfs_err *err) EVFS_MUST_USE;

/* The error of the last seal that nobody was told of, and forgets it. */
int evfs_seal_error(struct evfs_fs *fs, struct evfs_node *node);

#endif
