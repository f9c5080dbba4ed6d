/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The transaction under every tree operation.
 *
 * An operation gives one dot of this replica's actor to each object that it
 * touches, in the order in which it first touches them, and writes that dot
 * into the object's log. Objects are edited as copies; what the operation
 * reads of the tree is the view as it was before. When all edits are made the
 * transaction is tied: where more than one object was touched, each of them
 * names all of them with their dots, so that a receiver takes all or none
 * (split transactions lost names in the model). Then evfs_index_put() makes
 * the new states the stored ones, in one step. On any failure the copies are
 * dropped, handles are put back, and the dots are lost, which harms nobody:
 * a dot that no object bears is covered by every context that exceeds it. */
#include "meta/tree_priv.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "meta/index.h"
#include "meta/meta_priv.h"
#include "meta/works.h"

/* From this estimate on a new state is refused, well before its encoding
 * reaches EVFS_OBJECT_BYTES_MAX, which peers refuse. */
#define OBJECT_BYTES_ROOM (EVFS_OBJECT_BYTES_MAX - (1u << 20))

void evfs_tx_init(struct evfs_tx *tx, struct evfs_meta *meta,
		  struct evfs_err *err)
{
	memset(tx, 0, sizeof(*tx));
	tx->meta = meta;
	tx->facts = evfs_meta_facts(meta);
	tx->err = err;
	tx->origin = meta->tree->origin;
}

int evfs_tx_nomem(struct evfs_tx *tx)
{
	return evfs_err_set(tx->err, EVFS_ENOMEM, "out of memory");
}

static struct evfs_tx_edit *find_edit(const struct evfs_tx *tx, evfs_ino ino)
{
	for (size_t i = tx->n_edits; i-- > 0;)
		if (evfs_dot_equal(tx->edits[i].object->ino, ino))
			return &tx->edits[i];
	return NULL;
}

bool evfs_tx_has_edit(const struct evfs_tx *tx, evfs_ino ino)
{
	return find_edit(tx, ino) != NULL;
}

int evfs_tx_before(struct evfs_tx *tx, evfs_ino ino,
		   const struct evfs_object **ret)
{
	const struct evfs_object *object = NULL;
	int rc = evfs_facts_get(tx->facts, ino, &object, tx->err);

	if (rc != 0)
		return rc;
	if (object == NULL) {
		char text[EVFS_DOT_TEXT_SIZE];

		evfs_dot_format(ino, text);
		return evfs_err_set(tx->err, EVFS_ENOTFOUND,
				    "object %s: no longer there", text);
	}
	*ret = object;
	return 0;
}

int evfs_tx_get(struct evfs_tx *tx, evfs_ino ino,
		const struct evfs_object **ret)
{
	struct evfs_tx_edit *edit = find_edit(tx, ino);

	if (edit == NULL)
		return evfs_tx_before(tx, ino, ret);
	*ret = edit->object;
	return 0;
}

int evfs_tx_add_edit(struct evfs_tx *tx, struct evfs_object *object,
		     evfs_dot dot)
{
	void *items = tx->edits;

	if (object == NULL)
		return evfs_tx_nomem(tx);
	if (evfs_object_log_raise(object, dot) != 0 ||
	    evfs_grow(&items, tx->n_edits, &tx->cap_edits,
		      sizeof(*tx->edits)) != 0) {
		evfs_object_free(object);
		return evfs_tx_nomem(tx);
	}
	tx->edits = items;
	tx->edits[tx->n_edits].object = object;
	tx->edits[tx->n_edits].dot = dot;
	tx->n_edits++;
	return 0;
}

int evfs_tx_edit(struct evfs_tx *tx, evfs_ino ino, struct evfs_object **ret,
		 evfs_dot *ret_dot)
{
	struct evfs_tx_edit *edit = find_edit(tx, ino);

	if (edit == NULL) {
		const struct evfs_object *object = NULL;
		evfs_dot dot;
		int rc = evfs_facts_get(tx->facts, ino, &object, tx->err);

		if (rc != 0)
			return rc;
		/* The root has an object only once it was given attributes. */
		if (object == NULL && !evfs_ino_is_root(ino))
			return evfs_tx_before(tx, ino, &object);
		rc = evfs_meta_next_dot(tx->meta, &dot, tx->err);
		if (rc != 0)
			return rc;
		rc = evfs_tx_add_edit(
			tx,
			object != NULL ?
				evfs_object_copy(object) :
				evfs_object_new(ino, EVFS_KIND_DIR),
			dot);
		if (rc != 0)
			return rc;
		edit = &tx->edits[tx->n_edits - 1];
	}
	*ret = edit->object;
	if (ret_dot != NULL)
		*ret_dot = edit->dot;
	return 0;
}

uint64_t evfs_tx_stamp(struct evfs_tx *tx, uint64_t over_ns)
{
	uint64_t time_ns = evfs_meta_stamp(tx->meta, over_ns);

	if (tx->time_ns == 0)
		tx->time_ns = time_ns;
	return time_ns;
}

