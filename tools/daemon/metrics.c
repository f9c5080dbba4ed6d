/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The figures of `status` as OpenMetrics text (exposition format,
 * version 1.0.0), made from the same JSON object so that they cannot differ. */
#include <string.h>

#include "tools/daemon/daemon.h"

/* A figure: where it is in the status object, and what it is. */
struct metric {
	const char *group;   /* member of the status object; NULL = of a peer */
	const char *sub;     /* member of the peer's object, or NULL */
	const char *field;
	const char *name;    /* of the metric family */
	const char *type;    /* "gauge" or "counter" */
	const char *help;
};

static const struct metric metrics[] = {
	{ "node", NULL, "uptime_s", "evfs_uptime_seconds", "gauge",
	  "Time since the daemon started." },
	{ "volume", NULL, "files", "evfs_files", "gauge",
	  "Files, links and specials shown." },
	{ "volume", NULL, "dirs", "evfs_directories", "gauge",
	  "Directories shown." },
	{ "volume", NULL, "bytes", "evfs_volume_bytes", "gauge",
	  "Sum of the sizes of all files." },
	{ "volume", NULL, "versions", "evfs_versions", "gauge",
	  "Versions of files, concurrent ones included." },
	{ "volume", NULL, "conflicts", "evfs_conflicts", "gauge",
	  "Names with siblings." },
	{ "volume", NULL, "verified_s", "evfs_verified_age_seconds", "gauge",
	  "Time since all members were known to hold the same." },
	{ "volume", NULL, "only_here", "evfs_only_here", "gauge",
	  "Objects that no other member has confirmed." },
	{ "pending", NULL, "changes", "evfs_pending_changes", "gauge",
	  "Changes not confirmed by every member." },
	{ "pending", NULL, "bytes", "evfs_pending_bytes", "gauge",
	  "Bytes not confirmed by every member." },
	{ "traffic", NULL, "bytes_sent", "evfs_sent_bytes", "counter",
	  "Bytes sent to members." },
	{ "traffic", NULL, "bytes_received", "evfs_received_bytes", "counter",
	  "Bytes received from members." },
	{ "traffic", NULL, "messages_sent", "evfs_sent_messages", "counter",
	  "Messages sent to members." },
	{ "traffic", NULL, "messages_received", "evfs_received_messages",
	  "counter", "Messages received from members." },
	{ "hints", NULL, "held", "evfs_hints_held", "gauge", "Hints held." },
	{ "hints", NULL, "delivered", "evfs_hints_delivered", "counter",
	  "Hints delivered." },
	{ "hints", NULL, "expired", "evfs_hints_expired", "counter",
	  "Hints whose pins were dropped." },
	{ "hints", NULL, "held_for_others", "evfs_hints_held_for_others",
	  "gauge", "Hints held that another replica wrote." },
	{ "quorum", NULL, "write_waits", "evfs_quorum_write_waits", "counter",
	  "fsync calls that waited for other replicas." },
	{ "quorum", NULL, "write_failed", "evfs_quorum_write_failures",
	  "counter", "Those that too few confirmed in time." },
	{ "quorum", NULL, "read_waits", "evfs_quorum_read_waits", "counter",
	  "Opens that asked other replicas first." },
	{ "quorum", NULL, "read_failed", "evfs_quorum_read_failures",
	  "counter", "Those that too few answered in time." },
	{ "gossip", NULL, "rounds", "evfs_gossip_rounds", "counter",
	  "Rounds of gossip." },
	{ "gossip", NULL, "messages", "evfs_gossip_messages", "counter",
	  "Gossip messages sent." },
	{ "gossip", NULL, "bytes", "evfs_gossip_bytes", "counter",
	  "Bytes of gossip sent." },
	{ "gossip", NULL, "refused", "evfs_gossip_refused", "counter",
	  "Claims by members that were not believed." },
	{ "gossip", NULL, "health", "evfs_gossip_health", "gauge",
	  "How late this daemon has been of itself: 0 (well) to 8." },
	{ "anti_entropy", NULL, "rounds", "evfs_anti_entropy_rounds",
	  "counter", "Merkle comparisons." },
	{ "anti_entropy", NULL, "root_matches",
	  "evfs_anti_entropy_root_matches", "counter",
	  "Of them, with equal roots." },
	{ "anti_entropy", NULL, "objects_compared",
	  "evfs_anti_entropy_objects_compared", "counter",
	  "Objects that were compared one by one." },
	{ "anti_entropy", NULL, "objects_repaired",
	  "evfs_anti_entropy_objects_repaired", "counter",
	  "Objects that a Merkle comparison changed here." },
	{ "anti_entropy", NULL, "bytes", "evfs_anti_entropy_bytes", "counter",
	  "Bytes of trees, both ways." },
	{ "anti_entropy", NULL, "diverged", "evfs_diverged_members", "gauge",
	  "Members with equal contexts and other facts." },
	{ "anti_entropy", NULL, "divergences", "evfs_divergences", "counter",
	  "Divergences found." },
	{ "read_repair", NULL, "checks", "evfs_read_repair_checks", "counter",
	  "Reads compared with another member." },
	{ "read_repair", NULL, "repaired", "evfs_read_repair_repaired",
	  "counter", "Objects that such a comparison put right." },
	{ "content", NULL, "objects", "evfs_content_objects", "gauge",
	  "Contents that are whole here." },
	{ "content", NULL, "bytes", "evfs_content_bytes", "gauge",
	  "Bytes of chunks on disk." },
	{ "content", NULL, "corrupt", "evfs_content_corrupt", "gauge",
	  "Chunks found damaged." },
	{ "content", NULL, "missing", "evfs_content_missing", "gauge",
	  "Contents that have not arrived yet." },
	{ "content", NULL, "missing_bytes", "evfs_content_missing_bytes",
	  "gauge", "Their size." },
	{ "collection", NULL, "waiting", "evfs_collection_waiting", "gauge",
	  "Removed objects that are kept until every member has heard." },
	{ "collection", NULL, "objects", "evfs_collection_objects", "counter",
	  "Removed objects that were collected." },
	{ "collection", NULL, "ties", "evfs_collection_ties", "counter",
	  "Ties of transactions that were collected." },
	{ "memory", NULL, "auditing", "evfs_memory_auditing", "gauge",
	  "1 while audits are due because memory was lost." },
	{ "memory", NULL, "lives", "evfs_memory_lives", "counter",
	  "Lives begun because memory was lost." },
	{ NULL, NULL, "blocks_collection", "evfs_peer_blocks_collection",
	  "gauge", "Removed objects that are kept for the member." },
	{ NULL, NULL, "connected", "evfs_peer_connected", "gauge",
	  "1 while connected." },
	{ NULL, NULL, "state", "evfs_peer_alive", "gauge",
	  "1 while alive, as far as is known." },
	{ NULL, NULL, "in_sync", "evfs_peer_in_sync", "gauge",
	  "1 while in sync." },
	{ NULL, NULL, "behind_changes", "evfs_peer_behind_changes", "gauge",
	  "Changes that the member lacks." },
	{ NULL, NULL, "behind_bytes", "evfs_peer_behind_bytes", "gauge",
	  "Bytes that the member lacks." },
	{ NULL, NULL, "missing_changes", "evfs_peer_missing_changes", "gauge",
	  "Changes of the member that are lacking here." },
	{ NULL, NULL, "rtt_ms", "evfs_peer_rtt_milliseconds", "gauge",
	  "Round trip." },
	{ NULL, NULL, "skew_ms", "evfs_peer_skew_milliseconds", "gauge",
	  "Clock of the member minus the local one." },
	{ NULL, NULL, "last_contact_s", "evfs_peer_last_contact_seconds",
	  "gauge", "Time since the member was last heard." },
	{ NULL, "convergence_ms", "p50", "evfs_peer_convergence_p50_milliseconds",
	  "gauge", "Median time to the member's durable acknowledgement." },
	{ NULL, "convergence_ms", "p99", "evfs_peer_convergence_p99_milliseconds",
	  "gauge", "99th percentile of it." },
	{ NULL, "convergence_ms", "count", "evfs_peer_convergence_changes",
	  "counter", "Commits whose acknowledgement was timed." },
	{ NULL, "convergence_ms", "slow", "evfs_peer_convergence_slow", "gauge",
	  "1 while the 99th percentile exceeds convergence_target." },
	{ NULL, "hints", "count", "evfs_peer_hints", "gauge",
	  "Hints held for the member." },
	{ NULL, "hints", "bytes", "evfs_peer_hints_bytes", "gauge",
	  "Content of those hints." },
	{ NULL, "hints", "oldest_s", "evfs_peer_hints_oldest_seconds", "gauge",
	  "Age of the oldest hint." },
	{ NULL, "hints", "expired", "evfs_peer_hints_expired", "gauge",
	  "Changes that it lacks and that are not held for it any more." },
};

