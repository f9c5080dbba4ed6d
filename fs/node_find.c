/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Which node is meant: by an entry, an object, or all; and what the tree asks
 * of those who have put handles away. */
#include "fs/node_priv.h"

#include <string.h>

#include "base/mem.h"
#include "fs/evfs_dir.h"
#include "meta/facts.h"

/* ---- which node an entry is; meta and table locked ---- */

static bool dots_meet(const evfs_dot *a, size_t n_a, const evfs_dot *b,
		      size_t n_b)
{
	for (size_t i = 0; i < n_a; i++)
		for (size_t k = 0; k < n_b; k++)
			if (evfs_dot_equal(a[i], b[k]))
				return true;
	return false;
}

/* Does the file node stand for this link's versions? A version's bytes never
 * change, so one version in common means the same content. */
static bool is_same_file(const struct evfs_handle *handle,
			 const struct evfs_member_link *link, bool is_sibling)
{
	if (!evfs_dot_equal(handle->ino, link->ino) || handle->orphan ||
	    handle->sibling != is_sibling)
		return false;
	if (handle->n_base == 0 || link->n_dots == 0)
		return handle->n_base == link->n_dots;
	return dots_meet(handle->base, handle->n_base, link->dots,
			 link->n_dots);
}

/* The same of one that was put away: no sibling, one version at most. */
static bool is_same_key(const struct evfs_nodes *nodes, uint32_t at,
			const struct evfs_member_link *link, bool is_sibling)
{
	struct evfs_handle_key key;

	if (is_sibling)
		return false;
	evfs_table_key(&nodes->table, at, &key);
	if (!key.has_base || link->n_dots == 0)
		return !key.has_base && link->n_dots == 0;
	return dots_meet(&key.base, 1, link->dots, link->n_dots);
}

static bool is_it(const struct evfs_nodes *nodes, uint32_t at,
		  const struct evfs_entry *entry,
		  const struct evfs_member_link *link)
{
	const struct evfs_node_rec *rec = evfs_table_at(&nodes->table, at);

	switch ((enum evfs_node_type)rec->type) {
	case EVFS_NODE_DIR:
		return !link;
	case EVFS_NODE_OTHER:
		return link && (enum evfs_kind)rec->kind == entry->kind;
	case EVFS_NODE_FILE:
		if (!link || entry->kind != EVFS_KIND_FILE)
			return false;
		if (!rec->is_full)
			return is_same_key(nodes, at, link, entry->is_sibling);
		return is_same_file(&rec->as.full->file->handle, link,
				    entry->is_sibling);
	case EVFS_NODE_VIRTUAL:
		break;
	}
	return false;
}

static uint32_t find_at(const struct evfs_nodes *nodes, evfs_ino key,
			const struct evfs_entry *entry,
			const struct evfs_member_link *link)
{
	uint32_t at = evfs_table_first(&nodes->table, key);

	while (at != 0 && !is_it(nodes, at, entry, link))
		at = evfs_table_next(&nodes->table, at);
	return at;
}

static uint32_t find_entry(const struct evfs_nodes *nodes,
			   const struct evfs_entry *entry)
{
	uint32_t at = 0;

	if (entry->kind == EVFS_KIND_DIR) {
		for (size_t i = 0; at == 0 && i < entry->dir.n; i++)
			at = find_at(nodes, entry->dir.members[i], entry,
				     NULL);
		return at;
	}
	for (size_t i = 0; at == 0 && i < entry->n_members; i++)
		at = find_at(nodes, entry->members[i].ino, entry,
			     &entry->members[i]);
	return at;
}

/* ---- finding and making ---- */

/* What a new record says of this entry. false: that is not enough, it needs a
 * full form from the beginning. */
static bool key_of(const struct evfs_entry *entry, struct evfs_handle_key *ret)
{
	const struct evfs_member_link *link = entry->members;

	*ret = (struct evfs_handle_key){ .has_base = false };
	if (entry->kind == EVFS_KIND_DIR) {
		ret->ino = entry->dir.members[0];
		return true;
	}
	ret->ino = link->ino;
	evfs_handle_key_link(ret, &link->link);
	if (entry->kind != EVFS_KIND_FILE)
		return true;
	ret->has_base = link->n_dots > 0;
	if (ret->has_base)
		ret->base = link->dots[0];
	return !entry->is_sibling && entry->n_members == 1 &&
	       link->n_dots <= 1;
}

