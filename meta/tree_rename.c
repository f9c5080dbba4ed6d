/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Renaming.
 *
 * What moves is asserted under its new place; what is replaced is unlinked
 * with what was seen; the siblings beside both names are promoted, so that
 * nothing pops up. mv of a sibling over its plain name settles the conflict:
 * that content becomes the version that replaces both. mv of a sibling to
 * another name makes it a file of its own.
 *
 * A rename of a directory may open a cycle, or make an origin reachable that
 * was not; then directories whose moves are undone would jump by themselves.
 * So it first writes down where each of those is shown. */
#include "meta/tree_priv.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "meta/meta.h"

/* ---- what may be renamed ---- */

static bool dirs_meet(const struct evfs_dir *a, const struct evfs_dir *b)
{
	for (size_t i = 0; i < a->n; i++)
		for (size_t k = 0; k < b->n; k++)
			if (evfs_dot_equal(a->members[i], b->members[k]))
				return true;
	return false;
}

/* Is the directory that `spot` is in the directory `top`, or below it? */
static int is_below(struct evfs_tx *tx, const struct evfs_spot *spot,
		    const struct evfs_dir *top, bool *ret)
{
	struct evfs_dir at = { 0 };
	int rc = evfs_view_dir(tx->meta, spot->dir.members[0], &at, tx->err);

	*ret = false;
	while (rc == 0 && !evfs_ino_is_root(at.members[0])) {
		struct evfs_dir above = { 0 };
		char name[EVFS_NAME_MAX + 1];

		*ret = dirs_meet(&at, top);
		if (*ret)
			break;
		rc = evfs_view_parent(tx->meta, at.members[0], &above, name,
				      tx->err);
		evfs_dir_fini(&at);
		at = above;
	}
	evfs_dir_fini(&at);
	return rc;
}

/* May this directory go where `to` is? */
static int check_directory(struct evfs_tx *tx, const struct evfs_entry *entry,
			   const struct evfs_spot *to)
{
	bool below = false;
	int rc;

	for (size_t i = 0; i < entry->dir.n; i++)
		if (evfs_ino_is_lost(entry->dir.members[i]))
			return evfs_err_set(tx->err, EVFS_EBUSY,
					    "lost+found cannot be moved");
	rc = is_below(tx, to, &entry->dir, &below);
	if (rc == 0 && below)
		rc = evfs_err_set(tx->err, EVFS_EINVAL,
				  "a directory cannot be moved into itself");
	return rc;
}

static int check_target(struct evfs_tx *tx, const struct evfs_entry *source,
			const struct evfs_entry *target)
{
	bool empty = false;
	int rc;

	if (target->kind == EVFS_KIND_DIR && source->kind != EVFS_KIND_DIR)
		return evfs_err_set(tx->err, EVFS_EISDIR,
				    "target is a directory");
	if (target->kind != EVFS_KIND_DIR && source->kind == EVFS_KIND_DIR)
		return evfs_err_set(tx->err, EVFS_ENOTDIR,
				    "target is not a directory");
	if (target->kind != EVFS_KIND_DIR)
		return 0;
	for (size_t i = 0; i < target->dir.n; i++)
		if (evfs_ino_is_lost(target->dir.members[i]))
			return evfs_err_set(tx->err, EVFS_EBUSY,
					    "lost+found cannot be replaced");
	rc = evfs_view_is_empty(tx->meta, target->dir.members[0], &empty,
				tx->err);
	if (rc == 0 && !empty)
		rc = evfs_err_set(tx->err, EVFS_ENOTEMPTY,
				  "target directory not empty");
	return rc;
}

static bool same_inode(const struct evfs_entry *a, const struct evfs_entry *b)
{
	return a->kind != EVFS_KIND_DIR && b->kind != EVFS_KIND_DIR &&
	       !a->is_sibling && !b->is_sibling &&
	       evfs_dot_equal(a->members[0].ino, b->members[0].ino);
}

/* ---- moving ---- */

