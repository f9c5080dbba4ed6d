/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The listener: who may come in, and what he may do.
 *
 * A stranger gets what any SSH server gives: version line, key exchange,
 * refusals. User "evfs" with the pinned key of a member may open two channels
 * with our subsystems; user "join" with the secret of an invitation may open
 * one. All else (shells, commands, forwarding, other users) is refused by
 * libssh's defaults. Until proved, a connection costs a few kilobytes and has a
 * deadline; their number is limited, by source and in total: a source beyond
 * its share is turned away, and beyond the total the oldest of the source that
 * has most gives way. */

#include "net/ssh_priv.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"

#define DENIED_SECRETS_MAX 3
#define DENIED_KEYS_MAX 6
#define ACCEPTS_ROUND 16
#define PAUSE_NS 200000000u /* without accept, when descriptors ran out */

/* ---- callbacks of a session ---- */

static int deny(struct evfs_ssh_conn *conn, unsigned *count, unsigned max)
{
	if (++*count >= max)
		evfs_ssh_fail(conn, EVFS_EAUTH, "too many attempts");
	return SSH_AUTH_DENIED;
}

static int admit(struct evfs_ssh_conn *conn, enum evfs_ssh_kind kind)
{
	conn->kind = kind;
	conn->authenticated = true;
	evfs_ssh_move(conn, EVFS_SSH_AUTH);
	evfs_ssh_move(conn, EVFS_SSH_CHANNELS);
	return SSH_AUTH_SUCCESS;
}

static int on_pubkey(ssh_session session, const char *user,
		     struct ssh_key_struct *pubkey, char signature_state,
		     void *ctx)
{
	struct evfs_ssh_conn *conn = ctx;
	const struct evfs_ssh_events *events = conn->ssh->events;
	char text[EVFS_KEY_TEXT_MAX];
	uint64_t node = 0;

	(void)session;
	if (conn->state != EVFS_SSH_KEX)
		return SSH_AUTH_DENIED;
	if (strcmp(user, EVFS_SSH_USER_MEMBER) == 0 &&
	    evfs_ssh_key_text(pubkey, text, sizeof(text), NULL) == 0)
		node = events->member_of_key(events->ctx, text);
	if (node == 0 || signature_state == SSH_PUBLICKEY_STATE_WRONG ||
	    signature_state == SSH_PUBLICKEY_STATE_ERROR)
		return deny(conn, &conn->denied_keys, DENIED_KEYS_MAX);
	if (signature_state == SSH_PUBLICKEY_STATE_NONE)
		return SSH_AUTH_SUCCESS; /* "would this key do?" */
	conn->node = node;
	return admit(conn, EVFS_SSH_MEMBER);
}

static int on_password(ssh_session session, const char *user,
		       const char *password, void *ctx)
{
	struct evfs_ssh_conn *conn = ctx;
	const struct evfs_ssh_events *events = conn->ssh->events;

	(void)session;
	if (conn->state != EVFS_SSH_KEX)
		return SSH_AUTH_DENIED;
	if (strcmp(user, EVFS_SSH_USER_JOIN) != 0 ||
	    strlen(password) >= sizeof(conn->secret) ||
	    !events->is_invited(events->ctx, password))
		return deny(conn, &conn->denied_secrets, DENIED_SECRETS_MAX);
	snprintf(conn->secret, sizeof(conn->secret), "%s", password);
	return admit(conn, EVFS_SSH_JOIN);
}

static int on_none(ssh_session session, const char *user, void *ctx)
{
	struct evfs_ssh_conn *conn = ctx;

	(void)session;
	(void)user;
	return deny(conn, &conn->denied_keys, DENIED_KEYS_MAX);
}

