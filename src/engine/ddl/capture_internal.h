/* The SQL of the capture, apart from the code that installs it. Nobody else includes this. */
#pragma once

#include "engine/ddl/capture.h"

/* Everything to create, in one string; pure. */
const char *capture_create_sql(Arena *arena, const SeamNames *names, int server_version);
const char *capture_drop_sql(Arena *arena, const SeamNames *names);
