/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The status of a replica as one JSON object (CONTRACT, "status"). Costs
 * O(peers + conflicts), scans nothing. What it cannot know is null; what does
 * not exist in this version (hints, audits) counts 0. */
#include <config.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "meta/collect.h"
#include "meta/content.h"
#include "meta/facts.h"
#include "meta/view.h"
#include "tools/daemon/daemon.h"

#define ONLY_HERE_MAX 100000 /* counted no further: status stays quick */

/* Everything that a status is made of, taken at one moment. */
struct picture {
	struct evfs_engine_status engine;
	uint64_t unsealed, unsealed_bytes; /* written, no version yet */
	int64_t unsealed_oldest_s;
	bool undurable;                    /* operations not committed yet */
	evfs_hash root;
	int64_t counters[EVFS_COUNTER_N];
	uint64_t conflicts;
	uint64_t only_here;
	struct evfs_content_stats content;
	struct evfs_collect_stats collect;
};

static int count_conflict(void *arg, const char *plain,
			  const struct evfs_entry *group, size_t n)
{
	(void)plain;
	(void)group;
	(void)n;
	++*(uint64_t *)arg;
	return 0;
}

static int take_picture(struct evfs_daemon *daemon,
			struct evfs_engine *engine, bool whole,
			struct picture *p)
{
	struct evfs_meta *meta = daemon->meta;
	struct evfs_context durable = { 0 };
	int rc;

	memset(p, 0, sizeof(*p));
	p->unsealed_oldest_s = -1;
	if (daemon->fs)
		evfs_fs_unsealed(daemon->fs, &p->unsealed, &p->unsealed_bytes,
				 &p->unsealed_oldest_s);
	rc = evfs_meta_durable_context(meta, &durable);
	if (!rc)
		rc = evfs_engine_status(engine, &p->engine, NULL);
	if (rc) {
		evfs_context_fini(&durable);
		return rc;
	}
	p->root = evfs_meta_durable_root(meta);
	evfs_meta_lock(meta);
	p->undurable = !evfs_context_contains(&durable,
					      evfs_meta_context(meta));
	for (int i = 0; i < EVFS_COUNTER_N; i++)
		p->counters[i] = evfs_facts_counter(evfs_meta_facts(meta),
						    (enum evfs_counter)i);
	evfs_content_get_stats(evfs_meta_content(meta), &p->content);
	evfs_collect_get_stats(meta, &p->collect);
	if (whole) {
		rc = evfs_view_conflicts(meta, count_conflict, &p->conflicts,
					 NULL);
	}
	evfs_meta_unlock(meta);
	evfs_context_fini(&durable);
	if (!rc && whole)
		rc = evfs_engine_only_here(engine, ONLY_HERE_MAX,
					   &p->only_here, NULL);
	if (rc)
		evfs_free(p->engine.peers);
	return rc;
}

static bool is_settled(const struct picture *p)
{
	return !p->unsealed && !p->undurable;
}

/* Peers that count: members that are not removed. */
static void count_peers(const struct picture *p, size_t *in_sync,
			size_t *connected)
{
	*in_sync = *connected = 0;
	for (size_t i = 0; i < p->engine.n_peers; i++) {
		*in_sync += p->engine.peers[i].in_sync;
		*connected += p->engine.peers[i].connected;
	}
}

static bool slow_peer(const struct picture *p)
{
	for (size_t i = 0; i < p->engine.n_peers; i++)
		if (p->engine.peers[i].slow)
			return true;
	return false;
}

static const char *state_of(const struct picture *p, bool converged)
{
	size_t in_sync, connected;

	count_peers(p, &in_sync, &connected);
	if (p->conflicts || p->content.corrupt || p->engine.audit.diverged ||
	    p->engine.removed || p->engine.auditing || slow_peer(p))
		return "attention";
	if (converged)
		return "in-sync";
	return connected ? "syncing" : "offline";
}

static json_t *hash_json(const evfs_hash *hash)
{
	char text[EVFS_HASH_HEX_SIZE];

	evfs_hash_format(hash, text);
	return json_string(text);
}

static json_t *unsigned_json(uint64_t value)
{
	return json_integer((json_int_t)value);
}

/* null below zero: unknown. */
static json_t *known_json(int64_t value)
{
	return value < 0 ? json_null() : json_integer(value);
}

static json_t *node_id_json(uint64_t node)
{
	char text[17];

	snprintf(text, sizeof(text), "%016" PRIx64, node);
	return json_string(text);
}

