/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Fetching. Each wanted content is a job: first its manifest where it has one,
 * then the chunks that are lacking, each asked of one member at a time, of
 * several members in parallel, 16 MiB outstanding with each. A member that says
 * no is not asked again for that content until it has news. A job that nobody
 * can do is dropped; the store still wants the content, and a later look finds
 * it again. Somebody who waits for it is told at once.
 */
#include "net/fetch.h"

#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "net/engine_priv.h"

/* uthash over base/mem.h; out of memory leaves the element out */
#define HASH_NONFATAL_OOM 1
#define uthash_malloc(size) evfs_calloc(1, size)
#define uthash_free(pointer, size) evfs_free(pointer)
#include <uthash.h>

#define LIST_MAX 512 /* chunks of one content looked up at a time */
#define ASK_MAX 256  /* hashes of one WantChunks */
#define RESCAN_NS (10 * EVFS_SECOND)

struct evfs_fetch_job {
	struct evfs_fetch_job *next;
	evfs_hash name;
	uint64_t size;
	bool urgent;
	uint64_t urgent_ns;		/* since when */
	bool single;			/* known to be one chunk of that name */
	struct evfs_chunk_want *chunks; /* owned */
	size_t n_chunks, at; /* chunks[at..n) have not been asked for */
	bool more;	     /* the list was full: there may be others */
	size_t n_flights;    /* asked for, no answer yet */
	struct evfs_session *manifest_from; /* asked for the manifest */
	struct evfs_buf manifest;	    /* what came of it so far */
	uint64_t *no;			    /* owned; nodes that have said no */
	size_t n_no, cap_no;
	uint64_t wait_ns; /* others are fetching what is left */
	bool done;	  /* freed at the end of the run */
};

struct evfs_fetch_flight {
	evfs_hash hash;
	uint32_t len;
	struct evfs_session *session;
	struct evfs_fetch_job *job;
	uint64_t storing; /* it arrived, under this ticket; 0 = not yet */
	UT_hash_handle hh;
};

/* ---- jobs ---- */

static struct evfs_fetch_job *find_job(struct evfs_fetch *fetch,
				       const evfs_hash *name)
{
	struct evfs_fetch_job *job;

	for (job = fetch->jobs; job != NULL; job = job->next)
		if (!job->done && evfs_hash_equal(&job->name, name))
			return job;
	return NULL;
}

static struct evfs_fetch_job *add_job(struct evfs_fetch *fetch,
				      const evfs_hash *name, uint64_t size,
				      bool first)
{
	struct evfs_fetch_job **at = &fetch->jobs;
	struct evfs_fetch_job *job = evfs_calloc(1, sizeof(*job));

	if (job == NULL)
		return NULL;
	job->name = *name;
	job->size = size;
	while (!first && *at != NULL)
		at = &(*at)->next;
	job->next = *at;
	*at = job;
	fetch->n_jobs++;
	return job;
}

static void reap_jobs(struct evfs_fetch *fetch)
{
	struct evfs_fetch_job **at = &fetch->jobs;

	while (*at != NULL) {
		struct evfs_fetch_job *job = *at;

		if (!job->done || job->n_flights > 0) {
			at = &job->next;
			continue;
		}
		*at = job->next;
		fetch->n_jobs--;
		evfs_buf_fini(&job->manifest);
		evfs_free(job->chunks);
		evfs_free(job->no);
		evfs_free(job);
	}
}

/* Nobody can do it now. */
static void give_up(struct evfs_engine *engine, struct evfs_fetch_job *job)
{
	job->done = true;
	if (job->urgent)
		evfs_content_give_up(engine->content, &job->name);
}

static bool said_no(const struct evfs_fetch_job *job, uint64_t node)
{
	size_t i;

	for (i = 0; i < job->n_no; i++)
		if (job->no[i] == node)
			return true;
	return false;
}

static void note_no(struct evfs_fetch_job *job, uint64_t node)
{
	if (said_no(job, node))
		return;
	if (evfs_grow((void **)&job->no, job->n_no, &job->cap_no,
		      sizeof(*job->no)) < 0)
		job->done = true; /* found again by a later look */
	else
		job->no[job->n_no++] = node;
}

