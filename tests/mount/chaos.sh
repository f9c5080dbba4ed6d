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

declare -A TIMES=([kill]=0 [freeze]=0 [pause]=0 [resume]=0) DOWN=()

a_moment() { read -rt "$1" <> <(:) || true; }

# A daemon that is killed, paused or asleep is hit at any moment of the others'
# work; which one, and when, is up to the seed and to the machine. One that was
# killed is back at once, or when it is hit again.
trouble() {
	local name=${NAMES[RANDOM % 5]} what
	if [ -n "${DOWN[$name]:-}" ]; then
		unset "DOWN[$name]"
		start "$name"
		return
	fi
	case $((RANDOM % 8)) in
	0 | 1)
		what=kill
		kill9 "$name"
		if [ $((RANDOM % 2)) = 0 ]; then start "$name"; else DOWN[$name]=1; fi
		;;
	2)
		what=freeze
		kill -STOP "$(pid_of "$name")"
		a_moment "$((RANDOM % 3)).$((RANDOM % 9))"
		kill -CONT "$(pid_of "$name")"
		;;
	3)
		what=pause
		ctl "$name" pause >/dev/null || fail "pause $name"
		;;
	*)
		what=resume
		ctl "$name" resume >/dev/null || fail "resume $name"
		;;
	esac
	TIMES[$what]=$((TIMES[$what] + 1))
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
		a_moment "0.$((RANDOM % 9))"
	done
	kill "${pids[@]}"
	wait "${pids[@]}"
	say "${TIMES[kill]} killed, ${TIMES[freeze]} frozen," \
		"${TIMES[pause]} paused, ${TIMES[resume]} resumed"
	for name in "${!DOWN[@]}"; do
		start "$name"
	done
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
