/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The commands of the control socket, one function each. They run on the
 * network thread; a reply is {"ok": true, ...} or {"error", "code"}. Commands
 * that only read (log, conflicts, dump, ...) are not here: evfsctl opens the
 * store beside the daemon and reads for itself, after "flush". */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "meta/config.h"
#include "meta/members.h"
#include "tools/daemon/daemon.h"
#include "tools/daemon/restore.h"

struct command {
	const char *name;
	/* 0 and *reply (may stay NULL: just ok), or an error. */
	int (*run)(struct evfs_daemon *daemon, struct evfs_engine *engine,
		   const json_t *request, json_t **reply,
		   struct evfs_err *err);
};

static const char *text_of(const json_t *request, const char *key)
{
	return json_string_value(json_object_get(request, key));
}

static int need_text(const json_t *request, const char *key, const char **ret,
		     struct evfs_err *err)
{
	*ret = text_of(request, key);
	if (!*ret)
		return evfs_err_set(err, EVFS_EPROTO, "request lacks \"%s\"",
				    key);
	return 0;
}

static int no_memory(struct evfs_err *err)
{
	return evfs_err_set(err, EVFS_ENOMEM, "%s",
			    evfs_err_text(EVFS_ENOMEM));
}

/* The node of the member that the request names under "peer"; 0 where it names
 * none (all). */
static int find_peer(struct evfs_daemon *daemon, const json_t *request,
		     struct evfs_member *ret, struct evfs_err *err)
{
	const char *name = text_of(request, "peer");
	int rc;

	memset(ret, 0, sizeof(*ret));
	if (!name)
		return 0;
	evfs_meta_lock(daemon->meta);
	rc = evfs_members_by_name(daemon->meta, name, ret, err);
	evfs_meta_unlock(daemon->meta);
	if (rc == EVFS_ENOTFOUND)
		return evfs_err_set(err, rc,
				    "%s: no such member (see 'evfsctl peer "
				    "list')", name);
	return rc;
}

static int run_status(struct evfs_daemon *daemon, struct evfs_engine *engine,
		      const json_t *request, json_t **reply,
		      struct evfs_err *err)
{
	json_t *status = evfs_status_json(daemon, engine);

	(void)request;
	if (!status)
		return no_memory(err);
	*reply = json_pack("{s:b, s:o}", "ok", 1, "status", status);
	return 0;
}

static int run_metrics(struct evfs_daemon *daemon, struct evfs_engine *engine,
		       const json_t *request, json_t **reply,
		       struct evfs_err *err)
{
	json_t *status = evfs_status_json(daemon, engine);
	struct evfs_buf text = { 0 };
	int rc = status ? evfs_metrics_text(status, &text) : EVFS_ENOMEM;

	(void)request;
	if (!rc)
		*reply = json_pack("{s:b, s:s%}", "ok", 1, "text",
				   (const char *)text.data, text.len);
	json_decref(status);
	evfs_buf_fini(&text);
	return rc ? no_memory(err) : 0;
}

/* Everything done up to now is in the database that others can open. */
static int run_flush(struct evfs_daemon *daemon, struct evfs_engine *engine,
		     const json_t *request, json_t **reply,
		     struct evfs_err *err)
{
	(void)engine;
	(void)request;
	(void)reply;
	return evfs_meta_sync(daemon->meta, err);
}

static int run_pause(struct evfs_daemon *daemon, struct evfs_engine *engine,
		     const json_t *request, json_t **reply,
		     struct evfs_err *err)
{
	bool on = !strcmp(text_of(request, "command"), "pause");
	struct evfs_member peer;
	int rc = find_peer(daemon, request, &peer, err);

	(void)reply;
	if (!rc)
		evfs_engine_pause(engine, peer.node, on);
	return rc;
}

static int run_sync(struct evfs_daemon *daemon, struct evfs_engine *engine,
		    const json_t *request, json_t **reply,
		    struct evfs_err *err)
{
	struct evfs_member peer;
	int rc = find_peer(daemon, request, &peer, err);

	(void)reply;
	if (!rc)
		evfs_engine_sync(engine, peer.node);
	return rc;
}

static int run_verify(struct evfs_daemon *daemon, struct evfs_engine *engine,
		      const json_t *request, json_t **reply,
		      struct evfs_err *err)
{
	(void)engine;
	(void)request;
	(void)reply;
	(void)err;
	(void)evfs_scrub_request(daemon);
	return 0;
}

