/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Questions of a mount on their way to replication, and answers back. */
#include "meta/quorum.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>

#include "base/mem.h"
#include "meta/config.h"
#include "meta/meta_priv.h"

struct evfs_quorum {
	atomic_uint write, read, check_ppm;
	_Atomic uint64_t timeout_ms;
	_Atomic uint64_t last_id;
	pthread_mutex_t mutex; /* leaf; protects what follows */
	pthread_cond_t idle;   /* calls became 0 */
	unsigned calls;        /* callbacks that run now */
	struct evfs_quorum_watch watches[2];
};

struct evfs_quorum *evfs_quorum_new(void)
{
	struct evfs_quorum *quorum = evfs_calloc(1, sizeof(*quorum));

	if (quorum == NULL)
		return NULL;
	atomic_init(&quorum->write, 1);
	atomic_init(&quorum->read, 1);
	(void)pthread_mutex_init(&quorum->mutex, NULL);
	(void)pthread_cond_init(&quorum->idle, NULL);
	return quorum;
}

void evfs_quorum_free(struct evfs_quorum *quorum)
{
	if (quorum == NULL)
		return;
	(void)pthread_cond_destroy(&quorum->idle);
	(void)pthread_mutex_destroy(&quorum->mutex);
	evfs_free(quorum);
}

/* ---- settings ---- */

void evfs_quorum_settings_changed(struct evfs_meta *meta)
{
	struct evfs_quorum *quorum = meta->quorum;

	atomic_store(&quorum->write,
		     (unsigned)evfs_config_get(meta,
					       EVFS_CONFIG_write_quorum));
	atomic_store(&quorum->read,
		     (unsigned)evfs_config_get(meta, EVFS_CONFIG_read_quorum));
	atomic_store(&quorum->check_ppm,
		     (unsigned)evfs_config_get(
			     meta, EVFS_CONFIG_read_repair_chance));
	atomic_store(&quorum->timeout_ms,
		     (uint64_t)evfs_config_get(meta,
					       EVFS_CONFIG_quorum_timeout));
}

void evfs_quorum_get_settings(struct evfs_meta *meta,
			      struct evfs_quorum_settings *ret)
{
	struct evfs_quorum *quorum = meta->quorum;

	ret->write = atomic_load(&quorum->write);
	ret->read = atomic_load(&quorum->read);
	ret->check_ppm = atomic_load(&quorum->check_ppm);
	ret->timeout_ms = atomic_load(&quorum->timeout_ms);
}

/* ---- watches ---- */

void evfs_quorum_set_watch(struct evfs_meta *meta, int slot,
			   const struct evfs_quorum_watch *watch)
{
	struct evfs_quorum *quorum = meta->quorum;

	assert(slot >= 0 && slot < 2);
	(void)pthread_mutex_lock(&quorum->mutex);
	quorum->watches[slot] =
		watch != NULL ? *watch : (struct evfs_quorum_watch){ 0 };
	while (quorum->calls > 0)
		(void)pthread_cond_wait(&quorum->idle, &quorum->mutex);
	(void)pthread_mutex_unlock(&quorum->mutex);
}

static struct evfs_quorum_watch enter(struct evfs_quorum *quorum, int slot)
{
	struct evfs_quorum_watch watch;

	(void)pthread_mutex_lock(&quorum->mutex);
	watch = quorum->watches[slot];
	quorum->calls++;
	(void)pthread_mutex_unlock(&quorum->mutex);
	return watch;
}

static void leave(struct evfs_quorum *quorum)
{
	(void)pthread_mutex_lock(&quorum->mutex);
	if (--quorum->calls == 0)
		(void)pthread_cond_broadcast(&quorum->idle);
	(void)pthread_mutex_unlock(&quorum->mutex);
}

uint64_t evfs_quorum_new_id(struct evfs_meta *meta)
{
	return atomic_fetch_add(&meta->quorum->last_id, 1) + 1;
}

int evfs_quorum_ask(struct evfs_meta *meta,
		    const struct evfs_question *question, struct evfs_err *err)
{
	struct evfs_quorum *quorum = meta->quorum;
	struct evfs_quorum_watch watch = enter(quorum, EVFS_QUORUM_WATCH_NET);

	if (watch.asked != NULL)
		watch.asked(watch.ctx, question);
	leave(quorum);
	return watch.asked != NULL ?
		       0 :
		       evfs_err_set(err, EVFS_EUNREACHABLE,
				    "replication does not run");
}

void evfs_quorum_withdraw(struct evfs_meta *meta, uint64_t id)
{
	struct evfs_quorum *quorum = meta->quorum;
	struct evfs_quorum_watch watch = enter(quorum, EVFS_QUORUM_WATCH_NET);

	if (watch.withdrawn != NULL)
		watch.withdrawn(watch.ctx, id);
	leave(quorum);
}

void evfs_quorum_answer(struct evfs_meta *meta,
			const struct evfs_answer *answer)
{
	struct evfs_quorum *quorum = meta->quorum;
	struct evfs_quorum_watch watch = enter(quorum, EVFS_QUORUM_WATCH_FS);

	if (watch.answered != NULL)
		watch.answered(watch.ctx, answer);
	leave(quorum);
}
