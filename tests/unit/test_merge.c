/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The join: laws on states of random histories, nothing lost and nothing
 * returned by the ledger, and single cases by hand. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "meta/merge.h"
#include "object_history.h"

#define HISTORIES 2000
#define STEPS 30
#define TRIPLE_EACH 3 /* a triple is looked at after so many steps */

/* A replica as a value: what is joined by the laws. */
struct state {
	struct evfs_object *object; /* owned; NULL = absent */
	struct evfs_context context;
};

static struct state state_copy(const struct history_replica *replica)
{
	struct state state = { 0 };

	if (replica->object != NULL) {
		state.object = evfs_object_copy(replica->object);
		ck_assert_ptr_nonnull(state.object);
		ck_assert(evfs_object_equal(state.object, replica->object));
	}
	ck_assert_int_eq(evfs_context_copy(&state.context, &replica->context),
			 0);
	return state;
}

static void state_fini(struct state *state)
{
	evfs_object_free(state->object);
	evfs_context_fini(&state->context);
}

static struct state state_join(const struct state *a, const struct state *b)
{
	struct evfs_err err = { 0 };
	struct state out = { 0 };

	if (a->object != NULL || b->object != NULL)
		ck_assert_msg(evfs_merge(a->object, &a->context, b->object,
					 &b->context, &out.object, &err) == 0,
			      "%s", err.msg);
	ck_assert_int_eq(evfs_context_copy(&out.context, &a->context), 0);
	ck_assert_int_eq(evfs_context_join(&out.context, &b->context), 0);
	return out;
}

static bool state_equal(const struct state *a, const struct state *b)
{
	if (!evfs_context_equal(&a->context, &b->context))
		return false;
	if (a->object == NULL || b->object == NULL)
		return a->object == b->object;
	return evfs_object_equal(a->object, b->object);
}

static void check_laws(const struct state *a, const struct state *b,
		       const struct state *c, uint64_t seed)
{
	struct state ab = state_join(a, b), ba = state_join(b, a);
	struct state bc = state_join(b, c);
	struct state ab_c = state_join(&ab, c), a_bc = state_join(a, &bc);
	struct state aa = state_join(a, a), ab_a = state_join(&ab, a);
	struct evfs_err err = { 0 };

	ck_assert_msg(state_equal(&ab, &ba), "seed %llu: not commutative",
		      (unsigned long long)seed);
	ck_assert_msg(state_equal(&ab_c, &a_bc), "seed %llu: not associative",
		      (unsigned long long)seed);
	ck_assert_msg(state_equal(&aa, a), "seed %llu: not idempotent",
		      (unsigned long long)seed);
	ck_assert_msg(state_equal(&ab_a, &ab), "seed %llu: not absorbing",
		      (unsigned long long)seed);
	ck_assert_msg(ab_c.object == NULL ||
			      evfs_object_check(ab_c.object, &err) == 0,
		      "seed %llu: %s", (unsigned long long)seed, err.msg);
	state_fini(&ab);
	state_fini(&ba);
	state_fini(&bc);
	state_fini(&ab_c);
	state_fini(&a_bc);
	state_fini(&aa);
	state_fini(&ab_a);
}

/* In the join of all, a dot is there iff nobody who saw it has ended it. */
static void check_ledger(const struct history *history,
			 const struct evfs_object *object, uint64_t seed)
{
	for (size_t i = 0; i < history->n_ledger; i++) {
		const struct history_row *row = &history->ledger[i];
		bool is_there = false;

		if (object != NULL && row->is_version) {
			is_there = evfs_object_find_version(object, row->dot) !=
				   NULL;
		} else if (object != NULL) {
			const struct evfs_link *link =
				evfs_object_find_link(object, &row->link);

			is_there = link != NULL &&
				   evfs_dots_has(&link->alive, row->dot);
		}
		ck_assert_msg(is_there == !row->ended, "seed %llu: %s %s",
			      (unsigned long long)seed,
			      row->is_version ? "version" : "alive",
			      row->ended ? "returned" : "lost");
	}
}

static void check_states(struct history *history, uint64_t seed)
{
	struct state states[HISTORY_REPLICAS], ab, all;

	for (size_t i = 0; i < HISTORY_REPLICAS; i++)
		states[i] = state_copy(&history->replicas[i]);
	check_laws(&states[0], &states[1], &states[2], seed);
	check_laws(&states[1], &states[2], &states[0], seed);
	ab = state_join(&states[0], &states[1]);
	all = state_join(&ab, &states[2]);
	check_ledger(history, all.object, seed);
	state_fini(&ab);
	state_fini(&all);
	for (size_t i = 0; i < HISTORY_REPLICAS; i++)
		state_fini(&states[i]);
}

