/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What the view remembers between calls, and when it forgets it. */
#include "meta/view_priv.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

int evfs_view_no_memory(struct evfs_err *err)
{
	return evfs_err_set(err, EVFS_ENOMEM, "view: out of memory");
}

/* ---- forgetting ---- */

static void drop_dirs(struct evfs_view_state *state)
{
	evfs_inomap_fini(&state->shown);
	while (state->infos != NULL) {
		struct evfs_view_dir_info *info = state->infos;

		state->infos = info->next;
		evfs_free(info);
	}
}

static void drop_clashes(struct evfs_view_state *state)
{
	for (size_t i = 0; i < state->n_clashes; i++)
		evfs_free(state->clashes[i].name);
	state->n_clashes = 0;
	state->clashes_known = false;
}

static void drop_all(struct evfs_view_state *state)
{
	drop_dirs(state);
	drop_clashes(state);
	evfs_waiting_unref(evfs_steal(state->waiting));
	state->lost_known = false;
	state->cycles_known = false;
}

int evfs_view_state_new(struct evfs_meta *meta, struct evfs_err *err)
{
	assert(meta->view == NULL);
	meta->view = evfs_calloc(1, sizeof(*meta->view));
	return meta->view == NULL ? evfs_view_no_memory(err) : 0;
}

void evfs_view_state_free(struct evfs_meta *meta)
{
	if (meta->view == NULL)
		return;
	drop_all(meta->view);
	evfs_free(meta->view->cycles);
	evfs_free(meta->view->clashes);
	evfs_free(evfs_steal(meta->view));
}

void evfs_view_state_reset(struct evfs_meta *meta)
{
	if (meta->view != NULL)
		drop_all(meta->view);
}

void evfs_view_check(struct evfs_meta *meta)
{
	const evfs_hash *root = evfs_facts_root(meta->facts);

	if (evfs_hash_equal(root, &meta->view->root))
		return;
	drop_all(meta->view);
	meta->view->root = *root;
}

void evfs_view_changed(struct evfs_meta *meta, bool shape, bool clashes,
		       bool lost)
{
	struct evfs_view_state *state = meta->view;
	bool moved_back = state->cycles_known && state->n_cycles > 0;

	/* A file may be all that a dead directory beside a cycle shows. */
	if (shape || lost || moved_back)
		drop_dirs(state);
	if (shape)
		state->cycles_known = false;
	if (lost)
		state->lost_known = false;
	if (clashes)
		drop_clashes(state);
	evfs_waiting_unref(evfs_steal(state->waiting));
	state->root = *evfs_facts_root(meta->facts);
}

/* ---- filling ---- */

static int see_row(void *arg, const struct evfs_name_row *row)
{
	(void)row;
	*(bool *)arg = true;
	return 1;
}

int evfs_view_is_simple(struct evfs_meta *meta, bool *ret,
			struct evfs_err *err)
{
	struct evfs_view_state *state = meta->view;

	evfs_view_check(meta);
	if (!state->lost_known) {
		int result;

		state->lost_rows = false;
		result = evfs_facts_names_after(meta->facts, EVFS_INO_LOST,
						NULL, 0, 1, see_row,
						&state->lost_rows, err);
		if (result != 0)
			return result;
		state->lost_known = true;
	}
	*ret = !state->lost_rows &&
	       evfs_facts_counter(meta->facts, EVFS_COUNTER_DIR_DUPS) == 0 &&
	       evfs_facts_counter(meta->facts, EVFS_COUNTER_CYCLES) == 0;
	return 0;
}

static int compare_cycles(const void *a, const void *b)
{
	return evfs_dot_cmp(((const struct evfs_cycle_row *)a)->dir,
			    ((const struct evfs_cycle_row *)b)->dir);
}

static int take_cycle(void *arg, const struct evfs_cycle_row *row)
{
	struct evfs_view_state *state = arg;

	if (evfs_dot_equal(row->shown_in, EVFS_INO_NONE))
		return 0;
	if (evfs_grow((void **)&state->cycles, state->n_cycles,
		      &state->cap_cycles, sizeof(*state->cycles)) != 0) {
		state->failed = EVFS_ENOMEM;
		return 1;
	}
	state->cycles[state->n_cycles++] = *row;
	return 0;
}

