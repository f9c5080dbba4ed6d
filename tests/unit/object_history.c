/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Random histories of one object; see object_history.h. */
#include "object_history.h"

#include <check.h>
#include <string.h>

#include "base/mem.h"
#include "meta/merge.h"

#define DONE(call) ck_assert_int_eq((call), 0)

/* splitmix64 (Steele et al. 2014). */
uint64_t history_random(struct history *history, uint64_t n)
{
	uint64_t z = history->rng += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return (z ^ z >> 31) % n;
}

static bool chance(struct history *history, unsigned percent)
{
	return history_random(history, 100) < percent;
}

/* ---- ledger ---- */

static void ledger_add(struct history *history, bool is_version,
		       const evfs_stamp *link, evfs_dot dot)
{
	struct history_row row = { .is_version = is_version, .dot = dot };

	ck_assert_uint_lt(history->n_ledger, HISTORY_LEDGER_MAX);
	if (link != NULL)
		row.link = *link;
	history->ledger[history->n_ledger++] = row;
}

static void ledger_end_version(struct history *history, evfs_dot dot)
{
	for (size_t i = 0; i < history->n_ledger; i++) {
		struct history_row *row = &history->ledger[i];

		if (row->is_version && evfs_dot_equal(row->dot, dot))
			row->ended = true;
	}
}

static void ledger_end_alive(struct history *history,
			     const struct evfs_link *link)
{
	for (size_t i = 0; i < history->n_ledger; i++) {
		struct history_row *row = &history->ledger[i];

		if (!row->is_version &&
		    evfs_stamp_cmp(&row->link, &link->id) == 0 &&
		    evfs_dots_has(&link->alive, row->dot))
			row->ended = true;
	}
}

/* ---- operations, on a private copy ---- */

struct op {
	struct history *history;
	struct history_replica *replica;
	struct evfs_object *object;
	evfs_dot dot;
};

static evfs_stamp op_stamp(struct op *op, uint64_t over)
{
	struct history_replica *replica = op->replica;
	uint64_t time;

	replica->clock++;
	if (replica->clock < op->history->now)
		replica->clock = op->history->now;
	time = replica->clock > over ? replica->clock : over + 1;
	return (evfs_stamp){ time, op->dot };
}

static void op_alive(struct op *op, struct evfs_link *link, bool alive)
{
	/* One operation may assert a link twice, with its one dot. */
	if (alive && link->alive.n == 1 &&
	    evfs_dot_equal(link->alive.items[0], op->dot))
		return;
	ledger_end_alive(op->history, link);
	DONE(evfs_object_set_alive(op->object, link, alive ? &op->dot : NULL));
	if (alive)
		ledger_add(op->history, false, &link->id, op->dot);
}

static void op_drop_version(struct op *op, evfs_dot dot)
{
	ledger_end_version(op->history, dot);
	evfs_object_remove_version(op->object, dot);
}

static struct evfs_link *op_live_link(struct op *op)
{
	struct evfs_object *object = op->object;
	size_t start;

	if (object->n_links == 0)
		return NULL;
	start = history_random(op->history, object->n_links);
	for (size_t i = 0; i < object->n_links; i++) {
		size_t at = (start + i) % object->n_links;

		if (object->links[at].alive.n > 0)
			return &object->links[at];
	}
	return NULL;
}

static evfs_ino random_parent(struct history *history)
{
	uint64_t draw = history_random(history, 5);

	if (draw == 0)
		return EVFS_INO_ROOT;
	return (evfs_ino){ { 100 + draw, (uint32_t)draw / 3 }, 7 };
}

static struct evfs_place random_place(struct op *op, uint64_t over,
				      evfs_ino origin)
{
	static const char *const names[] = { "a", "b.txt", ".rc", "...",
					     "a long name of a file" };
	const char *name = names[history_random(op->history, 5)];
	evfs_ino parent = random_parent(op->history);

	return (struct evfs_place){
		.stamp = op_stamp(op, over),
		.parent = parent,
		.origin = origin.counter == 0 ? parent : origin,
		.name = (const uint8_t *)name,
		.name_len = strlen(name),
	};
}

static void op_link(struct op *op)
{
	struct evfs_object *object = op->object;
	uint64_t over = 0;
	struct evfs_link link = { .alive = { &op->dot, 1 } };

	if (object->n_links > 0)
		over = object->links[object->n_links - 1].id.time_ns;
	link.place = random_place(op, over, EVFS_INO_NONE);
	link.id = link.place.stamp;
	DONE(evfs_object_add_link(object, &link));
	ledger_add(op->history, false, &link.id, op->dot);
}

static void op_rename(struct op *op)
{
	struct evfs_link *link = op_live_link(op);
	struct evfs_place place;

	if (link == NULL)
		return;
	place = random_place(op, link->place.stamp.time_ns, link->place.parent);
	DONE(evfs_object_set_place(op->object, link, &place));
	op_alive(op, link, true);
}

