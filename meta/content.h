/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The content store: immutable bytes by hash.
 *
 * Content is cut into chunks where its bytes say so (FastCDC, Xia et al. 2016:
 * 32 KiB to 512 KiB, 128 KiB on average), each named by its BLAKE2bp hash.
 * Content of one chunk is named by that chunk's hash; of several, by the
 * BLAKE2b hash of its manifest, the list of (chunk hash, length); empty content
 * is EVFS_CONTENT_EMPTY. So equal bytes have equal names everywhere. A run of
 * equal all-zero chunks of the greatest length is one manifest entry: holes
 * cost nothing. Chunks live in containers that are never overwritten: segments
 * (append-only, many chunks) and blobs (one file as it was written, adopted by
 * rename). SQLite maps chunk -> (container, offset, length).
 *
 * Threads: any. Reading, hashing and writing take no meta lock unless a
 * function says "meta locked"; what names new chunks in the database is done
 * under evfs_meta_lock_content(). */
#ifndef EVFS_META_CONTENT_H
#define EVFS_META_CONTENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/hash.h"
#include "meta/meta.h"

#define EVFS_CHUNK_MIN (32u << 10)
#define EVFS_CHUNK_AVG (128u << 10)
#define EVFS_CHUNK_MAX (512u << 10)
#define EVFS_FILE_SIZE_MAX ((uint64_t)1 << 50)

extern const evfs_hash EVFS_CONTENT_EMPTY; /* all zero */

/* ---- manifests: plain values, as they are stored and travel ----
 * Encoding: entries of 32 bytes hash, be32 length, be32 repeat (> 1 only for
 * the all-zero chunk of EVFS_CHUNK_MAX). Strict: one encoding for one content.
 */
#define EVFS_MANIFEST_ENTRY_SIZE 40

struct evfs_manifest_entry {
	evfs_hash chunk;
	uint32_t len;    /* of one chunk */
	uint32_t repeat; /* 1 and up */
};

struct evfs_manifest {
	struct evfs_manifest_entry *entries; /* owned */
	size_t n;
	uint64_t size; /* bytes of content */
};

void evfs_manifest_fini(struct evfs_manifest *manifest);
/* Checks everything, and that the hash of the bytes is `name` and the sizes
 * add up to `size`. EVFS_ECORRUPT. */
int evfs_manifest_decode(const void *data, size_t len, const evfs_hash *name,
			 uint64_t size, struct evfs_manifest *ret,
			 struct evfs_err *err) EVFS_MUST_USE;
int evfs_manifest_encode(const struct evfs_manifest *manifest,
			 struct evfs_buf *out) EVFS_MUST_USE;
/* The content's name (see above). */
int evfs_manifest_name(const struct evfs_manifest *manifest, evfs_hash *ret)
	EVFS_MUST_USE;

/* ---- putting: in two steps ----
 * 1. evfs_content_write_...: no meta lock held; cuts, hashes, leaves out what
 *    is there already, writes the rest to containers (not synced yet).
 * 2. evfs_content_commit: meta locked with …_lock_content, in the same locked
 *    stretch as the operation that refers to it (seal, create, apply).
 * A put that is dropped instead (evfs_content_put_drop) leaves garbage that
 * reclamation collects. */
struct evfs_content_put; /* opaque, of the caller until commit or drop */

/* Bytes in memory. */
int evfs_content_write(struct evfs_content *content, const void *data,
		       size_t len, struct evfs_content_put **ret,
		       struct evfs_err *err) EVFS_MUST_USE;

/* Where a writer's bytes come from: an earlier content with changed regions.
 * read: len bytes at offset (always within size). dirty: the ranges that
 * differ from `base`, sorted, not overlapping; between them base's chunks are
 * taken over without reading them, except where the cut points move. hole:
 * optional; the length of a known run of zeros at offset, 0 = none. */
struct evfs_range {
	uint64_t start, end; /* bytes; end exclusive */
};
struct evfs_cut {
	evfs_hash hash; /* of a chunk */
	uint32_t len;   /* where evfs_chunker_cut() ends it */
};
struct evfs_content_source {
	void *ctx;
	int (*read)(void *ctx, void *data, size_t len, uint64_t offset,
		    struct evfs_err *err);
	uint64_t (*hole)(void *ctx, uint64_t offset);
	uint64_t size;
	bool has_base;
	evfs_hash base;
	uint64_t base_size;
	const struct evfs_range *dirty;
	size_t n_dirty;
	const char *adopt_path; /* the source is this file, whole, and nobody
	                         * writes to it any more: it is renamed into
	                         * the store where that saves copying; NULL =
	                         * copy. *ret_adopted tells. */
	bool adopt_keeps;       /* the path stays, a second name of the file */
	const struct evfs_cut *cuts; /* the first chunks, as cutting would give
	                         * them: believed where the source is adopted,
	                         * no use else. Not with a base */
	size_t n_cuts;
};
int evfs_content_write_source(struct evfs_content *content,
			      const struct evfs_content_source *source,
			      struct evfs_content_put **ret, bool *ret_adopted,
			      struct evfs_err *err) EVFS_MUST_USE;

