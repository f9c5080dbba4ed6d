/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The inside of the tree operations, for meta/tree*.c alone.
 *
 * An operation is a transaction (struct evfs_tx): it collects edited copies of
 * objects, reading the view as it was before the operation, and hands all of
 * them to evfs_index_put() at the end. Until then nothing is changed but open
 * handles, and those are put back when the operation fails.
 *
 * The functions bear the names of model/ops.py where they do what it does;
 * where the model has a path, they have a directory member and a name. */
#ifndef EVFS_META_TREE_PRIV_H
#define EVFS_META_TREE_PRIV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "meta/facts.h"
#include "meta/feed.h"
#include "meta/object.h"
#include "meta/tree.h"
#include "meta/view.h"

#define EVFS_SET_ID_BITS 06000u /* set-user-ID and set-group-ID */

/* ---- registered handles (tree_handle.c) ---- */

struct evfs_tree_state {
	struct evfs_handle **buckets; /* owned; chains by hash of ino */
	size_t n_buckets;             /* a power of two */
	size_t n_handles;             /* registered */
	enum evfs_feed_origin origin; /* of operations from now on */
	const struct evfs_tree_holder *holder; /* borrowed; or NULL */
};

/* The registered handles of one object. Take next before the handle gets
 * another ino. */
struct evfs_handle *evfs_handle_first(struct evfs_meta *meta, evfs_ino ino);
struct evfs_handle *evfs_handle_next(const struct evfs_handle *handle);

/* ---- transaction (tree.c) ---- */

struct evfs_tx_edit {
	struct evfs_object *object; /* owned until commit: the new state */
	evfs_dot dot;               /* of this operation, for this object */
};

struct evfs_tx_undo {
	struct evfs_handle *handle; /* somebody's; changed by the operation */
	struct evfs_handle old;     /* as it was; owns old.base */
};

struct evfs_tx_unsealed {
	evfs_ino ino;
	bool on; /* becomes a file without version, or ceases to be one */
};

struct evfs_tx {
	struct evfs_meta *meta;
	struct evfs_facts *facts;
	struct evfs_err *err; /* of the operation's caller; may be NULL */
	uint64_t time_ns;     /* first stamp taken; 0 = none yet */
	enum evfs_feed_origin origin; /* REMOTE once names change that the
	                               * mount did not ask about */
	struct evfs_tx_edit *edits; /* owned; in the order of their dots */
	size_t n_edits, cap_edits;
	struct evfs_tx_undo *undo; /* owned */
	size_t n_undo, cap_undo;
	struct evfs_tx_unsealed *unsealed; /* owned */
	size_t n_unsealed, cap_unsealed;
};

void evfs_tx_init(struct evfs_tx *tx, struct evfs_meta *meta,
		  struct evfs_err *err);
/* Ends it: commits where rc is 0, else puts everything back. Returns rc or
 * what the commit said. Frees. */
int evfs_tx_finish(struct evfs_tx *tx, int rc) EVFS_MUST_USE;
int evfs_tx_nomem(struct evfs_tx *tx);

/* As the operation has it by now, else as it is stored. ENOENT. Borrowed until
 * the object is edited. */
int evfs_tx_get(struct evfs_tx *tx, evfs_ino ino,
		const struct evfs_object **ret) EVFS_MUST_USE;
/* As it was before the operation. */
int evfs_tx_before(struct evfs_tx *tx, evfs_ino ino,
		   const struct evfs_object **ret) EVFS_MUST_USE;
bool evfs_tx_has_edit(const struct evfs_tx *tx, evfs_ino ino);
/* The copy to change, and this operation's dot for it. */
int evfs_tx_edit(struct evfs_tx *tx, evfs_ino ino, struct evfs_object **ret,
		 evfs_dot *ret_dot) EVFS_MUST_USE;
/* Adds a copy or a new object, with this operation's dot for it. Takes the
 * object, also on failure; NULL: out of memory. */
int evfs_tx_add_edit(struct evfs_tx *tx, struct evfs_object *object,
		     evfs_dot dot) EVFS_MUST_USE;
uint64_t evfs_tx_stamp(struct evfs_tx *tx, uint64_t over_ns);

/* ---- edits (tree_edit.c) ---- */

