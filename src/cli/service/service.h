/*
 * What the commands over the API have in common: pgcrane profiles ..., jobs ..., objects ..., operations ..., apply.
 *
 * Contract
 * - One thread. Everything here lives as long as the command.
 * - A command appends its results to `out`, which is written to standard output when it is done, or earlier by
 *   service_flush(). What is beside them goes to standard error (verb_note()).
 * - Errors speak of what was typed: ids, commands, options. service_explain() makes a service's refusal into that.
 */
#pragma once

#include "cli/arguments.h"
#include "cli/tty.h"
#include "client/client.h"

/* OUTPUT_HTML: of a report alone. */
typedef enum OutputFormat { OUTPUT_TABLE, OUTPUT_JSON, OUTPUT_YAML, OUTPUT_HTML } OutputFormat;

typedef struct Service {
    Arena *arena;
    const Command *command;
    const Arguments *arguments;
    const MigrateOptions *options;
    Client *client;
    const char *parent; /* "projects/P/locations/L" */
    OutputFormat format;
    Tty tty;       /* of standard output */
    int cancel_fd; /* readable: Ctrl-C, SIGTERM or SIGHUP came; they do nothing else */
    Buf *out;
} Service;

/* What an API command does. */
typedef bool (*ServiceRun)(Service *service, Error *err);

/* The n-th word behind the verb; NULL when it was not given. */
const char *service_word(const Service *service, size_t n);

/* Writes what is in `out` so far. */
NODISCARD bool service_flush(Service *service, Error *err);

/* A full name from what was typed: an id, or a full name already. USAGE. */
NODISCARD bool service_name(const Service *service, const char *collection, const char *typed, const char **ret_name,
                            Error *err);
/* "shop" of "projects/P/locations/L/migrationJobs/shop"; the whole name where its location is another one. */
const char *service_id(const Service *service, const char *name);
/* A name that goes into a command to type: quoted where a shell would need it. */
const char *service_typed(const Service *service, const char *name);

#define PROFILE_COLLECTION "connectionProfiles"
#define JOB_COLLECTION "migrationJobs"
#define INSTANCE_COLLECTION "instances"
#define OPERATION_COLLECTION "operations"

NODISCARD bool service_get(Service *service, const char *path, const ClientParam *params, json_t **ret_answer,
                           Error *err);
/* All pages of a list, as one array. New reference. */
NODISCARD bool service_list(Service *service, const char *path, const char *member, const char *filter,
                            const char *order_by, json_t **ret_items, Error *err);
/* A request id of its own: what is asked twice with it is done once. */
NODISCARD bool service_request_id(Service *service, const char **ret_id, Error *err);

/* Agreed to by --yes, or by somebody on the terminal; else CANCELLED. */
NODISCARD bool service_confirm(Service *service, const char *question, Error *err);
