/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Write-behind; see behind.h. */
#include "base/behind.h"

#include <errno.h>
#include <fcntl.h>

#define STEP ((uint64_t)8 << 20) /* given to the disk at a time */
#define LAG ((uint64_t)24 << 20) /* under way before it is waited for */

bool evfs_behind(int fd, struct evfs_behind *behind, uint64_t end)
{
	while (end >= behind->sent + STEP) {
		if (sync_file_range(fd, (off_t)behind->sent, (off_t)STEP,
				    SYNC_FILE_RANGE_WRITE) != 0)
			return errno != EIO && errno != ENOSPC;
		behind->sent += STEP;
	}
	while (behind->sent - behind->dropped >= LAG + STEP) {
		if (sync_file_range(fd, (off_t)behind->dropped, (off_t)STEP,
				    SYNC_FILE_RANGE_WAIT_BEFORE) != 0)
			return false;
		(void)posix_fadvise(fd, (off_t)behind->dropped, (off_t)STEP,
				    POSIX_FADV_DONTNEED);
		behind->dropped += STEP;
	}
	return true;
}
