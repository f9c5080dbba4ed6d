/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Derived state of directories: needed or not, and when their entries last
 * changed. Cached; the time is written at commit only, because nearly every
 * operation changes it. */
#include <assert.h>

#include "base/mem.h"
#include "meta/facts_priv.h"

/* 1: *ret; 0: the actor is unknown, nothing is known of the directory. */
static int dirs_get(struct evfs_facts *facts, evfs_ino dir, bool create,
		    struct evfs_dir_state **ret, struct evfs_err *err)
{
	evfs_cleanup_stmt sqlite3_stmt *stmt = NULL;
	struct evfs_dir_state *state;
	int64_t key;
	int rc = evfs_facts_key(facts, dir, create, &key, err);

	if (rc <= 0)
		return rc;
	*ret = (struct evfs_dir_state *)evfs_idmap_get(&facts->dirs,
						       (uint64_t)key);
	if (*ret != NULL)
		return 1;
	rc = evfs_db_prepare(facts->meta->db,
			     "SELECT needed, changed FROM dir WHERE id = ?1",
			     &stmt, err);
	if (rc != 0)
		return rc;
	sqlite3_bind_int64(stmt, 1, key);
	rc = evfs_db_step(facts->meta->db, stmt, err);
	if (rc < 0)
		return rc;
	state = evfs_calloc(1, sizeof(*state));
	if (state != NULL) {
		state->node.id = (uint64_t)key;
		state->needed = rc > 0 && sqlite3_column_int(stmt, 0) != 0;
		state->subdirs = -1;
		state->changed_ns =
			rc > 0 ? (uint64_t)sqlite3_column_int64(stmt, 1) : 0;
	}
	if (state == NULL ||
	    evfs_idmap_put(&facts->dirs, &state->node) != 0) {
		evfs_free(state);
		return evfs_err_set(err, EVFS_ENOMEM,
				    "directory: out of memory");
	}
	*ret = state;
	return 1;
}

static int dirs_note(struct evfs_facts *facts,
		     const struct evfs_dir_state *state, struct evfs_err *err)
{
	int rc = evfs_facts_reserve_undo(facts, err);
	struct evfs_undo undo = { .id = state->node.id,
				  .is_dir = true,
				  .changed_ns = state->changed_ns,
				  .needed = state->needed,
				  .dirty = state->dirty };

	if (rc == 0)
		evfs_facts_note_undo(facts, &undo);
	return rc;
}

static void dirs_set_dirty(struct evfs_facts *facts,
			   struct evfs_dir_state *state, bool dirty)
{
	if (dirty == state->dirty)
		return;
	state->dirty = dirty;
	if (dirty) {
		state->dirty_prev = NULL;
		state->dirty_next = facts->dirty_dirs;
		if (state->dirty_next != NULL)
			state->dirty_next->dirty_prev = state;
		facts->dirty_dirs = state;
		return;
	}
	if (state->dirty_next != NULL)
		state->dirty_next->dirty_prev = state->dirty_prev;
	if (state->dirty_prev != NULL)
		state->dirty_prev->dirty_next = state->dirty_next;
	else
		facts->dirty_dirs = state->dirty_next;
}

void evfs_dirs_undo(struct evfs_facts *facts, const struct evfs_undo *undo)
{
	struct evfs_dir_state *state = (struct evfs_dir_state *)evfs_idmap_get(
		&facts->dirs, undo->id);

	assert(state != NULL);
	state->changed_ns = undo->changed_ns;
	state->needed = undo->needed;
	state->subdirs = -1;
	dirs_set_dirty(facts, state, undo->dirty);
}

void evfs_dirs_drop(struct evfs_facts *facts)
{
	struct evfs_idmap_node *node;
	size_t at = 0;

	while ((node = evfs_idmap_pop(&facts->dirs, &at)) != NULL)
		evfs_free(node);
	facts->dirty_dirs = NULL;
}

void evfs_dirs_trim(struct evfs_facts *facts)
{
	if (facts->dirs.n > EVFS_FACTS_CACHE_DIRS &&
	    facts->dirty_dirs == NULL && !facts->save.open)
		evfs_dirs_drop(facts);
}

static int dirs_write(struct evfs_facts *facts, struct evfs_dir_state *state,
		      struct evfs_err *err)
{
	evfs_cleanup_stmt sqlite3_stmt *stmt = NULL;
	int rc;

	rc = evfs_db_prepare(facts->meta->db,
			     "INSERT OR REPLACE INTO dir(id, needed, changed) "
			     "VALUES(?1, ?2, ?3)",
			     &stmt, err);
	if (rc != 0)
		return rc;
	sqlite3_bind_int64(stmt, 1, (sqlite3_int64)state->node.id);
	sqlite3_bind_int(stmt, 2, state->needed);
	sqlite3_bind_int64(stmt, 3, (sqlite3_int64)state->changed_ns);
	rc = evfs_db_run(facts->meta->db, stmt, err);
	if (rc == 0)
		dirs_set_dirty(facts, state, false);
	return rc;
}

