#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# What waits and what does not: a file that stays open is sealed every
# seal_interval; content that has not arrived is an error at once where nobody
# who has it can be reached, and arrives later.
. "$(dirname "$0")/../lib/evfs.sh"

new_world A B

stays_open() {
	ctl A config set seal_interval 1s || fail "config"
	exec 9>"$(mnt A)/held"
	echo first >&9
	until_true 30 eval "[ \"\$(cat '$(mnt B)/held' 2>/dev/null)\" = first ]"
	echo second >&9
	until_true 30 eval "[ \"\$(tail -n 1 '$(mnt B)/held')\" = second ]"
	exec 9>&-
	synced A B
	same_trees A B
}

not_arrived() {
	local before
	ctl B config set bandwidth_down 20000 || fail "config"
	head -c 8000000 /dev/urandom >"$(mnt A)/slow"
	until_true 60 test -e "$(mnt B)/slow"
	equal size "$(stat -c %s "$(mnt B)/slow")" 8000000
	ctl B status --json | grep -q '"missing": 0' && fail "it is there already"
	kill9 A
	until_true 30 eval "! ctl B status --json | grep -q '\"connected\": true'"
	before=$SECONDS
	cat "$(mnt B)/slow" >/dev/null 2>"$WORLD/err" && fail "it is there"
	grep -q 'No route to host' "$WORLD/err" || fail "$(cat "$WORLD/err")"
	[ $((SECONDS - before)) -le 5 ] || fail "that took $((SECONDS - before)) s"
	ctl B config set bandwidth_down 0
	start A
	synced A B
	same_trees A B
}

# A reader who waits for content can be interrupted.
interrupted() {
	ctl B config set bandwidth_down 20000 || fail "config"
	head -c 8000000 /dev/urandom >"$(mnt A)/slower"
	until_true 60 test -e "$(mnt B)/slower"
	timeout -s INT 2 cat "$(mnt B)/slower" >/dev/null
	equal "exit code" $? 124
	echo beside >"$(mnt B)/beside" || fail "the mount hangs"
	ctl B config set bandwidth_down 0
	synced A B
	same_trees A B
}

# Many who wait hold up nobody else, short as their requests are.
others_served() {
	local i
	ctl B config set bandwidth_down 20000 || fail "config"
	head -c 8000000 /dev/urandom >"$(mnt A)/slowest"
	until_true 60 test -e "$(mnt B)/slowest"
	for i in $(seq 20); do
		dd if="$(mnt B)/slowest" iflag=direct bs=4k count=1 \
			skip=$((1000 + i)) of=/dev/null 2>>"$WORLD/readers" &
	done
	timeout 20 sh -c "echo 1 >'$(mnt B)/served'; ls '$(mnt B)' &&
		cat '$(mnt B)/served' && mv '$(mnt B)/served' '$(mnt B)/moved'" \
		>/dev/null || fail "others wait, too"
	equal "readers that wait" "$(jobs -r | grep -c 'dd if')" 20
	ctl B config set bandwidth_down 0
	wait
	equal "blocks read" "$(grep -c '^1+0 records out' "$WORLD/readers")" 20
	synced A B
	same_trees A B
}

try waiting/stays_open stays_open
try waiting/not_arrived not_arrived
try waiting/interrupted interrupted
try waiting/others_served others_served
try waiting/logs check_logs A B
finish
