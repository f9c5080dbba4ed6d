/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Reading and writing the kernel's device. */
#include "fs/session_io.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <sys/uio.h>
#include <unistd.h>

#include "fs/fs_priv.h"

/* The first answer of all is that to INIT. */
static void amend_init(struct evfs_fs *fs, const struct iovec *iov, int n)
{
	const struct fuse_out_header *out = iov[0].iov_base;
	struct fuse_init_out *init = n == 2 ? iov[1].iov_base : NULL;

	if (atomic_exchange(&fs->init_answered, true) || !init ||
	    out->error != 0 || iov[1].iov_len < FUSE_COMPAT_22_INIT_OUT_SIZE)
		return;
	init->flags |= FUSE_HANDLE_KILLPRIV_V2;
}

static ssize_t writev_cb(int fd, struct iovec *iov, int n, void *userdata)
{
	struct evfs_fs *fs = userdata;

	if (!atomic_load_explicit(&fs->init_answered, memory_order_relaxed))
		amend_init(fs, iov, n);
	return writev(fd, iov, n);
}

static ssize_t read_cb(int fd, void *buf, size_t len, void *userdata)
{
	(void)userdata;
	return read(fd, buf, len);
}

static ssize_t splice_send_cb(int fd_in, off_t *off_in, int fd_out,
			      off_t *off_out, size_t len, unsigned flags,
			      void *userdata)
{
	(void)userdata;
	return splice(fd_in, off_in, fd_out, off_out, len, flags);
}

int evfs_session_io(struct evfs_fs *fs, struct evfs_err *err)
{
	static const struct fuse_custom_io io = {
		.writev = writev_cb,
		.read = read_cb,
		.splice_send = splice_send_cb,
	};
	int rc = fuse_session_custom_io(fs->se, &io, fuse_session_fd(fs->se));

	if (rc != 0)
		return evfs_err_sys(err, -rc, "libfuse");
	return 0;
}
