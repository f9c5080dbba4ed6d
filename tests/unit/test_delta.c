/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Delta exchange between stores, at the level of objects: order and groups,
 * cuts, changes while an exchange runs, and random histories. That it equals
 * the model's exchange is the business of test_vectors.
 * $EVFS_TEST_SEED replays a random history. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "meta/delta.h"
#include "meta/index.h"
#include "tests/unit/store_world.h"

#define STORES 3

static struct evfs_meta *stores[STORES]; /* of this test */

static void setup(void)
{
	for (unsigned i = 0; i < STORES; i++)
		stores[i] = store_memory(i);
}

static void teardown(void)
{
	for (unsigned i = 0; i < STORES; i++)
		evfs_meta_close(stores[i]);
}

/* ---- exchanges ---- */

static struct evfs_delta *open_delta(struct evfs_meta *to,
				     struct evfs_meta *from)
{
	struct evfs_context context = { 0 };
	struct evfs_delta *delta = NULL;
	struct evfs_err err = { 0 };

	evfs_meta_lock(to);
	ck_assert_int_eq(evfs_context_copy(&context, evfs_meta_context(to)),
			 0);
	evfs_meta_unlock(to);
	ck_assert_msg(evfs_delta_open(from, &context, &delta, &err) == 0,
		      "%s", err.msg);
	evfs_context_fini(&context);
	return delta;
}

static size_t apply(struct evfs_meta *to, struct evfs_delta *delta,
		    struct evfs_object **objects, size_t n)
{
	struct evfs_err err = { 0 };
	size_t changed = 0;

	evfs_meta_lock_content(to);
	ck_assert_msg(evfs_delta_apply(to, objects, n, evfs_delta_snap(delta),
				       &changed, &err) == 0,
		      "%s", err.msg);
	evfs_meta_unlock(to);
	evfs_free(objects);
	return changed;
}

static void finish(struct evfs_meta *to, struct evfs_delta *delta)
{
	struct evfs_err err = { 0 };

	evfs_meta_lock(to);
	ck_assert_msg(evfs_meta_take_context(to, evfs_delta_snap(delta),
					     &err) == 0, "%s", err.msg);
	evfs_meta_unlock(to);
	evfs_delta_close(delta);
}

/* Up to `groups` groups (0 = all); objects that were sent. */
static size_t exchange(struct evfs_meta *to, struct evfs_meta *from,
		       size_t groups)
{
	struct evfs_delta *delta = open_delta(to, from);
	size_t sent = 0;
	size_t left = groups;
	bool done = false;

	while (!done && (groups == 0 || left > 0)) {
		struct evfs_object **objects;
		struct evfs_err err = { 0 };
		size_t n;

		ck_assert_msg(evfs_delta_next(delta, groups == 0 ? 0 : 1,
					      &objects, &n, &done, &err) == 0,
			      "%s", err.msg);
		sent += n;
		left--;
		apply(to, delta, objects, n);
	}
	if (done)
		finish(to, delta);
	else
		evfs_delta_close(delta);
	return sent;
}

static void check_same(struct evfs_meta *a, struct evfs_meta *b)
{
	char *x = store_dump(a);
	char *y = store_dump(b);

	ck_assert_msg(strcmp(x, y) == 0, "%s\n---- and ----\n%s", x, y);
	evfs_free(x);
	evfs_free(y);
}

/* ---- by hand ---- */

START_TEST(all_there)
{
	evfs_ino ino = store_put_symlink(stores[0], "a");

	ck_assert_uint_eq(exchange(stores[1], stores[0], 0), 1);
	ck_assert(store_has(stores[1], ino));
	ck_assert_uint_eq(exchange(stores[1], stores[0], 0), 0);
	store_put_symlink(stores[1], "b");
	store_chmod(stores[1], ino, 0600);
	ck_assert_uint_eq(exchange(stores[0], stores[1], 0), 2);
	ck_assert_uint_eq(exchange(stores[1], stores[0], 0), 0);
	check_same(stores[0], stores[1]);
}
END_TEST

START_TEST(counted)
{
	struct evfs_context context = { 0 };
	evfs_ino ino = store_put_symlink(stores[0], "a");
	uint64_t n;

	store_put_symlink(stores[0], "b");
	store_chmod(stores[0], ino, 0600);
	evfs_meta_lock(stores[0]);
	ck_assert_int_eq(evfs_delta_count(stores[0], &context, 100, &n, NULL),
			 0);
	ck_assert_uint_eq(n, 2);
	ck_assert_int_eq(evfs_delta_count(stores[0], &context, 1, &n, NULL),
			 0);
	ck_assert_uint_eq(n, 1);
	evfs_meta_unlock(stores[0]);
}
END_TEST

