/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Tokens of invitations, as text.
 *
 * "evfs1:" and the base64url (RFC 4648, no padding) of these bytes:
 *
 *   1   length n of the address
 *   n   address, "host:port"
 *   32  SHA-256 of the inviter's host key
 *   32  id of the volume
 *   32  secret
 *   4   the first bytes of the BLAKE2b hash of all before: finds typing errors
 *
 * One token has one text: unused bits are 0. */
#include "net/net.h"

#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "net/ssh.h"

#define PREFIX "evfs1:"
#define PREFIX_LEN (sizeof(PREFIX) - 1)
#define FINGERPRINT_PREFIX "SHA256:"
#define PART 32 /* bytes of fingerprint, volume, secret */
#define PART_TEXT 43 /* base64 of it */
#define CHECK 4
#define RAW_MIN (1 + 3 * PART + CHECK)
#define RAW_MAX (RAW_MIN + EVFS_ADDRESS_MAX)

static const char alphabet_url[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	"abcdefghijklmnopqrstuvwxyz0123456789-_";
static const char alphabet_std[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	"abcdefghijklmnopqrstuvwxyz0123456789+/";

/* text: room for ceil(len * 4 / 3) + 1. */
static void encode64(const char *alphabet, const uint8_t *data, size_t len,
		     char *text)
{
	uint32_t bits = 0;
	unsigned n = 0;

	for (size_t i = 0; i < len; i++) {
		bits = bits << 8 | data[i];
		for (n += 8; n >= 6; n -= 6)
			*text++ = alphabet[bits >> (n - 6) & 63];
	}
	if (n > 0)
		*text++ = alphabet[bits << (6 - n) & 63];
	*text = '\0';
}

/* Bytes written (at most size), or -1: other characters, leftover bits that
 * are not 0, too long. */
static long decode64(const char *alphabet, const char *text, size_t text_len,
		     uint8_t *data, size_t size)
{
	uint32_t bits = 0;
	unsigned n = 0;
	size_t len = 0;

	for (size_t i = 0; i < text_len; i++) {
		const char *at = text[i] ? strchr(alphabet, text[i]) : NULL;

		if (!at)
			return -1;
		bits = bits << 6 | (uint32_t)(at - alphabet);
		n += 6;
		if (n < 8)
			continue;
		if (len == size)
			return -1;
		n -= 8;
		data[len++] = (uint8_t)(bits >> n);
	}
	if (n >= 6 || (bits & ((1u << n) - 1)))
		return -1;
	return (long)len;
}

int evfs_token_format(const struct evfs_token *token, char *text, size_t size,
		      struct evfs_err *err)
{
	size_t n = strlen(token->address), fp = strlen(FINGERPRINT_PREFIX);
	uint8_t raw[RAW_MAX];
	uint8_t *at = raw;
	char host[256], port[8];
	evfs_hash check;

	if (evfs_addr_split(token->address, host, port, err))
		return evfs_err_wrap(err, EVFS_EINVAL, "token");
	*at++ = (uint8_t)n;
	memcpy(at, token->address, n);
	at += n;
	if (strncmp(token->fingerprint, FINGERPRINT_PREFIX, fp) != 0 ||
	    decode64(alphabet_std, token->fingerprint + fp,
		     strlen(token->fingerprint + fp), at, PART) != PART)
		return evfs_err_set(err, EVFS_EINVAL,
				    "token: '%s': not a SHA256 fingerprint",
				    token->fingerprint);
	at += PART;
	memcpy(at, token->volume.b, PART);
	at += PART;
	if (decode64(alphabet_url, token->secret, strlen(token->secret), at,
		     PART) != PART)
		return evfs_err_set(err, EVFS_EINVAL,
				    "token: the secret is not 32 bytes in "
				    "base64url");
	at += PART;
	check = evfs_hash_bytes(raw, (size_t)(at - raw));
	memcpy(at, check.b, CHECK);
	at += CHECK;
	n = (size_t)(at - raw);
	if (PREFIX_LEN + (n * 4 + 2) / 3 + 1 > size)
		return evfs_err_set(err, EVFS_ELIMIT,
				    "token: longer than %zu bytes", size - 1);
	memcpy(text, PREFIX, PREFIX_LEN);
	encode64(alphabet_url, raw, n, text + PREFIX_LEN);
	return 0;
}

static bool is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* The bytes of a text without blanks around it, checked; negative = error. */
static long parse_raw(const char *text, uint8_t raw[RAW_MAX],
		      struct evfs_err *err)
{
	size_t len, want;
	evfs_hash check;
	long n;

	while (is_space(*text))
		text++;
	len = strlen(text);
	while (len > 0 && is_space(text[len - 1]))
		len--;
	if (len < PREFIX_LEN || memcmp(text, PREFIX, PREFIX_LEN) != 0)
		return evfs_err_set(err, EVFS_EINVAL,
				    "not a token: one begins with '%s' "
				    "(paste the line that 'evfsctl invite' "
				    "printed)", PREFIX);
	text += PREFIX_LEN;
	len -= PREFIX_LEN;
	if (strspn(text, alphabet_url) < len)
		return evfs_err_set(err, EVFS_EINVAL,
				    "token damaged: a character that no token "
				    "has (copy it again)");
	/* The first byte, the address's length, tells the length of all. */
	n = len < 4 ? 0 : decode64(alphabet_url, text, 4, raw, RAW_MAX);
	want = n > 0 ? RAW_MIN + raw[0] : RAW_MIN;
	if (len < (want * 4 + 2) / 3)
		return evfs_err_set(err, EVFS_EINVAL,
				    "token cut short (paste the whole line)");
	n = decode64(alphabet_url, text, len, raw, RAW_MAX);
	if (n < 0 || (size_t)n != want)
		return evfs_err_set(err, EVFS_EINVAL,
				    "token damaged: its length is wrong (copy "
				    "it again)");
	check = evfs_hash_bytes(raw, (size_t)n - CHECK);
	if (memcmp(check.b, raw + n - CHECK, CHECK) != 0)
		return evfs_err_set(err, EVFS_EINVAL,
				    "token damaged: its checksum is wrong "
				    "(copy it again)");
	return n;
}

int evfs_token_parse(const char *text, struct evfs_token *ret,
		     struct evfs_err *err)
{
	struct evfs_token token = { 0 };
	uint8_t raw[RAW_MAX];
	const uint8_t *at = raw + 1;
	char host[256], port[8];
	long n = parse_raw(text, raw, err);
	int rc;

	if (n < 0)
		return (int)n;
	memcpy(token.address, at, raw[0]);
	if (strlen(token.address) != raw[0])
		return evfs_err_set(err, EVFS_EINVAL,
				    "token: its address holds a NUL byte");
	rc = evfs_addr_split(token.address, host, port, err);
	if (rc)
		return evfs_err_wrap(err, rc, "token");
	at += raw[0];
	snprintf(token.fingerprint, sizeof(token.fingerprint),
		 FINGERPRINT_PREFIX);
	encode64(alphabet_std, at, PART,
		 token.fingerprint + strlen(FINGERPRINT_PREFIX));
	at += PART;
	memcpy(token.volume.b, at, PART);
	at += PART;
	_Static_assert(sizeof(token.secret) == PART_TEXT + 1,
		       "a secret fits exactly");
	encode64(alphabet_url, at, PART, token.secret);
	*ret = token;
	return 0;
}
