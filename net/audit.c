/* SPDX-License-Identifier: GPL-3.0-or-later */
/* When audits begin, whose turn it is, and how they end. One at a time is begun
 * here; members may have begun others. */
#include "net/audit.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "meta/delta.h"
#include "meta/divergence.h"
#include "meta/upkeep.h"
#include "net/audit_priv.h"

/* ---- life ---- */

static void clear_side(struct evfs_audit_side *side)
{
	evfs_free(side->stack);
	evfs_audit_clear_wants(side);
	*side = (struct evfs_audit_side){ 0 };
}

void evfs_audit_fini(struct evfs_session *session)
{
	struct evfs_audits *audits = session->audits;

	if (audits == NULL)
		return;
	clear_side(&audits->sides[EVFS_AUDIT_MINE]);
	clear_side(&audits->sides[EVFS_AUDIT_THEIRS]);
	evfs_free(audits->sends);
	evfs_buf_fini(&audits->evidence);
	evfs_free(audits);
	session->audits = NULL;
}

static int need_audits(struct evfs_session *session, struct evfs_err *err)
{
	if (session->audits == NULL)
		session->audits = evfs_calloc(1, sizeof(*session->audits));
	if (session->audits == NULL)
		return evfs_err_set(err, EVFS_ENOMEM, "audit: out of memory");
	return 0;
}

/* ---- the end ---- */

/* What a person can read when they want to know what happened. */
static void keep_evidence(struct evfs_engine *engine,
			  struct evfs_session *session,
			  const struct evfs_audit_side *side)
{
	char ours[EVFS_HASH_HEX_SIZE], theirs[EVFS_HASH_HEX_SIZE];
	struct evfs_buf *objects = &session->audits->evidence;
	char text[EVFS_AUDIT_EVIDENCE_MAX + 1024];
	struct evfs_err err = { 0 };
	int r;

	evfs_hash_format(&side->ours, ours);
	evfs_hash_format(&side->theirs, theirs);
	snprintf(text, sizeof(text),
		 "with %s: equal contexts, different facts\nroot here %s\n"
		 "root there %s\n%llu differences\n%.*s",
		 session->peer->member.name, ours, theirs,
		 (unsigned long long)side->differing, (int)objects->len,
		 (const char *)objects->data);
	evfs_meta_lock(engine->meta);
	r = evfs_divergence_add(engine->meta, session->node,
				evfs_engine_wall(engine), text, &err);
	evfs_meta_unlock(engine->meta);
	if (r < 0)
		evfs_log(EVFS_LOG_ERROR, "keeping evidence: err=%s", err.msg);
}

/* Trees that differ over equal objects: one of the two is wrong. Had anything
 * changed meanwhile, that would be the reason. */
static void suspect_tree(struct evfs_engine *engine,
			 const struct evfs_session *session,
			 const struct evfs_audit_side *side)
{
	const struct evfs_peer_report *report = &session->peer->report;
	struct evfs_err err = { 0 };
	int r;

	if (side->differing > 0 ||
	    !evfs_hash_equal(&side->ours, &engine->root) ||
	    !evfs_hash_equal(&side->theirs, &report->root) ||
	    !evfs_context_equal(&engine->durable, &report->context))
		return;
	evfs_log(EVFS_LOG_ERROR, "audit: peer=%s: equal objects, different "
		 "trees; the tree is checked against the facts",
		 session->peer->member.name);
	evfs_meta_lock(engine->meta);
	r = evfs_upkeep_set_due(engine->meta, EVFS_UPKEEP_TREE, &err);
	evfs_meta_unlock(engine->meta);
	if (r < 0)
		evfs_log(EVFS_LOG_WARN, "audit: err=%s", err.msg);
}

static void end_side(struct evfs_engine *engine, struct evfs_session *session,
		     struct evfs_audit_side *side)
{
	struct evfs_auditing *all = &engine->auditing;
	bool mine = side == &session->audits->sides[EVFS_AUDIT_MINE];
	bool equal = evfs_hash_equal(&side->ours, &side->theirs);

