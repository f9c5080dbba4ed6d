/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Streams from a member. A batch is decoded whole before the store sees any
 * of it, and applied in one locked stretch, so that a mount is never kept
 * waiting for more than that. Only the stream's end raises our context: a cut
 * leaves a correct state that merely knows less. */
#include <string.h>

#include "base/mem.h"
#include "net/engine_priv.h"

static void clear_batch(struct evfs_engine *engine,
			struct evfs_incoming *incoming)
{
	size_t i;

	for (i = 0; i < incoming->n_objects; i++)
		evfs_object_free(incoming->objects[i]);
	incoming->n_objects = 0;
	for (i = 0; i < incoming->n_puts; i++)
		evfs_content_put_drop(engine->content, incoming->puts[i]);
	incoming->n_puts = 0;
	evfs_buf_clear(&incoming->partial);
	incoming->bytes = 0;
}

static void fini_incoming(struct evfs_engine *engine,
			  struct evfs_incoming *incoming)
{
	clear_batch(engine, incoming);
	evfs_free(incoming->objects);
	evfs_free(incoming->puts);
	evfs_buf_fini(&incoming->partial);
	evfs_context_fini(&incoming->snap);
	evfs_memory_stream_fini(incoming);
	*incoming = (struct evfs_incoming){ 0 };
}

void evfs_apply_fini(struct evfs_engine *engine, struct evfs_session *session)
{
	fini_incoming(engine, &session->incoming);
	fini_incoming(engine, &session->repairs);
}

int evfs_apply_begin(struct evfs_engine *engine, struct evfs_session *session,
		     const Evfs__Wire__Begin *begin, struct evfs_err *err)
{
	struct evfs_incoming *incoming = &session->incoming;
	int r;

	if (incoming->open)
		return evfs_err_set(err, EVFS_EPROTO,
				    "begin: stream %llu has not ended",
				    (unsigned long long)incoming->id);
	if (begin->stream != incoming->id + 1)
		return evfs_err_set(err, EVFS_EPROTO,
				    "begin: stream %llu after %llu",
				    (unsigned long long)begin->stream,
				    (unsigned long long)incoming->id);
	r = evfs_wire_get_context(&begin->snap, &incoming->snap, err);
	if (r < 0)
		return r;
	if (evfs_session_amnesia(engine, session, &incoming->snap))
		return 0;
	incoming->id = begin->stream;
	incoming->open = true;
	incoming->paced = begin->paced;
	if (incoming->paced) {
		incoming->paced_id = incoming->id;
		incoming->taken = incoming->marked = incoming->said = 0;
	}
	return evfs_memory_stream_begin(engine, session, begin->full, err);
}

/* ---- objects ---- */

static int add_object(struct evfs_incoming *incoming, const void *data,
		      size_t len, struct evfs_err *err)
{
	struct evfs_object *object;
	int r = evfs_object_decode(data, len, &object, err);

	if (r < 0)
		return evfs_err_wrap(err, r, "batch");
	if (evfs_grow((void **)&incoming->objects, incoming->n_objects,
		      &incoming->cap_objects, sizeof(*incoming->objects)) < 0) {
		evfs_object_free(object);
		return evfs_err_set(err, EVFS_ENOMEM, "batch: out of memory");
	}
	incoming->objects[incoming->n_objects++] = object;
	return 0;
}

/* One field of Batch.objects; `open`: it goes on in the next frame. */
static int take_piece(struct evfs_incoming *incoming,
		      const ProtobufCBinaryData *piece, bool open,
		      struct evfs_err *err)
{
	struct evfs_buf *partial = &incoming->partial;
	int r;

