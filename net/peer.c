/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The members as the engine sees them: who is to be connected, when the next
 * attempt is due, and how the member list spreads. */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "net/engine_priv.h"

struct evfs_peer *evfs_peer_find(struct evfs_engine *engine, uint64_t node)
{
	struct evfs_peer *peer;

	for (peer = engine->peers; peer != NULL; peer = peer->next)
		if (peer->member.node == node)
			return peer;
	return NULL;
}

bool evfs_peer_is_paused(const struct evfs_engine *engine,
			 const struct evfs_peer *peer)
{
	return engine->paused || peer->member.paused;
}

static void free_peer(struct evfs_peer *peer)
{
	evfs_context_fini(&peer->report.context);
	evfs_context_fini(&peer->hint_expired);
	evfs_free(peer->samples);
	evfs_free(peer->report.connected);
	evfs_free(peer);
}

void evfs_peer_free_all(struct evfs_engine *engine)
{
	while (engine->peers != NULL) {
		struct evfs_peer *peer = engine->peers;

		engine->peers = peer->next;
		free_peer(peer);
	}
}

/* ---- the list ---- */

static int add_peer(struct evfs_engine *engine,
		    const struct evfs_member *member, struct evfs_err *err)
{
	struct evfs_peer **at = &engine->peers;
	struct evfs_peer *peer = evfs_calloc(1, sizeof(*peer));
	int r;

	if (peer == NULL)
		return evfs_err_set(err, EVFS_ENOMEM, "out of memory");
	peer->member = *member;
	peer->rtt_ns = -1;
	peer->skew_ns = INT64_MIN;
	peer->life = EVFS_GOSSIP_DEAD; /* until it is heard of */
	peer->mark = true;
	r = evfs_members_report(engine->meta, member->node,
				&peer->report.context, err);
	if (r == 0)
		r = evfs_members_met(engine->meta, member->node,
				     &peer->report.met, err);
	if (r < 0) {
		free_peer(peer);
		return r;
	}
	peer->report.known = peer->report.context.n > 0;
	while (*at != NULL && (*at)->member.node < member->node)
		at = &(*at)->next;
	peer->next = *at;
	*at = peer;
	return 0;
}

/* The peer's record has changed: what does that mean for it? */
static void update_peer(struct evfs_peer *peer,
			const struct evfs_member *member)
{
	bool moved = strcmp(peer->member.address, member->address) != 0 ||
		     (peer->member.paused && !member->paused);

	peer->member = *member;
	peer->mark = true;
	if (moved) {
		peer->failures = 0;
		peer->dial_ns = 0;
	}
}

/* ---- news of members ---- */

static bool is_among(uint64_t node, const uint64_t *nodes, size_t n)
{
	size_t i;

	for (i = 0; i < n; i++)
		if (nodes[i] == node)
			return true;
	return false;
}

/* To be told to others; all of them are where the list has no room. */
void evfs_peer_note_new(struct evfs_engine *engine, uint64_t node)
{
	if (is_among(node, engine->members_new, engine->n_members_new))
		return;
	if (evfs_grow((void **)&engine->members_new, engine->n_members_new,
		      &engine->cap_members_new, sizeof(uint64_t)) < 0)
		engine->members_all = true;
	else
		engine->members_new[engine->n_members_new++] = node;
}

static bool is_new(const struct evfs_peer *peer,
		   const struct evfs_member *member)
{
	return peer == NULL || peer->member.stamp_ns != member->stamp_ns ||
	       peer->member.removed != member->removed;
}

