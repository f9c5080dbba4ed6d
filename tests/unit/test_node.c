/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The node table: what is the same node, and what is not. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/attr.h"
#include "fs/fs_priv.h"
#include "meta/collect.h"
#include "meta/facts.h"
#include "meta/feed.h"
#include "meta/index.h"
#include "tests/unit/node_world.h"

struct bench {
	struct world world;
	struct evfs_fs fs;
};

static void bench_open(struct bench *bench)
{
	memset(bench, 0, sizeof(*bench));
	node_world_open(&bench->world, &bench->fs);
}

static void bench_close(struct bench *bench)
{
	node_world_close(&bench->world, &bench->fs);
}

static void make(struct bench *bench, evfs_ino dir, const char *name,
		 enum evfs_kind kind, evfs_ino *ret)
{
	struct evfs_content_ref empty = { .content = EVFS_CONTENT_EMPTY };
	struct evfs_new what = { .kind = kind, .mode = 0644 };
	struct evfs_err err = { 0 };
	evfs_stamp link;

	if (kind == EVFS_KIND_FILE)
		what.content = &empty;
	evfs_meta_lock(bench->fs.meta);
	ck_assert_msg(evfs_tree_create(bench->fs.meta, dir, name, strlen(name),
				       &what, ret, &link, &err) == 0,
		      "%s", err.msg);
	evfs_meta_unlock(bench->fs.meta);
}

/* As a LOOKUP does: one reference more. */
static struct evfs_node *look(struct bench *bench, evfs_ino dir,
			      const char *name)
{
	struct evfs_entry entry = { 0 };
	struct evfs_node *node = NULL;

	evfs_meta_lock(bench->fs.meta);
	if (evfs_view_lookup(bench->fs.meta, dir, name, strlen(name), &entry,
			     NULL) == 0)
		ck_assert_int_eq(evfs_node_of_entry(&bench->fs, dir, &entry,
						    &node, NULL), 0);
	evfs_meta_unlock(bench->fs.meta);
	evfs_entry_fini(&entry);
	return node;
}

static uint64_t lookups(struct bench *bench, const struct evfs_node *node)
{
	const struct evfs_node_table *table = &bench->fs.nodes.table;

	return evfs_table_at(table, evfs_table_find(table, node->id))->lookups;
}

/* A version through this handle, of these bytes. */
static void seal(struct bench *bench, struct evfs_handle *handle,
		 const char *text)
{
	struct evfs_content_ref ref = { .size = strlen(text) };

	ref.content = world_put(&bench->world, text, ref.size, false);
	evfs_meta_lock_content(bench->fs.meta);
	ck_assert_int_eq(evfs_tree_seal(bench->fs.meta, handle, &ref, NULL),
			 0);
	evfs_meta_unlock(bench->fs.meta);
}

START_TEST(the_same_name_is_the_same_node)
{
	struct bench bench;
	struct evfs_node *a, *b;
	evfs_ino ino;

	bench_open(&bench);
	make(&bench, EVFS_INO_ROOT, "f", EVFS_KIND_FILE, &ino);
	a = look(&bench, EVFS_INO_ROOT, "f");
	b = look(&bench, EVFS_INO_ROOT, "f");
	ck_assert_ptr_eq(a, b);
	ck_assert_uint_eq(lookups(&bench, a), 2);
	ck_assert_uint_gt(a->id, FUSE_ROOT_ID);
	bench_close(&bench);
}
END_TEST

START_TEST(hard_links_share_a_node)
{
	struct bench bench;
	struct evfs_node *a, *b;
	evfs_ino ino;

	bench_open(&bench);
	make(&bench, EVFS_INO_ROOT, "f", EVFS_KIND_FILE, &ino);
	a = look(&bench, EVFS_INO_ROOT, "f");
	evfs_meta_lock(bench.fs.meta);
	ck_assert_int_eq(evfs_tree_link_handle(bench.fs.meta,
					       &a->file->handle, NULL,
					       EVFS_INO_ROOT, "g", 1, NULL),
			 0);
	evfs_meta_unlock(bench.fs.meta);
	b = look(&bench, EVFS_INO_ROOT, "g");
	ck_assert_ptr_eq(a, b);
	bench_close(&bench);
}
END_TEST

