/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Codes and messages of errors; see err.h. All text is put together in the
 * caller's fixed buffer, so nothing here can run out of memory. */

#include "base/err.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

struct err_row {
	int sys;
	const char *text;
};

static const struct err_row err_rows[EVFS_ERR_COUNT] = {
	[EVFS_ERR_NONE] = { 0, "no error" },
#define X(name, sys, text) [EVFS_ERR_INDEX_##name] = { sys, text },
	EVFS_ERR_TABLE(X)
#undef X
};

static bool err_is_known(int code)
{
	return code <= 0 && code > -(int)EVFS_ERR_COUNT;
}

const char *evfs_err_text(int code)
{
	return err_is_known(code) ? err_rows[-code].text : "unknown error";
}

int evfs_err_errno(int code)
{
	return err_is_known(code) ? err_rows[-code].sys : EIO;
}

static int err_code_of(int sys)
{
	for (int i = 1; i < (int)EVFS_ERR_COUNT; i++)
		if (err_rows[i].sys == sys)
			return -i;
	return EVFS_EIO;
}

/* A message is one line whatever its arguments were (file names may hold
 * anything). */
static void err_one_line(char *msg)
{
	for (; *msg != '\0'; msg++)
		if ((unsigned char)*msg < ' ' || *msg == 0x7f)
			*msg = '?';
}

static void err_finish(struct evfs_err *err)
{
	if (err->msg[0] == '\0')
		snprintf(err->msg, sizeof(err->msg), "%s",
			 evfs_err_text(err->code));
	err_one_line(err->msg);
}

int evfs_err_set(struct evfs_err *err, int code, const char *fmt, ...)
{
	va_list args;

	assert(code < 0);
	if (err == NULL)
		return code;
	err->code = code;
	err->sys = 0;
	va_start(args, fmt);
	if (vsnprintf(err->msg, sizeof(err->msg), fmt, args) < 0)
		err->msg[0] = '\0';
	va_end(args);
	err_finish(err);
	return code;
}

int evfs_err_sys(struct evfs_err *err, int sys, const char *fmt, ...)
{
	int code = err_code_of(sys);
	char buf[128];
	va_list args;
	size_t len;

	if (err == NULL)
		return code;
	err->code = code;
	err->sys = sys;
	va_start(args, fmt);
	if (vsnprintf(err->msg, sizeof(err->msg), fmt, args) < 0)
		err->msg[0] = '\0';
	va_end(args);
	len = strlen(err->msg);
	snprintf(err->msg + len, sizeof(err->msg) - len, "%s%s",
		 len > 0 ? ": " : "", strerror_r(sys, buf, sizeof(buf)));
	err_finish(err);
	return code;
}

int evfs_err_wrap(struct evfs_err *err, int code, const char *fmt, ...)
{
	char old[sizeof(err->msg)];
	va_list args;
	size_t len;

	if (err == NULL)
		return code;
	if (err->code == 0) {
		err->code = code;
		err->sys = 0;
		err->msg[0] = '\0';
	}
	if (err->msg[0] == '\0')
		snprintf(err->msg, sizeof(err->msg), "%s",
			 evfs_err_text(err->code));
	memcpy(old, err->msg, sizeof(old));
	old[sizeof(old) - 1] = '\0';
	va_start(args, fmt);
	if (vsnprintf(err->msg, sizeof(err->msg), fmt, args) < 0)
		err->msg[0] = '\0';
	va_end(args);
	len = strlen(err->msg);
	snprintf(err->msg + len, sizeof(err->msg) - len, "%s%s",
		 len > 0 ? ": " : "", old);
	err_finish(err);
	return err->code;
}
