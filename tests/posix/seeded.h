/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Random numbers that a seed repeats. For a program of one file: the state is
 * its own. */
#ifndef EVFS_TESTS_POSIX_SEEDED_H
#define EVFS_TESTS_POSIX_SEEDED_H

#include <stdint.h>

static uint64_t seed = 1, state; /* state: set to the seed before the first */

/* 0 to below - 1 (splitmix64: Steele, Lea, Flood 2014). */
static inline uint64_t chance(uint64_t below)
{
	state += 0x9e3779b97f4a7c15u;
	uint64_t x = state;

	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
	x = (x ^ x >> 27) * 0x94d049bb133111ebu;
	return (x ^ x >> 31) % below;
}

#endif
