/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Version vectors as sorted arrays; see context.h. */
#include "meta/context.h"

#include <string.h>

#include "base/mem.h"

void evfs_context_fini(struct evfs_context *context)
{
	evfs_free(context->rows);
	*context = (struct evfs_context){ 0 };
}

/* Index of the first row whose actor is not smaller. */
static size_t context_find(const struct evfs_context *context, evfs_actor actor)
{
	size_t low = 0, high = context->n;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (evfs_actor_cmp(context->rows[mid].actor, actor) < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

static bool context_is_at(const struct evfs_context *context, size_t at,
			  evfs_actor actor)
{
	return at < context->n &&
	       evfs_actor_cmp(context->rows[at].actor, actor) == 0;
}

uint64_t evfs_context_get(const struct evfs_context *context, evfs_actor actor)
{
	size_t at = context_find(context, actor);

	return context_is_at(context, at, actor) ? context->rows[at].counter
						 : 0;
}

static int context_reserve(struct evfs_context *context, size_t n)
{
	struct evfs_context_row *rows;
	size_t cap;

	if (n <= context->cap)
		return 0;
	cap = n < 8 ? 8 : n + n / 2;
	rows = evfs_realloc_array(context->rows, cap, sizeof(*rows));
	if (rows == NULL)
		return EVFS_ENOMEM;
	context->rows = rows;
	context->cap = cap;
	return 0;
}

int evfs_context_raise(struct evfs_context *context, evfs_actor actor,
		       uint64_t counter)
{
	size_t at = context_find(context, actor);
	int rc;

	if (counter == 0)
		return 0;
	if (context_is_at(context, at, actor)) {
		if (counter > context->rows[at].counter)
			context->rows[at].counter = counter;
		return 0;
	}
	rc = context_reserve(context, context->n + 1);
	if (rc != 0)
		return rc;
	memmove(&context->rows[at + 1], &context->rows[at],
		(context->n - at) * sizeof(*context->rows));
	context->rows[at] = (struct evfs_context_row){ actor, counter };
	context->n++;
	return 0;
}

static size_t context_count_new(const struct evfs_context *context,
				const struct evfs_context *other)
{
	size_t n = 0;

	for (size_t i = 0, j = 0; j < other->n; j++) {
		while (i < context->n &&
		       evfs_actor_cmp(context->rows[i].actor,
				      other->rows[j].actor) < 0)
			i++;
		if (!context_is_at(context, i, other->rows[j].actor))
			n++;
	}
	return n;
}

/* One pass from the back, so that rows move once however many are new: a peer
 * may send as many actors as it likes. */
int evfs_context_join(struct evfs_context *context,
		      const struct evfs_context *other)
{
	size_t more = context_count_new(context, other);
	size_t i = context->n, j = other->n, at = context->n + more;
	int rc = context_reserve(context, at);

	if (rc != 0)
		return rc;
	context->n = at;
	while (j > 0) {
		const struct evfs_context_row *theirs = &other->rows[j - 1];
		int order = i == 0 ? -1
				   : evfs_actor_cmp(context->rows[i - 1].actor,
						    theirs->actor);

		at--;
		if (order < 0) {
			context->rows[at] = *theirs;
			j--;
			continue;
		}
		context->rows[at] = context->rows[--i];
		if (order > 0)
			continue;
		if (theirs->counter > context->rows[at].counter)
			context->rows[at].counter = theirs->counter;
		j--;
	}
	return 0;
}

bool evfs_context_covers(const struct evfs_context *context, evfs_dot dot)
{
	return dot.counter <= evfs_context_get(context, dot.actor);
}

bool evfs_context_contains(const struct evfs_context *a,
			   const struct evfs_context *b)
{
	for (size_t i = 0, j = 0; j < b->n; j++) {
		while (i < a->n &&
		       evfs_actor_cmp(a->rows[i].actor, b->rows[j].actor) < 0)
			i++;
		if (!context_is_at(a, i, b->rows[j].actor) ||
		    a->rows[i].counter < b->rows[j].counter)
			return false;
	}
	return true;
}

bool evfs_context_equal(const struct evfs_context *a,
			const struct evfs_context *b)
{
	if (a->n != b->n)
		return false;
	for (size_t i = 0; i < a->n; i++)
		if (a->rows[i].counter != b->rows[i].counter ||
		    evfs_actor_cmp(a->rows[i].actor, b->rows[i].actor) != 0)
			return false;
	return true;
}

int evfs_context_copy(struct evfs_context *to, const struct evfs_context *from)
{
	int rc = context_reserve(to, from->n);

	if (rc != 0)
		return rc;
	if (from->n > 0)
		memmove(to->rows, from->rows, from->n * sizeof(*from->rows));
	to->n = from->n;
	return 0;
}
