/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Generated names (rule 4). Real names beat generated ones, and generated ones
 * are given out in the order (plain name, dot): 8 digits, then 16, then 32;
 * where that does not help (two long names cut to one stem, one version) the
 * plain name goes into the digest too.
 *
 * In full this needs all siblings of a directory (evfs_view_waiting). Mostly
 * it does not: a sibling has its 8 digits unless something else in the
 * directory could have that name: a real name, which the index tells, or
 * another sibling. Those that could are found from the name itself: taking
 * ".conflict-NODE-DIGITS" out of it gives the plain name it stands beside,
 * unless the stem was cut, which happens to long names only; and clashing long
 * names are few, so each is looked at. */
#include "meta/view_priv.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "meta/members.h"

static const char conflict_mark[] = ".conflict-";
#define MARK_LEN (sizeof(conflict_mark) - 1)

static int compare_bytes(const void *a, size_t a_len, const void *b,
			 size_t b_len)
{
	int order = memcmp(a, b, a_len < b_len ? a_len : b_len);

	if (order == 0 && a_len != b_len)
		order = a_len < b_len ? -1 : 1;
	return order;
}

bool evfs_view_looks_generated(const void *name, size_t len)
{
	const char *text = name;

	for (size_t i = 0; i + MARK_LEN <= len; i++)
		if (memcmp(text + i, conflict_mark, MARK_LEN) == 0)
			return true;
	return false;
}

/* form: 0 to 2 for 8, 16, 32 digits; 3: 32 and salted. */
static size_t make_name(struct evfs_meta *meta,
			const struct evfs_view_item *item, int form, char *out)
{
	const char *node = evfs_members_node_name(meta, item->dot.actor.node);

	return evfs_sibling_name(item->entry.plain, item->entry.plain_len,
				 item->dot, node, form > 2 ? 32 : 8 << form,
				 form > 2, out);
}

/* ---- all siblings of a directory ---- */

void evfs_waiting_unref(struct evfs_waiting *waiting)
{
	if (waiting == NULL || --waiting->refs > 0)
		return;
	for (size_t i = 0; i < waiting->n; i++)
		evfs_entry_fini(&waiting->items[i].entry);
	evfs_free(waiting->items);
	evfs_free(waiting);
}

/* Takes the siblings of a group. */
static int collect(struct evfs_waiting *waiting, struct evfs_view_items *items,
		   struct evfs_err *err)
{
	for (size_t i = 1; i < items->n; i++) {
		struct evfs_view_item *item;

		if (evfs_grow((void **)&waiting->items, waiting->n,
			      &waiting->cap, sizeof(*waiting->items)) != 0)
			return evfs_view_no_memory(err);
		item = &waiting->items[waiting->n++];
		item->dot = items->items[i].dot;
		evfs_view_items_take(items, i, &item->entry);
	}
	return 0;
}

struct collector {
	struct evfs_meta *meta;
	struct evfs_waiting *waiting;
	struct evfs_err *err;
};

static int collect_name(void *arg, const char *name, size_t name_len,
			const struct evfs_view_rows *rows)
{
	struct collector *collector = arg;
	struct evfs_view_items items = { 0 };
	int ret;

	if (rows->n == 1 && !rows->items[0].multi)
		return 0;
	ret = evfs_view_items_of(collector->meta, name, name_len, rows, &items,
				 collector->err);
	if (ret == 0)
		ret = collect(collector->waiting, &items, collector->err);
	evfs_view_items_fini(&items);
	return ret;
}

/* Do the clash rows tell all? Files of one name in two members clash without
 * one, and so does a file with a directory that has its row elsewhere. */
static bool has_all_clashes(struct evfs_meta *meta, const struct evfs_dir *dir)
{
	const struct evfs_view_state *state = meta->view;

	if (dir->n > 1 ||
	    (evfs_ino_is_root(dir->members[0]) && evfs_view_lost_used(meta)))
		return false;
	for (size_t i = 0; i < state->n_cycles; i++)
		if (evfs_dot_equal(state->cycles[i].shown_in, dir->members[0]))
			return false;
	return true;
}

