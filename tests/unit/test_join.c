/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Joining a volume over a real listener: the happy way and every way to fail.
 */
#include <arpa/inet.h>
#include <check.h>
#include <libssh/libssh.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/mem.h"
#include "net/ssh.h"
#include "tests/unit/ssh_fake.h"

#define WAIT_MS 5000

static const char secret[] = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";
static struct replica inviter, joiner;
static struct evfs_token token;

static uint64_t wall_ns(void)
{
	const struct evfs_env *env = evfs_env_system();

	return env->wall_ns(env->ctx);
}

static void invite(const char *text, uint64_t expires_ns)
{
	struct evfs_err err = { 0 };

	evfs_meta_lock(inviter.meta);
	ck_assert_msg(evfs_invite_add(inviter.meta, text, expires_ns, &err) ==
		      0, "%s", err.msg);
	evfs_meta_unlock(inviter.meta);
}

static void setup(void)
{
	replica_make(&inviter, "nas", "volume");
	replica_start(&inviter, NULL);
	replica_make(&joiner, "laptop", "nothing yet");
	snprintf(token.address, sizeof(token.address), "%s",
		 evfs_net_address(inviter.net));
	snprintf(token.fingerprint, sizeof(token.fingerprint), "%s",
		 evfs_net_fingerprint(inviter.net));
	token.volume = *evfs_meta_volume(inviter.meta);
	snprintf(token.secret, sizeof(token.secret), "%s", secret);
	invite(secret, wall_ns() + 3600u * (uint64_t)1000000000);
}

static void teardown(void)
{
	replica_free(&inviter);
	replica_free(&joiner);
}

static char name[EVFS_NODE_NAME_MAX + 1];
static struct evfs_member *all;
static size_t n_all;

static int try_join(struct evfs_err *err)
{
	all = NULL;
	n_all = 0;
	return evfs_net_join(&token, &joiner.member, joiner.key_path, WAIT_MS,
			     name, &all, &n_all, err);
}

static void join_fails(int code, const char *words)
{
	struct evfs_err err = { 0 };
	int rc = try_join(&err);

	ck_assert_msg(rc == code && err.code == code, "%d: %s", rc, err.msg);
	ck_assert_msg(strstr(err.msg, words), "%s", err.msg);
	ck_assert_ptr_null(all);
}

static const struct evfs_member *told(const char *who)
{
	for (size_t i = 0; i < n_all; i++) {
		if (strcmp(all[i].name, who) == 0)
			return &all[i];
	}
	return NULL;
}

START_TEST(joins)
{
	struct evfs_err err = { 0 };
	struct evfs_member at_inviter;

	snprintf(joiner.member.address, sizeof(joiner.member.address),
		 "192.0.2.1:7000");
	ck_assert_msg(try_join(&err) == 0, "%s", err.msg);
	ck_assert_str_eq(name, "laptop");
	ck_assert_uint_eq(n_all, 2);
	ck_assert_ptr_nonnull(told("laptop"));
	ck_assert_uint_eq(told("laptop")->node, joiner.node);
	ck_assert_str_eq(told("laptop")->address, "192.0.2.1:7000");
	ck_assert_ptr_nonnull(told("nas"));
	ck_assert_str_eq(told("nas")->key, inviter.key);
	/* Its own record had no address: the token's worked. */
	ck_assert_str_eq(told("nas")->address, token.address);
	evfs_free(all);
	evfs_meta_lock(inviter.meta);
	ck_assert_int_eq(evfs_members_by_node(inviter.meta, joiner.node,
					      &at_inviter, &err), 0);
	evfs_meta_unlock(inviter.meta);
	ck_assert_str_eq(at_inviter.name, "laptop");
	ck_assert_str_eq(at_inviter.key, joiner.key);
	ck_assert_uint_eq(replica_members_changed(&inviter), 1);
}
END_TEST

START_TEST(the_new_member_gets_in)
{
	struct evfs_err err = { 0 };
	evfs_conn id;

	ck_assert_msg(try_join(&err) == 0, "%s", err.msg);
	evfs_free(all);
	replica_start(&joiner, NULL);
	replica_know(&joiner, &inviter);
	id = replica_dial(&joiner, &inviter, NULL, NULL);
	ck_assert_msg(replica_wait(&joiner, id, is_open, 0, WAIT_MS), "%s",
		      replica_conn(&joiner, id).why.msg);
}
END_TEST

