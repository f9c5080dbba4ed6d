/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A tree as sorted lines, one for each entry: made from the entries of the
 * reference, or read through meta/view.h. */
#include "tests/lib/refview.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "meta/facts.h"
#include "meta/view.h"

static void must(int ret)
{
	if (ret != 0)
		abort();
}

#define GROW(items, n, cap) \
	must(evfs_grow((void **)&(items), (n), &(cap), sizeof(*(items))))

void refview_escape(struct evfs_buf *out, const void *data, size_t len)
{
	const uint8_t *bytes = data;
	uint8_t *at = evfs_buf_reserve(out, 4 * len);

	if (at == NULL)
		abort();
	for (size_t i = 0; i < len; i++) {
		uint8_t c = bytes[i];

		if (c > 0x20 && c < 0x7f && c != '\\') {
			*at++ = c;
			continue;
		}
		*at++ = '\\';
		*at++ = (uint8_t)('0' + (c >> 6));
		*at++ = (uint8_t)('0' + ((c >> 3) & 7));
		*at++ = (uint8_t)('0' + (c & 7));
	}
	out->len = (size_t)(at - out->data);
}

static void put_dot(struct evfs_buf *out, char before, evfs_dot dot)
{
	must(evfs_buf_printf(out, "%c%llx.%u.%llu", before,
			     (unsigned long long)dot.actor.node,
			     dot.actor.epoch,
			     (unsigned long long)dot.counter));
}

/* path: of the directory, escaped. */
static void put_line(struct evfs_buf *out, const char *path,
		     const struct evfs_entry *entry, uint32_t mode)
{
	char hex[EVFS_HASH_HEX_SIZE];

	must(evfs_buf_printf(out, "%s/", path));
	refview_escape(out, entry->name, entry->name_len);
	must(evfs_buf_printf(out, " %d %04o", (int)entry->kind, mode));
	for (size_t i = 0; i < entry->dir.n; i++)
		put_dot(out, i == 0 ? ' ' : '+', entry->dir.members[i]);
	for (size_t m = 0; m < entry->n_members; m++) {
		const struct evfs_member_link *member = &entry->members[m];

		put_dot(out, m == 0 ? ' ' : '+', member->ino);
		put_dot(out, '@', member->link.dot);
		for (size_t d = 0; d < member->n_dots; d++)
			put_dot(out, d == 0 ? ':' : ',', member->dots[d]);
	}
	if (entry->has_version) {
		evfs_hash_format(&entry->content, hex);
		must(evfs_buf_printf(out, " %.16s %llu %lld.%u %llu", hex,
				     (unsigned long long)entry->size,
				     (long long)entry->mtime_s,
				     entry->mtime_ns, (unsigned long long)
				     entry->version_time_ns));
	} else {
		must(evfs_buf_printf(out, " - %llu",
				     (unsigned long long)entry->size));
	}
	if (entry->is_sibling) {
		must(evfs_buf_printf(out, " beside "));
		refview_escape(out, entry->plain, entry->plain_len);
	}
	must(evfs_buf_put(out, "\n", 2));
}

