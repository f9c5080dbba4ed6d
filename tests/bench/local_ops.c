/* SPDX-License-Identifier: GPL-3.0-or-later */
/* One kind of work on the files of one directory, timed.
 * Usage: local_ops OP DIRECTORY N
 * Prints the seconds that it took. What OP works on, an earlier OP has made:
 *   create      N files of 4 KiB, f0 to fN-1
 *   stat        lstat of each          (absent: of N names that are not there)
 *   read        open, read, close of each
 *   rename      each to gN             unlink    each gN
 *   write       N MiB, in steps of 1 MiB, and fsync
 *   overwrite   others in their place  scan      reads them
 *   rwrite      N times 4 KiB at random places of them, buffered
 *   rread       likewise, read
 *   fsync1, fsync16   N files of 4 KiB, each with fsync, from 1 or 16 threads
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define SMALL ((size_t)4096)
#define STEP ((size_t)1 << 20)
#define THREADS_MAX 16

static int top = -1; /* the directory */
static uint8_t *bytes; /* STEP of noise */
static double not_counted; /* seconds that making the bytes took */

static void need(int good, const char *what)
{
	if (good)
		return;
	fprintf(stderr, "local_ops: %s: %s\n", what, strerror(errno));
	exit(EXIT_FAILURE);
}

static double now(void)
{
	struct timespec at;

	(void)clock_gettime(CLOCK_MONOTONIC, &at);
	return (double)at.tv_sec + (double)at.tv_nsec / 1e9;
}

static const char *name_of(char *name, size_t size, char letter, long n)
{
	(void)snprintf(name, size, "%c%ld", letter, n);
	return name;
}

static void make_small(char letter, long n, int synced)
{
	char name[32];
	int fd = openat(top, name_of(name, sizeof(name), letter, n),
			O_CREAT | O_EXCL | O_WRONLY, 0644);

	need(fd >= 0, "create");
	need(write(fd, bytes, SMALL) == (ssize_t)SMALL, "write");
	need(!synced || fsync(fd) == 0, "fsync");
	need(close(fd) == 0, "close");
}

static void do_create(long n)
{
	for (long i = 0; i < n; i++)
		make_small('f', i, 0);
}

static void do_stat(long n)
{
	struct stat st;
	char name[32];

	for (long i = 0; i < n; i++)
		need(fstatat(top, name_of(name, sizeof(name), 'f', i), &st,
			     AT_SYMLINK_NOFOLLOW) == 0, "stat");
}

static void do_absent(long n)
{
	struct stat st;
	char name[32];

	for (long i = 0; i < n; i++)
		need(fstatat(top, name_of(name, sizeof(name), 'x', i), &st,
			     AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT,
		     "stat of what is not there");
}

static void do_read(long n)
{
	uint8_t data[SMALL];
	char name[32];

	for (long i = 0; i < n; i++) {
		int fd = openat(top, name_of(name, sizeof(name), 'f', i),
				O_RDONLY);

		need(fd >= 0, "open");
		need(read(fd, data, SMALL) == (ssize_t)SMALL, "read");
		need(close(fd) == 0, "close");
	}
}

static void do_rename(long n)
{
	char from[32], to[32];

	for (long i = 0; i < n; i++)
		need(renameat(top, name_of(from, sizeof(from), 'f', i), top,
			      name_of(to, sizeof(to), 'g', i)) == 0, "rename");
}

static void do_unlink(long n)
{
	char name[32];

	for (long i = 0; i < n; i++)
		need(unlinkat(top, name_of(name, sizeof(name), 'g', i), 0) == 0,
		     "unlink");
}

static int open_big(int flags)
{
	int fd = openat(top, "big", flags, 0644);

	need(fd >= 0, "open big");
	return fd;
}

/* Of step i, which no other has, not even shifted: else a store that finds
 * equal chunks would have little to write. */
static void make_step(uint64_t *words, long i)
{
	uint64_t key = ((uint64_t)i + 1) * UINT64_C(0x9e3779b97f4a7c15);
	const uint64_t *from = (const void *)bytes;

	for (size_t k = 0; k < STEP / sizeof(key); k++)
		words[k] = from[k] ^ key;
}

static double do_write_from(long n, long first)
{
	int fd = open_big(O_CREAT | O_WRONLY);
	uint64_t *words = malloc(STEP);
	double begin, spent = 0;

	need(words != NULL, "memory");
	for (long i = 0; i < n; i++) {
		begin = now();
		make_step(words, first + i);
		spent += now() - begin;
		need(write(fd, words, STEP) == (ssize_t)STEP, "write");
	}
	need(fsync(fd) == 0 && close(fd) == 0, "fsync");
	free(words);
	return spent;
}

static void do_write(long n)
{
	not_counted = do_write_from(n, 0);
}

static void do_overwrite(long n)
{
	not_counted = do_write_from(n, n);
}

static void do_scan(long n)
{
	int fd = open_big(O_RDONLY);

	for (long i = 0; i < n; i++)
		need(read(fd, bytes, STEP) == (ssize_t)STEP, "read");
	need(close(fd) == 0, "close");
}

/* Same places in each run: xorshift. */
static off_t place(uint64_t *state, off_t size)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return (off_t)(*state % ((uint64_t)size / SMALL) * SMALL);
}

