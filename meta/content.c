/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The content store: opening, references, what is here and what is lacking,
 * watches. */
#include "meta/content.h"

#include <assert.h>
#include <string.h>

#include "base/mem.h"
#include "meta/content_priv.h"

/* Beyond so many, reclamation looks at all rows instead. */
#define IDLE_MAX 65536u

/* ---- opening ---- */

static int load(struct evfs_content *content, struct evfs_err *err)
{
	struct evfs_container_row row = { 0 };
	uint64_t queue;
	int r;

	while ((r = evfs_db_container_next(content->meta, row.id, &row,
					   err)) > 0) {
		r = evfs_containers_add(content->containers, row.id, row.kind,
					row.bytes, err);
		if (r < 0)
			return r;
		evfs_containers_cut(content->containers, row.id, row.bytes);
	}
	if (r < 0)
		return r;
	r = evfs_db_content_queue_max(content->meta, &queue, err);
	if (r < 0)
		return r;
	/* Numbers are not used twice while somebody may remember them. */
	if (queue >= content->next_queue)
		content->next_queue = queue + 1;
	return 0;
}

int evfs_content_new(struct evfs_meta *meta, const char *path,
		     struct evfs_err *err)
{
	struct evfs_content *content = evfs_calloc(1, sizeof(*content));
	int r;

	if (!content)
		return evfs_err_set(err, EVFS_ENOMEM, "content: no memory");
	content->meta = meta;
	content->in_memory = path == NULL;
	content->next_queue = 1;
	content->idle.rescan = true; /* what the last run left */
	r = evfs_containers_new(path, evfs_meta_env(meta),
				&content->containers, err);
	if (r < 0) {
		evfs_free(content);
		return r;
	}
	pthread_mutex_init(&content->mutex, NULL);
	pthread_mutex_init(&content->reclaim_lock, NULL);
	pthread_cond_init(&content->watch_idle, NULL);
	meta->content = content;
	r = load(content, err);
	if (r < 0)
		evfs_content_free(meta);
	return r;
}

void evfs_content_free(struct evfs_meta *meta)
{
	struct evfs_content *content = meta->content;

	if (!content)
		return;
	meta->content = NULL;
	evfs_containers_free(content->containers);
	evfs_hashmap_fini(&content->pins);
	evfs_free(content->idle.names);
	evfs_buf_fini(&content->lacks_manifest);
	pthread_cond_destroy(&content->watch_idle);
	pthread_mutex_destroy(&content->reclaim_lock);
	pthread_mutex_destroy(&content->mutex);
	evfs_free(content);
}

void evfs_content_reset(struct evfs_meta *meta)
{
	struct evfs_content *content = meta->content;
	int r;

	content->n_fresh = 0;
	content->idle.n = content->idle.settled = 0;
	content->idle.rescan = true;
	content->lacks_name = EVFS_CONTENT_EMPTY;
	r = load(content, NULL);
	/* Containers stay known from before; a row that could not be read is
	 * read by whoever needs it. */
	(void)r;
	if (content->in_memory) {
		struct evfs_container_row row;
		uint64_t id = 0;

		while (evfs_containers_idle(content->containers, id, &id,
					    1) > 0) {
			if (evfs_db_container_get(meta, id, &row, NULL) == 0)
				(void)evfs_containers_remove(
					content->containers, id);
			id++;
		}
	}
}

int evfs_content_sync(struct evfs_content *content, struct evfs_err *err)
{
	evfs_content_tell_arrived(content);
	return evfs_containers_sync(content->containers, err);
}

bool evfs_content_is_synced(struct evfs_content *content)
{
	return evfs_containers_are_synced(content->containers);
}

/* ---- pins, idle names ---- */

int evfs_content_pin(struct evfs_content *content, const evfs_hash *name)
{
	uint64_t *count;

	pthread_mutex_lock(&content->mutex);
	count = evfs_hashmap_put(&content->pins, name);
	if (count)
		++*count;
	pthread_mutex_unlock(&content->mutex);
	return count ? 0 : EVFS_ENOMEM;
}

void evfs_content_unpin(struct evfs_content *content, const evfs_hash *name)
{
	uint64_t *count;

	pthread_mutex_lock(&content->mutex);
	count = evfs_hashmap_get(&content->pins, name);
	assert(count && *count > 0);
	if (--*count == 0)
		evfs_hashmap_remove(&content->pins, name);
	pthread_mutex_unlock(&content->mutex);
}

bool evfs_content_is_pinned(struct evfs_content *content,
			    const evfs_hash *name)
{
	bool pinned;

	pthread_mutex_lock(&content->mutex);
	pinned = evfs_hashmap_get(&content->pins, name) != NULL;
	pthread_mutex_unlock(&content->mutex);
	return pinned;
}

