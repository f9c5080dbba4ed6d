/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The table of members and the three messages; see the header. */
#include "net/gossip.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

#define MS ((uint64_t)1000000)
/* A suspect has so many intervals, times log10 of the members, to be heard of
 * (memberlist's suspicion multiplier). */
#define SUSPICION 4

/* ---- the table ---- */

static uint64_t now_of(const struct evfs_gossip *gossip)
{
	uint64_t now_ns = gossip->env->mono_ns(gossip->env->ctx);

	return evfs_health_clock(&gossip->health, now_ns,
				 gossip->interval_ms * MS);
}

static size_t place(const struct evfs_gossip *gossip, uint64_t node)
{
	size_t low = 0, high = gossip->n;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (gossip->entries[middle].node < node)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static struct evfs_gossip_entry *find(const struct evfs_gossip *gossip,
				      uint64_t node)
{
	size_t at = place(gossip, node);

	return at < gossip->n && gossip->entries[at].node == node
		       ? &gossip->entries[at]
		       : NULL;
}

const struct evfs_gossip_entry *evfs_gossip_find(
	const struct evfs_gossip *gossip, uint64_t node)
{
	return find(gossip, node);
}

int evfs_gossip_init(struct evfs_gossip *gossip, const struct evfs_env *env,
		     uint64_t self, uint64_t interval_ms)
{
	int r;

	*gossip = (struct evfs_gossip){ .env = env,
					.self = self,
					.interval_ms = interval_ms };
	r = evfs_gossip_set_members(gossip, &self, 1);
	if (r == 0)
		gossip->entries[0].heartbeat = gossip->entries[0].since =
			env->wall_ns(env->ctx) / MS;
	return r;
}

void evfs_gossip_fini(struct evfs_gossip *gossip)
{
	evfs_free(gossip->entries);
	*gossip = (struct evfs_gossip){ 0 };
}

int evfs_gossip_set_members(struct evfs_gossip *gossip, const uint64_t *nodes,
			    size_t n)
{
	struct evfs_gossip_entry *entries = evfs_calloc(n, sizeof(*entries));
	const struct evfs_gossip_entry *old;
	size_t i;

	if (entries == NULL)
		return EVFS_ENOMEM;
	for (i = 0; i < n; i++) {
		old = find(gossip, nodes[i]);
		if (old != NULL)
			entries[i] = *old;
		else
			entries[i].node = nodes[i];
	}
	evfs_free(gossip->entries);
	gossip->entries = entries;
	gossip->n = n;
	return 0;
}

/* ---- this replica ---- */

static bool state_equal(const struct evfs_gossip_state *a,
			const struct evfs_gossip_state *b)
{
	return a->epoch == b->epoch && a->counter == b->counter &&
	       a->dots == b->dots &&
	       memcmp(a->context, b->context, sizeof(a->context)) == 0 &&
	       evfs_hash_equal(&a->root, &b->root) && a->wanted == b->wanted &&
	       a->wanted_bytes == b->wanted_bytes &&
	       a->receiving == b->receiving && a->version == b->version &&
	       a->version_oldest == b->version_oldest;
}

void evfs_gossip_set_own(struct evfs_gossip *gossip,
			 const struct evfs_gossip_state *state)
{
	struct evfs_gossip_entry *own = find(gossip, gossip->self);

	if (own == NULL || state_equal(&own->state, state))
		return;
	own->state = *state;
	own->since = ++own->heartbeat;
}

void evfs_gossip_round(struct evfs_gossip *gossip, uint64_t period_ns)
{
	struct evfs_gossip_entry *own = find(gossip, gossip->self);

	evfs_health_run(&gossip->health,
			gossip->env->mono_ns(gossip->env->ctx), period_ns);
	gossip->rounds++;
	if (own != NULL)
		own->heartbeat++;
}

int evfs_gossip_describe(const struct evfs_context *context,
			 struct evfs_gossip_state *ret)
{
	struct evfs_buf bytes = { 0 };
	evfs_hash hash;
	size_t i;
	int r = evfs_wire_put_context(context, &bytes);

	if (r == 0) {
		hash = evfs_hash_bytes(bytes.data, bytes.len);
		memcpy(ret->context, hash.b, sizeof(ret->context));
		ret->dots = 0;
		for (i = 0; i < context->n; i++)
			if (context->rows[i].counter > UINT64_MAX - ret->dots)
				ret->dots = UINT64_MAX;
			else
				ret->dots += context->rows[i].counter;
	}
	evfs_buf_fini(&bytes);
	return r;
}

bool evfs_gossip_lags(const struct evfs_gossip_state *own,
		      const struct evfs_gossip_state *theirs)
{
	return theirs->dots >= own->dots &&
	       memcmp(theirs->context, own->context, sizeof(own->context)) != 0;
}

/* ---- messages out ---- */

static int put_row(struct evfs_buf *rows, const struct evfs_gossip_entry *entry)
{
	uint64_t age = entry->heartbeat - entry->since;
	uint8_t *at = evfs_buf_reserve(rows, EVFS_GOSSIP_ROW_BYTES);

	if (at == NULL)
		return EVFS_ENOMEM;
	evfs_be64_write(at, entry->node);
	evfs_be64_write(at + 8, entry->heartbeat);
	evfs_be32_write(at + 16, age > UINT32_MAX ? UINT32_MAX : (uint32_t)age);
	rows->len += EVFS_GOSSIP_ROW_BYTES;
	return 0;
}

static void put_state(struct evfs_gossip_message *message,
		      const struct evfs_gossip_entry *entry)
{
	size_t i = message->wire.n_states;
	Evfs__Wire__GossipState *to = &message->states[i];
	struct evfs_gossip_entry *from = &message->copies[i];

	if (i == EVFS_GOSSIP_STATES_MAX)
		return;
	*from = *entry;
	evfs__wire__gossip_state__init(to);
	to->node = from->node;
	to->since = from->since;
	to->epoch = from->state.epoch;
	to->counter = from->state.counter;
	to->dots = from->state.dots;
	to->context = evfs_wire_bytes(from->state.context,
				      EVFS_GOSSIP_CONTEXT_BYTES);
	to->root = evfs_wire_bytes(from->state.root.b, EVFS_HASH_SIZE);
	to->wanted = from->state.wanted;
	to->wanted_bytes = from->state.wanted_bytes;
	to->receiving = from->state.receiving;
	to->version = from->state.version;
	to->version_oldest = from->state.version_oldest;
	message->pointers[i] = to;
	message->wire.n_states++;
}

static void start(const struct evfs_gossip *gossip,
		  struct evfs_gossip_message *ret)
{
	const struct evfs_gossip_entry *own = find(gossip, gossip->self);

	*ret = (struct evfs_gossip_message){ 0 };
	evfs__wire__gossip__init(&ret->wire);
	ret->wire.states = ret->pointers;
	ret->wire.members = gossip->members;
	if (own != NULL)
		put_state(ret, own);
}

static void finish(struct evfs_gossip *gossip,
		   struct evfs_gossip_message *message)
{
	message->wire.rows =
		evfs_wire_bytes(message->rows.data, message->rows.len);
	message->wire.want =
		evfs_wire_bytes(message->want.data, message->want.len);
	gossip->messages++;
	gossip->bytes += EVFS_WIRE_HEADER +
			 evfs__wire__gossip__get_packed_size(&message->wire);
}

void evfs_gossip_message_fini(struct evfs_gossip_message *message)
{
	evfs_buf_fini(&message->rows);
	evfs_buf_fini(&message->want);
}

int evfs_gossip_syn(struct evfs_gossip *gossip, struct evfs_gossip_message *ret)
{
	size_t i, first = 0, n = gossip->n;
	int r = 0;

	start(gossip, ret);
	if (n > EVFS_GOSSIP_ROWS_MAX) {
		first = (size_t)evfs_env_below(gossip->env, n);
		n = EVFS_GOSSIP_ROWS_MAX;
	}
	for (i = 0; r == 0 && i < n; i++)
		r = put_row(&ret->rows,
			    &gossip->entries[(first + i) % gossip->n]);
	finish(gossip, ret);
	return r;
}

/* A row as it came. */
struct row {
	uint64_t node, heartbeat, since;
};

static struct row read_row(const ProtobufCBinaryData *rows, size_t i)
{
	const uint8_t *at = rows->data + i * EVFS_GOSSIP_ROW_BYTES;
	struct row row = { .node = evfs_be64_read(at),
			   .heartbeat = evfs_be64_read(at + 8) };
	uint32_t age = evfs_be32_read(at + 16);

	row.since = age > row.heartbeat ? 0 : row.heartbeat - age;
	return row;
}

int evfs_gossip_ack(struct evfs_gossip *gossip, const Evfs__Wire__Gossip *syn,
		    struct evfs_gossip_message *ret)
{
	size_t i, n = syn->rows.len / EVFS_GOSSIP_ROW_BYTES;
	int r = 0;

	start(gossip, ret);
	for (i = 0; r == 0 && i < n; i++) {
		struct row row = read_row(&syn->rows, i);
		const struct evfs_gossip_entry *entry = find(gossip, row.node);

		if (entry == NULL)
			continue;
		if (entry->heartbeat > row.heartbeat)
			r = put_row(&ret->rows, entry);
		if (entry->since > row.since && entry->node != gossip->self)
			put_state(ret, entry);
		else if (row.since > entry->since && r == 0 &&
			 ret->want.len < EVFS_GOSSIP_STATES_MAX * 8)
			r = evfs_buf_put_be64(&ret->want, row.node);
	}
	finish(gossip, ret);
	return r;
}

int evfs_gossip_ack2(struct evfs_gossip *gossip, const Evfs__Wire__Gossip *ack,
		     struct evfs_gossip_message *ret)
{
	const struct evfs_gossip_entry *entry;
	size_t i;

	start(gossip, ret);
	for (i = 0; i < ack->want.len / 8; i++) {
		entry = find(gossip, evfs_be64_read(ack->want.data + 8 * i));
		if (entry != NULL && entry->since > 0 &&
		    entry->node != gossip->self)
			put_state(ret, entry);
	}
	finish(gossip, ret);
	return 0;
}

/* ---- messages in ---- */

/* Is this heartbeat further ahead than anybody may claim? */
static bool is_leap(struct evfs_gossip *gossip,
		    const struct evfs_gossip_entry *entry, uint64_t heartbeat)
{
	uint64_t wall_ms = gossip->env->wall_ns(gossip->env->ctx) / MS;

	if (heartbeat <= wall_ms + EVFS_GOSSIP_AHEAD_MS ||
	    heartbeat <= entry->heartbeat ||
	    heartbeat - entry->heartbeat <= EVFS_GOSSIP_LEAP_MS)
		return false;
	gossip->refused++;
	return true;
}

static void take_heartbeat(struct evfs_gossip *gossip, uint64_t from,
			   struct evfs_gossip_entry *entry, uint64_t heartbeat)
{
	if (heartbeat <= entry->heartbeat || is_leap(gossip, entry, heartbeat))
		return;
	if (entry->node == gossip->self) {
		/* of an earlier life, or a lie: ours is the greater one */
		entry->heartbeat = entry->since = heartbeat + 1;
		gossip->refuted++;
		return;
	}
	entry->heartbeat = heartbeat;
	entry->via = from;
	evfs_phi_beat(&entry->phi, now_of(gossip),
		      (uint32_t)gossip->interval_ms);
}

static void take_state(struct evfs_gossip *gossip, uint64_t from,
		       const Evfs__Wire__GossipState *state)
{
	struct evfs_gossip_entry *entry = find(gossip, state->node);
	struct evfs_gossip_state *to;

	if (entry == NULL || entry->node == gossip->self ||
	    state->since <= entry->since || is_leap(gossip, entry, state->since))
		return;
	take_heartbeat(gossip, from, entry, state->since);
	entry->since = state->since;
	to = &entry->state;
	to->epoch = state->epoch;
	to->counter = state->counter;
	to->dots = state->dots;
	memcpy(to->context, state->context.data, sizeof(to->context));
	to->root = evfs_wire_hash(&state->root, 0);
	to->wanted = state->wanted;
	to->wanted_bytes = state->wanted_bytes;
	to->receiving = state->receiving;
	to->version = state->version;
	to->version_oldest = state->version_oldest;
}

void evfs_gossip_take(struct evfs_gossip *gossip, uint64_t from,
		      const Evfs__Wire__Gossip *message)
{
	size_t i, n = message->rows.len / EVFS_GOSSIP_ROW_BYTES;
	struct evfs_gossip_entry *entry;

	for (i = 0; i < n; i++) {
		struct row row = read_row(&message->rows, i);

		entry = find(gossip, row.node);
		if (entry != NULL)
			take_heartbeat(gossip, from, entry, row.heartbeat);
	}
	for (i = 0; i < message->n_states; i++)
		take_state(gossip, from, message->states[i]);
}

void evfs_gossip_seen(struct evfs_gossip *gossip, uint64_t node)
{
	struct evfs_gossip_entry *entry = find(gossip, node);

	if (entry == NULL)
		return;
	entry->via = node;
	if (entry->phi.mean_ms > 0)
		evfs_phi_seen(&entry->phi, now_of(gossip));
	else
		evfs_phi_beat(&entry->phi, now_of(gossip),
			      (uint32_t)gossip->interval_ms);
}

/* ---- what is known ---- */

uint64_t evfs_gossip_silence_ns(const struct evfs_gossip *gossip,
				const struct evfs_gossip_entry *entry)
{
	uint64_t now_ns;

	if (entry->node == gossip->self)
		return 0;
	if (entry->phi.mean_ms <= 0)
		return UINT64_MAX;
	/* After a pause the clock may stand a little before what was heard
	 * just when it ended. */
	now_ns = now_of(gossip);
	return now_ns > entry->phi.last_ns ? now_ns - entry->phi.last_ns : 0;
}

enum evfs_gossip_life evfs_gossip_life(const struct evfs_gossip *gossip,
				       const struct evfs_gossip_entry *entry)
{
	uint64_t silence_ns = evfs_gossip_silence_ns(gossip, entry);
	double silence_ms, patience_ms, members = (double)gossip->n;

	if (silence_ns == UINT64_MAX)
		return EVFS_GOSSIP_DEAD;
	silence_ms = (double)silence_ns / MS / (1 + gossip->health.score);
	patience_ms = SUSPICION * (double)gossip->interval_ms *
		      (members > 10 ? log10(members) : 1);
	if (entry->node == gossip->self ||
	    evfs_phi_value(&entry->phi, silence_ms) < EVFS_PHI_THRESHOLD)
		return EVFS_GOSSIP_ALIVE;
	return evfs_phi_value(&entry->phi, silence_ms - patience_ms) <
			       EVFS_PHI_THRESHOLD
		       ? EVFS_GOSSIP_SUSPECT
		       : EVFS_GOSSIP_DEAD;
}
