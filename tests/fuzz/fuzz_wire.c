/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Fuzzes the frames of the replication protocol: a stream of bytes as a peer
 * could send it. Whatever is accepted survives a round trip. */
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "meta/context.h"
#include "net/gossip.h"
#include "net/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void require(int truth)
{
	if (!truth)
		abort();
}

static void check_context(const ProtobufCBinaryData *bytes)
{
	struct evfs_context context = { 0 };
	struct evfs_buf out = { 0 };

	require(evfs_wire_get_context(bytes, &context, NULL) == 0);
	require(evfs_wire_put_context(&context, &out) == 0);
	require(out.len == bytes->len &&
		(out.len == 0 || memcmp(out.data, bytes->data, out.len) == 0));
	evfs_context_fini(&context);
	evfs_buf_fini(&out);
}

static int audit_has_unknown(const Evfs__Wire__Audit *audit)
{
	size_t i;
	int has = 0;

	for (i = 0; i < audit->n_nodes; i++)
		has |= audit->nodes[i]->base.n_unknown_fields > 0;
	for (i = 0; i < audit->n_lists; i++)
		has |= audit->lists[i]->base.n_unknown_fields > 0;
	for (i = 0; i < audit->n_wants; i++)
		has |= audit->wants[i]->base.n_unknown_fields > 0;
	return has;
}

/* The three kinds are pointers to one type, in one union. */
static int is_gossip(const Evfs__Wire__Envelope *e)
{
	return e->kind_case == EVFS__WIRE__ENVELOPE__KIND_GOSSIP_SYN ||
	       e->kind_case == EVFS__WIRE__ENVELOPE__KIND_GOSSIP_ACK ||
	       e->kind_case == EVFS__WIRE__ENVELOPE__KIND_GOSSIP_ACK2;
}

static uint64_t fixed_clock(void *ctx)
{
	(void)ctx;
	return 1700000000000000000u;
}

static void fixed_random(void *ctx, void *data, size_t len)
{
	(void)ctx;
	memset(data, 7, len);
}

/* What a member says is taken in and answered; it can neither add members nor
 * leave this one without a greater heartbeat to go on with. */
static void check_gossip(const Evfs__Wire__Gossip *message)
{
	static const struct evfs_env env = { NULL, fixed_clock, fixed_clock,
					     fixed_random };
	/* the nodes that are in the corpus */
	static const uint64_t nodes[] = { 10, 20, 30, 40 };
	struct evfs_gossip_message answer;
	struct evfs_gossip gossip;
	size_t i;

	require(evfs_gossip_init(&gossip, &env, 10, 1000) == 0);
	require(evfs_gossip_set_members(&gossip, nodes, 4) == 0);
	evfs_gossip_take(&gossip, 20, message);
	require(evfs_gossip_ack(&gossip, message, &answer) == 0);
	require(answer.wire.n_states <= EVFS_GOSSIP_STATES_MAX);
	evfs_gossip_message_fini(&answer);
	require(evfs_gossip_ack2(&gossip, message, &answer) == 0);
	evfs_gossip_message_fini(&answer);
	require(gossip.n == 4);
	for (i = 0; i < gossip.n; i++) {
		require(gossip.entries[i].heartbeat < UINT64_MAX / 2);
		require(gossip.entries[i].since <= gossip.entries[i].heartbeat);
		(void)evfs_gossip_life(&gossip, &gossip.entries[i]);
	}
	evfs_gossip_fini(&gossip);
}

/* What a newer version may have added is skipped by every reader, and never
 * sent on: protobuf-c need not pack it again. */
static int has_unknown(const Evfs__Wire__Envelope *e)
{
	size_t i;

	if (e->base.n_unknown_fields > 0 ||
	    e->kind_case == EVFS__WIRE__ENVELOPE__KIND__NOT_SET)
		return 1;
	/* the kinds are pointers to messages, in one union */
	if (((const ProtobufCMessage *)e->hello)->n_unknown_fields > 0)
		return 1;
	if (e->kind_case == EVFS__WIRE__ENVELOPE__KIND_MEMBERS)
		for (i = 0; i < e->members->n_records; i++)
			if (e->members->records[i]->base.n_unknown_fields > 0)
				return 1;
	if (is_gossip(e))
		for (i = 0; i < e->gossip_syn->n_states; i++)
			if (e->gossip_syn->states[i]->base.n_unknown_fields > 0)
				return 1;
	/* both are batches, in one union */
	if (e->kind_case == EVFS__WIRE__ENVELOPE__KIND_BATCH ||
	    e->kind_case == EVFS__WIRE__ENVELOPE__KIND_REPAIR)
		for (i = 0; i < e->batch->n_contents; i++)
			if (e->batch->contents[i]->base.n_unknown_fields > 0)
				return 1;
	return e->kind_case == EVFS__WIRE__ENVELOPE__KIND_AUDIT &&
	       audit_has_unknown(e->audit);
}

static void check_message(const Evfs__Wire__Envelope *e)
{
	struct evfs_buf once = { 0 }, twice = { 0 };
	Evfs__Wire__Envelope *back;
	size_t len;

	if (has_unknown(e))
		return;
	if (e->kind_case == EVFS__WIRE__ENVELOPE__KIND_HELLO)
		check_context(&e->hello->context);
	if (e->kind_case == EVFS__WIRE__ENVELOPE__KIND_REPORT)
		check_context(&e->report->context);
	if (is_gossip(e))
		check_gossip(e->gossip_syn);
	if (e->kind_case == EVFS__WIRE__ENVELOPE__KIND_HOLD)
		check_context(&e->hold->rows);
	if (e->kind_case == EVFS__WIRE__ENVELOPE__KIND_COMPARE)
		check_context(&e->compare->context);
	if (e->kind_case == EVFS__WIRE__ENVELOPE__KIND_STATE)
		check_context(&e->state->context);
	require(evfs_wire_encode(e, &once) == 0);
	require(evfs_wire_peek(once.data, once.len, &len, NULL) == 1);
	require(len == once.len - EVFS_WIRE_HEADER);
	require(evfs_wire_decode(once.data + EVFS_WIRE_HEADER, len, &back,
				 NULL) == 0);
	require(evfs_wire_encode(back, &twice) == 0);
	require(once.len == twice.len &&
		memcmp(once.data, twice.data, once.len) == 0);
	evfs_wire_free(back);
	evfs_buf_fini(&once);
	evfs_buf_fini(&twice);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	Evfs__Wire__Envelope *envelope;
	struct evfs_err err;
	size_t size;

	while (evfs_wire_peek(data, len, &size, &err) == 1) {
		if (evfs_wire_decode(data + EVFS_WIRE_HEADER, size, &envelope,
				     &err) != 0)
			return 0;
		check_message(envelope);
		evfs_wire_free(envelope);
		data += EVFS_WIRE_HEADER + size;
		len -= EVFS_WIRE_HEADER + size;
	}
	return 0;
}