void evfs_content_note_idle(struct evfs_content *content,
			    const evfs_hash *name)
{
	struct evfs_idle *idle = &content->idle;
	void *names = idle->names;

	if (idle->n >= IDLE_MAX ||
	    evfs_grow(&names, idle->n, &idle->cap, sizeof(*name)) < 0) {
		idle->rescan = true;
		return;
	}
	idle->names = names;
	idle->names[idle->n++] = *name;
}

/* ---- references ---- */

/* A row for a content that is not here. */
static int add_row(struct evfs_content *content, const evfs_hash *name,
		   uint64_t size, struct evfs_content_row *ret,
		   struct evfs_err *err)
{
	*ret = (struct evfs_content_row){ .name = *name, .size = size };
	if (size == 0 || size > EVFS_FILE_SIZE_MAX)
		return evfs_err_set(err, EVFS_EINVAL,
				    "content: no content has %llu bytes and "
				    "a name",
				    (unsigned long long)size);
	if (size <= EVFS_CHUNK_MIN)
		ret->shape = EVFS_SHAPE_SINGLE;
	return evfs_db_content_add(content->meta, ret, err);
}

static void forget_fresh(struct evfs_content *content, const evfs_hash *name)
{
	for (size_t i = content->n_fresh; i-- > 0;) {
		if (!evfs_hash_equal(&content->fresh[i], name))
			continue;
		content->fresh[i] = content->fresh[--content->n_fresh];
		return;
	}
}

static int ref_chunk(struct evfs_content *content, struct evfs_chunk_row *row,
		     bool want, struct evfs_err *err)
{
	int r;

	row->refs++;
	row->wants += want;
	if (!(row->flags & EVFS_CHUNK_OBJECT)) {
		struct evfs_content_delta delta = { .objects = 1 };

		row->flags |= EVFS_CHUNK_OBJECT;
		r = evfs_db_content_count(content->meta, &delta, err);
		if (r < 0)
			return r;
	}
	return evfs_db_chunk_set(content->meta, row, err);
}

static int ref(struct evfs_content *content, const evfs_hash *name,
	       uint64_t size, bool want, struct evfs_err *err)
{
	struct evfs_content_row row, before;
	struct evfs_chunk_row chunk;
	int r;

	if (evfs_content_is_zero_chunk(name)) {
		r = evfs_content_chunk_arrives(content, name, EVFS_CHUNK_MAX,
					       NULL, 0, 0, true, err);
		if (r < 0)
			return r;
	}
	r = evfs_db_chunk_get(content->meta, name, &chunk, err);
	if (r < 0)
		return r;
	if (r > 0 && !(chunk.flags & EVFS_CHUNK_BAD))
		return ref_chunk(content, &chunk, want, err);
	r = evfs_db_content_get(content->meta, name, &row, err);
	if (r == 0)
		r = add_row(content, name, size, &row, err);
	if (r < 0)
		return r;
	before = row;
	row.refs++;
	row.wants += want;
	return evfs_content_row_changed(content, &before, &row, err);
}

int evfs_content_ref(struct evfs_content *content, const evfs_hash *name,
		     uint64_t size, bool want, struct evfs_err *err)
{
	int r;

	if (evfs_hash_is_zero(name)) {
		if (size == 0)
			return 0;
		return evfs_err_set(err, EVFS_EINVAL,
				    "content: %llu bytes without a name",
				    (unsigned long long)size);
	}
	r = evfs_db_content_begin(content->meta, err);
	if (r < 0)
		return r;
	r = evfs_db_content_end(content->meta,
				ref(content, name, size, want, err), err);
	if (r == 0)
		forget_fresh(content, name);
	return r;
}

static int unref(struct evfs_content *content, const evfs_hash *name,
		 bool want, struct evfs_err *err)
{
	struct evfs_content_row row, before;
	struct evfs_chunk_row chunk;
	int r;

	r = evfs_db_chunk_get(content->meta, name, &chunk, err);
	if (r < 0)
		return r;
	if (r > 0 && !(chunk.flags & EVFS_CHUNK_BAD)) {
		assert(chunk.refs > 0 && (!want || chunk.wants > 0));
		chunk.refs--;
		chunk.wants -= want;
		if (chunk.refs == 0)
			evfs_content_note_idle(content, name);
		return evfs_db_chunk_set(content->meta, &chunk, err);
	}
	r = evfs_db_content_get(content->meta, name, &row, err);
	if (r <= 0)
		return r < 0 ? r
			     : evfs_err_set(err, EVFS_ECORRUPT,
					    "content: a version's content is "
					    "unknown");
	assert(row.refs > 0 && (!want || row.wants > 0));
	before = row;
	row.refs--;
	row.wants -= want;
	if (row.refs == 0)
		evfs_content_note_idle(content, name);
	return evfs_content_row_changed(content, &before, &row, err);
}

int evfs_content_unref(struct evfs_content *content, const evfs_hash *name,
		       bool want, struct evfs_err *err)
{
	int r;

	if (evfs_hash_is_zero(name))
		return 0;
	r = evfs_db_content_begin(content->meta, err);
	if (r < 0)
		return r;
	return evfs_db_content_end(content->meta,
				   unref(content, name, want, err), err);
}

