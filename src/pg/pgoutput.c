/*
 * Messages of the pgoutput plugin, bytes to structs.
 *
 * One table says for each type its name, whether a stream puts an xid in front of it, and who decodes it. The reader is
 * sticky: after the first complaint it gives zeros and NULLs, and pgo_decode() reports the first one; so decoders read
 * straight on. A count or length is compared with the bytes that are there before anything of that size is allocated.
 *
 * Flags and kinds that the protocol does not define are refused, not ignored: a server sends only what the version
 * asked for has, so an unknown one means that we would misunderstand the rest.
 */
#include "pg/pgoutput.h"

#include <string.h>

typedef struct Reader {
    const uint8_t *start, *at, *end;
    Arena *arena;
    const char *complaint; /* the first; NULL = all is well */
    size_t complaint_at;
} Reader;

typedef struct Decoder {
    const char *name;
    void (*decode)(Reader *reader, PgoMessage *message);
    bool has_stream_xid;
} Decoder;

static void complain(Reader *reader, const char *complaint) {
    if (reader->complaint != NULL)
        return;
    reader->complaint = complaint;
    reader->complaint_at = (size_t)(reader->at - reader->start);
}

static size_t remaining(const Reader *reader) {
    return (size_t)(reader->end - reader->at);
}

/* The next `len` bytes, NULL when they are not there. */
static inline const uint8_t *take(Reader *reader, size_t len) {
    const uint8_t *bytes = reader->at;

    if (reader->complaint != NULL)
        return NULL;
    if (remaining(reader) < len) {
        complain(reader, "it ends too early");
        return NULL;
    }
    reader->at += len;
    return bytes;
}

static inline uint8_t take_u8(Reader *reader) {
    const uint8_t *b = take(reader, 1);

    return b != NULL ? *b : 0;
}

static inline uint16_t take_u16(Reader *reader) {
    const uint8_t *b = take(reader, 2);

    return b != NULL ? (uint16_t)(b[0] << 8 | b[1]) : 0;
}

static inline uint32_t take_u32(Reader *reader) {
    const uint8_t *b = take(reader, 4);

    return b != NULL ? (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3] : 0;
}

static uint64_t take_u64(Reader *reader) {
    uint64_t high = take_u32(reader);

    return high << 32 | take_u32(reader);
}

static int64_t take_time(Reader *reader) {
    return (int64_t)take_u64(reader);
}

static const char *take_string(Reader *reader) {
    if (reader->complaint != NULL)
        return NULL;
    const uint8_t *nul = memchr(reader->at, 0, remaining(reader));
    if (nul == NULL) {
        complain(reader, "a string has no end");
        return NULL;
    }
    const char *text = (const char *)reader->at;
    reader->at = nul + 1;
    return text;
}

/* A byte of flags, of which only those in `known` may be set. */
static uint8_t take_flags(Reader *reader, uint8_t known) {
    const uint8_t flags = take_u8(reader);

    if ((flags & ~known) != 0)
        complain(reader, "it has unknown flags");
    return flags;
}

/* A byte that is one of the characters of `known`. */
static char take_kind(Reader *reader, const char *known, const char *complaint) {
    const char kind = (char)take_u8(reader);

    if (kind == '\0' || strchr(known, kind) == NULL)
        complain(reader, complaint);
    return kind;
}

/* --- Transactions ------------------------------------------------------------------------------------------------- */

static void decode_begin(Reader *reader, PgoMessage *message) {
    PgoTransaction *t = &message->transaction;

    t->lsn = take_u64(reader);
    t->time_us = take_time(reader);
    t->xid = take_u32(reader);
}

static void take_end(Reader *reader, PgoTransaction *t) {
    (void)take_flags(reader, 0);
    t->lsn = take_u64(reader);
    t->end_lsn = take_u64(reader);
    t->time_us = take_time(reader);
}

static void decode_commit(Reader *reader, PgoMessage *message) {
    take_end(reader, &message->transaction);
}

static void decode_stream_start(Reader *reader, PgoMessage *message) {
    message->transaction.xid = take_u32(reader);
    message->transaction.first_segment = take_flags(reader, 1) != 0;
}

static void decode_stream_stop(Reader *reader, PgoMessage *message) {
    (void)reader;
    (void)message;
}

static void decode_stream_commit(Reader *reader, PgoMessage *message) {
    message->transaction.xid = take_u32(reader);
    take_end(reader, &message->transaction);
}

static void decode_stream_abort(Reader *reader, PgoMessage *message) {
    PgoTransaction *t = &message->transaction;

    t->xid = take_u32(reader);
    t->subxid = take_u32(reader);
    if (remaining(reader) == 0)
        return;
    /* With streaming = parallel (version 4) where and when it was aborted, too. */
    t->lsn = take_u64(reader);
    t->time_us = take_time(reader);
}

