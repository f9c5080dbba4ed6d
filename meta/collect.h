/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Collecting what is removed for good: dead objects with their rows, dead links
 * of files that live by other names, and ties of transactions.
 *
 * A tombstone says "this was seen and removed" to whoever has not heard of the
 * removal. It may go when nobody is left to be told: by causal stability
 * (Wuu and Bernstein 1984; Baquero et al. 2014), never by a clock, and never
 * because somebody seems dead. All three must hold (DESIGN, section 3;
 * tests/model/facts.py, collect()):
 *
 *  1. the last durable report of every member that is not removed covers all
 *     rows of the object;
 *  2. the context of this replica covers those same reports: else somebody's
 *     concurrent change is on its way here, would meet nothing, and be taken
 *     for removed;
 *  3. no record, dead or alive, names the directory as parent, but for such
 *     that are collected with it.
 *
 * A tie needs less: the reports cover its own dot, for only who lacks that dot
 * ever follows it. A file that is open here stays, and so does one with facts
 * of kinds that are not known here. The reports are those of the store, so
 * they become durable no later than what is collected by them. Nothing is
 * collected while an audit is due (meta/life.h).
 *
 * What goes is no live fact: no tree and no root hash changes. */
#ifndef EVFS_META_COLLECT_H
#define EVFS_META_COLLECT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "meta/meta.h"
#include "meta/object.h"

struct evfs_collect_stats {
	/* Collected since the store was opened. */
	uint64_t objects;
	uint64_t links; /* of files that live */
	uint64_t ties;
	/* As the last pass found it. */
	uint64_t waiting;    /* objects with something that cannot go yet */
	uint64_t passes;     /* ended */
	bool behind;         /* condition 2 does not hold */
};

int evfs_collect_new(struct evfs_meta *meta, struct evfs_err *err)
	EVFS_MUST_USE;
void evfs_collect_free(struct evfs_meta *meta);

/* The facts changed behind its back: it looks at all again. */
void evfs_collect_reset(struct evfs_meta *meta);

/* For meta/index*.c, meta locked: an object is about to be put in place of
 * `before` (NULL: none). */
int evfs_collect_note(struct evfs_meta *meta, const struct evfs_object *before,
		      const struct evfs_object *object, struct evfs_err *err)
	EVFS_MUST_USE;

/* One step of a pass over what can be collected: looks at about `max` objects,
 * in short locked stretches; takes the meta lock by itself. A pass begins when
 * there is news: a report, something new to collect, or the end of an open
 * file that was in the way. *ret_more: call again,
 * after a rest. */
int evfs_collect_step(struct evfs_meta *meta, size_t max, bool *ret_more,
		      struct evfs_err *err) EVFS_MUST_USE;

/* Meta locked. */
void evfs_collect_get_stats(const struct evfs_meta *meta,
			    struct evfs_collect_stats *ret);
/* Meta locked. How many objects the last pass had to leave because this
 * member's report does not cover them. */
uint64_t evfs_collect_blocks(const struct evfs_meta *meta, uint64_t node);

#endif
