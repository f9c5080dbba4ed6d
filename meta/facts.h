/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The rows under the replicated state: objects by ino, the index of names, the
 * dotlog, and small derived values. Dumb storage: it decides nothing. Objects
 * are changed through evfs_index_put() (meta/index.h) only, which keeps what
 * is derived true.
 *
 * Implemented over SQLite in meta/db_facts.c, inside the open transaction of
 * the store; this header holds no SQL so that index, view and tree do not.
 * All functions are called with meta locked. Errors: EVFS_EIO, EVFS_ENOMEM,
 * EVFS_ENOSPACE, EVFS_ECORRUPT (a row that does not decode). */
#ifndef EVFS_META_FACTS_H
#define EVFS_META_FACTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/hash.h"
#include "meta/dot.h"
#include "meta/object.h"

struct evfs_facts; /* owned by struct evfs_meta */

/* ---- objects ---- */

/* Borrowed: valid until the object is put again or meta is unlocked (a cache
 * of decoded objects stands behind it). *ret = NULL where there is none. */
int evfs_facts_get(struct evfs_facts *facts, evfs_ino ino,
		   const struct evfs_object **ret, struct evfs_err *err)
	EVFS_MUST_USE;

/* The live hash of an object that was got from here or put here; remembered
 * with it. */
int evfs_facts_live_hash(struct evfs_facts *facts,
			 const struct evfs_object *object, evfs_hash *ret,
			 struct evfs_err *err) EVFS_MUST_USE;

/* Forgets decoded objects beyond the cache's bounds, as unlocking does: for
 * whoever walks over very many objects in one locked stretch, and borrows none
 * at this moment. */
void evfs_facts_trim(struct evfs_facts *facts);

/* Makes this the stored state. Its row and its dotlog rows (those that changed)
 * are written with the next commit, once for all changes until then. Takes
 * ownership of object, also on failure. EVFS_ELIMIT: beyond
 * EVFS_OBJECT_BYTES_MAX. For meta/index*.c. */
int evfs_facts_put_object(struct evfs_facts *facts,
			  struct evfs_object *object, struct evfs_err *err)
	EVFS_MUST_USE;

/* Writes objects that wait for the commit now: before SQL reads their rows on
 * this connection. All or nothing. Not between save and release once objects
 * were put there. */
int evfs_facts_flush_objects(struct evfs_facts *facts, struct evfs_err *err)
	EVFS_MUST_USE;

/* All objects, in ino order, for the reference view, dump and checks. The
 * callback borrows; a non-zero return stops and is returned. Not between save
 * and release with objects put there. */
int evfs_facts_each(struct evfs_facts *facts,
		    int (*each)(void *arg, const struct evfs_object *object),
		    void *arg, struct evfs_err *err) EVFS_MUST_USE;

/* ---- the index of names ----
 * One row for each live link of a file, symlink or special (alive links of
 * unsealed files of this replica included), and for the link of each *needed*
 * directory, under its place's parent and name. */

struct evfs_name_row {
	const uint8_t *name; /* borrowed for the duration of the callback */
	size_t name_len;
	evfs_ino ino;
	evfs_stamp link; /* link id within the object */
	enum evfs_kind kind;
	bool multi; /* a file with more than one version */
};

int evfs_facts_name_put(struct evfs_facts *facts, evfs_ino parent,
			const struct evfs_name_row *row,
			struct evfs_err *err) EVFS_MUST_USE;
int evfs_facts_name_remove(struct evfs_facts *facts, evfs_ino parent,
			   const struct evfs_name_row *row,
			   struct evfs_err *err) EVFS_MUST_USE;

/* Rows of one name, or of all names greater than `after` (memcmp order; NULL
 * = from the start), sorted by (name, ino, link); at most `max` rows
 * (0 = no limit). A non-zero return of the callback stops without error. The
 * callback may read facts, not write them. */
int evfs_facts_names_at(struct evfs_facts *facts, evfs_ino parent,
			const void *name, size_t name_len,
			int (*each)(void *arg,
				    const struct evfs_name_row *row),
			void *arg, struct evfs_err *err) EVFS_MUST_USE;
int evfs_facts_names_after(struct evfs_facts *facts, evfs_ino parent,
			   const void *after, size_t after_len, size_t max,
			   int (*each)(void *arg,
				       const struct evfs_name_row *row),
			   void *arg, struct evfs_err *err) EVFS_MUST_USE;

/* Only the rows of directories. */
int evfs_facts_subdirs(struct evfs_facts *facts, evfs_ino parent,
		       int (*each)(void *arg,
				   const struct evfs_name_row *row),
		       void *arg, struct evfs_err *err) EVFS_MUST_USE;

/* Their number (names, not rows), up to EVFS_SUBDIRS_MAX; that + 1: more. */
#define EVFS_SUBDIRS_MAX 1000
int evfs_facts_count_subdirs(struct evfs_facts *facts, evfs_ino parent,
			     int *ret, struct evfs_err *err) EVFS_MUST_USE;

/* ---- derived state of directories ---- */

/* Is the directory needed: alive, or above something that is (by place)? False
 * for objects that are not here. The root and lost+found are always needed. */
