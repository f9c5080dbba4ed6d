/* SPDX-License-Identifier: GPL-3.0-or-later */
/* run --seed S --runs N [--verbose]: random histories, one for each seed from
 * S on. A seed always gives the same history; a failure prints its seed. */
#include <malloc.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "tests/sim/sim.h"

void sim_fail(struct sim *sim, const char *fmt, ...)
{
	va_list args;

	fflush(stdout);
	fprintf(stderr,
		"seed %llu FAILED at %.6f s: ", (unsigned long long)sim->seed,
		(double)evfs_loop_now(sim->loop) / 1e9);
	va_start(args, fmt);
	vfprintf(stderr, fmt, args);
	va_end(args);
	fprintf(stderr,
		"\nreplay: tests/sim/run --seed %llu --runs 1 "
		"--verbose\n",
		(unsigned long long)sim->seed);
	exit(EXIT_FAILURE);
}

void sim_trace(struct sim *sim, const char *fmt, ...)
{
	va_list args;

	if (!sim->verbose)
		return;
	printf("%11.6f ", (double)evfs_loop_now(sim->loop) / 1e9);
	va_start(args, fmt);
	vprintf(fmt, args);
	va_end(args);
	printf("\n");
}

void sim_must(struct sim *sim, int rc, const struct evfs_err *err,
	      const char *what)
{
	if (rc < 0)
		sim_fail(sim, "%s: %s", what, err->msg);
}

/* splitmix64 (Steele, Lea, Flood 2014) */
uint64_t sim_below(struct sim *sim, uint64_t n)
{
	uint64_t z = (sim->rng += 0x9e3779b97f4a7c15ULL);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
	return (z ^ (z >> 31)) % n;
}

bool sim_chance(struct sim *sim, unsigned percent)
{
	return sim_below(sim, 100) < percent;
}

/* ---- a history ---- */

static void live(struct sim *sim)
{
	unsigned steps = 20 + (unsigned)sim_below(sim, 120);
	unsigned trouble_percent = (unsigned)sim_below(sim, 40);
	uint64_t pace = SIM_MS * (1 + sim_below(sim, sim->slow ? 4000 : 600));
	unsigned i;

	for (i = 0; i < steps; i++) {
		struct sim_replica *r = &sim->replicas[sim_below(sim, sim->n)];

		sim_heal_due(sim, false);
		sim_come_back(sim);
		if (sim_chance(sim, trouble_percent))
			sim_trouble(sim);
		else if (r->engine != NULL && !sim->forge &&
			 sim_chance(sim, 12))
			sim_collect(r);
		else if (r->engine != NULL && sim_chance(sim, 12))
			sim_ask(r);
		else if (r->engine != NULL)
			sim_operation(r);
		if (sim_chance(sim, 30))
			sim_check_now(sim);
		/* often nothing happens between two operations */
		if (sim_chance(sim, 70))
			sim_run_until(sim, evfs_loop_now(sim->loop) +
						   sim_below(sim, pace));
	}
}

static void settle(struct sim *sim)
{
	uint64_t start_ns, end_ns;
	unsigned i;

	sim_trace(sim, "healing all");
	sim->options.cut_ppm = 0;
	evfs_loop_set_options(sim->loop, &sim->options);
	sim_heal_due(sim, true);
	if (sim->forge)
		sim_forge_contexts(sim);
	for (i = 0; i < sim->n; i++) {
		struct sim_replica *r = &sim->replicas[i];

		if (r->engine == NULL)
			sim_power_on(r);
		if (r->paused) {
			r->paused = false;
			evfs_engine_pause(r->engine, 0, false);
			evfs_loop_poke(sim->loop, i);
		}
		sim_close_handles(r);
		r->away_until = 0;
		sim_commit(r);
	}
	sim->quiet = true;
	sim_settle_members(sim);
	start_ns = evfs_loop_now(sim->loop);
	/* the longest wait of a dialler, twice, and what is to be sent */
	end_ns = start_ns + 180 * SIM_SECOND;
	if (sim->forge) /* pairs audit one after the other */
		end_ns += 120 * SIM_SECOND;
	while (!sim_is_converged(sim)) {
		if (evfs_loop_now(sim->loop) >= end_ns)
			break;
		sim_run_until(sim, evfs_loop_now(sim->loop) + 100 * SIM_MS);
		sim_keep_out(sim);
	}
	sim_trace(sim, "settled");
	sim->settle_ns = evfs_loop_now(sim->loop) - start_ns;
	sim_check_converged(sim);
}

