/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Tree operations one by one: making, removing, attributes, settling; their
 * errors, and that a failed one changes nothing. */
#include "tests/unit/test_tree.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "meta/config.h"
#include "meta/content.h"
#include "meta/facts.h"
#include "meta/history.h"
#include "meta/index.h"

struct test_world world;
struct test_replica a, b;

void tree_setup(void)
{
	test_world_init(&world);
	test_replica_open(&a, &world, "A");
	test_replica_open(&b, &world, "B");
}

void tree_teardown(void)
{
	test_replica_close(&a);
	test_replica_close(&b);
	test_world_fini(&world);
}

void tree_sync(void)
{
	test_world_tick(&world);
	ck_assert_int_eq(test_delta(&a, &b, -1), 0);
	ck_assert_int_eq(test_delta(&b, &a, -1), 0);
	ck_assert_int_eq(test_delta(&a, &b, -1), 0);
	test_world_tick(&world);
}

void tree_conflict(const char *path, const char *a_tag, const char *b_tag)
{
	ck_assert_int_eq(test_create(&a, path, "base"), 0);
	tree_sync();
	ck_assert_int_eq(test_write(&a, path, a_tag), 0);
	test_world_tick(&world);
	ck_assert_int_eq(test_write(&b, path, b_tag), 0);
	tree_sync();
}

char *tree_sibling(struct test_replica *replica, const char *plain,
		   const char *tag)
{
	char *path = test_find_path(replica, plain, tag, true);

	ck_assert_msg(path != NULL, "no sibling of %s with %s", plain, tag);
	return path;
}

void tree_expect(struct test_replica *replica, ...)
{
	struct test_lines lines, wanted = { 0 };
	const char *line;
	va_list list;

	va_start(list, replica);
	while ((line = va_arg(list, const char *)) != NULL)
		test_lines_add(&wanted, evfs_strdup(line));
	va_end(list);
	test_lines_sort(&wanted);
	ck_assert_int_eq(test_tree_lines(replica, &lines), 0);
	for (size_t i = 0; i < lines.n || i < wanted.n; i++)
		ck_assert_str_eq(i < lines.n ? lines.items[i] : "nothing",
				 i < wanted.n ? wanted.items[i] : "nothing");
	test_lines_free(&lines);
	test_lines_free(&wanted);
}

static int make_in_root(const char *name, size_t len)
{
	struct evfs_new what = { .kind = EVFS_KIND_DIR, .mode = 0755 };
	int rc;

	evfs_meta_lock(a.meta);
	rc = evfs_tree_create(a.meta, EVFS_INO_ROOT, name, len, &what, NULL,
			      NULL, &a.err);
	evfs_meta_unlock(a.meta);
	return rc;
}

/* ---- making ---- */

START_TEST(names_are_checked)
{
	char name[EVFS_NAME_MAX + 1];

	memset(name, 'n', sizeof(name));
	ck_assert_int_eq(make_in_root("", 0), EVFS_EINVAL);
	ck_assert_int_eq(make_in_root(".", 1), EVFS_EINVAL);
	ck_assert_int_eq(make_in_root("..", 2), EVFS_EINVAL);
	ck_assert_int_eq(make_in_root("a/b", 3), EVFS_EINVAL);
	ck_assert_int_eq(make_in_root("a\0b", 3), EVFS_EINVAL);
	ck_assert_int_eq(make_in_root(name, sizeof(name)),
			 EVFS_ENAMETOOLONG);
	tree_expect(&a, NULL);
	ck_assert_int_eq(make_in_root(name, EVFS_NAME_MAX), 0);
	ck_assert_int_eq(make_in_root("...", 3), 0);
	ck_assert_int_eq(make_in_root("\xff", 1), 0);
}
END_TEST

START_TEST(create_refuses_taken_names_and_bad_places)
{
	struct evfs_new what = { .kind = EVFS_KIND_DIR, .mode = 0755 };
	struct evfs_entry entry;
	evfs_ino unknown = { { 77, 0 }, 5 };

	ck_assert_int_eq(test_make(&a, "/d", EVFS_KIND_DIR, NULL), 0);
	ck_assert_int_eq(test_make(&a, "/d", EVFS_KIND_DIR, NULL),
			 EVFS_EEXISTS);
	ck_assert_int_eq(test_make(&a, "/d", EVFS_KIND_FIFO, NULL),
			 EVFS_EEXISTS);
	ck_assert_int_eq(test_create(&a, "/f", "x"), 0);
	ck_assert_int_eq(test_path_entry(&a, "/f", &entry), 0);
	evfs_meta_lock(a.meta);
	ck_assert_int_ne(evfs_tree_create(a.meta, entry.members[0].ino, "x", 1,
					  &what, NULL, NULL, &a.err),
			 0);
	ck_assert_int_eq(evfs_tree_create(a.meta, unknown, "x", 1, &what, NULL,
					  NULL, &a.err),
			 EVFS_ENOTFOUND);
	evfs_meta_unlock(a.meta);
	evfs_entry_fini(&entry);
	tree_expect(&a, "/d dir - 0755 -", "/f file x 0644 -", NULL);
}
END_TEST

