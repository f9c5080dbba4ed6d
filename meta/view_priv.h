/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The inside of meta/view*.c: caches, and the parts of an answer. */
#ifndef EVFS_META_VIEW_PRIV_H
#define EVFS_META_VIEW_PRIV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "meta/facts.h"
#include "meta/meta_priv.h"
#include "meta/view.h"
#include "meta/view_map.h"

/* ---- caches (view_state.c) ----
 * All of them hold for one state of the facts. The root hash is what tells
 * that an operation was rolled back since: then everything is dropped. */

struct evfs_view_dir_info {
	struct evfs_view_dir_info *next; /* all of them, for freeing */
	size_t n;
	evfs_ino members[];              /* sorted */
};

struct evfs_view_clash {
	evfs_ino parent;
	uint8_t *name; /* owned */
	size_t name_len;
};

struct evfs_waiting; /* view_names.c: the siblings of one directory */

struct evfs_view_state {
	evfs_hash root;              /* facts' root when last looked at */
	struct evfs_inomap shown;    /* directories known to be shown: their
	                              * info, or `shown` itself: alone */
	struct evfs_view_dir_info *infos; /* owned */
	bool lost_known, lost_rows;  /* any name rows of lost+found? */
	bool cycles_known;
	struct evfs_cycle_row *cycles; /* owned; undone moves, sorted by dir */
	size_t n_cycles, cap_cycles;
	bool clashes_known;
	struct evfs_view_clash *clashes; /* owned; by parent, name */
	size_t n_clashes, cap_clashes;
	struct evfs_waiting *waiting; /* one reference; NULL: none */
	int failed;                   /* of a callback that fills these */
};

/* Called by the index after each batch. */
void evfs_view_changed(struct evfs_meta *meta, bool shape, bool clashes,
		       bool lost);
/* Drops what a rollback made false. Every public function starts with it. */
void evfs_view_check(struct evfs_meta *meta);

/* Simple: no directory is merged with another, none is moved back, nothing is
 * in lost+found. Then every needed directory is one of its own, under its
 * place's parent. */
int evfs_view_is_simple(struct evfs_meta *meta, bool *ret,
			struct evfs_err *err) EVFS_MUST_USE;
/* The undone moves. */
int evfs_view_cycles(struct evfs_meta *meta, struct evfs_err *err)
	EVFS_MUST_USE;
/* May lost+found be shown? After is_simple and cycles. */
bool evfs_view_lost_used(struct evfs_meta *meta);
/* Clash rows of one directory object: the first index, and how many. */
int evfs_view_clashes_of(struct evfs_meta *meta, evfs_ino parent,
			 size_t *ret_first, size_t *ret_n,
			 struct evfs_err *err) EVFS_MUST_USE;

int evfs_view_no_memory(struct evfs_err *err);

/* ---- directories (view_dir.c) ---- */

/* Where a directory is shown: after undone moves; NONE where it is not needed
 * or not here. ret_object is NULL for lost+found. */
int evfs_view_above(struct evfs_meta *meta, evfs_ino dir, evfs_ino *ret,
		    const struct evfs_object **ret_object,
		    struct evfs_err *err) EVFS_MUST_USE;
/* Is a needed directory (or lost+found) shown, if its parent is? */
int evfs_view_has_something(struct evfs_meta *meta, evfs_ino dir, bool *ret,
			    struct evfs_err *err) EVFS_MUST_USE;
/* Is this the row of a directory that is shown elsewhere? */
bool evfs_view_is_undone(struct evfs_meta *meta, evfs_ino dir);

/* ---- rows and groups (view_group.c) ---- */

struct evfs_view_row {
	evfs_ino ino;
	evfs_stamp link;
	enum evfs_kind kind;
	bool multi;
};

struct evfs_view_rows {
	struct evfs_view_row *items; /* owned */
	size_t n, cap;
};

/* What is at one name: [0] has the name, the rest are siblings without their
 * generated names (entry.name is not set there). */
struct evfs_view_item {
	struct evfs_entry entry;
	evfs_dot dot; /* names it, where it is a sibling */
};

struct evfs_view_items {
	struct evfs_view_item *items; /* owned */
	size_t n, cap;
};

void evfs_view_rows_fini(struct evfs_view_rows *rows);
int evfs_view_rows_add(struct evfs_view_rows *rows,
		       const struct evfs_name_row *row) EVFS_MUST_USE;
