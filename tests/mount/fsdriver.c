/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A mount without the network, for tests of fs/ alone:
 *
 *   fsdriver [-s KEY=VALUE]... [-o OPTIONS] STORE MOUNTPOINT
 *
 * makes STORE where it is not there, mounts it, and stays in front until it is
 * unmounted or told to end by SIGTERM or SIGINT. SIGUSR1 prints what is not
 * sealed: "unsealed FILES BYTES OLDEST_S". */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "fs/fs.h"
#include "meta/config.h"
#include "meta/meta.h"

static struct evfs_fs *mounted; /* for the signal thread */

static int fail(const struct evfs_err *err)
{
	(void)fprintf(stderr, "fsdriver: %s\n", err->msg);
	return 1;
}

static int make_store(const char *path, struct evfs_err *err)
{
	const char *key = "ssh-ed25519 AAAAfsdriver";
	const struct evfs_meta_new what = {
		.path = path,
		.node_name = "driver",
		.node = evfs_node_of_key(key),
		.public_key = key,
		.volume = { { 1 } },
	};
	int rc = evfs_meta_create(&what, err);

	return rc == EVFS_EEXISTS ? 0 : rc;
}

static int set_all(struct evfs_meta *meta, char **settings, int n,
		   struct evfs_err *err)
{
	int rc = 0;

	evfs_meta_lock(meta);
	for (int i = 0; rc == 0 && i < n; i++) {
		char *value = strchr(settings[i], '=');

		if (!value)
			continue;
		*value++ = '\0';
		rc = evfs_config_set_text(meta, settings[i], value, err);
	}
	evfs_meta_unlock(meta);
	return rc;
}

/* Signals are taken here, so that any call may be made. */
static void *signal_main(void *arg)
{
	const sigset_t *set = arg;
	uint64_t files, bytes;
	int64_t oldest;
	int sig;

	while (sigwait(set, &sig) == 0) {
		if (sig == SIGUSR1) {
			evfs_fs_unsealed(mounted, &files, &bytes, &oldest);
			(void)printf("unsealed %llu %llu %lld\n",
				     (unsigned long long)files,
				     (unsigned long long)bytes,
				     (long long)oldest);
			(void)fflush(stdout);
		} else {
			evfs_fs_exit(mounted);
		}
	}
	return NULL;
}

static int status_cb(void *ctx, struct evfs_buf *out)
{
	(void)ctx;
	return evfs_buf_printf(out, "{\"format\":1}\n");
}

static int serve(struct evfs_meta *meta, const struct evfs_fs_options *options,
		 struct evfs_err *err)
{
	static sigset_t set;
	pthread_t thread;
	int rc;

	rc = evfs_fs_mount(meta, options, &mounted, err);
	if (rc != 0)
		return rc;
	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGTERM);
	(void)sigaddset(&set, SIGINT);
	(void)sigaddset(&set, SIGUSR1);
	if (pthread_create(&thread, NULL, signal_main, &set) != 0)
		rc = evfs_err_set(err, EVFS_ENOMEM, "no thread");
	else
		rc = evfs_fs_loop(mounted, err);
	(void)pthread_cancel(thread);
	(void)pthread_join(thread, NULL);
	evfs_fs_free(mounted);
	return rc;
}

int main(int argc, char **argv)
{
	struct evfs_meta_options open = { .commit_delay_ms = 5 };
	struct evfs_fs_options options = { .status_json = status_cb };
	struct evfs_err err = { 0 };
	struct evfs_meta *meta;
	char *settings[16];
	int n_settings = 0, opt, rc;
	sigset_t set;

	while ((opt = getopt(argc, argv, "s:o:")) != -1) {
		if (opt == 's' && n_settings < 16)
			settings[n_settings++] = optarg;
		else if (opt == 'o')
			options.fuse_options = optarg;
		else
			return 2;
	}
	if (argc - optind != 2)
		return 2;
	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGTERM);
	(void)sigaddset(&set, SIGINT);
	(void)sigaddset(&set, SIGUSR1);
	(void)pthread_sigmask(SIG_BLOCK, &set, NULL);
	evfs_log_init("fsdriver", EVFS_LOG_INFO, false);
	open.path = options.store_path = argv[optind];
	options.mountpoint = argv[optind + 1];
	open.env = evfs_env_system();
	if (make_store(open.path, &err) != 0 ||
	    evfs_meta_open(&open, &meta, &err) != 0)
		return fail(&err);
	rc = set_all(meta, settings, n_settings, &err);
	if (rc == 0)
		rc = serve(meta, &options, &err);
	evfs_meta_close(meta);
	return rc != 0 ? fail(&err) : 0;
}