	if (side->differing > 0)
		evfs_log(side->alarm ? EVFS_LOG_ERROR : EVFS_LOG_WARN,
			 "audit: peer=%s differences=%llu",
			 session->peer->member.name,
			 (unsigned long long)side->differing);
	if (side->differing > 0 ||
	    !evfs_hash_equal(&side->ours, &engine->root))
		session->peer->unequal_ns = 0; /* look again soon */
	if (side->alarm && !equal)
		keep_evidence(engine, session, side);
	if (!equal)
		suspect_tree(engine, session, side);
	if (mine) {
		all->status.rounds++;
		all->status.root_matches += equal;
		all->status.bytes += side->bytes;
		all->status.last_bytes = side->bytes;
		all->status.last_round_trips = (side->messages + 1) / 2;
		all->status.last_wall_s =
			(int64_t)(evfs_engine_wall(engine) / EVFS_SECOND);
		all->ended_ns = evfs_engine_now(engine);
		all->root = engine->root;
	}
	clear_side(side);
	evfs_buf_clear(&session->audits->evidence);
	engine->changed = true;
}

/* ---- messages ---- */

static bool send(struct evfs_engine *engine, struct evfs_session *session,
		 struct evfs_audit_side *side, Evfs__Wire__Audit *audit)
{
	Evfs__Wire__Envelope envelope = EVFS__WIRE__ENVELOPE__INIT;

	audit->id = side->id;
	audit->answer = side == &session->audits->sides[EVFS_AUDIT_THEIRS];
	envelope.kind_case = EVFS__WIRE__ENVELOPE__KIND_AUDIT;
	envelope.audit = audit;
	side->messages++;
	side->bytes += EVFS_WIRE_HEADER +
		       evfs__wire__envelope__get_packed_size(&envelope);
	side->turn = false;
	side->heard_ns = evfs_engine_now(engine);
	return evfs_session_send(engine, session, EVFS_CHANNEL_CONTROL,
				 &envelope);
}

/* What one side has lost is not to be told from what it has never seen: until
 * it has its memory back (net/memory.c), nothing is repaired by rows alone. */
static bool remembers(const struct evfs_engine *engine,
		      const struct evfs_session *session)
{
	return !engine->recalling && session->peer != NULL &&
	       !session->peer->report.auditing;
}

static void begin(struct evfs_engine *engine, struct evfs_session *session,
		  bool alarm)
{
	Evfs__Wire__Audit audit = EVFS__WIRE__AUDIT__INIT;
	struct evfs_audit_side *side;

	if (!remembers(engine, session))
		return;
	if (need_audits(session, NULL) < 0)
		return; /* another time */
	side = &session->audits->sides[EVFS_AUDIT_MINE];
	clear_side(side);
	do {
		engine->env->random(engine->env->ctx, &side->id,
				    sizeof(side->id));
	} while (side->id == 0);
	engine->env->random(engine->env->ctx, &side->seed, sizeof(side->seed));
	side->alarm = alarm;
	side->ours = engine->root;
	side->theirs = session->peer->report.root;
	audit.seed = side->seed;
	audit.alarm = alarm;
	audit.root = evfs_wire_bytes(engine->root.b, EVFS_HASH_SIZE);
	(void)send(engine, session, side, &audit);
}

/* The first message of the member's audit. */
static void answer(struct evfs_engine *engine, struct evfs_session *session,
		   const Evfs__Wire__Audit *audit)
{
	struct evfs_audit_side *side =
		&session->audits->sides[EVFS_AUDIT_THEIRS];
	Evfs__Wire__Audit end = EVFS__WIRE__AUDIT__INIT;

	clear_side(side);
	if (!remembers(engine, session))
		return; /* the member gives it up after a while */
	side->id = audit->id;
	side->seed = audit->seed;
	side->alarm = audit->alarm;
	side->ours = engine->root;
	side->theirs = evfs_wire_hash(&audit->root, 0);
	if (evfs_hash_equal(&side->ours, &side->theirs)) {
		end.end = true;
		if (send(engine, session, side, &end))
			clear_side(side);
		return;
	}
	side->heard_ns = evfs_engine_now(engine);
	side->stack = evfs_calloc(1, sizeof(*side->stack));
	if (side->stack == NULL) {
		clear_side(side);
		return;
	}
	side->stack[0] = EVFS_MERKLE_ROOT;
	side->n = side->cap = 1;
	side->turn = true;
}

