/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Several processes of random operations in one tree, in the way of fsstress;
 * then one look at what is left.
 *
 *   stress [-s SEED] [-n STEPS] [-p PROCESSES] [-c] DIR
 *
 * Operations may fail for what the others did, but in the ways that POSIX has
 * for that only. Each process appends to a file of its own, and all count in
 * one file under a lock of a byte. Afterwards (-c: that alone, for a tree of
 * the same SEED, STEPS and PROCESSES) link counts, listings and lengths must
 * agree with each other, the own files must be whole, and the count right.
 * Without DIR: a short run in TMPDIR. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <search.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#include "tests/posix/seeded.h"

#define NAMES 12

static uint64_t steps = 2000;
static unsigned processes = 4, self;

_Noreturn static void wrong(const char *what, const char *path)
{
	(void)printf("stress: process %u: %s %s: %s; -s %llu\n", self, what,
		     path, strerror(errno), (unsigned long long)seed);
	(void)fflush(stdout);
	_exit(1);
}

/* Others may have made, removed or replaced what it was about. */
static void check(long rc, const char *what, const char *path)
{
	static const int usual[] = { ENOENT, EEXIST, ENOTDIR, EISDIR,
				     ENOTEMPTY, ELOOP, EINVAL, EBUSY, ENXIO,
				     ESPIPE, EBADF, EPERM, ENODATA,
				     EOPNOTSUPP, ENODEV, ENOTTY };

	if (rc >= 0)
		return;
	for (size_t i = 0; i < sizeof(usual) / sizeof(usual[0]); i++)
		if (errno == usual[i])
			return;
	wrong(what, path);
}

static const char *some_path(void)
{
	static char paths[4][64];
	static unsigned next;
	char *path = paths[next++ % 4];
	uint64_t depth = chance(3);
	size_t len = 0;

	while (depth-- > 0)
		len += (size_t)sprintf(path + len, "d%u/",
				       (unsigned)chance(4));
	(void)sprintf(path + len, "%c%u", "dff"[chance(3)],
		      (unsigned)chance(NAMES));
	return path;
}

static void use_file(const char *path)
{
	static char bytes[200000];
	int flags = (chance(2) ? O_CREAT : 0) | (chance(4) ? 0 : O_TRUNC) |
		    (chance(4) ? 0 : O_APPEND) | O_RDWR | O_NONBLOCK;
	int fd = open(path, flags | O_CLOEXEC, 0644);
	off_t at = (off_t)chance(300000);
	size_t len = 1 + chance(chance(3) ? 5000 : sizeof(bytes) - 1);
	struct stat st;
	char *map;

	check(fd, "open", path);
	if (fd < 0)
		return;
	memset(bytes, (int)chance(256), len);
	switch (chance(8)) {
	case 0: check(pread(fd, bytes, len, at), "read", path); break;
	case 1: check(ftruncate(fd, at), "ftruncate", path); break;
	case 2: check(fallocate(fd, at & 1 ? 0 : 3, at, (off_t)len),
		      "fallocate", path); break;
	case 3: check(fsync(fd), "fsync", path); break;
	case 4: check(copy_file_range(fd, &(off_t){ 0 }, fd,
				      &(off_t){ 300000 }, len, 0),
		      "copy", path); break;
	case 5:
		map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
			   0);
		if (map == MAP_FAILED)
			break;
		/* Somebody may truncate it now: that page is left alone. */
		(void)munmap(map, 4096);
		break;
	default: check(pwrite(fd, bytes, len, at), "write", path); break;
	}
	if (chance(3) == 0)
		check(unlink(path), "unlink", path);
	check(fstat(fd, &st), "fstat", path);
	check(close(fd), "close", path);
}

/* What was removed stays whole for who has it open, whatever goes on at that
 * moment: here another writer closes it. */
