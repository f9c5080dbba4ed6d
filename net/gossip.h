/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Gossip: what each replica knows of each member, whether connected to it or
 * not, and the three messages by which that spreads (SYN, ACK, ACK2, as in
 * Cassandra; van Renesse, Minsky, Hayden 1998): a push and a pull in one
 * exchange, known everywhere after O(log N) rounds.
 *
 * Of each member there are two things. Its *heartbeat*, a counter that only it
 * raises, once a round at least; it starts at the wall clock in ms, so that it
 * is greater after a restart. And its *state*: epoch, own changes, context and
 * root, as they are on its disk; a state is as old as the heartbeat at which it
 * last changed. A SYN carries rows of 20 bytes (node, heartbeat, age of the
 * state) of all members or, where there are more than EVFS_GOSSIP_ROWS_MAX, of
 * as many neighbours in a ring that starts anywhere; states go only where they
 * are news. So a message has a bound that N does not move.
 *
 * What a member may claim: of unknown nodes nothing; of any heartbeat no more
 * than a century ahead of the wall clock (which may stand at 1970) and a day
 * ahead of what was known, so that a lie can always be outdone by the one that
 * it is about: whoever hears a greater heartbeat of itself than it has, raises
 * its own above it (SWIM's refutation; Das, Gupta, Motivala 2002).
 *
 * Nothing here edits membership. Pure of I/O; one thread. */
#ifndef EVFS_NET_GOSSIP_H
#define EVFS_NET_GOSSIP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/env.h"
#include "base/err.h"
#include "base/hash.h"
#include "meta/context.h"
#include "net/phi.h"
#include "net/wire.h"

/* The furthest claims: beyond the wall clock, beyond what was known. */
#define EVFS_GOSSIP_AHEAD_MS 3155760000000u
#define EVFS_GOSSIP_LEAP_MS 86400000u

/* What a member says of itself; all of it durable there. */
struct evfs_gossip_state {
	uint32_t epoch;	  /* of its actor */
	uint64_t counter; /* its own changes */
	uint64_t dots;	  /* changes that its context covers, of all actors */
	uint8_t context[EVFS_GOSSIP_CONTEXT_BYTES]; /* hash of its context */
	evfs_hash root;				    /* that belongs to it */
	uint64_t wanted, wanted_bytes; /* contents lacking, and their sizes */
	bool receiving;		       /* within a stream */
	uint32_t version, version_oldest; /* protocol versions spoken */
};

struct evfs_gossip_entry {
	uint64_t node;
	uint64_t heartbeat; /* 0 = never heard of */
	uint64_t since;	    /* heartbeat at which state changed; 0 = unknown */
	uint64_t via;	    /* who told of the last heartbeat; its own node:
			     * itself */
	struct evfs_phi phi; /* on the detector's clock */
	struct evfs_gossip_state state;
};

enum evfs_gossip_life {
	EVFS_GOSSIP_ALIVE,
	EVFS_GOSSIP_SUSPECT,
	EVFS_GOSSIP_DEAD
};

struct evfs_gossip {
	const struct evfs_env *env;
	struct evfs_gossip_entry *entries; /* owned; sorted; own one included */
	size_t n, cap;
	uint64_t self;
	uint64_t interval_ms; /* setting gossip_interval */
	uint64_t members;     /* digest of the member list */
	struct evfs_health health;
	/* since the start: */
	uint64_t rounds, messages, bytes; /* messages and bytes sent */
	uint64_t refused;		  /* claims that were not believed */
	uint64_t refuted;		  /* lies about this replica */
};

/* A message that is being made; bytes are owned. */
struct evfs_gossip_message {
	Evfs__Wire__Gossip wire; /* points into what follows */
	struct evfs_buf rows, want;
	Evfs__Wire__GossipState states[EVFS_GOSSIP_STATES_MAX];
	Evfs__Wire__GossipState *pointers[EVFS_GOSSIP_STATES_MAX];
	struct evfs_gossip_entry copies[EVFS_GOSSIP_STATES_MAX];
};

int evfs_gossip_init(struct evfs_gossip *gossip, const struct evfs_env *env,
		     uint64_t self, uint64_t interval_ms) EVFS_MUST_USE;
void evfs_gossip_fini(struct evfs_gossip *gossip);

/* The members, the own replica included, sorted: new ones appear, others are
 * forgotten. 0 or EVFS_ENOMEM. */
int evfs_gossip_set_members(struct evfs_gossip *gossip, const uint64_t *nodes,
			    size_t n) EVFS_MUST_USE;
/* What this replica says of itself. */
void evfs_gossip_set_own(struct evfs_gossip *gossip,
			 const struct evfs_gossip_state *state);
const struct evfs_gossip_entry *
evfs_gossip_find(const struct evfs_gossip *gossip, uint64_t node);

/* ---- rounds ---- */

/* A round begins, the next one within period_ns: a heartbeat. */
void evfs_gossip_round(struct evfs_gossip *gossip, uint64_t period_ns);

/* Messages; 0 or EVFS_ENOMEM. evfs_gossip_message_fini() in any case. */
int evfs_gossip_syn(struct evfs_gossip *gossip,
		    struct evfs_gossip_message *ret) EVFS_MUST_USE;
/* The answer to a SYN that was taken. */
int evfs_gossip_ack(struct evfs_gossip *gossip, const Evfs__Wire__Gossip *syn,
		    struct evfs_gossip_message *ret) EVFS_MUST_USE;
/* The answer to an ACK that was taken: what it asked for. */
int evfs_gossip_ack2(struct evfs_gossip *gossip, const Evfs__Wire__Gossip *ack,
		     struct evfs_gossip_message *ret) EVFS_MUST_USE;
void evfs_gossip_message_fini(struct evfs_gossip_message *message);

/* Takes in a (validated) message that a member sent. */
void evfs_gossip_take(struct evfs_gossip *gossip, uint64_t from,
		      const Evfs__Wire__Gossip *message);
/* Other bytes of a member have come: it lives. */
void evfs_gossip_seen(struct evfs_gossip *gossip, uint64_t node);

/* ---- what is known ---- */

enum evfs_gossip_life evfs_gossip_life(const struct evfs_gossip *gossip,
				       const struct evfs_gossip_entry *entry);
/* Nanoseconds since the last sign of life; UINT64_MAX: never. */
uint64_t evfs_gossip_silence_ns(const struct evfs_gossip *gossip,
				const struct evfs_gossip_entry *entry);
/* Is there something that `theirs` has and `own` lacks? By equal sums both
 * lack something; by a smaller one it may, and its turn comes when ours has
 * gone there. */
bool evfs_gossip_lags(const struct evfs_gossip_state *own,
		      const struct evfs_gossip_state *theirs);
/* Fills dots and context of a state. 0 or EVFS_ENOMEM. */
int evfs_gossip_describe(const struct evfs_context *context,
			 struct evfs_gossip_state *ret) EVFS_MUST_USE;

#endif
