/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The session: mounting, serving, ending. */
#include "fs/fs.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "fs/closes.h"
#include "fs/fs_priv.h"
#include "fs/loop.h"
#include "fs/mount.h"
#include "fs/notify.h"
#include "fs/ops.h"
#include "fs/recover.h"
#include "fs/sealer.h"
#include "meta/config.h"

/* Locks of the mount itself, and the event that ends it. */
static int init_locks(struct evfs_fs *fs, struct evfs_err *err)
{
	pthread_condattr_t attr;
	bool ok;

	(void)pthread_condattr_init(&attr);
	(void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	ok = pthread_mutex_init(&fs->dirty_lock, NULL) == 0 &&
	     pthread_mutex_init(&fs->streams_lock, NULL) == 0 &&
	     pthread_mutex_init(&fs->sealer_lock, NULL) == 0 &&
	     pthread_cond_init(&fs->sealer_wake, &attr) == 0;
	(void)pthread_condattr_destroy(&attr);
	if (!ok)
		return evfs_err_set(err, EVFS_ENOMEM, "no memory");
	fs->exit_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (fs->exit_fd < 0)
		return evfs_err_sys(err, errno, "eventfd");
	return 0;
}

/* What writers leave free: a share of the disk, or bytes. */
static void init_reserve(struct evfs_fs *fs)
{
	struct statvfs disk;
	int64_t share;

	evfs_meta_lock(fs->meta);
	share = evfs_config_get(fs->meta, EVFS_CONFIG_reserve_free);
	evfs_meta_unlock(fs->meta);
	if (share >= 0)
		fs->place.reserve_bytes = (uint64_t)share;
	else if (statvfs(fs->store, &disk) == 0)
		fs->place.reserve_bytes = (uint64_t)disk.f_blocks *
					  disk.f_frsize / 100 *
					  (uint64_t)-share;
}

static int init_store(struct evfs_fs *fs,
		      const struct evfs_fs_options *options,
		      struct evfs_err *err)
{
	char real[PATH_MAX];
	struct stat st;
	int rc;

	/* The same however it was given: it names the mount. */
	if (!realpath(options->store_path, real) || stat(real, &st) != 0)
		return evfs_err_sys(err, errno, "%s", options->store_path);
	fs->store = evfs_strdup(real);
	if (!fs->store)
		return evfs_err_set(err, EVFS_ENOMEM, "no memory");
	fs->root_uid = st.st_uid;
	fs->root_gid = st.st_gid;
	rc = evfs_workplace_init(&fs->place, fs->store, fs->content, err);
	if (rc == 0)
		init_reserve(fs);
	return rc;
}

static int mount_session(struct evfs_fs *fs,
			 const struct evfs_fs_options *options,
			 struct evfs_err *err)
{
	struct fuse_args args;
	char why[200];
	int rc;

	rc = evfs_mount_args(fs->store, options->fuse_options, options->debug,
			     &args, err);
	if (rc != 0)
		return rc;
	evfs_mount_take_log();
	fs->se = fuse_session_new(&args, &evfs_ops, sizeof(evfs_ops), fs);
	fuse_opt_free_args(&args);
	if (!fs->se) {
		evfs_mount_last_log(why, sizeof(why));
		return evfs_err_set(err, EVFS_EINVAL, "mount options: %s",
				    why[0] ? why : "not understood");
	}
	if (fuse_session_mount(fs->se, fs->mountpoint) != 0) {
		evfs_mount_last_log(why, sizeof(why));
		return evfs_err_set(err, EVFS_EIO, "%s: mount failed%s%s",
				    fs->mountpoint, why[0] ? ": " : "", why);
	}
	fs->mounted = true;
	return 0;
}

/* A read quorum is asked at each open. */
static bool may_do_without_opens(struct evfs_fs *fs,
				 const struct evfs_fs_options *options)
{
	struct evfs_quorum_settings settings;

	evfs_quorum_of_mount(fs, &settings);
	return !options->real_opens && settings.read <= 1;
}

int evfs_fs_mount(struct evfs_meta *meta,
		  const struct evfs_fs_options *options, struct evfs_fs **ret,
		  struct evfs_err *err)
{
	struct evfs_fs *fs = evfs_calloc(1, sizeof(*fs));
	int rc;

	if (!fs)
		return evfs_err_set(err, EVFS_ENOMEM, "no memory");
	fs->meta = meta;
	fs->facts = evfs_meta_facts(meta);
	fs->content = evfs_meta_content(meta);
	fs->status_json = options->status_json;
	fs->status_ctx = options->status_ctx;
	fs->write_quorum = options->write_quorum;
	fs->read_quorum = options->read_quorum;
	fs->power_save = options->power_save;
	fs->exit_fd = -1;
	rc = init_locks(fs, err);
	if (rc == 0 && may_do_without_opens(fs, options))
		evfs_closes_new(fs);
	if (rc == 0)
		rc = init_store(fs, options, err);
	if (rc == 0)
		rc = evfs_mount_point(options->mountpoint, fs->store,
				      &fs->mountpoint, err);
	if (rc == 0)
		rc = evfs_recover(fs, err);
	if (rc == 0)
		rc = evfs_nodes_init(fs, err);
	if (rc == 0)
		rc = evfs_waits_init(fs, err);
	if (rc == 0)
		rc = evfs_notify_new(fs, err);
	if (rc == 0)
		rc = mount_session(fs, options, err);
	if (rc != 0) {
		evfs_fs_free(fs);
		return rc;
	}
	*ret = fs;
	return 0;
}

bool evfs_fs_opens_quietly(const struct evfs_fs *fs)
{
	return atomic_load(&fs->quiet_opens);
}

void evfs_fs_exit(struct evfs_fs *fs)
{
	const uint64_t one = 1;
	int saved = errno;

	/* Full is as good: somebody said it before. */
	if (write(fs->exit_fd, &one, sizeof(one)) < 0)
		errno = saved;
	errno = saved;
}

/* While workers still serve: what the kernel holds comes here, what is dirty
 * is sealed; then the threads that talk to the kernel end. */
static void wind_up(struct evfs_fs *fs)
{
	evfs_waits_close(fs);
	evfs_sealer_stop(fs);
	if (!fuse_session_exited(fs->se))
		evfs_sealer_flush_kernel(fs);
	evfs_closes_stop(fs);
	evfs_notify_stop(fs);
}

int evfs_fs_loop(struct evfs_fs *fs, struct evfs_err *err)
{
	struct evfs_err local = { 0 };
	int rc, rc_sync;

	rc = evfs_notify_start(fs, err);
	if (rc != 0)
		return rc;
	rc = evfs_sealer_start(fs, err);
	if (rc == 0)
		rc = evfs_loop_start(fs, &fs->loop, err);
	if (rc != 0) {
		evfs_sealer_stop(fs);
		evfs_notify_stop(fs);
		return rc;
	}
	rc = evfs_closes_start(fs, err);
	if (rc == 0) {
		evfs_mount_read_ahead(fs->mountpoint, fs->store);
		evfs_loop_wait(fs->loop);
	}
	wind_up(fs);
	if (rc == 0)
		rc = evfs_loop_stop(evfs_steal(fs->loop), err);
	else
		(void)!evfs_loop_stop(evfs_steal(fs->loop), NULL);
	if (fs->mounted)
		fuse_session_unmount(fs->se);
	fs->mounted = false;
	evfs_fs_seal_all(fs);
	rc_sync = evfs_meta_sync(fs->meta, &local);
	if (rc == 0 && rc_sync != 0) {
		rc = rc_sync;
		if (err)
			*err = local;
	}
	return rc;
}

void evfs_fs_free(struct evfs_fs *fs)
{
	if (!fs)
		return;
	if (fs->mounted)
		fuse_session_unmount(fs->se);
	if (fs->se)
		fuse_session_destroy(fs->se);
	if (fs->waits.inited)
		evfs_waits_fini(fs);
	evfs_notify_free(fs);
	evfs_closes_free(fs);
	evfs_nodes_fini(fs);
	evfs_free(fs->stale);
	evfs_workplace_fini(&fs->place);
	if (fs->exit_fd >= 0)
		(void)close(fs->exit_fd);
	(void)pthread_cond_destroy(&fs->sealer_wake);
	(void)pthread_mutex_destroy(&fs->sealer_lock);
	(void)pthread_mutex_destroy(&fs->streams_lock);
	(void)pthread_mutex_destroy(&fs->dirty_lock);
	evfs_free(fs->mountpoint);
	evfs_free(fs->store);
	evfs_free(fs);
}
