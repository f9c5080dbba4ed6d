/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What engines know of each other by gossip, and more of them than all can be
 * connected to: whom they keep sessions with, how changes and member records
 * get everywhere. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "meta/context.h"
#include "meta/members.h"
#include "net/engine_priv.h"
#include "tests/unit/engine_world.h"

/* What is not pushed is seen in gossip, and pulled. */
START_TEST(pull_alone)
{
	struct evfs_session *s;
	struct evfs_err err = { 0 };
	evfs_actor actor;

	make(2);
	power_on(0);
	power_on(1);
	wait_converged(2);
	/* A takes it that B has all that it will ever write */
	actor = evfs_meta_actor(nodes[0].meta);
	s = evfs_session_of(nodes[0].engine, evfs_meta_node(nodes[1].meta));
	must(evfs_context_raise(&s->assumed, actor, 1000000), &err);
	create(0, "kept", 200000, 1);
	run_ms(20);
	ck_assert(!exists(1, "kept"));
	run_ms(3000);
	check_file(1, "kept", 200000, 1);
	wait_converged(2);
}
END_TEST

static unsigned degree(unsigned i)
{
	struct evfs_engine_status s;
	unsigned n = 0;
	size_t k;

	status(i, &s);
	for (k = 0; k < s.n_peers; k++)
		n += s.peers[k].connected;
	evfs_free(s.peers);
	return n;
}

/* More than all can be connected to: each keeps some sessions, changes get
 * everywhere, all know of all; also when some die, and when they come back. */
START_TEST(many_members)
{
	struct evfs_engine_status s;
	struct evfs_peer_status p;
	uint64_t sent = 0;
	unsigned i, links = 0;

	make(NODES);
	for (i = 0; i < NODES; i++)
		power_on(i);
	run_ms(5000);
	wait_converged(NODES);
	for (i = 0; i < NODES; i++) {
		ck_assert_uint_ge(degree(i), 9); /* log2(24) + 4 */
		ck_assert_uint_le(degree(i), 19);
		links += degree(i);
		status(i, &s);
		sent -= s.bytes_sent - s.gossip_bytes;
		evfs_free(s.peers);
	}
	ck_assert_uint_lt(links, NODES * 14);
	create(5, "f", 50000, 1);
	wait_converged(NODES);
	run_ms(2000);
	for (i = 0; i < NODES; i++) {
		check_file(i, "f", 50000, 1);
		status(i, &s);
		sent += s.bytes_sent - s.gossip_bytes;
		evfs_free(s.peers);
	}
	/* of 116 sessions some 70 carry it: some to a member that another one
	 * is about to tell */
	ck_assert_uint_ge(sent, (NODES - 1) * 50000);
	ck_assert_uint_lt(sent, 5 * NODES * 50000);
	for (i = 0; i < 4; i++)
		power_off(i);
	create(7, "g", 1000, 2);
	run_ms(40000);
	for (i = 4; i < NODES; i++) {
		ck_assert(exists(i, "g"));
		peer(i, 2, &p);
		ck_assert_int_eq(p.state, EVFS_PEER_DEAD);
		ck_assert_uint_ge(degree(i), 9);
	}
	for (i = 0; i < 4; i++)
		power_on(i);
	wait_converged(NODES);
	check_file(3, "g", 1000, 2);
}
END_TEST

/* Two halves with sessions enough in each find each other again. */
START_TEST(long_partition)
{
	struct evfs_peer_status p;
	unsigned i, k;

	make(NODES);
	for (i = 0; i < NODES; i++)
		power_on(i);
	wait_converged(NODES);
	for (i = 0; i < NODES / 2; i++)
		for (k = NODES / 2; k < NODES; k++) {
			evfs_loop_link(loop, i, k, false);
			evfs_loop_cut(loop, i, k);
		}
	run_ms(120000);
	create(0, "one", 10, 1);
	create(NODES - 1, "other", 10, 2);
	peer(0, NODES - 1, &p);
	ck_assert_int_eq(p.state, EVFS_PEER_DEAD);
	for (i = 0; i < NODES / 2; i++)
		for (k = NODES / 2; k < NODES; k++)
			evfs_loop_link(loop, i, k, true);
	wait_converged(NODES);
	check_file(0, "other", 10, 2);
	check_file(NODES - 1, "one", 10, 1);
}
END_TEST


