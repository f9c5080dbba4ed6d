#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Quorums and read repair between real daemons: fsync(2) waits for so many
# holders, whichever they are, and says so when they are not there; open(2) asks
# others first; bytes that rotted on a disk never reach a reader.
. "$(dirname "$0")/../lib/evfs.sh"

new_world A B C
synced A B C

# fsync_file PATH TEXT: writes it and waits for the disk; the errno's name, or
# "done", and the milliseconds that the fsync took
fsync_file() {
	timeout 60 python3 - "$1" "$2" <<'PY'
import errno, os, sys, time
fd = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o644)
os.write(fd, sys.argv[2].encode())
start = time.monotonic()
try:
    os.fsync(fd)
    what = 'done'
except OSError as e:
    what = errno.errorcode[e.errno]
print(what, int((time.monotonic() - start) * 1000))
PY
}

status_of() { # NAME FIELD...: a value of status --json
	local name=$1
	shift
	ctl "$name" status --json | python3 -c 'import json, sys
value = json.load(sys.stdin)
for key in sys.argv[1:]:
    value = value[int(key)] if key.isdigit() else value[key]
print(json.dumps(value))' "$@"
}

# is_connected NAME PEER
is_connected() {
	ctl "$1" status --json | python3 -c 'import json, sys
sys.exit(0 if any(p["name"] == sys.argv[1] and p["connected"]
                  for p in json.load(sys.stdin)["peers"]) else 1)' "$2"
}

all_hold() {
	local out
	ctl A config set write_quorum 3 || fail "config"
	ctl A config set quorum_timeout 60s || fail "config"
	out=$(fsync_file "$(mnt A)/three" "in all three")
	equal fsync "${out% *}" "done"
	# two of three will not do
	kill -STOP "$(pid_of C)"
	(fsync_file "$(mnt A)/two" "in two" >"$WORLD/two") &
	until_true 30 eval "[ \"\$(cat '$(mnt B)/two' 2>/dev/null)\" = 'in two' ]"
	until_true 30 eval "[ \"\$(status_of A volume only_here)\" = 0 ]"
	[ -s "$WORLD/two" ] && fail "it did not wait for C"
	kill -CONT "$(pid_of C)"
	wait $!
	equal fsync "$(cut -d' ' -f1 "$WORLD/two")" "done"
	# no other way round: what was confirmed is there when A is gone
	kill9 A
	until_true 10 eval "[ \"\$(cat '$(mnt B)/three')\" = 'in all three' ]"
	until_true 10 eval "[ \"\$(cat '$(mnt C)/three')\" = 'in all three' ]"
	start A
	ctl A config set write_quorum 1 || fail "config"
	ctl A config set quorum_timeout 5s || fail "config"
	synced A B C
}

# Sloppy: any one of the others will do.
one_is_dead() {
	local out
	ctl A config set write_quorum 2 || fail "config"
	kill9 B
	out=$(fsync_file "$(mnt A)/sloppy" "held by C")
	equal fsync "${out% *}" "done"
	start B
	synced A B C
}

