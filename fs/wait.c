/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Waiting for content that has not arrived. */
#include "fs/wait.h"

#include <errno.h>
#include <time.h>

#include "fs/fs_priv.h"

static void arrived_cb(void *ctx)
{
	struct evfs_waits *waits = ctx;

	(void)pthread_mutex_lock(&waits->lock);
	waits->arrivals++;
	(void)pthread_cond_broadcast(&waits->changed);
	(void)pthread_mutex_unlock(&waits->lock);
}

static void unreachable_cb(void *ctx, const evfs_hash *name)
{
	struct evfs_waits *waits = ctx;

	(void)pthread_mutex_lock(&waits->lock);
	for (struct evfs_waiter *at = waits->head; at; at = at->next)
		if (evfs_hash_equal(&at->name, name))
			at->unreachable = true;
	(void)pthread_cond_broadcast(&waits->changed);
	(void)pthread_mutex_unlock(&waits->lock);
}

static void answered_cb(void *ctx, const struct evfs_answer *answer)
{
	struct evfs_waits *waits = ctx;

	(void)pthread_mutex_lock(&waits->lock);
	for (struct evfs_waiter *at = waits->head; at; at = at->next)
		if (at->question == answer->id) {
			at->answered = true;
			at->answer = *answer;
		}
	(void)pthread_cond_broadcast(&waits->changed);
	(void)pthread_mutex_unlock(&waits->lock);
}

static void interrupt_cb(fuse_req_t req, void *data)
{
	struct evfs_waiter *waiter = data;

	(void)req;
	(void)pthread_mutex_lock(&waiter->waits->lock);
	waiter->interrupted = true;
	(void)pthread_cond_broadcast(&waiter->waits->changed);
	(void)pthread_mutex_unlock(&waiter->waits->lock);
}

