/* SPDX-License-Identifier: GPL-3.0-or-later */
/* gossip [--nodes N] [--runs R] [--seed S] [--loss PERCENT] [--no-rumours]:
 * many members under a virtual clock, with the real gossip, detector and choice
 * of sessions, and the real bytes on the wire.
 *
 * What stands in for the rest: the store of a member is one number for each
 * writer (its context); a stream brings the sender's context at once; a session
 * is an edge along which messages take 1 to 100 ms and are lost, each, with the
 * given chance (real sessions lose nothing: this is the harder case).
 *
 * Each run makes one change at a random member and counts the rounds, of one
 * gossip interval, until it is everywhere. Then a few members die, and return.
 * Checked: 2 log2(N) rounds in 99 % of the runs; the bytes of a member and
 * round; that the dead are found, in time, and no living one is called dead. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/mem.h"
#include "net/gossip.h"
#include "net/topology.h"

#define MS ((uint64_t)1000000)
#define SECOND ((uint64_t)1000000000)
#define INTERVAL_MS 1000
#define FANOUT 2
#define RELAY_NS (250 * MS)
#define LINKS_MAX 64
#define RUMOUR_BYTES 200 /* a small change, as a stream of one object */
#define WALL_NS (1700000000ull * SECOND)

enum kind {
	ROUND,	/* of a member */
	LINK,	/* it looks for sessions */
	FRAME,	/* gossip arrives */
	RUMOUR, /* a change arrives */
	TURN,	/* it passes a change on over a session, if need be */
	PULL	/* a lagging member asks */
};

struct event {
	uint64_t at_ns, order;
	enum kind kind;
	unsigned to, from;
	uint64_t value; /* version carried, or of the turn */
	uint8_t *frame; /* owned */
	size_t len;
};

struct member {
	struct evfs_gossip gossip;
	struct evfs_env env;
	uint64_t rng;
	bool off;
	unsigned links[LINKS_MAX]; /* others by number */
	size_t n_links;
	uint64_t version; /* changes here; they come one after the other */
	uint64_t since_ns; /* when the newest came */
	uint64_t bytes;	   /* sent, gossip alone */
};

struct world {
	unsigned n;
	struct member *members;
	struct event *heap;
	size_t n_heap, cap_heap;
	uint64_t now_ns, order, rng;
	unsigned loss_percent;
	bool rumours;
	uint64_t version; /* the newest change */
	unsigned holders; /* who has it */
	uint64_t rumour_sends;
	uint64_t false_suspects, false_deaths; /* looks that were wrong */
	uint64_t looks;
};

static struct world world;

static void die(const char *fmt, ...) EVFS_PRINTF(1, 2)
	__attribute__((noreturn));
static void die(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vfprintf(stderr, fmt, args);
	va_end(args);
	fputc('\n', stderr);
	exit(EXIT_FAILURE);
}

/* ---- chance and time ---- */

/* splitmix64 (Steele, Lea, Flood 2014) */
static uint64_t mix(uint64_t *state)
{
	uint64_t z = (*state += 0x9e3779b97f4a7c15ULL);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
	return z ^ (z >> 31);
}

static uint64_t below(uint64_t n)
{
	return mix(&world.rng) % n;
}

static uint64_t member_wall(void *ctx)
{
	(void)ctx;
	return WALL_NS + world.now_ns;
}

static uint64_t member_mono(void *ctx)
{
	(void)ctx;
	return SECOND + world.now_ns;
}

static void member_random(void *ctx, void *data, size_t len)
{
	struct member *member = ctx;
	uint8_t *at = data;

	for (; len > 0; len--)
		*at++ = (uint8_t)(mix(&member->rng) >> 32);
}

/* ---- events: a heap ---- */

static bool is_before(const struct event *a, const struct event *b)
{
	return a->at_ns != b->at_ns ? a->at_ns < b->at_ns : a->order < b->order;
}

