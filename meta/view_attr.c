/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Attributes as they are shown. Rule 6: set-user-ID and set-group-ID bits do
 * not attach to content that the one who set them had not seen. */
#include "meta/view_priv.h"

#include <string.h>

#define SET_ID_BITS 06000u
#define MODE_DIR 0755u   /* where no register says */
#define MODE_OTHER 0644u
#define NS_PER_S UINT64_C(1000000000)

static void set_time(uint64_t ns, int64_t *ret_s, uint32_t *ret_ns)
{
	*ret_s = (int64_t)(ns / NS_PER_S);
	*ret_ns = (uint32_t)(ns % NS_PER_S);
}

static uint32_t mode_of(const struct evfs_object *object,
			const struct evfs_version *version)
{
	const struct evfs_attr *attr =
		evfs_object_find_attr(object, EVFS_ATTR_MODE, NULL, 0);

	if (attr == NULL)
		return object->kind == EVFS_KIND_DIR ? MODE_DIR : MODE_OTHER;
	/* Without a version there is no content yet that they could attach
	 * to: its writer is the one who set them. */
	if (object->kind == EVFS_KIND_FILE && version != NULL &&
	    !evfs_dots_has(&attr->saw, version->dot))
		return attr->value.mode & ~SET_ID_BITS;
	return attr->value.mode;
}

static void owner_and_size(const struct evfs_object *object,
			   const struct evfs_version *version,
			   struct evfs_attributes *ret)
{
	const struct evfs_attr *owner =
		evfs_object_find_attr(object, EVFS_ATTR_OWNER, NULL, 0);

	if (owner != NULL) {
		ret->uid = owner->value.owner.uid;
		ret->gid = owner->value.owner.gid;
	}
	ret->mode = mode_of(object, version);
	ret->rdev = object->rdev;
	if (version != NULL) {
		ret->size = version->size;
		ret->content = version->content;
	} else if (object->kind == EVFS_KIND_SYMLINK) {
		ret->size = object->target_len;
	}
}

/* The time that a file's content has by itself: of its version, or, where it
 * has none, when it was made. */
static evfs_stamp content_time(const struct evfs_object *object,
			       const struct evfs_version *version,
			       struct evfs_attributes *ret)
{
	evfs_stamp made = { 0, EVFS_INO_NONE };

	if (version != NULL) {
		ret->mtime_s = version->mtime_s;
		ret->mtime_ns = version->mtime_ns;
		return (evfs_stamp){ version->time_ns, version->dot };
	}
	if (object->n_links > 0)
		made = object->links[0].id;
	set_time(made.time_ns, &ret->mtime_s, &ret->mtime_ns);
	return made;
}

static void times(const struct evfs_object *object, evfs_stamp own,
		  struct evfs_attributes *ret)
{
	const struct evfs_attr *attr =
		evfs_object_find_attr(object, EVFS_ATTR_TIMES, NULL, 0);

	if (attr != NULL && evfs_stamp_cmp(&attr->stamp, &own) >= 0) {
		ret->mtime_s = attr->value.times.mtime_s;
		ret->mtime_ns = attr->value.times.mtime_ns;
	}
	ret->atime_s = ret->mtime_s;
	ret->atime_ns = ret->mtime_ns;
	if (attr != NULL) {
		ret->atime_s = attr->value.times.atime_s;
		ret->atime_ns = attr->value.times.atime_ns;
	}
	set_time(object->change_ns, &ret->ctime_s, &ret->ctime_ns);
}

static void file_attributes(const struct evfs_object *object,
			    const struct evfs_version *version,
			    struct evfs_attributes *ret)
{
	evfs_stamp own;

	memset(ret, 0, sizeof(*ret));
	owner_and_size(object, version, ret);
	own = content_time(object, version, ret);
	times(object, own, ret);
	for (size_t i = 0; i < object->n_links; i++)
		ret->nlink += object->links[i].alive.n > 0;
}

