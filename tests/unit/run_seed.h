/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The seed of a random test: another at each run, said so that it can be
 * replayed with EVFS_TEST_SEED. */
#ifndef EVFS_TESTS_UNIT_RUN_SEED_H
#define EVFS_TESTS_UNIT_RUN_SEED_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* Never 0 of itself. */
static inline uint64_t seed_of_run(void)
{
	const char *given = getenv("EVFS_TEST_SEED");
	struct timespec now;
	uint64_t seed;

	(void)clock_gettime(CLOCK_REALTIME, &now);
	seed = given ? strtoull(given, NULL, 0) :
		       (uint64_t)now.tv_nsec * 2654435761u + 1;
	printf("EVFS_TEST_SEED=%llu\n", (unsigned long long)seed);
	(void)fflush(stdout);
	return seed;
}

#endif
