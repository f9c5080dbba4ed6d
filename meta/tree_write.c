/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Writing: what it means that the writer is done.
 *
 * A version replaces only its base, what the writer had opened; so of two
 * writers who did not see each other both contents stay. After a removal on
 * this replica the bytes go where POSIX sends them; after one by a peer they
 * come back, with this content only: edit beats delete. Writing to a sibling
 * makes it a file of its own, under the name that it has. */
#include "meta/tree_priv.h"

#include <assert.h>
#include <string.h>

#include "base/mem.h"
#include "meta/meta.h"

/* What the handle shows in the tree now. */
struct shown_at {
	bool found;
	evfs_ino dir;            /* a member of the directory */
	struct evfs_entry entry; /* owned */
};

static int find_shown(struct evfs_tx *tx, const struct evfs_handle *handle,
		      struct shown_at *ret)
{
	int rc;

	memset(ret, 0, sizeof(*ret));
	if (handle->n_base == 0)
		return 0;
	rc = evfs_view_find(tx->meta, handle->ino, &handle->link,
			    handle->base, handle->n_base, &ret->dir,
			    &ret->entry, tx->err);
	ret->found = rc == 0;
	return rc == EVFS_ENOTFOUND ? 0 : rc;
}

/* ---- a file of its own ---- */

/* The registers that the inode has; set-ID bits do not go with new content. */
static int attrs_without_set_id(struct evfs_tx *tx,
				const struct evfs_object *object,
				struct evfs_new *what)
{
	struct evfs_attr *attrs =
		evfs_memdup(object->attrs,
			    object->n_attrs * sizeof(*object->attrs));

	if (attrs == NULL)
		return evfs_tx_nomem(tx);
	for (size_t i = 0; i < object->n_attrs; i++) {
		if (attrs[i].kind != EVFS_ATTR_MODE)
			continue;
		attrs[i].value.mode &= ~EVFS_SET_ID_BITS;
		attrs[i].saw.n = 0;
	}
	what->attrs = attrs;
	what->n_attrs = object->n_attrs;
	return 0;
}

static int carry(struct evfs_tx *tx, struct evfs_handle *handle,
		 const struct evfs_where *where, const struct evfs_new *what)
{
	struct evfs_object *carrier = NULL;
	int rc = evfs_tx_new_object(tx, where, what, &carrier);

	if (rc == 0)
		rc = evfs_tx_touch(tx, handle);
	if (rc == 0)
		rc = evfs_tx_handle_base(tx, handle, &carrier->versions[0]);
	if (rc != 0)
		return rc;
	evfs_tx_handle_move(tx, handle, carrier->ino, &carrier->links[0].id);
	handle->sibling = handle->orphan = false;
	return 0;
}

/* The sibling that the handle has open becomes a file of its own with this
 * content; or, where nothing shows it any more, a new file under the name that
 * it had. */
static int seal_apart(struct evfs_tx *tx, struct evfs_handle *handle,
		      const struct shown_at *at,
		      const struct evfs_content_ref *content)
{
	const struct evfs_object *object = NULL;
	const struct evfs_link *link = NULL;
	struct evfs_new what = { .kind = EVFS_KIND_FILE, .content = content };
	struct evfs_where where = { handle->parent, handle->name,
				    handle->name_len };
	evfs_cleanup_free const struct evfs_attr *attrs = NULL;
	int rc = evfs_facts_get(tx->facts, handle->ino, &object, tx->err);

	if (rc == 0 && object != NULL)
		rc = attrs_without_set_id(tx, object, &what);
	attrs = what.attrs;
	if (rc != 0)
		return rc;
	tx->origin = EVFS_FEED_REMOTE;
	if (!at->found)
		return carry(tx, handle, &where, &what);
	link = object != NULL ? evfs_object_find_link(object, &handle->link) :
				NULL;
	assert(link != NULL);
	where.parent = link->place.parent;
	where.name = at->entry.name;
	where.name_len = at->entry.name_len;
	rc = evfs_tx_drop_sibling(tx, at->dir, &at->entry);
	if (rc == 0)
		rc = carry(tx, handle, &where, &what);
	return rc == 0 ? evfs_tx_assert_above(tx, at->dir) : rc;
}

/* ---- a version ---- */

/* The link through which it was opened; where that is dead, those that live;
 * where none does, it comes back. */
