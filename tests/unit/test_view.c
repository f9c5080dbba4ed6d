/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The view's rules one by one, on states made by hand; what the index tells
 * the feed and the history; attributes; texts. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "meta/facts.h"
#include "meta/history.h"
#include "meta/index.h"
#include "tests/lib/refview.h"
#include "tests/unit/view_world.h"

static struct world w;

static void setup(void)
{
	world_open(&w);
}

static void teardown(void)
{
	world_check(&w);
	world_close(&w);
}

static void names_are(const char *path, const char *expected)
{
	char *names = world_names(&w, path);

	ck_assert_str_eq(names, expected);
	evfs_free(names);
}

static struct evfs_entry at(const char *path)
{
	struct evfs_entry entry = { 0 };
	struct evfs_err err = { 0 };
	int ret = evfs_view_path(w.meta, path, &entry, &err);

	ck_assert_msg(ret == 0, "%s: %s", path, err.msg);
	return entry;
}

static void why_is(const char *path, const char *part)
{
	struct evfs_entry root = at("/"), entry = at(path);
	struct evfs_buf text = { 0 };

	ck_assert_int_eq(evfs_view_why(w.meta, EVFS_INO_ROOT, &entry, &text,
				       NULL), 0);
	ck_assert_int_eq(evfs_buf_put_u8(&text, 0), 0);
	ck_assert_msg(strstr((char *)text.data, part) != NULL, "%s",
		      (char *)text.data);
	evfs_buf_fini(&text);
	evfs_entry_fini(&entry);
	evfs_entry_fini(&root);
}

static void set_dead(evfs_ino dir)
{
	struct evfs_object *object = world_edit(&w, dir, EVFS_KIND_DIR);

	world_alive(&w, object, 0, 1, false);
	world_put(&w, object);
}

static void move_dir(evfs_ino dir, evfs_ino parent, const char *name)
{
	struct evfs_object *object = world_edit(&w, dir, EVFS_KIND_DIR);

	world_move(&w, object, 0, 1, parent, NULL, name);
	world_put(&w, object);
}

static void unlink_file(evfs_ino ino)
{
	struct evfs_object *object = world_edit(&w, ino, EVFS_KIND_FILE);

	world_alive(&w, object, 0, 1, false);
	world_put(&w, object);
}

/* ---- rules ---- */

START_TEST(rule_1_dead_directory_lives_by_its_child)
{
	evfs_ino a = world_dir(&w, 1, EVFS_INO_ROOT, "a");
	evfs_ino b = world_dir(&w, 1, a, "b");
	evfs_ino f = world_file(&w, 2, b, "f", "x");

	set_dead(a);
	set_dead(b);
	names_are("/a/b", "f");
	why_is("/a", "rule 1");
	ck_assert_int_eq(evfs_facts_counter(evfs_meta_facts(w.meta),
					    EVFS_COUNTER_ZOMBIES), 2);
	unlink_file(f);
	names_are("/", "");
	ck_assert_int_eq(evfs_facts_counter(evfs_meta_facts(w.meta),
					    EVFS_COUNTER_DIRS), 0);
}
END_TEST

START_TEST(rule_1_child_before_its_parent)
{
	evfs_ino dir = world_dot(&w, 2);
	struct evfs_object *object;

	(void)world_file(&w, 2, dir, "f", "x");
	names_are("/", "");
	object = world_edit(&w, dir, EVFS_KIND_DIR);
	world_link(&w, object, 2, EVFS_INO_ROOT, "d");
	world_alive(&w, object, 0, 2, false);
	world_put(&w, object);
	names_are("/d", "f");
}
END_TEST

START_TEST(rule_1_dead_cycle_holds_nothing_up)
{
	evfs_ino a = world_dir(&w, 1, EVFS_INO_ROOT, "a");
	evfs_ino b = world_dir(&w, 1, a, "b");

	move_dir(a, b, "a");
	set_dead(a);
	set_dead(b);
	ck_assert_int_eq(evfs_facts_counter(evfs_meta_facts(w.meta),
					    EVFS_COUNTER_DIRS), 0);
	ck_assert_int_eq(evfs_facts_counter(evfs_meta_facts(w.meta),
					    EVFS_COUNTER_CYCLES), 0);
	names_are("/", "");
}
END_TEST

