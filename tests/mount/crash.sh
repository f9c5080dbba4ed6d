#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# kill -9 of daemons while files are written: what was fsynced is there, the
# tree is consistent, convergence resumes by itself.
. "$(dirname "$0")/../lib/evfs.sh"

new_world A B

# writer DIR LEDGER: writes files, fsyncs each (and its directory), then notes
# it down: what is in the ledger was promised
writer() {
	python3 - "$1" "$2" <<-'PY'
	import hashlib, os, random, sys
	top, ledger = sys.argv[1:3]
	rng = random.Random(int(os.environ.get('SEED', '1')))
	log = open(ledger, 'a')
	n = 0
	try:
	    os.makedirs(top, exist_ok=True)
	    while True:
	        n += 1
	        name = f'{top}/{os.getpid()}-{n}'
	        data = rng.randbytes(rng.choice((10, 5000, 300000, 2500000)))
	        temporary = name + '.tmp'
	        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT, 0o644)
	        os.write(fd, data)
	        os.fsync(fd)
	        os.close(fd)
	        if n % 2:
	            os.rename(temporary, name)
	            fd = os.open(top, os.O_RDONLY)
	            os.fsync(fd)
	            os.close(fd)
	        else:
	            name = temporary
	        log.write(f'{hashlib.sha256(data).hexdigest()}  {os.path.basename(name)}\n')
	        log.flush()
	except OSError:
	    pass
	PY
}

crash_while_writing() {
	local round pid
	touch "$WORLD/ledger"
	for round in 1 2 3 4 5 6; do
		SEED=$round writer "$(mnt A)/w" "$WORLD/ledger" &
		pid=$!
		local lines=$(wc -l <"$WORLD/ledger")
		until_true 60 eval \
			"[ \$(wc -l <'$WORLD/ledger') -gt $((lines + round * 3)) ]"
		kill9 A
		wait $pid
		start A
		(cd "$(mnt A)/w" && sha256sum --quiet -c "$WORLD/ledger") ||
			fail "round $round: something fsynced is lost"
	done
	synced A B
	same_trees A B
	same_dumps A B
	(cd "$(mnt B)/w" && sha256sum --quiet -c "$WORLD/ledger") || fail "on B"
}

# The receiver dies while a tree arrives, several times.
crash_while_receiving() {
	local round
	cp -a /usr/include/linux "$(mnt A)/inc" &
	local pid=$!
	for round in 1 2 3; do
		until_true 60 eval "[ \$(ls '$(mnt B)/inc' 2>/dev/null | wc -l) -gt $((round * 20)) ]"
		kill9 B
		start B
	done
	wait $pid
	synced A B
	same_trees A B
	same_dumps A B
	diff -r /usr/include/linux "$(mnt B)/inc" | head -n 5 | grep . && fail "differs"
	return 0
}

# Unsynced work: after a crash each file holds some prefix of what was written
# through it or nothing, and the tree works.
crash_without_sync() {
	local i
	for i in $(seq 200); do echo "content $i" >"$(mnt A)/u$i"; done
	exec 9>"$(mnt A)/held"
	echo kept open >&9
	kill9 A
	exec 9>&-
	start A
	for i in $(seq 200); do
		[ -e "$(mnt A)/u$i" ] || continue
		case $(cat "$(mnt A)/u$i") in
		"content $i" | '') ;;
		*) fail "u$i: $(cat "$(mnt A)/u$i")" ;;
		esac
	done
	echo works >"$(mnt A)/after"
	synced A B
	same_trees A B
	same_dumps A B
}

# A start that is killed while it puts working copies together again.
cut_short() { # NAME
	local pid
	evfs -f "$(store "$1")" "$(mnt "$1")" >>"$WORLD/$1.log" 2>&1 &
	pid=$!
	sleep "0.$(printf %03d $((RANDOM % 200)))" # any moment will do
	kill -9 $pid
	wait_end $pid
	umount -l "$(mnt "$1")" 2>/dev/null ||
		fusermount3 -uz "$(mnt "$1")" 2>/dev/null || true
}

