/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The life of a connection and its frames. Whatever goes wrong in a message
 * ends here: nothing is half done, the reason is logged and told to the peer,
 * and the next connection starts from what is durable on both sides. */
#include "net/session.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "net/engine_priv.h"

struct evfs_session *evfs_session_new(struct evfs_engine *engine,
				      evfs_conn conn, uint64_t node,
				      bool outgoing)
{
	struct evfs_session *session = evfs_calloc(1, sizeof(*session));
	struct evfs_session **at = &engine->sessions;

	if (session == NULL)
		return NULL;
	session->conn = conn;
	session->node = node;
	session->outgoing = outgoing;
	session->peer = evfs_peer_find(engine, node);
	session->opened_ns = session->heard_ns = evfs_engine_now(engine);
	session->state = EVFS_SESSION_DIALLING;
	while (*at != NULL)
		at = &(*at)->next;
	*at = session;
	return session;
}

struct evfs_session *evfs_session_find(struct evfs_engine *engine,
				       evfs_conn conn)
{
	struct evfs_session *s;

	for (s = engine->sessions; s != NULL; s = s->next)
		if (s->conn == conn && s->state != EVFS_SESSION_CLOSED)
			return s;
	return NULL;
}

struct evfs_session *evfs_session_of(struct evfs_engine *engine, uint64_t node)
{
	struct evfs_session *s;

	for (s = engine->sessions; s != NULL; s = s->next)
		if (s->node == node && s->state != EVFS_SESSION_CLOSED)
			return s;
	return NULL;
}

/* ---- the end ---- */

void evfs_session_drop(struct evfs_engine *engine, struct evfs_session *session)
{
	struct evfs_peer *peer = session->peer;
	int i;

	if (session->state == EVFS_SESSION_CLOSED)
		return;
	session->state = EVFS_SESSION_CLOSED;
	evfs_push_fini(session);
	evfs_audit_fini(session);
	evfs_apply_fini(engine, session);
	evfs_serve_fini(session);
	evfs_fetch_session_gone(engine, session);
	evfs_quorum_session_gone(session);
	for (i = 0; i < EVFS_CHANNELS; i++) {
		evfs_buf_fini(&session->in[i]);
		evfs_buf_fini(&session->backlog[i]);
	}
	evfs_buf_fini(&session->asks);
	evfs_context_fini(&session->assumed);
	evfs_context_fini(&session->told);
	evfs_context_fini(&session->pulled);
	if (peer != NULL && peer->session == session) {
		peer->session = NULL;
		peer->report.complete = false;
		peer->unequal_ns = 0;
		peer->lost_ns = evfs_engine_now(engine);
		if (evfs_engine_now(engine) - session->opened_ns >
		    10 * EVFS_SECOND)
			peer->failures = 0;
		engine->report_due = true;
	}
	engine->changed = true;
}

static void send_bye(struct evfs_engine *engine, struct evfs_session *session,
		     enum evfs_bye code, const char *reason)
{
	Evfs__Wire__Envelope envelope = EVFS__WIRE__ENVELOPE__INIT;
	Evfs__Wire__Bye bye = EVFS__WIRE__BYE__INIT;
	struct evfs_buf frame = { 0 };
	char text[EVFS_WIRE_REASON_MAX + 1];

	snprintf(text, sizeof(text), "%s", reason);
	bye.code = code;
	bye.reason = text;
	envelope.kind_case = EVFS__WIRE__ENVELOPE__KIND_BYE;
	envelope.bye = &bye;
	/* best effort: behind a backlog it would come out of order */
	if (session->backlog[EVFS_CHANNEL_CONTROL].len == 0 &&
	    evfs_wire_encode(&envelope, &frame) == 0)
		(void)engine->transport->send(
			engine->transport->ctx, session->conn,
			EVFS_CHANNEL_CONTROL, frame.data, frame.len);
	evfs_buf_fini(&frame);
}

