/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Attributes of nodes. */
#include "fs/attr.h"

#include <string.h>
#include <sys/sysmacros.h>

#include "fs/file.h"
#include "meta/facts.h"

#define BLOCK_SIZE 4096
#define BLOCKS_UNIT 512 /* of st_blocks, see stat(2) */

static uint64_t mix(uint64_t x)
{
	/* splitmix64's finaliser (Steele et al. 2014). */
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
	x = (x ^ x >> 27) * 0x94d049bb133111ebu;
	return x ^ x >> 31;
}

static uint64_t number_of(evfs_dot dot, uint64_t salt)
{
	uint64_t x = mix(dot.actor.node + salt);

	x = mix(x ^ dot.actor.epoch);
	x = mix(x ^ dot.counter);
	return x < 16 ? x + 16 : x; /* 0 is none, 1 the root */
}

uint64_t evfs_attr_ino(evfs_ino ino)
{
	return evfs_ino_is_root(ino) ? FUSE_ROOT_ID : number_of(ino, 0);
}

uint64_t evfs_attr_entry_ino(const struct evfs_entry *entry)
{
	if (entry->kind == EVFS_KIND_DIR)
		return evfs_attr_ino(entry->dir.members[0]);
	/* Salted: an object made with content has its version's dot. */
	if (entry->is_sibling && entry->members[0].n_dots > 0)
		return number_of(entry->members[0].dots[0], 1);
	if (entry->is_sibling)
		return number_of(entry->members[0].ino, 1);
	return evfs_attr_ino(entry->members[0].ino);
}

static mode_t type_of(enum evfs_kind kind)
{
	switch (kind) {
	case EVFS_KIND_FILE: return S_IFREG;
	case EVFS_KIND_DIR: return S_IFDIR;
	case EVFS_KIND_SYMLINK: return S_IFLNK;
	case EVFS_KIND_FIFO: return S_IFIFO;
	case EVFS_KIND_SOCKET: return S_IFSOCK;
	case EVFS_KIND_CHARDEV: return S_IFCHR;
	case EVFS_KIND_BLOCKDEV: return S_IFBLK;
	}
	return S_IFREG;
}

static blkcnt_t blocks_of(uint64_t bytes)
{
	return (blkcnt_t)((bytes + BLOCKS_UNIT - 1) / BLOCKS_UNIT);
}

static void set_content(struct evfs_fs *fs, const evfs_hash *content,
			uint64_t size, struct stat *ret)
{
	uint64_t holes = 0;

	/* Unknown is not worth an error: then it is shown without holes. */
	if (evfs_content_holes(fs->content, content, size, &holes, NULL) != 0 ||
	    holes > size)
		holes = 0;
	ret->st_size = (off_t)size;
	ret->st_blocks = blocks_of(size - holes);
}

static void fill(struct evfs_fs *fs, const struct evfs_attributes *attr,
		 enum evfs_kind kind, struct stat *ret)
{
	*ret = (struct stat){
		.st_mode = type_of(kind) | (attr->mode & 07777),
		.st_nlink = attr->nlink,
		.st_uid = attr->uid,
		.st_gid = attr->gid,
		.st_rdev = attr->rdev,
		.st_blksize = BLOCK_SIZE,
		.st_atim = { attr->atime_s, attr->atime_ns },
		.st_mtim = { attr->mtime_s, attr->mtime_ns },
		.st_ctim = { attr->ctime_s, attr->ctime_ns },
	};
	set_content(fs, &attr->content, attr->size, ret);
	if (kind == EVFS_KIND_SYMLINK)
		ret->st_mode = S_IFLNK | 0777;
}

/* Bytes that are not sealed yet count. */
static void add_unsealed(struct evfs_fs *fs, const struct evfs_node *node,
			 struct stat *ret)
{
	const struct evfs_file *file = node ? node->file : NULL;