/* A name in a directory. */
struct evfs_where {
	evfs_ino parent;  /* object that the place register names */
	const char *name; /* borrowed */
	size_t name_len;
};

/* A new object with one link there. Of `what`, mode and owner are not looked
 * at: attrs has all registers (their stamps are set here). */
int evfs_tx_new_object(struct evfs_tx *tx, const struct evfs_where *where,
		       const struct evfs_new *what, struct evfs_object **ret)
	EVFS_MUST_USE;
int evfs_tx_set_alive(struct evfs_tx *tx, evfs_ino ino,
		      const evfs_stamp *link, bool alive) EVFS_MUST_USE;
int evfs_tx_unlink(struct evfs_tx *tx, evfs_ino ino, const evfs_stamp *link)
	EVFS_MUST_USE;
/* origin NULL: the parent that the link has now. */
int evfs_tx_put_place(struct evfs_tx *tx, evfs_ino ino, const evfs_stamp *link,
		      const struct evfs_where *to, const evfs_ino *origin)
	EVFS_MUST_USE;
int evfs_tx_put_attr(struct evfs_tx *tx, evfs_ino ino,
		     const struct evfs_attr *attr,
		     const struct evfs_dots *saw) EVFS_MUST_USE;
int evfs_tx_remove_versions(struct evfs_tx *tx, evfs_ino ino,
			    const evfs_dot *dots, size_t n) EVFS_MUST_USE;
/* over_ns: the version's stamp is greater than this too. */
int evfs_tx_put_version(struct evfs_tx *tx, evfs_ino ino,
			const struct evfs_dots *bases, uint64_t over_ns,
			const struct evfs_content_ref *content,
			evfs_dot *ret_dot) EVFS_MUST_USE;
int evfs_tx_set_unsealed(struct evfs_tx *tx, evfs_ino ino, bool on)
	EVFS_MUST_USE;

/* All handles of an object, those that were put away included: *ret as
 * evfs_handle_first() (tree_away.c). */
int evfs_tx_handles(struct evfs_tx *tx, evfs_ino ino,
		    struct evfs_handle **ret) EVFS_MUST_USE;
/* Before a handle is changed: remembers it (tree_handle.c). */
int evfs_tx_touch(struct evfs_tx *tx, struct evfs_handle *handle)
	EVFS_MUST_USE;
/* Gives a touched handle another object and link. */
void evfs_tx_handle_move(struct evfs_tx *tx, struct evfs_handle *handle,
			 evfs_ino ino, const evfs_stamp *link);
/* What a handle of this one version shows; all of its base but the dot. */
void evfs_handle_show(struct evfs_handle *handle,
		      const struct evfs_version *version);
/* Gives a touched handle another base: this one version. */
int evfs_tx_handle_base(struct evfs_tx *tx, struct evfs_handle *handle,
			const struct evfs_version *version) EVFS_MUST_USE;
/* Registers a handle whose ino is set; cannot fail. */
void evfs_handle_register(struct evfs_meta *meta, struct evfs_handle *handle);
/* Keeps or undoes what was done to handles. */
void evfs_tx_handles_end(struct evfs_tx *tx, bool undo);
/* Has the handle's base one of these dots? */
bool evfs_handle_meets(const struct evfs_handle *handle,
		       const evfs_dot *dots, size_t n);

/* ---- names and what is above them (tree_where.c) ---- */

int evfs_name_check(const char *name, size_t len, struct evfs_err *err)
	EVFS_MUST_USE;

/* A name that an operation was given, looked up. */
struct evfs_spot {
	struct evfs_dir dir;    /* owned; [0] is the face */
	bool exists;            /* the name shows something: */
	struct evfs_entry entry; /* owned */
	char name[EVFS_NAME_MAX + 1]; /* of the entry, else as given */
	size_t name_len;
};

int evfs_spot_find(struct evfs_tx *tx, evfs_ino dir, const char *name,
		   size_t name_len, struct evfs_spot *ret) EVFS_MUST_USE;
void evfs_spot_fini(struct evfs_spot *spot);
#define evfs_cleanup_spot __attribute__((cleanup(evfs_spot_fini)))
#define evfs_cleanup_entry __attribute__((cleanup(evfs_entry_fini)))
bool evfs_spot_same(const struct evfs_spot *a, const struct evfs_spot *b);
struct evfs_where evfs_spot_where(const struct evfs_spot *spot);

