/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Tasks in the virtual network: each is over after a random delay, in the order
 * of their making, as if a thread of the node's had them. */
#include "net/loop_priv.h"

void evfs_loop_submit(void *ctx, struct evfs_task *task)
{
	struct evfs_loop_node *node = ctx;
	struct evfs_loop *loop = node->loop;
	struct evfs_task **at = &node->tasks;
	struct evfs_loop_event *event;

	while (*at != NULL)
		at = &(*at)->next;
	task->next = NULL;
	*at = task;
	event = evfs_loop_post(loop, EVFS_LOOP_TASK,
			       loop->now_ns + evfs_loop_delay(loop), NULL, 0);
	event->node = node->index;
	event->life = node->life;
}

static struct evfs_task *run_first(struct evfs_loop_node *node)
{
	struct evfs_task *task = node->tasks;

	node->tasks = task->next;
	task->run(task);
	return task;
}

void evfs_loop_task(struct evfs_loop *loop,
		    const struct evfs_loop_event *event)
{
	struct evfs_loop_node *node = &loop->nodes[event->node];

	if (event->life == node->life && node->tasks != NULL)
		evfs_engine_task_done(node->engine, run_first(node));
}

void evfs_loop_end_tasks(struct evfs_loop_node *node)
{
	while (node->tasks != NULL) {
		struct evfs_task *task = run_first(node);

		task->done(task, node->engine);
	}
}
