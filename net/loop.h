/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A network in memory, under a virtual clock: engines in one process,
 * connected by byte streams that are delayed, cut into pieces, stalled by
 * partitions and torn, all by one seed. For tests and the simulation. Nothing
 * here reads a clock, starts a thread or does I/O: the same seed and the same
 * calls give the same run. */
#ifndef EVFS_NET_LOOP_H
#define EVFS_NET_LOOP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/env.h"
#include "base/err.h"
#include "net/engine.h"
#include "net/transport.h"

#define EVFS_LOOP_NODES_MAX 64

struct evfs_loop;

struct evfs_loop_options {
	uint64_t seed;
	uint64_t delay_min_ns, delay_max_ns; /* of each piece, one way */
	uint64_t bytes_per_second;	     /* of each stream; 0 = no limit */
	unsigned cut_ppm; /* pieces in a million that tear their connection */
	bool shred;	  /* small pieces: frames arrive in any division */
};

/* 0 or EVFS_ENOMEM. Starts at time 0 of the virtual monotonic clock. */
int evfs_loop_new(const struct evfs_loop_options *options,
		  struct evfs_loop **ret, struct evfs_err *err) EVFS_MUST_USE;
void evfs_loop_free(struct evfs_loop *loop); /* engines first */
void evfs_loop_set_options(struct evfs_loop *loop,
			   const struct evfs_loop_options *options);

/* A place for a node with this id; returns its number, from 0. Its address is
 * "loop:NUMBER". At most EVFS_LOOP_NODES_MAX. */
unsigned evfs_loop_add(struct evfs_loop *loop, uint64_t node);
/* From now on it is another node: it has taken another key. No engine is
 * attached. Who dials the node that it was is refused. */
void evfs_loop_set_id(struct evfs_loop *loop, unsigned i, uint64_t node);
/* Clocks and randomness of a node; skew: its wall clock against the others'.
 */
const struct evfs_env *evfs_loop_env(struct evfs_loop *loop, unsigned i);
void evfs_loop_set_skew(struct evfs_loop *loop, unsigned i, int64_t skew_ns);
const struct evfs_transport *evfs_loop_transport(struct evfs_loop *loop,
						 unsigned i);
/* The engine that runs there now; NULL, before it is freed: none (its
 * connections are torn, its tasks end, and nothing more is told to it). */
void evfs_loop_attach(struct evfs_loop *loop, unsigned i,
		      struct evfs_engine *engine);

/* A partition between two nodes (off): streams stall, dialling fails. */
void evfs_loop_link(struct evfs_loop *loop, unsigned a, unsigned b, bool on);
/* Tears the connections between them; what is under way is lost. */
void evfs_loop_cut(struct evfs_loop *loop, unsigned a, unsigned b);

uint64_t evfs_loop_now(const struct evfs_loop *loop); /* ns */
/* Calls evfs_engine_durable on that node soon. */
void evfs_loop_durable(struct evfs_loop *loop, unsigned i);
/* After a command was given to an engine directly: looks at its time again. */
void evfs_loop_poke(struct evfs_loop *loop, unsigned i);
/* Calls a function at a time. 0 or EVFS_ENOMEM. */
int evfs_loop_at(struct evfs_loop *loop, uint64_t time_ns,
		 void (*call)(void *arg), void *arg) EVFS_MUST_USE;

/* Does what comes next, if it comes before `until_ns`; else moves the clock
 * there and returns false. */
bool evfs_loop_step(struct evfs_loop *loop, uint64_t until_ns);

/* Bytes delivered since the start. */
uint64_t evfs_loop_bytes(const struct evfs_loop *loop);

#endif
