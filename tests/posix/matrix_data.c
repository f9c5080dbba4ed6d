/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Sizes, offsets and holes at their limits; and which times change. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/falloc.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "tests/posix/scene.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* ---- data ---- */

/* A file "f" of 10000 bytes, open. */
static int data_file(int flags)
{
	char bytes[10000];
	int fd = open("f", O_CREAT | O_TRUNC | O_WRONLY, 0644);

	memset(bytes, 'b', sizeof(bytes));
	if (fd < 0 || write(fd, bytes, sizeof(bytes)) != sizeof(bytes) ||
	    close(fd) != 0)
		scene_broken("write", "f");
	fd = open("f", flags);
	if (fd < 0)
		scene_broken("open", "f");
	return fd;
}

static void data_line(const char *name, long rc)
{
	int saved = errno;

	scene_line(scene_text("data %s", name), rc, saved,
		   (const char *const[]){ "f", "g", NULL });
	errno = 0;
}

static void data_sizes(void)
{
	static const off_t sizes[] = { -1, 0, 1, 4095, 4096, 4097, 10000,
				       1 << 20, (1 << 20) + 1,
				       (off_t)1 << 31, (off_t)1 << 32,
				       (off_t)1 << 40, INT64_MAX };
	int fd;

	for (size_t i = 0; i < COUNT(sizes); i++) {
		fd = data_file(O_RDWR);
		errno = 0;
		data_line(scene_text("truncate %lld", (long long)sizes[i]),
			  truncate("f", sizes[i]));
		data_line(scene_text("ftruncate %lld", (long long)sizes[i]),
			  ftruncate(fd, sizes[i]));
		data_line("read at the end", pread(fd, &(char){ 0 }, 1,
						   sizes[i]));
		data_line("seek data", lseek(fd, 0, SEEK_DATA) >= 0 ? 0 : -1);
		(void)close(fd);
	}
	fd = data_file(O_RDONLY);
	errno = 0;
	data_line("ftruncate of a reader", ftruncate(fd, 5));
	data_line("write of a reader", write(fd, "x", 1));
	data_line("fallocate of a reader", fallocate(fd, 0, 0, 20000));
	(void)close(fd);
	fd = data_file(O_WRONLY);
	errno = 0;
	data_line("read of a writer", read(fd, &(char){ 0 }, 1));
	(void)close(fd);
}

static void data_allocate(void)
{
	static const int modes[] = {
		0, FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE,
		FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		FALLOC_FL_ZERO_RANGE,
		FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
		FALLOC_FL_COLLAPSE_RANGE, FALLOC_FL_INSERT_RANGE, 0x80
	};
	static const off_t ranges[][2] = {
		{ 0, 0 }, { 0, 100 }, { 0, 4096 }, { 4096, 4096 },
		{ 5000, 20000 }, { 9999, 1 }, { 10000, 1 }, { 20000, 5 },
		{ -1, 5 }, { 5, -1 }, { INT64_MAX, 1 }, { INT64_MAX - 5, 100 },
	};

	for (size_t m = 0; m < COUNT(modes); m++)
		for (size_t r = 0; r < COUNT(ranges); r++) {
			int fd = data_file(O_RDWR);

			errno = 0;
			data_line(scene_text("fallocate %x %lld %lld",
					     (unsigned)modes[m],
					     (long long)ranges[r][0],
					     (long long)ranges[r][1]),
				  fallocate(fd, modes[m], ranges[r][0],
					    ranges[r][1]));
			(void)close(fd);
		}
	for (size_t r = 0; r < COUNT(ranges); r++) {
		int fd = data_file(O_RDWR);

		errno = posix_fallocate(fd, ranges[r][0], ranges[r][1]);
		data_line(scene_text("posix_fallocate %lld %lld",
				     (long long)ranges[r][0],
				     (long long)ranges[r][1]),
			  errno == 0 ? 0 : -1);
		(void)close(fd);
	}
}

