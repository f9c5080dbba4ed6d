/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The lock, the clock, dots, and what a store says of itself. */
#include "meta/meta.h"

#include <assert.h>
#include <string.h>
#include <time.h>

#include "base/buf.h"
#include "meta/facts.h"
#include "meta/store.h"

#define CLOCK_DRAG_MAX_NS UINT64_C(60000000000)

uint64_t evfs_node_of_key(const char *public_key)
{
	evfs_hash hash = evfs_hash_bytes(public_key, strlen(public_key));
	uint64_t node = evfs_be64_read(hash.b);

	return node == 0 ? 1 : node;
}

/* ---- lock ---- */

void evfs_meta_lock(struct evfs_meta *meta)
{
	int rc = pthread_mutex_lock(&meta->store->lock);

	assert(rc == 0); /* EDEADLK: this thread has it already */
}

void evfs_meta_lock_content(struct evfs_meta *meta)
{
	evfs_meta_lock(meta);
	while (meta->store->content_syncing)
		pthread_cond_wait(&meta->store->idle, &meta->store->lock);
}

void evfs_meta_unlock(struct evfs_meta *meta)
{
	struct evfs_store *store = meta->store;
	bool changed;
	int rc;

	if (store->tx_lost)
		store->commit_wanted = true;
	if ((store->tx_open && !store->clock_running) || store->tx_lost) {
		struct timespec now;

		clock_gettime(CLOCK_MONOTONIC, &now);
		store->dirty_at = (uint64_t)now.tv_sec * 1000000000u +
				  (uint64_t)now.tv_nsec;
		store->clock_running = true;
		if (store->has_committer)
			pthread_cond_signal(&store->wake);
	}
	evfs_facts_trim(meta->facts);
	changed = evfs_feed_pending(meta);
	rc = pthread_mutex_unlock(&store->lock);
	assert(rc == 0);
	if (changed)
		evfs_feed_tell_changed(meta);
}

int evfs_meta_begin_change(struct evfs_meta *meta, struct evfs_err *err)
{
	struct evfs_store *store = meta->store;
	int rc;

	if (store->read_only)
		return evfs_err_set(err, EVFS_EREADONLY,
				    "the store is open for reading only");
	if (store->failed.code != 0) {
		rc = store->failed.code;
		return evfs_err_set(err, rc, "%s", store->failed.msg);
	}
	rc = evfs_store_begin(meta, err);
	if (rc == 0)
		store->write_seq++;
	return rc;
}

int evfs_meta_begin_write(struct evfs_meta *meta, struct evfs_err *err)
{
	int rc = evfs_meta_begin_change(meta, err);

	return rc != 0 ? rc : evfs_facts_save_database(meta->facts, err);
}

/* ---- what it is ---- */

const char *evfs_meta_path(const struct evfs_meta *meta)
{
	return meta->store->path;
}

const struct evfs_env *evfs_meta_env(const struct evfs_meta *meta)
{
	return meta->store->env;
}

uint64_t evfs_meta_node(const struct evfs_meta *meta)
{
	return meta->store->actor.node;
}

const char *evfs_meta_node_name(const struct evfs_meta *meta)
{
	return meta->store->name;
}

evfs_actor evfs_meta_actor(const struct evfs_meta *meta)
{
	return meta->store->actor;
}

const evfs_hash *evfs_meta_volume(const struct evfs_meta *meta)
{
	return &meta->store->volume;
}

const char *evfs_meta_listen(const struct evfs_meta *meta)
{
	return meta->store->listen;
}

bool evfs_meta_has_amnesia(const struct evfs_meta *meta)
{
	return meta->store->amnesia;
}

struct evfs_facts *evfs_meta_facts(struct evfs_meta *meta)
{
	return meta->facts;
}

struct evfs_content *evfs_meta_content(struct evfs_meta *meta)
{
	return meta->content;
}

uint64_t evfs_meta_generation(struct evfs_meta *meta)
{
	return meta->store->write_seq;
}

uint64_t evfs_meta_durable_generation(struct evfs_meta *meta)
{
	return meta->store->durable_seq;
}

/* ---- contexts ---- */

const struct evfs_context *evfs_meta_context(struct evfs_meta *meta)
{
	return &meta->store->context;
}

int evfs_meta_durable_context(struct evfs_meta *meta, struct evfs_context *ret)
{
	int rc;

	pthread_mutex_lock(&meta->store->durable_lock);
	rc = evfs_context_copy(ret, &meta->store->durable);
	pthread_mutex_unlock(&meta->store->durable_lock);
	return rc;
}

evfs_hash evfs_meta_durable_root(struct evfs_meta *meta)
{
	evfs_hash root;

	pthread_mutex_lock(&meta->store->durable_lock);
	root = meta->store->durable_root;
	pthread_mutex_unlock(&meta->store->durable_lock);
	return root;
}

int evfs_meta_take_context(struct evfs_meta *meta,
			   const struct evfs_context *snap,
			   struct evfs_err *err)
{
	struct evfs_store *store = meta->store;
	int rc;

	if (evfs_context_get(snap, store->actor) > store->counter)
		return evfs_err_set(err, EVFS_EPROTO,
				    "a member knows change %llu of this "
				    "replica, which has made only %llu",
				    (unsigned long long)evfs_context_get(
					    snap, store->actor),
				    (unsigned long long)store->counter);
	if (evfs_context_contains(&store->context, snap))
		return 0;
	rc = evfs_meta_begin_write(meta, err);
	if (rc == 0 && evfs_context_join(&store->context, snap) != 0)
		rc = evfs_err_set(err, EVFS_ENOMEM, "context: out of memory");
	return rc;
}

/* ---- dots and the clock ---- */

int evfs_meta_next_dot(struct evfs_meta *meta, evfs_dot *ret,
		       struct evfs_err *err)
{
	struct evfs_store *store = meta->store;
	int rc = evfs_meta_begin_write(meta, err);

	if (rc != 0)
		return rc;
	if (evfs_context_raise(&store->context, store->actor,
			       store->counter + 1) != 0)
		return evfs_err_set(err, EVFS_ENOMEM, "context: out of memory");
	store->counter++;
	ret->actor = store->actor;
	ret->counter = store->counter;
	return 0;
}

uint64_t evfs_meta_stamp(struct evfs_meta *meta, uint64_t over_ns)
{
	struct evfs_store *store = meta->store;
	uint64_t wall = store->env->wall_ns(store->env->ctx);

	store->clock = wall > store->clock ? wall : store->clock + 1;
	return store->clock > over_ns ? store->clock : over_ns + 1;
}

void evfs_meta_hear_clock(struct evfs_meta *meta, uint64_t time_ns)
{
	struct evfs_store *store = meta->store;
	uint64_t far = store->env->wall_ns(store->env->ctx) +
		       CLOCK_DRAG_MAX_NS;

	if (time_ns > far)
		time_ns = far;
	if (time_ns > store->clock)
		store->clock = time_ns;
}

uint64_t evfs_meta_clock(struct evfs_meta *meta)
{
	return meta->store->clock;
}
