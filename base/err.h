/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Errors: what went wrong, as a code for programs and a sentence for people.
 *
 * A function that can fail returns 0 or a negative EVFS_E... code, and fills
 * the caller's struct evfs_err where one was passed (NULL is allowed). The
 * message is born where the cause is known; every layer above may put its own
 * words in front of it with evfs_err_wrap(). Storage is a fixed buffer of the
 * caller, so that running out of memory can be reported too.
 * Thread-safe: no shared state. */
#ifndef EVFS_BASE_ERR_H
#define EVFS_BASE_ERR_H

#include <stddef.h>

/* One table: code, errno that a file operation reports for it, text. */
#define EVFS_ERR_TABLE(X) \
	X(NOMEM, ENOMEM, "out of memory") \
	X(IO, EIO, "input/output error") \
	X(NOTFOUND, ENOENT, "no such file or directory") \
	X(EXISTS, EEXIST, "already exists") \
	X(NOTDIR, ENOTDIR, "not a directory") \
	X(ISDIR, EISDIR, "is a directory") \
	X(NOTEMPTY, ENOTEMPTY, "directory not empty") \
	X(INVAL, EINVAL, "invalid argument") \
	X(PERM, EPERM, "operation not permitted") \
	X(ACCESS, EACCES, "permission denied") \
	X(BUSY, EBUSY, "busy") \
	X(NAMETOOLONG, ENAMETOOLONG, "name too long") \
	X(NOSPACE, ENOSPC, "no space left") \
	X(READONLY, EROFS, "read-only") \
	X(LOOP, ELOOP, "too many symbolic links") \
	X(MLINK, EMLINK, "too many links") \
	X(NODATA, ENODATA, "no such attribute") \
	X(RANGE, ERANGE, "result too large") \
	X(FBIG, EFBIG, "file too large") \
	X(AGAIN, EAGAIN, "try again") \
	X(UNSUPPORTED, EOPNOTSUPP, "not supported") \
	X(CORRUPT, EIO, "damaged data") \
	X(PROTO, EPROTO, "protocol violation") \
	X(AUTH, EACCES, "not authorised") \
	X(UNREACHABLE, EHOSTUNREACH, "no replica that holds it can be reached") \
	X(TIMEOUT, ETIMEDOUT, "timed out") \
	X(NEWER, EPROTONOSUPPORT, "made by a newer version") \
	X(FOREIGN, EINVAL, "belongs to something else") \
	X(LOCKED, EBUSY, "in use by another process") \
	X(CLOSED, ESHUTDOWN, "closed") \
	X(LIMIT, EMSGSIZE, "limit exceeded") \
	X(MISSING, EHOSTUNREACH, "content has not arrived yet") \
	X(USAGE, EINVAL, "wrong usage")

enum evfs_err_code {
	EVFS_ERR_NONE = 0,
#define X(name, sys, text) EVFS_ERR_INDEX_##name,
	EVFS_ERR_TABLE(X)
#undef X
	EVFS_ERR_COUNT
};

/* The codes as they are returned: EVFS_ENOMEM, EVFS_EIO, ... all negative. */
enum {
#define X(name, sys, text) EVFS_E##name = -(int)EVFS_ERR_INDEX_##name,
	EVFS_ERR_TABLE(X)
#undef X
};

struct evfs_err {
	int code;      /* EVFS_E..., 0 while nothing has failed */
	int sys;       /* errno that came with it, or 0 */
	char msg[256]; /* one line without newline, never empty after a failure */
};

#define EVFS_MUST_USE __attribute__((warn_unused_result))
#define EVFS_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))

/* Fill *err (may be NULL) and return code, so that a failure is one line:
 * return evfs_err_set(err, EVFS_EINVAL, "port %d: not 1 to 65535", port); */
int evfs_err_set(struct evfs_err *err, int code, const char *fmt, ...)
	EVFS_PRINTF(3, 4);

/* The same for a failed system call: ": strerror(sys)" is appended, and the
 * code is the one whose errno is sys (EVFS_EIO where there is none). */
int evfs_err_sys(struct evfs_err *err, int sys, const char *fmt, ...)
	EVFS_PRINTF(3, 4);

/* Puts "text: " in front of the message; returns err->code, or code where err
 * is NULL. Too long: the end is cut. */
int evfs_err_wrap(struct evfs_err *err, int code, const char *fmt, ...)
	EVFS_PRINTF(3, 4);

/* Text of a code ("no such file or directory"); never NULL. */
const char *evfs_err_text(int code);

/* The positive errno that a file operation reports for a code; EIO for codes
 * that are not in the table. */
int evfs_err_errno(int code);

#endif
