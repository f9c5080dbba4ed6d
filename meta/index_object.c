/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What one changed object changes in all that is derived. Directories above
 * and cycles are only written down here (gains, losses, moved) and settled at
 * the end of the batch, when all objects are in their new state. */
#include "meta/index_priv.h"

#include <string.h>

#include "meta/collect.h"

/* What of an object has rows. */
struct showing {
	const struct evfs_object *object; /* NULL: absent */
	bool unsealed; /* no version yet, and made on this replica */
};

static bool has_row(const struct showing *showing,
		    const struct evfs_link *link)
{
	if (showing->object == NULL || link == NULL)
		return false;
	return evfs_link_is_live(showing->object, link) ||
	       (showing->unsealed && link->alive.n > 0);
}

static bool is_live(const struct showing *showing, const struct evfs_link *link)
{
	return showing->object != NULL && link != NULL &&
	       evfs_link_is_live(showing->object, link);
}

static const struct evfs_link *same_link(const struct showing *showing,
					 const struct evfs_link *link)
{
	return showing->object == NULL ?
		       NULL :
		       evfs_object_find_link(showing->object, &link->id);
}

static bool same_name(const struct evfs_place *a, const struct evfs_place *b)
{
	return evfs_dot_equal(a->parent, b->parent) &&
	       a->name_len == b->name_len &&
	       memcmp(a->name, b->name, a->name_len) == 0;
}

static int remember(struct evfs_inolist *list, evfs_ino ino,
		    struct evfs_err *err)
{
	if (evfs_inolist_add(list, ino) != 0)
		return evfs_err_set(err, EVFS_ENOMEM, "index: out of memory");
	return 0;
}

/* ---- counters and the root hash ---- */

int evfs_index_count(struct evfs_index *ix, const struct evfs_object *object,
		     int sign, struct evfs_err *err)
{
	struct evfs_facts *facts = ix->facts;
	evfs_hash hash;
	int ret = evfs_facts_live_hash(facts, object, &hash, err);

	if (ret != 0)
		return ret;
	evfs_facts_root_change(facts, sign < 0 ? &hash : NULL,
			       sign < 0 ? NULL : &hash);
	ret = evfs_facts_merkle_change(facts, object, sign, &hash, err);
	if (ret != 0)
		return ret;
	if (evfs_ino_is_root(object->ino))
		return 0;
	if (object->kind == EVFS_KIND_DIR) {
		evfs_facts_counter_add(facts, EVFS_COUNTER_DIRS, sign);
		if (evfs_object_only_link(object)->alive.n == 0)
			evfs_facts_counter_add(facts, EVFS_COUNTER_ZOMBIES,
					       sign);
		return 0;
	}
	evfs_facts_counter_add(facts, EVFS_COUNTER_FILES, sign);
	if (object->n_versions > 0) {
		const struct evfs_version *newest =
			evfs_object_newest_version(object);

		evfs_facts_counter_add(facts, EVFS_COUNTER_VERSIONS,
				       sign * (int64_t)object->n_versions);
		evfs_facts_counter_add(facts, EVFS_COUNTER_BYTES,
				       sign * (int64_t)newest->size);
	}
	return 0;
}

/* Puts the object, and counts it where it counts instead of `old` (NULL: not
 * counted until now). Takes ownership, also on failure. */
static int replace(struct evfs_index *ix, const struct evfs_object *old,
		   struct evfs_object *object, bool counts,
		   struct evfs_err *err)
{
	int ret = old == NULL ? 0 : evfs_index_count(ix, old, -1, err);

	if (ret != 0) {
		evfs_object_free(object);
		return ret;
	}
	ret = evfs_facts_put_object(ix->facts, object, err);
	if (ret == 0 && counts)
		ret = evfs_index_count(ix, object, 1, err);
	return ret;
}

/* ---- files, symlinks, specials ---- */

/* When a link left the name that it had: at its move, else with the last
 * operation on the file. */
