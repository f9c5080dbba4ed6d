/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Layers of convergence between engines: quorums and read repair, hinted
 * handoff, pulling, each with the others off; and the measure of it. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "meta/content.h"
#include "meta/facts.h"
#include "net/engine_priv.h"
#include "tests/unit/engine_world.h"

#define ALONE EVFS_LAYER_READ_REPAIR /* nothing goes anywhere by itself */

static void on(unsigned n)
{
	make(n);
	for (unsigned i = 0; i < n; i++)
		power_on(i);
	wait_converged(n);
}

/* Files "PREFIX0" and so on. */
static void create_many(unsigned i, const char *prefix, unsigned n)
{
	char name[32];

	for (unsigned k = 0; k < n; k++) {
		snprintf(name, sizeof(name), "%s%u", prefix, k);
		create(i, name, 20, k);
	}
}

/* ---- write quorums ---- */

START_TEST(held)
{
	on(3);
	create(0, "f", 3000000, 1); /* fetched apart from the object */
	commit(&nodes[0]);
	ask(0, EVFS_QUESTION_HELD, ino_of(0, "f"), 2, 10000);
	/* whenever it is answered, both have the bytes on disk */
	ck_assert_int_eq(answer(0), 0);
	for (unsigned i = 1; i < 3; i++) {
		struct evfs_err err = { 0 };

		must(evfs_meta_crash(nodes[i].meta, &err), &err);
		ck_assert(has_file(i, "f", 3000000, 1));
	}
}
END_TEST

START_TEST(held_by_whoever)
{
	on(3);
	evfs_loop_link(loop, 0, 1, false);
	create(0, "f", 100, 1);
	commit(&nodes[0]);
	ask(0, EVFS_QUESTION_HELD, ino_of(0, "f"), 1, 5000);
	ck_assert_int_eq(answer(0), 0);
	ck_assert(exists(2, "f"));
	/* all that was done here, too */
	ask(0, EVFS_QUESTION_HELD, EVFS_INO_NONE, 1, 5000);
	ck_assert_int_eq(answer(0), 0);
}
END_TEST

START_TEST(held_when_on_disk)
{
	uint64_t end_ns;

	on(2);
	create(0, "f", 100, 1);
	commit(&nodes[0]);
	ask(0, EVFS_QUESTION_HELD, ino_of(0, "f"), 1, 60000);
	/* it arrives, but nobody commits */
	end_ns = evfs_loop_now(loop) + 3 * SECOND;
	while (evfs_loop_step(loop, end_ns))
		;
	ck_assert(has_file(1, "f", 100, 1));
	ck_assert_uint_eq(nodes[0].answer.id, 0);
	commit(&nodes[1]);
	ck_assert_int_eq(answer(0), 0);
}
END_TEST

START_TEST(not_held)
{
	uint64_t asked_ns;

	on(2);
	evfs_loop_link(loop, 0, 1, false);
	create(0, "f", 100, 1);
	commit(&nodes[0]);
	ask(0, EVFS_QUESTION_HELD, ino_of(0, "f"), 1, 3000);
	asked_ns = evfs_loop_now(loop);
	ck_assert_int_eq(answer(0), EVFS_ETIMEOUT);
	ck_assert_ptr_nonnull(
		strstr(nodes[0].answer.why, "write quorum: 1 of 2 replicas"));
	ck_assert_uint_ge(nodes[0].answered_ns, asked_ns + 3000 * MS);
	ck_assert_uint_le(nodes[0].answered_ns, asked_ns + 3010 * MS);
	/* kept, and it arrives later */
	evfs_loop_link(loop, 0, 1, true);
	wait_converged(2);
	ck_assert(has_file(1, "f", 100, 1));
}
END_TEST

START_TEST(held_after_return)
{
	on(2);
	power_off(1);
	run_ms(100);
	create(0, "f", 100, 1);
	commit(&nodes[0]);
	ask(0, EVFS_QUESTION_HELD, ino_of(0, "f"), 1, 9000);
	run_ms(500);
	ck_assert_uint_eq(nodes[0].answer.id, 0);
	power_on(1);
	ck_assert_int_eq(answer(0), 0);
}
END_TEST

