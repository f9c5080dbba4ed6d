/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The rows of the Merkle tree, and bringing them up to date at each commit.
 *
 * Table merkle has a row for each node of levels 1 and 2 that is not empty, and
 * of level 3 below the buckets that are split. Table merkle_home lists, for
 * each bucket, the directories that objects below it are, or have been, at
 * home in. The root is not stored: it is root_hash. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "meta/db_actors.h"
#include "meta/facts_priv.h"
#include "meta/merkle_priv.h"

/* Homes remembered; then it starts over. */
#define HOMES_MAX 65536u

static void drop_homes(struct evfs_merkle *merkle)
{
	struct evfs_idmap_node *node;
	size_t at = 0;

	while ((node = evfs_idmap_pop(&merkle->homes, &at)) != NULL)
		evfs_free(node);
}

void evfs_merkle_drop(struct evfs_merkle *merkle)
{
	drop_homes(merkle);
	merkle->n = 0;
}

void evfs_merkle_fini(struct evfs_merkle *merkle)
{
	evfs_merkle_drop(merkle);
	evfs_idmap_fini(&merkle->homes);
	evfs_free(merkle->changes);
}

/* ---- gathering ---- */

static int add_change(struct evfs_merkle *merkle,
		      const struct evfs_merkle_change *change,
		      struct evfs_err *err)
{
	if (evfs_grow((void **)&merkle->changes, merkle->n, &merkle->cap,
		      sizeof(*merkle->changes)) != 0)
		return evfs_err_set(err, EVFS_ENOMEM, "merkle: out of memory");
	merkle->changes[merkle->n++] = *change;
	return 0;
}

int evfs_facts_merkle_change(struct evfs_facts *facts,
			     const struct evfs_object *object, int sign,
			     const evfs_hash *hash, struct evfs_err *err)
{
	struct evfs_merkle *merkle = &facts->merkle;
	struct evfs_merkle_change change = { .sign = sign, .hash = *hash };
	evfs_ino home = evfs_merkle_home(object);
	int rc = evfs_facts_key(facts, home, true, &change.home, err);

	if (rc < 0)
		return rc;
	change.path = evfs_merkle_path(home, object->ino);
	return add_change(merkle, &change, err);
}

int evfs_facts_merkle_reset(struct evfs_facts *facts, struct evfs_err *err)
{
	struct evfs_merkle_change change = { .path = 0 };

	return add_change(&facts->merkle, &change, err);
}

/* ---- rows ---- */

int evfs_merkle_columns(sqlite3_stmt *stmt, int count, int sum,
			struct evfs_merkle_node *ret, struct evfs_err *err)
{
	if (sqlite3_column_bytes(stmt, sum) != EVFS_HASH_SIZE)
		return evfs_err_set(err, EVFS_ECORRUPT,
				    "database is damaged: a sum of %d bytes",
				    sqlite3_column_bytes(stmt, sum));
	ret->count = sqlite3_column_int64(stmt, count);
	memcpy(ret->sum.b, sqlite3_column_blob(stmt, sum), EVFS_HASH_SIZE);
	return 0;
}

int evfs_merkle_row(struct evfs_db *db, uint64_t path,
		    struct evfs_merkle_node *ret, bool *ret_split,
		    struct evfs_err *err)
{
	evfs_cleanup_stmt sqlite3_stmt *stmt = NULL;
	int rc = evfs_db_prepare(db,
				 "SELECT count, split, sum FROM merkle "
				 "WHERE path = ?1",
				 &stmt, err);

	if (rc != 0)
		return rc;
	sqlite3_bind_int64(stmt, 1, (sqlite3_int64)path);
	rc = evfs_db_step(db, stmt, err);
	if (rc < 0)
		return rc;
	*ret = (struct evfs_merkle_node){ 0 };
	if (ret_split != NULL)
		*ret_split = rc > 0 && sqlite3_column_int(stmt, 1) != 0;
	return rc == 0 ? 0 : evfs_merkle_columns(stmt, 0, 2, ret, err);
}

int evfs_merkle_put_row(struct evfs_db *db, uint64_t path,
			const struct evfs_merkle_node *node, bool split,
			struct evfs_err *err)
{
	evfs_cleanup_stmt sqlite3_stmt *stmt = NULL;
	bool empty = node->count == 0 && evfs_hash_is_zero(&node->sum);
	int rc;

