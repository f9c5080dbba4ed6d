/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The mount point and the mount options. */
#include "fs/mount.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/io.h"
#include "base/log.h"
#include "base/mem.h"

#define MOUNTS_MAX 8 /* stacked at one point, and dead */

/* ---- what is mounted there ---- */

/* "\040" and its like, in place. */
static void unescape(char *text)
{
	char *out = text;

	for (char *in = text; *in; out++) {
		if (in[0] == '\\' && in[1] >= '0' && in[1] <= '3' &&
		    in[2] >= '0' && in[2] <= '7' && in[3] >= '0' &&
		    in[3] <= '7') {
			*out = (char)((in[1] - '0') << 6 |
				      (in[2] - '0') << 3 | (in[3] - '0'));
			in += 4;
		} else {
			*out = *in++;
		}
	}
	*out = '\0';
}

/* The last mount at this path: its type and source ("" where there is none),
 * and the minor number of its device, from /proc/self/mountinfo (proc(5)): id
 * parent MAJOR:MINOR root POINT options ... - TYPE SOURCE options. */
static void mounted_at(const char *path, char type[64], char source[PATH_MAX],
		       unsigned *ret_minor)
{
	FILE *file = fopen("/proc/self/mountinfo", "re");
	char *line = NULL;
	size_t cap = 0;

	type[0] = source[0] = '\0';
	if (!file)
		return;
	while (getline(&line, &cap, file) > 0) {
		char *save = NULL, *field = NULL, *rest;
		unsigned minor = 0;

		rest = strstr(line, " - ");
		if (!rest)
			continue;
		*rest = '\0';
		rest += 3;
		field = strtok_r(line, " ", &save);
		for (int i = 0; field && i < 4; i++) {
			field = strtok_r(NULL, " ", &save);
			if (field && i == 1)
				(void)sscanf(field, "%*u:%u", &minor);
		}
		if (!field)
			continue;
		unescape(field);
		if (strcmp(field, path) != 0)
			continue;
		*ret_minor = minor;
		field = strtok_r(rest, " ", &save);
		(void)snprintf(type, 64, "%s", field ? field : "?");
		field = strtok_r(NULL, " ", &save);
		(void)snprintf(source, PATH_MAX, "%s", field ? field : "?");
		unescape(source);
	}
	free(line); /* getline's */
	(void)fclose(file);
}

void evfs_mount_read_ahead(const char *mountpoint, const char *store)
{
	static const char kib[] = "1024"; /* the longest request */
	char type[64], source[PATH_MAX], path[64];
	evfs_cleanup_fd int fd = -1;
	struct statvfs disk;
	unsigned minor = 0;

	/* An answer comes after the kernel has taken its own value from the
	 * answer to INIT. */
	if (statvfs(mountpoint, &disk) != 0)
		return;
	mounted_at(mountpoint, type, source, &minor);
	if (strcmp(source, store) != 0)
		return;
	(void)snprintf(path, sizeof(path), "/sys/class/bdi/0:%u/read_ahead_kb",
		       minor);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, kib, sizeof(kib) - 1) < 0)
		evfs_log(EVFS_LOG_DEBUG, "%s: %s", path, strerror(errno));
}

/* Lazily, as whoever we are. */
static int clear_dead(const char *path, struct evfs_err *err)
{
	int status = 0;
	pid_t child;

	if (umount2(path, MNT_DETACH) == 0)
		return 0;
	if (errno != EPERM)
		return evfs_err_sys(err, errno, "%s: clear the dead mount",
				    path);
	child = fork();
	if (child == 0) {
		(void)execlp("fusermount3", "fusermount3", "-u", "-z", "-q",
			     "--", path, (char *)NULL);
		_exit(127);
	}
	if (child < 0)
		return evfs_err_sys(err, errno, "fork");
	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			return evfs_err_sys(err, errno, "fusermount3");
	if (status != 0)
		return evfs_err_set(err, EVFS_EBUSY,
				    "%s: a dead mount is there and cannot be "
				    "cleared (fusermount3 -u -z %s)", path,
				    path);
	return 0;
}