START_TEST(own_writes_keep_the_node)
{
	struct bench bench;
	struct evfs_node *a;
	evfs_ino ino;

	bench_open(&bench);
	make(&bench, EVFS_INO_ROOT, "f", EVFS_KIND_FILE, &ino);
	a = look(&bench, EVFS_INO_ROOT, "f");
	seal(&bench, &a->file->handle, "one");
	ck_assert_ptr_eq(look(&bench, EVFS_INO_ROOT, "f"), a);
	seal(&bench, &a->file->handle, "two");
	ck_assert_ptr_eq(look(&bench, EVFS_INO_ROOT, "f"), a);
	bench_close(&bench);
}
END_TEST

/* A merge brings a version of another replica that replaces all others. */
static void merge_version(struct bench *bench, evfs_ino ino)
{
	struct evfs_version version = {
		.dot = { { 99, 0 }, 1 },
		.time_ns = UINT64_MAX / 4,
		.size = 3,
	};
	const struct evfs_object *object;
	struct evfs_object *copy;

	version.content = world_put(&bench->world, "new", 3, false);
	evfs_meta_lock_content(bench->fs.meta);
	ck_assert_int_eq(evfs_facts_get(bench->fs.facts, ino, &object, NULL),
			 0);
	copy = evfs_object_copy(object);
	ck_assert_ptr_nonnull(copy);
	evfs_object_remove_version(copy, copy->versions[0].dot);
	ck_assert_int_eq(evfs_object_put_version(copy, &version), 0);
	ck_assert_int_eq(evfs_object_log_raise(copy, version.dot), 0);
	ck_assert_int_eq(evfs_index_put(bench->fs.meta, &copy, 1,
					EVFS_FEED_REMOTE, NULL), 0);
	evfs_meta_unlock(bench->fs.meta);
}

START_TEST(a_version_from_elsewhere_is_another_node)
{
	struct bench bench;
	struct evfs_node *a, *b;
	struct evfs_shown shown;
	evfs_ino ino;

	bench_open(&bench);
	make(&bench, EVFS_INO_ROOT, "f", EVFS_KIND_FILE, &ino);
	a = look(&bench, EVFS_INO_ROOT, "f");
	merge_version(&bench, ino);
	b = look(&bench, EVFS_INO_ROOT, "f");
	ck_assert_ptr_ne(a, b);
	ck_assert_uint_ne(a->id, b->id);
	/* The old one goes on showing what it was opened on. */
	evfs_meta_lock(bench.fs.meta);
	ck_assert_int_eq(evfs_tree_shown(bench.fs.meta, &a->file->handle,
					 &shown, NULL), 0);
	ck_assert_uint_eq(shown.size, 0);
	ck_assert_int_eq(evfs_tree_shown(bench.fs.meta, &b->file->handle,
					 &shown, NULL), 0);
	ck_assert_uint_eq(shown.size, 3);
	evfs_meta_unlock(bench.fs.meta);
	bench_close(&bench);
}
END_TEST

START_TEST(forgotten_and_unpinned_is_gone)
{
	struct bench bench;
	struct evfs_node *a;
	evfs_ino ino;
	uint64_t id;

	bench_open(&bench);
	make(&bench, EVFS_INO_ROOT, "d", EVFS_KIND_DIR, &ino);
	a = look(&bench, EVFS_INO_ROOT, "d");
	id = a->id;
	ck_assert_ptr_eq(evfs_node_pin(&bench.fs, id), a);
	evfs_node_forget(&bench.fs, id, 1);
	ck_assert_ptr_eq(evfs_node_pin(&bench.fs, id), a); /* pinned: lives */
	evfs_node_unpin(&bench.fs, a);
	evfs_node_unpin(&bench.fs, a);
	ck_assert_ptr_null(evfs_node_pin(&bench.fs, id));
	a = look(&bench, EVFS_INO_ROOT, "d");
	ck_assert_uint_ne(a->id, id); /* never used twice */
	evfs_node_forget(&bench.fs, FUSE_ROOT_ID, 5);
	a = evfs_node_pin(&bench.fs, FUSE_ROOT_ID);
	ck_assert_ptr_nonnull(a);
	evfs_node_unpin(&bench.fs, a);
	bench_close(&bench);
}
END_TEST

