/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Bytes through SSH channels: out-queues, input, windows.
 *
 * Out. send() only queues; the loop writes, so that nothing of the owner's
 * runs inside one of his own calls. libssh encrypts into a buffer of its own
 * and gives that to the socket when poll(2) says so. We write the next slice
 * only when that buffer is empty, control before bulk; so a control message
 * waits behind one slice of bulk, what is unsent in the kernel (kept small, see
 * evfs_addr_tune_socket) and what is in flight.
 *
 * In. libssh calls on_data with what it has decrypted. Normally it goes to the
 * owner at once. While he holds the stream, or has not been told of the
 * connection yet, it stays in libssh's buffer, which counts against the
 * channel's window: the other side stops when that is full. Later it is taken
 * from there with ssh_channel_read_timeout().
 *
 * Windows. libssh raises a channel's window to 1.28 MB when half is used: 6
 * MB/s at 100 ms. But a read for more bytes than the window raises it to that
 * number; so we read for WINDOW bytes, from time to time, which returns what
 * there is (usually nothing) without blocking. */
#include "net/ssh_priv.h"

#include <assert.h>
#include <string.h>

#include "base/mem.h"

#define BLOCK_MIN ((size_t)16 << 10)
#define SLICE ((size_t)64 << 10)  /* written at a time */
#define ROUND ((size_t)1 << 20)   /* written for one connection in a round */
#define DELIVER ((size_t)256 << 10) /* of waiting input, at a time */
#define WINDOW_CONTROL ((uint32_t)4 << 20)
#define WINDOW_BULK ((uint32_t)16 << 20)

static uint32_t window_of(const struct evfs_ssh_stream *stream)
{
	return stream->which == EVFS_CHANNEL_BULK ? WINDOW_BULK
						  : WINDOW_CONTROL;
}

struct evfs_ssh_stream *evfs_ssh_stream_of(struct evfs_ssh_conn *conn,
					   enum evfs_channel channel)
{
	for (size_t i = 0; i < conn->n_streams; i++) {
		struct evfs_ssh_stream *stream = &conn->streams[i];

		if (stream->ready && stream->which == channel)
			return stream;
	}
	return NULL;
}

static void drop_queue(struct evfs_ssh_stream *stream)
{
	while (stream->head) {
		struct evfs_ssh_block *next = stream->head->next;

		evfs_free(stream->head);
		stream->head = next;
	}
	stream->tail = NULL;
	stream->queued = 0;
}

void evfs_ssh_stream_fini(struct evfs_ssh_stream *stream)
{
	drop_queue(stream);
	evfs_free(stream->rest);
	stream->rest = NULL;
}

/* ---- out ---- */

bool evfs_ssh_stream_put(struct evfs_ssh_stream *stream, const void *data,
			 size_t len)
{
	struct evfs_ssh_block *block = stream->tail;

	if (stream->queued > 0 && stream->queued + len > EVFS_SSH_QUEUE_MAX) {
		stream->full = true;
		return false;
	}
	if (!block || block->cap - block->end < len) {
		size_t cap = len > BLOCK_MIN ? len : BLOCK_MIN;

		/* Not zeroed: it is written to before it is read. */
		block = evfs_realloc_array(NULL, 1, sizeof(*block) + cap);
		if (!block) {
			/* Not "full": nothing would ever make room. */
			evfs_ssh_fail(stream->conn, EVFS_ENOMEM, "%s",
				      evfs_err_text(EVFS_ENOMEM));
			return true;
		}
		*block = (struct evfs_ssh_block){ .cap = cap };
		/* An empty block that was kept must not stay in front. */
		if (stream->queued == 0)
			drop_queue(stream);
		if (stream->tail)
			stream->tail->next = block;
		else
			stream->head = block;
		stream->tail = block;
	}
	memcpy(block->data + block->end, data, len);
	block->end += len;
	stream->queued += len;
	return true;
}

static void consume_queue(struct evfs_ssh_stream *stream, size_t n)
{
	struct evfs_ssh_block *block = stream->head;

	assert(n <= block->end - block->start && n <= stream->queued);
	block->start += n;
	stream->queued -= n;
	if (block->start < block->end)
		return;
	if (!block->next && block->cap == BLOCK_MIN) {
		block->start = 0; /* kept for the next message */
		block->end = 0;
		return;
	}
	stream->head = block->next;
	if (!stream->head)
		stream->tail = NULL;
	evfs_free(block);
}

