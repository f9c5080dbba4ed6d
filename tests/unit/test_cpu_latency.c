/* SPDX-License-Identifier: GPL-3.0-or-later */
/* When processors are asked to wake at once: with a file in the place of the
 * kernel's. */
#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fs/cpu_latency.h"

#define MS UINT64_C(1000000)
#define ASKED_US 7

static struct evfs_cpu_latency latency;
static char path[64];
static uint64_t now; /* the clock of the test */

static void setup(void)
{
	int fd;

	(void)snprintf(path, sizeof(path), "/tmp/evfs-test.XXXXXX");
	fd = mkstemp(path);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(close(fd), 0);
	evfs_cpu_latency_init(&latency, path, ASKED_US);
	now = 1000 * MS;
}

static void teardown(void)
{
	evfs_cpu_latency_free(&latency);
	(void)unlink(path);
}

/* n requests, one every step_ns. */
static void requests(unsigned n, uint64_t step_ns)
{
	for (; n > 0; n--) {
		now += step_ns;
		evfs_cpu_latency_request(&latency, now);
	}
}

static bool asked(void)
{
	return latency.fd >= 0 && fcntl(latency.fd, F_GETFD) >= 0;
}

START_TEST(few_requests_ask_for_nothing)
{
	requests(100, 2 * MS);
	ck_assert(!asked());
	requests(30, MS / 2);
	ck_assert(!asked());
}
END_TEST

START_TEST(many_requests_ask_for_low_latency)
{
	unsigned char bytes[8];
	int fd;

	requests(100, MS / 20);
	ck_assert(asked());
	fd = open(path, O_RDONLY | O_CLOEXEC);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(read(fd, bytes, sizeof(bytes)), sizeof(int32_t));
	ck_assert(memcmp(bytes, (int32_t[]){ ASKED_US }, sizeof(int32_t)) == 0);
	ck_assert_int_eq(close(fd), 0);
}
END_TEST

START_TEST(quiet_takes_it_back)
{
	requests(100, MS / 20);
	evfs_cpu_latency_quiet(&latency);
	ck_assert(!asked());
	requests(1, 5000 * MS); /* one after a pause is not many */
	ck_assert(!asked());
	requests(100, MS / 20);
	ck_assert(asked());
}
END_TEST

START_TEST(slower_requests_take_it_back)
{
	requests(100, MS / 20);
	requests(10, MS / 2); /* nobody says that it is quiet */
	ck_assert(!asked());
}
END_TEST

/* Asked for once, not again with each request. */
START_TEST(who_may_not_ask_does_not_try_again)
{
	ck_assert_int_eq(unlink(path), 0);
	requests(100, MS / 20);
	ck_assert(!asked());
	ck_assert_ptr_null(latency.path);
	requests(100, MS / 20);
	ck_assert(!asked());
}
END_TEST

START_TEST(nothing_is_asked_where_nobody_wants_it)
{
	struct evfs_cpu_latency never;

	evfs_cpu_latency_init(&never, NULL, 0);
	for (unsigned i = 1; i < 100; i++)
		evfs_cpu_latency_request(&never, 1000 * MS + i * MS / 20);
	ck_assert_int_eq(never.fd, -1);
	evfs_cpu_latency_free(&never);
}
END_TEST

/* The file at path is that of the driver here. */
static int32_t worth_with(const char *driver)
{
	int fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write(fd, driver, strlen(driver)),
			 (ssize_t)strlen(driver));
	ck_assert_int_eq(close(fd), 0);
	return evfs_cpu_latency_worth(path);
}

START_TEST(real_processors_may_sleep_lightly)
{
	ck_assert_int_eq(worth_with("haltpoll\n"), 0);
	ck_assert_int_gt(worth_with("intel_idle\n"), 0);
	ck_assert_int_gt(worth_with("none\n"), 0);
	ck_assert_int_eq(unlink(path), 0);
	ck_assert_int_gt(evfs_cpu_latency_worth(path), 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("cpu_latency");
	TCase *tcase = tcase_create("cpu_latency");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_add_test(tcase, few_requests_ask_for_nothing);
	tcase_add_test(tcase, many_requests_ask_for_low_latency);
	tcase_add_test(tcase, quiet_takes_it_back);
	tcase_add_test(tcase, slower_requests_take_it_back);
	tcase_add_test(tcase, who_may_not_ask_does_not_try_again);
	tcase_add_test(tcase, nothing_is_asked_where_nobody_wants_it);
	tcase_add_test(tcase, real_processors_may_sleep_lightly);
	suite_add_tcase(suite, tcase);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
