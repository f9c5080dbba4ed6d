/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Handles: what they show, and where writes through them go. */
#include "tests/unit/test_tree.h"

#include <string.h>

#include "base/mem.h"
#include "meta/facts.h"
#include "meta/works.h"

static void expect_shown(struct test_replica *replica,
			 const struct evfs_handle *handle, const char *tag)
{
	struct evfs_shown shown;

	evfs_meta_lock(replica->meta);
	ck_assert_int_eq(evfs_tree_shown(replica->meta, handle, &shown,
					 &replica->err),
			 0);
	evfs_meta_unlock(replica->meta);
	ck_assert_int_eq(shown.has_version, tag != NULL);
	if (tag != NULL) {
		ck_assert_str_eq(test_tag_of(&world, &shown.content), tag);
		ck_assert_uint_eq(shown.size, strlen(tag));
	}
}

static int create_unsealed(struct test_replica *replica, const char *name,
			   uint32_t mode)
{
	struct evfs_new what = { .kind = EVFS_KIND_FILE, .mode = mode };
	int rc;

	evfs_meta_lock(replica->meta);
	rc = evfs_tree_create(replica->meta, EVFS_INO_ROOT, name, strlen(name),
			      &what, NULL, NULL, &replica->err);
	evfs_meta_unlock(replica->meta);
	return rc;
}

static int count_one(void *arg, evfs_ino ino)
{
	int *n = arg;

	(void)ino;
	++*n;
	return 0;
}

static int count_unsealed(struct test_replica *replica)
{
	int n = 0;

	evfs_meta_lock(replica->meta);
	ck_assert_int_eq(evfs_tree_unsealed(replica->meta, count_one, &n,
					    &replica->err),
			 0);
	evfs_meta_unlock(replica->meta);
	return n;
}

START_TEST(only_files_are_opened)
{
	struct evfs_handle handle;

	ck_assert_int_eq(test_make(&a, "/d", EVFS_KIND_DIR, NULL), 0);
	ck_assert_int_eq(test_make(&a, "/l", EVFS_KIND_SYMLINK, "d"), 0);
	ck_assert_int_eq(test_open(&a, "/d", &handle), EVFS_EISDIR);
	ck_assert_int_eq(test_open(&a, "/l", &handle), EVFS_ELOOP);
	ck_assert_int_eq(test_open(&a, "/no", &handle), EVFS_ENOTFOUND);
}
END_TEST

START_TEST(a_handle_is_registered_while_open)
{
	struct evfs_handle many[300];
	evfs_ino ino;

	ck_assert_int_eq(test_create(&a, "/f", "x"), 0);
	for (size_t i = 0; i < 300; i++)
		ck_assert_int_eq(test_open(&a, "/f", &many[i]), 0);
	ino = many[0].ino;
	for (size_t i = 0; i < 300; i++) {
		ck_assert(evfs_tree_is_open(a.meta, ino));
		test_close(&a, &many[i]);
	}
	ck_assert(!evfs_tree_is_open(a.meta, ino));
}
END_TEST

START_TEST(a_handle_keeps_what_it_opened)
{
	struct evfs_handle handle;

	ck_assert_int_eq(test_create(&a, "/f", "1"), 0);
	tree_sync();
	ck_assert_int_eq(test_open(&a, "/f", &handle), 0);
	ck_assert_int_eq(test_write(&b, "/f", "2"), 0);
	tree_sync();
	tree_expect(&a, "/f file 2 0644 -", NULL);
	expect_shown(&a, &handle, "1");
	/* A real race: a sibling, not a lost update. */
	ck_assert_int_eq(test_seal(&a, &handle, "3"), 0);
	expect_shown(&a, &handle, "3");
	tree_expect(&a, "/f file 3 0644 -",
		    "/f.conflict-B-VVVVVVVV file 2 0644 /f", NULL);
	ck_assert_int_eq(test_seal(&a, &handle, "4"), 0);
	tree_expect(&a, "/f file 4 0644 -",
		    "/f.conflict-B-VVVVVVVV file 2 0644 /f", NULL);
	test_close(&a, &handle);
}
END_TEST

