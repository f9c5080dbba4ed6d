/* SPDX-License-Identifier: GPL-3.0-or-later */
/* See restore.h. What is done here is an operation like any of the mount's,
 * but the kernel knows nothing of it: it goes into the feed as a remote one. */
#include "tools/daemon/restore.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "meta/content.h"
#include "meta/facts.h"
#include "meta/history.h"
#include "meta/tree.h"
#include "meta/view.h"

void evfs_advertised_address(const char *bound, char ret[EVFS_ADDRESS_MAX + 1])
{
	const char *port = strrchr(bound, ':');
	char host[EVFS_ADDRESS_MAX - 8];

	if (port && (!strncmp(bound, "0.0.0.0:", 8) ||
		     !strncmp(bound, "[::]:", 5)) &&
	    !gethostname(host, sizeof(host))) {
		host[sizeof(host) - 1] = '\0';
		snprintf(ret, EVFS_ADDRESS_MAX + 1, "%s%s", host, port);
	} else {
		snprintf(ret, EVFS_ADDRESS_MAX + 1, "%s", bound);
	}
}

/* Splits "/a/b" into the directory "/a" (found in the view) and "b". Locked. */
static int find_dir(struct evfs_meta *meta, const char *path, evfs_ino *ret_dir,
		    const char **ret_name, struct evfs_err *err)
{
	const char *slash = strrchr(path, '/');
	evfs_cleanup_free char *dir = NULL;
	struct evfs_entry entry = { 0 };
	int rc;

	if (*path != '/' || !slash[1])
		return evfs_err_set(err, EVFS_EINVAL,
				    "%s: not a path below the root", path);
	dir = slash == path ? evfs_strdup("/")
			    : evfs_asprintf("%.*s", (int)(slash - path), path);
	if (!dir)
		return evfs_err_set(err, EVFS_ENOMEM, "%s",
				    evfs_err_text(EVFS_ENOMEM));
	rc = evfs_view_path(meta, dir, &entry, err);
	if (!rc && entry.kind != EVFS_KIND_DIR)
		rc = evfs_err_set(err, EVFS_ENOTDIR, "%s: not a directory",
				  dir);
	if (!rc) {
		*ret_dir = entry.dir.members[0];
		*ret_name = slash + 1;
	}
	evfs_entry_fini(&entry);
	return rc;
}

int evfs_resolve_path(struct evfs_meta *meta, const char *path,
		      const char *keep, struct evfs_err *err)
{
	enum evfs_keep how = !strcmp(keep, "this")     ? EVFS_KEEP_THIS
			     : !strcmp(keep, "newest") ? EVFS_KEEP_NEWEST
			     : !strcmp(keep, "all")    ? EVFS_KEEP_ALL
						       : EVFS_KEEP_NODE;
	const char *name;
	evfs_ino dir;
	int rc;

	evfs_meta_lock(meta);
	evfs_tree_set_origin(meta, EVFS_FEED_REMOTE);
	rc = find_dir(meta, path, &dir, &name, err);
	if (!rc)
		rc = evfs_tree_resolve(meta, dir, name, strlen(name), how,
				       how == EVFS_KEEP_NODE ? keep : NULL,
				       err);
	evfs_tree_set_origin(meta, EVFS_FEED_LOCAL);
	evfs_meta_unlock(meta);
	return rc;
}

/* The version that a restore asks for. */
struct wanted {
	const char *version;      /* first digits, or NULL */
	struct evfs_past past;    /* found; its path is not kept */
	unsigned found;
};

static int match_version(void *arg, const struct evfs_past *past)
{
	struct wanted *wanted = arg;
	char id[17];

	evfs_past_id(past->dot, id);
	if (wanted->version ? strncmp(id, wanted->version,
				      strlen(wanted->version)) != 0
			    : past->ended_ns == 0 || wanted->found)
		return 0;
	if (wanted->found && evfs_dot_equal(wanted->past.dot, past->dot))
		return 0;
	wanted->past = *past;
	wanted->past.path = NULL;
	wanted->found++;
	return 0;
}