/* The stream to write from next; NULL = none can. */
static struct evfs_ssh_stream *pick(struct evfs_ssh_conn *conn)
{
	for (int which = 0; which < EVFS_CHANNELS; which++) {
		struct evfs_ssh_stream *stream =
			evfs_ssh_stream_of(conn, (enum evfs_channel)which);

		if (stream && stream->queued > 0 &&
		    ssh_channel_window_size(stream->channel) > 0)
			return stream;
	}
	return NULL;
}

void evfs_ssh_output(struct evfs_ssh_conn *conn)
{
	size_t done = 0;

	while (conn->state == EVFS_SSH_OPEN ||
	       conn->state == EVFS_SSH_FLUSHING) {
		struct evfs_ssh_stream *stream;
		struct evfs_ssh_block *block;
		size_t n;
		int rc;

		if (ssh_get_status(conn->session) & SSH_WRITE_PENDING)
			return; /* POLLOUT brings us back */
		stream = pick(conn);
		if (!stream)
			return;
		if (done >= ROUND) {
			conn->again = true;
			return;
		}
		block = stream->head;
		n = block->end - block->start;
		if (n > SLICE)
			n = SLICE;
		if (n > ssh_channel_window_size(stream->channel))
			n = ssh_channel_window_size(stream->channel);
		rc = ssh_channel_write(stream->channel,
				       block->data + block->start,
				       (uint32_t)n);
		if (rc < 0) {
			evfs_ssh_fail(conn, EVFS_ECLOSED, "send: %s",
				      evfs_ssh_words(conn));
			return;
		}
		if (rc == 0)
			return; /* new keys are being agreed on */
		consume_queue(stream, (size_t)rc);
		done += (size_t)rc;
	}
}

void evfs_ssh_tell_writable(struct evfs_ssh_conn *conn)
{
	for (size_t i = 0; i < conn->n_streams; i++) {
		struct evfs_ssh_stream *stream = &conn->streams[i];

		if (conn->state != EVFS_SSH_OPEN || conn->silent)
			return;
		if (!stream->full || stream->queued > EVFS_SSH_QUEUE_MAX / 2)
			continue;
		stream->full = false;
		if (conn->kind == EVFS_SSH_MEMBER)
			conn->ssh->events->writable(conn->ssh->events->ctx,
						    conn->id, stream->which);
	}
}

/* ---- in ---- */

/* A JOIN connection collects one frame. */
static void take_frame(struct evfs_ssh_conn *conn, const void *data,
		       size_t len)
{
	const struct evfs_ssh_events *events = conn->ssh->events;
	size_t max = conn->outgoing ? EVFS_SSH_JOIN_REPLY_MAX
				    : EVFS_SSH_JOIN_REQUEST_MAX;
	size_t size;

	if (conn->framed || conn->frame.len + len > max + 4) {
		evfs_ssh_fail(conn, EVFS_EPROTO,
			      "%s sent more than one message",
			      conn->address);
		return;
	}
	if (evfs_buf_put(&conn->frame, data, len)) {
		evfs_ssh_fail(conn, EVFS_ENOMEM, "%s",
			      evfs_err_text(EVFS_ENOMEM));
		return;
	}
	if (conn->frame.len < 4)
		return;
	size = evfs_be32_read(conn->frame.data);
	if (size > max) {
		evfs_ssh_fail(conn, EVFS_EPROTO,
			      "%s sent a message that is too long",
			      conn->address);
		return;
	}
	if (conn->frame.len < size + 4)
		return;
	conn->framed = true;
	events->frame(events->ctx, conn->id,
		      conn->outgoing ? NULL : conn->secret, conn->address,
		      conn->frame.data + 4, size);
}

static void deliver(struct evfs_ssh_stream *stream, const void *data,
		    size_t len)
{
	struct evfs_ssh_conn *conn = stream->conn;
	const struct evfs_ssh_events *events = conn->ssh->events;

	stream->consumed += len;
	if (conn->state != EVFS_SSH_OPEN || conn->silent)
		return; /* being closed: dropped */
	if (conn->kind == EVFS_SSH_JOIN)
		take_frame(conn, data, len);
	else
		events->received(events->ctx, conn->id, stream->which, data,
				 len);
}

