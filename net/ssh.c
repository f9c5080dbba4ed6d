/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The SSH transport: connections, their states, the poll loop's two halves.
 *
 * Every session has an ssh_event of its own and is polled by our one poll(2)
 * through ssh_get_poll_flags(). When its socket is ready, ssh_event_dopoll()
 * lets libssh read and write, which runs our callbacks; then the connection's
 * state machine takes a step, input that waited is delivered, and output is
 * written. libssh polls again inside many of its calls: with an event per
 * session that touches this session only.
 *
 * libssh makes the socket of a client blocking once it is connected, and its
 * send(2) would then block the loop. It is set back to non-blocking at each
 * step of the handshake; libssh writes after POLLOUT only, and copes with short
 * writes, so it does not notice. */
#include "net/ssh_priv.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"

#define HANDSHAKE_MS 10000u
#define LINGER_MS 5000u
#define PENDING_MAX 32u
#define PENDING_SOURCE_MAX 8u
#define READS_ROUND 64 /* of 4 KiB, in libssh, for one connection */

uint64_t evfs_ssh_now(const struct evfs_ssh *ssh)
{
	return ssh->options.env->mono_ns(ssh->options.env->ctx);
}

static uint64_t after_ms(const struct evfs_ssh *ssh, unsigned ms)
{
	return evfs_ssh_now(ssh) + (uint64_t)ms * 1000000u;
}

/* ---- connections ---- */

static struct evfs_ssh_conn *find(const struct evfs_ssh *ssh, evfs_conn id)
{
	size_t low = 0, high = ssh->n_conns;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (ssh->conns[mid]->id < id)
			low = mid + 1;
		else
			high = mid;
	}
	return low < ssh->n_conns && ssh->conns[low]->id == id
		       ? ssh->conns[low] : NULL;
}

/* The connection as its owner knows it: not one that he closed. */
static struct evfs_ssh_conn *find_open(const struct evfs_ssh *ssh,
				       evfs_conn id)
{
	struct evfs_ssh_conn *conn = find(ssh, id);

	return conn && conn->state == EVFS_SSH_OPEN && !conn->silent ? conn
								     : NULL;
}

struct evfs_ssh_conn *evfs_ssh_conn_new(struct evfs_ssh *ssh,
					enum evfs_ssh_kind kind, bool outgoing,
					enum evfs_ssh_state state)
{
	struct evfs_ssh_conn *conn;

	if (evfs_grow((void **)&ssh->conns, ssh->n_conns, &ssh->cap_conns,
		      sizeof(struct evfs_ssh_conn *)))
		return NULL;
	conn = evfs_calloc(1, sizeof(*conn));
	if (!conn)
		return NULL;
	conn->ssh = ssh;
	conn->id = ++ssh->last_id;
	conn->kind = kind;
	conn->outgoing = outgoing;
	conn->state = state;
	conn->fd = -1;
	conn->attempt_ns = UINT64_MAX;
	conn->poll_index = SIZE_MAX;
	conn->deadline_ns = after_ms(ssh, ssh->options.handshake_ms);
	conn->again = true;
	ssh->conns[ssh->n_conns++] = conn;
	return conn;
}

static void conn_free(struct evfs_ssh_conn *conn)
{
	for (size_t i = 0; i < EVFS_CHANNELS; i++)
		evfs_ssh_stream_fini(&conn->streams[i]);
	if (conn->event) {
		ssh_event_remove_session(conn->event, conn->session);
		ssh_event_free(conn->event);
	}
	ssh_free(conn->session); /* closes its socket */
	if (conn->fd >= 0)
		close(conn->fd);
	evfs_lookup_free(conn->lookup);
	evfs_buf_fini(&conn->frame);
	explicit_bzero(conn->secret, sizeof(conn->secret));
	evfs_free(conn);
}

