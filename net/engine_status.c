/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Status: what is known, by the last reports, and nothing that is hoped. */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "meta/collect.h"
#include "meta/delta.h"
#include "meta/life.h"
#include "net/engine_priv.h"

#define COUNT_MAX 100000	/* changes counted at most */
#define WEIGH_MAX 2000		/* objects looked at for their size */
#define KEEP_NS (500 * EVFS_MS) /* a costly answer is kept as long */

/* ---- how much lies beyond a context ---- */

static void weigh_object(const struct evfs_object *object,
			 const struct evfs_context *context,
			 struct evfs_weight *weight)
{
	size_t i;

	if (weight->oldest_ns == 0 || object->change_ns < weight->oldest_ns)
		weight->oldest_ns = object->change_ns;
	for (i = 0; i < object->n_versions; i++)
		if (!evfs_context_covers(context, object->versions[i].dot))
			weight->bytes += object->versions[i].size;
}

/* Sizes of the first objects; the others are taken to be like them. */
static int weigh_bytes(struct evfs_engine *engine,
		       const struct evfs_context *context,
		       struct evfs_weight *weight, struct evfs_err *err)
{
	struct evfs_delta *delta;
	struct evfs_object **objects;
	size_t i, n, total = 0;
	bool done = false;
	int r = evfs_delta_open(engine->meta, context, &delta, err);

	if (r < 0)
		return r;
	while (r == 0 && !done && total < WEIGH_MAX) {
		objects = NULL;
		n = 0;
		r = evfs_delta_next(delta, 0, &objects, &n, &done, err);
		for (i = 0; r == 0 && i < n; i++)
			weigh_object(objects[i], context, weight);
		for (i = 0; i < n; i++)
			evfs_object_free(objects[i]);
		evfs_free(objects);
		total += n;
	}
	evfs_delta_close(delta);
	if (r == 0 && !done && total > 0 && weight->changes > total)
		weight->bytes = weight->bytes / total * weight->changes;
	return r;
}

int evfs_engine_weigh(struct evfs_engine *engine,
		      const struct evfs_context *context,
		      struct evfs_weight *weight, struct evfs_err *err)
{
	uint64_t now_ns = evfs_engine_now(engine);
	int r;

	if (evfs_context_contains(context, &engine->durable)) {
		*weight = (struct evfs_weight){ .news = engine->news };
		return 0;
	}
	if (weight->news == engine->news ||
	    (weight->changes > WEIGH_MAX && now_ns - weight->ns < KEEP_NS))
		return 0;
	*weight = (struct evfs_weight){ .news = engine->news, .ns = now_ns };
	evfs_meta_lock(engine->meta);
	r = evfs_delta_count(engine->meta, context, COUNT_MAX, &weight->changes,
			     err);
	evfs_meta_unlock(engine->meta);
	if (r == 0 && weight->changes > 0)
		r = weigh_bytes(engine, context, weight, err);
	if (r < 0)
		weight->news = 0;
	return r;
}

/* ---- one member ---- */

static uint64_t missing(const struct evfs_engine *engine,
			const struct evfs_context *theirs)
{
	uint64_t sum = 0;
	size_t i;

	for (i = 0; i < theirs->n; i++) {
		uint64_t ours = evfs_context_get(&engine->durable,
						 theirs->rows[i].actor);

		if (theirs->rows[i].counter > ours)
			sum += theirs->rows[i].counter - ours;
	}
	return sum;
}

/* What gossip says of a member that there is no session with. */
static void hearsay(const struct evfs_engine *engine,
		    const struct evfs_peer *peer, struct evfs_peer_status *ret)
{
	const struct evfs_gossip_entry *entry =
		evfs_gossip_find(&engine->gossip, peer->member.node);
	uint64_t silence_ns;
	struct evfs_peer *via;

	if (entry == NULL)
		return;
	ret->version = entry->state.version;
	silence_ns = evfs_gossip_silence_ns(&engine->gossip, entry);
	if (silence_ns != UINT64_MAX)
		ret->last_contact_s = (int64_t)(silence_ns / EVFS_SECOND);
	if (peer->session != NULL || entry->since == 0)
		return;
	ret->has_root = true;
	ret->root = entry->state.root;
	if (entry->state.wanted_bytes > ret->behind_bytes)
		ret->behind_bytes = entry->state.wanted_bytes;
	for (via = engine->peers; via != NULL; via = via->next)
		if (via->member.node == entry->via && via != peer)
			snprintf(ret->heard_via, sizeof(ret->heard_via), "%s",
				 via->member.name);
}

