/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The content store: readers.
 *
 * A reader pins its content, so that the rows of its chunks stay, and each
 * container that it has found chunks in, so that the bytes stay where it has
 * seen them even when compaction moves the rows elsewhere. Places are looked up
 * in windows when they are first needed: opening a huge file costs reading its
 * manifest, no more.
 *
 * Each chunk is checked against its hash when a reader first comes to it, so
 * that nobody is given bytes that rotted on the disk: the chunk counts as not
 * here from then on (EVFS_ECORRUPT), its place is forgotten, and the reader
 * finds it again when it has arrived from elsewhere. */
#include <assert.h>
#include <string.h>

#include "base/mem.h"
#include "meta/content_priv.h"

#define WINDOW 64u /* entries looked up at once */

struct place {
	struct evfs_container *container; /* NULL: not looked up yet */
	uint64_t offset;                  /* of the chunk's bytes */
	bool checked;                     /* they matched their hash */
	bool at_it;                       /* somebody is checking them */
};

struct held {
	struct evfs_container *container; /* pinned */
	int fd;                           /* held for good; -1 = not */
};

struct evfs_content_reader {
	struct evfs_content *content; /* borrowed */
	evfs_hash name;         /* pinned, unless empty */
	uint64_t size;          /* bytes; constant */
	size_t n;               /* entries; constant */
	struct evfs_buf entries; /* owned; constant */
	uint64_t *starts;       /* owned; n + 1 of them; constant */
	pthread_mutex_t mutex;  /* before the meta lock; protects: */
	pthread_cond_t checked; /* no longer at it */
	struct place *places;   /* owned; n of them */
	struct held *held;      /* owned; each container once */
	size_t n_held, cap;     /* of held */
};

static void entry_at(const struct evfs_content_reader *reader, size_t i,
		     struct evfs_manifest_entry *ret)
{
	evfs_manifest_entry_read(
		reader->entries.data + i * EVFS_MANIFEST_ENTRY_SIZE, ret);
}

static bool is_hole(const struct evfs_content_reader *reader, size_t i)
{
	struct evfs_manifest_entry entry;

	entry_at(reader, i, &entry);
	return evfs_content_is_zero_chunk(&entry.chunk);
}

/* ---- opening ---- */

/* Meta locked: the entries of a content that is whole, and a pin. */
static int find_content(struct evfs_content_reader *reader,
			struct evfs_err *err)
{
	struct evfs_content *content = reader->content;
	struct evfs_content_row row = { 0 };
	struct evfs_chunk_row chunk;
	uint64_t size;
	int r;

	r = evfs_content_find(content, &reader->name, &chunk, err);
	if (r < 0)
		return r;
	if (r > 0) {
		size = chunk.len;
		r = evfs_buf_put(&reader->entries, chunk.hash.b,
				 EVFS_HASH_SIZE);
		if (r == 0)
			r = evfs_buf_put_be32(&reader->entries, chunk.len);
		if (r == 0)
			r = evfs_buf_put_be32(&reader->entries, 1);
	} else {
		r = evfs_db_content_get(content->meta, &reader->name, &row,
					err);
		if (r < 0)
			return r;
		if (r == 0 || !evfs_content_row_whole(&row))
			return evfs_err_set(err, EVFS_EMISSING,
					    "content: it is not all here");
		size = row.size;
		r = evfs_db_manifest_get(content->meta, row.id,
					 &reader->entries, err);
		if (r < 0)
			return r;
	}
	if (r < 0 || evfs_content_pin(content, &reader->name) < 0)
		return evfs_err_set(err, EVFS_ENOMEM, "content: no memory");
	if (size == reader->size)
		return 0;
	evfs_content_unpin(content, &reader->name);
	return evfs_err_set(err, EVFS_ECORRUPT,
			    "content: has %llu bytes, not %llu",
			    (unsigned long long)size,
			    (unsigned long long)reader->size);
}

