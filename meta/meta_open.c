/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Opening and closing a store; the simulated power loss. */
#include <assert.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "meta/collect.h"
#include "meta/facts.h"
#include "meta/life.h"
#include "meta/quorum.h"
#include "meta/store.h"

static int store_init_locks(struct evfs_store *store, struct evfs_err *err)
{
	pthread_mutexattr_t checked;
	pthread_condattr_t monotonic;
	int sys = 0;

	/* These fail for want of memory only. */
	if (pthread_mutexattr_init(&checked) != 0)
		return evfs_err_set(err, EVFS_ENOMEM, "out of memory");
	if (pthread_condattr_init(&monotonic) != 0) {
		pthread_mutexattr_destroy(&checked);
		return evfs_err_set(err, EVFS_ENOMEM, "out of memory");
	}
	pthread_mutexattr_settype(&checked, PTHREAD_MUTEX_ERRORCHECK);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	sys |= pthread_mutex_init(&store->lock, &checked);
	sys |= pthread_mutex_init(&store->commit_lock, &checked);
	sys |= pthread_mutex_init(&store->gate, &checked);
	sys |= pthread_mutex_init(&store->durable_lock, &checked);
	sys |= pthread_mutex_init(&store->reader_lock, &checked);
	sys |= pthread_cond_init(&store->idle, NULL);
	sys |= pthread_cond_init(&store->wake, &monotonic);
	pthread_condattr_destroy(&monotonic);
	pthread_mutexattr_destroy(&checked);
	return sys == 0 ? 0 :
			  evfs_err_set(err, EVFS_ENOMEM, "out of memory");
}

static int open_new(const struct evfs_meta_options *options,
		    struct evfs_meta **ret, struct evfs_err *err)
{
	struct evfs_meta *meta = evfs_calloc(1, sizeof(*meta));
	struct evfs_store *store = evfs_calloc(1, sizeof(*store));
	int rc;

	if (meta == NULL || store == NULL)
		goto nomem;
	store->env = options->env;
	store->read_only = options->read_only;
	store->commit_delay_ms = options->commit_delay_ms;
	store->waits_end = &store->waits;
	store->lock_fd = -1;
	store->wal_fd = -1;
	if (options->path != NULL) {
		store->path = evfs_strdup(options->path);
		if (store->path == NULL)
			goto nomem;
	}
	rc = store_init_locks(store, err);
	if (rc != 0) {
		evfs_free(store->path);
		evfs_free(store);
		evfs_free(meta);
		return rc;
	}
	meta->store = store;
	*ret = meta;
	return 0;
nomem:
	evfs_free(store);
	evfs_free(meta);
	return evfs_err_set(err, EVFS_ENOMEM, "out of memory");
}

/* Frees all that open made so far. */
static void open_undo(struct evfs_meta *meta)
{
	struct evfs_store *store = meta->store;

	if (meta->tree != NULL)
		evfs_tree_state_free(meta);
	if (meta->view != NULL)
		evfs_view_state_free(meta);
	evfs_collect_free(meta);
	if (meta->content != NULL)
		evfs_content_free(meta);
	evfs_feed_free(meta);
	evfs_quorum_free(meta->quorum);
	evfs_config_unload(meta);
	evfs_members_unload(meta);
	evfs_facts_free(meta);
	evfs_store_close_db(meta);
	evfs_context_fini(&store->context);
	evfs_context_fini(&store->stored);
	evfs_context_fini(&store->pending);
	evfs_context_fini(&store->durable);
	pthread_mutex_destroy(&store->lock);
	pthread_mutex_destroy(&store->commit_lock);
	pthread_mutex_destroy(&store->gate);
	pthread_mutex_destroy(&store->durable_lock);
	pthread_mutex_destroy(&store->reader_lock);
	pthread_cond_destroy(&store->idle);
	pthread_cond_destroy(&store->wake);
	evfs_free(store->listen);
	evfs_free(store->path);
	evfs_free(store);
	evfs_free(meta);
}

