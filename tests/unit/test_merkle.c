/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The Merkle tree against its plain form, after random changes that no
 * operation would write, undone ones among them; splitting and joining of
 * buckets; after a restart and a lost transaction. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "meta/facts.h"
#include "meta/index.h"
#include "meta/merkle.h"
#include "tests/lib/refmerkle.h"
#include "tests/unit/store_world.h"
#include "tests/unit/view_world.h"

#define OBJECTS 24
#define DIRS 8

static uint64_t state = 1; /* of the generator */

static size_t below(size_t n)
{
	uint64_t z = state += UINT64_C(0x9e3779b97f4a7c15); /* splitmix64 */

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return (size_t)((z ^ (z >> 31)) % n);
}

static void check_tree(struct evfs_meta *meta)
{
	struct evfs_buf why = { 0 };
	bool ok = refmerkle_check(meta, &why);

	ck_assert_msg(ok, "%s", (const char *)why.data);
	evfs_buf_fini(&why);
}

static void check_world(struct world *world)
{
	evfs_meta_unlock(world->meta);
	check_tree(world->meta);
	evfs_meta_lock(world->meta);
}

/* ---- paths ---- */

START_TEST(paths)
{
	evfs_ino ino = { { 7, 1 }, 9 };
	uint64_t path = evfs_merkle_path(EVFS_INO_ROOT, ino);

	ck_assert_int_eq(evfs_merkle_level(path), 4);
	ck_assert_int_eq(evfs_merkle_level(EVFS_MERKLE_ROOT), 0);
	ck_assert_int_eq(evfs_merkle_level(256), 1);
	ck_assert_int_eq(evfs_merkle_level(511), 1);
	ck_assert_int_eq(evfs_merkle_level(0), -1);
	ck_assert_int_eq(evfs_merkle_level(2), -1);
	ck_assert_int_eq(evfs_merkle_level(512), -1);
	ck_assert_int_eq(evfs_merkle_level(path << 8), -1);
	ck_assert_int_eq(evfs_merkle_level(UINT64_MAX), -1);
	ck_assert_uint_eq(evfs_merkle_above(path, 0), EVFS_MERKLE_ROOT);
	/* Replicas must agree on these for ever. */
	ck_assert_uint_eq(evfs_merkle_above(path, 2), 0x1e847);
	ck_assert_uint_eq(path & 0xffff, 0x17c8);
}
END_TEST

/* ---- random states ---- */

/* within: of a step that is begun. */
static void change(struct world *world, evfs_ino *inos, size_t i, bool within)
{
	enum evfs_kind kind = i < DIRS	? EVFS_KIND_DIR :
			      i % 3 == 0 ? EVFS_KIND_FIFO :
					   EVFS_KIND_FILE;
	struct evfs_object *object = world_edit(world, inos[i], kind);
	evfs_ino dir = below(3) == 0 ? EVFS_INO_ROOT : inos[below(DIRS)];
	size_t links = kind == EVFS_KIND_DIR ? 1 : 3;
	char name[2] = { (char)('a' + below(3)), '\0' };

	if (evfs_dot_equal(dir, inos[i]))
		dir = EVFS_INO_ROOT;
	if (object->n_links == 0 || (object->n_links < links && below(3) == 0))
		world_link(world, object, 1 + below(3), dir, name);
	else if (below(2) == 0)
		world_move(world, object, below(object->n_links), 1 + below(3),
			   dir, NULL, name);
	if (below(3) == 0)
		world_alive(world, object, below(object->n_links),
			    1 + below(3), below(2) == 0);
	if (kind == EVFS_KIND_FILE && below(2) == 0)
		(void)world_version(world, object, 1 + below(3),
				    below(2) == 0 ? "x" : "y");
	if (within)
		ck_assert_int_eq(evfs_index_put_within(world->meta, &object, 1,
						       EVFS_FEED_REMOTE, NULL),
				 0);
	else
		world_put(world, object);
}

