/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The inside of the content store, for meta/content*.c, meta/manifest.c and
 * meta/db_content.c alone.
 *
 * What the tables say (invariants, held by each locked stretch):
 *  C1 A chunk that is here has a row, which says where. A damaged one keeps its
 *     row (its bytes stay where they are) but counts as not here.
 *  C2 Content of one chunk that is here has no row but the chunk's, which then
 *     has the references. All other content that anybody refers to has a row.
 *  C3 chunk.uses = the number of content rows X with a manifest that names the
 *     chunk while the manifest of X's base does not. So a new version of a big
 *     file touches the rows of the chunks that differ, not all; and a chunk
 *     that any content row needs has uses > 0 (follow the bases). The zero
 *     chunk is never counted.
 *  C4 A chunk without a row has no uses; they are the content_lack rows that
 *     wait for it, and counted when it arrives.
 *  C5 content.lacking = the number of content_lack rows that name it; 0 with a
 *     manifest means whole. content.children = rows that have it as base.
 *
 * Locks: meta, then content->mutex, then those of the containers. */
#ifndef EVFS_META_CONTENT_PRIV_H
#define EVFS_META_CONTENT_PRIV_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "meta/content.h"
#include "meta/meta_priv.h"
#include "meta/segment.h"

/* ---- meta/content_map.c: hash -> number ---- */

struct evfs_hashmap {
	struct evfs_hashmap_slot *slots; /* owned; a power of two of them */
	size_t cap;                      /* how many */
	size_t n;                        /* in use */
};

/* {0} is a valid empty map. The pointer is valid until the next change. */
uint64_t *evfs_hashmap_get(const struct evfs_hashmap *map,
			   const evfs_hash *key);
/* The value of a key, added as 0 where it is new; NULL: no memory. */
uint64_t *evfs_hashmap_put(struct evfs_hashmap *map, const evfs_hash *key);
void evfs_hashmap_remove(struct evfs_hashmap *map, const evfs_hash *key);
void evfs_hashmap_fini(struct evfs_hashmap *map);

/* ---- meta/manifest.c ---- */

/* The chunk of EVFS_CHUNK_MAX zero bytes. It is never stored. */
const evfs_hash *evfs_content_zero_chunk(void);
bool evfs_content_is_zero_chunk(const evfs_hash *chunk);
/* Bytes in zero chunks. */
uint64_t evfs_manifest_holes(const struct evfs_manifest *manifest);
void evfs_manifest_entry_read(const uint8_t *at,
			      struct evfs_manifest_entry *ret);
/* Appends, joining runs of the zero chunk. */
int evfs_manifest_add(struct evfs_manifest *manifest, size_t *cap,
		      const evfs_hash *chunk, uint32_t len, uint32_t repeat)
	EVFS_MUST_USE;

/* ---- the store ---- */

struct evfs_idle {
	evfs_hash *names; /* owned; chunks and contents that may be garbage */
	size_t n, cap;    /* of names */
	size_t settled;   /* the first so many went through a commit since */
	bool rescan;      /* too many to remember: look at all rows */
	bool scanning;    /* that scan goes on */
	evfs_hash scan_chunk;  /* behind this chunk */
	int64_t scan_content;  /* and behind this content row */
};

struct evfs_content {
	struct evfs_meta *meta;             /* its owner */
	struct evfs_containers *containers; /* owned; has its own lock */
	bool in_memory;                     /* constant */

	/* Meta lock: */
	uint64_t next_queue;     /* number for the next wanted content */
	evfs_hash fresh[64];     /* committed, nobody refers to it yet */
	size_t n_fresh;          /* how many of them */
	struct evfs_idle idle;   /* for reclamation */
	evfs_hash lacks_name;    /* content that lacks_manifest is of */
	struct evfs_buf lacks_manifest; /* owned; the last one asked for */
	size_t lacks_from;       /* entries before it are here */
	bool arrived;            /* tell the watches at the next chance */

