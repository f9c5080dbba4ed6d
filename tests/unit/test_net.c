/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The network thread: calls, watched descriptors, rounds, news of the store,
 * and what starting it can say. */
#include <check.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "meta/content.h"
#include "tests/unit/ssh_fake.h"

#define WAIT_MS 5000

static struct replica replica;

static void setup(void)
{
	replica_make(&replica, "alpha", "volume");
	replica_start(&replica, NULL);
}

static void teardown(void)
{
	replica_free(&replica);
}

/* Waits for a condition that another thread makes true. */
#define wait_for(condition) \
	do { \
		uint64_t end_ = now_ns() + WAIT_MS * (uint64_t)1000000; \
		while (!(condition)) { \
			ck_assert_msg(now_ns() < end_, "%s", #condition); \
			poll(NULL, 0, 1); \
		} \
	} while (0)

/* ---- calls ---- */

struct counted {
	unsigned n;         /* changed on the network thread only */
	pthread_t thread;
};

static void count(void *arg, struct evfs_engine *engine)
{
	struct counted *counted = arg;

	ck_assert_ptr_nonnull(engine);
	counted->n++;
	counted->thread = pthread_self();
}

static void *call_many(void *arg)
{
	for (int i = 0; i < 500; i++)
		evfs_net_call(replica.net, count, arg);
	return NULL;
}

START_TEST(calls_of_many_threads_are_run_one_by_one)
{
	struct counted counted = { 0 };
	pthread_t threads[4];

	for (int i = 0; i < 4; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, call_many,
						&counted), 0);
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	ck_assert_uint_eq(counted.n, 2000);
	ck_assert(!pthread_equal(counted.thread, pthread_self()));
}
END_TEST

/* ---- watched descriptors ---- */

struct watched {
	int fds[2];         /* [0] is watched */
	atomic_uint bytes;  /* read by the network thread */
	atomic_uint writes; /* how often it was writable */
	atomic_bool gone;
};

static void on_ready(void *ctx, struct evfs_engine *engine, short revents)
{
	struct watched *watched = ctx;
	char scratch[64];

	(void)engine;
	ck_assert(!atomic_load(&watched->gone));
	if (revents & POLLIN) {
		ssize_t n = read(watched->fds[0], scratch, sizeof(scratch));

		if (n > 0)
			atomic_fetch_add(&watched->bytes, (unsigned)n);
		if (n == 0) {
			atomic_store(&watched->gone, true);
			evfs_net_remove_fd(replica.net, watched->fds[0]);
		}
	}
	if (revents & POLLOUT) {
		atomic_fetch_add(&watched->writes, 1);
		evfs_net_set_events(replica.net, watched->fds[0], POLLIN);
	}
}

static void watch(struct watched *watched)
{
	memset(watched, 0, sizeof(*watched));
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0,
				    watched->fds), 0);
	ck_assert_int_eq(evfs_net_add_fd(replica.net, watched->fds[0], POLLIN,
					 on_ready, watched), 0);
}

START_TEST(descriptors_are_watched)
{
	struct watched one, other;

	watch(&one);
	watch(&other);
	ck_assert_int_eq(write(one.fds[1], "abc", 3), 3);
	ck_assert_int_eq(write(other.fds[1], "de", 2), 2);
	wait_for(atomic_load(&one.bytes) == 3);
	wait_for(atomic_load(&other.bytes) == 2);
	ck_assert_uint_eq(atomic_load(&one.writes), 0);
	evfs_net_set_events(replica.net, one.fds[0], POLLIN | POLLOUT);
	wait_for(atomic_load(&one.writes) == 1);
	/* Removed from within its callback: never called again. */
	close(one.fds[1]);
	wait_for(atomic_load(&one.gone));
	ck_assert_int_eq(write(other.fds[1], "f", 1), 1);
	wait_for(atomic_load(&other.bytes) == 3);
	close(one.fds[0]);
	close(other.fds[1]);
	wait_for(atomic_load(&other.gone));
	close(other.fds[0]);
}
END_TEST

static atomic_uint rounds;

static void on_round(void *ctx, struct evfs_engine *engine)
{
	ck_assert_ptr_eq(ctx, &rounds);
	ck_assert_ptr_nonnull(engine);
	atomic_fetch_add(&rounds, 1);
}

START_TEST(rounds_are_told_and_an_idle_thread_sleeps)
{
	unsigned before;

	evfs_net_on_round(replica.net, on_round, &rounds);
	for (unsigned i = 0; i < 10; i++) {
		before = atomic_load(&rounds);
		evfs_net_call(replica.net, count, &(struct counted){ 0 });
		wait_for(atomic_load(&rounds) > before);
	}
	poll(NULL, 0, 20); /* the last wake-ups are drained */
	before = atomic_load(&rounds);
	poll(NULL, 0, 200);
	ck_assert_uint_le(atomic_load(&rounds) - before, 1);
	evfs_net_on_round(replica.net, NULL, NULL);
}
END_TEST

START_TEST(idle_connections_let_it_sleep)
{
	struct replica other;
	unsigned before;
	evfs_conn id;

	replica_make(&other, "beta", "volume");
	replica_start(&other, NULL);
	replica_know(&other, &replica);
	replica_know(&replica, &other);
	id = replica_dial(&replica, &other, NULL, NULL);
	ck_assert(replica_wait(&replica, id, is_open, 0, WAIT_MS));
	replica_ping(&replica, id, 3);
	ck_assert(replica_wait(&replica, id, has_pongs, 3, WAIT_MS));
	evfs_net_on_round(replica.net, on_round, &rounds);
	poll(NULL, 0, 50);
	before = atomic_load(&rounds);
	poll(NULL, 0, 200);
	ck_assert_uint_le(atomic_load(&rounds) - before, 2);
	replica_free(&other);
}
END_TEST

