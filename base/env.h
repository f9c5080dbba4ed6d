/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Time and chance come through this table, so that a simulation can own both.
 * Whoever gets a table borrows it for as long as it lives. */
#ifndef EVFS_BASE_ENV_H
#define EVFS_BASE_ENV_H

#include <stddef.h>
#include <stdint.h>

struct evfs_env {
	void *ctx; /* of the implementation */

	/* Nanoseconds since 1970-01-01 UTC; may jump. */
	uint64_t (*wall_ns)(void *ctx);

	/* Nanoseconds since some start; never goes back. */
	uint64_t (*mono_ns)(void *ctx);

	/* Fills data with random bytes; cannot fail. */
	void (*random)(void *ctx, void *data, size_t len);
};

/* The real clocks and getrandom(2). Static, thread-safe. */
const struct evfs_env *evfs_env_system(void);

/* Uniform in [0, n), n > 0. */
uint64_t evfs_env_below(const struct evfs_env *env, uint64_t n);

#endif
