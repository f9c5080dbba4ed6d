/* SPDX-License-Identifier: GPL-3.0-or-later */
/* evfs: mounts a store, and replicates it while it is mounted. */
#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/thread.h"
#include "meta/config.h"
#include "meta/members.h"
#include "tools/cli.h"
#include "tools/daemon/daemon.h"
#include "tools/daemon/restore.h"

#define COMMIT_DELAY_MS 5

static const char usage_text[] =
	"Usage: evfs [-f] [-d] [-o OPT[,OPT...]] STORE MOUNTPOINT\n"
	"\n"
	"Mounts STORE (made by 'evfsctl init' or 'evfsctl join') at MOUNTPOINT,\n"
	"and keeps it in step with the other members of its volume.\n"
	"\n"
	"  -f             stay in front and log to stderr\n"
	"  -d             the same, with debug messages\n"
	"  -o OPT,...     mount options: ro, allow_other, default_permissions, ...\n"
	"                 listen=ADDR:PORT listens there instead of where\n"
	"                 'evfsctl init --listen' said;\n"
	"                 write_quorum=N, read_quorum=N: of this mount;\n"
	"                 real_opens: hear of each open and close by a message;\n"
	"                 power_save: let processors sleep between requests\n"
	"  -h, --help     show this\n"
	"  -V, --version  show the version\n"
	"\n"
	"It ends on 'fusermount3 -u MOUNTPOINT', umount, SIGTERM and SIGINT, with\n"
	"everything committed. What to do with a running one: 'evfsctl --help'.\n";

struct options {
	bool foreground;
	bool debug;
	const char *store, *mountpoint; /* borrowed from argv */
	char *listen;                   /* owned; NULL: as the store says */
	unsigned write_quorum, read_quorum; /* 0: as the settings say */
	bool real_opens;                    /* -o real_opens */
	bool power_save;                    /* -o power_save */
	struct evfs_buf fuse;           /* options for the mount, a text */
};

/* Set before the signals are let through; read by the handler. */
static struct evfs_fs *running_fs;

static void on_signal(int number)
{
	(void)number;
	if (running_fs)
		evfs_fs_exit(running_fs);
}

/* Options of mount(8) and fstab that mean nothing to a mounted file system. */
static bool is_for_mount_only(const char *option)
{
	static const char *const names[] = { "defaults", "auto", "noauto",
					     "nofail",	 "_netdev", "user",
					     "users",	 "nouser", "owner",
					     "group" };

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
		if (!strcmp(option, names[i]))
			return true;
	return !strncmp(option, "x-", 2);
}

/* "write_quorum=2" and its like. 1: it is none of them; below 0: told. */
static int take_quorum(struct options *options, const char *option)
{
	static const enum evfs_config_key keys[] = { EVFS_CONFIG_write_quorum,
						     EVFS_CONFIG_read_quorum };
	unsigned *const values[] = { &options->write_quorum,
				     &options->read_quorum };
	struct evfs_err err = { 0 };
	int64_t number;

	for (size_t i = 0; i < 2; i++) {
		const char *name = evfs_config_name(keys[i]);
		size_t len = strlen(name);

		if (strncmp(option, name, len) != 0 || option[len] != '=')
			continue;
		if (evfs_config_parse(keys[i], option + len + 1, &number,
				      &err) < 0) {
			fprintf(stderr, "evfs: -o %s\n", err.msg);
			return err.code;
		}
		*values[i] = (unsigned)number;
		return 0;
	}
	return 1;
}

static int take_options(struct options *options, const char *list)
{
	evfs_cleanup_free char *copy = evfs_strdup(list);
	char *rest = copy, *option;

	if (!copy)
		return EVFS_ENOMEM;
	while ((option = strsep(&rest, ","))) {
		int rc = take_quorum(options, option);

		if (rc < 0)
			return rc;
		if (rc == 0)
			continue;
		rc = 0;
		if (!strcmp(option, "real_opens")) {
			options->real_opens = true;
		} else if (!strcmp(option, "power_save")) {
			options->power_save = true;
		} else if (!strncmp(option, "listen=", 7)) {
			evfs_free(options->listen);
			options->listen = evfs_strdup(option + 7);
			rc = options->listen ? 0 : EVFS_ENOMEM;
		} else if (*option && !is_for_mount_only(option)) {
			if (options->fuse.len)
				rc = evfs_buf_put_u8(&options->fuse, ',');
			if (!rc)
				rc = evfs_buf_put(&options->fuse, option,
						  strlen(option));
		}
		if (rc)
			return rc;
	}
	return 0;
}

