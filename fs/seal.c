/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Sealing, and the thread that seals files which stay open. */
#include "fs/seal.h"

#include <signal.h>
#include <stdlib.h>
#include <time.h>

#include "base/log.h"
#include "base/mem.h"
#include "fs/attr.h"
#include "fs/closes.h"
#include "fs/file.h"
#include "fs/fs_priv.h"
#include "fs/notify.h"
#include "fs/quorum.h"
#include "fs/ripple.h"
#include "fs/writer.h"
#include "meta/config.h"
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

/* Bytes into the store; `writer` held, no meta lock. */
static int prepare(struct seal *seal, struct evfs_err *err)
{
	struct evfs_file *file = seal->node->file;
	struct evfs_reader *base;
	int rc;

	if (!file->work) {
		seal->ref.content = EVFS_CONTENT_EMPTY;
		return 0;
	}
	rc = evfs_work_put(file->work, &seal->put, &seal->ref.content,
			   &seal->ref.size, err);
	if (rc != EVFS_ECORRUPT)
		return rc;
	base = evfs_work_base(file->work);
	if (base && evfs_file_heal(seal->fs, NULL, base, NULL) == 0)
		rc = evfs_work_put(file->work, &seal->put, &seal->ref.content,
				   &seal->ref.size, err);
	evfs_reader_put(base);
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
	seal->ref.mtime_s = file->mtime_s;
	seal->ref.mtime_ns = file->mtime_ns;
	seal->ref.closed_ns = file->closed_ns;
	/* They were taken away at each write that must not leave them
	 * (fs/privs.h). */
	seal->ref.keeps_set_id = true;
	file->timed = true;
	(void)pthread_mutex_unlock(&fs->dirty_lock);
	rc = put_version(seal, err);
	if (rc == 0 && file->noted != 0)
		rc = evfs_work_done_note(fs->meta, file->noted, err);
	if (rc == 0)
		file->handle.work = file->noted = 0;
	return rc;
}

