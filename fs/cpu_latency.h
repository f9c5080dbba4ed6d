/* SPDX-License-Identifier: GPL-3.0-or-later */
/* How deep processors may sleep while requests follow each other.
 *
 * A program that waits for an answer leaves its processor idle; to wake that
 * from its sleep may take longer than to serve most requests (12 us of 20 in a
 * virtual machine, where sleeping means to leave it). So while requests
 * come fast, the daemon asks the kernel for processors that wake at once
 * (Documentation/power/pm_qos_interface.rst, "CPU latency QoS"), and takes that
 * back within milliseconds of the last. A real processor may still take its
 * lightest sleep, which it leaves at next to no cost; one of a virtual machine
 * that knows only one sleep does not sleep then. The kernel takes it back for a
 * daemon that is killed. Only root may ask; for others nothing changes. */
#ifndef EVFS_FS_CPU_LATENCY_H
#define EVFS_FS_CPU_LATENCY_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define EVFS_CPU_LATENCY_PATH "/dev/cpu_dma_latency"
#define EVFS_CPU_LATENCY_DRIVER \
	"/sys/devices/system/cpu/cpuidle/current_driver"

struct evfs_cpu_latency {
	const char *path;      /* borrowed; NULL: never ask */
	int32_t us;            /* that a processor may take to wake */
	pthread_mutex_t lock;  /* of fd */
	int fd;                /* open while it is asked for; else -1 */
	atomic_bool low;       /* fd is open */
	uint64_t window_ns;    /* since when requests are counted (clock) */
	unsigned requests;     /* since then; both are of who leads */
};

/* path: borrowed, EVFS_CPU_LATENCY_PATH, or NULL: never ask. us: what to ask
 * for. */
void evfs_cpu_latency_init(struct evfs_cpu_latency *latency, const char *path,
			   int32_t us);
/* Microseconds to ask for on this machine, which puts its processors to sleep
 * by the driver (cpuidle) that the file at driver_path names. */
int32_t evfs_cpu_latency_worth(const char *driver_path);
/* A request has come at now_ns (monotonic clock). One thread at a time, and
 * each after what the one before did. */
void evfs_cpu_latency_request(struct evfs_cpu_latency *latency,
			      uint64_t now_ns);
/* No request has come for some time. Any thread. */
void evfs_cpu_latency_quiet(struct evfs_cpu_latency *latency);
/* Takes it back. No other call may be under way. */
void evfs_cpu_latency_free(struct evfs_cpu_latency *latency);

#endif
