/* SPDX-License-Identifier: GPL-3.0-or-later */
/* New dots for what was made after memory was lost.
 *
 * A store that was put back in place, and goes on writing before a member tells
 * it, uses dots a second time. The members cover those dots, so what bears them
 * here would count as seen and removed. Therefore every dot of the former life
 * above the last one that was surely used once only, (a, n) with n > known,
 * becomes (a', n - known) of the new life: in inodes, links, versions,
 * registers, ties and rows. Times stay, so the order of stamps does, but among
 * equal times. An object that was made by such a dot becomes another object,
 * since the members may know another one by that name.
 *
 * Which dots those are is known from below: each counter that a member has
 * acknowledged, and the counter at the first start since a member was met, are
 * of the time before. What is renewed though members had it shows up as equal
 * content, once. */
#include <assert.h>
#include <stdlib.h>

#include "base/mem.h"
#include "meta/content.h"
#include "meta/graves.h"
#include "meta/index.h"
#include "meta/life_priv.h"
#include "meta/store.h"
#include "meta/tree.h"
#include "meta/view_map.h"

#define BATCH 256

struct renewal {
	struct evfs_meta *meta;
	evfs_actor from;  /* the former life */
	evfs_actor to;    /* the new one */
	uint64_t known;   /* dots above are renewed */
	struct evfs_err *err;
};

static bool is_renewed(const struct renewal *renewal, evfs_dot dot)
{
	return evfs_actor_cmp(dot.actor, renewal->from) == 0 &&
	       dot.counter > renewal->known;
}

static evfs_dot renew_dot(void *arg, evfs_dot dot)
{
	const struct renewal *renewal = arg;

	if (!is_renewed(renewal, dot))
		return dot;
	return (evfs_dot){ renewal->to, dot.counter - renewal->known };
}

/* ---- one object, in a private copy ---- */

#define RENEW(dot) ((dot) = renew_dot(renewal, (dot)))

static int order_dots(const void *a, const void *b)
{
	const evfs_dot *x = a, *y = b;

	return evfs_dot_cmp(*x, *y);
}

static void renew_dots(struct renewal *renewal, struct evfs_dots *dots)
{
	size_t i;

	for (i = 0; i < dots->n; i++)
		RENEW(dots->items[i]);
	if (dots->n > 1)
		qsort(dots->items, dots->n, sizeof(*dots->items), order_dots);
}

static int order_links(const void *a, const void *b)
{
	const struct evfs_link *x = a, *y = b;

	return evfs_stamp_cmp(&x->id, &y->id);
}

static void renew_links(struct renewal *renewal, struct evfs_object *object)
{
	size_t i;

	for (i = 0; i < object->n_links; i++) {
		struct evfs_link *link = &object->links[i];

		RENEW(link->id.dot);
		RENEW(link->place.stamp.dot);
		RENEW(link->place.parent);
		RENEW(link->place.origin);
		renew_dots(renewal, &link->alive);
	}
	if (object->n_links > 1)
		qsort(object->links, object->n_links, sizeof(*object->links),
		      order_links);
}

static int order_versions(const void *a, const void *b)
{
	const struct evfs_version *x = a, *y = b;

	return evfs_dot_cmp(x->dot, y->dot);
}

static void renew_versions(struct renewal *renewal, struct evfs_object *object)
{
	size_t i;

	for (i = 0; i < object->n_versions; i++) {
		RENEW(object->versions[i].dot);
		renew_dots(renewal, &object->versions[i].bases);
	}
	if (object->n_versions > 1)
		qsort(object->versions, object->n_versions,
		      sizeof(*object->versions), order_versions);
}

static int order_ends(const void *a, const void *b)
{
	const struct evfs_tie_end *x = a, *y = b;

	return evfs_dot_cmp(x->ino, y->ino);
}

static int order_ties(const void *a, const void *b)
{
	const struct evfs_tie *x = a, *y = b;

	return evfs_dot_cmp(x->dot, y->dot);
}

static void renew_ties(struct renewal *renewal, struct evfs_object *object)
{
	size_t i, k;

	for (i = 0; i < object->n_ties; i++) {
		struct evfs_tie *tie = &object->ties[i];

		RENEW(tie->dot);
		for (k = 0; k < tie->n; k++) {
			RENEW(tie->ends[k].ino);
			RENEW(tie->ends[k].dot);
		}
		qsort(tie->ends, tie->n, sizeof(*tie->ends), order_ends);
	}
	if (object->n_ties > 1)
		qsort(object->ties, object->n_ties, sizeof(*object->ties),
		      order_ties);
}

