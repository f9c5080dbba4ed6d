/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The four lanes of BLAKE2bp at once, where the processor can. Private to
 * base/hash*.c. */
#ifndef EVFS_BASE_HASH_LANES_H
#define EVFS_BASE_HASH_LANES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define EVFS_HASH_LANES 4
#define EVFS_HASH_BLOCK 128 /* bytes; a stripe is one of each lane */
#define EVFS_HASH_STRIPE (EVFS_HASH_LANES * EVFS_HASH_BLOCK)

/* Compresses n stripes, none of which holds the last block of a lane, into the
 * chaining values h[word][lane]; every lane has seen nothing before. False:
 * this processor cannot, and nothing was done. */
bool evfs_hash_lanes(uint64_t h[8][EVFS_HASH_LANES], const uint8_t *data,
		     size_t n);

#endif
