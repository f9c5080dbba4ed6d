/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Cut points are part of the format: frozen here. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "meta/chunker.h"
#include "meta/content_priv.h"
#include "tests/unit/content_world.h"

#define STREAM (8u << 20)

START_TEST(golden_boundaries)
{
	/* Lengths of the chunks of world_bytes(8 MiB, 1). */
	static const uint32_t golden[] = {
		232504, 58392, 133590, 80793, 138996, 152061, 170600,
		180757, 176214, 139449, 195665, 162159, 198176, 170809,
		68719, 139788, 150555, 234153, 87807, 168036, 80538,
		96398, 154030, 141860, 134230, 57498, 147316, 160306,
		136245, 162260, 131761, 202754, 153515, 132682, 177151,
		132876, 49515, 134746, 132175, 158084, 138989, 153177,
		157388, 203139, 131783, 71289, 141431, 142010, 45788,
		134074, 208805, 162989, 138631, 179702, 144992, 156545,
		132293, 137653, 92767,
	};
	uint8_t *data = world_bytes(STREAM, 1);
	size_t at = 0, n = 0;

	while (at < STREAM) {
		size_t cut = evfs_chunker_cut(data + at, STREAM - at);

		ck_assert_uint_lt(n, sizeof(golden) / sizeof(golden[0]));
		ck_assert_uint_eq(cut, golden[n]);
		at += cut;
		n++;
	}
	ck_assert_uint_eq(n, sizeof(golden) / sizeof(golden[0]));
	free(data);
}
END_TEST

START_TEST(sizes_are_in_bounds)
{
	size_t len = 64u << 20, at = 0, n = 0;
	uint8_t *data = world_bytes(len, 2);

	while (at < len) {
		size_t cut = evfs_chunker_cut(data + at, len - at);

		if (at + cut < len) {
			ck_assert_uint_gt(cut, EVFS_CHUNK_MIN);
			ck_assert_uint_le(cut, EVFS_CHUNK_MAX);
		}
		at += cut;
		n++;
	}
	ck_assert_uint_eq(at, len);
	/* 128 KiB on average, more or less. */
	ck_assert_uint_gt(n, len / (200u << 10));
	ck_assert_uint_lt(n, len / (90u << 10));
	free(data);
}
END_TEST

START_TEST(zeros_are_never_cut)
{
	uint8_t *data = calloc(1, 3 * EVFS_CHUNK_MAX);
	const uint8_t *zeros = data + EVFS_CHUNK_MAX;

	for (size_t len = 1; len <= 2 * EVFS_CHUNK_MAX; len += 4099)
		ck_assert_uint_eq(evfs_chunker_cut(zeros, len),
				  len < EVFS_CHUNK_MAX ? len : EVFS_CHUNK_MAX);
	/* Nor is a chunk that begins with data and goes on with zeros cut more
	 * than a window behind the data. */
	for (uint64_t seed = 0; seed < 200; seed++) {
		size_t head = EVFS_CHUNK_MIN + 100 * seed, cut;

		world_fill(data, head, seed);
		memset(data + head, 0, EVFS_CHUNK_MAX);
		cut = evfs_chunker_cut(data, 2 * EVFS_CHUNK_MAX);
		ck_assert(cut <= head + 64 || cut == EVFS_CHUNK_MAX);
	}
	free(data);
}
END_TEST

START_TEST(short_content_is_one_chunk)
{
	uint8_t *data = world_bytes(EVFS_CHUNK_MIN, 3);

	for (size_t len = 1; len <= EVFS_CHUNK_MIN; len += 1023)
		ck_assert_uint_eq(evfs_chunker_cut(data, len), len);
	ck_assert_uint_eq(evfs_chunker_cut(data, EVFS_CHUNK_MIN),
			  EVFS_CHUNK_MIN);
	free(data);
}
END_TEST

/* Bytes behind a cut have no say in it. */
START_TEST(cut_depends_on_its_chunk_only)
{
	uint8_t *data = world_bytes(2 * EVFS_CHUNK_MAX, 4);

	for (uint64_t seed = 10; seed < 40; seed++) {
		size_t cut;

		world_fill(data, EVFS_CHUNK_MAX, seed);
		cut = evfs_chunker_cut(data, 2 * EVFS_CHUNK_MAX);
		ck_assert_uint_eq(evfs_chunker_cut(data, cut), cut);
		world_fill(data + cut, EVFS_CHUNK_MAX, seed + 1000);
		ck_assert_uint_eq(evfs_chunker_cut(data, 2 * EVFS_CHUNK_MAX),
				  cut);
	}
	free(data);
}
END_TEST

START_TEST(zero_chunk_is_frozen)
{
	char text[EVFS_HASH_HEX_SIZE];

	evfs_hash_format(evfs_content_zero_chunk(), text);
	ck_assert_str_eq(text, "ff526374f94ea0fe60cb6542c4154a3a"
				 "757db5c76062e991a19d9ec8d30bc11c");
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("chunker");
	TCase *tcase = tcase_create("chunker");
	SRunner *runner;
	int failed;

	tcase_add_test(tcase, golden_boundaries);
	tcase_add_test(tcase, sizes_are_in_bounds);
	tcase_add_test(tcase, zeros_are_never_cut);
	tcase_add_test(tcase, short_content_is_one_chunk);
	tcase_add_test(tcase, cut_depends_on_its_chunk_only);
	tcase_add_test(tcase, zero_chunk_is_frozen);
	suite_add_tcase(suite, tcase);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
