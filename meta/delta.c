/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What a peer lacks, group by group (model/facts.py, take_delta, with_ties).
 *
 * The model sends each lacking object at the place of its least dot that the
 * peer does not cover, dots in the order (actor, counter); with it go the other
 * objects of its transactions that the peer lacks, and the directories above
 * that it lacks. Here the same order comes from walking the dotlog actor by
 * actor, in short snapshots, while others write. What makes that complete:
 *
 * D1. Every object that had, when the exchange was opened, a row (a, n) with
 *     peer[a] < n <= snap[a] is sent, in a state at least as new. For `snap` is
 *     what the peer joins into its context at the end.
 *
 * Rows only move to greater counters, and a row that moves after the opening
 * gets a counter above snap[a]: everything up to snap[a] had been taken in
 * then, so a newer dot of that object is none of those. So each actor is walked
 * in two parts. First the rows up to snap[a], with a cursor: a row there now
 * stood there at the opening. Then, in the very snapshot that shows the first
 * part at its end, all rows above snap[a] are listed: an object that was in the
 * first part and moved away before the cursor came is among them, however often
 * it moves later. So the walk ends, too, whatever is written meanwhile.
 *
 * An object has rows of several actors and is sent at the first. At another row
 * it was *passed* when one of its uncovered rows within a first part lies
 * before the cursor: it stood there when the cursor came by. That needs no
 * memory. Objects that are sent out of turn (tied, above, or by the second
 * part) are remembered with their log, and sent again if that has changed. */
#include "meta/delta.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "meta/delta_priv.h"
#include "meta/facts.h"
#include "meta/idmap.h"
#include "meta/index.h"
#include "meta/merge.h"
#include "meta/store.h"

struct delta_actor {
	evfs_actor actor; /* in the order of actors */
	uint64_t id;      /* its number in keys */
	uint64_t from;    /* counter that the peer has */
	uint64_t snap;    /* counter that it will have */
};

/* An object that was sent out of turn. */
struct delta_sent {
	struct evfs_idmap_node node; /* first; id = key of the object */
	struct evfs_log_row *log;    /* owned; as it was sent */
	size_t n_log;
};

/* An object on its way into the batch. */
struct delta_member {
	struct evfs_idmap_node node; /* first; id = key of the object */
	struct evfs_object *object;  /* owned */
	size_t len;                  /* bytes of its row */
	int mark;                    /* order: 0 new, 1 on the stack, 2 done */
};

struct evfs_delta {
	struct evfs_meta *meta;     /* borrowed */
	struct evfs_db_reader *reader; /* owned */
	struct evfs_context peer;   /* what it has */
	struct evfs_context snap;   /* what it will have at the end */
	bool (*covers)(void *arg, evfs_ino ino, evfs_dot dot); /* or NULL */
	void *covers_arg;
	struct delta_actor *actors; /* owned; sorted */
	size_t n_actors;
	size_t at;                  /* the actor being walked */
	bool seeking;               /* the first part has a running scan */
	struct evfs_db_reader_row cursor; /* last row taken of the first part */
	bool late;                  /* in the second part */
	struct evfs_db_reader_row *rows; /* owned; the second part */
	size_t n_rows, cap_rows, at_row;
	struct evfs_idmap sent;     /* of struct delta_sent; owned */
	int failed;                 /* an error ended it */
};

/* The batch being filled, and the group on its way into it. */
struct delta_batch {
	struct evfs_object **objects; /* owned */
	size_t n, cap;
	size_t bytes;                 /* of their rows */
	struct delta_member **group;  /* owned */
	size_t n_group, cap_group;
	struct evfs_idmap in_group;   /* of its members, by key */
};

/* ---- opening ---- */

static void delta_add_actor(struct evfs_delta *delta, evfs_actor actor,
			   uint64_t id)
{
	struct delta_actor *row = &delta->actors[delta->n_actors++];

	row->actor = actor;
	row->id = id;
	row->from = evfs_context_get(&delta->peer, actor);
	row->snap = evfs_context_get(&delta->snap, actor);
	if (row->from > evfs_db_reader_counter_max())
		row->from = evfs_db_reader_counter_max();
}

