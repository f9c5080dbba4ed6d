/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Dialling: look up, connect, check the host key, prove oneself, open the
 * channels. Each step is tried again whenever something happened, until libssh
 * no longer says SSH_AGAIN. The host key is checked before anything secret is
 * sent. */
#include "net/ssh_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/mem.h"

#define ATTEMPT_NS 3000000000u /* for one address while there are others */

static struct evfs_ssh_conn *dial(struct evfs_ssh *ssh,
				  enum evfs_ssh_kind kind, const char *address)
{
	struct evfs_ssh_conn *conn =
		evfs_ssh_conn_new(ssh, kind, true, EVFS_SSH_RESOLVING);

	if (conn)
		snprintf(conn->address, sizeof(conn->address), "%s", address);
	return conn;
}

evfs_conn evfs_ssh_dial(struct evfs_ssh *ssh, uint64_t node,
			const char *address, const char *key)
{
	struct evfs_ssh_conn *conn = dial(ssh, EVFS_SSH_MEMBER, address);

	if (!conn)
		return 0;
	conn->node = node;
	snprintf(conn->key, sizeof(conn->key), "%s", key);
	return conn->id;
}

evfs_conn evfs_ssh_dial_join(struct evfs_ssh *ssh, const char *address,
			     const char *fingerprint, const char *secret)
{
	struct evfs_ssh_conn *conn = dial(ssh, EVFS_SSH_JOIN, address);

	if (!conn)
		return 0;
	snprintf(conn->fingerprint, sizeof(conn->fingerprint), "%s",
		 fingerprint);
	snprintf(conn->secret, sizeof(conn->secret), "%s", secret);
	return conn->id;
}

static void fail_err(struct evfs_ssh_conn *conn, const struct evfs_err *err)
{
	evfs_ssh_fail(conn, err->code, "%s", err->msg);
}

/* ---- TCP ---- */

/* connect(2) to the next address; fails when there is none left. `sys` is why
 * the one before did not answer. */
static void try_next(struct evfs_ssh_conn *conn, int sys)
{
	while (conn->next_addr) {
		struct addrinfo *ai = conn->next_addr;

		conn->next_addr = ai->ai_next;
		if (conn->fd >= 0)
			close(conn->fd);
		conn->fd = socket(ai->ai_family,
				  ai->ai_socktype | SOCK_CLOEXEC |
					  SOCK_NONBLOCK, ai->ai_protocol);
		if (conn->fd < 0) {
			sys = errno;
			continue;
		}
		evfs_addr_tune_socket(conn->fd);
		conn->attempt_ns = conn->next_addr
			? evfs_ssh_now(conn->ssh) + ATTEMPT_NS : UINT64_MAX;
		if (connect(conn->fd, ai->ai_addr, ai->ai_addrlen) == 0 ||
		    errno == EINPROGRESS)
			return;
		sys = errno;
	}
	evfs_ssh_fail(conn, EVFS_EUNREACHABLE,
		      "connect %s: %s (is its daemon running, and its port "
		      "open?)",
		      conn->address, strerror(sys ? sys : EADDRNOTAVAIL));
}

static void step_resolving(struct evfs_ssh_conn *conn)
{
	struct evfs_err err = { 0 };
	int rc;

	if (!conn->lookup) {
		rc = evfs_lookup_start(conn->address,
				       conn->ssh->options.wake_fd,
				       &conn->lookup, &err);
		if (rc) {
			fail_err(conn, &err);
			return;
		}
	}
	rc = evfs_lookup_result(conn->lookup, &conn->next_addr, &err);
	if (rc == EVFS_EAGAIN)
		return;
	if (rc) {
		fail_err(conn, &err);
		return;
	}
	evfs_ssh_move(conn, EVFS_SSH_CONNECTING);
	try_next(conn, 0);
}

/* What a server may ask of us: nothing. 1: libssh answers "no", and keeps no
 * list of it. */
static int refuse_message(ssh_session session, ssh_message message, void *ctx)
{
	(void)session;
	(void)message;
	(void)ctx;
	return 1;
}

