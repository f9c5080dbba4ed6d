/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Which error: each call with each form of a path, calls with two paths with
 * each pair of them, open(2) with each set of flags. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/time.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "tests/posix/scene.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* ---- what is there ---- */

static char name255[256], name256[257], path4095[4096], path4096[4097];

static void make_long(void)
{
	memset(name255, 'n', 255);
	memset(name256, 'N', 256);
	for (size_t i = 0; i < 4096; i += 2) {
		memcpy(path4096 + i, "./", 2);
		if (i < 4095)
			memcpy(path4095 + i, "./", 2);
	}
	path4096[4095] = 'f'; /* ".//...f": 4096 bytes, one too many */
	memcpy(path4095 + 4093, "/f", 3); /* 4095 bytes: the most */
}

/* The directory "w", as each case finds it. */
static void make_world(void)
{
	static const char *const files[] = { "f", "g", "full/x", "full2/y" };
	static const char *const dirs[] = { "d", "e", "full", "full2",
					    "full/sub" };
	static const char *const links[][2] = {
		{ "f", "lf" }, { "d", "ld" }, { "nowhere", "dangling" },
		{ "loop", "loop" }, { "loopb", "loopa" }, { "loopa", "loopb" },
	};

	for (size_t i = 0; i < COUNT(dirs); i++)
		if (mkdir(dirs[i], 0755) != 0)
			scene_broken("mkdir", dirs[i]);
	for (size_t i = 0; i < COUNT(files); i++) {
		int fd = open(files[i], O_CREAT | O_EXCL | O_WRONLY, 0644);

		if (fd < 0 || write(fd, "content", i + 1) < 0 || close(fd) != 0)
			scene_broken("create", files[i]);
	}
	for (size_t i = 0; i < COUNT(links); i++)
		if (symlink(links[i][0], links[i][1]) != 0)
			scene_broken("symlink", links[i][1]);
	if (link("f", "h") != 0 || mkfifo("p", 0644) != 0 ||
	    mknod("s", S_IFSOCK | 0644, 0) != 0)
		scene_broken("make", "h, p or s");
}

static void enter_world(void)
{
	if (mkdir("w", 0755) != 0 || chdir("w") != 0)
		scene_broken("mkdir", "w");
	make_world();
}

static void leave_world(void)
{
	if (chdir("..") != 0)
		scene_broken("chdir", "..");
	scene_remove("w");
}

/* A chain of 42 links in "k", beside the world: k/i leads i links far. */
static void make_chain(void)
{
	if (mkdir("k", 0755) != 0)
		scene_broken("mkdir", "k");
	scene_make("k/0", &(struct scene_object){ .kind = 'f', .mode = 0644 });
	for (int i = 1; i <= 42; i++)
		if (symlink(scene_text("%d", i - 1), scene_text("k/%d", i)) !=
		    0)
			scene_broken("symlink", "k");
}

/* ---- one path ---- */

struct path {
	const char *label; /* of long ones; NULL: the path itself */
	const char *path;
};

static const struct path paths[] = {
	{ "empty", "" }, { NULL, "." }, { NULL, ".." }, { NULL, "/" },
	{ NULL, "f" }, { NULL, "f/" }, { NULL, "f/x" }, { NULL, "f/." },
	{ NULL, "f/.." }, { NULL, "d" }, { NULL, "d/" }, { NULL, "d/." },
	{ NULL, "d/.." }, { NULL, "d//new" }, { NULL, "full" },
	{ NULL, "full/" }, { NULL, "full/." }, { NULL, "full/.." },
	{ NULL, "full/x" }, { NULL, "full/sub/../new" }, { NULL, "lf" },
	{ NULL, "lf/" }, { NULL, "lf/x" }, { NULL, "ld" }, { NULL, "ld/" },
	{ NULL, "ld/." }, { NULL, "ld/new" }, { NULL, "dangling" },
	{ NULL, "dangling/" }, { NULL, "dangling/x" }, { NULL, "loop" },
	{ NULL, "loop/" }, { NULL, "loop/x" }, { NULL, "loopa" },
	{ NULL, "missing" }, { NULL, "missing/" }, { NULL, "missing/x" },
	{ NULL, "missing/." }, { NULL, "p" }, { NULL, "p/" }, { NULL, "p/x" },
	{ NULL, "s" }, { NULL, "s/x" }, { NULL, "h" },
	{ "name255", name255 }, { "name256", name256 },
	{ "path4095", path4095 }, { "path4096", path4096 },
	{ "chain39", "../k/39" }, { "chain40", "../k/40" },
	{ "chain41", "../k/41" }, { "beside", "../w/f" },
	{ "bytes", "\xff\xfe\x80\x01\n" }, { "below", "full/sub/deep/er" },
};