static void op_unlink(struct op *op)
{
	struct evfs_link *link = op_live_link(op);

	if (link == NULL)
		return;
	op_alive(op, link, false);
	for (size_t i = 0; i < op->object->n_links; i++)
		if (op->object->links[i].alive.n > 0)
			op_alive(op, &op->object->links[i], true);
}

static void op_seal(struct op *op)
{
	struct evfs_object *object = op->object;
	struct evfs_version version = { .dot = op->dot };
	evfs_dot bases[2];
	struct evfs_link *link = op_live_link(op);
	uint64_t over = 0;

	if (object->kind != EVFS_KIND_FILE)
		return;
	while (link == NULL && object->n_versions > 0)
		op_drop_version(op, object->versions[0].dot);
	if (link == NULL)
		link = &object->links[history_random(op->history,
						     object->n_links)];
	for (size_t i = 0; i < object->n_versions && version.bases.n < 2; i++) {
		if (version.bases.n > 0 && chance(op->history, 70))
			continue;
		bases[version.bases.n++] = object->versions[i].dot;
		if (object->versions[i].time_ns > over)
			over = object->versions[i].time_ns;
	}
	version.bases.items = bases;
	version.time_ns = op_stamp(op, over).time_ns;
	version.size = history_random(op->history, 3) * 1000;
	version.mtime_s = (int64_t)history_random(op->history, 100) - 50;
	version.mtime_ns = (uint32_t)history_random(op->history, 1000000000);
	if (version.size > 0)
		memset(version.content.b, (int)(1 + op->dot.counter % 200),
		       EVFS_HASH_SIZE);
	DONE(evfs_object_put_version(object, &version));
	ledger_add(op->history, true, NULL, op->dot);
	for (size_t i = 0; i < version.bases.n; i++)
		op_drop_version(op, bases[i]);
	op_alive(op, link, true);
}

static void op_drop_sibling(struct op *op)
{
	struct evfs_object *object = op->object;

	if (object->n_versions > 1)
		op_drop_version(op, object->versions[0].dot);
}

static void op_attr(struct op *op)
{
	static const char *const keys[] = { "user.a", "user.b", "user.ab" };
	struct history *history = op->history;
	struct evfs_attr attr = {
		.kind = (enum evfs_attr_kind)(1 + history_random(history, 4)),
	};
	const struct evfs_attr *old;
	evfs_dot saw;

	if (attr.kind == EVFS_ATTR_XATTR) {
		attr.key = (const uint8_t *)keys[history_random(history, 3)];
		attr.key_len = strlen((const char *)attr.key);
		attr.value.xattr.removed = chance(history, 30);
		attr.value.xattr.data = (const uint8_t *)"some value";
		if (!attr.value.xattr.removed)
			attr.value.xattr.len = history_random(history, 11);
	} else if (attr.kind == EVFS_ATTR_MODE) {
		attr.value.mode = (uint32_t)history_random(history, 010000);
		if (op->object->n_versions > 0) {
			saw = op->object->versions[0].dot;
			attr.saw = (struct evfs_dots){ &saw, 1 };
		}
	} else if (attr.kind == EVFS_ATTR_OWNER) {
		attr.value.owner.uid = (uint32_t)history_random(history, 9);
		attr.value.owner.gid = UINT32_MAX;
	} else {
		attr.value.times.mtime_s =
			-(int64_t)history_random(history, 1ull << 40);
		attr.value.times.atime_ns = 999999999;
	}
	old = evfs_object_find_attr(op->object, attr.kind, attr.key,
				    attr.key_len);
	attr.stamp = op_stamp(op, old != NULL ? old->stamp.time_ns : 0);
	DONE(evfs_object_put_attr(op->object, &attr));
}

static void op_tie(struct op *op)
{
	struct evfs_tie_end ends[2] = {
		{ op->object->ino, op->dot },
		{ { { UINT64_MAX, 1 }, 5 }, op->dot },
	};
	struct evfs_tie tie = { op->dot, ends, 2 };

	ends[1].dot.counter++;
	DONE(evfs_object_put_tie(op->object, &tie));
}

static void op_commit(struct op *op)
{
	struct history_replica *replica = op->replica;

	if (op->object->change_ns < replica->clock)
		op->object->change_ns = replica->clock;
	if (chance(op->history, 20))
		op_tie(op);
	replica->counter = op->dot.counter + 1; /* the other object's dot */
	DONE(evfs_context_raise(&replica->context, replica->actor,
				replica->counter));
	evfs_object_free(replica->object);
	replica->object = op->object;
}

static void history_operate(struct history *history,
			    struct history_replica *replica)
{
	struct op op = { .history = history, .replica = replica };
	uint64_t draw = history_random(history, 100);

