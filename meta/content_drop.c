/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The content store: dropping what nobody refers to.
 *
 * A content with a manifest that goes must give back the uses that its row
 * stands for (C3). With no other row leaning on it, those of its chunks that
 * its base does not name; in slices, as there may be many: the row loses its
 * name first and is *dying* until the last slice. With one row leaning on it,
 * that row takes its place, and only where the three differ are there uses to
 * give back. With several, it stays without references until one is left. */
#include <assert.h>

#include "base/mem.h"
#include "meta/content_priv.h"

#define SLICE 2048u /* entries of a dying content at a time */

static int load_set(struct evfs_content *content, int64_t id,
		    struct evfs_buf *manifest, struct evfs_hashmap *set,
		    struct evfs_err *err)
{
	int r = evfs_db_manifest_get(content->meta, id, manifest, err);

	if (r == 0 && evfs_content_chunk_set(manifest, set) < 0)
		r = evfs_err_set(err, EVFS_ENOMEM, "content: no memory");
	return r;
}

/* ---- one row takes another's place ---- */

struct fold {
	struct evfs_buf old_manifest, child_manifest, base_manifest; /* owned */
	struct evfs_hashmap old, child, base; /* owned; their chunks */
};

/* Gives back one use of each chunk of `from` that is in neither set (in_base:
 * that the base names, and the other set does not). */
static int give_back(struct evfs_content *content, const struct fold *fold,
		     const struct evfs_buf *from, struct evfs_hashmap *mine,
		     const struct evfs_hashmap *other, bool in_base,
		     struct evfs_err *err)
{
	for (size_t at = 0; at < from->len; at += EVFS_MANIFEST_ENTRY_SIZE) {
		struct evfs_manifest_entry entry;
		uint64_t *mark;
		int r;

		evfs_manifest_entry_read(from->data + at, &entry);
		mark = evfs_hashmap_get(mine, &entry.chunk);
		if (!mark || *mark) /* the zero chunk, or done already */
			continue;
		*mark = 1;
		if (evfs_hashmap_get(other, &entry.chunk) ||
		    (evfs_hashmap_get(&fold->base, &entry.chunk) != NULL) !=
			    in_base)
			continue;
		r = evfs_content_chunk_use(content, &entry.chunk, entry.len,
					   -1, err);
		if (r < 0)
			return r;
	}
	return 0;
}

static int fold_sets(struct evfs_content *content, struct fold *fold,
		     const struct evfs_content_row *row,
		     const struct evfs_content_row *child,
		     struct evfs_err *err)
{
	int r;

	r = load_set(content, row->id, &fold->old_manifest, &fold->old, err);
	if (r == 0)
		r = load_set(content, child->id, &fold->child_manifest,
			     &fold->child, err);
	if (r == 0 && row->base)
		r = load_set(content, row->base, &fold->base_manifest,
			     &fold->base, err);
	if (r == 0)
		r = give_back(content, fold, &fold->old_manifest, &fold->old,
			      &fold->child, false, err);
	if (r == 0)
		r = give_back(content, fold, &fold->child_manifest,
			      &fold->child, &fold->old, true, err);
	return r;
}

static int fold_into_child(struct evfs_content *content,
			   const struct evfs_content_row *row, bool *ret_kept,
			   struct evfs_err *err)
{
	struct evfs_content_delta delta = { .objects = -1 };
	struct evfs_content_row child;
	struct fold fold = { 0 };
	int r;

	r = evfs_db_content_child(content->meta, row->id, &child, err);
	if (r <= 0)
		return r < 0 ? r
			     : evfs_err_set(err, EVFS_ECORRUPT,
					    "content: a base without child");
	if (child.shape == EVFS_SHAPE_DYING)
		return 0; /* its end looks at the base again */
	if (row->lacking || child.lacking) {
		*ret_kept = true;
		return 0;
	}
	r = fold_sets(content, &fold, row, &child, err);
	evfs_buf_fini(&fold.old_manifest);
	evfs_buf_fini(&fold.child_manifest);
	evfs_buf_fini(&fold.base_manifest);
	evfs_hashmap_fini(&fold.old);
	evfs_hashmap_fini(&fold.child);
	evfs_hashmap_fini(&fold.base);
	if (r < 0)
		return r;
	child.base = row->base;
	r = evfs_db_content_set(content->meta, &child, err);
	if (r == 0)
		r = evfs_db_content_drop(content->meta, row->id, err);
	if (r == 0)
		r = evfs_db_content_count(content->meta, &delta, err);
	return r;
}

/* ---- idle names ---- */

static int drop_chunk(struct evfs_content *content, struct evfs_chunk_row *row,
		      struct evfs_err *err)
{
	struct evfs_content_delta delta = { 0 };
	int r;

	if (row->refs > 0 ||
	    (row->uses > 0 && !(row->flags & EVFS_CHUNK_OBJECT)))
		return 0;
	if (row->flags & EVFS_CHUNK_OBJECT)
		delta.objects = -1;
	row->flags &= ~(unsigned)EVFS_CHUNK_OBJECT;
	if (row->uses == 0 && (row->flags & EVFS_CHUNK_BAD))
		delta.corrupt = -1;
	r = evfs_db_content_count(content->meta, &delta, err);
	if (r < 0 || row->uses > 0)
		return r < 0 ? r : evfs_db_chunk_set(content->meta, row, err);
	r = evfs_content_account(content, row, -1, err);
	if (r < 0)
		return r;
	return evfs_db_chunk_drop(content->meta, &row->hash, err);
}

static int drop_content(struct evfs_content *content,
			struct evfs_content_row *row, bool *ret_kept,
			struct evfs_err *err)
{
	struct evfs_content_row before = *row;
	int r;