START_TEST(creation_writes_owner_and_mode)
{
	struct evfs_new what = { .kind = EVFS_KIND_CHARDEV,
				 .mode = 0620,
				 .uid = 7,
				 .gid = 8,
				 .rdev = 0x501 };
	struct evfs_attributes attributes;
	struct evfs_entry entry;
	const struct evfs_object *object;
	evfs_ino ino;
	evfs_stamp link;

	evfs_meta_lock(a.meta);
	ck_assert_int_eq(evfs_tree_create(a.meta, EVFS_INO_ROOT, "tty", 3,
					  &what, &ino, &link, &a.err),
			 0);
	ck_assert_int_eq(evfs_facts_get(evfs_meta_facts(a.meta), ino, &object,
					&a.err),
			 0);
	ck_assert_uint_eq(object->n_attrs, 2);
	for (size_t i = 0; i < 2; i++)
		ck_assert_int_eq(evfs_stamp_cmp(&object->attrs[i].stamp,
						&link),
				 0);
	ck_assert(evfs_dot_equal(link.dot, ino));
	evfs_meta_unlock(a.meta);
	tree_sync();
	ck_assert_int_eq(test_path_entry(&b, "/tty", &entry), 0);
	ck_assert_int_eq(entry.kind, EVFS_KIND_CHARDEV);
	evfs_meta_lock(b.meta);
	ck_assert_int_eq(evfs_view_attr(b.meta, &entry, &attributes, &b.err),
			 0);
	evfs_meta_unlock(b.meta);
	ck_assert_uint_eq(attributes.mode, 0620);
	ck_assert_uint_eq(attributes.uid, 7);
	ck_assert_uint_eq(attributes.gid, 8);
	ck_assert_uint_eq(attributes.rdev, 0x501);
	evfs_entry_fini(&entry);
}
END_TEST

START_TEST(specials_behave_as_symlinks_do)
{
	ck_assert_int_eq(test_make(&a, "/p", EVFS_KIND_FIFO, NULL), 0);
	ck_assert_int_eq(test_make(&b, "/p", EVFS_KIND_FIFO, NULL), 0);
	tree_sync();
	tree_expect(&a, "/p special - 0644 -", NULL); /* equal: one */
	ck_assert_int_eq(test_unlink(&a, "/p"), 0);
	tree_expect(&a, NULL);
	ck_assert_int_eq(test_make(&a, "/q", EVFS_KIND_SOCKET, NULL), 0);
	test_world_tick(&world);
	ck_assert_int_eq(test_make(&b, "/q", EVFS_KIND_FIFO, NULL), 0);
	tree_sync();
	tree_expect(&a, "/q special - 0644 -",
		    "/q.conflict-A-VVVVVVVV special - 0644 /q", NULL);
	tree_expect(&b, "/q special - 0644 -",
		    "/q.conflict-A-VVVVVVVV special - 0644 /q", NULL);
}
END_TEST

START_TEST(symlink_targets_have_limits)
{
	char *target = evfs_calloc(EVFS_TARGET_MAX + 2, 1);

	ck_assert_ptr_nonnull(target);
	ck_assert_int_eq(test_make(&a, "/l", EVFS_KIND_SYMLINK, ""),
			 EVFS_ENOTFOUND);
	memset(target, 't', EVFS_TARGET_MAX + 1);
	ck_assert_int_eq(test_make(&a, "/l", EVFS_KIND_SYMLINK, target),
			 EVFS_ENAMETOOLONG);
	target[EVFS_TARGET_MAX] = '\0';
	ck_assert_int_eq(test_make(&a, "/l", EVFS_KIND_SYMLINK, target), 0);
	evfs_free(target);
}
END_TEST

START_TEST(link_counts_and_refuses)
{
	struct evfs_attributes attributes;
	struct evfs_entry entry;

	ck_assert_int_eq(test_make(&a, "/d", EVFS_KIND_DIR, NULL), 0);
	ck_assert_int_eq(test_create(&a, "/f", "x"), 0);
	ck_assert_int_eq(test_link(&a, "/d", "/e"), EVFS_EPERM);
	ck_assert_int_eq(test_link(&a, "/f", "/d"), EVFS_EEXISTS);
	ck_assert_int_eq(test_link(&a, "/no", "/e"), EVFS_ENOTFOUND);
	ck_assert_int_eq(test_link(&a, "/f", "/d/g"), 0);
	ck_assert_int_eq(test_path_entry(&a, "/d/g", &entry), 0);
	evfs_meta_lock(a.meta);
	ck_assert_int_eq(evfs_view_attr(a.meta, &entry, &attributes, &a.err),
			 0);
	evfs_meta_unlock(a.meta);
	ck_assert_uint_eq(attributes.nlink, 2);
	evfs_entry_fini(&entry);
	ck_assert_int_eq(test_unlink(&a, "/f"), 0);
	tree_expect(&a, "/d dir - 0755 -", "/d/g file x 0644 -", NULL);
}
END_TEST