START_TEST(laws_and_ledger)
{
	static struct history history;
	size_t absent = 0, concurrent = 0;

	for (uint64_t seed = 0; seed < HISTORIES; seed++) {
		history_start(&history, seed);
		for (int step = 0; step < STEPS; step++) {
			history_step(&history);
			if (step % TRIPLE_EACH == 0)
				check_states(&history, seed);
		}
		for (size_t i = 0; i < HISTORY_REPLICAS; i++) {
			struct evfs_object *object = history.replicas[i].object;

			absent += object == NULL;
			concurrent += object != NULL && object->n_versions > 1;
		}
		history_fini(&history);
	}
	/* The histories do reach what the laws are hard for. */
	ck_assert_uint_gt(absent, HISTORIES / 100);
	ck_assert_uint_gt(concurrent, HISTORIES / 100);
}
END_TEST

/* ---- by hand ---- */

#define DOT(node, counter) ((evfs_dot){ { (node), 0 }, (counter) })

static struct evfs_object *new_file(void)
{
	struct evfs_object *object = evfs_object_new(DOT(1, 1), EVFS_KIND_FILE);
	evfs_dot dot = DOT(1, 1);
	struct evfs_link link = {
		.id = { 10, dot },
		.place = { { 10, dot },
			   EVFS_INO_ROOT,
			   EVFS_INO_ROOT,
			   (const uint8_t *)"f",
			   1 },
		.alive = { &dot, 1 },
	};
	struct evfs_version version = { .dot = dot, .time_ns = 10 };

	ck_assert_ptr_nonnull(object);
	ck_assert_int_eq(evfs_object_log_raise(object, dot), 0);
	ck_assert_int_eq(evfs_object_add_link(object, &link), 0);
	ck_assert_int_eq(evfs_object_put_version(object, &version), 0);
	object->change_ns = 10;
	return object;
}

/* Replaces the first version, as a sealed write of this node does. */
static void write_over(struct evfs_object *object, uint64_t node, uint64_t time)
{
	evfs_dot dot = DOT(node, 5), base = object->versions[0].dot;
	struct evfs_version version = { .dot = dot,
					.bases = { &base, 1 },
					.time_ns = time };

	ck_assert_int_eq(evfs_object_log_raise(object, dot), 0);
	evfs_object_remove_version(object, base);
	ck_assert_int_eq(evfs_object_put_version(object, &version), 0);
	ck_assert_int_eq(evfs_object_set_alive(object, &object->links[0], &dot),
			 0);
	object->change_ns = time;
}

START_TEST(concurrent_writes_both_stay)
{
	struct evfs_object *a = new_file(), *b = evfs_object_copy(a), *out;
	struct evfs_context context = { 0 };

	write_over(a, 1, 20);
	write_over(b, 2, 15);
	ck_assert_int_eq(evfs_merge(a, &context, b, &context, &out, NULL), 0);
	ck_assert_uint_eq(out->n_versions, 2);
	ck_assert(evfs_dot_equal(evfs_object_newest_version(out)->dot,
				 DOT(1, 5)));
	ck_assert_uint_eq(out->links[0].alive.n, 2);
	ck_assert_uint_eq(evfs_object_log_get(out, DOT(2, 5).actor), 5);
	ck_assert_uint_eq(out->change_ns, 20);
	evfs_object_free(a);
	evfs_object_free(b);
	evfs_object_free(out);
}
END_TEST

START_TEST(absent_but_covered_means_removed)
{
	struct evfs_object *b = new_file(), *out;
	struct evfs_context knows = { 0 }, empty = { 0 };

	ck_assert_int_eq(evfs_context_raise(&knows, DOT(1, 1).actor, 1), 0);
	ck_assert_int_eq(evfs_merge(NULL, &knows, b, &knows, &out, NULL), 0);
	ck_assert(!evfs_object_is_live(out));
	ck_assert_uint_eq(out->n_versions, 0);
	ck_assert_uint_eq(out->n_links, 1);
	evfs_object_free(out);
	ck_assert_int_eq(evfs_merge(NULL, &empty, b, &knows, &out, NULL), 0);
	ck_assert(evfs_object_equal(out, b));
	evfs_object_free(out);
	ck_assert_int_eq(evfs_merge(b, &knows, NULL, &empty, &out, NULL), 0);
	ck_assert(evfs_object_equal(out, b));
	evfs_object_free(out);
	evfs_object_free(b);
	evfs_context_fini(&knows);
}
END_TEST

