/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What the two files of quorums share: net/quorum.c asks, net/quorum_serve.c
 * answers. */
#ifndef EVFS_NET_QUORUM_PRIV_H
#define EVFS_NET_QUORUM_PRIV_H

#include "base/err.h"
#include "meta/context.h"
#include "net/engine_priv.h"
#include "net/quorum.h"

/* The rows of an object as it is on disk; none where it is not here. */
int evfs_quorum_rows(struct evfs_engine *engine, evfs_ino ino,
		     struct evfs_context *ret,
		     struct evfs_err *err) EVFS_MUST_USE;
/* Sends the member what it said it lacks. */
int evfs_quorum_give(struct evfs_engine *engine, struct evfs_session *session,
		     const Evfs__Wire__State *state,
		     struct evfs_err *err) EVFS_MUST_USE;
/* Says Held for what is on disk by now. */
void evfs_quorum_run_holds(struct evfs_engine *engine,
			   struct evfs_session *session);

#endif
