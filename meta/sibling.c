/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Names of siblings: STEM.conflict-NODE-DIGITS.EXT. Pure, and a function of
 * replicated facts alone, so that every replica shows the same names. */
#include "meta/view.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "meta/meta.h"

#define EXTENSION_MAX 32 /* longer is no extension */
#define TAIL_MAX 192     /* ".conflict-", node, "-", digits, extension */

static bool only_dots(const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (text[i] != '.')
			return false;
	return true;
}

/* Length of STEM; the rest is EXT with its dot. ".tar.gz" is kept whole; a
 * leading dot makes no extension. */
static size_t stem_len(const char *name, size_t len)
{
	size_t dot = len;

	while (dot > 0 && name[dot - 1] != '.')
		dot--;
	if (dot == 0)
		return len;
	dot--; /* now the place of the last dot */
	if (only_dots(name, dot) || dot + 1 == len ||
	    len - dot - 1 > EXTENSION_MAX)
		return len;
	if (dot > 4 && memcmp(name + dot - 4, ".tar", 4) == 0 &&
	    !only_dots(name, dot - 4))
		return dot - 4;
	return dot;
}

/* At most limit bytes, cut at a UTF-8 boundary. */
static size_t cut(const char *text, size_t len, size_t limit)
{
	if (len <= limit)
		return len;
	while (limit > 0 && ((unsigned char)text[limit] & 0xc0) == 0x80)
		limit--;
	return limit;
}

static void digest(evfs_dot dot, const char *salt, size_t salt_len,
		   char text[EVFS_HASH_HEX_SIZE])
{
	char input[64 + EVFS_NAME_MAX];
	evfs_hash hash;
	int len = snprintf(input, 64, "%016" PRIx64 "/%" PRIu32 "/%" PRIu64
			   "/", dot.actor.node, dot.actor.epoch, dot.counter);

	assert(len > 0 && len < 64);
	memcpy(input + len, salt, salt_len);
	hash = evfs_hash_bytes(input, (size_t)len + salt_len);
	evfs_hash_format(&hash, text);
}

size_t evfs_sibling_name(const char *plain, size_t plain_len, evfs_dot dot,
			 const char *node_name, int digits, bool salt,
			 char *out)
{
	static const char mark[] = ".conflict-";
	char hex[EVFS_HASH_HEX_SIZE];
	char tail[TAIL_MAX];
	size_t stem = stem_len(plain, plain_len);
	size_t node = cut(node_name, strlen(node_name), EVFS_NODE_NAME_MAX);
	size_t at = 0;

	assert(plain_len > 0 && plain_len <= EVFS_NAME_MAX);
	assert(digits == 8 || digits == 16 || digits == 32);
	digest(dot, plain, salt ? plain_len : 0, hex);
	memcpy(tail, mark, sizeof(mark) - 1);
	at += sizeof(mark) - 1;
	memcpy(tail + at, node_name, node);
	at += node;
	tail[at++] = '-';
	memcpy(tail + at, hex, (size_t)digits);
	at += (size_t)digits;
	memcpy(tail + at, plain + stem, plain_len - stem);
	at += plain_len - stem;
	assert(at < EVFS_NAME_MAX);
	stem = cut(plain, stem, EVFS_NAME_MAX - at);
	memcpy(out, plain, stem);
	memcpy(out + stem, tail, at);
	out[stem + at] = '\0';
	return stem + at;
}
