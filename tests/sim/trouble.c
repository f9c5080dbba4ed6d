/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What goes wrong: partitions, cuts, crashes, pauses, restored backups, members
 * that go and come; which of it, and how often, is chosen by the seed. */
#include "tests/sim/sim.h"

static void partition(struct sim *sim)
{
	unsigned a = (unsigned)sim_below(sim, sim->n);
	unsigned b = (unsigned)sim_below(sim, sim->n);

	if (a == b)
		return;
	sim->partitions++;
	evfs_loop_link(sim->loop, a, b, false);
	sim->link_down_until[a][b] =
		evfs_loop_now(sim->loop) + sim_below(sim, 30 * SIM_SECOND);
	sim_trace(sim, "partition %c %c", 'A' + a, 'A' + b);
}

void sim_heal_due(struct sim *sim, bool all)
{
	unsigned a, b;

	for (a = 0; a < sim->n; a++)
		for (b = 0; b < sim->n; b++) {
			if (sim->link_down_until[a][b] == 0 ||
			    (!all && sim->link_down_until[a][b] >
					     evfs_loop_now(sim->loop)))
				continue;
			sim->link_down_until[a][b] = 0;
			evfs_loop_link(sim->loop, a, b, true);
			sim_trace(sim, "heal %c %c", 'A' + a, 'A' + b);
		}
}

static void pause_some(struct sim *sim)
{
	struct sim_replica *r = &sim->replicas[sim_below(sim, sim->n)];

	if (r->engine == NULL)
		return;
	r->paused = !r->paused;
	sim_trace(sim, "%s %s", r->paused ? "pause" : "resume", r->name);
	evfs_engine_pause(r->engine, 0, r->paused);
	evfs_loop_poke(sim->loop, r->index);
}

static void cut(struct sim *sim)
{
	unsigned a = (unsigned)sim_below(sim, sim->n);
	unsigned b = (unsigned)sim_below(sim, sim->n);

	if (a == b)
		return;
	sim_trace(sim, "cut %c %c", 'A' + a, 'A' + b);
	evfs_loop_cut(sim->loop, a, b);
}

static struct sim_replica *any(struct sim *sim)
{
	return &sim->replicas[sim_below(sim, sim->n)];
}

static void switch_power(struct sim *sim)
{
	struct sim_replica *r = any(sim);

	if (r->engine != NULL)
		sim_crash(r);
	else if (r->away_until == 0)
		sim_power_on(r);
}

/* Off for minutes: hints expire, and the others go on. */
static void leave(struct sim *sim)
{
	struct sim_replica *r = any(sim);

	if (r->away_until > 0)
		return;
	if (r->engine != NULL)
		sim_crash(r);
	sim->absences++;
	r->away_until = evfs_loop_now(sim->loop) +
			(20 + sim_below(sim, 180)) * SIM_SECOND;
	sim_trace(sim, "%s is away", r->name);
}

void sim_come_back(struct sim *sim)
{
	unsigned i;

	for (i = 0; i < sim->n; i++) {
		struct sim_replica *r = &sim->replicas[i];

		if (r->away_until == 0 ||
		    r->away_until > evfs_loop_now(sim->loop))
			continue;
		r->away_until = 0;
		if (r->engine == NULL)
			sim_power_on(r);
	}
}

/* Seeds differ in what goes wrong, and how often: some know one kind of
 * trouble only. */
void sim_choose_troubles(struct sim *sim)
{
	static const unsigned usual[SIM_TROUBLES] = {
		[SIM_PARTITION] = 2, [SIM_CUT] = 2,	[SIM_POWER] = 1,
		[SIM_PAUSE] = 1,     [SIM_BACK_UP] = 1, [SIM_RESTORE] = 1,
		[SIM_REMOVE] = 1,    [SIM_READMIT] = 1, [SIM_ABSENCE] = 1,
	};
	unsigned i;

	for (i = 0; i < SIM_TROUBLES; i++)
		sim->weights[i] =
			usual[i] * (unsigned)(sim_below(sim, 4) *
					      sim_below(sim, 3));
	sim->slow = sim_chance(sim, 10);
	if (!sim->slow)
		sim->weights[SIM_ABSENCE] = 0;
	sim->dense = sim_chance(sim, 25);
	sim->eager = sim_chance(sim, 25) && !sim->forge;
	/* one is nothing without the other */
	sim->weights[SIM_BACK_UP] = 2 * sim->weights[SIM_RESTORE];
	sim->weights[SIM_READMIT] = sim->weights[SIM_REMOVE];
	/* Who lost its memory trusts contexts, and so do the collector and who
	 * comes back: where these are to lie there is neither. */
	if (sim->forge)
		sim->weights[SIM_BACK_UP] = sim->weights[SIM_REMOVE] = 0;
}

static enum sim_trouble choose_trouble(struct sim *sim)
{
	unsigned sum = 0, i = 0;
	uint64_t draw;

	for (i = 0; i < SIM_TROUBLES; i++)
		sum += sim->weights[i];
	if (sum == 0)
		return SIM_TROUBLES;
	draw = sim_below(sim, sum);
	for (i = 0; draw >= sim->weights[i]; i++)
		draw -= sim->weights[i];
	return (enum sim_trouble)i;
}

void sim_trouble(struct sim *sim)
{
	switch (choose_trouble(sim)) {
	case SIM_PARTITION:
		partition(sim);
		break;
	case SIM_CUT:
		cut(sim);
		break;
	case SIM_POWER:
		switch_power(sim);
		break;
	case SIM_PAUSE:
		pause_some(sim);
		break;
	case SIM_BACK_UP:
		sim_back_up(any(sim));
		break;
	case SIM_RESTORE:
		sim_restore(any(sim));
		break;
	case SIM_REMOVE:
		sim_remove_member(any(sim), any(sim));
		break;
	case SIM_READMIT:
		sim_readmit(any(sim), any(sim));
		break;
	case SIM_ABSENCE:
		leave(sim);
		break;
	case SIM_TROUBLES:
	default:
		break;
	}
}
