/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A growable byte buffer, and big-endian integers in it. Knows nothing of
 * what the bytes mean, and must not learn it. Not thread-safe. */
#ifndef EVFS_BASE_BUF_H
#define EVFS_BASE_BUF_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct evfs_buf {
	uint8_t *data; /* owned; NULL while cap is 0 */
	size_t len;    /* bytes used */
	size_t cap;    /* bytes allocated */
};

/* {0} is a valid empty buffer. */
void evfs_buf_fini(struct evfs_buf *buf);
void evfs_buf_clear(struct evfs_buf *buf); /* len 0, memory kept */

/* Room for n more bytes: a pointer to them, or NULL when out of memory. The
 * caller writes, then adds to len. */
uint8_t *evfs_buf_reserve(struct evfs_buf *buf, size_t n);

/* 0 or EVFS_ENOMEM; nothing is appended on failure. */
int evfs_buf_put(struct evfs_buf *buf, const void *data, size_t len)
	EVFS_MUST_USE;
int evfs_buf_put_u8(struct evfs_buf *buf, uint8_t value) EVFS_MUST_USE;
int evfs_buf_put_be32(struct evfs_buf *buf, uint32_t value) EVFS_MUST_USE;
int evfs_buf_put_be64(struct evfs_buf *buf, uint64_t value) EVFS_MUST_USE;
int evfs_buf_printf(struct evfs_buf *buf, const char *fmt, ...)
	EVFS_PRINTF(2, 3) EVFS_MUST_USE;

/* Drops n bytes from the front (n <= len). */
void evfs_buf_consume(struct evfs_buf *buf, size_t n);

static inline void evfs_be32_write(uint8_t *at, uint32_t v)
{
	at[0] = (uint8_t)(v >> 24);
	at[1] = (uint8_t)(v >> 16);
	at[2] = (uint8_t)(v >> 8);
	at[3] = (uint8_t)v;
}

static inline uint32_t evfs_be32_read(const uint8_t *at)
{
	return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 |
	       (uint32_t)at[2] << 8 | at[3];
}

static inline void evfs_be64_write(uint8_t *at, uint64_t v)
{
	evfs_be32_write(at, (uint32_t)(v >> 32));
	evfs_be32_write(at + 4, (uint32_t)v);
}

static inline uint64_t evfs_be64_read(const uint8_t *at)
{
	return (uint64_t)evfs_be32_read(at) << 32 | evfs_be32_read(at + 4);
}

#endif
