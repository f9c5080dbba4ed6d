#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Every row of the conflict rules (CONTRACT, "Conflicts as sibling files"), on
# real mounts: two replicas apart, an operation on each, together again. Each
# row runs in both directions: X acts first, then Y, so Y's is the later one.
. "$(dirname "$0")/../lib/evfs.sh"
DIR_TIMES=no

new_world A B C

apart() { ctl A pause && ctl B pause && ctl C pause; }
together() {
	ctl A resume && ctl B resume && ctl C resume
	synced A B C
	same_trees A B C
	same_dumps A B C
}
siblings() { # FILE: names of its siblings on A
	(cd "$(dirname "$(mnt A)/$1")" && find . -maxdepth 1 -name \
		"*.conflict-*" -printf '%f\n' | sort)
}
# expect_pair DIR NAME GLOB PLAIN SIBLING: the name holds PLAIN, and exactly one
# sibling that matches GLOB holds SIBLING, everywhere
expect_pair() {
	local on found
	for on in A B C; do
		equal "$1/$2 on $on" "$(cat "$(mnt $on)/$1/$2")" "$4"
		found=$(find "$(mnt $on)/$1" -name '*.conflict-*')
		case $found in
		"$(mnt $on)/$1"/$3) ;;
		*) fail "siblings on $on: '$found', not $3" ;;
		esac
		equal "the sibling on $on" "$(cat "$found")" "$5"
	done
}
expect_no_sibling() {
	local on
	for on in A B C; do
		[ -z "$(find "$(mnt $on)/$1" -name '*.conflict-*')" ] ||
			fail "a sibling on $on: $(ls "$(mnt $on)/$1")"
	done
}
fresh() { # DIR: an empty directory everywhere
	mkdir "$(mnt A)/$1" && synced A B C
}