void evfs_view_items_fini(struct evfs_view_items *items);

/* All rows at a name of a (merged) directory; directories that are not shown
 * here left out, those moved back here included. */
int evfs_view_rows_at(struct evfs_meta *meta, const struct evfs_dir *dir,
		      const void *name, size_t name_len,
		      struct evfs_view_rows *ret, struct evfs_err *err)
	EVFS_MUST_USE;
/* The group that they make. */
int evfs_view_items_of(struct evfs_meta *meta, const void *name,
		       size_t name_len, const struct evfs_view_rows *rows,
		       struct evfs_view_items *ret, struct evfs_err *err)
	EVFS_MUST_USE;
/* Both. */
int evfs_view_items_at(struct evfs_meta *meta, const struct evfs_dir *dir,
		       const void *name, size_t name_len,
		       struct evfs_view_items *ret, struct evfs_err *err)
	EVFS_MUST_USE;
/* Hands item i over; the caller finishes the entry. */
void evfs_view_items_take(struct evfs_view_items *items, size_t i,
			  struct evfs_entry *ret);
int evfs_entry_copy(const struct evfs_entry *entry, struct evfs_entry *ret)
	EVFS_MUST_USE;

/* ---- generated names (view_names.c) ---- */

struct evfs_waiting {
	unsigned refs;
	evfs_ino face;                /* of the directory */
	struct evfs_view_item *items; /* owned; entries with their names; in
	                               * memcmp order of these */
	size_t n, cap;
};

/* All siblings of a directory. A reference of the caller. */
int evfs_view_waiting(struct evfs_meta *meta, const struct evfs_dir *dir,
		      struct evfs_waiting **ret, struct evfs_err *err)
	EVFS_MUST_USE;
void evfs_waiting_unref(struct evfs_waiting *waiting); /* NULL is fine */
const struct evfs_view_item *
evfs_waiting_find(const struct evfs_waiting *waiting, const char *name,
		  size_t name_len);

/* Gives the siblings of a group their names. */
int evfs_view_name_items(struct evfs_meta *meta, const struct evfs_dir *dir,
			 struct evfs_view_items *items, struct evfs_err *err)
	EVFS_MUST_USE;

/* Does it contain ".conflict-"? */
bool evfs_view_looks_generated(const void *name, size_t len);

/* Plain names whose siblings could be called `name`, uncut. */
#define EVFS_VIEW_PLAINS_MAX 32
struct evfs_view_plains {
	struct {
		char text[EVFS_NAME_MAX + 1];
		size_t len;
	} items[EVFS_VIEW_PLAINS_MAX];
	size_t n;
	bool overflow; /* more than fit */
};
void evfs_view_plains(const char *name, size_t name_len,
		      struct evfs_view_plains *ret);

/* How often `name` is the 8, 16 or 32 digit form of a sibling's name in this
 * directory; SIZE_MAX: the short way does not tell. plains: where these
 * siblings are. */
int evfs_view_claimants(struct evfs_meta *meta, const struct evfs_dir *dir,
			const char *name, size_t name_len,
			struct evfs_view_plains *plains, size_t *ret_claims,
			struct evfs_err *err) EVFS_MUST_USE;

/* Only a plain name longer than this can have a sibling with a cut stem: what
 * is left beside ".conflict-", the longest node name, '-' and 32 digits. */
#define EVFS_VIEW_UNCUT_MAX (EVFS_NAME_MAX - 10 - EVFS_NODE_NAME_MAX - 1 - 32)

/* ---- walking a directory (view_list.c) ---- */

/* Each name of a directory with all its rows, in order. A non-zero return
 * stops and is returned. */
int evfs_view_each_name(struct evfs_meta *meta, const struct evfs_dir *dir,
			const char *after, size_t after_len,
			int (*each)(void *arg, const char *name,
				    size_t name_len,
				    const struct evfs_view_rows *rows),
			void *arg, struct evfs_err *err) EVFS_MUST_USE;

/* ---- text (view_dump.c) ---- */

/* Appends bytes, with \ooo for all that is not plain. 0 or EVFS_ENOMEM. */
int evfs_view_escape(struct evfs_buf *out, const void *data, size_t len)
	EVFS_MUST_USE;

#endif
