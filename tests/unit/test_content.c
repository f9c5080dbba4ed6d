/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Content: putting, reading, references, transfer, damage. Each on disk and in
 * memory. */
#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "meta/content_priv.h"
#include "tests/unit/content_world.h"

#define MIB ((size_t)1 << 20)

START_TEST(sizes_round_trip)
{
	static const size_t sizes[] = {
		0, 1, 4095, 4096, EVFS_CHUNK_MIN - 1, EVFS_CHUNK_MIN,
		EVFS_CHUNK_MIN + 1, EVFS_CHUNK_AVG, EVFS_CHUNK_MAX - 1,
		EVFS_CHUNK_MAX, EVFS_CHUNK_MAX + 1, 2 * EVFS_CHUNK_MAX,
		5 * MIB + 17
	};
	enum { N = sizeof(sizes) / sizeof(sizes[0]) };
	evfs_hash names[N];
	struct world world;

	world_open(&world, _i);
	for (int round = 0; round < 2; round++) {
		for (size_t i = 0; i < N; i++) {
			uint8_t *data = world_bytes(sizes[i], i);

			if (round == 0)
				names[i] = world_put(&world, data, sizes[i],
						     true);
			ck_assert(world_has(&world, &names[i]));
			world_check(&world, &names[i], data, sizes[i]);
			free(data);
		}
		ck_assert_int_eq(world_faults(&world), 0);
		ck_assert_uint_eq(world_stats(&world).objects, N - 1);
		if (!_i)
			world_reopen(&world);
	}
	ck_assert(evfs_hash_is_zero(&names[0]));
	world_close(&world);
}
END_TEST

START_TEST(parts_are_read_right)
{
	size_t len = 3 * MIB + 5, got;
	uint8_t *data = world_bytes(len, 1), *part = malloc(len);
	struct evfs_content_reader *reader;
	struct world world;
	evfs_hash name;
	uint64_t seed = 2;

	world_open(&world, _i);
	memset(data + MIB, 0, 2 * EVFS_CHUNK_MAX + EVFS_CHUNK_MIN);
	name = world_put(&world, data, len, true);
	ck_assert_int_eq(evfs_content_open(world.content, &name, len, &reader,
					   NULL), 0);
	for (int i = 0; i < 500; i++) {
		uint64_t offset = world_random(&seed) % (len + 100);
		size_t n = world_random(&seed) % (len / 2), there;
		int fd = -1;
		uint64_t fd_offset, fd_len;

		there = offset >= len ? 0 : len - offset < n ? len - offset : n;
		ck_assert_int_eq(evfs_content_read(reader, part, n, offset,
						   &got, NULL), 0);
		ck_assert_uint_eq(got, there);
		ck_assert(memcmp(part, data + offset, got) == 0);
		ck_assert_int_eq(evfs_content_extent(reader, offset, MIB, &fd,
						     &fd_offset, &fd_len,
						     NULL), 0);
		if (_i || offset >= len) {
			ck_assert_uint_eq(fd_len, 0);
			continue;
		}
		if (fd_len > 0)
			ck_assert_int_eq(pread(fd, part, fd_len,
					       (off_t)fd_offset),
					 (ssize_t)fd_len);
		ck_assert(memcmp(part, data + offset, fd_len) == 0);
	}
	evfs_content_close(reader);
	ck_assert_int_eq(evfs_content_open(world.content, &name, len - 1,
					   &reader, NULL), EVFS_ECORRUPT);
	world_close(&world);
	free(data);
	free(part);
}
END_TEST

START_TEST(equal_bytes_are_kept_once)
{
	uint8_t *data = world_bytes(4 * MIB, 1);
	struct evfs_content_stats before, after;
	struct world world;
	evfs_hash a, b, part;

	world_open(&world, _i);
	a = world_put(&world, data, 4 * MIB, true);
	before = world_stats(&world);
	b = world_put(&world, data, 4 * MIB, true);
	ck_assert(evfs_hash_equal(&a, &b));
	after = world_stats(&world);
	ck_assert_uint_eq(after.bytes, before.bytes);
	ck_assert_uint_eq(after.objects, 1);
	/* The tail alone meets the chunks of the whole soon. */
	part = world_put(&world, data + 777, 4 * MIB - 777, true);
	after = world_stats(&world);
	ck_assert_uint_lt(after.bytes, before.bytes + 3 * EVFS_CHUNK_MAX);
	ck_assert_uint_eq(after.garbage_bytes, 0);
	world_check(&world, &part, data + 777, 4 * MIB - 777);
	ck_assert_int_eq(world_faults(&world), 0);
	world_close(&world);
	free(data);
}
END_TEST