void evfs_ssh_move(struct evfs_ssh_conn *conn, enum evfs_ssh_state to)
{
	/* The diagram in ssh_priv.h: from, to. */
	static const enum evfs_ssh_state moves[][2] = {
		{ EVFS_SSH_RESOLVING, EVFS_SSH_CONNECTING },
		{ EVFS_SSH_CONNECTING, EVFS_SSH_KEX },
		{ EVFS_SSH_KEX, EVFS_SSH_AUTH },
		{ EVFS_SSH_AUTH, EVFS_SSH_CHANNELS },
		{ EVFS_SSH_CHANNELS, EVFS_SSH_OPEN },
		{ EVFS_SSH_OPEN, EVFS_SSH_FLUSHING },
		{ EVFS_SSH_FLUSHING, EVFS_SSH_LINGERING },
	};
	bool allowed = to == EVFS_SSH_DEAD;

	for (size_t i = 0; i < sizeof(moves) / sizeof(moves[0]); i++)
		allowed |= moves[i][0] == conn->state && moves[i][1] == to;
	assert(allowed);
	conn->state = to;
}

void evfs_ssh_fail(struct evfs_ssh_conn *conn, int code, const char *fmt, ...)
{
	char text[sizeof(conn->why.msg)];
	va_list args;

	if (conn->why.code == 0) {
		va_start(args, fmt);
		vsnprintf(text, sizeof(text), fmt, args);
		va_end(args);
		evfs_err_set(&conn->why, code, "%s", text);
	}
	if (conn->state != EVFS_SSH_DEAD)
		evfs_ssh_move(conn, EVFS_SSH_DEAD);
}

const char *evfs_ssh_words(struct evfs_ssh_conn *conn)
{
	const char *words = ssh_get_error(conn->session);

	if (!words || !words[0])
		return "the connection broke";
	if (strcmp(words, "Socket error: disconnected") == 0)
		return "closed by the other side";
	return words;
}

bool evfs_ssh_set_common(struct evfs_ssh *ssh, ssh_session session)
{
	bool off = false;
	uint64_t rekey = ssh->options.rekey_bytes;

	return ssh_options_set(session, SSH_OPTIONS_PROCESS_CONFIG, &off) == 0 &&
	       ssh_options_set(session, SSH_OPTIONS_CIPHERS_C_S,
			       EVFS_SSH_CIPHERS) == 0 &&
	       ssh_options_set(session, SSH_OPTIONS_CIPHERS_S_C,
			       EVFS_SSH_CIPHERS) == 0 &&
	       ssh_options_set(session, SSH_OPTIONS_KEY_EXCHANGE,
			       EVFS_SSH_KEX_METHODS) == 0 &&
	       ssh_options_set(session, SSH_OPTIONS_HOSTKEYS,
			       EVFS_SSH_HOSTKEYS) == 0 &&
	       ssh_options_set(session, SSH_OPTIONS_PUBLICKEY_ACCEPTED_TYPES,
			       EVFS_SSH_HOSTKEYS) == 0 &&
	       ssh_options_set(session, SSH_OPTIONS_COMPRESSION, "no") == 0 &&
	       (!rekey || ssh_options_set(session, SSH_OPTIONS_REKEY_DATA,
					  &rekey) == 0);
}

bool evfs_ssh_adopt(struct evfs_ssh_conn *conn)
{
	conn->event = ssh_event_new();
	if (conn->event &&
	    ssh_event_add_session(conn->event, conn->session) == SSH_OK)
		return true;
	evfs_ssh_fail(conn, EVFS_ENOMEM, "%s", evfs_err_text(EVFS_ENOMEM));
	return false;
}

void evfs_ssh_opened(struct evfs_ssh_conn *conn)
{
	const struct evfs_ssh_events *events = conn->ssh->events;

	evfs_ssh_move(conn, EVFS_SSH_OPEN);
	conn->again = true;
	for (size_t i = 0; i < conn->n_streams; i++)
		conn->streams[i].waiting = true; /* windows are raised, too */
	if (conn->kind == EVFS_SSH_JOIN && !conn->outgoing)
		return; /* has until the deadline to send its request */
	conn->deadline_ns = UINT64_MAX;
	conn->reported = true;
	events->opened(events->ctx, conn->id, conn->node, conn->outgoing);
}

/* ---- one round for one connection ---- */

