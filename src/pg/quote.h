/*
 * The one place where SQL text is quoted. Everything in the arena given.
 *
 * sql_ident always quotes (so reserved words of any version do not matter) and doubles quotes; sql_literal doubles
 * single quotes and uses E'' when there is a backslash. Both need client_encoding UTF8 or SQL_ASCII-safe bytes, which
 * conn.c sets.
 */
#pragma once

#include "common/arena.h"

char *sql_ident(Arena *arena, const char *name);                         /* "a""b" */
char *sql_qualified(Arena *arena, const char *schema, const char *name); /* "s"."t" */
char *sql_literal(Arena *arena, const char *text);                       /* 'it''s', NULL pointer gives NULL */
/* For people: a.b without quotes where plain, quoted where needed as psql shows them. */
char *sql_display(Arena *arena, const char *schema, const char *name);