static void data_offsets(void)
{
	static const off_t offsets[] = { -1, 0, 9999, 10000, 10001, 1 << 20,
					 (off_t)1 << 33, INT64_MAX };
	int fd = data_file(O_RDWR);
	char c = 0;

	errno = 0;
	for (size_t i = 0; i < COUNT(offsets); i++) {
		long long at = offsets[i];

		data_line(scene_text("pread %lld", at), pread(fd, &c, 1, at));
		data_line(scene_text("lseek %lld", at),
			  lseek(fd, at, SEEK_SET) == at ? 0 : -1);
		data_line(scene_text("lseek data %lld", at),
			  lseek(fd, at, SEEK_DATA) >= 0 ? 0 : -1);
		data_line(scene_text("lseek hole %lld", at),
			  lseek(fd, at, SEEK_HOLE) >= 0 ? 0 : -1);
		data_line(scene_text("copy from %lld", at),
			  copy_file_range(fd, &(off_t){ at }, fd,
					  &(off_t){ 200000 }, 1, 0));
		data_line(scene_text("empty write %lld", at),
			  pwrite(fd, &c, 0, at));
		if (at < (off_t)1 << 40)
			data_line(scene_text("pwrite %lld", at),
				  pwrite(fd, "y", 1, at));
	}
	data_line("seek end", lseek(fd, -20, SEEK_END) >= 0 ? 0 : -1);
	data_line("seek before", lseek(fd, -((off_t)1 << 50), SEEK_CUR));
	data_line("overlapping copy",
		  copy_file_range(fd, &(off_t){ 0 }, fd, &(off_t){ 5 }, 20,
				  0));
	data_line("copy with flags",
		  copy_file_range(fd, &(off_t){ 0 }, fd, &(off_t){ 50 }, 20,
				  1));
	(void)close(fd);
	fd = data_file(O_RDWR | O_APPEND);
	errno = 0;
	data_line("append", pwrite(fd, "z", 1, 3));
	data_line("append by copy", copy_file_range(fd, &(off_t){ 0 }, fd,
						    NULL, 1, 0));
	(void)close(fd);
}

/* A limit on file sizes is the caller's, and gives EFBIG. */
static void data_limit(void)
{
	struct rlimit old, limit;
	int fd = data_file(O_RDWR);

	(void)signal(SIGXFSZ, SIG_IGN);
	if (getrlimit(RLIMIT_FSIZE, &old) != 0)
		scene_broken("getrlimit", "");
	limit = old;
	limit.rlim_cur = 20000;
	if (setrlimit(RLIMIT_FSIZE, &limit) != 0)
		scene_broken("setrlimit", "");
	errno = 0;
	data_line("limit: across", pwrite(fd, "0123456789", 10, 19995));
	data_line("limit: beyond", pwrite(fd, "0123456789", 10, 20000));
	data_line("limit: truncate", ftruncate(fd, 20001));
	data_line("limit: allocate", fallocate(fd, 0, 0, 30000));
	(void)setrlimit(RLIMIT_FSIZE, &old);
	(void)close(fd);
}

static void data_mixed(void)
{
	int fd = data_file(O_RDWR), dir = open(".", O_RDONLY), fifo;
	struct iovec none = { NULL, 0 };
	char *map;

	errno = 0;
	data_line("read a directory", read(dir, &none, 1));
	data_line("write a directory", write(dir, "x", 1));
	data_line("truncate a directory", ftruncate(dir, 0));
	data_line("fsync a directory", fsync(dir));
	data_line("fallocate a directory", fallocate(dir, 0, 0, 10));
	data_line("no vector", readv(fd, &none, 1));
	data_line("mmap beyond",
		  (map = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd,
			      1 << 20)) == MAP_FAILED ? -1 : 0);
	if (map != MAP_FAILED)
		(void)munmap(map, 4096);
	data_line("direct", open("f", O_RDONLY | O_DIRECT) >= 0 ? 0 : -1);
	data_line("long attribute", fsetxattr(fd, scene_text("user.%0250d", 1),
					      "v", 1, 0));
	data_line("longest attribute",
		  fsetxattr(fd, scene_text("user.%0251d", 1), "v", 1, 0));
	data_line("empty attribute", fsetxattr(fd, "user.e", "", 0, 0));
	data_line("exclusive attribute",
		  fsetxattr(fd, "user.e", "", 0, XATTR_CREATE));
	data_line("no attribute", fsetxattr(fd, "user.n", "", 0,
					    XATTR_REPLACE));
	data_line("no name", fsetxattr(fd, "user.", "", 0, 0));
	data_line("no class", fsetxattr(fd, "nothing.x", "", 0, 0));
	data_line("both flags", fsetxattr(fd, "user.x", "", 0,
					  XATTR_CREATE | XATTR_REPLACE));
	data_line("remove", fremovexattr(fd, "user.e"));
	data_line("remove again", fremovexattr(fd, "user.e"));
	(void)close(fd);
	(void)close(dir);
	if (mkfifo("g", 0644) != 0)
		scene_broken("mkfifo", "g");
	errno = 0;
	data_line("truncate a fifo", truncate("g", 0));
	data_line("fifo without reader", open("g", O_WRONLY | O_NONBLOCK));
	fifo = open("g", O_RDWR | O_NONBLOCK);
	data_line("fallocate a fifo", fallocate(fifo, 0, 0, 10));
	data_line("seek a fifo", lseek(fifo, 0, SEEK_SET));
	(void)close(fifo);
}