/* Absolute, with a parent that is resolved: the last part may be dead. */
static char *absolute_parent(const char *path)
{
	evfs_cleanup_free char *copy = evfs_strdup(path);
	char real[PATH_MAX];
	char *slash, *last;
	size_t len;

	if (!copy)
		return NULL;
	len = strlen(copy);
	while (len > 1 && copy[len - 1] == '/')
		copy[--len] = '\0';
	slash = strrchr(copy, '/');
	last = slash ? slash + 1 : copy;
	if (slash)
		*slash = '\0';
	if (!realpath(!slash ? "." : slash == copy ? "/" : copy, real))
		return evfs_strdup(path);
	return evfs_asprintf("%s/%s", real[1] ? real : "", last);
}

static char *absolute(const char *path)
{
	char real[PATH_MAX];

	return realpath(path, real) ? evfs_strdup(real) :
				      absolute_parent(path);
}

/* Ends a connection as its owner may, where control of them is mounted. */
static void abort_connection(unsigned minor)
{
	evfs_cleanup_free char *path = evfs_asprintf(
		"/sys/fs/fuse/connections/%u/abort", minor);
	evfs_cleanup_fd int fd = path ? open(path, O_WRONLY | O_CLOEXEC) : -1;

	if (fd >= 0)
		(void)!evfs_io_write(fd, "1", 1, NULL);
}

void evfs_fs_release(const char *mountpoint, const char *store)
{
	evfs_cleanup_free char *path = absolute_parent(mountpoint);
	evfs_cleanup_free char *from = absolute(store);
	char type[64], source[PATH_MAX];
	unsigned minor = 0;

	if (!path || !from)
		return;
	mounted_at(path, type, source, &minor);
	if (strcmp(type, "fuse.evfs") != 0 || strcmp(source, from) != 0)
		return;
	evfs_log(EVFS_LOG_INFO, "end the mount of a daemon that was killed");
	if (umount2(path, MNT_FORCE | MNT_DETACH) != 0)
		abort_connection(minor);
}

/* Does its daemon answer? Attributes may come from the kernel's cache even
 * when nobody does; this question never. */
static bool is_dead(const char *path)
{
	struct statvfs disk;

	return statvfs(path, &disk) != 0 &&
	       (errno == ENOTCONN || errno == ECONNABORTED);
}

/* 1: a dead mount of this store was cleared, look again; 0: free to use. */
static int check_mounted(const char *path, const char *store,
			 struct evfs_err *err)
{
	char type[64], source[PATH_MAX];
	unsigned minor;
	int rc;

	mounted_at(path, type, source, &minor);
	if (!type[0] || strcmp(path, "/") == 0)
		return 0;
	if (!is_dead(path))
		return evfs_err_set(err, EVFS_EBUSY,
				    "%s: something is mounted there already: "
				    "%s of type %s (unmount it, or choose "
				    "another directory)", path, source, type);
	if (strcmp(type, "fuse.evfs") != 0 || strcmp(source, store) != 0)
		return evfs_err_set(err, EVFS_EBUSY,
				    "%s: a dead mount of %s is there "
				    "(fusermount3 -u -z %s)", path, source,
				    path);
	evfs_log(EVFS_LOG_INFO, "clear a dead mount of this store");
	rc = clear_dead(path, err);
	return rc != 0 ? rc : 1;
}

int evfs_mount_point(const char *path, const char *store, char **ret,
		     struct evfs_err *err)
{
	evfs_cleanup_free char *real = absolute(path);
	struct stat st;
	int rc = 1;

	if (!real)
		return evfs_err_set(err, EVFS_ENOMEM, "no memory");
	/* Layer by layer, should several be stacked. */
	for (int i = 0; rc > 0 && i < MOUNTS_MAX; i++)
		rc = check_mounted(real, store, err);
	if (rc < 0)
		return rc;
	if (stat(real, &st) != 0)
		return errno == ENOENT ?
			evfs_err_set(err, EVFS_ENOTFOUND,
				     "%s: no such directory (mkdir it first)",
				     real) :
			evfs_err_sys(err, errno, "%s", real);
	if (!S_ISDIR(st.st_mode))
		return evfs_err_set(err, EVFS_ENOTDIR,
				    "%s: not a directory (a mount point must "
				    "be one)", real);
	*ret = evfs_steal(real);
	return 0;
}

