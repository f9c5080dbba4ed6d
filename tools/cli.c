/* SPDX-License-Identifier: GPL-3.0-or-later */
/* See cli.h. */
#include "tools/cli.h"

#include <stdarg.h>
#include <stdio.h>

int evfs_cli_fail(const char *program, const char *command,
		  const struct evfs_err *err)
{
	if (command)
		fprintf(stderr, "%s: %s: %s\n", program, command, err->msg);
	else
		fprintf(stderr, "%s: %s\n", program, err->msg);
	return err->code == EVFS_EUSAGE ? EVFS_EXIT_USAGE : EVFS_EXIT_FAILED;
}

int evfs_cli_usage(const char *program, const char *command, const char *fmt,
		   ...)
{
	va_list args;

	if (command)
		fprintf(stderr, "%s: %s: ", program, command);
	else
		fprintf(stderr, "%s: ", program);
	va_start(args, fmt);
	vfprintf(stderr, fmt, args);
	va_end(args);
	if (command)
		fprintf(stderr, " (see '%s %s --help')\n", program, command);
	else
		fprintf(stderr, " (see '%s --help')\n", program);
	return EVFS_EXIT_USAGE;
}

const char *evfs_cli_bytes(uint64_t bytes, char text[EVFS_CLI_TEXT])
{
	static const char *const units[] = { "B",   "KiB", "MiB", "GiB",
					     "TiB", "PiB", "EiB" };
	double value = (double)bytes;
	size_t unit = 0;

	while (value >= 1024 && unit + 1 < sizeof(units) / sizeof(*units)) {
		value /= 1024;
		unit++;
	}
	snprintf(text, EVFS_CLI_TEXT, unit && value < 100 ? "%.1f %s" : "%.0f %s",
		 value, units[unit]);
	return text;
}

const char *evfs_cli_seconds(double seconds, char text[EVFS_CLI_TEXT])
{
	if (seconds < 0)
		snprintf(text, EVFS_CLI_TEXT, "-");
	else if (seconds < 1)
		snprintf(text, EVFS_CLI_TEXT, "%.0fms", seconds * 1000);
	else if (seconds < 120)
		snprintf(text, EVFS_CLI_TEXT, "%.0fs", seconds);
	else if (seconds < 7200)
		snprintf(text, EVFS_CLI_TEXT, "%.0fm", seconds / 60);
	else if (seconds < 172800)
		snprintf(text, EVFS_CLI_TEXT, "%.0fh", seconds / 3600);
	else
		snprintf(text, EVFS_CLI_TEXT, "%.0fd", seconds / 86400);
	return text;
}
