/* SPDX-License-Identifier: GPL-3.0-or-later */
/* evfsctl init, join: making a store. The key is made beside the store first
 * and moved in last, so that a store without key never exists. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "base/mem.h"
#include "meta/life.h"
#include "meta/members.h"
#include "net/net.h"
#include "tools/evfsctl/evfsctl.h"

#define JOIN_TIMEOUT_MS 30000

struct arguments {
	const char *operands[2];
	char name[EVFS_NODE_NAME_MAX + 1];
	const char *listen;
};

static int check_listen(const struct evfsctl *ctl, const char *listen)
{
	const char *port = strrchr(listen, ':');
	char *end;
	long number = port ? strtol(port + 1, &end, 10) : -1;

	if (!port || port == listen || !port[1] || *end || number < 0 ||
	    number > 65535)
		return evfsctl_usage(ctl, "--listen %s: not ADDR:PORT", listen);
	return -1;
}

/* A replica's name from the host's: what is allowed in one. */
static void default_name(char name[EVFS_NODE_NAME_MAX + 1])
{
	char host[EVFS_NODE_NAME_MAX + 1] = "evfs";

	gethostname(host, sizeof(host) - 1);
	host[strcspn(host, ".")] = '\0';
	for (char *c = host; *c; c++)
		if (!strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvw"
			    "xyz0123456789._-", *c))
			*c = '-';
	snprintf(name, EVFS_NODE_NAME_MAX + 1, "%s", *host ? host : "evfs");
}

static bool is_name(const char *name)
{
	size_t len = strlen(name);

	return len && len <= EVFS_NODE_NAME_MAX && *name != '.' &&
	       strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvw"
			    "xyz0123456789._-") == len;
}

/* -1: go on; else the exit code. */
static int parse(const struct evfsctl *ctl, int argc, char **argv,
		 int n_operands, struct arguments *args)
{
	static const struct option longs[] = {
		{ "name", required_argument, NULL, 'n' },
		{ "listen", required_argument, NULL, 'l' },
		{ NULL, 0, NULL, 0 }
	};
	int letter, code;

	default_name(args->name);
	opterr = 0;
	while ((letter = getopt_long(argc, argv, ":", longs, NULL)) != -1) {
		if (letter == 'n' && is_name(optarg)) {
			snprintf(args->name, sizeof(args->name), "%s", optarg);
		} else if (letter == 'n') {
			return evfsctl_usage(ctl,
					     "--name %s: 1 to %d of letters, "
					     "digits, '.', '_', '-'", optarg,
					     EVFS_NODE_NAME_MAX);
		} else if (letter == 'l') {
			args->listen = optarg;
			code = check_listen(ctl, optarg);
			if (code >= 0)
				return code;
		} else {
			return evfsctl_usage(ctl, letter == ':'
						     ? "%s needs a value"
						     : "unknown option %s",
					     argv[optind - 1]);
		}
	}
	if (argc - optind != n_operands)
		return evfsctl_usage(ctl, "%d argument%s needed", n_operands,
				     n_operands == 1 ? " is" : "s are");
	for (int i = 0; i < n_operands; i++)
		args->operands[i] = argv[optind + i];
	return -1;
}

/* A new key in a file beside the store. */
static int make_key(const char *store, char **ret_path,
		    char public_key[EVFS_KEY_TEXT_MAX], struct evfs_err *err)
{
	evfs_cleanup_free char *path = NULL;
	size_t len = strlen(store);
	int rc;

	while (len > 1 && store[len - 1] == '/')
		len--;
	path = evfs_asprintf("%.*s.key-%ld", (int)len, store, (long)getpid());
	if (!path)
		return evfs_err_set(err, EVFS_ENOMEM, "%s",
				    evfs_err_text(EVFS_ENOMEM));
	rc = evfs_net_make_key(path, public_key, EVFS_KEY_TEXT_MAX, err);
	if (!rc)
		*ret_path = evfs_steal(path);
	return rc;
}

/* Makes the store and moves the key in; on failure the key file is gone. */
static int make_store(const struct evfs_meta_new *what, const char *key_path,
		      struct evfs_err *err)
{
	evfs_cleanup_free char *key = evfs_asprintf("%s/id_ed25519",
						    what->path);
	int rc = key ? evfs_meta_create(what, err) : EVFS_ENOMEM;

	if (!rc && rename(key_path, key))
		rc = evfs_err_sys(err, errno, "%s", key);
	if (!rc)
		rc = evfs_io_sync_dir(what->path, err);
	if (rc)
		unlink(key_path);
	return rc;
}

int evfsctl_init(const struct evfsctl *ctl, int argc, char **argv)
{
	const struct evfs_env *env = evfs_env_system();
	struct arguments args = { 0 };
	struct evfs_err err = { 0 };
	evfs_cleanup_free char *key_path = NULL;
	char public_key[EVFS_KEY_TEXT_MAX];
	struct evfs_meta_new what;
	int code = parse(ctl, argc, argv, 1, &args), rc;

	if (code >= 0)
		return code;
	what = (struct evfs_meta_new){ .path = args.operands[0],
				       .node_name = args.name,
				       .public_key = public_key,
				       .listen = args.listen };
	env->random(env->ctx, what.volume.b, sizeof(what.volume.b));
	rc = make_key(what.path, &key_path, public_key, &err);
	if (!rc) {
		what.node = evfs_node_of_key(public_key);
		rc = make_store(&what, key_path, &err);
	}
	if (rc)
		return evfsctl_fail(ctl, &err);
	printf("%s: replica %s of a new volume. Mount it with 'evfs %s "
	       "MOUNTPOINT'.\n", what.path, args.name, what.path);
	return EVFS_EXIT_DONE;
}

