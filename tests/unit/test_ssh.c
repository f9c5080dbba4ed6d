/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The SSH transport between two members: connections, transfers, backpressure,
 * control beside bulk, new keys on the way. */
#include <arpa/inet.h>
#include <check.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/mem.h"
#include "tests/unit/ssh_fake.h"

#define MIB ((uint64_t)1 << 20)
#define WAIT_MS 20000

static void connect_pair(struct replica *a, struct replica *b,
			 const struct evfs_net_options *options,
			 evfs_conn *ret_a, evfs_conn *ret_b)
{
	replica_pair(a, b, options);
	*ret_a = replica_dial(a, b, NULL, NULL);
	ck_assert_msg(replica_wait(a, *ret_a, is_open, 0, WAIT_MS), "%s",
		      replica_conn(a, *ret_a).why.msg);
	*ret_b = replica_wait_incoming(b, 1, WAIT_MS);
	ck_assert_uint_ne(*ret_b, 0);
}

START_TEST(connects_and_names_the_member)
{
	struct replica a, b;
	struct fake_conn conn;
	evfs_conn at_a, at_b;

	connect_pair(&a, &b, NULL, &at_a, &at_b);
	conn = replica_conn(&a, at_a);
	ck_assert(conn.outgoing);
	ck_assert_uint_eq(conn.node, b.node);
	conn = replica_conn(&b, at_b);
	ck_assert(!conn.outgoing);
	ck_assert_uint_eq(conn.node, a.node);
	replica_ping(&a, at_a, 10);
	ck_assert(replica_wait(&a, at_a, has_pongs, 10, WAIT_MS));
	replica_ping(&b, at_b, 10);
	ck_assert(replica_wait(&b, at_b, has_pongs, 10, WAIT_MS));
	replica_free(&a);
	/* The other side is told, and why. */
	ck_assert(replica_wait(&b, at_b, is_closed, 0, WAIT_MS));
	ck_assert_int_eq(replica_conn(&b, at_b).why.code, EVFS_ECLOSED);
	replica_free(&b);
}
END_TEST

START_TEST(both_may_dial)
{
	struct replica a, b;
	evfs_conn at_a, at_b;

	replica_pair(&a, &b, NULL);
	at_a = replica_dial(&a, &b, NULL, NULL);
	at_b = replica_dial(&b, &a, NULL, NULL);
	ck_assert(replica_wait(&a, at_a, is_open, 0, WAIT_MS));
	ck_assert(replica_wait(&b, at_b, is_open, 0, WAIT_MS));
	ck_assert_uint_ne(replica_wait_incoming(&a, 1, WAIT_MS), 0);
	ck_assert_uint_ne(replica_wait_incoming(&b, 1, WAIT_MS), 0);
	replica_ping(&a, at_a, 3);
	replica_ping(&b, at_b, 3);
	ck_assert(replica_wait(&a, at_a, has_pongs, 3, WAIT_MS));
	ck_assert(replica_wait(&b, at_b, has_pongs, 3, WAIT_MS));
	replica_free(&a);
	replica_free(&b);
}
END_TEST

START_TEST(a_name_is_looked_up)
{
	struct replica a, b;
	char address[300];
	evfs_conn at_a;

	replica_pair(&a, &b, NULL);
	snprintf(address, sizeof(address), "localhost%s",
		 strrchr(b.member.address, ':'));
	at_a = replica_dial(&a, &b, address, NULL);
	ck_assert_msg(replica_wait(&a, at_a, is_open, 0, WAIT_MS), "%s",
		      replica_conn(&a, at_a).why.msg);
	replica_free(&a);
	replica_free(&b);
}
END_TEST

static void transfer_both_ways(const struct evfs_net_options *options,
			       uint64_t bytes)
{
	struct replica a, b;
	evfs_conn at_a, at_b;

	connect_pair(&a, &b, options, &at_a, &at_b);
	replica_send(&a, at_a, bytes);
	replica_send(&b, at_b, bytes);
	replica_ping(&a, at_a, 50);
	ck_assert_msg(replica_wait(&b, at_b, has_received, bytes, WAIT_MS),
		      "%s", replica_conn(&b, at_b).why.msg);
	ck_assert_msg(replica_wait(&a, at_a, has_received, bytes, WAIT_MS),
		      "%s", replica_conn(&a, at_a).why.msg);
	ck_assert(replica_wait(&a, at_a, has_pongs, 50, WAIT_MS));
	ck_assert(!replica_conn(&a, at_a).damaged);
	ck_assert(!replica_conn(&b, at_b).damaged);
	ck_assert_uint_eq(replica_conn(&b, at_b).received, bytes);
	ck_assert_uint_eq(replica_conn(&a, at_a).received, bytes);
	ck_assert_uint_eq(replica_queued(&a, at_a), 0);
	replica_free(&a);
	replica_free(&b);
}

START_TEST(transfers_both_ways)
{
	transfer_both_ways(NULL, 64 * MIB + 12345);
}
END_TEST

