/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Replicas in memory: making them, paths, exchanges. */
#include "tests/lib/replica.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "meta/collect.h"
#include "meta/facts.h"
#include "meta/members.h"

struct test_tag {
	evfs_hash hash; /* of text */
	char text[24];  /* the content itself */
};

#define SECOND UINT64_C(1000000000)

static void *must(void *pointer)
{
	if (pointer == NULL) {
		fprintf(stderr, "out of memory\n");
		abort();
	}
	return pointer;
}

static void must_grow(void **items, size_t n, size_t *cap, size_t size)
{
	if (evfs_grow(items, n, cap, size) != 0)
		must(NULL);
}

/* ---- the world ---- */

static uint64_t world_now(void *ctx)
{
	const struct test_world *world = ctx;

	return world->now_ns;
}

static void world_random(void *ctx, void *data, size_t len)
{
	struct test_world *world = ctx;
	uint8_t *bytes = data;

	for (size_t i = 0; i < len; i++) {
		world->random = world->random * UINT64_C(6364136223846793005) +
				UINT64_C(1442695040888963407);
		bytes[i] = (uint8_t)(world->random >> 56);
	}
}

void test_world_init(struct test_world *world)
{
	memset(world, 0, sizeof(*world));
	world->env.ctx = world;
	world->env.wall_ns = world_now;
	world->env.mono_ns = world_now;
	world->env.random = world_random;
	world->now_ns = UINT64_C(1700000000) * SECOND;
	world->random = 1;
}

void test_world_fini(struct test_world *world)
{
	evfs_free(world->tags);
	memset(world, 0, sizeof(*world));
}

void test_world_tick(struct test_world *world)
{
	world->now_ns += SECOND;
}

struct evfs_content_ref test_content(struct test_world *world,
				     const char *tag)
{
	struct evfs_content_ref ref = { 0 };
	void *items = world->tags;
	struct test_tag *fresh;

	ref.content = evfs_hash_content(tag, strlen(tag));
	ref.size = strlen(tag);
	ref.mtime_s = (int64_t)(world->now_ns / SECOND);
	if (strcmp(test_tag_of(world, &ref.content), "?") != 0)
		return ref;
	must_grow(&items, world->n_tags, &world->cap_tags,
		  sizeof(*world->tags));
	world->tags = items;
	fresh = &world->tags[world->n_tags++];
	fresh->hash = ref.content;
	assert(strlen(tag) < sizeof(fresh->text));
	strcpy(fresh->text, tag);
	return ref;
}

const char *test_tag_of(const struct test_world *world,
			const evfs_hash *content)
{
	for (size_t i = 0; i < world->n_tags; i++)
		if (evfs_hash_equal(&world->tags[i].hash, content))
			return world->tags[i].text;
	return "?";
}

/* ---- replicas ---- */

/* Keys whose node ids are in the order of the names. */
static const char *key_of(unsigned index)
{
	static char keys[TEST_REPLICAS_MAX][EVFS_KEY_TEXT_MAX];
	uint64_t last = 0;
	unsigned made = 0;

	if (keys[0][0] != '\0')
		return keys[index];
	for (unsigned i = 0; made < TEST_REPLICAS_MAX; i++) {
		char *key = keys[made];
		uint64_t node;

		snprintf(key, EVFS_KEY_TEXT_MAX,
			 "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI%043u", i);
		node = evfs_node_of_key(key);
		if (node <= last || node - last > UINT64_MAX / 4)
			continue;
		last = node;
		made++;
	}
	return keys[index];
}

static void meet_others(struct test_replica *replica)
{
	evfs_meta_lock(replica->meta);
	for (unsigned i = 0; i < TEST_REPLICAS_MAX; i++) {
		struct evfs_member member = { .stamp_ns = 1 };
		bool changed;

		member.name[0] = (char)('A' + i);
		if (member.name[0] == replica->name[0])
			continue;
		memcpy(member.key, key_of(i), sizeof(member.key));
		member.node = evfs_node_of_key(member.key);
		if (evfs_members_join(replica->meta, &member, &changed,
				      &replica->err) != 0) {
			fprintf(stderr, "join: %s\n", replica->err.msg);
			abort();
		}
	}
	evfs_meta_unlock(replica->meta);
}

