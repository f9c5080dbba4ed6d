/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Rows of names: writing one keeps the clash rows and the number of equally
 * named directories true, and tells the feed. */
#include "meta/index_priv.h"

#include <assert.h>
#include <string.h>

#include "meta/view_priv.h"

struct tally {
	int64_t rows; /* of one name */
	int64_t dirs; /* of them directories */
	bool multi;   /* a file with several versions among them */
};

static int tally_row(void *arg, const struct evfs_name_row *row)
{
	struct tally *tally = arg;

	tally->rows++;
	tally->dirs += row->kind == EVFS_KIND_DIR;
	tally->multi |= row->multi;
	return 0;
}

static int count_rows(struct evfs_index *ix, const struct evfs_place *place,
		      struct tally *ret, struct evfs_err *err)
{
	*ret = (struct tally){ 0 };
	return evfs_facts_names_at(ix->facts, place->parent, place->name,
				   place->name_len, tally_row, ret, err);
}

static struct evfs_name_row make_row(const struct evfs_place *place,
				     const struct evfs_object *object,
				     const evfs_stamp *link)
{
	return (struct evfs_name_row){
		.name = place->name,
		.name_len = place->name_len,
		.ino = object->ino,
		.link = *link,
		.kind = object->kind,
		.multi = object->n_versions > 1,
	};
}

static int set_clash(struct evfs_index *ix, const struct evfs_place *place,
		     const struct tally *tally, struct evfs_err *err)
{
	ix->clashes = true;
	return evfs_facts_clash_set(ix->facts, place->parent, place->name,
				    place->name_len,
				    tally->rows > 1 || tally->multi, err);
}

static int changed(struct evfs_index *ix, const struct evfs_place *place,
		   uint64_t ns, struct evfs_err *err)
{
	if (evfs_ino_is_lost(place->parent)) {
		ix->lost = true;
		evfs_index_note_name(ix, EVFS_INO_ROOT, "lost+found", 10);
	}
	evfs_index_note_name(ix, place->parent, place->name, place->name_len);
	return evfs_index_touch_dir(ix, place->parent, ns, err);
}

int evfs_index_row_add(struct evfs_index *ix, const struct evfs_place *place,
		       const struct evfs_object *object,
		       const evfs_stamp *link, struct evfs_err *err)
{
	struct evfs_name_row row = make_row(place, object, link);
	struct tally tally;
	int ret = evfs_facts_name_put(ix->facts, place->parent, &row, err);

	if (ret == 0)
		ret = count_rows(ix, place, &tally, err);
	if (ret != 0)
		return ret;
	assert(tally.rows > 0);
	if (tally.rows > 1 || tally.multi)
		ret = set_clash(ix, place, &tally, err);
	if (row.kind == EVFS_KIND_DIR) {
		ix->shape = true;
		evfs_facts_counter_add(ix->facts, EVFS_COUNTER_DIR_DUPS,
				       tally.dirs - 1);
	}
	return ret != 0 ? ret : changed(ix, place, place->stamp.time_ns, err);
}

int evfs_index_row_remove(struct evfs_index *ix,
			  const struct evfs_place *place,
			  const struct evfs_object *object,
			  const evfs_stamp *link, uint64_t ns,
			  struct evfs_err *err)
{
	struct evfs_name_row row = make_row(place, object, link);
	struct tally tally;
	int ret = evfs_facts_name_remove(ix->facts, place->parent, &row, err);

	if (ret == 0)
		ret = count_rows(ix, place, &tally, err);
	if (ret != 0)
		return ret;
	if (tally.rows > 0 || row.multi)
		ret = set_clash(ix, place, &tally, err);
	if (row.kind == EVFS_KIND_DIR) {
		ix->shape = true;
		evfs_facts_counter_add(ix->facts, EVFS_COUNTER_DIR_DUPS,
				       -tally.dirs);
	}
	return ret != 0 ? ret : changed(ix, place, ns, err);
}

int evfs_index_touch_dir(struct evfs_index *ix, evfs_ino dir, uint64_t ns,
			 struct evfs_err *err)
{
	if (ix->quiet)
		return 0;
	evfs_index_note_attr(ix, dir);
	return evfs_facts_raise_dir_changed(ix->facts, dir, ns, err);
}

/* ---- the feed ---- */

void evfs_index_note_names(struct evfs_index *ix)
{
	struct evfs_change change = { .kind = EVFS_CHANGE_NAMES };

	if (ix->quiet || ix->names || ix->origin != EVFS_FEED_REMOTE)
		return;
	ix->names = true;
	evfs_feed_note(ix->meta, &change);
}

void evfs_index_note_name(struct evfs_index *ix, evfs_ino parent,
			  const void *name, size_t name_len)
{
	struct evfs_change change = { .kind = EVFS_CHANGE_ENTRY,
				      .dir = parent, .name_len = name_len };

	if (ix->quiet || ix->names || ix->origin != EVFS_FEED_REMOTE)
		return;
	/* A real name that looks generated may push a sibling to another. */
	if (evfs_view_looks_generated(name, name_len)) {
		evfs_index_note_names(ix);
		return;
	}
	memcpy(change.name, name, name_len);
	evfs_feed_note(ix->meta, &change);
}

void evfs_index_note_attr(struct evfs_index *ix, evfs_ino ino)
{
	struct evfs_change change = { .kind = EVFS_CHANGE_ATTR, .ino = ino };

	if (ix->quiet || ix->origin != EVFS_FEED_REMOTE)
		return;
	evfs_feed_note(ix->meta, &change);
}
