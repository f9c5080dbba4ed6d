/* SPDX-License-Identifier: GPL-3.0-or-later */
/* How long, and how much, is held for members that are away. The age of a
 * change is known from marks: contexts that were durable at a time. Marks, and
 * what has expired for whom, are kept in the store: an outage may well be
 * longer than a daemon lives. */
#include <string.h>

#include "base/buf.h"
#include "base/log.h"
#include "base/mem.h"
#include "meta/config.h"
#include "meta/delta.h"
#include "meta/hints.h"
#include "net/engine_priv.h"
#include "net/hints.h"

#define LOOK_NS (5 * EVFS_SECOND)
#define COUNT_MAX 100000 /* hints counted at most */

bool evfs_hints_expired(const struct evfs_peer *peer)
{
	return !evfs_context_contains(&peer->report.context,
				      &peer->hint_expired);
}

/* ---- in the store ----
 * be32 marks, each: be64 wall, be32 length, context; be32 members, each: be64
 * node, be32 length, context. */

static int put_row(struct evfs_buf *out, uint64_t key,
		   const struct evfs_context *context)
{
	struct evfs_buf bytes = { 0 };
	int r = evfs_wire_put_context(context, &bytes);

	if (r == 0)
		r = evfs_buf_put_be64(out, key);
	if (r == 0)
		r = evfs_buf_put_be32(out, (uint32_t)bytes.len);
	if (r == 0)
		r = evfs_buf_put(out, bytes.data, bytes.len);
	evfs_buf_fini(&bytes);
	return r;
}

static void save(struct evfs_engine *engine)
{
	struct evfs_hints *hints = &engine->hints;
	const struct evfs_peer *peer;
	struct evfs_buf out = { 0 };
	uint32_t n = 0;
	size_t i;
	int r = evfs_buf_put_be32(&out, (uint32_t)hints->n_marks);

	for (i = 0; r == 0 && i < hints->n_marks; i++)
		r = put_row(&out, hints->marks[i].wall_ns,
			    &hints->marks[i].context);
	for (peer = engine->peers; peer != NULL; peer = peer->next)
		n += peer->hint_expired.n > 0;
	if (r == 0)
		r = evfs_buf_put_be32(&out, n);
	for (peer = engine->peers; r == 0 && peer != NULL; peer = peer->next)
		if (peer->hint_expired.n > 0)
			r = put_row(&out, peer->member.node,
				    &peer->hint_expired);
	evfs_meta_lock(engine->meta);
	if (r == 0)
		r = evfs_hints_save(engine->meta, out.data, out.len, NULL);
	evfs_meta_unlock(engine->meta);
	evfs_buf_fini(&out);
	hints->unsaved = r < 0; /* the next look tries again */
}

/* One row; false at the end, or where the bytes are not what they should. */
static bool get_row(const struct evfs_buf *in, size_t *at, uint64_t *key,
		    struct evfs_context *context)
{
	ProtobufCBinaryData bytes;

	if (in->len - *at < 12)
		return false;
	*key = evfs_be64_read(in->data + *at);
	bytes = evfs_wire_bytes(in->data + *at + 12,
				evfs_be32_read(in->data + *at + 8));
	*at += 12;
	if (bytes.len > in->len - *at)
		return false;
	*at += bytes.len;
	return evfs_wire_get_context(&bytes, context, NULL) == 0;
}

static bool get_count(const struct evfs_buf *in, size_t *at, uint32_t *n)
{
	if (in->len - *at < 4)
		return false;
	*n = evfs_be32_read(in->data + *at);
	*at += 4;
	return true;
}

static void parse(struct evfs_engine *engine, const struct evfs_buf *in)
{
	struct evfs_hints *hints = &engine->hints;
	struct evfs_context context = { 0 };
	struct evfs_peer *peer;
	uint64_t key;
	size_t at = 0;
	uint32_t n = 0;

	if (!get_count(in, &at, &n))
		return;
	for (; n > 0 && get_row(in, &at, &key, &context); n--) {
		if (hints->n_marks == EVFS_HINTS_MARKS)
			continue;
		hints->marks[hints->n_marks++] =
			(struct evfs_hint_mark){ key, context };
		context = (struct evfs_context){ 0 };
	}
	if (n == 0 && get_count(in, &at, &n))
		for (; n > 0 && get_row(in, &at, &key, &context); n--) {
			peer = evfs_peer_find(engine, key);
			if (peer == NULL)
				continue;
			evfs_context_fini(&peer->hint_expired);
			peer->hint_expired = context;
			context = (struct evfs_context){ 0 };
		}
	evfs_context_fini(&context);
}

