/* SPDX-License-Identifier: GPL-3.0-or-later */
/* As much of a mount as the node table needs, over a world with contents. */
#ifndef EVFS_TESTS_UNIT_NODE_WORLD_H
#define EVFS_TESTS_UNIT_NODE_WORLD_H

#include <check.h>
#include <string.h>

#include "fs/fs_priv.h"
#include "tests/unit/content_world.h"

static inline void node_world_open(struct world *world, struct evfs_fs *fs)
{
	memset(fs, 0, sizeof(*fs));
	world_open(world, true);
	fs->meta = world->meta;
	fs->facts = evfs_meta_facts(world->meta);
	fs->content = world->content;
	ck_assert_int_eq(pthread_mutex_init(&fs->dirty_lock, NULL), 0);
	ck_assert_int_eq(evfs_nodes_init(fs, NULL), 0);
}

static inline void node_world_close(struct world *world, struct evfs_fs *fs)
{
	evfs_nodes_fini(fs);
	(void)pthread_mutex_destroy(&fs->dirty_lock);
	world_close(world);
}

#endif
