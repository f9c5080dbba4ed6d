/* SPDX-License-Identifier: GPL-3.0-or-later */
/* evfsctl verify: the daemon reads the store back, this shows how far it is.
 * evfsctl divergences: the evidence that the store keeps. */
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "meta/divergence.h"
#include "meta/members.h"
#include "tools/evfsctl/evfsctl.h"

#define POLL_US 200000
#define REPAIR_S 30 /* without any chunk coming: then it gives up */

static double number(const json_t *object, const char *key)
{
	return json_number_value(json_object_get(object, key));
}

static int ask(const char *store, const char *command, json_t **ret,
	       struct evfs_err *err)
{
	return evfsctl_request(store, json_pack("{s:s}", "command", command),
			       -1, ret, err);
}

/* What the daemon last found; on a terminal as a line that is written over. */
static int follow(const char *store, json_t **ret, struct evfs_err *err)
{
	int rc = ask(store, "verify-progress", ret, err);

	while (!rc && json_is_true(json_object_get(*ret, "running"))) {
		if (isatty(STDERR_FILENO))
			fprintf(stderr, "\r\033[K%.0f MiB of contents, %.0f "
				"objects read back", number(*ret, "mib"),
				number(*ret, "objects"));
		json_decref(*ret);
		usleep(POLL_US);
		rc = ask(store, "verify-progress", ret, err);
	}
	if (isatty(STDERR_FILENO))
		fputs("\r\033[K", stderr);
	return rc;
}

static int damaged_now(const char *store, double *ret, struct evfs_err *err)
{
	json_t *reply;
	int rc = ask(store, "status", &reply, err);

	if (rc)
		return rc;
	*ret = number(json_object_get(json_object_get(reply, "status"),
				      "content"),
		      "corrupt");
	json_decref(reply);
	return 0;
}

/* The daemon fetches damaged chunks from members by itself: until none is
 * left, or none has come for long. */
static int wait_repaired(const char *store, double *left, struct evfs_err *err)
{
	unsigned polls = 0;
	double before;
	int rc = damaged_now(store, left, err);

	while (!rc && *left > 0 && polls < REPAIR_S * 1000000 / POLL_US) {
		before = *left;
		usleep(POLL_US);
		rc = damaged_now(store, left, err);
		polls = *left < before ? 0 : polls + 1;
	}
	return rc;
}

static int report(const json_t *found, double left, bool repair,
		  struct evfs_err *err)
{
	double damaged = number(found, "damaged");
	double nodes = number(found, "nodes_wrong");
	const char *why = json_string_value(json_object_get(found, "failure"));

	if (why && *why)
		return evfs_err_set(err, EVFS_EIO, "%s", why);
	printf("%.0f damaged chunk%s, %.0f object%s counted, %.0f wrong "
	       "node%s of the Merkle tree%s\n",
	       damaged, damaged == 1 ? "" : "s", number(found, "objects"),
	       number(found, "objects") == 1 ? "" : "s", nodes,
	       nodes == 1 ? "" : "s", nodes > 0 ? " put right" : "");
	if (repair && damaged > 0)
		printf("%.0f repaired from members\n",
		       damaged > left ? damaged - left : 0);
	if (repair ? left > 0 : damaged > 0)
		return evfs_err_set(err, EVFS_ECORRUPT,
				    "%.0f damaged chunk%s (%s)",
				    repair ? left : damaged,
				    (repair ? left : damaged) == 1 ? "" : "s",
				    repair ? "no member that can be reached "
					     "has them" :
					     "run 'evfsctl verify --repair'");
	return 0;
}

int evfsctl_verify(const struct evfsctl *ctl, int argc, char **argv)
{
	evfs_cleanup_free char *store = NULL;
	struct evfs_err err = { 0 };
	json_t *found = NULL, *reply;
	bool repair = argc == 2 && !strcmp(argv[1], "--repair");
	double left = 0;
	int rc;

	if (argc > 2 || (argc == 2 && !repair))
		return evfsctl_usage(ctl, "unknown argument %s",
				     argv[argc - 1]);
	rc = evfsctl_store(ctl, NULL, &store, &err);
	if (!rc)
		rc = ask(store, "verify", &reply, &err);
	if (!rc) {
		json_decref(reply);
		rc = follow(store, &found, &err);
	}
	if (!rc && repair)
		rc = wait_repaired(store, &left, &err);
	if (!rc)
		rc = report(found, left, repair, &err);
	json_decref(found);
	return rc ? evfsctl_fail(ctl, &err) : EVFS_EXIT_DONE;
}

static int print_divergence(void *arg, uint64_t node, uint64_t wall_ns,
			    const char *text)
{
	time_t seconds = (time_t)(wall_ns / 1000000000u);
	char when[32] = "-";
	struct tm tm;

	(void)arg;
	(void)node;
	if (localtime_r(&seconds, &tm))
		strftime(when, sizeof(when), "%Y-%m-%d %H:%M:%S", &tm);
	printf("%s %s\n", when, text);
	return 0;
}

int evfsctl_divergences(const struct evfsctl *ctl, int argc, char **argv)
{
	evfs_cleanup_free char *store = NULL;
	struct evfs_err err = { 0 };
	struct evfs_meta *meta;
	int rc;

	if (argc > 1)
		return evfsctl_usage(ctl, "unknown argument %s", argv[1]);
	rc = evfsctl_store(ctl, NULL, &store, &err);
	if (!rc)
		rc = evfsctl_open(store, &meta, &err);
	if (rc)
		return evfsctl_fail(ctl, &err);
	evfs_meta_lock(meta);
	rc = evfs_divergence_each(meta, print_divergence, NULL, &err);
	evfs_meta_unlock(meta);
	evfs_meta_close(meta);
	return rc ? evfsctl_fail(ctl, &err) : EVFS_EXIT_DONE;
}
