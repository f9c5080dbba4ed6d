/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The virtual network. A connection has, for each direction and channel, a
 * pipe: bytes wait in it, leave in pieces, arrive in order after a random
 * delay, and wait again at the other end while a partition or the receiver
 * holds them. A cut loses whatever has not arrived; each end hears of it at a
 * time of its own, as with TCP. */
#include "net/loop.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "net/loop_priv.h"

#define QUEUE_MAX (8u << 20) /* bytes that a pipe takes */
#define WALL_START 1700000000000000000ULL

/* ---- connections ---- */

static bool is_down(const struct evfs_loop *loop,
		    const struct evfs_loop_conn *conn)
{
	return loop->down[conn->ends[0].node][conn->ends[1].node];
}

static struct evfs_loop_conn *find(struct evfs_loop *loop, evfs_conn id,
				   unsigned node, unsigned *ret_end)
{
	struct evfs_loop_conn *conn;
	unsigned i;

	for (conn = loop->conns; conn != NULL; conn = conn->next)
		for (i = 0; i < 2; i++)
			if (conn->ends[i].id == id &&
			    conn->ends[i].node == node) {
				*ret_end = i;
				return conn;
			}
	return NULL;
}

static void free_conn(struct evfs_loop_conn *conn)
{
	int i, k;

	for (i = 0; i < 2; i++)
		for (k = 0; k < EVFS_CHANNELS; k++) {
			evfs_buf_fini(&conn->ends[i].out[k].queue);
			evfs_buf_fini(&conn->ends[i].out[k].stalled);
		}
	evfs_free(conn);
}

/* Frees connections that nobody can hear of any more. */
static void reap(struct evfs_loop *loop)
{
	struct evfs_loop_conn **at = &loop->conns;

	while (*at != NULL) {
		struct evfs_loop_conn *conn = *at;

		if (conn->refs > 0 || !conn->ends[0].closed ||
		    !conn->ends[1].closed) {
			at = &conn->next;
			continue;
		}
		*at = conn->next;
		free_conn(conn);
	}
}

static void tear(struct evfs_loop *loop, struct evfs_loop_conn *conn)
{
	unsigned i, k;

	if (conn->torn)
		return;
	conn->torn = true;
	for (i = 0; i < 2; i++) {
		for (k = 0; k < EVFS_CHANNELS; k++) {
			evfs_buf_clear(&conn->ends[i].out[k].queue);
			evfs_buf_clear(&conn->ends[i].out[k].stalled);
		}
		/* one end may notice much later than the other */
		if (!conn->ends[i].closed)
			(void)evfs_loop_post(
				loop, EVFS_LOOP_CLOSED,
				loop->now_ns +
					evfs_loop_delay(loop) *
						(1 + evfs_loop_below(loop, 20)),
				conn, i);
	}
}

static bool is_drained(const struct evfs_loop_end *end)
{
	int k;

	for (k = 0; k < EVFS_CHANNELS; k++)
		if (end->out[k].queue.len > 0 || end->out[k].flying > 0 ||
		    end->out[k].stalled.len > 0)
			return false;
	return true;
}

/* An end that has closed tells the other when all that it sent has arrived.
 */
static void finish(struct evfs_loop *loop, struct evfs_loop_conn *conn,
		   unsigned from)
{
	if (!conn->ends[from].closed || conn->torn || conn->finishing[from] ||
	    !is_drained(&conn->ends[from]))
		return;
	conn->finishing[from] = true;
	if (!conn->ends[!from].closed)
		(void)evfs_loop_post(loop, EVFS_LOOP_CLOSED,
				     loop->now_ns + evfs_loop_delay(loop), conn,
				     !from);
}

/* ---- what engines call ---- */

static evfs_conn node_dial(void *ctx, uint64_t node, const char *address,
			   const char *key)
{
	struct evfs_loop_node *self = ctx;
	struct evfs_loop *loop = self->loop;
	unsigned target = EVFS_LOOP_NODES_MAX;
	struct evfs_loop_conn *conn;

	(void)key;
	if (strncmp(address, "loop:", 5) == 0)
		target = (unsigned)strtoul(address + 5, NULL, 10);
	if (target >= loop->n_nodes)
		return 0;
	conn = evfs_calloc(1, sizeof(*conn));
	if (conn == NULL)
		return 0;
	conn->ends[0].node = self->index;
	conn->ends[0].id = ++loop->last_id;
	conn->ends[1].node = target;
	conn->dialled = node;
	conn->ends[1].id = ++loop->last_id;
	conn->ends[1].closed = true; /* until it has heard of it */
	conn->next = loop->conns;
	loop->conns = conn;
	(void)evfs_loop_post(loop, EVFS_LOOP_ACCEPT,
			     loop->now_ns + evfs_loop_delay(loop), conn, 0);
	return conn->ends[0].id;
}

