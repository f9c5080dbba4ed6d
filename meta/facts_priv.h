/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The inside of struct evfs_facts, for meta/db_*.c alone. */
#ifndef EVFS_META_FACTS_PRIV_H
#define EVFS_META_FACTS_PRIV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "meta/db.h"
#include "meta/db_actors.h"
#include "meta/facts.h"
#include "meta/idmap.h"
#include "meta/merkle_priv.h"
#include "meta/meta_priv.h"

/* Decoded objects kept; more only until meta is unlocked. */
#define EVFS_FACTS_CACHE_OBJECTS 16384u
#define EVFS_FACTS_CACHE_BYTES (32u << 20)
#define EVFS_FACTS_CACHE_DIRS 65536u
/* Names whose row is remembered; files of which it is known whether they are
 * unsealed. */
#define EVFS_FACTS_KNOWN_NAMES 8u
#define EVFS_FACTS_KNOWN_UNSEALED 8u
/* Objects that wait for a commit to be written; more are written before. */
#define EVFS_FACTS_DIRTY_OBJECTS 8192u
#define EVFS_FACTS_DIRTY_BYTES (16u << 20)

/* Counters beyond those of meta/facts.h, of the store itself. */
enum {
	EVFS_COUNTER_HISTORY_BYTES = EVFS_COUNTER_N,
	EVFS_COUNTER_ALL
};

/* A decoded object in the cache. Dirty: its row is not written yet. */
struct evfs_cached {
	struct evfs_idmap_node node;       /* first; id = key of the ino */
	struct evfs_object *object;        /* owned */
	size_t bytes;                      /* about what it takes */
	struct evfs_cached *newer, *older; /* in order of last use; of dirty
	                                    * ones, in the order they became so */
	bool dirty;
	bool hashed;
	evfs_hash live_hash;       /* of the object, if hashed */
	struct evfs_log_row *rows; /* owned; if dirty: its dotlog rows in the
	                            * database, sorted by actor */
	size_t n_rows;
};

/* Newest first. */
struct evfs_cached_list {
	struct evfs_cached *newest, *oldest;
	size_t n;
	size_t bytes; /* of them */
};

/* What is known of a directory's derived state. */
struct evfs_dir_state {
	struct evfs_idmap_node node; /* first; id = key of the ino */
	uint64_t changed_ns;         /* last change of its entries */
	bool needed;                 /* see facts.h */
	bool dirty;                  /* changed_ns is not in its row yet */
	struct evfs_dir_state *dirty_next, *dirty_prev;
	int subdirs;                 /* as evfs_facts_count_subdirs(); -1: not
	                              * counted */
};

/* What a rollback has to put back. */
struct evfs_undo {
	uint64_t id;             /* key of an object, or of a directory */
	bool is_dir;             /* the directory's state, else the object */
	struct evfs_cached *was; /* owned: the object; NULL: there was none */
	uint64_t changed_ns;     /* the directory's state */
	bool needed;
	bool dirty;
};

struct evfs_savepoint {
	bool open;                          /* between save and release */
	bool in_database;                   /* rows were written since */
	size_t n_actors;                    /* known then */
	size_t n_merkle;                    /* changes of the tree before it */
	int64_t counters[EVFS_COUNTER_ALL]; /* as they were */
	evfs_hash root;                    /* as it was */
};

/* What the index says of one name, where that is one row or none. One operation
 * asks for the same name several times (the kernel's lookup, the view's, the
 * index before and after a change). */
struct evfs_known_name {
	bool used;                   /* else nothing is known */
	bool found;                  /* there is a row */
	evfs_ino parent;             /* the directory */
	size_t name_len;             /* of name */
	uint8_t name[EVFS_NAME_MAX]; /* in it */
	struct evfs_name_row row;    /* its name points nowhere */
};

/* Is this file in the table of unsealed ones? Asked and told several times while
 * a file is made and sealed. */
struct evfs_known_unsealed {
	bool used;    /* else nothing is known */
	bool on;      /* it is */
	evfs_ino ino; /* the file */
};

struct evfs_facts {
	struct evfs_meta *meta; /* owner */
	struct evfs_actors actors;

	struct evfs_idmap objects;     /* of struct evfs_cached */
	struct evfs_cached_list clean; /* each is in one of these */
	struct evfs_cached_list dirty;
	struct evfs_cached *dead; /* out of the cache, freed at unlock; linked
	                           * by `older` */

	struct evfs_idmap dirs; /* of struct evfs_dir_state */
	struct evfs_dir_state *dirty_dirs; /* of them */

	int64_t counters[EVFS_COUNTER_ALL];
	evfs_hash root;     /* sum over the live objects */
	bool derived_dirty; /* counters or root are not in their rows yet */
	struct evfs_merkle merkle; /* what changed in the Merkle tree */

