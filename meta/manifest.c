/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Manifests: the list of chunks of a content, its encoding and its name.
 *
 * Content of one chunk has no list of its own: it encodes to nothing and is
 * named by the chunk. So a list that is stored or sent has at least two chunks;
 * a list that could be shorter is refused, or one content had two names. */
#include <assert.h>
#include <pthread.h>
#include <string.h>

#include "base/mem.h"
#include "meta/content_priv.h"

const evfs_hash EVFS_CONTENT_EMPTY = { { 0 } };

static evfs_hash zero_chunk;
static pthread_once_t zero_once = PTHREAD_ONCE_INIT;

static void make_zero(void)
{
	static const uint8_t zeros[EVFS_CHUNK_MAX];

	zero_chunk = evfs_hash_content(zeros, sizeof(zeros));
}

const evfs_hash *evfs_content_zero_chunk(void)
{
	pthread_once(&zero_once, make_zero);
	return &zero_chunk;
}

bool evfs_content_is_zero_chunk(const evfs_hash *chunk)
{
	return evfs_hash_equal(chunk, evfs_content_zero_chunk());
}

uint64_t evfs_manifest_holes(const struct evfs_manifest *manifest)
{
	uint64_t bytes = 0;

	for (size_t i = 0; i < manifest->n; i++) {
		const struct evfs_manifest_entry *entry =
			&manifest->entries[i];

		if (evfs_content_is_zero_chunk(&entry->chunk))
			bytes += (uint64_t)entry->len * entry->repeat;
	}
	return bytes;
}

void evfs_manifest_fini(struct evfs_manifest *manifest)
{
	evfs_free(manifest->entries);
	*manifest = (struct evfs_manifest){ 0 };
}

static bool is_single(const struct evfs_manifest *manifest)
{
	return manifest->n == 1 && manifest->entries[0].repeat == 1;
}

void evfs_manifest_entry_read(const uint8_t *at,
			      struct evfs_manifest_entry *ret)
{
	memcpy(ret->chunk.b, at, EVFS_HASH_SIZE);
	ret->len = evfs_be32_read(at + 32);
	ret->repeat = evfs_be32_read(at + 36);
}

/* Is this entry allowed behind `before` (NULL: the first)? NULL: it is. */
static const char *entry_fault(const struct evfs_manifest_entry *entry,
			       const struct evfs_manifest_entry *before,
			       bool last)
{
	bool zero = evfs_content_is_zero_chunk(&entry->chunk);

	if (entry->len == 0 || entry->len > EVFS_CHUNK_MAX)
		return "chunk length out of range";
	if (!last && entry->len < EVFS_CHUNK_MIN)
		return "short chunk before the end";
	if (entry->repeat == 0)
		return "repeat of 0";
	if (zero && entry->len != EVFS_CHUNK_MAX)
		return "zero chunk of a wrong length";
	if (!zero && entry->repeat != 1)
		return "repeat of a chunk that is not zero";
	if (zero && before && evfs_content_is_zero_chunk(&before->chunk))
		return "zero run in two entries";
	return NULL;
}

static int decode_entries(const uint8_t *data, size_t n, uint64_t size,
			  struct evfs_manifest *manifest, struct evfs_err *err)
{
	for (size_t i = 0; i < n; i++) {
		struct evfs_manifest_entry *entry = &manifest->entries[i];
		const char *fault;

		evfs_manifest_entry_read(data + i * EVFS_MANIFEST_ENTRY_SIZE,
					 entry);
		fault = entry_fault(entry, i ? entry - 1 : NULL, i + 1 == n);
		if (fault)
			return evfs_err_set(err, EVFS_ECORRUPT,
					    "manifest: entry %zu: %s", i,
					    fault);
		/* At most 2^19 * 2^32 more each time: no overflow, as the sum
		 * is checked in each round. */
		manifest->size += (uint64_t)entry->len * entry->repeat;
		if (manifest->size > size)
			return evfs_err_set(err, EVFS_ECORRUPT,
					    "manifest: longer than its size");
	}
	manifest->n = n;
	if (manifest->size != size)
		return evfs_err_set(err, EVFS_ECORRUPT,
				    "manifest: shorter than its size");
	if (is_single(manifest))
		return evfs_err_set(err, EVFS_ECORRUPT,
				    "manifest: of one chunk only");
	return 0;
}

static int decode_none(const evfs_hash *name, uint64_t size,
		       struct evfs_manifest *ret, struct evfs_err *err)
{
	struct evfs_manifest_entry *entry;

