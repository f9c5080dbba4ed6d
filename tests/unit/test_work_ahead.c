/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Work ahead against cutting from the start: whatever is written in whatever
 * order while the thread is at it, the chunks that it has are those of the
 * bytes that are there; and a working copy seals to the same content. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fs/work_priv.h"
#include "meta/chunker.h"
#include "tests/unit/content_world.h"

#define MIB ((size_t)1 << 20)
#define SIZE (16 * MIB)
#define STEP_MAX (MIB / 2)

/* A file, and what is in it. */
struct bench {
	struct world world;
	struct evfs_workplace place;
	struct evfs_work *work;
	uint8_t *want;          /* SIZE bytes */
	size_t size;
	uint64_t seed;
};

static const struct evfs_work_ident ident = {
	.ino = { { 7, 0 }, 1 },
	.link = { 5, { { 7, 0 }, 1 } },
};

static void bench_open(struct bench *bench, uint64_t seed)
{
	memset(bench, 0, sizeof(*bench));
	bench->seed = seed;
	bench->want = calloc(1, SIZE);
	ck_assert_ptr_nonnull(bench->want);
	world_open(&bench->world, false);
	ck_assert_int_eq(evfs_workplace_init(&bench->place, bench->world.dir,
					     bench->world.content, NULL), 0);
	ck_assert_int_eq(evfs_work_new(&bench->place, &ident, NULL,
				       &bench->work, NULL), 0);
}

static void bench_close(struct bench *bench)
{
	evfs_work_free(bench->work);
	evfs_workplace_fini(&bench->place);
	world_close(&bench->world);
	free(bench->want);
}

/* Over `size` sealed bytes. */
static void bench_open_over(struct bench *bench, uint64_t seed, size_t size)
{
	struct evfs_content_reader *content;
	struct evfs_content_put *put;
	struct evfs_reader *reader;
	evfs_hash name;

	bench_open(bench, seed);
	evfs_work_free(bench->work);
	world_fill(bench->want, size, seed);
	ck_assert_int_eq(evfs_content_write(bench->world.content, bench->want,
					    size, &put, NULL), 0);
	name = *evfs_content_put_name(put);
	world_commit(&bench->world, put, true);
	ck_assert_int_eq(evfs_content_open(bench->world.content, &name, size,
					   &content, NULL), 0);
	reader = evfs_reader_new(content, &name, size);
	ck_assert_ptr_nonnull(reader);
	ck_assert_int_eq(evfs_work_new(&bench->place, &ident, reader,
				       &bench->work, NULL), 0);
	evfs_reader_put(reader);
	bench->size = size;
}

static size_t below(struct bench *bench, size_t n)
{
	return n == 0 ? 0 : (size_t)(world_random(&bench->seed) % n);
}

static void write_at(struct bench *bench, size_t at, size_t len, bool zeros)
{
	if (len > SIZE - at)
		len = SIZE - at;
	if (len == 0)
		return;
	if (zeros)
		memset(bench->want + at, 0, len);
	else
		world_fill(bench->want + at, len, world_random(&bench->seed));
	ck_assert_int_eq(evfs_work_write(bench->work, bench->want + at, len,
					 at, NULL), 0);
	if (at + len > bench->size)
		bench->size = at + len;
}

static void truncate_to(struct bench *bench, size_t size)
{
	if (size < bench->size)
		memset(bench->want + size, 0, bench->size - size);
	ck_assert_int_eq(evfs_work_truncate(bench->work, size, NULL), 0);
	bench->size = size;
}

static void punch(struct bench *bench, size_t at, size_t len)
{
	if (at >= bench->size)
		return;
	if (len > bench->size - at)
		len = bench->size - at;
	memset(bench->want + at, 0, len);
	ck_assert_int_eq(evfs_work_zero(bench->work, at, len, NULL), 0);
}

/* Mostly a writer that goes on; sometimes one that comes back. */
static void step(struct bench *bench)
{
	size_t len = 1 + below(bench, STEP_MAX);

	switch (below(bench, 24)) {
	case 0:
		write_at(bench, below(bench, bench->size), 1 + len / 1000,
			 false);
		break;
	case 1:
		write_at(bench, below(bench, bench->size), len, false);
		break;
	case 2: /* a gap */
		write_at(bench, bench->size + below(bench, SIZE - bench->size),
			 len, false);
		break;
	case 3:
		truncate_to(bench, bench->size - below(bench, bench->size / 4));
		break;
	case 4:
		truncate_to(bench, bench->size +
				   below(bench, SIZE - bench->size) / 8);
		break;
	case 5:
		punch(bench, below(bench, bench->size), len);
		break;
	case 6:
		write_at(bench, bench->size, 3 * len, true);
		break;
	default:
		write_at(bench, bench->size, len, false);
		break;
	}
}

/* How far the thread has come; every chunk of it is true. */
static size_t check_cuts(struct bench *bench)
{
	const struct evfs_cut *cuts;
	size_t at = 0, n;

	if (!bench->work->ahead)
		return 0;
	ck_assert(evfs_ahead_get(bench->work->ahead, &cuts, &n));
	for (size_t i = 0; i < n; i++) {
		size_t len = evfs_chunker_cut(bench->want + at,
					      bench->size - at);
		evfs_hash hash = evfs_hash_content(bench->want + at, len);

		ck_assert_uint_eq(cuts[i].len, len);
		ck_assert(evfs_hash_equal(&cuts[i].hash, &hash));
		at += len;
	}
	ck_assert_uint_le(at, bench->size);
	return at;
}

