/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A map from hashes to numbers: open addressing, linear probing. Keys are
 * hashes already, so their first bytes spread well enough; nobody gains from
 * making them collide but the one who fills his own store. */
#include <assert.h>
#include <string.h>

#include "base/mem.h"
#include "meta/content_priv.h"

struct evfs_hashmap_slot {
	evfs_hash key;  /* valid while used */
	bool used;      /* holds an entry */
	uint64_t value; /* of the key */
};

static size_t start_of(const struct evfs_hashmap *map, const evfs_hash *key)
{
	uint64_t word;

	memcpy(&word, key->b, sizeof(word));
	return (size_t)word & (map->cap - 1);
}

static struct evfs_hashmap_slot *find(const struct evfs_hashmap *map,
				      const evfs_hash *key)
{
	size_t at = start_of(map, key);

	while (map->slots[at].used &&
	       !evfs_hash_equal(&map->slots[at].key, key))
		at = (at + 1) & (map->cap - 1);
	return &map->slots[at];
}

uint64_t *evfs_hashmap_get(const struct evfs_hashmap *map,
			   const evfs_hash *key)
{
	struct evfs_hashmap_slot *slot;

	if (map->n == 0)
		return NULL;
	slot = find(map, key);
	return slot->used ? &slot->value : NULL;
}

static int grow(struct evfs_hashmap *map)
{
	struct evfs_hashmap next = { .cap = map->cap ? 2 * map->cap : 16,
				     .n = map->n };

	next.slots = evfs_calloc(next.cap, sizeof(*next.slots));
	if (!next.slots)
		return -1;
	for (size_t i = 0; i < map->cap; i++)
		if (map->slots[i].used)
			*find(&next, &map->slots[i].key) = map->slots[i];
	evfs_free(map->slots);
	*map = next;
	return 0;
}

uint64_t *evfs_hashmap_put(struct evfs_hashmap *map, const evfs_hash *key)
{
	struct evfs_hashmap_slot *slot;

	if (4 * (map->n + 1) > 3 * map->cap && grow(map) < 0)
		return NULL;
	slot = find(map, key);
	if (!slot->used) {
		slot->used = true;
		slot->key = *key;
		slot->value = 0;
		map->n++;
	}
	return &slot->value;
}

void evfs_hashmap_remove(struct evfs_hashmap *map, const evfs_hash *key)
{
	struct evfs_hashmap_slot *slot;
	size_t hole, at;

	if (map->n == 0)
		return;
	slot = find(map, key);
	if (!slot->used)
		return;
	map->n--;
	slot->used = false;
	hole = (size_t)(slot - map->slots);
	/* Move back what was pushed over the hole. */
	for (at = (hole + 1) & (map->cap - 1); map->slots[at].used;
	     at = (at + 1) & (map->cap - 1)) {
		size_t home = start_of(map, &map->slots[at].key);

		if (((at - home) & (map->cap - 1)) <
		    ((at - hole) & (map->cap - 1)))
			continue;
		map->slots[hole] = map->slots[at];
		map->slots[at].used = false;
		hole = at;
	}
}

void evfs_hashmap_fini(struct evfs_hashmap *map)
{
	evfs_free(map->slots);
	*map = (struct evfs_hashmap){ 0 };
}
