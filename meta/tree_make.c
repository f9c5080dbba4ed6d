/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Making: new objects, hard links. */
#include "meta/tree_priv.h"

#include <assert.h>
#include <string.h>

#include "base/mem.h"
#include "meta/meta.h"

/* ---- create ---- */

static int check_new(const struct evfs_new *what, struct evfs_err *err)
{
	if (what->kind == EVFS_KIND_SYMLINK &&
	    (what->target_len == 0 || what->target_len > EVFS_TARGET_MAX))
		return evfs_err_set(err,
				    what->target_len == 0 ? EVFS_ENOTFOUND :
							    EVFS_ENAMETOOLONG,
				    "symlink target of %zu bytes (1 to %d)",
				    what->target_len, EVFS_TARGET_MAX);
	if (what->content != NULL && what->content->size > EVFS_FILE_SIZE_MAX)
		return evfs_err_set(err, EVFS_EFBIG, "file too large");
	assert(what->kind >= EVFS_KIND_FILE &&
	       what->kind <= EVFS_KIND_BLOCKDEV);
	assert(what->content == NULL || what->kind == EVFS_KIND_FILE);
	return 0;
}

/* Owner and mode are registers of their own, written with the creation's dot;
 * the others come as they are. */
static int make(struct evfs_tx *tx, const struct evfs_where *where,
		const struct evfs_new *what, struct evfs_object **ret)
{
	evfs_cleanup_free struct evfs_attr *attrs =
		evfs_calloc(what->n_attrs + 2, sizeof(*attrs));
	evfs_dot mark = EVFS_INO_NONE; /* "seen": becomes the new dot */
	struct evfs_new full = *what;

	if (attrs == NULL)
		return evfs_tx_nomem(tx);
	attrs[0].kind = EVFS_ATTR_MODE;
	attrs[0].value.mode = what->mode & 07777u;
	if ((what->mode & EVFS_SET_ID_BITS) != 0 &&
	    what->kind == EVFS_KIND_FILE)
		attrs[0].saw = (struct evfs_dots){ &mark, 1 };
	attrs[1].kind = EVFS_ATTR_OWNER;
	attrs[1].value.owner.uid = what->uid;
	attrs[1].value.owner.gid = what->gid;
	if (what->n_attrs > 0)
		memcpy(attrs + 2, what->attrs,
		       what->n_attrs * sizeof(*attrs));
	full.attrs = attrs;
	full.n_attrs = what->n_attrs + 2;
	return evfs_tx_new_object(tx, where, &full, ret);
}

static int require_free(struct evfs_tx *tx, const struct evfs_spot *spot)
{
	if (spot->exists)
		return evfs_err_set(tx->err, EVFS_EEXISTS, "name is taken");
	return 0;
}

static int create(struct evfs_tx *tx, const struct evfs_spot *spot,
		  const struct evfs_new *what, evfs_ino *ret_ino,
		  evfs_stamp *ret_link)
{
	struct evfs_where where = evfs_spot_where(spot);
	struct evfs_object *object = NULL;
	int rc = require_free(tx, spot);

	if (rc == 0)
		rc = make(tx, &where, what, &object);
	if (rc != 0)
		return rc;
	*ret_ino = object->ino;
	*ret_link = object->links[0].id;
	return evfs_tx_assert_above(tx, where.parent);
}

int evfs_tree_create(struct evfs_meta *meta, evfs_ino dir, const char *name,
		     size_t name_len, const struct evfs_new *what,
		     evfs_ino *ret_ino, evfs_stamp *ret_link,
		     struct evfs_err *err)
{
	evfs_cleanup_spot struct evfs_spot spot = { 0 };
	evfs_ino ino = EVFS_INO_NONE;
	evfs_stamp link = { 0 };
	struct evfs_tx tx;
	int rc = check_new(what, err);

	if (rc != 0)
		return rc;
	evfs_tx_init(&tx, meta, err);
	rc = evfs_spot_find(&tx, dir, name, name_len, &spot);
	if (rc == 0)
		rc = create(&tx, &spot, what, &ino, &link);
	rc = evfs_tx_finish(&tx, rc);
	if (rc != 0)
		return rc;
	if (ret_ino != NULL)
		*ret_ino = ino;
	if (ret_link != NULL)
		*ret_link = link;
	return 0;
}

/* ---- link ---- */

static int add_link(struct evfs_tx *tx, evfs_ino ino,
		    const struct evfs_spot *to)
{
	struct evfs_object *object = NULL;
	struct evfs_link link = { 0 };
	uint64_t over_ns = 0;
	evfs_dot dot;
	int rc = evfs_tx_edit(tx, ino, &object, &dot);

	if (rc != 0)
		return rc;
	if (object->n_links >= EVFS_OBJECT_LINKS_MAX)
		return evfs_err_set(tx->err, EVFS_EMLINK,
				    "file has %zu names, no more can be made",
				    object->n_links);
	if (object->n_links > 0)
		over_ns = object->links[object->n_links - 1].id.time_ns;
	link.id.time_ns = evfs_tx_stamp(tx, over_ns);
	link.id.dot = dot;
	link.place.stamp = link.id;
	link.place.parent = link.place.origin = to->dir.members[0];
	link.place.name = (const uint8_t *)to->name;
	link.place.name_len = to->name_len;
	link.alive.items = &dot;
	link.alive.n = 1;
	return evfs_object_add_link(object, &link) == 0 ? 0 :
							  evfs_tx_nomem(tx);
}

