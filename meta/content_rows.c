/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The content store: the steps on rows that keep the invariants of
 * meta/content_priv.h true when a chunk comes or turns out damaged. Meta
 * locked, inside evfs_db_content_begin/_end, unless said. */
#include <assert.h>
#include <string.h>

#include "base/mem.h"
#include "meta/content_priv.h"

bool evfs_content_row_whole(const struct evfs_content_row *row)
{
	return row->shape == EVFS_SHAPE_MANIFEST && row->lacking == 0;
}

int evfs_content_holes(struct evfs_content *content, const evfs_hash *name,
		       uint64_t size, uint64_t *ret, struct evfs_err *err)
{
	*ret = 0;
	if (size < EVFS_CHUNK_MAX) /* too short for a chunk of zeros */
		return 0;
	if (size == EVFS_CHUNK_MAX && evfs_content_is_zero_chunk(name)) {
		*ret = size;
		return 0;
	}
	return evfs_db_content_holes(content->meta, name, ret, err);
}

int evfs_content_row_changed(struct evfs_content *content,
			     const struct evfs_content_row *before,
			     struct evfs_content_row *row,
			     struct evfs_err *err)
{
	bool queued = row->wants > 0 && row->shape != EVFS_SHAPE_DYING &&
		      !evfs_content_row_whole(row);
	struct evfs_content_delta delta = { 0 };
	int r;

	if (!queued)
		row->queue = 0;
	else if (row->queue == 0)
		row->queue = content->next_queue++;
	delta.wanted = (row->queue != 0) - (before->queue != 0);
	delta.wanted_bytes = delta.wanted * (int64_t)row->size;
	delta.objects = evfs_content_row_whole(row) -
			evfs_content_row_whole(before);
	if (delta.objects > 0)
		content->arrived = true;
	r = evfs_db_content_count(content->meta, &delta, err);
	if (r < 0)
		return r;
	return evfs_db_content_set(content->meta, row, err);
}

/* A content that waited for this chunk under the chunk's own name: its
 * references go to the chunk's row (C2). */
static int merge_single(struct evfs_content *content,
			struct evfs_chunk_row *chunk, struct evfs_err *err)
{
	struct evfs_content_row row, before;
	int r;

	r = evfs_db_content_get(content->meta, &chunk->hash, &row, err);
	if (r <= 0)
		return r;
	assert(row.shape != EVFS_SHAPE_MANIFEST);
	before = row;
	chunk->refs += row.refs;
	chunk->wants += row.wants;
	row.wants = 0; /* leaves the queue */
	r = evfs_content_row_changed(content, &before, &row, err);
	if (r < 0)
		return r;
	content->arrived = true;
	r = evfs_db_content_drop(content->meta, row.id, err);
	return r < 0 ? r : 1;
}

/* Takes the chunk off the lists of what is lacking; returns how many there
 * were. */
static int serve_lacks(struct evfs_content *content, const evfs_hash *hash,
		       uint32_t len, struct evfs_err *err)
{
	int64_t id = 0;
	int n = 0, r;

	while ((r = evfs_db_lack_next(content->meta, hash, len, id, &id,
				      err)) > 0) {
		struct evfs_content_row row, before;

		r = evfs_db_lack_drop(content->meta, hash, id, err);
		if (r < 0)
			return r;
		r = evfs_db_content_get_id(content->meta, id, &row, err);
		if (r <= 0)
			return r < 0 ? r
				     : evfs_err_set(err, EVFS_ECORRUPT,
						    "content: lack of none");
		assert(row.lacking > 0);
		before = row;
		row.lacking--;
		r = evfs_content_row_changed(content, &before, &row, err);
		if (r < 0)
			return r;
		n++;
	}
	return r < 0 ? r : n;
}

int evfs_content_account(struct evfs_content *content,
			 const struct evfs_chunk_row *row, int sign,
			 struct evfs_err *err)
{
	uint64_t cost = row->len;

	if (row->container == 0)
		return 0;
	if (!row->blob)
		cost += EVFS_SEGMENT_RECORD;
	return evfs_db_container_add(
		content->meta, row->container,
		row->blob ? EVFS_CONTAINER_BLOB : EVFS_CONTAINER_SEGMENT,
		sign > 0 && !row->blob ? row->offset + row->len : 0,
		sign * (int64_t)cost, err);
}

void evfs_content_set_place(struct evfs_chunk_row *row,
			    const struct evfs_container *container,
			    uint64_t offset)
{
	row->container = container ? evfs_container_id(container) : 0;
	row->offset = container ? offset : 0;
	row->blob = container &&
		    evfs_container_kind(container) == EVFS_CONTAINER_BLOB;
}

