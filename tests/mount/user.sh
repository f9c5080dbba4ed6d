#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# The same as an ordinary user: fusermount3, no root anywhere. Run as root it
# drops to "nobody"; where /dev/fuse is closed to users it says so and skips.
#
# Neither the build nor TMPDIR need be open to that user: what it runs and
# writes is in a directory of /tmp that it owns.
[ "$(id -u)" != 0 ] || export TMPDIR=/tmp
. "$(dirname "$0")/../lib/evfs.sh"

as_user() {
	if [ "$(id -u)" = 0 ]; then
		setpriv --reuid=65534 --regid=65534 --clear-groups \
			env HOME="$WORLD" PATH="$PATH" "$@"
	else
		"$@"
	fi
}

if [ "$(id -u)" = 0 ]; then
	install -D -t "$WORLD/bin" "$(command -v evfs)" "$(command -v evfsctl)"
	PATH="$WORLD/bin:$PATH"
	chown 65534:65534 "$WORLD"
	if ! as_user test -r /dev/fuse -a -w /dev/fuse; then
		before=$(stat -c %a /dev/fuse)
		chmod 666 /dev/fuse
		restore_fuse() { chmod "$before" /dev/fuse; end_world; }
		trap restore_fuse EXIT
	fi
fi

both_directions() {
	local token port pid_a pid_b
	port=$(free_port)
	as_user evfsctl init "$WORLD/A.store" --name A --listen "127.0.0.1:$port" \
		>/dev/null || fail init
	as_user mkdir "$WORLD/A" "$WORLD/B"
	as_user evfs "$WORLD/A.store" "$WORLD/A" || fail "mount A"
	as_user mountpoint -q "$WORLD/A" || fail "evfs returned before the mount answers"
	token=$(as_user evfsctl invite) || fail "invite finds the only daemon"
	as_user evfsctl join "$token" "$WORLD/B.store" --name B \
		--listen "127.0.0.1:$(free_port)" >/dev/null || fail join
	as_user evfs "$WORLD/B.store" "$WORLD/B" || fail "mount B"
	as_user sh -c "echo from A >'$WORLD/A/a'; mkdir '$WORLD/A/d'
		ln -s a '$WORLD/A/l'; chmod 600 '$WORLD/A/a'"
	as_user sh -c "echo from B >'$WORLD/B/b'"
	as_user evfsctl -s "$WORLD/A.store" status --wait --timeout "$WAIT_S" \
		>/dev/null || fail "no convergence"
	as_user evfsctl -s "$WORLD/B.store" status --wait --timeout "$WAIT_S" \
		>/dev/null || fail "no convergence of B"
	equal "a on B" "$(as_user cat "$WORLD/B/a")" "from A"
	equal "b on A" "$(as_user cat "$WORLD/A/b")" "from B"
	equal "mode" "$(as_user stat -c %a "$WORLD/B/a")" 600
	equal "store by folder" "$(as_user sh -c "cd '$WORLD/B' &&
		evfsctl status --json" | python3 -c 'import json, sys
print(json.load(sys.stdin)["node"]["name"])')" B
	as_user fusermount3 -u "$WORLD/A" || fail "unmount A"
	as_user fusermount3 -u "$WORLD/B" || fail "unmount B"
	until_true 30 eval "! evfsctl -s '$WORLD/A.store' status >/dev/null 2>&1 &&
		! pgrep -f '$WORLD/A.store' >/dev/null"
	until_true 30 eval "! pgrep -f '$WORLD/B.store' >/dev/null"
}
cleanup_user() {
	umount -l "$WORLD/A" 2>/dev/null
	umount -l "$WORLD/B" 2>/dev/null
	pkill -f "^evfs $WORLD/" 2>/dev/null
	return 0
}
try user/both_directions both_directions
cleanup_user
finish