START_TEST(rule_2_youngest_move_is_undone)
{
	evfs_ino a = world_dir(&w, 1, EVFS_INO_ROOT, "a");
	evfs_ino b = world_dir(&w, 1, EVFS_INO_ROOT, "b");

	move_dir(a, b, "a");
	move_dir(b, a, "b");
	names_are("/", "b");
	names_are("/b", "a");
	why_is("/b", "rule 2: the move of");
	move_dir(b, EVFS_INO_ROOT, "b");
	ck_assert_int_eq(evfs_facts_counter(evfs_meta_facts(w.meta),
					    EVFS_COUNTER_CYCLES), 0);
}
END_TEST

START_TEST(rule_2_no_way_back_goes_to_lost_and_found)
{
	evfs_ino a = world_dir(&w, 1, EVFS_INO_ROOT, "a");
	evfs_ino b = world_dir(&w, 1, a, "b");
	struct evfs_object *object = world_edit(&w, a, EVFS_KIND_DIR);
	evfs_ino origin = world_dot(&w, 3); /* never came */

	world_move(&w, object, 0, 1, b, &origin, "a");
	world_put(&w, object);
	object = world_edit(&w, b, EVFS_KIND_DIR);
	world_move(&w, object, 0, 1, a, &origin, "b");
	world_put(&w, object);
	names_are("/", "lost+found");
	names_are("/lost+found", "b");
	why_is("/lost+found", "no place of its own");
}
END_TEST

START_TEST(rule_3_directories_merge)
{
	evfs_ino a = world_dir(&w, 1, EVFS_INO_ROOT, "d");
	evfs_ino b = world_dir(&w, 2, EVFS_INO_ROOT, "d");
	evfs_ino sub_a = world_dir(&w, 1, a, "sub");
	evfs_ino sub_b = world_dir(&w, 2, b, "sub");
	struct evfs_entry entry;

	(void)world_file(&w, 1, sub_a, "x", "1");
	(void)world_file(&w, 2, sub_b, "y", "2");
	(void)world_file(&w, 1, a, "z", "3");
	names_are("/d", "sub z");
	names_are("/d/sub", "x y");
	entry = at("/d");
	ck_assert_uint_eq(entry.dir.n, 2);
	ck_assert(evfs_dot_equal(entry.dir.members[0], a));
	evfs_entry_fini(&entry);
	why_is("/d", "rule 3: 2 directories");
	ck_assert_int_eq(evfs_facts_counter(evfs_meta_facts(w.meta),
					    EVFS_COUNTER_DIR_DUPS), 1);
}
END_TEST

START_TEST(rule_4_last_one_has_the_name)
{
	evfs_hash expected = evfs_hash_content("new", 3);
	struct evfs_entry entry;

	(void)world_file(&w, 1, EVFS_INO_ROOT, "f.txt", "old");
	(void)world_file(&w, 1, EVFS_INO_ROOT, "f.txt", "new");
	entry = at("/f.txt");
	ck_assert_uint_eq(entry.size, 3);
	ck_assert(evfs_hash_equal(&entry.content, &expected));
	evfs_entry_fini(&entry);
	why_is("/f.txt", "rule 4: several have this name");
	(void)world_dir(&w, 2, EVFS_INO_ROOT, "f.txt");
	entry = at("/f.txt");
	ck_assert_int_eq(entry.kind, EVFS_KIND_DIR);
	evfs_entry_fini(&entry);
	why_is("/f.txt", "the directory keeps the name");
}
END_TEST

