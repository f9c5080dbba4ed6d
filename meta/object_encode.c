/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Objects to bytes; meta/object.proto tells how. First the actors of all dots
 * are gathered into the table and the smallest time is found, then the parts
 * are written with numbers relative to both: a fresh file takes some 130
 * bytes. */
#include <string.h>

#include "meta/object.pb-c.h"
#include "meta/object_priv.h"

struct encoder {
	const struct evfs_object *object;
	struct evfs_arena scratch; /* owned; everything below lies in it */
	evfs_actor *actors;	   /* the table, sorted */
	size_t n_actors, cap_actors;
	uint64_t time_ns; /* what times are relative to */
	bool failed;	  /* out of memory */
	EvfsPb__Object pb;
};

static void *take(struct encoder *enc, size_t n, size_t size)
{
	void *piece = evfs_arena_alloc(&enc->scratch, n, size);

	enc->failed |= piece == NULL;
	return piece;
}

/* ---- gathering ---- */

/* Index of the first actor of the table that is not smaller. */
static size_t actor_find(const struct encoder *enc, evfs_actor actor)
{
	size_t low = 0, high = enc->n_actors;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (evfs_actor_cmp(enc->actors[mid], actor) < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

static void gather_actor(struct encoder *enc, evfs_actor actor)
{
	size_t at = actor_find(enc, actor);

	if (actor.node == 0 || enc->failed ||
	    (at < enc->n_actors && evfs_actor_cmp(enc->actors[at], actor) == 0))
		return;
	if (enc->n_actors == enc->cap_actors) {
		size_t cap = enc->cap_actors == 0 ? 8 : 2 * enc->cap_actors;
		evfs_actor *actors = take(enc, cap, sizeof(*actors));

		if (actors == NULL)
			return;
		if (enc->n_actors > 0)
			memcpy(actors, enc->actors,
			       enc->n_actors * sizeof(*actors));
		enc->actors = actors;
		enc->cap_actors = cap;
	}
	memmove(&enc->actors[at + 1], &enc->actors[at],
		(enc->n_actors - at) * sizeof(*enc->actors));
	enc->actors[at] = actor;
	enc->n_actors++;
}

static void gather_dots(struct encoder *enc, const struct evfs_dots *dots)
{
	for (size_t i = 0; i < dots->n; i++)
		gather_actor(enc, dots->items[i].actor);
}

static void gather_time(struct encoder *enc, uint64_t time_ns)
{
	if (time_ns < enc->time_ns)
		enc->time_ns = time_ns;
}

static void gather_stamp(struct encoder *enc, const evfs_stamp *stamp)
{
	gather_time(enc, stamp->time_ns);
	gather_actor(enc, stamp->dot.actor);
}

static void gather(struct encoder *enc)
{
	const struct evfs_object *object = enc->object;

	enc->time_ns = UINT64_MAX;
	gather_actor(enc, object->ino.actor);
	for (size_t i = 0; i < object->n_log; i++)
		gather_actor(enc, object->log[i].actor);
	for (size_t i = 0; i < object->n_links; i++) {
		const struct evfs_link *link = &object->links[i];

		gather_stamp(enc, &link->id);
		gather_stamp(enc, &link->place.stamp);
		gather_actor(enc, link->place.parent.actor);
		gather_actor(enc, link->place.origin.actor);
		gather_dots(enc, &link->alive);
	}
	for (size_t i = 0; i < object->n_versions; i++) {
		gather_time(enc, object->versions[i].time_ns);
		gather_actor(enc, object->versions[i].dot.actor);
		gather_dots(enc, &object->versions[i].bases);
	}
	for (size_t i = 0; i < object->n_attrs; i++) {
		gather_stamp(enc, &object->attrs[i].stamp);
		gather_dots(enc, &object->attrs[i].saw);
	}
	for (size_t i = 0; i < object->n_ties; i++) {
		const struct evfs_tie *tie = &object->ties[i];

		gather_actor(enc, tie->dot.actor);
		for (size_t k = 0; k < tie->n; k++) {
			gather_actor(enc, tie->ends[k].ino.actor);
			gather_actor(enc, tie->ends[k].dot.actor);
		}
	}
}

/* ---- writing ---- */

static void set_dot(const struct encoder *enc, uint64_t *at, evfs_dot dot)
{
	at[0] = dot.actor.node == 0 ? 0 : actor_find(enc, dot.actor) + 1;
	at[1] = dot.counter;
}

static void put_dot(struct encoder *enc, size_t *n, uint64_t **ret,
		    evfs_dot dot)
{
	*ret = take(enc, 2, sizeof(**ret));
	if (*ret == NULL)
		return;
	set_dot(enc, *ret, dot);
	*n = 2;
}

static void put_dots(struct encoder *enc, size_t *n, uint64_t **ret,
		     const struct evfs_dots *dots)
{
	if (dots->n == 0)
		return;
	*ret = take(enc, dots->n, 2 * sizeof(**ret));
	if (*ret == NULL)
		return;
	for (size_t i = 0; i < dots->n; i++)
		set_dot(enc, *ret + 2 * i, dots->items[i]);
	*n = 2 * dots->n;
}

static void put_stamp(struct encoder *enc, size_t *n, uint64_t **ret,
		      const evfs_stamp *stamp)
{
	if (stamp->time_ns == enc->time_ns &&
	    evfs_dot_equal(stamp->dot, enc->object->ino))
		return;
	*ret = take(enc, 3, sizeof(**ret));
	if (*ret == NULL)
		return;
	(*ret)[0] = stamp->time_ns - enc->time_ns;
	set_dot(enc, *ret + 1, stamp->dot);
	*n = 3;
}

/* protobuf-c's structs are not const, but packing does not write to them. */
static ProtobufCBinaryData bytes_of(const uint8_t *data, size_t len)
{
	return (ProtobufCBinaryData){ len, (uint8_t *)(uintptr_t)data };
}

static void put_link(struct encoder *enc, EvfsPb__Link *pb,
		     const struct evfs_link *link)
{
	const struct evfs_place *place = &link->place;

	evfs_pb__link__init(pb);
	put_stamp(enc, &pb->n_id, &pb->id, &link->id);
	if (evfs_stamp_cmp(&place->stamp, &link->id) != 0) {
		/* Written in full: absent means something else here. */
		pb->placed = take(enc, 3, sizeof(*pb->placed));
		if (pb->placed != NULL) {
			pb->placed[0] = place->stamp.time_ns - enc->time_ns;
			set_dot(enc, pb->placed + 1, place->stamp.dot);
			pb->n_placed = 3;
		}
	}
	put_dot(enc, &pb->n_parent, &pb->parent, place->parent);
	if (!evfs_dot_equal(place->origin, place->parent))
		put_dot(enc, &pb->n_origin, &pb->origin, place->origin);
	pb->name = bytes_of(place->name, place->name_len);
	put_dots(enc, &pb->n_alive, &pb->alive, &link->alive);
}

static void put_version(struct encoder *enc, EvfsPb__Version *pb,
			const struct evfs_version *version)
{
	evfs_pb__version__init(pb);
	if (!evfs_dot_equal(version->dot, enc->object->ino))
		put_dot(enc, &pb->n_dot, &pb->dot, version->dot);
	put_dots(enc, &pb->n_bases, &pb->bases, &version->bases);
	pb->time = version->time_ns - enc->time_ns;
	if (!evfs_hash_is_zero(&version->content))
		pb->content = bytes_of(version->content.b, EVFS_HASH_SIZE);
	pb->size = version->size;
	pb->mtime_s = version->mtime_s;
	pb->mtime_ns = version->mtime_ns;
}

static void put_attr(struct encoder *enc, EvfsPb__Attr *pb,
		     const struct evfs_attr *attr)
{
	evfs_pb__attr__init(pb);
	pb->kind = (uint32_t)attr->kind;
	put_stamp(enc, &pb->n_stamp, &pb->stamp, &attr->stamp);
	put_dots(enc, &pb->n_saw, &pb->saw, &attr->saw);
	switch (attr->kind) {
	case EVFS_ATTR_MODE:
		pb->mode = attr->value.mode;
		break;
	case EVFS_ATTR_OWNER:
		pb->uid = attr->value.owner.uid;
		pb->gid = attr->value.owner.gid;
		break;
	case EVFS_ATTR_TIMES:
		pb->mtime_s = attr->value.times.mtime_s;
		pb->mtime_ns = attr->value.times.mtime_ns;
		pb->atime_s = attr->value.times.atime_s;
		pb->atime_ns = attr->value.times.atime_ns;
		break;
	case EVFS_ATTR_XATTR:
		pb->key = bytes_of(attr->key, attr->key_len);
		pb->value =
			bytes_of(attr->value.xattr.data, attr->value.xattr.len);
		pb->removed = attr->value.xattr.removed;
		break;
	}
}

static void put_tie(struct encoder *enc, EvfsPb__Tie *pb,
		    const struct evfs_tie *tie)
{
	evfs_pb__tie__init(pb);
	put_dot(enc, &pb->n_dot, &pb->dot, tie->dot);
	pb->ends = take(enc, tie->n, 4 * sizeof(*pb->ends));
	if (pb->ends == NULL)
		return;
	for (size_t i = 0; i < tie->n; i++) {
		set_dot(enc, pb->ends + 4 * i, tie->ends[i].ino);
		set_dot(enc, pb->ends + 4 * i + 2, tie->ends[i].dot);
	}
	pb->n_ends = 4 * tie->n;
}

/* Epochs of all actors (left out while all are 0) and counters of those that
 * have a row. */
static void put_actors(struct encoder *enc)
{
	const struct evfs_object *object = enc->object;
	EvfsPb__Object *pb = &enc->pb;
	bool has_epochs = false;

	pb->nodes = take(enc, enc->n_actors, sizeof(*pb->nodes));
	pb->epochs = take(enc, enc->n_actors, sizeof(*pb->epochs));
	pb->log = take(enc, enc->n_actors, sizeof(*pb->log));
	if (enc->failed)
		return;
	for (size_t i = 0; i < enc->n_actors; i++) {
		pb->nodes[i] = enc->actors[i].node;
		pb->epochs[i] = enc->actors[i].epoch;
		has_epochs |= pb->epochs[i] != 0;
	}
	for (size_t i = 0; i < object->n_log; i++) {
		size_t at = actor_find(enc, object->log[i].actor);

		pb->log[at] = object->log[i].counter;
		pb->n_log = at + 1;
	}
	pb->n_nodes = enc->n_actors;
	pb->n_epochs = has_epochs ? enc->n_actors : 0;
}

static void put_links(struct encoder *enc)
{
	const struct evfs_object *object = enc->object;
	EvfsPb__Object *pb = &enc->pb;

	pb->links = take(enc, object->n_links, sizeof(*pb->links));
	for (size_t i = 0; !enc->failed && i < object->n_links; i++) {
		pb->links[i] = take(enc, 1, sizeof(**pb->links));
		if (pb->links[i] != NULL)
			put_link(enc, pb->links[i], &object->links[i]);
	}
	pb->n_links = object->n_links;
}

static void put_versions(struct encoder *enc)
{
	const struct evfs_object *object = enc->object;
	EvfsPb__Object *pb = &enc->pb;

	pb->versions = take(enc, object->n_versions, sizeof(*pb->versions));
	for (size_t i = 0; !enc->failed && i < object->n_versions; i++) {
		pb->versions[i] = take(enc, 1, sizeof(**pb->versions));
		if (pb->versions[i] != NULL)
			put_version(enc, pb->versions[i], &object->versions[i]);
	}
	pb->n_versions = object->n_versions;
}

static void put_attrs(struct encoder *enc)
{
	const struct evfs_object *object = enc->object;
	EvfsPb__Object *pb = &enc->pb;

	pb->attrs = take(enc, object->n_attrs, sizeof(*pb->attrs));
	for (size_t i = 0; !enc->failed && i < object->n_attrs; i++) {
		pb->attrs[i] = take(enc, 1, sizeof(**pb->attrs));
		if (pb->attrs[i] != NULL)
			put_attr(enc, pb->attrs[i], &object->attrs[i]);
	}
	pb->n_attrs = object->n_attrs;
}

static void put_ties(struct encoder *enc)
{
	const struct evfs_object *object = enc->object;
	EvfsPb__Object *pb = &enc->pb;

	pb->ties = take(enc, object->n_ties, sizeof(*pb->ties));
	for (size_t i = 0; !enc->failed && i < object->n_ties; i++) {
		pb->ties[i] = take(enc, 1, sizeof(**pb->ties));
		if (pb->ties[i] != NULL)
			put_tie(enc, pb->ties[i], &object->ties[i]);
	}
	pb->n_ties = object->n_ties;
}

/* protobuf-c keeps unknown fields as they stand behind the tag, the length in
 * front included. */
static void put_extras(struct encoder *enc)
{
	const struct evfs_object *object = enc->object;
	ProtobufCMessageUnknownField *fields;

	if (object->n_extras == 0)
		return;
	fields = take(enc, object->n_extras, sizeof(*fields));
	for (size_t i = 0; !enc->failed && i < object->n_extras; i++) {
		const struct evfs_extra *extra = &object->extras[i];
		uint8_t *data = take(enc, extra->len + 10, 1);
		size_t rest = extra->len, n = 0;

		if (data == NULL)
			return;
		for (; rest >= 0x80; rest >>= 7)
			data[n++] = (uint8_t)(rest | 0x80);
		data[n++] = (uint8_t)rest;
		if (extra->len > 0)
			memcpy(data + n, extra->data, extra->len);
		fields[i] = (ProtobufCMessageUnknownField){
			.tag = extra->field,
			.wire_type = PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED,
			.len = n + extra->len,
			.data = data,
		};
	}
	enc->pb.base.unknown_fields = fields;
	enc->pb.base.n_unknown_fields = (unsigned)object->n_extras;
}

static int encode_append(struct encoder *enc, struct evfs_buf *out)
{
	size_t len = evfs_pb__object__get_packed_size(&enc->pb);
	uint8_t *at;

	if (len > EVFS_OBJECT_BYTES_MAX)
		return EVFS_ELIMIT;
	at = evfs_buf_reserve(out, len);
	if (at == NULL)
		return EVFS_ENOMEM;
	evfs_pb__object__pack(&enc->pb, at);
	out->len += len;
	return 0;
}

int evfs_object_encode(const struct evfs_object *object, struct evfs_buf *out)
{
	struct encoder enc = { .object = object };
	int rc = EVFS_ENOMEM;

	evfs_pb__object__init(&enc.pb);
	if (evfs_arena_reserve(&enc.scratch,
			       2 * evfs_object_footprint(object) + 1024) != 0)
		return EVFS_ENOMEM;
	gather(&enc);
	put_actors(&enc);
	put_dot(&enc, &enc.pb.n_ino, &enc.pb.ino, object->ino);
	enc.pb.kind = (uint32_t)object->kind;
	enc.pb.time = enc.time_ns;
	enc.pb.change = object->change_ns - enc.time_ns;
	enc.pb.rdev = object->rdev;
	enc.pb.target = bytes_of(object->target, object->target_len);
	put_links(&enc);
	put_versions(&enc);
	put_attrs(&enc);
	put_ties(&enc);
	put_extras(&enc);
	if (!enc.failed)
		rc = encode_append(&enc, out);
	evfs_arena_fini(&enc.scratch);
	return rc;
}

size_t evfs_object_size_bound(const struct evfs_object *object)
{
	size_t sum = 128 + object->target_len + 64 * object->n_log;

	for (size_t i = 0; i < object->n_links; i++)
		sum += 160 + object->links[i].place.name_len +
		       32 * object->links[i].alive.n;
	for (size_t i = 0; i < object->n_versions; i++)
		sum += 160 + 32 * object->versions[i].bases.n;
	for (size_t i = 0; i < object->n_attrs; i++) {
		const struct evfs_attr *attr = &object->attrs[i];

		sum += 96 + attr->key_len + 32 * attr->saw.n;
		if (attr->kind == EVFS_ATTR_XATTR)
			sum += attr->value.xattr.len;
	}
	for (size_t i = 0; i < object->n_ties; i++)
		sum += 48 + 64 * object->ties[i].n;
	for (size_t i = 0; i < object->n_extras; i++)
		sum += 16 + object->extras[i].len;
	return sum;
}
