/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The workers: threads that take requests from the kernel. There is always one
 * more than are busy (many may wait for content), and idle ones beyond a few
 * end. libfuse's own loop wakes another thread for each request, and cannot be
 * ended from any thread at any moment, which a daemon's signal handler needs. */
#ifndef EVFS_FS_LOOP_H
#define EVFS_FS_LOOP_H

#include <stdbool.h>

#include "base/err.h"

struct evfs_fs;
struct evfs_loop;

int evfs_loop_start(struct evfs_fs *fs, struct evfs_loop **ret,
		    struct evfs_err *err) EVFS_MUST_USE;
/* Returns when the mount is gone or evfs_fs_exit() was called. Workers still
 * serve. */
void evfs_loop_wait(struct evfs_loop *loop);
/* Has a follower call(fs, arg), soon; what frees arg is in the call. Any
 * thread. False: too much waits already, or they end; nothing was done. */
bool evfs_loop_call(struct evfs_loop *loop,
		    void (*call)(struct evfs_fs *fs, void *arg), void *arg)
	EVFS_MUST_USE;
/* Ends the workers, frees. 0, or why the kernel's device failed. */
int evfs_loop_stop(struct evfs_loop *loop, struct evfs_err *err) EVFS_MUST_USE;

#endif
