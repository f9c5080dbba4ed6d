/* SPDX-License-Identifier: GPL-3.0-or-later */
/* evfsctl conflicts, why: read from the store beside its daemon. resolve: the
 * daemon does it, in one transaction. */
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "meta/facts.h"
#include "meta/history.h"
#include "meta/members.h"
#include "meta/view.h"
#include "tools/evfsctl/evfsctl.h"

struct listing {
	struct evfs_meta *meta;
	json_t *conflicts; /* JSON form, or NULL: text is printed */
	size_t n;
};

static json_t *entry_json(struct evfs_meta *meta,
			  const struct evfs_entry *entry)
{
	const char *node = NULL;
	char hash[EVFS_HASH_HEX_SIZE];

	evfs_hash_format(&entry->content, hash);
	if (entry->n_members && entry->members[0].n_dots)
		node = evfs_members_node_name(
			meta, entry->members[0].dots[0].actor.node);
	return json_pack("{s:s#, s:b, s:s*, s:I, s:s*}", "name", entry->name,
			 (int)entry->name_len, "sibling", entry->is_sibling,
			 "node", node, "size", (json_int_t)entry->size,
			 "content", entry->has_version ? hash : NULL);
}

static int list_one(void *arg, const char *path,
		    const struct evfs_entry *group, size_t n)
{
	struct listing *listing = arg;
	json_t *names;

	listing->n++;
	if (!listing->conflicts) {
		printf("%s\n", path);
		for (size_t i = 1; i < n; i++)
			printf("    %s\n", group[i].name);
		return 0;
	}
	names = json_array();
	for (size_t i = 0; i < n; i++)
		json_array_append_new(names,
				      entry_json(listing->meta, &group[i]));
	json_array_append_new(listing->conflicts,
			      json_pack("{s:s, s:o}", "path", path, "entries",
					names));
	return 0;
}

int evfsctl_conflicts(const struct evfsctl *ctl, int argc, char **argv)
{
	bool json = argc == 2 && !strcmp(argv[1], "--json");
	struct evfs_err err = { 0 };
	struct listing listing = { 0 };
	evfs_cleanup_free char *store = NULL;
	int rc;

	if (argc > 1 && !json)
		return evfsctl_usage(ctl, "unknown argument %s", argv[1]);
	rc = evfsctl_store(ctl, NULL, &store, &err);
	if (!rc)
		rc = evfsctl_open(store, &listing.meta, &err);
	if (rc)
		return evfsctl_fail(ctl, &err);
	listing.conflicts = json ? json_array() : NULL;
	evfs_meta_lock(listing.meta);
	rc = evfs_view_conflicts(listing.meta, list_one, &listing, &err);
	evfs_meta_unlock(listing.meta);
	evfs_meta_close(listing.meta);
	if (!rc && json) {
		json_dumpf(listing.conflicts, stdout, JSON_INDENT(1));
		putchar('\n');
	}
	json_decref(listing.conflicts);
	return rc ? evfsctl_fail(ctl, &err) : EVFS_EXIT_DONE;
}

int evfsctl_resolve(const struct evfsctl *ctl, int argc, char **argv)
{
	static const struct option longs[] = {
		{ "keep", required_argument, NULL, 'k' },
		{ NULL, 0, NULL, 0 }
	};
	const char *keep = NULL;
	struct evfs_err err = { 0 };
	evfs_cleanup_free char *store = NULL, *path = NULL;
	json_t *reply;
	int letter, rc;

	opterr = 0;
	while ((letter = getopt_long(argc, argv, ":", longs, NULL)) != -1) {
		if (letter != 'k')
			return evfsctl_usage(ctl, letter == ':'
						     ? "%s needs a value"
						     : "unknown option %s",
					     argv[optind - 1]);
		keep = optarg;
	}
	if (argc - optind != 1 || !keep)
		return evfsctl_usage(ctl, "PATH and --keep this|NAME|newest|"
					  "all are needed");
	rc = evfsctl_store(ctl, argv[optind], &store, &err);
	if (!rc)
		rc = evfsctl_volume_path(store, argv[optind], &path, &err);
	if (!rc)
		rc = evfsctl_request(store,
				     json_pack("{s:s, s:s, s:s}", "command",
					       "resolve", "path", path, "keep",
					       keep),
				     -1, &reply, &err);
	if (rc)
		return evfsctl_fail(ctl, &err);
	json_decref(reply);
	return EVFS_EXIT_DONE;
}