static int collect_clashes(struct collector *collector,
			   const struct evfs_dir *dir)
{
	size_t first, n;
	int ret = evfs_view_clashes_of(collector->meta, dir->members[0],
				       &first, &n, collector->err);

	for (size_t i = 0; i < n && ret == 0; i++) {
		const struct evfs_view_clash *clash =
			&collector->meta->view->clashes[first + i];
		struct evfs_view_items items = { 0 };

		ret = evfs_view_items_at(collector->meta, dir, clash->name,
					 clash->name_len, &items,
					 collector->err);
		if (ret == 0)
			ret = collect(collector->waiting, &items,
				      collector->err);
		evfs_view_items_fini(&items);
	}
	return ret;
}

static int by_plain(const void *x, const void *y)
{
	const struct evfs_view_item *a = x, *b = y;
	int order = compare_bytes(a->entry.plain, a->entry.plain_len,
				  b->entry.plain, b->entry.plain_len);

	return order != 0 ? order : evfs_dot_cmp(a->dot, b->dot);
}

static int by_name(const void *x, const void *y)
{
	const struct evfs_view_item *a = x, *b = y;

	return compare_bytes(a->entry.name, a->entry.name_len, b->entry.name,
			     b->entry.name_len);
}

/* The names given so far: pointers into the entries, sorted. */
struct given {
	const struct evfs_entry **items; /* owned */
	size_t n;
};

static size_t given_place(const struct given *given, const char *name,
			  size_t len, bool *ret_there)
{
	size_t low = 0, high = given->n;

	while (low < high) {
		size_t mid = low + (high - low) / 2;
		int order = compare_bytes(given->items[mid]->name,
					  given->items[mid]->name_len, name,
					  len);

		if (order == 0) {
			*ret_there = true;
			return mid;
		}
		if (order < 0)
			low = mid + 1;
		else
			high = mid;
	}
	*ret_there = false;
	return low;
}

static int is_real(struct evfs_meta *meta, const struct evfs_dir *dir,
		   const char *name, size_t len, bool *ret,
		   struct evfs_err *err)
{
	struct evfs_view_rows rows = { 0 };
	int result = evfs_view_rows_at(meta, dir, name, len, &rows, err);

	*ret = rows.n > 0;
	evfs_view_rows_fini(&rows);
	return result;
}

static int give(struct evfs_meta *meta, const struct evfs_dir *dir,
		struct evfs_view_item *item, struct given *given,
		struct evfs_err *err)
{
	struct evfs_entry *entry = &item->entry;
	size_t place = 0;
	bool taken = true;

	for (int form = 0; form < 4 && taken; form++) {
		int ret;

		entry->name_len = make_name(meta, item, form, entry->name);
		place = given_place(given, entry->name, entry->name_len,
				    &taken);
		if (taken)
			continue;
		ret = is_real(meta, dir, entry->name, entry->name_len, &taken,
			      err);
		if (ret != 0)
			return ret;
	}
	memmove(given->items + place + 1, given->items + place,
		(given->n - place) * sizeof(*given->items));
	given->items[place] = entry;
	given->n++;
	return 0;
}

static int give_names(struct evfs_meta *meta, const struct evfs_dir *dir,
		      struct evfs_waiting *waiting, struct evfs_err *err)
{
	struct given given = { 0 };
	int ret = 0;

	if (waiting->n == 0)
		return 0;
	qsort(waiting->items, waiting->n, sizeof(*waiting->items), by_plain);
	given.items = evfs_calloc(waiting->n, sizeof(*given.items));
	if (given.items == NULL)
		return evfs_view_no_memory(err);
	for (size_t i = 0; i < waiting->n && ret == 0; i++)
		ret = give(meta, dir, &waiting->items[i], &given, err);
	evfs_free(given.items);
	qsort(waiting->items, waiting->n, sizeof(*waiting->items), by_name);
	return ret;
}

