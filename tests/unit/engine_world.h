/* SPDX-License-Identifier: GPL-3.0-or-later */
/* For tests of the engine: a few replicas, each a real store in memory and a
 * real engine, over the virtual network. Node i is called 'A' + i. All
 * functions assert success. */
#ifndef EVFS_TESTS_UNIT_ENGINE_WORLD_H
#define EVFS_TESTS_UNIT_ENGINE_WORLD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "meta/feed.h"
#include "meta/meta.h"
#include "meta/quorum.h"
#include "meta/view.h"
#include "net/engine.h"
#include "net/loop.h"

#define MS ((uint64_t)1000000)
#define SECOND ((uint64_t)1000000000)
#define NODES 24

struct node {
	unsigned index;
	char name[2];
	char key[40];
	struct evfs_meta *meta;
	struct evfs_engine *engine;
	struct evfs_feed_listener listener;
	unsigned changes;
	struct evfs_answer answer; /* the last one; id 0 = none */
	uint64_t answered_ns;	   /* when it came */
};

extern struct evfs_loop *loop;
extern struct node nodes[NODES];

void must(int r, const struct evfs_err *err);

/* ---- fixtures ---- */

void setup_with(const struct evfs_loop_options *options);
void setup(void); /* delays up to 2 ms, no cuts */
void teardown(void);

/* ---- making and running nodes ---- */

/* A place in the network and a store of that volume; only the store, where the
 * place is there already. */
void open_node(unsigned i, uint8_t volume);
void open_store(unsigned i, uint8_t volume);
/* The node learns the record of node i. */
void know(struct node *node, unsigned i, bool address);
void commit(struct node *node);
void power_on(unsigned i); /* its engine */
void power_off(unsigned i);
void set(unsigned i, const char *name, const char *value); /* a setting */
void layers(unsigned i, unsigned on); /* EVFS_LAYER_... */
/* n nodes that know each other, not switched on. */
void make(unsigned n);
/* Virtual time passes; stores commit now and then. */
void run_ms(uint64_t ms);

/* ---- what they say ---- */

void status(unsigned i, struct evfs_engine_status *ret); /* free ret->peers */
/* What node i says of another. */
void peer(unsigned i, unsigned of, struct evfs_peer_status *ret);
bool is_connected(unsigned i, unsigned to);
bool converged(unsigned i);
/* The first n, as far as they are on. */
bool all_converged(unsigned n);
void wait_converged(unsigned n);

/* ---- files in the root ---- */

/* len bytes that the seed gives. */
void create(unsigned i, const char *name, size_t len, uint64_t seed);
/* A new version of it. */
void rewrite(unsigned i, const char *name, size_t len, uint64_t seed);
void unlink_file(unsigned i, const char *name);
bool lookup(unsigned i, const char *name, struct evfs_entry *ret);
bool exists(unsigned i, const char *name);
bool has_file(unsigned i, const char *name, size_t len, uint64_t seed);
void check_file(unsigned i, const char *name, size_t len, uint64_t seed);
evfs_ino ino_of(unsigned i, const char *name);

/* ---- questions to other replicas ---- */

/* Puts one, and tells its id; the answer comes into the node. */
uint64_t ask(unsigned i, enum evfs_question_kind kind, evfs_ino ino,
	     unsigned need, uint64_t timeout_ms);
/* Lets time pass until it is there; its code. */
int answer(unsigned i);

#endif
