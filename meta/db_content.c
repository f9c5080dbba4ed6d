/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The tables of the content store, row by row. What the columns mean stands in
 * meta/content_priv.h. */
#include <assert.h>
#include <string.h>

#include "meta/content_priv.h"
#include "meta/db.h"
#include "meta/facts.h"

/* The index of blobs is partial: chunks in segments, where small files are, do
 * not pay for it (a segment can be scanned instead). */
const char evfs_content_schema[] =
	"CREATE TABLE content_container(id INTEGER PRIMARY KEY,"
	" kind INTEGER NOT NULL, bytes INTEGER NOT NULL,"
	" live INTEGER NOT NULL);"
	"CREATE TABLE content_chunk(hash BLOB PRIMARY KEY,"
	" container INTEGER NOT NULL, offset INTEGER NOT NULL,"
	" len INTEGER NOT NULL, blob INTEGER NOT NULL,"
	" flags INTEGER NOT NULL, uses INTEGER NOT NULL,"
	" refs INTEGER NOT NULL, wants INTEGER NOT NULL) WITHOUT ROWID;"
	"CREATE INDEX content_chunk_blob ON content_chunk(container, offset)"
	" WHERE blob = 1;"
	"CREATE TABLE content(id INTEGER PRIMARY KEY AUTOINCREMENT,"
	" name BLOB NOT NULL UNIQUE, size INTEGER NOT NULL,"
	" refs INTEGER NOT NULL, wants INTEGER NOT NULL,"
	" shape INTEGER NOT NULL, lacking INTEGER NOT NULL,"
	" base INTEGER NOT NULL, children INTEGER NOT NULL,"
	" dropped INTEGER NOT NULL, queue INTEGER NOT NULL, manifest BLOB);"
	"CREATE INDEX content_queue ON content(queue) WHERE queue > 0;"
	"CREATE INDEX content_base ON content(base) WHERE base > 0;"
	"CREATE INDEX content_dying ON content(id) WHERE shape = 3;"
	"CREATE TABLE content_lack(chunk BLOB NOT NULL,"
	" content INTEGER NOT NULL, len INTEGER NOT NULL,"
	" PRIMARY KEY(chunk, content)) WITHOUT ROWID;"
	"CREATE TABLE content_count(id INTEGER PRIMARY KEY CHECK(id = 1),"
	" objects INTEGER NOT NULL, wanted INTEGER NOT NULL,"
	" wanted_bytes INTEGER NOT NULL, corrupt INTEGER NOT NULL);"
	"INSERT INTO content_count VALUES(1, 0, 0, 0, 0);";

#define CHUNK_COLUMNS \
	"hash, container, offset, len, blob, flags, uses, refs, wants"
#define CONTENT_COLUMNS \
	"id, name, size, refs, wants, shape, lacking, base, children," \
	" dropped, queue"

static void bind_hash(sqlite3_stmt *stmt, int at, const evfs_hash *hash)
{
	int rc = sqlite3_bind_blob(stmt, at, hash->b, EVFS_HASH_SIZE,
				   SQLITE_STATIC);

	assert(rc == SQLITE_OK);
}

static void bind_int(sqlite3_stmt *stmt, int at, int64_t value)
{
	int rc = sqlite3_bind_int64(stmt, at, value);

	assert(rc == SQLITE_OK);
}

static void bind_uint(sqlite3_stmt *stmt, int at, uint64_t value)
{
	assert(value <= INT64_MAX);
	bind_int(stmt, at, (int64_t)value);
}

static uint64_t column_uint(sqlite3_stmt *stmt, int at)
{
	return (uint64_t)sqlite3_column_int64(stmt, at);
}

/* A name that is no hash is that of a dying content: all zero then. */
static void column_hash(sqlite3_stmt *stmt, int at, evfs_hash *ret)
{
	*ret = (evfs_hash){ { 0 } };
	if (sqlite3_column_bytes(stmt, at) == EVFS_HASH_SIZE)
		memcpy(ret->b, sqlite3_column_blob(stmt, at), EVFS_HASH_SIZE);
}

