/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The failure detector's arithmetic; see the header. */
#include "net/phi.h"

#include <math.h>

#define MS 1000000u

/* of the logistic distribution: scale = deviation * sqrt(3) / pi */
#define SCALE 0.55132889542179204
#define LN10 2.30258509299404568

/* ---- heartbeats ---- */

void evfs_phi_beat(struct evfs_phi *phi, uint64_t now_ns, uint32_t first_ms)
{
	float interval, most, weight, off;

	if (now_ns < phi->beat_ns)
		return;
	if (phi->mean_ms <= 0) {
		/* patience at first, as in Akka; it counts as one interval */
		phi->mean_ms = (float)first_ms;
		phi->variance = phi->mean_ms * phi->mean_ms;
	}
	if (phi->beat_ns > 0) {
		/* West 1979, with weights that fade */
		interval = (float)(now_ns - phi->beat_ns) / MS;
		/* an outage is no interval, yet a new pace must be learnt */
		most = (float)evfs_phi_silence_ms(phi, EVFS_PHI_THRESHOLD);
		if (interval > most)
			interval = most;
		if (phi->n < EVFS_PHI_MEMORY)
			phi->n++;
		weight = 1.0f / (float)(phi->n + 1);
		off = interval - phi->mean_ms;
		phi->mean_ms += weight * off;
		phi->variance =
			(1 - weight) * (phi->variance + weight * off * off);
	}
	phi->beat_ns = phi->last_ns = now_ns;
}

void evfs_phi_seen(struct evfs_phi *phi, uint64_t now_ns)
{
	if (now_ns > phi->last_ns)
		phi->last_ns = now_ns;
}

/* ---- suspicion ---- */

static double scale(const struct evfs_phi *phi)
{
	double deviation = sqrt((double)phi->variance);

	if (deviation < (double)phi->mean_ms / 4)
		deviation = (double)phi->mean_ms / 4;
	if (deviation < EVFS_PHI_DEVIATION_MIN_MS)
		deviation = EVFS_PHI_DEVIATION_MIN_MS;
	return deviation * SCALE;
}

double evfs_phi_value(const struct evfs_phi *phi, double silence_ms)
{
	double z = (silence_ms - (double)phi->mean_ms) / scale(phi);

	/* log10(1 + e^z), which for great z is z / ln 10 and would overflow */
	return z > 30 ? z / LN10 : log1p(exp(z)) / LN10;
}

double evfs_phi_silence_ms(const struct evfs_phi *phi, double value)
{
	return (double)phi->mean_ms +
	       scale(phi) * log(expm1(value * LN10));
}

/* ---- health ---- */

void evfs_health_run(struct evfs_health *health, uint64_t now_ns,
		     uint64_t period_ns)
{
	uint64_t late_ns = 0;

	if (health->due_ns > 0 && now_ns > health->due_ns)
		late_ns = now_ns - health->due_ns;
	if (late_ns > period_ns) {
		health->skipped_ns += late_ns - period_ns;
		if (health->score < EVFS_PHI_HEALTH_MAX)
			health->score++;
	} else if (health->score > 0) {
		health->score--;
	}
	health->due_ns = now_ns + period_ns;
}

uint64_t evfs_health_clock(const struct evfs_health *health, uint64_t now_ns,
			   uint64_t period_ns)
{
	uint64_t end_ns = health->due_ns + period_ns;

	if (health->due_ns > 0 && now_ns > end_ns)
		now_ns = end_ns;
	return now_ns - health->skipped_ns;
}
