/* From SQLSTATE to reason: the one table that says what a server's error means for us. */
#include "pg/sqlstate.h"

#include <string.h>

typedef struct SqlstateRow {
    const char *code; /* five characters = exactly this one, two = the whole class */
    ErrorReason reason;
    bool retryable;
} SqlstateRow;

/* The first row that fits wins, therefore exact codes stand before their class. Codes: PostgreSQL documentation,
 * appendix A. What is not here is SQL_FAILED: the statement is wrong for this server and stays wrong. */
static const SqlstateRow rows[] = {
    {"08", REASON_CONNECTION_LOST, true},
    {"0A", REASON_UNSUPPORTED, false},
    {"22012", REASON_SQL_FAILED, false}, /* division by zero: an expression, not a value */
    {"22023", REASON_SQL_FAILED, false}, /* invalid parameter value: a setting or an argument of ours, not a row */
    {"22", REASON_BAD_DATA, false},
    {"23", REASON_BAD_DATA, false},
    {"25006", REASON_NOT_PERMITTED, false},  /* read-only transaction: a standby, or a demoted primary */
    {"25P02", REASON_SQL_FAILED, false},     /* the transaction had failed before */
    {"25P03", REASON_CONNECTION_LOST, true}, /* idle_in_transaction_session_timeout: we set 0, a pooler may not */
    {"25P04", REASON_CONNECTION_LOST, true}, /* transaction_timeout, 17+ */
    {"28", REASON_LOGIN_REFUSED, false},
    {"3D000", REASON_NO_DATABASE, false},
    {"40", REASON_CONFLICT, true}, /* serialization failure, deadlock, conflict with recovery on a standby */
    {"42501", REASON_NOT_PERMITTED, false},
    {"53100", REASON_DISK_FULL, true},
    {"53400", REASON_SERVER_BUSY, false}, /* temp_file_limit and the like: a person has to raise it */
    {"53", REASON_SERVER_BUSY, true},     /* 53200 out of memory, 53300 too many connections */
    {"55006", REASON_LOCK_BUSY, true},    /* object in use */
    {"55P03", REASON_LOCK_BUSY, true},
    /* Cancelled, but not by us (that is noticed before a SQLSTATE is read): an administrator or a time-out. */
    {"57014", REASON_CONFLICT, true},
    {"57P01", REASON_CONNECTION_LOST, true}, /* admin shutdown, pg_terminate_backend() */
    {"57P02", REASON_CONNECTION_LOST, true}, /* crash of another backend */
    {"57P03", REASON_SERVER_BUSY, true},     /* starting up, shutting down, in recovery */
    {"57P04", REASON_NO_DATABASE, false},    /* the database was dropped under us */
    {"57P05", REASON_CONNECTION_LOST, true}, /* idle_session_timeout */
    {"58030", REASON_SQL_FAILED, true},      /* input/output error: often a passing one of network storage */
    {"72000", REASON_SNAPSHOT_LOST, true},   /* snapshot too old, before 17 */
    {"XX001", REASON_BAD_DATA, false},       /* corrupted page */
    {"XX002", REASON_BAD_DATA, false},       /* corrupted index */
};

SqlstateInfo sqlstate_info(const char *sqlstate) {
    const SqlstateInfo unknown = {REASON_SQL_FAILED, false};

    if (sqlstate == NULL || strlen(sqlstate) != 5)
        return unknown;
    for (size_t i = 0; i < COUNT_OF(rows); i++)
        if (strncmp(sqlstate, rows[i].code, strlen(rows[i].code)) == 0)
            return (SqlstateInfo){rows[i].reason, rows[i].retryable};
    return unknown;
}

bool sqlstate_is_encoding(const char *sqlstate) {
    return strcmp(sqlstate, "22021") == 0 || strcmp(sqlstate, "22P05") == 0;
}

bool sqlstate_is_unqualified(const char *sqlstate, const char *message) {
    static const char *const codes[] = {"42P01", "42883", "42704"}; /* a table, a function or operator, a type */
    const char *end = strstr(message, " does not exist");

    for (size_t i = 0; end != NULL && i < COUNT_OF(codes); i++)
        if (strcmp(sqlstate, codes[i]) == 0)
            return memchr(message, '.', (size_t)(end - message)) == NULL;
    return false;
}
