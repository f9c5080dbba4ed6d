/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Making, opening and closing the database of a store.
 *
 * meta.db must never be opened by a descriptor of our own: closing one would
 * drop the POSIX locks that SQLite holds on it for this process. The log
 * (meta.db-wal) carries no such locks, so that is the file we sync. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "base/mem.h"
#include "meta/db.h"
#include "meta/db_schema.h"
#include "meta/life.h"
#include "meta/life_mark.h"
#include "meta/store.h"

/* Up to this size every page is looked at when a store is opened. */
#define OPEN_CHECK_BYTES_MAX (32u << 20)

int evfs_store_create_db(const char *file, const struct evfs_meta_new *what,
			 struct evfs_err *err)
{
	const struct evfs_env *env = evfs_env_system();
	struct evfs_db *db = NULL;
	struct evfs_mark mark;
	int fd = open(file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	int rc;

	if (fd < 0)
		return evfs_err_sys(err, errno, "%s", file);
	close(fd);
	rc = evfs_schema_connect(file, false, EVFS_SCHEMA_CACHE_KIB, &db, err);
	if (rc == 0)
		rc = evfs_db_exec(db, "PRAGMA synchronous = FULL", err);
	if (rc == 0)
		rc = evfs_schema_create(db, what, env->wall_ns(env->ctx), err);
	if (rc == 0)
		rc = evfs_mark_read(file, &mark, err);
	if (rc == 0)
		rc = evfs_mark_keep(db, &mark, err);
	evfs_db_close(db);
	return rc;
}

static int open_wal_mode(struct evfs_db *db, struct evfs_err *err)
{
	evfs_cleanup_stmt sqlite3_stmt *stmt = NULL;
	const char *mode;
	int rc = evfs_db_prepare(db, "PRAGMA journal_mode = WAL", &stmt, err);

	if (rc == 0)
		rc = evfs_db_step(db, stmt, err);
	if (rc < 0)
		return rc;
	mode = rc == 0 ? NULL : (const char *)sqlite3_column_text(stmt, 0);
	if (mode == NULL || strcmp(mode, "wal") != 0)
		return evfs_err_set(err, EVFS_EUNSUPPORTED,
				    "the file system of the store cannot hold "
				    "a write-ahead log (use a local disk)");
	return 0;
}

/* The descriptor that commits are synced through. */
static int open_log(struct evfs_store *store, struct evfs_err *err)
{
	evfs_cleanup_free char *file =
		evfs_store_file(store->path, "meta.db-wal");

	if (file == NULL)
		return evfs_err_set(err, EVFS_ENOMEM, "out of memory");
	store->wal_fd = open(file, O_RDWR | O_CLOEXEC);
	if (store->wal_fd < 0)
		return evfs_err_sys(err, errno, "%s", file);
	if (fdatasync(store->wal_fd) != 0)
		return evfs_err_sys(err, errno, "%s", file);
	return evfs_io_sync_dir(store->path, err);
}

/* Notes which file the database is, and begins another life where it is not
 * the one that this replica left. */
static int open_check_mark(struct evfs_meta *meta, const char **ret_why,
			   struct evfs_err *err)
{
	evfs_cleanup_free char *file =
		evfs_store_file(meta->store->path, "meta.db");
	struct evfs_mark mark;
	int rc;

	if (file == NULL)
		return evfs_err_set(err, EVFS_ENOMEM, "out of memory");
	rc = evfs_mark_read(file, &mark, err);
	if (rc == 0)
		rc = evfs_mark_check(meta, &mark, ret_why, err);
	if (rc != 0)
		return rc;
	if (*ret_why == NULL)
		return evfs_mark_open(meta->store->path, err);
	rc = evfs_life_begin(meta, err);
	return rc == 0 ? evfs_mark_keep(meta->db, &mark, err) : rc;
}

/* The first transaction: leases counters, and notes whether this is a copy. */
static int open_first_commit(struct evfs_meta *meta, const char **ret_why,
			     struct evfs_err *err)
{
	int rc = evfs_store_begin(meta, err);

