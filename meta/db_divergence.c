/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "meta/divergence.h"

#include "meta/db.h"
#include "meta/meta_priv.h"

static int remove_old(struct evfs_meta *meta, struct evfs_err *err)
{
	evfs_cleanup_stmt sqlite3_stmt *stmt = NULL;
	int rc = evfs_db_prepare(meta->db,
				 "DELETE FROM divergence WHERE id <= "
				 "(SELECT max(id) FROM divergence) - ?1",
				 &stmt, err);

	if (rc != 0)
		return rc;
	sqlite3_bind_int(stmt, 1, EVFS_DIVERGENCES_MAX);
	return evfs_db_run(meta->db, stmt, err);
}

int evfs_divergence_add(struct evfs_meta *meta, uint64_t node,
			uint64_t wall_ns, const char *report,
			struct evfs_err *err)
{
	evfs_cleanup_stmt sqlite3_stmt *stmt = NULL;
	int rc = evfs_meta_begin_write(meta, err);

	if (rc == 0)
		rc = evfs_db_prepare(meta->db,
				     "INSERT INTO "
				     "divergence(node, found, report) "
				     "VALUES(?1, ?2, ?3)",
				     &stmt, err);
	if (rc != 0)
		return rc;
	sqlite3_bind_int64(stmt, 1, (sqlite3_int64)node);
	sqlite3_bind_int64(stmt, 2, (sqlite3_int64)wall_ns);
	sqlite3_bind_text(stmt, 3, report, -1, SQLITE_STATIC);
	rc = evfs_db_run(meta->db, stmt, err);
	return rc != 0 ? rc : remove_old(meta, err);
}

int evfs_divergence_each(struct evfs_meta *meta,
			 int (*each)(void *arg, uint64_t node,
				     uint64_t wall_ns, const char *report),
			 void *arg, struct evfs_err *err)
{
	evfs_cleanup_stmt sqlite3_stmt *stmt = NULL;
	int rc = evfs_db_prepare(meta->db,
				 "SELECT node, found, report FROM divergence "
				 "ORDER BY id",
				 &stmt, err);

	if (rc != 0)
		return rc;
	while ((rc = evfs_db_step(meta->db, stmt, err)) > 0)
		if (each(arg, (uint64_t)sqlite3_column_int64(stmt, 0),
			 (uint64_t)sqlite3_column_int64(stmt, 1),
			 (const char *)sqlite3_column_text(stmt, 2)) != 0)
			return 0;
	return rc;
}
