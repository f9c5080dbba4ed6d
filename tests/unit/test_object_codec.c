/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Encoding, decoding and the live hash: round trips, golden values, and
 * hostile bytes. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "meta/object.h"
#include "object_history.h"

#define DOT(node, counter) ((evfs_dot){ { (node), 0 }, (counter) })

/* ---- one object with something of everything ---- */

static const struct evfs_dots no_dots;

static void add_version(struct evfs_object *object, uint64_t counter,
			struct evfs_dots bases)
{
	struct evfs_version version = {
		.dot = DOT(0xa1, counter),
		.bases = bases,
		.time_ns = 1700000000000000000 + counter,
		.size = counter << 10,
		.mtime_s = 1700000000 - (int64_t)counter,
		.mtime_ns = 999999999,
	};

	memset(version.content.b, (int)counter, sizeof(version.content.b));
	ck_assert_int_eq(evfs_object_put_version(object, &version), 0);
}

static void add_attrs(struct evfs_object *object)
{
	evfs_stamp stamp = { 1700000000000000000, DOT(0xa1, 1) };
	evfs_dot saw = DOT(0xa1, 1);
	struct evfs_attr attrs[] = {
		{ .kind = EVFS_ATTR_MODE,
		  .stamp = { 1700000000000000009, { { 0xb2, 3 }, 4 } },
		  .value.mode = 04755,
		  .saw = { &saw, 1 } },
		{ .kind = EVFS_ATTR_OWNER,
		  .stamp = stamp,
		  .value.owner = { 1000, UINT32_MAX } },
		{ .kind = EVFS_ATTR_TIMES,
		  .stamp = stamp,
		  .value.times = { -1, 1700000000, 1, 2 } },
		{ .kind = EVFS_ATTR_XATTR,
		  .key = (const uint8_t *)"user.k",
		  .key_len = 6,
		  .stamp = stamp,
		  .value.xattr = { (const uint8_t *)"va\0l", 4, false } },
		{ .kind = EVFS_ATTR_XATTR,
		  .key = (const uint8_t *)"user.gone",
		  .key_len = 9,
		  .stamp = stamp,
		  .value.xattr = { NULL, 0, true } },
	};

	for (size_t i = 0; i < sizeof(attrs) / sizeof(attrs[0]); i++)
		ck_assert_int_eq(evfs_object_put_attr(object, &attrs[i]), 0);
}

static struct evfs_object *golden_object(void)
{
	struct evfs_object *object =
		evfs_object_new(DOT(0xa1, 1), EVFS_KIND_FILE);
	evfs_dot born = DOT(0xa1, 1), moved = { { 0xb2, 3 }, 4 };
	evfs_dot both[2] = { DOT(0xa1, 7), { { 0xb2, 3 }, 4 } };
	struct evfs_link link = {
		.id = { 1700000000000000000, born },
		.place = { { 1700000000000000005, moved },
			   { { 0xc3, 0 }, 12 },
			   EVFS_INO_ROOT,
			   (const uint8_t *)"caf\xc3\xa9",
			   5 },
		.alive = { both, 2 },
	};
	struct evfs_tie_end ends[2] = {
		{ born, moved }, { { { 0xc3, 0 }, 12 }, { { 0xb2, 3 }, 5 } }
	};
	struct evfs_tie tie = { moved, ends, 2 };

	ck_assert_ptr_nonnull(object);
	object->change_ns = 1700000000000000009;
	ck_assert_int_eq(evfs_object_log_raise(object, DOT(0xa1, 9)), 0);
	ck_assert_int_eq(evfs_object_log_raise(object, moved), 0);
	ck_assert_int_eq(evfs_object_add_link(object, &link), 0);
	link.id = (evfs_stamp){ 1700000000000000003, DOT(0xa1, 2) };
	link.place.stamp = link.id;
	link.place.parent = EVFS_INO_ROOT;
	link.alive = no_dots;
	ck_assert_int_eq(evfs_object_add_link(object, &link), 0);
	add_version(object, 7, (struct evfs_dots){ &born, 1 });
	add_version(object, 9, (struct evfs_dots){ both, 1 });
	add_attrs(object);
	ck_assert_int_eq(evfs_object_put_tie(object, &tie), 0);
	return object;
}

