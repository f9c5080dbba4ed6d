#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# One replica as a file system: what POSIX and the kernel promise to programs.
# As root or as an ordinary user.
. "$(dirname "$0")/../lib/evfs.sh"
HERE=$(cd "$(dirname "$0")" && pwd)

evfsctl init "$(store A)" --name A >/dev/null || fail init
start A
m=$(mnt A)

# until nothing is unsealed and everything is committed, then mounted anew
again() {
	stop A && start A
}

attributes() {
	cd "$m" && mkdir attr && cd attr || fail cd
	echo x >f && ln f g && equal links "$(stat -c %h f)" 2
	equal "one inode" "$(stat -c %i f)" "$(stat -c %i g)"
	echo y >>g && equal "written through a link" "$(cat f)" "$(printf 'x\ny')"
	chmod 4751 f && equal mode "$(stat -c %a g)" 4751
	echo z >>f
	touch -d '2001-02-03 04:05:06.789012345' f
	equal time "$(TZ=UTC stat -c %y f)" '2001-02-03 04:05:06.789012345 +0000'
	(echo late >>h && touch -d '1999-01-01' h)
	cp -p f k && equal "cp -p" "$(stat -c '%Y %a %s' f)" "$(stat -c '%Y %a %s' k)"
	setfattr -n user.k -v v1 f && equal xattr \
		"$(getfattr --only-values -n user.k g)" v1
	setfattr -x user.k f && getfattr -n user.k f 2>/dev/null && fail "xattr stays"
	getfattr -n security.capability f 2>/dev/null && fail "a capability"
	ln -s 'a target' l && equal target "$(readlink l)" 'a target'
	mkfifo p && [ -p p ] || fail fifo
	mkdir sub && touch sub/x && rmdir sub 2>/dev/null && fail "rmdir of a full one"
	if [ "$(id -u)" = 0 ]; then
		mknod c c 1 3 && equal device "$(stat -c %t:%T c)" 1:3
		chown 12:34 f && equal owner "$(stat -c %u:%g g)" 12:34
	fi
	equal "long name" "$(touch "$(printf 'n%.0s' $(seq 255))" && echo ok)" ok
	touch "$(printf 'n%.0s' $(seq 256))" 2>/dev/null && fail "256 bytes of name"
	stat -c '%n %s %h %i %Y %Z %a %u' -- * >"$WORLD/before"
	cd / && again
	cd "$m/attr" && stat -c '%n %s %h %i %Y %Z %a %u' -- * |
		diff "$WORLD/before" - || fail "a new mount shows something else"
}

acls() {
	cd "$m" && mkdir acl && cd acl || fail cd
	echo x >f && chmod 640 f && setfacl -m u:1234:rwx f
	equal "mode follows the ACL" "$(stat -c %a f)" 670
	chmod 600 f
	getfacl -n f 2>/dev/null | grep -q '^mask::---' || fail "the ACL follows the mode"
	setfacl -b f && equal "without ACL" "$(getfattr -m - f 2>/dev/null)" ""
	setfacl -d -m u:77:rw . && mkdir d && touch n
	getfacl -n n 2>/dev/null | grep -q '^user:77:rw-' || fail inheritance
	getfacl -n d 2>/dev/null | grep -q '^default:user:77:rw-' || fail "default ACL"
}

set_group_directory() {
	[ "$(id -u)" = 0 ] || return 0
	mkdir "$m/sgid" && chgrp 55 "$m/sgid" && chmod 2775 "$m/sgid"
	mkdir "$m/sgid/d" && touch "$m/sgid/f"
	equal "group of a file" "$(stat -c %g "$m/sgid/f")" 55
	equal "group and mode of a directory" "$(stat -c '%g %a' "$m/sgid/d")" '55 2755'
}

replaced_whole() { # nobody ever sees a mix, and the last one stays
	python3 - "$m" <<'P' || fail "rename into place"
import os, sys
d = sys.argv[1]
for i in range(300):
    with open(d + '/tmp%d' % i, 'w') as f:
        f.write('v%d' % i)
    os.rename(d + '/tmp%d' % i, d + '/target')
    assert open(d + '/target').read() == 'v%d' % i
P
	again
	equal "after a new mount" "$(cat "$m/target")" v299
}

