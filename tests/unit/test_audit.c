/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Merkle audits between engines: what no stream can know of is found and
 * repaired, both ways, and equality costs next to nothing. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "meta/divergence.h"
#include "meta/tree.h"
#include "tests/unit/engine_world.h"

/* Both claim what either has: no stream can tell that anything lacks. */
static void forge_contexts(void)
{
	struct evfs_context both = { 0 };
	struct evfs_err err = { 0 };
	unsigned i;

	for (i = 0; i < 2; i++) {
		evfs_meta_lock(nodes[i].meta);
		must(evfs_context_join(&both, evfs_meta_context(nodes[i].meta)),
		     &err);
		evfs_meta_unlock(nodes[i].meta);
	}
	for (i = 0; i < 2; i++) {
		evfs_meta_lock(nodes[i].meta);
		must(evfs_meta_take_context(nodes[i].meta, &both, &err), &err);
		evfs_meta_unlock(nodes[i].meta);
		commit(&nodes[i]);
	}
	evfs_context_fini(&both);
}

static void audit_status(unsigned i, struct evfs_audit_status *ret)
{
	struct evfs_engine_status s;

	status(i, &s);
	evfs_free(s.peers);
	*ret = s.audit;
}

static int count_evidence(void *arg, uint64_t node, uint64_t wall_ns,
			  const char *report)
{
	unsigned *n = arg;

	(void)node;
	ck_assert_uint_gt(wall_ns, 0);
	ck_assert_ptr_nonnull(strstr(report, "different facts"));
	(*n)++;
	return 0;
}

static unsigned evidence(unsigned i)
{
	struct evfs_err err = { 0 };
	unsigned n = 0;

	evfs_meta_lock(nodes[i].meta);
	must(evfs_divergence_each(nodes[i].meta, count_evidence, &n, &err),
	     &err);
	evfs_meta_unlock(nodes[i].meta);
	return n;
}

/* Files that one side lacks, others that the other lacks, and one that was
 * removed on one side only. */
START_TEST(repairs)
{
	struct evfs_audit_status a, b;
	char name[16];
	unsigned i;

	evfs_log_init("test", EVFS_LOG_NONE, false);
	make(2);
	power_on(0);
	power_on(1);
	create(0, "common", 10, 1);
	create(0, "gone", 10, 2);
	wait_converged(2);
	power_off(0);
	power_off(1);
	for (i = 0; i < 1500; i++) {
		snprintf(name, sizeof(name), "f%u", i);
		create(0, name, 100, i);
	}
	create(1, "mine", 100000, 3);
	unlink_file(1, "gone");
	commit(&nodes[0]);
	commit(&nodes[1]);
	forge_contexts();
	power_on(0);
	power_on(1);
	wait_converged(2);
	check_file(1, "f0", 100, 0);
	check_file(1, "f1499", 100, 1499);
	check_file(0, "mine", 100000, 3);
	ck_assert(exists(0, "common") && exists(1, "common"));
	ck_assert(!exists(0, "gone") && !exists(1, "gone"));
	audit_status(0, &a);
	ck_assert_uint_eq(a.diverged, 0);
	audit_status(1, &b);
	ck_assert_uint_ge(a.divergences + b.divergences, 1);
	ck_assert_uint_ge(evidence(0), 1);
	ck_assert_uint_ge(evidence(1), 1);
}
END_TEST

/* What is repaired keeps to the limit; the comparison is not given up for it. */
START_TEST(bandwidth)
{
	struct evfs_audit_status a;
	uint64_t start_ns;
	char name[16];
	unsigned i;

	evfs_log_init("test", EVFS_LOG_NONE, false);
	make(2);
	set(0, "bandwidth_up", "5000/s");
	for (i = 0; i < 1500; i++) {
		snprintf(name, sizeof(name), "f%u", i);
		create(0, name, 0, i);
	}
	commit(&nodes[0]);
	forge_contexts();
	power_on(0);
	power_on(1);
	start_ns = evfs_loop_now(loop);
	wait_converged(2);
	ck_assert_uint_ge(evfs_loop_now(loop) - start_ns, 12 * SECOND);
	ck_assert(exists(1, "f0") && exists(1, "f1499"));
	audit_status(1, &a);
	ck_assert_uint_ge(a.objects_repaired, 1500);
}
END_TEST

/* The same while connections tear: it begins again, and gets there. */
START_TEST(cut)
{
	struct evfs_loop_options options = { .seed = 5,
					     .delay_min_ns = 100000,
					     .delay_max_ns = 20 * MS,
					     .cut_ppm = 20000,
					     .shred = true };
	char name[16];
	unsigned i;

	evfs_log_init("test", EVFS_LOG_NONE, false);
	make(2);
	for (i = 0; i < 300; i++) {
		snprintf(name, sizeof(name), "f%u", i);
		create(i % 2, name, 50, i);
	}
	commit(&nodes[0]);
	commit(&nodes[1]);
	forge_contexts();
	evfs_loop_set_options(loop, &options);
	power_on(0);
	power_on(1);
	run_ms(60000);
	options.cut_ppm = 0;
	evfs_loop_set_options(loop, &options);
	wait_converged(2);
	for (i = 0; i < 300; i++) {
		snprintf(name, sizeof(name), "f%u", i);
		check_file(0, name, 50, i);
		check_file(1, name, 50, i);
	}
}
END_TEST

/* By the clock, when something changed and only then; few bytes for equality.
 */
START_TEST(by_clock)
{
	struct evfs_audit_status a, b;

	make(2);
	power_on(0);
	power_on(1);
	create(0, "f", 10, 1);
	wait_converged(2);
	run_ms(70000);
	audit_status(0, &a);
	ck_assert_uint_eq(a.rounds, 1);
	ck_assert_uint_eq(a.root_matches, 1);
	ck_assert_uint_eq(a.last_round_trips, 1);
	ck_assert_uint_le(a.last_bytes, 200);
	run_ms(600000);
	audit_status(0, &b);
	ck_assert_uint_eq(b.rounds, a.rounds);
	create(1, "g", 10, 1);
	run_ms(70000);
	audit_status(0, &b);
	ck_assert_uint_eq(b.rounds, a.rounds + 1);
	evfs_engine_sync(nodes[0].engine, 0);
	evfs_loop_poke(loop, 0);
	run_ms(500);
	audit_status(0, &b);
	ck_assert_uint_eq(b.rounds, a.rounds + 2);
	ck_assert_uint_eq(b.running, 0);
	ck_assert_uint_eq(evidence(0), 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("audit");
	TCase *tc = tcase_create("audit");
	SRunner *runner;
	int failed;

	tcase_set_timeout(tc, 60);
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, repairs);
	tcase_add_test(tc, bandwidth);
	tcase_add_test(tc, cut);
	tcase_add_test(tc, by_clock);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
