/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The manifest codec: one encoding for one content, everything else refused. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "meta/content_priv.h"
#include "tests/unit/content_world.h"

static struct evfs_err err;

/* Entries by hand: h < 0 is the zero chunk. */
struct line {
	int h;
	uint32_t len, repeat;
};

static struct evfs_buf encode(const struct line *lines, size_t n)
{
	struct evfs_buf buf = { 0 };

	for (size_t i = 0; i < n; i++) {
		evfs_hash hash = { { 0 } };

		if (lines[i].h < 0)
			hash = *evfs_content_zero_chunk();
		else
			memset(hash.b, lines[i].h, sizeof(hash.b));
		ck_assert_int_eq(evfs_buf_put(&buf, hash.b, 32), 0);
		ck_assert_int_eq(evfs_buf_put_be32(&buf, lines[i].len), 0);
		ck_assert_int_eq(evfs_buf_put_be32(&buf, lines[i].repeat), 0);
	}
	return buf;
}

/* Decodes under its right name; frees the bytes. */
static int decode(struct evfs_buf buf, uint64_t size,
		  struct evfs_manifest *ret)
{
	evfs_hash name = evfs_hash_bytes(buf.data, buf.len);
	int r;

	err.msg[0] = '\0';
	r = evfs_manifest_decode(buf.data, buf.len, &name, size, ret, &err);
	evfs_buf_fini(&buf);
	return r;
}

#define MAX EVFS_CHUNK_MAX
#define MIN EVFS_CHUNK_MIN

START_TEST(good_ones)
{
	static const struct {
		struct line lines[4];
		size_t n;
		uint64_t size;
	} rows[] = {
		{ { { 1, MIN, 1 }, { 2, 1, 1 } }, 2, MIN + 1 },
		{ { { 1, MAX, 1 }, { 1, MAX, 1 } }, 2, 2 * MAX },
		{ { { -1, MAX, 2 } }, 1, 2 * MAX },
		{ { { -1, MAX, 1 }, { 3, 7, 1 } }, 2, MAX + 7 },
		{ { { 1, MAX, 1 }, { -1, MAX, 9 }, { 3, 7, 1 } },
		  3,
		  10 * (uint64_t)MAX + 7 },
		{ { { -1, MAX, 1u << 31 } }, 1, (uint64_t)MAX << 31 },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct evfs_buf buf = encode(rows[i].lines, rows[i].n);
		struct evfs_buf again = { 0 };
		struct evfs_manifest manifest;
		evfs_hash name = evfs_hash_bytes(buf.data, buf.len), got;

		ck_assert_msg(evfs_manifest_decode(buf.data, buf.len, &name,
						   rows[i].size, &manifest,
						   &err) == 0,
			      "%zu: %s", i, err.msg);
		ck_assert_uint_eq(manifest.n, rows[i].n);
		ck_assert_uint_eq(manifest.size, rows[i].size);
		ck_assert_int_eq(evfs_manifest_encode(&manifest, &again), 0);
		ck_assert_uint_eq(again.len, buf.len);
		ck_assert(memcmp(again.data, buf.data, buf.len) == 0);
		ck_assert_int_eq(evfs_manifest_name(&manifest, &got), 0);
		ck_assert(evfs_hash_equal(&got, &name));
		evfs_manifest_fini(&manifest);
		evfs_buf_fini(&again);
		evfs_buf_fini(&buf);
	}
}
END_TEST

