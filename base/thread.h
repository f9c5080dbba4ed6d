/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Threads. */
#ifndef EVFS_BASE_THREAD_H
#define EVFS_BASE_THREAD_H

#include <pthread.h>

#include "base/err.h"

/* Starts a thread with all signals blocked: they are the main thread's. `what`
 * names it in the error. Joined, or detached, by the caller. Any thread. */
int evfs_thread_start(pthread_t *ret, void *(*main)(void *arg), void *arg,
		      const char *what, struct evfs_err *err) EVFS_MUST_USE;

#endif
