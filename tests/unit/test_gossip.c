/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Gossip without an engine: tables of a few members that exchange messages
 * over the real encoding, and members that lie. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/env.h"
#include "net/gossip.h"
#include "net/topology.h"
#include "net/wire.h"

#define MS ((uint64_t)1000000)
#define SECOND ((uint64_t)1000000000)
#define N 4
#define WALL_MS 1700000000000u

static struct evfs_gossip tables[N];
static uint64_t now_ns, rng;

static uint64_t clock_wall(void *ctx)
{
	(void)ctx;
	return WALL_MS * MS + now_ns;
}

static uint64_t clock_mono(void *ctx)
{
	(void)ctx;
	return SECOND + now_ns;
}

static void chance(void *ctx, void *data, size_t len)
{
	uint8_t *at = data;

	(void)ctx;
	for (; len > 0; len--) {
		rng = rng * 6364136223846793005ULL + 1442695040888963407ULL;
		*at++ = (uint8_t)(rng >> 56);
	}
}

static const struct evfs_env env = { NULL, clock_wall, clock_mono, chance };

static void setup(void)
{
	uint64_t nodes[N] = { 10, 20, 30, 40 };
	unsigned i;

	now_ns = 0;
	rng = 1;
	for (i = 0; i < N; i++) {
		ck_assert_int_eq(evfs_gossip_init(&tables[i], &env, nodes[i],
						  1000),
				 0);
		ck_assert_int_eq(evfs_gossip_set_members(&tables[i], nodes, N),
				 0);
	}
}

static void teardown(void)
{
	unsigned i;

	for (i = 0; i < N; i++)
		evfs_gossip_fini(&tables[i]);
}

/* ---- messages ---- */

static Evfs__Wire__Envelope *through_wire(struct evfs_gossip_message *message)
{
	Evfs__Wire__Envelope e = EVFS__WIRE__ENVELOPE__INIT, *back;
	struct evfs_buf frame = { 0 };
	struct evfs_err err = { 0 };

	e.kind_case = EVFS__WIRE__ENVELOPE__KIND_GOSSIP_SYN;
	e.gossip_syn = &message->wire;
	ck_assert_int_eq(evfs_wire_encode(&e, &frame), 0);
	ck_assert_msg(evfs_wire_decode(frame.data + EVFS_WIRE_HEADER,
				       frame.len - EVFS_WIRE_HEADER, &back,
				       &err) == 0,
		      "%s", err.msg);
	evfs_buf_fini(&frame);
	evfs_gossip_message_fini(message);
	return back;
}

/* The whole exchange of a with b. */
static void exchange(unsigned a, unsigned b)
{
	struct evfs_gossip_message message;
	Evfs__Wire__Envelope *syn, *ack, *ack2;

	ck_assert_int_eq(evfs_gossip_syn(&tables[a], &message), 0);
	syn = through_wire(&message);
	evfs_gossip_take(&tables[b], tables[a].self, syn->gossip_syn);
	ck_assert_int_eq(
		evfs_gossip_ack(&tables[b], syn->gossip_syn, &message), 0);
	ack = through_wire(&message);
	evfs_gossip_take(&tables[a], tables[b].self, ack->gossip_syn);
	ck_assert_int_eq(
		evfs_gossip_ack2(&tables[a], ack->gossip_syn, &message), 0);
	ack2 = through_wire(&message);
	evfs_gossip_take(&tables[b], tables[a].self, ack2->gossip_syn);
	evfs_wire_free(syn);
	evfs_wire_free(ack);
	evfs_wire_free(ack2);
}

static void set_state(unsigned i, uint64_t counter)
{
	struct evfs_gossip_state state = { .epoch = 1,
					   .counter = counter,
					   .dots = counter,
					   .version = 1,
					   .version_oldest = 1 };

	state.context[0] = (uint8_t)counter;
	state.root.b[0] = (uint8_t)counter;
	evfs_gossip_set_own(&tables[i], &state);
}