/* One INTEGER parameter, no result. */
static int run_id(struct evfs_meta *meta, const char *sql, uint64_t id,
		  struct evfs_err *err)
{
	evfs_cleanup_stmt sqlite3_stmt *stmt = NULL;
	int r = evfs_db_prepare(meta->db, sql, &stmt, err);

	if (r < 0)
		return r;
	bind_uint(stmt, 1, id);
	return evfs_db_step(meta->db, stmt, err);
}

/* ---- chunks ---- */

static void read_chunk(sqlite3_stmt *stmt, struct evfs_chunk_row *ret)
{
	column_hash(stmt, 0, &ret->hash);
	ret->container = column_uint(stmt, 1);
	ret->offset = column_uint(stmt, 2);
	ret->len = (uint32_t)column_uint(stmt, 3);
	ret->blob = column_uint(stmt, 4) != 0;
	ret->flags = (unsigned)column_uint(stmt, 5);
	ret->uses = sqlite3_column_int64(stmt, 6);
	ret->refs = sqlite3_column_int64(stmt, 7);
	ret->wants = sqlite3_column_int64(stmt, 8);
}

static void bind_chunk(sqlite3_stmt *stmt, const struct evfs_chunk_row *row)
{
	bind_hash(stmt, 1, &row->hash);
	bind_uint(stmt, 2, row->container);
	bind_uint(stmt, 3, row->offset);
	bind_uint(stmt, 4, row->len);
	bind_int(stmt, 5, row->blob);
	bind_uint(stmt, 6, row->flags);
	bind_int(stmt, 7, row->uses);
	bind_int(stmt, 8, row->refs);
	bind_int(stmt, 9, row->wants);
}

int evfs_db_chunk_get(struct evfs_meta *meta, const evfs_hash *hash,
		      struct evfs_chunk_row *ret, struct evfs_err *err)
{
	evfs_cleanup_stmt sqlite3_stmt *stmt = NULL;
	int r = evfs_db_prepare(meta->db,
				"SELECT " CHUNK_COLUMNS
				" FROM content_chunk WHERE hash = ?1",
				&stmt, err);

	if (r < 0)
		return r;
	bind_hash(stmt, 1, hash);
	r = evfs_db_step(meta->db, stmt, err);
	if (r > 0)
		read_chunk(stmt, ret);
	return r;
}

int evfs_db_chunk_add(struct evfs_meta *meta,
		      const struct evfs_chunk_row *row, struct evfs_err *err)
{
	evfs_cleanup_stmt sqlite3_stmt *stmt = NULL;
	int r = evfs_db_prepare(meta->db,
				"INSERT INTO content_chunk(" CHUNK_COLUMNS
				") VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9)",
				&stmt, err);

	if (r < 0)
		return r;
	bind_chunk(stmt, row);
	return evfs_db_step(meta->db, stmt, err);
}

int evfs_db_chunk_set(struct evfs_meta *meta,
		      const struct evfs_chunk_row *row, struct evfs_err *err)
{
	evfs_cleanup_stmt sqlite3_stmt *stmt = NULL;
	int r = evfs_db_prepare(meta->db,
				"UPDATE content_chunk SET container = ?2,"
				" offset = ?3, len = ?4, blob = ?5,"
				" flags = ?6, uses = ?7, refs = ?8,"
				" wants = ?9 WHERE hash = ?1",
				&stmt, err);

	if (r < 0)
		return r;
	bind_chunk(stmt, row);
	return evfs_db_step(meta->db, stmt, err);
}

int evfs_db_chunk_drop(struct evfs_meta *meta, const evfs_hash *hash,
		       struct evfs_err *err)
{
	evfs_cleanup_stmt sqlite3_stmt *stmt = NULL;
	int r = evfs_db_prepare(meta->db,
				"DELETE FROM content_chunk WHERE hash = ?1",
				&stmt, err);

