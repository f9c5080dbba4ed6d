/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Threads. */
#include "base/thread.h"

#include <signal.h>

int evfs_thread_start(pthread_t *ret, void *(*main)(void *arg), void *arg,
		      const char *what, struct evfs_err *err)
{
	sigset_t all, old;
	int sys;

	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &old);
	sys = pthread_create(ret, NULL, main, arg);
	(void)pthread_sigmask(SIG_SETMASK, &old, NULL);
	return sys == 0 ? 0 : evfs_err_sys(err, sys, "start the %s", what);
}