/* Changes of its own that it has told of by gossip, and that are not here. */
static uint64_t missing_own(const struct evfs_engine *engine,
			    const struct evfs_peer *peer)
{
	const struct evfs_gossip_state *state =
		evfs_gossip_state_of(engine, peer);
	evfs_actor actor = { peer->member.node, state ? state->epoch : 0 };
	uint64_t ours;

	if (state == NULL || peer->session != NULL)
		return 0;
	ours = evfs_context_get(&engine->durable, actor);
	return state->counter > ours ? state->counter - ours : 0;
}

static int peer_status(struct evfs_engine *engine, struct evfs_peer *peer,
		       bool settled, struct evfs_peer_status *ret,
		       struct evfs_err *err)
{
	uint64_t now_ns = evfs_engine_now(engine);
	const struct evfs_peer_report *report = &peer->report;
	struct evfs_hints_count hints;
	int r = evfs_engine_weigh(engine, &report->context, &peer->behind, err);

	if (r < 0)
		return r;
	ret->member = peer->member;
	ret->state = evfs_peer_state(engine, peer, now_ns);
	ret->connected = peer->session != NULL;
	ret->in_sync = evfs_peer_in_sync(engine, peer, settled);
	ret->has_root = report->complete;
	if (report->complete)
		ret->root = report->root;
	ret->behind_changes = peer->behind.changes;
	ret->behind_bytes = peer->behind.bytes;
	if (report->complete && report->wanted_bytes > ret->behind_bytes)
		ret->behind_bytes = report->wanted_bytes;
	ret->missing_changes = missing(engine, &report->context);
	if (missing_own(engine, peer) > ret->missing_changes)
		ret->missing_changes = missing_own(engine, peer);
	ret->rtt_ms = peer->rtt_ns < 0 ? -1
				       : (peer->rtt_ns + (int64_t)EVFS_MS - 1) /
						 (int64_t)EVFS_MS;
	ret->skew_ms = peer->skew_ns == INT64_MIN
			       ? INT64_MIN
			       : peer->skew_ns / (int64_t)EVFS_MS;
	ret->last_contact_s =
		peer->contact_ns == 0
			? -1
			: (int64_t)((now_ns - peer->contact_ns) / EVFS_SECOND);
	hearsay(engine, peer, ret);
	evfs_converge_status(engine, peer, ret);
	ret->auditing = report->auditing;
	evfs_meta_lock(engine->meta);
	ret->blocks = evfs_collect_blocks(engine->meta, peer->member.node);
	evfs_meta_unlock(engine->meta);
	ret->audit_due = evfs_memory_waits_for(engine, peer);
	snprintf(ret->last_error, sizeof(ret->last_error), "%s",
		 peer->last_error);
	r = evfs_hints_of(engine, peer, &hints, err);
	if (r < 0)
		return r;
	ret->hints_count = hints.count;
	ret->hints_bytes = hints.bytes;
	ret->hints_oldest_s = hints.oldest_s;
	ret->hints_expired = hints.expired;
	ret->hints_foreign = hints.foreign;
	return 0;
}

/* ---- all ---- */

/* What every member that is not removed has, as last reported. */
static int meet(const struct evfs_engine *engine, struct evfs_context *ret)
{
	const struct evfs_peer *peer;
	size_t i;
	int r = 0;

	for (i = 0; r == 0 && i < engine->durable.n; i++) {
		const struct evfs_context_row *row = &engine->durable.rows[i];
		uint64_t least = row->counter;

		for (peer = engine->peers; peer != NULL; peer = peer->next) {
			uint64_t theirs = evfs_context_get(
				&peer->report.context, row->actor);

			if (!peer->member.removed && theirs < least)
				least = theirs;
		}
		if (least > 0)
			r = evfs_context_raise(ret, row->actor, least);
	}
	return r;
}

static int pending(struct evfs_engine *engine, struct evfs_engine_status *ret,
		   struct evfs_err *err)
{
	struct evfs_context all = { 0 };
	uint64_t wall_ns = evfs_engine_wall(engine);
	int r = meet(engine, &all);

