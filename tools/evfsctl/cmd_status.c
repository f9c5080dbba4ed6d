/* SPDX-License-Identifier: GPL-3.0-or-later */
/* evfsctl status, sync. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "meta/config.h"
#include "tools/evfsctl/evfsctl.h"

#define WATCH_INTERVAL_S 1
#define AUDIT_POLLS 3000
#define AUDIT_POLL_US 20000
#define SYNC_ALONE_MS 10000 /* with nobody to talk to: then it gives up */

struct arguments {
	const char *path;
	bool json, watch, wait;
	int timeout_ms; /* -1: for ever */
	json_t *peers;  /* names, or NULL */
};

static int take_peers(struct arguments *args, const char *list)
{
	evfs_cleanup_free char *copy = evfs_strdup(list);
	char *rest = copy, *name;

	if (!args->peers)
		args->peers = json_array();
	while (copy && (name = strsep(&rest, ",")))
		if (*name)
			json_array_append_new(args->peers, json_string(name));
	return copy && args->peers ? 0 : EVFS_ENOMEM;
}

/* Seconds as a bare number, or with a unit. */
static int take_timeout(struct arguments *args, const char *value)
{
	int64_t ms;
	char *end;
	double seconds = strtod(value, &end);

	if (end != value && !*end && seconds >= 0 && seconds < 1e6) {
		args->timeout_ms = (int)(seconds * 1000);
		return 0;
	}
	if (evfs_config_parse_duration(value, &ms, NULL) || ms < 0 ||
	    ms > INT32_MAX)
		return EVFS_EINVAL;
	args->timeout_ms = (int)ms;
	return 0;
}

/* -1: go on; else the exit code. */
static int parse(const struct evfsctl *ctl, int argc, char **argv,
		 struct arguments *args)
{
	static const struct option longs[] = {
		{ "json", no_argument, NULL, 'j' },
		{ "watch", no_argument, NULL, 'w' },
		{ "wait", no_argument, NULL, 'W' },
		{ "timeout", required_argument, NULL, 't' },
		{ "peers", required_argument, NULL, 'p' },
		{ NULL, 0, NULL, 0 }
	};
	int letter;

	args->timeout_ms = -1;
	opterr = 0;
	while ((letter = getopt_long(argc, argv, ":", longs, NULL)) != -1) {
		if (letter == 'j')
			args->json = true;
		else if (letter == 'w')
			args->watch = true;
		else if (letter == 'W')
			args->wait = true;
		else if (letter == 't' && !take_timeout(args, optarg))
			;
		else if (letter == 't')
			return evfsctl_usage(ctl, "--timeout %s: not seconds",
					     optarg);
		else if (letter == 'p' && !take_peers(args, optarg))
			;
		else
			return evfsctl_usage(ctl, letter == ':'
						     ? "%s needs a value"
						     : "unknown option %s",
					     argv[optind - 1]);
	}
	if (argc - optind > 1)
		return evfsctl_usage(ctl, "too many arguments: %s",
				     argv[optind + 1]);
	args->path = argv[optind];
	return -1;
}

static int get_status(const char *store, json_t **ret, struct evfs_err *err)
{
	json_t *reply;
	int rc = evfsctl_request(store, json_pack("{s:s}", "command", "status"),
				 -1, &reply, err);

	if (rc)
		return rc;
	*ret = json_incref(json_object_get(reply, "status"));
	json_decref(reply);
	return *ret ? 0 : evfs_err_set(err, EVFS_EPROTO, "no status in it");
}

static void print(const struct arguments *args, const json_t *status)
{
	if (args->json) {
		json_dumpf(status, stdout,
			   args->watch ? JSON_COMPACT : JSON_INDENT(1));
		putchar('\n');
	} else {
		if (args->watch && isatty(STDOUT_FILENO))
			fputs("\033[H\033[2J", stdout);
		evfsctl_print_status(status);
	}
	fflush(stdout);
}

static int watch(const struct evfsctl *ctl, const char *store,
		 const struct arguments *args)
{
	struct evfs_err err = { 0 };
	json_t *status;

	while (!get_status(store, &status, &err)) {
		print(args, status);
		json_decref(status);
		sleep(WATCH_INTERVAL_S);
	}
	evfsctl_fail(ctl, &err);
	return err.code == EVFS_ECLOSED ? EVFS_EXIT_NO_DAEMON
					: EVFS_EXIT_FAILED;
}

static int wait_for(const char *store, struct arguments *args,
		    struct evfs_err *err)
{
	json_t *reply;
	int rc = evfsctl_request(store,
				 json_pack("{s:s, s:O*}", "command", "wait",
					   "peers", args->peers),
				 args->timeout_ms, &reply, err);