/* One chunk named twice in one content, and by two. */
START_TEST(repeats_within_a_content)
{
	size_t len = 6 * MIB;
	uint8_t *data = malloc(len);
	struct world world;
	evfs_hash name;

	world_open(&world, _i);
	memset(data, 'x', len); /* equal chunks, and not of zeros */
	name = world_put(&world, data, len, true);
	world_check(&world, &name, data, len);
	ck_assert_uint_lt(world_stats(&world).bytes, 2 * EVFS_CHUNK_MAX);
	ck_assert_int_eq(world_faults(&world), 0);
	world_unref(&world, &name);
	world_reclaim(&world);
	ck_assert_uint_eq(world_stats(&world).bytes, 0);
	ck_assert_int_eq(world_faults(&world), 0);
	world_close(&world);
	free(data);
}
END_TEST

static uint64_t holes(struct world *world, const evfs_hash *name,
		      uint64_t size)
{
	uint64_t bytes = 1;

	evfs_meta_lock(world->meta);
	ck_assert_int_eq(evfs_content_holes(world->content, name, size, &bytes,
					    &world->err), 0);
	evfs_meta_unlock(world->meta);
	return bytes;
}

START_TEST(holes_cost_nothing)
{
	size_t len = 16 * MIB + 999;
	uint8_t *data = calloc(1, len);
	struct evfs_content_reader *reader;
	struct world world;
	evfs_hash name, one;
	uint64_t hole;

	world_open(&world, _i);
	memcpy(data, "begin", 5);
	memcpy(data + len - 3, "end", 3);
	name = world_put(&world, data, len, true);
	ck_assert_uint_lt(world_stats(&world).bytes, 3 * EVFS_CHUNK_MAX);
	world_check(&world, &name, data, len);
	ck_assert_int_eq(evfs_content_open(world.content, &name, len, &reader,
					   NULL), 0);
	hole = evfs_content_seek(reader, 0, true);
	ck_assert_uint_eq(hole, EVFS_CHUNK_MAX);
	ck_assert_uint_eq(evfs_content_seek(reader, 0, false), 0);
	ck_assert_uint_eq(evfs_content_seek(reader, hole, true), hole);
	ck_assert_uint_eq(evfs_content_seek(reader, hole + 9, true), hole + 9);
	ck_assert_uint_eq(evfs_content_seek(reader, hole, false), 16 * MIB);
	ck_assert_uint_eq(evfs_content_seek(reader, 16 * MIB, true), len);
	ck_assert_uint_eq(evfs_content_seek(reader, len, false), len);
	evfs_content_close(reader);
	ck_assert_uint_eq(holes(&world, &name, len),
			  16 * MIB - EVFS_CHUNK_MAX);
	/* All zero: of one chunk, and of several. */
	memset(data, 0, len);
	one = world_put(&world, data, EVFS_CHUNK_MAX, true);
	ck_assert(evfs_content_is_zero_chunk(&one));
	world_check(&world, &one, data, EVFS_CHUNK_MAX);
	ck_assert_uint_eq(holes(&world, &one, EVFS_CHUNK_MAX), EVFS_CHUNK_MAX);
	name = world_put(&world, data, 8 * MIB, true);
	world_check(&world, &name, data, 8 * MIB);
	ck_assert_uint_eq(holes(&world, &name, 8 * MIB), 8 * MIB);
	ck_assert_int_eq(world_faults(&world), 0);
	ck_assert_uint_eq(world_stats(&world).objects, 3);
	world_unref(&world, &one);
	world_unref(&world, &name);
	world_reclaim(&world);
	ck_assert_uint_eq(world_stats(&world).objects, 1);
	ck_assert_int_eq(world_faults(&world), 0);
	world_close(&world);
	free(data);
}
END_TEST

