/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Random histories of one object at three replicas, in the way of
 * model/explore.py: users edit, replicas exchange wholly or in part, tombstones
 * are collected when they are stable. What comes out are states that can
 * really meet. A ledger beside the replicas knows which dots users have
 * ended. Failures of the code under test are failures of the test. */
#ifndef EVFS_TESTS_OBJECT_HISTORY_H
#define EVFS_TESTS_OBJECT_HISTORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "meta/context.h"
#include "meta/object.h"

#define HISTORY_REPLICAS 3
#define HISTORY_LEDGER_MAX 512

struct history_replica {
	evfs_actor actor;
	uint64_t counter;            /* last one used by actor */
	uint64_t clock;              /* last stamp, ns */
	struct evfs_context context; /* owned */
	struct evfs_object *object;  /* owned; NULL = absent */
};

/* A dot that a user has asserted: of a version, or alive on a link. */
struct history_row {
	bool is_version;
	evfs_stamp link; /* alive only */
	evfs_dot dot;
	bool ended;      /* by an operation that saw it */
};

struct history {
	uint64_t rng;
	uint64_t now; /* true time, ns */
	enum evfs_kind kind;
	struct history_replica replicas[HISTORY_REPLICAS];
	struct history_row ledger[HISTORY_LEDGER_MAX];
	size_t n_ledger;
};

/* Replica 0 makes the object. The same seed gives the same history. */
void history_start(struct history *history, uint64_t seed);
/* One random step: an operation, an exchange or a collection. */
void history_step(struct history *history);
void history_fini(struct history *history);

/* Uniform in [0, n). */
uint64_t history_random(struct history *history, uint64_t n);

#endif
