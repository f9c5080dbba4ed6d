/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The hash of an object's live facts: what two replicas must agree on.
 *
 * The bytes that are hashed are written here by hand, big-endian, and not
 * taken from the encoding: that may become shorter one day, this may not
 * change (tests/unit/test_object_codec.c holds a golden value). What is local
 * or goes by itself is left out: rows, transactions, removed links, ctime and
 * access times. A directory's link stays: a dead directory stands while
 * something in it lives, and shows its place.
 *
 * dot: be64 node, be32 epoch, be64 counter. stamp: be64 time, dot. bytes: be32
 * length, bytes. list: be32 count, items.
 * object: u8 1, dot ino, u8 kind, be32 rdev, bytes target, list of links (stamp
 * id, stamp, dot parent, dot origin, bytes name, list of alive dots), list of
 * versions (dot, list of base dots, be64 time, hash, be64 size, be64 mtime,
 * be32 ns), list of attrs (u8 kind, bytes key, stamp, value, list of seen
 * dots), list of unknown facts (be32 field, bytes). */
#include "meta/object_priv.h"

#include <string.h>

#define LIVE_HASH_FORMAT 1

/* A buffer that remembers its first failure, so that a sequence of puts is
 * checked once. */
struct stream {
	struct evfs_buf buf; /* owned */
	int rc;
};

static void put_u8(struct stream *s, uint8_t value)
{
	if (s->rc == 0)
		s->rc = evfs_buf_put_u8(&s->buf, value);
}

static void put_u32(struct stream *s, uint32_t value)
{
	if (s->rc == 0)
		s->rc = evfs_buf_put_be32(&s->buf, value);
}

static void put_u64(struct stream *s, uint64_t value)
{
	if (s->rc == 0)
		s->rc = evfs_buf_put_be64(&s->buf, value);
}

static void put_dot(struct stream *s, evfs_dot dot)
{
	uint8_t bytes[EVFS_DOT_BYTES];

	evfs_dot_write(dot, bytes);
	if (s->rc == 0)
		s->rc = evfs_buf_put(&s->buf, bytes, sizeof(bytes));
}

static void put_stamp(struct stream *s, const evfs_stamp *stamp)
{
	put_u64(s, stamp->time_ns);
	put_dot(s, stamp->dot);
}

static void put_bytes(struct stream *s, const void *data, size_t len)
{
	put_u32(s, (uint32_t)len);
	if (s->rc == 0)
		s->rc = evfs_buf_put(&s->buf, data, len);
}

static void put_dots(struct stream *s, const struct evfs_dots *dots)
{
	put_u32(s, (uint32_t)dots->n);
	for (size_t i = 0; i < dots->n; i++)
		put_dot(s, dots->items[i]);
}

static bool link_counts(const struct evfs_object *object,
			const struct evfs_link *link)
{
	return object->kind == EVFS_KIND_DIR || link->alive.n > 0;
}

static void put_links(struct stream *s, const struct evfs_object *object)
{
	uint32_t n = 0;

	for (size_t i = 0; i < object->n_links; i++)
		n += link_counts(object, &object->links[i]);
	put_u32(s, n);
	for (size_t i = 0; i < object->n_links; i++) {
		const struct evfs_link *link = &object->links[i];

		if (!link_counts(object, link))
			continue;
		put_stamp(s, &link->id);
		put_stamp(s, &link->place.stamp);
		put_dot(s, link->place.parent);
		put_dot(s, link->place.origin);
		put_bytes(s, link->place.name, link->place.name_len);
		put_dots(s, &link->alive);
	}
}

static void put_versions(struct stream *s, const struct evfs_object *object)
{
	put_u32(s, (uint32_t)object->n_versions);
	for (size_t i = 0; i < object->n_versions; i++) {
		const struct evfs_version *version = &object->versions[i];

		put_dot(s, version->dot);
		put_dots(s, &version->bases);
		put_u64(s, version->time_ns);
		if (s->rc == 0)
			s->rc = evfs_buf_put(&s->buf, version->content.b,
					     sizeof(version->content.b));
		put_u64(s, version->size);
		put_u64(s, (uint64_t)version->mtime_s);
		put_u32(s, version->mtime_ns);
	}
}

static void put_attr_value(struct stream *s, const struct evfs_attr *attr)
{
	switch (attr->kind) {
	case EVFS_ATTR_MODE:
		put_u32(s, attr->value.mode);
		break;
	case EVFS_ATTR_OWNER:
		put_u32(s, attr->value.owner.uid);
		put_u32(s, attr->value.owner.gid);
		break;
	case EVFS_ATTR_TIMES:
		put_u64(s, (uint64_t)attr->value.times.mtime_s);
		put_u32(s, attr->value.times.mtime_ns);
		break;
	case EVFS_ATTR_XATTR:
		put_u8(s, attr->value.xattr.removed);
		put_bytes(s, attr->value.xattr.data, attr->value.xattr.len);
		break;
	}
}

static void put_attrs(struct stream *s, const struct evfs_object *object)
{
	put_u32(s, (uint32_t)object->n_attrs);
	for (size_t i = 0; i < object->n_attrs; i++) {
		const struct evfs_attr *attr = &object->attrs[i];

		put_u8(s, (uint8_t)attr->kind);
		put_bytes(s, attr->key, attr->key_len);
		put_stamp(s, &attr->stamp);
		put_attr_value(s, attr);
		put_dots(s, &attr->saw);
	}
}

int evfs_object_live_hash(const struct evfs_object *object, evfs_hash *ret)
{
	struct stream s = { { 0 }, 0 };

	if (evfs_buf_reserve(&s.buf, 1024) == NULL)
		return EVFS_ENOMEM;
	put_u8(&s, LIVE_HASH_FORMAT);
	put_dot(&s, object->ino);
	put_u8(&s, (uint8_t)object->kind);
	put_u32(&s, object->rdev);
	put_bytes(&s, object->target, object->target_len);
	put_links(&s, object);
	put_versions(&s, object);
	put_attrs(&s, object);
	put_u32(&s, (uint32_t)object->n_extras);
	for (size_t i = 0; i < object->n_extras; i++) {
		put_u32(&s, object->extras[i].field);
		put_bytes(&s, object->extras[i].data, object->extras[i].len);
	}
	if (s.rc == 0)
		*ret = evfs_hash_bytes(s.buf.data, s.buf.len);
	evfs_buf_fini(&s.buf);
	return s.rc;
}
