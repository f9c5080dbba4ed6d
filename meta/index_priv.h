/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The inside of meta/index*.c: one run of evfs_index_put() and its parts. */
#ifndef EVFS_META_INDEX_PRIV_H
#define EVFS_META_INDEX_PRIV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "meta/facts.h"
#include "meta/index.h"
#include "meta/meta_priv.h"
#include "meta/view_map.h"

struct evfs_index {
	struct evfs_meta *meta;
	struct evfs_facts *facts;      /* of meta */
	enum evfs_feed_origin origin;  /* of this run */
	struct evfs_inolist gains;     /* directories that got support */
	struct evfs_inolist losses;    /* directories that lost some */
	struct evfs_inolist moved;     /* needed now, or with another place:
	                                * where a new cycle can be */
	uint64_t now_ns;               /* greatest change_ns of the batch */
	bool shape;                    /* which directories are where */
	bool clashes;                  /* a clash row changed */
	bool lost;                     /* a row of lost+found changed */
	bool names;                    /* EVFS_CHANGE_NAMES was noted */
	bool quiet;                    /* a rebuild: no feed, no times */
};

/* ---- index_rows.c: rows of names, and what is counted by them ---- */

int evfs_index_row_add(struct evfs_index *ix, const struct evfs_place *place,
		       const struct evfs_object *object,
		       const evfs_stamp *link, struct evfs_err *err)
	EVFS_MUST_USE;
/* object: in the state that the row was added with. ns: when it went, for the
 * time of the directory; taken from the facts, so that replicas agree. */
int evfs_index_row_remove(struct evfs_index *ix,
			  const struct evfs_place *place,
			  const struct evfs_object *object,
			  const evfs_stamp *link, uint64_t ns,
			  struct evfs_err *err) EVFS_MUST_USE;
/* The entries of this directory changed at this time. */
int evfs_index_touch_dir(struct evfs_index *ix, evfs_ino dir, uint64_t ns,
			 struct evfs_err *err) EVFS_MUST_USE;
void evfs_index_note_name(struct evfs_index *ix, evfs_ino parent,
			  const void *name, size_t name_len);
void evfs_index_note_attr(struct evfs_index *ix, evfs_ino ino);
void evfs_index_note_names(struct evfs_index *ix);

/* ---- index_object.c: the difference that one object makes ---- */

int evfs_index_object(struct evfs_index *ix, struct evfs_object *object,
		      struct evfs_err *err) EVFS_MUST_USE;
/* Adds what an object contributes to counters and root hash (sign 1), or takes
 * it away (-1); for directories while they are needed. */
int evfs_index_count(struct evfs_index *ix, const struct evfs_object *object,
		     int sign, struct evfs_err *err) EVFS_MUST_USE;

/* ---- index_past.c: content references and history ---- */

int evfs_index_past(struct evfs_index *ix, const struct evfs_object *old,
		    const struct evfs_object *object, struct evfs_err *err)
	EVFS_MUST_USE;

/* ---- index_needed.c: which directories are needed ---- */

/* Settles gains and losses. */
int evfs_index_settle_needed(struct evfs_index *ix, struct evfs_err *err)
	EVFS_MUST_USE;
/* Is there a live file or a needed directory directly in it? */
int evfs_index_has_support(struct evfs_index *ix, evfs_ino dir, bool *ret,
			   struct evfs_err *err) EVFS_MUST_USE;

/* ---- index_cycles.c: undone moves ---- */

int evfs_index_settle_cycles(struct evfs_index *ix, struct evfs_err *err)
	EVFS_MUST_USE;

#endif
