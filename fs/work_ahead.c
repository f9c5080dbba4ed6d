/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The thread behind the writers, and its helpers.
 *
 * It takes a piece of a file, reads, cuts and hashes it without the lock, and
 * keeps those chunks that no writer has touched meanwhile. A writer tells of a
 * change when it is made: chunks that were hashed before are dropped then,
 * those being hashed when they are done. A chunk ends where it ends, whatever
 * follows, once EVFS_CHUNK_MAX bytes are there.
 *
 * Where chunks end has to be found one after the other, which is quick; hashing
 * them takes longer. So each is given to the crew as soon as it is cut: helpers
 * on other processors, and the thread itself when it has cut the piece. */
#include "fs/work_ahead.h"

#include <fcntl.h>
#include <unistd.h>

#include "base/behind.h"
#include "base/io.h"
#include "base/mem.h"
#include "base/thread.h"
#include "meta/chunker.h"

#define PIECE ((size_t)4 * EVFS_CHUNK_MAX)
#define CUTS_MAX (PIECE / EVFS_CHUNK_MIN)

/* What the crew works on; under crew_lock, but for the bytes and for a cut's
 * hash, which belongs to whoever has taken the cut. */
struct evfs_ahead_piece {
	uint8_t *bytes;                  /* owned; PIECE of them */
	size_t starts[CUTS_MAX];         /* of the cuts, in them */
	struct evfs_cut cuts[CUTS_MAX];
	size_t n;                        /* cut so far */
	size_t taken;                    /* of them, by somebody who hashes */
	size_t hashed;                   /* of those */
	bool closed;                     /* no more are cut */
};

struct evfs_ahead {
	struct evfs_aheads *aheads;      /* borrowed */
	struct evfs_ahead *next, *prev;  /* in the ring */
	int fd;                          /* owned; constant */
	uint64_t front;                  /* bytes before it are there */
	uint64_t done;                   /* and before it are cut */
	uint64_t touched;                /* first change since the piece under
	                                  * way was begun */
	struct evfs_cut *cuts;           /* owned; up to done */
	size_t n, cap;                   /* of cuts */
	bool busy;                       /* a piece is under way */
	bool halted;                     /* until the next change */
	bool lost;                       /* a write-behind has failed */
	struct evfs_behind behind;       /* of the thread */
};

/* ---- the ring; locked ---- */

static void ring_add(struct evfs_aheads *aheads, struct evfs_ahead *ahead)
{
	if (!aheads->head) {
		ahead->next = ahead->prev = aheads->head = ahead;
		return;
	}
	ahead->next = aheads->head;
	ahead->prev = aheads->head->prev;
	ahead->prev->next = ahead->next->prev = ahead;
}

static void ring_remove(struct evfs_aheads *aheads, struct evfs_ahead *ahead)
{
	if (aheads->head == ahead)
		aheads->head = ahead->next == ahead ? NULL : ahead->next;
	ahead->next->prev = ahead->prev;
	ahead->prev->next = ahead->next;
}

static bool is_due(const struct evfs_ahead *ahead)
{
	return !ahead->halted && ahead->front - ahead->done > PIECE;
}

/* The next one that has something to do; the others behind it come first after
 * that. */
static struct evfs_ahead *ring_next(struct evfs_aheads *aheads)
{
	struct evfs_ahead *ahead = aheads->head;

	if (!ahead)
		return NULL;
	do {
		if (is_due(ahead)) {
			aheads->head = ahead->next;
			return ahead;
		}
		ahead = ahead->next;
	} while (ahead != aheads->head);
	return NULL;
}

/* ---- the crew ---- */

/* Crew locked, and unlocked in between: hashes the next one. */
static void hash_next(struct evfs_aheads *aheads,
		      struct evfs_ahead_piece *piece)
{
	struct evfs_cut *cut = &piece->cuts[piece->taken];
	const uint8_t *bytes = piece->bytes + piece->starts[piece->taken];

