/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A file node's working copies. */
#include "fs/file_work.h"

#include "base/mem.h"
#include "fs/attr.h"
#include "fs/file.h"
#include "meta/works.h"

struct evfs_work *evfs_file_unsealed(const struct evfs_file *file)
{
	return file->work ? file->work : file->frozen;
}

/* A working copy that would be found after a crash: if the file is removed, it
 * must not come back by that. */
static void note_copy(struct evfs_fs *fs, struct evfs_file *file)
{
	uint64_t number = evfs_work_number(file->work);

	/* While one is sealed, it is the only one that would be found. */
	if (number == file->noted || file->frozen)
		return;
	evfs_meta_lock(fs->meta);
	file->handle.work = file->noted = number;
	/* What cannot be noted may come back: no reason to fail here. */
	if (file->handle.orphan && number != 0)
		(void)!evfs_work_done_note(fs->meta, number, NULL);
	evfs_meta_unlock(fs->meta);
}

void evfs_file_publish(struct evfs_fs *fs, struct evfs_file *file)
{
	uint64_t room = evfs_work_room(file->work);

	note_copy(fs, file);
	(void)pthread_mutex_lock(&fs->dirty_lock);
	file->size = evfs_work_size(file->work);
	file->room = room;
	file->closed_ns = 0;
	(void)pthread_mutex_unlock(&fs->dirty_lock);
}

/* ---- a copy to write to ---- */

/* Of the file and what `base` reads (or NULL); the caller frees ret->base. */
static int identify(struct evfs_fs *fs, struct evfs_file *file,
		    const struct evfs_reader *base,
		    struct evfs_work_ident *ret, struct evfs_err *err)
{
	*ret = (struct evfs_work_ident){ .has_content = base != NULL };
	evfs_meta_lock(fs->meta);
	ret->ino = file->handle.ino;
	ret->link = file->handle.link;
	ret->n_base = file->handle.n_base;
	ret->base = evfs_memdup(file->handle.base,
				ret->n_base * sizeof(*ret->base));
	evfs_meta_unlock(fs->meta);
	if (!ret->base)
		return evfs_err_set(err, EVFS_ENOMEM, "work: no memory");
	if (base) {
		ret->content = base->content;
		ret->size = base->size;
	}
	return 0;
}

static void set_work(struct evfs_file *file, struct evfs_work *work)
{
	(void)pthread_rwlock_wrlock(&file->data);
	file->work = work;
	(void)pthread_rwlock_unlock(&file->data);
}

static int work_make(struct evfs_fs *fs, struct evfs_node *node,
		     struct evfs_reader *base, struct evfs_err *err)
{
	struct evfs_work_ident ident;
	struct evfs_work *work;
	int rc = identify(fs, node->file, base, &ident, err);

	if (rc != 0)
		return rc;
	rc = evfs_work_new(&fs->place, &ident, base, &work, err);
	evfs_free(ident.base);
	if (rc == 0)
		set_work(node->file, work);
	return rc;
}

/* A second one, while the first is sealed: the times until now are that
 * one's. */
static int work_make_over(struct evfs_fs *fs, struct evfs_file *file,
			  struct evfs_err *err)
{
	struct evfs_work *work;
	int rc = evfs_work_over(file->frozen, &work, err);

	if (rc != 0)
		return rc;
	(void)pthread_mutex_lock(&fs->dirty_lock);
	evfs_file_frozen_times(file, &file->frozen_as);
	file->timed = false; /* from now on it is another's */
	file->over_ns = evfs_fs_mono_ns(fs);
	(void)pthread_mutex_unlock(&fs->dirty_lock);
	set_work(file, work);
	return 0;
}

/* The time of a clean file that starts to be written stays as it is shown
 * until the kernel says another: it keeps the times of what it caches, in
 * ticks of some milliseconds, and does not tell one that stays the same. */
static int keep_time(struct evfs_fs *fs, struct evfs_node *node,
		     uint64_t size, struct evfs_err *err)
{
	struct stat st = { 0 };
	int rc;

	evfs_meta_lock(fs->meta);
	rc = evfs_attr_node(fs, node, &st, err);
	if (rc == 0) {
		evfs_file_mark_dirty(fs, node, size);
		(void)evfs_file_set_mtime(fs, node, st.st_mtim.tv_sec,
					  (uint32_t)st.st_mtim.tv_nsec);
	}
	evfs_meta_unlock(fs->meta);
	return rc;
}