static void check_sealed(struct bench *bench)
{
	struct evfs_content_put *put, *plain;
	evfs_hash name;
	uint64_t size;

	ck_assert_int_eq(evfs_work_put(bench->work, &put, &name, &size, NULL),
			 0);
	ck_assert_uint_eq(size, bench->size);
	if (bench->size == 0)
		return;
	ck_assert_int_eq(evfs_content_write(bench->world.content, bench->want,
					    bench->size, &plain, NULL), 0);
	ck_assert(evfs_hash_equal(&name, evfs_content_put_name(plain)));
	evfs_content_put_drop(bench->world.content, plain);
	world_commit(&bench->world, put, true);
	world_check(&bench->world, &name, bench->want, bench->size);
	ck_assert_int_eq(world_faults(&bench->world), 0);
}

START_TEST(any_order_of_writes)
{
	struct bench bench;

	if (_i % 3 == 2)
		bench_open_over(&bench, (uint64_t)_i + 1, 10 * MIB + 17);
	else
		bench_open(&bench, (uint64_t)_i + 1);
	write_at(&bench, 0, 5 * MIB, false);
	for (int i = 0; i < 60; i++) {
		step(&bench);
		if (below(&bench, 8) == 0)
			(void)check_cuts(&bench);
	}
	(void)check_cuts(&bench);
	check_sealed(&bench);
	bench_close(&bench);
}
END_TEST

static void write_all(struct bench *bench)
{
	while (bench->size < SIZE)
		write_at(bench, bench->size, MIB, false);
	evfs_ahead_settle(bench->work->ahead);
	ck_assert_uint_ge(check_cuts(bench), SIZE - 3 * MIB);
}

/* Likewise, where all of the base goes; and its beginning only. */
START_TEST(what_is_overwritten_is_done)
{
	struct bench bench;

	bench_open_over(&bench, 4, SIZE - 99);
	for (size_t at = 0; at < SIZE; at += MIB)
		write_at(&bench, at, MIB, false);
	ck_assert_ptr_nonnull(bench.work->ahead);
	evfs_ahead_settle(bench.work->ahead);
	ck_assert_uint_ge(check_cuts(&bench), SIZE - 3 * MIB);
	check_sealed(&bench);
	ck_assert(bench.work->adopted);
	bench_close(&bench);
	bench_open_over(&bench, 5, SIZE);
	for (size_t at = 0; at < 9 * MIB; at += MIB)
		write_at(&bench, at, MIB, false);
	evfs_ahead_settle(bench.work->ahead);
	check_sealed(&bench);
	ck_assert(!bench.work->adopted);
	bench_close(&bench);
}
END_TEST

/* The thread comes as far as it can by itself. */
START_TEST(all_but_the_end_is_done)
{
	struct bench bench;

	bench_open(&bench, 1);
	write_all(&bench);
	check_sealed(&bench);
	/* Sealed, and written again: the store's bytes are not ours. */
	write_at(&bench, MIB, 100, false);
	write_at(&bench, 2 * MIB, 100, false);
	check_sealed(&bench);
	bench_close(&bench);
}
END_TEST

START_TEST(what_changed_is_forgotten)
{
	struct bench bench;

	bench_open(&bench, 1);
	write_all(&bench);
	truncate_to(&bench, 9 * MIB);
	ck_assert_uint_gt(check_cuts(&bench), 8 * MIB);
	punch(&bench, 7 * MIB, 1);
	ck_assert_uint_gt(check_cuts(&bench), 6 * MIB);
	write_at(&bench, 5 * MIB, 1, false);
	ck_assert_uint_gt(check_cuts(&bench), 4 * MIB);
	write_at(&bench, 10 * MIB, 1, false);
	ck_assert_uint_gt(check_cuts(&bench), 4 * MIB);
	check_sealed(&bench);
	bench_close(&bench);
}
END_TEST

/* Freed at any moment of the thread's. */
START_TEST(many_files_come_and_go)
{
	struct bench bench;
	FILE *file = tmpfile();
	uint8_t *data = world_bytes(SIZE, 3);
	struct evfs_ahead *aheads[4] = { 0 };

	ck_assert_ptr_nonnull(file);
	ck_assert_int_eq(pwrite(fileno(file), data, SIZE, 0), (ssize_t)SIZE);
	bench_open(&bench, 9);
	for (int i = 0; i < 400; i++) {
		struct evfs_ahead **ahead = &aheads[below(&bench, 4)];
		size_t at = below(&bench, SIZE);

		if (*ahead && below(&bench, 3) == 0) {
			evfs_ahead_free(*ahead);
			*ahead = NULL;
		} else if (*ahead) {
			evfs_ahead_changed(*ahead, at, SIZE - at / 2);
		} else {
			*ahead = evfs_ahead_new(&bench.place.aheads,
						fileno(file));
			ck_assert_ptr_nonnull(*ahead);
			evfs_ahead_changed(*ahead, 0, SIZE);
		}
	}
	for (int i = 0; i < 4; i++)
		evfs_ahead_free(aheads[i]);
	bench_close(&bench);
	free(data);
	(void)fclose(file);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("work_ahead");
	TCase *tcase = tcase_create("work_ahead");
	SRunner *runner;
	int failed;

	tcase_set_timeout(tcase, 60);
	tcase_add_loop_test(tcase, any_order_of_writes, 0, 12);
	tcase_add_test(tcase, all_but_the_end_is_done);
	tcase_add_test(tcase, what_is_overwritten_is_done);
	tcase_add_test(tcase, what_changed_is_forgotten);
	tcase_add_test(tcase, many_files_come_and_go);
	suite_add_tcase(suite, tcase);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