	piece->taken++;
	(void)pthread_mutex_unlock(&aheads->crew_lock);
	cut->hash = evfs_hash_content(bytes, cut->len);
	(void)pthread_mutex_lock(&aheads->crew_lock);
	piece->hashed++;
	if (piece->closed && piece->hashed == piece->n)
		(void)pthread_cond_signal(&aheads->crew_done);
}

static void *helper_main(void *arg)
{
	struct evfs_aheads *aheads = arg;

	(void)pthread_mutex_lock(&aheads->crew_lock);
	while (!aheads->crew_stop) {
		struct evfs_ahead_piece *piece = aheads->piece;

		if (piece && piece->taken < piece->n)
			hash_next(aheads, piece);
		else
			(void)pthread_cond_wait(&aheads->crew_come,
						&aheads->crew_lock);
	}
	(void)pthread_mutex_unlock(&aheads->crew_lock);
	return NULL;
}

static void piece_begin(struct evfs_aheads *aheads,
			struct evfs_ahead_piece *piece)
{
	(void)pthread_mutex_lock(&aheads->crew_lock);
	piece->n = piece->taken = piece->hashed = 0;
	piece->closed = false;
	aheads->piece = piece;
	(void)pthread_mutex_unlock(&aheads->crew_lock);
}

static void piece_add(struct evfs_aheads *aheads,
		      struct evfs_ahead_piece *piece, size_t start, size_t len)
{
	(void)pthread_mutex_lock(&aheads->crew_lock);
	piece->starts[piece->n] = start;
	piece->cuts[piece->n].len = (uint32_t)len;
	piece->n++;
	(void)pthread_cond_signal(&aheads->crew_come);
	(void)pthread_mutex_unlock(&aheads->crew_lock);
}

/* Helps with what is left, and waits until all are hashed. */
static void piece_end(struct evfs_aheads *aheads,
		      struct evfs_ahead_piece *piece)
{
	(void)pthread_mutex_lock(&aheads->crew_lock);
	piece->closed = true;
	while (piece->taken < piece->n)
		hash_next(aheads, piece);
	while (piece->hashed < piece->n)
		(void)pthread_cond_wait(&aheads->crew_done,
					&aheads->crew_lock);
	aheads->piece = NULL;
	(void)pthread_mutex_unlock(&aheads->crew_lock);
}

/* ---- pieces ---- */

/* Cuts the piece at `from`; how many chunks. Not locked. */
static size_t cut_piece(struct evfs_ahead *ahead, uint64_t from,
			struct evfs_ahead_piece *piece)
{
	size_t at = 0;

	if (evfs_io_pread(ahead->fd, piece->bytes, PIECE, from, NULL) != 0)
		return 0; /* truncated meanwhile, or for the sealing to see */
	piece_begin(ahead->aheads, piece);
	while (PIECE - at >= EVFS_CHUNK_MAX) {
		size_t len = evfs_chunker_cut(piece->bytes + at, PIECE - at);

		piece_add(ahead->aheads, piece, at, len);
		at += len;
	}
	piece_end(ahead->aheads, piece);
	return piece->n;
}

/* Locked: keeps what is still true. */
static void keep(struct evfs_ahead *ahead, const struct evfs_cut *cuts,
		 size_t n)
{
	for (size_t i = 0; i < n; i++) {
		void *items = ahead->cuts;

		if (ahead->done + cuts[i].len > ahead->touched ||
		    evfs_grow(&items, ahead->n, &ahead->cap,
			      sizeof(*ahead->cuts)) != 0)
			return;
		ahead->cuts = items;
		ahead->cuts[ahead->n++] = cuts[i];
		ahead->done += cuts[i].len;
	}
}