START_TEST(an_invitation_works_once)
{
	struct evfs_err err = { 0 };

	ck_assert_msg(try_join(&err) == 0, "%s", err.msg);
	evfs_free(all);
	join_fails(EVFS_EAUTH, "refused the invitation");
	ck_assert_uint_eq(replica_members_changed(&inviter), 1);
}
END_TEST

START_TEST(joining_again_keeps_the_name)
{
	static const char other[] =
		"BBECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";
	struct evfs_err err = { 0 };

	ck_assert_msg(try_join(&err) == 0, "%s", err.msg);
	evfs_free(all);
	invite(other, wall_ns() + 3600u * (uint64_t)1000000000);
	snprintf(token.secret, sizeof(token.secret), "%s", other);
	ck_assert_msg(try_join(&err) == 0, "%s", err.msg);
	ck_assert_str_eq(name, "laptop");
	ck_assert_uint_eq(n_all, 2);
	evfs_free(all);
}
END_TEST

START_TEST(a_taken_name_gets_a_suffix)
{
	struct replica third;
	struct evfs_err err = { 0 };

	snprintf(joiner.member.name, sizeof(joiner.member.name), "nas");
	replica_make(&third, "nas-2", "volume");
	replica_know(&inviter, &third);
	ck_assert_msg(try_join(&err) == 0, "%s", err.msg);
	ck_assert_str_eq(name, "nas-3");
	ck_assert_ptr_nonnull(told("nas-3"));
	evfs_free(all);
	replica_free(&third);
}
END_TEST

START_TEST(a_long_taken_name_still_fits)
{
	struct replica third;
	struct evfs_err err = { 0 };
	char longest[EVFS_NODE_NAME_MAX + 1];

	memset(longest, 'n', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	replica_make(&third, longest, "volume");
	replica_know(&inviter, &third);
	memcpy(joiner.member.name, longest, sizeof(longest));
	ck_assert_msg(try_join(&err) == 0, "%s", err.msg);
	ck_assert_uint_eq(strlen(name), EVFS_NODE_NAME_MAX);
	ck_assert_str_eq(name + EVFS_NODE_NAME_MAX - 2, "-2");
	evfs_free(all);
	replica_free(&third);
}
END_TEST

START_TEST(the_any_address_is_replaced)
{
	struct evfs_err err = { 0 };

	snprintf(joiner.member.address, sizeof(joiner.member.address),
		 "0.0.0.0:7001");
	ck_assert_msg(try_join(&err) == 0, "%s", err.msg);
	ck_assert_str_eq(told("laptop")->address, "127.0.0.1:7001");
	evfs_free(all);
}
END_TEST

START_TEST(a_wrong_secret_is_refused)
{
	token.secret[5] = token.secret[5] == 'x' ? 'y' : 'x';
	join_fails(EVFS_EAUTH, "refused the invitation");
	/* And does not use up the right one. */
	snprintf(token.secret, sizeof(token.secret), "%s", secret);
	ck_assert_int_eq(try_join(NULL), 0);
	evfs_free(all);
}
END_TEST

START_TEST(an_expired_invitation_is_refused)
{
	static const char other[] =
		"BBECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";

	invite(other, wall_ns() - 1);
	snprintf(token.secret, sizeof(token.secret), "%s", other);
	join_fails(EVFS_EAUTH, "has expired");
}
END_TEST

START_TEST(another_volume_is_refused)
{
	token.volume.b[7] ^= 1;
	join_fails(EVFS_EAUTH, "another volume");
	/* The invitation is still good. */
	token.volume.b[7] ^= 1;
	ck_assert_int_eq(try_join(NULL), 0);
	evfs_free(all);
}
END_TEST

START_TEST(the_host_key_must_be_the_tokens)
{
	token.fingerprint[12] = token.fingerprint[12] == 'x' ? 'y' : 'x';
	join_fails(EVFS_EAUTH, "somebody else answers there");
	/* The secret was not shown to him. */
	snprintf(token.fingerprint, sizeof(token.fingerprint), "%s",
		 evfs_net_fingerprint(inviter.net));
	ck_assert_int_eq(try_join(NULL), 0);
	evfs_free(all);
}
END_TEST

START_TEST(a_removed_key_stays_out)
{
	struct evfs_err err = { 0 };

	replica_know(&inviter, &joiner);
	evfs_meta_lock(inviter.meta);
	ck_assert_int_eq(evfs_members_remove(inviter.meta, joiner.node, &err),
			 0);
	evfs_meta_unlock(inviter.meta);
	join_fails(EVFS_EAUTH, "removed from the volume");
}
END_TEST

START_TEST(bad_records_are_refused)
{
	snprintf(joiner.member.name, sizeof(joiner.member.name), "a/b");
	join_fails(EVFS_EAUTH, "name 'a/b'");
	snprintf(joiner.member.name, sizeof(joiner.member.name), "ok");
	joiner.member.node ^= 1;
	join_fails(EVFS_EAUTH, "not that of the key");
}
END_TEST

START_TEST(nobody_there)
{
	replica_stop(&inviter);
	join_fails(EVFS_EUNREACHABLE, "Connection refused");
	replica_start(&inviter, NULL);
}
END_TEST

START_TEST(a_silent_host_times_out)
{
	struct sockaddr_in addr;
	socklen_t len = sizeof(addr);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct evfs_err err = { 0 };

	ck_assert_int_eq(listen(fd, 8), 0);
	ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&addr, &len), 0);
	snprintf(token.address, sizeof(token.address), "127.0.0.1:%d",
		 ntohs(addr.sin_port));
	ck_assert_int_eq(evfs_net_join(&token, &joiner.member, joiner.key_path,
				       200, name, &all, &n_all, &err),
			 EVFS_ETIMEOUT);
	ck_assert_msg(strstr(err.msg, token.address), "%s", err.msg);
	close(fd);
}
END_TEST

