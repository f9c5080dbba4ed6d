/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Settings, members, invitations, history: small tables and their rules. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "meta/config.h"
#include "meta/content.h"
#include "meta/history.h"
#include "meta/members.h"
#include "tests/unit/store_world.h"

#define SECOND UINT64_C(1000000000)
#define DAY (UINT64_C(86400) * SECOND)

static struct evfs_meta *meta; /* of this test; locked */

static void setup(void)
{
	meta = store_memory(0);
	evfs_meta_lock(meta);
}

static void teardown(void)
{
	evfs_meta_unlock(meta);
	evfs_meta_close(meta);
}

/* ---- settings ---- */

static int64_t set(const char *name, const char *value)
{
	struct evfs_err err = { 0 };
	const char *text;
	int key;

	ck_assert_msg(evfs_config_set_text(meta, name, value, &err) == 0, "%s",
		      err.msg);
	ck_assert_int_eq(evfs_config_get_text(meta, name, &text, NULL), 0);
	ck_assert_str_eq(text, value);
	for (key = 0; key < EVFS_CONFIG_KEYS; key++) {
		if (strcmp(evfs_config_name((enum evfs_config_key)key),
			   name) == 0)
			return evfs_config_get(meta,
					       (enum evfs_config_key)key);
	}
	ck_abort_msg("no %s", name);
}

static void refuse(const char *name, const char *value, const char *words)
{
	struct evfs_err err = { 0 };

	ck_assert_int_eq(evfs_config_set_text(meta, name, value, &err),
			 EVFS_EINVAL);
	ck_assert_msg(strstr(err.msg, words) != NULL, "'%s' not in '%s'",
		      words, err.msg);
}

START_TEST(config_values)
{
	const char *text;

	ck_assert_int_eq(evfs_config_get(meta, EVFS_CONFIG_write_quorum), 1);
	ck_assert_int_eq(evfs_config_get(meta, EVFS_CONFIG_quorum_timeout),
			 5000);
	ck_assert_int_eq(evfs_config_get(meta, EVFS_CONFIG_read_repair_chance),
			 100000);
	ck_assert_int_eq(evfs_config_get(meta, EVFS_CONFIG_hint_max_bytes),
			 1 << 30);
	ck_assert_int_eq(evfs_config_get(meta, EVFS_CONFIG_hint_rate), 50000);
	ck_assert_int_eq(evfs_config_get(meta, EVFS_CONFIG_history_max), -10);
	ck_assert_int_eq(evfs_config_get(meta, EVFS_CONFIG_history_days), 30);
	ck_assert_int_eq(evfs_config_get_text(meta, "hint_ttl", &text, NULL),
			 0);
	ck_assert_str_eq(text, "3h");
	ck_assert_int_eq(set("hint_ttl", "1.5h"), 5400000);
	ck_assert_int_eq(set("hint_ttl", "90s"), 90000);
	ck_assert_int_eq(set("hint_ttl", "2d"), 172800000);
	ck_assert_int_eq(set("quorum_timeout", "500ms"), 500);
	ck_assert_int_eq(set("hint_max_bytes", "1.5KiB"), 1536);
	ck_assert_int_eq(set("hint_max_bytes", "2GB"), 2000000000);
	ck_assert_int_eq(set("hint_max_bytes", "0"), 0);
	ck_assert_int_eq(set("bandwidth_up", "10MiB/s"), 10 << 20);
	ck_assert_int_eq(set("bandwidth_up", "7"), 7);
	ck_assert_int_eq(set("read_repair_chance", "25%"), 250000);
	ck_assert_int_eq(set("read_repair_chance", "1"), 1000000);
	ck_assert_int_eq(set("history_max", "5GiB"), INT64_C(5) << 30);
	ck_assert_int_eq(set("history_max", "100%"), -100);
	ck_assert_int_eq(set("history_days", "0"), 0);
}
END_TEST

