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
#include <assert.h>
#include <string.h>

#include "base/mem.h"
#include "meta/content_priv.h"

#define IDLE_STEP 512u  /* names looked at under one lock */
#define SCAN_STEP 1024u /* rows of the walk */
#define SCAN_IDLE 32768u /* the walk waits while so many names are idle */
#define REMOVE_STEP 64u /* containers in one go */
#define MOVE_STEP 64u   /* chunks of a container in one go */
#define PUNCH_MIN (1u << 20) /* dead bytes of a blob that are worth it */

/* No lock held: what was done before is durable. */
static int settle(struct evfs_content *content, struct evfs_err *err)
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
	r = settle(content, err);
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

/* Meta locked: takes the rows of empty containers away; ret: what has no row
 * any more. */
static int collect_empty(struct evfs_content *content, uint64_t *ret,
			 size_t *ret_n, struct evfs_err *err)
{
	struct evfs_container_row row;
	uint64_t id = 0, next;
	size_t n = 0;
	int r;

	while (n < REMOVE_STEP &&
	       evfs_containers_idle(content->containers, id, &next, 1) > 0) {
		id = next + 1;
		r = evfs_db_container_get(content->meta, next, &row, err);
		if (r < 0)
			return r;
		if (r > 0 && row.live > 0)
			continue;
		if (r > 0) {
			r = evfs_meta_begin_write(content->meta, err);
			if (r == 0)
				r = evfs_db_container_drop(content->meta, next,
							   err);
			if (r < 0)
				return r;
		}
		ret[n++] = next;
	}
	*ret_n = n;
	return 0;
}

static int remove_empty(struct evfs_content *content, bool *ret_more,
			struct evfs_err *err)
{
	uint64_t ids[REMOVE_STEP];
	size_t n = 0;
	int r;

