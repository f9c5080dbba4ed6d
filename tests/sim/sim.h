/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The simulation: replicas made of the real store (in memory), the real engine
 * and a virtual network, driven by a seed through file operations, partitions,
 * crashes, pauses and torn connections; and the properties that must hold. */
#ifndef EVFS_TESTS_SIM_SIM_H
#define EVFS_TESTS_SIM_SIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "meta/feed.h"
#include "meta/meta.h"
#include "meta/quorum.h"
#include "meta/tree.h"
#include "meta/view.h"
#include "net/engine.h"
#include "net/loop.h"

#define SIM_REPLICAS_MAX 5
#define SIM_HANDLES 4
#define SIM_MS ((uint64_t)1000000)
#define SIM_SECOND ((uint64_t)1000000000)

struct sim;

enum sim_trouble {
	SIM_PARTITION,
	SIM_CUT,
	SIM_POWER,
	SIM_PAUSE,
	SIM_BACK_UP,
	SIM_RESTORE,
	SIM_REMOVE,
	SIM_READMIT,
	SIM_ABSENCE,
	SIM_TROUBLES
};

struct sim_handle {
	bool open;
	struct evfs_handle handle; /* registered while open */
	struct evfs_shown shown;   /* what it showed when it was opened */
};

struct sim_replica {
	struct sim *sim;
	unsigned index;
	char name[2];
	char node_name[8]; /* as a member */
	char key[64];
	unsigned keys; /* that it had before */
	uint64_t node;
	struct evfs_meta *meta;
	struct evfs_engine *engine; /* NULL: switched off */
	struct evfs_feed_listener listener;
	uint64_t committed;   /* generation at the last commit */
	struct evfs_buf view; /* the tree as of then */
	bool paused;
	bool removed;	     /* from the volume; it may not know */
	uint64_t away_until; /* switched off at least as long; 0 = no */
	struct sim_handle handles[SIM_HANDLES];
	uint64_t counter;    /* own dots used up so far */
	uint64_t op_counter; /* of the last operation; 0 = none since
			      * the last crash */
	struct evfs_backup *backup; /* owned; NULL = none */
	uint64_t backup_counter;    /* own dots used then */
	evfs_actor actor;	    /* as last looked at */
	bool amnesia;		    /* the same */
	bool unnoticed; /* it was restored, and does not know */
};

/* A fact that an operation asserted or ended. */
struct sim_fact {
	bool is_version; /* else an alive dot */
	evfs_ino ino;
	evfs_stamp link; /* of an alive dot */
	evfs_dot dot;
};

struct sim_note {
	enum sim_note_kind { SIM_ASSERTED, SIM_ENDED, SIM_DESTROYED } kind;
	struct sim_fact fact;
	evfs_dot by; /* of the operation, on that object */
	unsigned replica;
	bool durable; /* it was committed */
	bool lost;    /* it was not, before a crash */
	bool pending; /* by a replica that does not know that it was
		       * restored: counts when it has got new dots */
};

/* The objects of one operation with its dots. */
struct sim_tx {
	evfs_ino *inos; /* owned */
	evfs_dot *dots; /* owned */
	size_t n;
	unsigned replica;
	bool durable, lost, pending;
};

struct sim_ledger {
	struct sim_note *notes; /* owned */
	size_t n, cap;
	struct sim_tx *txs; /* owned */
	size_t n_txs, cap_txs;
};

/* What an operation has asked other replicas. */
#define SIM_QUESTIONS 64
#define SIM_ROWS 16
struct sim_question {
	uint64_t id;
	unsigned replica, need;
	bool held; /* a write quorum */
	evfs_ino ino;
	evfs_dot rows[SIM_ROWS];
	size_t n_rows;
};

/* A content that was written. */
struct sim_written {
	evfs_hash name;
	uint64_t tag; /* of its bytes: sim_content() */
	bool lost;    /* with the only store that had it: contents.c */
};

struct sim {
	uint64_t seed, rng;
	bool verbose;
	struct evfs_loop *loop;
	struct evfs_loop_options options;
	unsigned n;
	struct sim_replica replicas[SIM_REPLICAS_MAX];
	struct sim_ledger ledger;
	uint64_t tags; /* contents made so far */
	struct sim_written *contents; /* owned; some more than once */
	size_t n_contents, cap_contents;
	unsigned ops, failed_ops, crashes, partitions, restores;
	unsigned removals, returns, absences;
	uint64_t settle_ns; /* how long convergence took after healing */
	unsigned weights[SIM_TROUBLES]; /* how often each is made */
	bool dense; /* few names, much renamed and removed */
	bool eager; /* the collector runs all the time */
	bool slow; /* minutes pass, and members are away for long */
	struct sim_question questions[SIM_QUESTIONS];
	unsigned n_questions, held;
	unsigned checks; /* of all replicas, so far */
	bool quiet; /* no more operations */
	uint64_t *gone; /* owned; members that must not come back */
	size_t n_gone, cap_gone;
	bool forge;  /* contexts will be made to claim everything */
	bool forged; /* and are now: only rows tell what is known */
	uint64_t link_down_until[SIM_REPLICAS_MAX][SIM_REPLICAS_MAX];
};

/* Ends the run: prints what is wrong, the seed and how to replay it. */
void sim_fail(struct sim *sim, const char *fmt, ...) EVFS_PRINTF(2, 3)
	__attribute__((noreturn));
void sim_trace(struct sim *sim, const char *fmt, ...) EVFS_PRINTF(2, 3);
/* Ends the run where rc is a failure. */
void sim_must(struct sim *sim, int rc, const struct evfs_err *err,
	      const char *what);
uint64_t sim_below(struct sim *sim, uint64_t n);
bool sim_chance(struct sim *sim, unsigned percent);

