/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The generated tree below /.evfs.
 *
 *   status.json          one JSON object, made when it is looked up
 *   conflicts/PATH       one text for each open conflict; in its name '/' is
 *                        "%2F" and '%' is "%25"
 *   history/PATH/...     a directory for every name that history knows; in
 *                        that of a file, one file for each version, named
 *                        TIME-ID: 20261122T140211Z-1a2b3c4d
 *
 * A file is text of its own node, made with it, for an open need not send a
 * message: each lookup makes another. Of a directory that is open, fi->fh is a
 * struct opened with its lowest bit set, which tells it from those of the
 * tree. */
#include "fs/evfs_dir.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/mem.h"
#include "fs/file.h"
#include "fs/ops.h"
#include "fs/reply.h"
#include "meta/history.h"

#define VERSION_NAME_MAX 40
#define ID_DIGITS 8
#define PATH_BYTES_MAX 8192

enum virtual_type {
	V_ROOT,      /* .evfs */
	V_STATUS,    /* status.json */
	V_CONFLICTS, /* conflicts */
	V_CONFLICT,  /* conflicts/NAME; path: that of the plain name */
	V_HISTORY,   /* history/PATH; path: PATH, "/" for history itself */
	V_VERSION    /* history/PATH/VERSION */
};

struct evfs_virtual {
	enum virtual_type type;
	char *path;                     /* owned; see above, else "" */
	char version[VERSION_NAME_MAX]; /* VERSION: its name, else "" */
	evfs_hash content;              /* VERSION */
	uint64_t size;                  /* VERSION */
	int64_t mtime_s;                /* VERSION */
	uint32_t mtime_ns;              /* VERSION */
	pthread_mutex_t lock;           /* leaf: reader */
	struct evfs_reader *reader;     /* VERSION: owned, once it is read */
	struct evfs_buf text;           /* STATUS, CONFLICT: owned */
};

/* A name in a generated directory. */
struct item {
	char *name; /* owned */
	bool is_dir;
};

/* An open directory. */
struct opened {
	struct evfs_node *node;     /* pinned */
	struct item *items;         /* owned */
	size_t n_items, cap_items;
};

static void opened_free(struct evfs_fs *fs, struct opened *opened)
{
	for (size_t i = 0; i < opened->n_items; i++)
		evfs_free(opened->items[i].name);
	evfs_free(opened->items);
	evfs_node_unpin(fs, opened->node);
	evfs_free(opened);
}

static struct opened *opened_of(const struct fuse_file_info *fi)
{
	return (struct opened *)(uintptr_t)(fi->fh & ~(uint64_t)1); /* NOLINT */
}

void evfs_virtual_free(struct evfs_virtual *virt)
{
	if (!virt)
		return;
	evfs_reader_put(virt->reader);
	evfs_buf_fini(&virt->text);
	(void)pthread_mutex_destroy(&virt->lock);
	evfs_free(virt->path);
	evfs_free(virt);
}

static bool is_text(const struct evfs_virtual *virt)
{
	return virt->type == V_STATUS || virt->type == V_CONFLICT;
}

bool evfs_virtual_is_same(const struct evfs_virtual *a,
			  const struct evfs_virtual *b)
{
	return !is_text(a) && a->type == b->type && strcmp(a->path, b->path) == 0 &&
	       strcmp(a->version, b->version) == 0;
}

bool evfs_virtual_is_entry(const struct evfs_node *parent, const char *name)
{
	return parent->id == FUSE_ROOT_ID && strcmp(name, EVFS_DIR_NAME) == 0;
}

static struct evfs_virtual *virtual_new(enum virtual_type type,
					const char *path)
{
	struct evfs_virtual *virt = evfs_calloc(1, sizeof(*virt));

	if (!virt)
		return NULL;
	virt->type = type;
	virt->path = evfs_strdup(path);
	if (!virt->path || pthread_mutex_init(&virt->lock, NULL) != 0) {
		evfs_free(virt->path);
		evfs_free(virt);
		return NULL;
	}
	return virt;
}

