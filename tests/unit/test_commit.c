/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Group commit under threads: those who wait share commits, what is told as
 * durable is on disk, and a peer's reader never sees what is not. */
#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "meta/content.h"
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

/* ---- who shares a commit ---- */

#define PATIENCE_S 20 /* bounds every wait below */

static struct {
	pthread_mutex_t lock;
	pthread_cond_t changed; /* anything below */
	unsigned syncs;         /* calls of fdatasync so far */
	unsigned hold_from;     /* those with this number or a greater one do
	                         * not return; 0: all do */
	unsigned held;          /* 1: one waits for that */
	unsigned told;          /* done() calls */
	unsigned failed;        /* of them, with an error */
	uint64_t durable;       /* counter on disk at the last one */
} disk = { .lock = PTHREAD_MUTEX_INITIALIZER,
	   .changed = PTHREAD_COND_INITIALIZER };

/* In the place of libc's, for SQLite too. */
int fdatasync(int fd)
{
	unsigned number;

	pthread_mutex_lock(&disk.lock);
	number = ++disk.syncs;
	while (disk.hold_from != 0 && number >= disk.hold_from) {
		disk.held = 1;
		pthread_cond_broadcast(&disk.changed);
		pthread_cond_wait(&disk.changed, &disk.lock);
	}
	disk.held = 0;
	pthread_mutex_unlock(&disk.lock);
	return (int)syscall(SYS_fdatasync, fd);
}

/* From the n-th sync from now on; 0: none any more. The number so far. */
static unsigned disk_hold(unsigned n)
{
	unsigned syncs;

	pthread_mutex_lock(&disk.lock);
	syncs = disk.syncs;
	disk.hold_from = n == 0 ? 0 : syncs + n;
	pthread_cond_broadcast(&disk.changed);
	pthread_mutex_unlock(&disk.lock);
	return syncs;
}

/* Until *what is at least n. */
static void disk_wait(const unsigned *what, unsigned n)
{
	struct timespec until;
	int sys = 0;

	(void)clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += PATIENCE_S;
	pthread_mutex_lock(&disk.lock);
	while (*what < n && sys == 0)
		sys = pthread_cond_timedwait(&disk.changed, &disk.lock, &until);
	pthread_mutex_unlock(&disk.lock);
	ck_assert_int_eq(sys, 0);
}

static unsigned disk_get(const unsigned *what)
{
	unsigned n;

	pthread_mutex_lock(&disk.lock);
	n = *what;
	pthread_mutex_unlock(&disk.lock);
	return n;
}

static void on_synced(struct evfs_sync_wait *wait)
{
	uint64_t durable = durable_counter();

	pthread_mutex_lock(&disk.lock);
	disk.told++;
	disk.failed += wait->err.code != 0;
	disk.durable = durable;
	pthread_cond_broadcast(&disk.changed);
	pthread_mutex_unlock(&disk.lock);
}

/* n changes, each with somebody who waits for it; the last one's number. */
static uint64_t change_and_wait(struct evfs_sync_wait *waits, int n)
{
	uint64_t counter = 0;

	for (int i = 0; i < n; i++) {
		char name[16];

		(void)snprintf(name, sizeof(name), "w%d", i);
		counter = store_put_symlink(meta, name).counter;
		waits[i].done = on_synced;
		evfs_meta_sync_then(meta, &waits[i]);
	}
	return counter;
}

/* Whatever is changed while one commit syncs, and whoever waits for it, goes
 * with the next one: one sync for all. */