/* A record that nobody was told of is missed when gossip compares the lists.
 */
START_TEST(members_by_gossip)
{
	struct evfs_member member;
	struct evfs_err err = { 0 };
	bool changed;

	make(3);
	power_on(0);
	power_on(1);
	power_on(2);
	wait_converged(3);
	evfs_meta_lock(nodes[0].meta);
	must(evfs_members_by_node(nodes[0].meta, evfs_meta_node(nodes[2].meta),
				  &member, &err),
	     &err);
	strcpy(member.address, "loop:77");
	member.stamp_ns++;
	must(evfs_members_join(nodes[0].meta, &member, &changed, &err), &err);
	evfs_meta_unlock(nodes[0].meta);
	nodes[0].engine->members_dirty = true; /* it was told, let us say */
	evfs_loop_poke(loop, 0);
	run_ms(500);
	ck_assert_str_ne(evfs_peer_find(nodes[1].engine, member.node)
				 ->member.address,
			 "loop:77");
	run_ms(8000);
	ck_assert_str_eq(evfs_peer_find(nodes[1].engine, member.node)
				 ->member.address,
			 "loop:77");
	ck_assert_uint_eq(nodes[0].engine->gossip.members,
			  nodes[2].engine->gossip.members);
}
END_TEST

/* Of many records the one that has changed is told, not all. */
START_TEST(one_record)
{
	const struct evfs_engine *teller;
	uint64_t node, before;
	struct evfs_member member;
	struct evfs_err err = { 0 };
	bool changed;
	unsigned i;

	make(NODES);
	for (i = 0; i < NODES; i++)
		power_on(i);
	run_ms(5000);
	wait_converged(NODES);
	teller = nodes[3].engine;
	before = teller->bytes_sent - teller->gossip.bytes;
	node = evfs_meta_node(nodes[9].meta);
	evfs_meta_lock(nodes[3].meta);
	must(evfs_members_by_node(nodes[3].meta, node, &member, &err), &err);
	strcpy(member.address, "loop:77");
	member.stamp_ns++;
	must(evfs_members_join(nodes[3].meta, &member, &changed, &err), &err);
	evfs_meta_unlock(nodes[3].meta);
	evfs_engine_members_changed(nodes[3].engine);
	evfs_loop_poke(loop, 3);
	run_ms(300);
	for (i = 0; i < NODES; i++)
		if (i != 9)
			ck_assert_str_eq(
				evfs_peer_find(nodes[i].engine, node)
					->member.address,
				"loop:77");
	/* one of 60 bytes, not 24, over each session; and reports */
	ck_assert_uint_lt(teller->bytes_sent - teller->gossip.bytes - before,
			  degree(3) * 800);
}
END_TEST

/* A session breaks: suspect at once, unless somebody has heard of it since. */
START_TEST(broken_session)
{
	struct evfs_peer_status p;

	make(3);
	power_on(0);
	power_on(1);
	power_on(2);
	wait_converged(3);
	run_ms(30000);
	evfs_loop_link(loop, 0, 1, false);
	evfs_loop_cut(loop, 0, 1);
	run_ms(3000);
	peer(0, 1, &p);
	ck_assert(!p.connected);
	ck_assert_int_eq(p.state, EVFS_PEER_ALIVE);
	ck_assert_str_eq(p.heard_via, "C");
	power_off(2);
	run_ms(100);
	peer(0, 2, &p);
	ck_assert(!p.connected);
	ck_assert_int_eq(p.state, EVFS_PEER_SUSPECT);
	ck_assert(!converged(0));
	run_ms(20000);
	peer(0, 1, &p);
	ck_assert_int_eq(p.state, EVFS_PEER_DEAD);
	ck_assert_int_ge(p.last_contact_s, 15);
	peer(0, 2, &p);
	ck_assert_int_eq(p.state, EVFS_PEER_DEAD);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("links");
	TCase *tc = tcase_create("links");
	SRunner *runner;
	int failed;

	tcase_set_timeout(tc, 60);
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, pull_alone);
	tcase_add_test(tc, many_members);
	tcase_add_test(tc, long_partition);
	tcase_add_test(tc, members_by_gossip);
	tcase_add_test(tc, one_record);
	tcase_add_test(tc, broken_session);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
