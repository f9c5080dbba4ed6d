/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Taking a batch in: each object is joined with the state that is here; those
 * that changed are put in one step. The context stays as it is: it moves only
 * at the end of the exchange. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "meta/delta.h"
#include "meta/facts.h"
#include "meta/index.h"
#include "meta/merge.h"
#include "meta/store.h"

/* The latest clock reading in an object. */
static uint64_t apply_clock(const struct evfs_object *object)
{
	uint64_t latest = object->change_ns;
	size_t i;

#define LATER(time) (latest = (time) > latest ? (time) : latest)
	for (i = 0; i < object->n_links; i++) {
		LATER(object->links[i].id.time_ns);
		LATER(object->links[i].place.stamp.time_ns);
	}
	for (i = 0; i < object->n_versions; i++)
		LATER(object->versions[i].time_ns);
	for (i = 0; i < object->n_attrs; i++)
		LATER(object->attrs[i].stamp.time_ns);
#undef LATER
	return latest;
}

/* A dot of this replica that it has not made: then the store is an older copy,
 * and to go on would use that dot twice. */
static int apply_check_own(const struct evfs_meta *meta,
			   const struct evfs_object *object,
			   struct evfs_err *err)
{
	uint64_t known = evfs_object_log_get(object, meta->store->actor);

	if (known <= meta->store->counter)
		return 0;
	return evfs_err_set(err, EVFS_EPROTO,
			    "a member has change %llu of this replica, which "
			    "has made only %llu (is this store an old copy?)",
			    (unsigned long long)known,
			    (unsigned long long)meta->store->counter);
}

/* *ret: the joined state where it differs from `mine`, else NULL. src NULL: by
 * rows alone. */
static int apply_join(struct evfs_meta *meta, const struct evfs_object *mine,
		      const struct evfs_object *theirs,
		      const struct evfs_context *src, struct evfs_object **ret,
		      struct evfs_err *err)
{
	static const struct evfs_context none;
	int rc;

	*ret = NULL;
	if (mine != NULL && evfs_object_equal(mine, theirs))
		return 0;
	if (src == NULL)
		rc = evfs_merge(mine, &none, theirs, &none, ret, err);
	else
		rc = evfs_merge(mine, &meta->store->context, theirs, src, ret,
				err);
	if (rc != 0)
		return rc;
	if (mine != NULL && evfs_object_equal(mine, *ret)) {
		evfs_object_free(*ret);
		*ret = NULL;
	}
	return 0;
}

static int apply_cmp(const void *a, const void *b)
{
	const struct evfs_object *const *x = a;
	const struct evfs_object *const *y = b;

	return evfs_dot_cmp((*x)->ino, (*y)->ino);
}

/* Joins all into out, in order of ino; what comes twice is joined twice. */
static int apply_all(struct evfs_meta *meta, struct evfs_object **objects,
		     size_t n, const struct evfs_context *src,
		     struct evfs_object **out, size_t *n_out,
		     struct evfs_err *err)
{
	size_t i;

	for (i = 0; i < n; i++) {
		const struct evfs_object *mine = NULL;
		struct evfs_object *joined;
		bool again = *n_out > 0 &&
			     evfs_dot_equal(out[*n_out - 1]->ino,
					    objects[i]->ino);
		int rc = apply_check_own(meta, objects[i], err);

		if (rc == 0 && again)
			mine = out[*n_out - 1];
		else if (rc == 0)
			rc = evfs_facts_get(meta->facts, objects[i]->ino,
					    &mine, err);
		if (rc == 0)
			rc = apply_join(meta, mine, objects[i], src, &joined,
					err);
		if (rc != 0)
			return rc;
		evfs_meta_hear_clock(meta, apply_clock(objects[i]));
		if (joined == NULL)
			continue;
		if (again)
			evfs_object_free(out[--*n_out]);
		out[(*n_out)++] = joined;
	}
	return 0;
}

int evfs_delta_apply(struct evfs_meta *meta, struct evfs_object **objects,
		     size_t n, const struct evfs_context *src,
		     size_t *ret_changed, struct evfs_err *err)
{
	struct evfs_object **sorted;
	struct evfs_object **out = evfs_calloc(n, sizeof(*out));
	size_t n_out = 0;
	size_t i;
	int rc;

	sorted = n == 0 ? evfs_calloc(1, sizeof(*sorted)) :
			  evfs_memdup(objects, n * sizeof(*objects));
	if (sorted == NULL || out == NULL) {
		rc = evfs_err_set(err, EVFS_ENOMEM, "apply: out of memory");
	} else {
		qsort(sorted, n, sizeof(*sorted), apply_cmp);
		rc = apply_all(meta, sorted, n, src, out, &n_out, err);
		if (rc != 0) {
			while (n_out > 0)
				evfs_object_free(out[--n_out]);
		} else if (n_out > 0) {
			rc = evfs_index_put(meta, out, n_out, EVFS_FEED_REMOTE,
					    err);
		}
	}
	for (i = 0; i < n; i++)
		evfs_object_free(objects[i]);
	evfs_free(sorted);
	evfs_free(out);
	if (rc == 0)
		*ret_changed = n_out;
	return rc;
}

/* ---- repair ---- */

static bool has_show(const struct evfs_object *object)
{
	if (object->kind != EVFS_KIND_DIR)
		return evfs_object_is_live(object);
	return evfs_ino_is_root(object->ino) ||
	       evfs_object_only_link(object)->alive.n > 0;
}

int evfs_delta_repair(struct evfs_meta *meta, struct evfs_object **objects,
		      size_t n, size_t *ret_changed, evfs_ino **ret_dead,
		      size_t *ret_n_dead, struct evfs_err *err)
{
	evfs_ino *dead = evfs_calloc(n, sizeof(*dead));
	size_t n_shown = 0;
	size_t n_dead = 0;
	int rc;

	if (dead == NULL) {
		for (size_t i = 0; i < n; i++)
			evfs_object_free(objects[i]);
		return evfs_err_set(err, EVFS_ENOMEM, "repair: out of memory");
	}
	for (size_t i = 0; i < n; i++)
		if (has_show(objects[i]))
			dead[n_shown++] = objects[i]->ino;
	rc = evfs_delta_apply(meta, objects, n, NULL, ret_changed, err);
	for (size_t i = 0; i < n_shown && rc == 0; i++) {
		const struct evfs_object *now;

		rc = evfs_facts_get(meta->facts, dead[i], &now, err);
		if (rc == 0 && now != NULL && !has_show(now))
			dead[n_dead++] = dead[i];
	}
	if (rc != 0) {
		evfs_free(dead);
		return rc;
	}
	*ret_dead = dead;
	*ret_n_dead = n_dead;
	return 0;
}
