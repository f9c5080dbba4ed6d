/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A store, open: the replicated state in SQLite, the content store beside it,
 * one mutex around both, and group commit.
 *
 * Locking. evfs_meta_lock() protects everything that the headers of meta/ say
 * is "called with meta locked". It is never held across a disk sync, a network
 * wait, a callback or a reply. Operations run inside one open SQL transaction;
 * the committer thread commits it: commit_delay_ms after the first change
 * (under load at most 50 ms after the commit before), at once when somebody
 * waits in evfs_meta_sync(). The recipe (docs/STORE.md): content written so far
 * is synced first (no new content is named meanwhile: evfs_meta_lock_content()
 * waits), then COMMIT, then fdatasync of the WAL, then the durable news of
 * meta/feed.h. So what is durable never names content that is not, and no peer
 * sees what is not durable here. */
#ifndef EVFS_META_META_H
#define EVFS_META_META_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/env.h"
#include "base/err.h"
#include "base/hash.h"
#include "meta/context.h"
#include "meta/dot.h"

struct evfs_meta;
struct evfs_buf;
struct evfs_facts;
struct evfs_content;

#define EVFS_SCHEMA_VERSION 1
#define EVFS_NODE_NAME_MAX 64 /* bytes of a replica's name */

/* ---- making and opening ---- */

struct evfs_meta_new {
	const char *path;       /* directory to make; may exist if empty */
	const char *node_name;  /* 1 to EVFS_NODE_NAME_MAX of [A-Za-z0-9._-] */
	uint64_t node;          /* from the public key: evfs_node_of_key() */
	const char *public_key; /* "ssh-ed25519 AAAA..." */
	const char *listen;     /* "ADDR:PORT" or NULL */
	evfs_hash volume;       /* id of the volume */
};

/* The id of a replica with this public key: the first 8 bytes of its BLAKE2b
 * hash, never 0. */
uint64_t evfs_node_of_key(const char *public_key);

/* Makes an empty store (directories, database). EVFS_EEXISTS where path holds
 * a store or anything else. Nothing is left behind on failure. */
int evfs_meta_create(const struct evfs_meta_new *what, struct evfs_err *err)
	EVFS_MUST_USE;

struct evfs_meta_options {
	const char *path;      /* store directory; NULL: in memory (tests, sim):
	                        * then `fresh` says what it is, content is held
	                        * in memory too, and no thread is started */
	const struct evfs_meta_new *fresh;
	const struct evfs_env *env; /* borrowed */
	unsigned commit_delay_ms;   /* 5 is usual */
	bool read_only;        /* tools beside a daemon: no lock, no writes */
};

/* After EVFS_ELOCKED: was the daemon that has it killed, and cannot end? */
bool evfs_store_holder_is_dead(const char *path);

/* Opens a store for the one daemon that may have it. Errors with a message
 * that says what to do: EVFS_ENOTFOUND (not a store), EVFS_EFOREIGN, EVFS_ENEWER
 * (schema), EVFS_ELOCKED (a daemon runs), EVFS_ECORRUPT (a damaged database).
 * Recovers from an unclean end: counters go on behind the lease; a copied or
 * restored database takes a new epoch before its first dot. */
int evfs_meta_open(const struct evfs_meta_options *options,
		   struct evfs_meta **ret, struct evfs_err *err)
	EVFS_MUST_USE;

/* Commits, syncs, closes, frees. */
void evfs_meta_close(struct evfs_meta *meta);

/* Simulation: power loss. What was not committed is gone; the handle stays
 * usable as after a reopen. In-memory stores only. */
int evfs_meta_crash(struct evfs_meta *meta, struct evfs_err *err)
	EVFS_MUST_USE;

/* Simulation: an older state is put back in place; noticed: as a start finds
 * out by itself. In-memory stores only; no handle may be open. */
struct evfs_backup;
int evfs_meta_backup(struct evfs_meta *meta, struct evfs_backup **ret,
		     struct evfs_err *err) EVFS_MUST_USE;
int evfs_meta_restore(struct evfs_meta *meta, const struct evfs_backup *backup,
		      bool noticed, struct evfs_err *err) EVFS_MUST_USE;
void evfs_backup_free(struct evfs_backup *backup);

/* ---- lock, commit ---- */

void evfs_meta_lock(struct evfs_meta *meta);
/* For whoever will name content written just now (chunk rows, seals, merges
 * with content): waits until no content sync is under way. */
void evfs_meta_lock_content(struct evfs_meta *meta);
/* Starts the commit clock when something changed. */
void evfs_meta_unlock(struct evfs_meta *meta);

/* Returns once all that was done before the call is durable; shares one commit
 * among all callers. Not locked by the caller. After a failed commit the
 * store refuses further writes (EVFS_EIO, EVFS_ENOSPACE) until one succeeds. */