START_TEST(ends_with_pause)
{
	on(2);
	power_off(1);
	run_ms(100);
	create(0, "f", 100, 1);
	commit(&nodes[0]);
	ask(0, EVFS_QUESTION_HELD, ino_of(0, "f"), 1, 60000);
	evfs_engine_pause(nodes[0].engine, 0, true);
	ck_assert_int_eq(answer(0), EVFS_EUNREACHABLE);
	/* withdrawn: it is not answered at all */
	evfs_engine_pause(nodes[0].engine, 0, false);
	evfs_engine_withdraw(nodes[0].engine,
			     ask(0, EVFS_QUESTION_HELD, ino_of(0, "f"), 1,
				 1000));
	run_ms(2000);
	ck_assert_uint_eq(nodes[0].answer.id, 0);
	/* the end of the engine answers */
	ask(0, EVFS_QUESTION_HELD, ino_of(0, "f"), 1, 60000);
	power_off(0);
	ck_assert_int_eq(nodes[0].answer.code, EVFS_EUNREACHABLE);
}
END_TEST

/* ---- read quorums and read repair ---- */

START_TEST(newer_there)
{
	on(3);
	create(0, "f", 100, 1);
	wait_converged(3);
	for (unsigned i = 0; i < 3; i++)
		layers(i, ALONE);
	rewrite(0, "f", 200, 2);
	run_ms(1000);
	ck_assert(has_file(1, "f", 100, 1));
	ask(1, EVFS_QUESTION_NEWEST, ino_of(1, "f"), 2, 5000);
	ck_assert_int_eq(answer(1), 0);
	ck_assert(nodes[1].answer.changed);
	run_ms(1000);
	ck_assert(has_file(1, "f", 200, 2));
	/* a second look finds nothing new */
	ask(1, EVFS_QUESTION_NEWEST, ino_of(1, "f"), 1, 5000);
	ck_assert_int_eq(answer(1), 0);
	ck_assert(!nodes[1].answer.changed);
}
END_TEST

/* The others are repaired by a reader that has the newer state; a conflict
 * comes to both sides. */
START_TEST(newer_here)
{
	evfs_hash roots[2];
	evfs_ino ino;

	on(2);
	create(0, "f", 100, 1);
	create(0, "g", 100, 1);
	wait_converged(2);
	layers(0, ALONE);
	layers(1, ALONE);
	rewrite(0, "f", 200, 2);
	rewrite(0, "g", 200, 3);
	rewrite(1, "g", 300, 4);
	run_ms(1000);
	ask(0, EVFS_QUESTION_CHECK, ino_of(0, "f"), 1, 5000);
	run_ms(1000);
	ck_assert(has_file(1, "f", 200, 2));
	ask(0, EVFS_QUESTION_NEWEST, ino_of(0, "g"), 1, 5000);
	ck_assert_int_eq(answer(0), 0);
	ck_assert(nodes[0].answer.changed);
	run_ms(1000);
	ino = ino_of(0, "g");
	for (unsigned i = 0; i < 2; i++) {
		const struct evfs_object *object;

		evfs_meta_lock(nodes[i].meta);
		ck_assert_int_eq(evfs_facts_get(evfs_meta_facts(nodes[i].meta),
						ino, &object, NULL),
				 0);
		ck_assert_uint_eq(object->n_versions, 2);
		evfs_meta_unlock(nodes[i].meta);
	}
	/* read repair alone has made them equal */
	for (unsigned i = 0; i < 2; i++)
		roots[i] = evfs_meta_durable_root(nodes[i].meta);
	ck_assert(evfs_hash_equal(&roots[0], &roots[1]));
}
END_TEST

/* A member that hangs does not hold up a reader that needs one answer. */
START_TEST(hedged)
{
	on(3);
	create(0, "f", 100, 1);
	wait_converged(3);
	for (unsigned i = 1; i < 3; i++) {
		evfs_loop_link(loop, 0, i, false);
		ask(0, EVFS_QUESTION_NEWEST, ino_of(0, "f"), 1, 5000);
		ck_assert_int_eq(answer(0), 0);
		ask(0, EVFS_QUESTION_NEWEST, ino_of(0, "f"), 2, 2000);
		ck_assert_int_eq(answer(0), EVFS_ETIMEOUT);
		evfs_loop_link(loop, 0, i, true);
		wait_converged(3);
	}
}
END_TEST

/* ---- hints ---- */

static uint64_t delivered(unsigned i)
{
	struct evfs_engine_status s;

	status(i, &s);
	evfs_free(s.peers);
	return s.hints_delivered;
}

