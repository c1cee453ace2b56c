/* Passwords of roles (PQencryptPasswordConn). */
#include "pg/password.h"

#include "pg/query.h"
#include "pg/quote.h"

#include <libpq-fe.h>

static void free_verifier(char **verifier) {
    PQfreemem(*verifier);
    *verifier = NULL;
}

bool db_encrypt_password(DbConn *conn, Arena *arena, const char *user, const char *password, const char **ret_verifier,
                         Error *err) {
    CLEANUP(free_verifier) char *verifier = PQencryptPasswordConn(db_pgconn(conn), password, user, "scram-sha-256");

    if (verifier == NULL)
        return error_set(err, REASON_SQL_FAILED, "cannot compute the verifier of the password of role %s: %s", user,
                         PQerrorMessage(db_pgconn(conn)));
    *ret_verifier = arena_strdup(arena, verifier);
    return true;
}

bool db_set_password(DbConn *conn, const char *role, const char *password, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    const char *verifier = NULL;

    return db_encrypt_password(conn, arena, role, password, &verifier, err) &&
           db_execf(conn, err, "ALTER ROLE %s PASSWORD %s", sql_ident(arena, role), sql_literal(arena, verifier));
}
