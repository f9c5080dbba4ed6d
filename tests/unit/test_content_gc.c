/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Reclamation, crashes, a full disk. */
#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "base/mem.h"
#include "meta/content_priv.h"
#include "tests/unit/content_world.h"

#define MIB ((size_t)1 << 20)

static int count_files(const struct world *world, const char *kind)
{
	struct dirent *entry;
	char path[160];
	int n = 0;
	DIR *dir;

	snprintf(path, sizeof(path), "%s/%s", world->dir, kind);
	dir = opendir(path);
	while (dir && (entry = readdir(dir)))
		n += entry->d_name[0] != '.';
	if (dir)
		closedir(dir);
	return n;
}

/* Bytes that the containers take on the disk. */
static uint64_t disk_use(const struct world *world, const char *kind)
{
	struct dirent *entry;
	char path[420];
	uint64_t sum = 0;
	DIR *dir;

	snprintf(path, sizeof(path), "%s/%s", world->dir, kind);
	dir = opendir(path);
	while (dir && (entry = readdir(dir))) {
		struct stat st;

		snprintf(path, sizeof(path), "%s/%s/%s", world->dir, kind,
			 entry->d_name);
		if (stat(path, &st) == 0 && S_ISREG(st.st_mode))
			sum += (uint64_t)st.st_blocks * 512;
	}
	if (dir)
		closedir(dir);
	return sum;
}

START_TEST(unreferenced_goes)
{
	uint8_t *data = world_bytes(3 * MIB, 1);
	struct evfs_content_reader *reader;
	struct world world;
	evfs_hash big, small, loose;
	uint8_t byte;
	size_t got;

	world_open(&world, _i);
	small = world_put(&world, data, 1000, true);
	big = world_put(&world, data, 3 * MIB, true);
	loose = world_put(&world, data, 5000, false);
	world_reclaim(&world);
	ck_assert(world_has(&world, &small) && world_has(&world, &big));
	ck_assert(!world_has(&world, &loose)); /* nobody took it */
	/* Read while it goes. */
	ck_assert_int_eq(evfs_content_open(world.content, &big, 3 * MIB,
					   &reader, NULL), 0);
	world_unref(&world, &big);
	world_unref(&world, &small);
	world_reclaim(&world);
	ck_assert(world_has(&world, &big) && !world_has(&world, &small));
	ck_assert_int_eq(evfs_content_read(reader, &byte, 1, 2 * MIB, &got,
					   NULL), 0);
	ck_assert_uint_eq(byte, data[2 * MIB]);
	evfs_content_close(reader);
	world_reclaim(&world);
	ck_assert(!world_has(&world, &big));
	ck_assert_uint_eq(world_stats(&world).bytes, 0);
	ck_assert_uint_eq(world_stats(&world).objects, 0);
	ck_assert_int_eq(world_faults(&world), 0);
	/* It can come back. */
	big = world_put(&world, data, 3 * MIB, true);
	world_check(&world, &big, data, 3 * MIB);
	world_close(&world);
	free(data);
}
END_TEST

/* What an earlier run left without references is found after a start. */
START_TEST(leftovers_are_found)
{
	uint8_t *data = world_bytes(2 * MIB, 1);
	struct world world;
	evfs_hash names[3];

	world_open(&world, false);
	names[0] = world_put(&world, data, 1000, true);
	names[1] = world_put(&world, data, 2 * MIB, true);
	names[2] = world_put(&world, data, 2000, true);
	world_unref(&world, &names[0]);
	world_unref(&world, &names[1]);
	world_reopen(&world);
	world_reclaim(&world);
	ck_assert(!world_has(&world, &names[0]));
	ck_assert(!world_has(&world, &names[1]));
	world_check(&world, &names[2], data, 2000);
	ck_assert_uint_eq(world_stats(&world).bytes, 2040);
	ck_assert_int_eq(world_faults(&world), 0);
	world_close(&world);
	free(data);
}
END_TEST

