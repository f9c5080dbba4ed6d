/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Write-behind: what is sent, waited for and dropped, in which order; and what
 * a failed write that it meets does to containers. The two system calls are
 * watched, and made to fail. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/behind.h"
#include "meta/segment.h"
#include "tests/unit/content_world.h"

#define MIB ((uint64_t)1 << 20)
#define UNDER_WAY_MAX (40 * MIB)

static uint64_t sent, waited, dropped; /* bytes before it are */
static uint64_t fail_at = UINT64_MAX;  /* waiting for this byte fails */

int sync_file_range(int fd, off_t offset, off_t len, unsigned flags)
{
	uint64_t end = (uint64_t)(offset + len);

	(void)fd;
	if (flags & SYNC_FILE_RANGE_WAIT_BEFORE) {
		ck_assert_uint_eq((uint64_t)offset, waited);
		ck_assert_uint_le(end, sent);
		if (fail_at < end) {
			errno = EIO;
			return -1;
		}
		waited = end;
	} else {
		ck_assert_uint_eq((uint64_t)offset, sent);
		sent = end;
	}
	return 0;
}

int posix_fadvise(int fd, off_t offset, off_t len, int advice)
{
	(void)fd;
	if (advice == POSIX_FADV_DONTNEED && len > 0) {
		ck_assert_uint_eq((uint64_t)offset, dropped);
		dropped += (uint64_t)len;
		ck_assert_uint_le(dropped, waited);
	}
	return 0;
}

START_TEST(each_byte_once_and_in_order)
{
	struct evfs_behind behind = { 0 };

	for (uint64_t end = 0; end < 300 * MIB; end += 3 * MIB) {
		ck_assert(evfs_behind(0, &behind, end));
		ck_assert_uint_le(sent, end);
		ck_assert_uint_lt(end - sent, 8 * MIB);
		ck_assert_uint_lt(end - dropped, UNDER_WAY_MAX);
	}
	ck_assert_uint_gt(dropped, 250 * MIB);
	ck_assert(evfs_behind(0, &behind, 100 * MIB)); /* it was cut */
}
END_TEST

START_TEST(what_failed_stays_in_memory)
{
	struct evfs_behind behind = { 0 };

	fail_at = 20 * MIB;
	ck_assert(evfs_behind(0, &behind, 40 * MIB));
	ck_assert(!evfs_behind(0, &behind, 60 * MIB));
	ck_assert_uint_le(dropped, fail_at);
	ck_assert(!evfs_behind(0, &behind, 80 * MIB));
	ck_assert_uint_le(dropped, fail_at);
}
END_TEST

/* The sync that follows fails, although fdatasync has no complaint; the next
 * writes everything again. */
START_TEST(a_failed_write_fails_the_sync)
{
	uint8_t *data = world_bytes(MIB, 1), *got = malloc(MIB);
	struct evfs_container *container;
	struct evfs_containers *set;
	const evfs_hash hash = { { 1 } };
	struct world world;
	struct evfs_err err = { 0 };
	uint64_t offset[60];

	world_open(&world, false);
	ck_assert_int_eq(evfs_containers_new(world.dir, evfs_env_system(),
					     &set, NULL), 0);
	fail_at = 0;
	for (int i = 0; i < 60; i++) {
		data[0] = (uint8_t)i;
		ck_assert_int_eq(evfs_containers_append(set, &hash, data, MIB,
							&container, &offset[i],
							NULL), 0);
		if (i == 0)
			sent = waited = dropped = offset[0];
		evfs_container_pass(set, container, offset[i]);
		evfs_container_unpin(set, container);
	}
	ck_assert_uint_gt(sent, 30 * MIB);
	ck_assert_uint_eq(dropped, offset[0]);
	ck_assert_int_eq(evfs_containers_sync(set, &err), EVFS_EIO);
	ck_assert_int_eq(evfs_containers_sync(set, &err), 0);
	for (int i = 0; i < 60; i++) {
		data[0] = (uint8_t)i;
		ck_assert_int_eq(evfs_container_read(set, container, got, MIB,
						     offset[i], NULL), 0);
		ck_assert_int_eq(memcmp(got, data, MIB), 0);
	}
	evfs_containers_free(set);
	world_close(&world);
	free(data);
	free(got);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("behind");
	TCase *tcase = tcase_create("behind");
	SRunner *runner;
	int failed;

	tcase_set_timeout(tcase, 60);
	tcase_add_test(tcase, each_byte_once_and_in_order);
	tcase_add_test(tcase, what_failed_stays_in_memory);
	tcase_add_test(tcase, a_failed_write_fails_the_sync);
	suite_add_tcase(suite, tcase);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
