/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The node table. Two hash tables with chains over the same nodes: by the
 * kernel's id, and by object. A node leaves both when neither the kernel nor
 * we refer to it; because closing its handle needs the meta lock, which comes
 * before the table's, that happens in two steps (`dying`), and whoever finds
 * the node between them brings it back. */
#include "fs/node.h"

#include <assert.h>
#include <string.h>

#include "base/mem.h"
#include "fs/evfs_dir.h"
#include "fs/file.h"
#include "fs/fs_priv.h"

#define CHAINS_MIN 1024

static size_t key_hash(evfs_ino ino)
{
	uint64_t x = ino.actor.node ^ (uint64_t)ino.actor.epoch << 32;

	x = (x ^ ino.counter) * 0x9e3779b97f4a7c15u;
	return (size_t)(x >> 24);
}

static struct evfs_node **id_chain(struct evfs_nodes *nodes, uint64_t id)
{
	return &nodes->by_id[id & nodes->mask];
}

static struct evfs_node **key_chain(struct evfs_nodes *nodes, evfs_ino key)
{
	return &nodes->by_key[key_hash(key) & nodes->mask];
}

static void key_remove(struct evfs_nodes *nodes, struct evfs_node *node)
{
	struct evfs_node **at = key_chain(nodes, node->key);

	while (*at != node)
		at = &(*at)->key_next;
	*at = node->key_next;
}

static void key_add(struct evfs_nodes *nodes, struct evfs_node *node)
{
	struct evfs_node **chain = key_chain(nodes, node->key);

	node->key_next = *chain;
	*chain = node;
}

static void id_remove(struct evfs_nodes *nodes, struct evfs_node *node)
{
	struct evfs_node **at = id_chain(nodes, node->id);

	while (*at != node)
		at = &(*at)->id_next;
	*at = node->id_next;
}

/* Doubles the chains. Without memory they only grow longer. */
static void table_grow(struct evfs_nodes *nodes)
{
	size_t n = (nodes->mask + 1) * 2;
	struct evfs_node **by_id = evfs_calloc(n, sizeof(*by_id));
	struct evfs_node **by_key = evfs_calloc(n, sizeof(*by_key));
	struct evfs_node **old = nodes->by_id;
	size_t old_n = nodes->mask + 1;

	if (!by_id || !by_key) {
		evfs_free(by_id);
		evfs_free(by_key);
		return;
	}
	evfs_free(nodes->by_key);
	nodes->by_id = by_id;
	nodes->by_key = by_key;
	nodes->mask = n - 1;
	for (size_t i = 0; i < old_n; i++) {
		for (struct evfs_node *node = old[i], *next; node;
		     node = next) {
			next = node->id_next;
			node->id_next = *id_chain(nodes, node->id);
			*id_chain(nodes, node->id) = node;
			key_add(nodes, node);
		}
	}
	evfs_free(old);
}

static void table_add(struct evfs_nodes *nodes, struct evfs_node *node)
{
	if (nodes->n >= nodes->mask)
		table_grow(nodes);
	node->id = nodes->next_id++;
	node->id_next = *id_chain(nodes, node->id);
	*id_chain(nodes, node->id) = node;
	key_add(nodes, node);
	nodes->n++;
}

static struct evfs_node *table_find(struct evfs_nodes *nodes, uint64_t id)
{
	struct evfs_node *node = *id_chain(nodes, id);

	while (node && node->id != id)
		node = node->id_next;
	return node;
}

/* ---- life ---- */

static void file_free(struct evfs_file *file)
{
	if (!file)
		return;
	evfs_work_free(file->work);
	evfs_reader_put(file->reader);
	(void)pthread_rwlock_destroy(&file->data);
	(void)pthread_mutex_destroy(&file->writer);
	evfs_free(file);
}

static void node_free(struct evfs_node *node)
{
	file_free(node->file);
	evfs_virtual_free(node->virt);
	evfs_free(node->name);
	evfs_free(node);
}

static struct evfs_node *node_new(enum evfs_node_type type,
				  enum evfs_kind kind, evfs_ino key)
{
	struct evfs_node *node = evfs_calloc(1, sizeof(*node));

	if (!node)
		return NULL;
	node->type = type;
	node->kind = kind;
	node->key = key;
	if (type != EVFS_NODE_FILE)
		return node;
	node->file = evfs_calloc(1, sizeof(*node->file));
	if (!node->file) {
		evfs_free(node);
		return NULL;
	}
	if (pthread_mutex_init(&node->file->writer, NULL) != 0 ||
	    pthread_rwlock_init(&node->file->data, NULL) != 0) {
		evfs_free(node->file);
		evfs_free(node);
		return NULL;
	}
	return node;
}