int evfs_view_waiting(struct evfs_meta *meta, const struct evfs_dir *dir,
		      struct evfs_waiting **ret, struct evfs_err *err)
{
	struct evfs_waiting *waiting;
	struct collector collector = { meta, NULL, err };
	bool simple;
	int result;

	result = evfs_view_is_simple(meta, &simple, err);
	if (result == 0)
		result = evfs_view_cycles(meta, err);
	if (result != 0)
		return result;
	waiting = meta->view->waiting;
	if (waiting != NULL && evfs_dot_equal(waiting->face, dir->members[0])) {
		waiting->refs++;
		*ret = waiting;
		return 0;
	}
	waiting = evfs_calloc(1, sizeof(*waiting));
	if (waiting == NULL)
		return evfs_view_no_memory(err);
	waiting->refs = 1;
	waiting->face = dir->members[0];
	collector.waiting = waiting;
	if (has_all_clashes(meta, dir))
		result = collect_clashes(&collector, dir);
	else
		result = evfs_view_each_name(meta, dir, NULL, 0, collect_name,
					     &collector, err);
	if (result == 0)
		result = give_names(meta, dir, waiting, err);
	if (result != 0) {
		evfs_waiting_unref(waiting);
		return result;
	}
	evfs_waiting_unref(meta->view->waiting);
	meta->view->waiting = waiting;
	waiting->refs++;
	*ret = waiting;
	return 0;
}

