/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Dots as text and bytes; contexts against a plain map. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "meta/context.h"

START_TEST(dot_text_and_back)
{
	static const char *const bad[] = {
		"",
		"0123456789abcdef/0",
		"0123456789abcdef/0/",
		"0123456789abcdef/0/1 ",
		"0123456789abcde/0/1",
		"0123456789abcdef0/0/1",
		"0123456789ABCDEF/0/1",
		"0123456789abcdef/01/1",
		"0123456789abcdef/-1/1",
		"0123456789abcdef/4294967296/1",
		"0123456789abcdef/0/18446744073709551616",
	};
	evfs_dot dot = { { 0x0123456789abcdef, UINT32_MAX }, UINT64_MAX };
	evfs_dot back = EVFS_INO_NONE;
	char text[EVFS_DOT_TEXT_SIZE];

	evfs_dot_format(dot, text);
	ck_assert_str_eq(text,
			 "0123456789abcdef/4294967295/18446744073709551615");
	ck_assert(evfs_dot_parse(text, &back));
	ck_assert(evfs_dot_equal(dot, back));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		ck_assert_msg(!evfs_dot_parse(bad[i], &back), "%s", bad[i]);
	ck_assert(evfs_dot_equal(dot, back));
	ck_assert(evfs_dot_parse("0000000000000000/0/1", &back));
	ck_assert(evfs_ino_is_root(back));
}
END_TEST

START_TEST(dot_bytes_sort_like_dots)
{
	static const evfs_dot dots[] = {
		{ { 0, 0 }, 1 },	  { { 0, 1 }, 0 },   { { 1, 0 }, 0 },
		{ { 1, 0 }, 255 },	  { { 1, 0 }, 256 }, { { 1, 300 }, 1 },
		{ { 1ull << 63, 0 }, 0 },
	};
	size_t n = sizeof(dots) / sizeof(dots[0]);
	uint8_t a[EVFS_DOT_BYTES], b[EVFS_DOT_BYTES];

	for (size_t i = 0; i < n; i++) {
		evfs_dot_write(dots[i], a);
		ck_assert(evfs_dot_equal(dots[i], evfs_dot_read(a)));
		for (size_t k = i + 1; k < n; k++) {
			evfs_dot_write(dots[k], b);
			ck_assert_int_lt(memcmp(a, b, sizeof(a)), 0);
			ck_assert_int_lt(evfs_dot_cmp(dots[i], dots[k]), 0);
			ck_assert_int_gt(evfs_dot_cmp(dots[k], dots[i]), 0);
		}
	}
}
END_TEST

/* ---- contexts: actors 1 to ACTORS, each once with epoch 0 and once with 1 */

#define ACTORS 12
#define SLOTS (2 * ACTORS)

static evfs_actor actor_of(size_t slot)
{
	return (evfs_actor){ 1 + slot / 2, slot % 2 };
}

static void fill(struct evfs_context *context, uint64_t map[SLOTS])
{
	memset(map, 0, SLOTS * sizeof(*map));
	for (int i = rand() % 30; i > 0; i--) {
		size_t slot = (size_t)rand() % SLOTS;
		uint64_t counter = (uint64_t)rand() % 5;

		ck_assert_int_eq(
			evfs_context_raise(context, actor_of(slot), counter),
			0);
		if (counter > map[slot])
			map[slot] = counter;
	}
}

static void check_map(const struct evfs_context *context,
		      const uint64_t map[SLOTS])
{
	size_t n = 0;

	for (size_t i = 0; i < SLOTS; i++) {
		evfs_dot dot = { actor_of(i), map[i] };

		n += map[i] > 0;
		ck_assert_uint_eq(evfs_context_get(context, actor_of(i)),
				  map[i]);
		ck_assert(evfs_context_covers(context, dot));
		dot.counter++;
		ck_assert(!evfs_context_covers(context, dot));
	}
	ck_assert_uint_eq(context->n, n);
	for (size_t i = 1; i < context->n; i++)
		ck_assert_int_lt(evfs_actor_cmp(context->rows[i - 1].actor,
						context->rows[i].actor),
				 0);
}

START_TEST(context_is_a_map_of_maxima)
{
	srand(1);
	for (int round = 0; round < 3000; round++) {
		struct evfs_context a = { 0 }, b = { 0 }, copy = { 0 };
		uint64_t x[SLOTS], y[SLOTS];
		bool contains = true, equal = true;

		fill(&a, x);
		fill(&b, y);
		check_map(&a, x);
		for (size_t i = 0; i < SLOTS; i++) {
			contains &= x[i] >= y[i];
			equal &= x[i] == y[i];
		}
		ck_assert(evfs_context_contains(&a, &b) == contains);
		ck_assert(evfs_context_equal(&a, &b) == equal);
		ck_assert_int_eq(evfs_context_copy(&copy, &a), 0);
		ck_assert(evfs_context_equal(&copy, &a));
		ck_assert_int_eq(evfs_context_join(&copy, &b), 0);
		for (size_t i = 0; i < SLOTS; i++)
			x[i] = x[i] > y[i] ? x[i] : y[i];
		check_map(&copy, x);
		ck_assert(evfs_context_contains(&copy, &a));
		ck_assert(evfs_context_contains(&copy, &b));
		check_map(&b, y);
		evfs_context_fini(&a);
		evfs_context_fini(&b);
		evfs_context_fini(&copy);
	}
}
END_TEST

START_TEST(context_without_memory_is_unchanged)
{
	struct evfs_context a = { 0 }, b = { 0 };

	for (uint64_t node = 1; node <= 100; node++)
		ck_assert_int_eq(evfs_context_raise(node % 2 ? &a : &b,
						    (evfs_actor){ node, 0 },
						    node),
				 0);
	evfs_mem_fail_after(1);
	ck_assert_int_eq(evfs_context_join(&a, &b), EVFS_ENOMEM);
	ck_assert_uint_eq(a.n, 50);
	ck_assert_uint_eq(evfs_context_get(&a, (evfs_actor){ 99, 0 }), 99);
	evfs_mem_fail_after(0);
	ck_assert_int_eq(evfs_context_join(&a, &b), 0);
	ck_assert_uint_eq(a.n, 100);
	evfs_mem_fail_after(1);
	ck_assert_int_eq(evfs_context_copy(&b, &a), EVFS_ENOMEM);
	ck_assert_uint_eq(b.n, 50);
	evfs_mem_fail_after(0);
	evfs_context_fini(&a);
	evfs_context_fini(&b);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("context");
	TCase *tcase = tcase_create("context");
	SRunner *runner = srunner_create(suite);
	int failed;

	suite_add_tcase(suite, tcase);
	tcase_add_test(tcase, dot_text_and_back);
	tcase_add_test(tcase, dot_bytes_sort_like_dots);
	tcase_add_test(tcase, context_is_a_map_of_maxima);
	tcase_add_test(tcase, context_without_memory_is_unchanged);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
