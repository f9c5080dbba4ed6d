/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Plays a scenario in the form of tests/model/vectors.json (described in
 * tests/model/README.md, the additions in tests/model/emit.py) on replicas in
 * memory, and compares what every one of them shows with what the model says
 * must come out. */
#ifndef EVFS_TESTS_LIB_SCENARIO_H
#define EVFS_TESTS_LIB_SCENARIO_H

#include <jansson.h>
#include <stddef.h>
#include <stdio.h>

/* One scenario: 0 where all agree, else the number of things that are wrong,
 * which are printed to `out` with the name and the steps. */
int evfs_scenario_play(const json_t *scenario, FILE *out);

/* All scenarios of a document. Returns the number of those that failed, -1
 * where it is no such document (said in `out`); *ret_played counts. */
int evfs_scenario_play_all(const json_t *document, size_t *ret_played,
			   FILE *out);

#endif