static bool is_dir(const struct evfs_virtual *virt)
{
	return virt->type == V_ROOT || virt->type == V_CONFLICTS ||
	       virt->type == V_HISTORY;
}

/* ---- names ---- */

/* "/a/b%" as one name: "a%2Fb%25". NULL: no memory, or too long a name. */
static char *conflict_name(const char *path)
{
	struct evfs_buf buf = { 0 };
	int rc = 0;

	for (const char *at = path + 1; rc == 0 && *at; at++) {
		if (*at == '/')
			rc = evfs_buf_put(&buf, "%2F", 3);
		else if (*at == '%')
			rc = evfs_buf_put(&buf, "%25", 3);
		else
			rc = evfs_buf_put_u8(&buf, (uint8_t)*at);
	}
	if (rc == 0)
		rc = evfs_buf_put_u8(&buf, 0);
	if (rc != 0 || buf.len > EVFS_NAME_MAX + 1) {
		evfs_buf_fini(&buf);
		return NULL;
	}
	return (char *)buf.data; /* evfs_free() frees what a buffer holds */
}

static void version_name(const struct evfs_past *past,
			 char name[VERSION_NAME_MAX])
{
	time_t seconds = (time_t)(past->written_ns / 1000000000);
	char stamp[24] = "";
	char id[17];
	struct tm tm;

	if (gmtime_r(&seconds, &tm))
		(void)strftime(stamp, sizeof(stamp), "%Y%m%dT%H%M%SZ", &tm);
	evfs_past_id(past->dot, id);
	(void)snprintf(name, VERSION_NAME_MAX, "%s-%.*s", stamp, ID_DIGITS,
		       id);
}

/* ---- what is there ---- */

/* Looking for a name, or listing all. */
struct search {
	const char *name;          /* NULL: list */
	struct opened *opened;     /* list: where to */
	bool found;                /* the name is there */
	struct evfs_virtual *virt; /* what it is; path set by the caller */
	struct evfs_buf *text;     /* the conflict of this path: its reasons */
	struct evfs_meta *meta;
	const char *path;          /* of that conflict */
	int rc;                    /* EVFS_ENOMEM, or of the view */
};

static int item_add(struct search *search, const char *name, bool dir)
{
	struct opened *opened = search->opened;
	void *items = opened->items;
	char *copy = evfs_strdup(name);

	if (!copy || evfs_grow(&items, opened->n_items, &opened->cap_items,
			       sizeof(*opened->items)) != 0) {
		evfs_free(copy);
		search->rc = EVFS_ENOMEM;
		return 1;
	}
	opened->items = items;
	opened->items[opened->n_items++] = (struct item){ copy, dir };
	return 0;
}

static int version_cb(void *arg, const struct evfs_past *past)
{
	struct search *search = arg;
	char name[VERSION_NAME_MAX];

	version_name(past, name);
	if (!search->name)
		return item_add(search, name, false);
	if (strcmp(name, search->name) != 0)
		return 0;
	search->found = true;
	(void)strcpy(search->virt->version, name);
	search->virt->type = V_VERSION;
	search->virt->content = past->content;
	search->virt->size = past->size;
	search->virt->mtime_s = past->mtime_s;
	search->virt->mtime_ns = past->mtime_ns;
	return 1;
}

static int name_cb(void *arg, const char *name, bool dir)
{
	struct search *search = arg;

	(void)dir; /* a file's versions are shown as a directory, too */
	if (!search->name)
		return item_add(search, name, true);
	if (strcmp(name, search->name) == 0)
		search->found = true;
	return search->found;
}

static int conflict_cb(void *arg, const char *path,
		       const struct evfs_entry *group, size_t n)
{
	struct search *search = arg;
	evfs_cleanup_free char *name = NULL;

	(void)group;
	(void)n;
	name = conflict_name(path);
	if (!name)
		return 0;
	if (!search->name)
		return item_add(search, name, false);
	if (strcmp(name, search->name) != 0)
		return 0;
	search->found = true;
	evfs_free(search->virt->path);
	search->virt->path = evfs_strdup(path);
	if (!search->virt->path)
		search->rc = EVFS_ENOMEM;
	return 1;
}