	/* First this: in a copy, the leased counters are the original's, who
	 * may have used them; this one must not claim to know them. */
	*ret_why = NULL;
	if (rc == 0 && meta->store->path != NULL)
		rc = open_check_mark(meta, ret_why, err);
	if (rc == 0)
		rc = evfs_life_note_start(meta, err);
	if (rc == 0)
		rc = evfs_store_skip_lease(meta, err);
	if (rc == 0)
		rc = evfs_store_commit_tx(meta, err);
	if (rc != 0)
		evfs_store_rollback_tx(meta);
	return rc;
}

int evfs_store_open_memory(struct evfs_meta *meta,
			   const struct evfs_meta_new *fresh,
			   struct evfs_err *err)
{
	const struct evfs_env *env = meta->store->env;
	const char *why;
	int rc = evfs_schema_connect(NULL, false, EVFS_SCHEMA_CACHE_KIB,
				     &meta->db, err);

	if (rc == 0)
		rc = evfs_schema_create(meta->db, fresh,
					env->wall_ns(env->ctx), err);
	if (rc == 0)
		rc = evfs_store_load_identity(meta, err);
	if (rc == 0)
		rc = evfs_store_load(meta, err);
	if (rc == 0)
		rc = open_first_commit(meta, &why, err);
	return rc;
}

static int open_checked(struct evfs_meta *meta, const char *file,
			const struct stat *st, struct evfs_err *err)
{
	struct evfs_store *store = meta->store;
	int rc;

	if (st->st_size == 0)
		return evfs_err_set(err, EVFS_ECORRUPT,
				    "meta.db is empty (restore the store from "
				    "a backup, or join anew)");
	rc = evfs_schema_connect(file, store->read_only, EVFS_SCHEMA_CACHE_KIB,
				 &meta->db, err);
	if (rc == 0)
		rc = evfs_schema_check(meta->db,
				       !store->read_only &&
					       st->st_size <=
						       OPEN_CHECK_BYTES_MAX,
				       err);
	if (rc == 0)
		rc = store->read_only ?
			     evfs_db_exec(meta->db, "BEGIN", err) :
			     open_wal_mode(meta->db, err);
	if (rc == 0 && !store->read_only)
		rc = evfs_schema_complete(meta->db, err);
	if (rc == 0)
		rc = evfs_store_load_identity(meta, err);
	if (rc == 0)
		rc = evfs_store_load(meta, err);
	return rc;
}

int evfs_store_open_file(struct evfs_meta *meta, const char **ret_why,
			 struct evfs_err *err)
{
	struct evfs_store *store = meta->store;
	evfs_cleanup_free char *file = evfs_store_file(store->path, "meta.db");
	struct stat st;
	int rc;

	if (file == NULL)
		return evfs_err_set(err, EVFS_ENOMEM, "out of memory");
	if (stat(file, &st) != 0)
		return errno == ENOENT || errno == ENOTDIR ?
			       evfs_err_set(err, EVFS_ENOTFOUND,
					    "not an evfs store (make one with: "
					    "evfsctl init %s)",
					    store->path) :
			       evfs_err_sys(err, errno, "meta.db");
	if (!store->read_only) {
		rc = evfs_store_lock_dir(store->path, &store->lock_fd, err);
		if (rc != 0)
			return rc;
	}
	rc = open_checked(meta, file, &st, err);
	if (rc != 0 || store->read_only)
		return rc;
	rc = open_first_commit(meta, ret_why, err);
	if (rc == 0)
		rc = open_log(store, err);
	if (rc == 0) /* the new epoch is on disk now */
		rc = evfs_mark_open(store->path, err);
	if (rc == 0)
		rc = evfs_schema_connect(file, true, EVFS_SCHEMA_READER_KIB,
					 &store->reader, err);
	if (rc == 0)
		rc = evfs_schema_connect(file, false, EVFS_SCHEMA_LITTLE_KIB,
					 &store->checkpointer, err);
	if (rc == 0)
		evfs_store_watch_wal(meta);
	return rc;
}

void evfs_store_close_db(struct evfs_meta *meta)
{
	struct evfs_store *store = meta->store;

	evfs_db_close(store->reader);
	evfs_db_close(store->checkpointer);
	evfs_db_close(meta->db);
	if (store->clean)
		evfs_mark_close(store->path);
	if (store->wal_fd >= 0)
		close(store->wal_fd);
	if (store->lock_fd >= 0)
		close(store->lock_fd);
}

int evfs_store_end_lease(struct evfs_meta *meta, struct evfs_err *err)
{
	struct evfs_store *store = meta->store;
	int rc;

	store->lease = store->counter;
	rc = evfs_store_begin(meta, err);
	if (rc == 0)
		rc = evfs_state_set(meta->db, "lease", store->lease, err);
	if (rc == 0)
		rc = evfs_db_exec(meta->db, "COMMIT", err);
	store->tx_open = false;
	return rc;
}