START_TEST(the_key_file_must_be_the_records)
{
	struct evfs_err err = { 0 };

	ck_assert_int_eq(evfs_net_join(&token, &joiner.member,
				       inviter.key_path, WAIT_MS, name, &all,
				       &n_all, &err), EVFS_EINVAL);
}
END_TEST

/* ---- an inviter that answers nonsense, a joiner that sends nonsense ---- */

static const void *nonsense;
static size_t nonsense_len;
static struct evfs_ssh *bad_ssh;

static bool anybody(void *ctx, const char *text)
{
	(void)ctx;
	(void)text;
	return true;
}

static uint64_t nobody(void *ctx, const char *key)
{
	(void)ctx;
	(void)key;
	return 0;
}

static void answer_nonsense(void *ctx, evfs_conn conn, const char *text,
			    const char *source, const void *data, size_t len)
{
	(void)ctx;
	(void)text;
	(void)source;
	(void)data;
	(void)len;
	ck_assert(evfs_ssh_send(bad_ssh, conn, EVFS_CHANNEL_CONTROL, nonsense,
				nonsense_len));
	evfs_ssh_close(bad_ssh, conn);
}

static const struct evfs_ssh_events bad_events = {
	.member_of_key = nobody,
	.is_invited = anybody,
	.frame = answer_nonsense,
};

/* Runs the bad inviter in a child until it is killed. */
static pid_t start_bad_inviter(void)
{
	const struct evfs_ssh_options options = {
		.key_path = inviter.key_path,
		.env = evfs_env_system(),
		.wake_fd = -1,
	};
	struct evfs_err err = { 0 };
	pid_t pid;

	ck_assert_int_eq(evfs_ssh_new(&options, &bad_events, &bad_ssh, &err),
			 0);
	ck_assert_int_eq(evfs_ssh_listen(bad_ssh, "127.0.0.1:0", &err), 0);
	snprintf(token.address, sizeof(token.address), "%s",
		 evfs_ssh_address(bad_ssh));
	pid = fork();
	ck_assert_int_ge(pid, 0);
	while (pid == 0) {
		struct pollfd *fds;
		uint64_t until;
		size_t n;

		if (evfs_ssh_prepare(bad_ssh, &fds, &n, &until, &err))
			_exit(1);
		poll(fds, n, 10);
		evfs_ssh_process(bad_ssh, fds, n);
	}
	return pid;
}

static void nonsense_is(const void *data, size_t len, int code,
			const char *words)
{
	pid_t pid;

	nonsense = data;
	nonsense_len = len;
	pid = start_bad_inviter();
	join_fails(code, words);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	evfs_ssh_free(bad_ssh);
}

