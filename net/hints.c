/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Handing over what a member missed: offers, permission, pace. */
#include "net/hints.h"

#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "meta/delta.h"
#include "net/engine_priv.h"

#define OFFER_AGAIN_NS (10 * EVFS_SECOND)
#define SLOW_NS (2 * EVFS_SECOND)   /* without a batch: another may send, too */
#define REST_NS (300 * EVFS_MS)	    /* until our report has reached the others */
#define LAG_NS (1 * EVFS_SECOND)    /* others bring it by themselves until then */
#define STALE_NS (15 * EVFS_SECOND) /* who says no more is not waited for */
#define PULL_NS (10 * EVFS_SECOND)  /* between pulls that changed nothing */
#define PULL_SOON_NS (2 * EVFS_SECOND)

/* ---- the sender ---- */

static void send_offer(struct evfs_engine *engine, struct evfs_session *session,
		       uint64_t changes)
{
	Evfs__Wire__Envelope envelope = EVFS__WIRE__ENVELOPE__INIT;
	Evfs__Wire__Offer offer = EVFS__WIRE__OFFER__INIT;

	offer.changes = changes;
	envelope.kind_case = EVFS__WIRE__ENVELOPE__KIND_OFFER;
	envelope.offer = &offer;
	(void)evfs_session_send(engine, session, EVFS_CHANNEL_CONTROL,
				&envelope);
}

bool evfs_hints_may_send(struct evfs_engine *engine,
			 struct evfs_session *session, uint64_t now_ns,
			 uint64_t *next_ns)
{
	uint64_t n = 0;
	int r;

	if ((engine->layers & EVFS_LAYER_HINTS) == 0 ||
	    evfs_hints_expired(session->peer))
		return false; /* it will pull */
	if (session->handoff == EVFS_HANDOFF_GRANTED)
		return true;
	if (session->handoff == EVFS_HANDOFF_OFFERED &&
	    now_ns < session->offer_ns + OFFER_AGAIN_NS) {
		evfs_engine_lower(next_ns, session->offer_ns + OFFER_AGAIN_NS);
		return false;
	}
	evfs_meta_lock(engine->meta);
	r = evfs_delta_count(engine->meta, &session->assumed,
			     100 * EVFS_HINTS_SMALL, &n, NULL);
	evfs_meta_unlock(engine->meta);
	if (r < 0 || n <= EVFS_HINTS_SMALL)
		return true; /* what fails here will say so there */
	session->handoff = EVFS_HANDOFF_OFFERED;
	session->offer_ns = now_ns;
	evfs_engine_lower(next_ns, now_ns + OFFER_AGAIN_NS);
	send_offer(engine, session, n);
	return false;
}

void evfs_hints_done(struct evfs_engine *engine, struct evfs_session *session)
{
	bool offered = session->handoff != EVFS_HANDOFF_NONE;

	session->caught_up = true;
	session->handoff = EVFS_HANDOFF_NONE;
	if (offered)
		send_offer(engine, session, 0);
}

void evfs_hints_begin(struct evfs_outgoing *out)
{
	out->paced_id = out->id;
	out->sent = out->taken = 0;
	out->window = EVFS_HINTS_WINDOW;
}

void evfs_hints_count_sent(struct evfs_engine *engine,
			   struct evfs_session *session, size_t n)
{
	uint64_t never = UINT64_MAX; /* whoever goes on looks for himself */

	session->out.sent += n;
	(void)evfs_bucket_take(&engine->hint_bucket, evfs_engine_now(engine),
			       n, &never);
}

bool evfs_hints_may_go_on(struct evfs_engine *engine,
			  struct evfs_session *session, uint64_t now_ns,
			  uint64_t *next_ns)
{
	struct evfs_outgoing *out = &session->out;

	if (out->sent - out->taken >= out->window)
		return false; /* its acknowledgement is the next event */
	return evfs_bucket_take(&engine->hint_bucket, now_ns, 0, next_ns);
}