static enum evfs_node_type type_of(enum evfs_kind kind)
{
	return kind == EVFS_KIND_DIR  ? EVFS_NODE_DIR :
	       kind == EVFS_KIND_FILE ? EVFS_NODE_FILE :
					EVFS_NODE_OTHER;
}

/* Meta locked. */
static int full_of_entry(struct evfs_fs *fs, evfs_ino dir,
			 const struct evfs_entry *entry,
			 struct evfs_node **ret, struct evfs_err *err)
{
	struct evfs_node *node = evfs_node_full_new(
		EVFS_NODE_FILE, EVFS_KIND_FILE, entry->members[0].ino);
	int rc;

	if (!node)
		return evfs_err_set(err, EVFS_ENOMEM, "node: no memory");
	rc = evfs_tree_open(fs->meta, dir, entry, &node->file->handle, err);
	if (rc == 0)
		*ret = node;
	else
		evfs_node_full_free(node);
	return rc;
}

/* Meta locked: nobody else adds it meanwhile. node: its full form, or NULL. */
static int add(struct evfs_fs *fs, const struct evfs_entry *entry,
	       const struct evfs_handle_key *key, struct evfs_node *node,
	       uint32_t *ret, struct evfs_err *err)
{
	struct evfs_nodes *nodes = &fs->nodes;
	uint32_t at = evfs_table_add(&nodes->table, type_of(entry->kind),
				     entry->kind, key);

	if (at == 0)
		return evfs_err_set(err, EVFS_ENOMEM, "node: no memory");
	if (node)
		evfs_node_full_set(nodes, at, node);
	*ret = at;
	return 0;
}

int evfs_node_known(struct evfs_fs *fs, evfs_ino dir,
		    const struct evfs_entry *entry, uint64_t *ret_id,
		    struct evfs_node **ret, struct evfs_err *err)
{
	struct evfs_nodes *nodes = &fs->nodes;
	struct evfs_handle_key key;
	struct evfs_node *made = NULL;
	struct evfs_node_rec *rec;
	uint32_t at;
	int rc = 0;

	(void)pthread_mutex_lock(&nodes->lock);
	at = find_entry(nodes, entry);
	if (at == 0 && !key_of(entry, &key)) {
		(void)pthread_mutex_unlock(&nodes->lock);
		rc = full_of_entry(fs, dir, entry, &made, err);
		(void)pthread_mutex_lock(&nodes->lock);
	}
	if (at == 0 && rc == 0)
		rc = add(fs, entry, &key, made, &at, err);
	if (rc == 0) {
		rec = evfs_table_at(&nodes->table, at);
		evfs_table_look(rec);
		evfs_table_note(&nodes->table, at, dir, entry->name,
				entry->name_len);
		*ret_id = evfs_table_id(&nodes->table, at);
		*ret = rec->is_full ? rec->as.full : NULL;
		made = NULL;
	}
	(void)pthread_mutex_unlock(&nodes->lock);
	if (made) {
		evfs_tree_close(fs->meta, &made->file->handle);
		evfs_node_full_free(made);
	}
	return rc;
}

/* Meta locked: takes the reference of a moment ago back. */
static void unlook(struct evfs_nodes *nodes, uint64_t id)
{
	uint32_t at;

	(void)pthread_mutex_lock(&nodes->lock);
	at = evfs_table_find(&nodes->table, id);
	if (at != 0 && evfs_table_take(evfs_table_at(&nodes->table, at), 1) &&
	    !evfs_table_at(&nodes->table, at)->is_full)
		evfs_table_remove(&nodes->table, at);
	(void)pthread_mutex_unlock(&nodes->lock);
}

int evfs_node_of_entry(struct evfs_fs *fs, evfs_ino dir,
		       const struct evfs_entry *entry, struct evfs_node **ret,
		       struct evfs_err *err)
{
	struct evfs_node *node;
	uint64_t id;
	int rc = evfs_node_known(fs, dir, entry, &id, &node, err);

	if (rc != 0)
		return rc;
	if (!node) {
		rc = evfs_node_full(fs, id, &node, err);
		if (rc != 0) {
			unlook(&fs->nodes, id);
			return rc;
		}
	}
	*ret = node;
	return 0;
}

struct evfs_node *evfs_node_find(struct evfs_fs *fs,
				 const struct evfs_entry *entry)
{
	struct evfs_nodes *nodes = &fs->nodes;
	struct evfs_node *node = NULL;
	uint64_t id = 0;
	uint32_t at;

	(void)pthread_mutex_lock(&nodes->lock);
	at = find_entry(nodes, entry);
	if (at != 0)
		id = evfs_table_id(&nodes->table, at);
	(void)pthread_mutex_unlock(&nodes->lock);
	if (id == 0 || evfs_node_full(fs, id, &node, NULL) != 0)
		return NULL;
	evfs_node_pin_more(fs, node);
	return node;
}

