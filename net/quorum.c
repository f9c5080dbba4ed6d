/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The asker's side of quorums: whom a question goes to, and when it is over. */
#include "net/quorum.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "net/engine_priv.h"
#include "net/quorum_priv.h"

/* A member that was asked; by connection, for one that comes back has to be
 * asked again. */
struct target {
	uint64_t node;
	evfs_conn conn;
	bool yes;
};

struct evfs_quorum_ask {
	struct evfs_quorum_ask *next;
	struct evfs_question question;
	struct evfs_context rows; /* of the object, durable */
	uint64_t deadline_ns, hedge_ns;
	struct target *targets; /* owned */
	size_t n_targets, cap_targets;
	unsigned yes; /* as of the last run */
	bool changed; /* the object here, by an answer */
	bool over;    /* freed at the end of the run */
};

/* ---- the end of a question ---- */

static const char *kind_text(const struct evfs_quorum_ask *ask)
{
	return ask->question.kind == EVFS_QUESTION_HELD ? "write quorum" :
							  "read quorum";
}

static void finish(struct evfs_engine *engine, struct evfs_quorum_ask *ask,
		   int code, const char *why)
{
	struct evfs_quorums *quorums = &engine->quorums;
	struct evfs_answer answer = { .id = ask->question.id,
				      .code = code,
				      .changed = ask->changed };

	if (ask->over)
		return;
	ask->over = true;
	if (ask->question.kind == EVFS_QUESTION_CHECK) {
		quorums->n_checks--;
		return;
	}
	if (code < 0) {
		snprintf(answer.why, sizeof(answer.why),
			 "%s: %u of %u replicas %s%s", kind_text(ask),
			 ask->yes + 1, ask->question.need + 1, why,
			 ask->question.kind == EVFS_QUESTION_HELD ?
				 " (it is kept here, and goes on spreading)" :
				 "");
		evfs_log(EVFS_LOG_WARN, "%s", answer.why);
		if (ask->question.kind == EVFS_QUESTION_HELD)
			quorums->write_failed++;
		else
			quorums->read_failed++;
	}
	evfs_quorum_answer(engine->meta, &answer);
}

static void reap(struct evfs_quorums *quorums)
{
	struct evfs_quorum_ask **at = &quorums->asks;

	while (*at != NULL) {
		struct evfs_quorum_ask *ask = *at;

		if (!ask->over) {
			at = &ask->next;
			continue;
		}
		*at = ask->next;
		evfs_context_fini(&ask->rows);
		evfs_free(ask->targets);
		evfs_free(ask);
	}
}

/* ---- its beginning ---- */

/* What it is about, as it is on disk. */
static int read_rows(struct evfs_engine *engine, struct evfs_quorum_ask *ask,
		     struct evfs_err *err)
{
	evfs_actor self = evfs_meta_actor(engine->meta);
	int r = evfs_engine_refresh(engine, err);

	if (r < 0)
		return r;
	if (!evfs_dot_equal(ask->question.ino, EVFS_INO_NONE))
		return evfs_quorum_rows(engine, ask->question.ino, &ask->rows,
					err);
	if (evfs_context_get(&engine->durable, self) == 0)
		return 0;
	return evfs_context_raise(&ask->rows, self,
				  evfs_context_get(&engine->durable, self));
}

static bool is_wanted(const struct evfs_engine *engine,
		      const struct evfs_question *question)
{
	if (question->kind != EVFS_QUESTION_CHECK)
		return true;
	return (engine->layers & EVFS_LAYER_READ_REPAIR) != 0 &&
	       !engine->paused &&
	       engine->quorums.n_checks < EVFS_QUORUM_CHECKS_MAX;
}

void evfs_quorum_start(struct evfs_engine *engine,
		       const struct evfs_question *question)
{
	struct evfs_quorums *quorums = &engine->quorums;
	uint64_t now_ns = evfs_engine_now(engine);
	struct evfs_answer lost = { .id = question->id,
				    .code = EVFS_ENOMEM,
				    .why = "out of memory" };
	struct evfs_quorum_ask *ask;
	struct evfs_err err = { 0 };
	int r;

	if (!is_wanted(engine, question))
		return;
	ask = evfs_calloc(1, sizeof(*ask));
	if (ask == NULL) {
		evfs_quorum_answer(engine->meta, &lost);
		return;
	}
	ask->question = *question;
	ask->deadline_ns = now_ns + question->timeout_ms * EVFS_MS;
	ask->hedge_ns = now_ns + EVFS_QUORUM_HEDGE_NS;
	ask->next = quorums->asks;
	quorums->asks = ask;
	if (question->kind == EVFS_QUESTION_CHECK)
		quorums->n_checks++;
	else if (question->kind == EVFS_QUESTION_HELD)
		quorums->write_waits++;
	else
		quorums->read_waits++;
	r = read_rows(engine, ask, &err);
	if (r < 0)
		finish(engine, ask, r, "hold it");
}