static void decode_begin_prepare(Reader *reader, PgoMessage *message) {
    PgoTransaction *t = &message->transaction;

    t->lsn = take_u64(reader);
    t->end_lsn = take_u64(reader);
    t->time_us = take_time(reader);
    t->xid = take_u32(reader);
    t->gid = take_string(reader);
}

/* PREPARE, COMMIT PREPARED and STREAM PREPARE have one form. */
static void decode_prepared(Reader *reader, PgoMessage *message) {
    take_end(reader, &message->transaction);
    message->transaction.xid = take_u32(reader);
    message->transaction.gid = take_string(reader);
}

static void decode_rollback_prepared(Reader *reader, PgoMessage *message) {
    PgoTransaction *t = &message->transaction;

    (void)take_flags(reader, 0);
    t->lsn = take_u64(reader); /* behind the PREPARE */
    t->end_lsn = take_u64(reader);
    (void)take_time(reader); /* of the PREPARE */
    t->time_us = take_time(reader);
    t->xid = take_u32(reader);
    t->gid = take_string(reader);
}

static void decode_origin(Reader *reader, PgoMessage *message) {
    (void)take_u64(reader); /* the commit's position on the origin: of a server that we do not know */
    message->origin = take_string(reader);
}

/* --- Relations and types ------------------------------------------------------------------------------------------ */

static void take_column(Reader *reader, PgoColumn *column) {
    column->is_key = take_flags(reader, 1) != 0;
    column->name = take_string(reader);
    column->type_oid = take_u32(reader);
    column->type_modifier = (int32_t)take_u32(reader);
}

static void decode_relation(Reader *reader, PgoMessage *message) {
    enum { COLUMN_SIZE_MIN = 10 };
    PgoRelation *relation = &message->relation;

    relation->oid = take_u32(reader);
    relation->schema = take_string(reader);
    relation->name = take_string(reader);
    relation->identity = take_kind(reader, "dnfi", "its replica identity is unknown");
    relation->columns_count = take_u16(reader);
    if (relation->columns_count > remaining(reader) / COLUMN_SIZE_MIN) {
        complain(reader, "it has fewer columns than it says");
        return;
    }
    PgoColumn *columns = arena_array(reader->arena, PgoColumn, relation->columns_count);
    for (uint16_t i = 0; i < relation->columns_count; i++)
        take_column(reader, &columns[i]);
    relation->columns = columns;
}

static void decode_type(Reader *reader, PgoMessage *message) {
    message->relation.oid = take_u32(reader);
    message->relation.schema = take_string(reader);
    message->relation.name = take_string(reader);
}

/* --- Rows --------------------------------------------------------------------------------------------------------- */

static inline void take_value(Reader *reader, PgoValue *value) {
    const uint8_t kind = take_u8(reader);

    value->kind = (PgoValueKind)kind;
    if (kind == PGO_TEXT || kind == PGO_BINARY) {
        value->len = take_u32(reader);
        value->bytes = (const char *)take(reader, value->len);
    } else if (kind != PGO_NULL && kind != PGO_UNCHANGED) {
        complain(reader, "a value has an unknown kind");
    }
}

static void take_tuple(Reader *reader, PgoTuple *tuple) {
    const uint16_t count = take_u16(reader);

    /* Each value has a byte at least: nobody makes us allocate more than 16 times what they sent. */
    if (count > remaining(reader)) {
        complain(reader, "a row has fewer values than it says");
        return;
    }
    PgoValue *values = arena_array(reader->arena, PgoValue, count);
    for (uint16_t i = 0; i < count; i++)
        take_value(reader, &values[i]);
    tuple->count = count;
    tuple->values = values;
}

static void take_new_tuple(Reader *reader, PgoRow *row) {
    (void)take_kind(reader, "N", "the new row is missing");
    take_tuple(reader, &row->new_tuple);
}

static void take_old_tuple(Reader *reader, PgoRow *row) {
    row->old_kind = take_kind(reader, "KO", "the old row is missing");
    take_tuple(reader, &row->old_tuple);
}

static void decode_insert(Reader *reader, PgoMessage *message) {
    message->row.relation = take_u32(reader);
    take_new_tuple(reader, &message->row);
}

static void decode_update(Reader *reader, PgoMessage *message) {
    message->row.relation = take_u32(reader);
    /* Without an old row the key has not changed. */
    if (remaining(reader) > 0 && *reader->at != 'N')
        take_old_tuple(reader, &message->row);
    take_new_tuple(reader, &message->row);
}

