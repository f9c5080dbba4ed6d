/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What must hold between replicas: at any moment, and after all is healed. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "meta/content.h"
#include "meta/facts.h"
#include "meta/index.h"
#include "tests/lib/refmerkle.h"
#include "tests/lib/refview.h"
#include "tests/sim/sim.h"

static void durable(struct sim_replica *r, struct evfs_context *ret)
{
	if (evfs_meta_durable_context(r->meta, ret) < 0)
		abort();
}

/* ---- contents ---- */

struct reading {
	struct sim_replica *r;
	struct evfs_content_ref *refs; /* owned */
	size_t n, cap;
};

static int each_object(void *arg, const struct evfs_object *object)
{
	struct reading *reading = arg;
	size_t i;

	if (!evfs_object_is_live(object))
		return 0;
	for (i = 0; i < object->n_versions; i++) {
		if (evfs_grow((void **)&reading->refs, reading->n,
			      &reading->cap, sizeof(*reading->refs)) < 0)
			abort();
		reading->refs[reading->n++] = (struct evfs_content_ref){
			.content = object->versions[i].content,
			.size = object->versions[i].size
		};
	}
	return 0;
}

/* The bytes that have this name, made again; of the caller. */
static uint8_t *written(struct sim *sim, const evfs_hash *name,
			size_t *ret_len)
{
	size_t i;

	for (i = 0; i < sim->n_contents; i++)
		if (evfs_hash_equal(&sim->contents[i].name, name))
			return sim_content(sim->contents[i].tag, ret_len);
	sim_fail(sim, "P3 a content that nobody has written");
}

static void read_back(struct sim_replica *r, const struct evfs_content_ref *ref)
{
	struct evfs_content *content = evfs_meta_content(r->meta);
	struct evfs_content_reader *reader;
	struct evfs_err err = { 0 };
	uint8_t *data = evfs_calloc((size_t)ref->size + 1, 1);
	size_t len = 0, n_bytes;
	uint8_t *bytes = written(r->sim, &ref->content, &n_bytes);

	if (data == NULL)
		abort();
	sim_must(r->sim,
		 evfs_content_open(content, &ref->content, ref->size, &reader,
				   &err),
		 &err, "P3 opening a content");
	sim_must(r->sim,
		 evfs_content_read(reader, data, (size_t)ref->size, 0, &len,
				   &err),
		 &err, "P3 reading a content");
	evfs_content_close(reader);
	if (len != ref->size || len != n_bytes)
		sim_fail(r->sim, "P3 %s: a content has %zu of %llu bytes",
			 r->name, len, (unsigned long long)ref->size);
	if (memcmp(data, bytes, len) != 0)
		sim_fail(r->sim, "P3 %s: a content is not what was written",
			 r->name);
	evfs_free(bytes);
	evfs_free(data);
}

/* Every content of every live file is here and right, but what was lost. */
static void check_contents(struct sim_replica *r)
{
	struct reading reading = { .r = r };
	struct evfs_err err = { 0 };
	size_t i;
	int rc;

	evfs_meta_lock(r->meta);
	rc = evfs_facts_each(evfs_meta_facts(r->meta), each_object, &reading,
			     &err);
	evfs_meta_unlock(r->meta);
	sim_must(r->sim, rc, &err, "facts");
	for (i = 0; i < reading.n; i++)
		if (!sim_content_may_lack(r->sim, &reading.refs[i].content))
			read_back(r, &reading.refs[i]);
	evfs_free(reading.refs);
}

/* ---- status ---- */

/* Nobody knows of a restore before the replica is met again. */
static bool is_restored(const struct sim_replica *r)
{
	return r->unnoticed || evfs_meta_has_amnesia(r->meta);
}

/* P14: a member that is said to be in sync has all that is here. (What it has
 * done since its last report nobody can know.) */
