/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The answering side of quorums and read repair. Everything that is told of
 * objects comes from a snapshot of what is on disk. */
#include <string.h>

#include "base/mem.h"
#include "meta/delta.h"
#include "meta/facts.h"
#include "net/engine_priv.h"
#include "net/quorum_priv.h"

/* ---- Hold: is it on disk here? ---- */

struct evfs_quorum_hold {
	struct evfs_quorum_hold *next;
	uint64_t id;
	evfs_ino ino;
	struct evfs_context rows;
	bool looked;	/* in the generation `seen` */
	bool here;	/* found then; it will be on disk when that is */
	uint64_t seen;
};

static void free_hold(struct evfs_quorum_hold *hold)
{
	evfs_context_fini(&hold->rows);
	evfs_free(hold);
}

void evfs_quorum_session_gone(struct evfs_session *session)
{
	while (session->holds != NULL) {
		struct evfs_quorum_hold *hold = session->holds;

		session->holds = hold->next;
		free_hold(hold);
	}
	session->n_holds = 0;
}

/* Meta locked. A newer state of the object than was asked for is as good: it
 * holds that version, or one that replaced it. */
static bool is_here(struct evfs_engine *engine,
		    const struct evfs_quorum_hold *hold)
{
	const struct evfs_context *context = evfs_meta_context(engine->meta);
	const struct evfs_object *object = NULL;
	size_t i;
	bool has = true;

	if (!evfs_dot_equal(hold->ino, EVFS_INO_NONE) &&
	    evfs_facts_get(evfs_meta_facts(engine->meta), hold->ino, &object,
			   NULL) < 0)
		return false;
	for (i = 0; i < hold->rows.n; i++) {
		evfs_dot dot = { hold->rows.rows[i].actor,
				 hold->rows.rows[i].counter };

		if (!evfs_object_covers(object, context, dot))
			return false;
	}
	if (object == NULL || !evfs_object_is_live(object))
		return true;
	for (i = 0; i < object->n_versions && has; i++)
		if (evfs_content_has(engine->content,
				     &object->versions[i].content, &has,
				     NULL) < 0)
			return false;
	return has;
}

/* Here, and the generation in which it was found is on disk. Looked at again
 * then: a commit that failed takes back what was found. */
static bool is_on_disk(struct evfs_engine *engine,
		       struct evfs_quorum_hold *hold)
{
	uint64_t now;
	bool durable;

	evfs_meta_lock(engine->meta);
	now = evfs_meta_generation(engine->meta);
	if (!hold->here && (!hold->looked || hold->seen != now)) {
		hold->here = is_here(engine, hold);
		hold->looked = true;
		hold->seen = now;
	}
	durable = hold->here &&
		  evfs_meta_durable_generation(engine->meta) >= hold->seen;
	if (durable && now != hold->seen && !is_here(engine, hold))
		hold->here = hold->looked = durable = false;
	evfs_meta_unlock(engine->meta);
	return durable;
}

static void send_held(struct evfs_engine *engine, struct evfs_session *session,
		      uint64_t id)
{
	Evfs__Wire__Envelope envelope = EVFS__WIRE__ENVELOPE__INIT;
	Evfs__Wire__Held held = EVFS__WIRE__HELD__INIT;

	held.id = id;
	envelope.kind_case = EVFS__WIRE__ENVELOPE__KIND_HELD;
	envelope.held = &held;
	(void)evfs_session_send(engine, session, EVFS_CHANNEL_CONTROL,
				&envelope);
}

void evfs_quorum_run_holds(struct evfs_engine *engine,
			   struct evfs_session *session)
{
	struct evfs_quorum_hold **at = &session->holds;

	while (*at != NULL) {
		struct evfs_quorum_hold *hold = *at;

		if (!is_on_disk(engine, hold)) {
			at = &hold->next;
			continue;
		}
		send_held(engine, session, hold->id);
		if (session->state != EVFS_SESSION_ACTIVE)
			return; /* and the list is gone */
		*at = hold->next;
		session->n_holds--;
		free_hold(hold);
	}
}

