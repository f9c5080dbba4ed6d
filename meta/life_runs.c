/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The runs of a replica: each start of its daemon has a random instance, and
 * the store lists which it has seen, with the counter at the beginning of each.
 * Counters alone do not prove that a store is an older copy: it may have made
 * more changes since than it had lost. But a run that a member has met and the
 * store does not know, or that ended before what the member heard of it, is
 * proof. */
#include "base/buf.h"
#include "meta/life_priv.h"
#include "meta/store.h"

#define RUNS_MAX 4096 /* kept; of an older one nothing is concluded */
#define RUN_BYTES 20  /* instance, epoch, counter that it found: what the
                       * run before it had made, without what is skipped */

static int runs_read(struct evfs_meta *meta, struct evfs_buf *ret,
		     struct evfs_err *err)
{
	bool found = false;

	return evfs_state_get_bytes(meta->db, "runs", ret, &found, err);
}

int evfs_life_note_run(struct evfs_meta *meta, uint64_t instance,
		       struct evfs_err *err)
{
	struct evfs_store *store = meta->store;
	struct evfs_buf runs = { 0 };
	uint8_t *row;
	int rc = evfs_meta_begin_write(meta, err);

	if (rc == 0)
		rc = runs_read(meta, &runs, err);
	if (rc == 0 && runs.len >= RUNS_MAX * RUN_BYTES)
		evfs_buf_consume(&runs, RUN_BYTES);
	row = rc == 0 ? evfs_buf_reserve(&runs, RUN_BYTES) : NULL;
	if (rc == 0 && row == NULL)
		rc = evfs_err_set(err, EVFS_ENOMEM, "runs: out of memory");
	if (rc == 0) {
		evfs_be64_write(row, instance);
		evfs_be32_write(row + 8, store->actor.epoch);
		evfs_be64_write(row + 12, store->found != UINT64_MAX ?
						  store->found :
						  store->counter);
		store->found = UINT64_MAX;
		rc = evfs_state_set_bytes(meta->db, "runs", runs.data,
					  runs.len + RUN_BYTES, err);
	}
	evfs_buf_fini(&runs);
	return rc;
}

/* The newest run of this instance; n: none. */
static size_t runs_find(const struct evfs_buf *runs, size_t n,
			uint64_t instance)
{
	size_t i;

	for (i = n; i > 0; i--)
		if (evfs_be64_read(runs->data + (i - 1) * RUN_BYTES) ==
		    instance)
			return i - 1;
	return n;
}

int evfs_life_is_lost(struct evfs_meta *meta, const struct evfs_met *met,
		      bool *ret, struct evfs_err *err)
{
	const struct evfs_store *store = meta->store;
	struct evfs_buf runs = { 0 };
	const uint8_t *next;
	size_t n, i;
	int rc;

	*ret = false;
	/* While audits are due, it is known already. And what a former life
	 * lost, the audits of this one have brought back: a member says so that
	 * has not met this life yet (its Hello was under way), or has forgotten
	 * that it has (it was restored as well). */
	if (met->instance == 0 || store->amnesia ||
	    met->epoch < store->actor.epoch)
		return 0;
	rc = runs_read(meta, &runs, err);
	n = runs.len / RUN_BYTES;
	i = rc == 0 ? runs_find(&runs, n, met->instance) : n;
	if (rc == 0 && i == n) {
		*ret = n > 0 && n < RUNS_MAX;
	} else if (rc == 0 && met->epoch == store->actor.epoch) {
		next = runs.data + (i + 1) * RUN_BYTES;
		*ret = i + 1 < n &&
		       evfs_be32_read(next + 8) == met->epoch &&
		       met->counter > evfs_be64_read(next + 12);
	}
	evfs_buf_fini(&runs);
	return rc;
}
