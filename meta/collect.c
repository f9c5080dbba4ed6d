/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The collector; collect.h says when something may go, and why. A pass walks
 * over the rows of meta/graves.h. What every member covers is settled anew in
 * each locked stretch, so a report that is taken back, or a member that is
 * added, counts at once. */
#include "meta/collect.h"

#include "base/mem.h"
#include "meta/collect_priv.h"
#include "meta/facts.h"
#include "meta/graves.h"
#include "meta/store.h"
#include "meta/tree.h"

#define STRETCH 64    /* objects looked at under one lock */
#define GROUP_MAX 128 /* objects that go only together */

static uint64_t collect_done(const struct evfs_collect *collect)
{
	return collect->stats.objects + collect->stats.links +
	       collect->stats.ties;
}

int evfs_collect_new(struct evfs_meta *meta, struct evfs_err *err)
{
	meta->collect = evfs_calloc(1, sizeof(*meta->collect));
	if (meta->collect == NULL)
		return evfs_err_set(err, EVFS_ENOMEM, "collect: out of memory");
	return 0;
}

void evfs_collect_free(struct evfs_meta *meta)
{
	if (meta->collect == NULL)
		return;
	evfs_context_fini(&meta->collect->began);
	evfs_free(meta->collect->blockers);
	evfs_free(meta->collect->open);
	evfs_free(meta->collect);
	meta->collect = NULL;
}

void evfs_collect_reset(struct evfs_meta *meta)
{
	if (meta->collect == NULL)
		return;
	meta->collect->running = false;
	meta->collect->again = true;
}

int evfs_collect_note(struct evfs_meta *meta, const struct evfs_object *before,
		      const struct evfs_object *object, struct evfs_err *err)
{
	bool added = false;
	int rc = evfs_graves_update(meta->facts, before, object, &added, err);

	if (added)
		meta->collect->noted++;
	return rc;
}

/* ---- one object ---- */

struct pass {
	struct evfs_meta *meta;
	struct evfs_collect *collect;
	struct evfs_reports reports;
	struct evfs_err *err;
};

/* Only asked where something of the object could go. An open file is
 * remembered: when it is closed, nothing else tells that it may go now. */
static int is_pinned(struct pass *pass, const struct evfs_object *object,
		     bool *ret)
{
	struct evfs_collect *collect = pass->collect;

	*ret = object->n_extras > 0;
	if (*ret || !evfs_tree_is_open(pass->meta, object->ino))
		return 0;
	*ret = true;
	if (evfs_grow((void **)&collect->open, collect->n_open,
		      &collect->cap_open, sizeof(*collect->open)) != 0)
		return evfs_err_set(pass->err, EVFS_ENOMEM,
				    "collect: out of memory");
	collect->open[collect->n_open++] = object->ino;
	return 0;
}

static bool is_stable(const struct pass *pass,
		      const struct evfs_object *object)
{
	return pass->reports.ready &&
	       evfs_object_log_covered(object, &pass->reports.all);
}

/* Dead: every link was removed, and a directory has nothing live below. */
static int is_dead(struct pass *pass, const struct evfs_object *object,
		   bool *ret)
{
	bool needed = false;
	size_t i;
	int rc = 0;

	*ret = object->n_links > 0;
	for (i = 0; i < object->n_links; i++)
		*ret = *ret && object->links[i].alive.n == 0;
	if (*ret && object->kind == EVFS_KIND_DIR)
		rc = evfs_facts_is_needed(pass->meta->facts, object->ino,
					  &needed, pass->err);
	*ret = *ret && !needed;
	return rc;
}

static int may_go(struct pass *pass, const struct evfs_object *object,
		  bool *ret)
{
	bool pinned = false;
	int rc = is_dead(pass, object, ret);

	*ret = *ret && is_stable(pass, object);
	if (rc == 0 && *ret)
		rc = is_pinned(pass, object, &pinned);
	*ret = *ret && !pinned;
	return rc;
}

/* ---- what names a directory ---- */

struct group {
	evfs_ino inos[GROUP_MAX];
	size_t n;
};

static int stop_at_first(void *arg, const struct evfs_name_row *row)
{
	(void)row;
	*(bool *)arg = true;
	return 1;
}