int evfs_quorum_hold(struct evfs_engine *engine, struct evfs_session *session,
		     const Evfs__Wire__Hold *message, struct evfs_err *err)
{
	struct evfs_quorum_hold *hold, **at = &session->holds;
	int r;

	(void)engine; /* the run at the end of the event looks */
	if (session->n_holds >= EVFS_QUORUM_HOLDS_MAX) {
		hold = session->holds;
		session->holds = hold->next;
		session->n_holds--;
		free_hold(hold);
	}
	hold = evfs_calloc(1, sizeof(*hold));
	if (hold == NULL)
		return evfs_err_set(err, EVFS_ENOMEM, "hold: out of memory");
	hold->id = message->id;
	hold->ino = message->ino.len > 0 ? evfs_dot_read(message->ino.data) :
					   EVFS_INO_NONE;
	r = evfs_wire_get_context(&message->rows, &hold->rows, err);
	if (r < 0) {
		free_hold(hold);
		return r;
	}
	while (*at != NULL)
		at = &(*at)->next;
	*at = hold;
	session->n_holds++;
	return 0;
}

/* ---- Compare and State ---- */

int evfs_quorum_rows(struct evfs_engine *engine, evfs_ino ino,
		     struct evfs_context *ret, struct evfs_err *err)
{
	struct evfs_delta *delta;
	int r = evfs_delta_open(engine->meta, &engine->durable, &delta, err);

	if (r < 0)
		return r;
	r = evfs_delta_pick(delta, ino, NULL, NULL, NULL, ret, err);
	evfs_delta_close(delta);
	return r;
}

/* What is known of an object on one side. */
struct side {
	struct evfs_context rows;    /* of the object */
	struct evfs_context context; /* of the replica */
};

static void side_fini(struct side *side)
{
	evfs_context_fini(&side->rows);
	evfs_context_fini(&side->context);
}

static int side_read(struct side *side, const ProtobufCBinaryData *rows,
		     const ProtobufCBinaryData *context, struct evfs_err *err)
{
	int r = evfs_wire_get_context(rows, &side->rows, err);

	return r < 0 ? r : evfs_wire_get_context(context, &side->context, err);
}

/* Has theirs a dot of the object that we lack? */
static bool lacks(const struct side *ours, const struct side *theirs)
{
	size_t i;

	for (i = 0; i < theirs->rows.n; i++) {
		evfs_dot dot = { theirs->rows.rows[i].actor,
				 theirs->rows.rows[i].counter };

		if (!evfs_context_covers(&ours->rows, dot) &&
		    !evfs_context_covers(&ours->context, dot))
			return true;
	}
	return false;
}

/* Encodes objects one after the other; pieces[i] is the i-th. EVFS_ELIMIT: too
 * much for one message. */
static int encode(struct evfs_object *const *objects, size_t n,
		  struct evfs_buf *bytes, ProtobufCBinaryData *pieces)
{
	size_t i, at = 0;
	int r = 0;

	for (i = 0; r == 0 && i < n; i++) {
		r = evfs_object_encode(objects[i], bytes);
		pieces[i].len = bytes->len - at;
		at = bytes->len;
		if (r == 0 && at > EVFS_QUORUM_STATE_MAX)
			r = EVFS_ELIMIT;
	}
	for (i = 0, at = 0; i < n; at += pieces[i++].len)
		pieces[i].data = bytes->data + at;
	return r;
}

/* The answer, or what was asked for in one (id 0). `ours` is filled here. */
static int send_state(struct evfs_engine *engine, struct evfs_session *session,
		      const struct side *ours, const struct side *theirs,
		      Evfs__Wire__State *state, struct evfs_err *err)
{
	Evfs__Wire__Envelope envelope = EVFS__WIRE__ENVELOPE__INIT;
	struct evfs_buf context = { 0 }, rows = { 0 };
	int r = 0;

	state->want = state->id != 0 && lacks(ours, theirs);
	r = evfs_wire_put_context(&ours->context, &context);
	if (r == 0 && state->want)
		r = evfs_wire_put_context(&ours->rows, &rows);
	state->context = evfs_wire_bytes(context.data, context.len);
	state->rows = evfs_wire_bytes(rows.data, rows.len);
	envelope.kind_case = EVFS__WIRE__ENVELOPE__KIND_STATE;
	envelope.state = state;
	if (r < 0)
		evfs_err_set(err, r, "state: out of memory");
	else
		(void)evfs_session_send(engine, session, EVFS_CHANNEL_CONTROL,
					&envelope);
	evfs_buf_fini(&context);
	evfs_buf_fini(&rows);
	return r;
}

