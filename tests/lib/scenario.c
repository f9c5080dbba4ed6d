/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Scenarios of the executable model, played on real replicas in memory. */
#include "tests/lib/scenario.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "meta/index.h"
#include "tests/lib/replica.h"

#define ARGS_MAX 4

struct play {
	const json_t *scenario; /* borrowed */
	FILE *out;
	struct test_world world;
	struct test_replica replicas[TEST_REPLICAS_MAX];
	size_t n;               /* replicas in use */
	int wrong;              /* things that do not agree */
	bool collected;         /* some replica has collected */
};

static void complain(struct play *play, const char *what, const char *more)
{
	play->wrong++;
	fprintf(play->out, "%s: %s: %s\n",
		json_string_value(json_object_get(play->scenario, "name")),
		what, more);
}

/* ---- steps ---- */

static struct test_replica *by_name(struct play *play, const char *name)
{
	for (size_t i = 0; i < play->n; i++)
		if (strcmp(play->replicas[i].name, name) == 0)
			return &play->replicas[i];
	return NULL;
}

static void exchange(struct play *play, struct test_replica *to,
		     struct test_replica *from, long cut)
{
	test_world_tick(&play->world);
	if (test_delta(to, from, cut) != 0)
		complain(play, "exchange failed", to->err.msg);
}

static void sync_all(struct play *play)
{
	for (int round = 0; round < 2; round++)
		for (size_t to = 0; to < play->n; to++)
			for (size_t from = 0; from < play->n; from++)
				if (to != from)
					exchange(play, &play->replicas[to],
						 &play->replicas[from], -1);
}

/* {sibling:P:C}, {path:MASKED:C} or a literal path; of the caller. NULL: there
 * is nothing that it could stand for. */
static char *argument(struct test_replica *replica, const char *text)
{
	bool sibling = strncmp(text, "{sibling:", 9) == 0;
	evfs_cleanup_free char *copy = NULL;
	char *path, *content;

	if (!sibling && strncmp(text, "{path:", 6) != 0)
		return evfs_strdup(text);
	copy = evfs_strdup(text);
	if (copy == NULL)
		return NULL;
	path = strchr(copy, ':') + 1;
	content = strchr(path, ':');
	assert(content != NULL);
	*content++ = '\0';
	content[strcspn(content, "}")] = '\0';
	return test_find_path(replica, path, content, sibling);
}

static int open_step(struct test_replica *replica, const char *path)
{
	struct test_open *open = evfs_calloc(1, sizeof(*open));
	struct test_open **end = &replica->open;
	int rc;

	if (open == NULL)
		return EVFS_ENOMEM;
	rc = test_open(replica, path, &open->handle);
	if (rc != 0) {
		evfs_free(open);
		return rc;
	}
	while (*end != NULL)
		end = &(*end)->next;
	*end = open;
	return 0;
}

static int close_step(struct test_replica *replica)
{
	struct test_open *open = replica->open;

	if (open == NULL)
		return 0;
	replica->open = open->next;
	test_close(replica, &open->handle);
	evfs_free(open);
	return 0;
}

/* Through a temporary file beside it, as editors do. */
static int save_step(struct test_replica *replica, const char *path,
		     const char *tag)
{
	char *temporary = evfs_asprintf(
		"%.*s/.tmp", (int)(strrchr(path, '/') - path), path);
	int rc;

	if (temporary == NULL)
		return EVFS_ENOMEM;
	/* The rename is done however the creation went. */
	rc = test_create(replica, temporary, tag);
	if (rc == 0 || rc == EVFS_ENOTFOUND || rc == EVFS_EISDIR ||
	    rc == EVFS_ELOOP || rc == EVFS_ENOTDIR)
		rc = test_rename(replica, temporary, path, 0);
	evfs_free(temporary);
	return rc;
}

static int two_paths(struct test_replica *replica, const char *operation,
		     const char *a, const char *b)
{
	if (strcmp(operation, "rename") == 0)
		return test_rename(replica, a, b, 0);
	if (strcmp(operation, "link") == 0)
		return test_link(replica, a, b);
	return EVFS_EUSAGE;
}

static int path_and_text(struct test_replica *replica, const char *operation,
			 const char *path, const char *text)
{
	if (strcmp(operation, "create") == 0)
		return test_create(replica, path, text);
	if (strcmp(operation, "symlink") == 0)
		return test_make(replica, path, EVFS_KIND_SYMLINK, text);
	if (strcmp(operation, "write") == 0)
		return test_write(replica, path, text);
	if (strcmp(operation, "save") == 0)
		return save_step(replica, path, text);
	if (strcmp(operation, "chmod") == 0)
		return test_chmod(replica, path,
				  (uint32_t)strtoul(text, NULL, 10));
	return two_paths(replica, operation, path, text);
}

