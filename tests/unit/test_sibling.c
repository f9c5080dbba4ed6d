/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Names of siblings, against names made with model/view.py (its sibling_name,
 * with the digest of meta/sibling.c in place of its own). A long name is given
 * by a piece that repeats, and compared by length and hash. */
#include <check.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "meta/view.h"

static const struct {
	const char *piece; /* the plain name: this, */
	int times;         /* so often, */
	const char *end;   /* and this */
	const char *node;  /* of the node name: a piece, */
	int node_times;    /* so often */
	int digits;
	bool salt;
	size_t len;        /* of what must come out */
	const char *hash;  /* first digits of its BLAKE2b-256 */
} golden[] = {
	{ "f", 1, "", "A", 1, 8, false, 21, "180d775e712e5bf7" },
	{ "f", 1, "", "A", 1, 16, false, 29, "d241ebdce2fc2d28" },
	{ "f", 1, "", "A", 1, 32, false, 45, "d369f2a292be1f1d" },
	{ "f", 1, "", "A", 1, 32, true, 45, "83ef1dbb5a7d6348" },
	{ "f", 1, "", "n", 70, 8, false, 84, "32b11fbb4a29ab84" },
	{ "f", 1, "", "\303\251", 40, 8, false, 84, "49e3eb32a1a1d0de" },
	{ "f.txt", 1, "", "A", 1, 8, false, 25, "c583f79afb4c0f2d" },
	{ "f.txt", 1, "", "A", 1, 16, false, 33, "03bb978fcb21b3b9" },
	{ "f.txt", 1, "", "A", 1, 32, false, 49, "cd8cf770d29af5dc" },
	{ "f.txt", 1, "", "A", 1, 32, true, 49, "17e41b203d46739b" },
	{ "f.txt", 1, "", "n", 70, 8, false, 88, "44beb97efe862410" },
	{ "f.txt", 1, "", "\303\251", 40, 8, false, 88, "d9e10175235d978c" },
	{ ".bashrc", 1, "", "A", 1, 8, false, 27, "6e824007aa25cc3e" },
	{ ".bashrc", 1, "", "A", 1, 16, false, 35, "0af5c3dc5d50b8f6" },
	{ ".bashrc", 1, "", "A", 1, 32, false, 51, "3ebfa7f5073be84c" },
	{ ".bashrc", 1, "", "A", 1, 32, true, 51, "b786ddfc2cb480c3" },
	{ ".bashrc", 1, "", "n", 70, 8, false, 90, "007213569d6d38fa" },
	{ ".bashrc", 1, "", "\303\251", 40, 8, false, 90, "1cb08cbb4ff46250" },
	{ ".bashrc.bak", 1, "", "A", 1, 8, false, 31, "f2835335167f7f44" },
	{ ".bashrc.bak", 1, "", "A", 1, 16, false, 39, "f30ef6b644e8400b" },
	{ ".bashrc.bak", 1, "", "A", 1, 32, false, 55, "5e19078ca3ba1a64" },
	{ ".bashrc.bak", 1, "", "A", 1, 32, true, 55, "ed3fc6468035845b" },
	{ ".bashrc.bak", 1, "", "n", 70, 8, false, 94, "7b948e15970e62ba" },
	{ ".bashrc.bak", 1, "", "\303\251", 40, 8, false, 94,
	  "2daced9a2efb20c4" },
	{ "a.tar.gz", 1, "", "A", 1, 8, false, 28, "81a1351991335748" },
	{ "a.tar.gz", 1, "", "A", 1, 16, false, 36, "3ce9f1cf245dff20" },
	{ "a.tar.gz", 1, "", "A", 1, 32, false, 52, "a81d4d1ccda05a4b" },
	{ "a.tar.gz", 1, "", "A", 1, 32, true, 52, "364d703670141fdf" },
	{ "a.tar.gz", 1, "", "n", 70, 8, false, 91, "a044393d011b03c4" },
	{ "a.tar.gz", 1, "", "\303\251", 40, 8, false, 91, "e8f65cc722478a23" },
	{ ".tar.gz", 1, "", "A", 1, 8, false, 27, "757dfab0385621ff" },
	{ ".tar.gz", 1, "", "A", 1, 16, false, 35, "5610c4f24786dad1" },
	{ ".tar.gz", 1, "", "A", 1, 32, false, 51, "9b0500108a015466" },
	{ ".tar.gz", 1, "", "A", 1, 32, true, 51, "3b4f471e33a372fa" },
	{ ".tar.gz", 1, "", "n", 70, 8, false, 90, "9e27617998e86369" },
	{ ".tar.gz", 1, "", "\303\251", 40, 8, false, 90, "195fd0412f8762af" },
	{ "..tar.gz", 1, "", "A", 1, 8, false, 28, "b72fd7fb9afff6a3" },
	{ "..tar.gz", 1, "", "A", 1, 16, false, 36, "e4deb6c4cab3ad3e" },
	{ "..tar.gz", 1, "", "A", 1, 32, false, 52, "7f2582fa5b653a59" },
	{ "..tar.gz", 1, "", "A", 1, 32, true, 52, "2bdb6516c2feff60" },
	{ "..tar.gz", 1, "", "n", 70, 8, false, 91, "bc14f027f05b4661" },
	{ "..tar.gz", 1, "", "\303\251", 40, 8, false, 91, "e451912ac85b3f3f" },
	{ "x.", 1, "", "A", 1, 8, false, 22, "26b839477debb7a5" },
	{ "x.", 1, "", "A", 1, 16, false, 30, "ec2b998939660a1f" },
	{ "x.", 1, "", "A", 1, 32, false, 46, "79022fa8e50c5a85" },
	{ "x.", 1, "", "A", 1, 32, true, 46, "f698680a8b64ae7c" },
	{ "x.", 1, "", "n", 70, 8, false, 85, "9fbe03d3c5fffec1" },
	{ "x.", 1, "", "\303\251", 40, 8, false, 85, "7c921959362dc391" },
	{ "..x", 1, "", "A", 1, 8, false, 23, "f121d23d3a4dc0b5" },
	{ "..x", 1, "", "A", 1, 16, false, 31, "b44a758648d3e69a" },
	{ "..x", 1, "", "A", 1, 32, false, 47, "354a75d941678994" },
	{ "..x", 1, "", "A", 1, 32, true, 47, "ab3e70d31994c75f" },
	{ "..x", 1, "", "n", 70, 8, false, 86, "004d9ca6edbecacd" },
	{ "..x", 1, "", "\303\251", 40, 8, false, 86, "810b98cd96a35c08" },
	{ "a.b.c", 1, "", "A", 1, 8, false, 25, "a988f19ce1e6ad1b" },
	{ "a.b.c", 1, "", "A", 1, 16, false, 33, "008179fc140c56e8" },
	{ "a.b.c", 1, "", "A", 1, 32, false, 49, "2903416152fcf5dc" },
	{ "a.b.c", 1, "", "A", 1, 32, true, 49, "5ff0cef811a99a8d" },
	{ "a.b.c", 1, "", "n", 70, 8, false, 88, "a30ceb55dd0c79f3" },
	{ "a.b.c", 1, "", "\303\251", 40, 8, false, 88, "0b884d56b7ae8fe1" },
	{ "a.tar.", 1, "", "A", 1, 8, false, 26, "542d4c0e1d7bc8ce" },
	{ "a.tar.", 1, "", "A", 1, 16, false, 34, "34e102f2629372dc" },
	{ "a.tar.", 1, "", "A", 1, 32, false, 50, "6cf5ff7f7befe10a" },
	{ "a.tar.", 1, "", "A", 1, 32, true, 50, "9e1447a5982b837c" },
	{ "a.tar.", 1, "", "n", 70, 8, false, 89, "f6763f78552ce561" },
	{ "a.tar.", 1, "", "\303\251", 40, 8, false, 89, "f1db15bbdaccdedd" },
	{ "...", 1, "", "A", 1, 8, false, 23, "ecfbf988f6a9dfc7" },
	{ "...", 1, "", "A", 1, 16, false, 31, "f3c4bce3a23c7b72" },
	{ "...", 1, "", "A", 1, 32, false, 47, "2502f4b0b7c7efc2" },
	{ "...", 1, "", "A", 1, 32, true, 47, "d0cf493da49b5124" },
	{ "...", 1, "", "n", 70, 8, false, 86, "8ed0e32623e1f7d6" },
	{ "...", 1, "", "\303\251", 40, 8, false, 86, "13bad5fa519b31ee" },
	{ "a", 1, ".eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee", "A", 1, 8, false, 54,
	  "de5233517b67010f" },
	{ "a", 1, ".eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee", "A", 1, 16, false,
	  62, "879447a423a40fd5" },
	{ "a", 1, ".eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee", "A", 1, 32, false,
	  78, "82c539b7477e4d0f" },
	{ "a", 1, ".eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee", "A", 1, 32, true, 78,
	  "1ce09679c48cee39" },
	{ "a", 1, ".eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee", "n", 70, 8, false,
	  117, "42e88430c856068a" },
	{ "a", 1, ".eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee", "\303\251", 40, 8,
	  false, 117, "ef0c0783cca132ca" },
	{ "a", 1, ".eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee", "A", 1, 8, false,
	  55, "8d7a31a7e6426f7d" },
	{ "a", 1, ".eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee", "A", 1, 16, false,
	  63, "d07b5e9faed360ce" },
	{ "a", 1, ".eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee", "A", 1, 32, false,
	  79, "2d80ebe7b4ac8a23" },
	{ "a", 1, ".eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee", "A", 1, 32, true,
	  79, "b4953805b0e9bed8" },
	{ "a", 1, ".eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee", "n", 70, 8, false,
	  118, "aa382ab4d0c8290c" },
	{ "a", 1, ".eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee", "\303\251", 40, 8,
	  false, 118, "0ce6fd2bc78d2a26" },
	{ "n", 255, "", "A", 1, 8, false, 255, "12e23ef4828c9071" },
	{ "n", 255, "", "A", 1, 16, false, 255, "5c5c51b5738ab2d6" },
	{ "n", 255, "", "A", 1, 32, false, 255, "78d3f5298b95b4c8" },
	{ "n", 255, "", "A", 1, 32, true, 255, "f005f3cd1fc5767a" },
	{ "n", 255, "", "n", 70, 8, false, 255, "8be0a2eed7f5e0a7" },
	{ "n", 255, "", "\303\251", 40, 8, false, 255, "a86c70bf03405a96" },
	{ "n", 251, ".txt", "A", 1, 8, false, 255, "80a4c828404b85d2" },
	{ "n", 251, ".txt", "A", 1, 16, false, 255, "9eb17b7b01ca8dd5" },
	{ "n", 251, ".txt", "A", 1, 32, false, 255, "384b3df5868d2943" },
	{ "n", 251, ".txt", "A", 1, 32, true, 255, "d95cffdaea7e2ee5" },
	{ "n", 251, ".txt", "n", 70, 8, false, 255, "1e9378a61d3101ea" },
	{ "n", 251, ".txt", "\303\251", 40, 8, false, 255, "62b58e9d28465b97" },
	{ "\303\251", 127, "a", "A", 1, 8, false, 254, "d38ffd90c0e83cf3" },
	{ "\303\251", 127, "a", "A", 1, 16, false, 254, "aceec1b0d0e0cfec" },
	{ "\303\251", 127, "a", "A", 1, 32, false, 254, "bf75dfce6cc524f3" },
	{ "\303\251", 127, "a", "A", 1, 32, true, 254, "c6c08e98e447cdfa" },
	{ "\303\251", 127, "a", "n", 70, 8, false, 255, "088dc919816bf15f" },
	{ "\303\251", 127, "a", "\303\251", 40, 8, false, 255,
	  "313f569399909bca" },
	{ "\303\251", 126, ".gz", "A", 1, 8, false, 255, "ca0af0164e598375" },
	{ "\303\251", 126, ".gz", "A", 1, 16, false, 255, "cdc3b46ae487d3f5" },
	{ "\303\251", 126, ".gz", "A", 1, 32, false, 255, "e1d3ee3ca0c7ebf0" },
	{ "\303\251", 126, ".gz", "A", 1, 32, true, 255, "41c346e182796d5e" },
	{ "\303\251", 126, ".gz", "n", 70, 8, false, 254, "6a656b7b6f94848f" },
	{ "\303\251", 126, ".gz", "\303\251", 40, 8, false, 254,
	  "81d0be62a13199e4" },
	{ "m", 200, ".tar.gz", "A", 1, 8, false, 227, "e73134d096a69982" },
	{ "m", 200, ".tar.gz", "A", 1, 16, false, 235, "11c0ebe55f273b41" },
	{ "m", 200, ".tar.gz", "A", 1, 32, false, 251, "ce33ee7fe7c9f723" },
	{ "m", 200, ".tar.gz", "A", 1, 32, true, 251, "9e4f8de1ff49dc29" },
	{ "m", 200, ".tar.gz", "n", 70, 8, false, 255, "b888c6e8c97efe02" },
	{ "m", 200, ".tar.gz", "\303\251", 40, 8, false, 255,
	  "ee540e551751bcb0" },
	{ "\200", 255, "", "A", 1, 8, false, 20, "e9cc89360895c51a" },
	{ "\200", 255, "", "A", 1, 16, false, 28, "5f3d1a97b4047d48" },
	{ "\200", 255, "", "A", 1, 32, false, 44, "e549b389e76584eb" },
	{ "\200", 255, "", "A", 1, 32, true, 44, "f66b490945da1ab3" },
	{ "\200", 255, "", "n", 70, 8, false, 83, "733b8b4a2d780d59" },
	{ "\200", 255, "", "\303\251", 40, 8, false, 83, "0ac830504db9cb53" },
	{ "\342\202\254", 85, "", "A", 1, 8, false, 254, "a257e2e074159bad" },
	{ "\342\202\254", 85, "", "A", 1, 16, false, 253, "3cbffcbd95a0e378" },
	{ "\342\202\254", 85, "", "A", 1, 32, false, 254, "efa4388c7ca01edc" },
	{ "\342\202\254", 85, "", "A", 1, 32, true, 254, "a7be53b784029377" },
	{ "\342\202\254", 85, "", "n", 70, 8, false, 254, "a5054fb9de7aa5ab" },
	{ "\342\202\254", 85, "", "\303\251", 40, 8, false, 254,
	  "ff596171d9f46fa9" },
};