void refview_add_line(struct refview_lines *lines, const char *path,
		      const struct evfs_entry *entry, uint32_t mode)
{
	struct evfs_buf line = { 0 };

	put_line(&line, path, entry, mode);
	GROW(lines->items, lines->n, lines->cap);
	lines->items[lines->n++] = (char *)line.data;
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

void refview_join_lines(struct refview_lines *lines, struct evfs_buf *ret)
{
	if (lines->n > 1)
		qsort(lines->items, lines->n, sizeof(*lines->items), by_text);
	for (size_t i = 0; i < lines->n; i++) {
		must(evfs_buf_put(ret, lines->items[i],
				  strlen(lines->items[i])));
		evfs_free(lines->items[i]);
	}
	must(evfs_buf_put_u8(ret, 0));
	evfs_free(lines->items);
	*lines = (struct refview_lines){ 0 };
}

/* ---- the other side ---- */

struct reader {
	struct evfs_meta *meta;
	const char *path;
	struct folder {
		evfs_ino ino;
		char *path;
	} *folders;
	size_t n, cap;
	struct refview_lines lines;
};

static int read_entry(void *arg, struct evfs_entry *entry)
{
	struct reader *reader = arg;
	struct evfs_attributes attributes;

	must(evfs_view_attr(reader->meta, entry, &attributes, NULL));
	refview_add_line(&reader->lines, reader->path, entry, attributes.mode);
	if (entry->kind == EVFS_KIND_DIR) {
		struct evfs_buf below = { 0 };

		must(evfs_buf_printf(&below, "%s/", reader->path));
		refview_escape(&below, entry->name, entry->name_len);
		must(evfs_buf_put_u8(&below, 0));
		GROW(reader->folders, reader->n, reader->cap);
		reader->folders[reader->n++] = (struct folder){
			entry->dir.members[0], (char *)below.data
		};
	}
	return 0;
}

void refview_text_of(struct evfs_meta *meta, struct evfs_buf *ret)
{
	struct reader reader = { .meta = meta, .path = "" };
	struct evfs_err err = { 0 };

	evfs_ino dir = EVFS_INO_ROOT;
	for (size_t i = 0;; i++) {
		if (evfs_view_list(meta, dir, NULL, 0, read_entry, &reader,
				   &err) != 0) {
			fprintf(stderr, "list %s: %s\n", reader.path, err.msg);
			abort();
		}
		if (i == reader.n)
			break;
		dir = reader.folders[i].ino;
		reader.path = reader.folders[i].path;
	}
	for (size_t i = 0; i < reader.n; i++)
		evfs_free(reader.folders[i].path);
	evfs_free(reader.folders);
	refview_join_lines(&reader.lines, ret);
}

/* ---- comparing ---- */

struct undone {
	const struct refview *view;
	size_t matched;
	bool wrong;
};

static int check_cycle(void *arg, const struct evfs_cycle_row *row)
{
	struct undone *undone = arg;
	const struct refview *view = undone->view;
	size_t i = 0;

	if (evfs_dot_equal(row->shown_in, EVFS_INO_NONE))
		return 0;
	while (i < view->n &&
	       !evfs_dot_equal(view->objects[i]->ino, row->dir))
		i++;
	if (i == view->n || !view->dirs[i].undone ||
	    !evfs_dot_equal(view->dirs[i].shown_in, row->shown_in))
		undone->wrong = true;
	undone->matched++;
	return 0;
}

static char *flags_differ(struct evfs_meta *meta, const struct refview *view)
{
	struct evfs_facts *facts = evfs_meta_facts(meta);
	struct undone undone = { .view = view };
	size_t expected = 0;

	for (size_t i = 0; i < view->n; i++) {
		bool needed;

		if (view->objects[i]->kind != EVFS_KIND_DIR ||
		    evfs_ino_is_root(view->objects[i]->ino))
			continue;
		must(evfs_facts_is_needed(facts, view->objects[i]->ino,
					  &needed, NULL));
		if (needed != view->dirs[i].needed)
			return evfs_asprintf("directory %llu: needed is %d",
				(unsigned long long)
				view->objects[i]->ino.counter, needed);
		expected += view->dirs[i].undone;
	}
	must(evfs_facts_cycles(facts, check_cycle, &undone, NULL));
	if (undone.wrong || undone.matched != expected)
		return evfs_asprintf("undone moves: %zu of %zu%s",
				     undone.matched, expected,
				     undone.wrong ? ", wrong ones" : "");
	return NULL;
}

char *refview_differs(struct evfs_meta *meta)
{
	struct refview *view = refview_new(meta);
	struct evfs_buf text = { 0 };
	char *ret = flags_differ(meta, view);

	refview_text_of(meta, &text);
	if (ret == NULL &&
	    strcmp((char *)text.data, (char *)view->text.data) != 0)
		ret = evfs_asprintf("expected:\n%sfound:\n%s",
				    (char *)view->text.data,
				    (char *)text.data);
	evfs_buf_fini(&text);
	refview_free(view);
	return ret;
}
