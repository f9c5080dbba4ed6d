#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# What a daemon of root's asks of the kernel: processors that wake at once
# (fs/cpu_latency.h), for as long as it is busy, not with -o power_save; reading
# far ahead.
. "$(dirname "$0")/../lib/evfs.sh"

[ "$(id -u)" = 0 ] || { echo "ok latency # skipped: not root"; exit 0; }
device=/dev/cpu_dma_latency

evfsctl init "$(store A)" --name A >/dev/null || fail init
m=$(mnt A)

asks() { readlink "/proc/$(pid_of A)/fd"/* 2>/dev/null | grep -qx "$device"; }
is_quiet() { ! asks; }
# busy N: looks for N names. Each is new to the kernel, so each costs a message.
busy() {
	exec python3 - "$m" "$1" <<-'EOF'
	import os, sys
	for n in range(int(sys.argv[2])):
	    os.path.lexists(f'{sys.argv[1]}/{n}')
	EOF
}

while_busy() {
	start A
	is_quiet || fail "asked before anything came"
	busy 100000000 &
	client=$!
	trap 'kill "$client" 2>/dev/null' EXIT # of this test's subshell
	until_true "$WAIT_S" asks
	kill "$client"
	wait "$client" 2>/dev/null
	until_true "$WAIT_S" is_quiet
	stop A
}

power_save() {
	local client
	start A -o power_save
	busy 30000 & # many times what made it ask before
	client=$!
	while kill -0 "$client" 2>/dev/null; do
		! asks || fail "asked with power_save"
	done
	stop A
}

read_ahead() {
	start A
	until_true "$WAIT_S" grep -qx 1024 \
		"/sys/class/bdi/$(mountpoint -d "$m")/read_ahead_kb"
	stop A
}

if [ -w "$device" ]; then
	try latency/while_busy while_busy
	try latency/power_save power_save
else
	echo "ok latency/while_busy # skipped: no $device"
fi
try latency/read_ahead read_ahead
check_logs A
finish
