/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Which objects have something in them that can be collected: rows
 * (object, parent), one for each link that is not shown, with the directory
 * that it names; parent NONE for an object that has ties only. So what a
 * collector looks through is as large as the garbage, not as the volume, and
 * "does a record, dead or alive, name this directory" is one look-up here and
 * one among the names.
 *
 * Kept by meta/index*.c with every object that is put, read by meta/collect.c.
 * Implemented over SQLite in meta/db_graves.c. Called with meta locked; errors
 * as in meta/facts.h. */
#ifndef EVFS_META_GRAVES_H
#define EVFS_META_GRAVES_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "meta/facts.h"

/* Brings the rows from those of `before` (NULL: none) to those of `object`
 * (NULL: none). *ret_added: rows were written. */
int evfs_graves_update(struct evfs_facts *facts,
		       const struct evfs_object *before,
		       const struct evfs_object *object, bool *ret_added,
		       struct evfs_err *err) EVFS_MUST_USE;
/* Throws all rows away; for a rebuild. */
int evfs_graves_clear(struct evfs_facts *facts, struct evfs_err *err)
	EVFS_MUST_USE;

/* The next objects behind *cursor (0 at first), each once, at most max; the
 * cursor moves behind them. *ret_n < max: that was the end. */
int evfs_graves_next(struct evfs_facts *facts, int64_t *cursor, evfs_ino *ret,
		     size_t max, size_t *ret_n, struct evfs_err *err)
	EVFS_MUST_USE;
/* Objects with a row that names this directory, at most max. */
int evfs_graves_below(struct evfs_facts *facts, evfs_ino dir, evfs_ino *ret,
		      size_t max, size_t *ret_n, struct evfs_err *err)
	EVFS_MUST_USE;

/* Takes an object and all its rows out of the store, for good. It must not be
 * shown anywhere: nothing derived but its own rows is changed. Lent pointers
 * to it stay valid until meta is unlocked. */
int evfs_facts_remove_object(struct evfs_facts *facts,
			     const struct evfs_object *object,
			     struct evfs_err *err) EVFS_MUST_USE;

#endif