int evfs_view_cycles(struct evfs_meta *meta, struct evfs_err *err)
{
	struct evfs_view_state *state = meta->view;
	int ret;

	if (state->cycles_known)
		return 0;
	state->n_cycles = 0;
	if (evfs_facts_counter(meta->facts, EVFS_COUNTER_CYCLES) > 0) {
		state->failed = 0;
		ret = evfs_facts_cycles(meta->facts, take_cycle, state, err);
		if (ret != 0 || state->failed != 0)
			return state->failed ? evfs_view_no_memory(err) : ret;
	}
	if (state->n_cycles > 1)
		qsort(state->cycles, state->n_cycles, sizeof(*state->cycles),
		      compare_cycles);
	state->cycles_known = true;
	return 0;
}

bool evfs_view_lost_used(struct evfs_meta *meta)
{
	const struct evfs_view_state *state = meta->view;

	assert(state->lost_known && state->cycles_known);
	for (size_t i = 0; i < state->n_cycles; i++)
		if (evfs_ino_is_lost(state->cycles[i].shown_in))
			return true;
	return state->lost_rows;
}

static int compare_clashes(const void *x, const void *y)
{
	const struct evfs_view_clash *a = x, *b = y;
	size_t len = a->name_len < b->name_len ? a->name_len : b->name_len;
	int order = evfs_dot_cmp(a->parent, b->parent);

	if (order == 0)
		order = memcmp(a->name, b->name, len);
	if (order == 0 && a->name_len != b->name_len)
		order = a->name_len < b->name_len ? -1 : 1;
	return order;
}

static int take_clash(void *arg, evfs_ino parent, const uint8_t *name,
		      size_t name_len)
{
	struct evfs_view_state *state = arg;
	struct evfs_view_clash *clash;

	if (evfs_grow((void **)&state->clashes, state->n_clashes,
		      &state->cap_clashes, sizeof(*state->clashes)) != 0) {
		state->failed = EVFS_ENOMEM;
		return 1;
	}
	clash = &state->clashes[state->n_clashes];
	*clash = (struct evfs_view_clash){ parent, evfs_memdup(name, name_len),
					   name_len };
	if (clash->name == NULL) {
		state->failed = EVFS_ENOMEM;
		return 1;
	}
	state->n_clashes++;
	return 0;
}

static int load_clashes(struct evfs_meta *meta, struct evfs_err *err)
{
	struct evfs_view_state *state = meta->view;
	int ret;

	if (state->clashes_known)
		return 0;
	drop_clashes(state);
	state->failed = 0;
	ret = evfs_facts_clashes(meta->facts, take_clash, state, err);
	if (ret != 0 || state->failed != 0)
		return state->failed != 0 ? evfs_view_no_memory(err) : ret;
	if (state->n_clashes > 1)
		qsort(state->clashes, state->n_clashes,
		      sizeof(*state->clashes), compare_clashes);
	state->clashes_known = true;
	return 0;
}

/* The first clash whose parent is not before (or, with after, is behind). */
static size_t bound(const struct evfs_view_state *state, evfs_ino parent,
		    bool after)
{
	size_t low = 0, high = state->n_clashes;

	while (low < high) {
		size_t mid = low + (high - low) / 2;
		int order = evfs_dot_cmp(state->clashes[mid].parent, parent);

		if (order < 0 || (after && order == 0))
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

int evfs_view_clashes_of(struct evfs_meta *meta, evfs_ino parent,
			 size_t *ret_first, size_t *ret_n,
			 struct evfs_err *err)
{
	int ret = load_clashes(meta, err);

	if (ret != 0)
		return ret;
	*ret_first = bound(meta->view, parent, false);
	*ret_n = bound(meta->view, parent, true) - *ret_first;
	return 0;
}
