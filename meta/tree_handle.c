/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Handles: the table of those that are registered, by object; opening and
 * closing; and the changes that a transaction makes to them, which are undone
 * when it fails. */
#include "meta/tree_priv.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "meta/meta_priv.h"

#define BUCKETS_FIRST 64

/* ---- the table ---- */

int evfs_tree_state_new(struct evfs_meta *meta, struct evfs_err *err)
{
	struct evfs_tree_state *state = evfs_calloc(1, sizeof(*state));

	assert(meta->tree == NULL);
	if (state == NULL)
		return evfs_err_set(err, EVFS_ENOMEM, "out of memory");
	state->n_buckets = BUCKETS_FIRST;
	state->buckets = evfs_calloc(BUCKETS_FIRST, sizeof(*state->buckets));
	if (state->buckets == NULL) {
		evfs_free(state);
		return evfs_err_set(err, EVFS_ENOMEM, "out of memory");
	}
	state->origin = EVFS_FEED_LOCAL;
	meta->tree = state;
	return 0;
}

void evfs_tree_state_free(struct evfs_meta *meta)
{
	if (meta->tree == NULL)
		return;
	evfs_free(meta->tree->buckets);
	evfs_free(meta->tree);
	meta->tree = NULL;
}

void evfs_tree_set_origin(struct evfs_meta *meta, enum evfs_feed_origin origin)
{
	meta->tree->origin = origin;
}

static struct evfs_handle **bucket_of(const struct evfs_tree_state *state,
				      evfs_ino ino)
{
	uint64_t mix = ino.actor.node ^ (uint64_t)ino.actor.epoch << 32;

	mix = (mix ^ ino.counter) * UINT64_C(0x9E3779B97F4A7C15);
	mix ^= mix >> 32;
	return &state->buckets[mix & (state->n_buckets - 1)];
}

static void chain(struct evfs_tree_state *state, struct evfs_handle *handle)
{
	struct evfs_handle **head = bucket_of(state, handle->ino);

	handle->prev = NULL;
	handle->next = *head;
	if (*head != NULL)
		(*head)->prev = handle;
	*head = handle;
}

static void unchain(struct evfs_tree_state *state, struct evfs_handle *handle)
{
	if (handle->prev != NULL)
		handle->prev->next = handle->next;
	else
		*bucket_of(state, handle->ino) = handle->next;
	if (handle->next != NULL)
		handle->next->prev = handle->prev;
	handle->next = handle->prev = NULL;
}

/* Twice the buckets; chains just get longer where there is no memory. */
static void grow_table(struct evfs_tree_state *state)
{
	struct evfs_handle **old = state->buckets;
	size_t n_old = state->n_buckets;
	struct evfs_handle **fresh = evfs_calloc(2 * n_old, sizeof(*fresh));

	if (fresh == NULL)
		return;
	state->buckets = fresh;
	state->n_buckets = 2 * n_old;
	for (size_t i = 0; i < n_old; i++) {
		struct evfs_handle *handle = old[i];

		while (handle != NULL) {
			struct evfs_handle *next = handle->next;

			chain(state, handle);
			handle = next;
		}
	}
	evfs_free(old);
}

void evfs_handle_register(struct evfs_meta *meta, struct evfs_handle *handle)
{
	struct evfs_tree_state *state = meta->tree;

	assert(!handle->registered && !handle->loose);
	if (state->n_handles >= 2 * state->n_buckets)
		grow_table(state);
	chain(state, handle);
	handle->registered = true;
	state->n_handles++;
}

static struct evfs_handle *of_object(struct evfs_handle *handle, evfs_ino ino)
{
	while (handle != NULL && !evfs_dot_equal(handle->ino, ino))
		handle = handle->next;
	return handle;
}

struct evfs_handle *evfs_handle_first(struct evfs_meta *meta, evfs_ino ino)
{
	return of_object(*bucket_of(meta->tree, ino), ino);
}

struct evfs_handle *evfs_handle_next(const struct evfs_handle *handle)
{
	return of_object(handle->next, handle->ino);
}

