/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Numbers of working copies on the disk (fs/work.h) that are of no more use:
 * what was in them is a version now, or their file was removed. Noted in the
 * transaction that makes it so. The files go at their own time, and after power
 * loss they may be back; a start that finds them knows by this that it must not
 * put them together again.
 *
 * Meta locked in all functions. */
#ifndef EVFS_META_WORKS_H
#define EVFS_META_WORKS_H

#include <stdint.h>

#include "base/err.h"

struct evfs_meta;

int evfs_work_done_note(struct evfs_meta *meta, uint64_t number,
			struct evfs_err *err) EVFS_MUST_USE;
/* All that are noted. each must not call meta. */
int evfs_work_done_each(struct evfs_meta *meta,
			void (*each)(void *arg, uint64_t number), void *arg,
			struct evfs_err *err) EVFS_MUST_USE;
/* Their files are gone for sure: the numbers may be given again. */
int evfs_work_done_clear(struct evfs_meta *meta, struct evfs_err *err)
	EVFS_MUST_USE;

#endif
