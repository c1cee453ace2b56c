/*
 * The store in the schema pgcrane_store of a PostgreSQL database that several daemons share.
 *
 * How transactions follow one another, and how a COMMIT whose reply was lost is settled, is told at the head of
 * store.c. The lock has a fixed number: stores are databases, and advisory locks are per database.
 *
 * Nothing may hang: statements end on the server after 15 s, waits for locks after the store's patience, and on our
 * side everything after 20 s, also when the network is silent. A session that is idle in a transaction for 3 s (bodies
 * wait for nothing: its daemon was stopped in the middle) is ended by the server before the others lose their patience.
 */
#include "common/clock.h"
#include "common/failpoint.h"
#include "pg/query.h"
#include "store/backend.h"
#include "store/schema.h"

#include <inttypes.h>
#include <string.h>

#define ANSWER_MAX_US (20 * USEC_PER_SEC)
#define CONNECT_MIN_US (2 * USEC_PER_SEC)
#define LOCK_NUMBER "8097876301480550000"

/* Behind the fixed settings of pg/settings.c. Every statement has its index, and lists are read in its order: without
 * statistics yet, the planner would rather sort everything there is. */
#define SESSION_SQL                                                                                                    \
    "SELECT pg_catalog.set_config('search_path', 'pgcrane_store, pg_temp', false),"                                    \
    " pg_catalog.set_config('statement_timeout', '15s', false),"                                                       \
    " pg_catalog.set_config('lock_timeout', '%lldms', false),"                                                         \
    " pg_catalog.set_config('idle_in_transaction_session_timeout', '3s', false),"                                      \
    " pg_catalog.set_config('enable_seqscan', 'off', false),"                                                          \
    " pg_catalog.set_config('enable_bitmapscan', 'off', false),"                                                       \
    " pg_catalog.set_config('enable_sort', 'off', false),"                                                             \
    " pg_catalog.set_config('synchronous_commit', 'on', false),"                                                       \
    " pg_catalog.set_config('tcp_keepalives_idle', '10', false),"                                                      \
    " pg_catalog.set_config('tcp_keepalives_interval', '5', false),"                                                   \
    " pg_catalog.set_config('tcp_keepalives_count', '3', false)"

typedef struct PgConn {
    StoreConn base;
    DbConn *db;
    bool given_up; /* what it would say next is not known */
} PgConn;

static PgConn *pg_of(StoreConn *conn) {
    return (PgConn *)(void *)conn;
}

/* --- Errors
 * ------------------------------------------------------------------------------------------------------------ */

static const struct {
    ErrorReason from, to;
} translations[] = {
    {REASON_UNREACHABLE, REASON_STORE_UNAVAILABLE}, {REASON_CONNECTION_LOST, REASON_STORE_UNAVAILABLE},
    {REASON_TIMED_OUT, REASON_STORE_UNAVAILABLE},   {REASON_SERVER_BUSY, REASON_STORE_UNAVAILABLE},
    {REASON_LOCK_BUSY, REASON_STORE_LOCKED},        {REASON_DISK_FULL, REASON_STORE_FULL},
};

static void become(ErrorReason reason, Error *err) {
    char message[ERROR_MESSAGE_MAX], sqlstate[sizeof(err->sqlstate)];

    memcpy(message, err->message, sizeof(message));
    memcpy(sqlstate, err->sqlstate, sizeof(sqlstate));
    error_set(err, reason, "%s", message);
    memcpy(err->sqlstate, sqlstate, sizeof(sqlstate));
}

/* What it means for the store: false. */
static bool translate(Error *err) {
    if (strcmp(err->sqlstate, "25006") == 0) {
        become(REASON_STORE_READ_ONLY, err);
        return error_wrap(err, "the store's database is read-only");
    }
    for (size_t i = 0; i < COUNT_OF(translations); i++)
        if (translations[i].from == err->reason) {
            become(translations[i].to, err);
            break;
        }
    /* Beside ours, somebody's own work in our tables: the next try does not meet it. */
    if (strcmp(err->sqlstate, "23505") == 0) {
        become(REASON_CONFLICT, err);
        err->retryable = true;
    }
    return strstr(err->message, "store") != NULL ? false : error_wrap(err, "the store");
}

static bool exec(PgConn *conn, const char *sql, Error *err) {
    db_set_deadline(conn->db, clock_now_us() + ANSWER_MAX_US);
    return db_exec(conn->db, sql, err) || translate(err);
}

/* --- Connections
 * ------------------------------------------------------------------------------------------------------- */

static void pg_disconnect(StoreConn *conn) {
    db_close(pg_of(conn)->db);
    arena_free(conn->arena);
}

