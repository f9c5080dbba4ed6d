/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Settling conflicts on command, by the primitives that rm and mv use: the
 * siblings that are not wanted are removed, and a sibling that is wanted is
 * moved over the plain name. Each of these steps is a transaction of its own
 * and leaves a tree that is fine, so a failure in between leaves fewer
 * siblings and nothing worse. Also: what a replica that had lost its memory
 * asserts after its last audit. */
#include "meta/tree_priv.h"

#include <string.h>

#include "base/mem.h"
#include "meta/members.h"
#include "meta/meta.h"

/* More steps than any set of siblings needs: each removes one. */
#define STEPS_MAX 100000

struct group {
	struct evfs_entry *entries; /* owned; [0] has the plain name */
	size_t n;
};

static void group_fini(struct group *group)
{
	evfs_view_group_free(group->entries, group->n);
	memset(group, 0, sizeof(*group));
}
#define cleanup_group __attribute__((cleanup(group_fini)))

static int group_of(struct evfs_meta *meta, evfs_ino dir, const char *plain,
		    size_t plain_len, struct group *ret, struct evfs_err *err)
{
	return evfs_view_group(meta, dir, plain, plain_len, &ret->entries,
			       &ret->n, err);
}

/* ---- which to keep ---- */

/* The dot that an entry's generated name is made of. */
static evfs_dot naming_dot(const struct evfs_entry *entry)
{
	const struct evfs_member_link *m = &entry->members[0];

	return m->n_dots > 0 ? m->dots[0] : m->ino;
}

/* When it came to be what it is: a content by its version, else by its
 * place. */
static int age_of(struct evfs_meta *meta, const struct evfs_entry *entry,
		  evfs_stamp *ret, struct evfs_err *err)
{
	const struct evfs_object *object = NULL;
	const struct evfs_link *link;
	evfs_ino ino = entry->kind == EVFS_KIND_DIR ? entry->dir.members[0] :
						      entry->members[0].ino;
	int rc;

	memset(ret, 0, sizeof(*ret));
	if (entry->has_version) {
		ret->time_ns = entry->version_time_ns;
		ret->dot = naming_dot(entry);
		return 0;
	}
	rc = evfs_facts_get(evfs_meta_facts(meta), ino, &object, err);
	if (rc != 0 || object == NULL)
		return rc;
	link = entry->kind == EVFS_KIND_DIR ?
		       evfs_object_only_link(object) :
		       evfs_object_find_link(object, &entry->members[0].link);
	if (link != NULL)
		*ret = link->place.stamp;
	return 0;
}

static bool is_from(struct evfs_meta *meta, const struct evfs_entry *entry,
		    const char *node_name)
{
	evfs_dot dot = entry->kind == EVFS_KIND_DIR ? entry->dir.members[0] :
						      naming_dot(entry);
	const char *name = evfs_members_node_name(meta, dot.actor.node);

	return strcmp(name, node_name) == 0;
}

/* Index of the latest entry, of all or of those from one node. */
static int latest(struct evfs_meta *meta, const struct group *group,
		  const char *node_name, size_t *ret, struct evfs_err *err)
{
	evfs_stamp best = { 0 };
	bool found = false;

	for (size_t i = 0; i < group->n; i++) {
		evfs_stamp age;
		int rc;

		if (node_name != NULL &&
		    !is_from(meta, &group->entries[i], node_name))
			continue;
		rc = age_of(meta, &group->entries[i], &age, err);
		if (rc != 0)
			return rc;
		if (!found || evfs_stamp_cmp(&age, &best) > 0) {
			*ret = i;
			best = age;
		}
		found = true;
	}
	if (!found)
		return evfs_err_set(err, EVFS_ENOTFOUND,
				    "nothing here was written by %s "
				    "(see the names of the siblings)",
				    node_name);
	return 0;
}

static bool is_named(const struct evfs_entry *entry, const char *name,
		     size_t name_len)
{
	return entry->name_len == name_len &&
	       memcmp(entry->name, name, name_len) == 0;
}