static uint64_t when_gone(const struct showing *now,
			  const struct evfs_link *link)
{
	const struct evfs_link *is = same_link(now, link);

	if (has_row(now, is) && !same_name(&link->place, &is->place))
		return is->place.stamp.time_ns;
	return now->object->change_ns;
}

static int remove_rows(struct evfs_index *ix, const struct showing *old,
		       const struct showing *now, struct evfs_err *err)
{
	size_t n = old->object == NULL ? 0 : old->object->n_links;

	for (size_t i = 0; i < n; i++) {
		const struct evfs_link *link = &old->object->links[i];
		const struct evfs_link *other = same_link(now, link);
		bool stays = has_row(now, other) &&
			     same_name(&link->place, &other->place);
		int ret = 0;

		if (!has_row(old, link))
			continue;
		if (!stays)
			ret = evfs_index_row_remove(ix, &link->place,
						    old->object, &link->id,
						    when_gone(now, link), err);
		if (ret == 0 && is_live(old, link) &&
		    !(stays && is_live(now, other)))
			ret = remember(&ix->losses, link->place.parent, err);
		if (ret != 0)
			return ret;
	}
	return 0;
}

/* A row that stays, of a file whose number of versions has changed. */
static int renew_row(struct evfs_index *ix, const struct showing *old,
		     const struct showing *now, const struct evfs_link *link,
		     struct evfs_err *err)
{
	int ret;

	if ((old->object->n_versions > 1) == (now->object->n_versions > 1))
		return 0;
	ret = evfs_index_row_remove(ix, &link->place, old->object, &link->id,
				    link->place.stamp.time_ns, err);
	if (ret == 0)
		ret = evfs_index_row_add(ix, &link->place, now->object,
					 &link->id, err);
	return ret;
}

static int add_rows(struct evfs_index *ix, const struct showing *old,
		    const struct showing *now, struct evfs_err *err)
{
	for (size_t i = 0; i < now->object->n_links; i++) {
		const struct evfs_link *link = &now->object->links[i];
		const struct evfs_link *other = same_link(old, link);
		bool stayed = has_row(old, other) &&
			      same_name(&link->place, &other->place);
		int ret;

		if (!has_row(now, link))
			continue;
		ret = stayed ? renew_row(ix, old, now, link, err) :
			       evfs_index_row_add(ix, &link->place,
						  now->object, &link->id, err);
		if (ret == 0 && is_live(now, link) &&
		    !(stayed && is_live(old, other)))
			ret = remember(&ix->gains, link->place.parent, err);
		if (ret != 0)
			return ret;
	}
	return 0;
}

static bool same_versions(const struct evfs_object *a,
			  const struct evfs_object *b)
{
	if (a->n_versions != b->n_versions)
		return false;
	for (size_t i = 0; i < a->n_versions; i++)
		if (!evfs_dot_equal(a->versions[i].dot, b->versions[i].dot))
			return false;
	return true;
}

static bool same_attrs(const struct evfs_object *a,
		       const struct evfs_object *b)
{
	if (a->n_attrs != b->n_attrs)
		return false;
	for (size_t i = 0; i < a->n_attrs; i++)
		if (evfs_stamp_cmp(&a->attrs[i].stamp, &b->attrs[i].stamp) != 0)
			return false;
	return true;
}

/* Do concurrent versions stand beside another link now? */
static bool siblings_moved(const struct evfs_object *a,
			   const struct evfs_object *b)
{
	const struct evfs_link *was = evfs_object_sibling_link(a);
	const struct evfs_link *is = evfs_object_sibling_link(b);

	return b->n_versions > 1 && was != NULL && is != NULL &&
	       evfs_stamp_cmp(&was->id, &is->id) != 0;
}

/* Rows tell of themselves; this is for names that show another version, or the
 * same with other attributes. */