both_are_dead() {
	local out ms
	ctl A config set write_quorum 2 || fail "config"
	ctl A config set quorum_timeout 1500ms || fail "config"
	kill9 B
	kill9 C
	out=$(fsync_file "$(mnt A)/lonely" "kept")
	ms=${out#* }
	equal fsync "${out% *}" ETIMEDOUT
	[ "$ms" -ge 1400 ] && [ "$ms" -le 4000 ] || fail "after $ms ms"
	equal content "$(cat "$(mnt A)/lonely")" kept
	grep -q 'write quorum: 1 of 2 replicas hold it' "$WORLD/A.log" ||
		fail "the log does not say so"
	equal failed "$(status_of A quorum write_failed)" 1
	# while one waits, others work
	(fsync_file "$(mnt A)/waits" x >"$WORLD/waits") &
	local start_s=$SECONDS
	echo beside >"$(mnt A)/beside" && cat "$(mnt A)/beside" >/dev/null
	[ $((SECONDS - start_s)) -le 1 ] || fail "others wait, too"
	wait $!
	start B
	start C
	until_true 30 eval "[ \"\$(cat '$(mnt B)/lonely' 2>/dev/null)\" = kept ]"
	synced A B C
	out=$(fsync_file "$(mnt A)/again" "with company")
	equal fsync "${out% *}" "done"
	ctl A config set write_quorum 1 || fail "config"
}

of_this_mount() {
	local out
	stop A
	start A -o write_quorum=2
	stop B
	stop C
	ctl A config set quorum_timeout 1s || fail "config"
	out=$(fsync_file "$(mnt A)/mount" "option")
	equal fsync "${out% *}" ETIMEDOUT
	evfs -o write_quorum=no "$(store A)" "$(mnt A)" 2>"$WORLD/err"
	equal "exit code" $? 2
	grep -q "write_quorum: 'no' is not a number" "$WORLD/err" ||
		fail "$(cat "$WORLD/err")"
	start B
	start C
	stop A
	start A
	out=$(fsync_file "$(mnt A)/mount" "none")
	equal fsync "${out% *}" "done"
	synced A B C
	same_trees A B C
}

# A signal, a pause and the end of the daemon end the wait.
ends_early() {
	local out pid
	ctl A config set write_quorum 4 || fail "config"
	ctl A config set quorum_timeout 60s || fail "config"
	python3 - "$(mnt A)/signal" <<'PY' || fail "the signal did not end it"
import os, signal, sys, time
def stop(*_):
    raise KeyboardInterrupt
signal.signal(signal.SIGALRM, stop)
fd = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY, 0o644)
os.write(fd, b'x')
signal.setitimer(signal.ITIMER_REAL, 0.5)
start = time.monotonic()
try:
    os.fsync(fd)
except KeyboardInterrupt:
    pass
sys.exit(0 if time.monotonic() - start < 5 else 1)
PY
	(fsync_file "$(mnt A)/pause" x >"$WORLD/paused") &
	pid=$!
	until_true 10 eval "[ \"\$(status_of A quorum write_waits)\" -ge 2 ]"
	ctl A pause || fail "pause"
	wait $pid
	equal fsync "$(cut -d' ' -f1 "$WORLD/paused")" EHOSTUNREACH
	ctl A resume || fail "resume"
	until_true 30 is_connected A B
	until_true 30 is_connected A C
	(fsync_file "$(mnt A)/end" x >"$WORLD/ended") &
	pid=$!
	until_true 10 eval "[ \"\$(status_of A quorum write_waits)\" -ge 3 ]"
	kill -TERM "$(pid_of A)"
	wait $pid
	equal fsync "$(cut -d' ' -f1 "$WORLD/ended")" EHOSTUNREACH
	wait_end "$(pid_of A)"
	start A
	ctl A config set write_quorum 1 || fail "config"
	ctl A config set quorum_timeout 5s || fail "config"
	synced A B C
}

