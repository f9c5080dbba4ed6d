/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The inside of the collector: meta/collect.c and meta/collect_reports.c. */
#ifndef EVFS_META_COLLECT_PRIV_H
#define EVFS_META_COLLECT_PRIV_H

#include "meta/collect.h"
#include "meta/context.h"
#include "meta/members.h"

struct evfs_blocker {
	uint64_t node;
	uint64_t objects; /* that its report does not cover */
};

struct evfs_collect {
	struct evfs_collect_stats stats;
	struct evfs_blocker *blockers; /* owned; of the last pass */
	size_t n_blockers;
	evfs_ino *open; /* owned; what stayed in the last pass for that alone */
	size_t n_open, cap_open;
	uint64_t noted; /* objects that got something to collect */

	/* The pass that runs, or ran last. */
	bool running;
	int64_t cursor;
	uint64_t began_noted;      /* `noted` when it began */
	struct evfs_context began; /* what every member covered then */
	bool began_ready;          /* conditions 1 and 2 could hold then */
	uint64_t waiting;          /* counted so far */
	uint64_t began_done;       /* collected before it */
	bool again; /* something went, and more may go after it */
};

/* What the members say, at one moment. */
struct evfs_reports {
	struct evfs_member *members; /* owned; not removed, without this one */
	struct evfs_context *contexts; /* owned; of each of them */
	struct evfs_blocker *blockers; /* owned; of each of them */
	size_t n;
	struct evfs_context all; /* what every one and this replica covers */
	bool ready;              /* condition 2 holds, no audit is due */
	bool behind;             /* it does not */
};

/* Meta locked. What it made is freed by fini, also after a failure. */
int evfs_collect_reports_read(struct evfs_meta *meta,
			      struct evfs_reports *reports,
			      struct evfs_err *err) EVFS_MUST_USE;
void evfs_collect_reports_fini(struct evfs_reports *reports);

#endif
