/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The engine between real stores in memory over the virtual network: the
 * handshake and what it refuses, one session out of two, streams, contents of
 * every size, status, pause, removal. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "meta/config.h"
#include "meta/content.h"
#include "meta/life.h"
#include "meta/members.h"
#include "net/engine_priv.h"
#include "tests/unit/engine_world.h"

/* ---- tests ---- */

START_TEST(two_replicas)
{
	struct evfs_peer_status p;

	make(2);
	create(0, "early", 100, 1);
	power_on(0);
	power_on(1);
	wait_converged(2);
	check_file(1, "early", 100, 1);
	create(1, "late", 5000, 2);
	ck_assert(!converged(1)); /* not durable yet: not claimed */
	wait_converged(2);
	check_file(0, "late", 5000, 2);
	ck_assert_uint_gt(nodes[0].changes, 0);
	run_ms(12000);
	peer(1, 0, &p);
	ck_assert_int_eq(p.state, EVFS_PEER_ALIVE);
	ck_assert(p.in_sync && p.connected && p.has_root);
	ck_assert_uint_eq(p.behind_changes, 0);
	ck_assert_int_ge(p.rtt_ms, 1);
	ck_assert_int_le(p.rtt_ms, 10);
	ck_assert_int_ge(p.convergence_p50_ms, 1);
	ck_assert_int_le(p.convergence_p99_ms, 100);
	ck_assert_uint_ge(p.convergence_count, 1);
	ck_assert_int_le(p.last_contact_s, 5);
}
END_TEST

/* Chunks that travel apart, and manifests, to two members at once. */
START_TEST(contents)
{
	make(3);
	power_on(0);
	power_on(1);
	power_on(2);
	create(0, "empty", 0, 1);
	create(0, "inline", 64 << 10, 2);
	create(0, "chunk", (64 << 10) + 1, 3);
	create(0, "many", 5 << 20, 4);
	create(1, "other", 3 << 20, 5);
	wait_converged(3);
	check_file(1, "empty", 0, 1);
	check_file(1, "inline", 64 << 10, 2);
	check_file(2, "chunk", (64 << 10) + 1, 3);
	check_file(2, "many", 5 << 20, 4);
	check_file(0, "other", 3 << 20, 5);
	check_file(2, "other", 3 << 20, 5);
}
END_TEST

/* The same when frames arrive in any pieces and connections tear all the time.
 */
START_TEST(bad_network)
{
	struct evfs_loop_options options = { .seed = 3,
					     .delay_min_ns = 100000,
					     .delay_max_ns = 20 * MS,
					     .cut_ppm = 5000,
					     .shred = true };
	unsigned i;
	char name[8];

	evfs_loop_set_options(loop, &options);
	make(3);
	for (i = 0; i < 3; i++)
		power_on(i);
	for (i = 0; i < 30; i++) {
		snprintf(name, sizeof(name), "f%u", i);
		create(i % 3, name, i * 7000, i);
		run_ms(100);
	}
	options.cut_ppm = 0;
	evfs_loop_set_options(loop, &options);
	wait_converged(3);
	for (i = 0; i < 30; i++) {
		snprintf(name, sizeof(name), "f%u", i);
		check_file((i + 1) % 3, name, i * 7000, i);
	}
}
END_TEST

/* Many objects: several batches, backpressure. */
START_TEST(many_objects)
{
	struct evfs_loop_options options = { .seed = 3,
					     .delay_min_ns = 100000,
					     .delay_max_ns = MS,
					     .bytes_per_second = 5000000 };
	struct evfs_peer_status p;
	unsigned i;
	char name[16];

	evfs_loop_set_options(loop, &options);
	make(2);
	power_on(0);
	for (i = 0; i < 3000; i++) {
		snprintf(name, sizeof(name), "f%u", i);
		create(0, name, 1 + i % 2000, i);
	}
	run_ms(100);
	peer(0, 1, &p);
	ck_assert_uint_eq(p.behind_changes, 3000);
	ck_assert_uint_ge(p.behind_bytes, 2000000);
	ck_assert_int_eq(p.state, EVFS_PEER_DEAD);
	power_on(1);
	wait_converged(2);
	check_file(1, "f2999", 1 + 2999 % 2000, 2999);
	peer(0, 1, &p);
	ck_assert_uint_eq(p.behind_changes, 0);
}
END_TEST