/* 2 and the subdirectories; where they are too many to be counted for each
 * question, or come together from several objects, 1, which says (as in other
 * file systems) that they are not counted. */
static int dir_nlink(struct evfs_meta *meta, const evfs_ino *members, size_t n,
		     uint64_t *ret, struct evfs_err *err)
{
	int subdirs = 0, rc = 0;

	*ret = 1;
	if (n == 1)
		rc = evfs_facts_count_subdirs(meta->facts, members[0],
					      &subdirs, err);
	if (rc != 0 || n != 1 || subdirs > EVFS_SUBDIRS_MAX)
		return rc;
	*ret = 2 + (uint64_t)subdirs;
	return 0;
}

/* dir: its members; [0] is the face, NULL object: lost+found, or a root whose
 * attributes nobody has set. */
static int dir_attributes(struct evfs_meta *meta, const evfs_ino *members,
			  size_t n, struct evfs_attributes *ret,
			  struct evfs_err *err)
{
	const struct evfs_object *object = NULL;
	evfs_stamp own = { 0, EVFS_INO_NONE };
	uint64_t changed = 0;
	int result = evfs_facts_get(meta->facts, members[0], &object, err);

	for (size_t i = 0; i < n && result == 0; i++) {
		uint64_t ns;

		result = evfs_facts_dir_changed(meta->facts, members[i], &ns,
						err);
		if (result == 0 && ns > changed)
			changed = ns;
	}
	if (result != 0)
		return result;
	memset(ret, 0, sizeof(*ret));
	ret->mode = MODE_DIR;
	result = dir_nlink(meta, members, n, &ret->nlink, err);
	if (result != 0)
		return result;
	own.time_ns = changed;
	if (object != NULL && object->n_links > 0 &&
	    object->links[0].id.time_ns > own.time_ns)
		own.time_ns = object->links[0].id.time_ns; /* its making */
	set_time(own.time_ns, &ret->mtime_s, &ret->mtime_ns);
	ret->atime_s = ret->ctime_s = ret->mtime_s;
	ret->atime_ns = ret->ctime_ns = ret->mtime_ns;
	if (object == NULL)
		return 0;
	owner_and_size(object, NULL, ret);
	own.dot = EVFS_INO_NONE;
	times(object, own, ret);
	if (changed > object->change_ns)
		set_time(changed, &ret->ctime_s, &ret->ctime_ns);
	return 0;
}

int evfs_view_attr(struct evfs_meta *meta, const struct evfs_entry *entry,
		   struct evfs_attributes *ret, struct evfs_err *err)
{
	const struct evfs_member_link *face;

	if (entry->kind == EVFS_KIND_DIR)
		return dir_attributes(meta, entry->dir.members, entry->dir.n,
				      ret, err);
	face = &entry->members[0];
	return evfs_view_attr_of(meta, face->ino,
				 face->n_dots > 0 ? &face->dots[0] : NULL, ret,
				 err);
}

int evfs_view_attr_of(struct evfs_meta *meta, evfs_ino ino,
		      const evfs_dot *dot, struct evfs_attributes *ret,
		      struct evfs_err *err)
{
	const struct evfs_version *version;
	const struct evfs_object *object;
	int result;

	if (evfs_ino_is_root(ino) || evfs_ino_is_lost(ino))
		return dir_attributes(meta, &ino, 1, ret, err);
	result = evfs_facts_get(meta->facts, ino, &object, err);
	if (result != 0)
		return result;
	if (object == NULL)
		return evfs_err_set(err, EVFS_ENOTFOUND, "no such object");
	if (object->kind == EVFS_KIND_DIR)
		return dir_attributes(meta, &ino, 1, ret, err);
	version = dot == NULL ? evfs_object_newest_version(object) :
				evfs_object_find_version(object, *dot);
	file_attributes(object, version, ret);
	return 0;
}
