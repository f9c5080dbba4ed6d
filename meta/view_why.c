/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Why an entry is as it is: the rules that fired, with the facts that met. */
#include "meta/view_priv.h"

#include <string.h>

#include "base/mem.h"

struct teller {
	struct evfs_meta *meta;
	struct evfs_buf *out;
	const struct evfs_entry *entry;
	struct evfs_entry *group; /* owned; at the plain name */
	size_t n_group;
	size_t start; /* of this text in out */
};

static int put_dot(struct evfs_buf *out, evfs_dot dot)
{
	char text[EVFS_DOT_TEXT_SIZE];

	if (evfs_ino_is_root(dot))
		return evfs_buf_printf(out, "/");
	if (evfs_ino_is_lost(dot))
		return evfs_buf_printf(out, "lost+found");
	evfs_dot_format(dot, text);
	return evfs_buf_printf(out, "%s", text);
}

/* The names of the siblings, "a, b". */
static int put_siblings(struct teller *teller)
{
	int ret = 0;

	for (size_t i = 1; i < teller->n_group && ret == 0; i++) {
		const struct evfs_entry *sibling = &teller->group[i];

		if (i > 1)
			ret = evfs_buf_printf(teller->out, ", ");
		if (ret == 0)
			ret = evfs_view_escape(teller->out, sibling->name,
					       sibling->name_len);
	}
	if (ret == 0)
		ret = evfs_buf_put_u8(teller->out, '\n');
	return ret;
}

/* ---- directories ---- */

static const char removed_text[] = " was removed, and is shown because "
				   "something below it is not\n";

static int tell_undone(struct teller *teller, const struct evfs_place *place,
		       evfs_ino dir, evfs_ino shown_in)
{
	struct evfs_buf *out = teller->out;
	int ret = evfs_buf_printf(out, "rule 2: the move of ");

	if (ret == 0)
		ret = put_dot(out, dir);
	if (ret == 0)
		ret = evfs_buf_printf(out, " into ");
	if (ret == 0)
		ret = put_dot(out, place->parent);
	if (ret == 0)
		ret = evfs_buf_printf(out, " by ");
	if (ret == 0)
		ret = put_dot(out, place->stamp.dot);
	if (ret == 0)
		ret = evfs_buf_printf(out, " closes a cycle; shown in ");
	if (ret == 0)
		ret = put_dot(out, shown_in);
	return ret != 0 ? ret : evfs_buf_put_u8(out, '\n');
}

static int tell_member(struct teller *teller, evfs_ino dir,
		       struct evfs_err *err)
{
	const struct evfs_object *object;
	const struct evfs_link *link;
	evfs_ino above;
	int ret;

	if (evfs_ino_is_root(dir))
		return 0;
	if (evfs_ino_is_lost(dir)) {
		ret = evfs_buf_printf(teller->out, "rule 2: lost+found exists "
				      "because something in it has no place "
				      "of its own\n");
		return ret != 0 ? evfs_view_no_memory(err) : 0;
	}
	ret = evfs_view_above(teller->meta, dir, &above, &object, err);
	if (ret != 0 || object == NULL)
		return ret;
	link = evfs_object_only_link(object);
	if (link->alive.n == 0) {
		ret = evfs_buf_printf(teller->out, "rule 1: ");
		if (ret == 0)
			ret = put_dot(teller->out, dir);
		if (ret == 0)
			ret = evfs_buf_put(teller->out, removed_text,
					   sizeof(removed_text) - 1);
	}
	if (ret == 0 && evfs_view_is_undone(teller->meta, dir))
		ret = tell_undone(teller, &link->place, dir, above);
	return ret != 0 ? evfs_view_no_memory(err) : 0;
}

static int tell_merged(struct teller *teller)
{
	const struct evfs_dir *dir = &teller->entry->dir;
	int ret = evfs_buf_printf(teller->out, "rule 3: %zu directories of "
				  "this name are one: ", dir->n);

	for (size_t i = 0; i < dir->n && ret == 0; i++) {
		if (i > 0)
			ret = evfs_buf_printf(teller->out, ", ");
		if (ret == 0)
			ret = put_dot(teller->out, dir->members[i]);
	}
	return ret != 0 ? ret : evfs_buf_put_u8(teller->out, '\n');
}