static const char *label_of(const struct path *path)
{
	return path->label ? path->label : path->path;
}

static long closed(int fd)
{
	return fd < 0 ? -1 : close(fd);
}

static long one_path(int call, const char *path)
{
	struct stat st;
	struct statfs fs;
	char buf[64];

	switch (call) {
	case 0: return closed(open(path, O_RDONLY | O_NONBLOCK));
	case 1: return closed(open(path, O_CREAT | O_RDWR | O_NONBLOCK, 0644));
	case 2: return closed(open(path, O_CREAT | O_EXCL | O_WRONLY, 0644));
	case 3: return closed(open(path, O_RDONLY | O_DIRECTORY));
	case 4: return closed(open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK));
	case 5: return closed(open(path, O_WRONLY | O_TRUNC | O_NONBLOCK));
	case 6: return closed(open(path, O_PATH));
	case 7: return mkdir(path, 0755);
	case 8: return mkfifo(path, 0644);
	case 9: return mknod(path, S_IFREG | 0644, 0);
	case 10: return symlink("target", path);
	case 11: return unlink(path);
	case 12: return rmdir(path);
	case 13: return chmod(path, 0600);
	case 14: return chown(path, (uid_t)-1, getegid());
	case 15: return lchown(path, getuid(), (gid_t)-1);
	case 16: return truncate(path, 3);
	case 17: return truncate(path, -1);
	case 18: return utimensat(AT_FDCWD, path, NULL, 0);
	case 19: return utimensat(AT_FDCWD, path, NULL, AT_SYMLINK_NOFOLLOW);
	case 20: return stat(path, &st);
	case 21: return lstat(path, &st);
	case 22: return access(path, F_OK);
	case 23: return readlink(path, buf, sizeof(buf)) >= 0 ? 0 : -1;
	case 24: return statfs(path, &fs);
	case 25: return link("g", path);
	case 26: return link(path, "newlink");
	case 27: return rename("g", path);
	case 28: return rename("e", path);
	case 29: return rename(path, "renamed");
	case 30: return symlink(path, "newsymlink");
	case 31: return setxattr(path, "user.x", "v", 1, 0);
	case 32: return lsetxattr(path, "user.x", "v", 1, 0);
	case 33: return listxattr(path, buf, sizeof(buf)) >= 0 ? 0 : -1;
	case 34: return linkat(AT_FDCWD, path, AT_FDCWD, "newlink",
			       AT_SYMLINK_FOLLOW);
	default: return readlink(path, buf, 0);
	}
}

/* Changes nothing, whatever it answers. */
static bool is_harmless(int call)
{
	return call == 0 || call == 3 || call == 4 || call == 6 ||
	       (call >= 18 && call <= 24) || call == 33 || call == 35;
}

void matrix_names(void)
{
	make_long();
	make_chain();
	enter_world();
	for (int call = 0; call <= 35; call++)
		for (size_t i = 0; i < COUNT(paths); i++) {
			const char *path = paths[i].path;
			const char *name = scene_text("names call%d(%s)", call,
						      label_of(&paths[i]));
			long rc;
			int saved;

			/* chains are made once, and "/" is not ours */
			if (!scene_wanted(name) ||
			    (!is_harmless(call) &&
			     (strncmp(path, "../k", 4) == 0 ||
			      strcmp(path, "/") == 0 ||
			      strcmp(path, "..") == 0)))
				continue;
			errno = 0;
			rc = one_path(call, path);
			saved = errno;
			scene_line(name, rc, saved, (const char *const[]){
				"f", "g", "d", "full", "newlink",
				"renamed", NULL });
			if (rc >= 0 && !is_harmless(call)) {
				leave_world();
				enter_world();
			}
		}
	leave_world();
}

