/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The life of an object, copying, and editing of a private copy.
 *
 * All memory of an object, the struct itself included, lies in its arena: a
 * copy reserves one block of the right size, and an edit takes what it needs
 * behind. What an edit replaces stays behind as waste until the object is
 * freed or copied, which is soon: an edit is a step of one operation. */
#include "meta/object_priv.h"

#include <assert.h>
#include <string.h>

/* Room for the edit that a copy is usually made for. */
#define OBJECT_SLACK 128

#define OBJECT_ALIGN ((size_t)16)

size_t evfs_object_array_bytes(size_t n, size_t size)
{
	return (n * size + OBJECT_ALIGN - 1) & ~(OBJECT_ALIGN - 1);
}

struct evfs_object *evfs_object_new_sized(evfs_ino ino, enum evfs_kind kind,
					  size_t bytes)
{
	struct evfs_arena arena = { 0 };
	struct evfs_object *object;

	bytes += evfs_object_array_bytes(1, sizeof(*object));
	if (evfs_arena_reserve(&arena, bytes) != 0)
		return NULL;
	object = evfs_arena_alloc(&arena, 1, sizeof(*object));
	assert(object != NULL); /* has just been reserved */
	object->ino = ino;
	object->kind = kind;
	object->arena = arena;
	return object;
}

struct evfs_object *evfs_object_new(evfs_ino ino, enum evfs_kind kind)
{
	return evfs_object_new_sized(ino, kind, 6 * OBJECT_SLACK);
}

void evfs_object_free(struct evfs_object *object)
{
	struct evfs_arena arena;

	if (object == NULL)
		return;
	arena = object->arena; /* the object goes with it */
	evfs_arena_fini(&arena);
}

/* ---- parts ---- */

int evfs_dots_copy(struct evfs_arena *arena, struct evfs_dots *to,
		   const struct evfs_dots *from)
{
	struct evfs_dots copy = { NULL, from->n };

	if (copy.n > 0) {
		copy.items = evfs_arena_memdup(arena, from->items,
					       copy.n * sizeof(*copy.items));
		if (copy.items == NULL)
			return EVFS_ENOMEM;
	}
	*to = copy;
	return 0;
}

int evfs_bytes_copy(struct evfs_arena *arena, const uint8_t **to,
		    const uint8_t *from, size_t len)
{
	const uint8_t *copy = NULL;

	if (len > 0) {
		copy = evfs_arena_memdup(arena, from, len);
		if (copy == NULL)
			return EVFS_ENOMEM;
	}
	*to = copy;
	return 0;
}

int evfs_place_copy(struct evfs_arena *arena, struct evfs_place *to,
		    const struct evfs_place *from)
{
	struct evfs_place copy = *from;
	int rc = evfs_bytes_copy(arena, &copy.name, from->name, from->name_len);

	if (rc == 0)
		*to = copy;
	return rc;
}

int evfs_link_copy(struct evfs_arena *arena, struct evfs_link *to,
		   const struct evfs_link *from)
{
	struct evfs_link copy = *from;
	int rc = evfs_place_copy(arena, &copy.place, &from->place);

	if (rc == 0)
		rc = evfs_dots_copy(arena, &copy.alive, &from->alive);
	if (rc == 0)
		*to = copy;
	return rc;
}

int evfs_version_copy(struct evfs_arena *arena, struct evfs_version *to,
		      const struct evfs_version *from)
{
	struct evfs_version copy = *from;
	int rc = evfs_dots_copy(arena, &copy.bases, &from->bases);

	if (rc == 0)
		*to = copy;
	return rc;
}

int evfs_attr_copy(struct evfs_arena *arena, struct evfs_attr *to,
		   const struct evfs_attr *from)
{
	struct evfs_attr copy = *from;
	int rc = evfs_dots_copy(arena, &copy.saw, &from->saw);

	if (from->kind != EVFS_ATTR_XATTR) {
		copy.key = NULL;
		copy.key_len = 0;
	} else if (rc == 0) {
		rc = evfs_bytes_copy(arena, &copy.key, from->key,
				     from->key_len);
		if (rc == 0)
			rc = evfs_bytes_copy(arena, &copy.value.xattr.data,
					     from->value.xattr.data,
					     from->value.xattr.len);
	}
	if (rc == 0)
		*to = copy;
	return rc;
}

