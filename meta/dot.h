/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Dots, actors, stamps: the names and the order of everything that happens.
 *
 * An actor is one life of one replica: its node and an epoch. A dot (actor,
 * counter) names one local mutation of one object and is never used twice.
 * A stamp is a hybrid logical clock reading (Kulkarni et al. 2014) with the
 * dot of the operation that took it: it orders the values of a register. The
 * model writes this pair as (stamp, dot); stamp and dot have the same actor.
 * All values are plain, compared by number. Pure. */
#ifndef EVFS_META_DOT_H
#define EVFS_META_DOT_H

#include <stdbool.h>
#include <stdint.h>

typedef struct {
	uint64_t node;  /* of the replica; see evfs_member.node; never 0 */
	uint32_t epoch; /* 0 at first; a new one after amnesia */
} evfs_actor;

typedef struct {
	evfs_actor actor;
	uint64_t counter; /* from 1 */
} evfs_dot;

/* An object (inode) is named by the dot of its creation. */
typedef evfs_dot evfs_ino;

typedef struct {
	uint64_t time_ns; /* hybrid logical clock, about ns since 1970 */
	evfs_dot dot;
} evfs_stamp;

/* Two directories that always exist and cannot be moved or removed. The root
 * has an object for its attributes only, and only once one was set; lost+found
 * has none. Node 0 is no replica, so these are nobody's dots. */
#define EVFS_INO_ROOT ((evfs_ino){ { 0, 0 }, 1 })
#define EVFS_INO_LOST ((evfs_ino){ { 0, 0 }, 2 })
#define EVFS_INO_NONE ((evfs_ino){ { 0, 0 }, 0 })

/* <0, 0, >0. Actors by (node, epoch), dots by (actor, counter), stamps by
 * (time, dot). */
static inline int evfs_actor_cmp(evfs_actor a, evfs_actor b)
{
	if (a.node != b.node)
		return a.node < b.node ? -1 : 1;
	if (a.epoch != b.epoch)
		return a.epoch < b.epoch ? -1 : 1;
	return 0;
}

static inline int evfs_dot_cmp(evfs_dot a, evfs_dot b)
{
	int order = evfs_actor_cmp(a.actor, b.actor);

	if (order != 0)
		return order;
	if (a.counter != b.counter)
		return a.counter < b.counter ? -1 : 1;
	return 0;
}

static inline int evfs_stamp_cmp(const evfs_stamp *a, const evfs_stamp *b)
{
	if (a->time_ns != b->time_ns)
		return a->time_ns < b->time_ns ? -1 : 1;
	return evfs_dot_cmp(a->dot, b->dot);
}

static inline bool evfs_dot_equal(evfs_dot a, evfs_dot b)
{
	return evfs_dot_cmp(a, b) == 0;
}

static inline bool evfs_ino_is_root(evfs_ino ino)
{
	return evfs_dot_cmp(ino, EVFS_INO_ROOT) == 0;
}

static inline bool evfs_ino_is_lost(evfs_ino ino)
{
	return evfs_dot_cmp(ino, EVFS_INO_LOST) == 0;
}

/* A dot as text, "0123456789abcdef/0/17", and back. parse: false on anything
 * else, *ret untouched. */
#define EVFS_DOT_TEXT_SIZE 52
void evfs_dot_format(evfs_dot dot, char text[EVFS_DOT_TEXT_SIZE]);
bool evfs_dot_parse(const char *text, evfs_dot *ret);

/* 20 bytes: node, epoch, counter, big-endian; so memcmp order is dot order. */
#define EVFS_DOT_BYTES 20
void evfs_dot_write(evfs_dot dot, uint8_t bytes[EVFS_DOT_BYTES]);
evfs_dot evfs_dot_read(const uint8_t bytes[EVFS_DOT_BYTES]);

#endif
