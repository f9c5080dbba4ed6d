/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Which store a command means, and which path of its volume: read from the
 * mount table, where an evfs mount's source is its store. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "tools/evfsctl/evfsctl.h"

/* One evfs mount. */
struct mount_row {
	char *point; /* in the line */
	char *store; /* in the line */
	long user;   /* who runs the daemon */
};

/* Octal escapes of /proc/self/mountinfo, in place. */
static void unescape(char *text)
{
	char *to = text;

	for (; *text; text++, to++) {
		unsigned octal;

		if (*text == '\\' && sscanf(text + 1, "%3o", &octal) == 1) {
			*to = (char)octal;
			text += 3;
		} else {
			*to = *text;
		}
	}
	*to = '\0';
}

/* Takes a line of mountinfo apart (proc(5)); false: no evfs mount. */
static bool parse_row(char *line, struct mount_row *row)
{
	char *field[5], *rest = line, *type, *options, *user;

	for (int i = 0; i < 5; i++)
		if (!(field[i] = strsep(&rest, " ")))
			return false;
	rest = rest ? strstr(rest, " - ") : NULL;
	if (!rest)
		return false;
	rest += 3;
	type = strsep(&rest, " ");
	row->store = strsep(&rest, " ");
	options = rest;
	if (!options || strcmp(type, "fuse.evfs"))
		return false;
	user = strstr(options, "user_id=");
	row->user = user ? strtol(user + 8, NULL, 10) : -1;
	row->point = field[4];
	unescape(row->point);
	unescape(row->store);
	return true;
}

static int each_mount(int (*each)(void *arg, const struct mount_row *row),
		      void *arg, struct evfs_err *err)
{
	FILE *table = fopen("/proc/self/mountinfo", "re");
	char *line = NULL;
	size_t cap = 0;
	int rc = 0;

	if (!table)
		return evfs_err_sys(err, errno, "read /proc/self/mountinfo");
	while (!rc && getline(&line, &cap, table) > 0) {
		struct mount_row row;

		line[strcspn(line, "\n")] = '\0';
		if (parse_row(line, &row))
			rc = each(arg, &row);
	}
	free(line);
	fclose(table);
	return rc;
}

/* How much of `path` the mount point takes up; 0: it does not lie below. */
static size_t prefix(const char *point, const char *path)
{
	size_t len = strlen(point);

	if (strncmp(point, path, len) || (path[len] && path[len] != '/'))
		return 0;
	return len;
}

struct search {
	const char *path;  /* absolute, or NULL */
	const char *store; /* only mounts of this store, or NULL */
	long user;         /* of daemons that count where no path fits */
	size_t best;       /* length of the longest mount point that fits */
	char *found;       /* store of that one; owned */
	char *point;       /* its mount point; owned */
	size_t mine;       /* daemons of this user */
	char *my_store;    /* store of the last of them; owned */
};

static int look_at(void *arg, const struct mount_row *row)
{
	struct search *search = arg;
	size_t len = search->path ? prefix(row->point, search->path) : 0;

	if (search->store && strcmp(search->store, row->store))
		return 0;
	if (len > search->best) {
		search->best = len;
		evfs_free(search->found);
		evfs_free(search->point);
		search->found = evfs_strdup(row->store);
		search->point = evfs_strdup(row->point);
		if (!search->found || !search->point)
			return EVFS_ENOMEM;
	}
	if (row->user == search->user &&
	    (!search->my_store || strcmp(search->my_store, row->store))) {
		search->mine++;
		evfs_free(search->my_store);
		search->my_store = evfs_strdup(row->store);
		if (!search->my_store)
			return EVFS_ENOMEM;
	}
	return 0;
}

static void search_fini(struct search *search)
{
	evfs_free(search->found);
	evfs_free(search->point);
	evfs_free(search->my_store);
}

/* The absolute path, with the directory's links resolved, of a file that may
 * not exist (nor all of the directories above). NULL: out of memory. */
static char *absolute(const char *path)
{
	char *real = realpath(path, NULL), *copy, *slash, *dir, *joined;

	if (real)
		return real;
	copy = strdup(path);
	if (!copy)
		return NULL;
	slash = strrchr(copy, '/');
	if (slash == copy || !strcmp(copy, ".") || !strcmp(copy, ".."))
		return copy;
	if (slash)
		*slash = '\0';
	dir = absolute(slash ? copy : ".");
	joined = dir ? evfs_asprintf("%s/%s", strcmp(dir, "/") ? dir : "",
				     slash ? slash + 1 : copy)
		     : NULL;
	free(dir);
	free(copy);
	return joined;
}

int evfsctl_store(const struct evfsctl *ctl, const char *path, char **ret,
		  struct evfs_err *err)
{
	struct search search = { .user = (long)getuid() };
	evfs_cleanup_free char *at = NULL;
	int rc;

	if (ctl->store_option) {
		char *real = realpath(ctl->store_option, NULL);

		if (!real)
			return evfs_err_sys(err, errno, "%s",
					    ctl->store_option);
		*ret = real;
		return 0;
	}
	at = absolute(path ? path : ".");
	search.path = at;
	rc = at ? each_mount(look_at, &search, err) : EVFS_ENOMEM;
	if (rc == EVFS_ENOMEM)
		evfs_err_set(err, rc, "%s", evfs_err_text(rc));
	if (!rc && search.found)
		*ret = evfs_steal(search.found);
	else if (!rc && search.mine == 1)
		*ret = evfs_steal(search.my_store);
	else if (!rc)
		rc = evfs_err_set(err, EVFS_ENOTFOUND,
				  search.mine ? "which store? %zu are mounted "
						"(say -s STORE)"
					      : "no store: none is mounted "
						"here (say -s STORE, or mount "
						"one with 'evfs STORE "
						"MOUNTPOINT')",
				  search.mine);
	search_fini(&search);
	return rc;
}

int evfsctl_volume_path(const char *store, const char *path, char **ret,
			struct evfs_err *err)
{
	struct search search = { .store = store, .user = -2 };
	evfs_cleanup_free char *at = absolute(path);
	int rc = 0;

	search.path = at;
	if (!at)
		rc = EVFS_ENOMEM;
	if (!rc)
		rc = each_mount(look_at, &search, err);
	if (!rc && search.found)
		*ret = evfs_strdup(at[search.best] ? at + search.best : "/");
	else if (!rc)
		*ret = *path == '/' ? evfs_strdup(path)
				    : evfs_asprintf("/%s", path);
	search_fini(&search);
	if (rc == EVFS_ENOMEM || (!rc && !*ret))
		return evfs_err_set(err, EVFS_ENOMEM, "%s",
				    evfs_err_text(EVFS_ENOMEM));
	return rc;
}
