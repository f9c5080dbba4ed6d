/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Siblings: how a content that stands beside a plain name becomes a file of
 * its own, and how one content is taken off a name without touching others.
 *
 * A sibling is no fact, it is how the view shows a surplus of facts: several
 * links with one name, or several versions of one inode. So whatever removes
 * the plain name would make another content pop up under it. To prevent that,
 * everything that leaves a plain name promotes its siblings first: a link is
 * renamed to the generated name that it is shown under; where the link shows
 * other contents too, or goes away, the version moves to an object of its own.
 *
 * All decisions look at the facts as they were before the operation. */
#include "meta/tree_priv.h"

#include <string.h>

#include "base/mem.h"
#include "meta/meta.h"

/* ---- sets of links ---- */

void evfs_link_set_fini(struct evfs_link_set *set)
{
	evfs_free(set->items);
	memset(set, 0, sizeof(*set));
}

bool evfs_link_set_has(const struct evfs_link_set *set, evfs_ino ino,
		       const evfs_stamp *link)
{
	for (size_t i = 0; i < set->n; i++)
		if (evfs_dot_equal(set->items[i].ino, ino) &&
		    evfs_stamp_cmp(&set->items[i].link, link) == 0)
			return true;
	return false;
}

int evfs_link_set_add(struct evfs_tx *tx, struct evfs_link_set *set,
		      evfs_ino ino, const evfs_stamp *link)
{
	void *items = set->items;

	if (evfs_link_set_has(set, ino, link))
		return 0;
	if (evfs_grow(&items, set->n, &set->cap, sizeof(*set->items)) != 0)
		return evfs_tx_nomem(tx);
	set->items = items;
	set->items[set->n].ino = ino;
	set->items[set->n].link = *link;
	set->n++;
	return 0;
}

int evfs_link_set_add_entry(struct evfs_tx *tx, struct evfs_link_set *set,
			    const struct evfs_entry *entry)
{
	for (size_t i = 0; i < entry->n_members; i++) {
		int rc = evfs_link_set_add(tx, set, entry->members[i].ino,
					   &entry->members[i].link);

		if (rc != 0)
			return rc;
	}
	return 0;
}

bool evfs_entry_has_link(const struct evfs_entry *entry, evfs_ino ino,
			 const evfs_stamp *link)
{
	for (size_t i = 0; i < entry->n_members; i++)
		if (evfs_dot_equal(entry->members[i].ino, ino) &&
		    evfs_stamp_cmp(&entry->members[i].link, link) == 0)
			return true;
	return false;
}

/* ---- promotion ---- */

/* Open handles go with the version that they have open. */
static int follow(struct evfs_tx *tx, const struct evfs_member_link *member,
		  const struct evfs_object *carrier)
{
	struct evfs_handle *handle;
	int rc = evfs_tx_handles(tx, member->ino, &handle);

	while (rc == 0 && handle != NULL) {
		struct evfs_handle *next = evfs_handle_next(handle);

		if (evfs_handle_meets(handle, member->dots, member->n_dots)) {
			rc = evfs_tx_touch(tx, handle);
			if (rc == 0)
				rc = evfs_tx_handle_base(
					tx, handle, &carrier->versions[0]);
			if (rc != 0)
				return rc;
			evfs_tx_handle_move(tx, handle, carrier->ino,
					    &carrier->links[0].id);
			handle->sibling = false;
		}
		handle = next;
	}
	return rc;
}

/* What utimens has set since counts, as it did while this was a sibling. */
static struct evfs_content_ref content_of(const struct evfs_object *object,
					  const struct evfs_version *version)
{
	const struct evfs_attr *times =
		evfs_object_find_attr(object, EVFS_ATTR_TIMES, NULL, 0);
	evfs_stamp stamp = { version->time_ns, version->dot };
	struct evfs_content_ref content = { .content = version->content,
					    .size = version->size,
					    .mtime_s = version->mtime_s,
					    .mtime_ns = version->mtime_ns };

	if (times != NULL && evfs_stamp_cmp(&times->stamp, &stamp) > 0) {
		content.mtime_s = times->value.times.mtime_s;
		content.mtime_ns = times->value.times.mtime_ns;
	}
	return content;
}

