/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Checking the Merkle tree against the rows it is made from, bucket by bucket,
 * each in a snapshot of its own; and putting right what is wrong. A tree that
 * is wrong is worse than none: two replicas that agree would look for ever for
 * a difference, and two that differ might see none. */
#include <string.h>

#include "base/mem.h"
#include "meta/delta_priv.h"
#include "meta/facts_priv.h"
#include "meta/merkle_priv.h"

#define BUCKET_FIRST (EVFS_MERKLE_ROOT << 16)
#define BUCKET_END (BUCKET_FIRST << 1)

/* A bucket as its rows are, or as they should be. */
struct bucket {
	struct evfs_merkle_node node;
	struct evfs_merkle_node children[EVFS_MERKLE_FANOUT];
};

static bool same(const struct evfs_merkle_node *a,
		 const struct evfs_merkle_node *b)
{
	return a->count == b->count && evfs_hash_equal(&a->sum, &b->sum);
}

static int add_leaf(void *arg, uint64_t path,
		    const struct evfs_merkle_leaf *leaf)
{
	struct bucket *bucket = arg;
	struct evfs_merkle_node *child =
		&bucket->children[evfs_merkle_above(path, 3) & 0xff];

	child->count++;
	evfs_hash_add(&child->sum, &leaf->hash);
	bucket->node.count++;
	evfs_hash_add(&bucket->node.sum, &leaf->hash);
	return 0;
}

/* The next path that has a row or a home, at or after `path`; BUCKET_END. */
static int next_bucket(struct evfs_db *db, uint64_t path, uint64_t *ret,
		       struct evfs_err *err)
{
	evfs_cleanup_stmt sqlite3_stmt *stmt = NULL;
	int rc = evfs_db_prepare(
		db,
		"SELECT min(path) FROM ("
		" SELECT min(path) AS path FROM merkle"
		"  WHERE path >= ?1 AND path < ?2 UNION ALL"
		" SELECT min(bucket) FROM merkle_home WHERE bucket >= ?1)",
		&stmt, err);

	if (rc != 0)
		return rc;
	sqlite3_bind_int64(stmt, 1, (sqlite3_int64)path);
	sqlite3_bind_int64(stmt, 2, (sqlite3_int64)BUCKET_END);
	rc = evfs_db_step(db, stmt, err);
	if (rc < 0)
		return rc;
	*ret = rc == 0 || sqlite3_column_type(stmt, 0) == SQLITE_NULL ?
		       BUCKET_END :
		       (uint64_t)sqlite3_column_int64(stmt, 0);
	return 0;
}

/* The rows of a bucket against what they should be. */
static int compare(struct evfs_db *db, uint64_t path,
		   const struct bucket *should, bool *ret_same,
		   struct evfs_err *err)
{
	struct evfs_merkle_node node;
	bool split;
	int rc = evfs_merkle_row(db, path, &node, &split, err);

	*ret_same = rc == 0 && same(&node, &should->node);
	for (uint64_t i = 0; i < EVFS_MERKLE_FANOUT && rc == 0 && *ret_same &&
			     split;
	     i++) {
		rc = evfs_merkle_row(db, path << 8 | i, &node, NULL, err);
		*ret_same = rc == 0 && same(&node, &should->children[i]);
	}
	return rc;
}

static int scan_and_compare(struct evfs_db *db,
			    const struct evfs_actors *actors, uint64_t path,
			    struct bucket *should, bool *ret_same,
			    struct evfs_err *err)
{
	int rc;

	memset(should, 0, sizeof(*should));
	rc = evfs_merkle_scan(db, actors, path, add_leaf, should, err);
	return rc != 0 ? rc : compare(db, path, should, ret_same, err);
}

/* ---- putting right; meta locked ---- */

static int put_bucket(struct evfs_facts *facts, uint64_t path,
		      const struct bucket *should, struct evfs_err *err)
{
	bool split = should->node.count > EVFS_MERKLE_LEAF_MAX;
	int rc = evfs_merkle_split(facts->meta->db, &facts->actors, path,
				   split, err);

	return rc != 0 ? rc :
			 evfs_merkle_put_row(facts->meta->db, path,
					     &should->node, split, err);
}

static int repair_bucket(struct evfs_meta *meta, uint64_t path,
			 struct bucket *should, uint64_t *wrong,
			 struct evfs_err *err)
{
	bool fine = false;
	int rc = evfs_meta_begin_write(meta, err);

