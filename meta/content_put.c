/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The content store: puts. A put collects what a content needs; the chunks that
 * were here already are pinned, and so are the containers of all of them, so
 * that reclamation, or a rollback of the rows that were seen, cannot take them
 * away before the commit. */
#include <assert.h>
#include <string.h>

#include "base/mem.h"
#include "meta/chunker.h"
#include "meta/content_priv.h"

struct evfs_content_put *evfs_content_put_new(struct evfs_err *err)
{
	struct evfs_content_put *put = evfs_calloc(1, sizeof(*put));

	if (!put)
		evfs_err_set(err, EVFS_ENOMEM, "content: no memory");
	return put;
}

void evfs_content_put_drop(struct evfs_content *content,
			   struct evfs_content_put *put)
{
	if (!put)
		return;
	for (size_t i = 0; i < put->n; i++) {
		struct evfs_put_item *item = &put->items[i];

		if (item->pinned)
			evfs_content_unpin(content, &item->hash);
		if (item->container)
			evfs_container_unpin(content->containers,
					     item->container);
	}
	if (put->has_base)
		evfs_content_unpin(content, &put->base);
	evfs_manifest_fini(&put->manifest);
	evfs_hashmap_fini(&put->known);
	evfs_free(put->items);
	evfs_free(put);
}

const evfs_hash *evfs_content_put_name(const struct evfs_content_put *put)
{
	return &put->name;
}

uint64_t evfs_content_put_size(const struct evfs_content_put *put)
{
	return put->size;
}

bool evfs_content_all_zero(const uint8_t *data, size_t len)
{
	return data[0] == 0 && memcmp(data, data + 1, len - 1) == 0;
}

int evfs_content_put_known(struct evfs_content_put *put, const evfs_hash *hash,
			   uint32_t len, uint32_t repeat, struct evfs_err *err)
{
	if (evfs_manifest_add(&put->manifest, &put->manifest_cap, hash, len,
			      repeat) < 0)
		return evfs_err_set(err, EVFS_ENOMEM, "content: no memory");
	return 0;
}

static struct evfs_put_item *add_item(struct evfs_content_put *put,
				      const evfs_hash *hash, uint32_t len)
{
	void *items = put->items;
	uint64_t *index;

	if (evfs_grow(&items, put->n, &put->cap, sizeof(*put->items)) < 0)
		return NULL;
	put->items = items;
	index = evfs_hashmap_put(&put->known, hash);
	if (!index)
		return NULL;
	*index = put->n + 1;
	put->items[put->n] =
		(struct evfs_put_item){ .hash = *hash, .len = len };
	return &put->items[put->n++];
}

/* Is it here? Then the item gets its place, and pins. Meta locked. */
static int find_item(struct evfs_content *content, struct evfs_put_item *item,
		     struct evfs_err *err)
{
	struct evfs_chunk_row row;
	int r;

	r = evfs_content_find(content, &item->hash, &row, err);
	if (r <= 0)
		return r;
	item->container =
		evfs_containers_pin(content->containers, row.container);
	if (!item->container)
		return 0;
	item->offset = row.offset;
	if (evfs_content_pin(content, &item->hash) < 0)
		return evfs_err_set(err, EVFS_ENOMEM, "content: no memory");
	item->pinned = true;
	return 1;
}

int evfs_content_put_hashed(struct evfs_content *content,
			    struct evfs_content_put *put,
			    const evfs_hash *hash, const uint8_t *data,
			    uint32_t len, bool write, uint64_t at,
			    struct evfs_err *err)
{
	struct evfs_put_item *item;
	int r;

	if (evfs_hashmap_get(&put->known, hash))
		return 0;
	item = add_item(put, hash, len);
	if (!item)
		return evfs_err_set(err, EVFS_ENOMEM, "content: no memory");
	if (evfs_content_is_zero_chunk(hash))
		return 0;
	evfs_meta_lock(content->meta);
	r = find_item(content, item, err);
	evfs_meta_unlock(content->meta);
	if (r != 0)
		return r < 0 ? r : 0;
	if (!write) {
		item->pending = true;
		item->offset = at;
		return 0;
	}
	return evfs_containers_append(content->containers, hash, data, len,
				      &item->container, &item->offset, err);
}

int evfs_content_put_chunk(struct evfs_content *content,
			   struct evfs_content_put *put, const uint8_t *data,
			   uint32_t len, bool write, uint64_t at,
			   struct evfs_err *err)
{
	evfs_hash hash;
	int r;

