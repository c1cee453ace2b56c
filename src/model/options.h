/*
 * The settings of one migration, all of them declared in options.def.
 *
 * A MigrateOptions is plain data; its strings and lists live in the arena it was filled from. source and dest are
 * connection strings (URI or key=value) and may hold a password: they are never printed, logged or put in argv of a
 * child.
 */
#pragma once

#include "common/arena.h"
#include "common/error.h"
#include "common/json.h"
#include "common/vec.h"

typedef struct MigrateOptions {
    const char *source;
    const char *dest;
#define OPTION_FIELD_FLAG bool
#define OPTION_FIELD_INT int64_t
#define OPTION_FIELD_BYTES int64_t
#define OPTION_FIELD_TEXT const char *
#define OPTION_FIELD_LIST StringVec
#define X(field, kind, flag, short_flag, arg, absent, group, help) OPTION_FIELD_##kind field;
#include "model/options.def"
#undef X
} MigrateOptions;

typedef enum OptionKind { OPTION_FLAG, OPTION_INT, OPTION_BYTES, OPTION_TEXT, OPTION_LIST } OptionKind;

/* One row of options.def, for the parser, the help text and the man page. */
typedef struct OptionInfo {
    const char *field;
    OptionKind kind;
    const char *flag;
    char short_flag; /* 0 = none */
    const char *arg; /* NULL for flags */
    const char *absent;
    const char *group;
    const char *help;
    size_t offset; /* in MigrateOptions */
} OptionInfo;

extern const OptionInfo option_infos[];
extern const size_t option_infos_count;

/* By its flag without dashes; NULL when there is none. */
const OptionInfo *option_find(const char *flag);

/* Defaults of options.def. */
void options_init(MigrateOptions *options);
/* Sets one option from text (a flag takes "true"/"false"; a list appends). Fails with USAGE: says which option and why.
 */
NODISCARD bool options_set(Arena *arena, MigrateOptions *options, const OptionInfo *info, const char *text, Error *err);
/* PGCRANE_<FLAG> for each option, PGCRANE_SOURCE and PGCRANE_DEST. Lists are split at commas. */
NODISCARD bool options_from_environment(Arena *arena, MigrateOptions *options, Error *err);
/* Values out of range, and combinations that exclude each other (--schema-only with --data-only, ...). */
NODISCARD bool options_check(const MigrateOptions *options, Error *err);

/* Whole, for START on the wire (holds the connection strings). New reference. */
json_t *options_to_json(const MigrateOptions *options);
NODISCARD bool options_from_json(Arena *arena, const json_t *json, MigrateOptions *ret_options, Error *err);
/* What decides *what* arrives (filters, schema_only, data_only, no_owner, no_acl) as one stable text: a run may only go
 * on with the work of one that had the same. */
char *options_fingerprint(Arena *arena, const MigrateOptions *options);
