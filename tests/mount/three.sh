#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Three replicas over SSH: a real tree, git, SQLite, an open reader, fresh
# caches, an outage with many changes, a writer that is off.
. "$(dirname "$0")/../lib/evfs.sh"

new_world A B C
a=$(mnt A) b=$(mnt B) c=$(mnt C)

# make_tree DIR: at least 10,000 entries of what Debian ships, with symbolic
# links, hard links, odd modes and times
make_tree() {
	mkdir -p "$1"
	cp -a /usr/include "$1/include"
	cp -a /usr/share/perl "$1/perl" 2>/dev/null
	cp -a /usr/share/zoneinfo "$1/zoneinfo" 2>/dev/null
	(cd "$1" && cp -al include/linux include-linked &&
		ln -s nowhere dangling && chmod 0750 include &&
		touch -d '1999-12-31 23:59:59.123456789' include/stdio.h &&
		mkfifo pipe && printf 'x' >"$(printf 'bad\xff\nname')")
	while [ "$(find "$1" | wc -l)" -lt 10000 ]; do
		cp -a /usr/share/doc "$1/doc-$RANDOM"
	done
}

real_tree() {
	make_tree "$WORLD/tree"
	cp -a "$WORLD/tree" "$a/tree" || fail "cp"
	synced A B C
	manifest "$WORLD/tree" >"$WORLD/want"
	contents "$WORLD/tree" >"$WORLD/want.contents"
	[ "$(wc -l <"$WORLD/want")" -ge 9999 ] || fail "the tree is too small"
	for on in "$a" "$b" "$c"; do
		manifest "$on/tree" | diff "$WORLD/want" - | head | grep . &&
			fail "$on/tree differs"
		contents "$on/tree" | diff "$WORLD/want.contents" - | head |
			grep . && fail "contents of $on/tree differ"
	done
	same_dumps A B C
}

git_build() {
	local source=${EVFS_SOURCE:?} i
	git clone -q --no-hardlinks "$source" "$a/clone" || fail clone
	(cd "$a/clone" && autoreconf -i >/dev/null 2>&1 &&
		./configure >/dev/null 2>&1 && make -j2 libbase.la >/dev/null 2>&1) ||
		fail "build in the mount"
	synced A B C
	for i in "$b" "$c"; do
		git -c safe.directory='*' -C "$i/clone" fsck --strict >/dev/null 2>&1 ||
			fail "git fsck in $i"
		git -c safe.directory='*' -C "$i/clone" status --porcelain |
			grep '^.M' && fail "git status in $i"
	done
	synced A B C # git status writes the index anew
	same_trees A B C
}

sqlite_db() { # MODE
	local db=db-$1.sqlite i
	for i in 1 2 3; do
		sqlite3 "$a/$db" "PRAGMA journal_mode=$1;
			CREATE TABLE IF NOT EXISTS t(x);
			BEGIN; WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL
			SELECT i+1 FROM n WHERE i<2000) INSERT INTO t
			SELECT hex(randomblob(40)) FROM n; COMMIT;" >/dev/null ||
			fail "sqlite on A"
		synced A B C
		for on in "$b" "$c"; do
			equal "rows on $on" "$(sqlite3 "$on/$db" \
				'PRAGMA integrity_check; SELECT count(*) FROM t' |
				tr '\n' ' ')" "ok $((i * 2000)) "
		done
		synced A B C
	done
}

open_reader() {
	echo old >"$a/reader"
	synced A B
	exec 7<"$b/reader"
	cat "$b/reader" >/dev/null
	echo 'new and longer' >"$a/reader"
	synced A B
	equal "through the open descriptor" "$(cat <&7)" old
	exec 7<&-
	equal "opened again" "$(cat "$b/reader")" 'new and longer'
	equal "size" "$(stat -c %s "$b/reader")" 15
}

write_through_old_handle() {
	echo base >"$a/raced"
	synced A B C
	exec 8>>"$b/raced"
	echo remote >"$a/raced"
	synced A B
	echo appended >&8
	exec 8>&-
	synced A B C
	same_trees A B C
	equal "contents" "$(sort "$c"/raced* | tr '\n' ' ')" "appended base remote "
	rm "$c"/raced.conflict-* && synced A B C
}

