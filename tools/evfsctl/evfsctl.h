/* SPDX-License-Identifier: GPL-3.0-or-later */
/* evfsctl: what its commands share. One file a group of commands; each command
 * gets its own arguments (argv[0] is its name) and returns an exit code. */
#ifndef EVFS_TOOLS_EVFSCTL_H
#define EVFS_TOOLS_EVFSCTL_H

#include <jansson.h>
#include <stdbool.h>

#include "base/err.h"
#include "meta/meta.h"
#include "tools/cli.h"

struct evfsctl {
	const char *store_option; /* -s or $EVFS_STORE; NULL = find it */
	const char *command;      /* name of the command, for messages */
};

struct evfsctl_command {
	const char *name;
	const char *arguments; /* "TOKEN STORE [--name NAME]" */
	const char *summary;   /* one line for the list */
	const char *help;      /* more, or NULL */
	int (*run)(const struct evfsctl *ctl, int argc, char **argv);
};

int evfsctl_init(const struct evfsctl *ctl, int argc, char **argv);
int evfsctl_join(const struct evfsctl *ctl, int argc, char **argv);
int evfsctl_invite(const struct evfsctl *ctl, int argc, char **argv);
int evfsctl_peer(const struct evfsctl *ctl, int argc, char **argv);
int evfsctl_status(const struct evfsctl *ctl, int argc, char **argv);
int evfsctl_pause(const struct evfsctl *ctl, int argc, char **argv);
int evfsctl_sync(const struct evfsctl *ctl, int argc, char **argv);
int evfsctl_conflicts(const struct evfsctl *ctl, int argc, char **argv);
int evfsctl_resolve(const struct evfsctl *ctl, int argc, char **argv);
int evfsctl_why(const struct evfsctl *ctl, int argc, char **argv);
int evfsctl_log(const struct evfsctl *ctl, int argc, char **argv);
int evfsctl_restore(const struct evfsctl *ctl, int argc, char **argv);
int evfsctl_deleted(const struct evfsctl *ctl, int argc, char **argv);
int evfsctl_config(const struct evfsctl *ctl, int argc, char **argv);
int evfsctl_metrics(const struct evfsctl *ctl, int argc, char **argv);
int evfsctl_verify(const struct evfsctl *ctl, int argc, char **argv);
int evfsctl_divergences(const struct evfsctl *ctl, int argc, char **argv);
int evfsctl_dump(const struct evfsctl *ctl, int argc, char **argv);

/* ---- locate.c: which store, and which path in it ---- */

/* The store's path (the caller frees): -s or $EVFS_STORE, else the mount that
 * `path` (NULL: the current folder) lies in, else the only daemon that this
 * user runs. */
int evfsctl_store(const struct evfsctl *ctl, const char *path, char **ret,
		  struct evfs_err *err) EVFS_MUST_USE;

/* A file named on the command line as a path of the volume, "/a/b" (the caller
 * frees): below the mount of `store`, or, where it is not mounted there, taken
 * as it is. The file need not exist. */
int evfsctl_volume_path(const char *store, const char *path, char **ret,
			struct evfs_err *err) EVFS_MUST_USE;

/* ---- client.c: the daemon of a store ---- */

/* One request (taken over), one reply (the caller's). EVFS_ECLOSED: no daemon
 * runs. An error that the daemon reports is this function's error. timeout_ms
 * < 0: for ever; EVFS_ETIMEOUT. */
int evfsctl_request(const char *store, json_t *request, int timeout_ms,
		    json_t **ret, struct evfs_err *err) EVFS_MUST_USE;

/* Request without interesting reply, for commands that end with it: finds the
 * store, asks, reports. Takes the request over. */
int evfsctl_ask(const struct evfsctl *ctl, const char *path, json_t *request);

/* The store itself, beside its daemon: */

/* Opens read-only what the daemon has done up to now. */
int evfsctl_open(const char *store, struct evfs_meta **ret,
		 struct evfs_err *err) EVFS_MUST_USE;

/* status_text.c: a status object as people read it, on stdout. */
void evfsctl_print_status(const json_t *status);
/* Its first line only; text has at least 256 bytes. */
void evfsctl_status_line(const json_t *status, char text[256]);
/* The exit code for it: 0 in sync, 1 pending or offline, 2 attention. */
int evfsctl_status_exit(const json_t *status);

/* Usage error of this command. */
#define evfsctl_usage(ctl, ...) \
	evfs_cli_usage("evfsctl", (ctl)->command, __VA_ARGS__)
#define evfsctl_fail(ctl, err) evfs_cli_fail("evfsctl", (ctl)->command, err)

#endif