	if (r < 0)
		return r;
	bind_hash(stmt, 1, hash);
	return evfs_db_step(meta->db, stmt, err);
}

static int list_chunks(struct evfs_meta *meta, sqlite3_stmt *stmt,
		       struct evfs_chunk_row *ret, size_t max, size_t *ret_n,
		       struct evfs_err *err)
{
	size_t n = 0;
	int r = 0;

	while (n < max) {
		r = evfs_db_step(meta->db, stmt, err);
		if (r <= 0)
			break;
		read_chunk(stmt, &ret[n++]);
	}
	if (r < 0)
		return r;
	*ret_n = n;
	return 0;
}

int evfs_db_chunk_list(struct evfs_meta *meta, const evfs_hash *after,
		       struct evfs_chunk_row *ret, size_t max, size_t *ret_n,
		       struct evfs_err *err)
{
	evfs_cleanup_stmt sqlite3_stmt *stmt = NULL;
	int r = evfs_db_prepare(meta->db,
				"SELECT " CHUNK_COLUMNS
				" FROM content_chunk WHERE hash > ?1"
				" ORDER BY hash",
				&stmt, err);

	if (r < 0)
		return r;
	if (after)
		bind_hash(stmt, 1, after);
	else
		sqlite3_bind_zeroblob(stmt, 1, 0);
	return list_chunks(meta, stmt, ret, max, ret_n, err);
}

int evfs_db_chunk_list_blob(struct evfs_meta *meta, uint64_t container,
			    uint64_t offset, struct evfs_chunk_row *ret,
			    size_t max, size_t *ret_n, struct evfs_err *err)
{
	evfs_cleanup_stmt sqlite3_stmt *stmt = NULL;
	int r = evfs_db_prepare(meta->db,
				"SELECT " CHUNK_COLUMNS
				" FROM content_chunk WHERE blob = 1 AND"
				" container = ?1 AND offset >= ?2"
				" ORDER BY offset",
				&stmt, err);

	if (r < 0)
		return r;
	bind_uint(stmt, 1, container);
	bind_uint(stmt, 2, offset);
	return list_chunks(meta, stmt, ret, max, ret_n, err);
}

/* ---- contents ---- */

static void read_content(sqlite3_stmt *stmt, struct evfs_content_row *ret)
{
	ret->id = sqlite3_column_int64(stmt, 0);
	column_hash(stmt, 1, &ret->name);
	ret->size = column_uint(stmt, 2);
	ret->refs = sqlite3_column_int64(stmt, 3);
	ret->wants = sqlite3_column_int64(stmt, 4);
	ret->shape = (enum evfs_content_shape)sqlite3_column_int(stmt, 5);
	ret->lacking = sqlite3_column_int64(stmt, 6);
	ret->base = sqlite3_column_int64(stmt, 7);
	ret->children = sqlite3_column_int64(stmt, 8);
	ret->dropped = sqlite3_column_int64(stmt, 9);
	ret->queue = column_uint(stmt, 10);
}

/* dead_name: storage for the name of a dying row, as long as it is bound. */
static void bind_content(sqlite3_stmt *stmt,
			 const struct evfs_content_row *row,
			 uint8_t dead_name[8])
{
	if (row->shape == EVFS_SHAPE_DYING) {
		int rc;

		evfs_be64_write(dead_name, (uint64_t)row->id);
		rc = sqlite3_bind_blob(stmt, 2, dead_name, 8, SQLITE_STATIC);
		assert(rc == SQLITE_OK);
	} else {
		bind_hash(stmt, 2, &row->name);
	}
	bind_uint(stmt, 3, row->size);
	bind_int(stmt, 4, row->refs);
	bind_int(stmt, 5, row->wants);
	bind_int(stmt, 6, row->shape);
	bind_int(stmt, 7, row->lacking);
	bind_int(stmt, 8, row->base);
	bind_int(stmt, 9, row->children);
	bind_int(stmt, 10, row->dropped);
	bind_uint(stmt, 11, row->queue);
}