static void post(struct event event)
{
	size_t i = world.n_heap, up;

	if (evfs_grow((void **)&world.heap, world.n_heap, &world.cap_heap,
		      sizeof(*world.heap)) < 0)
		die("out of memory");
	event.order = ++world.order;
	for (; i > 0; i = up) {
		up = (i - 1) / 2;
		if (!is_before(&event, &world.heap[up]))
			break;
		world.heap[i] = world.heap[up];
	}
	world.heap[i] = event;
	world.n_heap++;
}

static struct event take(void)
{
	struct event first = world.heap[0];
	struct event last = world.heap[--world.n_heap];
	size_t i = 0, down;

	for (; (down = 2 * i + 1) < world.n_heap; i = down) {
		if (down + 1 < world.n_heap &&
		    is_before(&world.heap[down + 1], &world.heap[down]))
			down++;
		if (!is_before(&world.heap[down], &last))
			break;
		world.heap[i] = world.heap[down];
	}
	world.heap[i] = last;
	return first;
}

/* Something on its way over a session. False: it is lost. */
static bool travel(struct event event)
{
	if (below(100) < world.loss_percent) {
		evfs_free(event.frame);
		return false;
	}
	event.at_ns = world.now_ns + MS + below(99 * MS);
	post(event);
	return true;
}

/* ---- the stand-in for a store ---- */

static void describe(struct member *member)
{
	struct evfs_gossip_state state = { .epoch = 1,
					   .counter = member->version,
					   .dots = member->version,
					   .version = 1,
					   .version_oldest = 1 };

	memcpy(state.context, &member->version, sizeof(member->version));
	memcpy(state.root.b, &member->version, sizeof(member->version));
	evfs_gossip_set_own(&member->gossip, &state);
}

/* Passes news on: a turn for each session, as net/push.c does. */
static void spread(unsigned i, bool own)
{
	struct member *member = &world.members[i];
	size_t k;

	for (k = 0; world.rumours && k < member->n_links; k++) {
		uint64_t turn = 0;

		if (!own)
			turn = evfs_topology_is_full(world.n)
				       ? 1
				       : evfs_topology_turn(member->n_links,
							    FANOUT,
							    &member->env);
		post((struct event){ .at_ns = world.now_ns + turn * RELAY_NS,
				     .kind = TURN,
				     .to = member->links[k],
				     .from = i,
				     .value = member->version });
	}
}

static void learn(unsigned i, uint64_t version, bool own)
{
	struct member *member = &world.members[i];

	if (member->off || version <= member->version)
		return;
	if (version == world.version)
		world.holders++;
	member->version = version;
	member->since_ns = world.now_ns;
	describe(member);
	spread(i, own);
}

/* ---- gossip ---- */

static void send(unsigned from, unsigned to,
		 Evfs__Wire__Envelope__KindCase kind,
		 struct evfs_gossip_message *message)
{
	Evfs__Wire__Envelope e = EVFS__WIRE__ENVELOPE__INIT;
	struct evfs_buf frame = { 0 };

	e.kind_case = kind;
	e.gossip_syn = &message->wire;
	if (evfs_wire_encode(&e, &frame) < 0)
		die("encoding");
	world.members[from].bytes += frame.len;
	(void)travel((struct event){ .kind = FRAME,
				     .to = to,
				     .from = from,
				     .frame = frame.data,
				     .len = frame.len });
	evfs_gossip_message_fini(message);
}

static void round_of(unsigned i)
{
	uint64_t period_ns = INTERVAL_MS * MS * 4 / 5 +
			     below(INTERVAL_MS * MS * 2 / 5);
	struct member *member = &world.members[i];
	struct evfs_gossip_message message;
	size_t k, left = member->n_links, wanted = FANOUT;

	post((struct event){ .at_ns = world.now_ns + period_ns,
			     .kind = ROUND,
			     .to = i });
	if (member->off)
		return;
	evfs_gossip_round(&member->gossip, period_ns);
	for (k = 0; k < member->n_links && wanted > 0; k++) {
		if (below(left--) >= wanted)
			continue;
		wanted--;
		if (evfs_gossip_syn(&member->gossip, &message) < 0)
			die("out of memory");
		send(i, member->links[k],
		     EVFS__WIRE__ENVELOPE__KIND_GOSSIP_SYN, &message);
	}
}

