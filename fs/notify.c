/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The notify thread. */
#include "fs/notify.h"

#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/thread.h"
#include "fs/fs_priv.h"
#include "fs/node_priv.h"
#include "fs/ops.h"
#include "meta/facts.h"

/* linux/fuse.h, protocol 7.44: libfuse 3.14 does not know it yet. */
#define NOTIFY_INC_EPOCH 8

#define ALL_BATCH 16 /* nodes looked at under one lock */

enum job_kind { JOB_CHANGE, JOB_CALL };

struct job {
	enum job_kind kind;
	struct evfs_change change;                     /* CHANGE */
	void (*call)(struct evfs_fs *fs, void *arg);   /* CALL */
	void *arg;                                     /* its argument */
	struct job *next;
};

/* Node ids, collected under locks, told without. */
struct ids {
	uint64_t *items; /* owned */
	size_t n, cap;
	bool names;      /* all names must be forgotten */
	bool lost;       /* everything; also where there is no memory */
};

struct evfs_notify {
	struct evfs_feed_listener listener; /* registered with meta */
	pthread_t thread;
	bool runs;              /* the thread was started */
	pthread_mutex_t lock;   /* leaf: all below */
	pthread_cond_t wake;    /* there is something to do */
	struct job *head, **tail; /* queue */
	bool news;              /* the feed has changes */
	bool names;             /* all names are to be forgotten */
	bool all;               /* everything is */
	bool stop;              /* the thread is to end */
	bool stopped;           /* no thread takes jobs any more */
};

static void changed_cb(void *ctx)
{
	struct evfs_notify *notify = ctx;

	(void)pthread_mutex_lock(&notify->lock);
	notify->news = true;
	(void)pthread_cond_signal(&notify->wake);
	(void)pthread_mutex_unlock(&notify->lock);
}

int evfs_notify_new(struct evfs_fs *fs, struct evfs_err *err)
{
	struct evfs_notify *notify = evfs_calloc(1, sizeof(*notify));

	if (!notify || pthread_mutex_init(&notify->lock, NULL) != 0 ||
	    pthread_cond_init(&notify->wake, NULL) != 0) {
		evfs_free(notify);
		return evfs_err_set(err, EVFS_ENOMEM, "notify: no memory");
	}
	notify->tail = &notify->head;
	notify->listener.ctx = notify;
	notify->listener.changed = changed_cb;
	fs->notify = notify;
	evfs_feed_add(fs->meta, &notify->listener);
	return 0;
}

/* ---- queueing ---- */

static void push(struct evfs_notify *notify, struct job *job)
{
	(void)pthread_mutex_lock(&notify->lock);
	if (job) {
		*notify->tail = job;
		notify->tail = &job->next;
	} else {
		notify->all = true;
	}
	(void)pthread_cond_signal(&notify->wake);
	(void)pthread_mutex_unlock(&notify->lock);
}

void evfs_notify_entry(struct evfs_fs *fs, evfs_ino dir, const char *name,
		       size_t name_len)
{
	struct job *job = evfs_calloc(1, sizeof(*job));

	if (job) {
		job->change.kind = EVFS_CHANGE_ENTRY;
		job->change.dir = dir;
		job->change.name_len = name_len;
		memcpy(job->change.name, name, name_len);
	}
	push(fs->notify, job);
}

void evfs_notify_attr(struct evfs_fs *fs, evfs_ino ino)
{
	struct job *job = evfs_calloc(1, sizeof(*job));

	if (job) {
		job->change.kind = EVFS_CHANGE_ATTR;
		job->change.ino = ino;
	}
	push(fs->notify, job);
}

void evfs_notify_names(struct evfs_fs *fs)
{
	struct evfs_notify *notify = fs->notify;

	(void)pthread_mutex_lock(&notify->lock);
	notify->names = true;
	(void)pthread_cond_signal(&notify->wake);
	(void)pthread_mutex_unlock(&notify->lock);
}