/* Table locked. */
static struct evfs_node *find_virtual(const struct evfs_nodes *nodes,
				      const struct evfs_virtual *virt)
{
	uint32_t at = evfs_table_first(&nodes->table, EVFS_INO_NONE);

	for (; at != 0; at = evfs_table_next(&nodes->table, at)) {
		struct evfs_node *node =
			evfs_table_at(&nodes->table, at)->as.full;

		if (evfs_virtual_is_same(node->virt, virt))
			return node;
	}
	return NULL;
}

int evfs_node_of_virtual(struct evfs_fs *fs, struct evfs_virtual *virt,
			 struct evfs_node **ret, struct evfs_err *err)
{
	const struct evfs_handle_key key = { .ino = EVFS_INO_NONE };
	struct evfs_nodes *nodes = &fs->nodes;
	struct evfs_node *node, *made;
	uint32_t at = 0;

	made = evfs_node_full_new(EVFS_NODE_VIRTUAL, EVFS_KIND_FILE,
				  EVFS_INO_NONE);
	if (!made)
		return evfs_err_set(err, EVFS_ENOMEM, "node: no memory");
	(void)pthread_mutex_lock(&nodes->lock);
	node = find_virtual(nodes, virt);
	if (node) {
		at = evfs_table_find(&nodes->table, node->id);
		evfs_virtual_free(virt);
	} else {
		at = evfs_table_add(&nodes->table, EVFS_NODE_VIRTUAL,
				    EVFS_KIND_FILE, &key);
		if (at != 0) {
			node = evfs_steal(made);
			node->virt = virt;
			evfs_node_full_set(nodes, at, node);
		}
	}
	if (at != 0)
		evfs_table_look(evfs_table_at(&nodes->table, at));
	(void)pthread_mutex_unlock(&nodes->lock);
	if (made)
		evfs_node_full_free(made);
	if (at == 0)
		return evfs_err_set(err, EVFS_ENOMEM, "node: no memory");
	*ret = node;
	return 0;
}

/* ---- of an object, and all ---- */

void evfs_nodes_each_of(struct evfs_fs *fs, evfs_ino key,
			void (*each)(void *arg, uint64_t id,
				     struct evfs_node_rec *rec),
			void *arg)
{
	const struct evfs_node_table *table = &fs->nodes.table;

	(void)pthread_mutex_lock(&fs->nodes.lock);
	for (uint32_t at = evfs_table_first(table, key); at != 0;
	     at = evfs_table_next(table, at))
		each(arg, evfs_table_id(table, at), evfs_table_at(table, at));
	(void)pthread_mutex_unlock(&fs->nodes.lock);
}

void evfs_nodes_each(struct evfs_fs *fs,
		     void (*each)(void *arg, struct evfs_node *node),
		     void *arg)
{
	struct evfs_node *node;

	(void)pthread_mutex_lock(&fs->nodes.lock);
	for (node = fs->nodes.busy.first; node; node = node->next)
		each(arg, node);
	for (node = fs->nodes.idle.first; node; node = node->next)
		each(arg, node);
	(void)pthread_mutex_unlock(&fs->nodes.lock);
}

size_t evfs_nodes_next(struct evfs_fs *fs, uint32_t *cursor,
		       struct evfs_node_seen *items, size_t max)
{
	const struct evfs_node_table *table = &fs->nodes.table;
	size_t n = 0;

	(void)pthread_mutex_lock(&fs->nodes.lock);
	while (n < max) {
		struct evfs_node_seen *seen = &items[n];
		uint32_t at = evfs_table_after(table, *cursor);

		if (at == 0)
			break;
		*cursor = at;
		seen->id = evfs_table_id(table, at);
		seen->type = evfs_table_at(table, at)->type;
		seen->key = evfs_table_ino(table, at);
		seen->noted = evfs_table_noted(table, at, &seen->dir,
					       seen->name);
		n++;
	}
	(void)pthread_mutex_unlock(&fs->nodes.lock);
	return n;
}

/* Table and meta locked. Without memory the kernel gets another node for it
 * next time. */
static void rekey(void *arg, struct evfs_node *node)
{
	struct evfs_nodes *nodes = arg;

	if (node->file && !evfs_dot_equal(node->key, node->file->handle.ino) &&
	    evfs_table_set_ino(&nodes->table,
			       evfs_table_find(&nodes->table, node->id),
			       node->file->handle.ino))
		node->key = node->file->handle.ino;
}

