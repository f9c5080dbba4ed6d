/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Hinted handoff: what a member missed while it was away is kept for it and
 * handed over when it returns, by whoever has it (DeCandia et al. 2007, Dynamo;
 * the limits are Cassandra's).
 *
 * A hint is no copy: it is a dotlog row beyond the member's last durable report,
 * which the store keeps; that context is the cursor. So a state that was
 * replaced meanwhile is not sent, and the content of a hint is that of a live
 * version, which the version itself keeps. What is older than hint_ttl, or too
 * much (hint_max_bytes), *expires*: it is not offered any more, and the member
 * pulls it itself.
 *
 * At a member's return whoever has more than a batch for it offers that, and
 * it lets one send; a second, where the first is slow. Such a stream is paced:
 * at most hint_rate objects a second, and of these a window that doubles with
 * each acknowledgement (as TCP's slow start; Jacobson 1988). */
#ifndef EVFS_NET_HINTS_H
#define EVFS_NET_HINTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "meta/context.h"
#include "net/wire.h"

struct evfs_engine;
struct evfs_peer;
struct evfs_session;

#define EVFS_HINTS_SENDERS 2	  /* at a time, for one member */
#define EVFS_HINTS_SMALL 500	  /* objects that need no permission */
#define EVFS_HINTS_WINDOW 1000	  /* objects, at first */
#define EVFS_HINTS_WINDOW_MAX 262144
#define EVFS_HINTS_MARKS 32	  /* for telling the age of changes */

/* What was durable at a time: all of it is at least that old. */
struct evfs_hint_mark {
	uint64_t wall_ns;
	struct evfs_context context;
};

struct evfs_hints {
	struct evfs_hint_mark marks[EVFS_HINTS_MARKS]; /* oldest first */
	size_t n_marks;
	bool loaded;	       /* from the store */
	bool unsaved;	       /* the store has older ones */
	uint64_t look_ns;      /* when expiry is looked at next */
	uint64_t ttl_ns, bytes_max; /* settings */
	uint64_t rest_ns;      /* nobody else may send before */
	uint64_t delivered;    /* objects, acknowledged */
	uint64_t expired;      /* ever, since the start */
	uint64_t lag_ns;       /* a member has more than we since; 0 = none */
	uint64_t pulled_ns;    /* last Pull for that reason; 0 = never */
};

enum evfs_handoff {
	EVFS_HANDOFF_NONE,
	EVFS_HANDOFF_OFFERED, /* the member was told, and has not said go */
	EVFS_HANDOFF_GRANTED
};

/* ---- the sender ---- */

/* May what the member missed go to it now? Offers it where that is due. */
bool evfs_hints_may_send(struct evfs_engine *engine,
			 struct evfs_session *session, uint64_t now_ns,
			 uint64_t *next_ns);
/* Nothing is left for it. */
void evfs_hints_done(struct evfs_engine *engine, struct evfs_session *session);
/* A paced stream has got its number; objects of it go out. */
struct evfs_outgoing;
void evfs_hints_begin(struct evfs_outgoing *out);
void evfs_hints_count_sent(struct evfs_engine *engine,
			   struct evfs_session *session, size_t n);
/* Within a paced stream: may the next batch go? */
bool evfs_hints_may_go_on(struct evfs_engine *engine,
			  struct evfs_session *session, uint64_t now_ns,
			  uint64_t *next_ns);

/* ---- the receiver, and time ---- */

/* Grants, acknowledgements, pulls, expiry. Lowers *next_ns to when it is to be
 * called again. */
void evfs_hints_run(struct evfs_engine *engine, uint64_t now_ns,
		    uint64_t *next_ns);
/* Is what is lacking here on its way, or about to be? */
bool evfs_hints_is_coming(const struct evfs_engine *engine, uint64_t now_ns);
void evfs_hints_stream_ended(struct evfs_engine *engine,
			     struct evfs_session *session);
void evfs_hints_fini(struct evfs_engine *engine);

int evfs_hints_offer(struct evfs_engine *engine, struct evfs_session *session,
		     const Evfs__Wire__Offer *offer,
		     struct evfs_err *err) EVFS_MUST_USE;
int evfs_hints_grant(struct evfs_engine *engine, struct evfs_session *session,
		     const Evfs__Wire__Grant *grant,
		     struct evfs_err *err) EVFS_MUST_USE;
int evfs_hints_taken(struct evfs_engine *engine, struct evfs_session *session,
		     const Evfs__Wire__Taken *taken,
		     struct evfs_err *err) EVFS_MUST_USE;

/* ---- limits: net/hints_limit.c ---- */

void evfs_hints_limit(struct evfs_engine *engine, uint64_t now_ns,
		      uint64_t *next_ns);
/* Has anything that the member lacks expired? */
bool evfs_hints_expired(const struct evfs_peer *peer);

struct evfs_hints_count {
	uint64_t count, bytes;	/* held */
	int64_t oldest_s;	/* of them; -1 = none */
	uint64_t expired;	/* lacking there, and not held any more */
	uint64_t foreign;	/* of those held, of other writers */
};
/* For status. */
int evfs_hints_of(struct evfs_engine *engine, struct evfs_peer *peer,
		  struct evfs_hints_count *ret,
		  struct evfs_err *err) EVFS_MUST_USE;

#endif
