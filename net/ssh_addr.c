/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Addresses and sockets: "host:port" taken apart and put together, names
 * looked up without blocking, listeners bound.
 *
 * getaddrinfo(3) blocks, for half a minute where a name server is away. So a
 * name is looked up in a detached thread that owns nothing but its request:
 * the request is counted twice, by the asker and by the thread, and whoever
 * lets go last frees it. The thread has its own duplicate of the eventfd, so
 * an asker may go away at any time. */
#include "net/ssh.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/mem.h"

#define KEEPALIVE_IDLE_S 15
#define KEEPALIVE_INTERVAL_S 5
#define KEEPALIVE_PROBES 3
#define UNANSWERED_MS 30000 /* sent and not acknowledged: dead */
#define UNSENT_BYTES (128 << 10)

struct evfs_lookup {
	atomic_int refs;        /* asker and thread */
	atomic_bool done;       /* status and list are valid */
	int wake_fd;            /* own duplicate; -1 = none */
	int status;             /* of getaddrinfo */
	struct addrinfo *list;  /* owned */
	char host[256];
	char port[8];
};

int evfs_addr_split(const char *address, char host[256], char port[8],
		    struct evfs_err *err)
{
	const char *end, *colon = strrchr(address, ':');
	char *rest;
	long number;
	size_t len;

	if (!colon)
		goto bad;
	if (address[0] == '[') {
		end = strchr(address, ']');
		if (!end || end + 1 != colon)
			goto bad;
		address++;
	} else {
		end = colon;
		if (memchr(address, ':', (size_t)(end - address)))
			goto bad; /* IPv6 without brackets: ambiguous */
	}
	len = (size_t)(end - address);
	if (len > 255 || colon[1] < '0' || colon[1] > '9')
		goto bad;
	number = strtol(colon + 1, &rest, 10);
	if (*rest || number < 0 || number > 65535)
		goto bad;
	memcpy(host, address, len);
	host[len] = '\0';
	snprintf(port, 8, "%ld", number);
	return 0;
bad:
	return evfs_err_set(err, EVFS_EINVAL,
			    "address '%.100s': not HOST:PORT or [IPV6]:PORT "
			    "with a port from 0 to 65535", address);
}

void evfs_addr_format(const struct sockaddr *addr, bool only_ip, char *ret,
		      size_t size)
{
	char host[INET6_ADDRSTRLEN] = "?";
	unsigned port = 0;

	if (addr->sa_family == AF_INET) {
		const struct sockaddr_in *in = (const void *)addr;

		inet_ntop(AF_INET, &in->sin_addr, host, sizeof(host));
		port = ntohs(in->sin_port);
	} else if (addr->sa_family == AF_INET6) {
		const struct sockaddr_in6 *in6 = (const void *)addr;

		port = ntohs(in6->sin6_port);
		if (IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr)) {
			inet_ntop(AF_INET, &in6->sin6_addr.s6_addr[12], host,
				  sizeof(host));
		} else {
			inet_ntop(AF_INET6, &in6->sin6_addr, host,
				  sizeof(host));
		}
	}
	if (only_ip)
		snprintf(ret, size, "%s", host);
	else if (strchr(host, ':'))
		snprintf(ret, size, "[%s]:%u", host, port);
	else
		snprintf(ret, size, "%s:%u", host, port);
}

bool evfs_addr_is_any(const char *address)
{
	char host[256], port[8];
	struct in6_addr in6;
	struct in_addr in;

	if (evfs_addr_split(address, host, port, NULL))
		return false;
	if (host[0] == '\0' || strcmp(host, "*") == 0)
		return true;
	if (inet_pton(AF_INET, host, &in) == 1)
		return in.s_addr == htonl(INADDR_ANY);
	return inet_pton(AF_INET6, host, &in6) == 1 &&
	       IN6_IS_ADDR_UNSPECIFIED(&in6);
}

/* ---- lookups ---- */

static void lookup_unref(struct evfs_lookup *lookup)
{
	if (atomic_fetch_sub(&lookup->refs, 1) > 1)
		return;
	if (lookup->list)
		freeaddrinfo(lookup->list);
	if (lookup->wake_fd >= 0)
		close(lookup->wake_fd);
	evfs_free(lookup);
}

static void lookup_run(struct evfs_lookup *lookup, int flags)
{
	const struct addrinfo hints = {
		.ai_family = AF_UNSPEC,
		.ai_socktype = SOCK_STREAM,
		.ai_flags = flags | AI_NUMERICSERV,
	};

	lookup->status = getaddrinfo(lookup->host, lookup->port, &hints,
				     &lookup->list);
	if (lookup->status)
		lookup->list = NULL;
}

static void *lookup_thread(void *arg)
{
	struct evfs_lookup *lookup = arg;
	const uint64_t one = 1;

	lookup_run(lookup, AI_ADDRCONFIG);
	atomic_store(&lookup->done, true);
	if (lookup->wake_fd >= 0 &&
	    write(lookup->wake_fd, &one, sizeof(one)) < 0) {
		/* Full: it is readable anyway. */
	}
	lookup_unref(lookup);
	return NULL;
}

static int lookup_spawn(struct evfs_lookup *lookup, int wake_fd,
			struct evfs_err *err)
{
	pthread_attr_t attr;
	pthread_t thread;
	int rc;

