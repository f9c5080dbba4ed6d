/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Joining a volume: both sides of one request and one reply.
 *
 * Joiner                                        Inviter
 *   SSH as "join", host key as in the token  -->
 *   password: the secret                     -->  evfs_invite_check
 *   channel "evfs-join", Request             -->  invite used, member added,
 *                                                 in one transaction, synced
 *                                            <--  Reply: name, all members
 *
 * Cut before the reply: the invitation is spent and the inviter has a member
 * that does not know it. The same key may join again with another invitation.
 */
#include "net/join.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "net/engine.h"
#include "net/ssh.h"

/* ---- records ---- */

bool evfs_join_is_name(const char *name)
{
	size_t len = strlen(name);

	return len >= 1 && len <= EVFS_NODE_NAME_MAX &&
	       strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
			    "abcdefghijklmnopqrstuvwxyz0123456789._-") == len;
}

/* From the wire, checked. */
int evfs_join_take_member(const Evfs__Join__Member *from,
			  struct evfs_member *ret, struct evfs_err *err)
{
	struct evfs_member member = { .node = from->node,
				      .stamp_ns = from->stamp_ns,
				      .removed = from->removed };
	char fingerprint[EVFS_SSH_FINGERPRINT_MAX];

	if (!evfs_join_is_name(from->name))
		return evfs_err_set(err, EVFS_EPROTO,
				    "name '%.80s': not 1 to %d of A-Z a-z 0-9 "
				    ". _ -", from->name, EVFS_NODE_NAME_MAX);
	if (strlen(from->key) >= sizeof(member.key) ||
	    strlen(from->address) >= sizeof(member.address))
		return evfs_err_set(err, EVFS_EPROTO,
				    "key or address too long");
	for (const char *at = from->address; *at; at++) {
		if (*at <= ' ' || *at > '~')
			return evfs_err_set(err, EVFS_EPROTO,
					    "strange byte in the address");
	}
	if (evfs_ssh_key_fingerprint(from->key, fingerprint,
				     sizeof(fingerprint), err))
		return evfs_err_wrap(err, EVFS_EPROTO, "key");
	if (from->node != evfs_node_of_key(from->key))
		return evfs_err_set(err, EVFS_EPROTO,
				    "the id is not that of the key");
	snprintf(member.name, sizeof(member.name), "%s", from->name);
	snprintf(member.key, sizeof(member.key), "%s", from->key);
	snprintf(member.address, sizeof(member.address), "%s", from->address);
	*ret = member;
	return 0;
}

/* Borrows the texts. */
void evfs_join_give_member(struct evfs_member *from, Evfs__Join__Member *ret)
{
	evfs__join__member__init(ret);
	ret->node = from->node;
	ret->name = from->name;
	ret->key = from->key;
	ret->address = from->address;
	ret->stamp_ns = from->stamp_ns;
	ret->removed = from->removed;
}

int evfs_join_put_frame(struct evfs_buf *out, const ProtobufCMessage *message)
{
	size_t len = protobuf_c_message_get_packed_size(message);
	uint8_t *at = evfs_buf_reserve(out, 4 + len);

	if (!at)
		return EVFS_ENOMEM;
	evfs_be32_write(at, (uint32_t)len);
	protobuf_c_message_pack(message, at + 4);
	out->len += 4 + len;
	return 0;
}

/* ---- inviter ---- */

static const struct evfs_member *find_name(const struct evfs_member *all,
					   size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++) {
		if (strcmp(all[i].name, name) == 0)
			return &all[i];
	}
	return NULL;
}

/* "nas", taken: "nas-2", "nas-3", ... */
static void assign_name(struct evfs_member *member,
			const struct evfs_member *all, size_t n)
{
	char wanted[EVFS_NODE_NAME_MAX + 1];

	snprintf(wanted, sizeof(wanted), "%s", member->name);
	for (unsigned i = 2; find_name(all, n, member->name); i++) {
		char suffix[16];
		int len = snprintf(suffix, sizeof(suffix), "-%u", i);

		snprintf(member->name, sizeof(member->name), "%.*s%s",
			 EVFS_NODE_NAME_MAX - len, wanted, suffix);
	}
}

/* A listener on all addresses is reached where the joiner came from. */
static void fix_address(struct evfs_member *member, const char *ip)
{
	char host[256], port[8];

	if (!evfs_addr_is_any(member->address) ||
	    evfs_addr_split(member->address, host, port, NULL))
		return;
	snprintf(member->address, sizeof(member->address),
		 strchr(ip, ':') ? "[%s]:%s" : "%s:%s", ip, port);
}

static int check_request(struct evfs_meta *meta,
			 const Evfs__Join__Request *request,
			 struct evfs_member *ret, struct evfs_err *err)
{
	const evfs_hash *volume = evfs_meta_volume(meta);
	int rc;

