#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Merkle audits alone: all other layers are off, the rows that tell what is new
# are deleted and contexts forged equal, so that no stream could know of a
# difference; a damaged chunk is found and repaired.
. "$(dirname "$0")/../lib/evfs.sh"

# C is away: what is removed cannot be collected, so that a member that has it
# still, and claims otherwise, does not bring it back.
new_world A B C

# forge: what lacks is hidden. Both daemons are stopped. Without the mark of a
# clean end, or the databases would be taken for restored ones.
forge() {
	rm "$(store A)/closed" "$(store B)/closed"
	python3 - "$(store A)/meta.db" "$(store B)/meta.db" <<-'PY'
	import sqlite3, sys
	stores = [sqlite3.connect(path) for path in sys.argv[1:]]
	everything = {}
	for db in stores:
	    for node, epoch, counter in db.execute(
	            'SELECT node, epoch, counter FROM context '
	            'JOIN actor ON actor.id = context.actor'):
	        key = (node, epoch)
	        everything[key] = max(everything.get(key, 0), counter)
	for db in stores:
	    with db:
	        for (node, epoch), counter in everything.items():
	            db.execute('INSERT OR IGNORE INTO actor(node, epoch) '
	                       'VALUES(?, ?)', (node, epoch))
	            (actor,) = db.execute(
	                'SELECT id FROM actor WHERE node = ? AND epoch = ?',
	                (node, epoch)).fetchone()
	            db.execute('INSERT OR REPLACE INTO context VALUES(?, ?)',
	                       (actor, counter))
	        db.execute('DELETE FROM dotlog')
	        db.execute('DELETE FROM report')
	    db.close()
	PY
}

json() { # NAME EXPRESSION: of status
	ctl "$1" status --json | python3 -c \
		"import json, sys; s = json.load(sys.stdin); print($2)"
}
same_roots() {
	[ "$(json A 's["volume"]["root_hash"]')" = \
		"$(json B 's["volume"]["root_hash"]')" ]
}

forged_contexts() {
	local a=$(mnt A) b=$(mnt B) i
	mkdir "$a/common" && echo old >"$a/common/file"
	echo doomed >"$a/gone"
	synced A B
	stop C
	stop B
	for i in $(seq 300); do
		mkdir -p "$a/dir$((i % 7))"
		echo "from A $i" >"$a/dir$((i % 7))/file$i"
	done
	head -c 3000000 /dev/urandom >"$a/big"
	echo new >"$a/common/file"
	ln "$a/big" "$a/common/linked"
	stop A
	start B
	echo "from B" >"$b/other"
	mkdir "$b/dir3"
	echo "from B too" >"$b/dir3/file3.b"
	rm "$b/gone"
	stop B
	forge
	ctl A dump --view >"$WORLD/view.a" && ctl B dump --view >"$WORLD/view.b"
	[ "$(diff "$WORLD/view.a" "$WORLD/view.b" | grep -c '^[<>]')" -ge 300 ] ||
		fail "nothing differs"
	export EVFS_LAYERS=none
	start A
	start B
	until_true 90 same_roots
	[ "$(($(json A 's["anti_entropy"]["objects_repaired"]') +
		$(json B 's["anti_entropy"]["objects_repaired"]')))" -ge 300 ] ||
		fail "something else repaired it"
	equal "diverged" "$(json A 's["anti_entropy"]["diverged"]')" 0
	stop A
	stop B
	unset EVFS_LAYERS
	start A
	start B
	start C
	synced A B
	same_trees A B
	equal "a file of A" "$(cat "$b/dir3/file3")" "from A 3"
	equal "an edit of A" "$(cat "$b/common/file")" new
	equal "a file of B" "$(cat "$a/dir3/file3.b")" "from B too"
	[ -e "$a/gone" ] && fail "what B removed is there"
	cmp "$a/big" "$b/common/linked" || fail "big differs"
	[ "$(find "$b" -name 'file*' | wc -l)" = 302 ] || fail "files are lost"
	grep -q DIVERGED "$WORLD/A.log" "$WORLD/B.log" || fail "no alarm"
	{ ctl A divergences; ctl B divergences; } |
		grep -q 'equal contexts, different facts' || fail "no evidence"
	equal "diverged" "$(json A 's["anti_entropy"]["diverged"]')" 0
	# and it goes on as ever
	echo more >"$a/more"
	synced A B
	equal "a file written later" "$(cat "$b/more")" more
}

