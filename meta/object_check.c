/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The rules that every state of an object keeps, and that all code behind the
 * decoder relies on. Bytes of a peer or of the disk that break one are refused
 * with a reason. */
#include "meta/object_priv.h"

#include <string.h>

#define NS_PER_S 1000000000u

#define BROKEN(err, ...) evfs_err_set(err, EVFS_ECORRUPT, __VA_ARGS__)

/* Is it a dot that this object has taken in? Each one must be: the join takes
 * what a side has and does not cover for new, so a dot above the rows would
 * come back after its removal. */
static bool dot_is_known(const struct evfs_object *object, evfs_dot dot)
{
	return dot.actor.node != 0 && dot.counter > 0 &&
	       dot.counter <= evfs_object_log_get(object, dot.actor);
}

static bool dot_is_valid(evfs_dot dot)
{
	return dot.actor.node != 0 && dot.counter > 0;
}

static bool dots_are_sorted(const struct evfs_dots *dots)
{
	for (size_t i = 1; i < dots->n; i++)
		if (evfs_dot_cmp(dots->items[i - 1], dots->items[i]) >= 0)
			return false;
	return true;
}

static bool dots_are_valid(const struct evfs_dots *dots)
{
	for (size_t i = 0; i < dots->n; i++)
		if (!dot_is_valid(dots->items[i]))
			return false;
	return dots_are_sorted(dots);
}

/* May an object be in it? */
static bool ino_is_directory_like(evfs_ino ino)
{
	return evfs_ino_is_root(ino) || evfs_ino_is_lost(ino) ||
	       dot_is_valid(ino);
}

static bool name_is_valid(const uint8_t *name, size_t len)
{
	if (len == 0 || len > EVFS_NAME_MAX)
		return false;
	if (name[0] == '.' && (len == 1 || (len == 2 && name[1] == '.')))
		return false;
	return memchr(name, '/', len) == NULL &&
	       memchr(name, '\0', len) == NULL;
}

static int check_constants(const struct evfs_object *object,
			   struct evfs_err *err)
{
	bool is_device = object->kind == EVFS_KIND_CHARDEV ||
			 object->kind == EVFS_KIND_BLOCKDEV;
	bool is_symlink = object->kind == EVFS_KIND_SYMLINK;

	if (object->kind < EVFS_KIND_FILE || object->kind > EVFS_KIND_BLOCKDEV)
		return BROKEN(err, "kind %d: not 1 to 7", (int)object->kind);
	if (!evfs_ino_is_root(object->ino) && !dot_is_valid(object->ino))
		return BROKEN(err, "inode: not a dot");
	if (evfs_ino_is_root(object->ino) && object->kind != EVFS_KIND_DIR)
		return BROKEN(err, "root: not a directory");
	if (object->rdev != 0 && !is_device)
		return BROKEN(err, "device number: not a device");
	if (!is_symlink && object->target_len > 0)
		return BROKEN(err, "target: not a symlink");
	if (is_symlink &&
	    (object->target_len == 0 || object->target_len > EVFS_TARGET_MAX))
		return BROKEN(err, "target: %zu bytes, not 1 to %d",
			      object->target_len, EVFS_TARGET_MAX);
	if (is_symlink &&
	    memchr(object->target, '\0', object->target_len) != NULL)
		return BROKEN(err, "target: contains a NUL");
	return 0;
}

static int check_log(const struct evfs_object *object, struct evfs_err *err)
{
	for (size_t i = 0; i < object->n_log; i++) {
		if (object->log[i].actor.node == 0 ||
		    object->log[i].counter == 0)
			return BROKEN(err, "log row %zu: not a dot", i);
		if (i > 0 && evfs_actor_cmp(object->log[i - 1].actor,
					    object->log[i].actor) >= 0)
			return BROKEN(err, "log row %zu: not in order", i);
	}
	if (!evfs_ino_is_root(object->ino) &&
	    !dot_is_known(object, object->ino))
		return BROKEN(err, "inode: not in the log");
	return 0;
}

