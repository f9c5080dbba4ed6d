/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The marks of the database file. */
#include "meta/life_mark.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "base/mem.h"
#include "meta/db.h"
#include "meta/db_schema.h"
#include "meta/store.h"

#define CLOSED_NAME "closed"
#define CLOSED_FORMAT \
	"evfs-closed 1 %" PRIu64 " %" PRIu64 " %" PRIu64 " %u %u %u %u\n"
#define CLOSED_SCAN \
	"evfs-closed 1 %" SCNu64 " %" SCNu64 " %" SCNu64 " %u %u %u %u"

static uint64_t mark_ns(const struct statx_timestamp *time)
{
	return (uint64_t)time->tv_sec * UINT64_C(1000000000) + time->tv_nsec;
}

int evfs_mark_read(const char *file, struct evfs_mark *ret,
		   struct evfs_err *err)
{
	struct statx stx;

	if (statx(AT_FDCWD, file, 0, STATX_BASIC_STATS | STATX_BTIME, &stx) !=
	    0)
		return evfs_err_sys(err, errno, "%s", file);
	*ret = (struct evfs_mark){
		.inode = stx.stx_ino,
		.made_ns = (stx.stx_mask & STATX_BTIME) != 0 ?
				   mark_ns(&stx.stx_btime) :
				   0,
		.changed_ns = mark_ns(&stx.stx_ctime),
		.mode = stx.stx_mode,
		.uid = stx.stx_uid,
		.gid = stx.stx_gid,
		.links = stx.stx_nlink,
	};
	return 0;
}

int evfs_mark_keep(struct evfs_db *db, const struct evfs_mark *mark,
		   struct evfs_err *err)
{
	int rc = evfs_state_set(db, "inode", mark->inode, err);

	return rc == 0 ? evfs_state_set(db, "made", mark->made_ns, err) : rc;
}

/* ---- the mark of a clean end ---- */

void evfs_mark_close(const char *path)
{
	evfs_cleanup_free char *db = evfs_store_file(path, "meta.db");
	evfs_cleanup_free char *file = evfs_store_file(path, CLOSED_NAME);
	struct evfs_mark mark;
	char text[256];
	int len, fd;

	if (db == NULL || file == NULL || evfs_mark_read(db, &mark, NULL) != 0)
		return;
	len = snprintf(text, sizeof(text), CLOSED_FORMAT, mark.inode,
		       mark.made_ns, mark.changed_ns, mark.mode, mark.uid,
		       mark.gid, mark.links);
	fd = open(file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		return;
	/* A half one is none: then only less is found out. */
	if (write(fd, text, (size_t)len) != len)
		(void)unlink(file);
	close(fd);
}

int evfs_mark_open(const char *path, struct evfs_err *err)
{
	evfs_cleanup_free char *file = evfs_store_file(path, CLOSED_NAME);

	if (file == NULL)
		return evfs_err_set(err, EVFS_ENOMEM, "out of memory");
	if (unlink(file) == 0)
		return evfs_io_sync_dir(path, err);
	return errno == ENOENT ? 0 : evfs_err_sys(err, errno, "%s", file);
}

/* Was the file written to by another hand since it was closed? */
static bool mark_was_touched(const char *path, const struct evfs_mark *now)
{
	evfs_cleanup_free char *file = evfs_store_file(path, CLOSED_NAME);
	struct evfs_mark then = { 0 };
	char text[256];
	ssize_t len;
	int fd = file == NULL ? -1 : open(file, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return false;
	len = read(fd, text, sizeof(text) - 1);
	close(fd);
	text[len > 0 ? len : 0] = '\0';
	if (sscanf(text, CLOSED_SCAN, &then.inode, &then.made_ns,
		   &then.changed_ns, &then.mode, &then.uid, &then.gid,
		   &then.links) != 7)
		return false;
	/* chmod, chown and link do not touch what is in it */
	return then.changed_ns != now->changed_ns && then.mode == now->mode &&
	       then.uid == now->uid && then.gid == now->gid &&
	       then.links == now->links;
}

int evfs_mark_check(struct evfs_meta *meta, const struct evfs_mark *mark,
		    const char **ret_why, struct evfs_err *err)
{
	uint64_t inode = 0, made = 0;
	bool found = false, found_made = false;
	int rc = evfs_state_get(meta->db, "inode", &inode, &found, err);

	if (rc == 0)
		rc = evfs_state_get(meta->db, "made", &made, &found_made, err);
	if (rc != 0)
		return rc;
	*ret_why = NULL;
	if (!found || !found_made)
		return evfs_err_set(err, EVFS_ECORRUPT,
				    "database is damaged: it does not say "
				    "which file it is (restore the store from "
				    "a backup, or join anew)");
	if (inode != mark->inode ||
	    (made != 0 && mark->made_ns != 0 && made != mark->made_ns))
		*ret_why = "is a copy, or was restored";
	else if (mark_was_touched(meta->store->path, mark))
		*ret_why = "was written over since it was closed";
	return 0;
}
