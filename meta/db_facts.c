/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Objects and their dotlog rows; counters and the root hash; savepoints.
 *
 * The dotlog has exactly one row for each (actor, object): the newest dot. A
 * row that moves up is one deletion and one insertion. A new file is changed by
 * half a dozen operations in a row, and counters, the root and the times of
 * directories by almost every one; so all of these live in memory and are
 * written once for each commit. */
#include "meta/facts.h"

#include <assert.h>
#include <string.h>

#include "base/mem.h"
#include "meta/db_schema.h"
#include "meta/facts_priv.h"
#include "meta/store.h"

int evfs_facts_new(struct evfs_meta *meta, struct evfs_err *err)
{
	meta->facts = evfs_calloc(1, sizeof(*meta->facts));
	if (meta->facts == NULL)
		return evfs_err_set(err, EVFS_ENOMEM, "facts: out of memory");
	meta->facts->meta = meta;
	return 0;
}

void evfs_facts_free(struct evfs_meta *meta)
{
	struct evfs_facts *facts = meta->facts;

	if (facts == NULL)
		return;
	evfs_cache_drop(facts);
	evfs_dirs_drop(facts);
	evfs_facts_trim(facts);
	evfs_idmap_fini(&facts->objects);
	evfs_idmap_fini(&facts->dirs);
	evfs_actors_fini(&facts->actors);
	evfs_merkle_fini(&facts->merkle);
	evfs_buf_fini(&facts->scratch);
	evfs_free(facts->undo);
	evfs_free(facts);
	meta->facts = NULL;
}

/* ---- keys ---- */

int evfs_facts_key(struct evfs_facts *facts, evfs_dot dot, bool create,
		   int64_t *ret, struct evfs_err *err)
{
	int64_t key = evfs_actors_key(&facts->actors, dot);
	int rc;

	if (key < 0 && dot.counter > EVFS_KEY_COUNTER_MAX)
		return evfs_err_set(err, EVFS_ELIMIT,
				    "change number %llu: beyond what a store "
				    "can hold",
				    (unsigned long long)dot.counter);
	if (key < 0 && !create)
		return 0;
	if (key < 0) {
		rc = evfs_facts_save_database(facts, err);
		if (rc == 0)
			rc = evfs_actors_add(&facts->actors, facts->meta->db,
					     dot.actor, err);
		if (rc != 0)
			return rc;
		key = evfs_actors_key(&facts->actors, dot);
	}
	assert(key >= 0);
	*ret = key;
	return 1;
}

int evfs_facts_dot(struct evfs_facts *facts, int64_t key, evfs_dot *ret,
		   struct evfs_err *err)
{
	if (evfs_actors_dot(&facts->actors, key, ret))
		return 0;
	return evfs_err_set(err, EVFS_ECORRUPT,
			    "database is damaged: row of an unknown actor");
}

int evfs_facts_list(struct evfs_facts *facts, sqlite3_stmt *stmt,
		    evfs_ino *ret, int64_t *ret_keys, size_t max,
		    size_t *ret_n, int64_t *ret_last, struct evfs_err *err)
{
	int last = sqlite3_column_count(stmt) - 1;
	size_t n = 0;
	int rc = 0;

	while (n < max && (rc = evfs_db_step(facts->meta->db, stmt, err)) > 0) {
		int64_t key = sqlite3_column_int64(stmt, 0);

		rc = evfs_facts_dot(facts, key, &ret[n], err);
		if (rc != 0)
			return rc;
		if (ret_keys != NULL)
			ret_keys[n] = key;
		*ret_last = sqlite3_column_int64(stmt, last);
		n++;
	}
	if (rc < 0)
		return rc;
	*ret_n = n;
	return 0;
}

/* ---- objects ---- */

/* 1: the object, decoded, of the caller; 0: there is none. */
static int facts_read(struct evfs_facts *facts, int64_t key, evfs_ino ino,
		      struct evfs_object **ret, size_t *ret_len,
		      struct evfs_err *err)
{
	evfs_cleanup_stmt sqlite3_stmt *stmt = NULL;
	int rc;

