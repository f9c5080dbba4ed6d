/* SPDX-License-Identifier: GPL-3.0-or-later */
/* One file against a model in memory, in the way of fsx: reads and writes of
 * every kind, through two descriptors and a mapping, truncations, holes.
 *
 *   data [-s SEED] [-n STEPS] [-m BYTES] [-k FILE] DIR
 *
 * BYTES: how long the file may become. -k: at the end what it must contain is
 * written to FILE, to be compared after a new mount; the file in DIR is
 * "data.SEED". Each read is compared; at a deviation the last operations are
 * printed with the seed, and it ends with 1. Without DIR: a short run in
 * TMPDIR. */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/posix/seeded.h"

#define LOG 24           /* operations that are remembered */
#define PIECE 70000      /* most that is read or written at once, mostly */

static uint64_t step;
static uint8_t *model, *buf; /* owned; max bytes */
static size_t size, max = 3 << 20;
static int fds[2];
static bool direct[2];   /* fds are open with O_DIRECT */
static char path[4096], text[LOG][100];

__attribute__((format(printf, 1, 2))) static void note(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	(void)vsnprintf(text[step % LOG], sizeof(text[0]), fmt, args);
	va_end(args);
}

_Noreturn static void wrong(const char *what)
{
	int saved = errno;

	for (uint64_t i = step < LOG ? 0 : step - LOG + 1; i <= step; i++)
		(void)printf("%8llu %s\n", (unsigned long long)i,
			     text[i % LOG]);
	(void)printf("data: %s (%s) at step %llu; -s %llu -n %llu -m %zu\n",
		     what, strerror(saved), (unsigned long long)step,
		     (unsigned long long)seed, (unsigned long long)step + 1,
		     max);
	exit(1);
}

static void same(const uint8_t *got, size_t at, size_t len, const char *what)
{
	for (size_t i = 0; i < len; i++)
		if (got[i] != model[at + i]) {
			(void)printf("at %zu (of %zu): %02x instead of %02x\n",
				     at + i, size, got[i], model[at + i]);
			wrong(what);
		}
}

/* ---- ranges ---- */

static size_t some_length(void)
{
	switch (chance(8)) {
	case 0: return 1 + chance(16);
	case 1: return 4096 * (1 + chance(8));
	case 2: return 1 + chance(max / 2);
	default: return 1 + chance(PIECE);
	}
}

static void some_range(size_t *at, size_t *len, size_t limit)
{
	*len = some_length();
	if (*len > limit)
		*len = limit;
	*at = chance(limit - *len + 1);
	if (chance(3) == 0)
		*at &= ~(size_t)4095;
}

static void aligned(size_t *at, size_t *len, int fd)
{
	if (!direct[fd])
		return;
	*at &= ~(size_t)4095;
	*len = (*len + 4095) & ~(size_t)4095;
	if (*at + *len > max)
		*at = max - *len;
	*at &= ~(size_t)4095;
}

/* The model's size becomes at least this, with zeros. */
static void grow(size_t to)
{
	if (to <= size)
		return;
	memset(model + size, 0, to - size);
	size = to;
}

static void fill(uint8_t *at, size_t len)
{
	uint64_t x = chance(UINT64_MAX);

	for (size_t i = 0; i < len; i++) {
		x = x * 6364136223846793005u + 1442695040888963407u;
		at[i] = (uint8_t)(x >> 56);
	}
}

/* ---- operations ---- */

static void do_read(int fd)
{
	size_t at, len, want;
	ssize_t n;

	some_range(&at, &len, max);
	aligned(&at, &len, fd);
	note("read fd%d %zu+%zu", fd, at, len);
	n = pread(fds[fd], buf, len, (off_t)at);
	want = at >= size ? 0 : len < size - at ? len : size - at;
	if (n < 0 || (size_t)n != want)
		wrong("length of a read");
	same(buf, at, want, "read");
}