/* Puts a file with as many links as there may be, all but one of them dead. */
static void put_many_links(void)
{
	const struct evfs_object *old;
	struct evfs_object *object;
	struct evfs_link *links;
	struct evfs_entry entry;

	ck_assert_int_eq(test_path_entry(&a, "/f", &entry), 0);
	evfs_meta_lock(a.meta);
	ck_assert_int_eq(evfs_facts_get(evfs_meta_facts(a.meta),
					entry.members[0].ino, &old, &a.err),
			 0);
	object = evfs_object_copy(old);
	ck_assert_ptr_nonnull(object);
	links = evfs_arena_alloc(&object->arena, EVFS_OBJECT_LINKS_MAX,
				 sizeof(*links));
	ck_assert_ptr_nonnull(links);
	for (size_t i = 0; i < EVFS_OBJECT_LINKS_MAX; i++) {
		links[i] = object->links[0];
		if (i > 0) {
			links[i].id.time_ns += i;
			links[i].alive = (struct evfs_dots){ NULL, 0 };
		}
	}
	object->links = links;
	object->n_links = EVFS_OBJECT_LINKS_MAX;
	ck_assert_int_eq(evfs_index_put(a.meta, &object, 1, EVFS_FEED_LOCAL,
					&a.err),
			 0);
	evfs_meta_unlock(a.meta);
	evfs_entry_fini(&entry);
}

START_TEST(link_stops_at_the_limit)
{
	ck_assert_int_eq(test_create(&a, "/f", "x"), 0);
	put_many_links();
	ck_assert_int_eq(test_link(&a, "/f", "/g"), EVFS_EMLINK);
	tree_expect(&a, "/f file x 0644 -", NULL);
}
END_TEST

/* ---- removing ---- */

START_TEST(removing_refuses)
{
	ck_assert_int_eq(test_make(&a, "/d", EVFS_KIND_DIR, NULL), 0);
	ck_assert_int_eq(test_create(&a, "/d/f", "x"), 0);
	ck_assert_int_eq(test_unlink(&a, "/d"), EVFS_EISDIR);
	ck_assert_int_eq(test_unlink(&a, "/no"), EVFS_ENOTFOUND);
	ck_assert_int_eq(test_rmdir(&a, "/no"), EVFS_ENOTFOUND);
	ck_assert_int_eq(test_rmdir(&a, "/d/f"), EVFS_ENOTDIR);
	ck_assert_int_eq(test_rmdir(&a, "/d"), EVFS_ENOTEMPTY);
	ck_assert_int_eq(test_unlink(&a, "/d/f"), 0);
	ck_assert_int_eq(test_rmdir(&a, "/d"), 0);
	tree_expect(&a, NULL);
}
END_TEST

/* Two directories in each other, without a way back. */
static void put_loop(void)
{
	struct evfs_object *pair[2];
	evfs_dot dots[2];

	evfs_meta_lock(a.meta);
	for (int i = 0; i < 2; i++)
		ck_assert_int_eq(
			evfs_meta_next_dot(a.meta, &dots[i], &a.err), 0);
	for (int i = 0; i < 2; i++) {
		struct evfs_link link = { 0 };

		pair[i] = evfs_object_new(dots[i], EVFS_KIND_DIR);
		ck_assert_ptr_nonnull(pair[i]);
		link.id.time_ns = evfs_meta_stamp(a.meta, 0);
		link.id.dot = dots[i];
		link.place.stamp = link.id;
		link.place.parent = link.place.origin = dots[1 - i];
		link.place.name = (const uint8_t *)"xy" + i;
		link.place.name_len = 1;
		link.alive.items = &dots[i];
		link.alive.n = 1;
		ck_assert_int_eq(evfs_object_add_link(pair[i], &link), 0);
		ck_assert_int_eq(evfs_object_log_raise(pair[i], dots[i]), 0);
	}
	ck_assert_int_eq(evfs_index_put(a.meta, pair, 2, EVFS_FEED_LOCAL,
					&a.err),
			 0);
	evfs_meta_unlock(a.meta);
}

