/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Past versions. Each row holds a reference on its content; the sum of sizes
 * is kept as a counter, in the transaction. Paths are bytes: they sort as
 * names do, and what lies below a directory is one range of them. */
#include "meta/history.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

#include "base/mem.h"
#include "meta/config.h"
#include "meta/content.h"
#include "meta/facts_priv.h"
#include "meta/store.h"
#include "meta/view.h"

#define HISTORY_DAY_NS UINT64_C(86400000000000)

void evfs_past_id(evfs_dot dot, char text[17])
{
	uint8_t bytes[EVFS_DOT_BYTES];
	evfs_hash hash;

	evfs_dot_write(dot, bytes);
	hash = evfs_hash_bytes(bytes, sizeof(bytes));
	(void)snprintf(text, 17, "%016" PRIx64, evfs_be64_read(hash.b));
}

int evfs_history_add(struct evfs_meta *meta, const struct evfs_past *past,
		     struct evfs_err *err)
{
	evfs_cleanup_stmt sqlite3_stmt *stmt = NULL;
	int64_t object;
	int64_t dot;
	int rc = evfs_meta_begin_write(meta, err);

	if (rc == 0)
		rc = evfs_facts_key(meta->facts, past->ino, true, &object,
				    err);
	if (rc >= 0)
		rc = evfs_facts_key(meta->facts, past->dot, true, &dot, err);
	if (rc >= 0)
		rc = evfs_db_prepare(meta->db,
				     "INSERT INTO history(object, dot, "
				     "content, size, mtime_s, mtime_ns, "
				     "written, ended, deleted, path) "
				     "VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10)",
				     &stmt, err);
	if (rc < 0)
		return rc;
	sqlite3_bind_int64(stmt, 1, object);
	sqlite3_bind_int64(stmt, 2, dot);
	sqlite3_bind_blob(stmt, 3, past->content.b, EVFS_HASH_SIZE,
			  SQLITE_STATIC);
	sqlite3_bind_int64(stmt, 4, (sqlite3_int64)past->size);
	sqlite3_bind_int64(stmt, 5, past->mtime_s);
	sqlite3_bind_int64(stmt, 6, past->mtime_ns);
	sqlite3_bind_int64(stmt, 7, (sqlite3_int64)past->written_ns);
	sqlite3_bind_int64(stmt, 8, (sqlite3_int64)past->ended_ns);
	sqlite3_bind_int(stmt, 9, past->deleted);
	if (past->path != NULL)
		sqlite3_bind_blob(stmt, 10, past->path,
				  (int)strlen(past->path), SQLITE_STATIC);
	rc = evfs_db_run(meta->db, stmt, err);
	if (rc != 0)
		return rc;
	evfs_facts_counter_add(meta->facts,
			       (enum evfs_counter)EVFS_COUNTER_HISTORY_BYTES,
			       (int64_t)past->size);
	return evfs_content_ref(meta->content, &past->content, past->size,
				false, err);
}

/* ---- reading ---- */

/* Columns: object, dot, content, size, mtime_s, mtime_ns, written, ended,
 * deleted, path. The path is copied to *path (freed by the caller). */
static int history_row(struct evfs_meta *meta, sqlite3_stmt *stmt,
		       struct evfs_past *ret, char **path,
		       struct evfs_err *err)
{
	const void *bytes = sqlite3_column_blob(stmt, 9);
	size_t len = (size_t)sqlite3_column_bytes(stmt, 9);
	const void *content = sqlite3_column_blob(stmt, 2);
	int rc;

