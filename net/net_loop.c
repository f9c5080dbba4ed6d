/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The network thread: one poll(2) over wake-ups, watched descriptors and SSH
 * sockets; everything of the engine runs here.
 *
 * A round: poll; calls of other threads; news of the store (durable, urgent);
 * watched descriptors; SSH; the engine's tick; the round callback. The tick
 * runs every round, for any event may have given the engine something to do
 * earlier than it said last time.
 *
 * Other threads reach it in three ways, each followed by a write to the
 * eventfd: the list of calls (evfs_net_call waits for its own), the flag
 * `durable`, the list of urgent contents. All three, and the table of watched
 * descriptors, are protected by one mutex, which is a leaf: nothing is called
 * under it. */

#include "net/net_priv.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"

#define URGENT_MAX 4096 /* waiting; beyond, the waiter times out */
#define GOODBYE_NS 500000000u /* to send what is queued at the end */
#define RETRY_NS 100000000u /* after running out of memory */

void evfs_net_wake(struct evfs_net *net)
{
	const uint64_t one = 1;

	/* It can only fail because the counter is full: readable anyway. */
	(void)!write(net->wake_fd, &one, sizeof(one));
}

/* ---- news of the store; any thread ---- */

void evfs_net_on_durable(void *ctx)
{
	struct evfs_net *net = ctx;

	pthread_mutex_lock(&net->lock);
	net->durable = true;
	pthread_mutex_unlock(&net->lock);
	evfs_net_wake(net);
}

void evfs_net_on_urgent(void *ctx, const evfs_hash *name, uint64_t size)
{
	struct evfs_net *net = ctx;

	pthread_mutex_lock(&net->lock);
	if (net->n_urgents < URGENT_MAX &&
	    evfs_grow((void **)&net->urgents, net->n_urgents,
		      &net->cap_urgents, sizeof(*net->urgents)) == 0)
		net->urgents[net->n_urgents++] = (struct evfs_net_urgent){ *name,
								size };
	pthread_mutex_unlock(&net->lock);
	evfs_net_wake(net);
}

static bool add_question(struct evfs_net *net,
			 const struct evfs_net_question *question)
{
	bool ok;

	pthread_mutex_lock(&net->lock);
	ok = evfs_grow((void **)&net->questions, net->n_questions,
		       &net->cap_questions, sizeof(*net->questions)) == 0;
	if (ok)
		net->questions[net->n_questions++] = *question;
	pthread_mutex_unlock(&net->lock);
	evfs_net_wake(net);
	return ok;
}

void evfs_net_on_asked(void *ctx, const struct evfs_question *question)
{
	const struct evfs_net_question item = { .question = *question };
	const struct evfs_answer lost = { .id = question->id,
					  .code = EVFS_ENOMEM,
					  .why = "out of memory" };
	struct evfs_net *net = ctx;

	if (!add_question(net, &item))
		evfs_quorum_answer(net->meta, &lost);
}

void evfs_net_on_withdrawn(void *ctx, uint64_t id)
{
	const struct evfs_net_question item = { .question = { .id = id },
						.withdrawn = true };

	/* without memory it lives until its time is over */
	(void)add_question(ctx, &item);
}

static void run_questions(struct evfs_net *net)
{
	struct evfs_net_question *questions;
	size_t n;

	pthread_mutex_lock(&net->lock);
	questions = evfs_steal(net->questions);
	n = net->n_questions;
	net->n_questions = 0;
	net->cap_questions = 0;
	pthread_mutex_unlock(&net->lock);
	for (size_t i = 0; i < n; i++) {
		if (questions[i].withdrawn)
			evfs_engine_withdraw(net->engine,
					     questions[i].question.id);
		else
			evfs_engine_ask(net->engine, &questions[i].question);
	}
	evfs_free(questions);
}

static void run_news(struct evfs_net *net)
{
	struct evfs_net_urgent *urgents;
	size_t n;
	bool durable;

	pthread_mutex_lock(&net->lock);
	durable = net->durable;
	net->durable = false;
	urgents = evfs_steal(net->urgents);
	n = net->n_urgents;
	net->n_urgents = 0;
	net->cap_urgents = 0;
	pthread_mutex_unlock(&net->lock);
	if (durable)
		evfs_engine_durable(net->engine);
	for (size_t i = 0; i < n; i++)
		evfs_engine_urgent(net->engine, &urgents[i].name,
				   urgents[i].size);
	evfs_free(urgents);
}

/* ---- tasks ---- */

