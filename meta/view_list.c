/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Listing a directory in memcmp order: the streams of names of its members,
 * read from the index in batches, merged by name; and merged with that the
 * siblings, which stand under generated names elsewhere in the order. */
#include "meta/view_priv.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

#define BATCH 128

struct stream_row {
	struct evfs_view_row row;
	uint8_t name_len;
	uint8_t name[EVFS_NAME_MAX];
};

/* One member's names, or (dir NONE) directories that are shown here without a
 * row here. */
struct stream {
	struct evfs_meta *meta;
	evfs_ino dir;
	struct stream_row *rows; /* owned */
	size_t n, cap, at;       /* at: the next to be used */
	bool last;               /* nothing behind these */
	int failed;              /* in a callback */
};

static int compare_names(const void *a, size_t a_len, const void *b,
			 size_t b_len)
{
	int order = memcmp(a, b, a_len < b_len ? a_len : b_len);

	if (order == 0 && a_len != b_len)
		order = a_len < b_len ? -1 : 1;
	return order;
}

static int push(void *arg, const struct evfs_name_row *row)
{
	struct stream *stream = arg;
	struct stream_row *copy;

	if (evfs_grow((void **)&stream->rows, stream->n, &stream->cap,
		      sizeof(*stream->rows)) != 0) {
		stream->failed = EVFS_ENOMEM;
		return 1;
	}
	copy = &stream->rows[stream->n++];
	copy->row = (struct evfs_view_row){ row->ino, row->link, row->kind,
					    row->multi };
	copy->name_len = (uint8_t)row->name_len;
	memcpy(copy->name, row->name, row->name_len);
	return 0;
}

static bool same_name(const struct stream_row *a, const struct stream_row *b)
{
	return compare_names(a->name, a->name_len, b->name, b->name_len) == 0;
}

/* A full batch may end within the rows of one name: these are left to the
 * next, or, where there is no other name in it, read whole. */
static int mend(struct stream *stream, struct evfs_err *err)
{
	struct evfs_facts *facts = stream->meta->facts;
	struct stream_row tail = stream->rows[stream->n - 1];
	size_t n = stream->n;

	while (n > 0 && same_name(&stream->rows[n - 1], &tail))
		n--;
	stream->n = n;
	if (n > 0)
		return 0;
	return evfs_facts_names_at(facts, stream->dir, tail.name,
				   tail.name_len, push, stream, err);
}

static int fill(struct stream *stream, const void *after, size_t after_len,
		struct evfs_err *err)
{
	int ret;

	stream->n = stream->at = 0;
	if (stream->last)
		return 0;
	ret = evfs_facts_names_after(stream->meta->facts, stream->dir, after,
				     after_len, BATCH, push, stream, err);
	if (ret == 0 && stream->failed == 0) {
		stream->last = stream->n < BATCH;
		if (!stream->last)
			ret = mend(stream, err);
	}
	return stream->failed != 0 ? evfs_view_no_memory(err) : ret;
}

/* The next row, NULL at the end. */
static int peek(struct stream *stream, const struct stream_row **ret,
		struct evfs_err *err)
{
	if (stream->at == stream->n && stream->n > 0 && !stream->last) {
		struct stream_row tail = stream->rows[stream->n - 1];
		int result = fill(stream, tail.name, tail.name_len, err);

		if (result != 0)
			return result;
	}
	*ret = stream->at < stream->n ? &stream->rows[stream->at] : NULL;
	return 0;
}

/* ---- what has no row ---- */

static int compare_rows(const void *x, const void *y)
{
	const struct stream_row *a = x, *b = y;

	return compare_names(a->name, a->name_len, b->name, b->name_len);
}

static bool is_member(const struct evfs_dir *dir, evfs_ino ino)
{
	for (size_t i = 0; i < dir->n; i++)
		if (evfs_dot_equal(dir->members[i], ino))
			return true;
	return false;
}

static int add_extra(struct stream *extra, evfs_ino ino, const void *name,
		     size_t name_len, const void *after, size_t after_len)
{
	struct evfs_name_row row = { .name = name, .name_len = name_len,
				     .ino = ino, .kind = EVFS_KIND_DIR };

	if (after != NULL && compare_names(name, name_len, after,
					   after_len) <= 0)
		return 0;
	return push(extra, &row) == 0 ? 0 : EVFS_ENOMEM;
}