static int assert_links(struct evfs_tx *tx, const struct evfs_handle *handle)
{
	const struct evfs_object *object = NULL;
	const struct evfs_link *own;
	bool others = false;
	int rc = evfs_tx_get(tx, handle->ino, &object);

	if (rc != 0)
		return rc;
	own = evfs_object_find_link(object, &handle->link);
	for (size_t i = 0; i < object->n_links; i++)
		others = others || object->links[i].alive.n > 0;
	if (own != NULL && (own->alive.n > 0 || !others))
		return evfs_tx_set_alive(tx, handle->ino, &handle->link, true);
	for (size_t i = 0; i < object->n_links && rc == 0; i++)
		if (object->links[i].alive.n > 0)
			rc = evfs_tx_set_alive(tx, handle->ino,
					       &object->links[i].id, true);
	return rc;
}

/* Writers of one replica on one version share its base. */
static int rebase_handles(struct evfs_tx *tx, struct evfs_handle *handle,
			  const struct evfs_dots *old,
			  const struct evfs_version *version)
{
	struct evfs_handle *other = NULL;
	int rc = evfs_tx_touch(tx, handle);

	if (rc == 0)
		rc = evfs_tx_handles(tx, handle->ino, &other);
	for (; other != NULL && rc == 0; other = evfs_handle_next(other)) {
		if (other == handle ||
		    (old->n == 0 ? other->n_base != 0 :
				   !evfs_handle_meets(other, old->items,
						      old->n)))
			continue;
		rc = evfs_tx_touch(tx, other);
		if (rc == 0)
			rc = evfs_tx_handle_base(tx, other, version);
	}
	if (rc == 0)
		rc = evfs_tx_handle_base(tx, handle, version);
	handle->sibling = false;
	return rc;
}

/* Bits that were set before the first content was sealed were set by the one
 * who was writing it: he has seen it (fchmod before close). */
static int see_set_id(struct evfs_tx *tx, evfs_ino ino, evfs_dot version)
{
	const struct evfs_object *object = NULL;
	const struct evfs_attr *mode;
	struct evfs_attr fresh;
	struct evfs_dots saw = { &version, 1 };
	int rc = evfs_tx_get(tx, ino, &object);

	if (rc != 0)
		return rc;
	mode = evfs_object_find_attr(object, EVFS_ATTR_MODE, NULL, 0);
	if (mode == NULL || (mode->value.mode & EVFS_SET_ID_BITS) == 0)
		return 0;
	fresh = *mode;
	return evfs_tx_put_attr(tx, ino, &fresh, &saw);
}

/* Did what is replaced have set-ID bits, and was the writer allowed to leave
 * them there: write(2) of a privileged process, or bits that were set after
 * it? Then *ret is the mode, else 0. */
static void kept_mode(const struct evfs_object *object,
		      const struct evfs_dots *old,
		      const struct evfs_content_ref *content, uint32_t *ret)
{
	const struct evfs_attr *mode =
		evfs_object_find_attr(object, EVFS_ATTR_MODE, NULL, 0);

	*ret = 0;
	if (mode == NULL || old->n == 0 || !content->keeps_set_id ||
	    (mode->value.mode & EVFS_SET_ID_BITS) == 0)
		return;
	for (size_t i = 0; i < old->n; i++)
		if (!evfs_dots_has(&mode->saw, old->items[i]))
			return;
	*ret = mode->value.mode;
}

static int keep_mode(struct evfs_tx *tx, evfs_ino ino, uint32_t mode,
		     evfs_dot version)
{
	struct evfs_attr attr = { .kind = EVFS_ATTR_MODE };
	struct evfs_dots saw = { &version, 1 };

	attr.value.mode = mode;
	return evfs_tx_put_attr(tx, ino, &attr, &saw);
}

static int end_unsealed(struct evfs_tx *tx, evfs_ino ino, evfs_dot version)
{
	bool unsealed = false;
	int rc = evfs_facts_is_unsealed(tx->facts, ino, &unsealed, tx->err);

	if (rc == 0 && unsealed)
		rc = evfs_tx_set_unsealed(tx, ino, false);
	return rc == 0 ? see_set_id(tx, ino, version) : rc;
}

static int put_content(struct evfs_tx *tx, struct evfs_handle *handle,
		       const struct evfs_content_ref *content)
{
	struct evfs_dots old = { handle->base, handle->n_base };
	evfs_cleanup_free evfs_dot *copy = NULL;
	struct evfs_object *object = NULL;
	bool alive = false;
	uint32_t mode;
	evfs_dot dot;
	int rc = evfs_tx_edit(tx, handle->ino, &object, NULL);

	if (rc != 0)
		return rc;
	/* The handle's own base is freed below. */
	copy = evfs_memdup(old.items, old.n * sizeof(*copy));
	if (copy == NULL)
		return evfs_tx_nomem(tx);
	old.items = copy;
	for (size_t i = 0; i < object->n_links; i++)
		alive = alive || object->links[i].alive.n > 0;
	/* Dead here, and perhaps collected elsewhere already: what comes back
	 * is this content, not what was removed. */
	while (!alive && object->n_versions > 0)
		evfs_object_remove_version(object, object->versions[0].dot);
	kept_mode(object, &old, content, &mode);
	rc = evfs_tx_put_version(tx, handle->ino, &old, handle->base_time_ns,
				 content, &dot);
	if (rc == 0 && old.n == 0)
		rc = end_unsealed(tx, handle->ino, dot);
	else if (rc == 0 && mode != 0)
		rc = keep_mode(tx, handle->ino, mode, dot);
	if (rc == 0)
		rc = assert_links(tx, handle);
	if (rc == 0)
		rc = rebase_handles(tx, handle, &old,
				    evfs_object_find_version(object, dot));
	return rc;
}

