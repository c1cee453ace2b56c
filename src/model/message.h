/*
 * The JSON of the API's resources, as tables: which fields there are, who may write them, what they may hold.
 *
 * Contract
 * - A Message is a const table of Fields (resources.h has those of the API). All functions here are pure: JSON in, JSON
 *   out, nothing is remembered, safe in any thread.
 * - What a client sends goes through message_read() first. What comes out of it has only fields of the table, under
 *   their proto3 JSON names (lowerCamelCase), of the right type. Everything that is wrong is told at once: each
 *   Violation names the field by its path.
 * - As proto3 JSON has it: null is absent; snake_case names are taken; int64 is a string, and numbers are taken for it;
 *   an enum is its name.
 * - Output-only fields are dropped without a word: clients send back what they were given (google-cloud-sdk sends the
 *   whole resource to each PATCH, and "state": "CREATING" to each create).
 * - Secrets (FIELD_SECRET) never stay in a body: message_take_secrets() has to be called before it is stored.
 */
#pragma once

#include "common/json.h"
#include "common/vec.h"

typedef enum FieldKind {
    FIELD_STRING,
    FIELD_BOOL,
    FIELD_INT32,
    FIELD_INT64, /* a string in JSON */
    FIELD_ENUM,
    FIELD_TIMESTAMP, /* RFC 3339 */
    FIELD_DURATION,  /* "3.5s" */
    FIELD_MESSAGE,
    FIELD_MAP,    /* of strings to strings */
    FIELD_STRUCT, /* any JSON object: kept as it is */
} FieldKind;

enum {
    FIELD_REPEATED = 1 << 0,
    FIELD_OUTPUT = 1 << 1,    /* only we write it */
    FIELD_SECRET = 1 << 2,    /* only read, never answered or stored in a body */
    FIELD_IMMUTABLE = 1 << 3, /* as it was created */
    FIELD_REQUIRED = 1 << 4,
    FIELD_ECHO = 1 << 5, /* of Google's cloud: kept and answered, means nothing here */
};

typedef struct Message Message;

typedef struct Field {
    const char *name; /* lowerCamelCase */
    FieldKind kind;
    unsigned flags;
    const Message *message;    /* of FIELD_MESSAGE */
    const char *const *values; /* of FIELD_ENUM: names, then NULL */
    const char *oneof;         /* at most one field of such a group may be there */
    int64_t min, max;          /* of numbers, both 0 = any; of strings max bytes, 0 = TEXT_MAX */
    const char *help;
} Field;

struct Message {
    const char *name; /* as in google.cloud.clouddms.v1 */
    const Field *fields;
    size_t count;
};

enum { MESSAGE_TEXT_MAX = 4096, MESSAGE_ITEMS_MAX = 10000, MESSAGE_DEPTH_MAX = 16 };

typedef struct Violation {
    const char *field;       /* "postgresql.port" */
    const char *description; /* what is wrong and what may stand there */
} Violation;

typedef VEC(Violation) ViolationVec;

/* NULL when the message has no such field. Takes snake_case, too. */
const Field *message_field(const Message *message, const char *name);

/* A new object with what the client may write, NULL with *violations filled when anything is wrong. Owned by the
 * caller; violations are of the arena. `is_create`: required fields have to be there. */
json_t *message_read(const Message *message, const json_t *sent, bool is_create, Arena *arena,
                     ViolationVec *violations);

/* Called with a secret's path and value. The value is valid during the call only. */
typedef void (*SecretTaker)(void *context, const char *path, const char *value);
/* Removes all secrets from what message_read() gave, handing each out. */
void message_take_secrets(const Message *message, json_t *body, SecretTaker taker, void *context);

/*
 * What a PATCH leads to: a copy of `current` with the fields of `mask` (comma-separated paths) as in `sent`
 * (of message_read()); a path whose field is not in `sent` is removed. NULL with violations: unknown paths, immutable
 * fields that would change. Output-only paths change nothing. An empty mask or "*" means every field that `sent` has:
 * google-cloud-sdk leaves labels out of its masks.
 * `aliases`: pairs of a path that clients send and the one that is meant, then NULL; NULL = none.
 */
json_t *message_patch(const Message *message, const json_t *current, const json_t *sent, const char *mask,
                      const char *const *aliases, Arena *arena, ViolationVec *violations);

/* The message's JSON Schema for an OpenAPI 3 document; messages inside are "#/components/schemas/NAME". New. */
json_t *message_schema(const Message *message);
