/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Replicas for tests of the engine; see the header. */
#include "tests/unit/engine_world.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "meta/config.h"
#include "meta/content.h"
#include "meta/members.h"
#include "meta/tree.h"

struct evfs_loop *loop;
struct node nodes[NODES];

/* ---- a small world ---- */

void must(int r, const struct evfs_err *err)
{
	ck_assert_msg(r >= 0, "%s", err->msg);
}

static void on_durable(void *ctx)
{
	struct node *node = ctx;

	evfs_loop_durable(loop, node->index);
}

static void on_change(void *ctx)
{
	struct node *node = ctx;

	node->changes++;
}

static void on_answered(void *ctx, const struct evfs_answer *answer)
{
	struct node *node = ctx;

	node->answer = *answer;
	node->answered_ns = evfs_loop_now(loop);
}

/* The store of node i; its place in the network is there already. */
void open_store(unsigned i, uint8_t volume)
{
	struct evfs_meta_new fresh = { 0 };
	struct evfs_meta_options options = { 0 };
	struct evfs_quorum_watch watch = { .answered = on_answered };
	struct evfs_err err = { 0 };
	struct node *node = &nodes[i];

	node->index = i;
	node->name[0] = (char)('A' + i);
	snprintf(node->key, sizeof(node->key), "ssh-ed25519 AAAATEST%c",
		 'A' + i);
	fresh.node_name = node->name;
	fresh.node = evfs_node_of_key(node->key);
	fresh.public_key = node->key;
	memset(fresh.volume.b, volume, sizeof(fresh.volume.b));
	options.fresh = &fresh;
	options.env = evfs_loop_env(loop, i);
	options.commit_delay_ms = 5;
	must(evfs_meta_open(&options, &node->meta, &err), &err);
	node->listener = (struct evfs_feed_listener){ .ctx = node,
						      .durable = on_durable };
	evfs_feed_add(node->meta, &node->listener);
	watch.ctx = node;
	evfs_quorum_set_watch(node->meta, EVFS_QUORUM_WATCH_FS, &watch);
}

void open_node(unsigned i, uint8_t volume)
{
	char key[40];

	snprintf(key, sizeof(key), "ssh-ed25519 AAAATEST%c", 'A' + i);
	(void)evfs_loop_add(loop, evfs_node_of_key(key));
	open_store(i, volume);
}

void know(struct node *node, unsigned i, bool address)
{
	struct evfs_member member = { 0 };
	struct evfs_err err = { 0 };
	bool changed;

	member.node = evfs_meta_node(nodes[i].meta);
	strcpy(member.name, nodes[i].name);
	strcpy(member.key, nodes[i].key);
	if (address)
		snprintf(member.address, sizeof(member.address), "loop:%u", i);
	member.stamp_ns = 1800000000 * SECOND;
	evfs_meta_lock(node->meta);
	must(evfs_members_join(node->meta, &member, &changed, &err), &err);
	evfs_meta_unlock(node->meta);
}

void commit(struct node *node)
{
	struct evfs_err err = { 0 };

	must(evfs_meta_commit(node->meta, &err), &err);
}

void power_on(unsigned i)
{
	struct evfs_err err = { 0 };
	struct node *node = &nodes[i];

	must(evfs_engine_new(node->meta, evfs_loop_env(loop, i),
			     evfs_loop_transport(loop, i), &node->engine, &err),
	     &err);
	evfs_engine_on_change(node->engine, on_change, node);
	evfs_loop_attach(loop, i, node->engine);
}

void power_off(unsigned i)
{
	evfs_loop_attach(loop, i, NULL);
	evfs_engine_free(nodes[i].engine);
	nodes[i].engine = NULL;
}

void set(unsigned i, const char *name, const char *value)
{
	struct evfs_err err = { 0 };

	evfs_meta_lock(nodes[i].meta);
	must(evfs_config_set_text(nodes[i].meta, name, value, &err), &err);
	evfs_meta_unlock(nodes[i].meta);
	if (nodes[i].engine != NULL)
		evfs_engine_config_changed(nodes[i].engine);
}

void layers(unsigned i, unsigned on)
{
	evfs_engine_set_layers(nodes[i].engine, on);
	evfs_loop_poke(loop, i);
}

/* n nodes that know each other, not switched on. */
void make(unsigned n)
{
	unsigned i, k;

	for (i = 0; i < n; i++)
		open_node(i, 7);
	for (i = 0; i < n; i++) {
		for (k = 0; k < n; k++)
			know(&nodes[i], k, true);
		commit(&nodes[i]);
	}
}

