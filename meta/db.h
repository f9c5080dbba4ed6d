/* SPDX-License-Identifier: GPL-3.0-or-later */
/* SQLite, for meta's db files only (they alone include this header and
 * <sqlite3.h>). A connection with its prepared statements. Not thread-safe:
 * used under the meta lock, or owned by one reader. */
#ifndef EVFS_META_DB_H
#define EVFS_META_DB_H

#include <sqlite3.h>
#include <stdbool.h>

#include "base/err.h"

struct evfs_db; /* a connection and its statement cache */

/* path ":memory:" for one in memory. */
int evfs_db_open(const char *path, bool read_only, struct evfs_db **ret,
		 struct evfs_err *err) EVFS_MUST_USE;
void evfs_db_close(struct evfs_db *db); /* NULL is fine */
sqlite3 *evfs_db_handle(struct evfs_db *db);

/* A statement for this SQL, reset and without bindings. Cached by the address
 * of the text: pass string literals only. Put it in a variable with
 * evfs_cleanup_stmt, which resets it at the end of the scope. One that is
 * running already (a callback asks the same again) is left alone: another is
 * made. Step it before you ask for the same text again. */
int evfs_db_prepare(struct evfs_db *db, const char *sql_literal,
		    sqlite3_stmt **ret, struct evfs_err *err) EVFS_MUST_USE;

/* 1: a row; 0: done; negative: EVFS_EIO, EVFS_ENOSPACE, EVFS_ENOMEM,
 * EVFS_ECORRUPT with SQLite's message. */
int evfs_db_step(struct evfs_db *db, sqlite3_stmt *stmt,
		 struct evfs_err *err) EVFS_MUST_USE;

/* Statements without result, several separated by ';'. */
int evfs_db_exec(struct evfs_db *db, const char *sql, struct evfs_err *err)
	EVFS_MUST_USE;

/* Steps a statement that gives no rows, and resets it. */
int evfs_db_run(struct evfs_db *db, sqlite3_stmt *stmt, struct evfs_err *err)
	EVFS_MUST_USE;
/* The same for one without parameters. */
int evfs_db_run_literal(struct evfs_db *db, const char *sql_literal,
			struct evfs_err *err) EVFS_MUST_USE;

void evfs_cleanup_stmt_fn(sqlite3_stmt **stmt);
#define evfs_cleanup_stmt __attribute__((cleanup(evfs_cleanup_stmt_fn)))

#endif