	evfs_meta_lock(content->meta);
	r = collect_empty(content, ids, &n, err);
	evfs_meta_unlock(content->meta);
	if (r < 0 || n == 0)
		return r;
	r = settle(content, err);
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

/* ---- compaction ---- */

static bool is_stuck(const struct evfs_content *content, uint64_t id)
{
	for (size_t i = 0; i < 16; i++)
		if (content->stuck[i] == id)
			return true;
	return false;
}

static bool worth_it(const struct evfs_content *content,
		     const struct evfs_container_row *row)
{
	uint64_t dead = row->bytes > row->live ? row->bytes - row->live : 0;

	if (row->live == 0 || is_stuck(content, row->id))
		return false;
	if (row->kind == EVFS_CONTAINER_BLOB && !content->no_punch)
		return dead >= PUNCH_MIN;
	return dead - EVFS_SEGMENT_HEADER > row->bytes / 2;
}

/* Meta locked: the container that has the greatest share of dead bytes. */
static int choose(struct evfs_content *content, struct evfs_err *err)
{
	struct evfs_container_row row = { 0 }, best = { 0 };
	int r;

	while ((r = evfs_db_container_next(content->meta, row.id, &row,
					   err)) > 0) {
		if (!worth_it(content, &row))
			continue;
		if (best.id == 0 ||
		    (double)row.live / (double)row.bytes <
			    (double)best.live / (double)best.bytes)
			best = row;
	}
	if (r < 0 || best.id == 0)
		return r;
	/* Nothing more goes into the one that is being emptied; a small one
	 * is better filled than copied. */
	if (best.kind == EVFS_CONTAINER_SEGMENT) {
		uint64_t ids[1];

		if (evfs_containers_idle(content->containers, best.id, ids,
					 1) == 0 ||
		    ids[0] != best.id) {
			if (best.bytes < EVFS_SEGMENT_FULL / 4)
				return 0;
			evfs_containers_close_segment(content->containers,
						      best.id);
		}
	}
	content->compact_id = best.id;
	content->compact_at = 0;
	return 0;
}

struct move {
	struct evfs_chunk_row row;  /* as it was seen */
	struct evfs_container *to;  /* pinned; NULL: not moved */
	uint64_t offset;            /* there */
};

/* The next living chunks of the container; *ret_end: there are no more. */
static int list_living(struct evfs_content *content,
		       struct evfs_container *container, struct move *moves,
		       size_t *ret_n, bool *ret_end, struct evfs_err *err)
{
	uint64_t id = evfs_container_id(container);
	size_t n = 0;
	int r = 0;

	while (n < MOVE_STEP) {
		struct evfs_chunk_row row;
		struct evfs_record record;
		size_t found;

		if (evfs_container_kind(container) == EVFS_CONTAINER_BLOB) {
			evfs_meta_lock(content->meta);
			r = evfs_db_chunk_list_blob(content->meta, id,
						    content->compact_at, &row,
						    1, &found, err);
			evfs_meta_unlock(content->meta);
			*ret_end = r == 0 && found == 0;
			if (r < 0 || *ret_end)
				break;
			content->compact_at = row.offset + row.len;
		} else {
			r = evfs_container_scan(content->containers, container,
						&content->compact_at, &record,
						err);
			*ret_end = r == 0;
			if (r <= 0)
				break;
			evfs_meta_lock(content->meta);
			r = evfs_db_chunk_get(content->meta, &record.hash,
					      &row, err);
			evfs_meta_unlock(content->meta);
			if (r < 0)
				break;
			if (r == 0 || row.container != id ||
			    row.offset != record.offset)
				continue;
		}
		if (!(row.flags & EVFS_CHUNK_BAD))
			moves[n++] = (struct move){ .row = row };
	}
	*ret_n = n;
	return r < 0 ? r : 0;
}

static int copy_living(struct evfs_content *content,
		       struct evfs_container *from, struct move *moves,
		       size_t n, struct evfs_err *err)
{
	evfs_cleanup_free uint8_t *data = evfs_calloc(1, EVFS_CHUNK_MAX);
	int r = 0;

	if (!data)
		return evfs_err_set(err, EVFS_ENOMEM, "content: no memory");
	for (size_t i = 0; r == 0 && i < n; i++) {
		const struct evfs_chunk_row *row = &moves[i].row;

		r = evfs_content_fetch(content, row, from, data, err);
		if (r == EVFS_ECORRUPT) {
			evfs_content_report_damage(content, row);
			r = 0;
			continue;
		}
		if (r == 0)
			r = evfs_containers_append(content->containers,
						   &row->hash, data, row->len,
						   &moves[i].to,
						   &moves[i].offset, err);
	}
	return r;
}

/* Meta locked for content: the rows follow, unless they went elsewhere. */
static int move_rows(struct evfs_content *content, const struct move *moves,
		     size_t n, struct evfs_err *err)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < n; i++) {
		struct evfs_chunk_row row;

		if (!moves[i].to)
			continue;
		r = evfs_db_chunk_get(content->meta, &moves[i].row.hash, &row,
				      err);
		if (r <= 0)
			continue;
		r = 0;
		if (row.container != moves[i].row.container ||
		    row.offset != moves[i].row.offset ||
		    (row.flags & EVFS_CHUNK_BAD))
			continue;
		r = evfs_content_account(content, &row, -1, err);
		if (r < 0)
			break;
		evfs_content_set_place(&row, moves[i].to, moves[i].offset);
		r = evfs_content_account(content, &row, 1, err);
		if (r == 0)
			r = evfs_db_chunk_set(content->meta, &row, err);
	}
	return r;
}

static int move_some(struct evfs_content *content,
		     struct evfs_container *container, uint64_t *budget,
		     bool *ret_end, struct evfs_err *err)
{
	evfs_cleanup_free struct move *moves =
		evfs_calloc(MOVE_STEP, sizeof(*moves));
	size_t n = 0;
	int r;

	if (!moves)
		return evfs_err_set(err, EVFS_ENOMEM, "content: no memory");
	r = list_living(content, container, moves, &n, ret_end, err);
	if (r == 0)
		r = copy_living(content, container, moves, n, err);
	if (r == 0) {
		evfs_meta_lock_content(content->meta);
		r = evfs_db_content_begin(content->meta, err);
		if (r == 0)
			r = evfs_db_content_end(
				content->meta,
				move_rows(content, moves, n, err), err);
		evfs_meta_unlock(content->meta);
	}
	for (size_t i = 0; i < n; i++) {
		uint64_t len = moves[i].row.len;

		*budget -= len < *budget ? len : *budget;
		if (moves[i].to)
			evfs_container_unpin(content->containers,
					     moves[i].to);
	}
	return r;
}

struct gap {
	uint64_t start, end; /* of a blob; nothing names these bytes */
};

/* Meta locked: the next gaps between the living chunks of a blob. */
static int list_gaps(struct evfs_content *content, uint64_t id, uint64_t size,
		     struct gap *gaps, size_t *ret_n, bool *ret_end,
		     struct evfs_err *err)
{
	struct evfs_chunk_row rows[MOVE_STEP];
	uint64_t at = content->compact_at;
	size_t found, n = 0;
	int r;