static void repeat(char *out, const char *piece, int times, const char *end)
{
	out[0] = '\0';
	for (int i = 0; i < times; i++)
		strcat(out, piece);
	strcat(out, end);
}

START_TEST(as_in_the_model)
{
	const evfs_dot dot = { { UINT64_C(0x0123456789abcdef), 3 }, 17 };
	char plain[EVFS_NAME_MAX + 1], node[256], name[EVFS_NAME_MAX + 1];
	char hex[EVFS_HASH_HEX_SIZE];
	evfs_hash hash;
	size_t len;

	repeat(plain, golden[_i].piece, golden[_i].times, golden[_i].end);
	repeat(node, golden[_i].node, golden[_i].node_times, "");
	len = evfs_sibling_name(plain, strlen(plain), dot, node,
				golden[_i].digits, golden[_i].salt, name);
	ck_assert_uint_eq(len, strlen(name));
	ck_assert_uint_le(len, EVFS_NAME_MAX);
	hash = evfs_hash_bytes(name, len);
	evfs_hash_format(&hash, hex);
	hex[16] = '\0';
	ck_assert_msg(len == golden[_i].len &&
		      strcmp(hex, golden[_i].hash) == 0,
		      "%s: %zu bytes, %s", name, len, hex);
}
END_TEST

START_TEST(plain_words)
{
	const evfs_dot dot = { { UINT64_C(0x0123456789abcdef), 3 }, 17 };
	char name[EVFS_NAME_MAX + 1];

	(void)evfs_sibling_name("report.tar.gz", 13, dot, "laptop", 8, false,
				name);
	ck_assert_str_eq(name, "report.conflict-laptop-dcf22b32.tar.gz");
	(void)evfs_sibling_name(".bashrc", 7, dot, "laptop", 16, false, name);
	ck_assert_str_eq(name, ".bashrc.conflict-laptop-dcf22b329a66f863");
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("sibling");
	TCase *names = tcase_create("names");
	SRunner *runner;
	int failed;

	tcase_add_loop_test(names, as_in_the_model, 0,
			    (int)(sizeof(golden) / sizeof(golden[0])));
	tcase_add_test(names, plain_words);
	suite_add_tcase(suite, names);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
