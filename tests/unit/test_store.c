/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Making and opening stores, and what a store refuses: another's lock, another
 * program's database, a newer format, damage; and what it does about a copy or
 * an unclean end. */
#include <check.h>
#include <fcntl.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/mem.h"
#include "tests/unit/store_world.h"

static char *dir;   /* of this test */
static char *store; /* path of its store */

static void setup(void)
{
	dir = store_make_dir();
	store = store_path(dir, "s");
}

static void teardown(void)
{
	evfs_free(store);
	store_remove_dir(dir);
}

/* Opens `path`, which must fail with `code`; the message holds `words`. */
static void refuse(const char *path, int code, const char *words)
{
	struct evfs_meta_options options = { .path = path,
					     .env = store_env() };
	struct evfs_meta *meta = NULL;
	struct evfs_err err = { 0 };
	int rc = evfs_meta_open(&options, &meta, &err);

	ck_assert_msg(rc == code, "%d, not %d: %s", rc, code, err.msg);
	ck_assert_msg(strstr(err.msg, words) != NULL, "'%s' not in '%s'",
		      words, err.msg);
	ck_assert_ptr_null(meta);
}

static void sql(const char *path, const char *text)
{
	char *file = store_path(path, "meta.db");
	sqlite3 *db;

	ck_assert_int_eq(sqlite3_open(file, &db), SQLITE_OK);
	ck_assert_int_eq(sqlite3_exec(db, text, NULL, NULL, NULL), SQLITE_OK);
	ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
	evfs_free(file);
}

START_TEST(create_and_open)
{
	struct evfs_meta *meta = store_create(store, 0);
	char *part = store_path(store, "segments");
	struct stat st;
	evfs_ino ino;

	ck_assert_str_eq(evfs_meta_path(meta), store);
	ck_assert_str_eq(evfs_meta_node_name(meta), "ann");
	ck_assert_str_eq(evfs_meta_listen(meta), "127.0.0.1:7000");
	ck_assert_uint_eq(evfs_meta_node(meta), store_node(0));
	ck_assert_uint_eq(evfs_meta_actor(meta).epoch, 0);
	ck_assert_uint_eq(evfs_meta_volume(meta)->b[0], 7);
	ck_assert(!evfs_meta_has_amnesia(meta));
	ck_assert_int_eq(stat(store, &st), 0);
	ck_assert_uint_eq(st.st_mode & 07777, 0700);
	ck_assert_int_eq(stat(part, &st), 0);
	evfs_free(part);
	ino = store_put_symlink(meta, "a");
	evfs_meta_close(meta);

	meta = store_open(store);
	ck_assert(store_has(meta, ino));
	ck_assert_uint_eq(evfs_meta_actor(meta).epoch, 0);
	/* A clean end wastes no counter. */
	ino = store_put_symlink(meta, "b");
	ck_assert_uint_eq(ino.counter, 2);
	evfs_meta_close(meta);
}
END_TEST

START_TEST(create_refuses)
{
	struct evfs_meta_new fresh = store_fresh(store, 0);
	struct evfs_err err = { 0 };
	struct stat st;
	char *file = store_path(store, "mine");
	int fd;

	fresh.node_name = "a b";
	ck_assert_int_eq(evfs_meta_create(&fresh, &err), EVFS_EINVAL);
	ck_assert_int_ne(stat(store, &st), 0);
	fresh.node_name = "ann";
	ck_assert_int_eq(mkdir(store, 0755), 0);
	fd = open(file, O_WRONLY | O_CREAT, 0600);
	ck_assert_int_ge(fd, 0);
	close(fd);
	ck_assert_int_eq(evfs_meta_create(&fresh, &err), EVFS_EEXISTS);
	ck_assert_int_eq(unlink(file), 0);
	evfs_free(file);
	/* An empty directory will do; a store will not. */
	ck_assert_int_eq(evfs_meta_create(&fresh, &err), 0);
	ck_assert_int_eq(evfs_meta_create(&fresh, &err), EVFS_EEXISTS);
	ck_assert(strstr(err.msg, "not empty") != NULL);
}
END_TEST

START_TEST(create_leaves_nothing)
{
	struct evfs_meta_new fresh = store_fresh(store, 0);
	struct evfs_err err = { 0 };
	struct stat st;
	uint64_t n;
	int rc;

	for (n = 1;; n++) {
		evfs_mem_fail_after(n);
		rc = evfs_meta_create(&fresh, &err);
		evfs_mem_fail_after(0);
		if (rc == 0)
			break;
		ck_assert_int_eq(rc, EVFS_ENOMEM);
		ck_assert_msg(stat(store, &st) != 0, "left behind at %llu",
			      (unsigned long long)n);
		ck_assert_uint_lt(n, 10000);
	}
	ck_assert_uint_gt(n, 5);
	evfs_meta_close(store_open(store));
}
END_TEST

