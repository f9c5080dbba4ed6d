/* SPDX-License-Identifier: GPL-3.0-or-later */
/* evfsctl config, dump. */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "meta/config.h"
#include "meta/view.h"
#include "tools/evfsctl/evfsctl.h"

static int print_one(struct evfs_meta *meta, const char *key,
		     struct evfs_err *err)
{
	const char *value;
	int rc;

	evfs_meta_lock(meta);
	rc = evfs_config_get_text(meta, key, &value, err);
	if (!rc)
		puts(value);
	evfs_meta_unlock(meta);
	return rc;
}

static int print_all(struct evfs_meta *meta, struct evfs_err *err)
{
	int rc = 0;

	evfs_meta_lock(meta);
	for (int i = 0; !rc && i < EVFS_CONFIG_KEYS; i++) {
		enum evfs_config_key key = (enum evfs_config_key)i;
		const char *value;

		rc = evfs_config_get_text(meta, evfs_config_name(key), &value,
					  err);
		if (!rc)
			printf("%-22s %-10s # %s\n", evfs_config_name(key),
			       value, evfs_config_meaning(key));
	}
	evfs_meta_unlock(meta);
	return rc;
}

/* Through the daemon; where none runs, in the store itself. */
static int set(const char *store, const char *key, const char *value,
	       struct evfs_err *err)
{
	struct evfs_meta_options options = { .path = store,
					     .env = evfs_env_system(),
					     .commit_delay_ms = 5 };
	struct evfs_meta *meta;
	json_t *reply;
	int rc = evfsctl_request(store,
				 json_pack("{s:s, s:s, s:s}", "command",
					   "config-set", "key", key, "value",
					   value),
				 -1, &reply, err);

	if (!rc) {
		const json_t *note = json_object_get(reply, "note");

		if (note)
			fprintf(stderr, "evfsctl: %s\n",
				json_string_value(note));
		json_decref(reply);
	}
	if (rc != EVFS_ECLOSED)
		return rc;
	rc = evfs_meta_open(&options, &meta, err);
	if (rc)
		return rc;
	evfs_meta_lock(meta);
	rc = evfs_config_set_text(meta, key, value, err);
	evfs_meta_unlock(meta);
	if (!rc)
		rc = evfs_meta_sync(meta, err);
	evfs_meta_close(meta);
	return rc;
}

int evfsctl_config(const struct evfsctl *ctl, int argc, char **argv)
{
	bool list = argc == 2 && !strcmp(argv[1], "list");
	bool get = argc == 3 && !strcmp(argv[1], "get");
	struct evfs_err err = { 0 };
	evfs_cleanup_free char *store = NULL;
	struct evfs_meta *meta;
	int rc;

	if (!list && !get && !(argc == 4 && !strcmp(argv[1], "set")))
		return evfsctl_usage(ctl, "one of 'list', 'get KEY', 'set KEY "
					  "VALUE' is needed");
	rc = evfsctl_store(ctl, NULL, &store, &err);
	if (!rc && argc == 4) {
		rc = set(store, argv[2], argv[3], &err);
	} else if (!rc) {
		rc = evfsctl_open(store, &meta, &err);
		if (!rc) {
			rc = list ? print_all(meta, &err)
				  : print_one(meta, argv[2], &err);
			evfs_meta_close(meta);
		}
	}
	return rc ? evfsctl_fail(ctl, &err) : EVFS_EXIT_DONE;
}

int evfsctl_dump(const struct evfsctl *ctl, int argc, char **argv)
{
	bool view = argc == 2 && !strcmp(argv[1], "--view");
	struct evfs_err err = { 0 };
	struct evfs_buf out = { 0 };
	evfs_cleanup_free char *store = NULL;
	struct evfs_meta *meta;
	int rc;

	if (argc > 1 && !view)
		return evfsctl_usage(ctl, "unknown argument %s", argv[1]);
	rc = evfsctl_store(ctl, NULL, &store, &err);
	if (!rc)
		rc = evfsctl_open(store, &meta, &err);
	if (rc)
		return evfsctl_fail(ctl, &err);
	if (view) {
		evfs_meta_lock(meta);
		rc = evfs_view_dump(meta, &out, &err);
		evfs_meta_unlock(meta);
	} else {
		rc = evfs_meta_dump(meta, false, &out, &err);
	}
	evfs_meta_close(meta);
	if (!rc && fwrite(out.data, 1, out.len, stdout) != out.len)
		rc = evfs_err_set(&err, EVFS_EIO, "standard output: %s",
				  evfs_err_text(EVFS_EIO));
	evfs_buf_fini(&out);
	return rc ? evfsctl_fail(ctl, &err) : EVFS_EXIT_DONE;
}