	if (!file)
		return;
	(void)pthread_mutex_lock(&fs->dirty_lock);
	if (file->dirty) {
		ret->st_size = (off_t)file->size;
		ret->st_blocks = blocks_of(file->room);
		ret->st_mtim.tv_sec = file->mtime_s;
		ret->st_mtim.tv_nsec = file->mtime_ns;
		if (file->mtime_s > ret->st_ctim.tv_sec)
			ret->st_ctim = ret->st_mtim;
	}
	(void)pthread_mutex_unlock(&fs->dirty_lock);
}

/* Until somebody sets it, the root belongs to whom the store belongs to. */
static void root_defaults(struct evfs_fs *fs, struct stat *ret)
{
	const struct evfs_object *root;

	if (evfs_facts_get(fs->facts, EVFS_INO_ROOT, &root, NULL) != 0)
		root = NULL;
	if (!root ||
	    !evfs_object_find_attr(root, EVFS_ATTR_OWNER, NULL, 0)) {
		ret->st_uid = fs->root_uid;
		ret->st_gid = fs->root_gid;
	}
	if (!root || !evfs_object_find_attr(root, EVFS_ATTR_MODE, NULL, 0))
		ret->st_mode = S_IFDIR | 0755;
}

int evfs_attr_entry(struct evfs_fs *fs, struct evfs_node *node,
		    const struct evfs_entry *entry, struct stat *ret,
		    struct evfs_err *err)
{
	struct evfs_attributes attr;
	int rc;

	rc = evfs_view_attr(fs->meta, entry, &attr, err);
	if (rc != 0)
		return rc;
	fill(fs, &attr, entry->kind, ret);
	ret->st_ino = evfs_attr_entry_ino(entry);
	if (entry->kind == EVFS_KIND_DIR &&
	    evfs_ino_is_root(entry->dir.members[0]))
		root_defaults(fs, ret);
	add_unsealed(fs, node, ret);
	return 0;
}

static int attr_dir(struct evfs_fs *fs, struct evfs_node *node,
		    struct stat *ret, struct evfs_err *err)
{
	struct evfs_attributes attr;
	struct evfs_dir dir = { 0 };
	evfs_ino face = node->key;
	bool gone;
	int rc;

	rc = evfs_view_dir(fs->meta, node->key, &dir, err);
	gone = rc == EVFS_ENOTFOUND;
	if (rc != 0 && !gone)
		return rc;
	if (!gone && dir.n > 0)
		face = dir.members[0];
	evfs_dir_fini(&dir);
	rc = evfs_view_attr_of(fs->meta, face, NULL, &attr, err);
	if (rc != 0)
		return rc;
	fill(fs, &attr, EVFS_KIND_DIR, ret);
	ret->st_ino = evfs_attr_ino(face);
	if (gone)
		ret->st_nlink = 0;
	if (evfs_ino_is_root(node->key))
		root_defaults(fs, ret);
	return 0;
}

/* A version that is not among the facts any more, replaced or removed: an open
 * handle goes on showing it, as it remembers it. */
static void show_remembered(struct evfs_fs *fs,
			    const struct evfs_handle *handle, struct stat *ret)
{
	const struct evfs_object *object = NULL;

	if (!handle->has_shown || handle->n_base == 0 ||
	    evfs_facts_get(fs->facts, handle->ino, &object, NULL) != 0 ||
	    !object ||
	    evfs_object_find_version(object,
				     handle->base[handle->n_base - 1]))
		return;
	set_content(fs, &handle->content, handle->size, ret);
	ret->st_mtim.tv_sec = handle->mtime_s;
	ret->st_mtim.tv_nsec = handle->mtime_ns;
}

int evfs_attr_node(struct evfs_fs *fs, struct evfs_node *node,
		   struct stat *ret, struct evfs_err *err)
{
	const struct evfs_handle *handle;
	struct evfs_attributes attr;
	const evfs_dot *dot = NULL;
	int rc;

