/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Reading durable facts beside the writer, for delta.c: short snapshots of
 * objects and of the dotlog, by key. Implemented over SQLite in db_reader.c.
 *
 * A store on disk has a read-only connection for this, shared by all readers
 * one at a time; a snapshot begins only while no commit waits for its sync. A
 * store in memory has only the writing connection: there a snapshot is
 * everything committed, with meta locked until it ends. */
#ifndef EVFS_META_DELTA_PRIV_H
#define EVFS_META_DELTA_PRIV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "meta/context.h"
#include "meta/dot.h"
#include "meta/meta.h"
#include "meta/object.h"

struct evfs_actors;
struct evfs_db;
struct evfs_db_reader;

int evfs_db_reader_new(struct evfs_meta *meta, struct evfs_db_reader **ret,
		       struct evfs_err *err) EVFS_MUST_USE;
void evfs_db_reader_free(struct evfs_db_reader *reader); /* NULL is fine */

/* A snapshot; snap (may be NULL): the context that belongs to it. */
int evfs_db_reader_begin(struct evfs_db_reader *reader,
			 struct evfs_context *snap,
			 struct evfs_err *err) EVFS_MUST_USE;
void evfs_db_reader_end(struct evfs_db_reader *reader);

/* ---- within a snapshot ---- */

/* For other readers of meta's db files: the connection, and its numbers. */
struct evfs_db *evfs_db_reader_db(const struct evfs_db_reader *reader);
const struct evfs_actors *
evfs_db_reader_numbers(const struct evfs_db_reader *reader);

/* Actors, sorted; the number of each makes its keys. Valid in the snapshot. */
size_t evfs_db_reader_actors(const struct evfs_db_reader *reader);
evfs_actor evfs_db_reader_actor(const struct evfs_db_reader *reader, size_t i,
				uint64_t *ret_id);

/* The key of a dot; -1 where nothing has it. */
int64_t evfs_db_reader_key(const struct evfs_db_reader *reader, evfs_dot dot);

/* Rows of the dotlog behind (dot, object), up to dot `last`, in order. */
struct evfs_db_reader_row {
	int64_t dot;    /* key */
	int64_t object; /* key */
};
int evfs_db_reader_seek(struct evfs_db_reader *reader,
			struct evfs_db_reader_row after,
			int64_t last, struct evfs_err *err) EVFS_MUST_USE;
/* 1: *ret; 0: no more. */
int evfs_db_reader_next(struct evfs_db_reader *reader,
			struct evfs_db_reader_row *ret,
			struct evfs_err *err) EVFS_MUST_USE;

/* The object with this key, of the caller, and the size of its row. *ret NULL:
 * there is none. */
int evfs_db_reader_object(struct evfs_db_reader *reader, int64_t key,
			  struct evfs_object **ret, size_t *ret_len,
			  struct evfs_err *err) EVFS_MUST_USE;

/* Keys, without a snapshot. */
int64_t evfs_db_reader_make_key(uint64_t actor_id, uint64_t counter);
uint64_t evfs_db_reader_counter_max(void);

#endif
