/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Quorums of the mount: fsync(2) waits until so many replicas hold what it is
 * about, open(2) until so many were asked for a newer state. With both at 1
 * nothing is waited for; then an open compares now and then, in the
 * background. */
#ifndef EVFS_FS_QUORUM_H
#define EVFS_FS_QUORUM_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "meta/dot.h"

struct evfs_fs;
struct evfs_node;
struct evfs_quorum_settings;
struct fuse_req;

#define EVFS_FRESH_MAX 64

/* Objects that an open has just found changed elsewhere: it was told to look
 * the name up again, and when it comes back it is not asked for once more. */
struct evfs_fresh {
	struct {
		evfs_ino ino;
		uint64_t ns; /* monotonic; 0 = none */
	} items[EVFS_FRESH_MAX]; /* a ring; under dirty_lock */
	unsigned next;
	uint64_t checked_ns; /* monotonic: last comparison in the background */
};

/* The settings, with what the options of the mount put in their place. Any
 * thread. */
void evfs_quorum_of_mount(struct evfs_fs *fs,
			  struct evfs_quorum_settings *ret);

/* After the local sync. node: the file; NULL: all that this replica did. 0 once
 * write_quorum replicas hold it; EVFS_ETIMEOUT, EVFS_EUNREACHABLE (replication
 * is paused, or the mount ends), EVFS_EAGAIN (an interrupt, or too many wait):
 * kept here and spreading nevertheless. No lock held. */
int evfs_quorum_sync(struct evfs_fs *fs, struct fuse_req *req,
		     struct evfs_node *node, struct evfs_err *err)
	EVFS_MUST_USE;

/* Before an open. *ret_stale: the object is another now than the kernel knew:
 * ESTALE makes it look again. Errors as above. No lock held. */
int evfs_quorum_open(struct evfs_fs *fs, struct fuse_req *req,
		     struct evfs_node *node, bool *ret_stale,
		     struct evfs_err *err) EVFS_MUST_USE;

/* Where opens send no message, at the first read: by chance the file is
 * compared with another replica, in the background. A file's node, no lock. */
void evfs_quorum_look(struct evfs_fs *fs, struct evfs_node *node);

#endif