static void load(struct evfs_engine *engine)
{
	struct evfs_buf bytes = { 0 };
	int r;

	engine->hints.loaded = true;
	evfs_meta_lock(engine->meta);
	r = evfs_hints_load(engine->meta, &bytes, NULL);
	evfs_meta_unlock(engine->meta);
	if (r == 0)
		parse(engine, &bytes);
	evfs_buf_fini(&bytes);
}

void evfs_hints_fini(struct evfs_engine *engine)
{
	struct evfs_hints *hints = &engine->hints;

	while (hints->n_marks > 0)
		evfs_context_fini(&hints->marks[--hints->n_marks].context);
}

/* ---- age ---- */

static void drop_marks(struct evfs_hints *hints, size_t n)
{
	size_t i;

	for (i = 0; i < n; i++)
		evfs_context_fini(&hints->marks[i].context);
	hints->n_marks -= n;
	memmove(hints->marks, hints->marks + n,
		hints->n_marks * sizeof(hints->marks[0]));
}

static void add_mark(struct evfs_engine *engine, uint64_t wall_ns)
{
	struct evfs_hints *hints = &engine->hints;
	struct evfs_hint_mark mark = { .wall_ns = wall_ns };
	const struct evfs_hint_mark *last;

	/* the clock was set back: what was written down has no age any more */
	if (hints->n_marks > 0 &&
	    hints->marks[hints->n_marks - 1].wall_ns > wall_ns)
		drop_marks(hints, hints->n_marks);
	last = hints->n_marks > 0 ? &hints->marks[hints->n_marks - 1] : NULL;
	if (last != NULL &&
	    (evfs_context_equal(&last->context, &engine->durable) ||
	     wall_ns < last->wall_ns + hints->ttl_ns / (EVFS_HINTS_MARKS / 2)))
		return;
	if (evfs_context_copy(&mark.context, &engine->durable) < 0)
		return;
	if (hints->n_marks == EVFS_HINTS_MARKS)
		drop_marks(hints, 1);
	hints->marks[hints->n_marks++] = mark;
	hints->unsaved = true;
}

/* Of the marks older than the limit only the newest counts. NULL: none. */
static const struct evfs_context *too_old(struct evfs_hints *hints,
					  uint64_t wall_ns)
{
	size_t n = 0;

	while (n < hints->n_marks &&
	       hints->marks[n].wall_ns + hints->ttl_ns <= wall_ns)
		n++;
	if (n > 1)
		drop_marks(hints, n - 1);
	return n > 0 ? &hints->marks[0].context : NULL;
}

/* ---- expiry ---- */

static int count_beyond(struct evfs_engine *engine, const struct evfs_peer *peer,
			bool held, uint64_t *ret, struct evfs_err *err)
{
	struct evfs_context context = { 0 };
	int r = evfs_context_copy(&context, &peer->report.context);

	if (r == 0 && held)
		r = evfs_context_join(&context, &peer->hint_expired);
	if (r < 0) {
		evfs_err_set(err, r, "hints: out of memory");
	} else {
		evfs_meta_lock(engine->meta);
		r = evfs_delta_count(engine->meta, &context, COUNT_MAX, ret,
				     err);
		evfs_meta_unlock(engine->meta);
	}
	evfs_context_fini(&context);
	return r;
}

static void expire(struct evfs_engine *engine, struct evfs_peer *peer,
		   const struct evfs_context *context, const char *why)
{
	uint64_t before = 0, after = 0;

	if (count_beyond(engine, peer, true, &before, NULL) < 0 ||
	    evfs_context_join(&peer->hint_expired, context) < 0 ||
	    count_beyond(engine, peer, true, &after, NULL) < 0)
		return;
	engine->hints.unsaved = engine->changed = true;
	engine->news++;
	if (before <= after)
		return;
	engine->hints.expired += before - after;
	evfs_log(EVFS_LOG_INFO, "hints expired: peer=%s hints=%llu reason=%s",
		 peer->member.name, (unsigned long long)(before - after), why);
}

static int weigh_held(struct evfs_engine *engine, struct evfs_peer *peer,
		      struct evfs_err *err)
{
	struct evfs_context context = { 0 };
	int r = evfs_context_copy(&context, &peer->report.context);