static int run_verify_progress(struct evfs_daemon *daemon,
			       struct evfs_engine *engine,
			       const json_t *request, json_t **reply,
			       struct evfs_err *err)
{
	struct evfs_scrub_report report;

	(void)engine;
	(void)request;
	evfs_scrub_get(daemon, &report);
	*reply = json_pack("{s:b, s:b, s:I, s:I, s:I, s:I, s:s}", "ok", 1,
			   "running", (int)report.running, "mib",
			   (json_int_t)report.steps, "damaged",
			   (json_int_t)report.damaged, "objects",
			   (json_int_t)report.objects, "nodes_wrong",
			   (json_int_t)report.nodes_wrong, "failure",
			   report.error);
	return *reply ? 0 : no_memory(err);
}

/* 32 random bytes in base64url without padding: 43 characters. */
static void make_secret(const struct evfs_env *env, char text[44])
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
				     "abcdefghijklmnopqrstuvwxyz0123456789-_";
	uint8_t bytes[33] = { 0 };

	env->random(env->ctx, bytes, 32);
	for (int i = 0; i < 43; i++) {
		int bit = i * 6;
		unsigned pair = (unsigned)bytes[bit / 8] << 8 |
				bytes[bit / 8 + 1];

		text[i] = digits[pair >> (10 - bit % 8) & 63];
	}
	text[43] = '\0';
}

static int run_invite(struct evfs_daemon *daemon, struct evfs_engine *engine,
		      const json_t *request, json_t **reply,
		      struct evfs_err *err)
{
	const struct evfs_env *env = evfs_meta_env(daemon->meta);
	const json_t *expires = json_object_get(request, "expires_ms");
	const char *address = text_of(request, "address");
	struct evfs_token token = { 0 };
	char text[EVFS_TOKEN_TEXT_MAX];
	int rc;

	(void)engine;
	if (!evfs_net_address(daemon->net))
		return evfs_err_set(err, EVFS_EINVAL,
				    "this replica does not listen (make it "
				    "with 'init --listen ADDR:PORT', or set "
				    "'config set listen ADDR:PORT' and start "
				    "it again)");
	if (!json_is_integer(expires) || json_integer_value(expires) <= 0)
		return evfs_err_set(err, EVFS_EPROTO,
				    "request lacks \"expires_ms\"");
	if (address && strlen(address) > EVFS_ADDRESS_MAX)
		return evfs_err_set(err, EVFS_EINVAL, "address: too long");
	if (address)
		snprintf(token.address, sizeof(token.address), "%s", address);
	else
		evfs_advertised_address(evfs_net_address(daemon->net),
					token.address);
	snprintf(token.fingerprint, sizeof(token.fingerprint), "%s",
		 evfs_net_fingerprint(daemon->net));
	token.volume = *evfs_meta_volume(daemon->meta);
	make_secret(env, token.secret);
	evfs_meta_lock(daemon->meta);
	rc = evfs_invite_add(daemon->meta, token.secret,
			     env->wall_ns(env->ctx) +
				     (uint64_t)json_integer_value(expires) *
					     1000000u,
			     err);
	evfs_meta_unlock(daemon->meta);
	if (!rc)
		rc = evfs_meta_sync(daemon->meta, err);
	if (!rc)
		rc = evfs_token_format(&token, text, sizeof(text), err);
	if (!rc)
		*reply = json_pack("{s:b, s:s}", "ok", 1, "token", text);
	return rc;
}

static int run_peer_remove(struct evfs_daemon *daemon,
			   struct evfs_engine *engine, const json_t *request,
			   json_t **reply, struct evfs_err *err)
{
	struct evfs_member peer;
	int rc = find_peer(daemon, request, &peer, err);

	(void)reply;
	if (!rc && !peer.node)
		rc = evfs_err_set(err, EVFS_EPROTO, "request lacks \"peer\"");
	if (rc)
		return rc;
	evfs_meta_lock(daemon->meta);
	rc = evfs_members_remove(daemon->meta, peer.node, err);
	evfs_meta_unlock(daemon->meta);
	if (!rc)
		rc = evfs_meta_sync(daemon->meta, err);
	evfs_engine_members_changed(engine);
	return rc;
}

static int run_peer_set(struct evfs_daemon *daemon, struct evfs_engine *engine,
			const json_t *request, json_t **reply,
			struct evfs_err *err)
{
	const char *address;
	struct evfs_member peer;
	bool changed;
	int rc = find_peer(daemon, request, &peer, err);

