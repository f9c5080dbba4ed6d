/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Is the database the file that this replica left, or a copy, or one that was
 * put back in its place? docs/STORE.md, section 8, says what the marks are and
 * why. */
#ifndef EVFS_META_LIFE_MARK_H
#define EVFS_META_LIFE_MARK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct evfs_db;
struct evfs_meta;

/* What a file system gives a file, and no program can set. */
struct evfs_mark {
	uint64_t inode;
	uint64_t made_ns;    /* time of birth; 0: not kept there */
	uint64_t changed_ns; /* ctime */
	/* What else changes the ctime, by a hand that does not put back. */
	uint32_t mode, uid, gid, links;
};

int evfs_mark_read(const char *file, struct evfs_mark *ret,
		   struct evfs_err *err) EVFS_MUST_USE;
/* Writes down which file the database is. In an open transaction. */
int evfs_mark_keep(struct evfs_db *db, const struct evfs_mark *mark,
		   struct evfs_err *err) EVFS_MUST_USE;
/* *ret_why: what is wrong with it, for people; NULL: it is the same. */
int evfs_mark_check(struct evfs_meta *meta, const struct evfs_mark *mark,
		    const char **ret_why, struct evfs_err *err) EVFS_MUST_USE;

/* STORE/closed: the mark at the last clean end. It is taken away before the
 * first write, durably. */
void evfs_mark_close(const char *path);
int evfs_mark_open(const char *path, struct evfs_err *err) EVFS_MUST_USE;

#endif
