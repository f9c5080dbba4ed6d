/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Frames, and the validation of messages: what passes here can be used without
 * looking at lengths again. Contents are checked where they are used: objects
 * by evfs_object_decode(), manifests and chunks by the content store. */
#include "net/wire.h"

#include <stdbool.h>
#include <string.h>

#include "base/mem.h"
#include "meta/dot.h"
#include "meta/members.h"
#include "meta/merkle.h"
#include "net/engine.h"

/* ---- memory of decoded messages ---- */

/* A decoded message with its budget in front, so that freeing needs nothing
 * else. */
struct budget {
	size_t left; /* bytes that may still be allocated */
};

static void *budget_alloc(void *data, size_t size)
{
	struct budget *budget = data;

	if (size > budget->left)
		return NULL;
	budget->left -= size;
	/* Not zeroed: most of it is bytes that are copied in. */
	return evfs_realloc_array(NULL, size, 1);
}

static void budget_free(void *data, void *pointer)
{
	(void)data;
	evfs_free(pointer);
}

void evfs_wire_free(Evfs__Wire__Envelope *envelope)
{
	struct budget budget = { 0 };
	ProtobufCAllocator allocator = { .alloc = budget_alloc,
					 .free = budget_free,
					 .allocator_data = &budget };

	if (envelope != NULL)
		evfs__wire__envelope__free_unpacked(envelope, &allocator);
}

/* ---- frames ---- */

int evfs_wire_encode(const Evfs__Wire__Envelope *envelope, struct evfs_buf *out)
{
	size_t len = evfs__wire__envelope__get_packed_size(envelope);
	uint8_t *at;

	if (len == 0 || len > EVFS_FRAME_MAX - EVFS_WIRE_HEADER)
		return EVFS_ELIMIT;
	at = evfs_buf_reserve(out, EVFS_WIRE_HEADER + len);
	if (at == NULL)
		return EVFS_ENOMEM;
	evfs_be32_write(at, (uint32_t)len);
	evfs__wire__envelope__pack(envelope, at + EVFS_WIRE_HEADER);
	out->len += EVFS_WIRE_HEADER + len;
	return 0;
}

int evfs_wire_peek(const uint8_t *data, size_t len, size_t *ret_len,
		   struct evfs_err *err)
{
	uint32_t size;

	if (len < EVFS_WIRE_HEADER)
		return 0;
	size = evfs_be32_read(data);
	if (size == 0 || size > EVFS_FRAME_MAX - EVFS_WIRE_HEADER)
		return evfs_err_set(err, EVFS_EPROTO,
				    "frame of %u bytes: 1 to %u are allowed",
				    (unsigned)size,
				    EVFS_FRAME_MAX - EVFS_WIRE_HEADER);
	if (len - EVFS_WIRE_HEADER < size)
		return 0;
	*ret_len = size;
	return 1;
}

/* ---- fields ---- */

int evfs_wire_put_context(const struct evfs_context *context,
			  struct evfs_buf *out)
{
	uint8_t *at;
	size_t i;

	if (context->n == 0)
		return 0;
	at = evfs_buf_reserve(out, context->n * EVFS_DOT_BYTES);
	if (at == NULL)
		return EVFS_ENOMEM;
	for (i = 0; i < context->n; i++) {
		evfs_dot dot = { context->rows[i].actor,
				 context->rows[i].counter };

		evfs_dot_write(dot, at + i * EVFS_DOT_BYTES);
	}
	out->len += context->n * EVFS_DOT_BYTES;
	return 0;
}

static int check_context(const ProtobufCBinaryData *bytes, const char *what,
			 struct evfs_err *err)
{
	evfs_dot last = { { 0, 0 }, 0 };
	size_t i, n = bytes->len / EVFS_DOT_BYTES;

