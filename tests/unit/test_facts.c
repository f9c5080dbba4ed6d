/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The rows under the replicated state: what is put is what is read, in order,
 * also after a reopen; and what is rolled back has not been. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "meta/delta.h"
#include "tests/unit/store_world.h"

static struct evfs_meta *meta;   /* of this test; locked */
static struct evfs_facts *facts; /* of meta */

static void setup(void)
{
	meta = store_memory(0);
	facts = evfs_meta_facts(meta);
	evfs_meta_lock(meta);
}

static void teardown(void)
{
	evfs_meta_unlock(meta);
	evfs_meta_close(meta);
}

static evfs_dot dot(unsigned who, uint32_t epoch, uint64_t counter)
{
	return (evfs_dot){ { store_node(who), epoch }, counter };
}

static void put(struct evfs_object *object)
{
	struct evfs_err err = { 0 };

	ck_assert_msg(evfs_facts_put_object(facts, object, &err) == 0, "%s",
		      err.msg);
}

static const struct evfs_object *get(evfs_ino ino)
{
	const struct evfs_object *object;
	struct evfs_err err = { 0 };

	ck_assert_msg(evfs_facts_get(facts, ino, &object, &err) == 0, "%s",
		      err.msg);
	return object;
}

static struct evfs_object *make(evfs_dot ino)
{
	struct evfs_object *object = evfs_object_new(ino, EVFS_KIND_FIFO);

	ck_assert_ptr_nonnull(object);
	ck_assert_int_eq(evfs_object_log_raise(object, ino), 0);
	return object;
}

static uint64_t beyond(unsigned who, uint32_t epoch, uint64_t counter)
{
	struct evfs_context context = { 0 };
	uint64_t n = 0;

	ck_assert_int_eq(evfs_context_raise(&context,
					    dot(who, epoch, 1).actor, counter),
			 0);
	ck_assert_int_eq(evfs_delta_count(meta, &context, 1000, &n, NULL), 0);
	evfs_context_fini(&context);
	return n;
}

START_TEST(objects)
{
	evfs_dot a = dot(1, 0, 5);
	struct evfs_object *copy;

	ck_assert_ptr_null(get(a));
	put(make(a));
	ck_assert_ptr_nonnull(get(a));
	ck_assert_ptr_null(get(dot(1, 0, 4)));
	ck_assert_ptr_null(get(dot(1, 1, 5)));
	/* One dotlog row for each (actor, object): the newest. */
	ck_assert_uint_eq(beyond(1, 0, 4), 1);
	ck_assert_uint_eq(beyond(1, 0, 5), 0);
	copy = evfs_object_copy(get(a));
	ck_assert_ptr_nonnull(copy);
	ck_assert_int_eq(evfs_object_log_raise(copy, dot(1, 0, 9)), 0);
	ck_assert_int_eq(evfs_object_log_raise(copy, dot(2, 3, 1)), 0);
	put(copy);
	ck_assert_uint_eq(beyond(1, 0, 5), 2);
	ck_assert_uint_eq(beyond(1, 0, 9), 1);
	ck_assert_uint_eq(beyond(2, 3, 1), 1);
	ck_assert_uint_eq(beyond(2, 3, 0), 2);
}
END_TEST

START_TEST(counter_beyond_keys)
{
	struct evfs_err err = { 0 };
	evfs_dot far = dot(1, 0, UINT64_C(1) << 46);

	ck_assert_int_eq(evfs_facts_put_object(facts, make(far), &err),
			 EVFS_ELIMIT);
	ck_assert_ptr_null(get(far));
	far.counter--;
	put(make(far));
	ck_assert_ptr_nonnull(get(far));
}
END_TEST

struct order {
	evfs_dot last; /* seen */
	size_t n;      /* seen */
};