int evfs_hints_grant(struct evfs_engine *engine, struct evfs_session *session,
		     const Evfs__Wire__Grant *grant, struct evfs_err *err)
{
	(void)err;
	if (session->handoff == EVFS_HANDOFF_OFFERED && grant->go)
		session->handoff = EVFS_HANDOFF_GRANTED;
	else if (grant->go)
		send_offer(engine, session, 0); /* nothing is left by now */
	return 0;
}

int evfs_hints_taken(struct evfs_engine *engine, struct evfs_session *session,
		     const Evfs__Wire__Taken *taken, struct evfs_err *err)
{
	struct evfs_outgoing *out = &session->out;

	if (taken->stream != out->paced_id)
		return 0; /* of one before that */
	if (taken->objects > out->sent)
		return evfs_err_set(err, EVFS_EPROTO,
				    "taken: %llu objects of %llu",
				    (unsigned long long)taken->objects,
				    (unsigned long long)out->sent);
	if (taken->objects <= out->taken)
		return 0;
	engine->hints.delivered += taken->objects - out->taken;
	out->taken = taken->objects;
	if (out->window < EVFS_HINTS_WINDOW_MAX)
		out->window *= 2;
	return 0;
}

/* ---- the receiver: whom it lets send ---- */

int evfs_hints_offer(struct evfs_engine *engine, struct evfs_session *session,
		     const Evfs__Wire__Offer *offer, struct evfs_err *err)
{
	(void)err;
	session->incoming.offered = offer->changes;
	session->incoming.batch_ns = evfs_engine_now(engine);
	if (offer->changes == 0)
		session->incoming.granted = false;
	return 0;
}

void evfs_hints_stream_ended(struct evfs_engine *engine,
			     struct evfs_session *session)
{
	if (!session->incoming.granted)
		return;
	session->incoming.granted = false;
	session->incoming.offered = 0;
	engine->hints.rest_ns = evfs_engine_now(engine) + REST_NS;
}

static void grant(struct evfs_engine *engine, struct evfs_session *session,
		  uint64_t now_ns)
{
	Evfs__Wire__Envelope envelope = EVFS__WIRE__ENVELOPE__INIT;
	Evfs__Wire__Grant message = EVFS__WIRE__GRANT__INIT;

	session->incoming.granted = true;
	session->incoming.batch_ns = now_ns;
	message.go = true;
	envelope.kind_case = EVFS__WIRE__ENVELOPE__KIND_GRANT;
	envelope.grant = &message;
	(void)evfs_session_send(engine, session, EVFS_CHANNEL_CONTROL,
				&envelope);
}

static void run_grants(struct evfs_engine *engine, uint64_t now_ns,
		       uint64_t *next_ns)
{
	struct evfs_session *s, *best = NULL;
	unsigned n = 0, slow = 0;

	for (s = engine->sessions; s != NULL; s = s->next) {
		if (s->state != EVFS_SESSION_ACTIVE)
			continue;
		if (s->incoming.granted) {
			n++;
			slow += now_ns >= s->incoming.batch_ns + SLOW_NS;
		} else if (s->incoming.offered > 0 &&
			   (best == NULL || s->incoming.offered >
						    best->incoming.offered)) {
			best = s;
		}
	}
	if (best == NULL || n >= EVFS_HINTS_SENDERS)
		return;
	if (now_ns < engine->hints.rest_ns)
		evfs_engine_lower(next_ns, engine->hints.rest_ns);
	else if (n == slow)
		grant(engine, best, now_ns);
	else
		evfs_engine_lower(next_ns, now_ns + SLOW_NS / 2);
}

/* ---- the receiver: what is on disk ---- */

