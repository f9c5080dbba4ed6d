/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The feed: what changed, told to those who show it or send it.
 *
 * Two kinds of news. *Changes* (for a mount): which names and inodes show
 * something else now; collected under the meta lock, in order, and taken by
 * one listener. *Durable* (for replication): everything up to now is on disk,
 * so peers may see it. Listener callbacks run without the meta lock, on the
 * thread that caused them, and must only wake somebody up. */
#ifndef EVFS_META_FEED_H
#define EVFS_META_FEED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "meta/dot.h"

struct evfs_meta;

enum evfs_feed_origin {
	EVFS_FEED_LOCAL, /* an operation of this mount */
	EVFS_FEED_REMOTE /* a merge, or a command beside the mount */
};

enum evfs_change_kind {
	EVFS_CHANGE_ENTRY, /* what `name` in directory `dir` shows; siblings
	                    * beside that name included */
	EVFS_CHANGE_ATTR,  /* attributes of object `ino` */
	EVFS_CHANGE_NAMES, /* what any name shows. Attributes that changed are
	                    * told beside it: a kernel that asks for names
	                    * again may keep its times of what they show */
	EVFS_CHANGE_ALL    /* anything: forget everything */
};

struct evfs_change {
	enum evfs_change_kind kind;
	evfs_ino dir;     /* ENTRY: a member of the directory */
	evfs_ino ino;     /* ATTR */
	char name[256];   /* ENTRY; NUL-terminated */
	size_t name_len;
	struct evfs_change *next;
};

struct evfs_feed_listener {
	void *ctx;
	/* There are changes to take (evfs_feed_take). Origin REMOTE only: a
	 * mount knows what it did itself. */
	void (*changed)(void *ctx);
	/* All that was done before some commit is durable now. */
	void (*durable)(void *ctx);
};

/* At most 8 listeners; `listener` is borrowed until removed. Removing waits
 * until no callback of it runs. */
void evfs_feed_add(struct evfs_meta *meta,
		   const struct evfs_feed_listener *listener);
void evfs_feed_remove(struct evfs_meta *meta,
		      const struct evfs_feed_listener *listener);

/* Takes the changes collected so far (a list in order; the caller frees each
 * with evfs_change_free). NULL = none. Locks meta itself. When nobody took
 * them for long, they collapse into one EVFS_CHANGE_ALL. */
struct evfs_change *evfs_feed_take(struct evfs_meta *meta);
void evfs_change_free(struct evfs_change *change);

/* For meta/index.c: collects one (copied); meta locked. Nothing is collected
 * while there is no listener with `changed`. */
void evfs_feed_note(struct evfs_meta *meta, const struct evfs_change *change);

#endif
