/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Removing: a name, a sibling, a directory. */
#include "meta/tree_priv.h"

#include "meta/meta.h"

/* rm of a plain name takes what is shown under it; rm of a sibling removes
 * that version. */
static int unlink_shown(struct evfs_tx *tx, const struct evfs_spot *spot)
{
	const struct evfs_entry *entry = &spot->entry;
	evfs_ino dir = spot->dir.members[0];
	int rc;

	if (entry->kind == EVFS_KIND_DIR)
		return evfs_err_set(tx->err, EVFS_EISDIR, "is a directory");
	rc = entry->is_sibling ? evfs_tx_drop_sibling(tx, dir, entry) :
				 evfs_tx_vacate(tx, dir, entry, NULL, NULL);
	return rc == 0 ? evfs_tx_assert_above(tx, dir) : rc;
}

static int rmdir_shown(struct evfs_tx *tx, const struct evfs_spot *spot)
{
	const struct evfs_entry *entry = &spot->entry;
	evfs_ino dir = spot->dir.members[0];
	bool empty = false;
	int rc;

	if (entry->kind != EVFS_KIND_DIR)
		return evfs_err_set(tx->err, EVFS_ENOTDIR,
				    "not a directory");
	for (size_t i = 0; i < entry->dir.n; i++)
		if (evfs_ino_is_lost(entry->dir.members[i]))
			return evfs_err_set(tx->err, EVFS_EBUSY,
					    "lost+found cannot be removed "
					    "(move what is in it elsewhere)");
	rc = evfs_view_is_empty(tx->meta, entry->dir.members[0], &empty,
				tx->err);
	if (rc != 0)
		return rc;
	if (!empty)
		return evfs_err_set(tx->err, EVFS_ENOTEMPTY,
				    "directory not empty");
	rc = evfs_tx_vacate(tx, dir, entry, NULL, NULL);
	return rc == 0 ? evfs_tx_assert_above(tx, dir) : rc;
}

/* Removes what a name shows, in one transaction. */
static int remove_name(struct evfs_meta *meta, evfs_ino dir, const char *name,
		       size_t name_len,
		       int (*remove_shown)(struct evfs_tx *tx,
					   const struct evfs_spot *spot),
		       struct evfs_err *err)
{
	evfs_cleanup_spot struct evfs_spot spot = { 0 };
	struct evfs_tx tx;
	int rc;

	evfs_tx_init(&tx, meta, err);
	rc = evfs_spot_find(&tx, dir, name, name_len, &spot);
	if (rc == 0 && !spot.exists)
		rc = evfs_err_set(err, EVFS_ENOTFOUND,
				  "no such file or directory");
	if (rc == 0)
		rc = remove_shown(&tx, &spot);
	return evfs_tx_finish(&tx, rc);
}

int evfs_tree_unlink(struct evfs_meta *meta, evfs_ino dir, const char *name,
		     size_t name_len, struct evfs_err *err)
{
	return remove_name(meta, dir, name, name_len, unlink_shown, err);
}

int evfs_tree_rmdir(struct evfs_meta *meta, evfs_ino dir, const char *name,
		    size_t name_len, struct evfs_err *err)
{
	return remove_name(meta, dir, name, name_len, rmdir_shown, err);
}
