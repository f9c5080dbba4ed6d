/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Replicas for the tests of the SSH transport; see ssh_fake.h. */
#include "tests/unit/ssh_fake.h"

#include <arpa/inet.h>
#include <assert.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/mem.h"
#include "net/ssh.h"

#define PIECE ((size_t)256 << 10) /* of bulk, a send */
#define ENGINES 16
#define PATTERN (((size_t)1 << 20) + 7)

struct evfs_engine {
	struct evfs_meta *meta;
	const struct evfs_transport *transport;
	struct fake_conn conns[FAKE_CONNS];
	size_t n;
	unsigned members_changed, durables, urgents;
	pthread_mutex_t lock;   /* protects all of it */
	pthread_cond_t changed; /* something in it did */
};

static pthread_mutex_t table_lock = PTHREAD_MUTEX_INITIALIZER;
static struct evfs_engine *engines[ENGINES]; /* protected by table_lock */

uint64_t now_ns(void)
{
	const struct evfs_env *env = evfs_env_system();

	return env->mono_ns(env->ctx);
}

/* ---- the engine ---- */

/* The bytes of bulk: a table of a length that fits no packet, over and over. */
static uint8_t pattern[PATTERN];
static pthread_once_t pattern_once = PTHREAD_ONCE_INIT;

static void pattern_init(void)
{
	uint64_t word = 0x9e3779b97f4a7c15u;

	for (size_t i = 0; i < PATTERN; i++) {
		word ^= word << 13;
		word ^= word >> 7;
		word ^= word << 17;
		pattern[i] = (uint8_t)word;
	}
}

static size_t pattern_run(uint64_t at, size_t len)
{
	size_t left = PATTERN - (size_t)(at % PATTERN);

	return len < left ? len : left;
}

static void pattern_fill(uint64_t at, uint8_t *data, size_t len)
{
	while (len > 0) {
		size_t n = pattern_run(at, len);

		memcpy(data, pattern + at % PATTERN, n);
		at += n;
		data += n;
		len -= n;
	}
}

static bool pattern_matches(uint64_t at, const uint8_t *data, size_t len)
{
	while (len > 0) {
		size_t n = pattern_run(at, len);

		if (memcmp(data, pattern + at % PATTERN, n) != 0)
			return false;
		at += n;
		data += n;
		len -= n;
	}
	return true;
}

static struct fake_conn *find(struct evfs_engine *engine, evfs_conn id)
{
	for (size_t i = 0; i < engine->n; i++) {
		if (engine->conns[i].id == id)
			return &engine->conns[i];
	}
	return NULL;
}

static struct fake_conn *add(struct evfs_engine *engine, evfs_conn id)
{
	struct fake_conn *conn = find(engine, id);

	if (conn)
		return conn;
	assert(engine->n < FAKE_CONNS);
	conn = &engine->conns[engine->n++];
	memset(conn, 0, sizeof(*conn));
	conn->id = id;
	return conn;
}

int evfs_engine_new(struct evfs_meta *meta, const struct evfs_env *env,
		    const struct evfs_transport *transport,
		    struct evfs_engine **ret, struct evfs_err *err)
{
	struct evfs_engine *engine = calloc(1, sizeof(*engine));
	size_t i = 0;

	(void)env;
	(void)err;
	assert(engine);
	pthread_once(&pattern_once, pattern_init);
	engine->meta = meta;
	engine->transport = transport;
	pthread_mutex_init(&engine->lock, NULL);
	pthread_cond_init(&engine->changed, NULL);
	pthread_mutex_lock(&table_lock);
	while (engines[i])
		assert(++i < ENGINES);
	engines[i] = engine;
	pthread_mutex_unlock(&table_lock);
	*ret = engine;
	return 0;
}

void evfs_engine_free(struct evfs_engine *engine)
{
	pthread_mutex_lock(&table_lock);
	for (size_t i = 0; i < ENGINES; i++) {
		if (engines[i] == engine)
			engines[i] = NULL;
	}
	for (size_t i = 0; i < engine->n; i++) {
		if (engine->conns[i].open)
			engine->transport->close(engine->transport->ctx,
						 engine->conns[i].id);
		free(engine->conns[i].rtt_ns);
	}
	pthread_mutex_unlock(&table_lock);
	free(engine);
}

void evfs_engine_opened(struct evfs_engine *engine, evfs_conn id,
			uint64_t node, bool outgoing)
{
	struct fake_conn *conn;

	pthread_mutex_lock(&engine->lock);
	conn = add(engine, id);
	assert(!conn->open);
	conn->open = true;
	conn->node = node;
	conn->outgoing = outgoing;
	pthread_cond_broadcast(&engine->changed);
	pthread_mutex_unlock(&engine->lock);
}

