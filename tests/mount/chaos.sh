#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Chaos: five replicas, a program on each that writes, replaces, renames and
# removes, while daemons are paused and killed. In the end: one tree, the same
# siblings everywhere, and every content that an fsync promised and nobody
# replaced. CHAOS_S: for how many seconds (20); SEED.
. "$(dirname "$0")/../lib/evfs.sh"

NAMES=(A B C D E)
RANDOM=${SEED:-1}
new_world "${NAMES[@]}"

# A daemon that is killed, paused or asleep is hit at any moment of the others'
# work; which one, and when, is up to the seed and to the machine.
trouble() {
	local name=${NAMES[RANDOM % 5]}
	case $((RANDOM % 4)) in
	0)
		kill9 "$name"
		start "$name"
		;;
	1)
		ctl "$name" pause >/dev/null || fail "pause $name"
		;;
	*)
		ctl "$name" resume >/dev/null || fail "resume $name"
		;;
	esac
}

chaos() {
	local name pids=() end=$((SECONDS + ${CHAOS_S:-20}))
	mkdir "$(mnt A)/top" && synced "${NAMES[@]}"
	for name in "${NAMES[@]}"; do
		python3 "$(dirname "$0")/chaos.py" write "$(mnt "$name")/top" \
			"$WORLD/$name.ledger" "$name${SEED:-1}" &
		pids+=($!)
	done
	while [ $SECONDS -lt $end ]; do
		trouble
		read -rt "0.$((RANDOM % 9))" <> <(:) || true
	done
	kill "${pids[@]}"
	wait "${pids[@]}"
	for name in "${NAMES[@]}"; do
		ctl "$name" resume >/dev/null || fail "resume $name"
	done
	synced "${NAMES[@]}"
	DIR_TIMES=no same_trees "${NAMES[@]}"
	same_dumps "${NAMES[@]}"
	python3 "$(dirname "$0")/chaos.py" check "$(mnt A)/top" \
		"$WORLD"/*.ledger || fail "promised content is lost"
}

try chaos/five_daemons chaos
try chaos/logs check_logs "${NAMES[@]}"
finish