START_TEST(rule_4_siblings_of_one_inode)
{
	evfs_ino f = world_file(&w, 1, EVFS_INO_ROOT, "f", "one");
	struct evfs_object *object = world_edit(&w, f, EVFS_KIND_FILE);
	char former[EVFS_NAME_MAX + 1];
	struct evfs_entry *group;
	struct evfs_entry entry;
	size_t n;

	(void)world_version(&w, object, 1, "two");
	world_link(&w, object, 1, EVFS_INO_ROOT, "g");
	world_put(&w, object);
	ck_assert_int_eq(evfs_view_group(w.meta, EVFS_INO_ROOT, "f", 1, &group,
					 &n, NULL), 0);
	ck_assert_uint_eq(n, 2);
	strcpy(former, group[1].name);
	evfs_view_group_free(group, n);
	ck_assert_int_eq(evfs_view_group(w.meta, EVFS_INO_ROOT, "g", 1, &group,
					 &n, NULL), 0);
	ck_assert_uint_eq(n, 1);
	evfs_view_group_free(group, n);
	/* The one that had the name goes: the old name still finds this. */
	object = world_edit(&w, f, EVFS_KIND_FILE);
	evfs_object_remove_version(object, object->versions[1].dot);
	world_put(&w, object);
	ck_assert_int_eq(evfs_view_lookup(w.meta, EVFS_INO_ROOT, former,
					  strlen(former), &entry, NULL), 0);
	ck_assert_str_eq(entry.name, "f");
	ck_assert(!entry.is_sibling);
	evfs_entry_fini(&entry);
}
END_TEST

START_TEST(rule_4_former_name_with_cut_stem)
{
	char name[EVFS_NAME_MAX + 1], former[EVFS_NAME_MAX + 1];
	struct evfs_object *object;
	struct evfs_entry *group;
	struct evfs_entry entry;
	evfs_ino f;
	size_t n;

	memset(name, 'n', EVFS_NAME_MAX);
	name[EVFS_NAME_MAX] = '\0';
	f = world_file(&w, 1, EVFS_INO_ROOT, name, "one");
	object = world_edit(&w, f, EVFS_KIND_FILE);
	(void)world_version(&w, object, 1, "two");
	world_put(&w, object);
	ck_assert_int_eq(evfs_view_group(w.meta, EVFS_INO_ROOT, name,
					 EVFS_NAME_MAX, &group, &n, NULL), 0);
	ck_assert_uint_eq(n, 2);
	strcpy(former, group[1].name);
	ck_assert_uint_eq(strlen(former), EVFS_NAME_MAX);
	evfs_view_group_free(group, n);
	object = world_edit(&w, f, EVFS_KIND_FILE);
	evfs_object_remove_version(object, object->versions[1].dot);
	world_put(&w, object);
	ck_assert_int_eq(evfs_view_lookup(w.meta, EVFS_INO_ROOT, former,
					  EVFS_NAME_MAX, &entry, NULL), 0);
	ck_assert_str_eq(entry.name, name);
	evfs_entry_fini(&entry);
}
END_TEST

/* One symlink under five names that are cut to one stem: 8, 16, 32 digits, and
 * then the name has to help. */
START_TEST(rule_4_names_cut_to_one_stem)
{
	evfs_ino l = world_symlink(&w, 1, EVFS_INO_ROOT, "l", "t");
	struct evfs_object *object = world_edit(&w, l, EVFS_KIND_SYMLINK);
	char name[EVFS_NAME_MAX + 1];
	struct refview *view;

	memset(name, 'n', EVFS_NAME_MAX);
	name[EVFS_NAME_MAX] = '\0';
	for (int i = 0; i < 5; i++) {
		name[EVFS_NAME_MAX - 1] = (char)('a' + i);
		world_link(&w, object, 1, EVFS_INO_ROOT, name);
	}
	world_put(&w, object);
	for (int i = 0; i < 5; i++) {
		name[EVFS_NAME_MAX - 1] = (char)('a' + i);
		(void)world_file(&w, 2, EVFS_INO_ROOT, name, "x");
	}
	view = refview_new(w.meta);
	ck_assert_uint_eq(view->siblings, 5);
	ck_assert_uint_eq(view->salted, 2);
	refview_free(view);
}
END_TEST