static int collect(void *arg, uint64_t number, const evfs_hash *name,
		   uint64_t size)
{
	uint64_t *list = arg;

	(void)size;
	list[++list[0]] = number;
	ck_assert(!evfs_hash_is_zero(name));
	return 0;
}

static uint64_t wanted_after(struct world *world, uint64_t after,
			     uint64_t *list)
{
	list[0] = 0;
	evfs_meta_lock(world->meta);
	ck_assert_int_eq(evfs_content_wanted(world->content, after, 30,
					     collect, list, NULL), 0);
	evfs_meta_unlock(world->meta);
	return list[0];
}

START_TEST(wanted_is_a_queue)
{
	uint64_t list[32];
	struct world world;
	uint8_t *data[5];
	evfs_hash names[5];
	bool has;

	world_open(&world, _i);
	for (size_t i = 0; i < 5; i++) {
		data[i] = world_bytes(1000, 50 + i);
		names[i] = evfs_hash_content(data[i], 1000);
		world_ref(&world, &names[i], 1000, i != 3);
	}
	ck_assert_uint_eq(wanted_after(&world, 0, list), 4);
	ck_assert_uint_lt(list[1], list[2]);
	ck_assert_uint_lt(list[2], list[3]);
	ck_assert_uint_eq(wanted_after(&world, list[2], list), 2);
	ck_assert_uint_eq(world_stats(&world).wanted_bytes, 4000);
	/* Wanted by a second version only; not by the first. */
	world_ref(&world, &names[3], 1000, true);
	ck_assert_uint_eq(wanted_after(&world, 0, list), 5);
	world_unref(&world, &names[3]);
	ck_assert_uint_eq(wanted_after(&world, 0, list), 4);
	/* It comes by itself; it is put here; nobody wants it any more. */
	world_put(&world, data[1], 1000, false);
	ck_assert_uint_eq(wanted_after(&world, 0, list), 3);
	world_unref(&world, &names[2]);
	ck_assert_uint_eq(wanted_after(&world, 0, list), 2);
	ck_assert_int_eq(world_faults(&world), 0);
	world_unref(&world, &names[1]);
	world_reclaim(&world);
	has = world_has(&world, &names[1]);
	ck_assert(!has);
	ck_assert_uint_eq(world_stats(&world).objects, 0);
	ck_assert_int_eq(world_faults(&world), 0);
	for (size_t i = 0; i < 5; i++)
		free(data[i]);
	world_close(&world);
}
END_TEST

/* From one store to another as net/ does it. */
static void transfer(struct world *from, struct world *to,
		     const evfs_hash *name, uint64_t size)
{
	for (int rounds = 0; rounds < 10000; rounds++) {
		struct evfs_chunk_want wants[7];
		struct evfs_content_put *put;
		struct evfs_buf buf = { 0 };
		bool manifest;
		size_t n;
		int r;

		evfs_meta_lock(to->meta);
		r = evfs_content_lacks(to->content, name, size, wants, 7, &n,
				       &manifest, &to->err);
		evfs_meta_unlock(to->meta);
		ck_assert_msg(r == 0, "%s", to->err.msg);
		if (n == 0 && !manifest)
			return;
		if (manifest) {
			evfs_meta_lock(from->meta);
			r = evfs_content_manifest(from->content, name, &buf,
						  &from->err);
			evfs_meta_unlock(from->meta);
			ck_assert_msg(r == 0, "%s", from->err.msg);
			evfs_meta_lock_content(to->meta);
			r = evfs_content_put_manifest(to->content, name, size,
						      buf.data, buf.len,
						      &to->err);
			evfs_meta_unlock(to->meta);
			ck_assert_msg(r == 0, "%s", to->err.msg);
		}
		for (size_t i = 0; i < n; i++) {
			evfs_buf_clear(&buf);
			r = evfs_content_read_chunk(from->content,
						    &wants[i].chunk, &buf,
						    &from->err);
			ck_assert_msg(r == 0, "%s", from->err.msg);
			ck_assert_uint_eq(buf.len, wants[i].len);
			r = evfs_content_write_chunk(to->content,
						     &wants[i].chunk, buf.data,
						     buf.len, i % 2 == 0, &put,
						     &to->err);
			ck_assert_msg(r == 0, "%s", to->err.msg);
			world_commit(to, put, false);
		}
		evfs_buf_fini(&buf);
	}
	ck_abort_msg("no end");
}

