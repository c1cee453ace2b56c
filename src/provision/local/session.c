/* Connections to the servers of an instance. */
#include "common/clock.h"
#include "pg/conn.h"
#include "pg/password.h"
#include "pg/query.h"
#include "provision/local/internal.h"

#include <string.h>

static const int64_t patience_us = 60 * USEC_PER_SEC;

/* 'it\'s', as libpq has values of key=value. */
static const char *quote_value(Arena *arena, const char *value) {
    size_t used = 0;
    char *quoted = arena_alloc(arena, 2 * strlen(value) + 3);

    quoted[used++] = '\'';
    for (const char *at = value; *at != '\0'; at++) {
        if (*at == '\'' || *at == '\\')
            quoted[used++] = '\\';
        quoted[used++] = *at;
    }
    quoted[used++] = '\'';
    return quoted;
}

static DbTarget target_of(const char *conninfo) {
    return (DbTarget){.side = DB_DEST, .conninfo = conninfo, .job_id = "provision"};
}

/* pg_hba.conf lets the administrator in by the socket: a server that refuses the session for another reason than who
 * asks (session_preload_libraries, ...) is configured so. */
static bool fail_session(const Local *local, const Server *server, Error *err) {
    if (err->reason != REASON_LOGIN_REFUSED || err->sqlstate[0] == '\0' || strncmp(err->sqlstate, "28", 2) == 0)
        return false;
    const char *fatal = strstr(err->message, "FATAL: ");
    const char *words = arena_strdup(local->arena, fatal != NULL ? fatal + strlen("FATAL: ") : err->message);
    const char *flag = flags_named(local, words);
    error_set(err, REASON_PROVISION_FAILED, "%s of instance %s takes no session: %s", server->name, local->id, words);
    err->retryable = false;
    if (flag == NULL)
        return error_remedy(err, "its log has more: %s", server->log);
    return error_remedy(err, "remove it, and make another one without the flag %s, or with another value of it", flag);
}

bool session_open(const Local *local, const Server *server, DbConn **ret_conn, Error *err) {
    const char *conninfo = arena_printf(local->arena, "host=%s port=%d user=postgres dbname=postgres",
                                        quote_value(local->arena, server->run), server->port);
    const DbTarget target = target_of(conninfo);

    return db_open_patient(&target, "provision", local->call->stop, patience_us, ret_conn, err) ||
           fail_session(local, server, err);
}

bool session_exec(const Local *local, const char *sql, Error *err) {
    CLEANUP(db_closep) DbConn *conn = NULL;

    return session_open(local, &local->primary, &conn, err) && db_exec(conn, sql, err);
}

#define FIRST_OF_USERS "16384" /* FirstNormalObjectId */

bool session_refuse_content(const Local *local, Error *err) {
    CLEANUP(db_closep) DbConn *conn = NULL;
    char *found = NULL;

    if (!server_is_running(local, &local->primary, NULL))
        return true; /* it was never started: load mode is asked for of servers that run, or that are made */
    if (!session_open(local, &local->primary, &conn, err) ||
        !db_query_value(
            conn, local->arena,
            "SELECT pg_catalog.string_agg(o.what, ', ') FROM (SELECT w.what FROM ("
            " SELECT 'database ' || d.datname AS what FROM pg_catalog.pg_database d WHERE d.oid >= " FIRST_OF_USERS
            " UNION ALL SELECT 'role ' || r.rolname FROM pg_catalog.pg_roles r WHERE r.oid >= " FIRST_OF_USERS
            " UNION ALL SELECT 'table ' || c.oid::pg_catalog.regclass::text FROM pg_catalog.pg_class c"
            " WHERE c.oid >= " FIRST_OF_USERS " AND c.relkind IN ('r', 'p', 'm')) w LIMIT 20) o",
            0, NULL, &found, err))
        return false;
    if (found == NULL || found[0] == '\0')
        return true;
    error_set(err, REASON_PROVISION_REFUSED,
              "instance %s has content of its own, which a crash in load mode would cost: %s", local->id, found);
    return error_remedy(err, "nothing needs to be done: it is filled without load mode");
}

/* The way of an application: TCP, with the certificate that it is told. */
static bool try_login(const Local *local, const char *password, bool *ret_good, Error *err) {
    CLEANUP(db_closep) DbConn *conn = NULL;
    const char *authority = arena_printf(local->arena, "%s/ca.crt", local->tls);
    const char *conninfo = arena_printf(
        local->arena,
        "host=127.0.0.1 port=%d user=postgres dbname=postgres sslmode=verify-full sslrootcert=%s password=%s",
        local->primary.port, quote_value(local->arena, authority), quote_value(local->arena, password));
    const DbTarget target = target_of(conninfo);

    *ret_good = db_open_patient(&target, "provision", local->call->stop, patience_us, &conn, err);
    return *ret_good || err->reason == REASON_LOGIN_REFUSED;
}

bool session_password(Local *local, Error *err) {
    const char *wanted = local->spec->password != NULL ? local->spec->password : local->made_up;
    CLEANUP(db_closep) DbConn *conn = NULL;
    bool good = false;

    if (wanted == NULL)
        return true;
    if (!try_login(local, wanted, &good, err) || good)
        return good;
    /* Not even the verifier is to be in a log. */
    if (!session_open(local, &local->primary, &conn, err) ||
        !db_exec(conn, "SET log_statement TO none; SET log_min_duration_statement TO -1", err) ||
        !db_set_password(conn, "postgres", wanted, err))
        return false;
    return try_login(local, wanted, &good, err) && good;
}