START_TEST(writers_of_one_replica_share_the_base)
{
	struct evfs_handle one, two;

	ck_assert_int_eq(test_create(&a, "/f", "1"), 0);
	ck_assert_int_eq(test_open(&a, "/f", &one), 0);
	ck_assert_int_eq(test_open(&a, "/f", &two), 0);
	ck_assert_int_eq(test_seal(&a, &one, "2"), 0);
	expect_shown(&a, &two, "2");
	ck_assert_int_eq(test_seal(&a, &two, "3"), 0);
	tree_expect(&a, "/f file 3 0644 -", NULL);
	test_close(&a, &one);
	test_close(&a, &two);
}
END_TEST

START_TEST(an_orphan_writes_nowhere)
{
	struct evfs_handle handle;

	ck_assert_int_eq(test_create(&a, "/f", "1"), 0);
	ck_assert_int_eq(test_open(&a, "/f", &handle), 0);
	ck_assert_int_eq(test_unlink(&a, "/f"), 0);
	ck_assert(handle.orphan);
	expect_shown(&a, &handle, "1");
	ck_assert_int_eq(test_seal(&a, &handle, "2"), 0);
	expect_shown(&a, &handle, "2");
	tree_expect(&a, NULL);
	test_close(&a, &handle);
}
END_TEST

static void sum_cb(void *arg, uint64_t number)
{
	*(uint64_t *)arg += number;
}

static uint64_t works_done(void)
{
	uint64_t sum = 0;

	evfs_meta_lock(a.meta);
	ck_assert_int_eq(evfs_work_done_each(a.meta, sum_cb, &sum, NULL), 0);
	evfs_meta_unlock(a.meta);
	return sum;
}

/* Its working copy is of no more use from the removal on; one of a file that
 * has another name, or whose removal fails, is. */
START_TEST(a_removal_ends_working_copies)
{
	struct evfs_handle gone, stays;

	ck_assert_int_eq(test_create(&a, "/gone", "1"), 0);
	ck_assert_int_eq(test_create(&a, "/stays", "1"), 0);
	ck_assert_int_eq(test_link(&a, "/stays", "/other"), 0);
	ck_assert_int_eq(test_open(&a, "/gone", &gone), 0);
	ck_assert_int_eq(test_open(&a, "/stays", &stays), 0);
	gone.work = 7;
	stays.work = 100;
	ck_assert_int_eq(test_unlink(&a, "/stays"), 0);
	ck_assert_int_ne(test_rename(&a, "/gone", "/no/gone", 0), 0);
	ck_assert_uint_eq(works_done(), 0);
	ck_assert_int_eq(test_unlink(&a, "/gone"), 0);
	ck_assert_uint_eq(works_done(), 7);
	evfs_meta_lock(a.meta);
	ck_assert_int_eq(evfs_work_done_clear(a.meta, NULL), 0);
	evfs_meta_unlock(a.meta);
	ck_assert_uint_eq(works_done(), 0);
	test_close(&a, &gone);
	test_close(&a, &stays);
}
END_TEST

START_TEST(a_handle_goes_on_with_another_name)
{
	struct evfs_handle handle;

	ck_assert_int_eq(test_create(&a, "/f", "1"), 0);
	ck_assert_int_eq(test_link(&a, "/f", "/g"), 0);
	ck_assert_int_eq(test_open(&a, "/f", &handle), 0);
	ck_assert_int_eq(test_unlink(&a, "/f"), 0);
	ck_assert(!handle.orphan);
	ck_assert_int_eq(test_seal(&a, &handle, "2"), 0);
	tree_expect(&a, "/g file 2 0644 -", NULL);
	test_close(&a, &handle);
}
END_TEST

