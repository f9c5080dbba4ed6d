/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What the tests of the tree operations share: two replicas under one clock.
 */
#ifndef EVFS_TESTS_UNIT_TEST_TREE_H
#define EVFS_TESTS_UNIT_TEST_TREE_H

#include <check.h>

#include "tests/lib/replica.h"

extern struct test_world world;
extern struct test_replica a, b;

void tree_setup(void);
void tree_teardown(void);

/* Exchanges until both have everything. */
void tree_sync(void);
/* Both replicas write to one file without seeing each other, then meet: B's
 * content has the name, A's is the sibling. */
void tree_conflict(const char *path, const char *a_tag, const char *b_tag);
/* The path of the sibling with this content; of the caller. */
char *tree_sibling(struct test_replica *replica, const char *plain,
		   const char *tag);
/* Are these, and no others, the lines of the tree (see test_tree_lines)? Ends
 * with NULL. */
void tree_expect(struct test_replica *replica, ...)
	__attribute__((sentinel));

/* Directories that are shown only because something in them is. */
int64_t tree_zombies(struct test_replica *replica);

TCase *tree_rename_case(void);
TCase *tree_handle_case(void);

#endif
