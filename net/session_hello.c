/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The handshake: both sides say Hello at once, and each decides for itself
 * whether the session may live. Of two sessions between the same two daemons
 * both sides keep the same one: that which the smaller node id dialled, or the
 * newer of two that one side dialled. A second *daemon* of one replica is
 * refused if the first still answers; if it does not, it is gone and its
 * session a leftover. */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "net/engine_priv.h"

/* Rows of one node, of any epoch: what we know of it, from the contexts and
 * from objects met beyond them. */
static int put_seen(const struct evfs_engine *engine, uint64_t node,
		    struct evfs_buf *out)
{
	const struct evfs_context *from[] = { &engine->durable, &engine->seen };
	struct evfs_context rows = { 0 };
	size_t i, k;
	int r = 0;

	for (k = 0; k < 2; k++)
		for (i = 0; r == 0 && i < from[k]->n; i++)
			if (from[k]->rows[i].actor.node == node)
				r = evfs_context_raise(
					&rows, from[k]->rows[i].actor,
					from[k]->rows[i].counter);
	if (r == 0)
		r = evfs_wire_put_context(&rows, out);
	evfs_context_fini(&rows);
	return r;
}

void evfs_session_send_hello(struct evfs_engine *engine,
			     struct evfs_session *session)
{
	Evfs__Wire__Envelope envelope = EVFS__WIRE__ENVELOPE__INIT;
	Evfs__Wire__Hello hello = EVFS__WIRE__HELLO__INIT;
	struct evfs_buf context = { 0 }, seen = { 0 };
	struct evfs_err err = { 0 };
	struct evfs_peer *peer;
	int r;

	r = evfs_wire_put_context(&engine->durable, &context);
	if (r == 0)
		r = put_seen(engine, session->node, &seen);
	if (r < 0) {
		evfs_err_set(&err, r, "hello: out of memory");
		evfs_session_fail(engine, session, &err);
		goto out;
	}
	hello.version = EVFS_PROTOCOL_VERSION;
	hello.version_oldest = EVFS_PROTOCOL_VERSION;
	hello.volume = evfs_wire_bytes(evfs_meta_volume(engine->meta)->b,
				       EVFS_HASH_SIZE);
	hello.node = engine->self;
	hello.epoch = evfs_meta_actor(engine->meta).epoch;
	hello.instance = engine->instance;
	hello.context = evfs_wire_bytes(context.data, context.len);
	hello.root = evfs_wire_bytes(engine->root.b, EVFS_HASH_SIZE);
	hello.clock = evfs_engine_clock(engine);
	hello.wall = evfs_engine_wall(engine);
	hello.members = 1;
	for (peer = engine->peers; peer != NULL; peer = peer->next)
		hello.members++;
	hello.seen = evfs_wire_bytes(seen.data, seen.len);
	hello.auditing = engine->recalling;
	if (session->peer != NULL) {
		hello.met_instance = session->peer->report.met.instance;
		hello.met_epoch = session->peer->report.met.epoch;
		hello.met_counter = session->peer->report.met.counter;
	}
	envelope.kind_case = EVFS__WIRE__ENVELOPE__KIND_HELLO;
	envelope.hello = &hello;
	(void)evfs_session_send(engine, session, EVFS_CHANNEL_CONTROL,
				&envelope);
out:
	evfs_buf_fini(&context);
	evfs_buf_fini(&seen);
}

/* Ends a session that cannot be, with words for both logs; once, however often
 * it is tried. */
static void refuse(struct evfs_engine *engine, struct evfs_session *session,
		   enum evfs_bye code, const char *why)
{
	bool known = session->peer != NULL &&
		     strncmp(session->peer->last_error, why,
			     sizeof(session->peer->last_error) - 1) == 0;

	evfs_log(known ? EVFS_LOG_DEBUG : EVFS_LOG_ERROR,
		 "session refused: peer=%016llx err=%s",
		 (unsigned long long)session->node, why);
	evfs_session_close(engine, session, code, why);
	if (session->peer != NULL)
		evfs_peer_back_off(engine, session->peer, why);
}

/* Another session of this node is there already: which one stays? True: the
 * new one goes on to be active now. */
static bool settle_rivals(struct evfs_engine *engine,
			  struct evfs_session *session)
{
	struct evfs_session *other = session->peer->session;
	bool keep_outgoing = engine->self < session->node;

	if (other == NULL)
		return true;
	if (other->instance != session->instance) {
		session->state = EVFS_SESSION_PROBING;
		session->probe_ns =
			evfs_engine_now(engine) + EVFS_ENGINE_PROBE_NS;
		engine->transport->hold(engine->transport->ctx, session->conn,
					EVFS_CHANNEL_CONTROL, true);
		evfs_session_ping(engine, other);
		other->probe_ping = other->ping_id;
		return false;
	}
	if (other->outgoing != session->outgoing &&
	    session->outgoing != keep_outgoing) {
		evfs_session_close(engine, session, EVFS_BYE_DUPLICATE,
				   "another session is kept");
		return false;
	}
	return true; /* activation closes the other */
}

