/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Editing, copying and reading of objects. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "meta/object.h"
#include "object_history.h"

#define DOT(node, counter) ((evfs_dot){ { (node), 0 }, (counter) })

static struct evfs_link make_link(uint64_t time, evfs_dot *dot)
{
	return (struct evfs_link){
		.id = { time, *dot },
		.place = { { time, *dot },
			   EVFS_INO_ROOT,
			   EVFS_INO_ROOT,
			   (const uint8_t *)"name",
			   4 },
		.alive = { dot, 1 },
	};
}

static struct evfs_object *new_object(enum evfs_kind kind)
{
	struct evfs_object *object = evfs_object_new(DOT(7, 1), kind);

	ck_assert_ptr_nonnull(object);
	ck_assert_int_eq(evfs_object_log_raise(object, DOT(7, 1)), 0);
	return object;
}

START_TEST(log_rows_are_sorted_maxima)
{
	struct evfs_object *object = new_object(EVFS_KIND_FILE);

	ck_assert_int_eq(evfs_object_log_raise(object, DOT(9, 4)), 0);
	ck_assert_int_eq(evfs_object_log_raise(object, DOT(3, 2)), 0);
	ck_assert_int_eq(evfs_object_log_raise(object, DOT(9, 3)), 0);
	ck_assert_int_eq(evfs_object_log_raise(object, DOT(8, 1)), 0);
	ck_assert_uint_eq(object->n_log, 4);
	ck_assert_uint_eq(object->log[0].actor.node, 3);
	ck_assert_uint_eq(object->log[3].counter, 4);
	ck_assert_uint_eq(evfs_object_log_get(object, DOT(8, 0).actor), 1);
	ck_assert_uint_eq(evfs_object_log_get(object, DOT(5, 0).actor), 0);
	evfs_object_free(object);
}
END_TEST

START_TEST(covered_by_rows_or_context)
{
	struct evfs_object *object = new_object(EVFS_KIND_FILE);
	struct evfs_context context = { 0 };

	ck_assert(evfs_object_covers(object, &context, DOT(7, 1)));
	ck_assert(!evfs_object_covers(object, &context, DOT(7, 2)));
	ck_assert(!evfs_object_covers(NULL, &context, DOT(7, 1)));
	ck_assert(!evfs_object_log_covered(object, &context));
	ck_assert_int_eq(evfs_context_raise(&context, DOT(7, 0).actor, 5), 0);
	ck_assert(evfs_object_covers(NULL, &context, DOT(7, 5)));
	ck_assert(evfs_object_covers(object, &context, DOT(7, 5)));
	ck_assert(!evfs_object_covers(object, &context, DOT(7, 6)));
	ck_assert(evfs_object_log_covered(object, &context));
	ck_assert_int_eq(evfs_object_log_raise(object, DOT(7, 6)), 0);
	ck_assert(!evfs_object_log_covered(object, &context));
	evfs_context_fini(&context);
	evfs_object_free(object);
}
END_TEST

START_TEST(links_and_liveness)
{
	struct evfs_object *object = new_object(EVFS_KIND_FILE);
	evfs_dot one = DOT(7, 1), two = DOT(7, 2), three = DOT(7, 3);
	struct evfs_link link = make_link(20, &two);
	struct evfs_version version = { .dot = one, .time_ns = 1 };
	evfs_stamp missing = { 20, one };

	ck_assert_int_eq(evfs_object_add_link(object, &link), 0);
	link = make_link(10, &one);
	ck_assert_int_eq(evfs_object_add_link(object, &link), 0);
	ck_assert_uint_eq(object->n_links, 2);
	ck_assert_uint_eq(object->links[0].id.time_ns, 10);
	ck_assert(!evfs_object_is_live(object)); /* no version */
	ck_assert_int_eq(evfs_object_put_version(object, &version), 0);
	ck_assert_uint_eq(evfs_object_live_links(object), 2);
	ck_assert_ptr_eq(evfs_object_sibling_link(object), &object->links[0]);
	ck_assert_int_eq(evfs_object_set_alive(object, &object->links[0], NULL),
			 0);
	ck_assert_ptr_eq(evfs_object_sibling_link(object), &object->links[1]);
	ck_assert_int_eq(
		evfs_object_set_alive(object, &object->links[1], &three), 0);
	ck_assert(evfs_dots_has(&object->links[1].alive, three));
	ck_assert(!evfs_dots_has(&object->links[1].alive, two));
	ck_assert_ptr_eq(evfs_object_find_link(object, &link.id),
			 &object->links[0]);
	ck_assert_ptr_null(evfs_object_find_link(object, &missing));
	link.place.name_len = 2;
	ck_assert_int_eq(evfs_object_add_link(object, &link), 0);
	ck_assert_uint_eq(object->n_links, 2); /* replaced */
	ck_assert_uint_eq(object->links[0].place.name_len, 2);
	evfs_object_free(object);
}
END_TEST