static int index_entries(struct evfs_content_reader *reader)
{
	uint64_t at = 0;

	reader->n = reader->entries.len / EVFS_MANIFEST_ENTRY_SIZE;
	reader->starts = evfs_calloc(reader->n + 1, sizeof(*reader->starts));
	reader->places = evfs_calloc(reader->n, sizeof(*reader->places));
	if (!reader->starts || !reader->places)
		return EVFS_ENOMEM;
	for (size_t i = 0; i < reader->n; i++) {
		struct evfs_manifest_entry entry;

		entry_at(reader, i, &entry);
		reader->starts[i] = at;
		at += (uint64_t)entry.len * entry.repeat;
	}
	reader->starts[reader->n] = at;
	return at == reader->size ? 0 : EVFS_ECORRUPT;
}

static void free_reader(struct evfs_content_reader *reader)
{
	pthread_cond_destroy(&reader->checked);
	pthread_mutex_destroy(&reader->mutex);
	evfs_buf_fini(&reader->entries);
	evfs_free(reader->starts);
	evfs_free(reader->places);
	evfs_free(reader->held);
	evfs_free(reader);
}

int evfs_content_open(struct evfs_content *content, const evfs_hash *name,
		      uint64_t size, struct evfs_content_reader **ret,
		      struct evfs_err *err)
{
	struct evfs_content_reader *reader;
	int r = 0;

	if (evfs_hash_is_zero(name) && size != 0)
		return evfs_err_set(err, EVFS_ECORRUPT,
				    "content: %llu bytes without a name",
				    (unsigned long long)size);
	reader = evfs_calloc(1, sizeof(*reader));
	if (!reader)
		return evfs_err_set(err, EVFS_ENOMEM, "content: no memory");
	pthread_mutex_init(&reader->mutex, NULL);
	pthread_cond_init(&reader->checked, NULL);
	reader->content = content;
	reader->name = *name;
	reader->size = size;
	if (!evfs_hash_is_zero(name)) {
		evfs_meta_lock(content->meta);
		r = find_content(reader, err);
		evfs_meta_unlock(content->meta);
	}
	if (r < 0) {
		free_reader(reader);
		return r;
	}
	r = index_entries(reader);
	if (r < 0) {
		evfs_content_close(reader);
		return evfs_err_set(err, r,
				    "content: its manifest cannot be used");
	}
	*ret = reader;
	return 0;
}

void evfs_content_close(struct evfs_content_reader *reader)
{
	struct evfs_containers *set;

	if (!reader)
		return;
	set = reader->content->containers;
	for (size_t i = 0; i < reader->n_held; i++) {
		struct held *held = &reader->held[i];

		if (held->fd >= 0)
			evfs_container_release_fd(set, held->container);
		evfs_container_unpin(set, held->container);
	}
	if (!evfs_hash_is_zero(&reader->name))
		evfs_content_unpin(reader->content, &reader->name);
	free_reader(reader);
}

/* ---- places ---- */

static struct held *hold_locked(struct evfs_content_reader *reader,
				uint64_t id)
{
	struct evfs_container *container;
	void *items = reader->held;

	for (size_t i = reader->n_held; i-- > 0;)
		if (evfs_container_id(reader->held[i].container) == id)
			return &reader->held[i];
	if (evfs_grow(&items, reader->n_held, &reader->cap,
		      sizeof(*reader->held)) < 0)
		return NULL;
	reader->held = items;
	container = evfs_containers_pin(reader->content->containers, id);
	if (!container)
		return NULL;
	reader->held[reader->n_held] = (struct held){ container, -1 };
	return &reader->held[reader->n_held++];
}

/* Meta and reader locked. */
static int look_up(struct evfs_content_reader *reader, size_t i,
		   struct evfs_err *err)
{
	struct evfs_manifest_entry entry;
	struct evfs_chunk_row row;
	struct held *held;
	int r;

	entry_at(reader, i, &entry);
	if (reader->places[i].container ||
	    evfs_content_is_zero_chunk(&entry.chunk))
		return 0;
	r = evfs_content_find(reader->content, &entry.chunk, &row, err);
	if (r < 0)
		return r;
	if (r == 0 || row.len != entry.len)
		return evfs_err_set(err, EVFS_ECORRUPT,
				    "content: a chunk was damaged");
	held = hold_locked(reader, row.container);
	if (!held)
		return evfs_err_set(err, EVFS_ECORRUPT,
				    "content: container %llu is gone",
				    (unsigned long long)row.container);
	reader->places[i] = (struct place){ .container = held->container,
					    .offset = row.offset };
	return 0;
}

