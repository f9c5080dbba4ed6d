/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Group commit.
 *
 * Operations run inside one open SQL transaction and are visible here at once.
 * A commit makes them durable, in this order:
 *   1. Where there is content to sync the content gate closes: nobody names
 *      content that was written after this (evfs_meta_lock_content() waits).
 *      What the transaction names was written before.
 *   2. It is synced, without the meta lock.
 *   3. Under the meta lock: COMMIT. SQLite appends to its log and, in WAL mode
 *      with synchronous=NORMAL, does not sync it (save once for each round of
 *      the log, when it starts over at the front). The content gate opens.
 *   4. fdatasync of the log, without the meta lock: operations go on meanwhile,
 *      in the next transaction.
 *   5. The context and root of this commit become the durable ones, which peers
 *      may be told, and the feed tells so. Those who waited are told
 *      (meta/commit_wait.c); what was changed meanwhile, and whoever waits for
 *      that, goes with the next commit.
 * From 3 to 5 `gate` is held, and a reader takes it to begin a snapshot: so a
 * snapshot never holds a commit whose sync is not done.
 *
 * Failure modes. Content cannot be synced: no COMMIT, the transaction stays as
 * it is, the next attempt may succeed. COMMIT fails: SQLite has rolled back;
 * all that was not durable is gone, caches are dropped and everybody is told that
 * anything may have changed. (Room for the log is kept allocated ahead, so a
 * full disk is met in evfs_store_reserve and not here.) The sync of the log
 * fails: what the disk holds is unknown and nothing may build on it: no more
 * writes until the store is opened again. In each case writes are refused and
 * attempts go on once a second. */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/thread.h"
#include "meta/content.h"
#include "meta/facts.h"
#include "meta/store.h"

#define RETRY_NS UINT64_C(1000000000)

/* While much is changed and nobody waits, commits take up at most one part in
 * REST + 1 of the time: content that is to be named waits while one syncs. Few
 * changes (one user's) are not kept waiting. */
#define REST 3u
#define REST_NS_MAX UINT64_C(50000000)
#define REST_CHANGES 64u

/* Pages of the log beyond which it is copied into the database: when nobody
 * waits; in any case; and between two transactions, because only then the log
 * can start over while the store is never idle. */
#define WAL_PAGES_SOFT 1024u
#define WAL_PAGES_FIRM 8192u
#define WAL_PAGES_HARD 16384u

static uint64_t commit_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

int evfs_store_start_over(struct evfs_meta *meta, struct evfs_err *err)
{
	struct evfs_store *store = meta->store;
	uint64_t counter = store->counter;
	uint64_t lease = store->lease;
	uint64_t clock = store->clock;
	int rc;

	store->losses++;
	store->write_seq++;
	evfs_feed_note_all(meta);
	rc = evfs_store_load(meta, err);
	store->counter = counter;
	store->lease = lease;
	store->clock = clock;
	if (rc == 0 && counter != 0 &&
	    evfs_context_raise(&store->context, store->actor, counter) != 0)
		rc = evfs_err_set(err, EVFS_ENOMEM, "context: out of memory");
	evfs_content_reset(meta);
	evfs_view_state_reset(meta);
	return rc;
}

/* Room for the log to grow; else writes are refused until there is. */
static int commit_reserve(struct evfs_store *store, struct evfs_err *err)
{
	struct stat st;
	uint64_t size;

	if (store->wal_fd < 0)
		return 0;
	if (fstat(store->wal_fd, &st) != 0)
		return evfs_err_sys(err, errno, "meta.db-wal");
	size = (uint64_t)st.st_size;
	if (size + EVFS_WAL_RESERVE / 2 <= store->wal_reserved)
		return 0;
	if (fallocate(store->wal_fd, FALLOC_FL_KEEP_SIZE, 0,
		      (off_t)(size + EVFS_WAL_RESERVE)) == 0) {
		store->wal_reserved = size + EVFS_WAL_RESERVE;
		return 0;
	}
	if (errno == ENOSPC || errno == EDQUOT)
		return evfs_err_set(err, EVFS_ENOSPACE,
				    "no space left for the log of the store "
				    "(make room on its disk)");
	store->wal_reserved = UINT64_MAX; /* cannot be had here: do without */
	return 0;
}

