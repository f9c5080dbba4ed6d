/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The row of the state table that hints are remembered in. */
#include "meta/hints.h"

#include <stdbool.h>

#include "meta/db_schema.h"
#include "meta/meta_priv.h"

int evfs_hints_save(struct evfs_meta *meta, const void *data, size_t len,
		    struct evfs_err *err)
{
	int rc = evfs_meta_begin_write(meta, err);

	return rc != 0 ? rc :
			 evfs_state_set_bytes(meta->db, "hints", data, len,
					      err);
}

int evfs_hints_load(struct evfs_meta *meta, struct evfs_buf *ret,
		    struct evfs_err *err)
{
	bool found;

	return evfs_state_get_bytes(meta->db, "hints", ret, &found, err);
}
