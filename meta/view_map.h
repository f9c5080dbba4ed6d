/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A hash table from inode ids to pointers, and a growing list of inode ids:
 * what index and view gather while they walk. Not thread-safe. */
#ifndef EVFS_META_VIEW_MAP_H
#define EVFS_META_VIEW_MAP_H

#include <stddef.h>

#include "base/err.h"
#include "meta/dot.h"

struct evfs_inomap_slot {
	evfs_ino key; /* EVFS_INO_NONE: free */
	void *value;  /* of whoever put it; not NULL where used */
};

struct evfs_inomap {
	struct evfs_inomap_slot *slots; /* owned; cap of them, a power of 2 */
	size_t n;                       /* used */
	size_t cap;
};

/* {0} is an empty map. */
void evfs_inomap_fini(struct evfs_inomap *map);
/* NULL where it is not there. */
void *evfs_inomap_get(const struct evfs_inomap *map, evfs_ino key);
/* Adds or replaces. key is not NONE, value not NULL. 0 or EVFS_ENOMEM. */
int evfs_inomap_put(struct evfs_inomap *map, evfs_ino key, void *value)
	EVFS_MUST_USE;

struct evfs_inolist {
	evfs_ino *items; /* owned */
	size_t n;
	size_t cap;
};

/* {0} is an empty list. */
void evfs_inolist_fini(struct evfs_inolist *list);
int evfs_inolist_add(struct evfs_inolist *list, evfs_ino ino) EVFS_MUST_USE;
void evfs_inolist_sort(struct evfs_inolist *list);

#endif
