/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A thread of low priority that reads the store back: contents against their
 * hashes, once a month and at most 10 MB/s, and the Merkle tree against the
 * rows, once a week; and all of it at full speed for `evfsctl verify`. A
 * chunk that is found damaged is fetched from a member by the network thread,
 * like any content that lacks. */
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/thread.h"
#include "meta/content.h"
#include "meta/merkle.h"
#include "meta/upkeep.h"
#include "tools/daemon/daemon.h"

#define DAY_NS (UINT64_C(86400) * 1000000000)
#define TREE_EVERY_NS (7 * DAY_NS)
#define CONTENT_EVERY_NS (30 * DAY_NS)
#define STEP_BYTES (1u << 20) /* of content, then a pause */
#define STEP_PAUSE_MS 105     /* so less than 10 MB/s */
#define TREE_PAUSE_MS 50      /* after each bucket */
#define IDLE_MS 10000
#define SAVE_STEPS 64 /* of content, between notes of the place */

struct evfs_scrub {
	pthread_t thread;
	pthread_mutex_t lock; /* protects what follows */
	pthread_cond_t wake;
	bool stop;
	bool wanted;            /* a pass for a user: asked for, or running */
	struct evfs_scrub_report report; /* of the pass for a user */
	struct evfs_daemon *daemon;      /* borrowed; the thread's own, too: */
	struct evfs_upkeep_state tree, content;
	struct evfs_merkle_pass pass; /* of the tree */
	unsigned unsaved;             /* steps since the place was noted */
};

static uint64_t wall_ns(const struct evfs_scrub *scrub)
{
	const struct evfs_env *env = evfs_meta_env(scrub->daemon->meta);

	return env->wall_ns(env->ctx);
}

static bool is_due(const struct evfs_scrub *scrub,
		   const struct evfs_upkeep_state *state, uint64_t every_ns)
{
	uint64_t now_ns = wall_ns(scrub);

	/* A clock that was set back must not stop it for years. */
	return now_ns - state->ended_ns >= every_ns || state->ended_ns > now_ns;
}

static void save(struct evfs_scrub *scrub, enum evfs_upkeep which,
		 const struct evfs_upkeep_state *state)
{
	struct evfs_meta *meta = scrub->daemon->meta;
	struct evfs_err err = { 0 };
	int rc;

	evfs_meta_lock(meta);
	rc = evfs_upkeep_set(meta, which, state, &err);
	evfs_meta_unlock(meta);
	if (rc)
		evfs_log(EVFS_LOG_WARN, "scrub: err=%s", err.msg);
}

static void load(struct evfs_scrub *scrub, enum evfs_upkeep which,
		 struct evfs_upkeep_state *ret)
{
	struct evfs_meta *meta = scrub->daemon->meta;
	struct evfs_err err = { 0 };
	int rc;

	evfs_meta_lock(meta);
	rc = evfs_upkeep_get(meta, which, ret, &err);
	evfs_meta_unlock(meta);
	if (rc)
		evfs_log(EVFS_LOG_WARN, "scrub: err=%s", err.msg);
	/* A new store has nothing to be read back yet. */
	if (!ret->ended_ns) {
		ret->ended_ns = wall_ns(scrub);
		save(scrub, which, ret);
	}
}

/* ---- steps ---- */

static void damaged(void *arg, const evfs_hash *chunk, const char *why)
{
	uint64_t *n = arg;
	char text[EVFS_HASH_HEX_SIZE];

	++*n;
	evfs_hash_format(chunk, text);
	evfs_log(EVFS_LOG_ERROR, "scrub: chunk=%s err=%s", text, why);
}

static int tree_step(struct evfs_scrub *scrub, bool *ret_done,
		     struct evfs_err *err)
{
	uint64_t wrong = scrub->pass.wrong;
	int rc = evfs_merkle_verify(scrub->daemon->meta, &scrub->pass, ret_done,
				    err);

	if (scrub->pass.wrong > wrong)
		evfs_log(EVFS_LOG_ERROR, "scrub: the Merkle tree was wrong in "
			 "%llu nodes; put right",
			 (unsigned long long)(scrub->pass.wrong - wrong));
	return rc;
}

/* One step of what is due by the clock, or because there is reason to; ms until
 * the next. */
static unsigned background(struct evfs_scrub *scrub)
{
	struct evfs_content *content = evfs_meta_content(scrub->daemon->meta);
	struct evfs_err err = { 0 };
	unsigned pause = IDLE_MS;
	uint64_t n_damaged = 0;
	bool done = false;
	int rc = 0;

	if (!scrub->pass.next)
		load(scrub, EVFS_UPKEEP_TREE, &scrub->tree);
	if (is_due(scrub, &scrub->tree, TREE_EVERY_NS)) {
		rc = tree_step(scrub, &done, &err);
		if (!rc && done) {
			scrub->pass = (struct evfs_merkle_pass){ 0 };
			scrub->tree.ended_ns = wall_ns(scrub);
			save(scrub, EVFS_UPKEEP_TREE, &scrub->tree);
		}
		pause = TREE_PAUSE_MS;
	} else if (is_due(scrub, &scrub->content, CONTENT_EVERY_NS)) {
		rc = evfs_content_verify(content, &scrub->content.cursor,
					 STEP_BYTES, &done, damaged,
					 &n_damaged, &err);
		if (!rc && done)
			scrub->content.ended_ns = wall_ns(scrub);
		if (done || ++scrub->unsaved >= SAVE_STEPS) {
			save(scrub, EVFS_UPKEEP_CONTENT, &scrub->content);
			scrub->unsaved = 0;
		}
		pause = STEP_PAUSE_MS;
	}
	if (!rc)
		return pause;
	evfs_log(EVFS_LOG_WARN, "scrub: err=%s", err.msg);
	return IDLE_MS;
}