static void answer(const struct event *event, const Evfs__Wire__Envelope *e)
{
	struct member *to = &world.members[event->to];
	struct evfs_gossip_message message;

	if (e->kind_case == EVFS__WIRE__ENVELOPE__KIND_GOSSIP_SYN) {
		if (evfs_gossip_ack(&to->gossip, e->gossip_syn, &message) < 0)
			die("out of memory");
		send(event->to, event->from,
		     EVFS__WIRE__ENVELOPE__KIND_GOSSIP_ACK, &message);
	} else if (e->kind_case == EVFS__WIRE__ENVELOPE__KIND_GOSSIP_ACK &&
		   e->gossip_ack->want.len > 0) {
		if (evfs_gossip_ack2(&to->gossip, e->gossip_ack, &message) < 0)
			die("out of memory");
		send(event->to, event->from,
		     EVFS__WIRE__ENVELOPE__KIND_GOSSIP_ACK2, &message);
	}
}

static void got_frame(const struct event *event)
{
	struct member *to = &world.members[event->to];
	const struct evfs_gossip_entry *own, *theirs;
	Evfs__Wire__Envelope *e;
	struct evfs_err err = { 0 };

	if (to->off)
		return;
	if (evfs_wire_decode(event->frame + EVFS_WIRE_HEADER,
			     event->len - EVFS_WIRE_HEADER, &e, &err) < 0)
		die("%s", err.msg);
	evfs_gossip_take(&to->gossip, world.members[event->from].gossip.self,
			 e->gossip_syn);
	answer(event, e);
	evfs_wire_free(e);
	own = evfs_gossip_find(&to->gossip, to->gossip.self);
	theirs = evfs_gossip_find(&to->gossip,
				  world.members[event->from].gossip.self);
	if (theirs->since > 0 &&
	    evfs_gossip_lags(&own->state, &theirs->state))
		post((struct event){ .at_ns = world.now_ns + RELAY_NS,
				     .kind = PULL,
				     .to = event->from,
				     .from = event->to,
				     .value = theirs->state.dots });
}

/* ---- sessions ---- */

static bool is_linked(const struct member *member, unsigned other)
{
	size_t k;

	for (k = 0; k < member->n_links; k++)
		if (member->links[k] == other)
			return true;
	return false;
}

static void unlink_of(unsigned i, unsigned other)
{
	struct member *member = &world.members[i];
	size_t k;

	for (k = 0; k < member->n_links; k++)
		if (member->links[k] == other)
			member->links[k--] = member->links[--member->n_links];
}

static void link_of(unsigned i)
{
	struct member *member = &world.members[i], *other;
	struct evfs_topology_node *nodes;
	unsigned k, n = 0, *numbers;
	size_t found;

	post((struct event){ .at_ns = world.now_ns + 50 * MS +
				      below(100 * MS) +
				      (member->n_links <
						       evfs_topology_degree(
							       world.n)
					       ? 0
					       : SECOND),
			     .kind = LINK,
			     .to = i });
	if (member->off || member->n_links >= evfs_topology_degree(world.n))
		return;
	nodes = evfs_calloc(world.n, sizeof(*nodes));
	numbers = evfs_calloc(world.n, sizeof(*numbers));
	if (nodes == NULL || numbers == NULL)
		die("out of memory");
	for (k = 0; k < world.n; k++) {
		if (k == i)
			continue;
		numbers[n] = k;
		nodes[n++] = (struct evfs_topology_node){
			.node = world.members[k].gossip.self,
			.linked = is_linked(member, k),
			.ready = true,
			.dead = evfs_gossip_life(
					&member->gossip,
					&member->gossip.entries[k]) ==
				EVFS_GOSSIP_DEAD
		};
	}
	found = evfs_topology_next(nodes, n, member->gossip.self, &member->env);
	other = found < n ? &world.members[numbers[found]] : NULL;
	if (other != NULL && !other->off && other->n_links < LINKS_MAX &&
	    other->n_links <= evfs_topology_degree_max(world.n)) {
		member->links[member->n_links++] = numbers[found];
		other->links[other->n_links++] = i;
	}
	evfs_free(nodes);
	evfs_free(numbers);
}

