# SPDX-License-Identifier: GPL-3.0-or-later
# A directory of an ordinary file system to compare a mount with. Sourced after
# tests/lib/evfs.sh.

# backing [MIB]: makes $WORLD/backing: as root a new ext4 file system, mounted
# as FUSE mounts are (no devices, no set-user-ID programs) and, as a mount of
# evfs, without access times; else a plain directory.
backing() {
	local dir=$WORLD/backing
	mkdir "$dir" || fail "mkdir backing"
	[ "$(id -u)" = 0 ] || return 0
	if truncate -s "${1:-256}M" "$WORLD/ext4" &&
		mkfs.ext4 -q -F -I 256 "$WORLD/ext4" >/dev/null 2>&1 &&
		mount -o loop,nodev,nosuid,noatime "$WORLD/ext4" "$dir"; then
		rmdir "$dir/lost+found"
	else
		mount --bind "$dir" "$dir" &&
			mount -o remount,bind,nodev,nosuid,noatime "$dir" ||
			fail "no file system to compare with"
	fi
	trap 'unback; end_world' EXIT
}

unback() {
	umount "$WORLD/backing" 2>/dev/null || umount -l "$WORLD/backing" \
		2>/dev/null || true
}
