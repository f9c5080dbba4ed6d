/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Renaming: errors, NOREPLACE, EXCHANGE, siblings. */
#include "tests/unit/test_tree.h"

#include <string.h>

#include "base/mem.h"

START_TEST(rename_refuses)
{
	ck_assert_int_eq(test_make(&a, "/d", EVFS_KIND_DIR, NULL), 0);
	ck_assert_int_eq(test_make(&a, "/d/e", EVFS_KIND_DIR, NULL), 0);
	ck_assert_int_eq(test_create(&a, "/f", "x"), 0);
	ck_assert_int_eq(test_rename(&a, "/no", "/g", 0), EVFS_ENOTFOUND);
	ck_assert_int_eq(test_rename(&a, "/f", "/d", 0), EVFS_EISDIR);
	ck_assert_int_eq(test_rename(&a, "/d", "/f", 0), EVFS_ENOTDIR);
	ck_assert_int_eq(test_rename(&a, "/d", "/d/e/d", 0), EVFS_EINVAL);
	ck_assert_int_eq(test_rename(&a, "/d", "/d/d", 0), EVFS_EINVAL);
	ck_assert_int_eq(test_rename(&a, "/d/e", "/d", 0), EVFS_ENOTEMPTY);
	ck_assert_int_eq(test_rename(&a, "/f", "/g", 8), EVFS_EINVAL);
	ck_assert_int_eq(test_rename(&a, "/f", "/d",
				     EVFS_RENAME_NOREPLACE |
					     EVFS_RENAME_EXCHANGE),
			 EVFS_EINVAL);
	ck_assert_int_eq(test_rename(&a, "/f", "/f", 0), 0);
	ck_assert_int_eq(test_rename(&a, "/d", "/d", 0), 0);
	tree_expect(&a, "/d dir - 0755 -", "/d/e dir - 0755 -",
		    "/f file x 0644 -", NULL);
}
END_TEST

START_TEST(noreplace_never_replaces)
{
	ck_assert_int_eq(test_create(&a, "/f", "x"), 0);
	ck_assert_int_eq(test_create(&a, "/g", "y"), 0);
	ck_assert_int_eq(test_rename(&a, "/f", "/g", EVFS_RENAME_NOREPLACE),
			 EVFS_EEXISTS);
	ck_assert_int_eq(test_rename(&a, "/f", "/f", EVFS_RENAME_NOREPLACE),
			 EVFS_EEXISTS);
	ck_assert_int_eq(test_rename(&a, "/f", "/h", EVFS_RENAME_NOREPLACE),
			 0);
	tree_expect(&a, "/g file y 0644 -", "/h file x 0644 -", NULL);
}
END_TEST

START_TEST(two_names_of_one_inode_stay)
{
	ck_assert_int_eq(test_create(&a, "/f", "x"), 0);
	ck_assert_int_eq(test_link(&a, "/f", "/g"), 0);
	ck_assert_int_eq(test_rename(&a, "/f", "/g", 0), 0);
	ck_assert_int_eq(test_rename(&a, "/f", "/g", EVFS_RENAME_EXCHANGE),
			 0);
	tree_expect(&a, "/f file x 0644 -", "/g file x 0644 -", NULL);
}
END_TEST

START_TEST(exchange_swaps_files_and_directories)
{
	ck_assert_int_eq(test_make(&a, "/d", EVFS_KIND_DIR, NULL), 0);
	ck_assert_int_eq(test_create(&a, "/d/in", "1"), 0);
	ck_assert_int_eq(test_make(&a, "/e", EVFS_KIND_DIR, NULL), 0);
	ck_assert_int_eq(test_create(&a, "/e/f", "2"), 0);
	ck_assert_int_eq(test_rename(&a, "/d", "/e/f", EVFS_RENAME_EXCHANGE),
			 0);
	tree_sync();
	tree_expect(&b, "/d file 2 0644 -", "/e dir - 0755 -",
		    "/e/f dir - 0755 -", "/e/f/in file 1 0644 -", NULL);
	ck_assert_int_eq(test_create(&a, "/g", "3"), 0);
	ck_assert_int_eq(test_rename(&a, "/d", "/g", EVFS_RENAME_EXCHANGE), 0);
	tree_expect(&a, "/d file 3 0644 -", "/e dir - 0755 -",
		    "/e/f dir - 0755 -", "/e/f/in file 1 0644 -",
		    "/g file 2 0644 -", NULL);
}
END_TEST

START_TEST(exchange_of_merged_directories_takes_all_members)
{
	ck_assert_int_eq(test_make(&a, "/d", EVFS_KIND_DIR, NULL), 0);
	ck_assert_int_eq(test_create(&a, "/d/1", "1"), 0);
	ck_assert_int_eq(test_make(&b, "/d", EVFS_KIND_DIR, NULL), 0);
	ck_assert_int_eq(test_create(&b, "/d/2", "2"), 0);
	ck_assert_int_eq(test_make(&b, "/e", EVFS_KIND_DIR, NULL), 0);
	tree_sync();
	ck_assert_int_eq(test_rename(&a, "/e", "/d", EVFS_RENAME_EXCHANGE), 0);
	tree_expect(&a, "/d dir - 0755 -", "/e dir - 0755 -",
		    "/e/1 file 1 0644 -", "/e/2 file 2 0644 -", NULL);
}
END_TEST