void evfs_session_close(struct evfs_engine *engine,
			struct evfs_session *session, enum evfs_bye code,
			const char *reason)
{
	if (session->state == EVFS_SESSION_CLOSED)
		return;
	if (session->state != EVFS_SESSION_DIALLING)
		send_bye(engine, session, code, reason);
	engine->transport->close(engine->transport->ctx, session->conn);
	evfs_session_drop(engine, session);
}

void evfs_session_fail(struct evfs_engine *engine, struct evfs_session *session,
		       const struct evfs_err *err)
{
	bool theirs = err->code == EVFS_EPROTO || err->code == EVFS_ECORRUPT ||
		      err->code == EVFS_ELIMIT;

	if (session->state == EVFS_SESSION_CLOSED)
		return;
	evfs_log(EVFS_LOG_WARN, "session ended: peer=%016llx err=%s",
		 (unsigned long long)session->node, err->msg);
	evfs_session_close(engine, session,
			   theirs ? EVFS_BYE_PROTOCOL : EVFS_BYE_FAILURE,
			   err->msg);
	if (session->peer != NULL)
		evfs_peer_back_off(engine, session->peer, err->msg);
}

void evfs_session_reap(struct evfs_engine *engine)
{
	struct evfs_session **at = &engine->sessions;

	while (*at != NULL) {
		struct evfs_session *session = *at;

		if (session->state != EVFS_SESSION_CLOSED) {
			at = &session->next;
			continue;
		}
		*at = session->next;
		evfs_free(session);
	}
}

/* ---- out ---- */

size_t evfs_session_queued(struct evfs_engine *engine,
			   struct evfs_session *session,
			   enum evfs_channel channel)
{
	return session->backlog[channel].len +
	       engine->transport->queued(engine->transport->ctx, session->conn,
					 channel);
}

/* Hands over whole frames: the transport takes all of a piece or nothing, and
 * an empty queue has room for one frame, not for more. */
void evfs_session_flush(struct evfs_engine *engine,
			struct evfs_session *session, enum evfs_channel channel)
{
	struct evfs_buf *backlog = &session->backlog[channel];
	size_t at = 0, len;

	while (at < backlog->len &&
	       evfs_wire_peek(backlog->data + at, backlog->len - at, &len,
			      NULL) == 1) {
		if (!engine->transport->send(
			    engine->transport->ctx, session->conn, channel,
			    backlog->data + at, EVFS_WIRE_HEADER + len))
			break;
		at += EVFS_WIRE_HEADER + len;
	}
	if (at > 0)
		evfs_buf_consume(backlog, at);
}

bool evfs_session_send(struct evfs_engine *engine, struct evfs_session *session,
		       enum evfs_channel channel,
		       Evfs__Wire__Envelope *envelope)
{
	struct evfs_buf *backlog = &session->backlog[channel];
	size_t before = backlog->len;
	struct evfs_err err = { 0 };
	int r;

	if (session->state == EVFS_SESSION_CLOSED)
		return false;
	r = evfs_wire_encode(envelope, backlog);
	if (r < 0) {
		evfs_err_set(&err, r, "sending a message: %s",
			     evfs_err_text(r));
		evfs_session_fail(engine, session, &err);
		return false;
	}
	engine->bytes_sent += backlog->len - before;
	engine->messages_sent++;
	if (before == 0)
		evfs_session_flush(engine, session, channel);
	return true;
}

void evfs_session_ping(struct evfs_engine *engine, struct evfs_session *session)
{
	Evfs__Wire__Envelope envelope = EVFS__WIRE__ENVELOPE__INIT;
	Evfs__Wire__Ping ping = EVFS__WIRE__PING__INIT;

	session->ping_ns = evfs_engine_now(engine);
	ping.id = ++session->ping_id;
	ping.clock = evfs_engine_clock(engine);
	ping.wall = evfs_engine_wall(engine);
	envelope.kind_case = EVFS__WIRE__ENVELOPE__KIND_PING;
	envelope.ping = &ping;
	(void)evfs_session_send(engine, session, EVFS_CHANNEL_CONTROL,
				&envelope);
}

