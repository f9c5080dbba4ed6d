/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Reading the Merkle tree: its rows, and what lies below them, which is read
 * from the rows of names and objects each time. */
#include <assert.h>
#include <string.h>

#include "base/mem.h"
#include "meta/db.h"
#include "meta/db_actors.h"
#include "meta/delta_priv.h"
#include "meta/merkle_priv.h"

struct evfs_merkle_view {
	struct evfs_db_reader *reader; /* owned; in a snapshot */
};

/* ---- what lies below ---- */

struct scan {
	struct evfs_db *db;
	const struct evfs_actors *actors;
	uint64_t path; /* objects below this are wanted */
	int (*each)(void *arg, uint64_t path,
		    const struct evfs_merkle_leaf *leaf);
	void *arg; /* of each */
};

static int damaged(struct evfs_err *err)
{
	return evfs_err_set(err, EVFS_ECORRUPT,
			    "database is damaged: row of an unknown actor");
}

/* 1: *ret; 0: there is none. */
static int read_object(struct evfs_db *db, int64_t key,
		       struct evfs_object **ret, struct evfs_err *err)
{
	evfs_cleanup_stmt sqlite3_stmt *stmt = NULL;
	int rc = evfs_db_prepare(db, "SELECT facts FROM object WHERE id = ?1",
				 &stmt, err);

	if (rc != 0)
		return rc;
	sqlite3_bind_int64(stmt, 1, key);
	rc = evfs_db_step(db, stmt, err);
	if (rc <= 0)
		return rc;
	rc = evfs_object_decode(sqlite3_column_blob(stmt, 0),
				(size_t)sqlite3_column_bytes(stmt, 0), ret,
				err);
	return rc == 0 ? 1 : evfs_err_wrap(err, rc, "object row");
}

/* Hands it out if it counts, and this link (NULL: of the root) is the one that
 * it counts by. */
static int scan_object(struct scan *scan, int64_t key, uint64_t path,
		       const evfs_stamp *id, struct evfs_err *err)
{
	struct evfs_object *object = NULL;
	struct evfs_merkle_leaf leaf;
	const struct evfs_link *link = NULL;
	int rc = read_object(scan->db, key, &object, err);

	if (rc <= 0)
		return rc;
	if (object->kind != EVFS_KIND_DIR && evfs_object_is_live(object))
		link = evfs_object_sibling_link(object);
	else if (object->kind == EVFS_KIND_DIR)
		link = evfs_object_only_link(object);
	rc = 0;
	if (id == NULL || (link != NULL &&
			   evfs_stamp_cmp(&link->id, id) == 0)) {
		leaf.ino = object->ino;
		rc = evfs_object_live_hash(object, &leaf.hash) != 0 ?
			     evfs_err_set(err, EVFS_ENOMEM,
					  "merkle: out of memory") :
			     scan->each(scan->arg, path, &leaf);
	}
	evfs_object_free(object);
	return rc;
}

static bool is_below(const struct scan *scan, uint64_t path)
{
	return evfs_merkle_above(path, evfs_merkle_level(scan->path)) ==
	       scan->path;
}

static int scan_home(struct scan *scan, int64_t key, struct evfs_err *err)
{
	evfs_cleanup_stmt sqlite3_stmt *stmt = NULL;
	evfs_ino home;
	uint64_t path;
	int rc = evfs_db_prepare(scan->db,
				 "SELECT object, link, time FROM name "
				 "WHERE parent = ?1",
				 &stmt, err);

	if (rc != 0)
		return rc;
	if (!evfs_actors_dot(scan->actors, key, &home))
		return damaged(err);
	path = evfs_merkle_path(home, home);
	if (evfs_ino_is_root(home) && is_below(scan, path)) {
		rc = scan_object(scan, key, path, NULL, err);
		if (rc != 0)
			return rc;
	}
	sqlite3_bind_int64(stmt, 1, key);
	while ((rc = evfs_db_step(scan->db, stmt, err)) > 0) {
		int64_t object = sqlite3_column_int64(stmt, 0);
		evfs_ino ino;
		evfs_stamp id;

		if (!evfs_actors_dot(scan->actors, object, &ino) ||
		    !evfs_actors_dot(scan->actors,
				     sqlite3_column_int64(stmt, 1), &id.dot))
			return damaged(err);
		id.time_ns = (uint64_t)sqlite3_column_int64(stmt, 2);
		path = evfs_merkle_path(home, ino);
		if (!is_below(scan, path))
			continue;
		rc = scan_object(scan, object, path, &id, err);
		if (rc != 0)
			return rc;
	}
	return rc;
}

