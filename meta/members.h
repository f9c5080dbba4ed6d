/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The members of the volume: who is pinned by which key, and where. A record
 * is joined by: removed wins for good, else the greatest stamp; so members
 * learn each other from any other member. All with meta locked. */
#ifndef EVFS_META_MEMBERS_H
#define EVFS_META_MEMBERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "meta/context.h"
#include "meta/meta.h"

#define EVFS_MEMBERS_MAX 4096
#define EVFS_ADDRESS_MAX 255
#define EVFS_KEY_TEXT_MAX 128

struct evfs_member {
	uint64_t node;                          /* evfs_node_of_key(key) */
	char name[EVFS_NODE_NAME_MAX + 1];      /* unique by suffixing at join */
	char key[EVFS_KEY_TEXT_MAX];            /* "ssh-ed25519 AAAA..." */
	char address[EVFS_ADDRESS_MAX + 1];     /* "host:port", "" = unknown */
	uint64_t stamp_ns;                      /* of this record */
	bool removed;                           /* final */
	bool paused;                            /* local: `evfsctl pause PEER` */
};

/* Members other than this replica, by name; removed ones too where asked. */
int evfs_members_list(struct evfs_meta *meta, bool removed_too,
		      struct evfs_member **ret, size_t *ret_n,
		      struct evfs_err *err) EVFS_MUST_USE; /* evfs_free */
/* All, this replica included: what is told to peers. */
int evfs_members_all(struct evfs_meta *meta, struct evfs_member **ret,
		     size_t *ret_n, struct evfs_err *err) EVFS_MUST_USE;
int evfs_members_by_node(struct evfs_meta *meta, uint64_t node,
			 struct evfs_member *ret, struct evfs_err *err)
	EVFS_MUST_USE; /* EVFS_ENOTFOUND */
int evfs_members_by_name(struct evfs_meta *meta, const char *name,
			 struct evfs_member *ret, struct evfs_err *err)
	EVFS_MUST_USE;
/* Joins a record from a peer or a command. *ret_changed: something is new.
 * EVFS_EPROTO for one that is malformed (key does not give the node, ...). */
int evfs_members_join(struct evfs_meta *meta, const struct evfs_member *member,
		      bool *ret_changed, struct evfs_err *err) EVFS_MUST_USE;
int evfs_members_remove(struct evfs_meta *meta, uint64_t node,
			struct evfs_err *err) EVFS_MUST_USE;
int evfs_members_set_paused(struct evfs_meta *meta, uint64_t node, bool paused,
			    struct evfs_err *err) EVFS_MUST_USE;

/* Name of the replica that wrote a dot ("?" plus digits where unknown);
 * borrowed until unlock. For names of siblings: the name that the member had
 * when it joined, equal on all replicas. */
const char *evfs_members_node_name(struct evfs_meta *meta, uint64_t node);

/* The durable context that a member last reported, kept across restarts. */
int evfs_members_set_report(struct evfs_meta *meta, uint64_t node,
			    const struct evfs_context *context,
			    struct evfs_err *err) EVFS_MUST_USE;
int evfs_members_report(struct evfs_meta *meta, uint64_t node,
			struct evfs_context *ret, struct evfs_err *err)
	EVFS_MUST_USE; /* empty where nothing was heard */

/* The run in which a member was last met (instance 0: never), and the greatest
 * counter of its own that it reported then. What proves that it lost memory,
 * whatever it has made since (meta/life.h). */
struct evfs_met {
	uint64_t instance; /* random for each start of its daemon */
	uint32_t epoch;    /* of its actor then */
	uint64_t counter;
};
int evfs_members_set_met(struct evfs_meta *meta, uint64_t node,
			 const struct evfs_met *met, struct evfs_err *err)
	EVFS_MUST_USE;
int evfs_members_met(struct evfs_meta *meta, uint64_t node,
		     struct evfs_met *ret, struct evfs_err *err)
	EVFS_MUST_USE;

/* ---- invitations (one use, expiring) ---- */

/* secret: at least 128 bits, as text; only its hash is stored. */
int evfs_invite_add(struct evfs_meta *meta, const char *secret,
		    uint64_t expires_wall_ns, struct evfs_err *err)
	EVFS_MUST_USE;
/* Uses it up. EVFS_EAUTH: unknown, used or expired (the message says which). */
int evfs_invite_use(struct evfs_meta *meta, const char *secret,
		    struct evfs_err *err) EVFS_MUST_USE;
/* Is it valid, without using it up? */
int evfs_invite_check(struct evfs_meta *meta, const char *secret,
		      struct evfs_err *err) EVFS_MUST_USE;

#endif
