/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Waiting for other replicas. */
#include "fs/quorum.h"

#include <errno.h>
#include <time.h>

#include "fs/fs_priv.h"

#define CHECK_EVERY_NS (60 * UINT64_C(1000000000)) /* of one file */
#define CHECK_REST_NS (10 * UINT64_C(1000000)) /* between any two */
#define CHECK_MS 5000
#define FRESH_NS (5 * UINT64_C(1000000000))
#define SLACK_MS 1000 /* the answer comes by itself when time is over */

/* ---- one wait ---- */

/* Under the lock of waits: is it over? */
static bool is_over(const struct evfs_waits *waits,
		    const struct evfs_waiter *waiter, int *ret,
		    struct evfs_err *err)
{
	if (waiter->answered && waiter->answer.code == 0)
		*ret = 0;
	else if (waiter->answered)
		*ret = evfs_err_set(err, waiter->answer.code, "%s",
				    waiter->answer.why);
	else if (waiter->interrupted)
		*ret = evfs_err_set(err, EVFS_EAGAIN,
				    "interrupted while waiting for other "
				    "replicas");
	else if (waits->closed)
		*ret = evfs_err_set(err, EVFS_EUNREACHABLE, "the mount ends");
	else
		return false;
	return true;
}

static int sleep_on(struct evfs_waits *waits, const struct evfs_waiter *waiter,
		    uint64_t timeout_ms, struct evfs_err *err)
{
	struct timespec deadline;
	int rc = 0;

	evfs_wait_deadline(timeout_ms + SLACK_MS, &deadline);
	(void)pthread_mutex_lock(&waits->lock);
	while (!is_over(waits, waiter, &rc, err)) {
		if (pthread_cond_timedwait(&waits->changed, &waits->lock,
					   &deadline) != ETIMEDOUT)
			continue;
		rc = evfs_err_set(err, EVFS_ETIMEOUT,
				  "replication does not answer");
		break;
	}
	(void)pthread_mutex_unlock(&waits->lock);
	if (rc == EVFS_EAGAIN && err)
		err->sys = EINTR;
	return rc;
}

static int ask(struct evfs_fs *fs, struct fuse_req *req,
	       struct evfs_question *question, bool *ret_changed,
	       struct evfs_err *err)
{
	struct evfs_waits *waits = &fs->waits;
	struct evfs_waiter waiter = { .question = 0 };
	int rc;

	question->id = waiter.question = evfs_quorum_new_id(fs->meta);
	if (!evfs_waiter_enter(waits, &waiter, req))
		return evfs_err_set(err, EVFS_EAGAIN,
				    "too many requests wait for other "
				    "replicas already");
	rc = evfs_quorum_ask(fs->meta, question, err);
	if (rc == 0)
		rc = sleep_on(waits, &waiter, question->timeout_ms, err);
	if (rc != 0 && !waiter.answered)
		evfs_quorum_withdraw(fs->meta, question->id);
	evfs_waiter_leave(waits, &waiter, req);
	if (rc == 0 && ret_changed)
		*ret_changed = waiter.answer.changed;
	return rc;
}

static evfs_ino ino_of(struct evfs_fs *fs, const struct evfs_node *node)
{
	evfs_ino ino;

	evfs_meta_lock(fs->meta);
	ino = node->file ? node->file->handle.ino : node->key;
	evfs_meta_unlock(fs->meta);
	return ino;
}

void evfs_quorum_of_mount(struct evfs_fs *fs,
			  struct evfs_quorum_settings *ret)
{
	evfs_quorum_get_settings(fs->meta, ret);
	if (fs->write_quorum > 0)
		ret->write = fs->write_quorum;
	if (fs->read_quorum > 0)
		ret->read = fs->read_quorum;
}

/* ---- fsync ---- */

int evfs_quorum_sync(struct evfs_fs *fs, struct fuse_req *req,
		     struct evfs_node *node, struct evfs_err *err)
{
	struct evfs_question question = { .kind = EVFS_QUESTION_HELD,
					  .ino = EVFS_INO_NONE };
	struct evfs_quorum_settings settings;