	memset(ret, 0, sizeof(*ret));
	if (content == NULL || sqlite3_column_bytes(stmt, 2) != EVFS_HASH_SIZE)
		return evfs_err_set(err, EVFS_ECORRUPT,
				    "database is damaged: a history row");
	rc = evfs_facts_dot(meta->facts, sqlite3_column_int64(stmt, 0),
			    &ret->ino, err);
	if (rc == 0)
		rc = evfs_facts_dot(meta->facts, sqlite3_column_int64(stmt, 1),
				    &ret->dot, err);
	if (rc != 0)
		return rc;
	memcpy(ret->content.b, content, EVFS_HASH_SIZE);
	ret->size = (uint64_t)sqlite3_column_int64(stmt, 3);
	ret->mtime_s = sqlite3_column_int64(stmt, 4);
	ret->mtime_ns = (uint32_t)sqlite3_column_int64(stmt, 5);
	ret->written_ns = (uint64_t)sqlite3_column_int64(stmt, 6);
	ret->ended_ns = (uint64_t)sqlite3_column_int64(stmt, 7);
	ret->deleted = sqlite3_column_int(stmt, 8) != 0;
	evfs_free(*path);
	*path = evfs_calloc(len + 1, 1);
	if (*path == NULL)
		return evfs_err_set(err, EVFS_ENOMEM, "history: out of memory");
	if (len > 0)
		memcpy(*path, bytes, len);
	ret->path = *path;
	return 0;
}

/* Dots that were handed out already: a version that was removed, came back and
 * was replaced has two rows, and is told once. */
struct history_seen {
	evfs_dot *dots; /* owned */
	size_t n;
	size_t cap;
};

/* 1: it is new, and noted; 0: seen; negative: no memory. */
static int history_note(struct history_seen *seen, evfs_dot dot)
{
	size_t i;

	for (i = 0; i < seen->n; i++) {
		if (evfs_dot_equal(seen->dots[i], dot))
			return 0;
	}
	if (evfs_grow((void **)&seen->dots, seen->n, &seen->cap,
		      sizeof(*seen->dots)) != 0)
		return EVFS_ENOMEM;
	seen->dots[seen->n++] = dot;
	return 1;
}

/* The versions that one link of an entry shows now. 1: enough was seen. */
static int history_current(struct evfs_meta *meta,
			   const struct evfs_member_link *link,
			   const char *path, struct history_seen *seen,
			   int (*each)(void *arg, const struct evfs_past *past),
			   void *arg, struct evfs_err *err)
{
	size_t i;

	for (i = 0; i < link->n_dots; i++) {
		const struct evfs_object *object;
		const struct evfs_version *version;
		struct evfs_past past;
		int rc = evfs_facts_get(meta->facts, link->ino, &object, err);

		if (rc != 0)
			return rc;
		version = object == NULL ?
				  NULL :
				  evfs_object_find_version(object,
							   link->dots[i]);
		if (version == NULL)
			continue;
		past = (struct evfs_past){ .ino = link->ino,
					   .dot = version->dot,
					   .content = version->content,
					   .size = version->size,
					   .mtime_s = version->mtime_s,
					   .mtime_ns = version->mtime_ns,
					   .written_ns = version->time_ns,
					   .path = path };
		rc = history_note(seen, past.dot);
		if (rc < 0)
			return evfs_err_set(err, rc, "history: out of memory");
		if (rc > 0 && each(arg, &past) != 0)
			return 1;
	}
	return 0;
}

static int history_log_now(struct evfs_meta *meta, const char *path,
			   struct history_seen *seen,
			   int (*each)(void *arg,
				       const struct evfs_past *past),
			   void *arg, struct evfs_err *err)
{
	struct evfs_entry entry = { 0 };
	struct evfs_err local = { 0 };
	size_t i;
	int rc = evfs_view_path(meta, path, &entry, &local);

	if (rc == EVFS_ENOTFOUND || rc == EVFS_ENOTDIR)
		return 0;
	if (rc != 0) {
		if (err != NULL)
			*err = local;
		return rc;
	}
	for (i = 0; rc == 0 && i < entry.n_members; i++)
		rc = history_current(meta, &entry.members[i], path, seen, each,
				     arg, err);
	evfs_entry_fini(&entry);
	return rc;
}

