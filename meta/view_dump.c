/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The whole tree as text: one line an entry, sorted by bytes, so that two
 * replicas show the same tree iff these texts are equal.
 *
 *   PATH KIND MODE UID:GID [key=value]...
 *
 * with size=, content= (hexadecimal, or "unsealed") and mtime= for files,
 * target= for symlinks, rdev= for devices, NAME=VALUE for each xattr, and
 * sibling_of= for generated names. Bytes that are not printable ASCII, blanks,
 * '=' and '\' stand as \ooo (octal). */
#include "meta/view_priv.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

struct folder {
	evfs_ino dir;
	char *path; /* owned; escaped, "" for the root */
};

struct dump {
	struct evfs_meta *meta;
	struct folder *folders; /* owned; those to be listed */
	size_t n, cap;
	const char *path;  /* of the one being listed */
	char **lines;      /* owned, and each of them */
	size_t n_lines, cap_lines;
	int ret;
	struct evfs_err *err;
};

int evfs_view_escape(struct evfs_buf *out, const void *data, size_t len)
{
	const uint8_t *bytes = data;
	uint8_t *at = evfs_buf_reserve(out, 4 * len);

	if (at == NULL)
		return EVFS_ENOMEM;
	for (size_t i = 0; i < len; i++) {
		uint8_t c = bytes[i];

		if (c > 0x20 && c < 0x7f && c != '\\' && c != '=') {
			*at++ = c;
			continue;
		}
		*at++ = '\\';
		*at++ = (uint8_t)('0' + (c >> 6));
		*at++ = (uint8_t)('0' + ((c >> 3) & 7));
		*at++ = (uint8_t)('0' + (c & 7));
	}
	out->len = (size_t)(at - out->data);
	return 0;
}

static int put_xattrs(const struct evfs_object *object, struct evfs_buf *line)
{
	int ret = 0;

	for (size_t i = 0; i < object->n_attrs && ret == 0; i++) {
		const struct evfs_attr *attr = &object->attrs[i];

		if (attr->kind != EVFS_ATTR_XATTR || attr->value.xattr.removed)
			continue;
		ret = evfs_buf_put_u8(line, ' ');
		if (ret == 0)
			ret = evfs_view_escape(line, attr->key, attr->key_len);
		if (ret == 0)
			ret = evfs_buf_put_u8(line, '=');
		if (ret == 0)
			ret = evfs_view_escape(line, attr->value.xattr.data,
					       attr->value.xattr.len);
	}
	return ret;
}

static int put_content(const struct evfs_entry *entry,
		       const struct evfs_attributes *attributes,
		       const struct evfs_object *object, struct evfs_buf *line)
{
	char hex[EVFS_HASH_HEX_SIZE] = "unsealed";
	int ret;

	switch (entry->kind) {
	case EVFS_KIND_FILE:
		if (entry->has_version)
			evfs_hash_format(&entry->content, hex);
		return evfs_buf_printf(line, " size=%" PRIu64 " content=%s"
				       " mtime=%" PRId64 ".%09" PRIu32,
				       entry->size, hex, attributes->mtime_s,
				       attributes->mtime_ns);
	case EVFS_KIND_SYMLINK:
		ret = evfs_buf_printf(line, " target=");
		if (ret == 0)
			ret = evfs_view_escape(line, object->target,
					       object->target_len);
		return ret;
	case EVFS_KIND_CHARDEV:
	case EVFS_KIND_BLOCKDEV:
		return evfs_buf_printf(line, " rdev=%" PRIu32, object->rdev);
	case EVFS_KIND_DIR:
	case EVFS_KIND_FIFO:
	case EVFS_KIND_SOCKET:
		break;
	}
	return 0;
}

