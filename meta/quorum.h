/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Questions to other replicas that a file operation waits for: do so many hold
 * this change on disk (fsync), has any of them a newer state of this object
 * (open). A mount asks, replication answers, and neither knows the other.
 * (Quorums over whichever members answer, and read repair: DeCandia et al.
 * 2007, Dynamo.)
 *
 * A question has a number. Its answer comes once, on any thread, with no lock
 * held, at the latest when its time is over; whoever does not want it any more
 * withdraws the question and ignores what comes. Any thread. */
#ifndef EVFS_META_QUORUM_H
#define EVFS_META_QUORUM_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "meta/dot.h"

struct evfs_meta;

enum evfs_question_kind {
	EVFS_QUESTION_HELD,   /* is it on disk elsewhere? */
	EVFS_QUESTION_NEWEST, /* compare the object, both ways, and take in
	                       * what is newer before the answer */
	EVFS_QUESTION_CHECK   /* the same; nobody waits, nothing is answered */
};

struct evfs_question {
	uint64_t id;         /* from evfs_quorum_new_id() */
	enum evfs_question_kind kind;
	evfs_ino ino;        /* the object. HELD: NONE = all that was done on
	                      * this replica up to now */
	unsigned need;       /* other replicas that must say yes, or answer */
	uint64_t timeout_ms; /* of the wait */
};

struct evfs_answer {
	uint64_t id;        /* of the question */
	int code;           /* 0, EVFS_ETIMEOUT, EVFS_EUNREACHABLE */
	bool changed;       /* NEWEST: the object is not what it was */
	char why[160];      /* what failed; "" where nothing has */
};

/* Listeners; borrowed contexts. */
struct evfs_quorum_watch {
	void *ctx;
	void (*asked)(void *ctx, const struct evfs_question *question);
	void (*withdrawn)(void *ctx, uint64_t id);
	void (*answered)(void *ctx, const struct evfs_answer *answer);
};
#define EVFS_QUORUM_WATCH_FS 0  /* has `answered` */
#define EVFS_QUORUM_WATCH_NET 1 /* has the others */

/* NULL: none. Returns when no callback of the old one runs. */
void evfs_quorum_set_watch(struct evfs_meta *meta, int slot,
			   const struct evfs_quorum_watch *watch);

uint64_t evfs_quorum_new_id(struct evfs_meta *meta); /* never 0 */
/* EVFS_EUNREACHABLE: nobody is there to answer. */
int evfs_quorum_ask(struct evfs_meta *meta,
		    const struct evfs_question *question,
		    struct evfs_err *err) EVFS_MUST_USE;
void evfs_quorum_withdraw(struct evfs_meta *meta, uint64_t id);
void evfs_quorum_answer(struct evfs_meta *meta,
			const struct evfs_answer *answer);

/* The settings behind it, readable without a lock: each open looks. */
struct evfs_quorum_settings {
	unsigned write, read;    /* replicas, this one included */
	uint64_t timeout_ms;     /* quorum_timeout */
	unsigned check_ppm;      /* read_repair_chance, in a million opens */
};
void evfs_quorum_get_settings(struct evfs_meta *meta,
			      struct evfs_quorum_settings *ret);

/* For meta/: life, and new settings (meta locked, or not shared yet). */
struct evfs_quorum;
struct evfs_quorum *evfs_quorum_new(void);
void evfs_quorum_free(struct evfs_quorum *quorum); /* NULL is fine */
void evfs_quorum_settings_changed(struct evfs_meta *meta);

#endif