int evfs_tie_copy(struct evfs_arena *arena, struct evfs_tie *to,
		  const struct evfs_tie *from)
{
	struct evfs_tie copy = *from;

	copy.ends = evfs_arena_memdup(arena, from->ends,
				      from->n * sizeof(*from->ends));
	if (copy.ends == NULL)
		return EVFS_ENOMEM;
	*to = copy;
	return 0;
}

int evfs_extra_copy(struct evfs_arena *arena, struct evfs_extra *to,
		    const struct evfs_extra *from)
{
	struct evfs_extra copy = *from;
	int rc = evfs_bytes_copy(arena, &copy.data, from->data, from->len);

	if (rc == 0)
		*to = copy;
	return rc;
}

/* ---- copying ---- */

static size_t dots_bytes(const struct evfs_dots *dots)
{
	return evfs_object_array_bytes(dots->n, sizeof(*dots->items));
}

size_t evfs_object_footprint(const struct evfs_object *object)
{
	size_t bytes = evfs_object_array_bytes(object->target_len, 1);

	bytes += evfs_object_array_bytes(object->n_links,
					 sizeof(*object->links));
	for (size_t i = 0; i < object->n_links; i++) {
		const struct evfs_link *link = &object->links[i];

		bytes += evfs_object_array_bytes(link->place.name_len, 1) +
			 dots_bytes(&link->alive);
	}
	bytes += evfs_object_array_bytes(object->n_versions,
					 sizeof(*object->versions));
	for (size_t i = 0; i < object->n_versions; i++)
		bytes += dots_bytes(&object->versions[i].bases);
	bytes += evfs_object_array_bytes(object->n_attrs,
					 sizeof(*object->attrs));
	for (size_t i = 0; i < object->n_attrs; i++) {
		const struct evfs_attr *attr = &object->attrs[i];

		bytes += dots_bytes(&attr->saw);
		if (attr->kind == EVFS_ATTR_XATTR)
			bytes += evfs_object_array_bytes(attr->key_len, 1) +
				 evfs_object_array_bytes(attr->value.xattr.len,
							 1);
	}
	bytes += evfs_object_array_bytes(object->n_log, sizeof(*object->log));
	bytes += evfs_object_array_bytes(object->n_ties, sizeof(*object->ties));
	for (size_t i = 0; i < object->n_ties; i++)
		bytes += evfs_object_array_bytes(object->ties[i].n,
						 sizeof(*object->ties[i].ends));
	bytes += evfs_object_array_bytes(object->n_extras,
					 sizeof(*object->extras));
	for (size_t i = 0; i < object->n_extras; i++)
		bytes += evfs_object_array_bytes(object->extras[i].len, 1);
	return bytes;
}

/* An array of n elements in the arena, NULL for none; *failed is set when
 * there is no memory. */
static void *object_array(struct evfs_object *object, size_t n, size_t size,
			  bool *failed)
{
	void *items = NULL;

	if (n > 0) {
		items = evfs_arena_alloc(&object->arena, n, size);
		*failed |= items == NULL;
	}
	return items;
}

static int object_copy_arrays(struct evfs_object *to,
			      const struct evfs_object *from)
{
	bool failed = false;

	to->links =
		object_array(to, from->n_links, sizeof(*to->links), &failed);
	to->versions = object_array(to, from->n_versions, sizeof(*to->versions),
				    &failed);
	to->attrs =
		object_array(to, from->n_attrs, sizeof(*to->attrs), &failed);
	to->log = object_array(to, from->n_log, sizeof(*to->log), &failed);
	to->ties = object_array(to, from->n_ties, sizeof(*to->ties), &failed);
	to->extras =
		object_array(to, from->n_extras, sizeof(*to->extras), &failed);
	return failed ? EVFS_ENOMEM : 0;
}