static bool group_has(const struct group *group, evfs_ino ino)
{
	size_t i;

	for (i = 0; i < group->n; i++)
		if (evfs_dot_equal(group->inos[i], ino))
			return true;
	return false;
}

/* Adds what names this directory. *ret false: something that stays does. */
static int group_below(struct pass *pass, struct group *group, evfs_ino dir,
		       bool *ret)
{
	evfs_ino below[GROUP_MAX];
	const struct evfs_object *object;
	bool named = false;
	size_t n = 0, i;
	int rc = evfs_facts_names_after(pass->meta->facts, dir, NULL, 0, 1,
					stop_at_first, &named, pass->err);

	if (rc == 0)
		rc = evfs_graves_below(pass->meta->facts, dir, below,
				       GROUP_MAX, &n, pass->err);
	*ret = rc == 0 && !named && n < GROUP_MAX;
	for (i = 0; rc == 0 && *ret && i < n; i++) {
		if (group_has(group, below[i]))
			continue;
		if (group->n == GROUP_MAX) {
			*ret = false;
			break;
		}
		rc = evfs_facts_get(pass->meta->facts, below[i], &object,
				    pass->err);
		if (rc == 0 && object != NULL)
			rc = may_go(pass, object, ret);
		if (rc == 0 && object != NULL && *ret)
			group->inos[group->n++] = below[i];
	}
	return rc;
}

/* Condition 3: the directory, with all that hangs on it, dead directories that
 * name each other in a circle included. */
static int group_close(struct pass *pass, struct group *group, bool *ret)
{
	const struct evfs_object *object;
	size_t i;
	int rc = 0;

	*ret = true;
	for (i = 0; i < group->n && *ret && rc == 0; i++) {
		rc = evfs_facts_get(pass->meta->facts, group->inos[i],
				    &object, pass->err);
		if (rc == 0 && object != NULL && object->kind == EVFS_KIND_DIR)
			rc = group_below(pass, group, group->inos[i], ret);
	}
	return rc;
}

static int group_remove(struct pass *pass, const struct group *group)
{
	const struct evfs_object *object;
	size_t i;
	int rc = 0;

	for (i = 0; i < group->n && rc == 0; i++) {
		rc = evfs_facts_get(pass->meta->facts, group->inos[i],
				    &object, pass->err);
		if (rc == 0 && object != NULL)
			rc = evfs_facts_remove_object(pass->meta->facts,
						      object, pass->err);
	}
	if (rc == 0)
		pass->collect->stats.objects += group->n;
	return rc;
}

/* *ret_gone: the object is no more. */
static int collect_dead(struct pass *pass, const struct evfs_object *object,
			bool *ret_gone)
{
	struct group group = { .inos = { object->ino }, .n = 1 };
	int rc = group_close(pass, &group, ret_gone);

	return rc == 0 && *ret_gone ? group_remove(pass, &group) : rc;
}

/* ---- parts of an object that stays ---- */

static size_t dead_links(const struct pass *pass,
			 const struct evfs_object *object)
{
	size_t n = 0, i;

	if (object->kind == EVFS_KIND_DIR || !is_stable(pass, object))
		return 0;
	for (i = 0; i < object->n_links; i++)
		n += object->links[i].alive.n == 0;
	return n < object->n_links ? n : 0;
}

static bool tie_may_go(const struct pass *pass, const struct evfs_tie *tie)
{
	return pass->reports.ready &&
	       evfs_context_covers(&pass->reports.all, tie->dot);
}

static size_t old_ties(const struct pass *pass,
		       const struct evfs_object *object)
{
	size_t n = 0, i;

	for (i = 0; i < object->n_ties; i++)
		n += tie_may_go(pass, &object->ties[i]);
	return n;
}

static void cut_links(struct evfs_object *object)
{
	size_t n = 0, i;

	for (i = 0; i < object->n_links; i++)
		if (object->links[i].alive.n > 0)
			object->links[n++] = object->links[i];
	object->n_links = n;
}

static void cut_ties(const struct pass *pass, struct evfs_object *object)
{
	size_t n = 0, i;

	for (i = 0; i < object->n_ties; i++)
		if (!tie_may_go(pass, &object->ties[i]))
			object->ties[n++] = object->ties[i];
	object->n_ties = n;
}

