/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A status object as people read it. The first line is the answer. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "tools/evfsctl/evfsctl.h"

static const json_t *at(const json_t *object, const char *group,
			const char *field)
{
	return json_object_get(group ? json_object_get(object, group) : object,
			       field);
}

static double number(const json_t *object, const char *group,
		     const char *field)
{
	const json_t *value = at(object, group, field);

	return json_is_number(value) ? json_number_value(value) : -1;
}

static const char *text(const json_t *object, const char *field)
{
	const char *value = json_string_value(json_object_get(object, field));

	return value ? value : "-";
}

static void count(const json_t *status, size_t *n, size_t *in_sync,
		  size_t *connected, const json_t **behind)
{
	const json_t *peers = json_object_get(status, "peers");
	size_t i;
	json_t *peer;

	*n = json_array_size(peers);
	*in_sync = *connected = 0;
	*behind = NULL;
	json_array_foreach (peers, i, peer) {
		*connected += json_is_true(json_object_get(peer, "connected"));
		if (json_is_true(json_object_get(peer, "in_sync")))
			++*in_sync;
		else if (!*behind)
			*behind = peer;
	}
}

static void verified(const json_t *status, char out[16])
{
	const char *when = text(status, "verified_at");
	struct tm tm = { 0 }, local;
	time_t at_time;

	snprintf(out, 16, "now");
	if (!strptime(when, "%Y-%m-%dT%H:%M:%SZ", &tm))
		return;
	at_time = timegm(&tm);
	if (localtime_r(&at_time, &local))
		strftime(out, 16, "%H:%M:%S", &local);
}

/* Members that get changes later than convergence_target says. */
static void slow_line(const json_t *status, char line[256])
{
	const json_t *peers = json_object_get(status, "peers");
	char p99[EVFS_CLI_TEXT];
	size_t i;
	json_t *peer;

	snprintf(line, 256, "ATTENTION");
	json_array_foreach (peers, i, peer) {
		if (!json_is_true(at(peer, "convergence_ms", "slow")))
			continue;
		evfs_cli_seconds(number(peer, "convergence_ms", "p99") / 1000,
				 p99);
		snprintf(line, 256,
			 "ATTENTION changes reach %s late (p99 %s, more than "
			 "convergence_target)", text(peer, "name"), p99);
		return;
	}
}

static void attention_line(const json_t *status, char line[256])
{
	double conflicts = number(status, "volume", "conflicts");
	double corrupt = number(status, "content", "corrupt");
	double diverged = number(status, "anti_entropy", "diverged");
	char damaged[64] = "";

	if (diverged > 0) {
		snprintf(line, 256, "ATTENTION DIVERGED from %.0f member%s "
			 "with an equal history; comparing everything",
			 diverged, diverged == 1 ? "" : "s");
		return;
	}
	if (json_is_true(json_object_get(status, "removed"))) {
		snprintf(line, 256, "ATTENTION removed from the volume");
		return;
	}
	if (json_is_true(at(status, "memory", "auditing"))) {
		snprintf(line, 256,
			 "ATTENTION lost memory, audits with members are due");
		return;
	}
	if (corrupt > 0)
		snprintf(damaged, sizeof(damaged), "%.0f damaged chunk%s%s",
			 corrupt, corrupt == 1 ? "" : "s",
			 conflicts > 0 ? ", " : "");
	if (conflicts > 0)
		snprintf(line, 256, "ATTENTION %s%.0f conflict%s", damaged,
			 conflicts, conflicts == 1 ? "" : "s");
	else if (corrupt > 0)
		snprintf(line, 256, "ATTENTION %s", damaged);
	else
		slow_line(status, line);
}

void evfsctl_status_line(const json_t *status, char line[256])
{
	const char *state = text(status, "state");
	double changes = number(status, "pending", "changes");
	double left = number(status, "pending", "left_s");
	size_t n, in_sync, connected;
	char bytes[EVFS_CLI_TEXT], age[EVFS_CLI_TEXT], when[16];
	const json_t *behind;

	count(status, &n, &in_sync, &connected, &behind);
	evfs_cli_bytes((uint64_t)(number(status, "pending", "bytes") > 0
					  ? number(status, "pending", "bytes")
					  : 0),
		       bytes);
	if (!strcmp(state, "attention")) {
		attention_line(status, line);
	} else if (!strcmp(state, "in-sync")) {
		verified(status, when);
		snprintf(line, 256, "IN SYNC with %zu/%zu peers (verified %s)",
			 in_sync, n, when);
	} else if (!strcmp(state, "offline")) {
		evfs_cli_seconds(number(status, "pending", "oldest_s"), age);
		snprintf(line, 256,
			 "%s 0/%zu peers, %.0f change%s waiting (oldest %s)",
			 json_is_true(json_object_get(status, "paused"))
				 ? "PAUSED"
				 : "OFFLINE",
			 n, changes, changes == 1 ? "" : "s", age);
	} else {
		evfs_cli_seconds(left, age);
		snprintf(line, 256, "SYNCING %.0f change%s %s -> %s%s%s%s",
			 changes, changes == 1 ? "" : "s", bytes, behind ? text(behind, "name") : "-",
			 left >= 0 ? ", " : "", left >= 0 ? age : "",
			 left >= 0 ? " left" : "");
	}
}