	lookup->wake_fd = dup(wake_fd);
	atomic_store(&lookup->refs, 2);
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	rc = pthread_create(&thread, &attr, lookup_thread, lookup);
	pthread_attr_destroy(&attr);
	if (rc) {
		atomic_store(&lookup->refs, 1);
		return evfs_err_sys(err, rc, "look up '%s'", lookup->host);
	}
	return 0;
}

int evfs_lookup_start(const char *address, int wake_fd,
		      struct evfs_lookup **ret, struct evfs_err *err)
{
	struct evfs_lookup *lookup = evfs_calloc(1, sizeof(*lookup));
	int rc;

	if (!lookup)
		return evfs_err_set(err, EVFS_ENOMEM, "%s",
				    evfs_err_text(EVFS_ENOMEM));
	atomic_init(&lookup->refs, 1);
	atomic_init(&lookup->done, false);
	lookup->wake_fd = -1;
	rc = evfs_addr_split(address, lookup->host, lookup->port, err);
	if (!rc && !lookup->host[0])
		rc = evfs_err_set(err, EVFS_EINVAL, "address '%s': no host",
				  address);
	if (rc) {
		lookup_unref(lookup);
		return rc;
	}
	lookup_run(lookup, AI_NUMERICHOST);
	if (lookup->status == 0) {
		atomic_store(&lookup->done, true);
	} else {
		rc = lookup_spawn(lookup, wake_fd, err);
		if (rc) {
			lookup_unref(lookup);
			return rc;
		}
	}
	*ret = lookup;
	return 0;
}

int evfs_lookup_result(struct evfs_lookup *lookup, struct addrinfo **ret,
		       struct evfs_err *err)
{
	if (!atomic_load(&lookup->done))
		return EVFS_EAGAIN;
	if (lookup->status)
		return evfs_err_set(err, EVFS_EUNREACHABLE,
				    "look up '%s': %s (check the name)",
				    lookup->host,
				    gai_strerror(lookup->status));
	*ret = lookup->list;
	return 0;
}

void evfs_lookup_free(struct evfs_lookup *lookup)
{
	if (lookup)
		lookup_unref(lookup);
}

/* ---- sockets ---- */

static void set_int(int fd, int level, int option, int value)
{
	/* Best effort: a socket without one of these still works. */
	(void)!setsockopt(fd, level, option, &value, sizeof(value));
}

void evfs_addr_tune_socket(int fd)
{
	set_int(fd, IPPROTO_TCP, TCP_NODELAY, 1);
	set_int(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
	set_int(fd, IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_IDLE_S);
	set_int(fd, IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S);
	set_int(fd, IPPROTO_TCP, TCP_KEEPCNT, KEEPALIVE_PROBES);
	set_int(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, UNANSWERED_MS);
	/* The send buffer may grow to what the path holds; what has not left
	 * yet stays small, so that control bytes pass bulk. */
	set_int(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, UNSENT_BYTES);
}

static int bind_one(const struct addrinfo *ai, int *ret_fd)
{
	int fd = socket(ai->ai_family,
			ai->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK,
			ai->ai_protocol);
	int sys;

	if (fd < 0)
		return errno;
	set_int(fd, SOL_SOCKET, SO_REUSEADDR, 1);
	if (ai->ai_family == AF_INET6)
		set_int(fd, IPPROTO_IPV6, IPV6_V6ONLY, 0);
	if (bind(fd, ai->ai_addr, ai->ai_addrlen) == 0 &&
	    listen(fd, 64) == 0) {
		*ret_fd = fd;
		return 0;
	}
	sys = errno;
	close(fd);
	return sys;
}

static const char *listen_advice(int sys)
{
	switch (sys) {
	case EADDRINUSE:
		return "choose another with --listen, or port 0 for any free "
		       "one";
	case EADDRNOTAVAIL:
		return "no interface here has it; --listen 0.0.0.0:PORT takes "
		       "all";
	case EACCES:
		return "ports below 1024 are root's; choose another with "
		       "--listen";
	default:
		return "choose another with --listen";
	}
}

int evfs_addr_listen(const char *address, int *ret_fd, struct evfs_err *err)
{
	const struct addrinfo hints = {
		.ai_family = AF_UNSPEC,
		.ai_socktype = SOCK_STREAM,
		.ai_flags = AI_PASSIVE | AI_NUMERICSERV,
	};
	struct addrinfo *list = NULL, *ai;
	char host[256], port[8];
	int sys = EADDRNOTAVAIL, rc;

	rc = evfs_addr_split(address, host, port, err);
	if (rc)
		return evfs_err_wrap(err, rc, "listen");
	rc = getaddrinfo(host[0] && strcmp(host, "*") != 0 ? host : NULL, port,
			 &hints, &list);
	if (rc)
		return evfs_err_set(err, EVFS_EINVAL,
				    "listen %s: %s (give an address of this "
				    "machine)", address, gai_strerror(rc));
	for (ai = list; ai; ai = ai->ai_next) {
		sys = bind_one(ai, ret_fd);
		if (sys == 0)
			break;
	}
	freeaddrinfo(list);
	if (sys) {
		rc = sys == EADDRINUSE ? EVFS_EBUSY
				       : evfs_err_sys(NULL, sys, "listen");
		rc = evfs_err_set(err, rc, "listen %s: %s (%s)", address,
				  strerror(sys), listen_advice(sys));
		if (err)
			err->sys = sys;
		return rc;
	}
	return 0;
}
