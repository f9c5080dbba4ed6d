/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Whole reads and writes, and durable replacement. */
#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "base/mem.h"

static char dir[] = "/tmp/evfs-test-io-XXXXXX";
static char path[sizeof(dir) + 32];

static void setup(void)
{
	strcpy(dir + sizeof(dir) - 7, "XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/file", dir);
}

static size_t count_entries(void)
{
	DIR *stream = opendir(dir);
	size_t n = 0;

	ck_assert_ptr_nonnull(stream);
	for (struct dirent *entry = readdir(stream); entry != NULL;
	     entry = readdir(stream))
		n += entry->d_name[0] != '.';
	closedir(stream);
	return n;
}

static void teardown(void)
{
	unlink(path);
	ck_assert_int_eq(rmdir(dir), 0);
}

START_TEST(write_and_read_back)
{
	struct evfs_err err = { 0 };
	char text[8] = { 0 };
	int fd = open(path, O_RDWR | O_CREAT | O_EXCL, 0600);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(evfs_io_write(fd, "abcdef", 6, &err), 0);
	ck_assert_int_eq(evfs_io_pwrite(fd, "XY", 2, 2, &err), 0);
	ck_assert_int_eq(evfs_io_pread(fd, text, 6, 0, &err), 0);
	ck_assert_str_eq(text, "abXYef");
	ck_assert_int_eq(evfs_io_pread(fd, text, 6, 2, &err), EVFS_EIO);
	ck_assert_str_eq(err.msg, "file ends early: 4 of 6 bytes");
	ck_assert_int_eq(lseek(fd, 5, SEEK_SET), 5);
	ck_assert_int_eq(evfs_io_read(fd, text, 1, &err), 0);
	ck_assert_int_eq(evfs_io_read(fd, text, 1, &err), EVFS_EIO);
	ck_assert_int_eq(evfs_io_pread(fd, text, 6, UINT64_MAX, &err),
			 EVFS_EFBIG);
	ck_assert_int_eq(evfs_io_pwrite(fd, text, 6, INT64_MAX, &err),
			 EVFS_EFBIG);
	close(fd);
	ck_assert_int_eq(evfs_io_write(-1, "a", 1, &err), EVFS_EIO);
	ck_assert_int_eq(err.sys, EBADF);
}
END_TEST

START_TEST(read_file_has_a_limit)
{
	struct evfs_err err = { 0 };
	struct evfs_buf buf = { 0 };

	ck_assert_int_eq(evfs_io_read_file(path, 10, &buf, &err),
			 EVFS_ENOTFOUND);
	ck_assert_int_eq(evfs_io_replace(path, "0123456789", 10, 0600, &err),
			 0);
	ck_assert_int_eq(evfs_buf_put(&buf, "x", 1), 0);
	ck_assert_int_eq(evfs_io_read_file(path, 10, &buf, &err), 0);
	ck_assert_uint_eq(buf.len, 11);
	ck_assert_mem_eq(buf.data, "x0123456789", 11);
	ck_assert_int_eq(evfs_io_read_file(path, 9, &buf, &err), EVFS_ELIMIT);
	ck_assert_uint_eq(buf.len, 11);
	ck_assert_int_eq(evfs_io_read_file(dir, 9, &buf, &err), EVFS_EISDIR);
	evfs_buf_fini(&buf);
}
END_TEST

START_TEST(replace_is_whole_or_nothing)
{
	struct evfs_err err = { 0 };
	struct evfs_buf buf = { 0 };
	char missing[sizeof(path) + 16];
	struct stat st;

	ck_assert_int_eq(evfs_io_replace(path, "one", 3, 0640, &err), 0);
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_uint_eq(st.st_mode & 07777, 0640);
	ck_assert_int_eq(evfs_io_replace(path, "two", 3, 0600, &err), 0);
	ck_assert_int_eq(evfs_io_read_file(path, 100, &buf, &err), 0);
	ck_assert_mem_eq(buf.data, "two", 3);
	ck_assert_uint_eq(count_entries(), 1);
	snprintf(missing, sizeof(missing), "%s/no/file", dir);
	ck_assert_int_eq(evfs_io_replace(missing, "x", 1, 0600, &err),
			 EVFS_ENOTFOUND);
	for (uint64_t n = 1;; n++) {
		int rc;

		evfs_mem_fail_after(n);
		rc = evfs_io_replace(path, "six", 3, 0600, &err);
		if (!evfs_mem_fail_hit()) {
			ck_assert_int_eq(rc, 0);
			break;
		}
		ck_assert_int_eq(rc, EVFS_ENOMEM);
		ck_assert_uint_eq(count_entries(), 1);
	}
	evfs_mem_fail_after(0);
	evfs_buf_fini(&buf);
}
END_TEST

START_TEST(replace_over_a_directory_leaves_no_rest)
{
	struct evfs_err err = { 0 };

	ck_assert_int_eq(mkdir(path, 0700), 0);
	ck_assert_int_eq(evfs_io_replace(path, "x", 1, 0600, &err),
			 EVFS_EISDIR);
	ck_assert_uint_eq(count_entries(), 1);
	ck_assert_int_eq(rmdir(path), 0);
	ck_assert_int_eq(evfs_io_sync_dir(path, &err), EVFS_ENOTFOUND);
	ck_assert_int_eq(evfs_io_sync_dir(dir, &err), 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("io");
	TCase *tcase = tcase_create("io");
	SRunner *runner = srunner_create(suite);
	int failed;

	suite_add_tcase(suite, tcase);
	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_add_test(tcase, write_and_read_back);
	tcase_add_test(tcase, read_file_has_a_limit);
	tcase_add_test(tcase, replace_is_whole_or_nothing);
	tcase_add_test(tcase, replace_over_a_directory_leaves_no_rest);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
