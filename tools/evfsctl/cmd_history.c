/* SPDX-License-Identifier: GPL-3.0-or-later */
/* evfsctl log, deleted: read from the store beside its daemon. restore: the
 * daemon does it. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "meta/history.h"
#include "meta/members.h"
#include "tools/evfsctl/evfsctl.h"

struct printer {
	struct evfs_meta *meta;
	bool paths; /* print the path of each (deleted) */
	size_t n;
};

static int print_past(void *arg, const struct evfs_past *past)
{
	struct printer *printer = arg;
	time_t seconds = (time_t)(past->written_ns / 1000000000u);
	char id[17], when[32] = "-", size[EVFS_CLI_TEXT];
	struct tm tm;

	printer->n++;
	evfs_past_id(past->dot, id);
	if (localtime_r(&seconds, &tm))
		strftime(when, sizeof(when), "%Y-%m-%d %H:%M:%S", &tm);
	printf("%.8s  %s  %10s  %-12s %s\n", id, when,
	       evfs_cli_bytes(past->size, size),
	       evfs_members_node_name(printer->meta, past->dot.actor.node),
	       printer->paths	 ? past->path ? past->path : "?"
	       : !past->ended_ns ? "current"
	       : past->deleted	 ? "deleted"
				 : "replaced");
	return 0;
}

/* The store, the path in its volume, and the store opened. */
static int open_for(const struct evfsctl *ctl, const char *arg,
		    struct evfs_meta **ret_meta, char **ret_path,
		    struct evfs_err *err)
{
	evfs_cleanup_free char *store = NULL, *path = NULL;
	int rc = evfsctl_store(ctl, arg, &store, err);

	if (!rc && arg)
		rc = evfsctl_volume_path(store, arg, &path, err);
	else if (!rc)
		path = evfs_strdup("/");
	if (!rc)
		rc = evfsctl_open(store, ret_meta, err);
	if (!rc)
		*ret_path = evfs_steal(path);
	return rc;
}

int evfsctl_log(const struct evfsctl *ctl, int argc, char **argv)
{
	struct printer printer = { 0 };
	struct evfs_err err = { 0 };
	evfs_cleanup_free char *path = NULL;
	int rc;

	if (argc != 2 || argv[1][0] == '-')
		return evfsctl_usage(ctl, "PATH is needed");
	rc = open_for(ctl, argv[1], &printer.meta, &path, &err);
	if (rc)
		return evfsctl_fail(ctl, &err);
	evfs_meta_lock(printer.meta);
	rc = evfs_history_log(printer.meta, path, print_past, &printer, &err);
	if (!rc && !printer.n)
		rc = evfs_err_set(&err, EVFS_ENOTFOUND,
				  "%s: no version of it is known (see "
				  "'evfsctl deleted')", path);
	evfs_meta_unlock(printer.meta);
	evfs_meta_close(printer.meta);
	return rc ? evfsctl_fail(ctl, &err) : EVFS_EXIT_DONE;
}

int evfsctl_deleted(const struct evfsctl *ctl, int argc, char **argv)
{
	struct printer printer = { .paths = true };
	struct evfs_err err = { 0 };
	evfs_cleanup_free char *path = NULL;
	int rc;

	if (argc > 2 || (argc == 2 && argv[1][0] == '-'))
		return evfsctl_usage(ctl, "at most one directory");
	rc = open_for(ctl, argv[1], &printer.meta, &path, &err);
	if (rc)
		return evfsctl_fail(ctl, &err);
	evfs_meta_lock(printer.meta);
	rc = evfs_history_deleted(printer.meta, path, print_past, &printer,
				  &err);
	evfs_meta_unlock(printer.meta);
	evfs_meta_close(printer.meta);
	return rc ? evfsctl_fail(ctl, &err) : EVFS_EXIT_DONE;
}

/* Splits PATH@VERSION in place where what follows the last '@' looks like a
 * version: 4 to 16 hexadecimal digits. */
static char *split_version(char *path)
{
	char *version = strrchr(path, '@');
	size_t len = version ? strlen(version + 1) : 0;

	if (len < 4 || len > 16 ||
	    strspn(version + 1, "0123456789abcdef") != len)
		return NULL;
	*version = '\0';
	return version + 1;
}

int evfsctl_restore(const struct evfsctl *ctl, int argc, char **argv)
{
	evfs_cleanup_free char *from = NULL, *store = NULL, *path = NULL;
	evfs_cleanup_free char *to = NULL;
	struct evfs_err err = { 0 };
	const char *version;
	json_t *reply;
	int rc;

	if (argc < 2 || argc > 3 || argv[1][0] == '-')
		return evfsctl_usage(ctl, "PATH[@VERSION] [TO] is needed");
	from = evfs_strdup(argv[1]);
	if (!from)
		return EVFS_EXIT_FAILED;
	version = split_version(from);
	rc = evfsctl_store(ctl, from, &store, &err);
	if (!rc)
		rc = evfsctl_volume_path(store, from, &path, &err);
	if (!rc && argc == 3)
		rc = evfsctl_volume_path(store, argv[2], &to, &err);
	if (!rc)
		rc = evfsctl_request(store,
				     json_pack("{s:s, s:s, s:s*, s:s*}",
					       "command", "restore", "path",
					       path, "version", version, "to",
					       to),
				     -1, &reply, &err);
	if (rc)
		return evfsctl_fail(ctl, &err);
	json_decref(reply);
	return EVFS_EXIT_DONE;
}
