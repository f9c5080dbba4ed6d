/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Containers: the files that hold chunks. A segment is append-only and holds
 * many chunks, each behind a record header; a blob is one file as it was
 * written. No byte of either is ever overwritten. Which chunk is where is not
 * known here (meta/db_content.c).
 *
 *   segment: "evfs-seg", be32 version (1), be32 zero; then records
 *   record:  "EvCh", be32 length, 32 bytes BLAKE2bp hash, then the bytes
 *
 * A crash may leave a torn record at the end, a failed write a gap in the
 * middle: nothing names those bytes, and evfs_container_scan steps over them.
 *
 * Thread-safe: one mutex inside, innermost of all locks; it is not held while
 * files are read, written or synced. */
#ifndef EVFS_META_SEGMENT_H
#define EVFS_META_SEGMENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/env.h"
#include "base/err.h"
#include "base/hash.h"

#define EVFS_SEGMENT_HEADER 16u
#define EVFS_SEGMENT_RECORD 40u
#define EVFS_SEGMENT_FULL (64u << 20) /* a segment of this size is closed */
#define EVFS_CONTAINER_FRESH_NS (600 * (uint64_t)1000000000)

enum evfs_container_kind {
	EVFS_CONTAINER_SEGMENT = 1,
	EVFS_CONTAINER_BLOB = 2
};

struct evfs_containers; /* all of a store */
struct evfs_container;  /* one; stays valid while pinned */

/* dir: where "segments" and "blobs" are, made when first needed; NULL: held in
 * memory. env is borrowed. */
int evfs_containers_new(const char *dir, const struct evfs_env *env,
			struct evfs_containers **ret,
			struct evfs_err *err) EVFS_MUST_USE;
void evfs_containers_free(struct evfs_containers *set); /* NULL is fine */

/* One that the database names; bytes: how far it is known to be used. Knowing
 * it already is fine. */
int evfs_containers_add(struct evfs_containers *set, uint64_t id,
			enum evfs_container_kind kind, uint64_t bytes,
			struct evfs_err *err) EVFS_MUST_USE;
/* After a simulated crash of a store in memory: what was appended to this
 * container beyond `bytes` is gone, unless somebody has it pinned. */
void evfs_containers_cut(struct evfs_containers *set, uint64_t id,
			 uint64_t bytes);

uint64_t evfs_container_id(const struct evfs_container *container);
enum evfs_container_kind
evfs_container_kind(const struct evfs_container *container);
/* How long it is now; of a blob, with its holes. */
int evfs_container_size(struct evfs_containers *set,
			const struct evfs_container *container, uint64_t *ret,
			struct evfs_err *err) EVFS_MUST_USE;

/* By number, pinned; NULL: there is none. */
struct evfs_container *evfs_containers_pin(struct evfs_containers *set,
					   uint64_t id);
void evfs_container_pin(struct evfs_containers *set,
			struct evfs_container *container);
void evfs_container_unpin(struct evfs_containers *set,
			  struct evfs_container *container);

/* Appends a chunk to the current segment. *ret is pinned; *ret_offset is that
 * of the bytes. On failure nothing is there that anybody could name. */
int evfs_containers_append(struct evfs_containers *set, const evfs_hash *hash,
			   const void *data, size_t len,
			   struct evfs_container **ret, uint64_t *ret_offset,
			   struct evfs_err *err) EVFS_MUST_USE;

/* What was appended to this container at offset is not read again soon, nor is
 * what follows: it goes to the disk now, and from memory when it is there. */
void evfs_container_pass(struct evfs_containers *set,
			 struct evfs_container *container, uint64_t offset);

/* Takes over a file by renaming it, or, keep, by a second name; *ret is
 * pinned. EVFS_EUNSUPPORTED: not possible here (another file system, or a store
 * in memory). */
int evfs_containers_adopt(struct evfs_containers *set, const char *path,
			  bool keep, uint64_t size,
			  struct evfs_container **ret, struct evfs_err *err)
	EVFS_MUST_USE;

/* Was what is at offset written, and so hashed, by this process less than
 * EVFS_CONTAINER_FRESH_NS ago? */
bool evfs_container_is_fresh(struct evfs_containers *set,
			     const struct evfs_container *container,
			     uint64_t offset);

/* EVFS_ECORRUPT: shorter than it should be, or unreadable. */
int evfs_container_read(struct evfs_containers *set,
			struct evfs_container *container, void *data,
			size_t len, uint64_t offset, struct evfs_err *err)
	EVFS_MUST_USE;

/* Of a long blob that is read from front to back: these bytes were read, what
 * follows them is fetched, and what lies before them leaves memory. Of other
 * containers nothing. */
void evfs_container_stream(struct evfs_containers *set,
			   struct evfs_container *container, uint64_t offset,
			   uint64_t len);

/* Its descriptor, which stays open until released; *ret -1: it is held in
 * memory (nothing to release). */
int evfs_container_hold_fd(struct evfs_containers *set,
			   struct evfs_container *container, int *ret,
			   struct evfs_err *err) EVFS_MUST_USE;
void evfs_container_release_fd(struct evfs_containers *set,
			       struct evfs_container *container);

/* Everything written before the call is on disk. Cheap when nothing was. */
int evfs_containers_sync(struct evfs_containers *set, struct evfs_err *err)
	EVFS_MUST_USE;
/* Would that have nothing to do? For whoever syncs: none is under way. */
bool evfs_containers_are_synced(struct evfs_containers *set);

/* No more appends to this one. */
void evfs_containers_close_segment(struct evfs_containers *set, uint64_t id);

/* Removes it for good, file and all. False: it is pinned, open for appends or
 * not synced yet; try later. Nothing durable may name it, and nobody may be
 * able to find it any more. */
bool evfs_containers_remove(struct evfs_containers *set, uint64_t id);

/* Numbers of all containers that are pinned by nobody and not open for
 * appends, ascending, from `from`; returns how many (at most max). */
size_t evfs_containers_idle(struct evfs_containers *set, uint64_t from,
			    uint64_t *ret, size_t max);

/* The next whole record header of a segment at or after *offset: 1, with the
 * chunk's hash, length and offset, and *offset behind it; 0: no more. Only the
 * header is looked at, not the bytes. */
struct evfs_record {
	evfs_hash hash;
	uint32_t len;
	uint64_t offset; /* of the chunk's bytes */
};
int evfs_container_scan(struct evfs_containers *set,
			struct evfs_container *container, uint64_t *offset,
			struct evfs_record *ret, struct evfs_err *err)
	EVFS_MUST_USE;

/* Gives the disk blocks of a range back; reads as zeros from then on.
 * EVFS_EUNSUPPORTED where the file system cannot. */
int evfs_container_punch(struct evfs_containers *set,
			 struct evfs_container *container, uint64_t offset,
			 uint64_t len, struct evfs_err *err) EVFS_MUST_USE;

#endif
