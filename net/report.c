/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Reports: what a replica has on disk, told to every member. They are the
 * acknowledgements of streams, the base of status, and the proof of equality:
 * equal contexts are a claim, equal roots are what is checked. */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "meta/facts.h"
#include "net/engine_priv.h"

bool evfs_engine_receiving(const struct evfs_engine *engine)
{
	const struct evfs_session *s;

	for (s = engine->sessions; s != NULL; s = s->next)
		if (s->state == EVFS_SESSION_ACTIVE && s->incoming.open)
			return true;
	return false;
}

/* ---- out ---- */

static int put_connected(const struct evfs_engine *engine, struct evfs_buf *out)
{
	const struct evfs_peer *peer;
	int r = 0;

	for (peer = engine->peers; r == 0 && peer != NULL; peer = peer->next)
		if (peer->session != NULL)
			r = evfs_buf_put_be64(out, peer->member.node);
	return r;
}

/* What a report says of the context: of many members only those that have news
 * are worth their bytes, once the others have been told. */
static int put_context(const struct evfs_engine *engine,
		       struct evfs_session *session, struct evfs_buf *out,
		       bool *ret_news)
{
	const struct evfs_context *all = &engine->durable;
	struct evfs_context news = { 0 };
	size_t i;
	int r = 0;

	*ret_news = session->told.n > 0 &&
		    evfs_context_contains(all, &session->told);
	for (i = 0; *ret_news && r == 0 && i < all->n; i++)
		if (all->rows[i].counter >
		    evfs_context_get(&session->told, all->rows[i].actor))
			r = evfs_context_raise(&news, all->rows[i].actor,
					       all->rows[i].counter);
	if (r == 0)
		r = evfs_wire_put_context(*ret_news ? &news : all, out);
	evfs_context_fini(&news);
	return r == 0 ? evfs_context_copy(&session->told, all) : r;
}

void evfs_report_send(struct evfs_engine *engine, struct evfs_session *session)
{
	Evfs__Wire__Envelope envelope = EVFS__WIRE__ENVELOPE__INIT;
	Evfs__Wire__Report report = EVFS__WIRE__REPORT__INIT;
	struct evfs_buf context = { 0 }, connected = { 0 };
	struct evfs_err err = { 0 };
	bool news;
	int r = put_context(engine, session, &context, &news);

	if (r == 0)
		r = put_connected(engine, &connected);
	if (r < 0) {
		evfs_err_set(&err, r, "report: out of memory");
		evfs_session_fail(engine, session, &err);
		goto out;
	}
	report.context = evfs_wire_bytes(context.data, context.len);
	report.news = news;
	report.root = evfs_wire_bytes(engine->root.b, EVFS_HASH_SIZE);
	report.wanted = engine->wanted;
	report.wanted_bytes = engine->wanted_bytes;
	report.connected = evfs_wire_bytes(connected.data, connected.len);
	report.clock = evfs_engine_clock(engine);
	report.wall = evfs_engine_wall(engine);
	report.receiving = evfs_engine_receiving(engine);
	report.auditing = engine->recalling;
	envelope.kind_case = EVFS__WIRE__ENVELOPE__KIND_REPORT;
	envelope.report = &report;
	(void)evfs_session_send(engine, session, EVFS_CHANNEL_CONTROL,
				&envelope);
out:
	evfs_buf_fini(&context);
	evfs_buf_fini(&connected);
}

/* ---- in ---- */

static int take_connected(struct evfs_peer_report *to,
			  const ProtobufCBinaryData *bytes,
			  struct evfs_err *err)
{
	size_t i, n = bytes->len / 8;
	uint64_t *nodes = evfs_calloc(n, sizeof(*nodes));

	if (nodes == NULL)
		return evfs_err_set(err, EVFS_ENOMEM, "report: out of memory");
	for (i = 0; i < n; i++)
		nodes[i] = evfs_be64_read(bytes->data + 8 * i);
	evfs_free(to->connected);
	to->connected = nodes;
	to->n_connected = n;
	return 0;
}

void evfs_report_take_back(struct evfs_peer *peer,
			   const struct evfs_context *context)
{
	if (!peer->report.auditing &&
	    evfs_context_contains(context, &peer->report.context))
		return;
	peer->report.unsaved = true;
	peer->report.saved_ns = 0;
}

