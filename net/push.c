/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Streams to a member: whatever is durable here and lies beyond what it is
 * assumed to have. A live push and the catching up after a year are the same.
 *
 * `assumed` is the join of the member's last report and of the snaps of the
 * streams that went out over this session: the connection is reliable and in
 * order, so when it ends, nothing is assumed any more. Own changes go at once;
 * others' only where their writer is not connected to the member itself, or
 * has not got through to it within a while: else a full mesh would send every
 * change over every edge. Where there are too many members for a full mesh,
 * each session has a turn of its own (net/topology.h). */
#include <string.h>

#include "base/mem.h"
#include "net/engine_priv.h"

void evfs_push_fini(struct evfs_session *session)
{
	if (session->out.delta != NULL)
		evfs_delta_close(session->out.delta);
	session->out.delta = NULL;
}

/* ---- is a stream due? ---- */

static bool is_connected(const struct evfs_peer_report *report, uint64_t node)
{
	size_t i;

	for (i = 0; i < report->n_connected; i++)
		if (report->connected[i] == node)
			return true;
	return false;
}

/* Has it to be sent something now? *ret_none: there is nothing at all. */
static bool is_lacking(struct evfs_engine *engine, struct evfs_session *session,
		       uint64_t now_ns, uint64_t *next_ns, bool *ret_none)
{
	const struct evfs_peer_report *report = &session->peer->report;
	const struct evfs_context *mine = &engine->durable;
	bool foreign = false;
	size_t i;

	*ret_none = false;
	for (i = 0; i < mine->n; i++) {
		evfs_dot dot = { mine->rows[i].actor, mine->rows[i].counter };

		if (evfs_context_covers(&session->assumed, dot))
			continue;
		if (dot.actor.node == engine->self)
			return true;
		if (report->complete && evfs_links_is_full(engine) &&
		    !is_connected(report, dot.actor.node))
			return true;
		foreign = true;
	}
	if (!foreign) {
		session->relay_ns = 0;
		*ret_none = true;
		return false;
	}
	if (session->relay_ns == 0)
		session->relay_ns = now_ns + evfs_links_relay_ns(engine);
	if (now_ns >= session->relay_ns)
		return true;
	evfs_engine_lower(next_ns, session->relay_ns);
	return false;
}

/* What it has asked for; what it missed while it was away, if it may come now;
 * then every change. */
static bool is_due(struct evfs_engine *engine, struct evfs_session *session,
		   uint64_t now_ns, uint64_t *next_ns)
{
	bool none, lacking;

	/* what is here does not count yet, but for one who has lost its memory
	 * as well and asks for everything */
	if (engine->recalling && !(session->pull && session->pull_audit))
		return false;
	if (session->pull)
		return true;
	lacking = is_lacking(engine, session, now_ns, next_ns, &none);
	if (none && session->peer->report.complete && !session->caught_up)
		evfs_hints_done(engine, session);
	if (!lacking)
		return false;
	if (session->caught_up)
		return (engine->layers & EVFS_LAYER_PUSH) != 0;
	return evfs_hints_may_send(engine, session, now_ns, next_ns);
}

/* ---- batches ---- */

/* A batch on its way into frames. */
struct packer {
	struct evfs_engine *engine;
	struct evfs_session *session;
	bool repair;	       /* of an audit */
	bool answer;	       /* to a repair */
	struct evfs_buf bytes; /* objects, one after the other */
	size_t *ends;	       /* where each ends in bytes */
	size_t n;
	struct evfs_buf data; /* inline contents, one after the other */
	Evfs__Wire__Inline *contents;
	Evfs__Wire__Inline **pointers;
	evfs_hash *names;
	size_t n_contents, cap_contents;
};

static void packer_fini(struct packer *packer)
{
	evfs_buf_fini(&packer->bytes);
	evfs_buf_fini(&packer->data);
	evfs_free(packer->ends);
	evfs_free(packer->contents);
	evfs_free(packer->pointers);
	evfs_free(packer->names);
}

/* Reads one small content to the end of data; false where it is not here. */
static bool read_content(struct packer *packer,
			 const struct evfs_version *version)
{
	struct evfs_content_reader *reader;
	size_t size = (size_t)version->size, len = 0;
	uint8_t *at = evfs_buf_reserve(&packer->data, size);
	int r;

	if (at == NULL ||
	    evfs_content_open(packer->engine->content, &version->content,
			      version->size, &reader, NULL) < 0)
		return false;
	r = evfs_content_read(reader, at, size, 0, &len, NULL);
	evfs_content_close(reader);
	if (r < 0 || len != size)
		return false;
	packer->data.len += size;
	return true;
}

