/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Readers of one content that come to the same chunk at once: it is read and
 * checked by one of them, and all are told what was found. */
#include <check.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tests/unit/content_world.h"

#define THREADS 4
#define ROUNDS 40
#define STEP (64u << 10)

static atomic_uint_fast64_t checked; /* bytes, but for short last chunks */

/* The database reads pages, which are shorter than a chunk. */
ssize_t pread(int fd, void *data, size_t len, off_t offset)
{
	if (len >= EVFS_CHUNK_MIN)
		atomic_fetch_add(&checked, len);
	return syscall(SYS_pread64, fd, data, len, offset);
}

struct reading {
	struct evfs_content_reader *reader;
	pthread_barrier_t *begin;
	uint64_t size;
	int result;
};

/* Where the bytes lie, as for a splice: what is read is read to be checked. */
static void *look_at_all(void *arg)
{
	struct reading *reading = arg;
	uint64_t at, place, len;
	int fd;

	pthread_barrier_wait(reading->begin);
	for (at = 0; at < reading->size && reading->result == 0; at += len) {
		reading->result = evfs_content_extent(reading->reader, at,
						      STEP, &fd, &place, &len,
						      NULL);
		if (reading->result == 0)
			ck_assert_uint_gt(len, 0);
	}
	return NULL;
}

/* Several threads on one reader of a content of that size. */
static void read_at_once(struct world *world, const evfs_hash *name,
			 uint64_t size, int result)
{
	struct evfs_content_reader *reader;
	struct reading readings[THREADS];
	pthread_t threads[THREADS];
	pthread_barrier_t begin;

	ck_assert_int_eq(evfs_content_open(world->content, name, size, &reader,
					   NULL), 0);
	ck_assert_int_eq(pthread_barrier_init(&begin, NULL, THREADS), 0);
	for (size_t i = 0; i < THREADS; i++) {
		readings[i] = (struct reading){ reader, &begin, size, 0 };
		ck_assert_int_eq(pthread_create(&threads[i], NULL, look_at_all,
						&readings[i]), 0);
	}
	for (size_t i = 0; i < THREADS; i++) {
		pthread_join(threads[i], NULL);
		ck_assert_int_eq(readings[i].result, result);
	}
	pthread_barrier_destroy(&begin);
	evfs_content_close(reader);
}

START_TEST(each_chunk_is_checked_once)
{
	size_t size = 8u << 20;
	uint8_t *data = world_bytes(size, 1);
	struct world world;
	evfs_hash name;

	world_open(&world, false);
	name = world_put(&world, data, size, true);
	for (int i = 0; i < 10; i++) {
		atomic_store(&checked, 0);
		read_at_once(&world, &name, size, 0);
		ck_assert_uint_gt(atomic_load(&checked), size / 2);
		ck_assert_uint_le(atomic_load(&checked), size);
	}
	world_close(&world);
	free(data);
}
END_TEST

START_TEST(all_are_told_of_damage)
{
	size_t size = 30000; /* one chunk */
	uint8_t *data = world_bytes(size, 1);

	for (int i = 0; i < ROUNDS; i++) {
		struct world world;
		evfs_hash name;

		world_open(&world, false);
		name = world_put(&world, data, size, true);
		world_damage(&world, "segments");
		read_at_once(&world, &name, size, EVFS_ECORRUPT);
		world_close(&world);
	}
	free(data);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("content_check");
	TCase *tcase = tcase_create("content_check");
	SRunner *runner;
	int failed;

	tcase_set_timeout(tcase, 60);
	tcase_add_test(tcase, each_chunk_is_checked_once);
	tcase_add_test(tcase, all_are_told_of_damage);
	suite_add_tcase(suite, tcase);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