	if (request->protocol != EVFS_PROTOCOL_VERSION)
		return evfs_err_set(err, EVFS_ENEWER,
				    "the joiner speaks protocol %u, this "
				    "replica %d (use the same version of evfs)",
				    request->protocol, EVFS_PROTOCOL_VERSION);
	if (request->volume.len != EVFS_HASH_SIZE ||
	    memcmp(request->volume.data, volume->b, EVFS_HASH_SIZE) != 0)
		return evfs_err_set(err, EVFS_EFOREIGN,
				    "the token is of another volume than this "
				    "replica's (ask for a new one)");
	if (!request->member)
		return evfs_err_set(err, EVFS_EPROTO, "no member in it");
	rc = evfs_join_take_member(request->member, ret, err);
	if (!rc && ret->removed)
		rc = evfs_err_set(err, EVFS_EPROTO, "a removed member");
	if (!rc && ret->node == evfs_meta_node(meta))
		rc = evfs_err_set(err, EVFS_EEXISTS,
				  "the key is this replica's own: a copied "
				  "store? (make a new one with 'evfsctl join')");
	return rc;
}

/* Adds it; meta locked. member: as it is from now on. */
static int add_member_locked(struct evfs_meta *meta, const char *secret,
			     const char *source, struct evfs_member *member,
			     struct evfs_err *err)
{
	struct evfs_member *all = NULL;
	const struct evfs_member *known = NULL;
	size_t n = 0;
	bool changed;
	int rc = evfs_members_all(meta, &all, &n, err);

	for (size_t i = 0; !rc && i < n; i++) {
		if (all[i].node == member->node)
			known = &all[i];
	}
	if (!rc && known && known->removed)
		rc = evfs_err_set(err, EVFS_EAUTH,
				  "this key was removed from the volume, for "
				  "good (join with a new store)");
	else if (!rc && !known && n >= EVFS_MEMBERS_MAX)
		rc = evfs_err_set(err, EVFS_ELIMIT,
				  "the volume has %d members, that is all it "
				  "can have", EVFS_MEMBERS_MAX);
	if (!rc)
		rc = evfs_invite_use(meta, secret, err);
	if (!rc) {
		if (known)
			memcpy(member->name, known->name,
			       sizeof(member->name));
		else
			assign_name(member, all, n);
		fix_address(member, source);
		member->stamp_ns = evfs_meta_stamp(
			meta, known ? known->stamp_ns : 0);
		rc = evfs_members_join(meta, member, &changed, err);
	}
	evfs_free(all);
	return rc;
}

static int make_durable(struct evfs_meta *meta, struct evfs_err *err)
{
	return evfs_meta_path(meta) ? evfs_meta_sync(meta, err)
				    : evfs_meta_commit(meta, err);
}

/* The reply that tells all members. */
static int put_welcome(struct evfs_meta *meta,
		       const struct evfs_member *member, struct evfs_buf *out,
		       struct evfs_err *err)
{
	Evfs__Join__Reply reply = EVFS__JOIN__REPLY__INIT;
	Evfs__Join__Member *items = NULL, **list = NULL;
	struct evfs_member *all = NULL;
	size_t n = 0;
	int rc;

	evfs_meta_lock(meta);
	rc = evfs_members_all(meta, &all, &n, err);
	evfs_meta_unlock(meta);
	if (rc)
		return rc;
	items = evfs_calloc(n, sizeof(*items));
	list = evfs_calloc(n, sizeof(Evfs__Join__Member *));
	rc = items && list ? 0 : EVFS_ENOMEM;
	for (size_t i = 0; !rc && i < n; i++) {
		evfs_join_give_member(&all[i], &items[i]);
		list[i] = &items[i];
	}
	if (!rc) {
		reply.protocol = EVFS_PROTOCOL_VERSION;
		reply.name = (char *)(uintptr_t)member->name;
		reply.members = list;
		reply.n_members = n;
		rc = evfs_join_put_frame(out, &reply.base);
	}
	evfs_free(list);
	evfs_free(items);
	evfs_free(all);
	if (rc)
		evfs_err_set(err, rc, "%s", evfs_err_text(rc));
	return rc;
}

static int answer(struct evfs_meta *meta, const char *secret,
		  const char *source, const Evfs__Join__Request *request,
		  struct evfs_buf *out, bool *ret_added, struct evfs_err *err)
{
	struct evfs_member member;
	int rc = check_request(meta, request, &member, err);

	if (rc)
		return rc;
	evfs_meta_lock(meta);
	rc = add_member_locked(meta, secret, source, &member, err);
	evfs_meta_unlock(meta);
	if (rc)
		return rc;
	*ret_added = true;
	rc = make_durable(meta, err);
	if (rc)
		return rc;
	return put_welcome(meta, &member, out, err);
}

bool evfs_join_answer(struct evfs_meta *meta, const char *secret,
		      const char *source, const void *data, size_t len,
		      struct evfs_buf *reply)
{
	Evfs__Join__Request *request =
		evfs__join__request__unpack(NULL, len, data);
	struct evfs_err err = { 0 };
	bool added = false;
	int rc;

	if (request) {
		rc = answer(meta, secret, source, request, reply, &added,
			    &err);
		evfs__join__request__free_unpacked(request, NULL);
	} else {
		rc = evfs_err_set(&err, EVFS_EPROTO,
				  "the request cannot be read");
	}
	if (rc) {
		Evfs__Join__Reply refusal = EVFS__JOIN__REPLY__INIT;

		refusal.protocol = EVFS_PROTOCOL_VERSION;
		refusal.error = err.msg;
		/* Out of memory: the joiner sees the connection end. */
		(void)!evfs_join_put_frame(reply, &refusal.base);
	}
	return added;
}