/* ---- options ---- */

/* Means something to mount(8), fstab and systemd only. */
static bool is_for_others(const char *option)
{
	static const char *const names[] = {
		"defaults", "auto", "noauto", "user", "users", "nouser",
		"owner", "group", "nofail", "_netdev",
	};

	if (strncmp(option, "x-", 2) == 0 ||
	    strncmp(option, "comment=", 8) == 0)
		return true;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strcmp(option, names[i]) == 0)
			return true;
	return false;
}

/* One option; a backslash before what would end it. */
static int put_option(struct evfs_buf *buf, const char *key, const char *value)
{
	int rc = evfs_buf_printf(buf, "%s%s", buf->len > 0 ? "," : "", key);

	for (const char *at = value; rc == 0 && at && *at; at++) {
		if (*at == ',' || *at == '\\')
			rc = evfs_buf_put_u8(buf, '\\');
		if (rc == 0)
			rc = evfs_buf_put_u8(buf, (uint8_t)*at);
	}
	return rc;
}

static int put_all(struct evfs_buf *buf, const char *store,
		   const char *options)
{
	evfs_cleanup_free char *copy = options ? evfs_strdup(options) : NULL;
	char *save = NULL, *option;
	int rc;

	rc = put_option(buf, "default_permissions,subtype=evfs,fsname=",
			store);
	if (options && !copy)
		rc = EVFS_ENOMEM;
	option = copy ? strtok_r(copy, ",", &save) : NULL;
	for (; rc == 0 && option; option = strtok_r(NULL, ",", &save))
		if (!is_for_others(option))
			rc = put_option(buf, option, NULL);
	if (rc == 0)
		rc = evfs_buf_put_u8(buf, 0);
	return rc;
}

int evfs_mount_args(const char *store, const char *options, bool debug,
		    struct fuse_args *ret, struct evfs_err *err)
{
	struct evfs_buf text = { 0 };
	int rc;

	*ret = (struct fuse_args)FUSE_ARGS_INIT(0, NULL);
	rc = put_all(&text, store, options);
	if (rc == 0 &&
	    (fuse_opt_add_arg(ret, "evfs") != 0 ||
	     fuse_opt_add_arg(ret, "-o") != 0 ||
	     fuse_opt_add_arg(ret, (const char *)text.data) != 0 ||
	     (debug && fuse_opt_add_arg(ret, "-d") != 0)))
		rc = EVFS_ENOMEM;
	evfs_buf_fini(&text);
	if (rc != 0) {
		fuse_opt_free_args(ret);
		return evfs_err_set(err, EVFS_ENOMEM, "no memory");
	}
	return 0;
}

/* ---- libfuse's messages ---- */

static pthread_mutex_t log_lock = PTHREAD_MUTEX_INITIALIZER;
static char log_last[200];

static void log_cb(enum fuse_log_level level, const char *fmt, va_list args)
	__attribute__((format(printf, 2, 0)));

static void log_cb(enum fuse_log_level level, const char *fmt, va_list args)
{
	char line[512];
	size_t len;

	(void)vsnprintf(line, sizeof(line), fmt, args);
	len = strlen(line);
	while (len > 0 && line[len - 1] == '\n')
		line[--len] = '\0';
	if (level <= FUSE_LOG_WARNING) {
		(void)pthread_mutex_lock(&log_lock);
		(void)snprintf(log_last, sizeof(log_last), "%.*s",
			       (int)sizeof(log_last) - 1, line);
		(void)pthread_mutex_unlock(&log_lock);
	}
	evfs_log(level <= FUSE_LOG_ERR ? EVFS_LOG_WARN : EVFS_LOG_DEBUG,
		 "libfuse: %s", line);
}

void evfs_mount_take_log(void)
{
	fuse_set_log_func(log_cb);
}

void evfs_mount_last_log(char *text, size_t size)
{
	(void)pthread_mutex_lock(&log_lock);
	(void)snprintf(text, size, "%s", log_last);
	(void)pthread_mutex_unlock(&log_lock);
}
