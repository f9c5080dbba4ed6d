/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The threads that hear of closes, and do what follows. */
#include "fs/closes.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/fanotify.h>
#include <sys/resource.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/io.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/thread.h"
#include "fs/fs_priv.h"
#include "fs/loop.h"
#include "fs/writer.h"

/* linux/fcntl.h, since Linux 6.5; there a file system that cannot be exported
 * gives its handles only so. */
#ifndef AT_HANDLE_FID
#define AT_HANDLE_FID AT_REMOVEDIR
#endif

#define EVENTS_MAX 64 /* taken at once: each comes with an open file */
#define SMALL_BYTES ((uint64_t)1 << 20) /* sealed without a worker's help */
#define HURRY_PRIORITY 1

struct closed {
	uint64_t node;     /* id */
	uint64_t heard_ns; /* monotonic: when */
};

/* Who hears, and who does what follows. */
struct evfs_closes {
	pthread_t hearer, sealer;
	int fd;               /* of fanotify */
	int end_fd;           /* eventfd: they are to end */
	unsigned n_threads;   /* to be joined: the sealer came first */
	pthread_mutex_t lock; /* leaf: all below */
	pthread_cond_t more;  /* there is something to do, or ended */
	struct closed *items; /* owned: heard of, not worked off */
	size_t n, cap;
	bool ended;           /* nothing more is heard */
};

/* Who is in a hurry may wait for the lock: its holder is then, too. */
static bool init_lock(struct evfs_closes *closes)
{
	pthread_mutexattr_t attr;
	bool ok;

	if (pthread_mutexattr_init(&attr) != 0)
		return false;
	ok = pthread_mutexattr_setprotocol(&attr, PTHREAD_PRIO_INHERIT) == 0 &&
	     pthread_mutex_init(&closes->lock, &attr) == 0;
	(void)pthread_mutexattr_destroy(&attr);
	if (ok && pthread_cond_init(&closes->more, NULL) != 0) {
		(void)pthread_mutex_destroy(&closes->lock);
		ok = false;
	}
	return ok;
}

void evfs_closes_new(struct evfs_fs *fs)
{
	struct evfs_closes *closes;
	int fd = fanotify_init(FAN_CLASS_NOTIF | FAN_CLOEXEC | FAN_NONBLOCK |
			       FAN_UNLIMITED_QUEUE,
			       O_RDONLY | O_CLOEXEC | O_LARGEFILE | O_NOATIME);

	if (fd < 0)
		return; /* an ordinary user */
	closes = evfs_calloc(1, sizeof(*closes));
	if (!closes || !init_lock(closes)) {
		evfs_free(closes);
		(void)close(fd);
		return;
	}
	closes->fd = fd;
	closes->end_fd = -1;
	fs->closes = closes;
}

void evfs_closes_free(struct evfs_fs *fs)
{
	struct evfs_closes *closes = evfs_steal(fs->closes);

	if (!closes)
		return;
	(void)close(closes->fd);
	if (closes->end_fd >= 0)
		(void)close(closes->end_fd);
	(void)pthread_cond_destroy(&closes->more);
	(void)pthread_mutex_destroy(&closes->lock);
	evfs_free(closes->items);
	evfs_free(closes);
}

/* ---- hearing ---- */

/* The kernel's number of a FUSE inode, out of its handle: the node id in two
 * halves, the upper one first, then the generation. 0: not to be had. */
static uint64_t node_id_of(int fd)
{
	union {
		struct file_handle handle;
		char room[sizeof(struct file_handle) + MAX_HANDLE_SZ];
	} to;
	uint32_t half[2];
	int mount;

	to.handle.handle_bytes = MAX_HANDLE_SZ;
	if (name_to_handle_at(fd, "", &to.handle, &mount,
			      AT_EMPTY_PATH | AT_HANDLE_FID) != 0) {
		to.handle.handle_bytes = MAX_HANDLE_SZ;
		if (name_to_handle_at(fd, "", &to.handle, &mount,
				      AT_EMPTY_PATH) != 0)
			return 0;
	}
	if (to.handle.handle_bytes < sizeof(half))
		return 0;
	memcpy(half, to.handle.f_handle, sizeof(half));
	return (uint64_t)half[0] << 32 | half[1];
}

