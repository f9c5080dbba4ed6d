/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Making files, directories, symlinks and devices. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/mem.h"
#include "fs/acl.h"
#include "fs/attr.h"
#include "fs/file.h"
#include "fs/ops.h"
#include "fs/reply.h"
#include "fs/ripple.h"
#include "fs/writer.h"
#include "meta/facts.h"

/* One making. */
struct making {
	struct evfs_fs *fs;
	struct evfs_node *parent;  /* directory, pinned */
	const char *name;
	size_t len;                /* of name */
	struct evfs_new what;
	struct evfs_content_ref content; /* mknod of a file: empty */
	struct evfs_attr attrs[2]; /* inherited ACLs */
	uint8_t *acl[2];           /* owned: their values */
	struct fuse_entry_param param; /* the answer */
	struct evfs_node *node;    /* what was made; one reference is the
	                            * kernel's */
	uint64_t forget;           /* to be taken back */
	bool opens;                /* a file that is about to be written */
	bool handle;               /* and answered with one: pinned for it */
	bool looks_again;          /* where the name is taken: the kernel thought
	                            * it free, but something from elsewhere has
	                            * it since */
};

static int inherit_acl(struct making *make, const void *acl, size_t len,
		       struct evfs_err *err)
{
	static const char *const keys[2] = { EVFS_ACL_ACCESS,
					     EVFS_ACL_DEFAULT };
	bool minimal;

	for (size_t i = 0; i < 2; i++) {
		make->acl[i] = evfs_memdup(acl, len);
		if (!make->acl[i])
			return evfs_err_set(err, EVFS_ENOMEM, "no memory");
	}
	evfs_acl_inherit(make->acl[0], len, &make->what.mode, &minimal);
	for (size_t i = 0; i < 2; i++) {
		struct evfs_attr *attr = &make->attrs[make->what.n_attrs];

		if (i == 0 ? minimal : make->what.kind != EVFS_KIND_DIR)
			continue;
		attr->kind = EVFS_ATTR_XATTR;
		attr->key = (const uint8_t *)keys[i];
		attr->key_len = strlen(keys[i]);
		attr->value.xattr.data = make->acl[i];
		attr->value.xattr.len = len;
		make->what.n_attrs++;
	}
	make->what.attrs = make->attrs;
	return 0;
}

/* Meta locked. What a new object takes from its directory: the group of one
 * with the set-group-ID bit, a default ACL instead of the umask. */
static int inherit(struct making *make, mode_t umask, struct evfs_err *err)
{
	struct evfs_fs *fs = make->fs;
	evfs_ino face = evfs_attr_object(fs, make->parent);
	const struct evfs_object *dir;
	const struct evfs_attr *attr = NULL;
	const void *acl;
	size_t len;
	int rc;

	rc = evfs_facts_get(fs->facts, face, &dir, err);
	if (rc != 0)
		return rc;
	if (dir)
		attr = evfs_object_find_attr(dir, EVFS_ATTR_MODE, NULL, 0);
	if (attr && (attr->value.mode & S_ISGID)) {
		attr = evfs_object_find_attr(dir, EVFS_ATTR_OWNER, NULL, 0);
		if (attr)
			make->what.gid = attr->value.owner.gid;
		if (make->what.kind == EVFS_KIND_DIR)
			make->what.mode |= S_ISGID;
	}
	if (make->what.kind == EVFS_KIND_SYMLINK)
		return 0;
	rc = evfs_attr_get_xattr(fs, face, EVFS_ACL_DEFAULT, &acl, &len, NULL);
	if (rc == 0 && evfs_acl_is_valid(acl, len))
		return inherit_acl(make, acl, len, err);
	make->what.mode &= ~(uint32_t)umask;
	return 0;
}

/* Meta locked. What was made, as an entry, without asking the view again; a
 * file with content has a version that only the view knows. */
static int made_entry(struct making *make, evfs_ino ino,
		      const evfs_stamp *link, struct evfs_err *err)
{
	struct evfs_fs *fs = make->fs;
	struct evfs_member_link member = { .ino = ino, .link = *link };
	struct evfs_entry entry = { 0 };
	int rc;

	if (make->what.content) {
		rc = evfs_view_lookup(fs->meta, make->parent->key, make->name,
				      make->len, &entry, err);
		if (rc == 0)
			rc = evfs_op_entry(fs, make->parent->key, &entry,
					   &make->param, &make->node,
					   &make->forget, err);
		evfs_entry_fini(&entry);
		return rc;
	}
	entry.kind = make->what.kind;
	memcpy(entry.name, make->name, make->len);
	entry.name_len = make->len;
	if (entry.kind == EVFS_KIND_DIR) {
		entry.dir.members = &ino;
		entry.dir.n = 1;
	} else {
		entry.members = &member;
		entry.n_members = 1;
	}
	return evfs_op_entry(fs, make->parent->key, &entry, &make->param,
			     &make->node, &make->forget, err);
}

/* Meta locked. Until it is sealed others cannot have it, though nothing is
 * written yet. What the kernel is told now it goes on showing: where nothing
 * will be, the version must have the same time. */
static void begin_writing(struct making *make)
{
	const struct timespec *time = &make->param.attr.st_mtim;

	evfs_file_mark_dirty(make->fs, make->node, 0);
	(void)evfs_file_set_mtime(make->fs, make->node, time->tv_sec,
				  (uint32_t)time->tv_nsec);
}