bool evfs_tree_is_open(struct evfs_meta *meta, evfs_ino ino)
{
	const struct evfs_tree_state *state = meta->tree;

	return evfs_handle_first(meta, ino) != NULL ||
	       (state->holder != NULL &&
		state->holder->held(state->holder->arg, ino));
}

void evfs_tree_set_holder(struct evfs_meta *meta,
			  const struct evfs_tree_holder *holder)
{
	meta->tree->holder = holder;
}

/* ---- opening ---- */

static int dot_order(const void *a, const void *b)
{
	const evfs_dot *x = a, *y = b;

	return evfs_dot_cmp(*x, *y);
}

static void renew_handle(struct evfs_handle *handle,
			 evfs_dot (*renew)(void *arg, evfs_dot dot), void *arg)
{
	handle->ino = renew(arg, handle->ino);
	handle->link.dot = renew(arg, handle->link.dot);
	handle->parent = renew(arg, handle->parent);
	for (size_t i = 0; i < handle->n_base; i++)
		handle->base[i] = renew(arg, handle->base[i]);
	if (handle->n_base > 1)
		qsort(handle->base, handle->n_base, sizeof(*handle->base),
		      dot_order);
}

void evfs_tree_renew(struct evfs_meta *meta,
		     evfs_dot (*renew)(void *arg, evfs_dot dot), void *arg)
{
	struct evfs_tree_state *state = meta->tree;
	struct evfs_handle *all = NULL, *handle;

	for (size_t i = 0; i < state->n_buckets; i++)
		while ((handle = state->buckets[i]) != NULL) {
			unchain(state, handle);
			renew_handle(handle, renew, arg);
			handle->next = all;
			all = handle;
		}
	while ((handle = all) != NULL) {
		all = handle->next;
		chain(state, handle);
	}
	if (state->holder != NULL)
		state->holder->renewed(state->holder->arg, renew, arg);
}

static int open_checked(const struct evfs_member_link *member,
			const struct evfs_entry *entry, evfs_ino parent,
			struct evfs_handle *handle)
{
	evfs_dot *base = NULL;

	if (member->n_dots > 0) {
		base = evfs_memdup(member->dots,
				   member->n_dots * sizeof(*base));
		if (base == NULL)
			return EVFS_ENOMEM;
		qsort(base, member->n_dots, sizeof(*base), dot_order);
	}
	memset(handle, 0, sizeof(*handle));
	handle->ino = member->ino;
	handle->link = member->link;
	handle->base = base;
	handle->n_base = member->n_dots;
	handle->base_time_ns = entry->version_time_ns;
	handle->sibling = entry->is_sibling;
	handle->parent = parent;
	memcpy(handle->name, entry->name, entry->name_len + 1);
	handle->name_len = entry->name_len;
	handle->has_shown = member->n_dots > 0;
	handle->content = entry->content;
	handle->size = entry->size;
	handle->mtime_s = entry->mtime_s;
	handle->mtime_ns = entry->mtime_ns;
	return 0;
}

int evfs_tree_open(struct evfs_meta *meta, evfs_ino dir,
		   const struct evfs_entry *entry, struct evfs_handle *handle,
		   struct evfs_err *err)
{
	const struct evfs_object *object = NULL;
	const struct evfs_link *link;
	int rc;

	(void)dir; /* the link's own place says which member it is in */
	if (entry->kind == EVFS_KIND_DIR)
		return evfs_err_set(err, EVFS_EISDIR, "open: is a directory");
	if (entry->kind != EVFS_KIND_FILE)
		return evfs_err_set(err, EVFS_ELOOP, "open: not a file");
	assert(entry->n_members > 0);
	rc = evfs_facts_get(evfs_meta_facts(meta), entry->members[0].ino,
			    &object, err);
	if (rc != 0)
		return rc;
	link = object != NULL ?
		       evfs_object_find_link(object, &entry->members[0].link) :
		       NULL;
	if (link == NULL)
		return evfs_err_set(err, EVFS_ENOTFOUND,
				    "open: no longer there");
	rc = open_checked(&entry->members[0], entry, link->place.parent,
			  handle);
	if (rc != 0)
		return evfs_err_set(err, rc, "out of memory");
	evfs_handle_register(meta, handle);
	return 0;
}

