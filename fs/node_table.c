/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The table of what the kernel knows. */
#include "fs/node_table.h"

#include <assert.h>
#include <string.h>

#include "base/mem.h"

#define HEADS_MIN 1024u
#define ACTORS_MIN 16u
#define NO_ACTOR UINT32_MAX

/* Packed: there may be a million. */
struct evfs_place_note {
	uint32_t actor;          /* of the directory */
	uint32_t counter_low, counter_high;
	char name[];             /* with NUL */
};

_Static_assert(sizeof(struct evfs_node_rec) == 56, "a record has 56 bytes");

static size_t mix(uint64_t x)
{
	x *= 0x9e3779b97f4a7c15u;
	return (size_t)(x >> 24);
}

/* ---- actors as numbers ---- */

static size_t actor_hash(evfs_actor actor)
{
	return mix(actor.node ^ (uint64_t)actor.epoch << 32);
}

static uint32_t actor_find(const struct evfs_node_table *table,
			   evfs_actor actor)
{
	size_t i = actor_hash(actor) & table->actor_mask;

	for (; table->actor_slots[i] != 0; i = (i + 1) & table->actor_mask) {
		uint32_t number = table->actor_slots[i] - 1;

		if (evfs_actor_cmp(table->actors[number], actor) == 0)
			return number;
	}
	return NO_ACTOR;
}

static void actor_place(const struct evfs_node_table *table, uint32_t number)
{
	size_t i = actor_hash(table->actors[number]) & table->actor_mask;

	while (table->actor_slots[i] != 0)
		i = (i + 1) & table->actor_mask;
	table->actor_slots[i] = number + 1;
}

/* At most half of the slots are used. */
static bool actors_grow(struct evfs_node_table *table)
{
	void *items = table->actors;
	uint32_t *slots;

	if (evfs_grow(&items, table->n_actors, &table->cap_actors,
		      sizeof(*table->actors)) != 0)
		return false;
	table->actors = items;
	if (2 * table->n_actors < table->actor_mask)
		return true;
	slots = evfs_calloc(2 * (table->actor_mask + 1), sizeof(*slots));
	if (!slots)
		return false;
	evfs_free(table->actor_slots);
	table->actor_slots = slots;
	table->actor_mask = 2 * table->actor_mask + 1;
	for (size_t i = 0; i < table->n_actors; i++)
		actor_place(table, (uint32_t)i);
	return true;
}

/* Actors are never forgotten: there are few. */
static bool actor_number(struct evfs_node_table *table, evfs_actor actor,
			 uint32_t *ret)
{
	uint32_t number = actor_find(table, actor);

	if (number == NO_ACTOR) {
		if (table->n_actors == NO_ACTOR - 1 || !actors_grow(table))
			return false;
		number = (uint32_t)table->n_actors++;
		table->actors[number] = actor;
		actor_place(table, number);
	}
	*ret = number;
	return true;
}

static evfs_dot dot_of(const struct evfs_node_table *table, uint32_t actor,
		       uint64_t counter)
{
	return (evfs_dot){ table->actors[actor], counter };
}

/* ---- places ---- */

static struct evfs_table_chunk *chunk_of(const struct evfs_node_table *table,
					 uint32_t at)
{
	return &table->chunks[at / EVFS_TABLE_CHUNK];
}

struct evfs_node_rec *evfs_table_at(const struct evfs_node_table *table,
				    uint32_t at)
{
	return &chunk_of(table, at)->recs[at % EVFS_TABLE_CHUNK];
}

static bool is_used(const struct evfs_node_table *table, uint64_t at)
{
	return at / EVFS_TABLE_CHUNK < table->n_chunks &&
	       chunk_of(table, (uint32_t)at)->recs &&
	       evfs_table_at(table, (uint32_t)at)->used;
}

/* Makes the records of a chunk that has none, all free. */
static bool chunk_fill(struct evfs_node_table *table, size_t i)
{
	struct evfs_table_chunk *chunk = &table->chunks[i];

	chunk->recs = evfs_calloc(EVFS_TABLE_CHUNK, sizeof(*chunk->recs));
	if (!chunk->recs)
		return false;
	chunk->free = 0;
	/* The first of all is nobody's: its number means "none". */
	for (uint32_t k = EVFS_TABLE_CHUNK; k > (i == 0 ? 1u : 0u); k--) {
		chunk->recs[k - 1].generation = chunk->generation;
		chunk->recs[k - 1].next = chunk->free;
		chunk->free = k;
	}
	return true;
}

