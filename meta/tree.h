/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What each file operation writes (DESIGN, "What each operation writes";
 * model/ops.py is the same in executable form). Every operation is one
 * transaction: one dot for each object that it touches, of this replica's
 * actor; all or nothing. It is visible here at once and durable after the next
 * commit (evfs_meta_sync).
 *
 * All functions are called with meta locked. Directories are given by any
 * member ino. Names: bytes, checked here (EVFS_ENAMETOOLONG, EVFS_EINVAL for
 * empty, ".", "..", '/' or NUL). Errors are those that POSIX names for the
 * operation; permissions are not checked here. */
#ifndef EVFS_META_TREE_H
#define EVFS_META_TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/hash.h"
#include "meta/dot.h"
#include "meta/feed.h"
#include "meta/object.h"
#include "meta/view.h"

struct evfs_meta;

/* ---- handles ----
 * A handle stands for a file that somebody has open (or that the kernel may
 * hold pages of): the object, the link it was reached through, and the
 * version(s) that it shows. It keeps its version whatever merges do; the
 * operations of this replica carry it along (a write refreshes its base, an
 * unlink makes it an orphan, a promoted sibling takes its handles with it).
 * Storage is the caller's, registered with meta; at most one needs to exist
 * for each shown file, however often it is open. Fields are read by the owner
 * under the meta lock and written by tree.c only. */
struct evfs_handle {
	evfs_ino ino;
	evfs_stamp link;
	evfs_dot *base; /* owned; sorted versions it was opened on; none for
	                 * a file that has never been sealed */
	size_t n_base;
	uint64_t base_time_ns; /* greatest stamp of the base */
	bool sibling;          /* reached by a generated name */
	bool orphan;           /* removed on this replica: writes go nowhere */
	bool loose;            /* O_TMPFILE: has no object yet (ino NONE) */
	bool registered;       /* tree.c: in the table of handles */
	uint64_t work;         /* fs: number of its working copy on the disk,
	                        * 0 = none; noted (meta/works.h) in the
	                        * transaction that makes it an orphan */
	evfs_ino parent;       /* where it was opened, for a sibling that */
	char name[EVFS_NAME_MAX + 1]; /* must become a file of its own */
	size_t name_len;
	bool has_shown;        /* tree.c: there is a base, and it is this: */
	evfs_hash content;     /* (a version never changes, so what was opened
	                        * is known here even when it is superseded) */
	uint64_t size;         /* bytes */
	int64_t mtime_s;
	uint32_t mtime_ns;
	struct evfs_handle *next, *prev; /* tree.c: handles of one bucket */
};

/* Opens what an entry shows (files only: EISDIR, ELOOP) and registers the
 * handle. dir: a member of the directory that the entry is in. */
int evfs_tree_open(struct evfs_meta *meta, evfs_ino dir,
		   const struct evfs_entry *entry, struct evfs_handle *handle,
		   struct evfs_err *err) EVFS_MUST_USE;
/* O_TMPFILE: a handle without object, until evfs_tree_link_handle(). The same
 * as zeroed storage with loose set. */
void evfs_tree_open_loose(struct evfs_handle *handle);
void evfs_tree_close(struct evfs_meta *meta, struct evfs_handle *handle);
/* Is a handle of this object registered? Then garbage collection leaves the
 * object and its dead links alone, for a write may bring them back. */
bool evfs_tree_is_open(struct evfs_meta *meta, evfs_ino ino);

/* What stands for a handle that nobody needs at the moment (struct evfs_handle
 * takes half a kilobyte, and a kernel may know a million files): the rest is
 * in the object, for as long as that has this link and this version. */
struct evfs_handle_key {
	evfs_ino ino;
	uint64_t link_node, link_ns; /* who made the link, and when: as two
	                              * links may be of one operation, and a
	                              * dot may get another epoch */
	bool has_base; /* it has been sealed; of one version: */
	evfs_dot base;
};

static inline void evfs_handle_key_link(struct evfs_handle_key *key,
					const evfs_stamp *link)
{
	key->link_node = link->dot.actor.node;
	key->link_ns = link->time_ns;
}