static int any_cb(void *arg, const struct evfs_past *past)
{
	struct search *search = arg;

	(void)past;
	search->found = true;
	return 1;
}

/* Meta locked. Is it a directory now? Below it may be files of which nothing
 * was replaced yet. */
static int find_dir(struct evfs_fs *fs, struct search *search,
		    struct evfs_err *err)
{
	struct evfs_entry entry = { 0 };
	int rc = evfs_view_path(fs->meta, search->virt->path, &entry, err);

	if (rc == EVFS_ENOTFOUND || rc == EVFS_ENOTDIR)
		return 0;
	search->found = rc == 0 && entry.kind == EVFS_KIND_DIR;
	evfs_entry_fini(&entry);
	return rc;
}

/* Meta locked. The names in a directory of history: below it, and the versions
 * of the file of this path. A file that never changed is not among the names,
 * but is found. */
static int walk_history(struct evfs_fs *fs, const char *path,
			struct search *search, struct evfs_err *err)
{
	int rc = evfs_history_log(fs->meta, path, version_cb, search, err);

	if (rc == EVFS_ENOTFOUND)
		rc = 0;
	if (rc == 0 && !search->found)
		rc = evfs_history_names(fs->meta, path, name_cb, search, err);
	if (rc == EVFS_ENOTFOUND)
		rc = 0;
	if (rc == 0 && search->name && !search->found)
		rc = evfs_history_log(fs->meta, search->virt->path, any_cb,
				      search, err);
	if (rc == EVFS_ENOTFOUND)
		rc = 0;
	if (rc == 0 && search->name && !search->found)
		rc = find_dir(fs, search, err);
	return rc != 0 ? rc : search->rc;
}

static int walk_root(struct evfs_fs *fs, struct search *search)
{
	static const struct {
		const char *name;
		enum virtual_type type;
	} table[] = {
		{ "status.json", V_STATUS },
		{ "conflicts", V_CONFLICTS },
		{ "history", V_HISTORY },
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		if (table[i].type == V_STATUS && !fs->status_json)
			continue;
		if (!search->name) {
			if (item_add(search, table[i].name,
				     table[i].type != V_STATUS) != 0)
				return EVFS_ENOMEM;
		} else if (strcmp(search->name, table[i].name) == 0) {
			search->found = true;
			search->virt->type = table[i].type;
		}
	}
	return 0;
}

static int walk(struct evfs_fs *fs, const struct evfs_virtual *dir,
		struct search *search, struct evfs_err *err)
{
	int rc;

	if (dir->type == V_ROOT)
		return walk_root(fs, search);
	evfs_meta_lock(fs->meta);
	if (dir->type == V_CONFLICTS) {
		rc = evfs_view_conflicts(fs->meta, conflict_cb, search, err);
		if (rc == 0)
			rc = search->rc;
	} else {
		rc = walk_history(fs, dir->path, search, err);
	}
	evfs_meta_unlock(fs->meta);
	return rc;
}

/* ---- texts ---- */

static int why_cb(void *arg, const char *path, const struct evfs_entry *group,
		  size_t n)
{
	struct search *search = arg;
	evfs_cleanup_free char *above = NULL;
	struct evfs_entry entry = { 0 };
	evfs_ino parent = EVFS_INO_ROOT;
	char *slash;
	int rc = 0;

	if (strcmp(path, search->path) != 0)
		return 0;
	search->found = true;
	above = evfs_strdup(path);
	if (!above) {
		search->rc = EVFS_ENOMEM;
		return 1;
	}
	slash = strrchr(above, '/');
	if (slash != above) {
		*slash = '\0';
		rc = evfs_view_path(search->meta, above, &entry, NULL);
		if (rc == 0 && entry.dir.n > 0)
			parent = entry.dir.members[0];
	}
	for (size_t i = 0; rc == 0 && i < n; i++) {
		rc = evfs_buf_printf(search->text, "%s:\n", group[i].name);
		if (rc == 0)
			rc = evfs_view_why(search->meta, parent, &group[i],
					   search->text, NULL);
	}
	search->rc = rc;
	evfs_entry_fini(&entry);
	return 1;
}

