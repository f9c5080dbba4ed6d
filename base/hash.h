/* SPDX-License-Identifier: GPL-3.0-or-later */
/* 256-bit BLAKE2 hashes (RFC 7693; libb2), as values with a type.
 *
 * Content uses BLAKE2bp (four lanes, fast on long input), all else BLAKE2b.
 * The two give different hashes for equal bytes: never mix them.
 * Thread-safe: no shared state. */
#ifndef EVFS_BASE_HASH_H
#define EVFS_BASE_HASH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define EVFS_HASH_SIZE 32
#define EVFS_HASH_HEX_SIZE (2 * EVFS_HASH_SIZE + 1) /* with the NUL */

typedef struct {
	uint8_t b[EVFS_HASH_SIZE];
} evfs_hash;

/* BLAKE2b-256 of short, structured input. */
evfs_hash evfs_hash_bytes(const void *data, size_t len);

/* BLAKE2bp-256 of file content. */
evfs_hash evfs_hash_content(const void *data, size_t len);

bool evfs_hash_equal(const evfs_hash *a, const evfs_hash *b);
bool evfs_hash_is_zero(const evfs_hash *hash);

/* Lower-case hexadecimal. */
void evfs_hash_format(const evfs_hash *hash, char text[EVFS_HASH_HEX_SIZE]);

/* Exactly 64 hexadecimal digits and a NUL; false (and *ret untouched) else. */
bool evfs_hash_parse(const char *text, evfs_hash *ret);

/* Sum and difference modulo 2^256 (big-endian numbers): what the Merkle tree
 * adds up. */
void evfs_hash_add(evfs_hash *sum, const evfs_hash *term);
void evfs_hash_sub(evfs_hash *sum, const evfs_hash *term);

#endif
