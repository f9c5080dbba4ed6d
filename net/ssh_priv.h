/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The inside of the SSH transport, for net/ssh*.c alone.
 *
 * A connection's states and its moves (checked by evfs_ssh_move):
 *
 *   RESOLVING -> CONNECTING -> KEX -> AUTH -> CHANNELS -> OPEN      outgoing
 *                              KEX -> AUTH -> CHANNELS -> OPEN      incoming
 *   OPEN -> FLUSHING -> LINGERING -> DEAD                           close
 *   any  -> DEAD                                                    failure
 *
 * RESOLVING    the name is looked up
 * CONNECTING   connect(2) is under way; the next address when it fails
 * KEX          SSH key exchange
 * AUTH         proving who one is
 * CHANNELS     the channels are opened
 * OPEN         reported to the owner; data flows
 * FLUSHING     closed by the owner: sends what is queued
 * LINGERING    our half is shut; reads and drops until the other side ends, so
 *              that a reset does not overtake our last bytes
 * DEAD         reported (if it is to be), freed at the end of the round */
#ifndef EVFS_NET_SSH_PRIV_H
#define EVFS_NET_SSH_PRIV_H

#include <libssh/callbacks.h>
#include <libssh/libssh.h>
#include <libssh/server.h>
#include <netinet/in.h>

#include "base/buf.h"
#include "meta/members.h"
#include "net/ssh.h"

#define EVFS_SSH_USER_MEMBER "evfs"
#define EVFS_SSH_USER_JOIN "join"
#define EVFS_SSH_SUBSYSTEM_CONTROL "evfs-control"
#define EVFS_SSH_SUBSYSTEM_BULK "evfs-bulk"
#define EVFS_SSH_SUBSYSTEM_JOIN "evfs-join"

#define EVFS_SSH_CIPHERS \
	"aes256-gcm@openssh.com,aes128-gcm@openssh.com," \
	"chacha20-poly1305@openssh.com"
/* Cheap for us, so that strangers cannot burn our time with big groups. */
#define EVFS_SSH_KEX_METHODS \
	"curve25519-sha256,curve25519-sha256@libssh.org"
#define EVFS_SSH_HOSTKEYS "ssh-ed25519"

#define EVFS_SSH_QUEUE_MAX ((size_t)8 << 20) /* bytes queued per stream */
#define EVFS_SSH_JOIN_REQUEST_MAX ((size_t)64 << 10)
#define EVFS_SSH_JOIN_REPLY_MAX ((size_t)4 << 20)

enum evfs_ssh_state {
	EVFS_SSH_RESOLVING,
	EVFS_SSH_CONNECTING,
	EVFS_SSH_KEX,
	EVFS_SSH_AUTH,
	EVFS_SSH_CHANNELS,
	EVFS_SSH_OPEN,
	EVFS_SSH_FLUSHING,
	EVFS_SSH_LINGERING,
	EVFS_SSH_DEAD
};

/* A piece of an out-queue. */
struct evfs_ssh_block {
	struct evfs_ssh_block *next;
	size_t start; /* first byte not yet written */
	size_t end;   /* behind the last byte */
	size_t cap;   /* of data */
	uint8_t data[];
};

/* One SSH channel with its out-queue and its input that waits. */
struct evfs_ssh_stream {
	struct evfs_ssh_conn *conn;   /* whose it is */
	enum evfs_channel which;      /* valid once ready */
	ssh_channel channel;          /* owned by the session */
	struct ssh_channel_callbacks_struct callbacks;
	bool open;                    /* client: confirmed by the server */
	bool ready;                   /* its subsystem was accepted */
	struct evfs_ssh_block *head;  /* out-queue, oldest first; owned */
	struct evfs_ssh_block *tail;  /* newest */
	size_t queued;                /* bytes in it */
	bool full;                    /* a send was refused: tell when there
	                               * is room */
	bool hold;                    /* the owner wants no input */
	bool waiting;                 /* libssh may hold input of ours */
	uint64_t consumed;            /* input since the window was raised */
	uint8_t *rest;                /* input taken from libssh and not yet
	                               * delivered; owned */
	size_t rest_start, rest_end;  /* of rest */
};

struct evfs_ssh_conn {
	struct evfs_ssh *ssh;
	evfs_conn id;
	enum evfs_ssh_kind kind;
	enum evfs_ssh_state state;
	bool outgoing;
	bool authenticated;     /* incoming: is proved */
	bool reported;          /* opened() was called */
	bool silent;            /* the owner closed it: no report */
	bool again;             /* has work without an event */
	uint64_t deadline_ns;   /* of the handshake, or of closing */
	struct evfs_err why;    /* of its end; code 0 = none yet */

