/* SPDX-License-Identifier: GPL-3.0-or-later */
/* For the matrices of tests/posix: objects of every kind and owner, callers
 * with any ids, and one printed line for each case, so that the same run in two
 * directories can be compared line by line.
 *
 * One thread. What a case needs for itself must work: if it does not, the
 * program says so and ends with 2. */
#ifndef EVFS_TESTS_POSIX_SCENE_H
#define EVFS_TESTS_POSIX_SCENE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

/* User and group ids of the cases: nobody's here. */
#define SCENE_ID(n) ((n) == 0 ? 0u : 60000u + (unsigned)(n))

struct scene_caller {
	const char *name;  /* in the line of the case */
	int uid, gid;      /* to be given to SCENE_ID() */
	int groups[3];     /* supplementary ones, 0: no more */
};

/* 'f'ile, 'd'irectory, 'l'ink, 'p'ipe, 's'ocket, 'c'haracter device */
struct scene_object {
	char kind;
	int uid, gid;   /* to be given to SCENE_ID() */
	mode_t mode;    /* with the bits beyond 0777 */
};

/* Ends the program: a case could not be set up. */
_Noreturn void scene_broken(const char *what, const char *path);

/* From now on calls are made as this one; NULL: as who started the program. */
void scene_become(const struct scene_caller *caller);

/* Makes it (not as a caller). */
void scene_make(const char *path, const struct scene_object *object);
/* Removes what is there, with all that is below. */
void scene_remove(const char *path);

/* Is this case to be run? All are unless a share was chosen: 1 of `share`, by
 * a hash of name and seed. */
bool scene_wanted(const char *name);
void scene_choose(uint64_t seed, unsigned share);

/* The line: name, result, and what is there now at each path (up to the first
 * NULL). */
void scene_line(const char *name, long result, int error,
		const char *const *paths);

/* The errno of a failed call as a word, "ok" for no failure. */
const char *scene_error(long result, int error);

/* Waits until a file that is changed now gets another time than before. */
void scene_tick(void);

/* printf into the next of a few buffers; cut at 511 bytes. */
const char *scene_text(const char *fmt, ...)
	__attribute__((format(printf, 1, 2)));

/* The sections. Each works in the current directory, which is empty. */
void matrix_rights(void);
void matrix_inodes(void);
void matrix_names(void);
void matrix_pairs(void);
void matrix_open(void);
void matrix_data(void);
void matrix_times(void);

#endif
