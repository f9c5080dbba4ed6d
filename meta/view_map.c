/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Open addressing with linear probing; nothing is ever removed from a map. */
#include "meta/view_map.h"

#include <assert.h>
#include <stdlib.h>

#include "base/mem.h"

#define CAP_FIRST 16

static size_t slot_of(const struct evfs_inomap *map, evfs_ino key)
{
	uint64_t h = key.actor.node * UINT64_C(0x9e3779b97f4a7c15);

	h ^= (h >> 29) + key.actor.epoch;
	h = (h + key.counter) * UINT64_C(0xbf58476d1ce4e5b9);
	h ^= h >> 32;
	return (size_t)h & (map->cap - 1);
}

/* The slot that holds key, or the free one where it would go. */
static struct evfs_inomap_slot *find(const struct evfs_inomap *map,
				     evfs_ino key)
{
	size_t at = slot_of(map, key);

	while (map->slots[at].value != NULL &&
	       !evfs_dot_equal(map->slots[at].key, key))
		at = (at + 1) & (map->cap - 1);
	return &map->slots[at];
}

void evfs_inomap_fini(struct evfs_inomap *map)
{
	evfs_free(map->slots);
	*map = (struct evfs_inomap){ 0 };
}

void *evfs_inomap_get(const struct evfs_inomap *map, evfs_ino key)
{
	return map->n == 0 ? NULL : find(map, key)->value;
}

static int grow(struct evfs_inomap *map)
{
	struct evfs_inomap bigger = { 0 };

	bigger.cap = map->cap == 0 ? CAP_FIRST : 2 * map->cap;
	bigger.slots = evfs_calloc(bigger.cap, sizeof(*bigger.slots));
	if (bigger.slots == NULL)
		return EVFS_ENOMEM;
	for (size_t i = 0; i < map->cap; i++)
		if (map->slots[i].value != NULL)
			*find(&bigger, map->slots[i].key) = map->slots[i];
	bigger.n = map->n;
	evfs_free(map->slots);
	*map = bigger;
	return 0;
}

int evfs_inomap_put(struct evfs_inomap *map, evfs_ino key, void *value)
{
	struct evfs_inomap_slot *slot;

	assert(value != NULL);
	if (4 * (map->n + 1) > 3 * map->cap) {
		int ret = grow(map);

		if (ret != 0)
			return ret;
	}
	slot = find(map, key);
	if (slot->value == NULL)
		map->n++;
	*slot = (struct evfs_inomap_slot){ key, value };
	return 0;
}

void evfs_inolist_fini(struct evfs_inolist *list)
{
	evfs_free(list->items);
	*list = (struct evfs_inolist){ 0 };
}

int evfs_inolist_add(struct evfs_inolist *list, evfs_ino ino)
{
	if (evfs_grow((void **)&list->items, list->n, &list->cap,
		      sizeof(*list->items)) != 0)
		return EVFS_ENOMEM;
	list->items[list->n++] = ino;
	return 0;
}

static int compare(const void *a, const void *b)
{
	return evfs_dot_cmp(*(const evfs_ino *)a, *(const evfs_ino *)b);
}

void evfs_inolist_sort(struct evfs_inolist *list)
{
	if (list->n > 1)
		qsort(list->items, list->n, sizeof(*list->items), compare);
}
