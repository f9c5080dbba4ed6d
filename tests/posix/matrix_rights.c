/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Who may do what: each call, by each caller, in each kind of directory, on
 * each kind of object; and what became of mode and owner. As root only. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "tests/posix/scene.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static const struct scene_caller callers[] = {
	{ "root", 0, 0, { 0 } },
	{ "u1g1", 1, 1, { 0 } },
	{ "u1g3", 1, 3, { 0 } },
	{ "u2g1", 2, 1, { 0 } },
	{ "u2g2+g1", 2, 2, { 1, 0 } },
	{ "u3g3", 3, 3, { 0 } },
	{ "u3g3+g1g2", 3, 3, { 1, 2, 0 } },
};

static const char *const shown[] = { "P", "P/o", "Q", "Q/t", NULL };

struct call {
	const char *name;          /* in the line */
	long (*run)(const char *path, long arg);
	long arg;                  /* of run */
	const char *kinds;         /* of objects that it is tried with; '-' is
	                            * a free name */
};

/* ---- calls ---- */

static long closed(int fd)
{
	return fd < 0 ? -1 : close(fd);
}

static long run_open(const char *path, long flags)
{
	return closed(open(path, (int)flags | O_NONBLOCK | O_CLOEXEC, 0666));
}

static long run_mknod(const char *path, long mode)
{
	return mknod(path, (mode_t)mode, 0x103);
}

static long run_mkdir(const char *path, long mode)
{
	return mkdir(path, (mode_t)mode);
}

static long run_symlink(const char *path, long arg)
{
	(void)arg;
	return symlink("somewhere", path);
}

static long run_remove(const char *path, long flags)
{
	return unlinkat(AT_FDCWD, path, (int)flags);
}

static long run_link_out(const char *path, long arg)
{
	(void)arg;
	return link(path, "Q/new");
}

static long run_link_in(const char *path, long arg)
{
	(void)arg;
	return link("Q/t", path);
}

static long run_rename_out(const char *path, long flags)
{
	return renameat2(AT_FDCWD, path, AT_FDCWD, "Q/new", (unsigned)flags);
}

static long run_rename_over(const char *path, long flags)
{
	return renameat2(AT_FDCWD, path, AT_FDCWD, "Q/t", (unsigned)flags);
}

static long run_rename_in(const char *path, long flags)
{
	return renameat2(AT_FDCWD, "Q/t", AT_FDCWD, path, (unsigned)flags);
}

static long run_chmod(const char *path, long mode)
{
	return chmod(path, (mode_t)mode);
}

/* uid * 16 + gid, 15 for "leave it" */
static long run_chown(const char *path, long ids)
{
	long uid = ids / 16, gid = ids % 16;

	return lchown(path, uid == 15 ? (uid_t)-1 : SCENE_ID(uid),
		      gid == 15 ? (gid_t)-1 : SCENE_ID(gid));
}

static long run_truncate(const char *path, long size)
{
	return truncate(path, size);
}

static long run_write(const char *path, long arg)
{
	int fd = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
	long rc;

	(void)arg;
	if (fd < 0)
		return -1;
	rc = write(fd, "x", 1);
	if (rc < 0) {
		int saved = errno;

		(void)close(fd);
		errno = saved;
		return -1;
	}
	return close(fd) == 0 ? rc : -1;
}

static long run_ftruncate(const char *path, long size)
{
	int fd = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
	long rc;

	if (fd < 0)
		return -1;
	rc = ftruncate(fd, size);
	if (rc == 0)
		return close(fd);
	return -1;
}

static long run_allocate(const char *path, long size)
{
	int fd = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
	long rc;

	if (fd < 0)
		return -1;
	rc = fallocate(fd, 0, 0, size);
	if (rc == 0)
		return close(fd);
	return -1;
}

/* 0: both now, 1: both given, 2: only atime, 3: mtime now and atime given */
static long run_utimens(const char *path, long which)
{
	struct timespec times[2] = { { 1000000, 5 }, { 1000000, 7 } };

	if (which == 2)
		times[1].tv_nsec = UTIME_OMIT;
	if (which == 3)
		times[1].tv_nsec = UTIME_NOW;
	return utimensat(AT_FDCWD, path, which == 0 ? NULL : times,
			 AT_SYMLINK_NOFOLLOW);
}

static long run_access(const char *path, long mode)
{
	return faccessat(AT_FDCWD, path, (int)mode, AT_EACCESS);
}

static long run_setxattr(const char *path, long arg)
{
	(void)arg;
	return lsetxattr(path, "user.x", "v", 1, 0);
}