/* May the handle be closed, because the key would open the same again? */
bool evfs_tree_may_put_away(struct evfs_meta *meta,
			    const struct evfs_handle *handle,
			    struct evfs_handle_key *ret);
/* Opens and registers it again. ENOTFOUND: the object is not what it was. */
int evfs_tree_reopen(struct evfs_meta *meta, const struct evfs_handle_key *key,
		     struct evfs_handle *handle, struct evfs_err *err)
	EVFS_MUST_USE;
/* The link in this state of its object, or NULL. */
const struct evfs_link *evfs_tree_key_link(const struct evfs_handle_key *key,
					   const struct evfs_object *object);
/* Could it be opened from this state of its object? */
bool evfs_tree_fits(const struct evfs_handle_key *key,
		    const struct evfs_object *object);

/* Who has put handles away, or holds what has no handles (a removed directory
 * that somebody is in, a removed FIFO that is open). All are called with meta
 * locked. */
struct evfs_tree_holder {
	void *arg;
	/* Is the object held, though no handle of it is registered? */
	bool (*held)(void *arg, evfs_ino ino);
	/* An operation is about to change handles of this object: those that
	 * were put away are reopened. In the midst of an operation, so none is
	 * closed. */
	int (*wanted)(void *arg, evfs_ino ino, struct evfs_err *err);
	/* The object is about to be replaced by this: what would not fit any
	 * more is reopened while it can be. None is closed. */
	int (*changes)(void *arg, const struct evfs_object *object,
		       struct evfs_err *err);
	/* Dots were replaced. */
	void (*renewed)(void *arg,
			evfs_dot (*renew)(void *renew_arg, evfs_dot dot),
			void *renew_arg);
};

/* Borrowed; NULL: nobody. One at most. */
void evfs_tree_set_holder(struct evfs_meta *meta,
			  const struct evfs_tree_holder *holder);
/* For meta/index.c: tells the holder. */
int evfs_tree_changes(struct evfs_meta *meta, const struct evfs_object *object,
		      struct evfs_err *err) EVFS_MUST_USE;

/* For meta/life_renew.c: dots were replaced, and handles follow. */
void evfs_tree_renew(struct evfs_meta *meta,
		     evfs_dot (*renew)(void *arg, evfs_dot dot), void *arg);

/* The content that a handle shows now, by its base. has_version false: never
 * sealed. Works for orphans and superseded versions too: the handle remembers
 * them. Their bytes are kept by the history and by whoever has a reader of
 * them open: an owner of a handle that may be read opens one in time. */
struct evfs_shown {
	bool has_version;
	evfs_hash content;
	uint64_t size;
	int64_t mtime_s;
	uint32_t mtime_ns;
};
int evfs_tree_shown(struct evfs_meta *meta, const struct evfs_handle *handle,
		    struct evfs_shown *ret, struct evfs_err *err)
	EVFS_MUST_USE;

/* ---- making ---- */

struct evfs_content_ref {
	evfs_hash content;
	uint64_t size;
	int64_t mtime_s;
	uint32_t mtime_ns;
	uint64_t closed_ns; /* evfs_meta_stamp() of when its writer was done;
	                     * 0: now */
	bool keeps_set_id;  /* set-ID bits that the replaced version has stay:
	                     * where the writer might not keep them, somebody
	                     * has taken them away already */
};

struct evfs_new {
	enum evfs_kind kind;
	uint32_t mode; /* permission bits */
	uint32_t uid, gid;
	uint32_t rdev;
	const char *target; /* symlink */
	size_t target_len;
	const struct evfs_content_ref *content; /* first version, or NULL: a
	                                         * file without version is not
	                                         * shown to others yet */
	const struct evfs_attr *attrs; /* more registers (inherited ACL);
	                                * stamps are set here */
	size_t n_attrs;
};

/* A new object under a free name (EEXIST). ret: the object and its link. A
 * file without version is shown by lookup on this replica while a handle of
 * it is registered or it is unsealed (see evfs_tree_unsealed). */
int evfs_tree_create(struct evfs_meta *meta, evfs_ino dir, const char *name,
		     size_t name_len, const struct evfs_new *what,
		     evfs_ino *ret_ino, evfs_stamp *ret_link,
		     struct evfs_err *err) EVFS_MUST_USE;