static void do_random(long n, int writes)
{
	int fd = open_big(writes ? O_RDWR : O_RDONLY);
	uint64_t state = 88172645463325252u;
	struct stat st;

	need(fstat(fd, &st) == 0 && st.st_size > 0, "stat big");
	for (long i = 0; i < n; i++) {
		off_t at = place(&state, st.st_size);
		ssize_t done = writes ? pwrite(fd, bytes, SMALL, at)
				      : pread(fd, bytes, SMALL, at);

		need(done == (ssize_t)SMALL, "random access");
	}
	need(close(fd) == 0, "close");
}

static void do_rwrite(long n)
{
	do_random(n, 1);
}

static void do_rread(long n)
{
	do_random(n, 0);
}

struct share {
	pthread_t thread;
	long first, n;
};

static void *sync_share(void *arg)
{
	const struct share *share = arg;

	for (long i = 0; i < share->n; i++)
		make_small('s', share->first + i, 1);
	return NULL;
}

static void do_fsync(long n, int threads)
{
	struct share shares[THREADS_MAX];

	for (int i = 0; i < threads; i++) {
		shares[i].first = n * i / threads;
		shares[i].n = n * (i + 1) / threads - shares[i].first;
		need(pthread_create(&shares[i].thread, NULL, sync_share,
				    &shares[i]) == 0, "thread");
	}
	for (int i = 0; i < threads; i++)
		need(pthread_join(shares[i].thread, NULL) == 0, "join");
}

static void do_fsync1(long n)
{
	do_fsync(n, 1);
}

static void do_fsync16(long n)
{
	do_fsync(n, THREADS_MAX);
}

static const struct op {
	const char *name;
	void (*run)(long n);
} ops[] = {
	{ "create", do_create }, { "stat", do_stat }, { "absent", do_absent },
	{ "read", do_read }, { "rename", do_rename }, { "unlink", do_unlink },
	{ "write", do_write }, { "overwrite", do_overwrite }, { "scan", do_scan },
	{ "rwrite", do_rwrite }, { "rread", do_rread },
	{ "fsync1", do_fsync1 }, { "fsync16", do_fsync16 },
};

static void time_op(const struct op *op, long n)
{
	double begin = now();

	op->run(n);
	printf("%.9f\n", now() - begin - not_counted);
}

int main(int argc, char **argv)
{
	uint64_t state = 88172645463325252u;

	bytes = malloc(STEP);
	if (argc != 4 || !bytes) {
		fprintf(stderr, "usage: local_ops OP DIRECTORY N\n");
		return 2;
	}
	for (size_t i = 0; i < STEP; i += 8) {
		(void)place(&state, 1 << 30);
		memcpy(bytes + i, &state, 8);
	}
	top = open(argv[2], O_RDONLY | O_DIRECTORY);
	need(top >= 0, argv[2]);
	for (size_t i = 0; i < sizeof(ops) / sizeof(*ops); i++) {
		if (strcmp(argv[1], ops[i].name) != 0)
			continue;
		time_op(&ops[i], atol(argv[3]));
		free(bytes);
		(void)close(top);
		return EXIT_SUCCESS;
	}
	fprintf(stderr, "local_ops: no work is called %s\n", argv[1]);
	return 2;
}
