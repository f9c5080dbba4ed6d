/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Listing directories. An open directory goes on by name: each request lists
 * what comes after the last name that was handed out, so entries that come and
 * go meanwhile disturb nobody, and no request holds the meta lock for more
 * than one reply's worth. The kernel's offsets are hashes of names; the names
 * handed out are remembered, for those who seek; and names that vanish while a
 * directory is open, for the kernel shares what it caches of a listing: it may
 * go on from a name that it had through another handle. */
#include <string.h>
#include <sys/stat.h>

#include "base/hash.h"
#include "base/mem.h"
#include "fs/attr.h"
#include "fs/evfs_dir.h"
#include "fs/ops.h"
#include "fs/reply.h"

#define COOKIE_DOT 1
#define COOKIE_DOTDOT 2
#define GONE_MAX 65536 /* names that vanished, of one open directory */

struct handed {
	uint64_t cookie;
	const char *name; /* in the stream's arena; no NUL */
	size_t len;
};

/* An open directory. */
struct evfs_stream {
	struct evfs_node *node;    /* pinned */
	pthread_mutex_t lock;      /* all below */
	struct handed *handed;     /* owned: in order */
	size_t n, cap;
	struct evfs_arena names;   /* of handed */
	struct evfs_stream *next, *prev; /* in the list; its lock, as below */
	struct handed *gone;       /* owned: vanished since it was opened */
	size_t n_gone, gone_cap;
	struct evfs_arena gone_names; /* of gone */
};

static struct evfs_stream *stream_of(const struct fuse_file_info *fi)
{
	return (struct evfs_stream *)(uintptr_t)fi->fh; /* NOLINT */
}

/* Never one of the two above, never negative. */
static uint64_t cookie_of(const char *name, size_t len)
{
	uint64_t x = 0xcbf29ce484222325u; /* FNV-1a, then mixed */

	for (size_t i = 0; i < len; i++)
		x = (x ^ (uint8_t)name[i]) * 0x100000001b3u;
	x = (x ^ x >> 32) * 0xbf58476d1ce4e5b9u;
	x = (x ^ x >> 29) >> 1;
	return x < 16 ? x + 16 : x;
}

/* Is it the only one of its directory? */
static bool stream_link(struct evfs_fs *fs, struct evfs_stream *stream)
{
	bool alone = true;

	(void)pthread_mutex_lock(&fs->streams_lock);
	for (const struct evfs_stream *other = fs->streams; other && alone;
	     other = other->next)
		alone = other->node->id != stream->node->id;
	stream->next = fs->streams;
	if (stream->next)
		stream->next->prev = stream;
	fs->streams = stream;
	(void)pthread_mutex_unlock(&fs->streams_lock);
	return alone;
}

static void stream_unlink(struct evfs_fs *fs, struct evfs_stream *stream)
{
	(void)pthread_mutex_lock(&fs->streams_lock);
	if (stream->prev)
		stream->prev->next = stream->next;
	else
		fs->streams = stream->next;
	if (stream->next)
		stream->next->prev = stream->prev;
	(void)pthread_mutex_unlock(&fs->streams_lock);
}

static void stream_free(struct evfs_fs *fs, struct evfs_stream *stream)
{
	stream_unlink(fs, stream);
	evfs_arena_fini(&stream->gone_names);
	evfs_free(stream->gone);
	evfs_node_unpin(fs, stream->node);
	(void)pthread_mutex_destroy(&stream->lock);
	evfs_arena_fini(&stream->names);
	evfs_free(stream->handed);
	evfs_free(stream);
}

void evfs_op_opendir(fuse_req_t req, fuse_ino_t ino,
		     struct fuse_file_info *fi)
{
	struct evfs_fs *fs = evfs_fs_of(req);
	struct evfs_node *node = evfs_node_pin(fs, ino);
	struct evfs_stream *stream;

	if (!node) {
		evfs_reply_stale(req);
		return;
	}
	if (node->type == EVFS_NODE_VIRTUAL) {
		evfs_virtual_opendir(req, node, fi);
		return; /* the pin went along */
	}
	stream = evfs_calloc(1, sizeof(*stream));
	if (node->type != EVFS_NODE_DIR || !stream ||
	    pthread_mutex_init(&stream->lock, NULL) != 0) {
		evfs_free(stream);
		evfs_node_unpin(fs, node);
		evfs_reply(req, stream ? EVFS_ENOTDIR : EVFS_ENOMEM, NULL);
		return;
	}
	stream->node = node;
	/* In the middle of a directory the kernel would go on in what another
	 * handle has put into its cache meanwhile, from before this one was
	 * opened: entries would be missing. */
	fi->cache_readdir = stream_link(fs, stream);
	fi->fh = (uintptr_t)stream;
	fi->keep_cache = 1;
	if (fuse_reply_open(req, fi) != 0)
		stream_free(fs, stream);
}

void evfs_op_releasedir(fuse_req_t req, fuse_ino_t ino,
			struct fuse_file_info *fi)
{
	struct evfs_fs *fs = evfs_fs_of(req);

