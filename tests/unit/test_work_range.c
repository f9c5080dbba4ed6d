/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The ranges of a working copy against one flag for each byte. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "fs/work_priv.h"

#define BYTES 6000u

struct model {
	struct evfs_ranges ranges;
	bool own[BYTES];
	uint64_t seed;
};

static uint64_t below(struct model *model, uint64_t n)
{
	model->seed ^= model->seed << 13;
	model->seed ^= model->seed >> 7;
	model->seed ^= model->seed << 17;
	return model->seed % n;
}

/* The first run of set flags that ends behind at. */
static bool run_behind(const struct model *model, size_t at,
		       struct evfs_range *ret)
{
	while (at < BYTES && !model->own[at])
		at++;
	if (at == BYTES)
		return false;
	ret->start = ret->end = at;
	while (ret->start > 0 && model->own[ret->start - 1])
		ret->start--;
	while (ret->end < BYTES && model->own[ret->end])
		ret->end++;
	return true;
}

static void check_list(struct model *model)
{
	struct evfs_range want = { 0, 0 }, *list;
	uint64_t from = below(model, BYTES), size = from;
	bool kept[BYTES];
	size_t n, i = 0;

	size += below(model, BYTES - from + 1);
	/* What lies behind the end is cut before anybody makes a list. */
	evfs_ranges_cut(&model->ranges, size);
	memset(model->own + size, 0, BYTES - size);
	ck_assert_int_eq(evfs_ranges_list(&model->ranges, from, size, &list,
					  &n), 0);
	memcpy(kept, model->own, sizeof(kept));
	memset(model->own + from, 1, size - from);
	while (run_behind(model, (size_t)want.end, &want)) {
		ck_assert_uint_lt(i, n);
		ck_assert_uint_eq(list[i].start, want.start);
		ck_assert_uint_eq(list[i].end, want.end);
		i++;
	}
	ck_assert_uint_eq(i, n);
	memcpy(model->own, kept, sizeof(kept));
	evfs_free(list);
}

static void check_same(const struct model *model)
{
	struct evfs_range want = { 0, 0 }, got;
	size_t n = 0;

	for (uint64_t at = 0; at < BYTES; at++) {
		bool there = run_behind(model, (size_t)at, &want);

		ck_assert_int_eq(evfs_ranges_next(&model->ranges, at, &got),
				 there);
		if (!there)
			break;
		ck_assert_uint_eq(got.start, want.start);
		ck_assert_uint_eq(got.end, want.end);
		ck_assert(evfs_ranges_has(&model->ranges, want.start,
					  want.end));
		ck_assert(!evfs_ranges_has(&model->ranges, want.start,
					   want.end + 1));
		n++;
		at = want.end - 1;
	}
	ck_assert_uint_eq(model->ranges.n, n);
}

static void random_step(struct model *model)
{
	uint64_t at = below(model, BYTES), len = 1;

	switch (below(model, 1500)) {
	case 0: /* leaves nearly all of them, mostly */
		at = BYTES - below(model, BYTES / (1 + below(model, 9)));
		evfs_ranges_cut(&model->ranges, at);
		memset(model->own + at, 0, BYTES - at);
		return;
	case 1:
		len = 1 + below(model, BYTES / 2);
		break;
	case 2:
	case 3:
		len = 1 + below(model, 40);
		break;
	default:
		break;
	}
	if (len > BYTES - at)
		len = BYTES - at;
	ck_assert_int_eq(evfs_ranges_reserve(&model->ranges), 0);
	evfs_ranges_add(&model->ranges, at, at + len);
	memset(model->own + at, 1, len);
}

START_TEST(random_ranges_are_the_flags)
{
	struct model model = { .seed = (uint64_t)_i * 7919 + 17 };
	size_t most = 0;

	for (int i = 0; i < 6000; i++) {
		random_step(&model);
		if (model.ranges.n > most)
			most = model.ranges.n;
		if (i % 100 == 0)
			check_same(&model);
		if (i % 1000 == 999)
			check_list(&model);
	}
	check_same(&model);
	ck_assert_uint_gt(most, 300); /* several leaves */
	evfs_ranges_fini(&model.ranges);
}
END_TEST

/* With a flat list this would move hundreds of gigabytes. */
START_TEST(very_many_are_no_trouble)
{
	const uint64_t n = 400000, step = 179424673; /* a prime */
	struct evfs_ranges ranges = { 0 };
	struct evfs_range range = { 0, 0 };
	uint64_t at = 0;

	for (uint64_t i = 0; i < n; i++) {
		at = (at + step) % n;
		ck_assert_int_eq(evfs_ranges_reserve(&ranges), 0);
		evfs_ranges_add(&ranges, 2 * at, 2 * at + 1);
	}
	ck_assert_uint_eq(ranges.n, n);
	for (uint64_t i = 0; i < n; i++) {
		ck_assert(evfs_ranges_next(&ranges, range.end, &range));
		ck_assert_uint_eq(range.start, 2 * i);
	}
	ck_assert(!evfs_ranges_next(&ranges, range.end, &range));
	ck_assert_int_eq(evfs_ranges_reserve(&ranges), 0);
	evfs_ranges_add(&ranges, 0, 2 * n);
	ck_assert_uint_eq(ranges.n, 1);
	evfs_ranges_fini(&ranges);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("work_range");
	TCase *tcase = tcase_create("work_range");
	SRunner *runner;
	int failed;

	tcase_set_timeout(tcase, 60);
	tcase_add_loop_test(tcase, random_ranges_are_the_flags, 0, 12);
	tcase_add_test(tcase, very_many_are_no_trouble);
	suite_add_tcase(suite, tcase);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