static void to_hex(const struct evfs_buf *buf, char *text, size_t size)
{
	ck_assert_uint_lt(2 * buf->len, size);
	for (size_t i = 0; i < buf->len; i++) {
		text[2 * i] = "0123456789abcdef"[buf->data[i] >> 4];
		text[2 * i + 1] = "0123456789abcdef"[buf->data[i] & 15];
	}
	text[2 * buf->len] = '\0';
}

static void encode(const struct evfs_object *object, struct evfs_buf *buf)
{
	evfs_buf_clear(buf);
	ck_assert_int_eq(evfs_object_encode(object, buf), 0);
	ck_assert_uint_le(buf->len, evfs_object_size_bound(object));
}

/* If one of these changes, stores and peers of today cannot be understood any
 * more: a new format version is needed, not a new value here. */
START_TEST(golden_bytes)
{
	static const char expected[] =
		"0a18a100000000000000b200000000000000c300000000000000120300"
		"03001a0209042202010128013100002a36fe9c97173809521a12030502"
		"041a02030c220200012a05636166c3a932040107020452100a03030102"
		"1a0200012a05636166c3a95a3b0a020107120201011807222007070707"
		"0707070707070707070707070707070707070707070707070707070728"
		"803830f2c39fd50c38ff93ebdc035a3b0a020109120201071809222009"
		"0909090909090909090909090909090909090909090909090909090909"
		"090928804830eec39fd50c38ff93ebdc03620e0801120309020418ed13"
		"22020101620b080228e80730ffffffff0f620e0803380140014880c49f"
		"d50c5002620f08045a09757365722e676f6e656801621008045a067573"
		"65722e6b62047661006c6a0e0a020204120801010204030c0205";
	struct evfs_object *object = golden_object(), *back = NULL;
	struct evfs_err err = { 0 };
	struct evfs_buf buf = { 0 };
	char text[2048];

	encode(object, &buf);
	to_hex(&buf, text, sizeof(text));
	ck_assert_str_eq(text, expected);
	ck_assert_msg(evfs_object_decode(buf.data, buf.len, &back, &err) == 0,
		      "%s", err.msg);
	ck_assert(evfs_object_equal(object, back));
	evfs_buf_fini(&buf);
	evfs_object_free(object);
	evfs_object_free(back);
}
END_TEST

START_TEST(golden_live_hash)
{
	struct evfs_object *object = golden_object();
	char text[EVFS_HASH_HEX_SIZE];
	evfs_hash hash;

	ck_assert_int_eq(evfs_object_live_hash(object, &hash), 0);
	evfs_hash_format(&hash, text);
	ck_assert_str_eq(text, "87b7cfce1d63de918494f6826e5f6ea0"
			       "5410c845757b4fa76636df44b153e4dc");
	evfs_object_free(object);
}
END_TEST

static evfs_hash live_hash(const struct evfs_object *object)
{
	evfs_hash hash;

	ck_assert_int_eq(evfs_object_live_hash(object, &hash), 0);
	return hash;
}

START_TEST(live_hash_ignores_what_is_local)
{
	struct evfs_object *object = golden_object();
	evfs_hash hash = live_hash(object), other;

	object->change_ns++;
	object->n_log--;
	object->n_ties--;
	object->n_links--; /* a dead one */
	evfs_object_find_attr(object, EVFS_ATTR_TIMES, NULL, 0)
		->value.times.atime_s++;
	other = live_hash(object);
	ck_assert(evfs_hash_equal(&hash, &other));
	evfs_object_free(object);
}
END_TEST

static void change_kind(struct evfs_object *object)
{
	object->kind = EVFS_KIND_FIFO;
}
static void change_ino(struct evfs_object *object)
{
	object->ino.counter++;
}
static void change_alive(struct evfs_object *object)
{
	object->links[0].alive.n--;
}
static void change_name(struct evfs_object *object)
{
	object->links[0].place.name_len--;
}
static void change_origin(struct evfs_object *object)
{
	object->links[0].place.origin = EVFS_INO_LOST;
}
static void change_content(struct evfs_object *object)
{
	object->versions[1].content.b[31] ^= 1;
}
static void change_bases(struct evfs_object *object)
{
	object->versions[1].bases.n = 0;
}
static void change_mtime(struct evfs_object *object)
{
	object->versions[0].mtime_ns--;
}
static void change_mode(struct evfs_object *object)
{
	object->attrs[0].value.mode ^= 1;
}
static void change_saw(struct evfs_object *object)
{
	object->attrs[0].saw.n = 0;
}
static void change_removed(struct evfs_object *object)
{
	evfs_object_find_attr(object, EVFS_ATTR_XATTR, "user.gone", 9)
		->value.xattr.removed = false;
}
static void change_set_mtime(struct evfs_object *object)
{
	object->attrs[2].value.times.mtime_ns++;
}

