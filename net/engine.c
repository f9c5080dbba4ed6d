/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The engine's entries: events come in here, are handed to the session or
 * member that they concern, and then everything that is due is done: streams,
 * answers, requests, reports. Doing it after every event, from the state alone,
 * means that there is no second path by which work could be forgotten. */
#include "net/engine.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "meta/config.h"
#include "meta/life.h"
#include "net/engine_priv.h"

/* ---- what is durable here ---- */

uint64_t evfs_engine_clock(struct evfs_engine *engine)
{
	uint64_t clock;

	evfs_meta_lock(engine->meta);
	clock = evfs_meta_clock(engine->meta);
	evfs_meta_unlock(engine->meta);
	return clock;
}

void evfs_engine_hear(struct evfs_engine *engine, uint64_t clock_ns)
{
	evfs_meta_lock(engine->meta);
	evfs_meta_hear_clock(engine->meta, clock_ns);
	evfs_meta_unlock(engine->meta);
}

/* Context and root of one commit: the root is the same before and after the
 * context is read, else a commit came between. */
static int read_durable(struct evfs_engine *engine, struct evfs_context *ret,
			evfs_hash *ret_root)
{
	evfs_hash root;
	int r;

	do {
		root = evfs_meta_durable_root(engine->meta);
		r = evfs_meta_durable_context(engine->meta, ret);
		*ret_root = evfs_meta_durable_root(engine->meta);
	} while (r == 0 && !evfs_hash_equal(&root, ret_root));
	return r;
}

int evfs_engine_refresh(struct evfs_engine *engine, struct evfs_err *err)
{
	evfs_actor actor = evfs_meta_actor(engine->meta);
	struct evfs_content_stats stats;
	struct evfs_context context = { 0 };
	evfs_hash root;
	int r;

	r = read_durable(engine, &context, &root);
	if (r < 0) {
		evfs_context_fini(&context);
		return evfs_err_set(err, r, "reading the context: %s",
				    evfs_err_text(r));
	}
	evfs_meta_lock(engine->meta);
	evfs_content_get_stats(engine->content, &stats);
	engine->recalling = evfs_meta_has_amnesia(engine->meta);
	evfs_meta_unlock(engine->meta);
	if (!evfs_context_equal(&context, &engine->durable) ||
	    !evfs_hash_equal(&root, &engine->root) ||
	    stats.wanted != engine->wanted ||
	    stats.wanted_bytes != engine->wanted_bytes)
		engine->report_due = engine->changed = true;
	if (evfs_context_get(&context, actor) >
	    evfs_context_get(&engine->durable, actor))
		evfs_converge_note_change(engine,
					evfs_context_get(&context, actor));
	if (!evfs_context_equal(&context, &engine->durable))
		engine->news++;
	evfs_context_fini(&engine->durable);
	engine->durable = context;
	engine->root = root;
	engine->wanted = stats.wanted;
	engine->wanted_bytes = stats.wanted_bytes;
	return 0;
}

/* ---- bandwidth ---- */

static void read_config(struct evfs_engine *engine, uint64_t now_ns)
{
	evfs_meta_lock(engine->meta);
	engine->up.rate = (uint64_t)evfs_config_get(engine->meta,
						    EVFS_CONFIG_bandwidth_up);
	engine->down.rate = (uint64_t)evfs_config_get(
		engine->meta, EVFS_CONFIG_bandwidth_down);
	engine->auditing.interval_ns =
		(uint64_t)evfs_config_get(engine->meta,
					  EVFS_CONFIG_anti_entropy_interval) *
		EVFS_MS;
	evfs_gossip_config(engine);
	engine->hint_bucket.rate = (uint64_t)evfs_config_get(
		engine->meta, EVFS_CONFIG_hint_rate);
	engine->hints.ttl_ns = (uint64_t)evfs_config_get(engine->meta,
							 EVFS_CONFIG_hint_ttl) *
			       EVFS_MS;
	engine->target_ms = (uint64_t)evfs_config_get(
		engine->meta, EVFS_CONFIG_convergence_target);
	engine->hints.bytes_max = (uint64_t)evfs_config_get(
		engine->meta, EVFS_CONFIG_hint_max_bytes);
	evfs_meta_unlock(engine->meta);
	engine->config_ns = now_ns + 5 * EVFS_SECOND;
}

