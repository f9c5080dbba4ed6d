/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What the tests of the SSH transport share: replicas with real keys and real
 * sockets, and an engine that only counts, checks and echoes. */
#ifndef EVFS_TESTS_SSH_FAKE_H
#define EVFS_TESTS_SSH_FAKE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "meta/members.h"
#include "meta/meta.h"
#include "net/net.h"

#define FAKE_CONNS 256
#define FAKE_PING 16 /* bytes of a ping on the control stream */

/* A connection as the fake engine knows it. */
struct fake_conn {
	evfs_conn id;
	uint64_t node;
	bool outgoing;
	bool open;
	struct evfs_err why;     /* of its end */
	uint64_t received;       /* bytes of bulk */
	bool damaged;            /* bulk was not the pattern */
	uint64_t sent;           /* bytes of bulk taken by the transport */
	uint64_t to_send;        /* bytes of bulk to send in all */
	uint64_t overtaken_by;   /* most bytes of bulk that were still queued
	                          * when a ping was sent, and came first */
	uint64_t writables;      /* how often we were told */
	uint64_t refusals;       /* of send */
	uint8_t ping[FAKE_PING]; /* incomplete one */
	size_t ping_len;
	uint64_t pongs;          /* answers that came */
	uint64_t ping_sent_ns;
	uint64_t *rtt_ns;        /* of each pong; as many as pongs */
	uint64_t pings_to_do;    /* one after the other */
};

struct replica {
	char dir[64];
	char key_path[96];
	char key[EVFS_KEY_TEXT_MAX];
	uint64_t node;
	struct evfs_meta *meta;
	struct evfs_net *net;
	struct evfs_member member; /* its record */
};

/* Makes a key and a store in memory of volume `volume`. */
void replica_make(struct replica *replica, const char *name,
		  const char *volume);
/* Starts the network; options may be NULL (listens at 127.0.0.1:0). */
void replica_start(struct replica *replica,
		   const struct evfs_net_options *options);
void replica_stop(struct replica *replica);
void replica_free(struct replica *replica);
/* Tells one about the other's record. */
void replica_know(struct replica *replica, const struct replica *other);
/* Both, started, knowing each other. */
void replica_pair(struct replica *a, struct replica *b,
		  const struct evfs_net_options *options);

/* Dials; address and key NULL: those of `to`. 0: out of memory. */
evfs_conn replica_dial(struct replica *from, const struct replica *to,
		       const char *address, const char *key);
/* A copy of what the fake knows of a connection. */
struct fake_conn replica_conn(struct replica *replica, evfs_conn id);
/* The newest open incoming (or outgoing) connection; 0 = none. */
evfs_conn replica_find(struct replica *replica, bool outgoing);
unsigned replica_count(struct replica *replica, bool outgoing);

/* Waits until check(copy) holds; false after ms. */
bool replica_wait(struct replica *replica, evfs_conn id,
		  bool (*check)(const struct fake_conn *conn, uint64_t arg),
		  uint64_t arg, unsigned ms);
/* Waits until there is an open incoming connection; its id. */
evfs_conn replica_wait_incoming(struct replica *replica, unsigned n,
				unsigned ms);

bool is_open(const struct fake_conn *conn, uint64_t arg);
bool is_closed(const struct fake_conn *conn, uint64_t arg);
bool has_received(const struct fake_conn *conn, uint64_t bytes);
bool has_pongs(const struct fake_conn *conn, uint64_t n);

void replica_send(struct replica *replica, evfs_conn id, uint64_t bytes);
void replica_ping(struct replica *replica, evfs_conn id, uint64_t n);
void replica_hold(struct replica *replica, evfs_conn id, bool on);
void replica_close(struct replica *replica, evfs_conn id);
size_t replica_queued(struct replica *replica, evfs_conn id);
/* How often the engine was told of changed members, of durable news, of urgent
 * contents. */
unsigned replica_members_changed(struct replica *replica);
unsigned replica_durables(struct replica *replica);
unsigned replica_urgents(struct replica *replica);

/* A plain TCP connection to the listener. */
int replica_connect(const struct replica *replica);
/* Waits until the other side ends it; false after ms. */
bool socket_ends(int fd, unsigned ms);
uint64_t now_ns(void);

#endif