	uint64_t node;          /* member; incoming: once authenticated */
	char address[EVFS_ADDRESS_MAX + 1]; /* dialled, or of the source */
	struct in6_addr source; /* incoming: for the limit per source */
	char key[EVFS_KEY_TEXT_MAX];        /* pinned host key */
	char fingerprint[EVFS_SSH_FINGERPRINT_MAX]; /* of the host key, JOIN */
	char secret[EVFS_SSH_SECRET_MAX];   /* JOIN */
	unsigned denied_keys;   /* incoming: refused attempts */
	unsigned denied_secrets;

	struct evfs_lookup *lookup;  /* owned */
	struct addrinfo *next_addr;  /* of lookup; NULL = none left */
	uint64_t attempt_ns;         /* when the next address is tried */
	int fd;                      /* while CONNECTING; else -1 */

	ssh_session session;    /* owned; its socket is the session's */
	ssh_event event;        /* polls this session alone, so that libssh's
	                         * inner polling never runs another's
	                         * callbacks */
	struct ssh_server_callbacks_struct server_callbacks;
	struct evfs_ssh_stream streams[EVFS_CHANNELS]; /* in order of opening */
	size_t n_streams;
	struct evfs_buf frame;  /* JOIN: input so far */
	bool framed;            /* JOIN: the frame was delivered */

	size_t poll_index;      /* of the last evfs_ssh_prepare(); SIZE_MAX =
	                         * none */
};

struct evfs_ssh {
	struct evfs_ssh_options options;      /* defaults filled in */
	const struct evfs_ssh_events *events; /* borrowed */
	ssh_key key;                          /* owned */
	char key_text[EVFS_KEY_TEXT_MAX];     /* public */
	char fingerprint[EVFS_SSH_FINGERPRINT_MAX];
	ssh_bind bind;                        /* makes incoming sessions */
	int listen_fd;                        /* -1 = none */
	size_t listen_index;                  /* in fds */
	uint64_t listen_pause_ns;             /* no accept before this */
	char address[EVFS_ADDRESS_MAX + 1];   /* bound */
	struct evfs_ssh_conn **conns;         /* owned, ascending id */
	size_t n_conns, cap_conns;
	evfs_conn last_id;
	struct pollfd *fds;                   /* owned; for prepare */
	size_t cap_fds;
};

/* ---- ssh.c ---- */

uint64_t evfs_ssh_now(const struct evfs_ssh *ssh);
/* A new connection in `state`, on the list; NULL: out of memory. */
struct evfs_ssh_conn *evfs_ssh_conn_new(struct evfs_ssh *ssh,
					enum evfs_ssh_kind kind, bool outgoing,
					enum evfs_ssh_state state);
void evfs_ssh_move(struct evfs_ssh_conn *conn, enum evfs_ssh_state to);
/* It ends; the first reason counts. */
void evfs_ssh_fail(struct evfs_ssh_conn *conn, int code, const char *fmt, ...)
	EVFS_PRINTF(3, 4);
/* The session's own words, without a line's end. */
const char *evfs_ssh_words(struct evfs_ssh_conn *conn);
/* Non-blocking, with an event of its own. False: failed already. */
bool evfs_ssh_adopt(struct evfs_ssh_conn *conn);
/* Options that both sides of an ssh_session get. */
bool evfs_ssh_set_common(struct evfs_ssh *ssh, ssh_session session);
/* All channels are there: OPEN, and the owner is told. */
void evfs_ssh_opened(struct evfs_ssh_conn *conn);

/* ---- ssh_client.c ---- */
void evfs_ssh_client_step(struct evfs_ssh_conn *conn, short revents);

/* ---- ssh_server.c ---- */
int evfs_ssh_server_new(struct evfs_ssh *ssh, struct evfs_err *err)
	EVFS_MUST_USE;
void evfs_ssh_server_accept(struct evfs_ssh *ssh);

/* ---- ssh_stream.c ---- */
void evfs_ssh_stream_attach(struct evfs_ssh_stream *stream);
void evfs_ssh_stream_fini(struct evfs_ssh_stream *stream);
/* The stream of this channel; NULL = not (yet) there. */
struct evfs_ssh_stream *evfs_ssh_stream_of(struct evfs_ssh_conn *conn,
					   enum evfs_channel channel);
bool evfs_ssh_stream_put(struct evfs_ssh_stream *stream, const void *data,
			 size_t len);
/* Input that waits goes to the owner; windows are raised. */
void evfs_ssh_input(struct evfs_ssh_conn *conn);
/* Writes from the queues what network and windows take, control first. */
void evfs_ssh_output(struct evfs_ssh_conn *conn);
/* Tells the owner where there is room again. */
void evfs_ssh_tell_writable(struct evfs_ssh_conn *conn);

/* ---- ssh_key.c ---- */
int evfs_ssh_key_load(const char *path, ssh_key *ret, struct evfs_err *err)
	EVFS_MUST_USE;
int evfs_ssh_key_text(ssh_key key, char *ret, size_t size,
		      struct evfs_err *err) EVFS_MUST_USE;
int evfs_ssh_key_hash(ssh_key key, char *ret, size_t size,
		      struct evfs_err *err) EVFS_MUST_USE;

#endif
