/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Reading the Merkle tree: its rows, and what lies below them, which is read
 * from the rows of names and objects each time. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "meta/db.h"
#include "meta/db_actors.h"
#include "meta/delta_priv.h"
#include "meta/merkle_priv.h"

/* Rows of names kept; a larger bucket is read again for each list. */
#define CACHE_MAX 65536u

/* A name of an object, by where the object would count if this is the name
 * that it counts by. */
struct name_at {
	uint64_t path; /* of the deepest level */
	int64_t object; /* key */
	evfs_stamp link;
};

/* A name that is kept, and what was found behind it. */
struct kept_name {
	struct name_at at;
	bool read;   /* the object was */
	bool counts; /* by this name; then: */
	struct evfs_merkle_leaf leaf;
};

/* The names below one bucket, so that many lists of parts of it read each
 * object once. */
struct name_cache {
	uint64_t bucket; /* path; 0 = nothing */
	bool too_many;   /* more than are kept */
	bool failed;     /* out of memory */
	struct kept_name *names; /* owned; sorted by path */
	size_t n, cap;
};

struct evfs_merkle_view {
	struct evfs_db_reader *reader; /* owned; in a snapshot */
	struct name_cache cache;
};

/* ---- what lies below ---- */

struct scan {
	struct evfs_db *db;
	const struct evfs_actors *actors;
	uint64_t path; /* names below this are wanted */
	int (*each)(void *arg, const struct name_at *name,
		    struct evfs_err *err);
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

static bool is_below(uint64_t path, uint64_t above)
{
	return evfs_merkle_above(path, evfs_merkle_level(above)) == above;
}

static int scan_home(const struct scan *scan, int64_t key, struct evfs_err *err)
{
	evfs_cleanup_stmt sqlite3_stmt *stmt = NULL;
	struct name_at name = { 0 };
	uint64_t bucket;
	evfs_ino home;
	int rc = evfs_db_prepare(scan->db,
				 "SELECT object, link, time FROM name "
				 "WHERE parent = ?1",
				 &stmt, err);

	if (rc != 0)
		return rc;
	if (!evfs_actors_dot(scan->actors, key, &home))
		return damaged(err);
	name.path = evfs_merkle_path(home, home);
	bucket = evfs_merkle_above(name.path, 2);
	name.object = key;
	if (evfs_ino_is_root(home) && is_below(name.path, scan->path)) {
		rc = scan->each(scan->arg, &name, err);
		if (rc != 0)
			return rc;
	}
	sqlite3_bind_int64(stmt, 1, key);
	while ((rc = evfs_db_step(scan->db, stmt, err)) > 0) {
		evfs_ino ino;

		name.object = sqlite3_column_int64(stmt, 0);
		name.link.time_ns = (uint64_t)sqlite3_column_int64(stmt, 2);
		if (!evfs_actors_dot(scan->actors, name.object, &ino) ||
		    !evfs_actors_dot(scan->actors,
				     sqlite3_column_int64(stmt, 1),
				     &name.link.dot))
			return damaged(err);
		name.path = evfs_merkle_path_in(bucket, ino);
		if (!is_below(name.path, scan->path))
			continue;
		rc = scan->each(scan->arg, &name, err);
		if (rc != 0)
			return rc;
	}
	return rc;
}

static int scan_names(const struct scan *scan, struct evfs_err *err)
{
	evfs_cleanup_stmt sqlite3_stmt *stmt = NULL;
	int rc = evfs_db_prepare(scan->db,
				 "SELECT dir FROM merkle_home "
				 "WHERE bucket = ?1 ORDER BY dir",
				 &stmt, err);

	if (rc != 0)
		return rc;
	sqlite3_bind_int64(stmt, 1,
			   (sqlite3_int64)evfs_merkle_above(scan->path, 2));
	while ((rc = evfs_db_step(scan->db, stmt, err)) > 0) {
		rc = scan_home(scan, sqlite3_column_int64(stmt, 0), err);
		if (rc != 0)
			return rc;
	}
	return rc;
}

/* ---- from names to objects ---- */

struct leaves {
	struct evfs_db *db;
	int (*each)(void *arg, uint64_t path,
		    const struct evfs_merkle_leaf *leaf);
	void *arg; /* of each */
};

/* 1: the object counts by this name; 0: it does not. */
static int read_leaf(struct evfs_db *db, const struct name_at *name,
		     struct evfs_merkle_leaf *ret, struct evfs_err *err)
{
	struct evfs_object *object = NULL;
	const struct evfs_link *link = NULL;
	int rc = read_object(db, name->object, &object, err);