static int delta_start(struct evfs_delta *delta, struct evfs_err *err)
{
	size_t n;
	size_t i;
	int rc = evfs_db_reader_begin(delta->reader, &delta->snap, err);

	if (rc != 0)
		return rc;
	n = evfs_db_reader_actors(delta->reader);
	delta->actors = evfs_calloc(n, sizeof(*delta->actors));
	for (i = 0; i < n && delta->actors != NULL; i++) {
		uint64_t id;
		evfs_actor actor = evfs_db_reader_actor(delta->reader, i, &id);

		delta_add_actor(delta, actor, id);
	}
	evfs_db_reader_end(delta->reader);
	return delta->actors != NULL ?
		       0 :
		       evfs_err_set(err, EVFS_ENOMEM, "delta: out of memory");
}

int evfs_delta_open(struct evfs_meta *meta, const struct evfs_context *peer,
		    struct evfs_delta **ret, struct evfs_err *err)
{
	struct evfs_delta *delta = evfs_calloc(1, sizeof(*delta));
	int rc = 0;

	if (delta == NULL || evfs_context_copy(&delta->peer, peer) != 0)
		rc = evfs_err_set(err, EVFS_ENOMEM, "delta: out of memory");
	if (rc == 0) {
		delta->meta = meta;
		rc = evfs_db_reader_new(meta, &delta->reader, err);
	}
	if (rc == 0)
		rc = delta_start(delta, err);
	if (rc != 0) {
		evfs_delta_close(delta);
		return rc;
	}
	*ret = delta;
	return 0;
}

void evfs_delta_close(struct evfs_delta *delta)
{
	struct evfs_idmap_node *node;
	size_t at = 0;

	if (delta == NULL)
		return;
	while ((node = evfs_idmap_pop(&delta->sent, &at)) != NULL) {
		evfs_free(((struct delta_sent *)node)->log);
		evfs_free(node);
	}
	evfs_idmap_fini(&delta->sent);
	evfs_db_reader_free(delta->reader);
	evfs_context_fini(&delta->peer);
	evfs_context_fini(&delta->snap);
	evfs_free(delta->actors);
	evfs_free(delta->rows);
	evfs_free(delta);
}

const struct evfs_context *evfs_delta_snap(const struct evfs_delta *delta)
{
	return &delta->snap;
}

void evfs_delta_set_covers(struct evfs_delta *delta,
			   bool (*covers)(void *arg, evfs_ino ino,
					  evfs_dot dot), void *arg)
{
	delta->covers = covers;
	delta->covers_arg = arg;
}

/* ---- what was sent ---- */

static bool delta_covered(const struct evfs_delta *delta, evfs_ino ino,
			  evfs_dot dot)
{
	if (evfs_context_covers(&delta->peer, dot))
		return true;
	return delta->covers != NULL &&
	       delta->covers(delta->covers_arg, ino, dot);
}

static bool delta_all_covered(const struct evfs_delta *delta,
			      const struct evfs_object *object)
{
	size_t i;

	for (i = 0; i < object->n_log; i++) {
		if (!delta_covered(delta, object->ino,
				   (evfs_dot){ object->log[i].actor,
					       object->log[i].counter }))
			return false;
	}
	return true;
}

/* Was it met at an earlier row of some first part? */
static bool delta_passed(const struct evfs_delta *delta,
			 const struct evfs_object *object)
{
	const struct delta_actor *now = &delta->actors[delta->at];
	uint64_t reached = delta->late ?
				   UINT64_MAX :
				   (uint64_t)delta->cursor.dot &
					   evfs_db_reader_counter_max();
	size_t i;

	for (i = 0; i < object->n_log; i++) {
		evfs_dot dot = { object->log[i].actor,
				 object->log[i].counter };
		int order = evfs_actor_cmp(dot.actor, now->actor);

		if (order > 0)
			break;
		if (dot.counter > evfs_context_get(&delta->snap, dot.actor))
			continue;
		if (order == 0 && dot.counter >= reached)
			continue;
		if (!delta_covered(delta, object->ino, dot))
			return true;
	}
	return false;
}

