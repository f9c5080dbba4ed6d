/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Attributes: the register alone. Setting one never revives what is dead, and
 * asserts nothing: metadata and content are different facts. */
#include "meta/tree_priv.h"

#include "meta/meta.h"

static int check_attr(const struct evfs_attr *attr, struct evfs_err *err)
{
	if (attr->kind != EVFS_ATTR_XATTR)
		return 0;
	if (attr->key_len == 0)
		return evfs_err_set(err, EVFS_EINVAL,
				    "xattr: empty name");
	if (attr->key_len > EVFS_XATTR_NAME_MAX)
		return evfs_err_set(err, EVFS_ERANGE,
				    "xattr: name of %zu bytes (at most %d)",
				    attr->key_len, EVFS_XATTR_NAME_MAX);
	if (!attr->value.xattr.removed &&
	    attr->value.xattr.len > EVFS_XATTR_VALUE_MAX)
		return evfs_err_set(err, EVFS_ENOSPACE,
				    "xattr: value of %zu bytes (at most %d)",
				    attr->value.xattr.len,
				    EVFS_XATTR_VALUE_MAX);
	return 0;
}

/* Set-ID bits hold for the contents that are there when they are set, and for
 * no content that comes from elsewhere. */
static int set_one(struct evfs_tx *tx, evfs_ino ino,
		   const struct evfs_attr *attr)
{
	struct evfs_object *object = NULL;
	evfs_cleanup_free evfs_dot *seen = NULL;
	struct evfs_dots saw = { NULL, 0 };
	int rc = evfs_tx_edit(tx, ino, &object, NULL);

	if (rc != 0)
		return rc;
	if (attr->kind == EVFS_ATTR_MODE && object->kind == EVFS_KIND_FILE &&
	    (attr->value.mode & EVFS_SET_ID_BITS) != 0) {
		seen = evfs_calloc(object->n_versions + 1, sizeof(*seen));
		if (seen == NULL)
			return evfs_tx_nomem(tx);
		for (size_t i = 0; i < object->n_versions; i++)
			seen[i] = object->versions[i].dot;
		saw.items = seen;
		saw.n = object->n_versions;
	}
	return evfs_tx_put_attr(tx, ino, attr, &saw);
}

int evfs_tree_set_attr(struct evfs_meta *meta, evfs_ino dir,
		       const struct evfs_entry *entry,
		       const struct evfs_attr *attr, struct evfs_err *err)
{
	size_t n = entry->kind == EVFS_KIND_DIR ? entry->dir.n :
						  entry->n_members;
	struct evfs_tx tx;
	int rc = check_attr(attr, err);

	(void)dir; /* a register of the inode, wherever it stands */
	if (rc != 0)
		return rc;
	evfs_tx_init(&tx, meta, err);
	for (size_t i = 0; i < n && rc == 0; i++) {
		evfs_ino ino = entry->kind == EVFS_KIND_DIR ?
				       entry->dir.members[i] :
				       entry->members[i].ino;

		if (!evfs_ino_is_lost(ino) && !evfs_tx_has_edit(&tx, ino))
			rc = set_one(&tx, ino, attr);
	}
	return evfs_tx_finish(&tx, rc);
}

int evfs_tree_set_attr_of(struct evfs_meta *meta, evfs_ino ino,
			  const struct evfs_attr *attr, struct evfs_err *err)
{
	struct evfs_tx tx;
	int rc = check_attr(attr, err);

	if (rc != 0)
		return rc;
	if (evfs_ino_is_lost(ino))
		return evfs_err_set(err, EVFS_EPERM,
				    "lost+found has no attributes of its "
				    "own");
	evfs_tx_init(&tx, meta, err);
	return evfs_tx_finish(&tx, set_one(&tx, ino, attr));
}
