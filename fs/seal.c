/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Sealing. */
#include "fs/seal.h"

#include "base/log.h"
#include "base/mem.h"
#include "fs/attr.h"
#include "fs/file.h"
#include "fs/file_work.h"
#include "fs/fs_priv.h"
#include "fs/notify.h"
#include "fs/quorum.h"
#include "fs/ripple.h"
#include "fs/sealer.h"
#include "fs/writer.h"
#include "meta/facts.h"
#include "meta/works.h"

/* What one seal needs. */
struct seal {
	struct evfs_fs *fs;
	struct evfs_node *node;        /* NULL: only the step */
	struct evfs_content_put *put;  /* bytes that are not known yet */
	struct evfs_content_ref ref;   /* the version to be */
	int (*step)(void *arg, struct evfs_err *err); /* or NULL */
	void *arg;                     /* its argument */
	bool orphan;                   /* removed while it was prepared */
	bool sealed;                   /* that part is done */
};

/* Bytes into the store; no meta lock. */
static int put_frozen(struct seal *seal, struct evfs_work *work,
		      struct evfs_err *err)
{
	struct evfs_reader *base;
	int rc;

	rc = evfs_work_put(work, &seal->put, &seal->ref.content,
			   &seal->ref.size, err);
	if (rc != EVFS_ECORRUPT)
		return rc;
	base = evfs_work_base(work);
	if (base && evfs_file_heal(seal->fs, NULL, base, NULL) == 0)
		rc = evfs_work_put(work, &seal->put, &seal->ref.content,
				   &seal->ref.size, err);
	evfs_reader_put(base);
	return rc;
}

/* `writer` held; not while what takes its time is put. */
static int prepare(struct seal *seal, struct evfs_err *err)
{
	struct evfs_file *file = seal->node->file;
	struct evfs_work *work;
	int rc;

	evfs_file_freeze(seal->node);
	work = file->frozen;
	if (!work) {
		seal->ref.content = EVFS_CONTENT_EMPTY;
		return 0;
	}
	if (!evfs_work_is_overlay(work))
		return put_frozen(seal, work, err);
	(void)pthread_mutex_unlock(&file->writer);
	rc = put_frozen(seal, work, err);
	(void)pthread_mutex_lock(&file->writer);
	return rc;
}

/* Meta locked. Do the bytes equal those of the version that the writer opened,
 * and is that one still current? Then there is no new version. */
static bool is_unchanged(struct seal *seal)
{
	struct evfs_handle *handle = &seal->node->file->handle;
	const struct evfs_object *object;
	struct evfs_shown shown;

	if (evfs_tree_shown(seal->fs->meta, handle, &shown, NULL) != 0 ||
	    !shown.has_version || shown.size != seal->ref.size ||
	    !evfs_hash_equal(&shown.content, &seal->ref.content) ||
	    evfs_facts_get(seal->fs->facts, handle->ino, &object, NULL) != 0 ||
	    !object)
		return false;
	for (size_t i = 0; i < handle->n_base; i++)
		if (!evfs_object_find_version(object, handle->base[i]))
			return false;
	return true;
}

/* Meta locked. Same bytes, but written again: that is a new time. */
static int seal_times(struct seal *seal, struct evfs_err *err)
{
	struct evfs_attr attr = { .kind = EVFS_ATTR_TIMES };
	struct evfs_attributes old;
	const struct evfs_handle *handle = &seal->node->file->handle;
	int rc;

	rc = evfs_view_attr_of(seal->fs->meta, handle->ino,
			       &handle->base[handle->n_base - 1], &old, err);
	if (rc != 0)
		return rc;
	if (old.mtime_s == seal->ref.mtime_s &&
	    old.mtime_ns == seal->ref.mtime_ns)
		return 0;
	attr.value.times.mtime_s = seal->ref.mtime_s;
	attr.value.times.mtime_ns = seal->ref.mtime_ns;
	attr.value.times.atime_s = old.atime_s;
	attr.value.times.atime_ns = old.atime_ns;
	return evfs_attr_set(seal->fs, seal->node, &attr, err);
}

