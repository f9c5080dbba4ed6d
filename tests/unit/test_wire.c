/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Frames and messages: what goes in comes out, what is malformed is refused
 * with a reason, and nothing that a peer can send costs more than it may. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/hash.h"
#include "meta/context.h"
#include "net/engine.h"
#include "net/wire.h"

static uint8_t hash_bytes[EVFS_HASH_SIZE];
static uint8_t two_hashes[2 * EVFS_HASH_SIZE];
static struct evfs_buf context_bytes;

static ProtobufCBinaryData a_hash(void)
{
	return evfs_wire_bytes(hash_bytes, sizeof(hash_bytes));
}

static void setup(void)
{
	struct evfs_context context = { 0 };
	size_t i;

	for (i = 0; i < sizeof(hash_bytes); i++)
		hash_bytes[i] = (uint8_t)(i + 1);
	memset(two_hashes, 7, sizeof(two_hashes));
	ck_assert_int_eq(evfs_context_raise(&context, (evfs_actor){ 1, 0 }, 5),
			 0);
	ck_assert_int_eq(evfs_context_raise(&context, (evfs_actor){ 2, 1 }, 9),
			 0);
	ck_assert_int_eq(
		evfs_context_raise(&context, (evfs_actor){ 2, 3 }, UINT64_MAX),
		0);
	context_bytes = (struct evfs_buf){ 0 };
	ck_assert_int_eq(evfs_wire_put_context(&context, &context_bytes), 0);
	evfs_context_fini(&context);
}

static void teardown(void)
{
	evfs_buf_fini(&context_bytes);
}

static ProtobufCBinaryData a_context(void)
{
	return evfs_wire_bytes(context_bytes.data, context_bytes.len);
}

/* A row of a context is a dot. */
static ProtobufCBinaryData a_dot(void)
{
	return evfs_wire_bytes(context_bytes.data, EVFS_DOT_BYTES);
}

/* ---- one message of each kind ---- */

static Evfs__Wire__Hello hello;
static Evfs__Wire__Member member;
static Evfs__Wire__Member *member_list[1];
static Evfs__Wire__Members members;
static Evfs__Wire__Begin begin;
static ProtobufCBinaryData object_list[2];
static Evfs__Wire__Inline content;
static Evfs__Wire__Inline *content_list[1];
static Evfs__Wire__Batch batch;
static Evfs__Wire__Report report;
static Evfs__Wire__Bye bye;
static Evfs__Wire__Manifest manifest;
static Evfs__Wire__WantChunks want_chunks;
static Evfs__Wire__Chunk chunk;
static uint8_t present[32];
static Evfs__Wire__AuditNodes nodes;
static Evfs__Wire__AuditNodes *nodes_list[1];
static Evfs__Wire__AuditLeaves leaves;
static Evfs__Wire__AuditLeaves *leaves_list[1];
static Evfs__Wire__Audit audit;
static uint8_t row_bytes[2 * EVFS_GOSSIP_ROW_BYTES];
static Evfs__Wire__GossipState gossip_state;
static Evfs__Wire__GossipState *gossip_list[EVFS_GOSSIP_STATES_MAX + 1];
static Evfs__Wire__Gossip gossip;
static Evfs__Wire__Hold hold;
static Evfs__Wire__Compare compare;
static Evfs__Wire__State state;
static Evfs__Wire__Taken taken;

static void fill_hello(void)
{
	evfs__wire__hello__init(&hello);
	hello.version = hello.version_oldest = 1;
	hello.volume = hello.root = a_hash();
	hello.node = 0x1122334455667788;
	hello.epoch = 3;
	hello.instance = 99;
	hello.context = hello.seen = a_context();
	hello.clock = hello.wall = UINT64_MAX;
	hello.members = 4;
}

static void fill_members(void)
{
	evfs__wire__member__init(&member);
	member.node = 5;
	member.name = (char *)(uintptr_t) "nas";
	member.key = (char *)(uintptr_t) "ssh-ed25519 AAAA";
	member.address = (char *)(uintptr_t) "[::1]:7000";
	member.stamp = 12;
	member.removed = 1;
	member_list[0] = &member;
	evfs__wire__members__init(&members);
	members.n_records = 1;
	members.records = member_list;
}