static void do_write(int fd)
{
	size_t at, len;

	some_range(&at, &len, max);
	aligned(&at, &len, fd);
	if (chance(4) == 0 && !direct[fd] && size < max) {
		at = size;
		len = len < max - size ? len : max - size;
	}
	note("write fd%d %zu+%zu", fd, at, len);
	fill(buf, len);
	if (pwrite(fds[fd], buf, len, (off_t)at) != (ssize_t)len)
		wrong("write");
	grow(at + len);
	memcpy(model + at, buf, len);
}

static void do_map(bool write)
{
	size_t at, len, start;
	uint8_t *map;

	if (size == 0)
		return;
	some_range(&at, &len, size);
	start = at & ~(size_t)4095;
	note("map %s %zu+%zu", write ? "write" : "read", at, len);
	map = mmap(NULL, at + len - start,
		   write ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED,
		   fds[0], (off_t)start);
	if (map == MAP_FAILED)
		wrong("mmap");
	if (write) {
		fill(model + at, len);
		memcpy(map + (at - start), model + at, len);
		if (chance(3) == 0 &&
		    msync(map, at + len - start, MS_SYNC) != 0)
			wrong("msync");
	} else {
		same(map + (at - start), at, len, "mapping");
	}
	if (munmap(map, at + len - start) != 0)
		wrong("munmap");
}

static void do_truncate(void)
{
	size_t to = chance(4) == 0 ? chance(5000) : chance(max + 1);
	bool by_path = chance(2);

	note("%struncate %zu -> %zu", by_path ? "" : "f", size, to);
	if ((by_path ? truncate(path, (off_t)to) :
		       ftruncate(fds[chance(2)], (off_t)to)) != 0)
		wrong("truncate");
	grow(to);
	size = to;
}

static void do_fallocate(void)
{
	static const int modes[] = {
		0, FALLOC_FL_KEEP_SIZE,
		FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		FALLOC_FL_ZERO_RANGE,
		FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE
	};
	int mode = modes[chance(5)];
	size_t at, len, end;

	some_range(&at, &len, max);
	note("fallocate %x %zu+%zu", (unsigned)mode, at, len);
	if (fallocate(fds[chance(2)], mode, (off_t)at, (off_t)len) != 0) {
		if (errno == EOPNOTSUPP)
			return;
		wrong("fallocate");
	}
	if (!(mode & FALLOC_FL_KEEP_SIZE))
		grow(at + len);
	if (!(mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) ||
	    at >= size)
		return;
	end = at + len < size ? at + len : size;
	memset(model + at, 0, end - at);
}

static void do_copy(void)
{
	size_t from, to, len;
	ssize_t n;

	some_range(&from, &len, max);
	to = chance(max - len + 1);
	if (direct[0] || direct[1] || (from <= to && to < from + len) ||
	    (to <= from && from < to + len))
		return;
	note("copy %zu -> %zu +%zu", from, to, len);
	n = copy_file_range(fds[0], &(off_t){ (off_t)from }, fds[1],
			    &(off_t){ (off_t)to }, len, 0);
	if (n < 0)
		wrong("copy");
	if (from >= size ? n != 0 : (size_t)n > size - from || n == 0)
		wrong("length of a copy");
	if (n == 0)
		return;
	grow(to + (size_t)n);
	memmove(model + to, model + from, (size_t)n);
}

/* What is called a hole reads as zeros. Sealing, which may come between two
 * calls, makes holes of zeros that were data: then a hole begins at once where
 * data did, but not again. */
static void do_holes(void)
{
	off_t at = 0, data, hole, turned = -1;

	note("holes");
	while ((size_t)at < size) {
		data = lseek(fds[0], at, SEEK_DATA);
		if (data < 0 && errno != ENXIO)
			wrong("SEEK_DATA");
		if (data < 0)
			data = (off_t)size;
		if (data < at || (size_t)data > size)
			wrong("place of data");
		for (off_t i = at; i < data; i++)
			if (model[i] != 0)
				wrong("data in a hole");
		if ((size_t)data == size)
			return;
		hole = lseek(fds[0], data, SEEK_HOLE);
		if (hole < data || (size_t)hole > size)
			wrong("SEEK_HOLE");
		if (hole == data && (hole == turned || model[hole] != 0))
			wrong("neither data nor hole");
		turned = hole;
		at = hole;
	}
}