/* ---- what is here ---- */

int evfs_content_has(struct evfs_content *content, const evfs_hash *name,
		     bool *ret, struct evfs_err *err)
{
	struct evfs_content_row row;
	struct evfs_chunk_row chunk;
	int r;

	if (evfs_hash_is_zero(name)) {
		*ret = true;
		return 0;
	}
	r = evfs_content_find(content, name, &chunk, err);
	if (r < 0)
		return r;
	if (r == 0) {
		r = evfs_db_content_get(content->meta, name, &row, err);
		if (r < 0)
			return r;
		r = r > 0 && evfs_content_row_whole(&row);
	}
	*ret = r > 0;
	return 0;
}

int evfs_content_manifest(struct evfs_content *content, const evfs_hash *name,
			  struct evfs_buf *ret, struct evfs_err *err)
{
	struct evfs_content_row row;
	struct evfs_chunk_row chunk;
	int r;

	evfs_buf_clear(ret);
	if (evfs_hash_is_zero(name))
		return 0;
	r = evfs_content_find(content, name, &chunk, err);
	if (r != 0)
		return r < 0 ? r : 0;
	r = evfs_db_content_get(content->meta, name, &row, err);
	if (r < 0)
		return r;
	if (r > 0 && row.shape == EVFS_SHAPE_SINGLE)
		return 0;
	if (r == 0 || row.shape != EVFS_SHAPE_MANIFEST)
		return evfs_err_set(err, EVFS_EMISSING,
				    "content: its manifest is not here");
	return evfs_db_manifest_get(content->meta, row.id, ret, err);
}

void evfs_content_get_stats(struct evfs_content *content,
			    struct evfs_content_stats *ret)
{
	struct evfs_content_stats stats = { 0 };

	/* A database that cannot be read shows nothing; whoever needs a row
	 * will say why. */
	if (evfs_db_content_counts(content->meta, &stats, NULL) < 0)
		stats = (struct evfs_content_stats){ 0 };
	*ret = stats;
}

int evfs_content_wanted(struct evfs_content *content, uint64_t after,
			size_t max,
			int (*each)(void *arg, uint64_t number,
				    const evfs_hash *name, uint64_t size),
			void *arg, struct evfs_err *err)
{
	struct evfs_content_row row;
	int r = 0;

	while (max-- > 0 &&
	       (r = evfs_db_content_wanted(content->meta, after, &row,
					   err)) > 0) {
		after = row.queue;
		if (each(arg, row.queue, &row.name, row.size) != 0)
			break;
	}
	return r < 0 ? r : 0;
}

/* ---- watches ---- */

void evfs_content_set_watch(struct evfs_content *content, int slot,
			    const struct evfs_content_watch *watch)
{
	assert(slot >= 0 && slot < 2);
	pthread_mutex_lock(&content->mutex);
	if (watch)
		content->watches[slot] = *watch;
	else
		content->watches[slot] = (struct evfs_content_watch){ 0 };
	while (content->watch_calls > 0)
		pthread_cond_wait(&content->watch_idle, &content->mutex);
	pthread_mutex_unlock(&content->mutex);
}

enum watch_call { CALL_URGENT, CALL_ARRIVED, CALL_UNREACHABLE };

static void call_watches(struct evfs_content *content, enum watch_call call,
			 const evfs_hash *name, uint64_t size)
{
	struct evfs_content_watch watches[2];

	pthread_mutex_lock(&content->mutex);
	memcpy(watches, content->watches, sizeof(watches));
	content->watch_calls++;
	pthread_mutex_unlock(&content->mutex);
	for (int i = 0; i < 2; i++) {
		const struct evfs_content_watch *watch = &watches[i];

		if (call == CALL_URGENT && watch->urgent)
			watch->urgent(watch->ctx, name, size);
		else if (call == CALL_ARRIVED && watch->arrived)
			watch->arrived(watch->ctx);
		else if (call == CALL_UNREACHABLE && watch->unreachable)
			watch->unreachable(watch->ctx, name);
	}
	pthread_mutex_lock(&content->mutex);
	if (--content->watch_calls == 0)
		pthread_cond_broadcast(&content->watch_idle);
	pthread_mutex_unlock(&content->mutex);
}

void evfs_content_ask(struct evfs_content *content, const evfs_hash *name,
		      uint64_t size)
{
	call_watches(content, CALL_URGENT, name, size);
}

void evfs_content_give_up(struct evfs_content *content, const evfs_hash *name)
{
	call_watches(content, CALL_UNREACHABLE, name, 0);
}

void evfs_content_tell_arrived(struct evfs_content *content)
{
	bool arrived;

	evfs_meta_lock(content->meta);
	arrived = content->arrived;
	content->arrived = false;
	evfs_meta_unlock(content->meta);
	if (arrived)
		call_watches(content, CALL_ARRIVED, NULL, 0);
}