handles() {
	python3 - "$m" <<'P' || fail "open handles"
import errno, mmap, os, sys
os.chdir(sys.argv[1])
f = os.open('gone', os.O_RDWR | os.O_CREAT)
os.write(f, b'hello'); os.unlink('gone'); os.write(f, b'world'); os.fsync(f)
assert os.pread(f, 99, 0) == b'helloworld' and os.fstat(f).st_nlink == 0
os.close(f)
f = os.open('map', os.O_RDWR | os.O_CREAT); os.ftruncate(f, 8192)
m = mmap.mmap(f, 8192); m[100:105] = b'bytes'; os.close(f); m.close()
assert open('map', 'rb').read()[100:105] == b'bytes'
f = os.open('excl', os.O_WRONLY | os.O_CREAT | os.O_EXCL)
try:
    os.open('excl', os.O_WRONLY | os.O_CREAT | os.O_EXCL); assert False
except FileExistsError: pass
a = os.open('log', os.O_WRONLY | os.O_CREAT | os.O_APPEND)
b = os.open('log', os.O_WRONLY | os.O_APPEND)
for i in range(100): os.write(a, b'a\n'); os.write(b, b'b\n')
assert os.stat('log').st_size == 400
g = os.open('sparse', os.O_RDWR | os.O_CREAT)
os.pwrite(g, b'x' * 4096, 5 << 20)
assert os.lseek(g, 0, os.SEEK_DATA) == 5 << 20 and os.lseek(g, 0, os.SEEK_HOLE) == 0
try: os.lseek(g, 6 << 20, os.SEEK_DATA); assert False
except OSError as e: assert e.errno == errno.ENXIO
os.posix_fallocate(g, 0, 7 << 20); assert os.fstat(g).st_size == 7 << 20
os.mkdir('d1'); os.mkdir('d2'); open('d1/x', 'w').close()
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
assert libc.renameat2(-100, b'd1', -100, b'd2', 1) == -1 and ctypes.get_errno() == errno.EEXIST
assert libc.renameat2(-100, b'd1', -100, b'd2', 2) == 0 and os.listdir('d2') == ['x']
try: os.rename('d2', 'd2/inside'); assert False
except OSError as e: assert e.errno == errno.EINVAL
P
}

listing() { # entries come and go while a directory is read
	python3 - "$m" <<'P' || fail listing
import os, sys
d = sys.argv[1] + '/list'; os.mkdir(d)
for i in range(5000): open(d + '/f%05d' % i, 'w').close()
seen = []
with os.scandir(d) as it:
    for n, e in enumerate(it):
        seen.append(e.name)
        if n == 1000:
            for i in range(0, 5000, 2): os.unlink(d + '/f%05d' % i)
            for i in range(500): open(d + '/new%d' % i, 'w').close()
assert len(seen) == len(set(seen))
for i in range(1, 5000, 2): assert 'f%05d' % i in set(seen), i
assert len(os.listdir(d)) == 3000
P
	rm -r "$m/list" || fail "rm -r"
	[ ! -e "$m/list" ] || fail "still there"
}

random_file() { # SEED STEPS BYTES_MAX: against a model in memory
	python3 "$HERE/random_file.py" "$m/random$1" "$@" >"$WORLD/random.out" ||
		fail "$(cat "$WORLD/random.out")"
}

random_files() {
	random_file 1 300 4000000 && random_file 2 300 4000000
	random_file 3 800 300000 && random_file 4 800 300000
	(cd "$m" && sha256sum random*) >"$WORLD/sums"
	again
	(cd "$m" && sha256sum --quiet -c "$WORLD/sums") || fail "after a new mount"
}

many_threads() {
	python3 - "$m" <<'P' || fail threads
import os, random, sys, threading
os.mkdir(sys.argv[1] + '/t'); os.chdir(sys.argv[1] + '/t'); bad = []
def work(k):
    r = random.Random(k); name = lambda: 'c%d' % r.randrange(20)
    for i in range(200):
        p, op = name(), r.randrange(7)
        try:
            if op == 0: open(p, 'w').write('x' * r.randrange(20000))
            elif op == 1: open(p).read()
            elif op == 2: os.unlink(p)
            elif op == 3: os.rename(p, name())
            elif op == 4: os.link(p, name())
            elif op == 5: os.truncate(p, r.randrange(3000000))
            else: [os.stat(x) for x in os.listdir('.')]
        except (FileNotFoundError, FileExistsError): pass
        except Exception as e: bad.append(repr(e))
ts = [threading.Thread(target=work, args=(k,)) for k in range(8)]
[t.start() for t in ts]; [t.join() for t in ts]
assert not bad, bad[:3]
for n in os.listdir('.'): assert len(open(n, 'rb').read()) == os.stat(n).st_size, n
P
}