START_TEST(open_survives_no_memory)
{
	struct evfs_meta_options options = { .path = store,
					     .env = store_env() };
	struct evfs_meta *meta = NULL;
	struct evfs_err err = { 0 };
	uint64_t n;

	evfs_meta_close(store_create(store, 0));
	for (n = 1;; n++) {
		int rc;

		evfs_mem_fail_after(n);
		rc = evfs_meta_open(&options, &meta, &err);
		evfs_mem_fail_after(0);
		if (rc == 0)
			break;
		ck_assert_int_eq(rc, EVFS_ENOMEM);
		ck_assert_uint_lt(n, 10000);
	}
	ck_assert_uint_gt(n, 20);
	evfs_meta_close(meta);
}
END_TEST

START_TEST(lock)
{
	struct evfs_meta *meta = store_create(store, 0);
	struct evfs_meta_options options = { .path = store,
					     .env = store_env(),
					     .read_only = true };
	struct evfs_meta *beside = NULL;
	struct evfs_err err = { 0 };
	char pid[32];
	evfs_ino ino = store_put_symlink(meta, "a");

	(void)snprintf(pid, sizeof(pid), "process %ld", (long)getpid());
	refuse(store, EVFS_ELOCKED, pid);
	/* A tool may read beside the daemon, and must not write. */
	ck_assert_int_eq(evfs_meta_sync(meta, &err), 0);
	ck_assert_msg(evfs_meta_open(&options, &beside, &err) == 0, "%s",
		      err.msg);
	ck_assert(store_has(beside, ino));
	evfs_meta_lock(beside);
	ck_assert_int_eq(evfs_facts_set_unsealed(evfs_meta_facts(beside), ino,
						 true, &err), EVFS_EREADONLY);
	evfs_meta_unlock(beside);
	evfs_meta_close(beside);
	evfs_meta_close(meta);
	evfs_meta_close(store_open(store));
}
END_TEST

START_TEST(refusals)
{
	char *file = store_path(store, "meta.db");
	int fd;

	refuse(dir, EVFS_ENOTFOUND, "not an evfs store");
	refuse("/nonexistent/x", EVFS_ENOTFOUND, "not an evfs store");
	evfs_meta_close(store_create(store, 0));
	sql(store, "PRAGMA user_version = 2");
	refuse(store, EVFS_ENEWER, "upgrade evfs");
	sql(store, "PRAGMA user_version = 0");
	refuse(store, EVFS_ECORRUPT, "damaged");
	sql(store, "PRAGMA user_version = 1; DROP TABLE dotlog");
	refuse(store, EVFS_ECORRUPT, "19 of 20 tables");
	sql(store, "PRAGMA application_id = 5");
	refuse(store, EVFS_EFOREIGN, "another program");
	ck_assert_int_eq(truncate(file, 0), 0);
	refuse(store, EVFS_ECORRUPT, "empty");
	fd = open(file, O_WRONLY);
	ck_assert_int_ge(fd, 0);
	for (int i = 0; i < 1000; i++)
		ck_assert_int_eq(write(fd, "not a database, ", 16), 16);
	close(fd);
	refuse(store, EVFS_ECORRUPT, "damaged");
	evfs_free(file);
}
END_TEST

/* A table that came later is added. */
START_TEST(older_store)
{
	evfs_meta_close(store_create(store, 0));
	sql(store, "DROP TABLE content_holes");
	evfs_meta_close(store_open(store));
	sql(store, "INSERT INTO content_holes VALUES(7, 524288)");
}
END_TEST

START_TEST(damaged_page)
{
	char *file = store_path(store, "meta.db");
	struct evfs_meta *meta = store_create(store, 0);
	char junk[4096];
	int fd;
	int i;

	for (i = 0; i < 500; i++) {
		char name[16];

		(void)snprintf(name, sizeof(name), "f%d", i);
		store_put_symlink(meta, name);
	}
	evfs_meta_close(meta);
	memset(junk, 0xa5, sizeof(junk));
	fd = open(file, O_WRONLY);
	ck_assert_int_ge(fd, 0);
	for (i = 20; i < 40; i++)
		ck_assert_int_eq(pwrite(fd, junk, sizeof(junk), i * 4096),
				 4096);
	close(fd);
	refuse(store, EVFS_ECORRUPT, "damaged");
	evfs_free(file);
}
END_TEST

/* Copies the store, as `cp -r` does. */
static void copy_to(const char *to)
{
	char *command = evfs_asprintf("cp -r '%s' '%s'", store, to);

	ck_assert_ptr_nonnull(command);
	ck_assert_int_eq(system(command), 0);
	evfs_free(command);
}

