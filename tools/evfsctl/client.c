/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Talks to the daemon of a store through its control socket. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/io.h"
#include "base/mem.h"
#include "tools/evfsctl/evfsctl.h"

#define REPLY_MAX (64u << 20)

/* Through the directory, for paths longer than sun_path. */
static int connect_to(const char *store, int *ret, struct evfs_err *err)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	evfs_cleanup_fd int dir = open(store, O_PATH | O_DIRECTORY | O_CLOEXEC);
	evfs_cleanup_fd int fd = -1;

	if (dir < 0)
		return evfs_err_sys(err, errno, "%s", store);
	if (faccessat(dir, "meta.db", F_OK, 0))
		return evfs_err_set(err, EVFS_ENOTFOUND,
				    "%s: not an evfs store (make one with "
				    "'evfsctl init')", store);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return evfs_err_sys(err, errno, "socket");
	snprintf(at.sun_path, sizeof(at.sun_path),
		 "/proc/self/fd/%d/control.sock", dir);
	if (connect(fd, (struct sockaddr *)&at, sizeof(at))) {
		if (errno == ENOENT || errno == ECONNREFUSED)
			return evfs_err_set(err, EVFS_ECLOSED,
					    "%s: no daemon runs (start it with "
					    "'evfs %s MOUNTPOINT')", store,
					    store);
		return evfs_err_sys(err, errno, "%s/control.sock", store);
	}
	*ret = fd;
	fd = -1;
	return 0;
}

static int read_line(int fd, int timeout_ms, struct evfs_buf *line,
		     struct evfs_err *err)
{
	struct pollfd poll_fd = { .fd = fd, .events = POLLIN };

	while (!line->len || line->data[line->len - 1] != '\n') {
		uint8_t *room = evfs_buf_reserve(line, 65536);
		int ready = poll(&poll_fd, 1, timeout_ms);
		ssize_t n;

		if (ready < 0 && errno == EINTR)
			continue;
		if (!ready)
			return evfs_err_set(err, EVFS_ETIMEOUT,
					    "timed out after %d s",
					    timeout_ms / 1000);
		if (!room || line->len > REPLY_MAX)
			return evfs_err_set(err, EVFS_ENOMEM,
					    "the daemon's answer is too long");
		n = read(fd, room, 65536);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return evfs_err_sys(err, errno, "the daemon's answer");
		if (!n)
			return evfs_err_set(err, EVFS_ECLOSED,
					    "the daemon ended before it "
					    "answered");
		line->len += (size_t)n;
	}
	return 0;
}

static int understand(const struct evfs_buf *line, json_t **ret,
		      struct evfs_err *err)
{
	json_t *reply = json_loadb((const char *)line->data, line->len, 0,
				   NULL);
	const char *text = json_string_value(json_object_get(reply, "error"));
	int rc = 0;

	if (!json_is_object(reply))
		rc = evfs_err_set(err, EVFS_EPROTO,
				  "the daemon's answer is not understood (is "
				  "it another version?)");
	else if (text)
		rc = evfs_err_set(err,
				  (int)json_integer_value(
					  json_object_get(reply, "code")),
				  "%s", text);
	if (rc)
		json_decref(reply);
	else
		*ret = reply;
	return rc;
}

int evfsctl_request(const char *store, json_t *request, int timeout_ms,
		    json_t **ret, struct evfs_err *err)
{
	struct evfs_buf line = { 0 };
	evfs_cleanup_fd int fd = -1;
	char *text = request ? json_dumps(request, JSON_COMPACT) : NULL;
	int rc;

	json_decref(request);
	if (!text)
		return evfs_err_set(err, EVFS_ENOMEM, "%s",
				    evfs_err_text(EVFS_ENOMEM));
	rc = connect_to(store, &fd, err);
	if (!rc)
		rc = evfs_io_write(fd, text, strlen(text), err);
	if (!rc)
		rc = evfs_io_write(fd, "\n", 1, err);
	if (!rc)
		rc = read_line(fd, timeout_ms, &line, err);
	if (!rc)
		rc = understand(&line, ret, err);
	free(text);
	evfs_buf_fini(&line);
	return rc;
}

int evfsctl_ask(const struct evfsctl *ctl, const char *path, json_t *request)
{
	struct evfs_err err = { 0 };
	evfs_cleanup_free char *store = NULL;
	json_t *reply;
	int rc = evfsctl_store(ctl, path, &store, &err);

	if (rc)
		json_decref(request);
	else
		rc = evfsctl_request(store, request, -1, &reply, &err);
	if (rc)
		return evfsctl_fail(ctl, &err);
	json_decref(reply);
	return EVFS_EXIT_DONE;
}

int evfsctl_open(const char *store, struct evfs_meta **ret,
		 struct evfs_err *err)
{
	struct evfs_meta_options options = { .path = store,
					     .env = evfs_env_system(),
					     .read_only = true };
	json_t *reply;
	int rc = evfsctl_request(store, json_pack("{s:s}", "command", "flush"),
				 -1, &reply, err);

	if (!rc)
		json_decref(reply);
	else if (rc != EVFS_ECLOSED)
		return rc;
	return evfs_meta_open(&options, ret, err);
}