static void held_cb(void *arg, struct evfs_node *node)
{
	if (!node->file)
		*(bool *)arg = true;
}

/* Has the kernel it? What it may still ask about must not be collected. */
static bool is_held(void *arg, evfs_ino ino)
{
	bool held = false;

	evfs_nodes_each_of(arg, ino, held_cb, &held);
	return held;
}

int evfs_nodes_init(struct evfs_fs *fs, struct evfs_err *err)
{
	struct evfs_nodes *nodes = &fs->nodes;
	struct evfs_node *root;

	nodes->mask = CHAINS_MIN - 1;
	nodes->next_id = FUSE_ROOT_ID;
	nodes->by_id = evfs_calloc(CHAINS_MIN, sizeof(*nodes->by_id));
	nodes->by_key = evfs_calloc(CHAINS_MIN, sizeof(*nodes->by_key));
	root = node_new(EVFS_NODE_DIR, EVFS_KIND_DIR, EVFS_INO_ROOT);
	if (!nodes->by_id || !nodes->by_key || !root ||
	    pthread_mutex_init(&nodes->lock, NULL) != 0) {
		evfs_free(evfs_steal(nodes->by_id));
		evfs_free(evfs_steal(nodes->by_key));
		evfs_free(root);
		return evfs_err_set(err, EVFS_ENOMEM, "node table: no memory");
	}
	root->nlookup = 1;
	table_add(nodes, root);
	evfs_meta_lock(fs->meta);
	evfs_tree_set_holder(fs->meta, is_held, fs);
	evfs_meta_unlock(fs->meta);
	return 0;
}

void evfs_nodes_fini(struct evfs_fs *fs)
{
	struct evfs_nodes *nodes = &fs->nodes;

	if (!nodes->by_id)
		return;
	evfs_meta_lock(fs->meta);
	evfs_tree_set_holder(fs->meta, NULL, NULL);
	for (size_t i = 0; i <= nodes->mask; i++)
		for (struct evfs_node *node = nodes->by_id[i]; node;
		     node = node->id_next)
			if (node->file)
				evfs_tree_close(fs->meta, &node->file->handle);
	evfs_meta_unlock(fs->meta);
	for (size_t i = 0; i <= nodes->mask; i++) {
		while (nodes->by_id[i]) {
			struct evfs_node *node = nodes->by_id[i];

			nodes->by_id[i] = node->id_next;
			node_free(node);
		}
	}
	evfs_free(evfs_steal(nodes->by_id));
	evfs_free(evfs_steal(nodes->by_key));
	(void)pthread_mutex_destroy(&nodes->lock);
}

/* Second step: nobody referred to the node a moment ago. */
static void node_bury(struct evfs_fs *fs, struct evfs_node *node)
{
	struct evfs_nodes *nodes = &fs->nodes;

	evfs_meta_lock(fs->meta);
	(void)pthread_mutex_lock(&nodes->lock);
	node->dying = false;
	if (node->nlookup > 0 || node->pins > 0) {
		(void)pthread_mutex_unlock(&nodes->lock);
		evfs_meta_unlock(fs->meta);
		return;
	}
	key_remove(nodes, node);
	id_remove(nodes, node);
	nodes->n--;
	(void)pthread_mutex_unlock(&nodes->lock);
	if (node->file)
		evfs_tree_close(fs->meta, &node->file->handle);
	evfs_meta_unlock(fs->meta);
	node_free(node);
}

/* Table locked. Is it this caller who has to bury the node? */
static bool is_last(struct evfs_node *node)
{
	if (node->nlookup > 0 || node->pins > 0 || node->dying)
		return false;
	node->dying = true;
	return true;
}

struct evfs_node *evfs_node_pin(struct evfs_fs *fs, uint64_t id)
{
	struct evfs_node *node;

	(void)pthread_mutex_lock(&fs->nodes.lock);
	node = table_find(&fs->nodes, id);
	if (node)
		node->pins++;
	(void)pthread_mutex_unlock(&fs->nodes.lock);
	return node;
}

void evfs_node_pin_more(struct evfs_fs *fs, struct evfs_node *node)
{
	(void)pthread_mutex_lock(&fs->nodes.lock);
	node->pins++;
	(void)pthread_mutex_unlock(&fs->nodes.lock);
}

void evfs_node_unpin(struct evfs_fs *fs, struct evfs_node *node)
{
	bool last;

	if (!node)
		return;
	(void)pthread_mutex_lock(&fs->nodes.lock);
	assert(node->pins > 0);
	node->pins--;
	last = is_last(node);
	(void)pthread_mutex_unlock(&fs->nodes.lock);
	if (last)
		node_bury(fs, node);
}