/* ---- whom to ask ---- */

/* The best member for the next piece; *ret_any: somebody could be asked, if
 * not now. Complete ones first, then those with the least to do. */
static struct evfs_session *choose(struct evfs_engine *engine,
				   const struct evfs_fetch_job *job,
				   bool *ret_any)
{
	struct evfs_session *best = NULL;
	bool best_complete = false;
	struct evfs_peer *peer;

	*ret_any = false;
	for (peer = engine->peers; peer != NULL; peer = peer->next) {
		struct evfs_session *s = peer->session;
		bool complete =
			peer->report.complete && peer->report.wanted == 0;

		if (s == NULL || said_no(job, peer->member.node))
			continue;
		*ret_any = true;
		if (s->asked_bytes >= EVFS_FETCH_WINDOW)
			continue;
		if (best == NULL || complete > best_complete ||
		    (complete == best_complete &&
		     s->asked_bytes < best->asked_bytes)) {
			best = s;
			best_complete = complete;
		}
	}
	return best;
}

static void flush_asks(struct evfs_engine *engine, struct evfs_session *session)
{
	Evfs__Wire__Envelope envelope = EVFS__WIRE__ENVELOPE__INIT;
	Evfs__Wire__WantChunks want = EVFS__WIRE__WANT_CHUNKS__INIT;

	if (session->asks.len == 0)
		return;
	want.hashes = evfs_wire_bytes(session->asks.data, session->asks.len);
	envelope.kind_case = EVFS__WIRE__ENVELOPE__KIND_WANT_CHUNKS;
	envelope.want_chunks = &want;
	if (evfs_session_send(engine, session, EVFS_CHANNEL_CONTROL, &envelope))
		evfs_buf_clear(&session->asks);
}

static void ask_manifest(struct evfs_engine *engine,
			 struct evfs_session *session,
			 struct evfs_fetch_job *job)
{
	Evfs__Wire__Envelope envelope = EVFS__WIRE__ENVELOPE__INIT;
	Evfs__Wire__WantManifest want = EVFS__WIRE__WANT_MANIFEST__INIT;

	want.name = evfs_wire_bytes(job->name.b, EVFS_HASH_SIZE);
	envelope.kind_case = EVFS__WIRE__ENVELOPE__KIND_WANT_MANIFEST;
	envelope.want_manifest = &want;
	job->manifest_from = session;
	evfs_buf_clear(&job->manifest);
	if (session->asked_bytes == 0)
		session->answer_ns = evfs_engine_now(engine);
	(void)evfs_session_send(engine, session, EVFS_CHANNEL_CONTROL,
				&envelope);
}

/* ---- flights ---- */

static struct evfs_fetch_flight *find_flight(struct evfs_fetch *fetch,
					     const evfs_hash *hash)
{
	struct evfs_fetch_flight *flight;

	HASH_FIND(hh, fetch->flights, hash, sizeof(*hash), flight);
	return flight;
}

static bool add_flight(struct evfs_engine *engine, struct evfs_fetch_job *job,
		       const struct evfs_chunk_want *chunk,
		       struct evfs_session *session)
{
	struct evfs_fetch *fetch = &engine->fetch;
	struct evfs_fetch_flight *flight = evfs_calloc(1, sizeof(*flight));

	if (flight == NULL)
		return false;
	flight->hash = chunk->chunk;
	flight->len = chunk->len;
	flight->session = session;
	flight->job = job;
	HASH_ADD(hh, fetch->flights, hash, sizeof(flight->hash), flight);
	if (flight->hh.tbl == NULL ||
	    evfs_buf_put(&session->asks, chunk->chunk.b, EVFS_HASH_SIZE) < 0) {
		if (flight->hh.tbl != NULL)
			HASH_DEL(fetch->flights, flight);
		evfs_free(flight);
		return false;
	}
	if (session->asked_bytes == 0)
		session->answer_ns = evfs_engine_now(engine);
	session->asked_bytes += chunk->len;
	job->n_flights++;
	if (session->asks.len >= ASK_MAX * EVFS_HASH_SIZE)
		flush_asks(engine, session);
	return true;
}

