/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Joining a volume, the joiner's side: dials, sends the request, takes the
 * reply, in a small loop of its own, with one deadline over all. */

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/mem.h"
#include "net/join.h"
#include "net/net.h"
#include "net/ssh.h"

struct joiner {
	const struct evfs_token *token; /* borrowed */
	struct evfs_buf request;        /* frame to send */
	struct evfs_ssh *ssh;           /* owned */
	evfs_conn conn;                 /* to the inviter */
	bool done;                      /* reply or error is there */
	struct evfs_buf reply;          /* its bytes */
	struct evfs_err err;            /* code 0 = none */
};

static void on_opened(void *ctx, evfs_conn conn, uint64_t node, bool outgoing)
{
	struct joiner *joiner = ctx;

	(void)node;
	(void)outgoing;
	/* An empty queue takes it. */
	(void)evfs_ssh_send(joiner->ssh, conn, EVFS_CHANNEL_CONTROL,
			    joiner->request.data, joiner->request.len);
}

static void on_frame(void *ctx, evfs_conn conn, const char *secret,
		     const char *source, const void *data, size_t len)
{
	struct joiner *joiner = ctx;

	(void)conn;
	(void)secret;
	(void)source;
	joiner->done = true;
	if (evfs_buf_put(&joiner->reply, data, len))
		evfs_err_set(&joiner->err, EVFS_ENOMEM, "%s",
			     evfs_err_text(EVFS_ENOMEM));
}

static void on_closed(void *ctx, evfs_conn conn, const struct evfs_err *why)
{
	struct joiner *joiner = ctx;

	(void)conn;
	if (joiner->done)
		return;
	joiner->done = true;
	joiner->err = *why;
}

/* A joiner has no listener: nobody comes in. */
static uint64_t no_member(void *ctx, const char *key)
{
	(void)ctx;
	(void)key;
	return 0;
}

static bool no_invitation(void *ctx, const char *secret)
{
	(void)ctx;
	(void)secret;
	return false;
}

static void no_name(void *ctx, uint64_t node, char *name, size_t size)
{
	(void)ctx;
	(void)node;
	snprintf(name, size, "?");
}

static int make_request(struct joiner *joiner, const struct evfs_member *self)
{
	Evfs__Join__Request request = EVFS__JOIN__REQUEST__INIT;
	struct evfs_member copy = *self;
	evfs_hash volume = joiner->token->volume;
	Evfs__Join__Member member;

	evfs_join_give_member(&copy, &member);
	request.protocol = EVFS_PROTOCOL_VERSION;
	request.volume.data = volume.b;
	request.volume.len = sizeof(volume.b);
	request.member = &member;
	return evfs_join_put_frame(&joiner->request, &request.base);
}

/* Runs the loop until there is a reply or an error. */
static int run(struct joiner *joiner, unsigned timeout_ms, int wake_fd,
	       struct evfs_err *err)
{
	const struct evfs_env *env = evfs_env_system();
	uint64_t end = env->mono_ns(env->ctx) + (uint64_t)timeout_ms * 1000000u;

	while (!joiner->done) {
		uint64_t now = env->mono_ns(env->ctx), until, wait, count;
		struct pollfd *fds;
		struct pollfd wake = { wake_fd, POLLIN, 0 };
		struct timespec ts;
		size_t n;
		int rc = evfs_ssh_prepare(joiner->ssh, &fds, &n, &until, err);

		if (rc)
			return rc;
		if (now >= end)
			return evfs_err_set(err, EVFS_ETIMEOUT,
					    "%s: no answer within %u ms (is "
					    "the inviter reachable?)",
					    joiner->token->address,
					    timeout_ms);
		until = until < end ? until : end;
		wait = until > now ? until - now : 0;
		if (n == 0) { /* only a name that is looked up */
			fds = &wake;
			n = 1;
		}
		ts.tv_sec = (time_t)(wait / 1000000000u);
		ts.tv_nsec = (long)(wait % 1000000000u);
		if (ppoll(fds, (nfds_t)n, &ts, NULL) < 0 && errno != EINTR)
			return evfs_err_sys(err, errno, "poll");
		if (fds == &wake) {
			(void)!read(wake_fd, &count, sizeof(count));
			n = 0;
		}
		evfs_ssh_process(joiner->ssh, fds, n);
	}
	return 0;
}

/* The inviter's own record where the token knows better how to reach it. */
static void improve_inviter(const struct evfs_token *token,
			    struct evfs_member *member)
{
	char fingerprint[EVFS_SSH_FINGERPRINT_MAX];

	if (member->address[0] && !evfs_addr_is_any(member->address))
		return;
	if (evfs_ssh_key_fingerprint(member->key, fingerprint,
				     sizeof(fingerprint), NULL) ||
	    strcmp(fingerprint, token->fingerprint) != 0)
		return;
	snprintf(member->address, sizeof(member->address), "%s",
		 token->address);
	member->stamp_ns++; /* newer than what the inviter says itself */
}

