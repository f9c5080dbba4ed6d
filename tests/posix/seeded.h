/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Random numbers that a seed repeats, and what the programs that draw them have
 * in common: options, and a directory of their own. For a program of one file:
 * the state is its own. */
#ifndef EVFS_TESTS_POSIX_SEEDED_H
#define EVFS_TESTS_POSIX_SEEDED_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

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

/* -s SEED, -n STEPS; false: another one. optarg is its value. */
static inline bool common_option(int option, uint64_t *steps)
{
	if (option == 's')
		seed = strtoull(optarg, NULL, 0);
	else if (option == 'n')
		*steps = strtoull(optarg, NULL, 0);
	return option == 's' || option == 'n';
}

/* Makes a directory in TMPDIR, named after the program. false: errno. */
static inline bool make_own(const char *program, char path[4096])
{
	const char *tmp = getenv("TMPDIR");

	(void)snprintf(path, 4096, "%s/evfs-%s.XXXXXX", tmp ? tmp : "/tmp",
		       program);
	return mkdtemp(path) != NULL;
}

/* The end of a program that went well: rm is in its place, where it has made
 * directories ("" is none). */
static inline int remove_own(const char *path, const char *other)
{
	(void)fflush(stdout);
	if (path[0])
		(void)execlp("rm", "rm", "-rf", "--", path,
			     other[0] ? other : (char *)NULL, (char *)NULL);
	return path[0] ? 2 : 0;
}

#endif