START_TEST(an_edit_beats_a_remote_removal)
{
	struct evfs_handle handle;

	ck_assert_int_eq(test_make(&a, "/d", EVFS_KIND_DIR, NULL), 0);
	ck_assert_int_eq(test_create(&a, "/d/f", "1"), 0);
	tree_sync();
	ck_assert_int_eq(test_open(&a, "/d/f", &handle), 0);
	ck_assert_int_eq(test_rm_rf(&b, "/d"), 0);
	tree_sync();
	tree_expect(&a, NULL);
	expect_shown(&a, &handle, "1");
	ck_assert_int_eq(test_seal(&a, &handle, "2"), 0);
	ck_assert_int_eq(tree_zombies(&a), 0); /* not only through its child */
	tree_expect(&a, "/d dir - 0755 -", "/d/f file 2 0644 -", NULL);
	tree_sync();
	tree_expect(&b, "/d dir - 0755 -", "/d/f file 2 0644 -", NULL);
	test_close(&a, &handle);
}
END_TEST

START_TEST(a_handle_follows_its_promoted_sibling)
{
	evfs_cleanup_free char *sibling = NULL;
	struct evfs_handle handle;
	evfs_ino ino;

	tree_conflict("/f", "1", "2");
	sibling = tree_sibling(&a, "/f", "1");
	ck_assert_int_eq(test_open(&a, sibling, &handle), 0);
	ino = handle.ino;
	ck_assert_int_eq(test_unlink(&a, "/f"), 0);
	ck_assert(!handle.orphan);
	ck_assert(!evfs_dot_equal(handle.ino, ino));
	ck_assert(evfs_tree_is_open(a.meta, handle.ino));
	ck_assert(!evfs_tree_is_open(a.meta, ino));
	ck_assert_int_eq(test_seal(&a, &handle, "3"), 0);
	tree_expect(&a, "/f.conflict-A-VVVVVVVV file 3 0644 -", NULL);
	test_close(&a, &handle);
}
END_TEST

START_TEST(writing_to_a_sibling_makes_it_a_file)
{
	evfs_cleanup_free char *sibling = NULL;

	tree_conflict("/f", "1", "2");
	ck_assert_int_eq(test_chmod(&a, "/f", 0600), 0);
	sibling = tree_sibling(&a, "/f", "1");
	ck_assert_int_eq(test_write(&a, sibling, "3"), 0);
	tree_expect(&a, "/f file 2 0600 -",
		    "/f.conflict-A-VVVVVVVV file 3 0600 -", NULL);
}
END_TEST

/* Not even then does a file become readable to those who could not read it. */
START_TEST(a_vanished_sibling_comes_back_with_its_mode)
{
	evfs_cleanup_free char *sibling = NULL;
	struct evfs_handle handle;

	tree_conflict("/f", "1", "2");
	ck_assert_int_eq(test_chmod(&a, "/f", 0600), 0);
	tree_sync();
	sibling = tree_sibling(&a, "/f", "1");
	ck_assert_int_eq(test_open(&a, sibling, &handle), 0);
	ck_assert_int_eq(test_unlink(&b, sibling), 0);
	tree_sync();
	ck_assert_int_eq(test_seal(&a, &handle, "3"), 0);
	tree_expect(&a, "/f file 2 0600 -",
		    "/f.conflict-A-VVVVVVVV file 3 0600 -", NULL);
	test_close(&a, &handle);
}
END_TEST

START_TEST(an_unsealed_file_is_seen_here_only)
{
	struct evfs_handle handle, second;

	ck_assert_int_eq(create_unsealed(&a, "f", 0600), 0);
	ck_assert_int_eq(count_unsealed(&a), 1);
	tree_expect(&a, "/f file unsealed 0600 -", NULL);
	ck_assert_int_eq(create_unsealed(&a, "f", 0600), EVFS_EEXISTS);
	ck_assert_int_eq(test_open(&a, "/f", &handle), 0);
	ck_assert_int_eq(test_open(&a, "/f", &second), 0);
	expect_shown(&a, &handle, NULL);
	tree_sync();
	tree_expect(&b, NULL);
	ck_assert_int_eq(test_rename(&a, "/f", "/g", 0), 0);
	ck_assert_int_eq(test_seal(&a, &handle, "1"), 0);
	ck_assert_int_eq(count_unsealed(&a), 0);
	expect_shown(&a, &second, "1");
	tree_sync();
	tree_expect(&b, "/g file 1 0600 -", NULL);
	test_close(&a, &handle);
	test_close(&a, &second);
}
END_TEST