/* Index of what is to stay; `spot` is what the command named. */
static int pick(struct evfs_meta *meta, const struct group *group,
		const struct evfs_spot *spot, enum evfs_keep keep,
		const char *node_name, size_t *ret, struct evfs_err *err)
{
	if (keep == EVFS_KEEP_NODE && node_name == NULL)
		return evfs_err_set(err, EVFS_EINVAL,
				    "keep: the name of a replica is missing");
	if (keep != EVFS_KEEP_THIS)
		return latest(meta, group,
			      keep == EVFS_KEEP_NODE ? node_name : NULL, ret,
			      err);
	for (size_t i = 0; i < group->n; i++)
		if (is_named(&group->entries[i], spot->name, spot->name_len))
			*ret = i;
	return 0;
}

/* ---- keeping one ---- */

/* Is this the content that is to stay? Names may change while siblings go, the
 * version or object does not. */
static bool is_kept(const struct evfs_entry *entry,
		    const struct evfs_entry *kept)
{
	return entry->kind == kept->kind && entry->kind != EVFS_KIND_DIR &&
	       evfs_entry_has_link(entry, kept->members[0].ino,
				   &kept->members[0].link) &&
	       entry->has_version == kept->has_version &&
	       (!kept->has_version ||
		evfs_hash_equal(&entry->content, &kept->content));
}

/* Removes the first sibling that is not to stay; *ret_done: there is none. */
static int drop_one(struct evfs_meta *meta, evfs_ino dir,
		    const struct evfs_entry *kept, const char *plain,
		    size_t plain_len, bool *ret_done, struct evfs_err *err)
{
	cleanup_group struct group group = { 0 };
	int rc = group_of(meta, dir, plain, plain_len, &group, err);

	*ret_done = true;
	for (size_t i = 1; i < group.n && rc == 0; i++) {
		if (is_kept(&group.entries[i], kept))
			continue;
		*ret_done = false;
		return evfs_tree_unlink(meta, dir, group.entries[i].name,
					group.entries[i].name_len, err);
	}
	return rc;
}

static int move_kept(struct evfs_meta *meta, evfs_ino dir,
		     const struct evfs_entry *kept, const char *plain,
		     size_t plain_len, struct evfs_err *err)
{
	cleanup_group struct group group = { 0 };
	int rc = group_of(meta, dir, plain, plain_len, &group, err);

	for (size_t i = 1; i < group.n && rc == 0; i++)
		if (is_kept(&group.entries[i], kept))
			return evfs_tree_rename(
				meta, dir, group.entries[i].name,
				group.entries[i].name_len, dir, plain,
				plain_len, 0, err);
	return rc;
}

static int keep_one(struct evfs_meta *meta, evfs_ino dir,
		    const struct evfs_entry *kept, const char *plain,
		    size_t plain_len, struct evfs_err *err)
{
	bool done = false;
	int rc = 0;

	for (unsigned i = 0; i < STEPS_MAX && rc == 0 && !done; i++)
		rc = drop_one(meta, dir, kept, plain, plain_len, &done, err);
	if (rc == 0 && kept->is_sibling)
		rc = move_kept(meta, dir, kept, plain, plain_len, err);
	return rc;
}

/* ---- keeping all ---- */

static int keep_all(struct evfs_meta *meta, evfs_ino dir,
		    const struct evfs_entry *plain, struct evfs_err *err)
{
	evfs_cleanup_links struct evfs_link_set leaving = { 0 };
	struct evfs_beside at = { dir, plain->name, plain->name_len };
	struct evfs_tx tx;
	int rc;

	evfs_tx_init(&tx, meta, err);
	rc = evfs_link_set_add_entry(&tx, &leaving, plain);
	if (rc == 0)
		rc = evfs_tx_promote_all(&tx, &at, &leaving, NULL, NULL);
	if (rc == 0)
		rc = evfs_tx_assert_above(&tx, dir);
	return evfs_tx_finish(&tx, rc);
}

static int settle(struct evfs_meta *meta, const struct evfs_spot *spot,
		  enum evfs_keep keep, const char *node_name,
		  struct evfs_err *err)
{
	cleanup_group struct group group = { 0 };
	const struct evfs_entry *entry = &spot->entry, *kept;
	const char *plain = entry->is_sibling ? entry->plain : entry->name;
	size_t len = entry->is_sibling ? entry->plain_len : entry->name_len;
	evfs_ino dir = spot->dir.members[0];
	size_t which = 0;
	int rc = group_of(meta, dir, plain, len, &group, err);