static int check_order(void *arg, const struct evfs_object *object)
{
	struct order *order = arg;

	if (order->n++ > 0)
		ck_assert_int_lt(evfs_dot_cmp(order->last, object->ino), 0);
	order->last = object->ino;
	return order->n == 7 ? 42 : 0;
}

START_TEST(each_in_order)
{
	struct order order = { .n = 0 };

	/* Actors are met in another order than theirs. */
	for (uint64_t i = 1; i <= 2; i++) {
		put(make(dot(2, 1, i * 300)));
		put(make(dot(0, 4, i * 7)));
		put(make(dot(2, 0, i)));
	}
	ck_assert_int_eq(evfs_facts_each(facts, check_order, &order, NULL), 0);
	ck_assert_uint_eq(order.n, 6);
	order.n = 0;
	put(make(dot(1, 0, 2)));
	ck_assert_int_eq(evfs_facts_each(facts, check_order, &order, NULL),
			 42);
}
END_TEST

/* ---- names ---- */

static char seen[4096]; /* what the callbacks saw */

static int see(void *arg, const struct evfs_name_row *row)
{
	size_t len = strlen(seen);

	(void)arg;
	ck_assert_uint_eq(row->link.dot.counter, row->ino.counter);
	(void)snprintf(seen + len, sizeof(seen) - len, "%.*s:%u/%llu%s%s ",
		       (int)row->name_len, (const char *)row->name,
		       row->ino.actor.epoch,
		       (unsigned long long)row->ino.counter,
		       row->kind == EVFS_KIND_DIR ? "d" : "",
		       row->multi ? "m" : "");
	return 0;
}

static struct evfs_name_row name_row(const char *name, evfs_dot ino,
				     enum evfs_kind kind, bool multi)
{
	return (struct evfs_name_row){ (const uint8_t *)name, strlen(name),
				       ino, { 77, ino }, kind, multi };
}

static void name_put(const char *name, evfs_dot ino, enum evfs_kind kind,
		     bool multi)
{
	struct evfs_name_row row = name_row(name, ino, kind, multi);

	ck_assert_int_eq(evfs_facts_name_put(facts, EVFS_INO_ROOT, &row, NULL),
			 0);
}

static const char *after(const char *name, size_t max)
{
	seen[0] = '\0';
	ck_assert_int_eq(evfs_facts_names_after(
				 facts, EVFS_INO_ROOT, name,
				 name == NULL ? 0 : strlen(name), max, see,
				 NULL, NULL),
			 0);
	return seen;
}

static const char *at(const char *name)
{
	seen[0] = '\0';
	ck_assert_int_eq(evfs_facts_names_at(facts, EVFS_INO_ROOT, name,
					     strlen(name), see, NULL, NULL),
			 0);
	return seen;
}

START_TEST(names)
{
	struct evfs_name_row row;

	name_put("b", dot(1, 0, 9), EVFS_KIND_FILE, true);
	name_put("b", dot(1, 0, 4), EVFS_KIND_DIR, false);
	name_put("b", dot(1, 3, 1), EVFS_KIND_FILE, false);
	name_put("b", dot(1, 2, 1), EVFS_KIND_FILE, false);
	name_put("\xff", dot(1, 0, 5), EVFS_KIND_DIR, false);
	name_put("a", dot(1, 0, 6), EVFS_KIND_FILE, false);
	name_put("bb", dot(1, 0, 7), EVFS_KIND_FILE, false);
	ck_assert_str_eq(after(NULL, 0), "a:0/6 b:0/4d b:0/9m b:2/1 b:3/1 "
			 "bb:0/7 \xff:0/5d ");
	ck_assert_str_eq(after("a", 0), "b:0/4d b:0/9m b:2/1 b:3/1 bb:0/7 "
			 "\xff:0/5d ");
	ck_assert_str_eq(after("b", 1), "bb:0/7 ");
	ck_assert_str_eq(after(NULL, 3), "a:0/6 b:0/4d b:0/9m ");
	ck_assert_str_eq(after("\xff", 0), "");
	ck_assert_str_eq(at("b"), "b:0/4d b:0/9m b:2/1 b:3/1 ");
	ck_assert_str_eq(at("c"), "");
	seen[0] = '\0';
	ck_assert_int_eq(evfs_facts_subdirs(facts, EVFS_INO_ROOT, see, NULL,
					    NULL), 0);
	ck_assert_str_eq(seen, "b:0/4d \xff:0/5d ");
	/* A put of the same link replaces its flags. */
	name_put("b", dot(1, 0, 9), EVFS_KIND_FILE, false);
	row = name_row("b", dot(1, 2, 1), EVFS_KIND_FILE, false);
	ck_assert_int_eq(evfs_facts_name_remove(facts, EVFS_INO_ROOT, &row,
						NULL), 0);
	ck_assert_str_eq(at("b"), "b:0/4d b:0/9 b:3/1 ");
	ck_assert_int_eq(evfs_facts_names_at(facts, EVFS_INO_LOST, "b", 1,
					     see, NULL, NULL), 0);
}
END_TEST

