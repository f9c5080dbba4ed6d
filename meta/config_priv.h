/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The settings of an open store, for config.c and db_config.c. */
#ifndef EVFS_META_CONFIG_PRIV_H
#define EVFS_META_CONFIG_PRIV_H

#include "meta/config.h"

struct evfs_config {
	char *texts[EVFS_CONFIG_KEYS];    /* owned; never NULL once loaded */
	int64_t values[EVFS_CONFIG_KEYS]; /* what they mean */
};

/* EVFS_EINVAL names the valid ones. */
int evfs_config_find(const char *name, enum evfs_config_key *ret,
		     struct evfs_err *err) EVFS_MUST_USE;
const char *evfs_config_initial(enum evfs_config_key key);
int evfs_config_write(struct evfs_meta *meta, enum evfs_config_key key,
		      const char *value, struct evfs_err *err) EVFS_MUST_USE;

#endif
