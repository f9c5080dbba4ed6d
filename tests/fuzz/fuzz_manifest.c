/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Manifests from anywhere, under their right name: never a crash; and one that
 * is accepted is the only encoding of what it says. The first 8 bytes are the
 * size of the content. */
#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "meta/content.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct evfs_manifest manifest;
	struct evfs_buf again = { 0 };
	evfs_hash name, other;
	uint64_t bytes, sum = 0;

	if (size < 8)
		return 0;
	bytes = evfs_be64_read(data);
	data += 8;
	size -= 8;
	name = size ? evfs_hash_bytes(data, size) : (evfs_hash){ { 1 } };
	if (evfs_manifest_decode(data, size, &name, bytes, &manifest, NULL) <
	    0)
		return 0;
	assert(manifest.size == bytes && bytes <= EVFS_FILE_SIZE_MAX);
	for (size_t i = 0; i < manifest.n; i++)
		sum += (uint64_t)manifest.entries[i].len *
		       manifest.entries[i].repeat;
	assert(sum == bytes);
	if (evfs_manifest_encode(&manifest, &again) < 0 ||
	    evfs_manifest_name(&manifest, &other) < 0)
		goto out;
	assert(again.len == size);
	assert(size == 0 || memcmp(again.data, data, size) == 0);
	assert(evfs_hash_equal(&name, &other));
out:
	evfs_buf_fini(&again);
	evfs_manifest_fini(&manifest);
	return 0;
}
