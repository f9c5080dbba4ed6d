/* SPDX-License-Identifier: GPL-3.0-or-later */
/* One connection to a member, from dialling to its end: its frames, its place
 * in the handshake, and the streams that go over it. Private to net/'s engine
 * files. */
#ifndef EVFS_NET_SESSION_H
#define EVFS_NET_SESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "meta/context.h"
#include "meta/delta.h"
#include "meta/idmap.h"
#include "meta/object.h"
#include "net/hints.h"
#include "net/transport.h"
#include "net/wire.h"

struct evfs_audits;
struct evfs_engine;
struct evfs_peer;
struct evfs_quorum_hold;
struct evfs_session;

enum evfs_session_state {
	EVFS_SESSION_DIALLING, /* the transport is at it */
	EVFS_SESSION_HELLO,    /* open; the peer's Hello is due */
	EVFS_SESSION_PROBING,  /* another session of that node may be dead: it
				* was asked, the answer or the deadline decides
				*/
	EVFS_SESSION_ACTIVE,
	EVFS_SESSION_CLOSED /* freed at the end of the event */
};

/* A delta stream that goes out. */
struct evfs_outgoing {
	struct evfs_delta *delta; /* owned; NULL = none */
	uint64_t id;		  /* Begin.stream */
	bool paced;		  /* what the peer missed: net/hints.h */
	uint64_t paced_id;	  /* of the last such stream; its */
	uint64_t sent, taken;	  /* objects sent, and acknowledged, and */
	uint64_t window;	  /* how many may be between the two */
};

/* One that comes in. */
struct evfs_incoming {
	bool open;		  /* between Begin and End */
	bool repair;		  /* of audits: no stream, and no context */
	uint64_t id;		  /* Begin.stream of the last */
	struct evfs_context snap; /* the sender's context */
	struct evfs_buf partial; /* the object that goes on in the next frame */
	struct evfs_object **objects; /* owned; of the batch so far */
	size_t n_objects, cap_objects;
	size_t bytes;			/* of the batch so far */
	struct evfs_content_put **puts; /* owned; inline contents written */
	size_t n_puts, cap_puts;
	bool audit;	       /* all that the member has comes */
	struct evfs_idmap met; /* owned; then: keys of what came */
	size_t changed; /* objects that the last batch changed */
	bool paced;	   /* Begin.paced */
	uint64_t paced_id; /* of the last such stream; its objects: */
	uint64_t taken, marked, said; /* applied; on disk at generation
				       * `mark`; acknowledged */
	uint64_t mark;
	uint64_t offered;  /* objects that wait for a Grant; 0 = none */
	bool granted;	   /* it may send them */
	uint64_t batch_ns; /* last batch, Offer or Grant */
};

/* What the peer asked for and has not got yet. */
struct evfs_serve_item {
	evfs_hash hash;
	bool manifest; /* of this content; else the chunk */
};

struct evfs_serve {
	struct evfs_serve_item *items; /* owned */
	size_t at, n, cap;	       /* items[at..n) wait */
	struct evfs_buf manifest;      /* being sent */
	evfs_hash manifest_name;
	uint64_t manifest_at; /* offset of what comes next */
	bool manifest_open;   /* a manifest is being sent */
};

/* The audit of a member that had lost its memory, in the other direction. */
enum evfs_back {
	EVFS_BACK_NONE,
	EVFS_BACK_WANTED, /* it wants one */
	EVFS_BACK_ASKED,  /* it was asked for everything */
	EVFS_BACK_TAKEN	  /* that came, and is not on disk yet */
};

struct evfs_session {
	struct evfs_session *next;
	evfs_conn conn;
	uint64_t node;
	struct evfs_peer *peer; /* NULL once the member is gone */
	bool outgoing;		/* dialled here */
	enum evfs_session_state state;
	uint64_t instance; /* of the peer's daemon; after Hello */
	bool auditing;	   /* Hello.auditing */
	uint32_t epoch;	   /* of its actor; the same */
	struct evfs_buf in[EVFS_CHANNELS];	/* bytes not yet a frame */
	struct evfs_buf backlog[EVFS_CHANNELS]; /* frames that the transport
						 * did not take */
	uint64_t opened_ns;			/* monotonic, as all below */
	uint64_t heard_ns;			/* last bytes from the peer */
	uint64_t ping_ns; /* when the last Ping was sent */
	uint64_t ping_id;
	uint64_t probe_ns;	     /* PROBING: the deadline */
	uint64_t probe_ping;	     /* id of the Ping that decides; on the
				      * session that is asked */
	struct evfs_context assumed; /* what the peer will have when it has
				      * read what was sent */
	struct evfs_context told;    /* what our reports have said */
	uint64_t relay_ns;	     /* when others' rows are due; 0 = not */
	bool pull;		     /* a stream is due whatever is assumed */
	bool pull_audit;	     /* for an audit of the peer's */
	bool audit_asked;	     /* an audit of ours: it was asked for
				      * everything, */
	bool audit_back_asked;	     /* and later to audit us, too */
	enum evfs_back back;
	uint64_t back_generation;    /* TAKEN: to be on disk */
	struct evfs_context pulled;  /* from where, then */
	bool caught_up;		     /* it has had all since it came */
	enum evfs_handoff handoff;   /* of what it missed */
	uint64_t offer_ns;
	struct evfs_outgoing out;
	struct evfs_incoming incoming;
	struct evfs_incoming repairs; /* batches of audits */
	struct evfs_audits *audits;   /* owned; NULL = none yet */
	struct evfs_serve serve;
	uint64_t asked_bytes; /* outstanding requests of ours */
	uint64_t answer_ns;   /* last answer, or first request after */
	bool waits;	      /* fetch.c, for a moment: a manifest is
			       * due from it */
	struct evfs_buf asks; /* hashes of the next WantChunks */
	struct evfs_quorum_hold *holds; /* owned; what it wants to hear of */
	size_t n_holds;
};

