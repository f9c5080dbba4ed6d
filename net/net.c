/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The network side of a daemon: its parts put together. What the engine wants
 * of a transport goes to net/ssh.c; what that reports goes to the engine, to
 * the member list, or to net/join.c. The thread is in net/net_loop.c. */
#include "net/net_priv.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/thread.h"
#include "net/join.h"

/* ---- transport for the engine ---- */

static evfs_conn transport_dial(void *ctx, uint64_t node, const char *address,
				const char *key)
{
	struct evfs_net *net = ctx;

	return evfs_ssh_dial(net->ssh, node, address, key);
}

static bool transport_send(void *ctx, evfs_conn conn,
			   enum evfs_channel channel, const void *data,
			   size_t len)
{
	struct evfs_net *net = ctx;

	return evfs_ssh_send(net->ssh, conn, channel, data, len);
}

static size_t transport_queued(void *ctx, evfs_conn conn,
			       enum evfs_channel channel)
{
	struct evfs_net *net = ctx;

	return evfs_ssh_queued(net->ssh, conn, channel);
}

static void transport_hold(void *ctx, evfs_conn conn,
			   enum evfs_channel channel, bool on)
{
	struct evfs_net *net = ctx;

	evfs_ssh_hold(net->ssh, conn, channel, on);
}

static void transport_close(void *ctx, evfs_conn conn)
{
	struct evfs_net *net = ctx;

	evfs_ssh_close(net->ssh, conn);
}

/* ---- events of the SSH transport ---- */

static uint64_t on_member_of_key(void *ctx, const char *key)
{
	struct evfs_net *net = ctx;
	uint64_t node = evfs_node_of_key(key);
	struct evfs_member member;
	int rc;

	if (node == evfs_meta_node(net->meta))
		return 0; /* ourselves, or a copy of us */
	evfs_meta_lock(net->meta);
	rc = evfs_members_by_node(net->meta, node, &member, NULL);
	evfs_meta_unlock(net->meta);
	if (rc || member.removed || strcmp(member.key, key) != 0)
		return 0;
	return node;
}

static void on_name_of(void *ctx, uint64_t node, char *name, size_t size)
{
	struct evfs_net *net = ctx;
	struct evfs_member member;

	evfs_meta_lock(net->meta);
	if (evfs_members_by_node(net->meta, node, &member, NULL))
		snprintf(name, size, "%016llx", (unsigned long long)node);
	else
		snprintf(name, size, "%s", member.name);
	evfs_meta_unlock(net->meta);
}

static bool on_is_invited(void *ctx, const char *secret)
{
	struct evfs_net *net = ctx;
	int rc;

	evfs_meta_lock(net->meta);
	rc = evfs_invite_check(net->meta, secret, NULL);
	evfs_meta_unlock(net->meta);
	return rc == 0;
}

static void on_opened(void *ctx, evfs_conn conn, uint64_t node, bool outgoing)
{
	struct evfs_net *net = ctx;

	evfs_engine_opened(net->engine, conn, node, outgoing);
}

static void on_received(void *ctx, evfs_conn conn, enum evfs_channel channel,
			const void *data, size_t len)
{
	struct evfs_net *net = ctx;

	evfs_engine_received(net->engine, conn, channel, data, len);
}

static void on_writable(void *ctx, evfs_conn conn, enum evfs_channel channel)
{
	struct evfs_net *net = ctx;

	evfs_engine_writable(net->engine, conn, channel);
}

static void on_closed(void *ctx, evfs_conn conn, const struct evfs_err *why)
{
	struct evfs_net *net = ctx;

	evfs_engine_closed(net->engine, conn, why);
}

/* Waits for a commit and its sync: the one thing on this thread that may take
 * a few milliseconds, and it takes an invitation to ask for it. */
static void on_frame(void *ctx, evfs_conn conn, const char *secret,
		     const char *source, const void *data, size_t len)
{
	struct evfs_net *net = ctx;
	struct evfs_buf reply = { 0 };
	bool added = evfs_join_answer(net->meta, secret, source, data, len,
				      &reply);

	evfs_log(EVFS_LOG_INFO, "join: source=%s added=%s", source,
		 added ? "yes" : "no");
	if (reply.len > 0)
		/* An empty queue takes it. */
		(void)evfs_ssh_send(net->ssh, conn, EVFS_CHANNEL_CONTROL,
				    reply.data, reply.len);
	evfs_buf_fini(&reply);
	evfs_ssh_close(net->ssh, conn);
	if (added)
		evfs_engine_members_changed(net->engine);
}

static void submit_task(void *ctx, struct evfs_task *task)
{
	struct evfs_net *net = ctx;

	evfs_background_submit(net->background, task);
}

static void on_task_over(void *ctx)
{
	evfs_net_wake(ctx);
}

/* ---- life ---- */

static void net_free(struct evfs_net *net)
{
	if (net->engine)
		evfs_engine_free(net->engine);
	evfs_background_free(net->background);
	evfs_ssh_free(net->ssh);
	if (net->wake_fd >= 0)
		close(net->wake_fd);
	pthread_cond_destroy(&net->called);
	pthread_mutex_destroy(&net->lock);
	evfs_free(net->watches);
	evfs_free(net->urgents);
	evfs_free(net->questions);
	evfs_free(net->fds);
	evfs_free(net->serials);
	evfs_free(net);
}