START_TEST(live_hash_sees_every_live_fact)
{
	static void (*const changes[])(struct evfs_object *) = {
		change_kind,	change_ino,   change_alive, change_name,
		change_origin,	change_bases, change_mtime, change_content,
		change_removed, change_saw,   change_mode,  change_set_mtime,
	};
	struct evfs_object *object = golden_object();
	evfs_hash hash = live_hash(object), other;

	for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
		struct evfs_object *copy = evfs_object_copy(object);

		ck_assert_ptr_nonnull(copy);
		changes[i](copy);
		other = live_hash(copy);
		ck_assert_msg(!evfs_hash_equal(&hash, &other), "change %zu", i);
		evfs_object_free(copy);
	}
	evfs_object_free(object);
}
END_TEST

START_TEST(live_hash_keeps_a_dead_directorys_place)
{
	struct evfs_object *dir = evfs_object_new(DOT(0xa1, 1), EVFS_KIND_DIR);
	evfs_dot dot = DOT(0xa1, 1);
	struct evfs_link link = {
		.id = { 1, dot },
		.place = { { 1, dot },
			   EVFS_INO_ROOT,
			   EVFS_INO_ROOT,
			   (const uint8_t *)"d",
			   1 },
	};
	evfs_hash hash, other;

	ck_assert_int_eq(evfs_object_log_raise(dir, dot), 0);
	ck_assert_int_eq(evfs_object_add_link(dir, &link), 0);
	hash = live_hash(dir);
	dir->links[0].place.parent = EVFS_INO_LOST;
	other = live_hash(dir);
	ck_assert(!evfs_hash_equal(&hash, &other));
	evfs_object_free(dir);
}
END_TEST

/* ---- random states ---- */

#define HISTORIES 1500

START_TEST(random_states_survive)
{
	static struct history history;
	struct evfs_buf buf = { 0 };

	for (uint64_t seed = 0; seed < HISTORIES; seed++) {
		history_start(&history, seed + 1000000);
		for (int step = 0; step < 25; step++) {
			struct evfs_object *object, *back;
			struct evfs_err err = { 0 };

			history_step(&history);
			object = history.replicas[step % HISTORY_REPLICAS]
					 .object;
			if (object == NULL)
				continue;
			encode(object, &buf);
			ck_assert_msg(evfs_object_decode(buf.data, buf.len,
							 &back, &err) == 0,
				      "seed %llu: %s", (unsigned long long)seed,
				      err.msg);
			ck_assert(evfs_object_equal(object, back));
			evfs_object_free(back);
		}
		history_fini(&history);
	}
	evfs_buf_fini(&buf);
}
END_TEST

/* The root has an object of its own, with attributes only. */
START_TEST(the_root_survives)
{
	struct evfs_object *root =
		evfs_object_new(EVFS_INO_ROOT, EVFS_KIND_DIR);
	struct evfs_object *back = NULL;
	struct evfs_attr mode = { .kind = EVFS_ATTR_MODE,
				  .stamp = { 1, DOT(5, 1) },
				  .value.mode = 0700 };
	struct evfs_err err = { 0 };
	struct evfs_buf buf = { 0 };

	ck_assert_int_eq(evfs_object_log_raise(root, DOT(5, 1)), 0);
	ck_assert_int_eq(evfs_object_put_attr(root, &mode), 0);
	encode(root, &buf);
	ck_assert_msg(evfs_object_decode(buf.data, buf.len, &back, &err) == 0,
		      "%s", err.msg);
	ck_assert(evfs_object_equal(root, back));
	evfs_buf_fini(&buf);
	evfs_object_free(root);
	evfs_object_free(back);
}
END_TEST

