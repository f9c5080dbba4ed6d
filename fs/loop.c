/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The workers. */
#include "fs/loop.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "fs/fs_priv.h"

#define IDLE_MAX 10 /* workers that wait for requests; fewer, and a writer of a
		     * big file makes and ends one with every few requests, each
		     * with a new buffer of 1 MiB to be zeroed by the kernel */

struct worker {
	pthread_t thread;
	struct evfs_loop *loop;
	struct fuse_buf buf;          /* its memory is libfuse's (malloc) */
	struct worker *next, *prev;   /* under the loop's lock */
};

struct evfs_loop {
	struct evfs_fs *fs;
	pthread_mutex_t lock;   /* all below */
	struct worker *head;    /* those that run */
	unsigned n;             /* their number */
	unsigned idle;          /* those that wait for a request */
	bool ending;            /* no more are started, none leaves */
	int error;              /* errno of the device, 0 none */
};

static void worker_free(struct worker *worker)
{
	free(worker->buf.mem);
	evfs_free(worker);
}

/* Locked. */
static void worker_unlink(struct evfs_loop *loop, struct worker *worker)
{
	if (worker->prev)
		worker->prev->next = worker->next;
	else
		loop->head = worker->next;
	if (worker->next)
		worker->next->prev = worker->prev;
	loop->n--;
}

static void *worker_main(void *arg);

/* Locked. */
static int worker_start(struct evfs_loop *loop)
{
	struct worker *worker = evfs_calloc(1, sizeof(*worker));
	sigset_t all, old;
	int sys;

	if (!worker)
		return ENOMEM;
	worker->loop = loop;
	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &old);
	sys = pthread_create(&worker->thread, NULL, worker_main, worker);
	(void)pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (sys != 0) {
		evfs_free(worker);
		return sys;
	}
	worker->next = loop->head;
	if (loop->head)
		loop->head->prev = worker;
	loop->head = worker;
	loop->n++;
	loop->idle++;
	return 0;
}

/* A request was taken: somebody must wait for the next. */
static void worker_busy(struct evfs_loop *loop)
{
	(void)pthread_mutex_lock(&loop->lock);
	loop->idle--;
	if (loop->idle == 0 && !loop->ending && loop->n < EVFS_FS_THREADS_MAX &&
	    worker_start(loop) != 0)
		evfs_log(EVFS_LOG_DEBUG, "no thread for one more worker");
	(void)pthread_mutex_unlock(&loop->lock);
}

/* Is this worker one too many? Then it is on nobody's list any more. */
static bool worker_leaves(struct evfs_loop *loop, struct worker *worker)
{
	bool leaves;

	(void)pthread_mutex_lock(&loop->lock);
	leaves = loop->idle >= IDLE_MAX && !loop->ending;
	if (leaves) {
		worker_unlink(loop, worker);
		(void)pthread_detach(worker->thread);
	} else {
		loop->idle++;
	}
	(void)pthread_mutex_unlock(&loop->lock);
	return leaves;
}

static void loop_over(struct evfs_loop *loop, int sys)
{
	(void)pthread_mutex_lock(&loop->lock);
	if (loop->error == 0)
		loop->error = sys;
	(void)pthread_mutex_unlock(&loop->lock);
	fuse_session_exit(loop->fs->se);
	evfs_fs_exit(loop->fs);
}

static void *worker_main(void *arg)
{
	struct worker *worker = arg;
	struct evfs_loop *loop = worker->loop;
	struct fuse_session *se = loop->fs->se;
	int got, state;

	(void)pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
	while (!fuse_session_exited(se)) {
		/* The only place where evfs_loop_stop() may end it. */
		(void)pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &state);
		got = fuse_session_receive_buf(se, &worker->buf);
		(void)pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
		if (got == -EINTR || got == -EAGAIN)
			continue;
		if (got <= 0) { /* 0: unmounted */
			loop_over(loop, -got);
			break;
		}
		worker_busy(loop);
		fuse_session_process_buf(se, &worker->buf);
		if (worker_leaves(loop, worker)) {
			worker_free(worker);
			return NULL;
		}
	}
	return NULL; /* freed by evfs_loop_stop() */
}

int evfs_loop_start(struct evfs_fs *fs, struct evfs_loop **ret,
		    struct evfs_err *err)
{
	struct evfs_loop *loop = evfs_calloc(1, sizeof(*loop));
	int sys;

	if (!loop || pthread_mutex_init(&loop->lock, NULL) != 0) {
		evfs_free(loop);
		return evfs_err_set(err, EVFS_ENOMEM, "workers: no memory");
	}
	loop->fs = fs;
	(void)pthread_mutex_lock(&loop->lock);
	sys = worker_start(loop);
	(void)pthread_mutex_unlock(&loop->lock);
	if (sys != 0) {
		(void)pthread_mutex_destroy(&loop->lock);
		evfs_free(loop);
		return evfs_err_sys(err, sys, "start a worker");
	}
	*ret = loop;
	return 0;
}

void evfs_loop_wait(struct evfs_loop *loop)
{
	struct pollfd fd = { .fd = loop->fs->exit_fd, .events = POLLIN };

	while (poll(&fd, 1, -1) < 0 && errno == EINTR)
		;
}

int evfs_loop_stop(struct evfs_loop *loop, struct evfs_err *err)
{
	struct worker *worker, *next;
	int sys;

	(void)pthread_mutex_lock(&loop->lock);
	loop->ending = true;
	for (worker = loop->head; worker; worker = worker->next)
		(void)pthread_cancel(worker->thread);
	(void)pthread_mutex_unlock(&loop->lock);
	/* Nobody joins or leaves the list from here on. */
	for (worker = loop->head; worker; worker = next) {
		next = worker->next;
		(void)pthread_join(worker->thread, NULL);
		worker_free(worker);
	}
	sys = loop->error;
	(void)pthread_mutex_destroy(&loop->lock);
	evfs_free(loop);
	if (sys != 0)
		return evfs_err_sys(err, sys, "read requests of the kernel");
	return 0;
}