START_TEST(lost_and_found_stays)
{
	put_loop();
	tree_expect(&a, "/lost+found dir - 0755 -",
		    "/lost+found/y dir - 0755 -",
		    "/lost+found/y/x dir - 0755 -", NULL);
	ck_assert_int_eq(test_rmdir(&a, "/lost+found"), EVFS_EBUSY);
	ck_assert_int_eq(test_rename(&a, "/lost+found", "/found", 0),
			 EVFS_EBUSY);
	ck_assert_int_eq(test_make(&a, "/d", EVFS_KIND_DIR, NULL), 0);
	ck_assert_int_eq(test_rename(&a, "/d", "/lost+found", 0), EVFS_EBUSY);
	ck_assert_int_eq(test_rename(&a, "/d", "/lost+found",
				     EVFS_RENAME_EXCHANGE),
			 EVFS_EBUSY);
	ck_assert_int_eq(test_rename(&a, "/lost+found/y", "/d/y", 0), 0);
	tree_expect(&a, "/d dir - 0755 -", "/d/y dir - 0755 -",
		    "/d/y/x dir - 0755 -", NULL);
}
END_TEST

/* ---- attributes ---- */

START_TEST(xattrs_are_set_and_removed)
{
	struct evfs_attr attr = { .kind = EVFS_ATTR_XATTR };
	struct evfs_entry entry;
	uint8_t key[EVFS_XATTR_NAME_MAX + 1];

	memset(key, 'k', sizeof(key));
	ck_assert_int_eq(test_create(&a, "/f", "x"), 0);
	ck_assert_int_eq(test_setxattr(&a, "/f", "k", "v"), 0);
	tree_expect(&a, "/f file x 0644 - xattr:user.k=v", NULL);
	ck_assert_int_eq(test_path_entry(&a, "/f", &entry), 0);
	evfs_meta_lock(a.meta);
	ck_assert_int_eq(evfs_tree_set_attr(a.meta, EVFS_INO_ROOT, &entry,
					    &attr, &a.err),
			 EVFS_EINVAL);
	attr.key = key;
	attr.key_len = sizeof(key);
	ck_assert_int_eq(evfs_tree_set_attr(a.meta, EVFS_INO_ROOT, &entry,
					    &attr, &a.err),
			 EVFS_ERANGE);
	attr.key_len = 6;
	attr.value.xattr.len = EVFS_XATTR_VALUE_MAX + 1;
	ck_assert_int_eq(evfs_tree_set_attr(a.meta, EVFS_INO_ROOT, &entry,
					    &attr, &a.err),
			 EVFS_ENOSPACE);
	attr.key = (const uint8_t *)"user.k";
	attr.value.xattr.len = 0;
	attr.value.xattr.removed = true;
	ck_assert_int_eq(evfs_tree_set_attr(a.meta, EVFS_INO_ROOT, &entry,
					    &attr, &a.err),
			 0);
	evfs_meta_unlock(a.meta);
	evfs_entry_fini(&entry);
	tree_sync();
	tree_expect(&b, "/f file x 0644 -", NULL);
}
END_TEST

START_TEST(the_root_has_attributes)
{
	struct evfs_attr attr = { .kind = EVFS_ATTR_MODE };
	struct evfs_attributes attributes;

	attr.value.mode = 0700;
	evfs_meta_lock(a.meta);
	ck_assert_int_eq(evfs_tree_set_attr_of(a.meta, EVFS_INO_LOST, &attr,
					       &a.err),
			 EVFS_EPERM);
	ck_assert_int_eq(evfs_tree_set_attr_of(a.meta, EVFS_INO_ROOT, &attr,
					       &a.err),
			 0);
	evfs_meta_unlock(a.meta);
	tree_sync();
	evfs_meta_lock(b.meta);
	ck_assert_int_eq(evfs_view_attr_of(b.meta, EVFS_INO_ROOT, NULL,
					   &attributes, &b.err),
			 0);
	ck_assert_uint_eq(attributes.mode, 0700);
	attr.value.mode = 0750;
	ck_assert_int_eq(evfs_tree_set_attr_of(b.meta, EVFS_INO_ROOT, &attr,
					       &b.err),
			 0);
	evfs_meta_unlock(b.meta);
	tree_sync();
	evfs_meta_lock(a.meta);
	ck_assert_int_eq(evfs_view_attr_of(a.meta, EVFS_INO_ROOT, NULL,
					   &attributes, &a.err),
			 0);
	evfs_meta_unlock(a.meta);
	ck_assert_uint_eq(attributes.mode, 0750);
}
END_TEST

START_TEST(set_id_bits_go_with_new_content)
{
	ck_assert_int_eq(test_create(&a, "/f", "x"), 0);
	ck_assert_int_eq(test_chmod(&a, "/f", 04755), 0);
	tree_expect(&a, "/f file x 4755 -", NULL);
	ck_assert_int_eq(test_write(&a, "/f", "y"), 0);
	tree_expect(&a, "/f file y 0755 -", NULL);
}
END_TEST

