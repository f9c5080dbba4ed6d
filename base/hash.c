/* SPDX-License-Identifier: GPL-3.0-or-later */
/* BLAKE2 through libb2, and arithmetic on hashes; see hash.h. The only file
 * that knows the library. */
#include "base/hash.h"

#include <blake2.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"

evfs_hash evfs_hash_bytes(const void *data, size_t len)
{
	evfs_hash hash;

	/* Fails for bad parameters only, and these are constant; libb2 takes
	 * a NULL input for one, whatever its length is. */
	if (blake2b(hash.b, len > 0 ? data : "", NULL, sizeof(hash.b), len,
		    0) != 0)
		abort();
	return hash;
}

/* ---- BLAKE2bp: four lanes of blocks, and the root that hashes their hashes
 *
 * libb2's own blake2bp() gives the same values, but runs the lanes in an
 * OpenMP team: 60 us to begin with, a pool of threads for each thread that
 * hashes, and a daemon that forks to the background loses them. So the lanes
 * are driven from here. A lane's hash is 64 bytes long whatever the length of
 * the result is, hence the correction of outlen. */

#define LANES 4

static void lane_init(blake2b_state *state, uint8_t offset, bool is_root)
{
	blake2b_param param = { .digest_length = EVFS_HASH_SIZE,
				.fanout = LANES,
				.depth = 2,
				.node_depth = is_root,
				.inner_length = BLAKE2B_OUTBYTES };
	uint8_t *at = (uint8_t *)&param + offsetof(blake2b_param, node_offset);

	at[0] = offset; /* little-endian, whatever the machine is */
	if (blake2b_init_param(state, &param) != 0)
		abort();
	if (!is_root)
		state->outlen = BLAKE2B_OUTBYTES;
	state->last_node = is_root || offset == LANES - 1;
}

evfs_hash evfs_hash_content(const void *data, size_t len)
{
	const uint8_t *bytes = data;
	const size_t block = BLAKE2B_BLOCKBYTES;
	uint8_t lane_hash[BLAKE2B_OUTBYTES];
	blake2b_state lane, root;
	evfs_hash hash;
	int rc = 0;

	lane_init(&root, 0, true);
	for (size_t i = 0; i < LANES; i++) {
		lane_init(&lane, (uint8_t)i, false);
		for (size_t at = i * block; at < len; at += LANES * block)
			rc |= blake2b_update(&lane, bytes + at,
					     len - at < block ? len - at
							      : block);
		rc |= blake2b_final(&lane, lane_hash, sizeof(lane_hash));
		rc |= blake2b_update(&root, lane_hash, sizeof(lane_hash));
	}
	rc |= blake2b_final(&root, hash.b, sizeof(hash.b));
	if (rc != 0)
		abort();
	return hash;
}

bool evfs_hash_equal(const evfs_hash *a, const evfs_hash *b)
{
	return memcmp(a->b, b->b, sizeof(a->b)) == 0;
}

bool evfs_hash_is_zero(const evfs_hash *hash)
{
	static const evfs_hash zero;

	return evfs_hash_equal(hash, &zero);
}

void evfs_hash_format(const evfs_hash *hash, char text[EVFS_HASH_HEX_SIZE])
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < sizeof(hash->b); i++) {
		text[2 * i] = digits[hash->b[i] >> 4];
		text[2 * i + 1] = digits[hash->b[i] & 15];
	}
	text[EVFS_HASH_HEX_SIZE - 1] = '\0';
}

static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

bool evfs_hash_parse(const char *text, evfs_hash *ret)
{
	evfs_hash hash;

	for (size_t i = 0; i < sizeof(hash.b); i++) {
		int high = hex_value(text[2 * i]);
		int low = high < 0 ? -1 : hex_value(text[2 * i + 1]);

		if (low < 0)
			return false;
		hash.b[i] = (uint8_t)(high << 4 | low);
	}
	if (text[EVFS_HASH_HEX_SIZE - 1] != '\0')
		return false;
	*ret = hash;
	return true;
}

void evfs_hash_add(evfs_hash *sum, const evfs_hash *term)
{
	uint64_t carry = 0;

	for (size_t at = EVFS_HASH_SIZE; at > 0; at -= 8) {
		uint64_t word = evfs_be64_read(&sum->b[at - 8]);
		uint64_t more = evfs_be64_read(&term->b[at - 8]);
		uint64_t out;
		bool over = __builtin_add_overflow(word, more, &out);

		over |= __builtin_add_overflow(out, carry, &out);
		carry = over;
		evfs_be64_write(&sum->b[at - 8], out);
	}
}

void evfs_hash_sub(evfs_hash *sum, const evfs_hash *term)
{
	uint64_t borrow = 0;

	for (size_t at = EVFS_HASH_SIZE; at > 0; at -= 8) {
		uint64_t word = evfs_be64_read(&sum->b[at - 8]);
		uint64_t less = evfs_be64_read(&term->b[at - 8]);
		uint64_t out;
		bool under = __builtin_sub_overflow(word, less, &out);

		under |= __builtin_sub_overflow(out, borrow, &out);
		borrow = under;
		evfs_be64_write(&sum->b[at - 8], out);
	}
}
