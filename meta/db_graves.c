/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The rows of what can be collected, and taking an object out. */
#include "meta/graves.h"

#include "base/mem.h"
#include "meta/facts_priv.h"

/* ---- what an object's rows are ---- */

/* unsealed: made on this replica, its first version is to come. */
static bool grave_is_hidden(const struct evfs_object *object,
			    const struct evfs_link *link, bool unsealed)
{
	return link->alive.n == 0 ||
	       (object->kind == EVFS_KIND_FILE && object->n_versions == 0 &&
		!unsealed);
}

static size_t grave_count(const struct evfs_object *object, bool unsealed)
{
	size_t n = 0;
	size_t i;

	for (i = 0; object != NULL && i < object->n_links; i++)
		n += grave_is_hidden(object, &object->links[i], unsealed);
	return n == 0 && object != NULL && object->n_ties > 0 ? 1 : n;
}

/* Parents in the order of the links; at least grave_count() places. */
static void grave_parents(const struct evfs_object *object, bool unsealed,
			  evfs_ino *ret)
{
	size_t n = 0;
	size_t i;

	ret[0] = EVFS_INO_NONE;
	for (i = 0; object != NULL && i < object->n_links; i++)
		if (grave_is_hidden(object, &object->links[i], unsealed))
			ret[n++] = object->links[i].place.parent;
}

static int grave_remove(struct evfs_facts *facts, int64_t key,
			struct evfs_err *err)
{
	evfs_cleanup_stmt sqlite3_stmt *stmt = NULL;
	int rc = evfs_db_prepare(facts->meta->db,
				 "DELETE FROM grave WHERE object = ?1", &stmt,
				 err);

	if (rc != 0)
		return rc;
	sqlite3_bind_int64(stmt, 1, key);
	return evfs_db_run(facts->meta->db, stmt, err);
}

static int grave_add(struct evfs_facts *facts, int64_t key, evfs_ino parent,
		     struct evfs_err *err)
{
	evfs_cleanup_stmt sqlite3_stmt *stmt = NULL;
	int64_t above = 0;
	int rc = evfs_facts_key(facts, parent, true, &above, err);

	if (rc >= 0)
		rc = evfs_db_prepare(facts->meta->db,
				     "INSERT OR IGNORE INTO "
				     "grave(object, parent) VALUES(?1, ?2)",
				     &stmt, err);
	if (rc < 0)
		return rc;
	sqlite3_bind_int64(stmt, 1, key);
	sqlite3_bind_int64(stmt, 2, above);
	return evfs_db_run(facts->meta->db, stmt, err);
}

/* Parents of both states, one behind the other, in memory of the caller. */
static evfs_ino *grave_both(const struct evfs_object *before, size_t n_before,
			    const struct evfs_object *object, size_t n,
			    bool unsealed, evfs_ino *some, size_t n_some)
{
	evfs_ino *both = some;

	if (n_before + n + 2 > n_some)
		both = evfs_calloc(n_before + n + 2, sizeof(*both));
	if (both != NULL) {
		grave_parents(before, unsealed, both);
		grave_parents(object, unsealed, both + n_before + 1);
	}
	return both;
}

static bool grave_same(const evfs_ino *a, const evfs_ino *b, size_t n)
{
	while (n > 0 && evfs_dot_equal(a[n - 1], b[n - 1]))
		n--;
	return n == 0;
}

int evfs_graves_update(struct evfs_facts *facts,
		       const struct evfs_object *before,
		       const struct evfs_object *object, bool *ret_added,
		       struct evfs_err *err)
{
	const struct evfs_object *first = before != NULL ? before : object;
	evfs_ino some[16], *both, *now;
	bool unsealed = false;
	size_t n_before, n, i;
	int64_t key = 0;
	int rc = 0;

	*ret_added = false;
	if (first->kind == EVFS_KIND_FILE && first->n_versions == 0)
		rc = evfs_facts_is_unsealed(facts, first->ino, &unsealed, err);
	n_before = grave_count(before, unsealed);
	n = grave_count(object, unsealed);
	if (rc != 0 || (n_before == 0 && n == 0))
		return rc;
	both = grave_both(before, n_before, object, n, unsealed, some, 16);
	if (both == NULL)
		return evfs_err_set(err, EVFS_ENOMEM, "graves: out of memory");
	now = both + n_before + 1;
	rc = evfs_meta_begin_write(facts->meta, err);
	if (rc == 0)
		rc = evfs_facts_key(facts, first->ino, true, &key, err);
	rc = rc < 0 ? rc : 0;
	if (rc == 0 && (n != n_before || !grave_same(both, now, n))) {
		if (n_before > 0)
			rc = grave_remove(facts, key, err);
		for (i = 0; i < n && rc == 0; i++)
			rc = grave_add(facts, key, now[i], err);
	}
	*ret_added = rc == 0 && n > 0;
	if (both != some)
		evfs_free(both);
	return rc;
}