	rc = evfs_db_prepare(facts->meta->db,
			     "SELECT facts FROM object WHERE id = ?1", &stmt,
			     err);
	if (rc != 0)
		return rc;
	sqlite3_bind_int64(stmt, 1, key);
	rc = evfs_db_step(facts->meta->db, stmt, err);
	if (rc <= 0)
		return rc;
	*ret_len = (size_t)sqlite3_column_bytes(stmt, 0);
	rc = evfs_object_decode(sqlite3_column_blob(stmt, 0), *ret_len, ret,
				err);
	if (rc != 0)
		return evfs_err_wrap(err, rc, "object row");
	if (!evfs_dot_equal((*ret)->ino, ino)) {
		evfs_object_free(*ret);
		return evfs_err_set(err, EVFS_ECORRUPT,
				    "database is damaged: an object stands "
				    "under another's number");
	}
	return 1;
}

int evfs_facts_get(struct evfs_facts *facts, evfs_ino ino,
		   const struct evfs_object **ret, struct evfs_err *err)
{
	struct evfs_cached *cached;
	struct evfs_object *object;
	size_t len = 0;
	int64_t key;
	int rc;

	*ret = NULL;
	rc = evfs_facts_key(facts, ino, false, &key, err);
	if (rc <= 0)
		return rc == EVFS_ELIMIT ? 0 : rc;
	cached = evfs_cache_get(facts, (uint64_t)key);
	if (cached != NULL) {
		*ret = cached->object;
		return 0;
	}
	rc = facts_read(facts, key, ino, &object, &len, err);
	if (rc <= 0)
		return rc;
	if (evfs_cache_add(facts, (uint64_t)key, object, len) != 0)
		return evfs_err_set(err, EVFS_ENOMEM, "object: out of memory");
	*ret = object;
	return 0;
}

static int facts_log_write(struct evfs_facts *facts, bool add,
			   evfs_dot dot, int64_t object, struct evfs_err *err)
{
	evfs_cleanup_stmt sqlite3_stmt *stmt = NULL;
	int64_t key;
	int rc;

	rc = evfs_facts_key(facts, dot, true, &key, err);
	if (rc < 0)
		return rc;
	if (add)
		rc = evfs_db_prepare(facts->meta->db,
				     "INSERT OR IGNORE INTO "
				     "dotlog(dot, object) VALUES(?1, ?2)",
				     &stmt, err);
	else
		rc = evfs_db_prepare(facts->meta->db,
				     "DELETE FROM dotlog "
				     "WHERE dot = ?1 AND object = ?2",
				     &stmt, err);
	if (rc != 0)
		return rc;
	sqlite3_bind_int64(stmt, 1, key);
	sqlite3_bind_int64(stmt, 2, object);
	return evfs_db_run(facts->meta->db, stmt, err);
}

/* Brings the dotlog rows to what the object says; both are sorted by actor. */
static int facts_log_update(struct evfs_facts *facts,
			    const struct evfs_cached *cached,
			    struct evfs_err *err)
{
	const struct evfs_object *now = cached->object;
	int64_t key = (int64_t)cached->node.id;
	size_t i = 0;
	size_t j = 0;
	int rc = 0;

	while (rc == 0 && (i < cached->n_rows || j < now->n_log)) {
		const struct evfs_log_row *was =
			i < cached->n_rows ? &cached->rows[i] : NULL;
		const struct evfs_log_row *is = j < now->n_log ? &now->log[j] :
								 NULL;
		int order = was == NULL ? 1 :
			    is == NULL	? -1 :
					  evfs_actor_cmp(was->actor, is->actor);
		bool same = order == 0 && was->counter == is->counter;

		if (order <= 0) {
			if (!same)
				rc = facts_log_write(
					facts, false,
					(evfs_dot){ was->actor, was->counter },
					key, err);
			i++;
		}
		if (order >= 0) {
			if (!same && rc == 0)
				rc = facts_log_write(
					facts, true,
					(evfs_dot){ is->actor, is->counter },
					key, err);
			j++;
		}
	}
	return rc;
}