static void check_status(struct sim_replica *r)
{
	struct evfs_engine_status status;
	struct evfs_context mine = { 0 }, theirs = { 0 };
	struct evfs_err err = { 0 };
	unsigned k;
	size_t i;

	/* first: asking for status may make a store in memory commit */
	durable(r, &mine);
	sim_must(r->sim, evfs_engine_status(r->engine, &status, &err), &err,
		 "status");
	for (i = 0; i < status.n_peers; i++) {
		const struct evfs_peer_status *peer = &status.peers[i];

		for (k = 0; k < r->sim->n; k++)
			if (r->sim->replicas[k].node == peer->member.node)
				break;
		if (k == r->sim->n || r->sim->replicas[k].removed)
			continue; /* it may not know yet */
		durable(&r->sim->replicas[k], &theirs);
		if (peer->in_sync && !evfs_context_contains(&theirs, &mine) &&
		    !is_restored(&r->sim->replicas[k]))
			sim_fail(r->sim, "P14 %s says that %c is in sync",
				 r->name, 'A' + k);
		if (status.converged && !peer->in_sync)
			sim_fail(r->sim,
				 "P14 %s says converged, and %c is not "
				 "in sync",
				 r->name, 'A' + k);
		/* exact reports may lag; what they miss may not */
		if (peer->in_sync && peer->behind_changes > 0)
			sim_fail(r->sim, "P14 %s: %c in sync, and behind",
				 r->name, 'A' + k);
		if (peer->behind_changes == 0 &&
		    !is_restored(&r->sim->replicas[k]) &&
		    !evfs_context_contains(&theirs, &mine) &&
		    evfs_context_get(&theirs, evfs_meta_actor(r->meta)) <
			    r->op_counter &&
		    evfs_context_get(&mine, evfs_meta_actor(r->meta)) >=
			    r->op_counter)
			sim_fail(r->sim,
				 "P14 %s: %c lacks changes, and is "
				 "not behind",
				 r->name, 'A' + k);
	}
	if (status.converged && status.wanted_contents > 0)
		sim_fail(r->sim, "P14 %s says converged, and lacks content",
			 r->name);
	evfs_free(status.peers);
	evfs_context_fini(&mine);
	evfs_context_fini(&theirs);
}

/* P9: nobody knows more of an actor than the actor has on disk. */
static void check_durable_first(struct sim *sim, struct sim_replica *r)
{
	struct evfs_context mine = { 0 }, theirs = { 0 };
	unsigned k;

	durable(r, &mine);
	for (k = 0; k < sim->n; k++) {
		struct sim_replica *other = &sim->replicas[k];
		evfs_actor actor = evfs_meta_actor(r->meta);

		evfs_meta_lock(other->meta);
		if (evfs_context_copy(&theirs, evfs_meta_context(other->meta)) <
		    0)
			abort();
		evfs_meta_unlock(other->meta);
		if (other != r && evfs_context_get(&theirs, actor) >
					  evfs_context_get(&mine, actor))
			sim_fail(sim, "P9 %s knows %llu of %s, which has %llu",
				 other->name,
				 (unsigned long long)evfs_context_get(&theirs,
								      actor),
				 r->name,
				 (unsigned long long)evfs_context_get(&mine,
								      actor));
	}
	evfs_context_fini(&mine);
	evfs_context_fini(&theirs);
}

void sim_check_now(struct sim *sim)
{
	unsigned i;

	/* these two cost most: in turn */
	if (sim->checks++ % 8 == 0)
		sim_check_laws(sim);
	sim_check_shape(&sim->replicas[sim->checks % sim->n]);

	for (i = 0; i < sim->n; i++) {
		struct sim_replica *r = &sim->replicas[i];

		/* what one has that stays out counts for nothing */
		if (!sim->quiet || !r->removed)
			sim_ledger_check(r);
		sim_check_handles(r);
		if (!r->unnoticed)
			check_durable_first(sim, r);
		if (r->engine != NULL && !r->removed)
			check_status(r);
	}
}

/* ---- after healing ---- */

/* Nothing lacks here but contents that nobody has any more. */
static bool lacks_only_lost(struct sim_replica *r, bool *ret_wants)
{
	struct evfs_engine_status status;
	struct evfs_err err = { 0 };
	bool only_lost, good;
	size_t i;

	sim_must(r->sim, evfs_engine_status(r->engine, &status, &err), &err,
		 "status");
	*ret_wants |= sim_contents_wanted(r, &only_lost);
	good = only_lost && !status.auditing;
	for (i = 0; i < status.n_peers; i++)
		good = good && status.peers[i].connected &&
		       !status.peers[i].auditing &&
		       status.peers[i].behind_changes == 0 &&
		       status.peers[i].missing_changes == 0;
	evfs_free(status.peers);
	return good;
}

