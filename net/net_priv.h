/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The inside of struct evfs_net, for net/net.c (life, tables for the engine and
 * the transport) and net/net_loop.c (the thread) alone. */
#ifndef EVFS_NET_NET_PRIV_H
#define EVFS_NET_NET_PRIV_H

#include <poll.h>
#include <pthread.h>

#include "meta/content.h"
#include "meta/feed.h"
#include "net/background.h"
#include "net/net.h"
#include "net/ssh.h"

struct evfs_net_call {
	void (*run)(void *arg, struct evfs_engine *engine);
	void *arg;
	bool done;          /* protected by the net's lock */
	struct evfs_net_call *next;
};

struct evfs_net_watch {
	uint64_t serial;    /* names it, also when the fd is reused */
	int fd;
	short events;
	void (*ready)(void *ctx, struct evfs_engine *engine, short revents);
	void *ctx;
};

struct evfs_net_urgent {
	evfs_hash name;
	uint64_t size;
};

struct evfs_net_question {
	struct evfs_question question;
	bool withdrawn;     /* it is not wanted any more; only the id counts */
};

struct evfs_net {
	struct evfs_meta *meta;      /* borrowed */
	const struct evfs_env *env;  /* borrowed from meta */
	struct evfs_engine *engine;  /* owned; network thread */
	struct evfs_background *background; /* owned; its tasks */
	struct evfs_ssh *ssh;        /* owned; network thread */
	struct evfs_ssh_events events;
	struct evfs_transport transport;
	struct evfs_feed_listener listener;
	struct evfs_content_watch content_watch;
	struct evfs_quorum_watch quorum_watch;
	int wake_fd;                 /* eventfd */
	pthread_t thread;
	void (*round)(void *ctx, struct evfs_engine *engine);
	void *round_ctx;             /* both protected by lock */

	pthread_mutex_t lock;        /* protects what follows */
	pthread_cond_t called;       /* some call is done */
	bool stop;
	bool durable;                /* news for the engine */
	struct evfs_net_call *calls; /* oldest first; owned by their callers */
	struct evfs_net_watch *watches;       /* owned array */
	size_t n_watches, cap_watches;
	uint64_t last_serial;
	struct evfs_net_urgent *urgents;      /* owned array */
	size_t n_urgents, cap_urgents;
	struct evfs_net_question *questions;  /* owned array */
	size_t n_questions, cap_questions;

	struct pollfd *fds;          /* network thread; owned */
	uint64_t *serials;           /* of the watches in fds; owned */
	size_t cap_fds;
	uint64_t tick_ns;            /* when the engine wants its next tick */
};

/* ---- net_loop.c ---- */

/* Makes the thread run a round. Any thread. */
void evfs_net_wake(struct evfs_net *net);
/* The thread; arg: the net. */
void *evfs_net_run(void *arg);
/* Listeners of the store; any thread. */
void evfs_net_on_durable(void *ctx);
void evfs_net_on_urgent(void *ctx, const evfs_hash *name, uint64_t size);
void evfs_net_on_asked(void *ctx, const struct evfs_question *question);
void evfs_net_on_withdrawn(void *ctx, uint64_t id);

#endif