static const char *peer_state(enum evfs_peer_state state)
{
	switch (state) {
	case EVFS_PEER_ALIVE:
		return "alive";
	case EVFS_PEER_SUSPECT:
		return "suspect";
	case EVFS_PEER_DEAD:
		return "dead";
	case EVFS_PEER_PAUSED:
		return "paused";
	}
	return "dead";
}

static json_t *peer_json(const struct evfs_peer_status *peer, bool settled)
{
	return json_pack(
		"{s:s, s:o, s:s?, s:s, s:b, s:o, s:b, s:o, s:o, s:o, s:o,"
		" s:o, s:o, s:{s:o, s:o, s:o, s:o}, s:{s:o, s:o, s:o, s:b},"
		" s:s?, s:s?, s:o, s:b, s:b, s:o}",
		"name", peer->member.name, "id",
		node_id_json(peer->member.node), "address",
		*peer->member.address ? peer->member.address : NULL, "state",
		peer_state(peer->state), "connected", (int)peer->connected,
		"root_hash",
		peer->has_root ? hash_json(&peer->root) : json_null(),
		"in_sync", (int)(peer->in_sync && settled), "behind_changes",
		unsigned_json(peer->behind_changes), "behind_bytes",
		unsigned_json(peer->behind_bytes), "missing_changes",
		unsigned_json(peer->missing_changes), "rtt_ms",
		known_json(peer->rtt_ms), "skew_ms",
		peer->skew_ms == INT64_MIN ? json_null()
					   : json_integer(peer->skew_ms),
		"last_contact_s", known_json(peer->last_contact_s), "hints",
		"count", unsigned_json(peer->hints_count), "bytes",
		unsigned_json(peer->hints_bytes), "oldest_s",
		known_json(peer->hints_oldest_s), "expired",
		unsigned_json(peer->hints_expired), "convergence_ms", "p50", known_json(peer->convergence_p50_ms),
		"p99", known_json(peer->convergence_p99_ms), "count",
		unsigned_json(peer->convergence_count), "slow",
		(int)peer->slow, "last_error",
		*peer->last_error ? peer->last_error : NULL, "heard_via",
		*peer->heard_via ? peer->heard_via : NULL, "protocol",
		peer->version ? json_integer(peer->version) : json_null(),
		"auditing", (int)peer->auditing, "audit_due",
		(int)peer->audit_due, "blocks_collection",
		unsigned_json(peer->blocks));
}

static json_t *peers_json(const struct picture *p)
{
	json_t *peers = json_array();

	for (size_t i = 0; peers && i < p->engine.n_peers; i++) {
		json_t *peer = peer_json(&p->engine.peers[i], is_settled(p));

		if (!peer || json_array_append_new(peers, peer)) {
			json_decref(peers);
			return NULL;
		}
	}
	return peers;
}

static json_t *time_json(int64_t wall_s)
{
	time_t at = (time_t)wall_s;
	struct tm tm;
	char text[32];

	if (wall_s < 0 || !gmtime_r(&at, &tm))
		return json_null();
	strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &tm);
	return json_string(text);
}

static json_t *node_json(const struct evfs_daemon *daemon)
{
	const struct evfs_env *env = evfs_meta_env(daemon->meta);
	uint64_t up = env->mono_ns(env->ctx) - daemon->started_ns;

	return json_pack("{s:s, s:o, s:s, s:o, s:s, s:s?, s:s?, s:i}", "name",
			 evfs_meta_node_name(daemon->meta), "id",
			 node_id_json(evfs_meta_node(daemon->meta)), "version",
			 PACKAGE_VERSION, "uptime_s",
			 unsigned_json(up / 1000000000u), "store",
			 daemon->store, "mountpoint", daemon->mountpoint,
			 "address", evfs_net_address(daemon->net), "pid",
			 (int)getpid());
}

static json_t *volume_json(const struct evfs_daemon *daemon,
			   const struct picture *p)
{
	const struct evfs_env *env = evfs_meta_env(daemon->meta);
	int64_t now_s = (int64_t)(env->wall_ns(env->ctx) / 1000000000u);
	int64_t verified_s = p->engine.verified_wall_s;

	if (verified_s >= 0)
		verified_s = now_s > verified_s ? now_s - verified_s : 0;
	return json_pack(
		"{s:o, s:o, s:I, s:I, s:I, s:I, s:o, s:o, s:o}", "id",
		hash_json(evfs_meta_volume(daemon->meta)), "root_hash",
		hash_json(&p->root), "files",
		(json_int_t)p->counters[EVFS_COUNTER_FILES], "dirs",
		(json_int_t)p->counters[EVFS_COUNTER_DIRS], "bytes",
		(json_int_t)p->counters[EVFS_COUNTER_BYTES], "versions",
		(json_int_t)p->counters[EVFS_COUNTER_VERSIONS], "conflicts",
		unsigned_json(p->conflicts), "only_here",
		unsigned_json(p->only_here + p->unsealed), "verified_s",
		known_json(verified_s));
}