/* A hard link to what the entry, or the handle, shows (EPERM for directories,
 * EMLINK). A sibling becomes a file of its own first. A handle whose file is
 * gone or replaced: ENOENT. A loose handle gets its object here (what: its
 * attributes, and its content unless it was given by evfs_tree_seal). */
int evfs_tree_link(struct evfs_meta *meta, evfs_ino from_dir,
		   const struct evfs_entry *entry, evfs_ino dir,
		   const char *name, size_t name_len, struct evfs_err *err)
	EVFS_MUST_USE;
int evfs_tree_link_handle(struct evfs_meta *meta, struct evfs_handle *handle,
			  const struct evfs_new *what, evfs_ino dir,
			  const char *name, size_t name_len,
			  struct evfs_err *err) EVFS_MUST_USE;

/* ---- writing ---- */

/* The writer is done: a version of this content, based on what the handle had
 * open. Orphans and loose handles write nothing (0); they only remember the
 * content. Afterwards handle->base is the new version. The content must be in
 * the store (evfs_content_...). */
int evfs_tree_seal(struct evfs_meta *meta, struct evfs_handle *handle,
		   const struct evfs_content_ref *content,
		   struct evfs_err *err) EVFS_MUST_USE;

/* Live files of this replica that have no version: what a crash left between
 * create and close. For recovery at start, before the mount answers. */
int evfs_tree_unsealed(struct evfs_meta *meta,
		       int (*each)(void *arg, evfs_ino ino), void *arg,
		       struct evfs_err *err) EVFS_MUST_USE;

/* ---- removing and moving ---- */

int evfs_tree_unlink(struct evfs_meta *meta, evfs_ino dir, const char *name,
		     size_t name_len, struct evfs_err *err) EVFS_MUST_USE;
int evfs_tree_rmdir(struct evfs_meta *meta, evfs_ino dir, const char *name,
		    size_t name_len, struct evfs_err *err) EVFS_MUST_USE;

enum {
	EVFS_RENAME_NOREPLACE = 1,
	EVFS_RENAME_EXCHANGE = 2
};
int evfs_tree_rename(struct evfs_meta *meta, evfs_ino dir, const char *name,
		     size_t name_len, evfs_ino new_dir, const char *new_name,
		     size_t new_name_len, unsigned flags,
		     struct evfs_err *err) EVFS_MUST_USE;

/* ---- attributes: the register alone ---- */

/* Sets one register of everything that the entry shows (equal contents under
 * one name are one file to the user; all members of a directory). attr: kind,
 * key and value; the stamp is set here. */
int evfs_tree_set_attr(struct evfs_meta *meta, evfs_ino dir,
		       const struct evfs_entry *entry,
		       const struct evfs_attr *attr, struct evfs_err *err)
	EVFS_MUST_USE;
/* For the root directory, and for objects that nothing shows. */
int evfs_tree_set_attr_of(struct evfs_meta *meta, evfs_ino ino,
			  const struct evfs_attr *attr, struct evfs_err *err)
	EVFS_MUST_USE;

/* Who causes the operations from now on, LOCAL at first. REMOTE: a command
 * beside the mount does, and the mount has to be told. */
void evfs_tree_set_origin(struct evfs_meta *meta,
			  enum evfs_feed_origin origin);

/* ---- settling conflicts ---- */

enum evfs_keep { EVFS_KEEP_THIS, EVFS_KEEP_NODE, EVFS_KEEP_NEWEST,
		 EVFS_KEEP_ALL };
/* `evfsctl resolve`: keeps the plain content (THIS), that of a node's sibling
 * (NODE, by name), the latest stamp (NEWEST), or makes every sibling a plain
 * file under the name it has (ALL). ENOENT where there is no conflict. */
int evfs_tree_resolve(struct evfs_meta *meta, evfs_ino dir, const char *name,
		      size_t name_len, enum evfs_keep keep,
		      const char *node_name, struct evfs_err *err)
	EVFS_MUST_USE;

/* After the last audit of a replica that had lost its memory: asserts the dead
 * directories that its own work stands in (model: Replica.audited). */
int evfs_tree_audited(struct evfs_meta *meta, struct evfs_err *err)
	EVFS_MUST_USE;

#endif
