/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A growable byte buffer; see buf.h. */
#include "base/buf.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"

#define BUF_CAP_MIN 64

void evfs_buf_fini(struct evfs_buf *buf)
{
	evfs_free(buf->data);
	*buf = (struct evfs_buf){ 0 };
}

void evfs_buf_clear(struct evfs_buf *buf)
{
	buf->len = 0;
}

uint8_t *evfs_buf_reserve(struct evfs_buf *buf, size_t n)
{
	size_t need, cap;
	uint8_t *data;

	assert(buf->len <= buf->cap);
	if (n <= buf->cap - buf->len && buf->data != NULL)
		return buf->data + buf->len;
	if (__builtin_add_overflow(buf->len, n, &need))
		return NULL;
	cap = buf->cap > SIZE_MAX / 2 ? SIZE_MAX : 2 * buf->cap;
	if (cap < need)
		cap = need;
	if (cap < BUF_CAP_MIN)
		cap = BUF_CAP_MIN;
	data = evfs_realloc_array(buf->data, cap, 1);
	if (data == NULL)
		return NULL;
	buf->data = data;
	buf->cap = cap;
	return data + buf->len;
}

int evfs_buf_put(struct evfs_buf *buf, const void *data, size_t len)
{
	uint8_t *at;

	if (len == 0)
		return 0;
	at = evfs_buf_reserve(buf, len);
	if (at == NULL)
		return EVFS_ENOMEM;
	memcpy(at, data, len);
	buf->len += len;
	return 0;
}

int evfs_buf_put_u8(struct evfs_buf *buf, uint8_t value)
{
	return evfs_buf_put(buf, &value, 1);
}

int evfs_buf_put_be32(struct evfs_buf *buf, uint32_t value)
{
	uint8_t bytes[4];

	evfs_be32_write(bytes, value);
	return evfs_buf_put(buf, bytes, sizeof(bytes));
}

int evfs_buf_put_be64(struct evfs_buf *buf, uint64_t value)
{
	uint8_t bytes[8];

	evfs_be64_write(bytes, value);
	return evfs_buf_put(buf, bytes, sizeof(bytes));
}

int evfs_buf_printf(struct evfs_buf *buf, const char *fmt, ...)
{
	va_list args;
	uint8_t *at;
	int len;

	va_start(args, fmt);
	len = vsnprintf(NULL, 0, fmt, args);
	va_end(args);
	assert(len >= 0);
	/* vsnprintf wants room for its NUL, which is not counted in. */
	at = evfs_buf_reserve(buf, (size_t)len + 1);
	if (at == NULL)
		return EVFS_ENOMEM;
	va_start(args, fmt);
	vsnprintf((char *)at, (size_t)len + 1, fmt, args);
	va_end(args);
	buf->len += (size_t)len;
	return 0;
}

void evfs_buf_consume(struct evfs_buf *buf, size_t n)
{
	assert(n <= buf->len);
	if (n == 0)
		return;
	memmove(buf->data, buf->data + n, buf->len - n);
	buf->len -= n;
}
