/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Working copies against a plain array of bytes: memory, overlay, overlay over
 * a sealed base; sealing; recovery after a crash; holes. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "fs/work_priv.h"
#include "tests/unit/content_world.h"

#define KIB ((uint64_t)1 << 10)
#define MIB ((uint64_t)1 << 20)
#define SIZE_MAX_ (512 * KIB)
#define STEPS 300

/* A store, a place, one working copy and what it should hold. */
struct bench {
	struct world world;
	struct evfs_workplace place;
	struct evfs_reader *base; /* or NULL */
	struct evfs_work *work;
	uint8_t *want;            /* SIZE_MAX_ bytes */
	uint64_t size;
	uint64_t seed;
};

static const struct evfs_work_ident ident_plain = {
	.ino = { { 7, 0 }, 1 },
	.link = { 5, { { 7, 0 }, 1 } },
};

static void bench_open(struct bench *bench, uint64_t base_size,
		       uint64_t memory_max, uint64_t seed)
{
	struct evfs_content_reader *reader;
	struct evfs_work_ident ident = ident_plain;
	evfs_dot base_dot = { { 8, 0 }, 3 };
	evfs_hash name;

	memset(bench, 0, sizeof(*bench));
	bench->seed = seed;
	bench->want = calloc(1, SIZE_MAX_);
	ck_assert_ptr_nonnull(bench->want);
	world_open(&bench->world, false);
	ck_assert_int_eq(evfs_workplace_init(&bench->place, bench->world.dir,
					     bench->world.content, NULL), 0);
	bench->place.memory_max = memory_max;
	ident.base = &base_dot;
	ident.n_base = 1;
	if (base_size > 0) {
		world_fill(bench->want, base_size, seed);
		name = world_put(&bench->world, bench->want, base_size, true);
		ck_assert_int_eq(evfs_content_open(bench->world.content,
						   &name, base_size, &reader,
						   NULL), 0);
		bench->base = evfs_reader_new(reader, &name, base_size);
		ident.has_content = true;
		ident.content = name;
		ident.size = base_size;
		bench->size = base_size;
	}
	ck_assert_int_eq(evfs_work_new(&bench->place, &ident, bench->base,
				       &bench->work, NULL), 0);
}

static void bench_close(struct bench *bench)
{
	evfs_work_free(bench->work);
	evfs_reader_put(bench->base);
	evfs_workplace_fini(&bench->place);
	world_close(&bench->world);
	free(bench->want);
}

static void check_all(struct bench *bench, struct evfs_work *work)
{
	uint8_t *got = malloc(SIZE_MAX_);
	size_t len = 0;

	ck_assert_ptr_nonnull(got);
	ck_assert_uint_eq(evfs_work_size(work), bench->size);
	ck_assert_int_eq(evfs_work_read(work, got, SIZE_MAX_, 0, &len, NULL),
			 0);
	ck_assert_uint_eq(len, bench->size);
	ck_assert_int_eq(memcmp(got, bench->want, len), 0);
	free(got);
}

static uint64_t below(struct bench *bench, uint64_t n)
{
	return world_random(&bench->seed) % n;
}

static void one_write(struct bench *bench, uint64_t at, uint64_t len)
{
	uint8_t *data = world_bytes(len, bench->seed);

	ck_assert_int_eq(evfs_work_write(bench->work, data, len, at, NULL),
			 0);
	if (at > bench->size)
		memset(bench->want + bench->size, 0, at - bench->size);
	memcpy(bench->want + at, data, len);
	if (at + len > bench->size)
		bench->size = at + len;
	free(data);
}

static void one_truncate(struct bench *bench, uint64_t size)
{
	ck_assert_int_eq(evfs_work_truncate(bench->work, size, NULL), 0);
	if (size > bench->size)
		memset(bench->want + bench->size, 0, size - bench->size);
	bench->size = size;
}

