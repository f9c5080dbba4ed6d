/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "tests/unit/content_world.h"

#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <ftw.h>
#include <unistd.h>

#include "base/mem.h"
#include "meta/content_priv.h"

static const struct evfs_meta_new fresh = {
	.node_name = "test", .node = 7, .public_key = "ssh-ed25519 AAAA"
};

static void open_meta(struct world *world)
{
	struct evfs_meta_options options = { .env = evfs_env_system(),
					     .commit_delay_ms = 5 };
	int r;

	if (world->dir[0])
		options.path = world->dir;
	else
		options.fresh = &fresh;
	r = evfs_meta_open(&options, &world->meta, &world->err);
	ck_assert_msg(r == 0, "%s", world->err.msg);
	world->content = evfs_meta_content(world->meta);
}

void world_open(struct world *world, bool in_memory)
{
	memset(world, 0, sizeof(*world));
	if (!in_memory) {
		struct evfs_meta_new what = fresh;
		const char *tmp = getenv("TMPDIR");

		snprintf(world->dir, sizeof(world->dir), "%.30s/evfs-XXXXXX",
			 tmp ? tmp : "/tmp");
		ck_assert_ptr_nonnull(mkdtemp(world->dir));
		what.path = world->dir;
		ck_assert_msg(evfs_meta_create(&what, &world->err) == 0, "%s",
			      world->err.msg);
	}
	open_meta(world);
}

static int remove_one(const char *path, const struct stat *st, int flag,
		      struct FTW *ftw)
{
	(void)st;
	(void)flag;
	(void)ftw;
	return remove(path);
}

