/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Lost memory: a member proves that this replica has made changes which are not
 * in its store. It goes on as another life (meta/life.h), asks every member for
 * all that it has, and gives nothing before the last one has answered: only
 * then it knows what was removed while it was not itself. Then it is asked the
 * same by every member: it may have forgotten what it removed alone (where it
 * was removed itself, and joins again), or have brought back what others have
 * forgotten, which all are to get whole. */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "meta/life.h"
#include "net/engine_priv.h"

/* ---- another life ---- */

/* The new epoch is on disk before anybody hears of it. A commit and its sync
 * on this thread: once in a life. */
static int renew(struct evfs_engine *engine, uint32_t epoch,
		 struct evfs_err *err)
{
	uint64_t renewed = 0;
	int r;

	evfs_meta_lock_content(engine->meta);
	r = evfs_life_renew(engine->meta, epoch, &renewed, err);
	if (r == 0)
		r = evfs_life_note_run(engine->meta, engine->instance, err);
	evfs_meta_unlock(engine->meta);
	if (r == 0)
		r = evfs_meta_commit(engine->meta, err);
	if (r < 0)
		return r;
	engine->lives++;
	engine->n_changes = 0;
	engine->contact = false;
	evfs_log(EVFS_LOG_WARN,
		 "lost memory: this replica goes on as another life, "
		 "epoch=%u; %llu objects that nobody had acknowledged got "
		 "new names; it gives nothing to members before an audit with "
		 "each of them",
		 (unsigned)evfs_meta_actor(engine->meta).epoch,
		 (unsigned long long)renewed);
	return evfs_engine_refresh(engine, err);
}

static void start_over(struct evfs_engine *engine, const char *why)
{
	struct evfs_session *s;
	struct evfs_peer *peer;

	for (s = engine->sessions; s != NULL; s = s->next)
		evfs_session_close(engine, s, EVFS_BYE_AMNESIA, why);
	for (peer = engine->peers; peer != NULL; peer = peer->next) {
		evfs_context_fini(&peer->report.context);
		peer->report.known = peer->report.complete = false;
		peer->report.unsaved = false;
		peer->audit_taken = false;
		if (!peer->member.removed)
			evfs_peer_back_off(engine, peer, why);
	}
	engine->news++;
	engine->changed = true;
}

static void regain(struct evfs_engine *engine, struct evfs_session *session,
		   uint32_t epoch, const char *why)
{
	struct evfs_err err = { 0 };

	evfs_log(EVFS_LOG_ERROR, "%s", why);
	if (renew(engine, epoch, &err) < 0)
		evfs_session_fail(engine, session, &err);
	else
		start_over(engine, why);
}

bool evfs_session_amnesia(struct evfs_engine *engine,
			  struct evfs_session *session,
			  const struct evfs_context *context)
{
	evfs_actor actor = evfs_meta_actor(engine->meta);
	unsigned long long lost = 0, own;
	char why[EVFS_WIRE_REASON_MAX];
	uint32_t epoch = actor.epoch;
	size_t i;

	evfs_meta_lock(engine->meta);
	own = evfs_context_get(evfs_meta_context(engine->meta), actor);
	evfs_meta_unlock(engine->meta);
	for (i = 0; i < context->n; i++) {
		const struct evfs_context_row *row = &context->rows[i];

		if (row->actor.node != actor.node ||
		    row->actor.epoch < actor.epoch)
			continue;
		if (row->actor.epoch > actor.epoch || row->counter > own)
			lost = row->counter;
		if (row->actor.epoch > epoch)
			epoch = row->actor.epoch;
	}
	if (lost == 0)
		return false;
	snprintf(why, sizeof(why),
		 "lost memory: %016llx knows change %llu of this replica, "
		 "whose store has %llu (an older copy of the store?)",
		 (unsigned long long)session->node, lost, own);
	regain(engine, session, epoch, why);
	return true;
}

bool evfs_session_lost_run(struct evfs_engine *engine,
			   struct evfs_session *session,
			   const Evfs__Wire__Hello *hello)
{
	const struct evfs_met met = { .instance = hello->met_instance,
				      .epoch = hello->met_epoch,
				      .counter = hello->met_counter };
	char why[EVFS_WIRE_REASON_MAX];
	struct evfs_err err = { 0 };
	bool lost = false;
	int r;

	evfs_meta_lock(engine->meta);
	r = evfs_life_is_lost(engine->meta, &met, &lost, &err);
	evfs_meta_unlock(engine->meta);
	if (r < 0)
		evfs_log(EVFS_LOG_WARN, "runs: err=%s", err.msg);
	if (!lost)
		return false;
	snprintf(why, sizeof(why),
		 "lost memory: %016llx has met this replica in a time that its "
		 "store does not know (an older copy of the store?)",
		 (unsigned long long)session->node);
	regain(engine, session, met.epoch, why);
	return true;
}