/* `writer` of the node held, if there is a node. */
static int seal_locked(struct seal *seal, bool dirty, struct evfs_err *err)
{
	struct evfs_fs *fs = seal->fs;
	int rc = 0;

	if (dirty)
		rc = prepare(seal, err);
	if (rc != 0)
		return rc;
	if (dirty)
		evfs_meta_lock_content(fs->meta);
	else
		evfs_meta_lock(fs->meta);
	if (dirty)
		rc = commit_version(seal, err);
	seal->sealed = rc == 0 && dirty && !seal->orphan;
	if (dirty && rc != 0)
		evfs_file_forget_time(fs, seal->node);
	if (rc == 0 && seal->step)
		rc = seal->step(seal->arg, err);
	evfs_meta_unlock(fs->meta);
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

/* Nothing is left to be sealed. `writer` held: whoever takes it next must find
 * either a working copy that counts, or none and a clean file. The caller has
 * a pin, so the list's is not the last. */
static int finish(struct evfs_fs *fs, struct evfs_node *node,
		  struct evfs_err *err)
{
	struct evfs_work *work = node->file->work;
	int rc;

	if (work && evfs_work_is_kept(work)) {
		/* What was promised is there until its version, or its removal,
		 * is on the disk. */
		rc = evfs_meta_sync(fs->meta, err);
		if (rc != 0)
			return rc;
		evfs_work_release(work);
	}
	evfs_file_drop(node);
	node->file->logged = false;
	evfs_file_mark_clean(fs, node);
	return 0;
}

int evfs_seal_then(struct evfs_fs *fs, struct evfs_node *node,
		   int (*step)(void *arg, struct evfs_err *err), void *arg,
		   struct evfs_err *err)
{
	struct seal seal = { .fs = fs, .node = node, .step = step,
			     .arg = arg };
	struct evfs_err local = { 0 };
	struct evfs_file *file = node ? node->file : NULL;
	bool dirty;
	int rc = 0;

	if (!file)
		return seal_locked(&seal, false, err);
	(void)pthread_mutex_lock(&file->writer);
	dirty = evfs_file_is_dirty(fs, node);
	if (dirty && is_garbage(fs, node))
		rc = finish(fs, node, &local);
	if (dirty && is_orphan(fs, file))
		dirty = false;
	if (rc == 0 && (dirty || step))
		rc = seal_locked(&seal, dirty, &local);
	if (seal.sealed) { /* whatever became of the step */
		int rc_finish = finish(fs, node, rc == 0 ? &local : NULL);

		rc = rc == 0 ? rc_finish : rc;
	}
	(void)pthread_mutex_unlock(&file->writer);
	if (rc != 0 && err)
		*err = local;
	return rc;
}

int evfs_seal(struct evfs_fs *fs, struct evfs_node *node, struct evfs_err *err)
{
	struct evfs_err local = { 0 };
	int rc = evfs_seal_then(fs, node, NULL, NULL, &local);

	if (rc != 0) {
		(void)pthread_mutex_lock(&node->file->writer);
		keep_error(fs, node->file, rc, &local);
		(void)pthread_mutex_unlock(&node->file->writer);
		if (err)
			*err = local;
	}
	return rc;
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

/* `writer` held. False: it is to be sealed. */
static bool keep(struct evfs_fs *fs, struct evfs_node *node)
{
	struct evfs_file *file = node->file;
	uint32_t mtime_ns;
	int64_t mtime_s;

	if (!evfs_file_is_dirty(fs, node) || !file->work ||
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
		(void)pthread_mutex_lock(&node->file->writer);
		kept = keep(fs, node);
		(void)pthread_mutex_unlock(&node->file->writer);
	}
	if (!kept)
		return evfs_seal(fs, node, err);
	(void)pthread_mutex_lock(&fs->sealer_lock);
	fs->sealer_due = true;
	(void)pthread_cond_broadcast(&fs->sealer_wake);
	(void)pthread_mutex_unlock(&fs->sealer_lock);
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
	/* A failure is kept with the file, and it is tried again. */
	if (dirty && (may_write || last) && evfs_seal(fs, node, NULL) != 0)
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
	/* A failure is kept with the file, and it is tried again. */
	if (note_close(fs, node, heard_ns))
		(void)!evfs_seal(fs, node, NULL);
}

uint64_t evfs_writer_unsealed(struct evfs_fs *fs, struct evfs_node *node)
{
	uint64_t bytes;

	(void)pthread_mutex_lock(&fs->dirty_lock);
	bytes = node->file->dirty ? node->file->size : 0;
	(void)pthread_mutex_unlock(&fs->dirty_lock);
	return bytes;
}

/* ---- the sealer ---- */

struct due {
	struct evfs_node **items; /* owned; each pinned */
	size_t n, cap;
};

static void due_add(struct due *due, struct evfs_node *node)
{
	void *items = due->items;

	if (evfs_grow(&items, due->n, &due->cap, sizeof(*due->items)) != 0)
		return; /* next time */
	due->items = items;
	due->items[due->n++] = node;
	node->pins++; /* table locked */
}

/* Files that are open for writing, for so long since their last flush. */
struct pick {
	struct evfs_fs *fs;
	struct due due;
	uint64_t now_ns, age_ns; /* monotonic */
};

static void pick_writer_cb(void *arg, struct evfs_node *node)
{
	struct pick *pick = arg;
	struct evfs_file *file = node->file;
	bool due;

	if (!file)
		return;
	(void)pthread_mutex_lock(&pick->fs->dirty_lock);
	due = file->n_writers > 0 &&
	      pick->now_ns - file->flushed_ns >= pick->age_ns;
	if (due)
		file->flushed_ns = pick->now_ns;
	(void)pthread_mutex_unlock(&pick->fs->dirty_lock);
	if (due)
		due_add(&pick->due, node);
}

/* Has the kernel hand over what it holds of files that are open. */
static void flush_writers(struct evfs_fs *fs, uint64_t age_ns)
{
	struct pick pick = { .fs = fs, .now_ns = evfs_fs_mono_ns(fs),
			     .age_ns = age_ns };
	bool none;

	if (atomic_load(&fs->quiet_opens) &&
	    pick.now_ns - fs->flushed_ns >= age_ns) {
		fs->flushed_ns = pick.now_ns;
		evfs_closes_flush(fs);
	}
	(void)pthread_mutex_lock(&fs->dirty_lock);
	none = fs->n_writers == 0;
	(void)pthread_mutex_unlock(&fs->dirty_lock);
	if (none)
		return;
	evfs_nodes_each(fs, pick_writer_cb, &pick);
	for (size_t i = 0; i < pick.due.n; i++) {
		evfs_notify_flush_now(fs, pick.due.items[i]->id);
		evfs_node_unpin(fs, pick.due.items[i]);
	}
	evfs_free(pick.due.items);
}

/* Seals what has been dirty for so long; and what is gone for good is given
 * up. */
static void seal_due(struct evfs_fs *fs, uint64_t age_ns)
{
	uint64_t now_ns = evfs_fs_mono_ns(fs);
	struct due due = { 0 };

	evfs_meta_lock(fs->meta);
	(void)pthread_mutex_lock(&fs->nodes.lock);
	(void)pthread_mutex_lock(&fs->dirty_lock);
	for (struct evfs_node *node = fs->dirty_head; node;
	     node = node->file->dirty_next)
		if (now_ns - node->file->dirty_ns >= age_ns ||
		    node->file->due ||
		    (node->file->handle.orphan &&
		     !evfs_node_is_known(fs, node)))
			due_add(&due, node);
	(void)pthread_mutex_unlock(&fs->dirty_lock);
	(void)pthread_mutex_unlock(&fs->nodes.lock);
	evfs_meta_unlock(fs->meta);
	for (size_t i = 0; i < due.n; i++) {
		/* A failure is kept with the file and logged once. */
		if (evfs_seal(fs, due.items[i], NULL) != 0)
			evfs_log(EVFS_LOG_DEBUG, "seal: to be tried again");
		evfs_node_unpin(fs, due.items[i]);
	}
	evfs_free(due.items);
}

static int order_inos(const void *a, const void *b)
{
	const evfs_ino *x = a, *y = b;

	return evfs_dot_cmp(*x, *y);
}

/* Files whose times have changed elsewhere, and which the kernel has perhaps
 * not given up since: somebody has them open, or had. */
static void retell_times(struct evfs_fs *fs)
{
	evfs_ino *inos;
	size_t n;

	(void)pthread_mutex_lock(&fs->dirty_lock);
	inos = evfs_steal(fs->stale);
	n = fs->n_stale;
	fs->n_stale = fs->stale_cap = 0;
	(void)pthread_mutex_unlock(&fs->dirty_lock);
	if (n > 1)
		qsort(inos, n, sizeof(*inos), order_inos);
	for (size_t i = 0; i < n; i++)
		if (i == 0 || !evfs_dot_equal(inos[i - 1], inos[i]))
			evfs_notify_attr(fs, inos[i]);
	evfs_free(inos);
}

void evfs_seal_flush_kernel(struct evfs_fs *fs)
{
	flush_writers(fs, 0);
}

void evfs_fs_seal_all(struct evfs_fs *fs)
{
	seal_due(fs, 0);
}

static uint64_t seal_interval_ns(struct evfs_fs *fs)
{
	int64_t ms;

	evfs_meta_lock(fs->meta);
	ms = evfs_config_get(fs->meta, EVFS_CONFIG_seal_interval);
	evfs_meta_unlock(fs->meta);
	return (uint64_t)ms * 1000000;
}

static void *sealer_main(void *arg)
{
	struct evfs_fs *fs = arg;

	(void)pthread_mutex_lock(&fs->sealer_lock);
	while (!fs->sealer_stop) {
		uint64_t age_ns, step_ns;
		struct timespec until;

		(void)pthread_mutex_unlock(&fs->sealer_lock);
		age_ns = seal_interval_ns(fs);
		/* What the kernel holds first: it becomes dirty here. */
		flush_writers(fs, age_ns);
		seal_due(fs, age_ns);
		retell_times(fs);
		step_ns = age_ns / 4 < 1000000000 ? age_ns / 4 : 1000000000;
		(void)clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_nsec += (long)step_ns;
		if (until.tv_nsec >= 1000000000) {
			until.tv_nsec -= 1000000000;
			until.tv_sec++;
		}
		(void)pthread_mutex_lock(&fs->sealer_lock);
		if (!fs->sealer_stop && !fs->sealer_due)
			(void)pthread_cond_timedwait(&fs->sealer_wake,
						     &fs->sealer_lock,
						     &until);
		fs->sealer_due = false;
	}
	(void)pthread_mutex_unlock(&fs->sealer_lock);
	return NULL;
}

int evfs_sealer_start(struct evfs_fs *fs, struct evfs_err *err)
{
	sigset_t all, old;
	int sys;

	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &old);
	sys = pthread_create(&fs->sealer, NULL, sealer_main, fs);
	(void)pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (sys != 0)
		return evfs_err_sys(err, sys, "start the sealer");
	fs->sealer_runs = true;
	return 0;
}

void evfs_sealer_stop(struct evfs_fs *fs)
{
	if (!fs->sealer_runs)
		return;
	(void)pthread_mutex_lock(&fs->sealer_lock);
	fs->sealer_stop = true;
	(void)pthread_cond_broadcast(&fs->sealer_wake);
	(void)pthread_mutex_unlock(&fs->sealer_lock);
	(void)pthread_join(fs->sealer, NULL);
	fs->sealer_runs = false;
}

void evfs_fs_unsealed(struct evfs_fs *fs, uint64_t *ret_files,
		      uint64_t *ret_bytes, int64_t *ret_oldest_s)
{
	uint64_t now = evfs_fs_mono_ns(fs), oldest = 0, bytes = 0, files = 0;

	evfs_meta_lock(fs->meta);
	(void)pthread_mutex_lock(&fs->dirty_lock);
	for (struct evfs_node *node = fs->dirty_head; node;
	     node = node->file->dirty_next) {
		/* What is removed and still open will never be sealed. */
		if (node->file->handle.orphan)
			continue;
		files++;
		bytes += node->file->size;
		if (now - node->file->dirty_ns > oldest)
			oldest = now - node->file->dirty_ns;
	}
	(void)pthread_mutex_unlock(&fs->dirty_lock);
	evfs_meta_unlock(fs->meta);
	*ret_files = files;
	*ret_bytes = bytes;
	*ret_oldest_s = files > 0 ? (int64_t)(oldest / 1000000000) : -1;
}