int evfs_history_log(struct evfs_meta *meta, const char *path,
		     int (*each)(void *arg, const struct evfs_past *past),
		     void *arg, struct evfs_err *err)
{
	evfs_cleanup_stmt sqlite3_stmt *stmt = NULL;
	evfs_cleanup_free char *copy = NULL;
	struct history_seen seen = { 0 };
	struct evfs_past past;
	int rc = history_log_now(meta, path, &seen, each, arg, err);

	if (rc == 0)
		rc = evfs_db_prepare(meta->db,
				     "SELECT object, dot, content, size, "
				     "mtime_s, mtime_ns, written, ended, "
				     "deleted, path FROM history "
				     "WHERE path = ?1 "
				     "ORDER BY ended DESC, written DESC",
				     &stmt, err);
	if (rc == 0)
		sqlite3_bind_blob(stmt, 1, path, (int)strlen(path),
				  SQLITE_STATIC);
	while (rc == 0 && (rc = evfs_db_step(meta->db, stmt, err)) > 0) {
		rc = history_row(meta, stmt, &past, &copy, err);
		if (rc != 0)
			break;
		rc = history_note(&seen, past.dot);
		if (rc < 0)
			evfs_err_set(err, rc, "history: out of memory");
		else if (rc > 0)
			rc = each(arg, &past) != 0;
	}
	evfs_free(seen.dots);
	return rc > 0 ? 0 : rc;
}

/* Binds the range of paths below a directory ("/" or "/a/b"): from "DIR/" to
 * "DIR0", for '0' follows '/'. */
static int history_bind_below(sqlite3_stmt *stmt, const char *dir,
			      struct evfs_err *err)
{
	size_t len = strlen(dir);
	char *bounds;

	while (len > 0 && dir[len - 1] == '/')
		len--;
	bounds = evfs_calloc(2, len + 1);
	if (bounds == NULL)
		return evfs_err_set(err, EVFS_ENOMEM, "history: out of memory");
	memcpy(bounds, dir, len);
	bounds[len] = '/';
	memcpy(bounds + len + 1, dir, len);
	bounds[2 * len + 1] = '0';
	sqlite3_bind_blob(stmt, 1, bounds, (int)len + 1, SQLITE_TRANSIENT);
	sqlite3_bind_blob(stmt, 2, bounds + len + 1, (int)len + 1,
			  SQLITE_TRANSIENT);
	evfs_free(bounds);
	return 0;
}

/* Files that were told of already. */
struct history_told {
	struct evfs_idmap_node node; /* first; id = key of the object */
};

/* 1: to be told, and noted; 0: told already, or the file lives. */
static int history_is_gone(struct evfs_meta *meta, struct evfs_idmap *told,
			   int64_t key, evfs_ino ino, struct evfs_err *err)
{
	const struct evfs_object *object;
	struct history_told *mark;
	int rc;

	if (evfs_idmap_get(told, (uint64_t)key) != NULL)
		return 0;
	rc = evfs_facts_get(meta->facts, ino, &object, err);
	if (rc != 0)
		return rc;
	if (object != NULL && evfs_object_is_live(object))
		return 0;
	mark = evfs_calloc(1, sizeof(*mark));
	if (mark != NULL)
		mark->node.id = (uint64_t)key;
	if (mark == NULL || evfs_idmap_put(told, &mark->node) != 0) {
		evfs_free(mark);
		return evfs_err_set(err, EVFS_ENOMEM, "history: out of memory");
	}
	return 1;
}

int evfs_history_deleted(struct evfs_meta *meta, const char *dir,
			 int (*each)(void *arg, const struct evfs_past *past),
			 void *arg, struct evfs_err *err)
{
	evfs_cleanup_stmt sqlite3_stmt *stmt = NULL;
	evfs_cleanup_free char *copy = NULL;
	struct evfs_idmap told = { 0 };
	struct evfs_idmap_node *node;
	struct evfs_past past;
	size_t at = 0;
	int rc;

	rc = evfs_db_prepare(meta->db,
			     "SELECT object, dot, content, size, mtime_s, "
			     "mtime_ns, written, ended, deleted, path "
			     "FROM history WHERE path >= ?1 AND path < ?2 "
			     "AND deleted ORDER BY ended DESC, written DESC",
			     &stmt, err);
	if (rc == 0)
		rc = history_bind_below(stmt, dir, err);
	while (rc == 0 && (rc = evfs_db_step(meta->db, stmt, err)) > 0) {
		rc = history_row(meta, stmt, &past, &copy, err);
		if (rc == 0)
			rc = history_is_gone(meta, &told,
					     sqlite3_column_int64(stmt, 0),
					     past.ino, err);
		if (rc > 0)
			rc = each(arg, &past) != 0;
	}
	while ((node = evfs_idmap_pop(&told, &at)) != NULL)
		evfs_free(node);
	evfs_idmap_fini(&told);
	return rc > 0 ? 0 : rc;
}