sync_command() {
	local rounds=$(json A 's["anti_entropy"]["rounds"]')
	ctl A sync || fail "sync"
	[ "$(json A 's["anti_entropy"]["rounds"]')" -gt "$rounds" ] ||
		fail "sync compared nothing"
	[ "$(json A 's["anti_entropy"]["last_bytes"]')" -le 200 ] ||
		fail "equality cost too much"
	ctl A metrics | grep -q '^evfs_anti_entropy_rounds_total [1-9]' ||
		fail "metrics"
}

# A byte of a container flips on A's disk.
damaged_chunk() {
	local a=$(mnt A) container
	head -c 2000000 /dev/urandom >"$a/precious"
	synced A B
	ctl A verify >"$WORLD/out" || fail "verify: $(cat "$WORLD/out")"
	grep -q '^0 damaged chunks' "$WORLD/out" || fail "$(cat "$WORLD/out")"
	python3 - "$(store A)" "$a/precious" <<-'PY' || fail "no container has it"
	import os, sys
	store, precious = sys.argv[1:]
	some = open(precious, 'rb').read()[1000000:1000064]
	for top, _, names in os.walk(store):
	    for name in names:
	        path = os.path.join(top, name)
	        if name.startswith('meta.db') or not os.path.isfile(path):
	            continue
	        at = open(path, 'rb').read().find(some)
	        if at >= 0:
	            with open(path, 'r+b') as f:
	                f.seek(at)
	                f.write(b'\0' * 64)
	            sys.exit(0)
	sys.exit(1)
	PY
	ctl A verify --repair >"$WORLD/out" 2>&1 || fail "$(cat "$WORLD/out")"
	grep -q '^1 damaged chunk,' "$WORLD/out" || fail "$(cat "$WORLD/out")"
	grep -q '^1 repaired' "$WORLD/out" || fail "$(cat "$WORLD/out")"
	echo 3 >/proc/sys/vm/drop_caches 2>/dev/null
	synced A B
	ctl A verify >"$WORLD/out" || fail "verify: $(cat "$WORLD/out")"
	cmp "$a/precious" "$(mnt B)/precious" || fail "still damaged"
}

# The rows of A's tree and its root hash are wrong: all objects are equal, and
# the audit says so; the tree is made right from the facts.
wrong_tree() {
	local root
	stop A
	python3 - "$(store A)/meta.db" <<-'PY'
	import sqlite3, sys
	db = sqlite3.connect(sys.argv[1])
	with db:
	    path, total = db.execute('SELECT path, sum FROM merkle '
	                             'WHERE path >= 65536 LIMIT 1').fetchone()
	    db.execute('UPDATE merkle SET sum = ? WHERE path = ?',
	               (bytes([total[0] ^ 1]) + total[1:], path))
	    (derived,) = db.execute("SELECT value FROM state "
	                            "WHERE key = 'derived'").fetchone()
	    derived = derived[:-32] + bytes([derived[-32] ^ 1]) + derived[-31:]
	    db.execute("UPDATE state SET value = ? WHERE key = 'derived'",
	               (derived,))
	db.close()
	PY
	start A
	same_roots && fail "the damage does not show"
	until_true 90 same_roots
	synced A B
	grep -q 'Merkle tree was wrong' "$WORLD/A.log" || fail "not found"
}

try forged_contexts forged_contexts
try sync_command sync_command
try damaged_chunk damaged_chunk
try wrong_tree wrong_tree
finish