START_TEST(rule_4_real_name_beats_generated)
{
	evfs_ino f = world_file(&w, 1, EVFS_INO_ROOT, "f", "one");
	struct evfs_object *object = world_edit(&w, f, EVFS_KIND_FILE);
	struct evfs_entry *group;
	char short_name[EVFS_NAME_MAX + 1];
	size_t n;

	(void)world_version(&w, object, 1, "two");
	world_put(&w, object);
	ck_assert_int_eq(evfs_view_group(w.meta, EVFS_INO_ROOT, "f", 1, &group,
					 &n, NULL), 0);
	strcpy(short_name, group[1].name);
	evfs_view_group_free(group, n);
	(void)world_file(&w, 1, EVFS_INO_ROOT, short_name, "real");
	ck_assert_int_eq(evfs_view_group(w.meta, EVFS_INO_ROOT, "f", 1, &group,
					 &n, NULL), 0);
	ck_assert_uint_eq(strlen(group[1].name), strlen(short_name) + 8);
	evfs_view_group_free(group, n);
}
END_TEST

START_TEST(rule_5_equal_contents_are_one)
{
	struct evfs_entry entry;

	(void)world_file(&w, 1, EVFS_INO_ROOT, "f", "same");
	(void)world_file(&w, 2, EVFS_INO_ROOT, "f", "same");
	(void)world_symlink(&w, 1, EVFS_INO_ROOT, "l", "t");
	(void)world_symlink(&w, 2, EVFS_INO_ROOT, "l", "t");
	names_are("/", "f l");
	entry = at("/f");
	ck_assert_uint_eq(entry.n_members, 2);
	evfs_entry_fini(&entry);
	why_is("/f", "rule 5");
}
END_TEST

START_TEST(rule_6_set_id_bits_need_to_have_seen)
{
	evfs_ino f = world_file(&w, 1, EVFS_INO_ROOT, "f", "seen");
	struct evfs_object *object = world_edit(&w, f, EVFS_KIND_FILE);
	struct evfs_attributes attributes;
	struct evfs_entry entry;

	world_mode(&w, object, 1, 04755, true);
	world_put(&w, object);
	entry = at("/f");
	ck_assert_int_eq(evfs_view_attr(w.meta, &entry, &attributes, NULL), 0);
	ck_assert_uint_eq(attributes.mode, 04755);
	evfs_entry_fini(&entry);
	object = world_edit(&w, f, EVFS_KIND_FILE);
	evfs_object_remove_version(object, object->versions[0].dot);
	(void)world_version(&w, object, 2, "other");
	world_put(&w, object);
	entry = at("/f");
	ck_assert_int_eq(evfs_view_attr(w.meta, &entry, &attributes, NULL), 0);
	ck_assert_uint_eq(attributes.mode, 0755);
	evfs_entry_fini(&entry);
	why_is("/f", "rule 6");
}
END_TEST

/* ---- around it ---- */

START_TEST(unsealed_file_is_shown_here_only)
{
	struct evfs_facts *facts = evfs_meta_facts(w.meta);
	evfs_ino f = world_dot(&w, 1), g = world_dot(&w, 1);
	evfs_hash root = *evfs_facts_root(facts);
	struct evfs_object *object;
	struct evfs_entry entry;
	bool unsealed;

	ck_assert_int_eq(evfs_facts_set_unsealed(facts, f, true, NULL), 0);
	object = world_edit(&w, f, EVFS_KIND_FILE);
	world_link(&w, object, 1, EVFS_INO_ROOT, "f");
	world_put(&w, object);
	object = world_edit(&w, g, EVFS_KIND_FILE);
	world_link(&w, object, 1, EVFS_INO_ROOT, "g");
	world_put(&w, object);
	names_are("/", "f");
	ck_assert(evfs_hash_equal(&root, evfs_facts_root(facts)));
	entry = at("/f");
	ck_assert(!entry.has_version);
	evfs_entry_fini(&entry);
	object = world_edit(&w, f, EVFS_KIND_FILE);
	(void)world_version(&w, object, 1, "now");
	world_put(&w, object);
	ck_assert_int_eq(evfs_facts_is_unsealed(facts, f, &unsealed, NULL), 0);
	ck_assert(!unsealed);
	ck_assert_int_eq(evfs_facts_counter(facts, EVFS_COUNTER_FILES), 1);
	ck_assert_int_eq(evfs_facts_counter(facts, EVFS_COUNTER_BYTES), 3);
	names_are("/", "f");
}
END_TEST