/* ---- in ---- */

static void got_ping(struct evfs_engine *engine, struct evfs_session *session,
		     const Evfs__Wire__Ping *ping)
{
	Evfs__Wire__Envelope envelope = EVFS__WIRE__ENVELOPE__INIT;
	Evfs__Wire__Pong pong = EVFS__WIRE__PONG__INIT;

	evfs_engine_hear(engine, ping->clock);
	pong.id = ping->id;
	pong.clock = evfs_engine_clock(engine);
	pong.wall = evfs_engine_wall(engine);
	envelope.kind_case = EVFS__WIRE__ENVELOPE__KIND_PONG;
	envelope.pong = &pong;
	(void)evfs_session_send(engine, session, EVFS_CHANNEL_CONTROL,
				&envelope);
}

static void got_pong(struct evfs_engine *engine, struct evfs_session *session,
		     const Evfs__Wire__Pong *pong)
{
	struct evfs_peer *peer = session->peer;
	int64_t rtt;

	evfs_engine_hear(engine, pong->clock);
	if (pong->id == session->ping_id && peer != NULL) {
		rtt = (int64_t)(evfs_engine_now(engine) - session->ping_ns);
		peer->rtt_ns =
			peer->rtt_ns < 0 ? rtt : (7 * peer->rtt_ns + rtt) / 8;
		/* its clock, read half a round trip ago */
		peer->skew_ns =
			(int64_t)(pong->wall - evfs_engine_wall(engine)) +
			rtt / 2;
	}
	if (session->probe_ping > 0 && pong->id >= session->probe_ping)
		evfs_session_probe_answered(engine, session);
}

static void got_bye(struct evfs_engine *engine, struct evfs_session *session,
		    const Evfs__Wire__Bye *bye)
{
	struct evfs_peer *peer = session->peer;
	char why[sizeof(peer->last_error)];

	evfs_log(bye->code == EVFS_BYE_DUPLICATE ? EVFS_LOG_DEBUG
						 : EVFS_LOG_INFO,
		 "session ended by the peer: peer=%016llx code=%u reason=%s",
		 (unsigned long long)session->node, (unsigned)bye->code,
		 bye->reason);
	engine->transport->close(engine->transport->ctx, session->conn);
	evfs_session_drop(engine, session);
	if (peer == NULL || bye->code == EVFS_BYE_DUPLICATE)
		return;
	snprintf(why, sizeof(why), "it says: %.100s", bye->reason);
	evfs_peer_back_off(engine, peer, why);
}

