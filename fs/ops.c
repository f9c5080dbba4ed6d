/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The table of operations, and what is agreed with the kernel at the start.
 * Locks (flock, fcntl) have no entry: the kernel keeps them, as locks are
 * local to a replica. */
#include "fs/ops.h"

#include "fs/privs.h"

#define BACKGROUND_MAX 64
#define CONGESTION 48
#define EPOCH_MINOR 44 /* protocol of Linux 6.16 */

static void op_init(void *userdata, struct fuse_conn_info *conn)
{
	const unsigned wanted =
		FUSE_CAP_WRITEBACK_CACHE | FUSE_CAP_SPLICE_WRITE |
		FUSE_CAP_SPLICE_MOVE | FUSE_CAP_PARALLEL_DIROPS |
		FUSE_CAP_READDIRPLUS | FUSE_CAP_READDIRPLUS_AUTO |
		FUSE_CAP_ASYNC_READ | FUSE_CAP_ASYNC_DIO |
		FUSE_CAP_POSIX_ACL | FUSE_CAP_DONT_MASK |
		FUSE_CAP_CACHE_SYMLINKS | FUSE_CAP_AUTO_INVAL_DATA;
	struct evfs_fs *fs = userdata;

	/* Older ones do not know NOTIFY_INC_EPOCH (fs/notify.c). */
	fs->nodes.table.notes = conn->proto_major == 7 &&
				conn->proto_minor < EPOCH_MINOR;
	conn->want |= wanted & conn->capable;
	/* Opened without a message, a file would not be cut. */
	fs->may_open_quietly = fs->closes &&
			       (conn->capable & FUSE_CAP_NO_OPEN_SUPPORT);
	if (fs->may_open_quietly)
		conn->want &= ~(unsigned)FUSE_CAP_ATOMIC_O_TRUNC;
	else
		conn->want |= FUSE_CAP_ATOMIC_O_TRUNC & conn->capable;
	/* The first version leaves us without a word about who wrote. */
	conn->want &= ~(unsigned)FUSE_CAP_HANDLE_KILLPRIV;
	evfs_privs_agree(fs, conn);
	conn->max_background = BACKGROUND_MAX;
	conn->congestion_threshold = CONGESTION;
	conn->time_gran = 1;
}

const struct fuse_lowlevel_ops evfs_ops = {
	.init = op_init,
	.lookup = evfs_op_lookup,
	.forget = evfs_op_forget,
	.forget_multi = evfs_op_forget_multi,
	.getattr = evfs_op_getattr,
	.setattr = evfs_op_setattr,
	.readlink = evfs_op_readlink,
	.mknod = evfs_op_mknod,
	.mkdir = evfs_op_mkdir,
	.unlink = evfs_op_unlink,
	.rmdir = evfs_op_rmdir,
	.symlink = evfs_op_symlink,
	.rename = evfs_op_rename,
	.link = evfs_op_link,
	.open = evfs_op_open,
	.create = evfs_op_create,
	.read = evfs_op_read,
	.write = evfs_op_write,
	.flush = evfs_op_flush,
	.release = evfs_op_release,
	.fsync = evfs_op_fsync,
	.opendir = evfs_op_opendir,
	.readdir = evfs_op_readdir,
	.readdirplus = evfs_op_readdirplus,
	.releasedir = evfs_op_releasedir,
	.fsyncdir = evfs_op_fsyncdir,
	.statfs = evfs_op_statfs,
	.setxattr = evfs_op_setxattr,
	.getxattr = evfs_op_getxattr,
	.listxattr = evfs_op_listxattr,
	.removexattr = evfs_op_removexattr,
	.fallocate = evfs_op_fallocate,
	.copy_file_range = evfs_op_copy_file_range,
	.lseek = evfs_op_lseek,
};
