/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The inside of struct evfs_fs, for fs/ alone: which module owns which part. */
#ifndef EVFS_FS_FS_PRIV_H
#define EVFS_FS_FS_PRIV_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define FUSE_USE_VERSION 314
#include <fuse_lowlevel.h>

#include "base/err.h"
#include "fs/fs.h"
#include "fs/node.h"
#include "fs/quorum.h"
#include "fs/wait.h"
#include "fs/work.h"
#include "meta/content.h"
#include "meta/meta.h"

/* What the kernel may remember without asking again: it is told when to
 * forget (fs/notify.h). In seconds; more than thirty years. */
#define EVFS_FS_FOREVER 1e9

struct evfs_closes;
struct evfs_loop;
struct evfs_notify;
struct evfs_stream;

struct evfs_fs {
	struct evfs_meta *meta;         /* borrowed */
	struct evfs_facts *facts;       /* of meta */
	struct evfs_content *content;   /* of meta */
	char *store;                    /* owned: path of the store */
	char *mountpoint;               /* owned: absolute */
	int (*status_json)(void *ctx, struct evfs_buf *out); /* or NULL */
	void *status_ctx;               /* its argument */
	struct fuse_session *se;        /* owned */
	bool mounted;                   /* fuse_session_mount succeeded */
	uint32_t root_uid, root_gid;    /* owner of the store directory: whose
	                                 * the root is until somebody says */
	int exit_fd;                    /* eventfd: evfs_fs_exit() was called */
	struct evfs_nodes nodes;        /* what the kernel knows */
	struct evfs_workplace place;    /* working copies */
	struct evfs_waits waits;        /* requests that wait for content */
	struct evfs_fresh fresh;        /* files just compared with others */
	unsigned write_quorum, read_quorum; /* of this mount, or 0 */
	bool power_save; /* processors may sleep between requests */
	struct evfs_notify *notify;     /* owned: the notify thread */
	struct evfs_loop *loop;         /* owned while it serves: the workers */
	struct evfs_closes *closes;     /* owned: hears of closes; NULL where
	                                 * that is not permitted */
	atomic_bool may_open_quietly;   /* the kernel can */
	atomic_bool quiet_opens;        /* nobody need open with a message */
	pthread_mutex_t streams_lock;   /* leaf: the list below */
	struct evfs_stream *streams;    /* open directories (fs/ops_dir.c) */
	pthread_mutex_t dirty_lock;     /* leaf: the list below and the `pub`
	                                 * part of file nodes */
	struct evfs_node *dirty_head;   /* files written and not sealed */
	uint64_t dirty_count;           /* their number */
	uint64_t n_writers;             /* handles that may write */
	uint64_t flushed_ns;            /* monotonic, the sealer's: when the
	                                 * kernel last handed over all */
	evfs_ino *stale;                /* owned; under dirty_lock: files whose
	                                 * times changed elsewhere, where it is
	                                 * not known who has them open; some
	                                 * more than once */
	size_t n_stale, stale_cap;
	pthread_t sealer;               /* seals what stays open and dirty */
	bool sealer_runs;               /* sealer is to be joined */
	bool sealer_stop;               /* under sealer_lock */
	bool sealer_due;                /* the same: some file is due */
	pthread_mutex_t sealer_lock;    /* for the two above */
	pthread_cond_t sealer_wake;     /* one of them was set */
};

/* The store's settings and clocks, short. */
static inline uint64_t evfs_fs_mono_ns(const struct evfs_fs *fs)
{
	const struct evfs_env *env = evfs_meta_env(fs->meta);

	return env->mono_ns(env->ctx);
}

static inline uint64_t evfs_fs_wall_ns(const struct evfs_fs *fs)
{
	const struct evfs_env *env = evfs_meta_env(fs->meta);

	return env->wall_ns(env->ctx);
}

static inline struct evfs_fs *evfs_fs_of(fuse_req_t req)
{
	return fuse_req_userdata(req);
}

#endif
