/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The four lanes of BLAKE2bp at once: RFC 7693, section 3.2, on vectors of four
 * words, one of each lane. A library that knows single BLAKE2b hashes only can
 * compute a lane at a time, at a third of the speed; and every byte of a big
 * file is hashed where it is written, where it is sent and where it arrives.
 *
 * The vectors are the compilers' own (GCC and Clang), no intrinsics. They need
 * a processor with AVX2; with AVX-512 a rotation is one instruction. Which one
 * it is comes to light at run time. The macros stand for what cannot be
 * functions: those of one target are not inlined into another's, or only after
 * their vectors were taken to pieces. */
#include "base/hash_lanes.h"

#if defined(__x86_64__) && defined(__GNUC__)

#include <string.h>

typedef uint64_t words __attribute__((vector_size(32))); /* one per lane */

static const uint64_t iv[8] = {
	UINT64_C(0x6a09e667f3bcc908), UINT64_C(0xbb67ae8584caa73b),
	UINT64_C(0x3c6ef372fe94f82b), UINT64_C(0xa54ff53a5f1d36f1),
	UINT64_C(0x510e527fade682d1), UINT64_C(0x9b05688c2b3e6c1f),
	UINT64_C(0x1f83d9abfb41bd6b), UINT64_C(0x5be0cd19137e2179)
};

#define SPLAT(x) ((words){ (x), (x), (x), (x) })
#define ROTATE(x, n) (((x) >> (n)) | ((x) << (64 - (n))))

#define MIX(a, b, c, d, x, y) \
	do { \
		v[a] += v[b] + m[x]; \
		v[d] = ROTATE(v[d] ^ v[a], 32); \
		v[c] += v[d]; \
		v[b] = ROTATE(v[b] ^ v[c], 24); \
		v[a] += v[b] + m[y]; \
		v[d] = ROTATE(v[d] ^ v[a], 16); \
		v[c] += v[d]; \
		v[b] = ROTATE(v[b] ^ v[c], 63); \
	} while (0)

#define ROUND(s0, s1, s2, s3, s4, s5, s6, s7, s8, s9, s10, s11, s12, s13, \
	      s14, s15) \
	do { \
		MIX(0, 4, 8, 12, s0, s1); \
		MIX(1, 5, 9, 13, s2, s3); \
		MIX(2, 6, 10, 14, s4, s5); \
		MIX(3, 7, 11, 15, s6, s7); \
		MIX(0, 5, 10, 15, s8, s9); \
		MIX(1, 6, 11, 12, s10, s11); \
		MIX(2, 7, 8, 13, s12, s13); \
		MIX(3, 4, 9, 14, s14, s15); \
	} while (0)

#define ROUNDS() \
	do { \
		ROUND(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15); \
		ROUND(14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3); \
		ROUND(11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4); \
		ROUND(7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8); \
		ROUND(9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13); \
		ROUND(2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9); \
		ROUND(12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11); \
		ROUND(13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10); \
		ROUND(6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5); \
		ROUND(10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0); \
		ROUND(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15); \
		ROUND(14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3); \
	} while (0)

/* Words w..w+3 of all lanes: four rows of a lane each, made columns. */
#define LOAD(w) \
	do { \
		words r0, r1, r2, r3, low0, low1, high0, high1; \
\
		memcpy(&r0, data + 8 * (w), sizeof(r0)); \
		memcpy(&r1, data + 8 * (w) + EVFS_HASH_BLOCK, sizeof(r1)); \
		memcpy(&r2, data + 8 * (w) + 2 * EVFS_HASH_BLOCK, sizeof(r2)); \
		memcpy(&r3, data + 8 * (w) + 3 * EVFS_HASH_BLOCK, sizeof(r3)); \
		low0 = __builtin_shufflevector(r0, r1, 0, 4, 2, 6); \
		high0 = __builtin_shufflevector(r0, r1, 1, 5, 3, 7); \
		low1 = __builtin_shufflevector(r2, r3, 0, 4, 2, 6); \
		high1 = __builtin_shufflevector(r2, r3, 1, 5, 3, 7); \
		m[(w)] = __builtin_shufflevector(low0, low1, 0, 1, 4, 5); \
		m[(w) + 1] = __builtin_shufflevector(high0, high1, 0, 1, 4, 5); \
		m[(w) + 2] = __builtin_shufflevector(low0, low1, 2, 3, 6, 7); \
		m[(w) + 3] = __builtin_shufflevector(high0, high1, 2, 3, 6, 7); \
	} while (0)

#define DEFINE_COMPRESS(name, features) \
	__attribute__((target(features))) static void name( \
		uint64_t h[8][EVFS_HASH_LANES], const uint8_t *data, size_t n) \
	{ \
		uint64_t seen = 0; /* bytes of each lane */ \
		words state[8], v[16], m[16]; \
\
		memcpy(state, h, sizeof(state)); \
		for (; n > 0; n--, data += EVFS_HASH_STRIPE) { \
			seen += EVFS_HASH_BLOCK; \
			LOAD(0); \
			LOAD(4); \
			LOAD(8); \
			LOAD(12); \
			for (int i = 0; i < 8; i++) { \
				v[i] = state[i]; \
				v[i + 8] = SPLAT(iv[i]); \
			} \
			v[12] ^= SPLAT(seen); \
			ROUNDS(); \
			for (int i = 0; i < 8; i++) \
				state[i] ^= v[i] ^ v[i + 8]; \
		} \
		memcpy(h, state, sizeof(state)); \
	}

DEFINE_COMPRESS(compress_avx2, "avx2")
DEFINE_COMPRESS(compress_avx512, "avx2,avx512f,avx512vl")

bool evfs_hash_lanes(uint64_t h[8][EVFS_HASH_LANES], const uint8_t *data,
		     size_t n)
{
	if (__builtin_cpu_supports("avx512vl"))
		compress_avx512(h, data, n);
	else if (__builtin_cpu_supports("avx2"))
		compress_avx2(h, data, n);
	else
		return false;
	return true;
}

#else

bool evfs_hash_lanes(uint64_t h[8][EVFS_HASH_LANES], const uint8_t *data,
		     size_t n)
{
	(void)h;
	(void)data;
	(void)n;
	return false;
}

#endif