/* What was read of a name is remembered; not beyond a change of it, of others
 * that took its place, nor across a rollback. */
START_TEST(names_remembered)
{
	struct evfs_name_row row = name_row("x", dot(1, 0, 9), EVFS_KIND_FILE,
					    false);
	char name[16];

	ck_assert_str_eq(at("x"), "");
	name_put("x", dot(1, 0, 9), EVFS_KIND_FILE, false);
	ck_assert_str_eq(at("x"), "x:0/9 ");
	ck_assert_str_eq(at("x"), "x:0/9 ");
	seen[0] = '\0';
	ck_assert_int_eq(evfs_facts_names_at(facts, EVFS_INO_LOST, "x", 1,
					     see, NULL, NULL), 0);
	ck_assert_str_eq(seen, "");
	name_put("x", dot(1, 0, 9), EVFS_KIND_FILE, true);
	ck_assert_str_eq(at("x"), "x:0/9m ");
	ck_assert_int_eq(evfs_facts_save(facts, NULL), 0);
	name_put("x", dot(1, 0, 4), EVFS_KIND_FILE, false);
	ck_assert_str_eq(at("x"), "x:0/4 x:0/9m ");
	row.multi = true;
	ck_assert_int_eq(evfs_facts_name_remove(facts, EVFS_INO_ROOT, &row,
						NULL), 0);
	ck_assert_str_eq(at("x"), "x:0/4 ");
	evfs_facts_rollback(facts);
	ck_assert_str_eq(at("x"), "x:0/9m ");
	/* Of one name that is known: other rows come and go. */
	row = name_row("x", dot(1, 0, 8), EVFS_KIND_FILE, false);
	ck_assert_int_eq(evfs_facts_name_remove(facts, EVFS_INO_ROOT, &row,
						NULL), 0);
	ck_assert_str_eq(at("x"), "x:0/9m ");
	name_put("x", dot(1, 0, 8), EVFS_KIND_FILE, false);
	ck_assert_int_eq(evfs_facts_name_remove(facts, EVFS_INO_ROOT, &row,
						NULL), 0);
	ck_assert_str_eq(at("x"), "x:0/9m ");
	row = name_row("x", dot(1, 0, 9), EVFS_KIND_FILE, false);
	for (int i = 0; i < 20; i++) {
		(void)snprintf(name, sizeof(name), "n%d", i);
		ck_assert_str_eq(at(name), "");
		name_put(name, dot(1, 0, (uint64_t)i + 20), EVFS_KIND_FILE,
			 false);
		ck_assert_str_ne(at(name), "");
	}
	ck_assert_int_eq(evfs_facts_name_remove(facts, EVFS_INO_ROOT, &row,
						NULL), 0);
	ck_assert_str_eq(at("x"), "");
	ck_assert_str_eq(at("n0"), "n0:0/20 ");
}
END_TEST