	if (node->type == EVFS_NODE_DIR)
		return attr_dir(fs, node, ret, err);
	if (!node->file) {
		rc = evfs_view_attr_of(fs->meta, node->key, NULL, &attr, err);
		if (rc != 0)
			return rc;
		fill(fs, &attr, node->kind, ret);
		ret->st_ino = evfs_attr_ino(node->key);
		return 0;
	}
	handle = &node->file->handle;
	if (handle->n_base > 0)
		dot = &handle->base[handle->n_base - 1];
	rc = evfs_view_attr_of(fs->meta, handle->ino, dot, &attr, err);
	if (rc != 0)
		return rc;
	fill(fs, &attr, EVFS_KIND_FILE, ret);
	ret->st_ino = !handle->sibling ? evfs_attr_ino(handle->ino) :
		      number_of(dot ? *dot : handle->ino, 1);
	if (handle->orphan)
		ret->st_nlink = 0;
	show_remembered(fs, handle, ret);
	add_unsealed(fs, node, ret);
	return 0;
}

/* By the link that it was found by, or, where that is gone, by another. */
static int find_other(struct evfs_fs *fs, struct evfs_node *node,
		      evfs_ino *ret_dir, struct evfs_entry *ret,
		      struct evfs_err *err)
{
	const struct evfs_object *object = NULL;
	int rc = evfs_view_find(fs->meta, node->key, &node->link, NULL, 0,
				ret_dir, ret, err);

	for (size_t i = 0; rc == EVFS_ENOTFOUND; i++) {
		evfs_stamp link;
		int rc_get = evfs_facts_get(fs->facts, node->key, &object,
					    err);

		if (rc_get != 0)
			return rc_get;
		if (!object || i == object->n_links)
			break;
		if (object->links[i].alive.n == 0)
			continue;
		link = object->links[i].id;
		rc = evfs_view_find(fs->meta, node->key, &link, NULL, 0,
				    ret_dir, ret, err);
		if (rc == 0)
			node->link = link;
	}
	return rc;
}

int evfs_attr_find(struct evfs_fs *fs, struct evfs_node *node,
		   evfs_ino *ret_dir, struct evfs_entry *ret,
		   struct evfs_err *err)
{
	const struct evfs_handle *handle;

	if (!node->file)
		return find_other(fs, node, ret_dir, ret, err);
	handle = &node->file->handle;
	return evfs_view_find(fs->meta, handle->ino, &handle->link,
			      handle->base, handle->n_base, ret_dir, ret, err);
}

static int set_dir(struct evfs_fs *fs, struct evfs_node *node,
		   const struct evfs_attr *attr, struct evfs_err *err)
{
	char name[EVFS_NAME_MAX + 1];
	struct evfs_dir parent = { 0 };
	struct evfs_entry entry = { 0 };
	int rc;

	if (evfs_ino_is_root(node->key))
		return evfs_tree_set_attr_of(fs->meta, node->key, attr, err);
	rc = evfs_view_parent(fs->meta, node->key, &parent, name, err);
	if (rc == 0)
		rc = evfs_view_dir(fs->meta, node->key, &entry.dir, err);
	if (rc == 0) {
		entry.kind = EVFS_KIND_DIR;
		(void)strcpy(entry.name, name);
		entry.name_len = strlen(name);
		rc = evfs_tree_set_attr(fs->meta, parent.members[0], &entry,
					attr, err);
	} else if (rc == EVFS_ENOTFOUND) {
		rc = evfs_tree_set_attr_of(fs->meta, node->key, attr, err);
	}
	evfs_dir_fini(&parent);
	evfs_entry_fini(&entry);
	return rc;
}

/* Nothing shows what this node has open, but the object lives on with another
 * version, to which these attributes do not belong. (The kernel tells times of
 * its own accord, also of a sibling that was just removed.) */
