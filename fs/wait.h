/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The only wait of the mount: a read of content that has not arrived yet. It
 * asks for the content, sleeps until it is here, nobody who has it can be
 * reached, the caller gives up (a signal), or 30 s have passed. Many may wait
 * at once: each holds one worker thread of up to EVFS_FS_THREADS_MAX, and the
 * last few of these never wait. */
#ifndef EVFS_FS_WAIT_H
#define EVFS_FS_WAIT_H

#include <pthread.h>
#include <stdbool.h>

#include "base/err.h"
#include "base/hash.h"

#define EVFS_FS_THREADS_MAX 512 /* workers */
#define EVFS_FS_WAITS_MAX 448   /* of these, waiting for content */
#define EVFS_FS_WAIT_MS 30000

struct evfs_fs;
struct evfs_content;
struct evfs_content_reader;
struct evfs_waiter;
struct fuse_req;

struct evfs_waits {
	pthread_mutex_t lock;     /* leaf */
	pthread_cond_t changed;   /* something arrived, or a flag was set */
	struct evfs_waiter *head; /* those who wait now */
	unsigned n;               /* their number */
	uint64_t arrivals;        /* counts `arrived` calls */
	bool closed;              /* the mount ends: nobody waits any more */
	bool inited;              /* evfs_waits_init() was called */
};

int evfs_waits_init(struct evfs_fs *fs, struct evfs_err *err) EVFS_MUST_USE;
/* Wakes all who wait; they fail. */
void evfs_waits_close(struct evfs_fs *fs);
void evfs_waits_fini(struct evfs_fs *fs);

/* Opens a content, waiting for it where it is not here. req: whose interrupt
 * ends the wait (EVFS_EAGAIN with errno EINTR in err->sys), or NULL. No lock
 * held. */
int evfs_wait_open(struct evfs_fs *fs, struct fuse_req *req,
		   const evfs_hash *name, uint64_t size,
		   struct evfs_content_reader **ret, struct evfs_err *err)
	EVFS_MUST_USE;

#endif