/* Segments that are mostly garbage are emptied, with readers on them. */
START_TEST(segments_are_compacted)
{
	enum { N = 200, SIZE = 400000 };
	static evfs_hash names[N];
	uint8_t *data = malloc(SIZE), *out = malloc(SIZE);
	struct evfs_content_reader *readers[2];
	struct world world;
	size_t got;

	world_open(&world, _i);
	for (size_t i = 0; i < N; i++) {
		world_fill(data, SIZE, i);
		names[i] = world_put(&world, data, SIZE, true);
	}
	for (size_t i = 0; i < 2; i++)
		ck_assert_int_eq(evfs_content_open(world.content,
						   &names[10 + 90 * i], SIZE,
						   &readers[i], NULL), 0);
	ck_assert_int_eq(evfs_content_read(readers[0], out, 1, 0, &got, NULL),
			 0);
	for (size_t i = 0; i < N; i++)
		if (i % 10 != 0)
			world_unref(&world, &names[i]);
	world_reclaim(&world);
	ck_assert_int_eq(world_faults(&world), 0);
	/* One has looked up its places before, the other has not. */
	for (size_t i = 0; i < 2; i++) {
		world_fill(data, SIZE, 10 + 90 * i);
		ck_assert_int_eq(evfs_content_read(readers[i], out, SIZE, 0,
						   &got, &world.err), 0);
		ck_assert(memcmp(out, data, SIZE) == 0);
		evfs_content_close(readers[i]);
	}
	world_reclaim(&world);
	ck_assert_uint_lt(world_stats(&world).garbage_bytes, 20 * MIB);
	if (!_i) {
		ck_assert_uint_lt(disk_use(&world, "segments"), 40 * MIB);
		world_reopen(&world);
	}
	for (size_t i = 0; i < N; i += 10) {
		world_fill(data, SIZE, i);
		world_check(&world, &names[i], data, SIZE);
	}
	world_close(&world);
	free(data);
	free(out);
}
END_TEST

/* A big file, version by version; old ones go in any order. */
START_TEST(versions_of_a_big_file)
{
	enum { VERSIONS = 16 };
	size_t size = 12 * MIB;
	uint8_t *data[VERSIONS];
	evfs_hash names[VERSIONS];
	bool alive[VERSIONS];
	uint64_t seed = (uint64_t)_i + 1;
	struct world world;

	world_open(&world, true);
	for (size_t v = 0; v < VERSIONS; v++) {
		size_t of = v ? world_random(&seed) % v : 0, at;
		struct evfs_content_put *put;
		struct world_source source;
		struct evfs_range dirty;

		while (v && !alive[of])
			of = (of + 1) % v;
		data[v] = malloc(size);
		if (v)
			memcpy(data[v], data[of], size);
		else
			world_fill(data[v], size, seed);
		at = world_random(&seed) % (size - 9000);
		dirty = (struct evfs_range){ at, at + 9000 };
		world_fill(data[v] + at, 9000, world_random(&seed));
		if (world_random(&seed) % 3 == 0) /* moves bytes about */
			memcpy(data[v] + at, data[0] + at / 2, 9000);
		world_source_init(&source, data[v], size);
		source.source.has_base = v > 0;
		if (v)
			source.source.base = names[of];
		source.source.base_size = size;
		source.source.dirty = &dirty;
		source.source.n_dirty = 1;
		ck_assert_int_eq(evfs_content_write_source(world.content,
							   &source.source,
							   &put, NULL, NULL),
				 0);
		names[v] = world_commit(&world, put, true);
		alive[v] = true;
		ck_assert_int_eq(world_faults(&world), 0);
		if (v > 3 && world_random(&seed) % 2) {
			size_t gone = world_random(&seed) % v;

			if (alive[gone]) {
				world_unref(&world, &names[gone]);
				alive[gone] = false;
				world_reclaim(&world);
				ck_assert_int_eq(world_faults(&world), 0);
			}
		}
		for (size_t i = 0; i <= v; i++)
			if (alive[i])
				world_check(&world, &names[i], data[i], size);
	}
	for (size_t v = 0; v < VERSIONS; v++) {
		if (alive[v])
			world_unref(&world, &names[v]);
		world_reclaim(&world);
		ck_assert_int_eq(world_faults(&world), 0);
	}
	ck_assert_uint_eq(world_stats(&world).bytes, 0);
	ck_assert_uint_eq(world_stats(&world).objects, 0);
	for (size_t v = 0; v < VERSIONS; v++)
		free(data[v]);
	world_close(&world);
}
END_TEST