START_TEST(holes_are_known_elsewhere)
{
	size_t len = 6 * MIB;
	uint8_t *data = calloc(1, len);
	struct world from, to;
	evfs_hash name;

	world_open(&from, _i);
	world_open(&to, _i);
	memcpy(data + 4 * MIB, "data", 4);
	name = world_put(&from, data, len, true);
	world_ref(&to, &name, len, true);
	ck_assert_uint_eq(holes(&to, &name, len), 0); /* not yet */
	transfer(&from, &to, &name, len);
	ck_assert_uint_eq(holes(&to, &name, len), len - EVFS_CHUNK_MAX);
	world_unref(&to, &name);
	world_reclaim(&to);
	ck_assert_uint_eq(holes(&to, &name, len), 0);
	free(data);
	world_close(&from);
	world_close(&to);
}
END_TEST

static void count_arrived(void *ctx)
{
	atomic_fetch_add((atomic_int *)ctx, 1);
}

/* The committer may be the one that tells, a moment later. */
static void wait_arrived(atomic_int *arrived)
{
	const struct timespec moment = { 0, 1000000 };

	for (int i = 0; i < 20000 && atomic_load(arrived) == 0; i++)
		(void)nanosleep(&moment, NULL);
	ck_assert_int_gt(atomic_load(arrived), 0);
}

START_TEST(content_is_transferred)
{
	static const size_t sizes[] = { 1, 20000, EVFS_CHUNK_MIN + 9,
					EVFS_CHUNK_MAX, 3 * MIB, 7 * MIB };
	struct evfs_content_watch watch = { .arrived = count_arrived };
	struct world from, to;
	atomic_int arrived = 0;

	watch.ctx = &arrived;
	world_open(&from, true);
	world_open(&to, _i);
	evfs_content_set_watch(to.content, EVFS_CONTENT_WATCH_FS, &watch);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		uint8_t *data = world_bytes(sizes[i], i / 2 + 9);
		evfs_hash name;

		if (i == 5)
			memset(data + 4 * MIB, 0, 2 * MIB);
		name = world_put(&from, data, sizes[i], true);
		world_ref(&to, &name, sizes[i], true);
		ck_assert_uint_eq(world_stats(&to).wanted, 1);
		atomic_store(&arrived, 0);
		transfer(&from, &to, &name, sizes[i]);
		evfs_content_tell_arrived(to.content);
		wait_arrived(&arrived);
		ck_assert_uint_eq(world_stats(&to).wanted, 0);
		ck_assert_uint_eq(world_stats(&to).objects, i + 1);
		world_check(&to, &name, data, sizes[i]);
		ck_assert_int_eq(world_faults(&to), 0);
		free(data);
	}
	evfs_content_set_watch(to.content, EVFS_CONTENT_WATCH_FS, NULL);
	world_close(&from);
	world_close(&to);
}
END_TEST

START_TEST(lies_are_refused)
{
	uint8_t *data = world_bytes(3 * MIB, 1);
	struct evfs_content_put *put;
	struct evfs_buf manifest = { 0 };
	struct world from, to;
	evfs_hash name, single;
	bool lacks_manifest;
	size_t n;
	int r;

	world_open(&from, true);
	world_open(&to, true);
	name = world_put(&from, data, 3 * MIB, true);
	single = evfs_hash_content(data, 50000);
	evfs_meta_lock(from.meta);
	r = evfs_content_manifest(from.content, &name, &manifest, NULL);
	evfs_meta_unlock(from.meta);
	ck_assert_int_eq(r, 0);
	world_ref(&to, &name, 3 * MIB + 1, true); /* a wrong size */
	evfs_meta_lock_content(to.meta);
	ck_assert_int_eq(evfs_content_put_manifest(to.content, &name, 3 * MIB,
						   manifest.data, manifest.len,
						   NULL), EVFS_ECORRUPT);
	ck_assert_int_eq(evfs_content_put_manifest(to.content, &name,
						   3 * MIB + 1, manifest.data,
						   manifest.len, NULL),
			 EVFS_ECORRUPT);
	ck_assert_int_eq(evfs_content_put_manifest(to.content, &single,
						   3 * MIB, "", 0, NULL),
			 EVFS_ECORRUPT);
	evfs_meta_unlock(to.meta);
	ck_assert_int_eq(evfs_content_write_chunk(to.content, &name, data, 100,
						  false, &put, NULL), EVFS_ECORRUPT);
	ck_assert_int_eq(evfs_content_write_chunk(to.content, &single, data, 0,
						  false, &put, NULL), EVFS_ECORRUPT);
	/* "It is one chunk", said of what is not: the true bytes win. */
	evfs_meta_lock_content(to.meta);
	r = evfs_content_lacks(to.content, &name, 3 * MIB + 1, NULL, 0, &n,
			       &lacks_manifest, NULL);
	ck_assert(r == 0 && lacks_manifest && n == 0);
	evfs_meta_unlock(to.meta);
	world_put(&to, data, 3 * MIB, false);
	world_check(&to, &name, data, 3 * MIB);
	ck_assert_int_eq(world_faults(&to), 0);
	evfs_buf_fini(&manifest);
	world_close(&from);
	world_close(&to);
	free(data);
}
END_TEST

