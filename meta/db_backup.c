/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Simulation: a store in memory is copied, and put back in its place. */
#include <assert.h>

#include "base/mem.h"
#include "meta/db_schema.h"
#include "meta/facts_priv.h"
#include "meta/life.h"
#include "meta/store.h"

struct evfs_backup {
	struct evfs_db *db; /* owned */
};

static int backup_copy(struct evfs_db *to, struct evfs_db *from,
		       struct evfs_err *err)
{
	sqlite3_backup *copy = sqlite3_backup_init(
		evfs_db_handle(to), "main", evfs_db_handle(from), "main");
	int rc;

	if (copy != NULL)
		(void)sqlite3_backup_step(copy, -1);
	rc = copy != NULL ? sqlite3_backup_finish(copy) : SQLITE_ERROR;
	if (rc == SQLITE_OK)
		return 0;
	return evfs_err_set(err, EVFS_EIO, "backup: %s",
			    sqlite3_errmsg(evfs_db_handle(to)));
}

int evfs_meta_backup(struct evfs_meta *meta, struct evfs_backup **ret,
		     struct evfs_err *err)
{
	struct evfs_backup *backup = evfs_calloc(1, sizeof(*backup));
	int rc;

	if (backup == NULL)
		return evfs_err_set(err, EVFS_ENOMEM, "backup: out of memory");
	rc = evfs_meta_commit(meta, err);
	if (rc == 0)
		rc = evfs_db_open(":memory:", false, &backup->db, err);
	evfs_meta_lock(meta);
	assert(meta->store->path == NULL && !meta->store->tx_open);
	if (rc == 0)
		rc = backup_copy(backup->db, meta->db, err);
	evfs_meta_unlock(meta);
	/* as a clean end leaves it: dots will be used again at once */
	if (rc == 0)
		rc = evfs_db_exec(backup->db,
				  "UPDATE state SET value = (SELECT value FROM "
				  "state WHERE key = 'counter') "
				  "WHERE key = 'lease'",
				  err);
	if (rc != 0) {
		evfs_backup_free(backup);
		return rc;
	}
	*ret = backup;
	return 0;
}

void evfs_backup_free(struct evfs_backup *backup)
{
	if (backup == NULL)
		return;
	evfs_db_close(backup->db);
	evfs_free(backup);
}

static int restore_load(struct evfs_meta *meta, bool noticed,
			struct evfs_err *err)
{
	uint64_t epoch = 0;
	bool found;
	int rc = evfs_state_get(meta->db, "epoch", &epoch, &found, err);

	meta->store->actor.epoch = (uint32_t)epoch;
	if (rc == 0)
		rc = evfs_store_load(meta, err);
	if (rc == 0)
		rc = evfs_store_begin(meta, err);
	if (rc == 0 && noticed)
		rc = evfs_life_begin(meta, err);
	if (rc == 0)
		rc = evfs_life_note_start(meta, err);
	return rc == 0 ? evfs_store_skip_lease(meta, err) : rc;
}

int evfs_meta_restore(struct evfs_meta *meta, const struct evfs_backup *backup,
		      bool noticed, struct evfs_err *err)
{
	int rc;

	assert(meta->store->path == NULL);
	evfs_meta_lock(meta);
	evfs_store_rollback_tx(meta);
	meta->store->write_seq++;
	evfs_feed_note_all(meta);
	rc = backup_copy(meta->db, backup->db, err);
	if (rc == 0)
		rc = restore_load(meta, noticed, err);
	evfs_content_reset(meta);
	evfs_view_state_reset(meta);
	evfs_meta_unlock(meta);
	return rc != 0 ? rc : evfs_store_commit(meta, err);
}
