/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Snapshots of durable facts (see meta/delta_priv.h), and counting what lies
 * beyond a context. */
#include <assert.h>

#include "base/mem.h"
#include "meta/delta.h"
#include "meta/delta_priv.h"
#include "meta/facts_priv.h"
#include "meta/store.h"

struct evfs_db_reader {
	struct evfs_meta *meta;     /* borrowed */
	struct evfs_db *db;         /* borrowed: whose connection */
	struct evfs_actors own;     /* as of the last snapshot; on disk only */
	const struct evfs_actors *actors; /* own, or those of the facts */
	sqlite3_stmt *scan;         /* running in this snapshot; NULL = none */
	bool begun;                 /* a snapshot is open */
};

int evfs_db_reader_new(struct evfs_meta *meta, struct evfs_db_reader **ret,
		       struct evfs_err *err)
{
	struct evfs_db_reader *reader = evfs_calloc(1, sizeof(*reader));

	if (reader == NULL)
		return evfs_err_set(err, EVFS_ENOMEM, "reader: out of memory");
	reader->meta = meta;
	if (meta->store->reader != NULL) {
		reader->db = meta->store->reader;
		reader->actors = &reader->own;
	} else {
		reader->db = meta->db;
		reader->actors = &meta->facts->actors;
	}
	*ret = reader;
	return 0;
}

void evfs_db_reader_free(struct evfs_db_reader *reader)
{
	if (reader == NULL)
		return;
	assert(!reader->begun);
	evfs_actors_fini(&reader->own);
	evfs_free(reader);
}

/* In memory: commits until it has the lock with nothing uncommitted. */
static int reader_begin_memory(struct evfs_db_reader *reader,
			       struct evfs_context *snap,
			       struct evfs_err *err)
{
	struct evfs_meta *meta = reader->meta;
	int rc;

	evfs_meta_lock(meta);
	while (meta->store->tx_open && !meta->store->read_only) {
		evfs_meta_unlock(meta);
		rc = evfs_store_commit(meta, err);
		if (rc != 0)
			return rc;
		evfs_meta_lock(meta);
	}
	if (snap != NULL &&
	    evfs_context_copy(snap, &meta->store->context) != 0) {
		evfs_meta_unlock(meta);
		return evfs_err_set(err, EVFS_ENOMEM, "context: out of memory");
	}
	reader->begun = true;
	return 0;
}

/* The first read is what takes the snapshot; until then BEGIN has done nothing.
 */
static int reader_begin_disk(struct evfs_db_reader *reader,
			     struct evfs_context *snap, struct evfs_err *err)
{
	struct evfs_store *store = reader->meta->store;
	int rc;

	pthread_mutex_lock(&store->reader_lock);
	pthread_mutex_lock(&store->gate);
	rc = evfs_db_run_literal(reader->db, "BEGIN", err);
	if (rc == 0)
		rc = evfs_actors_load(&reader->own, reader->db, err);
	if (rc == 0 && snap != NULL &&
	    evfs_meta_durable_context(reader->meta, snap) != 0)
		rc = evfs_err_set(err, EVFS_ENOMEM, "context: out of memory");
	pthread_mutex_unlock(&store->gate);
	if (rc == 0) {
		reader->begun = true;
		return 0;
	}
	(void)!evfs_db_run_literal(reader->db, "ROLLBACK", NULL);
	pthread_mutex_unlock(&store->reader_lock);
	return rc;
}

int evfs_db_reader_begin(struct evfs_db_reader *reader,
			 struct evfs_context *snap,
			 struct evfs_err *err)
{
	assert(!reader->begun);
	return reader->meta->store->reader == NULL ?
		       reader_begin_memory(reader, snap, err) :
		       reader_begin_disk(reader, snap, err);
}

void evfs_db_reader_end(struct evfs_db_reader *reader)
{
	assert(reader->begun);
	reader->begun = false;
	evfs_cleanup_stmt_fn(&reader->scan);
	reader->scan = NULL;
	if (reader->meta->store->reader == NULL) {
		evfs_meta_unlock(reader->meta);
		return;
	}
	/* Nothing was written: whatever it says, the snapshot is over. */
	(void)!evfs_db_run_literal(reader->db, "COMMIT", NULL);
	pthread_mutex_unlock(&reader->meta->store->reader_lock);
}

struct evfs_db *evfs_db_reader_db(const struct evfs_db_reader *reader)
{
	assert(reader->begun);
	return reader->db;
}

const struct evfs_actors *
evfs_db_reader_numbers(const struct evfs_db_reader *reader)
{
	assert(reader->begun);
	return reader->actors;
}

size_t evfs_db_reader_actors(const struct evfs_db_reader *reader)
{
	return reader->actors->n;
}