	if (bytes->len % EVFS_DOT_BYTES != 0)
		return evfs_err_set(err, EVFS_EPROTO,
				    "%s: %zu bytes are no context", what,
				    bytes->len);
	if (n > EVFS_CONTEXT_ACTORS_MAX)
		return evfs_err_set(err, EVFS_EPROTO,
				    "%s: %zu actors, %d are allowed", what, n,
				    EVFS_CONTEXT_ACTORS_MAX);
	for (i = 0; i < n; i++) {
		evfs_dot dot = evfs_dot_read(bytes->data + i * EVFS_DOT_BYTES);

		if (dot.actor.node == 0 || dot.counter == 0)
			return evfs_err_set(err, EVFS_EPROTO,
					    "%s: row %zu is zero", what, i);
		if (i > 0 && evfs_actor_cmp(last.actor, dot.actor) >= 0)
			return evfs_err_set(err, EVFS_EPROTO,
					    "%s: rows are not sorted", what);
		last = dot;
	}
	return 0;
}

int evfs_wire_get_context(const ProtobufCBinaryData *bytes,
			  struct evfs_context *ret, struct evfs_err *err)
{
	size_t i, n = bytes->len / EVFS_DOT_BYTES;
	int r = check_context(bytes, "context", err);

	if (r < 0)
		return r;
	evfs_context_fini(ret);
	*ret = (struct evfs_context){ 0 };
	for (i = 0; i < n; i++) {
		evfs_dot dot = evfs_dot_read(bytes->data + i * EVFS_DOT_BYTES);

		r = evfs_context_raise(ret, dot.actor, dot.counter);
		if (r < 0)
			return evfs_err_set(err, r, "context: out of memory");
	}
	return 0;
}

evfs_hash evfs_wire_hash(const ProtobufCBinaryData *bytes, size_t i)
{
	evfs_hash hash;

	memcpy(hash.b, bytes->data + i * EVFS_HASH_SIZE, EVFS_HASH_SIZE);
	return hash;
}

static int check_hash(const ProtobufCBinaryData *bytes, const char *what,
		      struct evfs_err *err)
{
	if (bytes->len == EVFS_HASH_SIZE)
		return 0;
	return evfs_err_set(err, EVFS_EPROTO, "%s: %zu bytes, a hash has %d",
			    what, bytes->len, EVFS_HASH_SIZE);
}

static int check_hashes(const ProtobufCBinaryData *bytes, const char *what,
			struct evfs_err *err)
{
	if (bytes->len > 0 && bytes->len % EVFS_HASH_SIZE == 0 &&
	    bytes->len / EVFS_HASH_SIZE <= EVFS_WIRE_HASHES_MAX)
		return 0;
	return evfs_err_set(err, EVFS_EPROTO,
			    "%s: %zu bytes are not 1 to %d hashes", what,
			    bytes->len, EVFS_WIRE_HASHES_MAX);
}

static int check_text(const char *text, size_t max, const char *what,
		      struct evfs_err *err)
{
	size_t i;

	for (i = 0; text[i] != '\0'; i++)
		if (i >= max || (uint8_t)text[i] < 0x20 ||
		    (uint8_t)text[i] == 0x7f)
			return evfs_err_set(err, EVFS_EPROTO,
					    "%s: too long, or has control "
					    "characters",
					    what);
	return 0;
}

/* ---- messages ---- */

static int check_hello(const Evfs__Wire__Hello *hello, struct evfs_err *err)
{
	int r;

	if (hello->version == 0 || hello->version_oldest == 0 ||
	    hello->version_oldest > hello->version)
		return evfs_err_set(err, EVFS_EPROTO,
				    "hello: versions %u to %u",
				    (unsigned)hello->version_oldest,
				    (unsigned)hello->version);
	if (hello->node == 0 || hello->instance == 0)
		return evfs_err_set(err, EVFS_EPROTO, "hello: no node");
	r = check_hash(&hello->volume, "hello: volume", err);
	if (r == 0)
		r = check_hash(&hello->root, "hello: root", err);
	if (r == 0)
		r = check_context(&hello->context, "hello: context", err);
	if (r == 0)
		r = check_context(&hello->seen, "hello: seen", err);
	return r;
}

static int check_members(const Evfs__Wire__Members *members,
			 struct evfs_err *err)
{
	size_t i;
	int r = 0;