START_TEST(other_objects_are_refused)
{
	struct evfs_context context = { 0 };
	struct evfs_object *a = new_file(), *out = NULL;
	struct evfs_object *other = evfs_object_new(DOT(1, 2), EVFS_KIND_FILE);
	struct evfs_object *dir = evfs_object_new(DOT(1, 1), EVFS_KIND_DIR);
	struct evfs_object *target = evfs_object_copy(a);
	struct evfs_object *device = evfs_object_copy(a);
	struct evfs_err err = { 0 };

	ck_assert_int_eq(evfs_object_set_target(target, "x", 1), 0);
	device->rdev = 1;
	ck_assert_int_eq(evfs_merge(a, &context, other, &context, &out, &err),
			 EVFS_ECORRUPT);
	ck_assert_str_eq(err.msg,
			 "object 0000000000000001/0/1: two states differ in "
			 "the inode, which never changes");
	ck_assert_int_eq(evfs_merge(a, &context, dir, &context, &out, NULL),
			 EVFS_ECORRUPT);
	ck_assert_int_eq(evfs_merge(a, &context, target, &context, &out, NULL),
			 EVFS_ECORRUPT);
	ck_assert_int_eq(evfs_merge(a, &context, device, &context, &out, NULL),
			 EVFS_ECORRUPT);
	ck_assert_ptr_null(out);
	evfs_object_free(a);
	evfs_object_free(other);
	evfs_object_free(dir);
	evfs_object_free(target);
	evfs_object_free(device);
}
END_TEST

/* A broken peer says two things with one dot: all replicas still agree. */
START_TEST(one_dot_with_two_values_converges)
{
	struct evfs_object *a = new_file(), *b = evfs_object_copy(a);
	struct evfs_object *ab, *ba;
	struct evfs_context context = { 0 };
	struct evfs_place place = b->links[0].place;

	b->versions[0].size = 1;
	place.name = (const uint8_t *)"g";
	ck_assert_int_eq(evfs_object_set_place(b, &b->links[0], &place), 0);
	ck_assert_int_eq(evfs_merge(a, &context, b, &context, &ab, NULL), 0);
	ck_assert_int_eq(evfs_merge(b, &context, a, &context, &ba, NULL), 0);
	ck_assert(evfs_object_equal(ab, ba));
	ck_assert_uint_eq(ab->links[0].place.name[0], 'g');
	evfs_object_free(a);
	evfs_object_free(b);
	evfs_object_free(ab);
	evfs_object_free(ba);
}
END_TEST

START_TEST(unknown_facts_are_united)
{
	struct evfs_object *a = new_file(), *b = evfs_object_copy(a), *out;
	struct evfs_extra left[] = { { 16, (const uint8_t *)"a", 1 },
				     { 17, (const uint8_t *)"c", 1 } };
	struct evfs_extra right[] = { { 16, (const uint8_t *)"b", 1 },
				      { 17, (const uint8_t *)"c", 1 } };
	struct evfs_context context = { 0 };

	a->extras = left;
	b->extras = right;
	a->n_extras = b->n_extras = 2;
	ck_assert_int_eq(evfs_merge(a, &context, b, &context, &out, NULL), 0);
	ck_assert_uint_eq(out->n_extras, 3);
	ck_assert_uint_eq(out->extras[1].data[0], 'b');
	ck_assert_uint_eq(out->extras[2].field, 17);
	evfs_object_free(a);
	evfs_object_free(b);
	evfs_object_free(out);
}
END_TEST

START_TEST(without_memory_nothing_leaks)
{
	static struct history history;

	for (uint64_t seed = 0; seed < 60; seed++) {
		struct evfs_object *out = NULL, *a, *b;
		struct evfs_context *x, *y;
		int rc = EVFS_ENOMEM;

		history_start(&history, seed);
		for (int step = 0; step < 40; step++)
			history_step(&history);
		a = history.replicas[0].object;
		b = history.replicas[1].object;
		x = &history.replicas[0].context;
		y = &history.replicas[1].context;
		if (a == NULL && b == NULL)
			rc = 0;
		for (uint64_t n = 1; rc != 0; n++) {
			struct evfs_err err = { 0 };

			evfs_mem_fail_after(n);
			rc = evfs_merge(a, x, b, y, &out, &err);
			ck_assert_int_eq(rc,
					 evfs_mem_fail_hit() ? EVFS_ENOMEM : 0);
			ck_assert_int_eq(err.code, rc);
		}
		evfs_mem_fail_after(0);
		evfs_object_free(out);
		history_fini(&history);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("merge");
	TCase *tcase = tcase_create("merge");
	SRunner *runner = srunner_create(suite);
	int failed;

	suite_add_tcase(suite, tcase);
	tcase_set_timeout(tcase, 120);
	tcase_add_test(tcase, laws_and_ledger);
	tcase_add_test(tcase, concurrent_writes_both_stay);
	tcase_add_test(tcase, absent_but_covered_means_removed);
	tcase_add_test(tcase, other_objects_are_refused);
	tcase_add_test(tcase, one_dot_with_two_values_converges);
	tcase_add_test(tcase, unknown_facts_are_united);
	tcase_add_test(tcase, without_memory_nothing_leaks);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
