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

options=
[ "$(id -u)" != 0 ] || options="-o allow_other"
new_world A B
m=$(mnt A)
backing 512

again() { # what is on disk, seen by another daemon
	stop A && start A $options
}

# All that stat(2) tells, but the times of reading and the sizes of directories
tree() { # DIR
	(cd "$1" && find . -printf '%P %y %m %U:%G %n %l %T@ %i\n' | sort)
}

compare() {
	local i
	for i in $(seq "$LONG"); do
		rm -rf "$WORLD/backing/compare" "$m/compare"
		mkdir "$WORLD/backing/compare" "$m/compare"
		"$posix/compare" -s $((SEED + i)) -n 6000 \
			"$WORLD/backing/compare" "$m/compare" ||
			fail "seed $((SEED + i))"
	done
	tree "$m/compare" >"$WORLD/before"
	again
	"$posix/compare" -w "$WORLD/backing/compare" "$m/compare" ||
		fail "after a new mount: seed $((SEED + i))"
	tree "$m/compare" | diff "$WORLD/before" - | head -n 10 | grep . &&
		fail "a new mount shows something else: seed $((SEED + i))"
	return 0
}

like_models() { # SEED...
	local i
	again
	for i; do
		cmp "$WORLD/model.$i" "$m/data.$i" ||
			fail "after a new mount: seed $i"
		rm "$WORLD/model.$i" "$m/data.$i"
	done
}

data() { # sealed every second while it is written
	local i seeds
	seeds=$(seq $((SEED + 1)) $((SEED + 3 * LONG)))
	evfsctl -s "$(store A)" config set seal_interval 1s
	for i in $seeds; do
		"$posix/data" -s "$i" -n 2000 -m $((65536 << i % 8)) \
			-k "$WORLD/model.$i" "$m" || fail "seed $i"
	done
	like_models $seeds
	evfsctl -s "$(store A)" config set seal_interval 30s
}

# Closed by another process all the time: each time what is there is frozen and
# sealed, while the writer goes on over it.
sealing() {
	local i seeds closer
	seeds=$(seq $((SEED + 101)) $((SEED + 100 + 3 * LONG)))
	for i in $seeds; do
		python3 - "$m/data.$i" <<-'PY' &
		import os, sys, time
		while not os.path.exists(sys.argv[1]):
		    time.sleep(0.01)
		while os.getppid() != 1:
		    os.close(os.open(sys.argv[1], os.O_WRONLY))
		PY
		closer=$!
		"$posix/data" -s "$i" -n 1000 -m $((4 << 20 << i % 4)) \
			-k "$WORLD/model.$i" "$m" || fail "seed $i"
		kill $closer
		wait $closer || :
	done
	like_models $seeds
	[ -z "$(ls "$(store A)/work")" ] || fail "working copies are left"
}

locks() {
	mkdir -p "$WORLD/backing/locks" "$m/locks"
	python3 "$(dirname "$0")/../posix/locks.py" "$WORLD/backing/locks" >"$WORLD/wanted" &&
		python3 "$(dirname "$0")/../posix/locks.py" "$m/locks" >"$WORLD/got" ||
		fail "no result"
	diff "$WORLD/wanted" "$WORLD/got" || fail "differs from the disk's file system"
}

blocks() { # FILE: KiB on the disk, of a file of any name
	echo $(($(stat -c %b "$1") / 2))
}

at_most() { # WHAT KIB FILE
	[ "$(blocks "$3")" -le "$2" ] || fail "$1: $(blocks "$3") KiB"
}

sparse() { # open and dirty, sealed, copied, on the other replica
	local f=$m/sparse
	truncate -s 1G "$f"
	at_most "a file of one hole" 0 "$f"
	dd if=/dev/urandom of="$f" bs=64K seek=8000 count=1 conv=notrunc status=none
	exec 3<>"$f"
	printf x >&3
	at_most "open" 2048 "$f"
	exec 3>&-
	sync "$f"
	[ "$(blocks "$f")" -ge 64 ] || fail "its data: $(blocks "$f") KiB"
	at_most "sealed" 2048 "$f"
	cp "$f" "$f.copy"
	at_most "copied" 2048 "$f.copy"
	sync "$f.copy"
	cmp "$f" "$f.copy" || fail "the copy differs"
	rm -f "$f.copy"
	dd if=/dev/urandom of="$f.full" bs=1M count=4 status=none
	sync "$f.full"
	[ "$(blocks "$f.full")" -ge 4096 ] || fail "a full file: $(blocks "$f.full") KiB"
	synced A B
	at_most "on the other replica" 2048 "$(mnt B)/sparse"
	cmp "$f" "$(mnt B)/sparse" || fail "the other replica differs"
	again
	at_most "after a new mount" 2048 "$f"
	rm -f "$f" "$f.full"
}

streams() {
	local i
	mkdir "$m/streams"
	for i in $(seq "$LONG"); do
		"$posix/streams" -s $((SEED + i)) -n 2000 \
			-e $((LONG > 1 ? 100000 : 5000)) "$m/streams" ||
			fail "seed $((SEED + i))"
	done
}

stress() {
	local i
	for i in $(seq "$LONG"); do
		rm -rf "$m/stress"
		mkdir "$m/stress"
		"$posix/stress" -s $((SEED + i)) -n 2000 -p 6 "$m/stress" ||
			fail "seed $((SEED + i))"
	done
	again
	"$posix/stress" -c -s $((SEED + i)) -n 2000 -p 6 "$m/stress" ||
		fail "after a new mount: seed $((SEED + i))"
	evfsctl -s "$(store A)" verify >"$WORLD/verify" 2>&1 ||
		fail "verify: $(tail -n 3 "$WORLD/verify")"
	synced A B
	"$posix/stress" -c -s $((SEED + i)) -n 2000 -p 6 "$(mnt B)/stress" ||
		fail "on the other replica: seed $((SEED + i))"
	DIR_TIMES=no same_trees A B # B learns of a removal, not of its moment
	same_dumps A B
	[ -z "$(ls "$(store A)/work")" ] || fail "working copies are left"
	[ "$(evfsctl -s "$(store A)" conflicts --json | tr -d ' \n')" != "" ] ||
		fail conflicts
}

say "seed $SEED"
for t in compare data locks sealing sparse streams stress; do
	try "exercise/$t" "$t"
done
finish
