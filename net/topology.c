/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Whom to be connected to, and when to pass on; see the header. */
#include "net/topology.h"

bool evfs_topology_is_full(size_t members)
{
	return members <= EVFS_TOPOLOGY_FULL_MAX;
}

size_t evfs_topology_degree(size_t members)
{
	size_t degree = 4;

	if (evfs_topology_is_full(members))
		return members > 0 ? members - 1 : 0;
	while (((size_t)1 << (degree - 4)) < members)
		degree++;
	return degree;
}

size_t evfs_topology_degree_max(size_t members)
{
	return 2 * evfs_topology_degree(members);
}

/* The first living member behind self in the ring; n: there is none. */
static size_t successor(const struct evfs_topology_node *nodes, size_t n,
			uint64_t self)
{
	size_t i, start = 0;

	while (start < n && nodes[start].node < self)
		start++;
	for (i = 0; i < n; i++)
		if (!nodes[(start + i) % n].dead)
			return (start + i) % n;
	return n;
}

/* One of those that can be dialled, living or dead. */
static size_t pick(const struct evfs_topology_node *nodes, size_t n, bool dead,
		   const struct evfs_env *env)
{
	size_t i, found = 0;
	uint64_t choice;

	for (i = 0; i < n; i++)
		found += nodes[i].ready && !nodes[i].linked &&
			 nodes[i].dead == dead;
	if (found == 0)
		return n;
	choice = evfs_env_below(env, found);
	for (i = 0; i < n; i++)
		if (nodes[i].ready && !nodes[i].linked &&
		    nodes[i].dead == dead && choice-- == 0)
			break;
	return i;
}

size_t evfs_topology_next(const struct evfs_topology_node *nodes, size_t n,
			  uint64_t self, const struct evfs_env *env)
{
	size_t found = successor(nodes, n, self);

	if (found < n && nodes[found].ready && !nodes[found].linked)
		return found;
	found = pick(nodes, n, false, env);
	return found < n ? found : pick(nodes, n, true, env);
}

size_t evfs_topology_dead(const struct evfs_topology_node *nodes, size_t n,
			  const struct evfs_env *env)
{
	return pick(nodes, n, true, env);
}

uint64_t evfs_topology_turn(size_t sessions, uint64_t fanout,
			    const struct evfs_env *env)
{
	uint64_t turns = fanout > 0 ? sessions / fanout : sessions;

	return turns > 1 ? evfs_env_below(env, turns) : 0;
}
