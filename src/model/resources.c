/* Each field of each resource, a row. Public facts of the API: see resources.h. */
#include "model/resources.h"

#include <ctype.h>
#include <string.h>

static const char *const engines[] = {"DATABASE_ENGINE_UNSPECIFIED", "POSTGRESQL", NULL};
static const char *const providers[] = {
    "DATABASE_PROVIDER_UNSPECIFIED", "CLOUDSQL", "RDS", "AURORA", "ALLOYDB", "AZURE_DATABASE", NULL};
static const char *const roles[] = {"ROLE_UNSPECIFIED", "SOURCE", "DESTINATION", NULL};
static const char *const instance_states[] = {"CREATING", "RUNNABLE", "MAINTENANCE", "STOPPED",
                                              "DAMAGED",  "FAILED",   "DELETING",    NULL};
static const char *const instance_modes[] = {"LOAD", "MIGRATING", "PRIMARY", NULL};
static const char *const profile_states[] = {"STATE_UNSPECIFIED", "DRAFT",   "CREATING", "READY", "UPDATING",
                                             "DELETING",          "DELETED", "FAILED",   NULL};
static const char *const ssl_types[] = {
    "SSL_TYPE_UNSPECIFIED", "SERVER_ONLY", "SERVER_CLIENT", "REQUIRED", "NONE", NULL};
static const char *const network_architectures[] = {"NETWORK_ARCHITECTURE_UNSPECIFIED",
                                                    "NETWORK_ARCHITECTURE_OLD_CSQL_PRODUCER",
                                                    "NETWORK_ARCHITECTURE_NEW_CSQL_PRODUCER", NULL};
static const char *const activation_policies[] = {"SQL_ACTIVATION_POLICY_UNSPECIFIED", "ALWAYS", "NEVER", NULL};
static const char *const disk_types[] = {"SQL_DATA_DISK_TYPE_UNSPECIFIED", "PD_SSD", "PD_HDD", "HYPERDISK_BALANCED",
                                         NULL};
static const char *const availability_types[] = {"SQL_AVAILABILITY_TYPE_UNSPECIFIED", "ZONAL", "REGIONAL", NULL};
static const char *const editions[] = {"EDITION_UNSPECIFIED", "ENTERPRISE", "ENTERPRISE_PLUS", NULL};
static const char *const job_states[] = {"STATE_UNSPECIFIED", "MAINTENANCE", "DRAFT",     "CREATING", "NOT_STARTED",
                                         "RUNNING",           "FAILED",      "COMPLETED", "DELETING", "STOPPING",
                                         "STOPPED",           "DELETED",     "UPDATING",  "STARTING", "RESTARTING",
                                         "RESUMING",          NULL};
static const char *const job_phases[] = {
    "PHASE_UNSPECIFIED",  "FULL_DUMP",         "CDC", "PROMOTE_IN_PROGRESS", "WAITING_FOR_SOURCE_WRITES_TO_STOP",
    "PREPARING_THE_DUMP", "READY_FOR_PROMOTE", NULL};
static const char *const job_types[] = {"TYPE_UNSPECIFIED", "ONE_TIME", "CONTINUOUS", NULL};
static const char *const object_states[] = {"STATE_UNSPECIFIED", "NOT_STARTED", "RUNNING", "STOPPING",
                                            "STOPPED",           "RESTARTING",  "FAILED",  "REMOVING",
                                            "NOT_SELECTED",      "COMPLETED",   NULL};
static const char *const object_phases[] = {"PHASE_UNSPECIFIED",   "FULL_DUMP", "CDC", "READY_FOR_PROMOTE",
                                            "PROMOTE_IN_PROGRESS", "PROMOTED",  NULL};
static const char *const object_types[] = {"MIGRATION_JOB_OBJECT_TYPE_UNSPECIFIED", "DATABASE", "SCHEMA", "TABLE",
                                           NULL};
static const char *const selections[] = {"OBJECTS_SELECTION_TYPE_UNSPECIFIED", "ALL_OBJECTS", "SPECIFIED_OBJECTS",
                                         NULL};
static const char *const dump_levels[] = {"DUMP_PARALLEL_LEVEL_UNSPECIFIED", "MIN", "OPTIMAL", "MAX", NULL};
static const char *const load_levels[] = {"LOAD_PARALLEL_LEVEL_UNSPECIFIED", "MIN", "OPTIMAL", "MAX", NULL};
static const char *const connection_states[] = {"STATE_UNSPECIFIED", "CREATING",         "CREATED", "FAILED",
                                                "DELETING",          "FAILED_TO_DELETE", "DELETED", NULL};

/* ---- google.rpc ---- */

static const Field status_fields[] = {
    {.name = "code", .kind = FIELD_INT32},
    {.name = "message", .kind = FIELD_STRING},
    {.name = "details", .kind = FIELD_STRUCT, .flags = FIELD_REPEATED},
};
const Message message_status = {"Status", status_fields, COUNT_OF(status_fields)};

/* ---- Connection profiles ---- */