static int put_line(struct dump *dump, const struct evfs_entry *entry,
		    const struct evfs_buf *path, struct evfs_buf *line)
{
	struct evfs_attributes attributes;
	const struct evfs_object *object = NULL;
	evfs_ino face = entry->kind == EVFS_KIND_DIR ? entry->dir.members[0] :
						       entry->members[0].ino;
	int ret = evfs_view_attr(dump->meta, entry, &attributes, dump->err);

	if (ret == 0)
		ret = evfs_facts_get(dump->meta->facts, face, &object,
				     dump->err);
	if (ret != 0)
		return ret;
	ret = evfs_buf_put(line, path->data, path->len);
	if (ret == 0)
		ret = evfs_buf_printf(line, " %s %04o %" PRIu32 ":%" PRIu32,
				      evfs_kind_text(entry->kind), attributes.mode,
				      attributes.uid, attributes.gid);
	if (ret == 0)
		ret = put_content(entry, &attributes, object, line);
	if (ret == 0 && object != NULL)
		ret = put_xattrs(object, line);
	if (ret == 0 && entry->is_sibling)
		ret = evfs_buf_printf(line, " sibling_of=%s/", dump->path);
	if (ret == 0 && entry->is_sibling)
		ret = evfs_view_escape(line, entry->plain, entry->plain_len);
	if (ret == 0)
		ret = evfs_buf_put(line, "\n", 2); /* and the NUL */
	return ret != 0 ? evfs_view_no_memory(dump->err) : 0;
}

static int add_folder(struct dump *dump, evfs_ino dir, const void *path,
		      size_t len)
{
	char *copy = evfs_calloc(1, len + 1);

	if (copy == NULL ||
	    evfs_grow((void **)&dump->folders, dump->n, &dump->cap,
		      sizeof(*dump->folders)) != 0) {
		evfs_free(copy);
		return evfs_view_no_memory(dump->err);
	}
	if (len > 0)
		memcpy(copy, path, len);
	dump->folders[dump->n++] = (struct folder){ dir, copy };
	return 0;
}

static int add_line(struct dump *dump, struct evfs_buf *line)
{
	if (evfs_grow((void **)&dump->lines, dump->n_lines, &dump->cap_lines,
		      sizeof(*dump->lines)) != 0)
		return evfs_view_no_memory(dump->err);
	dump->lines[dump->n_lines++] = (char *)line->data;
	*line = (struct evfs_buf){ 0 };
	return 0;
}

static int dump_entry(void *arg, struct evfs_entry *entry)
{
	struct dump *dump = arg;
	struct evfs_buf path = { 0 }, line = { 0 };

	dump->ret = evfs_buf_printf(&path, "%s/", dump->path);
	if (dump->ret == 0)
		dump->ret = evfs_view_escape(&path, entry->name,
					     entry->name_len);
	if (dump->ret != 0)
		(void)evfs_view_no_memory(dump->err);
	if (dump->ret == 0)
		dump->ret = put_line(dump, entry, &path, &line);
	if (dump->ret == 0)
		dump->ret = add_line(dump, &line);
	if (dump->ret == 0 && entry->kind == EVFS_KIND_DIR)
		dump->ret = add_folder(dump, entry->dir.members[0], path.data,
				       path.len);
	evfs_buf_fini(&path);
	evfs_buf_fini(&line);
	return dump->ret != 0;
}

static int by_bytes(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static int put_sorted(struct dump *dump, struct evfs_buf *out)
{
	if (dump->n_lines > 1)
		qsort(dump->lines, dump->n_lines, sizeof(*dump->lines),
		      by_bytes);
	for (size_t i = 0; i < dump->n_lines; i++)
		if (evfs_buf_put(out, dump->lines[i],
				 strlen(dump->lines[i])) != 0)
			return evfs_view_no_memory(dump->err);
	return 0;
}

int evfs_view_dump(struct evfs_meta *meta, struct evfs_buf *out,
		   struct evfs_err *err)
{
	struct dump dump = { .meta = meta, .err = err };
	int ret = add_folder(&dump, EVFS_INO_ROOT, NULL, 0);

	for (size_t i = 0; i < dump.n && ret == 0; i++) {
		dump.path = dump.folders[i].path;
		ret = evfs_view_list(meta, dump.folders[i].dir, NULL, 0,
				     dump_entry, &dump, err);
		if (ret == 0)
			ret = dump.ret;
	}
	if (ret == 0)
		ret = put_sorted(&dump, out);
	for (size_t i = 0; i < dump.n; i++)
		evfs_free(dump.folders[i].path);
	for (size_t i = 0; i < dump.n_lines; i++)
		evfs_free(dump.lines[i]);
	evfs_free(dump.folders);
	evfs_free(dump.lines);
	return ret;
}
