/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The replication engine: sessions with members, delta exchange, push,
 * acknowledgements, content transfer. Pure of I/O: bytes, time and news come in
 * by these functions, bytes and actions go out through struct evfs_transport;
 * so a thousand of them run in one process under a virtual clock. It reaches
 * the store through meta/ (which locks itself). One thread at a time. */
#ifndef EVFS_NET_ENGINE_H
#define EVFS_NET_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/env.h"
#include "base/err.h"
#include "meta/members.h"
#include "meta/meta.h"
#include "net/background.h"
#include "meta/quorum.h"
#include "net/transport.h"

#define EVFS_PROTOCOL_VERSION 1
#define EVFS_FRAME_MAX (4u << 20) /* bytes of one message, header included */

struct evfs_engine;

/* All pointers borrowed for the engine's life. */
int evfs_engine_new(struct evfs_meta *meta, const struct evfs_env *env,
		    const struct evfs_transport *transport,
		    struct evfs_engine **ret,
		    struct evfs_err *err) EVFS_MUST_USE;
void evfs_engine_free(struct evfs_engine *engine); /* closes connections */

/* Where tasks go that take their time, each to come back through
 * evfs_engine_task_done(); before the first event. Without it they run at
 * once, within the event that makes them. */
void evfs_engine_on_task(struct evfs_engine *engine,
			 void (*submit)(void *ctx, struct evfs_task *task),
			 void *ctx);

/* ---- events ---- */

/* A proved connection to a member: one that was dialled, or one that came in.
 */
void evfs_engine_opened(struct evfs_engine *engine, evfs_conn conn,
			uint64_t node, bool outgoing);
void evfs_engine_received(struct evfs_engine *engine, evfs_conn conn,
			  enum evfs_channel channel, const void *data,
			  size_t len);
void evfs_engine_writable(struct evfs_engine *engine, evfs_conn conn,
			  enum evfs_channel channel);
/* It ended or was never made; why: for status and the log. */
void evfs_engine_closed(struct evfs_engine *engine, evfs_conn conn,
			const struct evfs_err *why);
/* Something became durable here (after the feed's `durable`). */
void evfs_engine_durable(struct evfs_engine *engine);
/* Somebody waits for this content. */
void evfs_engine_urgent(struct evfs_engine *engine, const evfs_hash *name,
			uint64_t size);
/* A file operation asks other members something; the answer goes through
 * evfs_quorum_answer(). withdraw: nobody waits for it any more. */
void evfs_engine_ask(struct evfs_engine *engine,
		     const struct evfs_question *question);
void evfs_engine_withdraw(struct evfs_engine *engine, uint64_t id);
/* Members or addresses changed (a command did it). */
void evfs_engine_members_changed(struct evfs_engine *engine);
/* A setting changed. */
void evfs_engine_config_changed(struct evfs_engine *engine);
/* A task that was submitted has run. */
void evfs_engine_task_done(struct evfs_engine *engine, struct evfs_task *task);
/* Does what is due; returns the monotonic time (ns) to be called again at.
 * Events change that time: call it after every round of them, too. */
uint64_t evfs_engine_tick(struct evfs_engine *engine);

/* ---- commands ---- */

/* node 0: all members. */
void evfs_engine_pause(struct evfs_engine *engine, uint64_t node, bool on);
void evfs_engine_sync(struct evfs_engine *engine, uint64_t node);

/* The layers of convergence; all are on. Tests switch some off, to show that
 * the others bring replicas together alone. */
enum {
	EVFS_LAYER_PUSH = 1,	    /* changes go to connected members */
	EVFS_LAYER_HINTS = 2,	    /* what a member missed, at its return */
	EVFS_LAYER_PULL = 4,	    /* a member that lags asks for it */
	EVFS_LAYER_READ_REPAIR = 8, /* opening a file compares it */
	EVFS_LAYERS_ALL = 15
};
void evfs_engine_set_layers(struct evfs_engine *engine, unsigned layers);

/* ---- status: truthful about what exists ---- */

enum evfs_peer_state {
	EVFS_PEER_ALIVE,
	EVFS_PEER_SUSPECT,
	EVFS_PEER_DEAD,
	EVFS_PEER_PAUSED
};

