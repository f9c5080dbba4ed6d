/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The index from scratch: everything derived is thrown away, then each object
 * is taken as new. Content references and history are not derived from the
 * objects alone and stay; so do the times of directories. */
#include "meta/index_priv.h"

#include <string.h>

#include "base/mem.h"
#include "meta/collect.h"
#include "meta/graves.h"
#include "meta/view_priv.h"

#define BATCH 256

struct gather {
	struct evfs_inolist inos;    /* all objects */
	struct evfs_inomap parents;  /* whatever may have rows below it */
	struct evfs_inolist folders; /* the same as a list */
};

static int gather_parent(struct gather *all, evfs_ino ino)
{
	if (evfs_dot_equal(ino, EVFS_INO_NONE) ||
	    evfs_inomap_get(&all->parents, ino) != NULL)
		return 0;
	if (evfs_inomap_put(&all->parents, ino, all) != 0)
		return EVFS_ENOMEM;
	return evfs_inolist_add(&all->folders, ino);
}

static int gather_object(void *arg, const struct evfs_object *object)
{
	struct gather *all = arg;
	int ret = evfs_inolist_add(&all->inos, object->ino);

	if (ret == 0 && object->kind == EVFS_KIND_DIR)
		ret = gather_parent(all, object->ino);
	for (size_t i = 0; i < object->n_links && ret == 0; i++)
		ret = gather_parent(all, object->links[i].place.parent);
	return ret;
}

/* ---- throwing away ---- */

struct row_copy {
	struct evfs_name_row row;
	uint8_t name[EVFS_NAME_MAX];
};

struct rows {
	struct row_copy items[BATCH];
	size_t n;
};

static int copy_row(void *arg, const struct evfs_name_row *row)
{
	struct rows *rows = arg;
	struct row_copy *copy = &rows->items[rows->n];

	if (rows->n == BATCH)
		return 1;
	copy->row = *row;
	memcpy(copy->name, row->name, row->name_len);
	copy->row.name = copy->name;
	rows->n++;
	return 0;
}

static int clear_rows(struct evfs_facts *facts, evfs_ino parent,
		      struct rows *rows, struct evfs_err *err)
{
	do {
		int ret;

		rows->n = 0;
		ret = evfs_facts_names_after(facts, parent, NULL, 0, BATCH,
					     copy_row, rows, err);
		for (size_t i = 0; i < rows->n && ret == 0; i++)
			ret = evfs_facts_name_remove(facts, parent,
						     &rows->items[i].row, err);
		if (ret != 0)
			return ret;
	} while (rows->n == BATCH);
	return 0;
}

/* Clash rows and cycle rows, copied to be removed. */
struct leftover {
	struct evfs_buf bytes; /* parent, length, name; or the cycle row */
	int failed;
};

static int copy_clash(void *arg, evfs_ino parent, const uint8_t *name,
		      size_t name_len)
{
	struct leftover *left = arg;
	uint8_t dot[EVFS_DOT_BYTES];

	evfs_dot_write(parent, dot);
	if (evfs_buf_put(&left->bytes, dot, sizeof(dot)) != 0 ||
	    evfs_buf_put_u8(&left->bytes, (uint8_t)name_len) != 0 ||
	    evfs_buf_put(&left->bytes, name, name_len) != 0)
		left->failed = EVFS_ENOMEM;
	return left->failed != 0;
}

static int copy_cycle(void *arg, const struct evfs_cycle_row *row)
{
	struct leftover *left = arg;

	if (evfs_buf_put(&left->bytes, row, sizeof(*row)) != 0)
		left->failed = EVFS_ENOMEM;
	return left->failed != 0;
}

static int clear_clashes(struct evfs_facts *facts, struct evfs_err *err)
{
	struct leftover left = { 0 };
	int ret = evfs_facts_clashes(facts, copy_clash, &left, err);
	size_t at = 0;

	if (left.failed != 0)
		ret = evfs_err_set(err, EVFS_ENOMEM, "index: out of memory");
	while (ret == 0 && at < left.bytes.len) {
		const uint8_t *row = left.bytes.data + at;
		size_t len = row[EVFS_DOT_BYTES];

		ret = evfs_facts_clash_set(facts, evfs_dot_read(row),
					   row + EVFS_DOT_BYTES + 1, len,
					   false, err);
		at += EVFS_DOT_BYTES + 1 + len;
	}
	evfs_buf_fini(&left.bytes);
	return ret;
}

static int clear_cycles(struct evfs_facts *facts, struct evfs_err *err)
{
	struct leftover left = { 0 };
	int ret = evfs_facts_cycles(facts, copy_cycle, &left, err);
	size_t n = left.bytes.len / sizeof(struct evfs_cycle_row);

	if (left.failed != 0)
		ret = evfs_err_set(err, EVFS_ENOMEM, "index: out of memory");
	for (size_t i = 0; i < n && ret == 0; i++) {
		struct evfs_cycle_row row;

		memcpy(&row, left.bytes.data + i * sizeof(row), sizeof(row));
		ret = evfs_facts_set_cycle(facts, &row, false, err);
	}
	evfs_buf_fini(&left.bytes);
	return ret;
}

