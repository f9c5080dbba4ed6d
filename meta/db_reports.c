/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What members last reported as durable, and invitations. */
#include <string.h>

#include "base/mem.h"
#include "meta/db.h"
#include "meta/members.h"
#include "meta/store.h"

/* How long after its end an invitation is still known: a week. */
#define INVITE_KEPT_NS UINT64_C(604800000000000)

/* ---- reports: a context is rows of dots, as bytes ---- */

int evfs_members_set_report(struct evfs_meta *meta, uint64_t node,
			    const struct evfs_context *context,
			    struct evfs_err *err)
{
	evfs_cleanup_stmt sqlite3_stmt *stmt = NULL;
	struct evfs_buf bytes = { 0 };
	uint8_t *at = evfs_buf_reserve(&bytes,
				       context->n * EVFS_DOT_BYTES + 1);
	size_t i;
	int rc;

	if (at == NULL)
		return evfs_err_set(err, EVFS_ENOMEM, "report: out of memory");
	for (i = 0; i < context->n; i++)
		evfs_dot_write((evfs_dot){ context->rows[i].actor,
					   context->rows[i].counter },
			       at + i * EVFS_DOT_BYTES);
	rc = evfs_meta_begin_write(meta, err);
	if (rc == 0)
		rc = evfs_db_prepare(meta->db,
				     "INSERT INTO report(node, context) "
				     "VALUES(?1, ?2) ON CONFLICT DO UPDATE "
				     "SET context = ?2",
				     &stmt, err);
	if (rc == 0) {
		sqlite3_bind_int64(stmt, 1, (sqlite3_int64)node);
		sqlite3_bind_blob(stmt, 2, at,
				  (int)(context->n * EVFS_DOT_BYTES),
				  SQLITE_STATIC);
		rc = evfs_db_run(meta->db, stmt, err);
	}
	evfs_buf_fini(&bytes);
	return rc;
}

int evfs_members_report(struct evfs_meta *meta, uint64_t node,
			struct evfs_context *ret, struct evfs_err *err)
{
	evfs_cleanup_stmt sqlite3_stmt *stmt = NULL;
	struct evfs_context context = { 0 };
	const uint8_t *bytes;
	size_t len;
	size_t i;
	int rc = evfs_db_prepare(meta->db,
				 "SELECT context FROM report WHERE node = ?1",
				 &stmt, err);

	if (rc != 0)
		return rc;
	sqlite3_bind_int64(stmt, 1, (sqlite3_int64)node);
	rc = evfs_db_step(meta->db, stmt, err);
	if (rc < 0)
		return rc;
	bytes = rc == 0 ? NULL : sqlite3_column_blob(stmt, 0);
	len = rc == 0 ? 0 : (size_t)sqlite3_column_bytes(stmt, 0);
	for (i = 0; i + EVFS_DOT_BYTES <= len; i += EVFS_DOT_BYTES) {
		evfs_dot dot = evfs_dot_read(bytes + i);

		if (evfs_context_raise(&context, dot.actor, dot.counter) != 0) {
			evfs_context_fini(&context);
			return evfs_err_set(err, EVFS_ENOMEM,
					    "report: out of memory");
		}
	}
	evfs_context_fini(ret);
	*ret = context;
	return 0;
}

/* ---- runs: see meta/life.h ---- */

int evfs_members_set_met(struct evfs_meta *meta, uint64_t node,
			 const struct evfs_met *met, struct evfs_err *err)
{
	evfs_cleanup_stmt sqlite3_stmt *stmt = NULL;
	int rc = evfs_meta_begin_write(meta, err);

	if (rc == 0)
		rc = evfs_db_prepare(meta->db,
				     "INSERT INTO report(node, context, "
				     "instance, epoch, counter) "
				     "VALUES(?1, x'', ?2, ?3, ?4) "
				     "ON CONFLICT DO UPDATE SET "
				     "instance = ?2, epoch = ?3, counter = ?4",
				     &stmt, err);
	if (rc != 0)
		return rc;
	sqlite3_bind_int64(stmt, 1, (sqlite3_int64)node);
	sqlite3_bind_int64(stmt, 2, (sqlite3_int64)met->instance);
	sqlite3_bind_int64(stmt, 3, met->epoch);
	sqlite3_bind_int64(stmt, 4, (sqlite3_int64)met->counter);
	return evfs_db_run(meta->db, stmt, err);
}

int evfs_members_met(struct evfs_meta *meta, uint64_t node,
		     struct evfs_met *ret, struct evfs_err *err)
{
	evfs_cleanup_stmt sqlite3_stmt *stmt = NULL;
	int rc = evfs_db_prepare(meta->db,
				 "SELECT instance, epoch, counter FROM report "
				 "WHERE node = ?1",
				 &stmt, err);