static void fill_batch(void)
{
	object_list[0] = evfs_wire_bytes("first", 5);
	object_list[1] = evfs_wire_bytes("second", 6);
	evfs__wire__inline__init(&content);
	content.name = a_hash();
	content.data = evfs_wire_bytes("data", 4);
	content_list[0] = &content;
	evfs__wire__batch__init(&batch);
	batch.n_objects = 2;
	batch.objects = object_list;
	batch.n_contents = 1;
	batch.contents = content_list;
	batch.more = batch.partial = 1;
}

static void fill_report(void)
{
	evfs__wire__report__init(&report);
	report.context = a_context();
	report.root = a_hash();
	report.wanted = 3;
	report.wanted_bytes = 1u << 30;
	report.connected = evfs_wire_bytes("12345678abcdefgh", 16);
	report.receiving = 1;
}

static void fill_audit(void)
{
	memset(present, 0, sizeof(present));
	present[0] = 0x80;
	present[31] = 0x01;
	evfs__wire__audit_nodes__init(&nodes);
	nodes.path = 257;
	nodes.present = evfs_wire_bytes(present, sizeof(present));
	nodes.sums = evfs_wire_bytes("two sums of nodes", 16);
	nodes_list[0] = &nodes;
	evfs__wire__audit_leaves__init(&leaves);
	leaves.path = 65536 + 7;
	leaves.hashes = evfs_wire_bytes("onetwo3.", 8);
	leaves_list[0] = &leaves;
	evfs__wire__audit__init(&audit);
	audit.id = 12;
	audit.answer = audit.alarm = audit.end = 1;
	audit.seed = UINT64_MAX;
	audit.root = a_hash();
	audit.n_nodes = audit.n_lists = audit.n_wants = 1;
	audit.nodes = nodes_list;
	audit.lists = audit.wants = leaves_list;
	audit.left = 5;
}

static void fill_gossip(void)
{
	size_t i;

	memset(row_bytes, 9, sizeof(row_bytes));
	evfs__wire__gossip_state__init(&gossip_state);
	gossip_state.node = 5;
	gossip_state.since = 77;
	gossip_state.epoch = 1;
	gossip_state.counter = gossip_state.dots = UINT64_MAX;
	gossip_state.context =
		evfs_wire_bytes(hash_bytes, EVFS_GOSSIP_CONTEXT_BYTES);
	gossip_state.root = a_hash();
	gossip_state.wanted = 1;
	gossip_state.version = gossip_state.version_oldest = 1;
	for (i = 0; i < EVFS_GOSSIP_STATES_MAX + 1; i++)
		gossip_list[i] = &gossip_state;
	evfs__wire__gossip__init(&gossip);
	gossip.rows = evfs_wire_bytes(row_bytes, sizeof(row_bytes));
	gossip.n_states = 1;
	gossip.states = gossip_list;
	gossip.want = evfs_wire_bytes("12345678abcdefgh", 16);
	gossip.members = 88;
}

/* The i-th message; false where there are no more. */
static bool sample_quorum(unsigned i, Evfs__Wire__Envelope *e)
{
	switch (i) {
	case 13:
		evfs__wire__hold__init(&hold);
		hold.id = 7;
		hold.ino = a_dot();
		hold.rows = a_context();
		e->kind_case = EVFS__WIRE__ENVELOPE__KIND_HOLD;
		e->hold = &hold;
		return true;
	case 14:
		evfs__wire__compare__init(&compare);
		compare.id = 8;
		compare.ino = a_dot();
		compare.rows = compare.context = a_context();
		e->kind_case = EVFS__WIRE__ENVELOPE__KIND_COMPARE;
		e->compare = &compare;
		return true;
	case 15:
		evfs__wire__state__init(&state);
		state.id = 8;
		state.ino = a_dot();
		state.context = state.rows = a_context();
		state.want = true;
		object_list[0] = evfs_wire_bytes("one", 3);
		state.n_objects = 1;
		state.objects = object_list;
		e->kind_case = EVFS__WIRE__ENVELOPE__KIND_STATE;
		e->state = &state;
		return true;
	case 16:
		evfs__wire__taken__init(&taken);
		taken.stream = 3;
		taken.objects = 500;
		e->kind_case = EVFS__WIRE__ENVELOPE__KIND_TAKEN;
		e->taken = &taken;
		return true;
	default:
		return false;
	}
}