static int tell_dir(struct teller *teller, struct evfs_err *err)
{
	const struct evfs_dir *dir = &teller->entry->dir;
	int ret = 0;

	for (size_t i = 0; i < dir->n && ret == 0; i++)
		ret = tell_member(teller, dir->members[i], err);
	if (ret != 0)
		return ret;
	if (dir->n > 1)
		ret = tell_merged(teller);
	if (ret == 0 && teller->n_group > 1) {
		ret = evfs_buf_printf(teller->out, "rule 4: the directory "
				      "keeps the name; beside it ");
		if (ret == 0)
			ret = put_siblings(teller);
	}
	return ret != 0 ? evfs_view_no_memory(err) : 0;
}

/* ---- files ---- */

static const char *reason(const struct teller *teller)
{
	const struct evfs_entry *winner = &teller->group[0];
	const struct evfs_entry *entry = teller->entry;

	if (winner->kind == EVFS_KIND_DIR)
		return "the directory keeps the name";
	if (entry->is_sibling && evfs_dot_equal(entry->members[0].ino,
						winner->members[0].ino))
		return "concurrent versions of one inode: the greatest stamp "
		       "has the name";
	return "several have this name: the greatest stamp has it";
}

static int tell_clash(struct teller *teller)
{
	const struct evfs_entry *entry = teller->entry;
	const char *plain = entry->is_sibling ? entry->plain : entry->name;
	size_t len = entry->is_sibling ? entry->plain_len : entry->name_len;
	int ret = evfs_buf_printf(teller->out, "rule 4: %s; ", reason(teller));

	if (ret == 0)
		ret = evfs_view_escape(teller->out, plain, len);
	if (ret == 0)
		ret = evfs_buf_printf(teller->out, " and ");
	return ret != 0 ? ret : put_siblings(teller);
}

static int tell_equal(struct teller *teller)
{
	const struct evfs_entry *entry = teller->entry;
	const char *comma = "";
	int ret = evfs_buf_printf(teller->out, "rule 5: equal contents are "
				  "shown once: ");

	for (size_t m = 0; m < entry->n_members && ret == 0; m++) {
		const struct evfs_member_link *member = &entry->members[m];
		size_t n = member->n_dots > 0 ? member->n_dots : 1;

		for (size_t d = 0; d < n && ret == 0; d++) {
			ret = evfs_buf_printf(teller->out, "%s", comma);
			if (ret == 0)
				ret = put_dot(teller->out,
					      member->n_dots > 0 ?
						      member->dots[d] :
						      member->ino);
			comma = ", ";
		}
	}
	return ret != 0 ? ret : evfs_buf_put_u8(teller->out, '\n');
}

static int tell_file(struct teller *teller, struct evfs_err *err)
{
	const struct evfs_entry *entry = teller->entry;
	const struct evfs_object *object;
	const struct evfs_attr *mode;
	struct evfs_attributes shown;
	bool equal = entry->n_members > 1;
	int ret = evfs_view_attr(teller->meta, entry, &shown, err);

	if (ret == 0)
		ret = evfs_facts_get(teller->meta->facts, entry->members[0].ino,
				     &object, err);
	if (ret != 0)
		return ret;
	if (teller->n_group > 1)
		ret = tell_clash(teller);
	for (size_t m = 0; m < entry->n_members; m++)
		equal |= entry->members[m].n_dots > 1;
	if (ret == 0 && equal)
		ret = tell_equal(teller);
	mode = evfs_object_find_attr(object, EVFS_ATTR_MODE, NULL, 0);
	if (ret == 0 && mode != NULL && mode->value.mode != shown.mode)
		ret = evfs_buf_printf(teller->out, "rule 6: the one who set "
				      "the set-ID bits had not seen this "
				      "content\n");
	return ret != 0 ? evfs_view_no_memory(err) : 0;
}

int evfs_view_why(struct evfs_meta *meta, evfs_ino dir,
		  const struct evfs_entry *entry, struct evfs_buf *out,
		  struct evfs_err *err)
{
	struct teller teller = { .meta = meta, .out = out, .entry = entry,
				 .start = out->len };
	int ret = evfs_view_cycles(meta, err);

	if (ret == 0 && entry->name_len > 0) /* not the root */
		ret = evfs_view_group(meta, dir,
				      entry->is_sibling ? entry->plain :
							  entry->name,
				      entry->is_sibling ? entry->plain_len :
							  entry->name_len,
				      &teller.group, &teller.n_group, err);
	if (ret == 0)
		ret = entry->kind == EVFS_KIND_DIR ? tell_dir(&teller, err) :
						     tell_file(&teller, err);
	if (ret == 0 && out->len == teller.start &&
	    evfs_buf_printf(out, "plain\n") != 0)
		ret = evfs_view_no_memory(err);
	if (teller.group != NULL)
		evfs_view_group_free(teller.group, teller.n_group);
	return ret;
}