static int object_copy_into(struct evfs_object *to,
			    const struct evfs_object *from)
{
	struct evfs_arena *arena = &to->arena;
	int rc = object_copy_arrays(to, from);

	to->rdev = from->rdev;
	to->change_ns = from->change_ns;
	if (rc == 0)
		rc = evfs_object_set_target(to, from->target, from->target_len);
	for (size_t i = 0; rc == 0 && i < from->n_links; i++)
		rc = evfs_link_copy(arena, &to->links[i], &from->links[i]);
	for (size_t i = 0; rc == 0 && i < from->n_versions; i++)
		rc = evfs_version_copy(arena, &to->versions[i],
				       &from->versions[i]);
	for (size_t i = 0; rc == 0 && i < from->n_attrs; i++)
		rc = evfs_attr_copy(arena, &to->attrs[i], &from->attrs[i]);
	for (size_t i = 0; rc == 0 && i < from->n_ties; i++)
		rc = evfs_tie_copy(arena, &to->ties[i], &from->ties[i]);
	for (size_t i = 0; rc == 0 && i < from->n_extras; i++)
		rc = evfs_extra_copy(arena, &to->extras[i], &from->extras[i]);
	if (rc != 0)
		return rc;
	if (from->n_log > 0)
		memcpy(to->log, from->log, from->n_log * sizeof(*to->log));
	to->n_links = from->n_links;
	to->n_versions = from->n_versions;
	to->n_attrs = from->n_attrs;
	to->n_log = from->n_log;
	to->n_ties = from->n_ties;
	to->n_extras = from->n_extras;
	return 0;
}

struct evfs_object *evfs_object_copy(const struct evfs_object *object)
{
	size_t bytes = evfs_object_footprint(object) + OBJECT_SLACK;
	struct evfs_object *copy;

	copy = evfs_object_new_sized(object->ino, object->kind, bytes);
	if (copy != NULL && object_copy_into(copy, object) != 0) {
		evfs_object_free(copy);
		return NULL;
	}
	return copy;
}

/* ---- editing ---- */

/* The array with a free place at index `at`; NULL when out of memory. */
static void *object_insert(struct evfs_object *object, const void *items,
			   size_t n, size_t at, size_t size)
{
	uint8_t *array = evfs_arena_alloc(&object->arena, n + 1, size);

	if (array == NULL)
		return NULL;
	if (at > 0)
		memcpy(array, items, at * size);
	if (at < n)
		memcpy(array + (at + 1) * size,
		       (const uint8_t *)items + at * size, (n - at) * size);
	return array;
}

int evfs_object_log_raise(struct evfs_object *object, evfs_dot dot)
{
	struct evfs_log_row *log;
	size_t at = 0;

	while (at < object->n_log &&
	       evfs_actor_cmp(object->log[at].actor, dot.actor) < 0)
		at++;
	if (at < object->n_log &&
	    evfs_actor_cmp(object->log[at].actor, dot.actor) == 0) {
		if (object->log[at].counter < dot.counter)
			object->log[at].counter = dot.counter;
		return 0;
	}
	log = object_insert(object, object->log, object->n_log, at,
			    sizeof(*log));
	if (log == NULL)
		return EVFS_ENOMEM;
	log[at] = (struct evfs_log_row){ dot.actor, dot.counter };
	object->log = log;
	object->n_log++;
	return 0;
}

int evfs_object_add_link(struct evfs_object *object,
			 const struct evfs_link *link)
{
	struct evfs_link *links, copy;
	size_t at = 0;
	int rc = evfs_link_copy(&object->arena, &copy, link);

	if (rc != 0)
		return rc;
	while (at < object->n_links &&
	       evfs_stamp_cmp(&object->links[at].id, &link->id) < 0)
		at++;
	if (at < object->n_links &&
	    evfs_stamp_cmp(&object->links[at].id, &link->id) == 0) {
		object->links[at] = copy;
		return 0;
	}
	links = object_insert(object, object->links, object->n_links, at,
			      sizeof(*links));
	if (links == NULL)
		return EVFS_ENOMEM;
	links[at] = copy;
	object->links = links;
	object->n_links++;
	return 0;
}

