/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The tables of a store (docs/STORE.md describes each).
 *
 * A dot is one integer everywhere (meta/db_actors.h), and an object is named by
 * the dot of its creation; so the object table is keyed by rowid, and new
 * objects of one actor lie side by side. Names, the dotlog and the sets are
 * WITHOUT ROWID: the key is the row. */
#include "meta/db_schema.h"

#include <string.h>

#include "meta/db.h"
#include "meta/meta_priv.h"

static const char schema_tables[] =
	"CREATE TABLE state(key TEXT PRIMARY KEY, value) WITHOUT ROWID;"
	"CREATE TABLE actor(id INTEGER PRIMARY KEY, node INTEGER NOT NULL,"
	"  epoch INTEGER NOT NULL, UNIQUE(node, epoch));"
	"CREATE TABLE context(actor INTEGER PRIMARY KEY,"
	"  counter INTEGER NOT NULL);"
	"CREATE TABLE object(id INTEGER PRIMARY KEY, facts BLOB NOT NULL);"
	"CREATE TABLE name(parent INTEGER NOT NULL, name BLOB NOT NULL,"
	"  object INTEGER NOT NULL, link INTEGER NOT NULL,"
	"  time INTEGER NOT NULL, flags INTEGER NOT NULL,"
	"  PRIMARY KEY(parent, name, object, link, time)) WITHOUT ROWID;"
	"CREATE INDEX name_dir ON name(parent, name) WHERE flags = 2;"
	"CREATE TABLE dotlog(dot INTEGER NOT NULL, object INTEGER NOT NULL,"
	"  PRIMARY KEY(dot, object)) WITHOUT ROWID;"
	"CREATE TABLE dir(id INTEGER PRIMARY KEY, needed INTEGER NOT NULL,"
	"  changed INTEGER NOT NULL);"
	"CREATE TABLE cycle(dir INTEGER PRIMARY KEY,"
	"  shown_in INTEGER NOT NULL);"
	"CREATE TABLE clash(parent INTEGER NOT NULL, name BLOB NOT NULL,"
	"  PRIMARY KEY(parent, name)) WITHOUT ROWID;"
	"CREATE TABLE unsealed(object INTEGER PRIMARY KEY);"
	"CREATE TABLE merkle(path INTEGER PRIMARY KEY,"
	"  count INTEGER NOT NULL, split INTEGER NOT NULL,"
	"  sum BLOB NOT NULL);"
	"CREATE TABLE merkle_home(bucket INTEGER NOT NULL,"
	"  dir INTEGER NOT NULL, PRIMARY KEY(bucket, dir)) WITHOUT ROWID;"
	"CREATE TABLE grave(object INTEGER NOT NULL, parent INTEGER NOT NULL,"
	"  PRIMARY KEY(object, parent)) WITHOUT ROWID;"
	"CREATE INDEX grave_parent ON grave(parent);"
	"CREATE TABLE audit(node INTEGER PRIMARY KEY);"
	"CREATE TABLE member(node INTEGER PRIMARY KEY, name TEXT NOT NULL,"
	"  key TEXT NOT NULL, address TEXT NOT NULL, stamp INTEGER NOT NULL,"
	"  removed INTEGER NOT NULL, paused INTEGER NOT NULL);"
	"CREATE TABLE report(node INTEGER PRIMARY KEY, context BLOB NOT NULL,"
	"  instance INTEGER NOT NULL DEFAULT 0,"
	"  epoch INTEGER NOT NULL DEFAULT 0,"
	"  counter INTEGER NOT NULL DEFAULT 0);"
	"CREATE TABLE divergence(id INTEGER PRIMARY KEY,"
	"  node INTEGER NOT NULL, found INTEGER NOT NULL,"
	"  report TEXT NOT NULL);"
	"CREATE TABLE invite(secret BLOB PRIMARY KEY,"
	"  expires INTEGER NOT NULL, used INTEGER NOT NULL) WITHOUT ROWID;"
	"CREATE TABLE config(key TEXT PRIMARY KEY, value TEXT NOT NULL)"
	"  WITHOUT ROWID;"
	"CREATE TABLE history(id INTEGER PRIMARY KEY, object INTEGER NOT NULL,"
	"  dot INTEGER NOT NULL, content BLOB NOT NULL, size INTEGER NOT NULL,"
	"  mtime_s INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,"
	"  written INTEGER NOT NULL, ended INTEGER NOT NULL,"
	"  deleted INTEGER NOT NULL, path BLOB);"
	"CREATE INDEX history_path ON history(path, ended);"
	"CREATE INDEX history_ended ON history(ended);";

int evfs_schema_connect(const char *path, bool read_only, unsigned cache_kib,
			struct evfs_db **ret, struct evfs_err *err)
{
	char pragmas[160];
	struct evfs_db *db;
	int rc = evfs_db_open(path == NULL ? ":memory:" : path, read_only, &db,
			      err);

