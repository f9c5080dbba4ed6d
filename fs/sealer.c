/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The thread that seals files which stay open, and all that waits for it. */
#include "fs/sealer.h"

#include <stdlib.h>
#include <time.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/thread.h"
#include "fs/closes.h"
#include "fs/fs_priv.h"
#include "fs/notify.h"
#include "fs/seal.h"
#include "meta/config.h"

struct due {
	struct evfs_node **items; /* owned; each pinned */
	size_t n, cap;
};

static void due_add(struct due *due, struct evfs_node *node)
{
	void *items = due->items;

	if (evfs_grow(&items, due->n, &due->cap, sizeof(*due->items)) != 0)
		return; /* next time */
	due->items = items;
	due->items[due->n++] = node;
	node->pins++; /* table locked */
}

/* Files that are open for writing, for so long since their last flush. */
struct pick {
	struct evfs_fs *fs;
	struct due due;
	uint64_t now_ns, age_ns; /* monotonic */
};

static void pick_writer_cb(void *arg, struct evfs_node *node)
{
	struct pick *pick = arg;
	struct evfs_file *file = node->file;
	bool due;

	if (!file)
		return;
	(void)pthread_mutex_lock(&pick->fs->dirty_lock);
	due = file->n_writers > 0 &&
	      pick->now_ns - file->flushed_ns >= pick->age_ns;
	if (due)
		file->flushed_ns = pick->now_ns;
	(void)pthread_mutex_unlock(&pick->fs->dirty_lock);
	if (due)
		due_add(&pick->due, node);
}

/* Has the kernel hand over what it holds of files that are open. */
static void flush_writers(struct evfs_fs *fs, uint64_t age_ns)
{
	struct pick pick = { .fs = fs, .now_ns = evfs_fs_mono_ns(fs),
			     .age_ns = age_ns };
	bool none;

	if (atomic_load(&fs->quiet_opens) &&
	    pick.now_ns - fs->flushed_ns >= age_ns) {
		fs->flushed_ns = pick.now_ns;
		evfs_closes_flush(fs);
	}
	(void)pthread_mutex_lock(&fs->dirty_lock);
	none = fs->n_writers == 0;
	(void)pthread_mutex_unlock(&fs->dirty_lock);
	if (none)
		return;
	evfs_nodes_each(fs, pick_writer_cb, &pick);
	for (size_t i = 0; i < pick.due.n; i++) {
		evfs_notify_flush_now(fs, pick.due.items[i]->id);
		evfs_node_unpin(fs, pick.due.items[i]);
	}
	evfs_free(pick.due.items);
}

/* Seals what has been dirty for so long; and what is gone for good is given
 * up. */
static void seal_due(struct evfs_fs *fs, uint64_t age_ns)
{
	uint64_t now_ns = evfs_fs_mono_ns(fs);
	struct due due = { 0 };

	evfs_meta_lock(fs->meta);
	(void)pthread_mutex_lock(&fs->nodes.lock);
	(void)pthread_mutex_lock(&fs->dirty_lock);
	for (struct evfs_node *node = fs->dirty_head; node;
	     node = node->file->dirty_next)
		if (now_ns - node->file->dirty_ns >= age_ns ||
		    node->file->due ||
		    (node->file->handle.orphan &&
		     !evfs_node_is_known(fs, node)))
			due_add(&due, node);
	(void)pthread_mutex_unlock(&fs->dirty_lock);
	(void)pthread_mutex_unlock(&fs->nodes.lock);
	evfs_meta_unlock(fs->meta);
	for (size_t i = 0; i < due.n; i++) {
		/* A failure is kept with the file and logged once. */
		if (evfs_seal(fs, due.items[i], NULL) != 0)
			evfs_log(EVFS_LOG_DEBUG, "seal: to be tried again");
		evfs_node_unpin(fs, due.items[i]);
	}
	evfs_free(due.items);
}

static int order_inos(const void *a, const void *b)
{
	const evfs_ino *x = a, *y = b;

	return evfs_dot_cmp(*x, *y);
}

/* Files whose times have changed elsewhere, and which the kernel has perhaps
 * not given up since: somebody has them open, or had. */
