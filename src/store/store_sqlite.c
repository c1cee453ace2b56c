/*
 * The store in an SQLite file: WAL, synchronous = FULL, one connection that writes and three that read.
 *
 * NOTES
 * - The file is looked at before anything is set: `journal_mode = WAL` alone would change a file that is not ours.
 * - It is made by ourselves with mode 0600; SQLite gives -wal and -shm the mode of the file.
 * - Several processes may have it open (WAL needs one machine and a local file system). They wait for each other's
 *   transactions by SQLite's busy handler for as long as the patience says.
 * - store_now() must neither jump nor start anew. It is the monotonic clock, which all processes of one start of the
 *   machine share, plus an offset in the file that is drawn once for each start: so that it is wall time if that is
 * later than the last time seen, else it goes on from there. No process holds a lease over a restart of the machine, so
 * that a leap at that moment takes nothing from anybody.
 * - Prepared statements are kept by the address of their text: statements are literals.
 */
#include "common/clock.h"
#include "common/fd.h"
#include "common/vec.h"
#include "store/backend.h"
#include "store/schema.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { STATEMENTS_MAX = 96, BOOT_ID_MAX = 64 };
#define LOCK_PAUSE_US (5 * USEC_PER_MSEC)

typedef struct Statement {
    const char *sql;
    sqlite3_stmt *stmt;
} Statement;

typedef struct SqliteConn {
    StoreConn base;
    sqlite3 *db;
    Statement statements[STATEMENTS_MAX];
    size_t n_statements;
    int64_t give_up_us; /* of the wait for a lock */
} SqliteConn;

static SqliteConn *sqlite_of(StoreConn *conn) {
    return (SqliteConn *)(void *)conn;
}

/* --- Errors ----------------------------------------------------------------------------------------------------------
 */

static const struct {
    int code;
    ErrorReason reason;
    const char *what;
} failures[] = {
    {SQLITE_BUSY, REASON_STORE_LOCKED, "another process holds its lock"},
    {SQLITE_LOCKED, REASON_STORE_LOCKED, "another connection holds its lock"},
    {SQLITE_FULL, REASON_STORE_FULL, "there is no room"},
    {SQLITE_READONLY, REASON_STORE_READ_ONLY, "it cannot be written"},
    {SQLITE_PERM, REASON_STORE_READ_ONLY, "access is refused"},
    {SQLITE_AUTH, REASON_STORE_READ_ONLY, "access is refused"},
    {SQLITE_CANTOPEN, REASON_STORE_UNAVAILABLE, "it cannot be opened"},
    {SQLITE_IOERR, REASON_STORE_UNAVAILABLE, "reading or writing failed"},
    {SQLITE_CORRUPT, REASON_STORE_DAMAGED, "its content is damaged"},
    {SQLITE_NOTADB, REASON_STORE_FOREIGN, "it is no SQLite file"},
};

/* What the system last said about the file or its log; sqlite3_system_errno() has often forgotten it by now. */
static int last_errno(SqliteConn *conn) {
    sqlite3_file *log = NULL;
    int system = 0;

    (void)sqlite3_file_control(conn->db, "main", SQLITE_FCNTL_LAST_ERRNO, &system);
    (void)sqlite3_file_control(conn->db, "main", SQLITE_FCNTL_JOURNAL_POINTER, &log);
    if (system == 0 && log != NULL && log->pMethods != NULL)
        (void)log->pMethods->xFileControl(log, SQLITE_FCNTL_LAST_ERRNO, &system);
    return system;
}

/* The system says "no room" in more ways than SQLite knows. */
static bool is_full(SqliteConn *conn, int code) {
    int system = code == SQLITE_IOERR ? last_errno(conn) : 0;

    return code == SQLITE_FULL || system == ENOSPC || system == EDQUOT || system == EFBIG;
}