	(void)reply;
	if (!rc)
		rc = need_text(request, "address", &address, err);
	if (rc)
		return rc;
	if (!peer.node || strlen(address) > EVFS_ADDRESS_MAX ||
	    (*address && !strrchr(address, ':')))
		return evfs_err_set(err, EVFS_EINVAL,
				    "address %s: not HOST:PORT", address);
	snprintf(peer.address, sizeof(peer.address), "%s", address);
	evfs_meta_lock(daemon->meta);
	peer.stamp_ns = evfs_meta_stamp(daemon->meta, peer.stamp_ns);
	rc = evfs_members_join(daemon->meta, &peer, &changed, err);
	evfs_meta_unlock(daemon->meta);
	if (!rc)
		rc = evfs_meta_sync(daemon->meta, err);
	evfs_engine_members_changed(engine);
	return rc;
}

static int run_config_set(struct evfs_daemon *daemon,
			  struct evfs_engine *engine, const json_t *request,
			  json_t **reply, struct evfs_err *err)
{
	const char *key, *value;
	int64_t quorum = 1;
	int rc = need_text(request, "key", &key, err);

	if (!rc)
		rc = need_text(request, "value", &value, err);
	if (rc)
		return rc;
	evfs_meta_lock(daemon->meta);
	rc = evfs_config_set_text(daemon->meta, key, value, err);
	if (!rc)
		quorum = evfs_config_get(daemon->meta, EVFS_CONFIG_read_quorum);
	evfs_meta_unlock(daemon->meta);
	evfs_engine_config_changed(engine);
	if (!rc && quorum > 1 && evfs_fs_opens_quietly(daemon->fs))
		*reply = json_pack("{s:s}", "note",
				   "read_quorum is kept from the next mount "
				   "on: this one does not hear of opens");
	return rc ? rc : evfs_meta_sync(daemon->meta, err);
}

static int run_resolve(struct evfs_daemon *daemon, struct evfs_engine *engine,
		       const json_t *request, json_t **reply,
		       struct evfs_err *err)
{
	const char *path, *keep;
	int rc = need_text(request, "path", &path, err);

	(void)engine;
	(void)reply;
	if (!rc)
		rc = need_text(request, "keep", &keep, err);
	if (!rc)
		rc = evfs_resolve_path(daemon->meta, path, keep, err);
	return rc ? rc : evfs_meta_sync(daemon->meta, err);
}

static int run_restore(struct evfs_daemon *daemon, struct evfs_engine *engine,
		       const json_t *request, json_t **reply,
		       struct evfs_err *err)
{
	const char *path;
	int rc = need_text(request, "path", &path, err);

	(void)engine;
	(void)reply;
	if (!rc)
		rc = evfs_restore_path(daemon->meta, path,
				       text_of(request, "version"),
				       text_of(request, "to"), err);
	return rc ? rc : evfs_meta_sync(daemon->meta, err);
}

static const struct command commands[] = {
	{ "status", run_status },
	{ "metrics", run_metrics },
	{ "flush", run_flush },
	{ "pause", run_pause },
	{ "resume", run_pause },
	{ "sync", run_sync },
	{ "invite", run_invite },
	{ "peer-remove", run_peer_remove },
	{ "peer-set", run_peer_set },
	{ "config-set", run_config_set },
	{ "resolve", run_resolve },
	{ "restore", run_restore },
	{ "verify", run_verify },
	{ "verify-progress", run_verify_progress },
};

json_t *evfs_command_run(struct evfs_daemon *daemon,
			 struct evfs_engine *engine, const json_t *request)
{
	const char *name = text_of(request, "command");
	struct evfs_err err = { 0 };
	json_t *reply = NULL;
	int rc = EVFS_EPROTO;
	size_t i = 0;

	while (i < sizeof(commands) / sizeof(*commands) &&
	       strcmp(commands[i].name, name ? name : ""))
		i++;
	if (i == sizeof(commands) / sizeof(*commands))
		evfs_err_set(&err, rc, "unknown command");
	else
		rc = commands[i].run(daemon, engine, request, &reply, &err);
	if (rc) {
		json_decref(reply);
		return json_pack("{s:s, s:i}", "error", err.msg, "code", rc);
	}
	return reply ? reply : json_pack("{s:b}", "ok", 1);
}
