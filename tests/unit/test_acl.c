/* SPDX-License-Identifier: GPL-3.0-or-later */
/* POSIX ACLs and the mode. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "fs/acl.h"

/* Entries in the kernel's byte form: tag, permissions, id. */
struct entry {
	unsigned tag, perm, id;
};

enum { USER_OBJ = 1, USER = 2, GROUP_OBJ = 4, GROUP = 8, MASK = 16,
       OTHER = 32 };

static size_t encode(const struct entry *entries, size_t n, uint8_t *out)
{
	static const uint8_t head[4] = { 2, 0, 0, 0 };

	memcpy(out, head, 4);
	for (size_t i = 0; i < n; i++) {
		uint8_t *at = out + 4 + 8 * i;

		at[0] = (uint8_t)entries[i].tag;
		at[1] = 0;
		at[2] = (uint8_t)entries[i].perm;
		at[3] = 0;
		at[4] = (uint8_t)entries[i].id;
		at[5] = at[6] = at[7] = 0;
	}
	return 4 + 8 * n;
}

static const struct entry minimal[] = {
	{ USER_OBJ, 6, 0 }, { GROUP_OBJ, 4, 0 }, { OTHER, 0, 0 }
};
static const struct entry extended[] = {
	{ USER_OBJ, 7, 0 }, { USER, 7, 77 }, { GROUP_OBJ, 5, 0 },
	{ MASK, 3, 0 }, { OTHER, 1, 0 }
};

START_TEST(only_whole_lists_are_valid)
{
	uint8_t acl[64];
	size_t len = encode(minimal, 3, acl);

	ck_assert(evfs_acl_is_valid(acl, len));
	for (size_t cut = 0; cut < len; cut++)
		ck_assert(!evfs_acl_is_valid(acl, cut));
	acl[0] = 1;
	ck_assert(!evfs_acl_is_valid(acl, len));
	len = encode(extended, 4, acl); /* without OTHER */
	ck_assert(!evfs_acl_is_valid(acl, len));
}
END_TEST

START_TEST(the_mode_shows_the_mask)
{
	uint8_t acl[64];
	bool is_minimal;

	ck_assert_uint_eq(evfs_acl_mode(acl, encode(minimal, 3, acl),
					&is_minimal), 0640);
	ck_assert(is_minimal);
	ck_assert_uint_eq(evfs_acl_mode(acl, encode(extended, 5, acl),
					&is_minimal), 0731);
	ck_assert(!is_minimal);
}
END_TEST

START_TEST(chmod_changes_the_mask_not_the_group)
{
	uint8_t acl[64];
	bool is_minimal;
	size_t len = encode(extended, 5, acl);

	evfs_acl_chmod(acl, len, 0604);
	ck_assert_uint_eq(evfs_acl_mode(acl, len, &is_minimal), 0604);
	ck_assert_uint_eq(acl[4 + 8 * 2 + 2], 5); /* GROUP_OBJ */
	ck_assert_uint_eq(acl[4 + 8 * 1 + 2], 7); /* USER 77 */
	ck_assert_uint_eq(acl[4 + 8 * 3 + 2], 0); /* MASK */
}
END_TEST

START_TEST(a_new_file_gets_what_both_allow)
{
	uint8_t acl[64];
	bool is_minimal;
	uint32_t mode = 04664;
	size_t len = encode(extended, 5, acl);

	evfs_acl_inherit(acl, len, &mode, &is_minimal);
	ck_assert(!is_minimal);
	ck_assert_uint_eq(mode, 04620);
	ck_assert_uint_eq(evfs_acl_mode(acl, len, &is_minimal), 0620);
	mode = 0666;
	len = encode(minimal, 3, acl);
	evfs_acl_inherit(acl, len, &mode, &is_minimal);
	ck_assert(is_minimal);
	ck_assert_uint_eq(mode, 0640);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("acl");
	TCase *cases = tcase_create("acl");
	SRunner *runner;
	int failed;

	tcase_add_test(cases, only_whole_lists_are_valid);
	tcase_add_test(cases, the_mode_shows_the_mask);
	tcase_add_test(cases, chmod_changes_the_mask_not_the_group);
	tcase_add_test(cases, a_new_file_gets_what_both_allow);
	suite_add_tcase(suite, cases);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