static void decode_delete(Reader *reader, PgoMessage *message) {
    message->row.relation = take_u32(reader);
    take_old_tuple(reader, &message->row);
}

static void decode_truncate(Reader *reader, PgoMessage *message) {
    enum { CASCADE = 1, RESTART_IDENTITY = 2 };
    PgoTruncate *truncate = &message->truncate;

    truncate->relations_count = take_u32(reader);
    const uint8_t flags = take_flags(reader, CASCADE | RESTART_IDENTITY);
    if (truncate->relations_count > remaining(reader) / sizeof(uint32_t)) {
        complain(reader, "it has fewer tables than it says");
        return;
    }
    uint32_t *relations = arena_array(reader->arena, uint32_t, truncate->relations_count);
    for (uint32_t i = 0; i < truncate->relations_count; i++)
        relations[i] = take_u32(reader);
    truncate->cascade = (flags & CASCADE) != 0;
    truncate->restart_identity = (flags & RESTART_IDENTITY) != 0;
    truncate->relations = relations;
}

static void decode_logical(Reader *reader, PgoMessage *message) {
    PgoLogical *logical = &message->logical;

    logical->transactional = take_flags(reader, 1) != 0;
    logical->lsn = take_u64(reader);
    logical->prefix = take_string(reader);
    logical->len = take_u32(reader);
    logical->content = (const char *)take(reader, logical->len);
}

/* --- All types ---------------------------------------------------------------------------------------------------- */

static const Decoder decoders[] = {
    [PGO_BEGIN] = {"begin", decode_begin, false},
    [PGO_COMMIT] = {"commit", decode_commit, false},
    [PGO_ORIGIN] = {"origin", decode_origin, false},
    [PGO_RELATION] = {"relation", decode_relation, true},
    [PGO_DATA_TYPE] = {"type", decode_type, true},
    [PGO_INSERT] = {"insert", decode_insert, true},
    [PGO_UPDATE] = {"update", decode_update, true},
    [PGO_DELETE] = {"delete", decode_delete, true},
    [PGO_TRUNCATE] = {"truncate", decode_truncate, true},
    [PGO_MESSAGE] = {"message", decode_logical, true},
    [PGO_STREAM_START] = {"stream start", decode_stream_start, false},
    [PGO_STREAM_STOP] = {"stream stop", decode_stream_stop, false},
    [PGO_STREAM_COMMIT] = {"stream commit", decode_stream_commit, false},
    [PGO_STREAM_ABORT] = {"stream abort", decode_stream_abort, false},
    [PGO_BEGIN_PREPARE] = {"begin prepare", decode_begin_prepare, false},
    [PGO_PREPARE] = {"prepare", decode_prepared, false},
    [PGO_COMMIT_PREPARED] = {"commit prepared", decode_prepared, false},
    [PGO_ROLLBACK_PREPARED] = {"rollback prepared", decode_rollback_prepared, false},
    [PGO_STREAM_PREPARE] = {"stream prepare", decode_prepared, false},
};

static const Decoder *find_decoder(unsigned type) {
    return type < COUNT_OF(decoders) && decoders[type].decode != NULL ? &decoders[type] : NULL;
}

static bool fail(const Reader *reader, const Decoder *decoder, Error *err) {
    return error_set(err, REASON_WIRE_BAD, "the source sent a malformed %s of %zu bytes: %s (at byte %zu)",
                     decoder->name, (size_t)(reader->end - reader->start), reader->complaint, reader->complaint_at);
}

bool pgo_decode(Arena *arena, const void *bytes, size_t len, bool in_stream, PgoMessage *ret_message, Error *err) {
    Reader reader = {.start = bytes, .at = bytes, .end = (const uint8_t *)bytes + len, .arena = arena};

    if (len == 0)
        return error_set(err, REASON_WIRE_BAD, "the source sent an empty message");
    const uint8_t type = take_u8(&reader);
    const Decoder *decoder = find_decoder(type);
    if (decoder == NULL)
        return error_set(err, REASON_WIRE_BAD, "the source sent a message of unknown type 0x%02X and %zu bytes", type,
                         len);
    PgoMessage message = {.type = (PgoType)type};
    if (in_stream && decoder->has_stream_xid)
        message.stream_xid = take_u32(&reader);
    decoder->decode(&reader, &message);
    if (remaining(&reader) > 0)
        complain(&reader, "there is more behind its end");
    if (reader.complaint != NULL)
        return fail(&reader, decoder, err);
    *ret_message = message;
    return true;
}

const char *pgo_type_name(PgoType type) {
    const Decoder *decoder = find_decoder((unsigned)type);

    return decoder != NULL ? decoder->name : "unknown";
}