/* ---- names below a directory ---- */

struct history_name {
	char *name;  /* owned */
	bool is_dir; /* something lies below it */
};

struct history_names {
	struct history_name *items; /* owned */
	size_t n;
	size_t cap;
};

static int history_names_cmp(const void *a, const void *b)
{
	return strcmp(((const struct history_name *)a)->name,
		      ((const struct history_name *)b)->name);
}

/* Takes the first component of what follows `skip` bytes of a path, and leaves
 * in *seek the least path that can hold another one. */
static int history_names_take(struct history_names *names,
			      const uint8_t *path, size_t len, size_t skip,
			      struct evfs_buf *seek)
{
	const uint8_t *start = path + skip;
	const uint8_t *slash = memchr(start, '/', len - skip);
	size_t part = slash == NULL ? len - skip : (size_t)(slash - start);
	char *name = evfs_calloc(part + 1, 1);

	evfs_buf_clear(seek);
	if (name == NULL ||
	    evfs_grow((void **)&names->items, names->n, &names->cap,
		      sizeof(*names->items)) != 0 ||
	    evfs_buf_put(seek, path, skip + part) != 0 ||
	    evfs_buf_put_u8(seek, slash == NULL ? 0 : '0') != 0) {
		evfs_free(name);
		return EVFS_ENOMEM;
	}
	memcpy(name, start, part);
	names->items[names->n].name = name;
	names->items[names->n].is_dir = slash != NULL;
	names->n++;
	return 0;
}

static int history_names_read(struct evfs_meta *meta, const char *dir,
			      struct history_names *names,
			      struct evfs_err *err)
{
	struct evfs_buf seek = { 0 };
	size_t skip = strlen(dir);
	int rc = 0;

	while (skip > 0 && dir[skip - 1] == '/')
		skip--;
	skip++;
	for (;;) {
		evfs_cleanup_stmt sqlite3_stmt *stmt = NULL;

		/* One seek for each name, whatever lies below it. */
		rc = evfs_db_prepare(meta->db,
				     "SELECT path FROM history WHERE "
				     "path >= ?1 AND path < ?2 "
				     "ORDER BY path LIMIT 1",
				     &stmt, err);
		if (rc == 0)
			rc = history_bind_below(stmt, dir, err);
		if (rc == 0 && seek.len > 0)
			sqlite3_bind_blob(stmt, 1, seek.data, (int)seek.len,
					  SQLITE_TRANSIENT);
		if (rc == 0)
			rc = evfs_db_step(meta->db, stmt, err);
		if (rc <= 0)
			break;
		rc = history_names_take(
			names, sqlite3_column_blob(stmt, 0),
			(size_t)sqlite3_column_bytes(stmt, 0), skip, &seek);
		if (rc != 0) {
			evfs_err_set(err, rc, "history: out of memory");
			break;
		}
	}
	evfs_buf_fini(&seek);
	return rc;
}

int evfs_history_names(struct evfs_meta *meta, const char *dir,
		       int (*each)(void *arg, const char *name, bool is_dir),
		       void *arg, struct evfs_err *err)
{
	struct history_names names = { 0 };
	int rc = history_names_read(meta, dir, &names, err);
	bool stop = rc != 0;
	size_t i;

	/* "a" as a file and "a/b" are one name: a directory. */
	if (names.n > 1)
		qsort(names.items, names.n, sizeof(*names.items),
		      history_names_cmp);
	for (i = 0; i < names.n; i++) {
		bool is_dir = names.items[i].is_dir;
		size_t next = i + 1;

		while (next < names.n && strcmp(names.items[i].name,
						names.items[next].name) == 0)
			is_dir |= names.items[next++].is_dir;
		if (!stop)
			stop = each(arg, names.items[i].name, is_dir) != 0;
		i = next - 1;
	}
	for (i = 0; i < names.n; i++)
		evfs_free(names.items[i].name);
	evfs_free(names.items);
	return rc;
}