static const Field ssl_fields[] = {
    {.name = "type", .kind = FIELD_ENUM, .values = ssl_types},
    {.name = "clientKey", .kind = FIELD_STRING, .flags = FIELD_SECRET, .max = 64 * 1024},
    {.name = "clientCertificate", .kind = FIELD_STRING, .flags = FIELD_SECRET, .max = 64 * 1024},
    {.name = "caCertificate", .kind = FIELD_STRING, .flags = FIELD_SECRET, .max = 64 * 1024},
    {.name = "sslFlags", .kind = FIELD_MAP},
};
static const Message message_ssl = {"SslConfig", ssl_fields, COUNT_OF(ssl_fields)};

static const Message message_static_ip = {.name = "StaticIpConnectivity"};

static const Field service_connect_fields[] = {
    {.name = "serviceAttachment", .kind = FIELD_STRING, .flags = FIELD_ECHO},
};
static const Message message_service_connect = {"PrivateServiceConnectConnectivity", service_connect_fields,
                                                COUNT_OF(service_connect_fields)};

static const Field private_connectivity_fields[] = {
    {.name = "privateConnection", .kind = FIELD_STRING, .flags = FIELD_REQUIRED},
};
static const Message message_private_connectivity = {"PrivateConnectivity", private_connectivity_fields,
                                                     COUNT_OF(private_connectivity_fields)};

static const Field forward_ssh_fields[] = {
    {.name = "hostname",
     .kind = FIELD_STRING,
     .flags = FIELD_REQUIRED,
     .help = "the bastion host, as this service knows it; host and port of the profile are as the bastion knows them"},
    {.name = "username", .kind = FIELD_STRING, .flags = FIELD_REQUIRED},
    {.name = "port", .kind = FIELD_INT32, .min = 1, .max = 65535},
    {.name = "password", .kind = FIELD_STRING, .flags = FIELD_SECRET, .oneof = "authentication"},
    {.name = "privateKey",
     .kind = FIELD_STRING,
     .flags = FIELD_SECRET,
     .oneof = "authentication",
     .max = 64 * 1024,
     .help = "as ssh-keygen writes it, without a passphrase"},
};
static const Message message_forward_ssh = {"ForwardSshTunnelConnectivity", forward_ssh_fields,
                                            COUNT_OF(forward_ssh_fields)};

static const Field postgresql_fields[] = {
    {.name = "host", .kind = FIELD_STRING, .max = 1024},
    {.name = "port", .kind = FIELD_INT32, .min = 1, .max = 65535},
    {.name = "username", .kind = FIELD_STRING, .max = 256},
    {.name = "password", .kind = FIELD_STRING, .flags = FIELD_SECRET},
    {.name = "passwordSet", .kind = FIELD_BOOL, .flags = FIELD_OUTPUT},
    {.name = "ssl", .kind = FIELD_MESSAGE, .message = &message_ssl},
    {.name = "cloudSqlId", .kind = FIELD_STRING, .help = "name of an instance that this service has made or knows"},
    {.name = "alloydbClusterId", .kind = FIELD_STRING},
    {.name = "networkArchitecture", .kind = FIELD_ENUM, .flags = FIELD_OUTPUT, .values = network_architectures},
    {.name = "database", .kind = FIELD_STRING, .max = 256},
    {.name = "enableIamAuthentication", .kind = FIELD_BOOL, .flags = FIELD_ECHO},
    {.name = "staticIpConnectivity", .kind = FIELD_MESSAGE, .message = &message_static_ip, .oneof = "connectivity"},
    {.name = "privateServiceConnectConnectivity",
     .kind = FIELD_MESSAGE,
     .message = &message_service_connect,
     .oneof = "connectivity"},
    {.name = "forwardSshConnectivity", .kind = FIELD_MESSAGE, .message = &message_forward_ssh, .oneof = "connectivity"},
    {.name = "privateConnectivity",
     .kind = FIELD_MESSAGE,
     .message = &message_private_connectivity,
     .oneof = "connectivity"},
};
static const Message message_postgresql = {"PostgreSqlConnectionProfile", postgresql_fields,
                                           COUNT_OF(postgresql_fields)};

static const Field acl_entry_fields[] = {
    {.name = "value", .kind = FIELD_STRING},
    {.name = "expireTime", .kind = FIELD_TIMESTAMP, .oneof = "expiration"},
    {.name = "ttl", .kind = FIELD_DURATION, .oneof = "expiration"},
    {.name = "label", .kind = FIELD_STRING},
};
static const Message message_acl_entry = {"SqlAclEntry", acl_entry_fields, COUNT_OF(acl_entry_fields)};

static const Field ip_config_fields[] = {
    {.name = "enableIpv4", .kind = FIELD_BOOL},
    {.name = "privateNetwork", .kind = FIELD_STRING, .flags = FIELD_ECHO},
    {.name = "allocatedIpRange", .kind = FIELD_STRING, .flags = FIELD_ECHO},
    {.name = "requireSsl", .kind = FIELD_BOOL},
    {.name = "authorizedNetworks", .kind = FIELD_MESSAGE, .flags = FIELD_REPEATED, .message = &message_acl_entry},
};
static const Message message_ip_config = {"SqlIpConfig", ip_config_fields, COUNT_OF(ip_config_fields)};

static const Field data_cache_fields[] = {
    {.name = "dataCacheEnabled", .kind = FIELD_BOOL, .flags = FIELD_ECHO},
};
static const Message message_data_cache = {"DataCacheConfig", data_cache_fields, COUNT_OF(data_cache_fields)};