int evfs_db_content_get(struct evfs_meta *meta, const evfs_hash *name,
			struct evfs_content_row *ret, struct evfs_err *err)
{
	evfs_cleanup_stmt sqlite3_stmt *stmt = NULL;
	int r = evfs_db_prepare(meta->db,
				"SELECT " CONTENT_COLUMNS
				" FROM content WHERE name = ?1",
				&stmt, err);

	if (r < 0)
		return r;
	bind_hash(stmt, 1, name);
	r = evfs_db_step(meta->db, stmt, err);
	if (r > 0)
		read_content(stmt, ret);
	return r;
}

/* The first row of a query with one INTEGER parameter. */
static int first_content(struct evfs_meta *meta, const char *sql, int64_t id,
			 struct evfs_content_row *ret, struct evfs_err *err)
{
	evfs_cleanup_stmt sqlite3_stmt *stmt = NULL;
	int r = evfs_db_prepare(meta->db, sql, &stmt, err);

	if (r < 0)
		return r;
	bind_int(stmt, 1, id);
	r = evfs_db_step(meta->db, stmt, err);
	if (r > 0)
		read_content(stmt, ret);
	return r;
}

int evfs_db_content_get_id(struct evfs_meta *meta, int64_t id,
			   struct evfs_content_row *ret, struct evfs_err *err)
{
	return first_content(meta,
			     "SELECT " CONTENT_COLUMNS
			     " FROM content WHERE id = ?1",
			     id, ret, err);
}

int evfs_db_content_child(struct evfs_meta *meta, int64_t base,
			  struct evfs_content_row *ret, struct evfs_err *err)
{
	return first_content(meta,
			     "SELECT " CONTENT_COLUMNS
			     " FROM content WHERE base = ?1 AND base > 0",
			     base, ret, err);
}

int evfs_db_content_dying(struct evfs_meta *meta,
			  struct evfs_content_row *ret, struct evfs_err *err)
{
	return first_content(meta,
			     "SELECT " CONTENT_COLUMNS
			     " FROM content WHERE shape = 3 AND id > ?1"
			     " ORDER BY id LIMIT 1",
			     0, ret, err);
}

int evfs_db_content_wanted(struct evfs_meta *meta, uint64_t after,
			   struct evfs_content_row *ret, struct evfs_err *err)
{
	return first_content(meta,
			     "SELECT " CONTENT_COLUMNS
			     " FROM content WHERE queue > ?1 AND queue > 0"
			     " ORDER BY queue LIMIT 1",
			     (int64_t)after, ret, err);
}

int evfs_db_content_add(struct evfs_meta *meta, struct evfs_content_row *row,
			struct evfs_err *err)
{
	evfs_cleanup_stmt sqlite3_stmt *stmt = NULL;
	uint8_t dead_name[8];
	int r = evfs_db_prepare(meta->db,
				"INSERT INTO content(" CONTENT_COLUMNS
				") VALUES(NULL,?2,?3,?4,?5,?6,?7,?8,?9,"
				"?10,?11)",
				&stmt, err);

	if (r < 0)
		return r;
	assert(row->shape != EVFS_SHAPE_DYING);
	bind_content(stmt, row, dead_name);
	r = evfs_db_step(meta->db, stmt, err);
	if (r == 0)
		row->id = sqlite3_last_insert_rowid(evfs_db_handle(meta->db));
	return r;
}

int evfs_db_content_set(struct evfs_meta *meta,
			const struct evfs_content_row *row,
			struct evfs_err *err)
{
	evfs_cleanup_stmt sqlite3_stmt *stmt = NULL;
	uint8_t dead_name[8];
	int r = evfs_db_prepare(meta->db,
				"UPDATE content SET name = ?2, size = ?3,"
				" refs = ?4, wants = ?5, shape = ?6,"
				" lacking = ?7, base = ?8, children = ?9,"
				" dropped = ?10, queue = ?11 WHERE id = ?1",
				&stmt, err);

