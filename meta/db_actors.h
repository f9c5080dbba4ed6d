/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Actors as small numbers, so that a dot is one 64-bit integer in the rows of
 * the store: the actor's number in the high bits, the counter below. Only for
 * meta's db files. Not thread-safe: each connection that decodes keys on its
 * own has a table of its own. */
#ifndef EVFS_META_DB_ACTORS_H
#define EVFS_META_DB_ACTORS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "meta/db.h"
#include "meta/dot.h"

/* 17 bits of actor, 46 of counter, sign bit clear: 2,000 changes a second for
 * a thousand years. */
#define EVFS_KEY_COUNTER_BITS 46
#define EVFS_KEY_COUNTER_MAX ((UINT64_C(1) << EVFS_KEY_COUNTER_BITS) - 1)
#define EVFS_KEY_ACTORS_MAX ((1u << 17) - 1)

struct evfs_actor_row {
	evfs_actor actor;
	uint32_t id; /* its number; 0 is {0, 0}, of the root */
};

struct evfs_actors {
	struct evfs_actor_row *sorted; /* owned; by actor, without number 0 */
	evfs_actor *by_id;             /* owned; [id - 1] */
	size_t n;                      /* of both; numbers have no gaps */
	size_t cap;                    /* of sorted */
	size_t cap_id;                 /* of by_id */
};

void evfs_actors_fini(struct evfs_actors *actors);

/* Takes in the rows beyond those known already; all of them for {0}. */
int evfs_actors_load(struct evfs_actors *actors, struct evfs_db *db,
		     struct evfs_err *err) EVFS_MUST_USE;

/* Forgets numbers above n (their rows were rolled back). */
void evfs_actors_truncate(struct evfs_actors *actors, size_t n);

/* Its number; -1 where it has none. */
int64_t evfs_actors_find(const struct evfs_actors *actors, evfs_actor actor);

/* Gives an actor a number, and a row in an open transaction. */
int evfs_actors_add(struct evfs_actors *actors, struct evfs_db *db,
		    evfs_actor actor, struct evfs_err *err) EVFS_MUST_USE;

/* The key of a dot; -1 where it can have none yet. */
int64_t evfs_actors_key(const struct evfs_actors *actors, evfs_dot dot);

/* And back. False for a key that names no known actor. */
bool evfs_actors_dot(const struct evfs_actors *actors, int64_t key,
		     evfs_dot *ret);

/* Key of counter c of the actor with this number. */
static inline int64_t evfs_key_make(uint64_t id, uint64_t counter)
{
	return (int64_t)(id << EVFS_KEY_COUNTER_BITS | counter);
}

static inline uint64_t evfs_key_counter(int64_t key)
{
	return (uint64_t)key & EVFS_KEY_COUNTER_MAX;
}

#endif