static const Field cloudsql_settings_fields[] = {
    {.name = "databaseVersion", .kind = FIELD_STRING},
    {.name = "databaseVersionName", .kind = FIELD_STRING},
    {.name = "userLabels", .kind = FIELD_MAP},
    {.name = "tier", .kind = FIELD_STRING},
    {.name = "storageAutoResizeLimit", .kind = FIELD_INT64},
    {.name = "activationPolicy", .kind = FIELD_ENUM, .values = activation_policies},
    {.name = "ipConfig", .kind = FIELD_MESSAGE, .message = &message_ip_config},
    {.name = "autoStorageIncrease", .kind = FIELD_BOOL},
    {.name = "databaseFlags", .kind = FIELD_MAP},
    {.name = "dataDiskType", .kind = FIELD_ENUM, .flags = FIELD_ECHO, .values = disk_types},
    {.name = "dataDiskSizeGb", .kind = FIELD_INT64},
    {.name = "dataDiskProvisionedIops", .kind = FIELD_INT64, .flags = FIELD_ECHO},
    {.name = "dataDiskProvisionedThroughput", .kind = FIELD_INT64, .flags = FIELD_ECHO},
    {.name = "zone", .kind = FIELD_STRING, .flags = FIELD_ECHO},
    {.name = "secondaryZone", .kind = FIELD_STRING, .flags = FIELD_ECHO},
    {.name = "sourceId", .kind = FIELD_STRING},
    {.name = "rootPassword", .kind = FIELD_STRING, .flags = FIELD_SECRET},
    {.name = "rootPasswordSet", .kind = FIELD_BOOL, .flags = FIELD_OUTPUT},
    {.name = "collation", .kind = FIELD_STRING},
    {.name = "cmekKeyName", .kind = FIELD_STRING, .flags = FIELD_ECHO},
    {.name = "availabilityType", .kind = FIELD_ENUM, .values = availability_types},
    {.name = "edition", .kind = FIELD_ENUM, .flags = FIELD_ECHO, .values = editions},
    {.name = "dataCacheConfig", .kind = FIELD_MESSAGE, .message = &message_data_cache},
};
static const Message message_cloudsql_settings = {"CloudSqlSettings", cloudsql_settings_fields,
                                                  COUNT_OF(cloudsql_settings_fields)};

static const Field cloudsql_fields[] = {
    {.name = "cloudSqlId", .kind = FIELD_STRING, .flags = FIELD_OUTPUT},
    {.name = "settings", .kind = FIELD_MESSAGE, .flags = FIELD_IMMUTABLE, .message = &message_cloudsql_settings},
    {.name = "privateIp", .kind = FIELD_STRING, .flags = FIELD_OUTPUT},
    {.name = "publicIp", .kind = FIELD_STRING, .flags = FIELD_OUTPUT},
    {.name = "additionalPublicIp", .kind = FIELD_STRING, .flags = FIELD_OUTPUT},
};
static const Message message_cloudsql = {"CloudSqlConnectionProfile", cloudsql_fields, COUNT_OF(cloudsql_fields)};

static const Field alloydb_user_fields[] = {
    {.name = "user", .kind = FIELD_STRING},
    {.name = "password", .kind = FIELD_STRING, .flags = FIELD_SECRET},
    {.name = "passwordSet", .kind = FIELD_BOOL, .flags = FIELD_OUTPUT},
};
static const Message message_alloydb_user = {"UserPassword", alloydb_user_fields, COUNT_OF(alloydb_user_fields)};

static const Field machine_config_fields[] = {
    {.name = "cpuCount", .kind = FIELD_INT32, .min = 1, .max = 1024},
    {.name = "machineType", .kind = FIELD_STRING, .flags = FIELD_ECHO},
};
static const Message message_machine_config = {"MachineConfig", machine_config_fields, COUNT_OF(machine_config_fields)};

static const Field authorized_network_fields[] = {
    {.name = "cidrRange", .kind = FIELD_STRING},
};
static const Message message_authorized_network = {"AuthorizedNetwork", authorized_network_fields,
                                                   COUNT_OF(authorized_network_fields)};

static const Field instance_network_fields[] = {
    {.name = "authorizedExternalNetworks",
     .kind = FIELD_MESSAGE,
     .flags = FIELD_REPEATED,
     .message = &message_authorized_network},
    {.name = "enablePublicIp", .kind = FIELD_BOOL},
    {.name = "enableOutboundPublicIp", .kind = FIELD_BOOL, .flags = FIELD_ECHO},
};
static const Message message_instance_network = {"InstanceNetworkConfig", instance_network_fields,
                                                 COUNT_OF(instance_network_fields)};

static const Field primary_settings_fields[] = {
    {.name = "id", .kind = FIELD_STRING},
    {.name = "machineConfig", .kind = FIELD_MESSAGE, .message = &message_machine_config},
    {.name = "databaseFlags", .kind = FIELD_MAP},
    {.name = "labels", .kind = FIELD_MAP},
    {.name = "privateIp", .kind = FIELD_STRING, .flags = FIELD_OUTPUT},
    {.name = "instanceNetworkConfig", .kind = FIELD_MESSAGE, .message = &message_instance_network},
    {.name = "outboundPublicIpAddresses", .kind = FIELD_STRING, .flags = FIELD_REPEATED | FIELD_OUTPUT},
};
static const Message message_primary_settings = {"PrimaryInstanceSettings", primary_settings_fields,
                                                 COUNT_OF(primary_settings_fields)};