int evfs_waits_init(struct evfs_fs *fs, struct evfs_err *err)
{
	struct evfs_waits *waits = &fs->waits;
	const struct evfs_content_watch watch = {
		.ctx = waits,
		.arrived = arrived_cb,
		.unreachable = unreachable_cb,
	};
	pthread_condattr_t attr;

	if (pthread_mutex_init(&waits->lock, NULL) != 0)
		return evfs_err_set(err, EVFS_ENOMEM, "waits: no memory");
	(void)pthread_condattr_init(&attr);
	(void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	if (pthread_cond_init(&waits->changed, &attr) != 0) {
		(void)pthread_condattr_destroy(&attr);
		(void)pthread_mutex_destroy(&waits->lock);
		return evfs_err_set(err, EVFS_ENOMEM, "waits: no memory");
	}
	(void)pthread_condattr_destroy(&attr);
	evfs_content_set_watch(fs->content, EVFS_CONTENT_WATCH_FS, &watch);
	evfs_quorum_set_watch(fs->meta, EVFS_QUORUM_WATCH_FS,
			      &(struct evfs_quorum_watch){
				      .ctx = waits,
				      .answered = answered_cb });
	waits->inited = true;
	return 0;
}

void evfs_waits_close(struct evfs_fs *fs)
{
	(void)pthread_mutex_lock(&fs->waits.lock);
	fs->waits.closed = true;
	(void)pthread_cond_broadcast(&fs->waits.changed);
	(void)pthread_mutex_unlock(&fs->waits.lock);
}

void evfs_waits_fini(struct evfs_fs *fs)
{
	static const struct evfs_content_watch nothing;

	evfs_content_set_watch(fs->content, EVFS_CONTENT_WATCH_FS, &nothing);
	evfs_quorum_set_watch(fs->meta, EVFS_QUORUM_WATCH_FS, NULL);
	(void)pthread_cond_destroy(&fs->waits.changed);
	(void)pthread_mutex_destroy(&fs->waits.lock);
}

/* ---- one wait ---- */

bool evfs_waiter_enter(struct evfs_waits *waits, struct evfs_waiter *waiter,
		       struct fuse_req *req)
{
	bool ok;

	waiter->waits = waits;
	(void)pthread_mutex_lock(&waits->lock);
	ok = !waits->closed && waits->n < EVFS_FS_WAITS_MAX;
	if (ok) {
		waiter->next = waits->head;
		waits->head = waiter;
		waits->n++;
	}
	(void)pthread_mutex_unlock(&waits->lock);
	if (ok && req)
		fuse_req_interrupt_func(req, interrupt_cb, waiter);
	return ok;
}

void evfs_waiter_leave(struct evfs_waits *waits, struct evfs_waiter *waiter,
		       struct fuse_req *req)
{
	struct evfs_waiter **at;

	if (req)
		fuse_req_interrupt_func(req, NULL, NULL);
	(void)pthread_mutex_lock(&waits->lock);
	for (at = &waits->head; *at != waiter; at = &(*at)->next)
		;
	*at = waiter->next;
	waits->n--;
	(void)pthread_mutex_unlock(&waits->lock);
}

void evfs_wait_deadline(uint64_t ms, struct timespec *ret)
{
	(void)clock_gettime(CLOCK_MONOTONIC, ret);
	ret->tv_sec += (time_t)(ms / 1000);
	ret->tv_nsec += (long)(ms % 1000) * 1000000;
	if (ret->tv_nsec >= 1000000000) {
		ret->tv_nsec -= 1000000000;
		ret->tv_sec++;
	}
}

/* Sleeps until something new may have happened since `seen` arrivals. 0, or
 * why the wait is over. */
static int sleep_on(struct evfs_waits *waits,
		    const struct evfs_waiter *waiter, uint64_t seen,
		    const struct timespec *deadline, struct evfs_err *err)
{
	int rc = 0;

	(void)pthread_mutex_lock(&waits->lock);
	for (;;) {
		if (waiter->interrupted)
			rc = evfs_err_set(err, EVFS_EAGAIN,
					  "interrupted while waiting for "
					  "content");
		else if (waiter->unreachable)
			rc = evfs_err_set(err, EVFS_EUNREACHABLE,
					  "no replica that holds the content "
					  "can be reached");
		else if (waits->closed)
			rc = evfs_err_set(err, EVFS_EUNREACHABLE,
					  "the mount ends");
		if (rc != 0 || waits->arrivals != seen)
			break;
		if (pthread_cond_timedwait(&waits->changed, &waits->lock,
					   deadline) == ETIMEDOUT) {
			rc = evfs_err_set(err, EVFS_EUNREACHABLE,
					  "the content did not arrive within "
					  "%d s", EVFS_FS_WAIT_MS / 1000);
			break;
		}
	}
	(void)pthread_mutex_unlock(&waits->lock);
	if (rc == EVFS_EAGAIN && err)
		err->sys = EINTR;
	return rc;
}

static uint64_t arrivals_of(struct evfs_waits *waits)
{
	uint64_t n;

	(void)pthread_mutex_lock(&waits->lock);
	n = waits->arrivals;
	(void)pthread_mutex_unlock(&waits->lock);
	return n;
}

int evfs_wait_open(struct evfs_fs *fs, struct fuse_req *req,
		   const evfs_hash *name, uint64_t size,
		   struct evfs_content_reader **ret, struct evfs_err *err)
{
	struct evfs_waits *waits = &fs->waits;
	struct evfs_waiter waiter = { .name = *name };
	struct timespec deadline;
	uint64_t seen;
	int rc;

	rc = evfs_content_open(fs->content, name, size, ret, err);
	if (rc != EVFS_EMISSING)
		return rc;
	if (!evfs_waiter_enter(waits, &waiter, req))
		return evfs_err_set(err, EVFS_EUNREACHABLE,
				    "too many reads wait for content already");
	evfs_wait_deadline(EVFS_FS_WAIT_MS, &deadline);
	seen = arrivals_of(waits);
	evfs_content_ask(fs->content, name, size);
	for (;;) {
		rc = evfs_content_open(fs->content, name, size, ret, err);
		if (rc != EVFS_EMISSING)
			break;
		rc = sleep_on(waits, &waiter, seen, &deadline, err);
		if (rc != 0)
			break;
		seen = arrivals_of(waits);
	}
	evfs_waiter_leave(waits, &waiter, req);
	return rc;
}
