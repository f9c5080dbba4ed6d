/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The incremental index against the plain view, on random states: objects are
 * changed at random, in random batches, without any rule of what operations
 * write; so cycles, dead directories that hold each other up, parents that
 * never come and merged names are all there. After each batch the whole tree
 * and the flags are compared. $EVFS_TEST_SEED replays. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "meta/facts.h"
#include "meta/index.h"
#include "tests/lib/refview.h"
#include "tests/unit/view_world.h"

#define DIRS 9
#define FILES 9
#define OTHERS 4
#define OBJECTS (DIRS + FILES + OTHERS)
#define BATCH_MAX 5
#define STEPS 900   /* of one world */
#define WORLDS 12

/* What the random states have come across: the test says nothing about what
 * never happened in it. */
static struct {
	size_t siblings, longer, merged, undone, lost, zombies;
} met;

static uint64_t seed;
static uint64_t state; /* of the generator */

static uint64_t next_random(void)
{
	uint64_t z = state += UINT64_C(0x9e3779b97f4a7c15); /* splitmix64 */

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

static size_t below(size_t n)
{
	return (size_t)(next_random() % n);
}

static bool chance(unsigned percent)
{
	return below(100) < percent;
}

struct sim {
	struct world world;
	evfs_ino inos[OBJECTS];
	char generated[EVFS_NAME_MAX + 1]; /* a name of a sibling, or "" */
	unsigned long_percent;             /* how often a name is long */
};

static enum evfs_kind kind_of(size_t i)
{
	static const enum evfs_kind others[OTHERS] = {
		EVFS_KIND_SYMLINK, EVFS_KIND_SYMLINK, EVFS_KIND_SYMLINK,
		EVFS_KIND_FIFO
	};

	return i < DIRS ? EVFS_KIND_DIR :
	       i < DIRS + FILES ? EVFS_KIND_FILE : others[i - DIRS - FILES];
}

static const char *long_name(char buf[EVFS_NAME_MAX + 1])
{
	size_t which = below(4);

	memset(buf, 'n', EVFS_NAME_MAX);
	buf[EVFS_NAME_MAX] = '\0';
	if (which == 1)
		buf[EVFS_NAME_MAX - 1] = 'm';
	else if (which == 2)
		for (size_t i = 0; i + 1 < EVFS_NAME_MAX; i += 2)
			memcpy(buf + i, "\xc3\xa9", 2);
	else if (which == 3)
		memset(buf, 0x80, EVFS_NAME_MAX);
	return buf;
}

static const char *any_name(struct sim *sim, char buf[EVFS_NAME_MAX + 1])
{
	static const char *const names[] = { "a", "a", "b", "f.txt", ".rc",
					     "g.tar.gz", "lost+found" };

	if (chance(sim->long_percent))
		return long_name(buf);
	if (sim->generated[0] != '\0' && chance(8))
		return sim->generated;
	return names[below(sizeof(names) / sizeof(names[0]))];
}

/* Anything but the object itself, which no object may be in. */
static evfs_ino any_dir(struct sim *sim, evfs_ino self)
{
	size_t draw = below(DIRS + 8);
	evfs_ino ino = EVFS_INO_ROOT;

	if (draw < DIRS)
		ino = sim->inos[draw];
	else if (draw == DIRS)
		ino = EVFS_INO_LOST;
	else if (draw == DIRS + 1) /* not a directory at all */
		ino = sim->inos[DIRS + below(FILES)];
	return evfs_dot_equal(ino, self) ? EVFS_INO_ROOT : ino;
}

/* ---- changes ---- */

static void change_dir(struct sim *sim, struct evfs_object *dir, uint64_t who)
{
	char buf[EVFS_NAME_MAX + 1];

	if (dir->n_links == 0) {
		world_link(&sim->world, dir, who, any_dir(sim, dir->ino),
			   any_name(sim, buf));
		if (chance(40))
			world_alive(&sim->world, dir, 0, who, false);
		return;
	}
	if (chance(50)) {
		evfs_ino origin = any_dir(sim, dir->ino);

		world_move(&sim->world, dir, 0, who, any_dir(sim, dir->ino),
			   chance(50) ? NULL : &origin, any_name(sim, buf));
	}
	if (chance(50))
		world_alive(&sim->world, dir, 0, who, chance(50));
	if (chance(10))
		world_mode(&sim->world, dir, who, 0700 + (uint32_t)below(8),
			   false);
}

static void change_links(struct sim *sim, struct evfs_object *object,
			 uint64_t who)
{
	char buf[EVFS_NAME_MAX + 1];
	size_t draw = below(10);
	size_t i;

	if (object->n_links == 0 || (draw < 2 && object->n_links < 3)) {
		world_link(&sim->world, object, who,
			   any_dir(sim, object->ino), any_name(sim, buf));
		return;
	}
	i = below(object->n_links);
	if (draw < 5)
		world_move(&sim->world, object, i, who,
			   any_dir(sim, object->ino), NULL,
			   any_name(sim, buf));
	else
		world_alive(&sim->world, object, i, who, chance(60));
}

static void change_versions(struct sim *sim, struct evfs_object *file,
			    uint64_t who)
{
	static const char *const contents[] = { "x", "yy", "zzz", "" };

	if (file->n_versions > 0 && chance(50))
		evfs_object_remove_version(
			file, file->versions[below(file->n_versions)].dot);
	else if (file->n_versions < 4)
		(void)world_version(&sim->world, file, who,
				    contents[below(4)]);
	if (chance(15))
		world_mode(&sim->world, file, who, 06755, chance(50));
}

static struct evfs_object *change(struct sim *sim, size_t i)
{
	struct evfs_object *object =
		world_edit(&sim->world, sim->inos[i], kind_of(i));
	struct evfs_err err = { 0 };
	uint64_t who = 1 + below(3);

	if (object->kind == EVFS_KIND_DIR) {
		change_dir(sim, object, who);
		return object;
	}
	if (object->kind == EVFS_KIND_SYMLINK && object->target == NULL)
		ck_assert_int_eq(evfs_object_set_target(object,
				 chance(50) ? "t" : "u", 1), 0);
	if (object->kind == EVFS_KIND_FILE) {
		if (object->n_links == 0 && chance(20))
			ck_assert_int_eq(evfs_facts_set_unsealed(
				evfs_meta_facts(sim->world.meta), object->ino,
				true, &err), 0);
		else if (chance(60))
			change_versions(sim, object, who);
	}
	if (object->n_links == 0 || chance(60))
		change_links(sim, object, who);
	return object;
}

static void put_batch(struct sim *sim)
{
	struct evfs_object *batch[BATCH_MAX];
	bool used[OBJECTS] = { false };
	size_t n = 1 + below(BATCH_MAX);
	struct evfs_err err = { 0 };
	int ret;

	for (size_t k = 0; k < n; k++) {
		size_t i = below(OBJECTS);

		while (used[i])
			i = (i + 1) % OBJECTS;
		used[i] = true;
		batch[k] = change(sim, i);
	}
	ret = evfs_index_put(sim->world.meta, batch, n, EVFS_FEED_REMOTE,
			     &err);
	ck_assert_msg(ret == 0, "put: %s", err.msg);
}

/* ---- what is derived, as text ---- */

static int put_row(void *arg, const struct evfs_name_row *row)
{
	struct evfs_buf *out = arg;

	return evfs_buf_printf(out, "  %.*s %llu %llu %d %d\n",
			       (int)row->name_len, (const char *)row->name,
			       (unsigned long long)row->ino.counter,
			       (unsigned long long)row->link.time_ns,
			       (int)row->kind, row->multi);
}

static int put_clash(void *arg, evfs_ino parent, const uint8_t *name,
		     size_t name_len)
{
	struct evfs_buf *out = arg;

	return evfs_buf_printf(out, "clash %llu %.*s\n",
			       (unsigned long long)parent.counter,
			       (int)name_len, (const char *)name);
}

static int put_cycle(void *arg, const struct evfs_cycle_row *row)
{
	struct evfs_buf *out = arg;

	return evfs_buf_printf(out, "cycle %llu %llu\n",
			       (unsigned long long)row->dir.counter,
			       (unsigned long long)row->shown_in.counter);
}

static char *derived(struct sim *sim)
{
	struct evfs_facts *facts = evfs_meta_facts(sim->world.meta);
	struct evfs_buf out = { 0 };
	char hex[EVFS_HASH_HEX_SIZE];
	int ret = 0;

	evfs_hash_format(evfs_facts_root(facts), hex);
	ret |= evfs_buf_printf(&out, "root %s\n", hex);
	for (int i = 0; i < EVFS_COUNTER_N; i++)
		ret |= evfs_buf_printf(&out, "counter %d: %lld\n", i,
				       (long long)evfs_facts_counter(
					       facts, (enum evfs_counter)i));
	for (size_t i = 0; i < OBJECTS + 2; i++) {
		evfs_ino ino = i < OBJECTS ? sim->inos[i] :
			       i == OBJECTS ? EVFS_INO_ROOT : EVFS_INO_LOST;
		bool needed = false;

		if (i < DIRS)
			ret |= evfs_facts_is_needed(facts, ino, &needed, NULL);
		ret |= evfs_buf_printf(&out, "object %llu needed %d\n",
				       (unsigned long long)ino.counter,
				       needed);
		ret |= evfs_facts_names_after(facts, ino, NULL, 0, 0, put_row,
					      &out, NULL);
	}
	ret |= evfs_facts_clashes(facts, put_clash, &out, NULL);
	ret |= evfs_facts_cycles(facts, put_cycle, &out, NULL);
	ret |= evfs_buf_put_u8(&out, 0);
	ck_assert_int_eq(ret, 0);
	return (char *)out.data;
}

static void check_rebuild(struct sim *sim)
{
	char *before = derived(sim);
	struct evfs_err err = { 0 };
	char *after;
	int ret = evfs_index_rebuild(sim->world.meta, &err);

	ck_assert_msg(ret == 0, "rebuild: %s", err.msg);
	after = derived(sim);
	if (strcmp(before, after) != 0)
		fprintf(stderr, "incremental:\n%sfrom scratch:\n%s", before,
			after);
	ck_assert_msg(strcmp(before, after) == 0,
		      "seed %llu: not as made from scratch",
		      (unsigned long long)seed);
	evfs_free(before);
	evfs_free(after);
}

/* ---- single names against the list ---- */

static void check_same(const struct evfs_entry *a, const struct evfs_entry *b)
{
	ck_assert_int_eq(a->kind, b->kind);
	ck_assert_str_eq(a->name, b->name);
	ck_assert_int_eq(a->is_sibling, b->is_sibling);
	ck_assert_uint_eq(a->n_members, b->n_members);
	ck_assert_uint_eq(a->dir.n, b->dir.n);
	ck_assert_int_eq(a->has_version, b->has_version);
	ck_assert_int_eq(evfs_hash_equal(&a->content, &b->content), 1);
	for (size_t m = 0; m < a->n_members; m++)
		ck_assert_int_eq(evfs_dot_cmp(a->members[m].ino,
					      b->members[m].ino), 0);
}

struct names_check {
	struct sim *sim;
	evfs_ino dir;
	evfs_ino subdirs[DIRS + 1]; /* found on the way */
	size_t n_subdirs;
	char last[EVFS_NAME_MAX + 1]; /* name before this */
	size_t conflicts;             /* plain names with siblings */
};

/* The group and the version of an entry lead back to it. */
static void check_ways(struct evfs_meta *meta, evfs_ino dir,
		       const struct evfs_entry *entry)
{
	const struct evfs_member_link *member = entry->members;
	const char *plain = entry->is_sibling ? entry->plain : entry->name;
	struct evfs_entry found = { 0 };
	struct evfs_entry *group;
	evfs_ino in;
	bool there = false;
	size_t n;

	ck_assert_int_eq(evfs_view_group(meta, dir, plain, strlen(plain),
					 &group, &n, NULL), 0);
	for (size_t i = 0; i < n; i++)
		there |= strcmp(group[i].name, entry->name) == 0;
	ck_assert(there);
	evfs_view_group_free(group, n);
	if (entry->kind == EVFS_KIND_DIR)
		return;
	ck_assert_int_eq(evfs_view_find(meta, member->ino, &member->link,
					member->dots, member->n_dots, &in,
					&found, NULL), 0);
	check_same(entry, &found);
	evfs_entry_fini(&found);
}

static int check_name(void *arg, struct evfs_entry *entry)
{
	struct names_check *check = arg;
	struct evfs_meta *meta = check->sim->world.meta;
	struct evfs_entry found = { 0 };
	struct evfs_err err = { 0 };
	int ret = evfs_view_lookup(meta, check->dir, entry->name,
				   entry->name_len, &found, &err);

	ck_assert_msg(ret == 0, "seed %llu: lookup of a listed name: %s",
		      (unsigned long long)seed, err.msg);
	check_same(entry, &found);
	evfs_entry_fini(&found);
	ck_assert(strcmp(check->last, entry->name) < 0);
	strcpy(check->last, entry->name);
	check_ways(meta, check->dir, entry);
	if (entry->kind == EVFS_KIND_DIR)
		check->subdirs[check->n_subdirs++] = entry->dir.members[0];
	met.merged += entry->dir.n > 1;
	if (entry->is_sibling) {
		char *digits = strrchr(entry->name, '-') + 1;

		met.longer += strspn(digits, "0123456789abcdef") > 8;
		strcpy(check->sim->generated, entry->name);
	}
	return 0;
}

static int count_listed(void *arg, struct evfs_entry *entry)
{
	(void)entry;
	++*(size_t *)arg;
	return 0;
}

/* All of a directory, then what is behind each name in it. */
static void check_dir(struct sim *sim, evfs_ino dir, int depth)
{
	struct names_check check = { .sim = sim, .dir = dir };
	struct evfs_meta *meta = sim->world.meta;
	size_t all = 0, rest = 0;

	ck_assert_int_eq(evfs_view_list(meta, dir, NULL, 0, check_name, &check,
					NULL), 0);
	ck_assert_int_eq(evfs_view_list(meta, dir, NULL, 0, count_listed, &all,
					NULL), 0);
	if (all > 0) {
		ck_assert_int_eq(evfs_view_list(meta, dir, check.last,
						strlen(check.last),
						count_listed, &rest, NULL), 0);
		ck_assert_uint_eq(rest, 0);
		ck_assert_int_eq(evfs_view_list(meta, dir, "b", 1,
						count_listed, &rest, NULL), 0);
		ck_assert_uint_le(rest, all);
	}
	for (size_t i = 0; i < check.n_subdirs && depth < 12; i++) {
		struct evfs_dir above;
		char name[EVFS_NAME_MAX + 1];

		ck_assert_int_eq(evfs_view_parent(meta, check.subdirs[i],
						  &above, name, NULL), 0);
		evfs_dir_fini(&above);
		check_dir(sim, check.subdirs[i], depth + 1);
	}
}

static int count_conflict(void *arg, const char *path,
			  const struct evfs_entry *group, size_t n)
{
	ck_assert_ptr_nonnull(path);
	ck_assert_ptr_nonnull(group);
	*(size_t *)arg += n - 1;
	return 0;
}

static void check_conflicts(struct sim *sim)
{
	struct refview *view = refview_new(sim->world.meta);
	size_t siblings = 0;
	struct evfs_err err = { 0 };
	int ret = evfs_view_conflicts(sim->world.meta, count_conflict,
				      &siblings, &err);

	ck_assert_msg(ret == 0, "conflicts: %s", err.msg);
	met.siblings += view->siblings;
	for (size_t i = 0; i < view->n; i++) {
		met.undone += view->dirs[i].undone;
		met.lost += view->dirs[i].undone &&
			    evfs_ino_is_lost(view->dirs[i].shown_in);
	}
	met.zombies += (size_t)evfs_facts_counter(
		evfs_meta_facts(sim->world.meta), EVFS_COUNTER_ZOMBIES);
	ck_assert_msg(siblings == view->siblings,
		      "seed %llu: %zu siblings in conflicts, %zu in the tree",
		      (unsigned long long)seed, siblings, view->siblings);
	refview_free(view);
}

/* ---- */

static void check_tree(struct sim *sim, size_t step)
{
	char *differs = refview_differs(sim->world.meta);

	if (differs != NULL) /* too long for a message of Check */
		fprintf(stderr, "%s\n", differs);
	ck_assert_msg(differs == NULL, "seed %llu step %zu: not as expected",
		      (unsigned long long)seed, step);
	if (step % 16 == 0) {
		check_dir(sim, EVFS_INO_ROOT, 0);
		check_conflicts(sim);
	}
	if (step % 64 == 0)
		check_rebuild(sim);
}

static void run_world(uint64_t with_seed)
{
	struct sim sim = { .long_percent = with_seed % 4 == 0 ? 50 : 5 };

	state = with_seed;
	world_open(&sim.world);
	for (size_t i = 0; i < OBJECTS; i++)
		sim.inos[i] = world_dot(&sim.world, 1 + below(3));
	for (size_t step = 0; step < STEPS; step++) {
		put_batch(&sim);
		check_tree(&sim, step);
	}
	world_close(&sim.world);
}

START_TEST(random_states)
{
	const char *given = getenv("EVFS_TEST_SEED");
	uint64_t first = given == NULL ? 1 : strtoull(given, NULL, 0);

	for (int i = 0; i < (given == NULL ? WORLDS : 1); i++) {
		seed = first + (uint64_t)i;
		run_world(seed);
	}
	if (given != NULL)
		return;
	ck_assert_uint_gt(met.siblings, 0);
	ck_assert_uint_gt(met.longer, 0);
	ck_assert_uint_gt(met.merged, 0);
	ck_assert_uint_gt(met.undone, 0);
	ck_assert_uint_gt(met.lost, 0);
	ck_assert_uint_gt(met.zombies, 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("index");
	TCase *random = tcase_create("random");
	SRunner *runner;
	int failed;

	tcase_set_timeout(random, 300); /* sanitizers, valgrind */
	tcase_add_test(random, random_states);
	suite_add_tcase(suite, random);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