void evfs_node_forget(struct evfs_fs *fs, uint64_t id, uint64_t n)
{
	struct evfs_node *node;
	bool last = false;

	if (id == FUSE_ROOT_ID)
		return;
	(void)pthread_mutex_lock(&fs->nodes.lock);
	node = table_find(&fs->nodes, id);
	if (node) {
		assert(node->nlookup >= n);
		node->nlookup -= n;
		last = is_last(node);
	}
	(void)pthread_mutex_unlock(&fs->nodes.lock);
	if (last)
		node_bury(fs, node);
}

void evfs_node_look(struct evfs_fs *fs, struct evfs_node *node)
{
	(void)pthread_mutex_lock(&fs->nodes.lock);
	node->nlookup++;
	(void)pthread_mutex_unlock(&fs->nodes.lock);
}

/* ---- which node an entry is ---- */

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
static bool is_same_file(const struct evfs_node *node,
			 const struct evfs_member_link *link, bool is_sibling)
{
	const struct evfs_handle *handle = &node->file->handle;

	if (!evfs_dot_equal(handle->ino, link->ino) || handle->orphan ||
	    handle->sibling != is_sibling)
		return false;
	if (handle->n_base == 0 || link->n_dots == 0)
		return handle->n_base == link->n_dots;
	return dots_meet(handle->base, handle->n_base, link->dots,
			 link->n_dots);
}

/* Table locked. */
static struct evfs_node *find_at(struct evfs_nodes *nodes, evfs_ino key,
				 const struct evfs_entry *entry,
				 const struct evfs_member_link *link)
{
	for (struct evfs_node *node = *key_chain(nodes, key); node;
	     node = node->key_next) {
		if (!evfs_dot_equal(node->key, key))
			continue;
		if (node->type == EVFS_NODE_DIR && !link)
			return node;
		if (node->type == EVFS_NODE_OTHER && link &&
		    node->kind == entry->kind)
			return node;
		if (node->type == EVFS_NODE_FILE && link &&
		    entry->kind == EVFS_KIND_FILE &&
		    is_same_file(node, link, entry->is_sibling))
			return node;
	}
	return NULL;
}

static struct evfs_node *find_entry(struct evfs_nodes *nodes,
				    const struct evfs_entry *entry)
{
	struct evfs_node *node = NULL;

	if (entry->kind == EVFS_KIND_DIR) {
		for (size_t i = 0; !node && i < entry->dir.n; i++)
			node = find_at(nodes, entry->dir.members[i], entry,
				       NULL);
		return node;
	}
	for (size_t i = 0; !node && i < entry->n_members; i++)
		node = find_at(nodes, entry->members[i].ino, entry,
			       &entry->members[i]);
	return node;
}

/* Remembers where the node was found, for forgetting everything. */
static int note_place(struct evfs_node *node, evfs_ino dir,
		      const struct evfs_entry *entry)
{
	char *name;

	if (node->name && evfs_dot_equal(node->parent, dir) &&
	    strcmp(node->name, entry->name) == 0)
		return 0;
	name = evfs_memdup(entry->name, entry->name_len + 1);
	if (!name)
		return EVFS_ENOMEM;
	evfs_free(node->name);
	node->name = name;
	node->parent = dir;
	return 0;
}

static int node_make(struct evfs_fs *fs, evfs_ino dir,
		     const struct evfs_entry *entry, struct evfs_node **ret,
		     struct evfs_err *err)
{
	bool is_dir = entry->kind == EVFS_KIND_DIR;
	struct evfs_node *node;
	int rc;

	node = node_new(is_dir ? EVFS_NODE_DIR :
			entry->kind == EVFS_KIND_FILE ? EVFS_NODE_FILE :
							EVFS_NODE_OTHER,
			entry->kind,
			is_dir ? entry->dir.members[0] :
				 entry->members[0].ino);
	if (!node || note_place(node, dir, entry) != 0) {
		if (node)
			node_free(node);
		return evfs_err_set(err, EVFS_ENOMEM, "node: no memory");
	}
	if (node->type == EVFS_NODE_FILE) {
		rc = evfs_tree_open(fs->meta, dir, entry, &node->file->handle,
				    err);
		if (rc != 0) {
			node_free(node);
			return rc;
		}
		node->key = node->file->handle.ino;
	} else if (node->type == EVFS_NODE_OTHER) {
		node->link = entry->members[0].link;
	}
	*ret = node;
	return 0;
}