START_TEST(a_fresh_file_is_short)
{
	struct evfs_object *object = evfs_object_new(
		DOT(0x1122334455667788, 100000), EVFS_KIND_FILE);
	evfs_dot dot = object->ino;
	evfs_stamp stamp = { 1700000000000000000, dot };
	struct evfs_link link = {
		.id = stamp,
		.place = { stamp, DOT(0x1122334455667788, 99000),
			   DOT(0x1122334455667788, 99000),
			   (const uint8_t *)"report.txt", 10 },
		.alive = { &dot, 1 },
	};
	struct evfs_version version = { .dot = dot,
					.time_ns = stamp.time_ns + 1,
					.content = { { 1 } },
					.size = 4096,
					.mtime_s = 1700000000 };
	struct evfs_attr mode = { .kind = EVFS_ATTR_MODE,
				  .stamp = stamp,
				  .value.mode = 0644 };
	struct evfs_buf buf = { 0 };

	ck_assert_int_eq(evfs_object_log_raise(object, dot), 0);
	ck_assert_int_eq(evfs_object_add_link(object, &link), 0);
	ck_assert_int_eq(evfs_object_put_version(object, &version), 0);
	ck_assert_int_eq(evfs_object_put_attr(object, &mode), 0);
	object->change_ns = stamp.time_ns + 1;
	encode(object, &buf);
	ck_assert_uint_le(buf.len, 140);
	evfs_buf_fini(&buf);
	evfs_object_free(object);
}
END_TEST

/* ---- hostile bytes ---- */

/* Decoding either refuses with a reason or gives a state that keeps all rules
 * and survives a round trip. From a block of the exact size, so that a
 * sanitizer sees each byte too far. */
static int decode_hostile(const uint8_t *data, size_t len)
{
	uint8_t *exact = evfs_memdup(data, len);
	struct evfs_object *object = NULL, *back = NULL;
	struct evfs_err err = { 0 };
	struct evfs_buf buf = { 0 };
	int rc = evfs_object_decode(exact, len, &object, &err);

	if (rc != 0) {
		ck_assert(rc == EVFS_ECORRUPT || rc == EVFS_ENEWER);
		ck_assert_int_eq(err.code, rc);
		ck_assert_str_ne(err.msg, "");
		ck_assert_ptr_null(object);
	} else {
		ck_assert_int_eq(evfs_object_check(object, &err), 0);
		encode(object, &buf);
		ck_assert_int_eq(
			evfs_object_decode(buf.data, buf.len, &back, &err), 0);
		ck_assert(evfs_object_equal(object, back));
		evfs_object_free(object);
		evfs_object_free(back);
	}
	evfs_buf_fini(&buf);
	evfs_free(exact);
	return rc;
}

START_TEST(every_truncation)
{
	struct evfs_object *object = golden_object();
	struct evfs_buf buf = { 0 };
	size_t refused = 0;

	encode(object, &buf);
	for (size_t len = 0; len < buf.len; len++)
		refused += decode_hostile(buf.data, len) != 0;
	/* A cut between two parts may leave a valid, poorer object. */
	ck_assert_uint_ge(refused, buf.len * 9 / 10);
	ck_assert_int_eq(decode_hostile(buf.data, buf.len), 0);
	evfs_buf_fini(&buf);
	evfs_object_free(object);
}
END_TEST

START_TEST(every_flipped_bit_and_random_damage)
{
	struct evfs_object *object = golden_object();
	struct evfs_buf buf = { 0 };
	uint8_t copy[2048];

	encode(object, &buf);
	ck_assert_uint_le(buf.len, sizeof(copy));
	for (size_t bit = 0; bit < 8 * buf.len; bit++) {
		memcpy(copy, buf.data, buf.len);
		copy[bit / 8] ^= (uint8_t)(1 << bit % 8);
		decode_hostile(copy, buf.len);
	}
	srand(1);
	for (int round = 0; round < 20000; round++) {
		memcpy(copy, buf.data, buf.len);
		for (int i = rand() % 4; i >= 0; i--)
			copy[(size_t)rand() % buf.len] = (uint8_t)rand();
		decode_hostile(copy, buf.len);
	}
	evfs_buf_fini(&buf);
	evfs_object_free(object);
}
END_TEST

