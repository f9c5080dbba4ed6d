/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Work ahead: a long file that is written from its beginning on is cut into
 * chunks and hashed meanwhile, on a thread behind its writer, so that little is
 * left to do when it is sealed. Bytes may be written in any order and again:
 * what has changed is forgotten and done anew.
 *
 * Only the beginning that has no gaps counts; its chunks depend on nothing
 * else. Over a base they are of use if all of it is overwritten in the end:
 * else hashing them was in vain. What is done leaves memory when the disk has
 * it (base/behind.h): the kernel has it in the cache of the mount.
 *
 * Knows a file descriptor and offsets, nothing of working copies. */
#ifndef EVFS_FS_WORK_AHEAD_H
#define EVFS_FS_WORK_AHEAD_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "meta/content.h"

#define EVFS_AHEAD_MIN (4u << 20) /* shorter beginnings are not worth it */

#define EVFS_AHEAD_HELPERS_MAX 3

struct evfs_ahead;
struct evfs_ahead_piece;

/* The thread and its files; one for a mount. The helpers hash what it has cut,
 * as far as it does not come to that itself. */
struct evfs_aheads {
	pthread_mutex_t lock;    /* leaf; protects all below and in them */
	pthread_cond_t come;     /* something to do, or stop */
	pthread_cond_t idle;     /* a file is not being worked on any more */
	pthread_t thread;        /* started with the first file */
	bool runs;               /* it is to be joined */
	bool stop;
	struct evfs_ahead *head; /* those that wait their turn, in a ring */
	struct evfs_ahead_piece *room; /* owned: what the thread is at; made
	                          * with it, constant */
	pthread_mutex_t crew_lock; /* leaf; protects all below */
	pthread_cond_t crew_come;  /* a chunk to be hashed, or crew_stop */
	pthread_cond_t crew_done;  /* all of the piece are hashed */
	struct evfs_ahead_piece *piece; /* being hashed, the thread's; NULL */
	pthread_t helpers[EVFS_AHEAD_HELPERS_MAX]; /* started with the thread */
	unsigned n_helpers;        /* constant while the thread runs */
	bool crew_stop;
};

void evfs_aheads_init(struct evfs_aheads *aheads);
void evfs_aheads_fini(struct evfs_aheads *aheads); /* all are freed before */

/* The file of this descriptor, which is duplicated. NULL: it cannot be done
 * now (memory, threads), and need not be. */
struct evfs_ahead *evfs_ahead_new(struct evfs_aheads *aheads, int fd);
void evfs_ahead_free(struct evfs_ahead *ahead); /* NULL is fine */

/* Call after each write, truncation or hole, also a failed one: bytes from
 * `start` on may have changed, and those before `front` are there. */
void evfs_ahead_changed(struct evfs_ahead *ahead, uint64_t start,
			uint64_t front);

/* Bytes that are there and not hashed yet; 0 where a write to the disk has
 * failed. */
uint64_t evfs_ahead_left(struct evfs_ahead *ahead);
/* Waits until all is cut that can be before more comes. */
void evfs_ahead_settle(struct evfs_ahead *ahead);

/* Waits for what is under way and stops until the next change. The chunks from
 * the beginning on, borrowed until then. False: a write to the disk has failed,
 * so the file's pages in memory are all that can be trusted. */
bool evfs_ahead_get(struct evfs_ahead *ahead, const struct evfs_cut **ret,
		    size_t *ret_n);

#endif
