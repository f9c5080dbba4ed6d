/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Group commit under threads: those who wait share commits, what is told as
 * durable is on disk, and a peer's reader never sees what is not. */
#include <check.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/mem.h"
#include "meta/delta.h"
#include "meta/feed.h"
#include "tests/unit/store_world.h"

#define WRITERS 16
#define WRITES 64

static char *dir;              /* of this test */
static char *path;             /* of its store */
static struct evfs_meta *meta; /* that store */

static void setup(void)
{
	dir = store_make_dir();
	path = store_path(dir, "s");
	meta = store_create(path, 0);
}

static void teardown(void)
{
	evfs_meta_close(meta);
	evfs_free(path);
	store_remove_dir(dir);
}

static unsigned durable_calls; /* atomic */

static void on_durable(void *ctx)
{
	(void)ctx;
	__atomic_add_fetch(&durable_calls, 1, __ATOMIC_SEQ_CST);
}

/* In threads a failed check is an abort: Check's own asserts are not for them.
 */
static void must(bool what, const char *text)
{
	if (what)
		return;
	fprintf(stderr, "failed: %s\n", text);
	abort();
}

static uint64_t durable_counter(void)
{
	struct evfs_context context = { 0 };
	uint64_t counter;

	must(evfs_meta_durable_context(meta, &context) == 0, "context");
	counter = evfs_context_get(&context, evfs_meta_actor(meta));
	evfs_context_fini(&context);
	return counter;
}

static void *writer(void *arg)
{
	struct evfs_facts *facts = evfs_meta_facts(meta);
	evfs_dot dot;

	(void)arg;
	for (int i = 0; i < WRITES; i++) {
		struct evfs_object *object;

		evfs_meta_lock(meta);
		must(evfs_meta_next_dot(meta, &dot, NULL) == 0, "next_dot");
		object = evfs_object_new(dot, EVFS_KIND_FIFO);
		must(object != NULL, "object");
		must(evfs_object_log_raise(object, dot) == 0, "log");
		must(evfs_facts_put_object(facts, object, NULL) == 0, "put");
		evfs_meta_unlock(meta);
		must(evfs_meta_sync(meta, NULL) == 0, "sync");
		must(durable_counter() >= dot.counter,
		     "durable after sync");
	}
	return NULL;
}

static bool readers_stop; /* atomic */

/* Whatever a snapshot shows was durable before it began. */
static void *reader(void *arg)
{
	struct evfs_context none = { 0 };

	(void)arg;
	while (!__atomic_load_n(&readers_stop, __ATOMIC_SEQ_CST)) {
		struct evfs_object **objects;
		struct evfs_delta *delta;
		uint64_t greatest = 0;
		bool done;
		size_t n;

		must(evfs_delta_open(meta, &none, &delta, NULL) == 0, "open");
		must(evfs_delta_next(delta, 0, &objects, &n, &done, NULL) == 0,
		     "next");
		for (size_t i = 0; i < n; i++) {
			if (objects[i]->ino.counter > greatest)
				greatest = objects[i]->ino.counter;
			evfs_object_free(objects[i]);
		}
		must(greatest <= durable_counter(),
		     "a reader saw what was not durable");
		evfs_free(objects);
		evfs_delta_close(delta);
	}
	return NULL;
}

START_TEST(group_commit)
{
	static const struct evfs_feed_listener listener = {
		.durable = on_durable
	};
	pthread_t threads[WRITERS];
	pthread_t watcher;
	unsigned calls;

	__atomic_store_n(&durable_calls, 0, __ATOMIC_SEQ_CST);
	__atomic_store_n(&readers_stop, false, __ATOMIC_SEQ_CST);
	evfs_feed_add(meta, &listener);
	ck_assert_int_eq(pthread_create(&watcher, NULL, reader, NULL), 0);
	for (int i = 0; i < WRITERS; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, writer,
						NULL), 0);
	for (int i = 0; i < WRITERS; i++)
		ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
	__atomic_store_n(&readers_stop, true, __ATOMIC_SEQ_CST);
	ck_assert_int_eq(pthread_join(watcher, NULL), 0);
	evfs_feed_remove(meta, &listener);
	calls = __atomic_load_n(&durable_calls, __ATOMIC_SEQ_CST);
	ck_assert_uint_eq(store_durable_counter(meta), WRITERS * WRITES);
	/* 1024 waits were served by far fewer commits. */
	ck_assert_uint_ge(calls, 1);
	ck_assert_uint_lt(calls, WRITERS * WRITES / 2);
}
END_TEST

