/*
 * The schema of the store, as steps that are only ever added to: a store of version N has had the first N of them.
 *
 * Each step is one text for both backends, with the names of the types put in. What one of them needs beside it, stands
 * behind it.
 */
#pragma once

#define STORE_SCHEMA_NAME "pgcrane_store"

enum { STORE_APPLICATION_ID = 0x70676353 }; /* "pgcS" in the header of the SQLite file */

typedef struct SchemaStep {
    const char *sqlite, *postgresql;
} SchemaStep;

extern const SchemaStep schema_steps[];
extern const int schema_version; /* number of steps: what this program knows */