int evfs_report_receive(struct evfs_engine *engine,
			struct evfs_session *session,
			const Evfs__Wire__Report *report, struct evfs_err *err)
{
	evfs_actor actor = evfs_meta_actor(engine->meta);
	struct evfs_peer *peer = session->peer;
	struct evfs_context context = { 0 };
	uint64_t before;
	int r = evfs_wire_get_context(&report->context, &context, err);

	if (r == 0 && evfs_session_amnesia(engine, session, &context))
		goto out;
	if (r == 0 && report->news &&
	    evfs_context_join(&context, &peer->report.context) < 0)
		r = evfs_err_set(err, EVFS_ENOMEM, "report: out of memory");
	if (r == 0)
		r = take_connected(&peer->report, &report->connected, err);
	if (r == 0 && evfs_context_join(&session->assumed, &context) < 0)
		r = evfs_err_set(err, EVFS_ENOMEM, "report: out of memory");
	if (r < 0)
		goto out;
	evfs_engine_hear(engine, report->clock);
	before = evfs_context_get(&peer->report.context, actor);
	if (!evfs_context_equal(&peer->report.context, &context)) {
		peer->report.unsaved = true;
		engine->news++;
		evfs_converge_sample(engine, peer, before,
				     evfs_context_get(&context, actor));
	}
	/* what it said meanwhile was not kept */
	peer->report.unsaved |= peer->report.auditing != report->auditing;
	peer->report.auditing = report->auditing;
	peer->report.met.counter = evfs_context_get(
		&context, (evfs_actor){ session->node,
					peer->report.met.epoch });
	evfs_report_take_back(peer, &context);
	if (!peer->report.complete || report->wanted < peer->report.wanted)
		evfs_fetch_peer_news(engine, session->node);
	evfs_context_fini(&peer->report.context);
	peer->report.context = context;
	context = (struct evfs_context){ 0 };
	peer->report.root = evfs_wire_hash(&report->root, 0);
	peer->report.wanted = report->wanted;
	peer->report.wanted_bytes = report->wanted_bytes;
	peer->report.receiving = report->receiving;
	peer->report.known = peer->report.complete = true;
	engine->changed = true;
out:
	evfs_context_fini(&context);
	return r;
}

void evfs_report_adopt(struct evfs_engine *engine, struct evfs_peer *peer)
{
	evfs_actor actor = evfs_meta_actor(engine->meta);
	uint64_t before = evfs_context_get(&peer->report.context, actor);

	if (evfs_context_equal(&peer->report.context, &engine->durable) ||
	    evfs_context_copy(&peer->report.context, &engine->durable) < 0)
		return; /* known; or out of memory: the next round tries again */
	evfs_converge_sample(engine, peer, before,
			     evfs_context_get(&engine->durable, actor));
	peer->report.known = peer->report.unsaved = true;
	engine->news++;
	engine->changed = true;
}

/* ---- equality ---- */

bool evfs_engine_settled(struct evfs_engine *engine)
{
	bool settled;

	evfs_meta_lock(engine->meta);
	settled =
		evfs_context_equal(evfs_meta_context(engine->meta),
				   &engine->durable) &&
		evfs_hash_equal(evfs_facts_root(evfs_meta_facts(engine->meta)),
				&engine->root);
	evfs_meta_unlock(engine->meta);
	return settled;
}

enum evfs_peer_state evfs_peer_state(const struct evfs_engine *engine,
				     const struct evfs_peer *peer,
				     uint64_t now_ns)
{
	const struct evfs_gossip_entry *entry =
		evfs_gossip_find(&engine->gossip, peer->member.node);

	if (evfs_peer_is_paused(engine, peer))
		return EVFS_PEER_PAUSED;
	if (entry == NULL)
		return EVFS_PEER_DEAD;
	switch (evfs_gossip_life(&engine->gossip, entry)) {
	case EVFS_GOSSIP_ALIVE:
		/* a session broke, and nothing was heard of it since */
		if (peer->session == NULL && peer->lost_ns > 0 &&
		    evfs_gossip_silence_ns(&engine->gossip, entry) >=
			    now_ns - peer->lost_ns)
			return EVFS_PEER_SUSPECT;
		return EVFS_PEER_ALIVE;
	case EVFS_GOSSIP_SUSPECT:
		return EVFS_PEER_SUSPECT;
	case EVFS_GOSSIP_DEAD:
	default:
		return EVFS_PEER_DEAD;
	}
}

bool evfs_peer_in_sync(const struct evfs_engine *engine,
		       const struct evfs_peer *peer, bool settled)
{
	const struct evfs_session *session = peer->session;

	if (!settled || engine->wanted > 0 || engine->recalling ||
	    evfs_peer_state(engine, peer, evfs_engine_now(engine)) !=
		    EVFS_PEER_ALIVE)
		return false;
	if (session == NULL)
		return evfs_context_equal(&engine->durable,
					  &peer->report.context) &&
		       evfs_gossip_is_equal(engine, peer) &&
		       evfs_gossip_state_of(engine, peer)->wanted == 0;
	return peer->report.complete && !peer->report.auditing &&
	       evfs_context_equal(&engine->durable, &peer->report.context) &&
	       evfs_hash_equal(&engine->root, &peer->report.root) &&
	       peer->report.wanted == 0 &&
	       session->out.delta == NULL && !session->incoming.open;
}

bool evfs_engine_verify(struct evfs_engine *engine)
{
	bool settled = evfs_engine_settled(engine);
	const struct evfs_peer *peer;

	evfs_gossip_own(engine);
	for (peer = engine->peers; peer != NULL; peer = peer->next)
		if (!peer->member.removed &&
		    !evfs_peer_in_sync(engine, peer, settled))
			return false;
	if (!settled || engine->wanted > 0)
		return false;
	engine->verified_wall_s =
		(int64_t)(evfs_engine_wall(engine) / EVFS_SECOND);
	return true;
}

