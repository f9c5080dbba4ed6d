/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The writing side of the Merkle tree, for meta's db files.
 *
 * Changes are gathered in memory, in order, and go into the rows once for each
 * commit; undoing an operation cuts the list where it began. */
#ifndef EVFS_META_MERKLE_PRIV_H
#define EVFS_META_MERKLE_PRIV_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/hash.h"
#include "meta/db.h"
#include "meta/idmap.h"
#include "meta/merkle.h"

struct evfs_actors;
struct evfs_db_reader;
struct evfs_facts;

struct evfs_merkle_change {
	uint64_t path; /* of the deepest level; 0: the tree starts anew */
	int64_t home;  /* key of the directory */
	int sign;      /* 1 added, -1 taken away */
	evfs_hash hash;
};

struct evfs_merkle {
	struct evfs_merkle_change *changes; /* owned; since the last commit */
	size_t n, cap;
	struct evfs_idmap homes; /* directories known to have a row */
};

void evfs_merkle_fini(struct evfs_merkle *merkle);
/* Forgets what was not written. */
void evfs_merkle_drop(struct evfs_merkle *merkle);
/* Writes the changes; the rows of names and objects have been written. All or
 * nothing: after a failure it may be called again. */
int evfs_merkle_flush(struct evfs_facts *facts, struct evfs_err *err)
	EVFS_MUST_USE;

/* Calls each for every object below a node of level 2 or deeper, with its path
 * of the deepest level, on any connection. A non-zero return stops and is
 * returned. */
int evfs_merkle_scan(struct evfs_db *db, const struct evfs_actors *actors,
		     uint64_t path,
		     int (*each)(void *arg, uint64_t path,
				 const struct evfs_merkle_leaf *leaf),
		     void *arg, struct evfs_err *err) EVFS_MUST_USE;
/* Of a view. */
struct evfs_db_reader *
evfs_merkle_reader(const struct evfs_merkle_view *view);
/* From two columns of the running row: count, sum. EVFS_ECORRUPT. */
int evfs_merkle_columns(sqlite3_stmt *stmt, int count, int sum,
			struct evfs_merkle_node *ret, struct evfs_err *err)
	EVFS_MUST_USE;
/* One row; all zero where there is none. split (may be NULL): has it rows of
 * children? */
int evfs_merkle_row(struct evfs_db *db, uint64_t path,
		    struct evfs_merkle_node *ret, bool *ret_split,
		    struct evfs_err *err) EVFS_MUST_USE;
int evfs_merkle_put_row(struct evfs_db *db, uint64_t path,
			const struct evfs_merkle_node *node, bool split,
			struct evfs_err *err) EVFS_MUST_USE;
/* Makes the children of a bucket anew from the rows, or removes them. */
int evfs_merkle_split(struct evfs_db *db, const struct evfs_actors *actors,
		      uint64_t path, bool on, struct evfs_err *err)
	EVFS_MUST_USE;

#endif
