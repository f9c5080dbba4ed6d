/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What is generated below /.evfs: status.json, conflicts/ and history/. Found
 * by name only, never listed, read-only, made anew at each lookup. */
#ifndef EVFS_FS_EVFS_DIR_H
#define EVFS_FS_EVFS_DIR_H

#include <stdbool.h>

#include "fs/fs_priv.h"

#define EVFS_DIR_NAME ".evfs"

struct evfs_virtual;

void evfs_virtual_free(struct evfs_virtual *virt); /* NULL is fine */
bool evfs_virtual_is_same(const struct evfs_virtual *a,
			  const struct evfs_virtual *b);

/* Is it the name of all this, in the root? */
bool evfs_virtual_is_entry(const struct evfs_node *parent, const char *name);

/* The operations; node is VIRTUAL (lookup: or the root, for ".evfs"). Each
 * answers the request. */
void evfs_virtual_lookup(fuse_req_t req, struct evfs_node *parent,
			 const char *name);
void evfs_virtual_getattr(fuse_req_t req, struct evfs_node *node);
void evfs_virtual_open(fuse_req_t req, const struct evfs_node *node,
		       struct fuse_file_info *fi);
void evfs_virtual_read(fuse_req_t req, struct evfs_node *node, size_t size,
		       off_t offset);
void evfs_virtual_opendir(fuse_req_t req, struct evfs_node *node,
			  struct fuse_file_info *fi);
void evfs_virtual_readdir(fuse_req_t req, struct evfs_node *node, size_t size,
			  off_t offset, struct fuse_file_info *fi, bool plus);
void evfs_virtual_releasedir(fuse_req_t req, struct evfs_node *node,
			     struct fuse_file_info *fi);

#endif