	assert(row->wants == 0);
	if (row->shape != EVFS_SHAPE_MANIFEST)
		return evfs_db_content_drop(content->meta, row->id, err);
	if (row->children > 1)
		return 0;
	if (evfs_hash_equal(&content->lacks_name, &row->name))
		content->lacks_name = EVFS_CONTENT_EMPTY;
	if (row->children == 1)
		return fold_into_child(content, row, ret_kept, err);
	row->shape = EVFS_SHAPE_DYING;
	row->dropped = 0;
	r = evfs_content_row_changed(content, &before, row, err);
	return r;
}

static int drop_idle(struct evfs_content *content, const evfs_hash *name,
		     bool *ret_kept, struct evfs_err *err)
{
	struct evfs_content_row row;
	struct evfs_chunk_row chunk;
	int r;

	r = evfs_db_chunk_get(content->meta, name, &chunk, err);
	if (r > 0)
		r = drop_chunk(content, &chunk, err);
	if (r < 0)
		return r;
	r = evfs_db_content_get(content->meta, name, &row, err);
	if (r > 0 && row.refs == 0)
		r = drop_content(content, &row, ret_kept, err);
	return r < 0 ? r : 0;
}

int evfs_content_drop_idle(struct evfs_content *content, const evfs_hash *name,
			   bool *ret_kept, struct evfs_err *err)
{
	int r;

	*ret_kept = evfs_content_is_pinned(content, name);
	if (*ret_kept)
		return 0;
	r = evfs_db_content_begin(content->meta, err);
	if (r < 0)
		return r;
	return evfs_db_content_end(content->meta,
				   drop_idle(content, name, ret_kept, err),
				   err);
}

/* ---- taking apart ---- */

static int take_entry(struct evfs_content *content,
		      const struct evfs_content_row *row,
		      const struct evfs_manifest_entry *entry, bool in_base,
		      struct evfs_err *err)
{
	int r = 0;

	if (row->lacking)
		r = evfs_db_lack_drop(content->meta, &entry->chunk, row->id,
				      err);
	/* A chunk without a row was lacking, and has no uses (C4). */
	if (r >= 0 && !in_base)
		r = evfs_content_chunk_use(content, &entry->chunk, entry->len,
					   -1, err);
	return r < 0 ? r : 0;
}

static int take_slice(struct evfs_content *content,
		      struct evfs_content_row *row,
		      const struct evfs_buf *manifest,
		      const struct evfs_hashmap *base, struct evfs_err *err)
{
	size_t n = manifest->len / EVFS_MANIFEST_ENTRY_SIZE;
	struct evfs_hashmap first = { 0 };
	size_t from = (size_t)row->dropped, to = from + SLICE;
	int r = 0;

	if (to > n)
		to = n;
	for (size_t i = 0; r == 0 && i < to; i++) {
		struct evfs_manifest_entry entry;
		uint64_t *seen;

		evfs_manifest_entry_read(
			manifest->data + i * EVFS_MANIFEST_ENTRY_SIZE, &entry);
		if (evfs_content_is_zero_chunk(&entry.chunk))
			continue;
		seen = evfs_hashmap_put(&first, &entry.chunk);
		if (!seen)
			r = evfs_err_set(err, EVFS_ENOMEM,
					 "content: no memory");
		else if (*seen == 0 && i >= from)
			r = take_entry(content, row, &entry,
				       evfs_hashmap_get(base, &entry.chunk) !=
					       NULL,
				       err);
		if (seen)
			*seen = 1;
	}
	evfs_hashmap_fini(&first);
	row->dropped = (int64_t)to;
	return r;
}

static int leave_base(struct evfs_content *content, int64_t id,
		      struct evfs_err *err)
{
	struct evfs_content_row base;
	int r = evfs_db_content_get_id(content->meta, id, &base, err);

	if (r <= 0)
		return r;
	assert(base.children > 0);
	base.children--;
	if (base.refs == 0)
		evfs_content_note_idle(content, &base.name);
	return evfs_db_content_set(content->meta, &base, err);
}

static int take_apart(struct evfs_content *content,
		      struct evfs_content_row *row, struct evfs_err *err)
{
	struct evfs_buf manifest = { 0 }, base_manifest = { 0 };
	struct evfs_hashmap base = { 0 };
	bool done = false;
	int r;

	r = evfs_db_manifest_get(content->meta, row->id, &manifest, err);
	if (r == 0 && row->base)
		r = load_set(content, row->base, &base_manifest, &base, err);
	if (r == 0)
		r = take_slice(content, row, &manifest, &base, err);
	if (r == 0)
		done = (size_t)row->dropped * EVFS_MANIFEST_ENTRY_SIZE ==
		       manifest.len;
	evfs_buf_fini(&manifest);
	evfs_buf_fini(&base_manifest);
	evfs_hashmap_fini(&base);
	if (r < 0)
		return r;
	if (!done)
		return evfs_db_content_set(content->meta, row, err);
	r = evfs_db_content_drop(content->meta, row->id, err);
	if (r == 0 && row->base)
		r = leave_base(content, row->base, err);
	return r;
}

int evfs_content_take_apart(struct evfs_content *content, struct evfs_err *err)
{
	struct evfs_content_row row;
	int r;

	r = evfs_db_content_dying(content->meta, &row, err);
	if (r <= 0)
		return r;
	r = evfs_db_content_begin(content->meta, err);
	if (r < 0)
		return r;
	r = evfs_db_content_end(content->meta, take_apart(content, &row, err),
				err);
	return r < 0 ? r : 1;
}
