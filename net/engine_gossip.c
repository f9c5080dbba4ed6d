/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Gossip over the sessions of an engine, and what follows from what it brings:
 * a member that lives again is dialled, a lagging context is pulled, member
 * lists that differ are exchanged. A member without a session counts as far as
 * gossip speaks for it. */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "meta/config.h"
#include "net/engine_priv.h"
#include "net/topology.h"

static uint64_t interval_ns(const struct evfs_engine *engine)
{
	return engine->gossip.interval_ms * EVFS_MS;
}

/* ---- what there is ---- */

void evfs_gossip_config(struct evfs_engine *engine)
{
	engine->gossip.interval_ms = (uint64_t)evfs_config_get(
		engine->meta, EVFS_CONFIG_gossip_interval);
	engine->gossip_fanout = (uint64_t)evfs_config_get(
		engine->meta, EVFS_CONFIG_gossip_fanout);
	if (engine->gossip_ns > evfs_engine_now(engine) + interval_ns(engine))
		engine->gossip_ns = 0;
}

int evfs_gossip_start(struct evfs_engine *engine, struct evfs_err *err)
{
	int r = evfs_gossip_init(&engine->gossip, engine->env, engine->self,
				 1000);

	if (r < 0)
		return evfs_err_set(err, r, "gossip: out of memory");
	evfs_meta_lock(engine->meta);
	evfs_gossip_config(engine);
	evfs_meta_unlock(engine->meta);
	engine->pull_ns = evfs_engine_now(engine) + EVFS_ENGINE_PULL_NS;
	engine->heal_ns = evfs_engine_now(engine) + EVFS_ENGINE_HEAL_NS;
	return 0;
}