static int make_locked(struct making *make, mode_t umask,
		       struct evfs_err *err)
{
	struct evfs_fs *fs = make->fs;
	struct evfs_ripple ripple = { 0 };
	evfs_stamp link;
	evfs_ino ino;
	int rc;

	rc = inherit(make, umask, err);
	if (rc != 0)
		return rc;
	evfs_ripple_before(fs, make->parent->key, NULL, 0, &ripple);
	rc = evfs_tree_create(fs->meta, make->parent->key, make->name,
			      make->len, &make->what, &ino, &link, err);
	if (rc != 0)
		return rc;
	evfs_ripple_after(fs, make->parent->key, make->name, make->len,
			  &ripple);
	rc = made_entry(make, ino, &link, err);
	if (rc == 0 && make->opens)
		begin_writing(make);
	if (rc == 0 && make->handle)
		evfs_node_pin_more(fs, make->node);
	return rc;
}

/* The whole of it; on failure the request is answered. */
static int make_node(fuse_req_t req, struct making *make, fuse_ino_t parent,
		     mode_t mode)
{
	const struct fuse_ctx *ctx = fuse_req_ctx(req);
	struct evfs_fs *fs = evfs_fs_of(req);
	struct evfs_err err = { 0 };
	int rc;

	rc = evfs_op_dir(req, parent, make->name, &make->parent);
	if (rc != 0)
		return rc;
	make->fs = fs;
	make->len = strlen(make->name);
	make->what.mode = mode & 07777;
	make->what.uid = ctx->uid;
	make->what.gid = ctx->gid;
	evfs_meta_lock(fs->meta);
	rc = make_locked(make, ctx->umask, &err);
	evfs_meta_unlock(fs->meta);
	evfs_node_unpin(fs, make->parent);
	evfs_free(make->acl[0]);
	evfs_free(make->acl[1]);
	if (make->forget != 0)
		evfs_node_forget(fs, make->forget, 1);
	if (rc == EVFS_EEXISTS && make->looks_again)
		evfs_reply_stale(req);
	else if (rc != 0)
		evfs_reply(req, rc, &err);
	return rc;
}

static void make_and_reply(fuse_req_t req, struct making *make,
			   fuse_ino_t parent, mode_t mode)
{
	if (make_node(req, make, parent, mode) == 0)
		evfs_op_reply_entry(req, &make->param);
}

void evfs_op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name,
		   mode_t mode)
{
	struct making make = { .name = name, .what = {
		.kind = EVFS_KIND_DIR } };

	make_and_reply(req, &make, parent, mode);
}

void evfs_op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent,
		     const char *name)
{
	struct making make = { .name = name, .what = {
		.kind = EVFS_KIND_SYMLINK, .target = target,
		.target_len = strlen(target) } };

	if (make.what.target_len > EVFS_TARGET_MAX)
		evfs_reply(req, EVFS_ENAMETOOLONG, NULL);
	else
		make_and_reply(req, &make, parent, 0777);
}

static enum evfs_kind kind_of(mode_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFIFO: return EVFS_KIND_FIFO;
	case S_IFSOCK: return EVFS_KIND_SOCKET;
	case S_IFCHR: return EVFS_KIND_CHARDEV;
	case S_IFBLK: return EVFS_KIND_BLOCKDEV;
	default: return EVFS_KIND_FILE;
	}
}

void evfs_op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name,
		   mode_t mode, dev_t rdev)
{
	struct making make = { .name = name, .what = {
		.kind = kind_of(mode) } };
	struct evfs_fs *fs = evfs_fs_of(req);
	uint64_t now = evfs_fs_wall_ns(fs);

	make.opens = make.what.kind == EVFS_KIND_FILE &&
		     atomic_load(&fs->quiet_opens);
	make.looks_again = make.opens; /* O_EXCL is not told of */
	if (make.what.kind == EVFS_KIND_FILE && !make.opens) {
		/* Nobody writes through it: complete as it is. */
		make.content.content = EVFS_CONTENT_EMPTY;
		make.content.mtime_s = (int64_t)(now / 1000000000);
		make.content.mtime_ns = (uint32_t)(now % 1000000000);
		make.what.content = &make.content;
	}
	if (make.what.kind == EVFS_KIND_CHARDEV ||
	    make.what.kind == EVFS_KIND_BLOCKDEV)
		make.what.rdev = (uint32_t)rdev;
	make_and_reply(req, &make, parent, mode);
}

void evfs_op_create(fuse_req_t req, fuse_ino_t parent, const char *name,
		    mode_t mode, struct fuse_file_info *fi)
{
	struct evfs_fs *fs = evfs_fs_of(req);
	struct making make = { .name = name,
			       .what = { .kind = EVFS_KIND_FILE },
			       .opens = true,
			       .handle = true,
			       .looks_again = !(fi->flags & O_EXCL) };
	bool writes = (fi->flags & O_ACCMODE) != O_RDONLY;

	if (atomic_load(&fs->quiet_opens)) {
		evfs_reply_errno(req, ENOSYS); /* MKNOD from now on */
		return;
	}
	if (make_node(req, &make, parent, mode) != 0)
		return;
	evfs_writer_opened(fs, make.node, writes);
	fi->fh = EVFS_FH_REAL;
	fi->keep_cache = 1;
	if (fuse_reply_create(req, &make.param, fi) != 0) {
		evfs_writer_done(fs, make.node, writes);
		evfs_node_forget(fs, make.node->id, 1);
		evfs_node_unpin(fs, make.node);
	}
}