	if (members->n_records > EVFS_MEMBERS_MAX)
		return evfs_err_set(err, EVFS_EPROTO,
				    "members: %zu records, %d are allowed",
				    members->n_records, EVFS_MEMBERS_MAX);
	for (i = 0; r == 0 && i < members->n_records; i++) {
		const Evfs__Wire__Member *m = members->records[i];

		if (m->node == 0)
			return evfs_err_set(err, EVFS_EPROTO,
					    "members: record without node");
		r = check_text(m->name, EVFS_NODE_NAME_MAX, "member name", err);
		if (r == 0)
			r = check_text(m->key, EVFS_KEY_TEXT_MAX - 1,
				       "member key", err);
		if (r == 0)
			r = check_text(m->address, EVFS_ADDRESS_MAX,
				       "member address", err);
	}
	return r;
}

static int check_batch(const Evfs__Wire__Batch *batch, struct evfs_err *err)
{
	size_t i;
	int r;

	if (batch->n_objects > EVFS_WIRE_OBJECTS_MAX ||
	    batch->n_contents > EVFS_WIRE_OBJECTS_MAX)
		return evfs_err_set(err, EVFS_EPROTO, "batch: too long");
	if (batch->partial && (!batch->more || batch->n_objects == 0))
		return evfs_err_set(err, EVFS_EPROTO,
				    "batch: ends within an object");
	for (i = 0; i < batch->n_objects; i++)
		if (batch->objects[i].len == 0)
			return evfs_err_set(err, EVFS_EPROTO,
					    "batch: empty object");
	for (i = 0; i < batch->n_contents; i++) {
		const Evfs__Wire__Inline *content = batch->contents[i];

		r = check_hash(&content->name, "batch: content", err);
		if (r < 0)
			return r;
		if (content->data.len == 0 ||
		    content->data.len > EVFS_WIRE_INLINE_MAX)
			return evfs_err_set(err, EVFS_EPROTO,
					    "batch: content of %zu bytes",
					    content->data.len);
	}
	return 0;
}

static int check_report(const Evfs__Wire__Report *report, struct evfs_err *err)
{
	int r = check_context(&report->context, "report: context", err);

	if (r == 0)
		r = check_hash(&report->root, "report: root", err);
	if (r == 0 && (report->connected.len % 8 != 0 ||
		       report->connected.len / 8 > EVFS_MEMBERS_MAX))
		r = evfs_err_set(err, EVFS_EPROTO,
				 "report: connected: "
				 "%zu bytes",
				 report->connected.len);
	return r;
}

static int check_gossip(const Evfs__Wire__Gossip *gossip, struct evfs_err *err)
{
	size_t i;
	int r = 0;

	if (gossip->rows.len % EVFS_GOSSIP_ROW_BYTES != 0 ||
	    gossip->rows.len / EVFS_GOSSIP_ROW_BYTES > EVFS_GOSSIP_ROWS_MAX ||
	    gossip->want.len % 8 != 0 ||
	    gossip->want.len / 8 > EVFS_GOSSIP_STATES_MAX ||
	    gossip->n_states > EVFS_GOSSIP_STATES_MAX)
		return evfs_err_set(err, EVFS_EPROTO,
				    "gossip: %zu bytes of rows, %zu states, "
				    "%zu bytes of nodes",
				    gossip->rows.len, gossip->n_states,
				    gossip->want.len);
	for (i = 0; r == 0 && i < gossip->n_states; i++) {
		const Evfs__Wire__GossipState *state = gossip->states[i];

		if (state->context.len != EVFS_GOSSIP_CONTEXT_BYTES)
			return evfs_err_set(err, EVFS_EPROTO,
					    "gossip: context of %zu bytes",
					    state->context.len);
		r = check_hash(&state->root, "gossip: root", err);
	}
	return r;
}

static int check_manifest(const Evfs__Wire__Manifest *manifest,
			  struct evfs_err *err)
{
	int r = check_hash(&manifest->name, "manifest", err);

	if (r < 0)
		return r;
	if (manifest->total > EVFS_WIRE_MANIFEST_MAX ||
	    manifest->offset > manifest->total ||
	    manifest->data.len > manifest->total - manifest->offset ||
	    (manifest->total > 0 && manifest->data.len == 0) ||
	    (manifest->missing && manifest->total > 0))
		return evfs_err_set(err, EVFS_EPROTO,
				    "manifest: %zu bytes at %llu of %llu",
				    manifest->data.len,
				    (unsigned long long)manifest->offset,
				    (unsigned long long)manifest->total);
	return 0;
}

