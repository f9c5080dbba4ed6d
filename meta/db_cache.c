/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The cache of decoded objects: clean ones in order of last use, and those
 * whose rows are not written yet, which stay until they are.
 *
 * What evfs_facts_get() lends must stay until meta is unlocked; so nothing is
 * freed before: what leaves the cache earlier (replaced, rolled back) waits in
 * the list of the dead, and the bounds are kept at unlock only. */
#include <assert.h>
#include <string.h>

#include "base/mem.h"
#include "meta/facts_priv.h"

static struct evfs_cached_list *list_of(struct evfs_facts *facts,
					const struct evfs_cached *cached)
{
	return cached->dirty ? &facts->dirty : &facts->clean;
}

static void cache_unlink(struct evfs_facts *facts, struct evfs_cached *cached)
{
	struct evfs_cached_list *list = list_of(facts, cached);

	if (cached->newer != NULL)
		cached->newer->older = cached->older;
	else
		list->newest = cached->older;
	if (cached->older != NULL)
		cached->older->newer = cached->newer;
	else
		list->oldest = cached->newer;
	list->bytes -= cached->bytes;
	list->n--;
}

static void cache_link(struct evfs_facts *facts, struct evfs_cached *cached)
{
	struct evfs_cached_list *list = list_of(facts, cached);

	cached->newer = NULL;
	cached->older = list->newest;
	if (list->newest != NULL)
		list->newest->newer = cached;
	else
		list->oldest = cached;
	list->newest = cached;
	list->bytes += cached->bytes;
	list->n++;
}

struct evfs_cached *evfs_cache_get(struct evfs_facts *facts, uint64_t id)
{
	struct evfs_cached *cached =
		(struct evfs_cached *)evfs_idmap_get(&facts->objects, id);

	if (cached != NULL && !cached->dirty &&
	    facts->clean.newest != cached) {
		cache_unlink(facts, cached);
		cache_link(facts, cached);
	}
	return cached;
}

void evfs_cache_bury(struct evfs_facts *facts, struct evfs_cached *cached)
{
	if (cached == NULL)
		return;
	cached->older = facts->dead;
	facts->dead = cached;
}

/* Out of the cache; the caller's. */
static void cache_take(struct evfs_facts *facts, struct evfs_cached *cached)
{
	(void)evfs_idmap_remove(&facts->objects, cached->node.id);
	cache_unlink(facts, cached);
}

struct evfs_cached *evfs_cache_take(struct evfs_facts *facts, uint64_t id)
{
	struct evfs_cached *cached = evfs_cache_get(facts, id);

	if (cached != NULL)
		cache_take(facts, cached);
	return cached;
}

int evfs_cache_add(struct evfs_facts *facts, uint64_t id,
		   struct evfs_object *object, size_t row_len)
{
	struct evfs_cached *cached = evfs_calloc(1, sizeof(*cached));

	if (cached != NULL) {
		cached->node.id = id;
		cached->object = object;
		cached->bytes = sizeof(*cached) + sizeof(*object) +
				3 * row_len;
		if (evfs_idmap_put(&facts->objects, &cached->node) == 0) {
			cache_link(facts, cached);
			return 0;
		}
	}
	evfs_free(cached);
	evfs_object_free(object);
	return EVFS_ENOMEM;
}

/* A dirty one in the place of `was`, not in the cache. */
static struct evfs_cached *cache_make(const struct evfs_cached *was,
				      uint64_t id, struct evfs_object *object,
				      size_t bytes)
{
	struct evfs_cached *cached = evfs_calloc(1, sizeof(*cached));
	const struct evfs_log_row *rows = NULL;
	size_t n = 0;

	if (cached == NULL)
		return NULL;
	if (was != NULL) {
		rows = was->dirty ? was->rows : was->object->log;
		n = was->dirty ? was->n_rows : was->object->n_log;
	}
	if (n > 0) {
		cached->rows = evfs_calloc(n, sizeof(*rows));
		if (cached->rows == NULL) {
			evfs_free(cached);
			return NULL;
		}
		memcpy(cached->rows, rows, n * sizeof(*rows));
	}
	cached->n_rows = n;
	cached->dirty = true;
	cached->node.id = id;
	cached->object = object;
	cached->bytes = sizeof(*cached) + sizeof(*object) + bytes;
	return cached;
}

static void cache_free(struct evfs_cached *cached)
{
	evfs_object_free(cached->object);
	evfs_free(cached->rows);
	evfs_free(cached);
}

int evfs_cache_replace(struct evfs_facts *facts, struct evfs_cached *was,
		       uint64_t id, struct evfs_object *object, size_t bytes)
{
	struct evfs_cached *cached = cache_make(was, id, object, bytes);

	if (cached == NULL) {
		evfs_object_free(object);
		return EVFS_ENOMEM;
	}
	if (was != NULL)
		cache_take(facts, was);
	if (evfs_idmap_put(&facts->objects, &cached->node) != 0) {
		cache_free(cached);
		evfs_cache_restore(facts, id, was);
		return EVFS_ENOMEM;
	}
	cache_link(facts, cached);
	return 0;
}

void evfs_cache_restore(struct evfs_facts *facts, uint64_t id,
			struct evfs_cached *was)
{
	int rc;

	evfs_cache_bury(facts, evfs_cache_take(facts, id));
	if (was == NULL)
		return;
	/* It was in there: there are buckets, and more are not needed. */
	rc = evfs_idmap_put(&facts->objects, &was->node);
	assert(rc == 0);
	(void)rc;
	cache_link(facts, was);
}

void evfs_cache_clean(struct evfs_facts *facts, struct evfs_cached *cached)
{
	cache_unlink(facts, cached);
	cached->dirty = false;
	evfs_free(evfs_steal(cached->rows));
	cached->n_rows = 0;
	cache_link(facts, cached);
}

void evfs_facts_trim(struct evfs_facts *facts)
{
	struct evfs_cached *cached;

	while (facts->clean.n > EVFS_FACTS_CACHE_OBJECTS ||
	       (facts->clean.bytes > EVFS_FACTS_CACHE_BYTES &&
		facts->clean.n > 1)) {
		cached = facts->clean.oldest;
		cache_take(facts, cached);
		cache_free(cached);
	}
	while ((cached = facts->dead) != NULL) {
		facts->dead = cached->older;
		cache_free(cached);
	}
	evfs_dirs_trim(facts);
}

void evfs_cache_drop(struct evfs_facts *facts)
{
	struct evfs_cached *cached;

	while ((cached = facts->clean.oldest) != NULL ||
	       (cached = facts->dirty.oldest) != NULL) {
		cache_take(facts, cached);
		evfs_cache_bury(facts, cached);
	}
}
