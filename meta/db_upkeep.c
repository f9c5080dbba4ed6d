/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "meta/upkeep.h"

#include <string.h>

#include "meta/db_schema.h"
#include "meta/meta_priv.h"

#define STATE_BYTES (8 + EVFS_HASH_SIZE)

static const char *const upkeep_keys[] = {
	[EVFS_UPKEEP_TREE] = "upkeep-tree",
	[EVFS_UPKEEP_CONTENT] = "upkeep-content",
};

int evfs_upkeep_get(struct evfs_meta *meta, enum evfs_upkeep which,
		    struct evfs_upkeep_state *ret, struct evfs_err *err)
{
	struct evfs_buf buf = { 0 };
	bool found = false;
	int rc = evfs_state_get_bytes(meta->db, upkeep_keys[which], &buf,
				      &found, err);

	*ret = (struct evfs_upkeep_state){ 0 };
	/* What cannot be read is as good as nothing: a pass begins. */
	if (rc == 0 && found && buf.len == STATE_BYTES) {
		ret->ended_ns = evfs_be64_read(buf.data);
		memcpy(ret->cursor.b, buf.data + 8, EVFS_HASH_SIZE);
	}
	evfs_buf_fini(&buf);
	return rc;
}

int evfs_upkeep_set(struct evfs_meta *meta, enum evfs_upkeep which,
		    const struct evfs_upkeep_state *state,
		    struct evfs_err *err)
{
	uint8_t bytes[STATE_BYTES];
	int rc = evfs_meta_begin_write(meta, err);

	if (rc != 0)
		return rc;
	evfs_be64_write(bytes, state->ended_ns);
	memcpy(bytes + 8, state->cursor.b, EVFS_HASH_SIZE);
	return evfs_state_set_bytes(meta->db, upkeep_keys[which], bytes,
				    sizeof(bytes), err);
}

int evfs_upkeep_set_due(struct evfs_meta *meta, enum evfs_upkeep which,
			struct evfs_err *err)
{
	/* Long ago, and not never. */
	const struct evfs_upkeep_state state = { .ended_ns = 1 };

	return evfs_upkeep_set(meta, which, &state, err);
}