/* Takes what is there. False: nothing was. */
static bool hear(struct evfs_fs *fs)
{
	struct fanotify_event_metadata events[EVENTS_MAX];
	const struct fanotify_event_metadata *event = events;
	struct evfs_closes *closes = fs->closes;
	struct closed heard[EVENTS_MAX];
	ssize_t len = read(closes->fd, events, sizeof(events));
	size_t n = 0;
	void *items;

	if (len <= 0) {
		if (len < 0 && errno != EAGAIN && errno != EINTR)
			evfs_log(EVFS_LOG_WARN, "closes: %s",
				 strerror(errno));
		return false;
	}
	for (; FAN_EVENT_OK(event, len); event = FAN_EVENT_NEXT(event, len)) {
		if (event->fd < 0)
			continue; /* overflow: there is no limit to exceed */
		heard[n].heard_ns = evfs_fs_mono_ns(fs);
		heard[n++].node = node_id_of(event->fd);
		(void)close(event->fd);
	}
	(void)pthread_mutex_lock(&closes->lock);
	items = closes->items;
	/* Without memory the sealer of fs/seal.c comes by, only later. */
	for (size_t i = 0; i < n; i++) {
		if (evfs_grow(&items, closes->n, &closes->cap,
			      sizeof(*closes->items)) != 0)
			break;
		closes->items = items;
		closes->items[closes->n++] = heard[i];
	}
	(void)pthread_cond_signal(&closes->more);
	(void)pthread_mutex_unlock(&closes->lock);
	return true;
}

/* An event keeps the mount busy: whoever closes a file and unmounts must not
 * find it so because this machine has much to do. */
static void hurry(void)
{
	const struct sched_param param = { .sched_priority = HURRY_PRIORITY };

	if (pthread_setschedparam(pthread_self(), SCHED_FIFO, &param) != 0)
		(void)setpriority(PRIO_PROCESS, (id_t)gettid(), PRIO_MIN);
}

static void *hearer_main(void *arg)
{
	struct evfs_fs *fs = arg;
	struct evfs_closes *closes = fs->closes;
	bool ending = false;

	hurry();
	while (!ending) {
		struct pollfd fds[2] = {
			{ .fd = closes->fd, .events = POLLIN },
			{ .fd = closes->end_fd, .events = POLLIN }
		};

		(void)poll(fds, 2, -1);
		ending = fds[1].revents != 0; /* what is there comes first */
		while (hear(fs))
			;
	}
	(void)pthread_mutex_lock(&closes->lock);
	closes->ended = true;
	(void)pthread_cond_signal(&closes->more);
	(void)pthread_mutex_unlock(&closes->lock);
	return NULL;
}

/* ---- what follows ---- */

static void seal_call(struct evfs_fs *fs, void *arg)
{
	struct closed *closed = arg;
	struct evfs_node *node = evfs_node_pin(fs, closed->node);

	if (node && node->file)
		evfs_writer_closed(fs, node, closed->heard_ns);
	evfs_node_unpin(fs, node);
	evfs_free(closed);
}

/* Another writer may have it open still. That is as good: what each of them
 * has written until it closes is what the version has. */
static void work_off(struct evfs_fs *fs, const struct closed *closed)
{
	struct evfs_node *node = evfs_node_pin(fs, closed->node);
	uint64_t bytes = node && node->file ? evfs_writer_unsealed(fs, node) :
					      0;
	struct closed *big = NULL;

	if (bytes > SMALL_BYTES)
		big = evfs_memdup(closed, sizeof(*closed));
	if (big && !evfs_loop_call(fs->loop, seal_call, big))
		evfs_free(evfs_steal(big));
	if (node && node->file && !big)
		evfs_writer_closed(fs, node, closed->heard_ns);
	evfs_node_unpin(fs, node);
}

