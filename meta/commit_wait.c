/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Who waits for a commit.
 *
 * They are in one list, and each commit takes from it those whom it has made
 * durable and those whom it has failed, and tells them when nothing is locked:
 * each is woken once, by the one commit that it waited for, and none of them
 * needs the meta lock to find out. (Waking all at once with a condition, to
 * look for themselves, made the waiters of a commit queue up for that lock,
 * behind each other and in front of those who change something meanwhile.) */
#include <errno.h>
#include <semaphore.h>

#include "meta/store.h"

/* Meta locked. Is its waiting over? Then with which result. */
static bool wait_is_over(const struct evfs_store *store,
			 struct evfs_sync_wait *wait)
{
	const struct evfs_err *failed = &store->failed;

	/* First: once others are durable again, so is the number of what was
	 * lost. */
	if (store->losses != wait->losses)
		(void)evfs_err_set(&wait->err, EVFS_EIO,
				   "changes were lost: %s", failed->msg);
	else if (store->durable_seq >= wait->want)
		wait->err.code = 0;
	else if (store->broken ||
		 (failed->code != 0 && store->ended >= wait->attempt))
		(void)evfs_err_set(&wait->err, failed->code, "%s",
				   failed->msg);
	else
		return false;
	return true;
}

struct evfs_sync_wait *evfs_store_take_waits(struct evfs_store *store)
{
	struct evfs_sync_wait **at = &store->waits;
	struct evfs_sync_wait *over = NULL, **end = &over;

	while (*at != NULL) {
		struct evfs_sync_wait *wait = *at;

		if (!wait_is_over(store, wait)) {
			at = &wait->next;
			continue;
		}
		*at = wait->next;
		wait->next = NULL;
		*end = wait;
		end = &wait->next;
	}
	store->waits_end = at;
	store->commit_wanted = store->waits != NULL || store->tx_lost;
	return over;
}

void evfs_store_tell_waits(struct evfs_sync_wait *wait)
{
	while (wait != NULL) {
		struct evfs_sync_wait *next = wait->next;

		wait->done(wait); /* it may be freed there */
		wait = next;
	}
}

void evfs_meta_sync_then(struct evfs_meta *meta, struct evfs_sync_wait *wait)
{
	struct evfs_store *store = meta->store;
	bool over = true;

	wait->err.code = 0;
	wait->next = NULL;
	if (store->path == NULL) {
		if (!store->read_only)
			(void)!evfs_store_commit(meta, &wait->err);
	} else if (!store->read_only) {
		evfs_meta_lock(meta);
		wait->want = store->write_seq;
		wait->losses = store->losses;
		wait->attempt = store->begun + 1;
		over = wait_is_over(store, wait);
		if (!over) {
			*store->waits_end = wait;
			store->waits_end = &wait->next;
			store->commit_wanted = true;
			pthread_cond_signal(&store->wake);
		}
		pthread_mutex_unlock(&store->lock);
	}
	if (over)
		wait->done(wait);
}

/* A thread that waits. */
struct sleeper {
	struct evfs_sync_wait wait; /* first */
	sem_t over;                 /* posted then */
};

static void wake_sleeper(struct evfs_sync_wait *wait)
{
	(void)sem_post(&((struct sleeper *)wait)->over);
}

int evfs_meta_sync(struct evfs_meta *meta, struct evfs_err *err)
{
	struct sleeper sleeper = { .wait = { .done = wake_sleeper } };

	if (sem_init(&sleeper.over, 0, 0) != 0)
		return evfs_err_sys(err, errno, "wait for a commit");
	evfs_meta_sync_then(meta, &sleeper.wait);
	while (sem_wait(&sleeper.over) != 0 && errno == EINTR)
		;
	(void)sem_destroy(&sleeper.over);
	if (sleeper.wait.err.code != 0 && err != NULL)
		*err = sleeper.wait.err;
	return sleeper.wait.err.code;
}
