/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Whom to be connected to. Up to 16 members all connect to all. Beyond, each
 * keeps log2(N) + 4 sessions: to its successor in the ring of node ids, which
 * makes the graph connected whatever chance does, and to members that chance
 * picks, which makes its diameter logarithmic (random regular graphs; Bollobas
 * and Fernandez de la Vega 1982). One that dies is replaced by another pick.
 *
 * And how a change spreads on that graph: rumour mongering (Demers et al. 1987,
 * the variant with feedback). A replica that has taken in a change of others
 * passes it on to a few sessions at once, to the rest in later turns, and to
 * none that has reported by then that it has it. The reports are the feedback,
 * so no counter is needed for losing interest: a change crosses a session at
 * most once in a direction. Pure. */
#ifndef EVFS_NET_TOPOLOGY_H
#define EVFS_NET_TOPOLOGY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/env.h"

#define EVFS_TOPOLOGY_FULL_MAX 16 /* members, the own replica included */

/* A member as the choice sees it. */
struct evfs_topology_node {
	uint64_t node;
	bool linked; /* a session is there, or being made */
	bool ready;  /* it has an address, and its time to be dialled is now */
	bool dead;   /* so the detector says: only where nobody else is left */
};

bool evfs_topology_is_full(size_t members);
/* Sessions that each keeps, of so many members, the own replica included. */
size_t evfs_topology_degree(size_t members);
/* Beyond so many it takes no more from others. */
size_t evfs_topology_degree_max(size_t members);

/* Whom to dial next where fewer than the degree are linked; n: nobody. nodes:
 * the other members, sorted by node. */
size_t evfs_topology_next(const struct evfs_topology_node *nodes, size_t n,
			  uint64_t self, const struct evfs_env *env);

/* A dead member to try all the same, now and then: after a partition each half
 * has sessions enough within itself. n: there is none. */
size_t evfs_topology_dead(const struct evfs_topology_node *nodes, size_t n,
			  const struct evfs_env *env);

/* In which turn (from 0) a change of others is passed on over one of so many
 * sessions, `fanout` of them in a turn on average. */
uint64_t evfs_topology_turn(size_t sessions, uint64_t fanout,
			    const struct evfs_env *env);

#endif
