/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Names that operations are given, and the directories above them.
 *
 * A directory that was removed elsewhere, but has something in it that was
 * not, is shown: it lives only through its children. An operation below it
 * says that somebody stands in it, so it asserts it, and all above it that
 * are in the same state. Otherwise what was made there would vanish with the
 * child that happened to hold the directory up. */
#include "meta/tree_priv.h"

#include <string.h>

#include "base/mem.h"
#include "meta/meta.h"

int evfs_name_check(const char *name, size_t len, struct evfs_err *err)
{
	if (len > EVFS_NAME_MAX)
		return evfs_err_set(err, EVFS_ENAMETOOLONG,
				    "name of %zu bytes (at most %d)", len,
				    EVFS_NAME_MAX);
	if (len == 0)
		return evfs_err_set(err, EVFS_EINVAL, "empty name");
	if ((len == 1 && name[0] == '.') ||
	    (len == 2 && name[0] == '.' && name[1] == '.'))
		return evfs_err_set(err, EVFS_EINVAL,
				    "\".\" and \"..\" are no names of files");
	if (memchr(name, '/', len) != NULL || memchr(name, '\0', len) != NULL)
		return evfs_err_set(err, EVFS_EINVAL,
				    "name with '/' or NUL in it");
	return 0;
}

int evfs_spot_find(struct evfs_tx *tx, evfs_ino dir, const char *name,
		   size_t name_len, struct evfs_spot *ret)
{
	int rc = evfs_name_check(name, name_len, tx->err);

	memset(ret, 0, sizeof(*ret));
	if (rc == 0)
		rc = evfs_view_dir(tx->meta, dir, &ret->dir, tx->err);
	if (rc != 0)
		return rc;
	rc = evfs_view_lookup(tx->meta, dir, name, name_len, &ret->entry,
			      tx->err);
	if (rc != 0 && rc != EVFS_ENOTFOUND)
		return rc;
	ret->exists = rc == 0;
	/* A generated name may have led to the plain one. */
	if (ret->exists) {
		name = ret->entry.name;
		name_len = ret->entry.name_len;
	} else if (tx->err != NULL) {
		memset(tx->err, 0, sizeof(*tx->err));
	}
	memcpy(ret->name, name, name_len);
	ret->name[name_len] = '\0';
	ret->name_len = name_len;
	return 0;
}

void evfs_spot_fini(struct evfs_spot *spot)
{
	evfs_dir_fini(&spot->dir);
	evfs_entry_fini(&spot->entry);
	memset(spot, 0, sizeof(*spot));
}

bool evfs_spot_same(const struct evfs_spot *a, const struct evfs_spot *b)
{
	return evfs_dot_equal(a->dir.members[0], b->dir.members[0]) &&
	       a->name_len == b->name_len &&
	       memcmp(a->name, b->name, a->name_len) == 0;
}

struct evfs_where evfs_spot_where(const struct evfs_spot *spot)
{
	struct evfs_where where = { spot->dir.members[0], spot->name,
				    spot->name_len };

	return where;
}

/* ---- above ---- */

static int assert_directory(struct evfs_tx *tx, evfs_ino dir)
{
	const struct evfs_object *object = NULL;
	const struct evfs_link *link;
	int rc;

	if (evfs_ino_is_lost(dir) || evfs_ino_is_root(dir))
		return 0;
	rc = evfs_tx_get(tx, dir, &object);
	if (rc != 0)
		return rc;
	link = evfs_object_only_link(object);
	return link->alive.n > 0 ? 0 :
				   evfs_tx_set_alive(tx, dir, &link->id, true);
}

static int assert_members(struct evfs_tx *tx, const struct evfs_dir *dir)
{
	for (size_t i = 0; i < dir->n; i++) {
		int rc = assert_directory(tx, dir->members[i]);

		if (rc != 0)
			return rc;
	}
	return 0;
}

static bool has_root(const struct evfs_dir *dir)
{
	for (size_t i = 0; i < dir->n; i++)
		if (evfs_ino_is_root(dir->members[i]))
			return true;
	return false;
}

int evfs_tx_assert_above(struct evfs_tx *tx, evfs_ino dir)
{
	struct evfs_dir at = { 0 };
	int rc;

	if (evfs_facts_counter(tx->facts, EVFS_COUNTER_ZOMBIES) == 0)
		return 0;
	rc = evfs_view_dir(tx->meta, dir, &at, tx->err);
	while (rc == 0 && !has_root(&at)) {
		struct evfs_dir above = { 0 };
		char name[EVFS_NAME_MAX + 1];

		rc = assert_members(tx, &at);
		if (rc == 0)
			rc = evfs_view_parent(tx->meta, at.members[0], &above,
					      name, tx->err);
		evfs_dir_fini(&at);
		at = above;
	}
	evfs_dir_fini(&at);
	return rc;
}

/* Place registers may lead in a circle, and out of what is here. */
int evfs_tx_assert_above_facts(struct evfs_tx *tx, evfs_ino dir)
{
	evfs_cleanup_links struct evfs_link_set seen = { 0 };
	const evfs_stamp none = { 0 };

	while (!evfs_ino_is_root(dir) && !evfs_ino_is_lost(dir) &&
	       !evfs_link_set_has(&seen, dir, &none)) {
		const struct evfs_object *object = NULL;
		int rc = evfs_link_set_add(tx, &seen, dir, &none);

		if (rc == 0)
			rc = evfs_facts_get(tx->facts, dir, &object, tx->err);
		if (rc != 0 || object == NULL)
			return rc;
		rc = assert_directory(tx, dir);
		if (rc == 0)
			rc = evfs_tx_get(tx, dir, &object);
		if (rc != 0)
			return rc;
		dir = evfs_object_only_link(object)->place.parent;
	}
	return 0;
}