/* Nothing that is derived from the object depends on these parts: it is put
 * without the index. */
static int prune(struct pass *pass, const struct evfs_object *object)
{
	size_t links = dead_links(pass, object);
	size_t ties = old_ties(pass, object);
	struct evfs_object *copy;
	bool added;
	int rc;

	copy = evfs_object_copy(object);
	if (copy == NULL)
		return evfs_err_set(pass->err, EVFS_ENOMEM,
				    "collect: out of memory");
	if (links > 0)
		cut_links(copy);
	cut_ties(pass, copy);
	rc = evfs_graves_update(pass->meta->facts, object, copy, &added,
				pass->err);
	if (rc != 0) {
		evfs_object_free(copy);
		return rc;
	}
	rc = evfs_facts_put_object(pass->meta->facts, copy, pass->err);
	if (rc == 0) {
		pass->collect->stats.links += links;
		pass->collect->stats.ties += ties;
	}
	return rc;
}

/* ---- the walk ---- */

static void note_waiting(struct pass *pass, const struct evfs_object *object)
{
	size_t i;

	pass->collect->waiting++;
	for (i = 0; i < pass->reports.n; i++)
		if (!evfs_object_log_covered(object,
					     &pass->reports.contexts[i]))
			pass->reports.blockers[i].objects++;
}

/* Has it still something that could go some day? A directory that is dead and
 * shown, for what is in it, has not. */
static bool has_garbage(const struct evfs_object *object, bool dead)
{
	size_t i;

	if (dead || object->n_ties > 0)
		return true;
	for (i = 0; object->kind != EVFS_KIND_DIR && i < object->n_links; i++)
		if (object->links[i].alive.n == 0)
			return true;
	return false;
}

/* What may go of it goes: *ret_gone: all of it. */
static int cut(struct pass *pass, const struct evfs_object *object, bool dead,
	       bool *ret_gone)
{
	bool whole = dead && is_stable(pass, object), pinned;
	bool parts = dead_links(pass, object) > 0 || old_ties(pass, object) > 0;
	int rc;

	*ret_gone = false;
	if (!whole && !parts)
		return 0;
	rc = is_pinned(pass, object, &pinned);
	if (rc != 0 || pinned)
		return rc;
	if (whole)
		rc = collect_dead(pass, object, ret_gone);
	return rc == 0 && parts && !*ret_gone ? prune(pass, object) : rc;
}

static int collect_one(struct pass *pass, evfs_ino ino)
{
	struct evfs_facts *facts = pass->meta->facts;
	const struct evfs_object *object;
	bool dead = false, gone = false;
	int rc = evfs_facts_get(facts, ino, &object, pass->err);

	if (rc != 0 || object == NULL)
		return rc;
	rc = is_dead(pass, object, &dead);
	if (rc == 0)
		rc = cut(pass, object, dead, &gone);
	if (rc != 0 || gone)
		return rc;
	rc = evfs_facts_get(facts, ino, &object, pass->err);
	if (rc == 0 && object != NULL && has_garbage(object, dead))
		note_waiting(pass, object);
	return rc;
}

/* Objects behind the cursor, all or nothing. */
static int walk(struct pass *pass, bool *ret_end)
{
	evfs_ino inos[STRETCH];
	int64_t cursor = pass->collect->cursor;
	uint64_t waiting = pass->collect->waiting;
	struct evfs_collect_stats stats = pass->collect->stats;
	size_t n = 0, i;
	int rc = evfs_graves_next(pass->meta->facts, &cursor, inos, STRETCH,
				  &n, pass->err);

	*ret_end = n < STRETCH;
	if (rc != 0 || n == 0)
		return rc;
	rc = evfs_facts_save(pass->meta->facts, pass->err);
	if (rc != 0)
		return rc;
	for (i = 0; i < n && rc == 0; i++)
		rc = collect_one(pass, inos[i]);
	if (rc == 0)
		rc = evfs_facts_release(pass->meta->facts, pass->err);
	if (rc != 0) {
		evfs_facts_rollback(pass->meta->facts);
		pass->collect->stats = stats;
		pass->collect->waiting = waiting;
		return rc;
	}
	pass->collect->cursor = cursor;
	return 0;
}

