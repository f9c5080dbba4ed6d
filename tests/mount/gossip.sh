#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# What members know of each other: B and D listen, A, C and E do not; so A and
# C meet only through B and D. Deaths, returns, new addresses, a daemon that was
# asleep, a member that is removed.
. "$(dirname "$0")/../lib/evfs.sh"

# join_volume NAME [OPTION...]: a replica of B's volume; its daemon is started
join_volume() {
	local name=$1 token
	shift
	token=$(ctl B invite) || fail "invite"
	evfsctl join "$token" "$(store "$name")" --name "$name" "$@" >/dev/null ||
		fail "join"
	start "$name"
	ctl "$name" config set gossip_interval 200ms || fail "config"
}

evfsctl init "$(store B)" --name B --listen "127.0.0.1:$(free_port)" >/dev/null
start B
ctl B config set gossip_interval 200ms
join_volume A
join_volume C
join_volume D --listen "127.0.0.1:$(free_port)"
join_volume E

# peer AT OF FIELD: of the status of a member, as AT sees it
peer() {
	ctl "$1" status --json | python3 -c '
import json, sys
for peer in json.load(sys.stdin)["peers"]:
    if peer["name"] == sys.argv[1]:
        print(json.dumps(peer[sys.argv[2]]).strip("\""))' "$2" "$3"
}
is() { [ "$(peer "$1" "$2" "$3")" = "$4" ]; } # AT OF FIELD VALUE

relayed() {
	echo from C >"$(mnt C)/c"
	echo from A >"$(mnt A)/a"
	head -c 3000000 /dev/urandom >"$(mnt E)/e"
	synced A B C D E
	same_trees A B C D E
	same_dumps A B C D E
	equal connected "$(peer A C connected)" false
	equal state "$(peer A C state)" alive
	equal "in sync" "$(peer A C in_sync)" true
	equal root "$(peer A C root_hash)" "$(peer A B root_hash)"
	equal behind "$(peer A C behind_changes)" 0
	case $(peer A C heard_via) in
	B | D | E) ;;
	*) fail "heard via $(peer A C heard_via)" ;;
	esac
	ctl A status | grep -q 'not connected; last heard via' ||
		fail "the table does not say so"
	equal "heard via" "$(peer B C heard_via)" null
}

# A second change of C is missed by A while nobody passes it on.
truthful() {
	local at
	for at in B D; do ctl "$at" pause; done
	until_true 60 is A C state dead
	echo more >"$(mnt C)/more"
	[ "$(peer A C in_sync)" = false ] || fail "in sync with a dead one"
	ctl A status --wait --timeout 1s >/dev/null 2>&1 && fail "converged"
	for at in B D; do ctl "$at" resume; done
	until_true 60 is A C state alive
	synced A B C D E
	equal content "$(cat "$(mnt A)/more")" more
}

killed() {
	local at start=$SECONDS
	kill9 D
	for at in A B C E; do
		until_true 20 eval "! is $at D state alive"
		until_true 40 is $at D state dead
	done
	say "dead for all after $((SECONDS - start)) s"
	for at in B C E; do
		is A $at state alive || fail "A takes $at for $(peer A $at state)"
	done
	start D
	for at in A B C E; do
		until_true 60 is $at D state alive
		until_true 60 is $at D connected true
	done
	synced A B C D E
}

# One that is known by hearsay alone.
killed_afar() {
	kill9 C
	until_true 40 is A C state dead
	is A D state alive || fail "A takes D for $(peer A D state)"
	start C
	until_true 60 is A C state alive
	is A C connected false || fail "how did they connect?"
	synced A B C D E
}

moved() {
	local port
	port=$(free_port)
	stop D
	start D -o "listen=127.0.0.1:$port"
	for at in A B C E; do
		until_true 60 is $at D address "127.0.0.1:$port"
		until_true 60 is $at D connected true
	done
	synced A B C D E
}

# Stopped, and woken up again: it was not the others who were dead.
asleep() {
	local lines
	lines=$(wc -l <"$WORLD/A.log")
	kill -STOP "$(pid_of A)"
	until_true 60 is B A state dead
	kill -CONT "$(pid_of A)"
	until_true 60 is B A state alive
	synced A B C D E
	tail -n "+$((lines + 1))" "$WORLD/A.log" |
		grep -E 'member is (suspect|dead)' && fail "A blames others"
	return 0
}

removed() {
	local at
	ctl A peer remove E || fail "remove"
	for at in A B C D; do
		until_true 30 eval "[ -z \"\$(peer $at E state)\" ]"
	done
	stop E
	start E
	echo outside >"$(mnt E)/outside"
	synced A B C D
	for at in A B C D; do
		[ -z "$(peer $at E state)" ] || fail "$at knows E again"
		[ ! -e "$(mnt $at)/outside" ] || fail "$at has what E wrote"
	done
}

metrics() {
	ctl A metrics >"$WORLD/metrics" || fail metrics
	grep -q '^evfs_gossip_rounds_total [1-9]' "$WORLD/metrics" || fail rounds
	grep -q '^evfs_gossip_bytes_total [1-9]' "$WORLD/metrics" || fail bytes
	grep -q '^evfs_peer_alive{peer="C"} 1' "$WORLD/metrics" || fail alive
}

try gossip/relayed relayed
try gossip/truthful truthful
try gossip/killed killed
try gossip/killed_afar killed_afar
try gossip/moved moved
try gossip/asleep asleep
try gossip/metrics metrics
try gossip/removed removed
try gossip/logs check_logs A B C D
finish
