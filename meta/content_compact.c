/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The content store: giving the space of half-empty containers back. Of a
 * segment that is mostly dead the living chunks are copied to the current one,
 * checked on the way; it is removed once nothing is left in it (and nobody
 * reads it any more). The dead ranges of a blob become holes; where the file
 * system makes none, blobs are copied like segments. */

#include "base/mem.h"
#include "meta/content_priv.h"

#define MOVE_STEP 64u  /* chunks of a container in one go */
#define LOOK_STEP 256u /* rows of containers under one lock */
#define PUNCH_MIN (1u << 20) /* dead bytes of a blob that are worth it */

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

/* Meta locked: looks at LOOK_STEP more rows behind *after for the container
 * with the greatest share of dead bytes. */
static int compare(struct evfs_content *content, uint64_t *after,
		   struct evfs_container_row *best, bool *ret_end,
		   struct evfs_err *err)
{
	for (unsigned i = 0; i < LOOK_STEP; i++) {
		struct evfs_container_row row;
		int r = evfs_db_container_next(content->meta, *after, &row,
					       err);

		*ret_end = r == 0;
		if (r <= 0)
			return r;
		*after = row.id;
		if (!worth_it(content, &row))
			continue;
		if (best->id == 0 ||
		    (double)row.live / (double)row.bytes <
			    (double)best->live / (double)best->bytes)
			*best = row;
	}
	return 0;
}

static int choose(struct evfs_content *content, struct evfs_err *err)
{
	struct evfs_container_row best = { 0 };
	uint64_t after = 0;
	bool end = false;
	int r = 0;

	while (r == 0 && !end) {
		evfs_meta_lock(content->meta);
		r = compare(content, &after, &best, &end, err);
		evfs_meta_unlock(content->meta);
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
	r = evfs_content_settle(content, err);
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
	if (punch)
		r = evfs_container_size(content->containers, container, &size,
					err);
	else
		r = move_some(content, container, budget, &end, err);
	evfs_container_unpin(content->containers, container);
	if (punch && r == 0) {
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

int evfs_content_compact(struct evfs_content *content, uint64_t budget,
			 bool *ret_more, struct evfs_err *err)
{
	int r = 0;

	if (content->compact_id == 0)
		r = choose(content, err);
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