/* What it will be called. */
const evfs_hash *evfs_content_put_name(const struct evfs_content_put *put);
uint64_t evfs_content_put_size(const struct evfs_content_put *put);

/* Step 2. Frees put, also on failure. The content is complete and has no
 * references until a version gets it; it is not reclaimed before the next
 * commit that finds it without. Meta locked (content). */
int evfs_content_commit(struct evfs_content *content,
			struct evfs_content_put *put, struct evfs_err *err)
	EVFS_MUST_USE;
void evfs_content_put_drop(struct evfs_content *content,
			   struct evfs_content_put *put);

/* Called by the committer, no lock held: everything written so far is on disk
 * when it returns. */
int evfs_content_sync(struct evfs_content *content, struct evfs_err *err)
	EVFS_MUST_USE;
/* Is it already? For the committer, too; any lock may be held. */
bool evfs_content_is_synced(struct evfs_content *content);

/* ---- references (meta locked; meta/index.c and history) ----
 * +1 / -1 for a version that names this content; at 0 it becomes garbage. A
 * content that is referenced and not complete here is *wanted* if `want`. */
int evfs_content_ref(struct evfs_content *content, const evfs_hash *name,
		     uint64_t size, bool want, struct evfs_err *err)
	EVFS_MUST_USE;
int evfs_content_unref(struct evfs_content *content, const evfs_hash *name,
		       bool want, struct evfs_err *err) EVFS_MUST_USE;

/* ---- reading ---- */

/* Opens a content for reading; pins it. EVFS_EMISSING: not all here; what is
 * lacking is found with evfs_content_lacks. Takes the meta lock itself. */
struct evfs_content_reader;
int evfs_content_open(struct evfs_content *content, const evfs_hash *name,
		      uint64_t size, struct evfs_content_reader **ret,
		      struct evfs_err *err) EVFS_MUST_USE;
void evfs_content_close(struct evfs_content_reader *reader);
/* Up to len bytes at offset; *ret_len < len only at the end. EVFS_ECORRUPT: a
 * chunk does not match its hash; it counts as not here from then on, and when
 * it has come from elsewhere the same reader reads it. Any thread; the meta
 * lock must not be held: where the chunks are is looked up, some dozens at a
 * time, when they are first read. */
int evfs_content_read(struct evfs_content_reader *reader, void *data,
		      size_t len, uint64_t offset, size_t *ret_len,
		      struct evfs_err *err) EVFS_MUST_USE;
/* The extent at offset, at most max bytes of it, as a file range, for splice; 0
 * length: none. fd is borrowed while the reader is open. EVFS_ECORRUPT as when
 * reading. */
int evfs_content_extent(struct evfs_content_reader *reader, uint64_t offset,
			uint64_t max, int *ret_fd, uint64_t *ret_fd_offset,
			uint64_t *ret_len, struct evfs_err *err)
	EVFS_MUST_USE;
/* Start of the next data (hole false) or hole (true) at or after offset; size
 * where there is none. */
uint64_t evfs_content_seek(struct evfs_content_reader *reader, uint64_t offset,
			   bool hole);

/* Bytes of a content that are in holes, which take no room on disk; 0 also
 * where that is not known: it is not here yet, or came before holes were
 * counted. Meta locked. */
int evfs_content_holes(struct evfs_content *content, const evfs_hash *name,
		       uint64_t size, uint64_t *ret, struct evfs_err *err)
	EVFS_MUST_USE;

/* ---- content from elsewhere (replication) ---- */

/* Is it whole here? Meta locked. */
int evfs_content_has(struct evfs_content *content, const evfs_hash *name,
		     bool *ret, struct evfs_err *err) EVFS_MUST_USE;

/* The encoded manifest, or the fact that there is none: *ret empty for content
 * of one chunk and for empty content. EVFS_EMISSING. Meta locked. */
int evfs_content_manifest(struct evfs_content *content, const evfs_hash *name,
			  struct evfs_buf *ret, struct evfs_err *err)
	EVFS_MUST_USE;

/* Remembers a manifest that arrived (checked against name and size); chunks
 * that are here count at once. Meta locked (content). */
int evfs_content_put_manifest(struct evfs_content *content,
			      const evfs_hash *name, uint64_t size,
			      const void *data, size_t len,
			      struct evfs_err *err) EVFS_MUST_USE;