static long run_getxattr(const char *path, long arg)
{
	char value[8];

	(void)arg;
	return lgetxattr(path, "user.x", value, sizeof(value));
}

static long run_readlink(const char *path, long arg)
{
	char target[64];

	(void)arg;
	return readlink(path, target, sizeof(target));
}

static long run_search(const char *path, long arg)
{
	struct stat st;

	(void)arg;
	return lstat(scene_text("%s/.", path), &st);
}

static long run_inside(const char *path, long arg)
{
	(void)arg;
	return closed(open(scene_text("%s/f", path), O_CREAT | O_WRONLY, 0644));
}

static const struct call name_calls[] = {
	{ "create", run_open, O_CREAT | O_WRONLY, "-fl" },
	{ "excl", run_open, O_CREAT | O_EXCL | O_RDWR, "-f" },
	{ "mknod-f", run_mknod, S_IFREG | 06666, "-" },
	{ "mkfifo", run_mknod, S_IFIFO | 0666, "-" },
	{ "mksock", run_mknod, S_IFSOCK | 0666, "-" },
	{ "mkchr", run_mknod, S_IFCHR | 0666, "-" },
	{ "mkdir", run_mkdir, 07777, "-f" },
	{ "symlink", run_symlink, 0, "-f" },
	{ "unlink", run_remove, 0, "-fdlpsc" },
	{ "rmdir", run_remove, AT_REMOVEDIR, "-fdl" },
	{ "link-out", run_link_out, 0, "fdlpsc" },
	{ "link-in", run_link_in, 0, "-f" },
	{ "rename-out", run_rename_out, 0, "-fdlps" },
	{ "rename-over", run_rename_over, 0, "fdl" },
	{ "rename-in", run_rename_in, 0, "-fd" },
	{ "exchange", run_rename_over, RENAME_EXCHANGE, "fd" },
	{ "lstat", run_search, 0, "-fd" },
};

static const struct call node_calls[] = {
	{ "open-r", run_open, O_RDONLY, "fdpc" },
	{ "open-w", run_open, O_WRONLY, "fdpc" },
	{ "open-rw", run_open, O_RDWR, "fd" },
	{ "open-t", run_open, O_RDONLY | O_TRUNC, "f" },
	{ "open-wt", run_open, O_WRONLY | O_TRUNC, "f" },
	{ "noatime", run_open, O_RDONLY | O_NOATIME, "fd" },
	{ "write", run_write, 0, "f" },
	{ "truncate", run_truncate, 5, "fd" },
	{ "truncate0", run_truncate, 0, "f" },
	{ "ftruncate", run_ftruncate, 9, "f" },
	{ "fallocate", run_allocate, 9, "f" },
	{ "chmod-0640", run_chmod, 0640, "fdpsc" },
	{ "chmod-4711", run_chmod, 04711, "fdps" },
	{ "chmod-2775", run_chmod, 02775, "fdp" },
	{ "chmod-2644", run_chmod, 02644, "f" },
	{ "chmod-6777", run_chmod, 06777, "fd" },
	{ "chmod-1666", run_chmod, 01666, "fdp" },
	{ "chown--", run_chown, 15 * 16 + 15, "fdl" },
	{ "chown-own", run_chown, 1 * 16 + 15, "fdlp" },
	{ "chown-u2", run_chown, 2 * 16 + 15, "fdl" },
	{ "chgrp-1", run_chown, 15 * 16 + 1, "fdlp" },
	{ "chgrp-2", run_chown, 15 * 16 + 2, "fdl" },
	{ "chgrp-3", run_chown, 15 * 16 + 3, "fd" },
	{ "chown-u1g1", run_chown, 1 * 16 + 1, "fd" },
	{ "chown-0", run_chown, 0, "fd" },
	{ "utimens-null", run_utimens, 0, "fdlps" },
	{ "utimens-set", run_utimens, 1, "fdl" },
	{ "utimens-omit", run_utimens, 2, "f" },
	{ "utimens-mixed", run_utimens, 3, "f" },
	{ "access-r", run_access, R_OK, "fdps" },
	{ "access-w", run_access, W_OK, "fdps" },
	{ "access-x", run_access, X_OK, "fdps" },
	{ "setxattr", run_setxattr, 0, "fdlp" },
	{ "getxattr", run_getxattr, 0, "fdlp" },
	{ "readlink", run_readlink, 0, "l" },
	{ "search", run_search, 0, "fd" },
	{ "inside", run_inside, 0, "d" },
};

/* ---- the two products ---- */

struct pair {
	const struct scene_object *parent, *object, *other, *target;
	const struct call *call;
	const struct scene_caller *caller;
};