evfs_actor evfs_db_reader_actor(const struct evfs_db_reader *reader, size_t i,
				uint64_t *ret_id)
{
	*ret_id = reader->actors->sorted[i].id;
	return reader->actors->sorted[i].actor;
}

int64_t evfs_db_reader_key(const struct evfs_db_reader *reader, evfs_dot dot)
{
	return evfs_actors_key(reader->actors, dot);
}

int64_t evfs_db_reader_make_key(uint64_t actor_id, uint64_t counter)
{
	return evfs_key_make(actor_id, counter);
}

uint64_t evfs_db_reader_counter_max(void)
{
	return EVFS_KEY_COUNTER_MAX;
}

int evfs_db_reader_seek(struct evfs_db_reader *reader,
			struct evfs_db_reader_row after,
			int64_t last, struct evfs_err *err)
{
	int rc;

	assert(reader->begun);
	evfs_cleanup_stmt_fn(&reader->scan);
	reader->scan = NULL;
	rc = evfs_db_prepare(reader->db,
			     "SELECT dot, object FROM dotlog "
			     "WHERE (dot, object) > (?1, ?2) AND dot <= ?3 "
			     "ORDER BY dot, object",
			     &reader->scan, err);
	if (rc != 0)
		return rc;
	sqlite3_bind_int64(reader->scan, 1, after.dot);
	sqlite3_bind_int64(reader->scan, 2, after.object);
	sqlite3_bind_int64(reader->scan, 3, last);
	return 0;
}

int evfs_db_reader_next(struct evfs_db_reader *reader,
			struct evfs_db_reader_row *ret,
			struct evfs_err *err)
{
	int rc;

	assert(reader->scan != NULL);
	rc = evfs_db_step(reader->db, reader->scan, err);
	if (rc > 0) {
		ret->dot = sqlite3_column_int64(reader->scan, 0);
		ret->object = sqlite3_column_int64(reader->scan, 1);
	}
	return rc;
}

int evfs_db_reader_object(struct evfs_db_reader *reader, int64_t key,
			  struct evfs_object **ret, size_t *ret_len,
			  struct evfs_err *err)
{
	evfs_cleanup_stmt sqlite3_stmt *stmt = NULL;
	int rc;

	assert(reader->begun);
	*ret = NULL;
	rc = evfs_db_prepare(reader->db,
			     "SELECT facts FROM object WHERE id = ?1", &stmt,
			     err);
	if (rc != 0)
		return rc;
	sqlite3_bind_int64(stmt, 1, key);
	rc = evfs_db_step(reader->db, stmt, err);
	if (rc <= 0)
		return rc;
	*ret_len = (size_t)sqlite3_column_bytes(stmt, 0);
	rc = evfs_object_decode(sqlite3_column_blob(stmt, 0), *ret_len, ret,
				err);
	return rc == 0 ? 0 : evfs_err_wrap(err, rc, "object row");
}

/* ---- counting; on the writing connection ---- */

static int count_actor(struct evfs_meta *meta, uint64_t id, uint64_t above,
		       uint64_t max, uint64_t *count, struct evfs_err *err)
{
	evfs_cleanup_stmt sqlite3_stmt *stmt = NULL;
	int rc;

	if (above >= EVFS_KEY_COUNTER_MAX || max == 0)
		return 0;
	rc = evfs_db_prepare(meta->db,
			     "SELECT count(*) FROM (SELECT 1 FROM dotlog "
			     "WHERE dot > ?1 AND dot <= ?2 LIMIT ?3)",
			     &stmt, err);
	if (rc != 0)
		return rc;
	sqlite3_bind_int64(stmt, 1, evfs_key_make(id, above));
	sqlite3_bind_int64(stmt, 2, evfs_key_make(id, EVFS_KEY_COUNTER_MAX));
	sqlite3_bind_int64(stmt, 3, max > INT64_MAX ? INT64_MAX :
						      (sqlite3_int64)max);
	rc = evfs_db_step(meta->db, stmt, err);
	if (rc < 0)
		return rc;
	*count += (uint64_t)sqlite3_column_int64(stmt, 0);
	return 0;
}

int evfs_delta_count(struct evfs_meta *meta, const struct evfs_context *peer,
		     uint64_t max, uint64_t *ret, struct evfs_err *err)
{
	const struct evfs_actors *actors = &meta->facts->actors;
	uint64_t count = 0;
	int rc = evfs_facts_flush_objects(meta->facts, err);
	size_t i;

	for (i = 0; i < actors->n && count < max && rc == 0; i++)
		rc = count_actor(meta, actors->sorted[i].id,
				 evfs_context_get(peer,
						  actors->sorted[i].actor),
				 max - count, &count, err);
	if (rc == 0)
		*ret = count;
	return rc;
}
