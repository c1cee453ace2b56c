/* Every method of the API, a row. Routes and the OpenAPI document come from here. */
#include "api/instances.h"
#include "api/job_passwords.h"
#include "api/job_report.h"
#include "api/kinds.h"
#include "api/migration_jobs.h"
#include "api/others.h"
#include "api/patch.h"
#include "api/profiles.h"
#include "api/streams.h"
#include "model/resources.h"

#define GET HTTP_METHOD_GET
#define POST HTTP_METHOD_POST
#define PATCH HTTP_METHOD_PATCH
#define DELETE HTTP_METHOD_DELETE
#define READS METHOD_READS
#define WRITES METHOD_WRITES

#define IN "/projects/{project}/locations/{location}"
#define PROFILES IN "/connectionProfiles"
#define JOBS IN "/migrationJobs"
#define OBJECTS JOBS "/{job}/objects"
#define PRIVATES IN "/privateConnections"
#define INSTANCES IN "/instances"
#define OPERATIONS IN "/operations"
#define WORKSPACES IN "/conversionWorkspaces"
#define RULES WORKSPACES "/{id}/mappingRules"

#define PAGE (PARAM(PAGE_SIZE) | PARAM(PAGE_TOKEN))
#define LIST (PAGE | PARAM(FILTER) | PARAM(ORDER_BY))
#define MADE (PARAM(REQUEST_ID) | PARAM(VALIDATE_ONLY) | PARAM(SKIP_VALIDATION))
#define REMOVED (PARAM(REQUEST_ID) | PARAM(FORCE) | PARAM(ETAG))

/* clang-format off */
#define VERB(word, body, run, name) \
    {POST, JOBS "/{id}:" word, "migrationJobs." name, NAME_MIGRATION_JOB, WRITES, PARAM(REQUEST_ID), &body, NAME_LOCATION, 0, "Operation", run}
#define IAM(path, kind, name) \
    {GET, path ":getIamPolicy", name ".getIamPolicy", kind, READS, PARAM(POLICY_VERSION), NULL, NAME_LOCATION, 0, NULL, iam_get}, \
    {POST, path ":setIamPolicy", name ".setIamPolicy", kind, METHOD_ALONE, 0, NULL, NAME_LOCATION, 0, NULL, iam_set}, \
    {POST, path ":testIamPermissions", name ".testIamPermissions", kind, READS, 0, &message_test_permissions, NAME_LOCATION, 0, NULL, iam_test}
/* Of other engines: known, so that the answer can say so. */
#define OTHER(method, path, name) {method, path, name, NAME_LOCATION, METHOD_ALONE, 0, NULL, NAME_LOCATION, 0, NULL, NULL}

