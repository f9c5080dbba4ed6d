/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What the two programs share on the command line: how an error is printed,
 * exit codes, and sizes and times for people. */
#ifndef EVFS_TOOLS_CLI_H
#define EVFS_TOOLS_CLI_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum evfs_exit {
	EVFS_EXIT_DONE = 0,
	EVFS_EXIT_FAILED = 1,
	EVFS_EXIT_USAGE = 2,
	EVFS_EXIT_NO_DAEMON = 3 /* status only */
};

/* "evfsctl: COMMAND: what: why (what to do)" on stderr; command may be NULL.
 * Returns the exit code for err->code (usage 2, else 1). */
int evfs_cli_fail(const char *program, const char *command,
		  const struct evfs_err *err);

/* "evfsctl: COMMAND: ..." and a hint to --help; returns EVFS_EXIT_USAGE. */
int evfs_cli_usage(const char *program, const char *command, const char *fmt,
		   ...) EVFS_PRINTF(3, 4);

/* "1.2 GiB", "512 B". text has at least 24 bytes. */
#define EVFS_CLI_TEXT 24
const char *evfs_cli_bytes(uint64_t bytes, char text[EVFS_CLI_TEXT]);
/* "2h", "3m", "45s", "120ms"; negative: "-". */
const char *evfs_cli_seconds(double seconds, char text[EVFS_CLI_TEXT]);

#endif