static void one_zero(struct bench *bench, uint64_t at, uint64_t len)
{
	ck_assert_int_eq(evfs_work_zero(bench->work, at, len, NULL), 0);
	if (at < bench->size)
		memset(bench->want + at, 0,
		       at + len < bench->size ? len : bench->size - at);
}

/* Outside of what is called data there are only zeros. */
static void check_holes(struct bench *bench)
{
	uint64_t at = 0, data, hole;

	while (at < bench->size) {
		data = evfs_work_seek(bench->work, at, false);
		while (at < data && bench->want[at] == 0)
			at++;
		ck_assert_uint_eq(at, data);
		if (data >= bench->size)
			break;
		hole = evfs_work_seek(bench->work, data, true);
		ck_assert_uint_gt(hole, data);
		at = hole;
	}
}

static void random_steps(struct bench *bench, int steps)
{
	for (int i = 0; i < steps; i++) {
		uint64_t at = below(bench, SIZE_MAX_ / 2);
		uint64_t len = 1 + below(bench, below(bench, 2) ? 100 : 60000);

		switch (below(bench, 8)) {
		case 0:
			one_truncate(bench, at);
			break;
		case 1:
			one_zero(bench, at, len);
			break;
		case 2:
			check_holes(bench);
			break;
		default:
			one_write(bench, at, len);
		}
		if (i % 16 == 0)
			check_all(bench, bench->work);
	}
	check_all(bench, bench->work);
}

/* Seals it: the content store must have the same bytes under the name that
 * they have when they are put whole. */
static void check_seal(struct bench *bench)
{
	struct evfs_content_put *put;
	evfs_hash name, want;
	uint64_t size;

	ck_assert_int_eq(evfs_work_put(bench->work, &put, &name, &size, NULL),
			 0);
	ck_assert_uint_eq(size, bench->size);
	if (put) {
		name = world_commit(&bench->world, put, true);
		world_check(&bench->world, &name, bench->want, bench->size);
	}
	want = world_put(&bench->world, bench->want, bench->size, true);
	ck_assert(evfs_hash_equal(&name, &want));
}

/* Rows: base size, most bytes in memory. */
static const uint64_t shapes[][2] = {
	{ 0, SIZE_MAX_ }, { 0, 16 * KIB }, { 0, 0 }, { 8 * KIB, SIZE_MAX_ },
	{ 200 * KIB, 16 * KIB }, { 300 * KIB + 5, 1 }
};
#define N_SHAPES (int)(sizeof(shapes) / sizeof(shapes[0]))

START_TEST(random_use_equals_plain_bytes)
{
	struct bench bench;

	for (uint64_t seed = 1; seed <= 3; seed++) {
		bench_open(&bench, shapes[_i][0], shapes[_i][1], seed * 100);
		random_steps(&bench, STEPS);
		check_seal(&bench);
		bench_close(&bench);
	}
}
END_TEST

/* A seal that failed after the store took the file: the copy goes on. */
START_TEST(writing_goes_on_after_a_lost_put)
{
	struct evfs_content_put *put;
	struct bench bench;
	evfs_hash name;
	uint64_t size;

	bench_open(&bench, 0, 1, 5);
	one_write(&bench, 0, 400 * KIB);
	ck_assert_int_eq(evfs_work_put(bench.work, &put, &name, &size, NULL),
			 0);
	evfs_content_put_drop(bench.world.content, put);
	random_steps(&bench, 40);
	check_seal(&bench);
	bench_close(&bench);
}
END_TEST

START_TEST(untouched_keeps_its_name)
{
	struct evfs_content_put *put;
	struct bench bench;
	evfs_hash name;
	uint64_t size;

	bench_open(&bench, 100 * KIB, 1, 6);
	ck_assert_int_eq(evfs_work_put(bench.work, &put, &name, &size, NULL),
			 0);
	ck_assert_ptr_null(put);
	ck_assert(evfs_hash_equal(&name, &bench.base->content));
	ck_assert_uint_eq(evfs_work_own_bytes(bench.work), 0);
	bench_close(&bench);
}
END_TEST