static void count_damaged(void *arg, const evfs_hash *chunk, const char *why)
{
	ck_assert(!evfs_hash_is_zero(chunk));
	ck_assert(strstr(why, "hash") != NULL);
	++*(int *)arg;
}

static int verify(struct world *world)
{
	evfs_hash cursor = EVFS_CONTENT_EMPTY;
	bool done = false;
	int damaged = 0;

	for (int i = 0; !done; i++) {
		ck_assert_int_lt(i, 10000);
		ck_assert_int_eq(evfs_content_verify(world->content, &cursor,
						     300000, &done,
						     count_damaged, &damaged,
						     NULL), 0);
	}
	return damaged;
}

START_TEST(damage_is_found_and_mended)
{
	size_t len = 3 * MIB;
	uint8_t *data = world_bytes(len, 1);
	struct evfs_content_reader *reader;
	struct world good, world;
	evfs_hash name, small;

	world_open(&good, true);
	world_open(&world, false);
	small = world_put(&world, data, 30000, true);
	name = world_put(&world, data, len, true);
	world_put(&good, data, 30000, true);
	world_put(&good, data, len, true);
	ck_assert_int_eq(verify(&world), 0);
	world_damage(&world, "segments");
	ck_assert_int_eq(verify(&world), 1);
	ck_assert_uint_eq(world_stats(&world).corrupt, 1);
	ck_assert_int_eq(world_faults(&world), 0);
	/* It lacks that chunk now, and wants it. */
	ck_assert(!world_has(&world, &name));
	ck_assert(world_has(&world, &small));
	ck_assert_uint_eq(world_stats(&world).wanted, 1);
	ck_assert_int_eq(evfs_content_open(world.content, &name, len, &reader,
					   NULL), EVFS_EMISSING);
	transfer(&good, &world, &name, len);
	ck_assert_uint_eq(world_stats(&world).corrupt, 0);
	world_check(&world, &name, data, len);
	ck_assert_int_eq(verify(&world), 0);
	ck_assert_int_eq(world_faults(&world), 0);
	world_close(&good);
	world_close(&world);
	free(data);
}
END_TEST

/* What was hashed here a short while ago goes out as it lies there; what an
 * earlier run has written is checked. */
START_TEST(damage_under_unchecked_reading)
{
	uint8_t *data = world_bytes(30000, 1);
	struct evfs_buf buf = { 0 };
	struct world world;
	evfs_hash name;

	world_open(&world, false);
	name = world_put(&world, data, 30000, true);
	world_sync(&world);
	world_damage(&world, "segments");
	ck_assert_int_eq(evfs_content_read_chunk_unchecked(world.content, &name,
							   &buf, NULL), 0);
	ck_assert_uint_eq(buf.len, 30000);
	ck_assert_int_ne(memcmp(buf.data, data, 30000), 0);
	ck_assert_uint_eq(world_stats(&world).corrupt, 0);
	evfs_buf_clear(&buf);
	world_reopen(&world);
	ck_assert_int_eq(evfs_content_read_chunk_unchecked(world.content, &name,
							   &buf, NULL),
			 EVFS_ECORRUPT);
	ck_assert_uint_eq(buf.len, 0);
	ck_assert_uint_eq(world_stats(&world).corrupt, 1);
	evfs_buf_fini(&buf);
	world_close(&world);
	free(data);
}
END_TEST

