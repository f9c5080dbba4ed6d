/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Attributes of nodes: what stat(2) shows, and registers set. Meta locked in
 * all functions. */
#ifndef EVFS_FS_ATTR_H
#define EVFS_FS_ATTR_H

#include <sys/stat.h>

#include "base/buf.h"
#include "fs/fs_priv.h"

/* A number for an object, stable across replicas and mounts; 1 is the root. */
uint64_t evfs_attr_ino(evfs_ino ino);
/* The same for what an entry shows: a sibling has one of its own. */
uint64_t evfs_attr_entry_ino(const struct evfs_entry *entry);

/* What stat(2) shows of what an entry shows, as node. */
int evfs_attr_entry(struct evfs_fs *fs, struct evfs_node *node,
		    const struct evfs_entry *entry, struct stat *ret,
		    struct evfs_err *err) EVFS_MUST_USE;
/* The same for a node alone (not VIRTUAL). */
int evfs_attr_node(struct evfs_fs *fs, struct evfs_node *node,
		   struct stat *ret, struct evfs_err *err) EVFS_MUST_USE;

/* Sets one register of all that the node shows. */
int evfs_attr_set(struct evfs_fs *fs, struct evfs_node *node,
		  const struct evfs_attr *attr, struct evfs_err *err)
	EVFS_MUST_USE;

/* The object whose attributes the node shows. */
evfs_ino evfs_attr_object(struct evfs_fs *fs, struct evfs_node *node);

/* Value of an extended attribute of an object; borrowed until unlock.
 * EVFS_ENODATA. */
int evfs_attr_get_xattr(struct evfs_fs *fs, evfs_ino ino, const char *name,
			const void **ret, size_t *ret_len,
			struct evfs_err *err) EVFS_MUST_USE;

/* The directory and entry by which a node is shown; for files, symlinks and
 * others. ENOENT where nothing shows it. */
int evfs_attr_find(struct evfs_fs *fs, struct evfs_node *node,
		   evfs_ino *ret_dir, struct evfs_entry *ret,
		   struct evfs_err *err) EVFS_MUST_USE;

#endif
