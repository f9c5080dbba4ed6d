/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Bytes to objects; meta/object.proto tells how. The bytes may come from a
 * peer: nothing in them is believed.
 *
 * protobuf-c unpacks into scratch memory, on the stack for an ordinary file.
 * An empty part takes two bytes there and a hundred times as much unpacked,
 * so the scratch memory is limited to a multiple of the input. Then the sizes
 * of everything are added up, the object is made in one piece, and in the end
 * evfs_object_check() holds it to all rules. */
#include <stdlib.h>
#include <string.h>

#include "meta/object.pb-c.h"
#include "meta/object_priv.h"

#define SCRATCH_STACK 6144
#define SCRATCH_ALIGN ((size_t)16)
/* A valid part takes no more than this times its bytes; the worst is an xattr
 * of 7 bytes that was made together with its file. */
#define SCRATCH_FACTOR 40
#define SCRATCH_BASE ((size_t)16 << 10)

#define EXTRA_FIELD_MIN 16

#define BROKEN(err, ...) evfs_err_set(err, EVFS_ECORRUPT, __VA_ARGS__)

struct scratch {
	struct evfs_arena arena; /* owned; behind the stack's */
	size_t used;		 /* bytes of the stack's part */
	size_t budget;		 /* bytes that may still be taken */
	bool is_over;		 /* the budget was exceeded */
	bool failed;		 /* out of memory */
	_Alignas(16) uint8_t stack[SCRATCH_STACK];
};

static void *scratch_alloc(void *data, size_t size)
{
	struct scratch *scratch = data;
	void *piece;

	if (size > scratch->budget) {
		scratch->is_over = true;
		return NULL;
	}
	scratch->budget -= size;
	size = (size + SCRATCH_ALIGN - 1) & ~(SCRATCH_ALIGN - 1);
	if (size <= SCRATCH_STACK - scratch->used) {
		piece = scratch->stack + scratch->used;
		scratch->used += size;
		return piece;
	}
	piece = evfs_arena_alloc(&scratch->arena, size, 1);
	scratch->failed |= piece == NULL;
	return piece;
}

static void scratch_free(void *data, void *piece)
{
	(void)data;
	(void)piece;
}

struct decoder {
	const EvfsPb__Object *pb;
	struct evfs_object *object; /* owned until it is given away */
	const char *broken;	    /* first rule that was broken, or NULL */
	bool failed;		    /* out of memory */
};

static void *take(struct decoder *dec, size_t n, size_t size)
{
	void *piece = NULL;

	if (n > 0) {
		piece = evfs_arena_alloc(&dec->object->arena, n, size);
		dec->failed |= piece == NULL;
	}
	return piece;
}

static void set_broken(struct decoder *dec, const char *why)
{
	if (dec->broken == NULL)
		dec->broken = why;
}

static bool is_stopped(const struct decoder *dec)
{
	return dec->broken != NULL || dec->failed;
}

/* ---- values ---- */

static evfs_dot get_dot(struct decoder *dec, const uint64_t *at)
{
	const EvfsPb__Object *pb = dec->pb;
	evfs_dot dot = { { 0, 0 }, at[1] };

	if (at[0] > pb->n_nodes) {
		set_broken(dec, "an actor is not in the table");
	} else if (at[0] > 0) {
		dot.actor.node = pb->nodes[at[0] - 1];
		if (pb->n_epochs > 0)
			dot.actor.epoch = pb->epochs[at[0] - 1];
	}
	return dot;
}

static evfs_dot get_one_dot(struct decoder *dec, const uint64_t *at, size_t n,
			    evfs_dot absent)
{
	if (n == 0)
		return absent;
	if (n != 2) {
		set_broken(dec, "a dot is not a pair");
		return absent;
	}
	return get_dot(dec, at);
}

