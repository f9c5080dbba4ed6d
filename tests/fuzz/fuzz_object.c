/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Fuzzes evfs_object_decode(): whatever is accepted keeps all rules, survives
 * a round trip and a copy, and joined with itself is itself. */
#include <stdlib.h>

#include "meta/merge.h"
#include "meta/object.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void require(int truth)
{
	if (!truth)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct evfs_object *object, *back, *copy, *joined;
	struct evfs_context context = { 0 };
	struct evfs_buf buf = { 0 };
	struct evfs_err err;
	evfs_hash hash, other;

	if (evfs_object_decode(data, len, &object, &err) != 0)
		return 0;
	require(evfs_object_check(object, &err) == 0);
	require(evfs_object_encode(object, &buf) == 0);
	require(evfs_object_decode(buf.data, buf.len, &back, &err) == 0);
	require(evfs_object_equal(object, back));
	require(evfs_object_live_hash(object, &hash) == 0);
	require(evfs_object_live_hash(back, &other) == 0);
	require(evfs_hash_equal(&hash, &other));
	copy = evfs_object_copy(object);
	require(copy != NULL && evfs_object_equal(object, copy));
	require(evfs_merge(object, &context, copy, &context, &joined, &err) ==
		0);
	require(evfs_object_equal(object, joined));
	evfs_buf_fini(&buf);
	evfs_object_free(object);
	evfs_object_free(back);
	evfs_object_free(copy);
	evfs_object_free(joined);
	return 0;
}
