/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The sorted list of byte ranges that a working copy has written. */
#include "fs/work_priv.h"

#include <assert.h>
#include <string.h>

#include "base/mem.h"

void evfs_ranges_fini(struct evfs_ranges *ranges)
{
	evfs_free(ranges->items);
	*ranges = (struct evfs_ranges){ 0 };
}

int evfs_ranges_reserve(struct evfs_ranges *ranges)
{
	void *items = ranges->items;

	if (ranges->n < ranges->cap)
		return 0;
	if (evfs_grow(&items, ranges->n, &ranges->cap,
		      sizeof(*ranges->items)) != 0)
		return EVFS_ENOMEM;
	ranges->items = items;
	return 0;
}

size_t evfs_ranges_find(const struct evfs_ranges *ranges, uint64_t offset)
{
	size_t low = 0, high = ranges->n;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (ranges->items[mid].end <= offset)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

void evfs_ranges_add(struct evfs_ranges *ranges, uint64_t start, uint64_t end)
{
	struct evfs_range *items = ranges->items;
	size_t from, to;

	if (start >= end)
		return;
	/* Those that touch or overlap: [from, to). */
	from = start == 0 ? 0 : evfs_ranges_find(ranges, start - 1);
	for (to = from; to < ranges->n && items[to].start <= end; to++) {
		if (items[to].start < start)
			start = items[to].start;
		if (items[to].end > end)
			end = items[to].end;
	}
	if (to == from) {
		assert(ranges->n < ranges->cap);
		memmove(&items[from + 1], &items[from],
			(ranges->n - from) * sizeof(*items));
		ranges->n++;
	} else if (to > from + 1) {
		memmove(&items[from + 1], &items[to],
			(ranges->n - to) * sizeof(*items));
		ranges->n -= to - from - 1;
	}
	items[from] = (struct evfs_range){ start, end };
}

void evfs_ranges_cut(struct evfs_ranges *ranges, uint64_t size)
{
	size_t at = evfs_ranges_find(ranges, size);

	if (at < ranges->n && ranges->items[at].start < size)
		ranges->items[at++].end = size;
	if (at < ranges->n)
		ranges->n = at;
}

bool evfs_ranges_has(const struct evfs_ranges *ranges, uint64_t start,
		     uint64_t end)
{
	size_t at = evfs_ranges_find(ranges, start);

	return at < ranges->n && ranges->items[at].start <= start &&
	       ranges->items[at].end >= end;
}
