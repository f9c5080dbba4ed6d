/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The one way to change an object of the store. Given the new state it keeps
 * everything that is derived from the facts true, incrementally: the index of
 * names, which directories are needed, cycles and undone moves, counters, the
 * root hash, content references and history, and it tells the feed what a
 * mount has to forget. What it derives equals what meta/view.h's rules give
 * from scratch; tests hold it to that. Called with meta locked. */
#ifndef EVFS_META_INDEX_H
#define EVFS_META_INDEX_H

#include <stddef.h>

#include "base/err.h"
#include "meta/feed.h"
#include "meta/object.h"

struct evfs_meta;

/* Replaces (or adds) objects, n of them, all or nothing, as one step: what is
 * derived is settled once at the end. Takes ownership of the objects, also on
 * failure (the array stays the caller's). origin: who caused it; goes into the
 * feed. */
int evfs_index_put(struct evfs_meta *meta, struct evfs_object **objects,
		   size_t n, enum evfs_feed_origin origin,
		   struct evfs_err *err) EVFS_MUST_USE;

/* The same as one of several steps that fail or succeed together: between begin
 * and end, where end is given the result so far, and returns it or its own
 * failure. After a failure everything since begin is as if it had not been. */
int evfs_index_begin(struct evfs_meta *meta, struct evfs_err *err)
	EVFS_MUST_USE;
int evfs_index_put_within(struct evfs_meta *meta, struct evfs_object **objects,
			  size_t n, enum evfs_feed_origin origin,
			  struct evfs_err *err) EVFS_MUST_USE;
int evfs_index_end(struct evfs_meta *meta, int ret, struct evfs_err *err)
	EVFS_MUST_USE;

/* Throws all derived state away and makes it anew from the objects. */
int evfs_index_rebuild(struct evfs_meta *meta, struct evfs_err *err)
	EVFS_MUST_USE;

#endif
