/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The small derived sets: directories on cycles, names with more than one
 * thing to show, files without a version. */
#include "meta/facts_priv.h"
#include "meta/store.h"

/* ---- cycles ---- */

int evfs_facts_cycles(struct evfs_facts *facts,
		      int (*each)(void *arg, const struct evfs_cycle_row *row),
		      void *arg, struct evfs_err *err)
{
	evfs_cleanup_stmt sqlite3_stmt *stmt = NULL;
	int rc = evfs_db_prepare(facts->meta->db,
				 "SELECT dir, shown_in FROM cycle ORDER BY dir",
				 &stmt, err);

	if (rc != 0)
		return rc;
	while ((rc = evfs_db_step(facts->meta->db, stmt, err)) > 0) {
		struct evfs_cycle_row row;

		rc = evfs_facts_dot(facts, sqlite3_column_int64(stmt, 0),
				    &row.dir, err);
		if (rc == 0)
			rc = evfs_facts_dot(facts,
					    sqlite3_column_int64(stmt, 1),
					    &row.shown_in, err);
		if (rc != 0)
			return rc;
		if (each(arg, &row) != 0)
			return 0;
	}
	return rc;
}

int evfs_facts_set_cycle(struct evfs_facts *facts,
			 const struct evfs_cycle_row *row, bool on_cycle,
			 struct evfs_err *err)
{
	evfs_cleanup_stmt sqlite3_stmt *stmt = NULL;
	int64_t dir;
	int64_t shown_in;
	int rc = evfs_meta_begin_write(facts->meta, err);

	if (rc == 0)
		rc = evfs_facts_key(facts, row->dir, true, &dir, err);
	if (rc >= 0)
		rc = evfs_facts_key(facts, row->shown_in, true, &shown_in,
				    err);
	if (rc < 0)
		return rc;
	if (on_cycle)
		rc = evfs_db_prepare(facts->meta->db,
				     "INSERT OR REPLACE INTO "
				     "cycle(dir, shown_in) VALUES(?1, ?2)",
				     &stmt, err);
	else
		rc = evfs_db_prepare(facts->meta->db,
				     "DELETE FROM cycle WHERE dir = ?1", &stmt,
				     err);
	if (rc != 0)
		return rc;
	sqlite3_bind_int64(stmt, 1, dir);
	if (on_cycle)
		sqlite3_bind_int64(stmt, 2, shown_in);
	return evfs_db_run(facts->meta->db, stmt, err);
}

/* ---- clashes ---- */

int evfs_facts_clash_set(struct evfs_facts *facts, evfs_ino parent,
			 const void *name, size_t name_len, bool on,
			 struct evfs_err *err)
{
	evfs_cleanup_stmt sqlite3_stmt *stmt = NULL;
	int64_t key;
	int rc = evfs_meta_begin_write(facts->meta, err);

	if (rc == 0)
		rc = evfs_facts_key(facts, parent, true, &key, err);
	if (rc < 0)
		return rc;
	if (on)
		rc = evfs_db_prepare(facts->meta->db,
				     "INSERT OR IGNORE INTO "
				     "clash(parent, name) VALUES(?1, ?2)",
				     &stmt, err);
	else
		rc = evfs_db_prepare(facts->meta->db,
				     "DELETE FROM clash "
				     "WHERE parent = ?1 AND name = ?2",
				     &stmt, err);
	if (rc != 0)
		return rc;
	sqlite3_bind_int64(stmt, 1, key);
	sqlite3_bind_blob(stmt, 2, name, (int)name_len, SQLITE_STATIC);
	return evfs_db_run(facts->meta->db, stmt, err);
}

int evfs_facts_clashes(struct evfs_facts *facts,
		       int (*each)(void *arg, evfs_ino parent,
				   const uint8_t *name, size_t name_len),
		       void *arg, struct evfs_err *err)
{
	evfs_cleanup_stmt sqlite3_stmt *stmt = NULL;
	int rc = evfs_db_prepare(facts->meta->db,
				 "SELECT parent, name FROM clash "
				 "ORDER BY parent, name",
				 &stmt, err);

	if (rc != 0)
		return rc;
	while ((rc = evfs_db_step(facts->meta->db, stmt, err)) > 0) {
		evfs_ino parent;

		rc = evfs_facts_dot(facts, sqlite3_column_int64(stmt, 0),
				    &parent, err);
		if (rc != 0)
			return rc;
		if (each(arg, parent, sqlite3_column_blob(stmt, 1),
			 (size_t)sqlite3_column_bytes(stmt, 1)) != 0)
			return 0;
	}
	return rc;
}

