/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The SSH transport as net.c and join.c see it: connections by number, events
 * by a table, and a poll loop that its user runs. Knows neither the engine nor
 * the store. All calls on one thread; none of them blocks.
 *
 * Two kinds of connection. MEMBER: publickey authentication with the store's
 * key, two channels (control and bulk), reported when both are open. JOIN:
 * authentication by the secret of an invitation, one channel, on which each
 * side sends one frame (be32 length, bytes). */
#ifndef EVFS_NET_SSH_H
#define EVFS_NET_SSH_H

#include <netdb.h>
#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/env.h"
#include "base/err.h"
#include "net/transport.h"

#define EVFS_SSH_SECRET_MAX 64
#define EVFS_SSH_FINGERPRINT_MAX 64

struct evfs_ssh;

enum evfs_ssh_kind { EVFS_SSH_MEMBER, EVFS_SSH_JOIN };

/* What happens, told to the owner from within evfs_ssh_process(). He may call
 * any of the functions below from here, except evfs_ssh_process and _free. */
struct evfs_ssh_events {
	void *ctx;

	/* Which member is pinned to this key ("ssh-ed25519 AAAA...")? 0: none
	 * that may come in. */
	uint64_t (*member_of_key)(void *ctx, const char *key);
	/* A member's name, for error messages; at most size - 1 bytes. */
	void (*name_of)(void *ctx, uint64_t node, char *name, size_t size);
	/* May the one who knows this secret join? */
	bool (*is_invited)(void *ctx, const char *secret);

	/* node: 0 for JOIN connections, of which only outgoing ones are
	 * reported here. */
	void (*opened)(void *ctx, evfs_conn conn, uint64_t node,
		       bool outgoing);
	void (*received)(void *ctx, evfs_conn conn, enum evfs_channel channel,
			 const void *data, size_t len);
	void (*writable)(void *ctx, evfs_conn conn, enum evfs_channel channel);
	/* Only for those that were dialled or reported as opened. */
	void (*closed)(void *ctx, evfs_conn conn, const struct evfs_err *why);

	/* The frame of a JOIN connection is here. secret: what the joiner
	 * proved; NULL on outgoing connections. source: its IP address. */
	void (*frame)(void *ctx, evfs_conn conn, const char *secret,
		      const char *source, const void *data, size_t len);
};

struct evfs_ssh_options {
	const char *key_path;    /* private key, OpenSSH format */
	const struct evfs_env *env;       /* borrowed */
	unsigned handshake_ms;   /* from the first packet to open; 0 = 10 s */
	unsigned linger_ms;      /* to send what is queued; 0 = 5 s */
	unsigned pending_max;    /* connections not proved yet; 0 = 32 */
	unsigned pending_source_max; /* of one IP address; 0 = 8 */
	uint64_t rekey_bytes;    /* new keys after so many; 0 = RFC 4344 */
	int wake_fd;             /* eventfd written to when a host name was
	                          * looked up; borrowed */
};

/* events: borrowed. */
int evfs_ssh_new(const struct evfs_ssh_options *options,
		 const struct evfs_ssh_events *events, struct evfs_ssh **ret,
		 struct evfs_err *err) EVFS_MUST_USE;
/* Cuts what is still open, without reports. NULL is fine. */
void evfs_ssh_free(struct evfs_ssh *ssh);

/* Listens at "ADDR:PORT". The bound address and the host key's fingerprint
 * are borrowed while ssh lives. */
int evfs_ssh_listen(struct evfs_ssh *ssh, const char *listen,
		    struct evfs_err *err) EVFS_MUST_USE;
const char *evfs_ssh_address(const struct evfs_ssh *ssh);
const char *evfs_ssh_fingerprint(const struct evfs_ssh *ssh);
const char *evfs_ssh_public_key(const struct evfs_ssh *ssh);

/* Start connecting; the outcome is an event. 0: out of memory. */
evfs_conn evfs_ssh_dial(struct evfs_ssh *ssh, uint64_t node,
			const char *address, const char *key);
evfs_conn evfs_ssh_dial_join(struct evfs_ssh *ssh, const char *address,
			     const char *fingerprint, const char *secret);

/* As in struct evfs_transport. JOIN connections have the control stream. */
bool evfs_ssh_send(struct evfs_ssh *ssh, evfs_conn conn,
		   enum evfs_channel channel, const void *data, size_t len);
size_t evfs_ssh_queued(struct evfs_ssh *ssh, evfs_conn conn,
		       enum evfs_channel channel);
void evfs_ssh_hold(struct evfs_ssh *ssh, evfs_conn conn,
		   enum evfs_channel channel, bool on);
void evfs_ssh_close(struct evfs_ssh *ssh, evfs_conn conn);
/* The end: no more connections come in, each that is there is closed as by
 * evfs_ssh_close(), no events follow. */
void evfs_ssh_shut(struct evfs_ssh *ssh);

/* Connections that exist, lingering ones included. */
size_t evfs_ssh_count(const struct evfs_ssh *ssh);

/* The loop: fill in what is to be polled (an array that ssh owns, valid until
 * the next call) and when to come back at the latest (monotonic ns; 0 = at
 * once); poll; process with the revents of those entries. */
int evfs_ssh_prepare(struct evfs_ssh *ssh, struct pollfd **ret, size_t *ret_n,
		     uint64_t *ret_deadline_ns, struct evfs_err *err)
	EVFS_MUST_USE;
void evfs_ssh_process(struct evfs_ssh *ssh, const struct pollfd *fds,
		      size_t n);

/* ---- keys (net/ssh_key.c) ---- */

/* "SHA256:..." of "ssh-ed25519 AAAA...". EVFS_EINVAL: not such a key. */
int evfs_ssh_key_fingerprint(const char *public_key, char *ret, size_t size,
			     struct evfs_err *err) EVFS_MUST_USE;

/* ---- addresses (net/ssh_addr.c) ---- */

/* Splits "host:port" or "[v6]:port". EVFS_EINVAL says what it should be. */
int evfs_addr_split(const char *address, char host[256], char port[8],
		    struct evfs_err *err) EVFS_MUST_USE;
/* "1.2.3.4:7000", "[::1]:7000"; only_ip leaves the port away. */
void evfs_addr_format(const struct sockaddr *addr, bool only_ip, char *ret,
		      size_t size);
/* Is the host part of "host:port" empty or the any-address? */
bool evfs_addr_is_any(const char *address);

/* A lookup that never blocks its caller: numeric addresses are answered at
 * once, names by getaddrinfo(3) in a short-lived thread of their own. */
struct evfs_lookup;
/* wake_fd: an eventfd written to when the answer is there. */
int evfs_lookup_start(const char *address, int wake_fd,
		      struct evfs_lookup **ret, struct evfs_err *err)
	EVFS_MUST_USE;
/* EVFS_EAGAIN: not yet. *ret is borrowed until evfs_lookup_free. */
int evfs_lookup_result(struct evfs_lookup *lookup, struct addrinfo **ret,
		       struct evfs_err *err) EVFS_MUST_USE;
/* Abandons one that still runs. NULL is fine. */
void evfs_lookup_free(struct evfs_lookup *lookup);

/* Options that every connection gets: no delay, keepalive, a small amount of
 * unsent bytes in the kernel. */
void evfs_addr_tune_socket(int fd);
/* Binds and listens; "listen ADDR: why (what to do)". */
int evfs_addr_listen(const char *address, int *ret_fd, struct evfs_err *err)
	EVFS_MUST_USE;

#endif
