/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What the kernel knows: its node ids, and what each of them stands for.
 *
 * A node is a directory (any of the objects that are this one directory), a
 * file *as of one version* (so that a remote version is another node, which is
 * what keeps a writing kernel's cached size and pages true), another object
 * (symlink, device, ...), or something generated below /.evfs. Node ids are
 * never used twice, so a stale one is noticed.
 *
 * Locks: `lock` is a leaf below the meta lock and protects tables and counts.
 * What identifies a file (its handle) is under the meta lock. */
#ifndef EVFS_FS_NODE_H
#define EVFS_FS_NODE_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "meta/tree.h"
#include "meta/view.h"

struct evfs_fs;
struct evfs_virtual;
struct evfs_work;
struct evfs_reader;

enum evfs_node_type {
	EVFS_NODE_DIR,
	EVFS_NODE_FILE,
	EVFS_NODE_OTHER,  /* symlink, FIFO, socket, device */
	EVFS_NODE_VIRTUAL /* below /.evfs */
};

/* A file's data. Lock order: writer, data, meta, leaves. */
struct evfs_file {
	struct evfs_handle handle;  /* meta lock */
	pthread_mutex_t writer;     /* one writer or sealer at a time */
	pthread_rwlock_t data;      /* the two below */
	struct evfs_work *work;     /* owned: bytes not sealed yet, or NULL */
	struct evfs_reader *reader; /* one reference, of what handle shows */
	bool logged;                /* a seal failed, and that stands in the
	                             * log; under writer */
	/* "pub": under the fs's dirty_lock. */
	int error;                  /* of a seal that failed, EVFS_E...: for
	                             * fsync and close */
	bool dirty;                 /* on the list; holds a pin */
	uint64_t dirty_ns;          /* monotonic: since when */
	uint64_t flushed_ns;        /* monotonic: when the kernel last gave up
	                             * what it had cached, or the open */
	uint64_t size;              /* while dirty: what stat shows */
	int64_t mtime_s;            /* the same */
	uint32_t mtime_ns;
	bool timed;                 /* that time is in a version: a new one
	                             * goes into the register */
	uint64_t closed_ns;         /* stamp of the last close(2) since it was
	                             * changed; 0: none */
	uint64_t checked_ns;        /* monotonic: last compared with another
	                             * replica; 0 = never */
	unsigned n_open;            /* open handles */
	unsigned n_writers;         /* those that may write */
	bool times_stale;           /* times changed elsewhere: the kernel must
	                             * drop its inode, at the last close if it
	                             * has not before */
	bool stale_listed;          /* on the fs's list of these */
	struct evfs_node *dirty_next, *dirty_prev;
};

struct evfs_node {
	uint64_t id;               /* the kernel's; constant */
	enum evfs_node_type type;  /* constant */
	enum evfs_kind kind;       /* constant */
	uint64_t nlookup;          /* the kernel's references; table lock */
	unsigned pins;             /* ours: requests, open handles, dirty data;
	                            * table lock */
	bool dying;                /* somebody is about to free it */
	struct evfs_node *id_next; /* chain of the table by id */
	struct evfs_node *key_next; /* chain of the table by key */
	evfs_ino key;              /* object: of a directory some member; of a
	                            * file what its handle stands for (meta and
	                            * table lock); NONE for virtual ones */
	evfs_stamp link;           /* OTHER: the link it was found by, or, when
	                            * that went, another; meta lock */
	evfs_ino parent;           /* where it was last found, and its name */
	char *name;                /* there (owned; meta lock); NULL: root */
	struct evfs_file *file;    /* FILE: owned */
	struct evfs_virtual *virt; /* VIRTUAL: owned (fs/evfs_dir.c) */
};

struct evfs_nodes {
	pthread_mutex_t lock;       /* leaf */
	struct evfs_node **by_id;   /* owned; mask + 1 chains */
	struct evfs_node **by_key;  /* owned; mask + 1 chains */
	size_t mask;                /* of both */
	size_t n;                   /* nodes */
	uint64_t next_id;           /* never goes back */
};

/* Makes the table and the root node (id 1, never freed). */
int evfs_nodes_init(struct evfs_fs *fs, struct evfs_err *err) EVFS_MUST_USE;
/* Frees all nodes; nobody uses them any more. */
void evfs_nodes_fini(struct evfs_fs *fs);

/* The node of an id, pinned, or NULL. */
struct evfs_node *evfs_node_pin(struct evfs_fs *fs, uint64_t id);
/* One more pin of a node that is pinned or locked. */
void evfs_node_pin_more(struct evfs_fs *fs, struct evfs_node *node);
/* Not with meta locked: may free the node. NULL is fine. */
void evfs_node_unpin(struct evfs_fs *fs, struct evfs_node *node);
/* The kernel drops n of its references. Not with meta locked. */
void evfs_node_forget(struct evfs_fs *fs, uint64_t id, uint64_t n);

/* The node that stands for what `entry` in directory `dir` shows, found or
 * made; one kernel reference is added. Meta locked. The caller must hand the
 * reference to the kernel or give it back with evfs_node_forget(). */
int evfs_node_of_entry(struct evfs_fs *fs, evfs_ino dir,
		       const struct evfs_entry *entry, struct evfs_node **ret,
		       struct evfs_err *err) EVFS_MUST_USE;

/* The node that stands for what `entry` shows, pinned, or NULL where the kernel
 * knows none. Meta locked. */
struct evfs_node *evfs_node_find(struct evfs_fs *fs,
				 const struct evfs_entry *entry);

/* One more kernel reference (a new hard link). */
void evfs_node_look(struct evfs_fs *fs, struct evfs_node *node);

/* A node for something generated; takes virt on success. `same` tells whether
 * an existing one is meant. One kernel reference is added. */
int evfs_node_of_virtual(struct evfs_fs *fs, struct evfs_virtual *virt,
			 struct evfs_node **ret, struct evfs_err *err)
	EVFS_MUST_USE;

/* Is a file or directory of this object known, other than `except`? Calls each
 * for every known node of object `key`; table locked, so each only notes. */
void evfs_nodes_each_of(struct evfs_fs *fs, evfs_ino key,
			void (*each)(void *arg, struct evfs_node *node),
			void *arg);
/* All nodes. */
void evfs_nodes_each(struct evfs_fs *fs,
		     void (*each)(void *arg, struct evfs_node *node),
		     void *arg);

/* Meta locked: an operation may have made files of siblings; nodes whose
 * handles stand for another object now are filed under that. O(nodes): called
 * only where a name had siblings. */
void evfs_nodes_rekey(struct evfs_fs *fs);
/* The same for one node. */
void evfs_node_rekey(struct evfs_fs *fs, struct evfs_node *node);

#endif
