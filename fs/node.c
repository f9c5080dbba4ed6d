/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Nodes: how their full forms come and go. One that neither the kernel nor we
 * refer to ends; because closing its handle needs the meta lock, which comes
 * before the table's, that happens in two steps (`dying`), and whoever finds
 * the node between them brings it back. */
#include "fs/node.h"

#include <assert.h>
#include <string.h>

#include "base/mem.h"
#include "fs/evfs_dir.h"
#include "fs/file.h"
#include "fs/node_priv.h"
#include "meta/facts.h"

#define IDLE_BATCH 64u /* put away under one lock */
#define NS_PER_S UINT64_C(1000000000)

/* A file and its node come and go together. */
struct file_node {
	struct evfs_node node;
	struct evfs_file file;
};

/* ---- lists; table locked ---- */

static void list_add(struct evfs_node_list *list, struct evfs_node *node)
{
	node->next = NULL;
	node->prev = list->last;
	if (list->last)
		list->last->next = node;
	else
		list->first = node;
	list->last = node;
	list->n++;
}

static void list_remove(struct evfs_node_list *list, struct evfs_node *node)
{
	if (node->prev)
		node->prev->next = node->next;
	else
		list->first = node->next;
	if (node->next)
		node->next->prev = node->prev;
	else
		list->last = node->prev;
	list->n--;
}

static void unlist(struct evfs_nodes *nodes, struct evfs_node *node)
{
	list_remove(node->idle ? &nodes->idle : &nodes->busy, node);
}

/* To the end of the idle: its use has ended just now. */
static void make_idle(struct evfs_nodes *nodes, struct evfs_node *node)
{
	if (node == nodes->idle.last || node->type == EVFS_NODE_VIRTUAL)
		return;
	unlist(nodes, node);
	node->idle = true;
	list_add(&nodes->idle, node);
}

static void make_busy(struct evfs_nodes *nodes, struct evfs_node *node)
{
	unlist(nodes, node);
	node->idle = false;
	list_add(&nodes->busy, node);
}

/* ---- making ---- */

struct evfs_node *evfs_node_full_new(enum evfs_node_type type,
				     enum evfs_kind kind, evfs_ino key)
{
	struct file_node *made;
	struct evfs_node *node;

	if (type != EVFS_NODE_FILE) {
		node = evfs_calloc(1, sizeof(*node));
	} else {
		made = evfs_calloc(1, sizeof(*made));
		node = made ? &made->node : NULL;
		if (made)
			node->file = &made->file;
	}
	if (!node)
		return NULL;
	node->type = type;
	node->kind = kind;
	node->key = key;
	if (node->file &&
	    (pthread_mutex_init(&node->file->sealing, NULL) != 0 ||
	     pthread_mutex_init(&node->file->writer, NULL) != 0 ||
	     pthread_rwlock_init(&node->file->data, NULL) != 0)) {
		evfs_free(node);
		return NULL;
	}
	return node;
}

void evfs_node_full_free(struct evfs_node *node)
{
	if (node->file) {
		evfs_work_free(node->file->work);
		evfs_work_free(node->file->frozen);
		evfs_reader_put(node->file->reader);
		(void)pthread_rwlock_destroy(&node->file->data);
		(void)pthread_mutex_destroy(&node->file->writer);
		(void)pthread_mutex_destroy(&node->file->sealing);
	}
	evfs_virtual_free(node->virt);
	evfs_free(node);
}

void evfs_node_full_set(struct evfs_nodes *nodes, uint32_t at,
			struct evfs_node *node)
{
	struct evfs_node_rec *rec = evfs_table_at(&nodes->table, at);

	node->id = evfs_table_id(&nodes->table, at);
	if (node->file) {
		node->file->times_stale = rec->times_stale;
		node->file->checked_ns = rec->checked_s * NS_PER_S;
	}
	rec->is_full = 1;
	rec->as.full = node;
	node->idle = node->type != EVFS_NODE_VIRTUAL;
	list_add(node->idle ? &nodes->idle : &nodes->busy, node);
}

/* The link of what is no file; none if it went: another will do. */
static int find_link(struct evfs_fs *fs, const struct evfs_handle_key *key,
		     evfs_stamp *ret, struct evfs_err *err)
{
	const struct evfs_object *object = NULL;
	const struct evfs_link *link = NULL;
	int rc = evfs_facts_get(fs->facts, key->ino, &object, err);

	if (rc == 0 && object)
		link = evfs_tree_key_link(key, object);
	if (link)
		*ret = link->id;
	return rc;
}