static int make_text(struct evfs_fs *fs, struct evfs_virtual *virt,
		     struct evfs_err *err)
{
	struct search search = { .text = &virt->text, .meta = fs->meta,
				 .path = virt->path };
	int rc;

	if (virt->type == V_STATUS)
		return fs->status_json ?
			fs->status_json(fs->status_ctx, &virt->text) :
			EVFS_ENOTFOUND;
	evfs_meta_lock(fs->meta);
	rc = evfs_view_conflicts(fs->meta, why_cb, &search, err);
	evfs_meta_unlock(fs->meta);
	if (rc == 0 && !search.found)
		rc = EVFS_ENOTFOUND; /* settled meanwhile */
	return rc != 0 ? rc : search.rc;
}

/* ---- lookup, attributes ---- */

/* The same at each lookup, though the node is not: programs compare what they
 * have opened with what they saw before. */
static uint64_t number_of(const struct evfs_virtual *virt)
{
	uint64_t x = 0xcbf29ce484222325u ^ (uint64_t)virt->type; /* FNV-1a */

	for (const char *at = virt->path; *at; at++)
		x = (x ^ (uint8_t)*at) * 0x100000001b3u;
	for (const char *at = virt->version; *at; at++)
		x = (x ^ (uint8_t)*at) * 0x100000001b3u;
	return x << 8 | 0xfe; /* of no object in particular */
}

static void fill(struct evfs_fs *fs, const struct evfs_node *node,
		 struct stat *ret)
{
	const struct evfs_virtual *virt = node->virt;

	memset(ret, 0, sizeof(*ret));
	ret->st_ino = number_of(virt);
	ret->st_nlink = 1;
	ret->st_uid = fs->root_uid;
	ret->st_gid = fs->root_gid;
	ret->st_mode = is_dir(virt) ? S_IFDIR | 0555 : S_IFREG | 0444;
	ret->st_size = (off_t)virt->text.len;
	if (virt->type == V_VERSION) {
		ret->st_mode = S_IFREG | 0400;
		ret->st_size = (off_t)virt->size;
		ret->st_blocks = (blkcnt_t)((virt->size + 511) / 512);
		ret->st_mtim.tv_sec = virt->mtime_s;
		ret->st_mtim.tv_nsec = virt->mtime_ns;
		ret->st_ctim = ret->st_mtim;
		ret->st_atim = ret->st_mtim;
	}
}

/* What a name in a generated directory is; NULL with rc 0: nothing. */
static int find(struct evfs_fs *fs, const struct evfs_virtual *dir,
		const char *name, struct evfs_virtual **ret,
		struct evfs_err *err)
{
	struct search search = { .name = name, .meta = fs->meta };
	evfs_cleanup_free char *path = NULL;
	int rc;

	path = dir->type != V_HISTORY ? evfs_strdup("") :
	       evfs_asprintf("%s%s%s", dir->path,
			     dir->path[1] == '\0' ? "" : "/", name);
	search.virt = path ? virtual_new(dir->type == V_HISTORY ? V_HISTORY :
					 V_CONFLICT, path) : NULL;
	if (!search.virt || strlen(path) > PATH_BYTES_MAX) {
		evfs_virtual_free(search.virt);
		return path ? EVFS_ENAMETOOLONG : EVFS_ENOMEM;
	}
	rc = walk(fs, dir, &search, err);
	if (rc == 0 && search.found && search.virt->type == V_HISTORY &&
	    dir->type == V_ROOT) {
		evfs_free(search.virt->path);
		search.virt->path = evfs_strdup("/");
		if (!search.virt->path)
			rc = EVFS_ENOMEM;
	}
	*ret = NULL;
	if (rc == 0 && search.found)
		*ret = search.virt;
	else
		evfs_virtual_free(search.virt);
	return rc;
}

