/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Stores for tests: in a fresh directory or in memory, under a clock that the
 * test sets; and objects made by hand. All functions assert success. */
#ifndef EVFS_TESTS_UNIT_STORE_WORLD_H
#define EVFS_TESTS_UNIT_STORE_WORLD_H

#include <stdbool.h>
#include <stdint.h>

#include "base/env.h"
#include "meta/facts.h"
#include "meta/meta.h"
#include "meta/object.h"

/* Wall time of every store of this program; monotonic time is real. */
extern uint64_t store_now_ns;
const struct evfs_env *store_env(void);

/* A fresh temporary directory; removed by store_remove_dir. */
char *store_make_dir(void);
void store_remove_dir(char *dir);
/* "DIR/name"; to be freed. */
char *store_path(const char *dir, const char *name);

/* What a new store is made of; `who` makes key and node. */
struct evfs_meta_new store_fresh(const char *path, unsigned who);
uint64_t store_node(unsigned who);

struct evfs_meta *store_memory(unsigned who);
struct evfs_meta *store_create(const char *path, unsigned who);
struct evfs_meta *store_open(const char *path);

/* A dot of this store; locked. */
evfs_dot store_dot(struct evfs_meta *meta);
/* A symlink with one live link, not stored yet: simple, and without content.
 * Its dot is of this store; locked. */
struct evfs_object *store_symlink(struct evfs_meta *meta, evfs_ino parent,
				  const char *name);
struct evfs_object *store_directory(struct evfs_meta *meta, evfs_ino parent,
				    const char *name);
/* Makes and stores one through the index, locking; returns its ino. */
evfs_ino store_put_symlink(struct evfs_meta *meta, const char *name);
/* Sets the mode of an object: one more dot on it. Locks. */
void store_chmod(struct evfs_meta *meta, evfs_ino ino, uint32_t mode);
bool store_has(struct evfs_meta *meta, evfs_ino ino); /* locks */
/* The dump, as a string to be freed. */
char *store_dump(struct evfs_meta *meta);
/* This replica's own row of its durable context. */
uint64_t store_durable_counter(struct evfs_meta *meta);

#endif