	if (len == EVFS_CHUNK_MAX && evfs_content_all_zero(data, len))
		return evfs_content_put_known(put, evfs_content_zero_chunk(),
					      len, 1, err);
	hash = evfs_hash_content(data, len);
	r = evfs_content_put_hashed(content, put, &hash, data, len, write, at,
				    err);
	if (r < 0)
		return r;
	return evfs_content_put_known(put, &hash, len, 1, err);
}

int evfs_content_put_finish(struct evfs_content_put *put,
			    struct evfs_err *err)
{
	put->size = put->manifest.size;
	if (evfs_manifest_name(&put->manifest, &put->name) < 0)
		return evfs_err_set(err, EVFS_ENOMEM, "content: no memory");
	return 0;
}

int evfs_content_write(struct evfs_content *content, const void *data,
		       size_t len, struct evfs_content_put **ret,
		       struct evfs_err *err)
{
	struct evfs_content_put *put = evfs_content_put_new(err);
	const uint8_t *at = data;
	int r = 0;

	if (!put)
		return EVFS_ENOMEM;
	while (r == 0 && len > 0) {
		size_t cut = evfs_chunker_cut(at, len);

		r = evfs_content_put_chunk(content, put, at, (uint32_t)cut,
					   true, 0, err);
		at += cut;
		len -= cut;
	}
	if (r == 0)
		r = evfs_content_put_finish(put, err);
	if (r < 0) {
		evfs_content_put_drop(content, put);
		return r;
	}
	*ret = put;
	return 0;
}

/* ---- commit ---- */

void evfs_content_note_fresh(struct evfs_content *content,
			     const evfs_hash *name)
{
	size_t max = sizeof(content->fresh) / sizeof(content->fresh[0]);

	if (content->n_fresh == max) {
		/* Nobody took the oldest ones for long. */
		for (size_t i = 0; i < max / 2; i++)
			evfs_content_note_idle(content, &content->fresh[i]);
		content->n_fresh -= max / 2;
		memmove(content->fresh, content->fresh + max / 2,
			content->n_fresh * sizeof(content->fresh[0]));
	}
	content->fresh[content->n_fresh++] = *name;
}

/* A blob takes up its whole length, whatever of it is named; *done: the one
 * that was noted last. */
static int note_blob(struct evfs_content *content,
		     const struct evfs_container *container,
		     const struct evfs_container **done, struct evfs_err *err)
{
	uint64_t size;
	int r;

	if (container == *done)
		return 0;
	*done = container;
	r = evfs_container_size(content->containers, container, &size, err);
	if (r < 0)
		return r;
	return evfs_db_container_add(content->meta,
				     evfs_container_id(container),
				     EVFS_CONTAINER_BLOB, size, 0, err);
}

static int take_items(struct evfs_content *content,
		      const struct evfs_content_put *put, bool counted,
		      bool linked, bool object, struct evfs_err *err)
{
	const struct evfs_container *blob = NULL;
	int r = 0;

	for (size_t i = 0; r == 0 && i < put->n; i++) {
		const struct evfs_put_item *item = &put->items[i];

		assert(!item->pending);
		r = evfs_content_chunk_arrives(
			content, &item->hash, item->len, item->container,
			item->offset,
			counted && !(linked && item->in_base) ? 1 : 0, object,
			err);
		if (r == 0 && item->adopted)
			r = note_blob(content, item->container, &blob, err);
	}
	return r;
}

/* Counts the chunks that were taken over from a base that will not be linked;
 * they must all be here still. */
static int use_taken(struct evfs_content *content,
		     struct evfs_content_put *put, struct evfs_err *err)
{
	for (size_t i = 0; i < put->manifest.n; i++) {
		const struct evfs_manifest_entry *entry =
			&put->manifest.entries[i];
		uint64_t *index;
		int r;

		if (evfs_content_is_zero_chunk(&entry->chunk))
			continue;
		index = evfs_hashmap_put(&put->known, &entry->chunk);
		if (!index)
			return evfs_err_set(err, EVFS_ENOMEM,
					    "content: no memory");
		if (*index)
			continue;
		*index = UINT64_MAX;
		r = evfs_content_chunk_use(content, &entry->chunk, entry->len,
					   1, err);
		if (r < 0)
			return r;
		if (r != 1)
			return evfs_err_set(err, EVFS_EAGAIN,
					    "content: the base went away "
					    "(write it again)");
	}
	return 0;
}