static const char *describe(const struct scene_object *object)
{
	if (object->kind == '-')
		return "-";
	return scene_text("%c%04o:%d:%d", object->kind, object->mode,
			  object->uid, object->gid);
}

static void run_pair(const char *section, const struct pair *pair)
{
	const char *name = scene_text("%s %s P=%s o=%s Q=%s t=%s as %s", section,
				      pair->call->name, describe(pair->parent),
				      describe(pair->object),
				      describe(pair->other),
				      describe(pair->target),
				      pair->caller->name);
	char kept[512];
	long rc;
	int saved;

	if (!scene_wanted(name))
		return;
	(void)strcpy(kept, name);
	scene_make("P", pair->parent);
	scene_make("Q", pair->other);
	if (pair->object->kind != '-')
		scene_make("P/o", pair->object);
	if (pair->target->kind != '-')
		scene_make("Q/t", pair->target);
	if (pair->call->run == run_getxattr &&
	    lsetxattr("P/o", "user.x", "val", 3, 0) != 0 && errno != EPERM)
		scene_broken("setxattr", kept);
	scene_become(pair->caller);
	errno = 0;
	rc = pair->call->run("P/o", pair->call->arg);
	saved = errno;
	scene_become(NULL);
	scene_line(kept, rc, saved, shown);
	scene_remove("P");
	scene_remove("Q");
}

static void all_callers(const char *section, struct pair *pair,
			const struct call *calls, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (!strchr(calls[i].kinds, pair->object->kind))
			continue;
		pair->call = &calls[i];
		for (size_t k = 0; k < COUNT(callers); k++) {
			pair->caller = &callers[k];
			run_pair(section, pair);
		}
	}
}

void matrix_rights(void)
{
	static const struct scene_object parents[] = {
		{ 'd', 1, 1, 0755 },  { 'd', 1, 1, 0775 },
		{ 'd', 1, 1, 0777 },  { 'd', 1, 1, 01777 },
		{ 'd', 1, 1, 02777 }, { 'd', 1, 1, 03775 },
		{ 'd', 1, 1, 0000 },  { 'd', 1, 1, 0300 },
		{ 'd', 1, 1, 0500 },  { 'd', 1, 1, 0030 },
		{ 'd', 1, 1, 0003 },  { 'd', 1, 1, 0666 },
		{ 'd', 0, 0, 01777 }, { 'd', 2, 2, 01777 },
		{ 'd', 2, 2, 03777 },
	};
	static const struct scene_object others[] = {
		{ 'd', 0, 0, 0777 }, { 'd', 0, 0, 01777 }, { 'd', 1, 1, 0755 },
	};
	static const char kinds[] = "-fdlpsc";
	static const struct scene_object targets[] = {
		{ 'f', 1, 1, 0644 }, { 'f', 2, 2, 0600 }, { 'd', 1, 1, 0755 },
	};

	for (size_t p = 0; p < COUNT(parents); p++)
		for (size_t k = 0; kinds[k]; k++)
			for (int owner = 1; owner <= 2; owner++) {
				struct scene_object object = {
					kinds[k], owner, owner,
					kinds[k] == 'd' ? 0755 : 0644 };
				size_t i = p + k + (size_t)owner;
				struct pair pair = {
					.parent = &parents[p],
					.object = &object,
					.other = &others[i % 3],
					.target = &targets[i / 3 % 3] };

				if (kinds[k] == '-' && owner == 2)
					continue;
				all_callers("rights", &pair, name_calls,
					    COUNT(name_calls));
			}
}

void matrix_inodes(void)
{
	static const mode_t modes[] = { 0644, 0600, 0060, 0006, 0000, 0711,
					04755, 02755, 06777, 02644, 01755 };
	static const struct scene_object parent = { 'd', 0, 0, 0755 };
	static const struct scene_object none = { '-', 0, 0, 0 };
	static const char kinds[] = "fdlpsc";

	for (size_t k = 0; kinds[k]; k++)
		for (size_t m = 0; m < COUNT(modes); m++)
			for (int owner = 0; owner < 3; owner++) {
				static const int ids[3][2] = { { 1, 1 },
							       { 1, 2 },
							       { 2, 1 } };
				struct scene_object object = {
					kinds[k], ids[owner][0], ids[owner][1],
					modes[m] };
				struct pair pair = { .parent = &parent,
						     .object = &object,
						     .other = &parent,
						     .target = &none };

				if (m > 1 && !strchr("fd", kinds[k]))
					continue;
				all_callers("inodes", &pair, node_calls,
					    COUNT(node_calls));
			}
}
