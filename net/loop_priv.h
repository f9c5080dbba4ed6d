/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The inside of the virtual network: what waits to happen (net/loop_queue.c),
 * and to whom (net/loop.c). */
#ifndef EVFS_NET_LOOP_PRIV_H
#define EVFS_NET_LOOP_PRIV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "net/loop.h"

struct evfs_loop_pipe {
	struct evfs_buf queue;	 /* not given to the network yet */
	struct evfs_buf stalled; /* arrived, and held */
	uint64_t last_ns;	 /* latest arrival so far */
	unsigned flying;	 /* pieces under way */
	bool pumping;		 /* a PUMP event is under way */
	bool full;		 /* a send was refused */
	bool held;		 /* by the receiver */
};

struct evfs_loop_end {
	unsigned node;
	evfs_conn id;
	bool open;   /* reported as opened, and not closed since */
	bool closed; /* its engine is done with it */
	struct evfs_loop_pipe out[EVFS_CHANNELS];
};

struct evfs_loop_conn {
	struct evfs_loop_conn *next;
	struct evfs_loop_end ends[2]; /* [0] has dialled */
	uint64_t dialled; /* whom; keys are pinned to ids */
	bool torn;
	bool finishing[2]; /* the end has closed; the other is to hear of it */
	unsigned refs;	   /* events under way */
};

enum evfs_loop_event_kind {
	EVFS_LOOP_ACCEPT,
	EVFS_LOOP_OPENED,
	EVFS_LOOP_FAILED,
	EVFS_LOOP_PUMP,
	EVFS_LOOP_ARRIVE,
	EVFS_LOOP_CLOSED,
	EVFS_LOOP_UNSTALL,
	EVFS_LOOP_DURABLE,
	EVFS_LOOP_TASK,
	EVFS_LOOP_CALL
};

struct evfs_loop_event {
	uint64_t time_ns;
	uint64_t seq; /* order of equal times */
	enum evfs_loop_event_kind kind;
	struct evfs_loop_conn *conn;
	unsigned from; /* end that sends, or hears */
	enum evfs_channel channel;
	unsigned node;
	uint64_t life;	      /* of the node's engine */
	struct evfs_buf data; /* ARRIVE */
	void (*call)(void *arg);
	void *arg;
};

struct evfs_loop_node {
	struct evfs_loop *loop;
	unsigned index;
	uint64_t id;
	struct evfs_engine *engine;
	uint64_t life; /* counts engines */
	uint64_t tick_ns;
	uint64_t rng;
	int64_t skew_ns;
	bool news; /* a DURABLE event is under way */
	struct evfs_task *tasks; /* of the engine, oldest first */
	struct evfs_env env;
	struct evfs_transport transport;
};

struct evfs_loop {
	struct evfs_loop_options options;
	uint64_t now_ns, seq, rng, bytes;
	evfs_conn last_id;
	struct evfs_loop_node nodes[EVFS_LOOP_NODES_MAX];
	unsigned n_nodes;
	bool down[EVFS_LOOP_NODES_MAX][EVFS_LOOP_NODES_MAX];
	struct evfs_loop_conn *conns;
	struct evfs_loop_event **heap; /* owned; a binary heap by (time, seq) */
	size_t n_heap, cap_heap;
};

/* Chance, by the loop's seed: the next number of a state; one below n (0 for
 * n = 0); a one-way delay. */
uint64_t evfs_loop_mix(uint64_t *state);
uint64_t evfs_loop_below(struct evfs_loop *loop, uint64_t n);
uint64_t evfs_loop_delay(struct evfs_loop *loop);

/* ---- net/loop_task.c ---- */

/* For the engine; ctx: the node. */
void evfs_loop_submit(void *ctx, struct evfs_task *task);
/* A TASK event. */
void evfs_loop_task(struct evfs_loop *loop,
		    const struct evfs_loop_event *event);
/* The engine goes: its tasks end now, and nothing follows from them. */
void evfs_loop_end_tasks(struct evfs_loop_node *node);

/* Adds an event, not before now; borrowed. Ends the program when out of
 * memory: a test has nothing left to say then. */
struct evfs_loop_event *
evfs_loop_post(struct evfs_loop *loop, enum evfs_loop_event_kind kind,
	       uint64_t time_ns, struct evfs_loop_conn *conn, unsigned from);
/* Takes the first (there is one); of the caller. */
struct evfs_loop_event *evfs_loop_pop(struct evfs_loop *loop);

#endif
