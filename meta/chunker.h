/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Where content is cut into chunks: FastCDC. A cut depends on the bytes of its
 * own chunk only, so equal runs of bytes give equal chunks wherever they are,
 * and cutting may start at any cut. The table and the masks are part of the
 * format: replicas share chunks only while they cut alike. Thread-safe. */
#ifndef EVFS_META_CHUNKER_H
#define EVFS_META_CHUNKER_H

#include <stddef.h>
#include <stdint.h>

/* Length of the first chunk of data, 1 to EVFS_CHUNK_MAX. len (> 0): all that
 * is left of the content, or at least EVFS_CHUNK_MAX. */
size_t evfs_chunker_cut(const uint8_t *data, size_t len);

#endif
