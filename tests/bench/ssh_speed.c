/* SPDX-License-Identifier: GPL-3.0-or-later */
/* How fast the SSH transport is over loopback: bytes a second on one
 * connection, round trips of control messages when idle and beside saturated
 * bulk. Usage: ssh_speed [MIB]. Two replicas in one process; the sender fills
 * and the receiver compares every byte. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/ssh_fake.h"

#define WAIT_MS 120000
#define PINGS 2000

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* Of the pongs from `first` on. */
static void show_rtt(const char *what, const struct fake_conn *conn,
		     uint64_t first)
{
	size_t n = (size_t)(conn->pongs - first);
	uint64_t *rtt = malloc((n + 1) * sizeof(*rtt));

	if (!rtt || n == 0) {
		free(rtt);
		return;
	}
	memcpy(rtt, conn->rtt_ns + first, n * sizeof(*rtt));
	qsort(rtt, n, sizeof(*rtt), by_value);
	printf("%-24s p50 %6.0f us  p99 %6.0f us  (%zu)\n", what,
	       (double)rtt[n / 2] / 1000, (double)rtt[n * 99 / 100] / 1000, n);
	free(rtt);
}

int main(int argc, char **argv)
{
	uint64_t bytes = (uint64_t)(argc > 1 ? atoi(argv[1]) : 1024) << 20;
	struct fake_conn conn;
	struct replica a, b;
	evfs_conn at_a, at_b;
	uint64_t start, ns;

	replica_pair(&a, &b, NULL);
	start = now_ns();
	at_a = replica_dial(&a, &b, NULL, NULL);
	if (!replica_wait(&a, at_a, is_open, 0, WAIT_MS)) {
		fprintf(stderr, "%s\n", replica_conn(&a, at_a).why.msg);
		return EXIT_FAILURE;
	}
	at_b = replica_wait_incoming(&b, 1, WAIT_MS);
	printf("%-24s %6.1f ms\n", "connect",
	       (double)(now_ns() - start) / 1e6);
	replica_ping(&a, at_a, PINGS);
	replica_wait(&a, at_a, has_pongs, PINGS, WAIT_MS);
	conn = replica_conn(&a, at_a);
	show_rtt("control, idle", &conn, 0);

	start = now_ns();
	replica_send(&a, at_a, bytes);
	replica_wait(&b, at_b, has_received, bytes, WAIT_MS);
	ns = now_ns() - start;
	printf("%-24s %6.0f MB/s\n", "bulk, one way",
	       (double)bytes * 1e3 / (double)ns);

	replica_send(&a, at_a, bytes);
	replica_ping(&a, at_a, PINGS * 100);
	replica_wait(&b, at_b, has_received, 2 * bytes, WAIT_MS);
	conn = replica_conn(&a, at_a);
	show_rtt("control, bulk saturated", &conn, PINGS);
	if (replica_conn(&b, at_b).damaged)
		return EXIT_FAILURE;
	replica_free(&a);
	replica_free(&b);
	return EXIT_SUCCESS;
}