/* -1: go on; else the exit code. */
static int parse(int argc, char **argv, struct options *options)
{
	static const struct option longs[] = {
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'V' },
		{ NULL, 0, NULL, 0 }
	};
	int letter, rc;

	opterr = 0;
	while ((letter = getopt_long(argc, argv, "+:fdo:hV", longs, NULL)) !=
		       -1 ||
	       (optind < argc && !options->mountpoint)) {
		switch (letter) {
		case -1: /* operands and options may be mixed, as mount does */
			if (!options->store)
				options->store = argv[optind++];
			else
				options->mountpoint = argv[optind++];
			break;
		case 'f':
			options->foreground = true;
			break;
		case 'd':
			options->foreground = options->debug = true;
			break;
		case 'o':
			rc = take_options(options, optarg);
			if (rc)
				return rc == EVFS_EINVAL ? EVFS_EXIT_USAGE
							 : EVFS_EXIT_FAILED;
			break;
		case 'h':
			fputs(usage_text, stdout);
			return EVFS_EXIT_DONE;
		case 'V':
			puts("evfs " PACKAGE_VERSION);
			return EVFS_EXIT_DONE;
		case ':':
			return evfs_cli_usage("evfs", NULL,
					      "option %s needs a value",
					      argv[optind - 1]);
		default:
			return evfs_cli_usage("evfs", NULL,
					      "unknown option %s",
					      argv[optind - 1]);
		}
	}
	if (!options->mountpoint)
		return evfs_cli_usage("evfs", NULL,
				      "a store and a mount point are needed");
	if (optind < argc)
		return evfs_cli_usage("evfs", NULL, "too many arguments: %s",
				      argv[optind]);
	return evfs_buf_put_u8(&options->fuse, '\0') ? EVFS_EXIT_FAILED : -1;
}

static int absolute(const char *path, char **ret, struct evfs_err *err)
{
	*ret = realpath(path, NULL);
	return *ret ? 0 : evfs_err_sys(err, errno, "%s", path);
}

/* The address under which others reach this replica may have changed: another
 * port, another host name. They learn it with the member records. */
static int announce_address(struct evfs_daemon *daemon, struct evfs_err *err)
{
	const char *bound = evfs_net_address(daemon->net);
	struct evfs_member self;
	char address[EVFS_ADDRESS_MAX + 1];
	bool changed;
	int rc;

	if (!bound)
		return 0;
	evfs_advertised_address(bound, address);
	evfs_meta_lock(daemon->meta);
	rc = evfs_members_by_node(daemon->meta, evfs_meta_node(daemon->meta),
				  &self, err);
	if (!rc && strcmp(self.address, address)) {
		snprintf(self.address, sizeof(self.address), "%s", address);
		self.stamp_ns = evfs_meta_stamp(daemon->meta, self.stamp_ns);
		rc = evfs_members_join(daemon->meta, &self, &changed, err);
	}
	evfs_meta_unlock(daemon->meta);
	return rc;
}

static void members_changed(void *arg, struct evfs_engine *engine)
{
	(void)arg;
	evfs_engine_members_changed(engine);
}

static int start_net(struct evfs_daemon *daemon, const struct options *options,
		     struct evfs_err *err)
{
	evfs_cleanup_free char *key =
		evfs_asprintf("%s/id_ed25519", daemon->store);
	struct evfs_net_options net = {
		.key_path = key,
		.listen = options->listen ? options->listen
					  : evfs_meta_listen(daemon->meta)
	};
	int rc;

	if (!key)
		return evfs_err_set(err, EVFS_ENOMEM, "%s",
				    evfs_err_text(EVFS_ENOMEM));
	rc = evfs_net_start(daemon->meta, &net, &daemon->net, err);
	if (!rc)
		rc = announce_address(daemon, err);
	if (!rc)
		evfs_net_call(daemon->net, members_changed, NULL);
	return rc;
}

/* A daemon that was killed while the kernel took something from it may hang
 * there, with the store: its mount is ended then. */
static int open_store(struct evfs_daemon *daemon,
		      const struct evfs_meta_options *options,
		      struct evfs_err *err)
{
	const struct timespec moment = { 0, 10000000 };
	int rc = evfs_meta_open(options, &daemon->meta, err);

	if (rc != EVFS_ELOCKED || !evfs_store_holder_is_dead(daemon->store))
		return rc;
	evfs_fs_release(daemon->mountpoint, daemon->store);
	for (int i = 0; i < 500 && rc == EVFS_ELOCKED; i++) {
		(void)nanosleep(&moment, NULL);
		rc = evfs_meta_open(options, &daemon->meta, err);
	}
	return rc;
}

static int start(struct evfs_daemon *daemon, const struct options *options,
		 struct evfs_err *err)
{
	const struct evfs_env *env = evfs_env_system();
	struct evfs_meta_options meta = { .path = daemon->store,
					  .env = env,
					  .commit_delay_ms = COMMIT_DELAY_MS };
	struct evfs_fs_options fs = {
		.mountpoint = daemon->mountpoint,
		.store_path = daemon->store,
		.fuse_options = options->fuse.len > 1
					? (char *)options->fuse.data
					: NULL,
		.debug = options->debug,
		.write_quorum = options->write_quorum,
		.read_quorum = options->read_quorum,
		.real_opens = options->real_opens,
		.power_save = options->power_save,
		.status_json = evfs_status_for_mount,
		.status_ctx = daemon
	};
	int rc;