/* Two bytes a part on the wire, a hundred times that in memory. */
START_TEST(parts_are_limited_by_their_bytes)
{
	size_t len = 4u << 20;
	uint8_t *data = evfs_calloc(len, 1);
	struct evfs_object *object = NULL;
	struct evfs_err err = { 0 };

	ck_assert_ptr_nonnull(data);
	for (size_t i = 0; i < len; i += 2)
		data[i] = 10 << 3 | 2; /* Object.links, length 0 */
	ck_assert_int_eq(evfs_object_decode(data, len, &object, &err),
			 EVFS_ECORRUPT);
	ck_assert_ptr_nonnull(strstr(err.msg, "more parts than"));
	ck_assert_int_eq(evfs_object_decode(data, EVFS_OBJECT_BYTES_MAX + 1,
					    &object, &err),
			 EVFS_ECORRUPT);
	evfs_free(data);
}
END_TEST

/* The most parts for the fewest bytes that a valid object can have. */
START_TEST(many_small_parts_are_fine)
{
	struct evfs_object *object = evfs_object_new(DOT(1, 1), EVFS_KIND_FILE);
	evfs_stamp stamp = { 1, DOT(1, 1) };
	size_t n = EVFS_OBJECT_LINKS_MAX;
	struct evfs_buf buf = { 0 };
	uint8_t(*keys)[2];

	ck_assert_int_eq(evfs_object_log_raise(object, DOT(1, 1)), 0);
	object->links =
		evfs_arena_alloc(&object->arena, n, sizeof(*object->links));
	object->attrs = evfs_arena_alloc(&object->arena, 255 * 255,
					 sizeof(*object->attrs));
	keys = evfs_arena_alloc(&object->arena, 255 * 255, sizeof(*keys));
	ck_assert(object->links != NULL && object->attrs != NULL && keys);
	for (size_t i = 0; i < 255 * 255; i++) {
		keys[i][0] = (uint8_t)(1 + i / 255);
		keys[i][1] = (uint8_t)(1 + i % 255);
		object->attrs[i].kind = EVFS_ATTR_XATTR;
		object->attrs[i].key = keys[i];
		object->attrs[i].key_len = 2;
		object->attrs[i].stamp = stamp;
	}
	object->n_attrs = 255 * 255;
	encode(object, &buf);
	ck_assert_int_eq(decode_hostile(buf.data, buf.len), 0);
	for (size_t i = 0; i < n; i++) {
		struct evfs_link *link = &object->links[i];

		link->id = (evfs_stamp){ i + 1, DOT(1, 1) };
		link->place.stamp = link->id;
		link->place.parent = link->place.origin = EVFS_INO_ROOT;
		link->place.name = (const uint8_t *)"f";
		link->place.name_len = 1;
	}
	object->n_links = n;
	encode(object, &buf);
	ck_assert_int_eq(decode_hostile(buf.data, buf.len), 0);
	evfs_buf_fini(&buf);
	evfs_object_free(object);
}
END_TEST

START_TEST(too_large_is_not_encoded)
{
	struct evfs_object *object = evfs_object_new(DOT(1, 1), EVFS_KIND_FILE);
	struct evfs_buf buf = { 0 };
	uint8_t *value = evfs_calloc(EVFS_XATTR_VALUE_MAX, 1);
	char key[16];

	ck_assert_int_eq(evfs_object_log_raise(object, DOT(1, 1)), 0);
	for (int i = 0; i < 130; i++) {
		struct evfs_attr attr = {
			.kind = EVFS_ATTR_XATTR,
			.key = (const uint8_t *)key,
			.key_len = (size_t)snprintf(key, sizeof(key), "user.%d",
						    i),
			.stamp = { 1, DOT(1, 1) },
			.value.xattr = { value, EVFS_XATTR_VALUE_MAX, false },
		};

		ck_assert_int_eq(evfs_object_put_attr(object, &attr), 0);
		if (i == 100) {
			encode(object, &buf);
			ck_assert_int_eq(decode_hostile(buf.data, buf.len), 0);
		}
	}
	evfs_buf_clear(&buf);
	ck_assert_int_eq(evfs_object_encode(object, &buf), EVFS_ELIMIT);
	ck_assert_uint_eq(buf.len, 0);
	evfs_free(value);
	evfs_buf_fini(&buf);
	evfs_object_free(object);
}
END_TEST

/* ---- rules: each broken once ---- */