START_TEST(damage_that_heals)
{
	uint8_t *data = world_bytes(30000, 1);
	struct evfs_buf buf = { 0 };
	struct world world;
	evfs_hash name;

	world_open(&world, false);
	name = world_put(&world, data, 30000, true);
	world_damage(&world, "segments");
	ck_assert_int_eq(evfs_content_read_chunk(world.content, &name, &buf,
						 &world.err), EVFS_ECORRUPT);
	ck_assert_uint_eq(buf.len, 0);
	ck_assert_uint_eq(world_stats(&world).corrupt, 1);
	ck_assert_uint_eq(world_stats(&world).wanted, 1);
	ck_assert_int_eq(world_faults(&world), 0);
	ck_assert_int_eq(evfs_content_read_chunk(world.content, &name, &buf,
						 NULL), EVFS_EMISSING);
	/* References find it while it is damaged. */
	world_ref(&world, &name, 30000, true);
	world_unref(&world, &name);
	ck_assert_int_eq(verify(&world), 1);
	world_damage(&world, "segments"); /* back again */
	ck_assert_int_eq(verify(&world), 0);
	ck_assert_uint_eq(world_stats(&world).corrupt, 0);
	ck_assert_uint_eq(world_stats(&world).wanted, 0);
	world_check(&world, &name, data, 30000);
	ck_assert_int_eq(world_faults(&world), 0);
	/* Writing it again mends it as well. */
	world_damage(&world, "segments");
	ck_assert_int_eq(verify(&world), 1);
	world_put(&world, data, 30000, false);
	world_check(&world, &name, data, 30000);
	ck_assert_int_eq(world_faults(&world), 0);
	world_unref(&world, &name);
	world_reclaim(&world);
	ck_assert_uint_eq(world_stats(&world).bytes, 0);
	ck_assert_int_eq(world_faults(&world), 0);
	evfs_buf_fini(&buf);
	world_close(&world);
	free(data);
}
END_TEST

START_TEST(short_container_is_noticed)
{
	size_t len = 3 * MIB, got;
	uint8_t *data = world_bytes(len, 1), *out = malloc(len);
	struct evfs_content_reader *reader;
	struct world world;
	char path[160];
	evfs_hash name;

	world_open(&world, false);
	name = world_put(&world, data, len, true);
	snprintf(path, sizeof(path), "%s/segments/%012d", world.dir, 1);
	ck_assert_int_eq(truncate(path, 2 * MIB), 0);
	ck_assert_int_eq(evfs_content_open(world.content, &name, len, &reader,
					   NULL), 0);
	ck_assert_int_eq(evfs_content_read(reader, out, 1000, 0, &got, NULL),
			 0);
	ck_assert_int_eq(evfs_content_read(reader, out, len, 0, &got, NULL),
			 EVFS_ECORRUPT);
	evfs_content_close(reader);
	ck_assert_uint_gt(world_stats(&world).corrupt, 0);
	ck_assert(!world_has(&world, &name));
	ck_assert_int_eq(world_faults(&world), 0);
	world_close(&world);
	free(data);
	free(out);
}
END_TEST

/* Not known: put_manifest and lacks of names that nobody refers to; unref of
 * nothing. */