static bool sample(unsigned i, Evfs__Wire__Envelope *e)
{
	evfs__wire__envelope__init(e);
	switch (i) {
	case 0:
		fill_hello();
		e->kind_case = EVFS__WIRE__ENVELOPE__KIND_HELLO;
		e->hello = &hello;
		return true;
	case 1:
		fill_members();
		e->kind_case = EVFS__WIRE__ENVELOPE__KIND_MEMBERS;
		e->members = &members;
		return true;
	case 2:
		evfs__wire__begin__init(&begin);
		begin.stream = 17;
		begin.snap = a_context();
		e->kind_case = EVFS__WIRE__ENVELOPE__KIND_BEGIN;
		e->begin = &begin;
		return true;
	case 3:
		fill_batch();
		e->kind_case = EVFS__WIRE__ENVELOPE__KIND_BATCH;
		e->batch = &batch;
		return true;
	case 4:
		fill_report();
		e->kind_case = EVFS__WIRE__ENVELOPE__KIND_REPORT;
		e->report = &report;
		return true;
	case 5:
		evfs__wire__bye__init(&bye);
		bye.code = EVFS_BYE_PAUSED;
		bye.reason = (char *)(uintptr_t) "replication is paused";
		e->kind_case = EVFS__WIRE__ENVELOPE__KIND_BYE;
		e->bye = &bye;
		return true;
	case 6:
		evfs__wire__manifest__init(&manifest);
		manifest.name = a_hash();
		manifest.total = 100;
		manifest.offset = 96;
		manifest.data = evfs_wire_bytes("tail", 4);
		e->kind_case = EVFS__WIRE__ENVELOPE__KIND_MANIFEST;
		e->manifest = &manifest;
		return true;
	case 7:
		evfs__wire__want_chunks__init(&want_chunks);
		want_chunks.hashes =
			evfs_wire_bytes(two_hashes, sizeof(two_hashes));
		e->kind_case = EVFS__WIRE__ENVELOPE__KIND_WANT_CHUNKS;
		e->want_chunks = &want_chunks;
		return true;
	case 8:
		evfs__wire__chunk__init(&chunk);
		chunk.hash = a_hash();
		chunk.data = evfs_wire_bytes("some bytes", 10);
		e->kind_case = EVFS__WIRE__ENVELOPE__KIND_CHUNK;
		e->chunk = &chunk;
		return true;
	case 9:
		fill_audit();
		e->kind_case = EVFS__WIRE__ENVELOPE__KIND_AUDIT;
		e->audit = &audit;
		return true;
	case 10:
		fill_batch();
		batch.answer = 1;
		e->kind_case = EVFS__WIRE__ENVELOPE__KIND_REPAIR;
		e->repair = &batch;
		return true;
	case 11:
		fill_gossip();
		e->kind_case = EVFS__WIRE__ENVELOPE__KIND_GOSSIP_SYN;
		e->gossip_syn = &gossip;
		return true;
	case 12:
		fill_gossip();
		e->kind_case = EVFS__WIRE__ENVELOPE__KIND_GOSSIP_ACK2;
		e->gossip_ack2 = &gossip;
		return true;
	default:
		return sample_quorum(i, e);
	}
}

START_TEST(round_trip)
{
	Evfs__Wire__Envelope e, *back;
	struct evfs_buf frame = { 0 }, again = { 0 };
	struct evfs_err err = { 0 };
	size_t len;
	unsigned i;

	for (i = 0; sample(i, &e); i++) {
		evfs_buf_clear(&frame);
		evfs_buf_clear(&again);
		ck_assert_int_eq(evfs_wire_encode(&e, &frame), 0);
		ck_assert_int_eq(
			evfs_wire_peek(frame.data, frame.len, &len, &err), 1);
		ck_assert_uint_eq(len + EVFS_WIRE_HEADER, frame.len);
		ck_assert_msg(evfs_wire_decode(frame.data + EVFS_WIRE_HEADER,
					       len, &back, &err) == 0,
			      "message %u: %s", i, err.msg);
		ck_assert_int_eq(back->kind_case, e.kind_case);
		ck_assert_int_eq(evfs_wire_encode(back, &again), 0);
		ck_assert_mem_eq(frame.data, again.data, frame.len);
		ck_assert_uint_eq(frame.len, again.len);
		evfs_wire_free(back);
	}
	ck_assert_uint_eq(i, 17);
	evfs_buf_fini(&frame);
	evfs_buf_fini(&again);
}
END_TEST