static void put(struct evfs_meta *meta, struct evfs_object **objects, size_t n)
{
	struct evfs_err err = { 0 };

	ck_assert_msg(evfs_index_put(meta, objects, n, EVFS_FEED_LOCAL,
				     &err) == 0, "%s", err.msg);
}

/* Parents go first, also when the child has the lesser dot. */
START_TEST(parents_first)
{
	struct evfs_meta *meta = stores[0];
	struct evfs_delta *delta;
	struct evfs_object **sent;
	struct evfs_object *objects[4];
	evfs_ino inos[4];
	bool done;
	size_t n;

	evfs_meta_lock(meta);
	objects[0] = store_symlink(meta, EVFS_INO_ROOT, "leaf");
	objects[1] = store_directory(meta, EVFS_INO_ROOT, "d1");
	objects[2] = store_directory(meta, EVFS_INO_ROOT, "d2");
	objects[3] = store_symlink(meta, EVFS_INO_ROOT, "other");
	for (int i = 0; i < 4; i++)
		inos[i] = objects[i]->ino;
	objects[0]->links[0].place.parent = inos[1];
	objects[1]->links[0].place.parent = inos[2];
	put(meta, objects, 4);
	evfs_meta_unlock(meta);
	delta = open_delta(stores[1], meta);
	ck_assert_int_eq(evfs_delta_next(delta, 1, &sent, &n, &done, NULL), 0);
	ck_assert(!done);
	ck_assert_uint_eq(n, 3);
	ck_assert(evfs_dot_equal(sent[0]->ino, inos[2]));
	ck_assert(evfs_dot_equal(sent[1]->ino, inos[1]));
	ck_assert(evfs_dot_equal(sent[2]->ino, inos[0]));
	apply(stores[1], delta, sent, n);
	/* The directories are not sent again in their turn. */
	ck_assert_int_eq(evfs_delta_next(delta, 0, &sent, &n, &done, NULL), 0);
	ck_assert(done);
	ck_assert_uint_eq(n, 1);
	ck_assert(evfs_dot_equal(sent[0]->ino, inos[3]));
	apply(stores[1], delta, sent, n);
	finish(stores[1], delta);
	check_same(stores[0], stores[1]);
}
END_TEST

/* Directories that are each other's parents: sent all the same. */
START_TEST(parents_in_a_circle)
{
	struct evfs_meta *meta = stores[0];
	struct evfs_object *objects[2];

	evfs_meta_lock(meta);
	objects[0] = store_directory(meta, EVFS_INO_ROOT, "a");
	objects[1] = store_directory(meta, EVFS_INO_ROOT, "b");
	objects[0]->links[0].place.parent = objects[1]->ino;
	objects[1]->links[0].place.parent = objects[0]->ino;
	put(meta, objects, 2);
	evfs_meta_unlock(meta);
	ck_assert_uint_eq(exchange(stores[1], stores[0], 1), 2);
	exchange(stores[1], stores[0], 0);
	check_same(stores[0], stores[1]);
}
END_TEST

/* Ties two objects of a store in one transaction, each with a new dot. */
static void tie(struct evfs_meta *meta, evfs_ino a, evfs_ino b)
{
	struct evfs_object *objects[2];
	struct evfs_tie_end ends[2] = { { .ino = a }, { .ino = b } };

	evfs_meta_lock(meta);
	for (int i = 0; i < 2; i++) {
		const struct evfs_object *stored;

		ends[i].dot = store_dot(meta);
		ck_assert_int_eq(evfs_facts_get(evfs_meta_facts(meta),
						ends[i].ino, &stored, NULL),
				 0);
		ck_assert_ptr_nonnull(stored);
		objects[i] = evfs_object_copy(stored);
		ck_assert_ptr_nonnull(objects[i]);
		ck_assert_int_eq(evfs_object_log_raise(objects[i],
						       ends[i].dot), 0);
	}
	for (int i = 0; i < 2; i++) {
		struct evfs_tie both = { ends[i].dot, ends, 2 };

		ck_assert_int_eq(evfs_object_put_tie(objects[i], &both), 0);
	}
	put(meta, objects, 2);
	evfs_meta_unlock(meta);
}

START_TEST(ties_stay_together)
{
	evfs_ino a = store_put_symlink(stores[0], "a");
	evfs_ino b = store_put_symlink(stores[0], "b");
	evfs_ino c = store_put_symlink(stores[0], "c");

	tie(stores[0], a, c);
	ck_assert_uint_eq(exchange(stores[1], stores[0], 1), 1); /* b */
	ck_assert(store_has(stores[1], b));
	ck_assert(!store_has(stores[1], a));
	/* What came before the cut is not known to have come: b again. */
	ck_assert_uint_eq(exchange(stores[1], stores[0], 2), 3);
	ck_assert(store_has(stores[1], a));
	ck_assert(store_has(stores[1], c));
	exchange(stores[1], stores[0], 0);
	check_same(stores[0], stores[1]);
	/* Whoever has the transaction gets one of its objects alone. */
	store_chmod(stores[0], a, 0600);
	ck_assert_uint_eq(exchange(stores[1], stores[0], 0), 1);
}
END_TEST