static int nest(void *arg, const struct evfs_name_row *row)
{
	size_t *depth = arg;

	(void)row;
	if (++*depth < 5)
		ck_assert_int_eq(evfs_facts_names_after(facts, EVFS_INO_ROOT,
							NULL, 0, 0, nest,
							depth, NULL), 0);
	return 0;
}

/* The callback may ask the same again. */
START_TEST(names_nested)
{
	size_t calls = 0;

	name_put("a", dot(1, 0, 1), EVFS_KIND_FILE, false);
	name_put("b", dot(1, 0, 2), EVFS_KIND_FILE, false);
	ck_assert_int_eq(evfs_facts_names_after(facts, EVFS_INO_ROOT, NULL, 0,
						0, nest, &calls, NULL), 0);
	/* Each of the five levels goes on to its second row. */
	ck_assert_uint_eq(calls, 10);
}
END_TEST

/* ---- derived ---- */

static int count_cycle(void *arg, const struct evfs_cycle_row *row)
{
	ck_assert_uint_eq(row->shown_in.counter, row->dir.counter + 1);
	++*(size_t *)arg;
	return 0;
}

static int count_clash(void *arg, evfs_ino parent, const uint8_t *name,
		       size_t name_len)
{
	ck_assert(evfs_ino_is_root(parent));
	ck_assert_uint_eq(name_len, 2);
	ck_assert_int_eq(memcmp(name, "xy", 2), 0);
	++*(size_t *)arg;
	return 0;
}

static int count_unsealed(void *arg, evfs_ino ino)
{
	ck_assert(evfs_dot_equal(ino, dot(1, 0, 3)));
	++*(size_t *)arg;
	return 0;
}

START_TEST(sets)
{
	struct evfs_cycle_row row = { dot(1, 0, 1), dot(1, 0, 2) };
	size_t n = 0;
	bool is;

	ck_assert_int_eq(evfs_facts_set_cycle(facts, &row, true, NULL), 0);
	ck_assert_int_eq(evfs_facts_cycles(facts, count_cycle, &n, NULL), 0);
	ck_assert_uint_eq(n, 1);
	ck_assert_int_eq(evfs_facts_set_cycle(facts, &row, false, NULL), 0);
	ck_assert_int_eq(evfs_facts_cycles(facts, count_cycle, &n, NULL), 0);
	ck_assert_uint_eq(n, 1);

	for (int i = 0; i < 2; i++)
		ck_assert_int_eq(evfs_facts_clash_set(facts, EVFS_INO_ROOT,
						      "xy", 2, true, NULL), 0);
	n = 0;
	ck_assert_int_eq(evfs_facts_clashes(facts, count_clash, &n, NULL), 0);
	ck_assert_uint_eq(n, 1);
	ck_assert_int_eq(evfs_facts_clash_set(facts, EVFS_INO_ROOT, "xy", 2,
					      false, NULL), 0);
	ck_assert_int_eq(evfs_facts_clashes(facts, count_clash, &n, NULL), 0);
	ck_assert_uint_eq(n, 1);

	ck_assert_int_eq(evfs_facts_set_unsealed(facts, dot(1, 0, 3), true,
						 NULL), 0);
	ck_assert_int_eq(evfs_facts_is_unsealed(facts, dot(1, 0, 3), &is,
						NULL), 0);
	ck_assert(is);
	ck_assert_int_eq(evfs_facts_is_unsealed(facts, dot(2, 9, 3), &is,
						NULL), 0);
	ck_assert(!is);
	n = 0;
	ck_assert_int_eq(evfs_facts_each_unsealed(facts, count_unsealed, &n,
						  NULL), 0);
	ck_assert_uint_eq(n, 1);
	ck_assert_int_eq(evfs_facts_set_unsealed(facts, dot(1, 0, 3), false,
						 NULL), 0);
	ck_assert_int_eq(evfs_facts_is_unsealed(facts, dot(1, 0, 3), &is,
						NULL), 0);
	ck_assert(!is);
}
END_TEST