/* ---- passes ---- */

static bool any_closed(struct pass *pass)
{
	const struct evfs_collect *collect = pass->collect;
	size_t i;

	for (i = 0; i < collect->n_open; i++)
		if (!evfs_tree_is_open(pass->meta, collect->open[i]))
			return true;
	return false;
}

/* Is there news since the last pass began? Then one begins. */
static int pass_begin(struct pass *pass)
{
	struct evfs_collect *collect = pass->collect;

	if (collect->stats.passes > 0 && !collect->again &&
	    collect->began_noted == collect->noted &&
	    collect->began_ready == pass->reports.ready &&
	    !any_closed(pass) &&
	    evfs_context_equal(&collect->began, &pass->reports.all))
		return 0;
	if (evfs_context_copy(&collect->began, &pass->reports.all) != 0)
		return evfs_err_set(pass->err, EVFS_ENOMEM,
				    "collect: out of memory");
	collect->began_noted = collect->noted;
	collect->began_ready = pass->reports.ready;
	collect->began_done = collect_done(collect);
	collect->again = false;
	collect->running = true;
	collect->n_open = 0;
	collect->cursor = 0;
	collect->waiting = 0;
	evfs_free(collect->blockers);
	collect->blockers = NULL;
	collect->n_blockers = 0;
	return 0;
}

/* Adds what this stretch counted to what the pass has counted. */
static void keep_blockers(struct pass *pass)
{
	struct evfs_collect *collect = pass->collect;
	struct evfs_blocker *mine = pass->reports.blockers;
	size_t i, k;

	for (i = 0; i < pass->reports.n; i++)
		for (k = 0; k < collect->n_blockers; k++)
			if (collect->blockers[k].node == mine[i].node)
				mine[i].objects += collect->blockers[k].objects;
	evfs_free(collect->blockers);
	collect->blockers = mine;
	collect->n_blockers = pass->reports.n;
	pass->reports.blockers = NULL;
}

/* A directory may have been looked at before what named it went. */
static void pass_end(struct pass *pass)
{
	struct evfs_collect *collect = pass->collect;

	collect->stats.waiting = collect->waiting;
	collect->stats.behind = pass->reports.behind;
	collect->stats.passes++;
	collect->again = collect->waiting > 0 &&
			 collect_done(collect) > collect->began_done;
}

/* One locked stretch; *ret_more: the pass goes on. */
static int stretch(struct evfs_meta *meta, bool *ret_more,
		   struct evfs_err *err)
{
	struct pass pass = { .meta = meta, .collect = meta->collect,
			     .err = err };
	bool end = false;
	int rc = evfs_collect_reports_read(meta, &pass.reports, err);

	if (rc == 0 && !pass.collect->running)
		rc = pass_begin(&pass);
	*ret_more = rc == 0 && pass.collect->running;
	if (*ret_more) {
		rc = walk(&pass, &end);
		if (rc == 0)
			keep_blockers(&pass);
		pass.collect->running = rc == 0 && !end;
		if (rc == 0 && end)
			pass_end(&pass);
		*ret_more = pass.collect->running || pass.collect->again;
	}
	evfs_collect_reports_fini(&pass.reports);
	return rc;
}

int evfs_collect_step(struct evfs_meta *meta, size_t max, bool *ret_more,
		      struct evfs_err *err)
{
	size_t done = 0;
	int rc;

	do {
		evfs_meta_lock(meta);
		rc = stretch(meta, ret_more, err);
		evfs_meta_unlock(meta);
		done += STRETCH;
	} while (rc == 0 && *ret_more && done < max);
	return rc;
}

void evfs_collect_get_stats(const struct evfs_meta *meta,
			    struct evfs_collect_stats *ret)
{
	*ret = meta->collect->stats;
}

uint64_t evfs_collect_blocks(const struct evfs_meta *meta, uint64_t node)
{
	const struct evfs_collect *collect = meta->collect;
	size_t i;

	for (i = 0; i < collect->n_blockers; i++)
		if (collect->blockers[i].node == node)
			return collect->blockers[i].objects;
	return 0;
}