/* ---- one over another ---- */

/* The work is frozen and returned, and the bench goes on with one over it; *ret:
 * what the frozen one holds, as a bench of its own. */
static struct evfs_work *lay_another(struct bench *bench, struct bench *ret)
{
	struct evfs_work *under = bench->work;

	*ret = *bench;
	ret->want = malloc(SIZE_MAX_);
	ck_assert_ptr_nonnull(ret->want);
	memcpy(ret->want, bench->want, SIZE_MAX_);
	ck_assert_int_eq(evfs_work_over(under, &bench->work, NULL), 0);
	return under;
}

/* The frozen one is sealed, and the other lies over that. */
static void seal_under(struct bench *bench, struct bench *under)
{
	evfs_dot base_dot = { { 8, 0 }, 3 };
	struct evfs_work_ident ident = ident_plain;
	struct evfs_content_reader *reader;
	struct evfs_reader *base = NULL;
	struct evfs_content_put *put;

	ident.base = &base_dot;
	ident.n_base = 1;
	ck_assert_int_eq(evfs_work_put(under->work, &put, &ident.content,
				       &ident.size, NULL), 0);
	ck_assert_uint_eq(ident.size, under->size);
	if (put)
		(void)world_commit(&bench->world, put, true);
	world_check(&bench->world, &ident.content, under->want, under->size);
	if (!evfs_work_is_complete(bench->work)) {
		ck_assert_int_eq(evfs_content_open(bench->world.content,
						   &ident.content, ident.size,
						   &reader, NULL), 0);
		base = evfs_reader_new(reader, &ident.content, ident.size);
	}
	ck_assert_int_eq(evfs_work_rebase(bench->work, &ident, base, NULL), 0);
	evfs_reader_put(base);
	evfs_work_free(under->work);
	free(under->want);
}

/* The rows of shapes that end in files. */
static const int in_files[] = { 1, 2, 4, 5 };
#define N_IN_FILES (int)(sizeof(in_files) / sizeof(in_files[0]))

START_TEST(writing_goes_on_while_it_is_put)
{
	const uint64_t *shape = shapes[in_files[_i]];
	struct bench bench, under;

	for (uint64_t seed = 1; seed <= 3; seed++) {
		bench_open(&bench, shape[0], shape[1], seed * 200);
		one_write(&bench, 1000, 100 * KIB);
		for (int round = 0; round < 4; round++) {
			random_steps(&bench, 40);
			under.work = lay_another(&bench, &under);
			if (round == 3)
				one_truncate(&bench, 0);
			random_steps(&bench, round * 40);
			check_all(&under, under.work);
			seal_under(&bench, &under);
			check_all(&bench, bench.work);
		}
		random_steps(&bench, 40);
		check_seal(&bench);
		bench_close(&bench);
	}
}
END_TEST

START_TEST(another_takes_up_the_same_room)
{
	struct bench bench, under;
	uint64_t room;

	bench_open(&bench, 200 * KIB, 1, 60);
	one_write(&bench, 300 * KIB, 40 * KIB);
	room = evfs_work_room(bench.work);
	ck_assert_uint_lt(room, bench.size); /* there is a hole */
	under.work = lay_another(&bench, &under);
	ck_assert_uint_eq(evfs_work_room(bench.work), room);
	one_write(&bench, 400 * KIB, 20 * KIB);
	ck_assert_uint_gt(evfs_work_room(bench.work), room);
	seal_under(&bench, &under);
	ck_assert_uint_gt(evfs_work_room(bench.work), room);
	ck_assert_uint_lt(evfs_work_room(bench.work), bench.size);
	bench_close(&bench);
}
END_TEST

