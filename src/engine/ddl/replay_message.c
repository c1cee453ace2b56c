/* The message of the capture (capture_sql.c), from JSON. */
#include "engine/ddl/replay_internal.h"

#include "engine/schema/sqlscan.h"

#include <string.h>

enum { OLD_HEAD = 256 };

static void read_objects(Arena *arena, const json_t *array, DdlObjectVec *ret_objects) {
    size_t i;
    const json_t *item;

    json_array_foreach(array, i, item) {
        DdlObject object = {
            .schema = arena_strdup(arena, json_get_string(item, "schema", NULL)),
            .name = arena_strdup(arena, json_get_string(item, "name", NULL)),
            .kind = arena_strdup(arena, json_get_string(item, "type", "")),
            .identity = arena_strdup(arena, json_get_string(item, "identity", "")),
            .shape = arena_strdup(arena, json_get_string(item, "shape", NULL)),
            .oid = (uint32_t)json_get_int(item, "oid", 0),
        };
        vec_push(arena, ret_objects, object);
    }
}

/* In a time that tells nothing of where they differ. */
static bool same_bytes(const char *a, const char *b, size_t len) {
    unsigned differs = 0;

    for (size_t i = 0; i < len; i++)
        differs |= (unsigned char)a[i] ^ (unsigned char)b[i];
    return differs == 0;
}

/* Before there was a secret, a message began with its JSON: near its begin the slot's name. */
static bool is_of_old_format(const char *content, size_t len, const char *slot) {
    return len > 0 && content[0] == '{' && memmem(content, MIN(len, (size_t)OLD_HEAD), slot, strlen(slot)) != NULL;
}

DdlSender ddl_message_sender(const DdlStream *stream, const char *content, size_t len, const char **ret_body,
                             size_t *ret_len) {
    const char *secret = stream->secret == NULL ? "" : stream->secret;
    size_t slot_len = strlen(stream->slot), secret_len = strlen(secret);
    size_t head_len = slot_len + 1 + secret_len + 1;

    if (len <= slot_len || memcmp(content, stream->slot, slot_len) != 0 || content[slot_len] != ' ')
        return is_of_old_format(content, len, stream->slot) ? DDL_SENDER_FORGED : DDL_SENDER_OTHER;
    if (secret_len == 0 || len < head_len || content[head_len - 1] != ' ' ||
        !same_bytes(content + slot_len + 1, secret, secret_len))
        return DDL_SENDER_FORGED;
    *ret_body = content + head_len;
    *ret_len = len - head_len;
    return DDL_SENDER_OURS;
}

bool ddl_message_parse(Arena *arena, const char *body, size_t len, json_t **ret_json, DdlMessage *ret_message,
                       Error *err) {
    CLEANUP(json_freep) json_t *json = NULL;

    if (!json_parse(body, len, &json, err))
        return error_wrap(err, "reading a captured command");
    if (json_get_int(json, "v", 0) != 3)
        return error_set(err, REASON_UNSUPPORTED, "a captured command of version %lld",
                         (long long)json_get_int(json, "v", 0));
    DdlMessage message = {
        .string = arena_strdup(arena, json_get_string(json, "string", "")),
        .tag = arena_strdup(arena, json_get_string(json, "tag", "")),
        .query = arena_strdup(arena, json_get_string(json, "query", NULL)),
        .suspect = arena_strdup(arena, json_get_string(json, "suspect", NULL)),
        .failed = arena_strdup(arena, json_get_string(json, "failed", NULL)),
        .ordinal = json_get_int(json, "ordinal", 1),
        .rewrite = json_get_int(json, "rewrite", 0),
        .nested = json_get_bool(json, "nested", false),
        .role = arena_strdup(arena, json_get_string(json, "role", "")),
        .trusted = json_get_bool(json, "trusted", false),
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