	/* One reclamation at a time; before the meta lock: */
	pthread_mutex_t reclaim_lock;
	uint64_t compact_id;     /* container being emptied; 0 = none */
	uint64_t compact_at;     /* how far */
	bool no_punch;           /* the file system makes no holes */
	uint64_t stuck[16];      /* containers that gave no space back; */
	size_t n_stuck;          /* a ring, counted on */

	pthread_mutex_t mutex;   /* protects the rest: */
	struct evfs_hashmap pins; /* names that must stay -> by how many */
	struct evfs_content_watch watches[2]; /* borrowed contexts */
	pthread_cond_t watch_idle; /* watch_calls became 0 */
	unsigned watch_calls;    /* callbacks that run now */
};

/* Names that reclamation leaves alone. pin: meta locked, with the row seen in
 * the same stretch; unpin: any time. */
int evfs_content_pin(struct evfs_content *content, const evfs_hash *name)
	EVFS_MUST_USE;
void evfs_content_unpin(struct evfs_content *content, const evfs_hash *name);
bool evfs_content_is_pinned(struct evfs_content *content,
			    const evfs_hash *name);
/* Meta locked: may be garbage from the next commit on. */
void evfs_content_note_idle(struct evfs_content *content,
			    const evfs_hash *name);

/* ---- rows (meta/db_content.c); meta locked; 1 = found, 0 = not ---- */

enum {
	EVFS_CHUNK_BAD = 1,   /* found damaged */
	EVFS_CHUNK_OBJECT = 2 /* counted as a whole content */
};

struct evfs_chunk_row {
	evfs_hash hash;     /* its name */
	uint64_t container; /* 0: the zero chunk, which is nowhere */
	uint64_t offset;    /* of its bytes there */
	uint32_t len;       /* of them */
	bool blob;          /* the container is one */
	unsigned flags;     /* EVFS_CHUNK_... */
	int64_t uses;       /* C3 */
	int64_t refs;       /* versions that name it as content */
	int64_t wants;      /* those of them that want it */
};

enum evfs_content_shape {
	EVFS_SHAPE_UNKNOWN,  /* nobody told yet */
	EVFS_SHAPE_SINGLE,   /* one chunk, which is not here */
	EVFS_SHAPE_MANIFEST, /* has its manifest */
	EVFS_SHAPE_DYING     /* being taken apart; has no name any more */
};

struct evfs_content_row {
	int64_t id;
	evfs_hash name;
	uint64_t size;
	int64_t refs;     /* versions that name it */
	int64_t wants;    /* those of them that want it */
	enum evfs_content_shape shape;
	int64_t lacking;  /* C5 */
	int64_t base;     /* id; 0 = none (C3) */
	int64_t children; /* C5 */
	int64_t dropped;  /* DYING: entries done */
	uint64_t queue;   /* place among the wanted; 0 = none */
};

int evfs_db_chunk_get(struct evfs_meta *meta, const evfs_hash *hash,
		      struct evfs_chunk_row *ret, struct evfs_err *err)
	EVFS_MUST_USE;
int evfs_db_chunk_add(struct evfs_meta *meta,
		      const struct evfs_chunk_row *row, struct evfs_err *err)
	EVFS_MUST_USE;
/* All but the hash. */
int evfs_db_chunk_set(struct evfs_meta *meta,
		      const struct evfs_chunk_row *row, struct evfs_err *err)
	EVFS_MUST_USE;
int evfs_db_chunk_drop(struct evfs_meta *meta, const evfs_hash *hash,
		       struct evfs_err *err) EVFS_MUST_USE;
/* Up to max rows behind `after`, by hash (NULL: from the start). */
int evfs_db_chunk_list(struct evfs_meta *meta, const evfs_hash *after,
		       struct evfs_chunk_row *ret, size_t max, size_t *ret_n,
		       struct evfs_err *err) EVFS_MUST_USE;
/* Rows in a blob at or behind an offset, by offset. */
int evfs_db_chunk_list_blob(struct evfs_meta *meta, uint64_t container,
			    uint64_t offset, struct evfs_chunk_row *ret,
			    size_t max, size_t *ret_n, struct evfs_err *err)
	EVFS_MUST_USE;

