/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The directory of a store: making it, and being the only daemon in it.
 *
 *   meta.db, meta.db-wal, meta.db-shm   SQLite
 *   segments/ blobs/ work/              content (meta/content.h)
 *   lock                                held by the daemon; has its pid
 *
 * A directory without meta.db is no store: the database is made under another
 * name and renamed last, so a crash while making one leaves nothing that could
 * be opened. */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "base/mem.h"
#include "meta/store.h"

char *evfs_store_file(const char *path, const char *name)
{
	return evfs_asprintf("%s/%s", path, name);
}

bool evfs_store_holder_is_dead(const char *path)
{
	evfs_cleanup_free char *file = evfs_store_file(path, "lock");
	evfs_cleanup_fd int fd = file ? open(file, O_RDONLY | O_CLOEXEC) : -1;
	char text[64] = "", stat_path[64], state = 0;
	FILE *stat;

	if (fd < 0 || pread(fd, text, sizeof(text) - 1, 0) <= 0)
		return false;
	(void)snprintf(stat_path, sizeof(stat_path), "/proc/%ld/stat",
		       strtol(text, NULL, 10));
	stat = fopen(stat_path, "re");
	if (stat == NULL)
		return false;
	/* pid (name) state; the name is ours, and has no space */
	(void)!fscanf(stat, "%*d %*s %c", &state);
	(void)fclose(stat);
	return state == 'Z' || state == 'X';
}

int evfs_store_lock_dir(const char *path, int *ret_fd, struct evfs_err *err)
{
	evfs_cleanup_free char *file = evfs_store_file(path, "lock");
	char pid[32] = "";
	ssize_t len;
	int fd;

	if (file == NULL)
		return evfs_err_set(err, EVFS_ENOMEM, "lock: out of memory");
	fd = open(file, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		return evfs_err_sys(err, errno, "%s", file);
	if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
		int sys = errno;

		len = pread(fd, pid, sizeof(pid) - 1, 0);
		close(fd);
		if (sys != EWOULDBLOCK)
			return evfs_err_sys(err, sys, "%s", file);
		pid[len > 0 ? len : 0] = '\0';
		pid[strcspn(pid, "\n")] = '\0';
		return evfs_err_set(err, EVFS_ELOCKED,
				    "%s: in use by evfs, process %s (stop "
				    "that one first)",
				    path, pid[0] == '\0' ? "?" : pid);
	}
	len = snprintf(pid, sizeof(pid), "%ld\n", (long)getpid());
	if (ftruncate(fd, 0) != 0 || pwrite(fd, pid, (size_t)len, 0) != len) {
		int sys = errno;

		close(fd);
		return evfs_err_sys(err, sys, "%s", file);
	}
	*ret_fd = fd;
	return 0;
}

/* ---- making one ---- */

static int dir_check_name(const char *name, struct evfs_err *err)
{
	size_t len = name == NULL ? 0 : strlen(name);
	size_t i;

	if (len == 0 || len > EVFS_NODE_NAME_MAX)
		return evfs_err_set(err, EVFS_EINVAL,
				    "name of %zu bytes: 1 to %d of letters, "
				    "digits, '.', '_', '-' are allowed",
				    len, EVFS_NODE_NAME_MAX);
	for (i = 0; i < len; i++) {
		if (!isalnum((unsigned char)name[i]) &&
		    strchr("._-", name[i]) == NULL)
			return evfs_err_set(err, EVFS_EINVAL,
					    "name '%s': only letters, digits, "
					    "'.', '_', '-' are allowed",
					    name);
	}
	return 0;
}

int evfs_store_check_new(const struct evfs_meta_new *what,
			 struct evfs_err *err)
{
	if (what->node == 0)
		return evfs_err_set(err, EVFS_EINVAL, "node 0 is no replica's");
	if (what->public_key == NULL || what->public_key[0] == '\0' ||
	    strlen(what->public_key) >= EVFS_KEY_TEXT_MAX)
		return evfs_err_set(err, EVFS_EINVAL,
				    "no public key, or one of more than %d "
				    "bytes",
				    EVFS_KEY_TEXT_MAX - 1);
	return dir_check_name(what->node_name, err);
}

