/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The collector: each of its three conditions, what pins, what a tie needs, who
 * is said to block, and that nothing of it shows. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "meta/collect.h"
#include "meta/facts.h"
#include "meta/members.h"
#include "tests/lib/replica.h"

static struct test_world world;
static struct test_replica a, b, c;

static void setup(void)
{
	test_world_init(&world);
	test_replica_open(&a, &world, "A");
	test_replica_open(&b, &world, "B");
	test_replica_open(&c, &world, "C");
}

static void teardown(void)
{
	test_replica_close(&a);
	test_replica_close(&b);
	test_replica_close(&c);
	test_world_fini(&world);
}

static void done(int rc)
{
	ck_assert_int_eq(rc, 0);
}

static void both(struct test_replica *x, struct test_replica *y)
{
	test_world_tick(&world);
	done(test_delta(x, y, -1));
	done(test_delta(y, x, -1));
}

static void sync_all(void)
{
	int i;

	/* twice: what the last has is to be reported, too */
	for (i = 0; i < 2; i++) {
		both(&a, &b);
		both(&b, &c);
		both(&a, &c);
	}
}

static int count_one(void *arg, const struct evfs_object *object)
{
	size_t *counts = arg;

	counts[0]++;
	counts[1] += object->n_ties;
	return 0;
}

static size_t objects(struct test_replica *replica, size_t *ret_ties)
{
	size_t counts[2] = { 0 };

	evfs_meta_lock(replica->meta);
	done(evfs_facts_each(evfs_meta_facts(replica->meta), count_one, counts,
			     &replica->err));
	evfs_meta_unlock(replica->meta);
	if (ret_ties != NULL)
		*ret_ties = counts[1];
	return counts[0];
}

static uint64_t waiting(struct test_replica *replica)
{
	struct evfs_collect_stats stats;

	evfs_meta_lock(replica->meta);
	evfs_collect_get_stats(replica->meta, &stats);
	evfs_meta_unlock(replica->meta);
	return stats.waiting;
}

static uint64_t blocks(struct test_replica *replica, struct test_replica *who)
{
	uint64_t n;

	evfs_meta_lock(replica->meta);
	n = evfs_collect_blocks(replica->meta, evfs_meta_node(who->meta));
	evfs_meta_unlock(replica->meta);
	return n;
}

/* The volume has one more member than plays here. */
static void drop_d(void)
{
	done(test_without(&a, "D"));
	done(test_without(&b, "D"));
	done(test_without(&c, "D"));
}

/* Condition 1: every member has reported; who has not is named. */
START_TEST(every_member_has_heard)
{
	drop_d();
	done(test_create(&a, "/f", "x"));
	sync_all();
	done(test_unlink(&a, "/f"));
	both(&a, &b);
	done(test_collect(&a));
	ck_assert_uint_eq(objects(&a, NULL), 1);
	ck_assert_uint_eq(waiting(&a), 1);
	ck_assert_uint_eq(blocks(&a, &c), 1);
	ck_assert_uint_eq(blocks(&a, &b), 0);
	both(&a, &c);
	done(test_collect(&a));
	ck_assert_uint_eq(objects(&a, NULL), 0);
	ck_assert_uint_eq(waiting(&a), 0);
	ck_assert_uint_eq(blocks(&a, &c), 0);
	/* what comes back dead from a member goes again */
	sync_all();
	done(test_collect(&a));
	done(test_collect(&b));
	done(test_collect(&c));
	ck_assert_uint_eq(objects(&a, NULL) + objects(&b, NULL) +
				  objects(&c, NULL), 0);
}
END_TEST

/* A member that is removed is waited for no longer; silence is no reason. */
START_TEST(a_removed_member_is_not_waited_for)
{
	done(test_create(&a, "/f", "x"));
	sync_all();
	done(test_unlink(&a, "/f"));
	sync_all();
	done(test_collect(&a));
	ck_assert_uint_eq(objects(&a, NULL), 1);
	drop_d();
	done(test_collect(&a));
	ck_assert_uint_eq(objects(&a, NULL), 0);
}
END_TEST

/* Condition 2: C's rename has been reported and has not arrived. If A forgot
 * the file now, it would take its absence for removed. */
START_TEST(reports_are_covered_here)
{
	struct evfs_context context = { 0 };

	drop_d();
	done(test_create(&a, "/f", "x"));
	sync_all();
	done(test_rename(&c, "/f", "/g", 0));
	done(test_unlink(&a, "/f"));
	both(&a, &b);
	done(test_delta(&c, &a, -1));
	/* C says what it has: all of A's, and its own beyond */
	done(evfs_meta_durable_context(c.meta, &context));
	evfs_meta_lock(a.meta);
	done(evfs_members_set_report(a.meta, evfs_meta_node(c.meta), &context,
				     &a.err));
	evfs_meta_unlock(a.meta);
	evfs_context_fini(&context);
	done(test_collect(&a));
	ck_assert_uint_eq(objects(&a, NULL), 1);
	sync_all();
	ck_assert_uint_eq(objects(&a, NULL), 1);
	done(test_write(&a, "/g", "y")); /* it is there */
}
END_TEST