	if (fi->fh & 1) {
		struct evfs_node *node = evfs_node_pin(fs, ino);

		evfs_virtual_releasedir(req, node, fi);
		evfs_node_unpin(fs, node);
		return;
	}
	stream_free(fs, stream_of(fi));
	evfs_reply(req, 0, NULL);
}

void evfs_op_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync,
		      struct fuse_file_info *fi)
{
	struct evfs_fs *fs = evfs_fs_of(req);
	struct evfs_err err = { 0 };
	int rc = 0;

	(void)ino;
	(void)datasync;
	if (!(fi->fh & 1))
		rc = evfs_meta_sync(fs->meta, &err);
	if (rc == 0 && !(fi->fh & 1))
		rc = evfs_quorum_sync(fs, req, NULL, &err);
	evfs_reply(req, rc, &err);
}

/* Without memory a reader that went on from there finds the end; nor is more
 * remembered than one who holds a directory for years can cost. */
static void note_gone(struct evfs_stream *stream, const char *name, size_t len)
{
	void *items = stream->gone;
	char *copy;

	if (stream->n_gone >= GONE_MAX) {
		evfs_arena_fini(&stream->gone_names);
		stream->n_gone = 0;
	}
	copy = evfs_arena_memdup(&stream->gone_names, name, len);
	if (!copy || evfs_grow(&items, stream->n_gone, &stream->gone_cap,
			       sizeof(*stream->gone)) != 0)
		return;
	stream->gone = items;
	stream->gone[stream->n_gone++] =
		(struct handed){ cookie_of(name, len), copy, len };
}

void evfs_op_name_gone(struct evfs_fs *fs, uint64_t dir, const char *name,
		       size_t len)
{
	(void)pthread_mutex_lock(&fs->streams_lock);
	for (struct evfs_stream *stream = fs->streams; stream;
	     stream = stream->next)
		if (stream->node->id == dir)
			note_gone(stream, name, len);
	(void)pthread_mutex_unlock(&fs->streams_lock);
}

/* ---- one request ---- */

struct listing {
	fuse_req_t req;
	struct evfs_fs *fs;
	struct evfs_stream *stream;
	bool plus;
	char *buf;         /* the reply */
	size_t size, used;
	uint64_t find;     /* seeking: the cookie whose name is looked for */
	char after[EVFS_NAME_MAX + 1]; /* where to go on */
	size_t after_len;
	bool found;        /* `after` is it */
	uint64_t forget[8]; /* nodes to be taken back */
	size_t n_forget;
	int rc;            /* EVFS_ENOMEM */
};

static void note_handed(struct listing *list, uint64_t cookie,
			const struct evfs_entry *entry)
{
	struct evfs_stream *stream = list->stream;
	void *items = stream->handed;
	char *name;

	name = evfs_arena_memdup(&stream->names, entry->name,
				 entry->name_len);
	if (!name || evfs_grow(&items, stream->n, &stream->cap,
			       sizeof(*stream->handed)) != 0) {
		list->rc = EVFS_ENOMEM;
		return;
	}
	stream->handed = items;
	stream->handed[stream->n++] = (struct handed){ cookie, name,
						       entry->name_len };
}

/* Does one more entry of this name fit? */
static bool has_room(const struct listing *list, const char *name)
{
	size_t need = list->plus ?
		fuse_add_direntry_plus(list->req, NULL, 0, name, NULL, 0) :
		fuse_add_direntry(list->req, NULL, 0, name, NULL, 0);

	return need <= list->size - list->used;
}

static void add(struct listing *list, const char *name,
		const struct fuse_entry_param *param, uint64_t cookie)
{
	char *at = list->buf + list->used;
	size_t left = list->size - list->used;

	list->used += list->plus ?
		fuse_add_direntry_plus(list->req, at, left, name, param,
				       (off_t)cookie) :
		fuse_add_direntry(list->req, at, left, name, &param->attr,
				  (off_t)cookie);
}

static mode_t dtype_of(enum evfs_kind kind)
{
	static const mode_t types[] = {
		[EVFS_KIND_FILE] = S_IFREG, [EVFS_KIND_DIR] = S_IFDIR,
		[EVFS_KIND_SYMLINK] = S_IFLNK, [EVFS_KIND_FIFO] = S_IFIFO,
		[EVFS_KIND_SOCKET] = S_IFSOCK, [EVFS_KIND_CHARDEV] = S_IFCHR,
		[EVFS_KIND_BLOCKDEV] = S_IFBLK,
	};

	return types[kind];
}

/* Meta locked. */
static int list_cb(void *arg, struct evfs_entry *entry)
{
	struct listing *list = arg;
	struct fuse_entry_param param;
	uint64_t cookie, forget = 0;

	if (!has_room(list, entry->name))
		return 1;
	cookie = cookie_of(entry->name, entry->name_len);
	note_handed(list, cookie, entry);
	if (list->rc != 0)
		return 1;
	memset(&param, 0, sizeof(param));
	if (list->plus &&
	    evfs_op_entry(list->fs, list->stream->node->key, entry, &param,
			  NULL, &forget, NULL) != 0)
		memset(&param, 0, sizeof(param)); /* by name only */
	if (forget != 0) {
		if (list->n_forget == 8)
			return 1;
		list->forget[list->n_forget++] = forget;
	}
	if (param.ino == 0) {
		param.attr.st_ino = evfs_attr_entry_ino(entry);
		param.attr.st_mode = dtype_of(entry->kind);
	}
	add(list, entry->name, &param, cookie);
	return 0;
}