static int take_members(const struct evfs_token *token,
			const Evfs__Join__Reply *reply, uint64_t self,
			struct evfs_member **ret, struct evfs_err *err)
{
	struct evfs_member *all = evfs_calloc(reply->n_members, sizeof(*all));
	bool found = false;
	int rc = 0;

	if (!all)
		return evfs_err_set(err, EVFS_ENOMEM, "%s",
				    evfs_err_text(EVFS_ENOMEM));
	for (size_t i = 0; !rc && i < reply->n_members; i++) {
		rc = evfs_join_take_member(reply->members[i], &all[i], err);
		if (rc)
			break;
		improve_inviter(token, &all[i]);
		found |= all[i].node == self &&
			 strcmp(all[i].name, reply->name) == 0;
	}
	if (!rc && !found)
		rc = evfs_err_set(err, EVFS_EPROTO,
				  "this replica is not among the members");
	if (rc) {
		evfs_free(all);
		return rc;
	}
	*ret = all;
	return 0;
}

static int take_reply(struct joiner *joiner, uint64_t self,
		      char ret_name[EVFS_NODE_NAME_MAX + 1],
		      struct evfs_member **ret, size_t *ret_n,
		      struct evfs_err *err)
{
	const char *address = joiner->token->address;
	Evfs__Join__Reply *reply = evfs__join__reply__unpack(
		NULL, joiner->reply.len, joiner->reply.data);
	int rc = 0;

	if (!reply)
		return evfs_err_set(err, EVFS_EPROTO,
				    "%s sent a reply that cannot be read (does "
				    "it run the same version of evfs?)",
				    address);
	if (reply->error[0])
		rc = evfs_err_set(err, EVFS_EAUTH, "refused by %s: %s",
				  address, reply->error);
	else if (reply->protocol != EVFS_PROTOCOL_VERSION)
		rc = evfs_err_set(err, EVFS_ENEWER,
				  "%s speaks protocol %u, this program %d (use "
				  "the same version of evfs)",
				  address, reply->protocol,
				  EVFS_PROTOCOL_VERSION);
	else if (reply->n_members == 0 ||
		 reply->n_members > EVFS_MEMBERS_MAX || !evfs_join_is_name(reply->name))
		rc = evfs_err_set(err, EVFS_EPROTO,
				  "%s sent a reply without members", address);
	if (!rc) {
		rc = take_members(joiner->token, reply, self, ret, err);
		if (rc)
			evfs_err_wrap(err, rc, "reply of %s", address);
	}
	if (!rc) {
		*ret_n = reply->n_members;
		snprintf(ret_name, EVFS_NODE_NAME_MAX + 1, "%s", reply->name);
	}
	evfs__join__reply__free_unpacked(reply, NULL);
	return rc;
}

int evfs_net_join(const struct evfs_token *token,
		  const struct evfs_member *self, const char *key_path,
		  unsigned timeout_ms, char ret_name[EVFS_NODE_NAME_MAX + 1],
		  struct evfs_member **ret, size_t *ret_n,
		  struct evfs_err *err)
{
	struct joiner joiner = { .token = token };
	const struct evfs_ssh_events events = {
		.ctx = &joiner,
		.member_of_key = no_member,
		.name_of = no_name,
		.is_invited = no_invitation,
		.opened = on_opened,
		.closed = on_closed,
		.frame = on_frame,
	};
	struct evfs_ssh_options options = {
		.key_path = key_path,
		.env = evfs_env_system(),
		.handshake_ms = timeout_ms,
	};
	evfs_cleanup_fd int wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	int rc;

	if (wake_fd < 0)
		return evfs_err_sys(err, errno, "eventfd");
	options.wake_fd = wake_fd;
	rc = evfs_ssh_new(&options, &events, &joiner.ssh, err);
	if (!rc && strcmp(evfs_ssh_public_key(joiner.ssh), self->key) != 0)
		rc = evfs_err_set(err, EVFS_EINVAL,
				  "key '%s' is not that of this replica",
				  key_path);
	if (!rc && make_request(&joiner, self))
		rc = evfs_err_set(err, EVFS_ENOMEM, "%s",
				  evfs_err_text(EVFS_ENOMEM));
	if (!rc) {
		joiner.conn = evfs_ssh_dial_join(joiner.ssh, token->address,
						 token->fingerprint,
						 token->secret);
		rc = run(&joiner, timeout_ms, wake_fd, err);
	}
	if (!rc && joiner.err.code) {
		rc = joiner.err.code;
		if (err)
			*err = joiner.err;
	}
	if (!rc)
		rc = take_reply(&joiner, self->node, ret_name, ret, ret_n,
				err);
	evfs_ssh_free(joiner.ssh);
	evfs_buf_fini(&joiner.request);
	evfs_buf_fini(&joiner.reply);
	return rc;
}
