/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Tokens: there and back, one golden text, each way to be damaged; addresses
 * and keys beside them. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "net/net.h"
#include "net/ssh.h"

static const char golden[] =
	"evfs1:DjEyNy4wLjAuMTo3MDAwAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwd"
	"Hh8gISIjJCUmJygpKissLS4vMDEyMzQ1Njc4OTo7PD0-P0BBQkNERUZHSElKS0xNTk"
	"9QUVJTVFVWV1hZWltcXV5fHQvNxQ";

static void make(struct evfs_token *ret, const char *address)
{
	memset(ret, 0, sizeof(*ret));
	snprintf(ret->address, sizeof(ret->address), "%s", address);
	snprintf(ret->fingerprint, sizeof(ret->fingerprint),
		 "SHA256:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8");
	for (int i = 0; i < EVFS_HASH_SIZE; i++)
		ret->volume.b[i] = (uint8_t)(32 + i);
	snprintf(ret->secret, sizeof(ret->secret),
		 "QEFCQ0RFRkdISUpLTE1OT1BRUlNUVVZXWFlaW1xdXl8");
}

START_TEST(there_and_back)
{
	static const char *const addresses[] = {
		"127.0.0.1:7000", "[::1]:1", "nas.example.org:65535", "h:0"
	};
	char text[EVFS_TOKEN_TEXT_MAX], again[EVFS_TOKEN_TEXT_MAX];
	struct evfs_token token, back;
	struct evfs_err err = { 0 };

	for (size_t i = 0; i < sizeof(addresses) / sizeof(addresses[0]); i++) {
		make(&token, addresses[i]);
		ck_assert_msg(evfs_token_format(&token, text, sizeof(text),
						&err) == 0, "%s", err.msg);
		memset(&back, 0xff, sizeof(back));
		ck_assert_msg(evfs_token_parse(text, &back, &err) == 0, "%s",
			      err.msg);
		ck_assert_str_eq(back.address, token.address);
		ck_assert_str_eq(back.fingerprint, token.fingerprint);
		ck_assert_str_eq(back.secret, token.secret);
		ck_assert(evfs_hash_equal(&back.volume, &token.volume));
		ck_assert_int_eq(evfs_token_format(&back, again,
						   sizeof(again), &err), 0);
		ck_assert_str_eq(again, text);
	}
}
END_TEST

START_TEST(the_text_is_frozen)
{
	char text[EVFS_TOKEN_TEXT_MAX];
	struct evfs_token token;

	make(&token, "127.0.0.1:7000");
	ck_assert_int_eq(evfs_token_format(&token, text, sizeof(text), NULL),
			 0);
	ck_assert_str_eq(text, golden);
}
END_TEST

START_TEST(blanks_around_are_fine)
{
	char text[EVFS_TOKEN_TEXT_MAX], blank[EVFS_TOKEN_TEXT_MAX + 8];
	struct evfs_token token;

	make(&token, "127.0.0.1:7000");
	ck_assert_int_eq(evfs_token_format(&token, text, sizeof(text), NULL),
			 0);
	snprintf(blank, sizeof(blank), " \t%s\r\n", text);
	ck_assert_int_eq(evfs_token_parse(blank, &token, NULL), 0);
}
END_TEST

START_TEST(each_cut_and_each_change_is_found)
{
	char text[EVFS_TOKEN_TEXT_MAX], bad[EVFS_TOKEN_TEXT_MAX + 8];
	struct evfs_token token, back;
	struct evfs_err err;
	size_t len;

	make(&token, "127.0.0.1:7000");
	ck_assert_int_eq(evfs_token_format(&token, text, sizeof(text), NULL),
			 0);
	len = strlen(text);
	for (size_t i = 0; i < len; i++) {
		static const char others[] = "AZaz09-_+/=. \n\xff";

		memcpy(bad, text, i);
		bad[i] = '\0';
		memset(&err, 0, sizeof(err));
		ck_assert_msg(evfs_token_parse(bad, &back, &err) ==
			      EVFS_EINVAL, "cut at %zu", i);
		ck_assert_msg(strstr(err.msg, "token"), "%s", err.msg);
		for (const char *c = others; *c; c++) {
			memcpy(bad, text, len + 1);
			bad[i] = *c;
			if (*c == text[i])
				continue;
			ck_assert_msg(evfs_token_parse(bad, &back, NULL) ==
				      EVFS_EINVAL, "%c at %zu", *c, i);
		}
	}
	snprintf(bad, sizeof(bad), "%sAAAA", text);
	ck_assert_int_eq(evfs_token_parse(bad, &back, NULL), EVFS_EINVAL);
}
END_TEST

