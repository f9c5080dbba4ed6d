/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Replicas in memory under one virtual clock, with file operations by path:
 * what a user of the mount would do, without a mount. For tests of the tree
 * operations and of what two replicas make of each other's facts.
 *
 * Contents are short texts ("tags") of which only the hash is stored. All
 * functions that return int give 0 or a negative EVFS_E... code; running out
 * of memory ends the program. */
#ifndef EVFS_TESTS_LIB_REPLICA_H
#define EVFS_TESTS_LIB_REPLICA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/env.h"
#include "base/err.h"
#include "meta/delta.h"
#include "meta/meta.h"
#include "meta/tree.h"
#include "meta/view.h"

#define TEST_REPLICAS_MAX 4

struct test_world {
	struct evfs_env env; /* of all replicas; ctx is this world */
	uint64_t now_ns;     /* wall and monotonic time */
	uint64_t random;     /* state of the generator */
	struct test_tag *tags; /* owned: contents by hash */
	size_t n_tags, cap_tags;
};

struct test_open {
	struct evfs_handle handle; /* registered */
	struct test_open *next;    /* the next younger */
};

struct test_replica {
	struct test_world *world;
	char name[2];            /* "A" to "D" */
	struct evfs_meta *meta;  /* owned */
	evfs_dot *cloud;         /* owned; sorted: rows of what was taken in */
	size_t n_cloud, cap_cloud;
	struct test_open *open;  /* owned; the oldest first */
	char **listed;           /* owned; names for rmlist, in its order */
	size_t n_listed, cap_listed;
	struct evfs_err err;     /* of the last operation */
};

void test_world_init(struct test_world *world);
void test_world_fini(struct test_world *world);
void test_world_tick(struct test_world *world); /* one second */

/* The reference of a content; its text by hash ("?" where unknown). */
struct evfs_content_ref test_content(struct test_world *world,
				     const char *tag);
const char *test_tag_of(const struct test_world *world,
			const evfs_hash *content);

/* names: "A" to "D"; each knows all of them. Node ids are in the order of the
 * names. */
void test_replica_open(struct test_replica *replica, struct test_world *world,
		       const char *name);
void test_replica_close(struct test_replica *replica);

/* The directory and last name of a path, and what is there. "/" has no name:
 * EVFS_EINVAL. */
struct test_path {
	evfs_ino dir;
	const char *name; /* borrowed from the path */
	size_t len;
};
int test_path_find(struct test_replica *replica, const char *path,
		   struct test_path *ret);
int test_path_entry(struct test_replica *replica, const char *path,
		    struct evfs_entry *ret);

int test_create(struct test_replica *replica, const char *path,
		const char *tag);
int test_make(struct test_replica *replica, const char *path,
	      enum evfs_kind kind, const char *target);
int test_write(struct test_replica *replica, const char *path,
	       const char *tag);
int test_open(struct test_replica *replica, const char *path,
	      struct evfs_handle *handle);
int test_seal(struct test_replica *replica, struct evfs_handle *handle,
	      const char *tag);
void test_close(struct test_replica *replica, struct evfs_handle *handle);
int test_link(struct test_replica *replica, const char *path,
	      const char *new_path);
int test_unlink(struct test_replica *replica, const char *path);
int test_rmdir(struct test_replica *replica, const char *path);
int test_rename(struct test_replica *replica, const char *path,
		const char *new_path, unsigned flags);
int test_chmod(struct test_replica *replica, const char *path, uint32_t mode);
int test_setxattr(struct test_replica *replica, const char *path,
		  const char *key, const char *value);
/* Remembers the names below a path, and the path, as rm -rf reads them. */
int test_list(struct test_replica *replica, const char *path);
/* Removes what was listed, whatever has happened meanwhile. */
int test_rmlist(struct test_replica *replica);
int test_rm_rf(struct test_replica *replica, const char *path);

/* A delta exchange; cut < 0: complete, else the line goes dead after that many
 * groups. */
int test_delta(struct test_replica *to, struct test_replica *from, long cut);
/* This member does not play: it is removed, so nobody waits for it. */
int test_without(struct test_replica *replica, const char *name);
/* A whole pass of the collector. An exchange tells both sides what the other
 * has on disk. */
int test_collect(struct test_replica *replica);

/* The tree as sorted lines of the caller (test_lines_free):
 * PATH KIND CONTENT MODE SIBLING-OF ATTRIBUTES. Digits of generated names are
 * masked. */
struct test_lines {
	char **items;
	size_t n, cap;
};
int test_tree_lines(struct test_replica *replica, struct test_lines *ret);
void test_lines_add(struct test_lines *lines, char *line); /* takes it */
void test_lines_sort(struct test_lines *lines);
void test_lines_free(struct test_lines *lines);
/* Masks the digits of generated names, in place. */
void test_mask(char *path);

/* The path that has this masked form and content, or, with sibling true, the
 * sibling of the plain path with that content; of the caller, NULL = none. */
char *test_find_path(struct test_replica *replica, const char *path,
		     const char *content, bool sibling);

#endif
