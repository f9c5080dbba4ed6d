/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Working copies that a start must not put together again; see meta/works.h. */
#include "meta/works.h"

#include "meta/db.h"
#include "meta/meta_priv.h"

const char evfs_works_schema[] =
	"CREATE TABLE IF NOT EXISTS work_done(number INTEGER PRIMARY KEY);";

int evfs_work_done_note(struct evfs_meta *meta, uint64_t number,
			struct evfs_err *err)
{
	evfs_cleanup_stmt sqlite3_stmt *stmt = NULL;
	int rc = evfs_meta_begin_write(meta, err);

	if (rc == 0)
		rc = evfs_db_prepare(meta->db,
				     "INSERT OR IGNORE INTO work_done(number) "
				     "VALUES(?1)",
				     &stmt, err);
	if (rc != 0)
		return rc;
	sqlite3_bind_int64(stmt, 1, (sqlite3_int64)number);
	return evfs_db_run(meta->db, stmt, err);
}

int evfs_work_done_each(struct evfs_meta *meta,
			void (*each)(void *arg, uint64_t number), void *arg,
			struct evfs_err *err)
{
	evfs_cleanup_stmt sqlite3_stmt *stmt = NULL;
	int rc = evfs_db_prepare(meta->db, "SELECT number FROM work_done",
				 &stmt, err);

	if (rc != 0)
		return rc;
	while ((rc = evfs_db_step(meta->db, stmt, err)) > 0)
		each(arg, (uint64_t)sqlite3_column_int64(stmt, 0));
	return rc;
}

int evfs_work_done_clear(struct evfs_meta *meta, struct evfs_err *err)
{
	int rc = evfs_meta_begin_write(meta, err);

	return rc == 0 ? evfs_db_exec(meta->db, "DELETE FROM work_done", err) :
			 rc;
}