const struct evfs_view_item *
evfs_waiting_find(const struct evfs_waiting *waiting, const char *name,
		  size_t name_len)
{
	size_t low = 0, high = waiting->n;

	while (low < high) {
		size_t mid = low + (high - low) / 2;
		const struct evfs_entry *entry = &waiting->items[mid].entry;
		int order = compare_bytes(entry->name, entry->name_len, name,
					  name_len);

		if (order == 0)
			return &waiting->items[mid];
		if (order < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return NULL;
}

/* ---- one sibling ---- */

static bool is_hex(const char *text, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!((text[i] >= '0' && text[i] <= '9') ||
		      (text[i] >= 'a' && text[i] <= 'f')))
			return false;
	return true;
}

static void add_plain(struct evfs_view_plains *plains, const void *a,
		      size_t a_len, const void *b, size_t b_len)
{
	char text[EVFS_NAME_MAX + 1];

	if (a_len + b_len == 0 || a_len + b_len > EVFS_NAME_MAX)
		return;
	memcpy(text, a, a_len);
	memcpy(text + a_len, b, b_len);
	text[a_len + b_len] = '\0';
	for (size_t i = 0; i < plains->n; i++)
		if (plains->items[i].len == a_len + b_len &&
		    memcmp(plains->items[i].text, text, a_len + b_len) == 0)
			return;
	if (plains->n == EVFS_VIEW_PLAINS_MAX) {
		plains->overflow = true;
		return;
	}
	plains->items[plains->n].len = a_len + b_len;
	memcpy(plains->items[plains->n++].text, text, a_len + b_len + 1);
}

void evfs_view_plains(const char *name, size_t name_len,
		      struct evfs_view_plains *ret)
{
	ret->n = 0;
	ret->overflow = false;
	for (size_t i = 1; i + MARK_LEN < name_len; i++) {
		if (memcmp(name + i, conflict_mark, MARK_LEN) != 0)
			continue;
		for (size_t j = i + MARK_LEN + 9; j <= name_len; j++) {
			if (j < name_len && name[j] != '.')
				continue;
			for (size_t digits = 8; digits <= 32; digits *= 2)
				if (j >= i + MARK_LEN + 1 + digits &&
				    name[j - digits - 1] == '-' &&
				    is_hex(name + j - digits, digits)) {
					add_plain(ret, name, i, name + j,
						  name_len - j);
					break;
				}
		}
	}
}

/* Is `name` what this item, and no other sibling of the directory, could be
 * called? */
static int count_claims(struct evfs_meta *meta, const struct evfs_dir *dir,
			const char *name, size_t name_len,
			const struct evfs_view_plains *plains,
			size_t *ret_claims, struct evfs_err *err)
{
	*ret_claims = 0;
	for (size_t p = 0; p < plains->n; p++) {
		struct evfs_view_items items = { 0 };
		int ret = evfs_view_items_at(meta, dir, plains->items[p].text,
					     plains->items[p].len, &items, err);

		for (size_t i = 1; i < items.n && ret == 0; i++)
			for (int form = 0; form < 4; form++) {
				char made[EVFS_NAME_MAX + 1];
				size_t len = make_name(meta, &items.items[i],
						       form, made);

				*ret_claims += len == name_len &&
					       memcmp(made, name, len) == 0;
			}
		evfs_view_items_fini(&items);
		if (ret != 0)
			return ret;
	}
	return 0;
}

/* Adds the clashing names of a directory that are long enough to be cut. */
static int add_long_clashes(struct evfs_meta *meta, const struct evfs_dir *dir,
			    struct evfs_view_plains *plains,
			    struct evfs_err *err)
{
	size_t first, n;
	int ret = evfs_view_clashes_of(meta, dir->members[0], &first, &n, err);

	if (ret != 0)
		return ret;
	for (size_t i = first; i < first + n && !plains->overflow; i++) {
		const struct evfs_view_clash *clash = &meta->view->clashes[i];

		if (clash->name_len > EVFS_VIEW_UNCUT_MAX)
			add_plain(plains, clash->name, clash->name_len, "", 0);
	}
	return 0;
}

int evfs_view_claimants(struct evfs_meta *meta, const struct evfs_dir *dir,
			const char *name, size_t name_len,
			struct evfs_view_plains *plains, size_t *ret_claims,
			struct evfs_err *err)
{
	bool simple;
	int ret = evfs_view_is_simple(meta, &simple, err);

	if (ret == 0)
		ret = evfs_view_cycles(meta, err);
	if (ret != 0)
		return ret;
	evfs_view_plains(name, name_len, plains);
	if (has_all_clashes(meta, dir))
		ret = add_long_clashes(meta, dir, plains, err);
	else
		plains->overflow = true;
	*ret_claims = SIZE_MAX;
	if (ret == 0 && !plains->overflow)
		ret = count_claims(meta, dir, name, name_len, plains,
				   ret_claims, err);
	return ret;
}

/* The short way; *ret_sure false: it does not tell. */
static int name_alone(struct evfs_meta *meta, const struct evfs_dir *dir,
		      struct evfs_view_item *item, bool *ret_sure,
		      struct evfs_err *err)
{
	struct evfs_entry *entry = &item->entry;
	struct evfs_view_plains plains;
	size_t claims;
	bool real;
	int ret;

	*ret_sure = false;
	entry->name_len = make_name(meta, item, 0, entry->name);
	ret = is_real(meta, dir, entry->name, entry->name_len, &real, err);
	if (ret != 0 || real)
		return ret;
	ret = evfs_view_claimants(meta, dir, entry->name, entry->name_len,
				  &plains, &claims, err);
	*ret_sure = claims == 1; /* its own */
	return ret;
}

int evfs_view_name_items(struct evfs_meta *meta, const struct evfs_dir *dir,
			 struct evfs_view_items *items, struct evfs_err *err)
{
	struct evfs_waiting *waiting = NULL;
	bool sure = true;
	int ret = 0;

	for (size_t i = 1; i < items->n && ret == 0 && sure; i++)
		ret = name_alone(meta, dir, &items->items[i], &sure, err);
	if (ret != 0 || sure)
		return ret;
	ret = evfs_view_waiting(meta, dir, &waiting, err);
	for (size_t i = 1; i < items->n && ret == 0; i++) {
		struct evfs_view_item *item = &items->items[i];

		for (size_t k = 0; k < waiting->n; k++) {
			const struct evfs_view_item *named = &waiting->items[k];

			if (by_plain(named, item) != 0)
				continue;
			memcpy(item->entry.name, named->entry.name,
			       sizeof(item->entry.name));
			item->entry.name_len = named->entry.name_len;
		}
	}
	evfs_waiting_unref(waiting);
	return ret;
}
