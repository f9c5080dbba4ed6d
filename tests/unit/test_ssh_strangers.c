/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The listener and those who should not come in: wrong users, passwords, keys,
 * shells and forwarding, garbage, port scanners, half-open handshakes, crowds.
 * The client is libssh itself, in blocking mode. */
#include <check.h>
#include <libssh/libssh.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/ssh.h"
#include "tests/unit/ssh_fake.h"

#define WAIT_MS 5000

static struct replica listener, member;

static void setup_with(const struct evfs_net_options *options)
{
	replica_make(&listener, "listener", "volume");
	replica_start(&listener, options);
	replica_make(&member, "member", "volume");
	replica_start(&member, NULL);
	replica_know(&listener, &member);
	replica_know(&member, &listener);
}

static void setup(void)
{
	setup_with(NULL);
}

static void setup_short(void)
{
	const struct evfs_net_options options = { .listen = "127.0.0.1:0",
						  .handshake_ms = 400 };

	setup_with(&options);
}

/* Whatever happened: members still get in. */
static void teardown(void)
{
	evfs_conn id = replica_dial(&member, &listener, NULL, NULL);

	ck_assert_msg(replica_wait(&member, id, is_open, 0, WAIT_MS), "%s",
		      replica_conn(&member, id).why.msg);
	replica_free(&member);
	replica_free(&listener);
}

/* A session after key exchange. */
static ssh_session open_session(const char *user)
{
	ssh_session session = ssh_new();
	char host[256], port[8];
	unsigned number;
	bool off = false;
	long timeout = WAIT_MS / 1000;

	ck_assert_int_eq(evfs_addr_split(listener.member.address, host, port,
					 NULL), 0);
	number = (unsigned)atoi(port);
	ssh_options_set(session, SSH_OPTIONS_PROCESS_CONFIG, &off);
	ssh_options_set(session, SSH_OPTIONS_HOST, host);
	ssh_options_set(session, SSH_OPTIONS_PORT, &number);
	ssh_options_set(session, SSH_OPTIONS_USER, user);
	ssh_options_set(session, SSH_OPTIONS_TIMEOUT, &timeout);
	ssh_options_set(session, SSH_OPTIONS_KNOWNHOSTS, "/dev/null");
	ck_assert_msg(ssh_connect(session) == SSH_OK, "%s",
		      ssh_get_error(session));
	return session;
}

static void close_session(ssh_session session)
{
	ssh_disconnect(session);
	ssh_free(session);
}

static ssh_key member_key(void)
{
	ssh_key key = NULL;

	ck_assert_int_eq(ssh_pki_import_privkey_file(member.key_path, NULL,
						     NULL, NULL, &key),
			 SSH_OK);
	return key;
}

static ssh_session open_member(void)
{
	ssh_session session = open_session("evfs");
	ssh_key key = member_key();

	ck_assert_int_eq(ssh_userauth_publickey(session, NULL, key),
			 SSH_AUTH_SUCCESS);
	ssh_key_free(key);
	return session;
}

START_TEST(the_member_key_needs_the_member_user)
{
	static const char *const users[] = { "root", "join", "", "evfs2" };
	ssh_key key = member_key();

	for (size_t i = 0; i < sizeof(users) / sizeof(users[0]); i++) {
		ssh_session session = open_session(users[i]);

		ck_assert_int_eq(ssh_userauth_publickey(session, NULL, key),
				 SSH_AUTH_DENIED);
		close_session(session);
	}
	ssh_key_free(key);
}
END_TEST

START_TEST(an_unknown_key_is_denied_and_told_nothing)
{
	ssh_session session = open_session("evfs");
	ssh_key key = NULL;

	ck_assert_int_eq(ssh_pki_generate(SSH_KEYTYPE_ED25519, 0, &key),
			 SSH_OK);
	ck_assert_int_eq(ssh_userauth_none(session, NULL), SSH_AUTH_DENIED);
	ck_assert_int_eq(ssh_userauth_try_publickey(session, NULL, key),
			 SSH_AUTH_DENIED);
	ck_assert_int_eq(ssh_userauth_publickey(session, NULL, key),
			 SSH_AUTH_DENIED);
	ck_assert_ptr_null(ssh_get_issue_banner(session));
	ck_assert_ptr_null(strstr(ssh_get_serverbanner(session), "evfs"));
	ssh_key_free(key);
	close_session(session);
}
END_TEST

