/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Versions that were replaced or removed, one's own included, kept with their
 * content for history_days and within history_max. Local: not replicated.
 * All with meta locked. */
#ifndef EVFS_META_HISTORY_H
#define EVFS_META_HISTORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/hash.h"
#include "meta/dot.h"
#include "meta/meta.h"
#include "meta/object.h"

struct evfs_past {
	evfs_ino ino;
	evfs_dot dot;         /* names the version; VERSION in `log` is the
	                       * first 8 digits of evfs_past_id() */
	evfs_hash content;
	uint64_t size;
	int64_t mtime_s;
	uint32_t mtime_ns;
	uint64_t written_ns;  /* stamp of the version */
	uint64_t ended_ns;    /* when it was replaced or removed; 0 = current */
	bool deleted;         /* the file was removed with it */
	const char *path;     /* as it was last shown, "/a/b"; borrowed */
};

/* 16 hexadecimal digits that name a version for people. */
void evfs_past_id(evfs_dot dot, char text[17]);

/* For meta/index.c: a version leaves the live facts; its content stays
 * referenced from here. path may be NULL (unknown). */
int evfs_history_add(struct evfs_meta *meta, const struct evfs_past *past,
		     struct evfs_err *err) EVFS_MUST_USE;

/* All versions that this path has had, newest first; the current ones (by the
 * view) included. */
int evfs_history_log(struct evfs_meta *meta, const char *path,
		     int (*each)(void *arg, const struct evfs_past *past),
		     void *arg, struct evfs_err *err) EVFS_MUST_USE;

/* Files removed from a directory ("/" = root) and below it, newest first: the
 * last version of each. */
int evfs_history_deleted(struct evfs_meta *meta, const char *dir,
			 int (*each)(void *arg, const struct evfs_past *past),
			 void *arg, struct evfs_err *err) EVFS_MUST_USE;

/* The names that history knows below a directory, for .evfs/history: each
 * name once, sorted. */
int evfs_history_names(struct evfs_meta *meta, const char *dir,
		       int (*each)(void *arg, const char *name, bool is_dir),
		       void *arg, struct evfs_err *err) EVFS_MUST_USE;

/* Drops what is older than history_days, and the oldest beyond history_max;
 * at most `max` rows a call. *ret_more: there is more to drop. */
int evfs_history_prune(struct evfs_meta *meta, size_t max, bool *ret_more,
		       struct evfs_err *err) EVFS_MUST_USE;

#endif