void evfs_tree_open_loose(struct evfs_handle *handle)
{
	memset(handle, 0, sizeof(*handle));
	handle->ino = EVFS_INO_NONE;
	handle->loose = true;
}

void evfs_tree_close(struct evfs_meta *meta, struct evfs_handle *handle)
{
	if (handle->registered) {
		unchain(meta->tree, handle);
		assert(meta->tree->n_handles > 0);
		meta->tree->n_handles--;
	}
	evfs_free(handle->base);
	memset(handle, 0, sizeof(*handle));
}

int evfs_tree_shown(struct evfs_meta *meta, const struct evfs_handle *handle,
		    struct evfs_shown *ret, struct evfs_err *err)
{
	(void)meta;
	(void)err;
	memset(ret, 0, sizeof(*ret));
	ret->has_version = handle->has_shown;
	if (handle->has_shown) {
		ret->content = handle->content;
		ret->size = handle->size;
		ret->mtime_s = handle->mtime_s;
		ret->mtime_ns = handle->mtime_ns;
	}
	return 0;
}

bool evfs_handle_meets(const struct evfs_handle *handle, const evfs_dot *dots,
		       size_t n)
{
	for (size_t i = 0; i < handle->n_base; i++)
		for (size_t k = 0; k < n; k++)
			if (evfs_dot_equal(handle->base[i], dots[k]))
				return true;
	return false;
}

/* ---- changes by a transaction ---- */

int evfs_tx_touch(struct evfs_tx *tx, struct evfs_handle *handle)
{
	void *items = tx->undo;
	struct evfs_tx_undo *undo;
	evfs_dot *base = NULL;

	for (size_t i = 0; i < tx->n_undo; i++)
		if (tx->undo[i].handle == handle)
			return 0;
	if (evfs_grow(&items, tx->n_undo, &tx->cap_undo,
		      sizeof(*tx->undo)) != 0)
		return evfs_tx_nomem(tx);
	tx->undo = items;
	if (handle->n_base > 0) {
		base = evfs_memdup(handle->base,
				   handle->n_base * sizeof(*base));
		if (base == NULL)
			return evfs_tx_nomem(tx);
	}
	undo = &tx->undo[tx->n_undo++];
	undo->handle = handle;
	undo->old = *handle;
	undo->old.base = base;
	return 0;
}

void evfs_tx_handle_move(struct evfs_tx *tx, struct evfs_handle *handle,
			 evfs_ino ino, const evfs_stamp *link)
{
	if (handle->registered)
		unchain(tx->meta->tree, handle);
	handle->ino = ino;
	handle->link = *link;
	if (handle->registered)
		chain(tx->meta->tree, handle);
}

void evfs_handle_show(struct evfs_handle *handle,
		      const struct evfs_version *version)
{
	handle->n_base = 1;
	handle->base_time_ns = version->time_ns;
	handle->has_shown = true;
	handle->content = version->content;
	handle->size = version->size;
	handle->mtime_s = version->mtime_s;
	handle->mtime_ns = version->mtime_ns;
}

int evfs_tx_handle_base(struct evfs_tx *tx, struct evfs_handle *handle,
			const struct evfs_version *version)
{
	evfs_dot *base = evfs_memdup(&version->dot, sizeof(*base));

	if (base == NULL)
		return evfs_tx_nomem(tx);
	evfs_free(handle->base);
	handle->base = base;
	evfs_handle_show(handle, version);
	return 0;
}

void evfs_tx_handles_end(struct evfs_tx *tx, bool undo)
{
	for (size_t i = 0; i < tx->n_undo; i++) {
		struct evfs_handle *handle = tx->undo[i].handle;
		struct evfs_handle *old = &tx->undo[i].old;

		if (!undo) {
			evfs_free(old->base);
			continue;
		}
		evfs_free(handle->base);
		if (handle->registered)
			unchain(tx->meta->tree, handle);
		*handle = *old;
		handle->next = handle->prev = NULL;
		if (handle->registered)
			chain(tx->meta->tree, handle);
	}
	tx->n_undo = 0;
}