START_TEST(set_id_bits_do_not_pass_to_promoted_siblings)
{
	evfs_cleanup_free char *sibling = NULL;

	ck_assert_int_eq(test_create(&a, "/f", "x"), 0);
	tree_sync();
	ck_assert_int_eq(test_chmod(&a, "/f", 04755), 0);
	ck_assert_int_eq(test_write(&b, "/f", "evil"), 0);
	tree_sync();
	tree_conflict("/g", "1", "2");
	ck_assert_int_eq(test_chmod(&a, "/g", 04755), 0);
	ck_assert_int_eq(test_write(&b, "/g", "3"), 0);
	tree_sync();
	sibling = tree_sibling(&a, "/g", "1");
	ck_assert_int_eq(test_rename(&a, sibling, "/own", 0), 0);
	tree_expect(&a, "/f file evil 0755 -", "/g file 3 0755 -",
		    "/own file 1 4755 -", NULL);
}
END_TEST

/* ---- directories that live through their children ---- */

int64_t tree_zombies(struct test_replica *replica)
{
	int64_t n;

	evfs_meta_lock(replica->meta);
	n = evfs_facts_counter(evfs_meta_facts(replica->meta),
			       EVFS_COUNTER_ZOMBIES);
	evfs_meta_unlock(replica->meta);
	return n;
}

static void make_zombie(void)
{
	ck_assert_int_eq(test_make(&a, "/d", EVFS_KIND_DIR, NULL), 0);
	ck_assert_int_eq(test_make(&a, "/d/e", EVFS_KIND_DIR, NULL), 0);
	tree_sync();
	ck_assert_int_eq(test_rm_rf(&b, "/d"), 0);
	ck_assert_int_eq(test_create(&a, "/d/e/f", "x"), 0);
	tree_sync();
	ck_assert_int_eq(tree_zombies(&a), 2);
}

START_TEST(operations_assert_what_they_stand_in)
{
	make_zombie();
	ck_assert_int_eq(test_create(&a, "/d/e/g", "y"), 0);
	ck_assert_int_eq(tree_zombies(&a), 0);
	ck_assert_int_eq(test_unlink(&a, "/d/e/f"), 0);
	ck_assert_int_eq(test_unlink(&a, "/d/e/g"), 0);
	tree_sync();
	tree_expect(&b, "/d dir - 0755 -", "/d/e dir - 0755 -", NULL);
}
END_TEST

START_TEST(attributes_assert_nothing)
{
	make_zombie();
	ck_assert_int_eq(test_chmod(&a, "/d/e/f", 0600), 0);
	ck_assert_int_eq(tree_zombies(&a), 2);
	ck_assert_int_eq(test_chmod(&a, "/d", 0700), 0);
	ck_assert_int_eq(tree_zombies(&a), 2);
}
END_TEST

START_TEST(an_audited_replica_asserts_its_directories)
{
	make_zombie();
	evfs_meta_lock(a.meta);
	ck_assert_int_eq(evfs_tree_audited(a.meta, &a.err), 0);
	evfs_meta_unlock(a.meta);
	ck_assert_int_eq(tree_zombies(&a), 0);
	tree_sync();
	ck_assert_int_eq(tree_zombies(&b), 0);
	evfs_meta_lock(a.meta);
	ck_assert_int_eq(evfs_tree_audited(a.meta, &a.err), 0);
	evfs_meta_unlock(a.meta);
}
END_TEST

/* ---- settling ---- */

static int resolve(const char *name, enum evfs_keep keep, const char *node)
{
	int rc;

	evfs_meta_lock(a.meta);
	rc = evfs_tree_resolve(a.meta, EVFS_INO_ROOT, name, strlen(name), keep,
			       node, &a.err);
	evfs_meta_unlock(a.meta);
	return rc;
}

START_TEST(resolve_needs_a_conflict)
{
	ck_assert_int_eq(resolve("f", EVFS_KEEP_THIS, NULL), EVFS_ENOTFOUND);
	ck_assert_int_eq(test_create(&a, "/f", "x"), 0);
	ck_assert_int_eq(resolve("f", EVFS_KEEP_THIS, NULL), EVFS_ENOTFOUND);
	tree_conflict("/g", "1", "2");
	ck_assert_int_eq(resolve("g", EVFS_KEEP_NODE, "nobody"),
			 EVFS_ENOTFOUND);
	ck_assert_int_eq(resolve("g", EVFS_KEEP_NODE, NULL), EVFS_EINVAL);
}
END_TEST