START_TEST(bad_ones)
{
	static const struct {
		struct line lines[4];
		size_t n;
		uint64_t size;
		const char *why;
	} rows[] = {
		{ { { 1, MIN, 1 }, { 2, 0, 1 } }, 2, MIN, "out of range" },
		{ { { 1, MAX + 1, 1 }, { 2, 5, 1 } }, 2, MAX + 6,
		  "out of range" },
		{ { { 1, UINT32_MAX, 1 }, { 2, 5, 1 } }, 2, MAX + 6,
		  "out of range" },
		{ { { 1, MIN - 1, 1 }, { 2, 5, 1 } }, 2, MIN + 4,
		  "short chunk" },
		{ { { 1, MIN, 0 }, { 2, 5, 1 } }, 2, 5, "repeat of 0" },
		{ { { 1, MIN, 2 }, { 2, 5, 1 } }, 2, 2 * MIN + 5,
		  "not zero" },
		{ { { 1, MAX, 2 } }, 1, 2 * MAX, "not zero" },
		{ { { -1, MAX - 1, 1 }, { 2, 5, 1 } }, 2, MAX + 4,
		  "wrong length" },
		{ { { -1, MAX, 1 }, { -1, MAX, 1 } }, 2, 2 * MAX,
		  "two entries" },
		{ { { 1, MIN, 1 } }, 1, MIN, "one chunk only" },
		{ { { -1, MAX, 1 } }, 1, MAX, "one chunk only" },
		{ { { 1, MIN, 1 }, { 2, 5, 1 } }, 2, MIN + 6, "shorter" },
		{ { { 1, MIN, 1 }, { 2, 5, 1 } }, 2, MIN + 4, "longer" },
		{ { { 1, MIN, 1 }, { 2, 5, 1 } }, 2, 0, "longer" },
		{ { { -1, MAX, UINT32_MAX }, { 1, MIN, 1 } }, 2,
		  UINT64_MAX, "beyond the limit" },
		{ { { -1, MAX, UINT32_MAX } }, 1, (uint64_t)1 << 50,
		  "longer" },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct evfs_manifest manifest = { 0 };

		ck_assert_int_eq(decode(encode(rows[i].lines, rows[i].n),
					rows[i].size, &manifest),
				 EVFS_ECORRUPT);
		ck_assert_msg(strstr(err.msg, rows[i].why) != NULL,
			      "%zu: \"%s\" is not about \"%s\"", i, err.msg,
			      rows[i].why);
		ck_assert_ptr_null(manifest.entries);
	}
}
END_TEST

START_TEST(cut_or_renamed)
{
	static const struct line lines[] = { { 1, MIN, 1 }, { 2, 5, 1 } };
	struct evfs_buf buf = encode(lines, 2);
	evfs_hash name = evfs_hash_bytes(buf.data, buf.len);
	struct evfs_manifest manifest;

	for (size_t len = 0; len < buf.len; len++) {
		evfs_hash cut = evfs_hash_bytes(buf.data, len);

		ck_assert_int_eq(evfs_manifest_decode(buf.data, len, &cut,
						      MIN + 5, &manifest,
						      NULL),
				 len == 0 ? 0 : EVFS_ECORRUPT);
		if (len == 0)
			evfs_manifest_fini(&manifest);
	}
	for (size_t bit = 0; bit < 8 * buf.len; bit++) {
		buf.data[bit / 8] ^= (uint8_t)(1u << (bit % 8));
		ck_assert_int_eq(evfs_manifest_decode(buf.data, buf.len, &name,
						      MIN + 5, &manifest,
						      NULL),
				 EVFS_ECORRUPT);
		buf.data[bit / 8] ^= (uint8_t)(1u << (bit % 8));
	}
	evfs_buf_fini(&buf);
}
END_TEST