static const struct evfs_gossip_entry *entry(unsigned at, unsigned of)
{
	const struct evfs_gossip_entry *e =
		evfs_gossip_find(&tables[at], tables[of].self);

	ck_assert_ptr_nonnull(e);
	return e;
}

static enum evfs_gossip_life life(unsigned at, unsigned of)
{
	return evfs_gossip_life(&tables[at], entry(at, of));
}

static void rounds(unsigned n, unsigned without)
{
	unsigned i;

	for (; n > 0; n--) {
		now_ns += SECOND;
		for (i = 0; i < N; i++)
			if (i != without)
				evfs_gossip_round(&tables[i], SECOND);
		/* a chain: 0 and 3 never meet */
		for (i = 0; i + 1 < N; i++)
			if (i != without && i + 1 != without)
				exchange(i, i + 1);
	}
}

/* One row from a member, as it likes. */
static void claim(unsigned at, unsigned from, uint64_t node, uint64_t heartbeat,
		  uint32_t age)
{
	Evfs__Wire__Gossip message = EVFS__WIRE__GOSSIP__INIT;
	uint8_t row[EVFS_GOSSIP_ROW_BYTES];

	evfs_be64_write(row, node);
	evfs_be64_write(row + 8, heartbeat);
	evfs_be32_write(row + 16, age);
	message.rows = evfs_wire_bytes(row, sizeof(row));
	evfs_gossip_take(&tables[at], tables[from].self, &message);
}

/* ---- tests ---- */

START_TEST(states_travel)
{
	set_state(3, 7);
	ck_assert_int_eq(life(0, 3), EVFS_GOSSIP_DEAD); /* never heard of */
	ck_assert(evfs_gossip_silence_ns(&tables[0], entry(0, 3)) ==
		  UINT64_MAX);
	rounds(3, N);
	ck_assert_int_eq(life(0, 3), EVFS_GOSSIP_ALIVE);
	ck_assert_uint_eq(entry(0, 3)->state.counter, 7);
	ck_assert_uint_eq(entry(0, 3)->state.root.b[0], 7);
	ck_assert_uint_eq(entry(0, 3)->via, tables[1].self);
	ck_assert_uint_eq(entry(2, 3)->via, tables[3].self);
	set_state(3, 8);
	rounds(3, N);
	ck_assert_uint_eq(entry(0, 3)->state.counter, 8);
	ck_assert_uint_eq(entry(0, 3)->state.context[0], 8);
}
END_TEST

/* In the push half (SYN, ACK) and in the pull half (ACK, ACK2). */
START_TEST(one_exchange_each_way)
{
	set_state(0, 5);
	set_state(1, 6);
	exchange(0, 1);
	ck_assert_uint_eq(entry(1, 0)->state.counter, 5);
	ck_assert_uint_eq(entry(0, 1)->state.counter, 6);
	exchange(1, 2); /* tells of 0 by ACK2 */
	ck_assert_uint_eq(entry(2, 0)->state.counter, 5);
	exchange(3, 2); /* asks for 0 and 1 by ACK */
	ck_assert_uint_eq(entry(3, 0)->state.counter, 5);
	ck_assert_uint_eq(entry(3, 1)->state.counter, 6);
}
END_TEST

START_TEST(death_and_return)
{
	rounds(50, N);
	rounds(3, 2);
	ck_assert_int_eq(life(1, 2), EVFS_GOSSIP_ALIVE);
	rounds(3, 2);
	ck_assert_int_eq(life(1, 2), EVFS_GOSSIP_SUSPECT);
	ck_assert_int_eq(life(0, 2), EVFS_GOSSIP_SUSPECT);
	ck_assert_int_eq(life(0, 1), EVFS_GOSSIP_ALIVE);
	rounds(10, 2);
	ck_assert_int_eq(life(0, 2), EVFS_GOSSIP_DEAD);
	rounds(2, N);
	ck_assert_int_eq(life(0, 2), EVFS_GOSSIP_ALIVE);
	ck_assert_int_eq(life(0, 3), EVFS_GOSSIP_ALIVE);
}
END_TEST