/* The base's row, if it can be linked: found and whole. */
static int find_base(struct evfs_content *content,
		     const struct evfs_content_put *put,
		     struct evfs_content_row *ret, struct evfs_err *err)
{
	int r;

	if (!put->linked)
		return 0;
	r = evfs_db_content_get(content->meta, &put->base, ret, err);
	if (r <= 0)
		return r;
	return evfs_content_row_whole(ret);
}

static int store_manifest(struct evfs_content *content,
			  const struct evfs_content_put *put,
			  struct evfs_content_row *row, bool is_new,
			  int64_t base, struct evfs_err *err)
{
	struct evfs_content_row before;
	struct evfs_buf buf = { 0 };
	int r = 0;

	if (is_new) {
		*row = (struct evfs_content_row){ .name = put->name,
						  .size = put->size };
		r = evfs_db_content_add(content->meta, row, err);
		if (r < 0)
			return r;
	} else if (row->size != put->size) {
		/* Somebody claimed a size that the bytes do not have: out of
		 * the queue with the old one, then on with the true one. */
		int64_t wants = row->wants;

		before = *row;
		row->wants = 0;
		r = evfs_content_row_changed(content, &before, row, err);
		if (r < 0)
			return r;
		row->wants = wants;
		row->size = put->size;
	}
	before = *row;
	row->shape = EVFS_SHAPE_MANIFEST;
	row->lacking = 0;
	row->base = base;
	r = evfs_content_row_changed(content, &before, row, err);
	if (r < 0)
		return r;
	if (evfs_manifest_encode(&put->manifest, &buf) < 0)
		return evfs_err_set(err, EVFS_ENOMEM, "content: no memory");
	r = evfs_db_manifest_set(content->meta, row->id, buf.data, buf.len,
				 evfs_manifest_holes(&put->manifest), err);
	evfs_buf_fini(&buf);
	return r;
}

static int commit_many(struct evfs_content *content,
		       struct evfs_content_put *put, struct evfs_err *err)
{
	struct evfs_content_row row, base = { 0 };
	bool linked;
	int found, r;

	found = evfs_db_content_get(content->meta, &put->name, &row, err);
	if (found < 0)
		return found;
	if (found && evfs_content_row_whole(&row))
		return 0;
	if (found && row.shape == EVFS_SHAPE_MANIFEST) {
		r = take_items(content, put, false, false, false, err);
		if (r < 0)
			return r;
		r = evfs_db_content_get_id(content->meta, row.id, &row, err);
		if (r < 0)
			return r;
		if (!evfs_content_row_whole(&row))
			return evfs_err_set(err, EVFS_EAGAIN,
					    "content: the base went away "
					    "(write it again)");
		return 0;
	}
	r = find_base(content, put, &base, err);
	if (r < 0)
		return r;
	linked = r > 0;
	r = take_items(content, put, true, linked, false, err);
	if (r == 0 && !linked)
		r = use_taken(content, put, err);
	if (r == 0)
		r = store_manifest(content, put, &row, !found,
				   linked ? base.id : 0, err);
	if (r == 0 && linked) {
		base.children++;
		r = evfs_db_content_set(content->meta, &base, err);
	}
	return r;
}

static int commit_put(struct evfs_content *content,
		      struct evfs_content_put *put, struct evfs_err *err)
{
	if (put->lone)
		return take_items(content, put, false, false, false, err);
	if (put->manifest.n == 0)
		return 0;
	if (put->manifest.n > 1 || put->manifest.entries[0].repeat > 1)
		return commit_many(content, put, err);
	if (put->n == 0) { /* one zero chunk, or the base as it was */
		struct evfs_chunk_row row;
		int r;

		if (evfs_content_is_zero_chunk(&put->name))
			return evfs_content_chunk_arrives(
				content, &put->name, EVFS_CHUNK_MAX, NULL, 0,
				0, true, err);
		r = evfs_content_find(content, &put->name, &row, err);
		if (r != 0)
			return r < 0 ? r : 0;
		return evfs_err_set(err, EVFS_EAGAIN,
				    "content: the base went away "
				    "(write it again)");
	}
	return take_items(content, put, false, false, true, err);
}

int evfs_content_commit(struct evfs_content *content,
			struct evfs_content_put *put, struct evfs_err *err)
{
	int r;

	r = evfs_db_content_begin(content->meta, err);
	if (r == 0)
		r = evfs_db_content_end(content->meta,
					commit_put(content, put, err), err);
	if (r == 0 && put->size > 0)
		evfs_content_note_fresh(content, &put->name);
	evfs_content_put_drop(content, put);
	return r;
}
