/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Handles that are put away: closed, and opened again from what identifies them
 * when somebody needs them. Most of a handle is copied from its object; so a
 * handle of which the object still has the link and the version can be had
 * again at any time. The holder keeps the identities, and reopens in time what
 * an operation or a merge is about to take out of the object. */
#include "meta/tree_priv.h"

#include <string.h>

#include "base/mem.h"
#include "meta/meta_priv.h"

const struct evfs_link *evfs_tree_key_link(const struct evfs_handle_key *key,
					   const struct evfs_object *object)
{
	for (size_t i = 0; i < object->n_links; i++)
		if (object->links[i].id.time_ns == key->link_ns &&
		    object->links[i].id.dot.actor.node == key->link_node)
			return &object->links[i];
	return NULL;
}

bool evfs_tree_fits(const struct evfs_handle_key *key,
		    const struct evfs_object *object)
{
	return evfs_tree_key_link(key, object) != NULL &&
	       (!key->has_base ||
		evfs_object_find_version(object, key->base) != NULL);
}

/* All of the handle but its base; false: the object is not what it was. */
static bool fill(const struct evfs_object *object,
		 const struct evfs_handle_key *key, struct evfs_handle *handle)
{
	const struct evfs_link *link = evfs_tree_key_link(key, object);
	const struct evfs_version *version = NULL;

	if (key->has_base)
		version = evfs_object_find_version(object, key->base);
	if (link == NULL || (key->has_base && version == NULL))
		return false;
	memset(handle, 0, sizeof(*handle));
	handle->ino = key->ino;
	handle->link = link->id;
	handle->parent = link->place.parent;
	memcpy(handle->name, link->place.name, link->place.name_len);
	handle->name_len = link->place.name_len;
	if (version != NULL)
		evfs_handle_show(handle, version);
	return true;
}

static bool is_same(const struct evfs_handle *a, const struct evfs_handle *b)
{
	return evfs_stamp_cmp(&a->link, &b->link) == 0 &&
	       a->n_base == b->n_base && a->has_shown == b->has_shown &&
	       a->base_time_ns == b->base_time_ns &&
	       evfs_hash_equal(&a->content, &b->content) &&
	       a->size == b->size && a->mtime_s == b->mtime_s &&
	       a->mtime_ns == b->mtime_ns;
}

bool evfs_tree_may_put_away(struct evfs_meta *meta,
			    const struct evfs_handle *handle,
			    struct evfs_handle_key *ret)
{
	const struct evfs_object *object = NULL;
	struct evfs_handle_key key = { .ino = handle->ino };
	struct evfs_handle again;

	/* A sibling's name is not in the object. */
	if (!handle->registered || handle->orphan || handle->sibling ||
	    handle->n_base > 1)
		return false;
	evfs_handle_key_link(&key, &handle->link);
	key.has_base = handle->n_base == 1;
	if (key.has_base)
		key.base = handle->base[0];
	if (evfs_facts_get(evfs_meta_facts(meta), key.ino, &object, NULL) !=
		    0 ||
	    object == NULL || !fill(object, &key, &again) ||
	    !is_same(handle, &again))
		return false;
	*ret = key;
	return true;
}

int evfs_tree_reopen(struct evfs_meta *meta, const struct evfs_handle_key *key,
		     struct evfs_handle *handle, struct evfs_err *err)
{
	const struct evfs_object *object = NULL;
	evfs_dot *base = NULL;
	int rc = evfs_facts_get(evfs_meta_facts(meta), key->ino, &object, err);

	if (rc != 0)
		return rc;
	if (object == NULL || !evfs_tree_fits(key, object))
		return evfs_err_set(err, EVFS_ENOTFOUND,
				    "open: no longer there");
	if (key->has_base) {
		base = evfs_memdup(&key->base, sizeof(*base));
		if (base == NULL)
			return evfs_err_set(err, EVFS_ENOMEM, "out of memory");
	}
	(void)fill(object, key, handle);
	handle->base = base;
	evfs_handle_register(meta, handle);
	return 0;
}

int evfs_tx_handles(struct evfs_tx *tx, evfs_ino ino,
		    struct evfs_handle **ret)
{
	const struct evfs_tree_holder *holder = tx->meta->tree->holder;
	int rc = 0;

	*ret = NULL;
	if (holder != NULL)
		rc = holder->wanted(holder->arg, ino, tx->err);
	if (rc == 0)
		*ret = evfs_handle_first(tx->meta, ino);
	return rc;
}

int evfs_tree_changes(struct evfs_meta *meta, const struct evfs_object *object,
		      struct evfs_err *err)
{
	const struct evfs_tree_holder *holder =
		meta->tree != NULL ? meta->tree->holder : NULL;

	return holder != NULL ? holder->changes(holder->arg, object, err) : 0;
}