static const Field encryption_config_fields[] = {
    {.name = "kmsKeyName", .kind = FIELD_STRING, .flags = FIELD_ECHO},
};
static const Message message_encryption_config = {"EncryptionConfig", encryption_config_fields,
                                                  COUNT_OF(encryption_config_fields)};

static const Field alloydb_settings_fields[] = {
    {.name = "initialUser", .kind = FIELD_MESSAGE, .message = &message_alloydb_user},
    {.name = "vpcNetwork", .kind = FIELD_STRING, .flags = FIELD_ECHO},
    {.name = "labels", .kind = FIELD_MAP},
    {.name = "primaryInstanceSettings", .kind = FIELD_MESSAGE, .message = &message_primary_settings},
    {.name = "encryptionConfig", .kind = FIELD_MESSAGE, .message = &message_encryption_config},
    {.name = "databaseVersion", .kind = FIELD_STRING},
};
static const Message message_alloydb_settings = {"AlloyDbSettings", alloydb_settings_fields,
                                                 COUNT_OF(alloydb_settings_fields)};

static const Field alloydb_fields[] = {
    {.name = "clusterId", .kind = FIELD_STRING, .flags = FIELD_IMMUTABLE},
    {.name = "settings", .kind = FIELD_MESSAGE, .flags = FIELD_IMMUTABLE, .message = &message_alloydb_settings},
};
static const Message message_alloydb = {"AlloyDbConnectionProfile", alloydb_fields, COUNT_OF(alloydb_fields)};

static const Field connection_profile_fields[] = {
    {.name = "name", .kind = FIELD_STRING, .flags = FIELD_OUTPUT},
    {.name = "createTime", .kind = FIELD_TIMESTAMP, .flags = FIELD_OUTPUT},
    {.name = "updateTime", .kind = FIELD_TIMESTAMP, .flags = FIELD_OUTPUT},
    {.name = "labels", .kind = FIELD_MAP},
    {.name = "displayName", .kind = FIELD_STRING, .max = 256},
    {.name = "state", .kind = FIELD_ENUM, .flags = FIELD_OUTPUT, .values = profile_states},
    {.name = "error", .kind = FIELD_MESSAGE, .flags = FIELD_OUTPUT, .message = &message_status},
    {.name = "provider", .kind = FIELD_ENUM, .values = providers},
    {.name = "role", .kind = FIELD_ENUM, .values = roles},
    {.name = "postgresql", .kind = FIELD_MESSAGE, .message = &message_postgresql, .oneof = "connection_profile"},
    {.name = "cloudsql", .kind = FIELD_MESSAGE, .message = &message_cloudsql, .oneof = "connection_profile"},
    {.name = "alloydb", .kind = FIELD_MESSAGE, .message = &message_alloydb, .oneof = "connection_profile"},
    {.name = "satisfiesPzs", .kind = FIELD_BOOL, .flags = FIELD_OUTPUT},
    {.name = "satisfiesPzi", .kind = FIELD_BOOL, .flags = FIELD_OUTPUT},
    {.name = "uid", .kind = FIELD_STRING, .flags = FIELD_OUTPUT},
    {.name = "etag", .kind = FIELD_STRING, .flags = FIELD_OUTPUT, .help = "for If-Match: the version that is meant"},
};
const Message message_connection_profile = {"ConnectionProfile", connection_profile_fields,
                                            COUNT_OF(connection_profile_fields)};

/* ---- Instances: servers that the service makes ---- */

static const Field instance_fields[] = {
    {.name = "name", .kind = FIELD_STRING, .flags = FIELD_OUTPUT},
    {.name = "createTime", .kind = FIELD_TIMESTAMP, .flags = FIELD_OUTPUT},
    {.name = "updateTime", .kind = FIELD_TIMESTAMP, .flags = FIELD_OUTPUT},
    {.name = "state", .kind = FIELD_ENUM, .flags = FIELD_OUTPUT, .values = instance_states},
    {.name = "mode", .kind = FIELD_ENUM, .flags = FIELD_OUTPUT, .values = instance_modes},
    {.name = "error", .kind = FIELD_MESSAGE, .flags = FIELD_OUTPUT, .message = &message_status},
    {.name = "provider", .kind = FIELD_STRING, .flags = FIELD_OUTPUT, .help = "what it is made with"},
    {.name = "databaseVersion", .kind = FIELD_STRING, .flags = FIELD_OUTPUT},
    {.name = "host", .kind = FIELD_STRING, .flags = FIELD_OUTPUT},
    {.name = "port", .kind = FIELD_INT32, .flags = FIELD_OUTPUT},
    {.name = "username", .kind = FIELD_STRING, .flags = FIELD_OUTPUT, .help = "its administrator"},
    {.name = "caCertificate", .kind = FIELD_STRING, .flags = FIELD_OUTPUT, .help = "for sslmode=verify-ca"},
    {.name = "connectionProfile", .kind = FIELD_STRING, .flags = FIELD_OUTPUT, .help = "the one that it came with"},
    {.name = "node", .kind = FIELD_STRING, .flags = FIELD_OUTPUT, .help = "whose machine it is on"},
    {.name = "systemIdentifier", .kind = FIELD_STRING, .flags = FIELD_OUTPUT},
    {.name = "diskUsedMb", .kind = FIELD_INT64, .flags = FIELD_OUTPUT},
    {.name = "trouble", .kind = FIELD_STRING, .flags = FIELD_OUTPUT, .help = "what is not well with it"},
    {.name = "uid", .kind = FIELD_STRING, .flags = FIELD_OUTPUT},
    {.name = "etag", .kind = FIELD_STRING, .flags = FIELD_OUTPUT, .help = "for If-Match: the version that is meant"},
};
const Message message_instance = {"Instance", instance_fields, COUNT_OF(instance_fields)};