START_TEST(resolve_keeps_this)
{
	evfs_cleanup_free char *sibling = NULL;

	tree_conflict("/f", "1", "2");
	ck_assert_int_eq(resolve("f", EVFS_KEEP_THIS, NULL), 0);
	tree_expect(&a, "/f file 2 0644 -", NULL);
	tree_conflict("/g", "1", "2");
	sibling = tree_sibling(&a, "/g", "1");
	ck_assert_int_eq(resolve(sibling + 1, EVFS_KEEP_THIS, NULL), 0);
	tree_sync();
	tree_expect(&b, "/f file 2 0644 -", "/g file 1 0644 -", NULL);
}
END_TEST

START_TEST(resolve_keeps_a_node)
{
	tree_conflict("/f", "1", "2");
	ck_assert_int_eq(resolve("f", EVFS_KEEP_NODE, "A"), 0);
	tree_expect(&a, "/f file 1 0644 -", NULL);
	tree_conflict("/g", "1", "2");
	ck_assert_int_eq(resolve("g", EVFS_KEEP_NODE, "B"), 0);
	tree_expect(&a, "/f file 1 0644 -", "/g file 2 0644 -", NULL);
	/* Three contents of two inodes. */
	ck_assert_int_eq(test_create(&a, "/h", "1"), 0);
	ck_assert_int_eq(test_create(&b, "/h", "2"), 0);
	tree_sync();
	ck_assert_int_eq(test_write(&b, "/h", "3"), 0);
	ck_assert_int_eq(test_write(&a, "/h", "4"), 0);
	tree_sync();
	ck_assert_int_eq(resolve("h", EVFS_KEEP_NODE, "A"), 0);
	tree_expect(&a, "/f file 1 0644 -", "/g file 2 0644 -",
		    "/h file 4 0644 -", NULL);
}
END_TEST

START_TEST(resolve_keeps_the_newest)
{
	ck_assert_int_eq(test_create(&a, "/f", "1"), 0);
	test_world_tick(&world);
	ck_assert_int_eq(test_create(&b, "/f", "2"), 0);
	tree_sync();
	/* The sibling gets newer content than the plain name has, through a
	 * handle that A had opened while it was plain. */
	ck_assert_int_eq(resolve("f", EVFS_KEEP_NEWEST, NULL), 0);
	tree_sync();
	tree_expect(&b, "/f file 2 0644 -", NULL);
}
END_TEST

START_TEST(resolve_keeps_all)
{
	tree_conflict("/f", "1", "2");
	ck_assert_int_eq(resolve("f", EVFS_KEEP_ALL, NULL), 0);
	tree_expect(&a, "/f file 2 0644 -",
		    "/f.conflict-A-VVVVVVVV file 1 0644 -", NULL);
	tree_sync();
	tree_expect(&b, "/f file 2 0644 -",
		    "/f.conflict-A-VVVVVVVV file 1 0644 -", NULL);
}
END_TEST

START_TEST(resolve_leaves_directories_their_name)
{
	ck_assert_int_eq(test_create(&a, "/f", "1"), 0);
	ck_assert_int_eq(test_make(&b, "/f", EVFS_KIND_DIR, NULL), 0);
	tree_sync();
	ck_assert_int_eq(resolve("f", EVFS_KEEP_NODE, "A"), EVFS_EISDIR);
	ck_assert_int_eq(resolve("f", EVFS_KEEP_NODE, "B"), 0);
	tree_expect(&a, "/f dir - 0755 -", NULL);
}
END_TEST

/* ---- all or nothing ---- */

/* Repeats an operation with each of its allocations failing once, until it has
 * been done. After a failure the tree must be as these lines say, also when it
 * is made anew from the facts. */
#define SWEEP(operation, ...) \
	do { \
		uint64_t n = 0; \
		int rc; \
		do { \
			evfs_mem_fail_after(++n); \
			rc = (operation); \
			evfs_mem_fail_after(0); \
			if (rc == 0) \
				break; \
			ck_assert_int_eq(rc, EVFS_ENOMEM); \
			tree_expect(&a, __VA_ARGS__); \
			rebuild(); \
			tree_expect(&a, __VA_ARGS__); \
		} while (n < 5000); \
		ck_assert_int_eq(rc, 0); \
		ck_assert_uint_gt(n, 10); \
	} while (0)

static void rebuild(void)
{
	evfs_meta_lock(a.meta);
	ck_assert_int_eq(evfs_index_rebuild(a.meta, &a.err), 0);
	evfs_meta_unlock(a.meta);
}

/* Handles too are as they were. */
static int rename_over(const struct evfs_handle *handle, evfs_ino ino)
{
	ck_assert(!handle->orphan);
	ck_assert(evfs_dot_equal(handle->ino, ino));
	return test_rename(&a, "/g", "/f", 0);
}