static int one_path(struct test_replica *replica, const char *operation,
		    const char *path)
{
	if (strcmp(operation, "mkdir") == 0)
		return test_make(replica, path, EVFS_KIND_DIR, NULL);
	if (strcmp(operation, "open") == 0)
		return open_step(replica, path);
	if (strcmp(operation, "unlink") == 0)
		return test_unlink(replica, path);
	if (strcmp(operation, "rmdir") == 0)
		return test_rmdir(replica, path);
	if (strcmp(operation, "rm_rf") == 0)
		return test_rm_rf(replica, path);
	if (strcmp(operation, "list") == 0)
		return test_list(replica, path);
	return EVFS_EUSAGE;
}

static int seal_step(struct test_replica *replica, const char *tag)
{
	if (replica->open == NULL)
		return 0;
	return test_seal(replica, &replica->open->handle, tag);
}

static bool lines_equal(const struct test_lines *a, const struct test_lines *b)
{
	if (a->n != b->n)
		return false;
	for (size_t i = 0; i < a->n; i++)
		if (strcmp(a->items[i], b->items[i]) != 0)
			return false;
	return true;
}

/* Collecting shows nowhere: the tree is what it was. */
static int collect_step(struct test_replica *replica)
{
	struct test_lines before = { 0 }, after = { 0 };
	int rc = test_tree_lines(replica, &before);

	if (rc == 0)
		rc = test_collect(replica);
	if (rc == 0)
		rc = test_tree_lines(replica, &after);
	if (rc == 0 && !lines_equal(&before, &after))
		rc = evfs_err_set(&replica->err, EVFS_ECORRUPT,
				  "collecting changed the tree");
	test_lines_free(&before);
	test_lines_free(&after);
	return rc;
}

static int operate(struct test_replica *replica, const char *operation,
		   char *const *args, size_t n)
{
	if (strcmp(operation, "seal") == 0 && n == 1)
		return seal_step(replica, args[0]);
	if (strcmp(operation, "close") == 0 && n == 0)
		return close_step(replica);
	if (strcmp(operation, "rmlist") == 0 && n == 0)
		return test_rmlist(replica);
	if (strcmp(operation, "collect") == 0 && n == 0)
		return collect_step(replica);
	if (strcmp(operation, "setxattr") == 0 && n == 3)
		return test_setxattr(replica, args[0], args[1], args[2]);
	if (n == 1)
		return one_path(replica, operation, args[0]);
	if (n == 2)
		return path_and_text(replica, operation, args[0], args[1]);
	return EVFS_EUSAGE;
}

static void operation_step(struct play *play, const json_t *step,
			   const json_t *refused)
{
	const char *operation =
		json_string_value(json_array_get(step, 1));
	struct test_replica *replica =
		by_name(play, json_string_value(json_array_get(step, 0)));
	char *args[ARGS_MAX] = { NULL };
	size_t n = json_array_size(step) - 2;
	bool found = true;
	int rc;

	assert(replica != NULL && operation != NULL && n <= ARGS_MAX);
	test_world_tick(&play->world);
	for (size_t i = 0; i < n; i++) {
		const char *text =
			json_string_value(json_array_get(step, i + 2));

		assert(text != NULL);
		args[i] = argument(replica, text);
		if (args[i] == NULL) {
			complain(play, "nothing here is", text);
			found = false;
		}
	}
	rc = found ? operate(replica, operation, args, n) : 0;
	play->collected |= strcmp(operation, "collect") == 0;
	if (rc == EVFS_EUSAGE || rc == EVFS_ENOMEM || rc == EVFS_EIO ||
	    rc == EVFS_ECORRUPT)
		complain(play, operation, replica->err.msg);
	if (json_is_boolean(refused) && json_is_true(refused) != (rc != 0))
		complain(play,
			 rc != 0 ? "refused what the model does" :
				   "did what the model refuses",
			 rc != 0 ? replica->err.msg : operation);
	for (size_t i = 0; i < n; i++)
		evfs_free(args[i]);
}

static void play_step(struct play *play, const json_t *step,
		      const json_t *refused)
{
	const char *name = json_string_value(json_array_get(step, 0));

	assert(name != NULL);
	if (strcmp(name, "sync") == 0) {
		sync_all(play);
	} else if (strcmp(name, "delta") == 0) {
		const json_t *cut = json_array_get(step, 3);

		exchange(play,
			 by_name(play,
				 json_string_value(json_array_get(step, 1))),
			 by_name(play,
				 json_string_value(json_array_get(step, 2))),
			 json_is_integer(cut) ?
				 (long)json_integer_value(cut) :
				 -1);
	} else {
		operation_step(play, step, refused);
	}
}

/* ---- what must come out ---- */

static const char *text_or(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	return text != NULL ? text : "-";
}

static char *expected_line(const json_t *line)
{
	json_t *attributes = json_object_get(line, "attributes"), *value;
	struct evfs_buf text = { 0 };
	const char *key;
	int rc = evfs_buf_printf(&text, "%s %s %s %s %s",
				 text_or(line, "path"), text_or(line, "kind"),
				 text_or(line, "content"),
				 text_or(line, "mode"),
				 text_or(line, "sibling_of"));

	json_object_foreach(attributes, key, value)
		rc |= evfs_buf_printf(&text, " %s=%s", key,
				      json_string_value(value));
	rc |= evfs_buf_put_u8(&text, 0);
	assert(rc == 0);
	test_mask((char *)text.data);
	return (char *)text.data; /* the buffer's memory is the caller's now */
}

