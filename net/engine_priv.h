/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The inside of the engine, for its own files: the members as it sees them,
 * and what it knows about this replica. Everything runs on one thread; the
 * meta lock is taken for single calls and never held across a send. */
#ifndef EVFS_NET_ENGINE_PRIV_H
#define EVFS_NET_ENGINE_PRIV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/env.h"
#include "base/err.h"
#include "base/hash.h"
#include "meta/content.h"
#include "meta/context.h"
#include "meta/members.h"
#include "meta/meta.h"
#include "net/audit.h"
#include "net/engine.h"
#include "net/fetch.h"
#include "net/gossip.h"
#include "net/hints.h"
#include "net/quorum.h"
#include "net/session.h"
#include "net/transport.h"

#define EVFS_MS ((uint64_t)1000000)
#define EVFS_SECOND ((uint64_t)1000000000)

#define EVFS_ENGINE_PING_NS (5 * EVFS_SECOND)
#define EVFS_ENGINE_SILENCE_NS (20 * EVFS_SECOND) /* then it is over */
#define EVFS_ENGINE_HELLO_NS (15 * EVFS_SECOND)	  /* for the handshake */
#define EVFS_ENGINE_PROBE_NS (3 * EVFS_SECOND)
#define EVFS_ENGINE_REPORT_NS (10 * EVFS_MS)
#define EVFS_ENGINE_RELAY_NS (250 * EVFS_MS)
#define EVFS_ENGINE_PULL_NS (10 * EVFS_SECOND) /* from a random member */
#define EVFS_ENGINE_HEAL_NS (60 * EVFS_SECOND) /* dialling a dead one */
#define EVFS_ENGINE_POLL_NS (2 * EVFS_MS)	   /* while a queue is full */
#define EVFS_ENGINE_SAVE_NS (10 * EVFS_SECOND)	   /* reports to the store */
#define EVFS_ENGINE_SUSPICION_NS (2 * EVFS_SECOND) /* unequal roots */
#define EVFS_ENGINE_REPAIR_NS (600 * EVFS_SECOND)  /* between full pulls */
#define EVFS_ENGINE_DIAL_MAX_S 60
#define EVFS_ENGINE_QUEUE_MAX (1u << 20)   /* control: then no next batch */
#define EVFS_ENGINE_BULK_MAX (4u << 20)	   /* bulk: then no next chunk */
#define EVFS_ENGINE_PIECE_MAX (1u << 20)   /* of a message that is cut */
#define EVFS_ENGINE_BATCH_MAX (256u << 20) /* bytes of one batch, received */
#define EVFS_ENGINE_SAMPLES 1000
#define EVFS_ENGINE_CHANGES 4096

/* What a member last said about itself. */
struct evfs_peer_report {
	bool known;    /* context is meaningful (maybe from the store) */
	bool complete; /* a Report came in this session: all the rest
			* is meaningful */
	struct evfs_context context;
	evfs_hash root;
	uint64_t wanted, wanted_bytes;
	bool receiving;	     /* within a stream */
	bool auditing;	     /* it has lost memory: this counts for nothing */
	struct evfs_met met; /* the run that it is of */
	uint64_t *connected; /* owned; sorted nodes */
	size_t n_connected;
	bool unsaved;	   /* the store has an older one */
	uint64_t saved_ns; /* when it was saved */
};

/* One change, or a few of one commit, that the member has confirmed. */
struct evfs_sample {
	uint32_t ms;
	bool live;   /* it was connected all the time */
	uint64_t ns; /* when it confirmed */
};

/* How much lies beyond a context; looked up for status, and kept while it is
 * costly. */
struct evfs_weight {
	uint64_t news; /* value of engine->news when it was looked up */
	uint64_t ns;   /* and the time */
	uint64_t changes;
	uint64_t bytes;
	uint64_t oldest_ns; /* wall clock of the oldest; 0 = none */
};