START_TEST(errors_name_what_is_missing)
{
	evfs_ino f = world_file(&w, 1, EVFS_INO_ROOT, "f", "x");
	struct evfs_dir dir;
	struct evfs_entry entry;

	ck_assert_int_eq(evfs_view_path(w.meta, "/no", &entry, NULL),
			 EVFS_ENOTFOUND);
	ck_assert_int_eq(evfs_view_path(w.meta, "/f/x", &entry, NULL),
			 EVFS_ENOTDIR);
	ck_assert_int_eq(evfs_view_path(w.meta, "f", &entry, NULL),
			 EVFS_EINVAL);
	ck_assert_int_eq(evfs_view_dir(w.meta, f, &dir, NULL), EVFS_ENOTDIR);
	ck_assert_int_eq(evfs_view_dir(w.meta, world_dot(&w, 1), &dir, NULL),
			 EVFS_ENOTFOUND);
	ck_assert_int_eq(evfs_view_dir(w.meta, EVFS_INO_LOST, &dir, NULL),
			 EVFS_ENOTFOUND);
	entry = at("/");
	ck_assert_int_eq(entry.kind, EVFS_KIND_DIR);
	evfs_entry_fini(&entry);
}
END_TEST

START_TEST(directory_time_is_that_of_its_entries)
{
	evfs_ino d = world_dir(&w, 1, EVFS_INO_ROOT, "d");
	struct evfs_attributes before, after;
	struct evfs_entry entry = at("/d");
	evfs_ino f;

	ck_assert_int_eq(evfs_view_attr(w.meta, &entry, &before, NULL), 0);
	f = world_file(&w, 1, d, "f", "x");
	ck_assert_int_eq(evfs_view_attr(w.meta, &entry, &after, NULL), 0);
	ck_assert(after.mtime_ns > before.mtime_ns);
	before = after;
	unlink_file(f);
	ck_assert_int_eq(evfs_view_attr(w.meta, &entry, &after, NULL), 0);
	ck_assert(after.mtime_ns > before.mtime_ns);
	evfs_entry_fini(&entry);
}
END_TEST

static void nothing(void *ctx)
{
	(void)ctx;
}

/* The changes as text: "E:name", "A", "N", "*". */
static char *changes(void)
{
	struct evfs_buf text = { 0 };
	struct evfs_change *list;
	int ret = 0;

	evfs_meta_unlock(w.meta);
	list = evfs_feed_take(w.meta);
	evfs_meta_lock(w.meta);
	while (list != NULL) {
		struct evfs_change *next = list->next;

		if (list->kind == EVFS_CHANGE_ENTRY)
			ret |= evfs_buf_printf(&text, "E:%s ", list->name);
		else if (list->kind == EVFS_CHANGE_ATTR)
			ret |= evfs_buf_printf(&text, "A ");
		else if (list->kind == EVFS_CHANGE_NAMES)
			ret |= evfs_buf_printf(&text, "N ");
		else
			ret |= evfs_buf_printf(&text, "* ");
		evfs_change_free(list);
		list = next;
	}
	ret |= evfs_buf_put_u8(&text, 0);
	ck_assert_int_eq(ret, 0);
	return (char *)text.data;
}

static void changes_have(const char *part, bool expected)
{
	char *text = changes();

	ck_assert_msg((strstr(text, part) != NULL) == expected, "%s in '%s'",
		      part, text);
	evfs_free(text);
}