/* Meta locked (content). */
static int put_version(struct seal *seal, struct evfs_err *err)
{
	struct evfs_fs *fs = seal->fs;
	struct evfs_file *file = seal->node->file;
	bool was_sibling = file->handle.sibling;
	int rc;

	if (file->handle.n_base > 0 && is_unchanged(seal))
		return seal_times(seal, err);
	rc = evfs_tree_seal(fs->meta, &file->handle, &seal->ref, err);
	if (rc != 0)
		return rc;
	evfs_node_rekey(fs, seal->node);
	evfs_ripple_sealed(fs, &file->handle, was_sibling);
	return 0;
}

/* Meta locked (content). */
static int commit_version(struct seal *seal, struct evfs_err *err)
{
	struct evfs_fs *fs = seal->fs;
	struct evfs_file *file = seal->node->file;
	int rc = 0;

	if (seal->put)
		rc = evfs_content_commit(fs->content, evfs_steal(seal->put),
					 err);
	/* No version will have these bytes: only the working copy has. */
	seal->orphan = file->handle.orphan;
	if (rc != 0 || seal->orphan)
		return rc;
	(void)pthread_mutex_lock(&fs->dirty_lock);
	evfs_file_frozen_times(file, &seal->ref);
	/* Else the time is that of what was written meanwhile. */
	file->timed = !file->work;
	(void)pthread_mutex_unlock(&fs->dirty_lock);
	/* They were taken away at each write that must not leave them
	 * (fs/privs.h). */
	seal->ref.keeps_set_id = true;
	rc = put_version(seal, err);
	if (rc == 0 && file->noted != 0)
		rc = evfs_work_done_note(fs->meta, file->noted, err);
	if (rc != 0)
		return rc;
	file->handle.work = file->noted = 0;
	file->frozen_as = seal->ref;
	return 0;
}

/* Meta locked: the version, and what belongs to the same step. */
static int commit(struct seal *seal, bool dirty, struct evfs_err *err)
{
	int rc = dirty ? commit_version(seal, err) : 0;

	seal->sealed = rc == 0 && dirty && !seal->orphan;
	if (dirty && rc != 0)
		evfs_file_forget_time(seal->fs, seal->node);
	if (rc == 0 && seal->step)
		rc = seal->step(seal->arg, err);
	return rc;
}

/* `writer` of the node held, if there is a node. */
static int seal_locked(struct seal *seal, bool dirty, struct evfs_err *err)
{
	struct evfs_fs *fs = seal->fs;
	int rc = 0;

	if (dirty)
		rc = prepare(seal, err);
	if (rc == 0 && dirty)
		evfs_meta_lock_content(fs->meta);
	else if (rc == 0)
		evfs_meta_lock(fs->meta);
	if (rc == 0) {
		rc = commit(seal, dirty, err);
		evfs_meta_unlock(fs->meta);
	}
	if (dirty && !seal->sealed)
		evfs_file_thaw(seal->node);
	return rc;
}

static void keep_error(struct evfs_fs *fs, struct evfs_file *file, int rc,
		       const struct evfs_err *err)
{
	(void)pthread_mutex_lock(&fs->dirty_lock);
	file->error = rc;
	(void)pthread_mutex_unlock(&fs->dirty_lock);
	if (!file->logged)
		evfs_log(EVFS_LOG_ERROR,
			 "a file cannot be sealed, and is kept for another "
			 "try: err=%s", err->msg);
	file->logged = true;
}

static bool is_orphan(struct evfs_fs *fs, struct evfs_file *file)
{
	bool orphan;

	evfs_meta_lock(fs->meta);
	orphan = file->handle.orphan;
	evfs_meta_unlock(fs->meta);
	return orphan;
}

/* Of a file that is gone and open nowhere the bytes are of no use. What was
 * opened without a message is closed for sure when the kernel has forgotten
 * it. */