static void pump(struct evfs_loop *loop, struct evfs_loop_conn *conn,
		 unsigned from, enum evfs_channel channel, uint64_t time_ns)
{
	struct evfs_loop_pipe *pipe = &conn->ends[from].out[channel];

	if (pipe->pumping || pipe->queue.len == 0 || conn->torn)
		return;
	pipe->pumping = true;
	evfs_loop_post(loop, EVFS_LOOP_PUMP, time_ns, conn, from)->channel =
		channel;
}

static bool node_send(void *ctx, evfs_conn id, enum evfs_channel channel,
		      const void *data, size_t len)
{
	struct evfs_loop_node *self = ctx;
	struct evfs_loop_pipe *pipe;
	struct evfs_loop_conn *conn;
	unsigned from;

	conn = find(self->loop, id, self->index, &from);
	if (self->engine == NULL)
		return true; /* power is off */
	assert(conn != NULL && !conn->ends[from].closed);
	if (conn->torn)
		return true; /* into the void */
	pipe = &conn->ends[from].out[channel];
	if (pipe->queue.len > 0 && pipe->queue.len + len > QUEUE_MAX) {
		pipe->full = true;
		return false;
	}
	if (evfs_buf_put(&pipe->queue, data, len) < 0)
		return false;
	pump(self->loop, conn, from, channel, self->loop->now_ns);
	return true;
}

static size_t node_queued(void *ctx, evfs_conn id, enum evfs_channel channel)
{
	struct evfs_loop_node *self = ctx;
	unsigned from;
	struct evfs_loop_conn *conn = find(self->loop, id, self->index, &from);

	if (self->engine == NULL)
		return 0;
	assert(conn != NULL);
	return conn->ends[from].out[channel].queue.len;
}

static void unstall(struct evfs_loop *loop, struct evfs_loop_conn *conn,
		    unsigned from, enum evfs_channel channel)
{
	if (conn->ends[from].out[channel].stalled.len > 0)
		evfs_loop_post(loop, EVFS_LOOP_UNSTALL, loop->now_ns, conn,
			       from)
			->channel = channel;
}

static void node_hold(void *ctx, evfs_conn id, enum evfs_channel channel,
		      bool on)
{
	struct evfs_loop_node *self = ctx;
	unsigned end;
	struct evfs_loop_conn *conn = find(self->loop, id, self->index, &end);

	if (self->engine == NULL)
		return;
	assert(conn != NULL);
	conn->ends[!end].out[channel].held = on;
	if (!on)
		unstall(self->loop, conn, !end, channel);
}

static void node_close(void *ctx, evfs_conn id)
{
	struct evfs_loop_node *self = ctx;
	unsigned end;
	struct evfs_loop_conn *conn = find(self->loop, id, self->index, &end);

	if (self->engine == NULL)
		return;
	assert(conn != NULL && !conn->ends[end].closed);
	conn->ends[end].closed = true;
	conn->ends[end].open = false;
	finish(self->loop, conn, end);
}

/* ---- clocks ---- */

static uint64_t node_mono(void *ctx)
{
	struct evfs_loop_node *self = ctx;

	/* started at different times: readings of two nodes do not compare */
	return self->loop->now_ns + (self->index + 1) * 1000000000ULL;
}

static uint64_t node_wall(void *ctx)
{
	struct evfs_loop_node *self = ctx;

	return WALL_START + self->loop->now_ns + (uint64_t)self->skew_ns;
}

static void node_random(void *ctx, void *data, size_t len)
{
	struct evfs_loop_node *self = ctx;
	uint8_t *at = data;

	for (; len > 0; len--)
		*at++ = (uint8_t)(evfs_loop_mix(&self->rng) >> 32);
}

/* ---- events ---- */

static void tick(struct evfs_loop_node *node)
{
	uint64_t offset = node_mono(node) - node->loop->now_ns;

	if (node->engine == NULL)
		return;
	node->tick_ns = evfs_engine_tick(node->engine) - offset;
	if (node->tick_ns <= node->loop->now_ns)
		node->tick_ns = node->loop->now_ns + 1000;
}

