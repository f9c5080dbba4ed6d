/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Undo of a failed operation: an SQL savepoint for the rows, a copy of the
 * counters, and a list of what else was changed in memory since. */
#include <assert.h>

#include "base/mem.h"
#include "meta/facts_priv.h"
#include "meta/store.h"

static const char *const save_begin[] = { "SAVEPOINT a", "SAVEPOINT b" };
static const char *const save_release[] = { "RELEASE a", "RELEASE b" };
static const char *const save_rollback[] = { "ROLLBACK TO a",
					     "ROLLBACK TO b" };

int evfs_facts_note_undo(struct evfs_facts *facts,
			 const struct evfs_undo *undo, struct evfs_err *err)
{
	if (facts->depth == 0)
		return 0;
	if (evfs_grow((void **)&facts->undo, facts->n_undo, &facts->cap_undo,
		      sizeof(*facts->undo)) != 0)
		return evfs_err_set(err, EVFS_ENOMEM, "undo: out of memory");
	facts->undo[facts->n_undo++] = *undo;
	return 0;
}

int evfs_facts_save(struct evfs_facts *facts, struct evfs_err *err)
{
	struct evfs_savepoint *save;
	int rc;

	assert(facts->depth < 2);
	rc = evfs_store_begin(facts->meta, err);
	if (rc == 0)
		rc = evfs_db_run_literal(facts->meta->db,
					 save_begin[facts->depth], err);
	if (rc != 0)
		return rc;
	save = &facts->saves[facts->depth++];
	save->n_undo = facts->n_undo;
	save->n_actors = facts->actors.n;
	save->root = facts->root;
	for (size_t i = 0; i < EVFS_COUNTER_ALL; i++)
		save->counters[i] = facts->counters[i];
	return 0;
}

int evfs_facts_release(struct evfs_facts *facts, struct evfs_err *err)
{
	int rc;

	assert(facts->depth > 0);
	rc = evfs_db_run_literal(facts->meta->db,
				 save_release[facts->depth - 1], err);
	if (rc != 0)
		return rc;
	if (--facts->depth == 0)
		facts->n_undo = 0;
	return 0;
}

void evfs_facts_rollback(struct evfs_facts *facts)
{
	const struct evfs_savepoint *save;
	struct evfs_meta *meta = facts->meta;
	unsigned level;

	assert(facts->depth > 0);
	level = --facts->depth;
	save = &facts->saves[level];
	/* SQLite may have rolled the whole transaction back by itself (disk
	 * full, no memory): then there is no savepoint any more, and the next
	 * commit starts over from what is on disk. */
	if (sqlite3_get_autocommit(evfs_db_handle(meta->db)) ||
	    evfs_db_run_literal(meta->db, save_rollback[level], NULL) != 0 ||
	    evfs_db_run_literal(meta->db, save_release[level], NULL) != 0)
		meta->store->tx_lost = true;
	while (facts->n_undo > save->n_undo) {
		const struct evfs_undo *undo = &facts->undo[--facts->n_undo];

		if (undo->is_dir)
			evfs_dirs_undo(facts, undo);
		else
			evfs_cache_remove(facts, undo->id);
	}
	evfs_actors_truncate(&facts->actors, save->n_actors);
	facts->root = save->root;
	for (size_t i = 0; i < EVFS_COUNTER_ALL; i++)
		facts->counters[i] = save->counters[i];
	facts->derived_dirty = true;
}
