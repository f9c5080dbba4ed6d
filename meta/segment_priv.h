/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The inside of the containers, for meta/segment*.c alone. Functions ending in
 * _locked are called with set->mutex held. */
#ifndef EVFS_META_SEGMENT_PRIV_H
#define EVFS_META_SEGMENT_PRIV_H

#include <pthread.h>

#include "base/behind.h"
#include "meta/segment.h"

#define EVFS_CONTAINER_FDS_MAX 256u /* kept open, as far as not in use */

struct evfs_container {
	uint64_t id;                   /* names the file */
	enum evfs_container_kind kind; /* constant */
	uint64_t end;      /* where the next record goes; a blob's size */
	uint64_t synced;   /* bytes before it are on disk for sure */
	unsigned pins;     /* readers, puts and the like that need it */
	int fd;            /* -1: closed */
	unsigned fd_uses;  /* who has the descriptor in hand */
	uint64_t fd_time;  /* of its last use; the oldest is closed first */
	uint64_t fresh_from; /* what is behind it was written at, */
	uint64_t fresh_ns; /* or soon after, this time; 0 = by others */
	struct evfs_behind behind; /* how far it was passed */
	bool passing;      /* that is under way */
	unsigned passes;   /* how often it was */
	bool passed;       /* leaves memory after the next sync, */
	uint64_t pass_from; /* from here on */
	bool lost;         /* it met a failed write, which the kernel does not
	                    * tell a second time */
	bool dirty;        /* in the queue for the next sync */
	bool failed;       /* a sync failed: write again before the next */
	struct evfs_container *dirty_next; /* queue; pinned by it */
	uint8_t *memory;   /* owned; a container held in memory */
	size_t memory_cap; /* bytes allocated of it */
};

struct evfs_containers {
	pthread_mutex_t mutex; /* protects all below */
	pthread_cond_t pass_over; /* a container's `passes` went up */
	char *dir;             /* owned; NULL: in memory; constant */
	const struct evfs_env *env; /* borrowed; constant */
	struct evfs_container **all; /* owned, sorted by id */
	size_t n, cap;         /* of all */
	struct evfs_container *current; /* takes appends; may be NULL */
	uint64_t next_id;      /* never given out before */
	bool ready;            /* directories made and swept */
	bool dir_dirty[3];     /* by kind: has new names to sync */
	unsigned n_open;       /* descriptors */
	uint64_t fd_clock;     /* counts uses */
	struct evfs_container *dirty_head, *dirty_tail; /* to be synced */
	size_t n_dirty;        /* length of that queue */
};

/* "DIR/segments/000000000001"; NULL: no memory. */
char *evfs_container_path(const struct evfs_containers *set,
			  enum evfs_container_kind kind, uint64_t id);
int evfs_container_open_fd_locked(struct evfs_containers *set,
				  struct evfs_container *container,
				  struct evfs_err *err) EVFS_MUST_USE;
void evfs_container_close_fd_locked(struct evfs_containers *set,
				    struct evfs_container *container);
void evfs_container_mark_dirty_locked(struct evfs_containers *set,
				      struct evfs_container *container);
void evfs_container_unmark_dirty_locked(struct evfs_containers *set,
					struct evfs_container *container);
/* Makes the directories, removes files that nothing names, and picks the
 * segment to go on with. Once. */
int evfs_containers_prepare_locked(struct evfs_containers *set,
				   struct evfs_err *err) EVFS_MUST_USE;
size_t evfs_containers_search_locked(const struct evfs_containers *set,
				     uint64_t id);
/* A new one in the list, without file. */
int evfs_containers_insert_locked(struct evfs_containers *set, uint64_t id,
				  enum evfs_container_kind kind, uint64_t end,
				  struct evfs_container **ret,
				  struct evfs_err *err) EVFS_MUST_USE;
void evfs_containers_forget_locked(struct evfs_containers *set, size_t at);

#endif
