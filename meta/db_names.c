/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The index of names.
 *
 * Rows are stored in the order (parent, name, key of object, key of link,
 * time). The numbers in keys stand for actors in the order in which they were
 * met here, so rows of one name are put into the order of dots before they are
 * handed out: mostly it is one row. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "meta/facts_priv.h"
#include "meta/store.h"

#define NAME_KIND_MASK 7
#define NAME_MULTI 8

/* Rows of one name, gathered. */
struct names_group {
	uint8_t name[EVFS_NAME_MAX]; /* their name */
	size_t name_len;
	struct evfs_name_row *rows;  /* owned */
	size_t n;
	size_t cap;
};

struct names_scan {
	struct evfs_facts *facts; /* whose */
	int (*each)(void *arg, const struct evfs_name_row *row);
	void *arg;                /* of each */
	size_t left;              /* rows that may still be handed out */
	const evfs_ino *parent;   /* of the one name asked for; NULL: many */
	struct names_group group; /* being gathered */
};

static int names_cmp(const void *a, const void *b)
{
	const struct evfs_name_row *x = a;
	const struct evfs_name_row *y = b;
	int order = evfs_dot_cmp(x->ino, y->ino);

	return order != 0 ? order : evfs_stamp_cmp(&x->link, &y->link);
}

/* ---- names that are known ---- */

void evfs_names_forget(struct evfs_facts *facts)
{
	for (size_t i = 0; i < EVFS_FACTS_KNOWN_NAMES; i++)
		facts->known[i].used = false;
}

/* NULL: it is not known. */
static struct evfs_known_name *names_find(struct evfs_facts *facts,
					  evfs_ino parent, const void *name,
					  size_t name_len)
{
	for (size_t i = 0; i < EVFS_FACTS_KNOWN_NAMES; i++) {
		struct evfs_known_name *known = &facts->known[i];

		if (known->used && known->name_len == name_len &&
		    evfs_dot_equal(known->parent, parent) &&
		    memcmp(known->name, name, name_len) == 0)
			return known;
	}
	return NULL;
}

/* Runs the statement that adds or removes a row; what is known of its name
 * follows, as far as that is one row or none. */
static int names_change(struct evfs_facts *facts, sqlite3_stmt *stmt,
			evfs_ino parent, const struct evfs_name_row *row,
			bool added, struct evfs_err *err)
{
	struct evfs_known_name *known =
		names_find(facts, parent, row->name, row->name_len);
	bool same;
	int rc;

	if (known != NULL)
		known->used = false;
	rc = evfs_db_run(facts->meta->db, stmt, err);
	if (rc != 0 || known == NULL)
		return rc;
	same = known->found && evfs_dot_equal(known->row.ino, row->ino) &&
	       evfs_stamp_cmp(&known->row.link, &row->link) == 0;
	if (known->found && !same)
		return 0;
	known->used = true;
	known->found = added;
	known->row = *row;
	return 0;
}

/* Remembers what was gathered of the one name that was asked for. A store that
 * is open for reading only is written to by another process. */
static void names_note(const struct names_scan *scan, const void *name,
		       size_t name_len)
{
	struct evfs_facts *facts = scan->facts;
	struct evfs_known_name *known;

	if (scan->group.n > 1 || name_len > EVFS_NAME_MAX ||
	    facts->meta->store->read_only)
		return;
	known = &facts->known[facts->next_known++ % EVFS_FACTS_KNOWN_NAMES];
	known->used = true;
	known->found = scan->group.n == 1;
	known->parent = *scan->parent;
	known->name_len = name_len;
	memcpy(known->name, name, name_len);
	if (known->found)
		known->row = scan->group.rows[0];
}

/* Hands out what is known; a copy, for it may be replaced meanwhile. */
static void names_repeat(const struct evfs_known_name *known,
			 int (*each)(void *arg,
				     const struct evfs_name_row *row),
			 void *arg)
{
	struct evfs_known_name copy;

	if (!known->found)
		return;
	copy = *known;
	copy.row.name = copy.name;
	(void)each(arg, &copy.row);
}

/* ---- rows of a statement ---- */

/* Hands the group out and empties it; non-zero: enough. */
static int names_deliver(struct names_scan *scan)
{
	struct names_group *group = &scan->group;
	int stop = 0;
	size_t i;

	if (group->n > 1)
		qsort(group->rows, group->n, sizeof(*group->rows), names_cmp);
	for (i = 0; i < group->n && stop == 0; i++) {
		if (scan->left == 0)
			stop = 1;
		else
			stop = scan->each(scan->arg, &group->rows[i]);
		if (stop == 0)
			scan->left--;
	}
	group->n = 0;
	return stop != 0 || scan->left == 0;
}