/* A change reaches a member that its writer is not connected to. */
START_TEST(relay)
{
	struct evfs_peer_status p;

	make(3);
	evfs_loop_link(loop, 0, 2, false);
	power_on(0);
	power_on(1);
	power_on(2);
	run_ms(3000);
	create(0, "far", 200000, 1);
	run_ms(1000);
	check_file(2, "far", 200000, 1);
	ck_assert(!is_connected(0, 2));
	/* what B tells of C is as true as what C tells */
	wait_converged(3);
	ck_assert(!is_connected(0, 2));
	peer(0, 2, &p);
	ck_assert_int_eq(p.state, EVFS_PEER_ALIVE);
	ck_assert(p.in_sync && p.has_root);
	ck_assert_str_eq(p.heard_via, "B");
	ck_assert_int_le(p.last_contact_s, 5);
	ck_assert_uint_eq(p.behind_changes, 0);
	ck_assert_uint_ge(p.convergence_count, 1);
	evfs_loop_link(loop, 0, 2, true);
	run_ms(61000);
	ck_assert(is_connected(0, 2));
	peer(0, 2, &p);
	ck_assert_str_eq(p.heard_via, "");
}
END_TEST

/* In a full mesh a change goes over each edge from its writer only. */
START_TEST(no_storm)
{
	struct evfs_engine_status before[3], after[3];
	uint64_t sent = 0;
	unsigned i;

	make(3);
	for (i = 0; i < 3; i++)
		power_on(i);
	wait_converged(3);
	for (i = 0; i < 3; i++)
		status(i, &before[i]);
	create(0, "f", 60000, 1);
	wait_converged(3);
	run_ms(2000);
	for (i = 0; i < 3; i++) {
		status(i, &after[i]);
		sent += after[i].bytes_sent - before[i].bytes_sent;
		evfs_free(after[i].peers);
		evfs_free(before[i].peers);
	}
	ck_assert_uint_ge(sent, 2 * 60000);
	ck_assert_uint_lt(sent, 2 * 60000 + 10000);
}
END_TEST

START_TEST(other_volume)
{
	struct evfs_peer_status p;

	open_node(0, 1);
	open_node(1, 2);
	know(&nodes[0], 1, true);
	know(&nodes[1], 0, false);
	power_on(0);
	power_on(1);
	create(0, "f", 10, 1);
	run_ms(5000);
	ck_assert(!exists(1, "f"));
	peer(0, 1, &p);
	ck_assert(!p.connected);
	ck_assert_ptr_nonnull(strstr(p.last_error, "another volume"));
}
END_TEST

START_TEST(not_a_member)
{
	make(2);
	open_node(2, 7);
	know(&nodes[2], 0, true);
	power_on(0);
	power_on(1);
	power_on(2);
	create(0, "f", 10, 1);
	run_ms(3000);
	ck_assert(!exists(2, "f"));
	ck_assert(exists(1, "f"));
}
END_TEST

/* C is met through A only, and found by B from what A tells. */
START_TEST(members_spread)
{
	open_node(0, 7);
	open_node(1, 7);
	open_node(2, 7);
	know(&nodes[0], 0, true);
	know(&nodes[0], 1, true);
	know(&nodes[0], 2, true);
	know(&nodes[1], 0, true);
	know(&nodes[1], 1, true);
	know(&nodes[2], 0, true);
	know(&nodes[2], 2, true);
	power_on(0);
	power_on(1);
	power_on(2);
	run_ms(5000);
	ck_assert(is_connected(1, 2));
	ck_assert(is_connected(2, 1));
}
END_TEST

