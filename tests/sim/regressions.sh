#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Replays the histories that have failed before: tests/sim/regressions has a
# seed and what it was in each line. Run by `make check`, in a build directory.
list=${srcdir:-.}/tests/sim/regressions
failed=0 n=0
while read -r seed what; do
	case $seed in '' | '#'*) continue ;; esac
	n=$((n + 1))
	tests/sim/run --seed "$seed" --runs 1 && continue
	echo "not ok: $what"
	failed=1
done <"$list"
[ $n -gt 0 ] || { echo "$list: no history in it"; exit 1; }
exit $failed