/* ---- life: net/session.c ---- */

struct evfs_session *evfs_session_new(struct evfs_engine *engine,
				      evfs_conn conn, uint64_t node,
				      bool outgoing);
struct evfs_session *evfs_session_find(struct evfs_engine *engine,
				       evfs_conn conn);
/* Any connection of this node that is not closed, or being made. */
struct evfs_session *evfs_session_of(struct evfs_engine *engine, uint64_t node);
/* Tells the peer why, closes the connection, and lets go of all that the
 * session held. */
void evfs_session_close(struct evfs_engine *engine,
			struct evfs_session *session, enum evfs_bye code,
			const char *reason);
/* The same without words: the connection is gone already. */
void evfs_session_drop(struct evfs_engine *engine,
		       struct evfs_session *session);
/* Ends it for an error of its own: a protocol violation or a local failure;
 * logged once. */
void evfs_session_fail(struct evfs_engine *engine, struct evfs_session *session,
		       const struct evfs_err *err);
/* Frees closed sessions; at the end of every event. */
void evfs_session_reap(struct evfs_engine *engine);

/* Appends bytes of a channel and handles the frames that are whole. */
void evfs_session_receive(struct evfs_engine *engine,
			  struct evfs_session *session,
			  enum evfs_channel channel, const void *data,
			  size_t len);
/* Encodes and queues; a failure ends the session. False: it has ended. */
bool evfs_session_send(struct evfs_engine *engine, struct evfs_session *session,
		       enum evfs_channel channel,
		       Evfs__Wire__Envelope *envelope);
/* Hands the backlog to the transport. */
void evfs_session_flush(struct evfs_engine *engine,
			struct evfs_session *session,
			enum evfs_channel channel);
/* Bytes that wait to go out. */
size_t evfs_session_queued(struct evfs_engine *engine,
			   struct evfs_session *session,
			   enum evfs_channel channel);
/* Pings, silence, probes. Lowers *next_ns to when it is to be called again. */
void evfs_session_tick(struct evfs_engine *engine, struct evfs_session *session,
		       uint64_t now_ns, uint64_t *next_ns);
void evfs_session_ping(struct evfs_engine *engine,
		       struct evfs_session *session);

/* ---- handshake: net/session_hello.c ---- */

void evfs_session_send_hello(struct evfs_engine *engine,
			     struct evfs_session *session);
/* These return 0 or an error that ends the session; they may have closed it
 * themselves. */
int evfs_session_hello(struct evfs_engine *engine, struct evfs_session *session,
		       const Evfs__Wire__Hello *hello,
		       struct evfs_err *err) EVFS_MUST_USE;
/* A Pong of the session that was probed: its daemon lives. */
void evfs_session_probe_answered(struct evfs_engine *engine,
				 struct evfs_session *alive);
void evfs_session_activate(struct evfs_engine *engine,
			   struct evfs_session *session);

/* ---- members: net/peer.c ---- */

/* The records of these nodes; of all where nodes is NULL. */
void evfs_session_send_members(struct evfs_engine *engine,
			       struct evfs_session *session,
			       const uint64_t *nodes, size_t n);
int evfs_session_members(struct evfs_engine *engine,
			 struct evfs_session *session,
			 const Evfs__Wire__Members *members,
			 struct evfs_err *err) EVFS_MUST_USE;

/* ---- streams out: net/push.c ---- */

/* Starts a stream where one is due and sends what fits. */
void evfs_push_run(struct evfs_engine *engine, struct evfs_session *session,
		   uint64_t now_ns, uint64_t *next_ns);
/* Sends Pull: everything beyond `from` is wanted. */
void evfs_push_ask(struct evfs_engine *engine, struct evfs_session *session,
		   const struct evfs_context *from);
/* A stream of everything beyond `from` is due, and of what was asked for before
 * and has not begun: the one may be an audit, which waits for all that there
 * is. EVFS_ENOMEM. */