static bool is_sibling_of(const struct evfs_spot *sibling,
			  const struct evfs_spot *plain)
{
	const struct evfs_entry *entry = &sibling->entry;

	return entry->is_sibling &&
	       evfs_dot_equal(sibling->dir.members[0],
			      plain->dir.members[0]) &&
	       entry->plain_len == plain->name_len &&
	       memcmp(entry->plain, plain->name, plain->name_len) == 0;
}

struct undone {
	struct evfs_cycle_row *rows; /* owned */
	size_t n, cap;
	bool nomem; /* not all of them could be kept */
};

static int collect_undone(void *arg, const struct evfs_cycle_row *row)
{
	struct undone *undone = arg;
	void *items = undone->rows;

	if (evfs_dot_equal(row->shown_in, EVFS_INO_NONE))
		return 0;
	if (evfs_grow(&items, undone->n, &undone->cap,
		      sizeof(*undone->rows)) != 0) {
		undone->nomem = true;
		return 1;
	}
	undone->rows = items;
	undone->rows[undone->n++] = *row;
	return 0;
}

static int row_order(const void *a, const void *b)
{
	const struct evfs_cycle_row *x = a, *y = b;

	return evfs_dot_cmp(x->dir, y->dir);
}

static int pin(struct evfs_tx *tx, const struct evfs_cycle_row *row)
{
	const struct evfs_object *object = NULL;
	const struct evfs_link *link;
	struct evfs_where to = { .parent = row->shown_in };
	int rc = evfs_tx_before(tx, row->dir, &object);

	if (rc != 0)
		return rc;
	link = evfs_object_only_link(object);
	to.name = (const char *)link->place.name;
	to.name_len = link->place.name_len;
	return evfs_tx_put_place(tx, row->dir, &link->id, &to,
				 &row->shown_in);
}

static bool is_moving(const struct evfs_dir *dir, evfs_ino ino)
{
	for (size_t i = 0; dir != NULL && i < dir->n; i++)
		if (evfs_dot_equal(dir->members[i], ino))
			return true;
	return false;
}

/* moving, moving_too (may be NULL): they get new places anyway. */
static int pin_undone(struct evfs_tx *tx, const struct evfs_dir *moving,
		      const struct evfs_dir *moving_too)
{
	struct undone undone = { 0 };
	int rc;

	if (evfs_facts_counter(tx->facts, EVFS_COUNTER_CYCLES) == 0)
		return 0;
	rc = evfs_facts_cycles(tx->facts, collect_undone, &undone, tx->err);
	if (undone.nomem)
		rc = evfs_tx_nomem(tx);
	if (rc == 0 && undone.n > 0) {
		tx->origin = EVFS_FEED_REMOTE;
		qsort(undone.rows, undone.n, sizeof(*undone.rows), row_order);
	}
	for (size_t i = 0; i < undone.n && rc == 0; i++)
		if (!is_moving(moving, undone.rows[i].dir) &&
		    !is_moving(moving_too, undone.rows[i].dir))
			rc = pin(tx, &undone.rows[i]);
	evfs_free(undone.rows);
	return rc;
}

/* A sibling goes elsewhere: its link where it shows nothing else there, else
 * its version. split_only: links that the other side needs (NULL = none). */
static int move_sibling(struct evfs_tx *tx, const struct evfs_spot *source,
			const struct evfs_where *to,
			const struct evfs_entry *split_only)
{
	const struct evfs_entry *entry = &source->entry;
	struct evfs_beside at = { source->dir.members[0], entry->plain,
				  entry->plain_len };
	evfs_ino carrier = EVFS_INO_NONE;

	tx->origin = EVFS_FEED_REMOTE;
	for (size_t i = 0; i < entry->n_members; i++) {
		const struct evfs_member_link *m = &entry->members[i];
		bool whole = false;
		int rc = evfs_tx_shows_only(tx, m, &whole);

		if (rc == 0 && !whole)
			rc = evfs_tx_shared_top(tx, m, &whole);
		if (split_only != NULL &&
		    evfs_entry_has_link(split_only, m->ino, &m->link))
			whole = false;
		if (rc == 0 && whole)
			rc = evfs_tx_isolate(tx, &at, m);
		if (rc == 0 && whole)
			rc = evfs_tx_put_place(tx, m->ino, &m->link, to, NULL);
		else if (rc == 0)
			rc = evfs_tx_split_off(tx, m, to, &carrier);
		if (rc != 0)
			return rc;
		if (whole && evfs_dot_equal(carrier, EVFS_INO_NONE))
			carrier = m->ino;
	}
	return 0;
}