/* ---- unsealed files ---- */

void evfs_unsealed_forget(struct evfs_facts *facts)
{
	for (size_t i = 0; i < EVFS_FACTS_KNOWN_UNSEALED; i++)
		facts->unsealed[i].used = false;
}

/* NULL: it is not known. */
static struct evfs_known_unsealed *unsealed_find(struct evfs_facts *facts,
						 evfs_ino ino)
{
	for (size_t i = 0; i < EVFS_FACTS_KNOWN_UNSEALED; i++)
		if (facts->unsealed[i].used &&
		    evfs_dot_equal(facts->unsealed[i].ino, ino))
			return &facts->unsealed[i];
	return NULL;
}

/* known: what there is of it already, or NULL. A store that is open for reading
 * only is written to by another process. */
static void unsealed_note(struct evfs_facts *facts,
			  struct evfs_known_unsealed *known, evfs_ino ino,
			  bool on)
{
	if (facts->meta->store->read_only)
		return;
	if (known == NULL)
		known = &facts->unsealed[facts->next_unsealed++ %
					 EVFS_FACTS_KNOWN_UNSEALED];
	*known = (struct evfs_known_unsealed){ true, on, ino };
}

static int unsealed_write(struct evfs_facts *facts, int64_t key, bool on,
			  struct evfs_err *err)
{
	evfs_cleanup_stmt sqlite3_stmt *stmt = NULL;
	int rc;

	if (on)
		rc = evfs_db_prepare(facts->meta->db,
				     "INSERT OR IGNORE INTO unsealed(object) "
				     "VALUES(?1)",
				     &stmt, err);
	else
		rc = evfs_db_prepare(facts->meta->db,
				     "DELETE FROM unsealed WHERE object = ?1",
				     &stmt, err);
	if (rc != 0)
		return rc;
	sqlite3_bind_int64(stmt, 1, key);
	return evfs_db_run(facts->meta->db, stmt, err);
}

int evfs_facts_set_unsealed(struct evfs_facts *facts, evfs_ino ino, bool on,
			    struct evfs_err *err)
{
	struct evfs_known_unsealed *known = unsealed_find(facts, ino);
	int64_t key;
	int rc;

	if (known != NULL && known->on == on)
		return 0;
	rc = evfs_meta_begin_write(facts->meta, err);
	if (rc == 0)
		rc = evfs_facts_key(facts, ino, true, &key, err);
	if (rc < 0)
		return rc;
	if (known != NULL)
		known->used = false;
	rc = unsealed_write(facts, key, on, err);
	if (rc == 0)
		unsealed_note(facts, known, ino, on);
	return rc;
}

int evfs_facts_is_unsealed(struct evfs_facts *facts, evfs_ino ino, bool *ret,
			   struct evfs_err *err)
{
	evfs_cleanup_stmt sqlite3_stmt *stmt = NULL;
	const struct evfs_known_unsealed *known = unsealed_find(facts, ino);
	int64_t key;
	int rc;

	if (known != NULL) {
		*ret = known->on;
		return 0;
	}
	rc = evfs_facts_key(facts, ino, false, &key, err);
	if (rc <= 0) {
		*ret = false;
		return rc;
	}
	rc = evfs_db_prepare(facts->meta->db,
			     "SELECT 1 FROM unsealed WHERE object = ?1", &stmt,
			     err);
	if (rc != 0)
		return rc;
	sqlite3_bind_int64(stmt, 1, key);
	rc = evfs_db_step(facts->meta->db, stmt, err);
	if (rc < 0)
		return rc;
	*ret = rc > 0;
	unsealed_note(facts, NULL, ino, *ret);
	return 0;
}

int evfs_facts_each_unsealed(struct evfs_facts *facts,
			     int (*each)(void *arg, evfs_ino ino), void *arg,
			     struct evfs_err *err)
{
	evfs_cleanup_stmt sqlite3_stmt *stmt = NULL;
	int rc = evfs_db_prepare(facts->meta->db,
				 "SELECT object FROM unsealed ORDER BY object",
				 &stmt, err);

	if (rc != 0)
		return rc;
	while ((rc = evfs_db_step(facts->meta->db, stmt, err)) > 0) {
		evfs_ino ino;

		rc = evfs_facts_dot(facts, sqlite3_column_int64(stmt, 0), &ino,
				    err);
		if (rc != 0)
			return rc;
		if (each(arg, ino) != 0)
			return 0;
	}
	return rc;
}
