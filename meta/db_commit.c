/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The one open transaction: begin, commit, roll back; what is kept in memory
 * between commits; the lease of counters; checkpoints of the log. */
#include <assert.h>
#include <string.h>

#include "base/mem.h"
#include "meta/collect.h"
#include "meta/db_schema.h"
#include "meta/facts_priv.h"
#include "meta/store.h"

int evfs_store_begin(struct evfs_meta *meta, struct evfs_err *err)
{
	struct evfs_store *store = meta->store;
	int rc;

	if (store->tx_lost)
		return evfs_err_set(err, EVFS_EIO,
				    "database: an earlier write failed");
	if (store->tx_open)
		return 0;
	rc = evfs_db_run_literal(meta->db, "BEGIN IMMEDIATE", err);
	if (rc == 0)
		store->tx_open = true;
	return rc;
}

/* ---- what is kept in memory ---- */

static int commit_context_row(struct evfs_meta *meta,
			      const struct evfs_context_row *row,
			      struct evfs_err *err)
{
	evfs_cleanup_stmt sqlite3_stmt *stmt = NULL;
	int64_t id;
	int rc = evfs_actors_add(&meta->facts->actors, meta->db, row->actor,
				 err);

	if (rc == 0)
		rc = evfs_db_prepare(meta->db,
				     "INSERT OR REPLACE INTO "
				     "context(actor, counter) VALUES(?1, ?2)",
				     &stmt, err);
	if (rc != 0)
		return rc;
	id = evfs_actors_find(&meta->facts->actors, row->actor);
	sqlite3_bind_int64(stmt, 1, id);
	sqlite3_bind_int64(stmt, 2, (sqlite3_int64)row->counter);
	return evfs_db_run(meta->db, stmt, err);
}

static int commit_context(struct evfs_meta *meta, struct evfs_err *err)
{
	const struct evfs_context *now = &meta->store->context;
	const struct evfs_context *then = &meta->store->stored;
	size_t i;
	size_t j = 0;
	int rc = 0;

	for (i = 0; i < now->n && rc == 0; i++) {
		const struct evfs_context_row *row = &now->rows[i];

		while (j < then->n &&
		       evfs_actor_cmp(then->rows[j].actor, row->actor) < 0)
			j++;
		if (j < then->n &&
		    evfs_actor_cmp(then->rows[j].actor, row->actor) == 0 &&
		    then->rows[j].counter == row->counter)
			continue;
		rc = commit_context_row(meta, row, err);
	}
	return rc;
}

static int commit_flush(struct evfs_meta *meta, struct evfs_err *err)
{
	struct evfs_store *store = meta->store;
	int rc;

	if (store->lease < store->counter + EVFS_LEASE_BLOCK / 2)
		store->lease = store->counter + EVFS_LEASE_BLOCK;
	rc = evfs_facts_flush(meta->facts, err);
	if (rc == 0)
		rc = commit_context(meta, err);
	if (rc == 0)
		rc = evfs_state_set(meta->db, "counter", store->counter, err);
	if (rc == 0)
		rc = evfs_state_set(meta->db, "lease", store->lease, err);
	if (rc == 0)
		rc = evfs_state_set(meta->db, "clock", store->clock, err);
	return rc;
}

int evfs_store_commit_tx(struct evfs_meta *meta, struct evfs_err *err)
{
	struct evfs_store *store = meta->store;
	int rc;

	assert(store->tx_open && !meta->facts->save.open);
	rc = commit_flush(meta, err);
	if (rc == 0)
		rc = evfs_db_run_literal(meta->db, "COMMIT", err);
	if (rc != 0) {
		if (sqlite3_get_autocommit(evfs_db_handle(meta->db)))
			store->tx_lost = true;
		return rc;
	}
	store->tx_open = false;
	/* Out of memory: rows will be written again. */
	(void)!evfs_context_copy(&store->stored, &store->context);
	return 0;
}

void evfs_store_rollback_tx(struct evfs_meta *meta)
{
	if (!sqlite3_get_autocommit(evfs_db_handle(meta->db)))
		(void)!evfs_db_run_literal(meta->db, "ROLLBACK", NULL);
	meta->store->tx_open = false;
	meta->store->tx_lost = false;
}

/* ---- loading ---- */

static int load_number(struct evfs_meta *meta, const char *key, bool must,
		       uint64_t *ret, struct evfs_err *err)
{
	bool found;
	int rc = evfs_state_get(meta->db, key, ret, &found, err);

	if (rc == 0 && !found && must)
		return evfs_err_set(err, EVFS_ECORRUPT,
				    "database is damaged: no '%s' (restore "
				    "the store from a backup, or join anew)",
				    key);
	return rc;
}

/* The text of a state row, or NULL where there is none. */
static int load_text(struct evfs_meta *meta, const char *key, char **ret,
		     struct evfs_err *err)
{
	struct evfs_buf buf = { 0 };
	bool found;
	int rc = evfs_state_get_bytes(meta->db, key, &buf, &found, err);

	*ret = NULL;
	if (rc == 0 && found) {
		if (evfs_buf_put_u8(&buf, 0) == 0)
			*ret = evfs_strdup((const char *)buf.data);
		if (*ret == NULL)
			rc = evfs_err_set(err, EVFS_ENOMEM,
					  "state: out of memory");
	}
	evfs_buf_fini(&buf);
	return rc;
}

