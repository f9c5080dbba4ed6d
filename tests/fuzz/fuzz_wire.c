/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Fuzzes the frames of the replication protocol: a stream of bytes as a peer
 * could send it. Whatever is accepted survives a round trip. */
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "meta/context.h"
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