/* What is heard at the end of a pause, before the next round, which is a short
 * one, is no reason to call anybody dead. */
START_TEST(heard_at_the_end_of_a_pause)
{
	rounds(30, N);
	now_ns += 600 * SECOND;
	evfs_gossip_seen(&tables[0], tables[1].self);
	evfs_gossip_round(&tables[0], SECOND * 8 / 10);
	ck_assert_int_eq(life(0, 1), EVFS_GOSSIP_ALIVE);
}
END_TEST

/* It blames nobody for its own sleep, neither before nor after its next round.
 */
START_TEST(own_pause)
{
	rounds(30, N);
	now_ns += 600 * SECOND;
	ck_assert_int_eq(life(0, 1), EVFS_GOSSIP_ALIVE);
	evfs_gossip_round(&tables[0], SECOND);
	ck_assert_int_eq(life(0, 1), EVFS_GOSSIP_ALIVE);
	ck_assert_uint_eq(tables[0].health.score, 1);
	/* and it is more patient for a while */
	now_ns += 900 * MS;
	evfs_gossip_round(&tables[0], SECOND);
	ck_assert_int_eq(life(0, 1), EVFS_GOSSIP_ALIVE);
	/* one who stays away dies all the same */
	for (unsigned i = 0; i < 30; i++) {
		now_ns += SECOND;
		evfs_gossip_round(&tables[0], SECOND);
	}
	ck_assert_int_eq(life(0, 1), EVFS_GOSSIP_DEAD);
}
END_TEST

START_TEST(unknown_nodes)
{
	Evfs__Wire__Gossip message = EVFS__WIRE__GOSSIP__INIT;
	Evfs__Wire__GossipState state = EVFS__WIRE__GOSSIP_STATE__INIT;
	Evfs__Wire__GossipState *list[] = { &state };
	uint8_t bytes[EVFS_HASH_SIZE] = { 1 };
	uint64_t nodes[] = { 10, 20 };

	claim(0, 1, 99, WALL_MS, 0);
	state.node = 99;
	state.since = WALL_MS;
	state.context = evfs_wire_bytes(bytes, EVFS_GOSSIP_CONTEXT_BYTES);
	state.root = evfs_wire_bytes(bytes, EVFS_HASH_SIZE);
	message.n_states = 1;
	message.states = list;
	evfs_gossip_take(&tables[0], tables[1].self, &message);
	ck_assert_ptr_null(evfs_gossip_find(&tables[0], 99));
	ck_assert_uint_eq(tables[0].n, N);
	/* removed: forgotten, and not learnt again */
	rounds(2, N);
	ck_assert_int_eq(evfs_gossip_set_members(&tables[0], nodes, 2), 0);
	ck_assert_ptr_null(evfs_gossip_find(&tables[0], 30));
	ck_assert_int_eq(life(0, 1), EVFS_GOSSIP_ALIVE);
	exchange(0, 1);
	ck_assert_ptr_null(evfs_gossip_find(&tables[0], 30));
}
END_TEST

START_TEST(lies)
{
	uint64_t before;

	rounds(20, N);
	/* so far ahead that the member itself could never go on */
	before = entry(0, 2)->heartbeat;
	claim(0, 1, 30, UINT64_MAX, 0);
	claim(0, 1, 30, WALL_MS + 2 * EVFS_GOSSIP_AHEAD_MS, 0);
	ck_assert_uint_eq(entry(0, 2)->heartbeat, before);
	ck_assert_uint_eq(tables[0].refused, 2);
	/* as far as it may: the member hears of it, and goes on from there */
	claim(1, 0, 30, before + 1000000, 0);
	rounds(2, N);
	ck_assert_uint_eq(tables[2].refuted, 1);
	ck_assert_uint_gt(entry(0, 2)->heartbeat, before + 1000000);
	set_state(2, 9);
	rounds(2, N);
	ck_assert_uint_eq(entry(0, 2)->state.counter, 9);
	rounds(6, 2); /* it has gained nothing: silence is silence */
	ck_assert_int_eq(life(0, 2), EVFS_GOSSIP_SUSPECT);
	/* nobody but itself says how this replica is */
	claim(0, 1, 10, UINT64_MAX, 0);
	ck_assert_uint_lt(entry(0, 0)->heartbeat, UINT64_MAX / 2);
	/* an age that goes below zero */
	claim(0, 1, 20, entry(0, 1)->heartbeat + 1, UINT32_MAX);
	ck_assert_int_eq(life(0, 1), EVFS_GOSSIP_ALIVE);
}
END_TEST