static bool chunk_add(struct evfs_node_table *table)
{
	void *items = table->chunks;

	if (table->n_chunks == UINT32_MAX / EVFS_TABLE_CHUNK ||
	    evfs_grow(&items, table->n_chunks, &table->cap_chunks,
		      sizeof(*table->chunks)) != 0)
		return false;
	table->chunks = items;
	table->chunks[table->n_chunks++] = (struct evfs_table_chunk){ 0 };
	return true;
}

static void notes_free(struct evfs_table_chunk *chunk)
{
	for (size_t i = 0; chunk->notes && i < EVFS_TABLE_CHUNK; i++)
		evfs_free(chunk->notes[i]);
	evfs_free(evfs_steal(chunk->notes));
}

/* What comes next there must have other ids than what was. */
static void chunk_drop(struct evfs_table_chunk *chunk)
{
	for (uint32_t i = 0; i < EVFS_TABLE_CHUNK; i++)
		if (chunk->recs[i].generation > chunk->generation)
			chunk->generation = chunk->recs[i].generation;
	/* One whose numbers are used up stays as it is, and unused. */
	if (chunk->generation == UINT32_MAX)
		return;
	notes_free(chunk);
	evfs_free(evfs_steal(chunk->recs));
	chunk->free = 0;
}

/* A free place, out of the lowest chunk that has one; 0: no memory. */
static uint32_t place_take(struct evfs_node_table *table)
{
	struct evfs_table_chunk *chunk;
	size_t i = table->first_free;
	uint32_t k;

	while (i < table->n_chunks && table->chunks[i].recs &&
	       table->chunks[i].free == 0)
		i++;
	table->first_free = i;
	if (i == table->n_chunks && !chunk_add(table))
		return 0;
	chunk = &table->chunks[i];
	if (!chunk->recs && !chunk_fill(table, i))
		return 0;
	if (table->spare == i + 1)
		table->spare = 0;
	k = chunk->free - 1;
	chunk->free = chunk->recs[k].next;
	chunk->n_used++;
	return (uint32_t)i * EVFS_TABLE_CHUNK + k;
}

static void place_give(struct evfs_node_table *table, uint32_t at)
{
	struct evfs_table_chunk *chunk = chunk_of(table, at);
	uint32_t k = at % EVFS_TABLE_CHUNK;
	struct evfs_node_rec *rec = &chunk->recs[k];
	uint32_t generation = rec->generation;

	memset(rec, 0, sizeof(*rec));
	rec->generation = generation;
	if (chunk->notes)
		evfs_free(evfs_steal(chunk->notes[k]));
	if (generation < UINT32_MAX) {
		rec->generation++;
		rec->next = chunk->free;
		chunk->free = k + 1;
	}
	if (at / EVFS_TABLE_CHUNK < table->first_free)
		table->first_free = at / EVFS_TABLE_CHUNK;
	if (--chunk->n_used > 0)
		return;
	if (table->spare == 0)
		table->spare = at / EVFS_TABLE_CHUNK + 1;
	else
		chunk_drop(chunk);
}

/* ---- chains ---- */

static size_t ino_hash(evfs_ino ino)
{
	return mix(ino.actor.node ^ (uint64_t)ino.actor.epoch << 32 ^
		   ino.counter);
}

static uint32_t *head_of(const struct evfs_node_table *table, evfs_ino ino)
{
	return &table->heads[ino_hash(ino) & table->mask];
}

static void chain_add(struct evfs_node_table *table, uint32_t at)
{
	uint32_t *head = head_of(table, evfs_table_ino(table, at));

	evfs_table_at(table, at)->next = *head;
	*head = at;
}

static void chain_remove(struct evfs_node_table *table, uint32_t at)
{
	uint32_t *link = head_of(table, evfs_table_ino(table, at));

	while (*link != at)
		link = &evfs_table_at(table, *link)->next;
	*link = evfs_table_at(table, at)->next;
}

/* Twice the heads; without memory the chains only grow longer. */
static void heads_grow(struct evfs_node_table *table)
{
	size_t n = (table->mask + 1) * 2;
	uint32_t *heads = evfs_calloc(n, sizeof(*heads));

	if (!heads)
		return;
	evfs_free(table->heads);
	table->heads = heads;
	table->mask = n - 1;
	for (uint32_t at = evfs_table_after(table, 0); at != 0;
	     at = evfs_table_after(table, at))
		chain_add(table, at);
}