static void break_kind(struct evfs_object *o)
{
	o->kind = 8;
}
static void break_kind_0(struct evfs_object *o)
{
	o->kind = 0;
}
static void break_versions_of_fifo(struct evfs_object *o)
{
	o->kind = EVFS_KIND_FIFO;
}
static void break_dir_links(struct evfs_object *o)
{
	o->kind = EVFS_KIND_DIR;
	o->n_versions = 0;
}
static void break_dir_no_link(struct evfs_object *o)
{
	o->kind = EVFS_KIND_DIR;
	o->n_versions = o->n_links = 0;
}
static void break_symlink_empty(struct evfs_object *o)
{
	o->kind = EVFS_KIND_SYMLINK;
	o->n_versions = 0;
}
static void break_target(struct evfs_object *o)
{
	ck_assert_int_eq(evfs_object_set_target(o, "x", 1), 0);
}
static void break_target_nul(struct evfs_object *o)
{
	break_symlink_empty(o);
	ck_assert_int_eq(evfs_object_set_target(o, "x\0y", 3), 0);
}
static void break_rdev(struct evfs_object *o)
{
	o->rdev = 1;
}
static void break_ino_lost(struct evfs_object *o)
{
	o->ino = EVFS_INO_LOST;
}
static void break_ino_none(struct evfs_object *o)
{
	o->ino = EVFS_INO_NONE;
}
static void break_root_file(struct evfs_object *o)
{
	o->ino = EVFS_INO_ROOT;
}
static void break_born(struct evfs_object *o)
{
	o->ino.counter = 10;
}
static void break_log_missing(struct evfs_object *o)
{
	o->n_log = 1;
}
static void break_log_low(struct evfs_object *o)
{
	o->log[0].counter = 8;
}
static void name_is(struct evfs_object *o, const char *name, size_t len)
{
	o->links[0].place.name = (const uint8_t *)name;
	o->links[0].place.name_len = len;
}
static void break_name_dot(struct evfs_object *o)
{
	name_is(o, ".", 1);
}
static void break_name_dots(struct evfs_object *o)
{
	name_is(o, "..", 2);
}
static void break_name_none(struct evfs_object *o)
{
	name_is(o, "", 0);
}
static void break_name_slash(struct evfs_object *o)
{
	name_is(o, "a/b", 3);
}
static void break_name_nul(struct evfs_object *o)
{
	name_is(o, "a\0b", 3);
}
static void break_name_long(struct evfs_object *o)
{
	static char name[256];

	memset(name, 'n', sizeof(name));
	name_is(o, name, sizeof(name));
}
static void break_parent(struct evfs_object *o)
{
	o->links[0].place.parent = EVFS_INO_NONE;
}
static void break_parent_self(struct evfs_object *o)
{
	o->links[0].place.parent = o->ino;
}
static void break_origin(struct evfs_object *o)
{
	o->links[0].place.origin = (evfs_ino){ { 0, 0 }, 3 };
}
static void break_link_order(struct evfs_object *o)
{
	struct evfs_link link = o->links[0];

	o->links[0] = o->links[1];
	o->links[1] = link;
}
static void break_link_twice(struct evfs_object *o)
{
	o->links[1] = o->links[0];
}
static void break_alive_order(struct evfs_object *o)
{
	o->links[0].alive.items[1] = o->links[0].alive.items[0];
}
static void break_alive_unknown(struct evfs_object *o)
{
	o->links[0].alive.items[1].counter = 5;
}
static void break_alive_zero(struct evfs_object *o)
{
	o->links[0].alive.items[0].counter = 0;
}
static void break_place_dot(struct evfs_object *o)
{
	o->links[0].place.stamp.dot.counter = 99;
}
static void break_version_order(struct evfs_object *o)
{
	o->versions[1].dot = o->versions[0].dot;
}
static void break_version_dot(struct evfs_object *o)
{
	o->versions[1].dot.counter = 10;
}
static void break_base(struct evfs_object *o)
{
	o->versions[0].bases.items[0].counter = 0;
}
static void break_size(struct evfs_object *o)
{
	o->versions[0].size = EVFS_FILE_SIZE_MAX + 1;
}
static void break_size_empty(struct evfs_object *o)
{
	memset(o->versions[0].content.b, 0, EVFS_HASH_SIZE);
}
static void break_content_empty(struct evfs_object *o)
{
	o->versions[0].size = 0;
}
static void break_mtime(struct evfs_object *o)
{
	o->versions[0].mtime_ns = 1000000000;
}
static void break_mode(struct evfs_object *o)
{
	o->attrs[0].value.mode = 010000;
}
static void break_attr_dot(struct evfs_object *o)
{
	o->attrs[0].stamp.dot.actor.node = 0;
}
static void break_atime(struct evfs_object *o)
{
	o->attrs[2].value.times.atime_ns = UINT32_MAX;
}
static void break_attr_order(struct evfs_object *o)
{
	o->attrs[1] = o->attrs[0];
}
static void break_xattr_key(struct evfs_object *o)
{
	o->attrs[4].key_len = 0;
}
static void break_xattr_key_nul(struct evfs_object *o)
{
	o->attrs[4].key = (const uint8_t *)"user.\0";
	o->attrs[4].key_len = 6;
}
static void break_xattr_removed(struct evfs_object *o)
{
	o->attrs[4].value.xattr.removed = true;
}
static void break_saw(struct evfs_object *o)
{
	o->attrs[1].saw = o->attrs[0].saw;
}
static void break_tie_dot(struct evfs_object *o)
{
	o->ties[0].dot.counter = 5;
}
static void break_tie_own(struct evfs_object *o)
{
	o->ties[0].ends[0].dot.counter = 3;
}
static void break_tie_order(struct evfs_object *o)
{
	o->ties[0].ends[1].ino = o->ties[0].ends[0].ino;
}
static void break_tie_empty(struct evfs_object *o)
{
	o->ties[0].n = 0;
}