int evfs_merkle_scan(struct evfs_db *db, const struct evfs_actors *actors,
		     uint64_t path,
		     int (*each)(void *arg, uint64_t path,
				 const struct evfs_merkle_leaf *leaf),
		     void *arg, struct evfs_err *err)
{
	struct scan scan = { db, actors, path, each, arg };
	evfs_cleanup_stmt sqlite3_stmt *stmt = NULL;
	int rc = evfs_db_prepare(db,
				 "SELECT dir FROM merkle_home "
				 "WHERE bucket = ?1 ORDER BY dir",
				 &stmt, err);

	if (rc != 0)
		return rc;
	sqlite3_bind_int64(stmt, 1,
			   (sqlite3_int64)evfs_merkle_above(path, 2));
	while ((rc = evfs_db_step(db, stmt, err)) > 0) {
		rc = scan_home(&scan, sqlite3_column_int64(stmt, 0), err);
		if (rc != 0)
			return rc;
	}
	return rc;
}

/* ---- a snapshot ---- */

int evfs_merkle_open(struct evfs_meta *meta, struct evfs_merkle_view **ret,
		     struct evfs_err *err)
{
	struct evfs_merkle_view *view = evfs_calloc(1, sizeof(*view));
	int rc;

	if (view == NULL)
		return evfs_err_set(err, EVFS_ENOMEM, "merkle: out of memory");
	rc = evfs_db_reader_new(meta, &view->reader, err);
	if (rc == 0) {
		rc = evfs_db_reader_begin(view->reader, NULL, err);
		if (rc != 0)
			evfs_db_reader_free(view->reader);
	}
	if (rc != 0) {
		evfs_free(view);
		return rc;
	}
	*ret = view;
	return 0;
}

void evfs_merkle_close(struct evfs_merkle_view *view)
{
	if (view == NULL)
		return;
	evfs_db_reader_end(view->reader);
	evfs_db_reader_free(view->reader);
	evfs_free(view);
}

/* The children of level 1 and 2, and below a split bucket. */
static int stored_children(struct evfs_db *db, uint64_t path,
			   struct evfs_merkle_node ret[EVFS_MERKLE_FANOUT],
			   struct evfs_err *err)
{
	evfs_cleanup_stmt sqlite3_stmt *stmt = NULL;
	int rc = evfs_db_prepare(db,
				 "SELECT path, count, sum FROM merkle "
				 "WHERE path >= ?1 AND path < ?2",
				 &stmt, err);

	if (rc != 0)
		return rc;
	sqlite3_bind_int64(stmt, 1, (sqlite3_int64)(path << 8));
	sqlite3_bind_int64(stmt, 2, (sqlite3_int64)((path + 1) << 8));
	while ((rc = evfs_db_step(db, stmt, err)) > 0) {
		struct evfs_merkle_node *node =
			&ret[sqlite3_column_int64(stmt, 0) & 0xff];

		if (sqlite3_column_bytes(stmt, 2) != EVFS_HASH_SIZE)
			return evfs_err_set(err, EVFS_ECORRUPT,
					    "database is damaged: a sum of "
					    "%d bytes",
					    sqlite3_column_bytes(stmt, 2));
		node->count = sqlite3_column_int64(stmt, 1);
		memcpy(node->sum.b, sqlite3_column_blob(stmt, 2),
		       EVFS_HASH_SIZE);
	}
	return rc;
}

struct summing {
	struct evfs_merkle_node *nodes; /* of the children */
	int level;                      /* theirs */
};