static evfs_hash adopt(struct world *world, const uint8_t *data, size_t size)
{
	struct evfs_content_put *put;
	struct world_source source;
	char path[160];
	bool adopted;

	snprintf(path, sizeof(path), "%s/file.tmp", world->dir);
	ck_assert_int_eq(evfs_io_replace(path, data, size, 0600, NULL), 0);
	world_source_init(&source, data, size);
	source.source.adopt_path = path;
	ck_assert_int_eq(evfs_content_write_source(world->content,
						   &source.source, &put,
						   &adopted, NULL), 0);
	ck_assert(adopted);
	return world_commit(world, put, true);
}

START_TEST(blobs_give_space_back)
{
	size_t size = 32 * MIB;
	uint8_t *data = world_bytes(size, 1);
	struct evfs_content_reader *reader;
	struct world world;
	evfs_hash whole, part;
	uint64_t before;

	world_open(&world, false);
	whole = adopt(&world, data, size);
	part = world_put(&world, data + 4 * MIB, 4 * MIB, true);
	world_sync(&world);
	before = disk_use(&world, "blobs");
	ck_assert_uint_ge(before, size);
	ck_assert_int_eq(evfs_content_open(world.content, &part, 4 * MIB,
					   &reader, NULL), 0);
	world_unref(&world, &whole);
	world_reclaim(&world);
	ck_assert(!world_has(&world, &whole));
	world_check(&world, &part, data + 4 * MIB, 4 * MIB);
	evfs_content_close(reader);
	for (int i = 0; i < 3; i++)
		world_reclaim(&world);
	world_check(&world, &part, data + 4 * MIB, 4 * MIB);
	ck_assert_int_eq(world_faults(&world), 0);
	/* Holes, or copies where the file system makes none. */
	ck_assert_uint_lt(disk_use(&world, "blobs") +
				  disk_use(&world, "segments"),
			  10 * MIB);
	world_unref(&world, &part);
	world_reclaim(&world);
	ck_assert_int_eq(count_files(&world, "blobs"), 0);
	world_close(&world);
	free(data);
}
END_TEST

/* ---- crashes ---- */

/* The files as a crash leaves them: the database of an earlier moment, the
 * containers of now. */
static void crash_to(struct world *world, const char *saved)
{
	static const char *const names[] = { "meta.db", "meta.db-wal",
					     "meta.db-shm" };
	char from[160], to[160];

	for (size_t i = 0; i < 3; i++) {
		struct evfs_buf buf = { 0 };
		int fd;

		snprintf(from, sizeof(from), "%s/%s", saved, names[i]);
		snprintf(to, sizeof(to), "%s/%s", world->dir, names[i]);
		if (evfs_io_read_file(from, 1u << 30, &buf, NULL) < 0) {
			unlink(to);
			continue;
		}
		/* In place: a store knows its database by the inode. */
		fd = open(to, O_WRONLY | O_CREAT | O_TRUNC, 0600);
		ck_assert_int_ge(fd, 0);
		ck_assert_int_eq(evfs_io_write(fd, buf.data, buf.len, NULL),
				 0);
		close(fd);
		evfs_buf_fini(&buf);
	}
}

static void save(struct world *world, const char *saved)
{
	char command[400];

	snprintf(command, sizeof(command), "cp %s/meta.db* %s/", world->dir,
		 saved);
	ck_assert_int_eq(system(command), 0);
}

