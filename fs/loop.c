/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The workers: leader and followers (Schmidt et al., "Leader/Followers", 2000).
 *
 * One worker at a time, the leader, takes requests. A short one it serves
 * itself and goes on leading: nobody else is woken, which costs more than most
 * requests do. Before a long one it hands the lead to a follower; the end of a
 * handle, for which nobody waits, it leaves to one. Which are
 * long cannot all be told beforehand (a name may wait for content from a
 * peer, a close for a sync), so one follower, the deputy, looks every
 * millisecond while there are requests, and takes the lead where one request
 * has kept the leader since its last look.
 *
 * A program that makes one request after the other sends the next within
 * microseconds of the answer. To be woken for it takes longer than to serve it
 * (most of all where the processor was put to rest meanwhile); so while
 * requests follow each other closely the leader polls for some microseconds
 * before it sleeps, giving way to whoever wants its processor. Where somebody
 * took it for long, the leader does not poll for a while: one who gives way is
 * served late, one who sleeps is woken at once. */
#include "fs/loop.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <poll.h>
#include <sched.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/thread.h"
#include "fs/cpu_latency.h"
#include "fs/fs_priv.h"

#define PARKED_MAX 8                /* followers; those beyond end */
#define LOOK_NS 1000000L            /* between two looks of the deputy */
#define POLL_NS UINT64_C(50000)     /* that the leader polls */
#define CLOSE_NS UINT64_C(100000)   /* requests that follow closely */
#define WANTED_NS UINT64_C(2000000)  /* a whole turn of somebody else's */
#define CROWDED_NS UINT64_C(20000000) /* that it does not poll then */
#define SHORT_BYTES_MAX (64u << 10) /* moved by a request that is short */
#define LEFT_MAX 64                 /* requests left to followers */
#define LEFT_BYTES_MAX 4096         /* of one */

/* A request that the leader left to others, or a call from elsewhere. */
struct job {
	struct job *next;
	void (*call)(struct evfs_fs *fs, void *arg); /* or NULL */
	void *arg;           /* its argument */
	struct fuse_buf buf; /* of data */
	alignas(8) uint8_t data[];
};

struct worker {
	pthread_t thread;
	struct evfs_loop *loop;
	struct fuse_buf buf;        /* its memory is libfuse's (malloc) */
	uint64_t crowded_until;     /* others want its processor (clock) */
	struct worker *next, *prev; /* under the loop's lock */
};

struct evfs_loop {
	struct evfs_fs *fs;
	int fd;           /* of the kernel's device */
	int end_fd;       /* eventfd: it ends */
	bool may_poll;    /* there is another processor to serve the client */
	_Atomic(struct worker *) leader; /* changed under the lock; NULL: all
	                                  * are busy */
	atomic_uint_fast64_t taken; /* requests, ever */
	atomic_uint_fast64_t serving; /* which of them the leader is at; 0: it
	                               * waits for one */
	atomic_bool deputy_sleeps;  /* until it is told of a request */
	struct evfs_cpu_latency latency;
	pthread_mutex_t lock;       /* all below */
	pthread_cond_t more;        /* the lead is free, or ending */
	pthread_cond_t look;        /* for the deputy: requests come, or ending */
	struct worker *head;        /* those that run */
	unsigned n;                 /* their number */
	unsigned parked;            /* those that wait for the lead */
	bool has_deputy;            /* one of them */
	struct job *jobs, **jobs_end; /* left by the leader, in order */
	unsigned n_jobs;            /* their number */
	bool ending;                /* no more are started, none leaves */
	int error;                  /* errno of the device, 0 none */
};