void matrix_data(void)
{
	data_sizes();
	data_allocate();
	data_offsets();
	data_limit();
	data_mixed();
}

/* ---- times ---- */

static const char *const watched[] = { "f", "f2", "d", "d/x", "e", "e/y", "l",
				       ".", NULL };

struct was {
	struct stat st;  /* of one of `watched` */
	bool there;      /* st is valid */
};

static int open_file = -1; /* of f, for calls that need one */
static char *mapped;       /* a page of f */

static void set_old(const char *path)
{
	static const struct timespec old[2] = { { 1000000000, 111 },
						{ 1100000000, 222 } };

	if (utimensat(AT_FDCWD, path, old, AT_SYMLINK_NOFOLLOW) != 0)
		scene_broken("utimensat", path);
}

static void make_times(void)
{
	scene_make("d", &(struct scene_object){ .kind = 'd', .mode = 0755 });
	scene_make("e", &(struct scene_object){ .kind = 'd', .mode = 0755 });
	scene_make("d/x", &(struct scene_object){ .kind = 'f', .mode = 0644 });
	scene_make("e/y", &(struct scene_object){ .kind = 'd', .mode = 0755 });
	open_file = data_file(O_RDWR);
	if (link("f", "f2") != 0 || symlink("f", "l") != 0)
		scene_broken("link", "f2");
	mapped = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED,
		      open_file, 0);
	if (mapped == MAP_FAILED)
		scene_broken("mmap", "f");
	for (size_t i = 0; watched[i]; i++)
		set_old(watched[i]);
}

static void unmake_times(void)
{
	(void)munmap(mapped, 4096);
	(void)close(open_file);
	for (size_t i = 0; watched[i] && strcmp(watched[i], ".") != 0; i++)
		scene_remove(watched[i]);
	scene_remove("new");
	scene_remove("d");
	scene_remove("e");
}

/* What changed: letters of the times, "now" where it is one of this moment. */
static void tell_times(const struct was *was)
{
	for (size_t i = 0; watched[i]; i++) {
		struct stat st;
		bool there = lstat(watched[i], &st) == 0;

		if (!there || !was[i].there) {
			if (there != was[i].there)
				(void)printf(" %s%c", watched[i],
					     there ? '+' : '-');
			continue;
		}
		(void)printf(" %s:", watched[i]);
		if (memcmp(&st.st_atim, &was[i].st.st_atim,
			   sizeof(st.st_atim)) != 0)
			(void)printf("a");
		if (memcmp(&st.st_mtim, &was[i].st.st_mtim,
			   sizeof(st.st_mtim)) != 0)
			(void)printf("m");
		if (memcmp(&st.st_ctim, &was[i].st.st_ctim,
			   sizeof(st.st_ctim)) != 0)
			(void)printf("c");
		if (st.st_mtim.tv_sec != was[i].st.st_mtim.tv_sec &&
		    st.st_mtim.tv_sec < 1200000000)
			(void)printf("?");
	}
}

