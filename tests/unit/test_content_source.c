/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Cutting a source: with a base it gives what cutting from scratch gives, and
 * reads little; big files are adopted. */
#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "meta/content_priv.h"
#include "tests/unit/content_world.h"

#define MIB ((size_t)1 << 20)
#define RANGES 16

/* An edited copy of a base, and the ranges that say how it differs. */
struct edit {
	uint8_t *data;
	size_t size;
	struct evfs_range ranges[RANGES];
	size_t n;
};

static void add_range(struct edit *edit, uint64_t start, uint64_t end)
{
	size_t i, k;

	if (start >= end)
		return;
	/* Sorted, and joined where they meet. */
	for (i = 0; i < edit->n && edit->ranges[i].end < start; i++)
		;
	for (k = i; k < edit->n && edit->ranges[k].start <= end; k++) {
		if (edit->ranges[k].start < start)
			start = edit->ranges[k].start;
		if (edit->ranges[k].end > end)
			end = edit->ranges[k].end;
	}
	memmove(&edit->ranges[i + 1], &edit->ranges[k],
		(edit->n - k) * sizeof(edit->ranges[0]));
	edit->n = edit->n - (k - i) + 1;
	edit->ranges[i] = (struct evfs_range){ start, end };
	ck_assert_uint_lt(edit->n, RANGES);
}

/* Some writes, of data or zeros, perhaps with the old bytes; a new size. */
static void make_edit(struct edit *edit, const uint8_t *base, size_t size,
		      uint64_t *seed)
{
	static const size_t shifts[] = { 0, 1, 4096, 40000, MIB };
	size_t change = shifts[world_random(seed) % 5];
	size_t writes = world_random(seed) % 4;

	edit->n = 0;
	edit->size = size;
	if (world_random(seed) % 2)
		edit->size += change;
	else
		edit->size -= change < size ? change : size;
	edit->data = calloc(1, edit->size + 1);
	memcpy(edit->data, base, size < edit->size ? size : edit->size);
	if (edit->size > size) {
		if (world_random(seed) % 2)
			world_fill(edit->data + size, edit->size - size,
				   world_random(seed));
		add_range(edit, size, edit->size);
	}
	while (writes-- > 0 && edit->size > 0) {
		size_t at = world_random(seed) % edit->size;
		size_t len = world_random(seed) % 3 ? 4096 : 700000;

		if (len > edit->size - at)
			len = edit->size - at;
		if (world_random(seed) % 4 == 0)
			memset(edit->data + at, 0, len);
		else if (world_random(seed) % 4)
			world_fill(edit->data + at, len, world_random(seed));
		add_range(edit, at, at + len);
	}
}

/* The true run of zeros at offset, cut short now and then. */
static uint64_t hole_at(void *ctx, uint64_t offset)
{
	struct world_source *source = ctx;
	uint64_t at = offset;

	while (at < source->source.size && source->data[at] == 0)
		at++;
	return at - offset;
}

START_TEST(same_as_from_scratch)
{
	uint64_t seed = (uint64_t)_i + 1;
	size_t most = _i % 8 == 0 ? 6 * MIB : 3 * MIB / 2;
	size_t size = (size_t)(world_random(&seed) % most);
	uint8_t *base = world_bytes(size, seed);
	struct world world;
	evfs_hash base_name;

	world_open(&world, true);
	if (size > 3 * MIB) /* with a hole */
		memset(base + MIB, 0, world_random(&seed) % (2 * MIB));
	base_name = world_put(&world, base, size, true);
	for (int round = 0; round < 20; round++) {
		struct evfs_content_put *put, *scratch;
		struct world_source source;
		struct edit edit;
		evfs_hash name;

		make_edit(&edit, base, size, &seed);
		world_source_init(&source, edit.data, edit.size);
		source.source.has_base = true;
		source.source.base = base_name;
		source.source.base_size = size;
		source.source.dirty = edit.ranges;
		source.source.n_dirty = edit.n;
		if (world_random(&seed) % 2)
			source.source.hole = hole_at;
		ck_assert_int_eq(evfs_content_write_source(world.content,
							   &source.source,
							   &put, NULL, NULL),
				 0);
		ck_assert_int_eq(evfs_content_write(world.content, edit.data,
						    edit.size, &scratch, NULL),
				 0);
		ck_assert_uint_eq(evfs_content_put_size(put), edit.size);
		ck_assert_msg(evfs_hash_equal(evfs_content_put_name(put),
					      evfs_content_put_name(scratch)),
			      "seed %d round %d differs", _i + 1, round);
		evfs_content_put_drop(world.content, scratch);
		name = world_commit(&world, put, true);
		if (round % 4 == 0) {
			world_check(&world, &name, edit.data, edit.size);
			ck_assert_int_eq(world_faults(&world), 0);
		}
		if (world_random(&seed) % 2) { /* goes on from here */
			free(base);
			base = edit.data;
			size = edit.size;
			base_name = name;
		} else {
			free(edit.data);
		}
	}
	world_close(&world);
	free(base);
}
END_TEST