	struct evfs_known_name known[EVFS_FACTS_KNOWN_NAMES]; /* a ring */
	unsigned next_known; /* the one that is replaced next */
	struct evfs_known_unsealed unsealed[EVFS_FACTS_KNOWN_UNSEALED]; /* a
	                                                         * ring */
	unsigned next_unsealed; /* the one that is replaced next */

	struct evfs_savepoint save;
	struct evfs_undo *undo; /* owned; since save */
	size_t n_undo;
	size_t cap_undo;

	struct evfs_buf scratch; /* encoding of the object being written */
};

/* From the database, dropping what was cached. */
int evfs_facts_load(struct evfs_facts *facts, struct evfs_err *err)
	EVFS_MUST_USE;
/* Writes what is kept in memory into the open transaction. */
int evfs_facts_flush(struct evfs_facts *facts, struct evfs_err *err)
	EVFS_MUST_USE;

/* The key of a dot. 1: *ret; 0: nothing has this key (its actor is unknown),
 * only where create is false; negative: an error. */
int evfs_facts_key(struct evfs_facts *facts, evfs_dot dot, bool create,
		   int64_t *ret, struct evfs_err *err) EVFS_MUST_USE;
int evfs_facts_dot(struct evfs_facts *facts, int64_t key, evfs_dot *ret,
		   struct evfs_err *err) EVFS_MUST_USE;

/* Objects by a statement whose first column is their key: up to max of them,
 * their keys as well (NULL: not wanted). *ret_last: last column of the last row,
 * left alone where there is none. */
int evfs_facts_list(struct evfs_facts *facts, sqlite3_stmt *stmt,
		    evfs_ino *ret, int64_t *ret_keys, size_t max,
		    size_t *ret_n, int64_t *ret_last, struct evfs_err *err)
	EVFS_MUST_USE;

/* Notes for a rollback what was changed; room for one note first. Outside of
 * save and release there is nothing to note. Takes undo->was. */
int evfs_facts_reserve_undo(struct evfs_facts *facts, struct evfs_err *err)
	EVFS_MUST_USE;
void evfs_facts_note_undo(struct evfs_facts *facts,
			  const struct evfs_undo *undo);

/* meta/db_names.c: rows may be others than those that were read. */
void evfs_names_forget(struct evfs_facts *facts);
/* meta/db_sets.c: likewise. */
void evfs_unsealed_forget(struct evfs_facts *facts);

/* meta/db_dirs.c, for the above. */
void evfs_dirs_undo(struct evfs_facts *facts, const struct evfs_undo *undo);
void evfs_dirs_drop(struct evfs_facts *facts);
/* A row of a directory came to (or left) the directory of this key. */
void evfs_dirs_subdir_changed(struct evfs_facts *facts, uint64_t key,
			      bool added);
void evfs_dirs_trim(struct evfs_facts *facts);
/* Of a directory that is taken out: as if it had never been. */
int evfs_dirs_forget(struct evfs_facts *facts, uint64_t key,
		     struct evfs_err *err) EVFS_MUST_USE;
int evfs_dirs_flush(struct evfs_facts *facts, struct evfs_err *err)
	EVFS_MUST_USE;

/* meta/db_cache.c: the cache of objects. NULL: it is not in it. */
struct evfs_cached *evfs_cache_get(struct evfs_facts *facts, uint64_t id);
/* Adds an object as it stands in its row of so many bytes. Takes ownership,
 * also on failure. */
int evfs_cache_add(struct evfs_facts *facts, uint64_t id,
		   struct evfs_object *object, size_t row_len) EVFS_MUST_USE;
/* Puts a dirty object in the place of `was` (NULL: of none), which is the
 * caller's then. Takes ownership of the object, also on failure, which changes
 * nothing. bytes: about what it takes. */
int evfs_cache_replace(struct evfs_facts *facts, struct evfs_cached *was,
		       uint64_t id, struct evfs_object *object, size_t bytes)
	EVFS_MUST_USE;
/* Out of the cache: the caller's. NULL: it is not in it. */
struct evfs_cached *evfs_cache_take(struct evfs_facts *facts, uint64_t id);
/* Takes out what is there and puts `was` back (NULL: nothing). */
void evfs_cache_restore(struct evfs_facts *facts, uint64_t id,
			struct evfs_cached *was);
/* It is in its row. */
void evfs_cache_clean(struct evfs_facts *facts, struct evfs_cached *cached);
/* Frees at unlock one that is not in the cache any more; NULL is fine. */
void evfs_cache_bury(struct evfs_facts *facts, struct evfs_cached *cached);
/* Forgets all, dirty ones too. */
void evfs_cache_drop(struct evfs_facts *facts);

#endif
