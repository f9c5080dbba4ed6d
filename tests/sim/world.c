/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Making, running and breaking the replicas of a simulation. */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "meta/config.h"
#include "meta/members.h"
#include "tests/sim/sim.h"

static void read_view(struct sim_replica *replica)
{
	struct evfs_err err = { 0 };
	int r;

	evfs_buf_clear(&replica->view);
	evfs_meta_lock(replica->meta);
	r = evfs_view_dump(replica->meta, &replica->view, &err);
	evfs_meta_unlock(replica->meta);
	sim_must(replica->sim, r, &err, "view dump");
}

/* A commit has ended; also those that the store makes by itself (a reader of
 * a store in memory begins with one). */
static void on_durable(void *ctx)
{
	struct sim_replica *replica = ctx;

	sim_ledger_committed(replica);
	sim_contents_committed(replica);
	/* to compare with after a crash; not needed where none can come */
	if (!replica->sim->quiet)
		read_view(replica);
	evfs_loop_durable(replica->sim->loop, replica->index);
}

void sim_commit(struct sim_replica *replica)
{
	struct evfs_err err = { 0 };
	uint64_t generation;

	evfs_meta_lock(replica->meta);
	generation = evfs_meta_generation(replica->meta);
	evfs_meta_unlock(replica->meta);
	if (generation == replica->committed)
		return;
	sim_must(replica->sim, evfs_meta_commit(replica->meta, &err), &err,
		 "commit");
	replica->committed = generation;
}

void sim_crash(struct sim_replica *replica)
{
	struct evfs_buf before = { 0 };
	struct evfs_err err = { 0 };

	sim_trace(replica->sim, "crash %s", replica->name);
	replica->sim->crashes++;
	sim_close_handles(replica);
	evfs_loop_attach(replica->sim->loop, replica->index, NULL);
	evfs_engine_free(replica->engine);
	replica->engine = NULL;
	/* first: what comes up again commits */
	sim_ledger_crashed(replica);
	before = replica->view;
	replica->view = (struct evfs_buf){ 0 };
	sim_must(replica->sim, evfs_meta_crash(replica->meta, &err), &err,
		 "crash");
	if (before.data != NULL) {
		read_view(replica);
		if (before.len != replica->view.len ||
		    memcmp(before.data, replica->view.data, before.len) != 0)
			sim_fail(replica->sim,
				 "P12 %s: the tree after the "
				 "crash is not that of the last commit\n"
				 "--- before\n%.*s--- after\n%.*s",
				 replica->name, (int)before.len, before.data,
				 (int)replica->view.len, replica->view.data);
	}
	evfs_buf_fini(&before);
	replica->op_counter = 0;
	evfs_meta_lock(replica->meta);
	replica->committed = evfs_meta_generation(replica->meta);
	replica->counter = evfs_context_get(evfs_meta_context(replica->meta),
					    evfs_meta_actor(replica->meta));
	evfs_meta_unlock(replica->meta);
}

void sim_power_on(struct sim_replica *replica)
{
	struct sim *sim = replica->sim;
	struct evfs_err err = { 0 };

	sim_trace(sim, "power on %s", replica->name);
	sim_must(sim,
		 evfs_engine_new(replica->meta,
				 evfs_loop_env(sim->loop, replica->index),
				 evfs_loop_transport(sim->loop, replica->index),
				 &replica->engine, &err),
		 &err, "engine");
	if (replica->paused)
		evfs_engine_pause(replica->engine, 0, true);
	evfs_loop_attach(sim->loop, replica->index, replica->engine);
}

void sim_forge_contexts(struct sim *sim)
{
	struct evfs_context all = { 0 };
	struct evfs_err err = { 0 };
	unsigned i;
	int r = 0;

	sim_trace(sim, "forging contexts");
	for (i = 0; i < sim->n && r == 0; i++) {
		struct evfs_meta *meta = sim->replicas[i].meta;

		if (sim->replicas[i].engine != NULL) {
			evfs_loop_attach(sim->loop, i, NULL);
			evfs_engine_free(sim->replicas[i].engine);
			sim->replicas[i].engine = NULL;
		}
		sim_commit(&sim->replicas[i]);
		evfs_meta_lock(meta);
		r = evfs_context_join(&all, evfs_meta_context(meta));
		evfs_meta_unlock(meta);
	}
	for (i = 0; i < sim->n && r == 0; i++) {
		struct evfs_meta *meta = sim->replicas[i].meta;

		evfs_meta_lock(meta);
		r = evfs_meta_take_context(meta, &all, &err);
		evfs_meta_unlock(meta);
		sim_commit(&sim->replicas[i]);
	}
	evfs_context_fini(&all);
	sim->forged = true;
	sim_must(sim, r, &err, "forge");
}

/* ---- setting up ---- */

static void set(struct sim_replica *replica, enum evfs_config_key key,
		const char *value)
{
	struct evfs_err err = { 0 };

	sim_must(replica->sim,
		 evfs_config_set_text(replica->meta, evfs_config_name(key),
				      value, &err),
		 &err, "setting");
}

/* Limits are to be reached within a history, too. */
static void choose_settings(struct sim_replica *replica)
{
	static const char *const ttls[] = { "1s", "5s", "60s", "3h" };
	static const char *const sizes[] = { "0", "100KiB", "1GiB" };
	static const char *const audits[] = { "5s", "30s", "60s" };
	struct sim *sim = replica->sim;

	evfs_meta_lock(replica->meta);
	set(replica, EVFS_CONFIG_hint_ttl, ttls[sim_below(sim, 4)]);
	set(replica, EVFS_CONFIG_hint_max_bytes, sizes[sim_below(sim, 3)]);
	set(replica, EVFS_CONFIG_anti_entropy_interval,
	    audits[sim_below(sim, 3)]);
	evfs_meta_unlock(replica->meta);
}

