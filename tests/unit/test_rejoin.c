/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A member that was removed, worked on alone and joins again. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "meta/collect.h"
#include "meta/facts.h"
#include "meta/life.h"
#include "meta/members.h"
#include "meta/tree.h"
#include "tests/unit/engine_world.h"

static void remove_member(unsigned i, unsigned other)
{
	struct evfs_err err = { 0 };

	evfs_meta_lock(nodes[i].meta);
	must(evfs_members_remove(nodes[i].meta,
				 evfs_meta_node(nodes[other].meta), &err),
	     &err);
	evfs_meta_unlock(nodes[i].meta);
	commit(&nodes[i]);
	if (nodes[i].engine != NULL) {
		evfs_engine_members_changed(nodes[i].engine);
		evfs_loop_poke(loop, i);
	}
}

static void collect(unsigned i)
{
	struct evfs_err err = { 0 };
	bool more = true;

	while (more)
		must(evfs_collect_step(nodes[i].meta, 1000, &more, &err),
		     &err);
	commit(&nodes[i]);
}

/* As evfsctl join does with the old store: another key, in the same place. */
static void rejoin(unsigned i)
{
	struct node *node = &nodes[i];
	struct evfs_meta_new what = { .node_name = node->name };
	struct evfs_err err = { 0 };

	snprintf(node->key, sizeof(node->key), "ssh-ed25519 AAAAAGAIN%c",
		 'A' + i);
	what.public_key = node->key;
	what.node = evfs_node_of_key(node->key);
	what.volume = *evfs_meta_volume(node->meta);
	evfs_loop_set_id(loop, i, what.node);
	evfs_meta_lock(node->meta);
	must(evfs_life_rejoin(node->meta, &what, &err), &err);
	evfs_meta_unlock(node->meta);
	commit(node);
	must(evfs_meta_crash(node->meta, &err), &err);
}

/* Its answer to the token: the members that the inviter knows. */
static void take_members(unsigned i, unsigned from)
{
	struct evfs_member *members = NULL;
	struct evfs_err err = { 0 };
	bool changed;
	size_t n = 0;

	evfs_meta_lock(nodes[from].meta);
	must(evfs_members_all(nodes[from].meta, &members, &n, &err), &err);
	evfs_meta_unlock(nodes[from].meta);
	evfs_meta_lock(nodes[i].meta);
	for (size_t k = 0; k < n; k++)
		must(evfs_members_join(nodes[i].meta, &members[k], &changed,
				       &err), &err);
	evfs_meta_unlock(nodes[i].meta);
	commit(&nodes[i]);
	evfs_free(members);
}

static void join_again(unsigned i, unsigned by)
{
	rejoin(i);
	know(&nodes[by], i, true);
	commit(&nodes[by]);
	if (nodes[by].engine != NULL) {
		evfs_engine_members_changed(nodes[by].engine);
		evfs_loop_poke(loop, by);
	}
	take_members(i, by);
}

/* A removes B, is the only member then, and forgets what it removes. B joins
 * again, but removes A before it has heard all of it. So when A joins again, it
 * has what it removed not even as removed, and B has it still. */
START_TEST(forgotten_removal)
{
	struct evfs_engine_status s;

	make(2);
	power_on(0);
	power_on(1);
	create(0, "gone", 10, 1);
	create(0, "edited", 10, 2);
	create(0, "kept", 10, 3);
	wait_converged(2);
	power_off(0);
	power_off(1);
	remove_member(0, 1);
	unlink_file(0, "gone");
	unlink_file(0, "edited");
	commit(&nodes[0]);
	collect(0);
	join_again(1, 0);
	remove_member(1, 0);
	rewrite(1, "edited", 20, 4);
	commit(&nodes[1]);
	join_again(0, 1);
	power_on(0);
	power_on(1);
	wait_converged(2);
	for (unsigned i = 0; i < 2; i++) {
		ck_assert(!exists(i, "gone"));
		ck_assert(has_file(i, "edited", 20, 4));
		ck_assert(has_file(i, "kept", 10, 3));
		status(i, &s);
		evfs_free(s.peers);
		ck_assert_uint_eq(s.audit.diverged, 0);
	}
}
END_TEST