static void send_taken(struct evfs_engine *engine, struct evfs_session *session)
{
	Evfs__Wire__Envelope envelope = EVFS__WIRE__ENVELOPE__INIT;
	Evfs__Wire__Taken taken = EVFS__WIRE__TAKEN__INIT;

	taken.stream = session->incoming.paced_id;
	taken.objects = session->incoming.marked;
	envelope.kind_case = EVFS__WIRE__ENVELOPE__KIND_TAKEN;
	envelope.taken = &taken;
	(void)evfs_session_send(engine, session, EVFS_CHANNEL_CONTROL,
				&envelope);
}

/* One mark at a time: what comes meanwhile waits for the next. */
static void acknowledge(struct evfs_engine *engine, struct evfs_session *s)
{
	struct evfs_incoming *in = &s->incoming;
	uint64_t now, durable;

	if (in->said == in->taken)
		return;
	evfs_meta_lock(engine->meta);
	now = evfs_meta_generation(engine->meta);
	durable = evfs_meta_durable_generation(engine->meta);
	evfs_meta_unlock(engine->meta);
	if (in->marked > in->said && durable >= in->mark) {
		in->said = in->marked;
		send_taken(engine, s);
	}
	if (in->marked == in->said && in->taken > in->marked) {
		in->marked = in->taken;
		in->mark = now;
	}
}

/* ---- the receiver: what nobody brings is pulled ---- */

static uint64_t lag(const struct evfs_engine *engine,
		    const struct evfs_peer *peer)
{
	const struct evfs_context *theirs = &peer->report.context;
	uint64_t sum = 0;
	size_t i;

	if (peer->session == NULL || !peer->report.complete)
		return 0;
	for (i = 0; i < theirs->n; i++) {
		uint64_t ours = evfs_context_get(&engine->durable,
						 theirs->rows[i].actor);

		if (theirs->rows[i].counter > ours)
			sum += theirs->rows[i].counter - ours;
	}
	return sum;
}

bool evfs_hints_is_coming(const struct evfs_engine *engine, uint64_t now_ns)
{
	const struct evfs_session *s;

	for (s = engine->sessions; s != NULL; s = s->next)
		if (s->state == EVFS_SESSION_ACTIVE &&
		    (s->incoming.open ||
		     ((s->incoming.granted || s->incoming.offered > 0) &&
		      now_ns < s->incoming.batch_ns + STALE_NS)))
			return true;
	return false;
}

static void run_pull(struct evfs_engine *engine, uint64_t now_ns,
		     uint64_t *next_ns)
{
	struct evfs_hints *hints = &engine->hints;
	struct evfs_peer *peer, *best = NULL;
	uint64_t most = 0, due_ns, rest_ns;

	for (peer = engine->peers; peer != NULL; peer = peer->next) {
		uint64_t n = lag(engine, peer);

		if (n > most) {
			most = n;
			best = peer;
		}
	}
	if (best == NULL || evfs_hints_is_coming(engine, now_ns)) {
		hints->lag_ns = 0;
		return;
	}
	if (hints->lag_ns == 0)
		hints->lag_ns = now_ns;
	due_ns = hints->lag_ns + LAG_NS;
	rest_ns = hints->lag_ns < hints->pulled_ns ? PULL_NS : PULL_SOON_NS;
	if (hints->pulled_ns > 0 && hints->pulled_ns + rest_ns > due_ns)
		due_ns = hints->pulled_ns + rest_ns;
	if (now_ns < due_ns) {
		evfs_engine_lower(next_ns, due_ns);
		return;
	}
	hints->pulled_ns = now_ns;
	evfs_push_ask(engine, best->session, &engine->durable);
}

void evfs_hints_run(struct evfs_engine *engine, uint64_t now_ns,
		    uint64_t *next_ns)
{
	struct evfs_session *s;

	for (s = engine->sessions; s != NULL; s = s->next)
		if (s->state == EVFS_SESSION_ACTIVE)
			acknowledge(engine, s);
	run_grants(engine, now_ns, next_ns);
	if ((engine->layers & EVFS_LAYER_PULL) != 0)
		run_pull(engine, now_ns, next_ns);
	evfs_hints_limit(engine, now_ns, next_ns);
}
