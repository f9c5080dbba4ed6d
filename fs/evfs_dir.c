/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The generated tree below /.evfs.
 *
 *   status.json          one JSON object, made when it is opened
 *   conflicts/PATH       one text for each open conflict; in its name '/' is
 *                        "%2F" and '%' is "%25"
 *   history/PATH/...     a directory for every name that history knows; in
 *                        that of a file, one file for each version, named
 *                        TIME-ID: 20261122T140211Z-1a2b3c4d
 *
 * fi->fh is a struct opened with its lowest bit set, which tells it from the
 * handles of real files. */
#include "fs/evfs_dir.h"

#include <fcntl.h>
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
};

/* A name in a generated directory. */
struct item {
	char *name; /* owned */
	bool is_dir;
};

/* An open file or directory. */
struct opened {
	struct evfs_node *node;     /* pinned */
	struct evfs_buf text;       /* generated files */
	struct evfs_reader *reader; /* VERSION, where it has bytes */
	struct item *items;         /* directories; owned */
	size_t n_items, cap_items;
};

static void opened_free(struct evfs_fs *fs, struct opened *opened)
{
	for (size_t i = 0; i < opened->n_items; i++)
		evfs_free(opened->items[i].name);
	evfs_free(opened->items);
	evfs_buf_fini(&opened->text);
	evfs_reader_put(opened->reader);
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
	evfs_free(virt->path);
	evfs_free(virt);
}

bool evfs_virtual_is_same(const struct evfs_virtual *a,
			  const struct evfs_virtual *b)
{
	return a->type == b->type && strcmp(a->path, b->path) == 0 &&
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
	if (!virt->path) {
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

/* ---- lookup, attributes ---- */

static void fill(struct evfs_fs *fs, const struct evfs_node *node,
		 struct stat *ret)
{
	const struct evfs_virtual *virt = node->virt;

	memset(ret, 0, sizeof(*ret));
	ret->st_ino = node->id << 8 | 0xfe; /* of no object in particular */
	ret->st_nlink = 1;
	ret->st_uid = fs->root_uid;
	ret->st_gid = fs->root_gid;
	ret->st_mode = is_dir(virt) ? S_IFDIR | 0555 : S_IFREG | 0444;
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
	if (rc == 0) {
		rc = evfs_node_of_virtual(fs, virt, &node, &err);
		if (rc != 0)
			evfs_virtual_free(virt);
	}
	if (rc != 0) {
		evfs_reply(req, rc, &err);
		return;
	}
	memset(&param, 0, sizeof(param));
	param.ino = node->id;
	fill(fs, node, &param.attr);
	evfs_op_reply_entry(req, &param);
}

void evfs_virtual_getattr(fuse_req_t req, struct evfs_node *node)
{
	struct stat attr;

	fill(evfs_fs_of(req), node, &attr);
	(void)fuse_reply_attr(req, &attr, 0);
}

/* ---- files ---- */

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

static int make_text(struct evfs_fs *fs, struct evfs_node *node,
		     struct evfs_buf *text, struct evfs_err *err)
{
	struct search search = { .text = text, .meta = fs->meta,
				 .path = node->virt->path };
	int rc;

	if (node->virt->type == V_STATUS)
		return fs->status_json ?
			fs->status_json(fs->status_ctx, text) :
			EVFS_ENOTFOUND;
	evfs_meta_lock(fs->meta);
	rc = evfs_view_conflicts(fs->meta, why_cb, &search, err);
	evfs_meta_unlock(fs->meta);
	if (rc == 0 && !search.found)
		rc = EVFS_ENOTFOUND; /* settled meanwhile */
	return rc != 0 ? rc : search.rc;
}

static int open_version(struct evfs_fs *fs, fuse_req_t req,
			struct opened *opened, struct evfs_err *err)
{
	const struct evfs_virtual *virt = opened->node->virt;
	struct evfs_content_reader *reader;
	int rc;

	if (virt->size == 0)
		return 0;
	rc = evfs_wait_open(fs, req, &virt->content, virt->size, &reader, err);
	if (rc != 0)
		return rc;
	opened->reader = evfs_reader_new(reader, &virt->content, virt->size);
	return opened->reader ? 0 : EVFS_ENOMEM;
}

/* Answers an open with a handle, or with an error; the pin of node goes
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

void evfs_virtual_open(fuse_req_t req, struct evfs_node *node,
		       struct fuse_file_info *fi)
{
	struct evfs_fs *fs = evfs_fs_of(req);
	struct opened *opened = evfs_calloc(1, sizeof(*opened));
	struct evfs_err err = { 0 };
	int rc = opened ? 0 : EVFS_ENOMEM;

	if (opened)
		opened->node = node;
	if (rc == 0 && is_dir(node->virt))
		rc = EVFS_EISDIR;
	else if (rc == 0 && (fi->flags & O_ACCMODE) != O_RDONLY)
		rc = EVFS_EREADONLY;
	else if (rc == 0 && node->virt->type == V_VERSION)
		rc = open_version(fs, req, opened, &err);
	else if (rc == 0)
		rc = make_text(fs, node, &opened->text, &err);
	/* Their size is known once they are read. */
	fi->direct_io = node->virt->type != V_VERSION;
	open_reply(req, node, opened, rc, &err, fi);
}

void evfs_virtual_read(fuse_req_t req, struct evfs_node *node, size_t size,
		       off_t offset, struct fuse_file_info *fi)
{
	struct opened *opened = opened_of(fi);
	struct evfs_fs *fs = evfs_fs_of(req);
	evfs_cleanup_free char *data = NULL;
	struct evfs_err err = { 0 };
	size_t at = (size_t)offset, len = 0;
	int rc = 0;

	(void)node;
	if (opened->reader) {
		data = evfs_realloc_array(NULL, size, 1);
		rc = data ? evfs_file_read_sealed(fs, req, opened->reader,
						  data, size, (uint64_t)offset,
						  &len, &err) : EVFS_ENOMEM;
		if (rc == 0)
			(void)fuse_reply_buf(req, data, len);
		else
			evfs_reply(req, rc, &err);
		return;
	}
	if (at > opened->text.len)
		at = opened->text.len;
	len = opened->text.len - at;
	(void)fuse_reply_buf(req, (const char *)opened->text.data + at,
			     len < size ? len : size);
}

void evfs_virtual_release(fuse_req_t req, struct evfs_node *node,
			  struct fuse_file_info *fi)
{
	(void)node;
	opened_free(evfs_fs_of(req), opened_of(fi));
	evfs_reply(req, 0, NULL);
}

/* ---- directories ---- */

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
	evfs_virtual_release(req, node, fi);
}
