/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The edits that operations are made of: links, registers, versions, new
 * objects. Each is written with the operation's dot for the object. */
#include "meta/tree_priv.h"

#include <string.h>

#include "base/mem.h"
#include "meta/meta.h"

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
	struct evfs_handle *handle;
	int rc = evfs_tx_handles(tx, ino, &handle);

	while (rc == 0 && handle != NULL) {
		struct evfs_handle *next = evfs_handle_next(handle);

		if (evfs_stamp_cmp(&handle->link, link) == 0) {
			rc = evfs_tx_touch(tx, handle);
			if (rc != 0)
				break;
			if (other != NULL)
				handle->link = *other;
			else
				handle->orphan = true;
		}
		handle = next;
	}
	return rc;
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
	version.time_ns = content->closed_ns > over_ns ?
				  content->closed_ns :
				  evfs_tx_stamp(tx, over_ns);
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
	rc = evfs_tx_add_edit(tx, object, dot);
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
