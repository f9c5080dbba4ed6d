/* SPDX-License-Identifier: GPL-3.0-or-later */
/* For the tests of the content store: a store in a directory of its own or in
 * memory, bytes from seeds, and short ways to put, fetch and compare. All check
 * that they succeed. */
#ifndef EVFS_TESTS_CONTENT_WORLD_H
#define EVFS_TESTS_CONTENT_WORLD_H

#include "meta/content.h"
#include "meta/meta.h"

struct world {
	char dir[64];                 /* "" = in memory */
	struct evfs_meta *meta;       /* open */
	struct evfs_content *content; /* of meta */
	struct evfs_err err;          /* of the last call */
};

void world_open(struct world *world, bool in_memory);
void world_close(struct world *world); /* and removes the directory */
/* Closes and opens again. */
void world_reopen(struct world *world);
void world_sync(struct world *world);

/* SplitMix64. */
uint64_t world_random(uint64_t *seed);
void world_fill(uint8_t *data, size_t len, uint64_t seed);
uint8_t *world_bytes(size_t len, uint64_t seed);

/* Commits a put, with a reference if `ref`. */
evfs_hash world_commit(struct world *world, struct evfs_content_put *put,
		       bool ref);
evfs_hash world_put(struct world *world, const void *data, size_t len,
		    bool ref);
void world_unref(struct world *world, const evfs_hash *name);
void world_ref(struct world *world, const evfs_hash *name, uint64_t size,
	       bool want);
bool world_has(struct world *world, const evfs_hash *name);
/* Reads it all back and compares. */
void world_check(struct world *world, const evfs_hash *name, const void *data,
		 size_t len);
struct evfs_content_stats world_stats(struct world *world);
/* Until there is nothing more to do. */
void world_reclaim(struct world *world);
/* Flips a byte in the middle of every container file of that kind ("segments",
 * "blobs"). */
void world_damage(struct world *world, const char *kind);
/* Chunk rows whose uses are not what C3 of content_priv.h says, and other
 * broken promises of the tables; 0 is right. */
int world_faults(struct world *world);

/* A source over bytes in memory that counts what is read. */
struct world_source {
	const uint8_t *data;  /* borrowed */
	uint64_t bytes_read;  /* so far */
	struct evfs_content_source source; /* for write_source */
};
void world_source_init(struct world_source *source, const uint8_t *data,
		       uint64_t size);

#endif