/* libssh has input. Returns how much of it is taken; the rest stays. */
static int on_data(ssh_session session, ssh_channel channel, void *data,
		   uint32_t len, int is_stderr, void *ctx)
{
	struct evfs_ssh_stream *stream = ctx;
	struct evfs_ssh_conn *conn = stream->conn;

	(void)session;
	(void)channel;
	if (is_stderr) {
		evfs_ssh_fail(conn, EVFS_EPROTO,
			      "%s sent extended channel data", conn->address);
		return (int)len;
	}
	if (conn->state > EVFS_SSH_OPEN)
		return (int)len;
	if (conn->state < EVFS_SSH_OPEN || stream->hold || stream->rest) {
		stream->waiting = true;
		/* libssh lets a sender overrun the window. */
		if (len > WINDOW_BULK + SLICE)
			evfs_ssh_fail(conn, EVFS_EPROTO,
				      "%s sends without minding the window",
				      conn->address);
		return 0;
	}
	deliver(stream, data, len);
	return (int)len;
}

/* Gives the owner what was taken from libssh, until he holds it. */
static void deliver_rest(struct evfs_ssh_stream *stream)
{
	while (stream->rest && !stream->hold) {
		size_t n = stream->rest_end - stream->rest_start;

		if (n > DELIVER)
			n = DELIVER;
		stream->rest_start += n;
		deliver(stream, stream->rest + stream->rest_start - n, n);
		if (stream->rest_start == stream->rest_end) {
			evfs_free(stream->rest);
			stream->rest = NULL;
		}
	}
}

/* Raises the window, and takes what waits in libssh. */
static void take_waiting(struct evfs_ssh_stream *stream)
{
	struct evfs_ssh_conn *conn = stream->conn;
	uint32_t window = window_of(stream);
	uint8_t *rest;
	int rc;

	/* Not zeroed, so only pages that are written to exist. Input arrives
	 * in here, or, when none waits, goes through on_data as ever. */
	rest = evfs_realloc_array(NULL, 1, window);
	if (!rest) {
		evfs_ssh_fail(conn, EVFS_ENOMEM, "%s",
			      evfs_err_text(EVFS_ENOMEM));
		return;
	}
	stream->waiting = false;
	stream->consumed = 0;
	rc = ssh_channel_read_timeout(stream->channel, rest, window, 0, 0);
	if (rc > 0) {
		stream->rest = rest;
		stream->rest_start = 0;
		stream->rest_end = (size_t)rc;
		return;
	}
	evfs_free(rest);
	if (rc == SSH_ERROR)
		evfs_ssh_fail(conn, EVFS_ECLOSED, "receive: %s",
			      evfs_ssh_words(conn));
}

void evfs_ssh_input(struct evfs_ssh_conn *conn)
{
	for (size_t i = 0; i < conn->n_streams; i++) {
		struct evfs_ssh_stream *stream = &conn->streams[i];

		if (conn->state != EVFS_SSH_OPEN || !stream->ready)
			continue;
		deliver_rest(stream);
		if (stream->hold || stream->rest ||
		    conn->state != EVFS_SSH_OPEN)
			continue;
		if (!stream->waiting &&
		    stream->consumed < window_of(stream) / 4)
			continue;
		take_waiting(stream);
		if (stream->rest)
			conn->again = true;
	}
}

/* ---- ends ---- */

static void on_end(ssh_session session, ssh_channel channel, void *ctx)
{
	struct evfs_ssh_stream *stream = ctx;

	(void)session;
	(void)channel;
	evfs_ssh_fail(stream->conn, EVFS_ECLOSED, "closed by the other side");
}

void evfs_ssh_stream_attach(struct evfs_ssh_stream *stream)
{
	struct ssh_channel_callbacks_struct *callbacks = &stream->callbacks;

	ssh_callbacks_init(callbacks);
	callbacks->userdata = stream;
	callbacks->channel_data_function = on_data;
	callbacks->channel_eof_function = on_end;
	callbacks->channel_close_function = on_end;
	ssh_set_channel_callbacks(stream->channel, callbacks);
}
