/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A store in memory whose objects a test makes by hand: any state that facts
 * can be in, also those that no operation writes. */
#ifndef EVFS_TESTS_UNIT_VIEW_WORLD_H
#define EVFS_TESTS_UNIT_VIEW_WORLD_H

#include <stdbool.h>
#include <stdint.h>

#include "meta/meta.h"
#include "meta/object.h"
#include "meta/view.h"

struct world {
	struct evfs_meta *meta; /* owned; locked all the time */
	uint64_t counter;       /* last one used, of all actors */
	uint64_t clock;         /* last time used */
};

void world_open(struct world *world);
void world_close(struct world *world);

/* The next dot of replica `who` (1 to 3), and a stamp with it. */
evfs_dot world_dot(struct world *world, uint64_t who);
evfs_stamp world_stamp(struct world *world, uint64_t who);

/* A copy of the object as it is stored, or a new one. */
struct evfs_object *world_edit(struct world *world, evfs_ino ino,
			       enum evfs_kind kind);

/* All of these assert success. Names are C strings. The dots come from
 * replica `who`. */
void world_link(struct world *world, struct evfs_object *object, uint64_t who,
		evfs_ino parent, const char *name);
/* Link i of the object moves (its origin is where it was, unless given). */
void world_move(struct world *world, struct evfs_object *object, size_t i,
		uint64_t who, evfs_ino parent, const evfs_ino *origin,
		const char *name);
void world_alive(struct world *world, struct evfs_object *object, size_t i,
		 uint64_t who, bool alive);
evfs_dot world_version(struct world *world, struct evfs_object *object,
		       uint64_t who, const char *content);
void world_mode(struct world *world, struct evfs_object *object, uint64_t who,
		uint32_t mode, bool saw);
/* Puts one object; it is the store's then. */
void world_put(struct world *world, struct evfs_object *object);

/* In one go: a file, a directory, a symlink; returns its ino. */
evfs_ino world_file(struct world *world, uint64_t who, evfs_ino parent,
		    const char *name, const char *content);
evfs_ino world_dir(struct world *world, uint64_t who, evfs_ino parent,
		   const char *name);
evfs_ino world_symlink(struct world *world, uint64_t who, evfs_ino parent,
		       const char *name, const char *target);

/* Asserts that the index equals the reference. */
void world_check(struct world *world);
/* The names in a directory, "a b c"; "-" where it cannot be listed. To be
 * freed. */
char *world_names(struct world *world, const char *path);

#endif
