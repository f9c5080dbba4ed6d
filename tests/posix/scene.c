/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What the matrices share. */
#include "tests/posix/scene.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <grp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

static uint64_t chosen_seed;
static unsigned chosen_share = 1;

_Noreturn void scene_broken(const char *what, const char *path)
{
	(void)fprintf(stderr, "matrix: %s %s: %s\n", what, path,
		      strerror(errno));
	exit(2);
}

const char *scene_text(const char *fmt, ...)
{
	static char texts[8][512];
	static unsigned next;
	char *text = texts[next++ % 8];
	va_list args;

	va_start(args, fmt);
	(void)vsnprintf(text, sizeof(texts[0]), fmt, args);
	va_end(args);
	return text;
}

void scene_become(const struct scene_caller *caller)
{
	gid_t groups[3];
	size_t n = 0;

	if (!caller) {
		if (getuid() == 0 &&
		    (seteuid(0) != 0 || setegid(0) != 0 ||
		     setgroups(0, NULL) != 0))
			scene_broken("become", "root");
		return;
	}
	while (n < 3 && caller->groups[n] != 0) {
		groups[n] = SCENE_ID(caller->groups[n]);
		n++;
	}
	if (setgroups(n, groups) != 0 || setegid(SCENE_ID(caller->gid)) != 0 ||
	    seteuid(SCENE_ID(caller->uid)) != 0)
		scene_broken("become", caller->name);
}

static int make_kind(const char *path, char kind)
{
	int fd;

	switch (kind) {
	case 'f':
		fd = open(path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
		return fd < 0 ? -1 : close(fd);
	case 'd': return mkdir(path, 0700);
	case 'l': return symlink("nowhere", path);
	case 'p': return mkfifo(path, 0600);
	case 's': return mknod(path, S_IFSOCK | 0600, 0);
	default: return mknod(path, S_IFCHR | 0600, makedev(1, 3));
	}
}

void scene_make(const char *path, const struct scene_object *object)
{
	if (make_kind(path, object->kind) != 0)
		scene_broken("make", path);
	if (getuid() == 0 && lchown(path, SCENE_ID(object->uid),
				    SCENE_ID(object->gid)) != 0)
		scene_broken("chown", path);
	if (object->kind != 'l' && chmod(path, object->mode) != 0)
		scene_broken("chmod", path);
}

static int remove_cb(const char *path, const struct stat *st, int type,
		     struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static int open_cb(const char *path, const struct stat *st, int type,
		   struct FTW *ftw)
{
	(void)ftw;
	(void)type;
	if (S_ISDIR(st->st_mode))
		(void)chmod(path, 0700);
	return 0;
}

void scene_remove(const char *path)
{
	if (unlink(path) == 0 || errno == ENOENT || errno == ENOTDIR)
		return;
	if (rmdir(path) == 0)
		return;
	/* Level by level, where an ordinary user took his own rights away. */
	for (int i = 0; getuid() != 0 && i < 4; i++)
		(void)nftw(path, open_cb, 8, FTW_PHYS);
	if (nftw(path, remove_cb, 8, FTW_DEPTH | FTW_PHYS) != 0)
		scene_broken("remove", path);
}

void scene_choose(uint64_t seed, unsigned share)
{
	chosen_seed = seed;
	chosen_share = share > 0 ? share : 1;
}

bool scene_wanted(const char *name)
{
	uint64_t hash = 0xcbf29ce484222325u ^ chosen_seed; /* FNV-1a */

	for (; *name; name++)
		hash = (hash ^ (uint8_t)*name) * 0x100000001b3u;
	return (hash ^ hash >> 32) % chosen_share == 0;
}

const char *scene_error(long result, int error)
{
	const char *name = result < 0 ? strerrorname_np(error) : "ok";

	return name ? name : "?";
}

void scene_line(const char *name, long result, int error,
		const char *const *paths)
{
	struct stat st;

	if (result > 0)
		(void)printf("%s: %ld", name, result);
	else
		(void)printf("%s: %s", name, scene_error(result, error));
	for (; *paths; paths++) {
		if (lstat(*paths, &st) != 0) {
			(void)printf(" | %s %s", *paths,
				     scene_error(-1, errno));
			continue;
		}
		(void)printf(" | %s %o %u:%u n%u", *paths, st.st_mode,
			     st.st_uid, st.st_gid, (unsigned)st.st_nlink);
		if (!S_ISDIR(st.st_mode))
			(void)printf(" s%lld", (long long)st.st_size);
	}
	(void)printf("\n");
}

void scene_tick(void)
{
	struct timespec then, now;

	if (clock_gettime(CLOCK_REALTIME_COARSE, &then) != 0)
		scene_broken("clock", "");
	do {
		(void)nanosleep(&(struct timespec){ .tv_nsec = 200000 }, NULL);
		(void)clock_gettime(CLOCK_REALTIME_COARSE, &now);
	} while (now.tv_sec == then.tv_sec && now.tv_nsec == then.tv_nsec);
}