static void retell_times(struct evfs_fs *fs)
{
	evfs_ino *inos;
	size_t n;

	(void)pthread_mutex_lock(&fs->dirty_lock);
	inos = evfs_steal(fs->stale);
	n = fs->n_stale;
	fs->n_stale = fs->stale_cap = 0;
	(void)pthread_mutex_unlock(&fs->dirty_lock);
	if (n > 1)
		qsort(inos, n, sizeof(*inos), order_inos);
	for (size_t i = 0; i < n; i++)
		if (i == 0 || !evfs_dot_equal(inos[i - 1], inos[i]))
			evfs_notify_attr(fs, inos[i]);
	evfs_free(inos);
}

void evfs_sealer_flush_kernel(struct evfs_fs *fs)
{
	flush_writers(fs, 0);
}

void evfs_fs_seal_all(struct evfs_fs *fs)
{
	seal_due(fs, 0);
}

static uint64_t seal_interval_ns(struct evfs_fs *fs)
{
	int64_t ms;

	evfs_meta_lock(fs->meta);
	ms = evfs_config_get(fs->meta, EVFS_CONFIG_seal_interval);
	evfs_meta_unlock(fs->meta);
	return (uint64_t)ms * 1000000;
}

static void *sealer_main(void *arg)
{
	struct evfs_fs *fs = arg;

	(void)pthread_mutex_lock(&fs->sealer_lock);
	while (!fs->sealer_stop) {
		uint64_t age_ns, step_ns;
		struct timespec until;

		(void)pthread_mutex_unlock(&fs->sealer_lock);
		age_ns = seal_interval_ns(fs);
		/* What the kernel holds first: it becomes dirty here. */
		flush_writers(fs, age_ns);
		seal_due(fs, age_ns);
		retell_times(fs);
		step_ns = age_ns / 4 < 1000000000 ? age_ns / 4 : 1000000000;
		(void)clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_nsec += (long)step_ns;
		if (until.tv_nsec >= 1000000000) {
			until.tv_nsec -= 1000000000;
			until.tv_sec++;
		}
		(void)pthread_mutex_lock(&fs->sealer_lock);
		if (!fs->sealer_stop && !fs->sealer_due)
			(void)pthread_cond_timedwait(&fs->sealer_wake,
						     &fs->sealer_lock,
						     &until);
		fs->sealer_due = false;
	}
	(void)pthread_mutex_unlock(&fs->sealer_lock);
	return NULL;
}

void evfs_sealer_hurry(struct evfs_fs *fs)
{
	(void)pthread_mutex_lock(&fs->sealer_lock);
	fs->sealer_due = true;
	(void)pthread_cond_broadcast(&fs->sealer_wake);
	(void)pthread_mutex_unlock(&fs->sealer_lock);
}

int evfs_sealer_start(struct evfs_fs *fs, struct evfs_err *err)
{
	int rc = evfs_thread_start(&fs->sealer, sealer_main, fs, "sealer",
				   err);

	fs->sealer_runs = rc == 0;
	return rc;
}

void evfs_sealer_stop(struct evfs_fs *fs)
{
	if (!fs->sealer_runs)
		return;
	(void)pthread_mutex_lock(&fs->sealer_lock);
	fs->sealer_stop = true;
	(void)pthread_cond_broadcast(&fs->sealer_wake);
	(void)pthread_mutex_unlock(&fs->sealer_lock);
	(void)pthread_join(fs->sealer, NULL);
	fs->sealer_runs = false;
}

void evfs_fs_unsealed(struct evfs_fs *fs, uint64_t *ret_files,
		      uint64_t *ret_bytes, int64_t *ret_oldest_s)
{
	uint64_t now = evfs_fs_mono_ns(fs), oldest = 0, bytes = 0, files = 0;

	evfs_meta_lock(fs->meta);
	(void)pthread_mutex_lock(&fs->dirty_lock);
	for (struct evfs_node *node = fs->dirty_head; node;
	     node = node->file->dirty_next) {
		/* What is removed and still open will never be sealed. */
		if (node->file->handle.orphan)
			continue;
		files++;
		bytes += node->file->size;
		if (now - node->file->dirty_ns > oldest)
			oldest = now - node->file->dirty_ns;
	}
	(void)pthread_mutex_unlock(&fs->dirty_lock);
	evfs_meta_unlock(fs->meta);
	*ret_files = files;
	*ret_bytes = bytes;
	*ret_oldest_s = files > 0 ? (int64_t)(oldest / 1000000000) : -1;
}
