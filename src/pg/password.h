/* The verifier of a password, made here: the server is sent, and logs, nothing else. */
#pragma once

#include "pg/conn.h"

/* SCRAM-SHA-256, which every server from 10 on takes as a password. Asks the server nothing. */
NODISCARD bool db_encrypt_password(DbConn *conn, Arena *arena, const char *user, const char *password,
                                   const char **ret_verifier, Error *err);
