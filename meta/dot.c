/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Dots as text and as bytes; see dot.h. */
#include "meta/dot.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/buf.h"

void evfs_dot_format(evfs_dot dot, char text[EVFS_DOT_TEXT_SIZE])
{
	snprintf(text, EVFS_DOT_TEXT_SIZE,
		 "%016" PRIx64 "/%" PRIu32 "/%" PRIu64, dot.actor.node,
		 dot.actor.epoch, dot.counter);
}

/* Exactly 16 lower-case digits, as evfs_dot_format() writes them: one text
 * for one dot. NULL where they are not there. */
static const char *parse_node(const char *at, uint64_t *ret)
{
	uint64_t value = 0;

	for (int i = 0; i < 16; i++, at++) {
		if (*at >= '0' && *at <= '9')
			value = value << 4 | (uint64_t)(*at - '0');
		else if (*at >= 'a' && *at <= 'f')
			value = value << 4 | (uint64_t)(*at - 'a' + 10);
		else
			return NULL;
	}
	*ret = value;
	return at;
}

static const char *parse_decimal(const char *at, uint64_t max, uint64_t *ret)
{
	uint64_t value = 0;

	if (*at < '0' || *at > '9' ||
	    (*at == '0' && at[1] >= '0' && at[1] <= '9'))
		return NULL;
	for (; *at >= '0' && *at <= '9'; at++) {
		uint64_t digit = (uint64_t)(*at - '0');

		if (value > (max - digit) / 10)
			return NULL;
		value = 10 * value + digit;
	}
	*ret = value;
	return at;
}

bool evfs_dot_parse(const char *text, evfs_dot *ret)
{
	uint64_t node, epoch, counter;
	const char *at = parse_node(text, &node);

	if (at == NULL || *at != '/')
		return false;
	at = parse_decimal(at + 1, UINT32_MAX, &epoch);
	if (at == NULL || *at != '/')
		return false;
	at = parse_decimal(at + 1, UINT64_MAX, &counter);
	if (at == NULL || *at != '\0')
		return false;
	*ret = (evfs_dot){ { node, (uint32_t)epoch }, counter };
	return true;
}

void evfs_dot_write(evfs_dot dot, uint8_t bytes[EVFS_DOT_BYTES])
{
	evfs_be64_write(bytes, dot.actor.node);
	evfs_be32_write(bytes + 8, dot.actor.epoch);
	evfs_be64_write(bytes + 12, dot.counter);
}

evfs_dot evfs_dot_read(const uint8_t bytes[EVFS_DOT_BYTES])
{
	return (evfs_dot){ { evfs_be64_read(bytes), evfs_be32_read(bytes + 8) },
			   evfs_be64_read(bytes + 12) };
}