int evfs_dirs_forget(struct evfs_facts *facts, uint64_t key,
		     struct evfs_err *err)
{
	evfs_cleanup_stmt sqlite3_stmt *stmt = NULL;
	struct evfs_dir_state *state =
		(struct evfs_dir_state *)evfs_idmap_get(&facts->dirs, key);
	int rc = state == NULL ? 0 : dirs_note(facts, state, err);

	if (rc == 0 && state != NULL) {
		state->changed_ns = 0;
		state->needed = false;
		dirs_set_dirty(facts, state, false);
	}
	if (rc == 0)
		rc = evfs_db_prepare(facts->meta->db,
				     "DELETE FROM dir WHERE id = ?1", &stmt,
				     err);
	if (rc != 0)
		return rc;
	sqlite3_bind_int64(stmt, 1, (sqlite3_int64)key);
	return evfs_db_run(facts->meta->db, stmt, err);
}

int evfs_dirs_flush(struct evfs_facts *facts, struct evfs_err *err)
{
	int rc = 0;

	while (rc == 0 && facts->dirty_dirs != NULL)
		rc = dirs_write(facts, facts->dirty_dirs, err);
	return rc;
}

int evfs_facts_is_needed(struct evfs_facts *facts, evfs_ino dir, bool *ret,
			 struct evfs_err *err)
{
	struct evfs_dir_state *state;
	int rc;

	if (evfs_ino_is_root(dir) || evfs_ino_is_lost(dir)) {
		*ret = true;
		return 0;
	}
	rc = dirs_get(facts, dir, false, &state, err);
	if (rc < 0)
		return rc;
	*ret = rc > 0 && state->needed;
	return 0;
}

int evfs_facts_set_needed(struct evfs_facts *facts, evfs_ino dir, bool needed,
			  struct evfs_err *err)
{
	struct evfs_dir_state *state;
	int rc = evfs_meta_begin_write(facts->meta, err);

	if (rc == 0)
		rc = dirs_get(facts, dir, true, &state, err);
	if (rc < 0)
		return rc;
	if (state->needed == needed)
		return 0;
	rc = dirs_note(facts, state, err);
	if (rc != 0)
		return rc;
	state->needed = needed;
	return dirs_write(facts, state, err);
}

int evfs_facts_dir_changed(struct evfs_facts *facts, evfs_ino dir,
			   uint64_t *ret_ns, struct evfs_err *err)
{
	struct evfs_dir_state *state;
	int rc = dirs_get(facts, dir, false, &state, err);

	if (rc < 0)
		return rc;
	*ret_ns = rc > 0 ? state->changed_ns : 0;
	return 0;
}

int evfs_facts_raise_dir_changed(struct evfs_facts *facts, evfs_ino dir,
				 uint64_t ns, struct evfs_err *err)
{
	struct evfs_dir_state *state;
	int rc = evfs_meta_begin_change(facts->meta, err);

	if (rc == 0)
		rc = dirs_get(facts, dir, true, &state, err);
	if (rc < 0)
		return rc;
	if (ns <= state->changed_ns)
		return 0;
	rc = dirs_note(facts, state, err);
	if (rc != 0)
		return rc;
	state->changed_ns = ns;
	dirs_set_dirty(facts, state, true);
	return 0;
}

/* ---- subdirectories ---- */

static int count_subdirs(struct evfs_facts *facts, int64_t key, int *ret,
			 struct evfs_err *err)
{
	evfs_cleanup_stmt sqlite3_stmt *stmt = NULL;
	int rc;

	rc = evfs_db_prepare(facts->meta->db,
			     "SELECT count(*) FROM (SELECT DISTINCT name "
			     "FROM name INDEXED BY name_dir "
			     "WHERE parent = ?1 AND flags = 2 LIMIT ?2)",
			     &stmt, err);
	if (rc != 0)
		return rc;
	sqlite3_bind_int64(stmt, 1, key);
	sqlite3_bind_int(stmt, 2, EVFS_SUBDIRS_MAX + 1);
	rc = evfs_db_step(facts->meta->db, stmt, err);
	if (rc <= 0)
		return rc;
	*ret = sqlite3_column_int(stmt, 0);
	return 0;
}

int evfs_facts_count_subdirs(struct evfs_facts *facts, evfs_ino parent,
			     int *ret, struct evfs_err *err)
{
	struct evfs_dir_state *state;
	int rc = dirs_get(facts, parent, false, &state, err);

	*ret = 0;
	if (rc <= 0)
		return rc;
	if (state->subdirs < 0) {
		rc = count_subdirs(facts, (int64_t)state->node.id, ret, err);
		/* What a rollback takes back must not be remembered. */
		if (rc == 0 && !facts->save.open)
			state->subdirs = *ret;
		return rc;
	}
	*ret = state->subdirs;
	return 0;
}

void evfs_dirs_subdir_changed(struct evfs_facts *facts, uint64_t key,
			      bool added)
{
	struct evfs_dir_state *state =
		(struct evfs_dir_state *)evfs_idmap_get(&facts->dirs, key);

	/* "More" stays so with one more; else it is counted again. */
	if (state != NULL &&
	    !(added && state->subdirs > EVFS_SUBDIRS_MAX))
		state->subdirs = -1;
}
