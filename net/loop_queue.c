/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What comes next in the virtual network: a binary heap of events by time and
 * order of posting, and the chance that the seed gives. */
#include "net/loop_priv.h"

#include <stdlib.h>

#include "base/mem.h"

/* ---- chance: splitmix64 (Steele, Lea, Flood 2014) ---- */

uint64_t evfs_loop_mix(uint64_t *state)
{
	uint64_t z = (*state += 0x9e3779b97f4a7c15ULL);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
	return z ^ (z >> 31);
}

uint64_t evfs_loop_below(struct evfs_loop *loop, uint64_t n)
{
	return n == 0 ? 0 : evfs_loop_mix(&loop->rng) % n;
}

uint64_t evfs_loop_delay(struct evfs_loop *loop)
{
	const struct evfs_loop_options *o = &loop->options;

	return o->delay_min_ns +
	       evfs_loop_below(loop, o->delay_max_ns - o->delay_min_ns + 1);
}

/* ---- the heap of events ---- */

static bool is_before(const struct evfs_loop_event *a,
		      const struct evfs_loop_event *b)
{
	return a->time_ns != b->time_ns ? a->time_ns < b->time_ns
					: a->seq < b->seq;
}

static void swap(struct evfs_loop *loop, size_t a, size_t b)
{
	struct evfs_loop_event *event = loop->heap[a];

	loop->heap[a] = loop->heap[b];
	loop->heap[b] = event;
}

static bool push(struct evfs_loop *loop, struct evfs_loop_event *event)
{
	size_t i = loop->n_heap;

	event->seq = ++loop->seq;
	if (event->time_ns < loop->now_ns)
		event->time_ns = loop->now_ns;
	if (evfs_grow((void **)&loop->heap, i, &loop->cap_heap,
		      sizeof(struct evfs_loop_event *)) < 0)
		return false;
	loop->heap[loop->n_heap++] = event;
	while (i > 0 && is_before(event, loop->heap[(i - 1) / 2])) {
		swap(loop, i, (i - 1) / 2);
		i = (i - 1) / 2;
	}
	if (event->conn != NULL)
		event->conn->refs++;
	return true;
}

struct evfs_loop_event *evfs_loop_pop(struct evfs_loop *loop)
{
	struct evfs_loop_event *first = loop->heap[0];
	size_t i = 0, child;

	loop->heap[0] = loop->heap[--loop->n_heap];
	while ((child = 2 * i + 1) < loop->n_heap) {
		if (child + 1 < loop->n_heap &&
		    is_before(loop->heap[child + 1], loop->heap[child]))
			child++;
		if (!is_before(loop->heap[child], loop->heap[i]))
			break;
		swap(loop, i, child);
		i = child;
	}
	return first;
}

struct evfs_loop_event *
evfs_loop_post(struct evfs_loop *loop, enum evfs_loop_event_kind kind,
	       uint64_t time_ns, struct evfs_loop_conn *conn, unsigned from)
{
	struct evfs_loop_event *event = evfs_calloc(1, sizeof(*event));

	/* a test that runs out of memory has nothing left to say */
	if (event == NULL)
		abort();
	event->kind = kind;
	event->time_ns = time_ns;
	event->conn = conn;
	event->from = from;
	if (!push(loop, event))
		abort();
	return event;
}