static int facts_encode(struct evfs_facts *facts,
			const struct evfs_object *object, struct evfs_err *err)
{
	int rc;

	evfs_buf_clear(&facts->scratch);
	rc = evfs_object_encode(object, &facts->scratch);
	if (rc != 0)
		return evfs_err_set(err, rc, "object: %s", evfs_err_text(rc));
	if (facts->scratch.len > EVFS_OBJECT_BYTES_MAX)
		return evfs_err_set(err, EVFS_ELIMIT,
				    "object of %zu bytes: more than %u",
				    facts->scratch.len, EVFS_OBJECT_BYTES_MAX);
	return 0;
}

static int facts_write(struct evfs_facts *facts,
		       const struct evfs_cached *cached, struct evfs_err *err)
{
	evfs_cleanup_stmt sqlite3_stmt *stmt = NULL;
	int rc = facts_log_update(facts, cached, err);

	if (rc == 0)
		rc = facts_encode(facts, cached->object, err);
	if (rc == 0)
		rc = evfs_db_prepare(facts->meta->db,
				     "INSERT OR REPLACE INTO object(id, facts) "
				     "VALUES(?1, ?2)",
				     &stmt, err);
	if (rc != 0)
		return rc;
	sqlite3_bind_int64(stmt, 1, (int64_t)cached->node.id);
	sqlite3_bind_blob(stmt, 2, facts->scratch.data,
			  (int)facts->scratch.len, SQLITE_STATIC);
	return evfs_db_run(facts->meta->db, stmt, err);
}

int evfs_facts_flush_objects(struct evfs_facts *facts, struct evfs_err *err)
{
	struct evfs_db *db = facts->meta->db;
	int rc;

	if (facts->dirty.n == 0)
		return 0;
	/* A rollback would take back rows that are believed written. */
	assert(!facts->save.open ||
	       (!facts->save.in_database && facts->n_undo == 0));
	rc = evfs_db_run_literal(db, "SAVEPOINT objects", err);
	if (rc != 0)
		return rc;
	for (const struct evfs_cached *at = facts->dirty.oldest;
	     at != NULL && rc == 0; at = at->newer)
		rc = facts_write(facts, at, err);
	if (rc == 0)
		rc = evfs_db_run_literal(db, "RELEASE objects", err);
	if (rc != 0) {
		if (sqlite3_get_autocommit(evfs_db_handle(db)) ||
		    evfs_db_run_literal(db, "ROLLBACK TO objects", NULL) ||
		    evfs_db_run_literal(db, "RELEASE objects", NULL))
			facts->meta->store->tx_lost = true;
		return rc;
	}
	while (facts->dirty.oldest != NULL)
		evfs_cache_clean(facts, facts->dirty.oldest);
	return 0;
}

/* What the object's rows will need is there, and it is not too long. */
static int facts_check(struct evfs_facts *facts,
		       const struct evfs_object *object, size_t bytes,
		       struct evfs_err *err)
{
	int64_t key;
	int rc = 0;

	for (size_t i = 0; i < object->n_log && rc >= 0; i++)
		rc = evfs_facts_key(facts,
				    (evfs_dot){ object->log[i].actor,
						object->log[i].counter },
				    true, &key, err);
	if (rc < 0)
		return rc;
	return bytes > EVFS_OBJECT_BYTES_MAX ?
		       facts_encode(facts, object, err) : 0;
}

int evfs_facts_put_object(struct evfs_facts *facts, struct evfs_object *object,
			  struct evfs_err *err)
{
	size_t bytes = evfs_object_size_bound(object);
	struct evfs_undo undo = { 0 };
	const struct evfs_object *old;
	int64_t key = -1;
	int rc;

