/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A port of model/facts.py (needed) and model/view.py, function by function;
 * no index, no cache, no cleverness. Out of memory aborts: this is for tests.
 */
#include "tests/lib/refview.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "meta/facts.h"
#include "meta/members.h"
#include "meta/view.h"

/* Directories by number: an index into objects, or one of these. */
#define ROOT (-1)
#define LOST (-2)
#define NOWHERE (-3)

struct place_of {
	long parent;               /* where it is shown */
	const uint8_t *name;
	size_t name_len;
	size_t object;             /* index; SIZE_MAX: lost+found */
	const struct evfs_link *link;
};

struct places {
	struct place_of *items;
	size_t n, cap;
};

struct builder {
	struct refview *view;
	long *parent;              /* of each directory object */
	bool *shown;               /* each directory object */
	bool lost_shown;
	struct places files;       /* sorted by parent */
	struct places dirs;        /* the same */
	struct refview_lines lines;
};

static void must(int ret)
{
	if (ret != 0)
		abort();
}

#define GROW(items, n, cap) \
	must(evfs_grow((void **)&(items), (n), &(cap), sizeof(*(items))))

/* ---- the objects ---- */

static long dir_number(const struct refview *view, evfs_ino ino)
{
	size_t low = 0, high = view->n;

	if (evfs_ino_is_root(ino))
		return ROOT;
	if (evfs_ino_is_lost(ino))
		return LOST;
	while (low < high) {
		size_t mid = (low + high) / 2;
		int order = evfs_dot_cmp(view->objects[mid]->ino, ino);

		if (order == 0)
			return view->objects[mid]->kind == EVFS_KIND_DIR ?
				       (long)mid : NOWHERE;
		if (order < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return NOWHERE;
}

static evfs_ino dir_ino(const struct refview *view, long dir)
{
	return dir == ROOT ? EVFS_INO_ROOT :
	       dir == LOST ? EVFS_INO_LOST : view->objects[dir]->ino;
}

static const struct evfs_place *dir_place(const struct refview *view, long dir)
{
	return &evfs_object_only_link(view->objects[dir])->place;
}

static bool is_dir(const struct refview *view, size_t i)
{
	return view->objects[i]->kind == EVFS_KIND_DIR &&
	       !evfs_ino_is_root(view->objects[i]->ino);
}

static int take_object(void *arg, const struct evfs_object *object)
{
	struct refview *view = arg;
	struct evfs_object *copy = evfs_object_copy(object);

	if (copy == NULL)
		abort();
	GROW(view->objects, view->n, view->cap);
	view->objects[view->n++] = copy;
	return 0;
}

static bool is_unsealed(const struct refview *view,
			const struct evfs_object *object)
{
	bool unsealed = false;

	if (object->kind == EVFS_KIND_FILE && object->n_versions == 0)
		must(evfs_facts_is_unsealed(evfs_meta_facts(view->meta),
					    object->ino, &unsealed, NULL));
	return unsealed;
}

/* ---- facts.py: needed ---- */

static void need_upwards(struct refview *view, long at)
{
	while (at >= 0 && !view->dirs[at].needed) {
		view->dirs[at].needed = true;
		at = dir_number(view, dir_place(view, at)->parent);
	}
}

static void compute_needed(struct refview *view)
{
	for (size_t i = 0; i < view->n; i++) {
		const struct evfs_object *object = view->objects[i];

		if (is_dir(view, i)) {
			if (evfs_object_only_link(object)->alive.n > 0)
				need_upwards(view, (long)i);
			continue;
		}
		for (size_t k = 0; k < object->n_links; k++)
			if (evfs_link_is_live(object, &object->links[k]))
				need_upwards(view, dir_number(view,
					object->links[k].place.parent));
	}
}

/* ---- view.py: placement ---- */

struct walk {
	char *state;   /* 0 unknown, 1 reachable, 2 not, 3 on this path */
	size_t *cycle; /* number of the cycle, from 1; 0: on none */
	size_t n_cycles;
};

static bool is_reachable(const struct walk *walk, long dir)
{
	return dir == ROOT || dir == LOST ||
	       (dir >= 0 && walk->state[dir] == 1);
}

static void walk_from(struct builder *b, struct walk *walk, long start,
		      long *path)
{
	size_t n = 0;
	long at = start;

	while (at >= 0 && b->view->dirs[at].needed && walk->state[at] == 0) {
		walk->state[at] = 3;
		path[n++] = at;
		at = b->parent[at];
	}
	if (is_reachable(walk, at)) {
		for (size_t i = 0; i < n; i++)
			walk->state[path[i]] = 1;
		return;
	}
	if (at >= 0 && walk->state[at] == 3) {
		bool in = false;

		walk->n_cycles++;
		for (size_t i = 0; i < n; i++) {
			in |= path[i] == at;
			if (in)
				walk->cycle[path[i]] = walk->n_cycles;
		}
	}
	for (size_t i = 0; i < n; i++)
		walk->state[path[i]] = 2;
}

static bool is_younger(const struct refview *view, long a, long b)
{
	return b == NOWHERE || evfs_stamp_cmp(&dir_place(view, a)->stamp,
					      &dir_place(view, b)->stamp) > 0;
}

static void undo_move(struct builder *b, long dir, long to)
{
	b->parent[dir] = to;
	b->view->dirs[dir].undone = true;
	b->view->dirs[dir].shown_in = dir_ino(b->view, to);
}

/* One round; false when there is no cycle left. */
static bool open_cycles(struct builder *b, struct walk *walk)
{
	struct refview *view = b->view;
	long oldest = NOWHERE;
	bool any = false;

	for (size_t c = 1; c <= walk->n_cycles; c++) {
		long home = NOWHERE, youngest = NOWHERE;

		for (size_t i = 0; i < view->n; i++) {
			long dir = (long)i;

			if (walk->cycle[i] != c)
				continue;
			if (is_younger(view, dir, youngest))
				youngest = dir;
			if (is_reachable(walk, dir_number(view,
					 dir_place(view, dir)->origin)) &&
			    is_younger(view, dir, home))
				home = dir;
		}
		if (home != NOWHERE) {
			undo_move(b, home, dir_number(view,
				  dir_place(view, home)->origin));
			any = true;
		}
		if (oldest == NOWHERE || is_younger(view, oldest, youngest))
			oldest = youngest;
	}
	if (!any && oldest != NOWHERE)
		undo_move(b, oldest, LOST);
	return walk->n_cycles > 0;
}

static void compute_places(struct builder *b)
{
	struct refview *view = b->view;
	long *path = evfs_calloc(view->n, sizeof(*path));
	bool more = true;

	for (size_t i = 0; i < view->n; i++)
		if (is_dir(view, i))
			b->parent[i] = dir_number(view,
				dir_place(view, (long)i)->parent);
	while (more) {
		struct walk walk = { evfs_calloc(view->n, 1),
				     evfs_calloc(view->n, sizeof(size_t)), 0 };

		for (size_t i = 0; i < view->n; i++)
			if (view->dirs[i].needed)
				walk_from(b, &walk, (long)i, path);
		more = open_cycles(b, &walk);
		evfs_free(walk.state);
		evfs_free(walk.cycle);
	}
	evfs_free(path);
}

/* ---- view.py: view ---- */

static void show(struct builder *b, long dir)
{
	while (dir == LOST ||
	       (dir >= 0 && b->view->dirs[dir].needed && !b->shown[dir])) {
		if (dir == LOST) {
			b->lost_shown = true;
			return;
		}
		b->shown[dir] = true;
		dir = b->parent[dir];
	}
}

static void add_place(struct places *places, struct place_of place)
{
	GROW(places->items, places->n, places->cap);
	places->items[places->n++] = place;
}

static void gather(struct builder *b)
{
	struct refview *view = b->view;

	for (size_t i = 0; i < view->n; i++) {
		const struct evfs_object *object = view->objects[i];
		bool unsealed = is_unsealed(view, object);

		if (is_dir(view, i)) {
			if (evfs_object_only_link(object)->alive.n > 0)
				show(b, (long)i);
			continue;
		}
		for (size_t k = 0; k < object->n_links; k++) {
			const struct evfs_link *link = &object->links[k];
			long parent = dir_number(view, link->place.parent);

			if (!evfs_link_is_live(object, link) &&
			    !(unsealed && link->alive.n > 0))
				continue;
			add_place(&b->files, (struct place_of){ parent,
				link->place.name, link->place.name_len, i,
				link });
			show(b, parent);
		}
	}
	for (size_t i = 0; i < view->n; i++)
		if (is_dir(view, i) && b->shown[i])
			add_place(&b->dirs, (struct place_of){ b->parent[i],
				dir_place(view, (long)i)->name,
				dir_place(view, (long)i)->name_len, i, NULL });
	if (b->lost_shown)
		add_place(&b->dirs, (struct place_of){ ROOT,
			(const uint8_t *)"lost+found", 10, SIZE_MAX, NULL });
}

static int by_parent(const void *x, const void *y)
{
	const struct place_of *a = x, *b = y;

	return (a->parent > b->parent) - (a->parent < b->parent);
}

static int by_name(const void *x, const void *y)
{
	const struct place_of *a = x, *b = y;
	size_t len = a->name_len < b->name_len ? a->name_len : b->name_len;
	int order = memcmp(a->name, b->name, len);

	return order != 0 ? order :
			    (a->name_len > b->name_len) -
				    (a->name_len < b->name_len);
}

/* Adds those in `from` whose parent it is. */
static void select_parent(struct places *to, const struct places *from,
			  long parent)
{
	struct place_of key = { .parent = parent };
	const struct place_of *hit =
		from->n == 0 ? NULL :
			       bsearch(&key, from->items, from->n,
				       sizeof(*from->items), by_parent);

	if (hit == NULL)
		return;
	while (hit > from->items && hit[-1].parent == parent)
		hit--;
	for (; hit < from->items + from->n && hit->parent == parent; hit++)
		add_place(to, *hit);
}

static void sort_places(struct places *places,
			int (*compare)(const void *, const void *))
{
	if (places->n > 1)
		qsort(places->items, places->n, sizeof(*places->items),
		      compare);
}

/* ---- view.py: contents_of ---- */

struct content {
	struct evfs_entry entry;
	evfs_dot dot;
};

struct contents {
	struct content *items;
	size_t n, cap;
};

static int youngest_first(const void *x, const void *y)
{
	const struct place_of *a = x, *b = y;
	int order = evfs_stamp_cmp(&b->link->place.stamp,
				   &a->link->place.stamp);

	return order != 0 ? order : evfs_stamp_cmp(&b->link->id, &a->link->id);
}

static bool is_equal(const struct refview *view, const struct content *content,
		     const struct evfs_object *object,
		     const struct evfs_version *version)
{
	const struct evfs_entry *entry = &content->entry;
	const struct evfs_object *other = NULL;

	for (size_t i = 0; i < view->n; i++)
		if (evfs_dot_equal(view->objects[i]->ino,
				   entry->members[0].ino))
			other = view->objects[i];
	if (entry->kind != object->kind)
		return false;
	switch (object->kind) {
	case EVFS_KIND_FILE:
		if (version == NULL || !entry->has_version)
			return version == NULL && !entry->has_version &&
			       other == object;
		return evfs_hash_equal(&entry->content, &version->content);
	case EVFS_KIND_SYMLINK:
		return other->target_len == object->target_len &&
		       memcmp(other->target, object->target,
			      object->target_len) == 0;
	default:
		return other->rdev == object->rdev;
	}
}

/* The member of (ino, link) in the content, made where it is not there. */
static struct evfs_member_link *member_of(struct contents *contents,
					  const struct refview *view,
					  const struct evfs_object *object,
					  const struct evfs_link *link,
					  const struct evfs_version *version)
{
	struct evfs_member_link *members;
	struct evfs_entry *entry;
	size_t at = 0;

	while (at < contents->n && !is_equal(view, &contents->items[at],
					     object, version))
		at++;
	if (at == contents->n) {
		GROW(contents->items, contents->n, contents->cap);
		memset(&contents->items[contents->n], 0,
		       sizeof(*contents->items));
		contents->items[contents->n].dot =
			version == NULL ? object->ino : version->dot;
		entry = &contents->items[contents->n++].entry;
		entry->kind = object->kind;
		entry->has_version = version != NULL;
		if (version != NULL) {
			entry->content = version->content;
			entry->size = version->size;
			entry->mtime_s = version->mtime_s;
			entry->mtime_ns = version->mtime_ns;
			entry->version_time_ns = version->time_ns;
		} else if (object->kind == EVFS_KIND_SYMLINK) {
			entry->size = object->target_len;
		}
	}
	entry = &contents->items[at].entry;
	for (size_t m = 0; m < entry->n_members; m++)
		if (evfs_dot_equal(entry->members[m].ino, object->ino) &&
		    evfs_stamp_cmp(&entry->members[m].link, &link->id) == 0)
			return &entry->members[m];
	members = evfs_realloc_array(entry->members, entry->n_members + 1,
				     sizeof(*members));
	if (members == NULL)
		abort();
	entry->members = members;
	members += entry->n_members++;
	*members = (struct evfs_member_link){ object->ino, link->id, NULL, 0 };
	return members;
}

static int newest_first(const void *a, const void *b)
{
	return evfs_version_cmp(*(const struct evfs_version *const *)b,
				*(const struct evfs_version *const *)a);
}

static void add_versions(struct contents *contents, const struct refview *view,
			 const struct place_of *place)
{
	const struct evfs_object *object = view->objects[place->object];
	const struct evfs_version **versions =
		evfs_calloc(object->n_versions, sizeof(*versions));
	bool beside = place->link == evfs_object_sibling_link(object);

	for (size_t i = 0; i < object->n_versions; i++)
		versions[i] = &object->versions[i];
	qsort(versions, object->n_versions, sizeof(*versions), newest_first);
	for (size_t i = 0; i < object->n_versions; i++) {
		struct evfs_member_link *member;

		if (!beside && !evfs_hash_equal(&versions[i]->content,
						&versions[0]->content))
			continue;
		member = member_of(contents, view, object, place->link,
				   versions[i]);
		member->dots = evfs_realloc_array(member->dots,
						  member->n_dots + 1,
						  sizeof(*member->dots));
		if (member->dots == NULL)
			abort();
		member->dots[member->n_dots++] = versions[i]->dot;
	}
	evfs_free(versions);
}

static void contents_of(struct contents *contents, const struct refview *view,
			struct place_of *places, size_t n)
{
	qsort(places, n, sizeof(*places), youngest_first);
	for (size_t i = 0; i < n; i++) {
		const struct evfs_object *object =
			view->objects[places[i].object];

		if (object->kind == EVFS_KIND_FILE && object->n_versions > 0)
			add_versions(contents, view, &places[i]);
		else
			(void)member_of(contents, view, object, places[i].link,
					NULL);
	}
}

/* view.py: Tree.mode */
static uint32_t mode_of(const struct refview *view,
			const struct evfs_entry *entry)
{
	evfs_ino face = entry->kind == EVFS_KIND_DIR ? entry->dir.members[0] :
						       entry->members[0].ino;
	const struct evfs_attr *attr = NULL;
	uint32_t mode = entry->kind == EVFS_KIND_DIR ? 0755 : 0644;

	for (size_t i = 0; i < view->n; i++)
		if (evfs_dot_equal(view->objects[i]->ino, face))
			attr = evfs_object_find_attr(view->objects[i],
						     EVFS_ATTR_MODE, NULL, 0);
	if (attr != NULL)
		mode = attr->value.mode;
	if (entry->kind == EVFS_KIND_FILE && entry->has_version &&
	    (mode & 06000) != 0 &&
	    !evfs_dots_has(&attr->saw, entry->members[0].dots[0]))
		mode &= ~06000u;
	return mode;
}

/* ---- view.py: list_directory ---- */

struct listing {
	struct builder *b;
	const char *path;
	struct places dirs, files; /* of all members, by name */
	struct contents waiting;
	char **taken; /* names; owned array, borrowed or owned names */
	size_t n_taken, cap_taken;
};

static void emit(struct listing *l, const struct evfs_entry *entry)
{
	refview_add_line(&l->b->lines, l->path, entry,
			 mode_of(l->b->view, entry));
	l->b->view->entries++;
	l->b->view->siblings += entry->is_sibling;
}

static bool is_taken(const struct listing *l, const char *name)
{
	for (size_t i = 0; i < l->n_taken; i++)
		if (strcmp(l->taken[i], name) == 0)
			return true;
	return false;
}

static void take_name(struct listing *l, const void *name, size_t len)
{
	char *copy = evfs_calloc(1, len + 1);

	memcpy(copy, name, len);
	GROW(l->taken, l->n_taken, l->cap_taken);
	l->taken[l->n_taken++] = copy;
}

static int by_plain_dot(const void *x, const void *y)
{
	const struct content *a = x, *b = y;
	int order = strcmp(a->entry.plain, b->entry.plain);

	return order != 0 ? order : evfs_dot_cmp(a->dot, b->dot);
}

/* view.py: free_name */
static void name_sibling(struct listing *l, struct content *content)
{
	struct evfs_entry *entry = &content->entry;
	const char *node = evfs_members_node_name(l->b->view->meta,
						  content->dot.actor.node);

	for (int digits = 8; digits <= 32; digits *= 2) {
		entry->name_len = evfs_sibling_name(entry->plain,
			entry->plain_len, content->dot, node, digits, false,
			entry->name);
		if (!is_taken(l, entry->name))
			return;
	}
	entry->name_len = evfs_sibling_name(entry->plain, entry->plain_len,
					    content->dot, node, 32, true,
					    entry->name);
	l->b->view->salted++;
}

static void list_waiting(struct listing *l)
{
	if (l->waiting.n > 1)
		qsort(l->waiting.items, l->waiting.n,
		      sizeof(*l->waiting.items), by_plain_dot);
	for (size_t i = 0; i < l->dirs.n; i++)
		take_name(l, l->dirs.items[i].name, l->dirs.items[i].name_len);
	for (size_t i = 0; i < l->files.n; i++)
		take_name(l, l->files.items[i].name,
			  l->files.items[i].name_len);
	for (size_t i = 0; i < l->waiting.n; i++) {
		struct content *content = &l->waiting.items[i];

		name_sibling(l, content);
		take_name(l, content->entry.name, content->entry.name_len);
		emit(l, &content->entry);
		evfs_entry_fini(&content->entry);
	}
	for (size_t i = 0; i < l->n_taken; i++)
		evfs_free(l->taken[i]);
	evfs_free(l->taken);
	evfs_free(l->waiting.items);
}

static size_t same_names(const struct places *places, size_t i)
{
	size_t n = 1;

	while (i + n < places->n &&
	       by_name(&places->items[i], &places->items[i + n]) == 0)
		n++;
	return n;
}

static void list_file(struct listing *l, size_t i, size_t n)
{
	const struct place_of *place = &l->files.items[i];
	const uint8_t *name = place->name;
	size_t name_len = place->name_len;
	struct contents contents = { 0 };
	bool has_dir = false;

	for (size_t k = 0; k < l->dirs.n; k++)
		has_dir |= by_name(&l->dirs.items[k], place) == 0;
	contents_of(&contents, l->b->view, &l->files.items[i], n);
	for (size_t k = 0; k < contents.n; k++) {
		struct evfs_entry *entry = &contents.items[k].entry;

		if (k == 0 && !has_dir) {
			memcpy(entry->name, name, name_len);
			entry->name_len = name_len;
			emit(l, entry);
			evfs_entry_fini(entry);
			continue;
		}
		entry->is_sibling = true;
		memcpy(entry->plain, name, name_len);
		entry->plain_len = name_len;
		GROW(l->waiting.items, l->waiting.n, l->waiting.cap);
		l->waiting.items[l->waiting.n++] = contents.items[k];
	}
	evfs_free(contents.items);
}

static void list_directory(struct builder *b, const long *members, size_t n,
			   const char *path);

static int by_number(const void *x, const void *y)
{
	const long *a = x, *b = y;

	/* inos: lost+found is before all replicas' objects */
	return (*a > *b) - (*a < *b);
}

static void list_subdir(struct listing *l, size_t i, size_t n)
{
	const struct place_of *place = &l->dirs.items[i];
	struct evfs_entry entry = { .kind = EVFS_KIND_DIR };
	long *members = evfs_calloc(n, sizeof(*members));
	struct evfs_buf below = { 0 };

	for (size_t k = 0; k < n; k++)
		members[k] = place[k].object == SIZE_MAX ?
				     LOST : (long)place[k].object;
	qsort(members, n, sizeof(*members), by_number);
	entry.dir.members = evfs_calloc(n, sizeof(evfs_ino));
	entry.dir.n = n;
	for (size_t k = 0; k < n; k++)
		entry.dir.members[k] = dir_ino(l->b->view, members[k]);
	memcpy(entry.name, place->name, place->name_len);
	entry.name_len = place->name_len;
	emit(l, &entry);
	must(evfs_buf_printf(&below, "%s/", l->path));
	refview_escape(&below, entry.name, entry.name_len);
	must(evfs_buf_put_u8(&below, 0));
	list_directory(l->b, members, n, (const char *)below.data);
	evfs_buf_fini(&below);
	evfs_entry_fini(&entry);
	evfs_free(members);
}

static void list_directory(struct builder *b, const long *members, size_t n,
			   const char *path)
{
	struct listing l = { .b = b, .path = path };

	for (size_t i = 0; i < n; i++) {
		select_parent(&l.dirs, &b->dirs, members[i]);
		select_parent(&l.files, &b->files, members[i]);
	}
	sort_places(&l.dirs, by_name);
	sort_places(&l.files, by_name);
	for (size_t i = 0; i < l.dirs.n; i += same_names(&l.dirs, i))
		list_subdir(&l, i, same_names(&l.dirs, i));
	for (size_t i = 0; i < l.files.n;) {
		size_t same = same_names(&l.files, i);

		list_file(&l, i, same);
		i += same;
	}
	list_waiting(&l);
	evfs_free(l.dirs.items);
	evfs_free(l.files.items);
}

/* ---- all of it ---- */

struct refview *refview_new(struct evfs_meta *meta)
{
	struct refview *view = evfs_calloc(1, sizeof(*view));
	struct builder b = { .view = view };
	struct evfs_err err = { 0 };
	long root = ROOT;

	view->meta = meta;
	if (evfs_facts_each(evfs_meta_facts(meta), take_object, view,
			    &err) != 0) {
		fprintf(stderr, "read all objects: %s\n", err.msg);
		abort();
	}
	view->dirs = evfs_calloc(view->n, sizeof(*view->dirs));
	b.parent = evfs_calloc(view->n, sizeof(*b.parent));
	b.shown = evfs_calloc(view->n, sizeof(*b.shown));
	compute_needed(view);
	compute_places(&b);
	gather(&b);
	sort_places(&b.files, by_parent);
	sort_places(&b.dirs, by_parent);
	list_directory(&b, &root, 1, "");
	refview_join_lines(&b.lines, &view->text);
	evfs_free(b.parent);
	evfs_free(b.shown);
	evfs_free(b.files.items);
	evfs_free(b.dirs.items);
	return view;
}

void refview_free(struct refview *view)
{
	for (size_t i = 0; i < view->n; i++)
		evfs_object_free((struct evfs_object *)view->objects[i]);
	evfs_free(view->objects);
	evfs_free(view->dirs);
	evfs_buf_fini(&view->text);
	evfs_free(view);
}