void world_close(struct world *world)
{
	evfs_meta_close(world->meta);
	if (world->dir[0])
		nftw(world->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

void world_reopen(struct world *world)
{
	evfs_meta_close(world->meta);
	open_meta(world);
}

void world_sync(struct world *world)
{
	int r = world->dir[0] ? evfs_meta_sync(world->meta, &world->err)
			      : evfs_meta_commit(world->meta, &world->err);

	ck_assert_msg(r == 0, "%s", world->err.msg);
}

uint64_t world_random(uint64_t *seed)
{
	uint64_t z = *seed += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

void world_fill(uint8_t *data, size_t len, uint64_t seed)
{
	for (size_t i = 0; i < len; i += 8) {
		uint64_t word = world_random(&seed);
		uint8_t bytes[8];

		for (int k = 0; k < 8; k++)
			bytes[k] = (uint8_t)(word >> (8 * k));
		memcpy(data + i, bytes, len - i < 8 ? len - i : 8);
	}
}

uint8_t *world_bytes(size_t len, uint64_t seed)
{
	uint8_t *data = malloc(len + 1);

	ck_assert_ptr_nonnull(data);
	world_fill(data, len, seed);
	return data;
}

evfs_hash world_commit(struct world *world, struct evfs_content_put *put,
		       bool ref)
{
	evfs_hash name = *evfs_content_put_name(put);
	uint64_t size = evfs_content_put_size(put);
	int r;

	evfs_meta_lock_content(world->meta);
	r = evfs_content_commit(world->content, put, &world->err);
	if (r == 0 && ref)
		r = evfs_content_ref(world->content, &name, size, true,
				     &world->err);
	evfs_meta_unlock(world->meta);
	ck_assert_msg(r == 0, "%s", world->err.msg);
	return name;
}

evfs_hash world_put(struct world *world, const void *data, size_t len,
		    bool ref)
{
	struct evfs_content_put *put;
	int r = evfs_content_write(world->content, data, len, &put,
				   &world->err);

	ck_assert_msg(r == 0, "%s", world->err.msg);
	return world_commit(world, put, ref);
}

void world_ref(struct world *world, const evfs_hash *name, uint64_t size,
	       bool want)
{
	int r;

	evfs_meta_lock(world->meta);
	r = evfs_content_ref(world->content, name, size, want, &world->err);
	evfs_meta_unlock(world->meta);
	ck_assert_msg(r == 0, "%s", world->err.msg);
}

void world_unref(struct world *world, const evfs_hash *name)
{
	int r;

	evfs_meta_lock(world->meta);
	r = evfs_content_unref(world->content, name, true, &world->err);
	evfs_meta_unlock(world->meta);
	ck_assert_msg(r == 0, "%s", world->err.msg);
}

bool world_has(struct world *world, const evfs_hash *name)
{
	bool has = false;
	int r;

	evfs_meta_lock(world->meta);
	r = evfs_content_has(world->content, name, &has, &world->err);
	evfs_meta_unlock(world->meta);
	ck_assert_msg(r == 0, "%s", world->err.msg);
	return has;
}

void world_check(struct world *world, const evfs_hash *name, const void *data,
		 size_t len)
{
	struct evfs_content_reader *reader;
	uint8_t *got = malloc(len + 16);
	size_t n = 0;
	int r;

	ck_assert_ptr_nonnull(got);
	r = evfs_content_open(world->content, name, len, &reader, &world->err);
	ck_assert_msg(r == 0, "%s", world->err.msg);
	r = evfs_content_read(reader, got, len + 16, 0, &n, &world->err);
	ck_assert_msg(r == 0, "%s", world->err.msg);
	ck_assert_uint_eq(n, len);
	ck_assert(memcmp(got, data, len) == 0);
	evfs_content_close(reader);
	free(got);
}

struct evfs_content_stats world_stats(struct world *world)
{
	struct evfs_content_stats stats;

	evfs_meta_lock(world->meta);
	evfs_content_get_stats(world->content, &stats);
	evfs_meta_unlock(world->meta);
	return stats;
}

void world_reclaim(struct world *world)
{
	bool more = true;

	/* Twice: a pass may leave names that the next one drops. */
	for (int rounds = 0; more || rounds < 4; rounds++) {
		int r = evfs_content_reclaim(world->content, 64u << 20, &more,
					     &world->err);

		ck_assert_msg(r == 0, "%s", world->err.msg);
		ck_assert_int_lt(rounds, 10000);
	}
}

/* ---- the promises of the tables, from scratch ---- */

static struct evfs_buf manifest_of(struct evfs_meta *meta, int64_t id)
{
	struct evfs_buf buf = { 0 };

	ck_assert_int_eq(evfs_db_manifest_get(meta, id, &buf, NULL), 0);
	return buf;
}

/* Adds what one row stands for to `uses`. */
static void count_row(struct evfs_meta *meta,
		      const struct evfs_content_row *row,
		      struct evfs_hashmap *uses)
{
	struct evfs_buf manifest = manifest_of(meta, row->id);
	struct evfs_buf base_manifest = { 0 };
	struct evfs_hashmap base = { 0 }, seen = { 0 };
	size_t n = 0;

	if (row->base) {
		base_manifest = manifest_of(meta, row->base);
		ck_assert_int_eq(evfs_content_chunk_set(&base_manifest, &base),
				 0);
	}
	for (size_t at = 0; at < manifest.len;
	     at += EVFS_MANIFEST_ENTRY_SIZE, n++) {
		struct evfs_manifest_entry entry;
		uint64_t *mark;

		evfs_manifest_entry_read(manifest.data + at, &entry);
		if (evfs_content_is_zero_chunk(&entry.chunk))
			continue;
		mark = evfs_hashmap_put(&seen, &entry.chunk);
		if ((*mark)++ > 0 || evfs_hashmap_get(&base, &entry.chunk))
			continue;
		if (row->shape == EVFS_SHAPE_DYING &&
		    n < (size_t)row->dropped)
			continue;
		++*evfs_hashmap_put(uses, &entry.chunk);
	}
	evfs_buf_fini(&manifest);
	evfs_buf_fini(&base_manifest);
	evfs_hashmap_fini(&base);
	evfs_hashmap_fini(&seen);
}

static int check_rows(struct evfs_meta *meta, struct evfs_hashmap *uses,
		      struct evfs_content_stats *stats)
{
	struct evfs_content_row row;
	int64_t after = 0;
	int faults = 0;
	size_t n;

	for (;;) {
		int r = evfs_db_content_list(meta, after, &row, 1, &n, NULL);
		size_t lacking = 0;

		ck_assert_int_eq(r, 0);
		if (n == 0)
			return faults;
		after = row.id;
		stats->objects += evfs_content_row_whole(&row);
		if (row.queue) {
			stats->wanted++;
			stats->wanted_bytes += row.size;
		}
		faults += (row.queue != 0) !=
			  (row.wants > 0 && !evfs_content_row_whole(&row));
		if (row.shape < EVFS_SHAPE_MANIFEST)
			continue;
		count_row(meta, &row, uses);
		if (row.shape == EVFS_SHAPE_DYING)
			continue;
		/* C5, from the chunks. */
		struct evfs_buf buf = manifest_of(meta, row.id);
		struct evfs_hashmap seen = { 0 };

		for (size_t at = 0; at < buf.len; at += 40) {
			struct evfs_manifest_entry entry;
			struct evfs_chunk_row chunk;

			evfs_manifest_entry_read(buf.data + at, &entry);
			if (evfs_content_is_zero_chunk(&entry.chunk) ||
			    (*evfs_hashmap_put(&seen, &entry.chunk))++ > 0)
				continue;
			r = evfs_db_chunk_get(meta, &entry.chunk, &chunk,
					      NULL);
			lacking += r == 0 || (chunk.flags & EVFS_CHUNK_BAD);
		}
		evfs_hashmap_fini(&seen);
		evfs_buf_fini(&buf);
		faults += (int64_t)lacking != row.lacking;
	}
}

void world_damage(struct world *world, const char *kind)
{
	char path[160];

	for (int id = 1; id < 9; id++) {
		uint8_t byte;
		off_t at;
		int fd;

		snprintf(path, sizeof(path), "%s/%s/%012d", world->dir, kind,
			 id);
		fd = open(path, O_RDWR);
		if (fd < 0)
			continue;
		at = lseek(fd, 0, SEEK_END) / 2;
		ck_assert_int_eq(pread(fd, &byte, 1, at), 1);
		byte ^= 1;
		ck_assert_int_eq(pwrite(fd, &byte, 1, at), 1);
		close(fd);
	}
}

int world_faults(struct world *world)
{
	struct evfs_content_stats stats = { 0 }, said;
	struct evfs_hashmap uses = { 0 };
	struct evfs_container_row container = { 0 };
	evfs_hash after = EVFS_CONTENT_EMPTY;
	uint64_t live = 0;
	int faults;
	size_t n;

	evfs_meta_lock(world->meta);
	faults = check_rows(world->meta, &uses, &stats);
	for (;;) {
		struct evfs_chunk_row chunk;
		uint64_t *want;

		ck_assert_int_eq(evfs_db_chunk_list(world->meta, &after,
						    &chunk, 1, &n, NULL),
				 0);
		if (n == 0)
			break;
		after = chunk.hash;
		want = evfs_hashmap_get(&uses, &chunk.hash);
		faults += chunk.uses != (int64_t)(want ? *want : 0);
		faults += chunk.refs > 0 && !(chunk.flags & EVFS_CHUNK_OBJECT);
		stats.objects += (chunk.flags & EVFS_CHUNK_OBJECT) != 0;
		stats.corrupt += (chunk.flags & EVFS_CHUNK_BAD) != 0;
		if (chunk.container)
			live += chunk.len + (chunk.blob ? 0 : 40u);
	}
	evfs_content_get_stats(world->content, &said);
	while (evfs_db_container_next(world->meta, container.id, &container,
				      NULL) > 0)
		live -= container.live;
	evfs_meta_unlock(world->meta);
	evfs_hashmap_fini(&uses);
	faults += live != 0;
	faults += said.objects != stats.objects;
	faults += said.corrupt != stats.corrupt;
	faults += said.wanted != stats.wanted;
	faults += said.wanted_bytes != stats.wanted_bytes;
	return faults;
}

static int read_source(void *ctx, void *data, size_t len, uint64_t offset,
		       struct evfs_err *err)
{
	struct world_source *source = ctx;

	(void)err;
	ck_assert_uint_le(offset, source->source.size);
	ck_assert_uint_le(len, source->source.size - offset);
	memcpy(data, source->data + offset, len);
	source->bytes_read += len;
	return 0;
}

void world_source_init(struct world_source *source, const uint8_t *data,
		       uint64_t size)
{
	*source = (struct world_source){ .data = data };
	source->source.ctx = source;
	source->source.read = read_source;
	source->source.size = size;
}
