/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The byte ranges that a working copy has written. A database that is written
 * here and there makes very many of them; so they are in leaves of a hundred,
 * and what a change moves is one leaf, or, once in fifty changes, the list of
 * the leaves. Ranges that come in ascending order fill their leaves. */
#include <assert.h>
#include <string.h>

#include "base/mem.h"
#include "fs/work_priv.h"

#define LEAF_MAX 128

struct evfs_range_leaf {
	size_t n; /* 1 and up */
	struct evfs_range items[LEAF_MAX];
};

/* The place of a range; leaf = n_leaves: behind all. */
struct spot {
	size_t leaf, at;
};

void evfs_ranges_fini(struct evfs_ranges *ranges)
{
	for (size_t i = 0; i < ranges->n_leaves; i++)
		evfs_free(ranges->leaves[i]);
	evfs_free(ranges->leaves);
	evfs_free(ranges->spare);
	*ranges = (struct evfs_ranges){ 0 };
}

int evfs_ranges_reserve(struct evfs_ranges *ranges)
{
	void *leaves = ranges->leaves;

	if (!ranges->spare)
		ranges->spare = evfs_calloc(1, sizeof(*ranges->spare));
	if (!ranges->spare ||
	    evfs_grow(&leaves, ranges->n_leaves, &ranges->cap,
		      sizeof(struct evfs_range_leaf *)) != 0)
		return EVFS_ENOMEM;
	ranges->leaves = leaves;
	return 0;
}

/* The first range that ends behind offset. */
static struct spot find(const struct evfs_ranges *ranges, uint64_t offset)
{
	const struct evfs_range_leaf *leaf;
	size_t low = 0, high = ranges->n_leaves, mid;
	struct spot spot = { 0, 0 };

	while (low < high) {
		mid = low + (high - low) / 2;
		leaf = ranges->leaves[mid];
		if (leaf->items[leaf->n - 1].end <= offset)
			low = mid + 1;
		else
			high = mid;
	}
	spot.leaf = low;
	if (low == ranges->n_leaves)
		return spot;
	leaf = ranges->leaves[spot.leaf];
	for (low = 0, high = leaf->n; low < high;) {
		mid = low + (high - low) / 2;
		if (leaf->items[mid].end <= offset)
			low = mid + 1;
		else
			high = mid;
	}
	spot.at = low;
	return spot;
}

static struct evfs_range *get(const struct evfs_ranges *ranges,
			      struct spot spot)
{
	return spot.leaf < ranges->n_leaves ?
		       &ranges->leaves[spot.leaf]->items[spot.at] :
		       NULL;
}

static struct spot behind(const struct evfs_ranges *ranges, struct spot spot)
{
	if (++spot.at == ranges->leaves[spot.leaf]->n) {
		spot.leaf++;
		spot.at = 0;
	}
	return spot;
}

bool evfs_ranges_next(const struct evfs_ranges *ranges, uint64_t offset,
		      struct evfs_range *ret)
{
	const struct evfs_range *range = get(ranges, find(ranges, offset));

	if (range)
		*ret = *range;
	return range != NULL;
}

bool evfs_ranges_has(const struct evfs_ranges *ranges, uint64_t start,
		     uint64_t end)
{
	const struct evfs_range *range = get(ranges, find(ranges, start));

	return range && range->start <= start && range->end >= end;
}

/* ---- changes ---- */

/* The spare leaf, empty, becomes number `at`. */
static struct evfs_range_leaf *add_leaf(struct evfs_ranges *ranges, size_t at)
{
	struct evfs_range_leaf *leaf = evfs_steal(ranges->spare);

	assert(leaf && ranges->n_leaves < ranges->cap);
	leaf->n = 0;
	memmove(ranges->leaves + at + 1, ranges->leaves + at,
		(ranges->n_leaves - at) * sizeof(struct evfs_range_leaf *));
	ranges->leaves[at] = leaf;
	ranges->n_leaves++;
	return leaf;
}

static void drop_leaf(struct evfs_ranges *ranges, size_t at)
{
	evfs_free(ranges->spare);
	ranges->spare = ranges->leaves[at];
	ranges->n_leaves--;
	memmove(ranges->leaves + at, ranges->leaves + at + 1,
		(ranges->n_leaves - at) * sizeof(struct evfs_range_leaf *));
}