START_TEST(keys_are_renewed_on_the_way)
{
	struct evfs_net_options options = { .listen = "127.0.0.1:0",
					    .rekey_bytes = 3 * MIB };

	transfer_both_ways(&options, 32 * MIB + 777);
}
END_TEST

START_TEST(holding_pushes_back)
{
	struct replica a, b;
	uint64_t sent = 0, bytes = 48 * MIB, pongs = 0;
	evfs_conn at_a, at_b;

	connect_pair(&a, &b, NULL, &at_a, &at_b);
	replica_hold(&b, at_b, true);
	replica_send(&a, at_a, bytes);
	/* It comes to rest: what is taken no longer grows, control flows. */
	for (int quiet = 0; quiet < 5;) {
		uint64_t now;

		replica_ping(&a, at_a, 20);
		pongs += 20;
		ck_assert(replica_wait(&a, at_a, has_pongs, pongs, WAIT_MS));
		poll(NULL, 0, 20);
		now = replica_conn(&a, at_a).sent;
		quiet = now == sent ? quiet + 1 : 0;
		sent = now;
	}
	ck_assert_uint_eq(replica_conn(&b, at_b).received, 0);
	ck_assert_uint_gt(sent, 20 * MIB); /* a window for long paths */
	ck_assert_uint_lt(sent, 40 * MIB); /* and yet a limit */
	ck_assert_uint_gt(replica_conn(&a, at_a).refusals, 0);
	ck_assert_uint_le(replica_queued(&a, at_a), 8 * MIB);
	replica_hold(&b, at_b, false);
	/* Now and then it is held again. */
	for (int i = 0; i < 20; i++) {
		replica_hold(&b, at_b, i % 2 == 0);
		poll(NULL, 0, 2);
	}
	replica_hold(&b, at_b, false);
	ck_assert(replica_wait(&b, at_b, has_received, bytes, WAIT_MS));
	ck_assert(!replica_conn(&b, at_b).damaged);
	ck_assert_uint_gt(replica_conn(&a, at_a).writables, 0);
	replica_free(&a);
	replica_free(&b);
}
END_TEST

START_TEST(control_passes_bulk)
{
	struct replica a, b;
	evfs_conn at_a, at_b;

	connect_pair(&a, &b, NULL, &at_a, &at_b);
	replica_send(&a, at_a, (uint64_t)1 << 40); /* without end */
	ck_assert(replica_wait(&b, at_b, has_received, 32 * MIB, WAIT_MS));
	replica_ping(&a, at_a, 100);
	ck_assert(replica_wait(&a, at_a, has_pongs, 100, WAIT_MS));
	/* Megabytes were queued each time; no more than a slice or two of
	 * them came before the ping. */
	ck_assert_uint_gt(replica_queued(&a, at_a), 2 * MIB);
	ck_assert_uint_lt(replica_conn(&b, at_b).overtaken_by, MIB / 2);
	replica_free(&a);
	replica_free(&b);
}
END_TEST

START_TEST(close_sends_what_is_queued)
{
	struct replica a, b;
	evfs_conn at_a, at_b;

	connect_pair(&a, &b, NULL, &at_a, &at_b);
	replica_send(&a, at_a, 7 * MIB);
	replica_close(&a, at_a);
	ck_assert(replica_wait(&b, at_b, is_closed, 0, WAIT_MS));
	ck_assert_uint_eq(replica_conn(&b, at_b).received, 7 * MIB);
	ck_assert(!replica_conn(&b, at_b).damaged);
	/* No report of what we closed ourselves. */
	ck_assert_int_eq(replica_conn(&a, at_a).why.code, 0);
	replica_free(&a);
	replica_free(&b);
}
END_TEST

static bool is_open_or_closed(const struct fake_conn *conn, uint64_t arg)
{
	(void)arg;
	return conn->open || conn->why.code != 0;
}

static bool is_over(const struct fake_conn *conn, uint64_t bytes)
{
	return conn->why.code != 0 || conn->received >= bytes;
}

/* Each allocation fails once: the connection ends, or does not notice; the
 * next one works. */
START_TEST(memory_may_run_out)
{
	struct replica a, b;
	evfs_conn id;
	uint64_t n = 0;

	replica_pair(&a, &b, NULL);
	do {
		evfs_conn at_b;

		evfs_mem_fail_after(++n);
		id = replica_dial(&a, &b, NULL, NULL);
		if (id == 0)
			continue;
		ck_assert(replica_wait(&a, id, is_open_or_closed, 0, WAIT_MS));
		if (!replica_conn(&a, id).open)
			continue;
		at_b = replica_wait_incoming(&b, 1, 1000);
		if (at_b == 0)
			continue;
		replica_send(&a, id, 5 * MIB);
		replica_ping(&a, id, 1);
		ck_assert(replica_wait(&b, at_b, is_over, 5 * MIB, WAIT_MS));
		replica_close(&a, id);
		ck_assert(replica_wait(&b, at_b, is_closed, 0, WAIT_MS));
	} while (evfs_mem_fail_hit() && n < 200);
	ck_assert_uint_lt(n, 200);
	ck_assert_uint_gt(n, 10);
	evfs_mem_fail_after(0);
	id = replica_dial(&a, &b, NULL, NULL);
	ck_assert(replica_wait(&a, id, is_open, 0, WAIT_MS));
	replica_free(&a);
	replica_free(&b);
}
END_TEST

