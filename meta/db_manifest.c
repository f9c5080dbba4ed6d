/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Manifests in the table of contents, and what is kept of each beside it. */
#include "meta/content_priv.h"
#include "meta/db.h"

/* Stores that are older than this table get it when they are opened; a program
 * that does not know it leaves rows behind whose ids never come again. */
const char evfs_content_schema_later[] =
	"CREATE TABLE IF NOT EXISTS content_holes("
	" content INTEGER PRIMARY KEY, bytes INTEGER NOT NULL);";

int evfs_db_manifest_get(struct evfs_meta *meta, int64_t id,
			 struct evfs_buf *ret, struct evfs_err *err)
{
	evfs_cleanup_stmt sqlite3_stmt *stmt = NULL;
	size_t len;
	int r = evfs_db_prepare(meta->db,
				"SELECT manifest FROM content WHERE id = ?1",
				&stmt, err);

	if (r < 0)
		return r;
	sqlite3_bind_int64(stmt, 1, id);
	r = evfs_db_step(meta->db, stmt, err);
	if (r < 0)
		return r;
	len = r ? (size_t)sqlite3_column_bytes(stmt, 0) : 0;
	if (len == 0 || len % EVFS_MANIFEST_ENTRY_SIZE != 0)
		return evfs_err_set(err, EVFS_ECORRUPT,
				    "content: row %lld has no manifest",
				    (long long)id);
	if (evfs_buf_put(ret, sqlite3_column_blob(stmt, 0), len) < 0)
		return evfs_err_set(err, EVFS_ENOMEM, "content: no memory");
	return 0;
}

static int set_holes(struct evfs_meta *meta, int64_t id, uint64_t bytes,
		     struct evfs_err *err)
{
	evfs_cleanup_stmt sqlite3_stmt *stmt = NULL;
	int r = evfs_db_prepare(meta->db,
				"INSERT OR REPLACE INTO content_holes"
				" VALUES(?1, ?2)",
				&stmt, err);

	if (r < 0)
		return r;
	sqlite3_bind_int64(stmt, 1, id);
	sqlite3_bind_int64(stmt, 2, (sqlite3_int64)bytes);
	return evfs_db_step(meta->db, stmt, err);
}

int evfs_db_content_holes(struct evfs_meta *meta, const evfs_hash *name,
			  uint64_t *ret, struct evfs_err *err)
{
	evfs_cleanup_stmt sqlite3_stmt *stmt = NULL;
	int r = evfs_db_prepare(meta->db,
				"SELECT content_holes.bytes FROM content"
				" JOIN content_holes"
				" ON content_holes.content = content.id"
				" WHERE content.name = ?1",
				&stmt, err);

	if (r < 0)
		return r;
	sqlite3_bind_blob(stmt, 1, name->b, EVFS_HASH_SIZE, SQLITE_STATIC);
	r = evfs_db_step(meta->db, stmt, err);
	*ret = r > 0 ? (uint64_t)sqlite3_column_int64(stmt, 0) : 0;
	return r < 0 ? r : 0;
}

int evfs_db_manifest_set(struct evfs_meta *meta, int64_t id, const void *data,
			 size_t len, uint64_t holes, struct evfs_err *err)
{
	evfs_cleanup_stmt sqlite3_stmt *stmt = NULL;
	int r = evfs_db_prepare(meta->db,
				"UPDATE content SET manifest = ?2"
				" WHERE id = ?1",
				&stmt, err);

	if (r < 0)
		return r;
	sqlite3_bind_int64(stmt, 1, id);
	if (sqlite3_bind_blob64(stmt, 2, data, len, SQLITE_STATIC) !=
	    SQLITE_OK)
		return evfs_err_set(err, EVFS_EFBIG,
				    "content: manifest of %zu bytes", len);
	r = evfs_db_step(meta->db, stmt, err);
	return r < 0 || holes == 0 ? r : set_holes(meta, id, holes, err);
}