/* A session over the connected socket. */
static bool start_session(struct evfs_ssh_conn *conn)
{
	bool member = conn->kind == EVFS_SSH_MEMBER;
	int rc;

	conn->session = ssh_new();
	if (!conn->session || !evfs_ssh_set_common(conn->ssh, conn->session) ||
	    ssh_options_set(conn->session, SSH_OPTIONS_HOST, "evfs") != 0 ||
	    ssh_options_set(conn->session, SSH_OPTIONS_USER,
			    member ? EVFS_SSH_USER_MEMBER
				   : EVFS_SSH_USER_JOIN) != 0 ||
	    /* Pinned keys, not known hosts. */
	    ssh_options_set(conn->session, SSH_OPTIONS_KNOWNHOSTS,
			    "/dev/null") != 0 ||
	    ssh_options_set(conn->session, SSH_OPTIONS_GLOBAL_KNOWNHOSTS,
			    "/dev/null") != 0 ||
	    ssh_options_set(conn->session, SSH_OPTIONS_FD, &conn->fd) != 0) {
		evfs_ssh_fail(conn, EVFS_ENOMEM, "%s",
			      evfs_err_text(EVFS_ENOMEM));
		return false;
	}
	ssh_set_blocking(conn->session, 0);
	ssh_set_message_callback(conn->session, refuse_message, NULL);
	rc = ssh_connect(conn->session);
	if (ssh_get_fd(conn->session) == conn->fd || rc != SSH_AGAIN)
		conn->fd = -1; /* the session's from here on */
	if (rc != SSH_AGAIN) {
		evfs_ssh_fail(conn, EVFS_ECLOSED, "%s: %s", conn->address,
			      evfs_ssh_words(conn));
		return false;
	}
	return evfs_ssh_adopt(conn);
}

static void step_connecting(struct evfs_ssh_conn *conn, short revents)
{
	socklen_t len = sizeof(int);
	int sys = 0;

	if (!revents) {
		if (evfs_ssh_now(conn->ssh) >= conn->attempt_ns)
			try_next(conn, ETIMEDOUT);
		return;
	}
	if (getsockopt(conn->fd, SOL_SOCKET, SO_ERROR, &sys, &len) < 0)
		sys = errno;
	if (sys) {
		try_next(conn, sys);
		return;
	}
	conn->attempt_ns = UINT64_MAX;
	evfs_ssh_move(conn, EVFS_SSH_KEX);
	start_session(conn);
}

/* ---- SSH ---- */

/* Is it the machine that we mean to talk to? */
static void check_host_key(struct evfs_ssh_conn *conn)
{
	const struct evfs_ssh_events *events = conn->ssh->events;
	char got[EVFS_SSH_FINGERPRINT_MAX] = "", want[sizeof(got)] = "?";
	char text[EVFS_KEY_TEXT_MAX] = "", name[80] = "?";
	ssh_key key = NULL;
	bool same = false;

	if (ssh_get_server_publickey(conn->session, &key) == SSH_OK &&
	    evfs_ssh_key_text(key, text, sizeof(text), NULL) == 0 &&
	    evfs_ssh_key_hash(key, got, sizeof(got), NULL) == 0)
		same = conn->kind == EVFS_SSH_MEMBER
			       ? strcmp(text, conn->key) == 0
			       : strcmp(got, conn->fingerprint) == 0;
	ssh_key_free(key);
	if (same)
		return;
	if (conn->kind == EVFS_SSH_JOIN) {
		evfs_ssh_fail(conn, EVFS_EAUTH,
			      "host key of %s is %s, the token says %s: "
			      "somebody else answers there (check the address, "
			      "or make a new token with 'evfsctl invite')",
			      conn->address, got, conn->fingerprint);
		return;
	}
	if (evfs_ssh_key_fingerprint(conn->key, want, sizeof(want), NULL))
		snprintf(want, sizeof(want), "?");
	events->name_of(events->ctx, conn->node, name, sizeof(name));
	evfs_ssh_fail(conn, EVFS_EAUTH,
		      "host key of %s is not the one pinned: %s has %s, not %s "
		      "(another machine at its address? 'evfsctl peer set %s "
		      "address=...')",
		      name, conn->address, got, want, name);
}

static void step_kex(struct evfs_ssh_conn *conn)
{
	int rc = ssh_connect(conn->session);

	/* libssh has made it blocking (see ssh.c). */
	(void)!fcntl(ssh_get_fd(conn->session), F_SETFL, O_NONBLOCK);
	if (rc == SSH_AGAIN)
		return;
	if (rc != SSH_OK) {
		evfs_ssh_fail(conn, EVFS_EPROTO,
			      "%s: SSH: %s (is it an evfs listener?)",
			      conn->address, evfs_ssh_words(conn));
		return;
	}
	check_host_key(conn);
	if (conn->state == EVFS_SSH_DEAD)
		return;
	evfs_ssh_move(conn, EVFS_SSH_AUTH);
	conn->again = true;
}