START_TEST(config_refusals)
{
	struct evfs_err err = { 0 };
	const char *text;
	int64_t ms;

	refuse("hint_tll", "3h", "hint_ttl");
	refuse("", "3h", "write_quorum");
	ck_assert_int_eq(evfs_config_get_text(meta, "x", &text, &err),
			 EVFS_EINVAL);
	ck_assert(strstr(err.msg, "no setting 'x'") != NULL);
	refuse("hint_ttl", "3", "a time, like");
	refuse("hint_ttl", "h", "a time, like");
	refuse("hint_ttl", "-3h", "a time, like");
	refuse("hint_ttl", "3.h", "a time, like");
	refuse("hint_ttl", "3 h", "a time, like");
	refuse("hint_ttl", "10000d", "not within");
	refuse("hint_ttl", "99999999999999999999d", "a time, like");
	refuse("write_quorum", "0", "not within 1 to 64");
	refuse("write_quorum", "1.5", "a number");
	refuse("read_repair_chance", "1.1", "not within");
	refuse("history_max", "101%", "a share of the disk");
	refuse("history_max", "1.5%", "a share of the disk");
	refuse("hint_max_bytes", "1XiB", "a size, like");
	/* The old values stay. */
	ck_assert_int_eq(evfs_config_get(meta, EVFS_CONFIG_hint_ttl),
			 3 * 3600000);
	ck_assert_int_eq(evfs_config_parse_duration("1h", &ms, NULL), 0);
	ck_assert_int_eq(ms, 3600000);
	ck_assert_int_eq(evfs_config_parse_duration("", &ms, &err),
			 EVFS_EINVAL);
}
END_TEST

START_TEST(config_kept)
{
	char *dir = store_make_dir();
	char *path = store_path(dir, "s");
	struct evfs_meta *disk = store_create(path, 0);
	const char *text;

	evfs_meta_lock(disk);
	ck_assert_int_eq(evfs_config_set_text(disk, "gossip_fanout", "5",
					      NULL), 0);
	evfs_meta_unlock(disk);
	evfs_meta_close(disk);
	disk = store_open(path);
	evfs_meta_lock(disk);
	ck_assert_int_eq(evfs_config_get(disk, EVFS_CONFIG_gossip_fanout), 5);
	ck_assert_int_eq(evfs_config_get_text(disk, "gossip_fanout", &text,
					      NULL), 0);
	ck_assert_str_eq(text, "5");
	evfs_meta_unlock(disk);
	evfs_meta_close(disk);
	evfs_free(path);
	store_remove_dir(dir);
}
END_TEST

/* ---- members ---- */

static struct evfs_member member(unsigned who, uint64_t stamp_ns,
				 const char *name, const char *address)
{
	struct evfs_meta_new fresh = store_fresh(NULL, who);
	struct evfs_member record = { .node = fresh.node,
				      .stamp_ns = stamp_ns };

	(void)snprintf(record.name, sizeof(record.name), "%s", name);
	(void)snprintf(record.key, sizeof(record.key), "%s", fresh.public_key);
	(void)snprintf(record.address, sizeof(record.address), "%s", address);
	return record;
}

static bool join(struct evfs_member record)
{
	struct evfs_err err = { 0 };
	bool changed;

	ck_assert_msg(evfs_members_join(meta, &record, &changed, &err) == 0,
		      "%s", err.msg);
	return changed;
}

static struct evfs_member by_node(unsigned who)
{
	struct evfs_member record;

	ck_assert_int_eq(evfs_members_by_node(meta, store_node(who), &record,
					      NULL), 0);
	return record;
}