START_TEST(passwords_are_denied_and_counted)
{
	ssh_session session = open_session("evfs");

	ck_assert_int_eq(ssh_userauth_password(session, NULL, "secret"),
			 SSH_AUTH_DENIED);
	close_session(session);
	session = open_session("join");
	ck_assert_int_eq(ssh_userauth_password(session, NULL, ""),
			 SSH_AUTH_DENIED);
	ck_assert_int_eq(ssh_userauth_password(session, NULL, "guess"),
			 SSH_AUTH_DENIED);
	/* The third wrong one ends the connection. */
	ck_assert_int_ne(ssh_userauth_password(session, NULL, "again"),
			 SSH_AUTH_SUCCESS);
	ck_assert_int_eq(ssh_userauth_password(session, NULL, "more"),
			 SSH_AUTH_ERROR);
	close_session(session);
}
END_TEST

START_TEST(a_long_password_is_denied)
{
	ssh_session session = open_session("join");
	char *text = malloc(20001);

	memset(text, 'x', 20000);
	text[20000] = '\0';
	ck_assert_int_eq(ssh_userauth_password(session, NULL, text),
			 SSH_AUTH_DENIED);
	free(text);
	close_session(session);
}
END_TEST

START_TEST(no_channel_without_authentication)
{
	ssh_session session = open_session("evfs");

	ck_assert_ptr_null(ssh_channel_new(session));
	ck_assert_int_eq(replica_count(&listener, false), 0);
	close_session(session);
}
END_TEST

START_TEST(members_get_no_shell_and_no_forwarding)
{
	ssh_session session = open_member();
	ssh_channel channel = ssh_channel_new(session);
	ssh_channel other = ssh_channel_new(session);
	ssh_channel forward = ssh_channel_new(session);
	ssh_channel third = ssh_channel_new(session);

	ck_assert_int_ne(ssh_channel_open_forward(forward, "localhost", 22,
						  "localhost", 1), SSH_OK);
	ck_assert_int_ne(ssh_channel_listen_forward(session, NULL, 0, NULL),
			 SSH_OK);
	ck_assert_int_eq(ssh_channel_open_session(channel), SSH_OK);
	ck_assert_int_ne(ssh_channel_request_pty(channel), SSH_OK);
	ck_assert_int_ne(ssh_channel_request_shell(channel), SSH_OK);
	ck_assert_int_ne(ssh_channel_request_exec(channel, "id"), SSH_OK);
	ck_assert_int_ne(ssh_channel_request_env(channel, "A", "B"), SSH_OK);
	ck_assert_int_ne(ssh_channel_request_subsystem(channel, "sftp"),
			 SSH_OK);
	ck_assert_int_ne(ssh_channel_request_subsystem(channel, "evfs-join"),
			 SSH_OK);
	ck_assert_int_eq(ssh_channel_request_subsystem(channel,
						       "evfs-control"),
			 SSH_OK);
	/* Only with both channels is it a connection; and no more of them. */
	ck_assert_int_eq(replica_count(&listener, false), 0);
	ck_assert_int_eq(ssh_channel_open_session(other), SSH_OK);
	ck_assert_int_ne(ssh_channel_open_session(third), SSH_OK);
	ck_assert_int_ne(ssh_channel_request_subsystem(other, "evfs-control"),
			 SSH_OK);
	ck_assert_int_eq(ssh_channel_request_subsystem(other, "evfs-bulk"),
			 SSH_OK);
	ck_assert_uint_ne(replica_wait_incoming(&listener, 1, WAIT_MS), 0);
	close_session(session);
}
END_TEST

START_TEST(a_member_without_channels_times_out)
{
	ssh_session session = open_member();

	ck_assert(socket_ends(ssh_get_fd(session), WAIT_MS));
	ck_assert_int_eq(replica_count(&listener, false), 0);
	ssh_silent_disconnect(session);
	ssh_free(session);
}
END_TEST

/* ---- raw sockets ---- */