/* A restart with a clock that went back by an hour. */
START_TEST(restart_in_the_past)
{
	uint64_t nodes[N] = { 10, 20, 30, 40 };

	set_state(2, 3);
	rounds(20, N);
	evfs_gossip_fini(&tables[2]);
	ck_assert_int_eq(evfs_gossip_init(&tables[2], &env, 30, 1000), 0);
	ck_assert_int_eq(evfs_gossip_set_members(&tables[2], nodes, N), 0);
	tables[2].entries[2].heartbeat -= 3600000;
	tables[2].entries[2].since -= 3600000;
	set_state(2, 4);
	rounds(3, N);
	ck_assert_uint_eq(entry(0, 2)->state.counter, 4);
	ck_assert_int_eq(life(0, 2), EVFS_GOSSIP_ALIVE);
}
END_TEST

START_TEST(bounded)
{
	struct evfs_gossip_message message;
	uint64_t nodes[1000];
	size_t i, len;

	for (i = 0; i < 1000; i++)
		nodes[i] = 10 * (i + 1);
	ck_assert_int_eq(evfs_gossip_set_members(&tables[0], nodes, 1000), 0);
	ck_assert_int_eq(evfs_gossip_set_members(&tables[1], nodes, 1000), 0);
	for (i = 0; i < 1000; i++)
		if (tables[1].entries[i].node != 20)
			tables[1].entries[i].heartbeat =
				tables[1].entries[i].since = WALL_MS;
	ck_assert_int_eq(evfs_gossip_syn(&tables[0], &message), 0);
	ck_assert_uint_eq(message.wire.rows.len,
			  EVFS_GOSSIP_ROWS_MAX * EVFS_GOSSIP_ROW_BYTES);
	len = evfs__wire__gossip__get_packed_size(&message.wire);
	ck_assert_uint_lt(len, 6000);
	{
		struct evfs_gossip_message ack;

		ck_assert_int_eq(
			evfs_gossip_ack(&tables[1], &message.wire, &ack), 0);
		ck_assert_uint_eq(ack.wire.n_states, EVFS_GOSSIP_STATES_MAX);
		ck_assert_uint_le(ack.wire.rows.len,
				  EVFS_GOSSIP_ROWS_MAX * EVFS_GOSSIP_ROW_BYTES);
		evfs_gossip_message_fini(&ack);
	}
	evfs_gossip_message_fini(&message);
}
END_TEST

START_TEST(lagging)
{
	struct evfs_gossip_state a = { .dots = 5, .context = { 1 } };
	struct evfs_gossip_state b = { .dots = 5, .context = { 1 } };

	ck_assert(!evfs_gossip_lags(&a, &b));
	b.context[0] = 2;
	ck_assert(evfs_gossip_lags(&a, &b)); /* each lacks something */
	ck_assert(evfs_gossip_lags(&b, &a));
	b.dots = 6;
	ck_assert(evfs_gossip_lags(&a, &b));
	ck_assert(!evfs_gossip_lags(&b, &a));
}
END_TEST