int evfs_object_set_place(struct evfs_object *object, struct evfs_link *link,
			  const struct evfs_place *place)
{
	return evfs_place_copy(&object->arena, &link->place, place);
}

int evfs_object_set_alive(struct evfs_object *object, struct evfs_link *link,
			  const evfs_dot *dot)
{
	struct evfs_dots alive = { NULL, 0 };
	int rc = 0;

	if (dot != NULL) {
		evfs_dot item = *dot;
		struct evfs_dots one = { &item, 1 };

		rc = evfs_dots_copy(&object->arena, &alive, &one);
	}
	if (rc == 0)
		link->alive = alive;
	return rc;
}

int evfs_object_put_version(struct evfs_object *object,
			    const struct evfs_version *version)
{
	struct evfs_version *versions, copy;
	size_t at = 0;
	int rc = evfs_version_copy(&object->arena, &copy, version);

	if (rc != 0)
		return rc;
	while (at < object->n_versions &&
	       evfs_dot_cmp(object->versions[at].dot, version->dot) < 0)
		at++;
	if (at < object->n_versions &&
	    evfs_dot_equal(object->versions[at].dot, version->dot)) {
		object->versions[at] = copy;
		return 0;
	}
	versions = object_insert(object, object->versions, object->n_versions,
				 at, sizeof(*versions));
	if (versions == NULL)
		return EVFS_ENOMEM;
	versions[at] = copy;
	object->versions = versions;
	object->n_versions++;
	return 0;
}

void evfs_object_remove_version(struct evfs_object *object, evfs_dot dot)
{
	struct evfs_version *version = evfs_object_find_version(object, dot);
	size_t at;

	if (version == NULL)
		return;
	at = (size_t)(version - object->versions);
	object->n_versions--;
	memmove(version, version + 1,
		(object->n_versions - at) * sizeof(*version));
}

int evfs_object_put_attr(struct evfs_object *object,
			 const struct evfs_attr *attr)
{
	struct evfs_attr *attrs, copy;
	size_t at = 0;
	int order = -1;
	int rc = evfs_attr_copy(&object->arena, &copy, attr);

	if (rc != 0)
		return rc;
	for (; at < object->n_attrs; at++) {
		const struct evfs_attr *old = &object->attrs[at];

		order = evfs_attr_key_order(old->kind, old->key, old->key_len,
					    copy.kind, copy.key, copy.key_len);
		if (order >= 0)
			break;
	}
	if (at < object->n_attrs && order == 0) {
		object->attrs[at] = copy;
		return 0;
	}
	attrs = object_insert(object, object->attrs, object->n_attrs, at,
			      sizeof(*attrs));
	if (attrs == NULL)
		return EVFS_ENOMEM;
	attrs[at] = copy;
	object->attrs = attrs;
	object->n_attrs++;
	return 0;
}

int evfs_object_put_tie(struct evfs_object *object, const struct evfs_tie *tie)
{
	struct evfs_tie *ties, copy;
	size_t at = 0;
	int rc = evfs_tie_copy(&object->arena, &copy, tie);

	if (rc != 0)
		return rc;
	while (at < object->n_ties &&
	       evfs_dot_cmp(object->ties[at].dot, tie->dot) < 0)
		at++;
	if (at < object->n_ties &&
	    evfs_dot_equal(object->ties[at].dot, tie->dot)) {
		object->ties[at] = copy;
		return 0;
	}
	ties = object_insert(object, object->ties, object->n_ties, at,
			     sizeof(*ties));
	if (ties == NULL)
		return EVFS_ENOMEM;
	ties[at] = copy;
	object->ties = ties;
	object->n_ties++;
	return 0;
}

int evfs_object_set_target(struct evfs_object *object, const void *target,
			   size_t len)
{
	int rc = evfs_bytes_copy(&object->arena, &object->target, target, len);

	if (rc == 0)
		object->target_len = len;
	return rc;
}