int evfs_graves_clear(struct evfs_facts *facts, struct evfs_err *err)
{
	int rc = evfs_meta_begin_write(facts->meta, err);

	return rc != 0 ? rc :
			 evfs_db_exec(facts->meta->db, "DELETE FROM grave",
				      err);
}

/* ---- looking ---- */

int evfs_graves_next(struct evfs_facts *facts, int64_t *cursor, evfs_ino *ret,
		     size_t max, size_t *ret_n, struct evfs_err *err)
{
	evfs_cleanup_stmt sqlite3_stmt *stmt = NULL;
	int rc = evfs_db_prepare(facts->meta->db,
				 "SELECT DISTINCT object FROM grave "
				 "WHERE object > ?1 ORDER BY object",
				 &stmt, err);

	if (rc != 0)
		return rc;
	sqlite3_bind_int64(stmt, 1, *cursor);
	return evfs_facts_list(facts, stmt, ret, NULL, max, ret_n, cursor, err);
}

int evfs_graves_below(struct evfs_facts *facts, evfs_ino dir, evfs_ino *ret,
		      size_t max, size_t *ret_n, struct evfs_err *err)
{
	evfs_cleanup_stmt sqlite3_stmt *stmt = NULL;
	int64_t key = 0;
	int64_t last = 0;
	int rc = evfs_facts_key(facts, dir, false, &key, err);

	*ret_n = 0;
	if (rc <= 0)
		return rc;
	rc = evfs_db_prepare(facts->meta->db,
			     "SELECT object FROM grave WHERE parent = ?1",
			     &stmt, err);
	if (rc != 0)
		return rc;
	sqlite3_bind_int64(stmt, 1, key);
	return evfs_facts_list(facts, stmt, ret, NULL, max, ret_n, &last, err);
}

/* ---- taking out ---- */

static int remove_rows(struct evfs_facts *facts, const char *sql, int64_t key,
		       struct evfs_err *err)
{
	evfs_cleanup_stmt sqlite3_stmt *stmt = NULL;
	int rc = evfs_db_prepare(facts->meta->db, sql, &stmt, err);

	if (rc != 0)
		return rc;
	sqlite3_bind_int64(stmt, 1, key);
	return evfs_db_run(facts->meta->db, stmt, err);
}

/* Those dotlog rows that are in the database. */
static int remove_log(struct evfs_facts *facts, int64_t key,
		      const struct evfs_cached *cached, struct evfs_err *err)
{
	const struct evfs_log_row *rows =
		cached->dirty ? cached->rows : cached->object->log;
	size_t n = cached->dirty ? cached->n_rows : cached->object->n_log;
	size_t i;
	int rc = 0;

	for (i = 0; i < n && rc == 0; i++) {
		evfs_cleanup_stmt sqlite3_stmt *stmt = NULL;
		evfs_dot dot = { rows[i].actor, rows[i].counter };
		int64_t row = 0;

		rc = evfs_facts_key(facts, dot, true, &row, err);
		if (rc >= 0)
			rc = evfs_db_prepare(facts->meta->db,
					     "DELETE FROM dotlog "
					     "WHERE dot = ?1 AND object = ?2",
					     &stmt, err);
		if (rc < 0)
			return rc;
		sqlite3_bind_int64(stmt, 1, row);
		sqlite3_bind_int64(stmt, 2, key);
		rc = evfs_db_run(facts->meta->db, stmt, err);
	}
	return rc;
}

int evfs_facts_remove_object(struct evfs_facts *facts,
			     const struct evfs_object *object,
			     struct evfs_err *err)
{
	struct evfs_undo undo = { 0 };
	const struct evfs_object *stored;
	int64_t key = 0;
	int rc = evfs_meta_begin_write(facts->meta, err);

	if (rc == 0)
		rc = evfs_facts_key(facts, object->ino, true, &key, err);
	if (rc < 0)
		return rc;
	rc = evfs_facts_get(facts, object->ino, &stored, err);
	if (rc == 0)
		rc = evfs_facts_reserve_undo(facts, err);
	if (rc != 0 || stored == NULL)
		return rc;
	undo.id = (uint64_t)key;
	undo.was = evfs_cache_take(facts, undo.id);
	evfs_facts_note_undo(facts, &undo);
	rc = remove_log(facts, key, undo.was, err);
	if (rc == 0)
		rc = grave_remove(facts, key, err);
	if (rc == 0 && object->kind == EVFS_KIND_DIR)
		rc = evfs_dirs_forget(facts, (uint64_t)key, err);
	if (rc == 0)
		rc = remove_rows(facts, "DELETE FROM object WHERE id = ?1",
				 key, err);
	return rc;
}
