/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The Merkle tree made from nothing but the objects, to compare with. */
#ifndef EVFS_TESTS_LIB_REFMERKLE_H
#define EVFS_TESTS_LIB_REFMERKLE_H

#include <stdbool.h>

#include "base/buf.h"
#include "meta/meta.h"

/* Is the tree of the store what its objects give, at all levels, and its root
 * the root hash? Commits, with meta unlocked. What is wrong goes into why. */
bool refmerkle_check(struct evfs_meta *meta, struct evfs_buf *why);

#endif
