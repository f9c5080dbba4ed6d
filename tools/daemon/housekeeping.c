/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A thread of low priority that drops history beyond its limits, collects what
 * is removed for good, and gives the space of unnamed content back, in small
 * steps, so that it never holds the store's lock for long. What memory a burst
 * has left unused goes back to the system. */
#include <errno.h>
#include <pthread.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/thread.h"
#include "meta/collect.h"
#include "meta/content.h"
#include "meta/history.h"
#include "tools/daemon/daemon.h"

#define KEEPER_IDLE_S 60             /* between rounds with nothing to do */
#define KEEPER_STEP_BYTES (8u << 20) /* copied a step, then a pause */
#define KEEPER_STEP_PAUSE_MS 200     /* so about 40 MB/s at the most */
#define KEEPER_PRUNE_ROWS 500
#define KEEPER_COLLECT 2048 /* removed objects looked at in a step */

struct evfs_housekeeper {
	pthread_t thread;
	pthread_mutex_t lock; /* protects stop */
	pthread_cond_t wake;
	bool stop;
	struct evfs_daemon *daemon; /* borrowed */
};

/* One step; is there more to do at once? */
static bool step(struct evfs_housekeeper *keeper)
{
	struct evfs_meta *meta = keeper->daemon->meta;
	struct evfs_err err = { 0 };
	bool more_history = false, more_space = false, more_dead = false;
	int rc;

	evfs_meta_lock(meta);
	rc = evfs_history_prune(meta, KEEPER_PRUNE_ROWS, &more_history, &err);
	evfs_meta_unlock(meta);
	if (!rc)
		rc = evfs_collect_step(meta, KEEPER_COLLECT, &more_dead, &err);
	if (!rc)
		rc = evfs_content_reclaim(evfs_meta_content(meta),
					  KEEPER_STEP_BYTES, &more_space,
					  &err);
	if (rc) {
		evfs_log(EVFS_LOG_WARN, "housekeeping: err=%s", err.msg);
		return false;
	}
	return more_history || more_space || more_dead;
}

static void *run(void *arg)
{
	struct evfs_housekeeper *keeper = arg;

	/* Of this thread only, on Linux. */
	setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), 10);
	pthread_mutex_lock(&keeper->lock);
	while (!keeper->stop) {
		struct timespec until;
		bool more;

		pthread_mutex_unlock(&keeper->lock);
		more = step(keeper);
		clock_gettime(CLOCK_MONOTONIC, &until);
		if (more) {
			until.tv_nsec += KEEPER_STEP_PAUSE_MS * 1000000L;
			until.tv_sec += until.tv_nsec / 1000000000L;
			until.tv_nsec %= 1000000000L;
		} else {
			evfs_mem_return_unused();
			until.tv_sec += KEEPER_IDLE_S;
		}
		pthread_mutex_lock(&keeper->lock);
		while (!keeper->stop &&
		       pthread_cond_timedwait(&keeper->wake, &keeper->lock,
					      &until) != ETIMEDOUT)
			;
	}
	pthread_mutex_unlock(&keeper->lock);
	return NULL;
}

int evfs_housekeeper_start(struct evfs_daemon *daemon, struct evfs_err *err)
{
	struct evfs_housekeeper *keeper = evfs_calloc(1, sizeof(*keeper));
	pthread_condattr_t attr;
	int rc;

	if (!keeper)
		return evfs_err_set(err, EVFS_ENOMEM, "housekeeping: %s",
				    evfs_err_text(EVFS_ENOMEM));
	keeper->daemon = daemon;
	pthread_mutex_init(&keeper->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&keeper->wake, &attr);
	pthread_condattr_destroy(&attr);
	rc = evfs_thread_start(&keeper->thread, run, keeper, "housekeeper",
			       err);
	if (rc) {
		evfs_free(keeper);
		return rc;
	}
	daemon->keeper = keeper;
	return 0;
}

void evfs_housekeeper_stop(struct evfs_daemon *daemon)
{
	struct evfs_housekeeper *keeper = daemon->keeper;

	if (!keeper)
		return;
	pthread_mutex_lock(&keeper->lock);
	keeper->stop = true;
	pthread_cond_signal(&keeper->wake);
	pthread_mutex_unlock(&keeper->lock);
	pthread_join(keeper->thread, NULL);
	pthread_cond_destroy(&keeper->wake);
	pthread_mutex_destroy(&keeper->lock);
	evfs_free(keeper);
	daemon->keeper = NULL;
}