/* Nobody waits: the committer does it by itself, after its delay. */
START_TEST(commits_by_itself)
{
	const struct evfs_env *env = store_env();
	uint64_t until = env->mono_ns(NULL) + UINT64_C(10000000000);
	evfs_ino ino = store_put_symlink(meta, "a");

	while (store_durable_counter(meta) < ino.counter) {
		ck_assert_uint_lt(env->mono_ns(NULL), until);
		usleep(1000);
	}
}
END_TEST

START_TEST(reopened)
{
	evfs_ino inos[300];

	for (int i = 0; i < 300; i++) {
		char name[16];

		(void)snprintf(name, sizeof(name), "f%d", i);
		inos[i] = store_put_symlink(meta, name);
	}
	evfs_meta_close(meta);
	meta = store_open(path);
	for (int i = 0; i < 300; i++)
		ck_assert(store_has(meta, inos[i]));
}
END_TEST

/* A log that grows far is copied into the database and starts over. */
START_TEST(log_is_bounded)
{
	char *file = store_path(path, "meta.db-wal");
	char value[40000];
	long size;
	FILE *log;

	memset(value, 'v', sizeof(value));
	for (int i = 0; i < 3000; i++) {
		struct evfs_attr attr = {
			.kind = EVFS_ATTR_XATTR,
			.key = (const uint8_t *)"user.x",
			.key_len = 6,
			.value.xattr = { (const uint8_t *)value,
					 sizeof(value), false }
		};
		struct evfs_object *object;

		evfs_meta_lock(meta);
		object = store_symlink(meta, EVFS_INO_ROOT, "x");
		attr.stamp = object->links[0].id;
		ck_assert_int_eq(evfs_object_put_attr(object, &attr), 0);
		ck_assert_int_eq(evfs_facts_put_object(evfs_meta_facts(meta),
						       object, NULL), 0);
		evfs_meta_unlock(meta);
		if (i % 20 == 0)
			ck_assert_int_eq(evfs_meta_sync(meta, NULL), 0);
	}
	ck_assert_int_eq(evfs_meta_sync(meta, NULL), 0);
	log = fopen(file, "r");
	ck_assert_ptr_nonnull(log);
	ck_assert_int_eq(fseek(log, 0, SEEK_END), 0);
	size = ftell(log);
	ck_assert_int_eq(fclose(log), 0);
	evfs_free(file);
	/* 120 MB went through it. */
	ck_assert_int_lt(size, 100 << 20);
}
END_TEST

/* No file may grow: what COMMIT needs cannot be written. */
static void limit_files(rlim_t size)
{
	struct rlimit limit;

	ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &limit), 0);
	limit.rlim_cur = size;
	ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

/* A commit that fails takes back what was not durable, says so to whoever
 * waits, refuses writes, and recovers by itself when it can. */