START_TEST(an_unsealed_file_can_go_again)
{
	struct evfs_handle handle;

	ck_assert_int_eq(create_unsealed(&a, "f", 0600), 0);
	ck_assert_int_eq(test_open(&a, "/f", &handle), 0);
	ck_assert_int_eq(test_unlink(&a, "/f"), 0);
	ck_assert_int_eq(count_unsealed(&a), 0);
	ck_assert(handle.orphan);
	tree_expect(&a, NULL);
	test_close(&a, &handle);
	ck_assert_int_eq(create_unsealed(&a, "f", 0600), 0);
	tree_expect(&a, "/f file unsealed 0600 -", NULL);
}
END_TEST

START_TEST(set_id_bits_of_an_unsealed_file_hold)
{
	struct evfs_handle handle;

	ck_assert_int_eq(create_unsealed(&a, "f", 0600), 0);
	ck_assert_int_eq(test_open(&a, "/f", &handle), 0);
	ck_assert_int_eq(test_chmod(&a, "/f", 04755), 0);
	ck_assert_int_eq(test_seal(&a, &handle, "1"), 0);
	tree_expect(&a, "/f file 1 4755 -", NULL);
	ck_assert_int_eq(test_seal(&a, &handle, "2"), 0);
	tree_expect(&a, "/f file 2 0755 -", NULL);
	test_close(&a, &handle);
}
END_TEST

/* chmod(2) after write(2), before the seal: the bits are of what was written.
 * Where another replica wrote meanwhile, which takes them away, they do not come
 * back. */
START_TEST(set_id_bits_stay_where_the_writer_keeps_them)
{
	struct evfs_content_ref content = test_content(&world, "2");
	evfs_cleanup_free char *sibling = NULL;
	struct evfs_handle handle;

	content.keeps_set_id = true;
	ck_assert_int_eq(test_create(&a, "/f", "1"), 0);
	tree_sync();
	ck_assert_int_eq(test_open(&a, "/f", &handle), 0);
	ck_assert_int_eq(test_chmod(&a, "/f", 04755), 0);
	evfs_meta_lock(a.meta);
	ck_assert_int_eq(evfs_tree_seal(a.meta, &handle, &content, &a.err), 0);
	evfs_meta_unlock(a.meta);
	tree_expect(&a, "/f file 2 4755 -", NULL);
	test_close(&a, &handle);
	tree_sync();
	tree_expect(&b, "/f file 2 4755 -", NULL);
	ck_assert_int_eq(test_open(&a, "/f", &handle), 0);
	ck_assert_int_eq(test_write(&b, "/f", "evil"), 0);
	tree_sync();
	content = test_content(&world, "3");
	content.keeps_set_id = true;
	evfs_meta_lock(a.meta);
	ck_assert_int_eq(evfs_tree_seal(a.meta, &handle, &content, &a.err), 0);
	evfs_meta_unlock(a.meta);
	test_close(&a, &handle);
	sibling = tree_sibling(&a, "/f", "evil");
	ck_assert_int_eq(test_rename(&a, sibling, "/own", 0), 0);
	tree_expect(&a, "/f file 3 0755 -", "/own file evil 0755 -", NULL);
}
END_TEST

static int link_handle(struct evfs_handle *handle, const char *name)
{
	struct evfs_new what = { .kind = EVFS_KIND_FILE, .mode = 0640 };
	int rc;

	evfs_meta_lock(a.meta);
	rc = evfs_tree_link_handle(a.meta, handle, &what, EVFS_INO_ROOT, name,
				   strlen(name), &a.err);
	evfs_meta_unlock(a.meta);
	return rc;
}

