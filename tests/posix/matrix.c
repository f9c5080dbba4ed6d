/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Each system call of file systems on each kind of object, by each kind of
 * caller: one line for each case, with the result and what is there after it.
 *
 *   matrix [-s SEED] [-n SHARE] [-o SECTION] DIR
 *
 * Nothing is expected here: the same run in a directory of the disk's own file
 * system and in one of the mount has to print the same (tests/mount/matrix.sh).
 * -n: only one case of SHARE, chosen by SEED. Without DIR a few cases are run
 * in a directory of TMPDIR. As an ordinary user the cases of other users are
 * left out. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/posix/scene.h"

struct section {
	const char *name;  /* of -o, and of its directory */
	void (*run)(void); /* in the current directory */
	bool root;         /* needs other users */
};

static const struct section sections[] = {
	{ "rights", matrix_rights, true },
	{ "inodes", matrix_inodes, true },
	{ "names", matrix_names, false },
	{ "pairs", matrix_pairs, false },
	{ "open", matrix_open, false },
	{ "data", matrix_data, false },
	{ "times", matrix_times, false },
};

/* Each section in a directory of its own. */
static void run_sections(const char *only)
{
	for (size_t i = 0; i < sizeof(sections) / sizeof(sections[0]); i++) {
		const struct section *section = &sections[i];

		if ((only && strcmp(only, section->name) != 0) ||
		    (section->root && getuid() != 0))
			continue;
		if (mkdir(section->name, 0755) != 0 ||
		    chdir(section->name) != 0)
			scene_broken("mkdir", section->name);
		section->run();
		(void)fflush(stdout);
		if (chdir("..") != 0)
			scene_broken("chdir", "..");
		scene_remove(section->name);
	}
}

/* Without DIR: does the program itself work? */
static int self_test(void)
{
	const char *tmp = getenv("TMPDIR");
	char dir[4096];

	(void)snprintf(dir, sizeof(dir), "%s/evfs-matrix.XXXXXX",
		       tmp ? tmp : "/tmp");
	if (!mkdtemp(dir) || chdir(dir) != 0)
		scene_broken("mkdtemp", dir);
	scene_choose(1, 50);
	run_sections(NULL);
	if (chdir("/") != 0)
		scene_broken("chdir", "/");
	scene_remove(dir);
	return 0;
}

int main(int argc, char **argv)
{
	const char *only = NULL;
	uint64_t seed = 1;
	unsigned share = 1;
	int opt;

	while ((opt = getopt(argc, argv, "s:n:o:")) != -1) {
		if (opt == 's')
			seed = strtoull(optarg, NULL, 0);
		else if (opt == 'n')
			share = (unsigned)strtoul(optarg, NULL, 0);
		else if (opt == 'o')
			only = optarg;
		else
			return 2;
	}
	(void)umask(022);
	if (optind == argc)
		return self_test();
	if (chdir(argv[optind]) != 0)
		scene_broken("chdir", argv[optind]);
	scene_choose(seed, share);
	run_sections(only);
	return 0;
}