static void note_rest(struct evfs_index *ix, const struct showing *old,
		      const struct showing *now)
{
	const struct evfs_object *a = old->object, *b = now->object;
	bool again;

	if (a == NULL)
		return;
	again = !same_versions(a, b) || a->n_links != b->n_links ||
		siblings_moved(a, b);
	/* The order of links under one name follows the stamps of places. */
	for (size_t i = 0; i < b->n_links; i++) {
		const struct evfs_link *was = same_link(old, &b->links[i]);

		if (!has_row(now, &b->links[i]))
			continue;
		if (again || was == NULL ||
		    evfs_stamp_cmp(&was->place.stamp,
				   &b->links[i].place.stamp) != 0 ||
		    evfs_object_sibling_link(a) == NULL)
			evfs_index_note_name(ix, b->links[i].place.parent,
					     b->links[i].place.name,
					     b->links[i].place.name_len);
	}
	if (!same_attrs(a, b) || evfs_object_live_links(a) !=
				 evfs_object_live_links(b))
		evfs_index_note_attr(ix, b->ino);
}

/* Was it shown without a version, is it still? A version, or the loss of its
 * last name, ends that for good. */
static int settle_unsealed(struct evfs_index *ix, struct showing *old,
			   struct showing *now, struct evfs_err *err)
{
	const struct evfs_object *first =
		old->object != NULL ? old->object : now->object;
	bool alive = false, flagged;
	int ret;

	if (first->kind != EVFS_KIND_FILE || first->n_versions > 0)
		return 0;
	ret = evfs_facts_is_unsealed(ix->facts, first->ino, &flagged, err);
	if (ret != 0 || !flagged)
		return ret;
	for (size_t i = 0; i < now->object->n_links; i++)
		alive |= now->object->links[i].alive.n > 0;
	old->unsealed = old->object != NULL;
	now->unsealed = alive && now->object->n_versions == 0;
	if (now->unsealed)
		return 0;
	return evfs_facts_set_unsealed(ix->facts, first->ino, false, err);
}

static int put_file(struct evfs_index *ix, const struct evfs_object *before,
		    struct evfs_object *object, struct evfs_err *err)
{
	struct showing old = { before, false };
	struct showing now = { object, false };
	int ret = settle_unsealed(ix, &old, &now, err);

	if (ret == 0)
		ret = evfs_index_past(ix, before, object, err);
	if (ret == 0)
		ret = remove_rows(ix, &old, &now, err);
	if (ret == 0)
		ret = add_rows(ix, &old, &now, err);
	if (ret != 0) {
		evfs_object_free(object);
		return ret;
	}
	note_rest(ix, &old, &now);
	return replace(ix,
		       before != NULL && evfs_object_is_live(before) ? before :
								       NULL,
		       object, evfs_object_is_live(object), err);
}

/* ---- directories ---- */

/* Of a directory that is needed before and, until losses are settled, after. */
static int move_dir(struct evfs_index *ix, const struct evfs_object *before,
		    const struct evfs_object *object, struct evfs_err *err)
{
	const struct evfs_link *was = evfs_object_only_link(before);
	const struct evfs_link *is = evfs_object_only_link(object);
	int ret = 0;

	if (evfs_stamp_cmp(&was->place.stamp, &is->place.stamp) != 0) {
		ix->shape = true;
		ret = remember(&ix->moved, object->ino, err);
	}
	if (ret != 0 || same_name(&was->place, &is->place))
		return ret;
	ret = evfs_index_row_remove(ix, &was->place, before, &was->id,
				    is->place.stamp.time_ns, err);
	if (ret == 0)
		ret = evfs_index_row_add(ix, &is->place, object, &is->id, err);
	if (ret == 0)
		ret = remember(&ix->gains, is->place.parent, err);
	if (ret == 0)
		ret = remember(&ix->losses, was->place.parent, err);
	return ret;
}

static int support_of_dir(struct evfs_index *ix, bool was_alive, bool arrived,
			  const struct evfs_object *object,
			  struct evfs_err *err)
{
	bool alive = evfs_object_only_link(object)->alive.n > 0;
	bool held = false;
	int ret = 0;

	if (was_alive && !alive)
		return remember(&ix->losses, object->ino, err);
	if (!alive && arrived) /* its children may have come before it */
		ret = evfs_index_has_support(ix, object->ino, &held, err);
	if (ret == 0 && (alive != was_alive || held))
		ret = remember(&ix->gains, object->ino, err);
	return ret;
}

