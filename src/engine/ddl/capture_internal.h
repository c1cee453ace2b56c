/* The SQL of the capture, apart from the code that installs it. Nobody else includes this. */
#pragma once

#include "engine/ddl/capture.h"

/* Everything to create, in one string; pure. */
const char *capture_create_sql(Arena *arena, const SeamNames *names, int server_version);
const char *capture_drop_sql(Arena *arena, const SeamNames *names);

/* --- capture_watch.c --- */

/* What the source has of the capture, each part with a hash. */
NODISCARD bool capture_print(DbConn *source, Arena *arena, const SeamNames *names, char **ret_print, Error *err);
/* For ddl_capture_check(). */
NODISCARD bool capture_note(DbConn *dest, const Ledger *ledger, const char *print, Error *err);
