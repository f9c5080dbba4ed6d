/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Writers, readers, syncs, reclamation and verification at once. For TSan, and
 * for whoever takes something away too early. */
#include <check.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "meta/content_priv.h"
#include "tests/unit/content_world.h"

#define WRITERS 3
#define ROUNDS 60
#define SIZE_MAX_ 700000u

struct shared {
	struct world world;
	atomic_int running; /* writers */
};

struct writer {
	struct shared *shared;
	uint64_t seed;
};

/* Puts, reads back, drops; contents of few seeds, so that they meet. */
static void *write_and_drop(void *arg)
{
	struct writer *writer = arg;
	struct world world = writer->shared->world; /* its own err */
	uint8_t *data = malloc(SIZE_MAX_), *out = malloc(SIZE_MAX_);

	for (int i = 0; i < ROUNDS; i++) {
		size_t size = 1 + world_random(&writer->seed) % SIZE_MAX_;
		struct evfs_content_reader *reader;
		evfs_hash name;
		size_t got;

		if (i % 2)
			size %= 5000;
		world_fill(data, size, world_random(&writer->seed) % 3);
		name = world_put(&world, data, size, true);
		ck_assert_int_eq(evfs_content_open(world.content, &name, size,
						   &reader, &world.err), 0);
		world_unref(&world, &name);
		if (i % 5 == 0)
			world_sync(&world);
		ck_assert_int_eq(evfs_content_read(reader, out, size, 0, &got,
						   &world.err), 0);
		ck_assert_uint_eq(got, size);
		ck_assert(memcmp(out, data, size) == 0);
		evfs_content_close(reader);
	}
	free(data);
	free(out);
	atomic_fetch_sub(&writer->shared->running, 1);
	return NULL;
}

static void *reclaim(void *arg)
{
	struct shared *shared = arg;
	struct evfs_err err = { 0 };
	bool more;

	while (atomic_load(&shared->running) > 0)
		ck_assert_msg(evfs_content_reclaim(shared->world.content,
						   4u << 20, &more,
						   &err) == 0,
			      "%s", err.msg);
	return NULL;
}

static void no_damage(void *arg, const evfs_hash *chunk, const char *why)
{
	(void)arg;
	(void)chunk;
	ck_abort_msg("damage: %s", why);
}

static void *verify(void *arg)
{
	struct shared *shared = arg;
	evfs_hash cursor = EVFS_CONTENT_EMPTY;
	bool done;

	while (atomic_load(&shared->running) > 0)
		ck_assert_int_eq(evfs_content_verify(shared->world.content,
						     &cursor, 4u << 20, &done,
						     no_damage, NULL, NULL),
				 0);
	return NULL;
}

START_TEST(all_at_once)
{
	struct writer writers[WRITERS];
	pthread_t threads[WRITERS + 2];
	struct shared shared;

	world_open(&shared.world, _i);
	atomic_init(&shared.running, WRITERS);
	for (size_t i = 0; i < WRITERS; i++) {
		writers[i] = (struct writer){ &shared, i };
		ck_assert_int_eq(pthread_create(&threads[i], NULL,
						write_and_drop, &writers[i]),
				 0);
	}
	ck_assert_int_eq(pthread_create(&threads[WRITERS], NULL, reclaim,
					&shared), 0);
	ck_assert_int_eq(pthread_create(&threads[WRITERS + 1], NULL, verify,
					&shared), 0);
	for (size_t i = 0; i < WRITERS + 2; i++)
		pthread_join(threads[i], NULL);
	ck_assert_int_eq(world_faults(&shared.world), 0);
	world_reclaim(&shared.world);
	ck_assert_uint_eq(world_stats(&shared.world).bytes, 0);
	ck_assert_int_eq(world_faults(&shared.world), 0);
	world_close(&shared.world);
}
END_TEST

/* Several readers of one reader, which looks its places up meanwhile. */
struct reading {
	struct evfs_content_reader *reader;
	const uint8_t *data;
	size_t size;
	uint64_t seed;
};

static void *read_parts(void *arg)
{
	struct reading *reading = arg;
	uint8_t *out = malloc(300000);

	for (int i = 0; i < 200; i++) {
		uint64_t at = world_random(&reading->seed) % reading->size;
		size_t got;

		ck_assert_int_eq(evfs_content_read(reading->reader, out,
						   300000, at, &got, NULL),
				 0);
		ck_assert(memcmp(out, reading->data + at, got) == 0);
	}
	free(out);
	return NULL;
}

START_TEST(one_reader_many_threads)
{
	size_t size = 24u << 20;
	uint8_t *data = world_bytes(size, 1);
	struct evfs_content_reader *reader;
	struct reading readings[4];
	pthread_t threads[4];
	struct world world;
	evfs_hash name;

	world_open(&world, _i);
	name = world_put(&world, data, size, true);
	ck_assert_int_eq(evfs_content_open(world.content, &name, size, &reader,
					   NULL), 0);
	for (size_t i = 0; i < 4; i++) {
		readings[i] = (struct reading){ reader, data, size, i };
		ck_assert_int_eq(pthread_create(&threads[i], NULL, read_parts,
						&readings[i]), 0);
	}
	for (size_t i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	evfs_content_close(reader);
	world_close(&world);
	free(data);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("content_threads");
	TCase *tcase = tcase_create("content_threads");
	SRunner *runner;
	int failed;

	tcase_set_timeout(tcase, 120);
	tcase_add_loop_test(tcase, all_at_once, 0, 2);
	tcase_add_loop_test(tcase, one_reader_many_threads, 0, 2);
	suite_add_tcase(suite, tcase);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
