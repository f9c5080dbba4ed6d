/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The join of two states of one object; model/facts.py, join_objects(), is the
 * same in executable form.
 *
 * One rule carries the sets (alive dots, versions): what one side has and the
 * other lacks was removed there if that other side covers its dot, and is new
 * to it if not (the observed-remove set without tombstones: Bieniusa et al.
 * 2012; dotted by Almeida et al. 2014). A side covers what its context covers
 * and what its own rows of this object cover: an object that came ahead of a
 * complete exchange holds dots that no context has yet.
 *
 * Registers, rows and ties do not look at contexts: the greatest wins, or all
 * are kept. So an absent object is simply one without any of them. */
#include "meta/merge.h"

#include <assert.h>

#include "base/mem.h"
#include "meta/object_priv.h"

struct side {
	const struct evfs_object *object; /* NULL = absent */
	const struct evfs_context *context;
};

/* What the two sides have under one key; one of them may be NULL. */
struct pair {
	const void *a, *b;
};

#define PAIRS_ON_STACK 32

struct merge {
	struct side a, b;
	struct evfs_object *out; /* owned until it is given to the caller */
	struct pair *pairs;	 /* room for both arrays of any kind */
	size_t n_pairs;
	struct pair stack[PAIRS_ON_STACK];
};

static const struct evfs_object merge_absent;

static bool side_covers(const struct side *side, evfs_dot dot)
{
	return evfs_object_covers(side->object, side->context, dot);
}

/* Two sorted arrays as one sorted list of pairs. */
static void merge_pair(struct merge *m, const void *a, size_t n_a,
		       const void *b, size_t n_b, size_t size,
		       int (*order)(const void *a, const void *b))
{
	const uint8_t *x = a, *y = b;
	size_t n = 0;

	while (n_a > 0 || n_b > 0) {
		int which = n_a == 0 ? 1 : n_b == 0 ? -1 : order(x, y);

		m->pairs[n] = (struct pair){ NULL, NULL };
		if (which <= 0) {
			m->pairs[n].a = x;
			x += size;
			n_a--;
		}
		if (which >= 0) {
			m->pairs[n].b = y;
			y += size;
			n_b--;
		}
		n++;
	}
	m->n_pairs = n;
}

/* The array of the result; NULL for no pairs, and EVFS_ENOMEM in *rc. */
static void *merge_array(struct merge *m, size_t size, int *rc)
{
	void *items = NULL;

	if (m->n_pairs > 0) {
		items = evfs_arena_alloc(&m->out->arena, m->n_pairs, size);
		if (items == NULL)
			*rc = EVFS_ENOMEM;
	}
	return items;
}

static bool dot_stays(evfs_dot dot, const struct evfs_dots *others,
		      const struct side *other)
{
	return evfs_dots_has(others, dot) || !side_covers(other, dot);
}

static int join_dots(struct merge *m, const struct evfs_dots *a,
		     const struct evfs_dots *b, struct evfs_dots *ret)
{
	struct evfs_dots out = { NULL, 0 };
	size_t i = 0, j = 0;

	if (evfs_dots_order(a, b) == 0)
		return evfs_dots_copy(&m->out->arena, ret, a);
	out.items = evfs_arena_alloc(&m->out->arena, a->n + b->n,
				     sizeof(*out.items));
	if (out.items == NULL)
		return EVFS_ENOMEM;
	while (i < a->n || j < b->n) {
		int which = i == a->n ? 1
			    : j == b->n
				    ? -1
				    : evfs_dot_cmp(a->items[i], b->items[j]);
		evfs_dot dot = which <= 0 ? a->items[i] : b->items[j];

		if (which <= 0)
			i++;
		if (which >= 0)
			j++;
		if (which == 0 || (which < 0 && dot_stays(dot, b, &m->b)) ||
		    (which > 0 && dot_stays(dot, a, &m->a)))
			out.items[out.n++] = dot;
	}
	*ret = out;
	return 0;
}

/* ---- orders of the keys ---- */

static int link_order(const void *a, const void *b)
{
	const struct evfs_link *x = a, *y = b;

	return evfs_stamp_cmp(&x->id, &y->id);
}

static int version_order(const void *a, const void *b)
{
	const struct evfs_version *x = a, *y = b;

	return evfs_dot_cmp(x->dot, y->dot);
}

static int attr_order(const void *a, const void *b)
{
	const struct evfs_attr *x = a, *y = b;

	return evfs_attr_key_order(x->kind, x->key, x->key_len, y->kind, y->key,
				   y->key_len);
}

