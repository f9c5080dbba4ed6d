/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Nodes that are put away and come back. The reference of the random histories
 * is a handle that stays open for each node: what a node shows must be what
 * that handle shows, whatever became of the file meanwhile. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "fs/fs_priv.h"
#include "meta/facts.h"
#include "meta/feed.h"
#include "meta/index.h"
#include "tests/unit/node_world.h"
#include "tests/unit/run_seed.h"

#define STEPS 3000
#define NODES_MAX 400

/* A node that the kernel knows. */
struct known {
	uint64_t id;
	uint64_t lookups;
	struct evfs_handle handle; /* the reference */
	struct evfs_node *pinned;  /* or NULL */
};

struct bench {
	struct world world;
	struct evfs_fs fs;
	struct known *known[NODES_MAX];
	size_t n;
	uint64_t seed;
	uint64_t n_made;    /* names, and versions from elsewhere */
};

static void bench_open(struct bench *bench)
{
	memset(bench, 0, sizeof(*bench));
	node_world_open(&bench->world, &bench->fs);
	bench->fs.nodes.idle_max = 3;
}

static void bench_close(struct bench *bench)
{
	node_world_close(&bench->world, &bench->fs);
}

static uint64_t below(struct bench *bench, uint64_t n)
{
	return world_random(&bench->seed) % n;
}

static void make(struct bench *bench, const char *name, evfs_ino *ret)
{
	struct evfs_content_ref empty = { .content = EVFS_CONTENT_EMPTY };
	struct evfs_new what = { .kind = EVFS_KIND_FILE, .mode = 0644,
				 .content = &empty };
	struct evfs_err err = { 0 };
	evfs_stamp link;

	evfs_meta_lock(bench->fs.meta);
	ck_assert_msg(evfs_tree_create(bench->fs.meta, EVFS_INO_ROOT, name,
				       strlen(name), &what, ret, &link, &err)
			      == 0,
		      "%s", err.msg);
	evfs_meta_unlock(bench->fs.meta);
}

/* Of the root's entries the one of this number; false: fewer. */
struct pick {
	uint64_t number;
	struct evfs_entry *ret;
	bool found;
};

static int pick_cb(void *arg, struct evfs_entry *entry)
{
	struct pick *pick = arg;

	if (pick->number-- > 0)
		return 0;
	*pick->ret = *entry;
	memset(entry, 0, sizeof(*entry)); /* taken */
	pick->found = true;
	return 1;
}

static int count_cb(void *arg, struct evfs_entry *entry)
{
	(void)entry;
	++*(uint64_t *)arg;
	return 0;
}

/* Meta locked. Any entry of the root. */
static bool any_entry(struct bench *bench, struct evfs_entry *ret)
{
	struct pick pick = { .ret = ret };
	char name[EVFS_NAME_MAX + 1];
	uint64_t n = 0;

	ck_assert_int_eq(evfs_view_list(bench->fs.meta, EVFS_INO_ROOT, NULL, 0,
					count_cb, &n, NULL), 0);
	if (n == 0)
		return false;
	pick.number = below(bench, n);
	ck_assert_int_eq(evfs_view_list(bench->fs.meta, EVFS_INO_ROOT, NULL, 0,
					pick_cb, &pick, NULL), 0);
	ck_assert(pick.found);
	(void)strcpy(name, ret->name);
	evfs_entry_fini(ret);
	memset(ret, 0, sizeof(*ret));
	ck_assert_int_eq(evfs_view_lookup(bench->fs.meta, EVFS_INO_ROOT, name,
					  strlen(name), ret, NULL), 0);
	return true;
}

/* ---- what a node has to be ---- */

static bool dots_meet(const struct evfs_handle *handle,
		      const struct evfs_member_link *link)
{
	for (size_t i = 0; i < handle->n_base; i++)
		for (size_t k = 0; k < link->n_dots; k++)
			if (evfs_dot_equal(handle->base[i], link->dots[k]))
				return true;
	return false;
}