int evfs_notify_call(struct evfs_fs *fs,
		     void (*call)(struct evfs_fs *fs, void *arg), void *arg)
{
	struct evfs_notify *notify = fs->notify;
	struct job *job = evfs_calloc(1, sizeof(*job));
	bool stopped;

	if (!job)
		return EVFS_ENOMEM;
	job->kind = JOB_CALL;
	job->call = call;
	job->arg = arg;
	(void)pthread_mutex_lock(&notify->lock);
	stopped = notify->stopped;
	if (!stopped) {
		*notify->tail = job;
		notify->tail = &job->next;
		(void)pthread_cond_signal(&notify->wake);
	}
	(void)pthread_mutex_unlock(&notify->lock);
	if (stopped) {
		evfs_free(job);
		call(fs, arg);
	}
	return 0;
}

/* ---- telling ---- */

static void ids_add(struct ids *ids, uint64_t id)
{
	void *items = ids->items;

	for (size_t i = ids->n; i > 0 && i + 64 > ids->n; i--)
		if (ids->items[i - 1] == id)
			return; /* mostly the same directory again */
	if (evfs_grow(&items, ids->n, &ids->cap, sizeof(*ids->items)) != 0) {
		ids->lost = true;
		return;
	}
	ids->items = items;
	ids->items[ids->n++] = id;
}

static void add_dir_cb(void *arg, uint64_t id, struct evfs_node_rec *rec)
{
	if (rec->type == EVFS_NODE_DIR)
		ids_add(arg, id);
}

/* All nodes that the kernel has for the directory of this member. Meta locked.
 */
static void nodes_of_dir(struct evfs_fs *fs, evfs_ino ino, struct ids *ids)
{
	struct evfs_dir dir = { 0 };

	evfs_nodes_each_of(fs, ino, add_dir_cb, ids);
	if (evfs_view_dir(fs->meta, ino, &dir, NULL) != 0)
		return;
	for (size_t i = 0; i < dir.n; i++)
		if (!evfs_dot_equal(dir.members[i], ino))
			evfs_nodes_each_of(fs, dir.members[i], add_dir_cb,
					   ids);
	evfs_dir_fini(&dir);
}

/* Results are of no use: ENOENT says that the kernel did not know it. */
static void forget_entry(struct evfs_fs *fs, uint64_t parent,
			 const char *name, size_t len)
{
	(void)fuse_lowlevel_notify_inval_entry(fs->se, parent, name, len);
}

static void forget_data(struct evfs_fs *fs, uint64_t id)
{
	(void)fuse_lowlevel_notify_inval_inode(fs->se, id, 0, 0);
}

static void forget_attr(struct evfs_fs *fs, uint64_t id)
{
	(void)fuse_lowlevel_notify_inval_inode(fs->se, id, -1, 0);
}

void evfs_notify_flush_now(struct evfs_fs *fs, uint64_t id)
{
	forget_data(fs, id);
}

void evfs_notify_attr_now(struct evfs_fs *fs, uint64_t id)
{
	forget_attr(fs, id);
}

static void tell_entry(struct evfs_fs *fs, const struct evfs_change *change,
		       struct ids *dirs)
{
	struct ids here = { 0 };

	evfs_meta_lock(fs->meta);
	nodes_of_dir(fs, change->dir, &here);
	evfs_meta_unlock(fs->meta);
	for (size_t i = 0; i < here.n; i++) {
		evfs_op_name_gone(fs, here.items[i], change->name,
				  change->name_len);
		forget_entry(fs, here.items[i], change->name,
			     change->name_len);
		ids_add(dirs, here.items[i]);
	}
	if (here.lost)
		dirs->lost = true;
	evfs_free(here.items);
}

/* ---- attributes of one object ---- */

/* Of one object there may be several: each version that is shown is a node with
 * a name of its own. */