int evfs_tx_set_unsealed(struct evfs_tx *tx, evfs_ino ino, bool on)
{
	void *items = tx->unsealed;

	if (evfs_grow(&items, tx->n_unsealed, &tx->cap_unsealed,
		      sizeof(*tx->unsealed)) != 0)
		return evfs_tx_nomem(tx);
	tx->unsealed = items;
	tx->unsealed[tx->n_unsealed].ino = ino;
	tx->unsealed[tx->n_unsealed].on = on;
	tx->n_unsealed++;
	return 0;
}

/* ---- commit ---- */

static int edit_cmp(const void *a, const void *b)
{
	const struct evfs_tie_end *x = a, *y = b;

	return evfs_dot_cmp(x->ino, y->ino);
}

static int tie(struct evfs_tx *tx)
{
	evfs_cleanup_free struct evfs_tie_end *ends = NULL;

	if (tx->n_edits < 2)
		return 0;
	ends = evfs_calloc(tx->n_edits, sizeof(*ends));
	if (ends == NULL)
		return evfs_tx_nomem(tx);
	for (size_t i = 0; i < tx->n_edits; i++) {
		ends[i].ino = tx->edits[i].object->ino;
		ends[i].dot = tx->edits[i].dot;
	}
	qsort(ends, tx->n_edits, sizeof(*ends), edit_cmp);
	for (size_t i = 0; i < tx->n_edits; i++) {
		struct evfs_tie one = { .dot = tx->edits[i].dot,
					.ends = ends,
					.n = tx->n_edits };

		if (evfs_object_put_tie(tx->edits[i].object, &one) != 0)
			return evfs_tx_nomem(tx);
	}
	return 0;
}

static int finish_edits(struct evfs_tx *tx)
{
	int rc = tie(tx);

	if (rc != 0)
		return rc;
	if (tx->time_ns == 0)
		evfs_tx_stamp(tx, 0);
	for (size_t i = 0; i < tx->n_edits; i++) {
		struct evfs_object *object = tx->edits[i].object;

		if (object->change_ns < tx->time_ns)
			object->change_ns = tx->time_ns;
		if (evfs_object_size_bound(object) > OBJECT_BYTES_ROOM)
			return evfs_err_set(
				tx->err,
				object->n_links > 1000 ? EVFS_EMLINK :
							 EVFS_ENOSPACE,
				"file has too many names or attributes "
				"(remove some)");
	}
	return 0;
}

static int put_edits(struct evfs_tx *tx)
{
	evfs_cleanup_free struct evfs_object **objects =
		evfs_calloc(tx->n_edits, sizeof(*objects));
	size_t n = tx->n_edits;

	if (objects == NULL)
		return evfs_tx_nomem(tx);
	for (size_t i = 0; i < n; i++)
		objects[i] = tx->edits[i].object;
	tx->n_edits = 0; /* they are the index's from here on */
	return evfs_index_put_within(tx->meta, objects, n, tx->origin,
				     tx->err);
}

/* A file becomes unsealed before its links are indexed, and ceases to be after
 * they are, so that the index finds its names in both states. */
static int put_unsealed(struct evfs_tx *tx, bool on)
{
	for (size_t i = 0; i < tx->n_unsealed; i++) {
		int rc;

		if (tx->unsealed[i].on != on)
			continue;
		rc = evfs_facts_set_unsealed(tx->facts, tx->unsealed[i].ino,
					     on, tx->err);
		if (rc != 0)
			return rc;
	}
	return 0;
}

/* Working copies of what is removed now. */
static int note_works(struct evfs_tx *tx)
{
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < tx->n_undo; i++) {
		const struct evfs_tx_undo *undo = &tx->undo[i];

		if (undo->handle->work != 0 && undo->handle->orphan &&
		    !undo->old.orphan)
			rc = evfs_work_done_note(tx->meta, undo->handle->work,
						 tx->err);
	}
	return rc;
}

static int commit(struct evfs_tx *tx)
{
	int rc;

	if (tx->n_edits == 0)
		return 0;
	rc = finish_edits(tx);
	if (rc != 0)
		return rc;
	rc = evfs_index_begin(tx->meta, tx->err);
	if (rc != 0)
		return rc;
	rc = put_unsealed(tx, true);
	if (rc == 0)
		rc = put_edits(tx);
	if (rc == 0)
		rc = put_unsealed(tx, false);
	if (rc == 0)
		rc = note_works(tx);
	return evfs_index_end(tx->meta, rc, tx->err);
}

int evfs_tx_finish(struct evfs_tx *tx, int rc)
{
	if (rc == 0)
		rc = commit(tx);
	evfs_tx_handles_end(tx, rc != 0);
	for (size_t i = 0; i < tx->n_edits; i++)
		evfs_object_free(tx->edits[i].object);
	evfs_free(tx->edits);
	evfs_free(tx->undo);
	evfs_free(tx->unsealed);
	memset(tx, 0, sizeof(*tx));
	return rc;
}