START_TEST(cut_at_every_byte)
{
	Evfs__Wire__Envelope e, *back;
	struct evfs_buf frame = { 0 };
	size_t cut, len;
	unsigned i;
	int r;

	for (i = 0; sample(i, &e); i++) {
		evfs_buf_clear(&frame);
		ck_assert_int_eq(evfs_wire_encode(&e, &frame), 0);
		for (cut = 0; cut < frame.len; cut++)
			ck_assert_int_eq(
				evfs_wire_peek(frame.data, cut, &len, NULL), 0);
		len = frame.len - EVFS_WIRE_HEADER;
		for (cut = 0; cut < len; cut++) {
			/* a prefix may be a message of its own; it must not
			 * be taken for the whole */
			r = evfs_wire_decode(frame.data + EVFS_WIRE_HEADER, cut,
					     &back, NULL);
			if (r < 0) {
				ck_assert_int_eq(r, EVFS_EPROTO);
				continue;
			}
			ck_assert_uint_lt(
				evfs__wire__envelope__get_packed_size(back),
				len);
			evfs_wire_free(back);
		}
	}
	evfs_buf_fini(&frame);
}
END_TEST

START_TEST(changed_bytes)
{
	Evfs__Wire__Envelope e, *back;
	struct evfs_buf frame = { 0 };
	unsigned i, k, seed = 1;

	srand(seed);
	for (i = 0; sample(i, &e); i++) {
		evfs_buf_clear(&frame);
		ck_assert_int_eq(evfs_wire_encode(&e, &frame), 0);
		for (k = 0; k < 3000; k++) {
			size_t at =
				EVFS_WIRE_HEADER +
				(size_t)rand() % (frame.len - EVFS_WIRE_HEADER);
			uint8_t was = frame.data[at];

			frame.data[at] = (uint8_t)rand();
			if (evfs_wire_decode(frame.data + EVFS_WIRE_HEADER,
					     frame.len - EVFS_WIRE_HEADER,
					     &back, NULL) == 0)
				evfs_wire_free(back);
			frame.data[at] = was;
		}
	}
	evfs_buf_fini(&frame);
}
END_TEST

/* ---- what is refused ---- */

static void refused(Evfs__Wire__Envelope *e, const char *why)
{
	struct evfs_buf frame = { 0 };
	struct evfs_err err = { 0 };
	Evfs__Wire__Envelope *back;

	ck_assert_int_eq(evfs_wire_encode(e, &frame), 0);
	ck_assert_int_eq(evfs_wire_decode(frame.data + EVFS_WIRE_HEADER,
					  frame.len - EVFS_WIRE_HEADER, &back,
					  &err),
			 EVFS_EPROTO);
	ck_assert_msg(strstr(err.msg, why) != NULL, "'%s' has no '%s'", err.msg,
		      why);
	evfs_buf_fini(&frame);
}

START_TEST(refused_hello)
{
	Evfs__Wire__Envelope e;

	(void)sample(0, &e);
	hello.version = 0;
	refused(&e, "versions");
	(void)sample(0, &e);
	hello.node = 0;
	refused(&e, "no node");
	(void)sample(0, &e);
	hello.volume.len--;
	refused(&e, "volume");
	(void)sample(0, &e);
	hello.context.len--;
	refused(&e, "no context");
	(void)sample(0, &e);
	context_bytes.data[0] = 9; /* the first row is the greatest now */
	refused(&e, "not sorted");
	memset(context_bytes.data, 0, 8);
	refused(&e, "is zero");
}
END_TEST