/* The file of its own has the registers of its inode; set-ID bits only where
 * the one who set them had seen this version. */
static int make_carrier(struct evfs_tx *tx, const struct evfs_object *from,
			const struct evfs_version *version,
			const struct evfs_where *to, struct evfs_object **ret)
{
	struct evfs_content_ref content = content_of(from, version);
	struct evfs_new what = { .kind = EVFS_KIND_FILE,
				 .content = &content,
				 .n_attrs = from->n_attrs };
	evfs_cleanup_free struct evfs_attr *attrs = NULL;

	attrs = evfs_memdup(from->attrs,
			    from->n_attrs * sizeof(*from->attrs));
	if (attrs == NULL)
		return evfs_tx_nomem(tx);
	for (size_t i = 0; i < from->n_attrs; i++)
		if (!evfs_dots_has(&attrs[i].saw, version->dot))
			attrs[i].saw.n = 0;
	what.attrs = attrs;
	return evfs_tx_new_object(tx, to, &what, ret);
}

int evfs_tx_split_off(struct evfs_tx *tx,
		      const struct evfs_member_link *member,
		      const struct evfs_where *to, evfs_ino *carrier)
{
	const struct evfs_object *object = NULL;
	const struct evfs_version *version = NULL;
	struct evfs_object *made = NULL;
	int rc = evfs_tx_get(tx, member->ino, &object);

	if (rc != 0)
		return rc;
	for (size_t i = 0; i < member->n_dots && version == NULL; i++)
		version = evfs_object_find_version(object, member->dots[i]);
	if (version != NULL && evfs_dot_equal(*carrier, EVFS_INO_NONE)) {
		tx->origin = EVFS_FEED_REMOTE;
		rc = make_carrier(tx, object, version, to, &made);
		if (rc == 0)
			rc = follow(tx, member, made);
		if (rc != 0)
			return rc;
		*carrier = made->ino;
	}
	return evfs_tx_remove_versions(tx, member->ino, member->dots,
				       member->n_dots);
}

static int parent_of_link(struct evfs_tx *tx, evfs_ino ino,
			  const evfs_stamp *link, evfs_ino *ret)
{
	const struct evfs_object *object = NULL;
	const struct evfs_link *found;
	int rc = evfs_tx_get(tx, ino, &object);

	if (rc != 0)
		return rc;
	found = evfs_object_find_link(object, link);
	if (found == NULL)
		return evfs_err_set(tx->err, EVFS_ENOTFOUND,
				    "link: no longer there");
	*ret = found->place.parent;
	return 0;
}

int evfs_tx_promote(struct evfs_tx *tx, const struct evfs_entry *sibling,
		    const struct evfs_link_set *leaving,
		    struct evfs_link_set *moved, evfs_ino *ret_carrier)
{
	evfs_ino carrier = EVFS_INO_NONE;
	int rc = 0;

	tx->origin = EVFS_FEED_REMOTE;
	for (size_t i = 0; i < sibling->n_members && rc == 0; i++) {
		const struct evfs_member_link *m = &sibling->members[i];
		struct evfs_where to = { .name = sibling->name,
					 .name_len = sibling->name_len };

		rc = parent_of_link(tx, m->ino, &m->link, &to.parent);
		if (rc != 0)
			break;
		if (!evfs_link_set_has(leaving, m->ino, &m->link) &&
		    !evfs_link_set_has(moved, m->ino, &m->link)) {
			rc = evfs_tx_put_place(tx, m->ino, &m->link, &to,
					       NULL);
			if (rc == 0)
				rc = evfs_link_set_add(tx, moved, m->ino,
						       &m->link);
			if (evfs_dot_equal(carrier, EVFS_INO_NONE))
				carrier = m->ino;
		} else if (m->n_dots > 0) {
			rc = evfs_tx_split_off(tx, m, &to, &carrier);
		}
	}
	if (rc == 0 && ret_carrier != NULL)
		*ret_carrier = carrier;
	return rc;
}

