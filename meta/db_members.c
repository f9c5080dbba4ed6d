/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Members.
 *
 * Records are few (at most EVFS_MEMBERS_MAX) and asked for often (names of
 * siblings), so all are kept in memory, sorted by node, and written through. */
#include "meta/members.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "meta/db.h"
#include "meta/store.h"

/* The text for a node that no record is known of. */
struct member_unknown {
	uint64_t node;                     /* whose */
	char text[EVFS_NODE_NAME_MAX + 1]; /* "?" and digits */
	struct member_unknown *next;
};

struct evfs_member_cache {
	struct evfs_member *all; /* owned; by node; this replica included */
	size_t n;
	size_t cap;
	struct member_unknown *unknown; /* owned */
};

void evfs_members_unload(struct evfs_meta *meta)
{
	struct evfs_member_cache *cache = meta->store->members;

	if (cache == NULL)
		return;
	while (cache->unknown != NULL) {
		struct member_unknown *unknown = cache->unknown;

		cache->unknown = unknown->next;
		evfs_free(unknown);
	}
	evfs_free(cache->all);
	evfs_free(cache);
	meta->store->members = NULL;
}

static size_t members_place(const struct evfs_member_cache *cache,
			    uint64_t node)
{
	size_t low = 0;
	size_t high = cache->n;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (cache->all[middle].node < node)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static struct evfs_member *members_find(struct evfs_meta *meta, uint64_t node)
{
	struct evfs_member_cache *cache = meta->store->members;
	size_t place = members_place(cache, node);

	return place < cache->n && cache->all[place].node == node ?
		       &cache->all[place] :
		       NULL;
}

static bool members_text(char *to, size_t size, const unsigned char *text)
{
	size_t len = text == NULL ? size : strlen((const char *)text);

	if (len >= size)
		return false;
	memcpy(to, text, len + 1);
	return true;
}

static int members_put(struct evfs_member_cache *cache,
		       const struct evfs_member *member, struct evfs_err *err)
{
	size_t place = members_place(cache, member->node);

	if (place < cache->n && cache->all[place].node == member->node) {
		cache->all[place] = *member;
		return 0;
	}
	if (evfs_grow((void **)&cache->all, cache->n, &cache->cap,
		      sizeof(*cache->all)) != 0)
		return evfs_err_set(err, EVFS_ENOMEM, "members: out of memory");
	memmove(&cache->all[place + 1], &cache->all[place],
		(cache->n - place) * sizeof(*cache->all));
	cache->all[place] = *member;
	cache->n++;
	return 0;
}

int evfs_members_load(struct evfs_meta *meta, struct evfs_err *err)
{
	evfs_cleanup_stmt sqlite3_stmt *stmt = NULL;
	struct evfs_member_cache *cache;
	int rc;

	evfs_members_unload(meta);
	cache = evfs_calloc(1, sizeof(*cache));
	if (cache == NULL)
		return evfs_err_set(err, EVFS_ENOMEM, "members: out of memory");
	meta->store->members = cache;
	rc = evfs_db_prepare(meta->db,
			     "SELECT node, name, key, address, stamp, removed,"
			     " paused FROM member",
			     &stmt, err);
	if (rc != 0)
		return rc;
	while ((rc = evfs_db_step(meta->db, stmt, err)) > 0) {
		struct evfs_member member = {
			.node = (uint64_t)sqlite3_column_int64(stmt, 0),
			.stamp_ns = (uint64_t)sqlite3_column_int64(stmt, 4),
			.removed = sqlite3_column_int(stmt, 5) != 0,
			.paused = sqlite3_column_int(stmt, 6) != 0
		};

		if (!members_text(member.name, sizeof(member.name),
				  sqlite3_column_text(stmt, 1)) ||
		    !members_text(member.key, sizeof(member.key),
				  sqlite3_column_text(stmt, 2)) ||
		    !members_text(member.address, sizeof(member.address),
				  sqlite3_column_text(stmt, 3)))
			return evfs_err_set(err, EVFS_ECORRUPT,
					    "database is damaged: a member's "
					    "row");
		rc = members_put(cache, &member, err);
		if (rc != 0)
			return rc;
	}
	return rc;
}

static int members_write(struct evfs_meta *meta,
			 const struct evfs_member *member,
			 struct evfs_err *err)
{
	evfs_cleanup_stmt sqlite3_stmt *stmt = NULL;
	int rc = evfs_meta_begin_write(meta, err);

	if (rc == 0)
		rc = evfs_db_prepare(meta->db,
				     "INSERT OR REPLACE INTO member(node, "
				     "name, key, address, stamp, removed, "
				     "paused) VALUES(?1,?2,?3,?4,?5,?6,?7)",
				     &stmt, err);
	if (rc != 0)
		return rc;
	sqlite3_bind_int64(stmt, 1, (sqlite3_int64)member->node);
	sqlite3_bind_text(stmt, 2, member->name, -1, SQLITE_STATIC);
	sqlite3_bind_text(stmt, 3, member->key, -1, SQLITE_STATIC);
	sqlite3_bind_text(stmt, 4, member->address, -1, SQLITE_STATIC);
	sqlite3_bind_int64(stmt, 5, (sqlite3_int64)member->stamp_ns);
	sqlite3_bind_int(stmt, 6, member->removed);
	sqlite3_bind_int(stmt, 7, member->paused);
	rc = evfs_db_run(meta->db, stmt, err);
	return rc != 0 ? rc : members_put(meta->store->members, member, err);
}

/* ---- reading ---- */

static int members_by_name_cmp(const void *a, const void *b)
{
	const struct evfs_member *x = a;
	const struct evfs_member *y = b;
	int order = strcmp(x->name, y->name);

	if (order != 0)
		return order;
	return x->node < y->node ? -1 : x->node > y->node;
}

static int members_copy(struct evfs_meta *meta, bool self_too,
			bool removed_too, struct evfs_member **ret,
			size_t *ret_n, struct evfs_err *err)
{
	struct evfs_member_cache *cache = meta->store->members;
	struct evfs_member *list = evfs_calloc(cache->n, sizeof(*list));
	size_t n = 0;
	size_t i;

	if (list == NULL)
		return evfs_err_set(err, EVFS_ENOMEM, "members: out of memory");
	for (i = 0; i < cache->n; i++) {
		const struct evfs_member *member = &cache->all[i];

		if (!self_too && member->node == meta->store->actor.node)
			continue;
		if (!removed_too && member->removed)
			continue;
		list[n++] = *member;
	}
	qsort(list, n, sizeof(*list), members_by_name_cmp);
	*ret = list;
	*ret_n = n;
	return 0;
}

int evfs_members_list(struct evfs_meta *meta, bool removed_too,
		      struct evfs_member **ret, size_t *ret_n,
		      struct evfs_err *err)
{
	return members_copy(meta, false, removed_too, ret, ret_n, err);
}

int evfs_members_all(struct evfs_meta *meta, struct evfs_member **ret,
		     size_t *ret_n, struct evfs_err *err)
{
	return members_copy(meta, true, true, ret, ret_n, err);
}

int evfs_members_by_node(struct evfs_meta *meta, uint64_t node,
			 struct evfs_member *ret, struct evfs_err *err)
{
	const struct evfs_member *member = members_find(meta, node);

	if (member == NULL)
		return evfs_err_set(err, EVFS_ENOTFOUND,
				    "no member with id %016" PRIx64, node);
	*ret = *member;
	return 0;
}

int evfs_members_by_name(struct evfs_meta *meta, const char *name,
			 struct evfs_member *ret, struct evfs_err *err)
{
	struct evfs_member_cache *cache = meta->store->members;
	const struct evfs_member *found = NULL;
	size_t i;

	/* A member rather than one that was removed. */
	for (i = 0; i < cache->n; i++) {
		if (strcmp(cache->all[i].name, name) == 0 &&
		    (found == NULL ||
		     (found->removed && !cache->all[i].removed)))
			found = &cache->all[i];
	}
	if (found == NULL)
		return evfs_err_set(err, EVFS_ENOTFOUND,
				    "no member named '%s' (see: evfsctl peer "
				    "list)",
				    name);
	*ret = *found;
	return 0;
}

const char *evfs_members_node_name(struct evfs_meta *meta, uint64_t node)
{
	struct evfs_member_cache *cache = meta->store->members;
	const struct evfs_member *member = members_find(meta, node);
	struct member_unknown *unknown;

	if (member != NULL)
		return member->name;
	for (unknown = cache->unknown; unknown != NULL;
	     unknown = unknown->next) {
		if (unknown->node == node)
			return unknown->text;
	}
	unknown = evfs_calloc(1, sizeof(*unknown));
	if (unknown == NULL)
		return "?";
	unknown->node = node;
	(void)snprintf(unknown->text, sizeof(unknown->text),
		       "?%016" PRIx64, node);
	unknown->next = cache->unknown;
	cache->unknown = unknown;
	return unknown->text;
}

/* ---- joining ---- */

static bool members_is_name(const char *name)
{
	size_t len = strnlen(name, EVFS_NODE_NAME_MAX + 1);

	return len > 0 && len <= EVFS_NODE_NAME_MAX &&
	       strspn(name, "abcdefghijklmnopqrstuvwxyz"
			    "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") == len;
}

static int members_check(const struct evfs_member *member,
			 struct evfs_err *err)
{
	size_t key = strnlen(member->key, sizeof(member->key));
	size_t address = strnlen(member->address, sizeof(member->address));
	size_t i;

	if (!members_is_name(member->name))
		return evfs_err_set(err, EVFS_EPROTO,
				    "member record: not a name");
	if (key == 0 || key == sizeof(member->key) ||
	    address == sizeof(member->address))
		return evfs_err_set(err, EVFS_EPROTO,
				    "member record of %s: key or address "
				    "of no or too great length",
				    member->name);
	for (i = 0; i < key + address; i++) {
		unsigned char c = (unsigned char)(i < key ?
					member->key[i] :
					member->address[i - key]);

		if (c < ' ' || c > '~')
			return evfs_err_set(err, EVFS_EPROTO,
					    "member record of %s: strange "
					    "byte in key or address",
					    member->name);
	}
	if (evfs_node_of_key(member->key) != member->node)
		return evfs_err_set(err, EVFS_EPROTO,
				    "member record of %s: its key does not "
				    "give its id",
				    member->name);
	return 0;
}

/* The greater of two records of one member, apart from `removed`: by stamp,
 * then by what they say, so that all replicas choose alike. */
static int members_cmp(const struct evfs_member *a,
		       const struct evfs_member *b)
{
	int order;

	if (a->stamp_ns != b->stamp_ns)
		return a->stamp_ns < b->stamp_ns ? -1 : 1;
	order = strcmp(a->name, b->name);
	return order != 0 ? order : strcmp(a->address, b->address);
}

int evfs_members_join(struct evfs_meta *meta, const struct evfs_member *member,
		      bool *ret_changed, struct evfs_err *err)
{
	const struct evfs_member *mine = members_find(meta, member->node);
	struct evfs_member joined = *member;
	int rc = members_check(member, err);

	if (rc != 0)
		return rc;
	*ret_changed = false;
	if (mine != NULL && strcmp(mine->key, member->key) != 0)
		return evfs_err_set(err, EVFS_EPROTO,
				    "member record of %s: another key than "
				    "its own",
				    member->name);
	if (mine == NULL &&
	    meta->store->members->n >= EVFS_MEMBERS_MAX)
		return evfs_err_set(err, EVFS_ELIMIT, "more than %d members",
				    EVFS_MEMBERS_MAX);
	joined.paused = mine != NULL && mine->paused;
	if (mine != NULL) {
		if (members_cmp(member, mine) <= 0)
			joined = *mine;
		joined.removed = mine->removed || member->removed;
		if (members_cmp(&joined, mine) == 0 &&
		    joined.removed == mine->removed)
			return 0;
	}
	rc = members_write(meta, &joined, err);
	if (rc == 0)
		*ret_changed = true;
	return rc;
}

int evfs_members_remove(struct evfs_meta *meta, uint64_t node,
			struct evfs_err *err)
{
	struct evfs_member member;
	int rc;

	if (node == meta->store->actor.node)
		return evfs_err_set(err, EVFS_EINVAL,
				    "a replica cannot remove itself (do it on "
				    "another member)");
	rc = evfs_members_by_node(meta, node, &member, err);
	if (rc != 0 || member.removed)
		return rc;
	member.removed = true;
	member.stamp_ns = evfs_meta_stamp(meta, member.stamp_ns);
	return members_write(meta, &member, err);
}

int evfs_members_set_paused(struct evfs_meta *meta, uint64_t node, bool paused,
			    struct evfs_err *err)
{
	struct evfs_member member;
	int rc = evfs_members_by_node(meta, node, &member, err);

	if (rc != 0 || member.paused == paused)
		return rc;
	member.paused = paused;
	return members_write(meta, &member, err);
}