int evfs_memory_note_run(struct evfs_engine *engine, struct evfs_err *err)
{
	int r;

	evfs_meta_lock(engine->meta);
	r = evfs_life_note_run(engine->meta, engine->instance, err);
	evfs_meta_unlock(engine->meta);
	return r == 0 ? evfs_meta_commit(engine->meta, err) : r;
}

void evfs_memory_contact(struct evfs_engine *engine)
{
	struct evfs_err err = { 0 };
	int r;

	if (engine->contact)
		return;
	evfs_meta_lock(engine->meta);
	r = evfs_life_note_contact(engine->meta, &err);
	evfs_meta_unlock(engine->meta);
	if (r < 0)
		evfs_log(EVFS_LOG_WARN, "noting a contact: err=%s", err.msg);
	engine->contact = r == 0;
}

/* ---- asking ---- */

/* from NULL: everything. */
static void send_pull(struct evfs_engine *engine, struct evfs_session *session,
		      const struct evfs_context *from, bool back)
{
	Evfs__Wire__Envelope envelope = EVFS__WIRE__ENVELOPE__INIT;
	Evfs__Wire__Pull pull = EVFS__WIRE__PULL__INIT;
	struct evfs_buf context = { 0 };

	if (from == NULL || evfs_wire_put_context(from, &context) == 0) {
		pull.context = evfs_wire_bytes(context.data, context.len);
		pull.audit = true;
		pull.back = back;
		envelope.kind_case = EVFS__WIRE__ENVELOPE__KIND_PULL;
		envelope.pull = &pull;
		(void)evfs_session_send(engine, session, EVFS_CHANNEL_CONTROL,
					&envelope);
	}
	evfs_buf_fini(&context);
}

static void ask_for_all(struct evfs_engine *engine,
			struct evfs_session *session)
{
	evfs_log(EVFS_LOG_INFO, "audit: peer=%s everything was asked for",
		 session->peer->member.name);
	send_pull(engine, session, NULL, false);
}

static bool is_due(struct evfs_engine *engine, const struct evfs_peer *peer)
{
	struct evfs_err err = { 0 };
	bool due = false;
	int r;

	evfs_meta_lock(engine->meta);
	r = evfs_life_is_due(engine->meta, peer->member.node, &due, &err);
	evfs_meta_unlock(engine->meta);
	if (r < 0)
		evfs_log(EVFS_LOG_WARN, "audit: peer=%s err=%s",
			 peer->member.name, err.msg);
	return r < 0 || due;
}

/* Has everybody told all that there is? */
static bool all_taken(struct evfs_engine *engine)
{
	const struct evfs_peer *peer;

	for (peer = engine->peers; peer != NULL; peer = peer->next)
		if (!peer->member.removed && !peer->audit_taken &&
		    is_due(engine, peer))
			return false;
	return true;
}

bool evfs_memory_waits_for(struct evfs_engine *engine,
			   const struct evfs_peer *peer)
{
	if (!engine->recalling || !is_due(engine, peer))
		return false;
	return !peer->audit_taken || all_taken(engine);
}

/* To be audited by a member, beside what is new there. */
static void ask_back(struct evfs_engine *engine, struct evfs_peer *peer)
{
	if (peer->session->audit_back_asked || !is_due(engine, peer))
		return;
	peer->session->audit_back_asked = true;
	send_pull(engine, peer->session, &engine->durable, true);
}

static void ask_all(struct evfs_engine *engine)
{
	bool back = all_taken(engine);
	struct evfs_peer *peer;

	for (peer = engine->peers; peer != NULL; peer = peer->next) {
		struct evfs_session *session = peer->session;

		if (session == NULL || peer->member.removed)
			continue;
		if (peer->audit_taken) {
			if (back)
				ask_back(engine, peer);
		} else if (!session->audit_asked && is_due(engine, peer)) {
			session->audit_asked = true;
			ask_for_all(engine, session);
		}
	}
}

static void send_audited(struct evfs_engine *engine,
			 struct evfs_session *session)
{
	Evfs__Wire__Envelope envelope = EVFS__WIRE__ENVELOPE__INIT;
	Evfs__Wire__Audited audited = EVFS__WIRE__AUDITED__INIT;

	envelope.kind_case = EVFS__WIRE__ENVELOPE__KIND_AUDITED;
	envelope.audited = &audited;
	(void)evfs_session_send(engine, session, EVFS_CHANNEL_CONTROL,
				&envelope);
}

/* What a member that has heard everybody wants of this one. */
static void audit_back(struct evfs_engine *engine,
		       struct evfs_session *session)
{
	uint64_t durable;

	if (session->back == EVFS_BACK_WANTED) {
		session->back = EVFS_BACK_ASKED;
		ask_for_all(engine, session);
	} else if (session->back == EVFS_BACK_TAKEN) {
		evfs_meta_lock(engine->meta);
		durable = evfs_meta_durable_generation(engine->meta);
		evfs_meta_unlock(engine->meta);
		if (durable < session->back_generation)
			return;
		session->back = EVFS_BACK_NONE;
		send_audited(engine, session);
	}
}