static int check_chunk(const Evfs__Wire__Chunk *chunk, struct evfs_err *err)
{
	if (chunk->data.len == 0)
		return evfs_err_set(err, EVFS_EPROTO, "chunk: empty");
	return check_hash(&chunk->hash, "chunk", err);
}

static int check_leaves(Evfs__Wire__AuditLeaves *const *lists, size_t n, const char *what,
			struct evfs_err *err)
{
	size_t i, total = 0;

	for (i = 0; i < n; i++) {
		if (lists[i]->hashes.len % EVFS_WIRE_LEAF_BYTES != 0 ||
		    evfs_merkle_level(lists[i]->path) < 2)
			return evfs_err_set(err, EVFS_EPROTO,
					    "audit: %s: no list of objects",
					    what);
		total += lists[i]->hashes.len / EVFS_WIRE_LEAF_BYTES;
	}
	if (n > EVFS_WIRE_AUDIT_PARTS_MAX || total > EVFS_WIRE_AUDIT_LEAVES_MAX)
		return evfs_err_set(err, EVFS_EPROTO,
				    "audit: %s: %zu of %zu objects", what, n,
				    total);
	return 0;
}

static int check_audit(const Evfs__Wire__Audit *audit, struct evfs_err *err)
{
	size_t i, bit, n;
	int r;

	if (audit->id == 0 || audit->n_nodes > EVFS_WIRE_AUDIT_PARTS_MAX)
		return evfs_err_set(err, EVFS_EPROTO, "audit: %zu nodes",
				    audit->n_nodes);
	if (audit->root.len > 0) {
		r = check_hash(&audit->root, "audit: root", err);
		if (r < 0)
			return r;
	}
	for (i = 0; i < audit->n_nodes; i++) {
		const Evfs__Wire__AuditNodes *nodes = audit->nodes[i];
		int level = evfs_merkle_level(nodes->path);

		n = 0;
		for (bit = 0; bit < 8 * nodes->present.len; bit++)
			n += nodes->present.data[bit / 8] >> (7 - bit % 8) & 1;
		if (level < 0 || level >= EVFS_MERKLE_LEVELS ||
		    nodes->present.len != EVFS_MERKLE_FANOUT / 8 ||
		    nodes->sums.len != n * EVFS_WIRE_SUM_BYTES)
			return evfs_err_set(err, EVFS_EPROTO,
					    "audit: no list of nodes");
	}
	r = check_leaves(audit->lists, audit->n_lists, "lists", err);
	if (r == 0)
		r = check_leaves(audit->wants, audit->n_wants, "wants", err);
	return r;
}

static int check_ino(const ProtobufCBinaryData *bytes, bool may_lack,
		     const char *what, struct evfs_err *err)
{
	if (bytes->len == EVFS_DOT_BYTES || (may_lack && bytes->len == 0))
		return 0;
	return evfs_err_set(err, EVFS_EPROTO, "%s: %zu bytes, a dot has %d",
			    what, bytes->len, EVFS_DOT_BYTES);
}

static int check_hold(const Evfs__Wire__Hold *hold, struct evfs_err *err)
{
	int r = check_ino(&hold->ino, true, "hold", err);

	return r < 0 ? r : check_context(&hold->rows, "hold: rows", err);
}

static int check_compare(const Evfs__Wire__Compare *compare,
			 struct evfs_err *err)
{
	int r = check_ino(&compare->ino, false, "compare", err);

	if (r == 0)
		r = check_context(&compare->rows, "compare: rows", err);
	if (r == 0)
		r = check_context(&compare->context, "compare: context", err);
	return r;
}

static int check_state(const Evfs__Wire__State *state, struct evfs_err *err)
{
	size_t i;
	int r = check_ino(&state->ino, false, "state", err);

	if (r == 0)
		r = check_context(&state->context, "state: context", err);
	if (r == 0)
		r = check_context(&state->rows, "state: rows", err);
	if (r < 0)
		return r;
	if (state->n_objects > EVFS_WIRE_OBJECTS_MAX)
		return evfs_err_set(err, EVFS_EPROTO, "state: too long");
	for (i = 0; i < state->n_objects; i++)
		if (state->objects[i].len == 0)
			return evfs_err_set(err, EVFS_EPROTO,
					    "state: empty object");
	return 0;
}

