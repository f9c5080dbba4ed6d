/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The lives of a replica, and what is due after memory was lost.
 *
 * A life is an epoch of this replica's actor. It ends when the store turns out
 * to be an older copy, or another one, than what its replica had: found at the
 * start by the file's marks (meta/life_mark.c), or told by a member that knows
 * dots which are not here. Then (DESIGN, section 2; tests/model/ops.py,
 * restore() and audited()):
 *
 *  - a new epoch is taken, durable before its first dot;
 *  - where the former life had gone on writing after it lost its memory, it may
 *    have used dots a second time: what it made since then, and nobody has
 *    acknowledged, gets new dots (evfs_life_renew());
 *  - an audit is due with every member that is not removed: all that the member
 *    has is taken in, and what it has seen and no longer has goes. Until the
 *    last one is done this replica gives nothing to others, its reports count
 *    for nothing, and it collects nothing. It works on for its users;
 *  - in the end it asserts the dead directories that its own work stands in
 *    (evfs_tree_audited()).
 *
 * All is durable: a crash in between goes on where it was. Meta locked, where
 * nothing else is said. */
#ifndef EVFS_META_LIFE_H
#define EVFS_META_LIFE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "meta/context.h"
#include "meta/idmap.h"
#include "meta/members.h"
#include "meta/meta.h"

/* ---- at the start, within the first transaction ---- */

/* Begins a new life of a store that nothing was written to since it was
 * copied or restored: its dots are all its own. */
int evfs_life_begin(struct evfs_meta *meta, struct evfs_err *err)
	EVFS_MUST_USE;
/* Notes how far this replica had come when it was last sure to be the only one
 * with its dots; before counters are skipped. */
int evfs_life_note_start(struct evfs_meta *meta, struct evfs_err *err)
	EVFS_MUST_USE;

/* ---- while it runs ---- */

/* A run of the daemon begins. To be durable before anybody is told of it. */
int evfs_life_note_run(struct evfs_meta *meta, uint64_t instance,
		       struct evfs_err *err) EVFS_MUST_USE;
/* A member met this replica in a run, and heard of its changes up to a counter
 * then. *ret: that is not in this store's past, so memory was lost: the run is
 * not known here, or it ended earlier. */
int evfs_life_is_lost(struct evfs_meta *meta, const struct evfs_met *met,
		      bool *ret, struct evfs_err *err) EVFS_MUST_USE;
/* A member was met: what is here is known not to be too old for it. */
int evfs_life_note_contact(struct evfs_meta *meta, struct evfs_err *err)
	EVFS_MUST_USE;
/* Begins a new life of a store that was found to have lost changes, with an
 * epoch above `epoch`, and gives new dots to what its last one has made since
 * it was last acknowledged. Tells the feed that everything has changed.
 * *ret_renewed: objects that got new dots. */
int evfs_life_renew(struct evfs_meta *meta, uint32_t epoch,
		    uint64_t *ret_renewed, struct evfs_err *err) EVFS_MUST_USE;

/* A store that was removed from its volume joins it again: with another key,
 * and so as another replica, that holds all that the removed one held. Audits
 * are due with every member, in both directions. `what`: as for a new store, path not looked at.
 * Only without a daemon; close the store after it. */
int evfs_life_rejoin(struct evfs_meta *meta, const struct evfs_meta_new *what,
		     struct evfs_err *err) EVFS_MUST_USE;

/* ---- audits ---- */

/* Is an audit with this member due? */
int evfs_life_is_due(struct evfs_meta *meta, uint64_t node, bool *ret,
		     struct evfs_err *err) EVFS_MUST_USE;
/* Looks whether audits are still due; after the last one, or when the last
 * member that was waited for is removed, this ends the amnesia. *ret_ended: it
 * did so now. */
int evfs_life_settle(struct evfs_meta *meta, bool *ret_ended,
		     struct evfs_err *err) EVFS_MUST_USE;
/* The audit with this member is done. */
int evfs_life_audited(struct evfs_meta *meta, uint64_t node,
		      struct evfs_err *err) EVFS_MUST_USE;

/* The second half of a full merge, after all that a member has was taken in.
 * Whatever it did not send is not there: objects here that are not in `met`
 * (by evfs_life_key()) are joined with its context alone. *cursor: 0 at first;
 * *ret_done false: call again, so that the lock is not held for long. */
int evfs_life_absent(struct evfs_meta *meta, const struct evfs_idmap *met,
		     const struct evfs_context *snap, int64_t *cursor,
		     bool *ret_done, struct evfs_err *err) EVFS_MUST_USE;
/* The number that stands for an object in `met`. */
int evfs_life_key(struct evfs_meta *meta, evfs_ino ino, int64_t *ret,
		  struct evfs_err *err) EVFS_MUST_USE;

#endif