static int on_subsystem(ssh_session session, ssh_channel channel,
			const char *subsystem, void *ctx)
{
	struct evfs_ssh_stream *stream = ctx;
	struct evfs_ssh_conn *conn = stream->conn;
	enum evfs_channel which = EVFS_CHANNEL_CONTROL;

	(void)session;
	(void)channel;
	if (conn->kind == EVFS_SSH_JOIN) {
		if (strcmp(subsystem, EVFS_SSH_SUBSYSTEM_JOIN) != 0)
			return 1;
	} else if (strcmp(subsystem, EVFS_SSH_SUBSYSTEM_BULK) == 0) {
		which = EVFS_CHANNEL_BULK;
	} else if (strcmp(subsystem, EVFS_SSH_SUBSYSTEM_CONTROL) != 0) {
		return 1;
	}
	if (stream->ready || evfs_ssh_stream_of(conn, which))
		return 1;
	stream->which = which;
	stream->ready = true;
	return 0;
}

static ssh_channel on_open(ssh_session session, void *ctx)
{
	struct evfs_ssh_conn *conn = ctx;
	size_t max = conn->kind == EVFS_SSH_JOIN ? 1 : EVFS_CHANNELS;
	struct evfs_ssh_stream *stream;

	if (conn->state != EVFS_SSH_CHANNELS || conn->n_streams >= max)
		return NULL;
	stream = &conn->streams[conn->n_streams];
	stream->channel = ssh_channel_new(session);
	if (!stream->channel)
		return NULL;
	conn->n_streams++;
	stream->conn = conn;
	stream->callbacks.channel_subsystem_request_function = on_subsystem;
	evfs_ssh_stream_attach(stream);
	return stream->channel;
}

/* ---- limits ---- */

static bool is_pending(const struct evfs_ssh_conn *conn)
{
	return !conn->outgoing && !conn->authenticated &&
	       conn->state != EVFS_SSH_DEAD;
}

static unsigned pending_of(const struct evfs_ssh *ssh,
			   const struct in6_addr *source)
{
	unsigned n = 0;

	for (size_t i = 0; i < ssh->n_conns; i++) {
		const struct evfs_ssh_conn *conn = ssh->conns[i];

		n += is_pending(conn) &&
		     (!source || memcmp(&conn->source, source,
					sizeof(*source)) == 0);
	}
	return n;
}

/* The oldest of the source that has most. */
static void make_room(struct evfs_ssh *ssh)
{
	struct evfs_ssh_conn *victim = NULL;
	unsigned most = 0;

	for (size_t i = 0; i < ssh->n_conns; i++) {
		struct evfs_ssh_conn *conn = ssh->conns[i];
		unsigned n;

		if (!is_pending(conn))
			continue;
		n = pending_of(ssh, &conn->source);
		if (n > most) {
			most = n;
			victim = conn;
		}
	}
	if (victim)
		evfs_ssh_fail(victim, EVFS_ELIMIT, "gave way to another");
}

static void source_of(const struct sockaddr_storage *addr,
		      struct in6_addr *ret)
{
	memset(ret, 0, sizeof(*ret));
	if (addr->ss_family == AF_INET6) {
		const struct sockaddr_in6 *in6 = (const void *)addr;

		*ret = in6->sin6_addr;
	} else if (addr->ss_family == AF_INET) {
		const struct sockaddr_in *in = (const void *)addr;

		ret->s6_addr[10] = 0xff;
		ret->s6_addr[11] = 0xff;
		memcpy(&ret->s6_addr[12], &in->sin_addr, 4);
	}
}

/* ---- accepting ---- */