struct evfs_peer_status {
	struct evfs_member member;
	enum evfs_peer_state state;
	bool connected;
	bool in_sync; /* same root, nothing lacking on either side,
		       * content included, as last reported */
	bool has_root;
	evfs_hash root;		  /* as it last reported */
	uint64_t behind_changes;  /* what it lacks of ours, by its report */
	uint64_t behind_bytes;	  /* content included */
	uint64_t missing_changes; /* what we lack of its, by its report */
	int64_t rtt_ms;		  /* -1 unknown */
	int64_t skew_ms;	  /* its clock minus ours; INT64_MIN unknown */
	int64_t last_contact_s;	  /* -1 never */
	int64_t convergence_p50_ms, convergence_p99_ms; /* -1 unknown */
	char heard_via[EVFS_NODE_NAME_MAX + 1]; /* not connected, and this
						 * member told of it; "" else */
	uint32_t version;	  /* of the protocol, that it speaks; 0 unknown */
	uint64_t convergence_count; /* confirmed changes that went in */
	bool slow; /* connected, and the p99 of what was made in the last
		    * minute while it was exceeds convergence_target */
	uint64_t hints_count, hints_bytes; /* held for it */
	int64_t hints_oldest_s;		   /* -1 none */
	uint64_t hints_expired; /* lacking there, and not held any more */
	uint64_t hints_foreign; /* of those held, of other writers */
	char last_error[128]; /* why it is not connected; "" = none */
	bool auditing;	      /* it has lost its memory, and gives nothing */
	bool audit_due;	      /* ours is lost, and it is this one that we wait
			       * for */
	uint64_t blocks;      /* removed objects that are kept for it */
};

/* Merkle audits since the start; bytes and round trips are those of the trees,
 * without the objects. */
struct evfs_audit_status {
	uint64_t rounds;	   /* that came to their end */
	uint64_t root_matches;	   /* of them, with equal roots */
	uint64_t objects_compared; /* listed one by one */
	uint64_t objects_repaired; /* changed here by one */
	uint64_t bytes;		   /* both ways */
	int64_t last_wall_s;	   /* when one ended; -1 never */
	uint64_t last_round_trips, last_bytes; /* of that one */
	uint64_t running;	/* audits under way or due, begun here */
	uint64_t running_nodes; /* that they have gone through */
	uint64_t diverged;	/* members whose root does not fit */
	uint64_t divergences;	/* ever found, since the start */
};

struct evfs_engine_status {
	struct evfs_peer_status *peers; /* owned by the caller after the call;
					 * evfs_free */
	size_t n_peers;
	bool paused;		  /* all of it */
	bool removed;		  /* this replica, from the volume */
	bool auditing;		  /* memory was lost, audits are due */
	uint64_t lives;		  /* begun since start, for lost memory */
	bool converged;		  /* CONTRACT "converged" */
	uint64_t pending_changes; /* not confirmed by every member */
	uint64_t pending_bytes;
	int64_t oldest_pending_s; /* -1 none */
	int64_t verified_wall_s;  /* when all last were in sync; -1 never */
	uint64_t wanted_contents, wanted_bytes; /* lacking here */
	uint64_t bytes_sent, bytes_received;	/* since start, all peers */
	uint64_t messages_sent, messages_received;
	uint64_t chunks_corrupt; /* refused for their hash */
	struct evfs_audit_status audit;
	uint64_t gossip_rounds;	 /* all since start */
	uint64_t gossip_messages, gossip_bytes; /* sent */
	uint64_t gossip_refused; /* claims that were not believed */
	unsigned health; /* of this daemon's own timing: 0 well, to 8 */
	uint64_t hints_delivered, hints_expired; /* since start */
	uint64_t write_waits, write_failed;	 /* fsync with a quorum */
	uint64_t read_waits, read_failed;	 /* open with a quorum */
	uint64_t read_checks, read_repaired;	 /* objects compared at an
						  * open; put right */
};
int evfs_engine_status(struct evfs_engine *engine,
		       struct evfs_engine_status *ret,
		       struct evfs_err *err) EVFS_MUST_USE;

/* Changes that no other member has confirmed, counted up to `max`: O(result).
 */
int evfs_engine_only_here(struct evfs_engine *engine, uint64_t max,
			  uint64_t *ret, struct evfs_err *err) EVFS_MUST_USE;

/* Called (on the engine's thread) whenever status may have changed; for
 * `status --wait`. */
void evfs_engine_on_change(struct evfs_engine *engine,
			   void (*changed)(void *ctx), void *ctx);

#endif
