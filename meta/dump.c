/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The replicated state as text: two replicas hold the same iff their dumps are
 * equal. One fact a line; the context first, then objects in order, each line
 * of an object starting with its ino. Names and values are written as in C
 * strings, so that any byte keeps to its line. What is local (numbers of rows,
 * history, settings, what is derived) stays out. */
#include <inttypes.h>

#include "base/buf.h"
#include "meta/facts.h"
#include "meta/meta.h"
#include "meta/store.h"

struct dump {
	struct evfs_buf *out;           /* borrowed */
	struct evfs_meta *meta;         /* borrowed */
	bool all;                       /* what can be collected, too */
	struct evfs_err *err;
	char ino[EVFS_DOT_TEXT_SIZE];   /* of the object being written */
};

static int dump_text(struct dump *dump, const uint8_t *text, size_t len)
{
	int rc = evfs_buf_put_u8(dump->out, '"');
	size_t i;

	for (i = 0; i < len && rc == 0; i++) {
		if (text[i] == '"' || text[i] == '\\')
			rc = evfs_buf_printf(dump->out, "\\%c", text[i]);
		else if (text[i] < ' ' || text[i] > '~')
			rc = evfs_buf_printf(dump->out, "\\%03o", text[i]);
		else
			rc = evfs_buf_put_u8(dump->out, text[i]);
	}
	return rc != 0 ? rc : evfs_buf_put_u8(dump->out, '"');
}

static int dump_dots(struct dump *dump, const char *what,
		     const struct evfs_dots *dots)
{
	int rc = evfs_buf_printf(dump->out, " %s=", what);
	size_t i;

	for (i = 0; i < dots->n && rc == 0; i++) {
		char text[EVFS_DOT_TEXT_SIZE];

		evfs_dot_format(dots->items[i], text);
		rc = evfs_buf_printf(dump->out, "%s%s", i == 0 ? "" : ",",
				     text);
	}
	return rc;
}

static int dump_dot(struct dump *dump, const char *what, evfs_dot dot)
{
	char text[EVFS_DOT_TEXT_SIZE];

	evfs_dot_format(dot, text);
	return evfs_buf_printf(dump->out, " %s=%s", what, text);
}

static int dump_stamp(struct dump *dump, const char *what,
		      const evfs_stamp *stamp)
{
	char text[EVFS_DOT_TEXT_SIZE];

	evfs_dot_format(stamp->dot, text);
	return evfs_buf_printf(dump->out, " %s=%" PRIu64 "@%s", what,
			       stamp->time_ns, text);
}

static int dump_start(struct dump *dump, const char *kind)
{
	return evfs_buf_printf(dump->out, "%s %s", dump->ino, kind);
}

static int dump_end(struct dump *dump)
{
	return evfs_buf_put_u8(dump->out, '\n');
}

static int dump_head(struct dump *dump, const struct evfs_object *object)
{
	int rc = dump_start(dump, "object");

	if (rc == 0)
		rc = evfs_buf_printf(dump->out, " kind=%s rdev=%u change=%"
				     PRIu64, evfs_kind_text(object->kind),
				     object->rdev, object->change_ns);
	if (rc == 0 && object->kind == EVFS_KIND_SYMLINK) {
		rc = evfs_buf_printf(dump->out, " target=");
		if (rc == 0)
			rc = dump_text(dump, object->target,
				       object->target_len);
	}
	return rc != 0 ? rc : dump_end(dump);
}

static int dump_link(struct dump *dump, const struct evfs_link *link)
{
	int rc = dump_start(dump, "link");

	if (rc == 0)
		rc = dump_stamp(dump, "id", &link->id);
	if (rc == 0)
		rc = dump_stamp(dump, "place", &link->place.stamp);
	if (rc == 0)
		rc = dump_dot(dump, "parent", link->place.parent);
	if (rc == 0)
		rc = dump_dot(dump, "origin", link->place.origin);
	if (rc == 0)
		rc = dump_dots(dump, "alive", &link->alive);
	if (rc == 0)
		rc = evfs_buf_printf(dump->out, " name=");
	if (rc == 0)
		rc = dump_text(dump, link->place.name, link->place.name_len);
	return rc != 0 ? rc : dump_end(dump);
}

static int dump_version(struct dump *dump, const struct evfs_version *version)
{
	char hash[EVFS_HASH_HEX_SIZE];
	int rc = dump_start(dump, "version");

	evfs_hash_format(&version->content, hash);
	if (rc == 0)
		rc = dump_dot(dump, "dot", version->dot);
	if (rc == 0)
		rc = dump_dots(dump, "bases", &version->bases);
	if (rc == 0)
		rc = evfs_buf_printf(dump->out,
				     " time=%" PRIu64 " content=%s size=%"
				     PRIu64 " mtime=%" PRId64 ".%09u",
				     version->time_ns, hash, version->size,
				     version->mtime_s, version->mtime_ns);
	return rc != 0 ? rc : dump_end(dump);
}

