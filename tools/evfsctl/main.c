/* SPDX-License-Identifier: GPL-3.0-or-later */
/* evfsctl: everything but mounting. This file finds the command and prints
 * help; a command is one line of the table. */
#include <config.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "tools/evfsctl/evfsctl.h"

static const struct evfsctl_command commands[] = {
	{ "init", "STORE [--name NAME] [--listen ADDR:PORT]",
	  "make a store with an empty volume",
	  "NAME defaults to the host name. Without --listen nothing listens.\n",
	  evfsctl_init },
	{ "invite", "[--expires 1h] [--address HOST:PORT]",
	  "print a one-use token for 'join'",
	  "The daemon must run and listen. --address says how the others reach\n"
	  "it where that is not the address that it listens on.\n",
	  evfsctl_invite },
	{ "join", "TOKEN STORE [--name NAME] [--listen ADDR:PORT]",
	  "make a store that is a replica of the inviter's",
	  NULL, evfsctl_join },
	{ "peer", "list | remove NAME | set NAME address=HOST:PORT",
	  "the members of the volume",
	  "Removal is final and is itself replicated.\n", evfsctl_peer },
	{ "status", "[PATH] [--json] [--watch]\n"
		    "                      [--wait [--timeout S] [--peers A,B]]",
	  "is everything in sync?",
	  "The first line is the answer. --wait returns when everything has\n"
	  "converged (with the named peers). Exit: 0 in sync, 1 pending or\n"
	  "offline, 2 attention, 3 no daemon.\n",
	  evfsctl_status },
	{ "pause", "[PEER]", "stop replication; the mount goes on", NULL,
	  evfsctl_pause },
	{ "resume", "[PEER]", "start it again", NULL, evfsctl_pause },
	{ "sync", "[PEER]", "exchange everything now, and wait for it", NULL,
	  evfsctl_sync },
	{ "conflicts", "[--json]", "open conflicts", NULL, evfsctl_conflicts },
	{ "resolve", "PATH --keep this|NAME|newest|all", "settle a conflict",
	  "this: what has the plain name; NAME: the sibling of that replica;\n"
	  "newest: the latest edit; all: each sibling becomes a plain file.\n",
	  evfsctl_resolve },
	{ "why", "PATH", "the rules that made this name show what it shows",
	  NULL, evfsctl_why },
	{ "log", "PATH", "the versions of a file", NULL, evfsctl_log },
	{ "restore", "PATH[@VERSION] [TO]", "bring a version back",
	  "Without VERSION: the newest that is not current.\n",
	  evfsctl_restore },
	{ "deleted", "[DIR]", "files that were removed and can be restored",
	  NULL, evfsctl_deleted },
	{ "verify", "[--repair]", "read everything back against its hashes",
	  "Contents, and the Merkle tree against the facts. --repair waits\n"
	  "until what is damaged has been fetched from members. Exit: 0 all\n"
	  "is well, 1 something is (still) damaged.\n",
	  evfsctl_verify },
	{ "divergences", "",
	  "what differed from a member with an equal history",
	  "Such a thing should never be: it is repaired, and kept here.\n",
	  evfsctl_divergences },
	{ "config", "list | get KEY | set KEY VALUE", "settings", NULL,
	  evfsctl_config },
	{ "metrics", "", "figures as OpenMetrics text", NULL,
	  evfsctl_metrics },
	{ "dump", "[--view]", "the replicated state, or the tree, as text",
	  "Two replicas are the same if and only if their dumps are.\n",
	  evfsctl_dump },
};

#define N_COMMANDS (sizeof(commands) / sizeof(*commands))

static void print_help(void)
{
	puts("Usage: evfsctl [-s STORE] COMMAND [ARGUMENT...]\n"
	     "\n"
	     "Commands ('evfsctl COMMAND --help' says more):");
	for (size_t i = 0; i < N_COMMANDS; i++)
		printf("  %-10s %s\n", commands[i].name, commands[i].summary);
	puts("\n"
	     "The store is -s STORE, else $EVFS_STORE, else that of the mount\n"
	     "that the path argument or the current folder lies in, else that\n"
	     "of the only daemon that you run.");
}

static void print_command_help(const struct evfsctl_command *command)
{
	printf("Usage: evfsctl [-s STORE] %s %s\n\n", command->name,
	       command->arguments);
	printf("%c%s.\n", command->name[0] ? command->summary[0] & ~0x20 : ' ',
	       command->summary + 1);
	if (command->help)
		printf("\n%s", command->help);
}

static const struct evfsctl_command *find(const char *name)
{
	for (size_t i = 0; i < N_COMMANDS; i++)
		if (!strcmp(commands[i].name, name))
			return &commands[i];
	return NULL;
}

int main(int argc, char **argv)
{
	const struct evfsctl_command *command;
	struct evfsctl ctl = { .store_option = getenv("EVFS_STORE") };
	int at = 1;

	evfs_log_init("evfsctl", EVFS_LOG_ERROR, false);
	if (ctl.store_option && !*ctl.store_option)
		ctl.store_option = NULL;
	if (at + 1 < argc && !strcmp(argv[at], "-s")) {
		ctl.store_option = argv[at + 1];
		at += 2;
	}
	if (at >= argc)
		return evfs_cli_usage("evfsctl", NULL, "a command is needed");
	if (!strcmp(argv[at], "--help") || !strcmp(argv[at], "-h")) {
		print_help();
		return EVFS_EXIT_DONE;
	}
	if (!strcmp(argv[at], "--version") || !strcmp(argv[at], "-V")) {
		puts("evfsctl " PACKAGE_VERSION);
		return EVFS_EXIT_DONE;
	}
	command = find(argv[at]);
	if (!command)
		return evfs_cli_usage("evfsctl", NULL, "unknown command: %s",
				      argv[at]);
	for (int i = at + 1; i < argc && strcmp(argv[i], "--"); i++) {
		if (!strcmp(argv[i], "--help")) {
			print_command_help(command);
			return EVFS_EXIT_DONE;
		}
	}
	ctl.command = command->name;
	return command->run(&ctl, argc - at, argv + at);
}