struct attr_news {
	struct evfs_fs *fs;
	struct ids nodes;     /* whose attributes are to be forgotten */
	struct ids siblings;  /* of these, siblings that nobody has open */
	bool closed;          /* there is a file that nobody has open */
};

struct place {
	uint64_t dir;                 /* node id */
	char name[EVFS_NAME_MAX + 1];
	size_t len;
};

struct places {
	struct place *items; /* owned */
	size_t n, cap;
};

static void places_add(struct evfs_fs *fs, struct places *places,
		       evfs_ino parent, const void *name, size_t len)
{
	struct ids dirs = { 0 };

	nodes_of_dir(fs, parent, &dirs);
	for (size_t i = 0; i < dirs.n; i++) {
		void *items = places->items;

		if (evfs_grow(&items, places->n, &places->cap,
			      sizeof(*places->items)) != 0)
			break;
		places->items = items;
		places->items[places->n].dir = dirs.items[i];
		places->items[places->n].len = len;
		memcpy(places->items[places->n].name, name, len);
		places->items[places->n++].name[len] = '\0';
	}
	evfs_free(dirs.items);
}

/* Table locked (meta, too). */
static void attr_node_cb(void *arg, uint64_t id, struct evfs_node_rec *rec)
{
	struct attr_news *news = arg;
	struct evfs_file *file = NULL;
	bool open = false;

	ids_add(&news->nodes, id);
	if (rec->type != EVFS_NODE_FILE)
		return;
	/* also where it is not open: an open may be on its way */
	if (rec->is_full) {
		file = rec->as.full->file;
		(void)pthread_mutex_lock(&news->fs->dirty_lock);
		file->times_stale = true;
		open = file->n_open > 0;
		(void)pthread_mutex_unlock(&news->fs->dirty_lock);
	} else {
		rec->times_stale = true;
	}
	if (open)
		return;
	news->closed = true;
	if (file && file->handle.sibling)
		ids_add(&news->siblings, id);
}

/* Meta locked. The generated name that a sibling was found by. */
static void add_sibling(struct evfs_fs *fs, struct places *places, uint64_t id)
{
	struct evfs_node *node;

	if (evfs_node_full(fs, id, &node, NULL) == 0 && node->file)
		places_add(fs, places, node->file->handle.parent,
			   node->file->handle.name,
			   node->file->handle.name_len);
}

/* Without a message of opens it may be open for all we know: it is told again
 * until the kernel has given it up (fs/seal.c). Without memory it is not. */
static void tell_again(struct evfs_fs *fs, evfs_ino ino)
{
	void *items;

	(void)pthread_mutex_lock(&fs->dirty_lock);
	items = fs->stale;
	if (evfs_grow(&items, fs->n_stale, &fs->stale_cap,
		      sizeof(*fs->stale)) == 0) {
		fs->stale = items;
		fs->stale[fs->n_stale++] = ino;
	}
	(void)pthread_mutex_unlock(&fs->dirty_lock);
}

/* With writeback caching the kernel keeps its own times of a file for as long
 * as it keeps the inode; so when nobody has the file open, its names are
 * forgotten, and with the last of them the inode. */
static void tell_attr(struct evfs_fs *fs, evfs_ino ino)
{
	struct attr_news news = { .fs = fs };
	const struct evfs_object *object = NULL;
	struct places places = { 0 };

	evfs_meta_lock(fs->meta);
	evfs_nodes_each_of(fs, ino, attr_node_cb, &news);
	for (size_t i = 0; i < news.siblings.n; i++)
		add_sibling(fs, &places, news.siblings.items[i]);
	if (!news.closed ||
	    evfs_facts_get(fs->facts, ino, &object, NULL) != 0)
		object = NULL;
	for (size_t i = 0; object && i < object->n_links; i++)
		places_add(fs, &places, object->links[i].place.parent,
			   object->links[i].place.name,
			   object->links[i].place.name_len);
	evfs_meta_unlock(fs->meta);
	if (news.closed && atomic_load(&fs->quiet_opens))
		tell_again(fs, ino);
	for (size_t i = 0; i < news.nodes.n; i++)
		forget_attr(fs, news.nodes.items[i]);
	for (size_t i = 0; i < places.n; i++)
		forget_entry(fs, places.items[i].dir, places.items[i].name,
			     places.items[i].len);
	evfs_free(news.nodes.items);
	evfs_free(news.siblings.items);
	evfs_free(places.items);
}