void run_ms(uint64_t ms)
{
	uint64_t end_ns = evfs_loop_now(loop) + ms * MS, next_ns;
	unsigned i;

	while (evfs_loop_now(loop) < end_ns) {
		next_ns = evfs_loop_now(loop) + 5 * MS;
		if (next_ns > end_ns)
			next_ns = end_ns;
		while (evfs_loop_step(loop, next_ns))
			;
		for (i = 0; i < NODES; i++)
			if (nodes[i].engine != NULL)
				commit(&nodes[i]);
	}
}

void status(unsigned i, struct evfs_engine_status *ret)
{
	struct evfs_err err = { 0 };

	must(evfs_engine_status(nodes[i].engine, ret, &err), &err);
}

bool converged(unsigned i)
{
	struct evfs_engine_status s;

	status(i, &s);
	evfs_free(s.peers);
	return s.converged;
}

bool all_converged(unsigned n)
{
	unsigned i;

	for (i = 0; i < n; i++)
		if (nodes[i].engine != NULL && !converged(i))
			return false;
	return true;
}

void wait_converged(unsigned n)
{
	unsigned i;

	for (i = 0; i < 6000 && !all_converged(n); i++)
		run_ms(20);
	ck_assert_msg(all_converged(n), "not converged within 120 s");
}

bool is_connected(unsigned i, unsigned to)
{
	struct evfs_engine_status s;
	bool found = false;
	size_t k;

	status(i, &s);
	for (k = 0; k < s.n_peers; k++)
		if (s.peers[k].member.node == evfs_meta_node(nodes[to].meta))
			found = s.peers[k].connected;
	evfs_free(s.peers);
	return found;
}

void peer(unsigned i, unsigned of, struct evfs_peer_status *ret)
{
	struct evfs_engine_status s;
	size_t k;

	status(i, &s);
	for (k = 0; k < s.n_peers; k++)
		if (s.peers[k].member.node == evfs_meta_node(nodes[of].meta)) {
			*ret = s.peers[k];
			evfs_free(s.peers);
			return;
		}
	ck_abort_msg("no such peer");
}

/* ---- files ---- */

static uint8_t *bytes_of(size_t len, uint64_t seed)
{
	uint8_t *data = malloc(len + 8);
	uint64_t z = seed * 0x9e3779b97f4a7c15ULL + 1;
	size_t i;

	ck_assert_ptr_nonnull(data);
	for (i = 0; i < len; i += 8) {
		z ^= z << 13;
		z ^= z >> 7;
		z ^= z << 17;
		memcpy(data + i, &z, 8);
	}
	return data;
}

static struct evfs_content_put *put_bytes(unsigned i, size_t len,
					  uint64_t seed)
{
	uint8_t *data = bytes_of(len, seed);
	struct evfs_content_put *put;
	struct evfs_err err = { 0 };

	must(evfs_content_write(evfs_meta_content(nodes[i].meta), data, len,
				&put, &err),
	     &err);
	free(data);
	return put;
}

void create(unsigned i, const char *name, size_t len, uint64_t seed)
{
	struct evfs_content_put *put = put_bytes(i, len, seed);
	struct evfs_content_ref content = { .mtime_s = 1, .size = len };
	struct evfs_new what = { .kind = EVFS_KIND_FILE,
				 .mode = 0644,
				 .content = &content };
	struct evfs_err err = { 0 };
	evfs_stamp link;
	evfs_ino ino;

	evfs_meta_lock_content(nodes[i].meta);
	content.content = *evfs_content_put_name(put);
	must(evfs_content_commit(evfs_meta_content(nodes[i].meta), put, &err),
	     &err);
	must(evfs_tree_create(nodes[i].meta, EVFS_INO_ROOT, name, strlen(name),
			      &what, &ino, &link, &err),
	     &err);
	evfs_meta_unlock(nodes[i].meta);
}

void rewrite(unsigned i, const char *name, size_t len, uint64_t seed)
{
	struct evfs_content_put *put = put_bytes(i, len, seed);
	struct evfs_content_ref content = { .mtime_s = 2, .size = len };
	struct evfs_handle handle = { 0 };
	struct evfs_entry entry = { 0 };
	struct evfs_err err = { 0 };

	ck_assert(lookup(i, name, &entry));
	evfs_meta_lock_content(nodes[i].meta);
	content.content = *evfs_content_put_name(put);
	must(evfs_content_commit(evfs_meta_content(nodes[i].meta), put, &err),
	     &err);
	must(evfs_tree_open(nodes[i].meta, EVFS_INO_ROOT, &entry, &handle,
			    &err),
	     &err);
	must(evfs_tree_seal(nodes[i].meta, &handle, &content, &err), &err);
	evfs_tree_close(nodes[i].meta, &handle);
	evfs_meta_unlock(nodes[i].meta);
	evfs_entry_fini(&entry);
}

