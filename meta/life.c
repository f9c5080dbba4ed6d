/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What is due after memory was lost: a new epoch, and an audit with every
 * member. */
#include "meta/life.h"

#include <assert.h>

#include "base/mem.h"
#include "meta/facts.h"
#include "meta/index.h"
#include "meta/life_priv.h"
#include "meta/members.h"
#include "meta/merge.h"
#include "meta/store.h"
#include "meta/tree.h"

#define ABSENT_STEP 500 /* objects looked at under one lock */

/* ---- epochs ---- */

/* The first epoch that this store cannot have used before: above every epoch of
 * its node that it knows of, and above `known`. One backup may be restored
 * twice, and the second time knows nothing of the first: the seconds since 2020
 * tell them apart. */
static uint32_t life_free_epoch(struct evfs_meta *meta, uint32_t known)
{
	const struct evfs_actors *actors = &meta->facts->actors;
	const struct evfs_env *env = meta->store->env;
	uint64_t now_s = env->wall_ns(env->ctx) / UINT64_C(1000000000);
	uint64_t since = now_s > 1577836800 ? now_s - 1577836800 : 0;
	uint32_t epoch = meta->store->actor.epoch;
	size_t i;

	if (known > epoch)
		epoch = known;
	for (i = 0; i < actors->n; i++) {
		if (actors->sorted[i].actor.node == meta->store->actor.node &&
		    actors->sorted[i].actor.epoch > epoch)
			epoch = actors->sorted[i].actor.epoch;
	}
	assert(epoch < UINT32_MAX);
	epoch++;
	return since > epoch && since < UINT32_MAX ? (uint32_t)since : epoch;
}

/* What members reported about this one's past is void, and so are audits. */
int evfs_life_take_epoch(struct evfs_meta *meta, uint32_t known,
			 struct evfs_err *err)
{
	struct evfs_store *store = meta->store;
	int rc = evfs_meta_begin_write(meta, err);

	if (rc != 0)
		return rc;
	store->actor.epoch = life_free_epoch(meta, known);
	store->counter = 0;
	store->lease = 0;
	store->amnesia = true;
	rc = evfs_actors_add(&meta->facts->actors, meta->db, store->actor,
			     err);
	if (rc == 0)
		rc = evfs_state_set(meta->db, "epoch", store->actor.epoch,
				    err);
	if (rc == 0)
		rc = evfs_state_set(meta->db, "amnesia", 1, err);
	if (rc == 0)
		rc = evfs_state_set(meta->db, "alone", 0, err);
	if (rc == 0)
		rc = evfs_state_set(meta->db, "met", 0, err);
	if (rc == 0)
		rc = evfs_db_exec(meta->db, "DELETE FROM report", err);
	if (rc == 0)
		rc = evfs_db_exec(meta->db, "DELETE FROM audit", err);
	return rc;
}

int evfs_life_begin(struct evfs_meta *meta, struct evfs_err *err)
{
	return evfs_life_take_epoch(meta, 0, err);
}

/* ---- audits ---- */

int evfs_life_is_due(struct evfs_meta *meta, uint64_t node, bool *ret,
		     struct evfs_err *err)
{
	bool done = false;
	int rc = 0;

	*ret = false;
	if (!meta->store->amnesia)
		return 0;
	rc = evfs_life_is_done(meta, node, &done, err);
	*ret = rc == 0 && !done;
	return rc;
}

/* All that anybody has of the former lives is here now, and more of them will
 * never come: what a member held beyond its context, from a stream that was cut
 * before memory was lost, would otherwise stay beyond all contexts for ever. */
static int life_close_former(struct evfs_meta *meta, struct evfs_err *err)
{
	const struct evfs_actors *actors = &meta->facts->actors;
	struct evfs_store *store = meta->store;
	uint64_t greatest;
	size_t i;
	int rc = 0;

	for (i = 0; i < actors->n && rc == 0; i++) {
		evfs_actor actor = actors->sorted[i].actor;

		if (actor.node != store->actor.node ||
		    actor.epoch == store->actor.epoch)
			continue;
		rc = evfs_life_greatest(meta, actor, &greatest, err);
		if (rc == 0 && greatest > 0 &&
		    evfs_context_raise(&store->context, actor, greatest) != 0)
			rc = evfs_err_set(err, EVFS_ENOMEM,
					  "context: out of memory");
	}
	return rc;
}

static int life_end(struct evfs_meta *meta, struct evfs_err *err)
{
	int rc = evfs_tree_audited(meta, err);

	if (rc == 0)
		rc = evfs_meta_begin_write(meta, err);
	if (rc == 0)
		rc = life_close_former(meta, err);
	if (rc == 0)
		rc = evfs_db_exec(meta->db, "DELETE FROM audit", err);
	if (rc == 0)
		rc = evfs_state_set(meta->db, "amnesia", 0, err);
	if (rc == 0)
		meta->store->amnesia = false;
	return rc;
}

