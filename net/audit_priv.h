/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The inside of net/audit*.c.
 *
 * An audit is a conversation in turns. A turn is: first the objects that are
 * due, then one Audit message, made from the stack of nodes that are to be
 * told. The other side compares with its own, and puts what differs on its
 * stack. Taking from the top goes down before it goes on, so a stack holds no
 * more than one turn's nodes for each level. */
#ifndef EVFS_NET_AUDIT_PRIV_H
#define EVFS_NET_AUDIT_PRIV_H

#include "base/buf.h"
#include "meta/merkle.h"
#include "net/engine_priv.h"

/* Objects listed in one turn at most: what bounds the time that it takes. */
#define EVFS_AUDIT_LIST_MAX 4096u
/* Nodes on a stack; what does not fit is found by the next audit. */
#define EVFS_AUDIT_STACK_MAX 131072u
/* Objects that wait to be sent; the same. */
#define EVFS_AUDIT_SENDS_MAX 262144u
#define EVFS_AUDIT_BATCH_OBJECTS 500u
#define EVFS_AUDIT_BATCH_BYTES (1u << 20)
#define EVFS_AUDIT_SILENCE_NS (120 * EVFS_SECOND)
#define EVFS_AUDIT_FULL_NS (24 * 3600 * EVFS_SECOND)
#define EVFS_AUDIT_EVIDENCE_MAX 4000u /* bytes of text */

/* On the stack, with a path: told as nodes even where a list would do. */
#define EVFS_AUDIT_AS_NODES (UINT64_C(1) << 63)

struct evfs_audit_wants {
	uint64_t path;
	uint32_t *hashes; /* owned */
	size_t n;
};

struct evfs_audit_side {
	uint64_t id; /* 0 = none under way */
	uint64_t seed;
	bool alarm;      /* the contexts were equal */
	bool turn;       /* ours */
	bool quiet;      /* its last message left nothing to go through */
	uint64_t *stack; /* owned; nodes to be told */
	size_t n, cap;
	struct evfs_audit_wants wants[EVFS_WIRE_AUDIT_PARTS_MAX];
	size_t n_wants;
	uint64_t heard_ns;
	uint64_t messages, bytes; /* both ways */
	uint64_t nodes;           /* gone through */
	uint64_t differing;       /* objects sent, asked for, or changed */
	evfs_hash ours, theirs;   /* roots at its beginning */
};

struct evfs_audit_send {
	evfs_ino ino;
	bool answer; /* to a repair: no answer to it is wanted */
};

struct evfs_audits {
	struct evfs_audit_side sides[2]; /* begun here; begun there */
	struct evfs_audit_send *sends;   /* owned; objects that are due */
	size_t at, n, cap;
	struct evfs_buf evidence; /* of the objects that came */
};

enum { EVFS_AUDIT_MINE, EVFS_AUDIT_THEIRS };

/* ---- audit_turn.c: comparing ---- */

/* Takes in what the member tells: stack, wants and sends grow. */
int evfs_audit_compare(struct evfs_engine *engine, struct evfs_audits *audits,
		       struct evfs_audit_side *side,
		       const Evfs__Wire__Audit *audit,
		       struct evfs_err *err) EVFS_MUST_USE;
/* Fills the message with the next nodes and lists, takes them from the stack,
 * and hands over the wants; evfs_audit_clear frees what was allocated for it.
 */
int evfs_audit_tell(struct evfs_engine *engine, struct evfs_audit_side *side,
		    Evfs__Wire__Audit *audit,
		    struct evfs_err *err) EVFS_MUST_USE;
void evfs_audit_clear(Evfs__Wire__Audit *audit);
int evfs_audit_queue(struct evfs_audits *audits, evfs_ino ino, bool answer,
		     struct evfs_err *err) EVFS_MUST_USE;
void evfs_audit_clear_wants(struct evfs_audit_side *side);

/* ---- audit_run.c: the objects ---- */

/* One batch of those that are due. False in *ret_more: none is left. */
int evfs_audit_send_objects(struct evfs_engine *engine,
			    struct evfs_session *session, bool *ret_more,
			    struct evfs_err *err) EVFS_MUST_USE;

#endif