	if (empty && !split)
		rc = evfs_db_prepare(db, "DELETE FROM merkle WHERE path = ?1",
				     &stmt, err);
	else
		rc = evfs_db_prepare(db,
				     "INSERT OR REPLACE INTO merkle"
				     "(path, count, split, sum) "
				     "VALUES(?1, ?2, ?3, ?4)",
				     &stmt, err);
	if (rc != 0)
		return rc;
	sqlite3_bind_int64(stmt, 1, (sqlite3_int64)path);
	if (!empty || split) {
		sqlite3_bind_int64(stmt, 2, node->count);
		sqlite3_bind_int(stmt, 3, split);
		sqlite3_bind_blob(stmt, 4, node->sum.b, EVFS_HASH_SIZE,
				  SQLITE_STATIC);
	}
	return evfs_db_run(db, stmt, err);
}

static int add_home(struct evfs_facts *facts, uint64_t bucket, int64_t home,
		    struct evfs_err *err)
{
	evfs_cleanup_stmt sqlite3_stmt *stmt = NULL;
	struct evfs_idmap *homes = &facts->merkle.homes;
	struct evfs_idmap_node *node;
	int rc;

	if (evfs_idmap_get(homes, (uint64_t)home) != NULL)
		return 0;
	rc = evfs_db_prepare(facts->meta->db,
			     "INSERT OR IGNORE INTO merkle_home(bucket, dir) "
			     "VALUES(?1, ?2)",
			     &stmt, err);
	if (rc != 0)
		return rc;
	sqlite3_bind_int64(stmt, 1, (sqlite3_int64)bucket);
	sqlite3_bind_int64(stmt, 2, home);
	rc = evfs_db_run(facts->meta->db, stmt, err);
	if (rc != 0)
		return rc;
	if (homes->n >= HOMES_MAX)
		drop_homes(&facts->merkle);
	/* Without memory for it, it is inserted again next time. */
	node = evfs_calloc(1, sizeof(*node));
	if (node == NULL)
		return 0;
	node->id = (uint64_t)home;
	if (evfs_idmap_put(homes, node) != 0)
		evfs_free(node);
	return 0;
}

/* ---- splitting ---- */

struct children {
	struct evfs_merkle_node nodes[EVFS_MERKLE_FANOUT];
};

static int count_below(void *arg, uint64_t path,
		       const struct evfs_merkle_leaf *leaf)
{
	struct children *children = arg;
	struct evfs_merkle_node *node =
		&children->nodes[evfs_merkle_above(path, 3) & 0xff];

	node->count++;
	evfs_hash_add(&node->sum, &leaf->hash);
	return 0;
}

int evfs_merkle_split(struct evfs_db *db, const struct evfs_actors *actors,
		      uint64_t path, bool on, struct evfs_err *err)
{
	evfs_cleanup_free struct children *children = NULL;
	evfs_cleanup_stmt sqlite3_stmt *stmt = NULL;
	int rc = evfs_db_prepare(db,
				 "DELETE FROM merkle "
				 "WHERE path >= ?1 AND path < ?2",
				 &stmt, err);

	if (rc != 0)
		return rc;
	sqlite3_bind_int64(stmt, 1, (sqlite3_int64)(path << 8));
	sqlite3_bind_int64(stmt, 2, (sqlite3_int64)((path + 1) << 8));
	rc = evfs_db_run(db, stmt, err);
	if (rc != 0 || !on)
		return rc;
	children = evfs_calloc(1, sizeof(*children));
	if (children == NULL)
		return evfs_err_set(err, EVFS_ENOMEM, "merkle: out of memory");
	rc = evfs_merkle_scan(db, actors, path, count_below, children, err);
	for (uint64_t i = 0; i < EVFS_MERKLE_FANOUT && rc == 0; i++)
		rc = evfs_merkle_put_row(db, path << 8 | i, &children->nodes[i],
					 false, err);
	return rc;
}

/* ---- writing ---- */

static void node_add(struct evfs_merkle_node *to,
		     const struct evfs_merkle_node *by)
{
	to->count += by->count;
	evfs_hash_add(&to->sum, &by->sum);
}

static void node_change(struct evfs_merkle_node *node,
			const struct evfs_merkle_change *change)
{
	node->count += change->sign;
	if (change->sign > 0)
		evfs_hash_add(&node->sum, &change->hash);
	else
		evfs_hash_sub(&node->sum, &change->hash);
}

static int write_node(struct evfs_db *db, uint64_t path,
		      const struct evfs_merkle_node *by, struct evfs_err *err)
{
	struct evfs_merkle_node node;
	int rc = evfs_merkle_row(db, path, &node, NULL, err);

	if (rc != 0)
		return rc;
	node_add(&node, by);
	return evfs_merkle_put_row(db, path, &node, false, err);
}

