#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Exercisers of file systems (tests/posix), on a mount: random operations
# compared with the disk's own file system, a file against a model in memory,
# several processes in one tree, directory streams while entries come and go.
#
# SEED: where to begin (each failure prints the seed that replays it). LONG=N
# does N times as much of each.
. "$(dirname "$0")/../lib/evfs.sh"
. "$(dirname "$0")/../lib/backing.sh"
posix=$EVFS_BIN/tests/posix
SEED=${SEED:-$RANDOM}
LONG=${LONG:-1}

evfsctl init "$(store A)" --name A >/dev/null || fail init
ctl_options=
[ "$(id -u)" != 0 ] || ctl_options="-o allow_other"
start A $ctl_options
m=$(mnt A)

again() {
	stop A && start A $ctl_options
}

streams() {
	mkdir "$m/streams"
	for i in $(seq "$LONG"); do
		"$posix/streams" -s $((SEED + i)) -n 2000 -e 5000 "$m/streams" ||
			fail "seed $((SEED + i))"
	done
}

say "seed $SEED"
for t in streams; do
	try "exercise/$t" "$t"
done
finish
