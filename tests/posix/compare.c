/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The same random operations in two directories, one of a file system that is
 * known to be right: after each the results must be the same, and what is
 * there.
 *
 *   compare [-s SEED] [-n STEPS] [-v] [-w] RIGHT TRIED
 *
 * At the first difference it prints the operation, the seed and the number of
 * the step, with which it can be replayed from the start, and ends with 1. -v:
 * prints each operation. -w: only walks both trees, as at the end of a run.
 * Without directories: a short run in two of TMPDIR. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "tests/posix/seeded.h"

#define HANDLES 10
#define BYTES 100000 /* a file is about as long */

static uint64_t step;
static int roots[2];              /* the two directories */
static int handles[HANDLES][2];   /* -1: closed */
static char what[600];            /* the operation */
static bool verbose;              /* each operation is printed */

__attribute__((format(printf, 1, 2))) static void note(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	(void)vsnprintf(what, sizeof(what), fmt, args);
	va_end(args);
	if (verbose)
		(void)printf("%llu %s\n", (unsigned long long)step, what);
}

__attribute__((format(printf, 1, 2))) _Noreturn static void
differ(const char *fmt, ...)
{
	va_list args;

	(void)printf("compare: step %llu: %s: ", (unsigned long long)step,
		     what);
	va_start(args, fmt);
	(void)vprintf(fmt, args);
	va_end(args);
	(void)printf("; replay: -s %llu -n %llu\n", (unsigned long long)seed,
		     (unsigned long long)step + 1);
	exit(1);
}

/* What one call gave on each side. */
struct both {
	long rc[2];
	int error[2];
};

/* Equal results? Numbers only where they mean the same on both sides. */
static bool agree(const struct both *both, bool numbers)
{
	bool a = both->rc[0] < 0, b = both->rc[1] < 0;

	if (a != b || (a && both->error[0] != both->error[1]) ||
	    (!a && numbers && both->rc[0] != both->rc[1]))
		differ("%ld (%s), tried: %ld (%s)", both->rc[0],
		       a ? strerrorname_np(both->error[0]) : "ok", both->rc[1],
		       b ? strerrorname_np(both->error[1]) : "ok");
	if (verbose)
		(void)printf("\t%ld %s\n", both->rc[0],
			     a ? strerrorname_np(both->error[0]) : "");
	return !a;
}

#define BOTH(both, side, call) \
	for (int side = 0; side < 2; side++) { \
		errno = 0; \
		(both).rc[side] = (call); \
		(both).error[side] = errno; \
	}

/* ---- what is there ---- */

static void same_stat(const struct stat *a, const struct stat *b,
		      const char *name)
{
	if (a->st_mode != b->st_mode || a->st_uid != b->st_uid ||
	    a->st_gid != b->st_gid || a->st_nlink != b->st_nlink ||
	    a->st_rdev != b->st_rdev ||
	    (!S_ISDIR(a->st_mode) && a->st_size != b->st_size))
		differ("%s: %o %u:%u n%u s%lld, tried: %o %u:%u n%u s%lld",
		       name, a->st_mode, a->st_uid, a->st_gid,
		       (unsigned)a->st_nlink, (long long)a->st_size,
		       b->st_mode, b->st_uid, b->st_gid, (unsigned)b->st_nlink,
		       (long long)b->st_size);
	/* Times that somebody set, and nothing changed since. (What goes
	 * through a FIFO changes no times there: the kernel's FUSE.) */
	if (S_ISFIFO(a->st_mode))
		return;
	if ((a->st_mtim.tv_sec < 1000000) != (b->st_mtim.tv_sec < 1000000) ||
	    (a->st_mtim.tv_sec < 1000000 &&
	     (a->st_mtim.tv_sec != b->st_mtim.tv_sec ||
	      a->st_mtim.tv_nsec != b->st_mtim.tv_nsec)))
		differ("%s: mtime %lld.%09ld, tried: %lld.%09ld", name,
		       (long long)a->st_mtim.tv_sec, a->st_mtim.tv_nsec,
		       (long long)b->st_mtim.tv_sec, b->st_mtim.tv_nsec);
}