START_TEST(removed_member)
{
	struct evfs_err err = { 0 };

	make(3);
	power_on(0);
	power_on(1);
	power_on(2);
	wait_converged(3);
	evfs_meta_lock(nodes[0].meta);
	must(evfs_members_remove(nodes[0].meta, evfs_meta_node(nodes[2].meta),
				 &err),
	     &err);
	evfs_meta_unlock(nodes[0].meta);
	evfs_engine_members_changed(nodes[0].engine);
	evfs_loop_poke(loop, 0);
	run_ms(3000);
	create(0, "after", 10, 1);
	run_ms(3000);
	ck_assert(exists(1, "after"));
	ck_assert(!exists(2, "after"));
	ck_assert(converged(0));
	ck_assert(converged(1));
}
END_TEST

START_TEST(pause_all)
{
	struct evfs_peer_status p;

	make(2);
	power_on(0);
	power_on(1);
	wait_converged(2);
	evfs_engine_pause(nodes[0].engine, 0, true);
	evfs_loop_poke(loop, 0);
	create(0, "here", 10, 1);
	create(1, "there", 10, 2);
	run_ms(5000);
	ck_assert(!exists(1, "here"));
	ck_assert(!exists(0, "there"));
	peer(0, 1, &p);
	ck_assert_int_eq(p.state, EVFS_PEER_PAUSED);
	ck_assert(!p.connected);
	peer(1, 0, &p);
	ck_assert_ptr_nonnull(strstr(p.last_error, "paused"));
	evfs_engine_pause(nodes[0].engine, 0, false);
	evfs_loop_poke(loop, 0);
	run_ms(1000);
	ck_assert(exists(1, "here"));
	ck_assert(exists(0, "there"));
}
END_TEST

START_TEST(pause_one)
{
	make(3);
	power_on(0);
	power_on(1);
	power_on(2);
	wait_converged(3);
	evfs_engine_pause(nodes[0].engine, evfs_meta_node(nodes[1].meta), true);
	evfs_loop_poke(loop, 0);
	run_ms(1000);
	ck_assert(!is_connected(0, 1));
	ck_assert(is_connected(0, 2));
	create(0, "f", 10, 1);
	run_ms(1000);
	ck_assert(exists(1, "f")); /* by way of C, who is not paused */
}
END_TEST

/* A second daemon with the identity of B, which still runs: refused. */
START_TEST(twins)
{
	unsigned twin;
	struct evfs_engine *engine;
	struct evfs_err err = { 0 };

	make(2);
	power_on(0);
	power_on(1);
	wait_converged(2);
	twin = evfs_loop_add(loop, evfs_meta_node(nodes[1].meta));
	must(evfs_engine_new(nodes[1].meta, evfs_loop_env(loop, twin),
			     evfs_loop_transport(loop, twin), &engine, &err),
	     &err);
	evfs_loop_attach(loop, twin, engine);
	run_ms(2000);
	ck_assert(is_connected(0, 1));
	create(0, "f", 10, 1);
	run_ms(10000);
	ck_assert(is_connected(0, 1));
	ck_assert(exists(1, "f"));
	evfs_loop_attach(loop, twin, NULL);
	evfs_engine_free(engine);
}
END_TEST

/* B dies without a word and comes back while A still holds its session. */
START_TEST(restart_unnoticed)
{
	make(2);
	power_on(0);
	power_on(1);
	wait_converged(2);
	evfs_loop_link(loop, 0, 1, false); /* nobody hears of the end */
	power_off(1);
	evfs_loop_link(loop, 0, 1, true);
	power_on(1);
	create(1, "f", 10, 1);
	wait_converged(2);
	ck_assert(exists(0, "f"));
}
END_TEST

/* B loses what it had told others, and has written more since: it takes another
 * life, hears all that A has, and only then gives what it made. */
