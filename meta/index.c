/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The incremental index. A batch of objects goes in one by one: rows of names,
 * counters, root hash, content references and history follow each object at
 * once (index_object.c). What depends on several objects is settled at the
 * end: first which directories are needed (index_needed.c), then, among those,
 * cycles and undone moves (index_cycles.c). One savepoint is around it all, so
 * that a failure anywhere leaves nothing behind.
 *
 * Why it is exact: what is derived is a function of the objects, and each part
 * is changed for every object, or directory, for which an argument of that
 * function has changed. tests/unit/test_index.c compares with the plain form
 * after every step of random histories. */
#include "meta/index_priv.h"

#include "meta/tree.h"
#include "meta/view_priv.h"

static void fini(struct evfs_index *ix)
{
	evfs_inolist_fini(&ix->gains);
	evfs_inolist_fini(&ix->losses);
	evfs_inolist_fini(&ix->moved);
}

static int settle(struct evfs_index *ix, struct evfs_err *err)
{
	int ret = evfs_index_settle_needed(ix, err);

	return ret != 0 ? ret : evfs_index_settle_cycles(ix, err);
}

/* Where directories are merged or moved back, one change of a directory may
 * change the tree at other places too: then all names are to be forgotten. */
static int note_shape(struct evfs_index *ix, bool was_simple,
		      struct evfs_err *err)
{
	bool simple;
	int ret;

	evfs_view_changed(ix->meta, ix->shape, ix->clashes, ix->lost);
	ret = evfs_view_is_simple(ix->meta, &simple, err);
	if (ret == 0 && (!simple || !was_simple) &&
	    (ix->shape ||
	     evfs_facts_counter(ix->facts, EVFS_COUNTER_CYCLES) > 0))
		evfs_index_note_names(ix);
	return ret;
}

int evfs_index_begin(struct evfs_meta *meta, struct evfs_err *err)
{
	int ret = evfs_meta_begin_change(meta, err);

	return ret != 0 ? ret : evfs_facts_save(meta->facts, err);
}

int evfs_index_end(struct evfs_meta *meta, int ret, struct evfs_err *err)
{
	if (ret == 0)
		ret = evfs_facts_release(meta->facts, err);
	if (ret == 0)
		return 0;
	evfs_facts_rollback(meta->facts);
	evfs_content_reset(meta);
	evfs_view_state_reset(meta);
	return ret;
}

int evfs_index_put_within(struct evfs_meta *meta, struct evfs_object **objects,
			  size_t n, enum evfs_feed_origin origin,
			  struct evfs_err *err)
{
	struct evfs_index ix = { .meta = meta, .facts = meta->facts,
				 .origin = origin };
	bool simple = true;
	size_t done = 0;
	int ret = evfs_view_is_simple(meta, &simple, err);

	while (done < n && ret == 0) {
		ret = evfs_tree_changes(meta, objects[done], err);
		if (ret != 0)
			break;
		ret = evfs_index_object(&ix, objects[done], err);
		objects[done++] = NULL;
	}
	if (ret == 0)
		ret = settle(&ix, err);
	if (ret == 0)
		ret = note_shape(&ix, simple, err);
	for (; done < n; done++)
		evfs_object_free(objects[done]);
	fini(&ix);
	return ret;
}

int evfs_index_put(struct evfs_meta *meta, struct evfs_object **objects,
		   size_t n, enum evfs_feed_origin origin,
		   struct evfs_err *err)
{
	int ret = evfs_index_begin(meta, err);

	if (ret == 0) {
		ret = evfs_index_put_within(meta, objects, n, origin, err);
		return evfs_index_end(meta, ret, err);
	}
	for (size_t i = 0; i < n; i++)
		evfs_object_free(objects[i]);
	return ret;
}