/* May the entry be this node? */
static bool may_be(const struct evfs_entry *entry, const struct known *known)
{
	const struct evfs_handle *handle = &known->handle;

	for (size_t m = 0; m < entry->n_members; m++)
		if (!handle->orphan && handle->sibling == entry->is_sibling &&
		    evfs_dot_equal(handle->ino, entry->members[m].ino) &&
		    dots_meet(handle, &entry->members[m]))
			return true;
	return false;
}

/* Is the entry a new node, by the references? */
static bool is_new(const struct bench *bench, const struct evfs_entry *entry)
{
	for (size_t i = 0; i < bench->n; i++)
		if (may_be(entry, bench->known[i]))
			return false;
	return true;
}

static struct known *known_of(struct bench *bench, uint64_t id)
{
	for (size_t i = 0; i < bench->n; i++)
		if (bench->known[i]->id == id)
			return bench->known[i];
	return NULL;
}

/* Meta locked. */
static void same_handle(struct bench *bench, const struct evfs_handle *a,
			const struct evfs_handle *b)
{
	struct evfs_shown x, y;

	ck_assert(evfs_dot_equal(a->ino, b->ino));
	ck_assert_int_eq(evfs_stamp_cmp(&a->link, &b->link), 0);
	ck_assert_int_eq(a->orphan, b->orphan);
	ck_assert_int_eq(a->sibling, b->sibling);
	ck_assert_uint_eq(a->n_base, b->n_base);
	ck_assert_uint_eq(a->base_time_ns, b->base_time_ns);
	for (size_t i = 0; i < a->n_base; i++)
		ck_assert(evfs_dot_equal(a->base[i], b->base[i]));
	ck_assert_int_eq(evfs_tree_shown(bench->fs.meta, a, &x, NULL), 0);
	ck_assert_int_eq(evfs_tree_shown(bench->fs.meta, b, &y, NULL), 0);
	ck_assert_int_eq(x.has_version, y.has_version);
	ck_assert(evfs_hash_equal(&x.content, &y.content));
	ck_assert_uint_eq(x.size, y.size);
	ck_assert_int_eq(x.mtime_s, y.mtime_s);
	ck_assert_uint_eq(x.mtime_ns, y.mtime_ns);
}

static void check(struct bench *bench, struct known *known)
{
	struct evfs_node *node = evfs_node_pin(&bench->fs, known->id);

	ck_assert_ptr_nonnull(node);
	ck_assert_uint_eq(node->id, known->id);
	if (known->pinned)
		ck_assert_ptr_eq(node, known->pinned);
	evfs_meta_lock(bench->fs.meta);
	same_handle(bench, &node->file->handle, &known->handle);
	evfs_meta_unlock(bench->fs.meta);
	evfs_node_unpin(&bench->fs, node);
}

/* ---- what the kernel does ---- */

static void look(struct bench *bench)
{
	struct evfs_entry entry = { 0 };
	struct evfs_node *node = NULL;
	struct known *known;
	uint64_t id = 0;
	bool new;

	evfs_meta_lock(bench->fs.meta);
	if (bench->n == NODES_MAX || !any_entry(bench, &entry)) {
		evfs_meta_unlock(bench->fs.meta);
		return;
	}
	new = is_new(bench, &entry);
	if (below(bench, 2)) {
		ck_assert_int_eq(evfs_node_known(&bench->fs, EVFS_INO_ROOT,
						 &entry, &id, &node, NULL), 0);
		ck_assert(!node || node->id == id);
	} else {
		ck_assert_int_eq(evfs_node_of_entry(&bench->fs, EVFS_INO_ROOT,
						    &entry, &node, NULL), 0);
		id = node->id;
	}
	known = known_of(bench, id);
	ck_assert(new ? !known : known && may_be(&entry, known));
	if (!known) {
		known = calloc(1, sizeof(*known));
		ck_assert_ptr_nonnull(known);
		known->id = id;
		ck_assert_int_eq(evfs_tree_open(bench->fs.meta, EVFS_INO_ROOT,
						&entry, &known->handle, NULL),
				 0);
		bench->known[bench->n++] = known;
	}
	known->lookups++;
	evfs_meta_unlock(bench->fs.meta);
	evfs_entry_fini(&entry);
}