/* Locked, and unlocked in between. */
static void work(struct evfs_aheads *aheads, struct evfs_ahead *ahead,
		 struct evfs_ahead_piece *piece)
{
	uint64_t from = ahead->done;
	bool good = !ahead->lost;
	size_t n;

	ahead->busy = true;
	ahead->touched = UINT64_MAX;
	(void)pthread_mutex_unlock(&aheads->lock);
	n = cut_piece(ahead, from, piece);
	if (good && from >= EVFS_BEHIND_MIN)
		good = evfs_behind(ahead->fd, &ahead->behind, from);
	(void)pthread_mutex_lock(&aheads->lock);
	/* A change before `from` has moved `done` back: start again there. */
	if (ahead->done == from)
		keep(ahead, piece->cuts, n);
	ahead->lost = !good;
	ahead->halted = ahead->halted || n == 0;
	ahead->busy = false;
	(void)pthread_cond_broadcast(&aheads->idle);
}

static struct evfs_ahead_piece *piece_new(void)
{
	struct evfs_ahead_piece *piece = evfs_calloc(1, sizeof(*piece));

	if (!piece)
		return NULL;
	piece->bytes = evfs_realloc_array(NULL, PIECE, 1);
	if (!piece->bytes)
		evfs_free(evfs_steal(piece));
	return piece;
}

static void piece_free(struct evfs_ahead_piece *piece)
{
	if (piece)
		evfs_free(piece->bytes);
	evfs_free(piece);
}

static void *aheads_main(void *arg)
{
	struct evfs_aheads *aheads = arg;
	struct evfs_ahead *ahead;

	(void)pthread_mutex_lock(&aheads->lock);
	while (!aheads->stop) {
		ahead = ring_next(aheads);
		if (ahead)
			work(aheads, ahead, aheads->room);
		else
			(void)pthread_cond_wait(&aheads->come, &aheads->lock);
	}
	(void)pthread_mutex_unlock(&aheads->lock);
	return NULL;
}

/* ---- life ---- */

void evfs_aheads_init(struct evfs_aheads *aheads)
{
	*aheads = (struct evfs_aheads){ 0 };
	(void)pthread_mutex_init(&aheads->lock, NULL);
	(void)pthread_cond_init(&aheads->come, NULL);
	(void)pthread_cond_init(&aheads->idle, NULL);
	(void)pthread_mutex_init(&aheads->crew_lock, NULL);
	(void)pthread_cond_init(&aheads->crew_come, NULL);
	(void)pthread_cond_init(&aheads->crew_done, NULL);
}

void evfs_aheads_fini(struct evfs_aheads *aheads)
{
	(void)pthread_mutex_lock(&aheads->lock);
	aheads->stop = true;
	(void)pthread_cond_broadcast(&aheads->come);
	(void)pthread_mutex_unlock(&aheads->lock);
	if (aheads->runs)
		(void)pthread_join(aheads->thread, NULL);
	(void)pthread_mutex_lock(&aheads->crew_lock);
	aheads->crew_stop = true;
	(void)pthread_cond_broadcast(&aheads->crew_come);
	(void)pthread_mutex_unlock(&aheads->crew_lock);
	while (aheads->n_helpers > 0)
		(void)pthread_join(aheads->helpers[--aheads->n_helpers], NULL);
	piece_free(evfs_steal(aheads->room));
	(void)pthread_cond_destroy(&aheads->crew_done);
	(void)pthread_cond_destroy(&aheads->crew_come);
	(void)pthread_mutex_destroy(&aheads->crew_lock);
	(void)pthread_cond_destroy(&aheads->idle);
	(void)pthread_cond_destroy(&aheads->come);
	(void)pthread_mutex_destroy(&aheads->lock);
}

/* Locked: not before there is work, for a daemon that goes to the background
 * takes no threads along. */