static int fill_extra(struct evfs_meta *meta, const struct evfs_dir *dir,
		      struct stream *extra, const void *after,
		      size_t after_len, struct evfs_err *err)
{
	const struct evfs_view_state *state = meta->view;
	int ret = 0;

	extra->last = true;
	for (size_t i = 0; i < state->n_cycles; i++) {
		const struct evfs_object *object;
		const struct evfs_place *place;

		if (!is_member(dir, state->cycles[i].shown_in))
			continue;
		ret = evfs_facts_get(meta->facts, state->cycles[i].dir,
				     &object, err);
		if (ret != 0)
			return ret;
		if (object == NULL)
			continue;
		place = &evfs_object_only_link(object)->place;
		if (add_extra(extra, object->ino, place->name, place->name_len,
			      after, after_len) != 0)
			return evfs_view_no_memory(err);
	}
	if (evfs_view_lost_used(meta) && is_member(dir, EVFS_INO_ROOT) &&
	    add_extra(extra, EVFS_INO_LOST, "lost+found", 10, after,
		      after_len) != 0)
		return evfs_view_no_memory(err);
	if (extra->n > 1)
		qsort(extra->rows, extra->n, sizeof(*extra->rows),
		      compare_rows);
	return 0;
}

/* ---- merging ---- */

struct merge {
	struct evfs_meta *meta;
	struct stream *streams; /* owned; the members', then the extra one */
	size_t n;
	struct evfs_view_rows rows; /* of the name that is next */
	uint8_t name[EVFS_NAME_MAX];
	size_t name_len;
	bool done;
};

static void merge_fini(struct merge *merge)
{
	for (size_t i = 0; merge->streams != NULL && i < merge->n; i++)
		evfs_free(merge->streams[i].rows);
	evfs_free(merge->streams);
	evfs_view_rows_fini(&merge->rows);
}

static int merge_init(struct merge *merge, struct evfs_meta *meta,
		      const struct evfs_dir *dir, const void *after,
		      size_t after_len, struct evfs_err *err)
{
	bool simple;
	int ret = evfs_view_is_simple(meta, &simple, err);

	*merge = (struct merge){ .meta = meta, .n = dir->n + 1 };
	if (ret == 0)
		ret = evfs_view_cycles(meta, err);
	if (ret != 0)
		return ret;
	merge->streams = evfs_calloc(merge->n, sizeof(*merge->streams));
	if (merge->streams == NULL)
		return evfs_view_no_memory(err);
	for (size_t i = 0; i < dir->n && ret == 0; i++) {
		merge->streams[i].meta = meta;
		merge->streams[i].dir = dir->members[i];
		ret = fill(&merge->streams[i], after, after_len, err);
	}
	merge->streams[dir->n].last = true;
	if (ret == 0 && !simple)
		ret = fill_extra(meta, dir, &merge->streams[dir->n], after,
				 after_len, err);
	return ret;
}

/* Directories that are shown elsewhere, or not at all, are left out. */
static int keep_row(struct merge *merge, const struct stream *stream,
		    const struct stream_row *row, struct evfs_err *err)
{
	struct evfs_name_row plain = { .ino = row->row.ino,
				       .link = row->row.link,
				       .kind = row->row.kind,
				       .multi = row->row.multi };
	bool shown = true;

	if (row->row.kind == EVFS_KIND_DIR) {
		int ret;

		if (stream->meta != NULL &&
		    evfs_view_is_undone(merge->meta, row->row.ino))
			return 0;
		ret = evfs_view_has_something(merge->meta, row->row.ino,
					      &shown, err);
		if (ret != 0)
			return ret;
	}
	if (shown && evfs_view_rows_add(&merge->rows, &plain) != 0)
		return evfs_view_no_memory(err);
	return 0;
}

/* Takes all rows of merge->name out of one stream. */
static int take_name(struct merge *merge, struct stream *stream,
		     struct evfs_err *err)
{
	for (;;) {
		const struct stream_row *row;
		int ret = peek(stream, &row, err);

		if (ret != 0 || row == NULL ||
		    compare_names(row->name, row->name_len, merge->name,
				  merge->name_len) != 0)
			return ret;
		ret = keep_row(merge, stream, row, err);
		if (ret != 0)
			return ret;
		stream->at++;
	}
}

/* The next name with at least one row. */
static int merge_next(struct merge *merge, struct evfs_err *err)
{
	do {
		const struct stream_row *least = NULL;

		merge->rows.n = 0;
		for (size_t i = 0; i < merge->n; i++) {
			const struct stream_row *row;
			int ret = peek(&merge->streams[i], &row, err);

			if (ret != 0)
				return ret;
			if (row != NULL &&
			    (least == NULL || compare_rows(row, least) < 0))
				least = row;
		}
		if (least == NULL) {
			merge->done = true;
			return 0;
		}
		merge->name_len = least->name_len;
		memcpy(merge->name, least->name, least->name_len);
		for (size_t i = 0; i < merge->n; i++) {
			int ret = take_name(merge, &merge->streams[i], err);

			if (ret != 0)
				return ret;
		}
	} while (merge->rows.n == 0);
	return 0;
}

