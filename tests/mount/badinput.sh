#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Bad input: each gets a clear message on stderr and the right exit code, and
# nothing is lost.
. "$(dirname "$0")/../lib/evfs.sh"

# refused CODE PATTERN COMMAND...: exits CODE, says PATTERN on stderr, nothing on
# stdout, in one line that starts with the program's name
refused() {
	local code=$1 pattern=$2 got
	shift 2
	"$@" >"$WORLD/out" 2>"$WORLD/err" </dev/null
	got=$?
	[ $got -eq "$code" ] || fail "$*: exit $got, not $code: $(cat "$WORLD/err")"
	grep -qE -e "$pattern" "$WORLD/err" || fail "$*: says $(cat "$WORLD/err")"
	grep -qE '^(evfs|evfsctl): ' "$WORLD/err" || fail "$*: $(cat "$WORLD/err")"
	[ ! -s "$WORLD/out" ] || fail "$*: prints on stdout: $(cat "$WORLD/out")"
}

new_world A B
echo precious >"$(mnt A)/precious"
synced A B

usage() {
	refused 2 'unknown command: frobnicate' evfsctl frobnicate
	refused 2 'a command is needed' evfsctl
	refused 2 'unknown option --frob' evfsctl init --frob x
	refused 2 '--listen .*not ADDR:PORT' evfsctl init --listen 99 "$WORLD/x"
	refused 2 '--name .*letters' evfsctl init --name 'a b' "$WORLD/x"
	refused 2 'PATH is needed' ctl A why
	refused 2 'unknown option -Z' evfs -Z a b
	refused 2 'mount point are needed' evfs onlyone
	refused 2 'too many arguments' evfs a b c
	refused 2 '--expires' ctl A invite --expires never
	refused 1 'no setting .frob., but: write_quorum' ctl A config set frob 1
	refused 1 'write_quorum' ctl A config set write_quorum many
	refused 1 'no such member' ctl A pause nobody
	refused 1 'no such member' ctl A peer remove nobody
	refused 1 'ENOENT|no such' ctl A why "$(mnt A)/nothing"
	for command in "" init invite join peer status pause resume sync conflicts \
		resolve why log restore deleted config metrics dump; do
		# shellcheck disable=SC2086
		evfsctl $command --help >"$WORLD/out" 2>&1 || fail "$command --help"
		awk 'length > 80' "$WORLD/out" | grep . && fail "$command --help: wide"
	done
	evfs --help >"$WORLD/out" || fail "evfs --help"
	awk 'length > 80' "$WORLD/out" | grep . && fail "evfs --help: wide"
	return 0
}
stores() {
	mkdir -p "$WORLD/empty" "$WORLD/foreign" "$WORLD/point"
	sqlite3 "$WORLD/foreign/meta.db" 'CREATE TABLE t(x)'
	refused 1 'No such file' evfs "$WORLD/missing" "$WORLD/point"
	refused 1 'not an evfs store' evfs "$WORLD/empty" "$WORLD/point"
	refused 1 'database of another program' evfs "$WORLD/foreign" "$WORLD/point"
	refused 1 'already|exists' evfsctl init "$(store A)"
	refused 3 'not an evfs store' evfsctl -s "$WORLD/empty" status
	refused 3 'No such file' evfsctl -s "$WORLD/missing" status
	evfsctl init "$WORLD/newer" --name N >/dev/null
	sqlite3 "$WORLD/newer/meta.db" 'PRAGMA user_version = 99' >/dev/null
	refused 1 'newer' evfs "$WORLD/newer" "$WORLD/point"
	evfsctl init "$WORLD/damaged" --name D >/dev/null
	python3 - "$WORLD/damaged/meta.db" <<-'PY'
	import sys
	with open(sys.argv[1], 'r+b') as db:
	    db.seek(100)
	    db.write(b'\xa5' * 60000)
	PY
	refused 1 'damaged|malformed|corrupt' evfs "$WORLD/damaged" "$WORLD/point"
	refused 3 'no daemon' evfsctl -s "$WORLD/newer" status
}
mount_points() {
	evfsctl init "$WORLD/other" --name O >/dev/null
	refused 1 'No such file' evfs "$WORLD/other" "$WORLD/nowhere"
	touch "$WORLD/file"
	refused 1 'not a directory' evfs "$WORLD/other" "$WORLD/file"
	refused 1 'mounted|busy|in use' evfs "$WORLD/other" "$(mnt A)"
	refused 1 'another daemon|in use|already' evfs "$(store A)" "$WORLD/point"
	equal precious "$(cat "$(mnt A)/precious")" precious
}
tokens() {
	local token
	refused 1 'not a token|token' evfsctl join garbage "$WORLD/j"
	refused 1 'token' evfsctl join evfs1:AAAA "$WORLD/j"
	token=$(ctl A invite)
	refused 1 'token' evfsctl join "${token%?????}" "$WORLD/j"
	refused 1 'already|there' evfsctl join "$token" "$(store B)"
	evfsctl join "$token" "$WORLD/j1" --name J >/dev/null || fail "good token"
	refused 1 'used|not valid|unknown' evfsctl join "$token" "$WORLD/j2"
	[ ! -e "$WORLD/j2" ] || fail "a refused join left a store"
	token=$(ctl A invite --expires 1ms)
	refused 1 'expired' evfsctl join "$token" "$WORLD/j3"
	ctl A peer remove J || fail "peer remove"
	ctl A peer list | grep -q 'J .*removed' || fail "peer list"
	evfs -f "$WORLD/j1" "$WORLD/point" >"$WORLD/j1.log" 2>&1 &
	local pid=$!
	until_true 20 mountpoint -q "$WORLD/point"
	until_true 20 eval "evfsctl -s '$WORLD/j1' status --json |
		grep -q '\"last_error\": \"'"
	[ ! -e "$WORLD/point/precious" ] || fail "a removed member gets files"
	fusermount3 -u "$WORLD/point" || umount "$WORLD/point"
	wait $pid
	ls -d "$WORLD"/*key-* 2>/dev/null | grep . && fail "key files left"
	return 0
}
network() {
	local port
	port=$(ctl A status --json | python3 -c 'import json, sys
print(json.load(sys.stdin)["node"]["address"].rsplit(":")[-1])')
	python3 - "$port" <<-'PY'
	import os, socket, sys
	port = int(sys.argv[1])
	for garbage in (b'', b'GET / HTTP/1.0\r\n\r\n', os.urandom(100000),
	                b'SSH-2.0-x\r\n' + os.urandom(5000), b'\0' * 70000):
	    for _ in range(3):
	        s = socket.create_connection(('127.0.0.1', port))
	        try:
	            s.sendall(garbage)
	            s.shutdown(socket.SHUT_WR)
	            s.settimeout(20)
	            while s.recv(65536):
	                pass
	        except OSError:
	            pass
	        s.close()
	PY
	ssh-keygen -q -t ed25519 -N '' -f "$WORLD/stranger"
	ssh -o BatchMode=yes -o StrictHostKeyChecking=no \
		-o UserKnownHostsFile=/dev/null -i "$WORLD/stranger" \
		-p "$port" evfs@127.0.0.1 true >"$WORLD/out" 2>"$WORLD/err" &&
		fail "a stranger got in"
	grep -q 'Permission denied' "$WORLD/err" || fail "$(cat "$WORLD/err")"
	ssh -o BatchMode=yes -o StrictHostKeyChecking=no \
		-o UserKnownHostsFile=/dev/null -i "$(store B)/id_ed25519" \
		-p "$port" evfs@127.0.0.1 id >"$WORLD/out" 2>"$WORLD/err" &&
		fail "a member's key runs commands"
	[ ! -s "$WORLD/out" ] || fail "a shell answered: $(cat "$WORLD/out")"
	echo still >"$(mnt A)/still"
	synced A B
	equal "after it all" "$(cat "$(mnt B)/still")" still
}
host_key() {
	# B's listener answers with another key than the one that A has pinned.
	stop B
	cp "$(store B)/id_ed25519" "$WORLD/b.key"
	ssh-keygen -q -t ed25519 -N '' -f "$WORLD/wrong"
	cp "$WORLD/wrong" "$(store B)/id_ed25519"
	(EVFS_LOG=info evfs -f "$(store B)" "$(mnt B)" >>"$WORLD/B.log" 2>&1; true) &
	until_true 30 eval "ctl A status --json | grep -q 'key' ||
		grep -q 'key' '$WORLD/B.log'"
	fusermount3 -u "$(mnt B)" 2>/dev/null || umount "$(mnt B)" 2>/dev/null
	wait
	cp "$WORLD/b.key" "$(store B)/id_ed25519"
	start B
	synced A B
}

try badinput/usage usage
try badinput/stores stores
try badinput/mount_points mount_points
try badinput/tokens tokens
try badinput/network network
try badinput/host_key host_key
finish
