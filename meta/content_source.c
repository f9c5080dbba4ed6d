/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The content store: cutting a source.
 *
 * A chunk's end depends on its own bytes alone (meta/chunker.h). So wherever a
 * chunk of the base begins at a cut of the new content and its bytes are the
 * same, cutting from scratch would give that very chunk: it is taken over
 * unread. Elsewhere the source is read and cut, until a cut meets a chunk of
 * the base again. The one chunk that this does not hold for is the base's last,
 * which the end of the content has cut: it is only taken over where the new
 * content ends there too. So the result is that of cutting everything, at the
 * cost of what has changed.
 *
 * A big file that is mostly new is hashed where it is, if its writer has not
 * done so already, and moved into the store
 * as a blob; else chunks are written to segments as they are found. */
#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "base/mem.h"
#include "meta/chunker.h"
#include "meta/content_priv.h"

#define BUFFER_SIZE (4u * EVFS_CHUNK_MAX)
#define ADOPT_MIN (4u << 20) /* below, copying is cheaper than a file */
/* A base of so many entries is linked (C3). */
#define LINK_MIN 64u

struct cutter {
	struct evfs_content *content;             /* borrowed */
	const struct evfs_content_source *source; /* borrowed */
	struct evfs_content_put *put;             /* being filled */
	bool plan;        /* leave new chunks pending */
	uint8_t *buffer;  /* owned; BUFFER_SIZE */
	uint64_t at;      /* of the source, where the buffer begins */
	size_t len;       /* bytes in it */
	struct evfs_buf base; /* owned; entries of the base */
	size_t base_next; /* entry that base_at belongs to */
	uint64_t base_at; /* where that entry begins */
	size_t dirty_next; /* first range that may end behind the position */
	size_t cut_next;   /* of the source's cuts */
};

/* ---- the base ---- */

static int add_single_base(struct evfs_buf *base, const evfs_hash *name,
			   uint32_t len)
{
	if (evfs_buf_put(base, name->b, EVFS_HASH_SIZE) < 0 ||
	    evfs_buf_put_be32(base, len) < 0 || evfs_buf_put_be32(base, 1) < 0)
		return EVFS_ENOMEM;
	return 0;
}

/* Meta locked: 1 and its entries, if the base is whole here. */
static int find_base(struct cutter *cutter, struct evfs_err *err)
{
	const struct evfs_content_source *source = cutter->source;
	struct evfs_content *content = cutter->content;
	struct evfs_content_row row;
	struct evfs_chunk_row chunk;
	int r;

	r = evfs_content_find(content, &source->base, &chunk, err);
	if (r < 0)
		return r;
	if (r > 0) {
		if (chunk.len != source->base_size)
			return 0;
		r = add_single_base(&cutter->base, &chunk.hash, chunk.len);
	} else {
		r = evfs_db_content_get(content->meta, &source->base, &row,
					err);
		if (r <= 0 || !evfs_content_row_whole(&row) ||
		    row.size != source->base_size)
			return r < 0 ? r : 0;
		r = evfs_db_manifest_get(content->meta, row.id, &cutter->base,
					 err);
		if (r < 0)
			return r;
	}
	if (r == 0)
		r = evfs_content_pin(content, &source->base);
	if (r < 0)
		return evfs_err_set(err, EVFS_ENOMEM, "content: no memory");
	return 1;
}

static int load_base(struct cutter *cutter, struct evfs_err *err)
{
	int r;

	if (!cutter->source->has_base || cutter->source->base_size == 0)
		return 0;
	evfs_meta_lock(cutter->content->meta);
	r = find_base(cutter, err);
	evfs_meta_unlock(cutter->content->meta);
	if (r <= 0)
		return r;
	cutter->put->has_base = true;
	cutter->put->base = cutter->source->base;
	return 0;
}

static bool base_entry(const struct cutter *cutter,
		       struct evfs_manifest_entry *ret)
{
	size_t at = cutter->base_next * EVFS_MANIFEST_ENTRY_SIZE;

	if (at >= cutter->base.len)
		return false;
	evfs_manifest_entry_read(cutter->base.data + at, ret);
	return true;
}

/* Where the next changed byte at or behind pos is. */
static uint64_t clean_until(struct cutter *cutter, uint64_t pos)
{
	const struct evfs_content_source *source = cutter->source;

	while (cutter->dirty_next < source->n_dirty &&
	       source->dirty[cutter->dirty_next].end <= pos)
		cutter->dirty_next++;
	if (cutter->dirty_next == source->n_dirty)
		return UINT64_MAX;
	return source->dirty[cutter->dirty_next].start;
}

/* How many chunks of the base can be taken over at pos; *ret is the entry. */
static uint32_t reusable(struct cutter *cutter, uint64_t pos,
			 struct evfs_manifest_entry *ret)
{
	uint64_t limit = clean_until(cutter, pos);
	uint64_t size = cutter->source->size;
	uint64_t base_size = cutter->source->base_size;
	uint64_t first, n, left;

