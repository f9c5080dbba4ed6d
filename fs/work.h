/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Working copies: the bytes of a file between its first write and its sealing.
 *
 * While small, all bytes are in memory. Beyond place->memory_max they are in a
 * sparse file STORE/work/NUMBER that lies over the sealed version: a sorted
 * list of ranges says which bytes are its own; others come from the base, or
 * are zeros beyond it. So a write costs what it touches. Beside it,
 * NUMBER.log says of which file it is and, range by range, what was written:
 * enough to put it together again after a crash (evfs_work_recover).
 *
 * Knows nothing of nodes or FUSE. Not thread-safe; the owner locks. */
#ifndef EVFS_FS_WORK_H
#define EVFS_FS_WORK_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/hash.h"
#include "fs/work_ahead.h"
#include "meta/content.h"
#include "meta/dot.h"

#define EVFS_WORK_MEMORY_MAX (1u << 20)

struct evfs_reader;

/* Where working copies are kept; one for a mount. */
struct evfs_workplace {
	char *dir;                    /* owned: STORE/work */
	struct evfs_content *content; /* borrowed */
	uint64_t memory_max;          /* bytes held in memory per file */
	atomic_uint_least64_t next;   /* number of the next overlay file */
	pthread_mutex_t space_lock;   /* leaf: the two below */
	uint64_t space_bytes;         /* free on the disk, as last asked, less
	                               * what was written since */
	uint64_t space_asked;         /* bytes until it is asked again */
	uint64_t reserve_bytes;       /* of the disk that writers leave alone */
	struct evfs_aheads aheads;    /* those that are cut while written */
};

/* Makes the folder where it is not there. */
int evfs_workplace_init(struct evfs_workplace *place, const char *store,
			struct evfs_content *content, struct evfs_err *err)
	EVFS_MUST_USE;
void evfs_workplace_fini(struct evfs_workplace *place);

/* May `bytes` more be written? EVFS_ENOSPACE. */
int evfs_workplace_reserve(struct evfs_workplace *place, uint64_t bytes,
			   struct evfs_err *err) EVFS_MUST_USE;

/* Which file it is of, and what it lies over. */
struct evfs_work_ident {
	evfs_ino ino;
	evfs_stamp link;
	evfs_dot *base;    /* versions it replaces; copied by …_new */
	size_t n_base;
	bool has_content;  /* the sealed version, whose reader goes along */
	evfs_hash content;
	uint64_t size;
};

struct evfs_work;

/* A working copy of what `base` reads (a reference is taken; NULL: of an empty
 * file, whatever ident->content says). Bytes of a small base are read here. */
int evfs_work_new(struct evfs_workplace *place,
		  const struct evfs_work_ident *ident,
		  struct evfs_reader *base, struct evfs_work **ret,
		  struct evfs_err *err) EVFS_MUST_USE;
/* NULL is fine. Removes its files, unless it is kept. */
void evfs_work_free(struct evfs_work *work);

uint64_t evfs_work_size(const struct evfs_work *work);
/* Of its files in the place; 0: a crash leaves nothing of it. A new one after
 * some failures. */
uint64_t evfs_work_number(const struct evfs_work *work);
/* Bytes that the file takes up: what is on disk of the overlay, and the base
 * without its holes; not more than its size. */
uint64_t evfs_work_room(const struct evfs_work *work);
/* Bytes on disk or in memory that are its own. */
uint64_t evfs_work_own_bytes(const struct evfs_work *work);

/* Up to len bytes at offset; *ret_len < len only at the end. */
int evfs_work_read(struct evfs_work *work, void *data, size_t len,
		   uint64_t offset, size_t *ret_len, struct evfs_err *err)
	EVFS_MUST_USE;
int evfs_work_write(struct evfs_work *work, const void *data, size_t len,
		    uint64_t offset, struct evfs_err *err) EVFS_MUST_USE;
int evfs_work_truncate(struct evfs_work *work, uint64_t size,
		       struct evfs_err *err) EVFS_MUST_USE;
/* Zeros; does not change the size. */
int evfs_work_zero(struct evfs_work *work, uint64_t offset, uint64_t len,
		   struct evfs_err *err) EVFS_MUST_USE;
/* The content that it lies over, one reference for the caller; NULL where it
 * lies over nothing. */