static bool threads_start(struct evfs_aheads *aheads)
{
	long n = sysconf(_SC_NPROCESSORS_ONLN);

	if (aheads->runs)
		return true;
	if (!aheads->room)
		aheads->room = piece_new();
	if (!aheads->room)
		return false;
	aheads->runs = evfs_thread_start(&aheads->thread, aheads_main, aheads,
					 "hashing ahead", NULL) == 0;
	while (aheads->runs && n-- > 1 &&
	       aheads->n_helpers < EVFS_AHEAD_HELPERS_MAX &&
	       evfs_thread_start(&aheads->helpers[aheads->n_helpers],
				 helper_main, aheads, "helper", NULL) == 0)
		aheads->n_helpers++; /* without them it takes longer */
	return aheads->runs;
}

struct evfs_ahead *evfs_ahead_new(struct evfs_aheads *aheads, int fd)
{
	struct evfs_ahead *ahead = evfs_calloc(1, sizeof(*ahead));

	if (!ahead)
		return NULL;
	ahead->aheads = aheads;
	ahead->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	(void)pthread_mutex_lock(&aheads->lock);
	if (ahead->fd >= 0 && threads_start(aheads)) {
		ring_add(aheads, ahead);
		(void)pthread_mutex_unlock(&aheads->lock);
		return ahead;
	}
	(void)pthread_mutex_unlock(&aheads->lock);
	if (ahead->fd >= 0)
		(void)close(ahead->fd);
	evfs_free(ahead);
	return NULL;
}

static void wait_idle(struct evfs_ahead *ahead)
{
	while (ahead->busy)
		(void)pthread_cond_wait(&ahead->aheads->idle,
					&ahead->aheads->lock);
}

void evfs_ahead_free(struct evfs_ahead *ahead)
{
	struct evfs_aheads *aheads;

	if (!ahead)
		return;
	aheads = ahead->aheads;
	(void)pthread_mutex_lock(&aheads->lock);
	ahead->halted = true;
	wait_idle(ahead);
	ring_remove(aheads, ahead);
	(void)pthread_mutex_unlock(&aheads->lock);
	(void)close(ahead->fd);
	evfs_free(ahead->cuts);
	evfs_free(ahead);
}

/* ---- the writer's side ---- */

void evfs_ahead_changed(struct evfs_ahead *ahead, uint64_t start,
			uint64_t front)
{
	struct evfs_aheads *aheads = ahead->aheads;

	(void)pthread_mutex_lock(&aheads->lock);
	if (start < ahead->touched)
		ahead->touched = start;
	if (start > front)
		start = front;
	while (ahead->done > start)
		ahead->done -= ahead->cuts[--ahead->n].len;
	ahead->front = front;
	ahead->halted = false;
	if (is_due(ahead))
		(void)pthread_cond_signal(&aheads->come);
	(void)pthread_mutex_unlock(&aheads->lock);
}

uint64_t evfs_ahead_left(struct evfs_ahead *ahead)
{
	uint64_t left;

	(void)pthread_mutex_lock(&ahead->aheads->lock);
	left = ahead->lost ? 0 : ahead->front - ahead->done;
	(void)pthread_mutex_unlock(&ahead->aheads->lock);
	return left;
}

void evfs_ahead_settle(struct evfs_ahead *ahead)
{
	(void)pthread_mutex_lock(&ahead->aheads->lock);
	while (is_due(ahead))
		(void)pthread_cond_wait(&ahead->aheads->idle,
					&ahead->aheads->lock);
	(void)pthread_mutex_unlock(&ahead->aheads->lock);
}

bool evfs_ahead_get(struct evfs_ahead *ahead, const struct evfs_cut **ret,
		    size_t *ret_n)
{
	bool good;

	(void)pthread_mutex_lock(&ahead->aheads->lock);
	ahead->halted = true;
	wait_idle(ahead);
	*ret = ahead->cuts;
	*ret_n = ahead->n;
	good = !ahead->lost;
	(void)pthread_mutex_unlock(&ahead->aheads->lock);
	return good;
}