	if (r < 0)
		return r;
	bind_int(stmt, 1, row->id);
	bind_content(stmt, row, dead_name);
	return evfs_db_step(meta->db, stmt, err);
}

int evfs_db_content_drop(struct evfs_meta *meta, int64_t id,
			 struct evfs_err *err)
{
	int r = run_id(meta, "DELETE FROM content WHERE id = ?1", (uint64_t)id,
		       err);

	return r < 0 ? r :
		       run_id(meta,
			      "DELETE FROM content_holes WHERE content = ?1",
			      (uint64_t)id, err);
}

int evfs_db_content_list(struct evfs_meta *meta, int64_t after,
			 struct evfs_content_row *ret, size_t max,
			 size_t *ret_n, struct evfs_err *err)
{
	evfs_cleanup_stmt sqlite3_stmt *stmt = NULL;
	size_t n = 0;
	int r = evfs_db_prepare(meta->db,
				"SELECT " CONTENT_COLUMNS
				" FROM content WHERE id > ?1 ORDER BY id",
				&stmt, err);

	if (r < 0)
		return r;
	bind_int(stmt, 1, after);
	while (n < max) {
		r = evfs_db_step(meta->db, stmt, err);
		if (r <= 0)
			break;
		read_content(stmt, &ret[n++]);
	}
	if (r < 0)
		return r;
	*ret_n = n;
	return 0;
}

int evfs_db_content_with_chunk(struct evfs_meta *meta, const evfs_hash *chunk,
			       int64_t after, struct evfs_content_row *ret,
			       struct evfs_err *err)
{
	evfs_cleanup_stmt sqlite3_stmt *stmt = NULL;
	int r = evfs_db_prepare(meta->db,
				"SELECT " CONTENT_COLUMNS
				" FROM content WHERE id > ?2 AND shape = 2"
				" AND instr(manifest, ?1) > 0"
				" ORDER BY id LIMIT 1",
				&stmt, err);

	if (r < 0)
		return r;
	bind_hash(stmt, 1, chunk);
	bind_int(stmt, 2, after);
	r = evfs_db_step(meta->db, stmt, err);
	if (r > 0)
		read_content(stmt, ret);
	return r;
}

int evfs_db_content_queue_max(struct evfs_meta *meta, uint64_t *ret,
			      struct evfs_err *err)
{
	evfs_cleanup_stmt sqlite3_stmt *stmt = NULL;
	int r = evfs_db_prepare(meta->db,
				"SELECT max(queue) FROM content"
				" WHERE queue > 0",
				&stmt, err);

	if (r < 0)
		return r;
	r = evfs_db_step(meta->db, stmt, err);
	if (r < 0)
		return r;
	*ret = column_uint(stmt, 0);
	return 0;
}

/* ---- what contents lack ---- */

int evfs_db_lack_add(struct evfs_meta *meta, const evfs_hash *chunk,
		     int64_t content, uint32_t len, struct evfs_err *err)
{
	evfs_cleanup_stmt sqlite3_stmt *stmt = NULL;
	int r = evfs_db_prepare(meta->db,
				"INSERT INTO content_lack(chunk, content, len)"
				" VALUES(?1, ?2, ?3)",
				&stmt, err);

	if (r < 0)
		return r;
	bind_hash(stmt, 1, chunk);
	bind_int(stmt, 2, content);
	bind_uint(stmt, 3, len);
	return evfs_db_step(meta->db, stmt, err);
}

