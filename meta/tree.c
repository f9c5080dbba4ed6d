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

/* Takes the object, also on failure. */
static int add_edit(struct evfs_tx *tx, struct evfs_object *object,
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
		rc = add_edit(tx,
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

/* About what the encoding takes, from above. */
static size_t size_estimate(const struct evfs_object *object)
{
	size_t sum = object->target_len + 64 * object->n_log;

	for (size_t i = 0; i < object->n_links; i++)
		sum += 160 + object->links[i].place.name_len +
		       32 * object->links[i].alive.n;
	for (size_t i = 0; i < object->n_versions; i++)
		sum += 160 + 32 * object->versions[i].bases.n;
	for (size_t i = 0; i < object->n_attrs; i++) {
		const struct evfs_attr *attr = &object->attrs[i];

		sum += 96 + attr->key_len + 32 * attr->saw.n;
		if (attr->kind == EVFS_ATTR_XATTR)
			sum += attr->value.xattr.len;
	}
	for (size_t i = 0; i < object->n_ties; i++)
		sum += 48 + 64 * object->ties[i].n;
	return sum;
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
		if (size_estimate(object) > OBJECT_BYTES_ROOM)
			return evfs_err_set(
				tx->err, EVFS_ENOSPACE,
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
	return evfs_index_put(tx->meta, objects, n, tx->origin, tx->err);
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

static int commit(struct evfs_tx *tx)
{
	int rc;

	if (tx->n_edits == 0)
		return 0;
	rc = finish_edits(tx);
	if (rc != 0)
		return rc;
	if (tx->n_unsealed == 0)
		return put_edits(tx);
	rc = evfs_meta_begin_write(tx->meta, tx->err);
	if (rc == 0)
		rc = evfs_facts_save(tx->facts, tx->err);
	if (rc != 0)
		return rc;
	rc = put_unsealed(tx, true);
	if (rc == 0)
		rc = put_edits(tx);
	if (rc == 0)
		rc = put_unsealed(tx, false);
	if (rc == 0)
		return evfs_facts_release(tx->facts, tx->err);
	evfs_facts_rollback(tx->facts);
	return rc;
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

/* ---- links ---- */

int evfs_tx_set_alive(struct evfs_tx *tx, evfs_ino ino, const evfs_stamp *link,
		      bool alive)
{
	struct evfs_object *object = NULL;
	struct evfs_link *found;
	evfs_dot dot;
	int rc = evfs_tx_edit(tx, ino, &object, &dot);

	if (rc != 0)
		return rc;
	found = evfs_object_find_link(object, link);
	if (found == NULL)
		return evfs_err_set(tx->err, EVFS_ENOTFOUND,
				    "link: no longer there");
	if (evfs_object_set_alive(object, found, alive ? &dot : NULL) != 0)
		return evfs_tx_nomem(tx);
	return 0;
}

/* Handles that were reached through this link go on with another, or write to
 * an unlinked file. */
static int unlink_handles(struct evfs_tx *tx, evfs_ino ino,
			  const evfs_stamp *link, const evfs_stamp *other)
{
	struct evfs_handle *handle = evfs_handle_first(tx->meta, ino);

	while (handle != NULL) {
		struct evfs_handle *next = evfs_handle_next(handle);

		if (evfs_stamp_cmp(&handle->link, link) == 0) {
			int rc = evfs_tx_touch(tx, handle);

			if (rc != 0)
				return rc;
			if (other != NULL)
				handle->link = *other;
			else
				handle->orphan = true;
		}
		handle = next;
	}
	return 0;
}

/* Clears the dots seen. The other links are asserted again, else two replicas
 * that each remove another name of a file destroy it together. Versions stay:
 * a concurrent rename keeps the file and its content. */
int evfs_tx_unlink(struct evfs_tx *tx, evfs_ino ino, const evfs_stamp *link)
{
	struct evfs_object *object = NULL;
	evfs_stamp first = { 0 };
	bool others = false, unsealed = false;
	int rc = evfs_tx_set_alive(tx, ino, link, false);

	if (rc == 0)
		rc = evfs_tx_edit(tx, ino, &object, NULL);
	if (rc != 0)
		return rc;
	for (size_t i = 0; i < object->n_links; i++) {
		if (object->links[i].alive.n == 0)
			continue;
		if (!others)
			first = object->links[i].id;
		others = true;
		rc = evfs_tx_set_alive(tx, ino, &object->links[i].id, true);
		if (rc != 0)
			return rc;
	}
	if (!others && object->kind == EVFS_KIND_FILE &&
	    object->n_versions == 0) {
		rc = evfs_facts_is_unsealed(tx->facts, ino, &unsealed,
					    tx->err);
		if (rc == 0 && unsealed)
			rc = evfs_tx_set_unsealed(tx, ino, false);
		if (rc != 0)
			return rc;
	}
	return unlink_handles(tx, ino, link, others ? &first : NULL);
}

int evfs_tx_put_place(struct evfs_tx *tx, evfs_ino ino, const evfs_stamp *link,
		      const struct evfs_where *to, const evfs_ino *origin)
{
	struct evfs_object *object = NULL;
	struct evfs_link *found;
	struct evfs_place place;
	evfs_dot dot;
	int rc = evfs_tx_edit(tx, ino, &object, &dot);

	if (rc != 0)
		return rc;
	found = evfs_object_find_link(object, link);
	if (found == NULL)
		return evfs_err_set(tx->err, EVFS_ENOTFOUND,
				    "link: no longer there");
	place.stamp.time_ns = evfs_tx_stamp(tx, found->place.stamp.time_ns);
	place.stamp.dot = dot;
	place.parent = to->parent;
	place.origin = origin != NULL ? *origin : found->place.parent;
	place.name = (const uint8_t *)to->name;
	place.name_len = to->name_len;
	if (evfs_object_set_place(object, found, &place) != 0)
		return evfs_tx_nomem(tx);
	return evfs_tx_set_alive(tx, ino, link, true);
}

/* ---- registers and versions ---- */

int evfs_tx_put_attr(struct evfs_tx *tx, evfs_ino ino,
		     const struct evfs_attr *attr, const struct evfs_dots *saw)
{
	struct evfs_object *object = NULL;
	struct evfs_attr fresh = *attr;
	const struct evfs_attr *old;
	evfs_dot dot;
	int rc = evfs_tx_edit(tx, ino, &object, &dot);

	if (rc != 0)
		return rc;
	old = evfs_object_find_attr(object, attr->kind, attr->key,
				    attr->key_len);
	fresh.stamp.time_ns =
		evfs_tx_stamp(tx, old != NULL ? old->stamp.time_ns : 0);
	fresh.stamp.dot = dot;
	fresh.saw = saw != NULL ? *saw : (struct evfs_dots){ NULL, 0 };
	return evfs_object_put_attr(object, &fresh) == 0 ? 0 :
							   evfs_tx_nomem(tx);
}

int evfs_tx_remove_versions(struct evfs_tx *tx, evfs_ino ino,
			    const evfs_dot *dots, size_t n)
{
	struct evfs_object *object = NULL;
	int rc = evfs_tx_edit(tx, ino, &object, NULL);

	if (rc != 0)
		return rc;
	for (size_t i = 0; i < n; i++)
		evfs_object_remove_version(object, dots[i]);
	return 0;
}

/* The set-ID bits go when content is replaced, as the kernel does on a write
 * by an ordinary user. */
static int clear_set_id(struct evfs_tx *tx, const struct evfs_object *object)
{
	const struct evfs_attr *mode =
		evfs_object_find_attr(object, EVFS_ATTR_MODE, NULL, 0);
	struct evfs_attr fresh;

	if (mode == NULL || (mode->value.mode & EVFS_SET_ID_BITS) == 0)
		return 0;
	fresh = *mode;
	fresh.value.mode &= ~EVFS_SET_ID_BITS;
	return evfs_tx_put_attr(tx, object->ino, &fresh, NULL);
}

/* Replaces only its bases: what the writer had opened. */
int evfs_tx_put_version(struct evfs_tx *tx, evfs_ino ino,
			const struct evfs_dots *bases, uint64_t over_ns,
			const struct evfs_content_ref *content,
			evfs_dot *ret_dot)
{
	struct evfs_object *object = NULL;
	struct evfs_version version = { .bases = *bases,
					.content = content->content,
					.size = content->size,
					.mtime_s = content->mtime_s,
					.mtime_ns = content->mtime_ns };
	int rc = evfs_tx_edit(tx, ino, &object, &version.dot);

	if (rc != 0)
		return rc;
	for (size_t i = 0; i < bases->n; i++) {
		const struct evfs_version *base =
			evfs_object_find_version(object, bases->items[i]);

		if (base != NULL && base->time_ns > over_ns)
			over_ns = base->time_ns;
	}
	rc = evfs_tx_remove_versions(tx, ino, bases->items, bases->n);
	if (rc != 0)
		return rc;
	version.time_ns = evfs_tx_stamp(tx, over_ns);
	if (evfs_object_put_version(object, &version) != 0)
		return evfs_tx_nomem(tx);
	if (ret_dot != NULL)
		*ret_dot = version.dot;
	return bases->n > 0 ? clear_set_id(tx, object) : 0;
}

/* ---- new objects ---- */

static int put_new_attrs(struct evfs_tx *tx, struct evfs_object *object,
			 const struct evfs_new *what, evfs_stamp stamp)
{
	struct evfs_dots self = { &stamp.dot, 1 };

	for (size_t i = 0; i < what->n_attrs; i++) {
		struct evfs_attr attr = what->attrs[i];

		if (attr.kind == EVFS_ATTR_XATTR && attr.value.xattr.removed)
			continue;
		attr.stamp = stamp;
		if (attr.saw.n > 0)
			attr.saw = self;
		if (evfs_object_put_attr(object, &attr) != 0)
			return evfs_tx_nomem(tx);
	}
	return 0;
}

int evfs_tx_new_object(struct evfs_tx *tx, const struct evfs_where *where,
		       const struct evfs_new *what, struct evfs_object **ret)
{
	struct evfs_object *object;
	struct evfs_link link = { 0 };
	struct evfs_dots none = { NULL, 0 };
	evfs_dot dot;
	int rc = evfs_meta_next_dot(tx->meta, &dot, tx->err);

	if (rc != 0)
		return rc;
	object = evfs_object_new(dot, what->kind);
	rc = add_edit(tx, object, dot);
	if (rc != 0)
		return rc;
	object->rdev = what->rdev;
	link.id.time_ns = evfs_tx_stamp(tx, 0);
	link.id.dot = dot;
	link.place.stamp = link.id;
	link.place.parent = link.place.origin = where->parent;
	link.place.name = (const uint8_t *)where->name;
	link.place.name_len = where->name_len;
	link.alive.items = &dot;
	link.alive.n = 1;
	if (evfs_object_add_link(object, &link) != 0 ||
	    (what->kind == EVFS_KIND_SYMLINK &&
	     evfs_object_set_target(object, what->target,
				    what->target_len) != 0))
		return evfs_tx_nomem(tx);
	rc = put_new_attrs(tx, object, what, link.id);
	if (rc == 0 && what->kind == EVFS_KIND_FILE) {
		rc = what->content != NULL ?
			     evfs_tx_put_version(tx, dot, &none, 0,
						 what->content, NULL) :
			     evfs_tx_set_unsealed(tx, dot, true);
	}
	if (rc == 0)
		*ret = object;
	return rc;
}