static int place_locked(struct evfs_content_reader *reader, size_t i,
			struct evfs_err *err)
{
	size_t end = i + WINDOW < reader->n ? i + WINDOW : reader->n;
	int r;

	if (reader->places[i].container)
		return 0;
	evfs_meta_lock(reader->content->meta);
	r = look_up(reader, i, err);
	/* A damaged one further on is for whoever gets there. */
	for (size_t next = i + 1; r == 0 && next < end; next++)
		if (look_up(reader, next, NULL) < 0)
			break;
	evfs_meta_unlock(reader->content->meta);
	return r;
}

/* The entry that offset (< size) is in. */
static size_t entry_of(const struct evfs_content_reader *reader,
		       uint64_t offset)
{
	size_t low = 0, high = reader->n;

	while (high - low > 1) {
		size_t middle = low + (high - low) / 2;

		if (reader->starts[middle] <= offset)
			low = middle;
		else
			high = middle;
	}
	return low;
}

struct extent {
	struct evfs_container *container; /* NULL: a hole */
	uint64_t offset; /* in it */
	uint64_t len;    /* bytes */
	size_t first;    /* entry that it begins in */
};

/* What is at offset, neighbours joined, at most max bytes. */
static int extent_at(struct evfs_content_reader *reader, uint64_t offset,
		     uint64_t max, struct extent *ret, struct evfs_err *err)
{
	size_t i = entry_of(reader, offset);
	uint64_t skip = offset - reader->starts[i];
	int r = 0;

	*ret = (struct extent){ .first = i,
				.len = reader->starts[i + 1] - offset };
	pthread_mutex_lock(&reader->mutex);
	if (!is_hole(reader, i)) {
		r = place_locked(reader, i, err);
		ret->container = reader->places[i].container;
		ret->offset = reader->places[i].offset + skip;
	}
	while (r == 0 && ret->container && ret->len < max &&
	       ++i < reader->n && !is_hole(reader, i)) {
		if (place_locked(reader, i, NULL) < 0 ||
		    reader->places[i].container != ret->container ||
		    reader->places[i].offset != ret->offset + ret->len)
			break;
		ret->len += reader->starts[i + 1] - reader->starts[i];
	}
	pthread_mutex_unlock(&reader->mutex);
	if (ret->len > max)
		ret->len = max;
	return r;
}

/* ---- reading ---- */

/* Is entry i to be checked by the caller (1), or was it (0), where the caller
 * has found it? Requests that follow each other meet in a chunk: one of them
 * checks it, and the other waits for that. EVFS_ECORRUPT: another has found it
 * damaged there, so that it is elsewhere now, or nowhere. */
static int take_check(struct evfs_content_reader *reader, size_t i,
		      struct evfs_container *container, uint64_t offset)
{
	struct place *place = &reader->places[i];
	int r = 0;

	pthread_mutex_lock(&reader->mutex);
	while (place->at_it)
		pthread_cond_wait(&reader->checked, &reader->mutex);
	if (place->container != container || place->offset != offset)
		r = EVFS_ECORRUPT;
	else if (!place->checked)
		r = 1;
	if (r > 0)
		place->at_it = true;
	pthread_mutex_unlock(&reader->mutex);
	return r;
}

static void end_check(struct evfs_content_reader *reader, size_t i, int result)
{
	pthread_mutex_lock(&reader->mutex);
	reader->places[i].at_it = false;
	if (result == 0)
		reader->places[i].checked = true;
	else if (result == EVFS_ECORRUPT)
		reader->places[i].container = NULL; /* look again */
	pthread_cond_broadcast(&reader->checked);
	pthread_mutex_unlock(&reader->mutex);
}

/* Entry i as it was found in that container, unless that was done: against its
 * hash. data: room for a chunk, made where it is needed. */