static int handle_stream(struct evfs_engine *engine,
			 struct evfs_session *session,
			 const Evfs__Wire__Envelope *e, struct evfs_err *err)
{
	switch (e->kind_case) {
	case EVFS__WIRE__ENVELOPE__KIND_BEGIN:
		return evfs_apply_begin(engine, session, e->begin, err);
	case EVFS__WIRE__ENVELOPE__KIND_BATCH:
		return evfs_apply_batch(engine, session, e->batch, err);
	case EVFS__WIRE__ENVELOPE__KIND_END:
		return evfs_apply_end(engine, session, e->end, err);
	case EVFS__WIRE__ENVELOPE__KIND_MEMBERS:
		return evfs_session_members(engine, session, e->members, err);
	case EVFS__WIRE__ENVELOPE__KIND_REPORT:
		return evfs_report_receive(engine, session, e->report, err);
	case EVFS__WIRE__ENVELOPE__KIND_PULL:
		return evfs_push_pull(engine, session, e->pull, err);
	case EVFS__WIRE__ENVELOPE__KIND_AUDITED:
		return evfs_memory_given(engine, session, err);
	case EVFS__WIRE__ENVELOPE__KIND_AUDIT:
		return evfs_audit_receive(engine, session, e->audit, err);
	case EVFS__WIRE__ENVELOPE__KIND_REPAIR:
		return evfs_apply_repair(engine, session, e->repair, err);
	case EVFS__WIRE__ENVELOPE__KIND_WANT_MANIFEST:
		return evfs_serve_want_manifest(engine, session,
						e->want_manifest, err);
	case EVFS__WIRE__ENVELOPE__KIND_WANT_CHUNKS:
		return evfs_serve_want_chunks(engine, session, e->want_chunks,
					      err);
	case EVFS__WIRE__ENVELOPE__KIND_GOSSIP_SYN:
	case EVFS__WIRE__ENVELOPE__KIND_GOSSIP_ACK:
	case EVFS__WIRE__ENVELOPE__KIND_GOSSIP_ACK2:
		return evfs_gossip_receive(engine, session, e, err);
	case EVFS__WIRE__ENVELOPE__KIND_OFFER:
		return evfs_hints_offer(engine, session, e->offer, err);
	case EVFS__WIRE__ENVELOPE__KIND_GRANT:
		return evfs_hints_grant(engine, session, e->grant, err);
	case EVFS__WIRE__ENVELOPE__KIND_TAKEN:
		return evfs_hints_taken(engine, session, e->taken, err);
	case EVFS__WIRE__ENVELOPE__KIND_HOLD:
		return evfs_quorum_hold(engine, session, e->hold, err);
	case EVFS__WIRE__ENVELOPE__KIND_HELD:
		return evfs_quorum_held(engine, session, e->held, err);
	case EVFS__WIRE__ENVELOPE__KIND_COMPARE:
		return evfs_quorum_compare(engine, session, e->compare, err);
	case EVFS__WIRE__ENVELOPE__KIND_STATE:
		return evfs_quorum_state(engine, session, e->state, err);
	case EVFS__WIRE__ENVELOPE__KIND_PING:
		got_ping(engine, session, e->ping);
		return 0;
	case EVFS__WIRE__ENVELOPE__KIND_PONG:
		got_pong(engine, session, e->pong);
		return 0;
	default:
		return evfs_err_set(err, EVFS_EPROTO,
				    "message of kind %d on "
				    "the control channel",
				    (int)e->kind_case);
	}
}

static int handle_bulk(struct evfs_engine *engine, struct evfs_session *session,
		       const Evfs__Wire__Envelope *e, struct evfs_err *err)
{
	switch (e->kind_case) {
	case EVFS__WIRE__ENVELOPE__KIND_MANIFEST:
		return evfs_fetch_manifest(engine, session, e->manifest, err);
	case EVFS__WIRE__ENVELOPE__KIND_CHUNK:
		return evfs_fetch_chunk(engine, session, e->chunk, err);
	case EVFS__WIRE__ENVELOPE__KIND_NO_CHUNK:
		return evfs_fetch_no_chunk(engine, session, e->no_chunk, err);
	default:
		return evfs_err_set(err, EVFS_EPROTO,
				    "message of kind %d on "
				    "the bulk channel",
				    (int)e->kind_case);
	}
}

static int handle(struct evfs_engine *engine, struct evfs_session *session,
		  enum evfs_channel channel, const Evfs__Wire__Envelope *e,
		  struct evfs_err *err)
{
	engine->messages_received++;
	if (e->kind_case == EVFS__WIRE__ENVELOPE__KIND__NOT_SET)
		return 0; /* of a later version */
	if (channel == EVFS_CHANNEL_CONTROL &&
	    e->kind_case == EVFS__WIRE__ENVELOPE__KIND_BYE) {
		got_bye(engine, session, e->bye);
		return 0;
	}
	if (session->state == EVFS_SESSION_HELLO) {
		if (e->kind_case != EVFS__WIRE__ENVELOPE__KIND_HELLO ||
		    channel != EVFS_CHANNEL_CONTROL)
			return evfs_err_set(err, EVFS_EPROTO,
					    "message of kind %d before hello",
					    (int)e->kind_case);
		return evfs_session_hello(engine, session, e->hello, err);
	}
	return channel == EVFS_CHANNEL_CONTROL
		       ? handle_stream(engine, session, e, err)
		       : handle_bulk(engine, session, e, err);
}