static void end_flight(struct evfs_fetch *fetch,
		       struct evfs_fetch_flight *flight)
{
	flight->session->asked_bytes -= flight->len;
	if (--flight->job->n_flights == 0)
		fetch->put_due = true;
	HASH_DEL(fetch->flights, flight);
	evfs_free(flight);
}

void evfs_fetch_session_gone(struct evfs_engine *engine,
			     struct evfs_session *session)
{
	struct evfs_fetch *fetch = &engine->fetch;
	struct evfs_fetch_flight *flight, *next;
	struct evfs_fetch_job *job;

	HASH_ITER(hh, fetch->flights, flight, next)
	if (flight->session == session)
		end_flight(fetch, flight);
	for (job = fetch->jobs; job != NULL; job = job->next)
		if (job->manifest_from == session)
			job->manifest_from = NULL;
}

/* It does not answer: as if it had said no to everything. */
static void give_up_session(struct evfs_engine *engine,
			    struct evfs_session *session)
{
	struct evfs_fetch *fetch = &engine->fetch;
	struct evfs_fetch_flight *flight, *next;
	struct evfs_fetch_job *job;

	HASH_ITER(hh, fetch->flights, flight, next)
	if (flight->session == session)
		note_no(flight->job, session->node);
	for (job = fetch->jobs; job != NULL; job = job->next)
		if (job->manifest_from == session)
			note_no(job, session->node);
	evfs_fetch_session_gone(engine, session);
}

/* ---- what arrived ---- */

/* The store cannot take more (disk full): the session is not to blame. */
void evfs_fetch_rest(struct evfs_engine *engine, const struct evfs_err *err)
{
	evfs_log(EVFS_LOG_ERROR, "content from peers: err=%s", err->msg);
	engine->fetch.rest_ns = evfs_engine_now(engine) + 5 * EVFS_SECOND;
}

/* ---- one job ---- */

/* Looks up what is lacking. False: nothing more to do now. */
static bool list_chunks(struct evfs_engine *engine, struct evfs_fetch_job *job,
			uint64_t now_ns, uint64_t *next_ns)
{
	bool manifest = false, whole = false, any;
	struct evfs_session *session;
	size_t n = 0;
	int r;

	if (job->chunks == NULL)
		job->chunks = evfs_calloc(LIST_MAX, sizeof(*job->chunks));
	if (job->chunks == NULL) {
		job->done = true;
		return false;
	}
	evfs_fetch_commit_all(engine); /* what is here shall not be listed */
	evfs_meta_lock(engine->meta);
	r = evfs_content_has(engine->content, &job->name, &whole, NULL);
	if (r == 0 && !whole)
		r = evfs_content_lacks(engine->content, &job->name, job->size,
				       job->chunks, LIST_MAX, &n, &manifest,
				       NULL);
	evfs_meta_unlock(engine->meta);
	if (r < 0 || whole || (n == 0 && !manifest)) {
		job->done = true;
		return false;
	}
	if (manifest && job->single) {
		job->chunks[0] =
			(struct evfs_chunk_want){ job->name,
						  (uint32_t)job->size };
		n = 1;
	} else if (manifest) {
		session = choose(engine, job, &any);
		if (session != NULL)
			ask_manifest(engine, session, job);
		else if (!any)
			give_up(engine, job);
		else
			evfs_engine_lower(next_ns, now_ns + 10 * EVFS_MS);
		return false;
	}
	job->n_chunks = n;
	job->more = n == LIST_MAX;
	job->at = 0;
	return true;
}

/* Asks for the chunks of the list, as far as there is room. */
static void ask_chunks(struct evfs_engine *engine, struct evfs_fetch_job *job,
		       uint64_t now_ns, uint64_t *next_ns)
{
	struct evfs_session *session;
	bool any;

	for (; job->at < job->n_chunks; job->at++) {
		const struct evfs_chunk_want *chunk = &job->chunks[job->at];

		if (find_flight(&engine->fetch, &chunk->chunk) != NULL)
			continue;
		session = choose(engine, job, &any);
		if (session == NULL) {
			if (!any && job->n_flights == 0)
				give_up(engine, job);
			return;
		}
		if (!evfs_bucket_take(&engine->down, now_ns, chunk->len,
				      next_ns))
			return;
		if (!add_flight(engine, job, chunk, session)) {
			job->done = true;
			return;
		}
	}
}