int evfs_life_settle(struct evfs_meta *meta, bool *ret_ended,
		     struct evfs_err *err)
{
	struct evfs_member *members = NULL;
	bool due = false;
	size_t n = 0, i;
	int rc;

	*ret_ended = false;
	if (!meta->store->amnesia)
		return 0;
	rc = evfs_members_list(meta, false, &members, &n, err);
	for (i = 0; i < n && rc == 0 && !due; i++)
		rc = evfs_life_is_due(meta, members[i].node, &due, err);
	evfs_free(members);
	if (rc != 0 || due)
		return rc;
	rc = life_end(meta, err);
	*ret_ended = rc == 0;
	return rc;
}

/* ---- what a member did not send ---- */

int evfs_life_key(struct evfs_meta *meta, evfs_ino ino, int64_t *ret,
		  struct evfs_err *err)
{
	int rc = evfs_meta_begin_write(meta, err);

	if (rc == 0)
		rc = evfs_facts_key(meta->facts, ino, true, ret, err);
	return rc < 0 ? rc : 0;
}

struct absent {
	struct evfs_meta *meta;
	const struct evfs_idmap *met;
	const struct evfs_context *snap;
	struct evfs_object **objects; /* owned; that change */
	size_t n;
	struct evfs_err *err;
};

/* Is nothing left of a file but a name that somebody asserted here? */
static bool is_emptied(const struct evfs_object *mine,
		       const struct evfs_object *joined)
{
	size_t i;

	if (mine->n_versions == 0 || joined->n_versions > 0)
		return false;
	for (i = 0; i < joined->n_links; i++)
		if (joined->links[i].alive.n > 0)
			return true;
	return false;
}

/* A file was removed there and forgotten, and here it was renamed or linked by
 * somebody who had not heard of that: which beats the removal. The dead object
 * would have brought its versions along. So they are asserted as well. */
static int keep_versions(struct absent *absent, const struct evfs_object *mine,
			 struct evfs_object *joined)
{
	struct evfs_version kept;
	evfs_dot base, dot;
	size_t i;
	int rc = evfs_meta_begin_write(absent->meta, absent->err);

	for (i = 0; i < mine->n_versions && rc == 0; i++) {
		rc = evfs_meta_next_dot(absent->meta, &dot, absent->err);
		if (rc != 0)
			break;
		kept = mine->versions[i];
		base = kept.dot;
		kept.dot = dot;
		kept.bases = (struct evfs_dots){ .items = &base, .n = 1 };
		if (evfs_object_put_version(joined, &kept) != 0 ||
		    evfs_object_log_raise(joined, dot) != 0)
			rc = evfs_err_set(absent->err, EVFS_ENOMEM,
					  "audit: out of memory");
	}
	return rc;
}

static int absent_join(struct absent *absent, evfs_ino ino)
{
	const struct evfs_object *mine = NULL;
	struct evfs_object *joined = NULL;
	int rc = evfs_facts_get(absent->meta->facts, ino, &mine, absent->err);

	if (rc != 0 || mine == NULL)
		return rc;
	rc = evfs_merge(mine, &absent->meta->store->context, NULL,
			absent->snap, &joined, absent->err);
	if (rc == 0 && is_emptied(mine, joined))
		rc = keep_versions(absent, mine, joined);
	if (rc != 0) {
		evfs_object_free(joined);
		return rc;
	}
	if (evfs_object_equal(mine, joined))
		evfs_object_free(joined);
	else
		absent->objects[absent->n++] = joined;
	return 0;
}

int evfs_life_absent(struct evfs_meta *meta, const struct evfs_idmap *met,
		     const struct evfs_context *snap, int64_t *cursor,
		     bool *ret_done, struct evfs_err *err)
{
	struct evfs_object *changed[ABSENT_STEP];
	struct absent absent = { .meta = meta, .met = met, .snap = snap,
				 .objects = changed, .err = err };
	evfs_ino inos[ABSENT_STEP];
	int64_t keys[ABSENT_STEP];
	size_t n = 0, i;
	int rc = evfs_life_objects(meta, cursor, inos, keys, ABSENT_STEP, &n,
				   err);

	*ret_done = n < ABSENT_STEP;
	for (i = 0; i < n && rc == 0; i++)
		if (evfs_idmap_get(met, (uint64_t)keys[i]) == NULL)
			rc = absent_join(&absent, inos[i]);
	if (rc == 0 && absent.n > 0)
		return evfs_index_put(meta, changed, absent.n,
				      EVFS_FEED_REMOTE, err);
	for (i = 0; i < absent.n; i++)
		evfs_object_free(changed[i]);
	return rc;
}
