/*
 * A resource of the store with its body opened: {"api": what a client is answered, "run": what only we need}.
 *
 * Contract
 * - `api` and `run` are objects, never NULL behind a success, and the record's: record_fini() (or CLEANUP) gives them
 *   back. All else is of the transaction's arena.
 * - name, state, phase and times are the resource's; they are in no body, and come into answers by record_render().
 * - Functions with a StoreTx are for bodies of store_write() (record_load() for store_read() as well).
 * - No secret is ever in a record. record_secrets() lists which ones the resource has.
 */
#pragma once

#include "common/json.h"
#include "store/store.h"

typedef struct Record {
    StoreResource resource;
    json_t *api, *run;
} Record;

void record_fini(Record *record);

NODISCARD bool record_load(StoreTx *tx, StoreKind kind, const char *name, Record *ret_record, Error *err);
/* Of a page of a list. STORE_DAMAGED when the body is none. */
NODISCARD bool record_open(const StoreResource *resource, Record *ret_record, Error *err);
/* resource needs kind, name, parent and state; uid and display name are set here. */
NODISCARD bool record_create(StoreTx *tx, Arena *arena, Record *record, Error *err);
/* STALE_VERSION when somebody changed it since it was loaded. */
NODISCARD bool record_save(StoreTx *tx, Arena *arena, Record *record, Error *err);

/* What a client sees: api with name, createTime, updateTime, state, uid and etag. New reference. */
json_t *record_render(const Record *record, Arena *arena);
const char *record_etag(Arena *arena, const StoreResource *resource);

/* "projects/P/locations/L" of any full name. */
const char *record_location(Arena *arena, const char *name);
/* 32 digits that nobody can guess. */
const char *record_random_id(Arena *arena);
/* Microseconds since 1970 as RFC 3339; NULL for 0. */
json_t *record_time(Arena *arena, int64_t wall_us);

/* Which secrets it has, by the paths of their fields: an array in `run`. */
json_t *record_secrets(const Record *record);
bool record_has_secret(const Record *record, const char *path);
void record_note_secret(Record *record, const char *path, bool has);