/* The place of the store must be free before the token is used up. */
static int check_free(const char *path, struct evfs_err *err)
{
	if (mkdir(path, 0700) && errno != EEXIST)
		return evfs_err_sys(err, errno, "%s", path);
	if (rmdir(path))
		return evfs_err_set(err, EVFS_EEXISTS,
				    "%s: something is there already (choose "
				    "another place)", path);
	return 0;
}

static bool is_store(const char *path)
{
	evfs_cleanup_free char *db = evfs_asprintf("%s/meta.db", path);

	return db && access(db, F_OK) == 0;
}

static int open_store(const char *path, struct evfs_meta **ret,
		      struct evfs_err *err)
{
	struct evfs_meta_options options = { .path = path,
					     .env = evfs_env_system(),
					     .commit_delay_ms = 5 };

	return evfs_meta_open(&options, ret, err);
}

/* Is there a store that can join again: of this volume, without a daemon? */
static int check_again(const char *path, const struct evfs_token *token,
		       struct evfs_err *err)
{
	struct evfs_meta *meta;
	int rc = open_store(path, &meta, err);

	if (rc)
		return evfs_err_wrap(err, rc, "a replica is there already");
	if (!evfs_hash_equal(evfs_meta_volume(meta), &token->volume))
		rc = evfs_err_set(err, EVFS_EEXISTS,
				  "%s: a replica of another volume (choose "
				  "another place)", path);
	evfs_meta_close(meta);
	return rc;
}

/* An old replica becomes a new one, with all that it holds. */
static int make_again(const struct evfs_meta_new *what, const char *key_path,
		      struct evfs_err *err)
{
	evfs_cleanup_free char *key = evfs_asprintf("%s/id_ed25519",
						    what->path);
	struct evfs_meta *meta;
	int rc = key ? open_store(what->path, &meta, err) : EVFS_ENOMEM;

	if (rc)
		return rc;
	evfs_meta_lock(meta);
	rc = evfs_life_rejoin(meta, what, err);
	evfs_meta_unlock(meta);
	if (!rc)
		rc = evfs_meta_sync(meta, err);
	evfs_meta_close(meta);
	if (!rc && rename(key_path, key))
		rc = evfs_err_sys(err, errno, "%s", key);
	return rc ? rc : evfs_io_sync_dir(what->path, err);
}

/* Writes the members that the inviter told into the new store. */
static int take_members(const char *path, const struct evfs_member *members,
			size_t n, struct evfs_err *err)
{
	struct evfs_meta *meta;
	bool changed;
	int rc = open_store(path, &meta, err);

	if (rc)
		return rc;
	evfs_meta_lock(meta);
	for (size_t i = 0; !rc && i < n; i++)
		rc = evfs_members_join(meta, &members[i], &changed, err);
	evfs_meta_unlock(meta);
	if (!rc)
		rc = evfs_meta_sync(meta, err);
	evfs_meta_close(meta);
	return rc;
}

static int join(const struct evfs_token *token, struct arguments *args,
		const char *key_path, const char *public_key, bool again,
		struct evfs_err *err)
{
	struct evfs_member self = { .node = evfs_node_of_key(public_key) };
	struct evfs_member *members = NULL;
	struct evfs_meta_new what = { .path = args->operands[1],
				      .node_name = args->name,
				      .node = self.node,
				      .public_key = public_key,
				      .listen = args->listen,
				      .volume = token->volume };
	const struct evfs_env *env = evfs_env_system();
	size_t n = 0;
	int rc;

	snprintf(self.name, sizeof(self.name), "%s", args->name);
	snprintf(self.key, sizeof(self.key), "%s", public_key);
	snprintf(self.address, sizeof(self.address), "%s",
		 args->listen ? args->listen : "");
	self.stamp_ns = env->wall_ns(env->ctx);
	rc = evfs_net_join(token, &self, key_path, JOIN_TIMEOUT_MS, args->name,
			   &members, &n, err);
	if (!rc)
		rc = again ? make_again(&what, key_path, err)
			   : make_store(&what, key_path, err);
	if (!rc)
		rc = take_members(what.path, members, n, err);
	evfs_free(members);
	return rc;
}

int evfsctl_join(const struct evfsctl *ctl, int argc, char **argv)
{
	struct arguments args = { 0 };
	struct evfs_err err = { 0 };
	struct evfs_token token;
	evfs_cleanup_free char *key_path = NULL;
	char public_key[EVFS_KEY_TEXT_MAX];
	int code = parse(ctl, argc, argv, 2, &args), rc;
	bool again;

	if (code >= 0)
		return code;
	rc = evfs_token_parse(args.operands[0], &token, &err);
	again = !rc && is_store(args.operands[1]);
	if (!rc)
		rc = again ? check_again(args.operands[1], &token, &err)
			   : check_free(args.operands[1], &err);
	if (!rc)
		rc = make_key(args.operands[1], &key_path, public_key, &err);
	if (!rc)
		rc = join(&token, &args, key_path, public_key, again,
			  &err);
	if (rc) {
		if (key_path)
			unlink(key_path);
		return evfsctl_fail(ctl, &err);
	}
	printf("%s: replica %s. Mount it with 'evfs %s MOUNTPOINT'.\n",
	       args.operands[1], args.name, args.operands[1]);
	return EVFS_EXIT_DONE;
}