/* ---- news ---- */

START_TEST(news_of_the_store_arrive)
{
	evfs_hash name = evfs_hash_bytes("x", 1);
	struct evfs_err err = { 0 };
	struct replica other;

	evfs_content_ask(evfs_meta_content(replica.meta), &name, 5);
	evfs_content_ask(evfs_meta_content(replica.meta), &name, 6);
	wait_for(replica_urgents(&replica) == 2);
	replica_make(&other, "beta", "volume");
	replica_know(&replica, &other);
	ck_assert_int_eq(evfs_meta_commit(replica.meta, &err), 0);
	wait_for(replica_durables(&replica) >= 1);
	replica_free(&other);
}
END_TEST

/* ---- starting ---- */

static void start_fails(const char *listen, int code, const char *words)
{
	struct evfs_net_options options = { .listen = listen,
					    .key_path = replica.key_path };
	struct evfs_err err = { 0 };
	struct evfs_net *net = NULL;
	int rc = evfs_net_start(replica.meta, &options, &net, &err);

	ck_assert_msg(rc == code, "%d: %s", rc, err.msg);
	ck_assert_msg(strstr(err.msg, words), "%s", err.msg);
	ck_assert_ptr_null(net);
}

START_TEST(a_listener_that_cannot_be_says_why)
{
	char words[400];

	snprintf(words, sizeof(words), "listen %s: Address already in use (",
		 replica.member.address);
	start_fails(replica.member.address, EVFS_EBUSY, words);
	start_fails("192.0.2.77:0", EVFS_EIO, "listen 192.0.2.77:0: Cannot");
	start_fails("nonsense", EVFS_EINVAL, "listen: address 'nonsense'");
	start_fails("127.0.0.1:99999", EVFS_EINVAL, "65535");
}
END_TEST

START_TEST(without_listener_it_still_dials)
{
	struct evfs_net_options none = { .listen = NULL };
	struct replica other;
	evfs_conn id;

	replica_make(&other, "beta", "volume");
	replica_start(&other, &none);
	ck_assert_ptr_null(evfs_net_address(other.net));
	ck_assert_int_eq(strncmp(evfs_net_fingerprint(other.net), "SHA256:",
				 7), 0);
	replica_know(&other, &replica);
	replica_know(&replica, &other);
	id = replica_dial(&other, &replica, NULL, NULL);
	ck_assert_msg(replica_wait(&other, id, is_open, 0, WAIT_MS), "%s",
		      replica_conn(&other, id).why.msg);
	replica_free(&other);
}
END_TEST

START_TEST(ipv6_works_where_there_is_any)
{
	struct evfs_net_options six = { .listen = "[::1]:0" };
	struct evfs_net *net;
	struct replica other;
	evfs_conn id;

	replica_make(&other, "beta", "volume");
	six.key_path = other.key_path;
	if (evfs_net_start(other.meta, &six, &net, NULL) == 0) {
		evfs_net_stop(net);
		replica_start(&other, &six);
		ck_assert_int_eq(strncmp(other.member.address, "[::1]:", 6),
				 0);
		replica_know(&other, &replica);
		replica_know(&replica, &other);
		id = replica_dial(&replica, &other, NULL, NULL);
		ck_assert_msg(replica_wait(&replica, id, is_open, 0, WAIT_MS),
			      "%s", replica_conn(&replica, id).why.msg);
	}
	replica_free(&other);
}
END_TEST

START_TEST(stopping_in_the_middle_is_quick)
{
	struct replica other;
	uint64_t start;
	evfs_conn id;

	replica_make(&other, "beta", "volume");
	replica_start(&other, NULL);
	replica_know(&other, &replica);
	replica_know(&replica, &other);
	id = replica_dial(&replica, &other, NULL, NULL);
	ck_assert(replica_wait(&replica, id, is_open, 0, WAIT_MS));
	replica_send(&replica, id, (uint64_t)256 << 20);
	replica_dial(&replica, &other, NULL, NULL);
	replica_dial(&replica, &other, "no-such-host.invalid:1", NULL);
	start = now_ns();
	replica_stop(&replica);
	ck_assert_uint_lt(now_ns() - start, 3000000000u);
	replica_free(&other);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("net");
	TCase *tcase = tcase_create("thread");
	SRunner *runner;
	int failed;

	tcase_set_timeout(tcase, 60);
	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_add_test(tcase, calls_of_many_threads_are_run_one_by_one);
	tcase_add_test(tcase, descriptors_are_watched);
	tcase_add_test(tcase, rounds_are_told_and_an_idle_thread_sleeps);
	tcase_add_test(tcase, idle_connections_let_it_sleep);
	tcase_add_test(tcase, news_of_the_store_arrive);
	tcase_add_test(tcase, a_listener_that_cannot_be_says_why);
	tcase_add_test(tcase, without_listener_it_still_dials);
	tcase_add_test(tcase, ipv6_works_where_there_is_any);
	tcase_add_test(tcase, stopping_in_the_middle_is_quick);
	suite_add_tcase(suite, tcase);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
