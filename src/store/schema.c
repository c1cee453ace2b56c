/*
 * The schema of the store, as steps that are only ever added to.
 *
 * Text compares by bytes in both (SQLite's BINARY, PostgreSQL's "C"), or lists would be in another order. Ids come from
 * counters that never give a number twice, also after the row with the highest one was deleted.
 *
 * Events, secrets and reports go with their resource. Leases do not: the epochs of a job that is made again under the
 * same name go on. Nor does the outbox: the last action of a job is to clean up behind it.
 */
#include "store/schema.h"

#include "common/compiler.h"

/* clang-format off */
#define STEP_1(TEXT, INT, SERIAL, END)                                                                                 \
    "CREATE TABLE resource (name " TEXT " NOT NULL PRIMARY KEY, kind " TEXT " NOT NULL, parent " TEXT " NOT NULL,"     \
    " uid " TEXT " NOT NULL, state " TEXT " NOT NULL, phase " TEXT " NOT NULL, display_name " TEXT " NOT NULL,"        \
    " body " TEXT " NOT NULL, version " INT " NOT NULL, create_us " INT " NOT NULL, update_us " INT " NOT NULL)" END   \
    "CREATE INDEX resource_by_name ON resource (kind, name);"                                                          \
    "CREATE INDEX resource_by_parent ON resource (kind, parent, name);"                                                \
    "CREATE INDEX resource_by_time ON resource (kind, create_us, name);"                                               \
    "CREATE INDEX resource_by_parent_time ON resource (kind, parent, create_us, name);"                                \
    "CREATE TABLE secret (owner " TEXT " NOT NULL REFERENCES resource ON DELETE CASCADE, field " TEXT " NOT NULL,"     \
    " value " TEXT " NOT NULL, PRIMARY KEY (owner, field))" END                                                        \
    "CREATE TABLE event (id " SERIAL ", job " TEXT " NOT NULL REFERENCES resource ON DELETE CASCADE,"                  \
    " time_us " INT " NOT NULL, kind " TEXT " NOT NULL, message " TEXT " NOT NULL, detail " TEXT " NOT NULL)" END      \
    "CREATE INDEX event_of_job ON event (job, id);"                                                                    \
    "CREATE TABLE audit (id " SERIAL ", time_us " INT " NOT NULL, who " TEXT " NOT NULL, action " TEXT " NOT NULL,"    \
    " resource " TEXT " NOT NULL, origin " TEXT " NOT NULL, request_id " TEXT " NOT NULL,"                             \
    " outcome " TEXT " NOT NULL)" END                                                                                  \
    "CREATE INDEX audit_of_resource ON audit (resource, id);"                                                          \
    "CREATE INDEX audit_by_time ON audit (time_us);"                                                                   \
    "CREATE TABLE outbox (id " SERIAL ", create_us " INT " NOT NULL, owner " TEXT " NOT NULL,"                         \
    " action " TEXT " NOT NULL, body " TEXT " NOT NULL, attempt " INT " NOT NULL, taken_by " TEXT " NOT NULL,"         \
    " taken_until_us " INT " NOT NULL, span_us " INT " NOT NULL)" END                                                  \
    "CREATE INDEX outbox_of_owner ON outbox (owner, id);"                                                              \
    "CREATE TABLE lease (name " TEXT " NOT NULL PRIMARY KEY, node " TEXT " NOT NULL, epoch " INT " NOT NULL,"          \
    " ttl_us " INT " NOT NULL, expires_us " INT " NOT NULL)" END                                                       \
    "CREATE TABLE node (id " TEXT " NOT NULL PRIMARY KEY, address " TEXT " NOT NULL, body " TEXT " NOT NULL,"          \
    " beat_us " INT " NOT NULL, ttl_us " INT " NOT NULL)" END                                                          \
    "CREATE TABLE request (scope " TEXT " NOT NULL, id " TEXT " NOT NULL, hash " TEXT " NOT NULL,"                     \
    " operation " TEXT " NOT NULL, time_us " INT " NOT NULL, PRIMARY KEY (scope, id))" END                             \
    "CREATE INDEX request_by_time ON request (time_us);"                                                               \
    "CREATE TABLE revision (value " INT " NOT NULL)" END                                                               \
    "INSERT INTO revision VALUES (0);"