fresh_caches() {
	local i
	mkdir "$a/cache" && synced A B
	for i in 1 2 3 4 5; do
		[ ! -e "$b/cache/f$i" ] || fail "f$i is there already"
		ls "$b/cache" >/dev/null
		echo "$i" >"$a/cache/f$i"
		synced A B
		equal "content" "$(cat "$b/cache/f$i")" "$i"
		ls "$b/cache" | grep -qx "f$i" || fail "f$i is not listed"
		echo "$i$i$i" >"$a/cache/f$i"
		synced A B
		equal "new content" "$(cat "$b/cache/f$i")" "$i$i$i"
		equal "new size" "$(stat -c %s "$b/cache/f$i")" 4
		mv "$a/cache/f$i" "$a/cache/g$i"
		synced A B
		[ ! -e "$b/cache/f$i" ] || fail "the old name f$i is there"
		equal "moved" "$(cat "$b/cache/g$i")" "$i$i$i"
		chmod 640 "$a/cache/g$i" && synced A B
		equal "mode" "$(stat -c %a "$b/cache/g$i")" 640
		rm "$a/cache/g$i"
		synced A B
		[ ! -e "$b/cache/g$i" ] || fail "g$i was removed"
		[ -z "$(ls "$b/cache")" ] || fail "listing is old"
	done
}

# The kernel has its own times of what it has: it must give up the file, under
# every name, and every version of it.
times_of_siblings() {
	local when=981173106 name
	mkdir "$a/times" && echo x >"$a/times/f" && ln "$a/times/f" "$a/times/g"
	synced A B
	ctl B pause || fail "pause"
	echo of-a >"$a/times/f"
	echo of-b >"$b/times/f"
	ctl B resume || fail "resume"
	synced A B
	find "$b/times" -ls >/dev/null
	touch -d "@$when" "$a/times/f"
	synced A B
	[ "$(ls "$b/times" | wc -l)" = 3 ] || fail "$(ls "$b/times")"
	find "$b/times" -ls >/dev/null # a listing brings attributes along
	for name in "$b/times/"*; do
		equal "mtime of $name" "$(stat -c %Y "$name")" $when
	done
	synced A B
	same_trees A B
}

catch_up() {
	stop B || fail "stop B"
	mkdir "$a/many"
	python3 - "$a/many" <<-'PY'
	import os, sys
	top = sys.argv[1]
	for d in range(100):
	    os.mkdir(f'{top}/{d}')
	    for f in range(160):
	        with open(f'{top}/{d}/{f}', 'w') as out:
	            out.write(f'{d}/{f}\n' * 5)
	for d in range(0, 100, 4):
	    for f in range(160):
	        os.remove(f'{top}/{d}/{f}')
	PY
	synced_pair A C
	start B
	synced A B C
	same_trees A B C
	same_dumps A B C
}
synced_pair() { ctl "$1" status --wait --timeout "$WAIT_S" --peers "$2" >/dev/null || fail "$1 and $2"; }

third_only() {
	stop C || fail "stop C"
	mkdir "$a/relay" && seq 1 2000 | split -l 10 - "$a/relay/"
	head -c 3000000 /dev/urandom >"$a/relay/big"
	synced_pair A B
	contents "$a/relay" >"$WORLD/relay"
	stop A || fail "stop A"
	start C
	synced_pair C B
	contents "$c/relay" | diff "$WORLD/relay" - | head | grep . && fail "C lacks"
	start A
	synced A B C
	same_dumps A B C
}

try three/real_tree real_tree
try three/git git_build
try three/sqlite-wal sqlite_db wal
try three/sqlite-rollback sqlite_db delete
try three/open_reader open_reader
try three/old_handle write_through_old_handle
try three/fresh_caches fresh_caches
try three/times_of_siblings times_of_siblings
try three/catch_up catch_up
try three/third_only third_only
try three/logs check_logs A B C
finish