/* ---- everything ---- */

/* Linux 6.16 and newer revalidate each name after this. */
static bool new_epoch(struct evfs_fs *fs)
{
	const struct {
		uint32_t len;
		int32_t code;
		uint64_t unique;
	} message = { sizeof(message), NOTIFY_INC_EPOCH, 0 };

	return write(fuse_session_fd(fs->se), &message, sizeof(message)) ==
	       (ssize_t)sizeof(message);
}

static int list_cb(void *arg, struct evfs_entry *entry)
{
	struct places *places = arg;
	void *items = places->items;

	if (evfs_grow(&items, places->n, &places->cap,
		      sizeof(*places->items)) != 0)
		return 1;
	places->items = items;
	places->items[places->n].len = entry->name_len;
	(void)strcpy(places->items[places->n++].name, entry->name);
	return 0;
}

/* Names that are there now, which the kernel may think absent. */
static void forget_listing(struct evfs_fs *fs, uint64_t id)
{
	struct evfs_node *node = evfs_node_pin(fs, id);
	struct places places = { 0 };
	int rc = 0;

	if (!node)
		return;
	if (node->type == EVFS_NODE_DIR) {
		evfs_meta_lock(fs->meta);
		rc = evfs_view_list(fs->meta, node->key, NULL, 0, list_cb,
				    &places, NULL);
		evfs_meta_unlock(fs->meta);
	}
	evfs_node_unpin(fs, node);
	/* A directory that is gone has nothing to be forgotten. */
	for (size_t i = 0; rc == 0 && i < places.n; i++)
		forget_entry(fs, id, places.items[i].name,
			     places.items[i].len);
	evfs_free(places.items);
}

/* The name that a node was found by, in every directory that it may be in. */
static void forget_found(struct evfs_fs *fs, const struct evfs_node_seen *seen)
{
	struct ids dirs = { 0 };

	if (!seen->noted)
		return;
	evfs_meta_lock(fs->meta);
	nodes_of_dir(fs, seen->dir, &dirs);
	evfs_meta_unlock(fs->meta);
	for (size_t i = 0; i < dirs.n; i++)
		forget_entry(fs, dirs.items[i], seen->name,
			     strlen(seen->name));
	evfs_free(dirs.items);
}

/* One of all nodes. times: of a file, too, which the kernel does not believe
 * until it has given it up (tell_attr). */
static void tell_node(struct evfs_fs *fs, const struct evfs_node_seen *seen,
		      bool by_name, bool times)
{
	if (by_name && seen->type == EVFS_NODE_DIR)
		forget_listing(fs, seen->id);
	if (seen->type == EVFS_NODE_DIR)
		forget_data(fs, seen->id);
	else
		forget_attr(fs, seen->id);
	if (times && seen->type == EVFS_NODE_FILE)
		tell_attr(fs, seen->key);
}

/* What the kernel looks up meanwhile it sees as it is: names first, so that it
 * has to look. */
static void tell_all(struct evfs_fs *fs, bool times)
{
	struct evfs_node_seen items[ALL_BATCH];
	bool by_name = !new_epoch(fs);
	uint32_t cursor = 0;
	size_t n;

	while (by_name &&
	       (n = evfs_nodes_next(fs, &cursor, items, ALL_BATCH)) > 0)
		for (size_t i = 0; i < n; i++)
			forget_found(fs, &items[i]);
	cursor = 0;
	while ((n = evfs_nodes_next(fs, &cursor, items, ALL_BATCH)) > 0)
		for (size_t i = 0; i < n; i++)
			tell_node(fs, &items[i], by_name, times);
}