int evfs_db_content_get(struct evfs_meta *meta, const evfs_hash *name,
			struct evfs_content_row *ret, struct evfs_err *err)
	EVFS_MUST_USE;
int evfs_db_content_get_id(struct evfs_meta *meta, int64_t id,
			   struct evfs_content_row *ret, struct evfs_err *err)
	EVFS_MUST_USE;
/* The one child of a base. */
int evfs_db_content_child(struct evfs_meta *meta, int64_t base,
			  struct evfs_content_row *ret, struct evfs_err *err)
	EVFS_MUST_USE;
int evfs_db_content_dying(struct evfs_meta *meta,
			  struct evfs_content_row *ret, struct evfs_err *err)
	EVFS_MUST_USE;
/* Sets row->id. */
int evfs_db_content_add(struct evfs_meta *meta, struct evfs_content_row *row,
			struct evfs_err *err) EVFS_MUST_USE;
/* All but id and manifest; DYING takes the name away. */
int evfs_db_content_set(struct evfs_meta *meta,
			const struct evfs_content_row *row,
			struct evfs_err *err) EVFS_MUST_USE;
int evfs_db_content_drop(struct evfs_meta *meta, int64_t id,
			 struct evfs_err *err) EVFS_MUST_USE;
int evfs_db_content_list(struct evfs_meta *meta, int64_t after,
			 struct evfs_content_row *ret, size_t max,
			 size_t *ret_n, struct evfs_err *err) EVFS_MUST_USE;
/* Ids of contents whose manifest names a chunk. Reads all manifests. */
int evfs_db_content_with_chunk(struct evfs_meta *meta, const evfs_hash *chunk,
			       int64_t after, struct evfs_content_row *ret,
			       struct evfs_err *err) EVFS_MUST_USE;
int evfs_db_manifest_get(struct evfs_meta *meta, int64_t id,
			 struct evfs_buf *ret, struct evfs_err *err)
	EVFS_MUST_USE;
/* holes: the bytes of its zero chunks. */
int evfs_db_manifest_set(struct evfs_meta *meta, int64_t id, const void *data,
			 size_t len, uint64_t holes, struct evfs_err *err)
	EVFS_MUST_USE;
/* *ret 0: it has none, or it is not known here. */
int evfs_db_content_holes(struct evfs_meta *meta, const evfs_hash *name,
			  uint64_t *ret, struct evfs_err *err) EVFS_MUST_USE;
int evfs_db_content_wanted(struct evfs_meta *meta, uint64_t after,
			   struct evfs_content_row *ret, struct evfs_err *err)
	EVFS_MUST_USE;
int evfs_db_content_queue_max(struct evfs_meta *meta, uint64_t *ret,
			      struct evfs_err *err) EVFS_MUST_USE;

int evfs_db_lack_add(struct evfs_meta *meta, const evfs_hash *chunk,
		     int64_t content, uint32_t len, struct evfs_err *err)
	EVFS_MUST_USE;
/* 1: there was such a row. */
int evfs_db_lack_drop(struct evfs_meta *meta, const evfs_hash *chunk,
		      int64_t content, struct evfs_err *err) EVFS_MUST_USE;
/* Contents behind `after` that lack this chunk, of this length. */
int evfs_db_lack_next(struct evfs_meta *meta, const evfs_hash *chunk,
		      uint32_t len, int64_t after, int64_t *ret,
		      struct evfs_err *err) EVFS_MUST_USE;

struct evfs_container_row {
	uint64_t id;
	enum evfs_container_kind kind;
	uint64_t bytes; /* used, garbage included; a blob with holes: less */
	uint64_t live;  /* cost of the chunks that have rows */
};
/* Adds to live, and raises bytes to at least `bytes`; makes the row where
 * there is none. */
int evfs_db_container_add(struct evfs_meta *meta, uint64_t id,
			  enum evfs_container_kind kind, uint64_t bytes,
			  int64_t live, struct evfs_err *err) EVFS_MUST_USE;
