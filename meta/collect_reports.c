/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What every member has on disk, by its last report. */
#include "base/mem.h"
#include "meta/collect_priv.h"
#include "meta/store.h"

void evfs_collect_reports_fini(struct evfs_reports *reports)
{
	size_t i;

	for (i = 0; reports->contexts != NULL && i < reports->n; i++)
		evfs_context_fini(&reports->contexts[i]);
	evfs_context_fini(&reports->all);
	evfs_free(reports->contexts);
	evfs_free(reports->blockers);
	evfs_free(reports->members);
	*reports = (struct evfs_reports){ 0 };
}

/* The meet: of each actor the least counter. */
static int reports_meet(struct evfs_meta *meta, struct evfs_reports *reports)
{
	const struct evfs_context *own = &meta->store->context;
	size_t i, k;
	int rc = 0;

	for (i = 0; i < own->n && rc == 0; i++) {
		uint64_t least = own->rows[i].counter;

		for (k = 0; k < reports->n; k++) {
			uint64_t theirs = evfs_context_get(
				&reports->contexts[k], own->rows[i].actor);

			if (theirs < least)
				least = theirs;
		}
		if (least > 0)
			rc = evfs_context_raise(&reports->all,
						own->rows[i].actor, least);
	}
	return rc;
}

int evfs_collect_reports_read(struct evfs_meta *meta,
			      struct evfs_reports *reports,
			      struct evfs_err *err)
{
	size_t i;
	int rc = evfs_members_list(meta, false, &reports->members,
				   &reports->n, err);

	if (rc != 0)
		return rc;
	reports->contexts =
		evfs_calloc(reports->n, sizeof(*reports->contexts));
	reports->blockers =
		evfs_calloc(reports->n, sizeof(*reports->blockers));
	if (reports->contexts == NULL || reports->blockers == NULL)
		return evfs_err_set(err, EVFS_ENOMEM, "collect: out of memory");
	reports->ready = !meta->store->amnesia;
	for (i = 0; i < reports->n && rc == 0; i++) {
		reports->blockers[i].node = reports->members[i].node;
		rc = evfs_members_report(meta, reports->members[i].node,
					 &reports->contexts[i], err);
		if (rc == 0 && !evfs_context_contains(&meta->store->context,
						      &reports->contexts[i]))
			reports->behind = true;
	}
	if (reports->behind)
		reports->ready = false;
	if (rc == 0 && reports_meet(meta, reports) != 0)
		rc = evfs_err_set(err, EVFS_ENOMEM, "collect: out of memory");
	return rc;
}
