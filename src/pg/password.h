/* Passwords of roles, without telling the server what they are. */
#pragma once

#include "pg/conn.h"

/* ALTER ROLE ... PASSWORD with a verifier that is computed here (SCRAM), so that no log of statements ever has the
 * password. Relies on: PQencryptPasswordConn of libpq 10 and up. */
NODISCARD bool db_set_password(DbConn *conn, const char *role, const char *password, Error *err);

/* The verifier itself (SCRAM-SHA-256, which every server from 10 on takes as a password). Asks the server nothing. */
NODISCARD bool db_encrypt_password(DbConn *conn, Arena *arena, const char *user, const char *password,
                                   const char **ret_verifier, Error *err);
