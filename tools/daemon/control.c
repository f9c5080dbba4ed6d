/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The control socket: STORE/control.sock (mode 0600), one JSON object a line.
 * Everything here runs on the network thread, so that a command sees the
 * engine at rest. A "wait" request is answered when its condition holds: it is
 * looked at again after each round of that thread. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "tools/daemon/daemon.h"

#define CONTROL_LINE_MAX 65536
#define CONTROL_CLIENTS_MAX 64

struct client {
	int fd;                      /* owned */
	struct evfs_buf in;          /* bytes of an unfinished line */
	struct evfs_buf out;         /* bytes not written yet */
	json_t *waiting;             /* a "wait" request, or NULL */
	bool gone;                   /* to be freed after the round */
	struct evfs_control *control;
	struct client *next;
};

struct evfs_control {
	int fd;                     /* listener; owned */
	size_t n_clients;
	struct client *clients;     /* owned */
	struct evfs_daemon *daemon; /* borrowed */
};

static void drop_client(struct client *client)
{
	struct evfs_control *control = client->control;
	struct client **at = &control->clients;

	while (*at != client)
		at = &(*at)->next;
	*at = client->next;
	control->n_clients--;
	close(client->fd);
	evfs_buf_fini(&client->in);
	evfs_buf_fini(&client->out);
	json_decref(client->waiting);
	evfs_free(client);
}

static void flush_client(struct client *client)
{
	while (client->out.len) {
		ssize_t n = send(client->fd, client->out.data, client->out.len,
				 MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			client->gone = errno != EAGAIN;
			break;
		}
		evfs_buf_consume(&client->out, (size_t)n);
	}
	if (!client->gone)
		evfs_net_set_events(client->control->daemon->net, client->fd,
				    client->out.len ? POLLIN | POLLOUT
						    : POLLIN);
}

static void reply(struct client *client, json_t *answer)
{
	char *text = answer ? json_dumps(answer, JSON_COMPACT) : NULL;

	if (!text || evfs_buf_put(&client->out, text, strlen(text)) ||
	    evfs_buf_put_u8(&client->out, '\n'))
		client->gone = true;
	else
		flush_client(client);
	free(text);
	json_decref(answer);
}

static void serve_line(struct client *client, struct evfs_engine *engine,
		       const char *line, size_t len)
{
	json_error_t why;
	json_t *request = json_loadb(line, len, 0, &why);
	const char *name;

	if (!json_is_object(request)) {
		reply(client, json_pack("{s:s, s:i}", "error",
					"not a JSON object", "code",
					EVFS_EPROTO));
		json_decref(request);
		return;
	}
	name = json_string_value(json_object_get(request, "command"));
	if (name && !strcmp(name, "wait")) {
		json_decref(client->waiting);
		client->waiting = request;
		return;
	}
	reply(client,
	      evfs_command_run(client->control->daemon, engine, request));
	json_decref(request);
}

static void serve_input(struct client *client, struct evfs_engine *engine)
{
	uint8_t *end;

	while (!client->gone && client->in.len &&
	       (end = memchr(client->in.data, '\n', client->in.len))) {
		size_t len = (size_t)(end - client->in.data);

		serve_line(client, engine, (const char *)client->in.data, len);
		evfs_buf_consume(&client->in, len + 1);
	}
	if (client->in.len > CONTROL_LINE_MAX)
		client->gone = true;
}

static void client_ready(void *ctx, struct evfs_engine *engine, short revents)
{
	struct client *client = ctx;
	char bytes[4096];
	ssize_t n = 0;

	if (revents & POLLOUT)
		flush_client(client);
	if (revents & (POLLIN | POLLHUP | POLLERR)) {
		n = recv(client->fd, bytes, sizeof(bytes), MSG_DONTWAIT);
		if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
			client->gone = true;
		else if (n > 0 && evfs_buf_put(&client->in, bytes, (size_t)n))
			client->gone = true;
	}
	if (!client->gone)
		serve_input(client, engine);
	if (client->gone) {
		evfs_net_remove_fd(client->control->daemon->net, client->fd);
		drop_client(client);
	}
}