/* Step 3; meta locked. */
static int commit_tx(struct evfs_meta *meta, struct evfs_err *err)
{
	struct evfs_store *store = meta->store;
	int rc = 0;

	if (!store->tx_lost) {
		rc = evfs_store_begin(meta, err);
		if (rc == 0 && evfs_context_copy(&store->pending,
						 &store->context) != 0)
			rc = evfs_err_set(err, EVFS_ENOMEM,
					  "commit: out of memory");
		store->pending_root = *evfs_facts_root(meta->facts);
		if (rc == 0)
			rc = evfs_store_commit_tx(meta, err);
	}
	if (store->tx_lost) {
		if (rc == 0)
			rc = evfs_err_set(err, EVFS_EIO,
					  "database: a write failed");
		evfs_store_rollback_tx(meta);
		if (evfs_store_start_over(meta, NULL) != 0)
			store->broken = true;
		return evfs_err_wrap(err, rc, "commit: changes lost");
	}
	if (rc == 0 && store->wal_pages > WAL_PAGES_HARD &&
	    evfs_store_checkpoint(meta, true, NULL) == 0)
		store->wal_copied = store->wal_pages;
	return rc;
}

/* Steps 4 and 5; not locked, gate held. */
static int commit_sync(struct evfs_store *store, struct evfs_err *err)
{
	struct evfs_context old;

	if (store->wal_fd >= 0 && fdatasync(store->wal_fd) != 0)
		return evfs_err_sys(err, errno,
				    "sync of meta.db-wal (restart evfs)");
	pthread_mutex_lock(&store->durable_lock);
	old = store->durable;
	store->durable = store->pending;
	store->durable_root = store->pending_root;
	pthread_mutex_unlock(&store->durable_lock);
	store->pending = old;
	return 0;
}

/* Steps 1 and 2. Takes the gate and the meta lock. Where all content is on disk
 * there is nothing to hold others back for: what they name until the lock is
 * taken is found here, and then COMMIT follows without letting go of it. */
static int commit_content(struct evfs_meta *meta, struct evfs_err *err)
{
	struct evfs_store *store = meta->store;
	int rc;

	evfs_content_tell_arrived(meta->content);
	pthread_mutex_lock(&store->gate);
	evfs_meta_lock(meta);
	if (evfs_content_is_synced(meta->content))
		return 0;
	store->content_syncing = true;
	pthread_mutex_unlock(&store->lock);
	pthread_mutex_unlock(&store->gate);
	rc = evfs_content_sync(meta->content, err);
	pthread_mutex_lock(&store->gate);
	evfs_meta_lock(meta);
	return rc;
}

static int commit_steps(struct evfs_meta *meta, struct evfs_err *err)
{
	struct evfs_store *store = meta->store;
	uint64_t seq = 0;
	bool broken = false, waited;
	int rc;

	/* Most of what commit_tx() would have to copy under the lock. */
	if (store->wal_pages > WAL_PAGES_HARD)
		(void)!evfs_store_checkpoint(meta, false, NULL);
	rc = commit_content(meta, err);
	if (rc == 0) {
		rc = commit_tx(meta, err);
		seq = store->write_seq;
	}
	waited = store->content_syncing;
	store->content_syncing = false;
	store->clock_running = false;
	pthread_mutex_unlock(&store->lock);
	if (waited)
		pthread_cond_broadcast(&store->idle);
	if (rc == 0) {
		rc = commit_sync(store, err);
		broken = rc != 0;
	}
	pthread_mutex_unlock(&store->gate);

	evfs_meta_lock(meta);
	if (rc == 0)
		store->durable_seq = seq;
	if (broken)
		store->broken = true;
	pthread_mutex_unlock(&store->lock);
	return rc;
}

int evfs_store_commit(struct evfs_meta *meta, struct evfs_err *err)
{
	struct evfs_store *store = meta->store;
	struct evfs_err local = { 0 };
	struct evfs_sync_wait *over;
	bool nothing;
	int rc = 0;

	pthread_mutex_lock(&store->commit_lock);
	evfs_meta_lock(meta);
	nothing = !store->tx_open && !store->tx_lost &&
		  store->failed.code == 0;
	if (store->broken) {
		local = store->failed;
		rc = local.code;
	}
	if (nothing || rc != 0) {
		over = evfs_store_take_waits(store);
		pthread_mutex_unlock(&store->lock);
		goto out;
	}
	store->begun++;
	pthread_mutex_unlock(&store->lock);

	rc = commit_steps(meta, &local);
	evfs_meta_lock(meta);
	store->ended++;
	store->failed = local;
	if (rc == 0) {
		store->failed.code = 0;
		(void)!commit_reserve(store, &store->failed);
	}
	over = evfs_store_take_waits(store);
	evfs_meta_unlock(meta);
	if (rc == 0)
		evfs_feed_tell_durable(meta);
out:
	pthread_mutex_unlock(&store->commit_lock);
	evfs_store_tell_waits(over);
	if (rc != 0 && err != NULL)
		*err = local;
	return rc;
}