static void parse_says(const char *text, const char *words)
{
	struct evfs_token token;
	struct evfs_err err = { 0 };

	ck_assert_int_eq(evfs_token_parse(text, &token, &err), EVFS_EINVAL);
	ck_assert_msg(strstr(err.msg, words), "%s", err.msg);
}

START_TEST(errors_say_what_is_wrong)
{
	char text[EVFS_TOKEN_TEXT_MAX];
	struct evfs_token token;

	make(&token, "127.0.0.1:7000");
	ck_assert_int_eq(evfs_token_format(&token, text, sizeof(text), NULL),
			 0);
	parse_says("", "not a token");
	parse_says("hello", "not a token");
	parse_says("evfs1:", "cut short");
	parse_says("evfs2:AAAA", "not a token");
	text[strlen(text) - 40] = '\0';
	parse_says(text, "cut short");
	ck_assert_int_eq(evfs_token_format(&token, text, sizeof(text), NULL),
			 0);
	text[30] = text[30] == 'A' ? 'B' : 'A';
	parse_says(text, "checksum");
	text[30] = '!';
	parse_says(text, "a character that no token has");
}
END_TEST

START_TEST(bad_fields_make_no_token)
{
	char text[EVFS_TOKEN_TEXT_MAX];
	struct evfs_token token;

	make(&token, "no port");
	ck_assert_int_eq(evfs_token_format(&token, text, sizeof(text), NULL),
			 EVFS_EINVAL);
	make(&token, "h:1");
	token.fingerprint[0] = 'X';
	ck_assert_int_eq(evfs_token_format(&token, text, sizeof(text), NULL),
			 EVFS_EINVAL);
	make(&token, "h:1");
	token.secret[20] = '\0';
	ck_assert_int_eq(evfs_token_format(&token, text, sizeof(text), NULL),
			 EVFS_EINVAL);
	make(&token, "h:1");
	ck_assert_int_eq(evfs_token_format(&token, text, 100, NULL),
			 EVFS_ELIMIT);
}
END_TEST

START_TEST(addresses_are_split)
{
	static const char *const bad[] = {
		"", "host", "host:", "host:x", "host:-1", "host:70000",
		"host:12 ", "::1:80", "[::1", "[::1]80", "[::1]x:80", ":"
	};
	char host[256], port[8];

	ck_assert_int_eq(evfs_addr_split("nas:7000", host, port, NULL), 0);
	ck_assert_str_eq(host, "nas");
	ck_assert_str_eq(port, "7000");
	ck_assert_int_eq(evfs_addr_split("[fe80::1]:0", host, port, NULL), 0);
	ck_assert_str_eq(host, "fe80::1");
	ck_assert_int_eq(evfs_addr_split(":5", host, port, NULL), 0);
	ck_assert_str_eq(host, "");
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		ck_assert_msg(evfs_addr_split(bad[i], host, port, NULL) ==
			      EVFS_EINVAL, "%s", bad[i]);
	ck_assert(evfs_addr_is_any("0.0.0.0:1"));
	ck_assert(evfs_addr_is_any("[::]:1"));
	ck_assert(evfs_addr_is_any(":1"));
	ck_assert(!evfs_addr_is_any("127.0.0.1:1"));
	ck_assert(!evfs_addr_is_any("nas:1"));
	ck_assert(!evfs_addr_is_any(""));
}
END_TEST

/* ---- keys ---- */

static char dir[64], path[80];