static bool fail(SqliteConn *conn, const char *doing, Error *err) {
    int code = sqlite3_errcode(conn->db) & 0xff;
    const char *where = conn->base.store->config.where;
    const char *said = sqlite3_errmsg(conn->db);

    if (is_full(conn, code))
        return error_set(err, REASON_STORE_FULL, "the store %s: %s: there is no room (%s)", where, doing, said);
    for (size_t i = 0; i < COUNT_OF(failures); i++)
        if (failures[i].code == code)
            return error_set(err, failures[i].reason, "the store %s: %s: %s (%s)", where, doing, failures[i].what,
                             said);
    return error_set(err, REASON_INTERNAL, "the store %s: %s: %s (SQLite error %d)", where, doing, said, code);
}

/* --- Statements ------------------------------------------------------------------------------------------------------
 */

static bool script(SqliteConn *conn, const char *sql, Error *err) {
    return sqlite3_exec(conn->db, sql, NULL, NULL, NULL) == SQLITE_OK || fail(conn, "a statement failed", err);
}

static bool prepare(SqliteConn *conn, const char *sql, sqlite3_stmt **ret_stmt, Error *err) {
    for (size_t i = 0; i < conn->n_statements; i++)
        if (conn->statements[i].sql == sql) {
            *ret_stmt = conn->statements[i].stmt;
            return true;
        }
    if (conn->n_statements == STATEMENTS_MAX)
        return error_set(err, REASON_INTERNAL, "more than %d statements", STATEMENTS_MAX);
    sqlite3_stmt *stmt = NULL;
    if (sqlite3_prepare_v3(conn->db, sql, -1, SQLITE_PREPARE_PERSISTENT, &stmt, NULL) != SQLITE_OK)
        return fail(conn, "a statement was refused", err);
    conn->statements[conn->n_statements++] = (Statement){sql, stmt};
    *ret_stmt = stmt;
    return true;
}

/* $N gets its place by where it first stands, so each is looked up by its name. */
static bool bind(SqliteConn *conn, sqlite3_stmt *stmt, size_t n_params, const char *const *params, Error *err) {
    for (size_t i = 0; i < n_params; i++) {
        char name[24];
        (void)snprintf(name, sizeof(name), "$%zu", i + 1);
        int index = sqlite3_bind_parameter_index(stmt, name);
        if (index > 0 && sqlite3_bind_text(stmt, index, params[i], -1, SQLITE_STATIC) != SQLITE_OK)
            return fail(conn, "a value was refused", err);
    }
    return true;
}

typedef VEC(const char *) Cells;

static void take_row(sqlite3_stmt *stmt, Arena *arena, Cells *cells) {
    for (int i = 0; i < sqlite3_column_count(stmt); i++) {
        const char *text = (const char *)sqlite3_column_text(stmt, i);
        const char *copy = text != NULL ? arena_strndup(arena, text, (size_t)sqlite3_column_bytes(stmt, i)) : NULL;
        vec_push(arena, cells, copy);
    }
}

static bool step_all(SqliteConn *conn, sqlite3_stmt *stmt, Arena *arena, StoreRows *ret_rows, Error *err) {
    Cells cells = {0};
    size_t count = 0;
    int code = SQLITE_OK;

    while ((code = sqlite3_step(stmt)) == SQLITE_ROW) {
        take_row(stmt, arena, &cells);
        count++;
    }
    if (code != SQLITE_DONE)
        return fail(conn, "a statement failed", err);
    *ret_rows = (StoreRows){.count = count,
                            .columns = (size_t)sqlite3_column_count(stmt),
                            .cells = cells.items,
                            .affected = sqlite3_stmt_readonly(stmt) ? 0 : sqlite3_changes(conn->db)};
    return true;
}

static bool sqlite_run(StoreConn *base, Arena *arena, const char *sql, size_t n_params, const char *const *params,
                       StoreRows *ret_rows, Error *err) {
    SqliteConn *conn = sqlite_of(base);
    sqlite3_stmt *stmt = NULL;

    if (!prepare(conn, sql, &stmt, err))
        return false;
    bool good = bind(conn, stmt, n_params, params, err) && step_all(conn, stmt, arena, ret_rows, err);
    sqlite3_reset(stmt);
    sqlite3_clear_bindings(stmt);
    return good;
}

static bool read_int(SqliteConn *conn, const char *sql, int64_t *ret_number, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    StoreRows rows = {0};

    if (!sqlite_run(&conn->base, arena, sql, 0, NULL, &rows, err))
        return false;
    *ret_number = rows.count > 0 ? row_int(&rows, 0, 0) : 0;
    return true;
}