/* ---- Migration jobs ---- */

static const Field database_type_fields[] = {
    {.name = "provider", .kind = FIELD_ENUM, .values = providers},
    {.name = "engine", .kind = FIELD_ENUM, .values = engines},
};
static const Message message_database_type = {"DatabaseType", database_type_fields, COUNT_OF(database_type_fields)};

static const Field reverse_ssh_fields[] = {
    {.name = "vmIp", .kind = FIELD_STRING},
    {.name = "vmPort", .kind = FIELD_INT32, .min = 1, .max = 65535},
    {.name = "vm", .kind = FIELD_STRING},
    {.name = "vpc", .kind = FIELD_STRING, .flags = FIELD_ECHO},
};
static const Message message_reverse_ssh = {"ReverseSshConnectivity", reverse_ssh_fields, COUNT_OF(reverse_ssh_fields)};

static const Field vpc_peering_fields[] = {
    {.name = "vpc", .kind = FIELD_STRING, .flags = FIELD_ECHO},
};
static const Message message_vpc_peering = {"VpcPeeringConnectivity", vpc_peering_fields, COUNT_OF(vpc_peering_fields)};

static const Field object_identifier_fields[] = {
    {.name = "type", .kind = FIELD_ENUM, .values = object_types},
    {.name = "database", .kind = FIELD_STRING, .max = 256},
    {.name = "schema", .kind = FIELD_STRING, .max = 256},
    {.name = "table", .kind = FIELD_STRING, .max = 256},
};
static const Message message_object_identifier = {"SourceObjectIdentifier", object_identifier_fields,
                                                  COUNT_OF(object_identifier_fields)};

static const Field object_config_fields[] = {
    {.name = "objectIdentifier", .kind = FIELD_MESSAGE, .message = &message_object_identifier},
};
static const Message message_object_config = {"SourceObjectConfig", object_config_fields,
                                              COUNT_OF(object_config_fields)};

static const Field source_objects_fields[] = {
    {.name = "objectsSelectionType", .kind = FIELD_ENUM, .values = selections},
    {.name = "objectConfigs", .kind = FIELD_MESSAGE, .flags = FIELD_REPEATED, .message = &message_object_config},
};
static const Message message_source_objects = {"SourceObjectsConfig", source_objects_fields,
                                               COUNT_OF(source_objects_fields)};

static const Field objects_config_fields[] = {
    {.name = "sourceObjectsConfig", .kind = FIELD_MESSAGE, .message = &message_source_objects},
};
static const Message message_objects_config = {"MigrationJobObjectsConfig", objects_config_fields,
                                               COUNT_OF(objects_config_fields)};

static const Field performance_fields[] = {
    {.name = "dumpParallelLevel", .kind = FIELD_ENUM, .values = dump_levels},
    {.name = "loadParallelLevel", .kind = FIELD_ENUM, .values = load_levels},
};
static const Message message_performance = {"PerformanceConfig", performance_fields, COUNT_OF(performance_fields)};

static const Field homogeneous_fields[] = {
    {.name = "isNativeLogical", .kind = FIELD_BOOL, .flags = FIELD_ECHO},
    {.name = "maxAdditionalSubscriptions", .kind = FIELD_INT32, .flags = FIELD_ECHO, .min = 0, .max = 1000},
};
static const Message message_homogeneous = {"PostgresHomogeneousConfig", homogeneous_fields,
                                            COUNT_OF(homogeneous_fields)};

static const Field dump_flag_fields[] = {
    {.name = "name", .kind = FIELD_STRING},
    {.name = "value", .kind = FIELD_STRING},
};
static const Message message_dump_flag = {"DumpFlag", dump_flag_fields, COUNT_OF(dump_flag_fields)};

static const Field dump_flags_fields[] = {
    {.name = "dumpFlags", .kind = FIELD_MESSAGE, .flags = FIELD_REPEATED, .message = &message_dump_flag},
};
static const Message message_dump_flags = {"DumpFlags", dump_flags_fields, COUNT_OF(dump_flags_fields)};