void test_replica_open(struct test_replica *replica, struct test_world *world,
		       const char *name)
{
	struct evfs_meta_new fresh = { 0 };
	struct evfs_meta_options options = { 0 };

	assert(name[0] >= 'A' && name[0] < 'A' + TEST_REPLICAS_MAX);
	memset(replica, 0, sizeof(*replica));
	replica->world = world;
	replica->name[0] = name[0];
	fresh.node_name = replica->name;
	fresh.public_key = key_of((unsigned)(name[0] - 'A'));
	fresh.node = evfs_node_of_key(fresh.public_key);
	memset(fresh.volume.b, 7, sizeof(fresh.volume.b));
	options.fresh = &fresh;
	options.env = &world->env;
	if (evfs_meta_open(&options, &replica->meta, &replica->err) != 0) {
		fprintf(stderr, "open: %s\n", replica->err.msg);
		abort();
	}
	meet_others(replica);
}

static void forget_listed(struct test_replica *replica)
{
	for (size_t i = 0; i < replica->n_listed; i++)
		evfs_free(replica->listed[i]);
	replica->n_listed = 0;
}

void test_replica_close(struct test_replica *replica)
{
	while (replica->open != NULL) {
		struct test_open *open = replica->open;

		replica->open = open->next;
		test_close(replica, &open->handle);
		evfs_free(open);
	}
	forget_listed(replica);
	evfs_free(replica->listed);
	evfs_free(replica->cloud);
	evfs_meta_close(replica->meta);
	memset(replica, 0, sizeof(*replica));
}

/* ---- paths (meta locked) ---- */

static int find_locked(struct test_replica *replica, const char *path,
		       struct test_path *ret)
{
	const char *at = path, *slash;

	ret->dir = EVFS_INO_ROOT;
	assert(path[0] == '/');
	for (at++; (slash = strchr(at, '/')) != NULL; at = slash + 1) {
		struct evfs_entry entry = { 0 };
		int rc = evfs_view_lookup(replica->meta, ret->dir, at,
					  (size_t)(slash - at), &entry,
					  &replica->err);

		if (rc != 0)
			return rc;
		if (entry.kind != EVFS_KIND_DIR)
			rc = EVFS_ENOTDIR;
		else
			ret->dir = entry.dir.members[0];
		evfs_entry_fini(&entry);
		if (rc != 0)
			return rc;
	}
	ret->name = at;
	ret->len = strlen(at);
	return ret->len > 0 ? 0 : EVFS_EINVAL;
}

static int entry_locked(struct test_replica *replica, const char *path,
			struct test_path *where, struct evfs_entry *ret)
{
	int rc = find_locked(replica, path, where);

	if (rc != 0)
		return rc;
	return evfs_view_lookup(replica->meta, where->dir, where->name,
				where->len, ret, &replica->err);
}

int test_path_find(struct test_replica *replica, const char *path,
		   struct test_path *ret)
{
	int rc;

	evfs_meta_lock(replica->meta);
	rc = find_locked(replica, path, ret);
	evfs_meta_unlock(replica->meta);
	return rc;
}

int test_path_entry(struct test_replica *replica, const char *path,
		    struct evfs_entry *ret)
{
	struct test_path where;
	int rc;

	memset(ret, 0, sizeof(*ret));
	evfs_meta_lock(replica->meta);
	rc = entry_locked(replica, path, &where, ret);
	evfs_meta_unlock(replica->meta);
	return rc;
}

/* ---- operations ---- */

int test_make(struct test_replica *replica, const char *path,
	      enum evfs_kind kind, const char *target)
{
	struct evfs_new what = { .kind = kind,
				 .mode = kind == EVFS_KIND_DIR ? 0755 : 0644,
				 .uid = 1000,
				 .gid = 1000,
				 .target = target };
	struct test_path where;
	int rc;

	what.target_len = target != NULL ? strlen(target) : 0;
	evfs_meta_lock(replica->meta);
	rc = find_locked(replica, path, &where);
	if (rc == 0)
		rc = evfs_tree_create(replica->meta, where.dir, where.name,
				      where.len, &what, NULL, NULL,
				      &replica->err);
	evfs_meta_unlock(replica->meta);
	return rc;
}

int test_create(struct test_replica *replica, const char *path,
		const char *tag)
{
	struct evfs_content_ref content = test_content(replica->world, tag);
	struct evfs_new what = { .kind = EVFS_KIND_FILE,
				 .mode = 0644,
				 .uid = 1000,
				 .gid = 1000,
				 .content = &content };
	struct evfs_entry entry = { 0 };
	struct test_path where;
	int rc;

	evfs_meta_lock(replica->meta);
	rc = entry_locked(replica, path, &where, &entry);
	evfs_entry_fini(&entry);
	if (rc == EVFS_ENOTFOUND) {
		rc = find_locked(replica, path, &where);
		if (rc == 0)
			rc = evfs_tree_create(replica->meta, where.dir,
					      where.name, where.len, &what,
					      NULL, NULL, &replica->err);
		evfs_meta_unlock(replica->meta);
		return rc;
	}
	evfs_meta_unlock(replica->meta);
	return rc == 0 ? test_write(replica, path, tag) : rc;
}

