/*
 * What a backend of the store is: connections that run SQL in transactions. Only for store/.
 *
 * The statements are the same for both backends, so that there is one contract by construction: $N parameters as text,
 * RETURNING, ON CONFLICT, CAST(... AS bigint), and two functions that each backend has, store_now() (the store's own
 * clock) and store_wall() (times of records).
 */
#pragma once

#include "store/store.h"

#include <pthread.h>

/* What every connection begins with; a backend's own struct has it as its first member. */
typedef struct StoreConn {
    Store *store;
    Arena *arena; /* holds the connection's struct */
} StoreConn;

typedef enum StoreRole { STORE_WRITER, STORE_READER, STORE_LISTENER } StoreRole;

typedef struct StoreRows {
    size_t count, columns;
    const char **cells; /* row by row; NULL = SQL NULL */
    int64_t affected;
} StoreRows;

typedef enum StoreCommit {
    STORE_COMMITTED,
    STORE_ROLLED_BACK,    /* err is filled; nothing of it is in the store */
    STORE_COMMIT_UNCLEAR, /* err is filled; ask settle() on another connection */
} StoreCommit;

enum { STORE_TOKEN_SIZE = 33 };

typedef struct StoreOps {
    bool (*connect)(Store *store, StoreRole role, StoreConn **ret_conn, Error *err);
    void (*disconnect)(StoreConn *conn);
    bool (*is_broken)(const StoreConn *conn);
    bool (*begin)(StoreConn *conn, bool write, Error *err);
    /* `sql` is a literal: it may be kept as long as the connection. rows (may be NULL) in the arena. */
    bool (*run)(StoreConn *conn, Arena *arena, const char *sql, size_t n_params, const char *const *params,
                StoreRows *ret_rows, Error *err);
    /* token: names this transaction; wake: tell those who wait. */
    StoreCommit (*commit)(StoreConn *conn, const char *token, bool wake, Error *err);
    /* Whether the transaction of that token was committed; if not, it never will be. */
    bool (*settle)(StoreConn *conn, const char *token, bool *ret_committed, Error *err);
    void (*rollback)(StoreConn *conn);
    /* Inside a transaction. 0 = a store that is yet to be made. STORE_FOREIGN. */
    bool (*read_version)(StoreConn *conn, int *ret_version, Error *err);
    bool (*run_step)(StoreConn *conn, int version, Error *err); /* of schema.h, and notes the version */
    bool (*after_open)(Store *store, StoreConn *conn, Error *err);
    bool listens; /* wait() needs a connection */
    bool (*wait)(Store *store, StoreConn *conn, int64_t deadline_us, bool *ret_woken, Error *err);
    bool (*tidy)(StoreConn *conn, Error *err); /* outside a transaction */
} StoreOps;

extern const StoreOps store_sqlite_ops;
extern const StoreOps store_pg_ops;

enum { STORE_SLOT_WRITER, STORE_SLOT_READER, STORE_SLOT_LISTENER = STORE_SLOT_READER + 3, STORE_SLOTS };

typedef struct StoreSlot {
    StoreConn *conn; /* NULL = not connected */
    bool is_busy;
    pthread_t user;
} StoreSlot;

struct Store {
    const StoreOps *ops;
    Arena *arena; /* holds this struct and the texts of config */
    StoreConfig config;
    const char *display;  /* where it is, for messages */
    pthread_mutex_t lock; /* of the slots */
    pthread_cond_t freed;
    StoreSlot slots[STORE_SLOTS];
    int wake_fd;             /* eventfd: something was committed here */
    int64_t clock_offset_us; /* SQLite: store_now() = clock_now_us() + this; set once, in store_open() */
    bool is_checked;         /* SQLite: the file's pages were looked at */
};

struct StoreTx {
    Store *store;
    StoreConn *conn;
    Arena *arena;
    bool is_write;
    bool has_failed; /* a statement failed: there is nothing left but to roll back */
    bool wake;       /* tell those who wait */
};

/* --- tx.c: what the typed functions are made of ----------------------------------------------------------------------
 */

/* Texts are checked (UTF-8, at most STORE_BODY_MAX). ret_rows may be NULL. */
NODISCARD bool tx_run(StoreTx *tx, const char *sql, size_t n_params, const char *const *params, StoreRows *ret_rows,
                      Error *err);
#define TX_RUN(tx, rows, err, sql, ...)                                                                                \
    tx_run((tx), (sql), COUNT_OF(((const char *const[]){__VA_ARGS__})), (const char *const[]){__VA_ARGS__}, (rows),    \
           (err))

const char *tx_int(StoreTx *tx, int64_t number); /* as a parameter */
const char *tx_text(const char *text);           /* NULL becomes "" */
/* Fails with BAD_DATA when it is too long for a name, or empty while it must not be. */
NODISCARD bool tx_check_name(const char *what, const char *text, Error *err);

static inline const char *row_text(const StoreRows *rows, size_t row, size_t column) {
    const char *cell = rows->cells[row * rows->columns + column];
    return cell != NULL ? cell : "";
}
int64_t row_int(const StoreRows *rows, size_t row, size_t column);

size_t store_limit(size_t wanted); /* 1 to STORE_PAGE_MAX; 0 = 50 */