static int log_order(const void *a, const void *b)
{
	const struct evfs_log_row *x = a, *y = b;

	return evfs_actor_cmp(x->actor, y->actor);
}

static int tie_order(const void *a, const void *b)
{
	const struct evfs_tie *x = a, *y = b;

	return evfs_dot_cmp(x->dot, y->dot);
}

static int extra_order(const void *a, const void *b)
{
	return evfs_extra_order(a, b);
}

/* ---- the parts ---- */

static int join_links(struct merge *m, const struct evfs_object *a,
		      const struct evfs_object *b)
{
	static const struct evfs_dots none;
	struct evfs_arena *arena = &m->out->arena;
	int rc = 0;

	merge_pair(m, a->links, a->n_links, b->links, b->n_links,
		   sizeof(*a->links), link_order);
	m->out->links = merge_array(m, sizeof(*a->links), &rc);
	for (size_t i = 0; rc == 0 && i < m->n_pairs; i++) {
		const struct evfs_link *x = m->pairs[i].a, *y = m->pairs[i].b;
		struct evfs_link *out = &m->out->links[i];
		bool is_a = y == NULL ||
			    (x != NULL &&
			     evfs_place_order(&x->place, &y->place) >= 0);

		out->id = is_a ? x->id : y->id;
		rc = evfs_place_copy(arena, &out->place,
				     is_a ? &x->place : &y->place);
		if (rc == 0)
			rc = join_dots(m, x != NULL ? &x->alive : &none,
				       y != NULL ? &y->alive : &none,
				       &out->alive);
		m->out->n_links = i + 1;
	}
	return rc;
}

static int join_versions(struct merge *m, const struct evfs_object *a,
			 const struct evfs_object *b)
{
	int rc = 0;

	merge_pair(m, a->versions, a->n_versions, b->versions, b->n_versions,
		   sizeof(*a->versions), version_order);
	m->out->versions = merge_array(m, sizeof(*a->versions), &rc);
	for (size_t i = 0; rc == 0 && i < m->n_pairs; i++) {
		const struct evfs_version *x = m->pairs[i].a;
		const struct evfs_version *y = m->pairs[i].b;

		if ((y == NULL && side_covers(&m->b, x->dot)) ||
		    (x == NULL && side_covers(&m->a, y->dot)))
			continue;
		if (x == NULL || (y != NULL && evfs_version_order(x, y) < 0))
			x = y;
		rc = evfs_version_copy(&m->out->arena,
				       &m->out->versions[m->out->n_versions],
				       x);
		m->out->n_versions++;
	}
	return rc;
}

static int join_attrs(struct merge *m, const struct evfs_object *a,
		      const struct evfs_object *b)
{
	int rc = 0;

	merge_pair(m, a->attrs, a->n_attrs, b->attrs, b->n_attrs,
		   sizeof(*a->attrs), attr_order);
	m->out->attrs = merge_array(m, sizeof(*a->attrs), &rc);
	for (size_t i = 0; rc == 0 && i < m->n_pairs; i++) {
		const struct evfs_attr *x = m->pairs[i].a, *y = m->pairs[i].b;

		if (x == NULL || (y != NULL && evfs_attr_order(x, y) < 0))
			x = y;
		rc = evfs_attr_copy(&m->out->arena, &m->out->attrs[i], x);
		m->out->n_attrs = i + 1;
	}
	return rc;
}

static int join_log(struct merge *m, const struct evfs_object *a,
		    const struct evfs_object *b)
{
	int rc = 0;

	merge_pair(m, a->log, a->n_log, b->log, b->n_log, sizeof(*a->log),
		   log_order);
	m->out->log = merge_array(m, sizeof(*a->log), &rc);
	for (size_t i = 0; rc == 0 && i < m->n_pairs; i++) {
		const struct evfs_log_row *x = m->pairs[i].a;
		const struct evfs_log_row *y = m->pairs[i].b;

		if (x == NULL || (y != NULL && x->counter < y->counter))
			x = y;
		m->out->log[i] = *x;
		m->out->n_log = i + 1;
	}
	return rc;
}

static int join_ties(struct merge *m, const struct evfs_object *a,
		     const struct evfs_object *b)
{
	int rc = 0;

	merge_pair(m, a->ties, a->n_ties, b->ties, b->n_ties, sizeof(*a->ties),
		   tie_order);
	m->out->ties = merge_array(m, sizeof(*a->ties), &rc);
	for (size_t i = 0; rc == 0 && i < m->n_pairs; i++) {
		const struct evfs_tie *x = m->pairs[i].a, *y = m->pairs[i].b;

		if (x == NULL || (y != NULL && evfs_tie_order(x, y) < 0))
			x = y;
		rc = evfs_tie_copy(&m->out->arena, &m->out->ties[i], x);
		m->out->n_ties = i + 1;
	}
	return rc;
}

