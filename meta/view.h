/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The view: the mounted tree as a pure function of the facts, answered name by
 * name from the index instead of computed whole (DESIGN, "The view", rules 1
 * to 6; tests/lib/refview.c is the plain O(n) form that it must equal).
 *
 * Called with meta locked. Results are copies of the caller's (…_fini). */
#ifndef EVFS_META_VIEW_H
#define EVFS_META_VIEW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/hash.h"
#include "meta/dot.h"
#include "meta/object.h"

struct evfs_meta;

/* A directory as it is shown: all objects that are this one directory; the
 * first (smallest) is its face, whose attributes count (rule 3). */
struct evfs_dir {
	evfs_ino *members; /* owned, sorted */
	size_t n;
};

/* One link behind a shown name, and which versions of its inode that name
 * shows (all of equal content; newest first; none for symlinks, specials). */
struct evfs_member_link {
	evfs_ino ino;
	evfs_stamp link;
	evfs_dot *dots; /* owned */
	size_t n_dots;
};

/* What one name shows. */
struct evfs_entry {
	enum evfs_kind kind;
	char name[EVFS_NAME_MAX + 1];  /* as shown; NUL-terminated */
	size_t name_len;
	bool is_sibling;               /* a generated name; then: */
	char plain[EVFS_NAME_MAX + 1]; /* the name that it stands beside */
	size_t plain_len;
	struct evfs_dir dir;           /* directories */
	struct evfs_member_link *members; /* others; owned; [0] gave the name
	                                   * and has the attributes */
	size_t n_members;
	bool has_version;              /* files: */
	evfs_hash content;
	uint64_t size;
	int64_t mtime_s;               /* of that version; see evfs_view_attr */
	uint32_t mtime_ns;
	uint64_t version_time_ns;      /* stamp of members[0].dots[0] */
};

void evfs_dir_fini(struct evfs_dir *dir);
void evfs_entry_fini(struct evfs_entry *entry); /* {0} is fine */

/* The directory that `ino` is a member of, with all its members. ENOENT where
 * it is not shown (removed, hidden, unknown). */
int evfs_view_dir(struct evfs_meta *meta, evfs_ino ino, struct evfs_dir *ret,
		  struct evfs_err *err) EVFS_MUST_USE;

/* The directory that shows it, and its name there. The root: itself and "".
 * `reachable`, always checked: ENOENT where no way leads up to the root. */
int evfs_view_parent(struct evfs_meta *meta, evfs_ino dir,
		     struct evfs_dir *ret_parent, char name[EVFS_NAME_MAX + 1],
		     struct evfs_err *err) EVFS_MUST_USE;

/* What `name` in the directory of member `dir` shows; a generated name is
 * found also where its version has become the plain one (then entry->name is
 * the plain name). ENOENT, ENOTDIR. */
int evfs_view_lookup(struct evfs_meta *meta, evfs_ino dir, const char *name,
		     size_t name_len, struct evfs_entry *ret,
		     struct evfs_err *err) EVFS_MUST_USE;

/* The entries of a directory in memcmp order of their shown names, those
 * greater than `after` (NULL: from the start). A non-zero return of the
 * callback stops without error; the callback borrows the entry (it may steal
 * from it) and may call the view. */
int evfs_view_list(struct evfs_meta *meta, evfs_ino dir, const char *after,
		   size_t after_len,
		   int (*each)(void *arg, struct evfs_entry *entry),
		   void *arg, struct evfs_err *err) EVFS_MUST_USE;

/* Is anything shown in it? */
int evfs_view_is_empty(struct evfs_meta *meta, evfs_ino dir, bool *ret,
		       struct evfs_err *err) EVFS_MUST_USE;

/* The group at one plain name: [0] is what has the name (a directory first,
 * else the file that took it last), the others are its siblings with their
 * generated names. n = 0: nothing. */
int evfs_view_group(struct evfs_meta *meta, evfs_ino dir, const char *plain,
		    size_t plain_len, struct evfs_entry **ret, size_t *ret_n,
		    struct evfs_err *err) EVFS_MUST_USE;
void evfs_view_group_free(struct evfs_entry *group, size_t n);

/* The entry that shows one of these versions of this link (symlinks and
 * specials: the link), found from its place. dir: a member of the directory it
 * is in. ENOENT where nothing shows it. */
int evfs_view_find(struct evfs_meta *meta, evfs_ino ino,
		   const evfs_stamp *link, const evfs_dot *dots, size_t n,
		   evfs_ino *ret_dir, struct evfs_entry *ret,
		   struct evfs_err *err) EVFS_MUST_USE;

/* Looks up an absolute path, "/a/b" ("/" gives the root as an entry). */
int evfs_view_path(struct evfs_meta *meta, const char *path,
		   struct evfs_entry *ret, struct evfs_err *err)
	EVFS_MUST_USE;

/* What stat(2) needs beyond the entry. */
struct evfs_attributes {
	uint32_t mode; /* permission bits as shown (rule 6 applied) */
	uint32_t uid, gid;
	int64_t mtime_s, atime_s, ctime_s;
	uint32_t mtime_ns, atime_ns, ctime_ns;
	uint64_t nlink; /* live links; of a directory 2 and the subdirectories
	                 * (without lost+found), or 1: not counted */
	uint32_t rdev;
	uint64_t size;     /* files, symlinks */
	evfs_hash content; /* of a file's version, or of no bytes */
};

/* Attributes of an entry. mtime: of the version or of the times register,
 * whichever has the later stamp; a directory's: its register or the last
 * change of its entries. */
int evfs_view_attr(struct evfs_meta *meta, const struct evfs_entry *entry,
		   struct evfs_attributes *ret, struct evfs_err *err)
	EVFS_MUST_USE;

/* The same for an object that need not be shown (an open, removed file), on
 * the version `dot` (NULL: the newest, if any). */
int evfs_view_attr_of(struct evfs_meta *meta, evfs_ino ino,
		      const evfs_dot *dot, struct evfs_attributes *ret,
		      struct evfs_err *err) EVFS_MUST_USE;

/* Open conflicts: each plain name that has siblings, as a path. */
int evfs_view_conflicts(struct evfs_meta *meta,
			int (*each)(void *arg, const char *plain_path,
				    const struct evfs_entry *group, size_t n),
			void *arg, struct evfs_err *err) EVFS_MUST_USE;

/* The rules that made this entry what it is, each as a line of text with the
 * facts that met; "plain" where there is nothing to say. Appends to out. */
int evfs_view_why(struct evfs_meta *meta, evfs_ino dir,
		  const struct evfs_entry *entry, struct evfs_buf *out,
		  struct evfs_err *err) EVFS_MUST_USE;

/* The whole tree as sorted, stable text, one line an entry: what
 * `dump --view` prints. */
int evfs_view_dump(struct evfs_meta *meta, struct evfs_buf *out,
		   struct evfs_err *err) EVFS_MUST_USE;

/* ---- names of siblings (meta/sibling.c; pure) ---- */

/* STEM.conflict-NODE-DIGITS.EXT, see CONTRACT "Conflicts as sibling files".
 * digits: 8, 16 or 32; salt: the plain name too goes into the digest. out has
 * EVFS_NAME_MAX + 1 bytes; returns the length. node_name: name of the replica
 * that wrote the version. */
size_t evfs_sibling_name(const char *plain, size_t plain_len, evfs_dot dot,
			 const char *node_name, int digits, bool salt,
			 char *out);

#endif