static void accept_ready(void *ctx, struct evfs_engine *engine, short revents)
{
	struct evfs_control *control = ctx;
	struct client *client;
	int fd = accept4(control->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	(void)engine;
	(void)revents;
	if (fd < 0)
		return;
	client = evfs_calloc(1, sizeof(*client));
	if (!client || control->n_clients >= CONTROL_CLIENTS_MAX ||
	    evfs_net_add_fd(control->daemon->net, fd, POLLIN, client_ready,
			    client)) {
		evfs_free(client);
		close(fd);
		return;
	}
	client->fd = fd;
	client->control = control;
	client->next = control->clients;
	control->clients = client;
	control->n_clients++;
}

/* Answers the "wait" requests whose condition holds now. */
static void look_at_waiters(struct evfs_control *control,
			    struct evfs_engine *engine)
{
	struct client *client, *next;

	for (client = control->clients; client; client = next) {
		const char *unknown = NULL;
		bool converged;

		next = client->next;
		if (!client->waiting)
			continue;
		converged = evfs_status_converged(
			control->daemon, engine,
			json_object_get(client->waiting, "peers"), &unknown);
		if (!converged && !unknown)
			continue;
		json_decref(client->waiting);
		client->waiting = NULL;
		if (unknown)
			reply(client,
			      json_pack("{s:s+, s:i}", "error",
					"no such member: ", unknown, "code",
					EVFS_ENOTFOUND));
		else
			reply(client, json_pack("{s:b}", "ok", 1));
		if (client->gone) {
			evfs_net_remove_fd(control->daemon->net, client->fd);
			drop_client(client);
		}
	}
}

static void after_round(void *ctx, struct evfs_engine *engine)
{
	struct evfs_control *control = ctx;

	evfs_status_round(control->daemon, engine);
	look_at_waiters(control, engine);
}

/* sun_path is short and stores may lie deep: bind through the directory. */
static int bind_socket(int fd, const char *store, struct evfs_err *err)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	evfs_cleanup_fd int dir = open(store, O_PATH | O_DIRECTORY | O_CLOEXEC);
	mode_t mask;
	int rc;

	if (dir < 0)
		return evfs_err_sys(err, errno, "open %s", store);
	unlinkat(dir, "control.sock", 0);
	snprintf(at.sun_path, sizeof(at.sun_path),
		 "/proc/self/fd/%d/control.sock", dir);
	mask = umask(0177);
	rc = bind(fd, (struct sockaddr *)&at, sizeof(at));
	umask(mask);
	if (rc || listen(fd, 16))
		return evfs_err_sys(err, errno, "bind %s/control.sock", store);
	return 0;
}

int evfs_control_start(struct evfs_daemon *daemon, struct evfs_err *err)
{
	struct evfs_control *control = evfs_calloc(1, sizeof(*control));
	int rc;

	if (!control)
		return evfs_err_set(err, EVFS_ENOMEM, "control socket: %s",
				    evfs_err_text(EVFS_ENOMEM));
	control->daemon = daemon;
	control->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	rc = control->fd < 0 ? evfs_err_sys(err, errno, "control socket")
			     : bind_socket(control->fd, daemon->store, err);
	if (!rc && evfs_net_add_fd(daemon->net, control->fd, POLLIN,
				   accept_ready, control))
		rc = evfs_err_set(err, EVFS_ENOMEM, "control socket: %s",
				  evfs_err_text(EVFS_ENOMEM));
	if (rc) {
		if (control->fd >= 0)
			close(control->fd);
		evfs_free(control);
		return rc;
	}
	daemon->control = control;
	evfs_net_on_round(daemon->net, after_round, control);
	return 0;
}

void evfs_control_stop(struct evfs_daemon *daemon)
{
	struct evfs_control *control = daemon->control;
	evfs_cleanup_fd int dir = -1;

	if (!control)
		return;
	while (control->clients)
		drop_client(control->clients);
	close(control->fd);
	evfs_free(control);
	daemon->control = NULL;
	dir = open(daemon->store, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (dir >= 0)
		unlinkat(dir, "control.sock", 0);
}
