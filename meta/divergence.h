/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The evidence of divergences: what differed between this replica and another
 * though both claimed the same history, when, and with whom. Kept in the store;
 * the newest EVFS_DIVERGENCES_MAX. */
#ifndef EVFS_META_DIVERGENCE_H
#define EVFS_META_DIVERGENCE_H

#include <stdint.h>

#include "base/err.h"
#include "meta/meta.h"

#define EVFS_DIVERGENCES_MAX 100

/* Meta locked. report: lines for people. */
int evfs_divergence_add(struct evfs_meta *meta, uint64_t node,
			uint64_t wall_ns, const char *report,
			struct evfs_err *err) EVFS_MUST_USE;

/* Meta locked. Oldest first; the text is borrowed for the call. A non-zero
 * return stops without error. */
int evfs_divergence_each(struct evfs_meta *meta,
			 int (*each)(void *arg, uint64_t node,
				     uint64_t wall_ns, const char *report),
			 void *arg, struct evfs_err *err) EVFS_MUST_USE;

#endif
