/* SPDX-License-Identifier: GPL-3.0-or-later */
/* An object: an inode with all its links, the unit of merging and transfer.
 *
 * Everything in it is a fact of a join-semilattice (docs/CONSISTENCY.md):
 * alive dots and versions are sets of dots, the rest are registers that the
 * greatest stamp wins. An object is immutable once it is shared: an edit is
 * made on a copy. All memory of an object is in its own arena, so a copy is
 * one allocation or two, and freeing is one call. Pure; not thread-safe, but
 * an object that nobody changes may be read from any thread. */
#ifndef EVFS_META_OBJECT_H
#define EVFS_META_OBJECT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/mem.h"
#include "meta/context.h"
#include "meta/dot.h"

#define EVFS_NAME_MAX 255
#define EVFS_TARGET_MAX 4095       /* bytes of a symlink target */
#define EVFS_XATTR_NAME_MAX 255
#define EVFS_XATTR_VALUE_MAX 65536
#define EVFS_FILE_SIZE_MAX ((uint64_t)1 << 50)
#define EVFS_OBJECT_LINKS_MAX 65000
#define EVFS_OBJECT_BYTES_MAX (8u << 20) /* encoded; larger is refused */

enum evfs_kind {
	EVFS_KIND_FILE = 1,
	EVFS_KIND_DIR = 2,
	EVFS_KIND_SYMLINK = 3,
	EVFS_KIND_FIFO = 4,
	EVFS_KIND_SOCKET = 5,
	EVFS_KIND_CHARDEV = 6,
	EVFS_KIND_BLOCKDEV = 7
};

/* Sorted, without duplicates. */
struct evfs_dots {
	evfs_dot *items; /* in the object's arena */
	size_t n;
};

/* Register: where a link is, and the directory it was last moved from. */
struct evfs_place {
	evfs_stamp stamp;
	evfs_ino parent;
	evfs_ino origin;
	const uint8_t *name; /* in the arena; bytes, no NUL, no '/' */
	size_t name_len;     /* 1 to EVFS_NAME_MAX */
};

struct evfs_link {
	evfs_stamp id; /* of its making; names the link within the object */
	struct evfs_place place;
	struct evfs_dots alive; /* empty = removed */
};

struct evfs_version {
	evfs_dot dot;
	struct evfs_dots bases; /* what its writer had opened */
	uint64_t time_ns;       /* stamp; (time_ns, dot) orders versions */
	evfs_hash content;      /* see meta/content.h */
	uint64_t size;          /* bytes */
	int64_t mtime_s;
	uint32_t mtime_ns;      /* 0 to 999,999,999 */
};

enum evfs_attr_kind {
	EVFS_ATTR_MODE = 1,  /* value: mode bits 07777 */
	EVFS_ATTR_OWNER = 2, /* value: uid, gid */
	EVFS_ATTR_TIMES = 3, /* value: mtime as set by utimens, and atime */
	EVFS_ATTR_XATTR = 4  /* key and value bytes; value absent = removed */
};

/* A register. Order of attrs in an object: by (kind, key bytes). */
struct evfs_attr {
	enum evfs_attr_kind kind;
	const uint8_t *key; /* XATTR: full name, "user.x"; else NULL */
	size_t key_len;
	evfs_stamp stamp;
	union {
		uint32_t mode;
		struct {
			uint32_t uid, gid;
		} owner;
		struct {
			int64_t mtime_s, atime_s;
			uint32_t mtime_ns, atime_ns;
		} times;
		struct {
			const uint8_t *data; /* in the arena */
			size_t len;
			bool removed;        /* a tombstone of the key */
		} xattr;
	} value;
	struct evfs_dots saw; /* MODE with set-ID bits: versions seen */
};

/* Dotlog row: the newest dot of an actor that this state contains. */
struct evfs_log_row {
	evfs_actor actor;
	uint64_t counter;
};

/* One transaction over several objects: this object's dot in it, and the
 * others with theirs (this one included), sorted by ino. */
struct evfs_tie_end {
	evfs_ino ino;
	evfs_dot dot;
};

struct evfs_tie {
	evfs_dot dot;
	struct evfs_tie_end *ends; /* in the arena */
	size_t n;
};

/* A kind of fact that a newer version has written and this one does not know:
 * kept, hashed and passed on as it came; joined by union. */
struct evfs_extra {
	uint32_t field;      /* number in meta/object.proto, from 16 */
	const uint8_t *data; /* in the arena */
	size_t len;          /* bytes */
};

struct evfs_object {
	evfs_ino ino;        /* == dot of creation ("born") */
	enum evfs_kind kind; /* constant */
	uint32_t rdev;       /* constant; devices only */
	const uint8_t *target; /* constant; symlink; in the arena */
	size_t target_len;
	uint64_t change_ns;  /* greatest clock of any operation on it: ctime.
	                      * Joined by max, not a live fact. */
	struct evfs_link *links; /* sorted by id; a directory has one, the
	                          * root none */
	size_t n_links;
	struct evfs_version *versions; /* sorted by dot; files only */
	size_t n_versions;
	struct evfs_attr *attrs; /* sorted by (kind, key) */
	size_t n_attrs;
	struct evfs_log_row *log; /* sorted by actor */
	size_t n_log;
	struct evfs_tie *ties; /* sorted by dot */
	size_t n_ties;
	struct evfs_extra *extras; /* sorted by (field, bytes); mostly none */
	size_t n_extras;
	struct evfs_arena arena; /* owns all of the above */
};

/* A new empty object in memory of its own (the struct lies in its own arena);
 * NULL when out of memory. Freed with evfs_object_free(). */