static int put_dir(struct evfs_index *ix, const struct evfs_object *before,
		   struct evfs_object *object, struct evfs_err *err)
{
	bool was_alive = before != NULL &&
			 evfs_object_only_link(before)->alive.n > 0;
	bool needed = false;
	int ret = 0;

	if (before != NULL)
		ret = evfs_facts_is_needed(ix->facts, object->ino, &needed,
					   err);
	if (ret == 0 && needed)
		ret = move_dir(ix, before, object, err);
	if (ret == 0)
		ret = support_of_dir(ix, was_alive, before == NULL, object,
				     err);
	if (ret != 0) {
		evfs_object_free(object);
		return ret;
	}
	if (was_alive != (evfs_object_only_link(object)->alive.n > 0))
		ix->shape = true;
	if (before != NULL && !same_attrs(before, object))
		evfs_index_note_attr(ix, object->ino);
	return replace(ix, needed ? before : NULL, object, needed, err);
}

static int put_root(struct evfs_index *ix, const struct evfs_object *before,
		    struct evfs_object *object, struct evfs_err *err)
{
	evfs_index_note_attr(ix, object->ino);
	return replace(ix, before, object, true, err);
}

static int check(const struct evfs_object *object, struct evfs_err *err)
{
	bool root = evfs_ino_is_root(object->ino);

	if ((object->ino.actor.node == 0 && !root) ||
	    (root && object->kind != EVFS_KIND_DIR) ||
	    (object->kind == EVFS_KIND_DIR &&
	     object->n_links != (root ? 0 : 1)))
		return evfs_err_set(err, EVFS_ECORRUPT, "index: object %016llx"
				    "/%u/%llu is impossible",
				    (unsigned long long)object->ino.actor.node,
				    object->ino.actor.epoch,
				    (unsigned long long)object->ino.counter);
	return 0;
}

/* What came and went elsewhere between two exchanges, or before it had a
 * version, was never shown here, and changed the directories that it passed
 * through all the same. */
static int touch_passed(struct evfs_index *ix,
			const struct evfs_object *before,
			const struct evfs_object *object, struct evfs_err *err)
{
	int ret = 0;

	for (size_t i = 0; i < object->n_links && ret == 0; i++) {
		const struct evfs_link *is = &object->links[i];
		const struct evfs_link *was =
			before == NULL ? NULL :
					 evfs_object_find_link(before, &is->id);

		if (is->alive.n == 0 && (was == NULL || was->alive.n > 0))
			ret = evfs_index_touch_dir(ix, is->place.parent,
						   object->change_ns, err);
		else if (!evfs_dot_equal(is->place.origin, is->place.parent) &&
			 (was == NULL ||
			  evfs_stamp_cmp(&was->place.stamp,
					 &is->place.stamp) != 0))
			ret = evfs_index_touch_dir(ix, is->place.origin,
						   is->place.stamp.time_ns,
						   err);
	}
	return ret;
}

int evfs_index_object(struct evfs_index *ix, struct evfs_object *object,
		      struct evfs_err *err)
{
	const struct evfs_object *before = NULL;
	int ret = check(object, err);

	if (ret == 0)
		ret = evfs_facts_get(ix->facts, object->ino, &before, err);
	if (ret == 0 && before != NULL && before->kind != object->kind)
		ret = evfs_err_set(err, EVFS_ECORRUPT,
				   "index: an object changes its kind");
	if (ret == 0 && ix->origin == EVFS_FEED_REMOTE)
		ret = touch_passed(ix, before, object, err);
	if (ret == 0)
		ret = evfs_collect_note(ix->meta, before, object, err);
	if (ret != 0) {
		evfs_object_free(object);
		return ret;
	}
	if (object->change_ns > ix->now_ns)
		ix->now_ns = object->change_ns;
	if (evfs_ino_is_root(object->ino))
		return put_root(ix, before, object, err);
	if (object->kind == EVFS_KIND_DIR)
		return put_dir(ix, before, object, err);
	return put_file(ix, before, object, err);
}