static bool is_garbage(struct evfs_fs *fs, struct evfs_node *node)
{
	bool open;

	if (!is_orphan(fs, node->file))
		return false;
	(void)pthread_mutex_lock(&fs->nodes.lock);
	(void)pthread_mutex_lock(&fs->dirty_lock);
	open = node->file->n_open > 0 ||
	       (atomic_load(&fs->quiet_opens) &&
		evfs_node_is_known(fs, node));
	(void)pthread_mutex_unlock(&fs->dirty_lock);
	(void)pthread_mutex_unlock(&fs->nodes.lock);
	return !open;
}

/* ---- what follows; `sealing` and `writer` held ---- */

static bool is_kept(const struct evfs_work *work)
{
	return work && evfs_work_is_kept(work);
}

/* Nothing is left to be sealed. The caller has a pin, so the list's is not the
 * last. */
static void clean(struct evfs_fs *fs, struct evfs_node *node)
{
	struct evfs_file *file = node->file;

	/* What was promised has its version, or its removal, on the disk. */
	if (file->work)
		evfs_work_release(file->work);
	if (file->frozen)
		evfs_work_release(file->frozen);
	evfs_file_drop(node);
	file->frozen_sealed = file->logged = false;
	evfs_file_mark_clean(fs, node);
}

/* Nobody will need what is there. */
static int give_up(struct evfs_fs *fs, struct evfs_node *node,
		   struct evfs_err *err)
{
	struct evfs_file *file = node->file;
	int rc = 0;

	if (is_kept(file->work) || is_kept(file->frozen))
		rc = evfs_meta_sync(fs->meta, err);
	if (rc == 0)
		clean(fs, node);
	return rc;
}

/* What was frozen is sealed. A copy that was promised stays until that is on
 * the disk, and what was written meanwhile is of no use without it. */
static int finish(struct evfs_fs *fs, struct evfs_node *node,
		  struct evfs_err *err)
{
	struct evfs_file *file = node->file;
	int rc = 0;

	if (file->work || is_kept(file->frozen)) {
		(void)pthread_mutex_unlock(&file->writer);
		rc = evfs_meta_sync(fs->meta, err);
		(void)pthread_mutex_lock(&file->writer);
	}
	if (rc != 0)
		return rc;
	if (!file->work) {
		clean(fs, node);
		return 0;
	}
	evfs_work_release(file->frozen);
	rc = evfs_file_rebase(fs, node, err);
	if (rc == 0)
		file->frozen_sealed = file->logged = false;
	return rc;
}

/* Seals what is there now; not what is written meanwhile. */
static int seal_once(struct seal *seal, struct evfs_err *err)
{
	struct evfs_fs *fs = seal->fs;
	struct evfs_node *node = seal->node;
	struct evfs_file *file = node->file;
	bool dirty = evfs_file_is_dirty(fs, node);
	int rc = 0, rc_finish;

	if (dirty && is_garbage(fs, node))
		rc = give_up(fs, node, err);
	if (dirty && is_orphan(fs, file))
		dirty = false;
	if (rc == 0 && (dirty || seal->step))
		rc = seal_locked(seal, dirty, err);
	if (!seal->sealed)
		return rc;
	/* Whatever became of the step. */
	file->frozen_sealed = file->frozen != NULL;
	rc_finish = finish(fs, node, rc == 0 ? err : NULL);
	return rc == 0 ? rc_finish : rc;
}

/* First what a seal that failed has left. */
static int seal_left(struct seal *seal, struct evfs_err *err)
{
	struct seal left = { .fs = seal->fs, .node = seal->node };
	struct evfs_file *file = seal->node->file;

	if (file->frozen_sealed)
		return finish(seal->fs, seal->node, err);
	return file->frozen ? seal_once(&left, err) : 0;
}

/* ---- one seal at a time ---- */

/* With `sealing`, which is given back. A close that came meanwhile is the
 * sealer's. */
static void seal_end(struct evfs_fs *fs, struct evfs_file *file)
{
	bool again;

	(void)pthread_mutex_unlock(&file->sealing);
	(void)pthread_mutex_lock(&fs->dirty_lock);
	again = file->again && file->dirty;
	file->again = false;
	file->due = file->due || again;
	(void)pthread_mutex_unlock(&fs->dirty_lock);
	if (again)
		evfs_sealer_hurry(fs);
}

