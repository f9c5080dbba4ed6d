/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A context: for each actor the counter up to which everything has been taken
 * in (a version vector). It advances only at the end of a complete exchange.
 * What a replica holds beyond it is known from the dotlog rows of each object:
 * a replica covers dot (a, n) of object X iff n <= context[a] or
 * n <= X.log[a] (DottedDB's split of node and object causality; Goncalves et
 * al. 2017). Pure; not thread-safe. */
#ifndef EVFS_META_CONTEXT_H
#define EVFS_META_CONTEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "meta/dot.h"

/* Beyond this many actors a context from a peer is refused. */
#define EVFS_CONTEXT_ACTORS_MAX 65536

struct evfs_context_row {
	evfs_actor actor;
	uint64_t counter; /* > 0 */
};

struct evfs_context {
	struct evfs_context_row *rows; /* owned; sorted by actor */
	size_t n;
	size_t cap;
};

/* {0} is the empty context. */
void evfs_context_fini(struct evfs_context *context);

/* 0 for an actor that is not in it. */
uint64_t evfs_context_get(const struct evfs_context *context,
			  evfs_actor actor);

/* Raises an actor's counter; a lower one changes nothing. 0 or ENOMEM. */
int evfs_context_raise(struct evfs_context *context, evfs_actor actor,
		       uint64_t counter) EVFS_MUST_USE;

/* Join: afterwards covers all that either covered. 0 or ENOMEM (then *context
 * covers something between). */
int evfs_context_join(struct evfs_context *context,
		      const struct evfs_context *other) EVFS_MUST_USE;

bool evfs_context_covers(const struct evfs_context *context, evfs_dot dot);

/* Does a cover all that b covers? */
bool evfs_context_contains(const struct evfs_context *a,
			   const struct evfs_context *b);
bool evfs_context_equal(const struct evfs_context *a,
			const struct evfs_context *b);

/* Replaces *to; 0 or ENOMEM (then *to is unchanged). */
int evfs_context_copy(struct evfs_context *to,
		      const struct evfs_context *from) EVFS_MUST_USE;

#endif