int evfs_facts_is_needed(struct evfs_facts *facts, evfs_ino dir, bool *ret,
			 struct evfs_err *err) EVFS_MUST_USE;
int evfs_facts_set_needed(struct evfs_facts *facts, evfs_ino dir, bool needed,
			  struct evfs_err *err) EVFS_MUST_USE;

/* Directories on cycles of place registers, and for those whose move is undone
 * where they are shown instead (shown_in NONE: on a cycle, not undone). Both
 * small, mostly empty. set with on_cycle false removes the row. */
struct evfs_cycle_row {
	evfs_ino dir;
	evfs_ino shown_in; /* EVFS_INO_NONE: as its place says */
};
int evfs_facts_cycles(struct evfs_facts *facts,
		      int (*each)(void *arg, const struct evfs_cycle_row *row),
		      void *arg, struct evfs_err *err) EVFS_MUST_USE;
int evfs_facts_set_cycle(struct evfs_facts *facts,
			 const struct evfs_cycle_row *row, bool on_cycle,
			 struct evfs_err *err) EVFS_MUST_USE;

/* Time (ns since 1970) of the last change of a directory's entries, 0 = none
 * known: what its mtime is where no newer utimens has set one. Local, derived.
 * raise: never goes back. */
int evfs_facts_dir_changed(struct evfs_facts *facts, evfs_ino dir,
			   uint64_t *ret_ns, struct evfs_err *err)
	EVFS_MUST_USE;
int evfs_facts_raise_dir_changed(struct evfs_facts *facts, evfs_ino dir,
				 uint64_t ns, struct evfs_err *err)
	EVFS_MUST_USE;

/* Counters kept with the transaction. */
enum evfs_counter {
	EVFS_COUNTER_DIR_DUPS,  /* pairs of needed directories with one parent
	                         * ino and one name */
	EVFS_COUNTER_ZOMBIES,   /* needed directories that are not alive */
	EVFS_COUNTER_CYCLES,    /* rows of the cycle table */
	EVFS_COUNTER_FILES,     /* live objects that are not directories */
	EVFS_COUNTER_DIRS,      /* needed directories */
	EVFS_COUNTER_VERSIONS,  /* versions of live files */
	EVFS_COUNTER_BYTES,     /* sum of sizes of the newest versions of them */
	EVFS_COUNTER_N
};
int64_t evfs_facts_counter(struct evfs_facts *facts, enum evfs_counter which);
void evfs_facts_counter_add(struct evfs_facts *facts, enum evfs_counter which,
			    int64_t delta);

/* Sum of the hashes of the live objects: root_hash. */
const evfs_hash *evfs_facts_root(struct evfs_facts *facts);
void evfs_facts_root_change(struct evfs_facts *facts, const evfs_hash *minus,
			    const evfs_hash *plus); /* NULL = nothing */

/* The same change in the Merkle tree (meta/merkle.h), at the place of the
 * object in this state; sign 1: its hash is added, -1: taken away. reset: the
 * tree is empty; all objects will be added again. */
int evfs_facts_merkle_change(struct evfs_facts *facts,
			     const struct evfs_object *object, int sign,
			     const evfs_hash *hash, struct evfs_err *err)
	EVFS_MUST_USE;
int evfs_facts_merkle_reset(struct evfs_facts *facts, struct evfs_err *err)
	EVFS_MUST_USE;

/* The set of conflicted names: (parent, name) with more than one thing to show
 * (several links, or a file with several versions). Rows are hints: the view
 * decides what is a conflict (equal contents are none). */
int evfs_facts_clash_set(struct evfs_facts *facts, evfs_ino parent,
			 const void *name, size_t name_len, bool on,
			 struct evfs_err *err) EVFS_MUST_USE;
int evfs_facts_clashes(struct evfs_facts *facts,
		       int (*each)(void *arg, evfs_ino parent,
				   const uint8_t *name, size_t name_len),
		       void *arg, struct evfs_err *err) EVFS_MUST_USE;

/* Files that were created on this replica and have no version yet: shown here
 * (they get name rows), and to nobody else. */
int evfs_facts_set_unsealed(struct evfs_facts *facts, evfs_ino ino, bool on,
			    struct evfs_err *err) EVFS_MUST_USE;
int evfs_facts_is_unsealed(struct evfs_facts *facts, evfs_ino ino, bool *ret,
			   struct evfs_err *err) EVFS_MUST_USE;
int evfs_facts_each_unsealed(struct evfs_facts *facts,
			     int (*each)(void *arg, evfs_ino ino), void *arg,
			     struct evfs_err *err) EVFS_MUST_USE;

/* Undo of a failed operation: after a rollback everything since save is as if
 * it had not been: rows, objects, counters, root. Does not nest. */
int evfs_facts_save(struct evfs_facts *facts, struct evfs_err *err)
	EVFS_MUST_USE;
int evfs_facts_release(struct evfs_facts *facts, struct evfs_err *err)
	EVFS_MUST_USE;
void evfs_facts_rollback(struct evfs_facts *facts);
/* Between save and release? */
bool evfs_facts_saved(const struct evfs_facts *facts);

#endif
