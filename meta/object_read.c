/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Questions to an object; see object.h. Nothing here changes or allocates. */
#include "meta/object_priv.h"

bool evfs_link_is_live(const struct evfs_object *object,
		       const struct evfs_link *link)
{
	if (object->kind == EVFS_KIND_FILE && object->n_versions == 0)
		return false;
	return link->alive.n > 0;
}

bool evfs_object_is_live(const struct evfs_object *object)
{
	return evfs_object_sibling_link(object) != NULL;
}

size_t evfs_object_live_links(const struct evfs_object *object)
{
	size_t n = 0;

	for (size_t i = 0; i < object->n_links; i++)
		n += evfs_link_is_live(object, &object->links[i]);
	return n;
}

const struct evfs_link *
evfs_object_sibling_link(const struct evfs_object *object)
{
	for (size_t i = 0; i < object->n_links; i++)
		if (evfs_link_is_live(object, &object->links[i]))
			return &object->links[i];
	return NULL;
}

const struct evfs_link *evfs_object_only_link(const struct evfs_object *dir)
{
	return dir->n_links > 0 ? &dir->links[0] : NULL;
}

struct evfs_link *evfs_object_find_link(const struct evfs_object *object,
					const evfs_stamp *id)
{
	size_t low = 0, high = object->n_links;

	while (low < high) {
		size_t mid = low + (high - low) / 2;
		int order = evfs_stamp_cmp(&object->links[mid].id, id);

		if (order == 0)
			return &object->links[mid];
		if (order < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return NULL;
}

struct evfs_version *evfs_object_find_version(const struct evfs_object *object,
					      evfs_dot dot)
{
	size_t low = 0, high = object->n_versions;

	while (low < high) {
		size_t mid = low + (high - low) / 2;
		int order = evfs_dot_cmp(object->versions[mid].dot, dot);

		if (order == 0)
			return &object->versions[mid];
		if (order < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return NULL;
}

int evfs_version_cmp(const struct evfs_version *a, const struct evfs_version *b)
{
	if (a->time_ns != b->time_ns)
		return a->time_ns < b->time_ns ? -1 : 1;
	return evfs_dot_cmp(a->dot, b->dot);
}

const struct evfs_version *
evfs_object_newest_version(const struct evfs_object *object)
{
	const struct evfs_version *newest = NULL;

	for (size_t i = 0; i < object->n_versions; i++)
		if (newest == NULL ||
		    evfs_version_cmp(&object->versions[i], newest) > 0)
			newest = &object->versions[i];
	return newest;
}

struct evfs_attr *evfs_object_find_attr(const struct evfs_object *object,
					enum evfs_attr_kind kind,
					const void *key, size_t key_len)
{
	size_t low = 0, high = object->n_attrs;

	while (low < high) {
		size_t mid = low + (high - low) / 2;
		struct evfs_attr *attr = &object->attrs[mid];
		int order =
			evfs_attr_key_order(attr->kind, attr->key,
					    attr->key_len, kind, key, key_len);

		if (order == 0)
			return attr;
		if (order < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return NULL;
}

uint64_t evfs_object_log_get(const struct evfs_object *object, evfs_actor actor)
{
	size_t low = 0, high = object->n_log;

	while (low < high) {
		size_t mid = low + (high - low) / 2;
		int order = evfs_actor_cmp(object->log[mid].actor, actor);

		if (order == 0)
			return object->log[mid].counter;
		if (order < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return 0;
}

bool evfs_object_covers(const struct evfs_object *object,
			const struct evfs_context *context, evfs_dot dot)
{
	return (object != NULL &&
		dot.counter <= evfs_object_log_get(object, dot.actor)) ||
	       evfs_context_covers(context, dot);
}

bool evfs_object_log_covered(const struct evfs_object *object,
			     const struct evfs_context *context)
{
	for (size_t i = 0; i < object->n_log; i++)
		if (object->log[i].counter >
		    evfs_context_get(context, object->log[i].actor))
			return false;
	return true;
}

bool evfs_dots_has(const struct evfs_dots *dots, evfs_dot dot)
{
	size_t low = 0, high = dots->n;

	while (low < high) {
		size_t mid = low + (high - low) / 2;
		int order = evfs_dot_cmp(dots->items[mid], dot);

		if (order == 0)
			return true;
		if (order < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return false;
}

const char *evfs_kind_text(enum evfs_kind kind)
{
	switch (kind) {
	case EVFS_KIND_FILE:
		return "file";
	case EVFS_KIND_DIR:
		return "dir";
	case EVFS_KIND_SYMLINK:
		return "symlink";
	case EVFS_KIND_FIFO:
		return "fifo";
	case EVFS_KIND_SOCKET:
		return "socket";
	case EVFS_KIND_CHARDEV:
		return "chardev";
	case EVFS_KIND_BLOCKDEV:
		return "blockdev";
	}
	return "unknown";
}
