/*
 * Where the entries of an archive are put: --tablespace-map applied to their tablespaces.
 *
 * pg_dump writes no tablespace for what is in the default one of its database, so that one has to be asked for, on both
 * sides: what the map sends to the destination's own default names none again, since PostgreSQL refuses that name for
 * partitioned tables. Repeated for each run: the archive that the ledger keeps is as pg_dump wrote it.
 */
#pragma once

#include "engine/schema/toc.h"
#include "model/options.h"
#include "pg/query.h"

/* Both connections outside of a transaction that has failed. Without tablespaces in `toc` and in the options nothing is
 * asked. Names in the entries are changed; they are of the arena. */
NODISCARD bool schema_map_tablespaces(Arena *arena, DbConn *source, DbConn *dest, const MigrateOptions *options,
                                      Toc *toc, Error *err);