static void run_job(struct evfs_engine *engine, struct evfs_fetch_job *job,
		    uint64_t now_ns, uint64_t *next_ns)
{
	uint64_t end_ns = job->urgent_ns + EVFS_FETCH_PATIENCE_NS;

	if (job->urgent && now_ns >= end_ns) {
		evfs_content_give_up(engine->content, &job->name);
		job->urgent = false;
	} else if (job->urgent) {
		evfs_engine_lower(next_ns, end_ns);
	}
	if (job->done || job->manifest_from != NULL)
		return;
	if (now_ns < job->wait_ns) {
		evfs_engine_lower(next_ns, job->wait_ns);
		return;
	}
	/* The next list before the last answer, so that the line stays busy;
	 * but not one that names little beyond what is under way. */
	if (job->at == job->n_chunks &&
	    (job->n_flights == 0 ||
	     (job->more && job->n_flights < LIST_MAX / 2)) &&
	    !list_chunks(engine, job, now_ns, next_ns))
		return;
	ask_chunks(engine, job, now_ns, next_ns);
	if (!job->done && job->n_flights == 0 && job->at == job->n_chunks) {
		/* other jobs are at all that this one lacks */
		job->wait_ns = now_ns + 20 * EVFS_MS;
		evfs_engine_lower(next_ns, job->wait_ns);
	}
}

/* ---- looking for work ---- */

static int each_wanted(void *arg, uint64_t number, const evfs_hash *name,
		       uint64_t size)
{
	struct evfs_fetch *fetch = arg;

	if (fetch->n_jobs >= EVFS_FETCH_JOBS)
		return 1;
	if (find_job(fetch, name) == NULL &&
	    add_job(fetch, name, size, false) == NULL)
		return 1;
	fetch->cursor = number;
	return 0;
}

static void scan(struct evfs_engine *engine, uint64_t now_ns, uint64_t *next_ns)
{
	struct evfs_fetch *fetch = &engine->fetch;
	uint64_t before = fetch->cursor;
	struct evfs_err err = { 0 };
	int r;

	if (engine->wanted > 0) {
		if (now_ns >= fetch->rescan_ns) {
			fetch->rescan_ns = now_ns + RESCAN_NS;
			fetch->cursor = before = 0;
			fetch->scan = true;
		}
		evfs_engine_lower(next_ns, fetch->rescan_ns);
	}
	if (!fetch->scan || fetch->n_jobs >= EVFS_FETCH_JOBS)
		return;
	evfs_meta_lock(engine->meta);
	r = evfs_content_wanted(engine->content, fetch->cursor,
				EVFS_FETCH_JOBS - fetch->n_jobs, each_wanted,
				fetch, &err);
	evfs_meta_unlock(engine->meta);
	if (r < 0)
		evfs_log(EVFS_LOG_ERROR, "wanted content: err=%s", err.msg);
	fetch->scan = r == 0 && fetch->cursor != before;
}

static bool has_sessions(const struct evfs_engine *engine)
{
	const struct evfs_peer *peer;

	for (peer = engine->peers; peer != NULL; peer = peer->next)
		if (peer->session != NULL)
			return true;
	return false;
}

static void check_answers(struct evfs_engine *engine, uint64_t now_ns,
			  uint64_t *next_ns)
{
	struct evfs_fetch_job *job;
	struct evfs_session *s;

	for (job = engine->fetch.jobs; job != NULL; job = job->next)
		if (job->manifest_from != NULL)
			job->manifest_from->waits = true;
	for (s = engine->sessions; s != NULL; s = s->next) {
		bool waits = s->waits || s->asked_bytes > 0;

		s->waits = false;
		if (!waits || s->state != EVFS_SESSION_ACTIVE)
			continue;
		if (now_ns >= s->answer_ns + EVFS_FETCH_PATIENCE_NS)
			give_up_session(engine, s);
		else
			evfs_engine_lower(
				next_ns, s->answer_ns + EVFS_FETCH_PATIENCE_NS);
	}
}

