/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Stores for tests. */
#include "tests/unit/store_world.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "meta/index.h"

uint64_t store_now_ns = UINT64_C(1700000000000000000);

static uint64_t world_wall(void *ctx)
{
	(void)ctx;
	return __atomic_load_n(&store_now_ns, __ATOMIC_RELAXED);
}

static uint64_t world_mono(void *ctx)
{
	const struct evfs_env *system = evfs_env_system();

	(void)ctx;
	return system->mono_ns(system->ctx);
}

static void world_random(void *ctx, void *data, size_t len)
{
	const struct evfs_env *system = evfs_env_system();

	(void)ctx;
	system->random(system->ctx, data, len);
}

const struct evfs_env *store_env(void)
{
	static const struct evfs_env env = { NULL, world_wall, world_mono,
					     world_random };

	return &env;
}

char *store_make_dir(void)
{
	const char *base = getenv("TMPDIR");
	char *dir = evfs_asprintf("%s/evfs-store-XXXXXX",
				  base == NULL ? "/tmp" : base);

	ck_assert_ptr_nonnull(dir);
	ck_assert_ptr_nonnull(mkdtemp(dir));
	return dir;
}

void store_remove_dir(char *dir)
{
	char *command = evfs_asprintf("rm -rf '%s'", dir);

	ck_assert_ptr_nonnull(command);
	ck_assert_int_eq(system(command), 0);
	evfs_free(command);
	evfs_free(dir);
}

char *store_path(const char *dir, const char *name)
{
	char *path = evfs_asprintf("%s/%s", dir, name);

	ck_assert_ptr_nonnull(path);
	return path;
}

static const char *const world_keys[] = {
	"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAaaa",
	"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBbbb",
	"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAICccc",
};
static const char *const world_names[] = { "ann", "bob", "cyd" };

uint64_t store_node(unsigned who)
{
	return evfs_node_of_key(world_keys[who]);
}

struct evfs_meta_new store_fresh(const char *path, unsigned who)
{
	struct evfs_meta_new fresh = { .path = path,
				       .node_name = world_names[who],
				       .node = store_node(who),
				       .public_key = world_keys[who],
				       .listen = "127.0.0.1:7000" };

	fresh.volume.b[0] = 7;
	return fresh;
}

static struct evfs_meta *world_open(const char *path,
				    const struct evfs_meta_new *fresh)
{
	struct evfs_meta_options options = { .path = path,
					     .fresh = fresh,
					     .env = store_env(),
					     .commit_delay_ms = 5 };
	struct evfs_meta *meta = NULL;
	struct evfs_err err = { 0 };
	int rc = evfs_meta_open(&options, &meta, &err);

	ck_assert_msg(rc == 0, "%s", err.msg);
	return meta;
}

struct evfs_meta *store_memory(unsigned who)
{
	struct evfs_meta_new fresh = store_fresh(NULL, who);

	return world_open(NULL, &fresh);
}

struct evfs_meta *store_create(const char *path, unsigned who)
{
	struct evfs_meta_new fresh = store_fresh(path, who);
	struct evfs_err err = { 0 };

	ck_assert_msg(evfs_meta_create(&fresh, &err) == 0, "%s", err.msg);
	return world_open(path, NULL);
}

struct evfs_meta *store_open(const char *path)
{
	return world_open(path, NULL);
}

evfs_dot store_dot(struct evfs_meta *meta)
{
	struct evfs_err err = { 0 };
	evfs_dot dot;
	int rc = evfs_meta_next_dot(meta, &dot, &err);

	ck_assert_msg(rc == 0, "%s", err.msg);
	return dot;
}