START_TEST(directories_have_one_link)
{
	struct evfs_object *dir = new_object(EVFS_KIND_DIR);
	struct evfs_object *root =
		evfs_object_new(EVFS_INO_ROOT, EVFS_KIND_DIR);
	evfs_dot dot = DOT(7, 1);
	struct evfs_link link = make_link(10, &dot);

	ck_assert_int_eq(evfs_object_add_link(dir, &link), 0);
	ck_assert_ptr_eq(evfs_object_only_link(dir), &dir->links[0]);
	ck_assert(evfs_object_is_live(dir)); /* needs no version */
	ck_assert_ptr_null(evfs_object_only_link(root));
	evfs_object_free(dir);
	evfs_object_free(root);
}
END_TEST

START_TEST(versions_by_dot_and_by_time)
{
	struct evfs_object *object = new_object(EVFS_KIND_FILE);
	struct evfs_version version = { .dot = DOT(7, 1), .time_ns = 5 };

	ck_assert_ptr_null(evfs_object_newest_version(object));
	ck_assert_int_eq(evfs_object_put_version(object, &version), 0);
	version = (struct evfs_version){ .dot = DOT(9, 1), .time_ns = 4 };
	ck_assert_int_eq(evfs_object_put_version(object, &version), 0);
	version = (struct evfs_version){ .dot = DOT(2, 1), .time_ns = 5 };
	ck_assert_int_eq(evfs_object_put_version(object, &version), 0);
	ck_assert(evfs_dot_equal(object->versions[0].dot, DOT(2, 1)));
	ck_assert(evfs_dot_equal(evfs_object_newest_version(object)->dot,
				 DOT(7, 1)));
	version.size = 9;
	ck_assert_int_eq(evfs_object_put_version(object, &version), 0);
	ck_assert_uint_eq(object->n_versions, 3);
	ck_assert_uint_eq(evfs_object_find_version(object, DOT(2, 1))->size, 9);
	evfs_object_remove_version(object, DOT(7, 1));
	evfs_object_remove_version(object, DOT(7, 99));
	ck_assert_uint_eq(object->n_versions, 2);
	ck_assert_ptr_null(evfs_object_find_version(object, DOT(7, 1)));
	ck_assert(evfs_dot_equal(object->versions[1].dot, DOT(9, 1)));
	evfs_object_free(object);
}
END_TEST

static void put_xattr(struct evfs_object *object, const char *key,
		      const char *value)
{
	struct evfs_attr attr = {
		.kind = EVFS_ATTR_XATTR,
		.key = (const uint8_t *)key,
		.key_len = strlen(key),
		.value.xattr = { (const uint8_t *)value, strlen(value), false },
	};

	ck_assert_int_eq(evfs_object_put_attr(object, &attr), 0);
}

START_TEST(attrs_by_kind_and_key)
{
	static const char *const order[] = { "user.a", "user.aa", "user.b" };
	struct evfs_object *object = new_object(EVFS_KIND_FILE);
	struct evfs_attr mode = { .kind = EVFS_ATTR_MODE, .value.mode = 0644 };
	struct evfs_attr *found;

	put_xattr(object, "user.b", "1");
	put_xattr(object, "user.aa", "2");
	ck_assert_int_eq(evfs_object_put_attr(object, &mode), 0);
	put_xattr(object, "user.a", "3");
	put_xattr(object, "user.b", "four");
	ck_assert_uint_eq(object->n_attrs, 4);
	ck_assert_int_eq(object->attrs[0].kind, EVFS_ATTR_MODE);
	for (size_t i = 0; i < 3; i++)
		ck_assert_mem_eq(object->attrs[i + 1].key, order[i],
				 strlen(order[i]));
	found = evfs_object_find_attr(object, EVFS_ATTR_XATTR, "user.b", 6);
	ck_assert_ptr_eq(found, &object->attrs[3]);
	ck_assert_uint_eq(found->value.xattr.len, 4);
	ck_assert_ptr_null(
		evfs_object_find_attr(object, EVFS_ATTR_XATTR, "user.", 5));
	ck_assert_ptr_null(
		evfs_object_find_attr(object, EVFS_ATTR_OWNER, NULL, 0));
	evfs_object_free(object);
}
END_TEST

START_TEST(ties_are_replaced_by_dot)
{
	struct evfs_object *object = new_object(EVFS_KIND_FILE);
	struct evfs_tie_end ends[2] = { { DOT(7, 1), DOT(7, 5) },
					{ DOT(8, 1), DOT(7, 6) } };
	struct evfs_tie tie = { DOT(7, 5), ends, 2 };

	ck_assert_int_eq(evfs_object_put_tie(object, &tie), 0);
	tie.dot = DOT(7, 3);
	ck_assert_int_eq(evfs_object_put_tie(object, &tie), 0);
	tie.n = 1;
	ck_assert_int_eq(evfs_object_put_tie(object, &tie), 0);
	ck_assert_uint_eq(object->n_ties, 2);
	ck_assert_uint_eq(object->ties[0].n, 1);
	ck_assert(evfs_dot_equal(object->ties[1].dot, DOT(7, 5)));
	evfs_object_free(object);
}
END_TEST