	incoming->bytes += piece->len;
	if (incoming->bytes > EVFS_ENGINE_BATCH_MAX)
		return evfs_err_set(err, EVFS_EPROTO,
				    "batch: more than %u "
				    "bytes",
				    EVFS_ENGINE_BATCH_MAX);
	if (!open && partial->len == 0)
		return add_object(incoming, piece->data, piece->len, err);
	if (partial->len + piece->len > EVFS_OBJECT_BYTES_MAX)
		return evfs_err_set(err, EVFS_EPROTO,
				    "batch: object of more "
				    "than %u bytes",
				    EVFS_OBJECT_BYTES_MAX);
	if (evfs_buf_put(partial, piece->data, piece->len) < 0)
		return evfs_err_set(err, EVFS_ENOMEM, "batch: out of memory");
	if (open)
		return 0;
	r = add_object(incoming, partial->data, partial->len, err);
	evfs_buf_clear(partial);
	return r;
}

/* ---- inline contents ---- */

static int take_content(struct evfs_engine *engine,
			struct evfs_incoming *incoming,
			const Evfs__Wire__Inline *content, struct evfs_err *err)
{
	evfs_hash name = evfs_wire_hash(&content->name, 0);
	struct evfs_content_put *put;
	int r;

	if (evfs_grow((void **)&incoming->puts, incoming->n_puts,
		      &incoming->cap_puts, sizeof(*incoming->puts)) < 0)
		return evfs_err_set(err, EVFS_ENOMEM, "batch: out of memory");
	r = evfs_content_write(engine->content, content->data.data,
			       content->data.len, &put, err);
	if (r < 0)
		return r;
	if (!evfs_hash_equal(evfs_content_put_name(put), &name)) {
		evfs_content_put_drop(engine->content, put);
		engine->chunks_corrupt++;
		return evfs_err_set(err, EVFS_EPROTO,
				    "batch: content is not what its name says");
	}
	incoming->puts[incoming->n_puts++] = put;
	return 0;
}

/* ---- taking in ---- */

/* What our context does not say: dots met in objects. Only for detecting the
 * amnesia of their actors. */
static int note_seen(struct evfs_engine *engine,
		     const struct evfs_object *object)
{
	size_t i;
	int r = 0;

	for (i = 0; r == 0 && i < object->n_log; i++) {
		evfs_dot dot = { object->log[i].actor, object->log[i].counter };

		if (!evfs_context_covers(&engine->durable, dot))
			r = evfs_context_raise(&engine->seen, dot.actor,
					       dot.counter);
	}
	return r;
}

static int apply_locked(struct evfs_engine *engine,
			struct evfs_incoming *incoming,
			struct evfs_repaired *repaired, struct evfs_err *err)
{
	size_t n = incoming->n_objects;
	uint64_t clock_ns = 0;
	size_t i;
	int r = 0;

	for (i = 0; r == 0 && i < incoming->n_puts; i++) {
		r = evfs_content_commit(engine->content, incoming->puts[i],
					err);
		incoming->puts[i] = NULL;
	}
	if (r < 0) {
		/* committed or freed up to i; the rest is dropped */
		memmove(incoming->puts, incoming->puts + i,
			(incoming->n_puts - i) * sizeof(*incoming->puts));
		incoming->n_puts -= i;
		return r;
	}
	incoming->n_puts = 0;
	for (i = 0; i < n; i++)
		if (incoming->objects[i]->change_ns > clock_ns)
			clock_ns = incoming->objects[i]->change_ns;
	evfs_meta_hear_clock(engine->meta, clock_ns);
	incoming->n_objects = 0; /* given away, also on failure */
	if (incoming->repair)
		return evfs_delta_repair(engine->meta, incoming->objects, n,
					 &repaired->changed, &repaired->dead,
					 &repaired->n_dead, err);
	return evfs_delta_apply(engine->meta, incoming->objects, n,
				&incoming->snap, &incoming->changed, err);
}

static int apply(struct evfs_engine *engine, struct evfs_incoming *incoming,
		 struct evfs_repaired *repaired, struct evfs_err *err)
{
	size_t i;
	int r = 0;

	for (i = 0; r == 0 && i < incoming->n_objects; i++)
		r = note_seen(engine, incoming->objects[i]);
	if (r < 0)
		return evfs_err_set(err, r, "batch: out of memory");
	r = evfs_memory_stream_met(engine, incoming, err);
	if (r < 0)
		return r;
	evfs_meta_lock_content(engine->meta);
	r = apply_locked(engine, incoming, repaired, err);
	evfs_meta_unlock(engine->meta);
	evfs_content_tell_arrived(engine->content);
	clear_batch(engine, incoming);
	evfs_fetch_kick(engine, false);
	engine->changed = true;
	return r;
}