struct evfs_object *evfs_object_new(evfs_ino ino, enum evfs_kind kind);
struct evfs_object *evfs_object_copy(const struct evfs_object *object);
void evfs_object_free(struct evfs_object *object);

/* ---- reading ---- */

/* "file", "dir", "symlink", "fifo", ...; "unknown" for no kind. */
const char *evfs_kind_text(enum evfs_kind kind);

/* Has this link something to show: alive, and for a file some version? */
bool evfs_link_is_live(const struct evfs_object *object,
		       const struct evfs_link *link);
/* Any live link? */
bool evfs_object_is_live(const struct evfs_object *object);
size_t evfs_object_live_links(const struct evfs_object *object);
/* The oldest live link, where concurrent versions are shown; NULL = none. */
const struct evfs_link *
evfs_object_sibling_link(const struct evfs_object *object);
/* The only link of a directory (NULL for the root). */
const struct evfs_link *evfs_object_only_link(const struct evfs_object *dir);
struct evfs_link *evfs_object_find_link(const struct evfs_object *object,
					const evfs_stamp *id);
struct evfs_version *evfs_object_find_version(const struct evfs_object *object,
					      evfs_dot dot);
/* The version with the greatest (time_ns, dot); NULL = none. */
const struct evfs_version *
evfs_object_newest_version(const struct evfs_object *object);
/* Order of versions for the plain name: by (time_ns, dot). */
int evfs_version_cmp(const struct evfs_version *a,
		     const struct evfs_version *b);
struct evfs_attr *evfs_object_find_attr(const struct evfs_object *object,
					enum evfs_attr_kind kind,
					const void *key, size_t key_len);
uint64_t evfs_object_log_get(const struct evfs_object *object,
			     evfs_actor actor);
/* Does a replica with this context, whose own state of the object is `object`
 * (NULL = absent), cover this dot of the object? */
bool evfs_object_covers(const struct evfs_object *object,
			const struct evfs_context *context, evfs_dot dot);
/* Every dot of the object's log within the context? */
bool evfs_object_log_covered(const struct evfs_object *object,
			     const struct evfs_context *context);
bool evfs_dots_has(const struct evfs_dots *dots, evfs_dot dot);

/* ---- editing a private copy; 0 or EVFS_ENOMEM ----
 * What is given is copied into the object's arena; it may be a part of the
 * same object. Adding a link, version, attr, tie or row moves the array:
 * pointers into it are void afterwards. */

/* Sets log[dot.actor] to at least dot.counter. */
int evfs_object_log_raise(struct evfs_object *object, evfs_dot dot)
	EVFS_MUST_USE;
/* Adds a link, or replaces the one of the same id. */
int evfs_object_add_link(struct evfs_object *object,
			 const struct evfs_link *link) EVFS_MUST_USE;
/* Replaces link's place. */
int evfs_object_set_place(struct evfs_object *object, struct evfs_link *link,
			  const struct evfs_place *place) EVFS_MUST_USE;
/* alive := {dot}, or the empty set where dot is NULL. */
int evfs_object_set_alive(struct evfs_object *object, struct evfs_link *link,
			  const evfs_dot *dot) EVFS_MUST_USE;
/* Adds a version, or replaces the one of the same dot. */
int evfs_object_put_version(struct evfs_object *object,
			    const struct evfs_version *version) EVFS_MUST_USE;
/* Nothing happens where it is not there. */
void evfs_object_remove_version(struct evfs_object *object, evfs_dot dot);
/* Adds or replaces the register of the same kind and key. */
int evfs_object_put_attr(struct evfs_object *object,
			 const struct evfs_attr *attr) EVFS_MUST_USE;
/* Adds a tie, or replaces the one of the same dot. */
int evfs_object_put_tie(struct evfs_object *object,
			const struct evfs_tie *tie) EVFS_MUST_USE;
/* Only before the object is shared: it is a constant. */
int evfs_object_set_target(struct evfs_object *object, const void *target,
			   size_t len) EVFS_MUST_USE;

/* ---- bytes ---- */

/* Appends the object's encoding (protobuf, meta/object.proto): what a row of
 * the store holds and what travels. 0, EVFS_ENOMEM, or EVFS_ELIMIT where it
 * would exceed EVFS_OBJECT_BYTES_MAX; nothing is appended on failure. */
int evfs_object_encode(const struct evfs_object *object, struct evfs_buf *out)
	EVFS_MUST_USE;

/* The encoding is no longer than this: cheap, and mostly about twice as much. */
size_t evfs_object_size_bound(const struct evfs_object *object);

/* Is this a state that the rest may rely on? 0, or EVFS_ECORRUPT with the rule
 * that is broken. */
int evfs_object_check(const struct evfs_object *object, struct evfs_err *err)
	EVFS_MUST_USE;

/* Decodes and validates everything that the rest relies on: sizes, names,
 * order, kinds, dots; EVFS_ECORRUPT with a reason otherwise, EVFS_ENEWER for
 * parts of known facts that a newer version has added. Bytes from a peer pass
 * through here before they touch anything. */
int evfs_object_decode(const void *data, size_t len,
		       struct evfs_object **ret, struct evfs_err *err)
	EVFS_MUST_USE;

/* BLAKE2b-256 of the canonical bytes of the live facts: kind, target, live
 * links (a directory's link always), versions, attrs; not the log, ties, dead
 * links, change_ns or the atime. Equal on all replicas that hold the same
 * live facts. */
int evfs_object_live_hash(const struct evfs_object *object, evfs_hash *ret)
	EVFS_MUST_USE;

/* All facts equal (log, ties and change_ns included)? */
bool evfs_object_equal(const struct evfs_object *a,
		       const struct evfs_object *b);

#endif