START_TEST(adopted_content_is_shared)
{
	struct evfs_work *whole = NULL;
	struct bench bench;

	bench_open(&bench, 100 * KIB, 1, 7);
	ck_assert_int_eq(evfs_work_new(&bench.place, &ident_plain, NULL,
				       &whole, NULL), 0);
	ck_assert_int_eq(evfs_work_adopt(whole, bench.base, NULL), 0);
	ck_assert_uint_eq(evfs_work_own_bytes(whole), 0);
	check_all(&bench, whole);
	evfs_work_free(bench.work);
	bench.work = whole;
	random_steps(&bench, 30);
	check_seal(&bench);
	bench_close(&bench);
}
END_TEST

/* ---- recovery ---- */

struct found {
	struct bench *bench;
	unsigned n;
};

static int found_cb(void *arg, const struct evfs_work_ident *ident,
		    struct evfs_work *work, int64_t mtime_s,
		    uint32_t mtime_ns)
{
	struct found *found = arg;

	(void)mtime_ns;
	ck_assert_ptr_nonnull(work);
	ck_assert_int_gt(mtime_s, 0);
	ck_assert(evfs_dot_equal(ident->ino, ident_plain.ino));
	ck_assert_int_eq(evfs_stamp_cmp(&ident->link, &ident_plain.link), 0);
	ck_assert_uint_eq(ident->n_base, 1);
	ck_assert_uint_eq(ident->base[0].counter, 3);
	check_all(found->bench, work);
	found->n++;
	evfs_work_release(work);
	evfs_work_free(work);
	return 0;
}

START_TEST(a_crash_loses_nothing_that_was_on_disk)
{
	struct found found = { 0 };
	struct evfs_workplace again;
	struct bench bench;

	bench_open(&bench, shapes[_i][0], 1, 40);
	random_steps(&bench, 60);
	found.bench = &bench;
	/* The first owner is still there, as after kill -9 its files are. */
	ck_assert_int_eq(evfs_workplace_init(&again, bench.world.dir,
					     bench.world.content, NULL), 0);
	ck_assert_int_eq(evfs_work_recover(&again, found_cb, &found, NULL),
			 0);
	ck_assert_uint_eq(found.n, 1);
	ck_assert_int_eq(evfs_work_recover(&again, found_cb, &found, NULL),
			 0);
	ck_assert_uint_eq(found.n, 1);
	evfs_workplace_fini(&again);
	bench_close(&bench);
}
END_TEST

/* ---- kept ---- */

static bool has_files(struct bench *bench, uint64_t number)
{
	evfs_cleanup_free char *path =
		evfs_work_path(&bench->place, number, "");
	evfs_cleanup_free char *log =
		evfs_work_path(&bench->place, number, ".log");
	bool has = access(path, F_OK) == 0;

	ck_assert_int_eq(has, access(log, F_OK) == 0);
	return has;
}

struct kept {
	struct bench *bench;
	unsigned n;      /* copies found */
	int64_t mtime_s; /* of the last one */
	uint32_t mtime_ns;
};

static int kept_cb(void *arg, const struct evfs_work_ident *ident,
		   struct evfs_work *work, int64_t mtime_s, uint32_t mtime_ns)
{
	struct kept *kept = arg;

	(void)ident;
	ck_assert_ptr_nonnull(work);
	check_all(kept->bench, work);
	kept->n++;
	kept->mtime_s = mtime_s;
	kept->mtime_ns = mtime_ns;
	ck_assert(evfs_work_is_kept(work)); /* so nothing is removed */
	evfs_work_free(work);
	return 0;
}

/* What a start would find now. */
static struct kept after_a_crash(struct bench *bench)
{
	struct kept kept = { .bench = bench };
	struct evfs_workplace again;

	ck_assert_int_eq(evfs_workplace_init(&again, bench->world.dir,
					     bench->world.content, NULL), 0);
	ck_assert_int_eq(evfs_work_recover(&again, kept_cb, &kept, NULL), 0);
	evfs_workplace_fini(&again);
	return kept;
}

/* Until the lower one is sealed it is the only one that is found, and from then
 * on the upper one, which is all that is left. */
