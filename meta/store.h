/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The inside of struct evfs_store, for the files of the store alone: identity,
 * the open transaction, group commit, the lease.
 *
 * Locks, in the order of taking: commit_lock (one commit at a time) -> gate
 * (no reader's snapshot while a commit is not synced) -> lock (the meta lock)
 * -> durable_lock. A content writer waits on `idle` under the meta lock. */
#ifndef EVFS_META_STORE_H
#define EVFS_META_STORE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/env.h"
#include "base/err.h"
#include "base/hash.h"
#include "meta/config.h"
#include "meta/context.h"
#include "meta/members.h"
#include "meta/meta.h"
#include "meta/meta_priv.h"

/* Counters leased ahead; renewed when less than half is left. */
#define EVFS_LEASE_BLOCK 16384u

/* Bytes kept allocated beyond the end of the write-ahead log, so that a commit
 * finds room when the disk is full. */
#define EVFS_WAL_RESERVE (8u << 20)

struct evfs_store {
	/* Constant while open. */
	char *path;                 /* owned; NULL: in memory */
	const struct evfs_env *env; /* borrowed */
	evfs_actor actor;           /* this replica */
	evfs_hash volume;           /* id of the volume */
	char name[EVFS_NODE_NAME_MAX + 1]; /* of this replica */
	char *listen;               /* owned; NULL = none */
	bool read_only;             /* beside a daemon */
	unsigned commit_delay_ms;   /* after the first change */
	int lock_fd;                /* STORE/lock; -1 = none */
	int wal_fd;                 /* meta.db-wal, for syncing; -1 = none */

	pthread_mutex_t commit_lock; /* one commit at a time */
	pthread_mutex_t gate;        /* held from COMMIT to the end of its
	                              * sync, and while a reader begins */
	pthread_mutex_t lock;        /* the meta lock; protects all below */
	pthread_cond_t idle;         /* content_syncing became false */
	pthread_cond_t wake;         /* something for the committer */

	bool tx_open;          /* BEGIN was done */
	bool tx_lost;          /* SQLite rolled it back by itself */
	bool content_syncing;  /* no new content may be named */
	uint64_t write_seq;    /* changes so far; also the generation */
	uint64_t durable_seq;  /* those that are on disk */
	uint64_t begun;        /* commits attempted */
	uint64_t ended;        /* of them, those that are over */
	uint64_t losses;       /* rollbacks that undid acknowledged changes */
	struct evfs_err failed; /* why nothing may be written; code 0 = fine */
	bool broken;           /* for good: a sync failed, so what the disk
	                        * holds is unknown */

	pthread_t committer;   /* runs while has_committer */
	bool has_committer;
	bool stop;             /* the committer shall end */
	bool commit_wanted;    /* somebody waits for a commit */
	struct evfs_sync_wait *waits, **waits_end; /* in the order of coming */
	bool clock_running;    /* dirty_at is set */
	uint64_t dirty_at;     /* CLOCK_MONOTONIC ns of the first change */
	uint64_t commit_end;   /* the same of the end of the last commit */
	uint64_t commit_took;  /* its duration, ns */
	bool commit_many;      /* it held many changes */

	struct evfs_context context;  /* of this replica, now */
	struct evfs_context stored;   /* as in the context table */
	uint64_t counter;             /* last counter used */
	uint64_t found;               /* that at the start; UINT64_MAX: told */
	uint64_t lease;               /* greatest leased, as of the next
	                               * commit */
	uint64_t clock;               /* last reading, ns */
	struct evfs_context pending;  /* under commit_lock: the context of the
	                               * commit that is being synced */
	evfs_hash pending_root;       /* and its root */

	pthread_mutex_t durable_lock;   /* protects: */
	struct evfs_context durable;    /* as of the last synced commit */
	evfs_hash durable_root;         /* the root then */

	pthread_mutex_t reader_lock; /* the reader connection's user */
	struct evfs_db *reader;      /* read-only; snapshots; NULL: in memory */
	struct evfs_db *checkpointer; /* the committer's; NULL: in memory */
	uint64_t wal_pages;          /* in the log after the last COMMIT */
	uint64_t wal_copied;         /* of them, at the last checkpoint */
	uint64_t wal_reserved;       /* bytes of the log that have room */

	struct evfs_config *config;         /* cache; owned */
	struct evfs_member_cache *members;  /* owned */
	bool amnesia; /* memory was lost: audits are due (meta/life.h) */
	bool clean;   /* the end: the mark of the file is to be written */
};

/* ---- meta/db_commit.c: the transaction (meta locked) ---- */

/* Opens the transaction, without marking anything changed. */
int evfs_store_begin(struct evfs_meta *meta, struct evfs_err *err)
	EVFS_MUST_USE;
/* Writes what is kept in memory (counters, context, clock, lease), COMMITs.
 * After a failure the transaction is either still open, or lost (tx_lost). */
int evfs_store_commit_tx(struct evfs_meta *meta, struct evfs_err *err)
	EVFS_MUST_USE;
/* Rolls back what is not committed. The caches still hold it: evfs_store_load
 * comes next. */
void evfs_store_rollback_tx(struct evfs_meta *meta);
/* Reads everything that is kept in memory anew from the database. */
int evfs_store_load(struct evfs_meta *meta, struct evfs_err *err)
	EVFS_MUST_USE;
/* Who this replica is; once, at the start. */
int evfs_store_load_identity(struct evfs_meta *meta, struct evfs_err *err)
	EVFS_MUST_USE;
/* Continues behind the lease; in an open transaction. */
int evfs_store_skip_lease(struct evfs_meta *meta, struct evfs_err *err)
	EVFS_MUST_USE;
/* Copies the log into the database as far as readers allow; syncs. On the
 * committer's connection without the meta lock, or with it on the writing
 * one, between transactions. */
int evfs_store_checkpoint(struct evfs_meta *meta, bool by_writer,
			  struct evfs_err *err) EVFS_MUST_USE;
/* Starts counting the pages of the log at each COMMIT. */
void evfs_store_watch_wal(struct evfs_meta *meta);

/* ---- meta/commit.c: group commit ---- */

/* One commit with all its syncs, on this thread. Not locked. */
int evfs_store_commit(struct evfs_meta *meta, struct evfs_err *err)
	EVFS_MUST_USE;
/* Out of the list: those whose waiting is over, with its result. Meta locked. */
struct evfs_sync_wait *evfs_store_take_waits(struct evfs_store *store);
/* Calls done() of each. Nothing locked. */
void evfs_store_tell_waits(struct evfs_sync_wait *wait);
int evfs_store_start_committer(struct evfs_meta *meta, struct evfs_err *err)
	EVFS_MUST_USE;
void evfs_store_stop_committer(struct evfs_meta *meta);
/* After a rollback: loads everything anew and tells everybody, but goes on
 * counting and keeps the clock. Meta locked. */
int evfs_store_start_over(struct evfs_meta *meta, struct evfs_err *err)
	EVFS_MUST_USE;

/* ---- meta/store_dir.c: the directory of a store ---- */

/* Takes STORE/lock; EVFS_ELOCKED names the process that has it. */
int evfs_store_lock_dir(const char *path, int *ret_fd, struct evfs_err *err)
	EVFS_MUST_USE;
/* "PATH/name", or NULL. The caller frees. */
char *evfs_store_file(const char *path, const char *name);

/* Is this a store that can be made? EVFS_EINVAL. */
int evfs_store_check_new(const struct evfs_meta_new *what,
			 struct evfs_err *err) EVFS_MUST_USE;

/* ---- meta/db_open.c: its database ---- */

/* Makes the file, complete. */
int evfs_store_create_db(const char *file, const struct evfs_meta_new *what,
			 struct evfs_err *err) EVFS_MUST_USE;
/* Connects, checks, loads. What they leave half done on failure is undone by
 * evfs_store_close_db(). */
int evfs_store_open_memory(struct evfs_meta *meta,
			   const struct evfs_meta_new *fresh,
			   struct evfs_err *err) EVFS_MUST_USE;
/* *ret_why: why this is another life of the replica, NULL = it is not. */
int evfs_store_open_file(struct evfs_meta *meta, const char **ret_why,
			 struct evfs_err *err) EVFS_MUST_USE;
void evfs_store_close_db(struct evfs_meta *meta);
/* The mark of a clean end; meta locked, all committed. */
int evfs_store_end_lease(struct evfs_meta *meta, struct evfs_err *err)
	EVFS_MUST_USE;

/* ---- caches of other files ---- */
int evfs_facts_new(struct evfs_meta *meta, struct evfs_err *err) EVFS_MUST_USE;
void evfs_facts_free(struct evfs_meta *meta);
int evfs_config_load(struct evfs_meta *meta, struct evfs_err *err)
	EVFS_MUST_USE;
void evfs_config_unload(struct evfs_meta *meta);
int evfs_members_load(struct evfs_meta *meta, struct evfs_err *err)
	EVFS_MUST_USE;
void evfs_members_unload(struct evfs_meta *meta);

/* ---- meta/feed.c ---- */
int evfs_feed_new(struct evfs_meta *meta, struct evfs_err *err) EVFS_MUST_USE;
void evfs_feed_free(struct evfs_meta *meta);
/* Meta locked: is there something to tell? Clears it. */
bool evfs_feed_pending(struct evfs_meta *meta);
/* Not locked: calls the listeners. */
void evfs_feed_tell_changed(struct evfs_meta *meta);
void evfs_feed_tell_durable(struct evfs_meta *meta);
/* Meta locked: everything may have changed. */
void evfs_feed_note_all(struct evfs_meta *meta);

#endif
