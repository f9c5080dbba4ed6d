/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Logging, for the boundaries only: a daemon's start and end, a session's end,
 * a failed file operation. Lower layers return errors instead.
 *
 * A line is "what: key=value key=value". File names and keys are never logged
 * above debug level. Thread-safe after evfs_log_init(). */
#ifndef EVFS_BASE_LOG_H
#define EVFS_BASE_LOG_H

#include <stdbool.h>

#include "base/err.h"

enum evfs_log_level {
	EVFS_LOG_NONE = -1, /* as a limit, for tests that make errors */
	EVFS_LOG_ERROR = 0,
	EVFS_LOG_WARN,
	EVFS_LOG_INFO,
	EVFS_LOG_DEBUG
};

/* Sends lines up to `level` to syslog, or to stderr with a time in front.
 * The level comes from $EVFS_LOG ("error", "warn", "info", "debug") where that
 * is set. program is borrowed for good (syslog keeps it). */
void evfs_log_init(const char *program, enum evfs_log_level level,
		   bool to_syslog);

void evfs_log(enum evfs_log_level level, const char *fmt, ...)
	EVFS_PRINTF(2, 3);

/* Is a line of this level written at all? For costly arguments. */
bool evfs_log_is_on(enum evfs_log_level level);

#endif