/* Verifies a chunk against its name (EVFS_ECORRUPT) and writes it to a
 * container; no lock. passing: it is one of very many, which leave memory as
 * soon as they are on disk (base/behind.h); may wait for the disk. Then, meta
 * locked (content), commit makes it known; all contents that it completes are
 * complete from then on. */
int evfs_content_write_chunk(struct evfs_content *content,
			     const evfs_hash *chunk, const void *data,
			     size_t len, bool passing,
			     struct evfs_content_put **ret,
			     struct evfs_err *err) EVFS_MUST_USE;

/* One chunk's bytes, appended to ret; verified. EVFS_EMISSING. Takes the meta
 * lock itself. */
int evfs_content_read_chunk(struct evfs_content *content,
			    const evfs_hash *chunk, struct evfs_buf *ret,
			    struct evfs_err *err) EVFS_MUST_USE;

/* The same for somebody who verifies it himself: bytes that this process has
 * hashed and written a short while ago (EVFS_CONTAINER_FRESH_NS) are not hashed
 * once more. */
int evfs_content_read_chunk_unchecked(struct evfs_content *content,
				      const evfs_hash *chunk,
				      struct evfs_buf *ret,
				      struct evfs_err *err) EVFS_MUST_USE;

/* What is lacking of one content: first its manifest (*ret_manifest), then up
 * to max chunk hashes with lengths. n = 0 and no manifest: complete. Meta
 * locked. */
struct evfs_chunk_want {
	evfs_hash chunk;
	uint32_t len;
};
int evfs_content_lacks(struct evfs_content *content, const evfs_hash *name,
		       uint64_t size, struct evfs_chunk_want *ret, size_t max,
		       size_t *ret_n, bool *ret_manifest, struct evfs_err *err)
	EVFS_MUST_USE;

/* Wanted contents that are not complete, in the order they became wanted, from
 * `after` (0 = the first); each with its queue number. Meta locked. */
int evfs_content_wanted(struct evfs_content *content, uint64_t after,
			size_t max,
			int (*each)(void *arg, uint64_t number,
				    const evfs_hash *name, uint64_t size),
			void *arg, struct evfs_err *err) EVFS_MUST_USE;

/* Counts kept up to date; meta locked. */
struct evfs_content_stats {
	uint64_t objects;       /* contents that are whole here */
	uint64_t bytes;         /* of their chunks, each once, on disk */
	uint64_t wanted;        /* contents wanted and not complete */
	uint64_t wanted_bytes;  /* their sizes */
	uint64_t corrupt;       /* chunks found damaged */
	uint64_t garbage_bytes; /* in containers, named by nobody */
};
void evfs_content_get_stats(struct evfs_content *content,
			    struct evfs_content_stats *ret);

/* Somebody waits for this content: listener is called (no lock held) when it
 * may have become complete, and by whoever asks for it. For fs (waits) and net
 * (fetches). */
struct evfs_content_watch {
	void *ctx;
	void (*urgent)(void *ctx, const evfs_hash *name, uint64_t size);
	void (*arrived)(void *ctx);
	/* Nobody who has it can be reached now. */
	void (*unreachable)(void *ctx, const evfs_hash *name);
};
void evfs_content_set_watch(struct evfs_content *content, int slot,
			    const struct evfs_content_watch *watch);
#define EVFS_CONTENT_WATCH_FS 0
#define EVFS_CONTENT_WATCH_NET 1
/* Calls arrived of all watches if a content became complete since the last
 * call. No lock. For whoever has committed chunks, after unlocking; each
 * evfs_content_sync does it too, so nobody waits longer than for a commit. */
void evfs_content_tell_arrived(struct evfs_content *content);
/* Call urgent, or unreachable, of all watches. No lock. */
void evfs_content_ask(struct evfs_content *content, const evfs_hash *name,
		      uint64_t size);
void evfs_content_give_up(struct evfs_content *content,
			  const evfs_hash *name);

/* ---- keeping house ---- */

/* One step of reclamation: drops unreferenced contents and chunks, removes
 * containers that hold nothing any more, copies what is left of containers
 * that are mostly garbage. At most about `bytes_max` of copying; never touches
 * what a reader, a put or a transfer has pinned. *ret_more: there is more.
 * Takes locks itself. */
int evfs_content_reclaim(struct evfs_content *content, uint64_t bytes_max,
			 bool *ret_more, struct evfs_err *err) EVFS_MUST_USE;

/* Reads the next chunks back against their hashes, up to bytes_max; keeps its
 * place in *cursor (zeroed = from the start). each is told of damaged ones. */
int evfs_content_verify(struct evfs_content *content, evfs_hash *cursor,
			uint64_t bytes_max, bool *ret_done,
			void (*each)(void *arg, const evfs_hash *chunk,
				     const char *why),
			void *arg, struct evfs_err *err) EVFS_MUST_USE;

#endif