/* The same. */
static int seal_file(struct seal *seal, struct evfs_err *err)
{
	struct evfs_file *file = seal->node->file;
	int rc;

	(void)pthread_mutex_lock(&file->writer);
	rc = seal_left(seal, err);
	if (rc == 0)
		rc = seal_once(seal, err);
	(void)pthread_mutex_unlock(&file->writer);
	seal_end(seal->fs, file);
	return rc;
}

int evfs_seal_then(struct evfs_fs *fs, struct evfs_node *node,
		   int (*step)(void *arg, struct evfs_err *err), void *arg,
		   struct evfs_err *err)
{
	struct seal seal = { .fs = fs, .node = node, .step = step,
			     .arg = arg };

	if (!node || !node->file)
		return seal_locked(&seal, false, err);
	(void)pthread_mutex_lock(&node->file->sealing);
	return seal_file(&seal, err);
}

static int seal_noted(struct seal *seal, struct evfs_err *err)
{
	struct evfs_file *file = seal->node->file;
	struct evfs_err local = { 0 };
	int rc = seal_file(seal, &local);

	if (rc != 0) {
		(void)pthread_mutex_lock(&file->writer);
		keep_error(seal->fs, file, rc, &local);
		(void)pthread_mutex_unlock(&file->writer);
		if (err)
			*err = local;
	}
	return rc;
}

int evfs_seal(struct evfs_fs *fs, struct evfs_node *node, struct evfs_err *err)
{
	struct seal seal = { .fs = fs, .node = node };

	(void)pthread_mutex_lock(&node->file->sealing);
	return seal_noted(&seal, err);
}

/* After a close. Somebody may be at it already, for long, and closes may come
 * one after the other: they do not wait, or all workers would. A failure is
 * kept with the file, and it is tried again. */
static bool seal_closed(struct evfs_fs *fs, struct evfs_node *node)
{
	struct seal seal = { .fs = fs, .node = node };
	struct evfs_file *file = node->file;

	/* Said before it is tried: whoever is at it looks when he has ended. */
	(void)pthread_mutex_lock(&fs->dirty_lock);
	file->again = true;
	(void)pthread_mutex_unlock(&fs->dirty_lock);
	if (pthread_mutex_trylock(&file->sealing) != 0)
		return true;
	(void)pthread_mutex_lock(&fs->dirty_lock);
	file->again = false;
	(void)pthread_mutex_unlock(&fs->dirty_lock);
	return seal_noted(&seal, NULL) == 0;
}

/* Can it be put together again after a crash, exactly? A copy does not know by
 * which sibling's name it was opened, and whose it is before it has a name. */
static bool may_keep(struct evfs_fs *fs, struct evfs_file *file)
{
	const struct evfs_handle *handle = &file->handle;
	bool may;

	evfs_meta_lock(fs->meta);
	may = !handle->orphan && !handle->loose && !handle->sibling;
	evfs_meta_unlock(fs->meta);
	return may;
}

/* `sealing` and `writer` held. False: it is to be sealed. */
static bool keep(struct evfs_fs *fs, struct evfs_node *node)
{
	struct evfs_file *file = node->file;
	uint32_t mtime_ns;
	int64_t mtime_s;

	if (!evfs_file_is_dirty(fs, node) || !file->work || file->frozen ||
	    !evfs_work_is_long(file->work) || !may_keep(fs, file))
		return false;
	(void)pthread_mutex_lock(&fs->dirty_lock);
	mtime_s = file->mtime_s;
	mtime_ns = file->mtime_ns;
	(void)pthread_mutex_unlock(&fs->dirty_lock);
	/* Sealing will meet the same error, and tell. */
	if (evfs_work_keep(file->work, mtime_s, mtime_ns, NULL) != 0)
		return false;
	(void)pthread_mutex_lock(&fs->dirty_lock);
	file->due = true;
	(void)pthread_mutex_unlock(&fs->dirty_lock);
	return true;
}

int evfs_seal_or_keep(struct evfs_fs *fs, struct evfs_node *node,
		      struct evfs_err *err)
{
	struct evfs_quorum_settings settings;
	bool kept = false;