int evfs_store_load_identity(struct evfs_meta *meta, struct evfs_err *err)
{
	evfs_cleanup_free char *name = NULL;
	struct evfs_store *store = meta->store;
	struct evfs_buf volume = { 0 };
	uint64_t epoch = 0;
	bool found;
	int rc;

	rc = load_number(meta, "node", true, &store->actor.node, err);
	if (rc == 0)
		rc = load_number(meta, "epoch", true, &epoch, err);
	if (rc == 0)
		rc = load_text(meta, "name", &name, err);
	if (rc == 0)
		rc = load_text(meta, "listen", &store->listen, err);
	if (rc == 0)
		rc = evfs_state_get_bytes(meta->db, "volume", &volume, &found,
					  err);
	if (rc == 0 && (store->actor.node == 0 || epoch > UINT32_MAX ||
			name == NULL || strlen(name) > EVFS_NODE_NAME_MAX ||
			volume.len != EVFS_HASH_SIZE))
		rc = evfs_err_set(err, EVFS_ECORRUPT,
				  "database is damaged: it does not say which "
				  "replica it is (restore the store from a "
				  "backup, or join anew)");
	if (rc == 0) {
		store->actor.epoch = (uint32_t)epoch;
		memcpy(store->name, name, strlen(name) + 1);
		memcpy(store->volume.b, volume.data, EVFS_HASH_SIZE);
	}
	evfs_buf_fini(&volume);
	return rc;
}

static int load_context(struct evfs_meta *meta, struct evfs_err *err)
{
	evfs_cleanup_stmt sqlite3_stmt *stmt = NULL;
	struct evfs_store *store = meta->store;
	int rc;

	store->context.n = 0;
	store->stored.n = 0;
	rc = evfs_db_prepare(meta->db, "SELECT actor, counter FROM context",
			     &stmt, err);
	if (rc != 0)
		return rc;
	while ((rc = evfs_db_step(meta->db, stmt, err)) > 0) {
		evfs_dot dot;

		rc = evfs_facts_dot(
			meta->facts,
			evfs_key_make((uint64_t)sqlite3_column_int64(stmt, 0),
				      0),
			&dot, err);
		if (rc != 0)
			return rc;
		if (evfs_context_raise(&store->context, dot.actor,
				       (uint64_t)sqlite3_column_int64(
					       stmt, 1)) != 0)
			return evfs_err_set(err, EVFS_ENOMEM,
					    "context: out of memory");
	}
	if (rc == 0 &&
	    evfs_context_copy(&store->stored, &store->context) != 0)
		rc = evfs_err_set(err, EVFS_ENOMEM, "context: out of memory");
	return rc;
}

int evfs_store_load(struct evfs_meta *meta, struct evfs_err *err)
{
	struct evfs_store *store = meta->store;
	uint64_t amnesia = 0;
	int rc;

	store->counter = 0;
	store->lease = 0;
	store->clock = 0;
	rc = evfs_facts_load(meta->facts, err);
	if (rc == 0)
		rc = load_context(meta, err);
	if (rc == 0)
		rc = load_number(meta, "counter", false, &store->counter, err);
	if (rc == 0)
		rc = load_number(meta, "lease", false, &store->lease, err);
	if (rc == 0)
		rc = load_number(meta, "clock", false, &store->clock, err);
	if (rc == 0)
		rc = load_number(meta, "amnesia", false, &amnesia, err);
	store->amnesia = amnesia != 0;
	evfs_collect_reset(meta);
	if (rc == 0)
		rc = evfs_config_load(meta, err);
	if (rc == 0)
		rc = evfs_members_load(meta, err);
	return rc;
}

/* After a start. What the database holds is what some commit left: every dot in
 * it is at most its `counter`, which is at most its `lease`, for both are rows
 * of that same commit, and commit_flush() keeps the lease at least half a block
 * ahead. After a clean end the two are equal. After an unclean one, dots above
 * `counter` may have been given out in memory. No peer has seen one: peers are
 * told only what a synced commit holds. But people have (in names of siblings,
 * in logs), and a disk that forgets what it had confirmed would make it a peer
 * too; so they are not used again: counting goes on behind the lease. Only a
 * commit that took longer than half a block of changes (then nothing of them
 * reached the disk at all) could leave some unprotected, and those nobody has.
 * The context's own row follows the counter: no object has the dots between, so
 * there is nothing in the gap to take in, and peers get no hole. */
int evfs_store_skip_lease(struct evfs_meta *meta, struct evfs_err *err)
{
	struct evfs_store *store = meta->store;

	if (store->lease > store->counter)
		store->counter = store->lease;
	if (store->counter != 0 &&
	    evfs_context_raise(&store->context, store->actor,
			       store->counter) != 0)
		return evfs_err_set(err, EVFS_ENOMEM, "context: out of memory");
	return 0;
}

/* ---- the log ---- */

static int wal_hook(void *arg, sqlite3 *handle, const char *name, int pages)
{
	struct evfs_store *store = arg;

	(void)handle;
	(void)name;
	store->wal_pages = (uint64_t)pages;
	return SQLITE_OK;
}

void evfs_store_watch_wal(struct evfs_meta *meta)
{
	sqlite3_wal_hook(evfs_db_handle(meta->db), wal_hook, meta->store);
}

int evfs_store_checkpoint(struct evfs_meta *meta, bool by_writer,
			  struct evfs_err *err)
{
	struct evfs_db *db = by_writer ? meta->db :
					 meta->store->checkpointer;
	int rc = sqlite3_wal_checkpoint_v2(evfs_db_handle(db), NULL,
					   SQLITE_CHECKPOINT_PASSIVE, NULL,
					   NULL);

	if (rc == SQLITE_OK || (rc & 0xff) == SQLITE_BUSY ||
	    (rc & 0xff) == SQLITE_LOCKED)
		return 0;
	return evfs_err_set(err,
			    (rc & 0xff) == SQLITE_FULL ? EVFS_ENOSPACE :
							 EVFS_EIO,
			    "checkpoint: %s", sqlite3_errstr(rc));
}