static struct evfs_object *world_object(struct evfs_meta *meta,
					enum evfs_kind kind, evfs_ino parent,
					const char *name)
{
	evfs_dot dot = store_dot(meta);
	struct evfs_object *object = evfs_object_new(dot, kind);
	struct evfs_link link = {
		.id = { evfs_meta_stamp(meta, 0), dot },
		.place = { .parent = parent,
			   .origin = parent,
			   .name = (const uint8_t *)name,
			   .name_len = strlen(name) },
		.alive = { &dot, 1 }
	};

	ck_assert_ptr_nonnull(object);
	link.place.stamp = link.id;
	object->change_ns = link.id.time_ns;
	if (kind == EVFS_KIND_SYMLINK)
		ck_assert_int_eq(evfs_object_set_target(object, "to", 2), 0);
	ck_assert_int_eq(evfs_object_add_link(object, &link), 0);
	ck_assert_int_eq(evfs_object_log_raise(object, dot), 0);
	return object;
}

struct evfs_object *store_symlink(struct evfs_meta *meta, evfs_ino parent,
				  const char *name)
{
	return world_object(meta, EVFS_KIND_SYMLINK, parent, name);
}

struct evfs_object *store_directory(struct evfs_meta *meta, evfs_ino parent,
				    const char *name)
{
	return world_object(meta, EVFS_KIND_DIR, parent, name);
}

static void world_put(struct evfs_meta *meta, struct evfs_object *object)
{
	struct evfs_err err = { 0 };
	int rc = evfs_index_put(meta, &object, 1, EVFS_FEED_LOCAL, &err);

	ck_assert_msg(rc == 0, "%s", err.msg);
}

evfs_ino store_put_symlink(struct evfs_meta *meta, const char *name)
{
	struct evfs_object *object;
	evfs_ino ino;

	evfs_meta_lock(meta);
	object = store_symlink(meta, EVFS_INO_ROOT, name);
	ino = object->ino;
	world_put(meta, object);
	evfs_meta_unlock(meta);
	return ino;
}

void store_chmod(struct evfs_meta *meta, evfs_ino ino, uint32_t mode)
{
	const struct evfs_object *stored;
	struct evfs_object *object;
	struct evfs_attr attr = { .kind = EVFS_ATTR_MODE };

	evfs_meta_lock(meta);
	ck_assert_int_eq(evfs_facts_get(evfs_meta_facts(meta), ino, &stored,
					NULL), 0);
	ck_assert_ptr_nonnull(stored);
	object = evfs_object_copy(stored);
	ck_assert_ptr_nonnull(object);
	attr.value.mode = mode;
	attr.stamp.dot = store_dot(meta);
	attr.stamp.time_ns = evfs_meta_stamp(meta, stored->change_ns);
	object->change_ns = attr.stamp.time_ns;
	ck_assert_int_eq(evfs_object_put_attr(object, &attr), 0);
	ck_assert_int_eq(evfs_object_log_raise(object, attr.stamp.dot), 0);
	world_put(meta, object);
	evfs_meta_unlock(meta);
}

bool store_has(struct evfs_meta *meta, evfs_ino ino)
{
	const struct evfs_object *object;
	struct evfs_err err = { 0 };
	bool has;

	evfs_meta_lock(meta);
	ck_assert_msg(evfs_facts_get(evfs_meta_facts(meta), ino, &object,
				     &err) == 0, "%s", err.msg);
	has = object != NULL;
	evfs_meta_unlock(meta);
	return has;
}

char *store_dump(struct evfs_meta *meta)
{
	struct evfs_buf buf = { 0 };
	struct evfs_err err = { 0 };

	ck_assert_msg(evfs_meta_dump(meta, true, &buf, &err) == 0, "%s", err.msg);
	ck_assert_int_eq(evfs_buf_put_u8(&buf, 0), 0);
	return (char *)buf.data;
}

uint64_t store_durable_counter(struct evfs_meta *meta)
{
	struct evfs_context context = { 0 };
	uint64_t counter;

	ck_assert_int_eq(evfs_meta_durable_context(meta, &context), 0);
	counter = evfs_context_get(&context, evfs_meta_actor(meta));
	evfs_context_fini(&context);
	return counter;
}