	daemon->started_ns = env->mono_ns(env->ctx);
	rc = open_store(daemon, &meta, err);
	if (!rc)
		rc = start_net(daemon, options, err);
	if (!rc)
		rc = evfs_fs_mount(daemon->meta, &fs, &daemon->fs, err);
	if (!rc)
		rc = evfs_scrub_start(daemon, err);
	if (!rc)
		rc = evfs_control_start(daemon, err);
	if (!rc)
		rc = evfs_housekeeper_start(daemon, err);
	return rc;
}

/* In the reverse order of the start; each part may be missing. */
static void stop(struct evfs_daemon *daemon)
{
	struct evfs_control *control = daemon->control;

	evfs_housekeeper_stop(daemon);
	if (daemon->net)
		evfs_net_stop(daemon->net);
	daemon->net = NULL;
	if (control)
		evfs_control_stop(daemon);
	evfs_scrub_stop(daemon);
	if (daemon->fs)
		evfs_fs_free(daemon->fs);
	if (daemon->meta)
		evfs_meta_close(daemon->meta);
	free(daemon->store);
	free(daemon->mountpoint);
}

/* Who started the daemon is told once the mount answers. */
struct readiness {
	int fd; /* of the parent, or -1 */
	const char *mountpoint;
};

static void *report_ready(void *arg)
{
	struct readiness *ready = arg;
	struct stat st;
	int null;

	if (stat(ready->mountpoint, &st))
		evfs_log(EVFS_LOG_WARN, "mount: err=%s", strerror(errno));
	if (ready->fd < 0)
		return NULL;
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null >= 0) {
		dup2(null, STDIN_FILENO);
		dup2(null, STDOUT_FILENO);
		dup2(null, STDERR_FILENO);
		close(null);
	}
	if (write(ready->fd, "", 1) != 1)
		evfs_log(EVFS_LOG_WARN, "start: nobody waits for it");
	close(ready->fd);
	return NULL;
}

static void catch_signals(void)
{
	struct sigaction action = { .sa_handler = on_signal };

	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGHUP, &action, NULL);
	action.sa_handler = SIG_IGN;
	sigaction(SIGPIPE, &action, NULL);
}

static int serve(const struct options *options, int ready_fd)
{
	struct evfs_daemon daemon = { 0 };
	struct readiness ready = { .fd = ready_fd };
	struct evfs_err err = { 0 };
	pthread_t reporter;
	int rc;

	rc = absolute(options->store, &daemon.store, &err);
	if (!rc)
		rc = absolute(options->mountpoint, &daemon.mountpoint, &err);
	if (!rc)
		rc = start(&daemon, options, &err);
	if (!rc) {
		running_fs = daemon.fs;
		catch_signals();
		ready.mountpoint = daemon.mountpoint;
		rc = evfs_thread_start(&reporter, report_ready, &ready,
				       "thread that says it is ready", &err);
	}
	if (!rc) {
		evfs_log(EVFS_LOG_INFO, "mounted: store=%s address=%s",
			 daemon.store, evfs_net_address(daemon.net)
					       ? evfs_net_address(daemon.net)
					       : "none");
		rc = evfs_fs_loop(daemon.fs, &err);
		pthread_join(reporter, NULL);
	}
	running_fs = NULL;
	if (rc)
		evfs_log(EVFS_LOG_ERROR, "%s", err.msg);
	if (rc && !options->foreground)
		fprintf(stderr, "evfs: %s\n", err.msg);
	stop(&daemon);
	if (!rc)
		evfs_log(EVFS_LOG_INFO, "ended: everything is committed");
	return rc ? EVFS_EXIT_FAILED : EVFS_EXIT_DONE;
}

/* The child serves; the parent leaves when the mount answers, or with the
 * child's exit code when it fails. */
static int serve_in_background(const struct options *options)
{
	int fds[2], status;
	char byte;
	ssize_t n;
	pid_t child;

	if (pipe2(fds, O_CLOEXEC)) {
		perror("evfs: pipe");
		return EVFS_EXIT_FAILED;
	}
	child = fork();
	if (child < 0) {
		perror("evfs: fork");
		return EVFS_EXIT_FAILED;
	}
	if (!child) {
		close(fds[0]);
		setsid();
		evfs_log_init("evfs", EVFS_LOG_INFO, true);
		_exit(serve(options, fds[1]));
	}
	close(fds[1]);
	do
		n = read(fds[0], &byte, 1);
	while (n < 0 && errno == EINTR);
	if (n == 1)
		return EVFS_EXIT_DONE;
	if (waitpid(child, &status, 0) == child && WIFEXITED(status) &&
	    WEXITSTATUS(status))
		return WEXITSTATUS(status);
	fprintf(stderr, "evfs: the daemon ended before the mount answered\n");
	return EVFS_EXIT_FAILED;
}

int main(int argc, char **argv)
{
	struct options options = { 0 };
	int code = parse(argc, argv, &options);

	if (code < 0) {
		if (options.foreground) {
			evfs_log_init("evfs", options.debug ? EVFS_LOG_DEBUG
							    : EVFS_LOG_INFO,
				      false);
			code = serve(&options, -1);
		} else {
			code = serve_in_background(&options);
		}
	}
	evfs_free(options.listen);
	evfs_buf_fini(&options.fuse);
	return code;
}