START_TEST(members_join)
{
	struct evfs_member record;
	struct evfs_member *all;
	size_t n;

	ck_assert(join(member(1, 10, "bob", "")));
	ck_assert(!join(member(1, 10, "bob", "")));
	ck_assert(!join(member(1, 9, "bob", "old:1")));
	ck_assert(join(member(1, 11, "bob", "new:1")));
	ck_assert_str_eq(by_node(1).address, "new:1");
	/* Equal stamps: all replicas choose alike. */
	ck_assert(!join(member(1, 11, "bob", "a:1")));
	ck_assert(join(member(1, 11, "bob", "z:1")));
	/* Removed is final, whatever the stamp. */
	record = member(1, 1, "bob", "");
	record.removed = true;
	ck_assert(join(record));
	ck_assert_str_eq(by_node(1).address, "z:1");
	ck_assert(by_node(1).removed);
	ck_assert(join(member(1, 99, "bob", "back:1")));
	ck_assert(by_node(1).removed);
	ck_assert_str_eq(by_node(1).address, "back:1");
	ck_assert(join(member(2, 1, "aaa", "")));
	ck_assert_int_eq(evfs_members_list(meta, false, &all, &n, NULL), 0);
	ck_assert_uint_eq(n, 1);
	ck_assert_str_eq(all[0].name, "aaa");
	evfs_free(all);
	ck_assert_int_eq(evfs_members_list(meta, true, &all, &n, NULL), 0);
	ck_assert_uint_eq(n, 2);
	evfs_free(all);
	ck_assert_int_eq(evfs_members_all(meta, &all, &n, NULL), 0);
	ck_assert_uint_eq(n, 3);
	ck_assert_str_eq(all[1].name, "ann");
	evfs_free(all);
}
END_TEST

static void refuse_member(struct evfs_member record, const char *words)
{
	struct evfs_err err = { 0 };
	bool changed;

	ck_assert_int_eq(evfs_members_join(meta, &record, &changed, &err),
			 EVFS_EPROTO);
	ck_assert_msg(strstr(err.msg, words) != NULL, "%s", err.msg);
}

START_TEST(members_refused)
{
	struct evfs_member record = member(1, 1, "bob", "");

	record.node++;
	refuse_member(record, "does not give its id");
	refuse_member(member(1, 1, "", ""), "not a name");
	refuse_member(member(1, 1, "a/b", ""), "not a name");
	refuse_member(member(1, 1, "bob", "a\nb"), "strange byte");
	record = member(1, 1, "bob", "");
	memset(record.key, 'k', sizeof(record.key));
	refuse_member(record, "length");
}
END_TEST

START_TEST(members_commands)
{
	struct evfs_member record;
	struct evfs_err err = { 0 };
	char unknown[32];

	join(member(1, 1, "bob", ""));
	ck_assert_int_eq(evfs_members_by_name(meta, "bob", &record, NULL), 0);
	ck_assert_int_eq(evfs_members_by_name(meta, "eve", &record, &err),
			 EVFS_ENOTFOUND);
	ck_assert_int_eq(evfs_members_set_paused(meta, record.node, true,
						 NULL), 0);
	/* Pausing is local: a newer record does not end it. */
	ck_assert(join(member(1, 50, "bob", "x:1")));
	ck_assert(by_node(1).paused);
	ck_assert_int_eq(evfs_members_remove(meta, record.node, NULL), 0);
	ck_assert(by_node(1).removed);
	ck_assert_uint_gt(by_node(1).stamp_ns, 50);
	ck_assert_int_eq(evfs_members_remove(meta, store_node(0), NULL),
			 EVFS_EINVAL);
	ck_assert_str_eq(evfs_members_node_name(meta, store_node(0)), "ann");
	ck_assert_str_eq(evfs_members_node_name(meta, store_node(1)), "bob");
	(void)snprintf(unknown, sizeof(unknown), "?%016llx", 0x12abULL);
	ck_assert_str_eq(evfs_members_node_name(meta, 0x12ab), unknown);
	ck_assert_ptr_eq(evfs_members_node_name(meta, 0x12ab),
			 evfs_members_node_name(meta, 0x12ab));
}
END_TEST

START_TEST(reports)
{
	struct evfs_context context = { 0 };
	struct evfs_context back = { 0 };

	ck_assert_int_eq(evfs_members_report(meta, 5, &back, NULL), 0);
	ck_assert_uint_eq(back.n, 0);
	ck_assert_int_eq(evfs_context_raise(&context,
					    (evfs_actor){ 9, 1 }, 70), 0);
	ck_assert_int_eq(evfs_context_raise(&context,
					    (evfs_actor){ 2, 0 }, 30), 0);
	ck_assert_int_eq(evfs_members_set_report(meta, 5, &context, NULL), 0);
	ck_assert_int_eq(evfs_members_report(meta, 5, &back, NULL), 0);
	ck_assert(evfs_context_equal(&context, &back));
	evfs_context_fini(&context);
	evfs_context_fini(&back);
}
END_TEST