/* One row of a statement whose columns are name, object, link, time, flags. */
static int names_gather(struct names_scan *scan, sqlite3_stmt *stmt,
			bool *ret_stop, struct evfs_err *err)
{
	struct names_group *group = &scan->group;
	size_t len = (size_t)sqlite3_column_bytes(stmt, 0);
	const void *name = sqlite3_column_blob(stmt, 0);
	int flags = sqlite3_column_int(stmt, 4);
	struct evfs_name_row *row;
	int rc;

	if (name == NULL || len > EVFS_NAME_MAX)
		return evfs_err_set(err, EVFS_ECORRUPT,
				    "database is damaged: a name of %zu bytes",
				    len);
	if (group->n > 0 && (group->name_len != len ||
			     memcmp(group->name, name, len) != 0) &&
	    names_deliver(scan)) {
		*ret_stop = true;
		return 0;
	}
	if (evfs_grow((void **)&group->rows, group->n, &group->cap,
		      sizeof(*group->rows)) != 0)
		return evfs_err_set(err, EVFS_ENOMEM, "names: out of memory");
	memcpy(group->name, name, len);
	group->name_len = len;
	row = &group->rows[group->n];
	row->name = group->name;
	row->name_len = len;
	row->kind = (enum evfs_kind)(flags & NAME_KIND_MASK);
	row->multi = (flags & NAME_MULTI) != 0;
	row->link.time_ns = (uint64_t)sqlite3_column_int64(stmt, 3);
	rc = evfs_facts_dot(scan->facts, sqlite3_column_int64(stmt, 1),
			    &row->ino, err);
	if (rc == 0)
		rc = evfs_facts_dot(scan->facts, sqlite3_column_int64(stmt, 2),
				    &row->link.dot, err);
	if (rc == 0)
		group->n++;
	return rc;
}

static int names_run(struct names_scan *scan, sqlite3_stmt *stmt,
		     const void *name, size_t name_len, struct evfs_err *err)
{
	struct evfs_db *db = scan->facts->meta->db;
	bool stop = false;
	int rc;

	while (!stop && (rc = evfs_db_step(db, stmt, err)) > 0) {
		rc = names_gather(scan, stmt, &stop, err);
		if (rc != 0)
			break;
	}
	if (!stop && rc == 0 && scan->parent != NULL)
		names_note(scan, name, name_len);
	if (!stop && rc == 0)
		names_deliver(scan);
	evfs_free(scan->group.rows);
	return stop ? 0 : rc;
}

/* ---- writing ---- */

static int names_note_dir(struct evfs_facts *facts, evfs_ino parent,
			  const struct evfs_name_row *row, bool added,
			  struct evfs_err *err)
{
	int64_t key;
	int rc = 0;

	if (row->kind == EVFS_KIND_DIR)
		rc = evfs_facts_key(facts, parent, false, &key, err);
	if (row->kind == EVFS_KIND_DIR && rc > 0)
		evfs_dirs_subdir_changed(facts, (uint64_t)key, added);
	return rc < 0 ? rc : 0;
}

static int names_bind(struct evfs_facts *facts, sqlite3_stmt *stmt,
		      evfs_ino parent, const struct evfs_name_row *row,
		      struct evfs_err *err)
{
	int64_t keys[3];
	int rc = evfs_facts_key(facts, parent, true, &keys[0], err);

	if (rc >= 0)
		rc = evfs_facts_key(facts, row->ino, true, &keys[1], err);
	if (rc >= 0)
		rc = evfs_facts_key(facts, row->link.dot, true, &keys[2], err);
	if (rc < 0)
		return rc;
	sqlite3_bind_int64(stmt, 1, keys[0]);
	sqlite3_bind_blob(stmt, 2, row->name, (int)row->name_len,
			  SQLITE_STATIC);
	sqlite3_bind_int64(stmt, 3, keys[1]);
	sqlite3_bind_int64(stmt, 4, keys[2]);
	sqlite3_bind_int64(stmt, 5, (sqlite3_int64)row->link.time_ns);
	return 0;
}

