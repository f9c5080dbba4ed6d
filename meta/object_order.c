/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Total orders over the parts of an object.
 *
 * Equality is one use. The other is the join: two parts that carry one dot are
 * the same fact, so they are equal, unless a broken peer says otherwise. Then
 * the greater one wins, everywhere alike, and replicas still converge. */
#include "meta/object_priv.h"

#include <string.h>

static int order_u64(uint64_t a, uint64_t b)
{
	return a < b ? -1 : a > b;
}

static int order_i64(int64_t a, int64_t b)
{
	return a < b ? -1 : a > b;
}

int evfs_bytes_order(const void *a, size_t a_len, const void *b, size_t b_len)
{
	size_t len = a_len < b_len ? a_len : b_len;
	int order = len > 0 ? memcmp(a, b, len) : 0;

	return order != 0 ? order : order_u64(a_len, b_len);
}

int evfs_dots_order(const struct evfs_dots *a, const struct evfs_dots *b)
{
	size_t n = a->n < b->n ? a->n : b->n;

	for (size_t i = 0; i < n; i++) {
		int order = evfs_dot_cmp(a->items[i], b->items[i]);

		if (order != 0)
			return order;
	}
	return order_u64(a->n, b->n);
}

int evfs_place_order(const struct evfs_place *a, const struct evfs_place *b)
{
	int order = evfs_stamp_cmp(&a->stamp, &b->stamp);

	if (order == 0)
		order = evfs_dot_cmp(a->parent, b->parent);
	if (order == 0)
		order = evfs_dot_cmp(a->origin, b->origin);
	if (order == 0)
		order = evfs_bytes_order(a->name, a->name_len, b->name,
					 b->name_len);
	return order;
}

int evfs_version_order(const struct evfs_version *a,
		       const struct evfs_version *b)
{
	int order = evfs_version_cmp(a, b);

	if (order == 0)
		order = memcmp(a->content.b, b->content.b,
			       sizeof(a->content.b));
	if (order == 0)
		order = order_u64(a->size, b->size);
	if (order == 0)
		order = order_i64(a->mtime_s, b->mtime_s);
	if (order == 0)
		order = order_u64(a->mtime_ns, b->mtime_ns);
	if (order == 0)
		order = evfs_dots_order(&a->bases, &b->bases);
	return order;
}

int evfs_attr_key_order(enum evfs_attr_kind a_kind, const void *a_key,
			size_t a_len, enum evfs_attr_kind b_kind,
			const void *b_key, size_t b_len)
{
	if (a_kind != b_kind)
		return a_kind < b_kind ? -1 : 1;
	return evfs_bytes_order(a_key, a_len, b_key, b_len);
}

static int attr_value_order(const struct evfs_attr *a,
			    const struct evfs_attr *b)
{
	int order = 0;

	switch (a->kind) {
	case EVFS_ATTR_MODE:
		return order_u64(a->value.mode, b->value.mode);
	case EVFS_ATTR_OWNER:
		order = order_u64(a->value.owner.uid, b->value.owner.uid);
		if (order == 0)
			order = order_u64(a->value.owner.gid,
					  b->value.owner.gid);
		return order;
	case EVFS_ATTR_TIMES:
		order = order_i64(a->value.times.mtime_s,
				  b->value.times.mtime_s);
		if (order == 0)
			order = order_u64(a->value.times.mtime_ns,
					  b->value.times.mtime_ns);
		if (order == 0)
			order = order_i64(a->value.times.atime_s,
					  b->value.times.atime_s);
		if (order == 0)
			order = order_u64(a->value.times.atime_ns,
					  b->value.times.atime_ns);
		return order;
	case EVFS_ATTR_XATTR:
		order = order_u64(a->value.xattr.removed,
				  b->value.xattr.removed);
		if (order == 0)
			order = evfs_bytes_order(
				a->value.xattr.data, a->value.xattr.len,
				b->value.xattr.data, b->value.xattr.len);
		return order;
	}
	return 0;
}

int evfs_attr_order(const struct evfs_attr *a, const struct evfs_attr *b)
{
	int order = evfs_attr_key_order(a->kind, a->key, a->key_len, b->kind,
					b->key, b->key_len);

	if (order == 0)
		order = evfs_stamp_cmp(&a->stamp, &b->stamp);
	if (order == 0)
		order = attr_value_order(a, b);
	if (order == 0)
		order = evfs_dots_order(&a->saw, &b->saw);
	return order;
}

int evfs_tie_order(const struct evfs_tie *a, const struct evfs_tie *b)
{
	int order = evfs_dot_cmp(a->dot, b->dot);

	if (order == 0)
		order = order_u64(a->n, b->n);
	for (size_t i = 0; order == 0 && i < a->n; i++) {
		order = evfs_dot_cmp(a->ends[i].ino, b->ends[i].ino);
		if (order == 0)
			order = evfs_dot_cmp(a->ends[i].dot, b->ends[i].dot);
	}
	return order;
}

int evfs_extra_order(const struct evfs_extra *a, const struct evfs_extra *b)
{
	if (a->field != b->field)
		return a->field < b->field ? -1 : 1;
	return evfs_bytes_order(a->data, a->len, b->data, b->len);
}

static bool object_same_constants(const struct evfs_object *a,
				  const struct evfs_object *b)
{
	return evfs_dot_equal(a->ino, b->ino) && a->kind == b->kind &&
	       a->rdev == b->rdev && a->change_ns == b->change_ns &&
	       evfs_bytes_order(a->target, a->target_len, b->target,
				b->target_len) == 0 &&
	       a->n_links == b->n_links && a->n_versions == b->n_versions &&
	       a->n_attrs == b->n_attrs && a->n_log == b->n_log &&
	       a->n_ties == b->n_ties && a->n_extras == b->n_extras;
}

bool evfs_object_equal(const struct evfs_object *a, const struct evfs_object *b)
{
	int order = 0;

	if (a == b)
		return true;
	if (!object_same_constants(a, b))
		return false;
	for (size_t i = 0; order == 0 && i < a->n_links; i++) {
		order = evfs_stamp_cmp(&a->links[i].id, &b->links[i].id);
		if (order == 0)
			order = evfs_place_order(&a->links[i].place,
						 &b->links[i].place);
		if (order == 0)
			order = evfs_dots_order(&a->links[i].alive,
						&b->links[i].alive);
	}
	for (size_t i = 0; order == 0 && i < a->n_versions; i++)
		order = evfs_version_order(&a->versions[i], &b->versions[i]);
	for (size_t i = 0; order == 0 && i < a->n_attrs; i++)
		order = evfs_attr_order(&a->attrs[i], &b->attrs[i]);
	for (size_t i = 0; order == 0 && i < a->n_log; i++) {
		order = evfs_actor_cmp(a->log[i].actor, b->log[i].actor);
		if (order == 0)
			order = order_u64(a->log[i].counter, b->log[i].counter);
	}
	for (size_t i = 0; order == 0 && i < a->n_ties; i++)
		order = evfs_tie_order(&a->ties[i], &b->ties[i]);
	for (size_t i = 0; order == 0 && i < a->n_extras; i++)
		order = evfs_extra_order(&a->extras[i], &b->extras[i]);
	return order == 0;
}
