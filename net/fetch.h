/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Content that is wanted here: which is asked for next, of whom, and what
 * became of it. Private to net/'s engine files. */
#ifndef EVFS_NET_FETCH_H
#define EVFS_NET_FETCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/hash.h"
#include "meta/content.h"
#include "net/wire.h"

struct evfs_engine;
struct evfs_session;
struct evfs_fetch_job;
struct evfs_fetch_flight;

#define EVFS_FETCH_JOBS 256	     /* contents at a time */
#define EVFS_FETCH_WINDOW (16u << 20) /* bytes asked of one session */
#define EVFS_FETCH_GROUP (64u << 20)  /* bytes committed together, at most */
#define EVFS_FETCH_GROUP_NS (100 * (uint64_t)1000000) /* and their age */
#define EVFS_FETCH_PATIENCE_NS (30 * (uint64_t)1000000000)

struct evfs_fetch {
	struct evfs_fetch_job *jobs; /* owned; urgent ones first */
	size_t n_jobs;
	struct evfs_fetch_flight *flights; /* owned; by chunk hash (uthash) */
	uint64_t cursor;		   /* queue number looked at last */
	bool scan;			   /* there may be more behind it */
	uint64_t rescan_ns;		   /* when all are looked at again */
	struct evfs_content_put **puts;	   /* owned; chunks not committed */
	size_t n_puts, cap_puts;
	size_t put_bytes;
	uint64_t last_ticket; /* of a chunk that is being stored */
	uint64_t put_ns; /* when the first of them arrived */
	bool put_due;	 /* a job has all it asked for: not to wait */
	uint64_t rest_ns; /* nothing before: the store failed */
};

/* There may be something new to fetch. all: look at what nobody had, too. */
void evfs_fetch_kick(struct evfs_engine *engine, bool all);
void evfs_fetch_urgent(struct evfs_engine *engine, const evfs_hash *name,
		       uint64_t size);
/* Asks for what is due. Lowers *next_ns to when it is to be called again. */
void evfs_fetch_run(struct evfs_engine *engine, uint64_t now_ns,
		    uint64_t *next_ns);
/* Makes the chunks that arrived known if that is due; at the end of an event.
 * Lowers *next_ns to when it is to be called again. */
void evfs_fetch_commit(struct evfs_engine *engine, uint64_t now_ns,
		       uint64_t *next_ns);
/* The session is over: what it was asked is asked of others. */
void evfs_fetch_session_gone(struct evfs_engine *engine,
			     struct evfs_session *session);
/* A member has more than it had: it may be asked again. */
void evfs_fetch_peer_news(struct evfs_engine *engine, uint64_t node);

int evfs_fetch_manifest(struct evfs_engine *engine,
			struct evfs_session *session,
			const Evfs__Wire__Manifest *manifest,
			struct evfs_err *err) EVFS_MUST_USE;
/* Takes the data out of the message. */
int evfs_fetch_chunk(struct evfs_engine *engine, struct evfs_session *session,
		     Evfs__Wire__Chunk *chunk,
		     struct evfs_err *err) EVFS_MUST_USE;
int evfs_fetch_no_chunk(struct evfs_engine *engine,
			struct evfs_session *session,
			const Evfs__Wire__NoChunk *no_chunk,
			struct evfs_err *err) EVFS_MUST_USE;
void evfs_fetch_fini(struct evfs_engine *engine);

/* ---- net/fetch_store.c ---- */

/* A chunk that arrived. */
struct evfs_fetch_chunk {
	evfs_hash hash;   /* as which it was asked for */
	uint64_t ticket;  /* names the request */
	uint64_t node;    /* who sent it */
	uint64_t of_size; /* of the content that it was asked for */
	uint8_t *data;    /* not verified */
	size_t len;
};

/* Verifies and writes it, elsewhere if possible; takes the data. What came of
 * it is told to evfs_fetch_stored(). */
int evfs_fetch_store(struct evfs_engine *engine,
		     const struct evfs_fetch_chunk *chunk,
		     struct evfs_err *err) EVFS_MUST_USE;
/* It is written, and becomes known with the next group; or, with a code in
 * why, is not. The request is over. */
void evfs_fetch_stored(struct evfs_engine *engine,
		       const struct evfs_fetch_chunk *chunk,
		       const struct evfs_err *why);
/* Makes all that was written known now. */
void evfs_fetch_commit_all(struct evfs_engine *engine);
/* The store cannot take more (disk full): no requests for a while. */
void evfs_fetch_rest(struct evfs_engine *engine, const struct evfs_err *err);

#endif