	rc = evfs_meta_begin_change(facts->meta, err);
	if (rc == 0)
		rc = evfs_facts_key(facts, object->ino, true, &key, err);
	if (rc >= 0)
		rc = facts_check(facts, object, bytes, err);
	if (rc == 0) /* what is stored comes into the cache */
		rc = evfs_facts_get(facts, object->ino, &old, err);
	if (rc == 0)
		rc = evfs_facts_reserve_undo(facts, err);
	if (rc != 0) {
		evfs_object_free(object);
		return rc;
	}
	undo.id = (uint64_t)key;
	undo.was = evfs_cache_get(facts, undo.id);
	if (evfs_cache_replace(facts, undo.was, undo.id, object, bytes) != 0)
		return evfs_err_set(err, EVFS_ENOMEM, "object: out of memory");
	evfs_facts_note_undo(facts, &undo);
	return 0;
}

int evfs_facts_live_hash(struct evfs_facts *facts,
			 const struct evfs_object *object, evfs_hash *ret,
			 struct evfs_err *err)
{
	struct evfs_cached *cached = NULL;
	int64_t key;

	if (evfs_facts_key(facts, object->ino, false, &key, NULL) > 0)
		cached = evfs_cache_get(facts, (uint64_t)key);
	if (cached != NULL && cached->object != object)
		cached = NULL;
	if (cached != NULL && cached->hashed) {
		*ret = cached->live_hash;
		return 0;
	}
	if (evfs_object_live_hash(object, ret) != 0)
		return evfs_err_set(err, EVFS_ENOMEM, "object: out of memory");
	if (cached != NULL) {
		cached->live_hash = *ret;
		cached->hashed = true;
	}
	return 0;
}

/* The objects of one actor, in order of their counters. */
static int facts_each_of(struct evfs_facts *facts, uint64_t id,
			 int (*each)(void *arg,
				     const struct evfs_object *object),
			 void *arg, struct evfs_err *err)
{
	evfs_cleanup_stmt sqlite3_stmt *stmt = NULL;
	int rc;

	rc = evfs_db_prepare(facts->meta->db,
			     "SELECT facts FROM object "
			     "WHERE id >= ?1 AND id <= ?2 ORDER BY id",
			     &stmt, err);
	if (rc != 0)
		return rc;
	sqlite3_bind_int64(stmt, 1, evfs_key_make(id, 0));
	sqlite3_bind_int64(stmt, 2, evfs_key_make(id, EVFS_KEY_COUNTER_MAX));
	while ((rc = evfs_db_step(facts->meta->db, stmt, err)) > 0) {
		struct evfs_object *object;

		rc = evfs_object_decode(
			sqlite3_column_blob(stmt, 0),
			(size_t)sqlite3_column_bytes(stmt, 0), &object, err);
		if (rc != 0)
			return evfs_err_wrap(err, rc, "object row");
		rc = each(arg, object);
		evfs_object_free(object);
		if (rc != 0)
			return rc;
	}
	return rc;
}

int evfs_facts_each(struct evfs_facts *facts,
		    int (*each)(void *arg, const struct evfs_object *object),
		    void *arg, struct evfs_err *err)
{
	evfs_actor last = { 0, UINT32_MAX };
	size_t i = 0;
	int rc = evfs_facts_flush_objects(facts, err);

	if (rc == 0)
		rc = facts_each_of(facts, 0, each, arg, err);

	/* By actor and not by place: the callback may make new ones known. */
	while (rc == 0) {
		const struct evfs_actor_row *rows = facts->actors.sorted;

		while (i > 0 && evfs_actor_cmp(rows[i - 1].actor, last) > 0)
			i--;
		while (i < facts->actors.n &&
		       evfs_actor_cmp(rows[i].actor, last) <= 0)
			i++;
		if (i == facts->actors.n)
			break;
		last = rows[i].actor;
		rc = facts_each_of(facts, rows[i].id, each, arg, err);
	}
	return rc;
}

