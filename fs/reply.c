/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Answers with an error: the mapping of codes to errno values. */
#include "fs/reply.h"

#include <errno.h>

#include "base/log.h"

static bool is_worth_logging(int code)
{
	return code == EVFS_EIO || code == EVFS_ECORRUPT ||
	       code == EVFS_ENOMEM || code == EVFS_ENOSPACE ||
	       code == EVFS_EPROTO || code == EVFS_ECLOSED;
}

void evfs_reply(fuse_req_t req, int rc, const struct evfs_err *err)
{
	int sys;

	if (rc == 0) {
		(void)fuse_reply_err(req, 0);
		return;
	}
	sys = err && err->sys == EINTR ? EINTR : evfs_err_errno(rc);
	if (is_worth_logging(rc))
		evfs_log(EVFS_LOG_ERROR, "file operation failed: err=%s",
			 err && err->msg[0] ? err->msg : evfs_err_text(rc));
	else
		evfs_log(EVFS_LOG_DEBUG, "file operation: err=%s",
			 err && err->msg[0] ? err->msg : evfs_err_text(rc));
	(void)fuse_reply_err(req, sys);
}

void evfs_reply_stale(fuse_req_t req)
{
	(void)fuse_reply_err(req, ESTALE);
}

void evfs_reply_errno(fuse_req_t req, int sys)
{
	(void)fuse_reply_err(req, sys);
}