int test_open(struct test_replica *replica, const char *path,
	      struct evfs_handle *handle)
{
	struct evfs_entry entry = { 0 };
	struct test_path where;
	int rc;

	evfs_meta_lock(replica->meta);
	rc = entry_locked(replica, path, &where, &entry);
	if (rc == 0)
		rc = evfs_tree_open(replica->meta, where.dir, &entry, handle,
				    &replica->err);
	evfs_entry_fini(&entry);
	evfs_meta_unlock(replica->meta);
	return rc;
}

int test_seal(struct test_replica *replica, struct evfs_handle *handle,
	      const char *tag)
{
	struct evfs_content_ref content = test_content(replica->world, tag);
	int rc;

	evfs_meta_lock_content(replica->meta);
	rc = evfs_tree_seal(replica->meta, handle, &content, &replica->err);
	evfs_meta_unlock(replica->meta);
	return rc;
}

void test_close(struct test_replica *replica, struct evfs_handle *handle)
{
	evfs_meta_lock(replica->meta);
	evfs_tree_close(replica->meta, handle);
	evfs_meta_unlock(replica->meta);
}

int test_write(struct test_replica *replica, const char *path,
	       const char *tag)
{
	struct evfs_handle handle;
	int rc = test_open(replica, path, &handle);

	if (rc != 0)
		return rc;
	rc = test_seal(replica, &handle, tag);
	test_close(replica, &handle);
	return rc;
}

int test_link(struct test_replica *replica, const char *path,
	      const char *new_path)
{
	struct evfs_entry entry = { 0 };
	struct test_path from, to;
	int rc;

	evfs_meta_lock(replica->meta);
	rc = entry_locked(replica, path, &from, &entry);
	if (rc == 0)
		rc = find_locked(replica, new_path, &to);
	if (rc == 0)
		rc = evfs_tree_link(replica->meta, from.dir, &entry, to.dir,
				    to.name, to.len, &replica->err);
	evfs_entry_fini(&entry);
	evfs_meta_unlock(replica->meta);
	return rc;
}

static int remove_path(struct test_replica *replica, const char *path,
		       int (*remove)(struct evfs_meta *meta, evfs_ino dir,
				     const char *name, size_t name_len,
				     struct evfs_err *err))
{
	struct test_path where;
	int rc;

	evfs_meta_lock(replica->meta);
	rc = find_locked(replica, path, &where);
	if (rc == 0)
		rc = remove(replica->meta, where.dir, where.name, where.len,
			    &replica->err);
	evfs_meta_unlock(replica->meta);
	return rc;
}

int test_unlink(struct test_replica *replica, const char *path)
{
	return remove_path(replica, path, evfs_tree_unlink);
}

int test_rmdir(struct test_replica *replica, const char *path)
{
	return remove_path(replica, path, evfs_tree_rmdir);
}

int test_rename(struct test_replica *replica, const char *path,
		const char *new_path, unsigned flags)
{
	struct test_path from, to;
	int rc;

	evfs_meta_lock(replica->meta);
	rc = find_locked(replica, path, &from);
	if (rc == 0)
		rc = find_locked(replica, new_path, &to);
	if (rc == 0)
		rc = evfs_tree_rename(replica->meta, from.dir, from.name,
				      from.len, to.dir, to.name, to.len,
				      flags, &replica->err);
	evfs_meta_unlock(replica->meta);
	return rc;
}

static int set_attr(struct test_replica *replica, const char *path,
		    const struct evfs_attr *attr)
{
	struct evfs_entry entry = { 0 };
	struct test_path where;
	int rc;

	evfs_meta_lock(replica->meta);
	rc = entry_locked(replica, path, &where, &entry);
	if (rc == 0)
		rc = evfs_tree_set_attr(replica->meta, where.dir, &entry, attr,
					&replica->err);
	evfs_entry_fini(&entry);
	evfs_meta_unlock(replica->meta);
	return rc;
}

int test_chmod(struct test_replica *replica, const char *path, uint32_t mode)
{
	struct evfs_attr attr = { .kind = EVFS_ATTR_MODE };

	attr.value.mode = mode;
	return set_attr(replica, path, &attr);
}

int test_setxattr(struct test_replica *replica, const char *path,
		  const char *key, const char *value)
{
	struct evfs_attr attr = { .kind = EVFS_ATTR_XATTR };
	char full[64];

	snprintf(full, sizeof(full), "user.%s", key);
	attr.key = (const uint8_t *)full;
	attr.key_len = strlen(full);
	attr.value.xattr.data = (const uint8_t *)value;
	attr.value.xattr.len = strlen(value);
	return set_attr(replica, path, &attr);
}

