/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Working copies that are a promise: fsync(2) has returned, and they are not
 * sealed yet. */
#include <assert.h>
#include <errno.h>
#include <unistd.h>

#include "base/io.h"
#include "fs/work_priv.h"

/* Hashing less than that takes no longer than the syncs of keeping it. */
#define LONG_MIN ((uint64_t)16 << 20)

bool evfs_work_is_long(const struct evfs_work *work)
{
	return work->log_fd >= 0 && work->ahead && !work->adopted &&
	       evfs_work_is_complete(work) &&
	       evfs_ahead_left(work->ahead) >= LONG_MIN;
}

int evfs_work_sync_files(struct evfs_work *work, struct evfs_err *err)
{
	/* The log last: it tells of bytes that are there. */
	if (fdatasync(work->fd) != 0 || fdatasync(work->log_fd) != 0)
		return evfs_err_sys(err, errno, "sync of a working copy");
	return evfs_workplace_sync(work->place, err);
}

int evfs_work_keep(struct evfs_work *work, int64_t mtime_s, uint32_t mtime_ns,
		   struct evfs_err *err)
{
	int rc;

	assert(work->fd >= 0 && !work->adopted);
	rc = evfs_work_log_time(work, mtime_s, mtime_ns, err);
	if (rc == 0)
		rc = evfs_work_sync_files(work, err);
	work->kept = work->kept || rc == 0;
	return rc;
}

bool evfs_work_is_kept(const struct evfs_work *work)
{
	return work->kept;
}

void evfs_work_release(struct evfs_work *work)
{
	work->kept = false;
}

void evfs_work_close_files(struct evfs_work *work)
{
	if (work->fd >= 0)
		(void)close(work->fd);
	if (work->log_fd >= 0)
		(void)close(work->log_fd);
	work->fd = -1;
	work->log_fd = -1;
}