/* The row of the former life goes back to what is known, and one of the new
 * life is added. */
static int renew_log(struct renewal *renewal, struct evfs_object *object)
{
	uint64_t newest = evfs_object_log_get(object, renewal->from);
	size_t n = 0, i;

	if (newest <= renewal->known)
		return 0;
	for (i = 0; i < object->n_log; i++) {
		struct evfs_log_row row = object->log[i];

		if (evfs_actor_cmp(row.actor, renewal->from) == 0)
			row.counter = renewal->known;
		if (row.counter > 0)
			object->log[n++] = row;
	}
	object->n_log = n;
	return evfs_object_log_raise(
		object,
		(evfs_dot){ renewal->to, newest - renewal->known });
}

static int renew_object(struct renewal *renewal,
			const struct evfs_object *old,
			struct evfs_object **ret)
{
	struct evfs_object *copy = evfs_object_copy(old);
	size_t i;

	if (copy == NULL || renew_log(renewal, copy) != 0) {
		evfs_object_free(copy);
		return evfs_err_set(renewal->err, EVFS_ENOMEM,
				    "renewal: out of memory");
	}
	RENEW(copy->ino);
	renew_links(renewal, copy);
	renew_versions(renewal, copy);
	renew_ties(renewal, copy);
	for (i = 0; i < copy->n_attrs; i++) {
		RENEW(copy->attrs[i].stamp.dot);
		renew_dots(renewal, &copy->attrs[i].saw);
	}
	*ret = copy;
	return 0;
}

/* ---- the store ---- */

/* The same object with all its links removed, to be taken out. */
static struct evfs_object *buried(const struct evfs_object *old)
{
	struct evfs_object *copy = evfs_object_copy(old);
	size_t i;

	for (i = 0; copy != NULL && i < copy->n_links; i++)
		copy->links[i].alive.n = 0;
	return copy;
}

static int keep_unsealed(struct renewal *renewal, evfs_ino ino)
{
	bool on = false;
	int rc = evfs_facts_is_unsealed(renewal->meta->facts, ino, &on,
					renewal->err);

	if (rc != 0 || !on)
		return rc;
	return evfs_facts_set_unsealed(renewal->meta->facts,
				       renew_dot(renewal, ino), true,
				       renewal->err);
}

/* The new state, and where it is another object the old one without links. */
static int renew_into(struct renewal *renewal, evfs_ino ino,
		      struct evfs_object **objects, size_t *n)
{
	const struct evfs_object *old = NULL;
	int rc = evfs_facts_get(renewal->meta->facts, ino, &old, renewal->err);

	assert(rc != 0 || old != NULL); /* it has a row */
	if (rc == 0)
		rc = renew_object(renewal, old, &objects[*n]);
	if (rc != 0)
		return rc;
	++*n;
	if (!is_renewed(renewal, ino))
		return 0;
	rc = keep_unsealed(renewal, ino);
	if (rc != 0)
		return rc;
	objects[*n] = buried(old);
	if (objects[*n] == NULL)
		return evfs_err_set(renewal->err, EVFS_ENOMEM,
				    "renewal: out of memory");
	++*n;
	return 0;
}

static int remove_old(struct renewal *renewal, const evfs_ino *inos, size_t n)
{
	struct evfs_facts *facts = renewal->meta->facts;
	size_t i;
	int rc = 0;

	for (i = 0; i < n && rc == 0; i++) {
		const struct evfs_object *old = NULL;

		if (!is_renewed(renewal, inos[i]))
			continue;
		rc = evfs_facts_get(facts, inos[i], &old, renewal->err);
		if (rc == 0 && old != NULL)
			rc = evfs_facts_remove_object(facts, old,
						      renewal->err);
	}
	return rc;
}

static int renew_batch(struct renewal *renewal, const evfs_ino *inos, size_t n)
{
	struct evfs_object *objects[2 * BATCH];
	size_t n_objects = 0, i;
	int rc = 0;

	for (i = 0; i < n && rc == 0; i++)
		rc = renew_into(renewal, inos[i], objects, &n_objects);
	if (rc != 0) {
		while (n_objects > 0)
			evfs_object_free(objects[--n_objects]);
		return rc;
	}
	return evfs_index_put_within(renewal->meta, objects, n_objects,
				     EVFS_FEED_REMOTE, renewal->err);
}

static int list_add(struct evfs_inolist *list, const evfs_ino *inos, size_t n)
{
	size_t i;
	int rc = 0;

	for (i = 0; i < n && rc == 0; i++)
		rc = evfs_inolist_add(list, inos[i]);
	return rc;
}