int evfs_db_container_get(struct evfs_meta *meta, uint64_t id,
			  struct evfs_container_row *ret, struct evfs_err *err)
	EVFS_MUST_USE;
int evfs_db_container_set_bytes(struct evfs_meta *meta, uint64_t id,
				uint64_t bytes, struct evfs_err *err)
	EVFS_MUST_USE;
int evfs_db_container_drop(struct evfs_meta *meta, uint64_t id,
			   struct evfs_err *err) EVFS_MUST_USE;
/* The next one behind `after`. */
int evfs_db_container_next(struct evfs_meta *meta, uint64_t after,
			   struct evfs_container_row *ret,
			   struct evfs_err *err) EVFS_MUST_USE;

/* Adds to the counts; deltas, zero is free. */
struct evfs_content_delta {
	int64_t objects, wanted, wanted_bytes, corrupt;
};
int evfs_db_content_count(struct evfs_meta *meta,
			  const struct evfs_content_delta *delta,
			  struct evfs_err *err) EVFS_MUST_USE;
int evfs_db_content_counts(struct evfs_meta *meta,
			   struct evfs_content_stats *ret,
			   struct evfs_err *err) EVFS_MUST_USE;

/* All or nothing for several rows: begins the transaction and a savepoint.
 * end: with r < 0 takes everything back; returns r, or why it failed. */
int evfs_db_content_begin(struct evfs_meta *meta, struct evfs_err *err)
	EVFS_MUST_USE;
int evfs_db_content_end(struct evfs_meta *meta, int r, struct evfs_err *err)
	EVFS_MUST_USE;

/* ---- meta/content_rows.c: steps on rows; inside begin/end ---- */

/* A chunk's bytes are at this place now (container NULL: the zero chunk).
 * extra: uses that it has for reasons of the caller; object: it is a content
 * of its own. Completes the contents that waited for it. */
int evfs_content_chunk_arrives(struct evfs_content *content,
			       const evfs_hash *hash, uint32_t len,
			       const struct evfs_container *container,
			       uint64_t offset, int64_t extra, bool object,
			       struct evfs_err *err) EVFS_MUST_USE;
/* Adds to the uses of a chunk that has a row: 1 and here, 2 and damaged, 0 no
 * row. len: what it has to have (EVFS_ECORRUPT). */
int evfs_content_chunk_use(struct evfs_content *content, const evfs_hash *hash,
			   uint32_t len, int64_t delta, struct evfs_err *err)
	EVFS_MUST_USE;
/* Stores the row and keeps the counts and the queue true to it; before: what
 * it was. */
int evfs_content_row_changed(struct evfs_content *content,
			     const struct evfs_content_row *before,
			     struct evfs_content_row *row,
			     struct evfs_err *err) EVFS_MUST_USE;
bool evfs_content_row_whole(const struct evfs_content_row *row);
/* What the bytes are damaged; tells those that need them. 1: it was. */
int evfs_content_chunk_damaged(struct evfs_content *content,
			       const struct evfs_chunk_row *seen,
			       struct evfs_err *err) EVFS_MUST_USE;
/* Finds a chunk that is here: 1. */
int evfs_content_find(struct evfs_content *content, const evfs_hash *hash,
		      struct evfs_chunk_row *ret, struct evfs_err *err)
	EVFS_MUST_USE;
/* Its bytes, read twice if need be and checked; EVFS_ECORRUPT. No lock. data
 * has room for EVFS_CHUNK_MAX. */
int evfs_content_fetch(struct evfs_content *content,
		       const struct evfs_chunk_row *row,
		       struct evfs_container *container, uint8_t *data,
		       struct evfs_err *err) EVFS_MUST_USE;
/* Not locked: takes note of damage that was seen. */
void evfs_content_report_damage(struct evfs_content *content,
				const struct evfs_chunk_row *seen);