static evfs_stamp get_stamp(struct decoder *dec, const uint64_t *at, size_t n,
			    evfs_stamp absent)
{
	if (n == 0)
		return absent;
	if (n != 3) {
		set_broken(dec, "a stamp is not a triple");
		return absent;
	}
	return (evfs_stamp){ dec->pb->time + at[0], get_dot(dec, at + 1) };
}

static evfs_stamp first_stamp(const struct decoder *dec)
{
	return (evfs_stamp){ dec->pb->time, dec->object->ino };
}

static void get_dots(struct decoder *dec, const uint64_t *at, size_t n,
		     struct evfs_dots *ret)
{
	if (n % 2 != 0) {
		set_broken(dec, "dots are not pairs");
		return;
	}
	ret->items = take(dec, n / 2, sizeof(*ret->items));
	if (dec->failed)
		return;
	ret->n = n / 2;
	for (size_t i = 0; i < ret->n; i++)
		ret->items[i] = get_dot(dec, at + 2 * i);
}

static void get_bytes(struct decoder *dec, const ProtobufCBinaryData *bytes,
		      const uint8_t **ret, size_t *ret_len)
{
	uint8_t *copy = take(dec, bytes->len, 1);

	if (copy == NULL)
		return;
	memcpy(copy, bytes->data, bytes->len);
	*ret = copy;
	*ret_len = bytes->len;
}

/* ---- parts ---- */

static void get_link(struct decoder *dec, const EvfsPb__Link *pb,
		     struct evfs_link *ret)
{
	ret->id = get_stamp(dec, pb->id, pb->n_id, first_stamp(dec));
	ret->place.stamp = get_stamp(dec, pb->placed, pb->n_placed, ret->id);
	ret->place.parent =
		get_one_dot(dec, pb->parent, pb->n_parent, EVFS_INO_NONE);
	ret->place.origin =
		get_one_dot(dec, pb->origin, pb->n_origin, ret->place.parent);
	get_bytes(dec, &pb->name, &ret->place.name, &ret->place.name_len);
	get_dots(dec, pb->alive, pb->n_alive, &ret->alive);
}

static void get_version(struct decoder *dec, const EvfsPb__Version *pb,
			struct evfs_version *ret)
{
	ret->dot = get_one_dot(dec, pb->dot, pb->n_dot, dec->object->ino);
	get_dots(dec, pb->bases, pb->n_bases, &ret->bases);
	ret->time_ns = dec->pb->time + pb->time;
	if (pb->content.len == EVFS_HASH_SIZE)
		memcpy(ret->content.b, pb->content.data, EVFS_HASH_SIZE);
	else if (pb->content.len != 0)
		set_broken(dec, "a content hash is not 32 bytes long");
	ret->size = pb->size;
	ret->mtime_s = pb->mtime_s;
	ret->mtime_ns = pb->mtime_ns;
}

static void get_attr(struct decoder *dec, const EvfsPb__Attr *pb,
		     struct evfs_attr *ret)
{
	if (pb->kind < EVFS_ATTR_MODE || pb->kind > EVFS_ATTR_XATTR) {
		set_broken(dec, "an attribute's kind is not 1 to 4");
		return;
	}
	ret->kind = (enum evfs_attr_kind)pb->kind;
	ret->stamp = get_stamp(dec, pb->stamp, pb->n_stamp, first_stamp(dec));
	get_dots(dec, pb->saw, pb->n_saw, &ret->saw);
	if (pb->key.len > 0 && ret->kind != EVFS_ATTR_XATTR)
		set_broken(dec, "an attribute that is no xattr has a key");
	switch (ret->kind) {
	case EVFS_ATTR_MODE:
		ret->value.mode = pb->mode;
		break;
	case EVFS_ATTR_OWNER:
		ret->value.owner.uid = pb->uid;
		ret->value.owner.gid = pb->gid;
		break;
	case EVFS_ATTR_TIMES:
		ret->value.times.mtime_s = pb->mtime_s;
		ret->value.times.mtime_ns = pb->mtime_ns;
		ret->value.times.atime_s = pb->atime_s;
		ret->value.times.atime_ns = pb->atime_ns;
		break;
	case EVFS_ATTR_XATTR:
		get_bytes(dec, &pb->key, &ret->key, &ret->key_len);
		get_bytes(dec, &pb->value, &ret->value.xattr.data,
			  &ret->value.xattr.len);
		ret->value.xattr.removed = pb->removed;
		break;
	}
}