/* Meta locked. The full form of what a record says. */
static int full_of_key(struct evfs_fs *fs, enum evfs_node_type type,
		       enum evfs_kind kind, const struct evfs_handle_key *key,
		       struct evfs_node **ret, struct evfs_err *err)
{
	struct evfs_node *node = evfs_node_full_new(type, kind, key->ino);
	int rc = 0;

	if (!node)
		return evfs_err_set(err, EVFS_ENOMEM, "node: no memory");
	if (type == EVFS_NODE_FILE)
		rc = evfs_tree_reopen(fs->meta, key, &node->file->handle, err);
	else if (type == EVFS_NODE_OTHER)
		rc = find_link(fs, key, &node->link, err);
	if (rc == 0)
		*ret = node;
	else
		evfs_node_full_free(node);
	return rc;
}

int evfs_node_full(struct evfs_fs *fs, uint64_t id, struct evfs_node **ret,
		   struct evfs_err *err)
{
	struct evfs_nodes *nodes = &fs->nodes;
	const struct evfs_node_rec *rec;
	struct evfs_handle_key key;
	enum evfs_node_type type = EVFS_NODE_DIR;
	enum evfs_kind kind = EVFS_KIND_DIR;
	struct evfs_node *node = NULL;
	uint32_t at;
	int rc;

	(void)pthread_mutex_lock(&nodes->lock);
	at = evfs_table_find(&nodes->table, id);
	rec = at != 0 ? evfs_table_at(&nodes->table, at) : NULL;
	if (rec && rec->is_full) {
		node = rec->as.full;
	} else if (rec) {
		evfs_table_key(&nodes->table, at, &key);
		type = rec->type;
		kind = rec->kind;
	}
	(void)pthread_mutex_unlock(&nodes->lock);
	if (!rec)
		return evfs_err_set(err, EVFS_ENOTFOUND, "no such node");
	if (node) {
		*ret = node;
		return 0;
	}
	rc = full_of_key(fs, type, kind, &key, &node, err);
	if (rc != 0)
		return rc;
	(void)pthread_mutex_lock(&nodes->lock);
	/* The kernel may have forgotten it, and a directory may have got its
	 * full form, without the meta lock. */
	at = evfs_table_find(&nodes->table, id);
	rec = at != 0 ? evfs_table_at(&nodes->table, at) : NULL;
	if (rec && rec->is_full)
		*ret = rec->as.full;
	else if (rec)
		evfs_node_full_set(nodes, at, *ret = evfs_steal(node));
	(void)pthread_mutex_unlock(&nodes->lock);
	if (node) {
		if (node->file)
			evfs_tree_close(fs->meta, &node->file->handle);
		evfs_node_full_free(node);
	}
	return rec ? 0 : evfs_err_set(err, EVFS_ENOTFOUND, "no such node");
}

/* ---- life ---- */

int evfs_nodes_init(struct evfs_fs *fs, struct evfs_err *err)
{
	const struct evfs_handle_key root = { .ino = EVFS_INO_ROOT };
	struct evfs_nodes *nodes = &fs->nodes;
	uint32_t at = 0;

	if (evfs_table_init(&nodes->table) == 0)
		at = evfs_table_add(&nodes->table, EVFS_NODE_DIR,
				    EVFS_KIND_DIR, &root);
	if (at == 0 || pthread_mutex_init(&nodes->lock, NULL) != 0) {
		evfs_table_fini(&nodes->table);
		return evfs_err_set(err, EVFS_ENOMEM, "node table: no memory");
	}
	assert(evfs_table_id(&nodes->table, at) == FUSE_ROOT_ID);
	evfs_table_look(evfs_table_at(&nodes->table, at));
	nodes->idle_max = EVFS_NODES_IDLE_MAX;
	nodes->holder = evfs_node_holder;
	nodes->holder.arg = fs;
	evfs_meta_lock(fs->meta);
	evfs_tree_set_holder(fs->meta, &nodes->holder);
	evfs_meta_unlock(fs->meta);
	return 0;
}

static void list_free(struct evfs_fs *fs, struct evfs_node_list *list)
{
	struct evfs_node *node;

	while ((node = list->first)) {
		list_remove(list, node);
		if (node->file) {
			evfs_meta_lock(fs->meta);
			evfs_tree_close(fs->meta, &node->file->handle);
			evfs_meta_unlock(fs->meta);
		}
		evfs_node_full_free(node);
	}
}

