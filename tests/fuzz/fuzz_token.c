/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Tokens from anywhere: never a crash; and one that is accepted has exactly one
 * text, the one that it was read from (but for blanks around it). */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "net/net.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char again[EVFS_TOKEN_TEXT_MAX];
	struct evfs_token token;
	char *text = evfs_calloc(size + 1, 1);
	const char *at;

	if (!text)
		return 0;
	memcpy(text, data, size);
	if (evfs_token_parse(text, &token, NULL) == 0) {
		assert(evfs_token_format(&token, again, sizeof(again), NULL) ==
		       0);
		at = strstr(text, again);
		assert(at);
		assert(strspn(text, " \t\r\n") == (size_t)(at - text));
	}
	evfs_free(text);
	return 0;
}
