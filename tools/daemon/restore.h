/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Commands that change files beside the mount, and the address that others
 * are told. They lock meta themselves. */
#ifndef EVFS_TOOLS_RESTORE_H
#define EVFS_TOOLS_RESTORE_H

#include "base/err.h"
#include "meta/members.h"
#include "meta/meta.h"

/* Settles the conflict at an absolute path of the volume. keep: "this",
 * "newest", "all", or the name of a replica. */
int evfs_resolve_path(struct evfs_meta *meta, const char *path,
		      const char *keep, struct evfs_err *err) EVFS_MUST_USE;

/* Brings a version of `path` back, to `to` (NULL: to its own path), as a new
 * version of the file that is there, or as a new file. version: its first
 * digits, as `log` prints them; NULL: the newest that is not current. */
int evfs_restore_path(struct evfs_meta *meta, const char *path,
		      const char *version, const char *to,
		      struct evfs_err *err) EVFS_MUST_USE;

/* The address of a listener as others should use it: a wildcard address is
 * replaced by the host's name. */
void evfs_advertised_address(const char *bound, char ret[EVFS_ADDRESS_MAX + 1]);

#endif
