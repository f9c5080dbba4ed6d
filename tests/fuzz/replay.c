/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Runs a fuzzer's entry point over the files of folders, and over each of
 * their beginnings: the seed corpus, and what fuzzing has found, as a test
 * without libFuzzer. Arguments: folders; none: REPLAY_CORPUS below $srcdir. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/io.h"
#include "base/mem.h"

#define FILE_MAX ((size_t)1 << 20)
#define CUTS_MAX 4096 /* of files beyond that, only the first beginnings */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void run(const uint8_t *data, size_t len)
{
	/* A block of its own, so that a sanitizer sees a byte too far. */
	uint8_t *copy = evfs_memdup(data, len);

	if (copy == NULL)
		abort();
	LLVMFuzzerTestOneInput(copy, len);
	evfs_free(copy);
}

static int replay_file(const char *path)
{
	struct evfs_buf buf = { 0 };
	struct evfs_err err = { 0 };

	if (evfs_io_read_file(path, FILE_MAX, &buf, &err) != 0) {
		fprintf(stderr, "replay: %s\n", err.msg);
		return -1;
	}
	for (size_t len = 0; len < buf.len && len < CUTS_MAX; len++)
		run(buf.data, len);
	run(buf.data, buf.len);
	evfs_buf_fini(&buf);
	return 0;
}

/* The number of files, or -1. */
static int replay_dir(const char *path)
{
	DIR *dir = opendir(path);
	struct dirent *entry;
	int n = 0, rc = 0;

	if (dir == NULL) {
		perror(path);
		return -1;
	}
	while (rc == 0 && (entry = readdir(dir)) != NULL) {
		evfs_cleanup_free char *file = NULL;

		if (entry->d_name[0] == '.')
			continue;
		file = evfs_asprintf("%s/%s", path, entry->d_name);
		rc = file == NULL ? -1 : replay_file(file);
		n++;
	}
	closedir(dir);
	return rc != 0 ? -1 : n;
}

int main(int argc, char **argv)
{
	const char *srcdir = getenv("srcdir");
	evfs_cleanup_free char *corpus = NULL;
	int n;

	for (int i = 1; i < argc; i++)
		if (replay_dir(argv[i]) < 0)
			return EXIT_FAILURE;
	if (argc > 1)
		return EXIT_SUCCESS;
	corpus = evfs_asprintf("%s/%s", srcdir != NULL ? srcdir : ".",
			       REPLAY_CORPUS);
	n = corpus == NULL ? -1 : replay_dir(corpus);
	if (n == 0)
		fprintf(stderr, "replay: %s: no files\n", corpus);
	return n > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