struct evfs_peer {
	struct evfs_peer *next; /* by node, ascending */
	struct evfs_member member;
	struct evfs_session *session; /* the active one, or NULL */
	uint64_t dial_ns;	      /* not before */
	unsigned failures;	      /* in a row */
	struct evfs_peer_report report;
	uint64_t contact_ns; /* last bytes from it; 0 = never */
	int64_t rtt_ns;	     /* smoothed; -1 = unknown */
	int64_t skew_ns;     /* INT64_MIN = unknown */
	char last_error[128];
	struct evfs_sample *samples; /* owned ring; NULL = none yet */
	uint64_t n_samples;	   /* ever; the ring keeps the newest */
	uint64_t unequal_ns;	   /* equal contexts and unequal roots since,
				    * and nothing on its way; 0 = not */
	uint64_t repair_ns;	   /* last Pull or audit for that reason; 0 =
				    * never */
	bool repair_pulled;	   /* while they are unequal: pulled, */
	bool repair_full;	   /* then audited */
	struct evfs_weight behind; /* of what lies beyond its report */
	struct evfs_context hint_expired; /* up to here nothing is held for it
					   * any more; {0} = all is */
	struct evfs_weight held;   /* beyond its report, and not expired */
	bool mark;		   /* seen while the list is refreshed */
	bool audit_due;		   /* an audit is to be begun */
	bool audit_taken;	   /* of lost memory: all that it has came */
	bool diverged; /* equal contexts, unequal roots: not a matter of time */
	/* net/engine_gossip.c, net/engine_links.c: */
	uint64_t lost_ns;	   /* when a session of it broke; 0 = never */
	uint64_t lag_ns;	   /* gossip has shown something that is lacking
				    * here, since then; 0 = not */
	uint64_t odd_ns;	   /* its member list is another one, since;
				    * 0 = not */
	enum evfs_gossip_life life; /* as of the last round */
	bool chosen;		   /* to be dialled, of more than all can be
				    * connected to */
};

/* When own changes became durable. */
struct evfs_change_time {
	uint64_t counter; /* own changes up to this */
	uint64_t ns;
};

struct evfs_bucket {
	uint64_t rate;	/* bytes per second; 0 = no limit */
	int64_t tokens; /* bytes that may go now; below 0 = debt */
	uint64_t ns;	/* when they were counted */
};

struct evfs_engine {
	struct evfs_meta *meta;
	struct evfs_content *content;
	const struct evfs_env *env;
	const struct evfs_transport *transport;
	uint64_t instance; /* random, not 0 */
	uint64_t self;	   /* own node */
	struct evfs_peer *peers;
	struct evfs_session *sessions;
	bool paused;		     /* all of it */
	bool recalling;		     /* memory was lost here: net/memory.c */
	bool removed;		     /* this replica, from the volume */
	bool contact;		     /* a member was met; noted */
	uint64_t lives;		     /* begun while it ran */
	bool members_dirty;	     /* the list is to be read again */
	bool members_news;	     /* and told to every session: */
	uint64_t *members_new;	     /* owned; these nodes' records */
	size_t n_members_new, cap_members_new;
	bool members_all; /* or all of them */
	struct evfs_context durable; /* as of the last refresh */
	evfs_hash root;
	uint64_t wanted, wanted_bytes;
	struct evfs_context seen; /* dots met in objects, beyond contexts */
	bool report_due;
	uint64_t report_ns; /* when the last went out */
	struct evfs_change_time changes[EVFS_ENGINE_CHANGES];
	uint64_t n_changes; /* ever */
	struct evfs_bucket up, down;
	uint64_t config_ns; /* when settings are read again */
	uint64_t target_ms; /* convergence_target */
	struct evfs_fetch fetch;
	struct evfs_auditing auditing;
	struct evfs_gossip gossip;
	struct evfs_gossip_state own; /* as of own_news */
	uint64_t own_news;
	uint64_t gossip_ns;	/* when the next round is due */
	uint64_t gossip_fanout; /* setting */
	uint64_t pull_ns;	/* when the next random pull is */
	uint64_t links_ns;	/* not before: the next pick of a member */
	uint64_t heal_ns;	/* when a dead one is dialled next */
	struct evfs_quorums quorums;
	struct evfs_hints hints;
	struct evfs_bucket hint_bucket; /* objects, not bytes */
	unsigned layers; /* EVFS_LAYER_...: those that are on */
	uint64_t started_ns;
	int64_t verified_wall_s;
	uint64_t bytes_sent, bytes_received;
	uint64_t messages_sent, messages_received;
	uint64_t chunks_corrupt;
	uint64_t news;		    /* counts changes of contexts, from 1 */
	struct evfs_weight pending; /* beyond what every member has */
	bool changed; /* tell the listener at the end of the event */
	void (*on_change)(void *ctx);
	void *on_change_ctx;
	void (*submit)(void *ctx, struct evfs_task *task); /* NULL: inline */
	void *submit_ctx;
};

