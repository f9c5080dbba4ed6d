/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What a Merkle audit costs between two stores of many files, on disk, over the
 * network in memory: bytes of the trees, round trips, time of this machine.
 * Usage: merkle DIR [FILES [DIRECTORIES]]; makes DIR/a and DIR/b. Where DIR/a is
 * a store already (of evfsctl init), it is only filled, for a daemon to be
 * measured on. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "meta/content.h"
#include "meta/delta.h"
#include "meta/members.h"
#include "meta/merkle.h"
#include "meta/tree.h"
#include "net/engine.h"
#include "net/loop.h"

#define MS UINT64_C(1000000)
#define CHANGED_DIRS 50
#define CHANGED_FILES 10000

struct side {
	char path[4096];
	char key[40];
	struct evfs_meta *meta;
	struct evfs_engine *engine;
	struct evfs_content_ref content; /* of all files */
};

static struct evfs_loop *loop;
static struct side sides[2];
static evfs_ino *dirs;
static unsigned long n_files = 1000000, n_dirs = 1000;

static void must(int r, const struct evfs_err *err)
{
	if (r >= 0)
		return;
	fprintf(stderr, "merkle: %s\n", err->msg);
	exit(1);
}

static double now_s(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* Of all threads: says more than the clock where others use the machine. */
static double cpu_s(void)
{
	struct timespec now;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* ---- two stores ---- */

static void put_content(struct side *side)
{
	struct evfs_content *store = evfs_meta_content(side->meta);
	struct evfs_content_put *put;
	struct evfs_err err = { 0 };

	must(evfs_content_write(store, "equal\n", 6, &put, &err), &err);
	evfs_meta_lock_content(side->meta);
	side->content.content = *evfs_content_put_name(put);
	side->content.size = 6;
	side->content.mtime_s = 1800000000;
	must(evfs_content_commit(store, put, &err), &err);
	evfs_meta_unlock(side->meta);
}

static bool is_store(const char *dir)
{
	char path[4096];

	snprintf(path, sizeof(path), "%.4000s/a/meta.db", dir);
	return access(path, F_OK) == 0;
}

static void open_side(unsigned i, const char *dir, bool fresh_store)
{
	struct evfs_meta_new fresh = { 0 };
	struct evfs_meta_options options = { .commit_delay_ms = 5 };
	struct evfs_err err = { 0 };
	struct side *side = &sides[i];

	snprintf(side->path, sizeof(side->path), "%.4000s/%c", dir,
		 (char)('a' + i));
	snprintf(side->key, sizeof(side->key), "ssh-ed25519 AAAABENCH%u", i);
	fresh.path = side->path;
	fresh.node_name = i == 0 ? "a" : "b";
	fresh.node = evfs_node_of_key(side->key);
	fresh.public_key = side->key;
	memset(fresh.volume.b, 7, sizeof(fresh.volume.b));
	if (fresh_store)
		must(evfs_meta_create(&fresh, &err), &err);
	(void)evfs_loop_add(loop, fresh.node);
	options.path = side->path;
	options.env = evfs_loop_env(loop, i);
	must(evfs_meta_open(&options, &side->meta, &err), &err);
	put_content(side);
}

static void introduce(struct side *side, unsigned to)
{
	struct evfs_member member = { 0 };
	struct evfs_err err = { 0 };
	bool changed;

	member.node = evfs_node_of_key(sides[to].key);
	snprintf(member.name, sizeof(member.name), "%s", to == 0 ? "a" : "b");
	snprintf(member.key, sizeof(member.key), "%s", sides[to].key);
	snprintf(member.address, sizeof(member.address), "loop:%u", to);
	member.stamp_ns = UINT64_C(1800000000000000000);
	evfs_meta_lock(side->meta);
	must(evfs_members_join(side->meta, &member, &changed, &err), &err);
	evfs_meta_unlock(side->meta);
}

/* ---- files ---- */

static evfs_ino create(struct side *side, evfs_ino dir, const char *name,
		       enum evfs_kind kind)
{
	struct evfs_new what = { .kind = kind,
				 .mode = 0644,
				 .content = kind == EVFS_KIND_FILE ?
						    &side->content :
						    NULL };
	struct evfs_err err = { 0 };
	evfs_stamp link;
	evfs_ino ino;

	evfs_meta_lock_content(side->meta);
	must(evfs_tree_create(side->meta, dir, name, strlen(name), &what, &ino,
			      &link, &err),
	     &err);
	evfs_meta_unlock(side->meta);
	return ino;
}

static void sync_side(struct side *side)
{
	struct evfs_err err = { 0 };

	must(evfs_meta_sync(side->meta, &err), &err);
}

static void fill(void)
{
	char name[32];
	double start, cpu;
	unsigned long i;

	dirs = evfs_calloc(n_dirs, sizeof(*dirs));
	for (i = 0; i < n_dirs; i++) {
		snprintf(name, sizeof(name), "dir%05lu", i);
		dirs[i] = create(&sides[0], EVFS_INO_ROOT, name,
				 EVFS_KIND_DIR);
	}
	start = now_s();
	cpu = cpu_s();
	for (i = 0; i < n_files; i++) {
		snprintf(name, sizeof(name), "file%07lu", i);
		(void)create(&sides[0], dirs[i * n_dirs / n_files], name,
			     EVFS_KIND_FILE);
	}
	sync_side(&sides[0]);
	printf("%lu files made: %.0f a second, %.2f us of CPU each\n", n_files,
	       (double)n_files / (now_s() - start),
	       (cpu_s() - cpu) * 1e6 / (double)n_files);
}

/* What the first has goes to the second, without a network. */
static void copy(void)
{
	struct evfs_context none = { 0 };
	struct evfs_delta *delta;
	struct evfs_err err = { 0 };
	double start = now_s();
	bool done = false;

	must(evfs_delta_open(sides[0].meta, &none, &delta, &err), &err);
	while (!done) {
		struct evfs_object **objects = NULL;
		size_t n = 0, changed;

		must(evfs_delta_next(delta, 0, &objects, &n, &done, &err),
		     &err);
		evfs_meta_lock_content(sides[1].meta);
		must(evfs_delta_apply(sides[1].meta, objects, n,
				      evfs_delta_snap(delta), &changed, &err),
		     &err);
		evfs_meta_unlock(sides[1].meta);
		evfs_free(objects);
	}
	evfs_meta_lock(sides[1].meta);
	must(evfs_meta_take_context(sides[1].meta, evfs_delta_snap(delta),
				    &err),
	     &err);
	evfs_meta_unlock(sides[1].meta);
	evfs_delta_close(delta);
	sync_side(&sides[1]);
	printf("copied: %.0f objects a second\n",
	       (double)n_files / (now_s() - start));
}

/* ---- audits ---- */

static void power(unsigned i, bool on)
{
	struct evfs_err err = { 0 };

	if (on)
		must(evfs_engine_new(sides[i].meta, evfs_loop_env(loop, i),
				     evfs_loop_transport(loop, i),
				     &sides[i].engine, &err),
		     &err);
	evfs_loop_attach(loop, i, on ? sides[i].engine : NULL);
	if (!on)
		evfs_engine_free(sides[i].engine);
}

static void run_ms(uint64_t ms)
{
	uint64_t end = evfs_loop_now(loop) + ms * MS;
	unsigned i;

	while (evfs_loop_now(loop) < end) {
		while (evfs_loop_step(loop, evfs_loop_now(loop) + 10 * MS))
			;
		for (i = 0; i < 2; i++) {
			sync_side(&sides[i]);
			evfs_loop_durable(loop, i);
		}
	}
}

static struct evfs_audit_status audit_of(unsigned i, bool *ret_converged)
{
	struct evfs_engine_status status;
	struct evfs_err err = { 0 };

	must(evfs_engine_status(sides[i].engine, &status, &err), &err);
	evfs_free(status.peers);
	*ret_converged = status.converged;
	return status.audit;
}

/* Both claim to have all: nothing but an audit finds what lacks. */
static void forge(void)
{
	struct evfs_context all = { 0 };
	struct evfs_err err = { 0 };
	unsigned i;

	sync_side(&sides[0]);
	must(evfs_meta_durable_context(sides[0].meta, &all), &err);
	for (i = 0; i < 2; i++) {
		evfs_meta_lock(sides[i].meta);
		must(evfs_meta_take_context(sides[i].meta, &all, &err), &err);
		evfs_meta_unlock(sides[i].meta);
		sync_side(&sides[i]);
	}
	evfs_context_fini(&all);
}

static void audit(const char *what)
{
	struct evfs_audit_status status[2];
	bool converged[2] = { false, false };
	double start;
	unsigned i, k, by;

	power(0, true);
	power(1, true);
	start = now_s();
	for (k = 0; k < 600 && !(converged[0] && converged[1]); k++) {
		run_ms(100);
		status[0] = audit_of(0, &converged[0]);
		status[1] = audit_of(1, &converged[1]);
	}
	if (status[0].rounds + status[1].rounds == 0) {
		evfs_engine_sync(sides[0].engine, 0);
		evfs_loop_poke(loop, 0);
		run_ms(500);
	}
	status[0] = audit_of(0, &converged[0]);
	status[1] = audit_of(1, &converged[1]);
	by = status[0].rounds > 0 ? 0 : 1;
	printf("%-36s %7llu bytes, %2llu round trips, %7llu compared, "
	       "%6llu repaired, %.2f s, %s\n",
	       what, (unsigned long long)status[by].last_bytes,
	       (unsigned long long)status[by].last_round_trips,
	       (unsigned long long)(status[0].objects_compared +
				    status[1].objects_compared),
	       (unsigned long long)(status[0].objects_repaired +
				    status[1].objects_repaired),
	       now_s() - start,
	       converged[0] && converged[1] ? "equal" : "NOT EQUAL");
	for (i = 0; i < 2; i++)
		power(i, false);
}

static void show_memory(void)
{
	char line[256];
	FILE *file = fopen("/proc/self/status", "r");

	while (file != NULL && fgets(line, sizeof(line), file) != NULL)
		if (strncmp(line, "VmRSS", 5) == 0 ||
		    strncmp(line, "VmHWM", 5) == 0)
			printf("both stores: %s", line);
	if (file != NULL)
		fclose(file);
}

int main(int argc, char **argv)
{
	struct evfs_loop_options options = { .seed = 1,
					     .delay_min_ns = 100000,
					     .delay_max_ns = MS };
	struct evfs_err err = { 0 };
	char name[32];
	unsigned long i;

	if (argc < 2) {
		fprintf(stderr, "usage: merkle DIR [FILES [DIRECTORIES]]\n");
		return 2;
	}
	if (argc > 2)
		n_files = strtoul(argv[2], NULL, 10);
	if (argc > 3)
		n_dirs = strtoul(argv[3], NULL, 10);
	evfs_log_init("merkle", EVFS_LOG_NONE, false);
	must(evfs_loop_new(&options, &loop, &err), &err);
	if (is_store(argv[1])) {
		open_side(0, argv[1], false);
		fill();
		evfs_meta_close(sides[0].meta);
		return 0;
	}
	open_side(0, argv[1], true);
	open_side(1, argv[1], true);
	for (i = 0; i < 4; i++)
		introduce(&sides[i / 2], i % 2);
	fill();
	copy();
	audit("equal");
	(void)create(&sides[0], dirs[n_dirs / 2], "one more", EVFS_KIND_FILE);
	forge();
	audit("one difference");
	for (i = 0; i < CHANGED_FILES; i++) {
		snprintf(name, sizeof(name), "more%05lu", i);
		(void)create(&sides[0],
			     dirs[i % CHANGED_DIRS * n_dirs / CHANGED_DIRS],
			     name, EVFS_KIND_FILE);
	}
	forge();
	audit("10,000 differences in 50 directories");
	show_memory();
	for (i = 0; i < 2; i++)
		evfs_meta_close(sides[i].meta);
	evfs_loop_free(loop);
	evfs_free(dirs);
	return 0;
}
