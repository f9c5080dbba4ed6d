/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The Merkle tree over the live facts (Merkle 1987; as anti-entropy: DeCandia
 * et al. 2007, "Dynamo", section 4.7): what two replicas compare to find where
 * they differ, whatever their contexts claim.
 *
 * A radix tree of 256 x 256 buckets. An object counts in one bucket, that of
 * its *home*: the directory of its oldest live link (of a directory: of its
 * only link; the root object is its own home). Home is a function of live
 * facts, so replicas that agree on an object agree on its bucket. The bucket is
 * the first two bytes of BLAKE2b of the home's id; a bucket of more than
 * EVFS_MERKLE_LEAF_MAX objects goes one level further by the first byte of
 * BLAKE2b of the object's id. A node is the sum modulo 2^256 of the live hashes
 * (evfs_object_live_hash) of the objects below it (Bellare and Micciancio 1997,
 * AdHash), and their number. The root's sum is root_hash.
 *
 * A node is named by its *path*: a one, followed by the bytes of the way, as a
 * number. The root is 1, its children 256 to 511. Levels 1 and 2 are rows of
 * the store, level 3 where a bucket is split; what lies below is computed when
 * it is asked for. */
#ifndef EVFS_META_MERKLE_H
#define EVFS_META_MERKLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/hash.h"
#include "meta/meta.h"
#include "meta/object.h"

#define EVFS_MERKLE_FANOUT 256
#define EVFS_MERKLE_LEAF_MAX 1024 /* objects of a bucket before it is split */
#define EVFS_MERKLE_JOIN_MIN 512  /* fewer, and it is whole again */
#define EVFS_MERKLE_LEVELS 4      /* the deepest: always listed */
#define EVFS_MERKLE_ROOT UINT64_C(1)

struct evfs_merkle_node {
	int64_t count; /* objects below */
	evfs_hash sum; /* of their hashes */
};

/* An object in a list of those below a node. */
struct evfs_merkle_leaf {
	evfs_ino ino;
	evfs_hash hash; /* of its live facts */
};

/* ---- paths; pure ---- */

/* The directory that an object counts in; the object has a live link, or is a
 * directory. */
evfs_ino evfs_merkle_home(const struct evfs_object *object);
/* The path of the deepest level for an object in this home. */
uint64_t evfs_merkle_path(evfs_ino home, evfs_ino ino);
/* The same where the path of the home's bucket is known. */
uint64_t evfs_merkle_path_in(uint64_t bucket, evfs_ino ino);
/* 0 for the root; -1 for what is no path. */
int evfs_merkle_level(uint64_t path);
/* The node above it (or it itself) at this level. */
uint64_t evfs_merkle_above(uint64_t path, int level);

/* ---- reading: a snapshot of what is durable ----
 * Takes meta's locks itself (a store in memory stays locked until close): not
 * called with meta locked, and nothing else of meta is called in between. */

struct evfs_merkle_view;

int evfs_merkle_open(struct evfs_meta *meta, struct evfs_merkle_view **ret,
		     struct evfs_err *err) EVFS_MUST_USE;
void evfs_merkle_close(struct evfs_merkle_view *view); /* NULL is fine */

int evfs_merkle_get(struct evfs_merkle_view *view, uint64_t path,
		    struct evfs_merkle_node *ret, struct evfs_err *err)
	EVFS_MUST_USE;
/* The nodes below one above the deepest level, by their last byte. */
int evfs_merkle_children(struct evfs_merkle_view *view, uint64_t path,
			 struct evfs_merkle_node ret[EVFS_MERKLE_FANOUT],
			 struct evfs_err *err) EVFS_MUST_USE;
/* The objects below a node of level 2 or deeper, at most max; evfs_free. Read
 * from the rows of names and objects, not from the tree. */
int evfs_merkle_list(struct evfs_merkle_view *view, uint64_t path, size_t max,
		     struct evfs_merkle_leaf **ret, size_t *ret_n,
		     struct evfs_err *err) EVFS_MUST_USE;
/* An object of the snapshot, dead or alive, of the caller, and the size of its
 * row; NULL: none. */
int evfs_merkle_object(struct evfs_merkle_view *view, evfs_ino ino,
		       struct evfs_object **ret, size_t *ret_len,
		       struct evfs_err *err) EVFS_MUST_USE;

/* ---- checking the tree itself ---- */

/* How far a pass over all buckets is; {0}: at its beginning. */
struct evfs_merkle_pass {
	uint64_t next;    /* path of the bucket to go on with */
	uint64_t objects; /* summed up again so far */
	uint64_t wrong;   /* nodes that were not what they should be */
};

/* Makes one bucket anew from the rows of names and objects, and compares; after
 * the last one the nodes above. What is wrong is put right, the root hash too.
 * One bucket a call, so that the caller sets the pace. Takes meta's locks
 * itself, the meta lock only where something is wrong. */
int evfs_merkle_verify(struct evfs_meta *meta, struct evfs_merkle_pass *pass,
		       bool *ret_done, struct evfs_err *err) EVFS_MUST_USE;

#endif