/* A chunk that has a row already. */
static int arrives_again(struct evfs_content *content,
			 struct evfs_chunk_row *row,
			 const struct evfs_container *container,
			 uint64_t offset, int64_t extra, bool object,
			 struct evfs_err *err)
{
	struct evfs_content_delta delta = { 0 };
	bool bad = row->flags & EVFS_CHUNK_BAD;
	int r;

	row->uses += extra;
	if (bad) {
		r = evfs_content_account(content, row, -1, err);
		if (r < 0)
			return r;
		evfs_content_set_place(row, container, offset);
		r = evfs_content_account(content, row, 1, err);
		if (r < 0)
			return r;
		row->flags &= ~(unsigned)EVFS_CHUNK_BAD;
		delta.corrupt--;
		r = merge_single(content, row, err);
		if (r < 0)
			return r;
		object |= r > 0;
	} else if (extra == 0 &&
		   (!object || (row->flags & EVFS_CHUNK_OBJECT))) {
		return 0;
	}
	if (object && !(row->flags & EVFS_CHUNK_OBJECT)) {
		row->flags |= EVFS_CHUNK_OBJECT;
		delta.objects++;
	}
	r = evfs_db_content_count(content->meta, &delta, err);
	if (r < 0)
		return r;
	r = evfs_db_chunk_set(content->meta, row, err);
	if (r < 0 || !bad)
		return r;
	/* The uses of a row are counted already (C4). */
	r = serve_lacks(content, &row->hash, row->len, err);
	return r < 0 ? r : 0;
}

int evfs_content_chunk_arrives(struct evfs_content *content,
			       const evfs_hash *hash, uint32_t len,
			       const struct evfs_container *container,
			       uint64_t offset, int64_t extra, bool object,
			       struct evfs_err *err)
{
	struct evfs_content_delta delta = { 0 };
	struct evfs_chunk_row row;
	int r;

	r = evfs_db_chunk_get(content->meta, hash, &row, err);
	if (r < 0)
		return r;
	if (r > 0)
		return arrives_again(content, &row, container, offset, extra,
				     object, err);
	row = (struct evfs_chunk_row){ .hash = *hash, .len = len };
	evfs_content_set_place(&row, container, offset);
	r = merge_single(content, &row, err);
	if (r < 0)
		return r;
	object |= r > 0;
	r = serve_lacks(content, hash, len, err);
	if (r < 0)
		return r;
	row.uses = r + extra;
	if (object) {
		row.flags |= EVFS_CHUNK_OBJECT;
		delta.objects++;
	}
	r = evfs_db_content_count(content->meta, &delta, err);
	if (r < 0)
		return r;
	r = evfs_content_account(content, &row, 1, err);
	if (r < 0)
		return r;
	return evfs_db_chunk_add(content->meta, &row, err);
}

int evfs_content_chunk_use(struct evfs_content *content, const evfs_hash *hash,
			   uint32_t len, int64_t delta, struct evfs_err *err)
{
	struct evfs_chunk_row row;
	int r;

	r = evfs_db_chunk_get(content->meta, hash, &row, err);
	if (r <= 0)
		return r;
	if (row.len != len)
		return evfs_err_set(err, EVFS_ECORRUPT,
				    "manifest: a chunk of %u bytes is said to "
				    "have %u",
				    row.len, len);
	row.uses += delta;
	assert(row.uses >= 0);
	if (row.uses == 0 && row.refs == 0)
		evfs_content_note_idle(content, hash);
	r = evfs_db_chunk_set(content->meta, &row, err);
	if (r < 0)
		return r;
	return row.flags & EVFS_CHUNK_BAD ? 2 : 1;
}

int evfs_content_find(struct evfs_content *content, const evfs_hash *hash,
		      struct evfs_chunk_row *ret, struct evfs_err *err)
{
	struct evfs_chunk_row row;
	int r;

	if (evfs_content_is_zero_chunk(hash)) {
		r = evfs_db_chunk_get(content->meta, hash, ret, err);
		if (r == 0)
			*ret = (struct evfs_chunk_row){
				.hash = *hash, .len = EVFS_CHUNK_MAX
			};
		return r < 0 ? r : 1;
	}
	r = evfs_db_chunk_get(content->meta, hash, &row, err);
	if (r <= 0)
		return r;
	if (row.flags & EVFS_CHUNK_BAD)
		return 0;
	*ret = row;
	return 1;
}

int evfs_content_chunk_set(const struct evfs_buf *manifest,
			   struct evfs_hashmap *ret)
{
	for (size_t at = 0; at < manifest->len;
	     at += EVFS_MANIFEST_ENTRY_SIZE) {
		struct evfs_manifest_entry entry;

		evfs_manifest_entry_read(manifest->data + at, &entry);
		if (evfs_content_is_zero_chunk(&entry.chunk))
			continue;
		if (!evfs_hashmap_put(ret, &entry.chunk))
			return EVFS_ENOMEM;
	}
	return 0;
}