static void ev_accept(struct evfs_loop *loop, struct evfs_loop_conn *conn)
{
	struct evfs_loop_node *to = &loop->nodes[conn->ends[1].node];
	bool ok = to->engine != NULL && !is_down(loop, conn) &&
		  to->id == conn->dialled;

	if (conn->torn || conn->ends[0].closed)
		return;
	(void)evfs_loop_post(
		loop, ok ? EVFS_LOOP_OPENED : EVFS_LOOP_FAILED,
		loop->now_ns + evfs_loop_delay(loop) * (ok ? 1 : 10), conn, 0);
	if (!ok)
		return;
	conn->ends[1].closed = false;
	conn->ends[1].open = true;
	evfs_engine_opened(to->engine, conn->ends[1].id,
			   loop->nodes[conn->ends[0].node].id, false);
	tick(to);
}

static void ev_opened(struct evfs_loop *loop, struct evfs_loop_conn *conn)
{
	struct evfs_loop_node *to = &loop->nodes[conn->ends[0].node];
	int k;

	if (conn->torn || conn->ends[0].closed)
		return;
	conn->ends[0].open = true;
	evfs_engine_opened(to->engine, conn->ends[0].id,
			   loop->nodes[conn->ends[1].node].id, true);
	tick(to);
	for (k = 0; k < EVFS_CHANNELS; k++)
		unstall(loop, conn, 1, (enum evfs_channel)k);
}

static void ev_closed(struct evfs_loop *loop, struct evfs_loop_conn *conn,
		      unsigned end, const char *text)
{
	struct evfs_loop_node *to = &loop->nodes[conn->ends[end].node];
	struct evfs_err err = { 0 };

	if (conn->ends[end].closed)
		return;
	conn->ends[end].closed = true;
	conn->ends[end].open = false;
	if (to->engine == NULL)
		return;
	evfs_err_set(&err, EVFS_ECLOSED, "%s", text);
	evfs_engine_closed(to->engine, conn->ends[end].id, &err);
	tick(to);
}

static size_t piece_len(struct evfs_loop *loop, size_t len)
{
	static const size_t small[] = { 1, 7, 100, 1000, 20000, 300000 };
	size_t max = loop->options.shred ? small[evfs_loop_below(loop, 6)]
					 : 1u << 20;

	if (max > len)
		max = len;
	return loop->options.shred ? 1 + (size_t)evfs_loop_below(loop, max)
				   : max;
}

static void ev_pump(struct evfs_loop *loop, struct evfs_loop_conn *conn,
		    unsigned from, enum evfs_channel channel)
{
	struct evfs_loop_end *end = &conn->ends[from];
	struct evfs_loop_pipe *pipe = &end->out[channel];
	struct evfs_loop_event *event;
	uint64_t arrival, next_ns = loop->now_ns;
	size_t len;

	pipe->pumping = false;
	if (conn->torn || pipe->queue.len == 0)
		return;
	if (evfs_loop_below(loop, 1000000) < loop->options.cut_ppm) {
		tear(loop, conn);
		return;
	}
	len = piece_len(loop, pipe->queue.len);
	arrival = loop->now_ns + evfs_loop_delay(loop);
	if (arrival < pipe->last_ns)
		arrival = pipe->last_ns;
	pipe->last_ns = arrival;
	event = evfs_loop_post(loop, EVFS_LOOP_ARRIVE, arrival, conn, from);
	event->channel = channel;
	if (evfs_buf_put(&event->data, pipe->queue.data, len) < 0)
		abort();
	pipe->flying++;
	evfs_buf_consume(&pipe->queue, len);
	if (loop->options.bytes_per_second > 0)
		next_ns += len * 1000000000ULL / loop->options.bytes_per_second;
	pump(loop, conn, from, channel, next_ns);
	if (pipe->full && pipe->queue.len <= QUEUE_MAX / 2 && !end->closed &&
	    loop->nodes[end->node].engine != NULL) {
		pipe->full = false;
		evfs_engine_writable(loop->nodes[end->node].engine, end->id,
				     channel);
		tick(&loop->nodes[end->node]);
	}
}

/* What has arrived, if the receiver may have it. */
static void deliver(struct evfs_loop *loop, struct evfs_loop_conn *conn,
		    unsigned from, enum evfs_channel channel)
{
	struct evfs_loop_pipe *pipe = &conn->ends[from].out[channel];
	struct evfs_loop_end *end = &conn->ends[!from];
	struct evfs_loop_node *to = &loop->nodes[end->node];
	struct evfs_buf data;

	if (conn->torn)
		return;
	if (end->closed) {
		evfs_buf_clear(&pipe->stalled);
	} else if (!pipe->held && end->open && !is_down(loop, conn) &&
		   to->engine != NULL && pipe->stalled.len > 0) {
		data = pipe->stalled;
		pipe->stalled = (struct evfs_buf){ 0 };
		loop->bytes += data.len;
		evfs_engine_received(to->engine, end->id, channel, data.data,
				     data.len);
		evfs_buf_fini(&data);
		tick(to);
	}
	finish(loop, conn, from);
}