static int check_link(const struct evfs_object *object,
		      const struct evfs_link *link, struct evfs_err *err)
{
	const struct evfs_place *place = &link->place;

	if (!dot_is_known(object, link->id.dot) ||
	    !dot_is_known(object, place->stamp.dot))
		return BROKEN(err, "link: its dot is not in the log");
	if (!ino_is_directory_like(place->parent) ||
	    !ino_is_directory_like(place->origin))
		return BROKEN(err, "link: parent is not a directory's inode");
	if (evfs_dot_equal(place->parent, object->ino) ||
	    evfs_dot_equal(place->origin, object->ino))
		return BROKEN(err, "link: parent is the object itself");
	if (!name_is_valid(place->name, place->name_len))
		return BROKEN(err, "link: not a file name of 1 to %d bytes",
			      EVFS_NAME_MAX);
	if (!dots_are_sorted(&link->alive))
		return BROKEN(err, "link: alive dots are not in order");
	for (size_t i = 0; i < link->alive.n; i++)
		if (!dot_is_known(object, link->alive.items[i]))
			return BROKEN(err,
				      "link: an alive dot is not in the log");
	return 0;
}

static int check_links(const struct evfs_object *object, struct evfs_err *err)
{
	size_t n = evfs_ino_is_root(object->ino) ? 0 : 1;
	int rc = 0;

	if (object->kind == EVFS_KIND_DIR && object->n_links != n)
		return BROKEN(err, "directory: %zu links, not %zu",
			      object->n_links, n);
	if (object->n_links > EVFS_OBJECT_LINKS_MAX)
		return BROKEN(err, "%zu links: more than %d", object->n_links,
			      EVFS_OBJECT_LINKS_MAX);
	for (size_t i = 0; rc == 0 && i < object->n_links; i++) {
		if (i > 0 && evfs_stamp_cmp(&object->links[i - 1].id,
					    &object->links[i].id) >= 0)
			return BROKEN(err, "link %zu: not in order", i);
		rc = check_link(object, &object->links[i], err);
	}
	return rc;
}

static int check_versions(const struct evfs_object *object,
			  struct evfs_err *err)
{
	if (object->n_versions > 0 && object->kind != EVFS_KIND_FILE)
		return BROKEN(err, "version: not a file");
	for (size_t i = 0; i < object->n_versions; i++) {
		const struct evfs_version *version = &object->versions[i];

		if (i > 0 && evfs_dot_cmp(version[-1].dot, version->dot) >= 0)
			return BROKEN(err, "version %zu: not in order", i);
		if (!dot_is_known(object, version->dot))
			return BROKEN(err,
				      "version: its dot is not in the log");
		if (!dots_are_valid(&version->bases))
			return BROKEN(err, "version: bases are no sorted dots");
		if (version->size > EVFS_FILE_SIZE_MAX)
			return BROKEN(err,
				      "version: larger than a file may be");
		if (version->mtime_ns >= NS_PER_S)
			return BROKEN(err, "version: %u nanoseconds",
				      version->mtime_ns);
		if ((version->size == 0) !=
		    evfs_hash_is_zero(&version->content))
			return BROKEN(err,
				      "version: size and content disagree");
	}
	return 0;
}

static int check_xattr(const struct evfs_attr *attr, struct evfs_err *err)
{
	if (attr->key_len == 0 || attr->key_len > EVFS_XATTR_NAME_MAX ||
	    memchr(attr->key, '\0', attr->key_len) != NULL)
		return BROKEN(err, "xattr: not a name of 1 to %d bytes",
			      EVFS_XATTR_NAME_MAX);
	if (attr->value.xattr.len > EVFS_XATTR_VALUE_MAX)
		return BROKEN(err, "xattr: value of %zu bytes, more than %d",
			      attr->value.xattr.len, EVFS_XATTR_VALUE_MAX);
	if (attr->value.xattr.removed && attr->value.xattr.len > 0)
		return BROKEN(err, "xattr: removed, and has a value");
	return 0;
}