# With nothing but comparisons at open: a newer state comes before the bytes.
read_first() {
	local name
	for name in older again sloppy; do
		echo "as it was" >"$(mnt A)/$name"
	done
	synced A B C
	for name in A B C; do
		stop $name
	done
	export EVFS_LAYERS=read_repair
	start A
	start B -o read_quorum=2
	until_true 30 is_connected B A
	equal before "$(cat "$(mnt B)/older")" "as it was"
	fsync_file "$(mnt A)/older" newer >/dev/null
	equal after "$(cat "$(mnt B)/older")" newer
	# the other way round: B's own news reach A by B's next look
	fsync_file "$(mnt B)/again" "of B" >/dev/null
	until_true 10 eval "cat '$(mnt B)/again' >/dev/null;
		[ \"\$(cat '$(mnt A)/again')\" = 'of B' ]"
	[ "$(status_of B read_repair repaired)" -ge 1 ] || fail "not counted"
	stop A
	ctl B config set quorum_timeout 1s
	cat "$(mnt B)/older" 2>"$WORLD/err" && fail "nobody was asked"
	grep -q 'timed out' "$WORLD/err" || fail "$(cat "$WORLD/err")"
	stop B
}

# In the background: the first reader sees the old bytes, a later one the new.
read_by_chance() {
	start A
	start B
	ctl B config set read_repair_chance 1 || fail "config"
	until_true 30 is_connected B A
	fsync_file "$(mnt A)/sloppy" "by chance" >/dev/null
	cat "$(mnt B)/sloppy" >/dev/null
	until_true 20 eval "[ \"\$(cat '$(mnt B)/sloppy')\" = 'by chance' ]"
	[ "$(status_of B read_repair checks)" -ge 1 ] || fail "not counted"
	stop A
	stop B
	unset EVFS_LAYERS
	start A
	start B
	start C
	ctl B config set read_repair_chance 0.1 || fail "config"
	ctl B config set quorum_timeout 5s || fail "config"
	synced A B C
	same_trees A B C
}

# rot NAME TEXT: flips the bytes of a content in the store's containers
rot() {
	python3 - "$(store "$1")" "$2" <<'PY'
import glob, sys
wanted, found = sys.argv[2].encode(), 0
for path in glob.glob(sys.argv[1] + '/segments/*') + glob.glob(sys.argv[1] + '/blobs/*'):
    with open(path, 'r+b') as f:
        data = f.read()
        at = data.find(wanted)
        while at >= 0:
            f.seek(at)
            f.write(bytes(b ^ 0xff for b in wanted))
            found += 1
            at = data.find(wanted, at + 1)
sys.exit(0 if found else 1)
PY
}

drop_caches() { # of a mount's pages: remounting is the sure way
	stop "$1"
	start "$1"
}

damaged() {
	local sum text
	python3 -c 'import random, sys
r = random.Random(7)
data = bytearray(r.randbytes(3000000))
data[1500000:1500016] = b"here it will rot"
sys.stdout.buffer.write(data)' >"$(mnt A)/big"
	echo "small and rotten" >"$(mnt A)/small"
	synced A B C
	sum=$(sha256sum <"$(mnt A)/big")
	# while it runs, never read before
	rot B "here it will rot" || fail "not found"
	equal big "$(sha256sum <"$(mnt B)/big")" "$sum"
	until_true 10 eval "[ \"\$(status_of B content corrupt)\" = 0 ]"
	# while it is stopped
	stop B
	rot B "small and rotten" || fail "not found"
	rot B "here it will rot" || fail "not found"
	start B
	equal small "$(cat "$(mnt B)/small")" "small and rotten"
	equal big "$(sha256sum <"$(mnt B)/big")" "$sum"
	# a writer in the middle of it
	drop_caches B
	rot B "here it will rot" || fail "not found"
	printf X | dd of="$(mnt B)/big" bs=1 seek=1500100 conv=notrunc 2>/dev/null
	synced A B C
	same_trees A B C
	# an old version, of which every replica has its own history
	python3 -c 'import os, sys
os.write(1, b"old and rotten " + bytes(5000))' >"$(mnt A)/past"
	synced A B C
	echo new >"$(mnt A)/past"
	synced A B C
	drop_caches B
	rot B "old and rotten" || fail "not found"
	equal past "$(head -c 14 "$(mnt B)"/.evfs/history/past/*Z-* |
		grep -c "old and rotten")" 1
	# nobody has it: an error, no wrong bytes
	drop_caches B
	kill9 A
	kill9 C
	rot B "small and rotten" || fail "not found"
	cat "$(mnt B)/small" 2>"$WORLD/err" && fail "what was that"
	start A
	start C
	synced A B C
	equal small "$(cat "$(mnt B)/small")" "small and rotten"
}

try quorum/all_hold all_hold
try quorum/one_is_dead one_is_dead
try quorum/both_are_dead both_are_dead
try quorum/of_this_mount of_this_mount
try quorum/ends_early ends_early
try quorum/read_first read_first
try quorum/read_by_chance read_by_chance
try quorum/damaged damaged
finish