static int move_directory(struct evfs_tx *tx, const struct evfs_spot *source,
			  const struct evfs_where *to,
			  const struct evfs_dir *moving_too)
{
	struct evfs_link_set none = { 0 };
	struct evfs_beside at = { source->dir.members[0], source->name,
				  source->name_len };
	int rc = evfs_tx_promote_all(tx, &at, &none, NULL, NULL);

	if (rc == 0)
		rc = pin_undone(tx, &source->entry.dir, moving_too);
	for (size_t i = 0; i < source->entry.dir.n && rc == 0; i++) {
		const struct evfs_object *object = NULL;
		evfs_ino ino = source->entry.dir.members[i];

		rc = evfs_tx_get(tx, ino, &object);
		if (rc == 0)
			rc = evfs_tx_put_place(
				tx, ino, &evfs_object_only_link(object)->id,
				to, &source->dir.members[0]);
	}
	return rc;
}

static int move_links(struct evfs_tx *tx, const struct evfs_spot *source,
		      const struct evfs_where *to,
		      const struct evfs_entry *spare)
{
	evfs_cleanup_links struct evfs_link_set leaving = { 0 };
	const struct evfs_entry *entry = &source->entry;
	struct evfs_beside at = { source->dir.members[0], source->name,
				  source->name_len };
	int rc = evfs_link_set_add_entry(tx, &leaving, entry);

	if (rc == 0)
		rc = evfs_tx_promote_all(tx, &at, &leaving, spare, NULL);
	for (size_t i = 0; i < entry->n_members && rc == 0; i++)
		rc = evfs_tx_put_place(tx, entry->members[i].ino,
				       &entry->members[i].link, to, NULL);
	return rc;
}

static int replace_target(struct evfs_tx *tx, const struct evfs_spot *source,
			  const struct evfs_spot *target)
{
	bool sibling = source->entry.is_sibling;

	if (target->entry.is_sibling)
		return evfs_tx_drop_sibling(tx, target->dir.members[0],
					    &target->entry);
	return evfs_tx_vacate(tx, target->dir.members[0], &target->entry,
			      is_sibling_of(source, target) ? &source->entry :
							      NULL,
			      sibling ? &source->entry : NULL);
}

static int move(struct evfs_tx *tx, const struct evfs_spot *source,
		const struct evfs_spot *target)
{
	struct evfs_where to = evfs_spot_where(target);
	int rc = 0;

	/* First, for the same version may be a sibling at the target too. */
	if (source->entry.is_sibling)
		rc = move_sibling(tx, source, &to, NULL);
	if (rc == 0 && target->exists)
		rc = replace_target(tx, source, target);
	if (rc != 0 || source->entry.is_sibling)
		return rc;
	if (source->entry.kind == EVFS_KIND_DIR)
		return move_directory(tx, source, &to, NULL);
	return move_links(tx, source, &to,
			  target->exists && is_sibling_of(target, source) ?
				  &target->entry :
				  NULL);
}

/* ---- exchange ---- */

static int exchange_one(struct evfs_tx *tx, const struct evfs_spot *from,
			const struct evfs_spot *with)
{
	struct evfs_where to = evfs_spot_where(with);

	if (from->entry.is_sibling)
		return move_sibling(tx, from, &to, &with->entry);
	if (from->entry.kind == EVFS_KIND_DIR)
		return move_directory(tx, from, &to,
				      with->entry.kind == EVFS_KIND_DIR ?
					      &with->entry.dir :
					      NULL);
	return move_links(tx, from, &to,
			  is_sibling_of(with, from) ? &with->entry : NULL);
}

/* Both names give up their siblings, then what is behind each takes the place
 * of the other. A sibling goes first: it may stand on a link of the other. */
