/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Answers to requests for content, on the bulk channel, in the order asked. A
 * chunk that is not here, or damaged, is a plain no: the member asks others. */
#include <string.h>

#include "base/mem.h"
#include "meta/content.h"
#include "net/engine_priv.h"

/* A member asks for 8 MiB at a time: more than this many requests at once is
 * no member of ours. */
#define ITEMS_MAX 8192

void evfs_serve_fini(struct evfs_session *session)
{
	evfs_free(session->serve.items);
	evfs_buf_fini(&session->serve.manifest);
	session->serve = (struct evfs_serve){ 0 };
}

static int add(struct evfs_serve *serve, const evfs_hash *hash, bool manifest,
	       struct evfs_err *err)
{
	if (serve->at > 0 && serve->at == serve->n)
		serve->at = serve->n = 0;
	if (serve->n - serve->at >= ITEMS_MAX)
		return evfs_err_set(err, EVFS_EPROTO,
				    "more than %d requests "
				    "at once",
				    ITEMS_MAX);
	if (serve->at > ITEMS_MAX) {
		memmove(serve->items, serve->items + serve->at,
			(serve->n - serve->at) * sizeof(*serve->items));
		serve->n -= serve->at;
		serve->at = 0;
	}
	if (evfs_grow((void **)&serve->items, serve->n, &serve->cap,
		      sizeof(*serve->items)) < 0)
		return evfs_err_set(err, EVFS_ENOMEM, "request: out of memory");
	serve->items[serve->n++] =
		(struct evfs_serve_item){ .hash = *hash, .manifest = manifest };
	return 0;
}

int evfs_serve_want_manifest(struct evfs_engine *engine,
			     struct evfs_session *session,
			     const Evfs__Wire__WantManifest *want,
			     struct evfs_err *err)
{
	evfs_hash name = evfs_wire_hash(&want->name, 0);

	(void)engine;
	return add(&session->serve, &name, true, err);
}

int evfs_serve_want_chunks(struct evfs_engine *engine,
			   struct evfs_session *session,
			   const Evfs__Wire__WantChunks *want,
			   struct evfs_err *err)
{
	size_t i, n = want->hashes.len / EVFS_HASH_SIZE;
	int r = 0;

	(void)engine;
	for (i = 0; r == 0 && i < n; i++) {
		evfs_hash chunk = evfs_wire_hash(&want->hashes, i);

		r = add(&session->serve, &chunk, false, err);
	}
	return r;
}

/* ---- answers ---- */

static void send_manifest(struct evfs_engine *engine,
			  struct evfs_session *session, bool missing)
{
	Evfs__Wire__Envelope envelope = EVFS__WIRE__ENVELOPE__INIT;
	Evfs__Wire__Manifest message = EVFS__WIRE__MANIFEST__INIT;
	struct evfs_serve *serve = &session->serve;
	size_t at = (size_t)serve->manifest_at;
	size_t len = serve->manifest.len - at;

	if (len > EVFS_ENGINE_PIECE_MAX)
		len = EVFS_ENGINE_PIECE_MAX;
	message.name = evfs_wire_bytes(serve->manifest_name.b, EVFS_HASH_SIZE);
	message.missing = missing;
	message.total = serve->manifest.len;
	message.offset = at;
	if (len > 0)
		message.data = evfs_wire_bytes(serve->manifest.data + at, len);
	envelope.kind_case = EVFS__WIRE__ENVELOPE__KIND_MANIFEST;
	envelope.manifest = &message;
	serve->manifest_at += len;
	serve->manifest_open = serve->manifest_at < serve->manifest.len;
	(void)evfs_session_send(engine, session, EVFS_CHANNEL_BULK, &envelope);
}

static void open_manifest(struct evfs_engine *engine,
			  struct evfs_session *session, const evfs_hash *name)
{
	struct evfs_serve *serve = &session->serve;
	int r;

	evfs_buf_clear(&serve->manifest);
	serve->manifest_name = *name;
	serve->manifest_at = 0;
	evfs_meta_lock(engine->meta);
	r = evfs_content_manifest(engine->content, name, &serve->manifest,
				  NULL);
	evfs_meta_unlock(engine->meta);
	if (r < 0 || serve->manifest.len > EVFS_WIRE_MANIFEST_MAX) {
		evfs_buf_clear(&serve->manifest);
		r = EVFS_EMISSING;
	}
	send_manifest(engine, session, r < 0);
}

static void send_chunk(struct evfs_engine *engine, struct evfs_session *session,
		       const evfs_hash *hash, const struct evfs_buf *data)
{
	Evfs__Wire__Envelope envelope = EVFS__WIRE__ENVELOPE__INIT;
	Evfs__Wire__NoChunk no_chunk = EVFS__WIRE__NO_CHUNK__INIT;
	Evfs__Wire__Chunk chunk = EVFS__WIRE__CHUNK__INIT;

	if (data == NULL) {
		no_chunk.hashes = evfs_wire_bytes(hash->b, EVFS_HASH_SIZE);
		envelope.kind_case = EVFS__WIRE__ENVELOPE__KIND_NO_CHUNK;
		envelope.no_chunk = &no_chunk;
	} else {
		chunk.hash = evfs_wire_bytes(hash->b, EVFS_HASH_SIZE);
		chunk.data = evfs_wire_bytes(data->data, data->len);
		envelope.kind_case = EVFS__WIRE__ENVELOPE__KIND_CHUNK;
		envelope.chunk = &chunk;
	}
	(void)evfs_session_send(engine, session, EVFS_CHANNEL_BULK, &envelope);
}

static void answer(struct evfs_engine *engine, struct evfs_session *session,
		   const struct evfs_serve_item *item)
{
	struct evfs_buf data = { 0 };
	int r;

	if (item->manifest) {
		open_manifest(engine, session, &item->hash);
		return;
	}
	/* The member checks it. */
	r = evfs_content_read_chunk_unchecked(engine->content, &item->hash,
					      &data, NULL);
	send_chunk(engine, session, &item->hash,
		   r < 0 || data.len == 0 ? NULL : &data);
	evfs_buf_fini(&data);
}

void evfs_serve_run(struct evfs_engine *engine, struct evfs_session *session,
		    uint64_t now_ns, uint64_t *next_ns)
{
	struct evfs_serve *serve = &session->serve;
	uint64_t before;

	while (session->state == EVFS_SESSION_ACTIVE &&
	       (serve->manifest_open || serve->at < serve->n)) {
		if (evfs_session_queued(engine, session, EVFS_CHANNEL_BULK) >=
		    EVFS_ENGINE_BULK_MAX) {
			evfs_engine_lower(next_ns,
					  now_ns + EVFS_ENGINE_POLL_NS);
			return;
		}
		if (!evfs_bucket_take(&engine->up, now_ns, 0, next_ns))
			return;
		before = engine->bytes_sent;
		if (serve->manifest_open) {
			send_manifest(engine, session, false);
		} else {
			struct evfs_serve_item item = serve->items[serve->at++];

			answer(engine, session, &item);
		}
		(void)evfs_bucket_take(&engine->up, now_ns,
				       engine->bytes_sent - before, next_ns);
	}
}
