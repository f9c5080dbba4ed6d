/* SPDX-License-Identifier: GPL-3.0-or-later */
/* mv of a sibling over its plain name: that content becomes the version that
 * replaces both. */
#include "meta/tree_priv.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "meta/meta.h"

const struct evfs_member_link *
evfs_tx_shared_link(const struct evfs_entry *source,
		    const struct evfs_entry *target)
{
	for (size_t i = 0; i < target->n_members; i++)
		if (evfs_entry_has_link(source, target->members[i].ino,
					&target->members[i].link))
			return &target->members[i];
	return NULL;
}

static int dot_order(const void *a, const void *b)
{
	const evfs_dot *x = a, *y = b;

	return evfs_dot_cmp(*x, *y);
}

static size_t collect_dots(const struct evfs_entry *entry, evfs_ino ino,
			   evfs_dot *to)
{
	size_t n = 0;

	for (size_t i = 0; i < entry->n_members; i++) {
		const struct evfs_member_link *m = &entry->members[i];

		if (!evfs_dot_equal(m->ino, ino))
			continue;
		if (m->n_dots > 0)
			memcpy(to + n, m->dots, m->n_dots * sizeof(*to));
		n += m->n_dots;
	}
	return n;
}

static size_t count_dots(const struct evfs_entry *entry)
{
	size_t n = 0;

	for (size_t i = 0; i < entry->n_members; i++)
		n += entry->members[i].n_dots;
	return n;
}

/* Sorts, drops what is there twice; returns how many are left. */
static size_t tidy_dots(evfs_dot *dots, size_t n)
{
	size_t kept = 0;

	qsort(dots, n, sizeof(*dots), dot_order);
	for (size_t i = 0; i < n; i++)
		if (kept == 0 || !evfs_dot_equal(dots[kept - 1], dots[i]))
			dots[kept++] = dots[i];
	return kept;
}

/* Who had the replaced content open writes to an unlinked file from now on;
 * who had the chosen one open goes on with it. */
static int choose_handles(struct evfs_tx *tx, evfs_ino ino,
			  const struct evfs_dots *all,
			  const struct evfs_dots *mine,
			  const struct evfs_version *version)
{
	struct evfs_handle *handle;
	int rc = evfs_tx_handles(tx, ino, &handle);

	for (; rc == 0 && handle != NULL; handle = evfs_handle_next(handle)) {
		bool lost = false;

		for (size_t i = 0; i < all->n; i++)
			if (!evfs_dots_has(mine, all->items[i]))
				lost = lost || evfs_handle_meets(
						       handle, &all->items[i],
						       1);
		if (!lost && !evfs_handle_meets(handle, mine->items, mine->n))
			continue;
		rc = evfs_tx_touch(tx, handle);
		if (rc != 0)
			break;
		handle->orphan = handle->orphan || lost;
		if (evfs_handle_meets(handle, mine->items, mine->n)) {
			rc = evfs_tx_handle_base(tx, handle, version);
			handle->sibling = false;
		}
	}
	return rc;
}

/* The chosen content with the time that is shown for it. */
static int content_shown(struct evfs_tx *tx, const struct evfs_entry *entry,
			 struct evfs_content_ref *ret)
{
	struct evfs_attributes attributes;
	int rc = evfs_view_attr(tx->meta, entry, &attributes, tx->err);

	if (rc != 0)
		return rc;
	*ret = (struct evfs_content_ref){ .content = entry->content,
					  .size = entry->size,
					  .mtime_s = attributes.mtime_s,
					  .mtime_ns = attributes.mtime_ns };
	return 0;
}

static int leave_others(struct evfs_tx *tx, const struct evfs_spot *target,
			const struct evfs_entry *entry, evfs_ino ino)
{
	struct evfs_beside at = { target->dir.members[0], target->name,
				  target->name_len };

	for (size_t i = 0; i < entry->n_members; i++) {
		int rc;

		if (evfs_dot_equal(entry->members[i].ino, ino))
			continue;
		rc = evfs_tx_leave_name(tx, &at, &entry->members[i]);
		if (rc != 0)
			return rc;
	}
	return 0;
}

static int choose_version(struct evfs_tx *tx, const struct evfs_entry *source,
			  const struct evfs_member_link *link,
			  const struct evfs_dots *all,
			  const struct evfs_dots *mine)
{
	const struct evfs_object *object = NULL;
	struct evfs_content_ref content;
	evfs_dot dot;
	int rc = content_shown(tx, source, &content);

	if (rc == 0)
		rc = evfs_tx_put_version(tx, link->ino, all, 0, &content,
					 &dot);
	if (rc == 0)
		rc = evfs_tx_set_alive(tx, link->ino, &link->link, true);
	if (rc == 0)
		rc = evfs_tx_get(tx, link->ino, &object);
	if (rc != 0)
		return rc;
	return choose_handles(tx, link->ino, all, mine,
			      evfs_object_find_version(object, dot));
}

int evfs_tx_choose(struct evfs_tx *tx, const struct evfs_spot *source,
		   const struct evfs_spot *target,
		   const struct evfs_member_link *link)
{
	size_t room = count_dots(&source->entry) + count_dots(&target->entry);
	evfs_cleanup_free evfs_dot *all = evfs_calloc(room, sizeof(*all));
	evfs_cleanup_free evfs_dot *mine = evfs_calloc(room, sizeof(*mine));
	struct evfs_dots all_dots, mine_dots;
	size_t n;
	int rc;

	if (all == NULL || mine == NULL)
		return evfs_tx_nomem(tx);
	tx->origin = EVFS_FEED_REMOTE;
	mine_dots.items = mine;
	mine_dots.n = tidy_dots(
		mine, collect_dots(&source->entry, link->ino, mine));
	n = collect_dots(&source->entry, link->ino, all);
	n += collect_dots(&target->entry, link->ino, all + n);
	all_dots.items = all;
	all_dots.n = tidy_dots(all, n);
	rc = choose_version(tx, &source->entry, link, &all_dots, &mine_dots);
	if (rc == 0)
		rc = leave_others(tx, target, &source->entry, link->ino);
	if (rc == 0)
		rc = leave_others(tx, target, &target->entry, link->ino);
	return rc;
}