START_TEST(exchange_refuses)
{
	ck_assert_int_eq(test_make(&a, "/d", EVFS_KIND_DIR, NULL), 0);
	ck_assert_int_eq(test_make(&a, "/d/e", EVFS_KIND_DIR, NULL), 0);
	ck_assert_int_eq(test_create(&a, "/d/e/f", "x"), 0);
	ck_assert_int_eq(test_rename(&a, "/d", "/d/e", EVFS_RENAME_EXCHANGE),
			 EVFS_EINVAL);
	ck_assert_int_eq(test_rename(&a, "/d/e/f", "/d",
				     EVFS_RENAME_EXCHANGE),
			 EVFS_EINVAL);
	ck_assert_int_eq(test_rename(&a, "/d", "/no", EVFS_RENAME_EXCHANGE),
			 EVFS_ENOTFOUND);
	ck_assert_int_eq(test_rename(&a, "/no", "/d", EVFS_RENAME_EXCHANGE),
			 EVFS_ENOTFOUND);
	tree_expect(&a, "/d dir - 0755 -", "/d/e dir - 0755 -",
		    "/d/e/f file x 0644 -", NULL);
}
END_TEST

START_TEST(exchange_promotes_siblings)
{
	tree_conflict("/f", "1", "2");
	ck_assert_int_eq(test_create(&a, "/g", "3"), 0);
	ck_assert_int_eq(test_rename(&a, "/f", "/g", EVFS_RENAME_EXCHANGE), 0);
	tree_expect(&a, "/f file 3 0644 -",
		    "/f.conflict-A-VVVVVVVV file 1 0644 -",
		    "/g file 2 0644 -", NULL);
	tree_sync();
	tree_expect(&b, "/f file 3 0644 -",
		    "/f.conflict-A-VVVVVVVV file 1 0644 -",
		    "/g file 2 0644 -", NULL);
}
END_TEST

START_TEST(exchange_of_a_sibling_with_its_plain_name)
{
	evfs_cleanup_free char *sibling = NULL;

	tree_conflict("/f", "1", "2");
	sibling = tree_sibling(&a, "/f", "1");
	ck_assert_int_eq(test_rename(&a, "/f", sibling, EVFS_RENAME_EXCHANGE),
			 0);
	tree_expect(&a, "/f file 1 0644 -",
		    "/f.conflict-A-VVVVVVVV file 2 0644 -", NULL);
	tree_sync();
	tree_expect(&b, "/f file 1 0644 -",
		    "/f.conflict-A-VVVVVVVV file 2 0644 -", NULL);
}
END_TEST

/* mv keeps the time of what it moves. */
START_TEST(a_chosen_content_keeps_its_time)
{
	evfs_cleanup_free char *sibling = NULL;
	struct evfs_attributes before, after;
	struct evfs_entry entry;

	tree_conflict("/f", "1", "2");
	sibling = tree_sibling(&a, "/f", "1");
	ck_assert_int_eq(test_path_entry(&a, sibling, &entry), 0);
	evfs_meta_lock(a.meta);
	ck_assert_int_eq(evfs_view_attr(a.meta, &entry, &before, &a.err), 0);
	evfs_meta_unlock(a.meta);
	evfs_entry_fini(&entry);
	ck_assert_int_eq(test_rename(&a, sibling, "/f", 0), 0);
	ck_assert_int_eq(test_path_entry(&a, "/f", &entry), 0);
	evfs_meta_lock(a.meta);
	ck_assert_int_eq(evfs_view_attr(a.meta, &entry, &after, &a.err), 0);
	evfs_meta_unlock(a.meta);
	evfs_entry_fini(&entry);
	ck_assert_int_eq(after.mtime_s, before.mtime_s);
	tree_expect(&a, "/f file 1 0644 -", NULL);
}
END_TEST

TCase *tree_rename_case(void)
{
	TCase *tcase = tcase_create("rename");

	tcase_add_checked_fixture(tcase, tree_setup, tree_teardown);
	tcase_add_test(tcase, rename_refuses);
	tcase_add_test(tcase, noreplace_never_replaces);
	tcase_add_test(tcase, two_names_of_one_inode_stay);
	tcase_add_test(tcase, exchange_swaps_files_and_directories);
	tcase_add_test(tcase,
		       exchange_of_merged_directories_takes_all_members);
	tcase_add_test(tcase, exchange_refuses);
	tcase_add_test(tcase, exchange_promotes_siblings);
	tcase_add_test(tcase, exchange_of_a_sibling_with_its_plain_name);
	tcase_add_test(tcase, a_chosen_content_keeps_its_time);
	return tcase;
}