static void power_off(unsigned i)
{
	struct member *member = &world.members[i];

	member->off = true;
	while (member->n_links > 0) {
		unlink_of(member->links[0], i);
		unlink_of(i, member->links[0]);
	}
}

/* ---- running ---- */

static void handle(struct event *event)
{
	struct member *to = &world.members[event->to];
	struct member *from = &world.members[event->from];

	switch (event->kind) {
	case ROUND:
		round_of(event->to);
		break;
	case LINK:
		link_of(event->to);
		break;
	case FRAME:
		got_frame(event);
		break;
	case RUMOUR:
		learn(event->to, event->value, false);
		break;
	case TURN:
		/* the other's report (100 ms at most) has said that it has it */
		if (from->off || (to->version >= event->value &&
				  world.now_ns - to->since_ns >= 100 * MS))
			break;
		world.rumour_sends++;
		(void)travel((struct event){ .kind = RUMOUR,
					     .to = event->to,
					     .from = event->from,
					     .value = event->value });
		break;
	case PULL:
		/* the question and the answer may be lost */
		if (!to->off && from->version < event->value &&
		    below(100) >= world.loss_percent)
			(void)travel((struct event){ .kind = RUMOUR,
						     .to = event->from,
						     .from = event->to,
						     .value = to->version });
		break;
	}
	evfs_free(event->frame);
}

static void run_until(uint64_t until_ns)
{
	while (world.n_heap > 0 && world.heap[0].at_ns <= until_ns) {
		struct event event = take();

		world.now_ns = event.at_ns;
		handle(&event);
	}
	world.now_ns = until_ns;
}