int evfs_file_work_ready(struct evfs_fs *fs, fuse_req_t req,
			 struct evfs_node *node, bool empty,
			 struct evfs_err *err)
{
	struct evfs_file *file = node->file;
	struct evfs_reader *base = NULL;
	bool was_dirty;
	int rc = 0;

	if (file->work)
		return 0;
	if (file->frozen)
		return work_make_over(fs, file, err);
	was_dirty = evfs_file_is_dirty(fs, node);
	if (!was_dirty && !empty) {
		rc = evfs_file_reader(fs, req, node, &base, err);
		if (rc != 0)
			return rc;
	}
	/* Dirty before the first byte is taken: status never lies. */
	if (!was_dirty)
		rc = keep_time(fs, node, base ? base->size : 0, err);
	if (rc == 0)
		rc = work_make(fs, node, base, err);
	if (rc == EVFS_ECORRUPT && base) {
		rc = evfs_file_heal(fs, req, base, err);
		if (rc == 0)
			rc = work_make(fs, node, base, err);
	}
	evfs_reader_put(base);
	if (rc != 0 && !was_dirty)
		evfs_file_mark_clean(fs, node);
	return rc;
}

/* ---- sealing ---- */

void evfs_file_freeze(struct evfs_node *node)
{
	struct evfs_file *file = node->file;

	if (file->frozen)
		return;
	(void)pthread_rwlock_wrlock(&file->data);
	file->frozen = evfs_steal(file->work);
	(void)pthread_rwlock_unlock(&file->data);
}

void evfs_file_thaw(struct evfs_node *node)
{
	struct evfs_file *file = node->file;

	if (file->work)
		return;
	(void)pthread_rwlock_wrlock(&file->data);
	file->work = evfs_steal(file->frozen);
	(void)pthread_rwlock_unlock(&file->data);
}

void evfs_file_frozen_times(const struct evfs_file *file,
			    struct evfs_content_ref *ret)
{
	const struct evfs_content_ref *as = &file->frozen_as;
	bool over = file->frozen && file->work;

	ret->mtime_s = over ? as->mtime_s : file->mtime_s;
	ret->mtime_ns = over ? as->mtime_ns : file->mtime_ns;
	ret->closed_ns = over ? as->closed_ns : file->closed_ns;
}

/* A reader of what is sealed, if any of it shows through. */
static int open_sealed(struct evfs_fs *fs, const struct evfs_file *file,
		       struct evfs_reader **ret, struct evfs_err *err)
{
	const struct evfs_content_ref *as = &file->frozen_as;
	struct evfs_content_reader *reader;
	int rc;

	*ret = NULL;
	if (evfs_work_is_complete(file->work))
		return 0;
	rc = evfs_content_open(fs->content, &as->content, as->size, &reader,
			       err);
	if (rc != 0)
		return rc;
	*ret = evfs_reader_new(reader, &as->content, as->size);
	return *ret ? 0 : evfs_err_set(err, EVFS_ENOMEM, "reader: no memory");
}

int evfs_file_rebase(struct evfs_fs *fs, struct evfs_node *node,
		     struct evfs_err *err)
{
	struct evfs_file *file = node->file;
	struct evfs_reader *base;
	struct evfs_work_ident ident;
	struct evfs_work *done;
	int rc = open_sealed(fs, file, &base, err);

	if (rc != 0)
		return rc;
	rc = identify(fs, file, base, &ident, err);
	if (rc == 0) {
		(void)pthread_rwlock_wrlock(&file->data);
		rc = evfs_work_rebase(file->work, &ident, base, err);
		done = rc == 0 ? evfs_steal(file->frozen) : NULL;
		(void)pthread_rwlock_unlock(&file->data);
		evfs_work_free(done);
		evfs_free(ident.base);
	}
	evfs_reader_put(base);
	if (rc != 0)
		return rc;
	note_copy(fs, file);
	(void)pthread_mutex_lock(&fs->dirty_lock);
	file->dirty_ns = file->over_ns;
	file->due = false;
	(void)pthread_mutex_unlock(&fs->dirty_lock);
	return 0;
}

void evfs_file_drop(struct evfs_node *node)
{
	struct evfs_file *file = node->file;
	struct evfs_work *work, *frozen;
	struct evfs_reader *reader;

	(void)pthread_rwlock_wrlock(&file->data);
	work = evfs_steal(file->work);
	frozen = evfs_steal(file->frozen);
	reader = evfs_steal(file->reader);
	(void)pthread_rwlock_unlock(&file->data);
	evfs_work_free(work);
	evfs_work_free(frozen);
	evfs_reader_put(reader);
}