int evfs_view_each_name(struct evfs_meta *meta, const struct evfs_dir *dir,
			const char *after, size_t after_len,
			int (*each)(void *arg, const char *name,
				    size_t name_len,
				    const struct evfs_view_rows *rows),
			void *arg, struct evfs_err *err)
{
	struct merge merge;
	int ret = merge_init(&merge, meta, dir, after, after_len, err);

	while (ret == 0) {
		ret = merge_next(&merge, err);
		if (ret != 0 || merge.done)
			break;
		ret = each(arg, (const char *)merge.name, merge.name_len,
			   &merge.rows);
	}
	merge_fini(&merge);
	return ret;
}

/* ---- the list ---- */

struct lister {
	struct evfs_meta *meta;
	struct evfs_waiting *waiting;
	size_t at;    /* the next sibling */
	int (*each)(void *arg, struct evfs_entry *entry);
	void *arg;
	bool stopped; /* by each */
	struct evfs_err *err;
};

static int hand_out(struct lister *lister, struct evfs_entry *entry)
{
	lister->stopped = lister->each(lister->arg, entry) != 0;
	evfs_entry_fini(entry);
	return lister->stopped;
}

/* Siblings before name (NULL: all that are left). */
static int list_siblings(struct lister *lister, const char *name,
			 size_t name_len)
{
	while (lister->at < lister->waiting->n) {
		const struct evfs_entry *sibling =
			&lister->waiting->items[lister->at].entry;
		struct evfs_entry copy;
		int order = name == NULL ? -1 :
			compare_names(sibling->name, sibling->name_len, name,
				      name_len);

		if (order > 0)
			return 0;
		lister->at++;
		if (order == 0) /* a real name beats it */
			continue;
		if (evfs_entry_copy(sibling, &copy) != 0)
			return evfs_view_no_memory(lister->err);
		if (hand_out(lister, &copy))
			return 1;
	}
	return 0;
}

static int list_name(void *arg, const char *name, size_t name_len,
		     const struct evfs_view_rows *rows)
{
	struct lister *lister = arg;
	struct evfs_view_items items = { 0 };
	int ret = list_siblings(lister, name, name_len);

	if (ret == 0)
		ret = evfs_view_items_of(lister->meta, name, name_len, rows,
					 &items, lister->err);
	if (ret == 0 && items.n > 0) {
		struct evfs_entry entry;

		evfs_view_items_take(&items, 0, &entry);
		ret = hand_out(lister, &entry);
	}
	evfs_view_items_fini(&items);
	return ret;
}

int evfs_view_list(struct evfs_meta *meta, evfs_ino dir, const char *after,
		   size_t after_len,
		   int (*each)(void *arg, struct evfs_entry *entry),
		   void *arg, struct evfs_err *err)
{
	struct lister lister = { .meta = meta, .each = each, .arg = arg,
				 .err = err };
	struct evfs_dir members = { 0 };
	int ret = evfs_view_dir(meta, dir, &members, err);

	if (ret != 0)
		return ret;
	ret = evfs_view_waiting(meta, &members, &lister.waiting, err);
	if (ret != 0)
		goto out;
	while (after != NULL && lister.at < lister.waiting->n) {
		const struct evfs_entry *first =
			&lister.waiting->items[lister.at].entry;

		if (compare_names(first->name, first->name_len, after,
				  after_len) > 0)
			break;
		lister.at++;
	}
	ret = evfs_view_each_name(meta, &members, after, after_len, list_name,
				  &lister, err);
	if (ret == 0)
		ret = list_siblings(&lister, NULL, 0);
	if (lister.stopped)
		ret = 0;
out:
	evfs_waiting_unref(lister.waiting);
	evfs_dir_fini(&members);
	return ret;
}

static int see_entry(void *arg, struct evfs_entry *entry)
{
	(void)entry;
	*(bool *)arg = false;
	return 1;
}

int evfs_view_is_empty(struct evfs_meta *meta, evfs_ino dir, bool *ret,
		       struct evfs_err *err)
{
	bool empty = true;
	int result = evfs_view_list(meta, dir, NULL, 0, see_entry, &empty, err);

	if (result == 0)
		*ret = empty;
	return result;
}