static bool needed(evfs_ino dir)
{
	bool is;

	ck_assert_int_eq(evfs_facts_is_needed(facts, dir, &is, NULL), 0);
	return is;
}

static uint64_t changed(evfs_ino dir)
{
	uint64_t ns;

	ck_assert_int_eq(evfs_facts_dir_changed(facts, dir, &ns, NULL), 0);
	return ns;
}

static bool unsealed(evfs_ino ino)
{
	bool is;

	ck_assert_int_eq(evfs_facts_is_unsealed(facts, ino, &is, NULL), 0);
	return is;
}

static void set_unsealed(evfs_ino ino, bool on)
{
	ck_assert_int_eq(evfs_facts_set_unsealed(facts, ino, on, NULL), 0);
}

static int count_any(void *arg, evfs_ino ino)
{
	ck_assert_uint_ge(ino.counter, 10);
	++*(size_t *)arg;
	return 0;
}

/* Whether a file is unsealed is remembered; a rollback puts it right, and the
 * row is what is remembered. */
START_TEST(unsealed_remembered)
{
	evfs_ino a = dot(1, 0, 1), b = dot(1, 0, 2);
	size_t n = 0;

	set_unsealed(a, true);
	ck_assert(unsealed(a));
	ck_assert(!unsealed(b));
	ck_assert_int_eq(evfs_facts_save(facts, NULL), 0);
	set_unsealed(a, false);
	set_unsealed(b, true);
	ck_assert(!unsealed(a));
	ck_assert(unsealed(b));
	evfs_facts_rollback(facts);
	ck_assert(unsealed(a));
	ck_assert(!unsealed(b));
	for (uint64_t i = 10; i < 30; i++) {
		set_unsealed(dot(1, 0, i), true);
		set_unsealed(dot(1, 0, i), false);
		set_unsealed(dot(1, 0, i), true);
	}
	set_unsealed(a, false);
	ck_assert(!unsealed(a));
	ck_assert(unsealed(dot(1, 0, 10)));
	ck_assert_int_eq(evfs_facts_each_unsealed(facts, count_any, &n,
						  NULL), 0);
	ck_assert_uint_eq(n, 20);
}
END_TEST

START_TEST(directories)
{
	evfs_dot dir = dot(1, 0, 3);

	ck_assert(needed(EVFS_INO_ROOT));
	ck_assert(needed(EVFS_INO_LOST));
	ck_assert(!needed(dir));
	ck_assert_int_eq(evfs_facts_set_needed(facts, dir, true, NULL), 0);
	ck_assert(needed(dir));
	ck_assert_int_eq(evfs_facts_raise_dir_changed(facts, dir, 50, NULL),
			 0);
	ck_assert_int_eq(evfs_facts_raise_dir_changed(facts, dir, 40, NULL),
			 0);
	ck_assert_int_eq(evfs_facts_raise_dir_changed(facts, EVFS_INO_ROOT, 60,
						      NULL), 0);
	ck_assert_uint_eq(changed(dir), 50);
	ck_assert_uint_eq(changed(EVFS_INO_ROOT), 60);
	/* Written at commit; the crash forgets what is only in memory. */
	evfs_meta_unlock(meta);
	ck_assert_int_eq(evfs_meta_commit(meta, NULL), 0);
	evfs_meta_lock(meta);
	ck_assert_int_eq(evfs_facts_raise_dir_changed(facts, dir, 90, NULL),
			 0);
	ck_assert_int_eq(evfs_facts_set_needed(facts, dir, false, NULL), 0);
	evfs_meta_unlock(meta);
	ck_assert_int_eq(evfs_meta_crash(meta, NULL), 0);
	evfs_meta_lock(meta);
	ck_assert_uint_eq(changed(dir), 50);
	ck_assert_uint_eq(changed(EVFS_INO_ROOT), 60);
	ck_assert(needed(dir));
}
END_TEST

