/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What the files of the object share: total orders of its parts, and copying
 * parts into an arena. For meta/object*.c and meta/merge.c only. */
#ifndef EVFS_META_OBJECT_PRIV_H
#define EVFS_META_OBJECT_PRIV_H

#include "meta/object.h"

/* Total orders over everything in a part: 0 only for equal parts. */
int evfs_dots_order(const struct evfs_dots *a, const struct evfs_dots *b);
int evfs_place_order(const struct evfs_place *a, const struct evfs_place *b);
int evfs_version_order(const struct evfs_version *a,
		       const struct evfs_version *b);
int evfs_attr_order(const struct evfs_attr *a, const struct evfs_attr *b);
int evfs_tie_order(const struct evfs_tie *a, const struct evfs_tie *b);
int evfs_extra_order(const struct evfs_extra *a, const struct evfs_extra *b);
/* Shorter first where one begins like the other. */
int evfs_bytes_order(const void *a, size_t a_len, const void *b, size_t b_len);

/* Order of attrs within an object: (kind, key). */
int evfs_attr_key_order(enum evfs_attr_kind a_kind, const void *a_key,
			size_t a_len, enum evfs_attr_kind b_kind,
			const void *b_key, size_t b_len);

/* A new object whose arena has room for `bytes` bytes at once. */
struct evfs_object *evfs_object_new_sized(evfs_ino ino, enum evfs_kind kind,
					  size_t bytes);
/* Arena bytes that a copy needs. */
size_t evfs_object_footprint(const struct evfs_object *object);
/* What an array of n elements takes of an arena. */
size_t evfs_object_array_bytes(size_t n, size_t size);

/* *to becomes a copy of *from with all that it points to in the arena. 0 or
 * EVFS_ENOMEM. to and from may be the same. */
int evfs_dots_copy(struct evfs_arena *arena, struct evfs_dots *to,
		   const struct evfs_dots *from) EVFS_MUST_USE;
int evfs_bytes_copy(struct evfs_arena *arena, const uint8_t **to,
		    const uint8_t *from, size_t len) EVFS_MUST_USE;
int evfs_place_copy(struct evfs_arena *arena, struct evfs_place *to,
		    const struct evfs_place *from) EVFS_MUST_USE;
int evfs_link_copy(struct evfs_arena *arena, struct evfs_link *to,
		   const struct evfs_link *from) EVFS_MUST_USE;
int evfs_version_copy(struct evfs_arena *arena, struct evfs_version *to,
		      const struct evfs_version *from) EVFS_MUST_USE;
int evfs_attr_copy(struct evfs_arena *arena, struct evfs_attr *to,
		   const struct evfs_attr *from) EVFS_MUST_USE;
int evfs_tie_copy(struct evfs_arena *arena, struct evfs_tie *to,
		  const struct evfs_tie *from) EVFS_MUST_USE;
int evfs_extra_copy(struct evfs_arena *arena, struct evfs_extra *to,
		    const struct evfs_extra *from) EVFS_MUST_USE;

#endif
