/* SPDX-License-Identifier: GPL-3.0-or-later */
/* When the store was last read back, and how far a pass that is under way has
 * come: so that a pass of weeks survives restarts. Meta locked. */
#ifndef EVFS_META_UPKEEP_H
#define EVFS_META_UPKEEP_H

#include <stdint.h>

#include "base/err.h"
#include "base/hash.h"
#include "meta/meta.h"

enum evfs_upkeep {
	EVFS_UPKEEP_TREE,   /* Merkle tree against the rows */
	EVFS_UPKEEP_CONTENT /* chunks against their hashes */
};

struct evfs_upkeep_state {
	uint64_t ended_ns; /* wall clock of the end of the last pass; 0: none */
	evfs_hash cursor;  /* of the one under way; zero: none */
};

int evfs_upkeep_get(struct evfs_meta *meta, enum evfs_upkeep which,
		    struct evfs_upkeep_state *ret, struct evfs_err *err)
	EVFS_MUST_USE;
/* There is reason to begin a pass now. */
int evfs_upkeep_set_due(struct evfs_meta *meta, enum evfs_upkeep which,
			struct evfs_err *err) EVFS_MUST_USE;
int evfs_upkeep_set(struct evfs_meta *meta, enum evfs_upkeep which,
		    const struct evfs_upkeep_state *state,
		    struct evfs_err *err) EVFS_MUST_USE;

#endif