void evfs_virtual_lookup(fuse_req_t req, struct evfs_node *parent,
			 const char *name)
{
	struct evfs_fs *fs = evfs_fs_of(req);
	struct evfs_virtual *virt = NULL;
	struct fuse_entry_param param;
	struct evfs_err err = { 0 };
	struct evfs_node *node;
	int rc = 0;

	if (parent->type != EVFS_NODE_VIRTUAL) {
		virt = virtual_new(V_ROOT, "");
		rc = virt ? 0 : EVFS_ENOMEM;
	} else if (!is_dir(parent->virt)) {
		rc = EVFS_ENOTDIR;
	} else {
		rc = find(fs, parent->virt, name, &virt, &err);
	}
	if (rc == 0 && !virt)
		rc = EVFS_ENOTFOUND;
	if (rc == 0 && is_text(virt))
		rc = make_text(fs, virt, &err);
	if (rc == 0)
		rc = evfs_node_of_virtual(fs, virt, &node, &err);
	if (rc != 0) {
		evfs_virtual_free(virt);
		evfs_reply(req, rc, &err);
		return;
	}
	memset(&param, 0, sizeof(param));
	param.ino = node->id;
	fill(fs, node, &param.attr);
	if (!is_dir(node->virt)) /* of this node they never change */
		param.attr_timeout = EVFS_FS_FOREVER;
	evfs_op_reply_entry(req, &param);
}

void evfs_virtual_getattr(fuse_req_t req, struct evfs_node *node)
{
	struct stat attr;

	fill(evfs_fs_of(req), node, &attr);
	(void)fuse_reply_attr(req, &attr,
			      is_dir(node->virt) ? 0 : EVFS_FS_FOREVER);
}

/* ---- files ---- */

/* One reference for the caller. */
static int version_reader(struct evfs_fs *fs, fuse_req_t req,
			  struct evfs_virtual *virt, struct evfs_reader **ret,
			  struct evfs_err *err)
{
	struct evfs_content_reader *content;
	struct evfs_reader *reader;
	int rc;

	(void)pthread_mutex_lock(&virt->lock);
	*ret = evfs_reader_get(virt->reader);
	(void)pthread_mutex_unlock(&virt->lock);
	if (*ret)
		return 0;
	rc = evfs_wait_open(fs, req, &virt->content, virt->size, &content,
			    err);
	if (rc != 0)
		return rc;
	reader = evfs_reader_new(content, &virt->content, virt->size);
	if (!reader)
		return evfs_err_set(err, EVFS_ENOMEM, "reader: no memory");
	(void)pthread_mutex_lock(&virt->lock);
	if (!virt->reader)
		virt->reader = evfs_reader_get(reader);
	(void)pthread_mutex_unlock(&virt->lock);
	*ret = reader;
	return 0;
}

static void read_version(fuse_req_t req, struct evfs_virtual *virt,
			 size_t size, off_t offset)
{
	struct evfs_fs *fs = evfs_fs_of(req);
	evfs_cleanup_free char *data = evfs_realloc_array(NULL, size, 1);
	struct evfs_reader *reader = NULL;
	struct evfs_err err = { 0 };
	size_t len = 0;
	int rc = data ? 0 : EVFS_ENOMEM;

	if (rc == 0 && virt->size > 0)
		rc = version_reader(fs, req, virt, &reader, &err);
	if (rc == 0 && reader)
		rc = evfs_file_read_sealed(fs, req, reader, data, size,
					   (uint64_t)offset, &len, &err);
	evfs_reader_put(reader);
	if (rc == 0)
		(void)fuse_reply_buf(req, data, len);
	else
		evfs_reply(req, rc, &err);
}