static void *sealer_main(void *arg)
{
	struct evfs_fs *fs = arg;
	struct evfs_closes *closes = fs->closes;
	struct closed *items = NULL;
	bool ended = false;

	while (!ended) {
		size_t n;

		(void)pthread_mutex_lock(&closes->lock);
		while (closes->n == 0 && !closes->ended)
			(void)pthread_cond_wait(&closes->more, &closes->lock);
		ended = closes->ended;
		items = evfs_steal(closes->items);
		n = closes->n;
		closes->n = closes->cap = 0;
		(void)pthread_mutex_unlock(&closes->lock);
		for (size_t i = 0; i < n; i++)
			work_off(fs, &items[i]);
		evfs_free(items);
	}
	return NULL;
}

/* ---- life ---- */

/* What is mounted here, if that may be us; else -1 with errno set. */
static int open_root(struct evfs_fs *fs)
{
	evfs_cleanup_fd int dir = open(fs->mountpoint,
				       O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct statfs disk;
	int root = dir;

	if (dir < 0 || fstatfs(dir, &disk) != 0)
		return -1;
	if ((uint32_t)disk.f_type != FUSE_SUPER_MAGIC) {
		errno = ENOTCONN;
		return -1;
	}
	dir = -1;
	return root;
}

static int mark(struct evfs_fs *fs)
{
	evfs_cleanup_fd int root = open_root(fs);

	if (root < 0)
		return errno;
	if (fanotify_mark(fs->closes->fd, FAN_MARK_ADD | FAN_MARK_FILESYSTEM,
			  FAN_CLOSE_WRITE, root, NULL) != 0)
		return errno;
	return 0;
}

static int run(pthread_t *thread, void *(*main)(void *arg), struct evfs_fs *fs,
	       const char *what, struct evfs_err *err)
{
	int rc = evfs_thread_start(thread, main, fs, what, err);

	if (rc == 0)
		fs->closes->n_threads++;
	return rc;
}

int evfs_closes_start(struct evfs_fs *fs, struct evfs_err *err)
{
	struct evfs_closes *closes = fs->closes;
	int sys, rc;

	if (!closes)
		return 0;
	sys = mark(fs);
	if (sys != 0) {
		evfs_log(EVFS_LOG_INFO, "files are opened with messages: "
			 "err=%s", strerror(sys));
		return 0;
	}
	closes->end_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (closes->end_fd < 0)
		return evfs_err_sys(err, errno, "eventfd");
	rc = run(&closes->sealer, sealer_main, fs, "sealer of closes", err);
	if (rc == 0)
		rc = run(&closes->hearer, hearer_main, fs, "hearer of closes",
			 err);
	if (rc != 0)
		return rc;
	atomic_store(&fs->quiet_opens, atomic_load(&fs->may_open_quietly));
	return 0;
}

void evfs_closes_stop(struct evfs_fs *fs)
{
	struct evfs_closes *closes = fs->closes;

	if (!closes || closes->n_threads == 0)
		return;
	if (closes->n_threads > 1) {
		(void)eventfd_write(closes->end_fd, 1);
		(void)pthread_join(closes->hearer, NULL);
	} else { /* the hearer could not be started */
		(void)pthread_mutex_lock(&closes->lock);
		closes->ended = true;
		(void)pthread_cond_signal(&closes->more);
		(void)pthread_mutex_unlock(&closes->lock);
	}
	(void)pthread_join(closes->sealer, NULL);
	closes->n_threads = 0;
}

/* The mount is open for a moment only: it must not be busy for whoever wants to
 * unmount it. */
void evfs_closes_flush(struct evfs_fs *fs)
{
	evfs_cleanup_fd int root = open_root(fs);

	if (root >= 0)
		(void)syncfs(root);
}