static bool same_name(const struct evfs_entry *a, const struct evfs_entry *b)
{
	return a->name_len == b->name_len &&
	       memcmp(a->name, b->name, a->name_len) == 0;
}

int evfs_tx_promote_all(struct evfs_tx *tx, const struct evfs_beside *at,
			const struct evfs_link_set *leaving,
			const struct evfs_entry *spare,
			const struct evfs_entry *moved_first)
{
	evfs_cleanup_links struct evfs_link_set moved = { 0 };
	struct evfs_entry *group = NULL;
	size_t n = 0;
	int rc = evfs_view_group(tx->meta, at->dir, at->plain, at->plain_len,
				 &group, &n, tx->err);

	if (rc != 0)
		return rc;
	if (moved_first != NULL)
		rc = evfs_link_set_add_entry(tx, &moved, moved_first);
	for (size_t i = 1; i < n && rc == 0; i++)
		if (spare == NULL || !same_name(spare, &group[i]))
			rc = evfs_tx_promote(tx, &group[i], leaving, &moved,
					     NULL);
	evfs_view_group_free(group, n);
	return rc;
}

static int kill_directory(struct evfs_tx *tx, const struct evfs_dir *dir)
{
	for (size_t i = 0; i < dir->n; i++) {
		const struct evfs_object *object = NULL;
		int rc;

		if (evfs_ino_is_lost(dir->members[i]))
			continue;
		rc = evfs_tx_get(tx, dir->members[i], &object);
		if (rc == 0)
			rc = evfs_tx_set_alive(
				tx, dir->members[i],
				&evfs_object_only_link(object)->id, false);
		if (rc != 0)
			return rc;
	}
	return 0;
}

int evfs_tx_vacate(struct evfs_tx *tx, evfs_ino dir,
		   const struct evfs_entry *entry,
		   const struct evfs_entry *spare,
		   const struct evfs_entry *moved_first)
{
	evfs_cleanup_links struct evfs_link_set leaving = { 0 };
	struct evfs_beside at = { dir, entry->name, entry->name_len };
	int rc = evfs_link_set_add_entry(tx, &leaving, entry);

	if (rc == 0)
		rc = evfs_tx_promote_all(tx, &at, &leaving, spare,
					 moved_first);
	if (rc == 0 && entry->kind == EVFS_KIND_DIR)
		return kill_directory(tx, &entry->dir);
	for (size_t i = 0; i < entry->n_members && rc == 0; i++)
		rc = evfs_tx_unlink(tx, entry->members[i].ino,
				    &entry->members[i].link);
	return rc;
}

/* ---- one content off a name ---- */

static bool has_dot(const struct evfs_member_link *member, evfs_dot dot)
{
	for (size_t i = 0; i < member->n_dots; i++)
		if (evfs_dot_equal(member->dots[i], dot))
			return true;
	return false;
}

/* Does this link show nothing but the content of these versions? */
int evfs_tx_shows_only(struct evfs_tx *tx,
		       const struct evfs_member_link *member, bool *ret)
{
	const struct evfs_object *object = NULL;
	const struct evfs_link *beside;
	int rc = evfs_tx_before(tx, member->ino, &object);

	if (rc != 0)
		return rc;
	*ret = true;
	beside = evfs_object_sibling_link(object);
	if (beside == NULL ||
	    evfs_stamp_cmp(&beside->id, &member->link) != 0)
		return 0;
	for (size_t i = 0; i < object->n_versions; i++)
		if (!has_dot(member, object->versions[i].dot))
			*ret = false;
	return 0;
}