/* An object of which this store has forgotten a change of its own. */
START_TEST(own_dot_unknown)
{
	struct evfs_object *object;
	struct evfs_context none = { 0 };
	struct evfs_err err = { 0 };
	evfs_ino ino = store_put_symlink(stores[1], "a");
	const struct evfs_object *stored;
	size_t changed;

	evfs_meta_lock(stores[1]);
	ck_assert_int_eq(evfs_facts_get(evfs_meta_facts(stores[1]), ino,
					&stored, NULL), 0);
	object = evfs_object_copy(stored);
	evfs_meta_unlock(stores[1]);
	ck_assert_ptr_nonnull(object);
	ck_assert_int_eq(evfs_object_log_raise(
				 object, (evfs_dot){ evfs_meta_actor(stores[0]),
						     5 }), 0);
	evfs_meta_lock(stores[0]);
	ck_assert_int_eq(evfs_delta_apply(stores[0], &object, 1, &none,
					  &changed, &err), EVFS_EPROTO);
	ck_assert(strstr(err.msg, "old copy") != NULL);
	evfs_meta_unlock(stores[0]);
}
END_TEST

/* Batches have bounds. */
START_TEST(batch_bounds)
{
	struct evfs_delta *delta;
	size_t batches = 0;
	bool done = false;

	for (int i = 0; i < 1200; i++) {
		char name[16];

		(void)snprintf(name, sizeof(name), "f%d", i);
		store_put_symlink(stores[0], name);
	}
	delta = open_delta(stores[1], stores[0]);
	while (!done) {
		struct evfs_object **objects;
		size_t n;

		ck_assert_int_eq(evfs_delta_next(delta, 0, &objects, &n, &done,
						 NULL), 0);
		ck_assert_uint_le(n, EVFS_DELTA_OBJECTS_MAX);
		ck_assert_uint_eq(apply(stores[1], delta, objects, n), n);
		batches++;
	}
	ck_assert_uint_eq(batches, 3);
	finish(stores[1], delta);
	check_same(stores[0], stores[1]);
}
END_TEST

/* From a store on disk, while it is written to. */
START_TEST(from_disk)
{
	char *dir = store_make_dir();
	char *path = store_path(dir, "s");
	struct evfs_meta *disk = store_create(path, 2);
	evfs_ino first = store_put_symlink(disk, "a");
	evfs_ino second;

	ck_assert_int_eq(evfs_meta_sync(disk, NULL), 0);
	ck_assert_uint_eq(exchange(stores[0], disk, 0), 1);
	ck_assert(store_has(stores[0], first));
	store_chmod(disk, first, 0600);
	second = store_put_symlink(disk, "b");
	exchange(stores[0], disk, 0); /* whatever is durable by now */
	ck_assert_int_eq(evfs_meta_sync(disk, NULL), 0);
	exchange(stores[0], disk, 0);
	ck_assert(store_has(stores[0], second));
	exchange(disk, stores[0], 0);
	check_same(stores[0], disk);
	evfs_meta_close(disk);
	evfs_free(path);
	store_remove_dir(dir);
}
END_TEST

/* ---- random ---- */

static uint64_t seed;
static uint64_t state; /* of the generator */

static size_t below(size_t n)
{
	uint64_t z = state += UINT64_C(0x9e3779b97f4a7c15); /* splitmix64 */

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return (size_t)((z ^ (z >> 31)) % n);
}

/* A row of an object: this dot of it is known. */
struct fact {
	evfs_ino ino;
	evfs_dot dot;
};

struct facts_list {
	struct fact *items; /* owned */
	size_t n, cap;
	const struct evfs_context *within; /* only these dots; NULL = all */
};

static int list_object(void *arg, const struct evfs_object *object)
{
	struct facts_list *list = arg;

	for (size_t i = 0; i < object->n_log; i++) {
		evfs_dot dot = { object->log[i].actor,
				 object->log[i].counter };

		if (list->within != NULL &&
		    !evfs_context_covers(list->within, dot))
			continue;
		ck_assert_int_eq(evfs_grow((void **)&list->items, list->n,
					   &list->cap, sizeof(*list->items)),
				 0);
		list->items[list->n++] = (struct fact){ object->ino, dot };
	}
	return 0;
}

