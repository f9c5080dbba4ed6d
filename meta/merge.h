/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The join of two states of one object (DESIGN, "Replicated state"): keep a
 * dot that both have, or that one has and the other does not cover; registers
 * by greatest stamp. Commutative, associative, idempotent. Pure. */
#ifndef EVFS_META_MERGE_H
#define EVFS_META_MERGE_H

#include "base/err.h"
#include "meta/context.h"
#include "meta/object.h"

/* Joins a (state of a replica with context a_context) and b. Either may be
 * NULL: absent, then only its context speaks. At least one is given. *ret is
 * a new object of the caller. 0, EVFS_ENOMEM, or EVFS_ECORRUPT where the two
 * are not states of one object (other ino, kind, target or device). */
int evfs_merge(const struct evfs_object *a,
	       const struct evfs_context *a_context,
	       const struct evfs_object *b,
	       const struct evfs_context *b_context,
	       struct evfs_object **ret, struct evfs_err *err) EVFS_MUST_USE;

#endif