START_TEST(waits_share_one_sync)
{
	struct evfs_sync_wait first, waits[WRITERS];
	uint64_t counter;
	unsigned syncs;

	/* The log was begun, which SQLite syncs once. */
	(void)store_put_symlink(meta, "begin");
	ck_assert_int_eq(evfs_meta_sync(meta, NULL), 0);
	syncs = disk_hold(1);
	(void)change_and_wait(&first, 1);
	disk_wait(&disk.held, 1);
	counter = change_and_wait(waits, WRITERS);
	ck_assert_uint_eq(disk_get(&disk.told), 0);
	ck_assert_uint_lt(store_durable_counter(meta), counter - WRITERS);
	(void)disk_hold(0);
	disk_wait(&disk.told, WRITERS + 1);
	ck_assert_uint_eq(disk_get(&disk.failed), 0);
	ck_assert_uint_eq(disk.durable, counter);
	ck_assert_uint_eq(disk_get(&disk.syncs) - syncs, 2);
	/* All is durable: told before the call returns, without a commit. */
	waits[0].done = on_synced;
	evfs_meta_sync_then(meta, &waits[0]);
	ck_assert_uint_eq(disk_get(&disk.told), WRITERS + 2);
	ck_assert_uint_eq(disk_get(&disk.syncs) - syncs, 2);
}
END_TEST

static void write_content(struct evfs_sync_wait *wait, int number,
			  void (*done)(struct evfs_sync_wait *wait))
{
	struct evfs_content *content = evfs_meta_content(meta);
	struct evfs_content_put *put;

	ck_assert_int_eq(evfs_content_write(content, &number, sizeof(number),
					    &put, NULL), 0);
	evfs_meta_lock_content(meta);
	ck_assert_int_eq(evfs_content_commit(content, put, NULL), 0);
	evfs_meta_unlock(meta);
	wait->done = done;
	evfs_meta_sync_then(meta, wait);
}

/* The same with new contents, all different: one sync for them and one for what
 * names them. */
START_TEST(contents_share_two_syncs)
{
	struct evfs_sync_wait first, waits[WRITERS];
	unsigned syncs;

	write_content(&first, -1, on_synced); /* the log, the segment */
	disk_wait(&disk.told, 1);
	syncs = disk_hold(2);
	write_content(&first, -2, on_synced);
	disk_wait(&disk.held, 1);
	for (int i = 0; i < WRITERS; i++)
		write_content(&waits[i], i, on_synced);
	ck_assert_uint_eq(disk_get(&disk.told), 1);
	(void)disk_hold(0);
	disk_wait(&disk.told, WRITERS + 2);
	ck_assert_uint_eq(disk_get(&disk.failed), 0);
	ck_assert_uint_eq(disk_get(&disk.syncs) - syncs, 4);
}
END_TEST

/* On the committer's thread: the next commit can succeed. */
static void on_lost(struct evfs_sync_wait *wait)
{
	struct rlimit limit = { RLIM_INFINITY, RLIM_INFINITY };

	must(setrlimit(RLIMIT_FSIZE, &limit) == 0, "limit");
	on_synced(wait);
}

/* A commit that fails is told to all whose changes it took along, once each,
 * also to those who came when it had begun; the next, which succeeds, does not
 * make it good. */
START_TEST(all_are_told_of_a_loss)
{
	struct evfs_sync_wait first, waits[WRITERS];

	write_content(&first, -1, on_synced);
	disk_wait(&disk.told, 1);
	ck_assert(signal(SIGXFSZ, SIG_IGN) != SIG_ERR);
	(void)disk_hold(1);
	write_content(&first, -2, on_lost);
	disk_wait(&disk.held, 1); /* the content's: before COMMIT */
	(void)change_and_wait(waits, WRITERS);
	limit_files(4096);
	(void)disk_hold(0);
	disk_wait(&disk.told, WRITERS + 2);
	ck_assert_uint_eq(disk_get(&disk.failed), WRITERS + 1);
	for (int i = 0; i < WRITERS; i++)
		ck_assert_str_ne(waits[i].err.msg, "");
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
	tcase_add_test(tcase, waits_share_one_sync);
	tcase_add_test(tcase, contents_share_two_syncs);
	tcase_add_test(tcase, all_are_told_of_a_loss);
	tcase_add_test(tcase, feed);
	suite_add_tcase(suite, tcase);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? 0 : 1;
}
