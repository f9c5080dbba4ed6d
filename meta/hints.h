/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What replication remembers about hints (net/hints.h), kept across restarts:
 * bytes that only it reads. Meta locked. */
#ifndef EVFS_META_HINTS_H
#define EVFS_META_HINTS_H

#include <stddef.h>

#include "base/buf.h"
#include "base/err.h"

struct evfs_meta;

int evfs_hints_save(struct evfs_meta *meta, const void *data, size_t len,
		    struct evfs_err *err) EVFS_MUST_USE;
/* Appends them; nothing where there are none. */
int evfs_hints_load(struct evfs_meta *meta, struct evfs_buf *ret,
		    struct evfs_err *err) EVFS_MUST_USE;

#endif
