/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What an operation of this mount changed beside what the kernel, which asked
 * for it, knows: `rm` of a plain name turns its siblings into files, a merged
 * directory has other nodes, an undone move comes back. Taken before and after
 * an operation, within its locked stretch; what must be forgotten is queued to
 * the notify thread. Cheap where nothing is in conflict: one indexed query for
 * a name. */
#ifndef EVFS_FS_RIPPLE_H
#define EVFS_FS_RIPPLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "meta/dot.h"

struct evfs_fs;
struct evfs_handle;

struct evfs_ripple {
	int64_t dups, zombies, cycles; /* counters before */
	bool crowded;                  /* a name shows more than one thing */
};

/* Meta locked, all. before may be called for several names with one ripple;
 * name NULL: one that is free. */
void evfs_ripple_before(struct evfs_fs *fs, evfs_ino dir, const char *name,
			size_t name_len, struct evfs_ripple *ripple);
void evfs_ripple_after(struct evfs_fs *fs, evfs_ino dir, const char *name,
		       size_t name_len, const struct evfs_ripple *ripple);

/* After a seal: which names of the file show something else now? */
void evfs_ripple_sealed(struct evfs_fs *fs, const struct evfs_handle *handle,
			bool was_sibling);

#endif