/* Status must not say converged where content lacks (P14): then what it would
 * say without that. */
static bool is_converged_but_for_lost(struct sim *sim)
{
	struct sim_replica *first = sim_first_member(sim);
	evfs_hash root = evfs_meta_durable_root(first->meta);
	struct evfs_context ours = { 0 }, theirs = { 0 };
	bool good = true, wants = false;
	unsigned i;

	durable(first, &ours);
	for (i = 0; i < sim->n && good; i++) {
		struct sim_replica *r = &sim->replicas[i];
		evfs_hash other = evfs_meta_durable_root(r->meta);

		if (r->removed)
			continue;
		durable(r, &theirs);
		good = evfs_context_equal(&ours, &theirs) &&
		       evfs_hash_equal(&root, &other) &&
		       lacks_only_lost(r, &wants);
	}
	evfs_context_fini(&ours);
	evfs_context_fini(&theirs);
	return good && wants;
}

bool sim_is_converged(struct sim *sim)
{
	struct evfs_engine_status status;
	struct evfs_err err = { 0 };
	bool converged = true;
	unsigned i;

	for (i = 0; converged && i < sim->n; i++) {
		struct sim_replica *r = &sim->replicas[i];

		if (r->removed)
			continue;
		sim_must(sim, evfs_engine_status(r->engine, &status, &err),
			 &err, "status");
		converged = status.converged;
		evfs_free(status.peers);
	}
	return converged || is_converged_but_for_lost(sim);
}

static void explain(struct sim *sim)
{
	struct evfs_engine_status status;
	struct evfs_err err = { 0 };
	unsigned i;
	size_t k;

	for (i = 0; i < sim->n; i++) {
		struct sim_replica *r = &sim->replicas[i];

		if (r->removed)
			continue;
		sim_must(sim, evfs_engine_status(r->engine, &status, &err),
			 &err, "status");
		for (k = 0; k < status.n_peers; k++) {
			const struct evfs_peer_status *p = &status.peers[k];

			if (!p->in_sync)
				sim_trace(
					sim,
					"%s: %s connected %d behind "
					"%llu missing %llu wanted %llu "
					"state %d err '%s'",
					r->name, p->member.name, p->connected,
					(unsigned long long)p->behind_changes,
					(unsigned long long)p->missing_changes,
					(unsigned long long)
						status.wanted_contents,
					(int)p->state, p->last_error);
		}
		evfs_free(status.peers);
	}
}

static void dump(struct sim_replica *r, bool view, struct evfs_buf *ret)
{
	struct evfs_err err = { 0 };
	int rc;

	evfs_buf_clear(ret);
	if (!view) {
		rc = evfs_meta_dump(r->meta, false, ret, &err);
	} else {
		evfs_meta_lock(r->meta);
		rc = evfs_view_dump(r->meta, ret, &err);
		evfs_meta_unlock(r->meta);
	}
	sim_must(r->sim, rc, &err, "dump");
}

/* All replicas say what the first says. */
static void compare(struct sim *sim, bool view)
{
	struct evfs_buf first = { 0 }, other = { 0 };
	const struct sim_replica *a = sim_first_member(sim);
	unsigned i;

	dump(sim_first_member(sim), view, &first);
	for (i = a->index + 1; i < sim->n; i++) {
		struct sim_replica *r = &sim->replicas[i];

		if (r->removed)
			continue;
		dump(r, view, &other);
		if (first.len != other.len ||
		    (other.len > 0 &&
		     memcmp(first.data, other.data, first.len) != 0))
			sim_fail(sim,
				 "P1 %s and %s are in sync, and differ:\n"
				 "--- %s\n%.*s--- %s\n%.*s",
				 r->name, a->name, a->name, (int)first.len,
				 first.data, r->name, (int)other.len,
				 other.data);
	}
	evfs_buf_fini(&first);
	evfs_buf_fini(&other);
}

