#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# When a writer is done, and what it costs to open: without messages (root), and
# with them (-o real_opens, as an ordinary user has it). Both must seal at the
# same moments. seal_interval is an hour, so nothing but a close seals.
. "$(dirname "$0")/../lib/evfs.sh"
shopt -s nullglob

evfsctl init "$(store A)" --name A >/dev/null || fail init
m=$(mnt A)
start A
ctl A config set seal_interval 1h || fail config
stop A || fail stop

# Each test has a directory of its own, in which it is run.
# versions NAME: how many a file there has had
versions() { ls "$m/.evfs/history/${PWD#"$m/"}/$1" 2>/dev/null | grep -c '^[0-9]*T'; }
has_versions() { [ "$(versions "$1")" = "$2" ]; }
sealed() { until_true "$WAIT_S" has_versions "$1" "$2"; }

# What is closed now is sealed after anything that was closed before: what is not
# sealed by then is not going to be.
settle() {
	local mark
	mark=$(mktemp -p . mark.XXXXXX) && sealed "${mark#./}" 1
}

closes() {
	echo one >a && sealed a 1
	echo two >>a && sealed a 2
	exec 3>>a # open, and nothing written
	echo three >>a && sealed a 3
	echo four >&3
	settle && equal "not closed" "$(versions a)" 3
	(sleep 600 >&3) & # inherits it
	exec 3>&-
	settle && equal "a child has it" "$(versions a)" 3
	kill %1
	sealed a 4
	equal contents "$(tr '\n' ' ' <a)" "one two three four "
	: >e && sealed e 1
}

cut_first() {
	seq 1000 >cut && sealed cut 1
	exec 3>cut
	settle && equal "cut, and not closed" "$(versions cut)" 1
	echo new >&3
	exec 3>&-
	sealed cut 2
	equal contents "$(cat cut)" new
	python3 -c 'import os; os.truncate("cut", 2)' && sealed cut 3
	equal "cut by name" "$(cat cut)" ne
}

mapped() {
	python3 - "$WORLD/mapped" <<-'EOF' &
	import mmap, os, sys
	fd = os.open('map', os.O_RDWR | os.O_CREAT)
	os.ftruncate(fd, 8192)
	m = mmap.mmap(fd, 8192)
	os.close(fd)
	m[0:5] = b'hello'
	open(sys.argv[1], 'w').close()
	sys.stdin.read()
	m[5000:5005] = b'world'
	m.close()
	EOF
	until_true "$WAIT_S" test -e "$WORLD/mapped"
	wait %1
	sealed map 1
	equal mapped "$(tr -d '\0' <map)" helloworld
}

# The end of a writer in another mount of the same file system.
bound() {
	[ "$(id -u)" = 0 ] || return 0
	mkdir -p "$WORLD/bound" && mount --bind "$m" "$WORLD/bound" || fail bind
	echo bound >"$WORLD/bound/${PWD#"$m/"}/b"
	(sealed b 1)
	local rc=$?
	umount "$WORLD/bound" || fail "unmount the other"
	return $rc
}

# What is removed while it is open can be read and written, and its bytes go
# when it is closed.
removed() {
	head -c 3000000 /dev/urandom >gone
	exec 3<>gone
	rm gone
	head -c 3000000 /dev/zero | tr '\0' x >&3
	equal "still there" "$(head -c 3 "/proc/self/fd/3")" xxx
	exec 3>&-
	no_copies() { local all=("$(store A)"/work/*); [ ${#all[@]} = 0 ]; }
	until_true "$WAIT_S" no_copies
}

# Closed many times while it is being sealed: what the last one left is sealed
# in the end, and the workers do not all wait for that.
many_closes() {
	local history="$m/.evfs/history/${PWD#"$m/"}/big" threads
	is_version() {
		local version
		for version in "$history"/[0-9]*T*; do
			! cmp -s "$version" "$1" || return 0
		done
		return 1
	}
	head -c 64M /dev/urandom >big && sealed big 1
	python3 - <<-'EOF'
	import os, random
	for i in range(600):
	    fd = os.open('big', os.O_WRONLY)
	    os.pwrite(fd, os.urandom(4096), random.randrange(16384) * 4096)
	    os.close(fd)
	EOF
	threads=$(ls "/proc/$(pid_of A)/task" | wc -l)
	[ "$threads" -lt 100 ] || fail "$threads threads"
	until_true "$WAIT_S" is_version big
}

# close, then at once umount: the mount is not busy, and nothing is lost.
unmounts() {
	local i
	for i in $(seq 30); do
		echo "$i" >"$m/last$i"
		umount "$m" 2>/dev/null || fusermount3 -u "$m" || fail "busy ($i)"
		wait_end "$(pid_of A)"
		start A "$@"
		equal "written before umount" "$(cat "$m/last$i")" "$i"
	done
}

in_dir() { cd "$m/$1" && "$2"; }

all() { # NAME OPTION...
	local name=$1 test
	shift
	for test in closes cut_first mapped bound removed many_closes; do
		rm -rf "$WORLD/mapped"
		start A "$@" && mkdir "$m/$name.$test" || fail start
		try "opens/$name/$test" in_dir "$name.$test" "$test"
		stop A || fail stop
	done
	start A "$@"
	try "opens/$name/unmounts" unmounts "$@"
	stop A
}

# How many messages of this kind the log tells of
count() { grep -c "opcode: $1 (" "$WORLD/A.log"; }

messages() {
	local i before
	mkdir "$m/messages" && cd "$m/messages" || fail cd
	echo x >f && cat f >/dev/null
	[ "$(count MKNOD)" -gt 0 ] || fail "the log tells of no messages"
	before=$(count OPEN).$(count CREATE).$(count READ).$(count FLUSH).$(count RELEASE)
	for i in $(seq 20); do cat f >/dev/null; echo x >g$i; done
	equal "messages of opens" "$(count OPEN).$(count CREATE).$(count READ).$(
		count FLUSH).$(count RELEASE)" "$before"
	before=$(count GETXATTR)
	dd if=/dev/zero of=f bs=4k count=100 conv=notrunc status=none
	[ "$(count GETXATTR)" -le $((before + 1)) ] || fail "a question before each write"
	settle
}

# A read quorum is asked at each open.
read_quorum() {
	EVFS_LOG=debug start A -d -o read_quorum=2
	local before=$(count OPEN)
	cat "$m/messages/f" >/dev/null 2>&1
	[ "$(count OPEN)" -gt "$before" ] || fail "no open was heard of"
	stop A
}

all real -o real_opens
if [ "$(id -u)" = 0 ]; then
	all quiet
	EVFS_LOG=debug start A -d
	try opens/messages messages
	ctl A config set read_quorum 2 2>&1 | grep -q 'next mount' ||
		fail "a quorum that is not kept must be told"
	ctl A config set read_quorum 1
	stop A
	try opens/read_quorum read_quorum
fi
try opens/logs check_logs A
finish