int evfs_push_again(struct evfs_session *session,
		    const struct evfs_context *from) EVFS_MUST_USE;
int evfs_push_pull(struct evfs_engine *engine, struct evfs_session *session,
		   const Evfs__Wire__Pull *pull,
		   struct evfs_err *err) EVFS_MUST_USE;
void evfs_push_fini(struct evfs_session *session);
/* May a batch of objects go out now, by what is queued and by bandwidth_up? If
 * not, *next_ns is lowered to when to ask again. Sending one takes its bytes
 * from engine->up. */
bool evfs_push_may_send(struct evfs_engine *engine,
			struct evfs_session *session, uint64_t now_ns,
			uint64_t *next_ns);
/* Objects that an audit found different, n > 0, as one batch apart from the
 * stream. */
int evfs_push_repair(struct evfs_engine *engine, struct evfs_session *session,
		     struct evfs_object *const *objects, size_t n, bool answer,
		     struct evfs_err *err) EVFS_MUST_USE;

/* ---- streams in: net/apply.c ---- */

int evfs_apply_begin(struct evfs_engine *engine, struct evfs_session *session,
		     const Evfs__Wire__Begin *begin,
		     struct evfs_err *err) EVFS_MUST_USE;
int evfs_apply_batch(struct evfs_engine *engine, struct evfs_session *session,
		     const Evfs__Wire__Batch *batch,
		     struct evfs_err *err) EVFS_MUST_USE;
int evfs_apply_end(struct evfs_engine *engine, struct evfs_session *session,
		   const Evfs__Wire__End *end,
		   struct evfs_err *err) EVFS_MUST_USE;
int evfs_apply_repair(struct evfs_engine *engine, struct evfs_session *session,
		      const Evfs__Wire__Batch *batch,
		      struct evfs_err *err) EVFS_MUST_USE;
/* Objects outside a stream, joined like those of one. *ret_changed: how many
 * are another state now. May end the session itself. */
int evfs_apply_state(struct evfs_engine *engine, struct evfs_session *session,
		     const Evfs__Wire__State *state, size_t *ret_changed,
		     struct evfs_err *err) EVFS_MUST_USE;
void evfs_apply_fini(struct evfs_engine *engine, struct evfs_session *session);

/* ---- lost memory: net/memory.c ---- */

/* Is a context of a peer evidence that this replica has lost changes? Then it
 * goes on as another life, all sessions are over: true. */
bool evfs_session_amnesia(struct evfs_engine *engine,
			  struct evfs_session *session,
			  const struct evfs_context *context);
/* The same of the run in which the peer last met this replica. */
bool evfs_session_lost_run(struct evfs_engine *engine,
			   struct evfs_session *session,
			   const Evfs__Wire__Hello *hello);
/* A stream begins: is it the answer that an audit waits for? */
int evfs_memory_stream_begin(struct evfs_engine *engine,
			   struct evfs_session *session, bool full,
			   struct evfs_err *err) EVFS_MUST_USE;
/* Remembers the objects of a batch. Not locked. */
int evfs_memory_stream_met(struct evfs_engine *engine,
			 struct evfs_incoming *incoming,
			 struct evfs_err *err) EVFS_MUST_USE;
/* It has come to its end: what did not come is gone there. */
int evfs_memory_stream_end(struct evfs_engine *engine,
			 struct evfs_session *session,
			 struct evfs_err *err) EVFS_MUST_USE;
void evfs_memory_stream_fini(struct evfs_incoming *incoming);
/* The peer has audited this replica. */
int evfs_memory_given(struct evfs_engine *engine, struct evfs_session *session,
		      struct evfs_err *err) EVFS_MUST_USE;

/* ---- reports: net/report.c ---- */

void evfs_report_send(struct evfs_engine *engine, struct evfs_session *session);
int evfs_report_receive(struct evfs_engine *engine,
			struct evfs_session *session,
			const Evfs__Wire__Report *report,
			struct evfs_err *err) EVFS_MUST_USE;

/* ---- gossip: net/engine_gossip.c ---- */

/* A SYN, ACK or ACK2. */
int evfs_gossip_receive(struct evfs_engine *engine,
			struct evfs_session *session,
			const Evfs__Wire__Envelope *e,
			struct evfs_err *err) EVFS_MUST_USE;

/* ---- answers: net/serve.c ---- */

int evfs_serve_want_manifest(struct evfs_engine *engine,
			     struct evfs_session *session,
			     const Evfs__Wire__WantManifest *want,
			     struct evfs_err *err) EVFS_MUST_USE;
int evfs_serve_want_chunks(struct evfs_engine *engine,
			   struct evfs_session *session,
			   const Evfs__Wire__WantChunks *want,
			   struct evfs_err *err) EVFS_MUST_USE;
void evfs_serve_run(struct evfs_engine *engine, struct evfs_session *session,
		    uint64_t now_ns, uint64_t *next_ns);
void evfs_serve_fini(struct evfs_session *session);

#endif
