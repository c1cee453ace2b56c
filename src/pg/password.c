/* The verifier of a password (PQencryptPasswordConn). */
#include "pg/password.h"

#include "pg/conn_internal.h"

bool db_encrypt_password(DbConn *conn, Arena *arena, const char *user, const char *password, const char **ret_verifier,
                         Error *err) {
    char *verifier = PQencryptPasswordConn(conn->pg, password, user, "scram-sha-256");

    if (verifier == NULL)
        return error_set(err, REASON_SYSTEM, "the password of role %s could not be encrypted", user);
    *ret_verifier = arena_strdup(arena, verifier);
    PQfreemem(verifier);
    return true;
}