static bool delta_was_sent(const struct evfs_delta *delta, int64_t key,
			   const struct evfs_object *object)
{
	const struct delta_sent *sent =
		(const struct delta_sent *)evfs_idmap_get(&delta->sent,
							  (uint64_t)key);
	size_t i;

	if (sent == NULL || sent->n_log != object->n_log)
		return false;
	for (i = 0; i < sent->n_log; i++) {
		if (sent->log[i].counter != object->log[i].counter ||
		    evfs_actor_cmp(sent->log[i].actor,
				   object->log[i].actor) != 0)
			return false;
	}
	return true;
}

static void delta_forget_sent(struct evfs_delta *delta, int64_t key)
{
	struct delta_sent *sent = (struct delta_sent *)evfs_idmap_remove(
		&delta->sent, (uint64_t)key);

	if (sent == NULL)
		return;
	evfs_free(sent->log);
	evfs_free(sent);
}

static int delta_note_sent(struct evfs_delta *delta, uint64_t key,
			   const struct evfs_object *object)
{
	struct delta_sent *sent;

	delta_forget_sent(delta, (int64_t)key);
	sent = evfs_calloc(1, sizeof(*sent));
	if (sent == NULL)
		return EVFS_ENOMEM;
	sent->node.id = key;
	sent->n_log = object->n_log;
	sent->log = evfs_memdup(object->log,
				object->n_log * sizeof(*object->log));
	if (sent->log == NULL || evfs_idmap_put(&delta->sent,
						&sent->node) != 0) {
		evfs_free(sent->log);
		evfs_free(sent);
		return EVFS_ENOMEM;
	}
	return 0;
}

/* ---- one group ---- */

static void group_clear(struct delta_batch *batch)
{
	size_t i;

	for (i = 0; i < batch->n_group; i++) {
		evfs_object_free(batch->group[i]->object);
		evfs_free(batch->group[i]);
	}
	batch->n_group = 0;
	evfs_idmap_fini(&batch->in_group);
}

/* Takes ownership of the object, also on failure. */
static int group_add(struct delta_batch *batch, int64_t key,
		     struct evfs_object *object, size_t len)
{
	struct delta_member *member = evfs_calloc(1, sizeof(*member));

	if (member != NULL &&
	    evfs_grow((void **)&batch->group, batch->n_group,
		      &batch->cap_group, sizeof(*batch->group)) == 0) {
		member->node.id = (uint64_t)key;
		member->object = object;
		member->len = len;
		if (evfs_idmap_put(&batch->in_group, &member->node) == 0) {
			batch->group[batch->n_group++] = member;
			return 0;
		}
	}
	evfs_free(member);
	evfs_object_free(object);
	return EVFS_ENOMEM;
}

/* Puts an object into the group unless it is there, was sent, or is not here.
 * covered_too: also when the peer has all of it. */
static int group_visit(struct evfs_delta *delta, struct delta_batch *batch,
		       evfs_ino ino, bool covered_too, struct evfs_err *err)
{
	int64_t key = evfs_db_reader_key(delta->reader, ino);
	struct evfs_object *object;
	size_t len;
	int rc;

	if (key < 0 || evfs_idmap_get(&batch->in_group, (uint64_t)key) != NULL)
		return 0;
	rc = evfs_db_reader_object(delta->reader, key, &object, &len, err);
	if (rc != 0 || object == NULL)
		return rc;
	if ((!covered_too && delta_all_covered(delta, object)) ||
	    delta_passed(delta, object) ||
	    delta_was_sent(delta, key, object)) {
		evfs_object_free(object);
		return 0;
	}
	if (group_add(batch, key, object, len) != 0)
		return evfs_err_set(err, EVFS_ENOMEM, "delta: out of memory");
	return 0;
}

