/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "tests/lib/refmerkle.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "meta/facts.h"
#include "meta/merkle.h"

struct entry {
	uint64_t path; /* of the deepest level */
	evfs_hash hash;
};

struct reference {
	struct evfs_facts *facts;
	struct entry *entries; /* owned; sorted in the end */
	size_t n, cap;
};

struct check {
	const struct reference *ref;
	struct evfs_merkle_view *view;
	struct evfs_buf *why;
};

static bool wrong(struct evfs_buf *why, const char *what, uint64_t path)
{
	char text[96];
	int len = snprintf(text, sizeof(text), "%s: node %llx", what,
			   (unsigned long long)path);

	(void)!evfs_buf_put(why, text, (size_t)len + 1);
	return false;
}

static int each_object(void *arg, const struct evfs_object *object)
{
	struct reference *ref = arg;
	bool counts = evfs_ino_is_root(object->ino);
	struct entry *entry;

	if (!counts && object->kind == EVFS_KIND_DIR) {
		if (evfs_facts_is_needed(ref->facts, object->ino, &counts,
					 NULL) != 0)
			abort();
	} else if (!counts) {
		counts = evfs_object_is_live(object);
	}
	if (!counts)
		return 0;
	if (evfs_grow((void **)&ref->entries, ref->n, &ref->cap,
		      sizeof(*ref->entries)) != 0)
		abort();
	entry = &ref->entries[ref->n++];
	entry->path = evfs_merkle_path(evfs_merkle_home(object), object->ino);
	if (evfs_object_live_hash(object, &entry->hash) != 0)
		abort();
	return 0;
}

static int entry_cmp(const void *a, const void *b)
{
	const struct entry *x = a, *y = b;

	return x->path < y->path ? -1 : x->path > y->path;
}

/* The node that entries [from, to) make. */
static struct evfs_merkle_node sum(const struct reference *ref, size_t from,
				   size_t to)
{
	struct evfs_merkle_node node = { 0 };

	for (; from < to; from++) {
		node.count++;
		evfs_hash_add(&node.sum, &ref->entries[from].hash);
	}
	return node;
}

static bool same(const struct evfs_merkle_node *a,
		 const struct evfs_merkle_node *b)
{
	return a->count == b->count && evfs_hash_equal(&a->sum, &b->sum);
}

static bool check_list(struct check *check, uint64_t path,
		       const struct evfs_merkle_node *want)
{
	struct evfs_merkle_node got = { 0 };
	struct evfs_merkle_leaf *leaves = NULL;
	size_t n = 0;

	if (evfs_merkle_list(check->view, path, SIZE_MAX, &leaves, &n, NULL) !=
	    0)
		return wrong(check->why, "list", path);
	for (size_t i = 0; i < n; i++) {
		got.count++;
		evfs_hash_add(&got.sum, &leaves[i].hash);
	}
	evfs_free(leaves);
	return same(&got, want) || wrong(check->why, "list differs", path);
}

/* Entries [from, to) are those below this node. */
static bool check_node(struct check *check, uint64_t path, size_t from,
		       size_t to)
{
	int level = evfs_merkle_level(path);
	struct evfs_merkle_node want = sum(check->ref, from, to);
	struct evfs_merkle_node got;
	struct evfs_merkle_node children[EVFS_MERKLE_FANOUT];

	if (evfs_merkle_get(check->view, path, &got, NULL) != 0 ||
	    !same(&got, &want))
		return wrong(check->why, "node differs", path);
	if (level >= 2 && !check_list(check, path, &want))
		return false;
	if (level == EVFS_MERKLE_LEVELS)
		return true;
	if (evfs_merkle_children(check->view, path, children, NULL) != 0)
		return wrong(check->why, "children", path);
	for (uint64_t i = 0; i < EVFS_MERKLE_FANOUT; i++) {
		uint64_t child = path << 8 | i;
		size_t end = from;

		while (end < to &&
		       evfs_merkle_above(check->ref->entries[end].path,
					 level + 1) == child)
			end++;
		want = sum(check->ref, from, end);
		if (!same(&children[i], &want))
			return wrong(check->why, "child differs", child);
		/* The computed levels only for a part: they cost. */
		if (end > from && (level < 3 || i % 16 == 0) &&
		    !check_node(check, child, from, end))
			return false;
		from = end;
	}
	return from == to || wrong(check->why, "more below", path);
}

bool refmerkle_check(struct evfs_meta *meta, struct evfs_buf *why)
{
	struct reference ref = { .facts = evfs_meta_facts(meta) };
	struct check check = { &ref, NULL, why };
	struct evfs_merkle_node root;
	evfs_hash facts_root;
	bool ok;

	evfs_meta_lock(meta);
	if (evfs_facts_each(ref.facts, each_object, &ref, NULL) != 0)
		abort();
	facts_root = *evfs_facts_root(ref.facts);
	evfs_meta_unlock(meta);
	if (ref.n > 0)
		qsort(ref.entries, ref.n, sizeof(*ref.entries), entry_cmp);
	root = sum(&ref, 0, ref.n);
	ok = evfs_hash_equal(&root.sum, &facts_root) ||
	     wrong(why, "root hash differs", EVFS_MERKLE_ROOT);
	if (evfs_meta_sync(meta, NULL) != 0 ||
	    evfs_merkle_open(meta, &check.view, NULL) != 0)
		abort();
	ok = ok && check_node(&check, EVFS_MERKLE_ROOT, 0, ref.n);
	evfs_merkle_close(check.view);
	evfs_free(ref.entries);
	return ok;
}
