/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Fetching: what becomes of chunks that arrive. Each is verified and written on
 * the background thread, which takes as long as the network does to bring it;
 * then it waits here for the commit that makes it known.
 *
 * What arrived lies in a container, checked, and is committed in groups: a
 * commit costs the disk a sync or two, and this thread waits while the content
 * is synced. A group ends when a job has all that it asked for, so nothing that
 * is whole waits; else by its size or its age. Nothing but a few numbers is
 * kept in memory meanwhile, and a crash costs at most that group again. */
#include "base/behind.h"
#include "base/mem.h"
#include "net/engine_priv.h"

/* A chunk on its way into the store. */
struct storing {
	struct evfs_task task;
	struct evfs_content *content;
	struct evfs_fetch_chunk chunk; /* data owned */
	struct evfs_content_put *put;  /* owned; NULL: it failed */
	struct evfs_err why;           /* code 0: it did not */
};

/* ---- groups ---- */

static void commit_puts(struct evfs_engine *engine)
{
	struct evfs_fetch *fetch = &engine->fetch;
	struct evfs_err err = { 0 };
	size_t i;
	int r = 0;

	if (fetch->n_puts == 0)
		return;
	evfs_meta_lock_content(engine->meta);
	for (i = 0; i < fetch->n_puts; i++) {
		if (r == 0)
			r = evfs_content_commit(engine->content, fetch->puts[i],
						&err);
		else
			evfs_content_put_drop(engine->content, fetch->puts[i]);
	}
	evfs_meta_unlock(engine->meta);
	evfs_content_tell_arrived(engine->content);
	fetch->n_puts = 0;
	fetch->put_bytes = 0;
	fetch->put_due = false;
	engine->changed = true;
	if (r < 0)
		evfs_fetch_rest(engine, &err);
}

void evfs_fetch_commit_all(struct evfs_engine *engine)
{
	commit_puts(engine);
}

void evfs_fetch_commit(struct evfs_engine *engine, uint64_t now_ns,
		       uint64_t *next_ns)
{
	struct evfs_fetch *fetch = &engine->fetch;
	uint64_t due_ns = fetch->put_ns + EVFS_FETCH_GROUP_NS;

	if (fetch->n_puts == 0)
		fetch->put_due = false;
	else if (fetch->put_due || now_ns >= due_ns)
		commit_puts(engine);
	else
		evfs_engine_lower(next_ns, due_ns);
}

static void keep_put(struct evfs_engine *engine, struct evfs_content_put *put,
		     size_t len)
{
	struct evfs_fetch *fetch = &engine->fetch;

	if (evfs_grow((void **)&fetch->puts, fetch->n_puts, &fetch->cap_puts,
		      sizeof(struct evfs_content_put *)) < 0) {
		/* The content is still wanted, and found by a later look. */
		evfs_content_put_drop(engine->content, put);
		return;
	}
	if (fetch->n_puts == 0)
		fetch->put_ns = evfs_engine_now(engine);
	fetch->puts[fetch->n_puts++] = put;
	fetch->put_bytes += len;
	if (fetch->put_bytes >= EVFS_FETCH_GROUP)
		commit_puts(engine);
}

/* ---- one chunk ---- */

static void store_run(struct evfs_task *task)
{
	struct storing *storing = (struct storing *)task;
	struct evfs_fetch_chunk *chunk = &storing->chunk;
	int r = evfs_content_write_chunk(storing->content, &chunk->hash,
					 chunk->data, chunk->len,
					 chunk->of_size >= EVFS_BEHIND_MIN,
					 &storing->put, &storing->why);

	(void)r; /* why says it */
	evfs_free(evfs_steal(chunk->data));
}

static void store_done(struct evfs_task *task, struct evfs_engine *engine)
{
	struct storing *storing = (struct storing *)task;

	evfs_fetch_stored(engine, &storing->chunk, &storing->why);
	if (storing->put)
		keep_put(engine, storing->put, storing->chunk.len);
	evfs_free(storing);
}

int evfs_fetch_store(struct evfs_engine *engine,
		     const struct evfs_fetch_chunk *chunk,
		     struct evfs_err *err)
{
	struct storing *storing = evfs_calloc(1, sizeof(*storing));

	if (storing == NULL) {
		evfs_free(chunk->data);
		return evfs_err_set(err, EVFS_ENOMEM, "chunk: out of memory");
	}
	storing->task.run = store_run;
	storing->task.done = store_done;
	storing->content = engine->content;
	storing->chunk = *chunk;
	if (engine->submit != NULL) {
		engine->submit(engine->submit_ctx, &storing->task);
	} else {
		store_run(&storing->task);
		store_done(&storing->task, engine);
	}
	return 0;
}
