/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Hashes against values from elsewhere, and their arithmetic. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"

static void check_hex(const evfs_hash *hash, const char *hex)
{
	char text[EVFS_HASH_HEX_SIZE];

	evfs_hash_format(hash, text);
	ck_assert_str_eq(text, hex);
}

/* From Python's hashlib (blake2b, digest_size 32) and from libb2's blake2bp()
 * of the bytes 0, 1, ..., 255, 0, ... */
START_TEST(known_values)
{
	static const struct {
		size_t len;
		const char *bytes, *content;
	} rows[] = {
		{ 0,
		  "0e5751c026e543b2e8ab2eb06099daa1"
		  "d1e5df47778f7787faab45cdf12fe3a8",
		  "e3f5e2e3c4336e2b8eec91ecb154e40c"
		  "8b1fa34091b286bca5b67d5a7f87ff98" },
		{ 3,
		  "3d8c3d594928271f44aad7a04b177154"
		  "806867bcf918e1549c0bc16f9da2b09b",
		  "e48cb575859ace6151de7e30123f8764"
		  "bbf34c521fc6accd6df10f91508a1e7c" },
		{ 511,
		  "3b174a60f0012c255e694bbb3a1ce32f"
		  "89d858b1cc87777feb540be3c9718393",
		  "cb8d4a8db7637d6c3a681601f34a7eb7"
		  "8d11f285aeec8c076404562b893aef45" },
		{ 512,
		  "540b20132d8aeae54057cb69c24f95d2"
		  "6a1c472cc700dd450defe9bb796d4f14",
		  "6b31248db30643a8f2c05964b053e7d8"
		  "f410c7d587939834692581e6e920e188" },
		{ 513,
		  "cca627ef8aaaaf62f9a3fb804d08a203"
		  "dbe36c060775aa2e9ca0f83e105a2894",
		  "41276f5bd7b216eafe1d15a875e51a94"
		  "d1d7ce279fc5e62870b8c05438477b52" },
		{ 1000,
		  "c636324d47d89f2b2434dc2c99410066"
		  "3fbbaea880ff020fc5de89dd0f77a1ec",
		  "9489e7b7d8f63097f1a00b06d1f2b02d"
		  "296c510b5cac468d1ee57370619be850" },
		{ 5000,
		  "f3a3f41fa0fb9303d7f1b7d14a4941a8"
		  "d8ac76603c3ee3b9ee8d904f9dc4ce25",
		  "4cf19b74130292fc298ec8febd286920"
		  "267b2699f483218f0f6db446015b9730" },
		{ 1023,
		  "4cd9948ace2949f8ca457482230c28f3"
		  "529d3ce3ed144d3d107dbf934ff2dbb5",
		  "8a0af6091833a6b8a3f88166f007f15a"
		  "cdbc05849c509127a65d2ed71e3780a9" },
		{ 1024,
		  "f1551feeb252c7e60bb362205bd1ac2f"
		  "70b145260a91d41e8c5d0a187549a5f2",
		  "3c32da6f703865a77a5c15f160aaf631"
		  "b6c3830340a6e7800e66c68b3229f74a" },
		{ 1025,
		  "1483c7c7d406e2c43b3feb32af98d9bb"
		  "401b2d67b219f07fb90d4c6fc6051853",
		  "c0f9c6001d721e2022bc0add27add0ee"
		  "29acccdf193418bda209418b1189bd3f" },
		{ 65613,
		  "b8312dcd013a316b2b0091fba675a071"
		  "e2b85036ba3b2e6029bc04178bfdf55d",
		  "8b0b2e24e83a0be824b0c28ad591dfa8"
		  "ff7045db9ff03debb2c3704df1830944" },
	};
	static uint8_t data[65613];

	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)i;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		evfs_hash hash = evfs_hash_bytes(data, rows[i].len);

		check_hex(&hash, rows[i].bytes);
		hash = evfs_hash_content(data, rows[i].len);
		check_hex(&hash, rows[i].content);
	}
}
END_TEST

START_TEST(nothing_may_be_null)
{
	evfs_hash a = evfs_hash_bytes(NULL, 0), b = evfs_hash_bytes("", 0);

	ck_assert(evfs_hash_equal(&a, &b));
	a = evfs_hash_content(NULL, 0);
	b = evfs_hash_content("", 0);
	ck_assert(evfs_hash_equal(&a, &b));
}
END_TEST

START_TEST(text_and_back)
{
	evfs_hash hash = evfs_hash_bytes("abc", 3), back, kept = hash;
	char text[EVFS_HASH_HEX_SIZE + 1] = { 0 };

	evfs_hash_format(&hash, text);
	ck_assert(evfs_hash_parse(text, &back));
	ck_assert(evfs_hash_equal(&hash, &back));
	text[64] = '0';
	ck_assert(!evfs_hash_parse(text, &kept));
	text[63] = '\0';
	ck_assert(!evfs_hash_parse(text, &kept));
	ck_assert(!evfs_hash_parse("", &kept));
	evfs_hash_format(&hash, text);
	text[10] = 'g';
	ck_assert(!evfs_hash_parse(text, &kept));
	ck_assert(evfs_hash_equal(&hash, &kept));
}
END_TEST

START_TEST(sums_carry_through)
{
	evfs_hash sum, one = { { 0 } }, zero = { { 0 } };

	one.b[31] = 1;
	memset(sum.b, 0xff, sizeof(sum.b));
	evfs_hash_add(&sum, &one);
	ck_assert(evfs_hash_is_zero(&sum));
	evfs_hash_sub(&sum, &one);
	for (size_t i = 0; i < sizeof(sum.b); i++)
		ck_assert_uint_eq(sum.b[i], 0xff);
	ck_assert(!evfs_hash_is_zero(&sum));
	ck_assert(evfs_hash_is_zero(&zero));
	/* A carry out of a word whose sum with the carry wraps. */
	sum = zero;
	memset(sum.b + 16, 0xff, 16);
	one = zero;
	memset(one.b + 16, 0xff, 8);
	one.b[31] = 1;
	evfs_hash_add(&sum, &one);
	check_hex(&sum, "00000000000000000000000000000001"
			"ffffffffffffffff0000000000000000");
}
END_TEST

START_TEST(sums_are_a_group)
{
	evfs_hash forth = { { 0 } }, back = { { 0 } };

	for (uint32_t i = 0; i < 500; i++) {
		evfs_hash a = evfs_hash_bytes(&i, sizeof(i));
		uint32_t k = 499 - i;
		evfs_hash b = evfs_hash_bytes(&k, sizeof(k));

		evfs_hash_add(&forth, &a);
		evfs_hash_add(&back, &b);
	}
	ck_assert(evfs_hash_equal(&forth, &back));
	for (uint32_t i = 0; i < 500; i++) {
		evfs_hash a = evfs_hash_bytes(&i, sizeof(i));

		evfs_hash_sub(&forth, &a);
	}
	ck_assert(evfs_hash_is_zero(&forth));
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("hash");
	TCase *tcase = tcase_create("hash");
	SRunner *runner = srunner_create(suite);
	int failed;

	suite_add_tcase(suite, tcase);
	tcase_add_test(tcase, known_values);
	tcase_add_test(tcase, nothing_may_be_null);
	tcase_add_test(tcase, text_and_back);
	tcase_add_test(tcase, sums_carry_through);
	tcase_add_test(tcase, sums_are_a_group);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