static int find_version(struct evfs_meta *meta, const char *path,
			const char *version, struct evfs_past *ret,
			struct evfs_err *err)
{
	struct wanted wanted = { .version = version };
	int rc = evfs_history_log(meta, path, match_version, &wanted, err);

	if (rc)
		return rc;
	if (!wanted.found)
		return evfs_err_set(err, EVFS_ENOTFOUND,
				    "%s: no %s version here (see 'evfsctl log "
				    "%s')", path, version ? "such" : "earlier",
				    path);
	if (wanted.found > 1)
		return evfs_err_set(err, EVFS_EINVAL,
				    "%s@%s: more than one version starts like "
				    "that (give more digits)", path, version);
	*ret = wanted.past;
	return 0;
}

static int write_over(struct evfs_meta *meta, evfs_ino dir,
		      const struct evfs_entry *entry,
		      const struct evfs_content_ref *content,
		      struct evfs_err *err)
{
	struct evfs_handle handle = { 0 };
	int rc;

	if (entry->kind != EVFS_KIND_FILE)
		return evfs_err_set(err, EVFS_EEXISTS,
				    "something that is no file is there (give "
				    "another name)");
	rc = evfs_tree_open(meta, dir, entry, &handle, err);
	if (rc)
		return rc;
	rc = evfs_tree_seal(meta, &handle, content, err);
	evfs_tree_close(meta, &handle);
	return rc;
}

static int make_new(struct evfs_meta *meta, evfs_ino dir, const char *name,
		    const struct evfs_past *past,
		    const struct evfs_content_ref *content,
		    struct evfs_err *err)
{
	struct evfs_new what = { .kind = EVFS_KIND_FILE,
				 .mode = 0644,
				 .uid = (uint32_t)getuid(),
				 .gid = (uint32_t)getgid(),
				 .content = content };
	struct evfs_attributes attr;
	evfs_stamp link;
	evfs_ino ino;

	/* The tombstone still knows whose it was. */
	if (!evfs_view_attr_of(meta, past->ino, &past->dot, &attr, NULL)) {
		what.mode = attr.mode & 0777;
		what.uid = attr.uid;
		what.gid = attr.gid;
	}
	return evfs_tree_create(meta, dir, name, strlen(name), &what, &ino,
				&link, err);
}

static int restore_locked(struct evfs_meta *meta, const char *path,
			  const char *version, const char *to,
			  struct evfs_err *err)
{
	struct evfs_entry entry = { 0 };
	struct evfs_content_ref content;
	struct evfs_past past;
	const char *name;
	evfs_ino dir;
	bool here;
	int rc = find_version(meta, path, version, &past, err);

	if (!rc)
		rc = evfs_content_has(evfs_meta_content(meta), &past.content,
				      &here, err);
	if (!rc && !here)
		rc = evfs_err_set(err, EVFS_EMISSING,
				  "the content of that version is not here");
	if (!rc)
		rc = find_dir(meta, to, &dir, &name, err);
	if (rc)
		return rc;
	content = (struct evfs_content_ref){ .content = past.content,
					     .size = past.size,
					     .mtime_s = past.mtime_s,
					     .mtime_ns = past.mtime_ns };
	rc = evfs_view_lookup(meta, dir, name, strlen(name), &entry, err);
	if (!rc)
		rc = write_over(meta, dir, &entry, &content, err);
	else if (rc == EVFS_ENOTFOUND)
		rc = make_new(meta, dir, name, &past, &content, err);
	evfs_entry_fini(&entry);
	return rc;
}

int evfs_restore_path(struct evfs_meta *meta, const char *path,
		      const char *version, const char *to,
		      struct evfs_err *err)
{
	int rc;

	evfs_meta_lock_content(meta);
	evfs_tree_set_origin(meta, EVFS_FEED_REMOTE);
	rc = restore_locked(meta, path, version, to ? to : path, err);
	evfs_tree_set_origin(meta, EVFS_FEED_LOCAL);
	evfs_meta_unlock(meta);
	return rc;
}
