/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What the kernel knows: its node ids, and what each of them stands for.
 *
 * A node is a directory (any of the objects that are this one directory), a
 * file *as of one version* (so that a remote version is another node, which is
 * what keeps a writing kernel's cached size and pages true), another object
 * (symlink, device, ...), or something generated below /.evfs. Node ids are
 * never used twice, so a stale one is noticed.
 *
 * What the kernel merely knows is a record (fs/node_table.h), which has the
 * kernel's references and what identifies the node. A node that is in use has a
 * full form (struct evfs_node), made when it is pinned. When its last pin goes
 * it stays as it is among the idle, of which the oldest beyond idle_max are put
 * away: a file's handle is closed, and the record remembers its key. What
 * cannot be had again from its key stays full until the kernel forgets it: a
 * file that was removed or replaced while the kernel knew it, a sibling, one
 * with several versions or with an error to tell. So that this is noticed in
 * time, the tree asks for the handles that an operation changes, and tells of
 * objects that a merge replaces (struct evfs_tree_holder): records that would
 * not fit any more become full before.
 *
 * Locks: `lock` is a leaf below the meta lock and protects table, counts and
 * lists. What identifies a file (its handle) is under the meta lock. A full
 * form comes and goes with both held (that of a directory comes with `lock`
 * alone): a pointer to it is good while it is pinned, or meta is locked. */
#ifndef EVFS_FS_NODE_H
#define EVFS_FS_NODE_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "fs/node_table.h"
#include "meta/tree.h"
#include "meta/view.h"

struct evfs_fs;
struct evfs_virtual;
struct evfs_work;
struct evfs_reader;

/* A file's data. Lock order: sealing, writer, data, meta, leaves. */
struct evfs_file {
	struct evfs_handle handle;  /* meta lock */
	pthread_mutex_t sealing;    /* one seal at a time */
	pthread_mutex_t writer;     /* one at a time who writes, or begins or
	                             * ends a seal */
	pthread_rwlock_t data;      /* the three below: to change one, and to
	                             * read one without `writer` */
	struct evfs_work *work;     /* owned: bytes not sealed yet, or NULL */
	struct evfs_work *frozen;   /* owned: those that are being sealed, or
	                             * NULL; work, if any, lies over it */
	struct evfs_reader *reader; /* one reference, of what handle shows;
	                             * kept until the last close, or, where
	                             * that is not heard of, until the node is
	                             * put away */
	bool logged;                /* a seal failed, and that stands in the
	                             * log; under writer */
	uint64_t noted;             /* the same as handle.work; under writer */
	struct evfs_content_ref frozen_as; /* under writer: what frozen is
	                             * sealed as; before that, where work lies
	                             * over it, its times */
	bool frozen_sealed;         /* that is done; under writer */
	uint64_t over_ns;           /* monotonic: when work was laid over it;
	                             * under writer */
	/* "pub": under the fs's dirty_lock. */
	int error;                  /* of a seal that failed, EVFS_E...: for
	                             * fsync and close */
	bool dirty;                 /* on the list; holds a pin */
	uint64_t dirty_ns;          /* monotonic: since when */
	uint64_t flushed_ns;        /* monotonic: when the kernel last gave up
	                             * what it had cached, or the open */
	uint64_t size;              /* while dirty: what stat shows */
	uint64_t room;              /* the same: bytes that it takes up */
	int64_t mtime_s;            /* the same */
	uint32_t mtime_ns;
	bool timed;                 /* that time is in a version: a new one
	                             * goes into the register */
	uint64_t closed_ns;         /* stamp of the last close(2) since it was
	                             * changed; 0: none */
	uint64_t checked_ns;        /* monotonic: last compared with another
	                             * replica; 0 = never */
	bool due;                   /* the sealer seals it now: it was kept
	                             * (fs/work.h), or closed while it was
	                             * being sealed */
	bool again;                 /* it was: for who seals it */
	unsigned n_open;            /* open handles */
	unsigned n_writers;         /* those that may write */
	bool times_stale;           /* times changed elsewhere: the kernel must
	                             * drop its inode, at the last close if it
	                             * has not before */
	struct evfs_node *dirty_next, *dirty_prev;
};

/* Full forms that nobody uses: what is asked about again and again stays. */
#define EVFS_NODES_IDLE_MAX 1024u

/* The full form. */
struct evfs_node {
	uint64_t id;               /* the kernel's; constant */
	enum evfs_node_type type;  /* constant */
	enum evfs_kind kind;       /* constant */
	unsigned pins;             /* ours: requests, open handles, dirty data;
	                            * table lock */
	bool dying;                /* somebody is about to free it */
	bool idle;                 /* on that list; table lock */
	evfs_ino key;              /* object: of a directory some member; of a
	                            * file what its handle stands for (meta and
	                            * table lock); NONE for virtual ones */
	evfs_stamp link;           /* OTHER: the link it was found by, or, when
	                            * that went, another; meta lock */
	struct evfs_file *file;    /* FILE: freed with the node */
	struct evfs_virtual *virt; /* VIRTUAL: owned (fs/evfs_dir.c) */
	struct evfs_node *next, *prev; /* of its list; table lock */
};

struct evfs_node_list {
	struct evfs_node *first, *last;
	size_t n;
};

struct evfs_nodes {
	pthread_mutex_t lock;         /* leaf */
	struct evfs_node_table table; /* records */
	struct evfs_node_list busy;   /* full: pinned, or cannot be put away */
	struct evfs_node_list idle;   /* full: by the end of their last use;
	                               * some may be pinned again */
	size_t idle_max;              /* EVFS_NODES_IDLE_MAX; tests: fewer */
	struct evfs_tree_holder holder; /* the tree's way to ask us */
};

/* Makes the table and the root node (id 1, never freed). */
int evfs_nodes_init(struct evfs_fs *fs, struct evfs_err *err) EVFS_MUST_USE;
/* Frees all nodes; nobody uses them any more. */
void evfs_nodes_fini(struct evfs_fs *fs);

/* The node of an id, pinned; NULL: there is none (or no memory). Not with meta
 * locked: a file that was put away is opened. */
struct evfs_node *evfs_node_pin(struct evfs_fs *fs, uint64_t id);
/* One more pin of a node that is pinned or locked. */
void evfs_node_pin_more(struct evfs_fs *fs, struct evfs_node *node);
/* Not with meta locked: may free the node. NULL is fine. */
void evfs_node_unpin(struct evfs_fs *fs, struct evfs_node *node);
/* The kernel drops n of its references. Not with meta locked. */
void evfs_node_forget(struct evfs_fs *fs, uint64_t id, uint64_t n);

/* The node that stands for what `entry` in directory `dir` shows, found or
 * made; one kernel reference is added. Meta locked. The caller must hand the
 * reference to the kernel or give it back with evfs_node_forget(). *ret: its
 * full form, without a pin. _known: the id alone, and *ret where there is a
 * full form already, else NULL. */
int evfs_node_known(struct evfs_fs *fs, evfs_ino dir,
		    const struct evfs_entry *entry, uint64_t *ret_id,
		    struct evfs_node **ret, struct evfs_err *err)
	EVFS_MUST_USE;
int evfs_node_of_entry(struct evfs_fs *fs, evfs_ino dir,
		       const struct evfs_entry *entry, struct evfs_node **ret,
		       struct evfs_err *err) EVFS_MUST_USE;

/* The node that stands for what `entry` shows, pinned, or NULL where the kernel
 * knows none. Meta locked. */
struct evfs_node *evfs_node_find(struct evfs_fs *fs,
				 const struct evfs_entry *entry);

/* Does the kernel refer to it? Table locked. */
bool evfs_node_is_known(struct evfs_fs *fs, const struct evfs_node *node);

/* One more kernel reference (a new hard link). */
void evfs_node_look(struct evfs_fs *fs, struct evfs_node *node);

/* A node for something generated; takes virt on success. `same` tells whether
 * an existing one is meant. One kernel reference is added. */
int evfs_node_of_virtual(struct evfs_fs *fs, struct evfs_virtual *virt,
			 struct evfs_node **ret, struct evfs_err *err)
	EVFS_MUST_USE;

/* Calls each for every known node of object `key`; table locked, so each only
 * notes. rec->as.full where rec->is_full. */
void evfs_nodes_each_of(struct evfs_fs *fs, evfs_ino key,
			void (*each)(void *arg, uint64_t id,
				     struct evfs_node_rec *rec),
			void *arg);
/* All that have a full form; table locked. */
void evfs_nodes_each(struct evfs_fs *fs,
		     void (*each)(void *arg, struct evfs_node *node),
		     void *arg);

/* What one of all nodes is, for those who look at each without holding up
 * everybody. */
struct evfs_node_seen {
	uint64_t id;
	enum evfs_node_type type;
	evfs_ino key;
	bool noted;    /* where it was found (struct evfs_node_table): */
	evfs_ino dir;
	char name[EVFS_NAME_MAX + 1];
};
/* The next nodes, up to max; returns how many. *cursor: 0 at first. Whatever
 * was known at the beginning, and still is, is seen once. */
size_t evfs_nodes_next(struct evfs_fs *fs, uint32_t *cursor,
		       struct evfs_node_seen *items, size_t max);

/* Meta locked: an operation may have made files of siblings; nodes whose
 * handles stand for another object now are filed under that. O(nodes in use):
 * called only where a name had siblings. */
void evfs_nodes_rekey(struct evfs_fs *fs);
/* The same for one node. */
void evfs_node_rekey(struct evfs_fs *fs, struct evfs_node *node);

#endif