static void do_open(int fd)
{
	int flags = O_RDWR | O_CLOEXEC;

	direct[fd] = chance(4) == 0;
	note("open fd%d%s", fd, direct[fd] ? " direct" : "");
	if (fds[fd] >= 0 && close(fds[fd]) != 0)
		wrong("close");
	fds[fd] = open(path, direct[fd] ? flags | O_DIRECT : flags);
	if (fds[fd] < 0 && direct[fd]) {
		direct[fd] = false;
		fds[fd] = open(path, flags);
	}
	if (fds[fd] < 0)
		wrong("open");
}

static void do_rest(void)
{
	struct stat st;
	int fd = (int)chance(2);

	switch (chance(4)) {
	case 0:
		note("fsync");
		if (fsync(fds[fd]) != 0)
			wrong("fsync");
		break;
	case 1:
		note("forget cached pages");
		(void)posix_fadvise(fds[fd], 0, 0, POSIX_FADV_DONTNEED);
		break;
	default:
		note("stat");
		if ((fd ? fstat(fds[0], &st) : stat(path, &st)) != 0 ||
		    (size_t)st.st_size != size)
			wrong("size");
	}
}

static void one_step(void)
{
	uint64_t what = chance(100);

	if (what < 25)
		do_read((int)chance(2));
	else if (what < 50)
		do_write((int)chance(2));
	else if (what < 58)
		do_map(false);
	else if (what < 68)
		do_map(true);
	else if (what < 75)
		do_truncate();
	else if (what < 83)
		do_fallocate();
	else if (what < 87)
		do_copy();
	else if (what < 90)
		do_holes();
	else if (what < 95)
		do_open((int)chance(2));
	else
		do_rest();
}

/* ---- a run ---- */

static void begin(const char *dir)
{
	(void)snprintf(path, sizeof(path), "%s/data.%llu", dir,
		       (unsigned long long)seed);
	state = seed;
	model = malloc(max + 1);
	buf = aligned_alloc(4096, (max + 8192) & ~(size_t)4095);
	fds[0] = open(path, O_CREAT | O_TRUNC | O_RDWR | O_CLOEXEC, 0644);
	fds[1] = open(path, O_RDWR | O_CLOEXEC);
	if (!model || !buf || fds[0] < 0 || fds[1] < 0)
		wrong("open");
}

static void keep(const char *file)
{
	int fd = open(file, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0644);

	if (fd < 0 || write(fd, model, size) != (ssize_t)size ||
	    close(fd) != 0)
		wrong("the model cannot be kept");
}

static void end(const char *kept)
{
	note("the end");
	direct[0] = false;
	if (close(fds[0]) != 0 || close(fds[1]) != 0)
		wrong("close");
	fds[0] = open(path, O_RDONLY | O_CLOEXEC);
	if (fds[0] < 0 || pread(fds[0], buf, max, 0) != (ssize_t)size)
		wrong("length at the end");
	same(buf, 0, size, "content at the end");
	if (kept)
		keep(kept);
	(void)close(fds[0]);
}

int main(int argc, char **argv)
{
	const char *tmp = getenv("TMPDIR"), *kept = NULL;
	uint64_t steps = 2000;
	bool own;
	int opt;

	while ((opt = getopt(argc, argv, "s:n:m:k:")) != -1) {
		if (common_option(opt, &steps))
			continue;
		if (opt == 'm')
			max = strtoull(optarg, NULL, 0);
		else if (opt == 'k')
			kept = optarg;
		else
			return 2;
	}
	own = optind == argc;
	if (max < 1 << 16)
		return 2;
	begin(!own ? argv[optind] : tmp ? tmp : "/tmp");
	for (step = 0; step < (own ? 500 : steps); step++)
		one_step();
	end(kept);
	if (own)
		(void)unlink(path);
	(void)printf("data: %llu steps, seed %llu: well\n",
		     (unsigned long long)step, (unsigned long long)seed);
	free(model);
	free(buf);
	return 0;
}