static inline uint64_t evfs_engine_now(const struct evfs_engine *engine)
{
	return engine->env->mono_ns(engine->env->ctx);
}

static inline uint64_t evfs_engine_wall(const struct evfs_engine *engine)
{
	return engine->env->wall_ns(engine->env->ctx);
}

static inline void evfs_engine_lower(uint64_t *next_ns, uint64_t at_ns)
{
	if (at_ns < *next_ns)
		*next_ns = at_ns;
}

/* Reads what is durable here; notes news for reports and streams. */
int evfs_engine_refresh(struct evfs_engine *engine,
			struct evfs_err *err) EVFS_MUST_USE;
/* The hybrid clock's last reading, locked for the moment; and hearing one. */
uint64_t evfs_engine_clock(struct evfs_engine *engine);
void evfs_engine_hear(struct evfs_engine *engine, uint64_t clock_ns);

/* ---- net/engine.c: bandwidth ---- */

/* May bytes go now? Takes them if so (a debt is allowed, so that a limit below
 * one chunk works). False: *next_ns is lowered to when. */
bool evfs_bucket_take(struct evfs_bucket *bucket, uint64_t now_ns,
		      uint64_t bytes, uint64_t *next_ns);

/* ---- net/engine_status.c ---- */

/* How much lies beyond a context; *weight is the place where the answer is
 * kept, of this context alone. */
int evfs_engine_weigh(struct evfs_engine *engine,
		      const struct evfs_context *context,
		      struct evfs_weight *weight,
		      struct evfs_err *err) EVFS_MUST_USE;

/* ---- net/peer.c ---- */

struct evfs_peer *evfs_peer_find(struct evfs_engine *engine, uint64_t node);
/* Reads the member list: new ones appear, removed and paused ones lose their
 * session. */
int evfs_peer_refresh(struct evfs_engine *engine,
		      struct evfs_err *err) EVFS_MUST_USE;
/* This record is to be told to others. */
void evfs_peer_note_new(struct evfs_engine *engine, uint64_t node);
/* Dials whom it is time to dial. */
void evfs_peer_tick(struct evfs_engine *engine, struct evfs_peer *peer,
		    uint64_t now_ns, uint64_t *next_ns);
/* A connection failed or ended badly: waits longer before the next. */
void evfs_peer_back_off(struct evfs_engine *engine, struct evfs_peer *peer,
			const char *why);
bool evfs_peer_is_paused(const struct evfs_engine *engine,
			 const struct evfs_peer *peer);
void evfs_peer_free_all(struct evfs_engine *engine);

/* ---- net/engine_gossip.c ---- */

int evfs_gossip_start(struct evfs_engine *engine,
		      struct evfs_err *err) EVFS_MUST_USE;
/* Reads the settings. With meta locked. */
void evfs_gossip_config(struct evfs_engine *engine);
/* The member list has changed. */
int evfs_gossip_members(struct evfs_engine *engine,
			struct evfs_err *err) EVFS_MUST_USE;
