/* SPDX-License-Identifier: GPL-3.0-or-later */
/* FastCDC: Xia et al., "FastCDC: a Fast and Efficient Content-Defined Chunking
 * Approach for Data Deduplication", USENIX ATC 2016.
 *
 * A gear hash rolls over the bytes: it is shifted by one bit for each byte, and
 * a random number that stands for the byte is added; so its top bits depend on
 * the last 64 bytes. A chunk ends behind the byte where the top bits are all
 * zero. The first EVFS_CHUNK_MIN bytes are skipped unseen. Normalised chunking
 * of level 2: up to the average size 19 bits must be zero (log2 of the average,
 * plus 2), beyond it 15 (minus 2), which draws the sizes together around the
 * average. At EVFS_CHUNK_MAX the chunk ends anyway.
 *
 * The table comes from a fixed seed. It is such that a run of zero bytes never
 * ends a chunk: then holes are runs of equal chunks of the greatest length, one
 * entry of a manifest. The hash of k zero bytes is gear[0] * (2^k - 1); that
 * its top bits are never all zero is asserted where the table is made. */
#include "meta/chunker.h"

#include <assert.h>
#include <pthread.h>

#include "meta/content.h"

#define STRICT_SHIFT (64 - 19)
#define LOOSE_SHIFT (64 - 15)
#define WINDOW 64 /* bytes that a hash depends on */
#define STRIP ((size_t)2048) /* bytes, looked at side by side with as many */

static uint64_t gear[256];
static pthread_once_t gear_once = PTHREAD_ONCE_INIT;

/* SplitMix64 (Steele, Lea, Flood 2014). */
static uint64_t split_mix(uint64_t *state)
{
	uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

static void make_gear(void)
{
	uint64_t state = UINT64_C(0x6576667363686e6b); /* "evfschnk" */
	uint64_t zeros = 0;

	for (int i = 0; i < 256; i++)
		gear[i] = split_mix(&state);
	for (int i = 0; i < 128; i++) {
		zeros = (zeros << 1) + gear[0];
		assert(zeros >> LOOSE_SHIFT != 0);
	}
}

static uint64_t roll(uint64_t hash, const uint8_t *data, size_t len)
{
	for (size_t i = 0; i < len; i++)
		hash = (hash << 1) + gear[data[i]];
	return hash;
}

/* The first of [*at, end) behind which a chunk may end: true, and *at. *hash is
 * what has rolled so far.
 *
 * A step of the hash waits for the one before it. So two strips are rolled side
 * by side, the second one's hash being made from the 64 bytes before it: there
 * is nothing older in any hash. */
static bool find_end(const uint8_t *data, size_t *at, size_t end,
		     unsigned shift, uint64_t *hash)
{
	const uint64_t limit = (uint64_t)1 << shift;
	size_t i = *at;

	while (end - i >= 2 * STRIP) {
		const uint8_t *a = data + i, *b = a + STRIP;
		uint64_t ha = *hash, hb = roll(0, b - WINDOW, WINDOW);
		size_t k;

#pragma GCC unroll 8
		for (k = 0; k < STRIP; k++) {
			ha = (ha << 1) + gear[a[k]];
			if (ha < limit)
				break;
			hb = (hb << 1) + gear[b[k]];
			if (hb < limit)
				break;
		}
		if (k < STRIP)
			break; /* where, is found below */
		i += 2 * STRIP;
		*hash = hb;
	}
	for (; i < end; i++) {
		*hash = (*hash << 1) + gear[data[i]];
		if (*hash < limit) {
			*at = i;
			return true;
		}
	}
	*at = end;
	return false;
}

size_t evfs_chunker_cut(const uint8_t *data, size_t len)
{
	uint64_t hash = 0;
	size_t middle, end, at = EVFS_CHUNK_MIN;

	assert(len > 0);
	if (len <= EVFS_CHUNK_MIN)
		return len;
	pthread_once(&gear_once, make_gear);
	end = len < EVFS_CHUNK_MAX ? len : EVFS_CHUNK_MAX;
	middle = end < EVFS_CHUNK_AVG ? end : EVFS_CHUNK_AVG;
	if (find_end(data, &at, middle, STRICT_SHIFT, &hash) ||
	    find_end(data, &at, end, LOOSE_SHIFT, &hash))
		return at + 1;
	return end;
}
