/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Between meta/life*.c and their rows (meta/db_life.c). Meta locked. */
#ifndef EVFS_META_LIFE_PRIV_H
#define EVFS_META_LIFE_PRIV_H

#include "meta/db_schema.h"
#include "meta/facts_priv.h"
#include "meta/life.h"

/* A new epoch, durable with the open transaction; amnesia begins. */
int evfs_life_take_epoch(struct evfs_meta *meta, uint32_t known,
			 struct evfs_err *err) EVFS_MUST_USE;

/* ---- meta/db_life.c ---- */

int evfs_life_is_done(struct evfs_meta *meta, uint64_t node, bool *ret,
		      struct evfs_err *err) EVFS_MUST_USE;
/* Objects in the order of their keys, behind *cursor, which moves on. */
int evfs_life_objects(struct evfs_meta *meta, int64_t *cursor, evfs_ino *ret,
		      int64_t *ret_keys, size_t max, size_t *ret_n,
		      struct evfs_err *err) EVFS_MUST_USE;
/* Objects with a row of this actor above *counter, in its order, at most max;
 * *counter moves on to the last. */
int evfs_life_beyond(struct evfs_meta *meta, evfs_actor actor,
		     uint64_t *counter, evfs_ino *ret, size_t max,
		     size_t *ret_n, struct evfs_err *err) EVFS_MUST_USE;
/* The greatest counter of this actor that any report covers, or that was used
 * before the replica was on its own. */
int evfs_life_acknowledged(struct evfs_meta *meta, evfs_actor actor,
			   uint64_t *ret, struct evfs_err *err) EVFS_MUST_USE;
/* The greatest counter of an actor in any row here, 0: none. */
int evfs_life_greatest(struct evfs_meta *meta, evfs_actor actor, uint64_t *ret,
		       struct evfs_err *err) EVFS_MUST_USE;
/* Takes an actor's counter back in this replica's context, row included. */
int evfs_life_lower_context(struct evfs_meta *meta, evfs_actor actor,
			    uint64_t counter, struct evfs_err *err)
	EVFS_MUST_USE;

#endif
