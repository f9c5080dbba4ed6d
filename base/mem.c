/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The only place that calls malloc(3) and its kin; see mem.h. The failure
 * counter costs one relaxed load while no test uses it. */
#include "base/mem.h"

#include <assert.h>
#include <errno.h>
#include <stdalign.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

static atomic_uint_fast64_t fail_countdown; /* 0 = off */
static atomic_int fail_hit;

void evfs_mem_fail_after(uint64_t n)
{
	atomic_store(&fail_hit, 0);
	atomic_store(&fail_countdown, n);
}

int evfs_mem_fail_hit(void)
{
	return atomic_load(&fail_hit);
}

/* Must this allocation fail? Only the one that takes the counter to 0. */
static bool mem_fails(void)
{
	uint_fast64_t left;

	left = atomic_load_explicit(&fail_countdown, memory_order_relaxed);
	while (left != 0) {
		if (!atomic_compare_exchange_weak(&fail_countdown, &left,
						  left - 1))
			continue;
		if (left > 1)
			return false;
		atomic_store(&fail_hit, 1);
		return true;
	}
	return false;
}

void evfs_mem_return_unused(void)
{
#ifdef __GLIBC__
	(void)malloc_trim(0);
#endif
}

static bool mem_product(size_t n, size_t size, size_t *ret)
{
	if (__builtin_mul_overflow(n, size, ret) || *ret > PTRDIFF_MAX)
		return false;
	if (*ret == 0)
		*ret = 1;
	return true;
}

void *evfs_calloc(size_t n, size_t size)
{
	size_t bytes;

	if (!mem_product(n, size, &bytes) || mem_fails())
		return NULL;
	return calloc(1, bytes);
}

void *evfs_realloc_array(void *block, size_t n, size_t size)
{
	size_t bytes;

	if (!mem_product(n, size, &bytes) || mem_fails())
		return NULL;
	return realloc(block, bytes);
}

void *evfs_memdup(const void *data, size_t len)
{
	size_t bytes;
	void *copy;

	if (!mem_product(len, 1, &bytes) || mem_fails())
		return NULL;
	copy = malloc(bytes);
	if (copy != NULL && len > 0)
		memcpy(copy, data, len);
	return copy;
}

char *evfs_strdup(const char *text)
{
	return text == NULL ? NULL : evfs_memdup(text, strlen(text) + 1);
}

char *evfs_asprintf(const char *fmt, ...)
{
	char *text = NULL;
	va_list args;
	int len;

	va_start(args, fmt);
	len = vsnprintf(NULL, 0, fmt, args);
	va_end(args);
	if (len < 0)
		return NULL;
	text = evfs_realloc_array(NULL, (size_t)len + 1, 1);
	if (text == NULL)
		return NULL;
	va_start(args, fmt);
	vsnprintf(text, (size_t)len + 1, fmt, args);
	va_end(args);
	return text;
}

void evfs_free(void *block)
{
	free(block);
}

int evfs_grow(void **items, size_t n, size_t *cap, size_t size)
{
	size_t more;
	void *block;

	assert(n <= *cap && size > 0);
	if (n < *cap)
		return 0;
	more = *cap < 8 ? 8 : *cap;
	if (__builtin_add_overflow(more, *cap, &more))
		return -1;
	block = evfs_realloc_array(*items, more, size);
	if (block == NULL)
		return -1;
	*items = block;
	*cap = more;
	return 0;
}

void evfs_cleanup_free_fn(void *pointer_to_pointer)
{
	void *block;

	memcpy(&block, pointer_to_pointer, sizeof(block));
	evfs_free(block);
}

void evfs_cleanup_fd_fn(int *fd)
{
	int saved = errno;

	if (*fd >= 0)
		close(*fd);
	errno = saved;
}

/* ---- arena ---- */

struct evfs_arena_block {
	struct evfs_arena_block *next; /* older; owned */
	size_t size;		       /* bytes of data */
	alignas(max_align_t) uint8_t data[];
};

#define ARENA_ALIGN alignof(max_align_t)
#define ARENA_BLOCK_MIN ((size_t)512)
#define ARENA_BLOCK_MAX ((size_t)64 << 10)

static struct evfs_arena_block *arena_block_new(size_t size)
{
	struct evfs_arena_block *block;

	if (size > PTRDIFF_MAX - sizeof(*block))
		return NULL;
	block = evfs_calloc(1, sizeof(*block) + size);
	if (block != NULL)
		block->size = size;
	return block;
}

static size_t arena_round(size_t bytes)
{
	return (bytes + ARENA_ALIGN - 1) & ~(ARENA_ALIGN - 1);
}

int evfs_arena_reserve(struct evfs_arena *arena, size_t bytes)
{
	struct evfs_arena_block *block;

	if (bytes > PTRDIFF_MAX - ARENA_ALIGN)
		return -1;
	bytes = arena_round(bytes);
	if (arena->head != NULL && arena->head->size - arena->used >= bytes)
		return 0;
	block = arena_block_new(bytes);
	if (block == NULL)
		return -1;
	block->next = arena->head;
	arena->head = block;
	arena->used = 0;
	return 0;
}

/* A new head, twice the size of the one before; a piece that would fill most
 * of it gets a block of its own behind the head, whose rest stays in use. */
static void *arena_alloc_slow(struct evfs_arena *arena, size_t bytes)
{
	struct evfs_arena_block *head = arena->head;
	struct evfs_arena_block *block;
	size_t size = ARENA_BLOCK_MIN;

	if (head != NULL && head->size >= size)
		size = head->size < ARENA_BLOCK_MAX / 2 ? 2 * head->size
							: ARENA_BLOCK_MAX;
	if (head != NULL && bytes > size / 2) {
		block = arena_block_new(bytes);
		if (block == NULL)
			return NULL;
		block->next = head->next;
		head->next = block;
		return block->data;
	}
	if (evfs_arena_reserve(arena, bytes > size ? bytes : size) != 0)
		return NULL;
	arena->used = bytes;
	return arena->head->data;
}

void *evfs_arena_alloc(struct evfs_arena *arena, size_t n, size_t size)
{
	size_t bytes;
	void *piece;

	if (!mem_product(n, size, &bytes) || bytes > PTRDIFF_MAX - ARENA_ALIGN)
		return NULL;
	bytes = arena_round(bytes);
	if (arena->head == NULL || arena->head->size - arena->used < bytes)
		return arena_alloc_slow(arena, bytes);
	piece = arena->head->data + arena->used;
	arena->used += bytes;
	return piece;
}

void *evfs_arena_memdup(struct evfs_arena *arena, const void *data, size_t len)
{
	void *copy = evfs_arena_alloc(arena, len, 1);

	if (copy != NULL && len > 0)
		memcpy(copy, data, len);
	return copy;
}

void evfs_arena_fini(struct evfs_arena *arena)
{
	struct evfs_arena_block *block = arena->head;

	while (block != NULL) {
		struct evfs_arena_block *next = block->next;

		evfs_free(block);
		block = next;
	}
	*arena = (struct evfs_arena){ 0 };
}
