/* Passwords of roles. */
#include "pg/password.h"

#include "pg/query.h"
#include "pg/quote.h"

#include <libpq-fe.h>

static void free_verifier(char **verifier) {
    PQfreemem(*verifier);
    *verifier = NULL;
}

bool db_set_password(DbConn *conn, const char *role, const char *password, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    CLEANUP(free_verifier) char *verifier = PQencryptPasswordConn(db_pgconn(conn), password, role, "scram-sha-256");

    if (verifier == NULL)
        return error_set(err, REASON_SQL_FAILED, "cannot compute the verifier of a password: %s",
                         PQerrorMessage(db_pgconn(conn)));
    return db_execf(conn, err, "ALTER ROLE %s PASSWORD %s", sql_ident(arena, role), sql_literal(arena, verifier));
}