START_TEST(crash_leaves_a_tail)
{
	uint8_t *data = world_bytes(12 * MIB, 1);
	struct evfs_meta_options options = { .env = evfs_env_system(),
					     .commit_delay_ms = 5 };
	char saved[] = "/tmp/evfs-saved-XXXXXX", path[160], command[64];
	struct world world;
	struct stat st;
	evfs_hash first, second, third;
	int fd;

	ck_assert_ptr_nonnull(mkdtemp(saved));
	world_open(&world, false);
	first = world_put(&world, data, MIB, true);
	world_sync(&world);
	evfs_meta_close(world.meta);
	save(&world, saved);
	options.path = world.dir;
	ck_assert_int_eq(evfs_meta_open(&options, &world.meta, NULL), 0);
	world.content = evfs_meta_content(world.meta);
	second = world_put(&world, data + MIB, 3 * MIB, true);
	adopt(&world, data + 4 * MIB, 8 * MIB);
	evfs_meta_close(world.meta);
	crash_to(&world, saved);
	/* And half a record. */
	snprintf(path, sizeof(path), "%s/segments/%012d", world.dir, 1);
	fd = open(path, O_WRONLY | O_APPEND);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write(fd, "EvCh\0\0\1\1junk", 12), 12);
	close(fd);
	ck_assert_int_eq(evfs_meta_open(&options, &world.meta, NULL), 0);
	world.content = evfs_meta_content(world.meta);
	world_check(&world, &first, data, MIB);
	ck_assert(!world_has(&world, &second));
	third = world_put(&world, data + 5 * MIB, MIB, true);
	world_check(&world, &third, data + 5 * MIB, MIB);
	ck_assert_int_eq(count_files(&world, "blobs"), 0);
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_int_lt(st.st_size, (off_t)(2 * MIB + 8192));
	ck_assert_int_eq(world_faults(&world), 0);
	world_reopen(&world);
	world_check(&world, &first, data, MIB);
	world_check(&world, &third, data + 5 * MIB, MIB);
	world_close(&world);
	snprintf(command, sizeof(command), "rm -r %s", saved);
	ck_assert_int_eq(system(command), 0);
	free(data);
}
END_TEST

START_TEST(crash_in_memory)
{
	uint8_t *data = world_bytes(4 * MIB, 1);
	struct evfs_content_put *put;
	struct world world;
	evfs_hash kept, lost, late;

	world_open(&world, true);
	kept = world_put(&world, data, MIB, true);
	world_sync(&world);
	lost = world_put(&world, data + MIB, MIB, true);
	world_unref(&world, &kept);
	/* Begun before the crash, of chunks that will be rolled back. */
	ck_assert_int_eq(evfs_content_write(world.content, data + MIB, MIB,
					    &put, NULL), 0);
	ck_assert_int_eq(evfs_meta_crash(world.meta, &world.err), 0);
	ck_assert(!world_has(&world, &lost));
	world_check(&world, &kept, data, MIB);
	ck_assert_int_eq(world_faults(&world), 0);
	late = world_commit(&world, put, true);
	ck_assert(evfs_hash_equal(&late, &lost));
	world_check(&world, &late, data + MIB, MIB);
	late = world_put(&world, data + 2 * MIB, 2 * MIB, true);
	world_check(&world, &late, data + 2 * MIB, 2 * MIB);
	world_reclaim(&world);
	world_check(&world, &kept, data, MIB);
	ck_assert_int_eq(world_faults(&world), 0);
	world_close(&world);
	free(data);
}
END_TEST

