/* SPDX-License-Identifier: GPL-3.0-or-later */
/* One turn of an audit: comparing what the member has told, and telling. All
 * reading is of one snapshot of what is durable here. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "net/audit_priv.h"

static int no_memory(struct evfs_err *err)
{
	return evfs_err_set(err, EVFS_ENOMEM, "audit: out of memory");
}

/* ---- queues ---- */

static int push(struct evfs_audit_side *side, uint64_t path,
		struct evfs_err *err)
{
	if (side->n >= EVFS_AUDIT_STACK_MAX)
		return 0;
	if (evfs_grow((void **)&side->stack, side->n, &side->cap,
		      sizeof(*side->stack)) < 0)
		return no_memory(err);
	side->stack[side->n++] = path;
	return 0;
}

int evfs_audit_queue(struct evfs_audits *audits, evfs_ino ino, bool answer,
		     struct evfs_err *err)
{
	if (audits->n - audits->at >= EVFS_AUDIT_SENDS_MAX)
		return 0;
	if (evfs_grow((void **)&audits->sends, audits->n, &audits->cap,
		      sizeof(*audits->sends)) < 0)
		return no_memory(err);
	audits->sends[audits->n].ino = ino;
	audits->sends[audits->n++].answer = answer;
	return 0;
}

void evfs_audit_clear_wants(struct evfs_audit_side *side)
{
	while (side->n_wants > 0)
		evfs_free(side->wants[--side->n_wants].hashes);
}

/* ---- lists of objects ---- */

/* An object here, by the hash that stands for it in this audit. */
struct seen {
	uint32_t hash;
	evfs_ino ino;
};

static int seen_cmp(const void *a, const void *b)
{
	const struct seen *x = a, *y = b;

	return x->hash < y->hash ? -1 : x->hash > y->hash;
}

