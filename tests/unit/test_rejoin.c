/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A member that was removed, worked on alone and joins again. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "meta/collect.h"
#include "meta/life.h"
#include "meta/members.h"
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

int main(void)
{
	Suite *suite = suite_create("rejoin");
	TCase *tc = tcase_create("rejoin");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, forgotten_removal);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