/* Many steps at random, in memory, against a plain list. */
START_TEST(random_history)
{
	enum { FILES = 24 };
	struct {
		uint64_t seed, size; /* 0 = none */
		evfs_hash name;
		bool durable;
	} files[FILES] = { 0 }, saved[FILES] = { 0 };
	uint64_t seed = (uint64_t)_i * 77 + 5;
	struct world world;

	world_open(&world, true);
	for (int step = 0; step < 120; step++) {
		size_t i = world_random(&seed) % FILES;
		bool more;
		uint8_t *data;

		switch (world_random(&seed) % 8) {
		default:
			if (files[i].size)
				world_unref(&world, &files[i].name);
			files[i].seed = world_random(&seed) % 6;
			files[i].size = 1 + world_random(&seed) % 900000;
			if (world_random(&seed) % 2) /* grows at its end */
				files[i].size %= 20000;
			data = world_bytes(files[i].size, files[i].seed);
			files[i].name = world_put(&world, data, files[i].size,
						  true);
			free(data);
			break;
		case 0:
			if (files[i].size)
				world_unref(&world, &files[i].name);
			files[i].size = 0;
			break;
		case 1:
			world_sync(&world);
			memcpy(saved, files, sizeof(files));
			break;
		case 2:
			ck_assert_int_eq(evfs_meta_crash(world.meta, NULL), 0);
			memcpy(files, saved, sizeof(files));
			break;
		case 3:
		case 4:
			ck_assert_int_eq(evfs_content_reclaim(world.content,
							      MIB, &more,
							      NULL), 0);
			/* Committed on its way, or had nothing to do. */
			world_sync(&world);
			memcpy(saved, files, sizeof(files));
			break;
		}
		ck_assert_msg(world_faults(&world) == 0, "seed %d step %d", _i,
			      step);
	}
	for (size_t i = 0; i < FILES; i++) {
		uint8_t *data;

		if (!files[i].size)
			continue;
		data = world_bytes(files[i].size, files[i].seed);
		world_check(&world, &files[i].name, data, files[i].size);
		free(data);
		world_unref(&world, &files[i].name);
	}
	world_reclaim(&world);
	ck_assert_uint_eq(world_stats(&world).bytes, 0);
	world_close(&world);
}
END_TEST

/* ---- a full disk ---- */

/* A tmpfs of 3 MiB for the segments, or, where mounting is not allowed, a
 * limit on the size of files. */
static bool make_tight(struct world *world)
{
	struct rlimit limit = { 3 * MIB, 3 * MIB };
	char path[160];

	snprintf(path, sizeof(path), "%s/segments", world->dir);
	mkdir(path, 0700);
	if (mount("tmpfs", path, "tmpfs", 0, "size=3m") == 0)
		return true;
	signal(SIGXFSZ, SIG_IGN);
	ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
	return false;
}

START_TEST(disk_is_full)
{
	uint8_t *data = world_bytes(4 * MIB, 1);
	struct evfs_content_put *put;
	struct world world;
	bool mounted;
	evfs_hash name, small;
	char path[160];
	int r;

	world_open(&world, false);
	mounted = make_tight(&world);
	small = world_put(&world, data, 100000, true);
	for (int i = 0; i < 3; i++) {
		r = evfs_content_write(world.content, data, 4 * MIB, &put,
				       &world.err);
		ck_assert_int_eq(r, mounted ? EVFS_ENOSPACE : EVFS_EFBIG);
		ck_assert_int_eq(world_faults(&world), 0);
		ck_assert_uint_eq(world_stats(&world).objects, 1);
	}
	/* A little still fits: the record that did not was cut off. */
	name = world_put(&world, data + MIB, 1000, true);
	world_check(&world, &name, data + MIB, 1000);
	world_check(&world, &small, data, 100000);
	world_sync(&world);
	world_unref(&world, &name);
	world_unref(&world, &small);
	evfs_meta_close(world.meta);
	if (mounted) {
		snprintf(path, sizeof(path), "%s/segments", world.dir);
		ck_assert_int_eq(umount(path), 0);
	}
	snprintf(path, sizeof(path), "rm -r %s", world.dir);
	ck_assert_int_eq(system(path), 0);
	free(data);
}
END_TEST