static void key_setup(void)
{
	snprintf(dir, sizeof(dir), "%s/evfs-key-XXXXXX",
		 getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/key", dir);
}

static void key_teardown(void)
{
	unlink(path);
	rmdir(dir);
}

START_TEST(a_key_is_made_and_read_back)
{
	char made[EVFS_KEY_TEXT_MAX], read[EVFS_KEY_TEXT_MAX], fp[64];
	struct evfs_buf text = { 0 };
	struct evfs_err err = { 0 };
	struct stat st;

	ck_assert_msg(evfs_net_make_key(path, made, sizeof(made), &err) == 0,
		      "%s", err.msg);
	ck_assert_int_eq(strncmp(made, "ssh-ed25519 AAAA", 16), 0);
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_int_eq(st.st_mode & 07777, 0600);
	ck_assert_int_eq(evfs_io_read_file(path, 4096, &text, &err), 0);
	ck_assert_int_eq(memcmp(text.data, "-----BEGIN OPENSSH PRIVATE KEY",
				30), 0);
	evfs_buf_fini(&text);
	ck_assert_int_eq(evfs_net_public_key(path, read, sizeof(read), &err),
			 0);
	ck_assert_str_eq(made, read);
	ck_assert_int_eq(evfs_ssh_key_fingerprint(made, fp, sizeof(fp), &err),
			 0);
	ck_assert_int_eq(strncmp(fp, "SHA256:", 7), 0);
	ck_assert_uint_eq(strlen(fp), 7 + 43);
	/* An identity is not overwritten. */
	ck_assert_int_eq(evfs_net_make_key(path, made, sizeof(made), &err),
			 EVFS_EEXISTS);
	ck_assert_int_eq(evfs_net_public_key(path, made, sizeof(made), NULL),
			 0);
	ck_assert_str_eq(made, read);
}
END_TEST

START_TEST(fingerprints_are_those_of_ssh_keygen)
{
	/* A key of no use, and what ssh-keygen -l printed for it. */
	static const char key[] = 
		"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8"
		"QERITFBUWFxgZGhscHR4f";
	char fp[64];

	ck_assert_int_eq(evfs_ssh_key_fingerprint(key, fp, sizeof(fp), NULL),
			 0);
	ck_assert_str_eq(fp, "SHA256:ZkAslGjFiUHdGf/WUL8rQvkib4PTvQatUV0OUQSncCA");
}
END_TEST

START_TEST(bad_keys_are_refused)
{
	char text[EVFS_KEY_TEXT_MAX], fp[64];
	struct evfs_err err = { 0 };

	ck_assert_int_eq(evfs_net_public_key(path, text, sizeof(text), &err),
			 EVFS_ENOTFOUND);
	ck_assert_msg(strstr(err.msg, path), "%s", err.msg);
	ck_assert_int_eq(evfs_io_replace(path, "junk\n", 5, 0600, &err), 0);
	ck_assert_int_eq(evfs_net_public_key(path, text, sizeof(text), &err),
			 EVFS_ECORRUPT);
	ck_assert_int_eq(evfs_ssh_key_fingerprint("ssh-rsa AAAA", fp,
						  sizeof(fp), &err),
			 EVFS_EINVAL);
	ck_assert_int_eq(evfs_ssh_key_fingerprint("ssh-ed25519", fp,
						  sizeof(fp), &err),
			 EVFS_EINVAL);
	ck_assert_int_eq(evfs_ssh_key_fingerprint("ssh-ed25519 AAAA", fp,
						  sizeof(fp), &err),
			 EVFS_EINVAL);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("token");
	TCase *tokens = tcase_create("tokens");
	TCase *keys = tcase_create("keys");
	SRunner *runner;
	int failed;

	tcase_add_test(tokens, there_and_back);
	tcase_add_test(tokens, the_text_is_frozen);
	tcase_add_test(tokens, blanks_around_are_fine);
	tcase_add_test(tokens, each_cut_and_each_change_is_found);
	tcase_add_test(tokens, errors_say_what_is_wrong);
	tcase_add_test(tokens, bad_fields_make_no_token);
	tcase_add_test(tokens, addresses_are_split);
	suite_add_tcase(suite, tokens);
	tcase_add_checked_fixture(keys, key_setup, key_teardown);
	tcase_add_test(keys, a_key_is_made_and_read_back);
	tcase_add_test(keys, fingerprints_are_those_of_ssh_keygen);
	tcase_add_test(keys, bad_keys_are_refused);
	suite_add_tcase(suite, keys);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