START_TEST(handed_over)
{
	struct evfs_peer_status p;

	on(3);
	power_off(2);
	run_ms(100);
	create_many(0, "f", 1500);
	run_ms(2000);
	peer(0, 2, &p);
	ck_assert_uint_eq(p.hints_count, 1500);
	ck_assert_uint_eq(p.hints_foreign, 0);
	ck_assert_uint_ge(p.hints_bytes, 1500 * 20);
	peer(1, 2, &p);
	ck_assert_uint_eq(p.hints_foreign, 1500);
	power_on(2);
	wait_converged(3);
	ck_assert_uint_ge(delivered(0) + delivered(1), 1500);
	/* one sends what two have: the other's offer lapses */
	ck_assert_uint_lt(delivered(0) + delivered(1), 2 * 1500);
	peer(0, 2, &p);
	ck_assert_uint_eq(p.hints_count, 0);
}
END_TEST

START_TEST(few_senders)
{
	unsigned most = 0;

	on(5);
	power_off(4);
	run_ms(100);
	for (unsigned i = 0; i < 4; i++)
		create_many(i, nodes[i].name, 1200);
	run_ms(3000);
	for (unsigned i = 0; i < 4; i++)
		set(i, "hint_rate", "100/s"); /* slow: others step in */
	power_on(4);
	for (unsigned k = 0; k < 1500; k++) {
		const struct evfs_session *s;
		unsigned n = 0;

		run_ms(10);
		for (s = nodes[4].engine->sessions; s != NULL; s = s->next)
			n += s->incoming.granted;
		if (n > most)
			most = n;
	}
	ck_assert_uint_ge(most, 2);
	ck_assert_uint_le(most, EVFS_HINTS_SENDERS);
	for (unsigned i = 0; i < 4; i++)
		set(i, "hint_rate", "50000/s");
	wait_converged(5);
}
END_TEST

/* At most so many a second, after one second's worth at once. */
START_TEST(throttled)
{
	uint64_t start_ns;

	on(2);
	power_off(1);
	run_ms(100);
	create_many(0, "f", 4000);
	run_ms(1000);
	set(0, "hint_rate", "1000/s");
	power_on(1);
	start_ns = evfs_loop_now(loop);
	wait_converged(2);
	ck_assert_uint_ge(evfs_loop_now(loop) - start_ns, 2400 * MS);
	ck_assert_uint_le(evfs_loop_now(loop) - start_ns, 6000 * MS);
}
END_TEST

/* No more is under way than was acknowledged, twice. */
START_TEST(window)
{
	const struct evfs_session *s;
	uint64_t widest = 0;

	on(2);
	power_off(1);
	run_ms(100);
	create_many(0, "f", 8000);
	run_ms(1000);
	power_on(1);
	for (unsigned k = 0; k < 600; k++) {
		run_ms(5);
		s = nodes[0].engine->sessions;
		if (s == NULL)
			continue;
		ck_assert_uint_le(s->out.sent - s->out.taken,
				  s->out.window + EVFS_HINTS_SMALL);
		ck_assert_uint_le(s->out.window,
				  EVFS_HINTS_WINDOW + 2 * s->out.taken);
		if (s->out.window > widest)
			widest = s->out.window;
	}
	ck_assert_uint_ge(widest, 4 * EVFS_HINTS_WINDOW);
	wait_converged(2);
	ck_assert_uint_eq(delivered(0), 8000);
}
END_TEST

START_TEST(for_a_dead_writer)
{
	on(3);
	power_off(2);
	run_ms(100);
	create_many(0, "f", 600);
	wait_converged(0);
	run_ms(3000);
	power_off(0);
	power_on(2);
	for (unsigned k = 0; k < 300 && !exists(2, "f599"); k++)
		run_ms(100);
	ck_assert(exists(2, "f599"));
	run_ms(1000);
	ck_assert_uint_ge(delivered(1), 600);
}
END_TEST

START_TEST(hints_alone)
{
	on(2);
	layers(0, EVFS_LAYER_HINTS);
	layers(1, EVFS_LAYER_HINTS);
	create_many(0, "f", 700);
	run_ms(5000);
	ck_assert(!exists(1, "f0")); /* nothing pushes, nothing pulls */
	power_off(1);
	power_on(1);
	layers(1, EVFS_LAYER_HINTS);
	wait_converged(2);
	ck_assert(exists(1, "f699"));
}
END_TEST

START_TEST(pull_alone)
{
	on(2);
	layers(0, EVFS_LAYER_PULL);
	layers(1, EVFS_LAYER_PULL);
	create_many(0, "f", 700);
	wait_converged(2);
	ck_assert(exists(1, "f699"));
}
END_TEST

