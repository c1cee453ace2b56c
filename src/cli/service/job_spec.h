/* A migration job as it is written: by options, or in a file of `pgcrane apply`. */
#pragma once

#include "common/json.h"
#include "model/options.h"

/* --type, --database, --all-databases, --parallel, --display-name, --label, into `job`. USAGE. */
NODISCARD bool job_spec_take_options(Arena *arena, const MigrateOptions *options, json_t *job, Error *err);
/* objectsConfig of the names of databases; NULL = all. New reference. */
json_t *job_spec_objects(const StringVec *databases);