static void chmod_file(unsigned i, const char *name, uint32_t mode)
{
	struct evfs_attr attr = { .kind = EVFS_ATTR_MODE, .value.mode = mode };
	struct evfs_err err = { 0 };
	evfs_ino ino = ino_of(i, name);

	evfs_meta_lock(nodes[i].meta);
	must(evfs_tree_set_attr_of(nodes[i].meta, ino, &attr, &err), &err);
	evfs_meta_unlock(nodes[i].meta);
}

static void attr_of(unsigned i, const char *name, struct evfs_attributes *ret)
{
	struct evfs_entry entry = { 0 };
	struct evfs_err err = { 0 };

	ck_assert(lookup(i, name, &entry));
	evfs_meta_lock(nodes[i].meta);
	must(evfs_view_attr(nodes[i].meta, &entry, ret, &err), &err);
	evfs_meta_unlock(nodes[i].meta);
	evfs_entry_fini(&entry);
}

static bool knows(unsigned i, evfs_ino ino)
{
	const struct evfs_object *object = NULL;
	struct evfs_err err = { 0 };

	evfs_meta_lock(nodes[i].meta);
	must(evfs_facts_get(evfs_meta_facts(nodes[i].meta), ino, &object,
			    &err), &err);
	evfs_meta_unlock(nodes[i].meta);
	return object != NULL;
}

/* B changes the mode of a file and removes it; B has forgotten the file, C has
 * not yet, and A, which was removed, brings it back with an edit. So B hears of
 * the file by A alone, and is to get the mode that only C knows: A gives only
 * what it has when it has heard everybody, though B is there first. */
START_TEST(forgotten_attributes)
{
	struct evfs_attributes first, attr;
	struct evfs_peer_status told;
	struct evfs_engine_status s;
	evfs_ino ino;

	make(3);
	for (unsigned i = 0; i < 3; i++)
		power_on(i);
	create(0, "f", 10, 1);
	wait_converged(3);
	ino = ino_of(0, "f");
	power_off(0);
	remove_member(1, 0);
	rewrite(0, "f", 20, 2);
	commit(&nodes[0]);
	chmod_file(1, "f", 0751);
	unlink_file(1, "f");
	wait_converged(3);
	run_ms(12000); /* reports get into the store */
	collect(1);
	ck_assert(!knows(1, ino) && knows(2, ino));
	join_again(0, 1);
	evfs_loop_link(loop, 0, 2, false);
	evfs_loop_link(loop, 2, 0, false);
	power_on(0);
	run_ms(10000);
	ck_assert(is_connected(0, 1) && !is_connected(0, 2));
	peer(0, 1, &told);
	ck_assert(!told.audit_due); /* nobody need remove it */
	peer(0, 2, &told);
	ck_assert(told.audit_due);
	evfs_loop_link(loop, 0, 2, true);
	evfs_loop_link(loop, 2, 0, true);
	wait_converged(3);
	attr_of(0, "f", &first);
	ck_assert_uint_eq(first.mode & 0777, 0751);
	for (unsigned i = 0; i < 3; i++) {
		ck_assert(has_file(i, "f", 20, 2));
		attr_of(i, "f", &attr);
		ck_assert_uint_eq(attr.mode, first.mode);
		ck_assert_int_eq(attr.ctime_s, first.ctime_s);
		ck_assert_uint_eq(attr.ctime_ns, first.ctime_ns);
		status(i, &s);
		evfs_free(s.peers);
		ck_assert_uint_eq(s.audit.divergences, 0);
	}
}
END_TEST

static void make_dir(unsigned i, evfs_ino dir, const char *name)
{
	struct evfs_new what = { .kind = EVFS_KIND_DIR, .mode = 0755 };
	struct evfs_err err = { 0 };
	evfs_stamp link;
	evfs_ino ino;

	evfs_meta_lock(nodes[i].meta);
	must(evfs_tree_create(nodes[i].meta, dir, name, strlen(name), &what,
			      &ino, &link, &err), &err);
	evfs_meta_unlock(nodes[i].meta);
	commit(&nodes[i]);
}

