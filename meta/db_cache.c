/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The cache of decoded objects, in order of last use.
 *
 * What evfs_facts_get() lends must stay until meta is unlocked; so nothing is
 * freed before: what leaves the cache earlier (replaced, rolled back) waits in
 * the list of the dead, and the bounds are kept at unlock only. */
#include "base/mem.h"
#include "meta/facts_priv.h"

static void cache_unlink(struct evfs_facts *facts, struct evfs_cached *cached)
{
	if (cached->newer != NULL)
		cached->newer->older = cached->older;
	else
		facts->newest = cached->older;
	if (cached->older != NULL)
		cached->older->newer = cached->newer;
	else
		facts->oldest = cached->newer;
	facts->bytes -= cached->bytes;
}

static void cache_link(struct evfs_facts *facts, struct evfs_cached *cached)
{
	cached->newer = NULL;
	cached->older = facts->newest;
	if (facts->newest != NULL)
		facts->newest->newer = cached;
	else
		facts->oldest = cached;
	facts->newest = cached;
	facts->bytes += cached->bytes;
}

const struct evfs_object *evfs_cache_get(struct evfs_facts *facts, uint64_t id)
{
	struct evfs_cached *cached =
		(struct evfs_cached *)evfs_idmap_get(&facts->objects, id);

	if (cached == NULL)
		return NULL;
	if (facts->newest != cached) {
		cache_unlink(facts, cached);
		cache_link(facts, cached);
	}
	return cached->object;
}

void evfs_cache_remove(struct evfs_facts *facts, uint64_t id)
{
	struct evfs_cached *cached =
		(struct evfs_cached *)evfs_idmap_remove(&facts->objects, id);

	if (cached == NULL)
		return;
	cache_unlink(facts, cached);
	cached->older = facts->dead;
	facts->dead = cached;
}

int evfs_cache_put(struct evfs_facts *facts, uint64_t id,
		   struct evfs_object *object, size_t encoded_len)
{
	struct evfs_cached *cached = evfs_calloc(1, sizeof(*cached));

	evfs_cache_remove(facts, id);
	if (cached != NULL) {
		cached->node.id = id;
		cached->object = object;
		cached->bytes = sizeof(*cached) + sizeof(*object) +
				3 * encoded_len;
		if (evfs_idmap_put(&facts->objects, &cached->node) == 0) {
			cache_link(facts, cached);
			return 0;
		}
	}
	evfs_free(cached);
	evfs_object_free(object);
	return EVFS_ENOMEM;
}

static void cache_bury(struct evfs_facts *facts)
{
	struct evfs_cached *cached;

	while ((cached = facts->dead) != NULL) {
		facts->dead = cached->older;
		evfs_object_free(cached->object);
		evfs_free(cached);
	}
}

void evfs_facts_trim(struct evfs_facts *facts)
{
	while (facts->objects.n > EVFS_FACTS_CACHE_OBJECTS ||
	       (facts->bytes > EVFS_FACTS_CACHE_BYTES &&
		facts->objects.n > 1))
		evfs_cache_remove(facts, facts->oldest->node.id);
	cache_bury(facts);
	evfs_dirs_trim(facts);
}

void evfs_cache_drop(struct evfs_facts *facts)
{
	while (facts->oldest != NULL)
		evfs_cache_remove(facts, facts->oldest->node.id);
}