START_TEST(a_loose_file_gets_a_name)
{
	struct evfs_handle handle;

	evfs_tree_open_loose(&handle);
	ck_assert_int_eq(test_seal(&a, &handle, "1"), 0);
	expect_shown(&a, &handle, "1");
	tree_expect(&a, NULL);
	ck_assert_int_eq(test_create(&a, "/f", "x"), 0);
	ck_assert_int_eq(link_handle(&handle, "f"), EVFS_EEXISTS);
	ck_assert(handle.loose);
	ck_assert_int_eq(link_handle(&handle, "g"), 0);
	ck_assert(!handle.loose);
	ck_assert(evfs_tree_is_open(a.meta, handle.ino));
	ck_assert_int_eq(test_seal(&a, &handle, "2"), 0);
	tree_expect(&a, "/f file x 0644 -", "/g file 2 0640 -", NULL);
	ck_assert_int_eq(link_handle(&handle, "h"), 0);
	tree_expect(&a, "/f file x 0644 -", "/g file 2 0640 -",
		    "/h file 2 0640 -", NULL);
	test_close(&a, &handle);
}
END_TEST

START_TEST(a_removed_file_gets_no_name)
{
	struct evfs_handle handle;

	ck_assert_int_eq(test_create(&a, "/f", "x"), 0);
	ck_assert_int_eq(test_open(&a, "/f", &handle), 0);
	ck_assert_int_eq(test_unlink(&a, "/f"), 0);
	ck_assert_int_eq(link_handle(&handle, "g"), EVFS_ENOTFOUND);
	test_close(&a, &handle);
	evfs_tree_open_loose(&handle);
	test_close(&a, &handle);
}
END_TEST

START_TEST(choosing_a_sibling_orphans_the_replaced)
{
	evfs_cleanup_free char *sibling = NULL;
	struct evfs_handle plain, chosen;

	tree_conflict("/f", "1", "2");
	sibling = tree_sibling(&a, "/f", "1");
	ck_assert_int_eq(test_open(&a, "/f", &plain), 0);
	ck_assert_int_eq(test_open(&a, sibling, &chosen), 0);
	ck_assert_int_eq(test_rename(&a, sibling, "/f", 0), 0);
	ck_assert(plain.orphan);
	ck_assert(!chosen.orphan);
	ck_assert_int_eq(test_seal(&a, &plain, "3"), 0);
	tree_expect(&a, "/f file 1 0644 -", NULL);
	ck_assert_int_eq(test_seal(&a, &chosen, "4"), 0);
	tree_expect(&a, "/f file 4 0644 -", NULL);
	test_close(&a, &plain);
	test_close(&a, &chosen);
}
END_TEST

TCase *tree_handle_case(void)
{
	TCase *tcase = tcase_create("handle");

	tcase_add_checked_fixture(tcase, tree_setup, tree_teardown);
	tcase_add_test(tcase, only_files_are_opened);
	tcase_add_test(tcase, a_handle_is_registered_while_open);
	tcase_add_test(tcase, a_handle_keeps_what_it_opened);
	tcase_add_test(tcase, writers_of_one_replica_share_the_base);
	tcase_add_test(tcase, an_orphan_writes_nowhere);
	tcase_add_test(tcase, a_removal_ends_working_copies);
	tcase_add_test(tcase, a_handle_goes_on_with_another_name);
	tcase_add_test(tcase, an_edit_beats_a_remote_removal);
	tcase_add_test(tcase, a_handle_follows_its_promoted_sibling);
	tcase_add_test(tcase, writing_to_a_sibling_makes_it_a_file);
	tcase_add_test(tcase, a_vanished_sibling_comes_back_with_its_mode);
	tcase_add_test(tcase, an_unsealed_file_is_seen_here_only);
	tcase_add_test(tcase, an_unsealed_file_can_go_again);
	tcase_add_test(tcase, set_id_bits_of_an_unsealed_file_hold);
	tcase_add_test(tcase, set_id_bits_stay_where_the_writer_keeps_them);
	tcase_add_test(tcase, a_loose_file_gets_a_name);
	tcase_add_test(tcase, a_removed_file_gets_no_name);
	tcase_add_test(tcase, choosing_a_sibling_orphans_the_replaced);
	return tcase;
}