static bool start_session(struct evfs_ssh_conn *conn, int fd)
{
	struct ssh_server_callbacks_struct *callbacks =
		&conn->server_callbacks;
	int rc;

	conn->session = ssh_new();
	if (!conn->session || !evfs_ssh_set_common(conn->ssh, conn->session) ||
	    ssh_bind_accept_fd(conn->ssh->bind, conn->session, fd) != SSH_OK) {
		if (!conn->session || ssh_get_fd(conn->session) != fd)
			close(fd);
		return false;
	}
	ssh_set_blocking(conn->session, 0);
	ssh_callbacks_init(callbacks);
	callbacks->userdata = conn;
	callbacks->auth_pubkey_function = on_pubkey;
	callbacks->auth_password_function = on_password;
	callbacks->auth_none_function = on_none;
	callbacks->channel_open_request_session_function = on_open;
	ssh_set_server_callbacks(conn->session, callbacks);
	ssh_set_auth_methods(conn->session, SSH_AUTH_METHOD_PUBLICKEY |
						    SSH_AUTH_METHOD_PASSWORD);
	/* Sends our version; the rest happens as packets come in. */
	rc = ssh_handle_key_exchange(conn->session);
	return rc != SSH_ERROR && evfs_ssh_adopt(conn);
}

static void accept_one(struct evfs_ssh *ssh, int fd,
		       const struct sockaddr_storage *addr)
{
	struct evfs_ssh_conn *conn;
	struct in6_addr source;

	source_of(addr, &source);
	if (pending_of(ssh, &source) >= ssh->options.pending_source_max) {
		close(fd);
		return;
	}
	if (pending_of(ssh, NULL) >= ssh->options.pending_max)
		make_room(ssh);
	conn = evfs_ssh_conn_new(ssh, EVFS_SSH_MEMBER, false, EVFS_SSH_KEX);
	if (!conn) {
		close(fd);
		return;
	}
	conn->source = source;
	evfs_addr_format((const struct sockaddr *)addr, true, conn->address,
			 sizeof(conn->address));
	evfs_addr_tune_socket(fd);
	if (!start_session(conn, fd))
		evfs_ssh_fail(conn, EVFS_ECLOSED, "%s: no SSH session",
			      conn->address);
}

void evfs_ssh_server_accept(struct evfs_ssh *ssh)
{
	for (int i = 0; i < ACCEPTS_ROUND; i++) {
		struct sockaddr_storage addr;
		socklen_t len = sizeof(addr);
		int fd = accept4(ssh->listen_fd, (struct sockaddr *)&addr,
				 &len, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd >= 0) {
			accept_one(ssh, fd, &addr);
			continue;
		}
		if (errno == EMFILE || errno == ENFILE || errno == ENOMEM ||
		    errno == ENOBUFS) {
			evfs_log(EVFS_LOG_WARN, "listener: err=%s",
				 strerror(errno));
			ssh->listen_pause_ns = evfs_ssh_now(ssh) + PAUSE_NS;
			return;
		}
		if (errno == EAGAIN)
			return;
	}
}

/* ---- life ---- */

int evfs_ssh_server_new(struct evfs_ssh *ssh, struct evfs_err *err)
{
	bool off = false;
	ssh_key key;

	ssh->bind = ssh_bind_new();
	key = ssh_key_dup(ssh->key);
	if (!ssh->bind || !key ||
	    ssh_bind_options_set(ssh->bind, SSH_BIND_OPTIONS_PROCESS_CONFIG,
				 &off) != 0 ||
	    ssh_bind_options_set(ssh->bind, SSH_BIND_OPTIONS_IMPORT_KEY,
				 key) != 0) {
		ssh_key_free(key);
		return evfs_err_set(err, EVFS_ENOMEM, "SSH server: %s",
				    evfs_err_text(EVFS_ENOMEM));
	}
	return 0; /* the key is the bind's now */
}

int evfs_ssh_listen(struct evfs_ssh *ssh, const char *listen,
		    struct evfs_err *err)
{
	struct sockaddr_storage addr;
	socklen_t len = sizeof(addr);
	int fd, rc = evfs_addr_listen(listen, &fd, err);

	if (rc)
		return rc;
	if (getsockname(fd, (struct sockaddr *)&addr, &len) < 0) {
		rc = evfs_err_sys(err, errno, "listen %s", listen);
		close(fd);
		return rc;
	}
	evfs_addr_format((const struct sockaddr *)&addr, false, ssh->address,
			 sizeof(ssh->address));
	ssh->listen_fd = fd;
	return 0;
}