/* ---- unequal roots under equal contexts ----
 * A stream that was cut leaves objects here that our context does not cover:
 * then the other side needs them too, though no context says so. If a pull of
 * what lies beyond the contexts does not help, the two have diverged: an audit
 * finds where, and repairs it (net/audit.h). */

static void pull(struct evfs_engine *engine, struct evfs_peer *peer)
{
	evfs_push_ask(engine, peer->session, &engine->durable);
}

/* Both sides say that they have the same history: then equal roots prove that
 * it is so, and unequal ones that it is not, or that something beyond the
 * contexts is on its way. */
static bool is_comparable(const struct evfs_engine *engine,
			  const struct evfs_peer *peer)
{
	return peer->session != NULL && peer->report.complete &&
	       !engine->recalling && !peer->report.auditing &&
	       evfs_context_equal(&engine->durable, &peer->report.context);
}

static void repair(struct evfs_engine *engine, struct evfs_peer *peer,
		   uint64_t now_ns, uint64_t *next_ns)
{
	peer->repair_ns = now_ns;
	/* the first time what lies beyond the contexts, then all is compared */
	if (peer->repair_pulled) {
		peer->repair_full = true;
		evfs_audit_diverged(engine, peer);
		return;
	}
	pull(engine, peer);
	peer->repair_pulled = true;
	peer->unequal_ns = now_ns;
	evfs_engine_lower(next_ns, now_ns + EVFS_ENGINE_SUSPICION_NS);
}

static void look_for_divergence(struct evfs_engine *engine,
				struct evfs_peer *peer, uint64_t now_ns,
				uint64_t *next_ns)
{
	bool equal = evfs_hash_equal(&engine->root, &peer->report.root);
	uint64_t due_ns;

	if (peer->report.complete && equal)
		peer->diverged = false;
	if (equal || !is_comparable(engine, peer)) {
		peer->unequal_ns = 0;
		return;
	}
	if (peer->unequal_ns == 0)
		peer->repair_full = peer->repair_pulled = false;
	/* What arrives may be just what is lacking: it is waited for. What was
	 * tried before stays so: where several members pull from each other,
	 * somebody is always receiving. */
	if (peer->unequal_ns == 0 || peer->report.receiving ||
	    evfs_engine_receiving(engine))
		peer->unequal_ns = now_ns;
	due_ns = peer->unequal_ns + EVFS_ENGINE_SUSPICION_NS;
	/* one of the two begins, so that not both do */
	if (engine->self > peer->member.node)
		due_ns += EVFS_ENGINE_SUSPICION_NS;
	if (peer->repair_full &&
	    due_ns < peer->repair_ns + EVFS_ENGINE_REPAIR_NS)
		due_ns = peer->repair_ns + EVFS_ENGINE_REPAIR_NS;
	if (now_ns < due_ns)
		evfs_engine_lower(next_ns, due_ns);
	else
		repair(engine, peer, now_ns, next_ns);
}

/* ---- time ---- */

static void save(struct evfs_engine *engine, struct evfs_peer *peer,
		 uint64_t now_ns, uint64_t *next_ns)
{
	const struct evfs_context nothing = { 0 };
	struct evfs_err err = { 0 };
	uint64_t due_ns = peer->report.saved_ns + EVFS_ENGINE_SAVE_NS;
	int r;

	if (!peer->report.unsaved)
		return;
	if (peer->report.saved_ns > 0 && now_ns < due_ns) {
		evfs_engine_lower(next_ns, due_ns);
		return;
	}
	evfs_meta_lock(engine->meta);
	r = evfs_members_set_met(engine->meta, peer->member.node,
				 &peer->report.met, &err);
	if (r == 0)
		r = evfs_members_set_report(engine->meta, peer->member.node,
					    peer->report.auditing ?
						    &nothing :
						    &peer->report.context,
					    &err);
	evfs_meta_unlock(engine->meta);
	if (r < 0)
		evfs_log(EVFS_LOG_WARN, "saving a report: peer=%s err=%s",
			 peer->member.name, err.msg);
	peer->report.unsaved = false;
	peer->report.saved_ns = now_ns;
}

void evfs_report_tick(struct evfs_engine *engine, uint64_t now_ns,
		      uint64_t *next_ns)
{
	uint64_t due_ns = engine->report_ns + EVFS_ENGINE_REPORT_NS;
	struct evfs_session *s;
	struct evfs_peer *peer;

	for (peer = engine->peers; peer != NULL; peer = peer->next) {
		look_for_divergence(engine, peer, now_ns, next_ns);
		save(engine, peer, now_ns, next_ns);
	}
	if (!engine->report_due)
		return;
	if (engine->report_ns > 0 && now_ns < due_ns) {
		evfs_engine_lower(next_ns, due_ns);
		return;
	}
	engine->report_due = false;
	engine->report_ns = now_ns;
	for (s = engine->sessions; s != NULL; s = s->next)
		if (s->state == EVFS_SESSION_ACTIVE)
			evfs_report_send(engine, s);
}
