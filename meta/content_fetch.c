/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The content store: content from elsewhere: manifests and chunks that arrive,
 * what is lacking, chunks for others. */
#include <assert.h>
#include <string.h>

#include "base/mem.h"
#include "meta/content_priv.h"

/* ---- manifests ---- */

/* Counts the manifest's chunks for a new row: present ones by their uses, the
 * others by what the row lacks (C3 to C5). */
static int count_chunks(struct evfs_content *content,
			const struct evfs_manifest *manifest,
			struct evfs_content_row *row,
			struct evfs_hashmap *seen, struct evfs_err *err)
{
	for (size_t i = 0; i < manifest->n; i++) {
		const struct evfs_manifest_entry *entry =
			&manifest->entries[i];
		uint64_t *mark;
		int r;

		if (evfs_content_is_zero_chunk(&entry->chunk))
			continue;
		mark = evfs_hashmap_put(seen, &entry->chunk);
		if (!mark)
			return evfs_err_set(err, EVFS_ENOMEM,
					    "content: no memory");
		if (*mark == entry->len)
			continue;
		if (*mark)
			return evfs_err_set(err, EVFS_ECORRUPT,
					    "manifest: two lengths of one "
					    "chunk");
		*mark = entry->len;
		r = evfs_content_chunk_use(content, &entry->chunk, entry->len,
					   1, err);
		if (r == 1)
			continue;
		if (r >= 0)
			r = evfs_db_lack_add(content->meta, &entry->chunk,
					     row->id, entry->len, err);
		if (r < 0)
			return r;
		row->lacking++;
	}
	return 0;
}

static int put_manifest(struct evfs_content *content, const evfs_hash *name,
			const struct evfs_manifest *manifest, const void *data,
			size_t len, struct evfs_err *err)
{
	struct evfs_content_row row, before;
	struct evfs_hashmap seen = { 0 };
	int r;

	r = evfs_db_content_get(content->meta, name, &row, err);
	if (r < 0 || (r > 0 && row.shape == EVFS_SHAPE_MANIFEST))
		return r < 0 ? r : 0;
	if (r > 0 && row.size != manifest->size)
		return evfs_err_set(err, EVFS_ECORRUPT,
				    "manifest: of %llu bytes, not %llu",
				    (unsigned long long)manifest->size,
				    (unsigned long long)row.size);
	if (r == 0) {
		row = (struct evfs_content_row){ .name = *name,
						 .size = manifest->size };
		r = evfs_db_content_add(content->meta, &row, err);
		if (r < 0)
			return r;
	}
	before = row;
	row.shape = len ? EVFS_SHAPE_MANIFEST : EVFS_SHAPE_SINGLE;
	if (len) {
		r = count_chunks(content, manifest, &row, &seen, err);
		evfs_hashmap_fini(&seen);
		if (r == 0)
			r = evfs_db_manifest_set(content->meta, row.id, data,
						 len,
						 evfs_manifest_holes(manifest),
						 err);
		if (r < 0)
			return r;
	}
	return evfs_content_row_changed(content, &before, &row, err);
}

int evfs_content_put_manifest(struct evfs_content *content,
			      const evfs_hash *name, uint64_t size,
			      const void *data, size_t len,
			      struct evfs_err *err)
{
	struct evfs_manifest manifest;
	struct evfs_chunk_row chunk;
	int r;

	r = evfs_manifest_decode(data, len, name, size, &manifest, err);
	if (r < 0)
		return r;
	r = size ? evfs_content_find(content, name, &chunk, err) : 1;
	if (r == 0) {
		r = evfs_db_content_begin(content->meta, err);
		if (r == 0)
			r = evfs_db_content_end(content->meta,
						put_manifest(content, name,
							     &manifest, data,
							     len, err),
						err);
		if (r == 0)
			evfs_content_note_fresh(content, name);
	}
	evfs_manifest_fini(&manifest);
	return r < 0 ? r : 0;
}

/* ---- chunks ---- */

int evfs_content_write_chunk(struct evfs_content *content,
			     const evfs_hash *chunk, const void *data,
			     size_t len, bool passing,
			     struct evfs_content_put **ret,
			     struct evfs_err *err)
{
	struct evfs_content_put *put;
	evfs_hash hash;
	int r;

	if (len == 0 || len > EVFS_CHUNK_MAX)
		return evfs_err_set(err, EVFS_ECORRUPT,
				    "content: a chunk of %zu bytes", len);
	hash = evfs_hash_content(data, len);
	if (!evfs_hash_equal(&hash, chunk))
		return evfs_err_set(err, EVFS_ECORRUPT,
				    "content: a chunk does not match its "
				    "name");
	put = evfs_content_put_new(err);
	if (!put)
		return EVFS_ENOMEM;
	put->lone = true;
	put->name = *chunk;
	put->size = len;
	r = evfs_content_put_hashed(content, put, chunk, data, (uint32_t)len,
				    true, 0, err);
	if (r < 0) {
		evfs_content_put_drop(content, put);
		return r;
	}
	if (passing && put->n > 0 && put->items[0].container &&
	    !put->items[0].pinned)
		evfs_container_pass(content->containers,
				    put->items[0].container,
				    put->items[0].offset);
	*ret = put;
	return 0;
}

/* Reads without a look at the bytes, where they are fresh. */
static bool read_fresh(struct evfs_content *content,
		       const struct evfs_chunk_row *row,
		       struct evfs_container *container, uint8_t *data)
{
	struct evfs_containers *set = content->containers;