/* ---- pruning ---- */

/* What history may take, in bytes. */
static int history_limit(struct evfs_meta *meta, int64_t *ret,
			 struct evfs_err *err)
{
	int64_t share = evfs_config_get(meta, EVFS_CONFIG_history_max);
	struct statvfs disk;

	*ret = share;
	if (share >= 0)
		return 0;
	*ret = INT64_MAX;
	if (meta->store->path == NULL)
		return 0;
	if (statvfs(meta->store->path, &disk) != 0)
		return evfs_err_set(err, EVFS_EIO, "%s: no size of the disk",
				    meta->store->path);
	*ret = (int64_t)((long double)disk.f_frsize *
			 (long double)disk.f_blocks *
			 (long double)-share / 100);
	return 0;
}

static int history_drop(struct evfs_meta *meta, int64_t row,
			const evfs_hash *content, int64_t size,
			struct evfs_err *err)
{
	evfs_cleanup_stmt sqlite3_stmt *stmt = NULL;
	int rc = evfs_meta_begin_write(meta, err);

	if (rc == 0)
		rc = evfs_db_prepare(meta->db,
				     "DELETE FROM history WHERE id = ?1",
				     &stmt, err);
	if (rc != 0)
		return rc;
	sqlite3_bind_int64(stmt, 1, row);
	rc = evfs_db_run(meta->db, stmt, err);
	if (rc != 0)
		return rc;
	evfs_facts_counter_add(meta->facts,
			       (enum evfs_counter)EVFS_COUNTER_HISTORY_BYTES,
			       -size);
	return evfs_content_unref(meta->content, content, false, err);
}

/* Drops the oldest row where it has to go: 1; 0: none has to. */
static int history_prune_one(struct evfs_meta *meta, uint64_t before_ns,
			     int64_t limit, struct evfs_err *err)
{
	evfs_cleanup_stmt sqlite3_stmt *stmt = NULL;
	int64_t bytes = meta->facts->counters[EVFS_COUNTER_HISTORY_BYTES];
	evfs_hash content;
	const void *hash;
	int rc;

	rc = evfs_db_prepare(meta->db,
			     "SELECT id, content, size, ended FROM history "
			     "ORDER BY ended LIMIT 1",
			     &stmt, err);
	if (rc == 0)
		rc = evfs_db_step(meta->db, stmt, err);
	if (rc <= 0)
		return rc;
	if ((uint64_t)sqlite3_column_int64(stmt, 3) >= before_ns &&
	    bytes <= limit)
		return 0;
	hash = sqlite3_column_blob(stmt, 1);
	if (hash == NULL || sqlite3_column_bytes(stmt, 1) != EVFS_HASH_SIZE)
		return evfs_err_set(err, EVFS_ECORRUPT,
				    "database is damaged: a history row");
	memcpy(content.b, hash, EVFS_HASH_SIZE);
	rc = history_drop(meta, sqlite3_column_int64(stmt, 0), &content,
			  sqlite3_column_int64(stmt, 2), err);
	return rc == 0 ? 1 : rc;
}

int evfs_history_prune(struct evfs_meta *meta, size_t max, bool *ret_more,
		       struct evfs_err *err)
{
	uint64_t now = meta->store->env->wall_ns(meta->store->env->ctx);
	uint64_t keep = (uint64_t)evfs_config_get(meta,
						  EVFS_CONFIG_history_days) *
			HISTORY_DAY_NS;
	int64_t limit;
	size_t n = 0;
	int rc = history_limit(meta, &limit, err);

	if (rc != 0)
		return rc;
	do {
		rc = history_prune_one(meta, now > keep ? now - keep : 0,
				       limit, err);
	} while (rc > 0 && ++n < max);
	if (rc < 0)
		return rc;
	*ret_more = rc > 0;
	return 0;
}
