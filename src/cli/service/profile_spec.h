/*
 * A connection profile as it is written: as a connection string and options, or in a file of `pgcrane apply`.
 *
 * The JSON that comes out may hold a password: spec_wipe() before it is given back. What is in it is the client's part
 * of the API's ConnectionProfile.
 */
#pragma once

#include "common/json.h"
#include "model/options.h"

/*
 * postgresql{} of a URI or key=value string, into `profile`, whose own fields stay. Files that it names (sslrootcert,
 * sslcert, sslkey) are read. What libpq knows and a profile has no place for is refused. BAD_CONNINFO, USAGE, or what
 * reading a file gives.
 */
NODISCARD bool spec_take_uri(Arena *arena, const char *uri, json_t *profile, Error *err);
/* The password in a file ("-": standard input), as one line. */
NODISCARD bool spec_take_password(const char *path, json_t *profile, Error *err);
/* What --host, --user and their like say. A URI, too, when it is not NULL: options win over it. */
NODISCARD bool spec_take_options(Arena *arena, const MigrateOptions *options, const char *uri, json_t *profile,
                                 Error *err);
/* --label KEY=VALUE, of anything that has labels. */
NODISCARD bool spec_take_labels(Arena *arena, const StringVec *labels, json_t *resource, Error *err);

/* Each field that is in it, as an update mask: "displayName,postgresql.host". Labels are one. */
const char *spec_mask(Arena *arena, const json_t *resource);
/* Overwrites every text in it. */
void spec_wipe(json_t *resource);
