/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Errors, memory, buffers, the environment and the log. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/env.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"

START_TEST(err_set_keeps_code_and_message)
{
	struct evfs_err err = { 0 };

	ck_assert_int_eq(evfs_err_set(&err, EVFS_EINVAL, "port %d", 70000),
			 EVFS_EINVAL);
	ck_assert_int_eq(err.code, EVFS_EINVAL);
	ck_assert_int_eq(err.sys, 0);
	ck_assert_str_eq(err.msg, "port 70000");
	ck_assert_int_eq(evfs_err_set(NULL, EVFS_EBUSY, "unheard"), EVFS_EBUSY);
}
END_TEST

START_TEST(err_sys_finds_the_code)
{
	struct evfs_err err = { 0 };

	ck_assert_int_eq(evfs_err_sys(&err, ENOENT, "%s", "/x"),
			 EVFS_ENOTFOUND);
	ck_assert_int_eq(err.sys, ENOENT);
	ck_assert_str_eq(err.msg, "/x: No such file or directory");
	ck_assert_int_eq(evfs_err_sys(&err, EIO, "x"), EVFS_EIO);
	ck_assert_int_eq(evfs_err_sys(&err, EINVAL, "x"), EVFS_EINVAL);
	ck_assert_int_eq(evfs_err_sys(&err, ENOTTY, "x"), EVFS_EIO);
	ck_assert_int_eq(evfs_err_sys(NULL, ENOSPC, "x"), EVFS_ENOSPACE);
}
END_TEST

START_TEST(err_wrap_goes_in_front)
{
	struct evfs_err err = { 0 };

	evfs_err_set(&err, EVFS_ENOTFOUND, "inner");
	ck_assert_int_eq(evfs_err_wrap(&err, EVFS_EIO, "outer %d", 1),
			 EVFS_ENOTFOUND);
	ck_assert_str_eq(err.msg, "outer 1: inner");
	err = (struct evfs_err){ 0 };
	ck_assert_int_eq(evfs_err_wrap(&err, EVFS_ENOMEM, "outer"),
			 EVFS_ENOMEM);
	ck_assert_str_eq(err.msg, "outer: out of memory");
	ck_assert_int_eq(evfs_err_wrap(NULL, EVFS_EIO, "outer"), EVFS_EIO);
}
END_TEST