	if (r < 0)
		evfs_err_set(err, r, "status: out of memory");
	else
		r = evfs_engine_weigh(engine, &all, &engine->pending, err);
	evfs_context_fini(&all);
	if (r < 0)
		return r;
	ret->pending_changes = engine->pending.changes;
	ret->pending_bytes = engine->pending.bytes;
	ret->oldest_pending_s = -1;
	if (engine->pending.changes > 0)
		ret->oldest_pending_s =
			wall_ns < engine->pending.oldest_ns
				? 0
				: (int64_t)((wall_ns -
					     engine->pending.oldest_ns) /
					    EVFS_SECOND);
	return 0;
}

static int all_peers(struct evfs_engine *engine, struct evfs_engine_status *ret,
		     struct evfs_err *err)
{
	bool settled = evfs_engine_settled(engine);
	struct evfs_peer *peer;
	size_t n = 0;
	int r = 0;

	for (peer = engine->peers; peer != NULL; peer = peer->next)
		n += !peer->member.removed;
	ret->peers = evfs_calloc(n, sizeof(*ret->peers));
	if (ret->peers == NULL)
		return evfs_err_set(err, EVFS_ENOMEM, "status: out of memory");
	for (peer = engine->peers; r == 0 && peer != NULL; peer = peer->next)
		if (!peer->member.removed)
			r = peer_status(engine, peer, settled,
					&ret->peers[ret->n_peers++], err);
	return r;
}

int evfs_engine_only_here(struct evfs_engine *engine, uint64_t max,
			  uint64_t *ret, struct evfs_err *err)
{
	struct evfs_context known = { 0 };
	const struct evfs_peer *peer;
	int r = 0;

	for (peer = engine->peers; r == 0 && peer != NULL; peer = peer->next)
		if (!peer->member.removed)
			r = evfs_context_join(&known, &peer->report.context);
	if (r < 0) {
		evfs_context_fini(&known);
		return evfs_err_set(err, r, "status: out of memory");
	}
	evfs_meta_lock(engine->meta);
	r = evfs_delta_count(engine->meta, &known, max, ret, err);
	evfs_meta_unlock(engine->meta);
	evfs_context_fini(&known);
	return r;
}

int evfs_engine_status(struct evfs_engine *engine,
		       struct evfs_engine_status *ret, struct evfs_err *err)
{
	int r = evfs_engine_refresh(engine, err);

	if (r < 0)
		return r;
	*ret = (struct evfs_engine_status){ 0 };
	evfs_gossip_own(engine);
	r = all_peers(engine, ret, err);
	if (r == 0)
		r = pending(engine, ret, err);
	if (r < 0) {
		evfs_free(ret->peers);
		*ret = (struct evfs_engine_status){ 0 };
		return r;
	}
	ret->paused = engine->paused;
	ret->removed = engine->removed;
	ret->auditing = engine->recalling;
	ret->lives = engine->lives;
	ret->converged = evfs_engine_verify(engine);
	ret->verified_wall_s = engine->verified_wall_s;
	ret->wanted_contents = engine->wanted;
	ret->wanted_bytes = engine->wanted_bytes;
	ret->bytes_sent = engine->bytes_sent;
	ret->bytes_received = engine->bytes_received;
	ret->messages_sent = engine->messages_sent;
	ret->messages_received = engine->messages_received;
	ret->chunks_corrupt = engine->chunks_corrupt;
	evfs_audit_status(engine, &ret->audit);
	ret->gossip_rounds = engine->gossip.rounds;
	ret->gossip_messages = engine->gossip.messages;
	ret->gossip_bytes = engine->gossip.bytes;
	ret->gossip_refused = engine->gossip.refused;
	ret->health = engine->gossip.health.score;
	ret->hints_delivered = engine->hints.delivered;
	ret->hints_expired = engine->hints.expired;
	ret->write_waits = engine->quorums.write_waits;
	ret->write_failed = engine->quorums.write_failed;
	ret->read_waits = engine->quorums.read_waits;
	ret->read_failed = engine->quorums.read_failed;
	ret->read_checks = engine->quorums.checks;
	ret->read_repaired = engine->quorums.repaired;
	return 0;
}