static long one_time(int call)
{
	static const struct timespec set[2] = { { 1500000000, 5 },
						{ 1600000000, 7 } };
	char buf[100];
	DIR *dir;

	switch (call) {
	case 0: return close(open("new", O_CREAT | O_WRONLY, 0644));
	case 1: return mkdir("new", 0755);
	case 2: return mkfifo("new", 0644);
	case 3: return symlink("x", "new");
	case 4: return link("f", "new");
	case 5: return link("d/x", "e/y/x");
	case 6: return unlink("f2");
	case 7: return unlink("f");
	case 8: return unlink("d/x");
	case 9: return rmdir("e/y");
	case 10: return rename("f", "new");
	case 11: return rename("d/x", "e/x");
	case 12: return rename("e/y", "d/y");
	case 13: return rename("d/x", "f");
	case 14: return rename("f", "f2");
	case 15: return renameat2(AT_FDCWD, "d/x", AT_FDCWD, "e/y",
				  RENAME_EXCHANGE);
	case 16: return chmod("f", 0600);
	case 17: return chmod("f", 0644);
	case 18: return chmod("d", 0700);
	case 19: return chown("f", (uid_t)-1, (gid_t)-1);
	case 20: return chown("f", getuid(), getgid());
	case 21: return lchown("l", getuid(), getgid());
	case 22: return truncate("f", 10000);
	case 23: return truncate("f", 5);
	case 24: return truncate("f", 20000);
	case 25: return ftruncate(open_file, 10000);
	case 26: return ftruncate(open_file, 7);
	case 27: return close(open("f", O_WRONLY | O_TRUNC));
	case 28: return close(open("f", O_WRONLY | O_CREAT, 0644));
	case 29: return pwrite(open_file, "xyz", 3, 50);
	case 30: return pwrite(open_file, "xyz", 0, 50);
	case 31: return pwrite(open_file, "xyz", 3, 50) == 3 ?
				fsync(open_file) : -1;
	case 32: mapped[100] = 'm';
		 return msync(mapped, 4096, MS_SYNC);
	case 33: return fallocate(open_file, 0, 0, 100);
	case 34: return fallocate(open_file, 0, 0, 30000);
	case 35: return fallocate(open_file, FALLOC_FL_PUNCH_HOLE |
				  FALLOC_FL_KEEP_SIZE, 0, 5000);
	case 36: return fallocate(open_file, FALLOC_FL_ZERO_RANGE, 0, 5000);
	case 37: return utimensat(AT_FDCWD, "f", NULL, 0);
	case 38: return utimensat(AT_FDCWD, "f", set, 0);
	case 39: return utimensat(AT_FDCWD, "l", set, AT_SYMLINK_NOFOLLOW);
	case 40: return utimensat(AT_FDCWD, "d", set, 0);
	case 41: return setxattr("f", "user.t", "v", 1, 0);
	case 42: return setxattr("d", "user.t", "v", 1, 0);
	case 43: return setxattr("f", "user.t", "v", 1, 0) == 0 ?
				removexattr("f", "user.t") : -1;
	case 44: return copy_file_range(open_file, &(off_t){ 0 }, open_file,
					&(off_t){ 20000 }, 100, 0);
	case 45: return pread(open_file, buf, 100, 0);
	case 46: return readlink("l", buf, 100);
	case 47: dir = opendir("d");
		 return dir && readdir(dir) ? closedir(dir) : -1;
	case 48: return unlink("missing");
	case 49: return rmdir("e");
	case 50: return mkdir("d", 0755);
	case 51: return rename("f", "f");
	case 52: return rename("f", "missing/f");
	case 53: return link("f", "f2");
	case 54: return open("f", O_CREAT | O_EXCL, 0644);
	case 55: return truncate("f", -1);
	case 56: return chmod("missing", 0644);
	case 57: return mknod("new", S_IFREG | 0644, 0);
	case 58: return rename("e/y", "new");
	default: return rename("d", "e/y/d");
	}
}

void matrix_times(void)
{
	struct was was[COUNT(watched)];

	for (int call = 0; call <= 59; call++) {
		const char *name = scene_text("times call%d", call);
		long rc;

		if (!scene_wanted(name))
			continue;
		make_times();
		for (size_t i = 0; watched[i]; i++)
			was[i].there = lstat(watched[i], &was[i].st) == 0;
		scene_tick();
		scene_tick();
		errno = 0;
		rc = one_time(call);
		(void)printf("%s: %s", name, scene_error(rc, errno));
		tell_times(was);
		(void)printf("\n");
		unmake_times();
	}
}
