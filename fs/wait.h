/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The waits of the mount: reads of content that has not arrived yet, and
 * questions to other replicas (fs/quorum.h). A read asks for the content and
 * sleeps until it is here, nobody who has it can be reached, the caller gives
 * up (a signal), or 30 s have passed. Many may wait at once: each holds one
 * worker thread of up to EVFS_FS_THREADS_MAX, and the last few of these never
 * wait. */
#ifndef EVFS_FS_WAIT_H
#define EVFS_FS_WAIT_H

#include <pthread.h>
#include <stdbool.h>

#include "base/err.h"
#include "base/hash.h"
#include "meta/quorum.h"

#define EVFS_FS_THREADS_MAX 512 /* workers */
#define EVFS_FS_WAITS_MAX 448   /* of these, waiting */
#define EVFS_FS_WAIT_MS 30000

struct evfs_fs;
struct evfs_content;
struct evfs_content_reader;
struct evfs_waiter;
struct fuse_req;
struct timespec;

/* A request that waits, in the memory of its worker. */
struct evfs_waiter {
	struct evfs_waits *waits; /* where it stands */
	evfs_hash name;           /* content that is waited for, or zero */
	uint64_t question;        /* put to other replicas, or 0 */
	bool unreachable;         /* nobody who has it can be reached */
	bool interrupted;         /* the caller gave up */
	bool answered;            /* the question was: */
	struct evfs_answer answer;
	struct evfs_waiter *next;
};

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

/* Puts a waiter (zeroed but for what it waits for) on the list, and has an
 * interrupt of req (or NULL) wake it. False: too many wait, or the mount ends.
 * leave: takes it off again. */
bool evfs_waiter_enter(struct evfs_waits *waits, struct evfs_waiter *waiter,
		       struct fuse_req *req);
void evfs_waiter_leave(struct evfs_waits *waits, struct evfs_waiter *waiter,
		       struct fuse_req *req);
/* The monotonic time in so many ms. */
void evfs_wait_deadline(uint64_t ms, struct timespec *ret);

/* Opens a content, waiting for it where it is not here. req: whose interrupt
 * ends the wait (EVFS_EAGAIN with errno EINTR in err->sys), or NULL. No lock
 * held. */
int evfs_wait_open(struct evfs_fs *fs, struct fuse_req *req,
		   const evfs_hash *name, uint64_t size,
		   struct evfs_content_reader **ret, struct evfs_err *err)
	EVFS_MUST_USE;

#endif