int evfs_meta_commit(struct evfs_meta *meta, struct evfs_err *err)
{
	if (meta->store->path != NULL)
		return evfs_meta_sync(meta, err);
	return evfs_store_commit(meta, err);
}

/* ---- the committer ---- */

/* When changes are committed that nobody waits for. */
static uint64_t committer_due(const struct evfs_store *store)
{
	uint64_t due = store->dirty_at +
		       store->commit_delay_ms * UINT64_C(1000000);
	uint64_t rest = store->commit_many ? store->commit_took * REST : 0;

	if (rest > REST_NS_MAX)
		rest = REST_NS_MAX;
	return due > store->commit_end + rest ? due : store->commit_end + rest;
}

/* Waits until a commit is due. False: it shall end, and nothing is left. */
static bool committer_wait(struct evfs_store *store)
{
	for (;;) {
		uint64_t now = commit_now_ns();
		uint64_t due = UINT64_MAX;
		struct timespec until;

		if (store->commit_wanted)
			return true;
		if (store->stop)
			return store->tx_open && store->failed.code == 0;
		if (store->failed.code != 0 && !store->broken)
			due = store->dirty_at + RETRY_NS;
		else if (store->clock_running && !store->broken)
			due = committer_due(store);
		if (due <= now)
			return true;
		if (due == UINT64_MAX) {
			pthread_cond_wait(&store->wake, &store->lock);
			continue;
		}
		until.tv_sec = (time_t)(due / 1000000000u);
		until.tv_nsec = (long)(due % 1000000000u);
		pthread_cond_timedwait(&store->wake, &store->lock, &until);
	}
}

/* Is it time to copy the log? Meta locked. */
static bool committer_must_copy(const struct evfs_store *store)
{
	uint64_t grown = store->wal_pages > store->wal_copied ?
				 store->wal_pages - store->wal_copied :
				 store->wal_pages;

	return grown > WAL_PAGES_FIRM ||
	       (grown > WAL_PAGES_SOFT && !store->commit_wanted);
}

static void committer_copy(struct evfs_meta *meta)
{
	struct evfs_store *store = meta->store;
	uint64_t pages = store->wal_pages;
	struct evfs_err err = { 0 };

	pthread_mutex_unlock(&store->lock);
	if (evfs_store_checkpoint(meta, false, &err) != 0)
		evfs_log(EVFS_LOG_WARN, "store: err=%s", err.msg);
	evfs_meta_lock(meta);
	store->wal_copied = pages;
}

static void *committer_main(void *arg)
{
	struct evfs_meta *meta = arg;
	struct evfs_store *store = meta->store;
	struct evfs_err err = { 0 };
	bool was_failing = false;

	evfs_meta_lock(meta);
	while (committer_wait(store)) {
		uint64_t start = commit_now_ns();
		bool failing;

		store->commit_many = store->write_seq - store->durable_seq >
				     REST_CHANGES;
		pthread_mutex_unlock(&store->lock);
		failing = evfs_store_commit(meta, &err) != 0;
		if (failing && !was_failing)
			evfs_log(EVFS_LOG_ERROR, "store: writes refused "
				 "err=%s", err.msg);
		was_failing = failing;
		evfs_meta_lock(meta);
		store->commit_end = commit_now_ns();
		store->commit_took = store->commit_end - start;
		if (store->failed.code != 0)
			store->dirty_at = commit_now_ns();
		else if (committer_must_copy(store))
			committer_copy(meta);
	}
	pthread_mutex_unlock(&store->lock);
	return NULL;
}

int evfs_store_start_committer(struct evfs_meta *meta, struct evfs_err *err)
{
	struct evfs_store *store = meta->store;
	int rc = evfs_thread_start(&store->committer, committer_main, meta,
				   "committer", err);

	store->has_committer = rc == 0;
	return rc;
}

void evfs_store_stop_committer(struct evfs_meta *meta)
{
	struct evfs_store *store = meta->store;

	if (!store->has_committer)
		return;
	evfs_meta_lock(meta);
	store->stop = true;
	pthread_cond_signal(&store->wake);
	pthread_mutex_unlock(&store->lock);
	pthread_join(store->committer, NULL);
	store->has_committer = false;
}