void evfs_nodes_fini(struct evfs_fs *fs)
{
	struct evfs_nodes *nodes = &fs->nodes;

	if (!nodes->table.heads)
		return;
	evfs_meta_lock(fs->meta);
	evfs_tree_set_holder(fs->meta, NULL);
	evfs_meta_unlock(fs->meta);
	list_free(fs, &nodes->busy);
	list_free(fs, &nodes->idle);
	evfs_table_fini(&nodes->table);
	(void)pthread_mutex_destroy(&nodes->lock);
}

/* Table locked. */
static bool is_unknown(const struct evfs_nodes *nodes, uint64_t id)
{
	uint32_t at = evfs_table_find(&nodes->table, id);

	return evfs_table_at(&nodes->table, at)->lookups == 0;
}

/* Second step: nobody referred to the node a moment ago. */
static void node_bury(struct evfs_fs *fs, struct evfs_node *node)
{
	struct evfs_nodes *nodes = &fs->nodes;

	evfs_meta_lock(fs->meta);
	(void)pthread_mutex_lock(&nodes->lock);
	node->dying = false;
	if (node->pins > 0 || !is_unknown(nodes, node->id)) {
		if (node->pins == 0)
			make_idle(nodes, node);
		(void)pthread_mutex_unlock(&nodes->lock);
		evfs_meta_unlock(fs->meta);
		return;
	}
	unlist(nodes, node);
	evfs_table_remove(&nodes->table,
			  evfs_table_find(&nodes->table, node->id));
	(void)pthread_mutex_unlock(&nodes->lock);
	if (node->file)
		evfs_tree_close(fs->meta, &node->file->handle);
	evfs_meta_unlock(fs->meta);
	evfs_node_full_free(node);
}

/* Table locked. Is it this caller who has to bury the node? */
static bool is_last(const struct evfs_nodes *nodes, struct evfs_node *node)
{
	if (node->pins > 0 || node->dying || !is_unknown(nodes, node->id))
		return false;
	node->dying = true;
	return true;
}

/* ---- putting away ---- */

/* Meta and table locked: can it be had again, and does nobody use it? */
static bool may_put_away(struct evfs_fs *fs, const struct evfs_node *node)
{
	const struct evfs_file *file = node->file;
	bool may = node->pins == 0 && !node->dying;

	if (!may || !file)
		return may;
	(void)pthread_mutex_lock(&fs->dirty_lock);
	may = !file->dirty && !file->error && file->n_open == 0;
	(void)pthread_mutex_unlock(&fs->dirty_lock);
	return may && !file->work && !file->frozen && !file->logged;
}

/* Meta and table locked: the record alone remains. False: no memory. */
static bool put_away(struct evfs_nodes *nodes, struct evfs_node *node,
		     const struct evfs_handle_key *key)
{
	uint32_t at = evfs_table_find(&nodes->table, node->id);
	struct evfs_node_rec *rec = evfs_table_at(&nodes->table, at);
	const struct evfs_file *file = node->file;

	if (!evfs_table_set_key(&nodes->table, at, key))
		return false;
	if (file) {
		rec->times_stale = file->times_stale;
		rec->checked_s = (uint32_t)(file->checked_ns / NS_PER_S);
	}
	unlist(nodes, node);
	return true;
}

/* Meta locked. The oldest of the idle: put away, or busy from now on. NULL:
 * there are not too many (*ret_more false), or it was not put away. */
static struct evfs_node *put_away_oldest(struct evfs_fs *fs, bool *ret_more)
{
	struct evfs_nodes *nodes = &fs->nodes;
	struct evfs_handle_key key = { .has_base = false };
	struct evfs_node *node;
	bool may;

	(void)pthread_mutex_lock(&nodes->lock);
	*ret_more = nodes->idle.n > nodes->idle_max;
	node = *ret_more ? nodes->idle.first : NULL;
	if (node)
		make_busy(nodes, node);
	may = node && may_put_away(fs, node);
	(void)pthread_mutex_unlock(&nodes->lock);
	if (!may)
		return NULL;
	key.ino = node->key;
	evfs_handle_key_link(&key, &node->link);
	if (node->file && !evfs_tree_may_put_away(fs->meta,
						  &node->file->handle, &key))
		return NULL;
	(void)pthread_mutex_lock(&nodes->lock);
	may = may_put_away(fs, node) && put_away(nodes, node, &key);
	(void)pthread_mutex_unlock(&nodes->lock);
	if (!may)
		return NULL;
	if (node->file)
		evfs_tree_close(fs->meta, &node->file->handle);
	return node;
}