static int open_publish(struct evfs_meta *meta, struct evfs_err *err)
{
	struct evfs_store *store = meta->store;

	store->durable_root = *evfs_facts_root(meta->facts);
	if (evfs_context_copy(&store->durable, &store->context) != 0)
		return evfs_err_set(err, EVFS_ENOMEM, "context: out of memory");
	return 0;
}

static int open_parts(struct evfs_meta *meta,
		      const struct evfs_meta_options *options,
		      const char **ret_why, struct evfs_err *err)
{
	int rc = evfs_facts_new(meta, err);

	meta->quorum = evfs_quorum_new();
	if (rc == 0 && meta->quorum == NULL)
		rc = evfs_err_set(err, EVFS_ENOMEM, "out of memory");
	if (rc == 0)
		rc = evfs_feed_new(meta, err);
	if (rc == 0)
		rc = options->path == NULL ?
			     evfs_store_open_memory(meta, options->fresh,
						    err) :
			     evfs_store_open_file(meta, ret_why, err);
	if (rc == 0)
		rc = open_publish(meta, err);
	if (rc == 0)
		rc = evfs_content_new(meta, meta->store->path, err);
	if (rc == 0)
		rc = evfs_collect_new(meta, err);
	if (rc == 0)
		rc = evfs_view_state_new(meta, err);
	if (rc == 0)
		rc = evfs_tree_state_new(meta, err);
	if (rc == 0 && options->path != NULL && !options->read_only)
		rc = evfs_store_start_committer(meta, err);
	return rc;
}

int evfs_meta_open(const struct evfs_meta_options *options,
		   struct evfs_meta **ret, struct evfs_err *err)
{
	const char *path = options->path;
	struct evfs_meta *meta = NULL;
	const char *why = NULL;
	int rc = 0;

	assert(path != NULL || options->fresh != NULL);
	if (path == NULL)
		rc = evfs_store_check_new(options->fresh, err);
	if (rc == 0)
		rc = open_new(options, &meta, err);
	if (rc != 0)
		return evfs_err_wrap(err, rc, "open the store");
	rc = open_parts(meta, options, &why, err);
	if (rc != 0) {
		open_undo(meta);
		return evfs_err_wrap(err, rc, "%s",
				     path == NULL ? "store in memory" : path);
	}
	if (why != NULL)
		evfs_log(EVFS_LOG_WARN,
			 "store: this database %s; its replica goes on as "
			 "another life, node=%016llx epoch=%u, and gives "
			 "nothing to members before an audit with each",
			 why, (unsigned long long)meta->store->actor.node,
			 meta->store->actor.epoch);
	*ret = meta;
	return 0;
}

void evfs_meta_close(struct evfs_meta *meta)
{
	struct evfs_store *store = meta->store;
	struct evfs_err err = { 0 };
	int rc = 0;

	evfs_store_stop_committer(meta);
	if (!store->read_only) {
		rc = evfs_store_commit(meta, &err);
		evfs_meta_lock(meta);
		if (rc == 0)
			rc = evfs_store_end_lease(meta, &err);
		store->clean = rc == 0 && store->path != NULL;
		evfs_meta_unlock(meta);
		if (rc != 0)
			evfs_log(EVFS_LOG_ERROR, "store: not closed cleanly "
				 "err=%s", err.msg);
	}
	open_undo(meta);
}

int evfs_meta_crash(struct evfs_meta *meta, struct evfs_err *err)
{
	int rc;

	assert(meta->store->path == NULL);
	evfs_meta_lock(meta);
	evfs_store_rollback_tx(meta);
	meta->store->write_seq++;
	evfs_feed_note_all(meta);
	rc = evfs_store_load(meta, err);
	if (rc == 0)
		rc = evfs_store_begin(meta, err);
	if (rc == 0)
		rc = evfs_life_note_start(meta, err);
	if (rc == 0)
		rc = evfs_store_skip_lease(meta, err);
	evfs_content_reset(meta);
	evfs_view_state_reset(meta);
	evfs_meta_unlock(meta);
	return rc != 0 ? rc : evfs_store_commit(meta, err);
}
