/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Directory streams while entries come and go; names and paths at their
 * limits; very many entries.
 *
 *   streams [-s SEED] [-n STEPS] [-e ENTRIES] DIR
 *
 * Several streams read one directory in pieces of random size, at random
 * times, and go back to places where they have been, while entries are made,
 * removed and renamed. What is there from the beginning of a pass to its end
 * must be seen exactly once, and nothing that never was. ENTRIES: so many files
 * are made, listed, found and removed. Ends with 1 and the seed at the first
 * deviation. Without DIR: a short run in a directory of TMPDIR. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tests/posix/seeded.h"

#define NAMES 3000   /* that may exist */
#define STREAMS 4
#define PIECE_MAX 32768

struct place {
	off_t offset;  /* of the kernel */
	size_t n_seen; /* of the stream, when it was there */
};

struct stream {
	int fd;                /* -1: closed */
	uint16_t seen[NAMES];  /* in this pass; how often */
	uint8_t stays[NAMES];  /* was there when the pass began, and since */
	uint16_t order[4 * NAMES]; /* names in the order in which they came */
	size_t n_seen;         /* of order */
	struct place places[16]; /* to go back to */
	size_t n_places;       /* of them */
};

static struct stream streams[STREAMS];
static bool there[NAMES];

_Noreturn static void wrong(const char *what, const char *name)
{
	(void)printf("streams: %s: %s (seed %llu): %s\n", what, name,
		     (unsigned long long)seed, strerror(errno));
	exit(1);
}

/* Names of all lengths up to 255, with bytes of every value. */
static void name_of(unsigned i, char name[256])
{
	size_t len = i % 7 == 0 ? 255 : 8 + i % 40;

	(void)snprintf(name, 256, "%04x", i * 40503u & 0xffff);
	(void)snprintf(name + 4, 252, "%04u", i);
	for (size_t k = 8; k < len; k++) {
		name[k] = (char)(1 + (i * 31 + k * 7) % 255);
		if (name[k] == '/')
			name[k] = '\xff';
	}
	name[len] = '\0';
}

static unsigned number_of(const char *name)
{
	char digits[5] = { 0 }, again[256];
	unsigned i;

	if (strlen(name) < 8)
		wrong("a name that nobody made", name);
	memcpy(digits, name + 4, 4);
	i = (unsigned)strtoul(digits, NULL, 10);
	name_of(i < NAMES ? i : 0, again);
	if (i >= NAMES || strcmp(name, again) != 0)
		wrong("a name that nobody made", name);
	return i;
}

static void make(unsigned i)
{
	char name[256];
	int fd;

	name_of(i, name);
	fd = open(name, O_CREAT | O_EXCL | O_WRONLY, 0644);
	if (fd < 0 || close(fd) != 0)
		wrong("create", name);
	there[i] = true;
	for (size_t s = 0; s < STREAMS; s++)
		streams[s].stays[i] = 0;
}

static void gone(unsigned i)
{
	there[i] = false;
	for (size_t s = 0; s < STREAMS; s++)
		streams[s].stays[i] = 0;
}

static void take(unsigned i)
{
	char name[256];

	name_of(i, name);
	if (unlink(name) != 0)
		wrong("unlink", name);
	gone(i);
}

static void move(unsigned from, unsigned to)
{
	char a[256], b[256];

	name_of(from, a);
	name_of(to, b);
	if (rename(a, b) != 0)
		wrong("rename", a);
	gone(from);
	gone(to);
	there[to] = true;
}

/* ---- streams ---- */

static void begin_pass(struct stream *stream)
{
	memset(stream->seen, 0, sizeof(stream->seen));
	for (size_t i = 0; i < NAMES; i++)
		stream->stays[i] = there[i];
	stream->n_seen = stream->n_places = 0;
}

static void open_stream(struct stream *stream)
{
	if (stream->fd >= 0)
		(void)close(stream->fd);
	stream->fd = open(".", O_RDONLY | O_DIRECTORY);
	if (stream->fd < 0)
		wrong("open", ".");
	begin_pass(stream);
}

static void end_pass(struct stream *stream)
{
	char name[256];

	for (unsigned i = 0; i < NAMES; i++) {
		if (!stream->stays[i] || stream->seen[i] == 1)
			continue;
		name_of(i, name);
		wrong(stream->seen[i] ? "seen twice" : "not seen", name);
	}
}

/* False at the end of the directory. */
static bool read_piece(struct stream *stream)
{
	char buf[PIECE_MAX];
	size_t size = chance(2) ? 300 + chance(3000) : PIECE_MAX;
	long n = syscall(SYS_getdents64, stream->fd, buf, size);

	if (n < 0)
		wrong("getdents64", ".");
	for (long at = 0; at < n;) {
		struct dirent64 *entry = (struct dirent64 *)(void *)(buf + at);

		at += entry->d_reclen;
		if (strcmp(entry->d_name, ".") == 0 ||
		    strcmp(entry->d_name, "..") == 0)
			continue;
		if (stream->n_seen == 4 * NAMES)
			wrong("a pass without end", ".");
		stream->order[stream->n_seen] =
			(uint16_t)number_of(entry->d_name);
		stream->seen[stream->order[stream->n_seen++]]++;
		if (chance(20) == 0 && stream->n_places < 16)
			stream->places[stream->n_places++] = (struct place){
				entry->d_off, stream->n_seen };
	}
	return n > 0;
}

/* As seekdir(3): what came after that place is to come again. */
static void go_back(struct stream *stream)
{
	const struct place *place;

	if (stream->n_places == 0)
		return;
	stream->n_places = 1 + chance(stream->n_places);
	place = &stream->places[stream->n_places - 1];
	if (lseek(stream->fd, place->offset, SEEK_SET) != place->offset)
		wrong("seek", ".");
	while (stream->n_seen > place->n_seen)
		stream->seen[stream->order[--stream->n_seen]]--;
}