START_TEST(every_rule_is_held)
{
	static void (*const breaks[])(struct evfs_object *) = {
		break_kind,
		break_kind_0,
		break_versions_of_fifo,
		break_dir_links,
		break_dir_no_link,
		break_symlink_empty,
		break_target,
		break_target_nul,
		break_rdev,
		break_ino_lost,
		break_ino_none,
		break_root_file,
		break_born,
		break_log_missing,
		break_log_low,
		break_name_dot,
		break_name_dots,
		break_name_none,
		break_name_slash,
		break_name_nul,
		break_name_long,
		break_parent,
		break_parent_self,
		break_origin,
		break_link_order,
		break_link_twice,
		break_alive_order,
		break_alive_unknown,
		break_alive_zero,
		break_place_dot,
		break_version_order,
		break_version_dot,
		break_base,
		break_size,
		break_size_empty,
		break_content_empty,
		break_mtime,
		break_mode,
		break_attr_dot,
		break_atime,
		break_attr_order,
		break_xattr_key,
		break_xattr_key_nul,
		break_xattr_removed,
		break_saw,
		break_tie_dot,
		break_tie_own,
		break_tie_order,
		break_tie_empty,
	};
	struct evfs_object *object = golden_object();

	ck_assert_int_eq(evfs_object_check(object, NULL), 0);
	for (size_t i = 0; i < sizeof(breaks) / sizeof(breaks[0]); i++) {
		struct evfs_object *copy = evfs_object_copy(object);
		struct evfs_object *back = NULL;
		struct evfs_err err = { 0 };
		struct evfs_buf buf = { 0 };

		ck_assert_ptr_nonnull(copy);
		breaks[i](copy);
		ck_assert_msg(evfs_object_check(copy, &err) == EVFS_ECORRUPT,
			      "rule %zu", i);
		encode(copy, &buf);
		ck_assert_msg(evfs_object_decode(buf.data, buf.len, &back,
						 &err) == EVFS_ECORRUPT,
			      "rule %zu", i);
		ck_assert_ptr_eq(strstr(err.msg, "object: "), err.msg);
		evfs_buf_fini(&buf);
		evfs_object_free(copy);
	}
	evfs_object_free(object);
}
END_TEST

/* ---- facts of a newer version ---- */