static evfs_ino dir_of(unsigned i, const char *name)
{
	struct evfs_entry entry = { 0 };
	evfs_ino ino;

	ck_assert(lookup(i, name, &entry));
	ino = entry.dir.members[0];
	evfs_entry_fini(&entry);
	return ino;
}

static struct evfs_backup *back_up(unsigned i)
{
	struct evfs_backup *backup = NULL;
	struct evfs_err err = { 0 };

	commit(&nodes[i]);
	must(evfs_meta_backup(nodes[i].meta, &backup, &err), &err);
	return backup;
}

static void restore(unsigned i, struct evfs_backup *backup)
{
	struct evfs_err err = { 0 };

	power_off(i);
	must(evfs_meta_restore(nodes[i].meta, backup, true, &err), &err);
	evfs_backup_free(backup);
}

/* A directory with an attribute is removed and forgotten. A backup from before
 * the attribute brings it back, for what is made in it; then a backup from
 * after it comes back elsewhere, with what the others cover and have no more:
 * they take in all that this one has, too. */
START_TEST(restored_attributes)
{
	struct evfs_attr attr = { .kind = EVFS_ATTR_MODE, .value.mode = 0700 };
	struct evfs_backup *before, *after;
	struct evfs_attributes a, b;
	struct evfs_engine_status s;
	struct evfs_err err = { 0 };
	evfs_ino d;

	make(2);
	power_on(0);
	power_on(1);
	make_dir(0, EVFS_INO_ROOT, "d");
	wait_converged(2);
	d = dir_of(0, "d");
	before = back_up(0);
	evfs_meta_lock(nodes[1].meta);
	must(evfs_tree_set_attr_of(nodes[1].meta, d, &attr, &err), &err);
	evfs_meta_unlock(nodes[1].meta);
	wait_converged(2);
	after = back_up(1);
	evfs_meta_lock(nodes[1].meta);
	must(evfs_tree_rmdir(nodes[1].meta, EVFS_INO_ROOT, "d", 1, &err),
	     &err);
	evfs_meta_unlock(nodes[1].meta);
	wait_converged(2);
	run_ms(12000); /* reports get into the store */
	collect(0);
	collect(1);
	ck_assert(!knows(0, d) && !knows(1, d));
	restore(0, before);
	make_dir(0, d, "inside");
	power_on(0);
	wait_converged(2);
	attr_of(1, "d", &a);
	ck_assert_uint_eq(a.mode & 0777, 0755);
	restore(1, after);
	power_on(1);
	wait_converged(2);
	attr_of(0, "d", &a);
	attr_of(1, "d", &b);
	ck_assert_uint_eq(a.mode, b.mode);
	ck_assert_int_eq(a.ctime_s, b.ctime_s);
	ck_assert_uint_eq(a.ctime_ns, b.ctime_ns);
	for (unsigned i = 0; i < 2; i++) {
		status(i, &s);
		evfs_free(s.peers);
		ck_assert_uint_eq(s.audit.divergences, 0);
	}
}
END_TEST

/* Two join again at once, and audit each other in both directions: neither's
 * wish takes the place of the other's. */
START_TEST(two_at_once)
{
	make(3);
	for (unsigned i = 0; i < 3; i++)
		power_on(i);
	create(0, "f", 10, 1);
	wait_converged(3);
	power_off(0);
	power_off(1);
	remove_member(2, 0);
	remove_member(2, 1);
	create(0, "a", 10, 2);
	create(1, "b", 10, 3);
	commit(&nodes[0]);
	commit(&nodes[1]);
	join_again(0, 2);
	join_again(1, 2);
	power_on(0);
	power_on(1);
	wait_converged(3);
	for (unsigned i = 0; i < 3; i++)
		ck_assert(exists(i, "f") && exists(i, "a") && exists(i, "b"));
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("rejoin");
	TCase *tc = tcase_create("rejoin");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, forgotten_removal);
	tcase_add_test(tc, forgotten_attributes);
	tcase_add_test(tc, restored_attributes);
	tcase_add_test(tc, two_at_once);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
