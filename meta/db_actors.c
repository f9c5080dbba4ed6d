/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Actors as small numbers. */
#include "meta/db_actors.h"

#include <string.h>

#include "base/mem.h"

void evfs_actors_fini(struct evfs_actors *actors)
{
	evfs_free(actors->sorted);
	evfs_free(actors->by_id);
	*actors = (struct evfs_actors){ 0 };
}

/* First place in sorted whose actor is not below. */
static size_t actors_place(const struct evfs_actors *actors, evfs_actor actor)
{
	size_t low = 0;
	size_t high = actors->n;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (evfs_actor_cmp(actors->sorted[middle].actor, actor) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static int actors_insert(struct evfs_actors *actors, evfs_actor actor,
			 struct evfs_err *err)
{
	size_t place = actors_place(actors, actor);

	if (evfs_grow((void **)&actors->sorted, actors->n, &actors->cap,
		      sizeof(*actors->sorted)) != 0 ||
	    evfs_grow((void **)&actors->by_id, actors->n, &actors->cap_id,
		      sizeof(*actors->by_id)) != 0)
		return evfs_err_set(err, EVFS_ENOMEM, "actors: out of memory");
	memmove(&actors->sorted[place + 1], &actors->sorted[place],
		(actors->n - place) * sizeof(*actors->sorted));
	actors->by_id[actors->n] = actor;
	actors->sorted[place].actor = actor;
	actors->sorted[place].id = (uint32_t)++actors->n;
	return 0;
}

int evfs_actors_load(struct evfs_actors *actors, struct evfs_db *db,
		     struct evfs_err *err)
{
	evfs_cleanup_stmt sqlite3_stmt *stmt = NULL;
	int rc;

	rc = evfs_db_prepare(db,
			     "SELECT id, node, epoch FROM actor WHERE id > ?1 "
			     "ORDER BY id",
			     &stmt, err);
	if (rc != 0)
		return rc;
	sqlite3_bind_int64(stmt, 1, (sqlite3_int64)actors->n);
	while ((rc = evfs_db_step(db, stmt, err)) > 0) {
		evfs_actor actor = {
			.node = (uint64_t)sqlite3_column_int64(stmt, 1),
			.epoch = (uint32_t)sqlite3_column_int64(stmt, 2)
		};

		if (sqlite3_column_int64(stmt, 0) !=
		    (sqlite3_int64)actors->n + 1)
			return evfs_err_set(err, EVFS_ECORRUPT,
					    "actor table has a gap after %zu",
					    actors->n);
		rc = actors_insert(actors, actor, err);
		if (rc != 0)
			return rc;
	}
	return rc;
}

void evfs_actors_truncate(struct evfs_actors *actors, size_t n)
{
	size_t kept = 0;
	size_t i;

	for (i = 0; i < actors->n; i++) {
		if (actors->sorted[i].id <= n)
			actors->sorted[kept++] = actors->sorted[i];
	}
	actors->n = kept;
}

int64_t evfs_actors_find(const struct evfs_actors *actors, evfs_actor actor)
{
	size_t place;

	if (actor.node == 0)
		return actor.epoch == 0 ? 0 : -1;
	place = actors_place(actors, actor);
	if (place == actors->n ||
	    evfs_actor_cmp(actors->sorted[place].actor, actor) != 0)
		return -1;
	return actors->sorted[place].id;
}

int evfs_actors_add(struct evfs_actors *actors, struct evfs_db *db,
		    evfs_actor actor, struct evfs_err *err)
{
	evfs_cleanup_stmt sqlite3_stmt *stmt = NULL;
	int rc;

	if (evfs_actors_find(actors, actor) >= 0)
		return 0;
	if (actor.node == 0)
		return evfs_err_set(err, EVFS_EINVAL,
				    "node 0 is no replica's");
	if (actors->n >= EVFS_KEY_ACTORS_MAX)
		return evfs_err_set(err, EVFS_ELIMIT,
				    "more than %u actors in one volume",
				    EVFS_KEY_ACTORS_MAX);
	rc = evfs_db_prepare(db,
			     "INSERT INTO actor(id, node, epoch) "
			     "VALUES(?1, ?2, ?3)",
			     &stmt, err);
	if (rc != 0)
		return rc;
	sqlite3_bind_int64(stmt, 1, (sqlite3_int64)actors->n + 1);
	sqlite3_bind_int64(stmt, 2, (sqlite3_int64)actor.node);
	sqlite3_bind_int64(stmt, 3, actor.epoch);
	rc = evfs_db_run(db, stmt, err);
	return rc != 0 ? rc : actors_insert(actors, actor, err);
}

int64_t evfs_actors_key(const struct evfs_actors *actors, evfs_dot dot)
{
	int64_t id = evfs_actors_find(actors, dot.actor);

	if (id < 0 || dot.counter > EVFS_KEY_COUNTER_MAX)
		return -1;
	return evfs_key_make((uint64_t)id, dot.counter);
}

bool evfs_actors_dot(const struct evfs_actors *actors, int64_t key,
		     evfs_dot *ret)
{
	uint64_t id = (uint64_t)key >> EVFS_KEY_COUNTER_BITS;

	if (key < 0 || id > actors->n)
		return false;
	ret->counter = evfs_key_counter(key);
	ret->actor = id == 0 ? (evfs_actor){ 0, 0 } : actors->by_id[id - 1];
	return true;
}