START_TEST(unknown_facts_pass_through)
{
	static const uint8_t unknown[] = { 0x8a, 0x01, 2,    'z', 'z', /* 17 */
					   0x82, 0x01, 1,    'b',      /* 16 */
					   0x82, 0x01, 1,    'a',      /* 16 */
					   0x82, 0x01, 1,    'a', /* again */
					   0x82, 0x01, 0x80, 0 }; /* empty */
	static const uint8_t number[] = { 0x80, 0x01, 5 }; /* 16: a varint */
	static const uint8_t inside[] = { 0x72, 1, 'x' };  /* 14: reserved */
	struct evfs_object *object = golden_object(), *back = NULL;
	evfs_hash hash = live_hash(object), other;
	struct evfs_err err = { 0 };
	struct evfs_buf buf = { 0 };

	encode(object, &buf);
	ck_assert_int_eq(evfs_buf_put(&buf, unknown, sizeof(unknown)), 0);
	ck_assert_msg(evfs_object_decode(buf.data, buf.len, &back, &err) == 0,
		      "%s", err.msg);
	ck_assert_uint_eq(back->n_extras, 4);
	ck_assert_uint_eq(back->extras[0].len, 0);
	ck_assert_uint_eq(back->extras[1].data[0], 'a');
	ck_assert_uint_eq(back->extras[3].field, 17);
	other = live_hash(back);
	ck_assert(!evfs_hash_equal(&hash, &other));
	ck_assert_int_eq(decode_hostile(buf.data, buf.len), 0);
	evfs_object_free(back);

	encode(object, &buf);
	ck_assert_int_eq(evfs_buf_put(&buf, number, sizeof(number)), 0);
	ck_assert_int_eq(decode_hostile(buf.data, buf.len), EVFS_ENEWER);
	encode(object, &buf);
	ck_assert_int_eq(evfs_buf_put(&buf, inside, sizeof(inside)), 0);
	ck_assert_int_eq(decode_hostile(buf.data, buf.len), EVFS_ENEWER);
	evfs_buf_fini(&buf);
	evfs_object_free(object);
}
END_TEST

/* ---- without memory ---- */

START_TEST(without_memory_nothing_leaks)
{
	struct evfs_object *object = golden_object(), *back = NULL;
	struct evfs_err err = { 0 };
	struct evfs_buf buf = { 0 };
	evfs_hash hash;
	int rc = EVFS_ENOMEM;

	for (uint64_t n = 1; rc != 0; n++) {
		evfs_mem_fail_after(n);
		rc = evfs_object_encode(object, &buf);
		ck_assert_int_eq(rc, evfs_mem_fail_hit() ? EVFS_ENOMEM : 0);
	}
	rc = EVFS_ENOMEM;
	for (uint64_t n = 1; rc != 0; n++) {
		evfs_mem_fail_after(n);
		rc = evfs_object_decode(buf.data, buf.len, &back, &err);
		ck_assert_int_eq(rc, evfs_mem_fail_hit() ? EVFS_ENOMEM : 0);
	}
	rc = EVFS_ENOMEM;
	for (uint64_t n = 1; rc != 0; n++) {
		evfs_mem_fail_after(n);
		rc = evfs_object_live_hash(object, &hash);
		ck_assert_int_eq(rc, evfs_mem_fail_hit() ? EVFS_ENOMEM : 0);
	}
	evfs_mem_fail_after(0);
	evfs_buf_fini(&buf);
	evfs_object_free(object);
	evfs_object_free(back);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("object_codec");
	TCase *tcase = tcase_create("object_codec");
	SRunner *runner = srunner_create(suite);
	int failed;

	suite_add_tcase(suite, tcase);
	tcase_set_timeout(tcase, 60);
	tcase_add_test(tcase, golden_bytes);
	tcase_add_test(tcase, golden_live_hash);
	tcase_add_test(tcase, live_hash_ignores_what_is_local);
	tcase_add_test(tcase, live_hash_sees_every_live_fact);
	tcase_add_test(tcase, live_hash_keeps_a_dead_directorys_place);
	tcase_add_test(tcase, random_states_survive);
	tcase_add_test(tcase, the_root_survives);
	tcase_add_test(tcase, a_fresh_file_is_short);
	tcase_add_test(tcase, every_truncation);
	tcase_add_test(tcase, every_flipped_bit_and_random_damage);
	tcase_add_test(tcase, parts_are_limited_by_their_bytes);
	tcase_add_test(tcase, many_small_parts_are_fine);
	tcase_add_test(tcase, too_large_is_not_encoded);
	tcase_add_test(tcase, every_rule_is_held);
	tcase_add_test(tcase, unknown_facts_pass_through);
	tcase_add_test(tcase, without_memory_nothing_leaks);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
