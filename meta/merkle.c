/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Where an object stands in the Merkle tree. */
#include "meta/merkle.h"

#include <assert.h>

/* BLAKE2b of a dot's canonical bytes, cut to its first two. */
static unsigned dot_hash16(evfs_dot dot)
{
	uint8_t bytes[EVFS_DOT_BYTES];
	evfs_hash hash;

	evfs_dot_write(dot, bytes);
	hash = evfs_hash_bytes(bytes, sizeof(bytes));
	return (unsigned)hash.b[0] << 8 | hash.b[1];
}

evfs_ino evfs_merkle_home(const struct evfs_object *object)
{
	const struct evfs_link *link;

	if (evfs_ino_is_root(object->ino))
		return object->ino;
	link = object->kind == EVFS_KIND_DIR ?
		       evfs_object_only_link(object) :
		       evfs_object_sibling_link(object);
	assert(link != NULL);
	return link->place.parent;
}

uint64_t evfs_merkle_path(evfs_ino home, evfs_ino ino)
{
	return evfs_merkle_path_in(EVFS_MERKLE_ROOT << 16 | dot_hash16(home),
				   ino);
}

uint64_t evfs_merkle_path_in(uint64_t bucket, evfs_ino ino)
{
	return bucket << 16 | dot_hash16(ino);
}

int evfs_merkle_level(uint64_t path)
{
	int level = 0;

	for (; path > 255; path >>= 8)
		level++;
	return path == EVFS_MERKLE_ROOT && level <= EVFS_MERKLE_LEVELS ? level :
									-1;
}

uint64_t evfs_merkle_above(uint64_t path, int level)
{
	int at = evfs_merkle_level(path);

	assert(level >= 0 && at >= level);
	return path >> 8 * (at - level);
}