void evfs_fetch_run(struct evfs_engine *engine, uint64_t now_ns,
		    uint64_t *next_ns)
{
	struct evfs_fetch *fetch = &engine->fetch;
	struct evfs_fetch_job *job;
	struct evfs_session *s;

	check_answers(engine, now_ns, next_ns);
	if (now_ns < fetch->rest_ns) {
		evfs_engine_lower(next_ns, fetch->rest_ns);
		return;
	}
	do {
		if (has_sessions(engine))
			scan(engine, now_ns, next_ns);
		for (job = fetch->jobs; job != NULL; job = job->next)
			if (!job->done)
				run_job(engine, job, now_ns, next_ns);
		reap_jobs(fetch);
	} while (fetch->scan && fetch->n_jobs < EVFS_FETCH_JOBS &&
		 has_sessions(engine));
	for (s = engine->sessions; s != NULL; s = s->next)
		if (s->state == EVFS_SESSION_ACTIVE)
			flush_asks(engine, s);
}

void evfs_fetch_kick(struct evfs_engine *engine, bool all)
{
	engine->fetch.scan = true;
	if (all)
		engine->fetch.cursor = 0;
}

void evfs_fetch_peer_news(struct evfs_engine *engine, uint64_t node)
{
	struct evfs_fetch_job *job;
	size_t i;

	for (job = engine->fetch.jobs; job != NULL; job = job->next)
		for (i = 0; i < job->n_no; i++)
			if (job->no[i] == node)
				job->no[i--] = job->no[--job->n_no];
	evfs_fetch_kick(engine, true);
}

void evfs_fetch_urgent(struct evfs_engine *engine, const evfs_hash *name,
		       uint64_t size)
{
	struct evfs_fetch *fetch = &engine->fetch;
	struct evfs_fetch_job **at = &fetch->jobs;
	struct evfs_fetch_job *job = find_job(fetch, name);

	if (job == NULL) {
		job = add_job(fetch, name, size, true);
	} else {
		while (*at != job)
			at = &(*at)->next;
		*at = job->next;
		job->next = fetch->jobs;
		fetch->jobs = job;
	}
	if (job == NULL) {
		evfs_content_give_up(engine->content, name);
		return;
	}
	if (!job->urgent)
		job->urgent_ns = evfs_engine_now(engine);
	job->urgent = true;
}

/* ---- answers ---- */

int evfs_fetch_chunk(struct evfs_engine *engine, struct evfs_session *session,
		     Evfs__Wire__Chunk *chunk, struct evfs_err *err)
{
	evfs_hash hash = evfs_wire_hash(&chunk->hash, 0);
	struct evfs_fetch_flight *flight = find_flight(&engine->fetch, &hash);
	struct evfs_fetch_chunk arrived = {
		.hash = hash,
		.node = session->node,
		.len = chunk->data.len,
	};

	if (flight == NULL || flight->session != session ||
	    flight->storing != 0)
		return 0; /* given up meanwhile */
	session->answer_ns = evfs_engine_now(engine);
	flight->storing = arrived.ticket = ++engine->fetch.last_ticket;
	arrived.of_size = flight->job->size;
	arrived.data = evfs_steal(chunk->data.data);
	chunk->data.len = 0;
	return evfs_fetch_store(engine, &arrived, err);
}

void evfs_fetch_stored(struct evfs_engine *engine,
		       const struct evfs_fetch_chunk *chunk,
		       const struct evfs_err *why)
{
	struct evfs_fetch_flight *flight =
		find_flight(&engine->fetch, &chunk->hash);
	struct evfs_fetch_job *job = NULL;

	/* Else the session is over, and maybe others were asked. */
	if (flight != NULL && flight->storing == chunk->ticket) {
		flight->session->answer_ns = evfs_engine_now(engine);
		job = flight->job;
		end_flight(&engine->fetch, flight);
	}
	if (why->code == EVFS_ECORRUPT) {
		engine->chunks_corrupt++;
		evfs_log(EVFS_LOG_WARN,
			 "damaged chunk refused: peer=%016llx "
			 "err=%s",
			 (unsigned long long)chunk->node, why->msg);
		if (job != NULL)
			note_no(job, chunk->node);
	} else if (why->code != 0) {
		evfs_fetch_rest(engine, why);
	}
}