static void print_peer(const json_t *peer)
{
	char last[EVFS_CLI_TEXT], rtt[EVFS_CLI_TEXT], bytes[EVFS_CLI_TEXT];
	char p50[EVFS_CLI_TEXT], p99[EVFS_CLI_TEXT], skew[EVFS_CLI_TEXT];
	double behind = number(peer, NULL, "behind_bytes");
	const json_t *skew_ms = json_object_get(peer, "skew_ms");
	bool in_sync = json_is_true(json_object_get(peer, "in_sync"));

	evfs_cli_seconds(number(peer, NULL, "last_contact_s"), last);
	evfs_cli_seconds(number(peer, NULL, "rtt_ms") / 1000, rtt);
	evfs_cli_seconds(number(peer, "convergence_ms", "p50") / 1000, p50);
	evfs_cli_seconds(number(peer, "convergence_ms", "p99") / 1000, p99);
	if (json_is_number(skew_ms))
		snprintf(skew, sizeof(skew), "%+.0fms",
			 json_number_value(skew_ms));
	else
		snprintf(skew, sizeof(skew), "-");
	printf("  %-16s %-8s %-8s %6s %6s %8.0f %10s %6.0f %6s/%-6s %s\n",
	       text(peer, "name"), text(peer, "state"),
	       in_sync ? "in sync"
	       : json_is_true(json_object_get(peer, "connected"))
		       ? "syncing"
	       : strcmp(text(peer, "heard_via"), "-") ? "relayed"
						      : "away",
	       last, rtt, number(peer, NULL, "behind_changes"),
	       evfs_cli_bytes((uint64_t)(behind > 0 ? behind : 0), bytes),
	       number(peer, "hints", "count"), p50, p99, skew);
	if (strcmp(text(peer, "heard_via"), "-"))
		printf("  %-16s   not connected; last heard via %s\n", "",
		       text(peer, "heard_via"));
	if (!in_sync && strcmp(text(peer, "last_error"), "-"))
		printf("  %-16s   %s\n", "", text(peer, "last_error"));
}

/* Whom an audit waits for, and whom removed objects are kept for. */
static void print_memory(const json_t *status)
{
	const json_t *peers = json_object_get(status, "peers");
	double waiting = number(status, "collection", "waiting");
	size_t i, n = 0;
	json_t *item;

	json_array_foreach (peers, i, item)
		if (json_is_true(json_object_get(item, "audit_due")))
			printf("%s%s", n++ ? ", " : "audits are due with ",
			       text(item, "name"));
	if (n)
		printf(" ('evfsctl peer remove' ends the wait)\n");
	n = 0;
	json_array_foreach (at(status, "collection", "blocked_by"), i, item)
		printf("%s%s", n++ ? ", " : "removed files are kept for ",
		       json_string_value(item));
	if (n)
		printf(" (%.0f)\n", waiting);
}

void evfsctl_print_status(const json_t *status)
{
	const json_t *peers = json_object_get(status, "peers");
	char line[256], bytes[EVFS_CLI_TEXT];
	size_t i;
	json_t *peer;

	evfsctl_status_line(status, line);
	printf("%s\n", line);
	evfs_cli_bytes((uint64_t)number(status, "volume", "bytes"), bytes);
	printf("\n%s: %.0f files, %.0f directories, %s\n",
	       text(json_object_get(status, "node"), "name"),
	       number(status, "volume", "files"),
	       number(status, "volume", "dirs"), bytes);
	if (number(status, "volume", "only_here") > 0)
		printf("%.0f only here: no other member has confirmed it\n",
		       number(status, "volume", "only_here"));
	if (number(status, "content", "missing") > 0)
		printf("%.0f files have not arrived whole\n",
		       number(status, "content", "missing"));
	print_memory(status);
	if (!json_array_size(peers))
		return;
	printf("\n  %-16s %-8s %-8s %6s %6s %8s %10s %6s %6s/%-6s %s\n", "PEER",
	       "STATE", "", "LAST", "RTT", "BEHIND", "BYTES", "HINTS", "P50",
	       "P99", "SKEW");
	json_array_foreach (peers, i, peer)
		print_peer(peer);
}

int evfsctl_status_exit(const json_t *status)
{
	const char *state = text(status, "state");

	if (!strcmp(state, "in-sync"))
		return 0;
	return strcmp(state, "attention") ? 1 : 2;
}