static int check_entry(struct evfs_content_reader *reader, size_t i,
		       struct evfs_container *container, uint64_t offset,
		       uint8_t **data, struct evfs_err *err)
{
	struct evfs_manifest_entry entry;
	struct evfs_chunk_row row = { 0 };
	int r = take_check(reader, i, container, offset);

	if (r < 0)
		return evfs_err_set(err, r, "content: a chunk was damaged");
	if (r == 0)
		return 0;
	if (!*data)
		*data = evfs_realloc_array(NULL, EVFS_CHUNK_MAX, 1);
	if (*data) {
		entry_at(reader, i, &entry);
		row.hash = entry.chunk;
		row.len = entry.len;
		row.container = evfs_container_id(container);
		row.offset = offset;
		r = evfs_content_fetch(reader->content, &row, container, *data,
				       err);
		if (r == EVFS_ECORRUPT)
			evfs_content_report_damage(reader->content, &row);
	} else {
		r = evfs_err_set(err, EVFS_ENOMEM, "content: no memory");
	}
	end_check(reader, i, r);
	return r;
}

/* All chunks of an extent. Damaged ones behind the first are found, too: so
 * that they are fetched together. */
static int check_extent(struct evfs_content_reader *reader,
			const struct extent *extent, uint64_t offset,
			struct evfs_err *err)
{
	uint8_t *data = NULL;
	int rc = 0;

	for (size_t i = extent->first;
	     i < reader->n && reader->starts[i] < offset + extent->len; i++) {
		int r = check_entry(reader, i, extent->container,
				    extent->offset + reader->starts[i] - offset,
				    &data, rc == 0 ? err : NULL);

		if (r < 0 && rc == 0)
			rc = r;
		if (r < 0 && r != EVFS_ECORRUPT)
			break;
	}
	evfs_free(data);
	return rc;
}

int evfs_content_read(struct evfs_content_reader *reader, void *data,
		      size_t len, uint64_t offset, size_t *ret_len,
		      struct evfs_err *err)
{
	uint8_t *at = data;
	size_t done = 0;

	if (offset >= reader->size)
		len = 0;
	else if (len > reader->size - offset)
		len = (size_t)(reader->size - offset);
	while (done < len) {
		struct extent extent;
		int r = extent_at(reader, offset + done, len - done, &extent,
				  err);

		if (r < 0)
			return r;
		if (extent.container)
			r = check_extent(reader, &extent, offset + done, err);
		if (r == 0 && extent.container)
			r = evfs_container_read(reader->content->containers,
						extent.container, at + done,
						(size_t)extent.len,
						extent.offset, err);
		else if (r == 0)
			memset(at + done, 0, (size_t)extent.len);
		if (r < 0)
			return r;
		done += (size_t)extent.len;
	}
	*ret_len = done;
	return 0;
}

int evfs_content_extent(struct evfs_content_reader *reader, uint64_t offset,
			uint64_t max, int *ret_fd, uint64_t *ret_fd_offset,
			uint64_t *ret_len, struct evfs_err *err)
{
	struct extent extent;
	struct held *held;
	int r;

	*ret_len = 0;
	if (offset >= reader->size)
		return 0;
	r = extent_at(reader, offset, max, &extent, err);
	if (r == 0 && extent.container)
		r = check_extent(reader, &extent, offset, err);
	if (r < 0 || !extent.container)
		return r;
	pthread_mutex_lock(&reader->mutex);
	held = hold_locked(reader, evfs_container_id(extent.container));
	assert(held); /* it has been there since the look-up */
	if (held->fd < 0)
		r = evfs_container_hold_fd(reader->content->containers,
					   held->container, &held->fd, err);
	if (r == 0 && held->fd >= 0) {
		*ret_fd = held->fd;
		*ret_fd_offset = extent.offset;
		*ret_len = extent.len;
	}
	pthread_mutex_unlock(&reader->mutex);
	return r;
}

uint64_t evfs_content_seek(struct evfs_content_reader *reader, uint64_t offset,
			   bool hole)
{
	size_t i;

	if (offset >= reader->size)
		return reader->size;
	i = entry_of(reader, offset);
	if (is_hole(reader, i) == hole)
		return offset;
	for (i++; i < reader->n; i++)
		if (is_hole(reader, i) == hole)
			break;
	return reader->starts[i];
}