static int clear(struct evfs_facts *facts, const struct gather *all,
		 struct evfs_err *err)
{
	evfs_cleanup_free struct rows *rows = evfs_calloc(1, sizeof(*rows));
	evfs_hash root = *evfs_facts_root(facts);
	int ret = 0;

	if (rows == NULL)
		return evfs_err_set(err, EVFS_ENOMEM, "index: out of memory");
	for (size_t i = 0; i < all->folders.n && ret == 0; i++) {
		evfs_ino dir = all->folders.items[i];

		ret = clear_rows(facts, dir, rows, err);
		if (ret == 0 && !evfs_ino_is_root(dir) &&
		    !evfs_ino_is_lost(dir))
			ret = evfs_facts_set_needed(facts, dir, false, err);
	}
	if (ret == 0)
		ret = clear_clashes(facts, err);
	if (ret == 0)
		ret = clear_cycles(facts, err);
	if (ret == 0)
		ret = evfs_graves_clear(facts, err);
	for (int i = 0; i < EVFS_COUNTER_N; i++) {
		enum evfs_counter which = (enum evfs_counter)i;

		evfs_facts_counter_add(facts, which,
				       -evfs_facts_counter(facts, which));
	}
	evfs_facts_root_change(facts, &root, NULL);
	return ret != 0 ? ret : evfs_facts_merkle_reset(facts, err);
}

/* ---- and making anew ---- */

static int add_file(struct evfs_index *ix, const struct evfs_object *file,
		    struct evfs_err *err)
{
	bool live = evfs_object_is_live(file);
	bool unsealed = false;
	int ret = 0;

	if (file->kind == EVFS_KIND_FILE && file->n_versions == 0)
		ret = evfs_facts_is_unsealed(ix->facts, file->ino, &unsealed,
					     err);
	if (ret == 0 && live)
		ret = evfs_index_count(ix, file, 1, err);
	for (size_t i = 0; i < file->n_links && ret == 0; i++) {
		const struct evfs_link *link = &file->links[i];

		if (link->alive.n == 0 || (!live && !unsealed))
			continue;
		ret = evfs_index_row_add(ix, &link->place, file, &link->id,
					 err);
		if (ret == 0 && live &&
		    evfs_inolist_add(&ix->gains, link->place.parent) != 0)
			ret = evfs_err_set(err, EVFS_ENOMEM,
					   "index: out of memory");
	}
	return ret;
}

static int add_object(struct evfs_index *ix, evfs_ino ino,
		      struct evfs_err *err)
{
	const struct evfs_object *object;
	int ret = evfs_facts_get(ix->facts, ino, &object, err);

	if (ret == 0 && object != NULL)
		ret = evfs_collect_note(ix->meta, NULL, object, err);
	if (ret != 0 || object == NULL)
		return ret;
	if (evfs_ino_is_root(ino))
		return evfs_index_count(ix, object, 1, err);
	if (object->kind != EVFS_KIND_DIR)
		return add_file(ix, object, err);
	if (evfs_object_only_link(object)->alive.n > 0 &&
	    evfs_inolist_add(&ix->gains, ino) != 0)
		return evfs_err_set(err, EVFS_ENOMEM, "index: out of memory");
	return 0;
}

static int rebuild(struct evfs_index *ix, struct evfs_err *err)
{
	struct gather all = { 0 };
	int ret = evfs_facts_each(ix->facts, gather_object, &all, err);

	if (ret == 0 && (gather_parent(&all, EVFS_INO_ROOT) != 0 ||
			 gather_parent(&all, EVFS_INO_LOST) != 0))
		ret = EVFS_ENOMEM;
	if (ret == EVFS_ENOMEM)
		(void)evfs_err_set(err, ret, "index: out of memory");
	if (ret == 0)
		ret = clear(ix->facts, &all, err);
	for (size_t i = 0; i < all.inos.n && ret == 0; i++)
		ret = add_object(ix, all.inos.items[i], err);
	if (ret == 0)
		ret = evfs_index_settle_needed(ix, err);
	ix->shape = true;
	if (ret == 0)
		ret = evfs_index_settle_cycles(ix, err);
	evfs_inolist_fini(&all.inos);
	evfs_inolist_fini(&all.folders);
	evfs_inomap_fini(&all.parents);
	return ret;
}

int evfs_index_rebuild(struct evfs_meta *meta, struct evfs_err *err)
{
	struct evfs_change change = { .kind = EVFS_CHANGE_ALL };
	struct evfs_index ix = { .meta = meta, .facts = meta->facts,
				 .origin = EVFS_FEED_REMOTE, .quiet = true };
	int ret = evfs_meta_begin_write(meta, err);

	if (ret == 0)
		ret = evfs_facts_save(meta->facts, err);
	if (ret != 0)
		return ret;
	ret = rebuild(&ix, err);
	if (ret == 0)
		ret = evfs_facts_release(meta->facts, err);
	if (ret != 0)
		evfs_facts_rollback(meta->facts);
	evfs_view_state_reset(meta);
	evfs_inolist_fini(&ix.gains);
	evfs_inolist_fini(&ix.losses);
	evfs_inolist_fini(&ix.moved);
	if (ret == 0)
		evfs_feed_note(meta, &change);
	return ret;
}