/* All that must go with one member. */
static int group_follow(struct evfs_delta *delta, struct delta_batch *batch,
			const struct evfs_object *object, struct evfs_err *err)
{
	size_t i;
	size_t j;
	int rc = 0;

	for (i = 0; i < object->n_links && rc == 0; i++)
		rc = group_visit(delta, batch, object->links[i].place.parent,
				 false, err);
	for (i = 0; i < object->n_ties && rc == 0; i++) {
		const struct evfs_tie *tie = &object->ties[i];

		if (delta_covered(delta, object->ino, tie->dot))
			continue;
		for (j = 0; j < tie->n && rc == 0; j++) {
			const struct evfs_tie_end *end = &tie->ends[j];

			if (!delta_covered(delta, end->ino, end->dot))
				rc = group_visit(delta, batch, end->ino, true,
						 err);
		}
	}
	return rc;
}

static int batch_push(struct delta_batch *batch, struct delta_member *member)
{
	if (evfs_grow((void **)&batch->objects, batch->n, &batch->cap,
		      sizeof(*batch->objects)) != 0)
		return EVFS_ENOMEM;
	batch->objects[batch->n++] = evfs_steal(member->object);
	batch->bytes += member->len;
	member->mark = 2;
	return 0;
}

/* A directory above in this group that is not in the batch yet; NULL = none.
 * One that is on the stack is on a cycle of moves: it cannot go first. */
static struct delta_member *group_above(const struct evfs_delta *delta,
					const struct delta_batch *batch,
					const struct delta_member *member)
{
	size_t i;

	for (i = 0; i < member->object->n_links; i++) {
		int64_t key = evfs_db_reader_key(
			delta->reader, member->object->links[i].place.parent);
		struct delta_member *above;

		if (key < 0)
			continue;
		above = (struct delta_member *)evfs_idmap_get(
			&batch->in_group, (uint64_t)key);
		if (above != NULL && above->mark == 0)
			return above;
	}
	return NULL;
}

/* Moves the group into the batch, parents first. */
static int group_emit(struct evfs_delta *delta, struct delta_batch *batch)
{
	struct delta_member **stack;
	size_t depth = 0;
	size_t i;
	int rc = 0;

	stack = evfs_calloc(batch->n_group, sizeof(struct delta_member *));
	if (stack == NULL)
		return EVFS_ENOMEM;
	for (i = 0; i < batch->n_group && rc == 0; i++) {
		if (batch->group[i]->mark != 0)
			continue;
		batch->group[i]->mark = 1;
		stack[depth++] = batch->group[i];
		while (depth > 0 && rc == 0) {
			struct delta_member *above =
				group_above(delta, batch, stack[depth - 1]);

			if (above != NULL) {
				above->mark = 1;
				stack[depth++] = above;
			} else {
				rc = batch_push(batch, stack[--depth]);
			}
		}
	}
	evfs_free(stack);
	return rc;
}

/* The group of a lacking object, into the batch. Takes ownership of it. */
static int delta_group(struct evfs_delta *delta, struct delta_batch *batch,
		       int64_t key, struct evfs_object *object, size_t len,
		       struct evfs_err *err)
{
	size_t i;
	int rc = group_add(batch, key, object, len);

	/* The list grows while it is gone through: all that is reached. */
	for (i = 0; rc == 0 && i < batch->n_group; i++) {
		rc = group_follow(delta, batch, batch->group[i]->object, err);
		if (rc == 0 && (i > 0 || delta->late))
			rc = delta_note_sent(delta, batch->group[i]->node.id,
					     batch->group[i]->object);
	}
	if (rc == 0)
		rc = group_emit(delta, batch);
	group_clear(batch);
	if (rc == EVFS_ENOMEM)
		evfs_err_set(err, rc, "delta: out of memory");
	return rc;
}

/* ---- the walk ---- */