void evfs_engine_config_changed(struct evfs_engine *engine)
{
	engine->config_ns = engine->hints.look_ns = 0;
}

bool evfs_bucket_take(struct evfs_bucket *bucket, uint64_t now_ns,
		      uint64_t bytes, uint64_t *next_ns)
{
	/* whoever looked at the clock later may have been here before */
	uint64_t gap_ms =
		now_ns > bucket->ns ? (now_ns - bucket->ns) / EVFS_MS : 0;

	if (bucket->rate == 0)
		return true;
	if (gap_ms > 1000)
		gap_ms = 1000; /* what was not used is not saved up */
	if (gap_ms > 0) {
		bucket->tokens +=
			(int64_t)(bucket->rate / 1000 * gap_ms +
				  bucket->rate % 1000 * gap_ms / 1000);
		if (bucket->tokens > (int64_t)bucket->rate)
			bucket->tokens = (int64_t)bucket->rate;
		bucket->ns = now_ns;
	}
	if (bucket->tokens <= 0) {
		evfs_engine_lower(next_ns, now_ns + 10 * EVFS_MS);
		return false;
	}
	bucket->tokens -= (int64_t)bytes;
	return true;
}

/* ---- doing what is due ---- */

static void run_sessions(struct evfs_engine *engine, uint64_t now_ns,
			 uint64_t *next_ns)
{
	struct evfs_session *s;

	for (s = engine->sessions; s != NULL; s = s->next) {
		evfs_session_tick(engine, s, now_ns, next_ns);
		if (s->state != EVFS_SESSION_ACTIVE)
			continue;
		evfs_session_flush(engine, s, EVFS_CHANNEL_CONTROL);
		evfs_session_flush(engine, s, EVFS_CHANNEL_BULK);
		evfs_push_run(engine, s, now_ns, next_ns);
		if (s->state == EVFS_SESSION_ACTIVE)
			evfs_audit_run(engine, s, now_ns, next_ns);
		if (s->state == EVFS_SESSION_ACTIVE)
			evfs_serve_run(engine, s, now_ns, next_ns);
	}
}

static uint64_t run(struct evfs_engine *engine)
{
	uint64_t now_ns = evfs_engine_now(engine);
	uint64_t next_ns = now_ns + 5 * EVFS_SECOND;
	struct evfs_err err = { 0 };
	struct evfs_peer *peer;

	if (now_ns >= engine->config_ns)
		read_config(engine, now_ns);
	evfs_fetch_commit(engine, now_ns, &next_ns);
	if (engine->members_dirty && evfs_peer_refresh(engine, &err) < 0)
		evfs_log(EVFS_LOG_ERROR, "members: err=%s", err.msg);
	evfs_memory_tick(engine);
	run_sessions(engine, now_ns, &next_ns);
	evfs_fetch_run(engine, now_ns, &next_ns);
	evfs_quorum_run(engine, now_ns, &next_ns);
	evfs_hints_run(engine, now_ns, &next_ns);
	evfs_report_tick(engine, now_ns, &next_ns);
	evfs_audit_tick(engine, now_ns, &next_ns);
	evfs_gossip_tick(engine, now_ns, &next_ns);
	for (peer = engine->peers; peer != NULL; peer = peer->next)
		evfs_peer_tick(engine, peer, now_ns, &next_ns);
	evfs_session_reap(engine);
	if (engine->changed) {
		engine->changed = false;
		(void)evfs_engine_verify(engine);
		if (engine->on_change != NULL)
			engine->on_change(engine->on_change_ctx);
	}
	return next_ns;
}

/* ---- life ---- */

int evfs_engine_new(struct evfs_meta *meta, const struct evfs_env *env,
		    const struct evfs_transport *transport,
		    struct evfs_engine **ret, struct evfs_err *err)
{
	struct evfs_engine *engine = evfs_calloc(1, sizeof(*engine));
	int r;