START_TEST(invitations)
{
	struct evfs_err err = { 0 };

	ck_assert_int_eq(evfs_invite_add(meta, "one",
					 store_now_ns + 10 * SECOND, NULL), 0);
	ck_assert_int_eq(evfs_invite_add(meta, "two",
					 store_now_ns + 10 * SECOND, NULL), 0);
	ck_assert_int_eq(evfs_invite_check(meta, "one", NULL), 0);
	ck_assert_int_eq(evfs_invite_check(meta, "one", NULL), 0);
	ck_assert_int_eq(evfs_invite_use(meta, "one", NULL), 0);
	ck_assert_int_eq(evfs_invite_use(meta, "one", &err), EVFS_EAUTH);
	ck_assert(strstr(err.msg, "used") != NULL);
	ck_assert_int_eq(evfs_invite_check(meta, "one", NULL), EVFS_EAUTH);
	ck_assert_int_eq(evfs_invite_use(meta, "three", &err), EVFS_EAUTH);
	ck_assert(strstr(err.msg, "not known") != NULL);
	store_now_ns += 10 * SECOND;
	ck_assert_int_eq(evfs_invite_use(meta, "two", &err), EVFS_EAUTH);
	ck_assert(strstr(err.msg, "expired") != NULL);
	/* Long after, it is forgotten when another is made. */
	store_now_ns += 30 * DAY;
	ck_assert_int_eq(evfs_invite_add(meta, "four",
					 store_now_ns + SECOND, NULL), 0);
	ck_assert_int_eq(evfs_invite_use(meta, "two", &err), EVFS_EAUTH);
	ck_assert(strstr(err.msg, "not known") != NULL);
}
END_TEST

/* ---- history ---- */

static void past(const char *path, uint64_t counter, uint64_t ended_ns,
		 uint64_t size, bool deleted)
{
	struct evfs_past row = { .ino = { { store_node(1), 0 }, counter / 10 },
				 .dot = { { store_node(1), 0 }, counter },
				 .size = size,
				 .mtime_s = -3,
				 .mtime_ns = 4,
				 .written_ns = ended_ns - 1,
				 .ended_ns = ended_ns,
				 .deleted = deleted,
				 .path = path };
	struct evfs_err err = { 0 };

	row.content = evfs_hash_bytes(&counter, sizeof(counter));
	ck_assert_msg(evfs_history_add(meta, &row, &err) == 0, "%s", err.msg);
}

static char told[1024]; /* what the callbacks were told */

static int tell(void *arg, const struct evfs_past *row)
{
	size_t len = strlen(told);

	(void)arg;
	ck_assert_int_eq(row->mtime_s, -3);
	ck_assert_uint_eq(row->mtime_ns, 4);
	(void)snprintf(told + len, sizeof(told) - len, "%s#%llu%s ", row->path,
		       (unsigned long long)row->dot.counter,
		       row->deleted ? "x" : "");
	return 0;
}

static int tell_name(void *arg, const char *name, bool is_dir)
{
	size_t len = strlen(told);

	(void)arg;
	(void)snprintf(told + len, sizeof(told) - len, "%s%s ", name,
		       is_dir ? "/" : "");
	return 0;
}

static const char *told_log(const char *path)
{
	told[0] = '\0';
	ck_assert_int_eq(evfs_history_log(meta, path, tell, NULL, NULL), 0);
	return told;
}

static const char *told_deleted(const char *dir)
{
	told[0] = '\0';
	ck_assert_int_eq(evfs_history_deleted(meta, dir, tell, NULL, NULL), 0);
	return told;
}

static const char *told_names(const char *dir)
{
	told[0] = '\0';
	ck_assert_int_eq(evfs_history_names(meta, dir, tell_name, NULL, NULL),
			 0);
	return told;
}