static void run_done(struct evfs_net *net)
{
	struct evfs_task *task = evfs_background_take(net->background);

	while (task) {
		struct evfs_task *next = task->next;

		evfs_engine_task_done(net->engine, task);
		task = next;
	}
}

/* ---- calls ---- */

void evfs_net_call(struct evfs_net *net,
		   void (*run)(void *arg, struct evfs_engine *engine),
		   void *arg)
{
	struct evfs_net_call call = { .run = run, .arg = arg };
	struct evfs_net_call **tail = &net->calls;

	assert(!pthread_equal(pthread_self(), net->thread));
	pthread_mutex_lock(&net->lock);
	assert(!net->stop);
	while (*tail)
		tail = &(*tail)->next;
	*tail = &call;
	evfs_net_wake(net);
	while (!call.done)
		pthread_cond_wait(&net->called, &net->lock);
	pthread_mutex_unlock(&net->lock);
}

static void run_calls(struct evfs_net *net)
{
	pthread_mutex_lock(&net->lock);
	while (net->calls) {
		struct evfs_net_call *call = net->calls;

		net->calls = call->next;
		pthread_mutex_unlock(&net->lock);
		call->run(call->arg, net->engine);
		pthread_mutex_lock(&net->lock);
		call->done = true;
		pthread_cond_broadcast(&net->called);
	}
	pthread_mutex_unlock(&net->lock);
}

/* ---- watched descriptors ---- */

int evfs_net_add_fd(struct evfs_net *net, int fd, short events,
		    void (*ready)(void *ctx, struct evfs_engine *engine,
				  short revents),
		    void *ctx)
{
	int rc;

	pthread_mutex_lock(&net->lock);
	rc = evfs_grow((void **)&net->watches, net->n_watches,
		       &net->cap_watches, sizeof(*net->watches));
	if (rc == 0)
		net->watches[net->n_watches++] = (struct evfs_net_watch){
			.serial = ++net->last_serial,
			.fd = fd,
			.events = events,
			.ready = ready,
			.ctx = ctx,
		};
	pthread_mutex_unlock(&net->lock);
	evfs_net_wake(net);
	return rc == 0 ? 0 : EVFS_ENOMEM;
}

void evfs_net_set_events(struct evfs_net *net, int fd, short events)
{
	pthread_mutex_lock(&net->lock);
	for (size_t i = 0; i < net->n_watches; i++) {
		if (net->watches[i].fd == fd)
			net->watches[i].events = events;
	}
	pthread_mutex_unlock(&net->lock);
	evfs_net_wake(net);
}

void evfs_net_remove_fd(struct evfs_net *net, int fd)
{
	pthread_mutex_lock(&net->lock);
	for (size_t i = 0; i < net->n_watches; i++) {
		if (net->watches[i].fd != fd)
			continue;
		memmove(&net->watches[i], &net->watches[i + 1],
			(net->n_watches - i - 1) * sizeof(*net->watches));
		net->n_watches--;
		break;
	}
	pthread_mutex_unlock(&net->lock);
}

void evfs_net_on_round(struct evfs_net *net,
		       void (*round)(void *ctx, struct evfs_engine *engine),
		       void *ctx)
{
	pthread_mutex_lock(&net->lock);
	net->round = round;
	net->round_ctx = ctx;
	pthread_mutex_unlock(&net->lock);
}

/* Calls those that are ready; a callback may add and remove. */
static void run_watches(struct evfs_net *net, const struct pollfd *fds,
			size_t n)
{
	for (size_t i = 0; i < n; i++) {
		struct evfs_net_watch watch = { 0 };

		if (!fds[i].revents)
			continue;
		pthread_mutex_lock(&net->lock);
		for (size_t j = 0; j < net->n_watches; j++) {
			if (net->watches[j].serial == net->serials[i])
				watch = net->watches[j];
		}
		pthread_mutex_unlock(&net->lock);
		if (watch.ready)
			watch.ready(watch.ctx, net->engine, fds[i].revents);
	}
}

static void run_round(struct evfs_net *net)
{
	void (*round)(void *ctx, struct evfs_engine *engine);
	void *ctx;

	pthread_mutex_lock(&net->lock);
	round = net->round;
	ctx = net->round_ctx;
	pthread_mutex_unlock(&net->lock);
	if (round)
		round(ctx, net->engine);
}

/* ---- the loop ---- */