static int dump_attr_value(struct dump *dump, const struct evfs_attr *attr)
{
	int rc;

	switch (attr->kind) {
	case EVFS_ATTR_MODE:
		return evfs_buf_printf(dump->out, " mode=%04o",
				       attr->value.mode);
	case EVFS_ATTR_OWNER:
		return evfs_buf_printf(dump->out, " owner=%u:%u",
				       attr->value.owner.uid,
				       attr->value.owner.gid);
	case EVFS_ATTR_TIMES:
		return evfs_buf_printf(dump->out,
				       " mtime=%" PRId64 ".%09u atime=%" PRId64
				       ".%09u",
				       attr->value.times.mtime_s,
				       attr->value.times.mtime_ns,
				       attr->value.times.atime_s,
				       attr->value.times.atime_ns);
	case EVFS_ATTR_XATTR:
	default:
		rc = evfs_buf_printf(dump->out, " key=");
		if (rc == 0)
			rc = dump_text(dump, attr->key, attr->key_len);
		if (rc == 0)
			rc = evfs_buf_printf(dump->out, " value=%s",
					     attr->value.xattr.removed ?
						     "removed" :
						     "");
		if (rc == 0 && !attr->value.xattr.removed)
			rc = dump_text(dump, attr->value.xattr.data,
				       attr->value.xattr.len);
		return rc;
	}
}

static int dump_attr(struct dump *dump, const struct evfs_attr *attr)
{
	int rc = dump_start(dump, "attr");

	if (rc == 0)
		rc = dump_stamp(dump, "stamp", &attr->stamp);
	if (rc == 0 && attr->saw.n > 0)
		rc = dump_dots(dump, "saw", &attr->saw);
	if (rc == 0)
		rc = dump_attr_value(dump, attr);
	return rc != 0 ? rc : dump_end(dump);
}

/* What the context covers, a row says once more; and where an object was
 * collected, and came back from a replica that had been away, its rows are
 * those of then. */
static bool dump_has_row(const struct dump *dump,
			 const struct evfs_log_row *row)
{
	return dump->all ||
	       row->counter > evfs_context_get(&dump->meta->store->context,
					       row->actor);
}

static int dump_log(struct dump *dump, const struct evfs_object *object)
{
	size_t i;
	size_t j;
	int rc = 0;

	for (i = 0; i < object->n_log && rc == 0; i++) {
		if (!dump_has_row(dump, &object->log[i]))
			continue;
		rc = dump_start(dump, "log");
		if (rc == 0)
			rc = dump_dot(dump, "dot",
				      (evfs_dot){ object->log[i].actor,
						  object->log[i].counter });
		if (rc == 0)
			rc = dump_end(dump);
	}
	for (i = 0; dump->all && i < object->n_ties && rc == 0; i++) {
		const struct evfs_tie *tie = &object->ties[i];

		rc = dump_start(dump, "tie");
		if (rc == 0)
			rc = dump_dot(dump, "dot", tie->dot);
		for (j = 0; j < tie->n && rc == 0; j++) {
			rc = dump_dot(dump, "with", tie->ends[j].ino);
			if (rc == 0)
				rc = dump_dot(dump, "at", tie->ends[j].dot);
		}
		if (rc == 0)
			rc = dump_end(dump);
	}
	return rc;
}

/* Is it shown, or above something that is? */
static int dump_is_live(struct dump *dump, const struct evfs_object *object,
			bool *ret)
{
	size_t i;

	if (object->kind == EVFS_KIND_DIR)
		return evfs_facts_is_needed(dump->meta->facts, object->ino,
					    ret, dump->err);
	*ret = false;
	for (i = 0; i < object->n_links; i++)
		*ret |= object->links[i].alive.n > 0;
	return 0;
}

static int dump_object(void *arg, const struct evfs_object *object)
{
	struct dump *dump = arg;
	size_t i;
	int rc;

	bool live = true;

	rc = dump->all ? 0 : dump_is_live(dump, object, &live);
	if (rc != 0 || !live)
		return rc;
	evfs_dot_format(object->ino, dump->ino);
	rc = dump_head(dump, object);
	for (i = 0; i < object->n_links && rc == 0; i++)
		if (dump->all || object->kind == EVFS_KIND_DIR ||
		    object->links[i].alive.n > 0)
			rc = dump_link(dump, &object->links[i]);
	for (i = 0; i < object->n_versions && rc == 0; i++)
		rc = dump_version(dump, &object->versions[i]);
	for (i = 0; i < object->n_attrs && rc == 0; i++)
		rc = dump_attr(dump, &object->attrs[i]);
	return rc != 0 ? rc : dump_log(dump, object);
}

int evfs_meta_dump(struct evfs_meta *meta, bool all, struct evfs_buf *out,
		   struct evfs_err *err)
{
	struct dump dump = { .out = out, .meta = meta, .all = all,
			     .err = err };
	const struct evfs_context *context;
	int rc = 0;
	size_t i;

	evfs_meta_lock(meta);
	context = &meta->store->context;
	for (i = 0; i < context->n && rc == 0; i++) {
		char text[EVFS_DOT_TEXT_SIZE];

		evfs_dot_format((evfs_dot){ context->rows[i].actor,
					    context->rows[i].counter },
				text);
		rc = evfs_buf_printf(out, "context %s\n", text);
	}
	if (rc == 0)
		rc = evfs_facts_each(meta->facts, dump_object, &dump, err);
	evfs_meta_unlock(meta);
	if (rc == EVFS_ENOMEM)
		evfs_err_set(err, rc, "dump: out of memory");
	return rc;
}
