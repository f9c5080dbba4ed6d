/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Which sessions an engine keeps: all, or the few that net/topology.c picks.
 * One member is picked at a time, so that those that dial each other at once
 * do not end with twice as many. */
#include "base/mem.h"
#include "net/engine_priv.h"
#include "net/topology.h"

#define PACE_NS (50 * EVFS_MS) /* between two picks, at least */

static size_t members(const struct evfs_engine *engine)
{
	return engine->gossip.n;
}

static size_t sessions(const struct evfs_engine *engine)
{
	const struct evfs_session *s;
	size_t n = 0;

	for (s = engine->sessions; s != NULL; s = s->next)
		n += s->state != EVFS_SESSION_CLOSED;
	return n;
}

bool evfs_links_is_full(const struct evfs_engine *engine)
{
	return evfs_topology_is_full(members(engine));
}

bool evfs_links_are_enough(const struct evfs_engine *engine)
{
	return !evfs_links_is_full(engine) &&
	       sessions(engine) > evfs_topology_degree_max(members(engine));
}

uint64_t evfs_links_relay_ns(const struct evfs_engine *engine)
{
	if (evfs_links_is_full(engine))
		return EVFS_ENGINE_RELAY_NS;
	return EVFS_ENGINE_RELAY_NS *
	       evfs_topology_turn(sessions(engine), engine->gossip_fanout,
				  engine->env);
}

/* The members as the choice sees them; they are in order of their nodes. */
static struct evfs_topology_node *list(struct evfs_engine *engine,
				       uint64_t now_ns, size_t *ret_n)
{
	struct evfs_topology_node *nodes;
	struct evfs_peer *peer;
	size_t n = 0;

	nodes = evfs_calloc(members(engine), sizeof(*nodes));
	for (peer = engine->peers; nodes != NULL && peer != NULL;
	     peer = peer->next) {
		if (peer->member.removed || n == members(engine))
			continue;
		nodes[n++] = (struct evfs_topology_node){
			.node = peer->member.node,
			.linked = evfs_session_of(engine, peer->member.node) !=
				  NULL,
			.ready = peer->member.address[0] != '\0' &&
				 now_ns >= peer->dial_ns &&
				 !evfs_peer_is_paused(engine, peer),
			.dead = peer->life == EVFS_GOSSIP_DEAD
		};
	}
	*ret_n = n;
	return nodes;
}

void evfs_links_tick(struct evfs_engine *engine, uint64_t now_ns,
		     uint64_t *next_ns)
{
	evfs_cleanup_free struct evfs_topology_node *nodes = NULL;
	bool heal = now_ns >= engine->heal_ns;
	size_t n = 0, found;
	struct evfs_peer *peer;

	if (evfs_links_is_full(engine) || engine->paused)
		return;
	evfs_engine_lower(next_ns, engine->links_ns);
	if (now_ns < engine->links_ns)
		return;
	/* the next look, where nothing is to be done */
	engine->links_ns = now_ns + EVFS_SECOND;
	if (sessions(engine) >= evfs_topology_degree(members(engine)) && !heal)
		return;
	nodes = list(engine, now_ns, &n);
	if (nodes == NULL)
		return;
	found = heal ? evfs_topology_dead(nodes, n, engine->env)
		     : evfs_topology_next(nodes, n, engine->self, engine->env);
	if (heal)
		engine->heal_ns = now_ns + EVFS_ENGINE_HEAL_NS / 2 +
				  evfs_env_below(engine->env,
						 EVFS_ENGINE_HEAL_NS);
	if (found == n)
		return;
	peer = evfs_peer_find(engine, nodes[found].node);
	if (peer != NULL)
		peer->chosen = true;
	engine->links_ns = now_ns + PACE_NS +
			   evfs_env_below(engine->env, 2 * PACE_NS);
}