/* Lets libssh read and write while there is something. */
static void run_session(struct evfs_ssh_conn *conn)
{
	for (int i = 0; i < READS_ROUND; i++) {
		if (conn->state == EVFS_SSH_DEAD)
			return;
		if (ssh_event_dopoll(conn->event, 0) != SSH_OK)
			return;
	}
	conn->again = true;
}

static void check_session(struct evfs_ssh_conn *conn)
{
	int status;

	if (!conn->session || conn->state == EVFS_SSH_DEAD)
		return;
	status = ssh_get_status(conn->session);
	if ((status & (SSH_CLOSED | SSH_CLOSED_ERROR)) ||
	    (conn->state > EVFS_SSH_KEX && !ssh_is_connected(conn->session)))
		evfs_ssh_fail(conn, EVFS_ECLOSED, "%s", evfs_ssh_words(conn));
}

/* Our last bytes are on their way: shut our half, wait for the other. */
static void step_closing(struct evfs_ssh_conn *conn)
{
	if (conn->state != EVFS_SSH_FLUSHING)
		return;
	for (size_t i = 0; i < conn->n_streams; i++) {
		if (conn->streams[i].queued > 0)
			return;
	}
	if (ssh_get_status(conn->session) & SSH_WRITE_PENDING)
		return;
	shutdown(ssh_get_fd(conn->session), SHUT_WR);
	evfs_ssh_move(conn, EVFS_SSH_LINGERING);
}

static void check_deadline(struct evfs_ssh_conn *conn, uint64_t now_ns)
{
	struct evfs_ssh *ssh = conn->ssh;

	if (now_ns < conn->deadline_ns || conn->state == EVFS_SSH_DEAD)
		return;
	evfs_ssh_fail(conn, EVFS_ETIMEOUT,
		      "%s: no connection within %u ms (is the host up, and "
		      "its port open?)",
		      conn->address, ssh->options.handshake_ms);
}

static void process_conn(struct evfs_ssh_conn *conn, short revents,
			 uint64_t now_ns)
{
	conn->again = false;
	if (conn->session && revents)
		run_session(conn);
	if (conn->outgoing && conn->state < EVFS_SSH_OPEN)
		evfs_ssh_client_step(conn, revents);
	else if (conn->state == EVFS_SSH_CHANNELS &&
		 conn->n_streams == (conn->kind == EVFS_SSH_JOIN
					     ? 1u : EVFS_CHANNELS) &&
		 conn->streams[0].ready &&
		 conn->streams[conn->n_streams - 1].ready)
		evfs_ssh_opened(conn);
	evfs_ssh_input(conn);
	evfs_ssh_output(conn);
	evfs_ssh_tell_writable(conn);
	step_closing(conn);
	check_session(conn);
	check_deadline(conn, now_ns);
}

/* Reports and frees the dead. */
static void sweep(struct evfs_ssh *ssh)
{
	const struct evfs_ssh_events *events = ssh->events;
	size_t kept = 0;

	for (size_t i = 0; i < ssh->n_conns; i++) {
		struct evfs_ssh_conn *conn = ssh->conns[i];

		if (conn->state != EVFS_SSH_DEAD || conn->silent)
			continue;
		conn->silent = true;
		if (conn->outgoing || conn->reported)
			events->closed(events->ctx, conn->id, &conn->why);
		else
			evfs_log(EVFS_LOG_DEBUG, "ssh: source=%s err=%s",
				 conn->address, conn->why.msg);
	}
	/* Those dialled from closed() were appended behind. */
	for (size_t i = 0; i < ssh->n_conns; i++) {
		struct evfs_ssh_conn *conn = ssh->conns[i];

		if (conn->state == EVFS_SSH_DEAD && conn->silent)
			conn_free(conn);
		else
			ssh->conns[kept++] = conn;
	}
	ssh->n_conns = kept;
}

