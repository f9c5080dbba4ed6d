/* SPDX-License-Identifier: GPL-3.0-or-later */
/* evfsctl invite, peer, pause, resume, sync, metrics: short talks with the
 * daemon. */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "meta/config.h"
#include "meta/members.h"
#include "tools/evfsctl/evfsctl.h"

int evfsctl_invite(const struct evfsctl *ctl, int argc, char **argv)
{
	static const struct option longs[] = {
		{ "expires", required_argument, NULL, 'e' },
		{ "address", required_argument, NULL, 'a' },
		{ NULL, 0, NULL, 0 }
	};
	const char *address = NULL;
	struct evfs_err err = { 0 };
	int64_t expires_ms = 3600000;
	evfs_cleanup_free char *store = NULL;
	json_t *reply;
	int letter, rc;

	opterr = 0;
	while ((letter = getopt_long(argc, argv, ":", longs, NULL)) != -1) {
		if (letter == 'a') {
			address = optarg;
		} else if (letter == 'e') {
			rc = evfs_config_parse_duration(optarg, &expires_ms,
							&err);
			if (rc || expires_ms <= 0)
				return evfsctl_usage(ctl,
						     "--expires %s: not a time "
						     "like 90s, 1h, 7d",
						     optarg);
		} else {
			return evfsctl_usage(ctl, letter == ':'
						     ? "%s needs a value"
						     : "unknown option %s",
					     argv[optind - 1]);
		}
	}
	if (optind < argc)
		return evfsctl_usage(ctl, "too many arguments: %s",
				     argv[optind]);
	if (address && !strrchr(address, ':'))
		return evfsctl_usage(ctl, "--address %s: not HOST:PORT",
				     address);
	rc = evfsctl_store(ctl, NULL, &store, &err);
	if (!rc)
		rc = evfsctl_request(
			store,
			json_pack("{s:s, s:I, s:s*}", "command", "invite",
				  "expires_ms", (json_int_t)expires_ms,
				  "address", address),
			-1, &reply, &err);
	if (rc)
		return evfsctl_fail(ctl, &err);
	puts(json_string_value(json_object_get(reply, "token")));
	json_decref(reply);
	return EVFS_EXIT_DONE;
}

static int print_members(const char *store, struct evfs_err *err)
{
	struct evfs_member *members = NULL;
	struct evfs_meta *meta;
	size_t n = 0;
	int rc = evfsctl_open(store, &meta, err);

	if (rc)
		return rc;
	evfs_meta_lock(meta);
	rc = evfs_members_list(meta, true, &members, &n, err);
	evfs_meta_unlock(meta);
	for (size_t i = 0; !rc && i < n; i++)
		printf("%-16s %016" PRIx64 "  %-24s %s\n", members[i].name,
		       members[i].node,
		       *members[i].address ? members[i].address : "-",
		       members[i].removed  ? "removed"
		       : members[i].paused ? "paused"
					   : "member");
	evfs_free(members);
	evfs_meta_close(meta);
	return rc;
}

int evfsctl_peer(const struct evfsctl *ctl, int argc, char **argv)
{
	struct evfs_err err = { 0 };
	evfs_cleanup_free char *store = NULL;
	int rc;

	if (argc == 2 && !strcmp(argv[1], "list")) {
		rc = evfsctl_store(ctl, NULL, &store, &err);
		if (!rc)
			rc = print_members(store, &err);
		return rc ? evfsctl_fail(ctl, &err) : EVFS_EXIT_DONE;
	}
	if (argc == 3 && !strcmp(argv[1], "remove"))
		return evfsctl_ask(ctl, NULL,
				   json_pack("{s:s, s:s}", "command",
					     "peer-remove", "peer", argv[2]));
	if (argc == 4 && !strcmp(argv[1], "set") &&
	    !strncmp(argv[3], "address=", 8))
		return evfsctl_ask(ctl, NULL,
				   json_pack("{s:s, s:s, s:s}", "command",
					     "peer-set", "peer", argv[2],
					     "address", argv[3] + 8));
	return evfsctl_usage(ctl, "one of 'list', 'remove NAME', 'set NAME "
				  "address=HOST:PORT' is needed");
}

int evfsctl_pause(const struct evfsctl *ctl, int argc, char **argv)
{
	if (argc > 2 || (argc == 2 && argv[1][0] == '-'))
		return evfsctl_usage(ctl, "at most one member's name");
	return evfsctl_ask(ctl, NULL,
			   json_pack("{s:s, s:s*}", "command", ctl->command,
				     "peer", argc == 2 ? argv[1] : NULL));
}

int evfsctl_metrics(const struct evfsctl *ctl, int argc, char **argv)
{
	struct evfs_err err = { 0 };
	evfs_cleanup_free char *store = NULL;
	json_t *reply;
	int rc;

	if (argc > 1)
		return evfsctl_usage(ctl, "too many arguments: %s", argv[1]);
	rc = evfsctl_store(ctl, NULL, &store, &err);
	if (!rc)
		rc = evfsctl_request(store,
				     json_pack("{s:s}", "command", "metrics"),
				     -1, &reply, &err);
	if (rc)
		return evfsctl_fail(ctl, &err);
	fputs(json_string_value(json_object_get(reply, "text")), stdout);
	json_decref(reply);
	return EVFS_EXIT_DONE;
}