	if (r == 0)
		r = evfs_context_join(&context, &peer->hint_expired);
	if (r < 0)
		evfs_err_set(err, r, "hints: out of memory");
	else
		r = evfs_engine_weigh(engine, &context, &peer->held, err);
	evfs_context_fini(&context);
	return r;
}

static void limit_peer(struct evfs_engine *engine, struct evfs_peer *peer,
		       const struct evfs_context *old)
{
	if (peer->member.removed || !peer->report.known)
		return;
	if (peer->hint_expired.n > 0 && !evfs_hints_expired(peer)) {
		evfs_context_fini(&peer->hint_expired); /* it has it all */
		peer->hint_expired = (struct evfs_context){ 0 };
		engine->hints.unsaved = true;
	}
	if (peer->session != NULL)
		return;
	if (old != NULL && !evfs_context_contains(&peer->report.context, old) &&
	    !evfs_context_contains(&peer->hint_expired, old))
		expire(engine, peer, old, "hint_ttl");
	if (weigh_held(engine, peer, NULL) == 0 &&
	    peer->held.bytes > engine->hints.bytes_max)
		expire(engine, peer, &engine->durable, "hint_max_bytes");
}

void evfs_hints_limit(struct evfs_engine *engine, uint64_t now_ns,
		      uint64_t *next_ns)
{
	struct evfs_hints *hints = &engine->hints;
	uint64_t wall_ns = evfs_engine_wall(engine);
	uint64_t step_ns = hints->ttl_ns / 8 < LOOK_NS ? hints->ttl_ns / 8 :
							 LOOK_NS;
	const struct evfs_context *old;
	struct evfs_peer *peer;

	if (now_ns < hints->look_ns) {
		evfs_engine_lower(next_ns, hints->look_ns);
		return;
	}
	hints->look_ns = now_ns + step_ns;
	evfs_engine_lower(next_ns, hints->look_ns);
	if (!hints->loaded)
		load(engine);
	add_mark(engine, wall_ns);
	old = too_old(hints, wall_ns);
	for (peer = engine->peers; peer != NULL; peer = peer->next)
		limit_peer(engine, peer, old);
	if (hints->unsaved)
		save(engine);
}

/* ---- status ---- */

static int count_foreign(struct evfs_engine *engine, struct evfs_peer *peer,
			 uint64_t *ret, struct evfs_err *err)
{
	struct evfs_context context = { 0 };
	size_t i;
	int r = evfs_context_copy(&context, &peer->report.context);

	if (r == 0)
		r = evfs_context_join(&context, &peer->hint_expired);
	for (i = 0; r == 0 && i < engine->durable.n; i++)
		if (engine->durable.rows[i].actor.node == engine->self)
			r = evfs_context_raise(&context,
					       engine->durable.rows[i].actor,
					       UINT64_MAX >> 1);
	if (r < 0) {
		evfs_err_set(err, r, "hints: out of memory");
	} else if (!evfs_context_contains(&context, &engine->durable)) {
		evfs_meta_lock(engine->meta);
		r = evfs_delta_count(engine->meta, &context, COUNT_MAX, ret,
				     err);
		evfs_meta_unlock(engine->meta);
	}
	evfs_context_fini(&context);
	return r;
}

int evfs_hints_of(struct evfs_engine *engine, struct evfs_peer *peer,
		  struct evfs_hints_count *ret, struct evfs_err *err)
{
	uint64_t wall_ns = evfs_engine_wall(engine), all = 0;
	int r = 0;

	*ret = (struct evfs_hints_count){ .oldest_s = -1 };
	/* what a connected member lacks is on its way, and no hint */
	if (peer->session != NULL && peer->session->caught_up)
		return 0;
	r = weigh_held(engine, peer, err);
	if (r == 0)
		r = count_foreign(engine, peer, &ret->foreign, err);
	if (r == 0 && evfs_hints_expired(peer))
		r = count_beyond(engine, peer, false, &all, err);
	if (r < 0)
		return r;
	ret->count = peer->held.changes;
	ret->bytes = peer->held.bytes;
	ret->expired = all > ret->count ? all - ret->count : 0;
	if (ret->count > 0)
		ret->oldest_s = wall_ns < peer->held.oldest_ns ?
					0 :
					(int64_t)((wall_ns -
						   peer->held.oldest_ns) /
						  EVFS_SECOND);
	return 0;
}