int evfs_audit_receive(struct evfs_engine *engine,
		       struct evfs_session *session,
		       const Evfs__Wire__Audit *audit, struct evfs_err *err)
{
	struct evfs_audit_side *side;
	int r = need_audits(session, err);

	if (r < 0)
		return r;
	side = &session->audits->sides[audit->answer ? EVFS_AUDIT_MINE :
						       EVFS_AUDIT_THEIRS];
	if (!audit->answer && audit->root.len > 0) {
		answer(engine, session, audit);
		return 0;
	}
	if (side->id != audit->id)
		return 0; /* of one that was given up */
	if (side->turn)
		return evfs_err_set(err, EVFS_EPROTO, "audit: out of turn");
	side->heard_ns = evfs_engine_now(engine);
	side->messages++;
	side->bytes += EVFS_WIRE_HEADER +
		       evfs__wire__audit__get_packed_size(audit);
	if (audit->end) {
		if (side->messages == 2)
			side->theirs = side->ours; /* it said so */
		end_side(engine, session, side);
		return 0;
	}
	side->quiet = audit->left == 0;
	side->turn = true;
	return evfs_audit_compare(engine, session->audits, side, audit, err);
}

static bool is_over(const struct evfs_audit_side *side)
{
	return side->n == 0 && side->n_wants == 0 && side->quiet;
}

/* What is on the stack and wanted goes out; or that nothing is. */
static int take_turn(struct evfs_engine *engine, struct evfs_session *session,
		     struct evfs_audit_side *side, struct evfs_err *err)
{
	Evfs__Wire__Audit audit = EVFS__WIRE__AUDIT__INIT;
	bool end = is_over(side);
	int r = 0;

	audit.end = end;
	if (!end)
		r = evfs_audit_tell(engine, side, &audit, err);
	if (r == 0 && send(engine, session, side, &audit) && end)
		end_side(engine, session, side);
	if (!end)
		evfs_audit_clear(&audit);
	return r;
}

/* ---- what is due ---- */

static void give_up_silent(struct evfs_engine *engine,
			   struct evfs_session *session,
			   struct evfs_audit_side *side, uint64_t now_ns,
			   uint64_t *next_ns)
{
	uint64_t end_ns = side->heard_ns + EVFS_AUDIT_SILENCE_NS;

	if (side->id == 0 || side->turn)
		return;
	if (now_ns < end_ns) {
		evfs_engine_lower(next_ns, end_ns);
		return;
	}
	evfs_log(EVFS_LOG_WARN, "audit: peer=%s: no answer",
		 session->peer->member.name);
	clear_side(side);
	engine->changed = true;
}

void evfs_audit_run(struct evfs_engine *engine, struct evfs_session *session,
		    uint64_t now_ns, uint64_t *next_ns)
{
	struct evfs_err err = { 0 };
	bool more = true;
	int i, r = 0;

	if (session->audits == NULL)
		return;
	while (r == 0 && more && session->state == EVFS_SESSION_ACTIVE &&
	       evfs_push_may_send(engine, session, now_ns, next_ns))
		r = evfs_audit_send_objects(engine, session, &more, &err);
	/* Comparing goes on meanwhile, and ends behind the last object. */
	for (i = 0; i < 2 && r == 0 && session->state == EVFS_SESSION_ACTIVE;
	     i++) {
		struct evfs_audit_side *side = &session->audits->sides[i];

		if (side->id != 0 && side->turn && more && is_over(side))
			continue;
		if (side->id != 0 && side->turn)
			r = take_turn(engine, session, side, &err);
		else
			give_up_silent(engine, session, side, now_ns, next_ns);
	}
	if (r < 0)
		evfs_session_fail(engine, session, &err);
}

static bool is_auditing(const struct evfs_session *session)
{
	return session->audits != NULL &&
	       session->audits->sides[EVFS_AUDIT_MINE].id != 0;
}

static bool may_audit(const struct evfs_peer *peer)
{
	return peer->session != NULL && peer->report.complete &&
	       peer->session->state == EVFS_SESSION_ACTIVE;
}