/* Describes what is durable here. */
void evfs_gossip_own(struct evfs_engine *engine);
/* Rounds, and the pulls that follow from what was heard. */
void evfs_gossip_tick(struct evfs_engine *engine, uint64_t now_ns,
		      uint64_t *next_ns);
/* A member's state as of the last gossip; NULL = unknown. */
const struct evfs_gossip_state *
evfs_gossip_state_of(const struct evfs_engine *engine,
		     const struct evfs_peer *peer);
/* Does that state say that the member has what is durable here, and no more?
 */
bool evfs_gossip_is_equal(const struct evfs_engine *engine,
			  const struct evfs_peer *peer);

/* ---- net/engine_links.c ---- */

/* Picks whom to dial, where there are too many members for all. */
void evfs_links_tick(struct evfs_engine *engine, uint64_t now_ns,
		     uint64_t *next_ns);
/* Is it connected to all, as far as they can be reached? */
bool evfs_links_is_full(const struct evfs_engine *engine);
/* Has it sessions enough, so that others should look elsewhere? */
bool evfs_links_are_enough(const struct evfs_engine *engine);
/* How long a change of others waits before it is passed on over a session. */
uint64_t evfs_links_relay_ns(const struct evfs_engine *engine);

/* ---- net/report.c ---- */

/* Gossip says that the member's durable context is equal to ours. */
void evfs_report_adopt(struct evfs_engine *engine, struct evfs_peer *peer);

/* ---- net/memory.c ---- */

/* This run is in the store before anybody hears of it. */
int evfs_memory_note_run(struct evfs_engine *engine,
			 struct evfs_err *err) EVFS_MUST_USE;
/* A member was met. */
void evfs_memory_contact(struct evfs_engine *engine);
/* Is it this member's turn in an audit that is due? Everybody has to tell all
 * before it goes on in the other direction. */
bool evfs_memory_waits_for(struct evfs_engine *engine,
			   const struct evfs_peer *peer);
/* Asks for the audits that are due, in either direction, and ends them. */
void evfs_memory_tick(struct evfs_engine *engine);

/* ---- net/report.c ---- */

/* What it reports from now on: where that is less than before, the store is
 * told at once, so that nothing is collected by what it said then. */
void evfs_report_take_back(struct evfs_peer *peer,
			   const struct evfs_context *context);
/* Does the member have all that is durable here, and we all that it has, as it
 * last reported, and nothing of ours waits to become durable? `settled`:
 * the latter, from evfs_engine_settled(). */
bool evfs_peer_in_sync(const struct evfs_engine *engine,
		       const struct evfs_peer *peer, bool settled);
/* Is everything here durable? Takes the meta lock. */
bool evfs_engine_settled(struct evfs_engine *engine);
/* Alive, suspect or dead, by what was heard of it, directly or not. */
enum evfs_peer_state evfs_peer_state(const struct evfs_engine *engine,
				     const struct evfs_peer *peer,
				     uint64_t now_ns);
/* Is any stream coming in? */
bool evfs_engine_receiving(const struct evfs_engine *engine);
/* Remembers the time if all members are in sync; is it so? */
bool evfs_engine_verify(struct evfs_engine *engine);
/* Sends reports that are due, keeps the peers' in the store, looks for
 * unequal roots under equal contexts. */
void evfs_report_tick(struct evfs_engine *engine, uint64_t now_ns,
		      uint64_t *next_ns);

/* ---- net/converge.c ---- */

/* Own changes up to the durable counter have their time now. */
void evfs_converge_note_change(struct evfs_engine *engine, uint64_t counter);
/* The member covers own changes in (before, now]. */
void evfs_converge_sample(struct evfs_engine *engine, struct evfs_peer *peer,
			  uint64_t before, uint64_t now);
void evfs_converge_status(struct evfs_engine *engine,
			  const struct evfs_peer *peer,
			  struct evfs_peer_status *ret);

#endif
