/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Write-behind for a long file that is written from front to back and not read
 * again soon: its bytes are sent to the disk as they come, and leave memory
 * when they are there. So a file of any length takes up a few dozen MiB of
 * memory, pushes nothing else out of it, and its sync finds little to do.
 * Not thread-safe. */
#ifndef EVFS_BASE_BEHIND_H
#define EVFS_BASE_BEHIND_H

#include <stdbool.h>
#include <stdint.h>

#define EVFS_BEHIND_MIN (64u << 20) /* shorter files are not worth it */

struct evfs_behind {
	uint64_t sent;    /* bytes before it are on their way */
	uint64_t dropped; /* bytes before it have left memory */
};

/* The file has its bytes up to `end`; less than the last time is fine. May wait
 * for the disk, which so slows its writers down. False: a write has failed; the
 * kernel tells that once, so the caller must not trust the next fdatasync. What
 * is not known to be on the disk is still in memory. */
bool evfs_behind(int fd, struct evfs_behind *behind, uint64_t end);

#endif