static void get_tie(struct decoder *dec, const EvfsPb__Tie *pb,
		    struct evfs_tie *ret)
{
	ret->dot = get_one_dot(dec, pb->dot, pb->n_dot, EVFS_INO_NONE);
	if (pb->n_ends == 0 || pb->n_ends % 4 != 0) {
		set_broken(dec, "a transaction's ends are not pairs of dots");
		return;
	}
	ret->ends = take(dec, pb->n_ends / 4, sizeof(*ret->ends));
	if (dec->failed)
		return;
	ret->n = pb->n_ends / 4;
	for (size_t i = 0; i < ret->n; i++) {
		ret->ends[i].ino = get_dot(dec, pb->ends + 4 * i);
		ret->ends[i].dot = get_dot(dec, pb->ends + 4 * i + 2);
	}
}

static void get_log(struct decoder *dec)
{
	const EvfsPb__Object *pb = dec->pb;
	struct evfs_object *object = dec->object;

	object->log = take(dec, pb->n_log, sizeof(*object->log));
	for (size_t i = 0; !dec->failed && i < pb->n_log; i++) {
		uint64_t dot[2] = { i + 1, pb->log[i] };

		if (pb->log[i] != 0)
			object->log[object->n_log++] =
				(struct evfs_log_row){ get_dot(dec, dot).actor,
						       pb->log[i] };
	}
}

static int extra_compare(const void *a, const void *b)
{
	return evfs_extra_order(a, b);
}

/* A newer version writes them in the order of their kind; here they are a set
 * of bytes. Which fields there are has been looked at before. */
static void get_extras(struct decoder *dec)
{
	const ProtobufCMessage *base = &dec->pb->base;
	struct evfs_object *object = dec->object;
	size_t n = base->n_unknown_fields, kept = 0;
	struct evfs_extra *extras = take(dec, n, sizeof(*extras));

	if (extras == NULL)
		return;
	for (size_t i = 0; i < n; i++) {
		const ProtobufCMessageUnknownField *field =
			&base->unknown_fields[i];
		ProtobufCBinaryData bytes = { field->len, field->data };

		while (bytes.len > 0 && (*bytes.data & 0x80) != 0) {
			bytes.data++;
			bytes.len--;
		}
		if (bytes.len == 0) {
			set_broken(dec, "an unknown fact has no length");
			return;
		}
		bytes.data++;
		bytes.len--;
		extras[i].field = field->tag;
		get_bytes(dec, &bytes, &extras[i].data, &extras[i].len);
	}
	if (dec->failed)
		return;
	qsort(extras, n, sizeof(*extras), extra_compare);
	for (size_t i = 0; i < n; i++)
		if (kept == 0 ||
		    evfs_extra_order(&extras[kept - 1], &extras[i]) != 0)
			extras[kept++] = extras[i];
	object->extras = extras;
	object->n_extras = kept;
}

/* ---- the whole ---- */