static bool has_name(const struct packer *packer, const evfs_hash *name)
{
	size_t i;

	for (i = 0; i < packer->n_contents; i++)
		if (evfs_hash_equal(&packer->names[i], name))
			return true;
	return false;
}

/* Content goes along where it is small, and new to the member. Failures only
 * mean that it is fetched later. */
static void add_contents(struct packer *packer,
			 const struct evfs_object *object)
{
	size_t i;

	for (i = 0; i < object->n_versions; i++) {
		const struct evfs_version *version = &object->versions[i];

		if (version->size == 0 ||
		    version->size > EVFS_WIRE_INLINE_MAX ||
		    packer->data.len + version->size > EVFS_ENGINE_PIECE_MAX ||
		    packer->n_contents == packer->cap_contents ||
		    evfs_context_covers(&packer->session->assumed,
					version->dot) ||
		    has_name(packer, &version->content) ||
		    !read_content(packer, version))
			continue;
		packer->names[packer->n_contents] = version->content;
		evfs__wire__inline__init(&packer->contents[packer->n_contents]);
		packer->contents[packer->n_contents++].data.len =
			(size_t)version->size;
	}
}

static int pack(struct packer *packer, struct evfs_object *const *objects,
		size_t n)
{
	size_t i;
	int r = 0;

	packer->cap_contents = n + 64;
	packer->ends = evfs_calloc(n, sizeof(*packer->ends));
	packer->contents =
		evfs_calloc(packer->cap_contents, sizeof(*packer->contents));
	packer->pointers =
		evfs_calloc(packer->cap_contents, sizeof(Evfs__Wire__Inline *));
	packer->names =
		evfs_calloc(packer->cap_contents, sizeof(*packer->names));
	if (packer->ends == NULL || packer->contents == NULL ||
	    packer->pointers == NULL || packer->names == NULL)
		return EVFS_ENOMEM;
	for (i = 0; r == 0 && i < n; i++) {
		r = evfs_object_encode(objects[i], &packer->bytes);
		packer->ends[i] = packer->bytes.len;
		if (objects[i]->kind == EVFS_KIND_FILE)
			add_contents(packer, objects[i]);
	}
	packer->n = n;
	return r;
}

static bool send_frame(struct packer *packer, Evfs__Wire__Batch *batch)
{
	Evfs__Wire__Envelope envelope = EVFS__WIRE__ENVELOPE__INIT;
	size_t i, at = 0;

	if (!batch->more) {
		for (i = 0; i < packer->n_contents; i++) {
			Evfs__Wire__Inline *content = &packer->contents[i];

			content->name = evfs_wire_bytes(packer->names[i].b,
							EVFS_HASH_SIZE);
			content->data.data = packer->data.data + at;
			at += content->data.len;
			packer->pointers[i] = content;
		}
		batch->n_contents = packer->n_contents;
		batch->contents = packer->pointers;
	}
	batch->answer = packer->answer;
	envelope.kind_case = packer->repair ?
				     EVFS__WIRE__ENVELOPE__KIND_REPAIR :
				     EVFS__WIRE__ENVELOPE__KIND_BATCH;
	envelope.batch = batch; /* one union for both */
	return evfs_session_send(packer->engine, packer->session,
				 EVFS_CHANNEL_CONTROL, &envelope);
}

/* Cuts the batch into frames of about 1 MiB, within objects where it must. */
static int send_frames(struct packer *packer)
{
	evfs_cleanup_free ProtobufCBinaryData *pieces =
		evfs_calloc(packer->n, sizeof(*pieces));
	size_t object = 0, at = 0;

	if (pieces == NULL)
		return EVFS_ENOMEM;
	do {
		Evfs__Wire__Batch batch = EVFS__WIRE__BATCH__INIT;
		size_t room = EVFS_ENGINE_PIECE_MAX;

		while (object < packer->n && room > 0) {
			size_t len = packer->ends[object] - at;

			batch.partial = len > room;
			if (batch.partial)
				len = room;
			pieces[batch.n_objects++] =
				evfs_wire_bytes(packer->bytes.data + at, len);
			room -= len;
			at += len;
			object += at == packer->ends[object];
		}
		batch.more = object < packer->n;
		batch.objects = pieces;
		if (!send_frame(packer, &batch))
			return 0;
	} while (object < packer->n);
	return 0;
}