	evfs_quorum_of_mount(fs, &settings);
	if (settings.write <= 1)
		return 0;
	if (node)
		question.ino = ino_of(fs, node);
	question.need = settings.write - 1;
	question.timeout_ms = settings.timeout_ms;
	return ask(fs, req, &question, NULL, err);
}

/* ---- open ---- */

static void note_fresh(struct evfs_fs *fs, evfs_ino ino)
{
	struct evfs_fresh *fresh = &fs->fresh;
	unsigned i;

	(void)pthread_mutex_lock(&fs->dirty_lock);
	i = fresh->next++ % EVFS_FRESH_MAX;
	fresh->items[i].ino = ino;
	fresh->items[i].ns = evfs_fs_mono_ns(fs);
	(void)pthread_mutex_unlock(&fs->dirty_lock);
}

/* Was it told to come back? Once. */
static bool take_fresh(struct evfs_fs *fs, evfs_ino ino)
{
	struct evfs_fresh *fresh = &fs->fresh;
	uint64_t now = evfs_fs_mono_ns(fs);
	bool found = false;

	(void)pthread_mutex_lock(&fs->dirty_lock);
	for (unsigned i = 0; i < EVFS_FRESH_MAX && !found; i++) {
		if (fresh->items[i].ns == 0 ||
		    !evfs_dot_equal(fresh->items[i].ino, ino))
			continue;
		found = now - fresh->items[i].ns < FRESH_NS;
		fresh->items[i].ns = 0;
	}
	(void)pthread_mutex_unlock(&fs->dirty_lock);
	return found;
}

/* By chance, not twice within a minute, and not so often that whoever opens
 * file after file would feel it: has it to be compared now? */
static bool is_due(struct evfs_fs *fs, struct evfs_node *node,
		   unsigned check_ppm)
{
	const struct evfs_env *env = evfs_meta_env(fs->meta);
	uint64_t now = evfs_fs_mono_ns(fs);
	bool due;

	if (evfs_env_below(env, 1000000) >= check_ppm)
		return false;
	(void)pthread_mutex_lock(&fs->dirty_lock);
	due = now - fs->fresh.checked_ns >= CHECK_REST_NS &&
	      (node->file->checked_ns == 0 ||
	       now - node->file->checked_ns >= CHECK_EVERY_NS);
	if (due)
		node->file->checked_ns = fs->fresh.checked_ns = now;
	(void)pthread_mutex_unlock(&fs->dirty_lock);
	return due;
}

static void look(struct evfs_fs *fs, struct evfs_node *node,
		 unsigned check_ppm)
{
	struct evfs_question question = { .kind = EVFS_QUESTION_CHECK,
					  .need = 1,
					  .timeout_ms = CHECK_MS };

	if (check_ppm == 0 || !is_due(fs, node, check_ppm))
		return;
	question.ino = ino_of(fs, node);
	question.id = evfs_quorum_new_id(fs->meta);
	/* nobody there: then there is nobody to compare with */
	(void)!evfs_quorum_ask(fs->meta, &question, NULL);
}

void evfs_quorum_look(struct evfs_fs *fs, struct evfs_node *node)
{
	struct evfs_quorum_settings settings;

	evfs_quorum_get_settings(fs->meta, &settings);
	look(fs, node, settings.check_ppm);
}

int evfs_quorum_open(struct evfs_fs *fs, struct fuse_req *req,
		     struct evfs_node *node, bool *ret_stale,
		     struct evfs_err *err)
{
	struct evfs_question question = { .kind = EVFS_QUESTION_NEWEST };
	struct evfs_quorum_settings settings;
	int rc;

	evfs_quorum_of_mount(fs, &settings);
	if (!node->file)
		return 0;
	if (settings.read <= 1) {
		look(fs, node, settings.check_ppm);
		return 0;
	}
	question.ino = ino_of(fs, node);
	if (evfs_dot_equal(question.ino, EVFS_INO_NONE) ||
	    take_fresh(fs, question.ino))
		return 0;
	question.need = settings.read - 1;
	question.timeout_ms = settings.timeout_ms;
	rc = ask(fs, req, &question, ret_stale, err);
	if (rc == 0 && *ret_stale)
		note_fresh(fs, question.ino);
	return rc;
}
