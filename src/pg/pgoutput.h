/*
 * Messages of the pgoutput plugin, bytes to structs. Pure: no connection, no clock; fuzzed.
 *
 * Contract
 * - pgo_decode() reads one whole message (the payload of one XLogData). Values point into the bytes given: they live as
 * long as those. Arrays are in the arena. Everything malformed, truncated or left over is WIRE_BAD with the message's
 * type and offset.
 * - Protocol versions 1 to 4: 2 adds streamed transactions (their row messages begin with the subtransaction's xid
 * while a stream is open: the caller says so), 3 two-phase, 4 parallel stream aborts.
 * - Nothing is interpreted: type oids are the source's, text is in the session's client_encoding.
 * Relies on: PostgreSQL documentation, "Logical Replication Message Formats".
 */
#pragma once

#include "common/arena.h"
#include "common/error.h"

typedef enum PgoType {
    PGO_BEGIN = 'B',
    PGO_COMMIT = 'C',
    PGO_ORIGIN = 'O',
    PGO_RELATION = 'R',
    PGO_DATA_TYPE = 'Y',
    PGO_INSERT = 'I',
    PGO_UPDATE = 'U',
    PGO_DELETE = 'D',
    PGO_TRUNCATE = 'T',
    PGO_MESSAGE = 'M',
    PGO_STREAM_START = 'S',
    PGO_STREAM_STOP = 'E',
    PGO_STREAM_COMMIT = 'c',
    PGO_STREAM_ABORT = 'A',
    PGO_BEGIN_PREPARE = 'b',
    PGO_PREPARE = 'P',
    PGO_COMMIT_PREPARED = 'K',
    PGO_ROLLBACK_PREPARED = 'r',
    PGO_STREAM_PREPARE = 'p',
} PgoType;

typedef enum PgoValueKind { PGO_NULL = 'n', PGO_UNCHANGED = 'u', PGO_TEXT = 't', PGO_BINARY = 'b' } PgoValueKind;

typedef struct PgoValue {
    PgoValueKind kind;
    uint32_t len;
    const char *bytes; /* not NUL-terminated; NULL for null and unchanged */
} PgoValue;

typedef struct PgoTuple {
    uint16_t count; /* 0 = absent */
    const PgoValue *values;
} PgoTuple;

typedef struct PgoColumn {
    bool is_key; /* part of the replica identity */
    const char *name;
    uint32_t type_oid;
    int32_t type_modifier;
} PgoColumn;

/* begin, commit and their two-phase and streamed kin share one shape; fields that a kind does not have are 0 or NULL.
 */
typedef struct PgoTransaction {
    uint32_t xid;       /* top-level */
    uint32_t subxid;    /* STREAM_ABORT */
    uint64_t lsn;       /* BEGIN: of the commit record (final_lsn); COMMIT and others: the record itself */
    uint64_t end_lsn;   /* behind the commit record */
    int64_t time_us;    /* of the commit, microseconds since 2000-01-01 */
    bool first_segment; /* STREAM_START */
    const char *gid;    /* two-phase */
} PgoTransaction;

typedef struct PgoRelation { /* and DATA_TYPE: oid, schema and name of the type */
    uint32_t oid;
    const char *schema; /* "" = pg_catalog */
    const char *name;
    char identity; /* d, n, f, i */
    uint16_t columns_count;
    const PgoColumn *columns;
} PgoRelation;

typedef struct PgoRow { /* insert, update, delete */
    uint32_t relation;
    char old_kind; /* 'K' key, 'O' whole old row, 0 = none */
    PgoTuple old_tuple, new_tuple;
} PgoRow;

typedef struct PgoTruncate {
    bool cascade, restart_identity;
    uint32_t relations_count;
    const uint32_t *relations;
} PgoTruncate;

typedef struct PgoLogical { /* pg_logical_emit_message */
    bool transactional;
    uint64_t lsn;
    const char *prefix;
    uint32_t len;
    const char *content;
} PgoLogical;

typedef struct PgoMessage {
    PgoType type;
    uint32_t stream_xid; /* of a row, relation, type, truncate or message inside an open stream; 0 else */
    union {
        PgoTransaction transaction;
        PgoRelation relation;
        PgoRow row;
        PgoTruncate truncate;
        PgoLogical logical;
        const char *origin;
    };
} PgoMessage;

/* in_stream: between STREAM_START and STREAM_STOP. */
NODISCARD bool pgo_decode(Arena *arena, const void *bytes, size_t len, bool in_stream, PgoMessage *ret_message,
                          Error *err);
const char *pgo_type_name(PgoType type);
