/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A peer that misbehaves: raw frames into a real engine. Whatever it says, the
 * session ends with a reason, or goes on, and the store is as it was. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/env.h"
#include "base/log.h"
#include "meta/members.h"
#include "meta/meta.h"
#include "meta/tree.h"
#include "net/engine.h"
#include "net/wire.h"

#define KEY_A "ssh-ed25519 AAAATESTA"
#define KEY_B "ssh-ed25519 AAAATESTB"

static struct evfs_meta *meta;

static void must(int r, const struct evfs_err *err)
{
	ck_assert_msg(r >= 0, "%s", err->msg);
}

/* The store of A, which knows B and has a directory. */
static void setup(void)
{
	struct evfs_new what = { .kind = EVFS_KIND_DIR, .mode = 0755 };
	struct evfs_meta_options options = { 0 };
	struct evfs_meta_new fresh = { 0 };
	struct evfs_member member = { 0 };
	struct evfs_err err = { 0 };
	evfs_stamp link;
	evfs_ino ino;
	bool changed;

	evfs_log_init("test", EVFS_LOG_ERROR, false);
	fresh.node_name = "A";
	fresh.node = evfs_node_of_key(KEY_A);
	fresh.public_key = KEY_A;
	memset(fresh.volume.b, 7, sizeof(fresh.volume.b));
	options.fresh = &fresh;
	options.env = evfs_env_system();
	options.commit_delay_ms = 5;
	must(evfs_meta_open(&options, &meta, &err), &err);
	member.node = evfs_node_of_key(KEY_B);
	strcpy(member.name, "B");
	strcpy(member.key, KEY_B);
	member.stamp_ns = 1;
	evfs_meta_lock(meta);
	must(evfs_members_join(meta, &member, &changed, &err), &err);
	must(evfs_tree_create(meta, EVFS_INO_ROOT, "d", 1, &what, &ino, &link,
			      &err),
	     &err);
	evfs_meta_unlock(meta);
	must(evfs_meta_commit(meta, &err), &err);
}

static void teardown(void)
{
	evfs_meta_close(meta);
}

struct raw {
	evfs_conn conn;
	struct evfs_buf sent;
	bool closed;
};

static evfs_conn raw_dial(void *ctx, uint64_t node, const char *address,
			  const char *key)
{
	(void)ctx;
	(void)node;
	(void)address;
	(void)key;
	return 0;
}

static bool raw_send(void *ctx, evfs_conn conn, enum evfs_channel channel,
		     const void *data, size_t len)
{
	struct raw *raw = ctx;

	(void)conn;
	(void)channel;
	ck_assert(!raw->closed);
	ck_assert_int_eq(evfs_buf_put(&raw->sent, data, len), 0);
	return true;
}

static size_t raw_queued(void *ctx, evfs_conn conn, enum evfs_channel channel)
{
	(void)ctx;
	(void)conn;
	(void)channel;
	return 0;
}

static void raw_hold(void *ctx, evfs_conn conn, enum evfs_channel channel,
		     bool on)
{
	(void)ctx;
	(void)conn;
	(void)channel;
	(void)on;
}

static void raw_close(void *ctx, evfs_conn conn)
{
	struct raw *raw = ctx;

	(void)conn;
	raw->closed = true;
}

/* A valid hello of B to A. */
static void put_hello(struct evfs_buf *out, unsigned version)
{
	Evfs__Wire__Envelope e = EVFS__WIRE__ENVELOPE__INIT;
	Evfs__Wire__Hello hello = EVFS__WIRE__HELLO__INIT;
	uint8_t root[EVFS_HASH_SIZE] = { 0 };

	hello.version = hello.version_oldest = version;
	hello.volume =
		evfs_wire_bytes(evfs_meta_volume(meta)->b, EVFS_HASH_SIZE);
	hello.root = evfs_wire_bytes(root, sizeof(root));
	hello.node = evfs_node_of_key(KEY_B);
	hello.instance = 5;
	e.kind_case = EVFS__WIRE__ENVELOPE__KIND_HELLO;
	e.hello = &hello;
	ck_assert_int_eq(evfs_wire_encode(&e, out), 0);
}

static void put_begin(struct evfs_buf *out, uint64_t stream)
{
	Evfs__Wire__Envelope e = EVFS__WIRE__ENVELOPE__INIT;
	Evfs__Wire__Begin begin = EVFS__WIRE__BEGIN__INIT;

	begin.stream = stream;
	e.kind_case = EVFS__WIRE__ENVELOPE__KIND_BEGIN;
	e.begin = &begin;
	ck_assert_int_eq(evfs_wire_encode(&e, out), 0);
}

static void put_batch(struct evfs_buf *out, const void *object, size_t len)
{
	Evfs__Wire__Envelope e = EVFS__WIRE__ENVELOPE__INIT;
	Evfs__Wire__Batch batch = EVFS__WIRE__BATCH__INIT;
	ProtobufCBinaryData bytes = evfs_wire_bytes(object, len);

	batch.n_objects = 1;
	batch.objects = &bytes;
	e.kind_case = EVFS__WIRE__ENVELOPE__KIND_BATCH;
	e.batch = &batch;
	ck_assert_int_eq(evfs_wire_encode(&e, out), 0);
}