	if (engine == NULL)
		return evfs_err_set(err, EVFS_ENOMEM, "engine: out of memory");
	engine->meta = meta;
	engine->content = evfs_meta_content(meta);
	engine->env = env;
	engine->transport = transport;
	engine->self = evfs_meta_node(meta);
	engine->verified_wall_s = -1;
	engine->news = 1;
	engine->layers = EVFS_LAYERS_ALL;
	engine->started_ns = evfs_engine_now(engine);
	do {
		env->random(env->ctx, &engine->instance,
			    sizeof(engine->instance));
	} while (engine->instance == 0);
	r = evfs_gossip_start(engine, err);
	if (r == 0)
		r = evfs_memory_note_run(engine, err);
	if (r == 0)
		r = evfs_engine_refresh(engine, err);
	if (r == 0)
		r = evfs_peer_refresh(engine, err);
	if (r < 0) {
		evfs_engine_free(engine);
		return r;
	}
	engine->n_changes = 0; /* what is there already has no time */
	evfs_fetch_kick(engine, true);
	*ret = engine;
	return 0;
}

void evfs_engine_free(struct evfs_engine *engine)
{
	struct evfs_session *s;

	if (engine == NULL)
		return;
	evfs_quorum_fini(engine);
	for (s = engine->sessions; s != NULL; s = s->next)
		evfs_session_close(engine, s, EVFS_BYE_SHUTDOWN,
				   "the daemon ends");
	evfs_session_reap(engine);
	evfs_fetch_fini(engine);
	evfs_hints_fini(engine);
	evfs_peer_free_all(engine);
	evfs_gossip_fini(&engine->gossip);
	evfs_free(engine->members_new);
	evfs_context_fini(&engine->durable);
	evfs_context_fini(&engine->seen);
	evfs_free(engine);
}

/* ---- events ---- */

void evfs_engine_opened(struct evfs_engine *engine, evfs_conn conn,
			uint64_t node, bool outgoing)
{
	struct evfs_session *s = evfs_session_find(engine, conn);

	if (s == NULL)
		s = evfs_session_new(engine, conn, node, outgoing);
	if (s == NULL) {
		engine->transport->close(engine->transport->ctx, conn);
		return;
	}
	s->state = EVFS_SESSION_HELLO;
	s->opened_ns = s->heard_ns = evfs_engine_now(engine);
	if (node == engine->self)
		evfs_session_close(engine, s, EVFS_BYE_TWINS,
				   "it is a daemon "
				   "with this replica's identity (a copied "
				   "store? stop one)");
	else if (s->peer == NULL || s->peer->member.removed ||
		 engine->removed)
		evfs_session_close(engine, s, EVFS_BYE_REMOVED,
				   "not a member of the volume (any more)");
	else if (evfs_peer_is_paused(engine, s->peer))
		evfs_session_close(engine, s, EVFS_BYE_PAUSED,
				   "replication is paused");
	else
		evfs_session_send_hello(engine, s);
	(void)run(engine);
}

void evfs_engine_received(struct evfs_engine *engine, evfs_conn conn,
			  enum evfs_channel channel, const void *data,
			  size_t len)
{
	struct evfs_session *s = evfs_session_find(engine, conn);

	if (s == NULL || s->state == EVFS_SESSION_DIALLING)
		return;
	evfs_session_receive(engine, s, channel, data, len);
	(void)run(engine);
}

void evfs_engine_writable(struct evfs_engine *engine, evfs_conn conn,
			  enum evfs_channel channel)
{
	struct evfs_session *s = evfs_session_find(engine, conn);

	if (s == NULL || s->state == EVFS_SESSION_DIALLING)
		return;
	evfs_session_flush(engine, s, channel);
	(void)run(engine);
}

void evfs_engine_closed(struct evfs_engine *engine, evfs_conn conn,
			const struct evfs_err *why)
{
	struct evfs_session *s = evfs_session_find(engine, conn);
	const char *text = why != NULL && why->msg[0] != '\0'
				   ? why->msg
				   : "connection closed";

	if (s == NULL)
		return;
	if (s->state == EVFS_SESSION_ACTIVE)
		evfs_log(EVFS_LOG_INFO, "session ended: peer=%s err=%s",
			 s->peer->member.name, text);
	evfs_session_drop(engine, s);
	if (s->peer != NULL)
		evfs_peer_back_off(engine, s->peer, text);
	(void)run(engine);
}