static const Field migration_job_fields[] = {
    {.name = "name", .kind = FIELD_STRING, .flags = FIELD_OUTPUT},
    {.name = "createTime", .kind = FIELD_TIMESTAMP, .flags = FIELD_OUTPUT},
    {.name = "updateTime", .kind = FIELD_TIMESTAMP, .flags = FIELD_OUTPUT},
    {.name = "labels", .kind = FIELD_MAP},
    {.name = "displayName", .kind = FIELD_STRING, .max = 256},
    {.name = "state", .kind = FIELD_ENUM, .flags = FIELD_OUTPUT, .values = job_states},
    {.name = "phase", .kind = FIELD_ENUM, .flags = FIELD_OUTPUT, .values = job_phases},
    {.name = "type", .kind = FIELD_ENUM, .flags = FIELD_REQUIRED | FIELD_IMMUTABLE, .values = job_types},
    {.name = "source", .kind = FIELD_STRING, .flags = FIELD_REQUIRED | FIELD_IMMUTABLE, .max = 1024},
    {.name = "destination", .kind = FIELD_STRING, .flags = FIELD_REQUIRED | FIELD_IMMUTABLE, .max = 1024},
    {.name = "sourceDatabase", .kind = FIELD_MESSAGE, .message = &message_database_type},
    {.name = "destinationDatabase", .kind = FIELD_MESSAGE, .message = &message_database_type},
    {.name = "endTime", .kind = FIELD_TIMESTAMP, .flags = FIELD_OUTPUT},
    {.name = "duration", .kind = FIELD_DURATION, .flags = FIELD_OUTPUT},
    {.name = "error", .kind = FIELD_MESSAGE, .flags = FIELD_OUTPUT, .message = &message_status},
    {.name = "purpose", .kind = FIELD_STRING, .flags = FIELD_OUTPUT},
    {.name = "reverseSshConnectivity", .kind = FIELD_MESSAGE, .message = &message_reverse_ssh, .oneof = "connectivity"},
    {.name = "vpcPeeringConnectivity", .kind = FIELD_MESSAGE, .message = &message_vpc_peering, .oneof = "connectivity"},
    {.name = "staticIpConnectivity", .kind = FIELD_MESSAGE, .message = &message_static_ip, .oneof = "connectivity"},
    {.name = "objectsConfig", .kind = FIELD_MESSAGE, .message = &message_objects_config},
    {.name = "performanceConfig", .kind = FIELD_MESSAGE, .message = &message_performance},
    {.name = "postgresHomogeneousConfig", .kind = FIELD_MESSAGE, .message = &message_homogeneous},
    {.name = "originalMigrationName", .kind = FIELD_STRING, .flags = FIELD_OUTPUT},
    {.name = "cmekKeyName", .kind = FIELD_STRING, .flags = FIELD_ECHO},
    {.name = "dumpFlags", .kind = FIELD_MESSAGE, .message = &message_dump_flags, .oneof = "dump"},
    {.name = "dumpPath", .kind = FIELD_STRING, .flags = FIELD_ECHO, .oneof = "dump"},
    {.name = "satisfiesPzs", .kind = FIELD_BOOL, .flags = FIELD_OUTPUT},
    {.name = "satisfiesPzi", .kind = FIELD_BOOL, .flags = FIELD_OUTPUT},
    {.name = "progress",
     .kind = FIELD_STRUCT,
     .flags = FIELD_OUTPUT,
     .help = "counters, also of the busiest tables, lag, head-room and what is waited for"},
    {.name = "destinationGuard",
     .kind = FIELD_STRUCT,
     .flags = FIELD_OUTPUT,
     .help = "while demoteDestination's guard is up: its state, the databases that were handed back, the last error"},
    {.name = "uid", .kind = FIELD_STRING, .flags = FIELD_OUTPUT},
    {.name = "etag", .kind = FIELD_STRING, .flags = FIELD_OUTPUT, .help = "for If-Match: the version that is meant"},
    {.name = "allowedActions",
     .kind = FIELD_STRING,
     .flags = FIELD_REPEATED | FIELD_OUTPUT,
     .help = "verbs that the job takes now"},
    {.name = "attempts",
     .kind = FIELD_INT32,
     .flags = FIELD_OUTPUT,
     .help = "workers lost since anything went forward"},
    {.name = "nextRetryTime",
     .kind = FIELD_TIMESTAMP,
     .flags = FIELD_OUTPUT,
     .help = "when it is tried again by itself"},
};
const Message message_migration_job = {"MigrationJob", migration_job_fields, COUNT_OF(migration_job_fields)};

static const Field migration_job_object_fields[] = {
    {.name = "name", .kind = FIELD_STRING, .flags = FIELD_OUTPUT},
    {.name = "sourceObject", .kind = FIELD_MESSAGE, .message = &message_object_identifier},
    {.name = "state", .kind = FIELD_ENUM, .flags = FIELD_OUTPUT, .values = object_states},
    {.name = "phase", .kind = FIELD_ENUM, .flags = FIELD_OUTPUT, .values = object_phases},
    {.name = "error", .kind = FIELD_MESSAGE, .flags = FIELD_OUTPUT, .message = &message_status},
    {.name = "createTime", .kind = FIELD_TIMESTAMP, .flags = FIELD_OUTPUT},
    {.name = "updateTime", .kind = FIELD_TIMESTAMP, .flags = FIELD_OUTPUT},
    {.name = "uid", .kind = FIELD_STRING, .flags = FIELD_OUTPUT},
    {.name = "etag", .kind = FIELD_STRING, .flags = FIELD_OUTPUT, .help = "for If-Match: the version that is meant"},
};
const Message message_migration_job_object = {"MigrationJobObject", migration_job_object_fields,
                                              COUNT_OF(migration_job_object_fields)};