static uint64_t gossip_bytes(struct sim *sim)
{
	struct evfs_engine_status status;
	struct evfs_err err = { 0 };
	uint64_t sum = 0;
	unsigned i;

	for (i = 0; i < sim->n; i++) {
		if (sim->replicas[i].removed)
			continue;
		sim_must(sim,
			 evfs_engine_status(sim->replicas[i].engine, &status,
					    &err),
			 &err, "status");
		evfs_free(status.peers);
		sum += status.gossip_bytes;
	}
	return sum;
}

/* Nothing but heartbeats when all is equal: pings, and gossip, which has a
 * bound of its own. */
static void rest(struct sim *sim)
{
	uint64_t pairs = (uint64_t)sim->n * (sim->n - 1) / 2;
	uint64_t before, bytes, gossip;

	/* what was sent twice may still be under way */
	sim_run_until(sim, evfs_loop_now(sim->loop) + 10 * SIM_SECOND);
	before = evfs_loop_bytes(sim->loop);
	gossip = gossip_bytes(sim);
	sim_run_until(sim, evfs_loop_now(sim->loop) + 60 * SIM_SECOND);
	bytes = evfs_loop_bytes(sim->loop) - before;
	gossip = gossip_bytes(sim) - gossip;
	if (bytes > pairs * 6000 + gossip || gossip > sim->n * 60000)
		sim_fail(sim, "P13 %llu bytes in a quiet minute, %llu gossip",
			 (unsigned long long)bytes,
			 (unsigned long long)gossip);
	sim_check_collected(sim);
	sim_check_converged(sim);
}

static void make_link(struct sim_replica *r)
{
	struct evfs_new what = { .kind = EVFS_KIND_SYMLINK,
				 .mode = 0777,
				 .target = "one",
				 .target_len = 3 };
	struct sim_snapshot *before = sim_snapshot(r);
	struct evfs_err err = { 0 };
	evfs_stamp link;
	evfs_ino ino;
	int rc;

	evfs_meta_lock(r->meta);
	rc = evfs_tree_create(r->meta, EVFS_INO_ROOT, "one more", 8, &what,
			      &ino, &link, &err);
	evfs_meta_unlock(r->meta);
	sim_must(r->sim, rc, &err, "P10 one more");
	sim_ledger_record(r, before);
	sim_commit(r);
}

/* P15: one small change costs each member about what it is, whatever else is
 * there: its object once or twice, and reports. */
static void spread_one(struct sim *sim)
{
	uint64_t before = evfs_loop_bytes(sim->loop);
	uint64_t gossip = gossip_bytes(sim);
	uint64_t end_ns = evfs_loop_now(sim->loop) + 30 * SIM_SECOND;
	uint64_t bytes;

	make_link(sim_first_member(sim));
	while (!sim_is_converged(sim) && evfs_loop_now(sim->loop) < end_ns)
		sim_run_until(sim, evfs_loop_now(sim->loop) + 100 * SIM_MS);
	bytes = evfs_loop_bytes(sim->loop) - before;
	gossip = gossip_bytes(sim) - gossip;
	if (bytes > gossip + (uint64_t)sim->n * sim->n * 1500)
		sim_fail(sim, "P15 %llu bytes for one link, %llu gossip",
			 (unsigned long long)bytes,
			 (unsigned long long)gossip);
	sim_trace(sim, "P15 %llu bytes, %llu gossip, %u replicas",
		  (unsigned long long)bytes, (unsigned long long)gossip,
		  sim->n);
	if (!sim_is_converged(sim))
		sim_fail(sim, "P13 one link is not everywhere after 30 s");
}

/* Over all histories. */
struct totals {
	uint64_t ops, crashes, restores, removals, returns, absences, held;
	uint64_t settle_ns; /* the longest */
};