void evfs_engine_durable(struct evfs_engine *engine)
{
	struct evfs_err err = { 0 };

	if (evfs_engine_refresh(engine, &err) < 0)
		evfs_log(EVFS_LOG_ERROR, "replication: err=%s", err.msg);
	(void)run(engine);
}

void evfs_engine_urgent(struct evfs_engine *engine, const evfs_hash *name,
			uint64_t size)
{
	evfs_fetch_urgent(engine, name, size);
	(void)run(engine);
}

void evfs_engine_ask(struct evfs_engine *engine,
		     const struct evfs_question *question)
{
	evfs_quorum_start(engine, question);
	(void)run(engine);
}

void evfs_engine_withdraw(struct evfs_engine *engine, uint64_t id)
{
	evfs_quorum_stop(engine, id);
	(void)run(engine);
}

void evfs_engine_set_layers(struct evfs_engine *engine, unsigned layers)
{
	engine->layers = layers;
	(void)run(engine);
}

void evfs_engine_members_changed(struct evfs_engine *engine)
{
	engine->members_dirty = engine->members_news = true;
	evfs_peer_note_new(engine, engine->self); /* its address, perhaps */
	(void)run(engine);
}

void evfs_engine_on_task(struct evfs_engine *engine,
			 void (*submit)(void *ctx, struct evfs_task *task),
			 void *ctx)
{
	engine->submit = submit;
	engine->submit_ctx = ctx;
}

void evfs_engine_task_done(struct evfs_engine *engine, struct evfs_task *task)
{
	task->done(task, engine);
	(void)run(engine);
}

uint64_t evfs_engine_tick(struct evfs_engine *engine)
{
	return run(engine);
}

/* ---- commands ---- */

void evfs_engine_pause(struct evfs_engine *engine, uint64_t node, bool on)
{
	struct evfs_err err = { 0 };
	struct evfs_peer *peer;
	int r = 0;

	if (node == 0) {
		engine->paused = on;
	} else {
		evfs_meta_lock(engine->meta);
		r = evfs_members_set_paused(engine->meta, node, on, &err);
		evfs_meta_unlock(engine->meta);
	}
	if (r < 0)
		evfs_log(EVFS_LOG_ERROR, "pause: err=%s", err.msg);
	if (!on)
		for (peer = engine->peers; peer != NULL; peer = peer->next)
			if (node == 0 || peer->member.node == node)
				peer->dial_ns = 0;
	engine->members_dirty = true;
	(void)run(engine);
}

/* Asks a member for what lies beyond our context, and sends what lies beyond
 * its last report, as if nothing had been sent yet. */
static void sync_session(struct evfs_engine *engine,
			 struct evfs_session *session)
{
	evfs_push_ask(engine, session, &engine->durable);
	if (session->state != EVFS_SESSION_ACTIVE)
		return;
	/* without memory for it the next Report tells what lacks */
	if (evfs_push_again(session, &session->peer->report.context) < 0)
		return;
	evfs_report_send(engine, session);
	evfs_session_ping(engine, session);
}

void evfs_engine_sync(struct evfs_engine *engine, uint64_t node)
{
	struct evfs_peer *peer;

	for (peer = engine->peers; peer != NULL; peer = peer->next) {
		if (node != 0 && peer->member.node != node)
			continue;
		peer->failures = 0;
		peer->dial_ns = 0;
		peer->audit_due = true;
		peer->chosen = node != 0;
		if (peer->session != NULL)
			sync_session(engine, peer->session);
	}
	evfs_fetch_kick(engine, true);
	(void)run(engine);
}

void evfs_engine_on_change(struct evfs_engine *engine,
			   void (*changed)(void *ctx), void *ctx)
{
	engine->on_change = changed;
	engine->on_change_ctx = ctx;
}