/* All records; and those behind bytes that are none. */
START_TEST(scan_finds_records)
{
	struct evfs_containers *set;
	struct evfs_container *container = NULL;
	struct evfs_record record;
	uint8_t *data = world_bytes(100000, 1);
	uint64_t at = 0, offset;
	int n = 0, r;

	ck_assert_int_eq(evfs_containers_new(NULL, evfs_env_system(), &set,
					     NULL), 0);
	for (size_t i = 0; i < 3; i++) {
		evfs_hash hash = { { (uint8_t)(i + 1) } };

		ck_assert_int_eq(evfs_containers_append(set, &hash, data,
							30000 + i, &container,
							&offset, NULL), 0);
		evfs_container_unpin(set, container);
	}
	while ((r = evfs_container_scan(set, container, &at, &record, NULL)) >
	       0) {
		ck_assert_uint_eq(record.len, 30000u + (unsigned)n);
		ck_assert_int_eq(record.hash.b[0], n + 1);
		n++;
	}
	ck_assert_int_eq(r, 0);
	ck_assert_int_eq(n, 3);
	/* From the middle of the first one's bytes on. */
	at = 5000;
	ck_assert_int_eq(evfs_container_scan(set, container, &at, &record,
					     NULL), 1);
	ck_assert_uint_eq(record.hash.b[0], 2);
	evfs_containers_free(set);
	free(data);
}
END_TEST

static uint64_t clock_ns; /* of clock_env */

static uint64_t clock_read(void *ctx)
{
	(void)ctx;
	return clock_ns;
}

/* Bytes are fresh for a time after they were written, those that lay there
 * before the first of them was written never. */
START_TEST(freshness_ends)
{
	const struct evfs_env env = { .mono_ns = clock_read };
	const evfs_hash hash = { { 1 } };
	struct evfs_container *container;
	struct evfs_containers *set;
	uint64_t old, at, late;

	clock_ns = 1;
	ck_assert_int_eq(evfs_containers_new(NULL, &env, &set, NULL), 0);
	ck_assert_int_eq(evfs_containers_append(set, &hash, "old", 3,
						&container, &old, NULL), 0);
	ck_assert(evfs_container_is_fresh(set, container, old));
	evfs_container_unpin(set, container);
	clock_ns += EVFS_CONTAINER_FRESH_NS;
	ck_assert(!evfs_container_is_fresh(set, container, old));
	ck_assert_int_eq(evfs_containers_append(set, &hash, "new", 3,
						&container, &at, NULL), 0);
	evfs_container_unpin(set, container);
	ck_assert(!evfs_container_is_fresh(set, container, old));
	ck_assert(evfs_container_is_fresh(set, container, at));
	clock_ns += EVFS_CONTAINER_FRESH_NS - 1;
	ck_assert_int_eq(evfs_containers_append(set, &hash, "newer", 5,
						&container, &late, NULL), 0);
	evfs_container_unpin(set, container);
	ck_assert(evfs_container_is_fresh(set, container, at));
	clock_ns++;
	ck_assert(!evfs_container_is_fresh(set, container, at));
	evfs_containers_free(set);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("content_gc");
	TCase *tcase = tcase_create("content_gc");
	SRunner *runner;
	int failed;

	tcase_set_timeout(tcase, 60);
	tcase_add_loop_test(tcase, unreferenced_goes, 0, 2);
	tcase_add_test(tcase, leftovers_are_found);
	tcase_add_loop_test(tcase, segments_are_compacted, 0, 2);
	tcase_add_loop_test(tcase, versions_of_a_big_file, 0, 3);
	tcase_add_test(tcase, blobs_give_space_back);
	tcase_add_test(tcase, crash_leaves_a_tail);
	tcase_add_test(tcase, crash_in_memory);
	tcase_add_loop_test(tcase, random_history, 0, 6);
	tcase_add_test(tcase, disk_is_full);
	tcase_add_test(tcase, scan_finds_records);
	tcase_add_test(tcase, freshness_ends);
	suite_add_tcase(suite, tcase);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