/* ---- Private connections ---- */

static const Field vpc_config_fields[] = {
    {.name = "vpcName", .kind = FIELD_STRING, .flags = FIELD_ECHO},
    {.name = "subnet", .kind = FIELD_STRING, .flags = FIELD_ECHO},
};
static const Message message_vpc_config = {"VpcPeeringConfig", vpc_config_fields, COUNT_OF(vpc_config_fields)};

static const Field psc_config_fields[] = {
    {.name = "networkAttachment", .kind = FIELD_STRING, .flags = FIELD_ECHO},
};
static const Message message_psc_config = {"PscInterfaceConfig", psc_config_fields, COUNT_OF(psc_config_fields)};

static const Field public_ip_config_fields[] = {
    {.name = "natIpsCount", .kind = FIELD_INT32, .flags = FIELD_ECHO, .min = 0, .max = 100},
    {.name = "egressPublicIps", .kind = FIELD_STRING, .flags = FIELD_REPEATED | FIELD_OUTPUT},
};
static const Message message_public_ip_config = {"ReservedPublicIpConfig", public_ip_config_fields,
                                                 COUNT_OF(public_ip_config_fields)};

static const Field private_connection_fields[] = {
    {.name = "name", .kind = FIELD_STRING, .flags = FIELD_OUTPUT},
    {.name = "createTime", .kind = FIELD_TIMESTAMP, .flags = FIELD_OUTPUT},
    {.name = "updateTime", .kind = FIELD_TIMESTAMP, .flags = FIELD_OUTPUT},
    {.name = "labels", .kind = FIELD_MAP},
    {.name = "displayName", .kind = FIELD_STRING, .max = 256},
    {.name = "state", .kind = FIELD_ENUM, .flags = FIELD_OUTPUT, .values = connection_states},
    {.name = "error", .kind = FIELD_MESSAGE, .flags = FIELD_OUTPUT, .message = &message_status},
    {.name = "vpcPeeringConfig",
     .kind = FIELD_MESSAGE,
     .flags = FIELD_IMMUTABLE,
     .message = &message_vpc_config,
     .oneof = "config"},
    {.name = "pscInterfaceConfig",
     .kind = FIELD_MESSAGE,
     .flags = FIELD_IMMUTABLE,
     .message = &message_psc_config,
     .oneof = "config"},
    {.name = "reservedPublicIpConfig",
     .kind = FIELD_MESSAGE,
     .flags = FIELD_IMMUTABLE,
     .message = &message_public_ip_config,
     .oneof = "config"},
    {.name = "satisfiesPzs", .kind = FIELD_BOOL, .flags = FIELD_OUTPUT},
    {.name = "satisfiesPzi", .kind = FIELD_BOOL, .flags = FIELD_OUTPUT},
    {.name = "uid", .kind = FIELD_STRING, .flags = FIELD_OUTPUT},
    {.name = "etag", .kind = FIELD_STRING, .flags = FIELD_OUTPUT, .help = "for If-Match: the version that is meant"},
};
const Message message_private_connection = {"PrivateConnection", private_connection_fields,
                                            COUNT_OF(private_connection_fields)};

/* ---- Operations and the bodies of verbs ---- */

static const Field operation_fields[] = {
    {.name = "name", .kind = FIELD_STRING, .flags = FIELD_OUTPUT},
    {.name = "metadata", .kind = FIELD_STRUCT, .flags = FIELD_OUTPUT},
    {.name = "done", .kind = FIELD_BOOL, .flags = FIELD_OUTPUT},
    {.name = "error", .kind = FIELD_MESSAGE, .flags = FIELD_OUTPUT, .message = &message_status},
    {.name = "response", .kind = FIELD_STRUCT, .flags = FIELD_OUTPUT},
};
const Message message_operation = {"Operation", operation_fields, COUNT_OF(operation_fields)};

static const Field start_fields[] = {
    {.name = "skipValidation", .kind = FIELD_BOOL},
};
const Message message_start = {"StartMigrationJobRequest", start_fields, COUNT_OF(start_fields)};

static const Field restart_fields[] = {
    {.name = "skipValidation", .kind = FIELD_BOOL},
    {.name = "objectsFilter", .kind = FIELD_MESSAGE, .message = &message_objects_config},
    {.name = "restartFailedObjects", .kind = FIELD_BOOL},
};
const Message message_restart = {"RestartMigrationJobRequest", restart_fields, COUNT_OF(restart_fields)};

static const Field promote_fields[] = {
    {.name = "objectsFilter", .kind = FIELD_MESSAGE, .message = &message_objects_config},
    {.name = "failback", .kind = FIELD_BOOL},
};
const Message message_promote = {"PromoteMigrationJobRequest", promote_fields, COUNT_OF(promote_fields)};

static const Field demote_fields[] = {
    {.name = "allowNonEmpty",
     .kind = FIELD_BOOL,
     .help = "take a destination that is not empty, where nothing in the job's databases has the name of what arrives"},
    {.name = "release",
     .kind = FIELD_BOOL,
     .help = "hand the destination back as it was before; for a job that is not at work and is not to go on, too"},
};
const Message message_demote = {"DemoteDestinationRequest", demote_fields, COUNT_OF(demote_fields)};