static void gone(struct bench *bench, size_t i)
{
	struct known *known = bench->known[i];

	ck_assert_ptr_null(evfs_node_pin(&bench->fs, known->id));
	evfs_meta_lock(bench->fs.meta);
	evfs_tree_close(bench->fs.meta, &known->handle);
	evfs_meta_unlock(bench->fs.meta);
	free(known);
	bench->known[i] = bench->known[--bench->n];
}

static void forget(struct bench *bench, size_t i)
{
	struct known *known = bench->known[i];
	uint64_t n;

	if (known->lookups == 0)
		return;
	n = 1 + below(bench, known->lookups);
	evfs_node_forget(&bench->fs, known->id, n);
	known->lookups -= n;
	if (known->lookups == 0 && !known->pinned)
		gone(bench, i);
}

static void pin_or_unpin(struct bench *bench, size_t i)
{
	struct known *known = bench->known[i];

	if (!known->pinned) {
		known->pinned = evfs_node_pin(&bench->fs, known->id);
		ck_assert_ptr_nonnull(known->pinned);
		return;
	}
	evfs_node_unpin(&bench->fs, known->pinned);
	known->pinned = NULL;
	if (known->lookups == 0)
		gone(bench, i);
}

/* ---- what becomes of files ---- */

static const struct evfs_object *object_of(struct bench *bench, evfs_ino ino)
{
	const struct evfs_object *object = NULL;

	ck_assert_int_eq(evfs_facts_get(bench->fs.facts, ino, &object, NULL),
			 0);
	return object;
}

/* Through the node, of what is the only version: others may be siblings, and
 * one such goes another way than who has the same one open. */
static void write_to(struct bench *bench, struct known *known)
{
	const struct evfs_object *object;
	struct evfs_content_ref ref = { .size = 8 };
	struct evfs_node *node = evfs_node_pin(&bench->fs, known->id);
	uint64_t text = world_random(&bench->seed);
	bool may;

	ck_assert_ptr_nonnull(node);
	ref.content = world_put(&bench->world, &text, sizeof(text), false);
	evfs_meta_lock_content(bench->fs.meta);
	object = object_of(bench, known->handle.ino);
	may = object && object->n_versions == 1 && !known->handle.orphan &&
	      known->handle.n_base == 1 && !known->handle.sibling &&
	      evfs_object_find_version(object, known->handle.base[0]);
	if (may)
		ck_assert_int_eq(evfs_tree_seal(bench->fs.meta,
						&node->file->handle, &ref,
						NULL), 0);
	evfs_nodes_rekey(&bench->fs);
	evfs_meta_unlock(bench->fs.meta);
	evfs_node_unpin(&bench->fs, node);
}

/* A version from elsewhere, which replaces what is there, or stands beside it;
 * or the removal of all names. */
static void merge(struct bench *bench, const struct known *known)
{
	struct evfs_version version = {
		.dot = { { 99, 0 }, ++bench->n_made },
		.time_ns = UINT64_MAX / 4 + bench->n_made, .size = 8,
	};
	uint64_t text = world_random(&bench->seed);
	const struct evfs_object *object;
	struct evfs_object *copy;
	uint64_t how = below(bench, 4);

	version.content = world_put(&bench->world, &text, sizeof(text), false);
	evfs_meta_lock_content(bench->fs.meta);
	object = object_of(bench, known->handle.ino);
	copy = object ? evfs_object_copy(object) : NULL;
	if (copy) {
		while (how < 2 && copy->n_versions > 0)
			evfs_object_remove_version(copy,
						   copy->versions[0].dot);
		for (size_t i = 0; how == 3 && i < copy->n_links; i++)
			copy->links[i].alive.n = 0;
		if (how < 3)
			ck_assert_int_eq(
				evfs_object_put_version(copy, &version), 0);
		ck_assert_int_eq(evfs_object_log_raise(copy, version.dot), 0);
		ck_assert_int_eq(evfs_index_put(bench->fs.meta, &copy, 1,
						EVFS_FEED_REMOTE, NULL), 0);
	}
	evfs_meta_unlock(bench->fs.meta);
}