START_TEST(small_change_reads_little)
{
	size_t size = 48 * MIB;
	uint8_t *base = world_bytes(size, 1);
	struct evfs_range dirty = { 23 * MIB + 5, 23 * MIB + 4101 };
	struct evfs_content_stats before, after;
	struct evfs_content_put *put;
	struct world_source source;
	struct world world;
	evfs_hash base_name, name;

	world_open(&world, true);
	base_name = world_put(&world, base, size, true);
	before = world_stats(&world);
	world_fill(base + dirty.start, 4096, 2);
	world_source_init(&source, base, size);
	source.source.has_base = true;
	source.source.base = base_name;
	source.source.base_size = size;
	source.source.dirty = &dirty;
	source.source.n_dirty = 1;
	ck_assert_int_eq(evfs_content_write_source(world.content,
						   &source.source, &put, NULL,
						   NULL), 0);
	name = world_commit(&world, put, true);
	after = world_stats(&world);
	ck_assert_uint_lt(source.bytes_read, 4 * EVFS_CHUNK_MAX);
	ck_assert_uint_lt(after.bytes - before.bytes, 3 * EVFS_CHUNK_MAX);
	world_check(&world, &name, base, size);
	ck_assert_int_eq(world_faults(&world), 0);
	world_close(&world);
	free(base);
}
END_TEST

START_TEST(holes_are_not_read)
{
	size_t size = 64 * MIB;
	uint8_t *data = calloc(1, size);
	struct evfs_content_put *put;
	struct world_source source;
	struct world world;
	evfs_hash name;

	world_open(&world, true);
	memset(data + 7 * MIB, 'a', 100);
	world_source_init(&source, data, size);
	source.source.hole = hole_at;
	ck_assert_int_eq(evfs_content_write_source(world.content,
						   &source.source, &put, NULL,
						   NULL), 0);
	ck_assert_uint_lt(source.bytes_read, 8 * MIB);
	name = world_commit(&world, put, true);
	world_check(&world, &name, data, size);
	world_close(&world);
	free(data);
}
END_TEST

/* A base that is not here, or of another size than was said, is none. */
START_TEST(base_is_missing)
{
	uint8_t *data = world_bytes(2 * MIB, 1);
	struct evfs_content_put *put;
	struct world_source source;
	struct world world;
	evfs_hash name, want;

	world_open(&world, true);
	want = world_put(&world, data, 2 * MIB, true);
	for (int i = 0; i < 2; i++) {
		world_source_init(&source, data, 2 * MIB);
		source.source.has_base = true;
		source.source.base = want;
		source.source.base.b[0] ^= (uint8_t)(i == 0);
		source.source.base_size = 2 * MIB + (i == 1);
		ck_assert_int_eq(evfs_content_write_source(world.content,
							   &source.source,
							   &put, NULL, NULL),
				 0);
		ck_assert_uint_eq(source.bytes_read, 2 * MIB);
		name = world_commit(&world, put, true);
		ck_assert(evfs_hash_equal(&name, &want));
	}
	world_source_init(&source, data, EVFS_FILE_SIZE_MAX + 1);
	ck_assert_int_eq(evfs_content_write_source(world.content,
						   &source.source, &put, NULL,
						   NULL), EVFS_EFBIG);
	world_close(&world);
	free(data);
}
END_TEST

/* ---- adopting ---- */

static int exists(const char *path)
{
	return access(path, F_OK) == 0;
}