void evfs_quorum_stop(struct evfs_engine *engine, uint64_t id)
{
	struct evfs_quorum_ask *ask;

	for (ask = engine->quorums.asks; ask != NULL; ask = ask->next)
		if (ask->question.id == id)
			ask->over = true;
}

void evfs_quorum_fini(struct evfs_engine *engine)
{
	struct evfs_quorum_ask *ask;

	for (ask = engine->quorums.asks; ask != NULL; ask = ask->next)
		finish(engine, ask, EVFS_EUNREACHABLE,
		       "answered before replication ended");
	reap(&engine->quorums);
}

/* ---- whom to ask ---- */

static struct target *find_target(const struct evfs_quorum_ask *ask,
				  const struct evfs_session *session)
{
	size_t i;

	for (i = 0; i < ask->n_targets; i++) {
		struct target *target = &ask->targets[i];

		if (target->conn == session->conn ||
		    (target->yes && target->node == session->node))
			return target;
	}
	return NULL;
}

static void send_question(struct evfs_engine *engine,
			  struct evfs_session *session,
			  const struct evfs_quorum_ask *ask)
{
	Evfs__Wire__Envelope envelope = EVFS__WIRE__ENVELOPE__INIT;
	Evfs__Wire__Compare compare = EVFS__WIRE__COMPARE__INIT;
	Evfs__Wire__Hold hold = EVFS__WIRE__HOLD__INIT;
	struct evfs_buf rows = { 0 }, context = { 0 };
	uint8_t ino[EVFS_DOT_BYTES];
	int r = evfs_wire_put_context(&ask->rows, &rows);

	if (r == 0)
		r = evfs_wire_put_context(&engine->durable, &context);
	evfs_dot_write(ask->question.ino, ino);
	if (ask->question.kind == EVFS_QUESTION_HELD) {
		hold.id = ask->question.id;
		if (!evfs_dot_equal(ask->question.ino, EVFS_INO_NONE))
			hold.ino = evfs_wire_bytes(ino, sizeof(ino));
		hold.rows = evfs_wire_bytes(rows.data, rows.len);
		envelope.kind_case = EVFS__WIRE__ENVELOPE__KIND_HOLD;
		envelope.hold = &hold;
	} else {
		compare.id = ask->question.id;
		compare.ino = evfs_wire_bytes(ino, sizeof(ino));
		compare.rows = evfs_wire_bytes(rows.data, rows.len);
		compare.context = evfs_wire_bytes(context.data, context.len);
		envelope.kind_case = EVFS__WIRE__ENVELOPE__KIND_COMPARE;
		envelope.compare = &compare;
	}
	/* out of memory: as a member that does not answer */
	if (r == 0)
		(void)evfs_session_send(engine, session, EVFS_CHANNEL_CONTROL,
					&envelope);
	evfs_buf_fini(&rows);
	evfs_buf_fini(&context);
}

static void ask_session(struct evfs_engine *engine,
			struct evfs_quorum_ask *ask,
			struct evfs_session *session)
{
	if (evfs_grow((void **)&ask->targets, ask->n_targets,
		      &ask->cap_targets, sizeof(*ask->targets)) < 0)
		return;
	ask->targets[ask->n_targets++] = (struct target){
		.node = session->node, .conn = session->conn
	};
	send_question(engine, session, ask);
}

/* The nearest member that was not asked yet; NULL = none. */
static struct evfs_session *nearest(struct evfs_engine *engine,
				    const struct evfs_quorum_ask *ask)
{
	const struct evfs_peer *peer, *best = NULL;

	for (peer = engine->peers; peer != NULL; peer = peer->next)
		if (peer->session != NULL &&
		    find_target(ask, peer->session) == NULL &&
		    (best == NULL || peer->rtt_ns < best->rtt_ns))
			best = peer;
	return best == NULL ? NULL : best->session;
}

/* Those that were asked over a connection that still is. */
static size_t count_asked(struct evfs_engine *engine,
			  const struct evfs_quorum_ask *ask)
{
	const struct evfs_peer *peer;
	size_t n = 0;

	for (peer = engine->peers; peer != NULL; peer = peer->next)
		n += peer->session != NULL &&
		     find_target(ask, peer->session) != NULL;
	return n;
}