START_TEST(random_changes)
{
	struct world world;
	evfs_ino inos[OBJECTS];

	state = (uint64_t)_i;
	world_open(&world);
	for (size_t i = 0; i < OBJECTS; i++)
		inos[i] = world_dot(&world, 1 + below(3));
	for (unsigned step = 0; step < 400; step++) {
		bool undone = below(4) == 0;

		if (undone)
			ck_assert_int_eq(evfs_index_begin(world.meta, NULL),
					 0);
		for (size_t n = below(4) + 1; n > 0; n--)
			change(&world, inos, below(OBJECTS), undone);
		if (undone)
			ck_assert_int_eq(evfs_index_end(world.meta, EVFS_EIO,
							NULL),
					 EVFS_EIO);
		if (below(40) == 0)
			ck_assert_int_eq(evfs_index_rebuild(world.meta, NULL),
					 0);
		if (below(8) == 0)
			check_world(&world);
	}
	check_world(&world);
	world_close(&world);
}
END_TEST

/* ---- large buckets ---- */

static void put(struct evfs_meta *meta, struct evfs_object *object)
{
	struct evfs_err err = { 0 };

	ck_assert_msg(evfs_index_put(meta, &object, 1, EVFS_FEED_LOCAL,
				     &err) == 0,
		      "%s", err.msg);
}

/* Symlinks f(from) to f(to - 1) in a directory. */
static void fill(struct evfs_meta *meta, evfs_ino dir, evfs_ino *inos,
		 size_t from, size_t to)
{
	char name[16];

	evfs_meta_lock(meta);
	for (; from < to; from++) {
		struct evfs_object *object;

		snprintf(name, sizeof(name), "f%zu", from);
		object = store_symlink(meta, dir, name);
		inos[from] = object->ino;
		put(meta, object);
	}
	evfs_meta_unlock(meta);
}

static void unlink_all(struct evfs_meta *meta, const evfs_ino *inos,
		       size_t from, size_t to)
{
	evfs_meta_lock(meta);
	for (; from < to; from++) {
		const struct evfs_object *old;
		struct evfs_object *object;

		ck_assert_int_eq(evfs_facts_get(evfs_meta_facts(meta),
						inos[from], &old, NULL), 0);
		object = evfs_object_copy(old);
		ck_assert_int_eq(evfs_object_set_alive(object,
						       &object->links[0],
						       NULL), 0);
		ck_assert_int_eq(evfs_object_log_raise(object,
						       store_dot(meta)), 0);
		put(meta, object);
	}
	evfs_meta_unlock(meta);
}

/* Is the bucket of this directory split, by its count? */
static int64_t bucket_count(struct evfs_meta *meta, evfs_ino dir)
{
	uint64_t path = evfs_merkle_above(evfs_merkle_path(dir, dir), 2);
	struct evfs_merkle_view *view;
	struct evfs_merkle_node node;

	ck_assert_int_eq(evfs_merkle_open(meta, &view, NULL), 0);
	ck_assert_int_eq(evfs_merkle_get(view, path, &node, NULL), 0);
	evfs_merkle_close(view);
	return node.count;
}

START_TEST(split_and_join)
{
	static evfs_ino inos[1600];
	struct evfs_meta *meta = store_memory(1);
	struct evfs_object *object;
	evfs_ino dir;

	evfs_meta_lock(meta);
	object = store_directory(meta, EVFS_INO_ROOT, "d");
	dir = object->ino;
	put(meta, object);
	evfs_meta_unlock(meta);
	fill(meta, dir, inos, 0, 1000);
	check_tree(meta);
	fill(meta, dir, inos, 1000, 1200); /* crosses within one commit */
	check_tree(meta);
	ck_assert_int_eq(bucket_count(meta, dir), 1200);
	fill(meta, dir, inos, 1200, 1500);
	unlink_all(meta, inos, 0, 100);
	check_tree(meta);
	unlink_all(meta, inos, 100, 1000);
	check_tree(meta); /* still split */
	unlink_all(meta, inos, 1000, 1200);
	check_tree(meta);
	ck_assert_int_eq(bucket_count(meta, dir), 300);
	fill(meta, dir, inos, 1500, 1600);
	check_tree(meta);
	evfs_meta_close(meta);
}
END_TEST