START_TEST(refused_batch)
{
	Evfs__Wire__Envelope e;

	(void)sample(3, &e);
	batch.more = 0;
	refused(&e, "within an object");
	(void)sample(3, &e);
	object_list[1].len = 0;
	refused(&e, "empty object");
	(void)sample(3, &e);
	content.name.len = 31;
	refused(&e, "31 bytes");
	(void)sample(3, &e);
	content.data.len = 0;
	refused(&e, "content of 0");
}
END_TEST

START_TEST(refused_others)
{
	Evfs__Wire__Envelope e;
	char name[70];

	(void)sample(1, &e);
	memset(name, 'n', sizeof(name));
	name[65] = '\0';
	member.name = name;
	refused(&e, "member name");
	name[3] = '\n';
	name[10] = '\0';
	refused(&e, "member name");
	(void)sample(4, &e);
	report.connected.len = 15;
	refused(&e, "connected");
	(void)sample(6, &e);
	manifest.offset = 97;
	refused(&e, "manifest");
	(void)sample(6, &e);
	manifest.total = EVFS_WIRE_MANIFEST_MAX + 1ull;
	refused(&e, "manifest");
	(void)sample(7, &e);
	want_chunks.hashes.len = 0;
	refused(&e, "hashes");
	(void)sample(8, &e);
	chunk.data.len = 0;
	refused(&e, "empty");
	(void)sample(13, &e);
	hold.ino.len--;
	refused(&e, "hold");
	(void)sample(13, &e);
	hold.rows.len--;
	refused(&e, "hold: rows");
	(void)sample(14, &e);
	compare.ino.len = 0;
	refused(&e, "compare");
	(void)sample(14, &e);
	compare.context.len--;
	refused(&e, "compare: context");
	(void)sample(15, &e);
	object_list[0].len = 0;
	refused(&e, "state: empty object");
	(void)sample(15, &e);
	state.rows.len--;
	refused(&e, "state: rows");
}
END_TEST

START_TEST(refused_audit)
{
	static Evfs__Wire__AuditLeaves *many[EVFS_WIRE_AUDIT_PARTS_MAX + 1];
	static uint8_t bytes[4 * EVFS_WIRE_AUDIT_LEAVES_MAX + 4];
	Evfs__Wire__Envelope e;
	size_t i;

	(void)sample(9, &e);
	audit.id = 0;
	refused(&e, "nodes");
	(void)sample(9, &e);
	audit.root.len = 31;
	refused(&e, "root");
	(void)sample(9, &e);
	nodes.path = 0;
	refused(&e, "no list of nodes");
	(void)sample(9, &e);
	nodes.path = UINT64_C(1) << 32; /* has no children */
	refused(&e, "no list of nodes");
	(void)sample(9, &e);
	present[5] = 1; /* a sum is missing */
	refused(&e, "no list of nodes");
	(void)sample(9, &e);
	nodes.present.len = 31;
	refused(&e, "no list of nodes");
	(void)sample(9, &e);
	leaves.path = 256; /* above all objects */
	refused(&e, "no list of objects");
	(void)sample(9, &e);
	leaves.hashes.len = 7;
	refused(&e, "no list of objects");
	(void)sample(9, &e);
	leaves.hashes = evfs_wire_bytes(bytes, sizeof(bytes));
	refused(&e, "lists: 1 of 16385 objects");
	(void)sample(9, &e);
	for (i = 0; i < EVFS_WIRE_AUDIT_PARTS_MAX + 1; i++)
		many[i] = &leaves;
	audit.wants = many;
	audit.n_wants = EVFS_WIRE_AUDIT_PARTS_MAX + 1;
	refused(&e, "wants: 257");
	(void)sample(10, &e);
	object_list[1].len = 0;
	refused(&e, "empty object");
}
END_TEST

START_TEST(refused_gossip)
{
	Evfs__Wire__Envelope e;

	(void)sample(11, &e);
	gossip.rows.len--;
	refused(&e, "39 bytes of rows");
	(void)sample(11, &e);
	gossip.want.len = 7;
	refused(&e, "7 bytes of nodes");
	(void)sample(12, &e);
	gossip.n_states = EVFS_GOSSIP_STATES_MAX + 1;
	refused(&e, "33 states");
	(void)sample(12, &e);
	gossip_state.context.len = 15;
	refused(&e, "context of 15");
	(void)sample(12, &e);
	gossip_state.root.len = 0;
	refused(&e, "gossip: root");
}
END_TEST