static void send_all(int fd, const void *data, size_t len)
{
	/* The other side may hang up in the middle: that is fine. */
	(void)!send(fd, data, len, MSG_NOSIGNAL);
}

START_TEST(garbage_is_hung_up_on)
{
	static const char *const lines[] = {
		"GET / HTTP/1.1\r\n\r\n", "SSH-1.5-old\r\n",
		"SSH-2.0-x\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff",
		"\r\n\r\n\r\n", "SSH-2.0-x\r\nSSH-2.0-x\r\nSSH-2.0-x\r\n"
	};
	uint8_t noise[4096];
	uint64_t word = 88172645463325252u;

	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		int fd = replica_connect(&listener);

		send_all(fd, lines[i], strlen(lines[i]));
		ck_assert_msg(socket_ends(fd, WAIT_MS), "line %zu", i);
		close(fd);
	}
	for (int round = 0; round < 20; round++) {
		int fd = replica_connect(&listener);

		for (size_t i = 0; i < sizeof(noise); i++) {
			word ^= word << 13;
			word ^= word >> 7;
			word ^= word << 17;
			noise[i] = (uint8_t)word;
		}
		if (round % 2)
			send_all(fd, "SSH-2.0-noise\r\n", 15);
		send_all(fd, noise, sizeof(noise));
		ck_assert_msg(socket_ends(fd, WAIT_MS), "round %d", round);
		close(fd);
	}
}
END_TEST

START_TEST(port_scanners_leave_nothing)
{
	for (int i = 0; i < 200; i++)
		close(replica_connect(&listener));
}
END_TEST

START_TEST(half_open_handshakes_time_out)
{
	int fds[4];
	uint64_t start = now_ns();

	for (int i = 0; i < 4; i++)
		fds[i] = replica_connect(&listener);
	send_all(fds[1], "SSH-2.0-slow", 12);
	send_all(fds[2], "SSH-2.0-slow\r\n", 14);
	send_all(fds[3], "SSH-2.0-slow\r\n\0\0\3\0\7", 19);
	for (int i = 0; i < 4; i++) {
		ck_assert(socket_ends(fds[i], WAIT_MS));
		close(fds[i]);
	}
	ck_assert_uint_ge(now_ns() - start, 300000000u);
	ck_assert_uint_lt(now_ns() - start, 3000000000u);
}
END_TEST

START_TEST(one_source_has_its_share)
{
	int fds[12];
	int refused = 0;

	for (int i = 0; i < 12; i++)
		fds[i] = replica_connect(&listener);
	for (int i = 0; i < 12; i++) {
		struct pollfd pfd = { fds[i], POLLIN, 0 };
		char byte;

		ck_assert_int_eq(poll(&pfd, 1, WAIT_MS), 1);
		/* The version line, or the end. */
		refused += recv(fds[i], &byte, 1, 0) <= 0;
	}
	ck_assert_int_eq(refused, 4);
	for (int i = 0; i < 12; i++)
		close(fds[i]);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("ssh strangers");
	TCase *plain = tcase_create("refused");
	TCase *brief = tcase_create("deadlines");
	SRunner *runner;
	int failed;

	tcase_set_timeout(plain, 60);
	tcase_add_checked_fixture(plain, setup, teardown);
	tcase_add_test(plain, the_member_key_needs_the_member_user);
	tcase_add_test(plain, an_unknown_key_is_denied_and_told_nothing);
	tcase_add_test(plain, passwords_are_denied_and_counted);
	tcase_add_test(plain, a_long_password_is_denied);
	tcase_add_test(plain, no_channel_without_authentication);
	tcase_add_test(plain, members_get_no_shell_and_no_forwarding);
	tcase_add_test(plain, garbage_is_hung_up_on);
	tcase_add_test(plain, port_scanners_leave_nothing);
	suite_add_tcase(suite, plain);
	tcase_set_timeout(brief, 60);
	tcase_add_checked_fixture(brief, setup_short, teardown);
	tcase_add_test(brief, a_member_without_channels_times_out);
	tcase_add_test(brief, half_open_handshakes_time_out);
	tcase_add_test(brief, one_source_has_its_share);
	suite_add_tcase(suite, brief);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