static void list(struct evfs_meta *meta, const struct evfs_context *within,
		 struct facts_list *ret)
{
	*ret = (struct facts_list){ .within = within };
	evfs_meta_lock(meta);
	ck_assert_int_eq(evfs_facts_each(evfs_meta_facts(meta), list_object,
					 ret, NULL), 0);
	evfs_meta_unlock(meta);
}

static void random_write(struct evfs_meta *meta)
{
	struct facts_list all;
	char name[16];

	list(meta, NULL, &all);
	(void)snprintf(name, sizeof(name), "n%zu", below(20));
	if (all.n < 2 || below(3) == 0)
		store_put_symlink(meta, name);
	else if (below(4) == 0) {
		evfs_ino a = all.items[below(all.n)].ino;
		evfs_ino b = all.items[below(all.n)].ino;
		int order = evfs_dot_cmp(a, b);

		if (order != 0)
			tie(meta, order < 0 ? a : b, order < 0 ? b : a);
	} else {
		store_chmod(meta, all.items[below(all.n)].ino,
			    (uint32_t)below(512));
	}
	evfs_free(all.items);
}

/* One exchange that is cut, or runs while its sender goes on writing and takes
 * things in from the third. D1 of meta/delta.c: what `snap` promises is there
 * at the end. */
static void random_exchange(struct evfs_meta *to, struct evfs_meta *from,
			    struct evfs_meta *third)
{
	struct evfs_delta *delta = open_delta(to, from);
	struct facts_list promised;
	bool done = false;

	list(from, evfs_delta_snap(delta), &promised);
	while (!done) {
		struct evfs_object **objects;
		size_t n;

		if (below(12) == 0)
			break;
		ck_assert_int_eq(evfs_delta_next(delta, 1 + below(3), &objects,
						 &n, &done, NULL), 0);
		apply(to, delta, objects, n);
		for (size_t i = below(3); i > 0; i--)
			random_write(from);
		if (below(8) == 0)
			exchange(from, third, below(2) * (1 + below(4)));
	}
	if (!done) {
		evfs_delta_close(delta);
		evfs_free(promised.items);
		return;
	}
	finish(to, delta);
	evfs_meta_lock(to);
	for (size_t i = 0; i < promised.n; i++) {
		const struct fact *fact = &promised.items[i];
		const struct evfs_object *object;

		ck_assert_int_eq(evfs_facts_get(evfs_meta_facts(to), fact->ino,
						&object, NULL), 0);
		ck_assert_ptr_nonnull(object);
		ck_assert_uint_ge(evfs_object_log_get(object, fact->dot.actor),
				  fact->dot.counter);
	}
	evfs_meta_unlock(to);
	evfs_free(promised.items);
}

static void random_history(void)
{
	for (int step = 0; step < 40; step++) {
		size_t i = below(STORES);
		size_t j = (i + 1 + below(STORES - 1)) % STORES;

		switch (below(8)) {
		case 0:
			random_exchange(stores[i], stores[j],
					stores[3 - i - j]);
			break;
		case 1:
			ck_assert_int_eq(evfs_meta_commit(stores[i], NULL), 0);
			break;
		case 2:
			if (below(4) == 0)
				ck_assert_int_eq(evfs_meta_crash(stores[i],
								 NULL), 0);
			break;
		default:
			random_write(stores[i]);
			break;
		}
	}
	for (int round = 0; round < 2; round++) {
		for (size_t i = 0; i < STORES; i++) {
			for (size_t j = 0; j < STORES; j++) {
				if (i != j)
					exchange(stores[i], stores[j], 0);
			}
		}
	}
	check_same(stores[0], stores[1]);
	check_same(stores[0], stores[2]);
}

START_TEST(random_histories)
{
	const char *given = getenv("EVFS_TEST_SEED");
	uint64_t first = given != NULL ? strtoull(given, NULL, 10) : 1;
	uint64_t n = given != NULL ? 1 : 120;

	/* The last one that is printed is the one that failed. */
	fprintf(stderr, "seeds");
	for (seed = first; seed < first + n; seed++) {
		fprintf(stderr, " %llu", (unsigned long long)seed);
		state = seed;
		random_history();
		teardown();
		setup();
	}
	fprintf(stderr, "\n");
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("delta");
	TCase *tcase = tcase_create("delta");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_set_timeout(tcase, 120);
	tcase_add_test(tcase, all_there);
	tcase_add_test(tcase, counted);
	tcase_add_test(tcase, parents_first);
	tcase_add_test(tcase, parents_in_a_circle);
	tcase_add_test(tcase, ties_stay_together);
	tcase_add_test(tcase, own_dot_unknown);
	tcase_add_test(tcase, batch_bounds);
	tcase_add_test(tcase, from_disk);
	tcase_add_test(tcase, random_histories);
	suite_add_tcase(suite, tcase);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? 0 : 1;
}