void evfs_ssh_process(struct evfs_ssh *ssh, const struct pollfd *fds, size_t n)
{
	uint64_t now = evfs_ssh_now(ssh);

	for (size_t i = 0; i < ssh->n_conns; i++) {
		struct evfs_ssh_conn *conn = ssh->conns[i];
		short revents = 0;

		if (conn->state == EVFS_SSH_DEAD)
			continue;
		if (conn->poll_index < n)
			revents = fds[conn->poll_index].revents;
		/* A lookup that has ended has no descriptor of its own. */
		if (revents || conn->again || now >= conn->deadline_ns ||
		    now >= conn->attempt_ns ||
		    conn->state == EVFS_SSH_RESOLVING)
			process_conn(conn, revents, now);
	}
	if (ssh->listen_index < n && fds[ssh->listen_index].revents)
		evfs_ssh_server_accept(ssh);
	sweep(ssh);
}

/* ---- what to poll for ---- */

static short events_of(struct evfs_ssh_conn *conn, int *ret_fd)
{
	int flags;

	if (conn->state == EVFS_SSH_CONNECTING) {
		*ret_fd = conn->fd;
		return POLLOUT;
	}
	if (!conn->session)
		return 0;
	*ret_fd = ssh_get_fd(conn->session);
	flags = ssh_get_poll_flags(conn->session);
	return (short)((flags & SSH_READ_PENDING ? POLLIN : 0) |
		       (flags & SSH_WRITE_PENDING ? POLLOUT : 0));
}

static uint64_t next_time(const struct evfs_ssh_conn *conn)
{
	if (conn->again || conn->state == EVFS_SSH_DEAD)
		return 0;
	return conn->attempt_ns < conn->deadline_ns ? conn->attempt_ns
						    : conn->deadline_ns;
}

int evfs_ssh_prepare(struct evfs_ssh *ssh, struct pollfd **ret, size_t *ret_n,
		     uint64_t *ret_deadline_ns, struct evfs_err *err)
{
	uint64_t deadline = UINT64_MAX, now = evfs_ssh_now(ssh);
	size_t n = 0;

	if (ssh->cap_fds < ssh->n_conns + 1) {
		size_t cap = ssh->n_conns + 16;
		struct pollfd *fds = evfs_realloc_array(ssh->fds, cap,
							sizeof(*fds));

		if (!fds)
			return evfs_err_set(err, EVFS_ENOMEM, "%s",
					    evfs_err_text(EVFS_ENOMEM));
		ssh->fds = fds;
		ssh->cap_fds = cap;
	}
	ssh->listen_index = SIZE_MAX;
	if (ssh->listen_fd >= 0 && now < ssh->listen_pause_ns) {
		deadline = ssh->listen_pause_ns;
	} else if (ssh->listen_fd >= 0) {
		ssh->listen_index = n;
		ssh->fds[n++] = (struct pollfd){ ssh->listen_fd, POLLIN, 0 };
	}
	for (size_t i = 0; i < ssh->n_conns; i++) {
		struct evfs_ssh_conn *conn = ssh->conns[i];
		int fd = -1;
		short events = events_of(conn, &fd);
		uint64_t next = next_time(conn);

		conn->poll_index = SIZE_MAX;
		if (fd >= 0) {
			conn->poll_index = n;
			ssh->fds[n++] = (struct pollfd){ fd, events, 0 };
		}
		if (next < deadline)
			deadline = next;
	}
	*ret = ssh->fds;
	*ret_n = n;
	*ret_deadline_ns = deadline;
	return 0;
}

/* ---- actions ---- */

bool evfs_ssh_send(struct evfs_ssh *ssh, evfs_conn id,
		   enum evfs_channel channel, const void *data, size_t len)
{
	struct evfs_ssh_conn *conn = find_open(ssh, id);
	struct evfs_ssh_stream *stream =
		conn ? evfs_ssh_stream_of(conn, channel) : NULL;

	if (!stream)
		return true; /* its end is on the way to the owner */
	conn->again = true;
	return evfs_ssh_stream_put(stream, data, len);
}

size_t evfs_ssh_queued(struct evfs_ssh *ssh, evfs_conn id,
		       enum evfs_channel channel)
{
	struct evfs_ssh_conn *conn = find_open(ssh, id);
	struct evfs_ssh_stream *stream =
		conn ? evfs_ssh_stream_of(conn, channel) : NULL;

	return stream ? stream->queued : 0;
}