void evfs_virtual_open(fuse_req_t req, const struct evfs_node *node,
		       struct fuse_file_info *fi)
{
	if (is_dir(node->virt))
		evfs_reply(req, EVFS_EISDIR, NULL);
	else if ((fi->flags & O_ACCMODE) != O_RDONLY)
		evfs_reply(req, EVFS_EREADONLY, NULL);
	else
		(void)fuse_reply_open(req, fi);
}

void evfs_virtual_read(fuse_req_t req, struct evfs_node *node, size_t size,
		       off_t offset)
{
	const struct evfs_buf *text = &node->virt->text;
	size_t at = (size_t)offset, len;

	if (node->virt->type == V_VERSION) {
		read_version(req, node->virt, size, offset);
		return;
	}
	if (at > text->len)
		at = text->len;
	len = text->len - at;
	(void)fuse_reply_buf(req, (const char *)text->data + at,
			     len < size ? len : size);
}

/* ---- directories ---- */

/* Answers an opendir with a handle, or with an error; the pin of node goes
 * along. */
static void open_reply(fuse_req_t req, struct evfs_node *node,
		       struct opened *opened, int rc,
		       const struct evfs_err *err, struct fuse_file_info *fi)
{
	struct evfs_fs *fs = evfs_fs_of(req);

	if (rc == 0) {
		fi->fh = (uintptr_t)opened | 1;
		if (fuse_reply_open(req, fi) == 0)
			return;
	} else {
		evfs_reply(req, rc, err);
	}
	if (opened)
		opened_free(fs, opened);
	else
		evfs_node_unpin(fs, node);
}

void evfs_virtual_opendir(fuse_req_t req, struct evfs_node *node,
			  struct fuse_file_info *fi)
{
	struct evfs_fs *fs = evfs_fs_of(req);
	struct opened *opened = evfs_calloc(1, sizeof(*opened));
	struct search search = { .opened = opened, .meta = fs->meta };
	struct evfs_err err = { 0 };
	int rc;

	if (opened)
		opened->node = node;
	if (!opened)
		rc = EVFS_ENOMEM;
	else if (!is_dir(node->virt))
		rc = EVFS_ENOTDIR;
	else
		rc = walk(fs, node->virt, &search, &err);
	open_reply(req, node, opened, rc, &err, fi);
}

void evfs_virtual_readdir(fuse_req_t req, struct evfs_node *node, size_t size,
			  off_t offset, struct fuse_file_info *fi, bool plus)
{
	struct opened *opened = opened_of(fi);
	evfs_cleanup_free char *buf = evfs_realloc_array(NULL, size, 1);
	size_t used = 0;

	(void)node;
	if (!buf) {
		evfs_reply(req, EVFS_ENOMEM, NULL);
		return;
	}
	for (size_t i = (size_t)offset; i < opened->n_items + 2; i++) {
		const struct item *item = i < 2 ? NULL : &opened->items[i - 2];
		const char *name = i == 0 ? "." : i == 1 ? ".." : item->name;
		struct fuse_entry_param param;
		size_t len;

		memset(&param, 0, sizeof(param));
		param.attr.st_mode = !item || item->is_dir ? S_IFDIR : S_IFREG;
		param.attr.st_ino = UINT64_MAX - i; /* not known yet */
		len = plus ? fuse_add_direntry_plus(req, buf + used,
						    size - used, name, &param,
						    (off_t)i + 1) :
			     fuse_add_direntry(req, buf + used, size - used,
					       name, &param.attr,
					       (off_t)i + 1);
		if (len > size - used)
			break;
		used += len;
	}
	(void)fuse_reply_buf(req, buf, used);
}

void evfs_virtual_releasedir(fuse_req_t req, struct evfs_node *node,
			     struct fuse_file_info *fi)
{
	(void)node;
	opened_free(evfs_fs_of(req), opened_of(fi));
	evfs_reply(req, 0, NULL);
}