static void step_stream(struct stream *stream)
{
	uint64_t what = chance(40);

	if (stream->fd < 0 || what == 0) {
		open_stream(stream);
	} else if (what == 1) {
		if (lseek(stream->fd, 0, SEEK_SET) != 0)
			wrong("rewind", ".");
		begin_pass(stream);
	} else if (what < 5) {
		go_back(stream);
	} else if (!read_piece(stream)) {
		end_pass(stream);
		if (chance(2))
			open_stream(stream);
		else
			go_back(stream);
	}
}

/* All that a stream has seen so far goes: as rm -r does. */
static void remove_seen(const struct stream *stream)
{
	for (size_t i = 0; i < stream->n_seen; i++)
		if (there[stream->order[i]] && chance(10) != 0)
			take(stream->order[i]);
}

static void step_names(void)
{
	uint64_t n = 1 + chance(60);

	while (n-- > 0) {
		unsigned i = (unsigned)chance(NAMES);
		unsigned k = (unsigned)chance(NAMES);

		if (!there[i])
			make(i);
		else if (chance(2) && i != k)
			move(i, k);
		else
			take(i);
	}
}

static void run_streams(uint64_t steps)
{
	for (size_t s = 0; s < STREAMS; s++)
		streams[s].fd = -1;
	for (uint64_t i = 0; i < steps; i++) {
		uint64_t what = chance(100);
		struct stream *stream = &streams[chance(STREAMS)];

		if (what < 80)
			step_stream(stream);
		else if (what < 97)
			step_names();
		else
			remove_seen(stream);
	}
	for (size_t s = 0; s < STREAMS; s++)
		if (streams[s].fd >= 0)
			(void)close(streams[s].fd);
	for (unsigned i = 0; i < NAMES; i++)
		if (there[i])
			take(i);
}

/* ---- limits ---- */

/* Down as deep as a path of 4095 bytes reaches, and one more. */
static void run_path(void)
{
	char path[4200] = { 0 }, part[256];
	struct stat st;
	size_t len = 0, depth = 0;
	int fd;

	memset(part, 'p', 255);
	part[255] = '\0';
	while (len + 256 < 4000) {
		(void)memcpy(path + len, part, 256);
		len += 255;
		if (mkdir(path, 0755) != 0)
			wrong("mkdir deep", part);
		path[len++] = '/';
		depth++;
	}
	memset(path + len, 'q', sizeof(path) - len - 1);
	path[4095] = '\0';
	fd = open(path, O_CREAT | O_WRONLY, 0644);
	if (fd < 0 || close(fd) != 0 || stat(path, &st) != 0)
		wrong("a path of 4095 bytes", part);
	if (unlink(path) != 0)
		wrong("unlink deep", part);
	path[4095] = 'q';
	path[4096] = '\0';
	if (open(path, O_CREAT | O_WRONLY, 0644) >= 0 || errno != ENAMETOOLONG)
		wrong("a path of 4096 bytes", part);
	for (; depth > 0; depth--) {
		path[len - 1] = '\0';
		if (rmdir(path) != 0)
			wrong("rmdir deep", part);
		len -= 256;
	}
}

static void run_many(unsigned entries)
{
	unsigned char *seen = calloc(entries + 1, 1);
	char name[32];
	struct dirent *entry;
	unsigned n = 0;
	DIR *dir;

	if (!seen || mkdir("many", 0755) != 0)
		wrong("mkdir", "many");
	for (unsigned i = 0; i < entries; i++) {
		int fd;

		(void)snprintf(name, sizeof(name), "many/%u", i);
		fd = open(name, O_CREAT | O_EXCL | O_WRONLY, 0644);
		if (fd < 0 || close(fd) != 0)
			wrong("create", name);
	}
	dir = opendir("many");
	while (dir && (entry = readdir(dir)) != NULL) {
		unsigned long i = strtoul(entry->d_name, NULL, 10);

		if (entry->d_name[0] == '.')
			continue;
		if (i >= entries || seen[i]++)
			wrong("seen twice", entry->d_name);
		n++;
		(void)snprintf(name, sizeof(name), "many/%lu", i);
		if (unlink(name) != 0) /* as rm -r does */
			wrong("unlink", name);
	}
	if (!dir || n != entries || closedir(dir) != 0 || rmdir("many") != 0)
		wrong("not all of them", "many");
	free(seen);
}

int main(int argc, char **argv)
{
	unsigned entries = 2000;
	uint64_t steps = 3000;
	char own[4096] = "";
	int opt;

	while ((opt = getopt(argc, argv, "s:n:e:")) != -1) {
		if (common_option(opt, &steps))
			continue;
		if (opt == 'e')
			entries = (unsigned)strtoul(optarg, NULL, 0);
		else
			return 2;
	}
	if (optind == argc && !make_own("streams", own))
		wrong("mkdtemp", own);
	if (chdir(own[0] ? own : argv[optind]) != 0)
		wrong("chdir", own[0] ? own : argv[optind]);
	state = seed;
	if (!own[0]) /* ext4 may show renamed entries twice, or not at all */
		run_streams(steps);
	run_path();
	run_many(entries);
	if (own[0] && (chdir("/") != 0 || rmdir(own) != 0))
		wrong("rmdir", own);
	(void)printf("streams: %llu steps, %u entries, seed %llu: well\n",
		     (unsigned long long)steps, entries,
		     (unsigned long long)seed);
	return 0;
}