static int exchange(struct evfs_tx *tx, const struct evfs_spot *a,
		    const struct evfs_spot *b)
{
	const struct evfs_spot *first = b->entry.is_sibling ? b : a;
	int rc = 0;

	if (a->entry.kind == EVFS_KIND_DIR)
		rc = check_directory(tx, &a->entry, b);
	if (rc == 0 && b->entry.kind == EVFS_KIND_DIR)
		rc = check_directory(tx, &b->entry, a);
	if (rc != 0 || same_inode(&a->entry, &b->entry))
		return rc;
	rc = exchange_one(tx, first, first == a ? b : a);
	return rc == 0 ? exchange_one(tx, first == a ? b : a, first) : rc;
}

/* ---- rename ---- */

static int check_exists(struct evfs_tx *tx, const struct evfs_spot *source,
			const struct evfs_spot *target, unsigned flags)
{
	if (!source->exists ||
	    (!target->exists && (flags & EVFS_RENAME_EXCHANGE) != 0))
		return evfs_err_set(tx->err, EVFS_ENOTFOUND,
				    "no such file or directory");
	if (target->exists && (flags & EVFS_RENAME_NOREPLACE) != 0)
		return evfs_err_set(tx->err, EVFS_EEXISTS,
				    "target exists");
	return 0;
}

static int rename_plain(struct evfs_tx *tx, const struct evfs_spot *source,
			const struct evfs_spot *target)
{
	const struct evfs_member_link *shared = NULL;
	int rc = 0;

	if (source->entry.kind == EVFS_KIND_DIR)
		rc = check_directory(tx, &source->entry, target);
	if (rc == 0 && target->exists)
		rc = check_target(tx, &source->entry, &target->entry);
	if (rc != 0)
		return rc;
	/* Two names of one inode: POSIX does nothing. */
	if (target->exists && same_inode(&source->entry, &target->entry))
		return 0;
	if (target->exists && is_sibling_of(source, target) &&
	    source->entry.kind == EVFS_KIND_FILE &&
	    target->entry.kind == EVFS_KIND_FILE)
		shared = evfs_tx_shared_link(&source->entry,
					     &target->entry);
	return shared != NULL ? evfs_tx_choose(tx, source, target, shared) :
				move(tx, source, target);
}

static int rename_spots(struct evfs_tx *tx, const struct evfs_spot *source,
			const struct evfs_spot *target, unsigned flags)
{
	int rc = check_exists(tx, source, target, flags);

	if (rc != 0 || evfs_spot_same(source, target))
		return rc;
	rc = (flags & EVFS_RENAME_EXCHANGE) != 0 ?
		     exchange(tx, source, target) :
		     rename_plain(tx, source, target);
	if (rc != 0 || tx->n_edits == 0)
		return rc;
	rc = evfs_tx_assert_above(tx, source->dir.members[0]);
	return rc == 0 ? evfs_tx_assert_above(tx, target->dir.members[0]) : rc;
}

int evfs_tree_rename(struct evfs_meta *meta, evfs_ino dir, const char *name,
		     size_t name_len, evfs_ino new_dir, const char *new_name,
		     size_t new_name_len, unsigned flags,
		     struct evfs_err *err)
{
	evfs_cleanup_spot struct evfs_spot source = { 0 }, target = { 0 };
	struct evfs_tx tx;
	int rc;

	if ((flags & ~(unsigned)(EVFS_RENAME_NOREPLACE |
				 EVFS_RENAME_EXCHANGE)) != 0 ||
	    flags == (EVFS_RENAME_NOREPLACE | EVFS_RENAME_EXCHANGE))
		return evfs_err_set(err, EVFS_EINVAL,
				    "rename: flags %#x: not supported", flags);
	evfs_tx_init(&tx, meta, err);
	rc = evfs_spot_find(&tx, dir, name, name_len, &source);
	if (rc == 0)
		rc = evfs_spot_find(&tx, new_dir, new_name, new_name_len,
				    &target);
	if (rc == 0)
		rc = rename_spots(&tx, &source, &target, flags);
	return evfs_tx_finish(&tx, rc);
}