/* P6: what is kept up to date is what the rules give, written down plainly. */
static void check_reference(struct sim_replica *r)
{
	char *differs;

	evfs_meta_lock(r->meta);
	differs = refview_differs(r->meta);
	evfs_meta_unlock(r->meta);
	if (differs != NULL)
		sim_fail(r->sim, "P6 %s: %s", r->name, differs);
}

/* P6: what is derived is what comes out from scratch. */
static void check_rebuild(struct sim_replica *r)
{
	struct evfs_buf before = { 0 }, after = { 0 };
	struct evfs_err err = { 0 };
	evfs_hash root;
	int rc;

	dump(r, true, &before);
	evfs_meta_lock(r->meta);
	root = *evfs_facts_root(evfs_meta_facts(r->meta));
	rc = evfs_index_rebuild(r->meta, &err);
	if (rc == 0 &&
	    !evfs_hash_equal(&root, evfs_facts_root(evfs_meta_facts(r->meta))))
		sim_fail(r->sim, "P6 %s: another root from scratch", r->name);
	evfs_meta_unlock(r->meta);
	sim_must(r->sim, rc, &err, "rebuild");
	dump(r, true, &after);
	if (before.len != after.len ||
	    memcmp(before.data, after.data, before.len) != 0)
		sim_fail(r->sim,
			 "P6 %s: another tree from scratch\n"
			 "--- was\n%.*s--- from scratch\n%.*s",
			 r->name, (int)before.len, before.data, (int)after.len,
			 after.data);
	evfs_buf_fini(&before);
	evfs_buf_fini(&after);
}

/* P13: replication makes no changes of its own. */
static void check_counter(struct sim_replica *r)
{
	uint64_t counter;

	evfs_meta_lock(r->meta);
	counter = evfs_context_get(evfs_meta_context(r->meta),
				   evfs_meta_actor(r->meta));
	evfs_meta_unlock(r->meta);
	if (counter != r->counter)
		sim_fail(r->sim,
			 "P13 %s is at change %llu; its user has made "
			 "%llu",
			 r->name, (unsigned long long)counter,
			 (unsigned long long)r->counter);
}

/* The alarm is raised where contexts lie, and nowhere else. */
static void check_alarm(struct sim_replica *r)
{
	struct evfs_engine_status status;
	struct evfs_err err = { 0 };

	sim_must(r->sim, evfs_engine_status(r->engine, &status, &err), &err,
		 "status");
	evfs_free(status.peers);
	if (status.audit.diverged > 0 ||
	    (!r->sim->forged && status.audit.divergences > 0))
		sim_fail(r->sim, "P14 %s says DIVERGED without reason",
			 r->name);
}

static void check_merkle(struct sim_replica *r)
{
	struct evfs_buf why = { 0 };

	if (!refmerkle_check(r->meta, &why))
		sim_fail(r->sim, "P7 %s: the Merkle tree is not that of the "
			 "facts: %s", r->name, (const char *)why.data);
	evfs_buf_fini(&why);
}

void sim_check_converged(struct sim *sim)
{
	struct sim_replica *first = sim_first_member(sim);
	evfs_hash root = evfs_meta_durable_root(first->meta);
	unsigned i;

	if (!sim_is_converged(sim)) {
		explain(sim);
		sim_fail(sim, "P13 not converged after healing");
	}
	sim_check_now(sim);
	/* Audits repair what can be seen; of an object that is dead
	 * everywhere, replicas may know more or less. */
	if (!sim->forged)
		compare(sim, false);
	compare(sim, true);
	for (i = 0; i < sim->n; i++) {
		struct sim_replica *r = &sim->replicas[i];
		evfs_hash other = evfs_meta_durable_root(r->meta);

		if (r->removed)
			continue;
		if (!evfs_hash_equal(&root, &other))
			sim_fail(sim, "P7 %s and %s have other roots",
				 r->name, first->name);
		check_counter(r);
		check_contents(r);
		check_merkle(r);
		check_alarm(r);
		sim_ledger_check_final(r);
	}
	check_reference(&sim->replicas[sim_below(sim, sim->n)]);
	check_rebuild(&sim->replicas[sim_below(sim, sim->n)]);
}
