/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Joining: the inviter's side (net/join.c), and what both sides share. */
#ifndef EVFS_NET_JOIN_H
#define EVFS_NET_JOIN_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "meta/members.h"
#include "meta/meta.h"
#include "net/join.pb-c.h"

/* Answers the request of a joiner who proved `secret`, from IP address
 * `source`: uses the invitation up and adds the member, durably, or says why
 * not. The frame to send is appended to reply (nothing: out of memory). True:
 * there is a new member. Takes the meta lock itself. */
bool evfs_join_answer(struct evfs_meta *meta, const char *secret,
		      const char *source, const void *data, size_t len,
		      struct evfs_buf *reply);

/* ---- what both sides share ---- */

/* May a replica be called that? */
bool evfs_join_is_name(const char *name);
/* A record from the wire, checked: EVFS_EPROTO. */
int evfs_join_take_member(const Evfs__Join__Member *from,
			  struct evfs_member *ret, struct evfs_err *err)
	EVFS_MUST_USE;
/* A record for the wire; it borrows the texts of `from`. */
void evfs_join_give_member(struct evfs_member *from, Evfs__Join__Member *ret);
/* Appends be32 length and the message; 0 or EVFS_ENOMEM. */
int evfs_join_put_frame(struct evfs_buf *out, const ProtobufCMessage *message)
	EVFS_MUST_USE;

#endif