/* The children of one bucket; sorted changes. */
static int write_children(struct evfs_db *db,
			  const struct evfs_merkle_change *changes, size_t n,
			  struct evfs_err *err)
{
	size_t i = 0;
	int rc = 0;

	while (i < n && rc == 0) {
		uint64_t path = evfs_merkle_above(changes[i].path, 3);
		struct evfs_merkle_node by = { 0 };

		for (; i < n && evfs_merkle_above(changes[i].path, 3) == path;
		     i++)
			node_change(&by, &changes[i]);
		rc = write_node(db, path, &by, err);
	}
	return rc;
}

static int write_bucket(struct evfs_facts *facts,
			const struct evfs_merkle_change *changes, size_t n,
			const struct evfs_merkle_node *by, struct evfs_err *err)
{
	struct evfs_db *db = facts->meta->db;
	uint64_t path = evfs_merkle_above(changes[0].path, 2);
	struct evfs_merkle_node node;
	bool was_split;
	bool split;
	int rc = evfs_merkle_row(db, path, &node, &was_split, err);

	if (rc != 0)
		return rc;
	node_add(&node, by);
	split = node.count > (was_split ? EVFS_MERKLE_JOIN_MIN - 1 :
					  EVFS_MERKLE_LEAF_MAX);
	for (size_t i = 0; i < n && rc == 0; i++)
		if (changes[i].sign > 0 &&
		    (i == 0 || changes[i].home != changes[i - 1].home))
			rc = add_home(facts, path, changes[i].home, err);
	if (rc == 0 && split && was_split)
		rc = write_children(db, changes, n, err);
	else if (rc == 0 && split != was_split)
		rc = evfs_merkle_split(db, &facts->actors, path, split, err);
	return rc != 0 ? rc :
			 evfs_merkle_put_row(db, path, &node, split, err);
}

static int write_all(struct evfs_facts *facts,
		     const struct evfs_merkle_change *changes, size_t n,
		     struct evfs_err *err)
{
	struct evfs_merkle_node above = { 0 };
	size_t i = 0;
	int rc = 0;

	while (i < n && rc == 0) {
		uint64_t path = evfs_merkle_above(changes[i].path, 2);
		struct evfs_merkle_node by = { 0 };
		size_t first = i;

		for (; i < n && evfs_merkle_above(changes[i].path, 2) == path;
		     i++)
			node_change(&by, &changes[i]);
		rc = write_bucket(facts, changes + first, i - first, &by, err);
		node_add(&above, &by);
		if (rc == 0 &&
		    (i == n || evfs_merkle_above(changes[i].path, 1) !=
				       path >> 8)) {
			rc = write_node(facts->meta->db, path >> 8, &above,
					err);
			above = (struct evfs_merkle_node){ 0 };
		}
	}
	return rc;
}

static int change_cmp(const void *a, const void *b)
{
	const struct evfs_merkle_change *x = a;
	const struct evfs_merkle_change *y = b;

	return x->path < y->path ? -1 : x->path > y->path;
}

static int flush(struct evfs_facts *facts, struct evfs_err *err)
{
	struct evfs_merkle *merkle = &facts->merkle;
	size_t first = merkle->n;
	int rc = 0;

	while (first > 0 && merkle->changes[first - 1].path != 0)
		first--;
	if (first > 0) {
		drop_homes(merkle);
		rc = evfs_db_exec(facts->meta->db,
				  "DELETE FROM merkle;"
				  "DELETE FROM merkle_home;",
				  err);
	}
	if (rc != 0 || first == merkle->n)
		return rc;
	qsort(merkle->changes + first, merkle->n - first,
	      sizeof(*merkle->changes), change_cmp);
	return write_all(facts, merkle->changes + first, merkle->n - first,
			 err);
}

int evfs_merkle_flush(struct evfs_facts *facts, struct evfs_err *err)
{
	struct evfs_db *db = facts->meta->db;
	struct evfs_merkle *merkle = &facts->merkle;
	int rc;

	if (merkle->n == 0)
		return 0;
	rc = evfs_db_run_literal(db, "SAVEPOINT merkle", err);
	if (rc != 0)
		return rc;
	rc = flush(facts, err);
	if (rc == 0)
		rc = evfs_db_run_literal(db, "RELEASE merkle", err);
	if (rc != 0) {
		/* Where SQLite has rolled everything back by itself, the
		 * commit finds that out. */
		(void)!evfs_db_run_literal(db, "ROLLBACK TO merkle", NULL);
		(void)!evfs_db_run_literal(db, "RELEASE merkle", NULL);
		drop_homes(merkle); /* they may have no row */
		return rc;
	}
	merkle->n = 0;
	return 0;
}