	if (rc <= 0)
		return rc;
	if (object->kind == EVFS_KIND_DIR)
		link = evfs_object_only_link(object);
	else if (evfs_object_is_live(object))
		link = evfs_object_sibling_link(object);
	rc = evfs_ino_is_root(object->ino) ||
	     (link != NULL && evfs_stamp_cmp(&link->id, &name->link) == 0);
	ret->ino = object->ino;
	if (rc > 0 && evfs_object_live_hash(object, &ret->hash) != 0)
		rc = evfs_err_set(err, EVFS_ENOMEM, "merkle: out of memory");
	evfs_object_free(object);
	return rc;
}

static int scan_leaf(void *arg, const struct name_at *name,
		     struct evfs_err *err)
{
	const struct leaves *leaves = arg;
	struct evfs_merkle_leaf leaf;
	int rc = read_leaf(leaves->db, name, &leaf, err);

	return rc <= 0 ? rc : leaves->each(leaves->arg, name->path, &leaf);
}

int evfs_merkle_scan(struct evfs_db *db, const struct evfs_actors *actors,
		     uint64_t path,
		     int (*each)(void *arg, uint64_t path,
				 const struct evfs_merkle_leaf *leaf),
		     void *arg, struct evfs_err *err)
{
	struct leaves leaves = { db, each, arg };
	struct scan scan = { db, actors, path, scan_leaf, &leaves };

	return scan_names(&scan, err);
}

/* ---- the names of one bucket, for many lists ---- */

static int keep_name(void *arg, const struct name_at *name,
		     struct evfs_err *err)
{
	struct name_cache *cache = arg;

	(void)err;
	cache->too_many = cache->n == CACHE_MAX;
	cache->failed = !cache->too_many &&
			evfs_grow((void **)&cache->names, cache->n,
				  &cache->cap, sizeof(*cache->names)) != 0;
	if (cache->too_many || cache->failed)
		return 1;
	cache->names[cache->n++] = (struct kept_name){ .at = *name };
	return 0;
}

static int name_cmp(const void *a, const void *b)
{
	const struct kept_name *x = a;
	const struct kept_name *y = b;

	return x->at.path < y->at.path ? -1 : x->at.path > y->at.path;
}

static int fill_cache(struct evfs_merkle_view *view, uint64_t bucket,
		      struct evfs_err *err)
{
	struct name_cache *cache = &view->cache;
	struct scan scan = { evfs_db_reader_db(view->reader),
			     evfs_db_reader_numbers(view->reader), bucket,
			     keep_name, cache };
	int rc;

	if (cache->bucket == bucket)
		return 0;
	cache->n = 0;
	cache->bucket = 0;
	cache->too_many = cache->failed = false;
	rc = scan_names(&scan, err);
	if (cache->failed)
		return evfs_err_set(err, EVFS_ENOMEM, "merkle: out of memory");
	if (rc < 0)
		return rc;
	if (cache->n > 0)
		qsort(cache->names, cache->n, sizeof(*cache->names), name_cmp);
	cache->bucket = bucket;
	return 0;
}

static int kept_leaf(struct evfs_db *db, struct kept_name *name,
		     struct evfs_err *err)
{
	int rc = 0;

	if (!name->read) {
		rc = read_leaf(db, &name->at, &name->leaf, err);
		name->read = rc >= 0;
		name->counts = rc > 0;
	}
	return rc < 0 ? rc : 0;
}

/* The first that is kept of those below a node. */
static size_t first_below(const struct name_cache *cache, uint64_t path)
{
	int level = evfs_merkle_level(path);
	size_t low = 0, high = cache->n;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (evfs_merkle_above(cache->names[mid].at.path, level) < path)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

static int view_scan(struct evfs_merkle_view *view, uint64_t path,
		     int (*each)(void *arg, uint64_t path,
				 const struct evfs_merkle_leaf *leaf),
		     void *arg, struct evfs_err *err)
{
	struct evfs_db *db = evfs_db_reader_db(view->reader);
	struct name_cache *cache = &view->cache;
	int rc = fill_cache(view, evfs_merkle_above(path, 2), err);
	size_t i;

	if (rc != 0)
		return rc;
	if (cache->too_many)
		return evfs_merkle_scan(db,
					evfs_db_reader_numbers(view->reader),
					path, each, arg, err);
	for (i = first_below(cache, path);
	     i < cache->n && is_below(cache->names[i].at.path, path) && rc == 0;
	     i++) {
		rc = kept_leaf(db, &cache->names[i], err);
		if (rc == 0 && cache->names[i].counts)
			rc = each(arg, cache->names[i].at.path,
				  &cache->names[i].leaf);
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

struct evfs_db_reader *
evfs_merkle_reader(const struct evfs_merkle_view *view)
{
	return view->reader;
}

void evfs_merkle_close(struct evfs_merkle_view *view)
{
	if (view == NULL)
		return;
	evfs_db_reader_end(view->reader);
	evfs_db_reader_free(view->reader);
	evfs_free(view->cache.names);
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
		rc = evfs_merkle_columns(
			stmt, 1, 2, &ret[sqlite3_column_int64(stmt, 0) & 0xff],
			err);
		if (rc != 0)
			return rc;
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
	return view_scan(view, path, sum_below, &summing, err);
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
	rc = view_scan(view, path, add_leaf, &listing, err);
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
