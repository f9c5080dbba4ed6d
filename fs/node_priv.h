/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Between fs/node.c (full forms: how they come and go) and fs/node_find.c
 * (which node is meant). */
#ifndef EVFS_FS_NODE_PRIV_H
#define EVFS_FS_NODE_PRIV_H

#include "fs/fs_priv.h"
#include "fs/node.h"

/* A full form that nobody has yet; NULL: no memory. free: closes no handle. */
struct evfs_node *evfs_node_full_new(enum evfs_node_type type,
				     enum evfs_kind kind, evfs_ino key);
void evfs_node_full_free(struct evfs_node *node);

/* Table locked (of a file meta, too): makes it the full form of a record. */
void evfs_node_full_set(struct evfs_nodes *nodes, uint32_t at,
			struct evfs_node *node);

/* Meta locked, the table not: the full form of a node, made where there is
 * none; without a pin. ENOTFOUND: there is no such node. */
int evfs_node_full(struct evfs_fs *fs, uint64_t id, struct evfs_node **ret,
		   struct evfs_err *err) EVFS_MUST_USE;

/* Who asks for the tree (struct evfs_tree_holder). */
extern const struct evfs_tree_holder evfs_node_holder;

#endif