edit_edit() { # X Y
	fresh "ee$1" && echo base >"$(mnt A)/ee$1/f.tar.gz" && synced A B C
	apart
	echo "$1" >"$(mnt "$1")/ee$1/f.tar.gz"
	echo "$2" >"$(mnt "$2")/ee$1/f.tar.gz"
	together
	expect_pair "ee$1" f.tar.gz "f.conflict-$1-????????.tar.gz" "$2" "$1"
	ctl A conflicts | grep -q "^/ee$1/f.tar.gz" || fail "not in conflicts"
	ctl A why "$(mnt A)/ee$1/f.tar.gz" | grep -q 'rule 4' || fail "why"
}
create_create() {
	fresh "cc$1"
	apart
	echo "$1" >"$(mnt "$1")/cc$1/.bashrc"
	echo "$2" >"$(mnt "$2")/cc$1/.bashrc"
	together
	expect_pair "cc$1" .bashrc ".bashrc.conflict-$1-????????" "$2" "$1"
}
equal_contents() {
	fresh "eq$1"
	apart
	echo same >"$(mnt "$1")/eq$1/f"
	echo same >"$(mnt "$2")/eq$1/f"
	together
	expect_no_sibling "eq$1"
	equal content "$(cat "$(mnt C)/eq$1/f")" same
}
metadata_only() {
	fresh "md$1" && echo x >"$(mnt A)/md$1/f" && synced A B C
	apart
	chmod 600 "$(mnt "$1")/md$1/f"
	setfattr -n user.a -v 1 "$(mnt "$1")/md$1/f"
	touch -d 2001-02-03 "$(mnt "$2")/md$1/f"
	setfattr -n user.b -v 2 "$(mnt "$2")/md$1/f"
	together
	expect_no_sibling "md$1"
	for on in A B C; do
		f=$(mnt $on)/md$1/f
		equal mode "$(stat -c %a "$f")" 600
		equal mtime "$(date -r "$f" +%F)" 2001-02-03
		equal xattrs "$(getfattr -d --absolute-names "$f" | grep -c user)" 2
	done
}
both_deleted() {
	fresh "bd$1" && echo x >"$(mnt A)/bd$1/f" && synced A B C
	apart
	rm "$(mnt A)/bd$1/f" "$(mnt B)/bd$1/f"
	together
	equal listing "$(ls -A "$(mnt C)/bd$1")" ""
}
two_mkdirs() {
	fresh "mk$1"
	apart
	mkdir "$(mnt "$1")/mk$1/d" "$(mnt "$2")/mk$1/d"
	mkdir "$(mnt "$1")/mk$1/d/e" "$(mnt "$2")/mk$1/d/e"
	echo 1 >"$(mnt "$1")/mk$1/d/e/one"
	echo 2 >"$(mnt "$2")/mk$1/d/e/two"
	together
	expect_no_sibling "mk$1"
	equal listing "$(cd "$(mnt C)/mk$1" && find . | sort | tr '\n' ' ')" \
		". ./d ./d/e ./d/e/one ./d/e/two "
	rm "$(mnt C)/mk$1/d/e/one" && mv "$(mnt C)/mk$1/d" "$(mnt C)/mk$1/moved"
	synced A B C && same_trees A B C
	equal moved "$(cd "$(mnt A)/mk$1" && find . -type f)" ./moved/e/two
	rm -r "$(mnt B)/mk$1/moved" && synced A B C
	equal removed "$(ls -A "$(mnt A)/mk$1")" ""
}
rename_edit() {
	fresh "re$1" && echo x >"$(mnt A)/re$1/f" && synced A B C
	apart
	mv "$(mnt "$1")/re$1/f" "$(mnt "$1")/re$1/g"
	echo edited >"$(mnt "$2")/re$1/f"
	together
	expect_no_sibling "re$1"
	equal listing "$(ls -A "$(mnt C)/re$1")" g
	equal content "$(cat "$(mnt C)/re$1/g")" edited
}
two_renames() {
	fresh "rr$1" && echo x >"$(mnt A)/rr$1/f" && synced A B C
	apart
	mv "$(mnt "$1")/rr$1/f" "$(mnt "$1")/rr$1/$1"
	mv "$(mnt "$2")/rr$1/f" "$(mnt "$2")/rr$1/$2"
	together
	equal listing "$(ls -A "$(mnt C)/rr$1")" "$2"
}
file_and_directory() {
	fresh "fd$1"
	apart
	echo file >"$(mnt "$1")/fd$1/n"
	mkdir "$(mnt "$2")/fd$1/n"
	echo in >"$(mnt "$2")/fd$1/n/child"
	together
	for on in A B C; do
		equal "child on $on" "$(cat "$(mnt $on)/fd$1/n/child")" in
		equal "sibling on $on" \
			"$(cat "$(mnt $on)/fd$1"/n.conflict-"$1"-????????)" file
	done
}
symlinks() {
	fresh "sl$1"
	apart
	ln -s "to-$1" "$(mnt "$1")/sl$1/l"
	ln -s "to-$2" "$(mnt "$2")/sl$1/l"
	together
	for on in A B C; do
		equal "plain on $on" "$(readlink "$(mnt $on)/sl$1/l")" "to-$2"
		equal "sibling on $on" \
			"$(readlink "$(mnt $on)/sl$1"/l.conflict-"$1"-????????)" \
			"to-$1"
	done
}
edit_beats_delete() {
	fresh "ed$1" && echo x >"$(mnt A)/ed$1/f" && synced A B C
	apart
	rm "$(mnt "$1")/ed$1/f"
	echo edited >"$(mnt "$2")/ed$1/f"
	together
	equal content "$(cat "$(mnt C)/ed$1/f")" edited
	expect_no_sibling "ed$1"
}
delete_after_edit() {
	fresh "de$1" && echo x >"$(mnt A)/de$1/f" && synced A B C
	apart
	echo edited >"$(mnt "$1")/de$1/f"
	rm "$(mnt "$2")/de$1/f"
	together
	equal content "$(cat "$(mnt C)/de$1/f")" edited
}
rmdir_and_child() {
	fresh "rc$1" && mkdir "$(mnt A)/rc$1/d" && synced A B C
	apart
	rmdir "$(mnt "$1")/rc$1/d"
	echo child >"$(mnt "$2")/rc$1/d/f"
	together
	equal content "$(cat "$(mnt C)/rc$1/d/f")" child
}
cycle() {
	fresh "cy$1" && mkdir "$(mnt A)/cy$1/a" "$(mnt A)/cy$1/b" && synced A B C
	apart
	mv "$(mnt "$1")/cy$1/a" "$(mnt "$1")/cy$1/b/a"
	mv "$(mnt "$2")/cy$1/b" "$(mnt "$2")/cy$1/a/b"
	together
	equal tree "$(cd "$(mnt C)/cy$1" && find . | sort | tr '\n' ' ')" \
		". ./b ./b/a "
}
settle_rm() {
	edit_edit_quiet "sr$1" "$1" "$2"
	rm "$(mnt C)/sr$1"/f.conflict-*
	synced A B C && same_trees A B C
	expect_no_sibling "sr$1"
	equal content "$(cat "$(mnt A)/sr$1/f")" "$2"
}
settle_choose() {
	edit_edit_quiet "sc$1" "$1" "$2"
	mv "$(mnt C)/sc$1"/f.conflict-* "$(mnt C)/sc$1/f"
	synced A B C && same_trees A B C
	expect_no_sibling "sc$1"
	equal content "$(cat "$(mnt A)/sc$1/f")" "$1"
}
settle_promote() {
	edit_edit_quiet "sp$1" "$1" "$2"
	mv "$(mnt C)/sp$1"/f.conflict-* "$(mnt C)/sp$1/other"
	synced A B C && same_trees A B C
	equal content "$(cat "$(mnt A)/sp$1/f") $(cat "$(mnt B)/sp$1/other")" \
		"$2 $1"
}
plain_goes() {
	edit_edit_quiet "pg$1" "$1" "$2"
	local name
	name=$(siblings "pg$1/f")
	rm "$(mnt C)/pg$1/f"
	synced A B C && same_trees A B C
	equal listing "$(ls -A "$(mnt B)/pg$1")" "$name"
	equal content "$(cat "$(mnt A)/pg$1/$name")" "$1"
	[ -z "$(ctl A conflicts | grep "/pg$1/")" ] || fail "still a conflict"
}
save_leaves_siblings() {
	edit_edit_quiet "ss$1" "$1" "$2"
	echo saved >"$(mnt C)/ss$1/f"
	synced A B C && same_trees A B C
	expect_pair "ss$1" f "f.conflict-$1-????????" saved "$1"
}
resolve_keep() {
	edit_edit_quiet "rk$1" "$1" "$2"
	ctl C resolve "$(mnt C)/rk$1/f" --keep "$1" || fail resolve
	equal "at once on C" "$(cat "$(mnt C)/rk$1/f")" "$1"
	synced A B C && same_trees A B C
	expect_no_sibling "rk$1"
	equal content "$(cat "$(mnt A)/rk$1/f")" "$1"
}
edit_edit_quiet() { # DIR X Y
	fresh "$1" && echo base >"$(mnt A)/$1/f" && synced A B C
	apart
	echo "$2" >"$(mnt "$2")/$1/f"
	echo "$3" >"$(mnt "$3")/$1/f"
	together
}

for test in edit_edit create_create equal_contents metadata_only both_deleted \
	two_mkdirs rename_edit two_renames file_and_directory symlinks \
	edit_beats_delete delete_after_edit rmdir_and_child cycle settle_rm \
	settle_choose settle_promote plain_goes save_leaves_siblings \
	resolve_keep; do
	try "conflicts/$test A then B" $test A B
	try "conflicts/$test B then A" $test B A
done
status_says_attention() {
	ctl A status >"$WORLD/status"
	equal "exit code" $? 2
	grep -q '^ATTENTION [0-9]* conflict' "$WORLD/status" || fail "$(cat "$WORLD/status")"
}
try conflicts/status status_says_attention
try conflicts/logs check_logs A B C
finish