static bool check_server(PgConn *conn, Error *err) {
    CLEANUP(db_result_freep) DbResult *result = NULL;
    const char *sql = "SELECT pg_catalog.pg_is_in_recovery(), pg_catalog.current_setting('server_encoding')";

    if (db_major(conn->db) < 10)
        return error_set(err, REASON_UNSUPPORTED, "the store needs PostgreSQL 10 or newer, this is %d",
                         db_version(conn->db) / 10000);
    if (!db_query(conn->db, sql, 0, NULL, &result, err))
        return translate(err);
    if (db_bool(result, 0, 0)) {
        error_set(err, REASON_STORE_READ_ONLY, "the store's server is a standby");
        return error_remedy(err, "name all of its hosts, with target_session_attrs=read-write");
    }
    if (strcmp(db_text(result, 0, 1), "UTF8") == 0)
        return true;
    error_set(err, REASON_STORE_FOREIGN, "the store's database has the encoding %s, which cannot keep every text",
              db_text(result, 0, 1));
    return error_remedy(err, "make another one: createdb -E UTF8 -T template0 NAME");
}

static bool pg_connect(Store *store, StoreRole role, StoreConn **ret_conn, Error *err) {
    static const char *const purposes[] = {
        [STORE_WRITER] = "store-writer", [STORE_READER] = "store-reader", [STORE_LISTENER] = "store-listener"};
    const DbTarget target = {.side = DB_STORE,
                             .conninfo = store->config.where,
                             .connect_timeout_us = MAX(store->config.patience_us, CONNECT_MIN_US)};
    DbConn *db = NULL;

    if (!db_open(&target, purposes[role], store->config.stop, &db, err))
        return translate(err);
    Arena *arena = arena_new();
    PgConn *conn = arena_new_of(arena, PgConn);
    conn->base = (StoreConn){store, arena};
    conn->db = db;
    const char *session = arena_printf(arena, SESSION_SQL, (long long)(store->config.patience_us / USEC_PER_MSEC));
    if (!exec(conn, session, err) || !check_server(conn, err) ||
        (role == STORE_LISTENER && !exec(conn, "LISTEN pgcrane_store", err))) {
        pg_disconnect(&conn->base);
        return false;
    }
    *ret_conn = &conn->base;
    return true;
}

static bool pg_is_broken(const StoreConn *base) {
    const PgConn *conn = (const PgConn *)(const void *)base;

    return conn->given_up || db_is_broken(conn->db);
}

/* --- Transactions
 * ------------------------------------------------------------------------------------------------------- */

static bool pg_begin(StoreConn *base, bool write, Error *err) {
    const char *sql = write ? "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE;"
                              " SELECT pg_catalog.pg_advisory_xact_lock(" LOCK_NUMBER ")"
                            : "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

    if (exec(pg_of(base), sql, err))
        return true;
    db_rollback(pg_of(base)->db);
    return false;
}

static void pg_rollback(StoreConn *base) {
    db_rollback(pg_of(base)->db);
}

static void copy_rows(const DbResult *result, size_t columns, Arena *arena, StoreRows *ret_rows) {
    size_t count = (size_t)db_rows(result);
    const char **cells = arena_array(arena, const char *, MAX(count * columns, 1));

    for (size_t row = 0; row < count; row++)
        for (size_t column = 0; column < columns; column++)
            if (!db_is_null(result, (int)row, (int)column))
                cells[row * columns + column] = arena_strndup(arena, db_text(result, (int)row, (int)column),
                                                              db_length(result, (int)row, (int)column));
    *ret_rows = (StoreRows){.count = count, .columns = columns, .cells = cells, .affected = db_affected(result)};
}

static bool pg_run(StoreConn *base, Arena *arena, const char *sql, size_t n_params, const char *const *params,
                   StoreRows *ret_rows, Error *err) {
    CLEANUP(db_result_freep) DbResult *result = NULL;
    DbConn *db = pg_of(base)->db;

    db_set_deadline(db, clock_now_us() + ANSWER_MAX_US);
    if (!db_query(db, sql, (int)n_params, params, &result, err))
        return translate(err);
    copy_rows(result, (size_t)db_columns(result), arena, ret_rows);
    return true;
}

/* From the moment COMMIT is sent, only its answer says whether it was done: a broken connection does not, and neither
 * does an interrupted wait for a standby. */
static StoreCommit send_commit(PgConn *conn, const char *sql, Error *err) {
    if (!failpoint("store.commit_unsent", err))
        conn->given_up = true;
    else if (!exec(conn, sql, err))
        conn->given_up = err->sqlstate[0] == '\0' || db_is_broken(conn->db) || err->reason == REASON_CANCELLED;
    else if (!failpoint("store.commit_unanswered", err))
        conn->given_up = true;
    else
        return STORE_COMMITTED;
    return conn->given_up ? STORE_COMMIT_UNCLEAR : STORE_ROLLED_BACK;
}