/* bandwidth_up pays for it. */
static int send_packed(struct packer *packer,
		       struct evfs_object *const *objects, size_t n,
		       struct evfs_err *err)
{
	struct evfs_engine *engine = packer->engine;
	uint64_t before = engine->bytes_sent, next_ns = UINT64_MAX;
	int r = pack(packer, objects, n);

	if (r == 0)
		r = send_frames(packer);
	(void)evfs_bucket_take(&engine->up, evfs_engine_now(engine),
			       engine->bytes_sent - before, &next_ns);
	packer_fini(packer);
	if (r < 0)
		return evfs_err_set(err, r, "sending a batch: %s",
				    evfs_err_text(r));
	return 0;
}

static int send_batch(struct evfs_engine *engine, struct evfs_session *session,
		      struct evfs_object *const *objects, size_t n,
		      struct evfs_err *err)
{
	struct packer packer = { .engine = engine, .session = session };

	return send_packed(&packer, objects, n, err);
}

int evfs_push_repair(struct evfs_engine *engine, struct evfs_session *session,
		     struct evfs_object *const *objects, size_t n, bool answer,
		     struct evfs_err *err)
{
	struct packer packer = { .engine = engine,
				 .session = session,
				 .repair = true,
				 .answer = answer };

	return send_packed(&packer, objects, n, err);
}

/* ---- the stream ---- */

static int begin(struct evfs_engine *engine, struct evfs_session *session,
		 struct evfs_err *err)
{
	Evfs__Wire__Envelope envelope = EVFS__WIRE__ENVELOPE__INIT;
	Evfs__Wire__Begin message = EVFS__WIRE__BEGIN__INIT;
	struct evfs_buf snap = { 0 };
	int r;

	session->out.paced = !session->pull && !session->caught_up;
	if (session->pull) {
		evfs_context_fini(&session->assumed);
		session->assumed = session->pulled;
		session->pulled = (struct evfs_context){ 0 };
		session->pull = session->pull_audit = false;
	}
	r = evfs_delta_open(engine->meta, &session->assumed,
			    &session->out.delta, err);
	if (r < 0)
		return r;
	session->relay_ns = 0;
	r = evfs_wire_put_context(evfs_delta_snap(session->out.delta), &snap);
	if (r == 0) {
		message.stream = ++session->out.id;
		message.full = session->assumed.n == 0;
		message.snap = evfs_wire_bytes(snap.data, snap.len);
		message.paced = session->out.paced;
		if (session->out.paced)
			evfs_hints_begin(&session->out);
		envelope.kind_case = EVFS__WIRE__ENVELOPE__KIND_BEGIN;
		envelope.begin = &message;
		(void)evfs_session_send(engine, session, EVFS_CHANNEL_CONTROL,
					&envelope);
	} else {
		evfs_err_set(err, r, "starting a stream: out of memory");
	}
	evfs_buf_fini(&snap);
	return r;
}

static int end(struct evfs_engine *engine, struct evfs_session *session,
	       struct evfs_err *err)
{
	Evfs__Wire__Envelope envelope = EVFS__WIRE__ENVELOPE__INIT;
	Evfs__Wire__End message = EVFS__WIRE__END__INIT;

	message.stream = session->out.id;
	envelope.kind_case = EVFS__WIRE__ENVELOPE__KIND_END;
	envelope.end = &message;
	if (!evfs_session_send(engine, session, EVFS_CHANNEL_CONTROL,
			       &envelope))
		return 0;
	if (evfs_context_join(&session->assumed,
			      evfs_delta_snap(session->out.delta)) < 0)
		return evfs_err_set(err, EVFS_ENOMEM,
				    "ending a stream: out "
				    "of memory");
	evfs_push_fini(session);
	if (session->out.paced)
		session->handoff = EVFS_HANDOFF_NONE;
	engine->changed = true;
	return 0;
}

bool evfs_push_may_send(struct evfs_engine *engine,
			struct evfs_session *session, uint64_t now_ns,
			uint64_t *next_ns)
{
	if (evfs_session_queued(engine, session, EVFS_CHANNEL_CONTROL) >=
	    EVFS_ENGINE_QUEUE_MAX) {
		evfs_engine_lower(next_ns, now_ns + EVFS_ENGINE_POLL_NS);
		return false;
	}
	return evfs_bucket_take(&engine->up, now_ns, 0, next_ns);
}