START_TEST(amnesia)
{
	evfs_actor former;

	make(2);
	power_on(0);
	power_on(1);
	create(1, "f", 10, 1);
	wait_converged(2);
	create(1, "h", 10, 2);
	wait_converged(2);
	power_off(1);
	evfs_feed_remove(nodes[1].meta, &nodes[1].listener);
	evfs_meta_close(nodes[1].meta);
	open_store(1, 7); /* the same key, an empty store */
	know(&nodes[1], 0, true);
	commit(&nodes[1]);
	create(1, "g", 10, 3); /* bears the dots of "f" */
	former = evfs_meta_actor(nodes[1].meta);
	power_on(1);
	wait_converged(2);
	ck_assert_uint_gt(evfs_meta_actor(nodes[1].meta).epoch, former.epoch);
	ck_assert(!evfs_meta_has_amnesia(nodes[1].meta));
	ck_assert(exists(0, "f") && exists(0, "g") && exists(0, "h"));
	ck_assert(exists(1, "f") && exists(1, "g") && exists(1, "h"));
}
END_TEST

/* A Hello that was under way tells of a run of the life before, which the store
 * does not know: the audits of this life have brought what that one lost. */
START_TEST(former_runs)
{
	struct evfs_met met = { .instance = 12345, .counter = 1 };
	struct evfs_meta *meta;
	struct evfs_err err = { 0 };
	bool lost = true;

	make(2);
	meta = nodes[1].meta;
	met.epoch = evfs_meta_actor(meta).epoch;
	evfs_meta_lock(meta);
	must(evfs_life_begin(meta, &err), &err);
	evfs_meta_unlock(meta);
	commit(&nodes[1]);
	power_on(0);
	power_on(1);
	wait_converged(2);
	evfs_meta_lock(meta);
	must(evfs_life_is_lost(meta, &met, &lost, &err), &err);
	ck_assert(!lost);
	met.epoch = evfs_meta_actor(meta).epoch;
	must(evfs_life_is_lost(meta, &met, &lost, &err), &err);
	ck_assert(lost);
	evfs_meta_unlock(meta);
}
END_TEST

/* A pass begins with one look at the clock, and what it sends takes another:
 * time does not go back, nor are tokens given out for it. */
START_TEST(late_clock)
{
	struct evfs_bucket bucket = { .rate = 1000, .tokens = 1000,
				      .ns = 5 * SECOND };
	uint64_t next_ns = UINT64_MAX;

	ck_assert(evfs_bucket_take(&bucket, 5 * SECOND, 0, &next_ns));
	ck_assert(evfs_bucket_take(&bucket, 5 * SECOND + 2 * MS, 1500,
				   &next_ns));
	ck_assert(!evfs_bucket_take(&bucket, 5 * SECOND, 0, &next_ns));
	ck_assert_uint_gt(next_ns, 5 * SECOND);
	ck_assert_int_eq(bucket.tokens, -500);
	ck_assert(evfs_bucket_take(&bucket, 6 * SECOND, 0, &next_ns));
}
END_TEST

/* Somebody waits for content: it comes first, or is given up at once. */
static unsigned unreachable_calls;

static void on_unreachable(void *ctx, const evfs_hash *name)
{
	(void)ctx;
	(void)name;
	unreachable_calls++;
}

START_TEST(urgent)
{
	static const struct evfs_content_watch watch = {
		.unreachable = on_unreachable
	};
	struct evfs_loop_options slow = { .seed = 1,
					  .delay_min_ns = 100000,
					  .delay_max_ns = MS,
					  .bytes_per_second = 1000000 };
	struct evfs_content_reader *reader;
	struct evfs_entry entry = { 0 };
	struct evfs_err err = { 0 };
	struct evfs_content *store;

	make(2);
	evfs_loop_set_options(loop, &slow);
	power_on(0);
	power_on(1);
	wait_converged(2);
	store = evfs_meta_content(nodes[1].meta);
	create(0, "big", 8 << 20, 1);
	create(0, "small", 100000, 2);
	run_ms(500);
	ck_assert(lookup(1, "small", &entry));
	evfs_engine_urgent(nodes[1].engine, &entry.content, entry.size);
	evfs_loop_poke(loop, 1);
	run_ms(12000);
	must(evfs_content_open(store, &entry.content, entry.size, &reader,
			       &err),
	     &err);
	evfs_content_close(reader);
	evfs_entry_fini(&entry);
	wait_converged(2);
	create(0, "lost", 5 << 20, 3);
	run_ms(300);
	power_off(0);
	run_ms(1000);
	ck_assert(lookup(1, "lost", &entry));
	unreachable_calls = 0;
	evfs_content_set_watch(store, EVFS_CONTENT_WATCH_FS, &watch);
	evfs_engine_urgent(nodes[1].engine, &entry.content, entry.size);
	ck_assert_uint_eq(unreachable_calls, 1);
	evfs_content_set_watch(store, EVFS_CONTENT_WATCH_FS, NULL);
	evfs_entry_fini(&entry);
}
END_TEST

