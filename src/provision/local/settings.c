/* Settings of a local server. */
#include "provision/local/settings.h"

#include "common/buf.h"

#include <inttypes.h>
#include <string.h>
#include <strings.h>
#include <sys/statvfs.h>
#include <unistd.h>

typedef enum Base { CPUS, MEMORY, DISK, BASE_MAX_ } Base;

enum { MB = 1024 * 1024 };

/* value = base * times / over, within [least, most]. Common advice, on the careful side: several instances and the
 * migration itself share the machine. */
static const struct {
    const char *name;
    Base base;
    int64_t times, over, least, most;
    const char *unit;
} derived[] = {
    {"shared_buffers", MEMORY, 1, 4, 32, 64 * 1024, "MB"},
    {"effective_cache_size", MEMORY, 3, 4, 64, 1024 * 1024, "MB"},
    /* More makes index builds slower where the data is in memory: 64 MB beat 512 MB and 2 GB by a fifth. */
    {"maintenance_work_mem", MEMORY, 1, 64, 64, 512, "MB"},
    {"work_mem", MEMORY, 1, 512, 4, 64, "MB"},
    {"max_connections", MEMORY, 1, 32, 100, 1000, ""},
    {"max_wal_size", DISK, 1, 20, 512, 16 * 1024, "MB"},
    {"max_slot_wal_keep_size", DISK, 1, 10, 1024, 64 * 1024, "MB"},
    {"max_worker_processes", CPUS, 2, 1, 8, 256, ""},
    {"max_parallel_workers", CPUS, 1, 1, 2, 128, ""},
    {"max_parallel_workers_per_gather", CPUS, 1, 2, 1, 4, ""},
    {"max_parallel_maintenance_workers", CPUS, 1, 2, 1, 4, ""},
};

static const Setting defaults[] = {
    {"checkpoint_timeout", "15min"}, {"log_line_prefix", "%m [%p] %q%u@%d %a "}, {"log_checkpoints", "on"},
    {"log_lock_waits", "on"},        {"password_encryption", "scram-sha-256"},
};

static const Setting fixed[] = {
    {"logging_collector", "on"},
    {"log_destination", "stderr"},
    {"log_filename", "postgresql-%Y-%m-%d_%H%M%S.log"},
    {"log_file_mode", "0600"},
    {"log_rotation_age", "1d"},
    {"log_rotation_size", "32MB"},
    {"log_truncate_on_rotation", "off"},
    {"lc_messages", "C"}, /* so that whoever reads the log finds the words that the manual has */
};

/*
 * load: in LOAD. otherwise: in all other modes; NULL = the flags', or PostgreSQL's own default.
 *
 * Nothing that protects from a crash is given up: fsync off leaves the disk idle while the processors load, and the way
 * out waits for all of it at once; backend_flush_after has it written beside the load. Full pages cost nothing where
 * tables and indexes write no WAL, and without them a backend that is killed (out of memory) while it writes a page of
 * 8 kB may leave half of it, since the system copies 4 kB at a time. bench/README.md has the figures.
 */
static const struct {
    const char *name, *load, *otherwise;
} by_mode[] = {
    {"fsync", "on", "on"},
    {"backend_flush_after", "512kB", NULL},
    {"full_page_writes", "on", "on"},
    {"synchronous_commit", "off", NULL},
    {"wal_level", "minimal", NULL},
    {"max_wal_senders", "0", "10"},
    {"max_replication_slots", "10", "10"},
    {"archive_mode", "off", "off"},
    {"autovacuum", "off", NULL},
    {"checkpoint_timeout", "30min", NULL},
};

/* A checkpoint in the middle of a load writes pages that are written again: as few as the disk allows. */
enum { LOAD_WAL_SHARE = 4, LOAD_WAL_LEAST = 1024, LOAD_WAL_MOST = 64 * 1024 };

static const char by_pgcrane[] = "pgcrane sets it itself";
static const char runs_programs[] = "it runs a program as the server's user";