/* What waits to be confirmed, for the first line of the text form. */
static json_t *pending_json(const struct evfs_daemon *daemon,
			    const struct picture *p)
{
	uint64_t bytes = p->engine.pending_bytes + p->unsealed_bytes +
			 p->engine.wanted_bytes;
	uint64_t changes = p->engine.pending_changes + p->unsealed;
	int64_t oldest = p->engine.oldest_pending_s;
	double left = -1;

	/* What is about to be committed is not counted yet, but it waits. */
	if (!changes && p->undurable && p->engine.n_peers)
		changes = 1;

	if (p->unsealed_oldest_s > oldest)
		oldest = p->unsealed_oldest_s;
	if (bytes && daemon->send_rate > 1)
		left = (double)bytes / daemon->send_rate;
	return json_pack("{s:o, s:o, s:o, s:o}", "changes",
			 unsigned_json(changes),
			 "bytes", unsigned_json(bytes), "oldest_s",
			 known_json(oldest), "left_s",
			 left < 0 ? json_null() : json_real(left));
}

static json_t *traffic_json(const struct picture *p)
{
	return json_pack("{s:o, s:o, s:o, s:o}", "bytes_sent",
			 unsigned_json(p->engine.bytes_sent), "bytes_received",
			 unsigned_json(p->engine.bytes_received),
			 "messages_sent",
			 unsigned_json(p->engine.messages_sent),
			 "messages_received",
			 unsigned_json(p->engine.messages_received));
}

/* What it has sent; what it did not believe; how it judges its own timing. */
static json_t *gossip_json(const struct picture *p)
{
	return json_pack("{s:o, s:o, s:o, s:o, s:i}", "rounds",
			 unsigned_json(p->engine.gossip_rounds), "messages",
			 unsigned_json(p->engine.gossip_messages), "bytes",
			 unsigned_json(p->engine.gossip_bytes), "refused",
			 unsigned_json(p->engine.gossip_refused), "health",
			 (int)p->engine.health);
}

/* What was removed and is kept until every member has heard of it. */
static json_t *collection_json(const struct picture *p)
{
	const struct evfs_collect_stats *stats = &p->collect;
	json_t *blockers = json_array();

	for (size_t i = 0; blockers && i < p->engine.n_peers; i++)
		if (p->engine.peers[i].blocks &&
		    json_array_append_new(
			    blockers,
			    json_string(p->engine.peers[i].member.name))) {
			json_decref(blockers);
			return NULL;
		}
	return json_pack("{s:o, s:o, s:o, s:o, s:o, s:b}", "waiting",
			 unsigned_json(stats->waiting), "objects",
			 unsigned_json(stats->objects), "links",
			 unsigned_json(stats->links), "ties",
			 unsigned_json(stats->ties), "blocked_by", blockers,
			 "behind", (int)stats->behind);
}

static json_t *hints_json(const struct picture *p)
{
	uint64_t held = 0, foreign = 0;

	for (size_t i = 0; i < p->engine.n_peers; i++) {
		held += p->engine.peers[i].hints_count;
		foreign += p->engine.peers[i].hints_foreign;
	}
	return json_pack("{s:o, s:o, s:o, s:o}", "held", unsigned_json(held),
			 "delivered", unsigned_json(p->engine.hints_delivered),
			 "expired", unsigned_json(p->engine.hints_expired),
			 "held_for_others", unsigned_json(foreign));
}

static json_t *quorum_json(const struct picture *p)
{
	return json_pack("{s:o, s:o, s:o, s:o}", "write_waits",
			 unsigned_json(p->engine.write_waits), "write_failed",
			 unsigned_json(p->engine.write_failed), "read_waits",
			 unsigned_json(p->engine.read_waits), "read_failed",
			 unsigned_json(p->engine.read_failed));
}

json_t *evfs_status_json(struct evfs_daemon *daemon,
			 struct evfs_engine *engine)
{
	struct picture p;
	json_t *status;
	bool converged;