START_TEST(one_chunk_and_none)
{
	evfs_hash name = { { 9 } }, got;
	struct evfs_manifest manifest;
	struct evfs_buf out = { 0 };

	ck_assert_int_eq(evfs_manifest_decode("", 0, &name, 77, &manifest,
					      NULL), 0);
	ck_assert_uint_eq(manifest.n, 1);
	ck_assert_uint_eq(manifest.entries[0].len, 77);
	ck_assert_int_eq(evfs_manifest_name(&manifest, &got), 0);
	ck_assert(evfs_hash_equal(&got, &name));
	ck_assert_int_eq(evfs_manifest_encode(&manifest, &out), 0);
	ck_assert_uint_eq(out.len, 0);
	evfs_manifest_fini(&manifest);
	ck_assert_int_eq(evfs_manifest_decode("", 0, &EVFS_CONTENT_EMPTY, 0,
					      &manifest, NULL), 0);
	ck_assert_uint_eq(manifest.n, 0);
	ck_assert_int_eq(evfs_manifest_name(&manifest, &got), 0);
	ck_assert(evfs_hash_is_zero(&got));
	evfs_manifest_fini(&manifest);
	/* Too long for one chunk; bytes without name; name without bytes. */
	ck_assert_int_eq(evfs_manifest_decode("", 0, &name, MAX + 1u,
					      &manifest, NULL), EVFS_ECORRUPT);
	ck_assert_int_eq(evfs_manifest_decode("", 0, &EVFS_CONTENT_EMPTY, 1,
					      &manifest, NULL), EVFS_ECORRUPT);
	ck_assert_int_eq(evfs_manifest_decode("", 0, &name, 0, &manifest,
					      NULL), EVFS_ECORRUPT);
}
END_TEST

START_TEST(zero_runs_are_joined)
{
	struct evfs_manifest manifest = { 0 };
	const evfs_hash *zero = evfs_content_zero_chunk();
	evfs_hash other = { { 1 } };
	size_t cap = 0;

	ck_assert_int_eq(evfs_manifest_add(&manifest, &cap, zero, MAX, 1), 0);
	ck_assert_int_eq(evfs_manifest_add(&manifest, &cap, zero, MAX, 4), 0);
	ck_assert_int_eq(evfs_manifest_add(&manifest, &cap, &other, 9, 1), 0);
	ck_assert_int_eq(evfs_manifest_add(&manifest, &cap, &other, 9, 1), 0);
	ck_assert_uint_eq(manifest.n, 3);
	ck_assert_uint_eq(manifest.entries[0].repeat, 5);
	ck_assert_uint_eq(manifest.size, 5 * (uint64_t)MAX + 18);
	evfs_manifest_fini(&manifest);
}
END_TEST

/* Keys that come and go, against a plain list. */
START_TEST(hashmap_keeps_what_it_is_told)
{
	enum { KEYS = 300 };
	static evfs_hash keys[KEYS];
	uint64_t values[KEYS] = { 0 }, seed = 5;
	struct evfs_hashmap map = { 0 };

	for (size_t i = 0; i < KEYS; i++) {
		world_fill(keys[i].b, 32, i);
		keys[i].b[0] &= 15; /* long runs of neighbours */
		memset(keys[i].b + 1, 0, 7);
	}
	for (int step = 0; step < 50000; step++) {
		size_t i = world_random(&seed) % KEYS;
		uint64_t *value;

		if (world_random(&seed) % 2) {
			value = evfs_hashmap_put(&map, &keys[i]);
			ck_assert_uint_eq(*value, values[i]);
			*value = values[i] = (uint64_t)step + 1;
		} else {
			evfs_hashmap_remove(&map, &keys[i]);
			values[i] = 0;
		}
		i = world_random(&seed) % KEYS;
		value = evfs_hashmap_get(&map, &keys[i]);
		ck_assert_uint_eq(value ? *value : 0, values[i]);
	}
	evfs_hashmap_fini(&map);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("manifest");
	TCase *tcase = tcase_create("manifest");
	SRunner *runner;
	int failed;

	tcase_add_test(tcase, good_ones);
	tcase_add_test(tcase, bad_ones);
	tcase_add_test(tcase, cut_or_renamed);
	tcase_add_test(tcase, one_chunk_and_none);
	tcase_add_test(tcase, zero_runs_are_joined);
	tcase_add_test(tcase, hashmap_keeps_what_it_is_told);
	suite_add_tcase(suite, tcase);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
