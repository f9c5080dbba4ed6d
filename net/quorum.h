/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Quorums and read repair: questions of the mount, put to members, and theirs
 * answered. Private to net/'s engine files.
 *
 * HELD: every connected member is asked to say when it has the object's state
 * on disk, content included; the first `need` who say so are the quorum,
 * whoever they are. NEWEST and CHECK: the nearest members are asked to compare
 * the object's rows; each side sends what the other lacks, whole and with all
 * that must go with it, and it is joined as in a stream. The others are asked,
 * too, where an answer takes long (a hedged request; Dean, Barroso 2013). */
#ifndef EVFS_NET_QUORUM_H
#define EVFS_NET_QUORUM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "meta/context.h"
#include "meta/quorum.h"
#include "net/wire.h"

struct evfs_engine;
struct evfs_session;
struct evfs_quorum_ask;  /* a question of ours */
struct evfs_quorum_hold; /* a member's, that waits for our disk */

#define EVFS_QUORUM_HOLDS_MAX 1024 /* of one session; the oldest goes */
#define EVFS_QUORUM_CHECKS_MAX 64  /* at a time */
#define EVFS_QUORUM_HEDGE_NS (100 * (uint64_t)1000000)
#define EVFS_QUORUM_STATE_MAX (3u << 20) /* bytes in one State */

struct evfs_quorums {
	struct evfs_quorum_ask *asks; /* owned */
	unsigned n_checks;	      /* of them, those nobody waits for */
	uint64_t write_waits, write_failed;
	uint64_t read_waits, read_failed;
	uint64_t checks, repaired; /* objects compared; put right, here or
				    * there */
};

void evfs_quorum_start(struct evfs_engine *engine,
		       const struct evfs_question *question);
void evfs_quorum_stop(struct evfs_engine *engine, uint64_t id);
/* Asks, gives up, tells members what is on disk now. Lowers *next_ns to when
 * it is to be called again. */
void evfs_quorum_run(struct evfs_engine *engine, uint64_t now_ns,
		     uint64_t *next_ns);
/* The engine ends: every question is answered. */
void evfs_quorum_fini(struct evfs_engine *engine);
void evfs_quorum_session_gone(struct evfs_session *session);

int evfs_quorum_hold(struct evfs_engine *engine, struct evfs_session *session,
		     const Evfs__Wire__Hold *hold,
		     struct evfs_err *err) EVFS_MUST_USE;
int evfs_quorum_held(struct evfs_engine *engine, struct evfs_session *session,
		     const Evfs__Wire__Held *held,
		     struct evfs_err *err) EVFS_MUST_USE;
int evfs_quorum_compare(struct evfs_engine *engine,
			struct evfs_session *session,
			const Evfs__Wire__Compare *compare,
			struct evfs_err *err) EVFS_MUST_USE;
int evfs_quorum_state(struct evfs_engine *engine, struct evfs_session *session,
		      const Evfs__Wire__State *state,
		      struct evfs_err *err) EVFS_MUST_USE;

#endif