/* ---- two paths ---- */

static const struct path ends[] = {
	{ NULL, "f" }, { NULL, "g" }, { NULL, "h" }, { NULL, "d" },
	{ NULL, "e" }, { NULL, "full" }, { NULL, "full2" }, { NULL, "lf" },
	{ NULL, "ld" }, { NULL, "dangling" }, { NULL, "p" }, { NULL, "s" },
	{ NULL, "missing" }, { NULL, "f/" }, { NULL, "d/" }, { NULL, "ld/" },
	{ NULL, "missing/" }, { NULL, "d/." }, { NULL, "." }, { NULL, ".." },
	{ NULL, "d/new" }, { NULL, "full/x" }, { NULL, "full/sub" },
	{ NULL, "full/sub/new" }, { NULL, "missing/x" }, { NULL, "f/x" },
	{ NULL, "loop/x" }, { NULL, "../w" }, { NULL, "../new" },
	{ "empty", "" }, { "name255", name255 }, { "name256", name256 },
	{ "elsewhere", "/dev/shm/evfs-matrix-elsewhere" },
};

static long two_paths(int call, const char *from, const char *to)
{
	if (call == 5)
		return link(from, to);
	if (call == 6)
		return linkat(AT_FDCWD, from, AT_FDCWD, to, AT_SYMLINK_FOLLOW);
	/* 0, NOREPLACE, EXCHANGE, both, an unknown one */
	return renameat2(AT_FDCWD, from, AT_FDCWD, to,
			 call == 4 ? 64u : (unsigned)call);
}

static void run_two(int call, const struct path *from, const struct path *to)
{
	const char *name = scene_text("pairs call%d(%s, %s)", call,
				      label_of(from), label_of(to));
	long rc;
	int saved;

	if (!scene_wanted(name))
		return;
	errno = 0;
	rc = two_paths(call, from->path, to->path);
	saved = errno;
	scene_line(name, rc, saved, (const char *const[]){
		"f", "g", "h", "d", "full", "full/sub", "ld", "missing",
		"../new", NULL });
	if (rc < 0)
		return;
	leave_world();
	scene_remove("new");
	enter_world();
}

void matrix_pairs(void)
{
	make_long();
	enter_world();
	for (int call = 0; call <= 6; call++)
		for (size_t i = 0; i < COUNT(ends); i++)
			for (size_t k = 0; k < COUNT(ends); k++)
				run_two(call, &ends[i], &ends[k]);
	leave_world();
}

/* ---- open(2) ---- */

void matrix_open(void)
{
	static const char *const kinds[] = { "f", "d", "lf", "ld", "dangling",
					     "loop", "p", "s", "missing", "d/",
					     "missing/", "f/", "lf/" };
	static const int bits[] = { O_CREAT, O_EXCL, O_TRUNC, O_DIRECTORY,
				    O_NOFOLLOW, O_APPEND, O_PATH };

	enter_world();
	for (size_t kind = 0; kind < COUNT(kinds); kind++)
		for (unsigned set = 0; set < 3u << COUNT(bits); set++) {
			int flags = (int)(set >> COUNT(bits)), fd, saved;
			const char *name;

			for (size_t i = 0; i < COUNT(bits); i++)
				if (set & 1u << i)
					flags |= bits[i];
			name = scene_text("open %s %o", kinds[kind],
					  (unsigned)flags);
			if (!scene_wanted(name))
				continue;
			errno = 0;
			fd = open(kinds[kind], flags | O_NONBLOCK, 0640);
			saved = errno;
			if (fd >= 0)
				(void)close(fd);
			scene_line(name, fd >= 0 ? 0 : -1, saved,
				   (const char *const[]){ "f", "d", "nowhere",
							  "missing", NULL });
			if (fd >= 0 && (flags & (O_CREAT | O_TRUNC))) {
				leave_world();
				enter_world();
			}
		}
	leave_world();
}