static int find_cb(void *arg, struct evfs_entry *entry)
{
	struct listing *list = arg;

	if (cookie_of(entry->name, entry->name_len) != list->find)
		return 0;
	memcpy(list->after, entry->name, entry->name_len + 1);
	list->after_len = entry->name_len;
	list->found = true;
	return 1;
}

/* Finds the name of an offset, the latest first: mostly it is the last one that
 * was handed out. */
static bool find_handed(struct listing *list, const struct handed *items,
			size_t n, uint64_t offset)
{
	for (size_t i = n; i > 0; i--) {
		if (items[i - 1].cookie != offset)
			continue;
		memcpy(list->after, items[i - 1].name, items[i - 1].len);
		list->after_len = items[i - 1].len;
		list->after[list->after_len] = '\0';
		return true;
	}
	return false;
}

static bool find_gone(struct listing *list, uint64_t offset)
{
	const struct evfs_stream *stream = list->stream;
	bool found;

	(void)pthread_mutex_lock(&list->fs->streams_lock);
	found = find_handed(list, stream->gone, stream->n_gone, offset);
	(void)pthread_mutex_unlock(&list->fs->streams_lock);
	return found;
}

/* Meta and stream locked. */
static int find_offset(struct listing *list, uint64_t offset,
		       struct evfs_err *err)
{
	struct evfs_stream *stream = list->stream;

	list->found = true;
	list->after_len = 0;
	if (offset <= COOKIE_DOTDOT ||
	    find_handed(list, stream->handed, stream->n, offset) ||
	    find_gone(list, offset))
		return 0;
	/* Another handle's, and still there. */
	list->found = false;
	list->find = offset;
	return evfs_view_list(list->fs->meta, stream->node->key, NULL, 0,
			      find_cb, list, err);
}

static void add_dots(struct listing *list, uint64_t offset)
{
	struct fuse_entry_param param;

	memset(&param, 0, sizeof(param));
	param.attr.st_mode = S_IFDIR;
	param.attr.st_ino = evfs_attr_ino(list->stream->node->key);
	if (offset < COOKIE_DOT && has_room(list, "."))
		add(list, ".", &param, COOKIE_DOT);
	if (offset < COOKIE_DOTDOT && has_room(list, ".."))
		add(list, "..", &param, COOKIE_DOTDOT);
}

static int list_locked(struct listing *list, uint64_t offset,
		       struct evfs_err *err)
{
	struct evfs_stream *stream = list->stream;
	int rc;

	if (offset == 0) { /* from the start: what was seen is history */
		stream->n = 0;
		evfs_arena_fini(&stream->names);
		stream->names = (struct evfs_arena){ 0 };
	}
	rc = find_offset(list, offset, err);
	if (rc != 0 || !list->found)
		return rc;
	add_dots(list, offset);
	rc = evfs_view_list(list->fs->meta, stream->node->key,
			    list->after_len > 0 ? list->after : NULL,
			    list->after_len, list_cb, list, err);
	if (rc == EVFS_ENOTFOUND) /* removed while it is open: empty */
		rc = 0;
	return rc != 0 ? rc : list->rc;
}

static void read_dir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
		     struct fuse_file_info *fi, bool plus)
{
	struct evfs_fs *fs = evfs_fs_of(req);
	struct listing list = { .req = req, .fs = fs, .plus = plus,
				.size = size };
	struct evfs_err err = { 0 };
	evfs_cleanup_free char *buf = NULL;
	int rc;

	if (fi->fh & 1) {
		struct evfs_node *node = evfs_node_pin(fs, ino);

		evfs_virtual_readdir(req, node, size, offset, fi, plus);
		evfs_node_unpin(fs, node);
		return;
	}
	list.stream = stream_of(fi);
	list.buf = buf = evfs_realloc_array(NULL, size, 1);
	if (!buf) {
		evfs_reply(req, EVFS_ENOMEM, NULL);
		return;
	}
	(void)pthread_mutex_lock(&list.stream->lock);
	evfs_meta_lock(fs->meta);
	rc = list_locked(&list, (uint64_t)offset, &err);
	evfs_meta_unlock(fs->meta);
	(void)pthread_mutex_unlock(&list.stream->lock);
	for (size_t i = 0; i < list.n_forget; i++)
		evfs_node_forget(fs, list.forget[i], 1);
	if (rc == 0)
		(void)fuse_reply_buf(req, buf, list.used);
	else
		evfs_reply(req, rc, &err);
}

void evfs_op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
		     struct fuse_file_info *fi)
{
	read_dir(req, ino, size, offset, fi, false);
}

void evfs_op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size,
			 off_t offset, struct fuse_file_info *fi)
{
	read_dir(req, ino, size, offset, fi, true);
}