static uint64_t loop_now_ns(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void worker_free(struct worker *worker)
{
	free(worker->buf.mem);
	evfs_free(worker);
}

/* Locked. */
static void worker_unlink(struct evfs_loop *loop, struct worker *worker)
{
	if (worker->prev)
		worker->prev->next = worker->next;
	else
		loop->head = worker->next;
	if (worker->next)
		worker->next->prev = worker->prev;
	loop->n--;
}

static void *worker_main(void *arg);

/* Locked. */
static int worker_start(struct evfs_loop *loop, struct evfs_err *err)
{
	struct worker *worker = evfs_calloc(1, sizeof(*worker));
	int rc;

	if (!worker)
		return evfs_err_set(err, EVFS_ENOMEM, "worker: no memory");
	worker->loop = loop;
	rc = evfs_thread_start(&worker->thread, worker_main, worker, "worker",
			       err);
	if (rc != 0) {
		evfs_free(worker);
		return rc;
	}
	worker->next = loop->head;
	if (loop->head)
		loop->head->prev = worker;
	loop->head = worker;
	loop->n++;
	return 0;
}

/* ---- who leads ---- */

/* Locked. There is somebody, or soon will be, to lead when it is free and to
 * look while it is not. */
static void loop_call_follower(struct evfs_loop *loop)
{
	if (loop->ending)
		return;
	if (loop->parked > 0)
		(void)pthread_cond_signal(&loop->more);
	else if (loop->n < EVFS_FS_THREADS_MAX && worker_start(loop, NULL) != 0)
		evfs_log(EVFS_LOG_DEBUG, "no thread for one more worker");
}

/* Before a request that may take long. */
static void leader_resign(struct evfs_loop *loop)
{
	(void)pthread_mutex_lock(&loop->lock);
	atomic_store(&loop->leader, NULL);
	if (loop->has_deputy && loop->parked == 1)
		(void)pthread_cond_signal(&loop->look);
	else
		loop_call_follower(loop);
	(void)pthread_mutex_unlock(&loop->lock);
}

/* Locked. Looks until the lead is to be taken. */
static void deputy_look(struct evfs_loop *loop)
{
	uint_fast64_t seen = 0;

	while (!loop->ending && atomic_load(&loop->leader)) {
		struct timespec until;

		(void)clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_nsec += LOOK_NS;
		if (until.tv_nsec >= 1000000000L) {
			until.tv_sec++;
			until.tv_nsec -= 1000000000L;
		}
		(void)pthread_cond_timedwait(&loop->look, &loop->lock, &until);
		if (loop->ending || !atomic_load(&loop->leader))
			break;
		if (seen != atomic_load(&loop->taken)) {
			seen = atomic_load(&loop->taken);
			continue;
		}
		if (atomic_load(&loop->serving) == seen) {
			atomic_store(&loop->leader, NULL);
			(void)atomic_compare_exchange_strong(&loop->serving,
							     &seen, 0);
			break;
		}
		evfs_cpu_latency_quiet(&loop->latency);
		/* Nothing goes on. Who takes a request after the second look
		 * sees that the deputy sleeps. */
		atomic_store(&loop->deputy_sleeps, true);
		if (seen == atomic_load(&loop->taken))
			(void)pthread_cond_wait(&loop->look, &loop->lock);
		atomic_store(&loop->deputy_sleeps, false);
	}
}

/* Locked, but not while it serves the request. */
static void job_serve(struct evfs_loop *loop)
{
	struct job *job = loop->jobs;

	loop->jobs = job->next;
	if (!loop->jobs)
		loop->jobs_end = &loop->jobs;
	loop->n_jobs--;
	(void)pthread_mutex_unlock(&loop->lock);
	if (job->call)
		job->call(loop->fs, job->arg);
	else
		fuse_session_process_buf(loop->fs->se, &job->buf);
	evfs_free(job);
	(void)pthread_mutex_lock(&loop->lock);
}

/* Waits for the lead, serving what the leader leaves. False: it is one too
 * many, and on nobody's list any more, or everything ends. */
static bool worker_lead(struct evfs_loop *loop, struct worker *worker)
{
	bool leads = false;

	(void)pthread_mutex_lock(&loop->lock);
	for (;;) {
		if (!loop->ending && !atomic_load(&loop->leader)) {
			atomic_store(&loop->leader, worker);
			leads = true;
			break;
		}
		if (loop->jobs) {
			job_serve(loop);
			continue;
		}
		if (loop->ending)
			break;
		if (loop->parked >= PARKED_MAX) {
			worker_unlink(loop, worker);
			(void)pthread_detach(worker->thread);
			(void)pthread_mutex_unlock(&loop->lock);
			worker_free(worker);
			return false;
		}
		loop->parked++;
		if (!loop->has_deputy) {
			loop->has_deputy = true;
			deputy_look(loop);
			loop->has_deputy = false;
		} else {
			(void)pthread_cond_wait(&loop->more, &loop->lock);
		}
		loop->parked--;
	}
	/* One that was parked has become the leader: there must be a deputy. */
	if (leads && (!loop->has_deputy || loop->jobs))
		loop_call_follower(loop);
	(void)pthread_mutex_unlock(&loop->lock);
	return leads;
}

/* ---- requests ---- */

/* May it move much data, or wait for a disk? */
static bool is_long(const struct worker *worker)
{
	const struct fuse_in_header *in = worker->buf.mem;
	const struct fuse_read_in *read_in = (const void *)(in + 1);

	switch (in->opcode) {
	case FUSE_READ:
		return read_in->size > SHORT_BYTES_MAX;
	case FUSE_FSYNC:
	case FUSE_FSYNCDIR:
	case FUSE_FALLOCATE:
	case FUSE_COPY_FILE_RANGE:
	case FUSE_LSEEK:
		return true;
	default:
		return in->len > SHORT_BYTES_MAX;
	}
}

/* Nobody waits for the answer, and it may take long: a version is sealed when
 * its writer is done. */
static bool may_be_left(const struct worker *worker)
{
	const struct fuse_in_header *in = worker->buf.mem;

	return in->opcode == FUSE_RELEASE && in->len <= LEFT_BYTES_MAX;
}

/* Leaves a job to the followers, who free it. False: there are too many. */
static bool loop_leave(struct evfs_loop *loop, struct job *job)
{
	bool left = false;

	(void)pthread_mutex_lock(&loop->lock);
	if (loop->n_jobs < LEFT_MAX && !loop->ending) {
		*loop->jobs_end = job;
		loop->jobs_end = &job->next;
		loop->n_jobs++;
		left = true;
		if (loop->parked > (loop->has_deputy ? 1u : 0u))
			(void)pthread_cond_signal(&loop->more);
		else if (loop->n_jobs == 1 && loop->n < EVFS_FS_THREADS_MAX)
			(void)!worker_start(loop, NULL);
	}
	(void)pthread_mutex_unlock(&loop->lock);
	return left;
}

/* False: somebody must do it now. */
static bool leader_leave(struct evfs_loop *loop, const struct worker *worker)
{
	struct job *job = evfs_calloc(1, sizeof(*job) + worker->buf.size);

	if (!job)
		return false;
	memcpy(job->data, worker->buf.mem, worker->buf.size);
	job->buf = worker->buf;
	job->buf.mem = job->data;
	if (loop_leave(loop, job))
		return true;
	evfs_free(job);
	return false;
}

bool evfs_loop_call(struct evfs_loop *loop,
		    void (*call)(struct evfs_fs *fs, void *arg), void *arg)
{
	struct job *job = evfs_calloc(1, sizeof(*job));

	if (!job)
		return false;
	job->call = call;
	job->arg = arg;
	if (loop_leave(loop, job))
		return true;
	evfs_free(job);
	return false;
}

static void loop_over(struct evfs_loop *loop, int sys)
{
	(void)pthread_mutex_lock(&loop->lock);
	if (loop->error == 0)
		loop->error = sys;
	(void)pthread_mutex_unlock(&loop->lock);
	fuse_session_exit(loop->fs->se);
	evfs_fs_exit(loop->fs);
}

/* Sleeps until there is a request or the end. */
static void leader_sleep(struct evfs_loop *loop)
{
	struct pollfd fds[2] = { { .fd = loop->fd, .events = POLLIN },
				 { .fd = loop->end_fd, .events = POLLIN } };

	(void)poll(fds, 2, -1);
}

/* False: somebody wanted the processor. */
static bool leader_gives_way(struct worker *worker, uint64_t now)
{
	uint64_t back;

	(void)sched_yield();
	back = loop_now_ns();
	if (back - now < WANTED_NS)
		return true;
	worker->crowded_until = back + CROWDED_NS;
	return false;
}

/* Takes one request. False: there is none to be had any more, or this worker
 * does not lead any more. *close: the last one came closely behind the one
 * before; kept by the caller. */
static bool leader_receive(struct evfs_loop *loop, struct worker *worker,
			   bool *close)
{
	struct fuse_session *se = loop->fs->se;
	uint64_t begin = loop_now_ns();
	bool polls = *close && loop->may_poll &&
		     begin >= worker->crowded_until;

	while (!fuse_session_exited(se) &&
	       atomic_load(&loop->leader) == worker) {
		int got = fuse_session_receive_buf(se, &worker->buf);
		uint64_t now = loop_now_ns();

		if (got > 0) {
			*close = now - begin < CLOSE_NS;
			evfs_cpu_latency_request(&loop->latency, now);
			return true;
		}
		if (got == 0 || (got != -EINTR && got != -EAGAIN)) {
			loop_over(loop, -got); /* 0: unmounted */
			return false;
		}
		if (polls && now - begin < POLL_NS) {
			polls = leader_gives_way(worker, now);
			continue;
		}
		polls = false;
		leader_sleep(loop);
	}
	return false;
}

static void deputy_wake(struct evfs_loop *loop)
{
	(void)pthread_mutex_lock(&loop->lock);
	(void)pthread_cond_signal(&loop->look);
	(void)pthread_mutex_unlock(&loop->lock);
}

/* Serves one request. False: this worker does not lead any more. */
static bool leader_serve(struct evfs_loop *loop, struct worker *worker)
{
	uint_fast64_t number = atomic_fetch_add(&loop->taken, 1) + 1;

	if (may_be_left(worker) && leader_leave(loop, worker))
		return true;
	if (is_long(worker) || may_be_left(worker)) {
		leader_resign(loop);
		fuse_session_process_buf(loop->fs->se, &worker->buf);
		return false;
	}
	atomic_store(&loop->serving, number);
	if (atomic_load(&loop->deputy_sleeps))
		deputy_wake(loop);
	fuse_session_process_buf(loop->fs->se, &worker->buf);
	/* Unless the deputy leads by now, and is at another. */
	(void)atomic_compare_exchange_strong(&loop->serving, &number, 0);
	return atomic_load(&loop->leader) == worker;
}

static void *worker_main(void *arg)
{
	struct worker *worker = arg;
	struct evfs_loop *loop = worker->loop;

	while (worker_lead(loop, worker)) {
		bool close = false;

		while (leader_receive(loop, worker, &close) &&
		       leader_serve(loop, worker))
			;
		if (fuse_session_exited(loop->fs->se))
			break;
	}
	return NULL; /* freed by evfs_loop_stop(), unless it left */
}

/* ---- life ---- */

static int loop_init(struct evfs_loop *loop)
{
	pthread_condattr_t attr;
	int sys = pthread_condattr_init(&attr);

	if (sys != 0)
		return sys;
	(void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	(void)pthread_mutex_init(&loop->lock, NULL);
	(void)pthread_cond_init(&loop->more, &attr);
	(void)pthread_cond_init(&loop->look, &attr);
	(void)pthread_condattr_destroy(&attr);
	loop->end_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (loop->end_fd < 0 || fcntl(loop->fd, F_SETFL, O_NONBLOCK) != 0)
		return errno;
	return 0;
}

static void loop_free(struct evfs_loop *loop)
{
	evfs_cpu_latency_free(&loop->latency);
	(void)pthread_cond_destroy(&loop->look);
	(void)pthread_cond_destroy(&loop->more);
	(void)pthread_mutex_destroy(&loop->lock);
	if (loop->end_fd >= 0)
		(void)close(loop->end_fd);
	evfs_free(loop);
}

int evfs_loop_start(struct evfs_fs *fs, struct evfs_loop **ret,
		    struct evfs_err *err)
{
	struct evfs_loop *loop = evfs_calloc(1, sizeof(*loop));
	int sys, rc;

	if (!loop)
		return evfs_err_set(err, EVFS_ENOMEM, "workers: no memory");
	loop->fs = fs;
	loop->fd = fuse_session_fd(fs->se);
	loop->jobs_end = &loop->jobs;
	evfs_cpu_latency_init(&loop->latency,
			      fs->power_save ? NULL : EVFS_CPU_LATENCY_PATH,
			      evfs_cpu_latency_worth(EVFS_CPU_LATENCY_DRIVER));
	loop->may_poll = sysconf(_SC_NPROCESSORS_ONLN) > 1;
	sys = loop_init(loop);
	if (sys != 0) {
		rc = evfs_err_sys(err, sys, "start the workers");
	} else {
		(void)pthread_mutex_lock(&loop->lock);
		rc = worker_start(loop, err);
		(void)pthread_mutex_unlock(&loop->lock);
	}
	if (rc != 0) {
		loop_free(loop);
		return rc;
	}
	*ret = loop;
	return 0;
}

void evfs_loop_wait(struct evfs_loop *loop)
{
	struct pollfd fd = { .fd = loop->fs->exit_fd, .events = POLLIN };

	while (poll(&fd, 1, -1) < 0 && errno == EINTR)
		;
}

int evfs_loop_stop(struct evfs_loop *loop, struct evfs_err *err)
{
	struct worker *worker, *next;
	int sys;

	fuse_session_exit(loop->fs->se);
	(void)eventfd_write(loop->end_fd, 1);
	(void)pthread_mutex_lock(&loop->lock);
	loop->ending = true;
	(void)pthread_cond_broadcast(&loop->more);
	(void)pthread_cond_broadcast(&loop->look);
	(void)pthread_mutex_unlock(&loop->lock);
	/* Nobody joins or leaves the list from here on. */
	for (worker = loop->head; worker; worker = next) {
		next = worker->next;
		(void)pthread_join(worker->thread, NULL);
		worker_free(worker);
	}
	sys = loop->error;
	loop_free(loop);
	if (sys != 0)
		return evfs_err_sys(err, sys, "read requests of the kernel");
	return 0;
}