void unlink_file(unsigned i, const char *name)
{
	struct evfs_err err = { 0 };

	evfs_meta_lock(nodes[i].meta);
	must(evfs_tree_unlink(nodes[i].meta, EVFS_INO_ROOT, name, strlen(name),
			      &err),
	     &err);
	evfs_meta_unlock(nodes[i].meta);
}

bool lookup(unsigned i, const char *name, struct evfs_entry *ret)
{
	int r;

	evfs_meta_lock(nodes[i].meta);
	r = evfs_view_lookup(nodes[i].meta, EVFS_INO_ROOT, name, strlen(name),
			     ret, NULL);
	evfs_meta_unlock(nodes[i].meta);
	return r == 0;
}

bool exists(unsigned i, const char *name)
{
	struct evfs_entry entry = { 0 };

	if (!lookup(i, name, &entry))
		return false;
	evfs_entry_fini(&entry);
	return true;
}

bool has_file(unsigned i, const char *name, size_t len, uint64_t seed)
{
	struct evfs_content_reader *reader;
	struct evfs_entry entry = { 0 };
	uint8_t *want = bytes_of(len, seed), *got = malloc(len + 1);
	size_t n = 0;
	bool same = false;

	if (lookup(i, name, &entry) && entry.size == len &&
	    evfs_content_open(evfs_meta_content(nodes[i].meta), &entry.content,
			      entry.size, &reader, NULL) == 0) {
		same = evfs_content_read(reader, got, len, 0, &n, NULL) == 0 &&
		       n == len && memcmp(want, got, len) == 0;
		evfs_content_close(reader);
	}
	evfs_entry_fini(&entry);
	free(want);
	free(got);
	return same;
}

evfs_ino ino_of(unsigned i, const char *name)
{
	struct evfs_entry entry = { 0 };
	evfs_ino ino;

	ck_assert(lookup(i, name, &entry));
	ino = entry.members[0].ino;
	evfs_entry_fini(&entry);
	return ino;
}

void check_file(unsigned i, const char *name, size_t len, uint64_t seed)
{
	struct evfs_content_reader *reader;
	struct evfs_entry entry = { 0 };
	struct evfs_err err = { 0 };
	uint8_t *want = bytes_of(len, seed), *got = malloc(len + 1);
	size_t n = 0;

	ck_assert_msg(lookup(i, name, &entry), "%c has no %s", 'A' + i, name);
	ck_assert_uint_eq(entry.size, len);
	must(evfs_content_open(evfs_meta_content(nodes[i].meta), &entry.content,
			       entry.size, &reader, &err),
	     &err);
	must(evfs_content_read(reader, got, len, 0, &n, &err), &err);
	evfs_content_close(reader);
	ck_assert_uint_eq(n, len);
	ck_assert_mem_eq(want, got, len);
	evfs_entry_fini(&entry);
	free(want);
	free(got);
}

/* ---- questions ---- */

uint64_t ask(unsigned i, enum evfs_question_kind kind, evfs_ino ino,
	     unsigned need, uint64_t timeout_ms)
{
	struct evfs_question question = { .kind = kind,
					  .ino = ino,
					  .need = need,
					  .timeout_ms = timeout_ms };

	question.id = evfs_quorum_new_id(nodes[i].meta);
	nodes[i].answer = (struct evfs_answer){ 0 };
	evfs_engine_ask(nodes[i].engine, &question);
	evfs_loop_poke(loop, i);
	return question.id;
}

int answer(unsigned i)
{
	for (unsigned k = 0; k < 2000 && nodes[i].answer.id == 0; k++)
		run_ms(5);
	ck_assert_msg(nodes[i].answer.id != 0, "no answer within 10 s");
	return nodes[i].answer.code;
}

/* ---- fixtures ---- */

void setup_with(const struct evfs_loop_options *options)
{
	struct evfs_err err = { 0 };

	evfs_log_init("test", EVFS_LOG_ERROR, false);
	memset(nodes, 0, sizeof(nodes));
	must(evfs_loop_new(options, &loop, &err), &err);
}

void setup(void)
{
	struct evfs_loop_options options = { .seed = 1,
					     .delay_min_ns = 100000,
					     .delay_max_ns = 2 * MS };

	setup_with(&options);
}

void teardown(void)
{
	unsigned i;

	for (i = 0; i < NODES; i++) {
		if (nodes[i].meta == NULL)
			continue;
		evfs_loop_attach(loop, i, NULL);
		evfs_engine_free(nodes[i].engine);
		evfs_quorum_set_watch(nodes[i].meta, EVFS_QUORUM_WATCH_FS,
				      NULL);
		evfs_feed_remove(nodes[i].meta, &nodes[i].listener);
		evfs_meta_close(nodes[i].meta);
	}
	evfs_loop_free(loop);
}