static void add_up(struct totals *totals, const struct sim *sim)
{
	totals->ops += sim->ops;
	totals->crashes += sim->crashes;
	totals->restores += sim->restores;
	totals->removals += sim->removals;
	totals->returns += sim->returns;
	totals->absences += sim->absences;
	totals->held += sim->held;
	if (sim->settle_ns > totals->settle_ns)
		totals->settle_ns = sim->settle_ns;
}

static void print_totals(const struct totals *totals)
{
	printf("%llu operations, %llu crashes, %llu restores, %llu removals, "
	       "%llu returns, %llu absences, %llu writes held by a quorum; "
	       "converged at most %.1f s after the last fault\n",
	       (unsigned long long)totals->ops,
	       (unsigned long long)totals->crashes,
	       (unsigned long long)totals->restores,
	       (unsigned long long)totals->removals,
	       (unsigned long long)totals->returns,
	       (unsigned long long)totals->absences,
	       (unsigned long long)totals->held,
	       (double)totals->settle_ns / 1e9);
}

/* A product that asserts says which line; this says which history. */
static volatile sig_atomic_t aborted;
static uint64_t running_seed;

static void on_abort(int number)
{
	char text[128];
	int len;

	if (aborted)
		_exit(EXIT_FAILURE);
	aborted = number;
	len = snprintf(text, sizeof(text),
		       "seed %llu FAILED by signal %d\nreplay: tests/sim/run "
		       "--seed %llu --runs 1 --verbose\n",
		       (unsigned long long)running_seed, number,
		       (unsigned long long)running_seed);
	if (write(STDERR_FILENO, text, (size_t)len) != len)
		_exit(EXIT_FAILURE);
	(void)signal(number, SIG_DFL);
	(void)raise(number);
}

static void run_seed(uint64_t seed, bool verbose, struct totals *totals)
{
	static struct sim sim;

	memset(&sim, 0, sizeof(sim));
	sim.seed = running_seed = seed;
	sim.rng = seed * 0x2545f4914f6cdd1dULL + 1;
	sim.verbose = verbose;
	sim.forge = sim_chance(&sim, 20);
	sim_choose_troubles(&sim);
	sim_init(&sim);
	live(&sim);
	settle(&sim);
	rest(&sim);
	spread_one(&sim);
	add_up(totals, &sim);
	sim_fini(&sim);
}

int main(int argc, char **argv)
{
	uint64_t seed = 1, runs = 25, i;
	struct totals totals = { 0 };
	bool verbose = false;
	struct timespec start, end;
	double seconds;
	int k;

	for (k = 1; k < argc; k++) {
		if (strcmp(argv[k], "--seed") == 0 && k + 1 < argc)
			seed = strtoull(argv[++k], NULL, 10);
		else if (strcmp(argv[k], "--runs") == 0 && k + 1 < argc)
			runs = strtoull(argv[++k], NULL, 10);
		else if (strcmp(argv[k], "--verbose") == 0)
			verbose = true;
		else {
			fprintf(stderr,
				"usage: %s [--seed S] [--runs N] "
				"[--verbose]\n",
				argv[0]);
			return 2;
		}
	}
	(void)signal(SIGABRT, on_abort);
	/* contents come and go: pages that were given back to the kernel
	 * would have to be cleared each time */
	(void)mallopt(M_MMAP_THRESHOLD, 1 << 30);
	(void)mallopt(M_TRIM_THRESHOLD, 1 << 30);
	/* crashes and cuts are reported as warnings, and divergence, which is
	 * made here, as an error: not news here */
	evfs_log_init("sim", verbose ? EVFS_LOG_DEBUG : EVFS_LOG_NONE,
		      false);
	clock_gettime(CLOCK_MONOTONIC, &start);
	for (i = 0; i < runs; i++)
		run_seed(seed + i, verbose, &totals);
	clock_gettime(CLOCK_MONOTONIC, &end);
	seconds = (double)(end.tv_sec - start.tv_sec) +
		  (double)(end.tv_nsec - start.tv_nsec) / 1e9;
	printf("%llu histories from seed %llu: OK (%.1f a second)\n",
	       (unsigned long long)runs, (unsigned long long)seed,
	       (double)runs / seconds);
	print_totals(&totals);
	return 0;
}