/* ---- the thread ---- */

static void tell(struct evfs_fs *fs, const struct evfs_change *change,
		 struct ids *dirs)
{
	switch (change->kind) {
	case EVFS_CHANGE_ENTRY:
		tell_entry(fs, change, dirs);
		break;
	case EVFS_CHANGE_ATTR:
		tell_attr(fs, change->ino);
		break;
	case EVFS_CHANGE_NAMES:
		dirs->names = true;
		break;
	case EVFS_CHANGE_ALL:
		dirs->lost = true;
		break;
	}
}

static void tell_feed(struct evfs_fs *fs, struct ids *dirs)
{
	struct evfs_change *change = evfs_feed_take(fs->meta);

	while (change) {
		struct evfs_change *next = change->next;

		tell(fs, change, dirs);
		evfs_change_free(change);
		change = next;
	}
}

static void run_jobs(struct evfs_fs *fs, struct job *job, struct ids *dirs)
{
	while (job) {
		struct job *next = job->next;

		if (job->kind == JOB_CHANGE)
			tell(fs, &job->change, dirs);
		else
			job->call(fs, job->arg);
		evfs_free(job);
		job = next;
	}
}

static void *thread_main(void *arg)
{
	struct evfs_fs *fs = arg;
	struct evfs_notify *notify = fs->notify;
	bool stop = false;

	while (!stop) {
		struct ids dirs = { 0 };
		struct job *jobs;
		bool news;

		(void)pthread_mutex_lock(&notify->lock);
		while (!notify->head && !notify->news && !notify->names &&
		       !notify->all && !notify->stop)
			(void)pthread_cond_wait(&notify->wake, &notify->lock);
		jobs = notify->head;
		notify->head = NULL;
		notify->tail = &notify->head;
		news = notify->news;
		notify->news = false;
		dirs.names = notify->names;
		dirs.lost = notify->all;
		notify->names = notify->all = false;
		stop = notify->stop && !jobs;
		notify->stopped = stop;
		(void)pthread_mutex_unlock(&notify->lock);
		if (news)
			tell_feed(fs, &dirs);
		run_jobs(fs, jobs, &dirs);
		/* Listings once for all of their names. The names came
		 * first: that waits for listings under way. */
		for (size_t i = 0; i < dirs.n; i++)
			forget_data(fs, dirs.items[i]);
		if (dirs.names || dirs.lost)
			tell_all(fs, dirs.lost);
		evfs_free(dirs.items);
	}
	return NULL;
}

int evfs_notify_start(struct evfs_fs *fs, struct evfs_err *err)
{
	int rc = evfs_thread_start(&fs->notify->thread, thread_main, fs,
				   "notify thread", err);

	fs->notify->runs = rc == 0;
	return rc;
}

void evfs_notify_stop(struct evfs_fs *fs)
{
	struct evfs_notify *notify = fs->notify;

	if (!notify || !notify->runs)
		return;
	(void)pthread_mutex_lock(&notify->lock);
	notify->stop = true;
	(void)pthread_cond_signal(&notify->wake);
	(void)pthread_mutex_unlock(&notify->lock);
	(void)pthread_join(notify->thread, NULL);
	notify->runs = false;
}

void evfs_notify_free(struct evfs_fs *fs)
{
	struct evfs_notify *notify = fs->notify;
	struct job *job;

	if (!notify)
		return;
	evfs_feed_remove(fs->meta, &notify->listener);
	while ((job = notify->head)) {
		notify->head = job->next;
		evfs_free(job);
	}
	(void)pthread_cond_destroy(&notify->wake);
	(void)pthread_mutex_destroy(&notify->lock);
	evfs_free(notify);
	fs->notify = NULL;
}