struct evfs_reader *evfs_work_base(const struct evfs_work *work);
/* An empty working copy gets the content of another file, whole, without
 * reading it: the reader is the new base (a reference is taken). */
int evfs_work_adopt(struct evfs_work *work, struct evfs_reader *base,
		    struct evfs_err *err) EVFS_MUST_USE;
/* Start of the next data, or hole, at or after offset; the size where there is
 * none. */
uint64_t evfs_work_seek(struct evfs_work *work, uint64_t offset, bool hole);

/* Puts the bytes into the content store (step 1 of meta/content.h). The work
 * stays readable; on success its overlay file may belong to the store already.
 * No meta lock held. *ret_put NULL: the content is empty or is that of the
 * base (then *ret_name, *ret_size say it all). */
int evfs_work_put(struct evfs_work *work, struct evfs_content_put **ret_put,
		  evfs_hash *ret_name, uint64_t *ret_size,
		  struct evfs_err *err) EVFS_MUST_USE;

/* ---- writing on while it is put ----
 * Putting a long one takes its time. If nobody changes it meanwhile, what is
 * written can go into another that lies over it. */

/* Is it in files? What is in memory is put at once. */
bool evfs_work_is_overlay(const struct evfs_work *work);
/* A working copy of what `under` holds, which outlives it or the next call. A
 * crash before that leaves nothing of it. */
int evfs_work_over(struct evfs_work *under, struct evfs_work **ret,
		   struct evfs_err *err) EVFS_MUST_USE;
/* What lay under it is sealed: ident says as what, and base reads that (a
 * reference is taken; NULL is fine where evfs_work_is_complete()). Without
 * room for its log a crash still leaves nothing of it. */
int evfs_work_rebase(struct evfs_work *work,
		     const struct evfs_work_ident *ident,
		     struct evfs_reader *base, struct evfs_err *err)
	EVFS_MUST_USE;
/* Does nothing of what it lies over show through? */
bool evfs_work_is_complete(const struct evfs_work *work);

/* Removes the files of that number, if they are there. */
void evfs_work_discard(struct evfs_workplace *place, uint64_t number);
/* What was removed stays removed. */
int evfs_workplace_sync(struct evfs_workplace *place, struct evfs_err *err)
	EVFS_MUST_USE;

/* ---- a promise before the sealing (fs/work_keep.c) ----
 * Until a long file is hashed, fsync(2) has not to wait: its working copy is
 * made to survive a crash as it is. */

/* Would putting it take much longer than keeping it? */
bool evfs_work_is_long(const struct evfs_work *work);
/* What is written so far is found by the next evfs_work_recover(), with this
 * time of change, provided that the file and the base are on the disk: that is
 * evfs_meta_sync()'s. From now on evfs_work_free() leaves the files. For what
 * evfs_work_is_long() only. */
int evfs_work_keep(struct evfs_work *work, int64_t mtime_s, uint32_t mtime_ns,
		   struct evfs_err *err) EVFS_MUST_USE;
bool evfs_work_is_kept(const struct evfs_work *work);
/* What was put is on the disk, or nobody needs it: the files may go. */
void evfs_work_release(struct evfs_work *work);

/* After a crash: puts each working copy that was on disk together again and
 * hands it over, with what it is of and the time it was last written; each
 * owns the work, which is kept. A copy whose base is not readable is left where it is and
 * told with work NULL. Removes what belongs to nothing. */
int evfs_work_recover(struct evfs_workplace *place,
		      int (*each)(void *arg,
				  const struct evfs_work_ident *ident,
				  struct evfs_work *work, int64_t mtime_s,
				  uint32_t mtime_ns),
		      void *arg, struct evfs_err *err) EVFS_MUST_USE;

/* ---- shared readers ---- */

/* A content reader that several may hold. */
struct evfs_reader {
	struct evfs_content_reader *reader; /* owned */
	evfs_hash content;                  /* what it reads */
	uint64_t size;
	uint64_t holes; /* bytes of it that are known to be in holes */
	atomic_uint refs;
};

/* Takes reader, also on failure; one reference for the caller. */
struct evfs_reader *evfs_reader_new(struct evfs_content_reader *reader,
				    const evfs_hash *content, uint64_t size);
struct evfs_reader *evfs_reader_get(struct evfs_reader *reader);
void evfs_reader_put(struct evfs_reader *reader); /* NULL is fine */

#endif