static size_t decoded_bytes(const EvfsPb__Object *pb)
{
	size_t bytes = evfs_object_array_bytes(pb->target.len, 1);

	bytes +=
		evfs_object_array_bytes(pb->n_log, sizeof(struct evfs_log_row));
	bytes += evfs_object_array_bytes(pb->n_links, sizeof(struct evfs_link));
	for (size_t i = 0; i < pb->n_links; i++)
		bytes += evfs_object_array_bytes(pb->links[i]->name.len, 1) +
			 evfs_object_array_bytes(pb->links[i]->n_alive / 2,
						 sizeof(evfs_dot));
	bytes += evfs_object_array_bytes(pb->n_versions,
					 sizeof(struct evfs_version));
	for (size_t i = 0; i < pb->n_versions; i++)
		bytes += evfs_object_array_bytes(pb->versions[i]->n_bases / 2,
						 sizeof(evfs_dot));
	bytes += evfs_object_array_bytes(pb->n_attrs, sizeof(struct evfs_attr));
	for (size_t i = 0; i < pb->n_attrs; i++)
		bytes += evfs_object_array_bytes(pb->attrs[i]->n_saw / 2,
						 sizeof(evfs_dot)) +
			 evfs_object_array_bytes(pb->attrs[i]->key.len, 1) +
			 evfs_object_array_bytes(pb->attrs[i]->value.len, 1);
	bytes += evfs_object_array_bytes(pb->n_ties, sizeof(struct evfs_tie));
	for (size_t i = 0; i < pb->n_ties; i++)
		bytes += evfs_object_array_bytes(pb->ties[i]->n_ends / 4,
						 sizeof(struct evfs_tie_end));
	return bytes;
}

static void get_parts(struct decoder *dec)
{
	const EvfsPb__Object *pb = dec->pb;
	struct evfs_object *object = dec->object;

	object->rdev = pb->rdev;
	object->change_ns = pb->time + pb->change;
	get_bytes(dec, &pb->target, &object->target, &object->target_len);
	get_log(dec);
	object->links = take(dec, pb->n_links, sizeof(*object->links));
	for (size_t i = 0; !is_stopped(dec) && i < pb->n_links; i++)
		get_link(dec, pb->links[i], &object->links[i]);
	object->versions = take(dec, pb->n_versions, sizeof(*object->versions));
	for (size_t i = 0; !is_stopped(dec) && i < pb->n_versions; i++)
		get_version(dec, pb->versions[i], &object->versions[i]);
	object->attrs = take(dec, pb->n_attrs, sizeof(*object->attrs));
	for (size_t i = 0; !is_stopped(dec) && i < pb->n_attrs; i++)
		get_attr(dec, pb->attrs[i], &object->attrs[i]);
	object->ties = take(dec, pb->n_ties, sizeof(*object->ties));
	for (size_t i = 0; !is_stopped(dec) && i < pb->n_ties; i++)
		get_tie(dec, pb->ties[i], &object->ties[i]);
	if (!is_stopped(dec))
		get_extras(dec);
	object->n_links = pb->n_links;
	object->n_versions = pb->n_versions;
	object->n_attrs = pb->n_attrs;
	object->n_ties = pb->n_ties;
}

static int check_table(const EvfsPb__Object *pb, struct evfs_err *err)
{
	if (pb->n_epochs != 0 && pb->n_epochs != pb->n_nodes)
		return BROKEN(err, "actors: %zu nodes, %zu epochs", pb->n_nodes,
			      pb->n_epochs);
	if (pb->n_log > pb->n_nodes)
		return BROKEN(err, "actors: %zu, %zu log rows", pb->n_nodes,
			      pb->n_log);
	for (size_t i = 0; i < pb->n_nodes; i++) {
		bool after =
			i == 0 || pb->nodes[i - 1] < pb->nodes[i] ||
			(pb->nodes[i - 1] == pb->nodes[i] && pb->n_epochs > 0 &&
			 pb->epochs[i - 1] < pb->epochs[i]);

		if (pb->nodes[i] == 0 || !after)
			return BROKEN(err, "actor %zu: 0 or not in order", i);
	}
	if (pb->n_ino != 2)
		return BROKEN(err, "inode: not a dot");
	if (pb->kind < EVFS_KIND_FILE || pb->kind > EVFS_KIND_BLOCKDEV)
		return BROKEN(err, "kind %u: not 1 to 7", pb->kind);
	return 0;
}

static int newer(const char *where, const ProtobufCMessageUnknownField *field,
		 struct evfs_err *err)
{
	return evfs_err_set(err, EVFS_ENEWER,
			    "%s: field %u: written by a newer version "
			    "(update this one)",
			    where, field->tag);
}

