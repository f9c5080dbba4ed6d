/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The inside of struct evfs_meta, for meta/ alone: which module owns which part
 * of it. Everything here is protected by the meta lock unless said. */
#ifndef EVFS_META_META_PRIV_H
#define EVFS_META_META_PRIV_H

#include "meta/meta.h"

struct evfs_db;
struct evfs_feed;
struct evfs_quorum;
struct evfs_tree_state; /* meta/tree.c: registered handles */
struct evfs_view_state; /* meta/view.c: caches */
struct evfs_store;      /* meta/store.c: commit, lease, identity */

struct evfs_meta {
	struct evfs_store *store;
	struct evfs_db *db;           /* the writing connection */
	struct evfs_facts *facts;
	struct evfs_content *content;
	struct evfs_feed *feed;
	struct evfs_quorum *quorum;   /* questions to others; own lock */
	struct evfs_tree_state *tree; /* made by evfs_tree_state_new */
	struct evfs_view_state *view; /* made by evfs_view_state_new */
	struct evfs_collect *collect; /* made by evfs_collect_new */
};

/* Made and freed by evfs_meta_open/_close. reset: the facts have changed
 * behind their back (a rollback, a simulated crash): drop caches; handles of
 * objects stay registered. */
int evfs_tree_state_new(struct evfs_meta *meta, struct evfs_err *err)
	EVFS_MUST_USE;
void evfs_tree_state_free(struct evfs_meta *meta);
int evfs_view_state_new(struct evfs_meta *meta, struct evfs_err *err)
	EVFS_MUST_USE;
void evfs_view_state_free(struct evfs_meta *meta);
void evfs_view_state_reset(struct evfs_meta *meta);

/* Content store over this store; creates its tables' rows lazily. path NULL:
 * in memory. The tables are in the schema. */
int evfs_content_new(struct evfs_meta *meta, const char *path,
		     struct evfs_err *err) EVFS_MUST_USE;
void evfs_content_free(struct evfs_meta *meta);
/* SQL of the content tables, run at the store's creation (meta/db_content.c).
 */
extern const char evfs_content_schema[];
/* The same for what may be there already (meta/db_manifest.c, db_works.c). */
extern const char evfs_content_schema_later[];
extern const char evfs_works_schema[];
/* After a rollback or simulated crash: forget what was cached of the tables. */
void evfs_content_reset(struct evfs_meta *meta);

/* Begins the writing transaction where none is open, and marks the store dirty.
 * Every function that writes rows calls it first. */
int evfs_meta_begin_write(struct evfs_meta *meta, struct evfs_err *err)
	EVFS_MUST_USE;
/* The same for what changes in memory only, and is written with the commit. */
int evfs_meta_begin_change(struct evfs_meta *meta, struct evfs_err *err)
	EVFS_MUST_USE;
/* Before the first row that is written after evfs_facts_save(): rows before it
 * survive a rollback. */
int evfs_facts_save_database(struct evfs_facts *facts, struct evfs_err *err)
	EVFS_MUST_USE;

#endif
