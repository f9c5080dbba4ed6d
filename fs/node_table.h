/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The table of what the kernel knows: one record of 56 bytes for each node.
 *
 * A kernel may know a million files of which it asks about none; so a record
 * has what identifies the node, and no more: the object, and of a file the link
 * and the version (struct evfs_handle_key), with actors as numbers. What is in
 * use has a full form beside it (struct evfs_node, fs/node.h), which the record
 * points to meanwhile.
 *
 * Records lie in chunks, so none is ever moved and nothing is allocated for one
 * alone; a chunk that is empty is freed. A node id is the record's place and
 * the number of nodes that were there before: it is found without a search, and
 * never used twice. By object there are chains, of places.
 *
 * Of a kernel older than 6.16, which must be told by name what to forget when
 * all is to be forgotten, it is remembered where each node was found (places).
 *
 * No locks: the caller's (fs/node.h). Pointers to records stay good until the
 * record is removed. */
#ifndef EVFS_FS_NODE_TABLE_H
#define EVFS_FS_NODE_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "meta/object.h"
#include "meta/tree.h"

struct evfs_node;
struct evfs_place_note;

#define EVFS_TABLE_CHUNK 4096u /* records */
#define EVFS_LOOKUPS_MAX ((UINT64_C(1) << 40) - 1)

enum evfs_node_type {
	EVFS_NODE_DIR,
	EVFS_NODE_FILE,
	EVFS_NODE_OTHER,  /* symlink, FIFO, socket, device */
	EVFS_NODE_VIRTUAL /* below /.evfs */
};

/* The fields without a word are the table's. */
struct evfs_node_rec {
	uint64_t lookups : 40; /* the kernel's references; the greatest number
	                        * means: too many, and never forgotten */
	uint64_t type : 2;        /* enum evfs_node_type; constant */
	uint64_t kind : 3;        /* enum evfs_kind; constant */
	uint64_t used : 1;
	uint64_t is_full : 1;     /* there is a full form */
	uint64_t has_base : 1;    /* of the key */
	uint64_t times_stale : 1; /* fs/node.h, while it has no full form */
	uint32_t generation;
	uint32_t next;            /* of one chain; of the free */
	uint32_t ino_actor, link_actor, base_actor;
	uint32_t checked_s;       /* as times_stale: the file's checked_ns */
	uint64_t ino_counter;
	uint64_t base_counter;
	union {
		uint64_t link_ns;
		struct evfs_node *full; /* is_full: the caller's */
	} as;
};

struct evfs_table_chunk {
	struct evfs_node_rec *recs; /* owned; NULL: none is used */
	struct evfs_place_note **notes; /* owned, each owned; NULL: none */
	uint32_t n_used;            /* records */
	uint32_t free;              /* place in the chunk, from 1; 0: none */
	uint32_t generation;        /* of the next records, once recs is NULL */
};

struct evfs_node_table {
	struct evfs_table_chunk *chunks; /* owned */
	size_t n_chunks, cap_chunks;
	size_t first_free;          /* no chunk below it has room */
	uint32_t *heads;            /* owned: chains by object */
	size_t mask;                /* of heads */
	size_t n;                   /* records */
	evfs_actor *actors;         /* owned: by number */
	size_t n_actors, cap_actors;
	uint32_t *actor_slots;      /* owned: numbers + 1, by hash */
	size_t actor_mask;          /* of them */
	size_t spare;               /* an empty chunk that is kept, from 1: who
	                             * comes and goes costs no more; 0: none */
	bool notes;                 /* places are remembered */
};

int evfs_table_init(struct evfs_node_table *table) EVFS_MUST_USE;
/* Frees all, but no full forms. */
void evfs_table_fini(struct evfs_node_table *table);

/* A new record, its place; 0: no memory. The first of a table has the place
 * and the id 1. Link and base of the key are for FILE and OTHER. */
uint32_t evfs_table_add(struct evfs_node_table *table,
			enum evfs_node_type type, enum evfs_kind kind,
			const struct evfs_handle_key *key);
void evfs_table_remove(struct evfs_node_table *table, uint32_t at);

/* The record at a place that is used. */
struct evfs_node_rec *evfs_table_at(const struct evfs_node_table *table,
				    uint32_t at);
uint64_t evfs_table_id(const struct evfs_node_table *table, uint32_t at);
/* The place of an id; 0: no such node any more. */
uint32_t evfs_table_find(const struct evfs_node_table *table, uint64_t id);
/* The places that are used, in order: the first after `at`; 0: none. */
uint32_t evfs_table_after(const struct evfs_node_table *table, uint32_t at);
/* The places of an object; 0: no more. */
uint32_t evfs_table_first(const struct evfs_node_table *table, evfs_ino ino);
uint32_t evfs_table_next(const struct evfs_node_table *table, uint32_t at);

/* The object alone, and all (not while there is a full form). */
evfs_ino evfs_table_ino(const struct evfs_node_table *table, uint32_t at);
void evfs_table_key(const struct evfs_node_table *table, uint32_t at,
		    struct evfs_handle_key *ret);
/* Gives a record another object; or a whole other key, which also ends its
 * being full. false: no memory, and nothing is changed. */
bool evfs_table_set_ino(struct evfs_node_table *table, uint32_t at,
			evfs_ino ino) EVFS_MUST_USE;
bool evfs_table_set_key(struct evfs_node_table *table, uint32_t at,
			const struct evfs_handle_key *key) EVFS_MUST_USE;

/* Adds to, or takes from, the references. take: true when none is left. */
void evfs_table_look(struct evfs_node_rec *rec);
bool evfs_table_take(struct evfs_node_rec *rec, uint64_t n);

/* Where the node was found: a directory's member and a name. Without memory the
 * old one stays. Nothing is done unless table->notes. */
void evfs_table_note(struct evfs_node_table *table, uint32_t at, evfs_ino dir,
		     const char *name, size_t len);
/* false: not known. name: EVFS_NAME_MAX + 1 bytes. */
bool evfs_table_noted(const struct evfs_node_table *table, uint32_t at,
		      evfs_ino *ret_dir, char *name);

#endif
