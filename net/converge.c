/* SPDX-License-Identifier: GPL-3.0-or-later */
/* How long changes take to reach a member: from the commit here to its report
 * that they are on its disk. A change that it has not confirmed counts with the
 * time that it has waited so far, so a silent member is never better than it
 * is. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "net/engine_priv.h"

/* Samples older than this raise no alarm. */
#define ALARM_NS (60 * EVFS_SECOND)

void evfs_converge_note_change(struct evfs_engine *engine, uint64_t counter)
{
	struct evfs_change_time *slot =
		&engine->changes[engine->n_changes++ % EVFS_ENGINE_CHANGES];

	slot->counter = counter;
	slot->ns = evfs_engine_now(engine);
}

/* Of the changes whose times are known, the number of the first one beyond
 * `counter`. */
static uint64_t first_beyond(const struct evfs_engine *engine, uint64_t counter)
{
	uint64_t first = engine->n_changes > EVFS_ENGINE_CHANGES
				 ? engine->n_changes - EVFS_ENGINE_CHANGES
				 : 0;
	uint64_t i = engine->n_changes;

	while (i > first &&
	       engine->changes[(i - 1) % EVFS_ENGINE_CHANGES].counter > counter)
		i--;
	return i;
}

/* At least 1: nothing takes no time. */
static uint32_t to_ms(uint64_t ns)
{
	uint64_t ms = (ns + EVFS_MS - 1) / EVFS_MS;

	return ms > UINT32_MAX ? UINT32_MAX : ms == 0 ? 1 : (uint32_t)ms;
}

/* Was the member connected when it was made, and ever since? */
static bool is_live(const struct evfs_peer *peer, uint64_t ns)
{
	return peer->session != NULL && peer->session->opened_ns <= ns;
}

static void add_sample(struct evfs_peer *peer, const struct evfs_sample *sample)
{
	if (peer->samples == NULL)
		peer->samples = evfs_calloc(EVFS_ENGINE_SAMPLES,
					    sizeof(*peer->samples));
	if (peer->samples != NULL)
		peer->samples[peer->n_samples++ % EVFS_ENGINE_SAMPLES] =
			*sample;
}

void evfs_converge_sample(struct evfs_engine *engine, struct evfs_peer *peer,
			  uint64_t before, uint64_t now)
{
	uint64_t now_ns = evfs_engine_now(engine);
	uint64_t i;

	for (i = first_beyond(engine, before); i < engine->n_changes; i++) {
		const struct evfs_change_time *change =
			&engine->changes[i % EVFS_ENGINE_CHANGES];

		const struct evfs_sample one = {
			.ms = to_ms(now_ns - change->ns),
			.live = is_live(peer, change->ns),
			.ns = now_ns,
		};

		if (change->counter > now)
			break;
		add_sample(peer, &one);
	}
}

/* ---- percentiles ---- */

struct ages {
	uint32_t *ms; /* owned */
	size_t n, cap;
};

/* Without memory the figure is made of fewer samples. */
static void add(struct ages *ages, uint32_t ms)
{
	if (evfs_grow((void **)&ages->ms, ages->n, &ages->cap,
		      sizeof(*ages->ms)) == 0)
		ages->ms[ages->n++] = ms;
}

static int compare_u32(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

/* Nearest rank: of two samples the 99th percentile is the greater. */
static int64_t percentile(const struct ages *ages, unsigned percent)
{
	return ages->n == 0 ?
		       -1 :
		       (int64_t)ages->ms[(ages->n * percent + 99) / 100 - 1];
}

static void sort(struct ages *ages)
{
	if (ages->n > 0)
		qsort(ages->ms, ages->n, sizeof(*ages->ms), compare_u32);
}

/* What it has not confirmed: its age so far. */
static void add_waiting(struct evfs_engine *engine,
			const struct evfs_peer *peer, struct ages *all,
			struct ages *live)
{
	evfs_actor self = evfs_meta_actor(engine->meta);
	uint64_t theirs = evfs_context_get(&peer->report.context, self);
	uint64_t ours = evfs_context_get(&engine->durable, self);
	uint64_t now_ns = evfs_engine_now(engine);
	uint64_t first = first_beyond(engine, theirs), i;

	if (theirs >= ours)
		return;
	for (i = first; i < engine->n_changes; i++) {
		const struct evfs_change_time *change =
			&engine->changes[i % EVFS_ENGINE_CHANGES];

		add(all, to_ms(now_ns - change->ns));
		if (is_live(peer, change->ns))
			add(live, to_ms(now_ns - change->ns));
	}
	/* made before the daemon started: at least as long as it runs */
	if (first == engine->n_changes)
		add(all, to_ms(now_ns - engine->started_ns));
}

void evfs_converge_status(struct evfs_engine *engine,
			  const struct evfs_peer *peer,
			  struct evfs_peer_status *ret)
{
	struct ages all = { 0 }, live = { 0 };
	uint64_t now_ns = evfs_engine_now(engine);
	size_t n = peer->n_samples < EVFS_ENGINE_SAMPLES
			   ? (size_t)peer->n_samples
			   : EVFS_ENGINE_SAMPLES;
	size_t i;

	for (i = 0; i < n; i++) {
		const struct evfs_sample *sample = &peer->samples[i];

		add(&all, sample->ms);
		if (sample->live && now_ns - sample->ns < ALARM_NS)
			add(&live, sample->ms);
	}
	add_waiting(engine, peer, &all, &live);
	sort(&all);
	sort(&live);
	ret->convergence_p50_ms = percentile(&all, 50);
	ret->convergence_p99_ms = percentile(&all, 99);
	ret->convergence_count = peer->n_samples;
	ret->slow = peer->session != NULL &&
		    percentile(&live, 99) > (int64_t)engine->target_ms;
	evfs_free(all.ms);
	evfs_free(live.ms);
}
