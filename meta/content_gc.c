/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The content store: reclamation.
 *
 * Names that lost their last reference or use are remembered in memory; what an
 * earlier run left is found by one slow walk over all rows after the start. A
 * name is looked at again when a commit has passed since, and its rows go
 * unless somebody refers to it or has it pinned. A container whose last chunk
 * has gone loses its row; of mostly empty segments the living chunks are
 * copied, of blobs the dead ranges are given back as holes.
 *
 * The order that makes a crash harmless: rows go -> that is committed and
 * synced -> only then bytes go (unlink, punch). What is durable never names
 * bytes that are gone. */
#include <string.h>

#include "base/mem.h"
#include "meta/content_priv.h"

#define IDLE_STEP 512u  /* names looked at under one lock */
#define SCAN_STEP 1024u /* rows of the walk */
#define SCAN_IDLE 32768u /* the walk waits while so many names are idle */
#define REMOVE_STEP 64u /* containers in one go */
#define LOOK_STEP 256u  /* containers looked at under one lock */

int evfs_content_settle(struct evfs_content *content, struct evfs_err *err)
{
	if (content->in_memory)
		return evfs_meta_commit(content->meta, err);
	return evfs_meta_sync(content->meta, err);
}

/* ---- names ---- */

static int settle_idle(struct evfs_content *content, struct evfs_err *err)
{
	struct evfs_idle *idle = &content->idle;
	size_t n;
	int r;

	evfs_meta_lock(content->meta);
	if (idle->settled == 0) {
		for (size_t i = 0; i < content->n_fresh; i++)
			evfs_content_note_idle(content, &content->fresh[i]);
		content->n_fresh = 0;
	}
	n = idle->settled ? 0 : idle->n;
	evfs_meta_unlock(content->meta);
	if (n == 0)
		return 0;
	r = evfs_content_settle(content, err);
	if (r < 0)
		return r;
	evfs_meta_lock(content->meta);
	idle->settled = n < idle->n ? n : idle->n;
	evfs_meta_unlock(content->meta);
	return 0;
}

static int drop_some(struct evfs_content *content, struct evfs_err *err)
{
	struct evfs_idle *idle = &content->idle;
	size_t n = idle->settled < IDLE_STEP ? idle->settled : IDLE_STEP;
	evfs_hash names[IDLE_STEP];
	int r = 0;

	if (n == 0)
		return 0;
	memcpy(names, idle->names, n * sizeof(*names));
	idle->n -= n;
	idle->settled -= n;
	memmove(idle->names, idle->names + n, idle->n * sizeof(*names));
	for (size_t i = 0; i < n; i++) {
		bool kept = false;

		if (r == 0)
			r = evfs_content_drop_idle(content, &names[i], &kept,
						   err);
		if (r < 0 || kept)
			evfs_content_note_idle(content, &names[i]);
	}
	return r;
}

static int scan_chunks(struct evfs_content *content, bool *ret_done,
		       struct evfs_err *err)
{
	struct evfs_idle *idle = &content->idle;
	evfs_cleanup_free struct evfs_chunk_row *rows =
		evfs_calloc(SCAN_STEP, sizeof(*rows));
	size_t n;
	int r;

	if (!rows)
		return evfs_err_set(err, EVFS_ENOMEM, "content: no memory");
	r = evfs_db_chunk_list(content->meta, &idle->scan_chunk, rows,
			       SCAN_STEP, &n, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < n; i++)
		if (rows[i].refs == 0 &&
		    (rows[i].uses == 0 ||
		     (rows[i].flags & EVFS_CHUNK_OBJECT)))
			evfs_content_note_idle(content, &rows[i].hash);
	if (n > 0)
		idle->scan_chunk = rows[n - 1].hash;
	*ret_done = n < SCAN_STEP;
	return 0;
}

static int scan_contents(struct evfs_content *content, bool *ret_done,
			 struct evfs_err *err)
{
	struct evfs_idle *idle = &content->idle;
	struct evfs_content_row rows[64];
	size_t n;
	int r;

	r = evfs_db_content_list(content->meta, idle->scan_content, rows, 64,
				 &n, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < n; i++)
		if (rows[i].refs == 0 && rows[i].shape != EVFS_SHAPE_DYING)
			evfs_content_note_idle(content, &rows[i].name);
	if (n > 0)
		idle->scan_content = rows[n - 1].id;
	*ret_done = n < 64;
	return 0;
}