/* Everything with a row to renew. */
static int list_all(struct renewal *renewal, struct evfs_inolist *list)
{
	uint64_t counter = renewal->known;
	evfs_ino inos[BATCH];
	size_t n = 0;
	int rc;

	do {
		rc = evfs_life_beyond(renewal->meta, renewal->from, &counter,
				      inos, BATCH, &n, renewal->err);
		if (rc == 0 && list_add(list, inos, n) != 0)
			rc = evfs_err_set(renewal->err, EVFS_ENOMEM,
					  "renewal: out of memory");
	} while (rc == 0 && n == BATCH);
	return rc;
}

/* What became another object is taken out in the end: what hangs on it may be
 * renewed after it. */
static int renew_all(struct renewal *renewal, uint64_t *ret_renewed)
{
	struct evfs_inolist list = { 0 };
	size_t i;
	int rc = list_all(renewal, &list);

	for (i = 0; i < list.n && rc == 0; i += BATCH) {
		size_t n = list.n - i < BATCH ? list.n - i : BATCH;

		rc = renew_batch(renewal, list.items + i, n);
		evfs_facts_trim(renewal->meta->facts);
	}
	if (rc == 0)
		rc = remove_old(renewal, list.items, list.n);
	*ret_renewed = list.n;
	evfs_inolist_fini(&list);
	return rc;
}

static int renew_locked(struct renewal *renewal, uint32_t epoch,
			uint64_t *ret_renewed)
{
	struct evfs_meta *meta = renewal->meta;
	struct evfs_store *store = meta->store;
	uint64_t used = store->counter;
	int rc = evfs_meta_begin_write(meta, renewal->err);

	if (rc == 0)
		rc = evfs_life_acknowledged(meta, renewal->from,
					    &renewal->known, renewal->err);
	if (rc == 0)
		rc = evfs_life_take_epoch(meta, epoch, renewal->err);
	renewal->to = store->actor;
	if (rc == 0)
		rc = renew_all(renewal, ret_renewed);
	if (rc == 0)
		rc = evfs_life_lower_context(meta, renewal->from,
					     renewal->known, renewal->err);
	store->counter = used - renewal->known;
	store->found = store->counter;
	if (rc == 0 && store->counter > 0 &&
	    evfs_context_raise(&store->context, store->actor,
			       store->counter) != 0)
		rc = evfs_err_set(renewal->err, EVFS_ENOMEM,
				  "context: out of memory");
	if (rc == 0)
		rc = evfs_state_set(meta->db, "alone", store->counter,
				    renewal->err);
	return rc;
}

/* Back to how it was before a renewal that failed. */
static void undo(struct renewal *renewal, uint64_t counter, uint64_t lease,
		 bool amnesia, struct evfs_context *context)
{
	struct evfs_store *store = renewal->meta->store;
	struct evfs_context now = store->context;

	store->actor = renewal->from;
	store->counter = counter;
	store->lease = lease;
	store->amnesia = amnesia;
	store->context = *context;
	*context = now;
}

int evfs_life_renew(struct evfs_meta *meta, uint32_t epoch,
		    uint64_t *ret_renewed, struct evfs_err *err)
{
	struct evfs_store *store = meta->store;
	struct renewal renewal = { .meta = meta, .from = store->actor,
				   .err = err };
	uint64_t counter = store->counter, lease = store->lease;
	bool amnesia = store->amnesia;
	struct evfs_context context = { 0 };
	int rc = evfs_meta_begin_write(meta, err);

	*ret_renewed = 0;
	if (rc == 0 && evfs_context_copy(&context, &store->context) != 0)
		rc = evfs_err_set(err, EVFS_ENOMEM, "renewal: out of memory");
	if (rc == 0) /* what is to be renewed is looked up in the rows */
		rc = evfs_facts_flush_objects(meta->facts, err);
	if (rc == 0)
		rc = evfs_index_begin(meta, err);
	if (rc != 0) {
		evfs_context_fini(&context);
		return rc;
	}
	rc = renew_locked(&renewal, epoch, ret_renewed);
	rc = evfs_index_end(meta, rc, err);
	if (rc == 0)
		evfs_tree_renew(meta, renew_dot, &renewal);
	else
		undo(&renewal, counter, lease, amnesia, &context);
	evfs_context_fini(&context);
	evfs_view_state_reset(meta);
	evfs_feed_note_all(meta);
	return rc;
}