static int reserve_fds(struct evfs_net *net, size_t n)
{
	struct pollfd *fds;
	uint64_t *serials;

	if (n <= net->cap_fds)
		return 0;
	n += 16;
	fds = evfs_realloc_array(net->fds, n, sizeof(*fds));
	if (!fds)
		return EVFS_ENOMEM;
	net->fds = fds;
	serials = evfs_realloc_array(net->serials, n, sizeof(*serials));
	if (!serials)
		return EVFS_ENOMEM;
	net->serials = serials;
	net->cap_fds = n;
	return 0;
}

static void wait_until(const struct evfs_net *net, struct pollfd *fds,
		       size_t n, uint64_t until_ns)
{
	uint64_t now = net->env->mono_ns(net->env->ctx);
	uint64_t wait = until_ns > now ? until_ns - now : 0;
	struct timespec ts = {
		.tv_sec = (time_t)(wait / 1000000000u),
		.tv_nsec = (long)(wait % 1000000000u),
	};

	if (ppoll(fds, (nfds_t)n, until_ns == UINT64_MAX ? NULL : &ts,
		  NULL) < 0) {
		for (size_t i = 0; i < n; i++)
			fds[i].revents = 0;
		if (errno != EINTR)
			evfs_log(EVFS_LOG_ERROR, "network thread: poll: err=%s",
				 strerror(errno));
	}
}

/* One poll and what comes of it. fds: the eventfd, the watches, SSH. */
static int poll_once(struct evfs_net *net, uint64_t until_ns)
{
	struct pollfd *ssh_fds;
	size_t n_ssh, n_watches;
	uint64_t ssh_until, count;
	int rc = evfs_ssh_prepare(net->ssh, &ssh_fds, &n_ssh, &ssh_until,
				  NULL);

	pthread_mutex_lock(&net->lock);
	n_watches = net->n_watches;
	if (!rc)
		rc = reserve_fds(net, 1 + n_watches + n_ssh);
	for (size_t i = 0; !rc && i < n_watches; i++) {
		const struct evfs_net_watch *watch = &net->watches[i];

		net->serials[i] = watch->serial;
		net->fds[1 + i] =
			(struct pollfd){ watch->fd, watch->events, 0 };
	}
	pthread_mutex_unlock(&net->lock);
	if (rc)
		return rc;
	net->fds[0] = (struct pollfd){ net->wake_fd, POLLIN, 0 };
	if (n_ssh > 0)
		memcpy(&net->fds[1 + n_watches], ssh_fds,
		       n_ssh * sizeof(*ssh_fds));
	wait_until(net, net->fds, 1 + n_watches + n_ssh,
		   ssh_until < until_ns ? ssh_until : until_ns);
	if (net->fds[0].revents)
		(void)!read(net->wake_fd, &count, sizeof(count));
	if (!net->engine) { /* the end: only SSH is left */
		evfs_ssh_process(net->ssh, &net->fds[1 + n_watches], n_ssh);
		return 0;
	}
	run_calls(net);
	run_news(net);
	run_done(net);
	run_questions(net);
	run_watches(net, &net->fds[1], n_watches);
	evfs_ssh_process(net->ssh, &net->fds[1 + n_watches], n_ssh);
	return 0;
}

static bool is_stopped(struct evfs_net *net)
{
	bool stop;

	pthread_mutex_lock(&net->lock);
	stop = net->stop;
	pthread_mutex_unlock(&net->lock);
	return stop;
}

void *evfs_net_run(void *arg)
{
	struct evfs_net *net = arg;
	uint64_t end;

	while (!is_stopped(net)) {
		if (poll_once(net, net->tick_ns)) {
			struct timespec ts = { .tv_nsec = RETRY_NS };

			evfs_log(EVFS_LOG_ERROR, "network thread: err=%s",
				 evfs_err_text(EVFS_ENOMEM));
			nanosleep(&ts, NULL);
			continue;
		}
		net->tick_ns = evfs_engine_tick(net->engine);
		run_round(net);
	}
	run_calls(net);
	evfs_background_stop(net->background);
	run_done(net);
	run_questions(net); /* the engine's end answers them */
	evfs_engine_free(net->engine); /* closes its connections */
	net->engine = NULL;
	evfs_ssh_shut(net->ssh);
	end = net->env->mono_ns(net->env->ctx) + GOODBYE_NS;
	while (evfs_ssh_count(net->ssh) > 0 &&
	       net->env->mono_ns(net->env->ctx) < end) {
		if (poll_once(net, end))
			break;
	}
	return NULL;
}
