/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The rows behind the lives of a replica: audits that are done, how far it had
 * come when it was last on its own, what was made since. */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "meta/life_priv.h"
#include "meta/members.h"
#include "meta/store.h"

int evfs_life_is_done(struct evfs_meta *meta, uint64_t node, bool *ret,
		      struct evfs_err *err)
{
	evfs_cleanup_stmt sqlite3_stmt *stmt = NULL;
	int rc = evfs_db_prepare(meta->db,
				 "SELECT 1 FROM audit WHERE node = ?1", &stmt,
				 err);

	if (rc != 0)
		return rc;
	sqlite3_bind_int64(stmt, 1, (sqlite3_int64)node);
	rc = evfs_db_step(meta->db, stmt, err);
	if (rc < 0)
		return rc;
	*ret = rc > 0;
	return 0;
}

int evfs_life_audited(struct evfs_meta *meta, uint64_t node,
		      struct evfs_err *err)
{
	evfs_cleanup_stmt sqlite3_stmt *stmt = NULL;
	int rc = evfs_meta_begin_write(meta, err);

	if (rc == 0)
		rc = evfs_db_prepare(meta->db,
				     "INSERT OR IGNORE INTO audit(node) "
				     "VALUES(?1)",
				     &stmt, err);
	if (rc != 0)
		return rc;
	sqlite3_bind_int64(stmt, 1, (sqlite3_int64)node);
	return evfs_db_run(meta->db, stmt, err);
}

int evfs_life_objects(struct evfs_meta *meta, int64_t *cursor, evfs_ino *ret,
		      int64_t *ret_keys, size_t max, size_t *ret_n,
		      struct evfs_err *err)
{
	evfs_cleanup_stmt sqlite3_stmt *stmt = NULL;
	int rc = evfs_facts_flush_objects(meta->facts, err);

	if (rc == 0)
		rc = evfs_db_prepare(meta->db,
				     "SELECT id FROM object WHERE id > ?1 "
				     "ORDER BY id",
				     &stmt, err);
	if (rc != 0)
		return rc;
	sqlite3_bind_int64(stmt, 1, *cursor);
	return evfs_facts_list(meta->facts, stmt, ret, ret_keys, max, ret_n,
			       cursor, err);
}

int evfs_life_beyond(struct evfs_meta *meta, evfs_actor actor,
		     uint64_t *counter, evfs_ino *ret, size_t max,
		     size_t *ret_n, struct evfs_err *err)
{
	evfs_cleanup_stmt sqlite3_stmt *stmt = NULL;
	int64_t id = evfs_actors_find(&meta->facts->actors, actor);
	int64_t last = 0;
	int rc;

	*ret_n = 0;
	if (id < 0)
		return 0;
	rc = evfs_facts_flush_objects(meta->facts, err);
	if (rc == 0)
		rc = evfs_db_prepare(
			meta->db,
			"SELECT object, dot FROM dotlog "
			"WHERE dot > ?1 AND dot <= ?2 ORDER BY dot",
			&stmt, err);
	if (rc != 0)
		return rc;
	sqlite3_bind_int64(stmt, 1, evfs_key_make((uint64_t)id, *counter));
	sqlite3_bind_int64(stmt, 2,
			   evfs_key_make((uint64_t)id, EVFS_KEY_COUNTER_MAX));
	rc = evfs_facts_list(meta->facts, stmt, ret, NULL, max, ret_n, &last,
			     err);
	if (rc == 0 && *ret_n > 0)
		*counter = evfs_key_counter(last);
	return rc;
}

int evfs_life_greatest(struct evfs_meta *meta, evfs_actor actor, uint64_t *ret,
		       struct evfs_err *err)
{
	evfs_cleanup_stmt sqlite3_stmt *stmt = NULL;
	int64_t id = evfs_actors_find(&meta->facts->actors, actor);
	int rc;

	*ret = 0;
	if (id < 0)
		return 0;
	rc = evfs_facts_flush_objects(meta->facts, err);
	if (rc == 0)
		rc = evfs_db_prepare(meta->db,
				     "SELECT max(dot) FROM dotlog "
				     "WHERE dot > ?1 AND dot <= ?2",
				     &stmt, err);
	if (rc != 0)
		return rc;
	sqlite3_bind_int64(stmt, 1, evfs_key_make((uint64_t)id, 0));
	sqlite3_bind_int64(stmt, 2,
			   evfs_key_make((uint64_t)id, EVFS_KEY_COUNTER_MAX));
	rc = evfs_db_step(meta->db, stmt, err);
	if (rc < 0)
		return rc;
	if (rc > 0 && sqlite3_column_type(stmt, 0) != SQLITE_NULL)
		*ret = evfs_key_counter(sqlite3_column_int64(stmt, 0));
	return 0;
}

/* ---- being alone ----
 * `alone`: the counter at the first start since a member was last met. Whatever
 * was restored since then was restored before that start, so dots up to it
 * were used once only. */

