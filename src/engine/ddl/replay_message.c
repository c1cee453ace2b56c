/* The message of the capture (capture_sql.c), from JSON. */
#include "engine/ddl/replay_internal.h"

#include "engine/schema/sqlscan.h"

#include <string.h>

static void read_objects(Arena *arena, const json_t *array, DdlObjectVec *ret_objects) {
    size_t i;
    const json_t *item;

    json_array_foreach(array, i, item) {
        DdlObject object = {
            .schema = arena_strdup(arena, json_get_string(item, "schema", NULL)),
            .name = arena_strdup(arena, json_get_string(item, "name", NULL)),
            .kind = arena_strdup(arena, json_get_string(item, "type", "")),
            .identity = arena_strdup(arena, json_get_string(item, "identity", "")),
            .oid = (uint32_t)json_get_int(item, "oid", 0),
        };
        vec_push(arena, ret_objects, object);
    }
}

bool ddl_message_parse(Arena *arena, const char *content, size_t len, const char *slot, json_t **ret_json,
                       DdlMessage *ret_message, Error *err) {
    CLEANUP(json_freep) json_t *json = NULL;

    if (!json_parse(content, len, &json, err))
        return error_wrap(err, "reading a captured command");
    *ret_message = (DdlMessage){.slot = arena_strdup(arena, json_get_string(json, "slot", slot))};
    *ret_json = NULL;
    if (strcmp(ret_message->slot, slot) != 0)
        return true;
    if (json_get_int(json, "v", 0) != 2)
        return error_set(err, REASON_UNSUPPORTED, "a captured command of version %lld",
                         (long long)json_get_int(json, "v", 0));
    DdlMessage message = {
        .slot = ret_message->slot,
        .string = arena_strdup(arena, json_get_string(json, "string", "")),
        .tag = arena_strdup(arena, json_get_string(json, "tag", "")),
        .query = arena_strdup(arena, json_get_string(json, "query", NULL)),
        .suspect = arena_strdup(arena, json_get_string(json, "suspect", NULL)),
        .failed = arena_strdup(arena, json_get_string(json, "failed", NULL)),
        .ordinal = json_get_int(json, "ordinal", 1),
        .rewrite = json_get_int(json, "rewrite", 0),
        .nested = json_get_bool(json, "nested", false),
        .role = arena_strdup(arena, json_get_string(json, "role", "")),
        .settings = json_get_object(json, "settings"),
    };
    read_objects(arena, json_get_array(json, "objects"), &message.objects);
    read_objects(arena, json_get_array(json, "tables"), &message.tables);
    read_objects(arena, json_get_array(json, "rows"), &message.rows);
    read_objects(arena, json_get_array(json, "columns"), &message.columns);
    *ret_message = message;
    *ret_json = json;
    json = NULL;
    return true;
}

static const char *unquoted(Arena *arena, const SqlToken *token) {
    char *name = arena_strndup(arena, token->text, token->len);
    char *to = name;

    if (token->kind != SQL_TOKEN_IDENT)
        return name;
    for (const char *from = name + 1; from < name + token->len - 1; from++) {
        *to++ = *from;
        if (*from == '"')
            from++;
    }
    *to = '\0';
    return name;
}

const char *ddl_bare_name(Arena *arena, const DdlObject *object) {
    SqlScanner scanner = {.pos = object->identity};
    SqlToken token = sql_next_token(&scanner);

    while (sql_accept_symbol(&scanner, '.'))
        token = sql_next_token(&scanner);
    return unquoted(arena, &token);
}