START_TEST(bandwidth)
{
	struct evfs_err err = { 0 };
	uint64_t start_ns;

	make(2);
	evfs_meta_lock(nodes[0].meta);
	must(evfs_config_set_text(nodes[0].meta, "bandwidth_up", "1000000/s",
				  &err),
	     &err);
	evfs_meta_unlock(nodes[0].meta);
	power_on(0);
	power_on(1);
	wait_converged(2);
	start_ns = evfs_loop_now(loop);
	create(0, "f", 5000000, 1);
	wait_converged(2);
	ck_assert_uint_ge(evfs_loop_now(loop) - start_ns, 3 * SECOND);
	ck_assert_uint_le(evfs_loop_now(loop) - start_ns, 8 * SECOND);
	check_file(1, "f", 5000000, 1);
}
END_TEST

/* Small contents go along with their objects: they count, too. */
START_TEST(bandwidth_of_small_files)
{
	uint64_t start_ns;
	char name[16];
	unsigned i;

	make(2);
	set(0, "bandwidth_up", "1000000/s");
	power_on(0);
	power_on(1);
	wait_converged(2);
	start_ns = evfs_loop_now(loop);
	for (i = 0; i < 100; i++) {
		snprintf(name, sizeof(name), "f%u", i);
		create(0, name, 50000, i);
	}
	wait_converged(2);
	ck_assert_uint_ge(evfs_loop_now(loop) - start_ns, 3 * SECOND);
	ck_assert_uint_le(evfs_loop_now(loop) - start_ns, 8 * SECOND);
	check_file(1, "f99", 50000, 99);
}
END_TEST

START_TEST(sync_command)
{
	make(2);
	power_on(0);
	run_ms(100000); /* dialling has backed off to a minute */
	power_on(1);
	evfs_engine_pause(nodes[1].engine, 0, true); /* it does not dial */
	evfs_engine_pause(nodes[1].engine, 0, false);
	create(0, "f", 10, 1);
	evfs_engine_sync(nodes[0].engine, 0);
	evfs_loop_poke(loop, 0);
	run_ms(500);
	ck_assert(exists(1, "f"));
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("engine");
	TCase *tc = tcase_create("engine");
	SRunner *runner;
	int failed;

	tcase_set_timeout(tc, 60);
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, two_replicas);
	tcase_add_test(tc, contents);
	tcase_add_test(tc, bad_network);
	tcase_add_test(tc, many_objects);
	tcase_add_test(tc, relay);
	tcase_add_test(tc, no_storm);
	tcase_add_test(tc, other_volume);
	tcase_add_test(tc, not_a_member);
	tcase_add_test(tc, members_spread);
	tcase_add_test(tc, removed_member);
	tcase_add_test(tc, pause_all);
	tcase_add_test(tc, pause_one);
	tcase_add_test(tc, twins);
	tcase_add_test(tc, restart_unnoticed);
	tcase_add_test(tc, amnesia);
	tcase_add_test(tc, former_runs);
	tcase_add_test(tc, late_clock);
	tcase_add_test(tc, urgent);
	tcase_add_test(tc, bandwidth);
	tcase_add_test(tc, bandwidth_of_small_files);
	tcase_add_test(tc, sync_command);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
