/* SPDX-License-Identifier: GPL-3.0-or-later */
/* POSIX ACLs in the form that the kernel hands over as the value of
 * system.posix_acl_access and _default (linux/posix_acl_xattr.h: le32 version
 * 2; then for each entry le16 tag, le16 permissions, le32 id). The kernel
 * checks and enforces them; a file system keeps the mode in step and lets new
 * files inherit. Pure. */
#ifndef EVFS_FS_ACL_H
#define EVFS_FS_ACL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define EVFS_ACL_ACCESS "system.posix_acl_access"
#define EVFS_ACL_DEFAULT "system.posix_acl_default"
#define EVFS_ACL_BYTES_MAX 65536

/* Is it a well-formed list with the three entries that every one has? */
bool evfs_acl_is_valid(const void *acl, size_t len);

/* The nine permission bits that it stands for (valid ACL). *ret_minimal: it
 * says no more than they do. */
uint32_t evfs_acl_mode(const void *acl, size_t len, bool *ret_minimal);

/* chmod: the entries follow the mode, in place. */
void evfs_acl_chmod(void *acl, size_t len, uint32_t mode);

/* A new file below a directory with this default ACL: makes the copy `acl`
 * (in place) its access ACL, and cuts *mode down by it. *ret_minimal: the mode
 * says it all. */
void evfs_acl_inherit(void *acl, size_t len, uint32_t *mode,
		      bool *ret_minimal);

#endif