	if (rc != 0)
		return rc;
	if (group.n < 2)
		return evfs_err_set(err, EVFS_ENOTFOUND,
				    "there is no conflict (see 'conflicts')");
	if (keep == EVFS_KEEP_ALL)
		return keep_all(meta, dir, &group.entries[0], err);
	rc = pick(meta, &group, spot, keep, node_name, &which, err);
	if (rc != 0)
		return rc;
	kept = &group.entries[which];
	if (kept->is_sibling && group.entries[0].kind == EVFS_KIND_DIR)
		return evfs_err_set(err, EVFS_EISDIR,
				    "a directory has the name (move one of "
				    "them to another name)");
	return keep_one(meta, dir, kept, plain, len, err);
}

int evfs_tree_resolve(struct evfs_meta *meta, evfs_ino dir, const char *name,
		      size_t name_len, enum evfs_keep keep,
		      const char *node_name, struct evfs_err *err)
{
	evfs_cleanup_spot struct evfs_spot spot = { 0 };
	struct evfs_tx tx;
	int rc;

	evfs_tx_init(&tx, meta, err);
	rc = evfs_spot_find(&tx, dir, name, name_len, &spot);
	rc = evfs_tx_finish(&tx, rc);
	if (rc == 0 && !spot.exists)
		rc = evfs_err_set(err, EVFS_ENOTFOUND,
				  "no such file or directory");
	return rc == 0 ? settle(meta, &spot, keep, node_name, err) : rc;
}

/* ---- after an audit ---- */

/* Directories that are asserted in one transaction: ties make its size count
 * twice. */
#define AUDIT_BATCH 64

struct dead {
	evfs_ino *items; /* owned: directories that are not alive */
	size_t n, cap;
	bool nomem; /* not all of them could be kept */
};

static int collect_dead(void *arg, const struct evfs_object *object)
{
	struct dead *dead = arg;
	const struct evfs_link *link;
	void *items = dead->items;

	if (object->kind != EVFS_KIND_DIR)
		return 0;
	link = evfs_object_only_link(object);
	if (link == NULL || link->alive.n > 0)
		return 0;
	if (evfs_grow(&items, dead->n, &dead->cap, sizeof(*dead->items)) != 0) {
		dead->nomem = true;
		return 1;
	}
	dead->items = items;
	dead->items[dead->n++] = object->ino;
	return 0;
}

static int assert_needed(struct evfs_tx *tx, evfs_ino dir)
{
	const struct evfs_object *object = NULL;
	bool needed = false;
	int rc = evfs_facts_is_needed(tx->facts, dir, &needed, tx->err);

	if (rc != 0 || !needed)
		return rc;
	rc = evfs_tx_get(tx, dir, &object);
	if (rc != 0)
		return rc;
	return evfs_tx_set_alive(tx, dir, &evfs_object_only_link(object)->id,
				 true);
}

int evfs_tree_audited(struct evfs_meta *meta, struct evfs_err *err)
{
	struct evfs_facts *facts = evfs_meta_facts(meta);
	struct dead dead = { 0 };
	int rc;

	if (evfs_facts_counter(facts, EVFS_COUNTER_ZOMBIES) == 0)
		return 0;
	rc = evfs_facts_each(facts, collect_dead, &dead, err);
	if (dead.nomem)
		rc = evfs_err_set(err, EVFS_ENOMEM, "out of memory");
	for (size_t i = 0; i < dead.n && rc == 0; i += AUDIT_BATCH) {
		struct evfs_tx tx;

		evfs_tx_init(&tx, meta, err);
		tx.origin = EVFS_FEED_REMOTE;
		for (size_t k = i; k < dead.n && k < i + AUDIT_BATCH; k++) {
			rc = assert_needed(&tx, dead.items[k]);
			if (rc != 0)
				break;
		}
		rc = evfs_tx_finish(&tx, rc);
	}
	evfs_free(dead.items);
	return rc;
}
