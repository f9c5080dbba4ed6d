/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The content store: reading everything back against its hashes, in the order
 * of the hashes. A chunk that was found damaged before is read too: what has
 * healed (a cable, a remount) counts as here again. */
#include "base/mem.h"
#include "meta/content_priv.h"

#define STEP 32u /* rows taken under one lock */

struct checker {
	struct evfs_content *content; /* borrowed */
	uint8_t *data;                /* owned; EVFS_CHUNK_MAX */
	void (*each)(void *arg, const evfs_hash *chunk, const char *why);
	void *arg;                    /* for each */
};

/* It matches its hash again. */
static int heal(struct evfs_content *content, const struct evfs_chunk_row *row,
		struct evfs_container *container, struct evfs_err *err)
{
	int r;

	evfs_meta_lock_content(content->meta);
	r = evfs_db_content_begin(content->meta, err);
	if (r == 0)
		r = evfs_db_content_end(content->meta,
					evfs_content_chunk_arrives(
						content, &row->hash, row->len,
						container, row->offset, 0,
						false, err),
					err);
	evfs_meta_unlock(content->meta);
	return r;
}

static int check(struct checker *checker, const struct evfs_chunk_row *row,
		 struct evfs_container *container, struct evfs_err *err)
{
	struct evfs_err why = { 0 };
	int r;

	r = evfs_content_fetch(checker->content, row, container, checker->data,
			       &why);
	if (r == 0 && (row->flags & EVFS_CHUNK_BAD))
		return heal(checker->content, row, container, err);
	if (r == EVFS_ECORRUPT) {
		evfs_content_report_damage(checker->content, row);
		if (checker->each)
			checker->each(checker->arg, &row->hash, why.msg);
		return 0;
	}
	if (r < 0 && err)
		*err = why;
	return r;
}

/* Meta locked: the next rows, their containers pinned. */
static int next_rows(struct evfs_content *content, const evfs_hash *cursor,
		     struct evfs_chunk_row *rows,
		     struct evfs_container **containers, size_t *ret_n,
		     struct evfs_err *err)
{
	int r = evfs_db_chunk_list(content->meta, cursor, rows, STEP, ret_n,
				   err);

	if (r < 0)
		return r;
	for (size_t i = 0; i < *ret_n; i++)
		containers[i] =
			rows[i].container
				? evfs_containers_pin(content->containers,
						      rows[i].container)
				: NULL;
	return 0;
}

static int check_some(struct checker *checker, evfs_hash *cursor,
		      uint64_t *budget, bool *ret_done, struct evfs_err *err)
{
	struct evfs_content *content = checker->content;
	struct evfs_container *containers[STEP];
	struct evfs_chunk_row rows[STEP];
	size_t n = 0;
	int r;

	evfs_meta_lock(content->meta);
	r = next_rows(content, cursor, rows, containers, &n, err);
	evfs_meta_unlock(content->meta);
	if (r < 0)
		return r;
	*ret_done = n < STEP;
	for (size_t i = 0; i < n; i++) {
		if (r == 0 && *budget > 0) {
			r = check(checker, &rows[i], containers[i], err);
			if (r == 0)
				*cursor = rows[i].hash;
			*budget -= rows[i].len < *budget ? rows[i].len
							 : *budget;
		} else {
			*ret_done = false;
		}
		if (containers[i])
			evfs_container_unpin(content->containers,
					     containers[i]);
	}
	return r;
}

int evfs_content_verify(struct evfs_content *content, evfs_hash *cursor,
			uint64_t bytes_max, bool *ret_done,
			void (*each)(void *arg, const evfs_hash *chunk,
				     const char *why),
			void *arg, struct evfs_err *err)
{
	struct checker checker = { .content = content,
				   .each = each,
				   .arg = arg };
	bool done = false;
	int r = 0;

	checker.data = evfs_calloc(1, EVFS_CHUNK_MAX);
	if (!checker.data)
		return evfs_err_set(err, EVFS_ENOMEM, "content: no memory");
	while (r == 0 && !done && bytes_max > 0)
		r = check_some(&checker, cursor, &bytes_max, &done, err);
	evfs_free(checker.data);
	if (r < 0)
		return r;
	if (done)
		*cursor = EVFS_CONTENT_EMPTY;
	*ret_done = done;
	return 0;
}