/* ---- rm -rf ---- */

static void add_listed(struct test_replica *replica, char *path)
{
	void *items = replica->listed;

	must_grow(&items, replica->n_listed, &replica->cap_listed,
		  sizeof(*replica->listed));
	replica->listed = items;
	replica->listed[replica->n_listed++] = must(path);
}

struct lister {
	struct test_replica *replica;
	const char *path; /* of the directory */
};

static int list_entry(void *arg, struct evfs_entry *entry)
{
	struct lister *lister = arg;
	char *path = evfs_asprintf("%s/%s", lister->path, entry->name);

	if (entry->kind == EVFS_KIND_DIR) {
		struct lister below = { lister->replica, must(path) };
		int rc = evfs_view_list(lister->replica->meta,
					entry->dir.members[0], NULL, 0,
					list_entry, &below,
					&lister->replica->err);

		if (rc != 0)
			abort();
	}
	add_listed(lister->replica, path);
	return 0;
}

int test_list(struct test_replica *replica, const char *path)
{
	struct evfs_entry entry = { 0 };
	struct lister lister = { replica, path };
	struct test_path where;
	int rc;

	evfs_meta_lock(replica->meta);
	rc = entry_locked(replica, path, &where, &entry);
	if (rc == 0 && entry.kind != EVFS_KIND_DIR)
		rc = EVFS_ENOTDIR;
	if (rc == 0) {
		forget_listed(replica);
		rc = evfs_view_list(replica->meta, entry.dir.members[0], NULL,
				    0, list_entry, &lister, &replica->err);
		add_listed(replica, evfs_strdup(path));
	}
	evfs_entry_fini(&entry);
	evfs_meta_unlock(replica->meta);
	return rc;
}

/* A directory that got a child meanwhile: rm -rf says so and goes on. */
int test_rmlist(struct test_replica *replica)
{
	int rc = 0;

	for (size_t i = 0; i < replica->n_listed && rc == 0; i++) {
		const char *path = replica->listed[i];
		struct evfs_entry entry;

		if (test_path_entry(replica, path, &entry) != 0)
			continue;
		rc = entry.kind == EVFS_KIND_DIR ?
			     test_rmdir(replica, path) :
			     test_unlink(replica, path);
		evfs_entry_fini(&entry);
		if (rc == EVFS_ENOTEMPTY || rc == EVFS_EBUSY)
			rc = 0;
	}
	forget_listed(replica);
	return rc;
}

int test_rm_rf(struct test_replica *replica, const char *path)
{
	char **kept = replica->listed;
	size_t n = replica->n_listed, cap = replica->cap_listed;
	struct evfs_entry entry;
	int rc = test_path_entry(replica, path, &entry);

	if (rc != 0)
		return rc;
	evfs_entry_fini(&entry);
	if (entry.kind != EVFS_KIND_DIR)
		return test_unlink(replica, path);
	replica->listed = NULL; /* what `list` remembers stays as it is */
	replica->n_listed = replica->cap_listed = 0;
	rc = test_list(replica, path);
	if (rc == 0)
		rc = test_rmlist(replica);
	evfs_free(replica->listed);
	replica->listed = kept;
	replica->n_listed = n;
	replica->cap_listed = cap;
	return rc;
}

/* ---- exchange ---- */

