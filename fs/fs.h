/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The mount: a libfuse low-level session over a store. Its operations are
 * thin: they translate between the kernel's node ids and the view (meta/view.h)
 * and tree (meta/tree.h), keep working copies of files being written, and
 * decide nothing about replicated state.
 *
 * Threads: libfuse workers run operations; one notify thread makes the kernel
 * forget what remote changes touched (never inside a request), one sealer seals
 * what stays open and dirty. Locks, in the order of taking: a file's sealing
 * lock -> its writer lock -> its data lock -> meta -> leaves (node table, list
 * of dirty files, queue of the notify thread), of which the table comes before
 * the list. */
#ifndef EVFS_FS_FS_H
#define EVFS_FS_FS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "meta/meta.h"

struct evfs_fs;
struct fuse_args;

struct evfs_fs_options {
	const char *mountpoint;
	const char *store_path;
	const char *fuse_options; /* comma-separated -o for libfuse, or NULL */
	bool debug;               /* -d */
	unsigned write_quorum;    /* of this mount; 0: as the setting says */
	unsigned read_quorum;     /* the same */
	bool real_opens;          /* with a message each, as the mount of an
	                           * ordinary user has them */
	bool power_save;          /* processors may sleep deeply while requests
	                           * follow each other (fs/cpu_latency.h) */
	/* status.json under .evfs/: fills out with one JSON object. Called
	 * without locks, from a worker. NULL: no such file. */
	int (*status_json)(void *ctx, struct evfs_buf *out);
	void *status_ctx;
};

/* Mounts; on return the kernel has the mount, and requests wait until
 * evfs_fs_loop(). Clears a stale dead mount of the same mount point first.
 * Errors: a busy or missing mount point, with what to do. Unsealed files that
 * a crash left are recovered before. */
int evfs_fs_mount(struct evfs_meta *meta,
		  const struct evfs_fs_options *options, struct evfs_fs **ret,
		  struct evfs_err *err) EVFS_MUST_USE;

/* For a store whose daemon was killed and cannot end: the kernel lets go of it
 * only when somebody answers what it was asked. Ends the connection of that
 * mount, if it is one of this store. */
void evfs_fs_release(const char *mountpoint, const char *store);

/* Serves requests until unmounted or evfs_fs_exit(); then everything is sealed
 * and committed. */
int evfs_fs_loop(struct evfs_fs *fs, struct evfs_err *err) EVFS_MUST_USE;

/* Are files opened without a message (fs/closes.h), so that nobody can be asked
 * before? Any thread. */
bool evfs_fs_opens_quietly(const struct evfs_fs *fs);

/* Async-signal-safe: makes the loop end. */
void evfs_fs_exit(struct evfs_fs *fs);

/* Unmounts if still mounted, frees. */
void evfs_fs_free(struct evfs_fs *fs);

/* Files written and not sealed yet: changes that peers cannot have. Any
 * thread. oldest_s: age of the oldest, -1 none. */
void evfs_fs_unsealed(struct evfs_fs *fs, uint64_t *ret_files,
		      uint64_t *ret_bytes, int64_t *ret_oldest_s);

/* Seals what is dirty now, e.g. before `sync`. Any thread but libfuse's. */
void evfs_fs_seal_all(struct evfs_fs *fs);

#endif