/* Is this the content that several links show? */
int evfs_tx_shared_top(struct evfs_tx *tx,
		       const struct evfs_member_link *member, bool *ret)
{
	const struct evfs_object *object = NULL;
	const struct evfs_version *newest;
	int rc = evfs_tx_before(tx, member->ino, &object);

	if (rc != 0)
		return rc;
	newest = evfs_object_newest_version(object);
	*ret = newest != NULL && evfs_object_live_links(object) > 1 &&
	       has_dot(member, newest->dot);
	return 0;
}

static bool same_dots(const struct evfs_member_link *a,
		      const struct evfs_member_link *b)
{
	if (a->n_dots != b->n_dots)
		return false;
	for (size_t i = 0; i < a->n_dots; i++)
		if (!evfs_dot_equal(a->dots[i], b->dots[i]))
			return false;
	return true;
}

/* Does the entry show another content of the member's link? */
static bool shows_other(const struct evfs_entry *entry,
			const struct evfs_member_link *member)
{
	for (size_t i = 0; i < entry->n_members; i++) {
		const struct evfs_member_link *m = &entry->members[i];

		if (evfs_dot_equal(m->ino, member->ino) &&
		    evfs_stamp_cmp(&m->link, &member->link) == 0 &&
		    !same_dots(m, member))
			return true;
	}
	return false;
}

/* Makes a link show only this content, the one that its inode's other links
 * show too: its other contents, which stand as siblings beside the plain name,
 * become files of their own. */
int evfs_tx_isolate(struct evfs_tx *tx, const struct evfs_beside *at,
		    const struct evfs_member_link *member)
{
	evfs_cleanup_links struct evfs_link_set leaving = { 0 };
	struct evfs_entry *group = NULL;
	size_t n = 0;
	int rc = evfs_link_set_add(tx, &leaving, member->ino, &member->link);

	if (rc == 0)
		rc = evfs_view_group(tx->meta, at->dir, at->plain,
				     at->plain_len, &group, &n, tx->err);
	for (size_t i = 1; i < n && rc == 0; i++) {
		evfs_cleanup_links struct evfs_link_set moved = { 0 };

		if (shows_other(&group[i], member))
			rc = evfs_tx_promote(tx, &group[i], &leaving, &moved,
					     NULL);
	}
	evfs_view_group_free(group, n);
	return rc;
}

static int orphan_handles(struct evfs_tx *tx,
			  const struct evfs_member_link *member)
{
	struct evfs_handle *handle;
	int rc = evfs_tx_handles(tx, member->ino, &handle);

	for (; rc == 0 && handle != NULL; handle = evfs_handle_next(handle)) {
		bool within = true;

		for (size_t i = 0; i < handle->n_base; i++)
			within = within && has_dot(member, handle->base[i]);
		if (!within || handle->n_base == 0)
			continue;
		rc = evfs_tx_touch(tx, handle);
		if (rc == 0)
			handle->orphan = true;
	}
	return rc;
}

/* Takes one content off a name, and off no other: the link goes where it shows
 * nothing else, else the version goes. */
int evfs_tx_leave_name(struct evfs_tx *tx, const struct evfs_beside *at,
		       const struct evfs_member_link *member)
{
	bool only = false, shared = false;
	int rc = evfs_tx_shows_only(tx, member, &only);

	if (rc == 0 && !only)
		rc = evfs_tx_shared_top(tx, member, &shared);
	if (rc != 0)
		return rc;
	if (shared)
		rc = evfs_tx_isolate(tx, at, member);
	if (rc == 0 && (only || shared))
		return evfs_tx_unlink(tx, member->ino, &member->link);
	if (rc == 0)
		rc = evfs_tx_remove_versions(tx, member->ino, member->dots,
					     member->n_dots);
	return rc == 0 ? orphan_handles(tx, member) : rc;
}

int evfs_tx_drop_sibling(struct evfs_tx *tx, evfs_ino dir,
			 const struct evfs_entry *entry)
{
	struct evfs_beside at = { dir, entry->plain, entry->plain_len };
	int rc = 0;

	for (size_t i = 0; i < entry->n_members && rc == 0; i++)
		rc = evfs_tx_leave_name(tx, &at, &entry->members[i]);
	return rc;
}
