/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Memory. All allocation of evfs goes through here, so that a test can make
 * the n-th one fail. Sizes are checked for overflow. Thread-safe. */
#ifndef EVFS_BASE_MEM_H
#define EVFS_BASE_MEM_H

#include <stddef.h>
#include <stdint.h>

/* Zeroed memory for n elements of size bytes; NULL when there is none or the
 * product overflows. n or size 0 gives a valid pointer. Freed with
 * evfs_free(). */
void *evfs_calloc(size_t n, size_t size) __attribute__((malloc));

/* Resizes to n elements of size bytes; the old block stays valid on NULL.
 * New bytes are not zeroed. */
void *evfs_realloc_array(void *block, size_t n, size_t size);

/* Copies; NULL when out of memory. evfs_memdup(NULL, 0) gives a valid
 * pointer. evfs_strdup(NULL) is NULL. */
void *evfs_memdup(const void *data, size_t len);
char *evfs_strdup(const char *text);
char *evfs_asprintf(const char *fmt, ...)
	__attribute__((format(printf, 1, 2)));

/* free(NULL) is fine. */
void evfs_free(void *block);

/* Grows *items (n used, *cap allocated, elements of size bytes) so that one
 * more fits. 0, or -1 when out of memory (nothing changed then). */
int evfs_grow(void **items, size_t n, size_t *cap, size_t size);

/* For tests: the n-th allocation from now on fails (1 = the next); 0 = none.
 * Counts in all threads. evfs_mem_fail_hit(): has it happened? */
void evfs_mem_fail_after(uint64_t n);
int evfs_mem_fail_hit(void);

/* For a daemon, now and then: gives what was freed, also between blocks in use,
 * back to the system. It takes milliseconds, in which others who allocate may
 * wait. Any thread; no effect where the C library is not glibc. */
void evfs_mem_return_unused(void);

/* Cleanup attributes for locals, and steal to hand over. */
void evfs_cleanup_free_fn(void *pointer_to_pointer);
void evfs_cleanup_fd_fn(int *fd);
#define evfs_cleanup_free __attribute__((cleanup(evfs_cleanup_free_fn)))
#define evfs_cleanup_fd __attribute__((cleanup(evfs_cleanup_fd_fn)))
#define evfs_steal(pointer) \
	__extension__({ __typeof__(pointer) taken_ = (pointer); \
		(pointer) = NULL; taken_; })

/* A bump arena: many small pieces, freed at once. Not thread-safe. */
struct evfs_arena {
	struct evfs_arena_block *head; /* owned; newest block first */
	size_t used;                   /* bytes used of the head block */
};

/* {0} is a valid empty arena. alloc: zeroed, aligned for any type; NULL when
 * out of memory. reserve: the next `bytes` bytes come from one block; 0, or -1
 * when out of memory. */
int evfs_arena_reserve(struct evfs_arena *arena, size_t bytes);
void *evfs_arena_alloc(struct evfs_arena *arena, size_t n, size_t size);
void *evfs_arena_memdup(struct evfs_arena *arena, const void *data,
			size_t len);
void evfs_arena_fini(struct evfs_arena *arena);

#endif