	if ((size == 0) != evfs_hash_is_zero(name) || size > EVFS_CHUNK_MAX)
		return evfs_err_set(err, EVFS_ECORRUPT,
				    "manifest: missing for %llu bytes",
				    (unsigned long long)size);
	if (size == 0) {
		*ret = (struct evfs_manifest){ 0 };
		return 0;
	}
	entry = evfs_calloc(1, sizeof(*entry));
	if (!entry)
		return evfs_err_set(err, EVFS_ENOMEM, "manifest: no memory");
	*entry = (struct evfs_manifest_entry){ *name, (uint32_t)size, 1 };
	*ret = (struct evfs_manifest){ entry, 1, size };
	return 0;
}

int evfs_manifest_decode(const void *data, size_t len, const evfs_hash *name,
			 uint64_t size, struct evfs_manifest *ret,
			 struct evfs_err *err)
{
	struct evfs_manifest manifest = { 0 };
	size_t n = len / EVFS_MANIFEST_ENTRY_SIZE;
	evfs_hash hash;
	int r;

	if (len == 0)
		return decode_none(name, size, ret, err);
	if (len % EVFS_MANIFEST_ENTRY_SIZE != 0)
		return evfs_err_set(err, EVFS_ECORRUPT,
				    "manifest: %zu bytes: cut off", len);
	if (size > EVFS_FILE_SIZE_MAX)
		return evfs_err_set(err, EVFS_ECORRUPT,
				    "manifest: size beyond the limit");
	hash = evfs_hash_bytes(data, len);
	if (!evfs_hash_equal(&hash, name))
		return evfs_err_set(err, EVFS_ECORRUPT,
				    "manifest: does not match its name");
	manifest.entries = evfs_calloc(n, sizeof(*manifest.entries));
	if (!manifest.entries)
		return evfs_err_set(err, EVFS_ENOMEM, "manifest: no memory");
	r = decode_entries(data, n, size, &manifest, err);
	if (r < 0) {
		evfs_manifest_fini(&manifest);
		return r;
	}
	*ret = manifest;
	return 0;
}

int evfs_manifest_encode(const struct evfs_manifest *manifest,
			 struct evfs_buf *out)
{
	size_t len = manifest->n * EVFS_MANIFEST_ENTRY_SIZE;
	uint8_t *at;

	if (manifest->n == 0 || is_single(manifest))
		return 0;
	at = evfs_buf_reserve(out, len);
	if (!at)
		return EVFS_ENOMEM;
	for (size_t i = 0; i < manifest->n; i++) {
		const struct evfs_manifest_entry *entry =
			&manifest->entries[i];

		memcpy(at, entry->chunk.b, EVFS_HASH_SIZE);
		evfs_be32_write(at + 32, entry->len);
		evfs_be32_write(at + 36, entry->repeat);
		at += EVFS_MANIFEST_ENTRY_SIZE;
	}
	out->len += len;
	return 0;
}

int evfs_manifest_name(const struct evfs_manifest *manifest, evfs_hash *ret)
{
	struct evfs_buf buf = { 0 };

	if (manifest->n == 0) {
		*ret = EVFS_CONTENT_EMPTY;
		return 0;
	}
	if (is_single(manifest)) {
		*ret = manifest->entries[0].chunk;
		return 0;
	}
	if (evfs_manifest_encode(manifest, &buf) < 0)
		return EVFS_ENOMEM;
	*ret = evfs_hash_bytes(buf.data, buf.len);
	evfs_buf_fini(&buf);
	return 0;
}

int evfs_manifest_add(struct evfs_manifest *manifest, size_t *cap,
		      const evfs_hash *chunk, uint32_t len, uint32_t repeat)
{
	struct evfs_manifest_entry *last =
		manifest->n ? &manifest->entries[manifest->n - 1] : NULL;
	void *items = manifest->entries;

	assert(len > 0 && repeat > 0);
	manifest->size += (uint64_t)len * repeat;
	if (last && len == EVFS_CHUNK_MAX &&
	    evfs_content_is_zero_chunk(chunk) &&
	    evfs_hash_equal(&last->chunk, chunk)) {
		assert(last->repeat <= UINT32_MAX - repeat);
		last->repeat += repeat;
		return 0;
	}
	if (evfs_grow(&items, manifest->n, cap, sizeof(*last)) < 0)
		return EVFS_ENOMEM;
	manifest->entries = items;
	manifest->entries[manifest->n++] =
		(struct evfs_manifest_entry){ *chunk, len, repeat };
	return 0;
}