/* Too much for a message: the stream that brings it, and all else, begins. */
static int stream_it(struct evfs_session *session, const struct side *theirs,
		     struct evfs_err *err)
{
	if (evfs_push_again(session, &theirs->context) < 0)
		return evfs_err_set(err, EVFS_ENOMEM, "state: out of memory");
	return 0;
}

static int reply(struct evfs_engine *engine, struct evfs_session *session,
		 struct side *ours, const struct side *theirs,
		 Evfs__Wire__State *state, struct evfs_err *err)
{
	evfs_ino ino = evfs_dot_read(state->ino.data);
	evfs_cleanup_free ProtobufCBinaryData *pieces = NULL;
	struct evfs_object **objects = NULL;
	struct evfs_buf bytes = { 0 };
	struct evfs_delta *delta;
	size_t i, n = 0;
	int r = evfs_delta_open(engine->meta, &theirs->context, &delta, err);

	if (r < 0)
		return r;
	r = evfs_delta_pick(delta, ino, &theirs->rows, &objects, &n,
			    &ours->rows, err);
	if (r == 0 && evfs_context_copy(&ours->context,
					evfs_delta_snap(delta)) < 0)
		r = evfs_err_set(err, EVFS_ENOMEM, "state: out of memory");
	evfs_delta_close(delta);
	if (r == 0) {
		pieces = evfs_calloc(n, sizeof(*pieces));
		r = pieces == NULL ? EVFS_ENOMEM :
				     encode(objects, n, &bytes, pieces);
		state->later = r == EVFS_ELIMIT;
		if (state->later)
			r = stream_it(session, theirs, err);
		else if (r < 0)
			evfs_err_set(err, r, "state: %s", evfs_err_text(r));
	}
	if (!state->later) {
		state->objects = pieces;
		state->n_objects = n;
	}
	if (r == 0 && (state->id != 0 || n > 0))
		r = send_state(engine, session, ours, theirs, state, err);
	for (i = 0; i < n; i++)
		evfs_object_free(objects[i]);
	evfs_free(objects);
	evfs_buf_fini(&bytes);
	return r;
}

int evfs_quorum_compare(struct evfs_engine *engine,
			struct evfs_session *session,
			const Evfs__Wire__Compare *compare,
			struct evfs_err *err)
{
	Evfs__Wire__State state = EVFS__WIRE__STATE__INIT;
	struct side ours = { 0 }, theirs = { 0 };
	int r = side_read(&theirs, &compare->rows, &compare->context, err);

	state.id = compare->id;
	state.ino = compare->ino;
	if (r == 0 && !evfs_session_amnesia(engine, session, &theirs.rows))
		r = reply(engine, session, &ours, &theirs, &state, err);
	side_fini(&ours);
	side_fini(&theirs);
	return r;
}

int evfs_quorum_give(struct evfs_engine *engine, struct evfs_session *session,
		     const Evfs__Wire__State *asked, struct evfs_err *err)
{
	Evfs__Wire__State state = EVFS__WIRE__STATE__INIT;
	struct side ours = { 0 }, theirs = { 0 };
	int r = side_read(&theirs, &asked->rows, &asked->context, err);

	state.ino = asked->ino;
	if (r == 0)
		r = reply(engine, session, &ours, &theirs, &state, err);
	if (r == 0 && state.n_objects > 0)
		engine->quorums.repaired++;
	side_fini(&ours);
	side_fini(&theirs);
	return r;
}