/* Makes the directory, or accepts an empty one. */
static int dir_make(const char *path, bool *ret_made, struct evfs_err *err)
{
	struct dirent *entry;
	bool empty = true;
	DIR *dir;

	*ret_made = mkdir(path, 0700) == 0;
	if (*ret_made)
		return 0;
	if (errno != EEXIST)
		return evfs_err_sys(err, errno, "%s", path);
	dir = opendir(path);
	if (dir == NULL)
		return evfs_err_sys(err, errno, "%s", path);
	while ((entry = readdir(dir)) != NULL) {
		if (strcmp(entry->d_name, ".") != 0 &&
		    strcmp(entry->d_name, "..") != 0)
			empty = false;
	}
	closedir(dir);
	if (!empty)
		return evfs_err_set(err, EVFS_EEXISTS,
				    "%s: exists and is not empty (a store "
				    "needs a directory of its own)",
				    path);
	if (chmod(path, 0700) != 0)
		return evfs_err_sys(err, errno, "%s", path);
	return 0;
}

static const char *const dir_parts[] = { "segments", "blobs", "work" };
static const char *const dir_files[] = { "meta.db.new", "meta.db.new-journal",
					 "meta.db" };
#define DIR_PARTS (sizeof(dir_parts) / sizeof(dir_parts[0]))
#define DIR_FILES (sizeof(dir_files) / sizeof(dir_files[0]))

/* Takes back what evfs_meta_create() made. Best effort. */
static void dir_unmake(const char *path, bool made)
{
	size_t i;

	for (i = 0; i < DIR_FILES; i++) {
		evfs_cleanup_free char *file =
			evfs_store_file(path, dir_files[i]);

		if (file != NULL)
			(void)unlink(file);
	}
	for (i = 0; i < DIR_PARTS; i++) {
		evfs_cleanup_free char *file =
			evfs_store_file(path, dir_parts[i]);

		if (file != NULL)
			(void)rmdir(file);
	}
	if (made)
		(void)rmdir(path);
}

static int dir_fill(const struct evfs_meta_new *what, struct evfs_err *err)
{
	evfs_cleanup_free char *fresh =
		evfs_store_file(what->path, "meta.db.new");
	evfs_cleanup_free char *final = evfs_store_file(what->path, "meta.db");
	size_t i;
	int rc;

	if (fresh == NULL || final == NULL)
		return evfs_err_set(err, EVFS_ENOMEM, "out of memory");
	for (i = 0; i < DIR_PARTS; i++) {
		evfs_cleanup_free char *part =
			evfs_store_file(what->path, dir_parts[i]);

		if (part == NULL)
			return evfs_err_set(err, EVFS_ENOMEM, "out of memory");
		if (mkdir(part, 0700) != 0)
			return evfs_err_sys(err, errno, "%s", part);
	}
	rc = evfs_store_create_db(fresh, what, err);
	if (rc != 0)
		return rc;
	if (rename(fresh, final) != 0)
		return evfs_err_sys(err, errno, "%s", final);
	return evfs_io_sync_dir(what->path, err);
}

/* The directory that a new directory's name is in. */
static int dir_sync_above(const char *path, struct evfs_err *err)
{
	evfs_cleanup_free char *above = evfs_asprintf("%s/..", path);

	if (above == NULL)
		return evfs_err_set(err, EVFS_ENOMEM, "out of memory");
	return evfs_io_sync_dir(above, err);
}

int evfs_meta_create(const struct evfs_meta_new *what, struct evfs_err *err)
{
	bool made = false;
	int rc = evfs_store_check_new(what, err);

	if (rc == 0)
		rc = dir_make(what->path, &made, err);
	if (rc != 0)
		return evfs_err_wrap(err, rc, "make a store");
	rc = dir_fill(what, err);
	if (rc == 0)
		rc = dir_sync_above(what->path, err);
	if (rc == 0)
		return 0;
	dir_unmake(what->path, made);
	return evfs_err_wrap(err, rc, "make a store");
}
