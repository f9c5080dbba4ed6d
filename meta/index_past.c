/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Content references of an object's versions, and history: what a version was
 * is kept when it leaves the facts, or when its file loses its last name. The
 * history takes its own reference before that of the facts goes. A dead file's
 * facts hold none: its content lives as long as history lets it, and where the
 * file comes back later, it is wanted from those who kept it alive. */
#include "meta/index_priv.h"

#include <string.h>

#include "base/mem.h"
#include "meta/content.h"
#include "meta/history.h"

#define DEPTH_MAX 4096 /* beyond, a path is not worth having; also: a cycle */

/* Puts "/name" in front of the path that starts at *at in buf[cap]. */
static bool prepend(char *buf, size_t *at, const struct evfs_place *place)
{
	if (*at < place->name_len + 1)
		return false;
	*at -= place->name_len;
	memcpy(buf + *at, place->name, place->name_len);
	buf[--*at] = '/';
	return true;
}

/* The path of a link by place registers: where it was last shown, whether the
 * directories above live or not. NULL: too deep, a cycle, or cut off. */
static int path_of(struct evfs_index *ix, const struct evfs_link *link,
		   char *buf, size_t cap, const char **ret,
		   struct evfs_err *err)
{
	const struct evfs_place *place = &link->place;
	size_t at = cap - 1;

	*ret = NULL;
	buf[at] = '\0';
	for (int depth = 0; depth < DEPTH_MAX; depth++) {
		const struct evfs_object *dir;
		int result;

		if (!prepend(buf, &at, place))
			return 0;
		if (evfs_ino_is_root(place->parent)) {
			*ret = buf + at;
			return 0;
		}
		result = evfs_facts_get(ix->facts, place->parent, &dir, err);
		if (result != 0)
			return result;
		if (dir == NULL || dir->kind != EVFS_KIND_DIR)
			return 0;
		place = &evfs_object_only_link(dir)->place;
	}
	return 0;
}

static int add_past(struct evfs_index *ix, const struct evfs_object *old,
		    const struct evfs_version *version, bool deleted,
		    const char *path, struct evfs_err *err)
{
	struct evfs_past past = {
		.ino = old->ino,
		.dot = version->dot,
		.content = version->content,
		.size = version->size,
		.mtime_s = version->mtime_s,
		.mtime_ns = version->mtime_ns,
		.written_ns = version->time_ns,
		.ended_ns = ix->now_ns,
		.deleted = deleted,
		.path = path,
	};

	return evfs_history_add(ix->meta, &past, err);
}

static int write_history(struct evfs_index *ix, const struct evfs_object *old,
			 const struct evfs_object *object,
			 struct evfs_err *err)
{
	const size_t cap = 16 * (EVFS_NAME_MAX + 1);
	bool deleted = !evfs_object_is_live(object);
	evfs_cleanup_free char *buf = NULL;
	const char *path = NULL;
	int ret = 0;

	for (size_t i = 0; i < old->n_versions && ret == 0; i++) {
		const struct evfs_version *version = &old->versions[i];

		if (!deleted &&
		    evfs_object_find_version(object, version->dot) != NULL)
			continue;
		if (buf == NULL) {
			buf = evfs_calloc(1, cap);
			if (buf == NULL)
				return evfs_err_set(err, EVFS_ENOMEM,
						    "history: out of memory");
			ret = path_of(ix, evfs_object_sibling_link(old), buf,
				      cap, &path, err);
		}
		if (ret == 0)
			ret = add_past(ix, old, version, deleted, path, err);
	}
	return ret;
}

int evfs_index_past(struct evfs_index *ix, const struct evfs_object *old,
		    const struct evfs_object *object, struct evfs_err *err)
{
	struct evfs_content *content = ix->meta->content;
	bool was_live = old != NULL && evfs_object_is_live(old);
	bool is_live = evfs_object_is_live(object);
	size_t n_old = old == NULL ? 0 : old->n_versions;
	int ret = 0;

	for (size_t i = 0; i < object->n_versions && ret == 0; i++) {
		const struct evfs_version *version = &object->versions[i];

		if (is_live &&
		    (!was_live ||
		     evfs_object_find_version(old, version->dot) == NULL))
			ret = evfs_content_ref(content, &version->content,
					       version->size, true, err);
	}
	if (ret == 0 && was_live)
		ret = write_history(ix, old, object, err);
	for (size_t i = 0; i < n_old && ret == 0; i++) {
		const struct evfs_version *version = &old->versions[i];

		if (was_live &&
		    (!is_live ||
		     evfs_object_find_version(object, version->dot) == NULL))
			ret = evfs_content_unref(content, &version->content,
						 true, err);
	}
	return ret;
}