int evfs_node_of_entry(struct evfs_fs *fs, evfs_ino dir,
		       const struct evfs_entry *entry, struct evfs_node **ret,
		       struct evfs_err *err)
{
	struct evfs_nodes *nodes = &fs->nodes;
	struct evfs_node *node;
	int rc;

	(void)pthread_mutex_lock(&nodes->lock);
	node = find_entry(nodes, entry);
	if (node)
		node->nlookup++;
	(void)pthread_mutex_unlock(&nodes->lock);
	if (node) {
		/* Without memory the old place stays: only less is
		 * forgotten by name, should all have to be forgotten. */
		(void)note_place(node, dir, entry);
		*ret = node;
		return 0;
	}
	/* Nobody else adds it meanwhile: that takes the meta lock, too. */
	rc = node_make(fs, dir, entry, &node, err);
	if (rc != 0)
		return rc;
	node->nlookup = 1;
	(void)pthread_mutex_lock(&nodes->lock);
	table_add(nodes, node);
	(void)pthread_mutex_unlock(&nodes->lock);
	*ret = node;
	return 0;
}

struct evfs_node *evfs_node_find(struct evfs_fs *fs,
				 const struct evfs_entry *entry)
{
	struct evfs_node *node;

	(void)pthread_mutex_lock(&fs->nodes.lock);
	node = find_entry(&fs->nodes, entry);
	if (node)
		node->pins++;
	(void)pthread_mutex_unlock(&fs->nodes.lock);
	return node;
}

int evfs_node_of_virtual(struct evfs_fs *fs, struct evfs_virtual *virt,
			 struct evfs_node **ret, struct evfs_err *err)
{
	struct evfs_nodes *nodes = &fs->nodes;
	struct evfs_node *node, *made;

	made = node_new(EVFS_NODE_VIRTUAL, EVFS_KIND_FILE, EVFS_INO_NONE);
	if (!made)
		return evfs_err_set(err, EVFS_ENOMEM, "node: no memory");
	(void)pthread_mutex_lock(&nodes->lock);
	for (node = *key_chain(nodes, EVFS_INO_NONE); node;
	     node = node->key_next)
		if (node->type == EVFS_NODE_VIRTUAL &&
		    evfs_virtual_is_same(node->virt, virt))
			break;
	if (node) {
		node->nlookup++;
		evfs_virtual_free(virt);
	} else {
		node = evfs_steal(made);
		node->virt = virt;
		node->nlookup = 1;
		table_add(nodes, node);
	}
	(void)pthread_mutex_unlock(&nodes->lock);
	if (made)
		node_free(made);
	*ret = node;
	return 0;
}

void evfs_nodes_each_of(struct evfs_fs *fs, evfs_ino key,
			void (*each)(void *arg, struct evfs_node *node),
			void *arg)
{
	(void)pthread_mutex_lock(&fs->nodes.lock);
	for (struct evfs_node *node = *key_chain(&fs->nodes, key); node;
	     node = node->key_next)
		if (evfs_dot_equal(node->key, key))
			each(arg, node);
	(void)pthread_mutex_unlock(&fs->nodes.lock);
}

void evfs_nodes_each(struct evfs_fs *fs,
		     void (*each)(void *arg, struct evfs_node *node),
		     void *arg)
{
	(void)pthread_mutex_lock(&fs->nodes.lock);
	for (size_t i = 0; i <= fs->nodes.mask; i++)
		for (struct evfs_node *node = fs->nodes.by_id[i]; node;
		     node = node->id_next)
			each(arg, node);
	(void)pthread_mutex_unlock(&fs->nodes.lock);
}

/* Table and meta locked. */
static void rekey(struct evfs_nodes *nodes, struct evfs_node *node)
{
	if (!node->file || evfs_dot_equal(node->key, node->file->handle.ino))
		return;
	key_remove(nodes, node);
	node->key = node->file->handle.ino;
	key_add(nodes, node);
}

void evfs_node_rekey(struct evfs_fs *fs, struct evfs_node *node)
{
	(void)pthread_mutex_lock(&fs->nodes.lock);
	rekey(&fs->nodes, node);
	(void)pthread_mutex_unlock(&fs->nodes.lock);
}

void evfs_nodes_rekey(struct evfs_fs *fs)
{
	(void)pthread_mutex_lock(&fs->nodes.lock);
	for (size_t i = 0; i <= fs->nodes.mask; i++)
		for (struct evfs_node *node = fs->nodes.by_id[i]; node;
		     node = node->id_next)
			rekey(&fs->nodes, node);
	(void)pthread_mutex_unlock(&fs->nodes.lock);
}