	if (!rc)
		json_decref(reply);
	return rc;
}

int evfsctl_status(const struct evfsctl *ctl, int argc, char **argv)
{
	struct arguments args = { 0 };
	struct evfs_err err = { 0 };
	evfs_cleanup_free char *store = NULL;
	json_t *status = NULL;
	int code = parse(ctl, argc, argv, &args), rc;

	if (code >= 0)
		return code;
	rc = evfsctl_store(ctl, args.path, &store, &err);
	if (!rc && args.watch)
		return watch(ctl, store, &args);
	if (!rc && args.wait)
		rc = wait_for(store, &args, &err);
	json_decref(args.peers);
	/* What is missing after a timeout is worth more than that it is. */
	if (!rc || rc == EVFS_ETIMEOUT) {
		struct evfs_err again = { 0 };
		int rc2 = get_status(store, &status, &again);

		if (rc2 && !rc) {
			rc = rc2;
			err = again;
		}
	}
	if (status)
		print(&args, status);
	code = !status ? EVFS_EXIT_FAILED
	       : args.wait ? EVFS_EXIT_DONE
			   : evfsctl_status_exit(status);
	json_decref(status);
	if (!rc)
		return code;
	evfsctl_fail(ctl, &err);
	return rc == EVFS_ECLOSED || rc == EVFS_ENOTFOUND ? EVFS_EXIT_NO_DAEMON
							  : EVFS_EXIT_FAILED;
}

static double audit_number(const json_t *status, const char *key)
{
	const json_t *audit = json_object_get(status, "anti_entropy");

	return json_number_value(json_object_get(audit, key));
}

/* What is left to do, as one line that is written over on a terminal. Is any
 * member connected? */
static bool progress(const char *store)
{
	struct evfs_err err = { 0 };
	const char *state;
	char line[256];
	json_t *status;
	bool online;

	if (get_status(store, &status, &err))
		return true;
	if (isatty(STDERR_FILENO)) {
		evfsctl_status_line(status, line);
		fprintf(stderr, "\r\033[K%s", line);
		if (audit_number(status, "running") > 0)
			fprintf(stderr, "; %.0f nodes compared",
				audit_number(status, "running_nodes"));
	}
	state = json_string_value(json_object_get(status, "state"));
	online = !state || strcmp(state, "offline") != 0;
	json_decref(status);
	return online;
}

/* The comparison that the command began goes on after all has converged. */
static int wait_audited(const char *store, struct evfs_err *err)
{
	for (unsigned polls = 0; polls < AUDIT_POLLS; polls++) {
		json_t *status;
		bool running;
		int rc = get_status(store, &status, err);

		if (rc)
			return rc;
		running = audit_number(status, "running") > 0;
		json_decref(status);
		if (!running)
			return 0;
		progress(store);
		usleep(AUDIT_POLL_US);
	}
	return evfs_err_set(err, EVFS_ETIMEOUT, "the comparison does not end "
			    "(see 'evfsctl status')");
}

/* Until it is done, or nobody has been there for long. */
static int wait_with_progress(const char *store, struct arguments *args,
			      struct evfs_err *err)
{
	int alone_ms = 0, rc;

	for (;;) {
		rc = wait_for(store, args, err);
		if (rc != EVFS_ETIMEOUT)
			break;
		alone_ms = progress(store) ? 0 : alone_ms + args->timeout_ms;
		if (alone_ms >= SYNC_ALONE_MS) {
			rc = evfs_err_set(err, EVFS_EUNREACHABLE,
					  "no member can be reached (see "
					  "'evfsctl status')");
			break;
		}
	}
	progress(store);
	if (isatty(STDERR_FILENO))
		fputc('\n', stderr);
	return rc;
}

int evfsctl_sync(const struct evfsctl *ctl, int argc, char **argv)
{
	struct arguments args = { .timeout_ms = 200 };
	struct evfs_err err = { 0 };
	evfs_cleanup_free char *store = NULL;
	json_t *reply;
	int rc;

	if (argc > 2 || (argc == 2 && argv[1][0] == '-'))
		return evfsctl_usage(ctl, "at most one member's name");
	rc = evfsctl_store(ctl, NULL, &store, &err);
	if (!rc)
		rc = evfsctl_request(store,
				     json_pack("{s:s, s:s*}", "command", "sync",
					       "peer", argv[1]),
				     -1, &reply, &err);
	if (!rc) {
		json_decref(reply);
		if (argc == 2)
			rc = take_peers(&args, argv[1]);
	}
	if (!rc)
		rc = wait_with_progress(store, &args, &err);
	if (!rc)
		rc = wait_audited(store, &err);
	json_decref(args.peers);
	return rc ? evfsctl_fail(ctl, &err) : EVFS_EXIT_DONE;
}
