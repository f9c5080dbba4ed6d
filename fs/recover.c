/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Recovery at the start. A handle is put together as it was: the object, the
 * link and the versions that its writer had opened; so a version that has come
 * from elsewhere meanwhile is a conflict like any other. */
#include "fs/recover.h"

#include "base/log.h"
#include "base/mem.h"
#include "fs/fs_priv.h"
#include "meta/facts.h"
#include "meta/works.h"

struct recovery {
	struct evfs_fs *fs;
	unsigned sealed, empty, left; /* counts for the log */
	unsigned done;                /* copies that were of no more use */
	evfs_ino *items;              /* owned: files without a version */
	size_t n, cap;
};

/* Meta locked. The link it was opened by; where that is gone, another that is
 * there, as the handle had it in the end. */
static int find_link(struct evfs_fs *fs, const struct evfs_work_ident *ident,
		     evfs_stamp *ret, struct evfs_err *err)
{
	const struct evfs_object *object;
	const struct evfs_link *link;
	int rc = evfs_facts_get(fs->facts, ident->ino, &object, err);

	*ret = ident->link;
	if (rc != 0 || !object)
		return rc;
	link = evfs_object_find_link(object, &ident->link);
	if (link && link->alive.n > 0)
		return 0;
	for (size_t i = 0; i < object->n_links; i++) {
		if (object->links[i].alive.n == 0)
			continue;
		*ret = object->links[i].id;
		return 0;
	}
	return 0;
}

/* Seals content as a version of what ident says, and the copy of that number is
 * of no more use. No lock held. */
static int seal_as(struct recovery *recovery, uint64_t number,
		   const struct evfs_work_ident *ident,
		   struct evfs_content_put *put,
		   const struct evfs_content_ref *ref, struct evfs_err *err)
{
	struct evfs_fs *fs = recovery->fs;
	struct evfs_handle handle = { .ino = ident->ino };
	int rc = 0;

	handle.base = evfs_memdup(ident->base,
				  ident->n_base * sizeof(*ident->base));
	if (!handle.base) {
		if (put)
			evfs_content_put_drop(fs->content, put);
		return evfs_err_set(err, EVFS_ENOMEM, "recovery: no memory");
	}
	handle.n_base = ident->n_base;
	evfs_meta_lock_content(fs->meta);
	if (put)
		rc = evfs_content_commit(fs->content, put, err);
	if (rc == 0)
		rc = find_link(fs, ident, &handle.link, err);
	if (rc == 0)
		rc = evfs_tree_seal(fs->meta, &handle, ref, err);
	if (rc == 0)
		rc = evfs_work_done_note(fs->meta, number, err);
	evfs_meta_unlock(fs->meta);
	evfs_free(handle.base);
	return rc;
}

static int copy_cb(void *arg, const struct evfs_work_ident *ident,
		   struct evfs_work *work, int64_t mtime_s, uint32_t mtime_ns)
{
	struct recovery *recovery = arg;
	struct evfs_content_ref ref = { .mtime_s = mtime_s,
					.mtime_ns = mtime_ns };
	struct evfs_content_put *put = NULL;
	struct evfs_err err = { 0 };
	int rc;

	if (!work) {
		recovery->left++;
		return 0;
	}
	rc = evfs_work_put(work, &put, &ref.content, &ref.size, &err);
	if (rc == 0)
		rc = seal_as(recovery, evfs_work_number(work), ident, put,
			     &ref, &err);
	if (rc == EVFS_ENOTFOUND) /* its creation was never durable */
		rc = 0;
	else if (rc == 0)
		recovery->sealed++;
	/* The copy may go only after the version is sure. */
	if (rc == 0)
		rc = evfs_meta_sync(recovery->fs->meta, &err);
	if (rc == 0)
		evfs_work_release(work);
	evfs_work_free(work);
	if (rc == 0)
		return 0;
	evfs_log(EVFS_LOG_ERROR, "recovery: err=%s", err.msg);
	if (rc != EVFS_ENOSPACE)
		return rc;
	/* The user has to get in to make room; the copy waits. */
	recovery->left++;
	return 0;
}

static int note_cb(void *arg, evfs_ino ino)
{
	struct recovery *recovery = arg;
	void *items = recovery->items;

	if (evfs_grow(&items, recovery->n, &recovery->cap,
		      sizeof(*recovery->items)) != 0)
		return EVFS_ENOMEM;
	recovery->items = items;
	recovery->items[recovery->n++] = ino;
	return 0;
}

/* Files that have no version yet become empty ones. */
static int seal_empty(struct recovery *recovery, struct evfs_err *err)
{
	struct evfs_fs *fs = recovery->fs;
	uint64_t now = evfs_fs_wall_ns(fs);
	const struct evfs_content_ref ref = {
		.content = EVFS_CONTENT_EMPTY,
		.mtime_s = (int64_t)(now / 1000000000),
		.mtime_ns = (uint32_t)(now % 1000000000),
	};
	int rc;

	evfs_meta_lock(fs->meta);
	rc = evfs_tree_unsealed(fs->meta, note_cb, recovery, err);
	for (size_t i = 0; rc == 0 && i < recovery->n; i++) {
		struct evfs_handle handle = { .ino = recovery->items[i] };
		const struct evfs_object *object;

		rc = evfs_facts_get(fs->facts, handle.ino, &object, err);
		if (rc != 0 || !object || object->n_links == 0)
			continue;
		handle.link = object->links[0].id;
		rc = evfs_tree_seal(fs->meta, &handle, &ref, err);
		evfs_free(handle.base);
		recovery->empty++;
	}
	evfs_meta_unlock(fs->meta);
	return rc;
}

static void discard_cb(void *arg, uint64_t number)
{
	struct recovery *recovery = arg;

	evfs_work_discard(&recovery->fs->place, number);
	recovery->done++;
}

/* Copies that are sealed, or whose file was removed. The numbers are given
 * again from now on, so nobody may hold them for done after this. */
static int discard_done(struct recovery *recovery, struct evfs_err *err)
{
	struct evfs_fs *fs = recovery->fs;
	int rc;

	evfs_meta_lock(fs->meta);
	rc = evfs_work_done_each(fs->meta, discard_cb, recovery, err);
	evfs_meta_unlock(fs->meta);
	if (rc != 0 || recovery->done == 0)
		return rc;
	rc = evfs_workplace_sync(&fs->place, err);
	if (rc != 0)
		return rc;
	evfs_meta_lock(fs->meta);
	rc = evfs_work_done_clear(fs->meta, err);
	evfs_meta_unlock(fs->meta);
	return rc == 0 ? evfs_meta_sync(fs->meta, err) : rc;
}

int evfs_recover(struct evfs_fs *fs, struct evfs_err *err)
{
	struct recovery recovery = { .fs = fs };
	int rc;

	rc = discard_done(&recovery, err);
	if (rc == 0)
		rc = evfs_work_recover(&fs->place, copy_cb, &recovery,
				       err);
	if (rc == 0)
		rc = seal_empty(&recovery, err);
	if (rc == EVFS_ENOSPACE) /* they stay as they are until there is room */
		rc = 0;
	evfs_free(recovery.items);
	if (rc != 0)
		return evfs_err_wrap(err, rc, "recovery of unsealed files");
	if (recovery.sealed + recovery.empty + recovery.left > 0)
		evfs_log(EVFS_LOG_WARN,
			 "after a crash: sealed=%u empty=%u left_in_work=%u",
			 recovery.sealed, recovery.empty, recovery.left);
	return 0;
}
