/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The tables of a store, and the check that a database is one. Only for meta's
 * db files and those that make and open stores. */
#ifndef EVFS_META_DB_SCHEMA_H
#define EVFS_META_DB_SCHEMA_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "meta/meta.h"

struct evfs_db;

#define EVFS_APPLICATION_ID 0x65766673 /* "evfs" */

/* Pages that a connection keeps, in KiB. Most of what is asked again is kept
 * decoded (meta/db_cache.c), and the system has the file in its cache. */
#define EVFS_SCHEMA_CACHE_KIB 32768 /* who writes: a commit's pages, too */
#define EVFS_SCHEMA_READER_KIB 8192 /* reads on in order of the log */
#define EVFS_SCHEMA_LITTLE_KIB 1024 /* only moves the log */

/* A connection with the settings that every one has. path NULL: in memory. */
int evfs_schema_connect(const char *path, bool read_only, unsigned cache_kib,
			struct evfs_db **ret, struct evfs_err *err)
	EVFS_MUST_USE;

/* Makes the tables and the rows that say what the store is, stamped with
 * wall_ns: one transaction, none is open afterwards. */
int evfs_schema_create(struct evfs_db *db, const struct evfs_meta_new *what,
		       uint64_t wall_ns, struct evfs_err *err) EVFS_MUST_USE;

/* Is it ours, not newer, and whole? EVFS_EFOREIGN, EVFS_ENEWER, EVFS_ECORRUPT
 * with what to do. thorough: look at every page. */
int evfs_schema_check(struct evfs_db *db, bool thorough, struct evfs_err *err)
	EVFS_MUST_USE;

/* Adds what came to the schema without a new version of it. */
int evfs_schema_complete(struct evfs_db *db, struct evfs_err *err)
	EVFS_MUST_USE;

/* Rows of the state table. get: *ret_found false leaves *ret alone. */
int evfs_state_get(struct evfs_db *db, const char *key, uint64_t *ret,
		   bool *ret_found, struct evfs_err *err) EVFS_MUST_USE;
int evfs_state_set(struct evfs_db *db, const char *key, uint64_t value,
		   struct evfs_err *err) EVFS_MUST_USE;
int evfs_state_get_bytes(struct evfs_db *db, const char *key,
			 struct evfs_buf *ret, bool *ret_found,
			 struct evfs_err *err) EVFS_MUST_USE;
int evfs_state_set_bytes(struct evfs_db *db, const char *key,
			 const void *data, size_t len, struct evfs_err *err)
	EVFS_MUST_USE;

#endif