static int read_members(struct evfs_engine *engine, struct evfs_err *err)
{
	struct evfs_member *list = NULL;
	struct evfs_member self = { 0 };
	struct evfs_peer *peer;
	size_t i, n = 0;
	int r;

	for (peer = engine->peers; peer != NULL; peer = peer->next)
		peer->mark = false;
	evfs_meta_lock(engine->meta);
	r = evfs_members_list(engine->meta, true, &list, &n, err);
	if (r == 0)
		r = evfs_members_by_node(engine->meta, engine->self, &self,
					 err);
	if (r == 0 && self.removed && !engine->removed)
		evfs_log(EVFS_LOG_ERROR,
			 "this replica was removed from the volume: nothing is "
			 "replicated any more (to come back: stop it, evfsctl "
			 "join TOKEN STORE)");
	engine->removed = r == 0 && self.removed;
	for (i = 0; r == 0 && i < n; i++) {
		peer = evfs_peer_find(engine, list[i].node);
		if (engine->members_news && is_new(peer, &list[i]))
			evfs_peer_note_new(engine, list[i].node);
		if (peer != NULL)
			update_peer(peer, &list[i]);
		else
			r = add_peer(engine, &list[i], err);
	}
	evfs_meta_unlock(engine->meta);
	evfs_free(list);
	return r;
}

/* Ends what may not be connected (any more). */
static void close_unwanted(struct evfs_engine *engine)
{
	struct evfs_session *s;

	for (s = engine->sessions; s != NULL; s = s->next) {
		if (s->state == EVFS_SESSION_CLOSED || s->peer == NULL)
			continue;
		if (!s->peer->mark || s->peer->member.removed ||
		    engine->removed)
			evfs_session_close(engine, s, EVFS_BYE_REMOVED,
					   "removed from the volume");
		else if (evfs_peer_is_paused(engine, s->peer))
			evfs_session_close(engine, s, EVFS_BYE_PAUSED,
					   "replication is paused");
	}
}

static void sweep(struct evfs_engine *engine)
{
	struct evfs_peer **at = &engine->peers;
	struct evfs_session *s;

	while (*at != NULL) {
		struct evfs_peer *peer = *at;

		if (peer->mark) {
			at = &peer->next;
			continue;
		}
		for (s = engine->sessions; s != NULL; s = s->next)
			if (s->peer == peer)
				s->peer = NULL;
		*at = peer->next;
		free_peer(peer);
	}
}

/* What is new goes to all sessions at once (a rumour); what one of them misses,
 * it gets when gossip shows that the lists differ. */
static void tell_members(struct evfs_engine *engine,
			 struct evfs_session *session)
{
	evfs_session_send_members(engine, session,
				  engine->members_all ? NULL
						      : engine->members_new,
				  engine->n_members_new);
}

int evfs_peer_refresh(struct evfs_engine *engine, struct evfs_err *err)
{
	struct evfs_session *s;
	int r = read_members(engine, err);

	if (r < 0)
		return r;
	r = evfs_gossip_members(engine, err);
	if (r < 0)
		return r;
	engine->members_dirty = false;
	if (engine->members_news) {
		/* before closing: a removed member hears of it */
		for (s = engine->sessions; s != NULL; s = s->next)
			if (s->state == EVFS_SESSION_ACTIVE)
				tell_members(engine, s);
		engine->members_news = engine->members_all = false;
		engine->n_members_new = 0;
	}
	close_unwanted(engine);
	sweep(engine);
	engine->changed = engine->report_due = true;
	return 0;
}

/* ---- on the wire ---- */

void evfs_session_send_members(struct evfs_engine *engine,
			       struct evfs_session *session,
			       const uint64_t *nodes, size_t n_nodes)
{
	Evfs__Wire__Envelope envelope = EVFS__WIRE__ENVELOPE__INIT;
	Evfs__Wire__Members message = EVFS__WIRE__MEMBERS__INIT;
	evfs_cleanup_free Evfs__Wire__Member *records = NULL;
	evfs_cleanup_free Evfs__Wire__Member **pointers = NULL;
	struct evfs_member *list = NULL;
	struct evfs_err err = { 0 };
	size_t i, n = 0;
	int r;

	evfs_meta_lock(engine->meta);
	r = evfs_members_all(engine->meta, &list, &n, &err);
	evfs_meta_unlock(engine->meta);
	if (r == 0) {
		records = evfs_calloc(n, sizeof(*records));
		pointers = evfs_calloc(n, sizeof(Evfs__Wire__Member *));
		if (records == NULL || pointers == NULL)
			r = evfs_err_set(&err, EVFS_ENOMEM, "out of memory");
	}
	if (r < 0) {
		evfs_free(list);
		evfs_session_fail(engine, session, &err);
		return;
	}
	for (i = 0; i < n; i++) {
		if (nodes != NULL && !is_among(list[i].node, nodes, n_nodes))
			continue;
		evfs__wire__member__init(&records[i]);
		records[i].node = list[i].node;
		records[i].name = list[i].name;
		records[i].key = list[i].key;
		records[i].address = list[i].address;
		records[i].stamp = list[i].stamp_ns;
		records[i].removed = list[i].removed;
		pointers[message.n_records++] = &records[i];
	}
	message.records = pointers;
	envelope.kind_case = EVFS__WIRE__ENVELOPE__KIND_MEMBERS;
	envelope.members = &message;
	(void)evfs_session_send(engine, session, EVFS_CHANNEL_CONTROL,
				&envelope);
	evfs_free(list);
}