/* --- The functions store_now() and store_wall()
 * ------------------------------------------------------------------------ */

static int64_t store_clock(const Store *store) {
    return clock_now_us() + store->clock_offset_us;
}

static void sql_store_now(sqlite3_context *context, int n_args, sqlite3_value **args) {
    (void)n_args;
    (void)args;
    sqlite3_result_int64(context, store_clock(sqlite3_user_data(context)));
}

static void sql_store_wall(sqlite3_context *context, int n_args, sqlite3_value **args) {
    (void)n_args;
    (void)args;
    sqlite3_result_int64(context, clock_wall_us());
}

static bool add_functions(SqliteConn *conn, Error *err) {
    void *store = conn->base.store;

    return (sqlite3_create_function(conn->db, "store_now", 0, SQLITE_UTF8, store, sql_store_now, NULL, NULL) ==
                SQLITE_OK &&
            sqlite3_create_function(conn->db, "store_wall", 0, SQLITE_UTF8, store, sql_store_wall, NULL, NULL) ==
                SQLITE_OK) ||
           fail(conn, "its functions", err);
}

/* --- Opening
 * ----------------------------------------------------------------------------------------------------------- */

static bool fail_file(const char *path, Error *err) {
    if (errno == EACCES || errno == EROFS || errno == EPERM) {
        error_errno(err, REASON_STORE_READ_ONLY, "the store %s cannot be opened for writing", path);
        return error_remedy(err, "give the user of pgcrane the right to write the file and its folder");
    }
    if (errno == ENOSPC || errno == EDQUOT)
        return error_errno(err, REASON_STORE_FULL, "the store %s cannot be made", path);
    error_errno(err, REASON_STORE_UNAVAILABLE, "the store %s cannot be opened", path);
    err->retryable = false;
    return error_remedy(err, "make its folder, or name another one");
}

/* A file that is there is not opened: closing it would drop the locks that SQLite, elsewhere in this process, has on it
 * (fcntl(2)). */
static bool check_file(const char *path, Error *err) {
    struct stat file;

    if (stat(path, &file) != 0)
        return fail_file(path, err);
    if (!S_ISREG(file.st_mode))
        return error_set(err, REASON_STORE_FOREIGN, "the store %s is no regular file", path);
    if (access(path, R_OK | W_OK) != 0 || ((file.st_mode & 077) != 0 && chmod(path, 0600) != 0))
        return fail_file(path, err);
    return true;
}

/* Made by us, so that it never has another mode. */
static bool make_file(const char *path, Error *err) {
    CLEANUP(fd_close) int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOCTTY, 0600);

    if (fd < 0)
        return errno == EEXIST ? check_file(path, err) : fail_file(path, err);
    return true;
}

static bool read_owner(SqliteConn *conn, int64_t *ret_application, int64_t *ret_version, int64_t *ret_objects,
                       Error *err) {
    return read_int(conn, "PRAGMA application_id", ret_application, err) &&
           read_int(conn, "PRAGMA user_version", ret_version, err) &&
           read_int(conn, "SELECT count(*) FROM sqlite_master", ret_objects, err);
}

/* Ours, or empty. Reads only, and of one moment: another process may be making the store just now. */
static bool check_owner(SqliteConn *conn, int64_t *ret_version, Error *err) {
    int64_t application = 0, objects = 0;
    const char *where = conn->base.store->config.where;
    bool own = sqlite3_get_autocommit(conn->db) != 0; /* else the caller's is one already */
    Error lost;

    if (own && !script(conn, "BEGIN", err))
        return false;
    if (!read_owner(conn, &application, ret_version, &objects, err)) {
        (void)(own && !script(conn, "ROLLBACK", &lost));
        return false;
    }
    if (own && !script(conn, "COMMIT", err))
        return false;
    if (application == STORE_APPLICATION_ID && *ret_version > 0)
        return true;
    return (application == 0 && *ret_version == 0 && objects == 0) ||
           error_set(err, REASON_STORE_FOREIGN, "the file %s is an SQLite database of another program", where);
}

