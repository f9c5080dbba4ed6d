#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Who may include what (docs/ARCHITECTURE.md, "Layer rule"), and how long a
# file may be. The rules are tried on planted violations first, so that a rule
# that does not work any more is seen.
set -eu

# check TREE: prints one line for each violation in it.
check()
{
	(
		cd "$1"
		find base meta net fs tools tests -name '*.[ch]' \
			! -name '*.pb-c.[ch]' 2>/dev/null | LC_ALL=C sort |
			awk "$rules"
	)
}

# shellcheck disable=SC2016 # the dollars are those of awk
rules='
function bad(what)
{
	print file ": " what
}

# May a file of this layer include this header of ours?
function is_allowed(layer, header,   i, n, parts)
{
	if (layer == "tools" || header == "config.h")
		return 1
	n = split(below[layer], parts, " ")
	for (i = 1; i <= n; i++)
		if (index(header, parts[i] "/") == 1)
			return 1
	return 0
}

function is_pure(name)
{
	return name ~ /^base\// || name ~ pure
}

function ours(layer, header)
{
	includes[file] = includes[file] " " header
	if (layer != "tests" && !is_allowed(layer, header))
		bad("includes \"" header "\", which is not below " layer "/")
}

function theirs(layer, header)
{
	if (header == "sqlite3.h") {
		sqlite[file] = 1
		if (layer != "tests" && file !~ /^meta\/db[^\/]*\.[ch]$/)
			bad("includes <sqlite3.h>: only meta/db* may")
	}
	if (layer == "tests")
		return
	if (header ~ /^(fuse3\/)?(fuse|fuse_lowlevel)\.h$/ && layer != "fs")
		bad("includes <" header ">: only fs/ may")
	if (header ~ /^libssh\// && file !~ /^net\/ssh[^\/]*\.[ch]$/)
		bad("includes <" header ">: only net/ssh* may")
	if (header == "blake2.h" && file != "base/hash.c")
		bad("includes <blake2.h>: only base/hash.c may")
}

# Does it come to SQLite, by itself or through a header of ours?
function reaches_sqlite(name,   i, n, parts)
{
	if (name in sqlite || name == "meta/db.h")
		return 1
	if (name in seen)
		return 0
	seen[name] = 1
	n = split(includes[name], parts, " ")
	for (i = 1; i <= n; i++)
		if (reaches_sqlite(parts[i]))
			return 1
	return 0
}

function read_file(   line, layer, header, n, max)
{
	layer = file
	sub(/\/.*/, "", layer)
	n = 0
	while ((getline line < file) > 0) {
		n++
		if (line !~ /^[ \t]*#[ \t]*include[ \t]*[<"]/)
			continue
		header = line
		sub(/^[^<"]*[<"]/, "", header)
		sub(/[>"].*/, "", header)
		if (line ~ /include[ \t]*"/)
			ours(layer, header)
		else
			theirs(layer, header)
	}
	close(file)
	max = layer == "tests" ? 1000 : 800
	if (file ~ /\.c$/ && n > max)
		bad(n " lines, more than " max " (split it)")
}

BEGIN {
	below["base"] = "base"
	below["meta"] = "base meta"
	below["net"] = "base meta net"
	below["fs"] = "base meta fs"
	pure = "^meta/(dot|clock|context|object|merge|index|view|tree|" \
		"sibling)(_[^/]*)?\\.[ch]$"
}

{
	file = $0
	files[NR] = file
	read_file()
}

END {
	for (i = 1; i <= NR; i++) {
		file = files[i]
		split("", seen)
		if (is_pure(file) && reaches_sqlite(file))
			bad("is pure, and comes to SQLite by its includes")
	}
}
'

# ---- do the rules work? ----

temp=$(mktemp -d)
trap 'rm -rf "$temp"' EXIT INT TERM

plant()
{
	rm -rf "$temp/tree"
	for dir in base meta net fs tools tests/unit; do
		mkdir -p "$temp/tree/$dir"
	done
	printf '#include <sqlite3.h>\n' >"$temp/tree/meta/db.h"
	printf '#include "base/err.h"\n#include "meta/object.h"\n' \
		>"$temp/tree/meta/merge.c"
	printf '#include <fuse_lowlevel.h>\n#include "fs/fs.h"\n' \
		>"$temp/tree/fs/session.c"
	printf '#include <libssh/libssh.h>\n' >"$temp/tree/net/ssh_client.c"
	printf '#include <blake2.h>\n' >"$temp/tree/base/hash.c"
	printf '#include "net/net.h"\n#include "fs/fs.h"\n' \
		>"$temp/tree/tools/evfs.c"
	printf '#include <sqlite3.h>\n#include "local.h"\n' \
		>"$temp/tree/tests/unit/test_x.c"
}

# must_refuse FILE WORDS CONTENT: this content in this file is found.
must_refuse()
{
	plant
	printf '%b' "$3" >"$temp/tree/$1"
	found=$(check "$temp/tree")
	if ! echo "$found" | grep -qF "$1: " ||
		! echo "$found" | grep -qF "$2"; then
		echo "layers.sh: a planted violation was not found: $1 ($2)"
		echo "found: $found"
		exit 1
	fi
}

lines()
{
	awk "BEGIN { for (i = 0; i < $1; i++) print \"x\" }"
}

plant
found=$(check "$temp/tree")
if [ -n "$found" ]; then
	echo "layers.sh: violations in a clean tree: $found"
	exit 1
fi
must_refuse base/x.c 'not below base/' '#include "meta/dot.h"\n'
must_refuse meta/x.c 'not below meta/' '#include "net/net.h"\n'
must_refuse meta/x.h 'not below meta/' '#include "tools/x.h"\n'
must_refuse meta/x.c 'not below meta/' '#include "dot.h"\n'
must_refuse net/x.c 'not below net/' '#  include  "fs/fs.h"\n'
must_refuse fs/x.c 'not below fs/' 'int x;\n#include "net/net.h"\n'
must_refuse meta/view.c 'only meta/db* may' '#include <sqlite3.h>\n'
must_refuse tools/x.c 'only meta/db* may' '#include <sqlite3.h>\n'
must_refuse net/x.c 'only fs/ may' '#include <fuse_lowlevel.h>\n'
must_refuse tools/x.c 'only fs/ may' '#include <fuse3/fuse.h>\n'
must_refuse net/engine.c 'only net/ssh*' '#include <libssh/server.h>\n'
must_refuse meta/x.c 'only base/hash.c' '#include <blake2.h>\n'
must_refuse meta/tree_make.c 'is pure' '#include "meta/db.h"\n'
must_refuse meta/object.h 'is pure' '#include "meta/db.h"\n'
must_refuse fs/x.c '801 lines' "$(lines 801)\n"
must_refuse tests/unit/x.c '1001 lines' "$(lines 1001)\n"
plant
lines 800 >"$temp/tree/fs/x.c"
lines 1000 >"$temp/tree/tests/unit/x.c"
printf '#include "meta/y.h"\n' >"$temp/tree/meta/index_x.c"
printf '#include "meta/z.h"\n' >"$temp/tree/meta/y.h"
printf '#include "meta/db.h"\n' >"$temp/tree/meta/z.h"
found=$(check "$temp/tree")
if [ "$found" != \
	"meta/index_x.c: is pure, and comes to SQLite by its includes" ]; then
	echo "layers.sh: includes of includes are not followed: $found"
	exit 1
fi

# ---- the tree itself ----

found=$(check "${srcdir:-.}")
if [ -n "$found" ]; then
	echo "$found"
	echo "layers.sh: $(echo "$found" | wc -l) violations"
	exit 1
fi