generated() {
	[ -z "$(ls -A "$m" | grep -x .evfs)" ] || fail ".evfs is listed"
	python3 -m json.tool <"$m/.evfs/status.json" >/dev/null || fail status.json
	echo one >"$m/hist" && sync "$m/hist" && echo two >"$m/hist"
	again
	equal versions "$(cat "$m"/.evfs/history/hist/* | sort | tr '\n' ' ')" 'one two '
	touch "$m/.evfs/x" 2>/dev/null && fail "written below .evfs"
	mkdir "$m/.evfs" 2>/dev/null && fail "made .evfs"
	return 0
}

ends_well() { # SIGTERM with bytes that only the kernel has
	python3 - "$m" "$(pid_of A)" <<'P'
import mmap, os, signal, sys, time
f = os.open(sys.argv[1] + '/term', os.O_RDWR | os.O_CREAT)
os.write(f, b'unsynced'); os.ftruncate(f, 4096)
mm = mmap.mmap(f, 4096); mm[10:12] = b'ZZ'
os.kill(int(sys.argv[2]), signal.SIGTERM)
for _ in range(600):
    if not os.path.ismount(sys.argv[1]): break
    time.sleep(0.05)
P
	wait_end "$(pid_of A)"
	start A
	equal "what was written" "$(head -c 12 "$m/term" | tr '\0' .)" 'unsynced..ZZ'
}

killed() { # what was on disk stays, each file is one of its versions
	head -c 8000000 /dev/urandom >"$WORLD/big"
	cp "$WORLD/big" "$m/patched" && cp "$WORLD/big" "$WORLD/patched"
	python3 - "$m" "$(pid_of A)" <<'P'
import os, signal, sys, time
m, pid = sys.argv[1], int(sys.argv[2])
f = os.open(m + '/synced', os.O_RDWR | os.O_CREAT)
os.write(f, b'synced'); os.fsync(f); os.write(f, b'later')
b = os.open(m + '/open', os.O_RDWR | os.O_CREAT)
os.write(b, open(os.path.dirname(m) + '/big', 'rb').read())
p = os.open(m + '/patched', os.O_RDWR)
for at in (5000000, 9 << 20): os.pwrite(p, b'patch', at)
s = os.open(m + '/small', os.O_RDWR | os.O_CREAT); os.write(s, b'abc')
os.system('sync -f "%s"' % m)
time.sleep(0.1)  # the commits of the names, 5 ms
os.kill(pid, signal.SIGKILL)
P
	printf patch | dd of="$WORLD/patched" bs=1 seek=5000000 conv=notrunc 2>/dev/null
	printf patch | dd of="$WORLD/patched" bs=1 seek=9437184 conv=notrunc 2>/dev/null
	wait_end "$(pid_of A)"
	start A # over the dead mount
	equal synced "$(cat "$m/synced")" synced
	cmp "$WORLD/big" "$m/open" || fail "an open big file"
	cmp "$WORLD/patched" "$m/patched" || fail "a patched file"
	equal "an open small file" "$(cat "$m/small")" ""
	equal "working copies" "$(ls "$(store A)/work")" ""
}

# of a mount of its own that tells each message
no_questions_before_writes() {
	local n
	evfsctl init "$(store Q)" --name Q >/dev/null || fail init
	EVFS_LOG=debug start Q -d
	python3 -c '
import os, sys
f = os.open(sys.argv[1] + "/f", os.O_RDWR | os.O_CREAT)
for i in range(200): os.pwrite(f, b"x", i * 5000)
os.close(f)' "$(mnt Q)" || fail writes
	stop Q || fail umount
	grep -q 'opcode: WRITE' "$WORLD/Q.log" || fail "no messages in the log"
	n=$(grep -c 'opcode: GETXATTR' "$WORLD/Q.log")
	[ "$n" -le 2 ] || fail "$n questions"
}

refusals() {
	local out
	out=$(evfs "$(store A)" "$m" 2>&1) && fail "mounted twice"
	mkdir -p "$WORLD/B" && touch "$WORLD/file"
	evfsctl init "$WORLD/B.store" --name B >/dev/null
	out=$(evfs "$WORLD/B.store" "$WORLD/none" 2>&1)
	case $out in *"o such "*) ;; *) fail "missing: $out" ;; esac
	out=$(evfs "$WORLD/B.store" "$WORLD/file" 2>&1)
	case $out in *"not a directory"*) ;; *) fail "a file: $out" ;; esac
	out=$(evfs "$WORLD/B.store" "$m" 2>&1)
	case $out in *"mounted there"*) ;; *) fail "live: $out" ;; esac
	out=$(evfs -o bogus=1 "$WORLD/B.store" "$WORLD/B" 2>&1) && fail "bogus option"
	return 0
}

for t in attributes acls set_group_directory replaced_whole handles listing \
	random_files many_threads generated no_questions_before_writes ends_well \
	killed refusals; do
	try "$t" "$t"
done
finish