static int seal_first(struct evfs_handle *handle)
{
	ck_assert_uint_eq(handle->n_base, 0);
	return test_seal(&a, handle, "1");
}

START_TEST(a_failed_rename_changes_nothing)
{
	struct evfs_handle handle;
	evfs_ino ino;

	tree_conflict("/f", "1", "2");
	ck_assert_int_eq(test_create(&a, "/g", "x"), 0);
	ck_assert_int_eq(test_open(&a, "/f", &handle), 0);
	ino = handle.ino;
	SWEEP(rename_over(&handle, ino), "/f file 2 0644 -",
	      "/f.conflict-A-VVVVVVVV file 1 0644 /f", "/g file x 0644 -",
	      NULL);
	ck_assert(handle.orphan);
	test_close(&a, &handle);
	tree_expect(&a, "/f file x 0644 -",
		    "/f.conflict-A-VVVVVVVV file 1 0644 -", NULL);
	tree_sync();
	tree_expect(&b, "/f file x 0644 -",
		    "/f.conflict-A-VVVVVVVV file 1 0644 -", NULL);
}
END_TEST

static int create_unsealed(const char *name)
{
	struct evfs_new what = { .kind = EVFS_KIND_FILE, .mode = 0600 };
	int rc;

	evfs_meta_lock(a.meta);
	rc = evfs_tree_create(a.meta, EVFS_INO_ROOT, name, strlen(name), &what,
			      NULL, NULL, &a.err);
	evfs_meta_unlock(a.meta);
	return rc;
}

START_TEST(a_failed_seal_changes_nothing)
{
	struct evfs_handle handle;

	/* Known to the tests before allocations fail. */
	(void)test_content(&world, "1");
	SWEEP(create_unsealed("f"), NULL);
	ck_assert_int_eq(test_open(&a, "/f", &handle), 0);
	SWEEP(seal_first(&handle), "/f file unsealed 0600 -", NULL);
	ck_assert_uint_eq(handle.n_base, 1);
	test_close(&a, &handle);
	tree_expect(&a, "/f file 1 0600 -", NULL);
}
END_TEST

/* The time by which concurrent versions are chosen is that of the close. */
START_TEST(a_version_bears_the_time_of_its_close)
{
	struct evfs_content_ref content = test_content(&world, "2");
	const struct evfs_object *object;
	struct evfs_handle handle;
	uint64_t closed_ns, before_ns;

	ck_assert_int_eq(test_create(&a, "/f", "1"), 0);
	ck_assert_int_eq(test_open(&a, "/f", &handle), 0);
	evfs_meta_lock(a.meta);
	closed_ns = evfs_meta_stamp(a.meta, 0);
	before_ns = evfs_meta_stamp(a.meta, 0);
	content.closed_ns = closed_ns;
	ck_assert_int_eq(evfs_tree_seal(a.meta, &handle, &content, &a.err), 0);
	ck_assert_int_eq(evfs_facts_get(evfs_meta_facts(a.meta), handle.ino,
					&object, &a.err),
			 0);
	ck_assert_uint_eq(object->versions[0].time_ns, closed_ns);
	ck_assert_uint_gt(object->change_ns, before_ns);
	/* Never before what it replaces. */
	content = test_content(&world, "3");
	content.closed_ns = closed_ns - 1;
	ck_assert_int_eq(evfs_tree_seal(a.meta, &handle, &content, &a.err), 0);
	ck_assert_int_eq(evfs_facts_get(evfs_meta_facts(a.meta), handle.ino,
					&object, &a.err),
			 0);
	ck_assert_uint_eq(object->n_versions, 1);
	ck_assert_uint_gt(object->versions[0].time_ns, before_ns);
	evfs_meta_unlock(a.meta);
	test_close(&a, &handle);
}
END_TEST

START_TEST(a_failed_exchange_changes_nothing)
{
	ck_assert_int_eq(test_make(&a, "/d", EVFS_KIND_DIR, NULL), 0);
	ck_assert_int_eq(test_create(&a, "/d/f", "1"), 0);
	ck_assert_int_eq(test_create(&a, "/g", "2"), 0);
	SWEEP(test_rename(&a, "/d", "/g", EVFS_RENAME_EXCHANGE),
	      "/d dir - 0755 -", "/d/f file 1 0644 -", "/g file 2 0644 -",
	      NULL);
	tree_expect(&a, "/d file 2 0644 -", "/g dir - 0755 -",
		    "/g/f file 1 0644 -", NULL);
}
END_TEST