static bool is_of_others(struct evfs_fs *fs, const struct evfs_node *node,
			 const struct evfs_attr *attr)
{
	const struct evfs_object *object = NULL;

	if (!node->file ||
	    (!node->file->handle.orphan && attr->kind != EVFS_ATTR_TIMES))
		return false;
	return evfs_facts_get(fs->facts, node->file->handle.ino, &object,
			      NULL) == 0 &&
	       object && evfs_object_is_live(object);
}

static bool same_value(const struct evfs_attr *a, const struct evfs_attr *b)
{
	switch (a->kind) {
	case EVFS_ATTR_MODE: /* set-ID bits tell, too, what was seen */
		return a->value.mode == b->value.mode &&
		       (a->value.mode & (S_ISUID | S_ISGID)) == 0;
	case EVFS_ATTR_OWNER:
		return a->value.owner.uid == b->value.owner.uid &&
		       a->value.owner.gid == b->value.owner.gid;
	default:
		return false;
	}
}

/* A new file that has no version yet is known to nobody else: there is no
 * other value that the register would have to win against. Copying programs
 * set again what a new file has. */
static bool has_already(struct evfs_fs *fs, const struct evfs_node *node,
			const struct evfs_attr *attr)
{
	const struct evfs_object *object = NULL;
	const struct evfs_attr *now;

	if (!node->file || node->file->handle.n_base > 0 ||
	    node->file->handle.orphan ||
	    evfs_facts_get(fs->facts, node->file->handle.ino, &object,
			   NULL) != 0 ||
	    !object || object->n_versions > 0)
		return false;
	now = evfs_object_find_attr(object, attr->kind, attr->key,
				    attr->key_len);
	return now && same_value(now, attr);
}

int evfs_attr_set(struct evfs_fs *fs, struct evfs_node *node,
		  const struct evfs_attr *attr, struct evfs_err *err)
{
	struct evfs_entry entry = { 0 };
	evfs_ino dir;
	int rc;

	if (node->type == EVFS_NODE_DIR)
		return set_dir(fs, node, attr, err);
	if (has_already(fs, node, attr))
		return 0;
	rc = evfs_attr_find(fs, node, &dir, &entry, err);
	if (rc == 0)
		rc = evfs_tree_set_attr(fs->meta, dir, &entry, attr, err);
	else if (rc == EVFS_ENOTFOUND && is_of_others(fs, node, attr))
		rc = 0;
	else if (rc == EVFS_ENOTFOUND)
		rc = evfs_tree_set_attr_of(fs->meta,
					   evfs_attr_object(fs, node), attr,
					   err);
	evfs_entry_fini(&entry);
	return rc;
}

evfs_ino evfs_attr_object(struct evfs_fs *fs, struct evfs_node *node)
{
	struct evfs_dir dir = { 0 };
	evfs_ino ino = node->key;

	if (node->file)
		return node->file->handle.ino;
	if (node->type != EVFS_NODE_DIR ||
	    evfs_view_dir(fs->meta, node->key, &dir, NULL) != 0)
		return ino;
	if (dir.n > 0)
		ino = dir.members[0];
	evfs_dir_fini(&dir);
	return ino;
}

int evfs_attr_get_xattr(struct evfs_fs *fs, evfs_ino ino, const char *name,
			const void **ret, size_t *ret_len,
			struct evfs_err *err)
{
	const struct evfs_object *object;
	const struct evfs_attr *attr = NULL;
	int rc;

	rc = evfs_facts_get(fs->facts, ino, &object, err);
	if (rc != 0)
		return rc;
	if (object)
		attr = evfs_object_find_attr(object, EVFS_ATTR_XATTR, name,
					     strlen(name));
	if (!attr || attr->value.xattr.removed)
		return evfs_err_set(err, EVFS_ENODATA, "no such attribute");
	*ret = attr->value.xattr.data;
	*ret_len = attr->value.xattr.len;
	return 0;
}