START_TEST(a_crash_finds_one_of_two)
{
	const uint64_t *shape = shapes[in_files[_i]];
	struct bench bench, under;

	for (int sealed = 0; sealed < 2; sealed++) {
		bench_open(&bench, shape[0], shape[1], 50);
		one_write(&bench, 1000, 100 * KIB);
		random_steps(&bench, 30);
		under.work = lay_another(&bench, &under);
		random_steps(&bench, 30);
		one_truncate(&bench, 5000 + below(&bench, 100000));
		random_steps(&bench, 30);
		ck_assert_uint_eq(evfs_work_number(bench.work), 0);
		if (sealed) {
			seal_under(&bench, &under);
			random_steps(&bench, 10);
			ck_assert_uint_ne(evfs_work_number(bench.work), 0);
			ck_assert_uint_eq(after_a_crash(&bench).n, 1);
		} else {
			ck_assert_uint_eq(after_a_crash(&under).n, 1);
			evfs_work_free(bench.work);
			bench.work = under.work;
			free(under.want);
		}
		bench_close(&bench);
	}
}
END_TEST

START_TEST(what_is_kept_outlives_its_owner)
{
	struct bench bench;
	struct kept kept;

	bench_open(&bench, 0, 1, 70);
	one_write(&bench, 0, 300 * KIB);
	ck_assert_int_eq(evfs_work_keep(bench.work, 1234, 567, NULL), 0);
	ck_assert(evfs_work_is_kept(bench.work));
	kept = after_a_crash(&bench);
	ck_assert_uint_eq(kept.n, 1);
	ck_assert_int_eq(kept.mtime_s, 1234);
	ck_assert_uint_eq(kept.mtime_ns, 567);
	/* Written again in the same place: that is another time. */
	one_write(&bench, 1000, 1000);
	kept = after_a_crash(&bench);
	ck_assert_uint_eq(kept.n, 1);
	ck_assert_int_gt(kept.mtime_s, 1234);
	evfs_work_free(evfs_steal(bench.work));
	ck_assert_uint_eq(after_a_crash(&bench).n, 1);
	bench_close(&bench);
}
END_TEST

/* The content store has it, but nobody knows for how long. */
START_TEST(what_is_kept_stays_when_it_is_put)
{
	struct evfs_content_put *put;
	uint64_t number, size;
	struct bench bench;
	evfs_hash name;

	bench_open(&bench, 0, 1, 80);
	evfs_free(bench.want);
	bench.want = NULL;
	{
		uint8_t *data = world_bytes(8 * MIB, 81);

		ck_assert_int_eq(evfs_work_write(bench.work, data, 8 * MIB, 0,
						 NULL), 0);
		free(data);
	}
	number = evfs_work_number(bench.work);
	ck_assert_int_eq(evfs_work_keep(bench.work, 1, 0, NULL), 0);
	ck_assert_int_eq(evfs_work_put(bench.work, &put, &name, &size, NULL),
			 0);
	ck_assert(bench.work->adopted && bench.work->shared);
	ck_assert(has_files(&bench, number));
	/* A write gets a copy, which is as safe as the first. */
	ck_assert_int_eq(evfs_work_write(bench.work, "x", 1, 0, NULL), 0);
	ck_assert_uint_ne(evfs_work_number(bench.work), number);
	ck_assert(!has_files(&bench, number));
	number = evfs_work_number(bench.work);
	ck_assert(evfs_work_is_kept(bench.work));
	evfs_content_put_drop(bench.world.content, put);
	evfs_work_release(bench.work);
	evfs_work_free(evfs_steal(bench.work));
	ck_assert(!has_files(&bench, number));
	bench_close(&bench);
}
END_TEST