static int sum_below(void *arg, uint64_t path,
		     const struct evfs_merkle_leaf *leaf)
{
	struct summing *summing = arg;
	struct evfs_merkle_node *node =
		&summing->nodes[evfs_merkle_above(path, summing->level) & 0xff];

	node->count++;
	evfs_hash_add(&node->sum, &leaf->hash);
	return 0;
}

int evfs_merkle_children(struct evfs_merkle_view *view, uint64_t path,
			 struct evfs_merkle_node ret[EVFS_MERKLE_FANOUT],
			 struct evfs_err *err)
{
	struct evfs_db *db = evfs_db_reader_db(view->reader);
	int level = evfs_merkle_level(path);
	struct summing summing = { ret, level + 1 };
	struct evfs_merkle_node node;
	bool split = false;
	int rc = 0;

	assert(level >= 0 && level < EVFS_MERKLE_LEVELS);
	memset(ret, 0, EVFS_MERKLE_FANOUT * sizeof(*ret));
	if (level == 2)
		rc = evfs_merkle_row(db, path, &node, &split, err);
	if (rc != 0)
		return rc;
	if (level < 2 || split)
		return stored_children(db, path, ret, err);
	return evfs_merkle_scan(db, evfs_db_reader_numbers(view->reader), path,
				sum_below, &summing, err);
}

int evfs_merkle_get(struct evfs_merkle_view *view, uint64_t path,
		    struct evfs_merkle_node *ret, struct evfs_err *err)
{
	struct evfs_db *db = evfs_db_reader_db(view->reader);
	evfs_cleanup_free struct evfs_merkle_node *children = NULL;
	int level = evfs_merkle_level(path);
	int rc;

	if (level == 1 || level == 2)
		return evfs_merkle_row(db, path, ret, NULL, err);
	children = evfs_calloc(EVFS_MERKLE_FANOUT, sizeof(*children));
	if (children == NULL)
		return evfs_err_set(err, EVFS_ENOMEM, "merkle: out of memory");
	rc = evfs_merkle_children(view, level == 0 ? path : path >> 8,
				  children, err);
	if (rc != 0)
		return rc;
	if (level > 0) {
		*ret = children[path & 0xff];
		return 0;
	}
	*ret = (struct evfs_merkle_node){ 0 };
	for (size_t i = 0; i < EVFS_MERKLE_FANOUT; i++) {
		ret->count += children[i].count;
		evfs_hash_add(&ret->sum, &children[i].sum);
	}
	return 0;
}

struct listing {
	struct evfs_merkle_leaf *leaves; /* owned */
	size_t n, cap, max;
	bool failed; /* out of memory */
};

static int add_leaf(void *arg, uint64_t path,
		    const struct evfs_merkle_leaf *leaf)
{
	struct listing *listing = arg;

	(void)path;
	if (listing->n == listing->max)
		return 1;
	listing->failed = evfs_grow((void **)&listing->leaves, listing->n,
				    &listing->cap,
				    sizeof(*listing->leaves)) != 0;
	if (listing->failed)
		return 1;
	listing->leaves[listing->n++] = *leaf;
	return 0;
}

int evfs_merkle_list(struct evfs_merkle_view *view, uint64_t path, size_t max,
		     struct evfs_merkle_leaf **ret, size_t *ret_n,
		     struct evfs_err *err)
{
	struct listing listing = { .max = max };
	int rc;

	assert(evfs_merkle_level(path) >= 2);
	rc = evfs_merkle_scan(evfs_db_reader_db(view->reader),
			      evfs_db_reader_numbers(view->reader), path,
			      add_leaf, &listing, err);
	if (listing.failed)
		rc = evfs_err_set(err, EVFS_ENOMEM, "merkle: out of memory");
	if (rc < 0) {
		evfs_free(listing.leaves);
		return rc;
	}
	*ret = listing.leaves;
	*ret_n = listing.n;
	return 0;
}

int evfs_merkle_object(struct evfs_merkle_view *view, evfs_ino ino,
		       struct evfs_object **ret, size_t *ret_len,
		       struct evfs_err *err)
{
	int64_t key = evfs_db_reader_key(view->reader, ino);

	*ret = NULL;
	if (key < 0)
		return 0;
	return evfs_db_reader_object(view->reader, key, ret, ret_len, err);
}
