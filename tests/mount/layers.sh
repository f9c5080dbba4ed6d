#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Each layer of convergence with all the others off, between two daemons: it
# alone brings both to equal roots, where there were different ones. (Audits
# alone: audit.sh.)
. "$(dirname "$0")/../lib/evfs.sh"

new_world A B
a=$(mnt A) b=$(mnt B)

status_of() { # NAME EXPRESSION: of status, as s; of the other member, as peer
	ctl "$1" status --json | python3 -c \
		"import json, sys
s = json.load(sys.stdin)
peer = s['peers'][0]
print($2)"
}
root_of() { status_of "$1" 's["volume"]["root_hash"]'; }
same_roots() { [ "$(root_of A)" = "$(root_of B)" ]; }
connected() { [ "$(status_of A 'peer["connected"]')" = True ]; }
# All that A has is on its disk: what it says of itself is what others see.
has_changes() { # NAME N
	[ "$(status_of "$1" 'peer["behind_changes"]')" -ge "$2" ]
}

# alone LAYER: both with nothing but that. Audits would find what is left, but
# not before an hour.
alone() {
	local name
	for name in A B; do
		ctl $name config set anti_entropy_interval 1h || fail "config"
		ctl $name config set read_repair_chance 0 || fail "config"
		stop $name
	done
	export EVFS_LAYERS=$1
	start A
	start B
	until_true 30 connected
}
back_to_all() {
	stop A
	stop B
	unset EVFS_LAYERS
	start A
	start B
	synced A B
	same_trees A B
	same_dumps A B
}

# edits NAME DIR FIRST LAST [keep]: new contents, a mode, a name; a removal
edits() {
	local top=$(mnt "$1")/$2 i
	for i in $(seq "$3" "$4"); do
		echo "by $1: $i" >"$top/$i" || fail "write"
	done
	chmod 600 "$top/$3"
	mv "$top/$(($3 + 1))" "$top/$(($3 + 1)).moved"
	[ "${5:-}" = keep ] || rm "$top/$(($3 + 2))"
}

files() { # DIR: 40 of them, on both sides
	local i
	mkdir "$a/$1"
	for i in $(seq 40); do
		echo "old $i" >"$a/$1/$i"
	done
	synced A B
	same_roots || fail "different at the beginning"
}

push_alone() {
	files push
	alone push
	edits A push 1 10
	edits B push 11 20
	until_true 30 eval '[ "$(cat "$b/push/10")" = "by A: 10" ]'
	until_true 30 eval '[ "$(cat "$a/push/20")" = "by B: 20" ]'
	until_true 30 same_roots
	back_to_all
}

# Of what is written while both are connected nothing comes; what was missed
# does, at the return.
hints_alone() {
	local i
	files hints
	alone hints
	until_true 30 eval '[ "$(status_of A "peer[\"behind_changes\"]")" = 0 ]'
	stop B
	edits A hints 1 20
	for i in $(seq 800); do
		echo "$i" >"$a/hints/new$i"
	done
	until_true 30 has_changes A 800
	start B
	until_true 60 same_roots
	[ "$(status_of A 's["hints"]["delivered"]')" -ge 800 ] ||
		fail "something else brought it"
	equal "content" "$(cat "$b/hints/new800")" 800
	equal "an edit" "$(cat "$b/hints/20")" "by A: 20"
	back_to_all
}

pull_alone() {
	files pull
	alone pull
	edits A pull 1 10
	edits B pull 11 20
	until_true 60 same_roots
	equal "hints" "$(status_of A 's["hints"]["delivered"]')" 0
	equal "an edit" "$(cat "$b/pull/10")" "by A: 10"
	equal "an edit" "$(cat "$a/pull/20")" "by B: 20"
	back_to_all
}

# apart READER DIR: A and B have changed what is in it, and know it only of
# themselves. What the reader removes itself it cannot open.
apart() {
	local keep_a= keep_b=
	if [ "$1" = A ]; then keep_a=keep; else keep_b=keep; fi
	edits A "$2" 1 10 $keep_a
	edits B "$2" 11 20 $keep_b
	echo "of A" >"$a/$2/21"
	echo "of B" >"$b/$2/21"
	until_true 30 has_changes A 11
	until_true 30 has_changes B 11
	same_roots && fail "nothing differs"
	equal "names of A" "$(ls "$a/$2" | wc -l)" $((39 + ${#keep_a} / 4))
	equal "names of B" "$(ls "$b/$2" | wc -l)" $((39 + ${#keep_b} / 4))
	[ -e "$b/$2/2.moved" ] && fail "B has what A did"
	[ -e "$a/$2/12.moved" ] && fail "A has what B did"
	true
}

read_all() { # DIR: one by one, for only so many a second are compared; names
	# may go meanwhile
	local file
	for file in "$1"/*; do
		cat "$file" >/dev/null 2>&1 || true
	done
}

is_repaired() { # READER DIR REPAIRED: it alone, and all of it
	local gone=13
	[ "$1" = A ] || gone=3
	[ "$(status_of "$1" 's["read_repair"]["repaired"]')" -ge \
		$(($3 + 20)) ] || fail "something else brought it"
	equal "siblings" "$(cat "$a/$2"/21* | sort | tr '\n' ' ')" "of A of B "
	equal "an edit" "$(cat "$b/$2/10")" "by A: 10"
	equal "an edit" "$(cat "$a/$2/20")" "by B: 20"
	equal "a mode" "$(stat -c %a "$b/$2/1")" 600
	equal "a name" "$(cat "$a/$2/12.moved")" "by B: 12"
	equal "a name" "$(cat "$b/$2/2.moved")" "by A: 2"
	[ -e "$a/$2/$gone" ] && fail "what was removed is there"
	true
}

# Opening waits for another replica's answer (R = 2): the first reader sees what
# is newest, and what the reader's side alone has goes the other way.
read_repair_before() {
	local reader=$1 dir=before$1
	files $dir
	alone read_repair
	apart "$reader" $dir
	stop "$reader"
	start "$reader" -o read_quorum=2
	until_true 30 connected
	same_roots && fail "something else brought it"
	read_all "$(mnt "$reader")/$dir"
	until_true 10 same_roots
	is_repaired "$reader" $dir 0
	back_to_all
}

# In the background: whoever reads, both have it a moment later.
read_repair_by_chance() {
	local reader=$1 dir=chance$1
	files $dir
	alone read_repair
	apart "$reader" $dir
	# else only what the kernel has not cached is an occasion
	stop "$reader"
	start "$reader" -o real_opens
	until_true 30 connected
	ctl "$reader" config set read_repair_chance 1 || fail "config"
	until_true 60 eval "read_all '$(mnt "$reader")/$dir'; same_roots"
	is_repaired "$reader" $dir 0
	back_to_all
}

try layers/push_alone push_alone
try layers/hints_alone hints_alone
try layers/pull_alone pull_alone
try layers/read_repair_before_A read_repair_before A
try layers/read_repair_before_B read_repair_before B
try layers/read_repair_by_chance_A read_repair_by_chance A
try layers/read_repair_by_chance_B read_repair_by_chance B
try layers/logs check_logs A B
finish
