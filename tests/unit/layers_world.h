/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A small world for tests of the engine: stores in memory over the virtual
 * network, and files in their roots. */
#ifndef EVFS_TESTS_UNIT_LAYERS_WORLD_H
#define EVFS_TESTS_UNIT_LAYERS_WORLD_H

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
#define NODES 5

struct node {
	unsigned index;
	char name[2];
	char key[40];
	struct evfs_meta *meta;
	struct evfs_engine *engine; /* NULL: switched off */
	struct evfs_feed_listener listener;
	struct evfs_answer answer; /* the last one; id 0 = none */
	uint64_t answered_ns;	   /* when it came */
};

extern struct evfs_loop *loop;
extern struct node nodes[NODES];

/* Checked fixtures: an empty network; everything gone. */
void world_setup(void);
void world_teardown(void);

void must(int r, const struct evfs_err *err);
/* n nodes that know each other, not switched on. */
void make(unsigned n);
void power_on(unsigned i);
void power_off(unsigned i);
void set(unsigned i, const char *name, const char *value);
void layers(unsigned i, unsigned on);
/* Time passes; what was done is committed every few ms. */
void run_ms(uint64_t ms);
void commit(struct node *node);

void status(unsigned i, struct evfs_engine_status *ret);
void peer(unsigned i, unsigned of, struct evfs_peer_status *ret);
void wait_converged(unsigned n);

void create(unsigned i, const char *name, size_t len, uint64_t seed);
/* A new version of it. */
void rewrite(unsigned i, const char *name, size_t len, uint64_t seed);
bool lookup(unsigned i, const char *name, struct evfs_entry *ret);
bool exists(unsigned i, const char *name);
bool has_file(unsigned i, const char *name, size_t len, uint64_t seed);
evfs_ino ino_of(unsigned i, const char *name);

/* Puts a question, and tells its id; the answer comes into the node. */
uint64_t ask(unsigned i, enum evfs_question_kind kind, evfs_ino ino,
	     unsigned need, uint64_t timeout_ms);
/* Lets time pass until it is there; its code. */
int answer(unsigned i);

#endif