static const struct {
    const char *name, *why;
} refused[] = {
    {"data_directory", by_pgcrane},
    {"config_file", by_pgcrane},
    {"hba_file", by_pgcrane},
    {"ident_file", by_pgcrane},
    {"external_pid_file", by_pgcrane},
    {"port", by_pgcrane},
    {"listen_addresses", by_pgcrane},
    {"unix_socket_directories", by_pgcrane},
    {"unix_socket_group", by_pgcrane},
    {"unix_socket_permissions", by_pgcrane},
    {"bonjour", by_pgcrane},
    {"ssl", by_pgcrane},
    {"ssl_ca_file", by_pgcrane},
    {"ssl_cert_file", by_pgcrane},
    {"ssl_key_file", by_pgcrane},
    {"ssl_crl_file", by_pgcrane},
    {"ssl_crl_dir", by_pgcrane},
    {"log_directory", by_pgcrane},
    {"fsync", "without it a crash of the machine costs the data"},
    {"full_page_writes", "without it a crash of the machine costs the data"},
    {"autovacuum", "the server would fill up and stop in the end; set it for single tables (ALTER TABLE ... SET)"},
    {"ignore_checksum_failure", "damaged data would be taken for good"},
    {"zero_damaged_pages", "damaged data would be thrown away in silence"},
    {"max_wal_senders", by_pgcrane},
    {"max_replication_slots", by_pgcrane},
    {"archive_mode", by_pgcrane},
    {"archive_command", runs_programs},
    {"archive_library", by_pgcrane},
    {"restore_command", runs_programs},
    {"archive_cleanup_command", runs_programs},
    {"recovery_end_command", runs_programs},
    {"ssl_passphrase_command", runs_programs},
    {"primary_conninfo", by_pgcrane},
    {"primary_slot_name", by_pgcrane},
    {"synchronous_standby_names", "a commit would wait for a standby that may be away"},
    {"dynamic_shared_memory_type", by_pgcrane},
    {"cluster_name", by_pgcrane},
};

Machine settings_machine(const char *path) {
    struct statvfs room = {0};
    long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE), cpus = sysconf(_SC_NPROCESSORS_ONLN);
    bool known = statvfs(path, &room) == 0;

    return (Machine){.cpus = MAX(cpus, 1),
                     .memory_mb = MAX((int64_t)pages * page / MB, 512),
                     .disk_mb = known ? (int64_t)(room.f_bavail * room.f_frsize / MB) : 0};
}

static void push(Arena *arena, SettingVec *settings, const char *name, const char *value) {
    Setting setting = {.name = name, .value = value};

    vec_push(arena, settings, setting);
}

void settings_derive(Arena *arena, const ProvisionSpec *spec, const Machine *machine, SettingVec *settings) {
    const int64_t bases[BASE_MAX_] = {
        [CPUS] = spec->cpus > 0 ? spec->cpus : machine->cpus,
        [MEMORY] = spec->memory_mb > 0 ? spec->memory_mb : machine->memory_mb / 4,
        [DISK] = spec->disk_mb > 0 ? spec->disk_mb : machine->disk_mb,
    };

    for (size_t at = 0; at < COUNT_OF(derived); at++) {
        int64_t wanted = bases[derived[at].base] * derived[at].times / derived[at].over;
        int64_t value = MIN(MAX(wanted, derived[at].least), derived[at].most);
        push(arena, settings, derived[at].name, arena_printf(arena, "%" PRId64 "%s", value, derived[at].unit));
    }
    for (size_t at = 0; at < COUNT_OF(defaults); at++)
        push(arena, settings, defaults[at].name, defaults[at].value);
}

void settings_fixed(Arena *arena, SettingVec *settings) {
    for (size_t at = 0; at < COUNT_OF(fixed); at++)
        push(arena, settings, fixed[at].name, fixed[at].value);
}

void settings_of_mode(Arena *arena, ProvisionMode mode, int64_t disk_mb, SettingVec *settings) {
    for (size_t at = 0; at < COUNT_OF(by_mode); at++) {
        const char *value = mode == PROVISION_LOAD ? by_mode[at].load : by_mode[at].otherwise;
        if (value != NULL)
            push(arena, settings, by_mode[at].name, value);
    }
    if (mode != PROVISION_LOAD)
        return;
    int64_t share = MIN(MAX(disk_mb / LOAD_WAL_SHARE, LOAD_WAL_LEAST), LOAD_WAL_MOST);
    push(arena, settings, "max_wal_size", arena_printf(arena, "%" PRId64 "MB", share));
}

const char *settings_refusal(const char *name) {
    for (size_t at = 0; at < COUNT_OF(refused); at++)
        if (strcasecmp(refused[at].name, name) == 0)
            return refused[at].why;
    for (size_t at = 0; at < COUNT_OF(fixed); at++)
        if (strcasecmp(fixed[at].name, name) == 0)
            return by_pgcrane;
    return NULL;
}

const char *settings_quote(Arena *arena, const char *value) {
    size_t used = 0;
    char *quoted = arena_alloc(arena, 2 * strlen(value) + 3);

    quoted[used++] = '\'';
    for (const char *at = value; *at != '\0'; at++) {
        if (*at == '\'' || *at == '\\')
            quoted[used++] = *at;
        quoted[used++] = *at;
    }
    quoted[used++] = '\'';
    return quoted;
}