/* ---- what lasts ---- */

START_TEST(restart)
{
	static evfs_ino inos[1200];
	char *dir = store_make_dir();
	char *path = store_path(dir, "s");
	struct evfs_meta *meta = store_create(path, 1);

	fill(meta, EVFS_INO_ROOT, inos, 0, 1100);
	check_tree(meta);
	evfs_meta_close(meta);
	meta = store_open(path);
	check_tree(meta);
	unlink_all(meta, inos, 0, 50);
	fill(meta, EVFS_INO_ROOT, inos, 1100, 1200);
	check_tree(meta);
	evfs_meta_close(meta);
	free(path);
	store_remove_dir(dir);
}
END_TEST

START_TEST(power_loss)
{
	static evfs_ino inos[40];
	struct evfs_meta *meta = store_memory(1);

	fill(meta, EVFS_INO_ROOT, inos, 0, 20);
	check_tree(meta); /* commits */
	fill(meta, EVFS_INO_ROOT, inos, 20, 40);
	ck_assert_int_eq(evfs_meta_crash(meta, NULL), 0);
	check_tree(meta);
	ck_assert(!store_has(meta, inos[30]));
	fill(meta, EVFS_INO_ROOT, inos, 20, 40);
	check_tree(meta);
	evfs_meta_close(meta);
}
END_TEST

/* ---- a tree that is wrong ---- */

static uint64_t verify(struct evfs_meta *meta, uint64_t *ret_objects)
{
	struct evfs_merkle_pass pass = { 0 };
	struct evfs_err err = { 0 };
	bool done = false;

	while (!done)
		ck_assert_msg(evfs_merkle_verify(meta, &pass, &done, &err) == 0,
			      "%s", err.msg);
	*ret_objects = pass.objects;
	return pass.wrong;
}

/* One object is counted twice, another was never counted, one in a bucket that
 * is split. */
START_TEST(wrong_tree)
{
	static evfs_ino inos[1300];
	struct evfs_meta *meta = store_memory(1);
	struct evfs_facts *facts = evfs_meta_facts(meta);
	const struct evfs_object *object;
	uint64_t objects;
	evfs_hash hash, root;

	fill(meta, EVFS_INO_ROOT, inos, 0, 1300);
	check_tree(meta);
	root = evfs_meta_durable_root(meta);
	ck_assert_uint_eq(verify(meta, &objects), 0);
	ck_assert_uint_eq(objects, 1300);
	evfs_meta_lock(meta);
	ck_assert_int_eq(evfs_facts_get(facts, inos[7], &object, NULL), 0);
	ck_assert_int_eq(evfs_object_live_hash(object, &hash), 0);
	ck_assert_int_eq(evfs_facts_merkle_change(facts, object, 1, &hash,
						  NULL), 0);
	evfs_facts_root_change(facts, NULL, &hash);
	ck_assert_int_eq(evfs_facts_get(facts, inos[8], &object, NULL), 0);
	ck_assert_int_eq(evfs_object_live_hash(object, &hash), 0);
	ck_assert_int_eq(evfs_facts_merkle_change(facts, object, -1, &hash,
						  NULL), 0);
	evfs_facts_root_change(facts, &hash, NULL);
	evfs_meta_unlock(meta);
	ck_assert_uint_eq(verify(meta, &objects), 3); /* bucket, above, root */
	check_tree(meta);
	evfs_hash now = evfs_meta_durable_root(meta);
	ck_assert(evfs_hash_equal(&now, &root));
	ck_assert_uint_eq(verify(meta, &objects), 0);
	evfs_meta_close(meta);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("merkle");
	TCase *tc = tcase_create("merkle");
	SRunner *runner;
	int failed;

	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, paths);
	tcase_add_loop_test(tc, random_changes, 0, 10);
	tcase_add_test(tc, split_and_join);
	tcase_add_test(tc, restart);
	tcase_add_test(tc, power_loss);
	tcase_add_test(tc, wrong_tree);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