/* The cost of a chunk comes to (sign 1) or leaves (-1) its container. */
int evfs_content_account(struct evfs_content *content,
			 const struct evfs_chunk_row *row, int sign,
			 struct evfs_err *err) EVFS_MUST_USE;
void evfs_content_set_place(struct evfs_chunk_row *row,
			    const struct evfs_container *container,
			    uint64_t offset);
/* Set of the chunks of an encoded manifest. */
int evfs_content_chunk_set(const struct evfs_buf *manifest,
			   struct evfs_hashmap *ret) EVFS_MUST_USE;

/* ---- meta/content_drop.c ---- */

/* Looks at a name that may be garbage and drops what nothing needs. *ret_kept:
 * it cannot go now; look again later. */
int evfs_content_drop_idle(struct evfs_content *content, const evfs_hash *name,
			   bool *ret_kept, struct evfs_err *err)
	EVFS_MUST_USE;
/* One slice of a dying content; 1: there was work. */
int evfs_content_take_apart(struct evfs_content *content,
			    struct evfs_err *err) EVFS_MUST_USE;

/* ---- meta/content_gc.c, meta/content_compact.c ---- */

/* No lock held: what was done before is durable. */
int evfs_content_settle(struct evfs_content *content, struct evfs_err *err)
	EVFS_MUST_USE;
/* A step of compaction, with the reclaim lock held: copies about so many
 * bytes. *ret_more is set where there is more. */
int evfs_content_compact(struct evfs_content *content, uint64_t budget,
			 bool *ret_more, struct evfs_err *err) EVFS_MUST_USE;

/* ---- puts (meta/content_put.c) ---- */

/* A chunk that the content needs and where it is. */
struct evfs_put_item {
	evfs_hash hash;
	uint32_t len;
	bool pinned;    /* the chunk was here already, and is pinned */
	bool in_base;   /* the linked base names it too */
	bool pending;   /* not written yet: at `offset` of the source */
	bool adopted;   /* the container is a blob that this put made */
	struct evfs_container *container; /* pinned; NULL: zero chunk */
	uint64_t offset; /* in it */
};

struct evfs_content_put {
	evfs_hash name;      /* of the content, or of the lone chunk */
	uint64_t size;       /* of it */
	bool lone;           /* a chunk, not a content (write_chunk) */
	struct evfs_manifest manifest; /* owned */
	size_t manifest_cap; /* allocated entries */
	struct evfs_put_item *items;   /* owned; each chunk once */
	size_t n, cap;       /* of items */
	struct evfs_hashmap known;     /* hash -> index of item + 1 */
	bool has_base;       /* base is pinned, */
	bool linked;         /* and will be the base of the row */
	evfs_hash base;      /* its name */
};

struct evfs_content_put *evfs_content_put_new(struct evfs_err *err);
/* The content goes on with this chunk: finds it, or writes it, or (write
 * false) leaves it pending at `at` of the source. */
int evfs_content_put_chunk(struct evfs_content *content,
			   struct evfs_content_put *put, const uint8_t *data,
			   uint32_t len, bool write, uint64_t at,
			   struct evfs_err *err) EVFS_MUST_USE;
/* The same for one whose hash is known, not in the manifest yet. */
int evfs_content_put_hashed(struct evfs_content *content,
			    struct evfs_content_put *put,
			    const evfs_hash *hash, const uint8_t *data,
			    uint32_t len, bool write, uint64_t at,
			    struct evfs_err *err) EVFS_MUST_USE;
/* With `repeat` equal chunks that need no item of their own. */
int evfs_content_put_known(struct evfs_content_put *put, const evfs_hash *hash,
			   uint32_t len, uint32_t repeat,
			   struct evfs_err *err) EVFS_MUST_USE;
/* Gives it its name and size. */
int evfs_content_put_finish(struct evfs_content_put *put,
			    struct evfs_err *err) EVFS_MUST_USE;
bool evfs_content_all_zero(const uint8_t *data, size_t len);
/* Meta locked: committed, and nobody refers to it yet. */
void evfs_content_note_fresh(struct evfs_content *content,
			     const evfs_hash *name);

#endif