/* The wire module has checked the lengths. */
static void copy_member(const Evfs__Wire__Member *from, struct evfs_member *to)
{
	*to = (struct evfs_member){ .node = from->node,
				    .stamp_ns = from->stamp,
				    .removed = from->removed };
	snprintf(to->name, sizeof(to->name), "%s", from->name);
	snprintf(to->key, sizeof(to->key), "%s", from->key);
	snprintf(to->address, sizeof(to->address), "%s", from->address);
}

int evfs_session_members(struct evfs_engine *engine,
			 struct evfs_session *session,
			 const Evfs__Wire__Members *members,
			 struct evfs_err *err)
{
	struct evfs_member member;
	bool changed, any = false;
	size_t i;
	int r = 0;

	(void)session;
	evfs_meta_lock(engine->meta);
	for (i = 0; r == 0 && i < members->n_records; i++) {
		changed = false;
		copy_member(members->records[i], &member);
		r = evfs_members_join(engine->meta, &member, &changed, err);
		if (changed)
			evfs_peer_note_new(engine, member.node);
		any = any || changed;
	}
	evfs_meta_unlock(engine->meta);
	if (any)
		engine->members_dirty = engine->members_news = true;
	return r;
}

/* ---- dialling ---- */

void evfs_peer_back_off(struct evfs_engine *engine, struct evfs_peer *peer,
			const char *why)
{
	unsigned shift = peer->failures < 6 ? peer->failures : 6;
	uint64_t cap_s = (uint64_t)1 << shift;

	if (cap_s > EVFS_ENGINE_DIAL_MAX_S)
		cap_s = EVFS_ENGINE_DIAL_MAX_S;
	peer->failures++;
	/* full jitter: those that failed together do not return together */
	peer->dial_ns = evfs_engine_now(engine) + 20 * EVFS_MS +
			evfs_env_below(engine->env, cap_s * EVFS_SECOND);
	if (strncmp(peer->last_error, why, sizeof(peer->last_error) - 1) != 0)
		evfs_log(EVFS_LOG_DEBUG, "not connected: peer=%s err=%s",
			 peer->member.name, why);
	snprintf(peer->last_error, sizeof(peer->last_error), "%s", why);
	engine->changed = true;
}

void evfs_peer_tick(struct evfs_engine *engine, struct evfs_peer *peer,
		    uint64_t now_ns, uint64_t *next_ns)
{
	struct evfs_session *session;
	evfs_conn conn;

	if (peer->member.removed || engine->removed ||
	    evfs_peer_is_paused(engine, peer) ||
	    peer->member.address[0] == '\0' ||
	    evfs_session_of(engine, peer->member.node) != NULL ||
	    (!peer->chosen && !evfs_links_is_full(engine)))
		return;
	if (now_ns < peer->dial_ns) {
		evfs_engine_lower(next_ns, peer->dial_ns);
		return;
	}
	peer->chosen = false;
	conn = engine->transport->dial(engine->transport->ctx,
				       peer->member.node, peer->member.address,
				       peer->member.key);
	if (conn == 0) {
		evfs_peer_back_off(engine, peer, "dialling failed");
		evfs_engine_lower(next_ns, peer->dial_ns);
		return;
	}
	session = evfs_session_new(engine, conn, peer->member.node, true);
	if (session == NULL) {
		engine->transport->close(engine->transport->ctx, conn);
		evfs_peer_back_off(engine, peer, "out of memory");
	}
}