void evfs_engine_closed(struct evfs_engine *engine, evfs_conn id,
			const struct evfs_err *why)
{
	struct fake_conn *conn;

	pthread_mutex_lock(&engine->lock);
	conn = add(engine, id);
	conn->open = false;
	conn->why = *why;
	assert(why->code != 0);
	pthread_cond_broadcast(&engine->changed);
	pthread_mutex_unlock(&engine->lock);
}

static void send_ping_locked(struct evfs_engine *engine,
			     struct fake_conn *conn)
{
	uint8_t ping[FAKE_PING] = { 'P' };

	if (conn->pings_to_do == 0)
		return;
	/* How much of bulk had left the queue when this was sent. */
	evfs_be64_write(ping + 8, conn->sent - engine->transport->queued(
						      engine->transport->ctx,
						      conn->id,
						      EVFS_CHANNEL_BULK));
	conn->pings_to_do--;
	conn->ping_sent_ns = now_ns();
	assert(engine->transport->send(engine->transport->ctx, conn->id,
					  EVFS_CHANNEL_CONTROL, ping,
					  sizeof(ping)));
}

static void take_ping_locked(struct evfs_engine *engine,
			     struct fake_conn *conn)
{
	if (conn->ping[0] == 'P') {
		uint64_t left = evfs_be64_read(conn->ping + 8);

		if (conn->received > left + conn->overtaken_by)
			conn->overtaken_by = conn->received - left;
		conn->ping[0] = 'R';
		assert(engine->transport->send(
			engine->transport->ctx, conn->id,
			EVFS_CHANNEL_CONTROL, conn->ping, FAKE_PING));
		return;
	}
	assert(conn->ping[0] == 'R');
	conn->rtt_ns = realloc(conn->rtt_ns,
			       (conn->pongs + 1) * sizeof(*conn->rtt_ns));
	assert(conn->rtt_ns);
	conn->rtt_ns[conn->pongs++] = now_ns() - conn->ping_sent_ns;
	send_ping_locked(engine, conn);
}

void evfs_engine_received(struct evfs_engine *engine, evfs_conn id,
			  enum evfs_channel channel, const void *data,
			  size_t len)
{
	const uint8_t *at = data;
	struct fake_conn *conn;

	pthread_mutex_lock(&engine->lock);
	conn = find(engine, id);
	assert(conn);
	assert(conn->open);
	if (channel == EVFS_CHANNEL_CONTROL) {
		for (size_t i = 0; i < len; i++) {
			conn->ping[conn->ping_len++] = at[i];
			if (conn->ping_len < FAKE_PING)
				continue;
			conn->ping_len = 0;
			take_ping_locked(engine, conn);
		}
	} else {
		conn->damaged |= !pattern_matches(conn->received, at, len);
		conn->received += len;
	}
	if (channel == EVFS_CHANNEL_CONTROL)
		pthread_cond_broadcast(&engine->changed);
	pthread_mutex_unlock(&engine->lock);
}

static void send_bulk_locked(struct evfs_engine *engine,
			     struct fake_conn *conn)
{
	uint8_t *piece = malloc(PIECE);

	assert(piece);
	while (conn->open && conn->sent < conn->to_send) {
		uint64_t left = conn->to_send - conn->sent;
		size_t n = left < PIECE ? (size_t)left : PIECE;

		pattern_fill(conn->sent, piece, n);
		if (!engine->transport->send(engine->transport->ctx, conn->id,
					     EVFS_CHANNEL_BULK, piece, n)) {
			conn->refusals++;
			break;
		}
		conn->sent += n;
	}
	free(piece);
}

void evfs_engine_writable(struct evfs_engine *engine, evfs_conn id,
			  enum evfs_channel channel)
{
	struct fake_conn *conn;

	pthread_mutex_lock(&engine->lock);
	conn = find(engine, id);
	assert(conn);
	assert(channel == EVFS_CHANNEL_BULK);
	conn->writables++;
	send_bulk_locked(engine, conn);
	pthread_mutex_unlock(&engine->lock);
}

void evfs_engine_durable(struct evfs_engine *engine)
{
	pthread_mutex_lock(&engine->lock);
	engine->durables++;
	pthread_cond_broadcast(&engine->changed);
	pthread_mutex_unlock(&engine->lock);
}