int evfs_meta_sync(struct evfs_meta *meta, struct evfs_err *err)
	EVFS_MUST_USE;

/* Whoever is told instead of waiting. */
struct evfs_sync_wait {
	/* Called once, with err (code 0: all that was done before the call of
	 * evfs_meta_sync_then() is durable). On the thread that calls that,
	 * before it returns, or on one that commits. Nothing is locked; must
	 * not wait for anything, for others are told after it, and the next
	 * commit begins then. The struct is the callee's again. */
	void (*done)(struct evfs_sync_wait *wait);
	struct evfs_err err;         /* the result */
	uint64_t want;               /* inside: the change that it waits for */
	uint64_t losses;             /* inside: as there were then */
	uint64_t attempt;            /* inside: the commit that can fail it */
	struct evfs_sync_wait *next; /* inside */
};

/* The same without waiting. Lends `wait` until its done() is called; that is
 * filled by the caller, the rest is not. */
void evfs_meta_sync_then(struct evfs_meta *meta, struct evfs_sync_wait *wait);

/* In-memory stores: the same as evfs_meta_sync(), on this thread. */
int evfs_meta_commit(struct evfs_meta *meta, struct evfs_err *err)
	EVFS_MUST_USE;

/* ---- identity, clock; the fields are constant while open ---- */

const char *evfs_meta_path(const struct evfs_meta *meta); /* NULL: memory */
const struct evfs_env *evfs_meta_env(const struct evfs_meta *meta);
uint64_t evfs_meta_node(const struct evfs_meta *meta);
const char *evfs_meta_node_name(const struct evfs_meta *meta);
evfs_actor evfs_meta_actor(const struct evfs_meta *meta);
const evfs_hash *evfs_meta_volume(const struct evfs_meta *meta);
/* "ADDR:PORT" that it was made with; NULL: nothing listens. */
const char *evfs_meta_listen(const struct evfs_meta *meta);
/* Started on a database that was copied or restored: it may have forgotten
 * what others know that it did; an audit with every member is due. */
bool evfs_meta_has_amnesia(const struct evfs_meta *meta);

struct evfs_facts *evfs_meta_facts(struct evfs_meta *meta);
struct evfs_content *evfs_meta_content(struct evfs_meta *meta);

/* Locked: this replica's context; own counter included (not all of it durable
 * yet). Borrowed until unlock. */
const struct evfs_context *evfs_meta_context(struct evfs_meta *meta);

/* The context as of the last commit that was synced: what may be told to
 * peers. Takes its own lock; ret is replaced. */
int evfs_meta_durable_context(struct evfs_meta *meta,
			      struct evfs_context *ret) EVFS_MUST_USE;
evfs_hash evfs_meta_durable_root(struct evfs_meta *meta);

/* Locked. The next dot of this replica; its counter is leased (a lease is
 * durable before any of its dots is). Only for meta/tree.c's transactions. */
int evfs_meta_next_dot(struct evfs_meta *meta, evfs_dot *ret,
		       struct evfs_err *err) EVFS_MUST_USE;
/* Locked. A clock reading greater than `over_ns`. The clock itself moves on,
 * but is not dragged along by over_ns (the value replaced may come from a clock
 * that is far ahead): readings grow unless over_ns made an earlier one
 * greater. */
uint64_t evfs_meta_stamp(struct evfs_meta *meta, uint64_t over_ns);
/* Locked. A peer's reading: drags the clock at most 60 s ahead of the wall. */
void evfs_meta_hear_clock(struct evfs_meta *meta, uint64_t time_ns);
/* Locked. The hybrid clock's last reading. */
uint64_t evfs_meta_clock(struct evfs_meta *meta);

/* Locked: raise our context by one's own dots is done by next_dot; a complete
 * exchange raises it here. */
int evfs_meta_take_context(struct evfs_meta *meta,
			   const struct evfs_context *snap,
			   struct evfs_err *err) EVFS_MUST_USE;

/* Unique while the store is open: the number of operations since it was
 * opened, for caches that must notice any change. Locked. */
uint64_t evfs_meta_generation(struct evfs_meta *meta);
/* The generation as of the last commit that was synced. Locked. */
uint64_t evfs_meta_durable_generation(struct evfs_meta *meta);

/* `dump`: the replicated state as sorted, stable text, one fact a line. What
 * each replica collects in its own time (dead objects, dead links of files that
 * live, ties) only with all: without, replicas that hold the same have equal
 * dumps. Locks by itself. */
int evfs_meta_dump(struct evfs_meta *meta, bool all, struct evfs_buf *out,
		   struct evfs_err *err) EVFS_MUST_USE;

#endif
