/* SPDX-License-Identifier: GPL-3.0-or-later */
/* POSIX ACLs and the mode. The rules are those of acl(5) and of the kernel's
 * fs/posix_acl.c (posix_acl_equiv_mode, __posix_acl_chmod_masq,
 * posix_acl_create_masq). */
#include "fs/acl.h"

#define HEAD_LEN 4
#define ENTRY_LEN 8
#define VERSION 2

enum {
	TAG_USER_OBJ = 0x01,
	TAG_USER = 0x02,
	TAG_GROUP_OBJ = 0x04,
	TAG_GROUP = 0x08,
	TAG_MASK = 0x10,
	TAG_OTHER = 0x20
};

static unsigned le16_read(const uint8_t *at)
{
	return (unsigned)at[0] | (unsigned)at[1] << 8;
}

static void perm_write(uint8_t *entry, uint32_t perm)
{
	entry[2] = (uint8_t)(perm & 7);
	entry[3] = 0;
}

/* The first entry with this tag, or NULL. */
static uint8_t *entry_of(const void *acl, size_t len, unsigned tag)
{
	const uint8_t *bytes = acl;

	for (size_t at = HEAD_LEN; at + ENTRY_LEN <= len; at += ENTRY_LEN)
		if (le16_read(bytes + at) == tag)
			return (uint8_t *)(uintptr_t)(bytes + at);
	return NULL;
}

static uint32_t perm_of(const void *acl, size_t len, unsigned tag)
{
	const uint8_t *entry = entry_of(acl, len, tag);

	return entry ? le16_read(entry + 2) & 7 : 0;
}

bool evfs_acl_is_valid(const void *acl, size_t len)
{
	const uint8_t *bytes = acl;

	return len >= HEAD_LEN + 3 * ENTRY_LEN && len <= EVFS_ACL_BYTES_MAX &&
	       (len - HEAD_LEN) % ENTRY_LEN == 0 && bytes[0] == VERSION &&
	       bytes[1] == 0 && bytes[2] == 0 && bytes[3] == 0 &&
	       entry_of(acl, len, TAG_USER_OBJ) &&
	       entry_of(acl, len, TAG_GROUP_OBJ) &&
	       entry_of(acl, len, TAG_OTHER);
}

static bool is_minimal(const void *acl, size_t len)
{
	return !entry_of(acl, len, TAG_USER) &&
	       !entry_of(acl, len, TAG_GROUP) && !entry_of(acl, len, TAG_MASK);
}

/* The entry that the group bits of the mode show: the mask where there is
 * one. */
static unsigned group_tag(const void *acl, size_t len)
{
	return entry_of(acl, len, TAG_MASK) ? TAG_MASK : TAG_GROUP_OBJ;
}

uint32_t evfs_acl_mode(const void *acl, size_t len, bool *ret_minimal)
{
	*ret_minimal = is_minimal(acl, len);
	return perm_of(acl, len, TAG_USER_OBJ) << 6 |
	       perm_of(acl, len, group_tag(acl, len)) << 3 |
	       perm_of(acl, len, TAG_OTHER);
}

void evfs_acl_chmod(void *acl, size_t len, uint32_t mode)
{
	perm_write(entry_of(acl, len, TAG_USER_OBJ), mode >> 6);
	perm_write(entry_of(acl, len, group_tag(acl, len)), mode >> 3);
	perm_write(entry_of(acl, len, TAG_OTHER), mode);
}

void evfs_acl_inherit(void *acl, size_t len, uint32_t *mode,
		      bool *ret_minimal)
{
	uint32_t perms;

	perm_write(entry_of(acl, len, TAG_USER_OBJ),
		   perm_of(acl, len, TAG_USER_OBJ) & *mode >> 6);
	perm_write(entry_of(acl, len, group_tag(acl, len)),
		   perm_of(acl, len, group_tag(acl, len)) & *mode >> 3);
	perm_write(entry_of(acl, len, TAG_OTHER),
		   perm_of(acl, len, TAG_OTHER) & *mode);
	perms = evfs_acl_mode(acl, len, ret_minimal);
	*mode = (*mode & ~(uint32_t)0777) | perms;
}
