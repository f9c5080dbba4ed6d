/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The folder of the working copies, and the room on its disk. */
#include <errno.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "base/io.h"
#include "base/mem.h"
#include "fs/work_priv.h"

#define SPACE_STEP ((uint64_t)64 << 20) /* written between two statvfs */

int evfs_workplace_init(struct evfs_workplace *place, const char *store,
			struct evfs_content *content, struct evfs_err *err)
{
	*place = (struct evfs_workplace){
		.content = content,
		.memory_max = EVFS_WORK_MEMORY_MAX,
	};
	atomic_init(&place->next, 1);
	place->dir = evfs_asprintf("%s/work", store);
	if (!place->dir || pthread_mutex_init(&place->space_lock, NULL) != 0) {
		evfs_free(evfs_steal(place->dir));
		return evfs_err_set(err, EVFS_ENOMEM, "work: no memory");
	}
	evfs_aheads_init(&place->aheads);
	if (mkdir(place->dir, 0700) != 0 && errno != EEXIST) {
		int rc = evfs_err_sys(err, errno, "%s", place->dir);

		evfs_workplace_fini(place);
		return rc;
	}
	return 0;
}

void evfs_workplace_fini(struct evfs_workplace *place)
{
	if (!place->dir)
		return;
	evfs_aheads_fini(&place->aheads);
	(void)pthread_mutex_destroy(&place->space_lock);
	evfs_free(evfs_steal(place->dir));
}

int evfs_workplace_sync(struct evfs_workplace *place, struct evfs_err *err)
{
	return evfs_io_sync_dir(place->dir, err);
}

int evfs_workplace_reserve(struct evfs_workplace *place, uint64_t bytes,
			   struct evfs_err *err)
{
	struct statvfs disk;
	uint64_t free_bytes;
	int rc = 0;

	(void)pthread_mutex_lock(&place->space_lock);
	if (place->space_bytes < bytes) {
		/* Near the end of the disk every write asks again. */
		if (statvfs(place->dir, &disk) != 0) {
			rc = evfs_err_sys(err, errno, "%s", place->dir);
			goto out;
		}
		free_bytes = (uint64_t)disk.f_bavail * disk.f_frsize;
		if (free_bytes < place->reserve_bytes ||
		    free_bytes - place->reserve_bytes < bytes) {
			rc = evfs_err_set(err, EVFS_ENOSPACE,
					  "no space left on the store's disk "
					  "(reserve_free keeps some back)");
			goto out;
		}
		place->space_bytes = (free_bytes - place->reserve_bytes) / 8;
		if (place->space_bytes > SPACE_STEP)
			place->space_bytes = SPACE_STEP;
		if (place->space_bytes < bytes)
			place->space_bytes = bytes;
	}
	place->space_bytes -= bytes;
out:
	(void)pthread_mutex_unlock(&place->space_lock);
	return rc;
}

char *evfs_work_path(const struct evfs_workplace *place, uint64_t number,
		     const char *suffix)
{
	return evfs_asprintf("%s/%llu%s", place->dir,
			     (unsigned long long)number, suffix);
}
