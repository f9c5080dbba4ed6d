/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Making the kernel forget. One thread tells it, never from inside a request
 * and without locks: the kernel may take a directory's lock that a request
 * which waits for us holds. News come from the feed (remote changes) and from
 * operations of this mount whose effects reach further than the kernel knows
 * (fs/ripple.h). */
#ifndef EVFS_FS_NOTIFY_H
#define EVFS_FS_NOTIFY_H

#include "base/err.h"
#include "meta/feed.h"

struct evfs_fs;

int evfs_notify_new(struct evfs_fs *fs, struct evfs_err *err) EVFS_MUST_USE;
/* After the fork of a daemon, if any; and before the workers end, so that what
 * the thread waits for in the kernel is still served. */
int evfs_notify_start(struct evfs_fs *fs, struct evfs_err *err) EVFS_MUST_USE;
void evfs_notify_stop(struct evfs_fs *fs);
void evfs_notify_free(struct evfs_fs *fs);

/* Queue; never wait. Any thread, any lock held. Without memory for the news
 * everything is forgotten instead. */
void evfs_notify_entry(struct evfs_fs *fs, evfs_ino dir, const char *name,
		       size_t name_len);
void evfs_notify_attr(struct evfs_fs *fs, evfs_ino ino);
/* What all names show; attributes are as they were. */
void evfs_notify_names(struct evfs_fs *fs);
/* Runs call(fs, arg) on the thread, in order with the rest. When the thread
 * has ended: at once. 0 or EVFS_ENOMEM. */
int evfs_notify_call(struct evfs_fs *fs,
		     void (*call)(struct evfs_fs *fs, void *arg), void *arg)
	EVFS_MUST_USE;

/* At once: the kernel will ask for the attributes of this node again. Also
 * inside a request: that takes none of the kernel's locks that it may hold. */
void evfs_notify_attr_now(struct evfs_fs *fs, uint64_t id);

/* Waits until the kernel has given up what it cached of this file, unwritten
 * bytes included (they arrive as WRITEs). No lock held, not in a request. */
void evfs_notify_flush_now(struct evfs_fs *fs, uint64_t id);

#endif