	if (take_picture(daemon, engine, true, &p))
		return NULL;
	converged = p.engine.converged && is_settled(&p);
	status = json_pack(
		"{s:i, s:o, s:o, s:s, s:b, s:b, s:o, s:o, s:o, s:o,"
		" s:o, s:o, s:o,"
		" s:o, s:{s:o, s:o},"
		" s:{s:o, s:o, s:o, s:o, s:o}, s:o, s:{s:b, s:o}, s:b}",
		"format", 1, "node", node_json(daemon), "volume",
		volume_json(daemon, &p), "state", state_of(&p, converged),
		"converged", (int)converged, "paused", (int)p.engine.paused,
		"verified_at", time_json(p.engine.verified_wall_s), "peers",
		peers_json(&p), "pending", pending_json(daemon, &p), "traffic",
		traffic_json(&p), "hints", hints_json(&p), "quorum",
		quorum_json(&p), "gossip", gossip_json(&p), "anti_entropy",
		evfs_status_audit_json(daemon, &p.engine.audit),
		"read_repair", "checks", unsigned_json(p.engine.read_checks),
		"repaired", unsigned_json(p.engine.read_repaired), "content",
		"objects", unsigned_json(p.content.objects), "bytes",
		unsigned_json(p.content.bytes), "corrupt",
		unsigned_json(p.content.corrupt), "missing",
		unsigned_json(p.content.wanted), "missing_bytes",
		unsigned_json(p.content.wanted_bytes), "collection",
		collection_json(&p), "memory", "auditing",
		(int)p.engine.auditing, "lives",
		unsigned_json(p.engine.lives), "removed",
		(int)p.engine.removed);
	evfs_free(p.engine.peers);
	return status;
}

bool evfs_status_converged(struct evfs_daemon *daemon,
			   struct evfs_engine *engine, const json_t *names,
			   const char **ret_unknown)
{
	struct picture p;
	bool converged;

	*ret_unknown = NULL;
	if (take_picture(daemon, engine, false, &p))
		return false;
	if (!json_array_size(names)) {
		converged = p.engine.converged && is_settled(&p);
		evfs_free(p.engine.peers);
		return converged;
	}
	converged = is_settled(&p) && !p.engine.wanted_contents;
	for (size_t n = 0; n < json_array_size(names); n++) {
		const char *name = json_string_value(json_array_get(names, n));
		size_t i = 0;

		while (i < p.engine.n_peers &&
		       strcmp(p.engine.peers[i].member.name, name ? name : ""))
			i++;
		if (i == p.engine.n_peers)
			*ret_unknown = name ? name : "";
		else
			converged = converged && p.engine.peers[i].in_sync;
	}
	evfs_free(p.engine.peers);
	return converged && !*ret_unknown;
}

void evfs_status_round(struct evfs_daemon *daemon, struct evfs_engine *engine)
{
	const struct evfs_env *env = evfs_meta_env(daemon->meta);
	uint64_t now = env->mono_ns(env->ctx);
	struct evfs_engine_status status;
	double seconds = (double)(now - daemon->rate_ns) / 1e9;

	if (daemon->rate_ns && seconds < 1)
		return;
	if (evfs_engine_status(engine, &status, NULL))
		return;
	if (daemon->rate_ns) {
		double rate = (double)(status.bytes_sent +
				       status.bytes_received -
				       daemon->rate_bytes) /
			      seconds;

		daemon->send_rate = daemon->send_rate * 0.7 + rate * 0.3;
	}
	daemon->rate_ns = now;
	daemon->rate_bytes = status.bytes_sent + status.bytes_received;
	evfs_free(status.peers);
}

struct mount_status {
	struct evfs_daemon *daemon;
	json_t *status;
};

static void status_on_net(void *arg, struct evfs_engine *engine)
{
	struct mount_status *call = arg;

	call->status = evfs_status_json(call->daemon, engine);
}

int evfs_status_for_mount(void *ctx, struct evfs_buf *out)
{
	struct mount_status call = { .daemon = ctx };
	char *text;
	int rc;

	evfs_net_call(call.daemon->net, status_on_net, &call);
	if (!call.status)
		return EVFS_ENOMEM;
	text = json_dumps(call.status, JSON_INDENT(1));
	json_decref(call.status);
	if (!text)
		return EVFS_ENOMEM;
	rc = evfs_buf_printf(out, "%s\n", text);
	free(text);
	return rc;
}
