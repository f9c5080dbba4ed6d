/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Undo of a failed operation: an SQL savepoint for the rows, if any are
 * written; a copy of the counters; and a list of what else was changed in
 * memory since. */
#include <assert.h>

#include "base/mem.h"
#include "meta/facts_priv.h"
#include "meta/store.h"

int evfs_facts_reserve_undo(struct evfs_facts *facts, struct evfs_err *err)
{
	if (evfs_grow((void **)&facts->undo, facts->n_undo, &facts->cap_undo,
		      sizeof(*facts->undo)) != 0)
		return evfs_err_set(err, EVFS_ENOMEM, "undo: out of memory");
	return 0;
}

void evfs_facts_note_undo(struct evfs_facts *facts,
			  const struct evfs_undo *undo)
{
	if (facts->save.open)
		facts->undo[facts->n_undo++] = *undo;
	else
		evfs_cache_bury(facts, undo->was);
}

int evfs_facts_save(struct evfs_facts *facts, struct evfs_err *err)
{
	struct evfs_savepoint *save = &facts->save;
	int rc;

	assert(!save->open);
	rc = evfs_store_begin(facts->meta, err);
	if (rc == 0 && (facts->dirty.n > EVFS_FACTS_DIRTY_OBJECTS ||
			facts->dirty.bytes > EVFS_FACTS_DIRTY_BYTES))
		rc = evfs_facts_flush_objects(facts, err);
	if (rc != 0)
		return rc;
	save->open = true;
	save->in_database = false;
	save->n_actors = facts->actors.n;
	save->root = facts->root;
	save->n_merkle = facts->merkle.n;
	for (size_t i = 0; i < EVFS_COUNTER_ALL; i++)
		save->counters[i] = facts->counters[i];
	return 0;
}

int evfs_facts_save_database(struct evfs_facts *facts, struct evfs_err *err)
{
	int rc;

	if (!facts->save.open || facts->save.in_database)
		return 0;
	rc = evfs_db_run_literal(facts->meta->db, "SAVEPOINT save", err);
	if (rc == 0)
		facts->save.in_database = true;
	return rc;
}

int evfs_facts_release(struct evfs_facts *facts, struct evfs_err *err)
{
	int rc = 0;

	assert(facts->save.open);
	if (facts->save.in_database)
		rc = evfs_db_run_literal(facts->meta->db, "RELEASE save", err);
	if (rc != 0)
		return rc;
	while (facts->n_undo > 0)
		evfs_cache_bury(facts, facts->undo[--facts->n_undo].was);
	facts->save.open = false;
	return 0;
}

void evfs_facts_rollback(struct evfs_facts *facts)
{
	const struct evfs_savepoint *save = &facts->save;
	struct evfs_meta *meta = facts->meta;

	assert(save->open);
	facts->save.open = false;
	/* SQLite may have rolled the whole transaction back by itself (disk
	 * full, no memory): then there is no savepoint any more, and the next
	 * commit starts over from what is on disk. */
	if (save->in_database &&
	    (sqlite3_get_autocommit(evfs_db_handle(meta->db)) ||
	     evfs_db_run_literal(meta->db, "ROLLBACK TO save", NULL) != 0 ||
	     evfs_db_run_literal(meta->db, "RELEASE save", NULL) != 0))
		meta->store->tx_lost = true;
	while (facts->n_undo > 0) {
		const struct evfs_undo *undo = &facts->undo[--facts->n_undo];

		if (undo->is_dir)
			evfs_dirs_undo(facts, undo);
		else
			evfs_cache_restore(facts, undo->id, undo->was);
	}
	evfs_names_forget(facts);
	evfs_unsealed_forget(facts);
	evfs_actors_truncate(&facts->actors, save->n_actors);
	facts->root = save->root;
	facts->merkle.n = save->n_merkle;
	for (size_t i = 0; i < EVFS_COUNTER_ALL; i++)
		facts->counters[i] = save->counters[i];
	facts->derived_dirty = true;
}

bool evfs_facts_saved(const struct evfs_facts *facts)
{
	return facts->save.open;
}