/* A random member; all of them once a day. */
static void choose(struct evfs_engine *engine, bool all)
{
	struct evfs_peer *peer, *chosen = NULL;
	uint64_t n = 0, draw;

	for (peer = engine->peers; peer != NULL; peer = peer->next) {
		if (!may_audit(peer))
			continue;
		peer->audit_due |= all;
		engine->env->random(engine->env->ctx, &draw, sizeof(draw));
		if (draw % ++n == 0)
			chosen = peer;
	}
	if (chosen != NULL)
		chosen->audit_due = true;
}

/* While changes are on their way to it there is nothing to find; if that never
 * ends, it is looked all the same. */
static bool is_worth(struct evfs_engine *engine, uint64_t now_ns)
{
	const struct evfs_auditing *all = &engine->auditing;
	const struct evfs_peer *peer;
	uint64_t since_ns = all->ended_ns > 0 ? all->ended_ns :
						engine->started_ns;

	if (all->ended_ns > 0 && evfs_hash_equal(&all->root, &engine->root))
		return false;
	if (now_ns - since_ns > 10 * all->interval_ns)
		return true;
	for (peer = engine->peers; peer != NULL; peer = peer->next)
		if (may_audit(peer) &&
		    !evfs_context_equal(&engine->durable,
					&peer->report.context))
			return false;
	return true;
}

static void look_at_clock(struct evfs_engine *engine, uint64_t now_ns,
			  uint64_t *next_ns)
{
	struct evfs_auditing *all = &engine->auditing;

	if (all->due_ns == 0 || all->due_ns > now_ns + all->interval_ns)
		all->due_ns = now_ns + all->interval_ns;
	if (all->full_ns == 0)
		all->full_ns = now_ns + EVFS_AUDIT_FULL_NS;
	if (now_ns >= all->full_ns) {
		all->full_ns = now_ns + EVFS_AUDIT_FULL_NS;
		choose(engine, true);
	} else if (now_ns >= all->due_ns) {
		all->due_ns = now_ns + all->interval_ns;
		if (is_worth(engine, now_ns))
			choose(engine, false);
	}
	evfs_engine_lower(next_ns, all->due_ns);
}

void evfs_audit_tick(struct evfs_engine *engine, uint64_t now_ns,
		     uint64_t *next_ns)
{
	struct evfs_session *s;
	struct evfs_peer *peer;

	look_at_clock(engine, now_ns, next_ns);
	for (s = engine->sessions; s != NULL; s = s->next)
		if (s->state == EVFS_SESSION_ACTIVE && is_auditing(s))
			return;
	for (peer = engine->peers; peer != NULL; peer = peer->next) {
		if (!peer->audit_due || !may_audit(peer))
			continue;
		peer->audit_due = false;
		begin(engine, peer->session,
		      peer->diverged &&
			      evfs_context_equal(&engine->durable,
						 &peer->report.context));
		return;
	}
}

void evfs_audit_diverged(struct evfs_engine *engine, struct evfs_peer *peer)
{
	uint64_t ahead = 0;
	int r;

	evfs_meta_lock(engine->meta);
	r = evfs_delta_count(engine->meta, &engine->durable, 1, &ahead, NULL);
	evfs_meta_unlock(engine->meta);
	/* It may lack just what we have beyond the context; it will ask. */
	if (r < 0 || ahead > 0)
		return;
	if (!peer->diverged) {
		evfs_log(EVFS_LOG_ERROR,
			 "DIVERGED: peer=%s: equal histories, different "
			 "content; looking for the difference",
			 peer->member.name);
		engine->auditing.status.divergences++;
	}
	peer->diverged = peer->audit_due = true;
	engine->changed = true;
}

void evfs_audit_status(const struct evfs_engine *engine,
		       struct evfs_audit_status *ret)
{
	const struct evfs_session *s;
	const struct evfs_peer *peer;

	*ret = engine->auditing.status;
	if (engine->auditing.ended_ns == 0)
		ret->last_wall_s = -1;
	for (s = engine->sessions; s != NULL; s = s->next) {
		if (s->state != EVFS_SESSION_ACTIVE || !is_auditing(s))
			continue;
		ret->running++;
		ret->running_nodes +=
			s->audits->sides[EVFS_AUDIT_MINE].nodes;
	}
	for (peer = engine->peers; peer != NULL; peer = peer->next) {
		ret->running += peer->audit_due;
		ret->diverged += peer->diverged;
	}
}
