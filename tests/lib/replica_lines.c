/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The tree of a replica as sorted lines, with the digits of generated names
 * masked; and paths found by such lines. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "meta/facts.h"
#include "tests/lib/replica.h"

static void *must(void *pointer)
{
	if (pointer == NULL) {
		fprintf(stderr, "out of memory\n");
		abort();
	}
	return pointer;
}

void test_mask(char *path)
{
	static const char mark[] = ".conflict-";
	char *at = path;

	while ((at = strstr(at, mark)) != NULL) {
		at += strlen(mark);
		while (*at != '\0' && *at != '-' && *at != '/')
			at++;
		if (*at != '-')
			continue;
		for (at++; *at != '\0' && strchr("0123456789abcdefV", *at);
		     at++)
			*at = 'V';
	}
}

void test_lines_add(struct test_lines *lines, char *line)
{
	void *items = lines->items;

	if (evfs_grow(&items, lines->n, &lines->cap,
		      sizeof(*lines->items)) != 0)
		must(NULL);
	lines->items = items;
	lines->items[lines->n++] = must(line);
}

static int line_order(const void *a, const void *b)
{
	const char *const *x = a, *const *y = b;

	return strcmp(*x, *y);
}

void test_lines_sort(struct test_lines *lines)
{
	if (lines->n > 1)
		qsort(lines->items, lines->n, sizeof(*lines->items),
		      line_order);
}

void test_lines_free(struct test_lines *lines)
{
	for (size_t i = 0; i < lines->n; i++)
		evfs_free(lines->items[i]);
	evfs_free(lines->items);
	memset(lines, 0, sizeof(*lines));
}

/* ---- walking the tree ---- */

struct walker {
	struct test_replica *replica;
	const char *path; /* of the directory */
	int rc;           /* the first failure */
	/* Told of each entry. */
	void (*each)(struct walker *walker, const char *path,
		     const struct evfs_entry *entry, const char *content);
	struct test_lines *lines; /* of line_of */
	const char *wanted;       /* of match: masked path, or plain path */
	const char *content;      /* of match */
	bool sibling;             /* of match: wanted is the plain path */
	char *found;              /* of match; owned */
};

static int walk_directory(struct walker *walker, evfs_ino dir,
			  const char *path);

static const struct evfs_object *face(struct walker *walker,
				      const struct evfs_entry *entry)
{
	const struct evfs_object *object = NULL;
	evfs_ino ino = entry->kind == EVFS_KIND_DIR ? entry->dir.members[0] :
						      entry->members[0].ino;
	int rc = evfs_facts_get(evfs_meta_facts(walker->replica->meta), ino,
				&object, &walker->replica->err);

	if (rc != 0)
		walker->rc = rc;
	return object;
}

static int walk_entry(void *arg, struct evfs_entry *entry)
{
	struct walker *walker = arg;
	char *path = must(evfs_asprintf("%s/%s", walker->path, entry->name));
	const struct evfs_object *object = face(walker, entry);
	char *content = NULL;

	if (walker->rc == 0 && entry->kind == EVFS_KIND_SYMLINK)
		content = must(evfs_asprintf("%.*s", (int)object->target_len,
					     (const char *)object->target));
	else if (entry->kind == EVFS_KIND_FILE)
		content = must(evfs_strdup(
			entry->has_version ?
				test_tag_of(walker->replica->world,
					    &entry->content) :
				"unsealed"));
	if (walker->rc == 0)
		walker->each(walker, path, entry, content);
	evfs_free(content);
	if (walker->rc == 0 && entry->kind == EVFS_KIND_DIR)
		walker->rc = walk_directory(walker, entry->dir.members[0],
					    path);
	evfs_free(path);
	return walker->rc != 0;
}

static int walk_directory(struct walker *walker, evfs_ino dir,
			  const char *path)
{
	const char *above = walker->path;
	int rc;

	walker->path = path;
	rc = evfs_view_list(walker->replica->meta, dir, NULL, 0, walk_entry,
			    walker, &walker->replica->err);
	walker->path = above;
	return walker->rc != 0 ? walker->rc : rc;
}

static int walk(struct walker *walker)
{
	int rc;

	evfs_meta_lock(walker->replica->meta);
	rc = walk_directory(walker, EVFS_INO_ROOT, "");
	evfs_meta_unlock(walker->replica->meta);
	return rc;
}

/* ---- lines ---- */

static const char *kind_text(enum evfs_kind kind)
{
	switch (kind) {
	case EVFS_KIND_FILE:
		return "file";
	case EVFS_KIND_DIR:
		return "dir";
	case EVFS_KIND_SYMLINK:
		return "symlink";
	default:
		return "special";
	}
}

static void put_xattrs(struct evfs_buf *line, const struct evfs_object *object)
{
	for (size_t i = 0; object != NULL && i < object->n_attrs; i++) {
		const struct evfs_attr *attr = &object->attrs[i];

		if (attr->kind != EVFS_ATTR_XATTR || attr->value.xattr.removed)
			continue;
		if (evfs_buf_printf(line, " xattr:%.*s=%.*s",
				    (int)attr->key_len,
				    (const char *)attr->key,
				    (int)attr->value.xattr.len,
				    (const char *)attr->value.xattr.data) != 0)
			must(NULL);
	}
}

static void line_of(struct walker *walker, const char *path,
		    const struct evfs_entry *entry, const char *content)
{
	struct evfs_attributes attributes;
	struct evfs_buf line = { 0 };
	int rc = evfs_view_attr(walker->replica->meta, entry, &attributes,
				&walker->replica->err);

	if (rc != 0) {
		walker->rc = rc;
		return;
	}
	if (evfs_buf_printf(&line, "%s %s %s %04o ", path,
			    kind_text(entry->kind),
			    content != NULL ? content : "-",
			    attributes.mode) != 0)
		must(NULL);
	if ((entry->is_sibling ?
		     evfs_buf_printf(&line, "%s/%s", walker->path,
				     entry->plain) :
		     evfs_buf_printf(&line, "-")) != 0)
		must(NULL);
	put_xattrs(&line, face(walker, entry));
	if (evfs_buf_put_u8(&line, 0) != 0)
		must(NULL);
	test_mask((char *)line.data);
	test_lines_add(walker->lines, evfs_strdup((char *)line.data));
	evfs_buf_fini(&line);
}

int test_tree_lines(struct test_replica *replica, struct test_lines *ret)
{
	struct walker walker = { .replica = replica,
				 .each = line_of,
				 .lines = ret };
	int rc;

	memset(ret, 0, sizeof(*ret));
	rc = walk(&walker);
	test_lines_sort(ret);
	return rc;
}

/* ---- paths ---- */

static void match(struct walker *walker, const char *path,
		  const struct evfs_entry *entry, const char *content)
{
	char *form;

	if (walker->found != NULL || content == NULL ||
	    strcmp(content, walker->content) != 0 ||
	    (walker->sibling && !entry->is_sibling))
		return;
	form = walker->sibling ? evfs_asprintf("%s/%s", walker->path,
					       entry->plain) :
				 evfs_strdup(path);
	if (!walker->sibling)
		test_mask(must(form));
	if (strcmp(must(form), walker->wanted) == 0)
		walker->found = must(evfs_strdup(path));
	evfs_free(form);
}

char *test_find_path(struct test_replica *replica, const char *path,
		     const char *content, bool sibling)
{
	struct walker walker = { .replica = replica,
				 .each = match,
				 .wanted = path,
				 .content = content,
				 .sibling = sibling };

	return walk(&walker) == 0 ? walker.found : NULL;
}