/* ---- counters and the root ---- */

int64_t evfs_facts_counter(struct evfs_facts *facts, enum evfs_counter which)
{
	assert((int)which < EVFS_COUNTER_ALL);
	return facts->counters[which];
}

void evfs_facts_counter_add(struct evfs_facts *facts, enum evfs_counter which,
			    int64_t delta)
{
	assert((int)which < EVFS_COUNTER_ALL);
	facts->counters[which] += delta;
	facts->derived_dirty = true;
}

const evfs_hash *evfs_facts_root(struct evfs_facts *facts)
{
	return &facts->root;
}

void evfs_facts_root_change(struct evfs_facts *facts, const evfs_hash *minus,
			    const evfs_hash *plus)
{
	if (minus != NULL)
		evfs_hash_sub(&facts->root, minus);
	if (plus != NULL)
		evfs_hash_add(&facts->root, plus);
	facts->derived_dirty = true;
}

/* One row: the counters as big-endian numbers, then the root. */
#define DERIVED_BYTES (EVFS_COUNTER_ALL * 8 + EVFS_HASH_SIZE)

int evfs_facts_flush(struct evfs_facts *facts, struct evfs_err *err)
{
	uint8_t bytes[DERIVED_BYTES];
	int rc = evfs_facts_flush_objects(facts, err);
	size_t i;

	if (rc == 0)
		rc = evfs_dirs_flush(facts, err);
	if (rc == 0)
		rc = evfs_merkle_flush(facts, err);
	if (rc != 0 || !facts->derived_dirty)
		return rc;
	for (i = 0; i < EVFS_COUNTER_ALL; i++)
		evfs_be64_write(bytes + 8 * i, (uint64_t)facts->counters[i]);
	memcpy(bytes + 8 * i, facts->root.b, EVFS_HASH_SIZE);
	rc = evfs_state_set_bytes(facts->meta->db, "derived", bytes,
				  sizeof(bytes), err);
	if (rc == 0)
		facts->derived_dirty = false;
	return rc;
}

static int facts_load_derived(struct evfs_facts *facts, struct evfs_err *err)
{
	struct evfs_buf buf = { 0 };
	bool found;
	size_t i;
	int rc;

	rc = evfs_state_get_bytes(facts->meta->db, "derived", &buf, &found,
				  err);
	if (rc == 0 && found && buf.len != DERIVED_BYTES)
		rc = evfs_err_set(err, EVFS_ECORRUPT,
				  "database is damaged: counters of %zu "
				  "bytes, not %d",
				  buf.len, DERIVED_BYTES);
	memset(facts->counters, 0, sizeof(facts->counters));
	facts->root = (evfs_hash){ { 0 } };
	for (i = 0; rc == 0 && found && i < EVFS_COUNTER_ALL; i++)
		facts->counters[i] = (int64_t)evfs_be64_read(buf.data + 8 * i);
	if (rc == 0 && found)
		memcpy(facts->root.b, buf.data + 8 * EVFS_COUNTER_ALL,
		       EVFS_HASH_SIZE);
	facts->derived_dirty = false;
	evfs_buf_fini(&buf);
	return rc;
}

int evfs_facts_load(struct evfs_facts *facts, struct evfs_err *err)
{
	int rc;

	while (facts->n_undo > 0)
		evfs_cache_bury(facts, facts->undo[--facts->n_undo].was);
	facts->save.open = false;
	evfs_cache_drop(facts);
	evfs_dirs_drop(facts);
	evfs_names_forget(facts);
	evfs_unsealed_forget(facts);
	evfs_merkle_drop(&facts->merkle);
	evfs_actors_truncate(&facts->actors, 0);
	rc = evfs_actors_load(&facts->actors, facts->meta->db, err);
	return rc != 0 ? rc : facts_load_derived(facts, err);
}