static void rename_or_remove(struct bench *bench)
{
	struct evfs_entry entry = { 0 }, to = { 0 };
	char name[32];
	int rc;

	evfs_meta_lock(bench->fs.meta);
	if (!any_entry(bench, &entry)) {
		evfs_meta_unlock(bench->fs.meta);
		return;
	}
	(void)snprintf(name, sizeof(name), "n%llu",
		       (unsigned long long)++bench->n_made);
	switch (below(bench, 4)) {
	case 0:
		rc = evfs_tree_unlink(bench->fs.meta, EVFS_INO_ROOT,
				      entry.name, entry.name_len, NULL);
		break;
	case 1:
		rc = evfs_tree_rename(bench->fs.meta, EVFS_INO_ROOT,
				      entry.name, entry.name_len,
				      EVFS_INO_ROOT, name, strlen(name), 0,
				      NULL);
		break;
	case 2:
		rc = evfs_tree_link(bench->fs.meta, EVFS_INO_ROOT, &entry,
				    EVFS_INO_ROOT, name, strlen(name), NULL);
		break;
	default:
		ck_assert(any_entry(bench, &to));
		rc = evfs_tree_rename(bench->fs.meta, EVFS_INO_ROOT,
				      entry.name, entry.name_len,
				      EVFS_INO_ROOT, to.name, to.name_len, 0,
				      NULL);
	}
	ck_assert_int_eq(rc, 0);
	evfs_nodes_rekey(&bench->fs);
	evfs_meta_unlock(bench->fs.meta);
	evfs_entry_fini(&entry);
	evfs_entry_fini(&to);
}

static void step(struct bench *bench)
{
	size_t i = bench->n > 0 ? below(bench, bench->n) : 0;
	char name[32];
	evfs_ino ino;

	switch (below(bench, bench->n > 0 ? 10 : 3)) {
	case 0:
		(void)snprintf(name, sizeof(name), "f%llu",
			       (unsigned long long)++bench->n_made);
		make(bench, name, &ino);
		break;
	case 1:
	case 2:
		look(bench);
		break;
	case 3:
		forget(bench, i);
		break;
	case 4:
	case 5:
		pin_or_unpin(bench, i);
		break;
	case 6:
		write_to(bench, bench->known[i]);
		break;
	case 7:
		merge(bench, bench->known[i]);
		break;
	case 8:
		rename_or_remove(bench);
		break;
	default:
		check(bench, bench->known[i]);
	}
}

START_TEST(as_handles_that_stay_open)
{
	struct bench bench;

	bench_open(&bench);
	bench.seed = seed_of_run();
	for (unsigned i = 0; i < STEPS; i++) {
		step(&bench);
		for (size_t k = 0; i % 50 == 0 && k < bench.n; k++)
			check(&bench, bench.known[k]);
	}
	while (bench.n > 0) {
		struct known *known = bench.known[bench.n - 1];

		check(&bench, known);
		if (known->pinned)
			evfs_node_unpin(&bench.fs, known->pinned);
		if (known->lookups > 0)
			evfs_node_forget(&bench.fs, known->id,
					 known->lookups);
		gone(&bench, bench.n - 1);
	}
	ck_assert_uint_eq(bench.fs.nodes.table.n, 1); /* the root */
	bench_close(&bench);
}
END_TEST

/* ---- one thing each ---- */

static uint64_t look_at(struct bench *bench, const char *name)
{
	struct evfs_entry entry = { 0 };
	struct evfs_node *node;
	uint64_t id;

	evfs_meta_lock(bench->fs.meta);
	ck_assert_int_eq(evfs_view_lookup(bench->fs.meta, EVFS_INO_ROOT, name,
					  strlen(name), &entry, NULL), 0);
	ck_assert_int_eq(evfs_node_known(&bench->fs, EVFS_INO_ROOT, &entry,
					 &id, &node, NULL), 0);
	evfs_meta_unlock(bench->fs.meta);
	evfs_entry_fini(&entry);
	return id;
}