static int join_extras(struct merge *m, const struct evfs_object *a,
		       const struct evfs_object *b)
{
	int rc = 0;

	merge_pair(m, a->extras, a->n_extras, b->extras, b->n_extras,
		   sizeof(*a->extras), extra_order);
	m->out->extras = merge_array(m, sizeof(*a->extras), &rc);
	for (size_t i = 0; rc == 0 && i < m->n_pairs; i++) {
		const struct evfs_extra *x = m->pairs[i].a;

		if (x == NULL)
			x = m->pairs[i].b;
		rc = evfs_extra_copy(&m->out->arena, &m->out->extras[i], x);
		m->out->n_extras = i + 1;
	}
	return rc;
}

/* ---- the whole ---- */

static int merge_check(const struct evfs_object *a, const struct evfs_object *b,
		       struct evfs_err *err)
{
	const char *what = NULL;
	char text[EVFS_DOT_TEXT_SIZE];

	if (!evfs_dot_equal(a->ino, b->ino))
		what = "inode";
	else if (a->kind != b->kind)
		what = "kind";
	else if (a->rdev != b->rdev)
		what = "device";
	else if (evfs_bytes_order(a->target, a->target_len, b->target,
				  b->target_len) != 0)
		what = "symlink target";
	if (what == NULL)
		return 0;
	evfs_dot_format(a->ino, text);
	return evfs_err_set(err, EVFS_ECORRUPT,
			    "object %s: two states differ in the %s, which "
			    "never changes",
			    text, what);
}

static size_t max_size(size_t a, size_t b)
{
	return a > b ? a : b;
}

static size_t merge_pairs_max(const struct evfs_object *a,
			      const struct evfs_object *b)
{
	size_t n = a->n_links + b->n_links;

	n = max_size(n, a->n_versions + b->n_versions);
	n = max_size(n, a->n_attrs + b->n_attrs);
	n = max_size(n, a->n_log + b->n_log);
	n = max_size(n, a->n_ties + b->n_ties);
	return max_size(n, a->n_extras + b->n_extras);
}

static int merge_parts(struct merge *m, const struct evfs_object *a,
		       const struct evfs_object *b)
{
	const struct evfs_object *some = m->a.object != NULL ? a : b;
	int rc;

	m->out->rdev = some->rdev;
	m->out->change_ns =
		a->change_ns > b->change_ns ? a->change_ns : b->change_ns;
	rc = evfs_object_set_target(m->out, some->target, some->target_len);
	if (rc == 0)
		rc = join_links(m, a, b);
	if (rc == 0)
		rc = join_versions(m, a, b);
	if (rc == 0)
		rc = join_attrs(m, a, b);
	if (rc == 0)
		rc = join_log(m, a, b);
	if (rc == 0)
		rc = join_ties(m, a, b);
	if (rc == 0)
		rc = join_extras(m, a, b);
	return rc;
}

int evfs_merge(const struct evfs_object *a,
	       const struct evfs_context *a_context,
	       const struct evfs_object *b,
	       const struct evfs_context *b_context, struct evfs_object **ret,
	       struct evfs_err *err)
{
	struct merge m = { .a = { a, a_context }, .b = { b, b_context } };
	const struct evfs_object *some = a != NULL ? a : b;
	evfs_cleanup_free struct pair *heap = NULL;
	size_t n, bytes;
	int rc;

	assert(some != NULL);
	rc = a != NULL && b != NULL ? merge_check(a, b, err) : 0;
	if (rc != 0)
		return rc;
	a = a != NULL ? a : &merge_absent;
	b = b != NULL ? b : &merge_absent;
	n = merge_pairs_max(a, b);
	if (n > PAIRS_ON_STACK)
		heap = evfs_calloc(n, sizeof(*heap));
	m.pairs = n > PAIRS_ON_STACK ? heap : m.stack;
	bytes = max_size(evfs_object_footprint(a), evfs_object_footprint(b));
	m.out = evfs_object_new_sized(some->ino, some->kind, bytes);
	rc = EVFS_ENOMEM;
	if (m.out != NULL && m.pairs != NULL)
		rc = merge_parts(&m, a, b);
	if (rc != 0) {
		evfs_object_free(m.out);
		return evfs_err_set(err, rc, "merge: %s", evfs_err_text(rc));
	}
	*ret = m.out;
	return 0;
}