static evfs_hash put_file(struct world *world, const uint8_t *data,
			  size_t size, bool *ret_adopted)
{
	struct evfs_content_put *put;
	struct world_source source;
	char path[160];
	int r;

	snprintf(path, sizeof(path), "%s/file.tmp", world->dir);
	ck_assert_int_eq(evfs_io_replace(path, data, size, 0600, NULL), 0);
	world_source_init(&source, data, size);
	source.source.adopt_path = path;
	*ret_adopted = true;
	r = evfs_content_write_source(world->content, &source.source, &put,
				      ret_adopted, &world->err);
	ck_assert_msg(r == 0, "%s", world->err.msg);
	ck_assert_int_eq(exists(path), !*ret_adopted);
	unlink(path);
	return world_commit(world, put, true);
}

START_TEST(big_files_are_adopted)
{
	size_t size = 24 * MIB + 77;
	uint8_t *data = world_bytes(size, 1);
	struct evfs_content_reader *reader;
	struct evfs_content_stats stats;
	uint64_t fd_offset, fd_len;
	struct world world;
	evfs_hash name;
	char path[160];
	bool adopted;
	int fd;

	world_open(&world, false);
	memset(data + 8 * MIB, 0, 4 * MIB);
	name = put_file(&world, data, size, &adopted);
	ck_assert(adopted);
	snprintf(path, sizeof(path), "%s/blobs/%012d", world.dir, 1);
	ck_assert(exists(path));
	for (int i = 0; i < 2; i++) {
		world_check(&world, &name, data, size);
		ck_assert_int_eq(world_faults(&world), 0);
		world_reopen(&world);
	}
	/* It reads as one extent up to the hole. */
	ck_assert_int_eq(evfs_content_open(world.content, &name, size, &reader,
					   NULL), 0);
	ck_assert_int_eq(evfs_content_extent(reader, 100, size, &fd, &fd_offset,
					     &fd_len, NULL), 0);
	ck_assert_uint_eq(fd_offset, 100);
	ck_assert_uint_ge(fd_len, 8 * MIB - 100);
	evfs_content_close(reader);
	/* Half of it is known, and then most of it: no second blob. */
	world_fill(data, 2 * MIB, 9);
	name = put_file(&world, data, size, &adopted);
	ck_assert(!adopted);
	world_check(&world, &name, data, size);
	stats = world_stats(&world);
	ck_assert_uint_lt(stats.bytes, size);
	/* Small ones are copied. */
	world_fill(data, MIB, 10);
	name = put_file(&world, data, MIB, &adopted);
	ck_assert(!adopted);
	world_check(&world, &name, data, MIB);
	ck_assert_int_eq(world_faults(&world), 0);
	world_close(&world);
	free(data);
}
END_TEST

START_TEST(adopted_and_dropped)
{
	size_t size = 8 * MIB;
	uint8_t *data = world_bytes(size, 1);
	struct evfs_content_put *put;
	struct world_source source;
	struct world world;
	char path[160], blob[160];
	bool adopted = false;

	world_open(&world, false);
	snprintf(path, sizeof(path), "%s/file.tmp", world.dir);
	snprintf(blob, sizeof(blob), "%s/blobs/%012d", world.dir, 1);
	ck_assert_int_eq(evfs_io_replace(path, data, size, 0600, NULL), 0);
	world_source_init(&source, data, size);
	source.source.adopt_path = path;
	ck_assert_int_eq(evfs_content_write_source(world.content,
						   &source.source, &put,
						   &adopted, NULL), 0);
	ck_assert(adopted && exists(blob));
	world_sync(&world);
	world_reclaim(&world);
	ck_assert(exists(blob)); /* the put has it pinned */
	evfs_content_put_drop(world.content, put);
	world_sync(&world);
	world_reclaim(&world);
	ck_assert(!exists(blob));
	world_close(&world);
	free(data);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("content_source");
	TCase *tcase = tcase_create("content_source");
	SRunner *runner;
	int failed;

	tcase_set_timeout(tcase, 60);
	tcase_add_loop_test(tcase, same_as_from_scratch, 0, 60);
	tcase_add_test(tcase, small_change_reads_little);
	tcase_add_test(tcase, holes_are_not_read);
	tcase_add_test(tcase, base_is_missing);
	tcase_add_test(tcase, big_files_are_adopted);
	tcase_add_test(tcase, adopted_and_dropped);
	suite_add_tcase(suite, tcase);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