static bool check_pages(SqliteConn *conn, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    Store *store = conn->base.store;
    StoreRows rows = {0};

    if (store->is_checked)
        return true;
    if (!sqlite_run(&conn->base, arena, "PRAGMA quick_check(1)", 0, NULL, &rows, err))
        return false;
    if (rows.count != 1 || strcmp(row_text(&rows, 0, 0), "ok") != 0)
        return error_set(err, REASON_STORE_DAMAGED, "the store %s is damaged: %s", store->config.where,
                         rows.count > 0 ? row_text(&rows, 0, 0) : "the check said nothing");
    store->is_checked = true;
    return true;
}

/* SQLite's own would not hear the stop flag. */
static int wait_for_lock(void *context, int n_calls) {
    SqliteConn *conn = context;
    const Store *store = conn->base.store;
    int64_t now = clock_now_us();

    if (n_calls == 0)
        conn->give_up_us = now + store->config.patience_us;
    return now < conn->give_up_us && stop_wait_fd(store->config.stop, -1, 0, now + LOCK_PAUSE_US) != WAIT_STOPPED;
}

/* Some file systems cannot do it, which SQLite only mentions. */
static bool set_wal(SqliteConn *conn, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    const char *where = conn->base.store->config.where;
    StoreRows rows = {0};

    if (!sqlite_run(&conn->base, arena, "PRAGMA journal_mode = WAL", 0, NULL, &rows, err))
        return false;
    return (rows.count == 1 && strcmp(row_text(&rows, 0, 0), "wal") == 0) ||
           error_set(err, REASON_STORE_UNAVAILABLE, "the store %s cannot be set to write-ahead logging", where);
}

