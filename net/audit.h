/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Merkle audits with members (meta/merkle.h): anti-entropy that trusts no
 * context. Roots are compared, then, push-pull, the nodes and lists of objects
 * below what differs; what only one side has goes to the other as whole
 * objects, which are joined by their rows alone (evfs_delta_repair()). What is
 * merely on its way (rows that the member's context does not cover) is left to
 * the streams. docs/PROTOCOL.md has the messages.
 *
 * An audit holds nothing but nodes still to be gone through: after a cut the
 * next one begins at the root, and what was repaired is equal by then. Private
 * to net/'s engine files. */
#ifndef EVFS_NET_AUDIT_H
#define EVFS_NET_AUDIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/hash.h"
#include "meta/dot.h"
#include "net/engine.h"
#include "net/wire.h"

struct evfs_audits; /* of a session: begun here, begun there */
struct evfs_incoming;
struct evfs_peer;
struct evfs_session;

/* Of the engine. */
struct evfs_auditing {
	uint64_t interval_ns; /* setting */
	uint64_t due_ns;      /* the next by the clock; 0 = not set */
	uint64_t full_ns;     /* the next with every member */
	uint64_t ended_ns;    /* the last that came to its end */
	evfs_hash root;       /* ours, then */
	struct evfs_audit_status status;
};

/* What a batch of repairs did. */
struct evfs_repaired {
	size_t received;
	size_t changed;
	evfs_ino *dead; /* owned; see evfs_delta_repair() */
	size_t n_dead;
};

/* Equal contexts and unequal roots: says so, and audits. */
void evfs_audit_diverged(struct evfs_engine *engine, struct evfs_peer *peer);
/* Begins what is due, by the clock or by a command. */
void evfs_audit_tick(struct evfs_engine *engine, uint64_t now_ns,
		     uint64_t *next_ns);
/* Sends what the audits of this session have to send. */
void evfs_audit_run(struct evfs_engine *engine, struct evfs_session *session,
		    uint64_t now_ns, uint64_t *next_ns);
void evfs_audit_fini(struct evfs_session *session);

int evfs_audit_receive(struct evfs_engine *engine,
		       struct evfs_session *session,
		       const Evfs__Wire__Audit *audit,
		       struct evfs_err *err) EVFS_MUST_USE;
/* A batch of repairs before and after it is applied; answer: it answers one of
 * ours. */
int evfs_audit_note(struct evfs_session *session,
		    const struct evfs_incoming *batch,
		    struct evfs_err *err) EVFS_MUST_USE;
int evfs_audit_repaired(struct evfs_engine *engine,
			struct evfs_session *session,
			const struct evfs_repaired *repaired, bool answer,
			struct evfs_err *err) EVFS_MUST_USE;

void evfs_audit_status(const struct evfs_engine *engine,
		       struct evfs_audit_status *ret);

#endif