int evfs_facts_name_put(struct evfs_facts *facts, evfs_ino parent,
			const struct evfs_name_row *row, struct evfs_err *err)
{
	evfs_cleanup_stmt sqlite3_stmt *stmt = NULL;
	int rc = evfs_meta_begin_write(facts->meta, err);

	if (rc == 0)
		rc = evfs_db_prepare(facts->meta->db,
				     "INSERT OR REPLACE INTO "
				     "name(parent, name, object, link, time, "
				     "flags) VALUES(?1, ?2, ?3, ?4, ?5, ?6)",
				     &stmt, err);
	if (rc == 0)
		rc = names_bind(facts, stmt, parent, row, err);
	if (rc != 0)
		return rc;
	sqlite3_bind_int(stmt, 6,
			 (int)row->kind | (row->multi ? NAME_MULTI : 0));
	rc = names_change(facts, stmt, parent, row, true, err);
	return rc == 0 ? names_note_dir(facts, parent, row, true, err) : rc;
}

int evfs_facts_name_remove(struct evfs_facts *facts, evfs_ino parent,
			   const struct evfs_name_row *row,
			   struct evfs_err *err)
{
	evfs_cleanup_stmt sqlite3_stmt *stmt = NULL;
	int rc = evfs_meta_begin_write(facts->meta, err);

	if (rc == 0)
		rc = evfs_db_prepare(facts->meta->db,
				     "DELETE FROM name WHERE parent = ?1 AND "
				     "name = ?2 AND object = ?3 AND link = ?4 "
				     "AND time = ?5",
				     &stmt, err);
	if (rc == 0)
		rc = names_bind(facts, stmt, parent, row, err);
	if (rc != 0)
		return rc;
	rc = names_change(facts, stmt, parent, row, false, err);
	return rc == 0 ? names_note_dir(facts, parent, row, false, err) : rc;
}

/* ---- reading ---- */

/* Rows of one directory in the order of a statement whose parameters are the
 * parent and, where there is one, a name. max: 0 = no limit. */
static int names_read(struct names_scan *scan, const char *sql_literal,
		      evfs_ino parent, const void *name, size_t name_len,
		      size_t max, struct evfs_err *err)
{
	evfs_cleanup_stmt sqlite3_stmt *stmt = NULL;
	int64_t key;
	int rc = evfs_facts_key(scan->facts, parent, false, &key, err);

	if (rc <= 0)
		return rc;
	rc = evfs_db_prepare(scan->facts->meta->db, sql_literal, &stmt, err);
	if (rc != 0)
		return rc;
	sqlite3_bind_int64(stmt, 1, key);
	if (name != NULL)
		sqlite3_bind_blob(stmt, 2, name, (int)name_len, SQLITE_STATIC);
	scan->left = max == 0 ? SIZE_MAX : max;
	return names_run(scan, stmt, name, name_len, err);
}

int evfs_facts_names_at(struct evfs_facts *facts, evfs_ino parent,
			const void *name, size_t name_len,
			int (*each)(void *arg, const struct evfs_name_row *row),
			void *arg, struct evfs_err *err)
{
	struct names_scan scan = { .facts = facts, .each = each, .arg = arg,
				   .parent = &parent };
	const struct evfs_known_name *known =
		names_find(facts, parent, name, name_len);

	if (known != NULL) {
		names_repeat(known, each, arg);
		return 0;
	}
	return names_read(&scan,
			  "SELECT name, object, link, time, flags "
			  "FROM name WHERE parent = ?1 AND name = ?2",
			  parent, name, name_len, 0, err);
}

int evfs_facts_names_after(struct evfs_facts *facts, evfs_ino parent,
			   const void *after, size_t after_len, size_t max,
			   int (*each)(void *arg,
				       const struct evfs_name_row *row),
			   void *arg, struct evfs_err *err)
{
	struct names_scan scan = { .facts = facts, .each = each, .arg = arg };

	/* No name is empty, so X'' stands for the start. */
	return names_read(&scan,
			  "SELECT name, object, link, time, flags "
			  "FROM name WHERE parent = ?1 AND name > ?2 "
			  "ORDER BY name",
			  parent, after == NULL ? "" : after,
			  after == NULL ? 0 : after_len, max, err);
}

int evfs_facts_subdirs(struct evfs_facts *facts, evfs_ino parent,
		       int (*each)(void *arg, const struct evfs_name_row *row),
		       void *arg, struct evfs_err *err)
{
	struct names_scan scan = { .facts = facts, .each = each, .arg = arg };

	return names_read(&scan,
			  "SELECT name, object, link, time, 2 FROM name "
			  "INDEXED BY name_dir "
			  "WHERE parent = ?1 AND flags = 2 ORDER BY name",
			  parent, NULL, 0, 0, err);
}