static const Field verify_fix_fields[] = {
    {.name = "database", .kind = FIELD_STRING, .help = "may be absent, or \"\", for a statement that is server-wide"},
    {.name = "side", .kind = FIELD_STRING, .flags = FIELD_REQUIRED},
    {.name = "statement", .kind = FIELD_STRING, .flags = FIELD_REQUIRED, .max = 8000},
};
static const Message message_verify_fix = {"VerifyFix", verify_fix_fields, COUNT_OF(verify_fix_fields)};

/* fixes is not Google's: its clients never send it. */
static const Field verify_fields[] = {
    {.name = "updateMask", .kind = FIELD_STRING},
    {.name = "migrationJob", .kind = FIELD_MESSAGE, .message = &message_migration_job},
    {.name = "fixes",
     .kind = FIELD_MESSAGE,
     .flags = FIELD_REPEATED,
     .message = &message_verify_fix,
     .help =
         "findings to mend: of metadata.findings of an earlier verify, those that are mendable, with their fix as"
         " statement; all are carried out, or none when they are not what is found now; those that are serverWide"
         " once, however many databases find them. metadata.mended says what was changed, whatever else went wrong"},
};
const Message message_verify = {"VerifyMigrationJobRequest", verify_fields, COUNT_OF(verify_fields)};

static const Field vm_creation_fields[] = {
    {.name = "vmMachineType", .kind = FIELD_STRING, .flags = FIELD_ECHO},
    {.name = "vmZone", .kind = FIELD_STRING, .flags = FIELD_ECHO},
    {.name = "subnet", .kind = FIELD_STRING, .flags = FIELD_ECHO},
};
static const Message message_vm_creation = {"VmCreationConfig", vm_creation_fields, COUNT_OF(vm_creation_fields)};

static const Field vm_selection_fields[] = {
    {.name = "vmZone", .kind = FIELD_STRING, .flags = FIELD_ECHO},
};
static const Message message_vm_selection = {"VmSelectionConfig", vm_selection_fields, COUNT_OF(vm_selection_fields)};

static const Field ssh_script_fields[] = {
    {.name = "vm", .kind = FIELD_STRING, .flags = FIELD_REQUIRED},
    {.name = "vmPort", .kind = FIELD_INT32, .min = 1, .max = 65535},
    {.name = "vmCreationConfig", .kind = FIELD_MESSAGE, .message = &message_vm_creation, .oneof = "vm_config"},
    {.name = "vmSelectionConfig", .kind = FIELD_MESSAGE, .message = &message_vm_selection, .oneof = "vm_config"},
};
const Message message_ssh_script = {"GenerateSshScriptRequest", ssh_script_fields, COUNT_OF(ssh_script_fields)};

static const Field lookup_fields[] = {
    {.name = "sourceObjectIdentifier",
     .kind = FIELD_MESSAGE,
     .flags = FIELD_REQUIRED,
     .message = &message_object_identifier},
};
const Message message_lookup = {"LookupMigrationJobObjectRequest", lookup_fields, COUNT_OF(lookup_fields)};

const Message message_empty = {.name = "Empty"};

const Message *const messages_all[] = {
    &message_status,
    &message_ssl,
    &message_static_ip,
    &message_service_connect,
    &message_private_connectivity,
    &message_forward_ssh,
    &message_postgresql,
    &message_acl_entry,
    &message_ip_config,
    &message_data_cache,
    &message_cloudsql_settings,
    &message_cloudsql,
    &message_alloydb_user,
    &message_machine_config,
    &message_authorized_network,
    &message_instance_network,
    &message_primary_settings,
    &message_encryption_config,
    &message_alloydb_settings,
    &message_alloydb,
    &message_connection_profile,
    &message_instance,
    &message_database_type,
    &message_reverse_ssh,
    &message_vpc_peering,
    &message_object_identifier,
    &message_object_config,
    &message_source_objects,
    &message_objects_config,
    &message_performance,
    &message_homogeneous,
    &message_dump_flag,
    &message_dump_flags,
    &message_migration_job,
    &message_migration_job_object,
    &message_database_report,
    &message_job_report,
    &message_vpc_config,
    &message_psc_config,
    &message_public_ip_config,
    &message_private_connection,
    &message_operation,
    &message_start,
    &message_restart,
    &message_promote,
    &message_demote,
    &message_verify_fix,
    &message_verify,
    &message_vm_creation,
    &message_vm_selection,
    &message_ssh_script,
    &message_lookup,
    &message_empty,
    NULL,
};

const char *const profile_mask_aliases[] = {
    "postgresql.instance", "postgresql.cloudSqlId", "postgresql.alloydb_cluster", "postgresql.alloydbClusterId", NULL,
};

enum { ID_MAX = 60 };

bool resource_id_is_valid(const char *id) {
    size_t len = strlen(id);

    return len > 0 && len <= ID_MAX && islower((unsigned char)id[0]) && id[len - 1] != '-' &&
           strspn(id, "abcdefghijklmnopqrstuvwxyz0123456789-") == len;
}

bool display_name_is_valid(const char *name) {
    if (name[0] == '\0')
        return true;
    if (!isalpha((unsigned char)name[0]))
        return false;
    for (; *name != '\0'; name++)
        if (!isalnum((unsigned char)*name) && *name != ' ' && *name != '-')
            return false;
    return true;
}