/* Lists the second part, in the snapshot in which the first has ended. */
static int delta_list_late(struct evfs_delta *delta, struct evfs_err *err)
{
	const struct delta_actor *now = &delta->actors[delta->at];
	uint64_t above = now->snap > now->from ? now->snap : now->from;
	struct evfs_db_reader_row after = {
		.dot = evfs_db_reader_make_key(now->id, above),
		.object = INT64_MAX
	};
	int rc = evfs_db_reader_seek(
		delta->reader, after,
		evfs_db_reader_make_key(now->id,
					evfs_db_reader_counter_max()),
		err);

	delta->n_rows = 0;
	delta->at_row = 0;
	while (rc == 0) {
		if (evfs_grow((void **)&delta->rows, delta->n_rows,
			      &delta->cap_rows, sizeof(*delta->rows)) != 0)
			return evfs_err_set(err, EVFS_ENOMEM,
					    "delta: out of memory");
		rc = evfs_db_reader_next(delta->reader,
				      &delta->rows[delta->n_rows], err);
		if (rc <= 0)
			break;
		delta->n_rows++;
		rc = 0;
	}
	delta->late = true;
	delta->seeking = false;
	return rc;
}

/* Starts, or goes on with, the scan of the first part. */
static int delta_seek(struct evfs_delta *delta, struct evfs_err *err)
{
	const struct delta_actor *now = &delta->actors[delta->at];
	int64_t start = evfs_db_reader_make_key(now->id, now->from);

	if (delta->cursor.dot < start ||
	    delta->cursor.dot > evfs_db_reader_make_key(
					now->id, evfs_db_reader_counter_max()))
		delta->cursor = (struct evfs_db_reader_row){ .dot = start,
							  .object =
								  INT64_MAX };
	delta->seeking = true;
	return evfs_db_reader_seek(delta->reader, delta->cursor,
				evfs_db_reader_make_key(now->id, now->snap),
				err);
}

/* The next row that the peer's vector does not cover. 1: *ret; 0: the end. */
static int delta_row(struct evfs_delta *delta, struct evfs_db_reader_row *ret,
		     struct evfs_err *err)
{
	int rc;

	while (delta->at < delta->n_actors) {
		if (delta->late) {
			if (delta->at_row < delta->n_rows) {
				*ret = delta->rows[delta->at_row++];
				return 1;
			}
			delta->late = false;
			delta->seeking = false;
			delta->at++;
			continue;
		}
		if (!delta->seeking) {
			rc = delta_seek(delta, err);
			if (rc != 0)
				return rc;
		}
		rc = evfs_db_reader_next(delta->reader, ret, err);
		if (rc < 0)
			return rc;
		if (rc > 0) {
			delta->cursor = *ret;
			return 1;
		}
		rc = delta_list_late(delta, err);
		if (rc != 0)
			return rc;
	}
	return 0;
}

/* One row: its group, unless it was sent. *ret_sent tells. */
static int delta_take_row(struct evfs_delta *delta, struct delta_batch *batch,
			  const struct evfs_db_reader_row *row, bool *ret_sent,
			  struct evfs_err *err)
{
	const struct delta_actor *now = &delta->actors[delta->at];
	struct evfs_object *object;
	evfs_dot dot;
	size_t len;
	int rc = evfs_db_reader_object(delta->reader, row->object, &object,
				       &len, err);

	*ret_sent = false;
	if (rc != 0 || object == NULL)
		return rc;
	/* In a list of late rows it may have moved on since. */
	dot.actor = now->actor;
	dot.counter = evfs_object_log_get(object, now->actor);
	if (delta_covered(delta, object->ino, dot) ||
	    delta_passed(delta, object)) {
		evfs_object_free(object);
		return 0;
	}
	if (delta_was_sent(delta, row->object, object)) {
		evfs_object_free(object);
		/* From here on delta_passed() knows it by this row. */
		if (!delta->late)
			delta_forget_sent(delta, row->object);
		return 0;
	}
	*ret_sent = true;
	return delta_group(delta, batch, row->object, object, len, err);
}

