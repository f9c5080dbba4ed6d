/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Chained hashing with Fibonacci spreading (Knuth, TAOCP 6.4): keys here are
 * counters and addresses, whose low bits alone would cluster. */
#include "meta/idmap.h"

#include <assert.h>

#include "base/mem.h"

#define IDMAP_BITS_MIN 6u

static size_t idmap_bucket(const struct evfs_idmap *map, uint64_t id)
{
	return (size_t)(id * UINT64_C(0x9e3779b97f4a7c15) >>
			(64 - map->bits));
}

void evfs_idmap_fini(struct evfs_idmap *map)
{
	evfs_free(map->buckets);
	*map = (struct evfs_idmap){ 0 };
}

static int idmap_resize(struct evfs_idmap *map, unsigned bits)
{
	struct evfs_idmap bigger = { .n = map->n, .bits = bits };
	size_t at = 0;
	size_t i;

	bigger.buckets = evfs_calloc((size_t)1 << bits,
				     sizeof(*bigger.buckets));
	if (bigger.buckets == NULL)
		return EVFS_ENOMEM;
	for (i = map->n; i > 0; i--) {
		struct evfs_idmap_node *node = evfs_idmap_pop(map, &at);
		size_t bucket;

		assert(node != NULL);
		bucket = idmap_bucket(&bigger, node->id);
		node->next = bigger.buckets[bucket];
		bigger.buckets[bucket] = node;
	}
	evfs_free(map->buckets);
	*map = bigger;
	return 0;
}

int evfs_idmap_put(struct evfs_idmap *map, struct evfs_idmap_node *node)
{
	size_t bucket;

	assert(evfs_idmap_get(map, node->id) == NULL);
	if (map->buckets == NULL) {
		if (idmap_resize(map, IDMAP_BITS_MIN) != 0)
			return EVFS_ENOMEM;
	} else if (map->n >> map->bits != 0) {
		/* Without memory for more buckets the chains get longer. */
		(void)!idmap_resize(map, map->bits + 1);
	}
	bucket = idmap_bucket(map, node->id);
	node->next = map->buckets[bucket];
	map->buckets[bucket] = node;
	map->n++;
	return 0;
}

struct evfs_idmap_node *evfs_idmap_get(const struct evfs_idmap *map,
				       uint64_t id)
{
	struct evfs_idmap_node *node;

	if (map->buckets == NULL)
		return NULL;
	node = map->buckets[idmap_bucket(map, id)];
	while (node != NULL && node->id != id)
		node = node->next;
	return node;
}

struct evfs_idmap_node *evfs_idmap_remove(struct evfs_idmap *map,
					  uint64_t id)
{
	struct evfs_idmap_node **link;
	struct evfs_idmap_node *node;

	if (map->buckets == NULL)
		return NULL;
	link = &map->buckets[idmap_bucket(map, id)];
	while (*link != NULL && (*link)->id != id)
		link = &(*link)->next;
	node = *link;
	if (node == NULL)
		return NULL;
	*link = node->next;
	map->n--;
	return node;
}

struct evfs_idmap_node *evfs_idmap_pop(struct evfs_idmap *map, size_t *at)
{
	size_t buckets = map->buckets == NULL ? 0 : (size_t)1 << map->bits;
	struct evfs_idmap_node *node;

	while (*at < buckets && map->buckets[*at] == NULL)
		(*at)++;
	if (*at >= buckets)
		return NULL;
	node = map->buckets[*at];
	map->buckets[*at] = node->next;
	map->n--;
	return node;
}