START_TEST(frame_length)
{
	uint8_t head[4];
	struct evfs_err err = { 0 };
	size_t len;

	evfs_be32_write(head, 0);
	ck_assert_int_eq(evfs_wire_peek(head, 4, &len, &err), EVFS_EPROTO);
	evfs_be32_write(head, UINT32_MAX);
	ck_assert_int_eq(evfs_wire_peek(head, 4, &len, &err), EVFS_EPROTO);
	evfs_be32_write(head, EVFS_FRAME_MAX - EVFS_WIRE_HEADER + 1);
	ck_assert_int_eq(evfs_wire_peek(head, 4, &len, &err), EVFS_EPROTO);
	evfs_be32_write(head, EVFS_FRAME_MAX - EVFS_WIRE_HEADER);
	ck_assert_int_eq(evfs_wire_peek(head, 4, &len, &err), 0);
}
END_TEST

/* A frame full of two-byte fields that nobody knows, and one of empty member
 * records: both would take many times their length. */
START_TEST(memory_bomb)
{
	Evfs__Wire__Envelope *back;
	struct evfs_buf frame = { 0 };
	size_t i, n = (EVFS_FRAME_MAX - 64) / 2;
	uint8_t *at = evfs_buf_reserve(&frame, EVFS_FRAME_MAX);

	ck_assert_ptr_nonnull(at);
	for (i = 0; i < n; i++) {
		at[2 * i] = 0x7a; /* field 15, bytes */
		at[2 * i + 1] = 0;
	}
	ck_assert_int_eq(evfs_wire_decode(at, 2 * n, &back, NULL), EVFS_EPROTO);
	at[0] = 0x12;		/* members */
	n = (1u << 21) - 1 - 4; /* three bytes of length */
	at[1] = (uint8_t)(0x80 | (n & 0x7f));
	at[2] = (uint8_t)(0x80 | ((n >> 7) & 0x7f));
	at[3] = (uint8_t)(n >> 14);
	for (i = 0; i + 1 < n; i += 2) {
		at[4 + i] = 0x0a;
		at[5 + i] = 0;
	}
	ck_assert_int_eq(
		evfs_wire_decode(at, 4 + (n & ~(size_t)1), &back, NULL),
		EVFS_EPROTO);
	evfs_buf_fini(&frame);
}
END_TEST

START_TEST(unknown_kind)
{
	/* field 99, two bytes: of a later version */
	static const uint8_t later[] = { 0x9a, 0x06, 0x02, 0x08, 0x01 };
	Evfs__Wire__Envelope *back;

	ck_assert_int_eq(evfs_wire_decode(later, sizeof(later), &back, NULL),
			 0);
	ck_assert_int_eq(back->kind_case, EVFS__WIRE__ENVELOPE__KIND__NOT_SET);
	evfs_wire_free(back);
}
END_TEST

START_TEST(too_long_to_send)
{
	Evfs__Wire__Envelope e;
	struct evfs_buf frame = { 0 };
	uint8_t *data = calloc(1, EVFS_FRAME_MAX);

	ck_assert_ptr_nonnull(data);
	(void)sample(8, &e);
	chunk.data = evfs_wire_bytes(data, EVFS_FRAME_MAX);
	ck_assert_int_eq(evfs_wire_encode(&e, &frame), EVFS_ELIMIT);
	ck_assert_uint_eq(frame.len, 0);
	free(data);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("wire");
	TCase *tc = tcase_create("wire");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, round_trip);
	tcase_add_test(tc, cut_at_every_byte);
	tcase_add_test(tc, changed_bytes);
	tcase_add_test(tc, refused_hello);
	tcase_add_test(tc, refused_batch);
	tcase_add_test(tc, refused_others);
	tcase_add_test(tc, refused_audit);
	tcase_add_test(tc, refused_gossip);
	tcase_add_test(tc, frame_length);
	tcase_add_test(tc, memory_bomb);
	tcase_add_test(tc, unknown_kind);
	tcase_add_test(tc, too_long_to_send);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