static bool is_readable(const struct evfs_session *session)
{
	return session->state == EVFS_SESSION_HELLO ||
	       session->state == EVFS_SESSION_ACTIVE;
}

/* One frame at `at` of the channel's bytes: its length, 0 if not whole. */
static int step(struct evfs_engine *engine, struct evfs_session *session,
		enum evfs_channel channel, size_t at, struct evfs_err *err)
{
	struct evfs_buf *in = &session->in[channel];
	Evfs__Wire__Envelope *envelope;
	size_t len;
	int r;

	r = evfs_wire_peek(in->data + at, in->len - at, &len, err);
	if (r <= 0)
		return r;
	r = evfs_wire_decode(in->data + at + EVFS_WIRE_HEADER, len, &envelope,
			     err);
	if (r < 0)
		return r;
	r = handle(engine, session, channel, envelope, err);
	evfs_wire_free(envelope);
	return r < 0 ? r : (int)(EVFS_WIRE_HEADER + len);
}

void evfs_session_receive(struct evfs_engine *engine,
			  struct evfs_session *session,
			  enum evfs_channel channel, const void *data,
			  size_t len)
{
	struct evfs_err err = { 0 };
	size_t at = 0;
	int r = 0;

	if (len > 0) {
		session->heard_ns = evfs_engine_now(engine);
		if (session->peer != NULL)
			session->peer->contact_ns = session->heard_ns;
		evfs_gossip_seen(&engine->gossip, session->node);
		engine->bytes_received += len;
		r = evfs_buf_put(&session->in[channel], data, len);
		if (r < 0)
			evfs_err_set(&err, r, "receiving: out of memory");
	}
	while (r >= 0 && is_readable(session) &&
	       at < session->in[channel].len) {
		r = step(engine, session, channel, at, &err);
		if (r <= 0)
			break;
		at += (size_t)r;
	}
	if (r < 0)
		evfs_session_fail(engine, session, &err);
	if (session->state != EVFS_SESSION_CLOSED && at > 0)
		evfs_buf_consume(&session->in[channel], at);
}

/* ---- time ---- */

static void time_out(struct evfs_engine *engine, struct evfs_session *session,
		     const char *what)
{
	evfs_log(EVFS_LOG_INFO, "session ended: peer=%016llx err=%s",
		 (unsigned long long)session->node, what);
	evfs_session_close(engine, session, EVFS_BYE_FAILURE, what);
	if (session->peer != NULL)
		evfs_peer_back_off(engine, session->peer, what);
}

void evfs_session_tick(struct evfs_engine *engine, struct evfs_session *session,
		       uint64_t now_ns, uint64_t *next_ns)
{
	uint64_t end;

	switch (session->state) {
	case EVFS_SESSION_HELLO:
		end = session->opened_ns + EVFS_ENGINE_HELLO_NS;
		if (now_ns >= end)
			time_out(engine, session, "no hello within 15 s");
		else
			evfs_engine_lower(next_ns, end);
		return;
	case EVFS_SESSION_PROBING:
		if (now_ns >= session->probe_ns)
			evfs_session_activate(engine, session);
		else
			evfs_engine_lower(next_ns, session->probe_ns);
		return;
	case EVFS_SESSION_ACTIVE:
		end = session->heard_ns + EVFS_ENGINE_SILENCE_NS;
		if (now_ns >= end) {
			time_out(engine, session, "no answer for 20 s");
			return;
		}
		evfs_engine_lower(next_ns, end);
		if (now_ns >= session->ping_ns + EVFS_ENGINE_PING_NS)
			evfs_session_ping(engine, session);
		evfs_engine_lower(next_ns,
				  session->ping_ns + EVFS_ENGINE_PING_NS);
		return;
	case EVFS_SESSION_DIALLING:
	case EVFS_SESSION_CLOSED:
	default:
		return;
	}
}