/* A copy shares nothing: the original can go. */
START_TEST(copies_stand_alone)
{
	static struct history history;

	for (uint64_t seed = 0; seed < 300; seed++) {
		struct evfs_object *object, *copy, *again;

		history_start(&history, seed);
		for (int step = 0; step < 20; step++)
			history_step(&history);
		object = history.replicas[seed % HISTORY_REPLICAS].object;
		if (object == NULL) {
			history_fini(&history);
			continue;
		}
		copy = evfs_object_copy(object);
		ck_assert_ptr_nonnull(copy);
		ck_assert(evfs_object_equal(copy, object));
		again = evfs_object_copy(copy);
		evfs_object_free(copy);
		ck_assert(evfs_object_equal(again, object));
		again->change_ns++;
		ck_assert(!evfs_object_equal(again, object));
		evfs_object_free(again);
		history_fini(&history);
	}
	evfs_object_free(NULL);
}
END_TEST

START_TEST(a_copy_is_one_allocation)
{
	static struct history history;
	struct evfs_object *copy;

	history_start(&history, 3);
	for (int step = 0; step < 30; step++)
		history_step(&history);
	ck_assert_ptr_nonnull(history.replicas[0].object);
	evfs_mem_fail_after(2);
	copy = evfs_object_copy(history.replicas[0].object);
	ck_assert_ptr_nonnull(copy);
	ck_assert(!evfs_mem_fail_hit());
	evfs_mem_fail_after(1);
	ck_assert_ptr_null(evfs_object_copy(history.replicas[0].object));
	evfs_mem_fail_after(0);
	evfs_object_free(copy);
	history_fini(&history);
}
END_TEST

/* Every edit fails cleanly: the object is what it was. */
START_TEST(edits_without_memory)
{
	struct evfs_object *object = new_object(EVFS_KIND_FILE);
	evfs_dot dot = DOT(7, 1);
	struct evfs_link link = make_link(10, &dot);
	struct evfs_version version = { .dot = dot };
	struct evfs_tie_end end = { dot, dot };
	struct evfs_tie tie = { dot, &end, 1 };
	uint8_t big[8192] = { 0 };
	struct evfs_attr attr = {
		.kind = EVFS_ATTR_XATTR,
		.key = (const uint8_t *)"user.x",
		.key_len = 6,
		.value.xattr = { big, sizeof(big), false },
	};
	struct evfs_object *before = evfs_object_copy(object);
	int rc = 0;

	evfs_mem_fail_after(1);
	ck_assert_int_eq(evfs_object_put_attr(object, &attr), EVFS_ENOMEM);
	evfs_mem_fail_after(1);
	ck_assert_int_eq(evfs_object_set_target(object, big, sizeof(big)),
			 EVFS_ENOMEM);
	ck_assert(evfs_object_equal(object, before));
	/* Uses up what is left of the arena; all but the last succeed. */
	for (uint64_t n = 2; rc == 0 && n < 1000; n++) {
		evfs_mem_fail_after(1);
		rc = evfs_object_add_link(object, &link);
		if (rc == 0)
			rc = evfs_object_put_version(object, &version);
		if (rc == 0)
			rc = evfs_object_put_tie(object, &tie);
		if (rc == 0)
			rc = evfs_object_log_raise(object, DOT(n, n));
	}
	evfs_mem_fail_after(0);
	ck_assert_int_eq(rc, EVFS_ENOMEM);
	ck_assert_int_eq(evfs_object_check(object, NULL), 0);
	evfs_object_free(before);
	evfs_object_free(object);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("object");
	TCase *tcase = tcase_create("object");
	SRunner *runner = srunner_create(suite);
	int failed;

	suite_add_tcase(suite, tcase);
	tcase_add_test(tcase, log_rows_are_sorted_maxima);
	tcase_add_test(tcase, covered_by_rows_or_context);
	tcase_add_test(tcase, links_and_liveness);
	tcase_add_test(tcase, directories_have_one_link);
	tcase_add_test(tcase, versions_by_dot_and_by_time);
	tcase_add_test(tcase, attrs_by_kind_and_key);
	tcase_add_test(tcase, ties_are_replaced_by_dot);
	tcase_add_test(tcase, copies_stand_alone);
	tcase_add_test(tcase, a_copy_is_one_allocation);
	tcase_add_test(tcase, edits_without_memory);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