/* ---- world.c ---- */
void sim_init(struct sim *sim);
void sim_fini(struct sim *sim);
void sim_commit(struct sim_replica *replica);
void sim_crash(struct sim_replica *replica);
void sim_power_on(struct sim_replica *replica);
/* While all are off: gives every replica the join of all contexts, so that no
 * stream brings what lacks, and only audits can. */
void sim_forge_contexts(struct sim *sim);
/* Lets virtual time pass, committing now and then. */
void sim_run_until(struct sim *sim, uint64_t time_ns);

/* ---- trouble.c ---- */
/* How often each kind of trouble is made in this history. */
void sim_choose_troubles(struct sim *sim);
/* Makes some. */
void sim_trouble(struct sim *sim);
/* Partitions that are over, or all of them; replicas that were away. */
void sim_heal_due(struct sim *sim, bool all);
void sim_come_back(struct sim *sim);

/* ---- ops.c ---- */
void sim_operation(struct sim_replica *replica);
/* The bytes of a content; of the caller. */
uint8_t *sim_content(uint64_t tag, size_t *ret_len);
void sim_close_handles(struct sim_replica *replica);
void sim_check_handles(struct sim_replica *replica);

/* ---- restore.c ---- */
void sim_back_up(struct sim_replica *replica);
/* Puts the backup back, if there is one. */
void sim_restore(struct sim_replica *replica);
/* Follows replicas that take another life, or end an audit. */
void sim_follow_lives(struct sim *sim);
/* Is there one that does not know that it was restored? At most one is. */
bool sim_any_unnoticed(struct sim *sim);
/* Its actor is another one: what is known of it starts anew. */
void sim_look(struct sim_replica *replica);

/* ---- members.c ---- */
/* One member removes another; and has it back. Where it cannot be, nothing
 * happens. */
void sim_remove_member(struct sim_replica *replica, struct sim_replica *by);
void sim_readmit(struct sim_replica *replica, struct sim_replica *by);
/* There is always one. */
struct sim_replica *sim_first_member(struct sim *sim);
/* Members that are gone stay so. */
void sim_keep_out(struct sim *sim);
/* All are on: who was removed comes back, or goes for good. */
void sim_settle_members(struct sim *sim);

/* ---- contents.c ---- */
/* Which contents has this replica alone, by their numbers? It is about to lose
 * some of them, or to go for good; commits all others. Of the caller. */
bool *sim_contents_only_here(struct sim_replica *replica);
/* That has happened: those that it has no longer are lost. Frees `only`. */
void sim_contents_note_lost(struct sim_replica *replica, bool *only);
/* What it has on disk now (it was written once more, or was under way) is not
 * lost any more. */
void sim_contents_committed(struct sim_replica *replica);
/* Was it lost so, and does nobody have it? */
bool sim_content_may_lack(struct sim *sim, const evfs_hash *name);
/* Is any content wanted here? *ret_only_lost: but such that may lack, none. */
bool sim_contents_wanted(struct sim_replica *replica, bool *ret_only_lost);

/* ---- collect.c ---- */
/* A pass of the collector on one replica, which must show nowhere. */
void sim_collect(struct sim_replica *replica);
/* The same, without looking at what is shown. */
void sim_collect_step(struct sim_replica *replica);
/* P16: all that is removed can be collected once everybody has heard. */
void sim_check_collected(struct sim *sim);
/* ---- quorum.c ---- */
void sim_ask(struct sim_replica *replica);
/* Somebody loses its memory: who has answered before may hold it no more. */
void sim_forget_questions(struct sim *sim);
void sim_answered(void *replica, const struct evfs_answer *answer);

/* ---- ledger.c ---- */
struct sim_snapshot; /* the live facts of a replica */
struct sim_snapshot *sim_snapshot(struct sim_replica *replica);
/* By ino, and by number in their order; borrowed; NULL = none. */
const struct evfs_object *
sim_snapshot_find(const struct sim_snapshot *snapshot, evfs_ino ino);
const struct evfs_object *sim_snapshot_at(const struct sim_snapshot *snapshot,
					  size_t i);
void sim_snapshot_free(struct sim_snapshot *snapshot);
/* What one operation did; meta is not locked. Frees `before`. */
void sim_ledger_record(struct sim_replica *replica,
		       struct sim_snapshot *before);
void sim_ledger_committed(struct sim_replica *replica);
void sim_ledger_crashed(struct sim_replica *replica);
/* An older state of the replica is back, or (in the end) members stay out for
 * good: what nobody has any more is lost. */
void sim_ledger_restored(struct sim_replica *replica);
/* Its pending dots above `known` have got new ones. */
void sim_ledger_renewed(struct sim_replica *replica, evfs_actor from,
			uint64_t known);
/* Does a replica with this state of the object know of an operation that ended
 * this version, or removed the file with it? */
bool sim_ledger_knows_end(const struct sim *sim, evfs_ino ino, evfs_dot version,
			  const struct evfs_object *object,
			  const struct evfs_context *context);
/* The properties that hold at any time, and those after convergence. */
void sim_ledger_check(struct sim_replica *replica);
void sim_ledger_check_final(struct sim_replica *replica);
void sim_ledger_fini(struct sim *sim);

/* ---- laws.c ---- */
/* P2: joining what the replicas have of an object in any order, in any grouping
 * and twice gives the same. */
void sim_check_laws(struct sim *sim);
/* P5: the tree that a replica shows is one. */
void sim_check_shape(struct sim_replica *replica);

/* ---- check.c ---- */
void sim_check_now(struct sim *sim);
void sim_check_converged(struct sim *sim);
bool sim_is_converged(struct sim *sim);

#endif