	if (replica->object == NULL)
		return;
	if (chance(history, 3)) { /* a restored backup: a new life */
		replica->actor.epoch++;
		replica->counter = 0;
	}
	op.dot = (evfs_dot){ replica->actor, replica->counter + 1 };
	op.object = evfs_object_copy(replica->object);
	ck_assert_ptr_nonnull(op.object);
	DONE(evfs_object_log_raise(op.object, op.dot));
	if (draw < 35 && history->kind == EVFS_KIND_FILE)
		op_seal(&op);
	else if (draw < 50)
		op_rename(&op);
	else if (draw < 65)
		op_unlink(&op);
	else if (draw < 75 && history->kind != EVFS_KIND_DIR)
		op_link(&op);
	else if (draw < 80)
		op_drop_sibling(&op);
	else
		op_attr(&op);
	op_commit(&op);
}

/* ---- exchange and collection ---- */

static void history_exchange(struct history *history,
			     struct history_replica *to,
			     const struct history_replica *from)
{
	struct evfs_object *joined = NULL;

	if (to->object == NULL && from->object == NULL) {
		DONE(evfs_context_join(&to->context, &from->context));
		return;
	}
	/* In part: the state comes, the context does not. A state that says
	 * nothing of its own is never sent so. */
	if (chance(history, 40)) {
		if (from->object == NULL ||
		    (to->object == NULL &&
		     evfs_object_log_covered(from->object, &to->context)))
			return;
		DONE(evfs_merge(to->object, &to->context, from->object,
				&from->context, &joined, NULL));
	} else {
		DONE(evfs_merge(to->object, &to->context, from->object,
				&from->context, &joined, NULL));
		DONE(evfs_context_join(&to->context, &from->context));
	}
	evfs_object_free(to->object);
	to->object = joined;
}

/* Causally stable tombstones go (model/facts.py, collect). */
static void history_collect(struct history *history,
			    struct history_replica *replica)
{
	struct evfs_object *object = replica->object;

	if (object == NULL || evfs_object_is_live(object))
		return;
	for (size_t i = 0; i < HISTORY_REPLICAS; i++) {
		struct history_replica *other = &history->replicas[i];

		if (!evfs_context_contains(&replica->context,
					   &other->context) ||
		    !evfs_object_log_covered(object, &other->context))
			return;
	}
	for (size_t i = 0; i < object->n_links; i++)
		ledger_end_alive(history, &object->links[i]);
	for (size_t i = 0; i < object->n_versions; i++)
		ledger_end_version(history, object->versions[i].dot);
	evfs_object_free(object);
	replica->object = NULL;
}

void history_step(struct history *history)
{
	uint64_t draw = history_random(history, 100);
	size_t one = history_random(history, HISTORY_REPLICAS);
	size_t other =
		(one + 1 + history_random(history, HISTORY_REPLICAS - 1)) %
		HISTORY_REPLICAS;

	history->now += 1 + history_random(history, 3);
	if (draw < 45)
		history_exchange(history, &history->replicas[one],
				 &history->replicas[other]);
	else if (draw < 50)
		history_collect(history, &history->replicas[one]);
	else
		history_operate(history, &history->replicas[one]);
}

void history_start(struct history *history, uint64_t seed)
{
	static const enum evfs_kind kinds[] = {
		EVFS_KIND_FILE,	   EVFS_KIND_FILE, EVFS_KIND_FILE,
		EVFS_KIND_DIR,	   EVFS_KIND_DIR,  EVFS_KIND_SYMLINK,
		EVFS_KIND_CHARDEV,
	};
	struct history_replica *maker = &history->replicas[0];
	struct op op = { .history = history, .replica = maker };

	memset(history, 0, sizeof(*history));
	history->rng = seed;
	history->now = 1700000000000000000;
	history->kind = kinds[history_random(history, 7)];
	for (size_t i = 0; i < HISTORY_REPLICAS; i++) {
		history->replicas[i].actor.node =
			1 + history_random(history, 1ull << 62) * 4 + i;
		if (chance(history, 20)) /* a clock that is ahead */
			history->replicas[i].clock =
				history->now + history_random(history, 100);
	}
	op.dot = (evfs_dot){ maker->actor, 1 };
	op.object = evfs_object_new(op.dot, history->kind);
	ck_assert_ptr_nonnull(op.object);
	DONE(evfs_object_log_raise(op.object, op.dot));
	if (history->kind == EVFS_KIND_SYMLINK)
		DONE(evfs_object_set_target(op.object, "to/there", 8));
	if (history->kind == EVFS_KIND_CHARDEV)
		op.object->rdev = 0x105;
	op_link(&op);
	op_seal(&op);
	op_attr(&op);
	op_commit(&op);
}

void history_fini(struct history *history)
{
	for (size_t i = 0; i < HISTORY_REPLICAS; i++) {
		evfs_context_fini(&history->replicas[i].context);
		evfs_object_free(history->replicas[i].object);
	}
}
