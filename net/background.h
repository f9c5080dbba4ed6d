/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A thread for work that would hold up the network thread: tasks run there one
 * after the other, in the order in which they were handed over, and come back
 * done. */
#ifndef EVFS_NET_BACKGROUND_H
#define EVFS_NET_BACKGROUND_H

#include "base/err.h"

struct evfs_engine;

/* Part of something of its owner's, who frees it in done(). */
struct evfs_task {
	struct evfs_task *next;
	/* On the thread: without the engine, and without anything that others
	 * use without a lock. */
	void (*run)(struct evfs_task *task);
	/* Then, as an event of the engine. */
	void (*done)(struct evfs_task *task, struct evfs_engine *engine);
};

struct evfs_background;

/* wake(ctx): there is something to take again. Called on the thread. */
int evfs_background_start(void (*wake)(void *ctx), void *ctx,
			  struct evfs_background **ret,
			  struct evfs_err *err) EVFS_MUST_USE;
/* Any thread. */
void evfs_background_submit(struct evfs_background *background,
			    struct evfs_task *task);
/* Those that have run, oldest first, linked by next; NULL = none. */
struct evfs_task *evfs_background_take(struct evfs_background *background);
/* Runs what is left and ends the thread. NULL is fine. Take once more before
 * free. */
void evfs_background_stop(struct evfs_background *background);
void evfs_background_free(struct evfs_background *background);

#endif
