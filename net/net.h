/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The network side of a daemon: one thread that runs the engine over SSH.
 *
 * The listener is an SSH server (libssh) with the store's ed25519 key. A
 * member authenticates with its own key, pinned in the member list; anybody
 * else gets no further than SSH's own refusal. A joiner authenticates as user
 * "join" with the one-use secret of an invitation as password, and may do
 * nothing but join. */
#ifndef EVFS_NET_NET_H
#define EVFS_NET_NET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "meta/members.h"
#include "meta/meta.h"
#include "net/engine.h"

struct evfs_net;

struct evfs_net_options {
	const char *key_path; /* private key of the store, OpenSSH format */
	const char *listen;   /* "ADDR:PORT", "[v6]:PORT"; NULL: no listener.
	                       * Port 0: any free one */
	unsigned handshake_ms; /* longest way to an open connection; 0 = 10 s */
	uint64_t rekey_bytes;  /* new SSH keys after so many bytes; 0 = as
	                        * RFC 4344 says (64 GiB) */
};

/* Binds the listener (errors say address and reason) and starts the thread.
 * meta is borrowed until evfs_net_stop(). */
int evfs_net_start(struct evfs_meta *meta,
		   const struct evfs_net_options *options,
		   struct evfs_net **ret, struct evfs_err *err) EVFS_MUST_USE;
/* Closes connections, ends the thread, frees. */
void evfs_net_stop(struct evfs_net *net);

/* The address that the listener is bound to ("127.0.0.1:7000"), NULL = none.
 */
const char *evfs_net_address(const struct evfs_net *net);
/* The listener key's fingerprint, "SHA256:...". */
const char *evfs_net_fingerprint(const struct evfs_net *net);

/* Runs a function on the network thread with the engine and waits for it.
 * Must not be called from the network thread, nor with meta locked. */
void evfs_net_call(struct evfs_net *net,
		   void (*call)(void *arg, struct evfs_engine *engine),
		   void *arg);

/* Watches one more file descriptor (the control socket) on the network
 * thread: ready(ctx, engine, revents) is called when poll(2) reports events.
 * add and set_events may be called on any thread; remove on the network thread
 * (from a callback, evfs_net_call included): no call follows it. What is still
 * watched at evfs_net_stop() is forgotten there. 0 or EVFS_ENOMEM. */
int evfs_net_add_fd(struct evfs_net *net, int fd, short events,
		    void (*ready)(void *ctx, struct evfs_engine *engine,
				  short revents),
		    void *ctx) EVFS_MUST_USE;
void evfs_net_set_events(struct evfs_net *net, int fd, short events);
void evfs_net_remove_fd(struct evfs_net *net, int fd);
/* Called on the network thread after each round of events. */
void evfs_net_on_round(struct evfs_net *net,
		       void (*round)(void *ctx, struct evfs_engine *engine),
		       void *ctx);

/* ---- keys and joining (net/ssh_key.c, net/join.c); no thread needed ---- */

/* Makes an ed25519 key pair; the private one goes to path (mode 0600). public:
 * "ssh-ed25519 AAAA...", at most EVFS_KEY_TEXT_MAX bytes. */
int evfs_net_make_key(const char *path, char *public_key, size_t public_size,
		      struct evfs_err *err) EVFS_MUST_USE;
int evfs_net_public_key(const char *path, char *public_key,
			size_t public_size, struct evfs_err *err)
	EVFS_MUST_USE;

/* A token: "evfs1:" and base64url of address, host key fingerprint, volume id
 * and secret. Made by `invite`, read by `join`. */
struct evfs_token {
	char address[EVFS_ADDRESS_MAX + 1];
	char fingerprint[64]; /* "SHA256:..." of the inviter's host key */
	evfs_hash volume;
	char secret[44];      /* 32 random bytes, base64url */
};
#define EVFS_TOKEN_TEXT_MAX 1024
int evfs_token_format(const struct evfs_token *token, char *text, size_t size,
		      struct evfs_err *err) EVFS_MUST_USE;
/* EVFS_EINVAL with what is wrong: "not a token", "cut short", ... */
int evfs_token_parse(const char *text, struct evfs_token *ret,
		     struct evfs_err *err) EVFS_MUST_USE;

/* The joiner's side, blocking, at most timeout_ms: connects to the inviter,
 * checks its host key, proves the secret, hands over the own member record and
 * gets all members (the caller frees with evfs_free). The inviter may have
 * given another name where ours was taken: in ret_name. */
int evfs_net_join(const struct evfs_token *token,
		  const struct evfs_member *self, const char *key_path,
		  unsigned timeout_ms, char ret_name[EVFS_NODE_NAME_MAX + 1],
		  struct evfs_member **ret, size_t *ret_n,
		  struct evfs_err *err) EVFS_MUST_USE;

#endif