void evfs_engine_ask(struct evfs_engine *engine,
		     const struct evfs_question *question)
{
	(void)engine;
	(void)question;
}

void evfs_engine_set_layers(struct evfs_engine *engine, unsigned layers)
{
	(void)engine;
	(void)layers;
}

void evfs_engine_withdraw(struct evfs_engine *engine, uint64_t id)
{
	(void)engine;
	(void)id;
}

void evfs_engine_urgent(struct evfs_engine *engine, const evfs_hash *name,
			uint64_t size)
{
	(void)name;
	(void)size;
	pthread_mutex_lock(&engine->lock);
	engine->urgents++;
	pthread_cond_broadcast(&engine->changed);
	pthread_mutex_unlock(&engine->lock);
}

void evfs_engine_members_changed(struct evfs_engine *engine)
{
	pthread_mutex_lock(&engine->lock);
	engine->members_changed++;
	pthread_cond_broadcast(&engine->changed);
	pthread_mutex_unlock(&engine->lock);
}

/* This one has no tasks. */
void evfs_engine_on_task(struct evfs_engine *engine,
			 void (*submit)(void *ctx, struct evfs_task *task),
			 void *ctx)
{
	(void)engine;
	(void)submit;
	(void)ctx;
}

void evfs_engine_task_done(struct evfs_engine *engine, struct evfs_task *task)
{
	task->done(task, engine);
}

uint64_t evfs_engine_tick(struct evfs_engine *engine)
{
	(void)engine;
	return UINT64_MAX;
}

/* ---- replicas ---- */

/* Without Check, for programs that are no tests. */
static void must(int rc, const struct evfs_err *err)
{
	if (rc == 0)
		return;
	fprintf(stderr, "%s\n", err->msg);
	abort();
}