START_TEST(garbage_replies_are_refused)
{
	nonsense_is("\0\0\0\4\xff\xff\xff\xff", 8, EVFS_EPROTO,
		    "cannot be read");
	nonsense_is("\0\0\0\2\x08\1", 6, EVFS_EPROTO, "without members");
	nonsense_is("\0\0\0\2\x08\x63", 6, EVFS_ENEWER, "protocol 99");
	nonsense_is("\xff\xff\xff\xff", 4, EVFS_EPROTO, "too long");
	nonsense_is("\0\0\0\4\xff", 5, EVFS_ECLOSED, "closed");
	nonsense_is("", 0, EVFS_ECLOSED, "closed");
}
END_TEST

/* What a joiner may send instead of a request. */
static void send_request(const void *data, uint32_t len, bool answered)
{
	ssh_session session = ssh_new();
	ssh_channel channel;
	char host[256], port[8], reply[512];
	unsigned number;
	bool off = false;
	long timeout = 5;
	int rc;

	ck_assert_int_eq(evfs_addr_split(token.address, host, port, NULL), 0);
	number = (unsigned)atoi(port);
	ssh_options_set(session, SSH_OPTIONS_PROCESS_CONFIG, &off);
	ssh_options_set(session, SSH_OPTIONS_HOST, host);
	ssh_options_set(session, SSH_OPTIONS_PORT, &number);
	ssh_options_set(session, SSH_OPTIONS_USER, "join");
	ssh_options_set(session, SSH_OPTIONS_TIMEOUT, &timeout);
	ssh_options_set(session, SSH_OPTIONS_KNOWNHOSTS, "/dev/null");
	ck_assert_int_eq(ssh_connect(session), SSH_OK);
	ck_assert_int_eq(ssh_userauth_password(session, NULL, secret),
			 SSH_AUTH_SUCCESS);
	channel = ssh_channel_new(session);
	ck_assert_int_eq(ssh_channel_open_session(channel), SSH_OK);
	/* A joiner may do nothing but join. */
	ck_assert_int_ne(ssh_channel_request_subsystem(channel,
						       "evfs-control"),
			 SSH_OK);
	ck_assert_int_eq(ssh_channel_request_subsystem(channel, "evfs-join"),
			 SSH_OK);
	ssh_channel_write(channel, data, len);
	rc = ssh_channel_read_timeout(channel, reply, sizeof(reply), 0, 5000);
	ck_assert_msg(answered ? rc > 4 : rc <= 0, "%d", rc);
	ssh_silent_disconnect(session);
	ssh_free(session);
}

START_TEST(garbage_requests_are_refused)
{
	static char big[70000] = { 0, 1, 0x11, 0x6c }; /* its length is true */

	send_request("\0\0\0\4\xff\xff\xff\xff", 8, true);
	send_request("\0\0\0\2\x08\1", 6, true);
	send_request("\0\0\0\0", 4, true);
	send_request("\xff\xff\xff\xff", 4, false);
	send_request(big, sizeof(big), false);
	/* None of them used the invitation up. */
	ck_assert_int_eq(try_join(NULL), 0);
	evfs_free(all);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("join");
	TCase *tcase = tcase_create("join");
	SRunner *runner;
	int failed;

	tcase_set_timeout(tcase, 60);
	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_add_test(tcase, joins);
	tcase_add_test(tcase, the_new_member_gets_in);
	tcase_add_test(tcase, an_invitation_works_once);
	tcase_add_test(tcase, joining_again_keeps_the_name);
	tcase_add_test(tcase, a_taken_name_gets_a_suffix);
	tcase_add_test(tcase, a_long_taken_name_still_fits);
	tcase_add_test(tcase, the_any_address_is_replaced);
	tcase_add_test(tcase, a_wrong_secret_is_refused);
	tcase_add_test(tcase, an_expired_invitation_is_refused);
	tcase_add_test(tcase, another_volume_is_refused);
	tcase_add_test(tcase, the_host_key_must_be_the_tokens);
	tcase_add_test(tcase, a_removed_key_stays_out);
	tcase_add_test(tcase, bad_records_are_refused);
	tcase_add_test(tcase, nobody_there);
	tcase_add_test(tcase, a_silent_host_times_out);
	tcase_add_test(tcase, the_key_file_must_be_the_records);
	tcase_add_test(tcase, garbage_replies_are_refused);
	tcase_add_test(tcase, garbage_requests_are_refused);
	suite_add_tcase(suite, tcase);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