START_TEST(copied)
{
	struct evfs_meta *meta = store_create(store, 0);
	char *copy = store_path(dir, "copy");
	char *again = store_path(dir, "again");
	struct evfs_context context = { 0 };
	evfs_ino old = store_put_symlink(meta, "a");
	evfs_actor first;
	evfs_ino ino;

	evfs_meta_close(meta);
	copy_to(copy);
	copy_to(again);
	meta = store_open(copy);
	first = evfs_meta_actor(meta);
	ck_assert_uint_eq(first.node, store_node(0));
	ck_assert_uint_gt(first.epoch, 0);
	ck_assert(evfs_meta_has_amnesia(meta));
	ck_assert(store_has(meta, old));
	ino = store_put_symlink(meta, "b");
	ck_assert_uint_eq(ino.actor.epoch, first.epoch);
	ck_assert_uint_eq(ino.counter, 1);
	/* It knows of its former life what it had, and no more. */
	ck_assert_int_eq(evfs_meta_durable_context(meta, &context), 0);
	ck_assert_uint_eq(evfs_context_get(&context, old.actor), 1);
	evfs_context_fini(&context);
	evfs_meta_close(meta);
	/* Opened again in its place it stays who it is. */
	meta = store_open(copy);
	ck_assert_uint_eq(evfs_meta_actor(meta).epoch, first.epoch);
	ck_assert(evfs_meta_has_amnesia(meta));
	evfs_meta_close(meta);
	/* The same backup restored later: yet another life. */
	store_now_ns += UINT64_C(60000000000);
	meta = store_open(again);
	ck_assert_uint_gt(evfs_meta_actor(meta).epoch, first.epoch);
	evfs_meta_close(meta);
	/* The original does not notice. */
	meta = store_open(store);
	ck_assert_uint_eq(evfs_meta_actor(meta).epoch, 0);
	evfs_meta_close(meta);
	evfs_free(copy);
	evfs_free(again);
}
END_TEST

/* Takes the command. */
static void shell(char *command)
{
	ck_assert_ptr_nonnull(command);
	ck_assert_int_eq(system(command), 0);
	evfs_free(command);
}

/* An older database is written over the newer one: the same file, by its number
 * and its birth, but another hand was there. chmod and link are no such hand. */
START_TEST(written_over)
{
	struct evfs_meta *meta = store_create(store, 0);
	char *old = store_path(dir, "old.db");
	evfs_actor first = evfs_meta_actor(meta);

	evfs_meta_close(meta);
	shell(evfs_asprintf("cp -a '%s/meta.db' '%s'", store, old));
	meta = store_open(store);
	store_put_symlink(meta, "a");
	evfs_meta_close(meta);
	shell(evfs_asprintf("chmod 640 '%s/meta.db'", store));
	shell(evfs_asprintf("ln '%s/meta.db' '%s.link'", store, old));
	meta = store_open(store);
	ck_assert_uint_eq(evfs_meta_actor(meta).epoch, first.epoch);
	ck_assert(!evfs_meta_has_amnesia(meta));
	evfs_meta_close(meta);
	shell(evfs_asprintf("cp -a '%s' '%s/meta.db'", old, store));
	shell(evfs_asprintf("chmod 640 '%s/meta.db'", store));
	meta = store_open(store);
	ck_assert_uint_gt(evfs_meta_actor(meta).epoch, first.epoch);
	ck_assert(evfs_meta_has_amnesia(meta));
	first = evfs_meta_actor(meta);
	evfs_meta_close(meta);
	meta = store_open(store); /* once */
	ck_assert_uint_eq(evfs_meta_actor(meta).epoch, first.epoch);
	evfs_meta_close(meta);
	evfs_free(old);
}
END_TEST

/* A copy of a store that ended uncleanly must not claim its leased counters. */
START_TEST(copied_after_crash)
{
	struct evfs_meta *meta = store_create(store, 0);
	char *copy = store_path(dir, "copy");
	struct evfs_context context = { 0 };
	evfs_actor actor = evfs_meta_actor(meta);

	store_put_symlink(meta, "a");
	ck_assert_int_eq(evfs_meta_sync(meta, NULL), 0);
	copy_to(copy); /* while it runs: the lease is open */
	evfs_meta_close(meta);
	meta = store_open(copy);
	ck_assert_uint_ne(evfs_meta_actor(meta).epoch, 0);
	ck_assert_int_eq(evfs_meta_durable_context(meta, &context), 0);
	ck_assert_uint_eq(evfs_context_get(&context, actor), 1);
	evfs_context_fini(&context);
	evfs_meta_close(meta);
	evfs_free(copy);
}
END_TEST

/* Killed in the middle: what was synced is there, and counting goes on behind
 * the lease. */