/* ---- damage ---- */

/* The content that is this chunk gets a row of its own again (C2). */
static int split_single(struct evfs_content *content,
			struct evfs_chunk_row *chunk, struct evfs_err *err)
{
	struct evfs_content_row row = { .name = chunk->hash,
					.size = chunk->len,
					.refs = chunk->refs,
					.wants = chunk->wants,
					.shape = EVFS_SHAPE_SINGLE };
	struct evfs_content_row before;
	int r;

	if (chunk->flags & EVFS_CHUNK_OBJECT) {
		struct evfs_content_delta delta = { .objects = -1 };

		r = evfs_db_content_count(content->meta, &delta, err);
		if (r < 0)
			return r;
		chunk->flags &= ~(unsigned)EVFS_CHUNK_OBJECT;
	}
	if (chunk->refs == 0)
		return 0;
	chunk->refs = 0;
	chunk->wants = 0;
	r = evfs_db_content_add(content->meta, &row, err);
	if (r < 0)
		return r;
	before = row;
	return evfs_content_row_changed(content, &before, &row, err);
}

static int damage_users(struct evfs_content *content,
			const struct evfs_chunk_row *chunk,
			struct evfs_err *err)
{
	struct evfs_content_row row, before;
	int64_t after = 0;
	int r;

	while ((r = evfs_db_content_with_chunk(content->meta, &chunk->hash,
					       after, &row, err)) > 0) {
		after = row.id;
		before = row;
		row.lacking++;
		r = evfs_db_lack_add(content->meta, &chunk->hash, row.id,
				     chunk->len, err);
		if (r < 0)
			return r;
		r = evfs_content_row_changed(content, &before, &row, err);
		if (r < 0)
			return r;
	}
	return r;
}

static int mark_damaged(struct evfs_content *content,
			struct evfs_chunk_row *row, struct evfs_err *err)
{
	struct evfs_content_delta delta = { .corrupt = 1 };
	int r;

	r = split_single(content, row, err);
	if (r < 0)
		return r;
	row->flags |= EVFS_CHUNK_BAD;
	r = evfs_db_chunk_set(content->meta, row, err);
	if (r < 0)
		return r;
	r = evfs_db_content_count(content->meta, &delta, err);
	if (r < 0)
		return r;
	return row->uses > 0 ? damage_users(content, row, err) : 0;
}

int evfs_content_chunk_damaged(struct evfs_content *content,
			       const struct evfs_chunk_row *seen,
			       struct evfs_err *err)
{
	struct evfs_chunk_row row;
	int r;

	r = evfs_db_chunk_get(content->meta, &seen->hash, &row, err);
	if (r <= 0)
		return r;
	/* Moved or written anew since it was read: not this one. */
	if (row.container != seen->container || row.offset != seen->offset ||
	    (row.flags & EVFS_CHUNK_BAD))
		return 0;
	r = evfs_db_content_begin(content->meta, err);
	if (r < 0)
		return r;
	content->lacks_name = EVFS_CONTENT_EMPTY;
	r = evfs_db_content_end(content->meta,
				mark_damaged(content, &row, err), err);
	return r < 0 ? r : 1;
}

void evfs_content_report_damage(struct evfs_content *content,
				const struct evfs_chunk_row *seen)
{
	int r;

	evfs_meta_lock_content(content->meta);
	r = evfs_content_chunk_damaged(content, seen, NULL);
	evfs_meta_unlock(content->meta);
	/* It could not be written down: whoever reads it next tries again. */
	(void)r;
}

int evfs_content_fetch(struct evfs_content *content,
		       const struct evfs_chunk_row *row,
		       struct evfs_container *container, uint8_t *data,
		       struct evfs_err *err)
{
	int r = 0;

	if (row->container == 0) {
		assert(row->len == EVFS_CHUNK_MAX);
		memset(data, 0, row->len);
		return 0;
	}
	if (!container)
		return evfs_err_set(err, EVFS_ECORRUPT,
				    "content: container %llu is gone",
				    (unsigned long long)row->container);
	/* Twice: a bit that flipped in memory is not one on the disk. */
	for (int i = 0; i < 2; i++) {
		evfs_hash hash;

		r = evfs_container_read(content->containers, container, data,
					row->len, row->offset, err);
		if (r < 0 && r != EVFS_ECORRUPT)
			return r;
		if (r < 0)
			continue;
		hash = evfs_hash_content(data, row->len);
		if (evfs_hash_equal(&hash, &row->hash))
			return 0;
		r = evfs_err_set(err, EVFS_ECORRUPT,
				 "content: chunk in container %llu at %llu "
				 "does not match its hash",
				 (unsigned long long)row->container,
				 (unsigned long long)row->offset);
	}
	return r;
}