	r = evfs_db_chunk_list_blob(content->meta, id, at, rows, MOVE_STEP,
				    &found, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < found; i++) {
		if (rows[i].offset > at)
			gaps[n++] = (struct gap){ at, rows[i].offset };
		at = rows[i].offset + rows[i].len;
	}
	*ret_end = found < MOVE_STEP;
	if (*ret_end && at < size)
		gaps[n++] = (struct gap){ at, size };
	content->compact_at = at;
	*ret_n = n;
	return 0;
}

/* A reader, a put or a transfer may still use a range whose row has gone, so
 * only blobs that nobody has pinned lose any. (Nobody can find such a range
 * anew.) */
static int punch_some(struct evfs_content *content, uint64_t id,
		      uint64_t size, bool *ret_end, struct evfs_err *err)
{
	struct evfs_container *container;
	struct gap gaps[MOVE_STEP + 1];
	uint64_t idle = 0;
	size_t n = 0;
	int r = 0;

	evfs_meta_lock(content->meta);
	if (evfs_containers_idle(content->containers, id, &idle, 1) == 1 &&
	    idle == id)
		r = list_gaps(content, id, size, gaps, &n, ret_end, err);
	else
		*ret_end = true; /* some other time */
	evfs_meta_unlock(content->meta);
	if (r < 0 || n == 0)
		return r;
	r = settle(content, err);
	if (r < 0)
		return r;
	container = evfs_containers_pin(content->containers, id);
	for (size_t i = 0; container && r == 0 && i < n; i++)
		r = evfs_container_punch(content->containers, container,
					 gaps[i].start,
					 gaps[i].end - gaps[i].start, err);
	if (container)
		evfs_container_unpin(content->containers, container);
	if (r == EVFS_EUNSUPPORTED) {
		content->no_punch = true;
		content->compact_at = 0;
		*ret_end = false;
		r = 0;
	}
	return r;
}

/* Meta locked: it was gone through. What did not help is not tried again. */
static int finish_container(struct evfs_content *content, bool punched,
			    struct evfs_err *err)
{
	struct evfs_container_row row;
	uint64_t id = content->compact_id;
	int r;

	content->compact_id = 0;
	r = evfs_db_container_get(content->meta, id, &row, err);
	if (r <= 0)
		return r;
	if (punched) {
		r = evfs_meta_begin_write(content->meta, err);
		return r < 0 ? r
			     : evfs_db_container_set_bytes(content->meta, id,
							   row.live, err);
	}
	if (row.live > 0)
		content->stuck[content->n_stuck++ % 16] = id;
	return 0;
}

static int compact_one(struct evfs_content *content, uint64_t *budget,
		       struct evfs_err *err)
{
	uint64_t id = content->compact_id;
	struct evfs_container *container =
		evfs_containers_pin(content->containers, id);
	bool end = false, punch = false, whole = false;
	uint64_t size = 0;
	int r = 0;

	if (!container) {
		content->compact_id = 0;
		return 0;
	}
	punch = evfs_container_kind(container) == EVFS_CONTAINER_BLOB &&
		!content->no_punch;
	size = evfs_container_end(content->containers, container);
	if (!punch)
		r = move_some(content, container, budget, &end, err);
	evfs_container_unpin(content->containers, container);
	if (punch) {
		r = punch_some(content, id, size, &end, err);
		whole = content->compact_at > 0 && !content->no_punch;
	}
	if (r < 0) {
		content->compact_id = 0;
		return r;
	}
	if (!end)
		return 0;
	evfs_meta_lock(content->meta);
	r = finish_container(content, whole, err);
	evfs_meta_unlock(content->meta);
	return r;
}

static int compact(struct evfs_content *content, uint64_t budget,
		   bool *ret_more, struct evfs_err *err)
{
	int r = 0;

	if (content->compact_id == 0) {
		evfs_meta_lock(content->meta);
		r = choose(content, err);
		evfs_meta_unlock(content->meta);
	}
	while (r == 0 && content->compact_id != 0 && budget > 0) {
		bool punch = !content->no_punch;

		r = compact_one(content, &budget, err);
		*ret_more = true;
		/* Holes cost no copying: one round of them is a step. */
		if (punch && budget > 0)
			break;
	}
	return r;
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
		r = compact(content, bytes_max, &more, err);
	pthread_mutex_unlock(&content->reclaim_lock);
	if (r < 0)
		return r;
	*ret_more = more;
	return 0;
}