	*ret = (struct evfs_met){ 0 };
	if (rc != 0)
		return rc;
	sqlite3_bind_int64(stmt, 1, (sqlite3_int64)node);
	rc = evfs_db_step(meta->db, stmt, err);
	if (rc <= 0)
		return rc;
	ret->instance = (uint64_t)sqlite3_column_int64(stmt, 0);
	ret->epoch = (uint32_t)sqlite3_column_int64(stmt, 1);
	ret->counter = (uint64_t)sqlite3_column_int64(stmt, 2);
	return 0;
}

/* ---- invitations ---- */

static evfs_hash invite_hash(const char *secret)
{
	return evfs_hash_bytes(secret, strlen(secret));
}

static uint64_t invite_now_ns(const struct evfs_meta *meta)
{
	return meta->store->env->wall_ns(meta->store->env->ctx);
}

/* Those that ended long ago serve no message any more. */
static int invite_forget_old(struct evfs_meta *meta, struct evfs_err *err)
{
	evfs_cleanup_stmt sqlite3_stmt *stmt = NULL;
	uint64_t now = invite_now_ns(meta);
	int rc = evfs_db_prepare(meta->db,
				 "DELETE FROM invite WHERE expires < ?1",
				 &stmt, err);

	if (rc != 0)
		return rc;
	sqlite3_bind_int64(stmt, 1,
			   now > INVITE_KEPT_NS ?
				   (sqlite3_int64)(now - INVITE_KEPT_NS) :
				   0);
	return evfs_db_run(meta->db, stmt, err);
}

int evfs_invite_add(struct evfs_meta *meta, const char *secret,
		    uint64_t expires_wall_ns, struct evfs_err *err)
{
	evfs_cleanup_stmt sqlite3_stmt *stmt = NULL;
	evfs_hash hash = invite_hash(secret);
	int rc = evfs_meta_begin_write(meta, err);

	if (rc == 0)
		rc = invite_forget_old(meta, err);
	if (rc == 0)
		rc = evfs_db_prepare(meta->db,
				     "INSERT INTO invite(secret, expires, used)"
				     " VALUES(?1, ?2, 0)",
				     &stmt, err);
	if (rc != 0)
		return rc;
	if (expires_wall_ns > INT64_MAX)
		expires_wall_ns = INT64_MAX;
	sqlite3_bind_blob(stmt, 1, hash.b, EVFS_HASH_SIZE, SQLITE_STATIC);
	sqlite3_bind_int64(stmt, 2, (sqlite3_int64)expires_wall_ns);
	return evfs_db_run(meta->db, stmt, err);
}

int evfs_invite_check(struct evfs_meta *meta, const char *secret,
		      struct evfs_err *err)
{
	evfs_cleanup_stmt sqlite3_stmt *stmt = NULL;
	evfs_hash hash = invite_hash(secret);
	int rc = evfs_db_prepare(meta->db,
				 "SELECT expires, used FROM invite "
				 "WHERE secret = ?1",
				 &stmt, err);

	if (rc != 0)
		return rc;
	sqlite3_bind_blob(stmt, 1, hash.b, EVFS_HASH_SIZE, SQLITE_STATIC);
	rc = evfs_db_step(meta->db, stmt, err);
	if (rc < 0)
		return rc;
	if (rc == 0)
		return evfs_err_set(err, EVFS_EAUTH,
				    "this invitation is not known here");
	if (sqlite3_column_int(stmt, 1) != 0)
		return evfs_err_set(err, EVFS_EAUTH,
				    "this invitation was used already (make "
				    "another with: evfsctl invite)");
	if ((uint64_t)sqlite3_column_int64(stmt, 0) <= invite_now_ns(meta))
		return evfs_err_set(err, EVFS_EAUTH,
				    "this invitation has expired (make another "
				    "with: evfsctl invite)");
	return 0;
}

int evfs_invite_use(struct evfs_meta *meta, const char *secret,
		    struct evfs_err *err)
{
	evfs_cleanup_stmt sqlite3_stmt *stmt = NULL;
	evfs_hash hash = invite_hash(secret);
	int rc = evfs_invite_check(meta, secret, err);

	if (rc == 0)
		rc = evfs_meta_begin_write(meta, err);
	if (rc == 0)
		rc = evfs_db_prepare(meta->db,
				     "UPDATE invite SET used = 1 "
				     "WHERE secret = ?1",
				     &stmt, err);
	if (rc != 0)
		return rc;
	sqlite3_bind_blob(stmt, 1, hash.b, EVFS_HASH_SIZE, SQLITE_STATIC);
	return evfs_db_run(meta->db, stmt, err);
}