static int check_known(const char *where, const ProtobufCMessage *base,
		       struct evfs_err *err)
{
	return base->n_unknown_fields == 0
		       ? 0
		       : newer(where, &base->unknown_fields[0], err);
}

/* What this version would drop must not pass through it. */
static int check_unknown(const EvfsPb__Object *pb, struct evfs_err *err)
{
	int rc = 0;

	for (size_t i = 0; i < pb->base.n_unknown_fields; i++) {
		const ProtobufCMessageUnknownField *field =
			&pb->base.unknown_fields[i];

		if (field->tag < EXTRA_FIELD_MIN ||
		    field->wire_type != PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED)
			return newer("object", field, err);
	}
	for (size_t i = 0; rc == 0 && i < pb->n_links; i++)
		rc = check_known("link", &pb->links[i]->base, err);
	for (size_t i = 0; rc == 0 && i < pb->n_versions; i++)
		rc = check_known("version", &pb->versions[i]->base, err);
	for (size_t i = 0; rc == 0 && i < pb->n_attrs; i++)
		rc = check_known("attribute", &pb->attrs[i]->base, err);
	for (size_t i = 0; rc == 0 && i < pb->n_ties; i++)
		rc = check_known("transaction", &pb->ties[i]->base, err);
	return rc;
}

static int decode_no_memory(struct evfs_err *err)
{
	return evfs_err_set(err, EVFS_ENOMEM, "object: %s",
			    evfs_err_text(EVFS_ENOMEM));
}

static int decode_unpacked(const EvfsPb__Object *pb, struct evfs_object **ret,
			   struct evfs_err *err)
{
	struct decoder dec = { .pb = pb };
	int rc = check_unknown(pb, err);

	if (rc == 0)
		rc = check_table(pb, err);
	if (rc != 0)
		return rc;
	dec.object = evfs_object_new_sized(get_dot(&dec, pb->ino),
					   (enum evfs_kind)pb->kind,
					   decoded_bytes(pb));
	if (dec.object == NULL)
		return decode_no_memory(err);
	get_parts(&dec);
	if (dec.broken != NULL)
		rc = BROKEN(err, "%s", dec.broken);
	else if (dec.failed)
		rc = decode_no_memory(err);
	else
		rc = evfs_object_check(dec.object, err);
	if (rc != 0) {
		evfs_object_free(dec.object);
		return rc;
	}
	*ret = dec.object;
	return 0;
}

int evfs_object_decode(const void *data, size_t len, struct evfs_object **ret,
		       struct evfs_err *err)
{
	struct scratch scratch;
	ProtobufCAllocator allocator = { scratch_alloc, scratch_free,
					 &scratch };
	EvfsPb__Object *pb;
	int rc;

	if (len > EVFS_OBJECT_BYTES_MAX)
		return BROKEN(err, "%zu bytes, more than %u", len,
			      EVFS_OBJECT_BYTES_MAX);
	/* The stack's part is written before it is read; clearing it would
	 * cost more than unpacking. */
	scratch.arena = (struct evfs_arena){ 0 };
	scratch.used = 0;
	scratch.budget = SCRATCH_FACTOR * len + SCRATCH_BASE;
	scratch.is_over = false;
	scratch.failed = false;
	pb = evfs_pb__object__unpack(&allocator, len, data);
	if (pb != NULL)
		rc = decode_unpacked(pb, ret, err);
	else if (scratch.failed)
		rc = decode_no_memory(err);
	else if (scratch.is_over)
		rc = BROKEN(err,
			    "more parts than its %zu bytes can "
			    "hold",
			    len);
	else
		rc = BROKEN(err, "not a protobuf message");
	evfs_arena_fini(&scratch.arena);
	if (rc == EVFS_ECORRUPT)
		evfs_err_wrap(err, rc, "object");
	return rc;
}
