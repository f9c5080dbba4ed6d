# SPDX-License-Identifier: GPL-3.0-or-later
# For the scripts of tests/mount: a world of replicas on this machine, each with
# a store, a daemon and a mount; conditions with a bound instead of sleeps; and
# one line of result for each test ("ok NAME", "not ok NAME").
#
# EVFS_BIN: directory of evfs and evfsctl. Sourced with bash.

set -u
: "${EVFS_BIN:?directory of evfs and evfsctl}"
export PATH="$EVFS_BIN:$PATH"
unset EVFS_STORE

WORLD=$(mktemp -d "${TMPDIR:-/tmp}/evfs-test.XXXXXX")
chmod 755 "$WORLD"
WAIT_S=${WAIT_S:-120}
FAILED=0
declare -A DAEMON # name -> pid

store() { echo "$WORLD/$1.store"; }
mnt() { echo "$WORLD/$1"; }
ctl() { # NAME COMMAND...: evfsctl on that replica's store
	local name=$1
	shift
	evfsctl -s "$(store "$name")" "$@"
}

say() { echo "# $*"; }

# fail TEXT...: ends the running test. Tests run in subshells.
fail() {
	echo "# FAILED: $*"
	exit 1
}

# free_port: a TCP port that nobody listens on now
free_port() {
	python3 -c 'import socket
s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# answers NAME: mounted, and its daemon talks (status exits 3 without one)
answers() {
	mountpoint -q "$(mnt "$1")" || return 1
	ctl "$1" status >/dev/null 2>&1
	[ $? -lt 3 ]
}

# start NAME [OPTION...]: the daemon in front (so that its pid is known), its
# log in NAME.log; returns when the mount answers
start() {
	local name=$1 until
	shift
	mkdir -p "$(mnt "$name")"
	EVFS_LOG=${EVFS_LOG:-info} evfs -f "$@" "$(store "$name")" \
		"$(mnt "$name")" >>"$WORLD/$name.log" 2>&1 &
	DAEMON[$name]=$!
	echo "$!" >"$WORLD/$name.pid"
	until=$((SECONDS + 30))
	until answers "$name"; do
		kill -0 "${DAEMON[$name]}" 2>/dev/null || {
			cat "$WORLD/$name.log"
			fail "the daemon of $name ended"
		}
		[ $SECONDS -lt $until ] || fail "the mount of $name does not answer"
		sleep 0.02
	done
}

pid_of() { cat "$WORLD/$1.pid"; }

# stop NAME: unmounts, waits for the end
stop() {
	fusermount3 -u "$(mnt "$1")" || umount "$(mnt "$1")" || return 1
	wait_end "$(pid_of "$1")"
}

# kill9 NAME: as a crash of the daemon; the dead mount is cleared. One that was
# telling the kernel what to forget may not end: then evfs clears it at the
# next start.
kill9() {
	local until=$((SECONDS + 3))
	kill -9 "$(pid_of "$1")"
	until is_over "$(pid_of "$1")"; do
		[ $SECONDS -lt $until ] || { say "$1 hangs in the kernel"; return 0; }
		sleep 0.02
	done
	umount -l "$(mnt "$1")" 2>/dev/null ||
		fusermount3 -uz "$(mnt "$1")" 2>/dev/null || true
}

# is_over PID: gone, or a zombie whose other threads (they hold its locks) are gone
is_over() {
	[ -d "/proc/$1" ] || return 0
	grep -q '^State:.Z' "/proc/$1/status" 2>/dev/null &&
		[ "$(ls "/proc/$1/task" 2>/dev/null | wc -l)" -le 1 ]
}

wait_end() {
	local until=$((SECONDS + 60))
	while ! is_over "$1"; do
		[ $SECONDS -lt $until ] || fail "process $1 does not end"
		sleep 0.02
	done
}

# until_true SECONDS COMMAND...: waits for a condition
until_true() {
	local until=$((SECONDS + $1))
	shift
	until "$@"; do
		[ $SECONDS -lt $until ] || fail "never true: $*"
		sleep 0.05
	done
}

# new_world NAME...: the first makes the volume, the others join it; all started
new_world() {
	local first=$1 name token
	evfsctl init "$(store "$first")" --name "$first" \
		--listen "127.0.0.1:$(free_port)" >/dev/null || fail "init"
	start "$first"
	shift
	for name in "$@"; do
		token=$(ctl "$first" invite) || fail "invite"
		evfsctl join "$token" "$(store "$name")" --name "$name" \
			--listen "127.0.0.1:$(free_port)" >/dev/null || fail "join"
		start "$name"
	done
}

# synced NAME...: each says that everything has converged
synced() {
	local name
	for name in "$@"; do
		ctl "$name" status --wait --timeout "$WAIT_S" >/dev/null || {
			ctl "$name" status
			tail -n 20 "$WORLD/$name.log"
			fail "$name does not converge"
		}
	done
}

# same_trees NAME NAME...: paths, kinds, contents, modes, times, links
# DIR_TIMES=no leaves out the times of directories: where replicas undid each
# other's work they remember different last changes.
manifest() { # DIR: one sorted line for each entry
	local times='[0-9.]+'
	[ "${DIR_TIMES:-yes}" = yes ] || times=
	(cd "$1" && find . -mindepth 1 -printf '%P %y %m %U:%G %T@ %n %l %s\n' |
		sed -E "s/^(.* d [0-7]+ [0-9]+:[0-9]+ $times).*\$/\1/" |
		sort)
}
contents() {
	(cd "$1" && find . -type f -print0 | sort -z | xargs -0r sha256sum)
}
same_trees() {
	local first=$1 name
	manifest "$(mnt "$first")" >"$WORLD/$first.manifest"
	contents "$(mnt "$first")" >"$WORLD/$first.contents"
	shift
	for name in "$@"; do
		manifest "$(mnt "$name")" >"$WORLD/$name.manifest"
		contents "$(mnt "$name")" >"$WORLD/$name.contents"
		diff "$WORLD/$first.manifest" "$WORLD/$name.manifest" |
			head -n 10 | grep . && fail "$first and $name differ"
		diff "$WORLD/$first.contents" "$WORLD/$name.contents" |
			head -n 10 | grep . && fail "contents of $first and $name differ"
	done
	return 0
}
same_dumps() {
	local first=$1 name
	ctl "$first" dump >"$WORLD/$first.dump" || fail "dump"
	shift
	for name in "$@"; do
		ctl "$name" dump >"$WORLD/$name.dump" || fail "dump"
		cmp -s "$WORLD/$first.dump" "$WORLD/$name.dump" ||
			fail "the dumps of $first and $name differ: $(
				diff "$WORLD/$first.dump" "$WORLD/$name.dump" | head -n 6)"
	done
	return 0
}