static void trim(struct evfs_fs *fs)
{
	struct evfs_node *away[IDLE_BATCH];
	size_t n = 0;
	bool more = true;

	evfs_meta_lock(fs->meta);
	for (unsigned i = 0; i < IDLE_BATCH && more; i++) {
		away[n] = put_away_oldest(fs, &more);
		if (away[n])
			n++;
	}
	evfs_meta_unlock(fs->meta);
	for (size_t i = 0; i < n; i++)
		evfs_node_full_free(away[i]);
}

/* ---- pins and references ---- */

/* Table locked. A directory's full form is made of its record alone. */
static struct evfs_node *full_dir(struct evfs_nodes *nodes, uint32_t at)
{
	struct evfs_node *node =
		evfs_node_full_new(EVFS_NODE_DIR, EVFS_KIND_DIR,
				   evfs_table_ino(&nodes->table, at));

	if (node)
		evfs_node_full_set(nodes, at, node);
	return node;
}

static struct evfs_node *pin_file(struct evfs_fs *fs, uint64_t id)
{
	struct evfs_node *node = NULL;

	evfs_meta_lock(fs->meta);
	if (evfs_node_full(fs, id, &node, NULL) == 0)
		evfs_node_pin_more(fs, node);
	evfs_meta_unlock(fs->meta);
	return node;
}

struct evfs_node *evfs_node_pin(struct evfs_fs *fs, uint64_t id)
{
	struct evfs_nodes *nodes = &fs->nodes;
	const struct evfs_node_rec *rec;
	struct evfs_node *node = NULL;
	bool put_away = false;
	uint32_t at;

	(void)pthread_mutex_lock(&nodes->lock);
	at = evfs_table_find(&nodes->table, id);
	if (at != 0) {
		rec = evfs_table_at(&nodes->table, at);
		if (rec->is_full)
			node = rec->as.full;
		else if (rec->type == EVFS_NODE_DIR)
			node = full_dir(nodes, at);
		else
			put_away = true;
	}
	if (node)
		node->pins++;
	(void)pthread_mutex_unlock(&nodes->lock);
	return put_away ? pin_file(fs, id) : node;
}

void evfs_node_pin_more(struct evfs_fs *fs, struct evfs_node *node)
{
	(void)pthread_mutex_lock(&fs->nodes.lock);
	node->pins++;
	(void)pthread_mutex_unlock(&fs->nodes.lock);
}

void evfs_node_unpin(struct evfs_fs *fs, struct evfs_node *node)
{
	struct evfs_nodes *nodes = &fs->nodes;
	bool last, many;

	if (!node)
		return;
	(void)pthread_mutex_lock(&nodes->lock);
	assert(node->pins > 0);
	node->pins--;
	last = is_last(nodes, node);
	if (node->pins == 0)
		make_idle(nodes, node);
	many = nodes->idle.n > nodes->idle_max + nodes->idle_max / 16;
	(void)pthread_mutex_unlock(&nodes->lock);
	if (last)
		node_bury(fs, node);
	if (many)
		trim(fs);
}

void evfs_node_forget(struct evfs_fs *fs, uint64_t id, uint64_t n)
{
	struct evfs_nodes *nodes = &fs->nodes;
	struct evfs_node *node = NULL;
	struct evfs_node_rec *rec;
	uint32_t at;

	if (id == FUSE_ROOT_ID)
		return;
	(void)pthread_mutex_lock(&nodes->lock);
	at = evfs_table_find(&nodes->table, id);
	rec = at != 0 ? evfs_table_at(&nodes->table, at) : NULL;
	if (rec && evfs_table_take(rec, n)) {
		if (!rec->is_full)
			evfs_table_remove(&nodes->table, at);
		else if (is_last(nodes, rec->as.full))
			node = rec->as.full;
	}
	(void)pthread_mutex_unlock(&nodes->lock);
	if (node)
		node_bury(fs, node);
}

bool evfs_node_is_known(struct evfs_fs *fs, const struct evfs_node *node)
{
	const struct evfs_node_table *table = &fs->nodes.table;
	uint32_t at = evfs_table_find(table, node->id);

	return at != 0 && evfs_table_at(table, at)->lookups > 0;
}

void evfs_node_look(struct evfs_fs *fs, struct evfs_node *node)
{
	struct evfs_nodes *nodes = &fs->nodes;

	(void)pthread_mutex_lock(&nodes->lock);
	evfs_table_look(evfs_table_at(
		&nodes->table, evfs_table_find(&nodes->table, node->id)));
	(void)pthread_mutex_unlock(&nodes->lock);
}
