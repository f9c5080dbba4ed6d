#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Who a replica is: a store that was restored in place heals by itself, a copy
# that runs beside its original is refused, a removed member is told and stays
# out, and comes back with what it holds.
. "$(dirname "$0")/../lib/evfs.sh"

new_world A B C

is_audited() { ctl "$1" status --json | grep -q '"auditing": false'; }

# An older copy of the store comes back in place, by the hand of cp -a, and
# works on before a member tells it.
restored() {
	echo kept >"$(mnt B)/kept"
	echo old >"$(mnt B)/gone"
	synced A B C
	stop B
	cp -a "$(store B)" "$WORLD/backup"
	start B
	echo lost >"$(mnt B)/made-after"
	rm "$(mnt A)/gone"
	synced A B C
	stop B
	cp -a "$WORLD/backup/." "$(store B)/"
	start B
	grep -q 'another life' "$WORLD/B.log" || fail "nobody noticed"
	echo new >"$(mnt B)/made-alone"
	synced A B C
	same_trees A B C
	same_dumps A B C
	equal kept "$(cat "$(mnt B)/kept")" kept
	equal made-after "$(cat "$(mnt B)/made-after")" lost
	equal made-alone "$(cat "$(mnt A)/made-alone")" new
	[ ! -e "$(mnt B)/gone" ] || fail "what was removed is back"
	equal auditing "$(ctl B status --json |
		grep -c '"auditing": true')" 0
}

# The same while it is not noticed at the start, and with more changes made
# alone than were lost: the members tell by the runs that they have met.
restored_unnoticed() {
	local i
	rm -rf "$WORLD/backup"
	stop B
	cp -a "$(store B)" "$WORLD/backup"
	start B
	echo lost >"$(mnt B)/met"
	synced A B C
	stop B
	cp -a "$WORLD/backup/." "$(store B)/"
	rm -f "$(store B)/closed"
	: >"$WORLD/B.log"
	ctl A pause && ctl C pause || fail "pause"
	start B
	for i in $(seq 30); do echo "alone $i" >"$(mnt B)/alone-$i"; done
	ctl A resume && ctl C resume || fail "resume"
	synced A B C
	grep -q 'lost memory' "$WORLD/B.log" || fail "no member told"
	same_trees A B C
	equal met "$(cat "$(mnt B)/met")" lost
	for i in $(seq 30); do
		equal "alone-$i" "$(cat "$(mnt C)/alone-$i")" "alone $i"
	done
}

# A copy of a store that runs at the same time: on this store, and (without the
# listener, which would be in the way here) as on another machine.
copied() {
	cp -a "$(store B)" "$(store copy)"
	rm -f "$(store copy)/control.sock"
	evfs -f "$(store B)" "$WORLD" 2>"$WORLD/err" && fail "two daemons"
	grep -q 'in use' "$WORLD/err" || fail "$(cat "$WORLD/err")"
	python3 -c 'import sqlite3, sys
with sqlite3.connect(sys.argv[1]) as db:
    db.execute("DELETE FROM state WHERE key = \"listen\"")' \
		"$(store copy)/meta.db" || fail "sqlite3"
	start copy
	until_true 60 eval "ctl copy status | grep -q 'two daemons'"
	echo there >"$(mnt copy)/there"
	echo here >"$(mnt B)/here"
	until_true 60 test -e "$(mnt A)/here"
	stop copy
	[ ! -e "$(mnt A)/there" ] || fail "a copy's work got in"
	synced A B C
	same_trees A B C
}

# Removed, told, kept out; later, when nobody remembers any more what was removed
# meanwhile, it joins again with what it made alone. Nothing of what was removed
# comes back, but what it has changed or filled.
removed() {
	local token a=$(mnt A) c=$(mnt C) name
	mkdir "$a/empty" "$a/filled"
	for name in kept touched edited moved empty/1 filled/1; do
		echo "$name" >"$a/$name"
	done
	synced A B C
	ctl A peer remove C || fail "remove"
	until_true 60 eval "ctl C status | grep -q 'removed from the volume'"
	synced A B
	echo alone >"$(mnt C)/made-outside"
	echo beside >"$(mnt A)/made-inside"
	echo edited-outside >"$c/edited"
	chmod 600 "$c/touched"
	mv "$c/moved" "$c/moved-outside"
	echo 2 >"$c/filled/2"
	rm -r "$a/kept" "$a/touched" "$a/edited" "$a/moved" "$a/empty" \
		"$a/filled"
	synced A B
	for name in kept touched edited moved filled/1; do
		until_true 60 eval "ctl A why /$name | grep -q 'but history'"
		until_true 60 eval "ctl B why /$name | grep -q 'but history'"
	done
	[ ! -e "$(mnt A)/made-outside" ] || fail "it is not fenced"
	[ ! -e "$(mnt C)/made-inside" ] || fail "it is still told"
	stop C
	token=$(ctl A invite) || fail "invite"
	evfsctl join "$token" "$(store C)" --name C2 \
		--listen "127.0.0.1:$(free_port)" >/dev/null || fail "join"
	start C
	synced A B C
	same_trees A B C
	equal outside "$(cat "$(mnt A)/made-outside")" alone
	equal inside "$(cat "$(mnt C)/made-inside")" beside
	equal edited "$(cat "$a/edited")" edited-outside
	equal moved "$(cat "$a/moved-outside")" moved
	equal filled "$(ls "$a/filled")" 2
	for name in kept touched moved empty; do
		[ ! -e "$c/$name" ] || fail "$name was removed, and is back"
	done
	same_dumps A B C
}

# A removed file is remembered for whoever may not have heard of it: it says for
# whom, and removing that member ends the wait.
remembered() {
	local out
	echo x >"$(mnt A)/doomed"
	synced A B C
	stop C
	rm "$(mnt A)/doomed"
	until_true 30 eval "[ ! -e '$(mnt B)/doomed' ]"
	until_true 60 eval "ctl A why /doomed 2>/dev/null |
		grep -q 'kept until these members have heard of it: C$'"
	until_true 60 eval "ctl A status | grep -q 'kept for C'"
	start C
	synced A B C
	until_true 60 eval "ctl A why /doomed |
		grep -q 'every member has heard of it'"
	out=$(ctl A why /never-was 2>&1) && fail "$out"
	true
}

try identity/restored restored
try identity/restored_unnoticed restored_unnoticed
try identity/copied copied
try identity/remembered remembered
try identity/removed removed
finish