static void ev_arrive(struct evfs_loop *loop, struct evfs_loop_event *event)
{
	struct evfs_loop_pipe *pipe =
		&event->conn->ends[event->from].out[event->channel];

	pipe->flying--;
	if (event->conn->torn)
		return;
	if (evfs_buf_put(&pipe->stalled, event->data.data, event->data.len) < 0)
		abort();
	deliver(loop, event->conn, event->from, event->channel);
}

static void ev_durable(struct evfs_loop *loop,
		       const struct evfs_loop_event *event)
{
	struct evfs_loop_node *node = &loop->nodes[event->node];

	if (event->life != node->life)
		return;
	node->news = false;
	if (node->engine == NULL)
		return;
	evfs_engine_durable(node->engine);
	tick(node);
}

static void dispatch(struct evfs_loop *loop, struct evfs_loop_event *event)
{
	struct evfs_loop_conn *conn = event->conn;

	switch (event->kind) {
	case EVFS_LOOP_ACCEPT:
		ev_accept(loop, conn);
		break;
	case EVFS_LOOP_OPENED:
		ev_opened(loop, conn);
		break;
	case EVFS_LOOP_FAILED:
		ev_closed(loop, conn, 0, "connection refused");
		break;
	case EVFS_LOOP_PUMP:
		ev_pump(loop, conn, event->from, event->channel);
		break;
	case EVFS_LOOP_ARRIVE:
		ev_arrive(loop, event);
		break;
	case EVFS_LOOP_CLOSED:
		ev_closed(loop, conn, event->from, "connection reset");
		break;
	case EVFS_LOOP_UNSTALL:
		deliver(loop, conn, event->from, event->channel);
		break;
	case EVFS_LOOP_DURABLE:
		ev_durable(loop, event);
		break;
	case EVFS_LOOP_TASK:
		evfs_loop_task(loop, event);
		break;
	case EVFS_LOOP_CALL:
	default:
		event->call(event->arg);
		break;
	}
	evfs_buf_fini(&event->data);
	if (conn != NULL)
		conn->refs--;
	evfs_free(event);
}

/* ---- the outside ---- */

int evfs_loop_new(const struct evfs_loop_options *options,
		  struct evfs_loop **ret, struct evfs_err *err)
{
	struct evfs_loop *loop = evfs_calloc(1, sizeof(*loop));

	if (loop == NULL)
		return evfs_err_set(err, EVFS_ENOMEM, "loop: out of memory");
	loop->rng = options->seed;
	loop->options = *options;
	*ret = loop;
	return 0;
}

void evfs_loop_set_options(struct evfs_loop *loop,
			   const struct evfs_loop_options *options)
{
	loop->options = *options;
}

void evfs_loop_free(struct evfs_loop *loop)
{
	if (loop == NULL)
		return;
	while (loop->n_heap > 0) {
		struct evfs_loop_event *event = evfs_loop_pop(loop);

		evfs_buf_fini(&event->data);
		evfs_free(event);
	}
	while (loop->conns != NULL) {
		struct evfs_loop_conn *conn = loop->conns;

		loop->conns = conn->next;
		free_conn(conn);
	}
	evfs_free(loop->heap);
	evfs_free(loop);
}

unsigned evfs_loop_add(struct evfs_loop *loop, uint64_t id)
{
	struct evfs_loop_node *node = &loop->nodes[loop->n_nodes];

	assert(loop->n_nodes < EVFS_LOOP_NODES_MAX);
	node->loop = loop;
	node->index = loop->n_nodes;
	node->id = id;
	node->rng = evfs_loop_mix(&loop->rng);
	node->tick_ns = UINT64_MAX;
	node->env = (struct evfs_env){ .ctx = node,
				       .wall_ns = node_wall,
				       .mono_ns = node_mono,
				       .random = node_random };
	node->transport = (struct evfs_transport){ .ctx = node,
						   .dial = node_dial,
						   .send = node_send,
						   .queued = node_queued,
						   .hold = node_hold,
						   .close = node_close };
	return loop->n_nodes++;
}

