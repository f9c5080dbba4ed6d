/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The feed. The list of changes is under the meta lock; the table of listeners
 * has a lock of its own, because callbacks run without the meta lock. */
#include "meta/feed.h"

#include <assert.h>
#include <pthread.h>

#include "base/mem.h"
#include "meta/store.h"

#define FEED_LISTENERS_MAX 8
#define FEED_CHANGES_MAX 65536u

struct feed_slot {
	const struct evfs_feed_listener *listener; /* borrowed; NULL = free */
	unsigned running;                          /* callbacks under way */
};

struct evfs_feed {
	/* Under the meta lock. */
	struct evfs_change *first; /* changes to take, in order; owned */
	struct evfs_change *last;  /* of them */
	size_t n;                  /* of them */
	bool names;                /* the list has NAMES */
	bool all;                  /* forget everything: stands for the list */
	bool news;                 /* listeners are to be told at unlock */
	unsigned takers;           /* listeners with `changed` */

	pthread_mutex_t lock;  /* protects slots; innermost */
	pthread_cond_t quiet;  /* some `running` went down */
	struct feed_slot slots[FEED_LISTENERS_MAX];
};

int evfs_feed_new(struct evfs_meta *meta, struct evfs_err *err)
{
	struct evfs_feed *feed = evfs_calloc(1, sizeof(*feed));

	if (feed == NULL)
		return evfs_err_set(err, EVFS_ENOMEM, "feed: out of memory");
	pthread_mutex_init(&feed->lock, NULL);
	pthread_cond_init(&feed->quiet, NULL);
	meta->feed = feed;
	return 0;
}

static void feed_drop(struct evfs_feed *feed)
{
	while (feed->first != NULL) {
		struct evfs_change *change = feed->first;

		feed->first = change->next;
		evfs_change_free(change);
	}
	feed->last = NULL;
	feed->n = 0;
	feed->names = false;
}

void evfs_feed_free(struct evfs_meta *meta)
{
	struct evfs_feed *feed = meta->feed;

	if (feed == NULL)
		return;
	feed_drop(feed);
	pthread_mutex_destroy(&feed->lock);
	pthread_cond_destroy(&feed->quiet);
	evfs_free(feed);
	meta->feed = NULL;
}

void evfs_change_free(struct evfs_change *change)
{
	evfs_free(change);
}

void evfs_feed_add(struct evfs_meta *meta,
		   const struct evfs_feed_listener *listener)
{
	struct evfs_feed *feed = meta->feed;
	size_t i = 0;

	evfs_meta_lock(meta);
	pthread_mutex_lock(&feed->lock);
	while (i < FEED_LISTENERS_MAX && feed->slots[i].listener != NULL)
		i++;
	assert(i < FEED_LISTENERS_MAX);
	feed->slots[i].listener = listener;
	pthread_mutex_unlock(&feed->lock);
	if (listener->changed != NULL)
		feed->takers++;
	evfs_meta_unlock(meta);
}

void evfs_feed_remove(struct evfs_meta *meta,
		      const struct evfs_feed_listener *listener)
{
	struct evfs_feed *feed = meta->feed;
	size_t i = 0;

	evfs_meta_lock(meta);
	if (listener->changed != NULL && --feed->takers == 0) {
		feed_drop(feed);
		feed->all = false;
		feed->news = false;
	}
	evfs_meta_unlock(meta);
	pthread_mutex_lock(&feed->lock);
	while (i < FEED_LISTENERS_MAX && feed->slots[i].listener != listener)
		i++;
	assert(i < FEED_LISTENERS_MAX);
	feed->slots[i].listener = NULL;
	while (feed->slots[i].running > 0)
		pthread_cond_wait(&feed->quiet, &feed->lock);
	pthread_mutex_unlock(&feed->lock);
}

static void feed_tell(struct evfs_feed *feed, bool durable)
{
	size_t i;

	pthread_mutex_lock(&feed->lock);
	for (i = 0; i < FEED_LISTENERS_MAX; i++) {
		const struct evfs_feed_listener *listener =
			feed->slots[i].listener;
		void (*call)(void *ctx);

		if (listener == NULL)
			continue;
		call = durable ? listener->durable : listener->changed;
		if (call == NULL)
			continue;
		feed->slots[i].running++;
		pthread_mutex_unlock(&feed->lock);
		call(listener->ctx);
		pthread_mutex_lock(&feed->lock);
		if (--feed->slots[i].running == 0)
			pthread_cond_broadcast(&feed->quiet);
	}
	pthread_mutex_unlock(&feed->lock);
}

void evfs_feed_tell_changed(struct evfs_meta *meta)
{
	feed_tell(meta->feed, false);
}

void evfs_feed_tell_durable(struct evfs_meta *meta)
{
	feed_tell(meta->feed, true);
}

bool evfs_feed_pending(struct evfs_meta *meta)
{
	bool news = meta->feed->news;

	meta->feed->news = false;
	return news;
}

void evfs_feed_note_all(struct evfs_meta *meta)
{
	struct evfs_feed *feed = meta->feed;

	if (feed->takers == 0)
		return;
	feed_drop(feed);
	feed->all = true;
	feed->news = true;
}

void evfs_feed_note(struct evfs_meta *meta, const struct evfs_change *change)
{
	struct evfs_feed *feed = meta->feed;
	struct evfs_change *copy;

	if (feed->takers == 0 || feed->all)
		return;
	/* it stands for every name */
	if (feed->names && (change->kind == EVFS_CHANGE_ENTRY ||
			    change->kind == EVFS_CHANGE_NAMES))
		return;
	copy = change->kind == EVFS_CHANGE_ALL ||
			       feed->n >= FEED_CHANGES_MAX ?
		       NULL :
		       evfs_memdup(change, sizeof(*change));
	if (copy == NULL) {
		evfs_feed_note_all(meta);
		return;
	}
	copy->next = NULL;
	if (feed->last != NULL)
		feed->last->next = copy;
	else
		feed->first = copy;
	feed->last = copy;
	feed->n++;
	feed->names = feed->names || change->kind == EVFS_CHANGE_NAMES;
	feed->news = true;
}

struct evfs_change *evfs_feed_take(struct evfs_meta *meta)
{
	struct evfs_feed *feed = meta->feed;
	struct evfs_change *taken;

	evfs_meta_lock(meta);
	if (feed->all) {
		taken = evfs_calloc(1, sizeof(*taken));
		if (taken != NULL) {
			taken->kind = EVFS_CHANGE_ALL;
			feed->all = false;
		} else {
			feed->news = true; /* told again at next unlock */
		}
	} else {
		taken = feed->first;
		feed->first = NULL;
		feed->last = NULL;
		feed->n = 0;
		feed->names = false;
	}
	evfs_meta_unlock(meta);
	return taken;
}