/* ---- a pass for a user ---- */

static bool is_stopping(struct evfs_scrub *scrub)
{
	bool stop;

	pthread_mutex_lock(&scrub->lock);
	stop = scrub->stop;
	pthread_mutex_unlock(&scrub->lock);
	return stop;
}

static void tell(struct evfs_scrub *scrub,
		 const struct evfs_scrub_report *report)
{
	pthread_mutex_lock(&scrub->lock);
	scrub->report = *report;
	pthread_mutex_unlock(&scrub->lock);
}

static int verify_tree(struct evfs_scrub *scrub,
		       struct evfs_scrub_report *report, struct evfs_err *err)
{
	struct evfs_merkle_pass pass = { 0 };
	bool done = false;
	int rc = 0;

	while (!rc && !done && !is_stopping(scrub)) {
		rc = evfs_merkle_verify(scrub->daemon->meta, &pass, &done, err);
		report->objects = pass.objects;
		report->nodes_wrong = pass.wrong;
		tell(scrub, report);
	}
	return rc;
}

static int verify_content(struct evfs_scrub *scrub,
			  struct evfs_scrub_report *report,
			  struct evfs_err *err)
{
	struct evfs_content *content = evfs_meta_content(scrub->daemon->meta);
	evfs_hash cursor = { { 0 } };
	bool done = false;
	int rc = 0;

	while (!rc && !done && !is_stopping(scrub)) {
		rc = evfs_content_verify(content, &cursor, STEP_BYTES, &done,
					 damaged, &report->damaged, err);
		report->steps++;
		tell(scrub, report);
	}
	return rc;
}

static void verify(struct evfs_scrub *scrub)
{
	struct evfs_scrub_report report = { .running = true };
	struct evfs_err err = { 0 };
	int rc = verify_content(scrub, &report, &err);

	if (!rc)
		rc = verify_tree(scrub, &report, &err);
	if (rc)
		snprintf(report.error, sizeof(report.error), "%s", err.msg);
	report.running = false;
	tell(scrub, &report);
}

bool evfs_scrub_request(struct evfs_daemon *daemon)
{
	struct evfs_scrub *scrub = daemon->scrub;
	bool fresh;

	pthread_mutex_lock(&scrub->lock);
	fresh = !scrub->wanted;
	if (fresh)
		scrub->report = (struct evfs_scrub_report){ .running = true };
	scrub->wanted = true;
	pthread_cond_signal(&scrub->wake);
	pthread_mutex_unlock(&scrub->lock);
	return fresh;
}

void evfs_scrub_get(struct evfs_daemon *daemon, struct evfs_scrub_report *ret)
{
	pthread_mutex_lock(&daemon->scrub->lock);
	*ret = daemon->scrub->report;
	pthread_mutex_unlock(&daemon->scrub->lock);
}

/* ---- the thread ---- */

static void *run(void *arg)
{
	struct evfs_scrub *scrub = arg;

	/* Of this thread only, on Linux. */
	setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), 10);
	load(scrub, EVFS_UPKEEP_CONTENT, &scrub->content);
	pthread_mutex_lock(&scrub->lock);
	while (!scrub->stop) {
		struct timespec until;
		unsigned ms = 0;
		bool wanted = scrub->wanted;

		pthread_mutex_unlock(&scrub->lock);
		if (wanted)
			verify(scrub);
		else
			ms = background(scrub);
		clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_nsec += (long)(ms % 1000) * 1000000L;
		until.tv_sec += ms / 1000 + until.tv_nsec / 1000000000L;
		until.tv_nsec %= 1000000000L;
		pthread_mutex_lock(&scrub->lock);
		if (wanted)
			scrub->wanted = false;
		while (!scrub->stop && !scrub->wanted && ms > 0 &&
		       pthread_cond_timedwait(&scrub->wake, &scrub->lock,
					      &until) != ETIMEDOUT)
			;
	}
	pthread_mutex_unlock(&scrub->lock);
	return NULL;
}

int evfs_scrub_start(struct evfs_daemon *daemon, struct evfs_err *err)
{
	struct evfs_scrub *scrub = evfs_calloc(1, sizeof(*scrub));
	pthread_condattr_t attr;
	int rc;

	if (!scrub)
		return evfs_err_set(err, EVFS_ENOMEM, "scrub: %s",
				    evfs_err_text(EVFS_ENOMEM));
	scrub->daemon = daemon;
	pthread_mutex_init(&scrub->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&scrub->wake, &attr);
	pthread_condattr_destroy(&attr);
	rc = evfs_thread_start(&scrub->thread, run, scrub, "scrub", err);
	if (rc) {
		pthread_cond_destroy(&scrub->wake);
		pthread_mutex_destroy(&scrub->lock);
		evfs_free(scrub);
		return rc;
	}
	daemon->scrub = scrub;
	return 0;
}

void evfs_scrub_stop(struct evfs_daemon *daemon)
{
	struct evfs_scrub *scrub = daemon->scrub;

	if (!scrub)
		return;
	pthread_mutex_lock(&scrub->lock);
	scrub->stop = true;
	pthread_cond_signal(&scrub->wake);
	pthread_mutex_unlock(&scrub->lock);
	pthread_join(scrub->thread, NULL);
	pthread_cond_destroy(&scrub->wake);
	pthread_mutex_destroy(&scrub->lock);
	evfs_free(scrub);
	daemon->scrub = NULL;
}