/* Condition 3: a dead directory stays while a record names it, here that of a
 * file which is open; and goes with what hangs on it. */
START_TEST(a_named_directory_stays)
{
	struct evfs_handle handle;

	drop_d();
	done(test_make(&a, "/d", EVFS_KIND_DIR, NULL));
	done(test_create(&a, "/d/f", "x"));
	sync_all();
	done(test_open(&a, "/d/f", &handle));
	done(test_rm_rf(&b, "/d"));
	sync_all();
	done(test_collect(&a));
	ck_assert_uint_eq(objects(&a, NULL), 2);
	done(test_collect(&b));
	ck_assert_uint_eq(objects(&b, NULL), 0);
	done(test_seal(&a, &handle, "y")); /* comes back, with its directory */
	test_close(&a, &handle);
	sync_all();
	done(test_write(&b, "/d/f", "z"));
	done(test_rm_rf(&b, "/d"));
	sync_all();
	done(test_collect(&a));
	ck_assert_uint_eq(objects(&a, NULL), 0);
}
END_TEST

/* What stays because it is open goes when it is closed: a dead file with its
 * directory, and the tie of a file that lives. Nothing else happens then that
 * would have a pass begin. */
START_TEST(closing_is_news)
{
	struct evfs_handle dead, living;
	size_t ties = 0;

	drop_d();
	done(test_make(&a, "/d", EVFS_KIND_DIR, NULL));
	done(test_create(&a, "/d/f", "x"));
	done(test_create(&a, "/g", "y"));
	done(test_create(&a, "/h", "z"));
	sync_all();
	done(test_open(&a, "/d/f", &dead));
	done(test_open(&a, "/g", &living));
	done(test_rm_rf(&b, "/d"));
	done(test_rename(&b, "/h", "/g", EVFS_RENAME_EXCHANGE));
	sync_all();
	done(test_collect(&a));
	ck_assert_uint_eq(objects(&a, &ties), 4);
	ck_assert_uint_eq(ties, 1);
	ck_assert_uint_eq(waiting(&a), 3);
	done(test_collect(&a));
	ck_assert_uint_eq(objects(&a, NULL), 4);
	test_close(&a, &living);
	done(test_collect(&a));
	ck_assert_uint_eq(objects(&a, &ties), 4);
	ck_assert_uint_eq(ties, 0);
	test_close(&a, &dead);
	done(test_collect(&a));
	ck_assert_uint_eq(objects(&a, NULL), 2);
	ck_assert_uint_eq(waiting(&a), 0);
}
END_TEST

/* Dead directories that name each other in a circle go together. */
START_TEST(a_circle_goes)
{
	drop_d();
	done(test_make(&a, "/x", EVFS_KIND_DIR, NULL));
	done(test_make(&a, "/y", EVFS_KIND_DIR, NULL));
	sync_all();
	done(test_rename(&a, "/x", "/y/x", 0));
	done(test_rename(&b, "/y", "/x/y", 0));
	sync_all();
	done(test_rm_rf(&a, "/y")); /* the younger move is undone */
	sync_all();
	done(test_collect(&a));
	ck_assert_uint_eq(objects(&a, NULL), 0);
}
END_TEST

/* Exchanging two names again and again leaves ties; when all have heard, none
 * is left, though the files live. So it is with names that a file lost. */
START_TEST(ties_and_dead_links_go)
{
	size_t ties = 0;
	int i;

	drop_d();
	done(test_create(&a, "/x", "1"));
	done(test_create(&a, "/y", "2"));
	done(test_link(&a, "/x", "/z"));
	done(test_unlink(&a, "/z"));
	for (i = 0; i < 100; i++)
		done(test_rename(&a, "/x", "/y", EVFS_RENAME_EXCHANGE));
	ck_assert_uint_eq(objects(&a, &ties), 2);
	ck_assert_uint_eq(ties, 200);
	done(test_collect(&a));
	objects(&a, &ties);
	ck_assert_uint_eq(ties, 200);
	sync_all();
	done(test_collect(&a));
	ck_assert_uint_eq(objects(&a, &ties), 2);
	ck_assert_uint_eq(ties, 0);
	ck_assert_uint_eq(waiting(&a), 0);
	done(test_write(&b, "/x", "3"));
	sync_all();
	done(test_unlink(&a, "/x"));
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("collect");
	TCase *tcase = tcase_create("collect");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_add_test(tcase, every_member_has_heard);
	tcase_add_test(tcase, a_removed_member_is_not_waited_for);
	tcase_add_test(tcase, reports_are_covered_here);
	tcase_add_test(tcase, a_named_directory_stays);
	tcase_add_test(tcase, closing_is_news);
	tcase_add_test(tcase, a_circle_goes);
	tcase_add_test(tcase, ties_and_dead_links_go);
	suite_add_tcase(suite, tcase);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
