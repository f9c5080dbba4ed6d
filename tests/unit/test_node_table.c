/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The table of nodes beside a plain list, through random histories. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/node_table.h"
#include "tests/unit/run_seed.h"

#define STEPS 60000
#define NODES_MAX 20000
#define OBJECTS 3000 /* so that several nodes have one */

/* What a node should be. */
struct plain {
	uint64_t id;
	uint32_t at;
	enum evfs_node_type type;
	struct evfs_handle_key key;
	uint64_t lookups;
	bool full;
	bool noted;
	evfs_ino dir;
	char name[EVFS_NAME_MAX + 1];
};

struct history {
	struct evfs_node_table table;
	struct plain *items;
	size_t n;
	uint64_t *ids; /* of all that ever were */
	size_t n_ids;
	uint64_t state;
};

static uint64_t below(struct history *history, uint64_t n)
{
	/* xorshift64* (Vigna 2016) */
	history->state ^= history->state >> 12;
	history->state ^= history->state << 25;
	history->state ^= history->state >> 27;
	return (history->state * UINT64_C(2685821657736338717) >> 11) % n;
}

static evfs_dot any_dot(struct history *history)
{
	return (evfs_dot){ { 1 + below(history, 40),
			     (uint32_t)below(history, 2) },
			   1 + below(history, OBJECTS) };
}

static struct evfs_handle_key any_key(struct history *history)
{
	struct evfs_handle_key key = { .ino = any_dot(history) };

	key.link_node = 1 + below(history, 40);
	key.link_ns = below(history, UINT64_MAX);
	key.has_base = below(history, 4) > 0;
	if (key.has_base)
		key.base = any_dot(history);
	return key;
}

static void add(struct history *history)
{
	struct plain *plain = &history->items[history->n];
	struct evfs_node_rec *rec;

	if (history->n == NODES_MAX)
		return;
	memset(plain, 0, sizeof(*plain));
	plain->type = below(history, 3) ? EVFS_NODE_FILE : EVFS_NODE_OTHER;
	plain->key = any_key(history);
	plain->at = evfs_table_add(&history->table, plain->type,
				   EVFS_KIND_FIFO, &plain->key);
	ck_assert_uint_ne(plain->at, 0);
	plain->id = evfs_table_id(&history->table, plain->at);
	rec = evfs_table_at(&history->table, plain->at);
	ck_assert_uint_eq(rec->lookups, 0);
	ck_assert_uint_eq(rec->times_stale, 0);
	ck_assert_uint_eq(rec->checked_s, 0);
	history->ids[history->n_ids++] = plain->id;
	history->n++;
}

static void drop(struct history *history, size_t i)
{
	evfs_table_remove(&history->table, history->items[i].at);
	ck_assert_uint_eq(evfs_table_find(&history->table,
					  history->items[i].id), 0);
	history->items[i] = history->items[--history->n];
}

static void change(struct history *history, struct plain *plain)
{
	struct evfs_node_rec *rec = evfs_table_at(&history->table, plain->at);
	evfs_dot dir = any_dot(history);
	size_t len;

	switch (below(history, 5)) {
	case 0: /* renamed */
		plain->key.ino = any_dot(history);
		ck_assert(evfs_table_set_ino(&history->table, plain->at,
					     plain->key.ino));
		break;
	case 1: /* put away, or changed */
		plain->key = any_key(history);
		plain->full = false;
		ck_assert(evfs_table_set_key(&history->table, plain->at,
					     &plain->key));
		break;
	case 2: /* in use */
		plain->full = true;
		rec->is_full = 1;
		rec->as.full = (void *)plain;
		break;
	case 3:
		plain->lookups += 2;
		evfs_table_look(rec);
		evfs_table_look(rec);
		ck_assert_int_eq(evfs_table_take(rec, 1),
				 --plain->lookups == 0);
		break;
	default:
		len = 1 + below(history, EVFS_NAME_MAX);
		memset(plain->name, 'a' + (int)below(history, 26), len);
		plain->name[len] = '\0';
		plain->dir = dir;
		plain->noted = true;
		evfs_table_note(&history->table, plain->at, dir, plain->name,
				len);
	}
}

static bool is_same_key(const struct evfs_handle_key *a,
			const struct evfs_handle_key *b)
{
	return evfs_dot_equal(a->ino, b->ino) &&
	       a->link_node == b->link_node && a->link_ns == b->link_ns &&
	       a->has_base == b->has_base &&
	       (!a->has_base || evfs_dot_equal(a->base, b->base));
}

static bool is_in_chain(struct history *history, const struct plain *plain)
{
	uint32_t at = evfs_table_first(&history->table, plain->key.ino);

	while (at != 0 && at != plain->at)
		at = evfs_table_next(&history->table, at);
	return at != 0;
}

static void check_one(struct history *history, const struct plain *plain)
{
	const struct evfs_node_rec *rec;
	struct evfs_handle_key key;
	char name[EVFS_NAME_MAX + 1];
	evfs_ino dir;

	ck_assert_uint_eq(evfs_table_find(&history->table, plain->id),
			  plain->at);
	rec = evfs_table_at(&history->table, plain->at);
	ck_assert_uint_eq(rec->type, plain->type);
	ck_assert_uint_eq(rec->kind, EVFS_KIND_FIFO);
	ck_assert_uint_eq(rec->lookups, plain->lookups);
	ck_assert_int_eq(rec->is_full, plain->full);
	ck_assert(evfs_dot_equal(evfs_table_ino(&history->table, plain->at),
				 plain->key.ino));
	if (!plain->full) {
		evfs_table_key(&history->table, plain->at, &key);
		ck_assert(is_same_key(&key, &plain->key));
	}
	ck_assert(is_in_chain(history, plain));
	ck_assert_int_eq(evfs_table_noted(&history->table, plain->at, &dir,
					  name), plain->noted);
	if (plain->noted) {
		ck_assert(evfs_dot_equal(dir, plain->dir));
		ck_assert_str_eq(name, plain->name);
	}
}