int evfs_fetch_no_chunk(struct evfs_engine *engine,
			struct evfs_session *session,
			const Evfs__Wire__NoChunk *no_chunk,
			struct evfs_err *err)
{
	size_t i, n = no_chunk->hashes.len / EVFS_HASH_SIZE;

	(void)err;
	for (i = 0; i < n; i++) {
		evfs_hash hash = evfs_wire_hash(&no_chunk->hashes, i);
		struct evfs_fetch_flight *flight =
			find_flight(&engine->fetch, &hash);

		if (flight == NULL || flight->session != session)
			continue;
		session->answer_ns = evfs_engine_now(engine);
		note_no(flight->job, session->node);
		end_flight(&engine->fetch, flight);
	}
	return 0;
}

/* A manifest that is whole. */
static void take_manifest(struct evfs_engine *engine,
			  struct evfs_fetch_job *job, uint64_t node)
{
	struct evfs_err why = { 0 };
	int r;

	/* none: a content of one chunk, which has its name */
	job->single = job->manifest.len == 0 && job->size <= EVFS_CHUNK_MAX;
	evfs_meta_lock_content(engine->meta);
	r = evfs_content_put_manifest(engine->content, &job->name, job->size,
				      job->manifest.data, job->manifest.len,
				      &why);
	evfs_meta_unlock(engine->meta);
	evfs_content_tell_arrived(engine->content);
	evfs_buf_fini(&job->manifest);
	job->manifest = (struct evfs_buf){ 0 };
	if (r == EVFS_ECORRUPT || r == EVFS_EPROTO) {
		engine->chunks_corrupt++;
		evfs_log(EVFS_LOG_WARN,
			 "damaged manifest refused: "
			 "peer=%016llx err=%s",
			 (unsigned long long)node, why.msg);
		note_no(job, node);
	} else if (r < 0) {
		evfs_fetch_rest(engine, &why);
	}
}

int evfs_fetch_manifest(struct evfs_engine *engine,
			struct evfs_session *session,
			const Evfs__Wire__Manifest *manifest,
			struct evfs_err *err)
{
	evfs_hash name = evfs_wire_hash(&manifest->name, 0);
	struct evfs_fetch_job *job = find_job(&engine->fetch, &name);
	uint64_t total_max;

	if (job == NULL || job->manifest_from != session)
		return 0; /* given up meanwhile */
	session->answer_ns = evfs_engine_now(engine);
	total_max = (job->size / EVFS_CHUNK_MIN + 2) * EVFS_MANIFEST_ENTRY_SIZE;
	if (manifest->missing || manifest->total > total_max) {
		note_no(job, session->node);
		job->manifest_from = NULL;
		return 0;
	}
	if (manifest->offset != job->manifest.len)
		return evfs_err_set(err, EVFS_EPROTO,
				    "manifest: piece at "
				    "%llu after %zu bytes",
				    (unsigned long long)manifest->offset,
				    job->manifest.len);
	if (manifest->data.len > 0 &&
	    evfs_buf_put(&job->manifest, manifest->data.data,
			 manifest->data.len) < 0)
		return evfs_err_set(err, EVFS_ENOMEM,
				    "manifest: out of memory");
	if (job->manifest.len < manifest->total)
		return 0;
	job->manifest_from = NULL;
	take_manifest(engine, job, session->node);
	return 0;
}

void evfs_fetch_fini(struct evfs_engine *engine)
{
	struct evfs_fetch *fetch = &engine->fetch;
	struct evfs_fetch_flight *flight, *next;
	struct evfs_fetch_job *job;
	size_t i;

	HASH_ITER(hh, fetch->flights, flight, next)
	end_flight(fetch, flight);
	for (job = fetch->jobs; job != NULL; job = job->next)
		job->done = true;
	reap_jobs(fetch);
	for (i = 0; i < fetch->n_puts; i++)
		evfs_content_put_drop(engine->content, fetch->puts[i]);
	evfs_free(fetch->puts);
	fetch->puts = NULL;
	fetch->n_puts = 0;
}