START_TEST(few_stay_in_full)
{
	struct bench bench;
	uint64_t ids[500];
	char name[16];
	evfs_ino ino;

	bench_open(&bench);
	bench.fs.nodes.idle_max = 100;
	for (int i = 0; i < 500; i++) {
		(void)snprintf(name, sizeof(name), "f%d", i);
		make(&bench, name, &ino);
		ids[i] = look_at(&bench, name);
	}
	/* Known is not in use. */
	ck_assert_uint_eq(bench.fs.nodes.idle.n + bench.fs.nodes.busy.n, 0);
	for (int i = 0; i < 500; i++) {
		struct evfs_node *node = evfs_node_pin(&bench.fs, ids[i]);

		ck_assert_ptr_nonnull(node);
		ck_assert_ptr_eq(evfs_node_pin(&bench.fs, ids[i]), node);
		evfs_node_unpin(&bench.fs, node);
		evfs_node_unpin(&bench.fs, node);
	}
	ck_assert_uint_le(bench.fs.nodes.idle.n, 106);
	ck_assert_uint_ge(bench.fs.nodes.idle.n, 100);
	ck_assert_uint_eq(bench.fs.nodes.busy.n, 0);
	bench_close(&bench);
}
END_TEST

/* What the kernel knows must not be collected, in use or not. */
START_TEST(what_is_put_away_is_held)
{
	struct bench bench;
	evfs_ino ino;
	uint64_t id;

	bench_open(&bench);
	make(&bench, "f", &ino);
	evfs_meta_lock(bench.fs.meta);
	ck_assert(!evfs_tree_is_open(bench.fs.meta, ino));
	evfs_meta_unlock(bench.fs.meta);
	id = look_at(&bench, "f");
	evfs_meta_lock(bench.fs.meta);
	ck_assert(evfs_tree_is_open(bench.fs.meta, ino));
	evfs_meta_unlock(bench.fs.meta);
	ck_assert_uint_eq(bench.fs.nodes.busy.n + bench.fs.nodes.idle.n, 0);
	evfs_node_forget(&bench.fs, id, 1);
	evfs_meta_lock(bench.fs.meta);
	ck_assert(!evfs_tree_is_open(bench.fs.meta, ino));
	evfs_meta_unlock(bench.fs.meta);
	bench_close(&bench);
}
END_TEST

/* Dots of a life that was found to be lost get another epoch. */
static evfs_dot other_epoch(void *arg, evfs_dot dot)
{
	if (dot.actor.node != 0)
		dot.actor.epoch += *(uint32_t *)arg;
	return dot;
}

START_TEST(renewed_dots_are_followed)
{
	struct bench bench;
	struct evfs_node *node;
	evfs_ino away_ino, used_ino;
	uint64_t away, used;
	uint32_t step = 5;

	bench_open(&bench);
	make(&bench, "away", &away_ino);
	make(&bench, "used", &used_ino);
	away = look_at(&bench, "away");
	used = look_at(&bench, "used");
	node = evfs_node_pin(&bench.fs, used);
	evfs_meta_lock(bench.fs.meta);
	evfs_tree_renew(bench.fs.meta, other_epoch, &step);
	ck_assert(!evfs_tree_is_open(bench.fs.meta, away_ino));
	ck_assert(!evfs_tree_is_open(bench.fs.meta, used_ino));
	ck_assert(evfs_tree_is_open(bench.fs.meta,
				    other_epoch(&step, away_ino)));
	ck_assert(evfs_dot_equal(node->key, other_epoch(&step, used_ino)));
	step = -step;
	evfs_tree_renew(bench.fs.meta, other_epoch, &step);
	evfs_meta_unlock(bench.fs.meta);
	ck_assert(evfs_dot_equal(node->key, used_ino));
	evfs_node_unpin(&bench.fs, node);
	ck_assert_uint_eq(look_at(&bench, "used"), used);
	ck_assert_uint_eq(look_at(&bench, "away"), away);
	node = evfs_node_pin(&bench.fs, away);
	ck_assert_ptr_nonnull(node);
	ck_assert(evfs_dot_equal(node->file->handle.ino, away_ino));
	evfs_node_unpin(&bench.fs, node);
	bench_close(&bench);
}
END_TEST

static bool is_orphan(struct bench *bench, uint64_t id)
{
	struct evfs_node *node = evfs_node_pin(&bench->fs, id);
	bool orphan;

	ck_assert_ptr_nonnull(node);
	evfs_meta_lock(bench->fs.meta);
	orphan = node->file->handle.orphan;
	evfs_meta_unlock(bench->fs.meta);
	evfs_node_unpin(&bench->fs, node);
	return orphan;
}