# A long file is promised before it is hashed and sealed: killed when fsync(2)
# has returned, in every other round at once, else while it is sealed, its bytes
# and times are found by the next start that gets so far, and once.
crash_before_sealing() {
	local m=$(mnt A) found=0 round
	for round in $(seq "${ROUNDS:-10}"); do
		python3 - "$m/long" "$(pid_of A)" "$round" <<-'PY' >"$WORLD/sum"
		import hashlib, os, random, signal, sys, time
		path, pid, round = sys.argv[1:]
		fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
		data = hashlib.sha256()
		for i in range(128):
		    piece = os.urandom(4096) * 256
		    data.update(piece)
		    os.write(fd, piece)
		os.utime(fd, (1000000000, 1000000000))
		os.fsync(fd)
		if int(round) % 2:
		    time.sleep(random.random() * 0.3)
		os.kill(int(pid), signal.SIGKILL)
		print(data.hexdigest(), '', path)
		PY
		kill9 A 2>/dev/null
		: >"$WORLD/A.log"
		[ $((round % 3)) = 0 ] || cut_short A
		start A
		sha256sum --quiet -c "$WORLD/sum" || fail "round $round: not what was synced"
		equal "its time" "$(date -u -d @$(stat -c %Y "$m/long") +%Y)" 2001
		! grep -q 'after a crash: sealed=1' "$WORLD/A.log" || found=$((found + 1))
		equal "names" "$(ls "$m" | grep -c long)" 1
		rm "$m/long"
	done
	[ $found -gt 0 ] || fail "each was sealed before fsync(2) returned"
	[ -z "$(ls "$(store A)/work")" ] || fail "working copies are left"
	synced A B
	same_trees A B
	same_dumps A B
}

# Written while it is sealed all the time, by the closes of others: what was
# there before an fsync(2) is there, and nothing of it is a conflict.
crash_while_sealed() {
	local file=$(mnt A)/sealed.bin round pid
	for round in $(seq "${ROUNDS:-10}"); do
		rm -f "$WORLD/known"*
		python3 - "$file" "$WORLD/known" "$round" <<-'PY' &
		import array, os, random, sys, threading
		path, known, round = sys.argv[1], sys.argv[2], int(sys.argv[3])
		rng = random.Random(round)
		blocks = 8192
		fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
		os.truncate(fd, blocks * 4096)
		last = array.array('Q', bytes(8 * blocks))
		count = round << 40
		over = False # the cache of a dead mount takes writes for ever
		def write():
		    global count
		    try:
		        while not over:
		            count += 1
		            at = rng.randrange(blocks)
		            os.pwrite(fd, array.array('Q', [count]).tobytes() * 512, at * 4096)
		            last[at] = count
		    except OSError:
		        pass
		def close():
		    try:
		        while not over:
		            os.close(os.open(path, os.O_WRONLY))
		    except OSError:
		        pass
		threads = [threading.Thread(target=f) for f in (write, close)]
		for thread in threads:
		    thread.start()
		try:
		    while True:
		        before = last.tobytes()
		        os.fsync(fd)
		        with open(known + '.new', 'wb') as out:
		            out.write(before)
		        os.rename(known + '.new', known)
		except OSError:
		    over = True
		for thread in threads:
		    thread.join()
		PY
		pid=$!
		until_true 60 test -e "$WORLD/known"
		python3 -c 'import random, time; time.sleep(random.random())'
		kill9 A
		start A # before that a close(2) may hang in the kernel
		wait $pid
		python3 - "$file" "$WORLD/known" <<-'PY' || fail "round $round: something fsynced is lost"
		import array, sys
		known = array.array('Q', open(sys.argv[2], 'rb').read())
		got = array.array('Q', open(sys.argv[1], 'rb').read())
		lost = [i for i, k in enumerate(known) if any(got[i * 512 + j] < k for j in (0, 511))]
		sys.exit(f'blocks {lost[:10]}' if lost else 0)
		PY
		equal "round $round: names" "$(ls "$(mnt A)" | grep -c sealed)" 1
		rm "$file"
	done
	[ -z "$(ls "$(store A)/work")" ] || fail "working copies are left"
	synced A B
	same_dumps A B
}