static void fill_tables(struct evfs_net *net)
{
	net->events = (struct evfs_ssh_events){
		.ctx = net,
		.member_of_key = on_member_of_key,
		.name_of = on_name_of,
		.is_invited = on_is_invited,
		.opened = on_opened,
		.received = on_received,
		.writable = on_writable,
		.closed = on_closed,
		.frame = on_frame,
	};
	net->transport = (struct evfs_transport){
		.ctx = net,
		.dial = transport_dial,
		.send = transport_send,
		.queued = transport_queued,
		.hold = transport_hold,
		.close = transport_close,
	};
	net->listener = (struct evfs_feed_listener){
		.ctx = net,
		.durable = evfs_net_on_durable,
	};
	net->content_watch = (struct evfs_content_watch){
		.ctx = net,
		.urgent = evfs_net_on_urgent,
	};
	net->quorum_watch = (struct evfs_quorum_watch){
		.ctx = net,
		.asked = evfs_net_on_asked,
		.withdrawn = evfs_net_on_withdrawn,
	};
}

/* For tests, which show that one layer alone brings replicas together: those
 * that are named stay on. */
static unsigned layers_of(const char *names)
{
	static const struct {
		const char *name;
		unsigned layer;
	} rows[] = { { "push", EVFS_LAYER_PUSH },
		     { "hints", EVFS_LAYER_HINTS },
		     { "pull", EVFS_LAYER_PULL },
		     { "read_repair", EVFS_LAYER_READ_REPAIR } };
	unsigned layers = 0;

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++)
		if (strstr(names, rows[i].name))
			layers |= rows[i].layer;
	evfs_log(EVFS_LOG_WARN, "layers of convergence: only %s", names);
	return layers;
}

static int open_parts(struct evfs_net *net,
		      const struct evfs_net_options *options,
		      struct evfs_err *err)
{
	struct evfs_ssh_options ssh = {
		.key_path = options->key_path,
		.env = net->env,
		.handshake_ms = options->handshake_ms,
		.rekey_bytes = options->rekey_bytes,
	};
	int rc;

	net->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (net->wake_fd < 0)
		return evfs_err_sys(err, errno, "eventfd");
	ssh.wake_fd = net->wake_fd;
	rc = evfs_ssh_new(&ssh, &net->events, &net->ssh, err);
	if (!rc && options->listen)
		rc = evfs_ssh_listen(net->ssh, options->listen, err);
	if (!rc)
		rc = evfs_engine_new(net->meta, net->env, &net->transport,
				     &net->engine, err);
	if (!rc)
		rc = evfs_background_start(on_task_over, net,
					   &net->background, err);
	if (!rc)
		evfs_engine_on_task(net->engine, submit_task, net);
	if (!rc && getenv("EVFS_LAYERS"))
		evfs_engine_set_layers(net->engine,
				       layers_of(getenv("EVFS_LAYERS")));
	return rc;
}

int evfs_net_start(struct evfs_meta *meta,
		   const struct evfs_net_options *options,
		   struct evfs_net **ret, struct evfs_err *err)
{
	struct evfs_net *net = evfs_calloc(1, sizeof(*net));
	int rc;

	if (!net)
		return evfs_err_set(err, EVFS_ENOMEM, "%s",
				    evfs_err_text(EVFS_ENOMEM));
	net->meta = meta;
	net->env = evfs_meta_env(meta);
	net->wake_fd = -1;
	pthread_mutex_init(&net->lock, NULL);
	pthread_cond_init(&net->called, NULL);
	fill_tables(net);
	rc = open_parts(net, options, err);
	if (rc) {
		net_free(net);
		return rc;
	}
	evfs_feed_add(meta, &net->listener);
	evfs_content_set_watch(evfs_meta_content(meta), EVFS_CONTENT_WATCH_NET,
			       &net->content_watch);
	evfs_quorum_set_watch(meta, EVFS_QUORUM_WATCH_NET, &net->quorum_watch);
	rc = evfs_thread_start(&net->thread, evfs_net_run, net,
			       "network thread", err);
	if (rc) {
		evfs_quorum_set_watch(meta, EVFS_QUORUM_WATCH_NET, NULL);
		evfs_content_set_watch(evfs_meta_content(meta),
				       EVFS_CONTENT_WATCH_NET, NULL);
		evfs_feed_remove(meta, &net->listener);
		net_free(net);
		return rc;
	}
	*ret = net;
	return 0;
}

void evfs_net_stop(struct evfs_net *net)
{
	evfs_quorum_set_watch(net->meta, EVFS_QUORUM_WATCH_NET, NULL);
	evfs_content_set_watch(evfs_meta_content(net->meta),
			       EVFS_CONTENT_WATCH_NET, NULL);
	evfs_feed_remove(net->meta, &net->listener);
	pthread_mutex_lock(&net->lock);
	net->stop = true;
	pthread_mutex_unlock(&net->lock);
	evfs_net_wake(net);
	pthread_join(net->thread, NULL);
	net_free(net);
}

const char *evfs_net_address(const struct evfs_net *net)
{
	return evfs_ssh_address(net->ssh);
}

const char *evfs_net_fingerprint(const struct evfs_net *net)
{
	return evfs_ssh_fingerprint(net->ssh);
}