static void print_lines(struct play *play, const char *title,
			const struct test_lines *lines)
{
	fprintf(play->out, "  %s:\n", title);
	for (size_t i = 0; i < lines->n; i++)
		fprintf(play->out, "    %s\n", lines->items[i]);
}

static void check_tree(struct play *play, struct test_replica *replica,
		       const struct test_lines *expect, const char *when)
{
	struct test_lines lines;

	if (test_tree_lines(replica, &lines) != 0) {
		complain(play, "tree cannot be read", replica->err.msg);
	} else if (!lines_equal(&lines, expect)) {
		complain(play, when, replica->name);
		print_lines(play, "shown", &lines);
		print_lines(play, "expected", expect);
	}
	test_lines_free(&lines);
}

/* What is derived from the facts is what they give from scratch. */
static void check_rebuild(struct play *play, struct test_replica *replica,
			  const struct test_lines *expect)
{
	int rc;

	evfs_meta_lock(replica->meta);
	rc = evfs_index_rebuild(replica->meta, &replica->err);
	evfs_meta_unlock(replica->meta);
	if (rc != 0)
		complain(play, "rebuild", replica->err.msg);
	check_tree(play, replica, expect, "another tree after a rebuild");
}

static void check_dumps(struct play *play)
{
	struct evfs_buf first = { 0 };

	for (size_t i = 0; i < play->n; i++) {
		struct test_replica *replica = &play->replicas[i];
		struct evfs_buf dump = { 0 };

		if (evfs_meta_dump(replica->meta, !play->collected, &dump, &replica->err) != 0)
			complain(play, "dump", replica->err.msg);
		if (i == 0) {
			first = dump;
			continue;
		}
		if (dump.len != first.len ||
		    (dump.len > 0 &&
		     memcmp(dump.data, first.data, dump.len) != 0)) {
			complain(play, "other facts than A has",
				 replica->name);
			fprintf(play->out, "%.*s--\n%.*s", (int)first.len,
				(const char *)first.data, (int)dump.len,
				(const char *)dump.data);
		}
		evfs_buf_fini(&dump);
	}
	evfs_buf_fini(&first);
}

static void check_all(struct play *play)
{
	json_t *list = json_object_get(play->scenario, "expect"), *line;
	struct test_lines expect = { 0 };
	size_t i;

	json_array_foreach(list, i, line)
		test_lines_add(&expect, expected_line(line));
	test_lines_sort(&expect);
	for (i = 0; i < play->n; i++)
		check_tree(play, &play->replicas[i], &expect,
			   "another tree than the model's on");
	check_dumps(play);
	for (i = 0; i < play->n; i++)
		check_rebuild(play, &play->replicas[i], &expect);
	test_lines_free(&expect);
}

static void print_steps(const struct play *play)
{
	json_t *list = json_object_get(play->scenario, "steps"), *step;
	size_t i;

	fprintf(play->out, "  steps:\n");
	json_array_foreach(list, i, step) {
		char *text = json_dumps(step, JSON_ENCODE_ANY);

		fprintf(play->out, "    %s\n", text);
		free(text);
	}
}

/* Members that do not play would be waited for. */
static void drop_absent(struct play *play)
{
	static const char *const all[] = { "A", "B", "C", "D" };
	size_t i, k;

	for (i = 0; i < 4; i++)
		for (k = 0; by_name(play, all[i]) == NULL && k < play->n; k++)
			if (test_without(&play->replicas[k], all[i]) != 0)
				complain(play, "members",
					 play->replicas[k].err.msg);
}

int evfs_scenario_play(const json_t *scenario, FILE *out)
{
	struct play play = { .scenario = scenario, .out = out };
	json_t *names = json_object_get(scenario, "replicas"), *name, *step;
	json_t *refused = json_object_get(scenario, "refused");
	size_t i;

	test_world_init(&play.world);
	json_array_foreach(names, i, name)
		test_replica_open(&play.replicas[play.n++], &play.world,
				  json_string_value(name));
	drop_absent(&play);
	json_array_foreach(json_object_get(scenario, "steps"), i, step)
		play_step(&play, step, json_array_get(refused, i));
	check_all(&play);
	if (play.wrong > 0)
		print_steps(&play);
	for (i = 0; i < play.n; i++)
		test_replica_close(&play.replicas[i]);
	test_world_fini(&play.world);
	return play.wrong;
}

int evfs_scenario_play_all(const json_t *document, size_t *ret_played,
			   FILE *out)
{
	json_t *list = json_object_get(document, "scenarios"), *scenario;
	int failed = 0;
	size_t i;

	*ret_played = 0;
	if (json_integer_value(json_object_get(document, "format")) != 1 ||
	    !json_is_array(list)) {
		fprintf(out, "no document of scenarios, format 1\n");
		return -1;
	}
	json_array_foreach(list, i, scenario) {
		failed += evfs_scenario_play(scenario, out) > 0;
		++*ret_played;
	}
	return failed;
}
