#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# What each system call answers, and what it changes, for each kind of caller,
# directory, object, path and flag: on the mount as on the disk's own file
# system (tests/posix/matrix.c).
#
# MATRIX_SHARE=1 runs every case (some minutes), else one of so many, chosen by
# SEED.
. "$(dirname "$0")/../lib/evfs.sh"
. "$(dirname "$0")/../lib/backing.sh"
matrix=$EVFS_BIN/tests/posix/matrix
SEED=${SEED:-1}
MATRIX_SHARE=${MATRIX_SHARE:-6}

evfsctl init "$(store A)" --name A >/dev/null || fail init
options=
[ "$(id -u)" != 0 ] || options="-o allow_other"
start A $options
m=$(mnt A)
backing

# What may differ, and why:
# - FALLOC_FL_COLLAPSE_RANGE (8) and INSERT_RANGE (20): FUSE has none in the
#   kernel;
# - ext4 ends below 2^63 and takes symlink targets of a block less one byte
#   only; here all of PATH_MAX and off_t can be used;
# - truncate(2) to the size that a file has changes no times (POSIX asks for
#   that only where the size changes): with writeback caching the kernel does
#   not tell;
# - a chown(2) that changes nothing (-1, -1) of a file with set-ID bits: FUSE's
#   kernel side does not check who may, and then of another than the owner
#   nothing is taken away;
# - an ordinary user compares with a file system that keeps access times.
may_differ() {
	case $1 in
	data) grep -vE '^data (fallocate (8|20) |lseek 9223372036854775807:)' ;;
	inodes)
		sed -E '/^inodes chown-- .* o=f[2-7][0-7]{3}:/s/: EPERM \|/: ok |/'
		;;
	names) grep -vF 'call30(path4095)' ;;
	times) grep -vE '^times call22:' | sed -E 's/:a(m?c?)/:\1/g' ;;
	*) cat ;;
	esac
}

compare() { # SECTION [SHARE]
	local side
	for side in backing A; do
		"$matrix" -s "$SEED" -n "${2:-$MATRIX_SHARE}" -o "$1" \
			"$WORLD/$side" >"$WORLD/$side.$1" || fail "matrix $1 on $side"
		may_differ "$1" <"$WORLD/$side.$1" >"$WORLD/$side.$1.form"
	done
	say "$1: $(wc -l <"$WORLD/A.$1") cases, seed $SEED"
	diff "$WORLD/backing.$1.form" "$WORLD/A.$1.form" | grep '^[<>]' |
		sort -k 2 | head -n "${LINES_MAX:-8}" | grep . &&
		fail "< the disk's file system, > the mount"
	return 0
}

sections="names pairs open data times"
[ "$(id -u)" != 0 ] || sections="rights inodes $sections"
for t in $sections; do
	case $t in
	data | times) try "matrix/$t" compare "$t" 1 ;;
	*) try "matrix/$t" compare "$t" ;;
	esac
done
finish