static int compare_nodes(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static void make(void)
{
	uint64_t *nodes = evfs_calloc(world.n, sizeof(*nodes));
	unsigned i;

	world.members = evfs_calloc(world.n, sizeof(*world.members));
	if (nodes == NULL || world.members == NULL)
		die("out of memory");
	for (i = 0; i < world.n; i++)
		nodes[i] = mix(&world.rng) | 1;
	qsort(nodes, world.n, sizeof(*nodes), compare_nodes);
	for (i = 0; i < world.n; i++) {
		struct member *member = &world.members[i];

		member->rng = mix(&world.rng);
		member->env = (struct evfs_env){ member, member_wall,
						 member_mono, member_random };
		if (evfs_gossip_init(&member->gossip, &member->env, nodes[i],
				     INTERVAL_MS) < 0 ||
		    evfs_gossip_set_members(&member->gossip, nodes, world.n) <
			    0)
			die("out of memory");
		post((struct event){ .at_ns = below(SECOND),
				     .kind = ROUND,
				     .to = i });
		post((struct event){ .at_ns = below(SECOND),
				     .kind = LINK,
				     .to = i });
	}
	evfs_free(nodes);
}

static void unmake(void)
{
	unsigned i;

	for (i = 0; i < world.n; i++)
		evfs_gossip_fini(&world.members[i].gossip);
	while (world.n_heap > 0)
		evfs_free(world.heap[--world.n_heap].frame);
	evfs_free(world.heap);
	evfs_free(world.members);
}

/* ---- what is measured ---- */

static enum evfs_gossip_life life(unsigned at, unsigned of)
{
	const struct evfs_gossip *gossip = &world.members[at].gossip;

	return evfs_gossip_life(gossip, &gossip->entries[of]);
}

/* Everybody's opinion of everybody who lives. */
static void look(void)
{
	unsigned i, k;

	for (i = 0; i < world.n; i++)
		for (k = 0; k < world.n; k++) {
			if (world.members[i].off || world.members[k].off ||
			    i == k)
				continue;
			world.looks++;
			world.false_suspects +=
				life(i, k) == EVFS_GOSSIP_SUSPECT;
			world.false_deaths += life(i, k) == EVFS_GOSSIP_DEAD;
		}
}

/* Rounds until a change is everywhere, in hundredths. */
static unsigned spread_one(void)
{
	uint64_t start_ns = world.now_ns;
	unsigned writer = (unsigned)below(world.n);

	world.holders = 0;
	learn(writer, ++world.version, true);
	while (world.holders < world.n) {
		run_until(world.now_ns + 10 * MS);
		if (world.now_ns - start_ns > 200 * SECOND)
			die("the change is not everywhere after 200 rounds");
	}
	return (unsigned)((world.now_ns - start_ns) /
			  (INTERVAL_MS * MS / 100));
}

static int compare_unsigned(const void *a, const void *b)
{
	unsigned x = *(const unsigned *)a, y = *(const unsigned *)b;

	return x < y ? -1 : x > y;
}

static void start_counting(void)
{
	unsigned i;

	for (i = 0; i < world.n; i++)
		world.members[i].bytes = 0;
}

/* Bytes of gossip that a member has sent in a round since then. */
static void show_cost(const char *when, uint64_t since_ns)
{
	double rounds = (double)(world.now_ns - since_ns) /
			(double)(INTERVAL_MS * MS);
	unsigned i, rows = world.n, states = world.n;
	uint64_t sum = 0;
	double mean, bound;

	for (i = 0; i < world.n; i++)
		sum += world.members[i].bytes;
	if (rows > EVFS_GOSSIP_ROWS_MAX)
		rows = EVFS_GOSSIP_ROWS_MAX;
	if (states > EVFS_GOSSIP_STATES_MAX)
		states = EVFS_GOSSIP_STATES_MAX;
	mean = (double)sum / world.n / rounds;
	/* SYNs and ACKs with all rows, ACKs and ACK2s with all states */
	bound = FANOUT * (2.0 * rows * EVFS_GOSSIP_ROW_BYTES +
			  2.0 * states * 130 + 3 * 130);
	printf("  cost %s: %.0f bytes a member and round, bound %.0f with %u "
	       "rows and %u states\n",
	       when, mean, bound, rows, states);
	if (mean > bound)
		die("FAILED: gossip costs more than its bound");
}

static void measure_spread(unsigned runs)
{
	unsigned i, late = 0, *rounds = evfs_calloc(runs, sizeof(*rounds));
	double bound = 2 * log2((double)world.n);
	uint64_t start_ns = world.now_ns;

	if (rounds == NULL)
		die("out of memory");
	world.rumour_sends = 0;
	start_counting();
	for (i = 0; i < runs; i++) {
		rounds[i] = spread_one();
		late += rounds[i] > 100 * bound;
		run_until(world.now_ns + below(3 * SECOND));
		if (i % 10 == 0)
			look();
	}
	qsort(rounds, runs, sizeof(*rounds), compare_unsigned);
	printf("  spread: %u runs, rounds p50 %.2f p99 %.2f max %.2f, bound "
	       "%.1f, late %u; each change sent %.2f times a member\n",
	       runs, rounds[runs / 2] / 100.0,
	       rounds[(runs - 1) * 99 / 100] / 100.0, rounds[runs - 1] / 100.0,
	       bound, late,
	       (double)world.rumour_sends / runs / (double)world.n);
	show_cost("with changes", start_ns);
	if (late * 100 > runs)
		die("FAILED: later than 2 log2(N) rounds in %u of %u runs",
		    late, runs);
	evfs_free(rounds);
}

/* Some members die at once. Seconds until everybody knows it, at first and at
 * last. */
static void measure_deaths(void)
{
	unsigned i, k, dead = world.n / 20 + 1, known, wanted;
	uint64_t start_ns, first_ns = 0, bound_s;

	/* until phi is 8, the longer the fewer of all rows are in a digest, and
	 * the patience after it */
	bound_s = 30 + (uint64_t)(4 * log10((double)world.n)) +
		  30 * world.n / EVFS_GOSSIP_ROWS_MAX;
	for (i = 0; i < dead; i++)
		power_off(i * 19 % world.n);
	start_ns = world.now_ns;
	do {
		run_until(world.now_ns + SECOND);
		known = wanted = 0;
		for (i = 0; i < world.n; i++)
			for (k = 0; k < dead && !world.members[i].off; k++) {
				wanted++;
				known += life(i, k * 19 % world.n) ==
					 EVFS_GOSSIP_DEAD;
			}
		if (known * 2 >= wanted && first_ns == 0)
			first_ns = world.now_ns - start_ns;
		if (world.now_ns - start_ns > bound_s * SECOND)
			die("FAILED: %u of %u do not know of a death after "
			    "%llu s", wanted - known, wanted,
			    (unsigned long long)bound_s);
	} while (known < wanted);
	look();
	printf("  deaths: %u members, known by half in %.0f s, by all in "
	       "%.0f s (bound %llu s)\n",
	       dead, (double)first_ns / 1e9,
	       (double)(world.now_ns - start_ns) / 1e9,
	       (unsigned long long)bound_s);
	for (i = 0; i < dead; i++)
		world.members[i * 19 % world.n].off = false;
	run_until(world.now_ns + 30 * SECOND);
	look();
}

static void run_world(unsigned n, unsigned runs, uint64_t seed)
{
	uint64_t rest_ns;

	world.n = n;
	world.rng = seed * 0x2545f4914f6cdd1dULL + 1;
	make();
	printf("%u members, seed %llu, %u %% of messages lost%s\n", n,
	       (unsigned long long)seed, world.loss_percent,
	       world.rumours ? "" : ", gossip and pull alone");
	run_until(60 * SECOND); /* everybody has met everybody */
	look();
	measure_spread(runs);
	run_until(world.now_ns + 60 * SECOND);
	start_counting();
	rest_ns = world.now_ns;
	run_until(world.now_ns + 20 * SECOND);
	show_cost("at rest", rest_ns);
	measure_deaths();
	printf("  opinions of the living: %llu, wrongly suspect %llu, wrongly "
	       "dead %llu\n",
	       (unsigned long long)world.looks,
	       (unsigned long long)world.false_suspects,
	       (unsigned long long)world.false_deaths);
	if (world.false_deaths > 0)
		die("FAILED: somebody alive was called dead");
	/* a thousandth of a percent of all opinions */
	if (world.false_suspects * 100000 > world.looks + 100000)
		die("FAILED: too many wrong suspicions");
	unmake();
}

int main(int argc, char **argv)
{
	unsigned nodes = 0, runs = 0, loss = 10;
	static const unsigned sizes[] = { 10, 100, 300 };
	bool rumours = true;
	uint64_t seed = 1;
	size_t i;
	int k;

	setvbuf(stdout, NULL, _IOLBF, 0); /* long runs are watched */
	for (k = 1; k < argc; k++) {
		if (strcmp(argv[k], "--nodes") == 0 && k + 1 < argc)
			nodes = (unsigned)strtoul(argv[++k], NULL, 10);
		else if (strcmp(argv[k], "--runs") == 0 && k + 1 < argc)
			runs = (unsigned)strtoul(argv[++k], NULL, 10);
		else if (strcmp(argv[k], "--seed") == 0 && k + 1 < argc)
			seed = strtoull(argv[++k], NULL, 10);
		else if (strcmp(argv[k], "--loss") == 0 && k + 1 < argc)
			loss = (unsigned)strtoul(argv[++k], NULL, 10);
		else if (strcmp(argv[k], "--no-rumours") == 0)
			rumours = false;
		else {
			fprintf(stderr,
				"usage: %s [--nodes N] [--runs R] [--seed S] "
				"[--loss PERCENT] [--no-rumours]\n",
				argv[0]);
			return 2;
		}
	}
	for (i = 0; i < (nodes > 0 ? 1 : sizeof(sizes) / sizeof(sizes[0]));
	     i++) {
		memset(&world, 0, sizeof(world));
		world.loss_percent = loss;
		world.rumours = rumours;
		run_world(nodes > 0 ? nodes : sizes[i], runs > 0 ? runs : 20,
			  seed);
	}
	return 0;
}