	evfs_quorum_of_mount(fs, &settings);
	if (settings.write <= 1) {
		(void)pthread_mutex_lock(&node->file->sealing);
		(void)pthread_mutex_lock(&node->file->writer);
		kept = keep(fs, node);
		(void)pthread_mutex_unlock(&node->file->writer);
		seal_end(fs, node->file);
	}
	if (!kept)
		return evfs_seal(fs, node, err);
	evfs_sealer_hurry(fs);
	return 0;
}

int evfs_seal_error(struct evfs_fs *fs, struct evfs_node *node)
{
	int rc;

	(void)pthread_mutex_lock(&fs->dirty_lock);
	rc = node->file->error;
	node->file->error = 0;
	(void)pthread_mutex_unlock(&fs->dirty_lock);
	return rc;
}

/* ---- the writer is done ---- */

void evfs_writer_opened(struct evfs_fs *fs, struct evfs_node *node,
			bool may_write)
{
	struct evfs_file *file = node->file;

	(void)pthread_mutex_lock(&fs->dirty_lock);
	file->n_open++;
	if (may_write) {
		fs->n_writers++;
		if (file->n_writers++ == 0)
			file->flushed_ns = evfs_fs_mono_ns(fs);
	}
	(void)pthread_mutex_unlock(&fs->dirty_lock);
}

/* No handle is left: nothing is kept for it. */
static void drop_reader(struct evfs_node *node)
{
	struct evfs_reader *reader;

	(void)pthread_rwlock_wrlock(&node->file->data);
	reader = evfs_steal(node->file->reader);
	(void)pthread_rwlock_unlock(&node->file->data);
	evfs_reader_put(reader);
}

/* False: there is nothing that a version could be made of. */
static bool note_close(struct evfs_fs *fs, struct evfs_node *node,
		       uint64_t heard_ns)
{
	struct evfs_file *file = node->file;
	uint64_t stamp_ns;

	if (!evfs_file_is_dirty(fs, node))
		return false;
	evfs_meta_lock(fs->meta);
	stamp_ns = evfs_meta_stamp(fs->meta, 0) -
		   (evfs_fs_mono_ns(fs) - heard_ns);
	(void)pthread_mutex_lock(&fs->dirty_lock);
	if (file->dirty)
		file->closed_ns = stamp_ns;
	(void)pthread_mutex_unlock(&fs->dirty_lock);
	evfs_meta_unlock(fs->meta);
	return true;
}

void evfs_writer_closes(struct evfs_fs *fs, struct evfs_node *node)
{
	(void)note_close(fs, node, evfs_fs_mono_ns(fs));
}

void evfs_writer_done(struct evfs_fs *fs, struct evfs_node *node,
		      bool may_write)
{
	struct evfs_file *file = node->file;
	bool last, stale, dirty;

	(void)pthread_mutex_lock(&fs->dirty_lock);
	last = --file->n_open == 0;
	if (may_write) {
		file->n_writers--;
		fs->n_writers--;
	}
	stale = last && file->times_stale;
	if (stale)
		file->times_stale = false;
	dirty = file->dirty;
	(void)pthread_mutex_unlock(&fs->dirty_lock);
	if (dirty && (may_write || last) && !seal_closed(fs, node))
		last = false;
	if (last)
		drop_reader(node);
	if (stale) {
		evfs_ino ino;

		evfs_meta_lock(fs->meta);
		ino = file->handle.ino;
		evfs_meta_unlock(fs->meta);
		evfs_notify_attr(fs, ino);
	}
}

void evfs_writer_closed(struct evfs_fs *fs, struct evfs_node *node,
			uint64_t heard_ns)
{
	if (note_close(fs, node, heard_ns))
		(void)seal_closed(fs, node);
}

uint64_t evfs_writer_unsealed(struct evfs_fs *fs, struct evfs_node *node)
{
	uint64_t bytes;

	(void)pthread_mutex_lock(&fs->dirty_lock);
	bytes = node->file->dirty ? node->file->size : 0;
	(void)pthread_mutex_unlock(&fs->dirty_lock);
	return bytes;
}