START_TEST(history)
{
	uint64_t now = store_now_ns;
	char id[17];

	past("/a", 11, now + 1, 5, false);
	past("/a", 12, now + 2, 5, false);
	past("/a", 13, now + 3, 5, true);
	past("/a/b/c", 21, now + 4, 5, true);
	past("/a-b", 31, now + 5, 5, false);
	past("/d/e", 41, now + 6, 5, true);
	past("/d/f", 51, now + 7, 5, true);
	past("/d/f", 52, now + 8, 5, true);
	past(NULL, 61, now + 9, 5, true);
	ck_assert_str_eq(told_log("/a"), "/a#13x /a#12 /a#11 ");
	ck_assert_str_eq(told_log("/x"), "");
	/* Told once, though it ended twice. */
	past("/a", 12, now + 10, 5, false);
	ck_assert_str_eq(told_log("/a"), "/a#12 /a#13x /a#11 ");
	ck_assert_str_eq(told_deleted("/d"), "/d/f#52x /d/e#41x ");
	ck_assert_str_eq(told_deleted("/d/"), "/d/f#52x /d/e#41x ");
	ck_assert_str_eq(told_deleted("/"),
			 "/d/f#52x /d/e#41x /a/b/c#21x /a#13x ");
	ck_assert_str_eq(told_names("/"), "a/ a-b d/ ");
	ck_assert_str_eq(told_names("/d"), "e f ");
	ck_assert_str_eq(told_names("/a"), "b/ ");
	ck_assert_str_eq(told_names("/a-b"), "");
	evfs_past_id((evfs_dot){ { 1, 0 }, 1 }, id);
	ck_assert_uint_eq(strlen(id), 16);
}
END_TEST

START_TEST(history_pruned)
{
	uint64_t now = store_now_ns;
	bool more;

	set("history_days", "10");
	set("history_max", "1000");
	past("/a", 11, now - 12 * DAY, 100, false);
	past("/a", 12, now - 11 * DAY, 100, false);
	past("/a", 13, now - 9 * DAY, 600, false);
	past("/a", 14, now - 8 * DAY, 300, false);
	past("/a", 15, now - 7 * DAY, 100, false);
	/* One at a time; first by age. */
	ck_assert_int_eq(evfs_history_prune(meta, 1, &more, NULL), 0);
	ck_assert(more);
	ck_assert_str_eq(told_log("/a"), "/a#15 /a#14 /a#13 /a#12 ");
	ck_assert_int_eq(evfs_history_prune(meta, 100, &more, NULL), 0);
	ck_assert(!more);
	ck_assert_str_eq(told_log("/a"), "/a#15 /a#14 /a#13 ");
	/* Then by size: the oldest go. */
	past("/a", 16, now - 6 * DAY, 100, false);
	ck_assert_int_eq(evfs_history_prune(meta, 100, &more, NULL), 0);
	ck_assert_str_eq(told_log("/a"), "/a#16 /a#15 /a#14 ");
	store_now_ns += 30 * DAY;
	ck_assert_int_eq(evfs_history_prune(meta, 100, &more, NULL), 0);
	ck_assert_str_eq(told_log("/a"), "");
	store_now_ns = now;
}
END_TEST

/* ---- dump ---- */

START_TEST(dump)
{
	evfs_ino ino;
	char *text;

	evfs_meta_unlock(meta);
	ino = store_put_symlink(meta, "a\n\"\xff");
	store_chmod(meta, ino, 0640);
	text = store_dump(meta);
	ck_assert_ptr_nonnull(strstr(text, "name=\"a\\012\\\"\\377\"\n"));
	ck_assert_ptr_nonnull(strstr(text, " mode=0640\n"));
	ck_assert_ptr_nonnull(strstr(text, " target=\"to\"\n"));
	ck_assert_int_eq(strncmp(text, "context ", 8), 0);
	evfs_free(text);
	evfs_meta_lock(meta);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("settings");
	TCase *tcase = tcase_create("settings");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_add_test(tcase, config_values);
	tcase_add_test(tcase, config_refusals);
	tcase_add_test(tcase, config_kept);
	tcase_add_test(tcase, members_join);
	tcase_add_test(tcase, members_refused);
	tcase_add_test(tcase, members_commands);
	tcase_add_test(tcase, reports);
	tcase_add_test(tcase, invitations);
	tcase_add_test(tcase, history);
	tcase_add_test(tcase, history_pruned);
	tcase_add_test(tcase, dump);
	suite_add_tcase(suite, tcase);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? 0 : 1;
}
