/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Rows of settings: only those that were set. */
#include "base/mem.h"
#include "meta/config_priv.h"
#include "meta/db.h"
#include "meta/quorum.h"
#include "meta/store.h"

void evfs_config_unload(struct evfs_meta *meta)
{
	struct evfs_config *config = meta->store->config;
	size_t i;

	if (config == NULL)
		return;
	for (i = 0; i < EVFS_CONFIG_KEYS; i++)
		evfs_free(config->texts[i]);
	evfs_free(config);
	meta->store->config = NULL;
}

/* A value that no longer reads (of an older version) gives way to the default.
 */
static int config_take(struct evfs_config *config, enum evfs_config_key key,
		       const char *text)
{
	int64_t value;
	char *copy;

	if (evfs_config_parse(key, text, &value, NULL) != 0)
		return 0;
	copy = evfs_strdup(text);
	if (copy == NULL)
		return EVFS_ENOMEM;
	evfs_free(config->texts[key]);
	config->texts[key] = copy;
	config->values[key] = value;
	return 0;
}

static int config_read_rows(struct evfs_meta *meta, struct evfs_config *config,
			    struct evfs_err *err)
{
	evfs_cleanup_stmt sqlite3_stmt *stmt = NULL;
	int rc = evfs_db_prepare(meta->db, "SELECT key, value FROM config",
				 &stmt, err);

	if (rc != 0)
		return rc;
	while ((rc = evfs_db_step(meta->db, stmt, err)) > 0) {
		const char *name = (const char *)sqlite3_column_text(stmt, 0);
		const char *text = (const char *)sqlite3_column_text(stmt, 1);
		enum evfs_config_key key;

		if (name == NULL || text == NULL ||
		    evfs_config_find(name, &key, NULL) != 0)
			continue;
		if (config_take(config, key, text) != 0)
			return evfs_err_set(err, EVFS_ENOMEM,
					    "config: out of memory");
	}
	return rc;
}

int evfs_config_load(struct evfs_meta *meta, struct evfs_err *err)
{
	struct evfs_config *config;
	int rc = 0;
	int key;

	evfs_config_unload(meta);
	config = evfs_calloc(1, sizeof(*config));
	if (config == NULL)
		return evfs_err_set(err, EVFS_ENOMEM, "config: out of memory");
	meta->store->config = config;
	for (key = 0; key < EVFS_CONFIG_KEYS && rc == 0; key++) {
		rc = config_take(config, (enum evfs_config_key)key,
				 evfs_config_initial(
					 (enum evfs_config_key)key));
		if (rc != 0)
			evfs_err_set(err, rc, "config: out of memory");
	}
	if (rc == 0)
		rc = config_read_rows(meta, config, err);
	if (rc == 0)
		evfs_quorum_settings_changed(meta);
	return rc;
}

int evfs_config_write(struct evfs_meta *meta, enum evfs_config_key key,
		      const char *value, struct evfs_err *err)
{
	evfs_cleanup_stmt sqlite3_stmt *stmt = NULL;
	int rc = evfs_meta_begin_write(meta, err);

	if (rc == 0)
		rc = evfs_db_prepare(meta->db,
				     "INSERT OR REPLACE INTO "
				     "config(key, value) VALUES(?1, ?2)",
				     &stmt, err);
	if (rc != 0)
		return rc;
	sqlite3_bind_text(stmt, 1, evfs_config_name(key), -1, SQLITE_STATIC);
	sqlite3_bind_text(stmt, 2, value, -1, SQLITE_STATIC);
	return evfs_db_run(meta->db, stmt, err);
}
