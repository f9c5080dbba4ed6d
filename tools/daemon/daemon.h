/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A running daemon: the only place that knows meta, net and fs at once. */
#ifndef EVFS_TOOLS_DAEMON_H
#define EVFS_TOOLS_DAEMON_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "fs/fs.h"
#include "meta/meta.h"
#include "net/net.h"

struct evfs_control;
struct evfs_housekeeper;
struct evfs_scrub;

struct evfs_daemon {
	char *store;                   /* absolute path; owned */
	char *mountpoint;              /* absolute path; owned */
	struct evfs_meta *meta;        /* owned */
	struct evfs_net *net;          /* owned */
	struct evfs_fs *fs;            /* owned */
	struct evfs_control *control;  /* owned; the UNIX socket */
	struct evfs_housekeeper *keeper; /* owned; reclamation thread */
	struct evfs_scrub *scrub;        /* owned; reading back */
	uint64_t started_ns;           /* monotonic */
	double send_rate;              /* bytes/s, smoothed; network thread */
	uint64_t rate_bytes;           /* sent when rate_ns was taken */
	uint64_t rate_ns;              /* monotonic; 0 = not yet */
};

/* ---- control.c: STORE/control.sock, served on the network thread ----
 * One JSON object a line. Request: {"command": NAME, ...}; reply: {"ok": true,
 * ...} or {"error": TEXT, "code": N}. */
int evfs_control_start(struct evfs_daemon *daemon, struct evfs_err *err)
	EVFS_MUST_USE;
void evfs_control_stop(struct evfs_daemon *daemon); /* after the net ended */

/* ---- commands.c: what a request does; on the network thread ----
 * The reply is the caller's. */
json_t *evfs_command_run(struct evfs_daemon *daemon,
			 struct evfs_engine *engine, const json_t *request);

/* ---- status.c ---- */

/* The object of `status --json`; NULL when out of memory. Network thread. */
json_t *evfs_status_json(struct evfs_daemon *daemon,
			 struct evfs_engine *engine);
/* Its "anti_entropy". */
json_t *evfs_status_audit_json(const struct evfs_daemon *daemon,
			       const struct evfs_audit_status *audit);
/* Has everything converged, with all members or those named (a JSON array of
 * names; NULL or empty: all)? unknown name: false, and *ret_unknown is it. */
bool evfs_status_converged(struct evfs_daemon *daemon,
			   struct evfs_engine *engine, const json_t *names,
			   const char **ret_unknown);
/* Called after each round of the network thread: keeps the send rate. */
void evfs_status_round(struct evfs_daemon *daemon,
		       struct evfs_engine *engine);
/* status.json of the mount; any thread but the network's. */
int evfs_status_for_mount(void *daemon, struct evfs_buf *out);

/* ---- metrics.c ---- */

/* OpenMetrics text of the same figures. */
int evfs_metrics_text(const json_t *status, struct evfs_buf *out)
	EVFS_MUST_USE;

/* ---- scrub.c: reads the store back, slowly, or for a user at once ---- */
struct evfs_scrub_report {
	bool running;
	uint64_t steps;       /* of contents, about 1 MiB each */
	uint64_t damaged;     /* chunks */
	uint64_t objects;     /* counted anew for the Merkle tree */
	uint64_t nodes_wrong; /* of it; put right */
	char error[256];      /* why it ended early; "" = it did not */
};
int evfs_scrub_start(struct evfs_daemon *daemon, struct evfs_err *err)
	EVFS_MUST_USE;
void evfs_scrub_stop(struct evfs_daemon *daemon);
/* Begins a pass over everything; one that is under way goes on (false). Any
 * thread. */
bool evfs_scrub_request(struct evfs_daemon *daemon);
/* Of the last pass that was requested. Any thread. */
void evfs_scrub_get(struct evfs_daemon *daemon, struct evfs_scrub_report *ret);

/* ---- housekeeping.c: drops old history, reclaims space ---- */
int evfs_housekeeper_start(struct evfs_daemon *daemon, struct evfs_err *err)
	EVFS_MUST_USE;
void evfs_housekeeper_stop(struct evfs_daemon *daemon);

#endif