START_TEST(nothing_is_here)
{
	evfs_hash name = { { 1 } };
	struct evfs_content_reader *reader;
	struct evfs_chunk_want want;
	struct evfs_buf buf = { 0 };
	struct world world;
	bool manifest;
	size_t n;

	world_open(&world, _i);
	ck_assert(!world_has(&world, &name));
	ck_assert(world_has(&world, &EVFS_CONTENT_EMPTY));
	ck_assert_int_eq(evfs_content_open(world.content, &name, 5, &reader,
					   NULL), EVFS_EMISSING);
	ck_assert_int_eq(evfs_content_open(world.content, &EVFS_CONTENT_EMPTY,
					   5, &reader, NULL), EVFS_ECORRUPT);
	ck_assert_int_eq(evfs_content_read_chunk(world.content, &name, &buf,
						 NULL), EVFS_EMISSING);
	evfs_meta_lock(world.meta);
	ck_assert_int_eq(evfs_content_manifest(world.content, &name, &buf,
					       NULL), EVFS_EMISSING);
	ck_assert_int_eq(evfs_content_unref(world.content, &name, true, NULL),
			 EVFS_ECORRUPT);
	ck_assert_int_eq(evfs_content_ref(world.content, &name, 0, true, NULL),
			 EVFS_EINVAL);
	ck_assert_int_eq(evfs_content_ref(world.content, &EVFS_CONTENT_EMPTY,
					  1, true, NULL), EVFS_EINVAL);
	ck_assert_int_eq(evfs_content_lacks(world.content, &name, 100, &want,
					    1, &n, &manifest, NULL), 0);
	ck_assert(n == 1 && !manifest && want.len == 100);
	ck_assert_int_eq(evfs_content_lacks(world.content, &name, MIB, &want,
					    1, &n, &manifest, NULL), 0);
	ck_assert(n == 0 && manifest);
	evfs_meta_unlock(world.meta);
	evfs_buf_fini(&buf);
	ck_assert_int_eq(world_faults(&world), 0);
	world_close(&world);
}
END_TEST

/* Every allocation of a put, a commit and a read fails once. */
START_TEST(memory_runs_out)
{
	uint8_t *data = world_bytes(MIB, 1), *out = malloc(MIB);
	struct world world;
	uint64_t n;

	world_open(&world, true);
	for (n = 1; n < 10000; n++) {
		struct evfs_content_reader *reader;
		struct evfs_content_put *put;
		evfs_hash name;
		size_t got;
		int r;

		world_fill(data, MIB, n);
		evfs_mem_fail_after(n);
		r = evfs_content_write(world.content, data, MIB, &put, NULL);
		if (r == 0) {
			name = *evfs_content_put_name(put);
			evfs_meta_lock_content(world.meta);
			r = evfs_content_commit(world.content, put, NULL);
			if (r == 0)
				r = evfs_content_ref(world.content, &name, MIB,
						     true, NULL);
			evfs_meta_unlock(world.meta);
		}
		if (r == 0) {
			r = evfs_content_open(world.content, &name, MIB,
					      &reader, NULL);
			if (r == 0) {
				r = evfs_content_read(reader, out, MIB, 0,
						      &got, NULL);
				evfs_content_close(reader);
			}
		}
		if (!evfs_mem_fail_hit()) {
			evfs_mem_fail_after(0);
			ck_assert_int_eq(r, 0);
			ck_assert(memcmp(out, data, MIB) == 0);
			break;
		}
		evfs_mem_fail_after(0);
		ck_assert_int_eq(world_faults(&world), 0);
	}
	ck_assert_uint_gt(n, 5);
	ck_assert_uint_lt(n, 10000);
	world_close(&world);
	free(data);
	free(out);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("content");
	TCase *tcase = tcase_create("content");
	SRunner *runner;
	int failed;

	tcase_set_timeout(tcase, 60);
	tcase_add_loop_test(tcase, sizes_round_trip, 0, 2);
	tcase_add_loop_test(tcase, parts_are_read_right, 0, 2);
	tcase_add_loop_test(tcase, equal_bytes_are_kept_once, 0, 2);
	tcase_add_loop_test(tcase, repeats_within_a_content, 0, 2);
	tcase_add_loop_test(tcase, holes_cost_nothing, 0, 2);
	tcase_add_loop_test(tcase, holes_are_known_elsewhere, 0, 2);
	tcase_add_loop_test(tcase, wanted_is_a_queue, 0, 2);
	tcase_add_loop_test(tcase, content_is_transferred, 0, 2);
	tcase_add_test(tcase, lies_are_refused);
	tcase_add_test(tcase, damage_is_found_and_mended);
	tcase_add_test(tcase, damage_under_unchecked_reading);
	tcase_add_test(tcase, damage_that_heals);
	tcase_add_test(tcase, short_container_is_noticed);
	tcase_add_loop_test(tcase, nothing_is_here, 0, 2);
	tcase_add_test(tcase, memory_runs_out);
	suite_add_tcase(suite, tcase);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