START_TEST(err_messages_are_one_line_that_fits)
{
	struct evfs_err err = { 0 };
	char longer[600];

	memset(longer, 'x', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = '\0';
	evfs_err_set(&err, EVFS_EINVAL, "%s", longer);
	ck_assert_uint_eq(strlen(err.msg), sizeof(err.msg) - 1);
	evfs_err_wrap(&err, EVFS_EINVAL, "%s", longer);
	ck_assert_uint_eq(strlen(err.msg), sizeof(err.msg) - 1);
	evfs_err_set(&err, EVFS_EINVAL, "a\nb%c", 7);
	ck_assert_str_eq(err.msg, "a?b?");
	evfs_err_set(&err, EVFS_EINVAL, "%s", "");
	ck_assert_str_eq(err.msg, "invalid argument");
}
END_TEST

START_TEST(err_table_is_complete)
{
	for (int code = -1; code > -(int)EVFS_ERR_COUNT; code--) {
		ck_assert_int_gt(evfs_err_errno(code), 0);
		ck_assert_str_ne(evfs_err_text(code), "");
	}
	ck_assert_int_eq(evfs_err_errno(EVFS_EMISSING), EHOSTUNREACH);
	ck_assert_int_eq(evfs_err_errno(-9999), EIO);
	ck_assert_int_eq(evfs_err_errno(7), EIO);
	ck_assert_str_eq(evfs_err_text(-9999), "unknown error");
}
END_TEST

START_TEST(mem_refuses_overflow)
{
	void *block = evfs_calloc(0, 0);

	ck_assert_ptr_nonnull(block);
	evfs_free(block);
	ck_assert_ptr_null(evfs_calloc(SIZE_MAX / 2, 3));
	ck_assert_ptr_null(evfs_realloc_array(NULL, SIZE_MAX, 16));
	ck_assert_ptr_null(evfs_calloc(SIZE_MAX, 1));
	block = evfs_memdup(NULL, 0);
	ck_assert_ptr_nonnull(block);
	evfs_free(block);
	ck_assert_ptr_null(evfs_strdup(NULL));
}
END_TEST

START_TEST(mem_fails_on_demand)
{
	void *one, *two;

	evfs_mem_fail_after(2);
	one = evfs_calloc(1, 1);
	ck_assert_ptr_nonnull(one);
	ck_assert(!evfs_mem_fail_hit());
	ck_assert_ptr_null(evfs_strdup("x"));
	ck_assert(evfs_mem_fail_hit());
	two = evfs_asprintf("%d-%s", 5, "x");
	ck_assert_str_eq(two, "5-x");
	evfs_mem_fail_after(0);
	ck_assert(!evfs_mem_fail_hit());
	evfs_free(one);
	evfs_free(two);
}
END_TEST

START_TEST(mem_grow_keeps_items)
{
	uint32_t *items = NULL;
	void *block = NULL;
	size_t cap = 0;

	for (uint32_t i = 0; i < 1000; i++) {
		ck_assert_int_eq(evfs_grow(&block, i, &cap, sizeof(*items)), 0);
		items = block;
		items[i] = i;
	}
	for (uint32_t i = 0; i < 1000; i++)
		ck_assert_uint_eq(items[i], i);
	evfs_mem_fail_after(1);
	ck_assert_int_eq(evfs_grow(&block, cap, &cap, sizeof(*items)), -1);
	ck_assert_ptr_eq(block, items);
	evfs_mem_fail_after(0);
	evfs_free(items);
}
END_TEST

START_TEST(mem_steal_and_cleanup)
{
	char *kept;

	{
		evfs_cleanup_free char *text = evfs_strdup("kept");
		evfs_cleanup_free char *dropped = evfs_strdup("dropped");
		evfs_cleanup_fd int fd = open("/dev/null", O_RDONLY);
		evfs_cleanup_fd int none = -1;

		ck_assert_ptr_nonnull(dropped);
		ck_assert_int_ge(fd, 0);
		ck_assert_int_eq(none, -1);
		kept = evfs_steal(text);
		ck_assert_ptr_null(text);
	}
	ck_assert_str_eq(kept, "kept");
	evfs_free(kept);
}
END_TEST

START_TEST(arena_pieces_are_apart_aligned_and_zero)
{
	struct evfs_arena arena = { 0 };
	uint8_t *pieces[300];

	for (size_t i = 0; i < 300; i++) {
		size_t size = i % 7 == 0 ? 5000 : i + 1;

		pieces[i] = evfs_arena_alloc(&arena, size, 1);
		ck_assert_ptr_nonnull(pieces[i]);
		ck_assert_uint_eq((uintptr_t)pieces[i] % 16, 0);
		for (size_t k = 0; k < size; k++)
			ck_assert_uint_eq(pieces[i][k], 0);
		memset(pieces[i], (int)(i % 251) + 1, size);
	}
	for (size_t i = 0; i < 300; i++) {
		size_t size = i % 7 == 0 ? 5000 : i + 1;

		ck_assert_uint_eq(pieces[i][0], i % 251 + 1);
		ck_assert_uint_eq(pieces[i][size - 1], i % 251 + 1);
	}
	ck_assert_ptr_null(evfs_arena_alloc(&arena, SIZE_MAX, 2));
	ck_assert_ptr_null(evfs_arena_alloc(&arena, SIZE_MAX - 8, 1));
	ck_assert_int_eq(evfs_arena_reserve(&arena, SIZE_MAX - 8), -1);
	evfs_arena_fini(&arena);
}
END_TEST

START_TEST(arena_reserve_is_one_allocation)
{
	struct evfs_arena arena = { 0 };

	ck_assert_int_eq(evfs_arena_reserve(&arena, 1600), 0);
	evfs_mem_fail_after(1);
	for (int i = 0; i < 100; i++)
		ck_assert_ptr_nonnull(evfs_arena_alloc(&arena, 1, 16));
	ck_assert(!evfs_mem_fail_hit());
	ck_assert_ptr_null(evfs_arena_alloc(&arena, 1, 16));
	ck_assert(evfs_mem_fail_hit());
	ck_assert_ptr_nonnull(evfs_arena_memdup(&arena, "abc", 4));
	evfs_mem_fail_after(0);
	evfs_arena_fini(&arena);
	ck_assert_ptr_null(arena.head);
}
END_TEST

START_TEST(buf_appends_and_consumes)
{
	struct evfs_buf buf = { 0 };

	ck_assert_int_eq(evfs_buf_put(&buf, NULL, 0), 0);
	ck_assert_int_eq(evfs_buf_put(&buf, "ab", 2), 0);
	ck_assert_int_eq(evfs_buf_put_u8(&buf, 1), 0);
	ck_assert_int_eq(evfs_buf_put_be32(&buf, 0x01020304), 0);
	ck_assert_int_eq(evfs_buf_put_be64(&buf, 0x0102030405060708), 0);
	ck_assert_int_eq(evfs_buf_printf(&buf, "%d%s", 42, "xyz"), 0);
	ck_assert_uint_eq(buf.len, 20);
	ck_assert_mem_eq(buf.data,
			 "ab\1\1\2\3\4\1\2\3\4\5\6\7\10"
			 "42xyz",
			 20);
	evfs_buf_consume(&buf, 15);
	ck_assert_uint_eq(buf.len, 5);
	ck_assert_mem_eq(buf.data, "42xyz", 5);
	evfs_buf_consume(&buf, 0);
	evfs_buf_clear(&buf);
	ck_assert_uint_eq(buf.len, 0);
	evfs_buf_fini(&buf);
	ck_assert_ptr_null(buf.data);
}
END_TEST

START_TEST(buf_without_memory_is_unchanged)
{
	struct evfs_buf buf = { 0 };
	uint8_t block[200] = { 0 };

	ck_assert_int_eq(evfs_buf_put(&buf, "a", 1), 0);
	evfs_mem_fail_after(1);
	ck_assert_int_eq(evfs_buf_put(&buf, block, sizeof(block)), EVFS_ENOMEM);
	evfs_mem_fail_after(1);
	ck_assert_int_eq(evfs_buf_printf(&buf, "%200d", 1), EVFS_ENOMEM);
	ck_assert_uint_eq(buf.len, 1);
	evfs_mem_fail_after(0);
	ck_assert_ptr_null(evfs_buf_reserve(&buf, SIZE_MAX));
	evfs_buf_fini(&buf);
}
END_TEST

START_TEST(big_endian)
{
	uint8_t bytes[8];

	evfs_be64_write(bytes, 0xfedcba9876543210);
	ck_assert_mem_eq(bytes, "\xfe\xdc\xba\x98\x76\x54\x32\x10", 8);
	ck_assert(evfs_be64_read(bytes) == 0xfedcba9876543210);
	ck_assert_uint_eq(evfs_be32_read(bytes), 0xfedcba98);
}
END_TEST

START_TEST(env_is_real)
{
	const struct evfs_env *env = evfs_env_system();
	uint64_t before = env->mono_ns(env->ctx);
	uint8_t one[32] = { 0 }, two[32] = { 0 };
	unsigned seen = 0;

	ck_assert(env->wall_ns(env->ctx) > 1600000000ull * 1000000000);
	ck_assert(env->mono_ns(env->ctx) >= before);
	env->random(env->ctx, one, sizeof(one));
	env->random(env->ctx, two, sizeof(two));
	ck_assert_mem_ne(one, two, sizeof(one));
	for (int i = 0; i < 1000; i++) {
		uint64_t value = evfs_env_below(env, 5);

		ck_assert(value < 5);
		seen |= 1u << value;
	}
	ck_assert_uint_eq(seen, 31);
	ck_assert(evfs_env_below(env, 1) == 0);
}
END_TEST

static uint64_t fixed_next;

static void fixed_random(void *ctx, void *data, size_t len)
{
	uint64_t value = fixed_next;

	(void)ctx;
	memcpy(data, &value, len);
	fixed_next = 7;
}

START_TEST(env_below_rejects_the_biased_end)
{
	struct evfs_env env = { NULL, NULL, NULL, fixed_random };

	fixed_next = UINT64_MAX;
	ck_assert(evfs_env_below(&env, 10) == 7);
}
END_TEST

START_TEST(log_levels_and_format)
{
	char text[2048];
	int fds[2], saved = dup(STDERR_FILENO);
	ssize_t n;

	ck_assert_int_eq(pipe(fds), 0);
	ck_assert_int_eq(dup2(fds[1], STDERR_FILENO), STDERR_FILENO);
	setenv("EVFS_LOG", "info", 1);
	evfs_log_init("prog", EVFS_LOG_ERROR, false);
	evfs_log(EVFS_LOG_DEBUG, "unheard");
	evfs_log(EVFS_LOG_INFO, "session ended: peer=%s n=%d\n", "nas", 3);
	dup2(saved, STDERR_FILENO);
	close(fds[1]);
	n = read(fds[0], text, sizeof(text) - 1);
	close(fds[0]);
	close(saved);
	ck_assert_int_gt(n, 0);
	text[n] = '\0';
	ck_assert_ptr_null(strstr(text, "unheard"));
	ck_assert_ptr_nonnull(
		strstr(text, " prog: info: session ended: peer=nas n=3?\n"));
	ck_assert(evfs_log_is_on(EVFS_LOG_INFO));
	ck_assert(!evfs_log_is_on(EVFS_LOG_DEBUG));
	unsetenv("EVFS_LOG");
	evfs_log_init("prog", EVFS_LOG_ERROR, false);
	ck_assert(!evfs_log_is_on(EVFS_LOG_WARN));
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("base");
	TCase *tcase = tcase_create("base");
	SRunner *runner = srunner_create(suite);
	int failed;

	suite_add_tcase(suite, tcase);
	tcase_add_test(tcase, err_set_keeps_code_and_message);
	tcase_add_test(tcase, err_sys_finds_the_code);
	tcase_add_test(tcase, err_wrap_goes_in_front);
	tcase_add_test(tcase, err_messages_are_one_line_that_fits);
	tcase_add_test(tcase, err_table_is_complete);
	tcase_add_test(tcase, mem_refuses_overflow);
	tcase_add_test(tcase, mem_fails_on_demand);
	tcase_add_test(tcase, mem_grow_keeps_items);
	tcase_add_test(tcase, mem_steal_and_cleanup);
	tcase_add_test(tcase, arena_pieces_are_apart_aligned_and_zero);
	tcase_add_test(tcase, arena_reserve_is_one_allocation);
	tcase_add_test(tcase, buf_appends_and_consumes);
	tcase_add_test(tcase, buf_without_memory_is_unchanged);
	tcase_add_test(tcase, big_endian);
	tcase_add_test(tcase, env_is_real);
	tcase_add_test(tcase, env_below_rejects_the_biased_end);
	tcase_add_test(tcase, log_levels_and_format);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