	if (!cutter->put->has_base || limit <= pos)
		return 0;
	while (base_entry(cutter, ret) &&
	       cutter->base_at + (uint64_t)ret->len * ret->repeat <= pos) {
		cutter->base_at += (uint64_t)ret->len * ret->repeat;
		cutter->base_next++;
	}
	if (!base_entry(cutter, ret) || cutter->base_at > pos ||
	    (pos - cutter->base_at) % ret->len != 0)
		return 0;
	if (limit > size)
		limit = size;
	if (size > base_size && limit >= base_size)
		limit = base_size - 1; /* not the last one of the base */
	if (limit <= pos)
		return 0;
	first = (pos - cutter->base_at) / ret->len;
	left = ret->repeat - first;
	n = (limit - pos) / ret->len;
	return (uint32_t)(n < left ? n : left);
}

/* ---- reading and cutting ---- */

/* The bytes at pos are in the buffer: all that are left, or enough for a
 * chunk. */
static int fill(struct cutter *cutter, uint64_t pos, const uint8_t **ret,
		size_t *ret_len, struct evfs_err *err)
{
	const struct evfs_content_source *source = cutter->source;
	uint64_t left = source->size - pos;
	size_t need = left < EVFS_CHUNK_MAX ? (size_t)left : EVFS_CHUNK_MAX;
	size_t want = cutter->put->has_base ? EVFS_CHUNK_MAX : BUFFER_SIZE;
	size_t skip;
	int r;

	assert(pos >= cutter->at);
	if (pos - cutter->at > cutter->len) {
		cutter->at = pos;
		cutter->len = 0;
	}
	skip = (size_t)(pos - cutter->at);
	if (cutter->len - skip < need) {
		memmove(cutter->buffer, cutter->buffer + skip,
			cutter->len - skip);
		cutter->at = pos;
		cutter->len -= skip;
		skip = 0;
		if (want > left)
			want = (size_t)left;
		r = source->read(source->ctx, cutter->buffer + cutter->len,
				 want - cutter->len, pos + cutter->len, err);
		if (r < 0)
			return r;
		cutter->len = want;
	}
	*ret = cutter->buffer + skip;
	*ret_len = cutter->len - skip;
	return 0;
}

static int cut_one(struct cutter *cutter, uint64_t *pos, struct evfs_err *err)
{
	const struct evfs_content_source *source = cutter->source;
	uint64_t hole = source->hole ? source->hole(source->ctx, *pos) : 0;
	const uint8_t *data;
	size_t len, cut;
	int r;

	if (hole > source->size - *pos)
		hole = source->size - *pos;
	if (hole >= EVFS_CHUNK_MAX) {
		uint32_t n = (uint32_t)(hole / EVFS_CHUNK_MAX);

		*pos += (uint64_t)n * EVFS_CHUNK_MAX;
		return evfs_content_put_known(cutter->put,
					      evfs_content_zero_chunk(),
					      EVFS_CHUNK_MAX, n, err);
	}
	r = fill(cutter, *pos, &data, &len, err);
	if (r < 0)
		return r;
	cut = evfs_chunker_cut(data, len);
	r = evfs_content_put_chunk(cutter->content, cutter->put, data,
				   (uint32_t)cut, !cutter->plan, *pos, err);
	*pos += cut;
	return r;
}

/* Takes over a chunk that the source has cut already. */
static int take_cut(struct cutter *cutter, uint64_t *pos, struct evfs_err *err)
{
	const struct evfs_cut *cut =
		&cutter->source->cuts[cutter->cut_next++];
	int r = 0;

	if (!evfs_content_is_zero_chunk(&cut->hash))
		r = evfs_content_put_hashed(cutter->content, cutter->put,
					    &cut->hash, NULL, cut->len, false,
					    *pos, err);
	*pos += cut->len;
	return r < 0 ? r : evfs_content_put_known(cutter->put, &cut->hash,
						  cut->len, 1, err);
}

static int cut_all(struct cutter *cutter, struct evfs_err *err)
{
	uint64_t pos = 0;
	int r = 0;

	if (cutter->plan)
		while (r == 0 && cutter->cut_next < cutter->source->n_cuts)
			r = take_cut(cutter, &pos, err);
	while (r == 0 && pos < cutter->source->size) {
		struct evfs_manifest_entry entry;
		uint32_t n = reusable(cutter, pos, &entry);

		if (n == 0) {
			r = cut_one(cutter, &pos, err);
			continue;
		}
		r = evfs_content_put_known(cutter->put, &entry.chunk,
					   entry.len, n, err);
		pos += (uint64_t)entry.len * n;
	}
	return r;
}