	if (rc != 0)
		return rc;
	/* Checkpoints are the committer's; no statement may make one. */
	sqlite3_snprintf(sizeof(pragmas), pragmas,
			 "PRAGMA cache_size = -%u;"
			 "PRAGMA temp_store = MEMORY;"
			 "PRAGMA synchronous = NORMAL;"
			 "PRAGMA wal_autocheckpoint = 0;",
			 cache_kib);
	rc = evfs_db_exec(db, pragmas, err);
	if (rc != 0) {
		evfs_db_close(db);
		return rc;
	}
	*ret = db;
	return 0;
}

static int schema_identity(struct evfs_db *db,
			   const struct evfs_meta_new *what, uint64_t wall_ns,
			   struct evfs_err *err)
{
	evfs_cleanup_stmt sqlite3_stmt *stmt = NULL;
	int rc;

	rc = evfs_state_set(db, "node", what->node, err);
	if (rc == 0)
		rc = evfs_state_set(db, "epoch", 0, err);
	if (rc == 0)
		rc = evfs_state_set_bytes(db, "volume", what->volume.b,
					  EVFS_HASH_SIZE, err);
	if (rc == 0)
		rc = evfs_state_set_bytes(db, "name", what->node_name,
					  strlen(what->node_name), err);
	if (rc == 0 && what->listen != NULL)
		rc = evfs_state_set_bytes(db, "listen", what->listen,
					  strlen(what->listen), err);
	if (rc == 0)
		rc = evfs_db_prepare(db,
				     "INSERT INTO member VALUES(?1, ?2, ?3, "
				     "'', ?4, 0, 0)",
				     &stmt, err);
	if (rc != 0)
		return rc;
	sqlite3_bind_int64(stmt, 1, (sqlite3_int64)what->node);
	sqlite3_bind_text(stmt, 2, what->node_name, -1, SQLITE_STATIC);
	sqlite3_bind_text(stmt, 3, what->public_key, -1, SQLITE_STATIC);
	sqlite3_bind_int64(stmt, 4, (sqlite3_int64)wall_ns);
	return evfs_db_run(db, stmt, err);
}

int evfs_schema_complete(struct evfs_db *db, struct evfs_err *err)
{
	int rc = evfs_db_exec(db, evfs_content_schema_later, err);

	return rc == 0 ? evfs_db_exec(db, evfs_works_schema, err) : rc;
}

int evfs_schema_create(struct evfs_db *db, const struct evfs_meta_new *what,
		       uint64_t wall_ns, struct evfs_err *err)
{
	char pragmas[128];
	int rc;

	sqlite3_snprintf(sizeof(pragmas), pragmas,
			 "PRAGMA application_id = %d;"
			 "PRAGMA user_version = %d;",
			 EVFS_APPLICATION_ID, EVFS_SCHEMA_VERSION);
	rc = evfs_db_exec(db, "BEGIN IMMEDIATE", err);
	if (rc == 0)
		rc = evfs_db_exec(db, pragmas, err);
	if (rc == 0)
		rc = evfs_db_exec(db, schema_tables, err);
	if (rc == 0)
		rc = evfs_db_exec(db, evfs_content_schema, err);
	if (rc == 0)
		rc = evfs_schema_complete(db, err);
	if (rc == 0)
		rc = schema_identity(db, what, wall_ns, err);
	if (rc == 0)
		rc = evfs_db_exec(db, "COMMIT", err);
	return rc;
}

/* The one value of a query without parameters. */
static int schema_int(struct evfs_db *db, const char *sql, int64_t *ret,
		      struct evfs_err *err)
{
	evfs_cleanup_stmt sqlite3_stmt *stmt = NULL;
	int rc = evfs_db_prepare(db, sql, &stmt, err);

	if (rc != 0)
		return rc;
	rc = evfs_db_step(db, stmt, err);
	if (rc < 0)
		return rc;
	*ret = rc == 0 ? 0 : sqlite3_column_int64(stmt, 0);
	return 0;
}

static int schema_pages(struct evfs_db *db, bool thorough,
			struct evfs_err *err)
{
	evfs_cleanup_stmt sqlite3_stmt *stmt = NULL;
	const char *said;
	int rc;

	if (!thorough)
		return 0;
	rc = evfs_db_prepare(db, "PRAGMA quick_check(1)", &stmt, err);
	if (rc == 0)
		rc = evfs_db_step(db, stmt, err);
	if (rc < 0)
		return rc;
	said = rc == 0 ? "no answer" :
			 (const char *)sqlite3_column_text(stmt, 0);
	if (said != NULL && strcmp(said, "ok") == 0)
		return 0;
	return evfs_err_set(err, EVFS_ECORRUPT,
			    "database is damaged: %s (restore the store from "
			    "a backup, or join anew)",
			    said == NULL ? "no memory" : said);
}