static size_t cloud_place(const struct test_replica *replica, evfs_dot dot)
{
	size_t low = 0, high = replica->n_cloud;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (evfs_dot_cmp(replica->cloud[middle], dot) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static bool cloud_has(const struct test_replica *replica, evfs_dot dot)
{
	size_t at = cloud_place(replica, dot);

	return at < replica->n_cloud &&
	       evfs_dot_equal(replica->cloud[at], dot);
}

static void cloud_add(struct test_replica *replica, evfs_dot dot)
{
	size_t at = cloud_place(replica, dot);
	void *items = replica->cloud;

	if (cloud_has(replica, dot))
		return;
	must_grow(&items, replica->n_cloud, &replica->cap_cloud,
		  sizeof(*replica->cloud));
	replica->cloud = items;
	memmove(replica->cloud + at + 1, replica->cloud + at,
		(replica->n_cloud - at) * sizeof(*replica->cloud));
	replica->cloud[at] = dot;
	replica->n_cloud++;
}

static bool covers(void *arg, evfs_ino ino, evfs_dot dot)
{
	(void)ino;
	return cloud_has(arg, dot);
}

static int apply(struct test_replica *to, struct evfs_object **objects,
		 size_t n, const struct evfs_context *snap)
{
	size_t changed;
	int rc;

	for (size_t i = 0; i < n; i++)
		for (size_t k = 0; k < objects[i]->n_log; k++) {
			const struct evfs_log_row *row = &objects[i]->log[k];
			evfs_dot dot = { row->actor, row->counter };

			cloud_add(to, dot);
		}
	evfs_meta_lock_content(to->meta);
	rc = evfs_delta_apply(to->meta, objects, n, snap, &changed, &to->err);
	evfs_meta_unlock(to->meta);
	return rc;
}

/* Batches until the end, or until the cut. */
static int stream(struct test_replica *to, struct evfs_delta *delta, long cut,
		  bool *ret_complete)
{
	long groups = 0;
	bool done = false;

	while (!done) {
		struct evfs_object **objects = NULL;
		size_t n = 0;
		int rc = evfs_delta_next(delta, cut < 0 ? 0 : 1, &objects, &n,
					 &done, &to->err);

		if (rc != 0)
			return rc;
		if (n > 0 && groups == cut) {
			for (size_t i = 0; i < n; i++)
				evfs_object_free(objects[i]);
			evfs_free(objects);
			*ret_complete = false;
			return 0;
		}
		if (n > 0)
			rc = apply(to, objects, n, evfs_delta_snap(delta));
		evfs_free(objects);
		if (rc != 0)
			return rc;
		groups += n > 0;
	}
	*ret_complete = true;
	return 0;
}

static int finish_exchange(struct test_replica *to, struct test_replica *from,
			   const struct evfs_delta *delta, bool complete,
			   uint64_t clock)
{
	int rc = 0;

	evfs_meta_lock(to->meta);
	if (complete)
		rc = evfs_meta_take_context(to->meta, evfs_delta_snap(delta),
					    &to->err);
	evfs_meta_hear_clock(to->meta, clock);
	evfs_meta_unlock(to->meta);
	for (size_t i = 0; complete && i < from->n_cloud; i++)
		cloud_add(to, from->cloud[i]);
	return rc == 0 ? evfs_meta_commit(to->meta, &to->err) : rc;
}

/* What `from` has on disk, as `to` knows it from now on. */
static int tell_report(struct test_replica *to, struct test_replica *from)
{
	struct evfs_context context = { 0 };
	int rc = evfs_meta_durable_context(from->meta, &context);

	evfs_meta_lock(to->meta);
	if (rc == 0)
		rc = evfs_members_set_report(to->meta,
					     evfs_meta_node(from->meta),
					     &context, &to->err);
	evfs_meta_unlock(to->meta);
	evfs_context_fini(&context);
	return rc;
}

int test_without(struct test_replica *replica, const char *name)
{
	struct evfs_member member;
	int rc;

	evfs_meta_lock(replica->meta);
	rc = evfs_members_by_name(replica->meta, name, &member,
				  &replica->err);
	if (rc == 0)
		rc = evfs_members_remove(replica->meta, member.node,
					 &replica->err);
	evfs_meta_unlock(replica->meta);
	return rc;
}

int test_collect(struct test_replica *replica)
{
	bool more = true;
	int rc = 0;

	while (rc == 0 && more)
		rc = evfs_collect_step(replica->meta, 1000, &more,
				       &replica->err);
	return rc == 0 ? evfs_meta_commit(replica->meta, &replica->err) : rc;
}

int test_delta(struct test_replica *to, struct test_replica *from, long cut)
{
	struct evfs_context context = { 0 };
	struct evfs_delta *delta = NULL;
	bool complete = false;
	uint64_t clock;
	int rc = evfs_meta_commit(to->meta, &to->err);

	if (rc == 0)
		rc = evfs_meta_commit(from->meta, &to->err);
	if (rc == 0)
		rc = evfs_meta_durable_context(to->meta, &context);
	if (rc == 0)
		rc = evfs_delta_open(from->meta, &context, &delta, &to->err);
	evfs_context_fini(&context);
	if (rc != 0)
		return rc;
	evfs_meta_lock(from->meta);
	clock = evfs_meta_clock(from->meta);
	evfs_meta_unlock(from->meta);
	if (cut >= 0)
		evfs_delta_set_covers(delta, covers, to);
	rc = stream(to, delta, cut, &complete);
	if (rc == 0)
		rc = finish_exchange(to, from, delta, complete, clock);
	evfs_delta_close(delta);
	if (rc == 0)
		rc = tell_report(to, from);
	return rc == 0 ? tell_report(from, to) : rc;
}
