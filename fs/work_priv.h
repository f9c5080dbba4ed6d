/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The inside of a working copy, for fs/work*.c alone. */
#ifndef EVFS_FS_WORK_PRIV_H
#define EVFS_FS_WORK_PRIV_H

#include "fs/work.h"

struct evfs_range_leaf;

/* Neither overlapping nor touching; {0} is none. A step costs O(log n), but for
 * moving a leaf's ranges and, at times, the list of the leaves. */
struct evfs_ranges {
	struct evfs_range_leaf **leaves; /* owned, as each; sorted, none empty */
	size_t n_leaves, cap;            /* of leaves */
	struct evfs_range_leaf *spare;   /* owned: for what comes; or NULL */
	size_t n;                        /* ranges */
};

void evfs_ranges_fini(struct evfs_ranges *ranges);
/* Makes room for what one add may need; then add cannot fail. */
int evfs_ranges_reserve(struct evfs_ranges *ranges) EVFS_MUST_USE;
void evfs_ranges_add(struct evfs_ranges *ranges, uint64_t start,
		     uint64_t end);
/* Drops all from size on. */
void evfs_ranges_cut(struct evfs_ranges *ranges, uint64_t size);
/* The first range that ends behind offset; false: there is none. */
bool evfs_ranges_next(const struct evfs_ranges *ranges, uint64_t offset,
		      struct evfs_range *ret);
bool evfs_ranges_has(const struct evfs_ranges *ranges, uint64_t start,
		     uint64_t end);
/* All of them, and [from, size): sorted, not touching. The caller frees *ret.
 * EVFS_ENOMEM. */
int evfs_ranges_list(const struct evfs_ranges *ranges, uint64_t from,
		     uint64_t size, struct evfs_range **ret, size_t *ret_n)
	EVFS_MUST_USE;

struct evfs_work {
	struct evfs_workplace *place; /* borrowed */
	struct evfs_work_ident ident; /* base owned */
	uint64_t size;
	uint8_t *memory;              /* owned; all bytes, or NULL: overlay */
	size_t memory_cap;
	struct evfs_reader *base;     /* OVERLAY: a reference, or NULL */
	struct evfs_work *under;      /* OVERLAY: borrowed: in place of base,
	                               * until that is sealed; or NULL */
	uint64_t base_limit;          /* bytes of either that show through */
	uint64_t base_holes;          /* bytes of it known to be in holes */
	struct evfs_ranges own;       /* OVERLAY: bytes that are ours */
	uint64_t number;              /* OVERLAY: of its files */
	int fd;                       /* OVERLAY: the bytes; else -1 */
	int log_fd;                   /* OVERLAY: the log; else, and while it
	                               * lies over an unsealed one, -1 */
	uint64_t unsent;              /* OVERLAY: new bytes that the disk was
	                               * not asked to take yet */
	struct evfs_ahead *ahead;     /* OVERLAY: owned; NULL: not (yet) */
	bool adopted;                 /* the file is the content store's now:
	                               * it must be copied before a write */
	bool shared;                  /* and it still has its name here, too */
	bool kept;                    /* promised: its files stay */
	bool timed;                   /* the log says mtime, and nothing was
	                               * written since; below: what it says,
	                               * after recovery */
	int64_t mtime_s;
	uint32_t mtime_ns;
};

/* Paths of its files; the caller frees. NULL: no memory. */
char *evfs_work_path(const struct evfs_workplace *place, uint64_t number,
		     const char *suffix);

/* Starts the log of an overlay, with the head; and its records, which are
 * dropped where there is no log. */
int evfs_work_log_open(struct evfs_work *work, struct evfs_err *err)
	EVFS_MUST_USE;
/* The same, with the records that say what it is now. */
int evfs_work_log_state(struct evfs_work *work, struct evfs_err *err)
	EVFS_MUST_USE;
int evfs_work_log_write(struct evfs_work *work, uint64_t start, uint64_t end,
			struct evfs_err *err) EVFS_MUST_USE;
int evfs_work_log_truncate(struct evfs_work *work, uint64_t size,
			   struct evfs_err *err) EVFS_MUST_USE;
int evfs_work_log_base(struct evfs_work *work, struct evfs_err *err)
	EVFS_MUST_USE;
int evfs_work_log_time(struct evfs_work *work, int64_t mtime_s,
		       uint32_t mtime_ns, struct evfs_err *err) EVFS_MUST_USE;

/* Does it lie over anything? */
bool evfs_work_has_base(const struct evfs_work *work);
/* Leaves the files where they are. */
void evfs_work_close_files(struct evfs_work *work);
/* Both files and their names are on the disk (fs/work_keep.c). */
int evfs_work_sync_files(struct evfs_work *work, struct evfs_err *err)
	EVFS_MUST_USE;

#endif