/* ---- dialling in vain ---- */

static void dial_fails(struct replica *a, const struct replica *b,
		       const char *address, const char *key, int code,
		       const char *words)
{
	evfs_conn id = replica_dial(a, b, address, key);
	struct fake_conn conn;

	ck_assert(replica_wait(a, id, is_closed, 0, WAIT_MS));
	conn = replica_conn(a, id);
	ck_assert(!conn.open);
	ck_assert_msg(conn.why.code == code, "%s", conn.why.msg);
	ck_assert_msg(strstr(conn.why.msg, words), "%s", conn.why.msg);
}

START_TEST(dialling_in_vain_says_why)
{
	struct evfs_net_options options = { .listen = "127.0.0.1:0",
					    .handshake_ms = 300 };
	struct sockaddr_in addr;
	socklen_t len = sizeof(addr);
	struct replica a, b;
	char address[64];
	int fd;

	replica_pair(&a, &b, &options);
	/* One that listens and never says a word: the deadline. */
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ck_assert_int_eq(listen(fd, 8), 0);
	ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&addr, &len), 0);
	snprintf(address, sizeof(address), "127.0.0.1:%d",
		 ntohs(addr.sin_port));
	dial_fails(&a, &b, address, NULL, EVFS_ETIMEOUT, "within 300 ms");
	close(fd);
	dial_fails(&a, &b, address, NULL, EVFS_EUNREACHABLE,
		   "Connection refused");
	dial_fails(&a, &b, "no-such-host.invalid:1", NULL, EVFS_EUNREACHABLE,
		   "look up 'no-such-host.invalid'");
	dial_fails(&a, &b, "nonsense", NULL, EVFS_EINVAL, "HOST:PORT");
	replica_free(&a);
	replica_free(&b);
}
END_TEST

START_TEST(host_key_must_be_the_pinned_one)
{
	struct replica a, b, c;

	replica_pair(&a, &b, NULL);
	replica_make(&c, "gamma", "volume");
	replica_start(&c, NULL);
	replica_know(&c, &a);
	replica_know(&a, &c);
	/* At beta's address answers gamma. */
	dial_fails(&a, &b, c.member.address, NULL, EVFS_EAUTH,
		   "host key of beta is not the one pinned");
	ck_assert_uint_eq(replica_count(&c, false), 0);
	replica_free(&a);
	replica_free(&b);
	replica_free(&c);
}
END_TEST

START_TEST(strangers_and_removed_members_are_refused)
{
	struct evfs_err err = { 0 };
	struct replica a, b;
	evfs_conn at_a;

	replica_make(&a, "alpha", "volume");
	replica_make(&b, "beta", "volume");
	replica_start(&a, NULL);
	replica_start(&b, NULL);
	replica_know(&a, &b); /* but beta does not know alpha */
	dial_fails(&a, &b, NULL, NULL, EVFS_EAUTH, "refused our key");
	replica_know(&b, &a);
	at_a = replica_dial(&a, &b, NULL, NULL);
	ck_assert(replica_wait(&a, at_a, is_open, 0, WAIT_MS));
	evfs_meta_lock(b.meta);
	ck_assert_int_eq(evfs_members_remove(b.meta, a.node, &err), 0);
	evfs_meta_unlock(b.meta);
	dial_fails(&a, &b, NULL, NULL, EVFS_EAUTH, "refused our key");
	replica_free(&a);
	replica_free(&b);
}
END_TEST

START_TEST(a_copy_of_ourselves_is_refused)
{
	struct replica a, b;

	replica_pair(&a, &b, NULL);
	/* alpha dials itself: as a copied store would. */
	dial_fails(&a, &a, NULL, NULL, EVFS_EAUTH, "refused our key");
	replica_free(&a);
	replica_free(&b);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("ssh");
	TCase *tcase = tcase_create("members");
	SRunner *runner;
	int failed;

	tcase_set_timeout(tcase, 60);
	tcase_add_test(tcase, connects_and_names_the_member);
	tcase_add_test(tcase, both_may_dial);
	tcase_add_test(tcase, a_name_is_looked_up);
	tcase_add_test(tcase, transfers_both_ways);
	tcase_add_test(tcase, keys_are_renewed_on_the_way);
	tcase_add_test(tcase, holding_pushes_back);
	tcase_add_test(tcase, control_passes_bulk);
	tcase_add_test(tcase, close_sends_what_is_queued);
	tcase_add_test(tcase, memory_may_run_out);
	tcase_add_test(tcase, dialling_in_vain_says_why);
	tcase_add_test(tcase, host_key_must_be_the_pinned_one);
	tcase_add_test(tcase, strangers_and_removed_members_are_refused);
	tcase_add_test(tcase, a_copy_of_ourselves_is_refused);
	suite_add_tcase(suite, tcase);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
