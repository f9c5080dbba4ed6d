/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The failure detector: known values, what it learns, what it forgets, and an
 * observer that was asleep. */
#include <check.h>
#include <math.h>
#include <stdlib.h>

#include "net/phi.h"

#define MS ((uint64_t)1000000)
#define SECOND ((uint64_t)1000000000)

/* n heartbeats at this pace, give or take. Returns the last one's time. */
static uint64_t beat(struct evfs_phi *phi, uint64_t now_ns, unsigned n,
		     uint64_t pace_ms, uint64_t jitter_ms)
{
	unsigned i;

	for (i = 0; i < n; i++) {
		now_ns += (i % 2 ? pace_ms - jitter_ms : pace_ms + jitter_ms) *
			  MS;
		evfs_phi_beat(phi, now_ns, 1000);
	}
	return now_ns;
}

/* log10(1 + exp((t - 1000) / (400 * sqrt(3) / pi))), as Python computes it. */
START_TEST(known_values)
{
	static const struct {
		double silence_ms, phi;
	} known[] = { { 0, 0.0046361400 },   { 1000, 0.3010299957 },
		      { 2000, 1.9739437779 }, { 5000, 7.8772305574 },
		      { 1e6, 1967.3383303 } };
	struct evfs_phi phi = { .mean_ms = 1000, .variance = 160000 };
	size_t i;

	for (i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		ck_assert_double_eq_tol(evfs_phi_value(&phi,
						       known[i].silence_ms),
					known[i].phi, known[i].phi * 1e-6);
	for (i = 1; i < 20; i++)
		ck_assert_double_eq_tol(
			evfs_phi_value(&phi,
				       evfs_phi_silence_ms(&phi, (double)i)),
			(double)i, 1e-6);
}
END_TEST

START_TEST(learns)
{
	struct evfs_phi phi = { 0 };
	uint64_t now_ns = beat(&phi, SECOND, 100, 1000, 300);

	ck_assert_double_eq_tol((double)phi.mean_ms, 1000, 50);
	ck_assert_double_eq_tol(sqrt((double)phi.variance), 300, 50);
	ck_assert_double_lt(evfs_phi_silence_ms(&phi, EVFS_PHI_THRESHOLD),
			    5000);
	/* a slower pace is understood; not from one interval, though */
	now_ns = beat(&phi, now_ns, 1, 60000, 0);
	ck_assert_double_lt(evfs_phi_silence_ms(&phi, EVFS_PHI_THRESHOLD),
			    12000);
	(void)beat(&phi, now_ns, 200, 5000, 1000);
	ck_assert_double_eq_tol((double)phi.mean_ms, 5000, 300);
	ck_assert_double_gt(evfs_phi_silence_ms(&phi, EVFS_PHI_THRESHOLD),
			    12000);
}
END_TEST

START_TEST(regular_as_a_clock)
{
	struct evfs_phi phi = { 0 };

	(void)beat(&phi, SECOND, 1000, 1000, 0);
	/* one is lost */
	ck_assert_double_lt(evfs_phi_value(&phi, 2000), 5);
	ck_assert_double_gt(evfs_phi_value(&phi, 4000), EVFS_PHI_THRESHOLD);
}
END_TEST

START_TEST(first_beats)
{
	struct evfs_phi phi = { 0 };

	evfs_phi_beat(&phi, SECOND, 1000);
	ck_assert_uint_eq(phi.last_ns, SECOND);
	ck_assert_double_lt(evfs_phi_value(&phi, 5000), EVFS_PHI_THRESHOLD);
	ck_assert_double_gt(evfs_phi_value(&phi, 15000), EVFS_PHI_THRESHOLD);
	/* other signs of life end a silence, and are no interval */
	evfs_phi_seen(&phi, 9 * SECOND);
	evfs_phi_seen(&phi, 3 * SECOND);
	ck_assert_uint_eq(phi.last_ns, 9 * SECOND);
	ck_assert_double_eq((double)phi.mean_ms, 1000);
	/* a clock that went back is no news */
	evfs_phi_beat(&phi, SECOND / 2, 1000);
	ck_assert_uint_eq(phi.last_ns, 9 * SECOND);
}
END_TEST

START_TEST(own_pause)
{
	struct evfs_health health = { 0 };
	uint64_t now_ns = 100 * SECOND, before;
	int i;

	for (i = 0; i < 10; i++, now_ns += SECOND)
		evfs_health_run(&health, now_ns, SECOND);
	ck_assert_uint_eq(health.score, 0);
	ck_assert_uint_eq(evfs_health_clock(&health, now_ns, SECOND), now_ns);
	before = now_ns;
	/* stopped for an hour; asked before it has run again */
	now_ns += 3600 * SECOND;
	ck_assert_uint_eq(evfs_health_clock(&health, now_ns, SECOND),
			  before + SECOND);
	evfs_health_run(&health, now_ns, SECOND);
	ck_assert_uint_eq(evfs_health_clock(&health, now_ns, SECOND),
			  before + SECOND);
	ck_assert_uint_eq(health.score, 1);
	for (i = 0; i < 30; i++) {
		now_ns += 5 * SECOND;
		evfs_health_run(&health, now_ns, SECOND);
	}
	ck_assert_uint_eq(health.score, EVFS_PHI_HEALTH_MAX);
	for (i = 0; i < 30; i++) {
		now_ns += SECOND;
		evfs_health_run(&health, now_ns, SECOND);
	}
	ck_assert_uint_eq(health.score, 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("phi");
	TCase *tc = tcase_create("phi");
	SRunner *runner;
	int failed;

	tcase_add_test(tc, known_values);
	tcase_add_test(tc, learns);
	tcase_add_test(tc, regular_as_a_clock);
	tcase_add_test(tc, first_beats);
	tcase_add_test(tc, own_pause);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