int evfs_schema_check(struct evfs_db *db, bool thorough, struct evfs_err *err)
{
	int64_t application = 0;
	int64_t version = 0;
	int64_t tables = 0;
	int rc;

	rc = schema_int(db, "PRAGMA application_id", &application, err);
	if (rc != 0)
		return rc;
	if (application != EVFS_APPLICATION_ID)
		return evfs_err_set(err, EVFS_EFOREIGN,
				    "meta.db is a database of another program "
				    "(make a store with: evfsctl init)");
	rc = schema_int(db, "PRAGMA user_version", &version, err);
	if (rc != 0)
		return rc;
	if (version > EVFS_SCHEMA_VERSION)
		return evfs_err_set(err, EVFS_ENEWER,
				    "made by a newer evfs: store format %d, "
				    "this program knows %d (upgrade evfs)",
				    (int)version, EVFS_SCHEMA_VERSION);
	if (version < 1)
		return evfs_err_set(err, EVFS_ECORRUPT,
				    "database is damaged: store format %d "
				    "(restore the store from a backup, or "
				    "join anew)",
				    (int)version);
	rc = schema_pages(db, thorough, err);
	if (rc != 0)
		return rc;
	rc = schema_int(db,
			"SELECT count(*) FROM sqlite_schema WHERE type = "
			"'table' AND name IN ('state', 'actor', 'context', "
			"'object', 'name', 'dotlog', 'dir', 'cycle', 'clash', "
			"'unsealed', 'member', 'report', 'invite', "
			"'config', 'history', 'merkle', 'merkle_home', "
			"'divergence', 'grave', 'audit')",
			&tables, err);
	if (rc == 0 && tables != 20)
		rc = evfs_err_set(err, EVFS_ECORRUPT,
				  "database is damaged: %d of 20 tables "
				  "(restore the store from a backup, or join "
				  "anew)",
				  (int)tables);
	return rc;
}

/* ---- the state table ---- */

static int state_row(struct evfs_db *db, const char *key,
		     sqlite3_stmt **ret, struct evfs_err *err)
{
	int rc = evfs_db_prepare(db, "SELECT value FROM state WHERE key = ?1",
				 ret, err);

	if (rc != 0)
		return rc;
	sqlite3_bind_text(*ret, 1, key, -1, SQLITE_STATIC);
	return evfs_db_step(db, *ret, err);
}

int evfs_state_get(struct evfs_db *db, const char *key, uint64_t *ret,
		   bool *ret_found, struct evfs_err *err)
{
	evfs_cleanup_stmt sqlite3_stmt *stmt = NULL;
	int rc = state_row(db, key, &stmt, err);

	if (rc < 0)
		return rc;
	*ret_found = rc > 0;
	if (rc > 0)
		*ret = (uint64_t)sqlite3_column_int64(stmt, 0);
	return 0;
}

int evfs_state_get_bytes(struct evfs_db *db, const char *key,
			 struct evfs_buf *ret, bool *ret_found,
			 struct evfs_err *err)
{
	evfs_cleanup_stmt sqlite3_stmt *stmt = NULL;
	int rc = state_row(db, key, &stmt, err);

	if (rc < 0)
		return rc;
	*ret_found = rc > 0;
	if (rc > 0 && evfs_buf_put(ret, sqlite3_column_blob(stmt, 0),
				   (size_t)sqlite3_column_bytes(stmt, 0)) != 0)
		return evfs_err_set(err, EVFS_ENOMEM, "state: out of memory");
	return 0;
}

static int state_upsert(struct evfs_db *db, const char *key,
			sqlite3_stmt **ret, struct evfs_err *err)
{
	int rc = evfs_db_prepare(db,
				 "INSERT INTO state(key, value) VALUES(?1, ?2)"
				 " ON CONFLICT DO UPDATE SET value = ?2",
				 ret, err);

	if (rc == 0)
		sqlite3_bind_text(*ret, 1, key, -1, SQLITE_STATIC);
	return rc;
}

int evfs_state_set(struct evfs_db *db, const char *key, uint64_t value,
		   struct evfs_err *err)
{
	evfs_cleanup_stmt sqlite3_stmt *stmt = NULL;
	int rc = state_upsert(db, key, &stmt, err);

	if (rc != 0)
		return rc;
	sqlite3_bind_int64(stmt, 2, (sqlite3_int64)value);
	return evfs_db_run(db, stmt, err);
}

int evfs_state_set_bytes(struct evfs_db *db, const char *key,
			 const void *data, size_t len, struct evfs_err *err)
{
	evfs_cleanup_stmt sqlite3_stmt *stmt = NULL;
	int rc = state_upsert(db, key, &stmt, err);

	if (rc != 0)
		return rc;
	sqlite3_bind_blob(stmt, 2, data, (int)len, SQLITE_STATIC);
	return evfs_db_run(db, stmt, err);
}