START_TEST(feed_hears_of_what_a_mount_must_forget)
{
	struct evfs_feed_listener listener = { NULL, nothing, nothing };
	struct evfs_object *object;
	evfs_ino f, a, b;

	evfs_meta_unlock(w.meta);
	evfs_feed_add(w.meta, &listener);
	evfs_meta_lock(w.meta);
	f = world_file(&w, 2, EVFS_INO_ROOT, "f", "x");
	changes_have("E:f ", true);
	object = world_edit(&w, f, EVFS_KIND_FILE);
	world_move(&w, object, 0, 2, EVFS_INO_ROOT, NULL, "g");
	ck_assert_int_eq(evfs_index_put(w.meta, &object, 1, EVFS_FEED_REMOTE,
					NULL), 0);
	changes_have("E:f A E:g A", true);
	object = world_edit(&w, f, EVFS_KIND_FILE);
	world_mode(&w, object, 2, 0600, false);
	world_put(&w, object);
	changes_have("E:", false);
	object = world_edit(&w, f, EVFS_KIND_FILE);
	evfs_object_remove_version(object, object->versions[0].dot);
	(void)world_version(&w, object, 2, "y");
	world_put(&w, object);
	changes_have("E:g ", true);
	a = world_dir(&w, 2, EVFS_INO_ROOT, "a");
	changes_have("E:a ", true);
	b = world_dir(&w, 3, EVFS_INO_ROOT, "a");
	changes_have("N ", true);
	/* all names are told at once, attributes each */
	(void)world_file(&w, 2, EVFS_INO_ROOT, "h.conflict-x-01234567", "z");
	object = world_edit(&w, f, EVFS_KIND_FILE);
	world_mode(&w, object, 2, 0640, false);
	world_put(&w, object);
	object = world_edit(&w, f, EVFS_KIND_FILE);
	world_move(&w, object, 0, 2, EVFS_INO_ROOT, NULL, "h");
	world_put(&w, object);
	changes_have("N A A A ", true);
	object = world_edit(&w, f, EVFS_KIND_FILE);
	world_mode(&w, object, 1, 0644, false);
	ck_assert_int_eq(evfs_index_put(w.meta, &object, 1, EVFS_FEED_LOCAL,
					NULL), 0);
	changes_have("A", false);
	ck_assert(!evfs_dot_equal(a, b));
	evfs_meta_unlock(w.meta);
	evfs_feed_remove(w.meta, &listener);
	evfs_meta_lock(w.meta);
}
END_TEST

static int take_path(void *arg, const char *path,
		     const struct evfs_entry *group, size_t n)
{
	struct evfs_buf *text = arg;

	ck_assert_uint_gt(n, 1);
	ck_assert(!group[0].is_sibling);
	ck_assert_int_eq(evfs_buf_printf(text, "%s ", path), 0);
	return 0;
}

START_TEST(conflicts_in_merged_directories_too)
{
	evfs_ino a = world_dir(&w, 1, EVFS_INO_ROOT, "d");
	evfs_ino b = world_dir(&w, 2, EVFS_INO_ROOT, "d");
	struct evfs_buf text = { 0 };

	(void)world_file(&w, 1, world_dir(&w, 1, a, "s"), "f", "1");
	(void)world_file(&w, 2, world_dir(&w, 2, b, "s"), "f", "2");
	(void)world_file(&w, 1, a, "same", "3");
	(void)world_file(&w, 2, b, "same", "3");
	(void)world_file(&w, 1, EVFS_INO_ROOT, "x", "4");
	(void)world_file(&w, 2, EVFS_INO_ROOT, "x", "5");
	ck_assert_int_eq(evfs_view_conflicts(w.meta, take_path, &text, NULL),
			 0);
	ck_assert_int_eq(evfs_buf_put_u8(&text, 0), 0);
	ck_assert_str_eq((char *)text.data, "/d/s/f /x ");
	evfs_buf_fini(&text);
}
END_TEST

START_TEST(dump_is_sorted_and_escaped)
{
	evfs_ino d = world_dir(&w, 1, EVFS_INO_ROOT, "a b\n");
	struct evfs_buf text = { 0 };
	const char *first, *second;

	(void)world_symlink(&w, 1, d, "l", "to = \\");
	(void)world_file(&w, 1, EVFS_INO_ROOT, "a", "x");
	ck_assert_int_eq(evfs_view_dump(w.meta, &text, NULL), 0);
	ck_assert_int_eq(evfs_buf_put_u8(&text, 0), 0);
	first = strstr((char *)text.data, "/a file 0644 0:0 size=1 content=");
	second = strstr((char *)text.data, "/a\\040b\\012 dir 0755 0:0\n");
	ck_assert_ptr_eq(first, (char *)text.data);
	ck_assert_ptr_nonnull(second);
	ck_assert_ptr_nonnull(strstr((char *)text.data,
		"/a\\040b\\012/l symlink 0644 0:0 "
		"target=to\\040\\075\\040\\134\n"));
	evfs_buf_fini(&text);
}
END_TEST

