/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The real clocks and the kernel's random numbers; see env.h. */
#include "base/env.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec now;

	if (clock_gettime(clock, &now) != 0)
		abort(); /* both clocks always exist on Linux */
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static uint64_t system_wall_ns(void *ctx)
{
	(void)ctx;
	return clock_ns(CLOCK_REALTIME);
}

static uint64_t system_mono_ns(void *ctx)
{
	(void)ctx;
	return clock_ns(CLOCK_MONOTONIC);
}

static void system_random(void *ctx, void *data, size_t len)
{
	uint8_t *at = data;

	(void)ctx;
	while (len > 0) {
		ssize_t n = getrandom(at, len, 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			abort(); /* weak keys would be worse than an end */
		at += n;
		len -= (size_t)n;
	}
}

const struct evfs_env *evfs_env_system(void)
{
	static const struct evfs_env env = {
		.wall_ns = system_wall_ns,
		.mono_ns = system_mono_ns,
		.random = system_random,
	};

	return &env;
}

uint64_t evfs_env_below(const struct evfs_env *env, uint64_t n)
{
	uint64_t limit, value;

	assert(n > 0);
	/* The largest multiple of n; what lies above would favour the small
	 * remainders. */
	limit = UINT64_MAX - UINT64_MAX % n;
	do
		env->random(env->ctx, &value, sizeof(value));
	while (value >= limit);
	return value % n;
}
