/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The objects of an audit: what differs goes to the member in batches of its
 * own, beside the streams, and what comes is joined by its rows. */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "net/audit_priv.h"

/* ---- out ---- */

struct batch {
	struct evfs_object **objects; /* owned */
	size_t n, cap;
	size_t bytes; /* of their rows */
};

static void batch_fini(struct batch *batch)
{
	size_t i;

	for (i = 0; i < batch->n; i++)
		evfs_object_free(batch->objects[i]);
	evfs_free(batch->objects);
}

static bool batch_has(const struct batch *batch, evfs_ino ino)
{
	size_t i;

	for (i = 0; i < batch->n; i++)
		if (evfs_dot_equal(batch->objects[i]->ino, ino))
			return true;
	return false;
}

/* What the member's context does not cover is on its way to it, and no
 * difference. */
static int batch_add(struct batch *batch, struct evfs_merkle_view *view,
		     const struct evfs_context *theirs, evfs_ino ino,
		     struct evfs_err *err)
{
	struct evfs_object *object;
	size_t len = 0;
	int r = evfs_merkle_object(view, ino, &object, &len, err);

	if (r < 0 || object == NULL)
		return r;
	if (!evfs_object_log_covered(object, theirs)) {
		evfs_object_free(object);
		return 0;
	}
	if (evfs_grow((void **)&batch->objects, batch->n, &batch->cap,
		      sizeof(*batch->objects)) < 0) {
		evfs_object_free(object);
		return evfs_err_set(err, EVFS_ENOMEM, "audit: out of memory");
	}
	batch->objects[batch->n++] = object;
	batch->bytes += len;
	return 0;
}

/* The others of its transactions: they travel together. */
static int add_tied(struct batch *batch, struct evfs_merkle_view *view,
		    const struct evfs_context *theirs,
		    const struct evfs_object *object, struct evfs_err *err)
{
	size_t i, k;
	int r = 0;

	for (i = 0; i < object->n_ties; i++)
		for (k = 0; k < object->ties[i].n && r == 0; k++) {
			evfs_ino ino = object->ties[i].ends[k].ino;

			if (batch->n < 2 * EVFS_AUDIT_BATCH_OBJECTS &&
			    !batch_has(batch, ino))
				r = batch_add(batch, view, theirs, ino, err);
		}
	return r;
}

static int fill(struct evfs_engine *engine, struct evfs_session *session,
		struct batch *batch, bool answer, struct evfs_err *err)
{
	const struct evfs_context *theirs = &session->peer->report.context;
	struct evfs_audits *audits = session->audits;
	struct evfs_merkle_view *view;
	size_t own, i;
	int r = evfs_merkle_open(engine->meta, &view, err);

	if (r < 0)
		return r;
	while (r == 0 && audits->at < audits->n &&
	       audits->sends[audits->at].answer == answer &&
	       batch->n < EVFS_AUDIT_BATCH_OBJECTS &&
	       batch->bytes < EVFS_AUDIT_BATCH_BYTES)
		r = batch_add(batch, view, theirs,
			      audits->sends[audits->at++].ino, err);
	own = batch->n;
	for (i = 0; r == 0 && i < own; i++)
		r = add_tied(batch, view, theirs, batch->objects[i], err);
	evfs_merkle_close(view);
	return r;
}

int evfs_audit_send_objects(struct evfs_engine *engine,
			    struct evfs_session *session, bool *ret_more,
			    struct evfs_err *err)
{
	struct evfs_audits *audits = session->audits;
	struct batch batch = { 0 };
	bool answer;
	int r;

	if (audits->at == audits->n) {
		audits->at = audits->n = 0;
		*ret_more = false;
		return 0;
	}
	answer = audits->sends[audits->at].answer;
	r = fill(engine, session, &batch, answer, err);
	if (r == 0 && batch.n > 0)
		r = evfs_push_repair(engine, session, batch.objects, batch.n,
				     answer, err);
	batch_fini(&batch);
	*ret_more = true;
	return r;
}

/* ---- in ---- */

static int note_object(struct evfs_buf *out, const struct evfs_object *object)
{
	const struct evfs_link *link =
		object->n_links > 0 ? &object->links[0] : NULL;
	char line[2 * EVFS_NAME_MAX + 64];
	int len, room = (int)sizeof(line);
	size_t i;

	len = snprintf(line, sizeof(line), "object %016llx/%u/%llu ",
		       (unsigned long long)object->ino.actor.node,
		       object->ino.actor.epoch,
		       (unsigned long long)object->ino.counter);
	/* names are bytes; a line is a line */
	for (i = 0; link != NULL && i < link->place.name_len && len < room - 2;
	     i++)
		line[len++] = link->place.name[i] < 0x20 ||
					      link->place.name[i] == 0x7f ?
				      '?' :
				      (char)link->place.name[i];
	line[len++] = '\n';
	return evfs_buf_put(out, line, (size_t)len);
}

int evfs_audit_note(struct evfs_session *session,
		    const struct evfs_incoming *batch, struct evfs_err *err)
{
	struct evfs_audits *audits = session->audits;
	size_t i;
	int r = 0;

	if (audits == NULL)
		return evfs_err_set(err, EVFS_EPROTO,
				    "repair: no audit is under way");
	for (i = 0; i < batch->n_objects && r == 0 &&
		    audits->evidence.len < EVFS_AUDIT_EVIDENCE_MAX;
	     i++)
		r = note_object(&audits->evidence, batch->objects[i]);
	if (r < 0)
		evfs_err_set(err, r, "audit: out of memory");
	return r;
}

int evfs_audit_repaired(struct evfs_engine *engine,
			struct evfs_session *session,
			const struct evfs_repaired *repaired, bool answer,
			struct evfs_err *err)
{
	struct evfs_audits *audits = session->audits;
	size_t i;
	int r = 0;

	engine->auditing.status.objects_repaired += repaired->changed;
	for (i = 0; i < 2; i++)
		audits->sides[i].differing += repaired->changed;
	for (i = 0; i < repaired->n_dead && r == 0 && !answer; i++)
		r = evfs_audit_queue(audits, repaired->dead[i], true, err);
	return r;
}
