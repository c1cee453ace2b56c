/*
 * Resources as people read them, or as JSON and YAML.
 *
 * Pure but for the Buf they go into. What a resource does not have is not shown, so that a service that says more or
 * less than this program knows of makes no holes.
 */
#pragma once

#include "cli/service/service.h"
#include "cli/service/table.h"

typedef enum ShowKind { SHOW_PROFILE, SHOW_JOB, SHOW_OBJECT, SHOW_OPERATION, SHOW_INSTANCE, SHOW_KIND_MAX_ } ShowKind;

/* A list, in the order given. */
void show_list(const Service *service, ShowKind kind, const json_t *items, Buf *out);
/* One, with all of it. */
void show_one(const Service *service, ShowKind kind, const json_t *item, Buf *out);
/* As JSON or YAML, indented; `format` is not OUTPUT_TABLE. */
void show_data(OutputFormat format, const json_t *data, Buf *out);

/* What kind_facts[] hold; each in a file of its own. */
void show_profile_facts(const Service *service, const json_t *profile, FactVec *facts);
void show_job_facts(const Service *service, const json_t *job, FactVec *facts);
void show_object_facts(const Service *service, const json_t *object, FactVec *facts);
void show_operation_facts(const Service *service, const json_t *operation, FactVec *facts);
void show_instance_facts(const Service *service, const json_t *instance, FactVec *facts);

/* A column: its title, and a cell of a resource. */
typedef struct ShowColumn {
    TableColumn column;
    TableCell (*cell)(const Service *service, const json_t *item);
} ShowColumn;
extern const ShowColumn show_profile_columns[], show_job_columns[], show_object_columns[], show_operation_columns[],
    show_instance_columns[];
extern const size_t show_profile_columns_count, show_job_columns_count, show_object_columns_count,
    show_operation_columns_count, show_instance_columns_count;

/* --- what they share --- */

/* Leaves out what has no text. */
void show_fact(const Service *service, FactVec *facts, const char *label, Ink ink, const char *text);
/* "team=shop, tier=1"; NULL when there are none. */
const char *show_labels(const Service *service, const json_t *item);
/* "2026-11-29 04:10:11Z" of a time in RFC 3339; NULL when there is none. */
const char *show_time(const Service *service, const char *rfc3339);
/* A google.rpc.Status: its message, and what to do. NULL when there is none. */
const char *show_status(const Service *service, const json_t *status);
/* How good a state is. */
Ink show_state_ink(const char *state);
TableCell show_id_cell(const Service *service, const json_t *item);
TableCell show_state_cell(const Service *service, const json_t *item);