static int delta_fill(struct evfs_delta *delta, struct delta_batch *batch,
		      size_t groups_max, bool *ret_done, struct evfs_err *err)
{
	struct evfs_db_reader_row row;
	size_t groups = 0;
	int rc = 1;

	delta->seeking = false;
	while ((groups_max == 0 || groups < groups_max) &&
	       batch->n < EVFS_DELTA_OBJECTS_MAX &&
	       batch->bytes < EVFS_DELTA_BYTES_MAX) {
		bool sent;

		rc = delta_row(delta, &row, err);
		if (rc <= 0)
			break;
		rc = delta_take_row(delta, batch, &row, &sent, err);
		if (rc != 0)
			return rc;
		groups += sent;
		rc = 1;
	}
	*ret_done = rc == 0;
	return rc < 0 ? rc : 0;
}

int evfs_delta_next(struct evfs_delta *delta, size_t groups_max,
		    struct evfs_object ***ret, size_t *ret_n, bool *ret_done,
		    struct evfs_err *err)
{
	struct delta_batch batch = { 0 };
	bool done = false;
	int rc;

	if (delta->failed != 0)
		return evfs_err_set(err, delta->failed,
				    "this exchange has failed");
	rc = evfs_db_reader_begin(delta->reader, NULL, err);
	if (rc != 0)
		return rc;
	rc = delta_fill(delta, &batch, groups_max, &done, err);
	evfs_db_reader_end(delta->reader);
	evfs_free(batch.group);
	if (rc != 0) {
		/* The cursor has gone past what the caller will not get. */
		delta->failed = rc;
		while (batch.n > 0)
			evfs_object_free(batch.objects[--batch.n]);
		evfs_free(batch.objects);
		return rc;
	}
	*ret = batch.objects;
	*ret_n = batch.n;
	*ret_done = done;
	return 0;
}

/* ---- one object ---- */

static int pick_rows(const struct evfs_object *object, struct evfs_context *ret)
{
	size_t i;
	int rc = 0;

	for (i = 0; i < object->n_log && rc == 0; i++)
		rc = evfs_context_raise(ret, object->log[i].actor,
					object->log[i].counter);
	return rc;
}

/* In a snapshot. */
static int pick(struct evfs_delta *delta, struct delta_batch *batch,
		evfs_ino ino, const struct evfs_context *rows,
		struct evfs_context *ret_rows, struct evfs_err *err)
{
	int64_t key = evfs_db_reader_key(delta->reader, ino);
	struct evfs_object *object;
	size_t len;
	int rc;

	if (key < 0 || delta->n_actors == 0)
		return 0;
	rc = evfs_db_reader_object(delta->reader, key, &object, &len, err);
	if (rc != 0 || object == NULL)
		return rc;
	rc = pick_rows(object, ret_rows);
	if (rc != 0)
		evfs_err_set(err, rc, "delta: out of memory");
	if (rc != 0 || rows == NULL ||
	    evfs_object_log_covered(object, rows)) {
		evfs_object_free(object);
		return rc;
	}
	return delta_group(delta, batch, key, object, len, err);
}

int evfs_delta_pick(struct evfs_delta *delta, evfs_ino ino,
		    const struct evfs_context *rows,
		    struct evfs_object ***ret, size_t *ret_n,
		    struct evfs_context *ret_rows, struct evfs_err *err)
{
	struct delta_batch batch = { 0 };
	int rc = evfs_db_reader_begin(delta->reader, NULL, err);

	if (rc != 0)
		return rc;
	rc = pick(delta, &batch, ino, rows, ret_rows, err);
	evfs_db_reader_end(delta->reader);
	evfs_free(batch.group);
	if (rc != 0) {
		while (batch.n > 0)
			evfs_object_free(batch.objects[--batch.n]);
		evfs_free(batch.objects);
		return rc;
	}
	if (rows == NULL)
		return 0;
	*ret = batch.objects;
	*ret_n = batch.n;
	return 0;
}