/* A member that was removed meanwhile is none of the W: if it comes back, it is
 * another member, and would be two of them. */
static unsigned count_yes(struct evfs_engine *engine,
			  const struct evfs_quorum_ask *ask)
{
	const struct evfs_peer *peer;
	unsigned n = 0;
	size_t i;

	for (i = 0; i < ask->n_targets; i++) {
		if (!ask->targets[i].yes)
			continue;
		peer = evfs_peer_find(engine, ask->targets[i].node);
		n += peer != NULL && !peer->member.removed;
	}
	return n;
}

static void run_ask(struct evfs_engine *engine, struct evfs_quorum_ask *ask,
		    uint64_t now_ns, uint64_t *next_ns)
{
	bool held = ask->question.kind == EVFS_QUESTION_HELD;
	bool all = held || now_ns >= ask->hedge_ns;
	struct evfs_session *session;

	ask->yes = count_yes(engine, ask);
	if (ask->yes >= ask->question.need) {
		finish(engine, ask, 0, "");
		return;
	}
	if (engine->paused) {
		finish(engine, ask, EVFS_EUNREACHABLE,
		       held ? "hold it on disk, and replication is paused" :
			      "answered, and replication is paused");
		return;
	}
	if (now_ns >= ask->deadline_ns) {
		finish(engine, ask, EVFS_ETIMEOUT,
		       held ? "hold it on disk within quorum_timeout" :
			      "answered within quorum_timeout");
		return;
	}
	while ((all || count_asked(engine, ask) < ask->question.need) &&
	       (session = nearest(engine, ask)) != NULL) {
		size_t before = ask->n_targets;

		ask_session(engine, ask, session);
		if (ask->n_targets == before)
			break; /* no memory: the next run */
	}
	if (!all)
		evfs_engine_lower(next_ns, ask->hedge_ns);
	evfs_engine_lower(next_ns, ask->deadline_ns);
}

void evfs_quorum_run(struct evfs_engine *engine, uint64_t now_ns,
		     uint64_t *next_ns)
{
	struct evfs_quorum_ask *ask;
	struct evfs_session *s;

	for (s = engine->sessions; s != NULL; s = s->next)
		if (s->holds != NULL && s->state == EVFS_SESSION_ACTIVE)
			evfs_quorum_run_holds(engine, s);
	for (ask = engine->quorums.asks; ask != NULL; ask = ask->next)
		if (!ask->over)
			run_ask(engine, ask, now_ns, next_ns);
	reap(&engine->quorums);
}

/* ---- answers ---- */

/* The question that a member on this connection was asked; NULL: it is over. */
static struct evfs_quorum_ask *find_ask(struct evfs_engine *engine,
					const struct evfs_session *session,
					uint64_t id, struct target **ret)
{
	struct evfs_quorum_ask *ask;
	size_t i;

	for (ask = engine->quorums.asks; ask != NULL; ask = ask->next)
		for (i = 0; ask->question.id == id && i < ask->n_targets; i++)
			if (ask->targets[i].conn == session->conn &&
			    !ask->over) {
				*ret = &ask->targets[i];
				return ask;
			}
	return NULL;
}

int evfs_quorum_held(struct evfs_engine *engine, struct evfs_session *session,
		     const Evfs__Wire__Held *held, struct evfs_err *err)
{
	struct evfs_quorum_ask *ask;
	struct target *target;

	(void)err;
	ask = find_ask(engine, session, held->id, &target);
	if (ask != NULL && ask->question.kind == EVFS_QUESTION_HELD)
		target->yes = true;
	return 0;
}

int evfs_quorum_state(struct evfs_engine *engine, struct evfs_session *session,
		      const Evfs__Wire__State *state, struct evfs_err *err)
{
	struct evfs_quorum_ask *ask;
	struct target *target;
	size_t changed = 0;
	int r = evfs_apply_state(engine, session, state, &changed, err);

	if (r < 0 || session->state != EVFS_SESSION_ACTIVE)
		return r;
	if (changed > 0)
		engine->quorums.repaired++;
	if (state->want) {
		r = evfs_quorum_give(engine, session, state, err);
		if (r < 0)
			return r;
	}
	ask = find_ask(engine, session, state->id, &target);
	if (ask == NULL || ask->question.kind == EVFS_QUESTION_HELD)
		return 0;
	ask->changed = ask->changed || changed > 0;
	if (state->later) {
		/* asked again when the stream may be through */
		target->conn = 0;
		ask->hedge_ns = evfs_engine_now(engine) + EVFS_QUORUM_HEDGE_NS;
		return 0;
	}
	engine->quorums.checks++;
	target->yes = true;
	return 0;
}