/* The directory of a path, for evfs_view_why. */
static int dir_of(struct evfs_meta *meta, const char *path, evfs_ino *ret,
		  struct evfs_err *err)
{
	const char *slash = strrchr(path, '/');
	evfs_cleanup_free char *dir =
		slash == path ? evfs_strdup("/")
			      : evfs_asprintf("%.*s", (int)(slash - path), path);
	struct evfs_entry entry = { 0 };
	int rc = dir ? evfs_view_path(meta, dir, &entry, err) : EVFS_ENOMEM;

	if (!rc && entry.kind != EVFS_KIND_DIR)
		rc = evfs_err_set(err, EVFS_ENOTDIR, "%s: not a directory",
				  dir);
	if (!rc)
		*ret = entry.dir.members[0];
	evfs_entry_fini(&entry);
	return rc;
}

struct removed {
	bool found;
	evfs_ino ino;
};

static int removed_cb(void *arg, const struct evfs_past *past)
{
	struct removed *removed = arg;

	removed->found = past->deleted;
	removed->ino = past->ino;
	return removed->found; /* the newest comes first */
}

/* The members that may not have heard of what became of the object. */
static int put_waited_for(struct evfs_meta *meta,
			  const struct evfs_object *object,
			  struct evfs_buf *out, struct evfs_err *err)
{
	evfs_cleanup_free struct evfs_member *members = NULL;
	const char *before = "removed; its record is kept until these members "
			     "have heard of it: ";
	size_t n = 0, start = out->len;
	int rc = evfs_members_list(meta, false, &members, &n, err);

	for (size_t i = 0; i < n && !rc; i++) {
		struct evfs_context context = { 0 };

		if (members[i].node == evfs_meta_node(meta))
			continue;
		rc = evfs_members_report(meta, members[i].node, &context, err);
		if (!rc && !evfs_object_log_covered(object, &context)) {
			rc = evfs_buf_printf(out, "%s%s", before,
					     members[i].name);
			before = ", ";
		}
		evfs_context_fini(&context);
	}
	if (!rc)
		rc = out->len > start ?
			     evfs_buf_put_u8(out, '\n') :
			     evfs_buf_printf(out, "removed; every member has "
						  "heard of it\n");
	return rc;
}

/* A file that history knows: is anybody's ignorance of its removal waited for? */
static int why_removed(struct evfs_meta *meta, const char *path,
		       struct evfs_buf *out, struct evfs_err *err)
{
	const struct evfs_object *object = NULL;
	struct removed removed = { 0 };
	struct evfs_err none = { 0 };
	int rc = evfs_history_log(meta, path, removed_cb, &removed, &none);

	if (rc < 0 || !removed.found)
		return EVFS_ENOTFOUND; /* err says so already */
	rc = evfs_facts_get(evfs_meta_facts(meta), removed.ino, &object, err);
	if (rc)
		return rc;
	if (!object)
		return evfs_buf_printf(out, "removed; every member has heard "
					    "of it, and nothing but history is "
					    "left\n");
	if (evfs_object_is_live(object))
		return evfs_buf_printf(out, "removed; the file lives by "
					    "another name\n");
	return put_waited_for(meta, object, out, err);
}

static int why(struct evfs_meta *meta, const char *path, struct evfs_buf *out,
	       struct evfs_err *err)
{
	struct evfs_entry entry = { 0 };
	evfs_ino dir;
	int rc = evfs_view_path(meta, path, &entry, err);

	if (rc == EVFS_ENOTFOUND)
		return why_removed(meta, path, out, err);
	if (!rc)
		rc = dir_of(meta, path, &dir, err);
	if (!rc)
		rc = evfs_view_why(meta, dir, &entry, out, err);
	evfs_entry_fini(&entry);
	return rc;
}

int evfsctl_why(const struct evfsctl *ctl, int argc, char **argv)
{
	struct evfs_err err = { 0 };
	struct evfs_buf out = { 0 };
	struct evfs_meta *meta;
	evfs_cleanup_free char *store = NULL, *path = NULL;
	int rc;

	if (argc != 2 || argv[1][0] == '-')
		return evfsctl_usage(ctl, "PATH is needed");
	rc = evfsctl_store(ctl, argv[1], &store, &err);
	if (!rc)
		rc = evfsctl_volume_path(store, argv[1], &path, &err);
	if (!rc)
		rc = evfsctl_open(store, &meta, &err);
	if (rc)
		return evfsctl_fail(ctl, &err);
	evfs_meta_lock(meta);
	rc = why(meta, path, &out, &err);
	evfs_meta_unlock(meta);
	evfs_meta_close(meta);
	if (!rc)
		fwrite(out.data, 1, out.len, stdout);
	evfs_buf_fini(&out);
	return rc ? evfsctl_fail(ctl, &err) : EVFS_EXIT_DONE;
}
