/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The code agrees with the executable model: the scripted scenarios of
 * tests/model/vectors.json, and random ones that the model makes up
 * (tests/model/emit.py).
 *
 *   test_vectors            both; EVFS_VECTORS_COUNT and EVFS_VECTORS_SEED
 *                           choose how many random ones, and which
 *   test_vectors FILE...    the scenarios of these files, "-" is stdin */
#include <check.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "tests/lib/scenario.h"

#define RANDOM_COUNT "3000"

static json_t *load(FILE *file, const char *name)
{
	json_error_t error;
	json_t *document = json_loadf(file, 0, &error);

	if (document == NULL)
		fprintf(stderr, "%s: line %d: %s\n", name, error.line,
			error.text);
	return document;
}

static int play(FILE *file, const char *name)
{
	json_t *document = load(file, name);
	size_t played = 0;
	int failed;

	if (document == NULL)
		return -1;
	failed = evfs_scenario_play_all(document, &played, stdout);
	printf("%s: %zu scenarios, %d failed\n", name, played, failed);
	json_decref(document);
	return played > 0 ? failed : -1;
}

static int play_path(const char *path)
{
	FILE *file;
	int failed;

	if (strcmp(path, "-") == 0)
		return play(stdin, path);
	file = fopen(path, "r");
	if (file == NULL) {
		perror(path);
		return -1;
	}
	failed = play(file, path);
	fclose(file);
	return failed;
}

START_TEST(scripted_scenarios_agree)
{
	ck_assert_int_eq(play_path(SRCDIR "/tests/model/vectors.json"), 0);
}
END_TEST

static const char *setting(const char *name, const char *usual)
{
	const char *text = getenv(name);

	return text != NULL && text[0] != '\0' ? text : usual;
}

START_TEST(random_scenarios_agree)
{
	char *command = evfs_asprintf(
		"python3 '%s/tests/model/emit.py' --count %s --seed %s",
		SRCDIR, setting("EVFS_VECTORS_COUNT", RANDOM_COUNT),
		setting("EVFS_VECTORS_SEED", "1"));
	FILE *pipe;
	int failed;

	ck_assert_ptr_nonnull(command);
	pipe = popen(command, "r");
	ck_assert_ptr_nonnull(pipe);
	failed = play(pipe, "emit.py");
	ck_assert_int_eq(pclose(pipe), 0);
	ck_assert_int_eq(failed, 0);
	evfs_free(command);
}
END_TEST

static Suite *vectors_suite(void)
{
	Suite *suite = suite_create("vectors");
	TCase *scripted = tcase_create("scripted");
	TCase *random = tcase_create("random");

	tcase_add_test(scripted, scripted_scenarios_agree);
	tcase_set_timeout(scripted, 60);
	suite_add_tcase(suite, scripted);
	tcase_add_test(random, random_scenarios_agree);
	tcase_set_timeout(random, 600);
	suite_add_tcase(suite, random);
	return suite;
}

int main(int argc, char **argv)
{
	SRunner *runner;
	int failed = 0;

	for (int i = 1; i < argc; i++)
		failed |= play_path(argv[i]) != 0;
	if (argc > 1)
		return failed ? EXIT_FAILURE : EXIT_SUCCESS;
	runner = srunner_create(vectors_suite());
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
