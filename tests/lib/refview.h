/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The reference view: model/view.py in C, as plain as it can be, computed
 * whole from the objects. What meta/ keeps incrementally has to equal it. */
#ifndef EVFS_TESTS_LIB_REFVIEW_H
#define EVFS_TESTS_LIB_REFVIEW_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "meta/meta.h"
#include "meta/object.h"
#include "meta/view.h"

struct refview_dir {
	bool needed;       /* alive, or above something that is */
	bool undone;       /* shown elsewhere than its place says: */
	evfs_ino shown_in;
};

struct refview {
	struct evfs_meta *meta;            /* borrowed */
	const struct evfs_object **objects; /* owned copies, sorted by ino */
	size_t n, cap;
	struct refview_dir *dirs;          /* for each object */
	struct evfs_buf text;              /* the tree: sorted lines */
	size_t entries;                    /* of them */
	size_t siblings;
	size_t salted;                     /* siblings that 32 digits did not
	                                    * make unique */
};

/* Reads all objects of the store (locked) and computes the tree. Aborts when
 * out of memory. */
struct refview *refview_new(struct evfs_meta *meta);
void refview_free(struct refview *view);

/* A line for each entry; the parts of refview_text.c. */
struct refview_lines {
	char **items; /* owned, and each of them */
	size_t n, cap;
};
/* path: of the directory, escaped, "" for the root. */
void refview_add_line(struct refview_lines *lines, const char *path,
		      const struct evfs_entry *entry, uint32_t mode);
/* Sorts, appends all and a NUL to ret, frees. */
void refview_join_lines(struct refview_lines *lines, struct evfs_buf *ret);
void refview_escape(struct evfs_buf *out, const void *data, size_t len);

/* The same text made with meta/view.h from the index. */
void refview_text_of(struct evfs_meta *meta, struct evfs_buf *ret);

/* Compares the two, needed flags and undone moves too. NULL where all is
 * equal, else what differs (to be freed by the caller). */
char *refview_differs(struct evfs_meta *meta);

#endif
