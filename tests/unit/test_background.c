/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The background thread: every task runs once, in order, and comes back; what
 * is left when it is stopped runs, too. */
#include <check.h>
#include <pthread.h>
#include <stdlib.h>

#include "net/background.h"

#define TASKS 2000

struct counted {
	struct evfs_task task;
	int number;
};

static struct counted tasks[TASKS];
static int ran;                   /* of the background thread */
static int came;                  /* taken again */
static pthread_t owner;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t woken = PTHREAD_COND_INITIALIZER;
static int wakes;                 /* under lock */

static void wake(void *ctx)
{
	ck_assert_ptr_eq(ctx, tasks);
	pthread_mutex_lock(&lock);
	wakes++;
	pthread_cond_signal(&woken);
	pthread_mutex_unlock(&lock);
}

static void run(struct evfs_task *task)
{
	ck_assert(!pthread_equal(pthread_self(), owner));
	ck_assert_int_eq(((struct counted *)task)->number, ran);
	ran++;
}

static void take_all(struct evfs_background *background)
{
	struct evfs_task *task = evfs_background_take(background);

	for (; task; task = task->next)
		ck_assert_int_eq(((struct counted *)task)->number, came++);
}

static struct evfs_background *start(void)
{
	struct evfs_background *background;

	ran = came = wakes = 0;
	owner = pthread_self();
	ck_assert_int_eq(evfs_background_start(wake, tasks, &background,
					       NULL), 0);
	for (int i = 0; i < TASKS; i++)
		tasks[i] = (struct counted){ .task.run = run, .number = i };
	return background;
}

START_TEST(tasks_come_back_in_order)
{
	struct evfs_background *background = start();

	for (int i = 0; i < TASKS; i++)
		evfs_background_submit(background, &tasks[i].task);
	/* Each wake-up is for what came since the last look. */
	while (came < TASKS) {
		pthread_mutex_lock(&lock);
		while (wakes == 0)
			pthread_cond_wait(&woken, &lock);
		wakes = 0;
		pthread_mutex_unlock(&lock);
		take_all(background);
	}
	ck_assert_ptr_null(evfs_background_take(background));
	evfs_background_stop(background);
	ck_assert_int_eq(ran, TASKS);
	evfs_background_free(background);
}
END_TEST

START_TEST(what_is_left_runs_before_the_end)
{
	struct evfs_background *background = start();

	for (int i = 0; i < TASKS; i++)
		evfs_background_submit(background, &tasks[i].task);
	evfs_background_stop(background);
	take_all(background);
	ck_assert_int_eq(came, TASKS);
	evfs_background_free(background);
	evfs_background_free(NULL);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("background");
	TCase *tcase = tcase_create("background");
	SRunner *runner;
	int failed;

	tcase_add_test(tcase, tasks_come_back_in_order);
	tcase_add_test(tcase, what_is_left_runs_before_the_end);
	suite_add_tcase(suite, tcase);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