static bool look(const char *path, struct stat st[2])
{
	struct both both;

	BOTH(both, side, fstatat(roots[side], path, &st[side],
				 AT_SYMLINK_NOFOLLOW));
	if (!agree(&both, true))
		return false;
	same_stat(&st[0], &st[1], path);
	return true;
}

static void same_bytes(int a, int b, const char *name)
{
	static char bytes[2][65536];
	off_t at = 0;
	ssize_t n[2];

	do {
		n[0] = pread(a, bytes[0], sizeof(bytes[0]), at);
		n[1] = pread(b, bytes[1], sizeof(bytes[1]), at);
		if (n[0] != n[1] ||
		    (n[0] > 0 && memcmp(bytes[0], bytes[1], (size_t)n[0])))
			differ("%s: bytes from %lld on", name, (long long)at);
		at += n[0];
	} while (n[0] > 0);
}

static int by_name(const void *a, const void *b)
{
	return strcmp(a, b);
}

/* Sorted; up to 50 names. */
static size_t list(int root, const char *path, char names[50][256])
{
	int fd = openat(root, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;
	size_t n = 0;

	while (dir && n < 50 && (entry = readdir(dir)) != NULL)
		(void)snprintf(names[n++], 256, "%s", entry->d_name);
	if (!dir || closedir(dir) != 0)
		differ("%s cannot be listed: %s", path, strerror(errno));
	qsort(names, n, 256, by_name);
	return n;
}

static void walk(const char *path);

static void walk_dir(const char *path)
{
	char (*names)[50][256] = calloc(2, sizeof(*names));
	char below[512];
	size_t n[2];

	for (int side = 0; names && side < 2; side++)
		n[side] = list(roots[side], path, names[side]);
	if (!names || n[0] != n[1])
		differ("%s: %zu entries, tried: %zu", path, n[0], n[1]);
	for (size_t i = 0; i < n[0]; i++) {
		if (strcmp(names[0][i], names[1][i]) != 0)
			differ("%s: entry %s, tried: %s", path, names[0][i],
			       names[1][i]);
		if (names[0][i][0] == '.')
			continue;
		(void)snprintf(below, sizeof(below), "%s/%s", path,
			       names[0][i]);
		walk(below);
	}
	free(names);
}

static void walk(const char *path)
{
	char target[2][256] = { { 0 }, { 0 } };
	struct stat st[2];
	struct both both;
	int fd[2];

	if (!look(path, st))
		return;
	if (S_ISDIR(st[0].st_mode)) {
		walk_dir(path);
	} else if (S_ISLNK(st[0].st_mode)) {
		BOTH(both, side, readlinkat(roots[side], path, target[side],
					    255));
		if (agree(&both, true) && strcmp(target[0], target[1]) != 0)
			differ("%s -> %s, tried: %s", path, target[0],
			       target[1]);
	} else if (S_ISREG(st[0].st_mode)) {
		BOTH(both, side, fd[side] = openat(roots[side], path,
						   O_RDONLY | O_CLOEXEC));
		if (!agree(&both, false))
			return;
		same_bytes(fd[0], fd[1], path);
		(void)close(fd[0]);
		(void)close(fd[1]);
	}
}

/* ---- operations ---- */

/* One to three parts of few names, so that they meet. */
static const char *some_path(void)
{
	static char paths[4][64];
	static unsigned next;
	static const char *const parts[] = { "a", "b", "c", "d", "e", "f" };
	char *path = paths[next++ % 4];
	uint64_t n = 1 + chance(3);

	path[0] = '\0';
	for (uint64_t i = 0; i < n; i++) {
		if (i > 0)
			(void)strcat(path, "/");
		(void)strcat(path, parts[chance(6)]);
	}
	if (chance(60) == 0)
		(void)strcat(path, "/");
	return path;
}

static int some_handle(void)
{
	int i = (int)chance(HANDLES);

	for (int n = 0; n < HANDLES && handles[i][0] < 0; n++)
		i = (i + 1) % HANDLES;
	return i;
}

static void close_handle(int i)
{
	struct both both;

	if (handles[i][0] < 0)
		return;
	note("close %d", i);
	BOTH(both, side, close(handles[i][side]));
	handles[i][0] = handles[i][1] = -1;
	(void)agree(&both, true);
}

static void do_open(void)
{
	static const int modes[] = { O_RDONLY, O_WRONLY, O_RDWR, O_RDWR };
	const char *path = some_path();
	int flags = modes[chance(4)] | O_NONBLOCK | O_CLOEXEC;
	int i = (int)chance(HANDLES);
	struct both both;

	flags |= chance(2) ? O_CREAT : 0;
	flags |= (flags & O_CREAT) && chance(6) == 0 ? O_EXCL : 0;
	flags |= chance(4) == 0 ? O_TRUNC : 0;
	flags |= chance(4) == 0 ? O_APPEND : 0;
	flags |= chance(8) == 0 ? O_NOFOLLOW : 0;
	close_handle(i);
	note("open %d %s %o", i, path, (unsigned)flags);
	BOTH(both, side, handles[i][side] = openat(roots[side], path, flags,
						   0640));
	if (!agree(&both, false))
		handles[i][0] = handles[i][1] = -1;
}

static void do_handle(void)
{
	static uint8_t bytes[2][BYTES];
	int i = some_handle(), *fd = handles[i];
	off_t at = (off_t)chance(BYTES);
	size_t len = 1 + chance(chance(4) ? 5000 : BYTES - 1);
	struct stat st[2];
	struct both both;

	if (fd[0] < 0)
		return;
	switch (chance(9)) {
	case 0:
	case 1:
		memset(bytes[0], (int)(1 + chance(255)), len);
		note("pwrite %d %lld+%zu", i, (long long)at, len);
		BOTH(both, side, pwrite(fd[side], bytes[0], len, at));
		break;
	case 2:
		memset(bytes[0], (int)(1 + chance(255)), len);
		note("write %d %zu", i, len);
		BOTH(both, side, write(fd[side], bytes[0], len));
		break;
	case 3:
		note("read %d %zu", i, len);
		BOTH(both, side, read(fd[side], bytes[side], len));
		if (agree(&both, true) && both.rc[0] > 0 &&
		    memcmp(bytes[0], bytes[1], (size_t)both.rc[0]) != 0)
			differ("other bytes");
		return;
	case 4:
		note("ftruncate %d %lld", i, (long long)at);
		BOTH(both, side, ftruncate(fd[side], at));
		break;
	case 5:
		note("fsync %d", i);
		BOTH(both, side, fsync(fd[side]));
		break;
	case 6:
		/* An ordinary user must be able to go on. */
		at |= getuid() ? 0700 : 0;
		note("fchmod %d %llo", i, (unsigned long long)at & 07777);
		BOTH(both, side, fchmod(fd[side], (mode_t)at & 07777));
		break;
	case 7:
		note("fallocate %d %lld+%zu", i, (long long)at, len);
		BOTH(both, side, fallocate(fd[side], at & 1 ? 0 : 3, at,
					   (off_t)len));
		break;
	default:
		close_handle(i);
		return;
	}
	if (!agree(&both, true))
		return;
	BOTH(both, side, fstat(fd[side], &st[side]));
	if (agree(&both, true))
		same_stat(&st[0], &st[1], "fstat");
}

static void do_names(void)
{
	const char *path = some_path(), *other = some_path();
	unsigned flags = chance(3) ? 0 : (unsigned)chance(3);
	struct both both;
	struct stat st[2];

	switch (chance(8)) {
	case 0:
		note("mkdir %s", path);
		BOTH(both, side, mkdirat(roots[side], path, 0755));
		break;
	case 1:
		note("rmdir %s", path);
		BOTH(both, side, unlinkat(roots[side], path, AT_REMOVEDIR));
		break;
	case 2:
		note("unlink %s", path);
		BOTH(both, side, unlinkat(roots[side], path, 0));
		break;
	case 3:
		note("link %s %s", path, other);
		BOTH(both, side, linkat(roots[side], path, roots[side], other,
					0));
		break;
	case 4:
		note("symlink %s %s", path, other);
		BOTH(both, side, symlinkat(path, roots[side], other));
		break;
	case 5:
		note("mkfifo %s", path);
		BOTH(both, side, mkfifoat(roots[side], path, 0600));
		break;
	default:
		note("rename %s %s %u", path, other, flags);
		BOTH(both, side, renameat2(roots[side], path, roots[side],
					   other, flags));
		break;
	}
	(void)agree(&both, true);
	(void)look(path, st);
	(void)look(other, st);
}

static void do_attributes(void)
{
	const char *path = some_path();
	struct timespec times[2] = { { (time_t)chance(900000), 17 },
				     { (time_t)chance(900000), 123456789 } };
	off_t at = (off_t)chance(BYTES);
	struct both both;
	struct stat st[2];

	switch (chance(5)) {
	case 0:
		note("chmod %s %llo", path, (unsigned long long)at & 07777);
		BOTH(both, side, fchmodat(roots[side], path,
					  ((mode_t)at & 07777) | 0700, 0));
		break;
	case 1:
		note("utimens %s", path);
		BOTH(both, side, utimensat(roots[side], path, times,
					   AT_SYMLINK_NOFOLLOW));
		break;
	case 2:
		note("chown %s", path);
		BOTH(both, side, fchownat(roots[side], path,
					  getuid() ? getuid() :
						     (uid_t)at % 5,
					  getgid(), AT_SYMLINK_NOFOLLOW));
		break;
	default:
		note("stat %s", path);
		BOTH(both, side, fstatat(roots[side], path, &st[side], 0));
		break;
	}
	(void)agree(&both, true);
	(void)look(path, st);
}

static void do_truncate(void)
{
	const char *path = some_path();
	off_t to = (off_t)chance(BYTES);
	struct both both;

	/* truncate(2) has no form with a directory */
	note("truncate %s %lld", path, (long long)to);
	BOTH(both, side, fchdir(roots[side]) == 0 ? truncate(path, to) : -2);
	(void)agree(&both, true);
}

static void do_copy(void)
{
	int from = some_handle(), to = some_handle();
	off_t in = (off_t)chance(BYTES), out = (off_t)chance(BYTES);
	size_t len = 1 + chance(BYTES);
	struct both both;

	if (handles[from][0] < 0 || handles[to][0] < 0)
		return;
	note("copy %d %lld -> %d %lld +%zu", from, (long long)in, to,
	     (long long)out, len);
	BOTH(both, side, copy_file_range(handles[from][side], &(off_t){ in },
					 handles[to][side], &(off_t){ out },
					 len, 0));
	(void)agree(&both, true);
}

static void one_step(void)
{
	uint64_t kind = chance(100);

	if (kind < 25)
		do_open();
	else if (kind < 55)
		do_handle();
	else if (kind < 85)
		do_names();
	else if (kind < 92)
		do_attributes();
	else if (kind < 96)
		do_truncate();
	else
		do_copy();
	if (step % 500 == 499) {
		note("walk");
		walk(".");
	}
}

int main(int argc, char **argv)
{
	char own[2][4096] = { "", "" };
	const char *dirs[2] = { own[0], own[1] };
	uint64_t steps = 5000;
	bool walk_only = false;
	int opt;

	while ((opt = getopt(argc, argv, "s:n:vw")) != -1) {
		if (common_option(opt, &steps))
			continue;
		if (opt == 'v')
			verbose = true;
		else if (opt == 'w')
			walk_only = true;
		else
			return 2;
	}
	if (argc - optind != 2 && argc != optind)
		return 2;
	for (int i = 0; i < 2; i++) {
		if (optind < argc)
			dirs[i] = argv[optind + i];
		else if (!make_own("compare", own[i]))
			return 2;
		roots[i] = open(dirs[i], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (roots[i] < 0)
			return 2;
	}
	(void)umask(022);
	(void)signal(SIGPIPE, SIG_IGN); /* FIFOs without a reader */
	memset(handles, -1, sizeof(handles));
	state = seed;
	for (step = 0; !walk_only && step < steps; step++)
		one_step();
	for (int i = 0; i < HANDLES; i++)
		close_handle(i);
	note("walk at the end");
	walk(".");
	(void)printf("compare: %llu steps, seed %llu: equal\n",
		     (unsigned long long)step, (unsigned long long)seed);
	return remove_own(own[0], own[1]);
}
