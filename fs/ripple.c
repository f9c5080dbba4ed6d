/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What an operation changed beside what the kernel knows. */
#include "fs/ripple.h"

#include <string.h>

#include "fs/fs_priv.h"
#include "fs/notify.h"
#include "meta/facts.h"

/* Generated names have it; so a name with it may show what others do. */
#define SIBLING_MARK ".conflict-"

struct rows {
	size_t n;   /* links at this name */
	bool multi; /* one has several versions */
};

static int count_cb(void *arg, const struct evfs_name_row *row)
{
	struct rows *rows = arg;

	rows->n++;
	rows->multi |= row->multi;
	return rows->n > 1;
}

/* May this name show more than one thing? */
static bool is_crowded(struct evfs_fs *fs, evfs_ino dir, const void *name,
		       size_t len)
{
	struct rows rows = { 0 };

	if (evfs_facts_counter(fs->facts, EVFS_COUNTER_DIR_DUPS) > 0 ||
	    memmem(name, len, SIBLING_MARK, sizeof(SIBLING_MARK) - 1))
		return true;
	if (evfs_facts_names_at(fs->facts, dir, name, len, count_cb, &rows,
				NULL) != 0)
		return true;
	return rows.n > 1 || rows.multi;
}

void evfs_ripple_before(struct evfs_fs *fs, evfs_ino dir, const char *name,
			size_t name_len, struct evfs_ripple *ripple)
{
	ripple->dups = evfs_facts_counter(fs->facts, EVFS_COUNTER_DIR_DUPS);
	ripple->zombies = evfs_facts_counter(fs->facts, EVFS_COUNTER_ZOMBIES);
	ripple->cycles = evfs_facts_counter(fs->facts, EVFS_COUNTER_CYCLES);
	if (!name)
		ripple->crowded |= ripple->dups > 0;
	else if (!ripple->crowded)
		ripple->crowded = is_crowded(fs, dir, name, name_len);
}

void evfs_ripple_after(struct evfs_fs *fs, evfs_ino dir, const char *name,
		       size_t name_len, const struct evfs_ripple *ripple)
{
	int64_t cycles = evfs_facts_counter(fs->facts, EVFS_COUNTER_CYCLES);

	if (ripple->crowded) {
		evfs_nodes_rekey(fs);
		evfs_notify_entry(fs, dir, name, name_len);
	}
	if (cycles > 0 || ripple->cycles > 0 ||
	    ripple->dups !=
		    evfs_facts_counter(fs->facts, EVFS_COUNTER_DIR_DUPS) ||
	    ripple->zombies !=
		    evfs_facts_counter(fs->facts, EVFS_COUNTER_ZOMBIES))
		evfs_notify_names(fs);
}

void evfs_ripple_sealed(struct evfs_fs *fs, const struct evfs_handle *handle,
			bool was_sibling)
{
	const struct evfs_object *object;
	bool several;

	if (was_sibling) {
		evfs_nodes_rekey(fs);
		evfs_notify_entry(fs, handle->parent, handle->name,
				  handle->name_len);
	}
	if (evfs_facts_get(fs->facts, handle->ino, &object, NULL) != 0 ||
	    !object)
		return;
	several = object->n_versions > 1;
	for (size_t i = 0; i < object->n_links; i++) {
		const struct evfs_place *place = &object->links[i].place;

		if (evfs_link_is_live(object, &object->links[i]) &&
		    (several || is_crowded(fs, place->parent, place->name,
					   place->name_len)))
			evfs_notify_entry(fs, place->parent,
					  (const char *)place->name,
					  place->name_len);
	}
}
