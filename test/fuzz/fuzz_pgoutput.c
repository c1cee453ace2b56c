/*
 * Any bytes as a message of pgoutput: decoded or refused, and whatever was decoded lies inside the bytes.
 *
 * The first byte says whether a stream is open; the rest is the message.
 */
#include "pg/pgoutput.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *begin, *end;

static void check_bytes(const char *bytes, size_t len) {
    if (bytes < begin || bytes > end || (size_t)(end - bytes) < len)
        __builtin_trap();
}

static void check_text(const char *text) {
    if (text != NULL)
        check_bytes(text, strlen(text) + 1);
}

static void check_tuple(const PgoTuple *tuple) {
    for (uint16_t i = 0; i < tuple->count; i++) {
        const PgoValue *value = &tuple->values[i];
        if (value->kind == PGO_TEXT || value->kind == PGO_BINARY)
            check_bytes(value->bytes, value->len);
        else if (value->bytes != NULL || value->len != 0)
            __builtin_trap();
    }
}

static void check_relation(const PgoRelation *relation) {
    check_text(relation->schema);
    check_text(relation->name);
    for (uint16_t i = 0; i < relation->columns_count; i++)
        check_text(relation->columns[i].name);
}

static void check(const PgoMessage *message) {
    if (message->type == PGO_RELATION || message->type == PGO_DATA_TYPE) {
        check_relation(&message->relation);
    } else if (message->type == PGO_INSERT || message->type == PGO_UPDATE || message->type == PGO_DELETE) {
        check_tuple(&message->row.old_tuple);
        check_tuple(&message->row.new_tuple);
    } else if (message->type == PGO_TRUNCATE) {
        uint32_t sum = 0;
        for (uint32_t i = 0; i < message->truncate.relations_count; i++)
            sum ^= message->truncate.relations[i];
        if (sum != 0 && message->truncate.relations_count == 0)
            __builtin_trap();
    } else if (message->type == PGO_MESSAGE) {
        check_text(message->logical.prefix);
        check_bytes(message->logical.content, message->logical.len);
    } else if (message->type == PGO_ORIGIN) {
        check_text(message->origin);
    } else {
        check_text(message->transaction.gid);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    enum { LARGEST_PER_BYTE = 64 };
    CLEANUP(arena_freep) Arena *arena = arena_new();
    PgoMessage message;
    Error err;

    if (size == 0)
        return 0;
    begin = (const char *)data + 1;
    end = (const char *)data + size;
    if (pgo_decode(arena, data + 1, size - 1, (data[0] & 1) != 0, &message, &err))
        check(&message);
    else if (err.reason != REASON_WIRE_BAD || err.message[0] == '\0')
        __builtin_trap();
    if (arena_used(arena) > size * LARGEST_PER_BYTE)
        __builtin_trap();
    return 0;
}