int evfs_db_lack_drop(struct evfs_meta *meta, const evfs_hash *chunk,
		      int64_t content, struct evfs_err *err)
{
	evfs_cleanup_stmt sqlite3_stmt *stmt = NULL;
	int r = evfs_db_prepare(meta->db,
				"DELETE FROM content_lack"
				" WHERE chunk = ?1 AND content = ?2",
				&stmt, err);

	if (r < 0)
		return r;
	bind_hash(stmt, 1, chunk);
	bind_int(stmt, 2, content);
	r = evfs_db_step(meta->db, stmt, err);
	if (r < 0)
		return r;
	return sqlite3_changes(evfs_db_handle(meta->db)) > 0;
}

int evfs_db_lack_next(struct evfs_meta *meta, const evfs_hash *chunk,
		      uint32_t len, int64_t after, int64_t *ret,
		      struct evfs_err *err)
{
	evfs_cleanup_stmt sqlite3_stmt *stmt = NULL;
	int r = evfs_db_prepare(meta->db,
				"SELECT content FROM content_lack"
				" WHERE chunk = ?1 AND content > ?2"
				" AND len = ?3 ORDER BY content LIMIT 1",
				&stmt, err);

	if (r < 0)
		return r;
	bind_hash(stmt, 1, chunk);
	bind_int(stmt, 2, after);
	bind_uint(stmt, 3, len);
	r = evfs_db_step(meta->db, stmt, err);
	if (r > 0)
		*ret = sqlite3_column_int64(stmt, 0);
	return r;
}

/* ---- containers ---- */

int evfs_db_container_add(struct evfs_meta *meta, uint64_t id,
			  enum evfs_container_kind kind, uint64_t bytes,
			  int64_t live, struct evfs_err *err)
{
	evfs_cleanup_stmt sqlite3_stmt *stmt = NULL;
	int r = evfs_db_prepare(meta->db,
				"INSERT INTO content_container VALUES"
				"(?1, ?2, ?3, ?4) ON CONFLICT(id) DO UPDATE"
				" SET bytes = max(bytes, ?3),"
				" live = live + ?4",
				&stmt, err);

	if (r < 0)
		return r;
	bind_uint(stmt, 1, id);
	bind_int(stmt, 2, kind);
	bind_uint(stmt, 3, bytes);
	bind_int(stmt, 4, live);
	return evfs_db_step(meta->db, stmt, err);
}

static void read_container(sqlite3_stmt *stmt, struct evfs_container_row *ret)
{
	ret->id = column_uint(stmt, 0);
	ret->kind = (enum evfs_container_kind)sqlite3_column_int(stmt, 1);
	ret->bytes = column_uint(stmt, 2);
	ret->live = column_uint(stmt, 3);
}

static int first_container(struct evfs_meta *meta, const char *sql,
			   uint64_t id, struct evfs_container_row *ret,
			   struct evfs_err *err)
{
	evfs_cleanup_stmt sqlite3_stmt *stmt = NULL;
	int r = evfs_db_prepare(meta->db, sql, &stmt, err);

	if (r < 0)
		return r;
	bind_uint(stmt, 1, id);
	r = evfs_db_step(meta->db, stmt, err);
	if (r > 0)
		read_container(stmt, ret);
	return r;
}

int evfs_db_container_get(struct evfs_meta *meta, uint64_t id,
			  struct evfs_container_row *ret, struct evfs_err *err)
{
	return first_container(meta,
			       "SELECT id, kind, bytes, live"
			       " FROM content_container WHERE id = ?1",
			       id, ret, err);
}

int evfs_db_container_next(struct evfs_meta *meta, uint64_t after,
			   struct evfs_container_row *ret,
			   struct evfs_err *err)
{
	return first_container(meta,
			       "SELECT id, kind, bytes, live"
			       " FROM content_container WHERE id > ?1"
			       " ORDER BY id LIMIT 1",
			       after, ret, err);
}

int evfs_db_container_set_bytes(struct evfs_meta *meta, uint64_t id,
				uint64_t bytes, struct evfs_err *err)
{
	evfs_cleanup_stmt sqlite3_stmt *stmt = NULL;
	int r = evfs_db_prepare(meta->db,
				"UPDATE content_container SET bytes = ?2"
				" WHERE id = ?1",
				&stmt, err);

	if (r < 0)
		return r;
	bind_uint(stmt, 1, id);
	bind_uint(stmt, 2, bytes);
	return evfs_db_step(meta->db, stmt, err);
}