/* A step of the walk over all rows: chunks, then contents. */
static int scan_some(struct evfs_content *content, struct evfs_err *err)
{
	struct evfs_idle *idle = &content->idle;
	bool done = false;
	int r;

	if (!idle->scanning && !idle->rescan)
		return 0;
	if (!idle->scanning) {
		idle->scanning = true;
		idle->rescan = false;
		idle->scan_chunk = EVFS_CONTENT_EMPTY;
		idle->scan_content = -1;
	}
	if (idle->n >= SCAN_IDLE)
		return 0;
	if (idle->scan_content < 0) {
		r = scan_chunks(content, &done, err);
		if (r == 0 && done)
			idle->scan_content = 0;
		return r;
	}
	r = scan_contents(content, &done, err);
	if (r == 0 && done)
		idle->scanning = false;
	return r;
}

/* Meta locked: all of the above, a step. */
static int drop_step(struct evfs_content *content, bool *ret_more,
		     struct evfs_err *err)
{
	int r = drop_some(content, err);

	if (r == 0)
		r = evfs_content_take_apart(content, err);
	if (r > 0)
		*ret_more = true;
	if (r >= 0)
		r = scan_some(content, err);
	*ret_more |= content->idle.settled > 0 || content->idle.scanning;
	return r;
}

/* ---- containers without chunks ---- */

/* Meta locked: takes the rows of empty containers away, of the next LOOK_STEP
 * from *from on; ret: what has no row any more. */
static int collect_empty(struct evfs_content *content, uint64_t *from,
			 uint64_t *ret, size_t *n, bool *ret_end,
			 struct evfs_err *err)
{
	struct evfs_container_row row;
	uint64_t ids[LOOK_STEP];
	size_t found = evfs_containers_idle(content->containers, *from, ids,
					    LOOK_STEP);
	int r;

	*ret_end = found < LOOK_STEP;
	for (size_t i = 0; i < found && *n < REMOVE_STEP; i++) {
		*from = ids[i] + 1;
		r = evfs_db_container_get(content->meta, ids[i], &row, err);
		if (r < 0)
			return r;
		if (r > 0 && row.live > 0)
			continue;
		if (r > 0) {
			r = evfs_meta_begin_write(content->meta, err);
			if (r == 0)
				r = evfs_db_container_drop(content->meta,
							   ids[i], err);
			if (r < 0)
				return r;
		}
		ret[(*n)++] = ids[i];
	}
	return 0;
}

static int remove_empty(struct evfs_content *content, bool *ret_more,
			struct evfs_err *err)
{
	uint64_t ids[REMOVE_STEP], from = 0;
	bool end = false;
	size_t n = 0;
	int r = 0;

	while (r == 0 && !end && n < REMOVE_STEP) {
		evfs_meta_lock(content->meta);
		r = collect_empty(content, &from, ids, &n, &end, err);
		evfs_meta_unlock(content->meta);
	}
	if (r < 0 || n == 0)
		return r;
	r = evfs_content_settle(content, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < n; i++) {
		struct evfs_container_row row;

		/* Rolled back by a failed commit in between? Then it stays. */
		evfs_meta_lock(content->meta);
		r = evfs_db_container_get(content->meta, ids[i], &row, err);
		evfs_meta_unlock(content->meta);
		if (r < 0)
			return r;
		if (r == 0)
			(void)evfs_containers_remove(content->containers,
						     ids[i]);
	}
	*ret_more |= n == REMOVE_STEP;
	return 0;
}

int evfs_content_reclaim(struct evfs_content *content, uint64_t bytes_max,
			 bool *ret_more, struct evfs_err *err)
{
	bool more = false;
	int r;

	pthread_mutex_lock(&content->reclaim_lock);
	r = settle_idle(content, err);
	if (r == 0) {
		evfs_meta_lock(content->meta);
		r = drop_step(content, &more, err);
		evfs_meta_unlock(content->meta);
	}
	if (r == 0)
		r = remove_empty(content, &more, err);
	if (r == 0 && bytes_max > 0)
		r = evfs_content_compact(content, bytes_max, &more, err);
	pthread_mutex_unlock(&content->reclaim_lock);
	if (r < 0)
		return r;
	*ret_more = more;
	return 0;
}