START_TEST(an_overlay_without_log_is_removed)
{
	evfs_cleanup_free char *log = NULL, *overlay = NULL;
	struct found found = { 0 };
	struct evfs_workplace again;
	struct bench bench;

	bench_open(&bench, 0, 1, 60);
	one_write(&bench, 0, 5000);
	log = evfs_work_path(&bench.place, bench.work->number, ".log");
	overlay = evfs_work_path(&bench.place, bench.work->number, "");
	ck_assert_int_eq(access(overlay, F_OK), 0);
	ck_assert_int_eq(unlink(log), 0);
	ck_assert_int_eq(evfs_workplace_init(&again, bench.world.dir,
					     bench.world.content, NULL), 0);
	ck_assert_int_eq(evfs_work_recover(&again, found_cb, &found, NULL),
			 0);
	ck_assert_uint_eq(found.n, 0);
	ck_assert_int_ne(access(overlay, F_OK), 0);
	evfs_workplace_fini(&again);
	bench_close(&bench);
}
END_TEST

/* A log that is cut anywhere is read up to there, and never more. */
START_TEST(a_cut_log_is_read_up_to_the_cut)
{
	struct evfs_workplace again;
	evfs_cleanup_free char *path = NULL;
	struct bench bench;
	long len;
	FILE *file;

	bench_open(&bench, 0, 1, 50);
	one_write(&bench, 0, 5000);
	path = evfs_work_path(&bench.place, bench.work->number, ".log");
	file = fopen(path, "re");
	ck_assert_ptr_nonnull(file);
	ck_assert_int_eq(fseek(file, 0, SEEK_END), 0);
	len = ftell(file);
	(void)fclose(file);
	one_write(&bench, 200000, 5000);
	ck_assert_int_eq(truncate(path, len + 5), 0);
	bench.size = 5000;
	ck_assert_int_eq(evfs_workplace_init(&again, bench.world.dir,
					     bench.world.content, NULL), 0);
	{
		struct found found = { .bench = &bench };

		ck_assert_int_eq(evfs_work_recover(&again, found_cb, &found,
						   NULL), 0);
		ck_assert_uint_eq(found.n, 1);
	}
	evfs_workplace_fini(&again);
	bench_close(&bench);
}
END_TEST

START_TEST(the_disks_reserve_is_left_alone)
{
	struct evfs_err err = { 0 };
	struct bench bench;

	bench_open(&bench, 0, SIZE_MAX_, 60);
	bench.place.reserve_bytes = UINT64_MAX / 2;
	ck_assert_int_eq(evfs_work_write(bench.work, "x", 1, 0, &err),
			 EVFS_ENOSPACE);
	ck_assert_ptr_nonnull(strstr(err.msg, "reserve_free"));
	bench.place.reserve_bytes = 0;
	ck_assert_int_eq(evfs_work_write(bench.work, "x", 1, 0, NULL), 0);
	bench_close(&bench);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("work");
	TCase *cases = tcase_create("work");
	SRunner *runner;
	int failed;

	tcase_set_timeout(cases, 60);
	tcase_add_loop_test(cases, random_use_equals_plain_bytes, 0, N_SHAPES);
	tcase_add_test(cases, writing_goes_on_after_a_lost_put);
	tcase_add_test(cases, untouched_keeps_its_name);
	tcase_add_loop_test(cases, writing_goes_on_while_it_is_put, 0,
			    N_IN_FILES);
	tcase_add_test(cases, another_takes_up_the_same_room);
	tcase_add_loop_test(cases, a_crash_finds_one_of_two, 0, N_IN_FILES);
	tcase_add_test(cases, adopted_content_is_shared);
	tcase_add_test(cases, an_overlay_without_log_is_removed);
	tcase_add_test(cases, what_is_kept_outlives_its_owner);
	tcase_add_test(cases, what_is_kept_stays_when_it_is_put);
	tcase_add_loop_test(cases, a_crash_loses_nothing_that_was_on_disk, 3,
			    N_SHAPES);
	tcase_add_test(cases, a_cut_log_is_read_up_to_the_cut);
	tcase_add_test(cases, the_disks_reserve_is_left_alone);
	suite_add_tcase(suite, cases);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
