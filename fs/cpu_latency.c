/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "fs/cpu_latency.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"

#define WINDOW_NS UINT64_C(1000000) /* over which requests are counted */
#define BUSY 4                      /* of them in a window are worth it */
#define LIGHT_US 2 /* C1, the lightest sleep of today's processors */

int32_t evfs_cpu_latency_worth(const char *driver_path)
{
	evfs_cleanup_fd int fd = open(driver_path, O_RDONLY | O_CLOEXEC);
	char name[32];
	ssize_t len = fd >= 0 ? read(fd, name, sizeof(name) - 1) : -1;

	name[len > 0 ? len : 0] = '\0';
	/* Its one sleep says that it takes 1 us, and leaves the machine. */
	return strcmp(name, "haltpoll\n") == 0 ? 0 : LIGHT_US;
}

void evfs_cpu_latency_init(struct evfs_cpu_latency *latency, const char *path,
			   int32_t us)
{
	memset(latency, 0, sizeof(*latency));
	latency->path = path;
	latency->us = us;
	latency->fd = -1;
	(void)pthread_mutex_init(&latency->lock, NULL);
}

/* Locked. The request stands as long as the file is open. */
static void ask(struct evfs_cpu_latency *latency)
{
	latency->fd = open(latency->path, O_WRONLY | O_CLOEXEC);
	if (latency->fd >= 0 &&
	    write(latency->fd, &latency->us, sizeof(latency->us)) ==
		    (ssize_t)sizeof(latency->us))
		return;
	evfs_log(EVFS_LOG_DEBUG, "%s: %s; processors sleep as they like",
		 latency->path, strerror(errno));
	if (latency->fd >= 0)
		(void)close(latency->fd);
	latency->fd = -1;
	latency->path = NULL;
}

static void change(struct evfs_cpu_latency *latency, bool low)
{
	if (atomic_load(&latency->low) == low)
		return;
	(void)pthread_mutex_lock(&latency->lock);
	if (low && latency->fd < 0 && latency->path) {
		ask(latency);
	} else if (!low && latency->fd >= 0) {
		(void)close(latency->fd);
		latency->fd = -1;
	}
	atomic_store(&latency->low, latency->fd >= 0);
	(void)pthread_mutex_unlock(&latency->lock);
}

void evfs_cpu_latency_request(struct evfs_cpu_latency *latency,
			      uint64_t now_ns)
{
	uint64_t passed = now_ns - latency->window_ns;

	latency->requests++;
	if (passed < WINDOW_NS)
		return;
	change(latency, latency->requests >= BUSY * (passed / WINDOW_NS));
	latency->window_ns = now_ns;
	latency->requests = 0;
}

void evfs_cpu_latency_quiet(struct evfs_cpu_latency *latency)
{
	change(latency, false);
}

void evfs_cpu_latency_free(struct evfs_cpu_latency *latency)
{
	change(latency, false);
	(void)pthread_mutex_destroy(&latency->lock);
}