/* A second name for a sibling: it has to be an object of its own for that. */
static int own_object(struct evfs_tx *tx, evfs_ino dir,
		      const struct evfs_entry *entry, evfs_ino *ret)
{
	evfs_cleanup_links struct evfs_link_set leaving = { 0 };
	evfs_cleanup_links struct evfs_link_set moved = { 0 };
	struct evfs_entry *group = NULL;
	size_t n = 0;
	int rc = evfs_view_group(tx->meta, dir, entry->plain,
				 entry->plain_len, &group, &n, tx->err);

	if (rc == 0 && n > 0)
		rc = evfs_link_set_add_entry(tx, &leaving, &group[0]);
	for (size_t i = 0; i < entry->n_members && rc == 0; i++) {
		const struct evfs_member_link *m = &entry->members[i];
		bool only = false;

		rc = evfs_tx_shows_only(tx, m, &only);
		if (rc == 0 && !only)
			rc = evfs_link_set_add(tx, &leaving, m->ino,
					       &m->link);
	}
	if (rc == 0)
		rc = evfs_tx_promote(tx, entry, &leaving, &moved, ret);
	evfs_view_group_free(group, n);
	return rc;
}

static int link_entry(struct evfs_tx *tx, evfs_ino from_dir,
		      const struct evfs_entry *entry,
		      const struct evfs_spot *to)
{
	evfs_ino ino = EVFS_INO_NONE;
	int rc = 0;

	if (entry->kind == EVFS_KIND_DIR)
		return evfs_err_set(tx->err, EVFS_EPERM,
				    "a directory cannot have two names");
	rc = require_free(tx, to);
	if (rc != 0)
		return rc;
	if (entry->is_sibling)
		rc = own_object(tx, from_dir, entry, &ino);
	else
		ino = entry->members[0].ino;
	if (rc == 0)
		rc = add_link(tx, ino, to);
	if (rc == 0)
		rc = evfs_tx_assert_above(tx, from_dir);
	if (rc == 0)
		rc = evfs_tx_assert_above(tx, to->dir.members[0]);
	return rc;
}

int evfs_tree_link(struct evfs_meta *meta, evfs_ino from_dir,
		   const struct evfs_entry *entry, evfs_ino dir,
		   const char *name, size_t name_len, struct evfs_err *err)
{
	evfs_cleanup_spot struct evfs_spot to = { 0 };
	struct evfs_tx tx;
	int rc;

	evfs_tx_init(&tx, meta, err);
	rc = evfs_spot_find(&tx, dir, name, name_len, &to);
	if (rc == 0)
		rc = link_entry(&tx, from_dir, entry, &to);
	return evfs_tx_finish(&tx, rc);
}

/* ---- link of what is open ---- */

/* A file that had no name gets its object with its first one. */
static int link_loose(struct evfs_tx *tx, struct evfs_handle *handle,
		      const struct evfs_new *what, const struct evfs_spot *to)
{
	struct evfs_content_ref kept = { .content = handle->content,
					 .size = handle->size,
					 .mtime_s = handle->mtime_s,
					 .mtime_ns = handle->mtime_ns };
	struct evfs_where where = evfs_spot_where(to);
	struct evfs_new full = *what;
	struct evfs_object *object = NULL;
	int rc = require_free(tx, to);

	full.kind = EVFS_KIND_FILE;
	if (handle->has_shown)
		full.content = &kept;
	if (rc == 0)
		rc = make(tx, &where, &full, &object);
	if (rc == 0)
		rc = evfs_tx_touch(tx, handle);
	if (rc == 0 && object->n_versions > 0)
		rc = evfs_tx_handle_base(tx, handle, &object->versions[0]);
	if (rc == 0)
		rc = evfs_tx_assert_above(tx, where.parent);
	if (rc != 0)
		return rc;
	handle->ino = object->ino;
	handle->link = object->links[0].id;
	handle->parent = where.parent;
	memcpy(handle->name, to->name, to->name_len + 1);
	handle->name_len = to->name_len;
	return 0;
}

static int link_open(struct evfs_tx *tx, struct evfs_handle *handle,
		     const struct evfs_spot *to)
{
	evfs_cleanup_entry struct evfs_entry entry = { 0 };
	evfs_ino dir = EVFS_INO_NONE;
	int rc;

	if (handle->orphan)
		return evfs_err_set(tx->err, EVFS_ENOTFOUND,
				    "link: the file was removed");
	if (handle->n_base == 0) { /* unsealed: nothing else is shown of it */
		rc = require_free(tx, to);
		if (rc == 0)
			rc = add_link(tx, handle->ino, to);
		if (rc == 0)
			rc = evfs_tx_assert_above(tx, to->dir.members[0]);
		return rc;
	}
	rc = evfs_view_find(tx->meta, handle->ino, &handle->link,
			    handle->base, handle->n_base, &dir, &entry,
			    tx->err);
	return rc == 0 ? link_entry(tx, dir, &entry, to) : rc;
}

int evfs_tree_link_handle(struct evfs_meta *meta, struct evfs_handle *handle,
			  const struct evfs_new *what, evfs_ino dir,
			  const char *name, size_t name_len,
			  struct evfs_err *err)
{
	evfs_cleanup_spot struct evfs_spot to = { 0 };
	bool loose = handle->loose;
	struct evfs_tx tx;
	int rc;

	evfs_tx_init(&tx, meta, err);
	rc = evfs_spot_find(&tx, dir, name, name_len, &to);
	if (rc == 0)
		rc = loose ? link_loose(&tx, handle, what, &to) :
			     link_open(&tx, handle, &to);
	rc = evfs_tx_finish(&tx, rc);
	if (rc == 0 && loose) {
		handle->loose = false;
		evfs_handle_register(meta, handle);
	}
	return rc;
}