# transactions FILE MODE LEDGER: commits one after the other, of a few KiB and
# of tens of MiB, and then notes each down
transactions() {
	python3 - "$@" <<-'PY'
	import random, sqlite3, sys
	path, mode, ledger = sys.argv[1:]
	rng = random.Random()
	try:
	    db = sqlite3.connect(path, isolation_level=None)
	    db.execute(f'pragma journal_mode={mode}')
	    db.execute('create table if not exists t(id integer primary key, tx int, data blob)')
	    tx = db.execute('select max(tx) from t').fetchone()[0] or 0
	    with open(ledger, 'a') as log:
	        while True:
	            tx += 1
	            db.execute('begin')
	            for i in range(rng.choice((1, 30, 300))):
	                db.execute('insert into t(tx, data) values(?, ?)', (tx, rng.randbytes(100000)))
	            db.execute('delete from t where tx < ? and id % 2 = 0', (tx - 3,))
	            db.execute('commit')
	            print(tx, file=log, flush=True)
	except (sqlite3.Error, OSError):
	    pass
	PY
}

# A database is whole after kill -9, with all that it had committed, whether its
# journal is removed or written on (MODE of SQLite).
crash_under_a_database() { # MODE
	local db=$(mnt A)/$1.db ledger=$WORLD/$1.ledger round pid lines
	: >"$ledger"
	for round in 1 2 3 4; do
		transactions "$db" "$1" "$ledger" &
		pid=$!
		lines=$(wc -l <"$ledger")
		until_true 60 eval "[ \$(wc -l <'$ledger') -gt $((lines + round)) ]"
		kill9 A
		kill $pid 2>/dev/null
		wait $pid
		start A
		equal "round $round: the database" \
			"$(sqlite3 "$db" 'pragma integrity_check')" ok
		[ "$(sqlite3 "$db" 'select max(tx) from t')" -ge "$(tail -n 1 "$ledger")" ] ||
			fail "round $round: a commit is lost"
	done
	synced A B
	cmp "$db" "$(mnt B)/$1.db" || fail "differs"
	rm "$db"*
}

# What was removed while it was written stays removed, and of two names the one
# that is left has what was written through the other.
crash_after_removal() {
	local m=$(mnt A) pid
	python3 - "$m" "$WORLD/written" <<-'PY' &
	import os, signal, sys
	top, written = sys.argv[1:]
	data = os.urandom(3 << 20)
	fds = []
	for name in ('gone', 'sealed', 'first', 'replaced'):
	    fd = os.open(f'{top}/{name}', os.O_WRONLY | os.O_CREAT, 0o644)
	    os.write(fd, b'begin')
	    os.fsync(fd)
	    fds.append(fd)
	os.link(f'{top}/first', f'{top}/second')
	os.unlink(f'{top}/sealed')
	for fd in fds:
	    os.write(fd, data)
	os.sync()
	open(f'{top}/new', 'w').close()
	os.unlink(f'{top}/gone')
	os.unlink(f'{top}/first')
	os.rename(f'{top}/new', f'{top}/replaced')
	os.fsync(os.open(top, os.O_RDONLY))
	with open(written + '.part', 'wb') as out:
	    out.write(b'begin' + data)
	os.rename(written + '.part', written)
	signal.pause()
	PY
	pid=$!
	until_true 60 test -e "$WORLD/written"
	kill9 A
	kill "$pid"
	wait "$pid"
	start A
	equal "names" "$(cd "$m" && echo gone* sealed* first* second* replaced* new*)" \
		"gone* sealed* first* second replaced new*"
	[ ! -s "$m/replaced" ] || fail "what was replaced is back"
	cmp "$WORLD/written" "$m/second" || fail "written through the other name"
	[ -z "$(ls "$(store A)/work")" ] || fail "working copies are left"
	synced A B
	same_trees A B
}

# Mounting over the dead mount that a crash left.
stale_mount() {
	kill -9 "$(pid_of B)"
	wait_end "$(pid_of B)"
	! ls "$(mnt B)" >/dev/null 2>&1 || fail "the mount is not dead"
	start B
	ls "$(mnt B)" >/dev/null || fail "not mounted again"
	synced A B
}

try crash/writing crash_while_writing
try crash/receiving crash_while_receiving
try crash/without_sync crash_without_sync
try crash/before_sealing crash_before_sealing
try crash/while_sealed crash_while_sealed
try crash/journal crash_under_a_database delete
try crash/wal crash_under_a_database wal
try crash/after_removal crash_after_removal
try crash/stale_mount stale_mount
try crash/logs check_logs A B
finish