static void outlive(const char *key, const char *value)
{
	struct evfs_engine_status s;
	struct evfs_peer_status p;

	on(2);
	set(0, key, value);
	power_off(1);
	run_ms(100);
	create_many(0, "f", 700);
	create(0, "big", 200000, 7);
	run_ms(15000);
	status(0, &s);
	evfs_free(s.peers);
	ck_assert_uint_eq(s.hints_expired, 701);
	peer(0, 1, &p);
	ck_assert_uint_eq(p.hints_count, 0);
	ck_assert_uint_eq(p.hints_expired, 701);
	/* remembered */
	power_off(0);
	power_on(0);
	run_ms(10);
	peer(0, 1, &p);
	ck_assert_uint_eq(p.hints_expired, 701);
	power_on(1);
	layers(1, EVFS_LAYERS_ALL & ~(unsigned)EVFS_LAYER_PULL);
	run_ms(20000);
	ck_assert(!exists(1, "f0"));
	layers(1, EVFS_LAYERS_ALL);
	wait_converged(2);
	ck_assert(has_file(1, "big", 200000, 7));
	run_ms(6000);
	peer(0, 1, &p);
	ck_assert_uint_eq(p.hints_expired, 0);
	ck_assert_uint_eq(delivered(0), 0);
}

START_TEST(too_old)
{
	outlive("hint_ttl", "4s");
}
END_TEST

START_TEST(too_much)
{
	outlive("hint_max_bytes", "100KiB");
}
END_TEST

/* ---- the measure ---- */

START_TEST(measured)
{
	struct evfs_peer_status p;

	on(2);
	peer(0, 1, &p);
	ck_assert_int_eq(p.convergence_p50_ms, -1);
	create(0, "f", 10, 1);
	wait_converged(2);
	peer(0, 1, &p);
	ck_assert_int_ge(p.convergence_p50_ms, 1);
	ck_assert_int_le(p.convergence_p50_ms, 100);
	ck_assert(!p.slow);
	/* it hangs, and its connection stands: its age counts */
	evfs_loop_link(loop, 0, 1, false);
	create(0, "g", 10, 1);
	run_ms(2500);
	peer(0, 1, &p);
	ck_assert(p.connected);
	ck_assert_int_ge(p.convergence_p99_ms, 2400);
	ck_assert(p.slow);
	/* away: still counted, and no alarm */
	run_ms(30000);
	peer(0, 1, &p);
	ck_assert(!p.connected);
	ck_assert_int_ge(p.convergence_p99_ms, 32000);
	ck_assert(!p.slow);
	ck_assert_uint_eq(p.convergence_count, 1);
	evfs_loop_link(loop, 0, 1, true);
	wait_converged(2);
	peer(0, 1, &p);
	ck_assert_int_ge(p.convergence_p99_ms, 32000);
	ck_assert_uint_eq(p.convergence_count, 2);
}
END_TEST

/* What was made before the daemon started is not forgotten. */
START_TEST(measured_from_start)
{
	struct evfs_peer_status p;

	on(2);
	power_off(1);
	run_ms(100);
	create(0, "f", 10, 1);
	run_ms(100);
	power_off(0);
	power_on(0);
	run_ms(5000);
	peer(0, 1, &p);
	ck_assert_int_ge(p.convergence_p50_ms, 5000);
}
END_TEST

/* No message takes less than a millisecond. */
static void slow_setup(void)
{
	const struct evfs_loop_options options = { .seed = 1,
						   .delay_min_ns = MS,
						   .delay_max_ns = 2 * MS };

	setup_with(&options);
}

int main(void)
{
	Suite *suite = suite_create("layers");
	TCase *tc = tcase_create("layers");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(tc, slow_setup, teardown);
	tcase_add_test(tc, held);
	tcase_add_test(tc, held_by_whoever);
	tcase_add_test(tc, held_when_on_disk);
	tcase_add_test(tc, not_held);
	tcase_add_test(tc, held_after_return);
	tcase_add_test(tc, ends_with_pause);
	tcase_add_test(tc, newer_there);
	tcase_add_test(tc, newer_here);
	tcase_add_test(tc, hedged);
	tcase_add_test(tc, handed_over);
	tcase_add_test(tc, few_senders);
	tcase_add_test(tc, throttled);
	tcase_add_test(tc, window);
	tcase_add_test(tc, for_a_dead_writer);
	tcase_add_test(tc, hints_alone);
	tcase_add_test(tc, pull_alone);
	tcase_add_test(tc, too_old);
	tcase_add_test(tc, too_much);
	tcase_add_test(tc, measured);
	tcase_add_test(tc, measured_from_start);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