static int compare_nodes(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* A number that two replicas have in common iff they know the same records. */
static uint64_t digest(const struct evfs_member *list, size_t n)
{
	uint8_t bytes[17 + EVFS_NODE_NAME_MAX + 1 + EVFS_KEY_TEXT_MAX +
		      EVFS_ADDRESS_MAX + 1];
	uint64_t sum = 0;
	evfs_hash hash;
	size_t i, at;

	for (i = 0; i < n; i++) {
		const char *texts[] = { list[i].name, list[i].key,
					list[i].address };
		size_t k, len;

		evfs_be64_write(bytes, list[i].node);
		evfs_be64_write(bytes + 8, list[i].stamp_ns);
		bytes[16] = list[i].removed;
		for (at = 17, k = 0; k < 3; k++, at += len) {
			len = strlen(texts[k]) + 1;
			memcpy(bytes + at, texts[k], len);
		}
		hash = evfs_hash_bytes(bytes, at);
		sum += evfs_be64_read(hash.b);
	}
	return sum;
}

int evfs_gossip_members(struct evfs_engine *engine, struct evfs_err *err)
{
	evfs_cleanup_free struct evfs_member *list = NULL;
	evfs_cleanup_free uint64_t *nodes = NULL;
	size_t i, n = 0, n_nodes = 0;
	int r;

	evfs_meta_lock(engine->meta);
	r = evfs_members_all(engine->meta, &list, &n, err);
	evfs_meta_unlock(engine->meta);
	if (r < 0)
		return r;
	nodes = evfs_calloc(n + 1, sizeof(*nodes));
	if (nodes == NULL)
		return evfs_err_set(err, EVFS_ENOMEM, "gossip: out of memory");
	nodes[n_nodes++] = engine->self;
	for (i = 0; i < n; i++)
		if (!list[i].removed && list[i].node != engine->self)
			nodes[n_nodes++] = list[i].node;
	qsort(nodes, n_nodes, sizeof(*nodes), compare_nodes);
	engine->gossip.members = digest(list, n);
	if (evfs_gossip_set_members(&engine->gossip, nodes, n_nodes) < 0)
		return evfs_err_set(err, EVFS_ENOMEM, "gossip: out of memory");
	return 0;
}

void evfs_gossip_own(struct evfs_engine *engine)
{
	evfs_actor actor = evfs_meta_actor(engine->meta);
	struct evfs_gossip_state *own = &engine->own;

	if (engine->own_news != engine->news &&
	    evfs_gossip_describe(&engine->durable, own) < 0)
		return; /* out of memory: what is said is old, and true */
	engine->own_news = engine->news;
	own->epoch = actor.epoch;
	own->counter = evfs_context_get(&engine->durable, actor);
	own->root = engine->root;
	own->wanted = engine->wanted;
	own->wanted_bytes = engine->wanted_bytes;
	own->receiving = evfs_engine_receiving(engine) || engine->recalling;
	own->version = own->version_oldest = EVFS_PROTOCOL_VERSION;
}

/* What others are told is as of the message that tells it. */
static void publish(struct evfs_engine *engine)
{
	evfs_gossip_own(engine);
	evfs_gossip_set_own(&engine->gossip, &engine->own);
}

const struct evfs_gossip_state *evfs_gossip_state_of(
	const struct evfs_engine *engine, const struct evfs_peer *peer)
{
	const struct evfs_gossip_entry *entry =
		evfs_gossip_find(&engine->gossip, peer->member.node);

	return entry != NULL && entry->since > 0 ? &entry->state : NULL;
}

bool evfs_gossip_is_equal(const struct evfs_engine *engine,
			  const struct evfs_peer *peer)
{
	const struct evfs_gossip_state *theirs =
		evfs_gossip_state_of(engine, peer);

	return theirs != NULL && engine->own_news == engine->news &&
	       memcmp(theirs->context, engine->own.context,
		      sizeof(theirs->context)) == 0 &&
	       evfs_hash_equal(&theirs->root, &engine->root) &&
	       !theirs->receiving;
}

/* ---- messages ---- */

/* The three have one form: the union's members are one pointer. */
static void send(struct evfs_engine *engine, struct evfs_session *session,
		 Evfs__Wire__Envelope__KindCase kind,
		 struct evfs_gossip_message *message)
{
	Evfs__Wire__Envelope envelope = EVFS__WIRE__ENVELOPE__INIT;

	envelope.kind_case = kind;
	envelope.gossip_syn = &message->wire;
	(void)evfs_session_send(engine, session, EVFS_CHANNEL_CONTROL,
				&envelope);
}

/* Lists that differ for a second are not about to become equal by themselves:
 * each side sends its own. */
static void compare_members(struct evfs_engine *engine,
			    struct evfs_session *session, uint64_t digest)
{
	struct evfs_peer *peer = session->peer;
	uint64_t now_ns = evfs_engine_now(engine);

	if (digest == engine->gossip.members) {
		peer->odd_ns = 0;
	} else if (peer->odd_ns == 0) {
		peer->odd_ns = now_ns;
	} else if (now_ns - peer->odd_ns >= EVFS_SECOND) {
		peer->odd_ns = now_ns + EVFS_ENGINE_PULL_NS;
		evfs_session_send_members(engine, session, NULL, 0);
	}
}

static int answer(struct evfs_engine *engine, struct evfs_session *session,
		  const Evfs__Wire__Envelope *e)
{
	struct evfs_gossip_message message = { 0 };
	int r = 0;

	if (e->kind_case == EVFS__WIRE__ENVELOPE__KIND_GOSSIP_SYN) {
		r = evfs_gossip_ack(&engine->gossip, e->gossip_syn, &message);
		if (r == 0)
			send(engine, session,
			     EVFS__WIRE__ENVELOPE__KIND_GOSSIP_ACK, &message);
	} else if (e->kind_case == EVFS__WIRE__ENVELOPE__KIND_GOSSIP_ACK &&
		   e->gossip_ack->want.len > 0) {
		r = evfs_gossip_ack2(&engine->gossip, e->gossip_ack, &message);
		if (r == 0)
			send(engine, session,
			     EVFS__WIRE__ENVELOPE__KIND_GOSSIP_ACK2, &message);
	}
	evfs_gossip_message_fini(&message);
	return r;
}

int evfs_gossip_receive(struct evfs_engine *engine,
			struct evfs_session *session,
			const Evfs__Wire__Envelope *e, struct evfs_err *err)
{
	const Evfs__Wire__Gossip *message = e->gossip_syn; /* any of them */
	const struct evfs_gossip_state *theirs;
	struct evfs_peer *peer = session->peer;
	int r;

	publish(engine);
	evfs_gossip_take(&engine->gossip, session->node, message);
	r = answer(engine, session, e);
	if (r < 0)
		return evfs_err_set(err, r, "gossip: out of memory");
	if (session->state != EVFS_SESSION_ACTIVE)
		return 0;
	compare_members(engine, session, message->members);
	theirs = evfs_gossip_state_of(engine, peer);
	if (theirs == NULL || !evfs_gossip_lags(&engine->own, theirs))
		peer->lag_ns = 0;
	else if (peer->lag_ns == 0)
		peer->lag_ns = evfs_engine_now(engine);
	return 0;
}

/* ---- rounds ---- */

static size_t active(const struct evfs_engine *engine)
{
	const struct evfs_session *s;
	size_t n = 0;

	for (s = engine->sessions; s != NULL; s = s->next)
		n += s->state == EVFS_SESSION_ACTIVE;
	return n;
}

/* Calls each of `wanted` random active sessions (Knuth's algorithm S). */
static void each_of(struct evfs_engine *engine, uint64_t wanted,
		    void (*call)(struct evfs_engine *engine,
				 struct evfs_session *session))
{
	struct evfs_session *s;
	size_t left = active(engine);

	for (s = engine->sessions; s != NULL && wanted > 0; s = s->next) {
		if (s->state != EVFS_SESSION_ACTIVE)
			continue;
		if (left == 0 || evfs_env_below(engine->env, left--) >= wanted)
			continue;
		wanted--;
		call(engine, s);
	}
}

/* Behind a full queue it would only add to it; what is queued is sign of life
 * enough. */
static void send_syn(struct evfs_engine *engine, struct evfs_session *session)
{
	struct evfs_gossip_message message = { 0 };

	if (evfs_session_queued(engine, session, EVFS_CHANNEL_CONTROL) >=
	    EVFS_ENGINE_QUEUE_MAX)
		return;
	if (evfs_gossip_syn(&engine->gossip, &message) == 0)
		send(engine, session, EVFS__WIRE__ENVELOPE__KIND_GOSSIP_SYN,
		     &message);
	evfs_gossip_message_fini(&message);
}

static void note_life(struct evfs_engine *engine, struct evfs_peer *peer,
		      const struct evfs_gossip_entry *entry)
{
	static const char *const names[] = { "alive", "suspect", "dead" };
	enum evfs_gossip_life life = evfs_gossip_life(&engine->gossip, entry);

	if (life == peer->life)
		return;
	evfs_log(EVFS_LOG_INFO, "member is %s: peer=%s", names[life],
		 peer->member.name);
	/* others hear it again: then we may, too */
	if (life == EVFS_GOSSIP_ALIVE && peer->session == NULL) {
		peer->failures = 0;
		peer->dial_ns = 0;
	}
	peer->life = life;
	engine->changed = true;
}

/* The newest life of a node that we know changes of. */
static uint32_t epoch_of(const struct evfs_context *context, uint64_t node)
{
	uint32_t epoch = 0;
	size_t i;

	for (i = 0; i < context->n; i++)
		if (context->rows[i].actor.node == node)
			epoch = context->rows[i].actor.epoch; /* sorted */
	return epoch;
}

/* Equal contexts with unequal roots are for a session to settle. */
static void note_state(struct evfs_engine *engine, struct evfs_peer *peer,
		       const struct evfs_gossip_entry *entry)
{
	const struct evfs_gossip_state *theirs = &entry->state;

	if (peer->session != NULL || entry->since == 0 || theirs->receiving ||
	    memcmp(theirs->context, engine->own.context,
		   sizeof(theirs->context)) != 0 ||
	    theirs->epoch < epoch_of(&engine->durable, entry->node))
		return;
	evfs_report_adopt(engine, peer);
	if (!evfs_hash_equal(&theirs->root, &engine->root) &&
	    !engine->own.receiving)
		peer->chosen = true;
}

static void round_of(struct evfs_engine *engine, uint64_t now_ns)
{
	uint64_t period_ns = interval_ns(engine) * 4 / 5 +
			     evfs_env_below(engine->env,
					    interval_ns(engine) * 2 / 5 + 1);
	const struct evfs_gossip_entry *entry;
	struct evfs_peer *peer;

	engine->gossip_ns = now_ns + period_ns;
	publish(engine);
	evfs_gossip_round(&engine->gossip, period_ns);
	each_of(engine, engine->gossip_fanout, send_syn);
	for (peer = engine->peers; peer != NULL; peer = peer->next) {
		entry = evfs_gossip_find(&engine->gossip, peer->member.node);
		if (entry == NULL)
			continue;
		note_life(engine, peer, entry);
		note_state(engine, peer, entry);
	}
}

/* ---- pulls ---- */

static void pull(struct evfs_engine *engine, struct evfs_session *session)
{
	if ((engine->layers & EVFS_LAYER_PULL) == 0 || engine->recalling ||
	    evfs_hints_is_coming(engine, evfs_engine_now(engine)))
		return;
	evfs_push_ask(engine, session, &engine->durable);
}

/* What lies beyond our context comes by itself, as a rule; where it has not,
 * after a moment, it is asked for. */
static void chase(struct evfs_engine *engine, struct evfs_peer *peer,
		  uint64_t now_ns, uint64_t *next_ns)
{
	const struct evfs_gossip_state *theirs;
	uint64_t due_ns;

	if (peer->lag_ns == 0)
		return;
	theirs = evfs_gossip_state_of(engine, peer);
	if (peer->session == NULL || theirs == NULL ||
	    !evfs_gossip_lags(&engine->own, theirs)) {
		peer->lag_ns = 0;
		return;
	}
	if (peer->session->incoming.open)
		peer->lag_ns = now_ns;
	due_ns = peer->lag_ns + EVFS_ENGINE_RELAY_NS;
	if (now_ns < due_ns) {
		evfs_engine_lower(next_ns, due_ns);
		return;
	}
	peer->lag_ns = now_ns + EVFS_ENGINE_SUSPICION_NS;
	pull(engine, peer->session);
}

/* The net under all that: now and then from anybody that is not as we are. */
static void pull_other(struct evfs_engine *engine,
		       struct evfs_session *session)
{
	if (!evfs_gossip_is_equal(engine, session->peer))
		pull(engine, session);
}

void evfs_gossip_tick(struct evfs_engine *engine, uint64_t now_ns,
		      uint64_t *next_ns)
{
	struct evfs_peer *peer;

	if (now_ns >= engine->gossip_ns)
		round_of(engine, now_ns);
	evfs_engine_lower(next_ns, engine->gossip_ns);
	evfs_gossip_own(engine);
	for (peer = engine->peers; peer != NULL; peer = peer->next)
		chase(engine, peer, now_ns, next_ns);
	if (now_ns >= engine->pull_ns) {
		engine->pull_ns = now_ns + EVFS_ENGINE_PULL_NS;
		each_of(engine, 1, pull_other);
	}
	evfs_links_tick(engine, now_ns, next_ns);
}