static int hash_cmp(const void *a, const void *b)
{
	const uint32_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

/* Seeded, so that what is taken for equal once by chance is not so again. */
static uint32_t leaf_hash(const struct evfs_merkle_leaf *leaf, uint64_t seed)
{
	uint8_t bytes[8 + EVFS_DOT_BYTES + EVFS_HASH_SIZE];
	evfs_hash hash;

	evfs_be64_write(bytes, seed);
	evfs_dot_write(leaf->ino, bytes + 8);
	memcpy(bytes + 8 + EVFS_DOT_BYTES, leaf->hash.b, EVFS_HASH_SIZE);
	hash = evfs_hash_bytes(bytes, sizeof(bytes));
	return evfs_be32_read(hash.b);
}

/* The objects below a node, sorted by hash; evfs_free. */
static int look(struct evfs_engine *engine, struct evfs_merkle_view *view,
		uint64_t path, uint64_t seed, struct seen **ret, size_t *ret_n,
		struct evfs_err *err)
{
	struct evfs_merkle_leaf *leaves = NULL;
	struct seen *seen;
	size_t n = 0, i;
	int r = evfs_merkle_list(view, path, 2 * EVFS_AUDIT_LIST_MAX,
				 &leaves, &n, err);

	if (r < 0)
		return r;
	seen = evfs_calloc(n, sizeof(*seen));
	for (i = 0; i < n && seen != NULL; i++) {
		seen[i].hash = leaf_hash(&leaves[i], seed);
		seen[i].ino = leaves[i].ino;
	}
	evfs_free(leaves);
	if (seen == NULL)
		return no_memory(err);
	qsort(seen, n, sizeof(*seen), seen_cmp);
	engine->auditing.status.objects_compared += n;
	*ret = seen;
	*ret_n = n;
	return 0;
}

/* The hashes of a validated field, sorted; evfs_free. */
static uint32_t *read_hashes(const ProtobufCBinaryData *bytes, size_t *ret_n)
{
	size_t n = bytes->len / EVFS_WIRE_LEAF_BYTES, i;
	uint32_t *hashes = evfs_calloc(n, sizeof(*hashes));

	for (i = 0; i < n && hashes != NULL; i++)
		hashes[i] = evfs_be32_read(bytes->data +
					   i * EVFS_WIRE_LEAF_BYTES);
	if (hashes != NULL)
		qsort(hashes, n, sizeof(*hashes), hash_cmp);
	*ret_n = n;
	return hashes;
}

/* Objects only here are sent; hashes only there are moved to the front of
 * `theirs`: their number. */
static int differences(struct evfs_audits *audits,
		       struct evfs_audit_side *side, const struct seen *ours,
		       size_t n_ours, uint32_t *theirs, size_t n_theirs,
		       size_t *ret_n, struct evfs_err *err)
{
	size_t i = 0, j = 0, wanted = 0;
	int r = 0;

	while (r == 0 && (i < n_ours || j < n_theirs)) {
		if (j == n_theirs ||
		    (i < n_ours && ours[i].hash < theirs[j])) {
			r = evfs_audit_queue(audits, ours[i++].ino, false, err);
			side->differing++;
		} else if (i == n_ours || theirs[j] < ours[i].hash) {
			theirs[wanted++] = theirs[j++];
			side->differing++;
		} else {
			uint32_t both = theirs[j];

			while (i < n_ours && ours[i].hash == both)
				i++;
			while (j < n_theirs && theirs[j] == both)
				j++;
		}
	}
	*ret_n = wanted;
	return r;
}

static int compare_list(struct evfs_engine *engine, struct evfs_audits *audits,
			struct evfs_audit_side *side,
			struct evfs_merkle_view *view,
			const Evfs__Wire__AuditLeaves *list,
			struct evfs_err *err)
{
	struct evfs_merkle_node node = { 0 };
	struct seen *ours = NULL;
	uint32_t *theirs;
	size_t n_ours = 0, n_theirs, n = 0;
	int r = evfs_merkle_get(view, list->path, &node, err);

	if (r < 0)
		return r;
	/* It has few where here are many: it shall look closer. */
	if (node.count > EVFS_AUDIT_LIST_MAX &&
	    evfs_merkle_level(list->path) < EVFS_MERKLE_LEVELS)
		return push(side, list->path | EVFS_AUDIT_AS_NODES, err);
	theirs = read_hashes(&list->hashes, &n_theirs);
	if (theirs == NULL)
		return no_memory(err);
	r = look(engine, view, list->path, side->seed, &ours, &n_ours, err);
	if (r == 0)
		r = differences(audits, side, ours, n_ours, theirs, n_theirs,
				&n, err);
	evfs_free(ours);
	if (r < 0 || n == 0 || side->n_wants == EVFS_WIRE_AUDIT_PARTS_MAX) {
		evfs_free(theirs);
		return r;
	}
	side->wants[side->n_wants++] =
		(struct evfs_audit_wants){ list->path, theirs, n };
	return 0;
}

static int serve_wants(struct evfs_engine *engine, struct evfs_audits *audits,
		       struct evfs_audit_side *side,
		       struct evfs_merkle_view *view,
		       const Evfs__Wire__AuditLeaves *wants,
		       struct evfs_err *err)
{
	struct seen *ours = NULL;
	size_t n_ours = 0, n, i;
	uint32_t *hashes = read_hashes(&wants->hashes, &n);
	int r = 0;

	if (hashes == NULL)
		return no_memory(err);
	r = look(engine, view, wants->path, side->seed, &ours, &n_ours, err);
	for (i = 0; i < n_ours && r == 0; i++)
		if (bsearch(&ours[i].hash, hashes, n, sizeof(*hashes),
			    hash_cmp) != NULL) {
			r = evfs_audit_queue(audits, ours[i].ino, false, err);
			side->differing++;
		}
	evfs_free(ours);
	evfs_free(hashes);
	return r;
}

/* ---- nodes ---- */

static uint64_t first_bytes(const struct evfs_merkle_node *node)
{
	return evfs_be64_read(node->sum.b);
}

static int compare_nodes(struct evfs_audit_side *side,
			 struct evfs_merkle_view *view,
			 const Evfs__Wire__AuditNodes *nodes,
			 struct evfs_err *err)
{
	struct evfs_merkle_node ours[EVFS_MERKLE_FANOUT];
	const uint8_t *at = nodes->sums.data;
	int r = evfs_merkle_children(view, nodes->path, ours, err);
	uint64_t i;

	for (i = 0; i < EVFS_MERKLE_FANOUT && r == 0; i++) {
		bool theirs = nodes->present.data[i / 8] >> (7 - i % 8) & 1;
		uint64_t sum = 0;

		if (theirs) {
			sum = evfs_be64_read(at);
			at += EVFS_WIRE_SUM_BYTES;
		}
		if (theirs != (ours[i].count != 0) ||
		    (theirs && sum != first_bytes(&ours[i])))
			r = push(side, nodes->path << 8 | i, err);
	}
	side->nodes++;
	return r;
}

int evfs_audit_compare(struct evfs_engine *engine, struct evfs_audits *audits,
		       struct evfs_audit_side *side,
		       const Evfs__Wire__Audit *audit, struct evfs_err *err)
{
	struct evfs_merkle_view *view;
	size_t i;
	int r = evfs_merkle_open(engine->meta, &view, err);

	if (r < 0)
		return r;
	for (i = 0; i < audit->n_nodes && r == 0; i++)
		r = compare_nodes(side, view, audit->nodes[i], err);
	for (i = 0; i < audit->n_lists && r == 0; i++)
		r = compare_list(engine, audits, side, view, audit->lists[i],
				 err);
	for (i = 0; i < audit->n_wants && r == 0; i++)
		r = serve_wants(engine, audits, side, view, audit->wants[i],
				err);
	evfs_merkle_close(view);
	return r;
}

/* ---- telling ---- */

static int tell_nodes(struct evfs_merkle_view *view, uint64_t path,
		      Evfs__Wire__AuditNodes *to, struct evfs_err *err)
{
	struct evfs_merkle_node nodes[EVFS_MERKLE_FANOUT];
	size_t i;
	int r = evfs_merkle_children(view, path, nodes, err);

	if (r < 0)
		return r;
	to->path = path;
	to->present.data = evfs_calloc(1, EVFS_MERKLE_FANOUT / 8);
	to->sums.data = evfs_calloc(EVFS_MERKLE_FANOUT, EVFS_WIRE_SUM_BYTES);
	if (to->present.data == NULL || to->sums.data == NULL)
		return no_memory(err);
	to->present.len = EVFS_MERKLE_FANOUT / 8;
	for (i = 0; i < EVFS_MERKLE_FANOUT; i++) {
		if (nodes[i].count == 0)
			continue;
		to->present.data[i / 8] |= (uint8_t)(0x80 >> i % 8);
		evfs_be64_write(to->sums.data + to->sums.len,
				first_bytes(&nodes[i]));
		to->sums.len += EVFS_WIRE_SUM_BYTES;
	}
	return 0;
}

static int put_hashes(const uint32_t *hashes, size_t n, uint64_t path,
		      Evfs__Wire__AuditLeaves *to)
{
	size_t i;

	to->path = path;
	to->hashes.data = evfs_calloc(n, EVFS_WIRE_LEAF_BYTES);
	if (to->hashes.data == NULL)
		return EVFS_ENOMEM;
	to->hashes.len = n * EVFS_WIRE_LEAF_BYTES;
	for (i = 0; i < n; i++)
		evfs_be32_write(to->hashes.data + i * EVFS_WIRE_LEAF_BYTES,
				hashes[i]);
	return 0;
}

static int tell_list(struct evfs_engine *engine, struct evfs_audit_side *side,
		     struct evfs_merkle_view *view, uint64_t path,
		     Evfs__Wire__AuditLeaves *to, struct evfs_err *err)
{
	struct seen *seen = NULL;
	uint32_t *hashes;
	size_t n = 0, i;
	int r = look(engine, view, path, side->seed, &seen, &n, err);

	if (r < 0)
		return r;
	hashes = evfs_calloc(n, sizeof(*hashes));
	for (i = 0; i < n && hashes != NULL; i++)
		hashes[i] = seen[i].hash;
	r = hashes == NULL ? EVFS_ENOMEM : put_hashes(hashes, n, path, to);
	evfs_free(hashes);
	evfs_free(seen);
	return r < 0 ? no_memory(err) : 0;
}

/* Arrays of messages for a part, all of the given size at most. */
static int make_parts(Evfs__Wire__Audit *audit)
{
	size_t max = EVFS_WIRE_AUDIT_PARTS_MAX, i;

	audit->nodes = evfs_calloc(max, sizeof(*audit->nodes));
	audit->lists = evfs_calloc(max, sizeof(*audit->lists));
	audit->wants = evfs_calloc(max, sizeof(*audit->wants));
	if (audit->nodes == NULL || audit->lists == NULL ||
	    audit->wants == NULL)
		return EVFS_ENOMEM;
	for (i = 0; i < max; i++) {
		audit->nodes[i] = evfs_calloc(1, sizeof(**audit->nodes));
		audit->lists[i] = evfs_calloc(1, sizeof(**audit->lists));
		audit->wants[i] = evfs_calloc(1, sizeof(**audit->wants));
		if (audit->nodes[i] == NULL || audit->lists[i] == NULL ||
		    audit->wants[i] == NULL)
			return EVFS_ENOMEM;
		evfs__wire__audit_nodes__init(audit->nodes[i]);
		evfs__wire__audit_leaves__init(audit->lists[i]);
		evfs__wire__audit_leaves__init(audit->wants[i]);
	}
	return 0;
}

static void clear_leaves(Evfs__Wire__AuditLeaves **lists)
{
	size_t i;

	for (i = 0; lists != NULL && i < EVFS_WIRE_AUDIT_PARTS_MAX; i++) {
		if (lists[i] != NULL)
			evfs_free(lists[i]->hashes.data);
		evfs_free(lists[i]);
	}
	evfs_free(lists);
}

void evfs_audit_clear(Evfs__Wire__Audit *audit)
{
	size_t i;

	for (i = 0; audit->nodes != NULL && i < EVFS_WIRE_AUDIT_PARTS_MAX;
	     i++) {
		if (audit->nodes[i] != NULL) {
			evfs_free(audit->nodes[i]->present.data);
			evfs_free(audit->nodes[i]->sums.data);
		}
		evfs_free(audit->nodes[i]);
	}
	evfs_free(audit->nodes);
	clear_leaves(audit->lists);
	clear_leaves(audit->wants);
}

/* The node on top of the stack, as the children of it or the objects below. */
static int tell_one(struct evfs_engine *engine, struct evfs_audit_side *side,
		    struct evfs_merkle_view *view, Evfs__Wire__Audit *audit,
		    size_t *listed, struct evfs_err *err)
{
	uint64_t path = side->stack[side->n - 1] & ~EVFS_AUDIT_AS_NODES;
	bool as_nodes = side->stack[side->n - 1] != path;
	int level = evfs_merkle_level(path);
	struct evfs_merkle_node node = { 0 };
	int r = 0;

	if (level >= 2 && !as_nodes)
		r = evfs_merkle_get(view, path, &node, err);
	if (r < 0)
		return r;
	side->n--;
	side->nodes++;
	if (level < 2 || as_nodes ||
	    (node.count > EVFS_MERKLE_LEAF_MAX && level < EVFS_MERKLE_LEVELS))
		return tell_nodes(view, path, audit->nodes[audit->n_nodes++],
				  err);
	*listed += (size_t)node.count;
	return tell_list(engine, side, view, path,
			 audit->lists[audit->n_lists++], err);
}

int evfs_audit_tell(struct evfs_engine *engine, struct evfs_audit_side *side,
		    Evfs__Wire__Audit *audit, struct evfs_err *err)
{
	struct evfs_merkle_view *view;
	size_t listed = 0, i;
	int r = make_parts(audit);

	if (r < 0)
		return no_memory(err);
	for (i = 0; i < side->n_wants && r == 0; i++)
		r = put_hashes(side->wants[i].hashes, side->wants[i].n,
			       side->wants[i].path,
			       audit->wants[audit->n_wants++]);
	evfs_audit_clear_wants(side);
	if (r < 0)
		return no_memory(err);
	r = evfs_merkle_open(engine->meta, &view, err);
	if (r < 0)
		return r;
	while (r == 0 && side->n > 0 && listed < EVFS_AUDIT_LIST_MAX &&
	       audit->n_nodes + audit->n_lists < EVFS_WIRE_AUDIT_PARTS_MAX)
		r = tell_one(engine, side, view, audit, &listed, err);
	evfs_merkle_close(view);
	audit->left = (uint32_t)side->n;
	return r;
}