/* ---- life ---- */

int evfs_table_init(struct evfs_node_table *table)
{
	memset(table, 0, sizeof(*table));
	table->mask = HEADS_MIN - 1;
	table->actor_mask = ACTORS_MIN - 1;
	table->heads = evfs_calloc(HEADS_MIN, sizeof(*table->heads));
	table->actor_slots = evfs_calloc(ACTORS_MIN,
					 sizeof(*table->actor_slots));
	if (table->heads && table->actor_slots)
		return 0;
	evfs_table_fini(table);
	return EVFS_ENOMEM;
}

void evfs_table_fini(struct evfs_node_table *table)
{
	for (size_t i = 0; i < table->n_chunks; i++) {
		notes_free(&table->chunks[i]);
		evfs_free(table->chunks[i].recs);
	}
	evfs_free(table->chunks);
	evfs_free(table->heads);
	evfs_free(table->actors);
	evfs_free(table->actor_slots);
	memset(table, 0, sizeof(*table));
}

/* A number for a node is that of an actor of it. */
static evfs_actor node_of(const struct evfs_handle_key *key)
{
	return (evfs_actor){ key->link_node, 0 };
}

static bool key_numbers(struct evfs_node_table *table,
			const struct evfs_handle_key *key, uint32_t *ino,
			uint32_t *link, uint32_t *base)
{
	return actor_number(table, key->ino.actor, ino) &&
	       actor_number(table, node_of(key), link) &&
	       actor_number(table, key->base.actor, base);
}

uint32_t evfs_table_add(struct evfs_node_table *table,
			enum evfs_node_type type, enum evfs_kind kind,
			const struct evfs_handle_key *key)
{
	uint32_t ino_actor, link_actor, base_actor, at;
	struct evfs_node_rec *rec;

	if (!key_numbers(table, key, &ino_actor, &link_actor, &base_actor))
		return 0;
	if (table->n > table->mask)
		heads_grow(table);
	at = place_take(table);
	if (at == 0)
		return 0;
	rec = evfs_table_at(table, at);
	rec->used = 1;
	rec->type = (unsigned)type & 3;
	rec->kind = (unsigned)kind & 7;
	rec->has_base = key->has_base;
	rec->ino_actor = ino_actor;
	rec->ino_counter = key->ino.counter;
	rec->link_actor = link_actor;
	rec->as.link_ns = key->link_ns;
	rec->base_actor = base_actor;
	rec->base_counter = key->base.counter;
	chain_add(table, at);
	table->n++;
	return at;
}

void evfs_table_remove(struct evfs_node_table *table, uint32_t at)
{
	chain_remove(table, at);
	place_give(table, at);
	table->n--;
}

/* ---- finding ---- */

uint64_t evfs_table_id(const struct evfs_node_table *table, uint32_t at)
{
	return (uint64_t)evfs_table_at(table, at)->generation << 32 | at;
}

uint32_t evfs_table_find(const struct evfs_node_table *table, uint64_t id)
{
	uint32_t at = (uint32_t)id;

	return at != 0 && is_used(table, at) &&
		       evfs_table_at(table, at)->generation == id >> 32 ?
		       at :
		       0;
}

uint32_t evfs_table_after(const struct evfs_node_table *table, uint32_t at)
{
	uint64_t end = (uint64_t)table->n_chunks * EVFS_TABLE_CHUNK;

	for (uint64_t i = (uint64_t)at + 1; i < end; i++) {
		if (!chunk_of(table, (uint32_t)i)->recs)
			i |= EVFS_TABLE_CHUNK - 1; /* the last of it */
		else if (evfs_table_at(table, (uint32_t)i)->used)
			return (uint32_t)i;
	}
	return 0;
}

static uint32_t of_object(const struct evfs_node_table *table, uint32_t at,
			  uint32_t actor, uint64_t counter)
{
	for (; at != 0; at = evfs_table_at(table, at)->next) {
		const struct evfs_node_rec *rec = evfs_table_at(table, at);

		if (rec->ino_counter == counter && rec->ino_actor == actor)
			break;
	}
	return at;
}

uint32_t evfs_table_first(const struct evfs_node_table *table, evfs_ino ino)
{
	uint32_t actor = actor_find(table, ino.actor);

	return actor == NO_ACTOR ? 0 :
				   of_object(table, *head_of(table, ino),
					     actor, ino.counter);
}

