/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The operations, by theme. Each answers its request exactly once, with no
 * lock held. */
#ifndef EVFS_FS_OPS_H
#define EVFS_FS_OPS_H

#include "fs/fs_priv.h"

/* The table for libfuse (fs/ops.c). */
extern const struct fuse_lowlevel_ops evfs_ops;

/* ops_lookup.c */
void evfs_op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name);
void evfs_op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t nlookup);
void evfs_op_forget_multi(fuse_req_t req, size_t count,
			  struct fuse_forget_data *forgets);
void evfs_op_getattr(fuse_req_t req, fuse_ino_t ino,
		     struct fuse_file_info *fi);
void evfs_op_readlink(fuse_req_t req, fuse_ino_t ino);
void evfs_op_statfs(fuse_req_t req, fuse_ino_t ino);

/* What a name shows, as an answer: finds or makes the node, one reference of
 * which goes to the kernel with *ret. Meta locked. On failure *ret_forget is
 * an id to be forgotten once by the caller without the lock, or 0. */
int evfs_op_entry(struct evfs_fs *fs, evfs_ino dir,
		  const struct evfs_entry *entry, struct fuse_entry_param *ret,
		  struct evfs_node **ret_node, uint64_t *ret_forget,
		  struct evfs_err *err) EVFS_MUST_USE;
/* Answers with it; takes the reference back if the kernel did not get it. */
void evfs_op_reply_entry(fuse_req_t req, const struct fuse_entry_param *param);
/* How long the kernel may keep a name of this kind. */
double evfs_op_timeout(const char *name, size_t len, bool is_sibling);

/* ops_setattr.c; truncated: a file was cut by its name: where nobody has it
 * open, its writer is done (ops_file.c) */
int evfs_op_truncated(struct evfs_fs *fs, struct evfs_node *node,
		      uint64_t size, struct evfs_err *err) EVFS_MUST_USE;
void evfs_op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr,
		     int to_set, struct fuse_file_info *fi);

/* ops_dir.c */
void evfs_op_opendir(fuse_req_t req, fuse_ino_t ino,
		     struct fuse_file_info *fi);
void evfs_op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
		     struct fuse_file_info *fi);
void evfs_op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size,
			 off_t offset, struct fuse_file_info *fi);
void evfs_op_releasedir(fuse_req_t req, fuse_ino_t ino,
			struct fuse_file_info *fi);
void evfs_op_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync,
		      struct fuse_file_info *fi);

/* This name vanished from the directory of this node id: whoever has it open may
 * go on from there. Any lock but leaves held. */
void evfs_op_name_gone(struct evfs_fs *fs, uint64_t dir, const char *name,
		       size_t len);

/* ops_file.c */
void evfs_op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void evfs_op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
		  struct fuse_file_info *fi);
void evfs_op_write(fuse_req_t req, fuse_ino_t ino, const char *buf,
		   size_t size, off_t offset, struct fuse_file_info *fi);
void evfs_op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void evfs_op_release(fuse_req_t req, fuse_ino_t ino,
		     struct fuse_file_info *fi);
void evfs_op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync,
		   struct fuse_file_info *fi);
void evfs_op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset,
		       off_t length, struct fuse_file_info *fi);
void evfs_op_lseek(fuse_req_t req, fuse_ino_t ino, off_t offset, int whence,
		   struct fuse_file_info *fi);
void evfs_op_copy_file_range(fuse_req_t req, fuse_ino_t ino_in,
			     off_t offset_in, struct fuse_file_info *fi_in,
			     fuse_ino_t ino_out, off_t offset_out,
			     struct fuse_file_info *fi_out, size_t len,
			     int flags);

/* ops_make.c */
void evfs_op_create(fuse_req_t req, fuse_ino_t parent, const char *name,
		    mode_t mode, struct fuse_file_info *fi);
void evfs_op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name,
		   mode_t mode, dev_t rdev);
void evfs_op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name,
		   mode_t mode);
void evfs_op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent,
		     const char *name);

/* ops_name.c */
void evfs_op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t new_parent,
		  const char *new_name);
void evfs_op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name);
void evfs_op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name);
void evfs_op_rename(fuse_req_t req, fuse_ino_t parent, const char *name,
		    fuse_ino_t new_parent, const char *new_name,
		    unsigned int flags);

/* ops_xattr.c */
void evfs_op_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name,
		      const char *value, size_t size, int flags);
void evfs_op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name,
		      size_t size);
void evfs_op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size);
void evfs_op_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name);

/* Sets the mode, and makes an access ACL follow. Meta locked. */
int evfs_op_set_mode(struct evfs_fs *fs, struct evfs_node *node, uint32_t mode,
		     struct evfs_err *err) EVFS_MUST_USE;

/* May the caller keep the set-group-ID bit of a file of this group? */
bool evfs_op_is_in_group(fuse_req_t req, gid_t gid);

/* A directory node by id, pinned: 0, or the request has been answered. */
int evfs_op_dir(fuse_req_t req, fuse_ino_t ino, const char *name,
		struct evfs_node **ret) EVFS_MUST_USE;

#endif