static int check_hello(struct evfs_engine *engine, struct evfs_session *session,
		       const Evfs__Wire__Hello *hello, struct evfs_err *err)
{
	char why[EVFS_WIRE_REASON_MAX];

	if (hello->version < EVFS_PROTOCOL_VERSION ||
	    hello->version_oldest > EVFS_PROTOCOL_VERSION) {
		snprintf(why, sizeof(why),
			 "protocol versions %u to %u there, "
			 "%d here (update the older evfs)",
			 (unsigned)hello->version_oldest,
			 (unsigned)hello->version, EVFS_PROTOCOL_VERSION);
		refuse(engine, session, EVFS_BYE_VERSION, why);
		return 0;
	}
	if (memcmp(hello->volume.data, evfs_meta_volume(engine->meta)->b,
		   EVFS_HASH_SIZE) != 0) {
		refuse(engine, session, EVFS_BYE_VOLUME,
		       "it is a replica of another volume");
		return 0;
	}
	if (hello->node == engine->self) {
		refuse(engine, session, EVFS_BYE_TWINS,
		       "two daemons run with "
		       "this replica's identity (a copied store? stop one; "
		       "the copy must join as a new replica)");
		return 0;
	}
	if (hello->node != session->node)
		return evfs_err_set(err, EVFS_EPROTO,
				    "hello of node %016llx "
				    "over a connection to %016llx",
				    (unsigned long long)hello->node,
				    (unsigned long long)session->node);
	if (!session->outgoing && evfs_links_are_enough(engine)) {
		evfs_session_close(engine, session, EVFS_BYE_FULL,
				   "it has sessions enough");
		return 0;
	}
	return 1;
}

int evfs_session_hello(struct evfs_engine *engine, struct evfs_session *session,
		       const Evfs__Wire__Hello *hello, struct evfs_err *err)
{
	struct evfs_context context = { 0 };
	int r = check_hello(engine, session, hello, err);

	if (r <= 0)
		return r;
	r = evfs_wire_get_context(&hello->seen, &context, err);
	if (r == 0 && (evfs_session_lost_run(engine, session, hello) ||
		       evfs_session_amnesia(engine, session, &context)))
		goto out;
	if (r == 0)
		r = evfs_wire_get_context(&hello->context, &context, err);
	if (r < 0 || evfs_session_amnesia(engine, session, &context))
		goto out;
	evfs_engine_hear(engine, hello->clock);
	session->instance = hello->instance;
	session->epoch = hello->epoch;
	session->auditing = hello->auditing;
	evfs_context_fini(&session->assumed);
	session->assumed = context;
	context = (struct evfs_context){ 0 };
	if (settle_rivals(engine, session))
		evfs_session_activate(engine, session);
out:
	evfs_context_fini(&context);
	return r;
}

void evfs_session_probe_answered(struct evfs_engine *engine,
				 struct evfs_session *alive)
{
	struct evfs_session *s;

	alive->probe_ping = 0;
	for (s = engine->sessions; s != NULL; s = s->next)
		if (s->state == EVFS_SESSION_PROBING && s->node == alive->node)
			refuse(engine, s, EVFS_BYE_TWINS,
			       "two daemons of one "
			       "replica are connected (a copied store? stop "
			       "one; the copy must join as a new replica)");
}

void evfs_session_activate(struct evfs_engine *engine,
			   struct evfs_session *session)
{
	struct evfs_peer *peer = session->peer;
	bool was_probing = session->state == EVFS_SESSION_PROBING;
	struct evfs_err err = { 0 };
	int r;

	if (peer->session != NULL)
		evfs_session_close(engine, peer->session, EVFS_BYE_DUPLICATE,
				   "another session is kept");
	session->state = EVFS_SESSION_ACTIVE;
	peer->session = session;
	peer->last_error[0] = '\0';
	peer->report.known = true;
	peer->report.complete = false;
	/* not before: a copy that is refused says nothing of the member */
	peer->report.auditing = session->auditing;
	peer->report.met = (struct evfs_met){
		.instance = session->instance,
		.epoch = session->epoch,
		.counter = evfs_context_get(
			&session->assumed,
			(evfs_actor){ session->node, session->epoch })
	};
	evfs_report_take_back(peer, &session->assumed);
	r = evfs_context_copy(&peer->report.context, &session->assumed);
	if (r < 0) {
		evfs_err_set(&err, r, "hello: out of memory");
		evfs_session_fail(engine, session, &err);
		return;
	}
	peer->report.unsaved = true;
	engine->news++;
	engine->report_due = engine->changed = true;
	evfs_memory_contact(engine);
	evfs_log(EVFS_LOG_INFO, "session open: peer=%s", peer->member.name);
	evfs_session_send_members(engine, session, NULL, 0);
	evfs_report_send(engine, session);
	evfs_session_ping(engine, session);
	evfs_fetch_peer_news(engine, session->node);
	if (was_probing && session->state == EVFS_SESSION_ACTIVE) {
		engine->transport->hold(engine->transport->ctx, session->conn,
					EVFS_CHANNEL_CONTROL, false);
		evfs_session_receive(engine, session, EVFS_CHANNEL_CONTROL,
				     NULL, 0);
	}
}