/* A directory that lives only through its children is asserted by an operation
 * below it, and so are those above. dir: any member of the directory. */
int evfs_tx_assert_above(struct evfs_tx *tx, evfs_ino dir) EVFS_MUST_USE;
/* The same by place registers, for a link that is not shown now. */
int evfs_tx_assert_above_facts(struct evfs_tx *tx, evfs_ino dir)
	EVFS_MUST_USE;

/* ---- siblings (tree_sibling.c) ---- */

struct evfs_link_name {
	evfs_ino ino;
	evfs_stamp link;
};

struct evfs_link_set {
	struct evfs_link_name *items; /* owned */
	size_t n, cap;
};

void evfs_link_set_fini(struct evfs_link_set *set);
#define evfs_cleanup_links __attribute__((cleanup(evfs_link_set_fini)))
int evfs_link_set_add(struct evfs_tx *tx, struct evfs_link_set *set,
		      evfs_ino ino, const evfs_stamp *link) EVFS_MUST_USE;
int evfs_link_set_add_entry(struct evfs_tx *tx, struct evfs_link_set *set,
			    const struct evfs_entry *entry) EVFS_MUST_USE;
bool evfs_link_set_has(const struct evfs_link_set *set, evfs_ino ino,
		       const evfs_stamp *link);
bool evfs_entry_has_link(const struct evfs_entry *entry, evfs_ino ino,
			 const evfs_stamp *link);

/* A plain name, for what has to look at the siblings beside it. */
struct evfs_beside {
	evfs_ino dir;      /* a member of the directory */
	const char *plain; /* borrowed */
	size_t plain_len;
};

/* Makes a sibling a plain file under the name that it has. *ret_carrier: the
 * object that carries it then, NONE if none does. */
int evfs_tx_promote(struct evfs_tx *tx, const struct evfs_entry *sibling,
		    const struct evfs_link_set *leaving,
		    struct evfs_link_set *moved, evfs_ino *ret_carrier)
	EVFS_MUST_USE;
/* Moves a version to an object of its own, or drops it where *carrier has
 * that content already. */
int evfs_tx_split_off(struct evfs_tx *tx, const struct evfs_member_link *member,
		      const struct evfs_where *to, evfs_ino *carrier)
	EVFS_MUST_USE;
/* All siblings beside a name but spare (a name, NULL = none). moved_first:
 * links that have been moved already (NULL = none). */
int evfs_tx_promote_all(struct evfs_tx *tx, const struct evfs_beside *at,
			const struct evfs_link_set *leaving,
			const struct evfs_entry *spare,
			const struct evfs_entry *moved_first) EVFS_MUST_USE;
/* What leaves a plain name: its siblings first, then its links. */
int evfs_tx_vacate(struct evfs_tx *tx, evfs_ino dir,
		   const struct evfs_entry *entry,
		   const struct evfs_entry *spare,
		   const struct evfs_entry *moved_first) EVFS_MUST_USE;
int evfs_tx_shows_only(struct evfs_tx *tx,
		       const struct evfs_member_link *member, bool *ret)
	EVFS_MUST_USE;
int evfs_tx_shared_top(struct evfs_tx *tx,
		       const struct evfs_member_link *member, bool *ret)
	EVFS_MUST_USE;
int evfs_tx_isolate(struct evfs_tx *tx, const struct evfs_beside *at,
		    const struct evfs_member_link *member) EVFS_MUST_USE;
int evfs_tx_leave_name(struct evfs_tx *tx, const struct evfs_beside *at,
		       const struct evfs_member_link *member) EVFS_MUST_USE;
int evfs_tx_drop_sibling(struct evfs_tx *tx, evfs_ino dir,
			 const struct evfs_entry *entry) EVFS_MUST_USE;

/* ---- choosing (tree_choose.c) ---- */

/* The link that both show a content of; NULL: none. */
const struct evfs_member_link *
evfs_tx_shared_link(const struct evfs_entry *source,
		    const struct evfs_entry *target);
/* The content of source, a sibling, replaces that of its plain name; they
 * share this link. */
int evfs_tx_choose(struct evfs_tx *tx, const struct evfs_spot *source,
		   const struct evfs_spot *target,
		   const struct evfs_member_link *link) EVFS_MUST_USE;

#endif