/* One row: which start of the machine the offset of the clock belongs to. */
#define STEP_1_SQLITE                                                                                                  \
    "CREATE TABLE store_clock (boot TEXT NOT NULL, offset_us INTEGER NOT NULL, last_us INTEGER NOT NULL) STRICT;"      \
    "INSERT INTO store_clock VALUES ('', 0, 0);"                                                                       \
    "PRAGMA application_id = 0x70676353;"

#define STEP_1_POSTGRESQL                                                                                              \
    "CREATE TABLE store_meta (application text NOT NULL, version bigint NOT NULL);"                                    \
    "INSERT INTO store_meta VALUES ('pgcrane store', 0);"                                                              \
    "CREATE TABLE commit_token (token text PRIMARY KEY, time_us bigint NOT NULL, is_void boolean NOT NULL);"           \
    "CREATE INDEX commit_token_by_time ON commit_token (time_us);"                                                     \
    "CREATE FUNCTION store_now() RETURNS bigint LANGUAGE sql VOLATILE AS"                                              \
    " 'SELECT (extract(epoch FROM pg_catalog.clock_timestamp()) * 1000000)::bigint';"                                  \
    "CREATE FUNCTION store_wall() RETURNS bigint LANGUAGE sql VOLATILE AS"                                             \
    " 'SELECT (extract(epoch FROM pg_catalog.clock_timestamp()) * 1000000)::bigint';"

/* Tokens of the API, and what the store itself is to remember: which key its secrets are sealed with. */
#define STEP_2(TEXT, INT, SERIAL, END)                                                                                 \
    "CREATE TABLE token (id " TEXT " NOT NULL PRIMARY KEY, hash " TEXT " NOT NULL, role " TEXT " NOT NULL,"            \
    " name " TEXT " NOT NULL, create_us " INT " NOT NULL, expire_us " INT " NOT NULL, used_us " INT " NOT NULL,"       \
    " revoke_us " INT " NOT NULL)" END                                                                                 \
    "CREATE TABLE setting (name " TEXT " NOT NULL PRIMARY KEY, value " TEXT " NOT NULL)" END

/* Who takes jobs over asks for them by state, each second. */
#define STEP_3 "CREATE INDEX resource_by_state ON resource (kind, state, name);"

/* What jobs and their databases leave for people: beside the bodies, which every look reads. */
#define STEP_4(TEXT, INT, SERIAL, END)                                                                                 \
    "CREATE TABLE report (owner " TEXT " NOT NULL PRIMARY KEY REFERENCES resource ON DELETE CASCADE,"                  \
    " body " TEXT " NOT NULL)" END
/* clang-format on */

#define SQLITE_TYPES "TEXT", "INTEGER", "INTEGER PRIMARY KEY AUTOINCREMENT", " STRICT;"
#define POSTGRESQL_TYPES "text COLLATE \"C\"", "bigint", "bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY", ";"
#define WITH(step, ...) step(__VA_ARGS__) /* so that the list of types is taken apart first */

const SchemaStep schema_steps[] = {
    {WITH(STEP_1, SQLITE_TYPES) STEP_1_SQLITE, WITH(STEP_1, POSTGRESQL_TYPES) STEP_1_POSTGRESQL},
    {WITH(STEP_2, SQLITE_TYPES), WITH(STEP_2, POSTGRESQL_TYPES)},
    {STEP_3, STEP_3},
    {WITH(STEP_4, SQLITE_TYPES), WITH(STEP_4, POSTGRESQL_TYPES)},
};

const int schema_version = COUNT_OF(schema_steps);