void evfs_memory_tick(struct evfs_engine *engine)
{
	struct evfs_err err = { 0 };
	struct evfs_peer *peer;
	bool ended = false;
	int r;

	for (peer = engine->peers; peer != NULL; peer = peer->next)
		if (peer->session != NULL && !peer->member.removed)
			audit_back(engine, peer->session);
	if (!engine->recalling)
		return;
	evfs_meta_lock(engine->meta);
	r = evfs_life_settle(engine->meta, &ended, &err);
	evfs_meta_unlock(engine->meta);
	if (r < 0)
		evfs_log(EVFS_LOG_WARN, "audit: err=%s", err.msg);
	if (ended) {
		evfs_log(EVFS_LOG_WARN,
			 "audit: done with every member; this replica gives "
			 "again");
		engine->recalling = false;
		engine->report_due = engine->changed = true;
		return;
	}
	ask_all(engine);
}

/* ---- taking the answer ---- */

void evfs_memory_stream_fini(struct evfs_incoming *incoming)
{
	struct evfs_idmap_node *node;
	size_t at = 0;

	while ((node = evfs_idmap_pop(&incoming->met, &at)) != NULL)
		evfs_free(node);
	evfs_idmap_fini(&incoming->met);
	incoming->audit = false;
}

int evfs_memory_stream_begin(struct evfs_engine *engine,
			     struct evfs_session *session, bool full,
			     struct evfs_err *err)
{
	bool due = false;
	int r;

	evfs_memory_stream_fini(&session->incoming);
	if (!full)
		return 0;
	evfs_meta_lock(engine->meta);
	r = evfs_life_is_due(engine->meta, session->node, &due, err);
	evfs_meta_unlock(engine->meta);
	session->incoming.audit =
		r == 0 && (due || session->back == EVFS_BACK_ASKED);
	return r;
}

static int met(struct evfs_engine *engine, struct evfs_incoming *incoming,
	       evfs_ino ino, struct evfs_err *err)
{
	struct evfs_idmap_node *node;
	int64_t key = 0;
	int r = evfs_life_key(engine->meta, ino, &key, err);

	if (r < 0 ||
	    evfs_idmap_get(&incoming->met, (uint64_t)key) != NULL)
		return r;
	node = evfs_calloc(1, sizeof(*node));
	if (node != NULL) {
		node->id = (uint64_t)key;
		if (evfs_idmap_put(&incoming->met, node) == 0)
			return 0;
	}
	evfs_free(node);
	return evfs_err_set(err, EVFS_ENOMEM, "audit: out of memory");
}

int evfs_memory_stream_met(struct evfs_engine *engine,
			   struct evfs_incoming *incoming,
			   struct evfs_err *err)
{
	size_t i;
	int r = 0;

	if (!incoming->audit)
		return 0;
	evfs_meta_lock(engine->meta);
	for (i = 0; r == 0 && i < incoming->n_objects; i++)
		r = met(engine, incoming, incoming->objects[i]->ino, err);
	evfs_meta_unlock(engine->meta);
	return r;
}

int evfs_memory_given(struct evfs_engine *engine, struct evfs_session *session,
		      struct evfs_err *err)
{
	bool due = false;
	int r;

	if (!session->audit_back_asked)
		return 0;
	evfs_meta_lock(engine->meta);
	r = evfs_life_is_due(engine->meta, session->node, &due, err);
	if (r == 0 && due)
		r = evfs_life_audited(engine->meta, session->node, err);
	evfs_meta_unlock(engine->meta);
	return r;
}

static void stream_taken(struct evfs_engine *engine,
			 struct evfs_session *session)
{
	session->peer->audit_taken = true;
	if (session->back != EVFS_BACK_ASKED)
		return;
	session->back = EVFS_BACK_TAKEN;
	evfs_meta_lock(engine->meta);
	session->back_generation = evfs_meta_generation(engine->meta);
	evfs_meta_unlock(engine->meta);
}

int evfs_memory_stream_end(struct evfs_engine *engine,
			   struct evfs_session *session, struct evfs_err *err)
{
	struct evfs_incoming *incoming = &session->incoming;
	int64_t cursor = 0;
	bool done = false;
	int r = 0;

	if (!incoming->audit)
		return 0;
	while (r == 0 && !done) {
		evfs_meta_lock_content(engine->meta);
		r = evfs_life_absent(engine->meta, &incoming->met,
				     &incoming->snap, &cursor, &done, err);
		evfs_meta_unlock(engine->meta);
	}
	if (r == 0) {
		stream_taken(engine, session);
		evfs_log(EVFS_LOG_INFO, "audit: peer=%s done, %zu objects",
			 session->peer->member.name, incoming->met.n);
	}
	evfs_memory_stream_fini(incoming);
	return r;
}
