/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The audits in `status --json`. */
#include "tools/daemon/daemon.h"

static json_t *number(uint64_t value)
{
	return json_integer((json_int_t)value);
}

json_t *evfs_status_audit_json(const struct evfs_daemon *daemon,
			       const struct evfs_audit_status *audit)
{
	const struct evfs_env *env = evfs_meta_env(daemon->meta);
	int64_t now_s = (int64_t)(env->wall_ns(env->ctx) / 1000000000u);
	int64_t last_s = now_s - audit->last_wall_s;
	bool ever = audit->last_wall_s >= 0;

	return json_pack(
		"{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}",
		"rounds", number(audit->rounds), "root_matches",
		number(audit->root_matches), "objects_compared",
		number(audit->objects_compared), "objects_repaired",
		number(audit->objects_repaired), "bytes", number(audit->bytes),
		"last_s",
		ever ? json_integer(last_s > 0 ? last_s : 0) : json_null(),
		"last_round_trips",
		ever ? number(audit->last_round_trips) : json_null(),
		"last_bytes", ever ? number(audit->last_bytes) : json_null(),
		"running", number(audit->running), "running_nodes",
		number(audit->running_nodes), "diverged",
		number(audit->diverged), "divergences",
		number(audit->divergences));
}