/* Chains have nothing else, and all are found in order. */
static void check_all(struct history *history)
{
	size_t n = 0;

	ck_assert_uint_eq(history->table.n, history->n);
	for (size_t i = 0; i < history->n; i++)
		check_one(history, &history->items[i]);
	for (uint32_t at = evfs_table_after(&history->table, 0), last = 0;
	     at != 0; last = at, at = evfs_table_after(&history->table, at)) {
		ck_assert_uint_gt(at, last);
		n++;
	}
	ck_assert_uint_eq(n, history->n);
	for (size_t i = 0; i < 100; i++) {
		evfs_dot ino = any_dot(history);

		for (uint32_t at = evfs_table_first(&history->table, ino);
		     at != 0; at = evfs_table_next(&history->table, at))
			ck_assert(evfs_dot_equal(
				evfs_table_ino(&history->table, at), ino));
	}
}

static int by_number(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

static void history_init(struct history *history)
{
	memset(history, 0, sizeof(*history));
	history->state = seed_of_run();
	history->items = calloc(NODES_MAX, sizeof(*history->items));
	history->ids = calloc(STEPS + 1, sizeof(*history->ids));
	ck_assert_ptr_nonnull(history->items);
	ck_assert_ptr_nonnull(history->ids);
	ck_assert_int_eq(evfs_table_init(&history->table), 0);
	history->table.notes = true;
}

static void history_fini(struct history *history)
{
	evfs_table_fini(&history->table);
	free(history->items);
	free(history->ids);
}

START_TEST(as_a_plain_list)
{
	struct history history;
	unsigned grows = 0;

	history_init(&history);
	for (size_t step = 0; step < STEPS; step++) {
		if (step % 20000 == 0) /* mostly more, then mostly fewer */
			grows = grows == 7 ? 3 : 7;
		if (history.n == 0 || below(&history, 10) < grows)
			add(&history);
		else
			drop(&history, below(&history, history.n));
		if (history.n > 0)
			change(&history,
			       &history.items[below(&history, history.n)]);
		if (step % 5000 == 0)
			check_all(&history);
	}
	check_all(&history);
	qsort(history.ids, history.n_ids, sizeof(*history.ids), by_number);
	for (size_t i = 1; i < history.n_ids; i++)
		ck_assert_uint_ne(history.ids[i - 1], history.ids[i]);
	history_fini(&history);
}
END_TEST

START_TEST(what_is_empty_is_freed)
{
	const struct evfs_handle_key key = { .ino = EVFS_INO_ROOT };
	struct evfs_node_table table;
	uint32_t last = 0;
	size_t held = 0;

	ck_assert_int_eq(evfs_table_init(&table), 0);
	for (uint32_t i = 0; i < 20 * EVFS_TABLE_CHUNK; i++)
		last = evfs_table_add(&table, EVFS_NODE_DIR, EVFS_KIND_DIR,
				      &key);
	ck_assert_uint_eq(last, 20 * EVFS_TABLE_CHUNK);
	/* The newest of a chain goes first: no search. */
	for (uint32_t at = last; at > 1; at--)
		evfs_table_remove(&table, at);
	for (size_t i = 0; i < table.n_chunks; i++)
		held += table.chunks[i].recs != NULL;
	ck_assert_uint_le(held, 2); /* the first node's, and one kept */
	ck_assert_uint_eq(evfs_table_id(&table, 1), 1);
	ck_assert_uint_eq(table.n, 1);
	evfs_table_fini(&table);
}
END_TEST

START_TEST(too_many_references_are_never_dropped)
{
	struct evfs_node_rec rec = { .lookups = EVFS_LOOKUPS_MAX - 1 };

	ck_assert(!evfs_table_take(&rec, 1));
	evfs_table_look(&rec);
	evfs_table_look(&rec);
	evfs_table_look(&rec);
	ck_assert_uint_eq(rec.lookups, EVFS_LOOKUPS_MAX);
	ck_assert(!evfs_table_take(&rec, EVFS_LOOKUPS_MAX));
	ck_assert_uint_eq(rec.lookups, EVFS_LOOKUPS_MAX);
}
END_TEST

/* After the greatest number a place is not used again. */
START_TEST(a_worn_out_place_stays_empty)
{
	const struct evfs_handle_key key = { .ino = EVFS_INO_ROOT };
	struct evfs_node_table table;
	uint32_t at;

	ck_assert_int_eq(evfs_table_init(&table), 0);
	at = evfs_table_add(&table, EVFS_NODE_DIR, EVFS_KIND_DIR, &key);
	evfs_table_at(&table, at)->generation = UINT32_MAX;
	evfs_table_remove(&table, at);
	ck_assert_uint_ne(evfs_table_add(&table, EVFS_NODE_DIR, EVFS_KIND_DIR,
					 &key), at);
	evfs_table_fini(&table);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("node_table");
	TCase *cases = tcase_create("node_table");
	SRunner *runner;
	int failed;

	tcase_set_timeout(cases, 60);
	tcase_add_test(cases, as_a_plain_list);
	tcase_add_test(cases, what_is_empty_is_freed);
	tcase_add_test(cases, too_many_references_are_never_dropped);
	tcase_add_test(cases, a_worn_out_place_stays_empty);
	suite_add_tcase(suite, cases);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