static void step_auth(struct evfs_ssh_conn *conn)
{
	int rc;

	if (conn->kind == EVFS_SSH_MEMBER)
		rc = ssh_userauth_publickey(conn->session, NULL,
					    conn->ssh->key);
	else
		rc = ssh_userauth_password(conn->session, NULL, conn->secret);
	switch (rc) {
	case SSH_AUTH_AGAIN:
		return;
	case SSH_AUTH_SUCCESS:
		evfs_ssh_move(conn, EVFS_SSH_CHANNELS);
		conn->n_streams = conn->kind == EVFS_SSH_MEMBER
					  ? (size_t)EVFS_CHANNELS : 1;
		conn->again = true;
		return;
	case SSH_AUTH_DENIED:
	case SSH_AUTH_PARTIAL:
		if (conn->kind == EVFS_SSH_MEMBER)
			evfs_ssh_fail(conn, EVFS_EAUTH,
				      "%s refused our key: this replica is not "
				      "a member there, or was removed",
				      conn->address);
		else
			evfs_ssh_fail(conn, EVFS_EAUTH,
				      "%s refused the invitation: it was used, "
				      "has expired, or was not made there (ask "
				      "for a new one: 'evfsctl invite')",
				      conn->address);
		return;
	default:
		evfs_ssh_fail(conn, EVFS_ECLOSED, "%s: authentication: %s",
			      conn->address, evfs_ssh_words(conn));
	}
}

static const char *subsystem_of(const struct evfs_ssh_conn *conn, size_t i)
{
	if (conn->kind == EVFS_SSH_JOIN)
		return EVFS_SSH_SUBSYSTEM_JOIN;
	return i == EVFS_CHANNEL_CONTROL ? EVFS_SSH_SUBSYSTEM_CONTROL
					 : EVFS_SSH_SUBSYSTEM_BULK;
}

/* One channel's way to being ready; SSH_AGAIN, SSH_OK or SSH_ERROR. */
static int step_stream(struct evfs_ssh_conn *conn, size_t i)
{
	struct evfs_ssh_stream *stream = &conn->streams[i];
	int rc;

	if (stream->ready)
		return SSH_OK;
	if (!stream->channel) {
		stream->conn = conn;
		stream->which = (enum evfs_channel)i;
		stream->channel = ssh_channel_new(conn->session);
		if (!stream->channel)
			return SSH_ERROR;
		evfs_ssh_stream_attach(stream);
	}
	if (!stream->open) {
		rc = ssh_channel_open_session(stream->channel);
		if (rc != SSH_OK)
			return rc;
		stream->open = true;
	}
	rc = ssh_channel_request_subsystem(stream->channel,
					   subsystem_of(conn, i));
	stream->ready = rc == SSH_OK;
	return rc;
}

static void step_channels(struct evfs_ssh_conn *conn)
{
	bool ready = true;

	/* All at once: the requests of one do not wait for the other's. */
	for (size_t i = 0; i < conn->n_streams; i++) {
		int rc = step_stream(conn, i);

		if (rc != SSH_OK && rc != SSH_AGAIN) {
			evfs_ssh_fail(conn, EVFS_EPROTO,
				      "%s gives no channel %s: %s (does it run "
				      "evfs?)", conn->address,
				      subsystem_of(conn, i),
				      evfs_ssh_words(conn));
			return;
		}
		ready &= rc == SSH_OK;
	}
	if (ready)
		evfs_ssh_opened(conn);
}

void evfs_ssh_client_step(struct evfs_ssh_conn *conn, short revents)
{
	switch (conn->state) {
	case EVFS_SSH_RESOLVING:
		step_resolving(conn);
		break;
	case EVFS_SSH_CONNECTING:
		step_connecting(conn, revents);
		break;
	case EVFS_SSH_KEX:
		step_kex(conn);
		break;
	case EVFS_SSH_AUTH:
		step_auth(conn);
		break;
	case EVFS_SSH_CHANNELS:
		step_channels(conn);
		break;
	default:
		break;
	}
}
