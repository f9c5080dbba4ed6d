/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What the engine needs of a network: connections to members, each with a few
 * ordered, reliable byte streams. Who is at the other end is proved before a
 * connection is reported. Implemented by net/ssh.c (real), net/loop.c
 * (simulation). All calls are made on the network thread. */
#ifndef EVFS_NET_TRANSPORT_H
#define EVFS_NET_TRANSPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* Streams of a connection. Control: everything small. Bulk: content, so that a
 * huge file never delays a rename. */
enum evfs_channel { EVFS_CHANNEL_CONTROL, EVFS_CHANNEL_BULK, EVFS_CHANNELS };

/* A connection, named by the transport; never reused while the engine knows
 * it; 0 is none. */
typedef uint64_t evfs_conn;

/* Actions of the engine. */
struct evfs_transport {
	void *ctx;
	/* Starts connecting to a member at an address ("host:port"), pinned to
	 * its public key. The outcome is reported by evfs_engine_opened() or
	 * evfs_engine_closed() with the conn that is returned, never before
	 * this call returns. 0: out of memory, no report follows. */
	evfs_conn (*dial)(void *ctx, uint64_t node, const char *address,
			  const char *key);
	/* Queues bytes; takes all of them or none: false = full, then
	 * evfs_engine_writable() is called when there is room again. At least
	 * EVFS_FRAME_MAX bytes fit an empty queue. On a connection that has
	 * just ended, or ends because memory ran out: true, and the report
	 * follows. */
	bool (*send)(void *ctx, evfs_conn conn, enum evfs_channel channel,
		     const void *data, size_t len);
	/* Bytes queued and not yet given to the network. */
	size_t (*queued)(void *ctx, evfs_conn conn, enum evfs_channel channel);
	/* Stop (true) or go on reading a stream: backpressure. */
	void (*hold)(void *ctx, evfs_conn conn, enum evfs_channel channel,
		     bool on);
	/* Ends a connection after what is queued was sent; no report follows.
	 */
	void (*close)(void *ctx, evfs_conn conn);
};

#endif
