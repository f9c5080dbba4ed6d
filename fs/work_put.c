/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A working copy on its way into the content store, and where its holes are. */
#include <assert.h>
#include <errno.h>
#include <unistd.h>

#include "base/mem.h"
#include "fs/work_priv.h"

/* ---- holes ---- */

/* Start of data (or hole) in the overlay's own range [offset, end), or end. */
static uint64_t own_seek(const struct evfs_work *work, uint64_t offset,
			 uint64_t end, bool hole)
{
	off_t at = lseek(work->fd, (off_t)offset,
			 hole ? SEEK_HOLE : SEEK_DATA);

	if (at < 0) /* ENXIO: a hole up to the end of the file */
		return hole || errno != ENXIO ? offset : end;
	return (uint64_t)at < end ? (uint64_t)at : end;
}

static uint64_t seek_below(const struct evfs_work *work, uint64_t offset,
			   bool hole)
{
	if (work->under)
		return evfs_work_seek(work->under, offset, hole);
	return evfs_content_seek(work->base->reader, offset, hole);
}

uint64_t evfs_work_seek(struct evfs_work *work, uint64_t offset, bool hole)
{
	if (work->fd < 0)
		return hole || offset >= work->size ? work->size : offset;
	while (offset < work->size) {
		struct evfs_range range = { work->size, work->size };
		uint64_t end, found;

		(void)evfs_ranges_next(&work->own, offset, &range);
		end = range.start;
		if (end <= offset) {
			end = range.end;
			found = own_seek(work, offset, end, hole);
		} else if (offset < work->base_limit) {
			if (end > work->base_limit)
				end = work->base_limit;
			found = seek_below(work, offset, hole);
		} else {
			found = hole ? offset : end;
		}
		if (found < end)
			return found;
		offset = end;
	}
	return work->size;
}

/* ---- into the store ---- */

static int source_read(void *ctx, void *data, size_t len, uint64_t offset,
		       struct evfs_err *err)
{
	size_t got = 0;
	int rc = evfs_work_read(ctx, data, len, offset, &got, err);

	if (rc == 0 && got != len)
		rc = evfs_err_set(err, EVFS_EIO, "working copy is too short");
	return rc;
}

static uint64_t source_hole(void *ctx, uint64_t offset)
{
	return evfs_work_seek(ctx, offset, false) - offset;
}

bool evfs_work_is_complete(const struct evfs_work *work)
{
	return !evfs_work_has_base(work) || work->base_limit == 0 ||
	       evfs_ranges_has(&work->own, 0, work->base_limit);
}

static int put_overlay(struct evfs_work *work,
		       struct evfs_content_put **ret_put,
		       struct evfs_err *err)
{
	struct evfs_content_source source = {
		.ctx = work,
		.read = source_read,
		.hole = source_hole,
		.size = work->size,
	};
	evfs_cleanup_free struct evfs_range *dirty = NULL;
	evfs_cleanup_free char *path = NULL;
	bool adopted = false, good = true;
	int rc = 0;

	assert(!work->under);
	if (work->ahead && evfs_work_is_complete(work))
		evfs_ahead_settle(work->ahead); /* it has more hands */
	if (work->ahead)
		good = evfs_ahead_get(work->ahead, &source.cuts,
				      &source.n_cuts);
	if (evfs_work_is_complete(work)) {
		if (ftruncate(work->fd, (off_t)work->size) != 0)
			return evfs_err_sys(err, errno, "working copy");
		path = evfs_work_path(work->place, work->number, "");
		source.adopt_path = work->adopted || !good ? NULL : path;
		source.adopt_keeps = work->kept;
	} else {
		source.has_base = true;
		source.base = work->base->content;
		source.base_size = work->base->size;
		if (evfs_ranges_list(&work->own, work->base_limit, work->size,
				     &dirty, &source.n_dirty) != 0)
			rc = evfs_err_set(err, EVFS_ENOMEM, "no memory");
		source.dirty = dirty;
	}
	if (rc == 0)
		rc = evfs_content_write_source(work->place->content, &source,
					       ret_put, &adopted, err);
	if (rc == 0 && adopted) {
		work->adopted = true;
		work->shared = work->kept;
	}
	return rc;
}

int evfs_work_put(struct evfs_work *work, struct evfs_content_put **ret_put,
		  evfs_hash *ret_name, uint64_t *ret_size,
		  struct evfs_err *err)
{
	struct evfs_content_put *put = NULL;
	int rc;

	if (work->size == 0) {
		*ret_name = EVFS_CONTENT_EMPTY;
	} else if (work->fd >= 0 && work->base && work->own.n == 0 &&
		   work->base_limit == work->size &&
		   work->base->size == work->size) {
		*ret_name = work->base->content;
	} else {
		if (work->fd < 0)
			rc = evfs_content_write(work->place->content,
						work->memory,
						(size_t)work->size, &put, err);
		else
			rc = put_overlay(work, &put, err);
		if (rc != 0)
			return rc;
		*ret_name = *evfs_content_put_name(put);
	}
	*ret_size = work->size;
	*ret_put = put;
	return 0;
}
