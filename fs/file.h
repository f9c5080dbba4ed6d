/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A file node's data: what it shows, and its working copy. None of these
 * functions is called with a lock held. req: the request whose interrupt ends
 * a wait for content, or NULL. */
#ifndef EVFS_FS_FILE_H
#define EVFS_FS_FILE_H

#include "fs/fs_priv.h"

/* A reader of what is sealed, one reference for the caller; NULL where there
 * is nothing to read (empty, or never sealed). Waits for content. */
int evfs_file_reader(struct evfs_fs *fs, fuse_req_t req,
		     struct evfs_node *node, struct evfs_reader **ret,
		     struct evfs_err *err) EVFS_MUST_USE;

/* What a reader reads was found damaged (EVFS_ECORRUPT), and is wanted again:
 * waits until it has come from a member. 0: the same reader can read it. */
int evfs_file_heal(struct evfs_fs *fs, struct fuse_req *req,
		   const struct evfs_reader *damaged, struct evfs_err *err)
	EVFS_MUST_USE;

/* Up to len bytes at offset of what is sealed; what is damaged is healed. */
int evfs_file_read_sealed(struct evfs_fs *fs, fuse_req_t req,
			  struct evfs_reader *reader, void *data, size_t len,
			  uint64_t offset, size_t *ret_len,
			  struct evfs_err *err) EVFS_MUST_USE;

/* Up to len bytes at offset, from the working copy or what is sealed. */
int evfs_file_read(struct evfs_fs *fs, fuse_req_t req, struct evfs_node *node,
		   void *data, size_t len, uint64_t offset, size_t *ret_len,
		   struct evfs_err *err) EVFS_MUST_USE;
/* Has it a working copy now? Else *ret_reader as evfs_file_reader(). */
int evfs_file_source(struct evfs_fs *fs, fuse_req_t req,
		     struct evfs_node *node, bool *ret_work,
		     struct evfs_reader **ret_reader, struct evfs_err *err)
	EVFS_MUST_USE;

/* cached: the bytes come out of the kernel's cache, which tells their time by
 * itself; else it is now. */
int evfs_file_write(struct evfs_fs *fs, fuse_req_t req,
		    struct evfs_node *node, const void *data, size_t len,
		    uint64_t offset, bool cached, struct evfs_err *err)
	EVFS_MUST_USE;
int evfs_file_truncate(struct evfs_fs *fs, fuse_req_t req,
		       struct evfs_node *node, uint64_t size,
		       struct evfs_err *err) EVFS_MUST_USE;
/* fallocate(2); mode as there. */
int evfs_file_allocate(struct evfs_fs *fs, fuse_req_t req,
		       struct evfs_node *node, int mode, uint64_t offset,
		       uint64_t len, struct evfs_err *err) EVFS_MUST_USE;
/* Start of data or of a hole; EVFS_ERANGE: offset is not within the file or no
 * data follows. */
int evfs_file_seek(struct evfs_fs *fs, fuse_req_t req, struct evfs_node *node,
		   uint64_t offset, bool hole, uint64_t *ret,
		   struct evfs_err *err) EVFS_MUST_USE;
/* copy_file_range(2) between different files, or ranges that do not overlap;
 * may do less than len. */
int evfs_file_copy(struct evfs_fs *fs, fuse_req_t req, struct evfs_node *from,
		   uint64_t from_offset, struct evfs_node *to,
		   uint64_t to_offset, uint64_t len, uint64_t *ret_len,
		   struct evfs_err *err) EVFS_MUST_USE;

/* The working copy's time of change, where there is one whose time is still
 * open: false else. Meta locked, as for the seal that takes the time. */
bool evfs_file_set_mtime(struct evfs_fs *fs, struct evfs_node *node,
			 int64_t mtime_s, uint32_t mtime_ns);
/* The seal that took the time has failed. */
void evfs_file_forget_time(struct evfs_fs *fs, struct evfs_node *node);

/* From now on until it is sealed, status counts it. size and time as they are
 * shown until something else is said. Nothing happens where it is dirty. */
void evfs_file_mark_dirty(struct evfs_fs *fs, struct evfs_node *node,
			  uint64_t size);
/* It is sealed, or nobody will ever need it. May free the node: the caller has
 * a pin. */
void evfs_file_mark_clean(struct evfs_fs *fs, struct evfs_node *node);
bool evfs_file_is_dirty(struct evfs_fs *fs, struct evfs_node *node);

#endif