/* ---- undo ---- */

static void change_all(void)
{
	struct evfs_object *copy = evfs_object_copy(get(dot(1, 0, 1)));
	evfs_hash hash = evfs_hash_bytes("x", 1);

	ck_assert_ptr_nonnull(copy);
	ck_assert_int_eq(evfs_object_log_raise(copy, dot(1, 0, 8)), 0);
	put(copy);
	put(make(dot(2, 5, 2))); /* of an actor that was unknown */
	name_put("n", dot(2, 5, 2), EVFS_KIND_FIFO, false);
	ck_assert_int_eq(evfs_facts_set_needed(facts, dot(1, 0, 1), true,
					       NULL), 0);
	ck_assert_int_eq(evfs_facts_raise_dir_changed(facts, dot(1, 0, 1), 70,
						      NULL), 0);
	evfs_facts_counter_add(facts, EVFS_COUNTER_FILES, 3);
	evfs_facts_root_change(facts, NULL, &hash);
}

static void check_unchanged(void)
{
	ck_assert_uint_eq(get(dot(1, 0, 1))->log[0].counter, 1);
	ck_assert_ptr_null(get(dot(2, 5, 2)));
	ck_assert_str_eq(at("n"), "");
	ck_assert(!needed(dot(1, 0, 1)));
	ck_assert_uint_eq(changed(dot(1, 0, 1)), 7);
	ck_assert_int_eq(evfs_facts_counter(facts, EVFS_COUNTER_FILES), 1);
	ck_assert(evfs_hash_is_zero(evfs_facts_root(facts)));
	ck_assert_uint_eq(beyond(1, 0, 0), 1);
}

START_TEST(rollback)
{
	put(make(dot(1, 0, 1)));
	evfs_facts_counter_add(facts, EVFS_COUNTER_FILES, 1);
	ck_assert_int_eq(evfs_facts_raise_dir_changed(facts, dot(1, 0, 1), 7,
						      NULL), 0);
	ck_assert_int_eq(evfs_facts_save(facts, NULL), 0);
	change_all();
	evfs_facts_rollback(facts);
	check_unchanged();
	/* The number of the forgotten actor goes to another one. */
	put(make(dot(0, 9, 2)));
	ck_assert_ptr_nonnull(get(dot(0, 9, 2)));
	ck_assert_ptr_null(get(dot(2, 5, 2)));
}
END_TEST

/* The object with another newest dot of this actor. */
static void raise(evfs_dot ino, evfs_dot to)
{
	struct evfs_object *copy = evfs_object_copy(get(ino));

	ck_assert_ptr_nonnull(copy);
	ck_assert_int_eq(evfs_object_log_raise(copy, to), 0);
	put(copy);
}

/* Objects are written with the commit: what was written before a savepoint,
 * what was not, and what came in it, each comes back as it was. */
START_TEST(rollback_of_unwritten)
{
	evfs_dot written = dot(1, 0, 1), waiting = dot(1, 0, 2),
		 added = dot(1, 0, 3);

	put(make(written));
	ck_assert_uint_eq(beyond(1, 0, 0), 1); /* writes it */
	put(make(waiting));
	ck_assert_int_eq(evfs_facts_save(facts, NULL), 0);
	put(make(added));
	raise(written, dot(1, 0, 11));
	raise(waiting, dot(1, 0, 12));
	raise(written, dot(1, 0, 13));
	raise(added, dot(1, 0, 14));
	evfs_facts_rollback(facts);
	ck_assert_ptr_null(get(added));
	ck_assert_uint_eq(get(written)->log[0].counter, 1);
	ck_assert_uint_eq(get(waiting)->log[0].counter, 2);
	ck_assert_uint_eq(beyond(1, 0, 0), 2);
	ck_assert_uint_eq(beyond(1, 0, 2), 0);
	/* The same, kept. */
	ck_assert_int_eq(evfs_facts_save(facts, NULL), 0);
	put(make(added));
	raise(written, dot(1, 0, 11));
	raise(written, dot(1, 0, 13));
	ck_assert_int_eq(evfs_facts_release(facts, NULL), 0);
	raise(added, dot(1, 0, 14));
	ck_assert_uint_eq(beyond(1, 0, 0), 3);
	ck_assert_uint_eq(beyond(1, 0, 12), 2);
	ck_assert_uint_eq(beyond(1, 0, 13), 1);
	/* What was released stays after the next one is undone. */
	ck_assert_int_eq(evfs_facts_save(facts, NULL), 0);
	put(make(dot(1, 0, 21)));
	evfs_facts_rollback(facts);
	ck_assert_ptr_nonnull(get(added));
	ck_assert_ptr_null(get(dot(1, 0, 21)));
}
END_TEST