static StoreCommit pg_commit(StoreConn *base, const char *token, bool wake, Error *err) {
    char sql[256];

    (void)snprintf(sql, sizeof(sql), "INSERT INTO commit_token VALUES ('%s', store_wall(), false);%s COMMIT", token,
                   wake ? " NOTIFY pgcrane_store;" : "");
    return send_commit(pg_of(base), sql, err);
}

/* The same token once more, marked as void; an insert that is under way holds its place in the index, and ours waits
 * for it. The mark is what counts: the answer to an earlier attempt to settle may have been lost, too. */
static bool pg_settle(StoreConn *base, const char *token, bool *ret_committed, Error *err) {
    CLEANUP(db_result_freep) DbResult *result = NULL;
    const char *params[] = {token};
    DbConn *db = pg_of(base)->db;

    db_set_deadline(db, clock_now_us() + ANSWER_MAX_US);
    if (!db_query(db, "INSERT INTO commit_token VALUES ($1, store_wall(), true) ON CONFLICT DO NOTHING", 1, params,
                  NULL, err) ||
        !db_query(db, "SELECT is_void FROM commit_token WHERE token = $1", 1, params, &result, err))
        return translate(err);
    if (db_rows(result) != 1)
        return error_set(err, REASON_INTERNAL, "the token of a transaction has vanished");
    *ret_committed = !db_bool(result, 0, 0);
    return true;
}

/* --- Schema
 * -------------------------------------------------------------------------------------------------------------- */

static bool read_meta(PgConn *conn, int *ret_version, Error *err) {
    CLEANUP(db_result_freep) DbResult *result = NULL;

    if (!db_query(conn->db, "SELECT application, version FROM pgcrane_store.store_meta", 0, NULL, &result, err))
        return translate(err);
    if (db_rows(result) != 1 || strcmp(db_text(result, 0, 0), "pgcrane store") != 0)
        return error_set(err, REASON_STORE_FOREIGN, "the table pgcrane_store.store_meta was not made by pgcrane");
    *ret_version = (int)db_int64(result, 0, 1);
    return true;
}

static bool make_schema(PgConn *conn, Error *err) {
    if (exec(conn, "CREATE SCHEMA pgcrane_store", err))
        return true;
    if (err->reason == REASON_NOT_PERMITTED)
        error_remedy(err, "as the database's owner: CREATE SCHEMA pgcrane_store AUTHORIZATION %s", db_user(conn->db));
    return false;
}

static bool pg_read_version(StoreConn *base, int *ret_version, Error *err) {
    CLEANUP(db_result_freep) DbResult *result = NULL;
    PgConn *conn = pg_of(base);

    if (!db_query(conn->db,
                  "SELECT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = 'pgcrane_store'),"
                  " pg_catalog.to_regclass('pgcrane_store.store_meta') IS NOT NULL,"
                  " (SELECT count(*) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = relnamespace"
                  " WHERE nspname = 'pgcrane_store')",
                  0, NULL, &result, err))
        return translate(err);
    if (db_bool(result, 0, 1))
        return read_meta(conn, ret_version, err);
    if (db_int64(result, 0, 2) > 0)
        return error_set(err, REASON_STORE_FOREIGN,
                         "the schema pgcrane_store of the database %s has tables of another "
                         "program",
                         db_name(conn->db));
    *ret_version = 0;
    return db_bool(result, 0, 0) || make_schema(conn, err);
}

static bool pg_run_step(StoreConn *base, int version, Error *err) {
    char note[64];

    (void)snprintf(note, sizeof(note), "UPDATE store_meta SET version = %d", version);
    return exec(pg_of(base), schema_steps[version - 1].postgresql, err) && exec(pg_of(base), note, err);
}

/* --- Waiting, tidying
 * ----------------------------------------------------------------------------------------------------- */

static bool pg_wait(Store *store, StoreConn *base, int64_t deadline_us, bool *ret_woken, Error *err) {
    (void)store;
    return db_wait_notification(pg_of(base)->db, deadline_us, ret_woken, err) || translate(err);
}

/* Longer than anybody asks for one. */
static bool pg_tidy(StoreConn *base, Error *err) {
    return exec(pg_of(base), "DELETE FROM commit_token WHERE time_us < store_wall() - 3600000000", err);
}

const StoreOps store_pg_ops = {
    .connect = pg_connect,
    .disconnect = pg_disconnect,
    .is_broken = pg_is_broken,
    .begin = pg_begin,
    .run = pg_run,
    .commit = pg_commit,
    .settle = pg_settle,
    .rollback = pg_rollback,
    .read_version = pg_read_version,
    .run_step = pg_run_step,
    .listens = true,
    .wait = pg_wait,
    .tidy = pg_tidy,
};
