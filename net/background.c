/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The background thread and its two lists. */
#include "net/background.h"

#include <pthread.h>
#include <stdbool.h>

#include "base/mem.h"
#include "base/thread.h"

struct tasks {
	struct evfs_task *head;
	struct evfs_task **tail; /* where the next one is linked */
};

struct evfs_background {
	void (*wake)(void *ctx);
	void *ctx;            /* its argument */
	pthread_t thread;
	bool runs;            /* thread is to be joined; of the owner */
	pthread_mutex_t lock; /* leaf; protects what follows */
	pthread_cond_t come;  /* something to run, or stop */
	struct tasks waiting, over;
	bool stop;
};

static void tasks_init(struct tasks *tasks)
{
	tasks->head = NULL;
	tasks->tail = &tasks->head;
}

static void tasks_add(struct tasks *tasks, struct evfs_task *task)
{
	task->next = NULL;
	*tasks->tail = task;
	tasks->tail = &task->next;
}

static struct evfs_task *tasks_shift(struct tasks *tasks)
{
	struct evfs_task *task = tasks->head;

	tasks->head = task->next;
	if (!tasks->head)
		tasks->tail = &tasks->head;
	return task;
}

static void *background_main(void *arg)
{
	struct evfs_background *background = arg;
	bool first;

	pthread_mutex_lock(&background->lock);
	for (;;) {
		struct evfs_task *task;

		while (!background->waiting.head && !background->stop)
			pthread_cond_wait(&background->come,
					  &background->lock);
		if (!background->waiting.head)
			break;
		task = tasks_shift(&background->waiting);
		pthread_mutex_unlock(&background->lock);
		task->run(task);
		pthread_mutex_lock(&background->lock);
		first = !background->over.head;
		tasks_add(&background->over, task);
		pthread_mutex_unlock(&background->lock);
		if (first)
			background->wake(background->ctx);
		pthread_mutex_lock(&background->lock);
	}
	pthread_mutex_unlock(&background->lock);
	return NULL;
}

int evfs_background_start(void (*wake)(void *ctx), void *ctx,
			  struct evfs_background **ret, struct evfs_err *err)
{
	struct evfs_background *background = evfs_calloc(1,
							 sizeof(*background));
	int rc;

	if (!background)
		return evfs_err_set(err, EVFS_ENOMEM, "%s",
				    evfs_err_text(EVFS_ENOMEM));
	background->wake = wake;
	background->ctx = ctx;
	tasks_init(&background->waiting);
	tasks_init(&background->over);
	pthread_mutex_init(&background->lock, NULL);
	pthread_cond_init(&background->come, NULL);
	rc = evfs_thread_start(&background->thread, background_main,
			       background, "background thread", err);
	if (rc) {
		evfs_background_free(background);
		return rc;
	}
	background->runs = true;
	*ret = background;
	return 0;
}

void evfs_background_submit(struct evfs_background *background,
			    struct evfs_task *task)
{
	pthread_mutex_lock(&background->lock);
	tasks_add(&background->waiting, task);
	pthread_cond_signal(&background->come);
	pthread_mutex_unlock(&background->lock);
}

struct evfs_task *evfs_background_take(struct evfs_background *background)
{
	struct evfs_task *tasks;

	pthread_mutex_lock(&background->lock);
	tasks = background->over.head;
	tasks_init(&background->over);
	pthread_mutex_unlock(&background->lock);
	return tasks;
}

void evfs_background_stop(struct evfs_background *background)
{
	if (!background || !background->runs)
		return;
	pthread_mutex_lock(&background->lock);
	background->stop = true;
	pthread_cond_signal(&background->come);
	pthread_mutex_unlock(&background->lock);
	pthread_join(background->thread, NULL);
	background->runs = false;
}

void evfs_background_free(struct evfs_background *background)
{
	if (!background)
		return;
	evfs_background_stop(background);
	pthread_cond_destroy(&background->come);
	pthread_mutex_destroy(&background->lock);
	evfs_free(background);
}