static int put_value(struct evfs_buf *out, const struct metric *metric,
		     const char *peer, const json_t *value)
{
	const char *total = strcmp(metric->type, "counter") ? "" : "_total";
	double number;

	if (!value || json_is_null(value))
		return 0;
	if (json_is_string(value)) /* a member's state */
		value = strcmp(json_string_value(value), "alive")
				? json_false()
				: json_true();
	number = json_is_boolean(value) ? json_is_true(value)
					: json_number_value(value);
	if (peer)
		return evfs_buf_printf(out, "%s%s{peer=\"%s\"} %.17g\n",
				       metric->name, total, peer, number);
	return evfs_buf_printf(out, "%s%s %.17g\n", metric->name, total,
			       number);
}

static int put_peers(struct evfs_buf *out, const struct metric *metric,
		     const json_t *peers)
{
	size_t i;
	json_t *peer;

	json_array_foreach (peers, i, peer) {
		const json_t *from = metric->sub
					     ? json_object_get(peer, metric->sub)
					     : peer;
		const char *name =
			json_string_value(json_object_get(peer, "name"));
		int rc = put_value(out, metric, name ? name : "",
				   json_object_get(from, metric->field));

		if (rc)
			return rc;
	}
	return 0;
}

int evfs_metrics_text(const json_t *status, struct evfs_buf *out)
{
	for (size_t i = 0; i < sizeof(metrics) / sizeof(*metrics); i++) {
		const struct metric *m = &metrics[i];
		int rc = evfs_buf_printf(out, "# TYPE %s %s\n# HELP %s %s\n",
					 m->name, m->type, m->name, m->help);

		if (!rc && m->group)
			rc = put_value(out, m, NULL,
				       json_object_get(
					       json_object_get(status,
							       m->group),
					       m->field));
		else if (!rc)
			rc = put_peers(out, m,
				       json_object_get(status, "peers"));
		if (rc)
			return rc;
	}
	return evfs_buf_printf(out, "# EOF\n");
}