equal() { # WHAT GOT WANTED
	[ "$2" = "$3" ] || fail "$1: '$2' instead of '$3'"
}

# try NAME FUNCTION...: runs one test in a subshell
try() {
	local name=$1
	shift
	if ("$@"); then
		echo "ok $name"
	else
		echo "not ok $name"
		FAILED=$((FAILED + 1))
	fi
}

# check_logs NAME...: a daemon's log must not hold errors
check_logs() {
	local name
	for name in "$@"; do
		grep -E 'ERROR|assert|Sanitizer|runtime error' "$WORLD/$name.log" |
			head -n 5 | grep . && fail "the log of $name has errors"
	done
	return 0
}

end_world() {
	local pid_file name pid
	for pid_file in "$WORLD"/*.pid; do
		[ -e "$pid_file" ] || continue
		name=$(basename "$pid_file" .pid)
		pid=$(cat "$pid_file")
		fusermount3 -u "$(mnt "$name")" 2>/dev/null ||
			umount "$(mnt "$name")" 2>/dev/null
		for _ in $(seq 200); do
			[ -d "/proc/$pid" ] || break
			grep -q '^State:.Z' "/proc/$pid/status" 2>/dev/null && break
			sleep 0.05
		done
		[ -d "/proc/$pid" ] && kill -9 "$pid" 2>/dev/null
		mountpoint -q "$(mnt "$name")" 2>/dev/null &&
			umount -l "$(mnt "$name")" 2>/dev/null
	done
	if [ "${KEEP_WORLD:-0}" = 1 ] && [ $FAILED -gt 0 ]; then
		say "kept $WORLD"
	else
		rm -rf "$WORLD"
	fi
}
trap end_world EXIT

finish() { exit $((FAILED > 0)); }