START_TEST(many_nodes_are_all_found)
{
	struct bench bench;
	evfs_ino ino;
	uint64_t ids[3000];
	char name[16];

	bench_open(&bench);
	for (int i = 0; i < 3000; i++) {
		(void)snprintf(name, sizeof(name), "d%d", i);
		make(&bench, EVFS_INO_ROOT, name, EVFS_KIND_DIR, &ino);
		ids[i] = look(&bench, EVFS_INO_ROOT, name)->id;
	}
	for (int i = 0; i < 3000; i++) {
		(void)snprintf(name, sizeof(name), "d%d", i);
		ck_assert_uint_eq(look(&bench, EVFS_INO_ROOT, name)->id,
				  ids[i]);
		evfs_node_forget(&bench.fs, ids[i], 2);
		ck_assert_ptr_null(evfs_node_pin(&bench.fs, ids[i]));
	}
	ck_assert_uint_eq(bench.fs.nodes.table.n, 1);
	bench_close(&bench);
}
END_TEST

static void collect(struct bench *bench)
{
	struct evfs_err err = { 0 };
	bool more = true;

	while (more)
		ck_assert_msg(evfs_collect_step(bench->fs.meta, 1000, &more,
						&err) == 0, "%s", err.msg);
}

static bool is_there(struct bench *bench, evfs_ino ino)
{
	const struct evfs_object *object = NULL;

	evfs_meta_lock(bench->fs.meta);
	ck_assert_int_eq(evfs_facts_get(bench->fs.facts, ino, &object, NULL),
			 0);
	evfs_meta_unlock(bench->fs.meta);
	return object != NULL;
}

/* A removed directory that somebody is in, or a removed FIFO that is open, has
 * no handle, but a node: the kernel may ask about it as long as it has that. */
START_TEST(what_the_kernel_has_is_not_collected)
{
	struct bench bench;
	struct evfs_node *dir, *fifo;
	struct stat now;
	evfs_ino d, f;

	bench_open(&bench);
	make(&bench, EVFS_INO_ROOT, "d", EVFS_KIND_DIR, &d);
	make(&bench, EVFS_INO_ROOT, "f", EVFS_KIND_FIFO, &f);
	dir = look(&bench, EVFS_INO_ROOT, "d");
	fifo = look(&bench, EVFS_INO_ROOT, "f");
	evfs_meta_lock(bench.fs.meta);
	ck_assert_int_eq(evfs_tree_rmdir(bench.fs.meta, EVFS_INO_ROOT, "d", 1,
					 NULL), 0);
	ck_assert_int_eq(evfs_tree_unlink(bench.fs.meta, EVFS_INO_ROOT, "f", 1,
					  NULL), 0);
	evfs_meta_unlock(bench.fs.meta);
	collect(&bench);
	ck_assert(is_there(&bench, d) && is_there(&bench, f));
	evfs_meta_lock(bench.fs.meta);
	ck_assert_int_eq(evfs_attr_node(&bench.fs, fifo, &now, NULL), 0);
	ck_assert(S_ISFIFO(now.st_mode));
	evfs_meta_unlock(bench.fs.meta);
	evfs_node_forget(&bench.fs, dir->id, 1);
	collect(&bench);
	ck_assert(!is_there(&bench, d) && is_there(&bench, f));
	evfs_node_forget(&bench.fs, fifo->id, 1);
	collect(&bench);
	ck_assert(!is_there(&bench, f));
	bench_close(&bench);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("node");
	TCase *cases = tcase_create("node");
	SRunner *runner;
	int failed;

	tcase_add_test(cases, the_same_name_is_the_same_node);
	tcase_add_test(cases, hard_links_share_a_node);
	tcase_add_test(cases, own_writes_keep_the_node);
	tcase_add_test(cases, a_version_from_elsewhere_is_another_node);
	tcase_add_test(cases, forgotten_and_unpinned_is_gone);
	tcase_add_test(cases, many_nodes_are_all_found);
	tcase_add_test(cases, what_the_kernel_has_is_not_collected);
	suite_add_tcase(suite, cases);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