/* With small contents along a batch may be large: under a limit it is a quarter
 * of a second's worth at most, so that others get their turn, too. */
static size_t groups_max(const struct evfs_engine *engine)
{
	if (engine->up.rate == 0)
		return 0;
	return 1 + (size_t)(engine->up.rate / (4 * EVFS_WIRE_INLINE_MAX));
}

static int next_batch(struct evfs_engine *engine, struct evfs_session *session,
		      struct evfs_err *err)
{
	struct evfs_object **objects = NULL;
	bool done = false;
	size_t i, n = 0;
	int r;

	r = evfs_delta_next(session->out.delta, groups_max(engine), &objects,
			    &n, &done, err);
	if (r < 0)
		return r;
	if (session->out.paced)
		evfs_hints_count_sent(engine, session, n);
	if (n > 0)
		r = send_batch(engine, session, objects, n, err);
	for (i = 0; i < n; i++)
		evfs_object_free(objects[i]);
	evfs_free(objects);
	if (r == 0 && done && session->state == EVFS_SESSION_ACTIVE)
		r = end(engine, session, err);
	return r;
}

void evfs_push_run(struct evfs_engine *engine, struct evfs_session *session,
		   uint64_t now_ns, uint64_t *next_ns)
{
	struct evfs_err err = { 0 };
	int r = 0;

	while (r == 0 && session->state == EVFS_SESSION_ACTIVE) {
		if (session->out.delta == NULL) {
			if (!is_due(engine, session, now_ns, next_ns))
				break;
			r = begin(engine, session, &err);
			continue;
		}
		if (!evfs_push_may_send(engine, session, now_ns, next_ns))
			break;
		if (session->out.paced &&
		    !evfs_hints_may_go_on(engine, session, now_ns, next_ns))
			break;
		r = next_batch(engine, session, &err);
	}
	if (r < 0)
		evfs_session_fail(engine, session, &err);
}

void evfs_push_ask(struct evfs_engine *engine, struct evfs_session *session,
		   const struct evfs_context *from)
{
	Evfs__Wire__Envelope envelope = EVFS__WIRE__ENVELOPE__INIT;
	Evfs__Wire__Pull pull = EVFS__WIRE__PULL__INIT;
	struct evfs_buf context = { 0 };

	if (evfs_wire_put_context(from, &context) == 0) {
		pull.context = evfs_wire_bytes(context.data, context.len);
		envelope.kind_case = EVFS__WIRE__ENVELOPE__KIND_PULL;
		envelope.pull = &pull;
		(void)evfs_session_send(engine, session, EVFS_CHANNEL_CONTROL,
					&envelope);
	}
	evfs_buf_fini(&context);
}

/* The least of both, for each actor. */
static void lower(struct evfs_context *context,
		  const struct evfs_context *other)
{
	size_t n = 0, i;

	for (i = 0; i < context->n; i++) {
		struct evfs_context_row row = context->rows[i];
		uint64_t theirs = evfs_context_get(other, row.actor);

		if (theirs < row.counter)
			row.counter = theirs;
		if (row.counter > 0)
			context->rows[n++] = row;
	}
	context->n = n;
}

int evfs_push_again(struct evfs_session *session,
		    const struct evfs_context *from)
{
	int r = 0;

	if (session->pull)
		lower(&session->pulled, from);
	else
		r = evfs_context_copy(&session->pulled, from);
	session->pull = r == 0;
	return r;
}

int evfs_push_pull(struct evfs_engine *engine, struct evfs_session *session,
		   const Evfs__Wire__Pull *pull, struct evfs_err *err)
{
	struct evfs_context from = { 0 };
	int r = evfs_wire_get_context(&pull->context, &from, err);

	(void)engine;
	/* a stream under way goes on first, and counts for nothing: what
	 * arrives twice changes nothing */
	if (r == 0 && evfs_push_again(session, &from) < 0)
		r = evfs_err_set(err, EVFS_ENOMEM, "pull: out of memory");
	evfs_context_fini(&from);
	if (r < 0)
		return r;
	session->pull_audit |= pull->audit;
	if (pull->audit && pull->back)
		session->back = EVFS_BACK_WANTED;
	return 0;
}