/* Equal contents were one file to this writer: all of them are replaced. */
static int replace_equals(struct evfs_tx *tx, const struct evfs_handle *handle,
			  const struct shown_at *at)
{
	struct evfs_beside beside = { at->dir, at->entry.name,
				      at->entry.name_len };

	for (size_t i = 0; i < at->entry.n_members; i++) {
		const struct evfs_member_link *m = &at->entry.members[i];
		int rc;

		if (evfs_dot_equal(m->ino, handle->ino))
			continue;
		rc = evfs_tx_leave_name(tx, &beside, m);
		if (rc != 0)
			return rc;
	}
	return evfs_tx_assert_above(tx, at->dir);
}

static int assert_hidden(struct evfs_tx *tx, const struct evfs_handle *handle,
			 bool unsealed)
{
	const struct evfs_object *object = NULL;
	const struct evfs_link *link;
	evfs_ino parent;
	int rc = evfs_tx_get(tx, handle->ino, &object);

	if (rc != 0)
		return rc;
	link = evfs_object_find_link(object, &handle->link);
	assert(link != NULL);
	parent = link->place.parent;
	if (unsealed) { /* it may well be shown here */
		rc = evfs_tx_assert_above(tx, parent);
		if (rc != EVFS_ENOTFOUND)
			return rc;
	}
	return evfs_tx_assert_above_facts(tx, parent);
}

/* Is there still an object, and the link that the handle came through? Garbage
 * collection spares what is open, so only a repaired store lacks them. */
static int is_there(struct evfs_tx *tx, const struct evfs_handle *handle,
		    bool *ret)
{
	const struct evfs_object *object = NULL;
	int rc = evfs_facts_get(tx->facts, handle->ino, &object, tx->err);

	if (rc == 0)
		*ret = object != NULL &&
		       evfs_object_find_link(object, &handle->link) != NULL;
	return rc;
}

static int seal(struct evfs_tx *tx, struct evfs_handle *handle,
		const struct evfs_content_ref *content)
{
	bool there = false, unsealed = handle->n_base == 0;
	struct shown_at at;
	int rc = is_there(tx, handle, &there);

	if (rc != 0)
		return rc;
	if (!there && handle->name_len == 0)
		return evfs_err_set(tx->err, EVFS_ENOTFOUND,
				    "the file that was written is not there");
	rc = find_shown(tx, handle, &at);
	if (rc == 0 && (!there || (handle->sibling && !unsealed &&
				   (!at.found || at.entry.is_sibling)))) {
		rc = seal_apart(tx, handle, &at, content);
	} else if (rc == 0) {
		rc = put_content(tx, handle, content);
		if (rc == 0)
			rc = at.found ? replace_equals(tx, handle, &at) :
					assert_hidden(tx, handle, unsealed);
	}
	evfs_entry_fini(&at.entry);
	return rc;
}

static void remember(struct evfs_handle *handle,
		     const struct evfs_content_ref *content)
{
	handle->has_shown = true;
	handle->content = content->content;
	handle->size = content->size;
	handle->mtime_s = content->mtime_s;
	handle->mtime_ns = content->mtime_ns;
}

int evfs_tree_seal(struct evfs_meta *meta, struct evfs_handle *handle,
		   const struct evfs_content_ref *content,
		   struct evfs_err *err)
{
	struct evfs_tx tx;

	if (content->size > EVFS_FILE_SIZE_MAX)
		return evfs_err_set(err, EVFS_EFBIG, "file too large");
	if (handle->orphan || handle->loose) {
		remember(handle, content);
		return 0;
	}
	evfs_tx_init(&tx, meta, err);
	return evfs_tx_finish(&tx, seal(&tx, handle, content));
}

int evfs_tree_unsealed(struct evfs_meta *meta,
		       int (*each)(void *arg, evfs_ino ino), void *arg,
		       struct evfs_err *err)
{
	return evfs_facts_each_unsealed(evfs_meta_facts(meta), each, arg, err);
}