/* An operation that cannot have the handles it changes fails; nothing is lost
 * by it, nor by a pin. */
START_TEST(without_memory)
{
	struct bench bench;
	struct evfs_node *node;
	unsigned failed = 0;
	evfs_ino ino;
	uint64_t id;
	int rc = -1;

	bench_open(&bench);
	bench.fs.nodes.idle_max = 0;
	make(&bench, "f", &ino);
	id = look_at(&bench, "f");
	for (uint64_t n = 1; n < 8; n++) {
		evfs_mem_fail_after(n);
		node = evfs_node_pin(&bench.fs, id);
		failed += node == NULL;
		evfs_node_unpin(&bench.fs, node);
		evfs_mem_fail_after(0);
		ck_assert(!is_orphan(&bench, id));
	}
	ck_assert_uint_ge(failed, 2); /* the full form, the handle's base */
	for (uint64_t n = 1; rc != 0; n++) {
		ck_assert_uint_lt(n, 1000);
		ck_assert_uint_eq(bench.fs.nodes.idle.n, 0);
		evfs_meta_lock(bench.fs.meta);
		evfs_mem_fail_after(n);
		rc = evfs_tree_unlink(bench.fs.meta, EVFS_INO_ROOT, "f", 1,
				      NULL);
		evfs_mem_fail_after(0);
		evfs_meta_unlock(bench.fs.meta);
		ck_assert_int_eq(is_orphan(&bench, id), rc == 0);
	}
	bench_close(&bench);
}
END_TEST

/* Threads look at files, use them and forget them: nodes come, are put away,
 * come back and end, all at once. */
struct race {
	struct bench *bench;
	uint64_t seed;
};

static void *race_main(void *arg)
{
	struct race *race = arg;
	struct evfs_fs *fs = &race->bench->fs;

	for (int i = 0; i < 5000; i++) {
		struct evfs_node *node;
		char name[16];
		uint64_t id;

		(void)snprintf(name, sizeof(name), "f%d",
			       (int)(world_random(&race->seed) % 12));
		id = look_at(race->bench, name);
		node = evfs_node_pin(fs, id);
		if (!node || node->id != id)
			abort();
		evfs_node_look(fs, node);
		evfs_node_forget(fs, id, 1);
		if (i % 2)
			evfs_node_forget(fs, id, 1);
		evfs_meta_lock(fs->meta);
		if (!node->file->handle.registered)
			abort();
		evfs_meta_unlock(fs->meta);
		evfs_node_unpin(fs, node);
		if (i % 2 == 0)
			evfs_node_forget(fs, id, 1);
	}
	return NULL;
}

START_TEST(threads_pin_and_put_away)
{
	struct bench bench;
	struct race races[3];
	pthread_t threads[3];
	char name[16];
	evfs_ino ino;

	bench_open(&bench);
	for (int i = 0; i < 12; i++) {
		(void)snprintf(name, sizeof(name), "f%d", i);
		make(&bench, name, &ino);
	}
	for (unsigned i = 0; i < 3; i++) {
		races[i] = (struct race){ &bench, i + 1 };
		ck_assert_int_eq(pthread_create(&threads[i], NULL, race_main,
						&races[i]), 0);
	}
	for (unsigned i = 0; i < 3; i++)
		(void)pthread_join(threads[i], NULL);
	ck_assert_uint_eq(bench.fs.nodes.table.n, 1);
	bench_close(&bench);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("node_away");
	TCase *cases = tcase_create("node_away");
	SRunner *runner;
	int failed;

	tcase_set_timeout(cases, 120);
	tcase_add_test(cases, as_handles_that_stay_open);
	tcase_add_test(cases, few_stay_in_full);
	tcase_add_test(cases, what_is_put_away_is_held);
	tcase_add_test(cases, renewed_dots_are_followed);
	tcase_add_test(cases, without_memory);
	tcase_add_test(cases, threads_pin_and_put_away);
	suite_add_tcase(suite, cases);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
