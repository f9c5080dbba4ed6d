/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A connection to SQLite, its statement cache, and what its errors mean.
 *
 * Statements are cached by the address of their text. One that is still
 * running (a row callback that asks the same question of another directory) is
 * left alone and a second one is prepared beside it; so a statement that was
 * handed out must be stepped before the same text is asked for again. */
#include "meta/db.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/mem.h"
#include "meta/idmap.h"

struct db_slot {
	struct evfs_idmap_node node; /* first; id = address of the text */
	sqlite3_stmt **stmts;        /* owned */
	size_t n;                    /* of them */
	size_t cap;                  /* allocated */
};

struct evfs_db {
	sqlite3 *handle;         /* owned */
	struct evfs_idmap slots; /* of struct db_slot; owned */
};

static int db_code(sqlite3 *handle, int rc)
{
	int sys = handle == NULL ? 0 : sqlite3_system_errno(handle);

	switch (rc & 0xff) {
	case SQLITE_FULL:
		return EVFS_ENOSPACE;
	case SQLITE_NOMEM:
		return EVFS_ENOMEM;
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
		return EVFS_ECORRUPT;
	case SQLITE_READONLY:
		return EVFS_EREADONLY;
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		return EVFS_EBUSY;
	case SQLITE_CANTOPEN:
		return sys == EACCES ? EVFS_EACCESS : EVFS_EIO;
	default:
		return sys == ENOSPC || sys == EDQUOT ? EVFS_ENOSPACE :
							EVFS_EIO;
	}
}

static int db_fail(sqlite3 *handle, int rc, struct evfs_err *err)
{
	int code = db_code(handle, rc);

	if (code == EVFS_ECORRUPT)
		return evfs_err_set(err, code,
				    "database is damaged: %s (restore the "
				    "store from a backup, or join anew)",
				    handle == NULL ? sqlite3_errstr(rc) :
						     sqlite3_errmsg(handle));
	return evfs_err_set(err, code, "database: %s",
			    handle == NULL ? sqlite3_errstr(rc) :
					     sqlite3_errmsg(handle));
}

int evfs_db_open(const char *path, bool read_only, struct evfs_db **ret,
		 struct evfs_err *err)
{
	struct evfs_db *db = evfs_calloc(1, sizeof(*db));
	int flags = read_only ? SQLITE_OPEN_READONLY :
				SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE;
	int code;
	int rc;

	if (db == NULL)
		return evfs_err_set(err, EVFS_ENOMEM, "open %s: out of memory",
				    path);
	rc = sqlite3_open_v2(path, &db->handle, flags | SQLITE_OPEN_NOMUTEX,
			     NULL);
	if (rc != SQLITE_OK) {
		code = db_fail(db->handle, rc, err);
		sqlite3_close(db->handle);
		evfs_free(db);
		return evfs_err_wrap(err, code, "open %s", path);
	}
	sqlite3_extended_result_codes(db->handle, 1);
	sqlite3_busy_timeout(db->handle, 10000);
	sqlite3_db_config(db->handle, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
	/* else a statement that could use a partial index is prepared again
	 * for each value that is bound */
	sqlite3_db_config(db->handle, SQLITE_DBCONFIG_ENABLE_QPSG, 1, NULL);
	*ret = db;
	return 0;
}

void evfs_db_close(struct evfs_db *db)
{
	struct evfs_idmap_node *node;
	size_t at = 0;
	int rc;

	if (db == NULL)
		return;
	while ((node = evfs_idmap_pop(&db->slots, &at)) != NULL) {
		struct db_slot *slot = (struct db_slot *)node;
		size_t i;

		for (i = 0; i < slot->n; i++)
			sqlite3_finalize(slot->stmts[i]);
		evfs_free(slot->stmts);
		evfs_free(slot);
	}
	evfs_idmap_fini(&db->slots);
	rc = sqlite3_close(db->handle);
	assert(rc == SQLITE_OK);
	evfs_free(db);
}

sqlite3 *evfs_db_handle(struct evfs_db *db)
{
	return db->handle;
}

static struct db_slot *db_slot_of(struct evfs_db *db, const char *sql)
{
	uint64_t id = (uint64_t)(uintptr_t)sql;
	struct db_slot *slot;

	slot = (struct db_slot *)evfs_idmap_get(&db->slots, id);
	if (slot != NULL)
		return slot;
	slot = evfs_calloc(1, sizeof(*slot));
	if (slot == NULL)
		return NULL;
	slot->node.id = id;
	if (evfs_idmap_put(&db->slots, &slot->node) != 0) {
		evfs_free(slot);
		return NULL;
	}
	return slot;
}

int evfs_db_prepare(struct evfs_db *db, const char *sql_literal,
		    sqlite3_stmt **ret, struct evfs_err *err)
{
	struct db_slot *slot = db_slot_of(db, sql_literal);
	sqlite3_stmt *stmt;
	size_t i;
	int rc;

	if (slot == NULL)
		return evfs_err_set(err, EVFS_ENOMEM, "database: no memory");
	for (i = 0; i < slot->n; i++) {
		if (!sqlite3_stmt_busy(slot->stmts[i])) {
			*ret = slot->stmts[i];
			return 0;
		}
	}
	if (evfs_grow((void **)&slot->stmts, slot->n, &slot->cap,
		      sizeof(*slot->stmts)) != 0)
		return evfs_err_set(err, EVFS_ENOMEM, "database: no memory");
	rc = sqlite3_prepare_v3(db->handle, sql_literal, -1,
				SQLITE_PREPARE_PERSISTENT, &stmt, NULL);
	if (rc != SQLITE_OK)
		return db_fail(db->handle, rc, err);
	slot->stmts[slot->n++] = stmt;
	*ret = stmt;
	return 0;
}

int evfs_db_step(struct evfs_db *db, sqlite3_stmt *stmt, struct evfs_err *err)
{
	int rc = sqlite3_step(stmt);

	if (rc == SQLITE_ROW)
		return 1;
	if (rc == SQLITE_DONE)
		return 0;
	return db_fail(db->handle, rc, err);
}

int evfs_db_exec(struct evfs_db *db, const char *sql, struct evfs_err *err)
{
	int rc = sqlite3_exec(db->handle, sql, NULL, NULL, NULL);

	return rc == SQLITE_OK ? 0 : db_fail(db->handle, rc, err);
}

int evfs_db_run(struct evfs_db *db, sqlite3_stmt *stmt, struct evfs_err *err)
{
	int rc = evfs_db_step(db, stmt, err);

	assert(rc <= 0);
	sqlite3_reset(stmt);
	return rc;
}

int evfs_db_run_literal(struct evfs_db *db, const char *sql_literal,
			struct evfs_err *err)
{
	evfs_cleanup_stmt sqlite3_stmt *stmt = NULL;
	int rc = evfs_db_prepare(db, sql_literal, &stmt, err);

	return rc != 0 ? rc : evfs_db_run(db, stmt, err);
}

void evfs_cleanup_stmt_fn(sqlite3_stmt **stmt)
{
	if (*stmt == NULL)
		return;
	sqlite3_reset(*stmt);
	sqlite3_clear_bindings(*stmt);
}