START_TEST(described)
{
	struct evfs_context context = { 0 };
	struct evfs_gossip_state a = { 0 }, b = { 0 };

	ck_assert_int_eq(evfs_context_raise(&context, (evfs_actor){ 1, 0 }, 5),
			 0);
	ck_assert_int_eq(evfs_context_raise(&context, (evfs_actor){ 2, 0 }, 6),
			 0);
	ck_assert_int_eq(evfs_gossip_describe(&context, &a), 0);
	ck_assert_uint_eq(a.dots, 11);
	ck_assert_int_eq(
		evfs_context_raise(&context, (evfs_actor){ 2, 0 }, UINT64_MAX),
		0);
	ck_assert_int_eq(evfs_gossip_describe(&context, &b), 0);
	ck_assert_uint_eq(b.dots, UINT64_MAX);
	ck_assert_int_ne(memcmp(a.context, b.context, sizeof(a.context)), 0);
	evfs_context_fini(&context);
}
END_TEST

/* ---- whom to be connected to ---- */

START_TEST(degrees)
{
	ck_assert_uint_eq(evfs_topology_degree(1), 0);
	ck_assert_uint_eq(evfs_topology_degree(16), 15);
	ck_assert_uint_eq(evfs_topology_degree(17), 9);
	ck_assert_uint_eq(evfs_topology_degree(1000), 14);
	ck_assert_uint_eq(evfs_topology_degree(1024), 14);
	ck_assert_uint_eq(evfs_topology_degree(1025), 15);
}
END_TEST

START_TEST(choice)
{
	struct evfs_topology_node nodes[20] = { 0 };
	unsigned hits[20] = { 0 };
	size_t i, found;

	for (i = 0; i < 20; i++) {
		nodes[i].node = 10 * (i + 1);
		nodes[i].ready = true;
	}
	/* the successor first, around the end, past the dead */
	ck_assert_uint_eq(evfs_topology_next(nodes, 20, 55, &env), 5);
	ck_assert_uint_eq(evfs_topology_next(nodes, 20, 201, &env), 0);
	nodes[5].dead = true;
	ck_assert_uint_eq(evfs_topology_next(nodes, 20, 55, &env), 6);
	nodes[6].linked = true;
	nodes[7].ready = false;
	for (i = 0; i < 2000; i++) {
		found = evfs_topology_next(nodes, 20, 55, &env);
		ck_assert_uint_lt(found, 20);
		hits[found]++;
	}
	for (i = 0; i < 20; i++)
		if (i == 5 || i == 6 || i == 7)
			ck_assert_uint_eq(hits[i], 0);
		else
			ck_assert_uint_gt(hits[i], 60);
	ck_assert_uint_eq(evfs_topology_dead(nodes, 20, &env), 5);
	for (i = 0; i < 20; i++)
		nodes[i].linked = i != 5;
	ck_assert_uint_eq(evfs_topology_next(nodes, 20, 55, &env), 5);
	nodes[5].linked = true;
	ck_assert_uint_eq(evfs_topology_next(nodes, 20, 55, &env), 20);
}
END_TEST

START_TEST(turns)
{
	unsigned i, hits[7] = { 0 };

	ck_assert_uint_eq(evfs_topology_turn(2, 2, &env), 0);
	for (i = 0; i < 1400; i++)
		hits[evfs_topology_turn(14, 2, &env)]++;
	for (i = 0; i < 7; i++)
		ck_assert_uint_gt(hits[i], 140);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("gossip");
	TCase *tc = tcase_create("gossip");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, states_travel);
	tcase_add_test(tc, one_exchange_each_way);
	tcase_add_test(tc, death_and_return);
	tcase_add_test(tc, own_pause);
	tcase_add_test(tc, heard_at_the_end_of_a_pause);
	tcase_add_test(tc, unknown_nodes);
	tcase_add_test(tc, lies);
	tcase_add_test(tc, restart_in_the_past);
	tcase_add_test(tc, bounded);
	tcase_add_test(tc, lagging);
	tcase_add_test(tc, described);
	tcase_add_test(tc, degrees);
	tcase_add_test(tc, choice);
	tcase_add_test(tc, turns);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