	/* What is not written yet is no difference. */
	if (rc == 0)
		rc = evfs_facts_flush(meta->facts, err);
	if (rc == 0)
		rc = scan_and_compare(meta->db, &meta->facts->actors, path,
				      should, &fine, err);
	if (rc != 0 || fine)
		return rc;
	++*wrong;
	return put_bucket(meta->facts, path, should, err);
}

/* The sums of the children, by the level of those. */
static int sum_rows(struct evfs_db *db, uint64_t from, uint64_t end,
		    struct evfs_merkle_node *ret, struct evfs_err *err)
{
	evfs_cleanup_stmt sqlite3_stmt *stmt = NULL;
	int rc = evfs_db_prepare(db,
				 "SELECT count, sum FROM merkle "
				 "WHERE path >= ?1 AND path < ?2",
				 &stmt, err);

	if (rc != 0)
		return rc;
	*ret = (struct evfs_merkle_node){ 0 };
	sqlite3_bind_int64(stmt, 1, (sqlite3_int64)from);
	sqlite3_bind_int64(stmt, 2, (sqlite3_int64)end);
	while ((rc = evfs_db_step(db, stmt, err)) > 0) {
		evfs_hash sum = { { 0 } };

		if (sqlite3_column_bytes(stmt, 1) == EVFS_HASH_SIZE)
			memcpy(sum.b, sqlite3_column_blob(stmt, 1),
			       EVFS_HASH_SIZE);
		ret->count += sqlite3_column_int64(stmt, 0);
		evfs_hash_add(&ret->sum, &sum);
	}
	return rc;
}

static int repair_above(struct evfs_meta *meta, uint64_t *wrong,
			struct evfs_err *err)
{
	struct evfs_facts *facts = meta->facts;
	struct evfs_merkle_node node, should;
	int rc = evfs_meta_begin_write(meta, err);

	if (rc == 0)
		rc = evfs_facts_flush(facts, err);
	for (uint64_t path = EVFS_MERKLE_FANOUT;
	     path < 2 * EVFS_MERKLE_FANOUT && rc == 0; path++) {
		rc = sum_rows(meta->db, path << 8, (path + 1) << 8, &should,
			      err);
		if (rc == 0)
			rc = evfs_merkle_row(meta->db, path, &node, NULL, err);
		if (rc != 0 || same(&node, &should))
			continue;
		++*wrong;
		rc = evfs_merkle_put_row(meta->db, path, &should, false, err);
	}
	if (rc == 0)
		rc = sum_rows(meta->db, EVFS_MERKLE_FANOUT,
			      2 * EVFS_MERKLE_FANOUT, &should, err);
	if (rc == 0 && !evfs_hash_equal(&should.sum, evfs_facts_root(facts))) {
		evfs_hash root = *evfs_facts_root(facts);

		++*wrong;
		evfs_facts_root_change(facts, &root, &should.sum);
	}
	return rc;
}

/* ---- one step ---- */

static int check_bucket(struct evfs_meta *meta, struct evfs_merkle_pass *pass,
			struct bucket *should, bool *ret_same,
			struct evfs_err *err)
{
	struct evfs_merkle_view *view;
	struct evfs_db_reader *reader;
	int rc = evfs_merkle_open(meta, &view, err);

	if (rc != 0)
		return rc;
	reader = evfs_merkle_reader(view);
	rc = next_bucket(evfs_db_reader_db(reader),
			 pass->next < BUCKET_FIRST ? BUCKET_FIRST : pass->next,
			 &pass->next, err);
	if (rc == 0 && pass->next < BUCKET_END)
		rc = scan_and_compare(evfs_db_reader_db(reader),
				      evfs_db_reader_numbers(reader),
				      pass->next, should, ret_same, err);
	evfs_merkle_close(view);
	return rc;
}

int evfs_merkle_verify(struct evfs_meta *meta, struct evfs_merkle_pass *pass,
		       bool *ret_done, struct evfs_err *err)
{
	evfs_cleanup_free struct bucket *should =
		evfs_calloc(1, sizeof(*should));
	bool fine = true;
	int rc;

	if (should == NULL)
		return evfs_err_set(err, EVFS_ENOMEM, "merkle: out of memory");
	rc = check_bucket(meta, pass, should, &fine, err);
	if (rc != 0)
		return rc;
	*ret_done = pass->next >= BUCKET_END;
	pass->objects += (uint64_t)should->node.count;
	if (!fine || *ret_done) {
		evfs_meta_lock(meta);
		rc = *ret_done ? repair_above(meta, &pass->wrong, err) :
				 repair_bucket(meta, pass->next, should,
					       &pass->wrong, err);
		evfs_meta_unlock(meta);
	}
	pass->next++;
	return rc;
}