static bool set_up(SqliteConn *conn, StoreRole role, Error *err) {
    const Store *store = conn->base.store;
    int64_t version = 0;

    (void)sqlite3_busy_handler(conn->db, wait_for_lock, conn);
    (void)sqlite3_db_config(conn->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    if (!script(conn, "PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON", err) || !add_functions(conn, err) ||
        !check_owner(conn, &version, err) || !check_pages(conn, err))
        return false;
    if (sqlite3_db_readonly(conn->db, "main") != 0)
        return error_set(err, REASON_STORE_READ_ONLY, "the store %s cannot be written", store->config.where);
    return set_wal(conn, err) && script(conn, "PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON", err) &&
           (role == STORE_WRITER || script(conn, "PRAGMA query_only = ON", err));
}

static void sqlite_disconnect(StoreConn *base) {
    SqliteConn *conn = sqlite_of(base);

    for (size_t i = 0; i < conn->n_statements; i++)
        sqlite3_finalize(conn->statements[i].stmt);
    (void)sqlite3_close_v2(conn->db); /* NULL is fine */
    arena_free(base->arena);
}

static bool sqlite_connect(Store *store, StoreRole role, StoreConn **ret_conn, Error *err) {
    const int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;

    if (!make_file(store->config.where, err))
        return false;
    Arena *arena = arena_new();
    SqliteConn *conn = arena_new_of(arena, SqliteConn);
    conn->base = (StoreConn){store, arena};
    bool good = sqlite3_open_v2(store->config.where, &conn->db, flags, NULL) == SQLITE_OK || fail(conn, "open", err);
    if (!good || !set_up(conn, role, err)) {
        sqlite_disconnect(&conn->base);
        return false;
    }
    *ret_conn = &conn->base;
    return true;
}

static bool sqlite_is_broken(const StoreConn *conn) {
    (void)conn;
    return false; /* there is nobody at the other end */
}

/* --- Transactions
 * -------------------------------------------------------------------------------------------------------- */

static bool sqlite_begin(StoreConn *conn, bool write, Error *err) {
    return script(sqlite_of(conn), write ? "BEGIN IMMEDIATE" : "BEGIN", err);
}

static void sqlite_rollback(StoreConn *base) {
    SqliteConn *conn = sqlite_of(base);

    if (!sqlite3_get_autocommit(conn->db))
        (void)sqlite3_exec(conn->db, "ROLLBACK", NULL, NULL, NULL);
}

static StoreCommit sqlite_commit(StoreConn *base, const char *token, bool wake, Error *err) {
    SqliteConn *conn = sqlite_of(base);

    (void)token; /* no answer is ever lost */
    (void)wake;  /* store.c rings */
    if (script(conn, "UPDATE store_clock SET last_us = store_now(); COMMIT", err))
        return STORE_COMMITTED;
    sqlite_rollback(base);
    return STORE_ROLLED_BACK;
}

static bool sqlite_read_version(StoreConn *base, int *ret_version, Error *err) {
    int64_t version = 0;

    if (!check_owner(sqlite_of(base), &version, err))
        return false;
    *ret_version = (int)version;
    return true;
}

static bool sqlite_run_step(StoreConn *base, int version, Error *err) {
    char note[64];

    (void)snprintf(note, sizeof(note), "PRAGMA user_version = %d", version);
    return script(sqlite_of(base), schema_steps[version - 1].sqlite, err) && script(sqlite_of(base), note, err);
}

/* --- The clock
 * --------------------------------------------------------------------------------------------------------- */

static bool read_boot_id(char *boot, Error *err) {
    CLEANUP(buf_fini) Buf text;

    buf_init(&text, 4096);
    if (!fd_read_file("/proc/sys/kernel/random/boot_id", &text, err))
        return false;
    (void)snprintf(boot, BOOT_ID_MAX, "%.*s", (int)MIN(strcspn(text.data, "\n"), (size_t)BOOT_ID_MAX - 1), text.data);
    return true;
}

/* Inside a transaction. */
static bool set_clock(Store *store, StoreConn *conn, Arena *arena, Error *err) {
    StoreRows rows = {0};
    char boot[BOOT_ID_MAX];

    if (!read_boot_id(boot, err) ||
        !sqlite_run(conn, arena, "SELECT boot, offset_us, last_us FROM store_clock", 0, NULL, &rows, err))
        return false;
    if (rows.count != 1)
        return error_set(err, REASON_STORE_DAMAGED, "the store %s has lost its clock", store->config.where);
    store->clock_offset_us = row_int(&rows, 0, 1);
    if (strcmp(row_text(&rows, 0, 0), boot) == 0)
        return true;
    store->clock_offset_us = MAX(clock_wall_us(), row_int(&rows, 0, 2) + 1) - clock_now_us();
    const char *params[] = {boot, arena_printf(arena, "%" PRId64, store->clock_offset_us)};
    return sqlite_run(conn, arena, "UPDATE store_clock SET boot = $1, offset_us = $2", 2, params, &rows, err);
}

static bool sqlite_after_open(Store *store, StoreConn *conn, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();

    if (!sqlite_begin(conn, true, err))
        return false;
    bool good = set_clock(store, conn, arena, err) && sqlite_commit(conn, "", false, err) == STORE_COMMITTED;
    sqlite_rollback(conn);
    return good;
}

/* --- Waiting, tidying
 * ---------------------------------------------------------------------------------------------------- */

static bool sqlite_wait(Store *store, StoreConn *conn, int64_t deadline_us, bool *ret_woken, Error *err) {
    uint64_t count = 0;

    (void)conn;
    WaitResult waited = stop_wait_fd(store->config.stop, store->wake_fd, POLLIN, deadline_us);
    if (waited == WAIT_STOPPED)
        return error_set(err, REASON_CANCELLED, "stopped while waiting for the store");
    *ret_woken = waited == WAIT_READY && read(store->wake_fd, &count, sizeof(count)) == (ssize_t)sizeof(count);
    return true;
}

/* Readers that never pause keep the log from being used again from its start. */
static bool sqlite_tidy(StoreConn *conn, Error *err) {
    return script(sqlite_of(conn), "PRAGMA wal_checkpoint(TRUNCATE)", err);
}

const StoreOps store_sqlite_ops = {
    .connect = sqlite_connect,
    .disconnect = sqlite_disconnect,
    .is_broken = sqlite_is_broken,
    .begin = sqlite_begin,
    .run = sqlite_run,
    .commit = sqlite_commit,
    .rollback = sqlite_rollback,
    .read_version = sqlite_read_version,
    .run_step = sqlite_run_step,
    .after_open = sqlite_after_open,
    .wait = sqlite_wait,
    .tidy = sqlite_tidy,
};