uint32_t evfs_table_next(const struct evfs_node_table *table, uint32_t at)
{
	const struct evfs_node_rec *rec = evfs_table_at(table, at);

	return of_object(table, rec->next, rec->ino_actor, rec->ino_counter);
}

/* ---- what a record says ---- */

evfs_ino evfs_table_ino(const struct evfs_node_table *table, uint32_t at)
{
	const struct evfs_node_rec *rec = evfs_table_at(table, at);

	return dot_of(table, rec->ino_actor, rec->ino_counter);
}

void evfs_table_key(const struct evfs_node_table *table, uint32_t at,
		    struct evfs_handle_key *ret)
{
	const struct evfs_node_rec *rec = evfs_table_at(table, at);

	assert(!rec->is_full);
	ret->ino = dot_of(table, rec->ino_actor, rec->ino_counter);
	ret->link_node = table->actors[rec->link_actor].node;
	ret->link_ns = rec->as.link_ns;
	ret->has_base = rec->has_base;
	ret->base = dot_of(table, rec->base_actor, rec->base_counter);
}

bool evfs_table_set_ino(struct evfs_node_table *table, uint32_t at,
			evfs_ino ino)
{
	struct evfs_node_rec *rec = evfs_table_at(table, at);
	uint32_t actor;

	if (!actor_number(table, ino.actor, &actor))
		return false;
	chain_remove(table, at);
	rec->ino_actor = actor;
	rec->ino_counter = ino.counter;
	chain_add(table, at);
	return true;
}

bool evfs_table_set_key(struct evfs_node_table *table, uint32_t at,
			const struct evfs_handle_key *key)
{
	struct evfs_node_rec *rec = evfs_table_at(table, at);
	uint32_t ino_actor, link_actor, base_actor;

	if (!key_numbers(table, key, &ino_actor, &link_actor, &base_actor))
		return false;
	if (rec->ino_actor != ino_actor ||
	    rec->ino_counter != key->ino.counter) {
		chain_remove(table, at);
		rec->ino_actor = ino_actor;
		rec->ino_counter = key->ino.counter;
		chain_add(table, at);
	}
	rec->is_full = 0;
	rec->link_actor = link_actor;
	rec->as.link_ns = key->link_ns;
	rec->has_base = key->has_base;
	rec->base_actor = base_actor;
	rec->base_counter = key->base.counter;
	return true;
}

void evfs_table_look(struct evfs_node_rec *rec)
{
	if (rec->lookups < EVFS_LOOKUPS_MAX)
		rec->lookups++;
}

bool evfs_table_take(struct evfs_node_rec *rec, uint64_t n)
{
	if (rec->lookups == EVFS_LOOKUPS_MAX)
		return false;
	assert(rec->lookups >= n);
	rec->lookups = (rec->lookups - n) & EVFS_LOOKUPS_MAX;
	return rec->lookups == 0;
}

/* ---- where nodes were found ---- */

void evfs_table_note(struct evfs_node_table *table, uint32_t at, evfs_ino dir,
		     const char *name, size_t len)
{
	struct evfs_table_chunk *chunk = chunk_of(table, at);
	struct evfs_place_note *note, **old;
	uint32_t actor;

	if (!table->notes || !actor_number(table, dir.actor, &actor))
		return;
	if (!chunk->notes)
		chunk->notes = evfs_calloc(EVFS_TABLE_CHUNK,
					   sizeof(struct evfs_place_note *));
	if (!chunk->notes)
		return;
	old = &chunk->notes[at % EVFS_TABLE_CHUNK];
	if (*old && strlen((*old)->name) == len) {
		note = *old; /* mostly the same again */
	} else {
		note = evfs_calloc(1, sizeof(*note) + len + 1);
		if (!note)
			return;
		evfs_free(*old);
		*old = note;
	}
	note->actor = actor;
	note->counter_low = (uint32_t)dir.counter;
	note->counter_high = (uint32_t)(dir.counter >> 32);
	memcpy(note->name, name, len);
}

bool evfs_table_noted(const struct evfs_node_table *table, uint32_t at,
		      evfs_ino *ret_dir, char *name)
{
	const struct evfs_table_chunk *chunk = chunk_of(table, at);
	const struct evfs_place_note *note =
		chunk->notes ? chunk->notes[at % EVFS_TABLE_CHUNK] : NULL;

	if (!note)
		return false;
	*ret_dir = dot_of(table, note->actor,
			  (uint64_t)note->counter_high << 32 |
				  note->counter_low);
	(void)strcpy(name, note->name);
	return true;
}
