/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Lines to stderr or syslog; see log.h. A line to stderr is one write(2), so
 * that lines of several threads do not mix. */
#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#define LOG_LINE_MAX 1024

static const struct {
	const char *name;
	int priority; /* of syslog */
} log_levels[] = {
	[EVFS_LOG_ERROR] = { "error", LOG_ERR },
	[EVFS_LOG_WARN] = { "warn", LOG_WARNING },
	[EVFS_LOG_INFO] = { "info", LOG_INFO },
	[EVFS_LOG_DEBUG] = { "debug", LOG_DEBUG },
};

/* Set by evfs_log_init() before there are threads, read-only then. */
static enum evfs_log_level log_level = EVFS_LOG_WARN;
static bool log_to_syslog;
static const char *log_program = "evfs";

void evfs_log_init(const char *program, enum evfs_log_level level,
		   bool to_syslog)
{
	const char *wanted = getenv("EVFS_LOG");
	size_t n = sizeof(log_levels) / sizeof(log_levels[0]);

	if (to_syslog)
		openlog(program, LOG_PID, LOG_DAEMON);
	log_program = program;
	log_level = level;
	log_to_syslog = to_syslog;
	if (wanted == NULL || wanted[0] == '\0')
		return;
	for (size_t i = 0; i < n; i++) {
		if (strcmp(wanted, log_levels[i].name) == 0) {
			log_level = (enum evfs_log_level)i;
			return;
		}
	}
	evfs_log(EVFS_LOG_WARN,
		 "EVFS_LOG=%s: no such level (error, warn, info or debug)",
		 wanted);
}

bool evfs_log_is_on(enum evfs_log_level level)
{
	return level <= log_level;
}

static size_t log_prefix(char *line, size_t size, enum evfs_log_level level)
{
	struct timespec now;
	struct tm local;
	char text[32];
	int n;

	if (clock_gettime(CLOCK_REALTIME, &now) != 0 ||
	    localtime_r(&now.tv_sec, &local) == NULL ||
	    strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &local) == 0)
		text[0] = '\0';
	n = snprintf(line, size, "%s.%03ld %s: %s: ", text,
		     now.tv_nsec / 1000000, log_program,
		     log_levels[level].name);
	return n < 0 ? 0 : (size_t)n < size ? (size_t)n : size - 1;
}

/* Nothing can be done about a log that cannot be written. */
static void log_write(const char *line, size_t len)
{
	while (len > 0) {
		ssize_t n = write(STDERR_FILENO, line, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return;
		line += n;
		len -= (size_t)n;
	}
}

void evfs_log(enum evfs_log_level level, const char *fmt, ...)
{
	char line[LOG_LINE_MAX + 1];
	int saved = errno;
	size_t start = 0, len;
	va_list args;

	if (!evfs_log_is_on(level))
		return;
	if (!log_to_syslog)
		start = log_prefix(line, LOG_LINE_MAX, level);
	va_start(args, fmt);
	if (vsnprintf(line + start, LOG_LINE_MAX - start, fmt, args) < 0)
		line[start] = '\0';
	va_end(args);
	len = strlen(line);
	for (size_t i = start; i < len; i++)
		if ((unsigned char)line[i] < ' ')
			line[i] = '?';
	if (log_to_syslog) {
		syslog(log_levels[level].priority, "%s", line);
	} else {
		line[len++] = '\n';
		log_write(line, len);
	}
	errno = saved;
}
