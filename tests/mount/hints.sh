#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# What a member misses: held for it, handed over at its return, by another where
# the writer is dead; and pulled where the hints have expired. And that the time
# to a member's acknowledgement is told truthfully meanwhile.
. "$(dirname "$0")/../lib/evfs.sh"

new_world A B C
synced A B C

# status_of NAME FIELD...: a value of status --json; peers by name
status_of() {
	local name=$1
	shift
	ctl "$name" status --json | python3 -c 'import json, sys
value = json.load(sys.stdin)
for key in sys.argv[1:]:
    if isinstance(value, list):
        value = {peer["name"]: peer for peer in value}
    value = value[key]
print(json.dumps(value))' "$@"
}

at_least() { # WANTED NAME FIELD...: is the number at least that?
	local wanted=$1
	shift
	python3 -c 'import json, sys
value = json.loads(sys.argv[1])
sys.exit(value is None or value < float(sys.argv[2]))' \
		"$(status_of "$@")" "$wanted"
}

files() { # NAME DIR N
	mkdir "$(mnt "$1")/$2" || fail "mkdir"
	python3 -c 'import sys
for n in range(int(sys.argv[2])):
    with open(f"{sys.argv[1]}/{n}", "w") as out:
        out.write(str(n) * 10)' "$(mnt "$1")/$2" "$3"
}

handed_over() {
	stop C
	files A many 1200
	until_true 20 at_least 1201 A peers C hints count
	at_least 1 A peers C hints bytes || fail "no bytes"
	at_least 1201 B hints held_for_others || fail "B holds nothing for others"
	# known after a restart, too
	stop A
	start A
	until_true 20 at_least 1201 A peers C hints count
	start C
	synced A B C
	same_trees A B C
	equal held "$(status_of A hints held)" 0
	python3 -c 'import sys; sys.exit(sum(map(int, sys.argv[1:])) < 1201)' \
		"$(status_of A hints delivered)" "$(status_of B hints delivered)" ||
		fail "not counted as delivered"
	ctl A metrics | grep -q '^evfs_hints_delivered_total ' || fail "metrics"
}

writer_is_dead() {
	local before
	stop C
	files A widow 700
	synced_with_b() { [ "$(status_of A peers B in_sync)" = true ]; }
	until_true 60 synced_with_b
	kill9 A
	before=$(status_of B hints delivered)
	start C
	until_true 60 test -e "$(mnt C)/widow/699"
	until_true 20 at_least $((before + 700)) B hints delivered
	start A
	synced A B C
	same_trees A B C
}

expired() {
	ctl A config set hint_ttl 1s || fail "config"
	stop B
	stop C
	files A late 600
	until_true 30 at_least 600 A hints expired
	equal held "$(status_of A peers C hints count)" 0
	at_least 600 A peers C hints expired || fail "not told"
	start B
	start C
	synced A B C
	same_trees A B C
	equal expired "$(status_of A peers C hints expired)" 0
	ctl A config set hint_ttl 3h || fail "config"
}

too_much() {
	ctl A config set hint_max_bytes 1MiB || fail "config"
	stop B
	stop C
	head -c 3000000 /dev/urandom >"$(mnt A)/heavy"
	until_true 30 at_least 1 A peers C hints expired
	grep -q 'hints expired: peer=C hints=[0-9]* reason=hint_max_bytes' \
		"$WORLD/A.log" || fail "the log does not say so"
	start B
	start C
	synced A B C
	same_trees A B C
	ctl A config set hint_max_bytes 1GiB || fail "config"
}

# A member that hangs is not better than it is.
silent() {
	local pid
	synced A B C
	pid=$(pid_of C)
	kill -STOP "$pid"
	echo x >"$(mnt A)/silence"
	until_true 20 at_least 1 A peers C convergence_ms slow
	ctl A status >"$WORLD/status"
	equal "exit code" $? 2
	head -n 1 "$WORLD/status" |
		grep -q 'ATTENTION changes reach C late (p99 .*convergence_target)' ||
		fail "$(head -n 1 "$WORLD/status")"
	kill -CONT "$pid"
	synced A B C
	at_least 1000 A peers C convergence_ms p99 || fail "forgotten"
	stop C
	echo y >"$(mnt A)/silence"
	until_true 20 at_least 1 A peers C behind_changes
	ctl A config set convergence_target 1h || fail "config"
	ctl A status >"$WORLD/status"
	equal "exit code" $? 1
	start C
	synced A B C
	ctl A status >"$WORLD/status"
	equal "exit code" $? 0
}

try hints/handed_over handed_over
try hints/writer_is_dead writer_is_dead
try hints/expired expired
try hints/too_much too_much
try hints/silent silent
finish
