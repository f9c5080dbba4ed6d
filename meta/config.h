/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Settings, by the names of CONTRACT "Settings". Values are texts with units
 * ("5s", "1GiB", "10%", "50000/s") kept in the store. All with meta locked. */
#ifndef EVFS_META_CONFIG_H
#define EVFS_META_CONFIG_H

#include <stdint.h>

#include "base/err.h"
#include "meta/meta.h"

enum evfs_config_kind {
	EVFS_CONFIG_COUNT,    /* 0 and up */
	EVFS_CONFIG_DURATION, /* ms */
	EVFS_CONFIG_BYTES,
	EVFS_CONFIG_RATE,     /* per second */
	EVFS_CONFIG_FRACTION, /* parts per million of 1 */
	EVFS_CONFIG_SHARE,    /* percent of the disk, or bytes */
	EVFS_CONFIG_DAYS
};

/* X(key, kind, default, minimum, maximum, meaning); in the order listed. */
#define EVFS_CONFIG_TABLE(X) \
	X(write_quorum, COUNT, "1", 1, 64, "replicas that fsync waits for") \
	X(read_quorum, COUNT, "1", 1, 64, "replicas that open asks") \
	X(quorum_timeout, DURATION, "5s", 1, 3600000, "longest quorum wait") \
	X(read_repair_chance, FRACTION, "0.1", 0, 1000000, \
	  "share of opens that check another member") \
	X(gossip_interval, DURATION, "1s", 10, 3600000, "time between rounds") \
	X(gossip_fanout, COUNT, "2", 1, 64, "members told in a round") \
	X(anti_entropy_interval, DURATION, "60s", 1000, 604800000, \
	  "time between Merkle audits") \
	X(hint_ttl, DURATION, "3h", 1000, 31536000000, \
	  "how long changes are held for an absent member") \
	X(hint_max_bytes, BYTES, "1GiB", 0, INT64_MAX, \
	  "content held for one absent member") \
	X(hint_rate, RATE, "50000/s", 1, INT64_MAX, "objects replayed") \
	X(seal_interval, DURATION, "30s", 100, 86400000, \
	  "how often a file that stays open is sealed") \
	X(history_days, DAYS, "30", 0, 36500, "how long old versions stay") \
	X(history_max, SHARE, "10%", 0, INT64_MAX, \
	  "how much of the disk they may take") \
	X(bandwidth_up, RATE, "0", 0, INT64_MAX, "bytes sent; 0 = no limit") \
	X(bandwidth_down, RATE, "0", 0, INT64_MAX, "bytes received") \
	X(reserve_free, SHARE, "1%", 0, INT64_MAX, "disk space left alone") \
	X(convergence_target, DURATION, "1s", 1, 86400000, \
	  "p99 above which status says ATTENTION")

enum evfs_config_key {
#define X(key, kind, initial, low, high, text) EVFS_CONFIG_##key,
	EVFS_CONFIG_TABLE(X)
#undef X
	EVFS_CONFIG_KEYS
};

/* The number behind a setting, in the unit of its kind. SHARE in percent is
 * negative: -10 for "10%". */
int64_t evfs_config_get(struct evfs_meta *meta, enum evfs_config_key key);

/* By name, as text. get: borrowed until unlock; EVFS_EINVAL with the valid
 * names for an unknown key. set: EVFS_EINVAL says what a value looks like. */
int evfs_config_get_text(struct evfs_meta *meta, const char *name,
			 const char **ret, struct evfs_err *err)
	EVFS_MUST_USE;
int evfs_config_set_text(struct evfs_meta *meta, const char *name,
			 const char *value, struct evfs_err *err)
	EVFS_MUST_USE;
const char *evfs_config_name(enum evfs_config_key key);
const char *evfs_config_meaning(enum evfs_config_key key);

/* EVFS_EINVAL says what a value looks like, or its bounds. */
int evfs_config_parse(enum evfs_config_key key, const char *text, int64_t *ret,
		      struct evfs_err *err) EVFS_MUST_USE;

/* "90s", "3h", "1.5h", "500ms", "1d" to ms; for --expires and --timeout too. */
int evfs_config_parse_duration(const char *text, int64_t *ret_ms,
			       struct evfs_err *err) EVFS_MUST_USE;

#endif