/* One frame of a batch. */
static int take_frame(struct evfs_engine *engine,
		      struct evfs_incoming *incoming,
		      const Evfs__Wire__Batch *batch, struct evfs_err *err)
{
	size_t i;
	int r = 0;

	for (i = 0; r == 0 && i < batch->n_objects; i++)
		r = take_piece(incoming, &batch->objects[i],
			       batch->partial && i == batch->n_objects - 1,
			       err);
	for (i = 0; r == 0 && i < batch->n_contents; i++)
		r = take_content(engine, incoming, batch->contents[i], err);
	return r;
}

int evfs_apply_batch(struct evfs_engine *engine, struct evfs_session *session,
		     const Evfs__Wire__Batch *batch, struct evfs_err *err)
{
	struct evfs_incoming *incoming = &session->incoming;
	size_t n;
	int r;

	if (!incoming->open)
		return evfs_err_set(err, EVFS_EPROTO,
				    "batch: no stream is "
				    "open");
	r = take_frame(engine, incoming, batch, err);
	if (r < 0 || batch->more)
		return r;
	n = incoming->n_objects;
	r = apply(engine, incoming, NULL, err);
	if (r == 0) {
		incoming->taken += incoming->paced ? n : 0;
		incoming->batch_ns = evfs_engine_now(engine);
	}
	return r;
}

int evfs_apply_repair(struct evfs_engine *engine, struct evfs_session *session,
		      const Evfs__Wire__Batch *batch, struct evfs_err *err)
{
	struct evfs_incoming *incoming = &session->repairs;
	struct evfs_repaired repaired = { .received = 0 };
	int r;

	incoming->repair = true;
	r = take_frame(engine, incoming, batch, err);
	if (r < 0 || batch->more)
		return r;
	repaired.received = incoming->n_objects;
	r = evfs_audit_note(session, incoming, err);
	if (r == 0)
		r = apply(engine, incoming, &repaired, err);
	if (r == 0)
		r = evfs_audit_repaired(engine, session, &repaired,
					batch->answer, err);
	evfs_free(repaired.dead);
	return r;
}

int evfs_apply_state(struct evfs_engine *engine, struct evfs_session *session,
		     const Evfs__Wire__State *state, size_t *ret_changed,
		     struct evfs_err *err)
{
	struct evfs_incoming one = { 0 };
	size_t i;
	int r = evfs_wire_get_context(&state->context, &one.snap, err);

	*ret_changed = 0;
	if (r == 0 && evfs_session_amnesia(engine, session, &one.snap))
		r = 1; /* the session is over */
	for (i = 0; r == 0 && i < state->n_objects; i++)
		r = add_object(&one, state->objects[i].data,
			       state->objects[i].len, err);
	if (r == 0 && one.n_objects > 0)
		r = apply(engine, &one, NULL, err);
	*ret_changed = one.changed;
	fini_incoming(engine, &one);
	return r < 0 ? r : 0;
}

int evfs_apply_end(struct evfs_engine *engine, struct evfs_session *session,
		   const Evfs__Wire__End *end, struct evfs_err *err)
{
	struct evfs_incoming *incoming = &session->incoming;
	int r;

	if (!incoming->open || end->stream != incoming->id ||
	    incoming->bytes > 0)
		return evfs_err_set(err, EVFS_EPROTO,
				    "end: stream %llu is not at its end",
				    (unsigned long long)end->stream);
	r = evfs_memory_stream_end(engine, session, err);
	if (r < 0)
		return r;
	evfs_meta_lock(engine->meta);
	r = evfs_meta_take_context(engine->meta, &incoming->snap, err);
	evfs_meta_unlock(engine->meta);
	if (r < 0)
		return r;
	evfs_context_fini(&incoming->snap);
	incoming->open = false;
	evfs_hints_stream_ended(engine, session);
	engine->report_due = engine->changed = true;
	return 0;
}
