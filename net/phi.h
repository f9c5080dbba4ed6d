/* SPDX-License-Identifier: GPL-3.0-or-later */
/* How suspicious a member's silence is: the phi-accrual failure detector
 * (Hayashibara, Defago, Yared, Katayama 2004), and what the observer thinks of
 * itself (Lifeguard: Dadgar, Phillips, Currey 2018).
 *
 * phi(t) = -log10(chance that a heartbeat comes later than t after the last),
 * from the mean and the deviation of the intervals seen so far. It differs from
 * the paper in three ways:
 * - the intervals are taken to be distributed logistically, not normally. Same
 *   mean and deviation, a closed form, and an exponential tail: heartbeats that
 *   come by gossip come in bursts and with gaps. (Cassandra takes the
 *   exponential form alone, which knows no deviation: 18 intervals to phi 8,
 *   always. Akka computes its normal form by a logistic approximation.)
 * - mean and variance are exponentially weighted, not over a window of the last
 *   1000: 32 bytes a member, and a member that changes its pace is understood
 *   after some 20 heartbeats.
 * - as in Akka, the deviation has a least value: a member that was as regular
 *   as a clock is not suspected for one late packet.
 *
 * Pure: time comes in as ns of a clock that never goes back. Floating point is
 * allowed here, for nothing of this is replicated. */
#ifndef EVFS_NET_PHI_H
#define EVFS_NET_PHI_H

#include <stdbool.h>
#include <stdint.h>

#define EVFS_PHI_THRESHOLD 8.0 /* a wrong suspicion in 10^8 intervals */
#define EVFS_PHI_MEMORY 20     /* heartbeats that the moments remember */
#define EVFS_PHI_DEVIATION_MIN_MS 100
#define EVFS_PHI_HEALTH_MAX 8 /* as Lifeguard's S */

struct evfs_phi {
	uint64_t last_ns; /* last sign of life; 0 = none yet */
	uint64_t beat_ns; /* last heartbeat: where the next interval starts */
	float mean_ms;	  /* 0 = no interval yet */
	float variance;	  /* ms^2 */
	uint32_t n;	  /* intervals seen, to EVFS_PHI_MEMORY */
};

/* A heartbeat has come. first_ms: the interval that is expected before any was
 * seen. */
void evfs_phi_beat(struct evfs_phi *phi, uint64_t now_ns, uint32_t first_ms);
/* Another sign of life: it ends a silence, and is no interval. */
void evfs_phi_seen(struct evfs_phi *phi, uint64_t now_ns);

/* Of a silence of so many ms. */
double evfs_phi_value(const struct evfs_phi *phi, double silence_ms);
/* The silence, in ms, at which phi reaches a value. */
double evfs_phi_silence_ms(const struct evfs_phi *phi, double value);

/* ---- the observer's own health ----
 * An observer that does not get to run in time would blame the others for its
 * own pauses. So its detector has a clock of its own, which stands still while
 * it does not run; and it trusts itself less for a while: all bounds are
 * multiplied by 1 + health. */
struct evfs_health {
	uint64_t due_ns;     /* when it should have run; 0 = not started */
	uint64_t skipped_ns; /* pauses so far */
	unsigned score;	     /* 0 = well, to EVFS_PHI_HEALTH_MAX */
};

/* It runs now, and will again within period_ns. */
void evfs_health_run(struct evfs_health *health, uint64_t now_ns,
		     uint64_t period_ns);
/* The detector's clock at a moment of the monotonic one. Also before
 * evfs_health_run() has seen a pause that just ends: never more than a period
 * beyond the time when it should have run. */
uint64_t evfs_health_clock(const struct evfs_health *health, uint64_t now_ns,
			   uint64_t period_ns);

#endif
