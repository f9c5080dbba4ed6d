/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Delta exchange by dotlog: what a peer's context lacks, whole objects, newest
 * state once; and taking such batches in (DESIGN, "Finding the differences").
 *
 * A reader walks the dotlog actor by actor from the peer's context upwards,
 * live: rows only ever move to greater counters, so an object that changes
 * meanwhile is met later, and nothing is missed. It sees durable state only.
 * Each batch holds whole groups: an object, the others of its transactions
 * that the peer lacks, and the directories above that it lacks, parents first.
 * Only after the last batch may the peer join `snap` into its context. */
#ifndef EVFS_META_DELTA_H
#define EVFS_META_DELTA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "meta/context.h"
#include "meta/meta.h"
#include "meta/object.h"

#define EVFS_DELTA_OBJECTS_MAX 500
#define EVFS_DELTA_BYTES_MAX (1u << 20)

struct evfs_delta; /* one outgoing exchange */

/* peer: copied. Must not be used by two threads at once; takes meta's locks
 * itself. snap is the durable context at this moment. */
int evfs_delta_open(struct evfs_meta *meta, const struct evfs_context *peer,
		    struct evfs_delta **ret, struct evfs_err *err)
	EVFS_MUST_USE;
void evfs_delta_close(struct evfs_delta *delta);
const struct evfs_context *evfs_delta_snap(const struct evfs_delta *delta);

/* Tests that replay the model's cut exchanges: the peer's rows beyond its
 * context, asked before an object is sent. NULL = none known (the usual). */
void evfs_delta_set_covers(struct evfs_delta *delta,
			   bool (*covers)(void *arg, evfs_ino ino,
					  evfs_dot dot), void *arg);

/* The next batch, appended to *ret as objects of the caller (evfs_object_free
 * each, evfs_free the array). groups_max: at most that many groups (0 = until
 * the limits above; a group is never split, so one large group may exceed
 * them). *ret_done: that was the last. */
int evfs_delta_next(struct evfs_delta *delta, size_t groups_max,
		    struct evfs_object ***ret, size_t *ret_n, bool *ret_done,
		    struct evfs_err *err) EVFS_MUST_USE;

/* One object, with what must go with it, appended as above; nothing where the
 * peer has all of it. rows: the newest dots that the peer's state of the
 * object contains (its rows); NULL: nothing is sent, ret may be NULL too.
 * *ret_rows: those of the state here. */
int evfs_delta_pick(struct evfs_delta *delta, evfs_ino ino,
		    const struct evfs_context *rows,
		    struct evfs_object ***ret, size_t *ret_n,
		    struct evfs_context *ret_rows,
		    struct evfs_err *err) EVFS_MUST_USE;

/* Takes a batch in: joins each object in one step. src: the snap of the
 * exchange it belongs to. Takes ownership of the objects (not the array), also
 * on failure. Called with meta locked (…_lock_content where the batch brought
 * content). *ret_changed: objects that changed. */
int evfs_delta_apply(struct evfs_meta *meta, struct evfs_object **objects,
		     size_t n, const struct evfs_context *src,
		     size_t *ret_changed, struct evfs_err *err) EVFS_MUST_USE;

/* The same for objects that a Merkle audit found different, in a volume whose
 * contexts may claim too much: what counts as seen and removed is what the
 * rows of the two states say, and nothing else; so an object that is not here
 * at all comes (back), whatever the context covers. ret_dead: for each object,
 * in the order given, that has something to show as received and nothing here
 * after the join: the sender has to hear of its end; evfs_free. */
int evfs_delta_repair(struct evfs_meta *meta, struct evfs_object **objects,
		      size_t n, size_t *ret_changed, evfs_ino **ret_dead,
		      size_t *ret_n_dead, struct evfs_err *err) EVFS_MUST_USE;

/* How many objects lie beyond a context (each counted once for each actor), up
 * to `max`; and how many of this replica's own, unless `own` is NULL. For
 * status: O(result). Meta locked. */
int evfs_delta_count(struct evfs_meta *meta, const struct evfs_context *peer,
		     uint64_t max, uint64_t *ret, struct evfs_err *err)
	EVFS_MUST_USE;

#endif