/* Room for one more before the spot, which may be somewhere else then. */
static struct spot make_room(struct evfs_ranges *ranges, struct spot spot)
{
	struct evfs_range_leaf *leaf, *upper;

	if (spot.leaf == ranges->n_leaves) { /* behind all */
		if (spot.leaf == 0 ||
		    ranges->leaves[spot.leaf - 1]->n == LEAF_MAX) {
			(void)add_leaf(ranges, spot.leaf);
			return spot;
		}
		spot.leaf--;
		spot.at = ranges->leaves[spot.leaf]->n;
		return spot;
	}
	leaf = ranges->leaves[spot.leaf];
	if (leaf->n < LEAF_MAX)
		return spot;
	upper = add_leaf(ranges, spot.leaf + 1);
	leaf->n = LEAF_MAX / 2;
	upper->n = LEAF_MAX - LEAF_MAX / 2;
	memcpy(upper->items, leaf->items + leaf->n,
	       upper->n * sizeof(*upper->items));
	if (spot.at > leaf->n) {
		spot.at -= leaf->n;
		spot.leaf++;
	}
	return spot;
}

static void insert(struct evfs_ranges *ranges, struct spot spot,
		   struct evfs_range range)
{
	struct evfs_range_leaf *leaf;

	spot = make_room(ranges, spot);
	leaf = ranges->leaves[spot.leaf];
	memmove(&leaf->items[spot.at + 1], &leaf->items[spot.at],
		(leaf->n - spot.at) * sizeof(*leaf->items));
	leaf->items[spot.at] = range;
	leaf->n++;
	ranges->n++;
}

static void take_out(struct evfs_ranges *ranges, struct spot spot)
{
	struct evfs_range_leaf *leaf = ranges->leaves[spot.leaf];

	ranges->n--;
	if (--leaf->n == 0) {
		drop_leaf(ranges, spot.leaf);
		return;
	}
	memmove(&leaf->items[spot.at], &leaf->items[spot.at + 1],
		(leaf->n - spot.at) * sizeof(*leaf->items));
}

void evfs_ranges_add(struct evfs_ranges *ranges, uint64_t start, uint64_t end)
{
	struct spot spot = find(ranges, start == 0 ? 0 : start - 1);
	struct evfs_range *range = get(ranges, spot), *next;

	if (start >= end)
		return;
	if (!range || range->start > end) { /* touches none */
		insert(ranges, spot, (struct evfs_range){ start, end });
		return;
	}
	if (range->start > start)
		range->start = start;
	if (range->end < end)
		range->end = end;
	while ((next = get(ranges, behind(ranges, spot))) &&
	       next->start <= range->end) {
		if (range->end < next->end)
			range->end = next->end;
		take_out(ranges, behind(ranges, spot));
	}
}

void evfs_ranges_cut(struct evfs_ranges *ranges, uint64_t size)
{
	struct spot spot = find(ranges, size);
	struct evfs_range *range = get(ranges, spot);

	if (range && range->start < size) {
		range->end = size;
		spot = behind(ranges, spot);
	}
	if (spot.leaf == ranges->n_leaves)
		return;
	while (ranges->n_leaves > spot.leaf + 1) {
		ranges->n -= ranges->leaves[ranges->n_leaves - 1]->n;
		drop_leaf(ranges, ranges->n_leaves - 1);
	}
	ranges->n -= ranges->leaves[spot.leaf]->n - spot.at;
	ranges->leaves[spot.leaf]->n = spot.at;
	if (spot.at == 0)
		drop_leaf(ranges, spot.leaf);
}

/* ---- as a list ---- */

int evfs_ranges_list(const struct evfs_ranges *ranges, uint64_t from,
		     uint64_t size, struct evfs_range **ret, size_t *ret_n)
{
	struct evfs_range *list =
		evfs_realloc_array(NULL, ranges->n + 1, sizeof(*list));
	struct evfs_range *range;
	struct spot spot = { 0, 0 };
	size_t n = 0;

	if (!list)
		return EVFS_ENOMEM;
	while ((range = get(ranges, spot)) && range->start < from) {
		list[n++] = *range;
		spot = behind(ranges, spot);
	}
	if (n > 0 && list[n - 1].end >= from) {
		if (list[n - 1].end < size)
			list[n - 1].end = size;
	} else if (from < size) {
		list[n++] = (struct evfs_range){ from, size };
	}
	*ret = list;
	*ret_n = n;
	return 0;
}