static int check_envelope(const Evfs__Wire__Envelope *e, struct evfs_err *err)
{
	switch (e->kind_case) {
	case EVFS__WIRE__ENVELOPE__KIND_HELLO:
		return check_hello(e->hello, err);
	case EVFS__WIRE__ENVELOPE__KIND_MEMBERS:
		return check_members(e->members, err);
	case EVFS__WIRE__ENVELOPE__KIND_BEGIN:
		return check_context(&e->begin->snap, "begin: snap", err);
	case EVFS__WIRE__ENVELOPE__KIND_BATCH:
		return check_batch(e->batch, err);
	case EVFS__WIRE__ENVELOPE__KIND_REPAIR:
		return check_batch(e->repair, err);
	case EVFS__WIRE__ENVELOPE__KIND_AUDIT:
		return check_audit(e->audit, err);
	case EVFS__WIRE__ENVELOPE__KIND_REPORT:
		return check_report(e->report, err);
	case EVFS__WIRE__ENVELOPE__KIND_PULL:
		return check_context(&e->pull->context, "pull: context", err);
	case EVFS__WIRE__ENVELOPE__KIND_BYE:
		return check_text(e->bye->reason, EVFS_WIRE_REASON_MAX,
				  "bye: reason", err);
	case EVFS__WIRE__ENVELOPE__KIND_WANT_MANIFEST:
		return check_hash(&e->want_manifest->name, "want manifest",
				  err);
	case EVFS__WIRE__ENVELOPE__KIND_MANIFEST:
		return check_manifest(e->manifest, err);
	case EVFS__WIRE__ENVELOPE__KIND_WANT_CHUNKS:
		return check_hashes(&e->want_chunks->hashes, "want chunks",
				    err);
	case EVFS__WIRE__ENVELOPE__KIND_CHUNK:
		return check_chunk(e->chunk, err);
	case EVFS__WIRE__ENVELOPE__KIND_NO_CHUNK:
		return check_hashes(&e->no_chunk->hashes, "no chunk", err);
	case EVFS__WIRE__ENVELOPE__KIND_GOSSIP_SYN:
		return check_gossip(e->gossip_syn, err);
	case EVFS__WIRE__ENVELOPE__KIND_GOSSIP_ACK:
		return check_gossip(e->gossip_ack, err);
	case EVFS__WIRE__ENVELOPE__KIND_GOSSIP_ACK2:
		return check_gossip(e->gossip_ack2, err);
	case EVFS__WIRE__ENVELOPE__KIND_HOLD:
		return check_hold(e->hold, err);
	case EVFS__WIRE__ENVELOPE__KIND_COMPARE:
		return check_compare(e->compare, err);
	case EVFS__WIRE__ENVELOPE__KIND_STATE:
		return check_state(e->state, err);
	case EVFS__WIRE__ENVELOPE__KIND_END:
	case EVFS__WIRE__ENVELOPE__KIND_AUDITED:
	case EVFS__WIRE__ENVELOPE__KIND_PING:
	case EVFS__WIRE__ENVELOPE__KIND_PONG:
	case EVFS__WIRE__ENVELOPE__KIND_HELD:
	case EVFS__WIRE__ENVELOPE__KIND_OFFER:
	case EVFS__WIRE__ENVELOPE__KIND_GRANT:
	case EVFS__WIRE__ENVELOPE__KIND_TAKEN:
	case EVFS__WIRE__ENVELOPE__KIND__NOT_SET:
	default:
		return 0;
	}
}

int evfs_wire_decode(const void *data, size_t len, Evfs__Wire__Envelope **ret,
		     struct evfs_err *err)
{
	struct budget budget = { .left = EVFS_WIRE_DECODE_MAX };
	ProtobufCAllocator allocator = { .alloc = budget_alloc,
					 .free = budget_free,
					 .allocator_data = &budget };
	Evfs__Wire__Envelope *envelope;
	int r;

	envelope = evfs__wire__envelope__unpack(&allocator, len, data);
	if (envelope == NULL)
		return evfs_err_set(err, EVFS_EPROTO,
				    "message of %zu bytes does not decode",
				    len);
	r = check_envelope(envelope, err);
	if (r < 0) {
		evfs_wire_free(envelope);
		return r;
	}
	*ret = envelope;
	return 0;
}
