/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Set-ID bits, which a file loses when it is written, cut or given away.
 *
 * It is agreed with the kernel (FUSE_HANDLE_KILLPRIV_V2) that this side takes
 * them. Then the kernel keeps in mind, while a file's attributes are valid,
 * that a write to it takes nothing away; else it asks for the attribute
 * security.capability, by a message, before each write(2). */
#ifndef EVFS_FS_PRIVS_H
#define EVFS_FS_PRIVS_H

#include "fs/fs_priv.h"

/* In the answer to the kernel's first message: call it from .init. */
void evfs_privs_agree(struct evfs_fs *fs, struct fuse_conn_info *conn);

/* At a SETATTR with these bits (FUSE_SET_ATTR_...), before they are set: takes
 * away what it takes. Meta locked. */
int evfs_privs_set_attr(struct evfs_fs *fs, fuse_req_t req,
			struct evfs_node *node, int to_set,
			struct evfs_err *err) EVFS_MUST_USE;

/* After a write, fallocate or open(2) with O_TRUNC: likewise, and the kernel is
 * told. No lock. */
int evfs_privs_written(struct evfs_fs *fs, fuse_req_t req,
		       struct evfs_node *node, struct evfs_err *err)
	EVFS_MUST_USE;

#endif
