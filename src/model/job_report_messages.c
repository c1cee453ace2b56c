/* The fields of a job's report, for the OpenAPI document. */
#include "model/resources.h"

#define OUT(name_, kind_, help_)                                                                                       \
    { .name = name_, .kind = kind_, .flags = FIELD_OUTPUT, .help = help_ }
#define OUT_LIST(name_, help_)                                                                                         \
    { .name = name_, .kind = FIELD_STRUCT, .flags = FIELD_OUTPUT | FIELD_REPEATED, .help = help_ }

static const Field database_report_fields[] = {
    OUT("database", FIELD_STRING, NULL),
    OUT("state", FIELD_STRING, NULL),
    OUT("phase", FIELD_STRING, NULL),
    {.name = "error", .kind = FIELD_MESSAGE, .flags = FIELD_OUTPUT, .message = &message_status},
    OUT("updateTime", FIELD_TIMESTAMP, "when a session of it last said what stands here"),
    OUT("complete", FIELD_BOOL, "its session came to its end: versions, sizes, notMoved and notes are there"),
    OUT("source", FIELD_STRUCT, "server, version, bytes of the database"),
    OUT("destination", FIELD_STRUCT, "server, version, bytes of the database"),
    OUT("client", FIELD_STRING, "pg_dump that read the definitions"),
    OUT("copied", FIELD_STRUCT,
        "bytes, rows, tables and indexes, as far as there; tablesTotal, indexesTotal, wireBytes"),
    OUT("followed", FIELD_STRUCT, "transactions, inserts, updates, deletes, truncates, definitions"),
    OUT_LIST("phases", "phase, seconds, items: over all sessions"),
    OUT("promote", FIELD_STRUCT,
        "proven, outageSeconds, outageWithHooksSeconds, marker, sequences, largeObjects, tablesCopied, steps"),
    OUT_LIST("warnings", "what the checks of the last session told: id, severity, side, object, message, fix"),
    OUT("warningsMore", FIELD_INT32, "how many are not in the list"),
    OUT_LIST("notMoved", "kind, object, reason, sql"),
    OUT("notMovedMore", FIELD_INT32, "how many are not in the list"),
    {.name = "notes", .kind = FIELD_STRING, .flags = FIELD_OUTPUT | FIELD_REPEATED},
};
const Message message_database_report = {"DatabaseReport", database_report_fields, COUNT_OF(database_report_fields)};

static const Field job_report_fields[] = {
    OUT("name", FIELD_STRING, "of the job"),
    OUT("displayName", FIELD_STRING, NULL),
    OUT("type", FIELD_STRING, NULL),
    OUT("state", FIELD_STRING, NULL),
    OUT("phase", FIELD_STRING, NULL),
    OUT("source", FIELD_STRING, "its connection profile"),
    OUT("destination", FIELD_STRING, "its connection profile"),
    OUT("createTime", FIELD_TIMESTAMP, NULL),
    OUT("startTime", FIELD_TIMESTAMP, "of the last start or restart"),
    OUT("endTime", FIELD_TIMESTAMP, NULL),
    OUT("duration", FIELD_DURATION, NULL),
    OUT("generateTime", FIELD_TIMESTAMP, "of this report"),
    {.name = "error", .kind = FIELD_MESSAGE, .flags = FIELD_OUTPUT, .message = &message_status},
    OUT("totals", FIELD_STRUCT, "sums over the databases; longestOutageSeconds is the longest one"),
    OUT("instance", FIELD_STRUCT, "databasesLeftOut, and findings about roles and databases"),
    {.name = "databases",
     .kind = FIELD_MESSAGE,
     .flags = FIELD_OUTPUT | FIELD_REPEATED,
     .message = &message_database_report},
};
const Message message_job_report = {"JobReport", job_report_fields, COUNT_OF(job_report_fields)};