const struct evfs_env *evfs_loop_env(struct evfs_loop *loop, unsigned i)
{
	return &loop->nodes[i].env;
}

void evfs_loop_set_id(struct evfs_loop *loop, unsigned i, uint64_t node)
{
	assert(loop->nodes[i].engine == NULL);
	loop->nodes[i].id = node;
}

void evfs_loop_set_skew(struct evfs_loop *loop, unsigned i, int64_t skew_ns)
{
	loop->nodes[i].skew_ns = skew_ns;
}

const struct evfs_transport *evfs_loop_transport(struct evfs_loop *loop,
						 unsigned i)
{
	return &loop->nodes[i].transport;
}

void evfs_loop_attach(struct evfs_loop *loop, unsigned i,
		      struct evfs_engine *engine)
{
	struct evfs_loop_node *node = &loop->nodes[i];
	struct evfs_loop_conn *conn;
	unsigned k;

	if (engine != NULL)
		evfs_engine_on_task(engine, evfs_loop_submit, node);
	else if (node->engine != NULL)
		evfs_loop_end_tasks(node);
	node->engine = engine;
	node->life++;
	node->news = false;
	node->tick_ns = engine != NULL ? loop->now_ns : UINT64_MAX;
	if (engine != NULL)
		return;
	for (conn = loop->conns; conn != NULL; conn = conn->next)
		for (k = 0; k < 2; k++)
			if (conn->ends[k].node == i) {
				conn->ends[k].closed = true;
				conn->ends[k].open = false;
				tear(loop, conn);
			}
}

void evfs_loop_link(struct evfs_loop *loop, unsigned a, unsigned b, bool on)
{
	struct evfs_loop_conn *conn;
	unsigned k, c;

	loop->down[a][b] = loop->down[b][a] = !on;
	for (conn = loop->conns; on && conn != NULL; conn = conn->next)
		for (k = 0; k < 2; k++)
			for (c = 0; c < EVFS_CHANNELS; c++)
				unstall(loop, conn, k, (enum evfs_channel)c);
}

void evfs_loop_cut(struct evfs_loop *loop, unsigned a, unsigned b)
{
	struct evfs_loop_conn *conn;

	for (conn = loop->conns; conn != NULL; conn = conn->next)
		if ((conn->ends[0].node == a && conn->ends[1].node == b) ||
		    (conn->ends[0].node == b && conn->ends[1].node == a))
			tear(loop, conn);
}

uint64_t evfs_loop_now(const struct evfs_loop *loop)
{
	return loop->now_ns;
}

uint64_t evfs_loop_bytes(const struct evfs_loop *loop)
{
	return loop->bytes;
}

void evfs_loop_durable(struct evfs_loop *loop, unsigned i)
{
	struct evfs_loop_node *node = &loop->nodes[i];
	struct evfs_loop_event *event;

	if (node->news || node->engine == NULL)
		return;
	node->news = true;
	event = evfs_loop_post(loop, EVFS_LOOP_DURABLE, loop->now_ns, NULL, 0);
	event->node = i;
	event->life = node->life;
}

void evfs_loop_poke(struct evfs_loop *loop, unsigned i)
{
	tick(&loop->nodes[i]);
}

int evfs_loop_at(struct evfs_loop *loop, uint64_t time_ns,
		 void (*call)(void *arg), void *arg)
{
	struct evfs_loop_event *event =
		evfs_loop_post(loop, EVFS_LOOP_CALL, time_ns, NULL, 0);

	event->call = call;
	event->arg = arg;
	return 0;
}

bool evfs_loop_step(struct evfs_loop *loop, uint64_t until_ns)
{
	struct evfs_loop_node *next = NULL;
	uint64_t at_ns = until_ns;
	unsigned i;

	for (i = 0; i < loop->n_nodes; i++)
		if (loop->nodes[i].tick_ns < at_ns) {
			at_ns = loop->nodes[i].tick_ns;
			next = &loop->nodes[i];
		}
	if (loop->n_heap > 0 && loop->heap[0]->time_ns <= at_ns &&
	    loop->heap[0]->time_ns < until_ns) {
		if (loop->heap[0]->time_ns > loop->now_ns)
			loop->now_ns = loop->heap[0]->time_ns;
		dispatch(loop, evfs_loop_pop(loop));
		reap(loop);
		return true;
	}
	if (at_ns > loop->now_ns)
		loop->now_ns = at_ns;
	if (next == NULL)
		return false;
	tick(next);
	return true;
}