static void open_store(struct sim_replica *replica)
{
	struct evfs_quorum_watch watch = { .answered = sim_answered };
	struct sim *sim = replica->sim;
	struct evfs_meta_new fresh = { 0 };
	struct evfs_meta_options options = { 0 };
	struct evfs_err err = { 0 };

	memset(fresh.volume.b, 0x5e, sizeof(fresh.volume.b));
	fresh.node_name = replica->node_name;
	fresh.node = replica->node;
	fresh.public_key = replica->key;
	options.fresh = &fresh;
	options.env = evfs_loop_env(sim->loop, replica->index);
	options.commit_delay_ms = 5;
	sim_must(sim, evfs_meta_open(&options, &replica->meta, &err), &err,
		 "open");
	replica->listener =
		(struct evfs_feed_listener){ .ctx = replica,
					     .durable = on_durable };
	choose_settings(replica);
	evfs_feed_add(replica->meta, &replica->listener);
	replica->actor = evfs_meta_actor(replica->meta);
	watch.ctx = replica;
	evfs_quorum_set_watch(replica->meta, EVFS_QUORUM_WATCH_FS, &watch);
}

static void introduce(struct sim *sim, struct sim_replica *to)
{
	struct evfs_err err = { 0 };
	bool changed;
	unsigned i;
	int r = 0;

	evfs_meta_lock(to->meta);
	for (i = 0; r == 0 && i < sim->n; i++) {
		struct evfs_member member = { 0 };

		member.node = sim->replicas[i].node;
		strcpy(member.name, sim->replicas[i].node_name);
		strcpy(member.key, sim->replicas[i].key);
		snprintf(member.address, sizeof(member.address), "loop:%u", i);
		/* newer than what each store says of itself, without address */
		member.stamp_ns = 1800000000 * SIM_SECOND;
		r = evfs_members_join(to->meta, &member, &changed, &err);
	}
	evfs_meta_unlock(to->meta);
	sim_must(sim, r, &err, "members");
}

static void choose_options(struct sim *sim)
{
	static const uint64_t delays_ms[] = { 1, 1, 5, 50, 300 };
	static const unsigned cuts[] = { 0, 0, 100, 2000, 20000 };

	sim->options.seed = sim_below(sim, UINT64_MAX);
	sim->options.delay_min_ns = 50000;
	sim->options.delay_max_ns =
		50000 + SIM_MS * delays_ms[sim_below(sim, 5)];
	sim->options.bytes_per_second = sim_chance(sim, 50) ? 0 : 20000000;
	sim->options.cut_ppm = cuts[sim_below(sim, 5)];
	sim->options.shred = sim_chance(sim, 30);
}

void sim_init(struct sim *sim)
{
	struct evfs_err err = { 0 };
	bool skewed = sim_chance(sim, 40);
	unsigned i;

	sim->n = 2 + (unsigned)sim_below(sim, SIM_REPLICAS_MAX - 1);
	choose_options(sim);
	sim_must(sim, evfs_loop_new(&sim->options, &sim->loop, &err), &err,
		 "loop");
	for (i = 0; i < sim->n; i++) {
		struct sim_replica *r = &sim->replicas[i];

		r->sim = sim;
		r->index = i;
		r->name[0] = r->node_name[0] = (char)('A' + i);
		snprintf(r->key, sizeof(r->key), "ssh-ed25519 AAAASIM%llu%c",
			 (unsigned long long)(sim->seed % 100), 'A' + i);
		r->node = evfs_node_of_key(r->key);
		(void)evfs_loop_add(sim->loop, r->node);
		if (skewed)
			evfs_loop_set_skew(sim->loop, i,
					   ((int64_t)sim_below(sim, 2000) -
					    1000) * (int64_t)SIM_SECOND);
		open_store(r);
	}
	for (i = 0; i < sim->n; i++) {
		introduce(sim, &sim->replicas[i]);
		sim_commit(&sim->replicas[i]);
		sim_power_on(&sim->replicas[i]);
	}
}

void sim_fini(struct sim *sim)
{
	unsigned i;

	for (i = 0; i < sim->n; i++) {
		struct sim_replica *r = &sim->replicas[i];

		sim_close_handles(r);
		evfs_loop_attach(sim->loop, i, NULL);
		evfs_engine_free(r->engine);
		evfs_feed_remove(r->meta, &r->listener);
		evfs_quorum_set_watch(r->meta, EVFS_QUORUM_WATCH_FS, NULL);
		evfs_meta_close(r->meta);
		evfs_buf_fini(&r->view);
		evfs_backup_free(r->backup);
	}
	evfs_loop_free(sim->loop);
	evfs_free(sim->contents);
	evfs_free(sim->gone);
	sim_ledger_fini(sim);
}

/* ---- time ---- */

void sim_run_until(struct sim *sim, uint64_t time_ns)
{
	uint64_t next_ns;
	unsigned i;

	while (evfs_loop_now(sim->loop) < time_ns) {
		next_ns = evfs_loop_now(sim->loop) + 1 +
			  sim_below(sim, 20 * SIM_MS);
		if (next_ns > time_ns)
			next_ns = time_ns;
		while (evfs_loop_step(sim->loop, next_ns))
			sim_follow_lives(sim);
		i = (unsigned)sim_below(sim, sim->n);
		if (sim->replicas[i].engine == NULL)
			continue;
		sim_commit(&sim->replicas[i]);
		if (sim->eager && !sim->quiet)
			sim_collect_step(&sim->replicas[i]);
	}
}
