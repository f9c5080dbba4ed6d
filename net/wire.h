/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The wire: frames of be32 length and one protobuf Envelope (net/wire.proto).
 * Everything that a peer sends is decoded and validated here before anybody
 * looks at it. Pure; no shared state. */
#ifndef EVFS_NET_WIRE_H
#define EVFS_NET_WIRE_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/hash.h"
#include "meta/context.h"
#include "net/wire.pb-c.h"

#define EVFS_WIRE_HEADER 4 /* bytes of the length before a message */

/* Memory that decoding one message may take: a frame of tiny fields must not
 * cost a multiple of its length without bound. */
#define EVFS_WIRE_DECODE_MAX (48u << 20)

/* Limits of single messages, checked on decoding. */
#define EVFS_WIRE_OBJECTS_MAX 65536	    /* in one Batch frame */
#define EVFS_WIRE_INLINE_MAX (64u << 10)    /* bytes of one inline content */
#define EVFS_WIRE_HASHES_MAX 1024	    /* in WantChunks, NoChunk */
#define EVFS_WIRE_AUDIT_PARTS_MAX 256	    /* of each kind in one Audit */
#define EVFS_WIRE_AUDIT_LEAVES_MAX 16384    /* in all lists of one Audit */
#define EVFS_WIRE_LEAF_BYTES 4		    /* of the hash of an object */
#define EVFS_WIRE_SUM_BYTES 8		    /* of the sum of a node */
#define EVFS_WIRE_REASON_MAX 255	    /* bytes of a Bye's reason */
#define EVFS_WIRE_MANIFEST_MAX (512u << 20) /* bytes of a whole manifest */

/* Gossip: a row is node, heartbeat, be32 age of the state. */
#define EVFS_GOSSIP_ROW_BYTES 20
#define EVFS_GOSSIP_ROWS_MAX 256   /* in one message */
#define EVFS_GOSSIP_STATES_MAX 32  /* in one message */
#define EVFS_GOSSIP_CONTEXT_BYTES 16

/* Why a session ended (Bye.code). */
enum evfs_bye {
	EVFS_BYE_VERSION = 1,	/* no common protocol version */
	EVFS_BYE_VOLUME = 2,	/* another volume */
	EVFS_BYE_AMNESIA = 3,	/* a replica has lost own changes */
	EVFS_BYE_DUPLICATE = 4, /* another session is kept instead */
	EVFS_BYE_TWINS = 5,	/* two daemons of one replica */
	EVFS_BYE_REMOVED = 6,	/* removed member, or unknown */
	EVFS_BYE_PAUSED = 7,	/* paused by its user */
	EVFS_BYE_PROTOCOL = 8,	/* a malformed or unexpected message */
	EVFS_BYE_SHUTDOWN = 9,	/* the daemon ends */
	EVFS_BYE_FAILURE = 10,	/* it could not take the data in (disk full) */
	EVFS_BYE_FULL = 11	/* it has sessions enough; try another member */
};

/* Appends one frame. EVFS_ENOMEM, EVFS_ELIMIT; nothing is appended then. */
int evfs_wire_encode(const Evfs__Wire__Envelope *envelope,
		     struct evfs_buf *out) EVFS_MUST_USE;

/* Looks at received bytes: 1: a frame is whole, its message is *ret_len bytes
 * from data + EVFS_WIRE_HEADER; 0: more bytes are needed; EVFS_EPROTO: an
 * impossible length. */
int evfs_wire_peek(const uint8_t *data, size_t len, size_t *ret_len,
		   struct evfs_err *err) EVFS_MUST_USE;

/* One message (without the length), decoded and validated; evfs_wire_free.
 * EVFS_EPROTO with the reason. A message of a kind that is not known decodes
 * with kind_case EVFS__WIRE__ENVELOPE__KIND__NOT_SET. */
int evfs_wire_decode(const void *data, size_t len, Evfs__Wire__Envelope **ret,
		     struct evfs_err *err) EVFS_MUST_USE;
void evfs_wire_free(Evfs__Wire__Envelope *envelope); /* NULL is fine */

/* Contexts as bytes. put appends; get replaces *ret. */
int evfs_wire_put_context(const struct evfs_context *context,
			  struct evfs_buf *out) EVFS_MUST_USE;
int evfs_wire_get_context(const ProtobufCBinaryData *bytes,
			  struct evfs_context *ret,
			  struct evfs_err *err) EVFS_MUST_USE;

/* The i-th hash of a validated field. */
evfs_hash evfs_wire_hash(const ProtobufCBinaryData *bytes, size_t i);

/* Borrowed bytes as a protobuf field. */
static inline ProtobufCBinaryData evfs_wire_bytes(const void *data, size_t len)
{
	/* protobuf-c has no const; packing does not write */
	return (ProtobufCBinaryData){ .len = len,
				      .data = (uint8_t *)(uintptr_t)data };
}

#endif
