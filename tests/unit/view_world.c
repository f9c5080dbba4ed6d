/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "tests/unit/view_world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "meta/content.h"
#include "meta/facts.h"
#include "meta/index.h"
#include "tests/lib/refview.h"

static void need(bool truth, const char *what, const struct evfs_err *err)
{
	if (truth)
		return;
	fprintf(stderr, "%s: %s\n", what, err == NULL ? "failed" : err->msg);
	abort();
}

void world_open(struct world *world)
{
	struct evfs_meta_new fresh = { .node_name = "A", .node = 1,
				       .public_key = "ssh-ed25519 AAAA" };
	struct evfs_meta_options options = { .fresh = &fresh,
					     .env = evfs_env_system() };
	struct evfs_err err = { 0 };

	*world = (struct world){ .clock = 1000 };
	need(evfs_meta_open(&options, &world->meta, &err) == 0, "open", &err);
	evfs_meta_lock(world->meta);
}

void world_close(struct world *world)
{
	evfs_meta_unlock(world->meta);
	evfs_meta_close(world->meta);
}

evfs_dot world_dot(struct world *world, uint64_t who)
{
	return (evfs_dot){ { who, 0 }, ++world->counter };
}

evfs_stamp world_stamp(struct world *world, uint64_t who)
{
	return (evfs_stamp){ ++world->clock, world_dot(world, who) };
}

struct evfs_object *world_edit(struct world *world, evfs_ino ino,
			       enum evfs_kind kind)
{
	const struct evfs_object *stored;
	struct evfs_object *object;
	struct evfs_err err = { 0 };

	need(evfs_facts_get(evfs_meta_facts(world->meta), ino, &stored,
			    &err) == 0, "get", &err);
	object = stored != NULL ? evfs_object_copy(stored) :
				  evfs_object_new(ino, kind);
	need(object != NULL, "edit", NULL);
	object->change_ns = ++world->clock;
	if (!evfs_ino_is_root(ino))
		need(evfs_object_log_raise(object, ino) == 0, "log", NULL);
	return object;
}

void world_link(struct world *world, struct evfs_object *object, uint64_t who,
		evfs_ino parent, const char *name)
{
	evfs_stamp stamp = world_stamp(world, who);
	struct evfs_link link = {
		.id = stamp,
		.place = { .stamp = stamp, .parent = parent, .origin = parent,
			   .name = (const uint8_t *)name,
			   .name_len = strlen(name) },
		.alive = { &stamp.dot, 1 },
	};

	need(evfs_object_log_raise(object, stamp.dot) == 0 &&
	     evfs_object_add_link(object, &link) == 0, "link", NULL);
}

void world_move(struct world *world, struct evfs_object *object, size_t i,
		uint64_t who, evfs_ino parent, const evfs_ino *origin,
		const char *name)
{
	struct evfs_link *link = &object->links[i];
	struct evfs_place place = {
		.stamp = world_stamp(world, who),
		.parent = parent,
		.origin = origin != NULL ? *origin : link->place.parent,
		.name = (const uint8_t *)name,
		.name_len = strlen(name),
	};

	need(evfs_object_log_raise(object, place.stamp.dot) == 0 &&
	     evfs_object_set_place(object, link, &place) == 0, "move", NULL);
}

void world_alive(struct world *world, struct evfs_object *object, size_t i,
		 uint64_t who, bool alive)
{
	evfs_dot dot = world_dot(world, who);

	need(evfs_object_log_raise(object, dot) == 0 &&
	     evfs_object_set_alive(object, &object->links[i],
				   alive ? &dot : NULL) == 0, "alive", NULL);
}

evfs_dot world_version(struct world *world, struct evfs_object *object,
		       uint64_t who, const char *content)
{
	evfs_stamp stamp = world_stamp(world, who);
	struct evfs_version version = {
		.dot = stamp.dot,
		.time_ns = stamp.time_ns,
		.content = content[0] == '\0' ?
				   EVFS_CONTENT_EMPTY :
				   evfs_hash_content(content, strlen(content)),
		.size = strlen(content),
		.mtime_s = (int64_t)stamp.time_ns,
	};

	need(evfs_object_log_raise(object, stamp.dot) == 0 &&
	     evfs_object_put_version(object, &version) == 0, "version", NULL);
	return stamp.dot;
}

void world_mode(struct world *world, struct evfs_object *object, uint64_t who,
		uint32_t mode, bool saw)
{
	struct evfs_attr attr = { .kind = EVFS_ATTR_MODE,
				  .stamp = world_stamp(world, who),
				  .value.mode = mode };
	evfs_dot seen[16];

	for (size_t i = 0; saw && i < object->n_versions && i < 16; i++)
		seen[attr.saw.n++] = object->versions[i].dot;
	attr.saw.items = seen;
	need(evfs_object_log_raise(object, attr.stamp.dot) == 0 &&
	     evfs_object_put_attr(object, &attr) == 0, "mode", NULL);
}

void world_put(struct world *world, struct evfs_object *object)
{
	struct evfs_err err = { 0 };

	need(evfs_index_put(world->meta, &object, 1, EVFS_FEED_REMOTE,
			    &err) == 0, "put", &err);
}

evfs_ino world_file(struct world *world, uint64_t who, evfs_ino parent,
		    const char *name, const char *content)
{
	evfs_ino ino = world_dot(world, who);
	struct evfs_object *file = world_edit(world, ino, EVFS_KIND_FILE);

	world_link(world, file, who, parent, name);
	if (content != NULL)
		(void)world_version(world, file, who, content);
	world_put(world, file);
	return ino;
}

evfs_ino world_dir(struct world *world, uint64_t who, evfs_ino parent,
		   const char *name)
{
	evfs_ino ino = world_dot(world, who);
	struct evfs_object *dir = world_edit(world, ino, EVFS_KIND_DIR);

	world_link(world, dir, who, parent, name);
	world_put(world, dir);
	return ino;
}

evfs_ino world_symlink(struct world *world, uint64_t who, evfs_ino parent,
		       const char *name, const char *target)
{
	evfs_ino ino = world_dot(world, who);
	struct evfs_object *link = world_edit(world, ino, EVFS_KIND_SYMLINK);

	need(evfs_object_set_target(link, target, strlen(target)) == 0,
	     "target", NULL);
	world_link(world, link, who, parent, name);
	world_put(world, link);
	return ino;
}

void world_check(struct world *world)
{
	char *differs = refview_differs(world->meta);

	if (differs == NULL)
		return;
	fprintf(stderr, "%s\n", differs);
	abort();
}

static int take_name(void *arg, struct evfs_entry *entry)
{
	struct evfs_buf *names = arg;

	need(evfs_buf_printf(names, names->len > 0 ? " %s" : "%s",
			     entry->name) == 0, "names", NULL);
	return 0;
}

char *world_names(struct world *world, const char *path)
{
	struct evfs_buf names = { 0 };
	struct evfs_entry dir = { 0 };

	if (evfs_view_path(world->meta, path, &dir, NULL) != 0 ||
	    dir.kind != EVFS_KIND_DIR) {
		evfs_entry_fini(&dir);
		return evfs_strdup("-");
	}
	need(evfs_view_list(world->meta, dir.dir.members[0], NULL, 0,
			    take_name, &names, NULL) == 0, "list", NULL);
	evfs_entry_fini(&dir);
	need(evfs_buf_put_u8(&names, 0) == 0, "names", NULL);
	return (char *)names.data;
}