/* Every allocation of a change may fail: then it is as if it had not been. */
START_TEST(rollback_no_memory)
{
	uint64_t n;

	put(make(dot(1, 0, 1)));
	for (n = 1;; n++) {
		struct evfs_object *object = make(dot(1, 0, 100 + n));
		evfs_dot ino = object->ino;
		struct evfs_name_row row = name_row("m", ino, EVFS_KIND_FIFO,
						    false);
		int rc;

		ck_assert_int_eq(evfs_facts_save(facts, NULL), 0);
		evfs_mem_fail_after(n);
		rc = evfs_facts_put_object(facts, object, NULL);
		if (rc == 0)
			rc = evfs_facts_name_put(facts, EVFS_INO_ROOT, &row,
						 NULL);
		if (rc == 0)
			rc = evfs_facts_raise_dir_changed(facts, ino, 9, NULL);
		evfs_mem_fail_after(0);
		if (rc == 0) {
			ck_assert_int_eq(evfs_facts_release(facts, NULL), 0);
			ck_assert_ptr_nonnull(get(ino));
			break;
		}
		ck_assert_int_eq(rc, EVFS_ENOMEM);
		evfs_facts_rollback(facts);
		ck_assert_ptr_null(get(ino));
		ck_assert_str_eq(at("m"), "");
		ck_assert_uint_eq(beyond(1, 0, 0), 1);
		ck_assert_uint_lt(n, 1000);
	}
	ck_assert_uint_gt(n, 3);
}
END_TEST

/* More objects than the cache holds, read again after it was trimmed. */
START_TEST(cache_bounds)
{
	for (uint64_t i = 1; i <= 40000; i++) {
		put(make(dot(1, 0, i)));
		if (i % 5000 == 0) {
			evfs_meta_unlock(meta);
			evfs_meta_lock(meta);
		}
	}
	for (uint64_t i = 1; i <= 40000; i += 7)
		ck_assert_uint_eq(get(dot(1, 0, i))->ino.counter, i);
	evfs_facts_trim(facts);
	ck_assert_uint_eq(get(dot(1, 0, 1))->ino.counter, 1);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("facts");
	TCase *tcase = tcase_create("facts");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_set_timeout(tcase, 60);
	tcase_add_test(tcase, objects);
	tcase_add_test(tcase, counter_beyond_keys);
	tcase_add_test(tcase, each_in_order);
	tcase_add_test(tcase, names);
	tcase_add_test(tcase, names_nested);
	tcase_add_test(tcase, names_remembered);
	tcase_add_test(tcase, sets);
	tcase_add_test(tcase, unsealed_remembered);
	tcase_add_test(tcase, directories);
	tcase_add_test(tcase, rollback);
	tcase_add_test(tcase, rollback_of_unwritten);
	tcase_add_test(tcase, rollback_no_memory);
	tcase_add_test(tcase, cache_bounds);
	suite_add_tcase(suite, tcase);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? 0 : 1;
}