static int check_attr(const struct evfs_object *object,
		      const struct evfs_attr *attr, struct evfs_err *err)
{
	if (attr->kind < EVFS_ATTR_MODE || attr->kind > EVFS_ATTR_XATTR)
		return BROKEN(err, "attribute of kind %d: not 1 to 4",
			      (int)attr->kind);
	if (!dot_is_known(object, attr->stamp.dot))
		return BROKEN(err, "attribute: its dot is not in the log");
	if (attr->kind == EVFS_ATTR_XATTR) {
		int rc = check_xattr(attr, err);

		if (rc != 0)
			return rc;
	} else if (attr->key_len > 0) {
		return BROKEN(err, "attribute: only xattrs have a key");
	}
	if (attr->kind != EVFS_ATTR_MODE && attr->saw.n > 0)
		return BROKEN(err, "attribute: only a mode has seen versions");
	if (!dots_are_valid(&attr->saw))
		return BROKEN(err, "mode: seen versions are no sorted dots");
	if (attr->kind == EVFS_ATTR_MODE && attr->value.mode > 07777)
		return BROKEN(err, "mode: %o, more than 7777",
			      attr->value.mode);
	if (attr->kind == EVFS_ATTR_TIMES &&
	    (attr->value.times.mtime_ns >= NS_PER_S ||
	     attr->value.times.atime_ns >= NS_PER_S))
		return BROKEN(err, "times: a second of too many nanoseconds");
	return 0;
}

static int check_attrs(const struct evfs_object *object, struct evfs_err *err)
{
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < object->n_attrs; i++) {
		const struct evfs_attr *attr = &object->attrs[i];

		rc = check_attr(object, attr, err);
		if (rc == 0 && i > 0 &&
		    evfs_attr_key_order(attr[-1].kind, attr[-1].key,
					attr[-1].key_len, attr->kind, attr->key,
					attr->key_len) >= 0)
			return BROKEN(err, "attribute %zu: not in order", i);
	}
	return rc;
}

static int check_tie(const struct evfs_object *object,
		     const struct evfs_tie *tie, struct evfs_err *err)
{
	bool is_own = false;

	if (!dot_is_known(object, tie->dot))
		return BROKEN(err, "transaction: its dot is not in the log");
	for (size_t i = 0; i < tie->n; i++) {
		const struct evfs_tie_end *end = &tie->ends[i];

		if (!dot_is_valid(end->dot) ||
		    (!dot_is_valid(end->ino) && !evfs_ino_is_root(end->ino)))
			return BROKEN(err, "transaction: an end is no dot");
		if (i > 0 && evfs_dot_cmp(end[-1].ino, end->ino) >= 0)
			return BROKEN(err, "transaction: ends not in order");
		is_own |= evfs_dot_equal(end->ino, object->ino) &&
			  evfs_dot_equal(end->dot, tie->dot);
	}
	if (!is_own)
		return BROKEN(err, "transaction: this object is not in it");
	return 0;
}

static int check_ties(const struct evfs_object *object, struct evfs_err *err)
{
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < object->n_ties; i++) {
		if (i > 0 && evfs_dot_cmp(object->ties[i - 1].dot,
					  object->ties[i].dot) >= 0)
			return BROKEN(err, "transaction %zu: not in order", i);
		rc = check_tie(object, &object->ties[i], err);
	}
	return rc;
}

static int check_extras(const struct evfs_object *object, struct evfs_err *err)
{
	for (size_t i = 1; i < object->n_extras; i++)
		if (evfs_extra_order(&object->extras[i - 1],
				     &object->extras[i]) >= 0)
			return BROKEN(err, "unknown fact %zu: not in order", i);
	return 0;
}

int evfs_object_check(const struct evfs_object *object, struct evfs_err *err)
{
	int rc = check_constants(object, err);

	if (rc == 0)
		rc = check_log(object, err);
	if (rc == 0)
		rc = check_links(object, err);
	if (rc == 0)
		rc = check_versions(object, err);
	if (rc == 0)
		rc = check_attrs(object, err);
	if (rc == 0)
		rc = check_ties(object, err);
	if (rc == 0)
		rc = check_extras(object, err);
	return rc;
}