int evfs_life_note_start(struct evfs_meta *meta, struct evfs_err *err)
{
	uint64_t met = 0;
	uint64_t alone = 0;
	bool found = false;
	int rc = evfs_state_get(meta->db, "met", &met, &found, err);

	meta->store->found = meta->store->counter;
	if (rc == 0)
		rc = evfs_state_get(meta->db, "alone", &alone, &found, err);
	if (rc != 0 || (found && met == 0))
		return rc;
	rc = evfs_state_set(meta->db, "alone", meta->store->counter, err);
	return rc == 0 ? evfs_state_set(meta->db, "met", 0, err) : rc;
}

int evfs_life_note_contact(struct evfs_meta *meta, struct evfs_err *err)
{
	uint64_t met = 0;
	bool found = false;
	int rc = evfs_state_get(meta->db, "met", &met, &found, err);

	if (rc != 0 || met != 0)
		return rc;
	rc = evfs_meta_begin_write(meta, err);
	return rc == 0 ? evfs_state_set(meta->db, "met", 1, err) : rc;
}

int evfs_life_acknowledged(struct evfs_meta *meta, evfs_actor actor,
			   uint64_t *ret, struct evfs_err *err)
{
	struct evfs_member *members = NULL;
	struct evfs_context report = { 0 };
	bool found = false;
	size_t n = 0, i;
	int rc;

	*ret = 0;
	rc = evfs_state_get(meta->db, "alone", ret, &found, err);
	if (rc == 0)
		rc = evfs_members_list(meta, true, &members, &n, err);
	for (i = 0; i < n && rc == 0; i++) {
		rc = evfs_members_report(meta, members[i].node, &report, err);
		if (rc == 0 && evfs_context_get(&report, actor) > *ret)
			*ret = evfs_context_get(&report, actor);
	}
	evfs_context_fini(&report);
	evfs_free(members);
	if (*ret > meta->store->counter)
		*ret = meta->store->counter;
	return rc;
}

int evfs_life_lower_context(struct evfs_meta *meta, evfs_actor actor,
			    uint64_t counter, struct evfs_err *err)
{
	evfs_cleanup_stmt sqlite3_stmt *stmt = NULL;
	struct evfs_context *context = &meta->store->context;
	struct evfs_context lower = { 0 };
	size_t i;
	int rc = 0;

	for (i = 0; i < context->n && rc == 0; i++) {
		const struct evfs_context_row *row = &context->rows[i];
		bool it = evfs_actor_cmp(row->actor, actor) == 0;

		if (!it || counter > 0)
			rc = evfs_context_raise(&lower, row->actor,
						it ? counter : row->counter);
	}
	if (rc != 0) {
		evfs_context_fini(&lower);
		return evfs_err_set(err, EVFS_ENOMEM, "context: out of memory");
	}
	evfs_context_fini(context);
	*context = lower;
	/* a commit writes rows that differ, but takes none away */
	rc = evfs_db_prepare(meta->db, "DELETE FROM context WHERE actor = ?1",
			     &stmt, err);
	if (rc != 0)
		return rc;
	sqlite3_bind_int64(stmt, 1,
			   evfs_actors_find(&meta->facts->actors, actor));
	rc = evfs_db_run(meta->db, stmt, err);
	evfs_context_fini(&meta->store->stored);
	return rc;
}

/* ---- joining again ---- */

static int rejoin_member(struct evfs_meta *meta,
			 const struct evfs_meta_new *what, struct evfs_err *err)
{
	struct evfs_member member = { .node = what->node };
	bool changed;

	(void)snprintf(member.name, sizeof(member.name), "%s",
		       what->node_name);
	(void)snprintf(member.key, sizeof(member.key), "%s", what->public_key);
	member.stamp_ns = evfs_meta_stamp(meta, 0);
	return evfs_members_join(meta, &member, &changed, err);
}

static int rejoin_state(struct evfs_meta *meta,
			const struct evfs_meta_new *what, struct evfs_err *err)
{
	int rc = evfs_state_set(meta->db, "node", what->node, err);

	if (rc == 0)
		rc = evfs_state_set_bytes(meta->db, "name", what->node_name,
					  strlen(what->node_name), err);
	if (rc == 0 && what->listen != NULL)
		rc = evfs_state_set_bytes(meta->db, "listen", what->listen,
					  strlen(what->listen), err);
	if (rc == 0 && what->listen == NULL)
		rc = evfs_db_exec(meta->db,
				  "DELETE FROM state WHERE key = 'listen'",
				  err);
	return rc == 0 ? evfs_db_exec(meta->db,
				      "DELETE FROM state WHERE key = 'runs'",
				      err) :
			 rc;
}

int evfs_life_rejoin(struct evfs_meta *meta, const struct evfs_meta_new *what,
		     struct evfs_err *err)
{
	int rc = evfs_store_check_new(what, err);

	if (rc == 0)
		rc = evfs_meta_begin_write(meta, err);
	if (rc == 0)
		rc = rejoin_member(meta, what, err);
	if (rc == 0)
		rc = rejoin_state(meta, what, err);
	if (rc != 0)
		return rc;
	meta->store->actor = (evfs_actor){ what->node, 0 };
	return evfs_life_take_epoch(meta, 0, err);
}