void evfs_ssh_hold(struct evfs_ssh *ssh, evfs_conn id,
		   enum evfs_channel channel, bool on)
{
	struct evfs_ssh_conn *conn = find_open(ssh, id);
	struct evfs_ssh_stream *stream =
		conn ? evfs_ssh_stream_of(conn, channel) : NULL;

	if (!stream || stream->hold == on)
		return;
	stream->hold = on;
	if (!on)
		conn->again = true;
}

void evfs_ssh_close(struct evfs_ssh *ssh, evfs_conn id)
{
	struct evfs_ssh_conn *conn = find(ssh, id);

	if (!conn || conn->silent)
		return;
	if (conn->state == EVFS_SSH_OPEN) {
		evfs_ssh_move(conn, EVFS_SSH_FLUSHING);
		conn->deadline_ns = after_ms(ssh, ssh->options.linger_ms);
		conn->again = true;
	} else {
		evfs_ssh_fail(conn, EVFS_ECLOSED, "closed");
	}
	conn->silent = true;
}

void evfs_ssh_shut(struct evfs_ssh *ssh)
{
	if (ssh->listen_fd >= 0)
		close(ssh->listen_fd);
	ssh->listen_fd = -1;
	ssh->listen_index = SIZE_MAX;
	for (size_t i = 0; i < ssh->n_conns; i++)
		evfs_ssh_close(ssh, ssh->conns[i]->id);
}

size_t evfs_ssh_count(const struct evfs_ssh *ssh)
{
	return ssh->n_conns;
}

/* ---- life ---- */

static void set_defaults(struct evfs_ssh_options *options)
{
	if (!options->handshake_ms)
		options->handshake_ms = HANDSHAKE_MS;
	if (!options->linger_ms)
		options->linger_ms = LINGER_MS;
	if (!options->pending_max)
		options->pending_max = PENDING_MAX;
	if (!options->pending_source_max)
		options->pending_source_max = PENDING_SOURCE_MAX;
}

int evfs_ssh_new(const struct evfs_ssh_options *options,
		 const struct evfs_ssh_events *events, struct evfs_ssh **ret,
		 struct evfs_err *err)
{
	struct evfs_ssh *ssh = evfs_calloc(1, sizeof(*ssh));
	int rc;

	if (!ssh)
		return evfs_err_set(err, EVFS_ENOMEM, "%s",
				    evfs_err_text(EVFS_ENOMEM));
	ssh->options = *options;
	ssh->options.key_path = NULL; /* not kept */
	ssh->events = events;
	ssh->listen_fd = -1;
	ssh->listen_index = SIZE_MAX;
	set_defaults(&ssh->options);
	rc = evfs_ssh_key_load(options->key_path, &ssh->key, err);
	if (!rc)
		rc = evfs_ssh_key_text(ssh->key, ssh->key_text,
				       sizeof(ssh->key_text), err);
	if (!rc)
		rc = evfs_ssh_key_hash(ssh->key, ssh->fingerprint,
				       sizeof(ssh->fingerprint), err);
	if (!rc)
		rc = evfs_ssh_server_new(ssh, err);
	if (rc) {
		evfs_ssh_free(ssh);
		return rc;
	}
	*ret = ssh;
	return 0;
}

void evfs_ssh_free(struct evfs_ssh *ssh)
{
	if (!ssh)
		return;
	for (size_t i = 0; i < ssh->n_conns; i++)
		conn_free(ssh->conns[i]);
	evfs_free(ssh->conns);
	evfs_free(ssh->fds);
	if (ssh->listen_fd >= 0)
		close(ssh->listen_fd);
	if (ssh->bind)
		ssh_bind_free(ssh->bind);
	ssh_key_free(ssh->key);
	evfs_free(ssh);
}

const char *evfs_ssh_address(const struct evfs_ssh *ssh)
{
	return ssh->listen_fd >= 0 ? ssh->address : NULL;
}

const char *evfs_ssh_fingerprint(const struct evfs_ssh *ssh)
{
	return ssh->fingerprint;
}

const char *evfs_ssh_public_key(const struct evfs_ssh *ssh)
{
	return ssh->key_text;
}