	if (!container || !evfs_container_is_fresh(set, container, row->offset))
		return false;
	if (evfs_container_read(set, container, data, row->len, row->offset,
				NULL) != 0)
		return false;
	evfs_container_stream(set, container, row->offset, row->len);
	return true;
}

static int read_chunk(struct evfs_content *content, const evfs_hash *chunk,
		      bool check, struct evfs_buf *ret, struct evfs_err *err)
{
	struct evfs_container *container = NULL;
	struct evfs_chunk_row row;
	uint8_t *data;
	int r;

	evfs_meta_lock(content->meta);
	r = evfs_content_find(content, chunk, &row, err);
	if (r > 0 && row.container)
		container = evfs_containers_pin(content->containers,
						row.container);
	evfs_meta_unlock(content->meta);
	if (r < 0)
		return r;
	if (r == 0)
		return evfs_err_set(err, EVFS_EMISSING,
				    "content: a chunk is not here");
	data = evfs_buf_reserve(ret, row.len);
	if (!data)
		r = evfs_err_set(err, EVFS_ENOMEM, "content: no memory");
	else if (!check && read_fresh(content, &row, container, data))
		r = 0;
	else
		r = evfs_content_fetch(content, &row, container, data, err);
	if (container)
		evfs_container_unpin(content->containers, container);
	if (r == EVFS_ECORRUPT)
		evfs_content_report_damage(content, &row);
	if (r == 0)
		ret->len += row.len;
	return r;
}

int evfs_content_read_chunk(struct evfs_content *content,
			    const evfs_hash *chunk, struct evfs_buf *ret,
			    struct evfs_err *err)
{
	return read_chunk(content, chunk, true, ret, err);
}

int evfs_content_read_chunk_unchecked(struct evfs_content *content,
				      const evfs_hash *chunk,
				      struct evfs_buf *ret,
				      struct evfs_err *err)
{
	return read_chunk(content, chunk, false, ret, err);
}

/* ---- what is lacking ---- */

/* The manifest of the content that was asked for last is kept, and how much of
 * its beginning is here: a transfer asks again and again, and goes on from
 * there. (Chunks only go when no manifest needs them, or with damage, which
 * forgets this.) */
static int load_lacks(struct evfs_content *content,
		      const struct evfs_content_row *row, struct evfs_err *err)
{
	int r;

	if (evfs_hash_equal(&content->lacks_name, &row->name))
		return 0;
	content->lacks_name = EVFS_CONTENT_EMPTY;
	content->lacks_from = 0;
	evfs_buf_clear(&content->lacks_manifest);
	r = evfs_db_manifest_get(content->meta, row->id,
				 &content->lacks_manifest, err);
	if (r == 0)
		content->lacks_name = row->name;
	return r;
}

static bool listed(const struct evfs_chunk_want *list, size_t n,
		   const evfs_hash *chunk)
{
	for (size_t i = 0; i < n; i++)
		if (evfs_hash_equal(&list[i].chunk, chunk))
			return true;
	return false;
}

static int list_lacks(struct evfs_content *content, struct evfs_chunk_want *ret,
		      size_t max, size_t *ret_n, struct evfs_err *err)
{
	size_t total = content->lacks_manifest.len / EVFS_MANIFEST_ENTRY_SIZE;
	size_t n = 0;

	for (size_t i = content->lacks_from; i < total && n < max; i++) {
		struct evfs_manifest_entry entry;
		struct evfs_chunk_row row;
		int r;

		evfs_manifest_entry_read(content->lacks_manifest.data +
						 i * EVFS_MANIFEST_ENTRY_SIZE,
					 &entry);
		r = evfs_content_find(content, &entry.chunk, &row, err);
		if (r < 0)
			return r;
		if (r > 0 && n == 0)
			content->lacks_from = i + 1;
		if (r == 0 && !listed(ret, n, &entry.chunk))
			ret[n++] = (struct evfs_chunk_want){ entry.chunk,
							     entry.len };
	}
	*ret_n = n;
	return 0;
}

int evfs_content_lacks(struct evfs_content *content, const evfs_hash *name,
		       uint64_t size, struct evfs_chunk_want *ret, size_t max,
		       size_t *ret_n, bool *ret_manifest, struct evfs_err *err)
{
	struct evfs_content_row row = { 0 };
	struct evfs_chunk_row chunk;
	int r;

	*ret_n = 0;
	*ret_manifest = false;
	if (evfs_hash_is_zero(name))
		return 0;
	r = evfs_content_find(content, name, &chunk, err);
	if (r != 0)
		return r < 0 ? r : 0;
	r = evfs_db_content_get(content->meta, name, &row, err);
	if (r < 0 || (r > 0 && evfs_content_row_whole(&row)))
		return r < 0 ? r : 0;
	if (row.shape == EVFS_SHAPE_MANIFEST) {
		r = load_lacks(content, &row, err);
		return r < 0 ? r : list_lacks(content, ret, max, ret_n, err);
	}
	if (row.shape == EVFS_SHAPE_UNKNOWN && size > EVFS_CHUNK_MIN) {
		*ret_manifest = true;
	} else if (max > 0) {
		ret[0] = (struct evfs_chunk_want){ *name, (uint32_t)size };
		*ret_n = 1;
	}
	return 0;
}
