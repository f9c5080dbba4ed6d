/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Removing: a name, a sibling, a directory. */
#include "meta/tree_priv.h"

#include "meta/meta.h"

static int require_shown(struct evfs_tx *tx, const struct evfs_spot *spot)
{
	if (!spot->exists)
		return evfs_err_set(tx->err, EVFS_ENOTFOUND,
				    "no such file or directory");
	return 0;
}

/* rm of a plain name takes what is shown under it; rm of a sibling removes
 * that version. */
static int unlink_shown(struct evfs_tx *tx, const struct evfs_spot *spot)
{
	const struct evfs_entry *entry = &spot->entry;
	evfs_ino dir = spot->dir.members[0];
	int rc = require_shown(tx, spot);

	if (rc != 0)
		return rc;
	if (entry->kind == EVFS_KIND_DIR)
		return evfs_err_set(tx->err, EVFS_EISDIR, "is a directory");
	rc = entry->is_sibling ? evfs_tx_drop_sibling(tx, dir, entry) :
				 evfs_tx_vacate(tx, dir, entry, NULL, NULL);
	return rc == 0 ? evfs_tx_assert_above(tx, dir) : rc;
}

int evfs_tree_unlink(struct evfs_meta *meta, evfs_ino dir, const char *name,
		     size_t name_len, struct evfs_err *err)
{
	evfs_cleanup_spot struct evfs_spot spot = { 0 };
	struct evfs_tx tx;
	int rc;

	evfs_tx_init(&tx, meta, err);
	rc = evfs_spot_find(&tx, dir, name, name_len, &spot);
	if (rc == 0)
		rc = unlink_shown(&tx, &spot);
	return evfs_tx_finish(&tx, rc);
}

static int rmdir_shown(struct evfs_tx *tx, const struct evfs_spot *spot)
{
	const struct evfs_entry *entry = &spot->entry;
	evfs_ino dir = spot->dir.members[0];
	bool empty = false;
	int rc = require_shown(tx, spot);

	if (rc != 0)
		return rc;
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

int evfs_tree_rmdir(struct evfs_meta *meta, evfs_ino dir, const char *name,
		    size_t name_len, struct evfs_err *err)
{
	evfs_cleanup_spot struct evfs_spot spot = { 0 };
	struct evfs_tx tx;
	int rc;

	evfs_tx_init(&tx, meta, err);
	rc = evfs_spot_find(&tx, dir, name, name_len, &spot);
	if (rc == 0)
		rc = rmdir_shown(&tx, &spot);
	return evfs_tx_finish(&tx, rc);
}
