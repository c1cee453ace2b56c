/*
 * The resources of Google's Database Migration API v1, as far as PostgreSQL goes: one Message each.
 *
 * Field names, types and who may write them are of the public API description. Extra fields of ours are output-only:
 * clients show what they do not know. What only means something in Google's cloud is FIELD_ECHO: kept and answered, so
 * that no client sees a difference.
 */
#pragma once

#include "model/message.h"

extern const Message message_status; /* google.rpc.Status */
extern const Message message_connection_profile;
extern const Message message_instance;
extern const Message message_migration_job;
extern const Message message_migration_job_object;
extern const Message message_private_connection;
extern const Message message_operation;
/* Of a job's report, which nobody sends. */
extern const Message message_job_report, message_database_report;
/* Bodies of verbs. */
extern const Message message_start; /* :start and :resume */
extern const Message message_restart;
extern const Message message_promote;
extern const Message message_demote;
extern const Message message_verify;
extern const Message message_ssh_script;
extern const Message message_lookup;
extern const Message message_empty; /* :stop, :cancel */

/* Of all of the above and what is inside of them, NULL at the end: for the OpenAPI document. */
extern const Message *const messages_all[];

/* Pairs for message_patch(): paths that google-cloud-sdk sends and the API does not have. */
extern const char *const profile_mask_aliases[];

/* "^[a-z]([a-z0-9-]{0,58}[a-z0-9])?$": ids of what clients create. */
bool resource_id_is_valid(const char *id);
/* Letters, digits, blanks, hyphens, beginning with a letter; "" is none. */
bool display_name_is_valid(const char *name);