START_TEST(killed)
{
	struct evfs_meta *meta;
	evfs_ino ino = { { 0, 0 }, 0 };
	int pipes[2];
	pid_t child;
	int status;

	evfs_meta_close(store_create(store, 0));
	ck_assert_int_eq(pipe(pipes), 0);
	child = fork();
	ck_assert_int_ge(child, 0);
	if (child == 0) {
		struct evfs_meta_options options = { .path = store,
						     .env = store_env(),
						     .commit_delay_ms = 5 };

		if (evfs_meta_open(&options, &meta, NULL) != 0)
			_exit(1);
		ino = store_put_symlink(meta, "synced");
		if (evfs_meta_sync(meta, NULL) != 0 ||
		    write(pipes[1], &ino, sizeof(ino)) != sizeof(ino))
			_exit(1);
		for (;;)
			pause();
	}
	ck_assert_int_eq(read(pipes[0], &ino, sizeof(ino)), sizeof(ino));
	close(pipes[0]);
	close(pipes[1]);
	ck_assert_int_eq(kill(child, SIGKILL), 0);
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert(WIFSIGNALED(status));
	meta = store_open(store);
	ck_assert(store_has(meta, ino));
	ck_assert_uint_eq(evfs_meta_actor(meta).epoch, 0);
	ck_assert_uint_gt(store_durable_counter(meta), 1000);
	ck_assert_uint_eq(store_put_symlink(meta, "next").counter,
			  store_durable_counter(meta) + 1);
	evfs_meta_close(meta);
}
END_TEST

START_TEST(crash_in_memory)
{
	struct evfs_meta *meta = store_memory(0);
	struct evfs_err err = { 0 };
	evfs_ino kept = store_put_symlink(meta, "kept");
	evfs_ino lost;
	evfs_ino next;
	char *before;
	char *after;

	ck_assert_int_eq(evfs_meta_commit(meta, &err), 0);
	ck_assert_uint_eq(store_durable_counter(meta), 1);
	before = store_dump(meta);
	lost = store_put_symlink(meta, "lost");
	store_chmod(meta, kept, 0600);
	ck_assert_uint_eq(store_durable_counter(meta), 1);
	ck_assert_msg(evfs_meta_crash(meta, &err) == 0, "%s", err.msg);
	ck_assert(store_has(meta, kept));
	ck_assert(!store_has(meta, lost));
	after = store_dump(meta);
	/* All but the context's line is as it was. */
	ck_assert_str_eq(strchr(before, '\n'), strchr(after, '\n'));
	next = store_put_symlink(meta, "next");
	ck_assert_uint_gt(next.counter, lost.counter + 1);
	ck_assert_uint_eq(next.counter, store_durable_counter(meta) + 1);
	ck_assert_int_eq(evfs_meta_commit(meta, &err), 0);
	ck_assert_msg(evfs_meta_crash(meta, &err) == 0, "%s", err.msg);
	ck_assert_uint_gt(store_put_symlink(meta, "later").counter,
			  next.counter + 1);
	evfs_free(before);
	evfs_free(after);
	evfs_meta_close(meta);
}
END_TEST

START_TEST(clock)
{
	struct evfs_meta *meta = store_memory(0);
	uint64_t second = UINT64_C(1000000000);
	uint64_t first;

	evfs_meta_lock(meta);
	first = evfs_meta_stamp(meta, 0);
	ck_assert_uint_eq(first, store_now_ns);
	ck_assert_uint_eq(evfs_meta_stamp(meta, 0), first + 1);
	ck_assert_uint_eq(evfs_meta_stamp(meta, first + second),
			  first + second + 1);
	/* A peer's clock: at most a minute ahead. */
	evfs_meta_hear_clock(meta, store_now_ns + 10 * second);
	ck_assert_uint_eq(evfs_meta_clock(meta), store_now_ns + 10 * second);
	evfs_meta_hear_clock(meta, store_now_ns + 1000 * second);
	ck_assert_uint_eq(evfs_meta_clock(meta), store_now_ns + 60 * second);
	evfs_meta_unlock(meta);
	evfs_meta_close(meta);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("store");
	TCase *tcase = tcase_create("store");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_set_timeout(tcase, 60);
	tcase_add_test(tcase, create_and_open);
	tcase_add_test(tcase, create_refuses);
	tcase_add_test(tcase, create_leaves_nothing);
	tcase_add_test(tcase, open_survives_no_memory);
	tcase_add_test(tcase, lock);
	tcase_add_test(tcase, refusals);
	tcase_add_test(tcase, older_store);
	tcase_add_test(tcase, damaged_page);
	tcase_add_test(tcase, copied);
	tcase_add_test(tcase, written_over);
	tcase_add_test(tcase, copied_after_crash);
	tcase_add_test(tcase, killed);
	tcase_add_test(tcase, crash_in_memory);
	tcase_add_test(tcase, clock);
	suite_add_tcase(suite, tcase);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? 0 : 1;
}