const ApiMethod api_methods[] = {
    {GET, "/projects/{project}/locations", "locations.list", NAME_LOCATION, READS, PAGE | PARAM(FILTER) | PARAM(LOCATION_TYPES), NULL, NAME_LOCATION, 0, NULL, locations_list},
    {GET, IN, "locations.get", NAME_LOCATION, METHOD_ALONE, 0, NULL, NAME_LOCATION, 0, NULL, locations_get},
    {GET, IN ":fetchStaticIps", "locations.fetchStaticIps", NAME_LOCATION, METHOD_ALONE, PAGE | PARAM(RESERVED_IPS), NULL, NAME_LOCATION, 0, NULL, locations_static_ips},

    {GET, PROFILES, "connectionProfiles.list", NAME_LOCATION, READS, LIST, NULL, NAME_CONNECTION_PROFILE, 0, NULL, kind_list},
    {GET, PROFILES "/{id}", "connectionProfiles.get", NAME_CONNECTION_PROFILE, READS, 0, NULL, NAME_LOCATION, 0, "ConnectionProfile", kind_get},
    {POST, PROFILES, "connectionProfiles.create", NAME_LOCATION, WRITES, MADE | PARAM(PROFILE_ID), &message_connection_profile, NAME_CONNECTION_PROFILE, PARAM_PROFILE_ID, "Operation", profile_create},
    {PATCH, PROFILES "/{id}", "connectionProfiles.patch", NAME_CONNECTION_PROFILE, WRITES, MADE | PARAM(UPDATE_MASK), &message_connection_profile, NAME_LOCATION, 0, "Operation", profile_patch, patch_before},
    {DELETE, PROFILES "/{id}", "connectionProfiles.delete", NAME_CONNECTION_PROFILE, WRITES, REMOVED, NULL, NAME_LOCATION, 0, "Operation", profile_delete},
    IAM(PROFILES "/{id}", NAME_CONNECTION_PROFILE, "connectionProfiles"),

    {GET, JOBS, "migrationJobs.list", NAME_LOCATION, READS, LIST, NULL, NAME_MIGRATION_JOB, 0, NULL, kind_list},
    {GET, JOBS "/{id}", "migrationJobs.get", NAME_MIGRATION_JOB, READS, 0, NULL, NAME_LOCATION, 0, "MigrationJob", kind_get},
    {POST, JOBS, "migrationJobs.create", NAME_LOCATION, WRITES, PARAM(REQUEST_ID) | PARAM(JOB_ID), &message_migration_job, NAME_MIGRATION_JOB, PARAM_JOB_ID, "Operation", migration_create},
    {PATCH, JOBS "/{id}", "migrationJobs.patch", NAME_MIGRATION_JOB, WRITES, PARAM(REQUEST_ID) | PARAM(UPDATE_MASK), &message_migration_job, NAME_LOCATION, 0, "Operation", migration_patch, patch_before},
    {DELETE, JOBS "/{id}", "migrationJobs.delete", NAME_MIGRATION_JOB, WRITES, REMOVED, NULL, NAME_LOCATION, 0, "Operation", migration_delete},
    VERB("start", message_start, migration_start, "start"),
    VERB("stop", message_empty, migration_stop, "stop"),
    VERB("resume", message_start, migration_resume, "resume"),
    VERB("restart", message_restart, migration_restart, "restart"),
    VERB("promote", message_promote, migration_promote, "promote"),
    VERB("verify", message_verify, migration_verify, "verify"),
    VERB("demoteDestination", message_demote, migration_demote, "demoteDestination"),
    {GET, JOBS "/{id}:fetchSourceObjects", "migrationJobs.fetchSourceObjects", NAME_MIGRATION_JOB, WRITES, 0, NULL, NAME_LOCATION, 0, "Operation", migration_fetch},
    {POST, JOBS "/{id}:generateSshScript", "migrationJobs.generateSshScript", NAME_MIGRATION_JOB, READS, 0, &message_ssh_script, NAME_LOCATION, 0, NULL, migration_ssh_script},
    OTHER(POST, JOBS "/{id}:generateTcpProxyScript", "migrationJobs.generateTcpProxyScript"),
    {GET, JOBS "/{id}/events", "migrationJobs.events", NAME_MIGRATION_JOB, READS, PAGE, NULL, NAME_LOCATION, 0, NULL, job_events},
    {POST, JOBS "/{id}:fetchPasswords", "migrationJobs.fetchPasswords", NAME_MIGRATION_JOB, WRITES, 0, &message_empty, NAME_LOCATION, 0, NULL, job_passwords, NULL, false, true},
    {GET, JOBS "/{id}:report", "migrationJobs.report", NAME_MIGRATION_JOB, READS, 0, NULL, NAME_LOCATION, 0, "JobReport", job_report, NULL, true},
    IAM(JOBS "/{id}", NAME_MIGRATION_JOB, "migrationJobs"),

    {GET, JOBS "/{id}/objects", "migrationJobs.objects.list", NAME_MIGRATION_JOB, READS, PAGE, NULL, NAME_LOCATION, 0, NULL, job_objects_list},
    {GET, OBJECTS "/{id}", "migrationJobs.objects.get", NAME_OBJECT, READS, 0, NULL, NAME_LOCATION, 0, "MigrationJobObject", kind_get},
    {POST, JOBS "/{id}/objects:lookup", "migrationJobs.objects.lookup", NAME_MIGRATION_JOB, READS, 0, &message_lookup, NAME_LOCATION, 0, "MigrationJobObject", migration_lookup},
    IAM(OBJECTS "/{id}", NAME_OBJECT, "migrationJobs.objects"),

    {GET, OPERATIONS, "operations.list", NAME_LOCATION, READS, LIST | PARAM(PARTIAL), NULL, NAME_OPERATION, 0, NULL, kind_list},
    {GET, OPERATIONS "/{id}", "operations.get", NAME_OPERATION, READS, 0, NULL, NAME_LOCATION, 0, "Operation", operations_get},
    {DELETE, OPERATIONS "/{id}", "operations.delete", NAME_OPERATION, WRITES, 0, NULL, NAME_LOCATION, 0, "Empty", operations_delete},
    {POST, OPERATIONS "/{id}:cancel", "operations.cancel", NAME_OPERATION, WRITES, 0, &message_empty, NAME_LOCATION, 0, "Empty", operations_cancel},
    {POST, OPERATIONS "/{id}:wait", "operations.wait", NAME_OPERATION, METHOD_ALONE, 0, &message_wait, NAME_LOCATION, 0, "Operation", operations_wait},

    {GET, PRIVATES, "privateConnections.list", NAME_LOCATION, READS, LIST, NULL, NAME_PRIVATE_CONNECTION, 0, NULL, kind_list},
    {GET, PRIVATES "/{id}", "privateConnections.get", NAME_PRIVATE_CONNECTION, READS, 0, NULL, NAME_LOCATION, 0, "PrivateConnection", kind_get},
    {POST, PRIVATES, "privateConnections.create", NAME_LOCATION, WRITES, MADE | PARAM(PRIVATE_ID), &message_private_connection, NAME_PRIVATE_CONNECTION, PARAM_PRIVATE_ID, "Operation", private_create},
    {DELETE, PRIVATES "/{id}", "privateConnections.delete", NAME_PRIVATE_CONNECTION, WRITES, REMOVED, NULL, NAME_LOCATION, 0, "Operation", private_delete},
    IAM(PRIVATES "/{id}", NAME_PRIVATE_CONNECTION, "privateConnections"),

    {GET, INSTANCES, "instances.list", NAME_LOCATION, READS, LIST, NULL, NAME_INSTANCE, 0, NULL, kind_list},
    {GET, INSTANCES "/{id}", "instances.get", NAME_INSTANCE, READS, 0, NULL, NAME_LOCATION, 0, "Instance", kind_get},
    {DELETE, INSTANCES "/{id}", "instances.delete", NAME_INSTANCE, WRITES, REMOVED, NULL, NAME_LOCATION, 0, "Operation", instance_delete},
    {POST, INSTANCES "/{id}:readLog", "instances.readLog", NAME_INSTANCE, WRITES, PARAM(REQUEST_ID), &message_empty, NAME_LOCATION, 0, "Operation", instance_read_log},

    OTHER(GET, WORKSPACES, "conversionWorkspaces.list"),
    OTHER(POST, WORKSPACES, "conversionWorkspaces.create"),
    OTHER(GET, WORKSPACES "/{id}", "conversionWorkspaces.get"),
    OTHER(PATCH, WORKSPACES "/{id}", "conversionWorkspaces.patch"),
    OTHER(DELETE, WORKSPACES "/{id}", "conversionWorkspaces.delete"),
    OTHER(GET, WORKSPACES "/{id}:{verb}", "conversionWorkspaces.describe"),
    OTHER(POST, WORKSPACES "/{id}:{verb}", "conversionWorkspaces.run"),
    OTHER(GET, RULES, "conversionWorkspaces.mappingRules.list"),
    OTHER(POST, RULES, "conversionWorkspaces.mappingRules.create"),
    OTHER(POST, WORKSPACES "/{id}/mappingRules:import", "conversionWorkspaces.mappingRules.import"),
    OTHER(GET, RULES "/{rule}", "conversionWorkspaces.mappingRules.get"),
    OTHER(DELETE, RULES "/{rule}", "conversionWorkspaces.mappingRules.delete"),
};
/* clang-format on */
const size_t api_methods_count = COUNT_OF(api_methods);
