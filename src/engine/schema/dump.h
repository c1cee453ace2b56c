/* Runs pg_dump for the definitions (sections pre-data and post-data, no large objects) under our snapshot. */
#pragma once

#include "common/buf.h"
#include "common/error.h"
#include "common/stop.h"

typedef struct SchemaDump {
    const char *pg_dump;     /* path */
    const char *conninfo;    /* of the source */
    const char *snapshot_id; /* exported snapshot, alive */
} SchemaDump;

/* Appends the custom-format archive to `ret_archive`. Fails with CLIENT_FAILED with pg_dump's own words (first error
 * line). */
NODISCARD bool schema_dump(const SchemaDump *dump, const Stop *stop, Buf *ret_archive, Error *err);