void evfs_node_rekey(struct evfs_fs *fs, struct evfs_node *node)
{
	(void)pthread_mutex_lock(&fs->nodes.lock);
	rekey(&fs->nodes, node);
	(void)pthread_mutex_unlock(&fs->nodes.lock);
}

void evfs_nodes_rekey(struct evfs_fs *fs)
{
	evfs_nodes_each(fs, rekey, &fs->nodes);
}

/* ---- for the tree; meta locked ---- */

static void held_cb(void *arg, uint64_t id, struct evfs_node_rec *rec)
{
	(void)id;
	/* The handle of one in use says it by itself, and may stand for
	 * another object by now. */
	if (rec->type != EVFS_NODE_FILE || !rec->is_full)
		*(bool *)arg = true;
}

/* Has the kernel it? What it may still ask about must not be collected. */
static bool is_held(void *arg, evfs_ino ino)
{
	bool held = false;

	evfs_nodes_each_of(arg, ino, held_cb, &held);
	return held;
}

/* Of the nodes of an object that are put away and do not fit `object` (NULL:
 * all of them) the one with the smallest id. */
struct away {
	struct evfs_nodes *nodes;
	const struct evfs_object *object;
	uint64_t after; /* greater than this */
	uint64_t found; /* 0: none */
};

static void away_cb(void *arg, uint64_t id, struct evfs_node_rec *rec)
{
	struct away *away = arg;
	struct evfs_handle_key key;

	if (rec->type != EVFS_NODE_FILE || rec->is_full || id <= away->after ||
	    (away->found != 0 && id > away->found))
		return;
	evfs_table_key(&away->nodes->table,
		       evfs_table_find(&away->nodes->table, id), &key);
	if (!away->object || !evfs_tree_fits(&key, away->object))
		away->found = id;
}

static int reopen_all(struct evfs_fs *fs, evfs_ino ino,
		      const struct evfs_object *object, struct evfs_err *err)
{
	struct away away = { .nodes = &fs->nodes, .object = object };
	struct evfs_node *node;
	int rc;

	for (;;) {
		away.found = 0;
		evfs_nodes_each_of(fs, ino, away_cb, &away);
		if (away.found == 0)
			return 0;
		rc = evfs_node_full(fs, away.found, &node, err);
		/* The kernel forgot it just now. */
		if (rc != 0 && rc != EVFS_ENOTFOUND)
			return rc;
		away.after = away.found;
	}
}

static int wanted(void *arg, evfs_ino ino, struct evfs_err *err)
{
	return reopen_all(arg, ino, NULL, err);
}

static int changes(void *arg, const struct evfs_object *object,
		   struct evfs_err *err)
{
	return reopen_all(arg, object->ino, object, err);
}

static void renew_full(struct evfs_nodes *nodes, struct evfs_node *node,
		       evfs_dot (*renew)(void *renew_arg, evfs_dot dot),
		       void *renew_arg)
{
	uint32_t at = evfs_table_find(&nodes->table, node->id);
	evfs_ino key = node->file ? node->file->handle.ino :
				    renew(renew_arg, node->key);

	node->link.dot = renew(renew_arg, node->link.dot);
	if (evfs_table_set_ino(&nodes->table, at, key))
		node->key = key;
}

/* Without memory a node is one that nobody finds any more. */
static void renewed(void *arg, evfs_dot (*renew)(void *renew_arg, evfs_dot dot),
		    void *renew_arg)
{
	struct evfs_fs *fs = arg;
	struct evfs_node_table *table = &fs->nodes.table;
	struct evfs_handle_key key;

	(void)pthread_mutex_lock(&fs->nodes.lock);
	for (uint32_t at = evfs_table_after(table, 0); at != 0;
	     at = evfs_table_after(table, at)) {
		const struct evfs_node_rec *rec = evfs_table_at(table, at);

		if (rec->is_full) {
			renew_full(&fs->nodes, rec->as.full, renew, renew_arg);
			continue;
		}
		evfs_table_key(table, at, &key);
		key.ino = renew(renew_arg, key.ino);
		if (key.has_base)
			key.base = renew(renew_arg, key.base);
		(void)!evfs_table_set_key(table, at, &key);
	}
	(void)pthread_mutex_unlock(&fs->nodes.lock);
}

const struct evfs_tree_holder evfs_node_holder = {
	.held = is_held,
	.wanted = wanted,
	.changes = changes,
	.renewed = renewed,
};