static void use_unlinked(void)
{
	static char bytes[3000000], got[sizeof(bytes)];
	size_t len = 1 + chance(sizeof(bytes));
	char name[32];
	pid_t child;
	int fd, other;

	(void)snprintf(name, sizeof(name), "unlinked%u", self);
	fd = open(name, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0644);
	if (fd < 0)
		wrong("create", name);
	for (size_t i = 0; i < len; i += 1 + chance(5000))
		bytes[i] = (char)chance(256);
	if (pwrite(fd, bytes, len, 0) != (ssize_t)len)
		wrong("write", name);
	other = open(name, O_WRONLY | O_CLOEXEC);
	child = fork();
	if (child < 0 || other < 0)
		wrong("fork", name);
	if (child == 0)
		_exit(close(other) != 0);
	(void)close(other);
	(void)nanosleep(&(struct timespec){ 0, (long)chance(20000000) }, NULL);
	if (unlink(name) != 0)
		wrong("unlink", name);
	if (waitpid(child, NULL, 0) != child)
		wrong("wait", name);
	(void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	if (pread(fd, got, len, 0) != (ssize_t)len ||
	    memcmp(got, bytes, len) != 0)
		wrong("removed, and other bytes", name);
	if (close(fd) != 0)
		wrong("close", name);
}

static void use_names(void)
{
	const char *a = some_path(), *b = some_path();
	char value[16];
	DIR *dir;

	switch (chance(14)) {
	case 0:
	case 1: check(mkdir(a, 0755), "mkdir", a); break;
	case 2: check(rmdir(a), "rmdir", a); break;
	case 3: check(unlink(a), "unlink", a); break;
	case 4: check(link(a, b), "link", a); break;
	case 5: check(symlink(a, b), "symlink", b); break;
	case 6:
	case 7: check(rename(a, b), "rename", a); break;
	case 8: check(renameat2(AT_FDCWD, a, AT_FDCWD, b, 1 + !chance(2)),
		      "renameat2", a); break;
	case 9: check(truncate(a, (off_t)chance(100000)), "truncate", a); break;
	case 10: check(chmod(a, 0700 + (mode_t)chance(0100)), "chmod", a);
		 break;
	case 11: check(lsetxattr(a, "user.k", b, strlen(b), 0), "setxattr", a);
		 check(lgetxattr(a, "user.k", value, 0), "getxattr", a);
		 break;
	case 12: check(utimensat(AT_FDCWD, a, NULL, AT_SYMLINK_NOFOLLOW),
		       "utimens", a); break;
	default:
		dir = opendir(chance(2) ? "." : a);
		while (dir && readdir(dir) != NULL)
			continue;
		if (dir)
			check(closedir(dir), "closedir", a);
	}
}

/* One more, under a lock on the first byte. */
static void count(void)
{
	struct flock lock = { .l_type = F_WRLCK, .l_len = 1 };
	int fd = open("count", O_RDWR | O_CLOEXEC);
	uint64_t n = 0;

	if (fd < 0 || fcntl(fd, F_SETLKW, &lock) != 0)
		wrong("lock", "count");
	if (pread(fd, &n, sizeof(n), 0) != sizeof(n))
		wrong("read", "count");
	n++;
	if (pwrite(fd, &n, sizeof(n), 0) != sizeof(n))
		wrong("write", "count");
	if (close(fd) != 0)
		wrong("close", "count");
}

static void own_line(unsigned process, uint64_t i, char line[40])
{
	(void)snprintf(line, 40, "%10u %20llu 1234567", process,
		       (unsigned long long)i);
	line[39] = '\n';
}

static void append_own(uint64_t i)
{
	char name[32], line[40];
	int fd;

	(void)snprintf(name, sizeof(name), "own%u", self);
	own_line(self, i, line);
	fd = open(name, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
	if (fd < 0 || write(fd, line, 40) != 40 || close(fd) != 0)
		wrong("append", name);
}

_Noreturn static void work(unsigned process)
{
	self = process;
	state = seed * 1000 + process;
	for (uint64_t i = 0; i < steps; i++) {
		if (chance(2))
			use_file(some_path());
		else
			use_names();
		if (i % 10 == 0)
			append_own(i / 10);
		if (i % 10 == 5)
			count();
		if (i % 50 == 7)
			use_unlinked();
	}
	_exit(0);
}

/* ---- afterwards ---- */

struct inode {
	ino_t ino;        /* first: what is compared */
	nlink_t links;    /* as stat tells */
	nlink_t met;      /* names that lead to it */
	char path[256];   /* one of them */
};

static void *inodes; /* tsearch */

static int by_ino(const void *a, const void *b)
{
	const struct inode *x = a, *y = b;

	return x->ino < y->ino ? -1 : x->ino > y->ino;
}

static void meet(const char *path, const struct stat *st)
{
	struct inode *new = calloc(1, sizeof(*new)), **found;

	if (!new)
		wrong("memory", path);
	new->ino = st->st_ino;
	new->links = st->st_nlink;
	(void)snprintf(new->path, sizeof(new->path), "%s", path);
	found = tsearch(new, &inodes, by_ino);
	if (!found)
		wrong("memory", path);
	if (*found != new)
		free(new);
	if ((*found)->links != st->st_nlink)
		wrong("two link counts", path);
	(*found)->met++;
}

static void check_links_cb(const void *node, VISIT visit, int depth)
{
	const struct inode *inode = *(struct inode *const *)node;

	(void)depth;
	if ((visit == leaf || visit == postorder) &&
	    inode->links != inode->met) {
		(void)printf("%llu links, %llu names\n",
			     (unsigned long long)inode->links,
			     (unsigned long long)inode->met);
		wrong("link count", inode->path);
	}
}

static void check_file(const char *path, const struct stat *st)
{
	static char bytes[1 << 16];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	off_t sum = 0;
	ssize_t n;

	if (fd < 0)
		wrong("open at the end", path);
	while ((n = read(fd, bytes, sizeof(bytes))) > 0)
		sum += n;
	if (n < 0 || sum != st->st_size || close(fd) != 0)
		wrong("length", path);
}

static void check_dir(const char *path)
{
	DIR *dir = opendir(path);
	nlink_t subdirs = 0;
	struct dirent *entry;
	struct stat st;

	while (dir && (entry = readdir(dir)) != NULL) {
		char below[256];

		if (entry->d_name[0] == '.')
			continue;
		if ((size_t)snprintf(below, sizeof(below), "%s/%s", path,
				     entry->d_name) >= sizeof(below) ||
		    lstat(below, &st) != 0)
			wrong("listed, but not there", below);
		if (st.st_ino != entry->d_ino ||
		    (entry->d_type != DT_UNKNOWN &&
		     entry->d_type != IFTODT(st.st_mode)))
			wrong("listed as something else", below);
		if (S_ISDIR(st.st_mode)) {
			subdirs++;
			check_dir(below);
			continue;
		}
		meet(below, &st);
		if (S_ISREG(st.st_mode))
			check_file(below, &st);
	}
	if (!dir || closedir(dir) != 0 || lstat(path, &st) != 0)
		wrong("list at the end", path);
	if (st.st_nlink != 1 && st.st_nlink != 2 + subdirs)
		wrong("link count", path);
}

static void check_own(unsigned process)
{
	char name[32], line[40], got[40];
	uint64_t n = (steps + 9) / 10;
	FILE *file;

	(void)snprintf(name, sizeof(name), "own%u", process);
	file = fopen(name, "r");
	for (uint64_t i = 0; file && i < n; i++) {
		own_line(process, i, line);
		if (fread(got, 40, 1, file) != 1 || memcmp(got, line, 40) != 0)
			wrong("a line is not there", name);
	}
	if (!file || fread(got, 1, 1, file) != 0 || fclose(file) != 0)
		wrong("more than was written", name);
}

static void check_all(void)
{
	uint64_t n = 0, each = (steps + 4) / 10;
	int fd = open("count", O_RDONLY | O_CLOEXEC);

	check_dir(".");
	twalk(inodes, check_links_cb);
	for (unsigned i = 0; i < processes; i++)
		check_own(i);
	if (fd < 0 || read(fd, &n, sizeof(n)) != sizeof(n) || close(fd) != 0)
		wrong("read", "count");
	if (n != processes * each) {
		(void)printf("%llu instead of %llu\n", (unsigned long long)n,
			     (unsigned long long)(processes * each));
		wrong("the count", "count");
	}
}

static int run(void)
{
	static const char zero[sizeof(uint64_t)];
	int fd = open("count", O_CREAT | O_TRUNC | O_WRONLY, 0644), status;
	int bad = 0;

	if (fd < 0 || write(fd, zero, sizeof(zero)) != sizeof(zero) ||
	    close(fd) != 0)
		wrong("make", "count");
	for (unsigned i = 0; i < processes; i++) {
		pid_t child = fork();

		if (child < 0)
			wrong("fork", "");
		if (child == 0)
			work(i);
	}
	for (unsigned i = 0; i < processes; i++)
		bad |= wait(&status) < 0 || status != 0;
	return bad;
}

int main(int argc, char **argv)
{
	bool check_only = false;
	char own[4096] = "";
	int opt;

	while ((opt = getopt(argc, argv, "s:n:p:c")) != -1) {
		if (common_option(opt, &steps))
			continue;
		if (opt == 'p')
			processes = (unsigned)strtoul(optarg, NULL, 0);
		else if (opt == 'c')
			check_only = true;
		else
			return 2;
	}
	if (optind == argc) {
		if (!make_own("stress", own))
			return 2;
		steps = 500;
	}
	if (chdir(own[0] ? own : argv[optind]) != 0)
		return 2;
	if (!check_only && run() != 0)
		return 1;
	check_all();
	(void)printf("stress: %u processes of %llu steps, seed %llu: well\n",
		     processes, (unsigned long long)steps,
		     (unsigned long long)seed);
	return remove_own(own, "");
}