/* Real bytes under a name in the root; what they are called. */
static evfs_hash make_real_file(struct evfs_meta *meta, const char *name)
{
	struct evfs_content *content = evfs_meta_content(meta);
	struct evfs_content_ref ref = { .size = 6000 };
	struct evfs_new what = { .kind = EVFS_KIND_FILE, .mode = 0644,
				 .content = &ref };
	struct evfs_content_put *put;
	uint8_t data[6000];
	evfs_stamp link;
	evfs_ino ino;

	memset(data, 'x', sizeof(data));
	ck_assert_int_eq(evfs_content_write(content, data, sizeof(data), &put,
					    NULL), 0);
	ref.content = *evfs_content_put_name(put);
	evfs_meta_lock_content(meta);
	ck_assert_int_eq(evfs_content_commit(content, put, NULL), 0);
	ck_assert_int_eq(evfs_tree_create(meta, EVFS_INO_ROOT, name,
					  strlen(name), &what, &ino, &link,
					  NULL), 0);
	evfs_meta_unlock(meta);
	return ref.content;
}

/* A tombstone keeps the facts of a file, not its bytes. */
START_TEST(removed_content_goes_with_its_history)
{
	evfs_hash name = make_real_file(a.meta, "f");
	struct evfs_content *content = evfs_meta_content(a.meta);
	bool more = true, here = false;

	evfs_meta_lock(a.meta);
	ck_assert_int_eq(evfs_tree_unlink(a.meta, EVFS_INO_ROOT, "f", 1, NULL),
			 0);
	evfs_meta_unlock(a.meta);
	while (more)
		ck_assert_int_eq(evfs_content_reclaim(content, 1 << 20, &more,
						      NULL), 0);
	evfs_meta_lock(a.meta);
	ck_assert_int_eq(evfs_content_has(content, &name, &here, NULL), 0);
	ck_assert_msg(here, "history does not keep it");
	ck_assert_int_eq(evfs_config_set_text(a.meta, "history_days", "0",
					      NULL), 0);
	evfs_meta_unlock(a.meta);
	test_world_tick(&world);
	evfs_meta_lock(a.meta);
	for (more = true; more;)
		ck_assert_int_eq(evfs_history_prune(a.meta, 100, &more, NULL),
				 0);
	evfs_meta_unlock(a.meta);
	for (more = true; more;)
		ck_assert_int_eq(evfs_content_reclaim(content, 1 << 20, &more,
						      NULL), 0);
	evfs_meta_lock(a.meta);
	ck_assert_int_eq(evfs_content_has(content, &name, &here, NULL), 0);
	evfs_meta_unlock(a.meta);
	ck_assert_msg(!here, "nothing names it, and it is kept");
}
END_TEST

static Suite *tree_suite(void)
{
	Suite *suite = suite_create("tree");
	TCase *basic = tcase_create("basic");

	tcase_add_checked_fixture(basic, tree_setup, tree_teardown);
	tcase_add_test(basic, names_are_checked);
	tcase_add_test(basic, create_refuses_taken_names_and_bad_places);
	tcase_add_test(basic, creation_writes_owner_and_mode);
	tcase_add_test(basic, specials_behave_as_symlinks_do);
	tcase_add_test(basic, symlink_targets_have_limits);
	tcase_add_test(basic, link_counts_and_refuses);
	tcase_add_test(basic, link_stops_at_the_limit);
	tcase_add_test(basic, removing_refuses);
	tcase_add_test(basic, lost_and_found_stays);
	tcase_add_test(basic, xattrs_are_set_and_removed);
	tcase_add_test(basic, the_root_has_attributes);
	tcase_add_test(basic, set_id_bits_go_with_new_content);
	tcase_add_test(basic, set_id_bits_do_not_pass_to_promoted_siblings);
	tcase_add_test(basic, operations_assert_what_they_stand_in);
	tcase_add_test(basic, attributes_assert_nothing);
	tcase_add_test(basic, an_audited_replica_asserts_its_directories);
	tcase_add_test(basic, resolve_needs_a_conflict);
	tcase_add_test(basic, resolve_keeps_this);
	tcase_add_test(basic, resolve_keeps_a_node);
	tcase_add_test(basic, resolve_keeps_the_newest);
	tcase_add_test(basic, resolve_keeps_all);
	tcase_add_test(basic, resolve_leaves_directories_their_name);
	tcase_add_test(basic, removed_content_goes_with_its_history);
	tcase_add_test(basic, a_failed_rename_changes_nothing);
	tcase_add_test(basic, a_failed_seal_changes_nothing);
	tcase_add_test(basic, a_version_bears_the_time_of_its_close);
	tcase_add_test(basic, a_failed_exchange_changes_nothing);
	suite_add_tcase(suite, basic);
	suite_add_tcase(suite, tree_rename_case());
	suite_add_tcase(suite, tree_handle_case());
	return suite;
}

int main(void)
{
	SRunner *runner = srunner_create(tree_suite());
	int failed;

	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