int evfs_db_container_drop(struct evfs_meta *meta, uint64_t id,
			   struct evfs_err *err)
{
	return run_id(meta, "DELETE FROM content_container WHERE id = ?1", id,
		      err);
}

/* ---- counts, savepoints ---- */

int evfs_db_content_count(struct evfs_meta *meta,
			  const struct evfs_content_delta *delta,
			  struct evfs_err *err)
{
	evfs_cleanup_stmt sqlite3_stmt *stmt = NULL;
	int r;

	if (!delta->objects && !delta->wanted && !delta->wanted_bytes &&
	    !delta->corrupt)
		return 0;
	r = evfs_db_prepare(meta->db,
			    "UPDATE content_count SET objects = objects + ?1,"
			    " wanted = wanted + ?2,"
			    " wanted_bytes = wanted_bytes + ?3,"
			    " corrupt = corrupt + ?4",
			    &stmt, err);
	if (r < 0)
		return r;
	bind_int(stmt, 1, delta->objects);
	bind_int(stmt, 2, delta->wanted);
	bind_int(stmt, 3, delta->wanted_bytes);
	bind_int(stmt, 4, delta->corrupt);
	return evfs_db_step(meta->db, stmt, err);
}

int evfs_db_content_counts(struct evfs_meta *meta,
			   struct evfs_content_stats *ret,
			   struct evfs_err *err)
{
	evfs_cleanup_stmt sqlite3_stmt *stmt = NULL;
	int r = evfs_db_prepare(meta->db,
				"SELECT objects, wanted, wanted_bytes,"
				" corrupt,"
				" (SELECT coalesce(sum(live), 0)"
				"  FROM content_container),"
				" (SELECT coalesce(sum(bytes - live"
				"  - iif(kind = 1, 16, 0)), 0)"
				"  FROM content_container)"
				" FROM content_count",
				&stmt, err);

	if (r < 0)
		return r;
	r = evfs_db_step(meta->db, stmt, err);
	if (r < 0)
		return r;
	ret->objects = column_uint(stmt, 0);
	ret->wanted = column_uint(stmt, 1);
	ret->wanted_bytes = column_uint(stmt, 2);
	ret->corrupt = column_uint(stmt, 3);
	ret->bytes = column_uint(stmt, 4);
	ret->garbage_bytes = column_uint(stmt, 5);
	return 0;
}

static int run_plain(struct evfs_meta *meta, const char *sql,
		     struct evfs_err *err)
{
	evfs_cleanup_stmt sqlite3_stmt *stmt = NULL;
	int r = evfs_db_prepare(meta->db, sql, &stmt, err);

	return r < 0 ? r : evfs_db_step(meta->db, stmt, err);
}

int evfs_db_content_begin(struct evfs_meta *meta, struct evfs_err *err)
{
	int r = evfs_meta_begin_write(meta, err);

	if (r < 0 || evfs_facts_saved(meta->facts))
		return r;
	return run_plain(meta, "SAVEPOINT evfs_content", err);
}

int evfs_db_content_end(struct evfs_meta *meta, int r, struct evfs_err *err)
{
	int undone;

	if (evfs_facts_saved(meta->facts))
		return r; /* who saved rolls back */
	if (r >= 0) {
		undone = run_plain(meta, "RELEASE evfs_content", err);
		return undone < 0 ? undone : r;
	}
	/* A full disk may have ended the whole transaction, and the savepoint
	 * with it: what was to be taken back is gone then too. */
	undone = run_plain(meta, "ROLLBACK TO evfs_content", NULL);
	if (undone == 0)
		undone = run_plain(meta, "RELEASE evfs_content", NULL);
	(void)undone;
	return r;
}