/* Shall the new row lean on the base's? Which items does the base name too? */
static int link_base(struct cutter *cutter, struct evfs_err *err)
{
	struct evfs_content_put *put = cutter->put;
	struct evfs_hashmap set = { 0 };

	if (!put->has_base ||
	    cutter->base.len < LINK_MIN * EVFS_MANIFEST_ENTRY_SIZE)
		return 0;
	if (evfs_content_chunk_set(&cutter->base, &set) < 0) {
		evfs_hashmap_fini(&set);
		return evfs_err_set(err, EVFS_ENOMEM, "content: no memory");
	}
	for (size_t i = 0; i < put->n; i++)
		put->items[i].in_base =
			evfs_hashmap_get(&set, &put->items[i].hash) != NULL;
	put->linked = true;
	evfs_hashmap_fini(&set);
	return 0;
}

/* ---- big files ---- */

static bool adoptable(const struct evfs_content *content,
		      const struct evfs_content_source *source)
{
	struct stat st;

	return source->adopt_path && !content->in_memory &&
	       source->size >= ADOPT_MIN &&
	       stat(source->adopt_path, &st) == 0 && S_ISREG(st.st_mode) &&
	       st.st_nlink == 1 && (uint64_t)st.st_size == source->size;
}

static int copy_pending(struct cutter *cutter, struct evfs_err *err)
{
	const struct evfs_content_source *source = cutter->source;
	struct evfs_content_put *put = cutter->put;
	int r = 0;

	for (size_t i = 0; r == 0 && i < put->n; i++) {
		struct evfs_put_item *item = &put->items[i];
		evfs_hash hash;

		if (!item->pending)
			continue;
		r = source->read(source->ctx, cutter->buffer, item->len,
				 item->offset, err);
		if (r < 0)
			return r;
		hash = evfs_hash_content(cutter->buffer, item->len);
		if (!evfs_hash_equal(&hash, &item->hash))
			return evfs_err_set(err, EVFS_EAGAIN,
					    "content: the file changed while "
					    "it was read (write it again)");
		r = evfs_containers_append(cutter->content->containers, &hash,
					   cutter->buffer, item->len,
					   &item->container, &item->offset,
					   err);
		item->pending = r < 0;
	}
	return r;
}

/* Takes the file over if most of it is new; else copies what is. */
static int place_pending(struct cutter *cutter, bool *ret_adopted,
			 struct evfs_err *err)
{
	struct evfs_containers *set = cutter->content->containers;
	struct evfs_content_put *put = cutter->put;
	struct evfs_container *blob;
	uint64_t fresh = 0;
	int r;

	for (size_t i = 0; i < put->n; i++)
		if (put->items[i].pending)
			fresh += put->items[i].len;
	if (fresh < ADOPT_MIN || fresh < cutter->source->size / 2)
		return copy_pending(cutter, err);
	r = evfs_containers_adopt(set, cutter->source->adopt_path,
				  cutter->source->adopt_keeps,
				  cutter->source->size, &blob, err);
	if (r == EVFS_EUNSUPPORTED)
		return copy_pending(cutter, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < put->n; i++) {
		struct evfs_put_item *item = &put->items[i];

		if (!item->pending)
			continue;
		item->pending = false;
		item->adopted = true;
		item->container = blob;
		evfs_container_pin(set, blob);
	}
	evfs_container_unpin(set, blob);
	*ret_adopted = true;
	return 0;
}

int evfs_content_write_source(struct evfs_content *content,
			      const struct evfs_content_source *source,
			      struct evfs_content_put **ret, bool *ret_adopted,
			      struct evfs_err *err)
{
	struct cutter cutter = { .content = content, .source = source };
	bool adopted = false;
	int r;

	if (source->size > EVFS_FILE_SIZE_MAX)
		return evfs_err_set(err, EVFS_EFBIG,
				    "content: %llu bytes are too many",
				    (unsigned long long)source->size);
	cutter.put = evfs_content_put_new(err);
	if (!cutter.put)
		return EVFS_ENOMEM;
	cutter.plan = adoptable(content, source);
	cutter.buffer = evfs_calloc(1, BUFFER_SIZE);
	r = cutter.buffer ? load_base(&cutter, err)
			  : evfs_err_set(err, EVFS_ENOMEM,
					 "content: no memory");
	if (r == 0)
		r = cut_all(&cutter, err);
	if (r == 0 && cutter.plan)
		r = place_pending(&cutter, &adopted, err);
	if (r == 0)
		r = link_base(&cutter, err);
	if (r == 0)
		r = evfs_content_put_finish(cutter.put, err);
	evfs_buf_fini(&cutter.base);
	evfs_free(cutter.buffer);
	/* An adopted file is the store's, whatever becomes of the put. */
	if (ret_adopted)
		*ret_adopted = adopted;
	if (r < 0) {
		evfs_content_put_drop(content, cutter.put);
		return r;
	}
	*ret = cutter.put;
	return 0;
}