void replica_make(struct replica *replica, const char *name,
		  const char *volume)
{
	struct evfs_meta_new fresh = { .node_name = name };
	struct evfs_meta_options options = { .fresh = &fresh };
	struct evfs_err err = { 0 };

	memset(replica, 0, sizeof(*replica));
	snprintf(replica->dir, sizeof(replica->dir), "%s/evfs-ssh-XXXXXX",
		 getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
	assert(mkdtemp(replica->dir));
	snprintf(replica->key_path, sizeof(replica->key_path), "%s/key",
		 replica->dir);
	must(evfs_net_make_key(replica->key_path, replica->key,
					sizeof(replica->key), &err), &err);
	replica->node = evfs_node_of_key(replica->key);
	fresh.node = replica->node;
	fresh.public_key = replica->key;
	fresh.volume = evfs_hash_bytes(volume, strlen(volume));
	options.env = evfs_env_system();
	options.commit_delay_ms = 5;
	must(evfs_meta_open(&options, &replica->meta, &err), &err);
	replica->member.node = replica->node;
	replica->member.stamp_ns = 1;
	snprintf(replica->member.name, sizeof(replica->member.name), "%s",
		 name);
	snprintf(replica->member.key, sizeof(replica->member.key), "%s",
		 replica->key);
}

void replica_start(struct replica *replica,
		   const struct evfs_net_options *options)
{
	struct evfs_net_options copy = { .listen = "127.0.0.1:0" };
	struct evfs_err err = { 0 };

	if (options)
		copy = *options;
	copy.key_path = replica->key_path;
	must(evfs_net_start(replica->meta, &copy, &replica->net,
				     &err), &err);
	if (evfs_net_address(replica->net))
		snprintf(replica->member.address,
			 sizeof(replica->member.address), "%s",
			 evfs_net_address(replica->net));
}

void replica_stop(struct replica *replica)
{
	if (replica->net)
		evfs_net_stop(replica->net);
	replica->net = NULL;
}

void replica_free(struct replica *replica)
{
	replica_stop(replica);
	evfs_meta_close(replica->meta);
	unlink(replica->key_path);
	rmdir(replica->dir);
}

void replica_know(struct replica *replica, const struct replica *other)
{
	struct evfs_err err = { 0 };
	bool is_new;

	evfs_meta_lock(replica->meta);
	must(evfs_members_join(replica->meta, &other->member, &is_new,
					&err), &err);
	evfs_meta_unlock(replica->meta);
}

void replica_pair(struct replica *a, struct replica *b,
		  const struct evfs_net_options *options)
{
	replica_make(a, "alpha", "volume");
	replica_make(b, "beta", "volume");
	replica_start(a, options);
	replica_start(b, options);
	replica_know(a, b);
	replica_know(b, a);
}

static struct evfs_engine *engine_of(struct replica *replica)
{
	struct evfs_engine *engine = NULL;

	pthread_mutex_lock(&table_lock);
	for (size_t i = 0; i < ENGINES; i++) {
		if (engines[i] && engines[i]->meta == replica->meta)
			engine = engines[i];
	}
	pthread_mutex_unlock(&table_lock);
	assert(engine);
	return engine;
}

struct action {
	evfs_conn id;
	const char *address, *key;
	uint64_t node, n;
	bool on;
};

static void do_dial(void *arg, struct evfs_engine *engine)
{
	struct action *action = arg;

	action->id = engine->transport->dial(engine->transport->ctx,
					     action->node, action->address,
					     action->key);
	if (action->id == 0)
		return;
	pthread_mutex_lock(&engine->lock);
	add(engine, action->id)->outgoing = true;
	pthread_mutex_unlock(&engine->lock);
}

evfs_conn replica_dial(struct replica *from, const struct replica *to,
		       const char *address, const char *key)
{
	struct action action = {
		.node = to->node,
		.address = address ? address : to->member.address,
		.key = key ? key : to->key,
	};

	evfs_net_call(from->net, do_dial, &action);
	return action.id;
}

static void do_send(void *arg, struct evfs_engine *engine)
{
	struct action *action = arg;
	struct fake_conn *conn;

	pthread_mutex_lock(&engine->lock);
	conn = find(engine, action->id);
	conn->to_send += action->n;
	send_bulk_locked(engine, conn);
	pthread_mutex_unlock(&engine->lock);
}

void replica_send(struct replica *replica, evfs_conn id, uint64_t bytes)
{
	struct action action = { .id = id, .n = bytes };

	evfs_net_call(replica->net, do_send, &action);
}

static void do_ping(void *arg, struct evfs_engine *engine)
{
	struct action *action = arg;
	struct fake_conn *conn;

	pthread_mutex_lock(&engine->lock);
	conn = find(engine, action->id);
	conn->pings_to_do += action->n;
	send_ping_locked(engine, conn);
	pthread_mutex_unlock(&engine->lock);
}

void replica_ping(struct replica *replica, evfs_conn id, uint64_t n)
{
	struct action action = { .id = id, .n = n };

	evfs_net_call(replica->net, do_ping, &action);
}

static void do_hold(void *arg, struct evfs_engine *engine)
{
	struct action *action = arg;

	engine->transport->hold(engine->transport->ctx, action->id,
				EVFS_CHANNEL_BULK, action->on);
}

void replica_hold(struct replica *replica, evfs_conn id, bool on)
{
	struct action action = { .id = id, .on = on };

	evfs_net_call(replica->net, do_hold, &action);
}

static void do_close(void *arg, struct evfs_engine *engine)
{
	struct action *action = arg;

	engine->transport->close(engine->transport->ctx, action->id);
	pthread_mutex_lock(&engine->lock);
	find(engine, action->id)->open = false;
	pthread_mutex_unlock(&engine->lock);
}

void replica_close(struct replica *replica, evfs_conn id)
{
	struct action action = { .id = id };

	evfs_net_call(replica->net, do_close, &action);
}

static void do_queued(void *arg, struct evfs_engine *engine)
{
	struct action *action = arg;

	action->n = engine->transport->queued(engine->transport->ctx,
					      action->id, EVFS_CHANNEL_BULK);
}

size_t replica_queued(struct replica *replica, evfs_conn id)
{
	struct action action = { .id = id };

	evfs_net_call(replica->net, do_queued, &action);
	return (size_t)action.n;
}

/* ---- looking and waiting ---- */

struct fake_conn replica_conn(struct replica *replica, evfs_conn id)
{
	struct evfs_engine *engine = engine_of(replica);
	struct fake_conn *conn, copy = { 0 };

	pthread_mutex_lock(&engine->lock);
	conn = find(engine, id);
	if (conn)
		copy = *conn;
	pthread_mutex_unlock(&engine->lock);
	return copy;
}

static evfs_conn find_locked(struct evfs_engine *engine, bool outgoing,
			     unsigned *ret_n)
{
	evfs_conn id = 0;

	*ret_n = 0;
	for (size_t i = 0; i < engine->n; i++) {
		struct fake_conn *conn = &engine->conns[i];

		if (!conn->open || conn->outgoing != outgoing)
			continue;
		(*ret_n)++;
		id = conn->id;
	}
	return id;
}

evfs_conn replica_find(struct replica *replica, bool outgoing)
{
	struct evfs_engine *engine = engine_of(replica);
	unsigned n;
	evfs_conn id;

	pthread_mutex_lock(&engine->lock);
	id = find_locked(engine, outgoing, &n);
	pthread_mutex_unlock(&engine->lock);
	return id;
}

unsigned replica_count(struct replica *replica, bool outgoing)
{
	struct evfs_engine *engine = engine_of(replica);
	unsigned n;

	pthread_mutex_lock(&engine->lock);
	find_locked(engine, outgoing, &n);
	pthread_mutex_unlock(&engine->lock);
	return n;
}

static void deadline(unsigned ms, struct timespec *ret)
{
	clock_gettime(CLOCK_REALTIME, ret);
	ret->tv_sec += ms / 1000;
	ret->tv_nsec += (long)(ms % 1000) * 1000000;
	if (ret->tv_nsec >= 1000000000) {
		ret->tv_sec++;
		ret->tv_nsec -= 1000000000;
	}
}

bool replica_wait(struct replica *replica, evfs_conn id,
		  bool (*check)(const struct fake_conn *conn, uint64_t arg),
		  uint64_t arg, unsigned ms)
{
	struct evfs_engine *engine = engine_of(replica);
	uint64_t end = now_ns() + (uint64_t)ms * 1000000u;
	bool good = false;

	pthread_mutex_lock(&engine->lock);
	while (!good && now_ns() < end) {
		struct fake_conn *conn = find(engine, id);
		struct timespec until;

		good = conn && check(conn, arg);
		if (good)
			break;
		/* Bulk is not announced: that would cost more than it. */
		deadline(2, &until);
		pthread_cond_timedwait(&engine->changed, &engine->lock,
				       &until);
	}
	pthread_mutex_unlock(&engine->lock);
	return good;
}

evfs_conn replica_wait_incoming(struct replica *replica, unsigned n,
				unsigned ms)
{
	struct evfs_engine *engine = engine_of(replica);
	struct timespec until;
	evfs_conn id = 0;
	unsigned have;

	deadline(ms, &until);
	pthread_mutex_lock(&engine->lock);
	for (;;) {
		id = find_locked(engine, false, &have);
		if (have >= n ||
		    pthread_cond_timedwait(&engine->changed, &engine->lock, &until))
			break;
	}
	pthread_mutex_unlock(&engine->lock);
	return have >= n ? id : 0;
}

bool is_open(const struct fake_conn *conn, uint64_t arg)
{
	(void)arg;
	return conn->open;
}

bool is_closed(const struct fake_conn *conn, uint64_t arg)
{
	(void)arg;
	return conn->why.code != 0;
}

bool has_received(const struct fake_conn *conn, uint64_t bytes)
{
	return conn->received >= bytes;
}

bool has_pongs(const struct fake_conn *conn, uint64_t n)
{
	return conn->pongs >= n;
}

static unsigned counter(struct replica *replica, size_t offset)
{
	struct evfs_engine *engine = engine_of(replica);
	unsigned n;

	pthread_mutex_lock(&engine->lock);
	memcpy(&n, (const char *)engine + offset, sizeof(n));
	pthread_mutex_unlock(&engine->lock);
	return n;
}

unsigned replica_members_changed(struct replica *replica)
{
	return counter(replica,
		       offsetof(struct evfs_engine, members_changed));
}

unsigned replica_durables(struct replica *replica)
{
	return counter(replica, offsetof(struct evfs_engine, durables));
}

unsigned replica_urgents(struct replica *replica)
{
	return counter(replica, offsetof(struct evfs_engine, urgents));
}

/* ---- sockets ---- */

int replica_connect(const struct replica *replica)
{
	struct sockaddr_in addr = { .sin_family = AF_INET };
	char host[256], port[8];
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert(fd >= 0);
	assert(evfs_addr_split(replica->member.address, host, port, NULL) == 0);
	addr.sin_port = htons((uint16_t)atoi(port));
	addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert(connect(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0);
	return fd;
}

bool socket_ends(int fd, unsigned ms)
{
	uint64_t end = now_ns() + (uint64_t)ms * 1000000u;
	char scratch[4096];

	for (;;) {
		struct pollfd pfd = { fd, POLLIN, 0 };
		uint64_t now = now_ns();

		if (now >= end ||
		    poll(&pfd, 1, (int)((end - now) / 1000000u) + 1) <= 0)
			return false;
		if (recv(fd, scratch, sizeof(scratch), 0) <= 0)
			return true;
	}
}