static int count_past(void *arg, const struct evfs_past *past)
{
	if (past->ended_ns != 0 && past->deleted)
		*(int *)arg += 100;
	else if (past->ended_ns != 0)
		*(int *)arg += 10;
	else
		*(int *)arg += 1;
	return 0;
}

START_TEST(history_keeps_what_leaves)
{
	evfs_ino d = world_dir(&w, 1, EVFS_INO_ROOT, "d");
	evfs_ino f = world_file(&w, 1, d, "f", "one");
	struct evfs_object *object = world_edit(&w, f, EVFS_KIND_FILE);
	int counted = 0;

	evfs_object_remove_version(object, object->versions[0].dot);
	(void)world_version(&w, object, 1, "two");
	world_put(&w, object);
	ck_assert_int_eq(evfs_history_log(w.meta, "/d/f", count_past, &counted,
					  NULL), 0);
	ck_assert_int_eq(counted, 11);
	unlink_file(f);
	set_dead(d);
	counted = 0;
	ck_assert_int_eq(evfs_history_log(w.meta, "/d/f", count_past, &counted,
					  NULL), 0);
	ck_assert_int_eq(counted, 110);
}
END_TEST

/* Every allocation fails once; each time nothing may have changed. */
START_TEST(failed_put_leaves_nothing)
{
	evfs_ino a = world_dir(&w, 1, EVFS_INO_ROOT, "a");
	evfs_ino b = world_dir(&w, 1, EVFS_INO_ROOT, "b");
	uint64_t n = 0;
	int ret;

	(void)world_file(&w, 1, a, "f", "x");
	do {
		struct evfs_object *batch[3] = {
			world_edit(&w, a, EVFS_KIND_DIR),
			world_edit(&w, b, EVFS_KIND_DIR),
			world_edit(&w, (evfs_ino){ { 3, 0 }, 900 },
				   EVFS_KIND_FILE),
		};
		struct evfs_err err = { 0 };

		world_move(&w, batch[0], 0, 1, b, NULL, "a");
		world_move(&w, batch[1], 0, 2, a, NULL, "b");
		world_alive(&w, batch[1], 0, 2, false);
		world_link(&w, batch[2], 3, b, "g");
		(void)world_version(&w, batch[2], 3, "yy");
		evfs_mem_fail_after(++n);
		ret = evfs_index_put(w.meta, batch, 3, EVFS_FEED_REMOTE, &err);
		evfs_mem_fail_after(0);
		if (ret != 0) {
			ck_assert_int_eq(ret, EVFS_ENOMEM);
			names_are("/", "a b");
			names_are("/a", "f");
		}
		world_check(&w);
	} while (ret != 0 && n < 10000);
	ck_assert_uint_gt(n, 10);
	ck_assert_uint_lt(n, 10000);
	names_are("/b", "a g");
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		rule_1_dead_directory_lives_by_its_child,
		rule_1_child_before_its_parent,
		rule_1_dead_cycle_holds_nothing_up,
		rule_2_youngest_move_is_undone,
		rule_2_no_way_back_goes_to_lost_and_found,
		rule_3_directories_merge,
		rule_4_last_one_has_the_name,
		rule_4_siblings_of_one_inode,
		rule_4_former_name_with_cut_stem,
		rule_4_names_cut_to_one_stem,
		rule_4_real_name_beats_generated,
		rule_5_equal_contents_are_one,
		rule_6_set_id_bits_need_to_have_seen,
		unsealed_file_is_shown_here_only,
		errors_name_what_is_missing,
		directory_time_is_that_of_its_entries,
		feed_hears_of_what_a_mount_must_forget,
		conflicts_in_merged_directories_too,
		dump_is_sorted_and_escaped,
		history_keeps_what_leaves,
		failed_put_leaves_nothing,
	};
	Suite *suite = suite_create("view");
	TCase *rules = tcase_create("rules");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(rules, setup, teardown);
	for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++)
		tcase_add_test(rules, tests[i]);
	suite_add_tcase(suite, rules);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