START_TEST(commit_fails)
{
	const struct evfs_env *env = store_env();
	uint64_t until = env->mono_ns(NULL) + UINT64_C(20000000000);
	struct evfs_err err = { 0 };
	evfs_ino kept = store_put_symlink(meta, "kept");
	evfs_ino lost;
	evfs_dot dot;
	int rc;

	ck_assert_int_eq(evfs_meta_sync(meta, NULL), 0);
	ck_assert(signal(SIGXFSZ, SIG_IGN) != SIG_ERR);
	limit_files(4096);
	lost = store_put_symlink(meta, "lost");
	rc = evfs_meta_sync(meta, &err);
	ck_assert_int_ne(rc, 0);
	ck_assert_str_ne(err.msg, "");
	ck_assert(!store_has(meta, lost));
	ck_assert(store_has(meta, kept));
	evfs_meta_lock(meta);
	ck_assert_int_ne(evfs_meta_next_dot(meta, &dot, &err), 0);
	evfs_meta_unlock(meta);
	ck_assert_uint_eq(store_durable_counter(meta), kept.counter);
	limit_files(RLIM_INFINITY);
	for (;;) {
		evfs_meta_lock(meta);
		rc = evfs_meta_next_dot(meta, &dot, NULL);
		evfs_meta_unlock(meta);
		if (rc == 0)
			break;
		ck_assert_uint_lt(env->mono_ns(NULL), until);
		usleep(10000);
	}
	/* A lost dot is not given out again. */
	ck_assert_uint_gt(dot.counter, lost.counter);
	lost = store_put_symlink(meta, "again");
	ck_assert_msg(evfs_meta_sync(meta, &err) == 0, "%s", err.msg);
	evfs_meta_close(meta);
	meta = store_open(path);
	ck_assert(store_has(meta, kept));
	ck_assert(store_has(meta, lost));
}
END_TEST

/* ---- the feed ---- */

static unsigned changed_calls; /* atomic */

static void on_changed(void *ctx)
{
	(void)ctx;
	__atomic_add_fetch(&changed_calls, 1, __ATOMIC_SEQ_CST);
}

static void note(const char *name)
{
	struct evfs_change change = { .kind = EVFS_CHANGE_ENTRY,
				      .dir = EVFS_INO_ROOT };

	change.name_len = strlen(name);
	memcpy(change.name, name, change.name_len + 1);
	evfs_feed_note(meta, &change);
}

START_TEST(feed)
{
	static const struct evfs_feed_listener listener = {
		.changed = on_changed
	};
	struct evfs_change *change;
	struct evfs_change *next;

	__atomic_store_n(&changed_calls, 0, __ATOMIC_SEQ_CST);
	evfs_meta_lock(meta);
	note("nobody listens");
	evfs_meta_unlock(meta);
	ck_assert_ptr_null(evfs_feed_take(meta));
	evfs_feed_add(meta, &listener);
	evfs_meta_lock(meta);
	note("a");
	note("b");
	evfs_meta_unlock(meta);
	ck_assert_uint_eq(__atomic_load_n(&changed_calls, __ATOMIC_SEQ_CST), 1);
	change = evfs_feed_take(meta);
	ck_assert_ptr_nonnull(change);
	ck_assert_str_eq(change->name, "a");
	next = change->next;
	ck_assert_ptr_nonnull(next);
	ck_assert_str_eq(next->name, "b");
	ck_assert_ptr_null(next->next);
	evfs_change_free(change);
	evfs_change_free(next);
	ck_assert_ptr_null(evfs_feed_take(meta));
	/* Nobody takes them for long: one that stands for all. */
	evfs_meta_lock(meta);
	for (int i = 0; i < 70000; i++)
		note("c");
	evfs_meta_unlock(meta);
	change = evfs_feed_take(meta);
	ck_assert_ptr_nonnull(change);
	ck_assert_int_eq(change->kind, EVFS_CHANGE_ALL);
	ck_assert_ptr_null(change->next);
	evfs_change_free(change);
	ck_assert_ptr_null(evfs_feed_take(meta));
	evfs_feed_remove(meta, &listener);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("commit");
	TCase *tcase = tcase_create("commit");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_set_timeout(tcase, 60);
	tcase_add_test(tcase, group_commit);
	tcase_add_test(tcase, commits_by_itself);
	tcase_add_test(tcase, reopened);
	tcase_add_test(tcase, log_is_bounded);
	tcase_add_test(tcase, commit_fails);
	tcase_add_test(tcase, feed);
	suite_add_tcase(suite, tcase);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? 0 : 1;
}