static void put_chunk(struct evfs_buf *out)
{
	Evfs__Wire__Envelope e = EVFS__WIRE__ENVELOPE__INIT;
	Evfs__Wire__Chunk chunk = EVFS__WIRE__CHUNK__INIT;
	uint8_t hash[EVFS_HASH_SIZE] = { 1 };

	chunk.hash = evfs_wire_bytes(hash, sizeof(hash));
	chunk.data = evfs_wire_bytes("x", 1);
	e.kind_case = EVFS__WIRE__ENVELOPE__KIND_CHUNK;
	e.chunk = &chunk;
	ck_assert_int_eq(evfs_wire_encode(&e, out), 0);
}

/* The reason in the Bye that ends what an engine has sent; "" = none. */
static void last_reason(const struct evfs_buf *sent, char out[300])
{
	size_t at = 0, len;

	out[0] = '\0';
	while (evfs_wire_peek(sent->data + at, sent->len - at, &len, NULL) ==
	       1) {
		Evfs__Wire__Envelope *e;

		ck_assert_int_eq(
			evfs_wire_decode(sent->data + at + EVFS_WIRE_HEADER,
					 len, &e, NULL),
			0);
		if (e->kind_case == EVFS__WIRE__ENVELOPE__KIND_BYE)
			snprintf(out, 300, "%s", e->bye->reason);
		evfs_wire_free(e);
		at += EVFS_WIRE_HEADER + len;
	}
	ck_assert_uint_eq(at, sent->len);
}

/* Feeds bytes into A, as from B; expects the end of the session with `why`, or
 * that it lives where why is NULL. A's state must be as before. */
static void feed(const struct evfs_buf *control, const struct evfs_buf *bulk,
		 const char *why)
{
	struct raw raw = { .conn = 9 };
	struct evfs_transport transport = { .ctx = &raw,
					    .dial = raw_dial,
					    .send = raw_send,
					    .queued = raw_queued,
					    .hold = raw_hold,
					    .close = raw_close };
	struct evfs_buf before = { 0 }, after = { 0 };
	struct evfs_engine *engine;
	struct evfs_err err = { 0 };
	char reason[300];
	size_t i;

	must(evfs_meta_dump(meta, true, &before, &err), &err);
	must(evfs_engine_new(meta, evfs_env_system(), &transport, &engine,
			     &err),
	     &err);
	evfs_engine_opened(engine, 9, evfs_node_of_key(KEY_B), false);
	for (i = 0; i < control->len; i++) /* byte by byte */
		if (!raw.closed)
			evfs_engine_received(engine, 9, EVFS_CHANNEL_CONTROL,
					     control->data + i, 1);
	if (bulk != NULL && !raw.closed)
		evfs_engine_received(engine, 9, EVFS_CHANNEL_BULK, bulk->data,
				     bulk->len);
	last_reason(&raw.sent, reason);
	if (why == NULL)
		ck_assert_msg(!raw.closed, "ended: %s", reason);
	else
		ck_assert_msg(raw.closed && strstr(reason, why) != NULL,
			      "'%s', not '%s'", reason, why);
	must(evfs_meta_dump(meta, true, &after, &err), &err);
	ck_assert_uint_eq(before.len, after.len);
	ck_assert_mem_eq(before.data, after.data, before.len);
	raw.closed = false;
	evfs_engine_free(engine);
	evfs_buf_fini(&raw.sent);
	evfs_buf_fini(&before);
	evfs_buf_fini(&after);
}

START_TEST(misbehaving)
{
	static const uint8_t zero_length[4] = { 0 };
	struct evfs_buf b = { 0 }, bulk = { 0 };

	put_hello(&b, 1);
	feed(&b, NULL, NULL);
	put_hello(&b, 1);
	feed(&b, NULL, "kind 1"); /* a second hello */
	evfs_buf_clear(&b);
	put_begin(&b, 1);
	feed(&b, NULL, "before hello");
	evfs_buf_clear(&b);
	put_hello(&b, 2);
	feed(&b, NULL, "protocol versions 2 to 2");
	evfs_buf_clear(&b);
	put_hello(&b, 1);
	put_begin(&b, 2);
	feed(&b, NULL, "stream 2 after 0");
	evfs_buf_clear(&b);
	put_hello(&b, 1);
	put_batch(&b, "x", 1);
	feed(&b, NULL, "no stream is open");
	evfs_buf_clear(&b);
	put_hello(&b, 1);
	put_begin(&b, 1);
	put_batch(&b, "x", 1);
	feed(&b, NULL, "batch: ");
	evfs_buf_clear(&b);
	put_hello(&b, 1);
	put_begin(&b, 1);
	put_begin(&b, 2);
	feed(&b, NULL, "has not ended");
	evfs_buf_clear(&b);
	put_hello(&b, 1);
	put_chunk(&b);
	feed(&b, NULL, "on the control channel");
	evfs_buf_clear(&b);
	put_hello(&b, 1);
	put_chunk(&bulk); /* not asked for: nothing happens */
	feed(&b, &bulk, NULL);
	put_begin(&bulk, 1);
	feed(&b, &bulk, "on the bulk channel");
	ck_assert_int_eq(evfs_buf_put(&b, zero_length, 4), 0);
	feed(&b, NULL, "frame of 0 bytes");
	evfs_buf_fini(&b);
	evfs_buf_fini(&bulk);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("session");
	TCase *tc = tcase_create("session");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, misbehaving);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
