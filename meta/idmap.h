/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A hash map from 64-bit keys to nodes that are part of the caller's structs:
 * caches of rows, prepared statements. Owns its buckets, never the nodes. Not
 * thread-safe. */
#ifndef EVFS_META_IDMAP_H
#define EVFS_META_IDMAP_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct evfs_idmap_node {
	uint64_t id;                  /* set by the caller before put */
	struct evfs_idmap_node *next; /* in the bucket */
};

struct evfs_idmap {
	struct evfs_idmap_node **buckets; /* owned; NULL while empty */
	size_t n;                         /* nodes in it */
	unsigned bits;                    /* 2^bits buckets */
};

/* {0} is an empty map. Frees the buckets; nodes are the caller's. */
void evfs_idmap_fini(struct evfs_idmap *map);

/* The id must not be there yet. 0 or EVFS_ENOMEM. */
int evfs_idmap_put(struct evfs_idmap *map, struct evfs_idmap_node *node)
	EVFS_MUST_USE;

/* NULL where it is not there. */
struct evfs_idmap_node *evfs_idmap_get(const struct evfs_idmap *map,
				       uint64_t id);
struct evfs_idmap_node *evfs_idmap_remove(struct evfs_idmap *map,
					  uint64_t id);

/* Takes any node out; NULL when it is empty. For emptying a map: starting at
 * bucket *at, which is moved on. */
struct evfs_idmap_node *evfs_idmap_pop(struct evfs_idmap *map, size_t *at);

#endif
